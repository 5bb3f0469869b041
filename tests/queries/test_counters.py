"""Counts and sums that are kept with every write."""

from __future__ import annotations

import math
import random
import re
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from convexorm import (
    AsyncSession,
    Deployment,
    Functions,
    Index,
    Mapped,
    Model,
    Progress,
    Query,
    Schema,
    Session,
    Sum,
    ValidationError,
    connect,
    field,
    to_typescript,
)
from convexorm import Counter as Tally
from convexorm.__main__ import main
from convexorm.aggregates import Sum as Total
from convexorm.faces import finish
from convexorm.projects.functions import functions
from convexorm.querying.statements import Groups
from convexorm.requests import Commit, Delete, DeletedRange, Insert, Key, Patch, Recount, Replace, Upsert
from convexorm.schema import COUNTERS
from tests.conftest import ROOT, Host, node
from tests.models import Note, Payment
from tests.queries.conftest import Open


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


class Paid(Model, table="payments", primary_key="id"):
    """Payments that all have an amount."""

    id: Mapped[str]
    owner_id: Mapped[str] = field(name="ownerId")
    paid: Mapped[bool] = field(default=False)
    amount: Mapped[float]
    by_payment_id = Index("id")
    number = Tally("paid")
    of_both = Sum("amount", by=("owner_id", "paid"))


def groups_of(query: Query[Paid]) -> list[Groups[Any]]:
    by_both = query.group_by(Paid.paid, Paid.owner_id)
    return [by_both.count(), by_both.sum(Paid.amount), by_both.avg(Paid.amount), query.group_by(Paid.paid).count()]


async def test_groups_are_counted_with_every_write(session: AsyncSession) -> None:
    owners = "a", "a\0b", "b", "é"
    everything, of_a = Paid.query(), Paid.query().where(Paid.owner_id == "a")

    async def check() -> None:
        for query in (everything, of_a, of_a.where(Paid.paid == True)):  # noqa: E712
            for kept, slow in zip(groups_of(query), groups_of(query.where(Paid.id != "").full_scan()), strict=True):
                assert await session.all(kept) == await session.all(slow)

    await session.add_all([Paid(id=f"p{n}", owner_id=owners[n % 4], paid=n % 3 == 0, amount=n / 7) for n in range(24)])
    await session.commit()
    assert len(await session.all(groups_of(everything)[0])) == 8
    assert await session.first(groups_of(everything)[1]) == (False, "a", pytest.approx(48 / 7))
    await check()
    await session.delete_range(everything.where(Paid.owner_id == "b", Paid.paid == False).full_scan().limit(9))  # noqa: E712
    await session.update(Paid, "p0", {"paid": False, "amount": Paid.amount - 3})
    await session.commit()
    await check()
    assert len(await session.all(groups_of(everything)[0])) == 7
    await session.delete_all(everything.full_scan())


class Older(Model, table="payments", primary_key="id"):
    """Payments as they were before each had an amount; what is kept of them is the same."""

    id: Mapped[str]
    owner_id: Mapped[str] = field(name="ownerId")
    paid: Mapped[bool] = field(default=False)
    amount: Mapped[float | None] = field(default=None)
    by_payment_id = Index("id")
    number = Tally("paid")
    of_both = Sum("amount", by=("owner_id", "paid"))


