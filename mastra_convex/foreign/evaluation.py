"""What Convex evaluates elsewhere, evaluated here over documents that were fetched.

Ranges, order, filters, skips and limits of reads; and what a write expects of a document.
"""

from __future__ import annotations

from collections.abc import Iterable

from convexorm.deployments.documents import document_digest, packed
from convexorm.deployments.filters import compile_filter
from convexorm.requests import Bound, Document, Expect, Range, Read, ReadResult, index_key, whole_digest
from convexorm.schema import Table
from convexorm.values import MISSING, Missing, Value, canonical, same
from mastra_convex.foreign.tables import TYPED

__all__ = ["differing", "evaluated"]

_Key = tuple[bytes, ...]


def evaluated(read: Read, documents: Iterable[Document]) -> ReadResult:
    """The whole answer to a read whose documents are all among these."""
    matches = _matches(read, documents)
    skipped = min(read.skip, len(matches))
    found = matches[skipped:]
    more = read.peek and read.limit is not None and len(found) > read.limit
    found = found[: read.limit]
    if read.count:
        return ReadResult((), len(found), skipped, more)
    if read.pack is not None:
        return packed(ReadResult(found, len(found), skipped, more), read.pack)
    if read.digest is None:
        return ReadResult(found, len(found), skipped, more)
    digests = {document["_id"]: document_digest(document) for document in found}
    if read.digest == "all":
        digests = {"": whole_digest(digests)}
    return ReadResult((), 0, 0, False, digests=digests)


def _matches(read: Read, documents: Iterable[Document]) -> list[Document]:
    """The documents of the range for which the filter holds, in scan order."""
    backwards = read.order == "desc"
    within = _Within(read.range)
    after = tuple(map(canonical, read.after)) if read.after else None
    keyed = [(_key(document, read.range), document) for document in documents]
    chosen = [
        (key, document)
        for key, document in keyed
        if within(key) and (after is None or (key < after if backwards else key > after))
    ]
    chosen.sort(key=lambda one: one[0], reverse=backwards)
    holds = compile_filter(read.filter) if read.filter is not None else None
    return [document for _, document in chosen if holds is None or holds(document)]


def _key(document: Document, range: Range) -> _Key:
    return tuple(map(canonical, index_key(document, range)))


class _Within:
    """Whether an index key lies in a range."""

    def __init__(self, range: Range) -> None:
        self._prefix = tuple(map(canonical, range.eq))
        self._place = len(range.eq)
        self._lower = _bound(range.lower)
        self._upper = _bound(range.upper)

    def __call__(self, key: _Key) -> bool:
        if key[: self._place] != self._prefix:
            return False
        if self._lower is not None:
            value, inclusive = self._lower
            if key[self._place] < value or (key[self._place] == value and not inclusive):
                return False
        if self._upper is not None:
            value, inclusive = self._upper
            if key[self._place] > value or (key[self._place] == value and not inclusive):
                return False
        return True


def _bound(bound: Bound | None) -> tuple[bytes, bool] | None:
    return None if bound is None else (canonical(bound.value), bound.inclusive)


def differing(table: Table, document: Document, expect: Expect) -> list[str]:
    """The fields that are not what a write expects. What the handler does not store is as if missing, and so is null."""
    typed = TYPED.get(table.name)

    def stored(name: str, value: Value | Missing) -> Value | Missing:
        if typed is not None and name not in typed.fields:
            return MISSING
        if value is None or value is MISSING:
            return MISSING if typed is None else typed.defaults.get(name, MISSING)
        return value

    return [
        name for name, value in expect.items() if not same(stored(name, document.get(name, MISSING)), stored(name, value))
    ]
