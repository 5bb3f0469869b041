"""Background tasks: tool calls that go on behind an agent, from when they are queued until they are cleaned up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict

from convexorm import LimitExceeded, StaleDataError
from convexorm.live import Change, Watch
from convexorm.live.views import ListView
from mastra_convex.arguments import (
    check_amount,
    check_choice,
    check_id,
    check_instant,
    check_keys,
    check_mapping,
    check_optional_id,
    check_options,
    check_whole,
    naming,
)
from mastra_convex.background_tasks.claims import AsyncClaims
from mastra_convex.background_tasks.leases import LEASES, Held
from mastra_convex.background_tasks.listing import STATUSES, TaskFilter, TaskList, Wanted, delete_page, listed, merged
from mastra_convex.domain import AsyncDomain, Backend, OnState
from mastra_convex.entities import BackgroundTask, Document, TaskStatus
from mastra_convex.errors import InvalidArgument
from mastra_convex.instants import now
from mastra_convex.records import record_of

__all__ = ["AsyncBackgroundTasks", "TaskUpdate", "TaskUpdateOptions"]

_TIMEOUT_MS = 300_000
"""What Mastra gives a task that says nothing else."""


class TaskUpdate(TypedDict, total=False):
    """What of a task to change. A key that is not there keeps what is stored; None clears it where that is possible."""

    status: TaskStatus
    result: Any
    error: Any
    suspend_payload: Any
    retry_count: int
    max_retries: int
    timeout_ms: float
    started_at: datetime | None
    suspended_at: datetime | None
    completed_at: datetime | None


class TaskUpdateOptions(TypedDict, total=False):
    """What a task must still be for the update to apply to it.

    A worker that has begun a task expects the `started_at` that it has set, or the `retry_count` that it has found: a task
    that was taken from it and given to another one has the same status. `expected_started_at` of None expects no start.
    """

    expected_status: TaskStatus
    expected_started_at: datetime | None
    expected_retry_count: int


class AsyncBackgroundTasks(AsyncDomain):
    """Background tasks, awaited. `BackgroundTasks` is the same, blocking."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self._held = Held()

    async def create_task(self, *, task: BackgroundTask | Mapping[str, Any]) -> None:
        """Store a task, in place of one with its id.

        `args` defaults to `{}`, the retries to 0, `timeout_ms` to 300,000, `created_at` to now.
        """
        operation = "CREATE_TASK"
        defaults = {"args": {}, "retry_count": 0, "max_retries": 0, "timeout_ms": _TIMEOUT_MS, "created_at": now()}
        with naming(operation, "task"):
            record = record_of(operation, "task", BackgroundTask, task, **defaults)
            check_choice(operation, "task.status", record.status, STATUSES)
            check_mapping(operation, "task.args", record.args)
            for name, check in _COUNTS.items():
                check(operation, f"task.{name}", getattr(record, name))
            for name in ("tool_call_id", "tool_name", "agent_id", "run_id"):
                check_id(operation, f"task.{name}", getattr(record, name))
            for name in ("thread_id", "resource_id"):
                check_optional_id(operation, f"task.{name}", getattr(record, name))
            async with self._session() as session:
                session.upsert(record, returning=False)
                await session.commit()

    async def update_task(self, *, task_id: str, update: TaskUpdate, options: TaskUpdateOptions | None = None) -> bool:
        """Change some of a task, and say whether that was done: not where there is none, or it is not as `options` expect.

        One conditional write: of several callers that expect the same and change it, one is told True. A task that this
        store holds a claim on (`claim`) is changed only while it holds it; with a status other than "running" the claim
        ends in the same commit.
        """
        operation = "UPDATE_TASK"
        check_id(operation, "task_id", task_id)
        values = _checked_update(operation, update)
        expected = _checked_expectation(operation, options)
        claim = self._held.claim(task_id)
        ends = claim is not None and values.get("status", "running") != "running"
        if claim is not None:
            if "started_at" in values and not ends:
                raise InvalidArgument(
                    "a claimed task has been started by its claim", operation=operation, argument="update.started_at"
                )
            expected.setdefault("started_at", claim.started_at)
        async with self._session() as session:
            if not values:
                task = await session.get(BackgroundTask, task_id)
                return task is not None and all(getattr(task, name) == value for name, value in expected.items())
            with naming(operation, "update"):
                session.update(BackgroundTask, task_id, values, expected=expected)
                if ends:
                    session.delete_key(Document, (LEASES, task_id))
                try:
                    await session.commit()
                except StaleDataError:
                    return False
        if claim is not None and ends:
            self._held.finished(claim)
        return True

    def claim(self, *, tool_name: str | None = None, lease: timedelta = timedelta(seconds=60)) -> AsyncClaims:
        """Pending tasks, one after the other, each claimed by this loop alone: `async for task in tasks.claim(): ...`.

        The oldest comes first; with a `tool_name` only tasks of that tool. A claimed task is "running", and is finished by
        `update_task`, which refuses (False) once the claim is lost. While the loop's body runs its claim is prolonged; when
        nobody has prolonged it for a `lease`, its worker is taken for dead and another gets the task. A body that is left
        by an exception, by `break` or by cancellation gives the task back. The loop waits for tasks, without asking again
        and again, until it is closed.

        Raises InvalidArgument, what `watch_tasks` raises, and InvalidRequestError where a body ends without finishing its
        task, which is pending again then.
        """
        operation = "CLAIM"
        check_optional_id(operation, "tool_name", tool_name)
        if not isinstance(lease, timedelta) or not timedelta(milliseconds=100) <= lease <= timedelta(days=1):
            raise InvalidArgument("a timedelta of 0.1 seconds to a day", operation=operation, argument="lease")
        return AsyncClaims(self._backend, self._held, tool_name, lease.total_seconds())

    async def get_task(self, *, task_id: str) -> BackgroundTask | None:
        """The task, or None."""
        check_id("GET_TASK", "task_id", task_id)
        async with self._session() as session:
            return await session.get(BackgroundTask, task_id)

    async def list_tasks(self, *, filter: TaskFilter | None = None, include_total: bool = True) -> TaskList:
        """The tasks that match, the oldest first unless the filter says otherwise, and how many match without its page.

        Without `include_total` nothing is counted and `has_more` comes from one more row.
        """
        wanted = Wanted.of("LIST_TASKS", filter)
        async with self._session() as session:
            return await listed(session, wanted, include_total)

    def watch_tasks(
        self, *, filter: TaskFilter | None = None, on_state: OnState | None = None
    ) -> Watch[Change[BackgroundTask]]:
        """The tasks that `list_tasks` lists, again whenever they change: `with` it, or `async with`, as `live`.

        Each `Change` has all tasks of the list and which are new; one that has not changed is the same instance.
        `on_state` is told when the connection is there or lost. Raises what `Deployment.watch` does, and DeploymentError
        where a deployment has only the npm package's functions.
        """
        wanted = Wanted.of("WATCH_TASKS", filter)
        if wanted.statuses == []:
            raise InvalidArgument("one status or several", operation="WATCH_TASKS", argument="filter.status")
        size, offset = wanted.paging.per_page, wanted.paging.offset
        end = None if size is False else offset + size
        if end is None:
            queries, _ = wanted.queries(wanted.date)
        else:
            queries, ordered = wanted.queries(wanted.order, part=True)
            if ordered:
                queries = [query.order(wanted.direction).limit(end) for query in queries]

        def arrange(found: Sequence[list[BackgroundTask]]) -> list[BackgroundTask]:
            return merged(wanted, found)[offset:end]

        return self._backend.watch(queries, lambda states: ListView(states, arrange), on_state)

    async def delete_task(self, *, task_id: str) -> None:
        """Delete the task; nothing happens where there is none."""
        check_id("DELETE_TASK", "task_id", task_id)
        async with self._session() as session:
            session.delete_key(BackgroundTask, task_id)
            session.delete_key(Document, (LEASES, task_id))
            await session.commit()

    async def delete_tasks(self, *, filter: TaskFilter) -> None:
        """Delete the tasks that match, of a filter with `per_page` only that page. A filter that names none deletes none.

        One atomic commit for up to 4,000 tasks (6 MiB), several for more. A task that another writer changes meanwhile, so
        that it matches no longer, stays.
        """
        wanted = Wanted.of("DELETE_TASKS", filter)
        if not wanted.narrows:
            return
        async with self._session() as session:
            if wanted.paging.per_page is not False:
                await delete_page(session, wanted)
                return
            queries, _ = wanted.queries(wanted.date)
            for query in queries:
                session.delete_range(query)
            try:
                await session.commit()
            except LimitExceeded:
                session.rollback()
                for query in queries:
                    await session.delete_all(query)

    async def get_running_count(self) -> int:
        """How many tasks are running."""
        async with self._session() as session:
            return await session.count(BackgroundTask.query().by_index("by_status_created", status="running"))

    async def get_running_count_by_agent(self, *, agent_id: str) -> int:
        """How many of an agent's tasks are running."""
        check_id("GET_RUNNING_COUNT_BY_AGENT", "agent_id", agent_id)
        async with self._session() as session:
            return await session.count(
                BackgroundTask.query().by_index("by_agent_status", agent_id=agent_id, status="running")
            )

    async def dangerously_clear_all(self) -> None:
        """Delete every task, in as many commits as it takes."""
        async with self._session() as session:
            await session.delete_all(BackgroundTask.query().full_scan())
            await session.delete_all(Document.query().by_index("by_table", table=LEASES))


