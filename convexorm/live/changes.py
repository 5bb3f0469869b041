"""`Change`: what a watched query answers from some moment on, and what of it is new."""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs

__all__ = ["Change"]

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
