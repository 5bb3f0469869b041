"""The vectors of an index as a matrix of most of them, and over it a small one of what has changed since.

So a change costs what it changes: the large matrix is shared with the layers before, and made anew only when the small one
has grown. What lies under a change is left out of the large one by its place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs
import numpy as np

from convexorm.requests import ReadResult
from mastra_convex.vector.matrices import Positions, VectorMatrix, arranged

__all__ = ["MOST", "Layers"]

MOST = 256
"""Changes over a matrix, after which it is made anew with them."""


@attrs.frozen(eq=False)
class Layers:
    """The vectors of an index at one moment. Nothing changes once made, so threads may share it."""

    base: VectorMatrix
    over: VectorMatrix | None = None
    """Vectors that are new, or others than below."""
    orders: Positions = attrs.field(factory=lambda: np.empty(0, dtype=np.int64))
    """The places of those among all, in the order in which they were stored; new ones come behind the rest."""
    hidden: Mapping[str, int] = attrs.field(factory=dict)
    """Documents of the base that are gone or lie under others, by id, with their places."""
    gone: frozenset[str] = frozenset()
    """Documents of the base that are no more, also those without a vector of its dimension."""

    @property
    def dimension(self) -> int:
        return self.base.dimension

    @property
    def bytes(self) -> int:
        return self.base.bytes + (0 if self.over is None else self.over.bytes)

    @property
    def rows(self) -> int:
        """How many vectors there are, at most."""
        return len(self.base.ids) - len(self.hidden) + (0 if self.over is None else len(self.over.ids))

    @property
    def rounded(self) -> bool:
        return self.base.rounded or (self.over is not None and self.over.rounded)

    @cached_property
    def dead(self) -> Positions:
        """Places in the base that do not count."""
        return np.array(sorted(self.hidden.values()), dtype=np.int64)

    @property
    def digests(self) -> Mapping[str, str]:
        """Of all documents of the index."""
        if self.over is None and not self.gone:
            return self.base.digests
        below = {id_: digest for id_, digest in self.base.digests.items() if id_ not in self.gone}
        return below | (dict(self.over.digests) if self.over is not None else {})

    def with_changes(self, gone: Collection[str], read: ReadResult) -> Layers | None:
        """The layers with some documents gone, and others as they were read, their digests among them.

        None where a document comes in between others: then the order is to be read, too.
        """
        assert read.matrix is not None
        changed = {*gone, *read.digests}
        places = self.base.places
        before = self._over_without(changed)
        known = dict(zip(() if self.over is None else self.over.ids, self.orders.tolist(), strict=True))
        following = max([len(self.base.ids) - 1, *known.values()]) + 1
        orders = list(before.orders)
        last = self._last
        for id_, document in zip(read.matrix.ids, read.docs, strict=True):
            order = places.get(id_, known.get(id_))
            if order is None:
                if document["_creationTime"] <= last:
                    return None
                last, order, following = document["_creationTime"], following, following + 1
            orders.append(order)
        digests = {**before.digests, **read.digests}
        documents = [*before.documents, *read.docs]
        ids = [*before.ids, *read.matrix.ids]
        rows = np.concatenate((before.rows, read.matrix.rows)) if len(before.rows) else read.matrix.rows
        over = VectorMatrix.made(ids, rows, documents, digests, before.rounded or read.matrix.rounded)
        hidden = {id_: places[id_] for id_ in changed if id_ in places}
        lost = (self.gone | {id_ for id_ in gone if id_ in self.base.digests}) - read.digests.keys()
        return Layers(self.base, over, np.array(orders, dtype=np.int64), {**self.hidden, **hidden}, frozenset(lost))

    @property
    def is_grown(self) -> bool:
        """Whether so much has changed that the matrix is to be made anew."""
        return len(self.hidden) + len(self.gone) + (0 if self.over is None else len(self.over.digests)) > MOST

    def flattened(self) -> VectorMatrix:
        """All of it as one matrix, with a row of its own for each vector."""
        if self.over is None and not self.hidden and not self.gone:
            return self.base
        size = len(self.base.ids)
        below = np.setdiff1d(np.arange(size), self.dead, assume_unique=True)
        above = np.arange(0 if self.over is None else len(self.over.ids))
        order = np.argsort(np.concatenate((below, self.orders)), kind="stable")
        places = np.concatenate((below, size + above))[order]
        over = self.over
        ids: Sequence[str] = [*self.base.ids, *(() if over is None else over.ids)]
        return VectorMatrix(
            [ids[place] for place in places],
            self.base.rows[below] if over is None else arranged(self.base.rows, over.rows, places),
            self.base.documents.arranged(() if over is None else list(over.documents), places),
            self.digests,
            self.rounded,
        )

    @cached_property
    def _last(self) -> float:
        """When the latest of all was stored."""
        times = [matrix.documents[len(matrix.documents) - 1]["_creationTime"] for matrix in self._parts if matrix.ids]
        return max(times, default=0.0)

    @property
    def _parts(self) -> list[VectorMatrix]:
        return [self.base] if self.over is None else [self.base, self.over]

    def _over_without(self, ids: Collection[str]) -> _Kept:
        """What lies over the base, but for these."""
        over = self.over
        if over is None:
            return _Kept([], [], np.empty((0, self.dimension), dtype=np.float32), [], {}, rounded=False)
        kept = [place for place, id_ in enumerate(over.ids) if id_ not in ids]
        return _Kept(
            [over.ids[place] for place in kept],
            [int(self.orders[place]) for place in kept],
            over.rows[kept],
            [over.documents[place] for place in kept],
            {id_: digest for id_, digest in over.digests.items() if id_ not in ids},
            rounded=over.rounded,
        )


@attrs.frozen
class _Kept:
    ids: list[str]
    orders: list[int]
    rows: Any
    documents: list[Any]
    digests: dict[str, str]
    rounded: bool = attrs.field(kw_only=True)
