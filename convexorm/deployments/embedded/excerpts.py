"""What many rows hold in a few fields, taken from one text that has the JSON of all of them.

Only the fields in question are parsed. A text that was seen before is not parsed again: of most rows of a table nothing
changes between two questions about it. It is known again by its hash, 64 bits by a key of this process.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache, reduce
from operator import attrgetter, or_
from typing import Any, NamedTuple, TypeAlias

import msgspec

from convexorm.schema import AnyOf, Boolean, Id, Literal, Null, Number, Property, String
from convexorm.values import MISSING, is_plain_text

__all__ = ["Excerpt", "Kinds", "Wanted", "excerpt_of", "forget", "kinds_of"]

_REMEMBERED = 128
"""Excerpts that are kept."""
_SHORT = 1 << 18
"""Bytes of a text whose excerpt is kept, at most."""
_ROWS_OF_A_GROUP = 4
"""Rows that a group has of such a text on average, at least."""

Kinds: TypeAlias = frozenset[type] | None
"""The types that values of a field have in Python, where they are such that JSON has plain words for; None of others."""


class Wanted(NamedTuple):
    """What to take from rows: the fields `of`, for each group of rows that are alike in the fields `by`."""

    kinds: tuple[tuple[str, Kinds], ...]
    by: tuple[str, ...]
    of: tuple[str, ...]


class Excerpt(NamedTuple):
    """What the rows of a text hold."""

    groups: Mapping[Any, Sequence[Any]]
    """By the value in `by`, or the values if these are several fields: those in `of`, as tuples if they are several."""
    kinds: Sequence[frozenset[type]]
    """The types in each of `by`, where some of them may be equal though Convex tells them apart."""
    has_signed_zero: bool
    """Whether there may be a zero with a sign."""


def excerpt_of(text: bytes, size: int, wanted: Wanted) -> Excerpt | None:
    """What the bodies of `size` rows, with commas between them, hold; None where they are not what is parsed quickly."""
    kept = _place(hash(text), len(text), size, wanted) if len(text) <= _SHORT else []
    if not kept:
        excerpt = _parsed(text, size, wanted)
        if excerpt is None:
            return None
        if len(excerpt.groups) > size // _ROWS_OF_A_GROUP:  # which would take more room than the text
            return excerpt
        kept.append(excerpt)
    return kept[0]


@lru_cache(_REMEMBERED)
def _place(mark: int, length: int, size: int, wanted: Wanted) -> list[Excerpt]:
    """Where the excerpt of a text is kept."""
    return []


def forget() -> None:
    """Keep none any longer."""
    _place.cache_clear()


def _parsed(text: bytes, size: int, wanted: Wanted) -> Excerpt | None:
    kinds = dict(wanted.kinds)
    if None in kinds.values() and not is_plain_text(text):
        return None
    decoder, names = _decoder(wanted.kinds)
    try:
        rows = decoder.decode(b"[%b]" % text)
        if len(rows) != size:  # a row that holds none, or several
            return None
        by = [names[field] for field in wanted.by]
        groups = _grouped(rows, by, [names[field] for field in wanted.of])
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):  # not what was declared, or a key that is no scalar
        return None
    numeric = any(some is None or int in some for some in map(kinds.__getitem__, wanted.by))
    return Excerpt(groups, [_found(rows, names[field], kinds[field]) for field in wanted.by], numeric and b":-0" in text)


def _grouped(rows: Sequence[Any], by: Sequence[str], of: Sequence[str]) -> Mapping[Any, Sequence[Any]]:
    if by and not of:
        return {key: [None] * n for key, n in Counter(map(attrgetter(*by), rows)).items()}
    groups: dict[Any, list[Any]] = defaultdict(list)
    if by == ["f0"] and of == ["f1"]:
        for row in rows:  # the commonest, and half as long as what is below
            groups[row.f0].append(row.f1)
        return groups
    values: Sequence[Any] = list(map(attrgetter(*of), rows)) if of else [None] * len(rows)
    if not by:
        return {(): values}
    for key, value in zip(map(attrgetter(*by), rows), values, strict=True):
        groups[key].append(value)
    return groups


def _found(rows: Sequence[Any], name: str, kinds: Kinds) -> frozenset[type]:
    return frozenset(map(type, map(attrgetter(name), rows))) if kinds is None or kinds > _MIXED else frozenset()


# -- fields --------------------------------------------------------------------------------------------------------

_KINDS: Mapping[type, frozenset[type]] = {
    String: frozenset((str,)),
    Id: frozenset((str,)),
    Number: frozenset((int, float)),
    Boolean: frozenset((bool,)),
    Null: frozenset((type(None),)),
}
_MIXED = frozenset((int, bool))


def kinds_of(declared: Any) -> Kinds:
    """The kinds of a field as its table declares it; None of one that is not declared."""
    if isinstance(declared, Property):
        kinds = kinds_of(declared.validator)
        return kinds | {type(MISSING)} if kinds and declared.optional else kinds
    if isinstance(declared, AnyOf):
        members = [kinds_of(member) for member in declared.members]
        plain = [kinds for kinds in members if kinds is not None]
        return frozenset(kind for kinds in plain for kind in kinds) if len(plain) == len(members) else None
    if isinstance(declared, Literal):
        kind = type(declared.value)
        return _KINDS[Number] if kind in _KINDS[Number] else frozenset((kind,))
    return _KINDS.get(type(declared))


@lru_cache(maxsize=256)
def _decoder(fields: tuple[tuple[str, Kinds], ...]) -> tuple[msgspec.json.Decoder[Any], dict[str, str]]:
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
