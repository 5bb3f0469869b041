"""Ids of owners and of records, in every method of every domain: what is no id is refused before anything is asked.

The methods, and the places in their arguments where an id may stand, are found by their annotations: a new method, or a new
key of a filter, is tried without being listed here. Only values that are no ids are.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, is_typeddict

import attrs
import pytest

from convexorm import Model
from convexorm.faces import finish
from mastra_convex import AsyncConvexStore, InvalidArgument
from mastra_convex.domain import AsyncDomain, Backend
from mastra_convex.vector.exact import AsyncExactVectors

CLEARED = "dangerously_clear_all"
RECORD = {"id": "x", "scope": "thread", "resource_id": "x", "thread_id": "x"}
GIVEN: dict[str, Any] = {
    "thread": {"id": "x", "resource_id": "x"},
    "messages": [{"id": "x", "thread_id": "x", "resource_id": "x", "role": "user", "content": "x"}],
    "resource": {"id": "x"},
    "record": RECORD,
    "current_record": RECORD,
    "scope": "thread",
    "config": {},
    "chunk": {
        "cycle_id": "c",
        "observations": "o",
        "token_count": 1,
        "message_ids": ["x"],
        "message_tokens": 1,
        "last_observed_at": "2024-05-01T12:00:00Z",
    },
    "reflection": "x",
    "observations": "x",
    "last_observed_at": "2024-05-01T12:00:00Z",
    **dict.fromkeys(("token_count", "input_token_count", "activation_ratio", "message_tokens_threshold"), 1),
    **dict.fromkeys(("current_pending_tokens", "reflected_observation_line_count"), 1),
    **dict.fromkeys(("is_observing", "is_reflecting", "is_buffering"), True),
    "snapshot": {},
    "result": {},
    "opts": {},
    "score": {"scorer_id": "x", "score": 1},
    "task": {"id": "x", "tool_call_id": "x", "tool_name": "x", "agent_id": "x", "run_id": "x", "status": "pending"},
    "schedule": {"id": "x", "target": {"type": "agent", "agent_id": "x"}, "cron": "0 * * * *", "next_fire_at": 1},
    "trigger": {"schedule_id": "x", "scheduled_fire_at": 1, "actual_fire_at": 1, "outcome": "published"},
    "patch": {"status": "paused"},
    "now": 1,
    "expected_next_fire_at": 1,
    "new_next_fire_at": 2,
    "last_fire_at": 1,
    "installation": {"id": "x", "platform": "x", "agent_id": "x", "status": "active", "data": {}},
    "keys": {"id": "x"},
    "records": [{"id": "x"}],
    "dimension": 2,
    "vectors": [[1.0, 2.0]],
    "query_vector": [1.0, 2.0],
    "update": {"status": "running"},
}
"""What an argument may be, by its name."""
GIVEN_TO: dict[str, dict[str, Any]] = {
    "update_thread_metadata": {"update": lambda thread: {}},
    "save_config": {"config": {"platform": "x", "data": {}}},
    "list_triggers": {"opts": {"limit": 1}},
    "delete_tasks": {"filter": {"run_id": "x"}},
    "insert": {"record": {"id": "x"}},
    "patch": {"record": {"a": 1}},
    "update_vector": {"update": {"metadata": {}}, "id": "x"},
    "delete_vectors": {"ids": ["x"]},
}
"""The same, where a method means something else by it, or needs more."""
NOTED = {
    *(
        "cycle_id",
        "activated_cycle_ids",
        "observed_message_ids",
        "buffered_message_ids",
        "chunk.message_ids",
        "buffered_chunks.0.id",
    ),
    *(f"opts.tracing_context.{name}" for name in ("trace_id", "span_id", "parent_span_id")),
}
"""Names that end like ids, of what is noted and nothing is found by."""
CONTENTS = {"extraction_failures", "active_paths", "query_vector", "vector", "vectors", "metadata"}
"""Lists that are stored as the JSON they are, or looked at with the index they are for."""
NAMES = {"owner_type", "entity_type", "workflow_name", "tool_name", "platform", "index_name", "table_name"}
"""Names that are ids without saying so."""
KEYS_OF_MAPPINGS = {("update_messages", "messages"): ("id", "thread_id", "resource_id")}
"""What annotations do not tell."""

HOSTILE: list[Any] = ["", "  ", "\ud800", 0, 1, True, False, 1.5, b"x", [], (), {}, ["x"], {"x": 1}, object()]
NO_LISTS: list[Any] = ["", b"", bytearray(), memoryview(b""), {}, 0, False]
NO_MAPPINGS: list[Any] = ["", "x", 0, 1, False, True, [], (), ["x"], 1.5]


class Reached(Exception):
    """The deployment was asked for something."""


class Watched:
    """A port that nothing may come to."""

    async def read(self, reads: Any) -> Any:
        raise Reached

    commit = withdraw = search = pause = read


def domains() -> list[AsyncDomain]:
    store = AsyncConvexStore(id="test", deployment_url="memory:")
    backend = Backend(store.deployment, Watched(), {})
    return [type(domain)(backend) for domain in store.stores.values()] + [AsyncExactVectors(backend)]


def awaitable(method: Any) -> Any:
    """What is begun at once, a watch or a stream of claims, as a method that is awaited and asks when all is checked."""

    @functools.wraps(method)
    async def begun(**arguments: Any) -> None:
        method(**arguments)
        raise Reached

    return begun


METHODS = {
    f"{type(domain).__name__}.{name}": getattr(domain, name)
    for domain in domains()
    for name, _ in inspect.getmembers(type(domain), inspect.iscoroutinefunction)
    if not name.startswith("_")
} | {
    f"{type(domain).__name__}.{name}": awaitable(getattr(domain, name))
    for domain in domains()
    for name, _ in inspect.getmembers(type(domain), inspect.isfunction)
    if name.startswith("watch_") or name == "claim"
}


@attrs.frozen
class Place:
    """Somewhere in a method's arguments: the parameter, then keys and positions."""

    method: str
    path: tuple[str | int, ...]
    annotation: Any

    @property
    def name(self) -> str:
        return str(self.path[-1])

    def __str__(self) -> str:
        return f"{self.method}({'.'.join(map(str, self.path))})"

    def call(self, value: Any) -> Any:
        """Run the method with this value in this place."""
        arguments = valid(self.method)
        put(arguments, self.path, value)
        return finish(METHODS[self.method](**arguments))


