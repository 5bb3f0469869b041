"""The vectors of an index as a matrix that is never stale.

A matrix is kept with a digest of its documents. Before it is used the digest is asked for again, which costs a deployment
nothing as long as nothing has changed, whoever could have changed it; when it differs, the documents' own digests say which
of them to read again. What is then read must have the digests that were found, or the matrix would mix two moments.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import attrs
import numpy as np

from convexorm import AsyncSession, Query
from convexorm.nearest import norms_of
from convexorm.requests import Document, Matrix, ReadResult, vouches
from mastra_convex.domain import Offload
from mastra_convex.entities import Vector, VectorIndex
from mastra_convex.locks import ProcessLock
from mastra_convex.vector.columns import Columns

__all__ = ["Matrices", "Refreshed", "VectorMatrix", "metadata_of", "vectors_of"]

Positions: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_RELOAD = 0.5
"""The part of the rows from which changes are read anew with all the rest."""
_IDS_AT_ONCE = 1_000
"""Changed documents read in one call."""
_PARTS = 64
"""Batches of documents a matrix consists of before they are made one."""
_ROWS_AT_ONCE = 8_192
"""Rows copied at a time."""


def vectors_of(index_name: str) -> Query[Vector]:
    """All vectors of an index, in the order they were stored."""
    return Vector.query().by_index("by_index", index_name=index_name)


def metadata_of(document: Document) -> dict[str, Any] | None:
    """A vector's metadata, from the document as it is stored."""
    loaded = Vector.metadata.load(document.get("metadata"))
    return loaded if isinstance(loaded, dict) else None


class _Documents(Sequence[Document]):
    """Documents out of several batches, in an order of their own; each is parsed when it is looked at."""

    def __init__(self, parts: Sequence[Sequence[Document]], places: Positions) -> None:
        self.parts = parts
        self.places = places
        """For each document its batch and its place there: an array of shape (n, 2)."""

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, position: Any) -> Any:
        part, place = self.places[position]
        return self.parts[part][int(place)]

    def __iter__(self) -> Iterator[Document]:
        if len(self.parts) == 1 and len(self.parts[0]) == len(self):
            return iter(self.parts[0])
        return (self.parts[part][int(place)] for part, place in self.places)

    def arranged(self, more: Sequence[Document], order: Positions) -> _Documents:
        """Those at the places `order`, counting on from these to those in `more`."""
        before = self if len(self.parts) < _PARTS else _Documents([list(self)], _places(0, len(self)))
        places = np.concatenate((before.places, _places(len(before.parts), len(more))))
        return _Documents([*before.parts, more], places[order])


def _places(part: int, size: int) -> Positions:
    return np.column_stack((np.full(size, part), np.arange(size)))


