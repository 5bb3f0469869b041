"""Writers whose clocks are behind: no time of a record is set back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from convexorm import Deployment, Session
from mastra_convex import AsyncConvexStore, AsyncMemory, ConvexStore, Resource, WorkflowSnapshot
from tests.mastra.support import at, at_once, message, thread

AHEAD = datetime(2126, 1, 1, tzinfo=UTC)
"""What a clock a hundred years ahead has written: the test's own is behind."""


@pytest.mark.parametrize("owners", ["contract", "strict"])
async def test_no_change_sets_a_thread_back(deployment: Deployment, unique: str, owners: Any) -> None:
    memory = AsyncConvexStore(id="test", deployment=deployment, owners=owners).memory
    await memory.save_thread(thread={**thread(unique, "r"), "updated_at": AHEAD})
    await memory.save_thread(thread=thread(f"{unique}b", "r"))

    async def updated() -> datetime:
        found = await memory.get_thread_by_id(thread_id=unique)
        assert found is not None
        return found.updated_at

    before = await updated()
    for change in (
        lambda: memory.save_messages(messages=[message(f"{unique}m{n}", unique, "r") for n in range(3)]),
        lambda: memory.update_messages(messages=[{"id": f"{unique}m0", "content": {"metadata": {"a": 1}}}]),
        lambda: memory.delete_messages(message_ids=[f"{unique}m1"]),
        lambda: memory.update_thread(id=unique, title="new", metadata={"a": 1}),
        lambda: memory.update_thread_metadata(id=unique, update=lambda _: {"b": 2}),
        lambda: memory.save_thread(thread={"id": unique, "resource_id": "r"}),
        lambda: memory.save_thread(thread=thread(unique, "r", seconds=5, title="older")),
    ):
        await change()
        after = await updated()
        assert after >= before
        before = after
    assert (await memory.get_thread_by_id(thread_id=unique)).title == "older"  # type: ignore[union-attr]
    listed = await memory.list_threads(filter={"resource_id": "r"}, order_by={"field": "updated_at"}, per_page=False)
    assert [one.id for one in listed.threads if one.id.startswith(unique)] == [unique, f"{unique}b"]


async def test_no_change_sets_a_resource_back(memory: AsyncMemory, unique: str) -> None:
    await memory.save_resource(resource={"id": unique, "updated_at": AHEAD})
    changed = await memory.update_resource(resource_id=unique, working_memory="likes figs")
    await memory.save_resource(resource=Resource(id=unique, created_at=at(0), updated_at=at(1)))
    found = await memory.get_resource_by_id(resource_id=unique)
    assert found is not None
    assert AHEAD < changed.updated_at <= found.updated_at
    assert (found.working_memory, found.created_at) == (None, at(0))


async def test_no_change_sets_a_run_back(store: AsyncConvexStore, unique: str, request: pytest.FixtureRequest) -> None:
    run: dict[str, Any] = {"workflow_name": "w", "run_id": unique}
    await store.workflows.persist_workflow_snapshot(**run, snapshot={"context": {}}, updated_at=AHEAD, resource_id="r")
    await store.workflows.persist_workflow_snapshot(**run, snapshot={"context": {}, "n": 1}, updated_at=at(1))
    await store.workflows.persist_workflow_snapshot(**run, snapshot={"context": {}, "n": 2})
    found = await store.workflows.get_workflow_run_by_id(**run)
    assert found is not None
    assert (found.updated_at, found.snapshot["n"], found.resource_id) == (AHEAD, 2, "r")
    if "foreign" in request.node.name:
        return  # the npm package's own functions set their server's time when they merge
    await store.workflows.update_workflow_results(**run, step_id="s", result={"status": "success"})
    await store.workflows.update_workflow_state(**run, opts={"status": "success"})
    found = await store.workflows.get_workflow_run_by_id(**run)
    assert found is not None
    assert found.updated_at > AHEAD


