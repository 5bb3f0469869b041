"""What a workflow run's snapshot is made of, and how it changes: plain JSON values in, plain JSON values out.

A snapshot's own keys are the contract's, in camelCase; the keys of `context` and of the path mappings are names of steps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, Literal, TypeAlias, get_args

__all__ = ["STATUSES", "WorkflowRunStatus", "empty_snapshot", "merged_result", "status_of", "thread_of"]

WorkflowRunStatus: TypeAlias = Literal[
    "running",
    "success",
    "failed",
    "tripwire",
    "suspended",
    "waiting",
    "pending",
    "canceled",
    "bailed",
    "paused",
    "skipped",
]
STATUSES: tuple[str, ...] = get_args(WorkflowRunStatus)

_PENDING = "__mastra_pending__"


def empty_snapshot(run_id: str) -> dict[str, Any]:
    """The snapshot of a run of which nothing is known yet."""
    return {
        "context": {},
        "activePaths": [],
        "activeStepsPath": {},
        "timestamp": time.time_ns() // 1_000_000,
        "suspendedPaths": {},
        "resumeLabels": {},
        "serializedStepGraph": [],
        "value": {},
        "waitingPaths": {},
        "status": "pending",
        "runId": run_id,
    }


def status_of(snapshot: Any) -> str | None:
    """The snapshot's status, if it has one."""
    status = snapshot.get("status") if isinstance(snapshot, Mapping) else None
    return status if isinstance(status, str) else None


def thread_of(snapshot: Any) -> str | None:
    """The thread an agent's run belongs to, as the first suspended step with a stream says, else a durable run's input."""
    context = _within(snapshot, "context")
    for step in context.values() if isinstance(context, Mapping) else ():
        if _within(step, "status") == "suspended" and _within(step, "suspendPayload", "__streamState"):
            return _text(_within(step, "suspendPayload", "__streamState", "messageList", "memoryInfo", "threadId"))
    return _text(_within(context, "input", "messageListState", "memoryInfo", "threadId"))


def merged_result(stored: Any, result: Any) -> Any:
    """A step's result after `result` came in: the new one, except where both have lists as outputs.

    Those merge by position: None keeps what is there, any other value replaces it. A pending marker, exactly
    `{"__mastra_pending__": true}`, empties an open or suspended position and leaves any other; a result that holds one
    changes nothing else.
    """
    before, after = _within(stored, "output"), _within(result, "output")
    if not isinstance(before, list) or not isinstance(after, list):
        return result
    if any(map(_is_pending, after)):
        output = [_reset(old, new) for old, new in zip_longest(before, after)]
        return {**stored, "output": output}
    output = [old if new is None else new for old, new in zip_longest(before, after)]
    return {**stored, **result, "output": output}


def _reset(old: Any, new: Any) -> Any:
    return None if _is_pending(new) and (_is_pending(old) or _is_suspended(old)) else old


def _is_pending(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and value.get(_PENDING) is True


def _is_suspended(value: Any) -> bool:
    """Whether an entry of a list output is an iteration's suspended result, not an output that looks a bit like one."""
    return _within(value, "status") == "suspended" and ("suspendPayload" in value or "suspendedAt" in value)


def _within(value: Any, *keys: str) -> Any:
    """What the keys lead to, None where they lead nowhere."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
