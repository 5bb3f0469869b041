"""What Convex evaluates elsewhere, evaluated here over documents that were fetched.

Ranges, order, filters, skips and limits of reads; and what a write expects of a document.
"""

from __future__ import annotations

from collections.abc import Iterable

from convexorm.deployments.documents import answered, derived, plain
from convexorm.deployments.filters import compile_filter
from convexorm.requests import Bound, Document, Expect, OneOf, Range, Read, ReadResult, index_key
from convexorm.schema import Table
from convexorm.values import MISSING, Missing, Value, canonical, same
from mastra_convex.foreign.tables import TYPED

__all__ = ["differing", "evaluated"]

_Key = tuple[bytes, ...]


def evaluated(read: Read, documents: Iterable[Document]) -> ReadResult:
    """The whole answer to a read whose documents are all among these."""
    return derived(read, answered(plain(read), _matches(read, documents)))


def _matches(read: Read, documents: Iterable[Document]) -> list[Document]:
    """The documents of the range for which the filter holds, in scan order."""
    backwards = read.order == "desc"
    parts = [_Within(part) for part in read.range.parts]
    after = tuple(map(canonical, read.after)) if read.after else None
    keyed = [(_key(document, read.range), document) for document in documents]
    chosen = [
        (key, document)
        for key, document in keyed
        if any(within(key) for within in parts) and (after is None or _is_behind(read, key, after))
    ]
    chosen.sort(key=lambda one: one[0][read.merge or 0 :], reverse=backwards)
    holds = compile_filter(read.filter) if read.filter is not None else None
    matches = [(key, document) for key, document in chosen if holds is None or holds(document)]
    if read.distinct is not None:
        firsts = {key[: read.distinct]: document for key, document in reversed(matches)}
        return list(reversed(firsts.values()))
    return [document for _, document in matches]


def _is_behind(read: Read, key: _Key, after: _Key) -> bool:
    mine, place = key[read.merge or 0 : len(after)], after[read.merge or 0 :]
    return mine < place if read.order == "desc" else mine > place


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
        name
        for name, value in expect.items()
        if not any(
            same(stored(name, document.get(name, MISSING)), stored(name, one))
            for one in (value.values if isinstance(value, OneOf) else (value,))
        )
    ]
