"""Calls over HTTP beside bare httpx2 posting the same bodies to the same server, 64 in flight.

The server is a stub in a process of its own that answers each call with a correct answer prepared before, so the client
is what is measured. Bare httpx2 posts the bytes that the session sends, over one pooled client, and reads the answer's
bytes, no more. A session encodes its request, parses and checks the answer and makes instances of it.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

import httpx2
import msgspec

from bench.peers import CONTENT, Message, values
from bench.tables import interleaved, print_table, seconds
from convexorm import AsyncSession, Deployment, Session, connect
from convexorm.wire import VERSION

IN_FLIGHT = 64
CALLS = 640
ROUNDS = 15
PAGE = 1_000
KEY = "bench|key"
HEADERS = {"Authorization": f"Convex {KEY}", "Content-Type": "application/json"}
LIMITS = httpx2.Limits(max_connections=128, max_keepalive_connections=64)
START = datetime(2026, 1, 1, tzinfo=UTC)


# -- the stub server -----------------------------------------------------------------------------------------------


def _document(number: int) -> dict[str, Any]:
    created = (START + timedelta(seconds=number)).isoformat(timespec="milliseconds")[:-6] + "Z"
    return {
        "_id": f"{number:032x}",
        "_creationTime": 1767225600000.5 + number,
        "id": f"message-{number}",
        "thread_id": "thread-1",
        "content": CONTENT,
        "role": "user",
        "type": "v2",
        "created_at": created,
        "resource_id": "resource-1",
    }


def _answer(body: bytes) -> bytes:
    """The answer to a read of up to 20 documents, or to a commit of one insert."""
    call = json.loads(body)
    arguments = call["args"]
    if call["path"] == "orm:commit":
        value: dict[str, Any] = {"version": VERSION, "results": [[["0" * 32, 1767225600000.5]]]}
    else:
        limit = int(arguments["reads"][0]["limit"])
        docs = [_document(number) for number in range(limit)]
        result = {"docs": docs, "count": len(docs), "skipped": 0, "more": False, "next": None}
        value = {"version": VERSION, "results": [result]}
    text = json.dumps({"status": "success", "value": value, "logLines": []}, separators=(",", ":")).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


class _Stub(asyncio.Protocol):
    """Answers any POST by the answer prepared for its kind of body; `GET /last` answers the last body posted."""

    prepared: dict[tuple[bytes, int], bytes] = {}  # noqa: RUF012
    last = b""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            place = head.find(b"content-length:")
            length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if len(self._received) < end + 4 + length:
                return
            body = self._received[end + 4 : end + 4 + length]
            self._received = self._received[end + 4 + length :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get"):
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_Stub.last) + _Stub.last)
            return
        _Stub.last = body
        kind = (head[: head.find(b"\r\n")], len(body))
        if kind not in _Stub.prepared:
            _Stub.prepared[kind] = _answer(body)
        self._transport.write(_Stub.prepared[kind])


def _serve(ready: Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Stub, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


# -- the calls -----------------------------------------------------------------------------------------------------

GET = Message.query().by_index("by_record_id", id="message-0").limit(1)
LAST = Message.query().by_index("by_thread_created", thread_id="thread-1").order("desc").limit(20)


def _read(deployment: Deployment, query: Any) -> list[Any]:
    with Session(deployment) as session:
        return list(session.all(query))


async def _read_async(deployment: Deployment, query: Any) -> None:
    async with AsyncSession(deployment) as session:
        await session.all(query)


def _insert(deployment: Deployment) -> None:
    with Session(deployment) as session:
        session.add(Message(**values(0, "message-0")))
        session.commit()


async def _insert_async(deployment: Deployment) -> None:
    async with AsyncSession(deployment) as session:
        session.add(Message(**values(0, "message-0")))
        await session.commit()


OPERATIONS: list[tuple[str, str, Callable[[Deployment], object], Callable[[Deployment], Awaitable[None]]]] = [
    ("get by id", "query", lambda to: _read(to, GET), lambda to: _read_async(to, GET)),
    ("last 20 of a thread", "query", lambda to: _read(to, LAST), lambda to: _read_async(to, LAST)),
    ("insert one, commit", "mutation", _insert, _insert_async),
]


def threaded(call: Callable[[], object]) -> float:
    """Calls a second, from 64 threads."""
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(lambda _: call(), range(IN_FLIGHT)))  # connections are opened before the clock starts
        start = time.perf_counter()
        list(pool.map(lambda _: [call() for _ in range(CALLS // IN_FLIGHT)], range(IN_FLIGHT)))
        return CALLS / (time.perf_counter() - start)


async def gathered(call: Callable[[], Awaitable[object]]) -> float:
    """Calls a second, from 64 tasks."""

    async def repeat(times: int) -> None:
        for _ in range(times):
            await call()

    await asyncio.gather(*(repeat(1) for _ in range(IN_FLIGHT)))
    start = time.perf_counter()
    await asyncio.gather(*(repeat(CALLS // IN_FLIGHT) for _ in range(IN_FLIGHT)))
    return CALLS / (time.perf_counter() - start)


def _in_threads(url: str, deployment: Deployment) -> list[tuple[str, ...]]:
    rows = []
    with httpx2.Client(headers=HEADERS, limits=LIMITS, trust_env=False) as client:
        for title, kind, call, _ in OPERATIONS:
            call(deployment)
            body = client.get(f"{url}/last").content
            times = interleaved(
                {
                    "ours": lambda call=call: threaded(lambda: call(deployment)),  # type: ignore[misc]
                    "bare": lambda kind=kind, body=body: threaded(  # type: ignore[misc]
                        lambda: client.post(f"{url}/api/{kind}", content=body).content
                    ),
                },
                ROUNDS,
            )
            rows.append(_row(f"{title}, 64 threads", times))
    return rows


def _in_tasks(url: str) -> list[tuple[str, ...]]:
    rows = []
    for title, kind, _, call in OPERATIONS:

        async def ours(call: Any = call) -> float:
            async with connect(url, KEY) as deployment:
                return await gathered(lambda: call(deployment))

        async def bare(call: Any = call, kind: str = kind) -> float:
            async with (
                connect(url, KEY) as deployment,
                httpx2.AsyncClient(headers=HEADERS, limits=LIMITS, trust_env=False) as client,
            ):
                await call(deployment)
                body = (await client.get(f"{url}/last")).content

                async def post() -> bytes:
                    return (await client.post(f"{url}/api/{kind}", content=body)).content

                return await gathered(post)

        times = interleaved({"ours": lambda f=ours: asyncio.run(f()), "bare": lambda f=bare: asyncio.run(f())}, ROUNDS)  # type: ignore[misc]
        rows.append(_row(f"{title}, 64 tasks", times))
    return rows


def _row(title: str, times: dict[str, float]) -> tuple[str, ...]:
    return title, f"{times['ours']:,.0f}", f"{times['bare']:,.0f}", f"{times['ours'] / times['bare']:.2f}", "0.8"


def _page(url: str, deployment: Deployment) -> tuple[str, ...]:
    """Microseconds for each document of a page of 1,000, ours beside bare httpx2 that decodes the answer with msgspec."""
    query = Message.query().by_index("by_thread_created", thread_id="thread-1").limit(PAGE)
    decode = msgspec.json.Decoder().decode
    with httpx2.Client(headers=HEADERS, trust_env=False) as client:
        _read(deployment, query)
        body = client.get(f"{url}/last").content
        times = interleaved(
            {
                "ours": lambda: seconds(lambda: [len(_read(deployment, query)) for _ in range(10)]),
                "bare": lambda: seconds(
                    lambda: [decode(client.post(f"{url}/api/query", content=body).content) for _ in range(10)]
                ),
            },
            ROUNDS,
        )
    ours, bare = (times[name] / 10 / PAGE * 1e6 for name in ("ours", "bare"))
    return f"a document of a page of {PAGE:,}", f"{ours:.2f}", f"{bare:.2f}", f"{ours / bare:.2f}"


def main() -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=_serve, args=(sender,), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{receiver.recv()}"
        with connect(url, KEY) as deployment:
            rows = _in_threads(url, deployment)
            page = _page(url, deployment)
        rows += _in_tasks(url)
    finally:
        server.terminate()
        server.join()
    print_table(
        f"HTTP with {IN_FLIGHT} calls in flight, calls a second, medians of {ROUNDS} rounds of {CALLS:,}",
        ("operation", "convexorm", "bare httpx2", "ratio", "target"),
        rows,
    )
    heads = ("", "convexorm µs", "bare httpx2 and msgspec µs", "times")
    print_table(f"Reading over HTTP, medians of {ROUNDS} rounds", heads, [page])


if __name__ == "__main__":
    main()
