"""Watches over the contract's records: what the method of the same name answers, again whenever that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from convexorm import Deployment, DeploymentError
from mastra_convex import AsyncConvexStore, ConvexStore, InvalidArgument
from tests.conftest import KINDS, Host
from tests.mastra.support import at, message, thread

PATIENCE = 60.0


@pytest.fixture(params=KINDS)
def deployment(request: pytest.FixtureRequest, open_deployment: Callable[[str], Deployment]) -> Deployment:
    """Every kind but the npm package's functions, which tell nobody of changes."""
    return open_deployment(request.param)


@pytest.fixture
def plain(deployment: Deployment) -> ConvexStore:
    return ConvexStore(id="test", deployment=deployment)


def task(id: str, **attributes: Any) -> dict[str, Any]:
    told = {"tool_call_id": "c", "tool_name": "bake", "agent_id": "a", "run_id": "r", "status": "pending"}
    return {"id": id, **told, **attributes}


def test_messages_of_a_thread_are_followed(plain: ConvexStore, unique: str) -> None:
    one, two, other = f"{unique}1", f"{unique}2", f"{unique}3"
    memory = plain.memory
    memory.save_messages(messages=[message("b", unique, "r", 2), message("a", unique, "r", 1)])
    with memory.watch_messages(thread_id=unique) as live, memory.watch_messages(thread_id=unique, last=1) as newest:
        first = live.next(PATIENCE)
        assert [m.id for m in first.items] == [m.id for m in first.added] == ["a", "b"]
        assert [m.id for m in newest.next(PATIENCE).items] == ["b"]
        memory.save_messages(messages=[message("elsewhere", f"{unique}x", "r"), message(one, unique, "r", 0)])
        change = live.next(PATIENCE)
        assert [m.id for m in change.items] == [one, "a", "b"]
        assert [m.id for m in change.added] == [one]
        assert change.items[1:] == first.items, "the same instances"
        memory.update_messages(messages=[{"id": "b", "content": {"metadata": {"seen": True}}}])
        change = live.next(PATIENCE)
        assert [m.id for m in change.changed] == ["b"]
        assert change.items[2].content["metadata"] == {"seen": True}
        assert [m.content["metadata"] for m in newest.next(PATIENCE).changed] == [{"seen": True}]
        memory.delete_messages(message_ids=["a", "b", one, "elsewhere"])
        assert [m.id for m in live.next(PATIENCE).removed] == [one, "a", "b"]
        assert [m.id for m in newest.next(PATIENCE).removed] == ["b"]
        memory.save_messages(messages=[message(other, unique, "r", 5), message(two, unique, "r", 4)])
        assert [m.id for m in live.next(PATIENCE).items] == [two, other]
        assert [m.id for m in newest.next(PATIENCE).items] == [other]
    memory.delete_messages(message_ids=[two, other])


def test_messages_are_followed_as_they_are_listed(plain: ConvexStore, unique: str) -> None:
    memory = plain.memory
    ids = [f"{unique}-{number}" for number in range(6)]
    memory.save_messages(
        messages=[
            message(id, f"{unique}{number % 2}", f"r{number % 3}", number, metadata={"odd": number % 2 == 1})
            for number, id in enumerate(ids)
        ]
    )
    asked: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"thread_id": [f"{unique}0", f"{unique}1"]}, {}),
        ({"thread_id": [f"{unique}0", f"{unique}1"], "order_by": {"direction": "DESC"}}, {}),
        ({"thread_id": [f"{unique}0", f"{unique}1"], "resource_id": "r1"}, {}),
        ({"thread_id": f"{unique}1", "filter": {"metadata": {"odd": False}}}, {}),
        ({"thread_id": f"{unique}1", "filter": {"date_range": {"start": at(2)}}}, {}),
        ({"thread_id": [f"{unique}0", f"{unique}1"], "order_by": {"direction": "DESC"}}, {"last": 3}),
    ]
    for listed, more in asked:
        expected = [one.id for one in memory.list_messages(**listed, per_page=False).messages][: more.get("last")]
        with memory.watch_messages(**listed, **more) as live:
            assert [one.id for one in live.next(PATIENCE).items] == expected, listed
    with memory.watch_messages(thread_id=[f"{unique}0", f"{unique}1"], last=3) as live:
        assert [one.id for one in live.next(PATIENCE).items] == ids[3:]
    memory.delete_messages(message_ids=ids)


