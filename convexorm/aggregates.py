"""What documents come to: numbers of them, exact sums, least and greatest values, for each of their groups.

A call answers what its documents come to in a form that can be joined with what others come to, so that nothing depends on
how many calls it takes, nor on the order of the documents.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from convexorm.foreign import is_int64
from convexorm.values import MISSING, Missing, Value, canonical

__all__ = ["BEGINNINGS", "LEAST", "Extreme", "Group", "Groups", "Partial", "Sum", "Tally", "joined_groups", "odds_of"]

LEAST = -1074
"""The exponent of the least bit of a float64."""
_SUMS = 50
"""How often what was left out of a sum is summed. Twice is enough, but for numbers of very different sizes."""
_NUMBERS = frozenset((int, float))
_ABSENT = frozenset((type(None), Missing))


@attrs.define
class Sum:
    """The sum of `n` numbers: `bits` least bits of float64, `int64` of integers of 64 bits; `odds` are how many of them
    were infinite, negatively infinite, and not a number, so that these can be taken away again.
    """

    n: int = 0
    bits: int = 0
    int64: int = 0
    odds: tuple[int, int, int] = (0, 0, 0)

    def take(self, value: Value) -> None:
        """Add a value, if it is a number."""
        kind = type(value)
        if kind is int or (kind is float and value.is_integer()):
            self.bits += int(value) << -LEAST
        elif kind is not float:
            if not is_int64(value):
                return
            self.int64 += int(value.value)
        elif math.isfinite(value):
            numerator, denominator = value.as_integer_ratio()
            self.bits += numerator << (-LEAST + 1 - denominator.bit_length())
        else:
            self.odds = _added(self.odds, odds_of(value))
        self.n += 1

    def take_all(self, values: Sequence[Value | Missing]) -> None:
        """Add several values, those that are numbers."""
        kinds, given = _given(values)
        if kinds <= _NUMBERS:
            self.take_numbers(given)
            return
        for value in given:
            self.take(value)

    def take_numbers(self, values: Sequence[float]) -> None:
        """Add several values that are all numbers, ints or floats."""
        bits = _bits_of(values)
        if bits is None:
            for value in values:
                self.take(value)
        else:
            self.bits += bits
            self.n += len(values)

    @property
    def odd(self) -> float:
        """The sum of those that are not finite; 0 of none."""
        infinite, negative, others = self.odds
        if others or (infinite and negative):
            return math.nan
        return math.inf if infinite else -math.inf if negative else 0.0

    @property
    def total(self) -> float | int:
        """The sum: an int where there are only integers of 64 bits, else the float64 next to it."""
        if self.odd != 0:  # infinite, or not a number
            return self.odd
        if self.int64 and not self.bits:
            return self.int64
        return _rounded(self._exact, 1 << -LEAST)

    @property
    def _exact(self) -> int:
        """The sum of those that are finite, in least bits."""
        return self.bits + (self.int64 << -LEAST)

    @property
    def whole(self) -> int:
        """The sum of whole numbers, exactly."""
        return (self.bits >> -LEAST) + self.int64

    @property
    def average(self) -> float | None:
        """The sum divided by how many there are, rounded once; None of nothing."""
        if self.n == 0:
            return None
        if self.odd != 0:
            return self.odd
        return _rounded(self._exact, self.n << -LEAST)

    def less(self, other: Sum) -> Sum:
        """Without the numbers of another sum, which are among these."""
        return Sum(self.n - other.n, self.bits - other.bits, self.int64 - other.int64, _added(self.odds, other.odds, -1))

    def text(self) -> str:
        """The sum as JSON text, which `of_text` reads."""
        zeros = (self.bits & -self.bits).bit_length() - 1 if self.bits else 0
        exact = [f"{self.bits >> zeros:x}", LEAST + zeros]
        return json.dumps({"n": self.n, "exact": exact, "int64": str(self.int64), "odd": self.odds})

    @classmethod
    def of_text(cls, text: str) -> Sum:
        """The sum of `text`, as the functions write it, too. Raises ValueError or TypeError for any other text."""
        held = json.loads(text)
        digits, exponent = held["exact"]
        return cls(held["n"], int(digits, 16) << (exponent - LEAST), int(held["int64"]), _odds_told(held["odd"]))

    def joined(self, later: Sum) -> Sum:
        return Sum(self.n + later.n, self.bits + later.bits, self.int64 + later.int64, _added(self.odds, later.odds))


def _bits_of(values: Sequence[float]) -> int | None:
    """The exact sum of numbers in least bits of float64; None of some for which it takes one after the other.

    `fsum` rounds once: what it has left out is summed again, until nothing is left.
    """
    try:
        total = sum(values)
        if type(total) is int:  # as all of them are
            return total << -LEAST
        bits = sum([value for value in values if type(value) is int]) << -LEAST
        left = [value for value in values if type(value) is float]
        for _ in range(_SUMS):
            total = math.fsum(left)
            numerator, denominator = total.as_integer_ratio()
            bits += numerator << (-LEAST + 1 - denominator.bit_length())
            if total == 0:
                return bits
            left.append(-total)
    except (OverflowError, ValueError):  # something is not finite, or becomes so
        return None
    return None


def odds_of(value: float) -> tuple[int, int, int]:
    """A number that is not finite, or their sum, as `Sum` counts them; 0 is none."""
    return (int(value == math.inf), int(value == -math.inf), int(math.isnan(value)))


def _added(one: tuple[int, int, int], other: tuple[int, int, int], sign: int = 1) -> tuple[int, int, int]:
    return (one[0] + sign * other[0], one[1] + sign * other[1], one[2] + sign * other[2])


def _odds_told(told: Any) -> tuple[int, int, int]:
    """From the text of a sum; in earlier files it is their sum."""
    if isinstance(told, str):
        return odds_of(float(told))
    infinite, negative, others = told
    return (infinite, negative, others)


def _rounded(numerator: int, denominator: int) -> float:
    """The float64 next to a fraction, which the division of ints is."""
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


@attrs.define
class Extreme:
    """The least (`side` -1) or greatest (1) of values, in Convex's order; MISSING of none."""

    side: int
    value: Value | Missing = attrs.field(default=MISSING, repr=False)

    def take(self, value: Value) -> None:
        """Another value; one that is missing or null is left out."""
        if value is MISSING or value is None:
            return
        if self.value is MISSING or self._is_further(value):
            self.value = value

    def take_all(self, values: Sequence[Value | Missing]) -> None:
        """Several values."""
        kinds, given = _given(values)
        if kinds == {str} or (kinds and kinds <= _NUMBERS and not any(map(math.isnan, given))):
            found = max(given) if self.side > 0 else min(given)
            if found != 0 or kinds == {int}:  # of floats there are two zeros
                self.take(found)
                return
        for value in given:
            self.take(value)

    def _is_further(self, value: Value) -> bool:
        if type(value) is type(self.value) is float and value != self.value:
            return bool(value > self.value) == (self.side > 0)
        one, other = canonical(value), canonical(self.value)
        return one > other if self.side > 0 else one < other

    def joined(self, later: Extreme) -> Extreme:
        both = Extreme(self.side, self.value)
        both.take(later.value)
        return both


