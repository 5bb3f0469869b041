"""Alternatives over indexed fields: ranges that are read in the order of the index."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest

from convexorm import AsyncSession, Condition, Query, Session, and_, connect, not_, or_
from convexorm.deployments.embedded import reads, walks
from convexorm.deployments.filters import compile_filter
from convexorm.faces import finish
from convexorm.requests import Commit, DeleteRange, Insert, Range
from convexorm.values import canonical
from tests.conftest import Host
from tests.models import Anything, Task
from tests.stepping import steps

TASKS = [(f"{owner}{rank}", owner, rank) for rank in range(6) for owner in "cab"]

CONDITIONS: dict[str, Condition] = {
    "one of several": Task.owner_id.in_(["a", "c", "nobody"]),
    "one of several, and more": Task.owner_id.in_(["a", "c"]) & (Task.done == False),  # noqa: E712
    "either of two fields of an index": (Task.owner_id == "a") | ((Task.owner_id == "b") & (Task.done == True)),  # noqa: E712
    "unlike": Task.owner_id != "b",
    "not": ~((Task.rank > 1.0) & (Task.rank < 4.0)),
    "none of several": Task.rank.not_in([0.0, 3.0]),
    "overlapping": (Task.rank < 3.0) | Task.rank.between(1.0, 4.0) | (Task.rank == 5.0),
    "nothing": Task.rank.in_([]),
    "none of no alternatives": or_() & (Task.owner_id == "a"),
    "no alternatives": or_(),
    "filtered after it": Task.owner_id.in_(["a", "b"]) & (Task.text != "a1"),
}


async def fill(session: AsyncSession) -> None:
    await session.add_all(
        [Task(text=text, owner_id=owner, rank=float(rank), done=rank % 2 == 0) for text, owner, rank in TASKS]
    )
    await session.commit()


def expected(query: Query[Task], tasks: list[Task]) -> list[str]:
    """The texts of those tasks for which the conditions hold, in the order of the query's index."""
    fields = query.plan().range.table.key_fields(query.plan().range.index)
    documents: list[Any] = [task._state.document for task in tasks]
    holds = compile_filter(query._where[0])
    found = sorted(filter(holds, documents), key=lambda one: [canonical(one[field]) for field in fields])
    return [document["text"] for document in found]


@pytest.mark.parametrize("name", CONDITIONS)
async def test_alternatives_are_answered_in_the_order_of_the_index(session: AsyncSession, name: str) -> None:
    await fill(session)
    query = Task.query().where(CONDITIONS[name])
    texts = expected(query, await session.all(Task.query().full_scan()))
    assert [task.text for task in await session.all(query)] == texts
    assert [task.text for task in await session.all(query.order("desc"))] == texts[::-1]
    assert await session.count(query) == len(texts)
    for limit in (1, 5):
        assert [task.text for task in await session.all(query.limit(limit))] == texts[:limit]
        assert [task.text for task in await session.all(query.offset(limit).limit(2))] == texts[limit : limit + 2]
    for size in (4, 6):  # within ranges, and at their ends
        found: list[str] = []
        cursor = None
        while True:
            page = await session.page(query, size, cursor)
            found += [task.text for task in page.items]
            cursor = page.cursor
            if not page.has_more:
                break
        assert found == texts
    assert [task.text async for task in session.stream(query.order("desc"))] == texts[::-1]


async def test_a_cursor_of_alternatives_stays_valid_after_writes_elsewhere(session: AsyncSession) -> None:
    await fill(session)
    query = Task.query().where(Task.owner_id.in_(["a", "c"])).order("desc")
    first = await session.page(query, 7)
    await session.delete(first.items[-1])
    await session.add(Task(text="new", owner_id="c"))
    await session.commit()
    second = await session.page(query, 7, first.cursor)
    assert [task.owner_id for task in second.items] == ["a"] * 5
    assert not second.has_more


async def test_alternatives_are_deleted(session: AsyncSession) -> None:
    await fill(session)
    query = Task.query().where(Task.owner_id.in_(["a", "c"]) & (Task.rank != 2.0))
    await session.delete_range(query.limit(3))
    await session.commit()
    assert await session.count(query) == 7
    assert await session.delete_all(query) == 7
    assert sorted(task.text for task in await session.all(Task.query().full_scan())) == sorted(
        ["a2", "c2", *(f"b{rank}" for rank in range(6))]
    )


async def test_values_of_all_types_are_among_alternatives(session: AsyncSession) -> None:
    values = [None, 1.5, True, "x", [1.0], {"a": 1.0}]
    await session.add_all([Anything(key=f"k{place}", a=value) for place, value in enumerate(values)])
    await session.commit()
    found = await session.all(Anything.query().where(Anything.a.in_([{"a": 1.0}, "x", True, None])))
    assert [one.a for one in found] == [None, True, "x", {"a": 1.0}]
    assert [one.a for one in await session.all(Anything.query().where(Anything.a != "x"))] == [
        one for one in values if one != "x"
    ]


def test_the_filter_of_many_ranges_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Condition] = []

    def counting(condition: Condition) -> Any:
        compiled.append(condition)
        return compile_filter(condition)

    for module in (reads, walks):
        monkeypatch.setattr(module, "compile_filter", counting)
    ranks = [float(rank) for rank in range(4_000)]  # more than are read one by one
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Task(text="x", owner_id="a", rank=rank) for rank in (0.0, 0.5, 1.0, 5000.0)])
        session.commit()
        query = Task.query().where(Task.rank.in_(ranks))
        assert [task.rank for task in session.all(query)] == [0.0, 1.0]
        assert len(compiled) == 1


def test_a_limit_reads_no_more_documents_than_it_answers(models_host: Host) -> None:
    table = Task.__mapper__.table
    owners = [f"o{number:03}" for number in range(100)]
    inserts = [Insert(table, {"text": "x", "ownerId": owner, "done": False}) for owner in owners for _ in range(2)]
    with models_host.connect() as deployment:
        whole = DeleteRange(Range(table, "by_creation_time"))
        finish(deployment.blocking.commit(Commit("fill 1", [whole, *inserts])))
        models_host.reset()
        with Session(deployment) as session:
            found = session.all(Task.query().where(Task.owner_id.in_(owners)).limit(20))
        metrics = models_host.metrics()
    assert [task.owner_id for task in found] == [owner for owner in owners[:10] for _ in range(2)]
    assert (metrics["calls"], metrics["documentsRead"]) == (1, 20)


@pytest.mark.parametrize("kind", ["chained", "together", "negated"])
def test_many_conditions_on_one_attribute_are_planned_with_no_more_steps_for_each(kind: str) -> None:
    def query(size: int) -> Query[Task]:
        apart = [Task.rank != float(number) for number in range(size)]
        if kind == "chained":
            return reduce(Query.where, apart, Task.query())
        together = and_(*apart) if kind == "together" else not_(or_(*(Task.rank == float(n) for n in range(size))))
        return Task.query().where(together)

    one, two, four = [query(size) for size in (100, 200, 400)]
    taken = [steps(each.plan) for each in (one, two, four)]
    assert taken[2] - taken[1] < 2.3 * (taken[1] - taken[0])
    union = four.plan().range.union
    assert union is not None
    assert len(union) == 401
