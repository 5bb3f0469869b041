"""What every storage domain stands on: sessions over one face of a deployment.

A domain's methods are coroutines over an `AsyncSession`. `AsyncDomain` gives them sessions of the deployment's asynchronous
face; its blocking twin holds the same domain over the blocking face, whose coroutines never suspend, and takes the methods
over with `blocking`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

import attrs

from convexorm import AsyncSession, Deployment
from convexorm.deployments import Port
from convexorm.faces import named

__all__ = ["AsyncDomain", "Backend", "Domain", "Offload", "run_here"]

T = TypeVar("T")


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
    strict: bool = False
    """Whether ids of another resource are refused (`owners="strict"`)."""

    def session(self) -> AsyncSession:
        """A session for one operation."""
        return AsyncSession(self.deployment, tables=self.tables, _port=self.port)


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