async def test_groups_without_any_number_are_among_the_kept_sums(open_: Open) -> None:
    session, older = open_(), open_()

    async def same() -> list[Any]:
        query = Paid.query()
        fast, slow = groups_of(query), groups_of(query.where(Paid.id != "").full_scan())
        answers = [await session.all(one) for one in fast]
        assert answers == [await session.all(one) for one in slow]
        return answers

    await older.add_all(
        [Older(id="a", owner_id="ada"), Older(id="b", owner_id="bob"), Older(id="c", owner_id="bob", amount=2.0)]
    )
    await older.commit()
    counts, sums, averages, _ = await same()
    assert sums == [(False, "ada", 0.0), (False, "bob", 2.0)]
    assert averages == [(False, "ada", None), (False, "bob", 2.0)]
    assert counts == [(False, "ada", 1), (False, "bob", 2)]
    assert await session.recount(Paid) == 3
    assert (await same())[1] == sums
    await session.update(Paid, "a", {"owner_id": "eve"})
    await session.commit()
    assert [row[1] for row in (await same())[1]] == ["bob", "eve"]
    await session.update(Paid, "a", {"amount": 1.5})
    await session.commit()
    assert (await same())[1] == [(False, "bob", 2.0), (False, "eve", 1.5)]
    await session.delete_key(Paid, "b")
    await session.delete_key(Paid, "a")
    await session.commit()
    assert (await same())[0] == [(False, "bob", 1)]
    await session.delete_all(Paid.query().full_scan())
    assert await same() == [[], [], [], []]


def test_groups_that_no_counter_says_are_found_among_the_documents() -> None:
    everything, total = Paid.query(), "answer  what is kept in the counter payments.of_both, of each of its values"
    for statement in groups_of(everything)[:3]:
        assert statement.explain().endswith(total)
    assert Paid.query().group_by(Paid.paid).count().explain().endswith("payments.number, of each of its values")
    scans = (
        everything.group_by(Paid.owner_id).count(),
        everything.group_by(Paid.paid).sum(Paid.amount),
        everything.group_by(Paid.owner_id, Paid.paid).max(Paid.amount),
        everything.group_by(Paid.id, Paid.owner_id, Paid.paid).count(),
        everything.limit(3).group_by(Paid.paid).count(),
        everything.where(Paid.paid == True).group_by(Paid.owner_id).count(),  # noqa: E712
        Payment.query().group_by(Payment.owner_id).sum(Payment.amount),
    )
    for scan in scans:
        assert "kept in the counter" not in scan.explain()


async def test_rows_of_a_counter_that_counted_by_other_attributes_are_refused(session: AsyncSession) -> None:
    await session.delete_all(Rows.query().full_scan())
    await session.add(Rows(counter="payments.of_both", key="106100", shard=0.0, count=1.0, sum=Total(1).text()))
    await session.commit()
    with pytest.raises(ValidationError, match="python -m convexorm recount"):
        await session.all(Paid.query().group_by(Paid.owner_id, Paid.paid).sum(Paid.amount))
    await session.delete_all(Rows.query().full_scan())


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
    assert await session.recount(Payment) == 20
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
    assert capsys.readouterr().out == "payments: 10 documents counted\n"
    with connect(url) as deployment, Session(deployment) as session:
        assert session.count(Payment.query()) == 10


def test_counting_reads_no_document_that_is_counted(models_host: Host) -> None:
    with models_host.connect() as deployment, Session(deployment) as session:
        session.delete_all(Payment.query().full_scan())
        session.delete_all(Rows.query().full_scan())
        session.add_all([payment(n, f"o{n % 4}") for n in range(200)])
        session.commit()
        models_host.reset()
        of_one = Payment.query().where(Payment.owner_id == "o1")
        assert session.read(of_one.count(), of_one.sum(Payment.amount)) == (50, 5.0)
        assert models_host.metrics()["documentsRead"] == 2
        models_host.reset()
        assert session.all(Payment.query().group_by(Payment.owner_id).count()) == [(f"o{n}", 50) for n in range(4)]
        assert models_host.metrics()["documentsRead"] == 4
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


async def test_numbers_that_are_not_finite_can_be_taken_away_again(session: AsyncSession) -> None:
    await session.add_all([payment(1, amount=float("inf")), payment(2, amount=2.0), payment(3, amount=float("-inf"))])
    await session.commit()
    total = await session.sum(OWNER, Payment.amount)
    assert math.isnan(total)
    await session.delete_key(Payment, "p3")
    await session.commit()
    assert await session.sum(OWNER, Payment.amount) == math.inf
    await session.update(Payment, "p1", {"amount": 1.0})
    await session.commit()
    assert await session.sum(OWNER, Payment.amount) == 3.0
    await session.delete_all(Payment.query().full_scan())


