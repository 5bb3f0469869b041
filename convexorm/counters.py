"""Counts and sums that are kept with every write: what a model declares, and what documents add to them.

They are kept in a table of ours, several rows (shards) for each value that they are counted by, so that writers who are at
it at the same time are not in each other's way.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from convexorm.aggregates import Sum as Total
from convexorm.errors import ValidationError
from convexorm.given import several
from convexorm.schema import CounterDef, Table
from convexorm.values import MISSING, Value, canonical

__all__ = ["Added", "Counter", "Counting", "Sum", "counter_id", "counter_key"]


class Counter:
    """How many documents there are for each value of some attributes: `total = Counter("owner_id")`; of all with none.

    `session.count` of a query by equalities on exactly these attributes answers it, and reads no document that is counted.
    """

    def __init__(self, *by: str) -> None:
        """Raises ValidationError for anything but the names of attributes."""
        for attribute in by:
            _check_attribute(attribute)
        self.by = by
        self.of: str | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} by ({', '.join(self.by)})>"


class Sum(Counter):
    """The sum of an attribute for each value of others: `paid = Sum("amount", by="owner_id")`, for `session.sum`."""

    def __init__(self, attribute: str, *, by: str | tuple[str, ...] = ()) -> None:
        super().__init__(*((by,) if isinstance(by, str) else several(by, "attributes to add up by")))
        _check_attribute(attribute)
        self.of = attribute


def _check_attribute(attribute: object) -> None:
    if not isinstance(attribute, str):
        raise ValidationError(f"a counter is told the names of attributes, got {type(attribute).__name__}")


def counter_id(table: str, name: str) -> str:
    """What a counter is called in the table of counters."""
    return f"{table}.{name}"


def counter_key(counter: CounterDef, document: Mapping[str, Value]) -> str:
    """What the rows for a document are called: the canonical form of what it is counted by, in hexadecimal."""
    return b"".join(canonical(document.get(field, MISSING)) for field in counter.by).hex()


class Added(msgspec.Struct):
    """What is to be added to a counter's row: how many documents there are more, and what they add up to."""

    documents: int = 0
    total: Total = msgspec.field(default_factory=Total)


class Counting(msgspec.Struct, eq=False):
    """What the writes of a commit add to counters."""

    changes: dict[tuple[str, str], Added] = {}

    def add(self, table: Table, document: Mapping[str, Value]) -> None:
        """A document is there that was not."""
        for counter in table.counters:
            change = self._of(table, counter, document)
            change.documents += 1
            change.total = change.total.joined(_share(counter, document))

    def remove(self, table: Table, document: Mapping[str, Value]) -> None:
        """A document is there no more."""
        for counter in table.counters:
            change = self._of(table, counter, document)
            change.documents -= 1
            change.total = change.total.less(_share(counter, document))

    def _of(self, table: Table, counter: CounterDef, document: Mapping[str, Value]) -> Added:
        at = counter_id(table.name, counter.name), counter_key(counter, document)
        change = self.changes.get(at)
        if change is None:
            change = self.changes[at] = Added()
        return change


def _share(counter: CounterDef, document: Mapping[str, Value]) -> Total:
    """What one document adds."""
    if counter.of is None:
        return Total(1)
    total = Total()
    total.take(document.get(counter.of, MISSING))
    return total
