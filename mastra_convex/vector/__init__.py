"""Mastra's vector stores: `ConvexVector` searches exactly, `ConvexNativeVector` through Convex's own vector indexes."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self, TypedDict, Unpack

from convexorm import Deployment
from mastra_convex.connection import Connection
from mastra_convex.vector.exact import (
    MAX_BYTES,
    AsyncExactVectors,
    ExactVectors,
    IndexNotFound,
    IndexStats,
    PartialUpsert,
    QueryResult,
    VectorUpdate,
)
from mastra_convex.vector.native import AsyncNativeVectors, NativeVector, NativeVectors, native_vector_table

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


class ConnectionOptions(TypedDict, total=False):
    """Where a store's data lives: a `deployment`, or its `deployment_url` and `admin_auth_token`.

    `deployment_url` is any URL that `convexorm.connect` takes; with neither it is `CONVEX_URL`. `tables` gives tables other
    names.
    """

    deployment: Deployment | None
    deployment_url: str | None
    admin_auth_token: str | None
    tables: Mapping[str, str] | None


def _connection(id: str, options: ConnectionOptions) -> Connection:
    return Connection(
        id,
        options.get("deployment"),
        options.get("deployment_url"),
        options.get("admin_auth_token"),
        options.get("tables"),
    )


class _Blocking:
    """What the blocking stores share: a connection, and closing it."""

    id: str
    _connection: Connection

    @property
    def deployment(self) -> Deployment:
        return self._connection.deployment

    def close(self) -> None:
        """Close the deployment, if the store has opened it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} on {self.deployment!r}>"


class _Async:
    """What the awaited stores share: a connection, and closing it."""

    id: str
    _connection: Connection

    @property
    def deployment(self) -> Deployment:
        return self._connection.deployment

    async def close(self) -> None:
        """Close the deployment, if the store has opened it."""
        await self._connection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    __repr__ = _Blocking.__repr__


class ConvexVector(_Blocking, ExactVectors):
    """Exact vector search on Convex or embedded, blocking.

    The vectors of an index are kept in memory as a float32 matrix and read again only where they have changed; `max_bytes`
    is what all matrices together may take, and an index larger than that is read in pages for every query. Safe to share
    between threads.
    """

    def __init__(self, *, id: str, max_bytes: int = MAX_BYTES, **options: Unpack[ConnectionOptions]) -> None:
        self.id = id
        self._connection = _connection(id, options)
        self._core = AsyncExactVectors(self._connection.blocking, max_bytes)


class AsyncConvexVector(_Async, AsyncExactVectors):
    """Exact vector search on Convex or embedded, awaited. Takes what `ConvexVector` takes; safe to share between tasks."""

    def __init__(self, *, id: str, max_bytes: int = MAX_BYTES, **options: Unpack[ConnectionOptions]) -> None:
        self.id = id
        self._connection = _connection(id, options)
        super().__init__(self._connection.asynchronous, max_bytes)


class ConvexNativeVector(_Blocking, NativeVectors):
    """Approximate vector search by Convex's own indexes, blocking; on an embedded deployment it is exact.

    `indexes` are models made by `native_vector_table`, by the names that Mastra calls them.
    """

    def __init__(self, *, id: str, indexes: Mapping[str, type[NativeVector]], **options: Unpack[ConnectionOptions]) -> None:
        self.id = id
        self._connection = _connection(id, options)
        self._core = AsyncNativeVectors(self._connection.blocking, indexes)


class AsyncConvexNativeVector(_Async, AsyncNativeVectors):
    """Approximate vector search by Convex's own indexes, awaited. Takes what `ConvexNativeVector` takes."""

    def __init__(self, *, id: str, indexes: Mapping[str, type[NativeVector]], **options: Unpack[ConnectionOptions]) -> None:
        self.id = id
        self._connection = _connection(id, options)
        super().__init__(self._connection.asynchronous, indexes)
