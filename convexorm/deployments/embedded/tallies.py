"""How many documents each group has, by the entries of an index over the fields of groups: one document of each is read."""

from __future__ import annotations

from convexorm.aggregates import Group, Tally
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.keys import span_of
from convexorm.deployments.embedded.rows import documents
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.requests import Range, Read, ReadResult
from convexorm.values import MISSING, canonical

__all__ = ["tally_keys"]


def tally_keys(connection: Connection, stored: StoredTable, read: Read) -> ReadResult | None:
    """The answer to a read that only asks how many documents of a range each group has; None where no index has it."""
    fold = read.fold
    if fold is None or not fold.by or any(term.op != "count" for term in fold.of):
        return None
    if read != Read(read.range, order=read.order, fold=fold) or read.range.union is not None:
        return None
    column = _column(stored, read.range, set(fold.by))
    if column is None:
        return None
    span = span_of(read.range, stored.columns.get(read.range.index, ""))
    firsts = f"SELECT min(tick) AS first, count(*) AS n FROM {stored.name} WHERE {span.where} GROUP BY {column}"
    found = connection.execute(
        f"SELECT {stored.select}, n FROM ({firsts}) CROSS JOIN {stored.name} ON tick = first", span.parameters
    ).fetchall()
    numbers = [row[-1] for row in found]
    groups: dict[bytes, Group] = {}
    for n, document in zip(numbers, documents([row[:-1] for row in found], stored.vectors, stored.label), strict=True):
        key = tuple([document.get(field, MISSING) for field in fold.by])
        groups[b"".join(map(canonical, key))] = Group(key, tuple([Tally(n) for _ in fold.of]))
    return ReadResult((), sum(numbers), 0, False, groups=groups)


def _column(stored: StoredTable, range: Range, by: set[str]) -> str | None:
    """The key column in which documents of a range are alike if and only if they are so in the fields `by`."""
    if not range.eq and range.lower is None and range.upper is None:
        return next((f"k{place}" for place, form in enumerate(stored.forms) if by == set(form)), None)
    form = stored.indexes.get(range.index, ())
    return stored.columns[range.index] if by <= set(form) <= by.union(form[: len(range.eq)]) else None
