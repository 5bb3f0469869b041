"""The entities of the tests: every kind of column and index. `tests/functions/schema.ts` is generated from them."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import attrs

from convexorm import Counter as Tally
from convexorm import Index, Int64, IsoDatetime, JsonText, Mapped, Model, SearchIndex, Sum, VectorIndex, field
from convexorm.types import JsonType


class Color(Enum):
    RED = "red"
    GREEN = "green"


@attrs.define
class Address:
    street: str
    since: datetime
    flat: int | None = None


class Task(Model, table="tasks"):
    """Known by its `_id`."""

    text: Mapped[str]
    owner_id: Mapped[str] = field(name="ownerId")
    done: Mapped[bool] = field(default=False)
    rank: Mapped[float | None] = field(default=None)
    due: Mapped[datetime | None] = field(default=None)
    by_owner = Index("owner_id", "done")
    by_owner_and_due = Index("owner_id", "due")
    by_rank = Index("rank")


class Note(Model, table="notes", primary_key="id"):
    """Known by an id of its own."""

    id: Mapped[str]
    title: Mapped[str] = field(default="")
    body: Mapped[str] = field(default="")
    tags: Mapped[list[str]] = field(factory=list)
    meta: Mapped[dict[str, Any] | None] = field(default=None, type=JsonType())
    extra: Mapped[JsonText | None] = field(default=None)
    by_note_id = Index("id")
    by_title = Index("title")


class Counter(Model, table="counters", primary_key="name"):
    name: Mapped[str]
    count: Mapped[int] = field(default=0)
    by_name = Index("name")


class Payment(Model, table="payments", primary_key="id"):
    """Counted, and added up."""

    id: Mapped[str]
    owner_id: Mapped[str] = field(name="ownerId")
    paid: Mapped[bool] = field(default=False)
    amount: Mapped[float | None] = field(default=None)
    by_payment_id = Index("id")
    total = Tally("owner_id")
    all_of_them = Tally()
    paid_or_not = Tally("owner_id", "paid")
    sum_of_owner = Sum("amount", by="owner_id")


class Everything(Model, table="everything", primary_key="key"):
    """One column of each kind."""

    key: Mapped[str]
    text: Mapped[str]
    number: Mapped[float]
    whole: Mapped[int]
    big: Mapped[Int64]
    flag: Mapped[bool]
    raw: Mapped[bytes]
    at: Mapped[datetime]
    iso: Mapped[IsoDatetime]
    color: Mapped[Color]
    size: Mapped[Literal["s", "m", 3]]
    uuid: Mapped[UUID]
    numbers: Mapped[list[float]]
    labels: Mapped[set[str]]
    pair: Mapped[tuple[str, int]]
    counts: Mapped[dict[str, int]]
    address: Mapped[Address]
    anything: Mapped[Any]
    document: Mapped[dict[str, Any]] = field(type=JsonType())
    text_json: Mapped[JsonText] = field(name="textJson")
    absent: Mapped[str | None] = field(default=None)
    null: Mapped[str | None] = field(default=None, none="null")
    either: Mapped[str | None] = field(default=None, none="either")
    by_key = Index("key")
    by_either = Index("either")
    by_big = Index("big")


class Anything(Model, table="anything", primary_key="key"):
    """Two fields that hold any value, or are missing."""

    key: Mapped[str]
    a: Mapped[Any] = field(optional=True, default=None)
    b: Mapped[Any] = field(optional=True, default=None)
    text: Mapped[str | None] = field(default=None)
    by_key = Index("key")
    by_a = Index("a")
    by_a_and_b = Index("a", "b")


class Chunk(Model, table="chunks"):
    text: Mapped[str]
    kind: Mapped[str]
    embedding: Mapped[list[float] | None] = field(default=None)
    by_embedding = VectorIndex("embedding", dimensions=3, filter_fields=("kind",))


class Message(Model, table="messages", primary_key="id"):
    """Looked for by its words."""

    id: Mapped[str]
    text: Mapped[str | None] = field(default=None)
    channel: Mapped[str | None] = field(default=None)
    read: Mapped[bool] = field(default=False)
    by_message_id = Index("id")
    by_text = SearchIndex("text", filter_fields=("channel", "read"))
    by_text_alone = SearchIndex("text")


MODELS: tuple[type[Model], ...] = (Task, Note, Counter, Payment, Everything, Anything, Chunk, Message)
