"""The embedded deployment: the requests, answered in SQLite, with Convex's order, validation and atomicity.

`engine` answers requests on the calling thread, `transaction` applies a commit, `tables` says how a Convex table lies in
SQLite, `rows` how a document lies in a row, `keys` how an index key does, and `filters` evaluates conditions.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from convexorm.deployments.base import Deployment, Port
from convexorm.deployments.embedded.engine import Engine
from convexorm.requests import Applied, Commit, Document, Read, ReadResult, Search

__all__ = ["EmbeddedDeployment"]


class EmbeddedDeployment(Deployment):
    """Documents in a SQLite file, or in memory with `path=None`."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._engine = Engine(None if path is None else Path(path))
        self.blocking: Port = _BlockingPort(self._engine)
        self.asynchronous: Port = _AsyncPort(self._engine)

    def close(self) -> None:
        self._engine.close()

    def __repr__(self) -> str:
        return f"<EmbeddedDeployment {self._engine.path or 'memory'}>"


@attrs.frozen
class _BlockingPort:
    engine: Engine

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        return self.engine.read(reads)

    async def commit(self, commit: Commit) -> list[Applied]:
        return self.engine.commit(commit)

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        return self.engine.withdraw(commit)

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        return self.engine.search(search)

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)


@attrs.frozen
class _AsyncPort:
    """SQLite on the event loop's worker threads. A commit once begun is finished even if its caller is cancelled."""

    engine: Engine

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        return await asyncio.to_thread(self.engine.read, reads)

    async def commit(self, commit: Commit) -> list[Applied]:
        return await asyncio.to_thread(self.engine.commit, commit)

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        return await asyncio.to_thread(self.engine.withdraw, commit)

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        return await asyncio.to_thread(self.engine.search, search)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
