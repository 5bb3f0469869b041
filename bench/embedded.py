"""The embedded deployment beside SQLAlchemy 2 on SQLite: the same messages, the same indexes, the same durability.

Both sides store to a file in WAL mode with synchronous=NORMAL and the same page cache, and open a session for each
operation, as an application would. Each side's times are taken in turn, in rounds, and the medians compared. SQLAlchemy
is given its usual shape, a number as primary key and a unique index on `id`, and in columns of its own the one that suits
it best, `id` itself as the primary key.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy import orm

from bench.tables import interleaved, print_table, seconds
from convexorm import Deployment, Index, IsoDatetime, Mapped, Model, Session, connect, field

ROWS = 10_000
ROUNDS = 15
THREADS = 10
START = datetime(2026, 1, 1, tzinfo=UTC)
CONTENT = (
    '{"format":2,"parts":[{"type":"text","text":"hello there, this is a message of moderate size, about a hundred and '
    'twenty characters long or so"}]}'
)


class Message(Model, table="messages", primary_key="id"):
    id: Mapped[str]
    thread_id: Mapped[str]
    content: Mapped[str]
    role: Mapped[str]
    type: Mapped[str]
    created_at: Mapped[IsoDatetime]
    resource_id: Mapped[str | None] = field(default=None)
    by_record_id = Index("id")
    by_thread = Index("thread_id")
    by_thread_created = Index("thread_id", "created_at")
    by_resource = Index("resource_id")


class Base(orm.DeclarativeBase):
    pass


class Numbered(Base):
    __tablename__ = "numbered"
    number: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    id: orm.Mapped[str] = orm.mapped_column(unique=True, index=True)
    thread_id: orm.Mapped[str] = orm.mapped_column(index=True)
    content: orm.Mapped[str]
    role: orm.Mapped[str]
    type: orm.Mapped[str]
    created_at: orm.Mapped[datetime]
    resource_id: orm.Mapped[str | None] = orm.mapped_column(index=True)
    __table_args__ = (sa.Index("numbered_thread_created", "thread_id", "created_at"),)


class Named(Base):
    __tablename__ = "named"
    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    thread_id: orm.Mapped[str] = orm.mapped_column(index=True)
    content: orm.Mapped[str]
    role: orm.Mapped[str]
    type: orm.Mapped[str]
    created_at: orm.Mapped[datetime]
    resource_id: orm.Mapped[str | None] = orm.mapped_column(index=True)
    __table_args__ = (sa.Index("named_thread_created", "thread_id", "created_at"),)


def values(number: int, id: str) -> dict[str, Any]:
    return {
        "id": id,
        "thread_id": f"thread-{number % THREADS}",
        "content": CONTENT,
        "role": "user",
        "type": "v2",
        "created_at": START + timedelta(seconds=number),
        "resource_id": "resource-1",
    }


class Ours:
    """What an application writes with convexorm."""

    def __init__(self, path: Path) -> None:
        self._deployment: Deployment = connect(f"sqlite:///{path}")

    def insert(self, rows: Sequence[dict[str, Any]]) -> None:
        with Session(self._deployment) as session:
            session.add_all([Message(**row) for row in rows])
            session.commit()

    def last(self, thread_id: str) -> list[Any]:
        query = Message.query().by_index("by_thread_created", thread_id=thread_id).order("desc").limit(20)
        with Session(self._deployment) as session:
            return list(session.all(query))

    def get(self, id: str) -> Any:
        with Session(self._deployment) as session:
            return session.get(Message, id)

    def change(self, id: str, content: str) -> None:
        with Session(self._deployment) as session:
            message = session.get(Message, id)
            assert message is not None
            message.content = content
            session.commit()

    def hydrate(self) -> list[Any]:
        with Session(self._deployment) as session:
            return list(session.all(Message.query().full_scan().limit(ROWS)))

    def close(self) -> None:
        self._deployment.close()


class Theirs:
    """What an application writes with SQLAlchemy."""

    def __init__(self, path: Path, model: Any) -> None:
        self._model = model
        self._engine = sa.create_engine(f"sqlite:///{path}")
        sa.event.listen(self._engine, "connect", _pragmas)
        Base.metadata.create_all(self._engine, [model.__table__])

    def insert(self, rows: Sequence[dict[str, Any]]) -> None:
        with orm.Session(self._engine) as session:
            session.add_all([self._model(**row) for row in rows])
            session.commit()

    def last(self, thread_id: str) -> list[Any]:
        model = self._model
        query = sa.select(model).where(model.thread_id == thread_id).order_by(model.created_at.desc()).limit(20)
        with orm.Session(self._engine) as session:
            return list(session.scalars(query))

    def get(self, id: str) -> Any:
        with orm.Session(self._engine) as session:
            return self._got(session, id)

    def change(self, id: str, content: str) -> None:
        with orm.Session(self._engine) as session:
            self._got(session, id).content = content
            session.commit()

    def hydrate(self) -> list[Any]:
        with orm.Session(self._engine) as session:
            return list(session.scalars(sa.select(self._model).limit(ROWS)))

    def close(self) -> None:
        self._engine.dispose()

    def _got(self, session: orm.Session, id: str) -> Any:
        if self._model is Named:
            return session.get_one(Named, id)
        return session.scalars(sa.select(self._model).where(self._model.id == id)).one()


def _pragmas(connection: Any, _: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -65536")


Side = Ours | Theirs
ATTRIBUTES = tuple(values(0, ""))


def touch(messages: Sequence[Any]) -> None:
    for message in messages:
        for name in ATTRIBUTES:
            getattr(message, name)


class Bench:
    """The operations, each measured on one side in a round: seconds for one operation."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids = [str(uuid4()) for _ in range(ROWS)]
        self._rows = [values(number, id) for number, id in enumerate(self._ids)]

    def open(self, name: str) -> Side:
        path = self._folder / f"{uuid4().hex}.db"
        return Ours(path) if name == "ours" else Theirs(path, Numbered if name == "numbered" else Named)

    def filled(self, name: str) -> Side:
        side = self.open(name)
        side.insert(self._rows)
        return side

    def insert_many(self, name: str) -> float:
        """Into a new file; creating the tables is not measured."""
        side = self.open(name)
        side.insert([values(0, "first")])
        taken = seconds(lambda: side.insert(self._rows))
        side.close()
        return taken

    def insert_one(self, side: Side) -> float:
        rows = [values(number, str(uuid4())) for number in range(200)]
        return seconds(lambda: [side.insert([row]) for row in rows]) / len(rows)

    def last(self, side: Side) -> float:
        return seconds(lambda: [side.last(f"thread-{number % THREADS}") for number in range(200)]) / 200

    def get(self, side: Side) -> float:
        return seconds(lambda: [side.get(id) for id in self._ids[:500]]) / 500

    def change(self, side: Side) -> float:
        text = uuid4().hex
        return seconds(lambda: [side.change(id, text) for id in self._ids[:200]]) / 200

    def hydrate(self, side: Side) -> float:
        return seconds(side.hydrate)

    def hydrate_and_touch(self, side: Side) -> float:
        return seconds(lambda: touch(side.hydrate()))


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        names = ("ours", "numbered", "named")
        many = interleaved({name: partial(bench.insert_many, name) for name in names}, ROUNDS)
        rows.append(_row(f"{ROWS:,} inserts in one commit", many, 1.0))
        sides = {name: bench.filled(name) for name in names}
        operations: list[tuple[str, Callable[[Side], float], float | None]] = [
            (f"hydrate {ROWS:,} rows", bench.hydrate, 2.0),
            (f"hydrate {ROWS:,} rows, then read each attribute", bench.hydrate_and_touch, None),
            ("last 20 of a thread", bench.last, 1.0),
            ("get by id", bench.get, 1.0),
            ("get, change, commit", bench.change, 1.0),
            ("insert one, commit", bench.insert_one, 1.0),
        ]
        for title, run, target in operations:
            times = interleaved({name: partial(run, side) for name, side in sides.items()}, ROUNDS)
            rows.append(_row(title, times, target))
        for side in sides.values():
            side.close()
    print_table(
        f"Embedded beside SQLAlchemy {sa.__version__} on SQLite, medians of {ROUNDS} rounds; ratios are times as fast",
        ("operation", "convexorm ms", "SQLAlchemy ms", "ratio", "target", "SQLAlchemy, id as key, ms", "ratio"),
        rows,
    )


def _row(title: str, times: dict[str, float], target: float | None) -> tuple[str, ...]:
    ours, numbered, named = (times[name] for name in ("ours", "numbered", "named"))
    return (
        title,
        f"{ours * 1000:.3f}",
        f"{numbered * 1000:.3f}",
        f"{numbered / ours:.2f}",
        "" if target is None else f"{target:.1f}",
        f"{named * 1000:.3f}",
        f"{named / ours:.2f}",
    )


if __name__ == "__main__":
    main()