# -- counting again while others write -----------------------------------------------------------------------------


@pytest.fixture
def wrong(deployment: Deployment, host: Host) -> Iterator[Deployment]:
    """Payments that were counted wrong: some not at all, others twice, and some that are not there."""
    with Session(deployment) as session:
        session.delete_all(Payment.query().full_scan())
        session.delete_all(Rows.query().full_scan())
        session.add_all([payment(n, f"o{n % 7}", n / 7 if n % 4 else None) for n in range(40)])
        session.commit()
        for row in session.all(Rows.query().full_scan().limit(9)):
            session.delete(row)
        session.commit()
        for row in session.all(Rows.query().full_scan().limit(3)):
            session.add(Rows(counter=row.counter, key="10786500", shard=3.0, count=row.count, sum=row.sum))
            session.add(Rows(counter=row.counter, key=row.key, shard=3.0, count=row.count, sum=row.sum))
        session.commit()
    yield deployment
    with Session(deployment) as session:
        session.delete_all(Payment.query().full_scan())
        session.delete_all(Rows.query().full_scan())


def is_counted_right(deployment: Deployment) -> bool:
    with Session(deployment) as session:
        everything = session.all(Payment.query().full_scan())
        right = session.count(Payment.query()) == len(everything)
        for owner in [*(f"o{n}" for n in range(8)), "x"]:
            theirs = Payment.query().where(Payment.owner_id == owner)
            scanned = theirs.full_scan().where(Payment.id != "")
            right &= session.read(theirs.count(), theirs.sum(Payment.amount)) == session.read(
                scanned.count(), scanned.sum(Payment.amount)
            )
        left = session.all(Rows.query().full_scan())
        return right and not [row for row in left if "." not in row.counter or row.counter.endswith("?")]


def change(session: Session, chance: random.Random) -> None:
    """Some change of some payment."""
    owner, number = f"o{chance.randrange(8)}", chance.randrange(60)
    match chance.randrange(5):
        case 0:
            session.upsert(payment(number, owner, chance.random()))
        case 1:
            session.delete_key(Payment, f"p{number}")
        case 2:
            found = session.get(Payment, f"p{number}")
            if found is not None:
                found.owner_id, found.amount = owner, chance.random()
        case 3:
            session.add(payment(chance.randrange(10**9), owner))
        case 4:
            session.delete_range(Payment.query().full_scan().where(Payment.owner_id == owner).limit(2))
    session.commit()


def test_what_is_written_between_the_steps_of_a_recount_is_counted(wrong: Deployment) -> None:
    assert not is_counted_right(wrong)
    table = Payment.__mapper__.table
    for seed in range(3):
        chance = random.Random(seed)
        more, steps = True, 0
        while more:
            ((applied,),) = (finish(wrong.blocking.commit(Commit.new([Recount(table, 3)]))),)
            assert isinstance(applied, DeletedRange)
            more, steps = applied.more, steps + 1
            with Session(wrong) as session:
                change(session, chance)
        assert is_counted_right(wrong), f"seed {seed}"


def test_what_others_write_during_a_recount_is_counted(wrong: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convexorm.sessions.bulk._RECOUNTED", 4)
    done = threading.Event()

    def write(seed: int) -> int:
        chance, written = random.Random(seed), 0
        while not done.is_set():
            with Session(wrong) as session:
                session.transact(lambda session: change(session, chance))
                written += 1
        return written

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, seed) for seed in range(4)]
        try:
            with Session(wrong) as session:
                for _ in range(3):
                    assert session.recount(Payment) >= 0
        finally:
            done.set()
        assert sum(writer.result() for writer in writers) > 0
    assert is_counted_right(wrong)


