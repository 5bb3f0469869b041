"""What a schedule fires: a workflow or an agent, as JSON text that TypeScript reads too.

The names inside a target are the contract's (`workflowId`, `inputData`), for whoever dispatches it looks for those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convexorm.types import JsonTextType
from convexorm.values import Value
from mastra_convex.arguments import check_id, check_mapping
from mastra_convex.errors import InvalidArgument

__all__ = ["TargetType", "check_target", "workflow_of"]

_IDENTITY = {"workflow": "workflowId", "agent": "agentId"}
"""For each type of target the name of what it fires."""
_NAMES = {
    "workflow_id": "workflowId",
    "input_data": "inputData",
    "initial_state": "initialState",
    "request_context": "requestContext",
    "resource_id": "resourceId",
    "definition_hash": "definitionHash",
    "agent_id": "agentId",
    "thread_id": "threadId",
    "signal_type": "signalType",
    "tag_name": "tagName",
    "provider_options": "providerOptions",
    "if_active": "ifActive",
    "if_idle": "ifIdle",
}
"""The contract's names of a target's fields, by what they are called in Python."""


class TargetType(JsonTextType):
    """A target as JSON text. Agents were once called heartbeats, and such rows are read as agents."""

    def load(self, value: Value) -> Any:
        target = super().load(value)
        if isinstance(target, dict) and target.get("type") == "heartbeat":
            return {**target, "type": "agent"}
        return target


def check_target(operation: str, argument: str, value: object) -> dict[str, Any]:
    """A target under the contract's names, with its type and the id of what it fires."""
    target = {_NAMES.get(name, name): one for name, one in check_mapping(operation, argument, value).items()}
    if target.get("type") == "heartbeat":
        target["type"] = "agent"
    identity = _IDENTITY.get(str(target.get("type")))
    if identity is None:
        known = " or ".join(repr(name) for name in _IDENTITY)
        raise InvalidArgument(f"{known}", operation=operation, argument=f"{argument}.type")
    check_id(operation, f"{argument}.{identity}", target.get(identity))
    return target


def workflow_of(target: Mapping[str, Any]) -> str | None:
    """The id of the workflow that a checked target fires, None for another target."""
    return target["workflowId"] if target["type"] == "workflow" else None
