"""Calls of a team's own functions, whose refusals mean what the team says and not what ours would.

A query may be sent several times; a mutation or an action is sent again only if it never left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from convexorm.deployments.base import FunctionCall
from convexorm.deployments.remote.access import Kind
from convexorm.deployments.remote.port import RemotePort
from convexorm.deployments.remote.refusals import refusal
from convexorm.errors import ConvexORMError, FunctionFailed, FunctionNotFound
from convexorm.values import Value

__all__ = ["RemoteCaller", "function_refusal"]

_FUNCTION_ERRORS = (200, 560)
"""The statuses with which Convex says that a function threw."""
_NOT_FOUND = re.compile(
    r"(\[[^\]]*\] ?)*(Server Error\s+)?(Could not find (public )?function|Couldn't find JavaScript module)"
)


@attrs.frozen
class RemoteCaller:
    """The functions of a deployment on Convex, through one port."""

    port: RemotePort

    async def call(self, call: FunctionCall) -> Value:
        return await self.port.ask(call, once=call.kind != "query", refused=function_refusal)


def function_refusal(where: str, kind: Kind, path: str, status: int, answer: Mapping[str, Any]) -> ConvexORMError:
    text = str(answer.get("errorMessage") or "")
    if answer.get("code") == "FunctionPathNotFound" or ("errorData" not in answer and _NOT_FOUND.match(text)):
        return FunctionNotFound(
            f"{where} has no function {path!r}, or none for this caller: internal functions and those of components need "
            "the admin key",
            function=path,
        )
    if status not in _FUNCTION_ERRORS or answer.get("status") != "error":
        return refusal(where, kind, path, status, answer)
    if "errorData" in answer:
        problem = f"{where}: {path} threw a ConvexError; its data is the error's `data`"
        return FunctionFailed(problem, function=path, text=text, data=answer["errorData"])
    summary, _, more = text.partition("\n")
    hidden = "" if more else "; production hides why, the deployment's log has it under this id"
    said = more.partition("\n")[0] or summary
    return FunctionFailed(f"{where}: {path} failed: {said[:200]}{hidden}", function=path, text=text)
