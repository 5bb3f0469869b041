"""What sessions promise, on every deployment and on both faces.

Each test is written once, with `await`, and runs on memory, on a SQLite file, on the TypeScript functions, and on a real
deployment where one is named; each time on `AsyncSession` and on `Session`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast
from uuid import uuid4

import numpy as np
import pytest

from convexorm import (
    AsyncSession,
    AuthError,
    ConvexORMError,
    Deployment,
    DeploymentError,
    FullTableScanError,
    FunctionNotFound,
    IndexRangeError,
    InvalidCursorError,
    InvalidRequestError,
    LimitExceeded,
    MultipleResultsFound,
    NoResultFound,
    Query,
    Session,
    StaleDataError,
    ValidationError,
    and_,
    connect,
    or_,
)
from convexorm.deployments.base import Port
from convexorm.faces import finish
from convexorm.mapping.model import Watcher
from convexorm.requests import (
    Applied,
    Bound,
    Commit,
    Delete,
    Document,
    Insert,
    Key,
    Patch,
    Range,
    Read,
    ReadResult,
    Replace,
    Search,
    Unique,
    Upsert,
    Write,
    Written,
)
from convexorm.values import MISSING, ConvexInt64
from tests.conftest import Host
from tests.faces import FACES, open_session
from tests.models import MODELS, Anything, Chunk, Counter, Everything, Note, Task
from tests.test_types import everything

DAY = datetime(2024, 5, 17, tzinfo=UTC)
Open = Callable[..., AsyncSession]


@pytest.fixture
def host(models_host: Host) -> Host:
    return models_host


@pytest.fixture(params=list(FACES))
def open_(request: pytest.FixtureRequest, deployment: Deployment) -> Open:
    """Opens sessions of one face on an empty deployment."""
    _empty(deployment)
    return lambda **options: open_session(request.param, deployment, **options)


def _empty(deployment: Deployment) -> None:
    with Session(deployment) as session:
        try:
            found = session.read(*(model.query().full_scan().limit(1) for model in MODELS))
        except DeploymentError as error:
            pytest.skip(f"deploy tests/functions for these tests: {error}")
        for model, items in zip(MODELS, found, strict=True):
            if items:
                session.delete_all(model.query().full_scan())


@pytest.fixture
def session(open_: Open) -> AsyncSession:
    return open_()


def tasks(*texts: str, owner: str = "u", **values: Any) -> list[Task]:
    return [Task(text=text, owner_id=owner, **values) for text in texts]


async def save(session: AsyncSession, *instances: Any) -> None:
    await session.add_all(instances)
    await session.commit()


def texts(found: Sequence[Task]) -> list[str]:
    return [task.text for task in found]


BY_OWNER: Query[Task] = Task.query().by_index("by_owner", owner_id="u")
ALL: Query[Task] = Task.query().full_scan()

# -- writing and getting -------------------------------------------------------------------------------------------


async def test_an_added_document_is_there_after_the_commit(open_: Open) -> None:
    session = open_()
    task = Task(text="x", owner_id="u", rank=1.5, due=DAY)
    await session.add(task)
    assert await session.count(ALL) == 0
    await session.commit()
    assert task.convex_id
    assert task.creation_time
    assert task in session
    found = await open_().get(Task, task.convex_id)
    assert found is not None
    assert (found.text, found.owner_id, found.done, found.rank, found.due) == ("x", "u", False, 1.5, DAY)
    assert (found.convex_id, found.creation_time) == (task.convex_id, task.creation_time)


async def test_every_kind_of_column_comes_back_as_it_was(open_: Open) -> None:
    await save(open_(), everything(null=None, either="e"))
    found = await open_().get(Everything, "k")
    assert found is not None
    expected = everything(null=None, either="e")
    for name in Everything.__mapper__.columns:
        assert getattr(found, name) == getattr(expected, name), name
        assert type(getattr(found, name)) is type(getattr(expected, name)), name


async def test_get_by_primary_key(open_: Open) -> None:
    await save(open_(), Note(id="n1", title="one"), Note(id="n2", title="two"))
    note = await open_().get(Note, "n2")
    assert note is not None
    assert (note.title, note.primary_key) == ("two", "n2")
    assert await open_().get(Note, "n3") is None


async def test_get_one_wants_one(open_: Open) -> None:
    await save(open_(), Note(id="n"))
    assert (await open_().get_one(Note, "n")).id == "n"
    with pytest.raises(NoResultFound, match="'notes': no document with this key"):
        await open_().get_one(Note, "secret")


@pytest.mark.parametrize("given", [3, None, [Note(id="n")], Note])
async def test_what_is_no_instance_is_refused(session: AsyncSession, given: Any) -> None:
    for method in (session.add, session.upsert, session.delete, session.refresh):
        with pytest.raises(InvalidRequestError, match="an instance of a model is needed, got"):
            await method(given)


@pytest.mark.parametrize("key", ["", "nonsense", "x" * 32, "0" * 32])
async def test_an_id_that_nothing_has_gets_nothing(session: AsyncSession, key: str) -> None:
    await save(session, *tasks("a"))
    assert await session.get(Task, key) is None


@pytest.mark.parametrize("key", ["\ud800", "é", 5, None])
async def test_what_cannot_be_an_id_is_refused(session: AsyncSession, key: Any) -> None:
    with pytest.raises(ValidationError, match="_id"):
        await session.get(Task, key)


async def test_the_id_of_another_table_gets_nothing(session: AsyncSession) -> None:
    note = Note(id="n")
    await save(session, note, *tasks("a"))
    assert await session.get(Task, note.convex_id) is None


async def test_get_many_answers_in_the_order_of_the_keys(open_: Open) -> None:
    await save(open_(), *(Note(id=f"n{number}") for number in range(5)))
    found = await open_().get_many(Note, ["n3", "nothing", "n0", "n3"])
    assert [note and note.id for note in found] == ["n3", None, "n0", "n3"]
    assert found[0] is found[3]
    assert await open_().get_many(Note, []) == []


async def test_creation_times_ascend_in_the_order_of_adding(session: AsyncSession) -> None:
    await save(session, *tasks("a", "b", "c"))
    found = await session.all(ALL)
    assert texts(found) == ["a", "b", "c"]
    times = [task.creation_time or 0 for task in found]
    assert times == sorted(set(times))


async def test_changed_attributes_are_written(open_: Open) -> None:
    session = open_()
    (task,) = tasks("a", rank=1.0)
    await save(session, task)
    task.text, task.rank = "b", None
    assert session.dirty == [task]
    await session.commit()
    assert session.dirty == []
    found = await open_().one(BY_OWNER)
    assert (found.text, found.rank) == ("b", None)


async def test_setting_an_attribute_to_what_it_is_writes_nothing(open_: Open) -> None:
    session = open_()
    (task,) = tasks("a")
    await save(session, task)
    task.text = "a"
    assert session.dirty == []
    other = open_()
    (await other.one(BY_OWNER)).text = "b"
    await other.commit()
    await session.commit()
    assert (await open_().one(BY_OWNER)).text == "b"


async def test_values_changed_in_place_are_written_commit_after_commit(open_: Open) -> None:
    await save(open_(), Note(id="n", meta={"a": {"b": 1}}))
    session = open_()
    note = await session.get(Note, "n")
    assert note is not None
    for number in range(3):
        note.tags.append(f"t{number}")
        assert note.meta is not None
        note.meta["a"]["b"] = number
        await session.commit()
    found = await open_().get(Note, "n")
    assert found is not None
    assert (found.tags, found.meta) == (["t0", "t1", "t2"], {"a": {"b": 2}})


async def test_large_numbers_come_back_and_guard_their_field(open_: Open) -> None:
    """Also where the value is so large that its digest is what guards it, and JavaScript prints the numbers as digits."""
    numbers = [2.0**60, -(2.0**53) - 2, 1e20, 1e21]
    await save(open_(), Note(id="n", meta={"numbers": numbers, "text": "x" * 5_000}))
    session, other = open_(), open_()
    note = await session.get(Note, "n")
    late = await other.get(Note, "n")
    assert note is not None
    assert note.meta is not None
    assert late is not None
    assert note.meta["numbers"] == numbers
    note.meta = {"numbers": numbers}
    await session.commit()
    late.meta = None
    with pytest.raises(StaleDataError):
        await other.commit()


async def test_a_new_document_can_be_changed_in_place_after_its_commit(open_: Open) -> None:
    session, note = open_(), Note(id="n")
    await save(session, note)
    note.tags.append("t")
    await session.commit()
    found = await open_().get(Note, "n")
    assert found is not None
    assert found.tags == ["t"]


async def test_numpy_arrays_are_changed_in_place_like_lists(open_: Open) -> None:
    session = open_()
    chunk = Chunk(text="x", kind="x", embedding=np.array([1.0, 0.0, 0.0]))  # type: ignore[arg-type]
    note = Anything(key="k", a={"numbers": np.array([1.0])})
    await save(session, chunk, note)

    async def stored() -> Any:
        fresh = open_()
        found = await fresh.one(Anything.query().full_scan())
        return (await fresh.one(Chunk.query().full_scan())).embedding, list(found.a["numbers"])

    assert chunk.embedding is not None
    chunk.embedding[0] = 0.5
    note.a["numbers"][0] = 0.5
    await session.commit()
    assert await stored() == ([0.5, 0.0, 0.0], [0.5])
    chunk.embedding = [0.0, 1.0, 0.0]
    await session.commit()
    assert await stored() == ([0.0, 1.0, 0.0], [0.5])


async def test_looking_at_a_mutable_value_is_no_change(open_: Open) -> None:
    await save(open_(), everything())
    session = open_()
    found = await session.get(Everything, "k")
    assert found is not None
    for name in Everything.__mapper__.columns:
        getattr(found, name)
    assert session.dirty == []


async def test_a_deleted_document_is_gone(open_: Open) -> None:
    session = open_()
    one, two = tasks("a", "b")
    await save(session, one, two)
    await session.delete(one)
    assert session.deleted == [one]
    assert await session.count(BY_OWNER) == 2
    await session.commit()
    assert one not in session
    assert texts(await open_().all(BY_OWNER)) == ["b"]
    with pytest.raises(InvalidRequestError, match="deleted"):
        await session.add(one)


async def test_deleting_what_was_only_added_forgets_it(session: AsyncSession) -> None:
    (task,) = tasks("a")
    await session.add(task)
    await session.delete(task)
    assert session.new == []
    await session.commit()
    assert await session.count(ALL) == 0


async def test_changes_and_deletion_of_one_document_delete_it(open_: Open) -> None:
    session = open_()
    (task,) = tasks("a")
    await save(session, task)
    task.text = "b"
    await session.delete(task)
    await session.delete(task)
    await session.commit()
    assert await open_().count(ALL) == 0


# -- reading -------------------------------------------------------------------------------------------------------


async def test_first_one_and_one_or_none(session: AsyncSession) -> None:
    assert await session.first(BY_OWNER) is None
    assert await session.one_or_none(BY_OWNER) is None
    with pytest.raises(NoResultFound, match="tasks"):
        await session.one(BY_OWNER)
    await save(session, *tasks("a"))
    assert (await session.one(BY_OWNER)).text == "a"
    assert await session.one_or_none(BY_OWNER) is await session.first(BY_OWNER)
    await save(session, *tasks("b"))
    assert texts([one for one in [await session.first(BY_OWNER)] if one]) == ["a"]
    for method in (session.one, session.one_or_none):
        with pytest.raises(MultipleResultsFound, match="tasks"):
            await method(BY_OWNER)


async def test_ranges_bounds_order_and_limit(session: AsyncSession) -> None:
    await save(
        session,
        *(Task(text=str(day), owner_id="u", due=DAY + timedelta(days=day)) for day in range(6)),
        Task(text="never", owner_id="u"),
        Task(text="other", owner_id="v", due=DAY),
    )

    def query(*conditions: Any) -> Query[Task]:
        return Task.query().by_index("by_owner_and_due", *conditions, owner_id="u")

    first, third = DAY, DAY + timedelta(days=2)
    assert texts(await session.all(query())) == ["never", "0", "1", "2", "3", "4", "5"]
    assert texts(await session.all(query().order("desc").limit(2))) == ["5", "4"]
    assert texts(await session.all(query(Task.due >= first, Task.due < third))) == ["0", "1"]
    assert texts(await session.all(query(Task.due > first, Task.due <= third))) == ["1", "2"]
    assert texts(await session.all(query(Task.due <= first))) == ["never", "0"]
    assert texts(await session.all(query(Task.due.is_(None)))) == ["never"]
    assert texts(await session.all(query(Task.due >= third, Task.due < first))) == []
    assert texts(await session.all(query().limit(0))) == []


async def test_ties_are_in_order_of_creation_both_ways(session: AsyncSession) -> None:
    await save(session, *tasks(*"abcde", rank=1.0), *tasks("z", rank=0.0))
    by_rank = Task.query().by_index("by_rank")
    assert texts(await session.all(by_rank)) == ["z", *"abcde"]
    assert texts(await session.all(by_rank.order("desc"))) == [*"edcba", "z"]
    assert texts(await session.all(by_rank.where(Task.rank == 1.0).order("desc").limit(2))) == ["e", "d"]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
async def test_pages_have_every_document_once_and_in_order(open_: Open, order: Any, size: int) -> None:
    session = open_()
    await save(session, *(Task(text=str(n), owner_id="u", rank=float(n // 3)) for n in range(7)))
    query = Task.query().by_index("by_rank").order(order)
    cursor, pages = None, []
    while True:
        page = await open_().page(query, size, cursor)
        pages.append(texts(page.items))
        assert page.has_more == (page.cursor is not None)
        cursor = page.cursor
        if cursor is None:
            break
    assert [text for page in pages for text in page] == texts(await session.all(query))
    assert all(len(page) == size for page in pages[:-1])
    assert pages[-1]


async def test_an_empty_query_has_one_empty_page(session: AsyncSession) -> None:
    page = await session.page(BY_OWNER, 5)
    assert (page.items, page.cursor, page.has_more) == ([], None, False)


async def test_pages_filter_on_the_server(session: AsyncSession) -> None:
    await save(session, *(Task(text=str(n), owner_id="u", done=n % 3 == 0) for n in range(10)))
    query = ALL.where(Task.done.is_(True))
    first = await session.page(query, 2)
    second = await session.page(query, 2, first.cursor)
    assert (texts(first.items), texts(second.items)) == (["0", "3"], ["6", "9"])
    assert not second.has_more


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_cursor_stays_valid_after_writes_elsewhere(open_: Open, order: Any) -> None:
    session = open_()
    rows = [Task(text=str(n), owner_id="u", rank=float(n)) for n in range(6)]
    await save(session, *rows)
    query = Task.query().by_index("by_rank").order(order)
    first = await session.page(query, 3)
    shown, left = (rows[:3], rows[3:]) if order == "asc" else (rows[3:], rows[:3])
    for task in shown:  # even what the cursor stands on may go
        await session.delete(task)
    await save(session, Task(text="before", owner_id="u", rank=-1.0 if order == "asc" else 9.0), *tasks("x", owner="v"))
    second = await open_().page(query, 10, first.cursor)
    unranked = ["x"] if order == "desc" else []
    assert texts(second.items) == sorted((task.text for task in left), reverse=order == "desc") + unranked


async def test_a_cursor_of_another_query_is_refused(session: AsyncSession) -> None:
    await save(session, *tasks("a", "b", rank=1.0))
    page = await session.page(BY_OWNER, 1)
    others = [
        Task.query().by_index("by_rank"),
        BY_OWNER.order("desc"),
        BY_OWNER.where(Task.text == "a"),
        Task.query().by_index("by_owner", owner_id="v"),
    ]
    for other in others:
        with pytest.raises(InvalidCursorError, match="another query"):
            await session.page(other, 1, page.cursor)


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "é", "WzEsMl0", 5, "W1td" * 1_000])
async def test_what_is_no_cursor_is_refused(session: AsyncSession, cursor: Any) -> None:
    with pytest.raises(InvalidCursorError, match="cursor"):
        await session.page(BY_OWNER, 1, cursor)


@pytest.mark.parametrize("size", [0, -1, True, 1.5, None])
async def test_a_page_has_at_least_one_document(session: AsyncSession, size: Any) -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        await session.page(BY_OWNER, size)


@pytest.mark.parametrize(
    "numbers", [{"limit": -1}, {"limit": 2**53}, {"skip": -1}, {"skip": 2**53}, {"distinct": 0}, {"distinct": -1}], ids=str
)
def test_reads_count_in_whole_numbers(deployment: Deployment, numbers: Any) -> None:
    with pytest.raises(ValidationError, match="tasks"):
        finish(deployment.blocking.read([Read(Range(Task.__mapper__.table, "by_owner"), **numbers)]))


async def test_a_limited_query_is_not_read_in_pages(session: AsyncSession) -> None:
    with pytest.raises(ValidationError, match="no limit"):
        await session.page(BY_OWNER.limit(3), 1)


@pytest.mark.parametrize("limit", [None, 0, 5, 1_000, 1_001])
async def test_a_stream_has_what_all_has(session: AsyncSession, limit: int | None) -> None:
    await save(session, *tasks(*(str(n) for n in range(1_005))))
    streamed = [task.text async for task in session.stream(BY_OWNER.limit(limit))]
    assert streamed == [str(n) for n in range(1_005)][:limit]


async def test_counts(session: AsyncSession) -> None:
    await save(session, *tasks(*"abc"), *tasks("x", owner="v"))
    assert await session.count(BY_OWNER) == 3
    assert await session.count(BY_OWNER.limit(2)) == 2
    assert await session.count(ALL.where(Task.text > "b")) == 2


async def test_read_answers_several_queries_and_counts_at_once(session: AsyncSession) -> None:
    await save(session, *tasks(*"abc"), Note(id="n"))
    found, notes, count, none = await session.read(
        BY_OWNER.limit(2), Note.query().full_scan(), BY_OWNER.count(), Task.query().by_index("by_rank", rank=5.0)
    )
    assert (texts(found), [note.id for note in notes], count, none) == (["a", "b"], ["n"], 3, [])
    assert await session.read() == ()


async def test_full_scans_are_refused_before_anything_is_read(session: AsyncSession) -> None:
    with pytest.raises(FullTableScanError):
        await session.all(Task.query())
    with pytest.raises(FullTableScanError):
        await session.delete_all(Task.query().where(Task.text == "a"))


# -- the order of values -------------------------------------------------------------------------------------------

IN_ORDER: list[Any] = [
    MISSING,
    None,
    ConvexInt64(-(2**63)),
    ConvexInt64(-1),
    ConvexInt64(0),
    ConvexInt64(300),
    float("-inf"),
    -1.5,
    -0.0,
    0.0,
    1.0,
    float("inf"),
    False,
    True,
    "",
    "a",
    "a\0",
    "ab",
    "\uffff",
    "😀",
    b"",
    b"\0",
    b"\xff",
    [],
    [None],
    [1.0, 2.0],
    [2.0],
    {},
    {"a": 1.0},
    {"a": 1.0, "b": None},
    {"b": 0.0},
]


async def insert(deployment: Deployment, *documents: dict[str, Any]) -> list[Applied]:
    writes = [
        Insert(Anything.__mapper__.table, {name: value for name, value in one.items() if value is not MISSING})
        for one in documents
    ]
    return await deployment.asynchronous.commit(Commit(uuid4().hex, writes))


async def test_an_index_has_convexs_order_across_all_types(open_: Open, deployment: Deployment) -> None:
    shuffled = sorted(range(len(IN_ORDER)), key=lambda n: n * 7 % 31)
    await insert(deployment, *({"key": str(n), "a": IN_ORDER[n]} for n in shuffled))
    session = open_()
    query = Anything.query().by_index("by_a")
    expected = [str(n) for n in range(len(IN_ORDER))]
    assert [one.key for one in await session.all(query)] == expected
    assert [one.key for one in await session.all(query.order("desc"))] == expected[::-1]


@pytest.mark.parametrize("position", range(1, len(IN_ORDER), 3))
async def test_bounds_and_filters_follow_the_same_order(open_: Open, deployment: Deployment, position: int) -> None:
    await insert(deployment, *({"key": str(n), "a": value} for n, value in enumerate(IN_ORDER)))
    session, value, column = open_(), IN_ORDER[position], Anything.a
    below, above = range(position), range(position + 1, len(IN_ORDER))
    for condition, expected in [
        (column < value, [*below]),
        (column <= value, [*below, position]),
        (column > value, [*above]),
        (column >= value, [position, *above]),
        (column == value, [position]),
    ]:
        ranged = await session.all(Anything.query().by_index("by_a", condition))
        filtered = await session.all(Anything.query().by_index("by_a").where(or_(condition)))
        assert [int(one.key) for one in ranged] == expected
        assert [int(one.key) for one in filtered] == expected


async def test_missing_and_null_are_two_things(open_: Open, deployment: Deployment) -> None:
    await insert(deployment, {"key": "missing"}, {"key": "null", "a": None}, {"key": "one", "a": 1.0})
    session = open_()

    async def keys(condition: Any) -> list[str]:
        return [one.key for one in await session.all(Anything.query().full_scan().where(condition))]

    assert await keys(Anything.a == MISSING) == ["missing"]
    assert await keys(Anything.a.is_(None)) == ["null"]
    assert await keys(Anything.a != MISSING) == ["null", "one"]
    assert await keys(Anything.a.in_([None, 1.0])) == ["null", "one"]
    assert await keys(Anything.a < 1.0) == ["missing", "null"]


async def test_each_way_to_store_none_is_found_again(open_: Open) -> None:
    await save(open_(), everything(key="none"), everything(key="some", absent="x", null="x", either="x"))
    session = open_()
    for column in (Everything.absent, Everything.null, Everything.either):
        empty = await session.all(Everything.query().full_scan().where(column.is_(None)))
        full = await session.all(Everything.query().full_scan().where(column.is_not(None)))
        assert [one.key for one in empty] == ["none"]
        assert [one.key for one in full] == ["some"]
    found = await session.one(Everything.query().by_index("by_either", either=None))
    assert (found.absent, found.null, found.either) == (None, None, None)


ODD_KEYS = ("__proto__", "constructor", "toString", "then", "toJSON", "length", "0", "a.b", "$a", "", "ключ")


@pytest.mark.parametrize("odd", ODD_KEYS)
async def test_odd_keys_come_back_and_are_found_in_json_columns(open_: Open, odd: str) -> None:
    meta = {odd: {"a": 1}, "b": [{odd: 2}]}
    await save(open_(), Note(id="odd", meta=meta), Note(id="plain", meta={"b": [{}]}))
    session = open_()
    note = await session.get(Note, "odd")
    assert note is not None
    assert note.meta == meta
    found = await session.all(Note.query().full_scan().where(Note.meta["b"][0][odd] == 2))
    assert [one.id for one in found] == ["odd"]
    none = await session.all(Note.query().full_scan().where(Note.meta["b"][0][odd].is_not(MISSING)))
    assert [one.id for one in none] == ["odd"]


# -- filters -------------------------------------------------------------------------------------------------------

NOTES: list[dict[str, Any]] = [
    {"id": "0", "title": "a", "meta": {"topic": "x", "n": 1, "list": [1, {"k": True}]}},
    {"id": "1", "title": "b", "meta": {"topic": "y", "n": 2.5, "none": None}},
    {"id": "2", "title": "ab", "meta": {"ключ": 1, "topic": "x"}},
    {"id": "3", "title": "", "meta": None},
    {"id": "4", "title": "é", "meta": {"topic": {"deep": {"er": "z"}}}, "extra": {"$odd": [1, 2]}},
]
FILTERS: dict[str, tuple[Any, list[int]]] = {
    "equal": (Note.title == "a", [0]),
    "unequal": (Note.title != "a", [1, 2, 3, 4]),
    "starts with": (Note.title.startswith("a"), [0, 2]),
    "starts with nothing": (Note.title.startswith(""), [0, 1, 2, 3, 4]),
    "between": (Note.title.between("a", "b"), [0, 1, 2]),
    "one of": (Note.title.in_(["a", "é", "zzz"]), [0, 4]),
    "one of nothing": (Note.title.in_([]), []),
    "none of": (Note.title.not_in(["a", ""]), [1, 2, 4]),
    "and": ((Note.title > "") & (Note.title < "b"), [0, 2]),
    "or": ((Note.title == "") | (Note.title == "b"), [1, 3]),
    "not": (~(Note.title == "a"), [1, 2, 3, 4]),
    "and of nothing": (and_(), [0, 1, 2, 3, 4]),
    "or of nothing": (or_(), []),
    "a path": (Note.meta["topic"] == "x", [0, 2]),
    "a path into text": (Note.meta["ключ"] == 1, [2]),
    "a path into text with odd keys": (Note.extra["$odd"][1] == 2, [4]),
    "a deep path": (Note.meta["topic"]["deep"]["er"] == "z", [4]),
    "a path into an array": (Note.meta["list"][1]["k"] == True, [0]),  # noqa: E712
    "a path past the end of an array": (Note.meta["list"][2].is_(MISSING), [0, 1, 2, 3, 4]),
    "a path that reaches null": (Note.meta["none"].is_(None), [1]),
    "a path that reaches nothing": (Note.meta["n"].is_(MISSING), [2, 3, 4]),
    "a path compared": (Note.meta["n"] > 1, [1]),
    "a path with a wrong type": (Note.meta["n"] == "1", []),
    "a path through text that is no JSON": (Note.title["x"].is_(MISSING), [0, 1, 2, 3, 4]),
    "a missing field": (Note.meta.is_(None), [3]),
    "the creation time": (Note.creation_time > 0.0, [0, 1, 2, 3, 4]),
}


@pytest.mark.parametrize("name", FILTERS)
async def test_filters(open_: Open, name: str) -> None:
    await save(open_(), *(Note(**note) for note in NOTES))
    condition, expected = FILTERS[name]
    found = await open_().all(Note.query().full_scan().where(condition))
    assert sorted(int(note.id) for note in found) == expected


# -- the identity map ----------------------------------------------------------------------------------------------


async def test_conditions_of_any_length_are_answered(open_: Open) -> None:
    await save(open_(), *tasks("0", "1", "2"))
    session, texts_ = open_(), [str(number) for number in range(9_000)]
    chain = Task.text == "1"
    for text in texts_[1:200]:
        chain = chain | (Task.text == text) & (Task.owner_id == "u")
    for condition in (
        chain,
        or_(*(Task.text == text for text in texts_[1:])),
        Task.text.in_(texts_[1:]),
        ~Task.text.not_in(texts_[1:]),
        ~~~~~(Task.text == "0"),
    ):
        assert texts(await session.all(ALL.where(condition))) == ["1", "2"]
    assert await session.all(ALL.where(Task.text.in_([]))) == []
    deep = Task.text == "1"
    for _ in range(9):
        deep = ((deep | (Task.text == "2")) & (Task.owner_id == "u")) | (Task.text == "none")
    assert texts(await session.all(ALL.where(deep))) == ["1", "2"]


async def test_a_document_has_one_instance_in_a_session(open_: Open) -> None:
    await save(open_(), *tasks("a"))
    session = open_()
    task = await session.one(BY_OWNER)
    assert await session.get(Task, task.convex_id) is task
    assert (await session.all(ALL))[0] is task
    assert (await open_().one(BY_OWNER)) is not task


async def test_what_a_session_holds_is_not_changed_by_reading_again(open_: Open) -> None:
    session, other = open_(), open_()
    await save(session, *tasks("a"))
    task = await session.one(BY_OWNER)
    assert task.text == "a"
    (await other.one(BY_OWNER)).text = "b"
    await other.commit()
    assert await session.one(BY_OWNER) is task
    assert task.text == "a"
    await session.refresh(task)
    assert task.text == "b"


async def test_refresh_drops_changes(session: AsyncSession) -> None:
    (task,) = tasks("a")
    await save(session, task)
    task.text = "b"
    await session.refresh(task)
    assert (task.text, session.dirty) == ("a", [])


async def test_refreshing_what_is_gone_is_stale(open_: Open) -> None:
    session, other = open_(), open_()
    (task,) = tasks("a")
    await save(session, task)
    await other.delete(await other.one(BY_OWNER))
    await other.commit()
    with pytest.raises(StaleDataError) as refused:
        await session.refresh(task)
    assert refused.value.reason == "missing"


async def test_a_changed_primary_key_is_found_under_its_new_value_only(session: AsyncSession) -> None:
    note = Note(id="old")
    await save(session, note)
    assert await session.get(Note, "old") is note
    note.id = "new"
    await session.commit()
    assert await session.get(Note, "old") is None
    assert await session.get(Note, "new") is note


@pytest.mark.parametrize("how", ["changed", "set unread"])
async def test_a_primary_key_is_not_changed_to_one_that_is_taken(open_: Open, how: str) -> None:
    await save(open_(), Note(id="a"), Note(id="b", title="b"))
    session = open_()

    async def move(to: str) -> None:
        if how == "changed":
            note = await session.get(Note, "b")
            assert note is not None
            note.id = to
            note.title = "moved"
        else:
            await session.update(Note, "b", {"id": to, "title": "moved"})
        await session.commit()

    with pytest.raises(StaleDataError) as refused:
        await move("a")
    assert (refused.value.reason, refused.value.table) == ("exists", "notes")
    by_id = Note.query().by_index("by_note_id")
    assert [(note.id, note.title) for note in await open_().all(by_id)] == [("a", ""), ("b", "b")]
    await session.rollback()
    await move("b")
    await session.rollback()
    await move("c")
    assert [(note.id, note.title) for note in await open_().all(by_id)] == [("a", ""), ("c", "moved")]


@pytest.mark.parametrize("reuse", ["deleted", "moved on", "swapped"])
async def test_a_primary_key_that_is_free_after_the_commit_can_be_taken(open_: Open, reuse: str) -> None:
    await save(open_(), Note(id="a", title="first"), Note(id="b", title="second"))
    session = open_()
    a, b = await session.get_many(Note, ["a", "b"])
    assert a is not None
    assert b is not None
    b.id = "a"
    if reuse == "deleted":
        await session.delete(a)
    else:
        a.id = "c" if reuse == "moved on" else "b"
    await session.commit()
    found = {note.id: note.title for note in await open_().all(Note.query().full_scan())}
    assert (
        found
        == {
            "deleted": {"a": "second"},
            "moved on": {"a": "second", "c": "first"},
            "swapped": {"a": "second", "b": "first"},
        }[reuse]
    )


async def test_instances_belong_to_one_session(open_: Open) -> None:
    session, other = open_(), open_()
    (task,) = tasks("a")
    await save(session, task)
    for misuse in (other.add, other.delete, other.refresh):
        with pytest.raises(InvalidRequestError):
            await misuse(task)
    await session.close()
    assert task not in session
    with pytest.raises(InvalidRequestError, match="detached"):
        await session.add(task)


async def test_rollback_forgets_what_is_pending(open_: Open) -> None:
    session = open_()
    one, two, three = (*tasks("a", "b"), Note(id="n", tags=["t"]))
    await save(session, one, two, three)
    fresh = Task(text="new", owner_id="u")
    await session.add(fresh)
    one.text = "changed"
    three.tags.append("u")
    await session.delete(two)
    await session.rollback()
    assert (one.text, three.tags, session.new, session.dirty, session.deleted) == ("a", ["t"], [], [], [])
    assert fresh not in session
    await session.commit()
    assert texts(await open_().all(BY_OWNER)) == ["a", "b"]
    await session.add(fresh)
    await session.commit()
    assert await open_().count(ALL) == 3


async def test_leaving_a_session_drops_what_was_not_committed(open_: Open, deployment: Deployment) -> None:
    with Session(deployment) as blocking:
        blocking.add(Task(text="x", owner_id="u"))
    async with AsyncSession(deployment) as session:
        await session.add(Task(text="x", owner_id="u"))
    assert await open_().count(ALL) == 0


async def test_tables_can_be_renamed_for_a_session(open_: Open) -> None:
    class Job(Task, table="jobs"):
        pass

    await save(open_(tables={"jobs": "tasks"}), Job(text="x", owner_id="u"))
    assert (await open_().one(BY_OWNER)).text == "x"


# -- conflicts -----------------------------------------------------------------------------------------------------


async def test_two_sessions_that_change_different_fields_both_succeed(open_: Open) -> None:
    await save(open_(), *tasks("a"))
    mine, theirs = open_(), open_()
    task, same_task = await mine.one(BY_OWNER), await theirs.one(BY_OWNER)
    task.text, same_task.rank = "b", 2.0
    assert task.rank is None
    await mine.commit()
    await theirs.commit()
    found = await open_().one(BY_OWNER)
    assert (found.text, found.rank) == ("b", 2.0)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
async def test_two_sessions_that_change_one_field_do_not_silently_overwrite(open_: Open, large: bool) -> None:
    padding = "x" * 200 if large else ""
    await save(open_(), *tasks("a" + padding))
    mine, theirs = open_(), open_()
    task, same_task = await mine.one(BY_OWNER), await theirs.one(BY_OWNER)
    task.text, same_task.text = "b" + padding, "c" + padding
    same_task.rank = 1.0
    await theirs.add(Task(text="new", owner_id="u"))
    await mine.commit()
    with pytest.raises(StaleDataError) as refused:
        await theirs.commit()
    error = refused.value
    assert (error.reason, error.fields, error.table) == ("changed", ("text",), "tasks")
    assert error.instance is same_task
    (found,) = await open_().all(BY_OWNER)
    assert (found.text, found.rank) == ("b" + padding, None)


async def test_after_a_conflict_the_changes_are_still_pending(open_: Open) -> None:
    await save(open_(), *tasks("a"))
    mine, theirs = open_(), open_()
    task, same_task = await mine.one(BY_OWNER), await theirs.one(BY_OWNER)
    task.text, same_task.text = "b", "c"
    await mine.commit()
    with pytest.raises(StaleDataError):
        await theirs.commit()
    assert theirs.dirty == [same_task]
    await theirs.refresh(same_task)
    same_task.text = "c"
    await theirs.commit()
    assert (await open_().one(BY_OWNER)).text == "c"


async def test_a_field_that_was_missing_is_guarded_too(open_: Open) -> None:
    await save(open_(), *tasks("a"))
    mine, theirs = open_(), open_()
    task, same_task = await mine.one(BY_OWNER), await theirs.one(BY_OWNER)
    task.rank, same_task.rank = 1.0, 2.0
    await mine.commit()
    with pytest.raises(StaleDataError) as refused:
        await theirs.commit()
    assert refused.value.fields == ("rank",)


async def test_changing_or_deleting_what_is_gone_is_stale(open_: Open) -> None:
    await save(open_(), *tasks("a"))
    changing, deleting, first = open_(), open_(), open_()
    task = await changing.one(BY_OWNER)
    task.text = "b"
    await deleting.delete(await deleting.one(BY_OWNER))
    await first.delete(await first.one(BY_OWNER))
    await first.commit()
    for session in (changing, deleting):
        with pytest.raises(StaleDataError) as refused:
            await session.commit()
        assert refused.value.reason == "missing"


async def test_a_primary_key_is_given_once(open_: Open) -> None:
    await save(open_(), Note(id="n", title="first"))
    session = open_()
    note = Note(id="n", title="second")
    await session.add_all([Note(id="m"), note])
    with pytest.raises(StaleDataError) as refused:
        await session.commit()
    assert (refused.value.reason, refused.value.write, refused.value.instance) == ("exists", 1, note)
    assert [one.title for one in await open_().all(Note.query().full_scan())] == ["first"]


async def test_a_primary_key_is_given_once_within_a_commit(open_: Open) -> None:
    session = open_()
    await session.add_all([Note(id="n"), Note(id="m"), Note(id="n")])
    with pytest.raises(StaleDataError) as refused:
        await session.commit()
    assert (refused.value.reason, refused.value.write) == ("exists", 2)
    assert await open_().count(Note.query().full_scan()) == 0


async def test_transact_runs_again_after_a_conflict(open_: Open) -> None:
    await save(open_(), Counter(name="c"))
    runs = 0

    async def increment(session: AsyncSession) -> int:
        nonlocal runs
        runs += 1
        counter = await session.get(Counter, "c")
        assert counter is not None
        if runs < 3:
            other = open_()
            theirs = await other.get(Counter, "c")
            assert theirs is not None
            theirs.count += 10
            await other.commit()
        counter.count += 1
        return counter.count

    assert await open_().transact(increment) == 21
    assert runs == 3
    found = await open_().get(Counter, "c")
    assert found is not None
    assert found.count == 21


async def test_transact_gives_up_after_its_attempts_and_writes_nothing(open_: Open) -> None:
    await save(open_(), Counter(name="c"))

    async def collide(session: AsyncSession) -> None:
        counter = await session.get(Counter, "c")
        assert counter is not None
        await open_().transact(bump)
        counter.count = 100

    async def bump(session: AsyncSession) -> None:
        counter = await session.get(Counter, "c")
        assert counter is not None
        counter.count += 1

    session = open_()
    with pytest.raises(StaleDataError):
        await session.transact(collide, attempts=2)
    assert session.dirty == []
    found = await open_().get(Counter, "c")
    assert found is not None
    assert found.count == 2


async def test_transact_raises_what_its_function_raises_and_writes_nothing(open_: Open) -> None:
    async def fail(session: AsyncSession) -> None:
        await session.add(Counter(name="c"))
        raise LookupError("on purpose")

    session = open_()
    with pytest.raises(LookupError):
        await session.transact(fail)
    assert session.new == []
    assert await open_().count(Counter.query().full_scan()) == 0


async def test_transact_wants_a_clean_session(session: AsyncSession) -> None:
    async def nothing(session: AsyncSession) -> None: ...

    await session.add(Counter(name="c"))
    with pytest.raises(InvalidRequestError):
        await session.transact(nothing)


async def test_transact_on_a_taken_key_raises_instead_of_running_on(open_: Open) -> None:
    await save(open_(), Counter(name="c"))
    runs = 0

    async def create(session: AsyncSession) -> None:
        nonlocal runs
        runs += 1
        await session.add(Counter(name="c"))

    with pytest.raises(StaleDataError) as refused:
        await open_().transact(create)
    assert (refused.value.reason, runs) == ("exists", 2)


# -- writing without reading ---------------------------------------------------------------------------------------


async def test_upsert_inserts_or_replaces_whole(open_: Open) -> None:
    session = open_()
    note = Note(id="n", title="a", body="b", meta={"k": 1})
    await session.upsert(note)
    await session.commit()
    again = Note(id="n", title="c")
    second = open_()
    await second.upsert(again)
    await second.commit()
    assert (again.convex_id, again.creation_time) == (note.convex_id, note.creation_time)
    (found,) = await open_().all(Note.query().full_scan())
    assert (found.title, found.body, found.meta) == ("c", "", None)


async def test_upsert_keeps_what_it_is_told_to(open_: Open) -> None:
    await save(open_(), Note(id="n", title="a", body="b"))
    session = open_()
    note = Note(id="n", title="new", body="new", tags=["new"])
    await session.upsert(note, keep=["title", "meta"])
    await session.commit()
    await session.refresh(note)
    assert (note.title, note.body, note.tags, note.meta) == ("a", "new", ["new"], None)


async def test_upserts_of_one_key_in_one_commit_leave_the_last(open_: Open) -> None:
    session = open_()
    await session.upsert(Note(id="n", title="a"))
    await session.upsert(Note(id="n", title="b"))
    await session.commit()
    (found,) = await open_().all(Note.query().full_scan())
    assert found.title == "b"


async def test_upsert_needs_a_primary_key_and_known_attributes(session: AsyncSession) -> None:
    with pytest.raises(InvalidRequestError, match="no primary key"):
        await session.upsert(Task(text="x", owner_id="u"))
    with pytest.raises(ValidationError, match="no such attribute"):
        await session.upsert(Note(id="n"), keep=["nothing"])


async def test_bulk_upsert_stores_rows_by_their_keys_at_once(open_: Open) -> None:
    await save(open_(), Note(id="a", title="old", body="gone"))
    session = open_()
    await session.add(Note(id="pending"))
    await session.bulk_upsert(Note, ({"id": id_, "title": "new"} for id_ in "ab"))
    found = await open_().all(Note.query().full_scan())
    assert [(note.id, note.title, note.body) for note in found] == [("a", "new", ""), ("b", "new", "")]


@pytest.mark.parametrize(
    ("model", "row", "error", "words"),
    [
        (Note, {"id": "x", "titel": "t"}, ValidationError, "titel: no such attribute; the attributes are id, title"),
        (Note, {"title": "t"}, ValidationError, "id: required"),
        (Note, {"id": "x", "title": 3}, ValidationError, "title"),
        (Task, {"text": "t", "owner_id": "u"}, InvalidRequestError, "Task has no primary key"),
    ],
)
async def test_bulk_upsert_refuses_all_for_one_bad_row(
    open_: Open, model: Any, row: dict[str, Any], error: type[ConvexORMError], words: str
) -> None:
    with pytest.raises(error, match=words):
        await open_().bulk_upsert(model, [{"id": "good"}, row] if model is Note else [row])
    assert await open_().count(Note.query().full_scan()) == 0


async def test_update_sets_attributes_without_reading(open_: Open) -> None:
    session = open_()
    (task,) = tasks("a", rank=1.0)
    await save(session, task, Note(id="n", title="a", body="b"))
    other = open_()
    await other.update(Note, "n", {"title": "c"})
    await other.update(Task, task.convex_id, {"rank": None, "owner_id": "v"})
    await other.commit()
    note, moved = await open_().read(Note.query().full_scan(), Task.query().by_index("by_owner", owner_id="v"))
    assert [(one.title, one.body) for one in note] == [("c", "b")]
    assert [(one.text, one.rank) for one in moved] == [("a", None)]


async def test_updating_what_is_not_there_is_stale_or_passed_over(open_: Open) -> None:
    session = open_()
    await session.update(Note, "nothing", {"title": "x"}, missing_ok=True)
    await session.commit()
    await session.update(Note, "nothing", {"title": "x"})
    with pytest.raises(StaleDataError) as refused:
        await session.commit()
    assert refused.value.reason == "missing"


async def test_delete_key(open_: Open) -> None:
    session = open_()
    await save(session, Note(id="a"), Note(id="b"))
    other = open_()
    await other.delete_key(Note, "a")
    await other.delete_key(Note, "nothing")
    await other.commit()
    assert [note.id for note in await open_().all(Note.query().full_scan())] == ["b"]
    await other.delete_key(Note, "nothing", missing_ok=False)
    with pytest.raises(StaleDataError):
        await other.commit()


async def test_delete_range_is_part_of_the_commit(open_: Open) -> None:
    session = open_()
    await save(session, *tasks(*"abc"), *tasks("x", owner="v"))
    await session.delete_range(BY_OWNER.where(Task.text != "b"))
    await session.add(Task(text="new", owner_id="u"))
    assert await session.count(ALL) == 4
    await session.commit()
    assert sorted(texts(await open_().all(ALL))) == ["b", "new", "x"]


async def test_delete_range_keeps_to_the_limit_of_its_query(open_: Open) -> None:
    session = open_()
    await save(session, *tasks(*"abcde"))
    for limit, left in ((0, "abcde"), (2, "cde"), (9, "")):
        await session.delete_range(BY_OWNER.limit(limit))
        await session.commit()
        assert texts(await open_().all(BY_OWNER)) == list(left)


async def test_deleting_behind_others_is_refused(open_: Open) -> None:
    session = open_()
    (first,) = tasks("a")
    await save(session, first)
    for query in (BY_OWNER.offset(1), BY_OWNER.after(first), BY_OWNER.order("desc").limit(1)):
        with pytest.raises(ValidationError):
            await session.delete_range(query)
        with pytest.raises(ValidationError):
            await session.delete_all(query)
    assert texts(await open_().all(BY_OWNER)) == ["a"]


async def test_delete_all_says_how_many_there_were(open_: Open) -> None:
    session = open_()
    await save(session, *tasks(*"abcde"), *tasks("x", owner="v"))
    assert await session.delete_all(BY_OWNER.limit(2)) == 2
    assert texts(await open_().all(BY_OWNER)) == ["c", "d", "e"]
    assert await session.delete_all(BY_OWNER.where(Task.text > "c")) == 2
    assert await session.delete_all(BY_OWNER) == 1
    assert await session.delete_all(BY_OWNER) == 0
    assert texts(await open_().all(ALL)) == ["x"]


# -- all or nothing, and once --------------------------------------------------------------------------------------


async def test_a_bad_last_write_leaves_nothing(open_: Open) -> None:
    first, second, third = tasks("a", "b", "c")
    await save(open_(), first, second, third, Note(id="taken"))
    session = open_()
    mine = await session.all(BY_OWNER)
    mine[0].text = "changed"
    await session.delete(mine[1])
    await session.add(Task(text="new", owner_id="u"))
    await session.upsert(Note(id="up"))
    await session.update(Note, "taken", {"title": "changed"})
    await session.delete_range(BY_OWNER.where(Task.text == "c"))
    await session.add(Note(id="taken"))
    with pytest.raises(StaleDataError):
        await session.commit()
    assert texts(await open_().all(ALL)) == ["a", "b", "c"]
    assert [(note.id, note.title) for note in await open_().all(Note.query().full_scan())] == [("taken", "")]


@pytest.mark.parametrize("how", ["changed", "set unread", "replaced but for a field"])
async def test_a_document_that_grows_past_its_limit_leaves_nothing(open_: Open, how: str) -> None:
    await save(open_(), Note(id="n", title="x" * 600_000))
    session = open_()
    await session.add(Note(id="beside"))
    if how == "changed":
        note = await session.get(Note, "n")
        assert note is not None
        note.body = "y" * 600_000
    elif how == "set unread":
        await session.update(Note, "n", {"body": "y" * 600_000})
    else:
        await session.upsert(Note(id="n", body="y" * 600_000), keep=["title"])
    with pytest.raises(LimitExceeded, match="'notes': bytes of a document: at most 1,048,576, got 1,200,0") as refused:
        await session.commit()
    assert "yyy" not in str(refused.value)
    assert [(note.id, note.body) for note in await open_().all(Note.query().full_scan())] == [("n", "")]


async def test_a_commit_sent_twice_is_applied_once(deployment: Deployment, open_: Open) -> None:
    table, port = Note.__mapper__.table, deployment.asynchronous
    note = {"id": "n", "title": "", "body": "", "tags": []}
    await port.commit(Commit(uuid4().hex, [Insert(table, {**note, "id": "there"})]))
    at = Key("by_note_id", ("there",))
    commit = Commit(
        uuid4().hex,
        [
            Insert(table, note, [Unique("by_note_id")], returning=True),
            Patch(table, at, {"title": "x"}),
            Upsert(table, at, {**note, "id": "there", "title": "y"}),
            Replace(table, at, {**note, "id": "there"}, {"title": "y"}),
            Delete(table, at),
        ],
    )
    first = await port.commit(commit)
    assert await port.commit(commit) == first
    assert [one.id for one in await open_().all(Note.query().full_scan())] == ["n"]


@pytest.mark.parametrize(
    "unique",
    [
        Unique("by_a", (1.0,)),
        Unique("by_a_and_b", (1.0,)),
        Unique("by_a_and_b", (1.0, MISSING)),
        Unique("by_key", ("first",)),
    ],
    ids=["an index", "a part of an index", "a missing field", "another field"],
)
@pytest.mark.parametrize("together", [False, True], ids=["stored", "in one commit"])
async def test_a_unique_key_sees_all_that_was_written_before(
    open_: Open, deployment: Deployment, unique: Unique, together: bool
) -> None:
    port, table = deployment.asynchronous, Anything.__mapper__.table
    first = Insert(table, {"key": "first", "a": 1.0})
    other = Insert(table, {"key": "other", "a": 2.0}, [Unique("by_a")])
    last = Insert(table, {"key": "last", "a": 3.0}, [unique])
    if not together:
        await port.commit(Commit(uuid4().hex, [first]))
    writes = [first, other, last] if together else [other, last]
    with pytest.raises(StaleDataError) as refused:
        await port.commit(Commit(uuid4().hex, writes))
    assert (refused.value.reason, refused.value.write) == ("exists", len(writes) - 1)
    assert await open_().count(Anything.query().full_scan()) == (0 if together else 1)


async def test_upserts_by_different_indexes_see_each_other(open_: Open, deployment: Deployment) -> None:
    port, table = deployment.asynchronous, Anything.__mapper__.table
    await port.commit(Commit(uuid4().hex, [Insert(table, {"key": "k", "a": 1.0})]))
    writes: list[Write] = [
        Insert(table, {"key": "other"}),
        Upsert(table, Key("by_a", (5.0,)), {"key": "k", "a": 5.0}),
        Insert(table, {"key": "more"}),
        Upsert(table, Key("by_key", ("k",)), {"key": "k", "a": 2.0}),
        Upsert(table, Key("by_a", (5.0,)), {"key": "l", "a": 5.0}),
    ]
    created = [one.created for one in await port.commit(Commit(uuid4().hex, writes)) if isinstance(one, Written)]
    assert created == [True, True, True, False, False]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("fields", [1, 2])
async def test_of_documents_alike_in_what_a_range_is_of_one_is_answered(
    deployment: Deployment, unique: str, fields: int, order: Literal["asc", "desc"]
) -> None:
    async with AsyncSession(deployment) as session:
        await session.add_all(Task(text=str(number), owner_id=unique, done=bool(number % 2)) for number in range(4))
        await session.commit()
    table = Task.__mapper__.table
    whole, upper, one = (), Bound(False, True), (True,)
    for range_, values in (
        (Range(table, "by_owner", (unique, *whole)), 2),
        (Range(table, "by_owner", (unique,), upper), 2),
        (Range(table, "by_owner", (unique, *one)), 1),
    ):
        (result,) = await deployment.asynchronous.read([Read(range_, distinct=fields, limit=50, order=order)])
        assert len(result.docs) == (values if fields == 2 else 1)


class Lossy:
    """A port that loses the answers to the next commits, or the commits themselves unless they are `applied`."""

    def __init__(self, port: Port, losses: int = 1, *, applied: bool = True) -> None:
        self.port, self.losses, self.applied = port, losses, applied
        self.sent: list[str] = []

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        return await self.port.read(reads)

    async def commit(self, commit: Commit) -> list[Applied]:
        self.sent.append(commit.id)
        lost, self.losses = self.losses > 0, max(self.losses - 1, 0)
        if lost and not self.applied:
            raise DeploymentError("timed out")
        applied = await self.port.commit(commit)
        if lost:
            raise DeploymentError("timed out")
        return applied

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        return await self.port.withdraw(commit)

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        return await self.port.search(search)

    async def pause(self, seconds: float) -> None:
        await self.port.pause(seconds)


async def test_committing_again_after_a_lost_answer_applies_once(deployment: Deployment, open_: Open) -> None:
    port = Lossy(deployment.asynchronous)
    session = AsyncSession(deployment, _port=port)
    task = Task(text="a", owner_id="u")
    await session.add(task)
    with pytest.raises(DeploymentError):
        await session.commit()
    assert session.new == [task]
    await session.commit()
    assert session.new == []
    assert len(port.sent) == 1
    found = await open_().one(ALL)
    assert found.convex_id == task.convex_id
    task.text = "b"
    await session.commit()
    assert len(set(port.sent)) == 2


@pytest.mark.parametrize(("first", "second"), [({"n": 1}, {"n": True}), ({"n": 0.0}, {"n": -0.0}), ([1.0], [True])])
async def test_what_was_changed_after_a_lost_answer_is_written(
    deployment: Deployment, open_: Open, first: Any, second: Any
) -> None:
    port = Lossy(deployment.asynchronous)
    session = AsyncSession(deployment, _port=port)
    thing = Anything(key="k", a=first)
    await session.upsert(thing)
    with pytest.raises(DeploymentError):
        await session.commit()
    thing.a = second
    await session.commit()
    stored = await open_().get(Anything, "k")
    assert stored is not None
    assert repr(stored.a) == repr(second)
    assert len(set(port.sent)) == 2


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not applied"])
async def test_what_is_pending_beside_a_lost_answer_is_written_once(
    deployment: Deployment, open_: Open, applied: bool
) -> None:
    kept, gone, stored = (Task(text=text, owner_id="u") for text in ("kept", "gone", "stored"))
    port = Lossy(deployment.asynchronous, losses=0, applied=applied)
    session = AsyncSession(deployment, _port=port)
    await session.add(stored)
    await session.commit()
    stored.text = "changed"
    await session.add_all([kept, gone])
    port.losses = 1
    with pytest.raises(DeploymentError):
        await session.commit()
    kept.text = "kept and changed"
    stored.rank = 1.0
    await session.delete(gone)
    await session.add(Task(text="more", owner_id="u"))
    await session.commit()
    assert (session.new, session.dirty, session.deleted) == ([], [], [])
    assert len(set(port.sent)) == 3
    found = {(one.text, one.rank) for one in await open_().all(ALL)}
    assert found == {("kept and changed", None), ("changed", 1.0), ("more", None)}
    assert await open_().count(ALL) == 3
    await session.delete(kept)
    await session.commit()
    assert await open_().count(ALL) == 2


async def test_a_lost_commit_that_is_refused_is_still_pending(deployment: Deployment, open_: Open) -> None:
    port = Lossy(deployment.asynchronous, losses=1, applied=False)
    session = AsyncSession(deployment, _port=port)
    note = Note(id="n", body="mine")
    await session.add(note)
    with pytest.raises(DeploymentError):
        await session.commit()
    other = open_()
    await other.add(Note(id="n", body="theirs"))
    await other.commit()
    await session.add(Note(id="m"))
    with pytest.raises(StaleDataError):
        await session.commit()
    assert len(session.new) == 2
    note.id = "l"
    await session.commit()
    assert {one.id: one.body for one in await open_().all(Note.query().full_scan())} == {
        "n": "theirs",
        "l": "mine",
        "m": "",
    }


class Refusing(Lossy):
    """A port that refuses commits which insert a note with a certain id, or the first commit."""

    def __init__(self, port: Port, error: Exception, *, id: str | None = None) -> None:
        super().__init__(port, losses=0)
        self.error, self.id = error, id

    async def commit(self, commit: Commit) -> list[Applied]:
        self.sent.append(commit.id)
        ids = [write.doc.get("id") for write in commit.writes if isinstance(write, Insert)]
        if self.id in ids if self.id is not None else len(self.sent) == 1:
            raise self.error
        return await self.port.commit(commit)


@pytest.mark.parametrize(
    "error",
    [AuthError("the key is refused"), FunctionNotFound("no function", function="orm:commit")],
    ids=["a wrong key", "no function"],
)
async def test_what_was_never_applied_is_committed_with_the_rest_or_not_at_all(
    deployment: Deployment, open_: Open, error: Exception
) -> None:
    other = open_()
    await other.add(Note(id="taken"))
    await other.commit()
    session = AsyncSession(deployment, _port=Refusing(deployment.asynchronous, error))
    await session.add(Note(id="first"))
    with pytest.raises(type(error)):
        await session.commit()
    taken = Note(id="taken")
    await session.add(taken)
    with pytest.raises(StaleDataError):
        await session.commit()
    assert [one.id for one in await open_().all(Note.query().full_scan())] == ["taken"]
    taken.id = "second"
    await session.commit()
    assert {one.id for one in await open_().all(Note.query().full_scan())} == {"taken", "first", "second"}


@pytest.mark.parametrize("error", [TypeError("cannot be sent"), FunctionNotFound("no function", function="orm:commit")])
async def test_what_could_not_be_sent_can_be_mended(deployment: Deployment, open_: Open, error: Exception) -> None:
    session = AsyncSession(deployment, _port=Refusing(deployment.asynchronous, error, id="wrong"))
    note = Note(id="wrong")
    await session.add(note)
    with pytest.raises(type(error)):
        await session.commit()
    note.id = "right"
    await session.commit()
    assert [one.id for one in await open_().all(Note.query().full_scan())] == ["right"]


class Locked(Lossy):
    """A port whose key is refused."""

    async def commit(self, commit: Commit) -> list[Applied]:
        raise AuthError("the key is refused")

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        raise AuthError("the key is refused")


async def test_a_wrong_key_does_not_make_a_lost_answer_forgotten(deployment: Deployment, open_: Open) -> None:
    port = Lossy(deployment.asynchronous)
    session = AsyncSession(deployment, _port=port)
    await session.add(Task(text="once", owner_id="u"))
    with pytest.raises(DeploymentError):
        await session.commit()
    session._unit_of_work._port = Locked(deployment.asynchronous)
    with pytest.raises(AuthError):
        await session.commit()
    session._unit_of_work._port = port
    await session.add(Task(text="more", owner_id="u"))
    await session.commit()
    assert sorted(one.text for one in await open_().all(ALL)) == ["more", "once"]


async def test_a_lost_answer_about_numpy_arrays_is_asked_for_again(deployment: Deployment, open_: Open) -> None:
    port = Lossy(deployment.asynchronous)
    session = AsyncSession(deployment, _port=port)
    chunk = Chunk(text="x", kind="a", embedding=np.array([1.0, 2.0, 3.0], np.float32))  # type: ignore[arg-type]
    await session.add(chunk)
    with pytest.raises(DeploymentError):
        await session.commit()
    chunk.embedding = np.array([1.0, 2.0, 3.0], np.float32)  # type: ignore[assignment]
    await session.commit()
    assert len(port.sent) == 1
    assert [one.embedding for one in await open_().all(Chunk.query().full_scan())] == [[1.0, 2.0, 3.0]]


async def test_a_cancelled_commit_can_be_sent_again_and_is_applied_once(deployment: Deployment, open_: Open) -> None:
    arrived = asyncio.Event()

    class Stalled(Lossy):
        async def commit(self, commit: Commit) -> list[Applied]:
            applied = await super().commit(commit)
            if len(self.sent) == 1:
                arrived.set()
                await asyncio.Event().wait()
            return applied

    session = AsyncSession(deployment, _port=Stalled(deployment.asynchronous, losses=0))
    await session.add(Task(text="a", owner_id="u"))
    committing = asyncio.create_task(session.commit())
    await arrived.wait()
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    await session.commit()
    assert await open_().count(ALL) == 1


# -- limits --------------------------------------------------------------------------------------------------------


async def test_a_result_larger_than_one_calls_budget_is_whole(open_: Open) -> None:
    body = "x" * 1_000_000
    for number in range(2):
        await save(open_(), *(Note(id=f"{number}{part}", title="t", body=body) for part in range(6)))
    expected = [f"{number}{part}" for number in range(2) for part in range(6)]
    query = Note.query().by_index("by_title", title="t")
    session = open_()
    assert [note.id for note in await session.all(query)] == expected
    assert [note.id for note in await session.all(query.order("desc").limit(10))] == expected[:1:-1]
    assert await session.count(query) == 12
    whole, count, last = await session.read(query, query.count(), query.order("desc").limit(1))
    assert ([note.id for note in whole], count, [note.id for note in last]) == (expected, 12, ["15"])
    page = await session.page(query, 11)
    assert ([note.id for note in page.items], page.has_more) == (expected[:11], True)
    assert [note.id async for note in session.stream(query)] == expected
    assert await session.delete_all(query) == 12


async def test_more_than_1024_queries_go_in_several_calls(session: AsyncSession) -> None:
    await save(session, Note(id="n"))
    found = await session.get_many(Note, ["x"] * 1_024 + ["n"])
    assert [note is not None for note in found] == [False] * 1_024 + [True]


BAD_WRITES: dict[str, tuple[Callable[[], Any], type[ConvexORMError]]] = {
    "a wrong type": (lambda: Task(text=cast("str", 1), owner_id="u"), ValidationError),
    "NaN": (lambda: Task(text="x", owner_id="u", rank=float("nan")), ValidationError),
    "an integer past 2**53": (lambda: Task(text="x", owner_id="u", rank=2**53 + 1), ValidationError),
    "a naive datetime": (lambda: Task(text="x", owner_id="u", due=datetime(2024, 1, 1)), ValidationError),
    "a lone surrogate": (lambda: Task(text="\ud800", owner_id="u"), ValidationError),
    "a lone surrogate in a JSON column": (lambda: Note(id="n", meta={"a": "\ud800"}), ValidationError),
    "NaN in a JSON column": (lambda: Note(id="n", meta={"a": float("nan")}), ValidationError),
    "a key that is not ASCII": (lambda: Anything(key="k", a={"é": 1}), ValidationError),
    "a key that starts with $": (lambda: Anything(key="k", a={"$a": 1}), ValidationError),
    "17 levels": (lambda: Anything(key="k", a=[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]), ValidationError),
    "no Convex value": (lambda: Anything(key="k", a={1, 2}), ValidationError),
    "a document over 1 MiB": (lambda: Note(id="n", body="x" * (1 << 20)), LimitExceeded),
    "8,193 elements": (lambda: Anything(key="k", a=[0] * 8_193), LimitExceeded),
    "1,025 fields": (lambda: Anything(key="k", a={f"f{n}": 0 for n in range(1_025)}), LimitExceeded),
}


@pytest.mark.parametrize("name", BAD_WRITES)
async def test_bad_input_is_one_typed_error_before_anything_is_written(open_: Open, name: str) -> None:
    make, error = BAD_WRITES[name]
    session = open_()
    await session.add(Task(text="good", owner_id="u"))
    await session.add(make())
    with pytest.raises(error) as refused:
        await session.commit()
    assert type(refused.value) is error
    assert len(str(refused.value)) < 500
    counts = await open_().read(*(model.query().full_scan().count() for model in MODELS))
    assert set(counts) == {0}
    await session.rollback()
    await session.commit()


async def test_a_bad_change_is_refused_and_can_be_mended(open_: Open) -> None:
    session = open_()
    (task,) = tasks("a")
    await save(session, task)
    task.rank = float("nan")
    with pytest.raises(ValidationError) as refused:
        await session.commit()
    assert (refused.value.table, refused.value.field) == ("tasks", "rank")
    task.rank = 1.0
    await session.commit()
    assert (await open_().one(BY_OWNER)).rank == 1.0


async def test_more_than_15999_writes_are_refused(session: AsyncSession) -> None:
    for number in range(16_000):
        await session.delete_key(Note, str(number))
    with pytest.raises(LimitExceeded) as refused:
        await session.commit()
    assert (refused.value.maximum, refused.value.actual) == (15_999, 16_000)


async def test_more_reads_than_one_call_takes_are_refused_by_the_port(deployment: Deployment) -> None:
    read = Read(Range(Note.__mapper__.table, "by_title"), limit=1)
    with pytest.raises(LimitExceeded):
        await deployment.asynchronous.read([read] * 1_025)


@pytest.mark.parametrize(
    "range_",
    [
        Range(Task.__mapper__.table, "by_nothing"),
        Range(Task.__mapper__.table, "by_owner", ("u", True, 1.0, 2.0)),
        Range(Task.__mapper__.table, "by_nothing", ("u",)),
    ],
)
async def test_a_range_that_does_not_fit_its_index_is_refused(deployment: Deployment, range_: Range) -> None:
    with pytest.raises(IndexRangeError) as refused:
        await deployment.asynchronous.read([Read(range_)])
    assert refused.value.table == "tasks"


async def test_integers_of_64_bits_keep_every_bit(open_: Open) -> None:
    numbers = [-(2**63), -(2**53) - 1, 2**53 + 1, 2**63 - 1]
    await save(open_(), *(everything(key=str(number), big=number) for number in numbers))
    found = await open_().all(Everything.query().by_index("by_big"))
    assert [one.big for one in found] == numbers


# -- vector search -------------------------------------------------------------------------------------------------


async def chunks(session: AsyncSession) -> None:
    rows = {"x": [1.0, 0.0, 0.0], "xy": [1.0, 1.0, 0.0], "y": [0.0, 2.0, 0.0], "-x": [-1.0, 0.0, 0.0]}
    await save(session, *(Chunk(text=text, kind=text[-1], embedding=row) for text, row in rows.items()))


async def test_search_answers_the_nearest_by_cosine_best_first(open_: Open) -> None:
    await chunks(open_())
    hits = await open_().search(Chunk.by_embedding, [2.0, 0.0, 0.0], 3)
    assert [hit.item.text for hit in hits] == ["x", "xy", "y"]
    assert [hit.score for hit in hits] == pytest.approx([1.0, 0.5**0.5, 0.0])


async def test_search_filters_by_equality_on_filter_fields(open_: Open) -> None:
    await chunks(open_())
    session = open_()
    hits = await session.search(Chunk.by_embedding, [1.0, 0.0, 0.0], where=Chunk.kind == "y")
    assert [hit.item.text for hit in hits] == ["xy", "y"]
    either = await session.search(
        Chunk.by_embedding, [1.0, 0.0, 0.0], where=(Chunk.kind == "y") | (Chunk.kind == "nothing")
    )
    assert [hit.item for hit in either] == [hit.item for hit in hits]


@pytest.mark.parametrize("vector", [[1.0, 2.0], [], np.ones(4), np.ones(4, dtype=np.float32)], ids=len)
async def test_a_vector_of_another_length_than_its_index_is_refused(open_: Open, vector: Any) -> None:
    problem = f"chunks.embedding: a vector of {len(vector)}, its index has 3 dimensions"
    await save(open_(), Chunk(text="x", kind="x", embedding=[1.0, 0.0, 0.0]))
    session = open_()
    await session.add(Chunk(text="y", kind="y", embedding=vector))
    with pytest.raises(ValidationError, match=problem):
        await session.commit()
    await session.rollback()
    found = await session.one(Chunk.query().full_scan())
    found.embedding = vector
    with pytest.raises(ValidationError, match=problem):
        await session.commit()
    assert (await open_().one(Chunk.query().full_scan())).embedding == [1.0, 0.0, 0.0]


async def test_search_passes_over_what_has_no_vector(open_: Open) -> None:
    await chunks(open_())
    await save(open_(), Chunk(text="none", kind="y"))
    for where in (None, Chunk.kind == "y"):
        hits = await open_().search(Chunk.by_embedding, [0.0, 1.0, 0.0], where=where)
        assert [hit.item.text for hit in hits][:2] == ["y", "xy"]
        assert "none" not in [hit.item.text for hit in hits]


@pytest.mark.parametrize(
    ("vector", "options", "error"),
    [
        ([1.0, 0.0], {}, ValidationError),
        ([1.0, 0.0, float("nan")], {}, ValidationError),
        ([1.0, 0.0, "x"], {}, ValidationError),
        ([1.0, 0.0, 10**400], {}, ValidationError),
        ([1.0, 0.0, 0.0], {"limit": 257}, LimitExceeded),
        ([1.0, 0.0, 0.0], {"limit": 0}, LimitExceeded),
        ([1.0, 0.0, 0.0], {"limit": "3"}, ValidationError),
        ([1.0, 0.0, 0.0], {"limit": 2.0}, ValidationError),
        ([1.0, 0.0, 0.0], {"limit": True}, ValidationError),
        ([1.0, 0.0, 0.0], {"where": Chunk.text == "x"}, IndexRangeError),
        ([1.0, 0.0, 0.0], {"where": Chunk.kind > "x"}, IndexRangeError),
        ([1.0, 0.0, 0.0], {"where": or_(*(Chunk.kind == str(n) for n in range(65)))}, LimitExceeded),
    ],
)
async def test_a_search_the_index_cannot_answer_is_refused(
    session: AsyncSession, vector: Any, options: Any, error: type[ConvexORMError]
) -> None:
    with pytest.raises(error):
        await session.search(Chunk.by_embedding, vector, **options)


def test_the_functions_may_be_in_another_module(models_host: Host) -> None:
    with connect(models_host.url, models_host.key, module="lib/store") as deployment, Session(deployment) as session:
        session.delete_all(Chunk.query().full_scan())
        session.add(Chunk(text="x", kind="x", embedding=[1.0, 0.0, 0.0]))
        session.commit()
        assert [hit.item.text for hit in session.search(Chunk.by_embedding, [2.0, 0.0, 0.0])] == ["x"]


# -- both faces ----------------------------------------------------------------------------------------------------


def test_the_blocking_face_has_all_of_the_other_with_its_documentation() -> None:
    def public(face: type) -> set[str]:
        return {name for name in dir(face) if not name.startswith("_") and name not in vars(Watcher)}

    assert public(Session) == public(AsyncSession)
    for name in public(AsyncSession):
        mine, theirs = getattr(Session, name), getattr(AsyncSession, name)
        if callable(mine):
            assert mine.__doc__ == theirs.__doc__, name


async def test_a_closed_deployment_says_so(open_deployment: Callable[[str], Deployment]) -> None:
    for kind in ("memory", "sqlite", "host"):
        deployment = open_deployment(kind)
        deployment.close()
        with pytest.raises(DeploymentError, match="closed"):
            Session(deployment).count(ALL)
        with pytest.raises(DeploymentError, match="closed"):
            await AsyncSession(deployment).count(ALL)
