"""Aggregates of many documents at once: of each row's JSON only the fields in question are parsed, many rows in one text.

What JSON has no plain word for, and what Python takes for equal though Convex does not, is left to the way that looks at
one document after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec

from convexorm.aggregates import BEGINNINGS, Group, Groups
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.keys import Span, span_of
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.requests import Fold, Read, ReadResult
from convexorm.schema import SYSTEM_FIELDS
from convexorm.values import MISSING, canonical, is_plain_text

__all__ = ["fold_rows"]

_AT_ONCE = 5_000
"""Rows whose text is parsed at once."""


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
    span = span_of(read.range, stored.columns.get(read.range.index, ""))
    decoder, names = _decoder(fields)
    kept: dict[Any, list[Any]] = {}
    kinds: list[set[type]] = [set() for _ in fold.by]
    count = 0
    try:
        for text in _texts(connection, stored, span):
            if not is_plain_text(text):
                return None
            rows = decoder.decode(text)
            count += len(rows)
            for field, found in zip(fold.by, kinds, strict=True):
                found.update(map(type, map(attrgetter(names[field]), rows)))
            _gather(kept, rows, [names[field] for field in fold.by], [names[field] for field in summed])
    except (msgspec.MsgspecError, TypeError):  # not what is parsed quickly, or a key that is no scalar
        return None
    if not all(map(_are_apart, kinds)) or _has_zero(kept):
        return None
    return ReadResult((), count, 0, False, groups=_groups(fold, kept, summed))


@lru_cache(maxsize=256)
def _decoder(fields: tuple[str, ...]) -> tuple[msgspec.json.Decoder[Any], dict[str, str]]:
    """What parses these fields of many documents, and by which attributes they are known then."""
    names = {field: f"f{place}" for place, field in enumerate(fields)}
    told = [(name, Any, MISSING) for name in names.values()]
    row = msgspec.defstruct("Row", told, rename={name: field for field, name in names.items()}, gc=False)
    return msgspec.json.Decoder(list[row]), names  # type: ignore[valid-type]


def _texts(connection: Connection, stored: StoredTable, span: Span) -> Iterator[str]:
    """The JSON of the rows as arrays, some rows at a time."""
    if all(condition.startswith("tick ") for condition in span.conditions):
        last = -1
        while True:
            statement = (
                f"SELECT max(tick), '[' || group_concat(body) || ']' FROM (SELECT tick, body FROM {stored.name} "
                f"WHERE {span.where} AND tick > ? ORDER BY tick LIMIT {_AT_ONCE})"
            )
            last, text = connection.execute(statement, (*span.parameters, last)).fetchone()
            if text is None:
                return
            yield text
    cursor = connection.stream(f"SELECT body FROM {stored.name} WHERE {span.where}", span.parameters)
    try:
        while rows := cursor.fetchmany(_AT_ONCE):
            yield f"[{','.join([body for (body,) in rows])}]"
    finally:
        cursor.close()


def _gather(kept: dict[Any, list[Any]], rows: Sequence[Any], by: Sequence[str], of: Sequence[str]) -> None:
    """Put what rows hold in the attributes `of`, as tuples if these are several, to that of others alike in `by`."""
    values: Sequence[Any] = rows if not of else list(map(attrgetter(*of), rows))
    if not by:
        kept.setdefault((), []).extend(values)
        return
    for key, value in zip(map(attrgetter(*by), rows), values, strict=True):
        known = kept.get(key)
        if known is None:
            kept[key] = [value]
        else:
            known.append(value)


_SCALARS = frozenset((str, type(None), type(MISSING)))
_NUMBERS = frozenset((int, float))


def _are_apart(kinds: set[type]) -> bool:
    """Whether values of these types that are equal in Python are so in Convex, where a boolean is no number."""
    return kinds <= _SCALARS | _NUMBERS or kinds <= _SCALARS | {bool}


def _has_zero(keys: Iterable[Any]) -> bool:
    """Whether a zero is among the keys, of which there are two in Convex, one of each sign."""
    return any(value == 0 and value is not False for key in keys for value in (key if type(key) is tuple else (key,)))


def _groups(fold: Fold, kept: dict[Any, list[Any]], summed: Sequence[str]) -> Groups:
    groups: dict[bytes, Group] = {}
    for held, values in kept.items():
        key = held if len(fold.by) != 1 else (held,)
        columns = [values] if len(summed) <= 1 else list(zip(*values, strict=True))
        partials = tuple(BEGINNINGS[term.op]() for term in fold.of)
        for term, partial in zip(fold.of, partials, strict=True):
            partial.take_all(columns[0 if term.field is None else summed.index(term.field)])
        groups[b"".join(map(canonical, key))] = Group(key, partials)
    return groups