def test_a_thread_is_followed_by_its_owner_alone(plain: ConvexStore, unique: str) -> None:
    memory = plain.memory
    with memory.watch_thread(thread_id=unique) as live, memory.watch_thread(thread_id=unique, resource_id="ada") as hers:
        assert live.next(PATIENCE) is None
        assert hers.next(PATIENCE) is None
        memory.save_thread(thread=thread(unique, "bob"))
        found = live.next(PATIENCE)
        assert found is not None
        assert found.resource_id == "bob"
        memory.update_thread(id=unique, title="another")
        found = live.next(PATIENCE)
        assert found is not None
        assert found.title == "another"
        memory.update_thread_resource_id(thread_id=unique, resource_id="ada")
        found = hers.next(PATIENCE)
        assert found is not None, "and of what was bob's she was told nothing"
        assert found.title == "another"
        memory.delete_thread(thread_id=unique)
        assert hers.next(PATIENCE) is None


def test_a_run_is_followed(plain: ConvexStore, unique: str) -> None:
    workflows = plain.workflows
    with (
        workflows.watch_run(workflow_name="w", run_id=unique) as live,
        workflows.watch_run(run_id=unique) as newest,
    ):
        assert live.next(PATIENCE) is None
        assert newest.next(PATIENCE) is None
        workflows.persist_workflow_snapshot(workflow_name="w", run_id=unique, snapshot={"status": "running", "context": {}})
        for one in (live, newest):
            run = one.next(PATIENCE)
            assert run is not None
            assert run.snapshot["status"] == "running"
        workflows.persist_workflow_snapshot(
            workflow_name="other", run_id=unique, snapshot={"status": "waiting"}, created_at=at(10**9)
        )
        run = newest.next(PATIENCE)
        assert run is not None
        assert run.workflow_name == "other"
        workflows.update_workflow_results(workflow_name="w", run_id=unique, step_id="s", result={"output": 1})
        run = live.next(PATIENCE)
        assert run == workflows.get_workflow_run_by_id(run_id=unique, workflow_name="w")
        for name in ("w", "other"):
            workflows.delete_workflow_run_by_id(run_id=unique, workflow_name=name)
        assert live.next(PATIENCE) is None


def test_tasks_are_followed_as_they_are_listed(plain: ConvexStore, unique: str) -> None:
    tasks = plain.background_tasks
    for number in range(6):
        status = ("pending", "running", "completed")[number % 3]
        tasks.create_task(
            task=task(
                f"{unique}-{number}", agent_id=unique, status=status, created_at=at(number), started_at=at(9 - number)
            )
        )
    filters: list[dict[str, Any]] = [
        {"agent_id": unique},
        {"agent_id": unique, "status": ["pending", "running"]},
        {"agent_id": unique, "order_by": "started_at"},
        {"agent_id": unique, "order_direction": "desc", "per_page": 2, "page": 1},
        {"agent_id": unique, "order_by": "started_at", "per_page": 2},
        {"agent_id": unique, "status": ["running", "completed"], "order_by": "started_at", "per_page": 3, "page": 0},
    ]
    for filter in filters:
        with tasks.watch_tasks(filter=filter) as live:  # type: ignore[arg-type]
            listed = tasks.list_tasks(filter=filter)  # type: ignore[arg-type]
            assert [one.id for one in live.next(PATIENCE).items] == [one.id for one in listed.tasks], filter
    with tasks.watch_tasks(filter={"agent_id": unique, "status": ["pending", "running"]}) as live:
        live.next(PATIENCE)
        tasks.update_task(task_id=f"{unique}-0", update={"status": "running"})
        change = live.next(PATIENCE)
        assert ([one.id for one in change.changed], change.added, change.removed) == ([f"{unique}-0"], [], [])
        tasks.update_task(task_id=f"{unique}-1", update={"status": "completed"})
        assert [one.id for one in live.next(PATIENCE).removed] == [f"{unique}-1"]
    tasks.delete_tasks(filter={"agent_id": unique})