def put(inside: Any, path: tuple[str | int, ...], value: Any) -> None:
    step, *rest = path
    if rest and not isinstance(inside, list):
        inside.setdefault(step, [{"id": "x"}] if isinstance(rest[0], int) else {})
    if rest:
        inner = inside[step].copy()
        inside[step] = inner
        put(inner, tuple(rest), value)
    else:
        inside[step] = value


def valid(method: str, methods: Mapping[str, Any] = METHODS) -> dict[str, Any]:
    """Arguments that are fine."""
    name = method.partition(".")[2]
    given = {**GIVEN, **GIVEN_TO.get(name, {})}
    parameters = [one for one in inspect.signature(methods[method]).parameters.values() if one.name != "self"]
    needed = [one.name for one in parameters if one.default is one.empty or one.name in GIVEN_TO.get(name, {})]
    return {one: given.get(one, ["x"] if one.endswith("ids") else "x") for one in needed}


def parts(annotation: Any) -> Iterator[Any]:
    """The annotation, and what it is a union or a list of."""
    yield annotation
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        for one in typing.get_args(annotation):
            yield from parts(one)


def is_several(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    return inspect.isclass(origin) and issubclass(origin, Iterable) and not issubclass(origin, Mapping)


def is_id(path: tuple[str | int, ...]) -> bool:
    name, dotted = str(path[-1]), ".".join(map(str, path))
    ends = name.endswith(("_id", "_ids")) or name in ("id", "ids") or name in NAMES
    return ends and not name.startswith("other_") and name not in NOTED and dotted not in NOTED


def found(method: str, path: tuple[str | int, ...], annotation: Any) -> Iterator[Place]:
    """The places of ids in an argument."""
    if is_id(path):
        yield Place(method, path, annotation)
        return
    for one in parts(annotation):
        if is_typeddict(one):
            for name, inner in typing.get_type_hints(one).items():
                optional = inner if name in one.__required_keys__ else inner | None
                yield from found(method, (*path, name), optional)
        elif isinstance(one, type) and issubclass(one, Model):
            for name in one.__mapper__.columns:
                yield from found(method, (*path, name), str)
        elif is_several(one):
            for inner in typing.get_args(one):
                yield from found(method, (*path, 0), inner)
    for name in KEYS_OF_MAPPINGS.get((method.partition(".")[2], str(path[0])), ()) if len(path) == 1 else ():
        yield Place(method, (*path, 0, name), str)


def within(annotation: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The argument itself, and the keys of a filter or of options."""
    yield (), annotation
    for one in parts(annotation):
        if is_typeddict(one):
            for name, inner in typing.get_type_hints(one).items():
                for path, found in within(inner):
                    yield (name, *path), found


PLACES = [
    place
    for method, function in METHODS.items()
    for name, annotation in typing.get_type_hints(function).items()
    if name != "return"
    for place in found(method, (name,), annotation)
]
LISTS = [
    Place(method, (name, *inside), one)
    for method, function in METHODS.items()
    for name, annotation in typing.get_type_hints(function).items()
    for inside, one in within(annotation)
    if name != "return" and (inside or (name,))[-1] not in CONTENTS and any(map(is_several, parts(one)))
]
FILTERS = [
    Place(method, (name,), annotation)
    for method, function in METHODS.items()
    for name, annotation in typing.get_type_hints(function).items()
    if any(is_typeddict(one) for one in parts(annotation))
]


def takes(place: Place, kind: type) -> bool:
    items = [one for several in filter(is_several, parts(place.annotation)) for one in typing.get_args(several)]
    return any(one is kind for whole in (place.annotation, *items) for one in parts(whole))


def refusal(place: Place, value: Any) -> InvalidArgument | None:
    """The refusal of a value, None where something is asked with it."""
    try:
        place.call(value)
    except InvalidArgument as error:
        return error
    except Reached:
        pass
    return None


def takes_several(place: Place) -> bool:
    return any(map(is_several, parts(place.annotation)))


def test_the_places_are_found() -> None:
    assert len(METHODS) > 80
    assert len(PLACES) > 150
    shown = set(map(str, PLACES))
    for one in (
        "AsyncMemory.list_threads(filter.resource_id)",
        "AsyncMemory.list_messages(include.0.id)",
        "AsyncMemory.save_messages(messages.0.thread_id)",
        "AsyncMemory.clone_thread(options.message_filter.message_ids)",
        "AsyncMemory.update_messages(messages.0.resource_id)",
        "AsyncScores.list_scores_by_span(filters.organization_id)",
        "AsyncSchedules.list_schedules(filter.owner_id)",
        "AsyncChannels.save_installation(installation.webhook_id)",
        "AsyncMemory.watch_thread(resource_id)",
        "AsyncBackgroundTasks.watch_tasks(filter.resource_id)",
    ):
        assert one in shown


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_tried_with_arguments_that_are_fine(method: str) -> None:
    with pytest.raises(Reached):
        finish(METHODS[method](**valid(method)))


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_what_is_no_id_is_refused_and_nothing_is_asked(place: Place) -> None:
    several = takes_several(place)
    for value in HOSTILE:
        if (takes(place, int) and type(value) is int) or (several and value in (["x"], [], ())):
            continue
        for given in [value, [value], ["x", value]] if several else [value]:
            error = refusal(place, given)
            assert error is not None, given
            assert place.name in error.argument


@pytest.mark.parametrize("place", FILTERS, ids=str)
def test_what_is_no_filter_is_refused_and_nothing_is_asked(place: Place) -> None:
    for value in NO_MAPPINGS:
        error = refusal(place, value)
        assert error is not None, value
        assert place.name in error.argument


@pytest.mark.parametrize("place", LISTS, ids=str)
def test_what_is_no_list_is_refused_and_nothing_is_asked(place: Place) -> None:
    for value in NO_LISTS:
        error = refusal(place, value)
        assert error is not None, value
        assert place.name in error.argument


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_none_is_no_filter_where_there_may_be_none(place: Place) -> None:
    if place.path[0] in GIVEN and not takes(place, types.NoneType):
        return  # a record: some of its attributes have defaults
    if place.method.endswith(("delete_tasks", "update_vector", "delete_vectors")):
        return  # a filter of none deletes none; ids or a filter
    with pytest.raises(Reached if takes(place, types.NoneType) else InvalidArgument):
        place.call(None)