class VectorMatrix:
    """The vectors of an index at one moment: a row of float32 for each, and its document without the vector.

    `digests` are those of all documents of the index, also of the ones without a vector of its dimension. Nothing changes
    once made, so threads may share it.
    """

    def __init__(
        self,
        ids: Sequence[str],
        rows: np.ndarray[Any, np.dtype[np.float32]],
        documents: _Documents,
        digests: Mapping[str, str],
        rounded: bool,
    ) -> None:
        self.ids = ids
        self.rows = rows
        self.documents = documents
        self.digests = digests
        self.rounded = rounded

    @classmethod
    def of(cls, result: ReadResult) -> VectorMatrix:
        assert result.matrix is not None
        documents = _Documents([result.docs], _places(0, len(result.docs)))
        return cls(result.matrix.ids, result.matrix.rows, documents, result.digests, result.matrix.rounded)

    @property
    def dimension(self) -> int:
        return int(self.rows.shape[1])

    @property
    def bytes(self) -> int:
        return self.rows.nbytes

    @cached_property
    def norms(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The length of each row."""
        norms: np.ndarray[Any, np.dtype[np.float32]] = norms_of(self.rows)
        return norms

    @cached_property
    def columns(self) -> Columns:
        """The metadata of the rows, to filter by."""
        return Columns([metadata_of(document) for document in self.documents])

    def changed(self, digests: Mapping[str, str]) -> list[str]:
        """The ids of documents that are new or not what they were."""
        return [id_ for id_, digest in digests.items() if self.digests.get(id_) != digest]

    def updated(self, digests: Mapping[str, str], read: ReadResult) -> VectorMatrix:
        """The matrix of all documents in `digests`, in that order, with those that changed as they were read."""
        assert read.matrix is not None
        own = {id_: place for place, id_ in enumerate(self.ids) if digests.get(id_) == self.digests[id_]}
        new = {id_: place for place, id_ in enumerate(read.matrix.ids, len(self.ids))}
        places = {id_: own.get(id_, new.get(id_)) for id_ in digests}
        ids = [id_ for id_, place in places.items() if place is not None]
        order = np.array([places[id_] for id_ in ids], dtype=np.int64)
        return VectorMatrix(
            ids,
            _arranged(self.rows, read.matrix.rows, order),
            self.documents.arranged(read.docs, order),
            {id_: read.digests.get(id_, digest) for id_, digest in digests.items()},
            self.rounded or read.matrix.rounded,
        )


def _arranged(rows: Any, more: Any, order: Positions) -> Any:
    """The rows of two matrices at these places, copied once."""
    arranged = np.empty((len(order), rows.shape[1]), dtype=rows.dtype)
    for start in range(0, len(order), _ROWS_AT_ONCE):
        part = order[start : start + _ROWS_AT_ONCE]
        old = part < len(rows)
        arranged[start : start + len(part)][old] = rows[part[old]]
        arranged[start : start + len(part)][~old] = more[part[~old] - len(rows)]
    return arranged


@attrs.frozen
class Refreshed:
    """A matrix read just now. It is that of one moment if it is `settled`; else some of it may be older than the rest."""

    matrix: VectorMatrix
    settled: bool


class Matrices:
    """The matrices kept, by index, within `max_bytes` altogether; the least recently used make room.

    A matrix is kept under the digest that was asked for before it was read, if finding the same digest later means that the
    matrix is what it was. Safe to share between threads: what two of them read at once, either may keep.
    """

    def __init__(self, max_bytes: int, offload: Offload) -> None:
        self.max_bytes = max_bytes
        self._offload = offload
        self._lock = ProcessLock()
        self._kept: OrderedDict[str, tuple[str | None, VectorMatrix]] = OrderedDict()
        self._too_large: set[str] = set()

    def known(self, index: VectorIndex, digest: str) -> VectorMatrix | None:
        """The matrix of an index, if it is the one that has this digest."""
        with self._lock():
            kept = self._kept.get(index.index_name)
            if kept is None or kept[0] != digest or kept[1].dimension != index.dimension:
                return None
            self._kept.move_to_end(index.index_name)
            return kept[1]

    async def refreshed(
        self, session: AsyncSession, index: VectorIndex, digest: str, *, anew: bool = False
    ) -> Refreshed | None:
        """The matrix of an index whose digest was just found to be `digest`; None if it is larger than may be kept.

        Only what has changed is read, unless all of it is to be read `anew`: in one call, then, where it fits into one.
        """
        name = index.index_name
        with self._lock():
            known = None if anew else self._kept.get(name)
        if name in self._too_large and await session.count(vectors_of(name)) > self._fits(index):
            return None
        if known is None or known[1].dimension != index.dimension:
            found = await self._loaded(session, index, digest)
        else:
            found = await self._caught_up(session, index, digest, known[1])
        with self._lock():
            if found is None:
                self._kept.pop(name, None)
                self._too_large.add(name)
            else:
                self._too_large.discard(name)
                self._keep(name, digest if found.settled else None, found.matrix)
        return found

    def forget(self, index_name: str) -> None:
        with self._lock():
            self._kept.pop(index_name, None)

    def _fits(self, index: VectorIndex) -> int:
        """How many rows may be kept."""
        return self.max_bytes // (4 * index.dimension)

    async def _loaded(self, session: AsyncSession, index: VectorIndex, digest: str) -> Refreshed | None:
        fits = self._fits(index)
        read = await session.matrix(Vector.embedding, index.dimension, vectors_of(index.index_name).limit(fits + 1))
        if len(read.digests) > fits:
            return None
        return Refreshed(VectorMatrix.of(read), vouches(digest, read.digests))

    async def _caught_up(
        self, session: AsyncSession, index: VectorIndex, digest: str, known: VectorMatrix
    ) -> Refreshed | None:
        digests = await session.digests(vectors_of(index.index_name))
        if len(digests) > self._fits(index):
            return None
        changed = known.changed(digests)
        if len(changed) > _RELOAD * len(digests):
            return await self._loaded(session, index, digest)
        nothing = Matrix((), np.empty((0, index.dimension), dtype=np.float32), rounded=False)
        read = ReadResult((), 0, 0, False, matrix=nothing)
        for start in range(0, len(changed), _IDS_AT_ONCE):
            ids = changed[start : start + _IDS_AT_ONCE]
            queries = [Vector.query().by_index("by_id", Vector.convex_id == id_) for id_ in ids]
            read = read.joined(await session.matrix(Vector.embedding, index.dimension, *queries))
        settled = vouches(digest, digests) and all(read.digests.get(id_) == digests[id_] for id_ in changed)
        return Refreshed(await self._offload(lambda: known.updated(digests, read)), settled)

    def _keep(self, index_name: str, digest: str | None, matrix: VectorMatrix) -> None:
        self._kept[index_name] = (digest, matrix)
        self._kept.move_to_end(index_name)
        while len(self._kept) > 1 and sum(one.bytes for _, one in self._kept.values()) > self.max_bytes:
            self._kept.popitem(last=False)