async def test_awaited_watches_are_entered_alike(deployment: Deployment, unique: str) -> None:
    store = AsyncConvexStore(id="test", deployment=deployment)
    async with store.memory.watch_messages(thread_id=unique) as live:
        assert (await live.next(PATIENCE)).items == []
        saved = asyncio.ensure_future(store.memory.save_messages(messages=[message(unique, unique, "r")]))
        async for change in live:
            assert [one.id for one in change.added] == [unique]
            break
        await saved
    await store.memory.delete_messages(message_ids=[unique])


def test_a_list_that_a_user_has_emptied_does_not_change_what_comes_next(unique: str) -> None:
    with ConvexStore(id="test", deployment_url="memory:") as store:
        store.memory.save_messages(messages=[message("a", unique, "r", 1)])
        with store.memory.watch_messages(thread_id=unique) as live:
            live.next(PATIENCE).items.clear()
            store.memory.save_messages(messages=[message("b", unique, "r", 2)])
            change = live.next(PATIENCE)
            assert ([m.id for m in change.items], [m.id for m in change.added]) == (["a", "b"], ["b"])


WRONG: list[tuple[str, Callable[[ConvexStore], object]]] = [
    ("thread_id", lambda store: store.memory.watch_messages(thread_id="")),
    ("resource_id", lambda store: store.memory.watch_messages(thread_id="t", resource_id="")),
    ("last", lambda store: store.memory.watch_messages(thread_id="t", last=0)),
    ("last", lambda store: store.memory.watch_messages(thread_id="t", last=True)),
    ("thread_id", lambda store: store.memory.watch_thread(thread_id="")),
    ("resource_id", lambda store: store.memory.watch_thread(thread_id="t", resource_id="")),
    ("run_id", lambda store: store.workflows.watch_run(run_id="")),
    ("workflow_name", lambda store: store.workflows.watch_run(run_id="r", workflow_name="")),
    ("filter.status", lambda store: store.background_tasks.watch_tasks(filter={"status": []})),
    ("filter.status", lambda store: store.background_tasks.watch_tasks(filter={"status": "done"})),  # type: ignore[arg-type]
    ("filter.agent_id", lambda store: store.background_tasks.watch_tasks(filter={"agent_id": ""})),
]


@pytest.mark.parametrize(("argument", "call"), WRONG)
def test_what_cannot_be_watched_is_refused_at_once(argument: str, call: Callable[[ConvexStore], object]) -> None:
    with ConvexStore(id="test", deployment_url="memory:") as store, pytest.raises(InvalidArgument) as refused:
        call(store)
    assert refused.value.argument == argument


def test_the_npm_packages_functions_tell_nobody_of_changes(foreign_host: Host, unique: str) -> None:
    with ConvexStore(id="test", deployment_url=foreign_host.url, admin_auth_token=foreign_host.key) as store:
        with (
            pytest.raises(DeploymentError, match="deploy"),
            store.memory.watch_thread(thread_id=unique) as live,
        ):
            live.next(PATIENCE)
        assert store.memory.get_thread_by_id(thread_id=unique) is None
        with (
            pytest.raises(DeploymentError, match="no live queries"),
            store.memory.watch_thread(thread_id=unique),
        ):
            raise AssertionError
