"""Values that nothing can be done with, in every place of every argument of the memory domain: stored, or one typed error.

An error is of the contract, names an argument by its name in Python, and repeats nothing long.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from convexorm import Deployment, LimitExceeded, ValidationError
from mastra_convex import ConvexStore, MastraError, Memory
from mastra_convex.chunks import ChunksType
from mastra_convex.large_values.references import file_of
from tests.mastra.support import at, message, thread

pytestmark = pytest.mark.usefixtures("nothing_collected")

META = {"k": "v", "n": {"x": 1}}
THREAD = thread("t", "r", metadata=META)
MESSAGE = message("m", "t", "r", type="v2", metadata=META)
PAGE: dict[str, Any] = {
    "filter": {
        "date_range": {"start": at(0), "end": at(1), "start_exclusive": True, "end_exclusive": False},
        "metadata": {"k": "v"},
    },
    "include": [{"id": "m", "thread_id": "t", "with_previous_messages": 1, "with_next_messages": 1}],
    "page": 0,
    "per_page": 3,
    "include_total": True,
    "order_by": {"field": "created_at", "direction": "ASC"},
}
COPY: dict[str, Any] = {
    "source_thread_id": "t",
    "new_thread_id": None,
    "resource_id": "r",
    "source_resource_id": "r",
    "title": "x",
    "metadata": META,
    "options": {"message_limit": 3, "message_filter": {"start_date": at(0), "end_date": at(1), "message_ids": ["m"]}},
}
CHUNK: dict[str, Any] = {
    "cycle_id": "c",
    "observations": "o",
    "token_count": 1,
    "message_ids": ["m"],
    "message_tokens": 1,
    "suggested_continuation": "s",
    "current_task": "t",
    "thread_title": "t",
    "last_observed_at": at(0),
    "extracted_values": META,
    "extraction_failures": [{"a": "b"}],
}
RECORD: dict[str, Any] = {
    "id": "ID",
    "thread_id": "t",
    "resource_id": "r",
    "scope": "thread",
    "lookup_key": "x",
    "origin_type": "initial",
    **dict.fromkeys(("active_observations", "active_observations_pending_update", "buffered_observations"), "o"),
    **dict.fromkeys(("buffered_reflection", "observed_timezone"), "x"),
    **dict.fromkeys(("config", "metadata"), META),
    **dict.fromkeys(("last_observed_at", "last_reflection_at", "last_buffered_at_time", "created_at", "updated_at"), at(0)),
    **dict.fromkeys(("generation_count", "pending_message_tokens", "total_tokens_observed", "observation_token_count"), 0),
    **dict.fromkeys(("buffered_observation_tokens", "buffered_reflection_tokens", "last_buffered_at_tokens"), 1),
    **dict.fromkeys(("buffered_reflection_input_tokens", "reflected_observation_line_count"), 1),
    **dict.fromkeys(("is_observing", "is_reflecting", "is_buffering_observation", "is_buffering_reflection"), False),
    **{name: ["m"] for name in ("observed_message_ids", "buffered_message_ids", "activated_cycle_ids")},
    "buffered_observation_chunks": [{**CHUNK, "id": "x", "created_at": at(0), "other": {"z": 1}}],
    "claims": {"is_observing": {"owner": "o", "until": "2024-01-01T00:00:00Z"}},
}
CLAIM: dict[str, Any] = {"id": "ID", "owner": "o", "lease_ms": 5, "resource_id": "r"}
TOKENS: dict[str, Any] = {"token_count": 1, "reflection": "R"}

CALLS: dict[str, dict[str, Any]] = {
    "get_thread_by_id": {"thread_id": "t", "resource_id": "r"},
    "watch_thread": {"thread_id": "t", "resource_id": "r"},
    "watch_messages": {
        "thread_id": "t",
        "resource_id": "r",
        "filter": {"date_range": {"start": "2026-01-01T00:00:00Z"}, "metadata": {"k": "v"}},
        "order_by": {"field": "created_at", "direction": "ASC"},
        "last": 3,
    },
    "save_thread": {"thread": THREAD},
    **{n: {"id": "t", "title": "x", "metadata": META, "resource_id": "r"} for n in ("update_thread", "patch_thread")},
    "update_thread_resource_id": {"thread_id": "t", "resource_id": "r", "source_resource_id": "r"},
    "update_thread_metadata": {"id": "t", "resource_id": "r", "update": lambda _: META},
    "list_threads": {
        "page": 0,
        "per_page": 3,
        "include_total": True,
        "filter": {"resource_id": "r", "metadata": {"k": "v"}},
        "order_by": {"field": "created_at", "direction": "ASC"},
    },
    "delete_thread": {"thread_id": "none", "resource_id": "r"},
    **dict.fromkeys(("copy_thread", "clone_thread"), COPY),
    "save_messages": {"messages": [MESSAGE]},
    "list_messages": {"thread_id": ["t"], "resource_id": "r", **PAGE},
    "list_messages_by_resource_id": {"resource_id": "r", **PAGE},
    "list_messages_by_id": {"message_ids": ["m"], "resource_id": "r"},
    "update_messages": {"messages": [MESSAGE], "resource_id": "r"},
    "delete_messages": {"message_ids": ["none"], "resource_id": "r"},
    "get_resource_by_id": {"resource_id": "r"},
    "save_resource": {"resource": {"id": "r", "working_memory": "w", "metadata": META, "created_at": at(0)}},
    "update_resource": {"resource_id": "r", "working_memory": "w", "metadata": META},
    **{f"{n}_observational_memory": {"thread_id": "none", "resource_id": "r"} for n in ("get", "clear")},
    "get_observational_memory_history": {
        "thread_id": "t",
        "resource_id": "r",
        "limit": 3,
        "options": {"from": at(0), "from_": at(0), "to": at(0), "offset": 0},
    },
    "initialize_observational_memory": {
        "thread_id": "t2",
        "resource_id": "r",
        "scope": "thread",
        "config": META,
        "observed_timezone": "UTC",
    },
    "insert_observational_memory_record": {"record": {**RECORD, "id": "record", "thread_id": "t2"}},
    "update_active_observations": {
        "id": "ID",
        "observations": "o",
        "token_count": 1,
        "last_observed_at": at(0),
        "observed_message_ids": ["m"],
        "observed_timezone": "UTC",
        "expected_observations": "o",
    },
    "update_buffered_observations": {"id": "ID", "chunk": CHUNK, "last_buffered_at_time": at(0)},
    "swap_buffered_to_active": {
        "id": "ID",
        "activation_ratio": 0.5,
        "message_tokens_threshold": 1,
        "current_pending_tokens": 1,
        "force_max_activation": False,
        "last_observed_at": at(0),
        "buffered_chunks": [{"id": "x", "message_tokens": 1}, {"cycle_id": "c", "message_tokens": 3}],
    },
    "create_reflection_generation": {"current_record": RECORD, **TOKENS},
    "update_buffered_reflection": {"id": "ID", "input_token_count": 1, "reflected_observation_line_count": 1, **TOKENS},
    "swap_buffered_reflection_to_active": {"current_record": RECORD, "token_count": 1},
    "set_observing_flag": {"is_observing": True, **CLAIM},
    "set_reflecting_flag": {"is_reflecting": True, **CLAIM},
    "set_buffering_observation_flag": {"is_buffering": True, "last_buffered_at_tokens": 1, **CLAIM},
    "set_buffering_reflection_flag": {"is_buffering": True, **CLAIM},
    "set_pending_message_tokens": {"id": "ID", "token_count": 1},
    "update_observational_memory_config": {"id": "ID", "config": META},
}


class Text(str):
    """A text of a class of its own."""


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
HOSTILE: list[Any] = [
    *("\ud800", "a\udfffb", "", " ", "\0", "x" * 20_000, Text("x"), b"x"),
    *(float("nan"), float("inf"), 2**70, -(2**70), -1, 1.5, 0, True, None),
    *({"a": 2**70}, {"\ud800": 1}, {1: 2}, {"a": float("nan")}, {"$a": object()}),
    *([], {}, ["\ud800"], [2**70], CIRCLE, object(), datetime(2024, 1, 1), datetime.max.replace(tzinfo=UTC)),
]
MORE = HOSTILE[:4] + HOSTILE[8:13]
"""Enough of them where each call takes long."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def put(value: Any, path: tuple[Any, ...], given: Any) -> Any:
    if not path:
        return given
    changed = value.copy()
    changed[path[0]] = put(value[path[0]], path[1:], given)
    return changed


