"""Vectors stored in as few commits as their size allows, in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from convexorm import AsyncSession, ConvexORMError, Model
from mastra_convex.errors import MastraError

__all__ = ["PartialUpsert", "store"]

_STORED_BYTES = 6 << 20
"""Bytes of vectors written in one commit, as the arrays of float64 they are stored as; Convex allows 16 MiB of arguments,
and as much read and written."""


class PartialUpsert(MastraError):
    """An upsert too large for one commit that failed underway: the first `upserted` vectors are stored, the rest is not."""

    status = "PARTIAL_UPSERT"

    def __init__(self, upserted: int, total: int, *, operation: str) -> None:
        super().__init__(f"the first {upserted:,} of {total:,} vectors are stored, the rest is not", operation=operation)
        self.upserted = upserted
        self.total = total


async def store(
    session: AsyncSession,
    model: type[Model],
    rows: Iterable[Mapping[str, Any]],
    *,
    total: int,
    dimension: int,
    at_once: int,
    operation: str,
) -> None:
    """Upsert `total` rows with vectors of `dimension` numbers, at most `at_once` and 6 MiB of them in a commit.

    Raises PartialUpsert if a commit after the first fails, and the error itself if the first does.
    """
    rows = iter(rows)
    step = max(1, min(at_once, _STORED_BYTES // (9 * dimension)))
    for start in range(0, total, step):
        try:
            await session.bulk_upsert(model, islice(rows, step))
        except ConvexORMError as error:
            if start == 0:
                raise
            raise PartialUpsert(start, total, operation=operation) from error
