"""Sets of values of one field, as intervals of Convex's total order.

A *cut* is a place between values: before or behind all values whose canonical form is the given bytes. An interval lies
between two cuts, a set is disjoint intervals in order that do not touch each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from convexorm.conditions import Operator
from convexorm.requests import Bound
from convexorm.values import MISSING, Missing, Value, canonical

__all__ = ["Values"]

_Cut: TypeAlias = tuple[bytes, int]
"""Canonical bytes, and 0 for before them or 1 for behind them."""
_Interval: TypeAlias = tuple[_Cut, _Cut]

_FIRST: _Cut = (canonical(MISSING), 0)
_LAST: _Cut = (b"\xff", 0)
"""Behind every value: no tag begins so."""


class Values:
    """A set of values, and what stands at the ends of its intervals."""

    __slots__ = ("_ends", "intervals")

    def __init__(self, intervals: Sequence[_Interval], ends: dict[bytes, Value | Missing]) -> None:
        self.intervals = intervals
        self._ends = ends

    @classmethod
    def compared(cls, op: Operator, value: Value | Missing) -> Values:
        """The values for which `value op` holds, as in `lt 5`."""
        key = canonical(value)
        before, behind = (key, 0), (key, 1)
        intervals: dict[str, list[_Interval]] = {
            "eq": [(before, behind)],
            "ne": [(_FIRST, before), (behind, _LAST)],
            "lt": [(_FIRST, before)],
            "lte": [(_FIRST, behind)],
            "gt": [(behind, _LAST)],
            "gte": [(before, _LAST)],
        }
        return cls([one for one in intervals[op] if one[0] < one[1]], {key: value})

    @classmethod
    def among(cls, values: Iterable[Value | Missing]) -> Values:
        """Just these values."""
        ends = {canonical(value): value for value in values}
        return cls([((key, 0), (key, 1)) for key in sorted(ends)], ends)

    def __and__(self, other: Values) -> Values:
        met: list[_Interval] = []
        mine, others = iter(self.intervals), iter(other.intervals)
        one, two = next(mine, None), next(others, None)
        while one is not None and two is not None:
            start, end = max(one[0], two[0]), min(one[1], two[1])
            if start < end:
                met.append((start, end))
            if one[1] <= two[1]:
                one = next(mine, None)
            else:
                two = next(others, None)
        return Values(met, {**self._ends, **other._ends})

    @classmethod
    def any_of(cls, several: Sequence[Values]) -> Values:
        """The values that are in one of several sets."""
        joined: list[_Interval] = []
        for start, end in sorted(interval for one in several for interval in one.intervals):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((start, end))
        return cls(joined, {key: value for one in several for key, value in one._ends.items()})

    @classmethod
    def all_of(cls, several: Sequence[Values]) -> Values:
        """The values that are in all of several sets. It takes no longer for each where there are many."""
        return several[0] if len(several) == 1 else ~cls.any_of([~one for one in several])

    def __invert__(self) -> Values:
        cuts = [_FIRST, *(cut for interval in self.intervals for cut in interval), _LAST]
        gaps = list(zip(cuts[::2], cuts[1::2], strict=True))
        return Values([gap for gap in gaps if gap[0] < gap[1]], self._ends)

    @property
    def is_everything(self) -> bool:
        """Whether every value, and a missing one, is in it."""
        return list(self.intervals) == [(_FIRST, _LAST)]

    @property
    def points(self) -> list[Value | Missing] | None:
        """All values in order, where they can be told one by one; else None."""
        if not all(_is_point(interval) for interval in self.intervals):
            return None
        return [self._ends[start[0]] if start != _FIRST else MISSING for start, _ in self.intervals]

    def bounds(self) -> list[tuple[Bound | None, Bound | None]]:
        """The lower and the upper bound of each interval, in order."""
        return [(self._lower(start), self._upper(end)) for start, end in self.intervals]

    @property
    def sides(self) -> float:
        """How much its intervals leave out: 2 where all of them lie between bounds, 1 with one open end, 0.5 with two."""
        if not self.intervals:
            return 2
        opened = (self.intervals[0][0] == _FIRST) + (self.intervals[-1][1] == _LAST)
        return (2, 1, 0 if self.is_everything else 0.5)[opened]

    def _lower(self, cut: _Cut) -> Bound | None:
        return None if cut == _FIRST else Bound(self._ends[cut[0]], cut[1] == 0)

    def _upper(self, cut: _Cut) -> Bound | None:
        return None if cut == _LAST else Bound(self._ends[cut[0]], cut[1] == 1)


def _is_point(interval: _Interval) -> bool:
    (start, before), (end, behind) = interval
    return start == end and before < behind
