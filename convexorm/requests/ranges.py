"""Ranges of indexes, which reads and writes are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec.structs import replace

from convexorm.data import Data
from convexorm.errors import IndexRangeError, LimitExceeded
from convexorm.requests.limits import MAX_RANGES
from convexorm.schema import Table
from convexorm.values import Missing, Value, canonical, reach

__all__ = ["Bound", "Document", "KeyValue", "Range", "index_key", "key_length"]

Document: TypeAlias = Mapping[str, Value]


KeyValue: TypeAlias = tuple[Value | Missing, ...]
"""Values of the first fields of an index; of all of them, `_creationTime` and `_id` included, where a read resumes."""


class Bound(Data, frozen=True):
    """One end of a range, itself part of it or not."""

    hidden = ("value",)
    value: Value | Missing
    inclusive: bool


class Range(Data, frozen=True):
    """A range of an index: equalities on its first fields, then bounds on the next.

    With a `union` it is the documents of several ranges of that index instead, which are in the index's order and have no
    document in common; none of them is a union itself.
    """

    hidden = ("eq",)
    table: Table
    index: str
    eq: KeyValue = ()
    lower: Bound | None = None
    upper: Bound | None = None
    union: tuple[Range, ...] | None = None

    @property
    def parts(self) -> tuple[Range, ...]:
        """The ranges it consists of, in the index's order."""
        return (self,) if self.union is None else self.union

    def of(self, table: Table) -> Range:
        """The same range of another table that has this index."""
        union = None if self.union is None else tuple(part.of(table) for part in self.union)
        return replace(self, table=table, union=union)

    def behind(self, key: Value) -> Range:
        """The same range behind a first field that is `key`."""
        if self.union is None:
            return replace(self, eq=(key, *self.eq))
        return replace(self, union=tuple(part.behind(key) for part in self.union))

    def without_key(self) -> Range:
        """The same range, without what it says of the first field."""
        if self.union is None:
            return replace(self, eq=self.eq[1:])
        return replace(self, union=tuple(part.without_key() for part in self.union))

    def edges(self) -> tuple[bytes, bytes]:
        """The bytes from which on, and those before which, the canonical forms of its documents' keys lie."""
        common = b"".join(map(canonical, self.eq))
        start, end = common, common + _BEHIND
        if self.lower is not None:
            start += canonical(self.lower.value) + (b"" if self.lower.inclusive else _BEHIND)
        if self.upper is not None:
            end = common + canonical(self.upper.value) + (_BEHIND if self.upper.inclusive else b"")
        return start, end

    def check(self) -> None:
        """Raise IndexRangeError or LimitExceeded unless this is a range of a declared index, or a union of some."""
        if self.union is None:
            self._check_fits()
            return
        if len(self.union) > MAX_RANGES:
            raise LimitExceeded("ranges of one read", maximum=MAX_RANGES, actual=len(self.union), table=self.table.name)
        until = b""
        for part in self.union:
            part._check_fits()
            start, end = part.edges()
            if start < until:
                raise self._wrong("its ranges overlap, or are not in the index's order")
            until = max(start, end)
        if self.eq or self.lower or self.upper:
            raise self._wrong("a union of ranges has no equalities and bounds of its own")

    def _wrong(self, problem: str) -> IndexRangeError:
        fields = self.table.key_fields(self.index)
        return IndexRangeError(problem, table=self.table.name, index=self.index, fields=fields)

    def _check_fits(self) -> None:
        fields = self.table.key_fields(self.index)
        bounded = self.lower is not None or self.upper is not None
        if len(self.eq) + bounded > len(fields):
            raise self._wrong(f"{len(self.eq)} equalities and {'a' if bounded else 'no'} bound, for {len(fields)} fields")


_BEHIND = b"\xff"
"""Greater than any tag byte: behind everything that starts with the bytes before it."""


def index_key(document: Document, range: Range) -> KeyValue:
    """The key of a document in the range's index, `_creationTime` and `_id` included."""
    fields = range.table.key_fields(range.index)
    return tuple(reach(document, field) for field in (fields if fields[-1] == "_id" else (*fields, "_id")))


def key_length(range: Range) -> int:
    """How many values an index key has, `_creationTime` and `_id` included."""
    fields = range.table.key_fields(range.index)
    return len(fields) + (fields[-1] != "_id")