def test_a_recount_that_was_cut_off_is_gone_on_with(wrong: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convexorm.sessions.bulk._RECOUNTED", 5)
    steps: list[int] = []

    def cut_off(progress: Progress) -> None:
        steps.append(progress.done)
        if len(steps) == 4:
            raise KeyboardInterrupt

    with Session(wrong) as session:
        with suppress(KeyboardInterrupt):
            session.recount(Payment, on_progress=cut_off)
        session.recount(Payment)
    assert is_counted_right(wrong)


def test_a_recount_of_other_counters_begins_anew(wrong: Deployment) -> None:
    class Other(Model, table="payments"):
        id: Mapped[str]
        owner_id: Mapped[str] = field(name="ownerId")
        by_payment_id = Index("id")
        total = Tally("owner_id")
        other = Tally("id")

    for _ in range(4):
        finish(wrong.blocking.commit(Commit.new([Recount(Other.__mapper__.table, 9)])))
    with Session(wrong) as session:
        session.recount(Payment)
    assert is_counted_right(wrong)


def test_a_recount_is_a_commit_of_its_own(wrong: Deployment) -> None:
    table = Payment.__mapper__.table
    delete = Delete(table, Key("by_payment_id", ("p1",)))
    with pytest.raises(ValidationError, match="a commit of its own"):
        finish(wrong.blocking.commit(Commit.new([delete, Recount(table, 9)])))
    with Session(wrong) as session:
        assert session.recount(Note) == 0


def test_mutations_of_the_project_keep_counters_too_also_during_a_recount(
    models_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convexorm.sessions.bulk._RECOUNTED", 4)

    def pay(chance: random.Random, times: int = 1) -> None:
        if times > 1:
            pay(chance, times - 1)
        arguments: dict[str, Any] = {"id": f"p{chance.randrange(60)}"}
        if chance.randrange(3):
            arguments |= {"owner": f"o{chance.randrange(8)}"}
            arguments |= {"amount": chance.choice([0.1, 1.0, float("inf")])} if chance.randrange(2) else {}
        Functions(deployment).mutation("paying:pay", arguments)

    with models_host.connect() as deployment:
        with Session(deployment) as session:
            session.delete_all(Payment.query().full_scan())
            session.delete_all(Rows.query().full_scan())
        for n in range(40):
            Functions(deployment).mutation("paying:pay", {"id": f"p{n}", "owner": f"o{n % 7}", "amount": n / 3})
        assert is_counted_right(deployment)
        with Session(deployment) as session:
            session.delete_all(Rows.query().full_scan().limit(9))
        assert not is_counted_right(deployment)
        chance = random.Random(1)
        with Session(deployment) as session, ThreadPoolExecutor(3) as pool:
            writers = [pool.submit(pay, chance, 20) for _ in range(3)]
            session.recount(Payment, on_progress=lambda _: pay(chance))
            for writer in writers:
                writer.result()
        assert is_counted_right(deployment)


def test_the_typescript_of_the_page_is_typed(tmp_path: Path) -> None:
    class Paid(Model, table="payments"):
        owner_id: Mapped[str]
        amount: Mapped[float]

    page = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
    tables = Schema.of([Paid.__mapper__.table, COUNTERS])
    texts = {**functions(), "schema.ts": to_typescript(tables)}
    texts |= dict(re.findall(r"^```ts\n// convex/(\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    texts["wrong.ts"] = texts["payments.ts"].replace('(db, "payments"', '(db, "convexorm_commits"')
    for name, text in texts.items():
        path = tmp_path / "convex" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    tsc = [node(), str(ROOT / "node_modules/typescript/bin/tsc"), "--noEmit", "--strict", "--skipLibCheck"]
    tsc += ["--target", "ES2022", "--module", "ESNext", "--moduleResolution", "Bundler", "payments.ts", "wrong.ts"]
    done = subprocess.run(tsc, cwd=tmp_path / "convex", capture_output=True, text=True)
    assert re.fullmatch(r"wrong\.ts\(.*error TS.*\n(  .*\n)*", done.stdout), done.stdout
