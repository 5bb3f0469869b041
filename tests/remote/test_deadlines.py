"""One deadline over a whole call: whatever a server, a network or a name server does, a call ends."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from convexorm import DeploymentError, InvalidRequestError, connect
from convexorm.deployments.remote import connections, port, sockets
from convexorm.deployments.remote.deadlines import Deadline
from tests.remote.calling import KEY, Say, echo, say_async
from tests.remote.conftest import Clock
from tests.servers import Answer, received, scripted, serve, success

TIMED_OUT = r": timed out [a-z ]+, after 1 attempt in \d+\.\d seconds$"
"""Waiting for an answer, unless the machine was too slow to come so far."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n"


def trickle(begin: bytes, part: bytes, every: float) -> Any:
    """A server that sends something for longer than anybody should listen."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        received(connection)
        connection.sendall(begin)
        end = time.monotonic() + 10
        while not over.wait(every) and time.monotonic() < end:
            connection.sendall(part)

    return script


def reads_nothing(connection: socket.socket, over: threading.Event) -> None:
    over.wait(20)


def answers_nothing(connection: socket.socket, over: threading.Event) -> None:
    received(connection)
    over.wait(20)


SCRIPTS = {
    "never answers": answers_nothing,
    "trickles its status": trickle(b"HTTP/1.1 2", b"0", 0.02),
    "trickles its headers": trickle(HEAD, b"X: y\r\n", 0.02),
    "trickles its body": trickle(HEAD + b"\r\n", b" ", 0.02),
    "trickles chunks": trickle(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.02),
    "says that it is processing": trickle(b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.02),
    "says so without a pause": trickle(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 2_000, 0.0),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_call_ends_in_time_whatever_a_server_does(ask: Say, name: str) -> None:
    with (
        scripted(SCRIPTS[name]) as url,
        connect(url, KEY, timeout=0.2) as deployment,
        pytest.raises(DeploymentError, match=TIMED_OUT),
    ):
        ask(deployment, 1)


def test_a_slow_upload_ends_in_time(ask: Say) -> None:
    with (
        scripted(reads_nothing, window=4_096) as url,
        connect(url, KEY, timeout=0.3) as deployment,
        pytest.raises(DeploymentError, match=TIMED_OUT),
    ):
        ask(deployment, "x" * 8_000_000)


def test_a_server_that_never_answers_costs_one_timeout(ask: Say) -> None:
    answered = threading.Event()

    def stall(call: dict[str, Any]) -> None:
        answered.wait(20)

    with serve(stall) as server, connect(server.url, KEY, timeout=0.2) as deployment:
        with pytest.raises(DeploymentError, match=TIMED_OUT):
            ask(deployment, 1)
        answered.set()
    assert len(server.calls) <= 1


@contextmanager
def accepting_nobody() -> Iterator[int]:
    """The port of a listener whose queue is full, so that a connection is waited for in vain."""
    waiting: list[socket.socket] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(listener.getsockname())
        try:
            yield listener.getsockname()[1]
        finally:
            for one in waiting:
                one.close()


def test_a_connection_that_does_not_come_about_ends_in_time(ask: Say) -> None:
    with (
        accepting_nobody() as number,
        connect(f"http://127.0.0.1:{number}", KEY, timeout=0.2) as deployment,
        pytest.raises(DeploymentError, match="timed out while connecting, after 1 attempt"),
    ):
        ask(deployment, 1)


def test_a_name_server_that_does_not_answer_ends_in_time(ask: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    over, look_up = threading.Event(), socket.getaddrinfo

    def stall(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "deployment.test" and not kwargs.get("flags"):
            over.wait(20)
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", stall)
    with connect("http://deployment.test", KEY, timeout=0.2) as deployment:
        with pytest.raises(DeploymentError, match="timed out while connecting"):
            ask(deployment, 1)
        over.set()


def test_the_first_address_of_a_name_that_does_not_answer_leaves_time_for_the_next(
    ask: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(echo) as server, accepting_nobody() as number:
        ports = [number, int(server.url.rpartition(":")[2])]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", one)) for one in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
        with connect("http://deployment.test", KEY, timeout=4) as deployment:
            assert ask(deployment, "there") == "there"


async def test_waiting_for_a_free_connection_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_TASKS", 0)
    async with connect("http://127.0.0.1:1", KEY, timeout=0.1) as deployment:
        with pytest.raises(DeploymentError, match="timed out waiting for a free connection, after 1 attempt"):
            await say_async(deployment, 1)


async def test_many_tasks_share_a_bounded_number_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_TASKS", 3)
    with serve(echo) as server:
        async with connect(server.url, KEY) as deployment:
            assert await asyncio.gather(*(say_async(deployment, n) for n in range(40))) == list(range(40))
    assert len(set(server.peers)) <= 3


def test_pauses_between_attempts_count(ask: Say, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    async def pause(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(port, "_BACKOFF", 1_000.0)
    monkeypatch.setattr(random, "uniform", lambda least, most: most)
    with serve(lambda call: Answer(b"", 503)) as server, connect(server.url, KEY, timeout=20) as deployment:
        for face in (deployment.blocking, deployment.asynchronous):
            monkeypatch.setattr(face, "_pause", pause)
        with pytest.raises(DeploymentError, match=r"HTTP 503, busy; timed out, after 3 attempts in 20\.0 seconds$"):
            ask(deployment, 1)


@pytest.mark.parametrize("retry", [1, 2, 6])
def test_a_call_is_sent_as_often_as_said(ask: Say, monkeypatch: pytest.MonkeyPatch, retry: int) -> None:
    monkeypatch.setattr(port, "_BACKOFF", 0.0)
    with (
        serve(lambda call: Answer(b"", 503)) as server,
        connect(server.url, KEY, retry=retry) as deployment,
        pytest.raises(DeploymentError, match=rf"HTTP 503, busy, after {retry} attempts? in \d+\.\d seconds$"),
    ):
        ask(deployment, 1)
    assert len(server.calls) == retry


def test_a_timeout_may_be_as_long_as_one_likes(ask: Say) -> None:
    with serve(echo) as server:
        for timeout in (1e9, 1e300):
            with connect(server.url.replace("127.0.0.1", "localhost"), KEY, timeout=timeout) as deployment:
                assert ask(deployment, 1) == 1


@pytest.mark.parametrize("retry", [0, -1, 1.5, None, "2", True])
def test_a_number_of_attempts_that_is_none_is_refused(retry: Any) -> None:
    with pytest.raises(InvalidRequestError, match="whole number from 1"):
        connect("http://127.0.0.1:1", KEY, retry=retry)


def test_an_answer_that_comes_before_all_is_sent_is_heard(ask: Say) -> None:
    """A server may refuse what it has not read, and close."""
    answer = success("early").body

    def script(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(1_024)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass

    with scripted(script) as url, connect(url, KEY) as deployment:
        assert ask(deployment, "x" * 1_000_000) == "early"


async def test_what_is_there_already_is_received_in_turns_with_other_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "CHUNK", 100)
    turns: list[None] = []

    async def others() -> None:
        while True:
            turns.append(None)
            await asyncio.sleep(0)

    there, here = socket.socketpair()
    with there, sockets.Socket(fileno=here.detach()) as mine:
        mine.setblocking(False)
        there.sendall(bytes(10_000))
        stream, deadline, beside = sockets.LOOP.stream(mine), Deadline(20), asyncio.create_task(others())
        for _ in range(100):
            assert len(await stream.receive(deadline)) == 100
        beside.cancel()
    assert len(turns) > 10
