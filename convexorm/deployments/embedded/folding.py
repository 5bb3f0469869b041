"""Aggregates of many documents at once: of each row's JSON only the fields in question are parsed, many rows in one text.

What JSON has no plain word for, what is not as its table declares it, and what Python takes for equal though Convex does
not, is left to the way that looks at one document after the other.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, reduce
from operator import attrgetter, or_
from typing import Any

import msgspec

from convexorm.aggregates import BEGINNINGS, Group, Groups
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.keys import MAX_TICK, Span, span_of
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.requests import Fold, Read, ReadResult
from convexorm.schema import SYSTEM_FIELDS, AnyOf, Boolean, Id, Literal, Null, Number, Property, String, Validator
from convexorm.values import MISSING, canonical, is_plain_text

__all__ = ["fold_rows"]

_AT_ONCE = 1_250
"""Rows whose text is parsed at once, at most."""
_TEXT = 4 << 20
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
    span = span_of(read.range, stored.columns.get(read.range.index, ""))
    kinds = {field: _kinds(read.range.table.fields.get(field)) for field in fields}
    decoder, names = _decoder(tuple(kinds.items()))
    known = [kinds[field] for field in fold.by]
    mixed = [field for field, some in zip(fold.by, known, strict=True) if some is None or some > _MIXED]
    numeric = any(some is None or int in some for some in known)
    kept: dict[Any, list[Any]] = defaultdict(list)
    found: dict[str, set[type]] = {field: set() for field in mixed}
    count, has_signed_zero = 0, False
    try:
        for size, text in _texts(connection, stored, span):
            if None in kinds.values() and not is_plain_text(text):
                return None
            rows = decoder.decode(text)
            if len(rows) != size:  # a row that holds none, or several
                return None
            count += size
            if numeric and not has_signed_zero:
                has_signed_zero = b":-0" in text
            for field in mixed:
                found[field].update(map(type, map(attrgetter(names[field]), rows)))
            _gather(kept, rows, [names[field] for field in fold.by], [names[field] for field in summed])
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):  # not what is parsed quickly, or a key that is no scalar
        return None
    except sqlite3.DataError:  # too long a text
        return None
    if not all(map(_are_apart, found.values())) or (has_signed_zero and _has_zero(kept)):
        return None
    return ReadResult((), count, 0, False, groups=_groups(fold, kept, summed))


_KINDS: Mapping[type[Validator], frozenset[type]] = {
    String: frozenset((str,)),
    Id: frozenset((str,)),
    Number: frozenset((int, float)),
    Boolean: frozenset((bool,)),
    Null: frozenset((type(None),)),
}
_MIXED = frozenset((int, bool))


def _kinds(declared: Any) -> frozenset[type] | None:
    """What values of a field are in Python, where they are such that JSON has plain words for; None of others."""
    if isinstance(declared, Property):
        kinds = _kinds(declared.validator)
        return kinds | {type(MISSING)} if kinds and declared.optional else kinds
    if isinstance(declared, AnyOf):
        members = [_kinds(member) for member in declared.members]
        plain = [kinds for kinds in members if kinds is not None]
        return frozenset(kind for kinds in plain for kind in kinds) if len(plain) == len(members) else None
    if isinstance(declared, Literal):
        kind = type(declared.value)
        return _KINDS[Number] if kind in _KINDS[Number] else frozenset((kind,))
    return _KINDS.get(type(declared))


@lru_cache(maxsize=256)
def _decoder(
    fields: tuple[tuple[str, frozenset[type] | None], ...],
) -> tuple[msgspec.json.Decoder[Any], dict[str, str]]:
    """What parses these fields of many documents, each of its kinds, and by which attributes they are known then."""
    names = {field: f"f{place}" for place, (field, _) in enumerate(fields)}
    told: list[Any] = []
    for field, kinds in fields:
        plain = [kind for kind in kinds or () if kind is not type(MISSING)]
        annotation: Any = Any if kinds is None else reduce(or_, plain)
        is_there = kinds is not None and type(MISSING) not in kinds
        told.append((names[field], annotation) if is_there else (names[field], annotation, MISSING))
    row = msgspec.defstruct("Row", told, rename={name: field for field, name in names.items()}, gc=False, kw_only=True)
    return msgspec.json.Decoder(list[row]), names  # type: ignore[valid-type]


def _texts(connection: Connection, stored: StoredTable, span: Span) -> Iterator[tuple[int, bytes]]:
    """The JSON of the rows as arrays, some rows at a time, and how many those are."""
    if all(condition.startswith("tick ") or condition.endswith(" = ?") for condition in span.conditions):
        rest = f"FROM {stored.name} WHERE {span.where} AND tick > ?"
        end = f"SELECT tick {rest} ORDER BY tick LIMIT 1 OFFSET ?"
        texts = f"SELECT count(*), CAST(group_concat(body) AS BLOB) {rest} AND tick <= ?"
        behind, limit = -1, _AT_ONCE
        while True:  # a subquery with the limit would take three times as long
            last = connection.execute(end, (*span.parameters, behind, limit - 1)).fetchone()
            until = MAX_TICK if last is None else last[0]
            size, text = connection.execute(texts, (*span.parameters, behind, until)).fetchone()
            if size:
                yield size, b"[%b]" % (text or b"")
            if last is None:
                return
            behind, limit = until, max(1, min(_AT_ONCE, 2 * limit, limit * _TEXT // (len(text or b"") or 1)))
    cursor = connection.stream(f"SELECT body FROM {stored.name} WHERE {span.where}", span.parameters)
    try:
        while rows := cursor.fetchmany(_AT_ONCE):
            yield len(rows), f"[{','.join([body for (body,) in rows])}]".encode()
    finally:
        cursor.close()


def _gather(kept: dict[Any, list[Any]], rows: Sequence[Any], by: Sequence[str], of: Sequence[str]) -> None:
    """Put what rows hold in the attributes `of`, as tuples if these are several, to that of others alike in `by`."""
    if by == ["f0"] and of == ["f1"]:
        for row in rows:  # the commonest, and half as long as what is below
            kept[row.f0].append(row.f1)
        return
    values: Sequence[Any] = rows if not of else list(map(attrgetter(*of), rows))
    if not by:
        kept[()].extend(values)
        return
    for key, value in zip(map(attrgetter(*by), rows), values, strict=True):
        kept[key].append(value)


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
