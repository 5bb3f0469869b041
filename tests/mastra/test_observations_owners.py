"""Observational memory is that of a thread and a resource: none blocks, sees, changes or clears another resource's."""

from __future__ import annotations

from typing import Any

import pytest

from convexorm import AsyncSession, Deployment, Session
from mastra_convex import (
    AsyncMemory,
    ConvexStore,
    InvalidArgument,
    ObservationalMemory,
    ObservationalMemoryNotFound,
)
from mastra_convex.memory import generations
from tests.mastra.support import at, at_once, thread
from tests.mastra.test_observers import begin, chunk, cycles


async def observed(memory: AsyncMemory, thread_id: str | None, who: str, text: str | None = None) -> ObservationalMemory:
    """A resource's memory of a thread, in which something of its own is noted."""
    record = await memory.initialize_observational_memory(
        thread_id=thread_id, resource_id=who, scope="thread", config={"of": who}
    )
    await memory.update_active_observations(
        id=record.id, observations=text or f"of {who}", token_count=1, last_observed_at=at(0)
    )
    return record


async def seen(memory: AsyncMemory, thread_id: str | None, who: str) -> list[tuple[int, str, str | None]]:
    """What a resource finds: the numbers of its generations, what they hold, and whose they say they are."""
    found = await memory.get_observational_memory_history(thread_id=thread_id, resource_id=who, limit=None)
    newest = await memory.get_observational_memory(thread_id=thread_id, resource_id=who)
    assert (newest and newest.id) == (found[0].id if found else None)
    return [(one.generation_count, one.active_observations, one.resource_id) for one in found]


async def had(memory: AsyncMemory, thread_id: str, who: str) -> ObservationalMemory:
    """The same of a thread that is the resource's, whosever it was."""
    await memory.save_thread(thread=thread(thread_id, who))
    return await observed(memory, thread_id, who)


async def test_resources_that_have_observed_one_thread_each_have_a_memory_of_their_own(
    memory: AsyncMemory, unique: str
) -> None:
    ada, bob = f"{unique}ada", f"{unique}bob"
    hers = await had(memory, unique, ada)
    his = await had(memory, unique, bob)
    assert hers.id != his.id
    for _ in range(2):  # of more generations than the other one has
        record = await memory.get_observational_memory(thread_id=unique, resource_id=bob)
        assert record is not None
        await memory.create_reflection_generation(current_record=record, reflection=f"more of {bob}", token_count=1)
    assert await seen(memory, unique, ada) == [(0, f"of {ada}", ada)]
    assert [one[0] for one in await seen(memory, unique, bob)] == [2, 1, 0]
    await memory.update_active_observations(id=hers.id, observations="again", token_count=1, last_observed_at=at(1))
    await memory.update_buffered_observations(id=hers.id, chunk=chunk("c"))
    await memory.create_reflection_generation(current_record=hers, reflection="hers", token_count=1)
    record = await memory.get_observational_memory(thread_id=unique, resource_id=ada)
    assert record is not None
    assert (record.active_observations, cycles(record)) == ("hers\n\nagain", ["c"])
    await memory.clear_observational_memory(thread_id=unique, resource_id=bob)
    assert await seen(memory, unique, bob) == []
    assert len(await seen(memory, unique, ada)) == 2


async def test_nobody_observes_the_thread_of_another_resource(memory: AsyncMemory, unique: str) -> None:
    ada, bob = f"{unique}ada", f"{unique}bob"
    await memory.save_thread(thread=thread(unique, ada))
    given = {"id": f"{unique}r", "thread_id": unique, "scope": "thread"}
    for _ in range(2):  # before its owner does, and afterwards
        with pytest.raises(InvalidArgument, match="belongs to another resource") as caught:
            await memory.initialize_observational_memory(**begin(unique, bob))
        assert caught.value.argument == "thread_id"
        with pytest.raises(InvalidArgument, match="belongs to another resource"):
            await memory.insert_observational_memory_record(record={**given, "resource_id": bob})
        await observed(memory, unique, ada)
    assert await seen(memory, unique, bob) == []
    assert await seen(memory, unique, ada) == [(0, f"of {ada}", ada)]


async def test_a_record_without_a_resource_is_refused_and_one_that_is_there_is_in_nobodys_way(
    memory: AsyncMemory, deployment: Deployment, unique: str
) -> None:
    record: dict[str, Any] = {"id": f"{unique}r", "thread_id": unique, "scope": "thread"}
    for bad in ({}, {"resource_id": None}, {"resource_id": ""}):
        with pytest.raises(InvalidArgument):
            await memory.insert_observational_memory_record(record={**record, **bad})
        for call in (
            memory.create_reflection_generation(current_record={**record, **bad}, reflection="R", token_count=1),
            memory.swap_buffered_reflection_to_active(current_record={**record, **bad}, token_count=1),
        ):
            with pytest.raises(InvalidArgument):
                await call
    other = await memory.initialize_observational_memory(**begin(unique, "other"))
    with Session(deployment) as session:
        session.update(ObservationalMemory, other.id, {"resource_id": None})
        session.commit()
    await observed(memory, unique, "r")
    await memory.clear_observational_memory(thread_id=unique, resource_id="other")
    assert await seen(memory, unique, "r") == [(0, "of r", "r")]


