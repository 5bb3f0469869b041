"""Which ranges of which index answer a query, and what is left to be filtered.

Conditions on the fields of an index leave *boxes*: for each field a set of values, of which a document must be in all. The
ranges of a box are the values of the first fields, one by one, and the intervals of the field behind them. Boxes come of
alternatives, and their ranges are joined: in the index's order, and no document in two of them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
from msgspec.structs import replace

from convexorm.conditions import Combined, Comparison, Condition, Membership, Negated
from convexorm.querying.intervals import Values
from convexorm.requests import MAX_RANGES, Bound, KeyValue, Range
from convexorm.schema import Table
from convexorm.values import Missing, Value, same

__all__ = ["Access", "accesses", "conjuncts", "equal", "joined"]

_Box: TypeAlias = Mapping[str, Values]

_NEVER = Combined("or", ())

_MAX_BOXES = 256
"""Boxes of one query; alternatives beyond are filtered."""


@attrs.frozen
class Access:
    """The documents of `ranges` of an index, and which of the conditions hold for all of them.

    `covers` says that no range is the whole index; `score` is greater the less is read.
    """

    index: str
    ranges: Sequence[Range]
    rest: Sequence[Condition]
    covers: bool
    score: tuple[float, float, int]

    def range(self, table: Table) -> Range:
        """The ranges as one."""
        if len(self.ranges) == 1:
            return self.ranges[0]
        return Range(table, self.index, union=tuple(self.ranges))


def conjuncts(conditions: Iterable[Condition]) -> Iterator[Condition]:
    """The conditions that all must hold, one by one."""
    for condition in conditions:
        if isinstance(condition, Combined) and condition.op == "and":
            yield from conjuncts(condition.args)
        else:
            yield condition


def accesses(table: Table, conditions: Sequence[Condition], index: str | None = None) -> list[Access]:
    """How indexes answer conditions that all must hold, that first which leaves out most, equalities before bounds: all
    indexes, or the one that is named.
    """
    names = _indexes(table) if index is None else [index]
    plain = [_plain(table, name, conditions) for name in names]
    found = [one for one in plain if one is not None]
    if len(found) < len(plain):
        boxed = _Boxes(table, conditions)
        found = [boxed.through(name) for name in names]
    return sorted(found, key=lambda one: one.score if one.covers else (*one.score[:2], 0), reverse=True)


def equal(fields: Sequence[str], comparisons: Sequence[Comparison]) -> tuple[Value | Missing, ...] | None:
    """What the first of an index's fields are to be, where comparisons are equalities on these alone, which is commonest;
    None for any others, and for one of `_creationTime`.
    """
    given: dict[str, Value | Missing] = {}
    for one in comparisons:
        if one.op != "eq":
            return None
        place = one.place if one.path else one.field
        if place is None:
            return None
        given[place] = one.value
    if len(given) < len(comparisons) or "_creationTime" in given:
        return None
    try:
        return tuple([given[field] for field in fields[: len(given)]])
    except KeyError:
        return None


def _plain(table: Table, index: str, conditions: Sequence[Condition]) -> Access | None:
    """The access of conditions of which each stands for itself: equalities on the first fields, then a bound on each side
    of the next. None for any others on these fields, of which boxes have to be made.
    """
    fields = table.key_fields(index)
    touched = {field.partition(".")[0] for field in fields}
    given: dict[str, list[Comparison]] = {}
    for condition in conditions:
        if isinstance(condition, Comparison) and (place := condition.place) is not None:
            given.setdefault(place, []).append(condition)
        elif any(name in touched for name in condition.fields()) or condition == _NEVER:
            return None
    eq: list[Value | Missing] = []
    for field in fields:
        (first, *more) = given.get(field, (None,))
        if first is None or first.op != "eq":
            break
        if more:
            return None
        eq.append(first.value)
    bounds = given.get(fields[len(eq)], []) if len(eq) < len(fields) else []
    lower = [one for one in bounds if one.op in ("gt", "gte")]
    upper = [one for one in bounds if one.op in ("lt", "lte")]
    if len(lower) > 1 or len(upper) > 1 or len(lower) + len(upper) < len(bounds):
        return None
    range_ = Range(
        table,
        index,
        tuple(eq),
        Bound(lower[0].value, lower[0].op == "gte") if lower else None,
        Bound(upper[0].value, upper[0].op == "lte") if upper else None,
    )
    if lower and upper and operator.ge(*range_.edges()):
        return None  # nothing is in it
    used = {*fields[: len(eq)], *([fields[len(eq)]] if bounds else [])}
    left = [one for one in conditions if not (isinstance(one, Comparison) and one.place in used)]
    return Access(index, (range_,), left, bool(used), (len(eq) + len(bounds), len(eq), -1))


class _Boxes:
    """Conditions that all must hold, as boxes over the fields of a table's indexes."""

    def __init__(self, table: Table, conditions: Sequence[Condition]) -> None:
        self._table = table
        self._conditions = conditions
        fields = frozenset(name for index in _indexes(table) for name in table.key_fields(index))
        parts = [_part(condition, fields) for condition in conditions]
        self._boxes, used = _all_crossed(parts)
        self._parts = [part if is_used else _UNUSED for part, is_used in zip(parts, used, strict=True)]

    def through(self, index: str) -> Access:
        """How an index answers them."""
        fields = self._table.key_fields(index)
        uses = [_use(self._table, index, fields, box) for box in self._boxes]
        # those of one box are in order already
        ranges = joined([range_ for use in uses for range_ in use.ranges]) if len(uses) != 1 else list(uses[0].ranges)
        fits = len(ranges) <= MAX_RANGES
        rest = [
            condition
            for condition, part in zip(self._conditions, self._parts, strict=True)
            if not (fits and part.exact and self._decide(part, uses))
        ]
        return Access(
            index,
            ranges if fits else _coarser(ranges),
            rest,
            all(use.score > (0, 0) for use in uses),
            (*min((use.score for use in uses), default=(_MAX_BOXES, 0)), -len(ranges)),
        )

    def _decide(self, part: _Part, uses: Sequence[_Use]) -> bool:
        """Whether the ranges of each box decide all that a part says of its documents."""
        return all(part.fields & box.keys() <= use.fields for box, use in zip(self._boxes, uses, strict=True))


