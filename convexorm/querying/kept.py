"""What counters answer of queries: which one does, by which read of its rows, and what these say of groups."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convexorm.aggregates import Group, Groups, Sum, Tally
from convexorm.conditions import Comparison
from convexorm.counters import Added, counter_id
from convexorm.errors import ValidationError
from convexorm.querying.forms import values_of
from convexorm.requests import Bound, Document, Range, Read
from convexorm.schema import COUNTERS, CounterDef, Int64, Number, Property
from convexorm.values import Missing, Value, canonical

if TYPE_CHECKING:
    from convexorm.querying.query import Query

__all__ = ["groups_of", "kept", "kept_groups"]


def kept(query: Query[Any], of: str | None) -> Read | None:
    """The read of the rows of a counter that says how many documents a query has, or the sum of a field, if one does."""
    table, values = query.model.__mapper__.table, _equalities(query)
    if values is None:
        return None
    for counter in table.counters:
        if counter.of == of and len(counter.by) == len(values) and set(counter.by) == values.keys():
            key = b"".join(canonical(values[field]) for field in counter.by).hex()
            return Read(Range(COUNTERS, "by_counter", (counter_id(table.name, counter.name), key)))
    return None


def kept_groups(query: Query[Any], by: Collection[str], of: str | None) -> tuple[CounterDef, Read] | None:
    """The counter that says what the groups of a query come to, and the read of its rows, if one does: it counts by the
    fields of the equalities first. A sum tells which groups there are only where each document has a number.
    """
    table, values = query.model.__mapper__.table, _equalities(query)
    if values is None:
        return None
    for counter in table.counters:
        first, rest = counter.by[: len(values)], counter.by[len(values) :]
        if of not in (None, counter.of) or set(first) != values.keys() or not set(rest) <= set(by) <= set(counter.by):
            continue
        if counter.of is None or _is_number_in_all(table.fields[counter.of]):
            key = b"".join(canonical(values[field]) for field in first).hex()
            # Behind ff a text would go on that holds a zero.
            bounds = (Bound(key, inclusive=True), Bound(f"{key}ff", inclusive=False)) if key else (None, None)
            return counter, Read(Range(COUNTERS, "by_counter", (counter_id(table.name, counter.name),), *bounds))
    return None


def groups_of(counter: CounterDef, rows: Sequence[Document], by: Sequence[str], op: str) -> Groups:
    """What the rows of a counter say of the groups; of one that is empty by now there may be rows left.

    Raises ValidationError where they are of a counter that had this name and counted by other fields.
    """
    kept: dict[str, Added] = {}
    for row in rows:
        change = kept.setdefault(row["key"], Added())
        change.documents += int(row["count"])
        change.total = change.total.joined(Sum.of_text(row["sum"]))
    found: dict[bytes, Group] = {}
    for forms, change in kept.items():
        if change.documents:
            values = _values(counter, forms)
            key = tuple(values[field] for field in by)
            partial = Tally(change.documents) if op == "count" else change.total
            found[b"".join(map(canonical, key))] = Group(key, (partial,))
    return found


def _values(counter: CounterDef, forms: str) -> Mapping[str, Value | Missing]:
    try:
        return dict(zip(counter.by, values_of(bytes.fromhex(forms)), strict=True))
    except ValueError:
        problem = (
            f"counter {counter.name!r} has rows that count by other fields: `python -m convexorm recount` makes it right"
        )
        raise ValidationError(problem, table=COUNTERS.name) from None


def _equalities(query: Query[Any]) -> dict[str, Any] | None:
    """The values of the fields that a query compares with one each, if that is all it says."""
    if not query.model.__mapper__.table.counters or query._limit is not None or query._offset or query._after is not None:
        return None
    values: dict[str, Any] = {}
    for one in query.conditions():
        if not isinstance(one, Comparison) or one.path or one.op != "eq" or one.field in values:
            return None
        values[one.field] = one.value
    return values


def _is_number_in_all(declared: Property) -> bool:
    return not declared.optional and isinstance(declared.validator, Number | Int64)
