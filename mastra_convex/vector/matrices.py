"""The vectors of an index as a matrix that is never stale.

A matrix is kept with a digest of its documents. Before it is used the digest is asked for again, which costs a deployment
nothing as long as nothing has changed, whoever could have changed it; when it differs, the documents' own digests say which
of them to read again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from convexorm import AsyncSession, Query
from convexorm.requests import Document, ReadResult
from mastra_convex.entities import Vector
from mastra_convex.vector.columns import Columns

__all__ = ["Matrices", "VectorMatrix", "metadata_of", "vectors_of"]

_RELOAD = 0.5
"""The part of the rows from which changes are read anew with all the rest."""
_IDS_AT_ONCE = 1_000
"""Changed documents read in one call."""
_PARTS = 64
"""Batches of documents a matrix consists of before they are made one."""


def vectors_of(index_name: str) -> Query[Vector]:
    """All vectors of an index, in the order they were stored."""
    return Vector.query().by_index("by_index", index_name=index_name)


def metadata_of(document: Document) -> dict[str, Any] | None:
    """A vector's metadata, from the document as it is stored."""
    loaded = Vector.metadata.load(document.get("metadata"))
    return loaded if isinstance(loaded, dict) else None


class _Documents(Sequence[Document]):
    """Documents out of several batches, in an order of their own; each is parsed when it is looked at."""

    def __init__(self, parts: Sequence[Sequence[Document]], places: np.ndarray[Any, np.dtype[np.int64]]) -> None:
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

    def kept(self, keep: np.ndarray[Any, np.dtype[np.bool_]], more: Sequence[Document]) -> _Documents:
        """Those to keep, and more behind them."""
        before = self if len(self.parts) < _PARTS else _Documents([list(self)], _places(0, len(self)))
        places = np.concatenate((before.places[keep], _places(len(before.parts), len(more))))
        return _Documents([*before.parts, more], places)


def _places(part: int, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.column_stack((np.full(size, part), np.arange(size)))


class VectorMatrix:
    """The vectors of an index at one moment: a row of float32 for each, and its document without the vector."""

    def __init__(
        self,
        rows: np.ndarray[Any, np.dtype[np.float32]],
        documents: _Documents,
        digests: Mapping[str, str],
        rounded: bool,
    ) -> None:
        self.rows = rows
        self.documents = documents
        self.digests = digests
        self.rounded = rounded

    @classmethod
    def of(cls, result: ReadResult) -> VectorMatrix:
        assert result.matrix is not None
        documents = _Documents([result.docs], _places(0, len(result.docs)))
        digests = {id_: result.digests[id_] for id_ in result.matrix.ids}
        return cls(result.matrix.rows, documents, digests, result.matrix.rounded)

    @cached_property
    def norms(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The length of each row."""
        norms: np.ndarray[Any, np.dtype[np.float32]] = np.sqrt(np.einsum("ij,ij->i", self.rows, self.rows))
        return norms

    @cached_property
    def columns(self) -> Columns:
        """The metadata of the rows, to filter by."""
        return Columns([metadata_of(document) for document in self.documents])

    @property
    def bytes(self) -> int:
        return self.rows.nbytes

    def changed(self, digests: Mapping[str, str]) -> list[str]:
        """The ids of documents that are new or not what they were."""
        return [id_ for id_, digest in digests.items() if self.digests.get(id_) != digest]

    def updated(self, digests: Mapping[str, str], result: ReadResult) -> VectorMatrix:
        """The matrix with what was read of the changed documents, and without those that are gone."""
        assert result.matrix is not None
        ids = list(self.digests)
        keep = np.fromiter((digests.get(id_) == self.digests[id_] for id_ in ids), np.bool_, len(ids))
        rows = np.concatenate((self.rows[keep], result.matrix.rows))
        kept = {id_: self.digests[id_] for id_, stays in zip(ids, keep, strict=True) if stays}
        kept.update((id_, result.digests[id_]) for id_ in result.matrix.ids)
        documents = self.documents.kept(keep, result.docs)
        return VectorMatrix(rows, documents, kept, self.rounded or result.matrix.rounded)


class Matrices:
    """The matrices kept, by index, within `max_bytes` altogether; the least recently used make room."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._kept: OrderedDict[str, tuple[str, VectorMatrix]] = OrderedDict()

    async def current(self, session: AsyncSession, index_name: str, dimension: int, digest: str) -> VectorMatrix | None:
        """The matrix of an index whose digest was found to be `digest` just now; None if it is larger than may be kept."""
        known = self._kept.get(index_name)
        if known is not None and known[0] == digest and known[1].rows.shape[1] == dimension:
            self._kept.move_to_end(index_name)
            return known[1]
        if known is not None and known[1].rows.shape[1] == dimension:
            matrix = await self._caught_up(session, index_name, dimension, known[1])
        else:
            matrix = await self._loaded(session, index_name, dimension)
        if matrix is None:
            self._kept.pop(index_name, None)
            return None
        self._keep(index_name, digest, matrix)
        return matrix

    def forget(self, index_name: str) -> None:
        self._kept.pop(index_name, None)

    async def _loaded(self, session: AsyncSession, index_name: str, dimension: int) -> VectorMatrix | None:
        fits = self.max_bytes // (4 * dimension)
        result = await session.matrix(Vector.embedding, dimension, vectors_of(index_name).limit(fits + 1))
        return VectorMatrix.of(result) if len(result.docs) <= fits else None

    async def _caught_up(
        self, session: AsyncSession, index_name: str, dimension: int, known: VectorMatrix
    ) -> VectorMatrix | None:
        digests = await session.digests(vectors_of(index_name))
        changed = known.changed(digests)
        if len(changed) > _RELOAD * len(digests) or 4 * dimension * len(digests) > self.max_bytes:
            return await self._loaded(session, index_name, dimension)
        read = await session.matrix(Vector.embedding, dimension, vectors_of(index_name).limit(0))
        for start in range(0, len(changed), _IDS_AT_ONCE):
            ids = changed[start : start + _IDS_AT_ONCE]
            queries = [Vector.query().by_index("by_id", Vector.convex_id == id_) for id_ in ids]
            read = read.joined(await session.matrix(Vector.embedding, dimension, *queries))
        return known.updated(digests, read)

    def _keep(self, index_name: str, digest: str, matrix: VectorMatrix) -> None:
        self._kept[index_name] = (digest, matrix)
        self._kept.move_to_end(index_name)
        while len(self._kept) > 1 and sum(one.bytes for _, one in self._kept.values()) > self.max_bytes:
            self._kept.popitem(last=False)