def _indexes(table: Table) -> list[str]:
    return ["by_creation_time", *(index.name for index in table.indexes), "by_id"]


# -- boxes ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Part:
    """The boxes in which a condition can hold. If it is `exact`, it holds in all of them."""

    boxes: Sequence[_Box]
    exact: bool
    fields: frozenset[str] = attrs.field(
        init=False,
        default=attrs.Factory(lambda self: frozenset(name for box in self.boxes for name in box), takes_self=True),
    )


_UNUSED = _Part([{}], exact=False)


def _part(condition: Condition, fields: frozenset[str], *, holds: bool = True) -> _Part:
    """The boxes of a condition, or of its opposite, over these fields."""
    compile = _PARTS.get(type(condition))
    return _Part([{}], exact=False) if compile is None else compile(condition, fields, holds)


def _part_of_comparison(condition: Comparison, fields: frozenset[str], holds: bool) -> _Part:
    return _part_of_values(condition, Values.compared(condition.op, condition.value), fields, holds)


def _part_of_membership(condition: Membership, fields: frozenset[str], holds: bool) -> _Part:
    return _part_of_values(condition, Values.among(condition.values), fields, holds)


def _part_of_values(condition: Comparison | Membership, values: Values, fields: frozenset[str], holds: bool) -> _Part:
    place = condition.place
    if place is None or place not in fields:
        return _Part([{}], exact=False)
    return _Part(_kept({place: values if holds else ~values}), exact=True)


def _part_of_combined(condition: Combined, fields: frozenset[str], holds: bool) -> _Part:
    parts = [_part(one, fields, holds=holds) for one in condition.args]
    exact = all(part.exact for part in parts)
    if (condition.op == "and") == holds:
        crossed, used = _all_crossed(parts)
        return _Part(crossed, exact and all(used))
    boxes = _merged([box for part in parts for box in part.boxes])
    return _Part(boxes, exact) if len(boxes) <= _MAX_BOXES else _Part([{}], exact=False)


_PARTS: dict[type[Condition], Callable[[Any, frozenset[str], bool], _Part]] = {
    Comparison: _part_of_comparison,
    Membership: _part_of_membership,
    Combined: _part_of_combined,
    Negated: lambda condition, fields, holds: _part(condition.arg, fields, holds=not holds),
}


def _kept(box: _Box) -> list[_Box]:
    """The box, unless nothing is in it; without what says nothing of a field."""
    if any(not values.intervals for values in box.values()):
        return []
    return [{name: values for name, values in box.items() if not values.is_everything}]


