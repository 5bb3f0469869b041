"""The npm package's storage handler: one function of the deployment, called with an operation.

It is a mutation that catches some of its errors, so a refusal may be an answer too: both become this library's errors. What
may be sent twice is sent again after a failure; what may not is sent once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import attrs

from convexorm.deployments.base import FunctionCall
from convexorm.deployments.remote import RemotePort
from convexorm.errors import ConvexORMError, DeploymentError, FunctionFailed, LimitExceeded, ValidationError

__all__ = ["Answer", "Handler", "Refused"]

_log = logging.getLogger("mastra_convex")

_ONCE = frozenset(("createSchedule", "recordScheduleTrigger", "updateScheduleNextFire", "omAppendBufferedChunk"))
"""Operations that say or do something else when they are repeated."""
_OVER_LIMIT = ("Too many bytes", "Too many documents", "Too many reads", "too large", "limit")
_INVALID = ("does not match the schema", "Validator error", "not a supported Convex type", "Field name", "nesting")


@attrs.frozen
class Answer:
    """What an operation answered. `more` says that the operation is to be repeated, from `cursor` on where there is one."""

    result: Any = attrs.field(repr=False)
    more: bool = False
    cursor: str | None = attrs.field(default=None, repr=False)


class Refused(DeploymentError):
    """The handler refused an operation, or failed at it. In production Convex does not tell why."""

    def __init__(self, function: str, operation: str, table: str) -> None:
        self.operation = operation
        self.table = table
        super().__init__(f"{function} refused {operation} of table {table!r}")


class Handler:
    """Calls the handler at `function` through one face of a deployment."""

    def __init__(self, port: RemotePort, function: str) -> None:
        self.port = port
        self.function = function

    async def answers(self) -> bool:
        """Whether what is at `function` answers as the handler does. Nothing is read for it."""
        answer = await self._send("loadMany", "mastra_threads", {"ids": []})
        return isinstance(answer, Mapping) and answer.get("ok") is True and answer.get("result") == []

    async def call(self, operation: str, table: str, **arguments: Any) -> Answer:
        """What the handler answers. Raises Refused, ValidationError, LimitExceeded, or what the deployment raises."""
        try:
            answer = await self._send(operation, table, arguments)
        except LimitExceeded as error:
            raise LimitExceeded(error.limit, maximum=error.maximum, actual=error.actual, table=table) from error
        except FunctionFailed as error:
            raise self._meaning(operation, table, error.text) from error
        if not isinstance(answer, Mapping) or answer.get("ok") is not True:
            text = str(answer.get("error") or "") if isinstance(answer, Mapping) else ""
            raise self._meaning(operation, table, text)
        cursor = answer.get("continuationCursor")
        return Answer(answer.get("result"), answer.get("hasMore") is True, cursor if isinstance(cursor, str) else None)

    async def _send(self, operation: str, table: str, arguments: Mapping[str, Any]) -> Any:
        request = {"op": operation, "tableName": table, **arguments}
        _log.debug("%s of table %s through %s", operation, table, self.function)
        return await self.port.ask(FunctionCall("mutation", self.function, request), once=operation in _ONCE)

    def _meaning(self, operation: str, table: str, text: str) -> ConvexORMError:
        """What a text says, where it says more than that the operation failed. It is never repeated: it may hold data."""
        if any(sign in text for sign in _INVALID):
            return ValidationError(f"{self.function} refused {operation}: the deployment's schema differs", table=table)
        if any(sign in text for sign in _OVER_LIMIT):
            return LimitExceeded(f"bytes or documents of one {operation} (Convex)", maximum=16 << 20, table=table)
        return Refused(self.function, operation, table)
