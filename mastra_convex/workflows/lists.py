"""Lists of runs: through the index that serves the filters, runs without a status beside their snapshot included."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import attrs

from convexorm import AsyncSession, Condition, Query
from mastra_convex.arguments import Paging, check_instant
from mastra_convex.entities import WorkflowSnapshot
from mastra_convex.listing import Slice, slice_of
from mastra_convex.workflows.snapshots import thread_of

__all__ = ["RunList", "between"]

_LOOKED_THROUGH_AT_ONCE = 25
"""Snapshots fetched by one call where only reading them tells whether they belong to a list."""


@attrs.frozen
class RunList:
    """Which runs are listed."""

    workflow_name: str | None
    resource_id: str | None
    thread_id: str | None
    status: str | None
    created: Sequence[Condition]

    async def part(self, session: AsyncSession, paging: Paging, include_total: bool) -> Slice[WorkflowSnapshot]:
        """The part that was asked for, the newest first."""
        if self.thread_id is not None:
            return await _of_thread(session, self, self.thread_id, paging, include_total)
        if self.status is not None and self.resource_id is None:
            return await _by_status(session, self, paging, include_total)
        return await slice_of(session, self.query(), paging, include_total)

    def query(self) -> Query[WorkflowSnapshot]:
        """All of them in one query, whoever wrote them, of any thread. A status is looked for in every run of the range."""
        query = WorkflowSnapshot.query()
        if self.resource_id is not None:
            query = query.by_index("by_resource_created", resource_id=self.resource_id)
            if self.workflow_name is not None:
                query = query.where(WorkflowSnapshot.workflow_name == self.workflow_name)
        elif self.workflow_name is not None:
            query = query.by_index("by_workflow_created", workflow_name=self.workflow_name)
        else:
            query = query.by_index("by_created")
        if self.status is not None:
            query = query.where((WorkflowSnapshot.status == self.status) | (_UNMARKED & self._snapshot_status()))
        return query.where(*self.created).order("desc")

    def marked(self) -> Query[WorkflowSnapshot]:
        """Those whose status is kept beside the snapshot, through an index."""
        return self._through_status(self.status)

    def unmarked(self) -> Query[WorkflowSnapshot]:
        """Those without a status beside the snapshot, through the same index, whatever the snapshot says."""
        return self._through_status(None)

    def unmarked_matches(self) -> Query[WorkflowSnapshot]:
        """Of those the ones whose snapshot has the status."""
        return self.unmarked().where(self._snapshot_status())

    def _through_status(self, status: str | None) -> Query[WorkflowSnapshot]:
        query = WorkflowSnapshot.query()
        if self.workflow_name is None:
            query = query.by_index("by_status_created", status=status)
        else:
            query = query.by_index("by_workflow_status_created", workflow_name=self.workflow_name, status=status)
        return query.where(*self.created).order("desc")

    def _snapshot_status(self) -> Condition:
        return WorkflowSnapshot.snapshot["status"] == self.status


_UNMARKED = WorkflowSnapshot.status.is_(None)


async def _by_status(
    session: AsyncSession, listing: RunList, paging: Paging, include_total: bool
) -> Slice[WorkflowSnapshot]:
    """A part of the runs of one status: in one call, if all runs in question have it beside their snapshot."""
    marked, unmarked = listing.marked(), listing.unmarked_matches()
    if paging.per_page is False:
        found, others = await session.read(marked, unmarked)
        runs = sorted([*found, *others], key=_place, reverse=True) if others else found
        return Slice(runs, len(runs) if include_total else None, False)
    size = paging.per_page
    counts = [marked.count(), unmarked.count()] if include_total else [listing.unmarked().limit(1).count()]
    runs, *counted = await session.read(marked.offset(paging.offset).limit(size + 1), *counts)
    if counted[-1]:
        runs = await session.all(listing.query().offset(paging.offset).limit(size + 1))
    return Slice(runs[:size], sum(counted) if include_total else None, len(runs) > size)


async def _of_thread(
    session: AsyncSession, listing: RunList, thread_id: str, paging: Paging, include_total: bool
) -> Slice[WorkflowSnapshot]:
    """A part of the runs of one thread, found by looking through all runs of the list, some at a time."""
    start, end = paging.offset, None if paging.per_page is False else paging.offset + paging.per_page
    runs: list[WorkflowSnapshot] = []
    total, cursor, left = 0, None, True
    while left and (include_total or end is None or total <= end):
        batch = await session.page(listing.query(), _LOOKED_THROUGH_AT_ONCE, cursor)
        cursor, left = batch.cursor, batch.has_more
        for record in batch.items:
            if thread_of(record.snapshot) == thread_id:
                if total >= start and (end is None or total < end):
                    runs.append(record)
                total += 1
    return Slice(runs, total if include_total else None, end is not None and total > end)


def _place(run: WorkflowSnapshot) -> tuple[datetime, float]:
    return run.created_at, run.creation_time or 0.0


def between(operation: str, start: datetime | None, end: datetime | None) -> list[Condition]:
    """Created from `start` to `end`, both included."""
    conditions: list[Condition] = []
    if start is not None:
        conditions.append(WorkflowSnapshot.created_at >= check_instant(operation, "from_date", start))
    if end is not None:
        conditions.append(WorkflowSnapshot.created_at <= check_instant(operation, "to_date", end))
    return conditions
