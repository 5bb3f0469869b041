"""Workflow runs: one document each, found by the workflow's name and the run's id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import attrs

from convexorm import AsyncSession, Query
from convexorm.live import Watch
from convexorm.live.views import RecordView
from mastra_convex.arguments import (
    Paging,
    check_choice,
    check_id,
    check_instant,
    check_json,
    check_mapping,
    check_optional_id,
    check_paging,
)
from mastra_convex.domain import AsyncDomain, OnState
from mastra_convex.entities import WorkflowSnapshot
from mastra_convex.errors import WorkflowSnapshotInvalid
from mastra_convex.instants import later, now
from mastra_convex.records import put
from mastra_convex.workflows.lists import RunList, between
from mastra_convex.workflows.snapshots import STATUSES, WorkflowRunStatus, empty_snapshot, merged_result, status_of
from mastra_convex.workflows.states import WorkflowStateOptions, check_state

__all__ = ["AsyncWorkflows", "WorkflowRun", "WorkflowRuns"]


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
        """Store a run's snapshot, in place of the one it has.

        A run keeps the `created_at` it has, and without a `resource_id` the resource it has; `updated_at` is never earlier
        than it was. Times default to now. Raises LimitExceeded, with the size and the limit, for a snapshot that one
        document (1 MiB) cannot hold.
        """
        operation = "PERSIST_WORKFLOW_SNAPSHOT"
        key = _key(operation, workflow_name, run_id)
        stored = check_json(operation, "snapshot", check_mapping(operation, "snapshot", snapshot))
        moment = now()
        run = WorkflowSnapshot(
            id="-".join(key),
            workflow_name=workflow_name,
            run_id=run_id,
            resource_id=check_optional_id(operation, "resource_id", resource_id),
            snapshot=stored,
            status=status_of(stored),
            created_at=moment if created_at is None else check_instant(operation, "created_at", created_at),
            updated_at=moment if updated_at is None else check_instant(operation, "updated_at", updated_at),
        )
        kept = ("created_at",) if resource_id is not None else ("created_at", "resource_id")

        async def persist(session: AsyncSession) -> None:
            await put(session, run, keep=kept)

        async with self._session() as session:
            await session.transact(persist)

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
        new = check_json(operation, "result", check_mapping(operation, "result", result))
        request = check_json(
            operation,
            "request_context",
            {} if request_context is None else check_mapping(operation, "request_context", request_context),
        )

        def merge(snapshot: dict[str, Any]) -> dict[str, Any]:
            context, requested = snapshot["context"], snapshot.get("requestContext")
            if requested is not None and not isinstance(requested, dict):
                raise WorkflowSnapshotInvalid(*key, operation=operation)
            return {
                **snapshot,
                "context": {**context, step_id: merged_result(context.get(step_id), new)},
                "requestContext": {**(requested or {}), **request},
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
        state, expected = check_state(operation, opts)

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
                record.updated_at = later(record.updated_at)
            return merged

        async with self._session() as session:
            return await session.transact(run)

    async def get_workflow_run_by_id(self, *, run_id: str, workflow_name: str | None = None) -> WorkflowRun | None:
        """The run, or None. Without the workflow's name it is the newest run with this id, of whichever workflow."""
        operation = "GET_WORKFLOW_RUN_BY_ID"
        check_id(operation, "run_id", run_id)
        async with self._session() as session:
            if check_optional_id(operation, "workflow_name", workflow_name) is None:
                record = await session.first(_newest(run_id))
            else:
                record = await session.get(WorkflowSnapshot, (workflow_name, run_id))
        return None if record is None else _run(record)

    def watch_run(
        self, *, run_id: str, workflow_name: str | None = None, on_state: OnState | None = None
    ) -> Watch[WorkflowRun | None]:
        """What `get_workflow_run_by_id` answers, again whenever that changes: `with` it, or `async with`, as `live`.

        `on_state` is told when the connection is there or lost. Raises what `Deployment.watch` does, and DeploymentError
        where a deployment has only the npm package's functions.
        """
        operation = "WATCH_RUN"
        check_id(operation, "run_id", run_id)
        if check_optional_id(operation, "workflow_name", workflow_name) is None:
            query = _newest(run_id)
        else:
            query = WorkflowSnapshot.query().by_index("by_workflow_run", workflow_name=workflow_name, run_id=run_id)

        def run(record: WorkflowSnapshot | None) -> WorkflowRun | None:
            return None if record is None else _run(record)

        return self._backend.watch([query.limit(1)], lambda states: RecordView(states, run), on_state)

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
        listing = RunList(
            workflow_name=check_optional_id(operation, "workflow_name", workflow_name),
            resource_id=check_optional_id(operation, "resource_id", resource_id),
            thread_id=check_optional_id(operation, "thread_id", thread_id),
            status=None if status is None else check_choice(operation, "status", status, STATUSES),
            created=between(operation, from_date, to_date),
        )
        async with self._session() as session:
            part = await listing.part(session, paging, include_total)
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


def _newest(run_id: str) -> Query[WorkflowSnapshot]:
    """The runs with this id, the newest first."""
    return WorkflowSnapshot.query().by_index("by_run", run_id=run_id).order("desc")


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


def _key(operation: str, workflow_name: object, run_id: object) -> tuple[str, str]:
    return check_id(operation, "workflow_name", workflow_name), check_id(operation, "run_id", run_id)
