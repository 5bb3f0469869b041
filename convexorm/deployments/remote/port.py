"""The protocol, knowing neither how one posts nor how one waits: what is asked, and asked again, and what an answer means.

Reads and searches change nothing and a commit is known by its id, so all are safe to send twice. One deadline holds for a
call, attempts and pauses included. What fails is sent again a few times. A deployment that has too much to do, or that has
run a mutation into conflicts, is asked until the deadline, with growing pauses. A read that fails in the functions
themselves, as one that takes too long does, is asked again for half as much.
"""

from __future__ import annotations

import json
import random
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
import h11

from convexorm.deployments.base import FunctionCall
from convexorm.deployments.observers import ObservedPort, Observers, Request
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
from convexorm.deployments.remote.schemas import Schemas
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
from convexorm.exports import Export
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
from convexorm.schema import Table
from convexorm.values import Value, dumps, loads_printed
from convexorm.wire import (
    DEPLOY,
    VERSION,
    decode_commit,
    decode_reads,
    decode_search,
    decode_withdraw,
    decoding,
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
class Greeting:
    """What a deployment answers to anybody: its clock, where it tells it."""

    date: datetime | None


_KINDS: dict[str, Kind] = {"read": "query", "commit": "mutation", "search": "action"}


@attrs.frozen
class Limits:
    """Of each call: the seconds it may take, how often it may be sent, and whether its tables are held to the schema."""

    timeout: float
    attempts: int
    check_schema: bool = False


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

    def __init__(
        self,
        limits: Limits,
        request: Request | None = None,
        *,
        deadline: Deadline | None = None,
        resend: bool = True,
    ) -> None:
        self.limits = limits
        self.request = request
        if request is not None and deadline is None:
            request.attempts = 0
        self.deadline = deadline or Deadline(limits.timeout)
        self.resend = resend
        self.most = limits.attempts
        self.made = 0
        self.failed = 0
        """Attempts that count against `most`."""
        self.lost = False
        """An attempt has ended without an answer: what it sent may still be under way."""
        self.refused = False
        """The deployment has answered that it did nothing."""
        self.too_much = False
        """It may have been too much for one call."""

    def another(self) -> _Call:
        """A call of its own within the same time."""
        return _Call(self.limits, self.request, deadline=self.deadline)

    def given_up(self, where: str, last: _Again) -> DeploymentError:
        late = "; timed out" if self.deadline.over and not isinstance(last.__cause__, TimeoutError) else ""
        made = f"{self.made} attempt{'' if self.made == 1 else 's'}"
        open_ = "; it may have run, and is not sent again" if self.lost and not self.resend else ""
        error = DeploymentError(f"{where}: {last}{late}, after {made} in {self.deadline.spent:.1f} seconds{open_}")
        error.lost = self.lost
        return error


class RemotePort(ObservedPort):
    """One face of a deployment on Convex."""

    def __init__(self, where: str, module: str, limits: Limits, post: Post, pause: Pause, observers: Observers) -> None:
        self.observers = observers
        self._where = where
        self._module = module
        self._limits = limits
        self._post = post
        self._pause = pause
        self._shares = Shares()
        self._schemas = Schemas(where, checks=limits.check_schema)

    async def pause(self, seconds: float) -> None:
        await self._pause(seconds)

    async def _read(self, reads: Sequence[Read], request: Request | None) -> list[ReadResult]:
        """Where the functions cannot answer as much as a call may be asked for, part of it, as any read may be answered."""
        check_reads(reads)
        await self._require_schema((read.range.table for read in reads), request)
        call = _Call(self._limits, request)
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

    async def _search(self, search: Search, request: Request | None) -> list[tuple[float, Document]]:
        check_search(search)
        await self._require_schema((search.table,), request)
        call = _Call(self._limits, request)
        return decode_search(await self._ask(call, "action", self._path("search"), encode_search(search)))

    async def _commit(self, commit: Commit, request: Request | None) -> list[Applied]:
        """A refusal is final: a copy of the commit that may still be under way is withdrawn before it is raised."""
        check_commit(commit)
        await self._require_schema((write.table for write in commit.writes), request)
        call = _Call(self._limits, request)
        try:
            answer = await self._ask(call, "mutation", self._path("commit"), encode_commit(commit))
        except ConvexORMError as error:
            if not (call.refused and call.lost):
                error.lost |= call.lost
                raise
            applied = await self._withdraw(call, commit)
            if applied is None:
                raise
            return applied
        return _decoded(answer, commit)

    async def _withdrawn(self, commit: Commit, request: Request | None) -> list[Applied] | None:
        return await self._withdraw(_Call(self._limits, request), commit)

    async def _withdraw(self, call: _Call, commit: Commit) -> list[Applied] | None:
        before, call = call.made, call.another()
        try:
            answer = await self._ask(call, "mutation", self._path("commit"), encode_withdraw(commit))
        except ConvexORMError as error:
            if not before:
                raise
            unsettled = DeploymentError(
                "the commit was refused, but an earlier copy of it may have been applied or be under way, "
                f"and it could not be withdrawn: {error}"
            )
            unsettled.lost = True
            raise unsettled from error
        return decode_withdraw(answer, commit.writes)

    async def ask(self, call: FunctionCall, *, once: bool = False, refused: Refused = refusal) -> Value:
        """What any function of the deployment answers. With `once` it is not sent again after it may have arrived.

        Raises FunctionNotFound, FunctionFailed, DeploymentError, AuthError, ValidationError and LimitExceeded.
        """
        if not self.observers.listening:
            return await self._asked(_Call(self._limits, None, resend=not once), call, refused)
        with self.observers.watch("call") as request:
            request.function, request.count = call.path, 1
            return await self._asked(_Call(self._limits, request, resend=not once), call, refused)

    async def ask_ours(self, kind: Kind, function: str, arguments: Mapping[str, Any]) -> Value:
        """What a function of ours answers; a failure that says nothing is looked into. Raises what `ask` does."""
        with self.observers.watch("call") as request:
            request.function, request.count = self._path(function), 1
            call = _Call(self._limits, request)
            return await self._ask(call, kind, self._path(function), {"version": VERSION, **arguments})

    async def _asked(self, ours: _Call, call: FunctionCall, refused: Refused) -> Value:
        if call.component is None:
            target, body = Target(f"/api/{call.kind}", call.token), _body(call.path, call.arguments)
        else:  # the only way into a component
            target = Target("/api/function", call.token)
            body = _body(call.path, call.arguments, componentPath=call.component)
        status, answer = await self._sent(ours, target, body)
        if answer.get("status") != "success":
            raise refused(self._where, call.kind, call.path, status, answer)
        return answer.get("value")

    async def greet(self) -> Greeting:
        """Whether the deployment is there, whatever the key. Raises DeploymentError."""
        call = _Call(self._limits)
        try:
            reply = await self._send(call, Target("/version"), None)
        except _Again as again:
            call.made = 1
            raise call.given_up(self._where, again) from again.__cause__
        if reply.status >= 300:
            raise DeploymentError(f"{self._where}: HTTP {reply.status} instead of a version; this is no Convex deployment")
        return Greeting(reply.date())

    async def deployed(self, function: str) -> int:
        """The wire version of `read`, `commit` or `search` as it is deployed. Raises what calling it would raise."""
        call, kind, path = _Call(self._limits), _KINDS[function], self._path(function)
        answer, error = await self._answer(call, kind, path, {"version": 0})
        if refused_by_functions(answer):
            return int(answer["errorData"].get("supported") or 0)
        if isinstance(error, FunctionFailed | FunctionNotFound):
            error = await self._explained(call, kind, error)
        raise error or DeploymentError(f"{self._where}: {path} is no function of this library; {DEPLOY}")

    async def describe(self) -> Export:
        """The schema that is deployed with the functions. Raises what calling one of them would raise."""
        with self.observers.watch("call") as request:
            if request is not None:
                request.function, request.count = self._path("describe"), 1
            return await self._described(_Call(self._limits, request))

    async def _described(self, call: _Call) -> Export:
        answer = await self._ask(call, "query", self._path("describe"), {"version": VERSION})
        with decoding():
            schema: dict[str, Any] = json.loads(dict(answer)["schema"])
        return Export.told(schema)

    async def _require_schema(self, tables: Iterable[Table], request: Request | None) -> None:
        """Refuse tables that the deployed schema has otherwise, the first time they are spoken of, if that is wanted."""
        unseen = self._schemas.unseen(tables)
        if unseen:
            self._schemas.require(unseen, await self._described(_Call(self._limits, request)))

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
            if call.request is not None:
                call.request.attempts += 1
                call.request.sent += len(body or b"")
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
            longest = min(_LONGEST, _BACKOFF * 2 ** min(call.made, 30))  # a call may be made for hours
            await self._pause(call.deadline.within(failure.wait + random.uniform(0, longest)))
            if call.deadline.over:
                raise call.given_up(self._where, failure) from failure.__cause__

    async def _attempt(self, call: _Call, target: Target, body: bytes | None) -> tuple[int, Mapping[str, Any]]:
        """One attempt. Raises _Again for a failure that may pass."""
        reply = await self._send(call, target, body)
        answer = _parsed(reply)
        if reply.status < 300 and (answer is None or not (body is None or _is_answer(answer))):
            raise _Again(f"HTTP {reply.status}, no JSON answer", lost=True)
        answer = answer or {}
        if answer.get("status") != "success" and passes(reply.status, answer):
            if call.request is not None:
                call.request.conflicts += code_of(answer) == CONFLICT
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
            reply = await self._post(target, body, attempt)
            if call.request is not None:
                call.request.received += reply.body.received
            return reply
        except TimeoutError as error:
            raise _Again(f"timed out {attempt.stage.value}", lost=attempt.sent) from error
        except Unreadable as error:
            raise _Again("the answer is cut, or encoded as was not asked for", lost=True) from error
        except TooLarge as error:
            large = DeploymentError(f"{self._where}: an answer larger than any of Convex")
            large.lost = True
            raise large from error
        except ssl.SSLCertVerificationError as error:
            raise DeploymentError(f"{self._where}: its certificate is not valid here: {error.verify_message}") from error
        except ProxyRefused as error:
            raise DeploymentError(f"{self._where}: the proxy refuses, HTTP {error.status}") from error
        except (OSError, h11.RemoteProtocolError) as error:
            problem = "broke off the connection" if attempt.sent else "unreachable"
            problem = "the TLS handshake failed" if isinstance(error, ssl.SSLError) and not attempt.sent else problem
            raise _Again(problem, lost=attempt.sent) from error


def _decoded(answer: Value, commit: Commit) -> list[Applied]:
    try:
        return decode_commit(answer, commit.writes)
    except DeploymentError as error:
        error.lost = True
        raise


def _body(path: str, arguments: Mapping[str, Any], **more: str) -> bytes:
    try:
        body = dumps({"path": path, "args": arguments, "format": "convex_encoded_json", **more}).encode()
    except UnicodeEncodeError:
        raise ValidationError("a string with a lone surrogate cannot be stored") from None
    if len(body) > MAX_ARGUMENTS:
        raise LimitExceeded("bytes of one call's arguments", maximum=MAX_ARGUMENTS, actual=len(body))
    return body


def _is_answer(answer: Mapping[str, Any]) -> bool:
    """Whether it is what Convex says of a call, and not something cut or made up on the way."""
    if answer.get("status") == "success":
        return "value" in answer
    return answer.get("status") == "error" and ("errorData" in answer or isinstance(answer.get("errorMessage"), str))


def _parsed(reply: Reply) -> Mapping[str, Any] | None:
    """The object of JSON that the answer is; None if it is none."""
    try:
        answer = loads_printed(reply.body.end())
    except (ValueError, TypeError, KeyError, RecursionError, struct.error, Unreadable):
        return None  # their texts may hold what could not be read
    return answer if isinstance(answer, dict) else None
