"""Where a store's data lives: a deployment given, or opened by its URL and then closed with the store."""

from __future__ import annotations

from collections.abc import Mapping

from convexorm import Deployment, connect
from convexorm.errors import InvalidRequestError
from mastra_convex.domain import Backend

__all__ = ["Connection"]


class Connection:
    """A deployment, who closes it, and tables under other names.

    Takes a `deployment`, or a `url` (any that `convexorm.connect` takes) with its `token`; with neither it connects to
    `CONVEX_URL`. Raises InvalidRequestError for both, or an empty `id`.
    """

    def __init__(
        self,
        id: str,
        deployment: Deployment | None,
        url: str | None,
        token: str | None,
        tables: Mapping[str, str] | None,
    ) -> None:
        if deployment is not None and (url is not None or token is not None):
            raise InvalidRequestError("a store takes a deployment, or a deployment_url with its token, not both")
        if not isinstance(id, str) or not id.strip():
            raise InvalidRequestError("a store's id is a non-empty string")
        self.tables = dict(tables or {})
        self._owns = deployment is None
        self.deployment = deployment or connect(url, token)

    @property
    def blocking(self) -> Backend:
        return Backend(self.deployment, self.deployment.blocking, self.tables)

    @property
    def asynchronous(self) -> Backend:
        return Backend(self.deployment, self.deployment.asynchronous, self.tables)

    def close(self) -> None:
        if self._owns:
            self.deployment.close()

    async def aclose(self) -> None:
        if self._owns:
            await self.deployment.aclose()
