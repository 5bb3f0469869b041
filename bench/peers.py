"""Who stores the same messages beside convexorm: SQLAlchemy, peewee, and a floor written by hand for this one table.

Each is what an application would write: seven columns, and an index on `id`, `thread_id`, `thread_id` with `created_at`,
and `resource_id`. All write to a file in WAL mode with synchronous=NORMAL and the same page cache, and commit where
convexorm does. The ORMs open a session, or a connection of their pool, for each operation. The floor does the storage work
that documents need and nothing else: a JSON body by id, and an entry in a table for each index, through one connection.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import peewee
import sqlalchemy as sa
from sqlalchemy import orm

from convexorm import Deployment, Index, IsoDatetime, Mapped, Model, Session, connect, field

__all__ = ["CONTENT", "THREADS", "Alchemy", "Floor", "Message", "Ours", "Peewee", "Side", "values"]

THREADS = 10
START = datetime(2026, 1, 1, tzinfo=UTC)
CONTENT = (
    '{"format":2,"parts":[{"type":"text","text":"hello there, this is a message of moderate size, about a hundred and '
    'twenty characters long or so"}]}'
)


def values(number: int, id: str) -> dict[str, Any]:
    """The attributes of a message."""
    return {
        "id": id,
        "thread_id": f"thread-{number % THREADS}",
        "content": CONTENT,
        "role": "user",
        "type": "v2",
        "created_at": START + timedelta(seconds=number),
        "resource_id": "resource-1",
    }


def _read(message: Any) -> tuple[Any, Any, Any]:
    return message.id, message.content, message.created_at


class Side(ABC):
    """One of those that are compared, over a new file."""

    @abstractmethod
    def __init__(self, path: Path) -> None: ...

    @abstractmethod
    def insert(self, rows: Sequence[dict[str, Any]]) -> None:
        """Make messages and store them in one commit."""

    @abstractmethod
    def last(self, thread_id: str) -> Sequence[Any]:
        """The newest 20 messages of a thread."""

    @abstractmethod
    def get(self, id: str) -> Any:
        """A message."""

    @abstractmethod
    def change(self, id: str, content: str) -> None:
        """Get a message, change it, and commit."""

    @abstractmethod
    def all(self) -> Sequence[Any]:
        """All messages."""

    @abstractmethod
    def close(self) -> None: ...

    def read_all(self) -> list[tuple[Any, Any, Any]]:
        """Three columns of all messages, a time among them."""
        return [_read(message) for message in self.all()]


# -- convexorm -----------------------------------------------------------------------------------------------------


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


class Ours(Side):
    def __init__(self, path: Path) -> None:
        self.deployment: Deployment = connect(f"sqlite:///{path}")

    def insert(self, rows: Sequence[dict[str, Any]]) -> None:
        with Session(self.deployment) as session:
            session.add_all([Message(**row) for row in rows])
            session.commit()

    def last(self, thread_id: str) -> Sequence[Any]:
        query = Message.query().by_index("by_thread_created", thread_id=thread_id).order("desc").limit(20)
        with Session(self.deployment) as session:
            return session.all(query)

    def get(self, id: str) -> Any:
        with Session(self.deployment) as session:
            return session.get_one(Message, id)

    def change(self, id: str, content: str) -> None:
        with Session(self.deployment) as session:
            session.get_one(Message, id).content = content
            session.commit()

    def all(self) -> Sequence[Any]:
        with Session(self.deployment) as session:
            return session.all(Message.query().full_scan())

    def close(self) -> None:
        self.deployment.close()


# -- SQLAlchemy ----------------------------------------------------------------------------------------------------


class Base(orm.DeclarativeBase):
    pass


class AlchemyMessage(Base):
    __tablename__ = "messages"
    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    thread_id: orm.Mapped[str] = orm.mapped_column(index=True)
    content: orm.Mapped[str]
    role: orm.Mapped[str]
    type: orm.Mapped[str]
    created_at: orm.Mapped[datetime]
    resource_id: orm.Mapped[str | None] = orm.mapped_column(index=True)
    __table_args__ = (sa.Index("messages_thread_created", "thread_id", "created_at"),)


class Alchemy(Side):
    def __init__(self, path: Path) -> None:
        self._engine = sa.create_engine(f"sqlite:///{path}")
        sa.event.listen(self._engine, "connect", lambda connection, _: _tune(connection))
        Base.metadata.create_all(self._engine)

    def insert(self, rows: Sequence[dict[str, Any]]) -> None:
        with orm.Session(self._engine) as session:
            session.add_all([AlchemyMessage(**row) for row in rows])
            session.commit()

    def last(self, thread_id: str) -> Sequence[Any]:
        model = AlchemyMessage
        query = sa.select(model).where(model.thread_id == thread_id).order_by(model.created_at.desc()).limit(20)
        with orm.Session(self._engine) as session:
            return session.scalars(query).all()

    def get(self, id: str) -> Any:
        with orm.Session(self._engine) as session:
            return session.get_one(AlchemyMessage, id)

    def change(self, id: str, content: str) -> None:
        with orm.Session(self._engine) as session:
            session.get_one(AlchemyMessage, id).content = content
            session.commit()

    def all(self) -> Sequence[Any]:
        with orm.Session(self._engine) as session:
            return session.scalars(sa.select(AlchemyMessage)).all()

    def close(self) -> None:
        self._engine.dispose()


# -- peewee --------------------------------------------------------------------------------------------------------

_database = peewee.DatabaseProxy()


class PeeweeMessage(peewee.Model):
    id = peewee.CharField(primary_key=True)
    thread_id = peewee.CharField(index=True)
    content = peewee.TextField()
    role = peewee.CharField()
    type = peewee.CharField()
    created_at = peewee.DateTimeField()
    resource_id = peewee.CharField(null=True, index=True)

    class Meta:
        database = _database
        table_name = "messages"
        indexes = ((("thread_id", "created_at"), False),)


class Peewee(Side):
    """Peewee, whose models know one database at a time: it is bound to this file's for each operation."""

    def __init__(self, path: Path) -> None:
        pragmas = {"journal_mode": "wal", "synchronous": "normal", "cache_size": -65536}
        self._database = peewee.SqliteDatabase(str(path), pragmas=pragmas)
        _database.initialize(self._database)
        self._database.create_tables([PeeweeMessage])

    def insert(self, rows: Sequence[dict[str, Any]]) -> None:
        _database.initialize(self._database)
        with self._database.atomic():
            if len(rows) == 1:
                PeeweeMessage.create(**rows[0])
            else:
                PeeweeMessage.bulk_create([PeeweeMessage(**row) for row in rows], batch_size=100)

    def last(self, thread_id: str) -> Sequence[Any]:
        model = PeeweeMessage
        _database.initialize(self._database)
        query = model.select().where(model.thread_id == thread_id).order_by(model.created_at.desc()).limit(20)
        return list(query)

    def get(self, id: str) -> Any:
        _database.initialize(self._database)
        return PeeweeMessage.get_by_id(id)

    def change(self, id: str, content: str) -> None:
        _database.initialize(self._database)
        with self._database.atomic():
            message = PeeweeMessage.get_by_id(id)
            message.content = content
            message.save(only=[PeeweeMessage.content])

    def all(self) -> Sequence[Any]:
        _database.initialize(self._database)
        return list(PeeweeMessage.select())

    def close(self) -> None:
        self._database.close()


