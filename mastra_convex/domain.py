"""What every storage domain stands on: sessions over one face of a deployment.

A domain's methods are coroutines over an `AsyncSession`. `AsyncDomain` gives them sessions of the deployment's asynchronous
face; its blocking twin holds the same domain over the blocking face, whose coroutines never suspend, and takes the methods
over with `blocking`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from convexorm import AsyncSession, Deployment
from convexorm.deployments import Port

__all__ = ["AsyncDomain", "Backend", "Domain"]


@attrs.frozen
class Backend:
    """Where a store's sessions come from: a deployment, one of its faces, and tables under other names."""

    deployment: Deployment
    port: Port
    tables: Mapping[str, str]

    def session(self) -> AsyncSession:
        return AsyncSession(self.deployment, tables=self.tables, _port=self.port)


class AsyncDomain:
    """One domain of the storage contract, awaited."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def _session(self) -> AsyncSession:
        return self._backend.session()


class Domain:
    """One domain of the storage contract, blocking: the methods of `face` run to their end."""

    face: ClassVar[type[AsyncDomain]]

    def __init__(self, backend: Backend) -> None:
        self._core: Any = self.face(backend)
