"""Selections, aggregates and groups: computed where the documents are, in one call with whatever else is asked."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from convexorm import (
    AsyncSession,
    Deployment,
    FullTableScanError,
    Index,
    InvalidRequestError,
    Mapped,
    Model,
    Session,
    ValidationError,
    connect,
    field,
)
from convexorm.faces import finish
from convexorm.requests import Commit, DeleteRange, Insert, Range
from convexorm.values import ConvexInt64
from tests.conftest import Host
from tests.models import Anything, Everything, Note, Task

DAY = datetime(2024, 5, 17, tzinfo=UTC)


async def fill(session: AsyncSession) -> None:
    ranks: dict[str, list[float | None]] = {"ada": [3.0, 1.0, None], "bob": [2.5], "eve": [None, None]}
    await session.add_all(
        [
            Task(text=f"{owner}{place}", owner_id=owner, rank=rank, done=place > 0, due=DAY + timedelta(days=place))
            for owner, owned in ranks.items()
            for place, rank in enumerate(owned)
        ]
    )
    await session.commit()


OF_ADA = Task.query().where(Task.owner_id == "ada")
SEVERAL = Task.query().where(Task.owner_id.in_(["ada", "bob", "eve"]))


async def test_a_selection_answers_tuples(session: AsyncSession) -> None:
    await fill(session)
    rows = OF_ADA.select(Task.text, Task.rank, Task.due)
    expected = [("ada0", 3.0, DAY), ("ada1", 1.0, DAY + timedelta(days=1)), ("ada2", None, DAY + timedelta(days=2))]
    assert await session.all(rows) == expected
    assert await session.first(rows.order("desc")) == expected[-1]
    assert await session.all(rows.offset(1).limit(1)) == expected[1:2]
    assert [row async for row in session.stream(rows)] == expected
    first = await session.page(rows, 2)
    assert (first.items, first.has_more) == (expected[:2], True)
    second = await session.page(rows, 2, first.cursor)
    assert (second.items, second.cursor) == (expected[2:], None)
    found = await session.one(OF_ADA.where(Task.rank == 3.0).select(Task.convex_id))
    assert await session.read(rows, OF_ADA.count()) == (expected, 3)
    assert (await session.get(Task, found[0])) is not None


async def test_aggregates_leave_out_what_is_missing(session: AsyncSession) -> None:
    await fill(session)
    assert await session.read(
        SEVERAL.sum(Task.rank),
        SEVERAL.min(Task.rank),
        SEVERAL.max(Task.rank),
        SEVERAL.avg(Task.rank),
        SEVERAL.exists(),
        SEVERAL.count(),
    ) == (6.5, 1.0, 3.0, 6.5 / 3, True, 6)
    nobody = Task.query().where(Task.owner_id == "nobody")
    assert await session.sum(nobody, Task.rank) == 0
    assert await session.min(nobody, Task.rank) is None
    assert await session.max(nobody, Task.rank) is None
    assert await session.avg(nobody, Task.rank) is None
    assert not await session.exists(nobody)
    assert await session.exists(OF_ADA)
    assert await session.sum(SEVERAL.limit(2), Task.rank) == 4.0
    assert await session.sum(SEVERAL.order("desc").offset(2).limit(3), Task.rank) == 3.5
    assert await session.max(OF_ADA, Task.due) == DAY + timedelta(days=2)
    assert await session.max(OF_ADA, Task.text) == "ada2"


async def test_sums_are_exact_and_independent_of_order(session: AsyncSession) -> None:
    values = [1e308, 1.0, 0.1, -1e308, 0.2, 1e16, 1.0, -1e16, 5e-324]
    await session.add_all([Anything(key=f"k{place}", a=value) for place, value in enumerate(values)])
    await session.add(Anything(key="text", a="no number"))
    await session.commit()
    every = Anything.query().full_scan()
    assert await session.sum(every, Anything.a) == math.fsum(values) == 2.3
    await session.add_all([Anything(key=f"w{place}", a=1.7e308) for place in range(2)])
    await session.commit()
    assert await session.sum(every, Anything.a) == math.inf


async def test_the_sum_of_integers_is_one(session: AsyncSession) -> None:
    await session.add_all([Anything(key=f"k{place}", b=ConvexInt64(2**62)) for place in range(3)])
    await session.commit()
    assert await session.sum(Anything.query().full_scan(), Anything.b) == 3 * 2**62


async def test_groups_are_tuples_in_the_order_of_their_values(session: AsyncSession) -> None:
    await fill(session)
    grouped = SEVERAL.group_by(Task.owner_id)
    assert await session.all(grouped.sum(Task.rank)) == [("ada", 4.0), ("bob", 2.5), ("eve", 0.0)]
    assert await session.all(grouped.count()) == [("ada", 3), ("bob", 1), ("eve", 2)]
    assert await session.all(grouped.min(Task.rank)) == [("ada", 1.0), ("bob", 2.5), ("eve", None)]
    assert await session.all(grouped.avg(Task.rank)) == [("ada", 2.0), ("bob", 2.5), ("eve", None)]
    assert await session.first(grouped.max(Task.due)) == ("ada", DAY + timedelta(days=2))
    both = SEVERAL.group_by(Task.done, Task.owner_id).count()
    assert await session.all(both) == [
        (False, "ada", 1),
        (False, "bob", 1),
        (False, "eve", 1),
        (True, "ada", 2),
        (True, "eve", 1),
    ]
    assert [row async for row in session.stream(both)] == await session.all(both)
    assert (await session.read(both, SEVERAL.exists()))[1] is True
    with pytest.raises(ValidationError, match="pages"):
        await session.page(both, 2)


async def test_distinct_values(session: AsyncSession) -> None:
    await fill(session)
    owners = Task.query().distinct(Task.owner_id)
    assert await session.all(owners) == ["ada", "bob", "eve"]
    assert await session.all(owners.order("desc").limit(2)) == ["eve", "bob"]
    page = await session.page(owners, 2)
    assert page.items == ["ada", "bob"]
    assert (await session.page(owners, 2, page.cursor)).items == ["eve"]
    assert [owner async for owner in session.stream(owners)] == ["ada", "bob", "eve"]
    assert await session.all(SEVERAL.distinct(Task.rank)) == [None, 1.0, 2.5, 3.0]
    assert await session.all(SEVERAL.order("desc").limit(2).distinct(Task.rank)) == [3.0, 2.5]
    assert await session.all(OF_ADA.distinct(Task.done)) == [False, True]
    several = Task.query().where(Task.owner_id.in_(["eve", "ada", "nobody"]), Task.done.in_([True, False]))
    assert await session.all(several.distinct(Task.owner_id)) == ["ada", "eve"]
    assert await session.all(several.where(Task.done == True).distinct(Task.owner_id)) == ["ada", "eve"]  # noqa: E712
    page = await session.page(several.order("desc").where(Task.done == True).distinct(Task.owner_id), 1)  # noqa: E712
    assert (page.items, page.has_more) == (["eve"], True)
    assert await session.all(OF_ADA.distinct(Task.owner_id)) == ["ada"]
    assert await session.all(Task.query().where(Task.rank > 1.0).distinct(Task.rank)) == [2.5, 3.0]
    assert await session.all(Task.query().where(Task.owner_id != "bob", Task.rank > 1.0).distinct(Task.owner_id)) == ["ada"]


@pytest.mark.parametrize(
    "statement",
    [
        lambda: Task.query().sum(Task.text),
        lambda: Task.query().avg(Task.due),
        lambda: Task.query().sum(Task.done),
        lambda: Task.query().group_by(Task.owner_id).sum(Task.text),
        lambda: Note.query().sum(Note.tags),
        lambda: Task.query().select(Note.body),
        lambda: Task.query().select("text"),  # type: ignore[call-overload]
        lambda: Task.query().select(),
        lambda: Task.query().group_by(),  # type: ignore[call-overload]
        lambda: Note.query().distinct(Everything.text),
        lambda: Task.query().group_by(Task.owner_id).sum(Everything.number),
        lambda: Task.query().group_by(Task.owner_id).avg(Everything.number),
        lambda: Task.query().group_by(Task.owner_id).min(Everything.text),
        lambda: Task.query().group_by(Task.owner_id).max("text"),  # type: ignore[arg-type]
        lambda: Task.query().order_by(Task.rank).distinct(Task.owner_id),
        lambda: Task.query().order_by(Task.owner_id, Task.rank).distinct(Task.owner_id),
    ],
)
def test_what_cannot_be_computed_is_refused_while_building(statement: Any) -> None:
    with pytest.raises(ValidationError):
        statement()


async def test_different_values_come_in_the_order_that_was_asked_for(session: AsyncSession) -> None:
    await fill(session)
    upwards = await session.all(Task.query().distinct(Task.rank))
    assert await session.all(Task.query().order_by(Task.rank).distinct(Task.rank)) == upwards
    assert await session.all(Task.query().order_by(Task.rank.desc()).distinct(Task.rank).limit(2)) == upwards[:-3:-1]


async def test_groups_are_asked_for_something(session: AsyncSession) -> None:
    with pytest.raises(InvalidRequestError, match="groups without what is wanted of each"):
        await session.all(Task.query().group_by(Task.owner_id))  # type: ignore[call-overload]


async def test_an_aggregate_that_no_index_covers_must_say_full_scan(session: AsyncSession) -> None:
    await fill(session)
    for statement in (Task.query().sum(Task.rank), Task.query().min(Task.text), Task.query().distinct(Task.text)):
        with pytest.raises(FullTableScanError):
            await session.read(statement)
        assert "refused" in statement.explain()
    assert await session.sum(Task.query().full_scan(), Task.rank) == 6.5


def test_explain_says_what_is_answered() -> None:
    assert OF_ADA.select(Task.text, Task.rank).explain().endswith("\nanswer  text, rank")
    assert SEVERAL.group_by(Task.done).sum(Task.rank).explain().endswith("\nanswer  sum of rank for each done")
    assert OF_ADA.count().explain().endswith("\nanswer  a count")
    assert "limit   1\n" in OF_ADA.max(Task.due).explain()
    assert "index   by_rank" in Task.query().min(Task.rank).explain()
    assert "one document read for each different ownerId" in Task.query().distinct(Task.owner_id).explain()


def test_what_is_computed_where_the_data_is_costs_little(models_host: Host) -> None:
    table = Task.__mapper__.table
    docs = [{"text": "x" * 900, "ownerId": f"o{place % 5}", "done": False, "rank": float(place)} for place in range(1_000)]
    inserts = [Insert(table, document) for document in docs]
    with models_host.connect() as deployment, Session(deployment) as session:
        finish(
            deployment.blocking.commit(Commit("fill selections", [DeleteRange(Range(table, "by_creation_time")), *inserts]))
        )

        def cost(ask: Any) -> tuple[int, int]:
            models_host.reset()
            ask()
            metrics = models_host.metrics()
            assert metrics["responseBytes"] < 20_000
            return metrics["calls"], metrics["documentsRead"]

        every = Task.query().full_scan()
        assert cost(lambda: session.all(Task.query().distinct(Task.owner_id))) == (1, 5)
        some = Task.query().where(Task.owner_id.in_(["o1", "o3"]), Task.done == False)  # noqa: E712
        assert cost(lambda: session.all(some.distinct(Task.owner_id))) == (1, 2)
        assert cost(lambda: session.read(Task.query().min(Task.rank), Task.query().max(Task.rank))) == (1, 2)
        assert cost(lambda: session.exists(every)) == (1, 1)
        assert cost(lambda: session.all(every.group_by(Task.owner_id).sum(Task.rank))) == (1, 1_000)
        assert cost(lambda: session.all(Task.query().by_index("by_rank").select(Task.rank).limit(500))) == (1, 500)
        both = Task.query().where(Task.owner_id.in_(["o1", "o2"]))
        assert cost(lambda: session.max(both, Task.done)) == (1, 2)


def test_aggregates_go_on_in_further_calls(models_host: Host) -> None:
    table = Task.__mapper__.table
    with models_host.connect() as deployment, Session(deployment) as session:
        finish(deployment.blocking.commit(Commit("empty", [DeleteRange(Range(table, "by_creation_time"))])))
        for part in range(3):
            docs = [{"text": "x" * 250_000, "ownerId": f"o{place % 7}", "done": False, "rank": 0.1} for place in range(15)]
            finish(deployment.blocking.commit(Commit(f"large {part}", [Insert(table, document) for document in docs])))
        every = Task.query().full_scan()
        models_host.reset()
        grouped, total = session.read(every.group_by(Task.owner_id).sum(Task.rank), every.sum(Task.rank))
        assert models_host.metrics()["calls"] > 1
        assert total == math.fsum([0.1] * 45)
        counts = [sum(1 for _ in range(3) for place in range(15) if place % 7 == owner) for owner in range(7)]
        assert grouped == [(f"o{owner}", math.fsum([0.1] * count)) for owner, count in enumerate(counts)]
        rows = session.all(every.full_scan().order_by(Task.text, Task.owner_id.desc()).select(Task.owner_id).limit(4))
        assert rows == [("o6",)] * 4
        session.delete_all(every)


def test_a_missing_field_and_null_are_one_group_and_one_value(deployment: Deployment) -> None:
    table = Anything.__mapper__.table
    held: list[dict[str, Any]] = [{}, {"a": None}, {"a": 2.0}, {}, {"a": None, "text": "x"}]
    with Session(deployment) as session:
        session.delete_all(Anything.query().full_scan())
        inserts = [Insert(table, {"key": f"k{place}", **document}) for place, document in enumerate(held)]
        finish(deployment.blocking.commit(Commit.new(inserts)))
        everything = Anything.query().full_scan()
        assert session.all(everything.group_by(Anything.a).count()) == [(None, 4), (2, 1)]
        by_both = everything.group_by(Anything.text, Anything.a).count()
        assert session.all(by_both) == [(None, None, 3), (None, 2, 1), ("x", None, 1)]
        assert session.first(by_both) == (None, None, 3)
        assert session.read(everything.distinct(Anything.a), everything.distinct(Anything.text)) == (
            [None, 2],
            [None, "x"],
        )


def test_what_is_behind_an_instance_is_counted_in_the_order_that_was_asked_for(deployment: Deployment) -> None:
    with Session(deployment) as session:
        session.delete_all(Anything.query().full_scan())
        session.add_all([Anything(key=f"k{n}", a=float(-n), text="x" if n % 2 else None) for n in range(9)])
        session.commit()
        third = session.get_one(Anything, "k2")
        behind = Anything.query().full_scan().where(Anything.text.is_missing()).order_by(Anything.a.asc()).after(third)
        assert [one.key for one in session.all(behind)] == ["k0"]
        assert (session.count(behind), session.exists(behind)) == (1, True)
        assert session.read(behind.sum(Anything.a), behind.min(Anything.key)) == (0, "k0")
        assert session.all(behind.distinct(Anything.key)) == ["k0"]
        assert session.all(behind.group_by(Anything.key).count()) == [("k0", 1)]
        assert session.exists(behind.after(session.get_one(Anything, "k0"))) is False


class Old(Model, table="grown"):
    text: Mapped[str]


class Grown(Model, table="grown"):
    text: Mapped[str]
    done: Mapped[bool] = field(default=True)
    by_done = Index("done")


def test_documents_older_than_an_attribute_are_in_the_group_of_its_default() -> None:
    with connect("memory:") as deployment:
        for made in ([Old(text="a"), Old(text="b")], [Grown(text="c"), Grown(text="d", done=False)]):
            with Session(deployment) as session:
                session.add_all(made)
                session.commit()
        with Session(deployment) as session:
            everything = Grown.query().full_scan()
            assert session.all(everything.group_by(Grown.done).count()) == [(False, 1), (True, 3)]
            different = Grown.query().distinct(Grown.done)
            assert session.all(different) == list(session.stream(different)) == [False, True]
            assert session.all(different.order("desc").limit(1)) == [True]
            assert session.all(everything.where(Grown.text != "").distinct(Grown.done)) == [False, True]
            with pytest.raises(ValidationError, match="others hold what it loads as"):
                session.page(different, 1)
            of_new = Grown.query().where(Grown.done >= False).distinct(Grown.done)
            page = session.page(of_new, 1)
            assert (page.items, session.page(of_new, 1, page.cursor).items) == ([False], [True])
            of_old = Grown.query().where(Grown.done < False).distinct(Grown.done)
            assert session.page(of_old, 1).items == [True]


class Ticket(Model, table="tickets"):
    text: Mapped[str] = field(default="")
    status: Mapped[str] = field(default="open", optional=True)
    by_text = Index("text")
    by_status = Index("status")


class Plain(Model, table="tickets"):
    status: Mapped[str | None] = field(default=None)


def test_a_value_that_documents_hold_and_others_lack_comes_once_or_not_in_pages() -> None:
    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add_all([Plain(), Plain(status="open"), Plain(status="done")])
            session.commit()
        with Session(deployment) as session:
            different = Ticket.query().distinct(Ticket.status)
            assert session.all(different) == list(session.stream(different)) == ["done", "open"]
            assert session.all(different.limit(2)) == list(session.stream(different.limit(2))) == ["done", "open"]
            assert session.all(different.limit(1)) == ["done"]
            assert session.all(different.order("desc").limit(1)) == [session.first(different.order("desc"))] == ["open"]
            with pytest.raises(ValidationError, match="others hold what it loads as"):
                session.page(different, 1)
            assert session.page(Ticket.query().distinct(Ticket.text), 1).items == [""]


ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0.0,
        -0.0,
        1.0,
        1,
        2.5,
        2.0**60,
        -(2.0**60),
        1e300,
        float("inf"),
        "",
        "a",
        "é",
        "$x",
    ),
    *(b"x", [], [1.0], {}, {"a": 1.0}, "\U0001f600"),
]


@pytest.mark.parametrize(
    "values", [["a", "b", "é"], [1.0, 2.0, 3.5], [1.0, True], [None, "a"], [0.0, -0.0], [1e300, 1.0], ODD]
)
def test_what_is_aggregated_at_once_is_what_it_is_one_by_one(deployment: Deployment, values: list[Any]) -> None:
    chance = random.Random(5)
    pairs = [(chance.choice(values), chance.choice(values)) for _ in range(150)]
    with Session(deployment) as session:
        session.delete_all(Anything.query().full_scan())
        session.add_all([Anything(key=f"k{n}", a=a, b=b, text="tx"[n % 2]) for n, (a, b) in enumerate(pairs)])
        session.commit()
        everything = Anything.query().full_scan()
        one_by_one = everything.where(Anything.key != "")
        for query in (everything, Anything.query().by_index("by_a", Anything.a >= "")):
            slowly = one_by_one if query is everything else query.where(Anything.key != "")
            for column in (Anything.a, Anything.b, Anything.text):
                asked = [
                    (one.sum(Anything.b), one.min(column), one.max(column), one.avg(Anything.b)) for one in (query, slowly)
                ]
                first, second = (repr(session.read(*statements)) for statements in asked)
                assert first == second
                for by in ((Anything.text,), (Anything.a,), (Anything.a, Anything.text)):
                    groups = [one.group_by(*by) for one in (query, slowly)]
                    for made in ([one.count() for one in groups], [one.max(column) for one in groups]):
                        first, second = (repr(session.all(statement)) for statement in made)
                        assert first == second
