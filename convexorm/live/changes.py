"""`Change`: what a watched query answers from some moment on, and what of it is new."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any, Generic, TypeVar

import attrs

__all__ = ["Change", "difference"]

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen(eq=False)
class Change(Generic[T_co]):
    """The documents of a query at one moment, as detached instances, in order, and how they differ from the state before.

    `changed` are new instances of documents that were there before, or of documents that load something else now.
    `removed` are the instances that stood for documents which the query has no more.
    """

    items: list[T_co]
    added: list[T_co]
    changed: list[T_co]
    removed: list[T_co]

    def __repr__(self) -> str:
        counts = f"{len(self.added)} added, {len(self.changed)} changed, {len(self.removed)} removed"
        return f"<Change: {len(self.items)} items, {counts}>"


def difference(before: Sequence[Any] | None, items: Sequence[Any]) -> Change[Any] | None:
    """How instances, each the same as long as its document is, differ from those before; None if they do not.

    Without any before, all are added. The lists are the caller's to do as he likes with.
    """
    if before is None:
        return Change(list(items), list(items), [], [])
    if len(items) == len(before) and all(map(is_, items, before)):
        return None
    gone = {one.convex_id: one for one in before}
    added, changed = [], []
    for item in items:
        old = gone.pop(item.convex_id, None)
        if old is None:
            added.append(item)
        elif old is not item:
            changed.append(item)
    return Change(list(items), added, changed, list(gone.values()))
