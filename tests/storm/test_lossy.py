"""A network that loses, cuts, repeats and delays: what was acknowledged is there once, what was refused is not there."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter as Counts
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from typing import TypeVar

from convexorm import AsyncSession, DeploymentError, Session, StaleDataError, connect
from tests.conftest import Host
from tests.faces import open_session
from tests.models import Counter, Note
from tests.storm.conftest import Storm
from tests.storm.proxy import LossyProxy, lossy_proxy

T = TypeVar("T")

ATTEMPTS = 100
WORKERS = 4
COUNTERS = 3
NOTES = 3
BASE = "base"


async def until_answered(call: Callable[[], Awaitable[T]]) -> T:
    """Call again for as long as the network fails; no other error is let pass."""
    for _ in range(ATTEMPTS):
        try:
            return await call()
        except DeploymentError:
            continue
    raise AssertionError(f"a call failed {ATTEMPTS} times")


async def stored_or_refused(session: AsyncSession) -> bool:
    try:
        await until_answered(session.commit)
    except StaleDataError:
        return False
    return True


async def work(face: str, url: str, key: str, worker: str, counters: list[str], rounds: int, chance: Random) -> Counts[str]:
    """Add notes, change and delete some, and count; answers how often it has counted what."""
    counted: Counts[str] = Counts()
    async with connect(url, key) as deployment:
        for number in range(rounds):
            session = open_session(face, deployment)
            notes = [Note(id=f"{worker}-{number}-{part}") for part in range(NOTES)]
            await session.add_all(notes)
            assert await stored_or_refused(session)
            notes[0].title = "changed"
            notes[1].tags.append("changed")
            await session.delete(notes[2])
            assert await stored_or_refused(session)
            name = chance.choice(counters)
            while True:
                session = open_session(face, deployment)
                counter = await until_answered(partial(session.get_one, Counter, name))
                counter.count += 1
                if await stored_or_refused(session):
                    break
            counted[name] += 1
    return counted


def in_threads(work: Callable[[str, Random], Awaitable[T]], chance: Random) -> list[T]:
    """What each worker answers: on a thread and an event loop of its own, every other one on the blocking face."""
    chances = [Random(chance.random()) for _ in range(WORKERS)]

    def run(number: int) -> T:
        async def main() -> T:
            return await work(("async", "blocking")[number % 2], chances[number])

        return asyncio.run(main())

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(run, range(WORKERS)))


def test_lossy_network(storm: Storm, models_host: Host, unique: str) -> None:
    counters = [f"{unique}-{number}" for number in range(COUNTERS)]
    rounds = 4 * storm.scale
    with models_host.connect() as direct:
        with Session(direct) as session:
            session.add_all(Counter(name=name) for name in counters)
            session.commit()
        with storm.leaking_nothing(), lossy_proxy(models_host.url, storm.chance, rate=0.35) as proxy:
            workers = iter(range(WORKERS))

            async def run(face: str, chance: Random) -> Counts[str]:
                worker = f"{unique}-{next(workers)}"
                return await work(face, proxy.url, models_host.key, worker, counters, rounds, chance)

            counted = sum(in_threads(run, storm.chance), Counts())
        with Session(direct) as session:
            assert {name: session.get_one(Counter, name).count for name in counters} == {
                name: counted[name] for name in counters
            }
            found = session.all(Note.query().by_index("by_note_id", Note.id.startswith(f"{unique}-")))
    wanted = Counts(
        (f"{unique}-{worker}-{number}-{part}", "changed" if part == 0 else "", ("changed",) if part == 1 else ())
        for worker in range(WORKERS)
        for number in range(rounds)
        for part in range(NOTES - 1)
    )
    assert Counts((note.id, note.title, tuple(note.tags)) for note in found) == wanted
    report(storm, proxy, commits=WORKERS * rounds * 2 + counted.total())


def test_late_copies_of_refused_commits(storm: Storm, models_host: Host, unique: str) -> None:
    """Writers put words of their own in place of a common one, somebody else puts that one back; copies come late."""
    refused: set[str] = set()
    seen: set[str] = set()
    rounds = 12 * storm.scale

    def put_back(session: Session) -> None:
        note = session.get_one(Note, unique)
        seen.add(note.title)
        note.title = BASE

    async def write(face: str, url: str, chance: Random) -> int:
        written = 0
        async with connect(url, models_host.key) as deployment:
            for _ in range(rounds):
                session, word = open_session(face, deployment), chance.randbytes(8).hex()
                note = await until_answered(partial(session.get_one, Note, unique))
                note.title = word
                if await stored_or_refused(session):
                    written += 1
                else:
                    refused.add(word)
        return written

    with models_host.connect() as direct:
        with Session(direct) as session:
            session.add(Note(id=unique, title=BASE))
            session.commit()
        with (
            storm.leaking_nothing(),
            lossy_proxy(models_host.url, storm.chance, rate=0.4, faults=("held up",), overtaken=(4, 12)) as proxy,
            ThreadPoolExecutor(1) as pool,
        ):
            done = threading.Event()

            def put_back_often() -> None:
                while not done.is_set():
                    with Session(direct) as session:
                        session.transact(put_back)

            restoring = pool.submit(put_back_often)
            try:
                stored = sum(in_threads(lambda face, chance: write(face, proxy.url, chance), storm.chance))
            finally:
                done.set()
            restoring.result()
            with Session(direct) as session:
                session.transact(put_back)
            proxy.pass_held(all=True)  # everybody has been told how it went: none of these may write
        with Session(direct) as session:
            assert session.get_one(Note, unique).title == BASE
        assert seen & refused == set(), "what was refused was stored all the same"
    report(storm, proxy, stored=stored, refused=len(refused))


async def test_a_refusal_is_final_whatever_was_lost_on_the_way(models_host: Host, unique: str) -> None:
    """A first copy is held up, the next one is refused, and no answer arrives for a while; then that first copy does."""

    def retitle(title: str) -> None:
        with Session(direct) as session:
            session.update(Note, unique, {"title": title})
            session.commit()

    def script() -> Iterator[str]:
        yield "held up"
        retitle("another writer's")
        yield "passed"
        yield from ["unanswered"] * 5

    with models_host.connect() as direct, lossy_proxy(models_host.url, Random(1), rate=0, overtaken=(99, 99)) as proxy:
        with Session(direct) as session:
            session.add(Note(id=unique, title=BASE))
            session.commit()
        async with connect(proxy.url, models_host.key) as deployment:
            writer = AsyncSession(deployment)
            note = await writer.get_one(Note, unique)
            note.title = "mine"
            proxy.script = script()
            assert not await stored_or_refused(writer)
        retitle(BASE)
        proxy.pass_held(all=True)
        with Session(direct) as session:
            assert session.get_one(Note, unique).title == BASE


def report(storm: Storm, proxy: LossyProxy, **figures: object) -> None:
    faults = {name: count for name, count in proxy.done.items() if name != "passed"}
    storm.report(**figures, requests=proxy.done.total(), faults=sum(faults.values()), kinds_of_fault=len(faults))
