"""Vector search in the embedded deployment: exact cosine similarity over all documents of an index.

The vectors of the index searched last are kept as a matrix, for as long as the table says that nothing has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.reads import answer
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.nearest import best_of, exact_scores, norms_of
from convexorm.requests import Document, Pack, Range, Read, ReadResult, Search
from convexorm.schema import VectorIndexDef
from convexorm.values import MISSING, canonical

__all__ = ["Searcher"]

_KEPT = 512 << 20
"""Bytes of a matrix that is kept from one search to the next."""


class _Vectors:
    """The vectors of an index at one moment."""

    def __init__(self, result: ReadResult) -> None:
        assert result.matrix is not None
        self.ids = result.matrix.ids
        self.rows = result.matrix.rows
        self.rounded = result.matrix.rounded
        self.documents = result.docs
        self._columns: dict[str, list[bytes]] = {}

    @cached_property
    def norms(self) -> Any:
        return norms_of(self.rows)

    def chosen(self, filter: Sequence[tuple[str, Any]]) -> Any:
        """The positions of the documents where one of the equalities holds; None for all."""
        if not filter:
            return None
        mask = np.zeros(len(self.ids), dtype=np.bool_)
        for field, value in filter:
            if field not in self._columns:
                self._columns[field] = [canonical(document.get(field, MISSING)) for document in self.documents]
            wanted = canonical(value)
            mask |= np.fromiter((one == wanted for one in self._columns[field]), np.bool_, len(self.ids))
        return np.flatnonzero(mask)

    def near(self, query: Any, limit: int, chosen: Any) -> Any:
        """The positions, ascending, of all that may be among the `limit` nearest. Rows of zeros have the cosine 0."""
        everything = np.arange(len(self.ids)) if chosen is None else chosen
        if not query.any():
            return everything[:limit]
        zeros = self.norms[everything] == 0
        directed = everything[~zeros] if zeros.any() else chosen
        found = best_of("cosine", self.rows, self.norms, query, limit, directed, rounded=self.rounded).positions
        return np.sort(np.concatenate((found, everything[zeros] if self.rounded else everything[zeros][:limit])))


class Searcher:
    """Answers searches, keeping what the next one is likely to need."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[object, ...], _Vectors] | None = None

    def search(
        self, connection: Connection, stored: StoredTable, index: VectorIndexDef, search: Search
    ) -> list[tuple[float, Document]]:
        """The nearest documents with their cosine similarity, best first; of equals the older one first."""
        vectors = self._vectors(connection, stored, index, search)
        query = np.asarray(search.vector, dtype=np.float64)
        _, exponent = np.frexp(np.abs(query).max())
        query = np.ldexp(query, -exponent)  # the same direction, of a length whose square is a float
        near = vectors.near(query, search.limit, vectors.chosen(search.filter))
        documents = self._documents(connection, stored, search, [vectors.ids[position] for position in near])
        if not documents:
            return []
        found = np.array([one[index.field] for one in documents], dtype=np.float64)
        scores = (
            np.where(found.any(axis=1), exact_scores("cosine", found, query), 0.0) if query.any() else np.zeros(len(found))
        )
        order = np.argsort(-scores, kind="stable")[: search.limit]
        return [(float(scores[place]), documents[place]) for place in order]

    def _vectors(self, connection: Connection, stored: StoredTable, index: VectorIndexDef, search: Search) -> _Vectors:
        everything = Range(search.table, "by_creation_time")
        digest = answer(connection, stored, Read(everything, digest="all")).digests[""]
        key = (stored.name, index.field, index.dimensions, digest)
        kept = self._kept
        if kept is not None and kept[0] == key:
            return kept[1]
        vectors = _Vectors(answer(connection, stored, Read(everything, pack=Pack(index.field, index.dimensions))))
        self._kept = (key, vectors) if vectors.rows.nbytes <= _KEPT else None
        return vectors

    def _documents(self, connection: Connection, stored: StoredTable, search: Search, ids: Sequence[str]) -> list[Document]:
        """Whole documents by their ids."""
        reads = [Read(Range(search.table, "by_id", (id_,)), limit=1) for id_ in ids]
        return [one for read in reads for one in answer(connection, stored, read).docs]
