"""Workflow runs: one document each, found by the workflow's name and the run's id."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict

import attrs

from convexorm import AsyncSession, Condition, Query
from convexorm.types import json_text
from convexorm.values import check_value
from mastra_convex.arguments import (
    Paging,
    check_choice,
    check_id,
    check_instant,
    check_keys,
    check_mapping,
    check_paging,
    naming,
)
from mastra_convex.domain import AsyncDomain
from mastra_convex.entities import WorkflowSnapshot
from mastra_convex.errors import InvalidArgument, WorkflowSnapshotInvalid
from mastra_convex.instants import now
from mastra_convex.listing import Slice, slice_of
from mastra_convex.workflows.snapshots import (
    STATUSES,
    WorkflowRunStatus,
    empty_snapshot,
    merged_result,
    status_of,
    thread_of,
)

__all__ = ["AsyncWorkflows", "ResumeLabel", "TracingContext", "WorkflowRun", "WorkflowRuns", "WorkflowStateOptions"]

_LOOKED_THROUGH_AT_ONCE = 25
"""Snapshots fetched by one call where only reading them tells whether they belong to a list."""


class TracingContext(TypedDict, total=False):
    """What links a resumed span to the suspended one."""

    trace_id: str
    span_id: str
    parent_span_id: str


class ResumeLabel(TypedDict, total=False):
    """Where a label resumes."""

    step_id: str
    foreach_index: int


class WorkflowStateOptions(TypedDict, total=False):
    """What to change of a snapshot; what is absent or None stays. Keys of the path mappings are names of steps.

    With `expected_status` nothing changes unless the snapshot's status is that, or one of those.
    """

    status: WorkflowRunStatus
    result: Mapping[str, Any] | None
    error: Any
    suspended_paths: Mapping[str, Sequence[int]] | None
    waiting_paths: Mapping[str, Sequence[int]] | None
    resume_labels: Mapping[str, ResumeLabel] | None
    active_paths: Sequence[int] | None
    active_steps_path: Mapping[str, Sequence[int]] | None
    tracing_context: TracingContext | None
    expected_status: WorkflowRunStatus | Sequence[WorkflowRunStatus] | None


@attrs.frozen
class WorkflowRun:
    """A run of a workflow. `snapshot` is its state, as the contract has it (keys in camelCase)."""

    workflow_name: str
    run_id: str
    snapshot: dict[str, Any] = attrs.field(repr=False)
    created_at: datetime
    updated_at: datetime
    resource_id: str | None = None


@attrs.frozen
class WorkflowRuns:
    """Some runs of a list. `total` is None where it was not asked for, `per_page` False where all were."""

    runs: list[WorkflowRun]
    total: int | None
    page: int
    per_page: int | Literal[False]
    has_more: bool


class AsyncWorkflows(AsyncDomain):
    """The runs of workflows, awaited. `Workflows` is the same, blocking."""

    @staticmethod
    def supports_concurrent_updates() -> bool:
        """True: results and states merge, however many writers there are."""
        return True

    async def persist_workflow_snapshot(
        self,
        *,
        workflow_name: str,
        run_id: str,
        snapshot: Mapping[str, Any],
        resource_id: str | None = None,
        created_at: datetime | None = None,
        updated_at: datetime | None = None,
    ) -> None:
        """Store a run's snapshot, in place of the one it has: one write, without a read.

        A run keeps the `created_at` it has, and without a `resource_id` the resource it has. Times default to now. Raises
        LimitExceeded, with the size and the limit, for a snapshot that one document (1 MiB) cannot hold.
        """
        operation = "PERSIST_WORKFLOW_SNAPSHOT"
        key = _key(operation, workflow_name, run_id)
        stored = _plain(operation, "snapshot", check_mapping(operation, "snapshot", snapshot))
        moment = now()
        run = WorkflowSnapshot(
            id="-".join(key),
            workflow_name=workflow_name,
            run_id=run_id,
            resource_id=None if resource_id is None else check_id(operation, "resource_id", resource_id),
            snapshot=stored,
            status=status_of(stored),
            created_at=moment if created_at is None else check_instant(operation, "created_at", created_at),
            updated_at=moment if updated_at is None else check_instant(operation, "updated_at", updated_at),
        )
        kept = ("created_at",) if resource_id is not None else ("created_at", "resource_id")
        async with self._session() as session:
            session.upsert(run, keep=kept, returning=False)
            await session.commit()

    async def load_workflow_snapshot(self, *, workflow_name: str, run_id: str) -> dict[str, Any] | None:
        """A run's snapshot, None where there is no run; a snapshot with nothing in it is `{}`."""
        key = _key("LOAD_WORKFLOW_SNAPSHOT", workflow_name, run_id)
        async with self._session() as session:
            run = await session.get(WorkflowSnapshot, key)
        return None if run is None or _is_blank(run.snapshot) else run.snapshot

    async def update_workflow_results(
        self,
        *,
        workflow_name: str,
        run_id: str,
        step_id: str,
        result: Mapping[str, Any],
        request_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Merge a step's result, and the request's context, into a run's snapshot; answers the results of all steps.

        Concurrent updates are all kept. Outputs that are lists merge by position: None keeps what is there, and the pending
        marker empties what is open or suspended. Without such a run nothing happens and the answer is `{}`. Raises
        WorkflowSnapshotInvalid for a snapshot without a context.
        """
        operation = "UPDATE_WORKFLOW_RESULTS"
        key = _key(operation, workflow_name, run_id)
        check_id(operation, "step_id", step_id)
        new = _plain(operation, "result", check_mapping(operation, "result", result))
        request = _plain(operation, "request_context", check_mapping(operation, "request_context", request_context or {}))

        def merge(snapshot: dict[str, Any]) -> dict[str, Any]:
            context = snapshot["context"]
            return {
                **snapshot,
                "context": {**context, step_id: merged_result(context.get(step_id), new)},
                "requestContext": {**(snapshot.get("requestContext") or {}), **request},
            }

        snapshot = await self._change(operation, key, merge)
        context: dict[str, Any] = {} if snapshot is None else snapshot["context"]
        return context

    async def update_workflow_state(
        self, *, workflow_name: str, run_id: str, opts: WorkflowStateOptions
    ) -> dict[str, Any] | None:
        """Merge parts of a run's state into its snapshot; answers the snapshot.

        None, and nothing changed, where there is no run or its status is not what `opts` expects. Concurrent updates are
        all kept. Raises WorkflowSnapshotInvalid for a snapshot without a context.
        """
        operation = "UPDATE_WORKFLOW_STATE"
        key = _key(operation, workflow_name, run_id)
        state, expected = _checked_state(operation, opts)

        def merge(snapshot: dict[str, Any]) -> dict[str, Any] | None:
            return {**snapshot, **state} if expected is None or snapshot.get("status") in expected else None

        return await self._change(operation, key, merge)

    async def _change(
        self, operation: str, key: tuple[str, str], merge: Callable[[dict[str, Any]], dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        """Change a run's snapshot under concurrent writers: `merge` makes a new one, or None to leave it as it is."""

        async def run(session: AsyncSession) -> dict[str, Any] | None:
            record = await session.get(WorkflowSnapshot, key)
            if record is None:
                return None
            before = record.snapshot
            snapshot = empty_snapshot(record.run_id) if _is_blank(before) else before
            if not isinstance(snapshot, dict) or not isinstance(snapshot.get("context"), dict):
                raise WorkflowSnapshotInvalid(*key, operation=operation)
            merged = merge(snapshot)
            if merged is not None:
                record.snapshot = merged
                record.status = status_of(merged)
                record.updated_at = now()
            return merged

        async with self._session() as session:
            return await session.transact(run)

    async def get_workflow_run_by_id(self, *, run_id: str, workflow_name: str | None = None) -> WorkflowRun | None:
        """The run, or None. Without the workflow's name it is the newest run with this id, of whichever workflow."""
        operation = "GET_WORKFLOW_RUN_BY_ID"
        check_id(operation, "run_id", run_id)
        async with self._session() as session:
            if _given(operation, "workflow_name", workflow_name) is None:
                newest = WorkflowSnapshot.query().by_index("by_run", run_id=run_id).order("desc")
                record = await session.first(newest)
            else:
                record = await session.get(WorkflowSnapshot, (workflow_name, run_id))
        return None if record is None else _run(record)

    async def list_workflow_runs(
        self,
        *,
        workflow_name: str | None = None,
        resource_id: str | None = None,
        thread_id: str | None = None,
        status: WorkflowRunStatus | None = None,
        from_date: datetime | None = None,
        to_date: datetime | None = None,
        page: int | None = None,
        per_page: int | Literal[False] | None = None,
        include_total: bool = True,
    ) -> WorkflowRuns:
        """Runs, the newest first; all of them unless both `page` and `per_page` are given.

        `from_date` and `to_date` bound `created_at`, both included. Without `include_total` nothing is counted and
        `has_more` comes from one more run; counting reads every run that is counted. By status a page costs its runs,
        unless some runs of the list were written without the status beside the snapshot; then the server looks
        through the list. `thread_id` is inside of snapshots only, so they are fetched and looked through here.
        """
        operation = "LIST_WORKFLOW_RUNS"
        paging = check_paging(operation, 0 if page is None else page, False if per_page is None else per_page, default=0)
        if page is None or per_page is None:
            paging = Paging(0, False)
        listing = _Listing(
            workflow_name=_given(operation, "workflow_name", workflow_name),
            resource_id=_given(operation, "resource_id", resource_id),
            status=None if status is None else check_choice(operation, "status", status, STATUSES),
            created=_between(operation, from_date, to_date),
        )
        thread = _given(operation, "thread_id", thread_id)
        async with self._session() as session:
            if thread is not None:
                part = await _of_thread(session, listing.query(), thread, paging, include_total)
            elif listing.status is not None and listing.resource_id is None:
                part = await _by_status(session, listing, paging, include_total)
            else:
                part = await slice_of(session, listing.query(), paging, include_total)
            runs = [_run(record) for record in part.items]
        return WorkflowRuns(runs, part.total, paging.page, paging.per_page, part.has_more)

    async def delete_workflow_run_by_id(self, *, run_id: str, workflow_name: str) -> None:
        """Delete the run; nothing happens where there is none."""
        name, run = _key("DELETE_WORKFLOW_RUN_BY_ID", workflow_name, run_id)
        async with self._session() as session:
            session.delete_range(WorkflowSnapshot.query().by_index("by_workflow_run", workflow_name=name, run_id=run))
            await session.commit()

    async def dangerously_clear_all(self) -> None:
        """Delete every run, in as many commits as it takes."""
        async with self._session() as session:
            await session.delete_all(WorkflowSnapshot.query().full_scan())


# -- listing -------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Listing:
    """Which runs are listed."""

    workflow_name: str | None
    resource_id: str | None
    status: str | None
    created: Sequence[Condition]

    def query(self) -> Query[WorkflowSnapshot]:
        """All of them in one query, whoever wrote them. A status is looked for in every run of the range."""
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
    session: AsyncSession, listing: _Listing, paging: Paging, include_total: bool
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
    session: AsyncSession, query: Query[WorkflowSnapshot], thread_id: str, paging: Paging, include_total: bool
) -> Slice[WorkflowSnapshot]:
    """A part of the runs of one thread, found by looking through all runs of the query, some at a time."""
    start, end = paging.offset, None if paging.per_page is False else paging.offset + paging.per_page
    runs: list[WorkflowSnapshot] = []
    total, cursor, left = 0, None, True
    while left and (include_total or end is None or total <= end):
        batch = await session.page(query, _LOOKED_THROUGH_AT_ONCE, cursor)
        cursor, left = batch.cursor, batch.has_more
        for record in batch.items:
            if thread_of(record.snapshot) == thread_id:
                if total >= start and (end is None or total < end):
                    runs.append(record)
                total += 1
    return Slice(runs, total if include_total else None, end is not None and total > end)


