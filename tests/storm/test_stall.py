"""Servers that never answer, or never end: a call ends with one typed error, and holds nothing any more."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import attrs
import pytest

from convexorm import DeploymentError, connect
from tests.faces import FACES, open_session
from tests.models import Task
from tests.storm.conftest import Storm

TIMEOUT = 0.4
"""Seconds that a call may take."""
PIECES = 1_500
"""How many pieces a server sends at most, for so long that whoever waits for it has missed the deadline by far."""
PAUSE = 0.02
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

Pieces = Callable[[Random], Iterator[bytes]]


def nothing(_: Random) -> Iterator[bytes]:
    """The request is read, and that is all."""
    return itertools.repeat(b"")


def status(_: Random) -> Iterator[bytes]:
    """A status line that goes on and on."""
    return itertools.chain([b"HTTP/1.1 200 "], itertools.repeat(b"O"))


def headers(_: Random) -> Iterator[bytes]:
    """A head without an end."""
    return itertools.chain([HEAD], (b"X-%d: x\r\n" % number for number in itertools.count()))


def processing(_: Random) -> Iterator[bytes]:
    """Word that an answer is being made."""
    return itertools.repeat(b"HTTP/1.1 102 Processing\r\n\r\n")


def body(chance: Random) -> Iterator[bytes]:
    """A body that comes byte by byte."""
    length = chance.randint(10_000, 10_000_000)
    return itertools.chain([HEAD + b"Content-Length: %d\r\n\r\n{" % length], itertools.repeat(b" "))


def chunks(_: Random) -> Iterator[bytes]:
    """Chunks without a last one."""
    return itertools.chain([HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"1\r\n \r\n"))


KINDS: tuple[Pieces, ...] = (nothing, status, headers, processing, body, chunks)


@attrs.define
class Staller:
    """A server that answers in endless pieces; it counts calls, and those that it, not the client, gave up."""

    url: str
    calls: int = 0
    outlasted: int = 0


@contextmanager
def stalling(kind: Pieces, chance: Random) -> Iterator[Staller]:
    """A server for the length of a block."""
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                if not connection.recv(1 << 16):
                    return
                staller.calls += 1
                for piece in itertools.islice(kind(chance), PIECES):
                    connection.sendall(piece)
                    if over.wait(PAUSE) or gone(connection):
                        return
                staller.outlasted += 1
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=answer, args=(connection,))
            threads.append(thread)
            thread.start()

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        staller = Staller(f"http://127.0.0.1:{listener.getsockname()[1]}")
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield staller
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def gone(connection: socket.socket) -> bool:
    """Whether the client has closed the connection."""
    connection.setblocking(False)
    try:
        return not connection.recv(1 << 16)
    except BlockingIOError:
        return False
    finally:
        connection.setblocking(True)


@pytest.mark.parametrize("face", FACES)
def test_stalling_servers(storm: Storm, face: str) -> None:
    calls = 2 * storm.scale

    async def call(session_url: str, change: bool) -> None:
        async with connect(session_url, "key", timeout=TIMEOUT) as deployment:
            session = open_session(face, deployment)
            await session.add(Task(text="x", owner_id="u"))
            with pytest.raises(DeploymentError, match="timed out"):
                await (session.commit() if change else session.count(Task.query().by_index("by_owner", owner_id="u")))

    async def at_once(url: str) -> None:
        await asyncio.gather(*(call(url, storm.chance.random() < 0.5) for _ in range(calls)))

    with storm.leaking_nothing():
        for kind in KINDS:
            with stalling(kind, storm.chance) as staller:
                asyncio.run(at_once(staller.url))
            assert staller.outlasted == 0, f"a call waited for {kind.__name__} far beyond its deadline"
            if kind is nothing:
                assert staller.calls <= calls, "attempts do not share the deadline of their call"
    storm.report(kinds=len(KINDS), calls=len(KINDS) * calls)
