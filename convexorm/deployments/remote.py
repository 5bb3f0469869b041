"""The remote deployment: the requests, sent to a Convex deployment over its HTTP API.

What is asked and what an answer means is written once, over a `post` that either blocks or awaits. Calls go through one
pooled httpx2 client a face, every wait has a timeout, and what is safe to send twice is sent again after a failure: reads
and searches change nothing, and a commit is known by its id. The admin key travels in a header and is shown nowhere.
"""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import attrs
import httpx2

from convexorm.deployments.base import Deployment
from convexorm.errors import (
    AuthError,
    ConvexORMError,
    DeploymentError,
    FunctionFailed,
    FunctionNotFound,
    IndexRangeError,
    InvalidRequestError,
    LimitExceeded,
    StaleDataError,
    ValidationError,
)
from convexorm.requests import (
    DELETED_BY_RANGE,
    MAX_DELETED_BY_RANGE,
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

__all__ = ["Kind", "RemoteDeployment", "RemotePort"]

MAX_ARGUMENTS = 16 << 20
"""Bytes of the arguments of one call (Convex limit)."""
ATTEMPTS = 4
"""How often a call is sent before its failure is reported."""
_BACKOFF = 0.1
"""Seconds of the first pause between attempts; each is drawn evenly from zero to twice the one before."""
_CONNECTIONS = httpx2.Limits(max_connections=128, max_keepalive_connections=64)

Kind = Literal["query", "mutation", "action"]
_KINDS: tuple[Kind, ...] = ("query", "mutation", "action")
Pause = Callable[[float], Awaitable[None]]


@attrs.frozen
class Reply:
    """An answer over HTTP, read to its end."""

    status_code: int
    content: bytes = attrs.field(repr=False)


Post = Callable[[Kind, bytes], Awaitable[Reply]]


class _Body:
    """The parts of an answer. The client's own timeout begins anew with each, this one does not."""

    def __init__(self, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        self._parts.append(part)
        if time.monotonic() > self._deadline:
            raise httpx2.ReadTimeout("the answer takes too long")

    def __bytes__(self) -> bytes:
        return b"".join(self._parts)


class RemoteDeployment(Deployment):
    """A Convex deployment, reached with its admin key.

    `timeout` is the seconds to wait for a connection and for the next bytes, and those after which an answer's body has
    ended.
    Raises AuthError for a key that is missing or cannot be one, DeploymentError for what is no URL, and InvalidRequestError
    for a timeout that is none.
    """

    def __init__(self, url: str, admin_key: str | None, *, functions: str = "orm", timeout: float = 30.0) -> None:
        self._url = url.rstrip("/")
        if not admin_key:
            raise AuthError(
                "a Convex deployment needs its admin key (a deploy key from the dashboard's settings): pass it beside the "
                "URL, or pass no URL and set CONVEX_URL and CONVEX_ADMIN_KEY"
            )
        if not isinstance(admin_key, str):
            raise AuthError(f"the admin key given is not one: it is a string, got {type(admin_key).__name__}")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
            raise InvalidRequestError("a timeout is a number of seconds greater than 0")
        if not admin_key.isascii() or not admin_key.isprintable() or admin_key.strip() != admin_key:
            raise AuthError("the admin key given is not one: it holds white space or characters outside ASCII")
        try:
            self._endpoints: dict[Kind, httpx2.URL] = {kind: httpx2.URL(f"{self._url}/api/{kind}") for kind in _KINDS}
        except httpx2.InvalidURL as error:
            raise DeploymentError(f"not a URL: {error}") from None
        self._headers: list[tuple[bytes, bytes]] = [
            (b"Host", self._endpoints["query"].netloc),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"gzip, deflate"),
            (b"Authorization", f"Convex {admin_key}".encode()),
            (b"Content-Type", b"application/json"),
            (b"User-Agent", b"convexorm"),
        ]
        self._timeout = timeout
        self._options: dict[str, Any] = {
            "timeout": timeout,
            "limits": _CONNECTIONS,
            "trust_env": urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"),
        }
        self._client = httpx2.Client(**self._options)
        self._async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient] = WeakKeyDictionary()
        self._closed = False
        self.blocking: RemotePort = RemotePort(self._url, functions, self._post, _sleep)
        self.asynchronous: RemotePort = RemotePort(self._url, functions, self._post_async, asyncio.sleep)

    def _request(self, kind: Kind, body: bytes) -> httpx2.Request:
        """A call. The clients' own way to build one merges URLs, headers and cookies, for a fifth of a call's time."""
        self._check_open()
        headers = [*self._headers, (b"Content-Length", b"%d" % len(body))]
        return httpx2.Request("POST", self._endpoints[kind], headers=headers, stream=httpx2.ByteStream(body))

    async def _post(self, kind: Kind, body: bytes) -> Reply:
        request, answer = self._request(kind, body), _Body(self._timeout)
        response = self._client.send(request, stream=True)
        try:
            for part in response.iter_bytes():
                answer.add(part)
        finally:
            response.close()
        return Reply(response.status_code, bytes(answer))

    async def _post_async(self, kind: Kind, body: bytes) -> Reply:
        request, answer = self._request(kind, body), _Body(self._timeout)
        loop = asyncio.get_running_loop()  # connections belong to the loop they were opened on
        client = self._async_clients.get(loop)
        if client is None:
            client = self._async_clients[loop] = httpx2.AsyncClient(**self._options)
        response = await client.send(request, stream=True)
        try:
            async for part in response.aiter_bytes():
                answer.add(part)
        finally:
            await response.aclose()
        return Reply(response.status_code, bytes(answer))

    def _check_open(self) -> None:
        if self._closed:
            raise DeploymentError("the deployment is closed")

    def close(self) -> None:
        self._closed = True
        self._client.close()

    async def aclose(self) -> None:
        self.close()
        client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def __repr__(self) -> str:
        return f"<RemoteDeployment {self._url}>"


