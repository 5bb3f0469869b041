"""Mastra's vector stores: `ConvexVector` searches exactly, `ConvexNativeVector` through Convex's own vector indexes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from mastra_convex.connection import AsyncConnected, Connected, Connection, ConnectionOptions, check_store_id
from mastra_convex.vector.exact import (
    MAX_BYTES,
    AsyncExactVectors,
    ExactVectors,
    IndexNotFound,
    IndexStats,
    QueryResult,
    VectorUpdate,
)
from mastra_convex.vector.native import AsyncNativeVectors, NativeVector, NativeVectors, native_vector_table
from mastra_convex.vector.upserts import PartialUpsert

__all__ = [
    "AsyncConvexNativeVector",
    "AsyncConvexVector",
    "ConvexNativeVector",
    "ConvexVector",
    "IndexNotFound",
    "IndexStats",
    "NativeVector",
    "PartialUpsert",
    "QueryResult",
    "VectorUpdate",
    "native_vector_table",
]


class ConvexVector(Connected, ExactVectors):
    """Exact vector search on Convex or embedded, blocking.

    The vectors of an index are kept in memory as a float32 matrix and read again only where they have changed; `max_bytes`
    is what all matrices together may take, and an index larger than that is read in pages for every query. Safe to share
    between threads.
    """

    def __init__(self, *, id: str, max_bytes: int = MAX_BYTES, **options: Unpack[ConnectionOptions]) -> None:
        self.id = check_store_id(id)
        self._connection = Connection(options, others=("id", "max_bytes"))
        self._core = AsyncExactVectors(self._connection.blocking, max_bytes)


class AsyncConvexVector(AsyncConnected, AsyncExactVectors):
    """Exact vector search on Convex or embedded, awaited. Takes what `ConvexVector` takes; safe to share between tasks."""

    def __init__(self, *, id: str, max_bytes: int = MAX_BYTES, **options: Unpack[ConnectionOptions]) -> None:
        self.id = check_store_id(id)
        self._connection = Connection(options, others=("id", "max_bytes"))
        super().__init__(self._connection.asynchronous, max_bytes)


class ConvexNativeVector(Connected, NativeVectors):
    """Approximate vector search by Convex's own indexes, blocking; on an embedded deployment it is exact.

    `indexes` are models made by `native_vector_table`, by the names that Mastra calls them.
    """

    def __init__(self, *, id: str, indexes: Mapping[str, type[NativeVector]], **options: Unpack[ConnectionOptions]) -> None:
        self.id = check_store_id(id)
        self._connection = Connection(options, others=("id", "indexes"))
        self._core = AsyncNativeVectors(self._connection.blocking, indexes)


class AsyncConvexNativeVector(AsyncConnected, AsyncNativeVectors):
    """Approximate vector search by Convex's own indexes, awaited. Takes what `ConvexNativeVector` takes."""

    def __init__(self, *, id: str, indexes: Mapping[str, type[NativeVector]], **options: Unpack[ConnectionOptions]) -> None:
        self.id = check_store_id(id)
        self._connection = Connection(options, others=("id", "indexes"))
        super().__init__(self._connection.asynchronous, indexes)