async def test_a_reflection_on_another_resources_record_finds_none(memory: AsyncMemory, unique: str) -> None:
    ada, bob = f"{unique}ada", f"{unique}bob"
    hers = await observed(memory, unique, ada)
    await memory.update_buffered_reflection(
        id=hers.id, reflection="R", token_count=1, input_token_count=1, reflected_observation_line_count=1
    )
    before = await memory.get_observational_memory(thread_id=unique, resource_id=ada)
    assert before is not None
    for wrong in (
        {"resource_id": bob},
        {"resource_id": ada, "thread_id": f"{unique}other"},
        {"resource_id": ada, "thread_id": None},
        {"resource_id": bob, "thread_id": None},
    ):
        record: dict[str, Any] = {"id": hers.id, "scope": "thread", "thread_id": unique, **wrong}
        for call in (
            memory.create_reflection_generation(current_record=record, reflection="stolen", token_count=1),
            memory.swap_buffered_reflection_to_active(current_record=record, token_count=1),
        ):
            with pytest.raises(ObservationalMemoryNotFound):
                await call
        with pytest.raises(InvalidArgument):
            await memory.insert_observational_memory_record(record={**record, "resource_id": bob})
    after = await memory.get_observational_memory(thread_id=unique, resource_id=ada)
    assert after is not None
    assert (after.id, after.updated_at, after.buffered_reflection) == (hers.id, before.updated_at, "R")
    assert await seen(memory, None, bob) == await seen(memory, unique, bob) == []


async def test_a_move_takes_what_the_owner_has_observed_and_nothing_of_others(memory: AsyncMemory, unique: str) -> None:
    ada, bob, carol = (f"{unique}{who}" for who in ("ada", "bob", "carol"))
    for who in (bob, carol):
        await had(memory, unique, who)
        record = await memory.get_observational_memory(thread_id=unique, resource_id=who)
        assert record is not None
        await memory.create_reflection_generation(current_record=record, reflection=f"more of {who}", token_count=1)
        record = await memory.get_observational_memory(thread_id=unique, resource_id=who)
        assert record is not None
        await memory.update_buffered_observations(id=record.id, chunk=chunk(f"c of {who}"))
    hers = await had(memory, unique, ada)
    await memory.update_buffered_observations(id=hers.id, chunk=chunk("c of ada"))
    await memory.update_thread_resource_id(thread_id=unique, resource_id=carol)
    assert [one[1:] for one in await seen(memory, unique, bob)] == [(f"more of {bob}", bob), (f"of {bob}", bob)]
    assert await seen(memory, unique, ada) == []
    # what the new owner had noted there stays in view: older generations, and chunks that wait
    found = await seen(memory, unique, carol)
    assert found == [(2, f"of {ada}", carol), (1, f"more of {carol}", carol), (0, f"of {carol}", carol)]
    newest = await memory.get_observational_memory(thread_id=unique, resource_id=carol)
    assert newest is not None
    assert (newest.id, cycles(newest)) == (hers.id, [f"c of {carol}", "c of ada"])
    await memory.update_thread_resource_id(thread_id=unique, resource_id=ada)
    assert len(await seen(memory, unique, ada)) == 3
    await memory.delete_thread(thread_id=unique, resource_id=ada)
    assert len(await seen(memory, unique, bob)) == 2
    await memory.delete_thread(thread_id=unique)
    assert await seen(memory, unique, bob) == []


async def test_whoever_gets_a_threads_id_finds_nothing_of_who_had_it(memory: AsyncMemory, unique: str) -> None:
    ada, bob = f"{unique}ada", f"{unique}bob"
    await memory.save_thread(thread=thread(unique, ada))
    hers = await observed(memory, unique, ada)
    await memory.save_thread(thread=thread(unique, bob))  # the contract allows it
    assert await seen(memory, unique, bob) == []
    await observed(memory, unique, bob)
    await memory.update_active_observations(id=hers.id, observations="late", token_count=1, last_observed_at=at(1))
    assert await seen(memory, unique, bob) == [(0, f"of {bob}", bob)]
    await memory.delete_thread(thread_id=unique)
    late = await observed(memory, unique, ada)  # an observer that does not know of the end
    await memory.save_thread(thread=thread(unique, bob))
    assert await seen(memory, unique, bob) == []
    await observed(memory, unique, bob)
    await memory.update_active_observations(id=late.id, observations="late", token_count=1, last_observed_at=at(1))
    assert await seen(memory, unique, bob) == [(0, f"of {bob}", bob)]


