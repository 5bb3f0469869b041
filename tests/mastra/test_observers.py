"""Several observers of one memory: one generation after another, claims, and nothing noted twice or lost from view."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from convexorm import Deployment, Session
from mastra_convex import (
    AsyncMemory,
    ConvexStore,
    InvalidArgument,
    ObservationalMemory,
    ObservationalMemoryInvalid,
    ObservationalMemoryNotFound,
    ObservationalMemoryReplaced,
    ObservationsChanged,
)
from tests.mastra.support import at, at_once, cut_off, thread

EVERYTHING: dict[str, Any] = {"activation_ratio": 1, "message_tokens_threshold": 1_000, "current_pending_tokens": 10_000}


def chunk(cycle: str, **given: Any) -> Any:
    return {
        "cycle_id": cycle,
        "observations": f"seen in {cycle}",
        "token_count": 10,
        "message_ids": [f"{cycle}-1"],
        "message_tokens": 100,
        "last_observed_at": at(0),
        **given,
    }


def begin(thread_id: str, resource_id: str = "r") -> dict[str, Any]:
    return {"thread_id": thread_id, "resource_id": resource_id, "scope": "thread", "config": {}}


async def newest(memory: AsyncMemory, thread_id: str) -> ObservationalMemory:
    record = await memory.get_observational_memory(thread_id=thread_id, resource_id="r")
    assert record is not None
    return record


def cycles(record: ObservationalMemory) -> list[str]:
    return [one.cycle_id for one in record.buffered_observation_chunks or []]


# -- one generation after another ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_of_several_first_callers_one_begins_and_all_have_its_record(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    memory = ConvexStore(id="test", deployment=open_deployment(kind)).memory
    begun = at_once(6, lambda _: memory.initialize_observational_memory(**begin(unique)).id)
    (record,) = memory.get_observational_memory_history(thread_id=unique, resource_id="r", limit=None)
    assert set(begun) == {record.id}

    def of_its_own(number: int) -> str:
        try:
            return memory.initialize_observational_memory(**begin(f"{unique}-b", f"r{number}")).id
        except InvalidArgument as error:
            return error.argument

    answers = at_once(6, of_its_own)
    owner = next(number for number, answer in enumerate(answers) if answer != "resource_id")
    assert answers.count("resource_id") == 5
    assert memory.get_observational_memory(thread_id=f"{unique}-b", resource_id=f"r{owner}") is not None


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_of_several_reflections_on_a_record_one_is_stored(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    memory = ConvexStore(id="test", deployment=open_deployment(kind)).memory
    record = memory.initialize_observational_memory(**begin(unique))

    def reflect(number: int) -> str | None:
        try:
            made = memory.create_reflection_generation(current_record=record, reflection=f"R{number}", token_count=1)
        except ObservationalMemoryReplaced:
            return None
        return made.active_observations

    made = [one for one in at_once(4, reflect) if one is not None]
    history = memory.get_observational_memory_history(thread_id=unique, resource_id="r", limit=None)
    assert [one.active_observations for one in history] == [*made, ""]
    assert [one.generation_count for one in history] == [1, 0]


async def test_a_reflection_leaves_out_nothing_that_was_noted_since_it_was_begun(memory: AsyncMemory, unique: str) -> None:
    record = await memory.initialize_observational_memory(**begin(unique))
    await memory.update_active_observations(id=record.id, observations="a", token_count=5, last_observed_at=at(0))
    read = await newest(memory, unique)
    await memory.update_active_observations(id=record.id, observations="a\nb", token_count=8, last_observed_at=at(1))
    await memory.update_buffered_observations(id=record.id, chunk=chunk("c1"), last_buffered_at_time=at(3))
    await memory.create_reflection_generation(current_record=read, reflection="R", token_count=2)
    second = await newest(memory, unique)
    assert (second.active_observations, second.observation_token_count) == ("R\n\nb", 5)
    assert (cycles(second), second.last_buffered_at_time) == (["c1"], at(3))
    await memory.update_active_observations(id=second.id, observations="else", token_count=8, last_observed_at=at(2))
    with pytest.raises(ObservationsChanged):
        await memory.create_reflection_generation(current_record=second, reflection="R", token_count=2)
    await memory.update_buffered_reflection(
        id=second.id, reflection="S", token_count=1, input_token_count=1, reflected_observation_line_count=1
    )
    third = await memory.swap_buffered_reflection_to_active(current_record=second, token_count=1)
    assert (third.active_observations, cycles(third)) == ("S", ["c1"])
    history = await memory.get_observational_memory_history(thread_id=unique, resource_id="r")
    assert [cycles(one) for one in history] == [["c1"], [], []]


async def test_what_is_written_to_a_generation_with_a_successor_goes_to_the_newest_or_is_refused(
    memory: AsyncMemory, unique: str
) -> None:
    first = await memory.initialize_observational_memory(**begin(unique))
    await memory.create_reflection_generation(current_record=first, reflection="R", token_count=1)
    second = await newest(memory, unique)
    reflection: Any = {"reflection": "S", "token_count": 1}
    for call in (
        memory.update_active_observations(id=first.id, observations="lost", token_count=1, last_observed_at=at(0)),
        memory.update_buffered_reflection(
            id=first.id, input_token_count=1, reflected_observation_line_count=1, **reflection
        ),
        memory.create_reflection_generation(current_record=first, **reflection),
    ):
        with pytest.raises(ObservationalMemoryReplaced) as caught:
            await call
        assert (caught.value.record_id, caught.value.successor_id) == (first.id, second.id)
    await memory.update_buffered_observations(id=first.id, chunk=chunk("c1"))
    await memory.update_observational_memory_config(id=first.id, config={"late": True})
    await memory.set_pending_message_tokens(id=first.id, token_count=120)
    swapped = await memory.swap_buffered_to_active(id=first.id, **EVERYTHING)
    assert swapped.activated_cycle_ids == ["c1"]
    old, new = (await memory.get_observational_memory_history(thread_id=unique, resource_id="r"))[::-1]
    assert (new.active_observations.startswith("R\n\n"), new.active_observations.endswith("seen in c1")) == (True, True)
    assert (new.config, new.pending_message_tokens) == ({"late": True}, 20)
    assert (old.active_observations, old.config, old.pending_message_tokens, cycles(old)) == ("", {}, 0, [])


async def test_observations_are_replaced_only_where_they_are_what_is_expected(memory: AsyncMemory, unique: str) -> None:
    record = await memory.initialize_observational_memory(**begin(unique))
    update: dict[str, Any] = {"id": record.id, "token_count": 1, "last_observed_at": at(0)}
    await memory.update_active_observations(observations="a", expected_observations="", **update)
    with pytest.raises(ObservationsChanged) as caught:
        await memory.update_active_observations(observations="b", expected_observations="", **update)
    assert caught.value.record_id == record.id
    await memory.update_active_observations(observations="a\nb", expected_observations="a", **update)
    stored = await newest(memory, unique)
    assert (stored.active_observations, stored.total_tokens_observed) == ("a\nb", 2)


@pytest.mark.needs_functions("the npm package's functions keep no list of activated cycles")
async def test_a_cycle_that_was_activated_is_not_observed_again(memory: AsyncMemory, unique: str) -> None:
    record = await memory.initialize_observational_memory(**begin(unique))
    await memory.update_buffered_observations(id=record.id, chunk=chunk("c1"))
    await memory.update_buffered_observations(id=record.id, chunk=chunk("c2"))
    await memory.swap_buffered_to_active(id=record.id, **EVERYTHING)
    await memory.update_buffered_observations(id=record.id, chunk=chunk("c1"))
    await memory.create_reflection_generation(current_record=record, reflection="R", token_count=1)
    await memory.update_buffered_observations(id=record.id, chunk=chunk("c2"))
    await memory.update_buffered_observations(id=record.id, chunk=chunk("c3"))
    assert cycles(await newest(memory, unique)) == ["c3"]


async def test_memory_ends_with_its_thread_and_is_no_other_tenants(memory: AsyncMemory, unique: str) -> None:
    for owner, other in (("r", "s"), ("s", "r")):
        await memory.save_thread(thread=thread(unique, owner))
        record = await memory.initialize_observational_memory(**begin(unique, owner))
        assert (record.active_observations, record.generation_count) == ("", 0)
        await memory.update_active_observations(id=record.id, observations="mine", token_count=1, last_observed_at=at(0))
        await memory.create_reflection_generation(current_record=record, reflection="mine", token_count=1)
        await memory.delete_thread(thread_id=unique)
        for resource_id in (owner, other):
            assert await memory.get_observational_memory_history(thread_id=unique, resource_id=resource_id) == []
        with pytest.raises(ObservationalMemoryNotFound):
            await memory.create_reflection_generation(current_record=record, reflection="late", token_count=1)
    await memory.save_thread(thread=thread(unique, "r"))
    record = await memory.initialize_observational_memory(**begin(unique))
    await memory.update_thread_resource_id(thread_id=unique, resource_id="s")
    moved = await memory.get_observational_memory(thread_id=unique, resource_id="s")
    assert moved is not None
    assert moved.id == record.id
    assert await memory.get_observational_memory(thread_id=unique, resource_id="r") is None


@pytest.mark.parametrize("kind", ["sqlite", "host"])
@pytest.mark.parametrize("owner", [None, "r"])
def test_a_thread_with_more_observed_than_one_commit_deletes_is_deleted(
    open_deployment: Any, kind: str, unique: str, owner: str | None
) -> None:
    memory = ConvexStore(id="test", deployment=open_deployment(kind)).memory
    memory.save_thread(thread={"id": unique, "resource_id": "r"})
    record = memory.initialize_observational_memory(thread_id=unique, resource_id="r", scope="thread", config={})
    for _ in range(10):
        record = memory.create_reflection_generation(current_record=record, reflection="x" * 900_000, token_count=1)
    memory.delete_thread(thread_id=unique, resource_id=owner)
    assert memory.get_thread_by_id(thread_id=unique) is None
    assert memory.get_observational_memory_history(thread_id=unique, resource_id="r", limit=None) == []


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_clearing_cut_off_leaves_the_newest_generation_in_place(open_deployment: Any, kind: str) -> None:
    deployment: Deployment = open_deployment(kind)
    memory = ConvexStore(id="test", deployment=deployment).memory
    for number in range(12):
        record = {"id": f"g{number}", "thread_id": "t", "resource_id": "r", "scope": "thread", "generation_count": number}
        memory.insert_observational_memory_record(record={**record, "active_observations": "x" * 900_000})
    with cut_off(deployment, after=2), pytest.raises(KeyboardInterrupt):
        memory.clear_observational_memory(thread_id="t", resource_id="r")
    found = memory.get_observational_memory(thread_id="t", resource_id="r")
    assert found is not None
    assert found.id == "g11"
    memory.clear_observational_memory(thread_id="t", resource_id="r")
    with Session(deployment) as session:
        assert session.count(ObservationalMemory.query().full_scan()) == 0


# -- claims --------------------------------------------------------------------------------------------------------

FLAGS = {
    "set_observing_flag": "is_observing",
    "set_reflecting_flag": "is_reflecting",
    "set_buffering_observation_flag": "is_buffering",
    "set_buffering_reflection_flag": "is_buffering",
}


@pytest.mark.parametrize("method", FLAGS)
async def test_a_claim_is_taken_where_it_is_free_and_ends(
    memory: AsyncMemory, unique: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await memory.initialize_observational_memory(**begin(unique))

    async def claim(value: bool, **given: Any) -> bool:
        done: bool = await getattr(memory, method)(id=record.id, **{FLAGS[method]: value}, **given)
        return done

    assert [await claim(True), await claim(True)] == [True, False]
    assert [await claim(False), await claim(True), await claim(False)] == [True, True, True]
    assert await claim(True)
    held = (await newest(memory, unique)).updated_at
    monkeypatch.setattr("mastra_convex.memory.observational.now", lambda: held + timedelta(minutes=9))
    assert not await claim(True)
    monkeypatch.setattr("mastra_convex.memory.observational.now", lambda: held + timedelta(minutes=11))
    assert [await claim(True), await claim(True)] == [True, False]
    for bad in ({"owner": ""}, {"lease_ms": -1}, {"lease_ms": float("nan")}):
        with pytest.raises(InvalidArgument):
            await claim(True, **bad)


@pytest.mark.needs_functions("the npm package's functions keep no owner of a claim")
async def test_an_owner_renews_its_claim_and_gives_back_no_other(
    memory: AsyncMemory, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await memory.initialize_observational_memory(**begin(unique))

    async def claim(owner: str, value: bool, **given: Any) -> bool:
        return await memory.set_observing_flag(id=record.id, is_observing=value, owner=owner, **given)

    assert [await claim("a", True, lease_ms=1_000), await claim("b", True), await claim("b", False)] == [True, False, False]
    assert await claim("a", True, lease_ms=120_000)
    start = (await newest(memory, unique)).updated_at
    monkeypatch.setattr("mastra_convex.memory.observational.now", lambda: start + timedelta(minutes=1))
    assert not await claim("b", True)
    monkeypatch.setattr("mastra_convex.memory.observational.now", lambda: start + timedelta(minutes=3))
    assert [await claim("b", True), await claim("a", False), await claim("a", True)] == [True, False, False]
    # a reflection changes nothing about who observes
    await memory.create_reflection_generation(current_record=record, reflection="R", token_count=1)
    assert (await newest(memory, unique)).is_observing
    assert [await claim("a", True), await claim("b", False), await claim("a", True)] == [False, True, True]


async def test_a_reflection_on_a_generation_with_a_successor_is_claimed_by_nobody(memory: AsyncMemory, unique: str) -> None:
    record = await memory.initialize_observational_memory(**begin(unique))
    assert await memory.set_reflecting_flag(id=record.id, is_reflecting=True)
    await memory.create_reflection_generation(current_record=record, reflection="R", token_count=1)
    assert not await memory.set_reflecting_flag(id=record.id, is_reflecting=True)
    assert await memory.set_reflecting_flag(id=record.id, is_reflecting=False)
    assert [
        one.is_reflecting for one in await memory.get_observational_memory_history(thread_id=unique, resource_id="r")
    ] == [
        False,
        False,
    ]


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_of_many_that_claim_an_observation_one_does(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    memory = ConvexStore(id="test", deployment=open_deployment(kind)).memory
    record = memory.initialize_observational_memory(**begin(unique))
    claimed = at_once(8, lambda number: memory.set_observing_flag(id=record.id, is_observing=True, owner=f"o{number}"))
    assert claimed.count(True) == 1


# -- contents ------------------------------------------------------------------------------------------------------


async def test_more_ids_than_an_array_holds_are_kept_or_refused(
    memory: AsyncMemory, unique: str, request: pytest.FixtureRequest
) -> None:
    record = await memory.initialize_observational_memory(**begin(unique))
    update: dict[str, Any] = {"id": record.id, "token_count": 1, "last_observed_at": at(0)}
    ids = [f"message {number}" for number in range(10_000)]
    if "foreign" in request.node.name:
        with pytest.raises(InvalidArgument) as caught:
            await memory.update_active_observations(observations="b", observed_message_ids=ids, **update)
        assert caught.value.argument.endswith("observed_message_ids")
        assert (await newest(memory, unique)).active_observations == ""
        return
    for some in (ids, ids[:3], [], ids[:8_192]):
        await memory.update_active_observations(observations="a", observed_message_ids=some, **update)
        assert (await newest(memory, unique)).observed_message_ids == some


async def test_a_configuration_of_another_shape_is_not_lost(
    memory: AsyncMemory, deployment: Deployment, unique: str
) -> None:
    for number, config in enumerate([[1, 2], "text", 5]):
        record = await memory.initialize_observational_memory(**begin(f"{unique}{number}"))
        with Session(deployment) as session:
            row = session.get_one(ObservationalMemory, record.id)
            row.config = config
            session.commit()
        with pytest.raises(ObservationalMemoryInvalid):
            await memory.update_observational_memory_config(id=record.id, config={"a": 1})
        assert (await newest(memory, f"{unique}{number}")).config == config


async def test_keys_that_javascript_takes_for_something_else_are_kept(memory: AsyncMemory, unique: str) -> None:
    record = await memory.initialize_observational_memory(**begin(unique))
    await memory.update_observational_memory_config(id=record.id, config={"__proto__": {"a": 1}, "x": {"y": 1}})
    await memory.update_observational_memory_config(id=record.id, config={"x": {"__proto__": {"b": 2}}})
    expected = {"__proto__": {"a": 1}, "x": {"y": 1, "__proto__": {"b": 2}}}
    assert (await newest(memory, unique)).config == expected
