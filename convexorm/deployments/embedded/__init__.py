"""The embedded deployment: the requests, answered in SQLite, with Convex's order, validation and atomicity.

`engine` answers requests on the calling thread. Underneath: `sources` opens memory and files, whose `format` it checks;
`connections` lends connections to `works`, and rests at `forks`. `catalog` says which tables there are, `tables` how a
Convex table lies in SQLite, `rows` how a document lies in a row, `keys` how an index key does, `texts` how the words of a
text do. `reads`, `search` and `transaction` (with `batches`, `removals` and `ties`) answer requests, `outcomes` and
`ledger` remember commits, `backups` copies the whole, and `damage` says what is said of failures.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import attrs

from convexorm.deployments.base import Caller, Deployment, FunctionCall, Port, Ran
from convexorm.deployments.embedded import stored
from convexorm.deployments.embedded.backups import Decision
from convexorm.deployments.embedded.engine import Engine
from convexorm.deployments.embedded.fakes import AsyncFakes, BlockingFakes, Fake, check_fakes
from convexorm.deployments.embedded.jobs import Jobs
from convexorm.deployments.embedded.paths import absolute, path_of
from convexorm.deployments.embedded.sources import File, Memory
from convexorm.deployments.embedded.urls import location_of
from convexorm.deployments.observers import ObservedPort, Observers, Request
from convexorm.errors import DeploymentError, InvalidRequestError
from convexorm.faces import finish
from convexorm.files import AsyncFiles, Files
from convexorm.requests import Applied, Commit, Document, Read, ReadResult, Search

if TYPE_CHECKING:
    from convexorm.deployments.embedded.watches import Watches
    from convexorm.live.mailboxes import Mailbox

__all__ = ["EmbeddedDeployment"]

P = ParamSpec("P")
T = TypeVar("T")


class EmbeddedDeployment(Deployment):
    """Documents in a SQLite file, or in memory with `path=None`.

    A file that is opened `read_only` is not changed; one that cannot be written can be read all the same. With
    `synchronous="full"` a commit is on the disk when it is answered, with "normal" a power cut may take the latest.
    `functions` are Python functions that stand for those of the Convex project, by path.

    Raises DeploymentError for a file of another application or of a later version of this library, and for no path.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        read_only: bool = False,
        synchronous: str = "normal",
        functions: Mapping[str, Fake] | None = None,
    ) -> None:
        if synchronous not in ("normal", "full"):
            raise DeploymentError(f"synchronous is 'normal' or 'full', got {synchronous!r}")
        self._fakes = check_fakes(functions)
        self.path = None if path is None else Path(path_of(path))
        source = Memory() if self.path is None else File(self.path, read_only=read_only, synchronous=synchronous)
        self._engine = Engine(source, self._fakes)
        place = stored.Memory() if self.path is None else stored.Folder(stored.folder_of(Path(absolute(self.path))))
        self._place: stored.Place = place
        self._jobs = Jobs(self._engine, place.path if isinstance(place, stored.Folder) else None)
        self._watches: Watches | None = None
        self.observers = Observers("memory:" if self.path is None else f"sqlite:///{self.path}")
        self.blocking: Port = _BlockingPort(self.observers, self._engine)
        self.asynchronous: Port = _AsyncPort(self.observers, self._engine)

    @classmethod
    def at(cls, url: str, *, functions: Mapping[str, Fake] | None = None) -> EmbeddedDeployment:
        """The deployment of a URL `sqlite:///path?option=value`. Raises DeploymentError for options that there are not."""
        location = location_of(url)
        return cls(location.path, read_only=location.read_only, synchronous=location.synchronous, functions=functions)

    @property
    def blocking_caller(self) -> Caller:
        return BlockingFakes(self._fakes)

    @property
    def asynchronous_caller(self) -> Caller:
        return AsyncFakes(self._fakes)

    @property
    def files(self) -> Files:
        return Files(stored.EmbeddedFiles(self._engine, self._place, _at_once))

    @property
    def async_files(self) -> AsyncFiles:
        return AsyncFiles(stored.EmbeddedFiles(self._engine, self._place, _in_a_thread))

    def run_scheduled(self, *, until: datetime | None = None) -> list[Ran]:
        return finish(self._jobs.run(self.blocking_caller, _at_once, until))

    async def arun_scheduled(self, *, until: datetime | None = None) -> list[Ran]:
        """`run_scheduled`, for callers that await. One that is cancelled leaves the function in its midst as failed."""
        return await self._jobs.run(self.asynchronous_caller, _in_a_thread, until)

    def subscribe(self, asked: Sequence[Read] | FunctionCall, mailbox: Mailbox[Any]) -> None:
        if isinstance(asked, FunctionCall):
            raise InvalidRequestError("functions are watched on Convex; Python functions in their place are called only")
        if self._watches is None:
            from convexorm.deployments.embedded.watches import Watches  # few programs watch

            path = None if self.path is None else absolute(self.path)
            self._watches = Watches(self._engine, self.observers, path)
        self._watches.add(asked, mailbox)

    def close(self) -> None:
        if self._watches is not None:
            self._watches.close()
        self._engine.close()

    def backup(self, path: str | os.PathLike[str]) -> None:
        self._engine.backup(path, Decision(), self._place.copy)

    async def abackup(self, path: str | os.PathLike[str]) -> None:
        """`backup`, for callers that await. Cancelled, it leaves no file; once the file gets its name, it is answered."""
        import asyncio  # whoever awaits this has imported it

        decision = Decision()
        running = asyncio.get_running_loop().run_in_executor(None, self._engine.backup, path, decision, self._place.copy)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            if decision.drop():
                running.cancel()  # if it has not begun
                raise
            while not running.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([running])
            running.result()

    def vacuum(self) -> None:
        self._engine.vacuum()

    async def avacuum(self) -> None:
        await _in_a_thread(self._engine.vacuum)

    def __repr__(self) -> str:
        return f"<EmbeddedDeployment {self.path or 'memory'}>"


