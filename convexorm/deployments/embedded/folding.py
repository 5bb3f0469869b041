"""Aggregates of many documents at once, from what their rows hold in the fields in question.

What JSON has no plain word for, what is not as its table declares it, and what Python takes for equal though Convex does
not, is left to the way that looks at one document after the other.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from convexorm.aggregates import BEGINNINGS, Group, Groups, Sum
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.excerpts import Wanted, excerpt_of, kinds_of
from convexorm.deployments.embedded.keys import Span, span_of
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.requests import Fold, Read, ReadResult
from convexorm.schema import SYSTEM_FIELDS
from convexorm.values import MISSING, canonical

__all__ = ["fold_rows"]

_AT_ONCE = 1_250
"""Rows that lie in one text, at most."""
_TEXT = 1 << 18
"""Bytes that such a text is to have, about."""


def fold_rows(connection: Connection, stored: StoredTable, read: Read) -> ReadResult | None:
    """The answer to a read of all documents of a range that only asks for aggregates; None where it has to be found
    document by document.
    """
    fold = read.fold
    assert fold is not None
    summed = tuple(dict.fromkeys(term.field for term in fold.of if term.field is not None))
    fields = tuple(dict.fromkeys([*fold.by, *summed]))
    if read != Read(read.range, order=read.order, fold=fold) or read.range.union is not None:
        return None
    if any(field in SYSTEM_FIELDS or field in stored.vectors for field in fields):
        return None
    declared = read.range.table.fields
    wanted = Wanted(tuple((field, kinds_of(declared.get(field))) for field in fields), fold.by, summed)
    kept: dict[Any, list[Any]] = defaultdict(list)
    found: list[set[type]] = [set() for _ in fold.by]
    count, has_signed_zero = 0, False
    try:
        for size, text in _texts(connection, stored, span_of(read.range, stored.columns.get(read.range.index, ""))):
            excerpt = excerpt_of(text, size, wanted)
            if excerpt is None:
                return None
            count += size
            has_signed_zero |= excerpt.has_signed_zero
            for known, kinds in zip(found, excerpt.kinds, strict=True):
                known |= kinds
            for key, values in excerpt.groups.items():
                kept[key] += values
    except (sqlite3.DataError, UnicodeError, TypeError):  # too long a text, or none
        return None
    if not all(map(_are_apart, found)) or (has_signed_zero and _has_zero(kept)):
        return None
    return ReadResult((), count, 0, False, groups=_groups(fold, kept, wanted))


def _texts(connection: Connection, stored: StoredTable, span: Span) -> Iterator[tuple[int, bytes]]:
    """The JSON of the rows, some rows at a time with commas between them, and how many those are."""
    if all(condition.startswith("tick ") or condition.endswith(" = ?") for condition in span.conditions):
        rest = f"FROM {stored.name} WHERE {span.where} AND tick > ?"
        end = f"SELECT tick {rest} ORDER BY tick LIMIT 1 OFFSET ?"
        bodies = "CAST(group_concat(body) AS BLOB)"
        behind, limit = -1, _AT_ONCE
        # A subquery with the limit would take twice as long.
        while found := connection.execute(end, (*span.parameters, behind, limit - 1)).fetchone():
            until = found[0]
            statement = f"SELECT {bodies} {rest} AND tick <= ?"
            (text,) = connection.execute(statement, (*span.parameters, behind, until)).fetchone()
            yield limit, text or b""
            behind, limit = until, max(1, min(_AT_ONCE, 2 * limit, limit * _TEXT // (len(text or b"") or 1)))
        size, text = connection.execute(f"SELECT count(*), {bodies} {rest}", (*span.parameters, behind)).fetchone()
        if size:
            yield size, text or b""
        return
    cursor = connection.stream(f"SELECT body FROM {stored.name} WHERE {span.where}", span.parameters)
    try:
        while rows := cursor.fetchmany(_AT_ONCE):
            yield len(rows), ",".join([body for (body,) in rows]).encode()
    finally:
        cursor.close()


_SCALARS = frozenset((str, type(None), type(MISSING)))
_NUMBERS = frozenset((int, float))


def _are_apart(kinds: set[type]) -> bool:
    """Whether values of these types that are equal in Python are so in Convex, where a boolean is no number."""
    return kinds <= _SCALARS | _NUMBERS or kinds <= _SCALARS | {bool}


def _has_zero(keys: Iterable[Any]) -> bool:
    """Whether a zero is among the keys, of which there are two in Convex, one of each sign."""
    return any(value == 0 and value is not False for key in keys for value in (key if type(key) is tuple else (key,)))


def _groups(fold: Fold, kept: Mapping[Any, Sequence[Any]], wanted: Wanted) -> Groups:
    numeric = {field for field, kinds in wanted.kinds if kinds is not None and kinds <= _NUMBERS}
    groups: dict[bytes, Group] = {}
    for held, values in kept.items():
        key = held if len(fold.by) != 1 else (held,)
        columns = [values] if len(wanted.of) <= 1 else list(zip(*values, strict=True))
        partials = tuple(BEGINNINGS[term.op]() for term in fold.of)
        for term, partial in zip(fold.of, partials, strict=True):
            column = columns[0 if term.field is None else wanted.of.index(term.field)]
            if type(partial) is Sum and term.field in numeric:
                partial.take_numbers(column)
            else:
                partial.take_all(column)
        groups[b"".join(map(canonical, key))] = Group(key, partials)
    return groups
