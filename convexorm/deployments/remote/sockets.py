"""Bytes to and from a server, twice: on the calling thread, and on an event loop.

This is the only place where the two faces differ. Sockets here have no transport and no reader that stays, so nothing of a
loop hangs on one that is not in a call: any thread may close it, whether the loop runs, pauses or is gone.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from convexorm.deployments.remote.deadlines import Deadline

__all__ = ["LOOP", "THREAD", "Socket", "Stream", "Waiting"]

CHUNK = 1 << 16
"""Bytes taken from a socket at once."""
_LONGEST = 1_000_000.0
"""Seconds, about eleven days, that an operating system is asked to wait at most."""
_TURN = 4
"""How often bytes are received before other tasks have their turn, however fast a server sends."""

Found = list[tuple[Any, ...]]
"""What getaddrinfo has found."""


class Socket(socket.socket):
    """A socket that is closed when it is dropped, without a warning.

    Whatever interrupts a call may drop its connection anywhere. What closes it then is written in C: nothing interrupts it.
    """

    __slots__ = ()
    __del__ = socket.SocketType.close

    def hang_up(self) -> None:
        """End what another thread or task does with it, which then closes it."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)


class Stream(Protocol):
    """Bytes in both directions. Raises OSError, of which TimeoutError is one."""

    async def send(self, data: bytes | memoryview, deadline: Deadline) -> None: ...

    async def receive(self, deadline: Deadline) -> bytes:
        """The next bytes; none when the other side has ended."""
        ...


class Waiting(Protocol):
    """How one face waits."""

    async def find(self, host: str, port: int, deadline: Deadline) -> Found:
        """The addresses of a name. Raises OSError."""
        ...

    async def connect(self, sock: Socket, address: Any, seconds: float) -> None: ...

    def stream(self, sock: Socket) -> Stream: ...


def _look_up(host: str, port: int, flags: int = 0) -> Found:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError as error:
        raise OSError("no name of a host") from error


def _look_up_beside(host: str, port: int, tell: Callable[[Found | OSError], Any]) -> Found | None:
    """The addresses of a numeric host at once; those of a name on a thread of its own, since no lookup takes a timeout."""
    with suppress(socket.gaierror):
        return _look_up(host, port, socket.AI_NUMERICHOST)

    def run() -> None:
        try:
            tell(_look_up(host, port))
        except OSError as error:
            tell(error)

    threading.Thread(target=run, name=f"looking up {host}", daemon=True).start()
    return None


def _found(answer: Found | OSError) -> Found:
    if isinstance(answer, OSError):
        raise answer
    return answer


class _ThreadStream:
    def __init__(self, sock: Socket) -> None:
        self._socket = sock

    async def send(self, data: bytes | memoryview, deadline: Deadline) -> None:
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(min(deadline.left(), _LONGEST))
            rest = rest[self._socket.send(rest) :]

    async def receive(self, deadline: Deadline) -> bytes:
        self._socket.settimeout(min(deadline.left(), _LONGEST))
        return self._socket.recv(CHUNK)


class _Thread:
    """Waiting on the calling thread. These coroutines never suspend."""

    async def find(self, host: str, port: int, deadline: Deadline) -> Found:
        answers: SimpleQueue[Found | OSError] = SimpleQueue()
        found = _look_up_beside(host, port, answers.put)
        if found is not None:
            return found
        try:
            return _found(answers.get(timeout=min(deadline.left(), _LONGEST)))
        except Empty:
            raise TimeoutError from None

    async def connect(self, sock: Socket, address: Any, seconds: float) -> None:
        sock.settimeout(min(seconds, _LONGEST))
        sock.connect(address)

    def stream(self, sock: Socket) -> Stream:
        return _ThreadStream(sock)


class _LoopStream:
    def __init__(self, sock: Socket) -> None:
        self._socket = sock
        self._received = 0

    async def send(self, data: bytes | memoryview, deadline: Deadline) -> None:
        deadline.left()
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self, deadline: Deadline) -> bytes:
        deadline.left()  # of what is there already, nothing is waited for: no timeout of the loop's would end it
        self._received += 1
        if not self._received % _TURN:
            await asyncio.sleep(0)
        return await asyncio.get_running_loop().sock_recv(self._socket, CHUNK)


class _Loop:
    """Waiting on the running event loop. The caller sees to it that a wait ends at the deadline."""

    async def find(self, host: str, port: int, deadline: Deadline) -> Found:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Found | OSError] = loop.create_future()

        def settle(result: Found | OSError) -> None:
            if not answer.done():
                answer.set_result(result)

        def tell(result: Found | OSError) -> None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, result)

        found = _look_up_beside(host, port, tell)
        return found if found is not None else _found(await answer)

    async def connect(self, sock: Socket, address: Any, seconds: float) -> None:
        sock.setblocking(False)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(sock, address)

    def stream(self, sock: Socket) -> Stream:
        return _LoopStream(sock)


THREAD: Waiting = _Thread()
LOOP: Waiting = _Loop()
