"""Background tasks: stored whole, updated under a condition, listed by every filter, order and page, and cleaned up."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from convexorm import Deployment, LimitExceeded, Session, connect
from convexorm.deployments import Port
from convexorm.requests import Commit
from mastra_convex import (
    AsyncBackgroundTasks,
    AsyncConvexStore,
    BackgroundTask,
    BackgroundTasks,
    ConvexStore,
    InvalidArgument,
    TaskFilter,
)
from mastra_convex.domain import Backend
from mastra_convex.entities import TaskStatus
from tests.conftest import ADMIN_KEY, ROOT, Host, start_host, stop_host
from tests.mastra.support import at, at_once

STATUSES: tuple[TaskStatus, ...] = get_args(TaskStatus)
PAYLOADS = [
    {"$schema": "s", "日本語": [1, None, {"": True}]},
    '{"a":1}',
    "null",
    "",
    0,
    False,
    [],
    1.5,
    {"message": "failed", "stack": "at x"},
]


@pytest.fixture
def tasks(store: AsyncConvexStore) -> AsyncBackgroundTasks:
    return store.background_tasks


def task(id: str, prefix: str = "", seconds: float = 0, **attributes: Any) -> dict[str, Any]:
    """A task of the tool, agent and run of a prefix, created at an instant."""
    return {
        "id": id,
        "status": "pending",
        "tool_name": f"{prefix}tool",
        "tool_call_id": f"{id}call",
        "agent_id": f"{prefix}agent",
        "run_id": f"{prefix}run",
        "args": {"q": 1},
        "retry_count": 0,
        "max_retries": 3,
        "timeout_ms": 1_000,
        "created_at": at(seconds),
        **attributes,
    }


# -- creating and getting ------------------------------------------------------------------------------------------


async def test_a_created_task_is_got_whole(tasks: AsyncBackgroundTasks, unique: str) -> None:
    given = task(
        unique,
        status="suspended",
        thread_id="t",
        resource_id="r",
        result=[1],
        error={"message": "e"},
        suspend_payload={"$a": 1},
        retry_count=2,
        started_at=at(1),
        suspended_at=at(2),
        completed_at=at(3),
    )
    await tasks.create_task(task=given)
    found = await tasks.get_task(task_id=unique)
    assert found is not None
    assert {name: getattr(found, name) for name in given} == given


async def test_what_is_not_given_has_mastras_defaults(tasks: AsyncBackgroundTasks, unique: str) -> None:
    required = ("id", "status", "tool_name", "tool_call_id", "agent_id", "run_id")
    await tasks.create_task(task={name: value for name, value in task(unique).items() if name in required})
    found = await tasks.get_task(task_id=unique)
    assert found is not None
    assert (found.args, found.retry_count, found.max_retries, found.timeout_ms) == ({}, 0, 0, 300_000)
    assert found.created_at > at(0)
    for name in ("thread_id", "resource_id", "result", "error", "suspend_payload", "started_at", "completed_at"):
        assert getattr(found, name) is None


async def test_a_missing_task_is_none(tasks: AsyncBackgroundTasks, unique: str) -> None:
    assert await tasks.get_task(task_id=unique) is None


async def test_creating_a_task_again_replaces_it_whole(tasks: AsyncBackgroundTasks, unique: str) -> None:
    await tasks.create_task(task=task(unique, thread_id="t", result=1))
    await tasks.create_task(task=BackgroundTask(**task(unique, status="running")))
    found = await tasks.get_task(task_id=unique)
    assert found is not None
    assert (found.status, found.thread_id, found.result) == ("running", None, None)


@pytest.mark.parametrize("payload", PAYLOADS, ids=repr)
async def test_payloads_come_back_as_they_were(tasks: AsyncBackgroundTasks, unique: str, payload: Any) -> None:
    await tasks.create_task(task=task(unique, args={"payload": payload}, result=payload, error=payload))
    await tasks.update_task(task_id=unique, update={"suspend_payload": payload})
    found = await tasks.get_task(task_id=unique)
    assert found is not None
    for one in (found.args["payload"], found.result, found.error, found.suspend_payload):
        assert (one, type(one)) == (payload, type(payload))


async def test_rows_hold_json_text_and_nulls(tasks: AsyncBackgroundTasks, deployment: Deployment, unique: str) -> None:
    await tasks.create_task(task=task(unique, result={"$a": "é"}))
    with Session(deployment) as session:
        found = session.get(BackgroundTask, unique)
        assert found is not None
        document = found._state.document
    assert document is not None
    assert (document["args"], document["result"]) == ('{"q":1}', '{"$a":"é"}')
    for name in ("thread_id", "resource_id", "error", "suspend_payload", "startedAt", "suspendedAt", "completedAt"):
        assert document[name] is None
    assert document["createdAt"] == "2024-05-01T12:00:00.000Z"


# -- updating ------------------------------------------------------------------------------------------------------


async def test_an_update_changes_what_is_given_and_none_clears(tasks: AsyncBackgroundTasks, unique: str) -> None:
    await tasks.create_task(task=task(unique, suspend_payload={"a": 1}, suspended_at=at(5), result=1))
    assert await tasks.update_task(
        task_id=unique,
        update={"status": "running", "started_at": at(6), "suspended_at": None, "suspend_payload": None, "retry_count": 1},
    )
    found = await tasks.get_task(task_id=unique)
    assert found is not None
    assert (found.status, found.started_at, found.suspended_at, found.suspend_payload) == ("running", at(6), None, None)
    assert (found.retry_count, found.result, found.created_at) == (1, 1, at(0))


async def test_updating_a_missing_task_is_false(tasks: AsyncBackgroundTasks, unique: str) -> None:
    assert await tasks.update_task(task_id=unique, update={"status": "running"}) is False
    assert await tasks.update_task(task_id=unique, update={}) is False
    assert await tasks.get_task(task_id=unique) is None


async def test_an_update_that_expects_another_status_changes_nothing(tasks: AsyncBackgroundTasks, unique: str) -> None:
    await tasks.create_task(task=task(unique, result="before"))
    expected: Any
    for expected, done in (("running", False), ("pending", True), ("pending", False), (None, True)):
        earlier = await tasks.get_task(task_id=unique)
        result = f"{expected} {done}"
        update: Any = {"status": "running", "result": result}
        assert await tasks.update_task(task_id=unique, update=update, options={"expected_status": expected}) is done
        found = await tasks.get_task(task_id=unique)
        assert found is not None
        assert earlier is not None
        assert (found.status, found.result) == (("running", result) if done else (earlier.status, earlier.result))


async def test_a_task_given_to_another_worker_is_not_completed_by_the_first(
    tasks: AsyncBackgroundTasks, unique: str
) -> None:
    await tasks.create_task(task=task(unique, status="pending"))

    async def claim(retries: int, seconds: float) -> bool:
        update: Any = {"status": "running", "started_at": at(seconds), "retry_count": retries}
        options: Any = {"expected_status": "pending", "expected_started_at": None}
        return await tasks.update_task(task_id=unique, update=update, options=options)

    async def complete(result: str, **expected: Any) -> bool:
        options: Any = {"expected_status": "running", **expected}
        return await tasks.update_task(task_id=unique, update={"status": "completed", "result": result}, options=options)

    assert [await claim(0, 1), await claim(0, 2)] == [True, False]
    recovered: Any = {"status": "pending", "started_at": None, "retry_count": 1}
    lost: Any = {"expected_status": "running", "expected_started_at": at(1), "expected_retry_count": 0}
    assert await tasks.update_task(task_id=unique, update=recovered, options=lost)
    assert not await tasks.update_task(task_id=unique, update=recovered, options=lost)
    assert await claim(1, 3)
    assert not await complete("first", expected_started_at=at(1))
    assert not await complete("first", expected_retry_count=0)
    assert not await tasks.update_task(task_id=unique, update={}, options={"expected_started_at": at(1)})
    assert await complete("second", expected_started_at=at(3), expected_retry_count=1)
    found = await tasks.get_task(task_id=unique)
    assert found is not None
    assert (found.status, found.result, found.retry_count) == ("completed", "second", 1)


async def test_an_empty_update_only_says_whether_it_would_apply(tasks: AsyncBackgroundTasks, unique: str) -> None:
    await tasks.create_task(task=task(unique))
    assert await tasks.update_task(task_id=unique, update={}) is True
    assert await tasks.update_task(task_id=unique, update={}, options={"expected_status": "pending"}) is True
    assert await tasks.update_task(task_id=unique, update={}, options={"expected_status": "running"}) is False


@pytest.mark.parametrize("kind", ["memory", "sqlite", "host"])
def test_of_fifty_threads_that_expect_a_status_one_changes_it(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    tasks = ConvexStore(id="test", deployment=open_deployment(kind)).background_tasks
    tasks.create_task(task=task(unique))

    def start(number: int) -> bool:
        update: Any = {"status": "running", "result": number}
        return tasks.update_task(task_id=unique, update=update, options={"expected_status": "pending"})

    started = at_once(50, start)
    assert sorted(started) == [False] * 49 + [True]
    found = tasks.get_task(task_id=unique)
    assert found is not None
    assert found.result == started.index(True)


def _starts(url: str, count: int) -> list[int]:
    """Take every pending task, and say which of them this process was given."""
    with connect(url) as deployment:
        tasks = ConvexStore(id="test", deployment=deployment).background_tasks
        return [
            number
            for number in range(count)
            if tasks.update_task(task_id=f"t{number}", update={"status": "running"}, options={"expected_status": "pending"})
        ]


def test_processes_that_take_the_same_tasks_get_each_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tasks.db'}"
    with connect(url) as deployment:
        tasks = ConvexStore(id="test", deployment=deployment).background_tasks
        for number in range(50):
            tasks.create_task(task=task(f"t{number}"))
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        taken = pool.starmap(_starts, [(url, 50)] * 4)
    assert sorted(number for one in taken for number in one) == list(range(50))


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_concurrent_updates_of_different_attributes_are_all_kept(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    tasks = ConvexStore(id="test", deployment=open_deployment(kind)).background_tasks
    tasks.create_task(task=task(unique))
    updates: list[Any] = [
        {"result": 1},
        {"error": {"message": "m"}},
        {"suspend_payload": [2]},
        {"retry_count": 3},
        {"max_retries": 4},
        {"timeout_ms": 5},
        {"started_at": at(6)},
        {"completed_at": at(7)},
    ]
    assert all(at_once(len(updates), lambda number: tasks.update_task(task_id=unique, update=updates[number])))
    found = tasks.get_task(task_id=unique)
    assert found is not None
    for update in updates:
        assert {name: getattr(found, name) for name in update} == update


# -- listing -------------------------------------------------------------------------------------------------------


async def _create(tasks: AsyncBackgroundTasks, unique: str) -> list[dict[str, Any]]:
    """Twenty tasks whose attributes and dates have every mixture, of two agents, threads, resources, runs and tools."""
    rows = []
    for number in range(20):
        started = None if number % 3 == 0 else at(100 - number)
        completed = None if number % 4 else at(50 + (number * 7) % 20)
        rows.append(
            task(
                f"{unique}{number:02}",
                unique,
                seconds=(number * 13) % 20 // 2,  # two by two at the same instant
                status=STATUSES[number % 7],
                tool_name=f"{unique}tool{number % 2}",
                agent_id=f"{unique}agent{number // 10}",
                run_id=f"{unique}run{number % 5}",
                tool_call_id=f"{unique}call{number % 6}",
                thread_id=None if number == 3 else f"{unique}thread{number % 2}",
                resource_id=None if number == 4 else unique,
                started_at=started,
                suspended_at=None if number % 2 else at(number),
                completed_at=completed,
            )
        )
    for row in rows:
        await tasks.create_task(task=row)
    return rows


def _expected(rows: list[dict[str, Any]], filter: dict[str, Any]) -> list[str]:
    """What the contract says a filter matches, in order, worked out the long way."""
    statuses = filter.get("status")
    if isinstance(statuses, str):
        statuses = [statuses]
    ids = {name: filter[name] for name in filter if name.endswith("_id") or name == "tool_name"}
    by, start, end = filter.get("date_filter_by", "created_at"), filter.get("from_date"), filter.get("to_date")
    found = [
        (number, row)
        for number, row in enumerate(rows)
        if (statuses is None or row["status"] in statuses)
        and all(row[name] == value for name, value in ids.items())
        and (start is None or (row[by] is not None and row[by] >= start))
        and (end is None or (row[by] is not None and row[by] < end))
    ]
    order = filter.get("order_by", "created_at")
    found.sort(key=lambda one: (one[1][order] is not None, one[1][order] or 0, one[0]))
    if filter.get("order_direction") == "desc":
        found.reverse()
    return [row["id"] for _, row in found]


async def test_every_filter_order_and_page_finds_what_the_contract_says(tasks: AsyncBackgroundTasks, unique: str) -> None:
    rows = await _create(tasks, unique)
    ids: list[dict[str, Any]] = [
        {"resource_id": unique},
        {"agent_id": f"{unique}agent1"},
        {"thread_id": f"{unique}thread1", "tool_name": f"{unique}tool1"},
        {"tool_name": f"{unique}tool0"},
        {"run_id": f"{unique}run2"},
        {"tool_call_id": f"{unique}call3", "agent_id": f"{unique}agent0"},
        {"agent_id": f"{unique}none"},
    ]
    statuses: list[dict[str, Any]] = [
        {},
        {"status": "running"},
        {"status": ["completed", "pending", "completed"]},
        {"status": list(STATUSES)},
    ]
    dates: list[dict[str, Any]] = [
        {},
        {"from_date": at(2), "to_date": at(7)},
        {"to_date": at(92), "date_filter_by": "started_at"},
        {"from_date": at(51), "date_filter_by": "completed_at"},
    ]
    orders: list[dict[str, Any]] = [
        {},
        {"order_direction": "desc"},
        {"order_by": "started_at"},
        {"order_by": "completed_at", "order_direction": "desc"},
        {"order_by": "suspended_at", "order_direction": "asc"},
    ]
    sizes = itertools.cycle([2, 3, 5, 20])
    for parts in itertools.product(ids, statuses, dates, orders):
        filter: Any = {key: value for part in parts for key, value in part.items()}
        expected = _expected(rows, filter)
        everything = await tasks.list_tasks(filter=filter)
        assert ([one.id for one in everything.tasks], everything.total) == (expected, len(expected)), filter
        size = next(sizes)
        page = len(expected) // size // 2
        part_of: Any = {**filter, "page": page, "per_page": size}
        part = await tasks.list_tasks(filter=part_of)
        offset = page * size
        assert [one.id for one in part.tasks] == expected[offset : offset + size], filter
        assert (part.total, part.page, part.per_page) == (len(expected), page, size)
        assert part.has_more is (len(expected) > offset + size)


@pytest.mark.parametrize("order", ["created_at", "completed_at"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
async def test_pages_neither_overlap_nor_skip(tasks: AsyncBackgroundTasks, unique: str, order: Any, direction: Any) -> None:
    rows = await _create(tasks, unique)
    wanted: TaskFilter = {"resource_id": unique, "order_by": order, "order_direction": direction, "per_page": 3}
    found: list[str] = []
    for number in itertools.count():
        part = await tasks.list_tasks(filter={**wanted, "page": number}, include_total=False)
        assert part.total is None
        found += [one.id for one in part.tasks]
        if not part.has_more:
            break
    assert found == _expected(rows, dict(wanted))


async def test_tasks_of_all_agents_are_listed(tasks: AsyncBackgroundTasks, unique: str) -> None:
    rows = await _create(tasks, unique)
    dates: TaskFilter = {"from_date": at(0), "to_date": at(10)}
    filter: Any
    for filter in ({}, dates, {**dates, "order_by": "started_at"}, {**dates, "per_page": 1_000}, {"status": STATUSES}):
        listed = await tasks.list_tasks(filter=filter)
        found = [one.id for one in listed.tasks if one.id.startswith(unique)]
        assert found == _expected(rows, {name: value for name, value in filter.items() if name != "per_page"})
    assert len((await tasks.list_tasks()).tasks) >= 20


async def test_parts_of_a_list(tasks: AsyncBackgroundTasks, unique: str) -> None:
    await _create(tasks, unique)
    filter: Any
    for filter, answered, more in (
        ({"per_page": 3}, 3, True),
        ({"per_page": 0}, 0, True),
        ({"per_page": False}, 19, False),
        ({"page": 5}, 19, False),
        ({"page": 5, "per_page": None}, 19, False),
        ({"page": None, "per_page": 4}, 4, True),
        ({"page": 6, "per_page": 3}, 1, False),
        ({"page": 7, "per_page": 3}, 0, False),
        ({"page": 2**40, "per_page": 3}, 0, False),
        ({"per_page": 0, "order_by": "started_at"}, 0, True),
    ):
        wanted: Any = {"resource_id": unique, **filter}
        part = await tasks.list_tasks(filter=wanted)
        assert (len(part.tasks), part.total, part.has_more) == (answered, 19, more), filter


async def test_no_statuses_match_nothing(tasks: AsyncBackgroundTasks, unique: str) -> None:
    await tasks.create_task(task=task(unique, unique))
    found = await tasks.list_tasks(filter={"status": [], "agent_id": f"{unique}agent"})
    assert (found.tasks, found.total, found.has_more) == ([], 0, False)


# -- counting ------------------------------------------------------------------------------------------------------


async def test_running_tasks_are_counted(tasks: AsyncBackgroundTasks, unique: str) -> None:
    before = await tasks.get_running_count()
    for number, status in enumerate(("running", "running", "pending", "completed")):
        await tasks.create_task(task=task(f"{unique}{number}", unique, status=status))
    await tasks.create_task(task=task(f"{unique}other", f"{unique}other", status="running"))
    assert await tasks.get_running_count() == before + 3
    assert await tasks.get_running_count_by_agent(agent_id=f"{unique}agent") == 2
    assert await tasks.get_running_count_by_agent(agent_id=f"{unique}none") == 0
    await tasks.update_task(task_id=f"{unique}0", update={"status": "failed"})
    assert await tasks.get_running_count_by_agent(agent_id=f"{unique}agent") == 1
    await tasks.delete_tasks(filter={"tool_name": f"{unique}tool"})
    await tasks.delete_task(task_id=f"{unique}other")


# -- deleting ------------------------------------------------------------------------------------------------------


async def test_a_deleted_task_is_gone(tasks: AsyncBackgroundTasks, unique: str) -> None:
    await tasks.create_task(task=task(unique))
    await tasks.delete_task(task_id=unique)
    await tasks.delete_task(task_id=unique)
    assert await tasks.get_task(task_id=unique) is None


@pytest.mark.parametrize(
    "filter",
    [
        {},
        {"status": []},
        {"status": [], "agent_id": "{}agent0"},
        {"order_by": "started_at", "order_direction": "desc"},
        {"page": 0, "per_page": 5},
        {"date_filter_by": "completed_at"},
        {"status": None, "agent_id": None, "from_date": None},
    ],
)
async def test_a_filter_that_names_no_tasks_deletes_none(tasks: AsyncBackgroundTasks, unique: str, filter: Any) -> None:
    await _create(tasks, unique)
    if filter.get("agent_id"):
        filter = {**filter, "agent_id": filter["agent_id"].format(unique)}
    await tasks.delete_tasks(filter=filter)
    assert (await tasks.list_tasks(filter={"agent_id": f"{unique}agent0"})).total == 10


@pytest.mark.parametrize(
    "filter",
    [
        {"agent_id": "{}agent0"},
        {"agent_id": "{}agent1", "status": ["completed", "failed"]},
        {"run_id": "{}run2", "status": "running"},
        {"thread_id": "{}thread0", "from_date": at(2), "to_date": at(7)},
        {"tool_name": "{}tool1", "to_date": at(60), "date_filter_by": "completed_at"},
        {"tool_call_id": "{}call1"},
        {"resource_id": "{}", "per_page": 3, "order_direction": "desc"},
        {"resource_id": "{}", "page": 1, "per_page": 4, "order_by": "started_at"},
        {"resource_id": "{}", "per_page": False, "page": 3},
        {"resource_id": "{}", "per_page": 0},
    ],
)
async def test_the_tasks_that_match_are_deleted_and_no_others(
    tasks: AsyncBackgroundTasks, unique: str, filter: Any
) -> None:
    rows = await _create(tasks, unique)
    filter = {name: value.format(unique) if isinstance(value, str) else value for name, value in filter.items()}
    doomed = _expected(rows, filter)
    if filter.get("per_page") is not None and filter["per_page"] is not False:
        start = filter.get("page", 0) * filter["per_page"]
        doomed = doomed[start : start + filter["per_page"]]
    await tasks.delete_tasks(filter=filter)
    left = (
        await tasks.list_tasks(filter={"agent_id": f"{unique}agent0"}),
        await tasks.list_tasks(filter={"agent_id": f"{unique}agent1"}),
    )
    assert sorted(one.id for part in left for one in part.tasks) == sorted({row["id"] for row in rows} - set(doomed))


def test_old_tasks_of_a_status_are_cleaned_up(open_deployment: Callable[[str], Deployment]) -> None:
    tasks = ConvexStore(id="test", deployment=open_deployment("sqlite")).background_tasks
    for number in range(10):
        tasks.create_task(task=task(f"t{number}", status="completed", completed_at=at(number) if number else None))
    tasks.create_task(task=task("failed", status="failed", completed_at=at(0)))
    tasks.delete_tasks(filter={"status": "completed", "to_date": at(5), "date_filter_by": "completed_at"})
    assert [one.id for one in tasks.list_tasks().tasks] == ["t0", "t5", "t6", "t7", "t8", "t9", "failed"]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_more_tasks_than_one_commit_deletes_are_deleted(open_deployment: Any, kind: str) -> None:
    deployment: Deployment = open_deployment(kind)
    tasks = ConvexStore(id="test", deployment=deployment).background_tasks
    with Session(deployment) as session:
        for start in range(0, 4_500, 1_500):
            rows = [task(f"t{start + n}", seconds=n, status=STATUSES[n % 2]) for n in range(1_500)]
            session.add_all([BackgroundTask(**row) for row in rows], unique=False, returning=False)
            session.commit()
    tasks.create_task(task=task("kept", status="failed"))
    tasks.delete_tasks(filter={"status": ["pending"], "per_page": 1_200})
    assert tasks.list_tasks(filter={"per_page": 0}).total == 3_301
    tasks.delete_tasks(filter={"status": list(STATUSES[:2])})
    assert [one.id for one in tasks.list_tasks().tasks] == ["kept"]


@pytest.mark.parametrize("page", [{}, {"per_page": 1_000}], ids=["whole", "page"])
@pytest.mark.parametrize("kind", ["memory", "sqlite", "host"])
def test_a_task_taken_up_meanwhile_is_not_deleted(open_deployment: Any, kind: str, unique: str, page: Any) -> None:
    tasks: BackgroundTasks = ConvexStore(id="test", deployment=open_deployment(kind)).background_tasks
    for number in range(40):
        tasks.create_task(task=task(f"{unique}{number}", unique))

    doomed: Any = {"agent_id": f"{unique}agent", "status": "pending", **page}

    def work(number: int) -> list[str]:
        """Delete what is pending; or take pending tasks up, one by one."""
        if number == 0:
            tasks.delete_tasks(filter=doomed)
            return []
        taken = []
        for one in range(39, -1, -1):
            id = f"{unique}{one}"
            if tasks.update_task(task_id=id, update={"status": "running"}, options={"expected_status": "pending"}):
                taken.append(id)
        return taken

    taken = at_once(2, work)[1]
    left = tasks.list_tasks(filter={"agent_id": f"{unique}agent", "order_direction": "desc"})
    assert [one.id for one in left.tasks] == taken


class _Interposed:
    """A port that lets somebody else act just before each commit."""

    def __init__(self, port: Port, before: Callable[[], object]) -> None:
        self._port = port
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def commit(self, commit: Commit) -> Any:
        self._before()
        return await self._port.commit(commit)


@pytest.mark.parametrize("page", [{}, {"per_page": 2}], ids=["whole", "page"])
def test_a_task_taken_up_just_before_the_deletion_stays(deployment: Deployment, unique: str, page: Any) -> None:
    tasks = ConvexStore(id="test", deployment=deployment).background_tasks
    for number in range(2):
        tasks.create_task(task=task(f"{unique}{number}", unique))
    port: Any = _Interposed(
        deployment.blocking, lambda: tasks.update_task(task_id=f"{unique}0", update={"status": "running"})
    )
    doomed: Any = {"agent_id": f"{unique}agent", "status": "pending", **page}
    BackgroundTasks(Backend(deployment, port, {})).delete_tasks(filter=doomed)
    assert [one.id for one in tasks.list_tasks(filter={"agent_id": f"{unique}agent"}).tasks] == [f"{unique}0"]


def test_clearing_removes_every_task(open_deployment: Callable[[str], Deployment]) -> None:
    tasks = ConvexStore(id="test", deployment=open_deployment("memory")).background_tasks
    tasks.create_task(task=task("t"))
    tasks.dangerously_clear_all()
    assert tasks.list_tasks().total == 0


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "argument"),
    [
        ({"id": ""}, "task.id"),
        ({"status": "done"}, "task.status"),
        ({"status": None}, "task.status"),
        ({"agent_id": ""}, "task.agent_id"),
        ({"run_id": 5}, "task.run_id"),
        ({"tool_name": None}, "task.tool_name"),
        ({"thread_id": 5}, "task.thread_id"),
        ({"args": [1]}, "task.args"),
        ({"args": {"a": object()}}, "task.args"),
        ({"result": float("inf")}, "task.result"),
        ({"retry_count": "1"}, "task.retry_count"),
        ({"timeout_ms": True}, "task.timeout_ms"),
        ({"created_at": "x"}, "task.created_at"),
        ({"started_at": at(0).replace(tzinfo=None)}, "task.started_at"),
        ({"toolName": "x"}, "task"),
        ({"retry_count": -1}, "task.retry_count"),
        ({"max_retries": -1}, "task.max_retries"),
        ({"timeout_ms": float("inf")}, "task.timeout_ms"),
        ({"timeout_ms": float("nan")}, "task.timeout_ms"),
    ],
)
async def test_a_task_that_cannot_be_stored_is_refused(
    tasks: AsyncBackgroundTasks, unique: str, changed: Any, argument: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await tasks.create_task(task={**task(unique), **changed})
    assert caught.value.argument == argument
    assert caught.value.id.startswith("MASTRA_STORAGE_CONVEX_CREATE_TASK_INVALID_")
    assert await tasks.get_task(task_id=unique) is None


@pytest.mark.parametrize("missing", ["id", "status", "tool_name", "tool_call_id", "agent_id", "run_id"])
async def test_a_task_without_a_required_attribute_is_refused(
    tasks: AsyncBackgroundTasks, unique: str, missing: str
) -> None:
    given = task(unique)
    del given[missing]
    with pytest.raises(InvalidArgument) as caught:
        await tasks.create_task(task=given)
    assert caught.value.argument == f"task.{missing}"


@pytest.mark.parametrize(
    "update",
    [
        {"status": "done"},
        {"status": None},
        {"id": "x"},
        {"args": {}},
        {"created_at": at(0)},
        {"retry_count": None},
        {"retry_count": -1},
        {"max_retries": 1.5},
        {"timeout_ms": "1"},
        {"timeout_ms": float("inf")},
        {"started_at": "yesterday"},
        {"result": {1}},
        None,
        [],
    ],
    ids=repr,
)
async def test_an_update_that_cannot_be_stored_is_refused(tasks: AsyncBackgroundTasks, unique: str, update: Any) -> None:
    await tasks.create_task(task=task(unique))
    with pytest.raises(InvalidArgument) as caught:
        await tasks.update_task(task_id=unique, update=update)
    assert caught.value.operation == "UPDATE_TASK"


@pytest.mark.parametrize(
    "filter",
    [
        {"status": "done"},
        {"status": ["running", "done"]},
        {"status": ""},
        {"status": 5},
        {"agent_id": ""},
        {"run_id": 5},
        {"agentId": "a"},
        {"from_date": "x"},
        {"to_date": at(0).replace(tzinfo=None)},
        {"date_filter_by": "updated_at"},
        {"order_by": "id"},
        {"order_direction": "up"},
        {"page": -1},
        {"page": -1, "per_page": 5},
        {"per_page": -1},
        {"per_page": 1.5},
        {"page": True, "per_page": 5},
        {"page": 2**53, "per_page": 5},
        *({"date_filter_by": ""}, {"order_by": 0}, {"order_direction": False}, {"status": {}}),
        "running",
    ],
    ids=repr,
)
async def test_a_filter_that_is_none_is_refused(tasks: AsyncBackgroundTasks, unique: str, filter: Any) -> None:
    await tasks.create_task(task=task(unique, unique))
    for method in (tasks.list_tasks, tasks.delete_tasks):
        with pytest.raises(InvalidArgument):
            await method(filter=filter)
    assert await tasks.get_task(task_id=unique) is not None


async def test_other_bad_arguments_are_refused(tasks: AsyncBackgroundTasks, unique: str) -> None:
    bad: Any
    method: Any
    for bad in ("", None, 5):
        for method, named in (
            (tasks.get_task, {"task_id": bad}),
            (tasks.delete_task, {"task_id": bad}),
            (tasks.update_task, {"task_id": bad, "update": {}}),
            (tasks.get_running_count_by_agent, {"agent_id": bad}),
        ):
            with pytest.raises(InvalidArgument):
                await method(**named)
    for bad in (
        *({"expected_status": "done"}, {"status": "running"}, "running"),
        *({"expected_started_at": "soon"}, {"expected_retry_count": -1}, {"expected_retry_count": True}),
    ):
        with pytest.raises(InvalidArgument):
            await tasks.update_task(task_id=unique, update={"status": "running"}, options=bad)


async def test_a_result_larger_than_a_document_is_an_error_with_both_sizes(
    tasks: AsyncBackgroundTasks, unique: str
) -> None:
    await tasks.create_task(task=task(unique))
    with pytest.raises(LimitExceeded) as caught:
        await tasks.create_task(task=task(unique, result="x" * (1 << 20)))
    assert (caught.value.maximum, (caught.value.actual or 0) > 1 << 20) == (1 << 20, True)
    with pytest.raises(LimitExceeded) as caught:
        await tasks.update_task(task_id=unique, update={"status": "completed", "result": "x" * (1 << 20)})
    assert (caught.value.maximum, (caught.value.actual or 0) > 1 << 20) == (1 << 20, True)
    found = await tasks.get_task(task_id=unique)
    assert found is not None
    assert (found.status, found.result) == ("pending", None)


# -- costs ---------------------------------------------------------------------------------------------------------


def full() -> Iterator[Host]:
    """A host with 700 tasks: 7 agents and statuses, 50 tasks a run and thread, all but the first 100 long done."""
    process, url = start_host(ROOT / "convex")
    host = Host(url, ADMIN_KEY)
    try:
        with host.connect() as deployment, Session(deployment) as session:
            for number in range(700):
                row = task(
                    f"t{number:03}",
                    seconds=number,
                    agent_id=f"agent{number % 7}",
                    run_id=f"run{number // 50}",
                    thread_id=f"thread{number // 50}",
                    resource_id="everyone",
                    status=STATUSES[number // 100],
                    completed_at=at(10_000 - number),
                )
                session.add(BackgroundTask(**row), unique=False, returning=False)
            session.commit()
        yield host
    finally:
        stop_host(process)


@pytest.fixture(scope="module")
def full_host() -> Iterator[Host]:
    yield from full()


@pytest.fixture
def own_full_host() -> Iterator[Host]:
    """One whose tasks may be changed."""
    yield from full()


@pytest.mark.parametrize(
    ("filter", "first", "most"),
    [
        ({"status": "pending"}, "t000", 11),
        ({"status": "pending", "agent_id": "agent3"}, "t003", 11),
        ({"agent_id": "agent3", "order_direction": "desc"}, "t696", 11),
        ({"thread_id": "thread4"}, "t200", 11),
        ({"resource_id": "everyone", "order_direction": "desc"}, "t699", 11),
        ({"tool_name": "tool"}, "t000", 11),
        ({"order_direction": "desc"}, "t699", 11),
        ({"status": "running", "order_by": "completed_at"}, "t199", 11),
        ({"status": ["running", "pending"]}, "t000", 22),
        ({"order_by": "completed_at"}, "t699", 77),
        ({"from_date": at(300), "to_date": at(500)}, "t300", 11),
        ({"run_id": "run4"}, "t200", 50),
        ({"tool_call_id": "t123call"}, "t123", 1),
    ],
    ids=repr,
)
def test_a_page_costs_one_call_and_the_documents_of_a_page(full_host: Host, filter: Any, first: str, most: int) -> None:
    with full_host.connect() as deployment:
        tasks = ConvexStore(id="test", deployment=deployment).background_tasks
        full_host.reset()
        wanted: Any = {**filter, "per_page": 10}
        page = tasks.list_tasks(filter=wanted, include_total=False)
        assert page.tasks[0].id == first
        counts = full_host.metrics()
        assert counts["calls"] == 1
        assert 0 < counts["documentsRead"] <= most


def test_counts_and_clean_ups_read_only_what_they_are_about(own_full_host: Host) -> None:
    with own_full_host.connect() as deployment:
        tasks = ConvexStore(id="test", deployment=deployment).background_tasks
        own_full_host.reset()
        assert tasks.get_running_count_by_agent(agent_id="agent3") == 15
        counts = own_full_host.metrics()
        assert (counts["calls"], counts["documentsRead"]) == (1, 15)
        assert counts["responseBytes"] < 500
        own_full_host.reset()
        assert tasks.update_task(task_id="t150", update={"result": 1}, options={"expected_status": "running"})
        counts = own_full_host.metrics()
        assert counts["calls"] == 1
        assert counts["documentsRead"] <= 5
        own_full_host.reset()
        tasks.delete_tasks(filter={"status": "timed_out", "to_date": at(9_306), "date_filter_by": "completed_at"})
        counts = own_full_host.metrics()
        assert counts["calls"] == 1
        assert counts["documentsRead"] <= 20
        assert tasks.get_task(task_id="t694") is not None
        assert tasks.get_task(task_id="t695") is None
