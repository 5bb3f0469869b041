"""Connections: one call at a time over each, written once for both faces.

A call takes an idle connection out of its pool, or opens one, and puts it back only when the answer was read to its end.
Whatever interrupts the call leaves the connection to be dropped, which closes it. Nothing counts calls or connections, so
there is no count to get wrong.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from weakref import ref

import attrs
import h11

from convexorm.deployments.remote.addresses import Address, trusted
from convexorm.deployments.remote.bodies import Body
from convexorm.deployments.remote.deadlines import Deadline
from convexorm.deployments.remote.sockets import LOOP, THREAD, Socket, Stream, Waiting
from convexorm.deployments.remote.tls import secured
from convexorm.errors import DeploymentError, Travelling

__all__ = ["Attempt", "Call", "Connections", "ProxyRefused", "Reply", "Stage"]

MAX_IDLE = 64
"""Connections that a pool keeps open without a call."""
MAX_TASKS = 128
"""Calls of one event loop at once; others wait. Callers that block have a thread each, which bounds them."""
IDLE = 4.0
"""Seconds after which a connection without a call is not used any more: servers close theirs after 5 or more."""
_SHORT = 1 << 16
"""Bytes of a body that is sent in one piece with its head."""
_MAX_HEAD = 100 << 10
"""Bytes of an answer's status and headers."""


class Stage(Enum):
    """How far an attempt has come."""

    QUEUING = "waiting for a free connection"
    CONNECTING = "while connecting"
    SENDING = "while sending"
    WAITING = "waiting for an answer"


class Attempt:
    """One attempt at a call: when it has to end, and how far it has come."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.stage = Stage.QUEUING

    @property
    def sent(self) -> bool:
        """Whether the server may have got something."""
        return self.stage in (Stage.SENDING, Stage.WAITING)


class ProxyRefused(Travelling, OSError):
    """The proxy does not let a call through."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"HTTP {status}")


@attrs.frozen
class Call:
    """What is posted, or got where there is no body."""

    target: str
    headers: list[tuple[bytes, bytes]] = attrs.field(repr=False)
    body: bytes | None = attrs.field(repr=False)


@attrs.frozen
class Reply:
    """An answer over HTTP, read to its end."""

    status: int
    body: Body = attrs.field(repr=False)
    headers: Mapping[bytes, bytes] = attrs.field(factory=dict, repr=False)

    def date(self) -> datetime | None:
        """When the answer was made, as its server's clock has it."""
        return _date(self.headers.get(b"date"))

    def asked_to_wait(self) -> float:
        """Seconds that a deployment, or a proxy before it, asks to be left alone for."""
        asked = self.headers.get(b"retry-after", b"")
        if asked.isdigit():
            return float(asked)
        until, now = _date(asked), self.date() or datetime.now(UTC)
        return 0.0 if until is None else max(0.0, (until - now).total_seconds())


