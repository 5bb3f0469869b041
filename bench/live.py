"""Watches: from a commit to its change, many watches, many changes, and large answers; embedded, and over the local host.

`python -m bench.live` prints four tables. Beside the watches stand a subscription of the PyPI client `convex`, in a process
of its own since its calls hold the interpreter's lock, and polling every 100 milliseconds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.tables import print_table
from convexorm import Deployment, Session, connect
from convexorm.deployments.observers import Request
from convexorm.requests import Range, Read
from convexorm.wire import encode_reads
from tests.conftest import ADMIN_KEY, ROOT, Host, start_host, stop_host
from tests.models import Task

LATENCIES, WATCHES, COMMITS, MEETING, CHANGES, LARGE = 300, 1_000, 20, 5, 10_000, 10_000
POLL = 0.1
PATIENCE = 120
FUNCTIONS = ROOT / "tests" / "functions"


def of(owner: str) -> Any:
    return Task.query().by_index("by_owner", owner_id=owner)


def save(deployment: Deployment, owner: str, *texts: str) -> None:
    with Session(deployment) as session:
        session.add_all([Task(text=text, owner_id=owner) for text in texts], returning=False)
        session.commit()


# -- from a commit to its change ---------------------------------------------------------------------------------------


def latencies(deployment: Deployment, arrivals: Callable[[str], Iterator[float]], owner: str) -> list[float]:
    """Milliseconds from the beginning of each commit until a watcher, whose arrivals are given, has seen it."""
    seen = arrivals(owner)
    next(seen)
    found = []
    for number in range(LATENCIES):
        begun = time.monotonic()
        save(deployment, owner, str(number))
        found.append((next(seen) - begun) * 1e3)
    return found


def watched(deployment: Deployment) -> Callable[[str], Iterator[float]]:
    def arrivals(owner: str) -> Iterator[float]:
        """The moments at which a thread that watches is given a state."""
        moments: list[float] = []
        arrived = threading.Semaphore(0)

        def follow() -> None:
            with deployment.watch(of(owner).order("desc").limit(1)) as live:
                for number, _ in enumerate(live):
                    moments.append(time.monotonic())
                    arrived.release()
                    if number == LATENCIES:
                        return

        threading.Thread(target=follow, daemon=True).start()
        for number in range(LATENCIES + 1):
            arrived.acquire(timeout=PATIENCE)
            yield moments[number]

    return arrivals


def polled(deployment: Deployment) -> Callable[[str], Iterator[float]]:
    def arrivals(owner: str) -> Iterator[float]:
        """The moments at which a poll sees something new, in a rhythm that knows nothing of commits."""
        with Session(deployment) as session:
            yield time.monotonic()
            for number in range(LATENCIES):
                time.sleep(POLL * (number * 0.618 % 1))  # until the next poll, whenever that is
                while session.count(of(owner)) == number:
                    time.sleep(POLL)
                yield time.monotonic()

    return arrivals


_CLIENT = """
import json, sys, time
import convex
url, key, arguments = sys.argv[1:]
client = convex.ConvexClient(url)
client.set_admin_auth(key)
for _ in client.subscribe("orm:read", json.loads(arguments)):
    print(time.monotonic(), flush=True)
"""


def pypi(host: Host) -> Callable[[str], Iterator[float]]:
    def arrivals(owner: str) -> Iterator[float]:
        read = Read(Range(Task.__mapper__.table, "by_owner", (owner,)), order="desc", limit=1)
        arguments = json.dumps(_floats(encode_reads([read])))
        command = [sys.executable, "-c", _CLIENT, host.url, host.key, arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            try:
                for _ in range(LATENCIES + 1):
                    yield float(process.stdout.readline())
            finally:
                process.kill()

    return arrivals


def _floats(value: Any) -> Any:
    """Numbers as JavaScript's, which is what the client's arguments are to hold."""
    if isinstance(value, dict):
        return {name: _floats(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_floats(one) for one in value]
    return float(value) if type(value) is int else value


# -- many watches ----------------------------------------------------------------------------------------------------------


def many(name: str, deployment: Deployment, reruns: Callable[[], int]) -> tuple[str, str, str, str]:
    """Runs of the queries of many watches for commits of which each meets some, and what a watch holds."""
    before = _memory()
    with ExitStack() as stack:
        lives = [stack.enter_context(deployment.watch(of(f"many {n % (WATCHES // MEETING)}"))) for n in range(WATCHES)]
        for live in lives:
            live.next(PATIENCE)
        held = (_memory() - before) / WATCHES
        start = reruns()
        for number in range(COMMITS):
            save(deployment, f"many {number}", "x")
            for meeting in range(MEETING):
                lives[number + meeting * (WATCHES // MEETING)].next(PATIENCE)
        runs = reruns() - start
    return name, f"{COMMITS * MEETING:,}", f"{runs:,}", f"{held / 1024:.1f}"


def _memory() -> int:
    """The bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -- many changes ----------------------------------------------------------------------------------------------------------


