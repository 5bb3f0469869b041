"""The protocol, knowing neither how one posts nor how one waits: what is asked, and asked again, and what an answer means.

Reads and searches change nothing and a commit is known by its id, so all are safe to send twice. One deadline holds for a
call, attempts and pauses included.
"""

from __future__ import annotations

import random
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import attrs
import h11

from convexorm.deployments.remote.bodies import TooLarge, Unreadable
from convexorm.deployments.remote.connections import Attempt, ProxyRefused, Reply
from convexorm.deployments.remote.deadlines import Deadline
from convexorm.deployments.remote.refusals import MAX_ARGUMENTS, passes, refusal, refused_by_functions
from convexorm.errors import ConvexORMError, DeploymentError, LimitExceeded, ValidationError
from convexorm.requests import (
    Applied,
    Commit,
    Document,
    Read,
    ReadResult,
    Search,
    check_commit,
    check_reads,
    check_search,
)
from convexorm.values import Value, dumps, loads_printed
from convexorm.wire import (
    decode_commit,
    decode_reads,
    decode_search,
    decode_withdraw,
    encode_commit,
    encode_reads,
    encode_search,
    encode_withdraw,
)

__all__ = ["Kind", "Limits", "RemotePort"]

_BACKOFF = 0.1
"""Seconds of the first pause between attempts; each is drawn evenly from zero to twice the one before."""

Kind = Literal["query", "mutation", "action"]
Post = Callable[[Kind, bytes, Attempt], Awaitable[Reply]]
Pause = Callable[[float], Awaitable[None]]


@attrs.frozen
class Limits:
    """Of each call: the seconds it may take, and how often it may be sent."""

    timeout: float
    attempts: int


class _Again(Exception):
    """The attempt came to nothing, and the next may not. `lost` says that what it sent may still be under way."""

    def __init__(self, problem: str, *, lost: bool) -> None:
        self.lost = lost
        super().__init__(problem)


class _Call:
    """One call as it goes: what is left of it, and what is known of the attempts so far."""

    def __init__(self, limits: Limits, attempts: int | None = None) -> None:
        self.deadline = Deadline(limits.timeout)
        self.most = limits.attempts if attempts is None else min(attempts, limits.attempts)
        self.made = 0
        self.lost = False
        """An attempt has ended without an answer: what it sent may still be under way."""
        self.refused = False
        """The deployment has answered that it did nothing."""

    def failed(self, where: str, last: _Again) -> DeploymentError:
        late = "; timed out" if self.deadline.over and not isinstance(last.__cause__, TimeoutError) else ""
        made = f"{self.made} attempt{'' if self.made == 1 else 's'}"
        return DeploymentError(f"{where}: {last}{late}, after {made} in {self.deadline.spent:.1f} seconds")