# -- changing ------------------------------------------------------------------------------------------------------


def _checked_update(operation: str, update: TaskUpdate) -> dict[str, Any]:
    values = dict(check_keys(operation, "update", update, tuple(TaskUpdate.__annotations__)))
    if "status" in values:
        check_choice(operation, "update.status", values["status"], STATUSES)
    for name in ("started_at", "suspended_at", "completed_at"):
        if values.get(name) is not None:
            values[name] = check_instant(operation, f"update.{name}", values[name])
    for name in values.keys() & _COUNTS.keys():
        _COUNTS[name](operation, f"update.{name}", values[name])
    return values


_COUNTS: Mapping[str, Callable[[str, str, object], float]] = {
    "retry_count": check_whole,
    "max_retries": check_whole,
    "timeout_ms": check_amount,
}


def _checked_expectation(operation: str, options: TaskUpdateOptions | None) -> dict[str, Any]:
    """What attributes must hold; None for a status or a number is none expected."""
    given = check_options(operation, "options", options, tuple(TaskUpdateOptions.__annotations__))
    expected: dict[str, Any] = {}
    if given.get("expected_status") is not None:
        expected["status"] = check_choice(operation, "expected_status", given["expected_status"], STATUSES)
    if given.get("expected_retry_count") is not None:
        expected["retry_count"] = check_whole(operation, "expected_retry_count", given["expected_retry_count"])
    if "expected_started_at" in given:
        started = given["expected_started_at"]
        expected["started_at"] = None if started is None else check_instant(operation, "expected_started_at", started)
    return expected
