"""`Page`, `Fitting`, `Hit` and `Progress`: what sessions answer that is more than instances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

import attrs

from convexorm.errors import ValidationError

__all__ = ["Fitting", "Hit", "Invalid", "Page", "Progress"]

T = TypeVar("T")


@attrs.frozen
class Invalid:
    """A document that does not fit its model: its `_id`, and the error that looking at its column raises."""

    id: str
    error: ValidationError


class Fitting(list[T]):
    """The documents that fit their models, in order; `invalid` are the others, in order."""

    def __init__(self, items: Iterable[T] = (), invalid: Iterable[Invalid] = ()) -> None:
        super().__init__(items)
        self.invalid = list(invalid)


@attrs.frozen
class Page(Generic[T]):
    """Some of a query's documents. `cursor` is for the next page, None when there is none.

    `invalid` are those that do not fit their model, where they were to be collected.
    """

    items: list[T]
    cursor: str | None
    has_more: bool
    invalid: list[Invalid] = attrs.field(factory=list)


@attrs.frozen
class Hit(Generic[T]):
    """A document that a vector search found, with its cosine similarity (-1 to 1)."""

    item: T
    score: float


@attrs.frozen
class Progress:
    """How far something is that takes several commits: `done` documents, of `total` if that is known.

    Given as `resume` to the same call again, `cursor` has it go on behind what is done.
    """

    done: int
    total: int | None = None
    cursor: str | None = None