class RemotePort:
    """One face of a deployment on Convex."""

    def __init__(self, where: str, functions: str, limits: Limits, post: Post, pause: Pause) -> None:
        self._where = where
        self._functions = functions
        self._limits = limits
        self._post = post
        self._pause = pause

    async def pause(self, seconds: float) -> None:
        await self._pause(seconds)

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        check_reads(reads)
        call = _Call(self._limits)
        return decode_reads(await self._ask(call, "query", self._path("read"), encode_reads(reads)), reads)

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        check_search(search)
        call = _Call(self._limits)
        return decode_search(await self._ask(call, "action", self._path("search"), encode_search(search)))

    async def commit(self, commit: Commit) -> list[Applied]:
        """A refusal is final: a copy of the commit that may still be under way is withdrawn before it is raised."""
        check_commit(commit)
        call = _Call(self._limits)
        try:
            answer = await self._ask(call, "mutation", self._path("commit"), encode_commit(commit))
        except ConvexORMError:
            if not (call.refused and call.lost):
                raise
            applied = await self._withdraw(call, commit)
            if applied is None:
                raise
            return applied
        return decode_commit(answer, commit.writes)

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        """What the commit was answered with, if it has been applied. If not, None, and it never will be."""
        return await self._withdraw(_Call(self._limits), commit)

    async def _withdraw(self, call: _Call, commit: Commit) -> list[Applied] | None:
        before, call.made = call.made, 0
        try:
            answer = await self._ask(call, "mutation", self._path("commit"), encode_withdraw(commit))
        except ConvexORMError as error:
            if not before:
                raise
            raise DeploymentError(
                "the commit was refused, but an earlier copy of it may have been applied or be under way, "
                f"and it could not be withdrawn: {error}"
            ) from error
        return decode_withdraw(answer, commit.writes)

    async def call(self, kind: Kind, path: str, arguments: Mapping[str, Any], *, attempts: int | None = None) -> Value:
        """What any function of the deployment answers. `attempts`, fewer than the deployment's, is 1 for one that must not
        run twice.

        Raises FunctionNotFound, FunctionFailed, DeploymentError, AuthError, ValidationError and LimitExceeded.
        """
        return await self._ask(_Call(self._limits, attempts), kind, path, arguments)

    def _path(self, function: str) -> str:
        return f"{self._functions}:{function}"

    async def _ask(self, call: _Call, kind: Kind, path: str, arguments: Mapping[str, Any]) -> Value:
        """What a function answers, asked as often as the call allows."""
        body = _body(path, arguments)
        while True:
            call.made += 1
            try:
                return await self._answered(call, kind, path, body)
            except _Again as again:
                call.lost |= again.lost
                failure = again
            if call.made < call.most:
                await self._pause(call.deadline.within(random.uniform(0, _BACKOFF * 2**call.made)))
            if call.made >= call.most or call.deadline.over:
                raise call.failed(self._where, failure) from failure.__cause__

    async def _answered(self, call: _Call, kind: Kind, path: str, body: bytes) -> Value:
        """What a function answers to one attempt. Raises _Again for a failure that may pass."""
        reply = await self._send(call, kind, body)
        answer = _answer(reply)
        if answer.get("status") == "success":
            return answer.get("value")
        if passes(reply.status, answer):  # whoever says so need not be who has got the call
            raise _Again(f"HTTP {reply.status}, {str(answer.get('code') or 'busy')[:200]}", lost=True)
        error = refusal(self._where, path, reply.status, answer)
        call.refused = refused_by_functions(answer) or isinstance(error, LimitExceeded)
        raise error

    async def _send(self, call: _Call, kind: Kind, body: bytes) -> Reply:
        """One attempt. Raises _Again, or DeploymentError for what does not pass."""
        attempt = Attempt(call.deadline)
        try:
            return await self._post(kind, body, attempt)
        except TimeoutError as error:
            raise _Again(f"timed out {attempt.stage.value}", lost=attempt.sent) from error
        except Unreadable as error:
            raise _Again("the answer is cut, or encoded as was not asked for", lost=True) from error
        except TooLarge as error:
            raise DeploymentError(f"{self._where}: an answer larger than any of Convex") from error
        except ssl.SSLCertVerificationError as error:
            raise DeploymentError(f"{self._where}: its certificate is not valid here: {error.verify_message}") from error
        except ProxyRefused as error:
            raise DeploymentError(f"{self._where}: the proxy refuses, HTTP {error.status}") from error
        except (OSError, h11.RemoteProtocolError) as error:
            problem = "broke off the connection" if attempt.sent else "unreachable"
            problem = "the TLS handshake failed" if isinstance(error, ssl.SSLError) and not attempt.sent else problem
            raise _Again(problem, lost=attempt.sent) from error


def _body(path: str, arguments: Mapping[str, Any]) -> bytes:
    try:
        body = dumps({"path": path, "args": arguments, "format": "convex_encoded_json"}).encode()
    except UnicodeEncodeError:
        raise ValidationError("a string with a lone surrogate cannot be stored") from None
    if len(body) > MAX_ARGUMENTS:
        raise LimitExceeded("bytes of one call's arguments", maximum=MAX_ARGUMENTS, actual=len(body))
    return body


def _answer(reply: Reply) -> Mapping[str, Any]:
    """The answer as JSON, {} for a failure that is told otherwise. Raises _Again for a success that cannot be read."""
    try:
        answer = loads_printed(reply.body.end())
    except (ValueError, TypeError, KeyError, RecursionError, struct.error, Unreadable):
        answer = None  # their texts may hold what could not be read
    if isinstance(answer, dict) and (reply.status >= 300 or answer.get("status") in ("success", "error")):
        return answer
    if reply.status < 300:
        raise _Again(f"HTTP {reply.status}, no JSON answer", lost=True)
    return {}
