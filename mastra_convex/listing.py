"""Pages of queries: what every list of the contract answers, whatever its items."""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs

from convexorm import AsyncSession, Model, Query
from mastra_convex.arguments import Paging

__all__ = ["Slice", "slice_of"]

M = TypeVar("M", bound=Model)


@attrs.frozen
class Slice(Generic[M]):
    """The part of a query that was asked for. `total` is None where it was not."""

    items: list[M]
    total: int | None
    has_more: bool


async def slice_of(session: AsyncSession, query: Query[M], paging: Paging, include_total: bool) -> Slice[M]:
    """A part of a query in one call and, if asked for, its count. Without that `has_more` comes from one more document."""
    if paging.per_page is False:
        items = await session.all(query)
        return Slice(items, len(items) if include_total else None, False)
    part = query.offset(paging.offset).limit(paging.per_page + 1)
    total: int | None = None
    if include_total:
        items, total = await session.read(part, query.count())
    else:
        items = await session.all(part)
    return Slice(items[: paging.per_page], total, len(items) > paging.per_page)
