"""Small HTTP servers on 127.0.0.1 that answer as a test says, and keep what they were sent."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

from convexorm.wire import VERSION

__all__ = ["Answer", "Server", "deployed", "is_probe", "received", "refusal", "scripted", "serve", "success"]


@attrs.frozen
class Answer:
    """What to send. With `length` the head promises that many bytes, whatever the body has.

    With `pause` the body goes byte by byte, with that many seconds between.
    """

    body: bytes
    status: int = 200
    type: str = "application/json"
    length: int | None = None
    pause: float = 0.0
    encoding: str | None = None
    headers: dict[str, str] = attrs.field(factory=dict)


Handler = Callable[[dict[str, Any]], Answer | None]
"""From a call to its answer; None closes the connection without one."""


@attrs.define
class Server:
    url: str
    calls: list[tuple[str, dict[str, str], bytes]] = attrs.field(factory=list)
    peers: list[int] = attrs.field(factory=list)
    """The port of the client, for each call: a connection has one."""

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, _, body in self.calls]


def success(value: Any) -> Answer:
    return Answer(json.dumps({"status": "success", "value": value, "logLines": []}).encode())


def refusal(text: str = "", /, *, status: int = 200, **data: Any) -> Answer:
    """What a function that throws is answered with; `data` is a ConvexError's."""
    answer = {"status": "error", "errorMessage": text, "logLines": [], **({"errorData": data} if data else {})}
    return Answer(json.dumps(answer).encode(), status)


VERSIONED = refusal("Server Error", code="Version", message="m", supported=VERSION)
"""What functions of ours answer to whoever only looks whether they are there."""


def is_probe(call: dict[str, Any]) -> bool:
    return bool(call["args"] == {"version": 0})


def deployed(handle: Handler) -> Handler:
    """A handler of a deployment that has our functions, whatever it answers to their calls."""
    return lambda call: VERSIONED if is_probe(call) else handle(call)


@contextmanager
def serve(handle: Handler, get: Callable[[str], Answer] | None = None) -> Iterator[Server]:
    """A server for the length of a block. Calls are handled on threads of their own; `get` answers what is got, by path."""

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.calls.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            server.peers.append(self.client_address[1])
            answer = handle(json.loads(body))
            if answer is None:
                self.close_connection = True
                return
            self.send(answer)

        def do_GET(self) -> None:
            self.send(Answer(b"", 501) if get is None else get(self.path))

        def send(self, answer: Answer) -> None:
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", answer.type)
            if answer.encoding is not None:
                self.send_header("Content-Encoding", answer.encoding)
            self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
            self.end_headers()
            parts = (answer.body[at : at + 1] for at in range(len(answer.body))) if answer.pause else (answer.body,)
            for part in parts:
                self.wfile.write(part)
                time.sleep(answer.pause)
            self.close_connection = answer.length is not None

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Listener(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # of those who connect at once, none waits for a second attempt

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients that go away are part of the tests."""

    listener = Listener(("127.0.0.1", 0), Requests)
    server = Server(f"http://127.0.0.1:{listener.server_address[1]}")
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


Script = Callable[[socket.socket, threading.Event], None]
"""What a server does with one connection, until the event says that the test is over."""


@contextmanager
def scripted(script: Script, *, tls: ssl.SSLContext | None = None, window: int | None = None) -> Iterator[str]:
    """The URL of a server that says and does as the script, on a thread for each connection.

    `window` is the bytes that the system takes in for it before it reads.
    """
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    if window is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    listener.settimeout(0.05)

    def play(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(20)
            if tls is None:
                script(connection, over)
            else:
                with tls.wrap_socket(connection, server_side=True) as secure:
                    script(secure, over)

    def accept() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                player = threading.Thread(target=play, args=(connection,))
                player.start()
                players.append(player)

    players: list[threading.Thread] = []
    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http{'' if tls is None else 's'}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        accepting.join()
        listener.close()
        for player in players:
            player.join()


def received(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head and the body of one call."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or _gone()
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]):
        body += connection.recv(65536) or _gone()
    return head, body


def _gone() -> bytes:
    raise ConnectionResetError
