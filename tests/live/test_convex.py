"""Watches over Convex's sync protocol: connections that are cut, functions, answers of several calls, who may ask."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from websockets.sync.server import ServerConnection, serve

from convexorm import (
    AuthError,
    ConvexORMError,
    Deployment,
    DeploymentError,
    Functions,
    Index,
    IndexRangeError,
    Mapped,
    Model,
    Session,
    connect,
)
from convexorm.deployments.remote.live import connection
from tests.conftest import ROOT, Host, serve_host
from tests.live.conftest import PATIENCE, save
from tests.models import Note, Task

OF_ADA = Task.query().by_index("by_owner", owner_id="ada")


@pytest.fixture
def remote(host: Host) -> Iterator[Deployment]:
    with host.connect() as deployment:
        yield deployment


@pytest.fixture(scope="module")
def samples_host() -> Iterator[Host]:
    """A host with functions of a project's own."""
    yield from serve_host(ROOT / "tests" / "convex" / "functions")


def cut(host: Host) -> int:
    headers = {"Authorization": f"Convex {host.key}"}
    disconnected: int = httpx2.post(f"{host.url}/disconnect", headers=headers).raise_for_status().json()["disconnected"]
    return disconnected


def test_a_watch_outlives_its_connections_and_misses_nothing(host: Host, remote: Deployment) -> None:
    states: list[bool] = []
    lost = threading.Event()

    def on_state(connected: bool) -> None:
        states.append(connected)
        if not connected:
            lost.set()

    with remote.watch(OF_ADA, on_state=on_state) as live:
        first = live.next(timeout=PATIENCE)
        assert first.items == []
        for number in range(10):
            lost.clear()
            assert cut(host) == 1
            assert lost.wait(PATIENCE)
            save(remote, Task(text=str(number), owner_id="ada"))
            change = live.next(timeout=PATIENCE)
            assert [task.text for task in change.items] == [str(n) for n in range(number + 1)]
            assert [task.text for task in change.added] == [str(number)]
    assert states[:1] == [True]
    assert states.count(False) >= 10


def test_many_watches_share_one_connection(host: Host, remote: Deployment) -> None:
    with remote.watch(OF_ADA) as tasks, remote.watch(OF_ADA.count()) as count, remote.watch(Note.query().limit(3)) as notes:
        assert (tasks.next(timeout=PATIENCE).items, count.next(timeout=PATIENCE)) == ([], 0)
        assert notes.next(timeout=PATIENCE).items == []
        assert cut(host) == 1


def subscriptions(host: Host) -> int:
    counts: Any = host.metrics()
    return int(counts["sync"]["subscriptions"])


def test_what_one_call_cannot_answer_is_watched_in_parts_that_fit(host: Host, remote: Deployment) -> None:
    """8 MiB are read by one call; each of these documents has some 700 KB."""
    large = "x" * 700_000
    for number in range(24):
        save(remote, Note(id=f"n{number:02}", title="large", body=large))
    query = Note.query().by_index("by_title", title="large")
    with remote.watch(query) as live, Session(remote) as session:
        first = live.next(timeout=PATIENCE)
        assert [note.id for note in first.items] == [f"n{number:02}" for number in range(24)]
        session.update(Note, "n20", {"body": "small"})
        session.commit()
        second = live.next(timeout=PATIENCE)
        assert [note.id for note in second.changed] == ["n20"]
        assert second.items[0] is first.items[0]
        session.delete_key(Note, "n03")
        session.commit()
        third = live.next(timeout=PATIENCE)
        assert [note.id for note in third.removed] == ["n03"]
        assert [note.id for note in third.items] == [f"n{number:02}" for number in range(24) if number != 3]
        assert subscriptions(host) > 1
        session.delete_all(query.where(Note.id > "n02"))
        while len(live.next(timeout=PATIENCE).items) > 3:
            pass
        until = time.monotonic() + PATIENCE
        while subscriptions(host) > 1 and time.monotonic() < until:
            time.sleep(0.01)
        assert subscriptions(host) == 1, "what is not needed any more is asked no longer"


def test_a_function_of_the_project_is_watched(samples_host: Host) -> None:
    with samples_host.connect() as deployment:
        functions = Functions(deployment)
        watch = functions.watch("samples:countOf", {"owner": "watched"}, returns=int)
        with watch as live:
            assert live.next(timeout=PATIENCE) == 0
            functions.mutation("samples:insertItem", {"owner": "watched", "rank": 1.0})
            assert live.next(timeout=PATIENCE) == 1

        async def awaited() -> list[int]:
            async with functions.watch("samples:countOf", {"owner": "watched"}, returns=int) as live:
                return [await live.next(timeout=PATIENCE)]

        assert asyncio.run(awaited()) == [1]