async def test_a_run_of_the_last_instant_there_is_goes_on(store: AsyncConvexStore, unique: str) -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    run: dict[str, Any] = {"workflow_name": "w", "run_id": unique}
    await store.workflows.persist_workflow_snapshot(**run, snapshot={"context": {}}, created_at=last, updated_at=last)
    await store.workflows.update_workflow_results(**run, step_id="s", result={"status": "success"})
    await store.workflows.update_workflow_state(**run, opts={"status": "success"})
    found = await store.workflows.get_workflow_run_by_id(**run)
    assert found is not None
    assert (found.created_at, found.snapshot["status"], found.snapshot["context"]) == (
        *(last, "success"),
        {"s": {"status": "success"}},
    )
    listed = await store.workflows.list_workflow_runs(from_date=last, to_date=last)
    assert unique in [one.run_id for one in listed.runs]


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_of_writers_at_one_moment_the_latest_time_stays(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    deployment = open_deployment(kind)
    store = ConvexStore(id="test", deployment=deployment)

    def write(number: int) -> None:
        moment = AHEAD - timedelta(seconds=number)
        store.memory.save_thread(thread={**thread(unique, "r"), "updated_at": moment})
        store.workflows.persist_workflow_snapshot(workflow_name="w", run_id=unique, snapshot={}, updated_at=moment)

    at_once(8, write)
    found = store.memory.get_thread_by_id(thread_id=unique)
    with Session(deployment) as session:
        run = session.get_one(WorkflowSnapshot, ("w", unique))
    assert found is not None
    assert found.updated_at == run.updated_at == AHEAD


async def test_no_change_sets_a_configuration_back(store: AsyncConvexStore, unique: str) -> None:
    channels = store.channels
    for moment in (AHEAD, at(1)):
        await channels.save_config(config={"platform": unique, "data": {"at": str(moment)}, "updated_at": moment})
    config = await channels.get_config(platform=unique)
    assert config is not None
    assert (config.updated_at, config.data) == (AHEAD, {"at": str(at(1))})


async def test_a_reflection_does_not_set_a_memory_back(memory: AsyncMemory, unique: str) -> None:
    given = {"id": unique, "thread_id": unique, "resource_id": "r", "scope": "thread", "updated_at": AHEAD}
    await memory.insert_observational_memory_record(record=given)
    first = await memory.get_observational_memory(thread_id=unique, resource_id="r")
    assert first is not None
    following = await memory.create_reflection_generation(current_record=first, reflection="o", token_count=1)
    found = await memory.get_observational_memory(thread_id=unique, resource_id="r")
    assert found is not None
    assert (found.id, found.updated_at) == (following.id, following.updated_at)
    assert found.updated_at >= AHEAD


async def test_what_nothing_is_later_than_is_changed_like_anything_else(
    store: AsyncConvexStore, unique: str, request: pytest.FixtureRequest
) -> None:
    last, memory = datetime.max.replace(microsecond=999_000, tzinfo=UTC), store.memory
    await memory.save_thread(thread=thread(unique, "r", updated_at=last, created_at=last))
    await memory.save_messages(messages=[message(unique, unique, "r", created_at=last)])
    await memory.update_thread(id=unique, title="new")
    await memory.update_thread_metadata(id=unique, update=lambda _: {"a": 1})
    await memory.save_thread(thread=thread(unique, "r", title="newest"))
    await memory.save_resource(resource={"id": unique, "updated_at": last})
    resource = await memory.update_resource(resource_id=unique, working_memory="likes figs")
    assert (resource.working_memory, resource.updated_at) == ("likes figs", last)
    given = {
        "id": unique,
        "thread_id": unique,
        "resource_id": "r",
        "scope": "thread",
        "updated_at": last,
        "created_at": last,
    }
    await memory.insert_observational_memory_record(record=given)
    await memory.insert_observational_memory_record(record={**given, "is_observing": True})
    await memory.update_active_observations(id=unique, observations="o", token_count=1, last_observed_at=last)
    assert not await memory.set_observing_flag(id=unique, is_observing=True)
    assert await memory.set_reflecting_flag(id=unique, is_reflecting=True, lease_ms=2**53)
    await memory.set_pending_message_tokens(id=unique, token_count=7)
    moved = await memory.update_thread_resource_id(thread_id=unique, resource_id="s")
    assert (moved.resource_id, moved.title, moved.updated_at) == ("s", "newest", last)
    record = await memory.get_observational_memory(thread_id=unique, resource_id="s")
    assert record is not None
    assert (record.active_observations, record.pending_message_tokens, record.updated_at) == ("o", 7, last)
    run: dict[str, Any] = {"workflow_name": "w", "run_id": unique}
    await store.workflows.persist_workflow_snapshot(**run, snapshot={"context": {}}, updated_at=last)
    await store.workflows.update_workflow_state(**run, opts={"status": "success"})
    found = await store.workflows.get_workflow_run_by_id(**run)
    assert found is not None
    assert found.updated_at == last or "foreign" in request.node.name
