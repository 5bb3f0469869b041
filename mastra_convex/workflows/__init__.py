"""The workflows domain: runs of workflows and their snapshots."""

from __future__ import annotations

from convexorm.faces import blocking, shared
from mastra_convex.domain import Domain
from mastra_convex.workflows.runs import AsyncWorkflows, WorkflowRun, WorkflowRuns
from mastra_convex.workflows.snapshots import WorkflowRunStatus
from mastra_convex.workflows.states import ResumeLabel, TracingContext, WorkflowStateOptions

__all__ = [
    "AsyncWorkflows",
    "ResumeLabel",
    "TracingContext",
    "WorkflowRun",
    "WorkflowRunStatus",
    "WorkflowRuns",
    "WorkflowStateOptions",
    "Workflows",
]


class Workflows(Domain):
    """The runs of workflows, blocking. `AsyncWorkflows` is the same, awaited."""

    face = AsyncWorkflows

    supports_concurrent_updates = staticmethod(AsyncWorkflows.supports_concurrent_updates)
    persist_workflow_snapshot = blocking(AsyncWorkflows.persist_workflow_snapshot)
    load_workflow_snapshot = blocking(AsyncWorkflows.load_workflow_snapshot)
    update_workflow_results = blocking(AsyncWorkflows.update_workflow_results)
    update_workflow_state = blocking(AsyncWorkflows.update_workflow_state)
    get_workflow_run_by_id = blocking(AsyncWorkflows.get_workflow_run_by_id)
    watch_run = shared(AsyncWorkflows.watch_run)
    list_workflow_runs = blocking(AsyncWorkflows.list_workflow_runs)
    delete_workflow_run_by_id = blocking(AsyncWorkflows.delete_workflow_run_by_id)
    dangerously_clear_all = blocking(AsyncWorkflows.dangerously_clear_all)
