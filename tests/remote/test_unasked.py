"""Answers that nobody asked for: none of them is ever taken for the answer to a later call."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convexorm import Deployment, connect
from tests.remote.calling import KEY, say, say_async
from tests.servers import received, scripted, success

CERTIFICATE = Path(__file__).with_name("certificate.pem")


def call(deployment: Deployment) -> list[Any]:
    return [say(deployment, n) for n in range(4)]


def call_async(deployment: Deployment) -> list[Any]:
    async def calls() -> list[Any]:
        return [await say_async(deployment, n) for n in range(4)]

    return asyncio.run(calls())


class Plain:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def recv(self, most: int) -> bytes:
        return self._connection.recv(most)

    def send(self, *parts: bytes) -> None:
        self._connection.sendall(b"".join(parts))


class Secure:
    """TLS that sends each part as a record, and all of them at once."""

    def __init__(self, connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._step(self._session.do_handshake)

    def recv(self, most: int) -> bytes:
        data: bytes = self._step(lambda: self._session.read(most))
        return data

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self._session.write(part)
        self._connection.sendall(self._outgoing.read())

    def _step(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._connection.sendall(self._outgoing.read())
                data = self._connection.recv(65_536)
                self._incoming.write(data) if data else self._incoming.write_eof()
            finally:
                if self._outgoing.pending:
                    self._connection.sendall(self._outgoing.read())


UNASKED = success("unasked").body
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(UNASKED) + UNASKED


@pytest.mark.parametrize("how", [call, call_async])
@pytest.mark.parametrize("over", [Plain, Secure])
@pytest.mark.parametrize("unasked", [WHOLE, WHOLE[:-10], WHOLE[:20]], ids=["whole", "without its end", "a beginning"])
def test_what_follows_an_answer_is_no_answer(
    how: Callable[[Deployment], list[Any]],
    over: Callable[[socket.socket], Any],
    unasked: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))

    def script(connection: socket.socket, end: threading.Event) -> None:
        there, rest = over(connection), [unasked, WHOLE[len(unasked) :]]
        while not end.is_set():
            _, body = received(there)
            answer = success(json.loads(body)["args"]["value"]).body
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
            if not rest:
                there.send(head + answer)
            elif rest[0] is unasked:
                there.send(head + answer, rest.pop(0))
            else:
                there.send(rest.pop(0) + head + answer)

    with scripted(script) as url, connect(url if over is Plain else url.replace("http:", "https:"), KEY) as deployment:
        assert how(deployment) == list(range(4))