def _merged(boxes: Sequence[_Box]) -> list[_Box]:
    """The same boxes, fewer: those about the same single field are one."""
    singles: dict[str, list[Values]] = {}
    others: list[_Box] = []
    for box in boxes:
        if len(box) == 1:
            ((name, values),) = box.items()
            singles.setdefault(name, []).append(values)
        else:
            others.append(box)
    return [kept for name, several in singles.items() for kept in _kept({name: Values.any_of(several)})] + others


def _all_crossed(parts: Sequence[_Part]) -> tuple[Sequence[_Box], list[bool]]:
    """The boxes of documents that are in a box of each part, and of which parts: not of those that would make too many.

    Of parts of one box, which are many where there are many, all that is said of a field is put together at once.
    """
    said: dict[str, list[Values]] = {}
    for part in parts:
        for name, values in part.boxes[0].items() if len(part.boxes) == 1 else ():
            said.setdefault(name, []).append(values)
    boxes: Sequence[_Box] = _kept({name: Values.all_of(several) for name, several in said.items()})
    used: list[bool] = []
    for part in parts:
        crossed = boxes if len(part.boxes) == 1 else _crossed(boxes, part.boxes)
        boxes = boxes if crossed is None else crossed
        used.append(crossed is not None)
    return boxes, used


def _crossed(some: Sequence[_Box], others: Sequence[_Box]) -> list[_Box] | None:
    """The boxes of documents that are in one of some and in one of others; None where there would be too many."""
    if len(some) * len(others) > _MAX_BOXES:
        return None
    return [kept for one in some for other in others for kept in _kept(_met(one, other))]


def _met(one: _Box, other: _Box) -> _Box:
    return {**one, **{name: one[name] & values if name in one else values for name, values in other.items()}}


# -- ranges --------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Use:
    """What an index makes of one box: its ranges, and the fields that they decide."""

    ranges: Sequence[Range]
    fields: frozenset[str]
    score: tuple[float, float]


def _use(table: Table, index: str, fields: Sequence[str], box: _Box) -> _Use:
    prefixes: list[KeyValue] = [()]
    used: list[str] = []
    for field in fields:
        values = box.get(field)
        points = None if values is None else values.points
        if values is None or points is None or len(prefixes) * len(points) > MAX_RANGES:
            break
        prefixes = [(*prefix, point) for prefix in prefixes for point in points]
        used.append(field)
    bounds: Sequence[tuple[Bound | None, Bound | None]] = [(None, None)]
    sides = 0.0
    values = box.get(fields[len(used)]) if len(used) < len(fields) else None
    if values is not None:
        bounds, sides = values.bounds(), values.sides
    ranges = [Range(table, index, prefix, lower, upper) for prefix in prefixes for lower, upper in bounds]
    decided = [*used, *([fields[len(used)]] if values is not None else [])]
    return _Use(ranges, frozenset(decided), (len(used) + sides, len(used)))


def joined(ranges: Sequence[Range]) -> list[Range]:
    """The same documents in ranges that are in order and have none in common.

    Of two ranges one holds the other or they have nothing in common, unless they are intervals of one field behind the
    same values.
    """
    if len(ranges) == 1:
        return list(ranges)
    found: list[Range] = []
    until = b""
    edged = sorted([(*range_.edges(), range_) for range_ in ranges], key=lambda one: one[1], reverse=True)
    for start, end, range_ in sorted(edged, key=lambda one: one[0]):
        if found and start <= until and _are_beside(found[-1], range_):
            if end > until:
                found[-1], until = replace(found[-1], upper=range_.upper), end
        elif start < end and (not found or start >= until):
            found.append(range_)
            until = end
    return found


def _are_beside(one: Range, two: Range) -> bool:
    """Whether both are intervals of the same field behind the same values."""
    return len(one.eq) == len(two.eq) and all(map(same, one.eq, two.eq))


def _coarser(ranges: Sequence[Range]) -> list[Range]:
    """At most MAX_RANGES that hold all of these, which are too many: neighbours become one."""
    size = -(-len(ranges) // MAX_RANGES)
    return [_hull(ranges[start], ranges[min(start + size, len(ranges)) - 1]) for start in range(0, len(ranges), size)]


def _hull(first: Range, last: Range) -> Range:
    """The range from one to another."""
    place = 0
    while place < min(len(first.eq), len(last.eq)) and same(first.eq[place], last.eq[place]):
        place += 1
    lower = Bound(first.eq[place], True) if place < len(first.eq) else first.lower
    upper = Bound(last.eq[place], True) if place < len(last.eq) else last.upper
    return replace(first, eq=first.eq[:place], lower=lower, upper=upper)
