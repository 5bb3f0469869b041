"""`Page`, `Hit` and `Progress`: what sessions answer that is more than instances."""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs

__all__ = ["Hit", "Page", "Progress"]

T = TypeVar("T")


@attrs.frozen
class Page(Generic[T]):
    """Some of a query's documents. `cursor` is for the next page, None when there is none."""

    items: list[T]
    cursor: str | None
    has_more: bool


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
