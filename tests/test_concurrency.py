"""Threads, tasks and processes that work on one deployment at the same time: nothing is lost, nobody waits in vain."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from convexorm import AsyncSession, Deployment, DeploymentError, Index, Mapped, Model, Session, connect
from convexorm.deployments.embedded import connections
from tests.conftest import Host
from tests.models import Counter, Note
from tests.processes import run_processes


@pytest.fixture
def host(models_host: Host) -> Host:
    return models_host


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Deployment]:
    with connect(f"sqlite:///{tmp_path / 'shared.db'}") as deployment:
        yield deployment


def increment(session: Session, name: str) -> None:
    counter = session.get(Counter, name)
    if counter is None:
        session.add(Counter(name=name, count=1))
    else:
        counter.count += 1


async def increment_async(session: AsyncSession, name: str) -> None:
    counter = await session.get(Counter, name)
    assert counter is not None
    counter.count += 1


def count_of(deployment: Deployment, name: str) -> int:
    with Session(deployment) as session:
        counter = session.get(Counter, name)
        assert counter is not None
        return counter.count


def create(deployment: Deployment, name: str) -> None:
    with Session(deployment) as session:
        session.add(Counter(name=name))
        session.commit()


# -- threads and tasks ---------------------------------------------------------------------------------------------


def test_threads_that_increment_one_counter_lose_nothing(deployment: Deployment, unique: str) -> None:
    create(deployment, unique)
    start = threading.Barrier(8)

    def work() -> None:
        start.wait(10)
        for _ in range(5):
            with Session(deployment) as session:
                session.transact(lambda session: increment(session, unique))

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for _ in range(8)]:
            done.result(60)
    assert count_of(deployment, unique) == 40


def test_threads_that_create_one_document_create_it_once(deployment: Deployment, unique: str) -> None:
    start = threading.Barrier(8)

    def work() -> None:
        start.wait(10)
        with Session(deployment) as session:
            session.transact(lambda session: increment(session, unique))

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for _ in range(8)]:
            done.result(60)
    assert count_of(deployment, unique) == 8
    assert Session(deployment).count(Counter.query().by_index("by_name", name=unique)) == 1


async def test_tasks_that_increment_one_counter_lose_nothing(deployment: Deployment, unique: str) -> None:
    session = AsyncSession(deployment)
    await session.add(Counter(name=unique))
    await session.commit()

    async def work() -> None:
        for _ in range(5):
            async with AsyncSession(deployment) as session:
                await session.transact(lambda session: increment_async(session, unique))

    await asyncio.gather(*(work() for _ in range(8)))
    assert await AsyncSession(deployment).get(Counter, unique) is not None
    counter = await AsyncSession(deployment).get(Counter, unique)
    assert counter is not None
    assert counter.count == 40


def test_readers_see_whole_commits_only(file: Deployment) -> None:
    """Two documents are always changed together; no snapshot shows one without the other."""
    with Session(file) as session:
        session.add_all([Counter(name="a"), Counter(name="b")])
        session.commit()
    done = threading.Event()

    def write() -> None:
        try:
            for _ in range(100):
                with Session(file) as session:
                    for counter in session.all(Counter.query().full_scan()):
                        counter.count += 1
                    session.commit()
        finally:
            done.set()

    writer = threading.Thread(target=write)
    writer.start()
    a, b = (Counter.query().by_index("by_name", name=name) for name in ("a", "b"))
    seen = 0
    while not done.is_set() or seen == 0:
        with Session(file) as session:
            (one,), (two,) = session.read(a, b)
            assert one.count == two.count
            seen += 1
    writer.join()
    assert count_of(file, "a") == count_of(file, "b") == 100


# -- processes -----------------------------------------------------------------------------------------------------


def increment_often(deployment: Deployment, number: int, times: int) -> None:
    for _ in range(times):
        with Session(deployment) as session:
            session.transact(lambda session: increment(session, "shared"))


def test_processes_that_increment_one_counter_lose_nothing(file: Deployment) -> None:
    run_processes(file, increment_often, 20, processes=3)
    assert count_of(file, "shared") == 60


def write_notes(deployment: Deployment, number: int, notes: int) -> None:
    for note in range(notes):
        with Session(deployment) as session:
            session.add_all(Note(id=f"{number}-{note}-{part}") for part in range(3))
            session.commit()


def test_processes_write_one_file(file: Deployment) -> None:
    run_processes(file, write_notes, 20, processes=3)
    with Session(file) as session:
        notes = session.all(Note.query().full_scan())
    assert {note.id for note in notes} == {f"{a}-{b}-{c}" for a in range(3) for b in range(20) for c in range(3)}
    times = [note.creation_time or 0 for note in notes]
    assert times == sorted(set(times))


class Plain(Model, table="growing"):
    name: Mapped[str]
    size: Mapped[float]


class Indexed(Model, table="growing"):
    name: Mapped[str]
    size: Mapped[float]
    by_size = Index("size")
    by_name_and_size = Index("name", "size")


def write_or_add_an_index(deployment: Deployment, number: int) -> None:
    model = Indexed if number == 0 else Plain
    for row in range(50):
        with Session(deployment) as session:
            session.add(model(name=str(number), size=float(row)))
            session.commit()


def test_one_process_adds_an_index_while_others_write(file: Deployment) -> None:
    run_processes(file, write_or_add_an_index, processes=3)
    with Session(file) as session:
        assert session.count(Plain.query().full_scan()) == 150
    with Session(file) as session:
        sizes = [one.size for one in session.all(Indexed.query().by_index("by_size"))]
        assert sizes == sorted(float(row) for row in range(50) for _ in range(3))
        assert session.count(Indexed.query().by_index("by_name_and_size", name="2")) == 50


# -- waiting -------------------------------------------------------------------------------------------------------


def locked(path: Path) -> sqlite3.Connection:
    """A connection of another program that holds the file's write lock."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


async def test_the_event_loop_goes_on_while_sqlite_waits_for_a_lock(tmp_path: Path) -> None:
    async with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        session = AsyncSession(deployment)
        await session.add(Note(id="a"))
        await session.commit()
        other = locked(tmp_path / "a.db")
        ticks = 0
        await session.add(Note(id="b"))
        committing = asyncio.create_task(session.commit())
        while ticks < 50:
            await asyncio.sleep(0.001)
            ticks += 1
        assert not committing.done()
        assert await AsyncSession(deployment).count(Note.query().full_scan()) == 1  # readers go on as well
        other.execute("ROLLBACK")
        other.close()
        await committing
        assert await session.count(Note.query().full_scan()) == 2


def test_a_lock_that_is_never_given_back_is_a_deployment_error_and_the_commit_can_be_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BUSY_TIMEOUT", 0.05)
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment, Session(deployment) as session:
        session.add(Note(id="a"))
        session.commit()
        other = locked(tmp_path / "a.db")
        session.add(Note(id="b"))
        with pytest.raises(DeploymentError, match="locked"):
            session.commit()
        other.execute("ROLLBACK")
        other.close()
        session.commit()
        assert session.count(Note.query().full_scan()) == 2


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_deployment_may_be_closed_while_others_use_it(file: Deployment, kind: str) -> None:
    used = file if kind == "file" else connect("memory:")
    create(used, "c")
    start = threading.Barrier(5)

    def count_forever() -> None:
        while True:
            count_of(used, "c")

    def work() -> None:
        start.wait(10)
        with pytest.raises(DeploymentError, match="closed"):
            count_forever()

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work) for _ in range(4)]
        start.wait(10)
        used.close()
        for done in working:
            done.result(30)
