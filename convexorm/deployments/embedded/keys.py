"""Index keys of the embedded deployment: documents and ranges as bytes whose order is Convex's order.

A document's key in an index is the canonical form of its fields, one behind the other. The document's *tick*, its creation
time in whole microseconds, is the row number of its table, which SQLite appends to every index entry: together they are
Convex's `(fields, _creationTime)`, and ticks are unique within a table, so `_id` never has to decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from convexorm.requests import Bound, Document, KeyValue, Range
from convexorm.values import MISSING, canonical, reach

__all__ = ["BEHIND", "Span", "document_key", "id_tick", "span_of", "tick_of", "time_of"]

BEHIND = b"\xff"
"""Greater than any tag byte: behind everything that starts with the bytes before it."""
MAX_TICK = 2**63 - 1


def time_of(tick: int) -> float:
    """The `_creationTime` of a tick, in milliseconds."""
    return tick / 1000


def tick_of(creation_time: Any) -> int | None:
    """The tick whose `_creationTime` this is, or None."""
    if type(creation_time) not in (int, float) or not math.isfinite(creation_time):
        return None
    tick = round(creation_time * 1000)
    return tick if time_of(tick) == creation_time else None


def document_key(fields: Sequence[str]) -> Callable[[Document], bytes]:
    """The function from a document to its key in an index over `fields`."""
    if any("." in field for field in fields):
        return lambda document: b"".join([canonical(reach(document, field)) for field in fields])
    if len(fields) == 1:
        (single,) = fields
        return lambda document: canonical(document.get(single, MISSING))
    return lambda document: b"".join([canonical(document.get(field, MISSING)) for field in fields])


class Span:
    """A range as SQL: conditions on the key column, the tick and the id, with their parameters."""

    __slots__ = ("conditions", "parameters")

    def __init__(self, condition: str | None = None, *parameters: bytes | int | str) -> None:
        self.conditions = [] if condition is None else [condition]
        self.parameters = list(parameters)

    def add(self, condition: str, *parameters: bytes | int | str) -> None:
        """A further condition, with a parameter for each `?` in it."""
        self.conditions.append(condition)
        self.parameters += parameters

    @property
    def where(self) -> str:
        """All conditions; true when there are none."""
        return " AND ".join(self.conditions) or "1"


def span_of(range: Range, column: str, after: KeyValue | None = None, order: str = "asc") -> Span:
    """The rows of a range, those behind the index key `after` in scan order if one is given.

    `column` holds the index's keys; it is empty for the indexes every table has.
    """
    if column and after is None and range.lower is None and range.upper is None:
        return _of_prefix(range, column)
    span = Span()
    if column:
        _bound_keys(span, range, column, after or (), order)
    else:
        bound = _bound_ids if range.index == "by_id" else _bound_ticks
        bound(span, range.eq, range.lower, range.upper)
        if after and range.index == "by_id":
            span.add(f"id {_SIGN[order]} ?", after[0] if isinstance(after[0], str) else "")
        elif after:
            span.add(f"tick {_SIGN[order]} ?", _tick_near(after[0], order))
    return span


def _of_prefix(range: Range, column: str) -> Span:
    """The rows whose keys begin with values, the commonest of ranges."""
    key = b"".join(map(canonical, range.eq))
    fields = len(range.table.declared_fields(range.index))
    if len(range.eq) < fields:
        return Span(f"{column} >= ? AND {column} < ?", key, key + BEHIND)
    if len(range.eq) == fields:
        return Span(f"{column} = ?", key)
    span = Span(f"{column} = ?", b"".join(map(canonical, range.eq[:fields])))
    _bound_ticks(span, range.eq[fields:], None, None)
    return span


_SIGN = {"asc": ">", "desc": "<"}


def _bound_keys(span: Span, range: Range, column: str, after: KeyValue, order: str) -> None:
    fields = len(range.table.key_fields(range.index)) - 1
    lower = upper = b"".join(map(canonical, range.eq[:fields]))
    resume = b"".join(map(canonical, after[:-2]))
    if len(range.eq) >= fields:  # one key: what is left of the range, and of the resume point, is about ticks
        span.add(f"{column} = ?", lower)
        _bound_ticks(span, range.eq[fields:], range.lower, range.upper)
        if after and resume == lower:
            span.add(f"tick {_SIGN[order]} ?", _tick_near(after[-2], order))
        elif after and (resume > lower) == (order == "asc"):
            span.add("0")
        return
    upper += BEHIND
    if range.upper is not None:
        upper = lower + canonical(range.upper.value) + (BEHIND if range.upper.inclusive else b"")
    if range.lower is not None:
        lower += canonical(range.lower.value) + (b"" if range.lower.inclusive else BEHIND)
    if after:
        span.add(f"({column}, tick) {_SIGN[order]} (?, ?)", resume, _tick_near(after[-2], order))
        if order == "asc":
            lower = max(lower, resume)
        else:
            upper = min(upper, resume + b"\0")
    span.add(f"{column} >= ? AND {column} < ?", lower, upper)


def _bound_ticks(span: Span, eq: KeyValue, lower: Bound | None, upper: Bound | None) -> None:
    if eq:
        tick = tick_of(eq[0])
        span.add("tick = ?", -1 if tick is None else tick)
    if lower is not None:
        span.add("tick >= ?", _first_tick(lower.value, behind=not lower.inclusive))
    if upper is not None:
        span.add("tick < ?", _first_tick(upper.value, behind=upper.inclusive))


def _first_tick(value: Any, *, behind: bool) -> int:
    """The first tick whose time is not before `value` in Convex's order, or with `behind` the first after it."""
    if type(value) not in (int, float):
        return 0 if canonical(value) < canonical(0.0) else MAX_TICK
    if value != value or abs(value) > 1e15:
        return 0 if canonical(value) < canonical(0.0) else MAX_TICK
    tick: int = max(math.floor(value * 1000) - 1, 0)
    while time_of(tick) < value or (behind and time_of(tick) == value):
        tick += 1
    return tick


def _bound_ids(span: Span, eq: KeyValue, lower: Bound | None, upper: Bound | None) -> None:
    """Ids begin with the tick in hexadecimal, so their order as text is the order of rows."""
    if eq:
        tick = id_tick(eq[0]) if isinstance(eq[0], str) else None
        if tick is None:
            span.add("0")
        else:
            span.add("tick = ? AND id = ?", tick, str(eq[0]))
    for bound, plain, or_equal, beyond in ((lower, ">", ">=", True), (upper, "<", "<=", False)):
        if bound is None:
            continue
        if isinstance(bound.value, str):
            span.add(f"id {or_equal if bound.inclusive else plain} ?", bound.value)
        elif (canonical(bound.value) > canonical("")) == beyond:
            span.add("0")


def id_tick(id: str) -> int | None:
    """The tick an id begins with, or None for an id this deployment did not make."""
    try:
        return int(id[:14], 16) if len(id) == 32 and id.isascii() else None
    except ValueError:
        return None


def _tick_near(time: Any, order: str) -> int:
    """The tick of a creation time; for one no document can have, the last tick before (asc) or first after it (desc)."""
    tick = tick_of(time)
    if tick is not None:
        return tick
    return _first_tick(time, behind=False) - (order == "asc")
