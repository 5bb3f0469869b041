"""Changes computed where the documents are: no read before them, and no conflict between those who make them."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from convexorm import (
    AsyncSession,
    Deployment,
    InvalidCursorError,
    InvalidRequestError,
    Query,
    Session,
    StaleDataError,
    ValidationError,
    func,
)
from convexorm.requests import Applied, Commit
from convexorm.sessions import Progress
from convexorm.sessions.writer import Writer
from convexorm.values import ConvexInt64
from tests.models import Anything, Counter, Everything, Note, Task
from tests.queries.conftest import Open
from tests.test_types import everything


async def test_numbers_are_computed_of_what_is_stored(open_: Open) -> None:
    session = open_()
    await session.add_all([Counter(name="c", count=5), Anything(key="k", a=1.5, b=ConvexInt64(2**40))])
    await session.commit()
    await session.update(Counter, "c", {"count": 3 * (Counter.count + 1) - 2})
    await session.update(Anything, "k", {"a": Anything.a / 2 + Anything.a, Anything.b: Anything.b + ConvexInt64(1)})
    await session.commit()
    other = open_()
    assert (await other.get_one(Counter, "c")).count == 16
    found = await other.get_one(Anything, "k")
    assert (found.a, found.b) == (2.25, ConvexInt64(2**40 + 1))


async def test_an_instance_shows_what_was_computed_after_the_next_read(session: AsyncSession) -> None:
    counter = Counter(name="c", count=1)
    await session.add(counter)
    await session.commit()
    await session.update(Counter, "c", {"count": Counter.count + 1})
    await session.commit()
    assert await session.get(Counter, "c") is counter
    assert counter.count == 2


async def test_functions_change_lists_extremes_and_times(open_: Open) -> None:
    session = open_()
    await session.add(Note(id="n", tags=["a", "b", "a"]))
    task = Task(text="x", owner_id="u", rank=3.0)
    await session.add(task)
    await session.add(everything())
    await session.commit()
    before = datetime.now(UTC) - timedelta(minutes=1)
    await session.update(Note, "n", {"tags": func.remove(Note.tags, "a")})
    await session.update(Task, task.convex_id, {"rank": func.least(Task.rank, 2.0), "due": func.now()})
    await session.update(Everything, "k", {"iso": func.now(), "numbers": func.append(Everything.numbers, 9.5)})
    await session.commit()
    await session.update(Note, "n", {"tags": func.append(Note.tags, "c")})
    await session.update(Task, task.convex_id, {"rank": func.least(Task.rank, 7.0)})
    await session.commit()
    other = open_()
    assert (await other.get_one(Note, "n")).tags == ["b", "c"]
    found = await other.get_one(Task, task.convex_id)
    assert found.rank == 2.0
    whole = await other.get_one(Everything, "k")
    for moment in (found.due, whole.iso):
        assert moment is not None
        assert before < moment < before + timedelta(minutes=10)
    assert whole.numbers[-1] == 9.5


@pytest.mark.parametrize(
    "values",
    [
        {"a": Anything.a + 1},
        {"a": Anything.b * Anything.b * Anything.b},
        {"a": Anything.b / 0},
        {"a": func.append(Anything.b, 1)},
        {"b": Anything.b + Anything.a},
    ],
    ids=["no number", "beyond every number", "by zero", "no list", "of two kinds"],
)
async def test_what_cannot_be_computed_refuses_the_commit(open_: Open, values: Any) -> None:
    session = open_()
    await session.add(Anything(key="k", a="a text", b=1e200))
    await session.commit()
    await session.update(Anything, "k", values)
    await session.update(Anything, "k", {"text": "beside it"})
    with pytest.raises(ValidationError, match="cannot be computed") as refused:
        await session.commit()
    assert "a text" not in str(refused.value)
    assert (refused.value.table, refused.value.field) == ("anything", *values)
    assert refused.value.problem.startswith("cannot be computed")
    assert (await open_().get_one(Anything, "k")).text is None


@pytest.mark.parametrize(
    "build",
    [
        lambda: Task.text + "x",
        lambda: Counter.count / 2,
        lambda: Counter.count + 0.5,  # type: ignore[operator]
        lambda: Task.rank + "x",  # type: ignore[operator]
        lambda: Task.rank + None,
        lambda: Task.rank + Counter.count,  # type: ignore[operator]
        lambda: func.append(Task.text, "x"),  # type: ignore[arg-type]
        lambda: func.append(Note.tags, 5),  # type: ignore[misc]
        lambda: func.least(Task.rank, "x"),  # type: ignore[misc]
    ],
)
def test_what_can_never_be_computed_is_refused_while_building(build: Callable[[], Any]) -> None:
    with pytest.raises(ValidationError):
        build()


async def test_a_change_of_another_attribute_or_of_a_key_is_refused(session: AsyncSession) -> None:
    with pytest.raises(ValidationError):
        await session.update(Counter, "c", {"count": func.now()})
    with pytest.raises(ValidationError):
        await session.update(Task, "x" * 32, {Note.title: "x"})
    with pytest.raises(InvalidRequestError, match="primary key"):
        await session.update(Note, "n", {"id": func.least(Note.id, "a")})
    await session.update(Counter, "nobody", {"count": Counter.count + 1})
    with pytest.raises(StaleDataError, match="gone"):
        await session.commit()


async def test_a_whole_number_is_never_rounded(session: AsyncSession) -> None:
    await session.add(Counter(name="c", count=2**53 - 1))
    await session.commit()
    for expected in (2**53, None):
        await session.update(Counter, "c", {"count": Counter.count + 1 * 1})
        if expected is None:
            await session.update(Counter, "c", {"count": Counter.count + 3})
            with pytest.raises(ValidationError, match="2\\*\\*53"):
                await session.commit()
        else:
            await session.commit()


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_fifty_writers_lose_no_increment(open_deployment: Callable[[str], Deployment], kind: str, unique: str) -> None:
    deployment = open_deployment(kind)
    with Session(deployment) as session:
        session.add(Counter(name=unique))
        session.commit()

    def work(_: int) -> None:
        with Session(deployment) as session:
            for _ in range(20):
                session.update(Counter, unique, {"count": Counter.count + 1})
                session.commit()

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(work, range(50)))
    with Session(deployment) as session:
        assert session.get_one(Counter, unique).count == 1_000


# -- many at once ------------------------------------------------------------------------------------------------


async def test_all_documents_of_a_query_are_changed_once(open_: Open) -> None:
    session = open_()
    tasks = [Task(text=f"{place}", owner_id="a" if place % 2 else "b", rank=float(place)) for place in range(1_200)]
    await session.add_all(tasks, returning=False)
    await session.commit()
    seen: list[Progress] = []
    query = Task.query().where(Task.owner_id == "a", Task.rank >= 0.0)
    # the change moves documents within the index that is read
    changed = await session.update_all(
        Task.query().where(Task.rank >= 100.0), {Task.rank: Task.rank + 1_000, "text": "moved"}, on_progress=seen.append
    )
    assert changed == 1_100
    assert (seen[-1].done, seen[-1].total) == (1_100, 1_100)
    other = open_()
    assert await other.sum(query, Task.rank) == sum(place + (1_000 if place >= 100 else 0) for place in range(1, 1_200, 2))
    assert await other.count(Task.query().where(Task.rank >= 1_100.0)) == 1_100
    assert (await session.get_one(Task, tasks[-1].convex_id)).text == "moved"
    assert await session.update_all(query.limit(5), {"text": "five"}) == 5
    assert await session.update_all(query.where(Task.text == "five"), {"due": None, "text": "none"}) == 5


async def test_a_change_of_all_goes_on_behind_its_progress(open_: Open) -> None:
    session = open_()
    await session.add_all([Task(text=f"{place}", owner_id="a", rank=0.0) for place in range(2_100)], returning=False)
    await session.commit()
    query = Task.query().where(Task.owner_id == "a")
    seen: list[Progress] = []

    def stop(progress: Progress) -> None:
        seen.append(progress)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await session.update_all(query, {Task.rank: Task.rank + 1.0}, on_progress=stop)
    assert 0 < seen[0].done < 2_100
    rest = await session.update_all(query, {Task.rank: Task.rank + 1.0}, resume=seen[0].cursor)
    assert seen[0].done + rest == 2_100
    assert await session.all(query.distinct(Task.rank)) == [1.0]
    for bad in ("x", "", "bm90aGluZw=="):
        with pytest.raises(InvalidCursorError):
            await session.update_all(query, {"text": "x"}, resume=bad)
    with pytest.raises(InvalidCursorError, match="another table"):
        await session.update_all(Note.query().full_scan(), {"title": "x"}, resume=seen[0].cursor)
    others: list[tuple[Query[Task], dict[Any, Any]]] = [
        (query.where(Task.rank == 1.0), {Task.rank: Task.rank + 1.0}),
        (Task.query().where(Task.owner_id == "b"), {Task.rank: Task.rank + 1.0}),
        (query.limit(5), {Task.rank: Task.rank + 1.0}),
        (query.order("desc"), {Task.rank: Task.rank + 1.0}),
        (query, {Task.text: "x"}),
        (query, {Task.rank: Task.rank + 1.0, Task.text: "x"}),
    ]
    for of_others, values in others:
        with pytest.raises(InvalidCursorError, match="of another query, or of other attributes; resume with the same call"):
            await session.update_all(of_others, values, resume=seen[0].cursor)
    assert await session.all(query.distinct(Task.rank)) == [1.0]
    assert await session.count(query.where(Task.text == "x")) == 0
    deleted: list[int] = []
    assert await session.delete_all(query, on_progress=lambda progress: deleted.append(progress.done)) == 2_100
    assert deleted[-1] == 2_100


@pytest.mark.parametrize("moves", [True, False])
async def test_what_is_gone_on_with_keeps_to_the_limit(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch, moves: bool
) -> None:
    await session.add_all([Task(text=f"{place:02}", owner_id="a", rank=float(place % 5)) for place in range(20)])
    await session.commit()
    query = Task.query().where(Task.rank >= 0.0).limit(12)
    first = sorted(task.text for task in await session.all(query))
    changes: dict[Any, Any] = {Task.rank: -1.0} if moves else {Task.owner_id: "b"}
    monkeypatch.setattr("convexorm.sessions.bulk._UPDATED", 5)
    cursors: list[str | None] = []

    def stop(progress: Progress) -> None:
        cursors.append(progress.cursor)
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            await session.update_all(query, changes, on_progress=stop, resume=cursors[-1] if cursors else None)
    assert await session.update_all(query, changes, resume=cursors[-1]) == 2
    changed = Task.query().where(Task.rank == -1.0 if moves else Task.owner_id == "b").full_scan()
    assert sorted(task.text for task in await session.all(changed)) == first


async def test_a_key_is_not_given_to_all(session: AsyncSession) -> None:
    with pytest.raises(InvalidRequestError, match="primary key"):
        await session.update_all(Note.query().full_scan(), {"id": "same"})
    assert math.isfinite(await session.update_all(Note.query().full_scan(), {"title": "x"}))


async def test_a_step_whose_answer_nobody_took_is_not_done_again(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session.add_all([Task(text=f"t{n}", owner_id="cut", rank=0.0) for n in range(20)])
    await session.commit()
    query, seen, commit = Task.query().by_index("by_owner", owner_id="cut"), list[Progress](), Writer.commit
    monkeypatch.setattr("convexorm.sessions.bulk._UPDATED", 4)

    async def killed(writer: Writer, one: Commit) -> list[Applied]:
        applied = await commit(writer, one)
        if len(seen) == 2:
            raise KeyboardInterrupt  # it was applied, and this program is no more
        return applied

    monkeypatch.setattr(Writer, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        await session.update_all(query, {Task.rank: Task.rank + 1.0}, on_progress=seen.append)
    monkeypatch.setattr(Writer, "commit", commit)
    assert await session.sum(query, Task.rank) == 12.0
    rest = await session.update_all(query, {Task.rank: Task.rank + 1.0}, resume=seen[-1].cursor)
    assert (rest, await session.sum(query, Task.rank)) == (12, 20.0)
    again = await session.update_all(query, {Task.rank: Task.rank + 1.0}, on_progress=seen.append)
    assert (again, seen[-1].done) == (20, 20)
    assert await session.update_all(query, {Task.rank: Task.rank + 1.0}, resume=seen[-1].cursor) == 0