async def _sleep(seconds: float) -> None:
    time.sleep(seconds)


class RemotePort:
    """The protocol, knowing neither how one posts nor how one waits."""

    def __init__(self, url: str, functions: str, post: Post, pause: Pause) -> None:
        self._url = url
        self._functions = functions
        self._post = post
        self._pause = pause

    async def pause(self, seconds: float) -> None:
        await self._pause(seconds)

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        check_reads(reads)
        return decode_reads(await self._call("query", "read", encode_reads(reads)), reads)

    async def commit(self, commit: Commit) -> list[Applied]:
        check_commit(commit)
        return decode_commit(await self._call("mutation", "commit", encode_commit(commit)), commit.writes)

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        return decode_withdraw(await self._call("mutation", "commit", encode_withdraw(commit)), commit.writes)

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        check_search(search)
        return decode_search(await self._call("action", "search", encode_search(search)))

    async def _call(self, kind: Kind, function: str, arguments: Mapping[str, Any]) -> Value:
        return await self.call(kind, f"{self._functions}:{function}", arguments)

    async def call(self, kind: Kind, path: str, arguments: Mapping[str, Any], *, attempts: int = ATTEMPTS) -> Value:
        """What any function of the deployment answers. `attempts` is 1 for one that must not run twice.

        Raises FunctionNotFound, FunctionFailed, DeploymentError, AuthError, ValidationError and LimitExceeded.
        """
        body = _body(path, arguments)
        last: DeploymentError | None = None
        for attempt in range(attempts):
            if attempt:
                await self.pause(random.uniform(0, _BACKOFF * 2**attempt))
            try:
                response = await self._post(kind, body)
            except httpx2.TransportError as error:
                last = DeploymentError(f"{self._url}: {_REASONS.get(type(error), type(error).__name__)}")
                last.__cause__ = error
                continue
            except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:  # UnicodeError: no name of a host
                raise DeploymentError(f"{self._url}: {type(error).__name__}") from error
            answer = _answer(response)
            if answer.get("status") == "success":
                return answer.get("value")
            if _transient(response, answer):
                last = DeploymentError(f"{self._url}: HTTP {response.status_code}, {answer.get('code') or 'busy'}")
                continue
            self._refused(path, response, answer)
        assert last is not None
        raise last

    def _refused(self, path: str, response: Reply, answer: Mapping[str, Any]) -> NoReturn:
        """Raise what a refusal means."""
        data, text, code = answer.get("errorData"), str(answer.get("errorMessage") or ""), str(answer.get("code") or "")
        if isinstance(data, dict) and str(data.get("code")) in _ERRORS:
            with decoding():
                refusal = _ERRORS[str(data["code"])](data)
            raise refusal
        if response.status_code in (401, 403) or code in _BAD_KEYS:
            raise AuthError(f"{self._url} refused the admin key")
        if any(sign in text for sign in _NO_FUNCTION) or code == "FunctionPathNotFound":
            raise FunctionNotFound(
                f"{self._url} has no function {path!r}. Copy the functions into your Convex project with "
                "`python -m convexorm functions convex`, then deploy them with `npx convex deploy`",
                function=path,
            )
        if any(sign in text for sign in _OVER_LIMIT):
            raise LimitExceeded("bytes or documents of one call (Convex)", maximum=MAX_ARGUMENTS)
        summary = text.splitlines()[0][:200] if text else code[:200] or "no JSON answer"
        problem = f"{self._url}: {path} failed, HTTP {response.status_code}: {summary}"
        if not text:  # whoever answered is no function: a proxy, a login page, another server
            raise DeploymentError(problem)
        raise FunctionFailed(problem, function=path, text=text)