@attrs.frozen
class _BlockingPort(ObservedPort):
    observers: Observers
    engine: Engine

    async def _read(self, reads: Sequence[Read], request: Request | None) -> list[ReadResult]:
        return self.engine.read(reads)

    async def _commit(self, commit: Commit, request: Request | None) -> list[Applied]:
        return self.engine.commit(commit)

    async def _withdrawn(self, commit: Commit, request: Request | None) -> list[Applied] | None:
        return self.engine.withdraw(commit)

    async def _search(self, search: Search, request: Request | None) -> list[tuple[float, Document]]:
        return self.engine.search(search)

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)


@attrs.frozen
class _AsyncPort(ObservedPort):
    """SQLite on the event loop's worker threads. A commit once begun is finished even if its caller is cancelled."""

    observers: Observers
    engine: Engine

    async def _read(self, reads: Sequence[Read], request: Request | None) -> list[ReadResult]:
        return await _in_a_thread(self.engine.read, reads)

    async def _commit(self, commit: Commit, request: Request | None) -> list[Applied]:
        return await _in_a_thread(self.engine.commit, commit)

    async def _withdrawn(self, commit: Commit, request: Request | None) -> list[Applied] | None:
        return await _in_a_thread(self.engine.withdraw, commit)

    async def _search(self, search: Search, request: Request | None) -> list[tuple[float, Document]]:
        return await _in_a_thread(self.engine.search, search)

    async def pause(self, seconds: float) -> None:
        from asyncio import sleep

        await sleep(seconds)


async def _at_once(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` answers, on this thread."""
    return work(*args, **kwargs)


async def _in_a_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` answers on one of the event loop's worker threads."""
    from asyncio import to_thread  # whoever awaits this has imported it

    return await to_thread(work, *args, **kwargs)
