"""A proxy on 127.0.0.1 that stands between a client and a deployment, and does to requests what networks do."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

__all__ = ["FAULTS", "LossyProxy", "lossy_proxy"]

FAULTS = (
    "hung up",  # before the request was read
    "lost",  # the request
    "unanswered",  # delivered, and the connection closed
    "held up",  # delivered when others have overtaken it, and the connection closed
    "twice",  # delivered again after it was answered
    "busy",  # 503 instead of a delivery
    "failed",  # 502 after it
    "cut head",
    "cut body",
    "garbage",  # 200 and HTML
    "empty",  # 200 and nothing
    "bad gzip",
    "cut gzip",
    "trickle",  # the answer in small parts
    "delay",
    "processing",  # 102, then the answer
)


class LossyProxy:
    """Does one of `FAULTS` to about `rate` of the requests, after those that `script` has; `done` counts what it did."""

    def __init__(
        self, upstream: str, chance: random.Random, rate: float, faults: Sequence[str], overtaken: tuple[int, int]
    ) -> None:
        self.url = ""
        self.done: Counter[str] = Counter()
        self.script: Iterator[str] = iter(())
        self.rate = rate
        self._faults = faults
        self._overtaken = overtaken
        self._upstream = urlsplit(upstream).netloc
        self._chance = chance
        self._lock = threading.Lock()
        self._held: list[tuple[int, Callable[[], object]]] = []

    def fault(self) -> str:
        with self._lock:
            stormy = self._chance.random() < self.rate
            fault = next(self.script, self._chance.choice(self._faults) if stormy else "passed")
            self.done[fault] += 1
        return fault

    def deliver(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def hold(self, delivery: Callable[[], object]) -> None:
        """Deliver this when some more requests have come."""
        with self._lock:
            self._held.append((self._chance.randint(*self._overtaken), delivery))

    def pass_held(self, *, all: bool = False) -> None:
        """Deliver what has been held long enough; `all` of it at the end."""
        with self._lock:
            self._held = [(left - 1, delivery) for left, delivery in self._held]
            due = [delivery for left, delivery in self._held if all or left <= 0]
            self._held = [] if all else [one for one in self._held if one[0] > 0]
        for delivery in due:
            delivery()

    def some(self, count: int) -> int:
        with self._lock:
            return self._chance.randint(0, max(count, 0))


@contextmanager
def lossy_proxy(
    upstream: str,
    chance: random.Random,
    *,
    rate: float,
    faults: Sequence[str] = FAULTS,
    overtaken: tuple[int, int] = (1, 4),
) -> Iterator[LossyProxy]:
    """A proxy for the length of a block. Its requests are handled on threads of their own.

    What is held up is overtaken by between so many requests.
    """
    proxy = LossyProxy(upstream, chance, rate, faults, overtaken)

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            proxy.pass_held()
            fault = proxy.fault()
            if fault == "hung up":
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "accept-encoding"}

            def deliver() -> tuple[int, bytes]:
                return proxy.deliver(self.path, headers, body)

            if fault == "busy":
                self._answer(503, b"busy")
            elif fault in ("lost", "held up"):
                self.close_connection = True
                if fault == "held up":
                    proxy.hold(deliver)
            else:
                self._distort(fault, *deliver())
                if fault == "twice":
                    deliver()

        def _distort(self, fault: str, status: int, answer: bytes) -> None:
            if fault in ("passed", "twice"):
                self._answer(status, answer)
            elif fault == "failed":
                self._answer(502, b"<html>Bad gateway</html>")
            elif fault == "unanswered":
                self.close_connection = True
            elif fault == "cut head":
                self._raw(b"HTTP/1.1 200 OK\r\nContent-Type: appl"[: proxy.some(33)])
            elif fault == "cut body":
                self._head(status, len(answer))
                self._raw(answer[: proxy.some(len(answer) - 1)])
            elif fault == "garbage":
                self._answer(200, b"<html>Welcome to this hotel</html>")
            elif fault == "empty":
                self._answer(200, b"")
            elif fault in ("bad gzip", "cut gzip"):
                packed = gzip.compress(answer)
                packed = b"\0" + packed[1:] if fault == "bad gzip" else packed[: proxy.some(len(packed) - 1)]
                self._answer(200, packed, "gzip")
            elif fault == "trickle":
                self._head(status, len(answer))
                size = len(answer) // 10 + 1
                for at in range(0, len(answer), size):
                    self.wfile.write(answer[at : at + size])
                    self.wfile.flush()
                    time.sleep(0.001)
            elif fault == "delay":
                time.sleep(proxy.some(20) / 1000)
                self._answer(status, answer)
            elif fault == "processing":
                self.wfile.write(b"HTTP/1.1 102 Processing\r\n\r\n")
                self._answer(status, answer)

        def _head(self, status: int, length: int, encoding: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(length))
            if encoding is not None:
                self.send_header("Content-Encoding", encoding)
            self.end_headers()

        def _answer(self, status: int, body: bytes, encoding: str | None = None) -> None:
            self._head(status, len(body), encoding)
            self.wfile.write(body)

        def _raw(self, part: bytes) -> None:
            self.wfile.write(part)
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Listener(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients that go away are part of the storm."""

    listener = Listener(("127.0.0.1", 0), Requests)
    proxy.url = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.rate = 0
        with contextlib.suppress(OSError):
            proxy.pass_held(all=True)
        listener.shutdown()
        listener.server_close()
        thread.join()
