"""Background tasks: tool calls that go on behind an agent, from when they are queued until they are cleaned up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypedDict, get_args

import attrs

from convexorm import AsyncSession, Condition, LimitExceeded, Query, StaleDataError
from convexorm.faces import blocking, shared
from convexorm.live import Change, Watch
from convexorm.live.views import ListView
from mastra_convex.arguments import (
    Paging,
    check_amount,
    check_choice,
    check_id,
    check_instant,
    check_keys,
    check_mapping,
    check_optional_id,
    check_options,
    check_paging,
    check_whole,
    naming,
)
from mastra_convex.domain import AsyncDomain, Domain, OnState
from mastra_convex.entities import BackgroundTask, TaskStatus
from mastra_convex.errors import InvalidArgument
from mastra_convex.instants import now
from mastra_convex.records import record_of

__all__ = [
    "AsyncBackgroundTasks",
    "BackgroundTasks",
    "TaskFilter",
    "TaskList",
    "TaskStatus",
    "TaskUpdate",
    "TaskUpdateOptions",
]

TaskDate: TypeAlias = Literal["created_at", "started_at", "suspended_at", "completed_at"]

_STATUSES: tuple[str, ...] = get_args(TaskStatus)
_DATES: tuple[str, ...] = get_args(TaskDate)
_TIMEOUT_MS = 300_000
"""What Mastra gives a task that says nothing else."""
_DELETED_AT_ONCE = 1_000
"""Tasks of a page deleted in one commit: each takes an index range, and Convex allows 4,096."""


class TaskFilter(TypedDict, total=False):
    """Which tasks, and which part of them.

    `status` is one or several; none matches nothing. `from_date` belongs to the range, `to_date` does not; both are about
    the date that `date_filter_by` names, as `order_by` names the one to order by ("created_at" for both unless said), and
    tasks without it come first. `page` counts only with `per_page`.
    """

    status: TaskStatus | Sequence[TaskStatus]
    agent_id: str
    thread_id: str
    resource_id: str
    run_id: str
    tool_name: str
    tool_call_id: str
    from_date: datetime
    to_date: datetime
    date_filter_by: TaskDate
    order_by: TaskDate
    order_direction: Literal["asc", "desc"]
    page: int
    per_page: int | Literal[False]


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


@attrs.frozen
class TaskList:
    """Some tasks of a list. `total` is None where it was not asked for, `per_page` False where all were."""

    tasks: list[BackgroundTask]
    total: int | None
    page: int
    per_page: int | Literal[False]
    has_more: bool


class AsyncBackgroundTasks(AsyncDomain):
    """Background tasks, awaited. `BackgroundTasks` is the same, blocking."""

    async def create_task(self, *, task: BackgroundTask | Mapping[str, Any]) -> None:
        """Store a task, in place of one with its id.

        `args` defaults to `{}`, the retries to 0, `timeout_ms` to 300,000, `created_at` to now.
        """
        operation = "CREATE_TASK"
        defaults = {"args": {}, "retry_count": 0, "max_retries": 0, "timeout_ms": _TIMEOUT_MS, "created_at": now()}
        with naming(operation, "task"):
            record = record_of(operation, "task", BackgroundTask, task, **defaults)
            check_choice(operation, "task.status", record.status, _STATUSES)
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

        One conditional write: of several callers that expect the same and change it, one is told True.
        """
        operation = "UPDATE_TASK"
        check_id(operation, "task_id", task_id)
        values = _checked_update(operation, update)
        expected = _checked_expectation(operation, options)
        async with self._session() as session:
            if not values:
                task = await session.get(BackgroundTask, task_id)
                return task is not None and all(getattr(task, name) == value for name, value in expected.items())
            with naming(operation, "update"):
                session.update(BackgroundTask, task_id, values, expected=expected)
                try:
                    await session.commit()
                except StaleDataError:
                    return False
        return True

    async def get_task(self, *, task_id: str) -> BackgroundTask | None:
        """The task, or None."""
        check_id("GET_TASK", "task_id", task_id)
        async with self._session() as session:
            return await session.get(BackgroundTask, task_id)

    async def list_tasks(self, *, filter: TaskFilter | None = None, include_total: bool = True) -> TaskList:
        """The tasks that match, the oldest first unless the filter says otherwise, and how many match without its page.

        Without `include_total` nothing is counted and `has_more` comes from one more row.
        """
        wanted = _Wanted.of("LIST_TASKS", filter)
        async with self._session() as session:
            return await _listed(session, wanted, include_total)

    def watch_tasks(
        self, *, filter: TaskFilter | None = None, on_state: OnState | None = None
    ) -> Watch[Change[BackgroundTask]]:
        """The tasks that `list_tasks` lists, again whenever they change: `with` it, or `async with`, as `live`.

        Each `Change` has all tasks of the list and which are new; one that has not changed is the same instance.
        `on_state` is told when the connection is there or lost. Raises what `Deployment.watch` does, and DeploymentError
        where a deployment has only the npm package's functions.
        """
        wanted = _Wanted.of("WATCH_TASKS", filter)
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
            return _merged(wanted, found)[offset:end]

        return self._backend.watch(queries, lambda states: ListView(states, arrange), on_state)

    async def delete_task(self, *, task_id: str) -> None:
        """Delete the task; nothing happens where there is none."""
        check_id("DELETE_TASK", "task_id", task_id)
        async with self._session() as session:
            session.delete_key(BackgroundTask, task_id)
            await session.commit()

    async def delete_tasks(self, *, filter: TaskFilter) -> None:
        """Delete the tasks that match, of a filter with `per_page` only that page. A filter that names none deletes none.

        One atomic commit for up to 4,000 tasks (6 MiB), several for more. A task that another writer changes meanwhile, so
        that it matches no longer, stays.
        """
        wanted = _Wanted.of("DELETE_TASKS", filter)
        if not wanted.narrows:
            return
        async with self._session() as session:
            if wanted.paging.per_page is not False:
                await _delete_page(session, wanted)
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


