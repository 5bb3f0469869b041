"""The matrices that a store keeps, and how they catch up with what has changed.

A matrix is kept with a digest of its documents. Before it is used the digest is asked for again, which costs a deployment
nothing as long as nothing has changed, whoever could have changed it. When it differs, a deployment that keeps count of
changes says which documents have changed since; any other answers the digests of all. What is then read must have the
digests that were found, or the matrix would mix two moments.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from convexorm import AsyncSession
from convexorm.concurrency.guards import Guard
from convexorm.requests import Matrix, ReadResult, version_of, vouches
from mastra_convex.domain import Offload
from mastra_convex.entities import Vector, VectorIndex
from mastra_convex.vector.layers import MOST, Layers
from mastra_convex.vector.matrices import VectorMatrix, vectors_of

__all__ = ["Matrices", "Refreshed"]

_RELOAD = 0.5
"""The part of the rows from which changes are read anew with all the rest."""
_IDS_AT_ONCE = 1_000
"""Changed documents read in one call."""


@attrs.frozen
class Refreshed:
    """A matrix read just now. It is that of one moment if it is `settled`; else some of it may be older than the rest."""

    matrix: Layers
    settled: bool


class Matrices:
    """The matrices kept, by index, within `max_bytes` altogether; the least recently used make room.

    A matrix is kept under the digest that was asked for before it was read, if finding the same digest later means that the
    matrix is what it was. Safe to share between threads: what two of them read at once, either may keep.
    """

    def __init__(self, max_bytes: int, offload: Offload) -> None:
        self.max_bytes = max_bytes
        self._offload = offload
        self._guard = Guard()
        self._kept: OrderedDict[str, tuple[str | None, Layers]] = OrderedDict()
        self._too_large: set[str] = set()

    def known(self, index: VectorIndex, digest: str) -> Layers | None:
        """The matrix of an index, if it is the one that has this digest."""

        def found() -> Layers | None:
            kept = self._kept.get(index.index_name)
            if kept is None or kept[0] != digest or kept[1].dimension != index.dimension:
                return None
            self._kept.move_to_end(index.index_name)
            return kept[1]

        return self._guard(found)

    async def refreshed(
        self, session: AsyncSession, index: VectorIndex, digest: str, *, anew: bool = False
    ) -> Refreshed | None:
        """The matrix of an index whose digest was just found to be `digest`; None if it is larger than may be kept.

        Only what has changed is read, unless all of it is to be read `anew`: in one call, then, where it fits into one.
        """
        name = index.index_name
        known = None if anew else self._guard(lambda: self._kept.get(name))
        if name in self._too_large and await session.count(vectors_of(name)) > self._fits(index):
            return None
        if known is None or known[1].dimension != index.dimension:
            found = await self._loaded(session, index, digest)
        else:
            found = await self._caught_up(session, index, digest, *known)

        def keep() -> None:
            if found is None:
                self._kept.pop(name, None)
                self._too_large.add(name)
            else:
                self._too_large.discard(name)
                self._keep(name, digest if found.settled else None, found.matrix)

        self._guard(keep)
        return found

    def forget(self, index_name: str) -> None:
        self._guard(lambda: self._kept.pop(index_name, None))

    def _fits(self, index: VectorIndex) -> int:
        """How many rows may be kept."""
        return self.max_bytes // (4 * index.dimension)

    async def _loaded(self, session: AsyncSession, index: VectorIndex, digest: str) -> Refreshed | None:
        fits = self._fits(index)
        read = await session.matrix(Vector.embedding, index.dimension, vectors_of(index.index_name).limit(fits + 1))
        if len(read.digests) > fits:
            return None
        return Refreshed(Layers(VectorMatrix.of(read)), vouches(digest, read.digests))

    async def _caught_up(
        self, session: AsyncSession, index: VectorIndex, digest: str, before: str | None, known: Layers
    ) -> Refreshed | None:
        """The matrix as `digest` has it, from the one that was kept, under `before` if it was of one moment."""
        query = vectors_of(index.index_name)
        if before is None or version_of(before) is None:
            return await self._compared(session, index, digest, known.flattened(), await session.digests(query))
        found = await session.changes(query, before)
        if found.gone is None:
            return await self._compared(session, index, digest, known.flattened(), found.digests)
        if len(found.digests) > max(MOST, _RELOAD * len(known.base.digests)):
            return await self._loaded(session, index, digest)
        read = await self._read(session, index, list(found.digests))
        layers = known.with_changes(found.gone, read)
        if layers is None:
            return await self._compared(session, index, digest, known.flattened(), await session.digests(query))
        if layers.is_grown:
            flat = layers
            layers = Layers(await self._offload(lambda: flat.flattened()))
        if layers.rows > self._fits(index):
            return None
        return Refreshed(layers, read.digests == found.digests)

    async def _compared(
        self, session: AsyncSession, index: VectorIndex, digest: str, known: VectorMatrix, digests: Mapping[str, str]
    ) -> Refreshed | None:
        """The matrix caught up by the digests of all documents."""
        if len(digests) > self._fits(index):
            return None
        changed = known.changed(digests)
        if len(changed) > _RELOAD * len(digests):
            return await self._loaded(session, index, digest)
        read = await self._read(session, index, changed)
        settled = vouches(digest, digests) and all(read.digests.get(id_) == digests[id_] for id_ in changed)
        return Refreshed(Layers(await self._offload(lambda: known.updated(digests, read))), settled)

    async def _read(self, session: AsyncSession, index: VectorIndex, ids: Sequence[str]) -> ReadResult:
        """Documents by their ids."""
        nothing = Matrix((), np.empty((0, index.dimension), dtype=np.float32), rounded=False)
        read = ReadResult((), 0, 0, False, matrix=nothing)
        for start in range(0, len(ids), _IDS_AT_ONCE):
            part = ids[start : start + _IDS_AT_ONCE]
            queries = [Vector.query().by_index("by_id", Vector.convex_id == id_) for id_ in part]
            read = read.joined(await session.matrix(Vector.embedding, index.dimension, *queries))
        return read

    def _keep(self, index_name: str, digest: str | None, matrix: Layers) -> None:
        self._kept[index_name] = (digest, matrix)
        self._kept.move_to_end(index_name)
        while len(self._kept) > 1 and sum(one.bytes for _, one in self._kept.values()) > self.max_bytes:
            self._kept.popitem(last=False)