# -- the floor -----------------------------------------------------------------------------------------------------

_TABLES = """
CREATE TABLE bodies (id TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID;
CREATE TABLE by_thread (thread_id TEXT, id TEXT, PRIMARY KEY (thread_id, id)) WITHOUT ROWID;
CREATE TABLE by_thread_created (
    thread_id TEXT, created_at TEXT, id TEXT, PRIMARY KEY (thread_id, created_at, id)) WITHOUT ROWID;
CREATE TABLE by_resource (resource_id TEXT, id TEXT, PRIMARY KEY (resource_id, id)) WITHOUT ROWID;
"""


class Record(msgspec.Struct):
    """A message as the floor's programmer would declare it."""

    id: str
    thread_id: str
    content: str
    role: str
    type: str
    created_at: datetime
    resource_id: str | None = None


class Floor(Side):
    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        _tune(self._connection)
        self._connection.executescript(_TABLES)
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Record).decode

    def insert(self, rows: Sequence[dict[str, Any]]) -> None:
        run, many, encode = self._connection.execute, self._connection.executemany, self._encode
        records = [Record(**row) for row in rows]
        run("BEGIN IMMEDIATE")
        many("INSERT INTO bodies VALUES (?, ?)", [(one.id, encode(one)) for one in records])
        many("INSERT INTO by_thread VALUES (?, ?)", [(one.thread_id, one.id) for one in records])
        many(
            "INSERT INTO by_thread_created VALUES (?, ?, ?)",
            [(one.thread_id, one.created_at.isoformat(), one.id) for one in records],
        )
        many("INSERT INTO by_resource VALUES (?, ?)", [(one.resource_id, one.id) for one in records])
        run("COMMIT")

    def last(self, thread_id: str) -> Sequence[Any]:
        rows = self._connection.execute(
            "SELECT body FROM by_thread_created JOIN bodies USING (id) WHERE thread_id = ? "
            "ORDER BY created_at DESC, id DESC LIMIT 20",
            (thread_id,),
        )
        decode = self._decode
        return [decode(body) for (body,) in rows]

    def get(self, id: str) -> Any:
        (body,) = self._connection.execute("SELECT body FROM bodies WHERE id = ?", (id,)).fetchone()
        return self._decode(body)

    def change(self, id: str, content: str) -> None:
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        (body,) = run("SELECT body FROM bodies WHERE id = ?", (id,)).fetchone()
        record = self._decode(body)
        record.content = content
        run("UPDATE bodies SET body = ? WHERE id = ?", (self._encode(record), id))
        run("COMMIT")

    def all(self) -> Sequence[Any]:
        decode = self._decode
        return [decode(body) for (body,) in self._connection.execute("SELECT body FROM bodies")]

    def close(self) -> None:
        self._connection.close()


def _tune(connection: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -65536")