@pytest.mark.parametrize(
    ("path", "returns"),
    [
        pytest.param("samples:unlessRank", float, id="throws"),
        pytest.param("samples:nothing", float, id="is missing"),
        pytest.param("samples:countOf", str, id="answers another type"),
        pytest.param("samples:insertItem", float, id="is no query"),
    ],
)
def test_what_a_function_fails_with_ends_its_watch_as_it_ends_a_call_and_no_other_watch(
    samples_host: Host, path: str, returns: Any, unique: str
) -> None:
    with samples_host.connect() as deployment:
        functions = Functions(deployment)
        with pytest.raises(ConvexORMError) as called:
            functions.query(path, {"owner": "none"}, returns=returns)
        with (
            functions.watch("samples:countOf", {"owner": unique}, returns=int) as other,
            functions.watch(path, {"owner": "none"}, returns=returns) as live,
        ):
            assert other.next(timeout=PATIENCE) == 0
            with pytest.raises(type(called.value)) as raised:
                live.next(timeout=PATIENCE)
            assert getattr(raised.value, "data", None) == getattr(called.value, "data", None)
            functions.mutation("samples:insertItem", {"owner": unique, "rank": 1.0})
            assert other.next(timeout=PATIENCE) == 1


def test_a_key_that_is_none_ends_all_watches(host: Host) -> None:
    with connect(host.url, "other|key") as deployment, deployment.watch(OF_ADA) as live:
        for _ in range(2):
            with pytest.raises(AuthError, match="refused"):
                live.next(timeout=PATIENCE)


def test_a_users_token_is_shown_as_that(host: Host) -> None:
    with host.connect() as deployment, deployment.watch(OF_ADA) as other:
        with Functions(deployment, token="a.b.c").watch("samples:countOf", {}) as live, pytest.raises(AuthError):
            live.next(timeout=PATIENCE)
        assert other.next(timeout=PATIENCE).items == []


def test_a_query_that_the_functions_refuse_raises_what_a_read_does(host: Host) -> None:
    class Other(Model, table="tasks"):
        text: Mapped[str]
        by_owner = Index("text")

    query = Other.query().by_index("by_owner", text="x")
    with host.connect() as deployment:
        with pytest.raises(IndexRangeError) as read:
            Session(deployment).all(query)
        with deployment.watch(query) as live, pytest.raises(IndexRangeError) as watched:
            live.next(timeout=PATIENCE)
    assert str(watched.value) == str(read.value)


def test_a_deployment_that_is_not_there_is_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BACKOFF", 0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with connect(f"http://127.0.0.1:{port}", host.key) as deployment, deployment.watch(OF_ADA) as live:
        with pytest.raises(TimeoutError):
            live.next(timeout=0.05)
        assert not live.connected


def test_what_speaks_no_websocket_is_one_error() -> None:
    from tests.servers import Answer, serve

    with (
        serve(lambda call: Answer(b""), lambda path: Answer(b"", 404)) as server,
        connect(server.url, "a|b") as deployment,
        deployment.watch(OF_ADA) as live,
        pytest.raises(DeploymentError, match="HTTP 404 instead of a WebSocket"),
    ):
        live.next(timeout=PATIENCE)


def test_closing_the_deployment_ends_watches_that_have_no_connection(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BACKOFF", 30.0)
    deployment = connect("http://127.0.0.1:1", host.key)
    with deployment.watch(OF_ADA) as live:
        deployment.close()
        assert list(live) == []
        with pytest.raises(DeploymentError, match="closed"), deployment.watch(OF_ADA):
            pass


def test_a_server_that_says_nothing_is_asked_again_over_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE", 0.05)
    monkeypatch.setattr(connection, "BACKOFF", 0.01)
    came = threading.Semaphore(0)

    def say_nothing(socket: ServerConnection) -> None:
        came.release()
        for _ in socket:
            pass

    with serve(say_nothing, "127.0.0.1", 0) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        url = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        try:
            with connect(url, "key") as deployment, deployment.watch(OF_ADA) as live:
                for _ in range(3):
                    assert came.acquire(timeout=PATIENCE)
                assert not live.connected
        finally:
            server.shutdown()
            serving.join()
