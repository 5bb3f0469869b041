"""TLS over any stream, written once for both faces."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TypeVar

from convexorm.deployments.remote.deadlines import Deadline
from convexorm.deployments.remote.sockets import CHUNK, Stream

__all__ = ["secured"]

T = TypeVar("T")


async def secured(stream: Stream, context: ssl.SSLContext, host: str, deadline: Deadline) -> Stream:
    """The stream, encrypted, after a handshake in which the server has proved to be `host`. Raises OSError."""
    secure = _Secure(stream, context, host)
    await secure.handshake(deadline)
    return secure


class _Secure:
    def __init__(self, stream: Stream, context: ssl.SSLContext, host: str) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    async def handshake(self, deadline: Deadline) -> None:
        await self._step(self._session.do_handshake, deadline)

    async def send(self, data: bytes | memoryview, deadline: Deadline) -> None:
        rest = memoryview(data)
        while rest:
            part = rest[:CHUNK]
            rest = rest[await self._step(lambda part=part: self._session.write(part), deadline) :]  # type: ignore[misc]

    async def receive(self, deadline: Deadline) -> bytes:
        try:
            return await self._step(lambda: self._session.read(CHUNK), deadline)
        except ssl.SSLZeroReturnError:
            return b""

    async def _step(self, step: Callable[[], T], deadline: Deadline) -> T:
        """What the session's step comes to, with what it has to say sent and what it waits for received."""
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await self._flush(deadline)
                data = await self._stream.receive(deadline)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                await self._flush(deadline)
                return done

    async def _flush(self, deadline: Deadline) -> None:
        if self._outgoing.pending:
            await self._stream.send(self._outgoing.read(), deadline)
