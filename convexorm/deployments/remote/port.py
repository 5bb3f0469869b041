"""The protocol, knowing neither how one posts nor how one waits: what is asked, and asked again, and what an answer means.

Reads and searches change nothing and a commit is known by its id, so all are safe to send twice. One deadline holds for a
call, attempts and pauses included. What fails is sent again a few times. A deployment that has too much to do, or that has
run a mutation into conflicts, is asked until the deadline, with growing pauses. A read that fails in the functions
themselves, as one that takes too long does, is asked again for half as much.
"""

from __future__ import annotations

import random
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
import h11

from convexorm.deployments.base import FunctionCall
from convexorm.deployments.remote.access import Access, Kind
from convexorm.deployments.remote.bodies import TooLarge, Unreadable
from convexorm.deployments.remote.connections import Attempt, ProxyRefused, Reply
from convexorm.deployments.remote.deadlines import Deadline
from convexorm.deployments.remote.refusals import (
    CONFLICT,
    MAX_ARGUMENTS,
    absent,
    busy,
    code_of,
    passes,
    ran,
    refusal,
    refused_by_functions,
    rolled_back,
    told,
)
from convexorm.deployments.remote.shares import Shares, after
from convexorm.errors import (
    ConvexORMError,
    DeploymentError,
    FunctionFailed,
    FunctionNotFound,
    LimitExceeded,
    Travelling,
    ValidationError,
)
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

__all__ = ["Kind", "Limits", "RemotePort", "Target"]

_BACKOFF = 0.1
"""Seconds of the first pause between attempts; each is drawn evenly from zero to twice the one before."""
_LONGEST = 8.0
"""Seconds of the longest pause that nobody has asked for."""


@attrs.frozen
class Target:
    """A path of the deployment, and as whom it is asked: with a user's token, or with the admin key."""

    path: str
    token: str | None = attrs.field(default=None, repr=False)


Post = Callable[[Target, bytes | None, Attempt], Awaitable[Reply]]
"""Sends a body, or gets without one."""
Pause = Callable[[float], Awaitable[None]]
Refused = Callable[[str, Kind, str, int, Mapping[str, Any]], ConvexORMError]
"""The error of a refusal, from the deployment's name, the function's kind and path, the status and the answer."""


@attrs.frozen
class Limits:
    """Of each call: the seconds it may take, and how often it may be sent."""

    timeout: float
    attempts: int


class _Again(Travelling, Exception):
    """The attempt came to nothing, and the next may not. `lost` says that what it sent may still be under way, `busy` that
    the deployment has only too much to do, for `wait` seconds as it says.
    """

    def __init__(self, problem: str, *, lost: bool, busy: bool = False, wait: float = 0.0) -> None:
        self.lost = lost
        self.busy = busy
        self.wait = wait
        super().__init__(problem)


class _Call:
    """One call as it goes: what is left of it, and what is known of the attempts so far.

    Without `resend` it is not sent again once it may be under way.
    """

    def __init__(self, limits: Limits, *, deadline: Deadline | None = None, resend: bool = True) -> None:
        self.limits = limits
        self.deadline = deadline or Deadline(limits.timeout)
        self.resend = resend
        self.most = limits.attempts
        self.made = 0
        self.failed = 0
        """Attempts that count against `most`."""
        self.conflicts = 0
        self.lost = False
        """An attempt has ended without an answer: what it sent may still be under way."""
        self.refused = False
        """The deployment has answered that it did nothing."""
        self.too_much = False
        """It may have been too much for one call."""

    def another(self) -> _Call:
        """A call of its own within the same time."""
        return _Call(self.limits, deadline=self.deadline)

    def given_up(self, where: str, last: _Again) -> DeploymentError:
        late = "; timed out" if self.deadline.over and not isinstance(last.__cause__, TimeoutError) else ""
        made = f"{self.made} attempt{'' if self.made == 1 else 's'}"
        open_ = "; it may have run, and is not sent again" if self.lost and not self.resend else ""
        return DeploymentError(f"{where}: {last}{late}, after {made} in {self.deadline.spent:.1f} seconds{open_}")


