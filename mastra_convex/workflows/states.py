"""What `update_workflow_state` takes: parts of a state under Python's names, checked, and what snapshots call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from mastra_convex.arguments import check_choice, check_json, check_keys, check_list, check_mapping
from mastra_convex.errors import named
from mastra_convex.workflows.snapshots import STATUSES, WorkflowRunStatus

__all__ = ["ResumeLabel", "TracingContext", "WorkflowStateOptions", "check_state"]


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


def check_state(operation: str, opts: object) -> tuple[dict[str, Any], tuple[str, ...] | None]:
    """What to merge into a snapshot, and the statuses of which it must have one."""
    given = check_keys(operation, "opts", opts, (*_STATE, "expected_status"))
    if given.get("status") is not None:
        check_choice(operation, "opts.status", given["status"], STATUSES)
    for name in _MAPPINGS:
        if given.get(name) is not None:
            check_mapping(operation, f"opts.{name}", given[name])
    state = {
        _STATE[name]: check_json(operation, f"opts.{name}", value)
        for name, value in given.items()
        if name in _STATE and value is not None
    }
    if "tracingContext" in state:
        state["tracingContext"] = _renamed(state["tracingContext"])
    if "resumeLabels" in state:
        labels = state["resumeLabels"].items()
        state["resumeLabels"] = {
            label: _renamed(check_mapping(operation, f"opts.resume_labels[{named(label)}]", place))
            for label, place in labels
        }
    return state, _expected(operation, given.get("expected_status"))


def _expected(operation: str, given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    several = (given,) if isinstance(given, str) else check_list(operation, "opts.expected_status", given)
    return tuple(check_choice(operation, "opts.expected_status", one, STATUSES) for one in several)


def _renamed(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {_INNER.get(name, name): value for name, value in mapping.items()}