class BackgroundTasks(Domain):
    """Background tasks, blocking. `AsyncBackgroundTasks` is the same, awaited."""

    face = AsyncBackgroundTasks

    create_task = blocking(AsyncBackgroundTasks.create_task)
    update_task = blocking(AsyncBackgroundTasks.update_task)
    get_task = blocking(AsyncBackgroundTasks.get_task)
    list_tasks = blocking(AsyncBackgroundTasks.list_tasks)
    watch_tasks = shared(AsyncBackgroundTasks.watch_tasks)
    delete_task = blocking(AsyncBackgroundTasks.delete_task)
    delete_tasks = blocking(AsyncBackgroundTasks.delete_tasks)
    get_running_count = blocking(AsyncBackgroundTasks.get_running_count)
    get_running_count_by_agent = blocking(AsyncBackgroundTasks.get_running_count_by_agent)
    dangerously_clear_all = blocking(AsyncBackgroundTasks.dangerously_clear_all)


# -- changing ------------------------------------------------------------------------------------------------------


def _checked_update(operation: str, update: TaskUpdate) -> dict[str, Any]:
    values = dict(check_keys(operation, "update", update, tuple(TaskUpdate.__annotations__)))
    if "status" in values:
        check_choice(operation, "update.status", values["status"], _STATUSES)
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
        expected["status"] = check_choice(operation, "expected_status", given["expected_status"], _STATUSES)
    if given.get("expected_retry_count") is not None:
        expected["retry_count"] = check_whole(operation, "expected_retry_count", given["expected_retry_count"])
    if "expected_started_at" in given:
        started = given["expected_started_at"]
        expected["started_at"] = None if started is None else check_instant(operation, "expected_started_at", started)
    return expected


# -- finding -------------------------------------------------------------------------------------------------------

_ID_INDEXES = {
    "tool_call_id": "by_tool_call",
    "run_id": "by_run",
    "thread_id": "by_thread_created",
    "resource_id": "by_resource_created",
    "agent_id": "by_agent_created",
    "tool_name": "by_tool_created",
}
"""The index for each id that a filter can name, those with the fewest tasks first."""
_FEW = ("tool_call_id", "run_id", "thread_id")
"""Ids with so few tasks each that a page of them is cut from all, where no index has its order."""