def _given(values: Sequence[Value | Missing]) -> tuple[set[type], Sequence[Value]]:
    """The types of values, and the values, without those that are missing or null."""
    kinds = set(map(type, values))
    if kinds.isdisjoint(_ABSENT):
        return kinds, values
    return kinds - _ABSENT, [value for value in values if value is not None and value is not MISSING]


@attrs.define
class Tally:
    """How many there are."""

    n: int = 0

    def take(self, value: Value) -> None:
        """One more."""
        self.n += 1

    def take_all(self, values: Sequence[object]) -> None:
        """So many more."""
        self.n += len(values)

    def joined(self, later: Tally) -> Tally:
        return Tally(self.n + later.n)


Partial: TypeAlias = Tally | Sum | Extreme
"""What one aggregate of some documents comes to so far."""


@attrs.define
class Group:
    """Documents with the same values in some fields, and what they come to."""

    key: tuple[Value | Missing, ...] = attrs.field(repr=False)
    partials: tuple[Partial, ...] = attrs.field(repr=False)


Groups: TypeAlias = Mapping[bytes, Group]
"""By the canonical forms of their keys."""

BEGINNINGS: Mapping[str, Callable[[], Partial]] = {
    "count": Tally,
    "sum": Sum,
    "min": lambda: Extreme(-1),
    "max": lambda: Extreme(1),
}
"""What an aggregate of no documents comes to."""


def joined_groups(earlier: Groups, later: Groups) -> Groups:
    """The groups of both."""
    if not earlier or not later:
        return later or earlier
    joined = dict(earlier)
    for name, group in later.items():
        known = joined.get(name)
        joined[name] = group if known is None else Group(group.key, _joined(known.partials, group.partials))
    return joined


def _joined(earlier: tuple[Any, ...], later: tuple[Any, ...]) -> tuple[Partial, ...]:
    return tuple(one.joined(other) for one, other in zip(earlier, later, strict=True))
