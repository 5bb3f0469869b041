"""Many who want one key at the same time: one gets it, and those who want others are not disturbed."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from convexorm import AsyncSession, Deployment, Session, StaleDataError, connect
from tests.conftest import Host
from tests.processes import run_processes
from tests.unique.conftest import emptied
from tests.unique.models import Customer

WRITERS = 16


def add(session: Session, number: int) -> None:
    session.add(Customer(id=str(number), email="a@x"))


def change(session: Session, number: int) -> None:
    session.update(Customer, str(number), {"email": "a@x"})


def upsert(session: Session, number: int) -> None:
    session.upsert(Customer(id=str(number), email="a@x"))


WAYS = [add, change, upsert]


def outcome(deployment: Deployment, way: Callable[[Session, int], None], number: int) -> str:
    with Session(deployment) as session:
        way(session, number)
        try:
            session.commit()
        except StaleDataError as error:
            return f"{error.reason} {', '.join(error.fields)}"
        return "won"


def prepare(deployment: Deployment, way: Callable[[Session, int], None]) -> Deployment:
    if way is change:
        with Session(emptied(deployment)) as session:
            session.add_all(Customer(id=str(number)) for number in range(WRITERS))
            session.commit()
    return deployment


def holders(deployment: Deployment) -> int:
    return Session(deployment).count(Customer.query().by_index("by_email", email="a@x"))


def conflicts(host: Host) -> Any:
    """How often mutations met, by table."""
    return host.metrics()["conflicts"]


ONE_WINS = Counter({"won": 1, "exists email": WRITERS - 1})


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("kind", ["memory", "file", "host"])
def test_of_many_threads_one_wins(
    kind: str, way: Callable[[Session, int], None], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "host":
        deployment = request.getfixturevalue("slow_host").connect()
    else:
        deployment = connect("memory:" if kind == "memory" else f"sqlite:///{tmp_path / 'race.db'}")
    with prepare(emptied(deployment), way):
        start = threading.Barrier(WRITERS)

        def work(number: int) -> str:
            start.wait(30)
            return outcome(deployment, way, number)

        with ThreadPoolExecutor(WRITERS) as pool:
            assert Counter(pool.map(work, range(WRITERS))) == ONE_WINS
        assert holders(deployment) == 1


def take(deployment: Deployment, number: int, outcomes: str) -> None:
    for turn in range(4):
        Path(outcomes, f"{number} {turn}").write_text(outcome(deployment, add, 4 * number + turn), encoding="utf-8")


def test_of_many_processes_one_wins(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'race.db'}") as deployment:
        emptied(deployment)
        (tmp_path / "outcomes").mkdir()
        run_processes(deployment, take, str(tmp_path / "outcomes"), processes=4)
        outcomes = [one.read_text(encoding="utf-8") for one in (tmp_path / "outcomes").iterdir()]
        assert (Counter(outcomes), holders(deployment)) == (ONE_WINS, 1)


async def test_of_many_tasks_on_a_host_one_wins_and_those_apart_do_not_conflict(slow_host: Host) -> None:
    async with slow_host.connect() as deployment:
        await asyncio.to_thread(emptied, deployment)

        async def commit(number: int, email: str) -> str:
            async with AsyncSession(deployment) as session:
                await session.add(Customer(id=f"{email} {number}", email=email))
                try:
                    await session.commit()
                except StaleDataError as error:
                    return f"{error.reason} {', '.join(error.fields)}"
                return "won"

        async def move(number: int) -> None:
            async with AsyncSession(deployment) as session:
                await session.update(Customer, f"{number}@x {number}", {"email": f"{number}@y"})
                await session.upsert(Customer(id=f"new {number}", email=f"{number}@z"), by="by_email")
                await session.commit()

        slow_host.reset()
        assert set(await asyncio.gather(*(commit(number, f"{number}@x") for number in range(WRITERS)))) == {"won"}
        await asyncio.gather(*(move(number) for number in range(WRITERS)))
        assert conflicts(slow_host) == {}
        assert Counter(await asyncio.gather(*(commit(number, "a@x") for number in range(WRITERS)))) == ONE_WINS


def test_writers_of_what_is_not_the_key_do_not_conflict_with_those_who_hold_it(slow_host: Host) -> None:
    with slow_host.connect() as deployment:
        emptied(deployment)
        with Session(deployment) as session:
            session.add(Customer(id="a", email="a@x"))
            session.commit()
        slow_host.reset()
        start = threading.Barrier(8)

        def work(number: int) -> None:
            start.wait(30)
            with Session(deployment) as session:
                session.upsert(Customer(id=f"w{number}", name="new"))
                session.commit()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert conflicts(slow_host) == {}


@pytest.mark.parametrize("kind", ["file", "host"])
async def test_all_who_get_or_create_are_answered_one_document(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    slow: Host | None = request.getfixturevalue("slow_host") if kind == "host" else None
    deployment = connect(f"sqlite:///{tmp_path / 'race.db'}") if slow is None else slow.connect()
    async with deployment:
        await asyncio.to_thread(emptied, deployment)

        async def create(number: int) -> tuple[str, bool]:
            async with AsyncSession(deployment) as session:
                found, created = await session.get_or_create(Customer, email="a@x", defaults={"id": str(number)})
                return found.id, created

        answers = await asyncio.gather(*(create(number) for number in range(WRITERS)))
        assert Counter(created for _, created in answers) == {True: 1, False: WRITERS - 1}
        assert {id for id, _ in answers} == {id for id, created in answers if created}
