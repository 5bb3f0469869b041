"""Mastra's vector stores: `ConvexVector` searches exactly, over vectors kept as documents."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

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

__all__ = [
    "AsyncConvexVector",
    "ConvexVector",
    "IndexNotFound",
    "IndexStats",
    "PartialUpsert",
    "QueryResult",
    "VectorUpdate",
]


class ConvexVector(ExactVectors):
    """Exact vector search on Convex or embedded, blocking.

    Give it a `deployment`, or a `deployment_url` (any that `convexorm.connect` takes) with the `admin_auth_token`; with
    neither it connects to `CONVEX_URL`. The vectors of an index are kept in memory as a float32 matrix and read again only
    where they have changed; `max_bytes` is what all matrices together may take, and an index larger than that is read in
    pages for every query. `tables` gives tables other names. Safe to share between threads.
    """

    def __init__(
        self,
        *,
        id: str,
        deployment: Deployment | None = None,
        deployment_url: str | None = None,
        admin_auth_token: str | None = None,
        tables: Mapping[str, str] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.id = id
        self._connection = Connection(id, deployment, deployment_url, admin_auth_token, tables)
        self.deployment = self._connection.deployment
        self._core = AsyncExactVectors(self._connection.blocking, max_bytes)

    def close(self) -> None:
        """Close the deployment, if the store has opened it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ConvexVector {self.id!r} on {self.deployment!r}>"


class AsyncConvexVector(AsyncExactVectors):
    """Exact vector search on Convex or embedded, awaited. Takes what `ConvexVector` takes; safe to share between tasks."""

    def __init__(
        self,
        *,
        id: str,
        deployment: Deployment | None = None,
        deployment_url: str | None = None,
        admin_auth_token: str | None = None,
        tables: Mapping[str, str] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.id = id
        self._connection = Connection(id, deployment, deployment_url, admin_auth_token, tables)
        self.deployment = self._connection.deployment
        super().__init__(self._connection.asynchronous, max_bytes)

    async def close(self) -> None:
        """Close the deployment, if the store has opened it."""
        await self._connection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncConvexVector {self.id!r} on {self.deployment!r}>"
