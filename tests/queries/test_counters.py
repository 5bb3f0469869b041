"""Counts and sums that are kept with every write."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from convexorm import AsyncSession, Deployment, Index, Mapped, Model, Session, connect
from convexorm.__main__ import main
from convexorm.faces import finish
from convexorm.requests import Commit, Delete, Insert, Key, Patch, Replace, Upsert
from tests.conftest import Host
from tests.models import Payment


class Rows(Model, table="convexorm_counters"):
    """What counters keep."""

    counter: Mapped[str]
    key: Mapped[str]
    shard: Mapped[float]
    count: Mapped[float]
    sum: Mapped[str]
    by_counter = Index("counter", "key", "shard")


OWNER = Payment.query().where(Payment.owner_id == "ada")


def payment(number: int, owner: str = "ada", amount: float | None = 0.1, *, paid: bool = False) -> Payment:
    return Payment(id=f"p{number}", owner_id=owner, amount=amount, paid=paid)


async def check(session: AsyncSession) -> None:
    """What is kept is what there is."""
    everything = await session.all(Payment.query().full_scan())
    assert await session.count(Payment.query()) == len(everything)
    for owner in ("ada", "bob", "nobody"):
        theirs = [one for one in everything if one.owner_id == owner]
        of_owner = Payment.query().where(Payment.owner_id == owner)
        kept = await session.read(of_owner.count(), of_owner.sum(Payment.amount), of_owner.avg(Payment.amount))
        scanned = of_owner.where(Payment.id != "").full_scan()
        assert kept == await session.read(scanned.count(), scanned.sum(Payment.amount), scanned.avg(Payment.amount))
        assert kept[0] == len(theirs)
        for paid in (False, True):
            count = await session.count(of_owner.where(Payment.paid == paid))
            assert count == len([one for one in theirs if one.paid == paid])


async def test_every_kind_of_write_is_counted(session: AsyncSession) -> None:
    await session.add_all([payment(n, "ada" if n % 3 else "bob", n / 7 if n % 4 else None) for n in range(20)])
    await session.commit()
    await check(session)
    first = await session.get_one(Payment, "p1")
    first.owner_id, first.paid = "bob", True
    await session.update(Payment, "p2", {"amount": Payment.amount + 5, "paid": True})
    await session.upsert(payment(3, amount=1e300))
    await session.upsert(payment(30))
    await session.delete_key(Payment, "p4")
    await session.commit()
    await check(session)
    await session.bulk_upsert(Payment, [{"id": f"p{n}", "owner_id": "ada", "amount": 1.0} for n in range(5, 25)])
    await check(session)
    await session.update_all(OWNER.where(Payment.paid == False).full_scan(), {Payment.paid: True})  # noqa: E712
    await check(session)
    await session.delete_range(Payment.query().full_scan().where(Payment.amount == 1.0).limit(7))
    await session.commit()
    await check(session)
    await session.delete_all(Payment.query().full_scan())
    await check(session)
    assert await session.sum(OWNER, Payment.amount) == 0


async def test_a_commit_that_is_refused_counts_nothing(session: AsyncSession) -> None:
    await session.add(payment(1))
    await session.commit()
    await session.add(payment(2))
    await session.update(Payment, "nobody", {"paid": True})
    try:
        await session.commit()
    except Exception:
        await session.rollback()
    await check(session)
    await session.delete_all(Payment.query().full_scan())


async def test_documents_that_are_older_than_their_counters_are_counted_again(session: AsyncSession) -> None:
    await session.add_all([payment(n, "ada" if n % 3 else "bob", n / 7 if n % 4 else None) for n in range(20)])
    await session.commit()
    await session.delete_all(Rows.query().full_scan())
    assert await session.count(OWNER) == 0
    assert await session.recount(Payment) > 0
    await check(session)
    await session.update(Payment, "p1", {"amount": Payment.amount + 1, "paid": True})
    await session.commit()
    await check(session)
    await session.delete_all(Payment.query().full_scan())


def test_the_command_counts_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'counted.db'}"
    with connect(url) as deployment, Session(deployment) as session:
        session.add_all([payment(n, f"o{n % 4}") for n in range(10)])
        session.commit()
        session.delete_all(Rows.query().full_scan())
    assert main(["recount", "tests.models", "--url", url]) == 0
    assert capsys.readouterr().out == "payments: 13 values counted\n"
    with connect(url) as deployment, Session(deployment) as session:
        assert session.count(Payment.query()) == 10


def test_counting_reads_no_document_that_is_counted(models_host: Host) -> None:
    with models_host.connect() as deployment, Session(deployment) as session:
        session.add_all([payment(n, f"o{n % 4}") for n in range(200)])
        session.commit()
        models_host.reset()
        of_one = Payment.query().where(Payment.owner_id == "o1")
        assert session.read(of_one.count(), of_one.sum(Payment.amount)) == (50, 5.0)
        assert models_host.metrics()["documentsRead"] == 2
        session.delete_all(Payment.query().full_scan())
    explained = Payment.query().where(Payment.owner_id == "o1").count().explain()
    assert "answer  what is kept in the counter payments.total" in explained
    uncounted = Payment.query().full_scan().where(Payment.amount == 1.0).count().explain()
    assert uncounted.endswith("answer  a count")


def test_writers_that_are_at_it_at_once_are_all_counted(deployment: Deployment, host: Host) -> None:
    def work(writer: int) -> None:
        with Session(deployment) as session:
            for n in range(5):
                session.add(payment(1_000 * writer + n + 1_000, "many"))
                session.commit()

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(work, range(10)))
    with Session(deployment) as session:
        many = Payment.query().where(Payment.owner_id == "many")
        assert session.count(many) == 50
        assert session.sum(many, Payment.amount) == 5.0
        session.delete_all(Payment.query().full_scan())


def test_requests_are_counted_one_by_one(deployment: Deployment, host: Host) -> None:
    table: Any = Payment.__mapper__.table
    with Session(deployment) as session:
        session.delete_all(Payment.query().full_scan())
    writes: list[Any] = [
        Insert(table, {"id": "a", "ownerId": "x", "paid": False, "amount": 2.0}),
        Upsert(table, Key("by_payment_id", ("a",)), {"id": "a", "ownerId": "y", "paid": False}),
        Patch(table, Key("by_payment_id", ("a",)), {"ownerId": "z"}),
        Replace(table, Key("by_payment_id", ("a",)), {"id": "a", "ownerId": "w", "paid": True, "amount": 1.0}),
    ]
    finish(deployment.blocking.commit(Commit(f"counted {id(deployment)}", writes)))
    with Session(deployment) as session:
        counts = [session.count(Payment.query().where(Payment.owner_id == owner)) for owner in "xyzw"]
        assert counts == [0, 0, 0, 1]
    finish(deployment.blocking.commit(Commit(f"gone {id(deployment)}", [Delete(table, Key("by_payment_id", ("a",)))])))
    with Session(deployment) as session:
        assert session.count(Payment.query()) == 0
