"""What is told of requests: to callbacks (`deployment.on_request`), and to the logger `convexorm` at DEBUG, in a line each.

What is told are names and numbers: tables, indexes, counts, bytes, seconds. Contents and keys never are. As long as nobody
listens nothing is noted.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, TypeAlias

import attrs

from convexorm.given import a_callback
from convexorm.listeners import tell
from convexorm.requests import (
    Applied,
    Commit,
    DeletedRange,
    DeleteRange,
    Document,
    Key,
    Read,
    ReadResult,
    Search,
    Unique,
    Write,
    Written,
)

__all__ = ["Listener", "ObservedPort", "Observers", "Request"]

Operation: TypeAlias = Literal["read", "commit", "withdraw", "search", "call", "watch"]


@attrs.define(kw_only=True)
class Request:
    """One request to a deployment, once it has been answered or has failed.

    A request of a session is one of these; what a deployment answers only in part is another one. `call` is a call of any
    function of a deployment on Convex. Embedded, nothing is sent. `watch` is a watch that is answered, or answered again.
    """

    operation: Operation
    deployment: str
    """Where it is: the origin of its URL, `sqlite:///path`, or `memory:`."""
    tables: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    """Each as `table.index`."""
    function: str | None = None
    """Of a call: the path of the function."""
    count: int = 0
    """Reads or writes asked for."""
    documents: int = 0
    """Documents answered, counted or digested; of a commit those written, of a watch those that had changed."""
    sent: int = 0
    """Bytes of all attempts."""
    received: int = 0
    attempts: int = 1
    conflicts: int = 0
    """Attempts that Convex gave up since others wrote what the commit had read."""
    seconds: float = 0.0
    error: str | None = None
    """The name of the error's class."""

    def __str__(self) -> str:
        where = self.function or ", ".join(self.indexes or self.tables) or "nothing"
        parts = [f"{self.operation} {where}: {self.count:,} asked, {self.documents:,} documents"]
        if self.sent:
            parts.append(f"{self.sent:,} bytes sent, {self.received:,} received")
        parts.append(f"{1_000 * self.seconds:.1f} ms")
        if self.attempts > 1:
            parts.append(f"{self.attempts} attempts")
        if self.conflicts:
            parts.append(f"{self.conflicts} conflicts")
        if self.error is not None:
            parts.append(self.error)
        return ", ".join(parts)

    def of_reads(self, reads: Sequence[Read]) -> None:
        self._about((read.range.table.name, read.search.index if read.search else read.range.index) for read in reads)
        self.count = len(reads)

    def of_writes(self, commit: Commit) -> None:
        self._about(place for write in commit.writes for place in _places(write))
        self.count = len(commit.writes)

    def of_search(self, search: Search) -> None:
        self._about([(search.table.name, search.index)])
        self.count = 1

    def _about(self, places: Iterable[tuple[str, str | None]]) -> None:
        found = dict.fromkeys(places)
        self.tables = tuple(dict.fromkeys(table for table, _ in found))
        self.indexes = tuple(f"{table}.{index}" for table, index in found if index is not None)


def _places(write: Write) -> Iterator[tuple[str, str | None]]:
    """The table of a write, and the indexes that it goes by."""
    if isinstance(write, DeleteRange):
        yield write.range.table.name, write.range.index
        return
    yield write.table.name, None
    for target in (getattr(write, "at", None), *getattr(write, "unique", ())):
        if isinstance(target, Key | Unique):
            yield write.table.name, target.index


def _found(result: ReadResult) -> int:
    """Documents that a read has answered, counted, or answered digests of."""
    return result.count or len(result.docs) or len(result.digests.keys() - {""})


def _written(applied: Applied) -> int:
    """Documents that a write has written."""
    if isinstance(applied, DeletedRange):
        return applied.deleted
    return int(isinstance(applied, Written) or applied)


Listener: TypeAlias = "Callable[[Request], object]"


class Observers:
    """Who is told of the requests of a deployment."""

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment
        self._listeners: tuple[Listener, ...] = ()

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tell this one, too; what takes that back."""
        a_callback(listener, "who is told of requests")
        entry: Listener = lambda request: listener(request)  # noqa: E731  (one listener may be added twice)
        self._listeners = (*self._listeners, entry)

        def remove() -> None:
            self._listeners = tuple(one for one in self._listeners if one is not entry)

        return remove

    @property
    def listening(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self._listeners) or ("logging" in sys.modules and _logger().isEnabledFor(_DEBUG))

    @contextmanager
    def watch(self, operation: Operation) -> Iterator[Request]:
        """The request that is made meanwhile, to be filled in."""
        listeners, log = self._listeners, _debug()
        request = Request(operation=operation, deployment=self._deployment)
        start = time.perf_counter()
        try:
            yield request
        except BaseException as error:
            request.error = type(error).__name__
            raise
        finally:
            request.seconds = time.perf_counter() - start
            if log is not None:
                log("%s", request)
            for listener in listeners:
                tell(listener, request, "a listener of requests failed")


def _debug() -> Callable[..., None] | None:
    """What writes a line, if the logger takes lines. Nobody can want them who has not imported `logging`."""
    if "logging" not in sys.modules:
        return None
    logger = _logger()
    return logger.debug if logger.isEnabledFor(_DEBUG) else None


@cache
def _logger() -> Any:
    import logging

    return logging.getLogger("convexorm")


_DEBUG = 10
"""`logging.DEBUG`."""


class ObservedPort(ABC):
    """A port whose requests are told of: what `Port` has, over what answers the requests."""

    observers: Observers

    def read(self, reads: Sequence[Read]) -> Coroutine[Any, Any, list[ReadResult]]:
        return self._told_read(reads) if self.observers.listening else self._read(reads, None)

    async def _told_read(self, reads: Sequence[Read]) -> list[ReadResult]:
        with self.observers.watch("read") as request:
            request.of_reads(reads)
            results = await self._read(reads, request)
            request.documents = sum(map(_found, results))
            return results

    def commit(self, commit: Commit) -> Coroutine[Any, Any, list[Applied]]:
        return self._told_commit(commit) if self.observers.listening else self._commit(commit, None)

    async def _told_commit(self, commit: Commit) -> list[Applied]:
        with self.observers.watch("commit") as request:
            request.of_writes(commit)
            results = await self._commit(commit, request)
            request.documents = sum(map(_written, results))
            return results

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        """What the commit was answered with, if it has been applied. If not, None, and it never will be."""
        if not self.observers.listening:
            return await self._withdrawn(commit, None)
        with self.observers.watch("withdraw") as request:
            request.of_writes(commit)
            return await self._withdrawn(commit, request)

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        if not self.observers.listening:
            return await self._search(search, None)
        with self.observers.watch("search") as request:
            request.of_search(search)
            hits = await self._search(search, request)
            request.documents = len(hits)
            return hits

    @abstractmethod
    async def _read(self, reads: Sequence[Read], request: Request | None) -> list[ReadResult]: ...

    @abstractmethod
    async def _commit(self, commit: Commit, request: Request | None) -> list[Applied]: ...

    @abstractmethod
    async def _withdrawn(self, commit: Commit, request: Request | None) -> list[Applied] | None: ...

    @abstractmethod
    async def _search(self, search: Search, request: Request | None) -> list[tuple[float, Document]]: ...
