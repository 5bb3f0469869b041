"""A session is for one task or thread at a time: another is refused, and nothing that was pending is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from convexorm import AsyncSession, Deployment, InvalidRequestError, Session, connect
from convexorm.deployments import Port
from convexorm.faces import finish
from convexorm.requests import Applied, Commit, Document, Read, ReadResult, Search
from tests.conftest import Host
from tests.interrupting import PACKAGE, walk
from tests.models import Note, Task

MINE = Task.query().by_index("by_owner", owner_id="u")


@pytest.fixture
def host(models_host: Host) -> Host:
    return models_host


class Paused:
    """A port that stops in the midst of its next request, until it is told to go on."""

    def __init__(self, port: Port, arrived: Callable[[], None], go_on: Callable[[], Awaitable[Any]]) -> None:
        self.port, self.arrived, self.go_on = port, arrived, go_on
        self.pausing = True

    async def _stop(self) -> None:
        if self.pausing:
            self.pausing = False
            self.arrived()
            await self.go_on()

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        await self._stop()
        return await self.port.read(reads)

    async def commit(self, commit: Commit) -> list[Applied]:
        await self._stop()
        return await self.port.commit(commit)

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        return await self.port.withdraw(commit)

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        return await self.port.search(search)

    async def pause(self, seconds: float) -> None:
        await self.port.pause(seconds)


USES: dict[str, Callable[[Any, Note], Any]] = {
    "add": lambda session, note: session.add(Note(id="other")),
    "add_all": lambda session, note: session.add_all([Note(id="other")]),
    "upsert": lambda session, note: session.upsert(Note(id="other")),
    "update": lambda session, note: session.update(Note, "other", {"title": "x"}),
    "delete": lambda session, note: session.delete(note),
    "delete_key": lambda session, note: session.delete_key(Note, "other"),
    "delete_range": lambda session, note: session.delete_range(Note.query().by_index("by_title", title="x")),
    "delete_all": lambda session, note: session.delete_all(Note.query().by_index("by_title", title="x")),
    "bulk_upsert": lambda session, note: session.bulk_upsert(Note, [{"id": "other"}]),
    "rollback": lambda session, note: session.rollback(),
    "expunge_all": lambda session, note: session.expunge_all(),
    "close": lambda session, note: session.close(),
    "commit": lambda session, note: session.commit(),
    "get": lambda session, note: session.get(Note, "other"),
    "get_many": lambda session, note: session.get_many(Note, ["other"]),
    "all": lambda session, note: session.all(MINE),
    "count": lambda session, note: session.count(MINE),
    "page": lambda session, note: session.page(MINE, 1),
    "read": lambda session, note: session.read(MINE, MINE.count()),
    "refresh": lambda session, note: session.refresh(note),
    "transact": lambda session, note: session.transact(lambda session: None),
    "new": lambda session, note: session.new,
    "dirty": lambda session, note: session.dirty,
    "deleted": lambda session, note: session.deleted,
    "an attribute": lambda session, note: setattr(note, "title", "x"),
}


async def _use(session: AsyncSession, note: Note, used: str) -> None:
    result = USES[used](session, note)
    if result is not None:
        await result


@pytest.mark.parametrize("used", USES)
async def test_another_task_is_refused_while_a_commit_is_awaited(used: str) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()
    with connect("memory:") as deployment:
        port = Paused(deployment.asynchronous, arrived.set, go_on.wait)
        port.pausing = False
        session = AsyncSession(deployment, _port=port)
        note, new = Note(id="n", title="a"), Note(id="new")
        session.add(note)
        await session.commit()
        note.title = "b"
        session.add(new)
        port.pausing = True
        committing = asyncio.create_task(session.commit())
        await arrived.wait()
        with pytest.raises(InvalidRequestError, match="in use by another task"):
            await _use(session, note, used)
        go_on.set()
        await committing
        assert (session.new, session.dirty, session.deleted) == ([], [], [])
        with Session(deployment) as other:
            assert sorted((one.id, one.title) for one in other.all(Note.query().full_scan())) == [("n", "b"), ("new", "")]


@pytest.mark.parametrize("used", USES)
def test_another_thread_is_refused_while_a_commit_runs(used: str) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    async def wait() -> None:
        go_on.wait()

    with connect("memory:") as deployment:
        port = Paused(deployment.blocking, arrived.set, wait)
        port.pausing = False
        session = Session(deployment)
        session._core = AsyncSession(deployment, _port=port)
        note = Note(id="n", title="a")
        session.add(note)
        session.commit()
        note.title = "b"
        port.pausing = True
        committing = threading.Thread(target=session.commit)
        committing.start()
        arrived.wait()
        try:
            with pytest.raises(InvalidRequestError, match="in use by another thread"):
                USES[used](session, note)
        finally:
            go_on.set()
            committing.join()
        with Session(deployment) as other:
            assert [(one.id, one.title) for one in other.all(Note.query().full_scan())] == [("n", "b")]


async def test_a_list_changed_while_a_commit_is_awaited_is_written_by_the_next() -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()
    with connect("memory:") as deployment:
        session = AsyncSession(deployment, _port=Paused(deployment.asynchronous, arrived.set, go_on.wait))
        note = Note(id="n", tags=["before"])
        tags = note.tags
        session.add(note)
        committing = asyncio.create_task(session.commit())
        await arrived.wait()
        tags.append("meanwhile")
        go_on.set()
        await committing
        assert session.dirty == [note]
        await session.commit()
        with Session(deployment) as other:
            assert other.get_one(Note, "n").tags == ["before", "meanwhile"]


async def test_reads_of_two_tasks_at_once_are_refused_and_the_first_goes_on() -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()
    with connect("memory:") as deployment:
        session = AsyncSession(deployment, _port=Paused(deployment.asynchronous, arrived.set, go_on.wait))
        counting = asyncio.create_task(session.count(MINE))
        await arrived.wait()
        with pytest.raises(InvalidRequestError):
            await session.count(MINE)
        go_on.set()
        assert await counting == 0
        assert await session.count(MINE) == 0


async def test_a_transaction_has_the_session_to_itself_until_it_ends(deployment: Deployment, unique: str) -> None:
    async with AsyncSession(deployment) as session:

        async def change(session: AsyncSession) -> str:
            session.add(Note(id=unique))
            with pytest.raises(InvalidRequestError):
                await asyncio.create_task(_add(session, f"{unique}+"))
            return "done"

        assert await session.transact(change) == "done"
        await _add(session, f"{unique}-")
        await session.commit()
        found = await session.get_many(Note, [unique, f"{unique}+", f"{unique}-"])
        assert [one is not None for one in found] == [True, False, True]


async def _add(session: AsyncSession, id: str) -> None:
    session.add(Note(id=id))


async def test_a_cancelled_task_gives_its_turn_back() -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()
    with connect("memory:") as deployment:
        session = AsyncSession(deployment, _port=Paused(deployment.asynchronous, arrived.set, go_on.wait))
        session.add(Task(text="a", owner_id="u"))
        committing = asyncio.create_task(session.commit())
        await arrived.wait()
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        await session.commit()
        assert await session.count(MINE) == 1


def test_a_task_whose_loop_is_closed_holds_no_turn() -> None:
    with connect("memory:") as deployment:
        arrived, stuck = asyncio.Event(), asyncio.Event()
        session = AsyncSession(deployment, _port=Paused(deployment.asynchronous, arrived.set, stuck.wait))
        loop = asyncio.new_event_loop()
        task = loop.create_task(session.count(MINE))
        loop.run_until_complete(arrived.wait())
        loop.close()
        assert asyncio.run(session.count(MINE)) == 0
        task.get_coro().close()


UNDER_WAY: dict[str, Callable[[Any], Any]] = {
    "read": lambda session: session.get(Note, "n"),
    "commit": lambda session: session.commit(),
    "transact": lambda session: session.transact(_nothing),
}


def _nothing(session: Any) -> Any:
    return asyncio.sleep(0) if isinstance(session, AsyncSession) else None


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # between making one and running it
@pytest.mark.parametrize("call", UNDER_WAY)
def test_an_interrupt_at_any_line_leaves_the_session_to_other_threads(call: str) -> None:
    with connect("memory:") as deployment, ThreadPoolExecutor(1) as elsewhere:
        session = Session(deployment)
        for error in walk(lambda: UNDER_WAY[call](session), PACKAGE):
            assert elsewhere.submit(session.count, MINE).result(20) == 0
            assert session.count(MINE) == 0
            del error  # kept until here: it holds the frames of what it interrupted


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("call", ["read", "commit"])
async def test_an_interrupt_at_any_line_leaves_the_session_to_other_tasks(call: str) -> None:
    with connect("memory:") as deployment:
        session = AsyncSession(deployment, _port=deployment.blocking)  # so that no line of it is on another thread
        for error in walk(lambda: finish(UNDER_WAY[call](session)), PACKAGE):
            assert await asyncio.create_task(session.count(MINE)) == 0
            assert await session.count(MINE) == 0
            del error


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_of_many_that_find_an_abandoned_session_one_at_a_time_has_it() -> None:
    with connect("memory:") as deployment:
        session = Session(deployment)
        inside: list[int] = []
        most: list[int] = []
        refused: list[InvalidRequestError] = []

        def work(session: Session) -> None:
            inside.append(1)
            most.append(len(inside))
            if len(inside) > 1:
                gate.set()
            gate.wait()
            inside.pop()

        def enter() -> None:
            start.wait()
            try:
                session.transact(work)
            except InvalidRequestError as error:
                refused.append(error)
                gate.set()

        for error in walk(lambda: UNDER_WAY["commit"](session), PACKAGE / "sessions" / "turns.py", least=5):
            start, gate = threading.Barrier(4), threading.Event()
            threads = [threading.Thread(target=enter) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert most
            assert set(most) == {1}
            most.clear()
            del error
        assert refused


def test_a_stream_leaves_the_session_to_others_between_its_steps() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Task(text=str(number), owner_id="u") for number in range(3)])
        session.commit()
        counts: list[int] = []
        for _ in session.stream(MINE):
            thread = threading.Thread(target=lambda: counts.append(session.count(MINE)))
            thread.start()
            thread.join()
        assert counts == [3, 3, 3]


async def test_what_tasks_that_share_a_session_were_not_refused_is_stored(deployment: Deployment, unique: str) -> None:
    session = AsyncSession(deployment)
    taken: list[str] = []

    async def work(name: int) -> None:
        for number in range(20):
            try:
                session.add(Note(id=f"{unique}{name}-{number}"))
            except InvalidRequestError:
                await asyncio.sleep(0)
                continue
            taken.append(f"{unique}{name}-{number}")
            try:
                await session.commit()
            except InvalidRequestError:
                await asyncio.sleep(0)

    await asyncio.gather(*(work(name) for name in range(5)))
    await session.commit()
    found = [one.id for one in await session.all(Note.query().by_index("by_note_id", Note.id.startswith(unique)))]
    assert sorted(found) == sorted(taken)
    assert len(taken) >= 20


def test_what_threads_that_share_a_session_were_not_refused_is_stored(deployment: Deployment, unique: str) -> None:
    session = Session(deployment)
    taken: list[str] = []
    wrong: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for number in range(20):
                id_ = f"{unique}{name}-{number}"
                try:
                    session.add(Note(id=id_))
                except InvalidRequestError:
                    continue
                taken.append(id_)
                try:
                    session.commit()
                except InvalidRequestError:
                    continue
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    session.commit()
    found = [one.id for one in session.all(Note.query().by_index("by_note_id", Note.id.startswith(unique)))]
    assert sorted(found) == sorted(taken)
