"""Where a store's data lives: a deployment given, or opened by its URL and then closed with the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self, TypedDict

from convexorm import Deployment, connect
from convexorm.deployments.base import check_deployment
from convexorm.errors import InvalidRequestError
from convexorm.live.bells import AsyncBell
from mastra_convex import entities
from mastra_convex.arguments import check_id
from mastra_convex.domain import Backend
from mastra_convex.errors import InvalidArgument, named
from mastra_convex.foreign import DEFAULT_STORAGE_FUNCTION, adapted

__all__ = ["AsyncConnected", "Connected", "Connection", "ConnectionOptions", "check_name", "check_store_id"]

_TABLES = {table.name: table for table in (getattr(entities, name).__mapper__.table for name in entities.__all__)}
"""Every table there is, by its own name."""


class ConnectionOptions(TypedDict, total=False):
    """Where a store's data lives: a `deployment`, or its `deployment_url` and `admin_auth_token`.

    `deployment_url` is any URL that `convexorm.connect` takes; with neither it is `CONVEX_URL`. `tables` gives tables other
    names: `{"mastra_scorers": "mastra_scores"}`.
    """

    deployment: Deployment | None
    deployment_url: str | None
    admin_auth_token: str | None
    tables: Mapping[str, str] | None


class Connection:
    """A deployment, who closes it, and tables under other names.

    Where a deployment on Convex has only the npm package's storage handler, requests go through that one.
    Raises InvalidRequestError for what is no deployment, for one beside a URL, and for tables that there are not; TypeError
    for an option that there is not, naming those there are, with the `others` that the store has taken itself.
    """

    def __init__(
        self,
        options: ConnectionOptions,
        storage_function: str = DEFAULT_STORAGE_FUNCTION,
        others: Iterable[str] = ("id",),
    ) -> None:
        if unknown := options.keys() - ConnectionOptions.__annotations__.keys():
            known = ", ".join(dict.fromkeys([*others, *ConnectionOptions.__annotations__]))
            raise TypeError(f"unknown option {min(unknown)!r}; there are {known}")
        deployment = options.get("deployment")
        url, token = options.get("deployment_url"), options.get("admin_auth_token")
        if deployment is not None and (url is not None or token is not None):
            raise InvalidRequestError("a store takes a deployment, or a deployment_url with its token, not both")
        tables = options.get("tables")
        if tables is not None and not isinstance(tables, Mapping):
            raise InvalidRequestError(f"tables is a mapping of names to names, got {type(tables).__name__}")
        self.tables = dict(tables or {})
        for table, other in self.tables.items():
            if table not in _TABLES:
                raise InvalidRequestError(f"there is no table {named(table)} to rename; there are {', '.join(_TABLES)}")
            _TABLES[table].renamed(check_name("the name of a table", other))
        self.owned = deployment is None
        self.deployment = connect(url, token) if deployment is None else check_deployment(deployment)
        self._adapted = adapted(self.deployment, storage_function)

    @property
    def blocking(self) -> Backend:
        """Sessions of the face that never suspends."""
        return Backend(self._adapted, self._adapted.blocking, self.tables)

    @property
    def asynchronous(self) -> Backend:
        """Sessions of the face that never blocks the event loop."""
        return Backend(self._adapted, self._adapted.asynchronous, self.tables, asyncio.to_thread, AsyncBell)


def check_store_id(id: object) -> str:
    """A store's id: a string with something in it. Raises InvalidRequestError for anything else."""
    return check_name("a store's id", id)


def check_name(what: str, name: object) -> str:
    """A string with something in it that can be written. Raises InvalidRequestError for anything else."""
    try:
        return check_id("CONNECT", "name", name)
    except InvalidArgument:
        raise InvalidRequestError(f"{what} is a non-empty string") from None


class _Named:
    """What both faces of a store hold: its id, its connection, and a repr that shows no secret."""

    id: str
    _connection: Connection

    @property
    def deployment(self) -> Deployment:
        return self._connection.deployment

    @property
    def tables(self) -> Mapping[str, str]:
        return self._connection.tables

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} on {self.deployment!r}>"


class Connected(_Named):
    """A blocking store over a connection; a context manager that closes it."""

    def close(self) -> None:
        """Close the deployment, if the store has opened it."""
        if self._connection.owned:
            self.deployment.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class AsyncConnected(_Named):
    """An awaited store over a connection; an asynchronous context manager that closes it."""

    async def close(self) -> None:
        """Close the deployment, if the store has opened it."""
        if self._connection.owned:
            await self.deployment.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