def changes(name: str, deployment: Deployment, url: str, key: str | None, sent: Callable[[], int]) -> tuple[str, ...]:
    """States seen, and bytes that came, for many commits in a row by another process. The last state has to be right."""
    states = 0
    with deployment.watch(of("changes").order("desc").limit(20)) as live:
        newest = live.next(PATIENCE)
        before = sent()
        begun = time.monotonic()
        process = multiprocessing.get_context("spawn").Process(target=_commit, args=(url, key))
        process.start()
        while not newest.items or newest.items[0].text != str(CHANGES - 1):
            newest = live.next(PATIENCE)
            states += 1
        took = time.monotonic() - begun
        process.join()
        assert [task.text for task in newest.items] == [str(CHANGES - 1 - n) for n in range(20)]
        with suppress(TimeoutError):
            live.next(0.2)
            raise AssertionError("there was nothing more to see")
    came = f"{(sent() - before) / CHANGES:,.0f}" if key else "-"
    return name, f"{CHANGES / took:,.0f}", f"{states:,}", came


def _commit(url: str, key: str | None) -> None:
    with connect(url, key) as deployment, Session(deployment) as session:
        for number in range(CHANGES):
            session.add(Task(text=str(number), owner_id="changes"), returning=False)
            session.commit()
            session.expunge_all()


# -- a large answer --------------------------------------------------------------------------------------------------------


def large(name: str, deployment: Deployment) -> tuple[str, ...]:
    """One document of many changes: what of the answer is found anew, and how long it takes."""
    for start in range(0, LARGE, 2_000):
        save(deployment, "large", *map(str, range(start, start + 2_000)))
    seen: list[Request] = []
    deployment.on_request(lambda request: seen.append(request) if request.operation == "watch" else None)
    times, anew = [], []
    with deployment.watch(of("large")) as live:
        first = live.next(PATIENCE)
        assert len(first.items) == LARGE
        with Session(deployment) as session:
            for number in range(10):
                task = session.attach(first.items[number * 997])
                seen.clear()
                task.text = f"changed {number}"
                begun = time.monotonic()
                session.commit()
                change = live.next(PATIENCE)
                times.append((time.monotonic() - begun) * 1e3)
                anew.append(sum(request.documents for request in seen))
                assert [one.text for one in change.changed] == [task.text]
    return name, f"{LARGE:,}", f"{median(anew):.0f}", f"{median(times):.0f}"


# -- the run ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _host() -> Iterator[Host]:
    process, url = start_host(FUNCTIONS)
    try:
        yield Host(url, ADMIN_KEY)
    finally:
        stop_host(process)


def _sync(host: Host, name: str) -> Callable[[], int]:
    def count() -> int:
        found: Any = host.metrics()
        return int(found["sync"][name])

    return count


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, _host() as host:
        url = f"sqlite:///{folder}/live.db"
        with connect(url) as embedded, host.connect() as remote:
            sides: list[tuple[str, Deployment, Callable[[str], Iterator[float]]]] = [
                ("embedded, watched", embedded, watched(embedded)),
                ("embedded, polled", embedded, polled(embedded)),
                ("host, watched", remote, watched(remote)),
                ("host, PyPI client", remote, pypi(host)),
                ("host, polled", remote, polled(remote)),
            ]
            rows: list[tuple[str, ...]] = []
            for name, deployment, arrivals in sides:
                found = latencies(deployment, arrivals, name)
                rows.append((name, f"{median(found):.2f}", f"{quantiles(found, n=100)[98]:.2f}"))
            heads = ("", "median ms", "p99 ms")
            print_table(f"From a commit's beginning to its change elsewhere, {LATENCIES} commits one by one", heads, rows)

            runs: list[Request] = []
            embedded.on_request(lambda request: runs.append(request) if request.operation == "watch" else None)
            rows = [
                many("embedded", embedded, lambda: len(runs)),
                many("host", remote, _sync(host, "reruns")),
            ]
            heads4 = ("", "watches met", "runs", "KB a watch")
            print_table(f"{WATCHES:,} watches, {COMMITS} commits of which each meets {MEETING}", heads4, rows)

            rows = [
                changes("embedded", embedded, url, None, lambda: 0),
                changes("host", remote, host.url, host.key, _sync(host, "bytes")),
            ]
            heads4 = ("", "commits a second", "states seen", "bytes a commit")
            print_table(f"{CHANGES:,} commits of another process, a page of 20 watched", heads4, rows)

            rows = [large("embedded", embedded), large("host", remote)]
            heads4 = ("", "documents", "found anew", "ms to the change")
            print_table("A change of one document of a large answer", heads4, rows)


if __name__ == "__main__":
    main()