def _body(path: str, arguments: Mapping[str, Any]) -> bytes:
    try:
        body = dumps({"path": path, "args": arguments, "format": "convex_encoded_json"}).encode()
    except UnicodeEncodeError:
        raise ValidationError("a string with a lone surrogate cannot be stored") from None
    if len(body) > MAX_ARGUMENTS:
        raise LimitExceeded("bytes of one call's arguments", maximum=MAX_ARGUMENTS, actual=len(body))
    return body


def _answer(response: Reply) -> Mapping[str, Any]:
    try:
        answer = loads_printed(response.content)
    except (ValueError, TypeError, KeyError, RecursionError, struct.error):
        return {}
    return answer if isinstance(answer, dict) else {}


def _transient(response: Reply, answer: Mapping[str, Any]) -> bool:
    return (
        response.status_code in (408, 425, 429)
        or (response.status_code >= 500 and response.status_code != 560)  # 560: the function itself failed
        or answer.get("code") == "OptimisticConcurrencyControlFailure"
    )


_REASONS: dict[type[Exception], str] = {
    httpx2.ConnectError: "unreachable",
    httpx2.ConnectTimeout: "timed out while connecting",
    httpx2.ReadTimeout: "timed out waiting for an answer",
    httpx2.WriteTimeout: "timed out while sending",
    httpx2.PoolTimeout: "timed out waiting for a free connection",
    httpx2.RemoteProtocolError: "broke off the connection",
    httpx2.ReadError: "broke off the connection",
}
_BAD_KEYS = frozenset(("BadDeployKey", "BadAdminKey", "InvalidAdminKey", "InvalidHeaderFailure", "Unauthenticated"))
_NO_FUNCTION = ("Could not find public function", "Could not find function", "Couldn't find JavaScript module")
_OVER_LIMIT = ("Convex limit", "Too many bytes", "Too many reads", "too large", "limit:")

# what the codes of docs/wire.md mean here


def _version(data: Mapping[str, Any]) -> ConvexORMError:
    supported = data.get("supported")
    newer = isinstance(supported, int | float) and supported > VERSION
    mend = "update this library: `pip install --upgrade convexorm`" if newer else DEPLOY
    return DeploymentError(
        f"the deployment's functions speak wire version {supported}, this library version {VERSION}; {mend}"
    )


def _unknown_table(data: Mapping[str, Any]) -> ConvexORMError:
    return DeploymentError(
        f"the deployment has no table {data.get('table')!r}; write the schema with `python -m convexorm schema`, deploy it"
    )


def _unknown_index(data: Mapping[str, Any]) -> ConvexORMError:
    return IndexRangeError(
        "the deployment does not have it; write the schema with `python -m convexorm schema`, deploy it",
        table=str(data.get("table")),
        index=str(data.get("index")),
    )


def _other_index(data: Mapping[str, Any]) -> ConvexORMError:
    assumed, deployed = (", ".join(map(str, data.get(name) or ())) for name in ("assumed", "deployed"))
    return IndexRangeError(
        f"the model declares it on [{assumed}], deployed is [{deployed}]; nothing was read or written. "
        "Write the schema again with `python -m convexorm schema`, deploy it",
        table=str(data.get("table")),
        index=str(data.get("index")),
        fields=tuple(map(str, data.get("assumed") or ())),
    )


def _withdrawn(data: Mapping[str, Any]) -> ConvexORMError:
    return InvalidRequestError("this commit has been withdrawn; nothing of it is written")


def _index(data: Mapping[str, Any]) -> ConvexORMError:
    return IndexRangeError(str(data.get("message")), table=str(data.get("table")), index=str(data.get("index")))


def _invalid(data: Mapping[str, Any]) -> ConvexORMError:
    return ValidationError(str(data.get("message")), table=data.get("table"))


def _stale(data: Mapping[str, Any]) -> ConvexORMError:
    return StaleDataError(
        table=str(data.get("table")),
        reason=data.get("reason", "changed"),
        write=int(data["write"]) if "write" in data else None,
        fields=data.get("fields") or (),
    )


def _range_too_large(data: Mapping[str, Any]) -> ConvexORMError:
    return LimitExceeded(DELETED_BY_RANGE, maximum=MAX_DELETED_BY_RANGE, table=data.get("table"))


def _limit(data: Mapping[str, Any]) -> ConvexORMError:
    actual = data.get("actual")
    limit = str(data.get("limit"))
    return LimitExceeded(
        "bytes of a document" if limit == "documentBytes" else limit,
        maximum=int(data.get("maximum") or 0),
        actual=None if actual is None else int(actual),
        table=data.get("table"),
    )


_ERRORS: dict[str, Callable[[Mapping[str, Any]], ConvexORMError]] = {
    "Version": _version,
    "Invalid": _invalid,
    "UnknownTable": _unknown_table,
    "UnknownIndex": _unknown_index,
    "OtherIndex": _other_index,
    "BadRange": _index,
    "Stale": _stale,
    "Withdrawn": _withdrawn,
    "RangeTooLarge": _range_too_large,
    "Limit": _limit,
    "BadDocument": _invalid,
}
