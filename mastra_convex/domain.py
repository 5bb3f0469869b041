"""What every storage domain stands on: sessions over one face of a deployment.

A domain's methods are coroutines over an `AsyncSession`. `AsyncDomain` gives them sessions of the deployment's asynchronous
face; its blocking twin holds the same domain over the blocking face, whose coroutines never suspend, and takes the methods
over with `blocking`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

import attrs
from attrs import evolve

from convexorm import AsyncSession, Deployment, Query
from convexorm.deployments import Port
from convexorm.errors import InvalidRequestError
from convexorm.faces import named
from convexorm.files import AsyncFiles
from convexorm.live import Watch
from convexorm.live.bells import Bell, BlockingBell
from convexorm.live.querying import watch
from convexorm.live.states import States
from mastra_convex.large_values import LargeValuesPort
from mastra_convex.large_values.references import COLUMNS

__all__ = [
    "AsyncDomain",
    "Backend",
    "Domain",
    "Offload",
    "OnState",
    "asynchronous_files",
    "blocking_files",
    "run_here",
]

T = TypeVar("T")
OnState: TypeAlias = Callable[[bool], object]
"""Told when the connection to what is watched is there or lost, on the thread that notices."""


class Offload(Protocol):
    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


async def run_here(work: Callable[[], T], /) -> T:
    """Work done at once, on the caller's thread."""
    return work()


@attrs.frozen
class Backend:
    """Where a store's sessions come from: a deployment, one of its faces, and tables under other names."""

    deployment: Deployment
    port: Port
    tables: Mapping[str, str]
    offload: Offload = run_here
    """How this face does work that takes the processor for long: at once, or where it holds up nobody."""
    bell: Callable[[], Bell] = BlockingBell
    """How this face waits for what it watches."""
    strict: bool = False
    """Whether ids of another resource are refused (`owners="strict"`)."""
    files: Callable[[], AsyncFiles] | None = None
    """The files of this face, where values that no document can hold go into them (`large_values="files"`)."""

    def session(self) -> AsyncSession:
        """A session for one operation."""
        port = self.port
        if self.files is not None:
            port = LargeValuesPort(port, self.files, self.tables)
        return AsyncSession(self.deployment, tables=self.tables, _port=port)

    @property
    def blocking(self) -> Backend:
        """The same over the blocking face, for threads."""
        files = None if self.files is None else blocking_files(self.deployment)
        return evolve(self, port=self.deployment.blocking, offload=run_here, bell=BlockingBell, files=files)

    def watch(
        self, queries: Sequence[Query[Any]], view: Callable[[States], States], on_state: OnState | None
    ) -> Watch[Any]:
        """What a view makes of these queries, as long as they are watched. Blocking and awaited it is entered alike.

        Raises InvalidRequestError where values may be in files: nobody tells of what is in them.
        """
        if self.files is not None and any(query.model.__mapper__.name in COLUMNS for query in queries):
            raise InvalidRequestError('what may be in files cannot be watched: use a store without large_values="files"')
        return watch(self.deployment, queries, on_state=on_state, tables=self.tables, view=view)


def blocking_files(deployment: Deployment) -> Callable[[], AsyncFiles]:
    """The files of a deployment's blocking face, asked for when they are needed: not every deployment has some."""
    return lambda: deployment.files.coroutines


def asynchronous_files(deployment: Deployment) -> Callable[[], AsyncFiles]:
    """Those of the awaited one."""
    return lambda: deployment.async_files


class AsyncDomain:
    """One domain of the storage contract, awaited."""

    def __init_subclass__(cls) -> None:
        named(cls, cls.__name__.removeprefix("Async"))

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def _session(self) -> AsyncSession:
        return self._backend.session()

    @property
    def _strict(self) -> bool:
        return self._backend.strict


class Domain:
    """One domain of the storage contract, blocking: the methods of `face` run to their end."""

    face: ClassVar[type[AsyncDomain]]

    def __init__(self, backend: Backend) -> None:
        self._core: Any = self.face(backend)
