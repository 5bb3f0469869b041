"""The writes of a commit, one document or range each, and what they say of keys and of what is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias

import msgspec

from convexorm.computed import Operand
from convexorm.conditions import Condition
from convexorm.data import Data, Draft
from convexorm.errors import StaleDataError
from convexorm.requests.ranges import Document, KeyValue, Range
from convexorm.schema import SCHEDULED, Table
from convexorm.values import MISSING, Missing, Value, canonical, reach, same

__all__ = [
    "Cancel",
    "Delete",
    "DeleteRange",
    "Expect",
    "Insert",
    "Key",
    "OneOf",
    "Patch",
    "Recount",
    "Replace",
    "Schedule",
    "Target",
    "Unique",
    "Upsert",
    "Write",
    "claimed",
    "greater_stored",
    "meets",
    "taken",
]


class Key(Data, frozen=True):
    """The first document, in index order, whose first index fields are `key`."""

    hidden = ("key",)
    index: str
    key: KeyValue


class Unique(Data, frozen=True):
    """A key that no two documents are to hold once a commit is applied.

    It is the document's own in the index, as the write leaves it, if `key` is None. Then a document that lacks all of the
    fields has no key, and one that had the key before keeps it. Else it is the first fields of an index, as given.
    """

    hidden = ("key",)
    index: str
    key: KeyValue | None = None


Target: TypeAlias = str | Key
"""Which document: an `_id`, or a key."""


class OneOf(Data, frozen=True):
    """An expectation that several values meet."""

    hidden = ("values",)
    values: tuple[Value, ...]


Expect: TypeAlias = Mapping[str, Value | Missing | OneOf]
"""What a write expects the document's fields to be. Large values travel as digests."""


def meets(value: Value | Missing, expected: Value | Missing | OneOf) -> bool:
    """Whether a field holds what is expected of it."""
    return any(same(value, one) for one in expected.values) if isinstance(expected, OneOf) else same(value, expected)


class Insert(Draft):
    """A new document; StaleDataError if another one holds a key of `unique` after the commit, or a given one before.

    `returning` asks for the creation time, for which Convex has to read the document back.
    """

    hidden = ("doc",)
    table: Table
    doc: Document
    unique: Sequence[Unique] = ()
    returning: bool = False
    refs: Mapping[str, int] = msgspec.field(default_factory=dict)
    """For fields that are to hold the `_id` of a document of the same commit which write inserts that, by position."""


class Upsert(Draft):
    """Replace the document under `at` whole, or insert it.

    Fields in `keep` stay as stored where they are stored, those in `greatest` where what is stored is greater. Those in
    `identity` stay, too, and are answered. StaleDataError if several documents hold a key of `unique` after the commit.
    """

    hidden = ("doc",)
    table: Table
    at: Key
    doc: Document
    keep: tuple[str, ...] = ()
    greatest: tuple[str, ...] = ()
    returning: bool = False
    unique: Sequence[Unique] = ()
    identity: tuple[str, ...] = ()
    refs: Mapping[str, int] = msgspec.field(default_factory=dict)


class Patch(Draft):
    """Change some fields of a document; StaleDataError if several hold a key of `unique` after the commit.

    Fields to set that are in `greatest` stay as stored where what is stored is greater; those in `compute` are computed of
    what is stored. With `where` a document for which it does not hold is left as it is, as if it were not there.
    """

    hidden = ("set", "expect")
    table: Table
    at: Target
    set: Mapping[str, Value]
    unset: tuple[str, ...] = ()
    expect: Expect = msgspec.field(default_factory=dict)
    missing: Literal["fail", "skip"] = "fail"
    unique: Sequence[Unique] = ()
    greatest: tuple[str, ...] = ()
    compute: Mapping[str, Operand] = msgspec.field(default_factory=dict)
    where: Condition | None = None
    refs: Mapping[str, int] = msgspec.field(default_factory=dict)


class Replace(Draft):
    """Replace a document whole; StaleDataError if several hold a key of `unique` after the commit."""

    hidden = ("doc", "expect")
    table: Table
    at: Target
    doc: Document
    expect: Expect = msgspec.field(default_factory=dict)
    missing: Literal["fail", "skip"] = "fail"
    unique: Sequence[Unique] = ()


class Delete(Draft):
    """Delete a document. One that `tells` answers which documents were deleted with it, and which have lost a field."""

    hidden = ("expect",)
    table: Table
    at: Target
    expect: Expect = msgspec.field(default_factory=dict)
    missing: Literal["fail", "skip"] = "fail"
    tells: bool = False


class DeleteRange(Draft):
    """Delete the matches of a range: all or LimitExceeded without `limit`, else up to that many. `tells` as in a Delete."""

    range: Range
    filter: Condition | None = None
    limit: int | None = None
    tells: bool = False

    @property
    def table(self) -> Table:
        return self.range.table


class Recount(Draft):
    """Count the documents of a table anew, up to `limit` of them, for its counters; the only write of its commit.

    Where it takes several, each goes on behind the one before, and what others write meanwhile is counted.
    """

    table: Table
    limit: int


class Schedule(Draft):
    """A mutation or an action is to run once the commit is applied: `delay` milliseconds later, or `at` a time in
    milliseconds since 1970. Answered with its id in Convex's own table of scheduled functions.
    """

    hidden = ("arguments",)
    table: ClassVar[Table] = SCHEDULED
    path: str
    arguments: Mapping[str, Value]
    delay: float | None = None
    at: float | None = None


class Cancel(Draft):
    """A scheduled function is not to run, unless it has begun; answered with whether it had not."""

    table: ClassVar[Table] = SCHEDULED
    id: str


Write: TypeAlias = Insert | Upsert | Patch | Replace | Delete | DeleteRange | Recount | Schedule | Cancel


def greater_stored(stored: Document, given: Document, greatest: Sequence[str]) -> dict[str, Value]:
    """Those of the fields in `greatest` of which more is stored than given, as they are stored."""
    fields = [name for name in greatest if name in stored]
    return {name: stored[name] for name in fields if canonical(stored[name]) > canonical(given.get(name, MISSING))}


def claimed(
    table: Table, unique: Sequence[Unique], document: Document, before: Document | None = None
) -> list[tuple[Key, bool]]:
    """The keys that a write is to make its document's own, which was `before` the write; and whether they were given."""
    keys: list[tuple[Key, bool]] = []
    for one in unique:
        if one.key is not None:
            keys.append((Key(one.index, one.key), True))
            continue
        fields = table.declared_fields(one.index)
        key = tuple([reach(document, field) for field in fields])
        held = before is not None and all(map(same, key, [reach(before, field) for field in fields]))
        if not held and any(value is not MISSING for value in key):
            keys.append((Key(one.index, key), False))
    return keys


def taken(table: Table, key: Key, position: int) -> StaleDataError:
    """The refusal of a write whose key is another document's."""
    fields = table.key_fields(key.index)[: len(key.key)]
    return StaleDataError(table=table.name, reason="exists", write=position, fields=fields)
