"""Observational memory: generations, buffered chunks and their activation, reflections, and many writers at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import attrs
import pytest

from convexorm import Deployment, LimitExceeded, Session
from mastra_convex import (
    AsyncMemory,
    BufferedObservationChunk,
    ConvexStore,
    InvalidArgument,
    NoBufferedReflection,
    ObservationalMemory,
    ObservationalMemoryNotFound,
)
from mastra_convex.memory.activation import Activation, reflected
from tests.mastra.support import at
from tests.processes import run_processes

NESTED: dict[str, Any] = {}
_level = NESTED
for _ in range(40):
    _level["in"] = {}
    _level = _level["in"]
AWKWARD: dict[str, Any] = {"$schema": "x", "日本語": "はい", "": [None, 1.5, True], "deep": NESTED, "text": '{"a":1}'}


async def observed(memory: AsyncMemory, thread: str, **given: Any) -> ObservationalMemory:
    return await memory.initialize_observational_memory(
        **{"thread_id": thread, "resource_id": "r", "scope": "thread", "config": {}, **given}
    )


async def found(memory: AsyncMemory, thread_id: str) -> ObservationalMemory:
    record = await memory.get_observational_memory(thread_id=thread_id, resource_id="r")
    assert record is not None
    return record


def chunk(cycle: str, message_tokens: float = 100, seconds: float = 0, **given: Any) -> Any:
    return {
        "cycle_id": cycle,
        "observations": f"seen in {cycle}",
        "token_count": 10,
        "message_ids": [f"{cycle}-1", f"{cycle}-2"],
        "message_tokens": message_tokens,
        "last_observed_at": at(seconds),
        **given,
    }


async def buffered(memory: AsyncMemory, id: str, *chunks: Any) -> None:
    for one in chunks:
        await memory.update_buffered_observations(id=id, chunk=one)


def cycles(record: ObservationalMemory) -> list[str]:
    return [one.cycle_id for one in record.buffered_observation_chunks or []]


EVERYTHING: dict[str, Any] = {"activation_ratio": 1, "message_tokens_threshold": 1_000, "current_pending_tokens": 10_000}


# -- generations ---------------------------------------------------------------------------------------------------


async def test_the_first_generation_is_empty(memory: AsyncMemory, unique: str) -> None:
    begun = await observed(memory, unique, config=AWKWARD, observed_timezone="Europe/Berlin")
    for record in (begun, await found(memory, unique)):
        assert record.id == begun.id
        assert (record.scope, record.thread_id, record.resource_id) == ("thread", unique, "r")
        assert (record.origin_type, record.generation_count, record.active_observations) == ("initial", 0, "")
        assert (record.config, record.metadata, record.observed_timezone) == (AWKWARD, None, "Europe/Berlin")
        assert (record.total_tokens_observed, record.observation_token_count, record.pending_message_tokens) == (0, 0, 0)
        assert not any(
            (record.is_observing, record.is_reflecting, record.is_buffering_observation, record.is_buffering_reflection)
        )
        assert (record.last_observed_at, record.last_buffered_at_time, record.last_buffered_at_tokens) == (None, None, 0)
        assert record.buffered_observation_chunks is None
        assert record.created_at == record.updated_at == begun.created_at


async def test_a_threads_memory_is_its_resources_alone(memory: AsyncMemory, unique: str) -> None:
    begun = await observed(memory, unique)
    assert (await found(memory, unique)).id == begun.id
    await memory.clear_observational_memory(thread_id=unique, resource_id="another")
    assert await memory.get_observational_memory(thread_id=unique, resource_id="another") is None
    assert await memory.get_observational_memory_history(thread_id=unique, resource_id="another") == []
    with pytest.raises(InvalidArgument) as caught:
        await observed(memory, unique, resource_id="another")
    assert caught.value.argument == "resource_id"
    copy = {name: getattr(begun, name) for name in ObservationalMemory.__mapper__.columns}
    for taken in (
        {"resource_id": "another"},
        {"resource_id": "another", "thread_id": f"{unique}-b"},
        {"id": f"{unique}-c"},
    ):
        with pytest.raises(InvalidArgument):
            await memory.insert_observational_memory_record(record={**copy, "resource_id": "another", **taken})
    (kept,) = await memory.get_observational_memory_history(thread_id=unique, resource_id="r")
    assert (kept.id, kept.resource_id, kept.thread_id, kept.updated_at) == (begun.id, "r", unique, begun.updated_at)
    for method in ("get_observational_memory", "get_observational_memory_history", "clear_observational_memory"):
        for resource_id in ("", None, 0, ["r"]):
            with pytest.raises(InvalidArgument):
                await getattr(memory, method)(thread_id=unique, resource_id=resource_id)
    assert await memory.get_observational_memory(thread_id=None, resource_id="r" + unique) is None


async def test_a_resources_memory_is_not_its_threads(memory: AsyncMemory, unique: str) -> None:
    of_thread = await observed(memory, unique)
    of_resource = await observed(memory, unique, thread_id=None, resource_id=unique, scope="resource")
    record = await memory.get_observational_memory(thread_id=None, resource_id=unique)
    assert record is not None
    assert (record.id, record.thread_id) == (of_resource.id, None)
    assert (await found(memory, unique)).id == of_thread.id


async def test_missing_memory_is_none(memory: AsyncMemory, unique: str) -> None:
    assert await memory.get_observational_memory(thread_id=unique, resource_id="r") is None
    assert await memory.get_observational_memory_history(thread_id=unique, resource_id="r") == []


async def generations(memory: AsyncMemory, thread_id: str, count: int) -> list[str]:
    """The ids of so many generations, an hour apart, the newest first."""
    ids = [f"{thread_id}-{number}" for number in range(count)]
    for number, id in enumerate(ids):
        await memory.insert_observational_memory_record(
            record={
                "id": id,
                "thread_id": thread_id,
                "resource_id": "r",
                "scope": "thread",
                "generation_count": number,
                "created_at": at(3600 * number),
            }
        )
    return ids[::-1]


async def test_history_is_newest_first_ten_by_default(memory: AsyncMemory, unique: str) -> None:
    ids = await generations(memory, unique, 12)

    async def history(**given: Any) -> list[str]:
        records = await memory.get_observational_memory_history(thread_id=unique, resource_id="r", **given)
        return [record.id for record in records]

    assert (await found(memory, unique)).id == ids[0]
    assert await history() == ids[:10]
    assert await history(limit=None) == ids
    assert await history(limit=0) == []
    assert await history(limit=3) == ids[:3]
    assert await history(limit=3, options={"offset": 2}) == ids[2:5]
    assert await history(options={"offset": 20}) == []
    newest_first = {"from": at(3600 * 2), "to": at(3600 * 4)}
    assert await history(options=newest_first) == ids[7:10]
    assert await history(options={"from_": at(3600 * 2), "to": at(3600 * 4), "offset": 1}) == ids[8:10]
    assert await history(limit=None, options={"from": at(3600 * 2 + 1)}) == ids[:9]
    assert await history(options={"to": at(3600 * 2 - 1)}) == ids[10:]


@pytest.mark.needs_functions("no record knows its activated cycles there")
async def test_what_waits_goes_over_to_a_generation_that_is_inserted_behind(memory: AsyncMemory, unique: str) -> None:
    begun = await observed(memory, unique)
    await buffered(memory, begun.id, chunk("c1"))
    await memory.swap_buffered_to_active(id=begun.id, **EVERYTHING)
    await buffered(memory, begun.id, chunk("c2"))
    record = {"thread_id": unique, "resource_id": "r", "scope": "thread"}
    await memory.insert_observational_memory_record(record={**record, "id": f"{unique}-x", "generation_count": 0})
    await memory.insert_observational_memory_record(record={**record, "id": f"{unique}-y", "generation_count": 5})
    newest = await found(memory, unique)
    assert (newest.id, cycles(newest), newest.activated_cycle_ids) == (f"{unique}-y", ["c2"], ["c1"])
    await buffered(memory, begun.id, chunk("c1"), chunk("c2"), chunk("c3"))
    history = await memory.get_observational_memory_history(thread_id=unique, resource_id="r")
    assert [cycles(one) for one in history] == [["c2", "c3"], [], []]


async def test_of_equal_generations_the_one_inserted_last_is_the_newest(memory: AsyncMemory, unique: str) -> None:
    for number in range(3):
        record = {"id": f"{unique}-{number}", "thread_id": unique, "resource_id": "r", "scope": "thread"}
        await memory.insert_observational_memory_record(record={**record, "config": {"number": number}})
    assert (await found(memory, unique)).config == {"number": 2}
    history = await memory.get_observational_memory_history(thread_id=unique, resource_id="r")
    assert [record.config["number"] for record in history] == [2, 1, 0]


async def test_an_inserted_record_is_kept_whole(memory: AsyncMemory, unique: str) -> None:
    given: dict[str, Any] = {
        "id": f"{unique}-copy",
        "scope": "thread",
        "thread_id": unique,
        "resource_id": "r",
        "active_observations": "a\nb",
        "origin_type": "reflection",
        "generation_count": 4,
        "config": AWKWARD,
        "metadata": AWKWARD,
        "pending_message_tokens": 7,
        "total_tokens_observed": 9.5,
        "observation_token_count": 8,
        "is_observing": True,
        "is_reflecting": True,
        "is_buffering_observation": True,
        "is_buffering_reflection": True,
        "observed_message_ids": ["m1"],
        "observed_timezone": "UTC",
        "buffered_reflection": "short",
        "buffered_reflection_tokens": 3,
        "buffered_reflection_input_tokens": 30,
        "reflected_observation_line_count": 1,
        "last_buffered_at_tokens": 12,
        "last_buffered_at_time": at(5),
        "last_observed_at": at(4),
        "last_reflection_at": at(3),
        "created_at": at(1),
        "updated_at": at(2),
    }
    whole = chunk("c", extracted_values=AWKWARD, extraction_failures=[{"slug": "s", "error": "e"}])
    whole.update(id="ombuf-1", created_at=at(6))
    await memory.insert_observational_memory_record(record={**given, "buffered_observation_chunks": [whole]})
    record = await found(memory, unique)
    assert {name: getattr(record, name) for name in given} == given
    (stored,) = record.buffered_observation_chunks or []
    assert stored == BufferedObservationChunk(**whole)
    await memory.insert_observational_memory_record(record=record)
    assert (await found(memory, unique)).buffered_observation_chunks == [stored]
    history = await memory.get_observational_memory_history(thread_id=unique, resource_id="r")
    assert [one.id for one in history] == [f"{unique}-copy"]


async def test_a_record_moves_to_another_thread_by_its_attributes(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    copy = {name: getattr(record, name) for name in ObservationalMemory.__mapper__.columns}
    await memory.insert_observational_memory_record(record={**copy, "id": f"{unique}-2", "thread_id": f"{unique}-b"})
    assert (await found(memory, f"{unique}-b")).id == f"{unique}-2"
    assert (await found(memory, unique)).id == record.id


async def test_clearing_deletes_all_generations_of_one_key(memory: AsyncMemory, unique: str) -> None:
    await generations(memory, unique, 3)
    await observed(memory, f"{unique}-b")
    await memory.clear_observational_memory(thread_id=unique, resource_id="r")
    assert await memory.get_observational_memory_history(thread_id=unique, resource_id="r") == []
    await found(memory, f"{unique}-b")
    await memory.clear_observational_memory(thread_id=unique, resource_id="r")


# -- active observations -------------------------------------------------------------------------------------------


async def test_observations_replace_the_active_ones_and_add_to_the_total(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    await memory.set_pending_message_tokens(id=record.id, token_count=500)
    await memory.update_active_observations(
        id=record.id, observations="one", token_count=5, last_observed_at=at(1), observed_message_ids=["m1", "m2"]
    )
    await memory.update_active_observations(id=record.id, observations="two", token_count=7, last_observed_at=at(2))
    stored = await found(memory, unique)
    assert (stored.active_observations, stored.last_observed_at) == ("two", at(2))
    assert (stored.observation_token_count, stored.total_tokens_observed, stored.pending_message_tokens) == (7, 12, 0)
    assert stored.observed_message_ids == ["m1", "m2"]
    assert stored.updated_at > record.updated_at


# -- buffered observations -----------------------------------------------------------------------------------------


async def test_chunks_are_buffered_in_order_with_all_they_carry(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    hints: dict[str, Any] = {"suggested_continuation": "go on", "current_task": "t", "thread_title": "T"}
    extracted: dict[str, Any] = {"extracted_values": AWKWARD, "extraction_failures": [{"slug": "s", "error": "e"}]}
    first = chunk("c1", seconds=1, **hints, **extracted)
    await memory.update_buffered_observations(id=record.id, chunk=first, last_buffered_at_time=at(9))
    await memory.update_buffered_observations(id=record.id, chunk=chunk("c2"))
    stored = await found(memory, unique)
    one, two = stored.buffered_observation_chunks or []
    assert {name: getattr(one, name) for name in first} == first
    assert one.id.startswith("ombuf-")
    assert one.id != two.id
    assert (two.cycle_id, two.current_task, two.extracted_values) == ("c2", None, None)
    assert stored.last_buffered_at_time == at(9)
    assert stored.active_observations == ""


async def test_a_cycle_is_buffered_once(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    await buffered(memory, record.id, chunk("c1"), chunk("c2"))
    before = await found(memory, unique)
    again = chunk("c1", observations="again")
    await memory.update_buffered_observations(id=record.id, chunk=again, last_buffered_at_time=at(9))
    stored = await found(memory, unique)
    assert stored.buffered_observation_chunks == before.buffered_observation_chunks
    assert (stored.updated_at, stored.last_buffered_at_time) == (before.updated_at, None)


async def test_a_swap_activates_chunks_behind_a_boundary(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    await memory.update_active_observations(id=record.id, observations="known", token_count=4, last_observed_at=at(0))
    await memory.set_pending_message_tokens(id=record.id, token_count=250)
    await buffered(
        memory,
        record.id,
        chunk("c1", seconds=1, current_task="old"),
        chunk("c2", seconds=2.125, suggested_continuation="on"),
    )
    swapped = await memory.swap_buffered_to_active(id=record.id, **EVERYTHING)
    assert (swapped.chunks_activated, swapped.messages_activated) == (2, 4)
    assert (swapped.message_tokens_activated, swapped.observation_tokens_activated) == (200, 20)
    assert swapped.activated_cycle_ids == ["c1", "c2"]
    assert swapped.activated_message_ids == ["c1-1", "c1-2", "c2-1", "c2-2"]
    assert swapped.observations == "seen in c1\n\nseen in c2"
    assert (swapped.suggested_continuation, swapped.current_task) == ("on", None)
    assert [attrs.astuple(one) for one in swapped.per_chunk or []] == [
        ("c1", 100, 10, 2, "seen in c1"),
        ("c2", 100, 10, 2, "seen in c2"),
    ]
    stored = await found(memory, unique)
    assert stored.active_observations == (
        "known\n\n--- message boundary (2024-05-01T12:00:02.125Z) ---\n\nseen in c1\n\nseen in c2"
    )
    assert stored.last_observed_at == at(2.125)
    assert stored.buffered_observation_chunks is None
    assert (stored.observation_token_count, stored.total_tokens_observed, stored.pending_message_tokens) == (24, 4, 50)
    assert stored.observed_message_ids is None


async def test_the_first_activated_observations_have_no_boundary(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    await buffered(memory, record.id, chunk("c1"))
    await memory.swap_buffered_to_active(id=record.id, **EVERYTHING, last_observed_at=at(7))
    stored = await found(memory, unique)
    assert (stored.active_observations, stored.last_observed_at) == ("seen in c1", at(7))
    assert stored.pending_message_tokens == 0


async def test_a_swap_of_nothing_changes_nothing(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    assert (await memory.swap_buffered_to_active(id=record.id, **EVERYTHING)).chunks_activated == 0
    await buffered(memory, record.id, chunk("c1"))
    before = await found(memory, unique)
    swapped = await memory.swap_buffered_to_active(id=record.id, **EVERYTHING, buffered_chunks=[])
    assert (swapped.chunks_activated, swapped.activated_cycle_ids, swapped.observations) == (0, [], None)
    stored = await found(memory, unique)
    assert (cycles(stored), stored.updated_at) == (["c1"], before.updated_at)


async def test_a_swap_keeps_what_is_left_of_the_buffer(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    await buffered(memory, record.id, *(chunk(f"c{number}", 1_000) for number in range(5)))
    swapped = await memory.swap_buffered_to_active(
        id=record.id, activation_ratio=0.5, message_tokens_threshold=4_000, current_pending_tokens=5_000
    )
    assert swapped.activated_cycle_ids == ["c0", "c1", "c2"]
    assert cycles(await found(memory, unique)) == ["c3", "c4"]


async def test_a_swap_keeps_chunks_appended_since_the_caller_read(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    await buffered(memory, record.id, chunk("c1"), chunk("c2"))
    known = (await found(memory, unique)).buffered_observation_chunks or []
    await buffered(memory, record.id, chunk("c3"))
    swapped = await memory.swap_buffered_to_active(id=record.id, **EVERYTHING, buffered_chunks=known)
    assert swapped.activated_cycle_ids == ["c1", "c2"]
    assert cycles(await found(memory, unique)) == ["c3"]
    again = await memory.swap_buffered_to_active(id=record.id, **EVERYTHING, buffered_chunks=known)
    assert again.chunks_activated == 0
    stored = await found(memory, unique)
    assert (cycles(stored), stored.active_observations.count("seen in c1")) == (["c3"], 1)


SPOILT: list[dict[str, Any]] = [
    {"message_tokens": "5"},
    {"message_tokens": None},
    {"token_count": float("nan")},
    {"observations": None},
    {"message_ids": None},
    {"message_ids": [5]},
    {"last_observed_at": "then"},
    {"created_at": None},
    {"cycle_id": 5},
    {"current_task": 1},
    {"extracted_values": 5},
]


async def test_a_chunk_that_was_read_and_spoilt_is_refused(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    await buffered(memory, record.id, chunk("c1"))
    before = await found(memory, unique)
    (known,) = before.buffered_observation_chunks or []
    copy = {"id": f"{unique}copy", "scope": "thread", "thread_id": f"{unique}other", "resource_id": before.resource_id}
    for wrong in SPOILT:
        spoilt = attrs.evolve(known, **wrong)
        with pytest.raises(InvalidArgument, match="chunk"):
            await memory.swap_buffered_to_active(id=record.id, **EVERYTHING, buffered_chunks=[spoilt])
        with pytest.raises(InvalidArgument, match="chunk"):
            await memory.insert_observational_memory_record(record={**copy, "buffered_observation_chunks": [spoilt]})
    assert (await found(memory, unique)).buffered_observation_chunks == [known]
    await memory.insert_observational_memory_record(record={**copy, "buffered_observation_chunks": [known]})


async def test_a_size_that_no_number_holds_is_an_invalid_argument(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    await memory.update_buffered_reflection(
        id=record.id, reflection="R", token_count=1, input_token_count=1, reflected_observation_line_count=0
    )
    for begin, more in (
        (memory.swap_buffered_reflection_to_active, {}),
        (memory.create_reflection_generation, {"reflection": "R"}),
    ):
        with pytest.raises(InvalidArgument):
            await begin(current_record=record, token_count=2**63, **more)
    assert (await found(memory, unique)).buffered_reflection == "R"


async def test_fresh_tokens_decide_and_stay_with_what_is_left(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    await buffered(memory, record.id, chunk("c1", 10), chunk("c2", 10), chunk("c3", 10))
    known = (await found(memory, unique)).buffered_observation_chunks or []
    fresh: list[Any] = [attrs.evolve(known[0], message_tokens=900), {"id": known[1].id, "message_tokens": 800}]
    swapped = await memory.swap_buffered_to_active(
        id=record.id,
        activation_ratio=0.5,
        message_tokens_threshold=2_000,
        current_pending_tokens=1_900,
        buffered_chunks=[*fresh, {"cycle_id": "c3", "message_tokens": 700}],
    )
    assert (swapped.activated_cycle_ids, swapped.message_tokens_activated) == (["c1"], 900)
    left = (await found(memory, unique)).buffered_observation_chunks or []
    assert [(one.cycle_id, one.message_tokens) for one in left] == [("c2", 800), ("c3", 700)]
    assert left[0].observations == "seen in c2"


def tokens(*counts: float) -> list[BufferedObservationChunk]:
    whole: dict[str, Any] = {"id": "i", "created_at": at(0)}
    return [BufferedObservationChunk(**chunk(f"c{number}", count), **whole) for number, count in enumerate(counts)]


@pytest.mark.parametrize(
    ("counts", "activation", "expected"),
    [
        ((2_000, 2_000, 2_000), Activation(0.8, 5_000, 6_000), 2),
        ((2_000, 2_000, 1_000, 1_000), Activation(0.8, 5_000, 6_000), 3),
        ((4_000, 1_500), Activation(0.8, 5_000, 6_000), 1),
        ((100, 5_950), Activation(0.8, 5_000, 6_000), 1),
        ((6_000,), Activation(0.8, 5_000, 6_000), 1),
        ((1_000, 1_000), Activation(0.5, 8_000, 3_000), 1),
        ((500, 4_000), Activation(0.5, 8_000, 5_000), 1),
        ((500, 4_000), Activation(0.5, 8_000, 5_500, force=True), 2),
        ((500, 4_000), Activation(0.5, 8_000, 5_000, force=True), 1),
        ((10, 10, 10), Activation(1, 1_000, 10_000), 3),
        ((10, 10, 10), Activation(1, 1_000, 20), 2),
        ((0, 0), Activation(1, 1_000, 100), 1),
    ],
)
def test_activation_comes_nearest_to_the_retention_floor(
    counts: tuple[float, ...], activation: Activation, expected: int
) -> None:
    assert activation.count(tokens(*counts)) == expected


# -- reflections ---------------------------------------------------------------------------------------------------


async def test_a_reflection_begins_the_next_generation(memory: AsyncMemory, unique: str) -> None:
    first = await observed(memory, unique, config={"a": 1}, observed_timezone="UTC")
    await memory.update_active_observations(id=first.id, observations="long", token_count=50, last_observed_at=at(1))
    await buffered(memory, first.id, chunk("c1"))
    current = await found(memory, unique)
    created = await memory.create_reflection_generation(current_record=current, reflection="short", token_count=3)
    second = await found(memory, unique)
    for record in (created, second):
        assert (record.id, record.origin_type, record.generation_count) == (created.id, "reflection", 1)
        assert (record.thread_id, record.resource_id, record.scope) == (unique, "r", "thread")
        assert (record.active_observations, record.observation_token_count) == ("short", 3)
        assert (record.total_tokens_observed, record.pending_message_tokens, record.last_observed_at) == (50, 0, at(1))
        assert (record.config, record.observed_timezone, cycles(record)) == ({"a": 1}, "UTC", ["c1"])
    history = await memory.get_observational_memory_history(thread_id=unique, resource_id="r")
    assert [record.active_observations for record in history] == ["short", "long"]
    assert [cycles(record) for record in history] == [["c1"], []]


async def test_a_reflection_carries_over_what_is_stored_by_now(memory: AsyncMemory, unique: str) -> None:
    stale = await observed(memory, unique)
    await memory.update_active_observations(id=stale.id, observations="long", token_count=50, last_observed_at=at(1))
    await memory.update_observational_memory_config(id=stale.id, config={"late": True})
    created = await memory.create_reflection_generation(current_record=stale, reflection="short", token_count=3)
    assert (created.config, created.total_tokens_observed) == ({"late": True}, 50)


async def test_a_reflection_on_a_record_that_is_not_stored_takes_what_is_given(memory: AsyncMemory, unique: str) -> None:
    given = {"id": unique, "scope": "resource", "thread_id": None, "resource_id": unique, "generation_count": 6}
    await memory.create_reflection_generation(
        current_record={**given, "config": {"a": 1}, "metadata": {"b": 2}}, reflection="short", token_count=3
    )
    record = await memory.get_observational_memory(thread_id=None, resource_id=unique)
    assert record is not None
    assert (record.generation_count, record.config, record.metadata) == (7, {"a": 1}, {"b": 2})


async def test_buffered_reflections_add_up_and_are_swapped_once(memory: AsyncMemory, unique: str) -> None:
    first = await observed(memory, unique)
    await memory.update_active_observations(id=first.id, observations="1\n2\n3", token_count=9, last_observed_at=at(1))
    for text, lines in (("R1", 1), ("R2", 2)):
        await memory.update_buffered_reflection(
            id=first.id, reflection=text, token_count=2, input_token_count=20, reflected_observation_line_count=lines
        )
    stored = await found(memory, unique)
    assert (stored.buffered_reflection, stored.reflected_observation_line_count) == ("R1\n\nR2", 2)
    assert (stored.buffered_reflection_tokens, stored.buffered_reflection_input_tokens) == (4, 40)
    created = await memory.swap_buffered_reflection_to_active(current_record=stored, token_count=6)
    assert (created.active_observations, created.observation_token_count) == ("R1\n\nR2\n\n3", 6)
    assert (created.generation_count, created.origin_type, created.buffered_reflection) == (1, "reflection", None)
    newest, before = await memory.get_observational_memory_history(thread_id=unique, resource_id="r")
    assert newest.id == created.id
    assert before.active_observations == "1\n2\n3"
    assert (before.buffered_reflection, before.buffered_reflection_tokens) == (None, None)
    assert (before.buffered_reflection_input_tokens, before.reflected_observation_line_count) == (None, None)
    with pytest.raises(NoBufferedReflection) as error:
        await memory.swap_buffered_reflection_to_active(current_record=stored, token_count=6)
    assert error.value.id == "MASTRA_STORAGE_CONVEX_SWAP_BUFFERED_REFLECTION_TO_ACTIVE_NO_BUFFERED_REFLECTION"


@pytest.mark.parametrize(
    ("active", "lines", "expected"),
    [
        ("", 0, "R"),
        ("a\nb", 2, "R"),
        ("a\nb", 0, "R\n\na\nb"),
        ("a\n\n  b \n", 1, "R\n\nb"),
        ("a\n\x1fb\x1f", 1, "R\n\n\x1fb\x1f"),
        ("a\n\ufeff\u00a0b", 1, "R\n\nb"),
        ("a", 9, "R"),
    ],
)
def test_what_was_not_reflected_stands_behind_the_reflection(active: str, lines: int, expected: str) -> None:
    assert reflected(active, "R", lines) == expected


# -- flags, counters, configuration --------------------------------------------------------------------------------


async def test_flags_and_counters_are_set_one_by_one(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    await memory.set_observing_flag(id=record.id, is_observing=True)
    await memory.set_reflecting_flag(id=record.id, is_reflecting=True)
    await memory.set_buffering_observation_flag(id=record.id, is_buffering=True, last_buffered_at_tokens=77)
    await memory.set_buffering_reflection_flag(id=record.id, is_buffering=True)
    await memory.set_pending_message_tokens(id=record.id, token_count=12.5)
    stored = await found(memory, unique)
    assert stored.is_observing
    assert stored.is_reflecting
    assert stored.is_buffering_observation
    assert stored.is_buffering_reflection
    assert (stored.last_buffered_at_tokens, stored.pending_message_tokens) == (77, 12.5)
    await memory.set_buffering_observation_flag(id=record.id, is_buffering=False)
    await memory.set_observing_flag(id=record.id, is_observing=False)
    stored = await found(memory, unique)
    assert (stored.is_buffering_observation, stored.last_buffered_at_tokens, stored.is_observing) == (False, 77, False)


async def test_configuration_is_merged_at_every_depth(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique, config={"a": {"b": {"c": 1, "d": [1, 2]}, "e": 1}, "f": {"g": 1}})
    await memory.update_observational_memory_config(
        id=record.id, config={"a": {"b": {"c": 2, "d": [3]}, "$new": None}, "f": 5, "h": {"i": AWKWARD}}
    )
    assert (await found(memory, unique)).config == {
        "a": {"b": {"c": 2, "d": [3]}, "e": 1, "$new": None},
        "f": 5,
        "h": {"i": AWKWARD},
    }


# -- on the wire ---------------------------------------------------------------------------------------------------


@pytest.mark.needs_functions("the handler orders the fields of a chunk itself")
def test_chunks_are_stored_as_the_npm_package_stores_them(deployment: Deployment, unique: str) -> None:
    memory = ConvexStore(id="test", deployment=deployment).memory
    record = memory.initialize_observational_memory(thread_id=unique, resource_id="r", scope="thread", config={"a": 1})
    memory.update_buffered_observations(id=record.id, chunk=chunk("c1", extracted_values={"snake_case": 1}))
    with Session(deployment) as session:
        stored = session.get(ObservationalMemory, record.id)
        assert stored is not None
        document = stored._state.document
        assert document is not None
        assert (document["lookupKey"], document["config"], document["createdAt"][-1]) == (
            f"thread:{unique}",
            '{"a":1}',
            "Z",
        )
        (one,) = json.loads(document["bufferedObservationChunks"])
    assert list(one) == [
        *("id", "cycleId", "observations", "tokenCount", "messageIds", "messageTokens", "lastObservedAt", "createdAt"),
        "extractedValues",
    ]
    assert (one["lastObservedAt"], one["extractedValues"]) == ("2024-05-01T12:00:00.000Z", {"snake_case": 1})


@pytest.mark.parametrize("text", ["", "no json", "{}", "null", "[1]"])
def test_text_that_holds_no_chunks_loads_as_none_of_them(text: str) -> None:
    assert ObservationalMemory.__mapper__.columns["buffered_observation_chunks"].type.load(text) == []


def test_what_a_newer_writer_adds_to_a_chunk_is_kept() -> None:
    column = ObservationalMemory.__mapper__.columns["buffered_observation_chunks"].type
    (one,) = column.load('[{"id":"i","cycleId":"c","later":{"a":1}}]')
    assert (one.message_tokens, one.message_ids) == (0, [])
    assert json.loads(column.dump([one]))[0]["later"] == {"a": 1}


# -- bad input -----------------------------------------------------------------------------------------------------

CHANGES: dict[str, dict[str, Any]] = {
    "update_active_observations": {"observations": "", "token_count": 1, "last_observed_at": at(0)},
    "update_buffered_observations": {"chunk": chunk("c")},
    "swap_buffered_to_active": EVERYTHING,
    "update_buffered_reflection": {
        "reflection": "",
        "token_count": 1,
        "input_token_count": 1,
        "reflected_observation_line_count": 1,
    },
    "set_observing_flag": {"is_observing": True},
    "set_reflecting_flag": {"is_reflecting": True},
    "set_buffering_observation_flag": {"is_buffering": True},
    "set_buffering_reflection_flag": {"is_buffering": True},
    "set_pending_message_tokens": {"token_count": 1},
    "update_observational_memory_config": {"config": {}},
}


@pytest.mark.parametrize("method", CHANGES)
async def test_changing_a_missing_record_is_an_error(memory: AsyncMemory, method: str, unique: str) -> None:
    with pytest.raises(ObservationalMemoryNotFound) as error:
        await getattr(memory, method)(id=unique, **CHANGES[method])
    assert error.value.id == f"MASTRA_STORAGE_CONVEX_{method.upper()}_NOT_FOUND"


async def test_swapping_a_reflection_of_a_missing_record_is_an_error(memory: AsyncMemory, unique: str) -> None:
    missing = {"id": unique, "scope": "thread", "thread_id": unique, "resource_id": "r"}
    with pytest.raises(ObservationalMemoryNotFound):
        await memory.swap_buffered_reflection_to_active(current_record=missing, token_count=1)


_NAN = float("nan")
_BAD_ACTIVE: list[dict[str, Any]] = [
    {"id": ""},
    {"token_count": _NAN},
    {"token_count": -1},
    {"token_count": "1"},
    {"observations": None},
    {"last_observed_at": None},
    {"observed_message_ids": "m"},
]
_BAD_CHUNK: list[dict[str, Any]] = [
    {"cycle_id": ""},
    {"cycle_id": None},
    {"message_ids": "m"},
    {"message_ids": [1]},
    {"token_count": True},
    {"last_observed_at": "soon"},
    {"extracted_values": []},
    {"id": "mine"},
    {"current_task": 1},
]
_BAD_SWAP: list[dict[str, Any]] = [
    {"activation_ratio": 1.5},
    {"activation_ratio": -0.1},
    {"current_pending_tokens": float("inf")},
    {"force_max_activation": 1},
    {"buffered_chunks": [{"message_tokens": 1}]},
    {"buffered_chunks": [5]},
]
_BAD_HISTORY: list[dict[str, Any]] = [
    {"limit": -1},
    {"limit": True},
    {"options": {"offset": -1}},
    {"options": {"from": datetime(2024, 1, 1)}},
    {"options": {"until": at(0)}},
]
_BAD_RECORD: list[Any] = [
    None,
    {"scope": "thread", "thread_id": "t", "resource_id": "r"},
    {"id": "i", "thread_id": "t", "resource_id": "r"},
    {"id": "i", "scope": "thread", "thread_id": "t", "colour": 1},
    {"id": "i", "scope": "thread", "thread_id": "t", "total_tokens_observed": "many"},
    {"id": "i", "scope": "thread", "thread_id": "t", "last_observed_at": 5},
]
_KEY = {"thread_id": "t", "resource_id": "r"}
BAD: list[tuple[str, dict[str, Any]]] = [
    ("get_observational_memory", {"thread_id": None, "resource_id": ""}),
    ("get_observational_memory", {"thread_id": " ", "resource_id": "r"}),
    ("get_observational_memory", {"thread_id": 5, "resource_id": "r"}),
    *(("get_observational_memory_history", {**_KEY, **bad}) for bad in _BAD_HISTORY),
    ("initialize_observational_memory", {**_KEY, "scope": "x", "config": {}}),
    ("initialize_observational_memory", {**_KEY, "resource_id": "", "scope": "thread", "config": {}}),
    ("initialize_observational_memory", {**_KEY, "scope": "thread", "config": None}),
    *(("insert_observational_memory_record", {"record": bad}) for bad in _BAD_RECORD),
    ("clear_observational_memory", {"thread_id": "", "resource_id": "r"}),
    ("create_reflection_generation", {"current_record": {"id": "i"}, "reflection": "", "token_count": 1}),
    *(("update_active_observations", {**CHANGES["update_active_observations"], "id": "i", **bad}) for bad in _BAD_ACTIVE),
    *(("update_buffered_observations", {"id": "i", "chunk": {**chunk("c"), **bad}}) for bad in _BAD_CHUNK),
    *(("swap_buffered_to_active", {"id": "i", **EVERYTHING, **bad}) for bad in _BAD_SWAP),
    ("update_buffered_reflection", {**CHANGES["update_buffered_reflection"], "id": "i", "token_count": -1}),
    (
        "update_buffered_reflection",
        {**CHANGES["update_buffered_reflection"], "id": "i", "reflected_observation_line_count": 0.5},
    ),
    ("set_observing_flag", {"id": "i", "is_observing": 1}),
    ("set_buffering_observation_flag", {"id": "i", "is_buffering": "yes"}),
    ("set_buffering_reflection_flag", {"id": "i", "is_buffering": None}),
    ("update_observational_memory_config", {"id": "i", "config": [1]}),
]


@pytest.mark.parametrize(("method", "given"), BAD)
async def test_bad_input_is_refused_before_anything_is_read(method: str, given: dict[str, Any]) -> None:
    memory = AsyncMemory(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as error:
        await getattr(memory, method)(**given)
    assert error.value.operation == method.upper()


@pytest.mark.parametrize("count", [-1, _NAN, float("inf"), "5", None, True])
async def test_pending_tokens_are_a_finite_number_from_0(count: Any) -> None:
    memory = AsyncMemory(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as error:
        await memory.set_pending_message_tokens(id="i", token_count=count)
    assert error.value.id == "MASTRA_STORAGE_CONVEX_SET_PENDING_MESSAGE_TOKENS_INVALID_INPUT"


@pytest.mark.parametrize("value", [_NAN, object(), b"x"])
async def test_what_json_cannot_hold_is_refused_and_changes_nothing(memory: AsyncMemory, unique: str, value: Any) -> None:
    record = await observed(memory, unique)
    bad = {"a": [value]}
    for call in (
        observed(memory, unique, config=bad),
        buffered(memory, record.id, chunk("c", extracted_values=bad)),
        memory.update_observational_memory_config(id=record.id, config=bad),
        memory.insert_observational_memory_record(
            record={"id": unique, "scope": "thread", "thread_id": unique, "resource_id": "r", "metadata": bad}
        ),
    ):
        with pytest.raises(InvalidArgument):
            await call
    (stored,) = await memory.get_observational_memory_history(thread_id=unique, resource_id="r")
    assert (stored.config, stored.buffered_observation_chunks) == ({}, None)


async def test_a_record_over_the_document_limit_is_refused_and_stays(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    await buffered(memory, record.id, chunk("c1", observations="x" * 600_000))
    with pytest.raises(LimitExceeded):
        await buffered(memory, record.id, chunk("c2", observations="x" * 600_000))
    assert cycles(await found(memory, unique)) == ["c1"]


# -- many writers --------------------------------------------------------------------------------------------------

WRITERS = 50


def _append(memory: Any, id: str, number: int) -> None:
    memory.update_buffered_observations(id=id, chunk=chunk(f"c{number}"))


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_chunks_appended_from_threads_are_all_kept(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    memory = ConvexStore(id="test", deployment=open_deployment(kind)).memory
    record = memory.initialize_observational_memory(thread_id=unique, resource_id="r", scope="thread", config={})
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: _append(memory, record.id, number), range(WRITERS)))
    stored = memory.get_observational_memory(thread_id=unique, resource_id="r")
    assert stored is not None
    assert sorted(cycles(stored)) == sorted(f"c{number}" for number in range(WRITERS))


async def test_chunks_appended_from_tasks_are_all_kept(memory: AsyncMemory, unique: str) -> None:
    record = await observed(memory, unique)
    await asyncio.gather(*(buffered(memory, record.id, chunk(f"c{number}")) for number in range(WRITERS)))
    assert len(set(cycles(await found(memory, unique)))) == WRITERS


def test_chunks_appended_from_processes_are_all_kept(open_deployment: Callable[[str], Deployment], unique: str) -> None:
    deployment = open_deployment("sqlite")
    memory = ConvexStore(id="test", deployment=deployment).memory
    record = memory.initialize_observational_memory(thread_id=unique, resource_id="r", scope="thread", config={})
    run_processes(deployment, append_some, record.id, processes=5)
    stored = memory.get_observational_memory(thread_id=unique, resource_id="r")
    assert stored is not None
    assert len(set(cycles(stored))) == len(cycles(stored)) == WRITERS


def append_some(deployment: Deployment, worker: int, id: str) -> None:
    memory = ConvexStore(id="test", deployment=deployment).memory
    for number in range(10):
        _append(memory, id, worker * 10 + number)


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_swaps_and_appends_at_once_activate_each_chunk_once(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    memory = ConvexStore(id="test", deployment=open_deployment(kind)).memory
    record = memory.initialize_observational_memory(thread_id=unique, resource_id="r", scope="thread", config={})

    def work(number: int) -> list[str]:
        if number % 3:
            _append(memory, record.id, number)
            return []
        return memory.swap_buffered_to_active(id=record.id, **EVERYTHING).activated_cycle_ids

    with ThreadPoolExecutor(12) as threads:
        activated = [cycle for answer in threads.map(work, range(36)) for cycle in answer]
    activated += memory.swap_buffered_to_active(id=record.id, **EVERYTHING).activated_cycle_ids
    assert sorted(activated) == sorted(f"c{number}" for number in range(36) if number % 3)
    stored = memory.get_observational_memory(thread_id=unique, resource_id="r")
    assert stored is not None
    assert stored.active_observations.count("seen in") == 24
    assert (stored.observation_token_count, stored.total_tokens_observed) == (240, 0)


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_of_many_swaps_of_a_reflection_one_succeeds(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = ConvexStore(id="test", deployment=open_deployment(kind)).memory
    record = memory.initialize_observational_memory(thread_id=unique, resource_id="r", scope="thread", config={})
    memory.update_buffered_reflection(
        id=record.id, reflection="R", token_count=1, input_token_count=1, reflected_observation_line_count=0
    )
    all_have_read = Barrier(8)

    def wait(active: str, reflection: str, lines: int) -> str:
        all_have_read.wait()
        return reflected(active, reflection, lines)

    def swap(_: int) -> bool:
        try:
            memory.swap_buffered_reflection_to_active(current_record=record, token_count=1)
        except NoBufferedReflection:
            return False
        return True

    monkeypatch.setattr("mastra_convex.memory.observational.reflected", wait)
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(swap, range(8))) == 1
    assert len(memory.get_observational_memory_history(thread_id=unique, resource_id="r")) == 2


def test_a_reflection_misses_no_observation_activated_meanwhile(
    monkeypatch: pytest.MonkeyPatch, open_deployment: Callable[[str], Deployment], unique: str
) -> None:
    """Even where clocks stand still: what was read before another writer's change is not built upon."""
    monkeypatch.setattr("mastra_convex.memory.observational.now", lambda: at(0))
    memory = ConvexStore(id="test", deployment=open_deployment("sqlite")).memory
    record = memory.initialize_observational_memory(thread_id=unique, resource_id="r", scope="thread", config={})
    memory.update_buffered_reflection(
        id=record.id, reflection="R", token_count=1, input_token_count=1, reflected_observation_line_count=0
    )
    memory.update_buffered_observations(id=record.id, chunk=chunk("c1"))
    calls: list[str] = []

    def meanwhile(active: str, reflection: str, lines: int) -> str:
        if not calls:
            memory.swap_buffered_to_active(id=record.id, **EVERYTHING)
        calls.append(active)
        return reflected(active, reflection, lines)

    monkeypatch.setattr("mastra_convex.memory.observational.reflected", meanwhile)
    created = memory.swap_buffered_reflection_to_active(current_record=record, token_count=1)
    assert calls == ["", "seen in c1"]
    assert created.active_observations == "R\n\nseen in c1"
    stored = memory.get_observational_memory_history(thread_id=unique, resource_id="r")[1]
    assert stored.updated_at > at(0) + timedelta(milliseconds=2)