async def test_a_thread_that_is_not_there_is_observed_for_the_first_and_then_for_its_owner(
    memory: AsyncMemory, unique: str
) -> None:
    ada, bob = f"{unique}ada", f"{unique}bob"
    await observed(memory, unique, bob)
    with pytest.raises(InvalidArgument, match="another resource's"):
        await memory.initialize_observational_memory(**begin(unique, ada))
    record = {"id": f"{unique}r", "thread_id": unique, "scope": "thread", "resource_id": ada}
    with pytest.raises(InvalidArgument, match="another resource's"):
        await memory.insert_observational_memory_record(record=record)
    await memory.save_thread(thread=thread(unique, ada))
    await memory.insert_observational_memory_record(record=record)
    assert await seen(memory, unique, ada) == [(0, "", ada)]
    with pytest.raises(InvalidArgument):
        await memory.initialize_observational_memory(**begin(unique, bob))
    assert await seen(memory, unique, bob) == [(0, f"of {bob}", bob)]


async def test_a_record_whose_id_is_known_is_not_there_for_another_resource(memory: AsyncMemory, unique: str) -> None:
    hers = await observed(memory, unique, "ada")
    before = await memory.get_observational_memory(thread_id=unique, resource_id="ada")
    assert before is not None
    tokens: dict[str, Any] = {"reflection": "R", "token_count": 1, "input_token_count": 1}
    calls: dict[str, dict[str, Any]] = {
        "update_active_observations": {"observations": "x", "token_count": 1, "last_observed_at": at(0)},
        "update_buffered_observations": {"chunk": chunk("c")},
        "swap_buffered_to_active": {"activation_ratio": 1, "message_tokens_threshold": 1, "current_pending_tokens": 1},
        "update_buffered_reflection": {"reflected_observation_line_count": 0, **tokens},
        "set_observing_flag": {"is_observing": True},
        "set_reflecting_flag": {"is_reflecting": True},
        "set_buffering_observation_flag": {"is_buffering": True},
        "set_buffering_reflection_flag": {"is_buffering": True},
        "set_pending_message_tokens": {"token_count": 1},
        "update_observational_memory_config": {"config": {"a": 1}},
    }
    for name, given in calls.items():
        with pytest.raises(ObservationalMemoryNotFound):
            await getattr(memory, name)(id=hers.id, resource_id="bob", **given)
    after = await memory.get_observational_memory(thread_id=unique, resource_id="ada")
    assert after is not None
    assert after.updated_at == before.updated_at
    for name, given in calls.items():
        await getattr(memory, name)(id=hers.id, resource_id="ada", **given)


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_of_a_thread_and_its_observers_that_begin_at_once_each_is_its_own(
    open_deployment: Any, kind: str, unique: str
) -> None:
    memory = ConvexStore(id="test", deployment=open_deployment(kind)).memory

    def take(number: int) -> tuple[str, str | None]:
        who = f"{unique}{number % 3}"
        if number < 4:  # whoever it belongs to saves it first: before that it is anybody's
            memory.save_thread(thread=thread(f"{unique}t", f"{unique}0"))
        try:
            return who, memory.initialize_observational_memory(**begin(f"{unique}t", who)).id
        except InvalidArgument:
            return who, None

    made: dict[str, set[str | None]] = {}
    for who, id in at_once(6, take):
        made.setdefault(who, set()).add(id)
    assert len(made[f"{unique}0"]) == 1
    assert None not in made[f"{unique}0"]
    assert all(len(ids - {None}) <= 1 for ids in made.values())


@pytest.mark.needs_functions("the handler checks and writes in one call")
async def test_what_is_noted_in_a_memory_that_is_just_given_away_is_noted(
    memory: AsyncMemory, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between finding the record and looking for what has followed it."""
    ada, bob = f"{unique}ada", f"{unique}bob"
    record = await had(memory, unique, ada)
    newest_of = generations.newest_of
    moves = [bob]

    async def moved_first(session: AsyncSession, key: str, resource_id: str) -> ObservationalMemory | None:
        if moves:
            await memory.update_thread_resource_id(thread_id=unique, resource_id=moves.pop(), source_resource_id=ada)
        return await newest_of(session, key, resource_id)

    monkeypatch.setattr(generations, "newest_of", moved_first)
    await memory.update_buffered_observations(id=record.id, chunk=chunk("c"))
    found = await memory.get_observational_memory(thread_id=unique, resource_id=bob)
    assert found is not None
    assert cycles(found) == ["c"]