def seeded(memory: Memory) -> str:
    """What the calls are about; the id of a generation with observations, a chunk and a reflection."""
    memory.dangerously_clear_all()
    memory.save_thread(thread=THREAD)
    memory.save_messages(messages=[MESSAGE])
    id = memory.initialize_observational_memory(thread_id="t", resource_id="r", scope="thread", config={}).id
    memory.update_active_observations(id=id, observations="o", token_count=1, last_observed_at=at(0))
    memory.update_buffered_observations(id=id, chunk=CHUNK)  # type: ignore[arg-type]
    memory.update_buffered_reflection(
        id=id, reflection="R", token_count=1, input_token_count=1, reflected_observation_line_count=1
    )
    return id


def test_every_method_is_tried() -> None:
    methods = {name for name, _ in inspect.getmembers(Memory, callable) if not name.startswith("_")}
    assert methods - {"face", "dangerously_clear_all"} == set(CALLS)


@pytest.mark.parametrize("method", CALLS)
def test_whatever_is_given_is_stored_or_one_typed_error(open_deployment: Any, method: str) -> None:
    attempts(open_deployment("memory"), method, HOSTILE)


@pytest.mark.parametrize("method", ["save_thread", "save_messages", "update_thread", "clone_thread", "update_resource"])
def test_so_it_is_on_convex(open_deployment: Any, method: str) -> None:
    attempts(open_deployment("host"), method, MORE)


