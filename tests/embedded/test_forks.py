"""Embedded deployments that are used before and after a fork: by the parent, its children, and other programs."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from convexorm import AsyncSession, Deployment, DeploymentError, Session, connect
from convexorm.deployments.embedded import forks
from convexorm.deployments.embedded.transaction import Transaction
from convexorm.faces import finish
from convexorm.requests import Commit, Insert, Range, Read
from convexorm.testing import fake_session
from tests.embedded.support import ROWS, add, in_child, intact, names
from tests.models import Note

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def test_nothing_a_child_was_told_of_is_lost_when_its_parent_closes(tmp_path: Path) -> None:
    deployment = connect(f"sqlite:///{tmp_path / 'a.db'}")
    add(deployment, "parent")
    (half, tell_half), (closed, tell_closed) = os.pipe(), os.pipe()

    def work() -> None:
        for number in range(20):
            if number == 10:
                os.write(tell_half, b"x")
                os.read(closed, 1)
            add(deployment, float(number))

    wait = in_child(work)
    os.read(half, 1)
    deployment.close()
    os.write(tell_closed, b"x")
    wait()
    for end in (half, tell_half, closed, tell_closed):
        os.close(end)
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as again:
        assert names(again) == [*map(float, range(20)), "parent"]
    assert intact(tmp_path / "a.db")


def test_children_commit_beside_committing_threads_and_programs_that_come_and_go(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with connect(url) as deployment:
        add(deployment, "first")
        stop = threading.Event()
        written = 0
        lock = threading.Lock()

        def commit() -> None:
            nonlocal written
            while not stop.is_set():
                add(deployment, "thread")
                with lock:
                    written += 1

        def come_and_go() -> None:
            for _ in range(5):
                with connect(url) as other:
                    add(other, "other")

        def child() -> None:
            for _ in range(5):
                add(deployment, "child")
            come_and_go()

        threads = [threading.Thread(target=commit) for _ in range(3)]
        for thread in threads:
            thread.start()
        waits = [in_child(child) for _ in range(8)]
        come_and_go()
        for wait in waits:
            wait()
        stop.set()
        for thread in threads:
            thread.join()
        found = names(deployment)
        counts = {name: found.count(name) for name in ("first", "thread", "child", "other")}
        assert counts == {"first": 1, "thread": written, "child": 40, "other": 45}
    assert intact(tmp_path / "a.db")


def test_a_request_waits_for_a_fork_and_a_fork_for_requests(tmp_path: Path) -> None:
    """At the moment of the fork no connection to a file is open, and no request is at work."""
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        add(deployment, "first")
        open_files = {os.readlink(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd") if _is_link(one)}
        assert str(tmp_path / "a.db") in open_files

        def child() -> None:
            inherited = {os.readlink(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd") if _is_link(one)}
            assert not [one for one in inherited if one.startswith(str(tmp_path))]

        in_child(child)()


def _is_link(descriptor: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{descriptor}")


USES: dict[str, Callable[[Deployment, Path], Any]] = {
    "read": lambda deployment, path: names(deployment),
    "commit": lambda deployment, path: add(deployment, "x"),
    "withdraw": lambda deployment, path: finish(deployment.blocking.withdraw(Commit("c", [Insert(ROWS, {})]))),
    "read awaited": lambda deployment, path: asyncio.run(_read(deployment)),
    "backup": lambda deployment, path: deployment.backup(path / "b.db"),
    "vacuum": lambda deployment, path: deployment.vacuum(),
    "session": lambda deployment, path: Session(deployment).count(Note.query().full_scan()),
}


async def _read(deployment: Deployment) -> None:
    await deployment.asynchronous.read([Read(Range(ROWS, "by_name"))])


def test_memory_is_not_there_in_a_child_and_stays_in_the_parent(tmp_path: Path) -> None:
    with connect("memory:") as deployment:
        add(deployment, "first")
        session = fake_session(Note(id="n"))

        def child() -> None:
            for use in USES.values():
                for _ in range(2):
                    with pytest.raises(DeploymentError, match="stays in the process that opened it"):
                        session.get(Note, "other")
                    with pytest.raises(DeploymentError, match="stays in the process that opened it"):
                        use(deployment, tmp_path)
            deployment.close()
            deployment.close()
            with pytest.raises(DeploymentError, match="stays in the process"):
                names(deployment)
            with connect("memory:") as own:
                add(own, "child")
                assert names(own) == ["child"]

        in_child(child)()
        add(deployment, "second")
        assert names(deployment) == ["first", "second"]
        assert session.get(Note, "n") is not None


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_fork_in_the_midst_of_a_request_of_the_same_thread_does_not_wait_for_it(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "memory:" if kind == "memory" else f"sqlite:///{tmp_path / 'a.db'}"
    with connect(url) as deployment:
        add(deployment, "first")
        waits: list[Callable[[], None]] = []

        def child() -> None:
            if kind == "file":
                with connect(url) as own:
                    assert "first" in names(own)
                assert "first" in names(deployment)
            else:
                with pytest.raises(DeploymentError, match="stays in the process"):
                    names(deployment)

        def fork(number: int, frame: FrameType | None) -> None:
            waits.append(in_child(child))

        before = signal.signal(signal.SIGUSR1, fork)
        apply = Transaction.apply

        def interrupted(self: Transaction) -> Any:
            applied = apply(self)
            if not waits:
                signal.raise_signal(signal.SIGUSR1)
            return applied

        monkeypatch.setattr(Transaction, "apply", interrupted)
        try:
            add(deployment, "second")
        finally:
            signal.signal(signal.SIGUSR1, before)
        waits[0]()
        assert names(deployment) == ["first", "second"]
    if kind == "file":
        assert intact(tmp_path / "a.db")


def test_a_child_that_returns_into_the_request_it_was_forked_in_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        add(deployment, "first")
        apply = Transaction.apply
        children: list[int] = []

        def forked(self: Transaction) -> Any:
            applied = apply(self)
            children.append(os.fork())
            return applied

        monkeypatch.setattr(Transaction, "apply", forked)
        try:
            add(deployment, "second")
        except DeploymentError:
            if children == [0]:
                os._exit(7)
            raise
        finally:
            if children == [0]:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
        monkeypatch.undo()
        add(deployment, "third")
        assert names(deployment) == ["first", "second", "third"]
    assert intact(tmp_path / "a.db")


def test_forks_of_many_deployments_in_many_threads_do_not_wait_for_each_other(tmp_path: Path) -> None:
    deployments = [connect(f"sqlite:///{tmp_path / f'{number}.db'}" if number % 2 else "memory:") for number in range(6)]
    for deployment in deployments:
        add(deployment, "first")

    def work(number: int) -> None:
        for turn in range(5):
            deployment = deployments[(number + turn) % 6]
            add(deployment, float(number))
            own = connect("memory:")  # never closed: it is collected while others fork
            add(own, "own")
            in_child(lambda: add(deployments[1], "child"))()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, number) for number in range(6)]:
            done.result(120)
    assert names(deployments[1]).count("child") == 30
    assert sum(len(names(one)) for one in deployments) == 6 + 30 + 30
    for deployment in deployments:
        deployment.close()


def test_an_async_session_goes_on_in_a_child(tmp_path: Path) -> None:
    deployment = connect(f"sqlite:///{tmp_path / 'a.db'}")

    async def store(id: str) -> None:
        async with AsyncSession(deployment) as session:
            session.add(Note(id=id))
            await session.commit()

    asyncio.run(store("parent"))
    in_child(lambda: asyncio.run(store("child")))()
    assert Session(deployment).count(Note.query().full_scan()) == 2
    deployment.close()


def test_what_is_dropped_while_another_thread_prepares_to_fork_is_closed_before_it_does(tmp_path: Path) -> None:
    dropped: list[Any] = [connect(f"sqlite:///{tmp_path / 'a.db'}")]
    add(dropped[0], "x")
    number, (place,) = id(dropped[0]._engine._pool), dropped[0]._engine._pool._places
    forks.gates.append(None)  # as another thread does that waits for those at work
    try:
        thread = threading.Thread(target=dropped.clear, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        assert place.connection is None
        assert number not in forks._pools
    finally:
        forks.gates.pop()
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        assert names(deployment) == ["x"]


def test_deployments_are_collected_although_forks_know_them(tmp_path: Path) -> None:
    gc.collect()
    before = len(forks.pools())
    deployments = [connect(f"sqlite:///{tmp_path / 'a.db'}"), connect("memory:")]
    assert len(forks.pools()) == before + 2
    deployments.clear()
    gc.collect()
    assert len(forks.pools()) == before