def _place(run: WorkflowSnapshot) -> tuple[datetime, float]:
    return run.created_at, run.creation_time or 0.0


def _between(operation: str, start: datetime | None, end: datetime | None) -> list[Condition]:
    conditions: list[Condition] = []
    if start is not None:
        conditions.append(WorkflowSnapshot.created_at >= check_instant(operation, "from_date", start))
    if end is not None:
        conditions.append(WorkflowSnapshot.created_at <= check_instant(operation, "to_date", end))
    return conditions


def _run(record: WorkflowSnapshot) -> WorkflowRun:
    return WorkflowRun(
        record.workflow_name,
        record.run_id,
        empty_snapshot(record.run_id) if _is_blank(record.snapshot) else record.snapshot,
        record.created_at,
        record.updated_at,
        record.resource_id,
    )


def _is_blank(snapshot: Any) -> bool:
    """Whether there is no snapshot in the row; `{}` is one."""
    return snapshot is None or snapshot == ""


# -- checking ------------------------------------------------------------------------------------------------------

_STATE = {
    "status": "status",
    "result": "result",
    "error": "error",
    "suspended_paths": "suspendedPaths",
    "waiting_paths": "waitingPaths",
    "resume_labels": "resumeLabels",
    "active_paths": "activePaths",
    "active_steps_path": "activeStepsPath",
    "tracing_context": "tracingContext",
}
"""The parts of the state, and what a snapshot calls them."""
_INNER = {
    "step_id": "stepId",
    "foreach_index": "foreachIndex",
    "trace_id": "traceId",
    "span_id": "spanId",
    "parent_span_id": "parentSpanId",
}
_MAPPINGS = ("result", "suspended_paths", "waiting_paths", "resume_labels", "active_steps_path", "tracing_context")


