"""The vectors of an index as a matrix: a row of float32 for each, beside its document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from convexorm import Query
from convexorm.nearest import norms_of
from convexorm.requests import Document, ReadResult
from mastra_convex.entities import Vector
from mastra_convex.vector.columns import Columns

__all__ = ["Positions", "VectorMatrix", "arranged", "metadata_of", "vectors_of"]

Positions: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

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


def arranged(rows: Any, more: Any, order: Positions) -> Any:
    """The rows of two matrices at these places, copied once."""
    arranged = np.empty((len(order), rows.shape[1]), dtype=rows.dtype)
    for start in range(0, len(order), _ROWS_AT_ONCE):
        part = order[start : start + _ROWS_AT_ONCE]
        old = part < len(rows)
        arranged[start : start + len(part)][old] = rows[part[old]]
        arranged[start : start + len(part)][~old] = more[part[~old] - len(rows)]
    return arranged


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

    @classmethod
    def made(
        cls,
        ids: Sequence[str],
        rows: np.ndarray[Any, np.dtype[np.float32]],
        documents: Sequence[Document],
        digests: Mapping[str, str],
        rounded: bool,
    ) -> VectorMatrix:
        """A matrix of rows at hand."""
        return cls(ids, rows, _Documents([documents], _places(0, len(documents))), digests, rounded)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The row of each vector, by the document's id."""
        return {id_: place for place, id_ in enumerate(self.ids)}

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
            arranged(self.rows, read.matrix.rows, order),
            self.documents.arranged(read.docs, order),
            {id_: read.digests.get(id_, digest) for id_, digest in digests.items()},
            self.rounded or read.matrix.rounded,
        )