def _date(text: bytes | None) -> datetime | None:
    try:
        date = parsedate_to_datetime((text or b"").decode("latin-1"))
    except (TypeError, ValueError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


class Connection:
    """An open connection, and how far its conversation is."""

    def __init__(self, sock: Socket, stream: Stream) -> None:
        self._socket = sock
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        self._since = 0.0

    async def post(self, call: Call, attempt: Attempt) -> Reply:
        """Raises OSError and h11.RemoteProtocolError for a conversation that breaks off, and what `Body` raises."""
        http, deadline = self._http, attempt.deadline
        method, body = ("GET", b"") if call.body is None else ("POST", call.body)
        headers = [*call.headers, (b"Content-Length", b"%d" % len(body))]
        head = http.send(h11.Request(method=method, target=call.target, headers=headers)) or b""
        http.send(h11.Data(body))  # of a known length, so it travels as it is
        http.send(h11.EndOfMessage())
        attempt.stage = Stage.SENDING
        try:
            if len(body) <= _SHORT:
                await self._stream.send(head + body, deadline)
            else:
                await self._stream.send(head, deadline)
                await self._stream.send(body, deadline)
        except (BrokenPipeError, ConnectionResetError):
            http.send_failed()  # a server may answer before it has read everything, and close
        attempt.stage = Stage.WAITING
        reply: Reply | None = None
        while True:
            event = await _next(http, self._stream, deadline)
            if isinstance(event, h11.Response):
                encodings = [value for name, value in event.headers if name == b"content-encoding"]
                reply = Reply(event.status_code, Body(b", ".join(encodings).decode("latin-1")), dict(event.headers))
            elif isinstance(event, h11.Data) and reply is not None:
                reply.body.add(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and reply is not None:
                return reply
            elif not isinstance(event, h11.InformationalResponse):
                raise ConnectionResetError

    def rest(self) -> bool:
        """Whether the conversation has come to its end and another may follow. Begins it."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE or self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        self._since = time.monotonic()
        return True

    def usable(self) -> bool:
        """Whether it has rested only shortly, and the server has neither closed it nor said anything unasked."""
        return time.monotonic() - self._since <= IDLE and self._stream.quiet()

    def close(self) -> None:
        self._socket.close()


async def _next(http: h11.Connection, stream: Stream, deadline: Deadline) -> object:
    """The next event of a conversation."""
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await stream.receive(deadline))
    return event


async def _tunnel(stream: Stream, to: Address, credentials: bytes | None, deadline: Deadline) -> None:
    """Have a proxy connect the stream with an address. Raises ProxyRefused."""
    http, target = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD), to.endpoint
    headers = [(b"Host", target), *_authorized(credentials)]
    head = http.send(h11.Request(method="CONNECT", target=target, headers=headers)) or b""
    http.send(h11.EndOfMessage())
    await stream.send(head, deadline)
    while not isinstance(event := await _next(http, stream, deadline), h11.Response):
        if not isinstance(event, h11.InformationalResponse):
            raise ConnectionResetError
    if event.status_code >= 300:
        raise ProxyRefused(event.status_code)


def _authorized(credentials: bytes | None) -> list[tuple[bytes, bytes]]:
    return [] if credentials is None else [(b"Proxy-Authorization", credentials)]


class Pool:
    """The connections of the blocking face, or of one event loop."""

    def __init__(self) -> None:
        self._keeping = True
        self._idle: deque[Connection] = deque()
        self._open: set[ref[Socket]] = set()

    def take(self) -> Connection | None:
        """The connection that has rested least."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.usable():
                return connection
            connection.close()
        return None

    def give(self, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end, if it can go on."""
        if not connection.rest():
            connection.close()
            return
        self._idle.append(connection)
        self._drain(MAX_IDLE if self._keeping else 0)

    def opened(self, sock: Socket) -> Socket:
        """Note a socket, for as long as there is one."""
        self._open.add(ref(sock, self._open.discard))
        return sock

    def rest(self) -> None:
        """Keep no connection without a call, from now on."""
        self._keeping = False
        self._drain(0)

    def close(self) -> None:
        """End everything, also calls under way."""
        self.rest()
        for one in list(self._open):
            sock = one()
            if sock is not None:
                sock.hang_up()

    def _drain(self, most: int) -> None:
        while len(self._idle) > most:
            try:
                connection = self._idle.popleft()
            except IndexError:
                break
            connection.close()


class _Loop:
    """What one event loop has. `asyncio.run` ends it, by closing its asynchronous generators."""

    def __init__(self) -> None:
        self.pool = Pool()
        self.slots = asyncio.Semaphore(MAX_TASKS)
        self._end = _until_the_end(self.pool)

    async def begin(self) -> None:
        """Let the running loop note the generator. It must not note the loop in turn, which would never be forgotten."""
        finalizer = sys.get_asyncgen_hooks().finalizer
        sys.set_asyncgen_hooks(finalizer=None)
        try:
            await anext(self._end)
        finally:
            sys.set_asyncgen_hooks(finalizer=finalizer)


async def _until_the_end(pool: Pool) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        pool.rest()


class _Process:
    """What one process has."""

    def __init__(self, *addresses: Address | None) -> None:
        secure = any(one is not None and one.secure for one in addresses)
        self.trusted = trusted() if secure else None
        self.threads = Pool()
        self._loops: dict[ref[asyncio.AbstractEventLoop], _Loop] = {}

    async def loop(self) -> _Loop:
        """What the running loop has."""
        loop = asyncio.get_running_loop()
        found = self._loops.get(ref(loop))
        if found is None:
            self._forget()
            found = _Loop()
            await found.begin()
            self._loops[ref(loop, self._gone)] = found
        return found

    def _gone(self, loop: ref[asyncio.AbstractEventLoop]) -> None:
        self._loops.pop(loop, None)

    def _forget(self) -> None:
        """Close what closed loops have left: those that nobody had end their generators."""
        for key, left in self._loops.copy().items():
            loop = key()
            if loop is not None and loop.is_closed():
                self._loops.pop(key, None)
                left.pool.close()

    def close(self) -> None:
        for pool in [self.threads, *(one.pool for one in list(self._loops.values()))]:
            pool.close()
        self._forget()


_process = object()
"""Another one in each process."""


def _forked() -> None:
    global _process
    _process = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Connections:
    """All connections of a deployment.

    A child of a fork opens its own. What it has inherited stays referenced and is never touched: the sockets are shared
    with the parent, and locks, such as that of a TLS context, may be held by a thread that is not there any more.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._proxy = address.proxy()
        self._processes = {_process: _Process(address, self._proxy)}
        self._closed = False

    async def post(self, call: Call, attempt: Attempt) -> Reply:
        """From the calling thread. Raises what `Connection.post` raises, and DeploymentError once closed."""
        return await self._post(self._mine().threads, THREAD, call, attempt)

    async def post_async(self, call: Call, attempt: Attempt) -> Reply:
        """From the running event loop, likewise."""
        async with asyncio.timeout(attempt.deadline.left()):
            loop = await self._mine().loop()
            async with loop.slots:
                return await self._post(loop.pool, LOOP, call, attempt)

    async def _post(self, pool: Pool, waiting: Waiting, call: Call, attempt: Attempt) -> Reply:
        self.check_open()
        proxy = self._proxy
        if proxy is not None and not self._address.secure:  # such a proxy is asked for the whole URL
            headers = [*call.headers, *_authorized(proxy.credentials)]
            call = Call(f"{self._address}{call.target}", headers, call.body)
        connection = pool.take() or await self._connect(pool, waiting, attempt)
        try:
            reply = await connection.post(call, attempt)
        except BaseException as error:
            connection.close()
            if isinstance(error, Exception):
                self.check_open()
            raise
        pool.give(connection)
        return reply

    async def _connect(self, pool: Pool, waiting: Waiting, attempt: Attempt) -> Connection:
        attempt.stage = Stage.CONNECTING
        to, proxy, trusts, deadline = self._address, self._proxy, self._mine().trusted, attempt.deadline
        first = proxy or to
        sock = await self._reach(first, pool, waiting, deadline)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = waiting.stream(sock)
            if first.secure and trusts is not None:
                stream = await secured(stream, trusts, first.host, deadline)
            if proxy is not None and to.secure and trusts is not None:
                await _tunnel(stream, to, proxy.credentials, deadline)
                stream = await secured(stream, trusts, to.host, deadline)
        except BaseException:
            sock.close()
            raise
        return Connection(sock, stream)

    async def _reach(self, to: Address, pool: Pool, waiting: Waiting, deadline: Deadline) -> Socket:
        """A socket connected with the first address of a name that answers; each has its share of the time."""
        found = await waiting.find(to.host, to.port, deadline)
        last: OSError = ConnectionRefusedError("no address")
        for place, (family, kind, protocol, _, where) in enumerate(found):
            sock = pool.opened(Socket(family, kind, protocol))
            self.check_open()  # after the socket was noted: who closes sees it, or it sees who closes
            try:
                await waiting.connect(sock, where, deadline.left() / (len(found) - place))
            except OSError as error:
                sock.close()
                last = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise last

    def _mine(self) -> _Process:
        """What this process has."""
        found = self._processes.get(_process)
        return found if found is not None else self._processes.setdefault(_process, _Process(self._address, self._proxy))

    def check_open(self) -> None:
        if self._closed:
            raise DeploymentError("the deployment is closed")

    def close(self) -> None:
        """End all connections of this process. Any thread may, whether loops run, pause or are gone."""
        self._closed = True
        self._mine().close()
