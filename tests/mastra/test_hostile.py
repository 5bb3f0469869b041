"""Hostile values in every place of every argument: refused by one error that says where, with nothing written; or kept.

The methods and their places are found by annotations, as in `test_owners.py`. The memory has tests of its own.
"""

from __future__ import annotations

import enum
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, get_type_hints, is_typeddict

import numpy as np
import pytest

from convexorm import ConvexORMError, Deployment, LimitExceeded, Model, connect
from mastra_convex import (
    AsyncBackgroundTasks,
    AsyncChannels,
    AsyncDocuments,
    AsyncSchedules,
    AsyncScores,
    AsyncWorkflows,
    ConvexNativeVector,
    ConvexServerCache,
    ConvexStore,
    ConvexVector,
    InvalidArgument,
    MastraError,
    ScheduleAlreadyExists,
    native_vector_table,
)
from mastra_convex.cache import AsyncCaching
from mastra_convex.domain import AsyncDomain
from mastra_convex.vector.exact import AsyncExactVectors
from mastra_convex.vector.native import AsyncNativeVectors
from tests.mastra.native_models import Docs
from tests.mastra.test_owners import Place, is_several, parts, put, valid

pytestmark = pytest.mark.usefixtures("nothing_collected")


class Colour(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


DEEP: Any = None
for _ in range(3_000):
    DEEP = [DEEP]
CYCLE: list[Any] = []
CYCLE.append(CYCLE)

SIMPLE: list[Any] = [
    *(math.nan, math.inf, -math.inf, 2**53 - 1, 2**53, 2**70, -(2**70), -1, 0, 0.5, -0.0, 1e-320, True, None),
    *("", " ", "\ud800", "a\ud800", "\x00", "__proto__", "$x", "constructor", "a.b", "%s", '{"a":1}', "null"),
    *({}, [], (), {"x": math.nan}, {"\ud800": 1}, {1: 1}, {None: 1}, {"__proto__": {"a": 1}}, {"$x": 2**70}),
    *([math.nan], ["\ud800"], [2**70], [None], [{}], {"x": {"y": {1, 2}}}, [(1, (2,))], {"": {"日本語": "\u2028"}}),
]
HOSTILE: dict[str, Any] = {
    **{repr(one): one for one in SIMPLE},
    "huge": 10**400,
    "huge key": {10**5_000: 1},
    "large key": {"x" * 100_000: {"y": math.nan}},
    "large": "x" * (1 << 20),
    "deep": DEEP,
    "cycle": CYCLE,
    "bytes": b"x",
    "object": object(),
    "set": {1},
    "function": print,
    "type": int,
    "naive": datetime(2024, 1, 1),
    "first": datetime.min.replace(tzinfo=UTC),
    "last": datetime.max.replace(tzinfo=UTC),
    "beyond": datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
    "date": date(2024, 1, 1),
    "decimal": Decimal("NaN"),
    "fraction": Fraction(1, 3),
    "int64": np.int64(5),
    "float32": np.float32(0.1),
    "array": np.array([math.nan]),
    "colour": Colour.RED,
    "number": Number.ONE,
    "surrogate date": "2024-01-01T00:00:00\ud800",
}
DOMAINS: list[type[AsyncDomain]] = [
    *(AsyncBackgroundTasks, AsyncCaching, AsyncChannels, AsyncDocuments, AsyncExactVectors, AsyncNativeVectors),
    *(AsyncSchedules, AsyncScores, AsyncWorkflows),
]
METHODS = {
    f"{domain.__name__}.{name}": method
    for domain in DOMAINS
    for name, method in inspect.getmembers(domain, inspect.iscoroutinefunction)
    if not name.startswith("_") and "clear" not in name and "drop" not in name
}
FINE: dict[str, dict[str, Any]] = {
    "AsyncCaching": {"from_": 0, "counter_key": "c", "value": {"a": 1}},
    "AsyncNativeVectors": {
        "vectors": [[1.0] * 8],
        "query_vector": [1.0] * 8,
        "dimension": 8,
        "ids": ["x"],
        "metadata": [{"tag": "a"}],
    },
    "AsyncExactVectors": {"ids": ["x"], "metadata": [{"a": 1}]},
    "AsyncWorkflows": {"snapshot": {"context": {}}},
}
"""What is fine for a domain besides what `test_owners.py` has."""


def fine(method: str) -> dict[str, Any]:
    """Arguments that are fine, those with defaults included where `FINE` has them."""
    domain = FINE.get(method.partition(".")[0], {})
    names = inspect.signature(METHODS[method]).parameters
    return {**valid(method, METHODS), **{name: value for name, value in domain.items() if name in names}}


def every_place(method: str, path: tuple[str | int, ...], annotation: Any) -> Iterator[Place]:
    """An argument, and what is in it."""
    yield Place(method, path, annotation)
    for one in parts(annotation):
        if is_typeddict(one):
            for name, inner in get_type_hints(one).items():
                yield from every_place(method, (*path, name), inner)
        elif isinstance(one, type) and issubclass(one, Model):
            for name in one.__mapper__.columns:
                yield Place(method, (*path, name), Any)
        elif is_several(one) and path[0] not in ("vectors", "query_vector"):
            yield Place(method, (*path, 0), Any)


def places(method: str) -> list[Place]:
    hints = get_type_hints(METHODS[method]).items()
    found = [place for name, hint in hints if name != "return" for place in every_place(method, (name,), hint)]
    given = fine(method)
    return [one for one in found if not isinstance(one.path[-1], int) or given.get(str(one.path[0]))]


def prepared(deployment: Deployment) -> dict[str, Any]:
    """The blocking domains by the names of the awaited ones, over a deployment that has one of everything."""
    store, vectors = ConvexStore(id="test", deployment=deployment), ConvexVector(id="test", deployment=deployment)
    domains: dict[str, Any] = {f"Async{type(one).__name__}": one for one in store.stores.values()}
    domains["AsyncExactVectors"] = vectors
    domains["AsyncNativeVectors"] = ConvexNativeVector(id="test", deployment=deployment, indexes={"x": Docs})
    domains["AsyncCaching"] = ConvexServerCache(deployment=deployment, key_prefix="p")
    vectors.create_index(index_name="x", dimension=2)
    for method in (
        *("AsyncExactVectors.upsert", "AsyncBackgroundTasks.create_task", "AsyncScores.save_score"),
        *("AsyncSchedules.create_schedule", "AsyncChannels.save_installation", "AsyncDocuments.insert"),
        "AsyncWorkflows.persist_workflow_snapshot",
    ):
        with suppress(ScheduleAlreadyExists):
            run(domains, method, fine(method))
    return domains


def run(domains: dict[str, Any], method: str, arguments: dict[str, Any]) -> Any:
    domain, _, name = method.partition(".")
    return getattr(domains[domain], name)(**arguments)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_refused_says_so_in_one_error_and_writes_nothing(
    open_deployment: Callable[[str], Deployment], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    deployment = open_deployment("memory")
    domains = prepared(deployment)
    if method.startswith("AsyncNativeVectors"):
        run(domains, "AsyncNativeVectors.upsert", fine("AsyncNativeVectors.upsert"))
    kind: Any = type(deployment.blocking)
    commit, applied = kind.commit, []

    async def counted(*given: Any, **options: Any) -> Any:
        answer = await commit(*given, **options)
        applied.append(answer)
        return answer

    monkeypatch.setattr(kind, "commit", counted)
    for place in places(method):
        for label, value in HOSTILE.items():
            arguments = fine(method)
            put(arguments, place.path, value)
            applied.clear()
            problem = refusal(f"{place}: {label}", lambda given=arguments: run(domains, method, given))  # type: ignore[misc]
            assert problem is None or not applied, f"{place}: {label}"


def refusal(what: str, call: Callable[[], Any]) -> str | None:
    """What the error of a call says, None where it is none. Another class than is promised is a failure."""
    try:
        call()
    except (MastraError, LimitExceeded) as error:
        problem = str(error)
    except BaseException as error:
        error.add_note(what)
        raise
    else:
        return None
    assert len(problem.encode()) < 2_000, what
    return problem


LARGE = 2**70
NOTHING: list[Any] = [math.nan, LARGE, "", " ", "\ud800", None, True, 1.5, b"x", [], -1, object(), {"x": 1}, {1: 1}]


MADE: list[tuple[Callable[[Deployment, Any], Any], list[Any]]] = [
    (lambda place, value: native_vector_table(value, dimension=3), []),
    (lambda place, value: native_vector_table("hostile", dimension=value), []),
    (lambda place, value: native_vector_table("hostile", dimension=3, filter_fields=[value]), []),
    (lambda place, value: ConvexNativeVector(id="x", deployment=place, indexes=value), []),
    (lambda place, value: ConvexNativeVector(id="x", deployment=place, indexes={"x": value}), []),
    (lambda place, value: ConvexVector(id="x", deployment=place, max_bytes=value), []),
    (lambda place, value: ConvexVector(id=value, deployment=place), []),
    (lambda place, value: ConvexStore(id="x", deployment=place, name=value), []),
    (lambda place, value: ConvexStore(id="x", deployment=place, storage_function=value), []),
    (lambda place, value: ConvexStore(id="x", deployment=place, tables=value), [None]),
    (lambda place, value: ConvexStore(id="x", deployment=place, tables={"mastra_threads": value}), []),
    (lambda place, value: ConvexServerCache(deployment=place, key_prefix=value), ["", " "]),
    (lambda place, value: ConvexServerCache(deployment=place, ttl_ms=value), [LARGE, 1.5]),
]
"""Ways to make a store, and which of NOTHING it may be told."""


@pytest.mark.parametrize(("make", "right"), MADE)
def test_what_a_store_cannot_be_told_is_refused_when_it_is_made(
    make: Callable[[Deployment, Any], Any], right: list[Any]
) -> None:
    place = connect("memory:")
    for value in NOTHING:
        if any(value is one for one in right):
            make(place, value)
            continue
        with pytest.raises(ConvexORMError) as caught:
            make(place, value)
        str(caught.value).encode()


@pytest.mark.parametrize(
    "name",
    ["_x", "$x", "two words", "class", "id", "query", "to_dict", "by_embedding", "1a", "日本", "x" * 65, "x" * 5_000],
)
def test_a_filter_field_of_a_native_index_is_a_field_of_its_own(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        native_vector_table("hostile", dimension=3, filter_fields=[name])
    assert caught.value.argument == "filter_fields"


# -- what is kept --------------------------------------------------------------------------------------------------

ROWS: dict[str, tuple[Callable[[dict[str, Any], Any], Any], Callable[[dict[str, Any]], Any]]] = {
    "cache value": (
        lambda d, value: d["AsyncCaching"].set(key="k", value=value),
        lambda d: d["AsyncCaching"].get(key="k"),
    ),
    "cache element": (
        lambda d, value: d["AsyncCaching"].list_push(key="l", value=value),
        lambda d: d["AsyncCaching"].list_from_to(key="l", from_=-1)[0],
    ),
    "indexed element": (
        lambda d, value: d["AsyncCaching"].list_push_indexed(list_key="i", counter_key="c", value={"v": value}),
        lambda d: d["AsyncCaching"].list_from_to(key="i", from_=-1)[0]["v"],
    ),
    **{
        f"task {name}": (
            lambda d, value, name=name: d["AsyncBackgroundTasks"].update_task(task_id="x", update={name: value}),  # type: ignore[misc]
            lambda d, name=name: getattr(d["AsyncBackgroundTasks"].get_task(task_id="x"), name),  # type: ignore[misc]
        )
        for name in ("result", "error", "suspend_payload")
    },
    **{
        f"{method} {name}": (
            lambda d, value, name=name, method=method, argument=argument: run(  # type: ignore[misc]
                d, method, {argument: {**fine(method)[argument], "id": "x", name: {"v": value}}}
            ),
            lambda d, name=name, read=read: getattr(run(d, read, {key_of(read): "x"}), name)["v"],  # type: ignore[misc]
        )
        for method, read, argument, names in (
            ("AsyncBackgroundTasks.create_task", "AsyncBackgroundTasks.get_task", "task", ("args",)),
            ("AsyncChannels.save_installation", "AsyncChannels.get_installation", "installation", ("data",)),
            ("AsyncChannels.save_config", "AsyncChannels.get_config", "config", ("data",)),
            ("AsyncScores.save_score", "AsyncScores.get_score_by_id", "score", ("input", "scorer", "metadata", "entity")),
        )
        for name in names
    },
    "schedule metadata": (
        lambda d, value: d["AsyncSchedules"].update_schedule(id="x", patch={"metadata": {"v": value}}),
        lambda d: d["AsyncSchedules"].get_schedule(id="x").metadata["v"],
    ),
    "schedule target": (
        lambda d, value: d["AsyncSchedules"].update_schedule(
            id="x", patch={"target": {"type": "workflow", "workflow_id": "w", "input_data": {"v": value}}}
        ),
        lambda d: d["AsyncSchedules"].get_schedule(id="x").target["inputData"]["v"],
    ),
    "snapshot": (
        lambda d, value: d["AsyncWorkflows"].persist_workflow_snapshot(
            workflow_name="x", run_id="x", snapshot={"context": {}, "v": value}
        ),
        lambda d: d["AsyncWorkflows"].load_workflow_snapshot(workflow_name="x", run_id="x")["v"],
    ),
    "step result": (
        lambda d, value: d["AsyncWorkflows"].update_workflow_results(
            workflow_name="x", run_id="x", step_id="__proto__", result={"v": value}
        ),
        lambda d: d["AsyncWorkflows"].load_workflow_snapshot(workflow_name="x", run_id="x")["context"]["__proto__"]["v"],
    ),
    "document": (
        lambda d, value: d["AsyncDocuments"].insert(table_name="x", record={"id": "x", "v": value}),
        lambda d: d["AsyncDocuments"].load(table_name="x", keys={"id": "x"})["v"],
    ),
    **{
        f"metadata of {domain}": (
            lambda d, value, domain=domain: run(  # type: ignore[misc]
                d, f"{domain}.upsert", {**fine(f"{domain}.upsert"), "metadata": [{"v": value, "tag": value}]}
            ),
            lambda d, domain=domain: run(d, f"{domain}.query", query_of(domain))[0].metadata["v"],  # type: ignore[misc]
        )
        for domain in ("AsyncExactVectors", "AsyncNativeVectors")
    },
}
"""How contents are written, and read again."""
ELSEWHERE = {
    *("cache value", "task result", "AsyncScores.save_score input", "snapshot", "step result", "document"),
    *("schedule target", "metadata of AsyncExactVectors"),
}
"""Those with a way of their own, for deployments other than memory."""


def key_of(read: str) -> str:
    return {"get_task": "task_id", "get_config": "platform"}.get(read.partition(".")[2], "id")


def query_of(domain: str) -> dict[str, Any]:
    given = fine(f"{domain}.query")
    return {name: given[name] for name in ("index_name", "query_vector")}


def shown(value: Any) -> Any:
    """A value as JSON has it: equal only to what is the same, type and sign included."""
    if isinstance(value, dict):
        return {key: shown(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [shown(one) for one in value]
    if isinstance(value, datetime):
        return shown(f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}Z".zfill(24))
    plain = value.value if isinstance(value, enum.Enum) else value.item() if isinstance(value, np.generic) else value
    return type(plain).__name__, repr(plain)


@pytest.mark.parametrize("row", ROWS)
def test_what_is_stored_is_read_again_equal(deployment: Deployment, request: pytest.FixtureRequest, row: str) -> None:
    kind = request.node.callspec.params["deployment"]
    if kind == "sqlite" or (kind != "memory" and row not in ELSEWHERE) or (kind == "foreign" and row.startswith("cache")):
        pytest.skip("the same way of keeping contents as another row's, or none")
    domains = prepared(deployment)
    write, read = ROWS[row]
    write(domains, "before")
    kept = "before"
    for label, value in HOSTILE.items():
        problem = refusal(f"{row}: {label}", lambda given=value: write(domains, given))  # type: ignore[misc]
        kept = kept if problem is not None else value
        assert shown(read(domains)) == shown(kept), label