class RemotePort:
    """One face of a deployment on Convex."""

    def __init__(self, where: str, module: str, limits: Limits, post: Post, pause: Pause) -> None:
        self._where = where
        self._module = module
        self._limits = limits
        self._post = post
        self._pause = pause
        self._shares = Shares()

    async def pause(self, seconds: float) -> None:
        await self._pause(seconds)

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        """Where the functions cannot answer as much as a call may be asked for, part of it, as any read may be answered."""
        check_reads(reads)
        call = _Call(self._limits)
        share = self._shares.of(reads)
        while True:
            try:
                answer = await self._ask(call, "query", self._path("read"), encode_reads(reads, share))
            except ConvexORMError:
                less = after(share) if call.too_much else None
                if less is None or call.deadline.over:
                    raise
                share, call = less, call.another()
            else:
                self._shares.served(reads, share)
                return decode_reads(answer, reads)

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
        before, call = call.made, call.another()
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

    async def ask(self, call: FunctionCall, *, once: bool = False, refused: Refused = refusal) -> Value:
        """What any function of the deployment answers. With `once` it is not sent again after it may have arrived.

        Raises FunctionNotFound, FunctionFailed, DeploymentError, AuthError, ValidationError and LimitExceeded.
        """
        ours = _Call(self._limits, resend=not once)
        if call.component is None:
            target, body = Target(f"/api/{call.kind}", call.token), _body(call.path, call.arguments)
        else:  # the only way into a component
            target = Target("/api/function", call.token)
            body = _body(call.path, call.arguments, componentPath=call.component)
        status, answer = await self._sent(ours, target, body)
        if answer.get("status") != "success":
            raise refused(self._where, call.kind, call.path, status, answer)
        return answer.get("value")

    async def access(self) -> Access | None:
        """What the key may do; None where the deployment does not tell. Raises AuthError and DeploymentError."""
        return await self._access(_Call(self._limits))

    def _path(self, function: str) -> str:
        return f"{self._module}:{function}"

    async def _ask(self, call: _Call, kind: Kind, path: str, arguments: Mapping[str, Any]) -> Value:
        """What a function of ours answers. A failure that carries no code of ours is looked into: in production it says
        nothing, and may be any.
        """
        answer, error = await self._answer(call, kind, path, arguments)
        if error is None:
            return answer.get("value")
        ours = refused_by_functions(answer)
        call.too_much = isinstance(error, LimitExceeded) and not ours
        call.refused = ours or call.too_much
        if isinstance(error, FunctionFailed | FunctionNotFound):
            error = await self._explained(call, kind, error)
        raise error

    async def _explained(self, call: _Call, kind: Kind, failure: FunctionFailed | FunctionNotFound) -> ConvexORMError:
        """The failure, once it is known whether the function is there and who may call it: one of ours says its version."""
        try:
            answer, _ = await self._answer(call.another(), kind, failure.function, {"version": 0})
            if refused_by_functions(answer):
                if isinstance(failure, FunctionNotFound):  # it has just been deployed
                    return DeploymentError(str(failure))
                call.refused = call.too_much = True  # it has run and thrown, so nothing of it is written
                return ran(failure)
            access = await self._access(call.another()) if isinstance(failure, FunctionFailed) else None
        except ConvexORMError:
            access = None
        return absent(self._where, kind, failure, access)

    async def _access(self, call: _Call) -> Access | None:
        status, answer = await self._sent(call, Target("/api/check_admin_key"), None)
        if status in (401, 403):
            raise refusal(self._where, "query", "check_admin_key", status, answer)
        return Access.told(answer)

    async def _answer(
        self, call: _Call, kind: Kind, path: str, arguments: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], ConvexORMError | None]:
        """What a function answers, and the error that it stands for."""
        status, answer = await self._sent(call, Target(f"/api/{kind}"), _body(path, arguments))
        if answer.get("status") == "success":
            return answer, None
        return answer, refusal(self._where, kind, path, status, answer)

    async def _sent(self, call: _Call, target: Target, body: bytes | None) -> tuple[int, Mapping[str, Any]]:
        """The status and the object of an answer, asked for as often as the call allows."""
        failure: _Again | None = None
        while True:
            call.made += 1
            try:
                return await self._attempt(call, target, body)
            except _Again as again:
                call.lost |= again.lost
                if failure is None or not (failure.busy and call.deadline.over):  # being busy has taken the time
                    failure = again
            if call.lost and not call.resend:
                raise call.given_up(self._where, failure) from failure.__cause__
            call.failed += not failure.busy or call.most == 1
            if call.failed >= call.most or failure.wait > call.deadline.within(failure.wait):
                raise call.given_up(self._where, failure) from failure.__cause__
            longest = min(_LONGEST, _BACKOFF * 2**call.made)
            await self._pause(call.deadline.within(failure.wait + random.uniform(0, longest)))
            if call.deadline.over:
                raise call.given_up(self._where, failure) from failure.__cause__

    async def _attempt(self, call: _Call, target: Target, body: bytes | None) -> tuple[int, Mapping[str, Any]]:
        """One attempt. Raises _Again for a failure that may pass."""
        reply = await self._send(call, target, body)
        answer = _parsed(reply)
        read = answer is not None and (body is None or answer.get("status") in ("success", "error"))
        if reply.status < 300 and not read:
            raise _Again(f"HTTP {reply.status}, no JSON answer", lost=True)
        answer = answer or {}
        if answer.get("status") != "success" and passes(reply.status, answer):
            call.conflicts += code_of(answer) == CONFLICT
            raise _Again(
                f"HTTP {reply.status}, {told(answer) or 'busy'}",
                lost=not rolled_back(answer),  # whoever says so need not be who has got the call
                busy=busy(reply.status, answer),
                wait=reply.asked_to_wait(),
            )
        return reply.status, answer

    async def _send(self, call: _Call, target: Target, body: bytes | None) -> Reply:
        """One attempt. Raises _Again, or DeploymentError for what does not pass."""
        attempt = Attempt(call.deadline)
        try:
            return await self._post(target, body, attempt)
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


def _body(path: str, arguments: Mapping[str, Any], **more: str) -> bytes:
    try:
        body = dumps({"path": path, "args": arguments, "format": "convex_encoded_json", **more}).encode()
    except UnicodeEncodeError:
        raise ValidationError("a string with a lone surrogate cannot be stored") from None
    if len(body) > MAX_ARGUMENTS:
        raise LimitExceeded("bytes of one call's arguments", maximum=MAX_ARGUMENTS, actual=len(body))
    return body


def _parsed(reply: Reply) -> Mapping[str, Any] | None:
    """The object of JSON that the answer is; None if it is none."""
    try:
        answer = loads_printed(reply.body.end())
    except (ValueError, TypeError, KeyError, RecursionError, struct.error, Unreadable):
        return None  # their texts may hold what could not be read
    return answer if isinstance(answer, dict) else None
