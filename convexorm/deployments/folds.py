"""Aggregates of documents, evaluated in Python exactly as `convex/orm/fold.ts` does on Convex."""

from __future__ import annotations

from collections.abc import Iterable

from convexorm.aggregates import BEGINNINGS, Group, Groups
from convexorm.requests import Document, Fold
from convexorm.values import MISSING, Missing, Value, canonical

__all__ = ["folded"]


def folded(fold: Fold, documents: Iterable[Document]) -> tuple[int, Groups]:
    """How many documents there are, and what each group of them comes to."""
    by, of = fold.by, [(term.op, term.field or "_id") for term in fold.of]
    known: dict[object, Group] = {}
    count = 0
    for document in documents:
        count += 1
        key = tuple([document.get(field, MISSING) for field in by])
        name = _name(key)
        group = known.get(name)
        if group is None:
            group = known[name] = Group(key, tuple(BEGINNINGS[op]() for op, _ in of))
        for (_, field), partial in zip(of, group.partials, strict=True):
            partial.take(document.get(field, MISSING))
    return count, {b"".join(map(canonical, group.key)): group for group in known.values()}


def _name(key: tuple[Value | Missing, ...]) -> object:
    """Something that only equal keys have: a text by itself, as most are."""
    if len(key) == 1 and type(key[0]) is str:
        return key[0]
    return b"".join(map(canonical, key))
