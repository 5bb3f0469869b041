"""Vectors stored in as few commits as their size allows, in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from convexorm import AsyncSession, ConvexORMError, Model, StaleDataError
from convexorm.types import JsonType
from convexorm.values import MISSING
from mastra_convex.arguments import naming
from mastra_convex.errors import MastraError
from mastra_convex.undoing import undone

__all__ = ["PartialUpsert", "store"]

_TEXTS = {"id", "index_name"}
"""Columns of texts, which can be stored if they are ASCII."""
_TAKEN_BACK_AT_ONCE = 1_000
"""Vectors deleted by key in one commit, no more than were stored in one: each takes two of Convex's 4,096 index ranges."""
_STORED_BYTES = 6 << 20
"""Bytes of vectors written in one commit, as the arrays of float64 they are stored as; Convex allows 16 MiB of arguments,
and as much read and written."""


class PartialUpsert(MastraError):
    """An upsert too large for one commit that failed underway: the first `upserted` vectors are stored, the rest is not.

    None are where the ids were new: nobody knows those, so what was stored is taken back.
    """

    status = "PARTIAL_UPSERT"

    def __init__(self, upserted: int, total: int, *, operation: str) -> None:
        super().__init__(f"the first {upserted:,} of {total:,} vectors are stored, the rest is not", operation=operation)
        self.upserted = upserted
        self.total = total


async def store(
    session: AsyncSession,
    model: type[Model],
    ids: Sequence[str],
    matrix: np.ndarray[Any, Any],
    attributes: Callable[[int], Mapping[str, Any]],
    metadata: Sequence[Mapping[str, Any] | None],
    *,
    at_once: int,
    operation: str,
    key: Callable[[str], Any],
    new: bool,
    under: Model | None = None,
) -> None:
    """Upsert the rows of a matrix under their ids, at most `at_once` and 6 MiB of them in a commit.

    `attributes` are the others of a row, by its place, made of its `metadata`. What cannot be stored is refused before the
    first commit. Raises PartialUpsert if a later one fails, and the error itself if the first does. If the ids are `new`,
    what is stored is taken back, whatever ends the upsert; `key` makes the primary key of an id. Every commit finds what
    they stand `under` as it was read, or is a StaleDataError.
    """
    total, dimension = matrix.shape
    step = max(1, min(at_once, _STORED_BYTES // (9 * dimension)))
    if total > step:
        known = _TEXTS | {"metadata"} if _is_json(metadata) else _TEXTS
        certain = model.__mapper__.columns.keys() <= known | {"embedding"}
        with naming(operation, "metadata"):
            for place, id_ in enumerate(ids):
                if not (id_.isascii() and (certain or metadata[place] is None)):
                    _check(model, {"id": id_, **attributes(place)})
    for start in range(0, total, step):
        places = range(start, min(start + step, total))
        rows = ({"id": ids[place], "embedding": matrix[place], **attributes(place)} for place in places)
        try:
            with naming(operation, "metadata"):
                await session.bulk_upsert(model, rows, under=under)
        except BaseException as error:
            back = _TakingBack(session, model, [key(id) for id in ids[: start + step]], step)
            if new and total > step:
                await undone(back.run)
            stored = 0 if back.is_done else start
            if start == 0 or not isinstance(error, ConvexORMError) or isinstance(error, StaleDataError):
                raise  # what they stand under is gone, and with it what was stored
            raise PartialUpsert(stored, total, operation=operation) from error


class _TakingBack:
    """Deletes what is stored under keys that are new. Can be cut off, and run again."""

    def __init__(self, session: AsyncSession, model: type[Model], keys: Sequence[Any], at_once: int) -> None:
        self._session = session
        self._model = model
        self._keys = keys
        self._at_once = min(at_once, _TAKEN_BACK_AT_ONCE)
        self.is_done = False

    async def run(self) -> None:
        for start in range(0, len(self._keys), self._at_once):
            self._session.rollback()
            for one in self._keys[start : start + self._at_once]:
                self._session.delete_key(self._model, one)
            await self._session.commit()
        self.is_done = True


def _is_json(metadata: Sequence[Mapping[str, Any] | None]) -> bool:
    """Whether all of it is JSON for certain, and so can be stored: found out in one go, which is quick."""
    try:
        json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _check(model: type[Model], values: Mapping[str, Any]) -> None:
    """Raise ValidationError or LimitExceeded unless attributes can be stored."""
    for name, value in values.items():
        column = model.__mapper__.columns[name]
        dumped = None if value is None or (type(value) is str and value.isascii()) else column.dump(value)
        if dumped is not None and dumped is not MISSING and not isinstance(column.type, JsonType):  # its own values fit
            model.__mapper__.table.check_field(column.field, dumped)
