"""What a read went through: intervals of indexes. It is answered anew when a commit has written a key in one of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs

from convexorm.deployments.embedded.tables import StoredTable
from convexorm.deployments.embedded.written import Keys
from convexorm.requests import Follow, Followed, Range, Read, ReadResult, index_key
from convexorm.schema import Table
from convexorm.values import canonical

__all__ = ["Interval", "intervals_of", "meet"]

_BEHIND = b"\xff"
"""Greater than any tag byte: behind everything that begins with the bytes before it."""


@attrs.frozen
class Interval:
    """Keys of one index, from `start` on and before `end`. `column` is the index's; None where the table was not there."""

    table: str
    column: str | None
    start: bytes
    end: bytes

    def meets(self, written: Keys) -> bool:
        """Whether a commit that wrote these keys wrote one of these."""
        columns = written.get(self.table)
        if columns is None:
            return False
        if self.column not in columns:  # it is of another moment of the table
            return True
        between, keys = columns[self.column]
        if between:
            first, last = keys
            return first < self.end and last >= self.start
        place = bisect_left(keys, self.start)
        return place < len(keys) and keys[place] < self.end


def meet(intervals: Iterable[Interval], written: Keys) -> bool:
    """Whether a commit wrote into one of some intervals."""
    return any(one.meets(written) for one in intervals)


Stored = Callable[[Table], StoredTable | None]


def intervals_of(read: Read, result: ReadResult, stored: Stored, looked: Sequence[Range]) -> frozenset[Interval]:
    """What the answer to a read depends on: its ranges as far as it went, those that its edges led to, and those that its
    conditions have `looked` into.
    """
    found = set(_edges(read.follow, result.followed, stored))
    for range_ in looked:
        found.update(_of_range(range_, stored))
    found.update(_cut(read, result, list(_of_range(read.range, stored))))
    return frozenset(found)


def _of_range(range_: Range, stored: Stored) -> Iterator[Interval]:
    """All of a range."""
    table = stored(range_.table)
    column = None if table is None else table.columns.get(range_.index) or _OWN.get(range_.index)
    for part in range_.parts:
        yield Interval(range_.table.name, column, *part.edges())


_OWN = {"by_id": "id", "by_creation_time": "tick"}


def _cut(read: Read, result: ReadResult, intervals: list[Interval]) -> list[Interval]:
    """The intervals of a read up to its last document, where it went no further."""
    others = (read.merge, read.distinct, read.sort, read.fold, read.search, read.pack, read.digest)
    whole = read.limit is None or result.count < read.limit or read.count or read.peek
    if whole or any(one is not None for one in others):
        return intervals
    last = result.last or (index_key(result.docs[-1], read.range) if result.docs and read.select is None else None)
    if last is None:
        return intervals
    key = b"".join(map(canonical, last if read.range.index == "by_id" else last[:-1]))
    if read.order == "asc":
        return [attrs.evolve(one, end=min(one.end, key + _BEHIND)) for one in intervals if one.start <= key]
    return [attrs.evolve(one, start=max(one.start, key)) for one in intervals if one.end > key]


def _edges(follow: Sequence[Follow], followed: Sequence[Followed], stored: Stored) -> Iterator[Interval]:
    for edge, one in zip(follow, followed, strict=False):
        for group in one.groups.values():
            yield from _of_range(edge.range.behind(group.key), stored)
        yield from _edges(edge.follow, one.followed, stored)