def attempts(deployment: Deployment, method: str, hostile: list[Any]) -> None:
    memory, refused, number = ConvexStore(id="test", deployment=deployment).memory, 0, 0
    call = getattr(memory, method)
    texts: list[str] = []
    arguments: set[str] = set()
    for path in places(CALLS[method]):
        for value in hostile:
            if number % 50 == 0:
                id = seeded(memory)
            number += 1
            given = put(CALLS[method], path, value)
            if given.get("id") == "ID":
                given = {**given, "id": id}
            record = given.get("current_record")
            if isinstance(record, dict) and record.get("id") == "ID":
                given = {**given, "current_record": {**record, "id": id}}
            try:
                call(**given)
            except (MastraError, LimitExceeded) as error:
                refused += 1
                texts.append(str(error))
                arguments.add(getattr(error, "argument", "").partition(".")[0].partition("[")[0])
    assert refused > 0
    assert max(map(len, texts)) < 2_000
    known = {step for path in places(CALLS[method]) for step in path}
    assert arguments <= {"", *known, *inspect.signature(call).parameters, *NAMED}


NAMED = {"date_range", "message_filter", "metadata", "chunk", "buffered_chunks"}
"""What is refused inside another argument, by its own name."""


def test_what_is_too_deep_for_the_stack_is_not_taken_for_nothing() -> None:
    def loaded(depth: int, text: str) -> Any:
        return (ChunksType().load(text), file_of(text)) if depth == 0 else loaded(depth - 1, text)

    deep = '{"a":[' * 250 + "]}" * 250
    chunks = f'[{{"id":"c","other":{deep}}}]'
    named = f'{{"other":{deep},"largeValue":{{"file":"f"}}}}'
    assert loaded(0, chunks)[0][0].id == "c"
    assert loaded(0, named)[1] == "f"
    for text in (chunks, named):
        if sys.version_info >= (3, 12):  # where code in C has a depth of its own
            assert loaded(sys.getrecursionlimit() // 2, text) == loaded(0, text)
            continue
        with pytest.raises(ValidationError, match="nested too deeply"):
            loaded(sys.getrecursionlimit() // 2, text)