@attrs.frozen
class _Wanted:
    """A checked filter. `statuses` is None for any."""

    ids: Mapping[str, str]
    statuses: Sequence[str] | None
    dates: Sequence[Condition]
    date: str
    order: str
    direction: Literal["asc", "desc"]
    paging: Paging

    @classmethod
    def of(cls, operation: str, filter: TaskFilter | None) -> _Wanted:
        given = check_options(operation, "filter", filter, tuple(TaskFilter.__annotations__))
        ids = {
            name: check_id(operation, f"filter.{name}", given[name]) for name in _ID_INDEXES if given.get(name) is not None
        }
        date = check_choice(operation, "filter.date_filter_by", given.get("date_filter_by") or "created_at", _DATES)
        dates = []
        if given.get("from_date") is not None:
            dates.append(_column(date) >= check_instant(operation, "filter.from_date", given["from_date"]))
        if given.get("to_date") is not None:
            dates.append(_column(date) < check_instant(operation, "filter.to_date", given["to_date"]))
        if len(dates) == 1 and given.get("from_date") is None and date != "created_at":
            dates.append(_column(date) > None)  # a null is less than every date
        page, per_page = given.get("page"), given.get("per_page")
        paging = check_paging(operation, 0 if page is None else page, per_page, default=0)
        if per_page is None:
            paging = Paging(0, False)
        order = check_choice(operation, "filter.order_by", given.get("order_by") or "created_at", _DATES)
        direction = check_choice(
            operation, "filter.order_direction", given.get("order_direction") or "asc", ("asc", "desc")
        )
        statuses = _checked_statuses(operation, given.get("status"))
        return cls(ids, statuses, dates, date, order, "asc" if direction == "asc" else "desc", paging)

    @property
    def narrows(self) -> bool:
        """Whether it names any tasks to delete."""
        return self.statuses != [] and bool(self.ids or self.statuses or self.dates)

    def conditions(self) -> list[Condition]:
        """Everything a task must be."""
        equalities = [_column(name) == value for name, value in self.ids.items()]
        return [*equalities, *self._in_statuses(), *self.dates]

    def queries(self, date: str, *, part: bool = False) -> tuple[list[Query[BackgroundTask]], bool]:
        """Queries that find all of these tasks, each through an index, and whether in the order of `date`.

        With `part` only a part of them is needed, so the order of an index counts more than what it leaves to filter.
        """
        start = BackgroundTask.query()
        stem = date.removesuffix("_at")
        name = next((name for name in _ID_INDEXES if name in self.ids), None)
        if name is None or (part and date != "created_at" and name not in _FEW):
            rest = [_column(name) == value for name, value in self.ids.items()]
            if self.statuses is None and date == "created_at":
                return [start.by_index("by_created").where(*rest, *self.dates)], True
            statuses = _STATUSES if self.statuses is None else self.statuses
            return [start.by_index(f"by_status_{stem}", status=one).where(*rest, *self.dates) for one in statuses], True
        rest = [_column(other) == value for other, value in self.ids.items() if other != name]
        if name == "agent_id" and self.statuses is not None:
            index, agent = "by_agent_status_created", self.ids[name]
            queries = [start.by_index(index, agent_id=agent, status=one) for one in self.statuses]
        else:
            index, rest = _ID_INDEXES[name], [*rest, *self._in_statuses()]
            queries = [start.by_index(index, **{name: self.ids[name]})]
        ordered = date == "created_at" and index.endswith("_created")
        return [query.where(*rest, *self.dates) for query in queries], ordered

    def _in_statuses(self) -> list[Condition]:
        if self.statuses is None:
            return []
        return [_column("status").in_(self.statuses) if len(self.statuses) > 1 else _column("status") == self.statuses[0]]


def _column(name: str) -> Any:
    return BackgroundTask.__mapper__.columns[name]


def _checked_statuses(operation: str, status: object) -> list[str] | None:
    """The statuses asked for, each once, or None for any."""
    if status is None:
        return None
    given = [status] if isinstance(status, str) or not isinstance(status, Iterable) else list(status)
    return list(dict.fromkeys(check_choice(operation, "filter.status", one, _STATUSES) for one in given))


# -- listing -------------------------------------------------------------------------------------------------------


async def _listed(session: AsyncSession, wanted: _Wanted, include_total: bool) -> TaskList:
    page, size, offset = wanted.paging.page, wanted.paging.per_page, wanted.paging.offset
    if wanted.statuses == []:
        return TaskList([], 0 if include_total else None, page, size, False)
    if size is False:
        queries, _ = wanted.queries(wanted.date)
        tasks = _merged(wanted, await session.read(*queries))
        return TaskList(tasks, len(tasks) if include_total else None, page, size, False)
    queries, ordered = wanted.queries(wanted.order, part=True)
    if not ordered:
        tasks = _merged(wanted, await session.read(*queries))
        total = len(tasks)
        part = tasks[offset : offset + size]
        return TaskList(part, total if include_total else None, page, size, total > offset + size)
    counts = [query.count() for query in queries] if include_total else []
    queries = [query.order(wanted.direction) for query in queries]
    if len(queries) == 1:
        queries, offset = [queries[0].offset(offset)], 0
    reads = [query.limit(offset + size + 1) for query in queries]
    answers = await session.read(*reads, *counts)
    found = _merged(wanted, answers[: len(reads)])[offset:]
    total = sum(answers[len(reads) :])
    return TaskList(found[:size], total if include_total else None, page, size, len(found) > size)


def _merged(wanted: _Wanted, groups: Sequence[Sequence[BackgroundTask]]) -> list[BackgroundTask]:
    """The tasks of several queries in one order, that of an index on the date: tasks without it first."""

    def place(task: BackgroundTask) -> tuple[Any, ...]:
        date = getattr(task, wanted.order)
        return (date is not None, date or 0, task.creation_time, task.convex_id)

    return sorted((task for group in groups for task in group), key=place, reverse=wanted.direction == "desc")


async def _delete_page(session: AsyncSession, wanted: _Wanted) -> None:
    tasks = (await _listed(session, wanted, include_total=False)).tasks
    conditions = wanted.conditions()
    for start in range(0, len(tasks), _DELETED_AT_ONCE):
        for task in tasks[start : start + _DELETED_AT_ONCE]:
            session.delete_range(BackgroundTask.query().by_index("by_record_id", id=task.id).where(*conditions))
        await session.commit()