def _key(operation: str, workflow_name: object, run_id: object) -> tuple[str, str]:
    return check_id(operation, "workflow_name", workflow_name), check_id(operation, "run_id", run_id)


def _given(operation: str, argument: str, value: object) -> str | None:
    """A filter's value; an empty text is no filter."""
    return None if value is None or value == "" else check_id(operation, argument, value)


def _plain(operation: str, argument: str, value: object) -> Any:
    """A JSON value as it will be read back: lists for tuples, ISO text for datetimes."""
    with naming(operation, argument):
        text = json_text(value)
        check_value(text)
    return json.loads(text)


def _checked_state(operation: str, opts: object) -> tuple[dict[str, Any], tuple[str, ...] | None]:
    """What to merge into a snapshot, and the statuses of which it must have one."""
    given = check_keys(operation, "opts", opts, (*_STATE, "expected_status"))
    if given.get("status") is not None:
        check_choice(operation, "opts.status", given["status"], STATUSES)
    for name in _MAPPINGS:
        if given.get(name) is not None:
            check_mapping(operation, f"opts.{name}", given[name])
    state = {
        _STATE[name]: _plain(operation, f"opts.{name}", value)
        for name, value in given.items()
        if name in _STATE and value is not None
    }
    if "tracingContext" in state:
        state["tracingContext"] = _renamed(state["tracingContext"])
    if "resumeLabels" in state:
        labels = state["resumeLabels"].items()
        state["resumeLabels"] = {
            label: _renamed(check_mapping(operation, f"opts.resume_labels[{label!r}]", place)) for label, place in labels
        }
    return state, _expected(operation, given.get("expected_status"))


def _expected(operation: str, given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    several = (given,) if isinstance(given, str) else given
    if not isinstance(several, Sequence):
        raise InvalidArgument("a status, or several", operation=operation, argument="opts.expected_status")
    return tuple(check_choice(operation, "opts.expected_status", one, STATUSES) for one in several)


def _renamed(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {_INNER.get(name, name): value for name, value in mapping.items()}
