"""Which background tasks: filters, the queries that find what they ask for, and lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypedDict, get_args

import attrs

from convexorm import AsyncSession, Condition, Query
from mastra_convex.arguments import (
    Paging,
    check_choice,
    check_id,
    check_instant,
    check_options,
    check_paging,
    check_several,
)
from mastra_convex.entities import BackgroundTask, TaskStatus

__all__ = ["STATUSES", "TaskFilter", "TaskList", "Wanted", "delete_page", "listed", "merged"]

TaskDate: TypeAlias = Literal["created_at", "started_at", "suspended_at", "completed_at"]

STATUSES: tuple[str, ...] = get_args(TaskStatus)
_DATES: tuple[str, ...] = get_args(TaskDate)
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


@attrs.frozen
class TaskList:
    """Some tasks of a list. `total` is None where it was not asked for, `per_page` False where all were."""

    tasks: list[BackgroundTask]
    total: int | None
    page: int
    per_page: int | Literal[False]
    has_more: bool


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
class Wanted:
    """A checked filter. `statuses` is None for any."""

    ids: Mapping[str, str]
    statuses: Sequence[str] | None
    dates: Sequence[Condition]
    date: str
    order: str
    direction: Literal["asc", "desc"]
    paging: Paging

    @classmethod
    def of(cls, operation: str, filter: TaskFilter | None) -> Wanted:
        given = check_options(operation, "filter", filter, tuple(TaskFilter.__annotations__))
        ids = {
            name: check_id(operation, f"filter.{name}", given[name]) for name in _ID_INDEXES if given.get(name) is not None
        }
        date = _chosen(operation, given, "date_filter_by", _DATES)
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
        order = _chosen(operation, given, "order_by", _DATES)
        direction = _chosen(operation, given, "order_direction", ("asc", "desc"))
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
            statuses = STATUSES if self.statuses is None else self.statuses
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


def _chosen(operation: str, given: Mapping[str, Any], name: str, choices: Sequence[str]) -> str:
    """What the filter says under a name, the first of the choices where it says nothing."""
    value = given.get(name)
    return choices[0] if value is None else check_choice(operation, f"filter.{name}", value, choices)


def _checked_statuses(operation: str, status: object) -> list[str] | None:
    """The statuses asked for, each once, or None for any."""
    if status is None:
        return None
    given = [status] if isinstance(status, str) else check_several(operation, "filter.status", status)
    return list(dict.fromkeys(check_choice(operation, "filter.status", one, STATUSES) for one in given))


# -- listing -------------------------------------------------------------------------------------------------------


async def listed(session: AsyncSession, wanted: Wanted, include_total: bool) -> TaskList:
    page, size, offset = wanted.paging.page, wanted.paging.per_page, wanted.paging.offset
    if wanted.statuses == []:
        return TaskList([], 0 if include_total else None, page, size, False)
    if size is False:
        queries, _ = wanted.queries(wanted.date)
        tasks = merged(wanted, await session.read(*queries))
        return TaskList(tasks, len(tasks) if include_total else None, page, size, False)
    queries, ordered = wanted.queries(wanted.order, part=True)
    if not ordered:
        tasks = merged(wanted, await session.read(*queries))
        total = len(tasks)
        part = tasks[offset : offset + size]
        return TaskList(part, total if include_total else None, page, size, total > offset + size)
    counts = [query.count() for query in queries] if include_total else []
    queries = [query.order(wanted.direction) for query in queries]
    if len(queries) == 1:
        queries, offset = [queries[0].offset(offset)], 0
    reads = [query.limit(offset + size + 1) for query in queries]
    answers = await session.read(*reads, *counts)
    found = merged(wanted, answers[: len(reads)])[offset:]
    total = sum(answers[len(reads) :])
    return TaskList(found[:size], total if include_total else None, page, size, len(found) > size)


def merged(wanted: Wanted, groups: Sequence[Sequence[BackgroundTask]]) -> list[BackgroundTask]:
    """The tasks of several queries in one order, that of an index on the date: tasks without it first."""

    def place(task: BackgroundTask) -> tuple[Any, ...]:
        date = getattr(task, wanted.order)
        return (date is not None, date or 0, task.creation_time, task.convex_id)

    return sorted((task for group in groups for task in group), key=place, reverse=wanted.direction == "desc")


async def delete_page(session: AsyncSession, wanted: Wanted) -> None:
    tasks = (await listed(session, wanted, include_total=False)).tasks
    conditions = wanted.conditions()
    for start in range(0, len(tasks), _DELETED_AT_ONCE):
        for task in tasks[start : start + _DELETED_AT_ONCE]:
            session.delete_range(BackgroundTask.query().by_index("by_record_id", id=task.id).where(*conditions))
        await session.commit()
