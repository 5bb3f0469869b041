"""Vector search in the embedded deployment: exact cosine similarity over all documents of an index.

The vectors of the index searched last are kept as a matrix, for as long as the table says that nothing has changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

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


class Searcher:
    """Answers searches, keeping what the next one is likely to need."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[str, str, str], _Vectors] | None = None

    def search(
        self, connection: sqlite3.Connection, stored: StoredTable, index: VectorIndexDef, search: Search
    ) -> list[tuple[float, Document]]:
        """The nearest documents with their cosine similarity, best first; of equals the older one first."""
        vectors = self._vectors(connection, stored, index, search)
        query = np.asarray(search.vector, dtype=np.float64)
        chosen = vectors.chosen(search.filter)
        near = best_of("cosine", vectors.rows, vectors.norms, query, search.limit, chosen, rounded=vectors.rounded)
        documents = self._documents(connection, stored, search, [vectors.ids[position] for position in near.positions])
        if not documents:
            return []
        scores = exact_scores("cosine", np.array([one[index.field] for one in documents], dtype=np.float64), query)
        order = np.argsort(-scores, kind="stable")[: search.limit]
        return [(float(scores[place]), documents[place]) for place in order]

    def _vectors(
        self, connection: sqlite3.Connection, stored: StoredTable, index: VectorIndexDef, search: Search
    ) -> _Vectors:
        everything = Range(search.table, "by_creation_time")
        digest = answer(connection, stored, Read(everything, digest="all")).digests[""]
        key = (stored.name, index.name, digest)
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        vectors = _Vectors(answer(connection, stored, Read(everything, pack=Pack(index.field, index.dimensions))))
        self._kept = (key, vectors) if vectors.rows.nbytes <= _KEPT else None
        return vectors

    def _documents(
        self, connection: sqlite3.Connection, stored: StoredTable, search: Search, ids: Sequence[str]
    ) -> list[Document]:
        """Whole documents by their ids."""
        reads = [Read(Range(search.table, "by_id", (id_,)), limit=1) for id_ in ids]
        return [one for read in reads for one in answer(connection, stored, read).docs]
