"""`order_by`: the index that gives an order is read; without one, all of it is sorted where it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from convexorm import AsyncSession, FullTableScanError, Query, Session, ValidationError
from convexorm.faces import finish
from convexorm.requests import Commit, DeleteRange, Insert, Range
from tests.conftest import Host
from tests.models import Everything, Note, Task

DAY = datetime(2024, 5, 17, tzinfo=UTC)
OWNED = Task.query().where(Task.owner_id == "a")
SEVERAL = Task.query().where(Task.owner_id.in_(["a", "b", "c"]))


async def fill(session: AsyncSession) -> None:
    """Twelve tasks of three owners, due on days 0 to 11 in turn."""
    await session.add_all(
        [
            Task(text=f"{day % 4}", owner_id="abc"[day % 3], due=DAY + timedelta(days=(day * 5) % 12), rank=float(day % 2))
            for day in range(12)
        ]
    )
    await session.commit()


def test_the_index_that_gives_the_order_is_chosen() -> None:
    assert OWNED.order_by(Task.due).plan().range.index == "by_owner_and_due"
    assert OWNED.order_by(Task.due.desc()).plan().order == "desc"
    assert OWNED.order_by(Task.done).plan().range.index == "by_owner"
    assert OWNED.order_by(Task.owner_id, Task.done).plan().range.index == "by_owner"
    assert SEVERAL.order_by(Task.owner_id, Task.due).plan().merge is None
    assert SEVERAL.order_by(Task.due.desc()).plan().merge == 1
    assert Task.query().order_by(Task.rank).limit(3).plan().range.index == "by_rank"
    assert Task.query().order_by(Task.creation_time.desc()).limit(3).plan().range.index == "by_creation_time"
    assert "order   desc by due, _creationTime (3 ranges merged)" in SEVERAL.order_by(Task.due.desc()).explain()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        (OWNED.order_by(Task.text), r"order by text .*one on \(ownerId, text\) would"),
        (OWNED.order_by(Task.due.desc(), Task.rank), "none can that goes up and down"),
        (Task.query().where(Task.rank > 1.0).order_by(Task.due).limit(2), "full_scan"),
        (Task.query().order_by(Task.rank), "a query without conditions"),
        (Task.query().where(Task.text == "x").order_by(Task.rank).limit(2), "the conditions on text"),
    ],
)
def test_an_order_that_no_index_gives_says_which_would(query: Query[Task], told: str) -> None:
    with pytest.raises(FullTableScanError, match=told):
        query.plan()


def test_what_is_no_order_is_refused_while_building() -> None:
    for bad in ("rank", Note.title, Everything.text.desc(), Task.rank > 1.0):
        with pytest.raises(ValidationError):
            Task.query().order_by(bad)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Task.query().order_by()
    with pytest.raises(ValidationError, match="not both"):
        Task.query().order("desc").order_by(Task.rank)
    with pytest.raises(ValidationError, match="not both"):
        Task.query().order_by(Task.rank).order("desc")


def days(tasks: list[Task]) -> list[int]:
    return [(task.due - DAY).days for task in tasks if task.due is not None]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_ranges_are_merged_in_the_order_of_the_fields_behind_them(session: AsyncSession, order: Any) -> None:
    await fill(session)
    query = SEVERAL.order_by(Task.due if order == "asc" else Task.due.desc())
    expected = list(range(12)) if order == "asc" else list(range(11, -1, -1))
    assert days(await session.all(query)) == expected
    assert days(await session.all(query.offset(2).limit(5))) == expected[2:7]
    assert await session.all(query.limit(3).select(Task.due)) == [(DAY + timedelta(days=day),) for day in expected[:3]]
    assert await session.count(query) == 12
    assert await session.sum(query.limit(4), Task.rank) == sum(task.rank or 0 for task in (await session.all(query))[:4])
    found: list[int] = []
    cursor = None
    while True:
        page = await session.page(query, 5, cursor)
        found += days(page.items)
        cursor = page.cursor
        if cursor is None:
            break
    assert found == expected
    assert days([task async for task in session.stream(query)]) == expected
    filtered = query.where(Task.text != "1")
    assert days(await session.all(filtered)) == [day for day in expected if (day * 5) % 12 % 4 != 1]


async def test_what_no_index_orders_is_sorted_where_it_is(session: AsyncSession) -> None:
    await fill(session)
    query = OWNED.full_scan().order_by(Task.text.desc(), Task.due)
    everything = sorted(await session.all(OWNED), key=lambda task: (-int(task.text), task.due))
    assert await session.all(query) == everything
    assert await session.all(query.offset(1).limit(2)) == everything[1:3]
    assert await session.first(query) is everything[0]
    assert await session.all(query.limit(2).select(Task.rank)) == [(task.rank,) for task in everything[:2]]
    assert [task async for task in session.stream(query)] == everything
    assert "order   text desc, due asc (sorted where the data is, after all of it is read)" in query.explain()
    with pytest.raises(ValidationError, match="pages"):
        await session.page(query, 2)


async def test_how_many_there_are_does_not_depend_on_their_order(session: AsyncSession) -> None:
    await fill(session)
    first = SEVERAL.full_scan().order_by(Task.text.desc(), Task.rank).limit(5)
    assert await session.read(first.count(), first.offset(9).count(), first.exists()) == (5, 3, True)
    assert await session.exists(first.offset(12)) is False


@pytest.mark.parametrize(
    "made", [lambda q: q.sum(Task.rank), lambda q: q.min(Task.due), lambda q: q.group_by(Task.done).count()]
)
def test_the_first_in_an_order_that_no_index_gives_are_not_added_up(made: Any) -> None:
    sorted_ = SEVERAL.full_scan().order_by(Task.text)
    assert "sum" in sorted_.sum(Task.rank).explain()  # of all of them
    with pytest.raises(ValidationError, match="in an order that no index has there are no aggregates"):
        made(sorted_.limit(2)).explain()


@pytest.mark.parametrize("order", [(Task.text,), (Task.due.desc(),), (Task.rank, Task.text.desc())])
async def test_of_nothing_all_orders_are_one(session: AsyncSession, order: tuple[Any, ...]) -> None:
    await fill(session)
    for nothing in (OWNED.where(Task.owner_id == "b"), OWNED.where(Task.due.in_([]))):
        query = nothing.order_by(*order)
        assert await session.all(query) == []
        assert (await session.page(query, 3)).has_more is False
        assert await session.count(query.limit(2)) == 0


async def test_the_first_in_an_order_that_is_not_the_indexs_are_not_deleted(session: AsyncSession) -> None:
    await fill(session)
    by_due = OWNED.order_by(Task.due)
    for query in (by_due.order_by(Task.due.desc()), SEVERAL.order_by(Task.due), OWNED.full_scan().order_by(Task.text)):
        with pytest.raises(ValidationError, match="order of its index"):
            await session.delete_all(query.limit(2))
    assert await session.delete_all(by_due.limit(1)) == 1
    assert await session.count(OWNED) == 3
    assert await session.delete_all(SEVERAL.order_by(Task.due)) == 11


async def test_neighbours_in_an_order_are_those_of_an_index(session: AsyncSession) -> None:
    await fill(session)
    query = SEVERAL.order_by(Task.due)
    third = (await session.all(query))[2]
    assert days(await session.all(query.after(third).limit(2))) == [3, 4]
    with pytest.raises(ValidationError, match="not read from a place"):
        await session.all(OWNED.full_scan().order_by(Task.text).after(third))


async def test_a_query_without_conditions_with_a_limit_or_a_page_is_no_full_scan(session: AsyncSession) -> None:
    await fill(session)
    query = Task.query()
    assert len(await session.all(query.limit(2))) == 2
    assert await session.first(query.order("desc")) is not None
    page = await session.page(query, 5)
    assert [len((await session.page(query, 5, page.cursor)).items), len(page.items)] == [5, 5]
    assert await session.exists(query)
    assert len((await session.page(query.select(Task.text), 5)).items) == 5
    for everything in (query, query.where(Task.text == "1").limit(2)):
        with pytest.raises(FullTableScanError):
            await session.all(everything)
    with pytest.raises(FullTableScanError):
        await session.page(query.where(Task.text == "1"), 5)
    assert "index   by_creation_time" in query.limit(2).explain()


def test_merged_ranges_read_one_document_more_each(models_host: Host) -> None:
    table = Task.__mapper__.table
    owners = [f"o{number:03}" for number in range(100)]
    docs = [
        {"text": "x", "ownerId": owner, "done": False, "due": float(1_000 * place + number)}
        for place, owner in enumerate(owners)
        for number in range(3)
    ]
    inserts = [Insert(table, document) for document in docs]
    with models_host.connect() as deployment, Session(deployment) as session:
        finish(deployment.blocking.commit(Commit("fill order", [DeleteRange(Range(table, "by_creation_time")), *inserts])))
        models_host.reset()
        query = Task.query().where(Task.owner_id.in_(owners)).order_by(Task.due.desc()).limit(20)
        found = session.all(query)
        metrics = models_host.metrics()
        session.delete_all(Task.query().full_scan())
    assert [task.owner_id for task in found] == [owner for owner in owners[:-8:-1] for _ in range(3)][:20]
    assert metrics["calls"] == 1
    assert metrics["documentsRead"] <= 120
