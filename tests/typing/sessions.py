"""Types of models, queries and sessions, as a checker infers them."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Iterator
from datetime import datetime
from typing import Any, assert_type

from convexorm import (
    AsyncSession,
    Column,
    Condition,
    Count,
    Fitting,
    Index,
    Invalid,
    Mapped,
    Model,
    Page,
    Query,
    Session,
    VectorIndex,
    connect,
    field,
)
from convexorm.sessions import Hit


class Task(Model, table="typed_tasks"):
    text: Mapped[str]
    owner_id: Mapped[str] = field(name="ownerId")
    done: Mapped[bool] = field(default=False)
    rank: Mapped[float | None] = field(default=None)
    due: Mapped[datetime | None] = field(default=None)
    by_owner = Index("owner_id", "done")


class Place(Model, table="typed_places"):
    embedding: Mapped[list[float]]
    by_embedding = VectorIndex("embedding", dimensions=3)


class Note(Model, table="typed_notes", primary_key="id"):
    id: Mapped[str]
    tags: Mapped[list[str]] = field(factory=list)
    by_note_id = Index("id")


class Customer(Model, table="typed_customers", primary_key="id"):
    id: Mapped[str]
    email: Mapped[str]
    by_customer_id = Index("id")
    by_email = Index("email", unique=True)


# an attribute is a value on an instance, a typed column on the class

task = Task(text="x", owner_id="u")
assert_type(task.text, str)
assert_type(task.done, bool)
assert_type(task.rank, float | None)
assert_type(task.convex_id, str | None)
assert_type(task.creation_time, float | None)
assert_type(Task.text, Column[str])
assert_type(Task.rank, Column[float | None])
assert_type(Note.tags, Column[list[str]])
task.rank = 1.5
task.rank = None
task.rank = "high"  # type: ignore[assignment]
task.text = None  # type: ignore[assignment]

# constructors take the declared attributes by keyword, the required ones always

Task(text="x", owner_id="u", done=True, rank=None, due=None)
Task(text="x")  # type: ignore[call-arg]
Task(text=1, owner_id="u")  # type: ignore[arg-type]
Task(text="x", owner_id="u", colour="red")  # type: ignore[call-arg]
Task("x", "u")  # type: ignore[call-arg]

# operators take the column's type and make conditions

assert_type(Task.rank >= 1.0, Condition)
assert_type(Task.text == "x", Condition)
assert_type(Task.text.in_(["a"]), Condition)
assert_type((Task.text == "x") & ~(Task.done == True) | (Task.rank < 2.0), Condition)  # noqa: E712
Task.rank >= "x"  # type: ignore[operator]  # noqa: B015
Task.text.in_([1])  # type: ignore[list-item]
Task.due < 5  # type: ignore[operator]  # noqa: B015

# queries keep their model

query = Task.query().by_index("by_owner", owner_id="u").where(Task.done == False).order("desc").limit(20)  # noqa: E712
assert_type(Task.query(), Query[Task])
assert_type(query, Query[Task])
assert_type(query.count(), Count)
assert_type(query.explain(), str)
Task.query().order("up")  # type: ignore[arg-type]
Task.query().where("x")  # type: ignore[arg-type]


def blocking(session: Session) -> None:
    assert_type(session.get(Task, "x"), Task | None)
    assert_type(session.get_many(Task, ["x"]), list[Task | None])
    assert_type(session.all(query), list[Task])
    assert_type(session.all(query, invalid="skip"), list[Task])
    assert_type(session.all(query, invalid="collect"), Fitting[Task])
    assert_type(session.all(query.select(Task.text), invalid="collect"), Fitting[tuple[str]])
    assert_type(session.all(query, invalid="collect").invalid, list[Invalid])
    assert_type(session.page(query, 10, invalid="collect").invalid, list[Invalid])
    assert_type(session.stream(query, invalid="skip"), Iterator[Task])
    session.all(query, invalid="ignore")  # type: ignore[call-overload]
    session.stream(query, invalid="collect")  # type: ignore[arg-type]
    assert_type(session.first(query), Task | None)
    assert_type(session.one(query), Task)
    assert_type(session.one_or_none(query), Task | None)
    assert_type(session.page(query, 10), Page[Task])
    assert_type(session.page(query, size=10, cursor=None).items, list[Task])
    assert_type(session.stream(query), Iterator[Task])
    assert_type(session.count(query), int)
    assert_type(session.delete_all(query), int)
    assert_type(session.commit(), None)
    assert_type(session.add(task), None)
    session.get("tasks", "x")  # type: ignore[arg-type]
    session.all(Task)  # type: ignore[call-overload]
    session.page(query, "10")  # type: ignore[arg-type]
    session.add("x")  # type: ignore[arg-type]


def unique(session: Session) -> None:
    assert_type(session.get(Customer, email="a@x"), Customer | None)
    assert_type(session.get_one(Customer, email="a@x"), Customer)
    assert_type(session.get_or_create(Customer, email="a@x"), tuple[Customer, bool])
    assert_type(session.get_or_create(Customer, email="a@x", defaults={"id": "a"}), tuple[Customer, bool])
    assert_type(session.upsert(Customer(id="a", email="a@x"), by="by_email"), None)
    assert_type(session.upsert(Customer(id="a", email="a@x"), by=Customer.by_email), None)
    session.get("customers", email="a@x")  # type: ignore[arg-type]
    session.get_or_create(Customer, email="a@x", defaults=["id"])  # type: ignore[arg-type]
    session.upsert(Customer(id="a", email="a@x"), by=5)  # type: ignore[arg-type]
    Index("email", unique="yes")  # type: ignore[arg-type]


async def unique_awaited(session: AsyncSession) -> None:
    assert_type(await session.get(Customer, email="a@x"), Customer | None)
    assert_type(await session.get_one(Customer, email="a@x"), Customer)
    assert_type(await session.get_or_create(Customer, email="a@x", defaults={"id": "a"}), tuple[Customer, bool])
    assert_type(await session.upsert(Customer(id="a", email="a@x"), by="by_email"), None)


def reading(session: Session) -> None:
    assert_type(session.read(query), tuple[list[Task]])
    assert_type(session.read(query, Note.query()), tuple[list[Task], list[Note]])
    assert_type(session.read(query, query.count()), tuple[list[Task], int])
    assert_type(session.read(query, Note.query(), query), tuple[list[Task], list[Note], list[Task]])
    assert_type(session.read(query, query, query, query, query, query), tuple[Any, ...])


def transactions(session: Session) -> None:
    def rename(session: Session) -> str:
        return session.one(query).text

    assert_type(session.transact(rename), str)
    assert_type(session.transact(rename, attempts=3), str)
    session.transact(query)  # type: ignore[arg-type]


async def awaited(session: AsyncSession) -> None:
    async def rename(session: AsyncSession) -> str:
        return (await session.one(query)).text

    assert_type(await session.get(Task, "x"), Task | None)
    assert_type(await session.all(query), list[Task])
    assert_type(await session.all(query, invalid="collect"), Fitting[Task])
    assert_type(await session.one(query), Task)
    assert_type(await session.page(query, 10), Page[Task])
    assert_type(await session.read(query, Note.query()), tuple[list[Task], list[Note]])
    assert_type(await session.read(query, query.count()), tuple[list[Task], int])
    assert_type(await session.count(query), int)
    assert_type(await session.commit(), None)
    assert_type(await session.transact(rename), str)
    async for one in session.stream(query):
        assert_type(one, Task)


def opening() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        assert_type(session, Session)
    hits = session.search(Place.by_embedding, [1.0, 0.0, 0.0], limit=2)
    assert_type(hits, list[Hit[Place]])
    assert_type([hit.score for hit in hits], list[float])
