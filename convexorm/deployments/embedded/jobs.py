"""Scheduled functions of an embedded deployment: kept with the commit that schedules them, run when they are asked for.

Each is run once, whichever process comes first: who runs one has said so in the file, and holds a claim to it that ends
with the process. One whose process ended in the midst of it has failed, and is not run again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from convexorm.deployments.base import Caller, FunctionCall, Ran
from convexorm.deployments.embedded.descriptors import Descriptor
from convexorm.errors import DeploymentError, InvalidRequestError, StaleDataError
from convexorm.requests import Delete, Document, Patch, Range, Read, Write
from convexorm.schema import SCHEDULED
from convexorm.values import Value

if TYPE_CHECKING:
    from convexorm.deployments.embedded.engine import Engine

__all__ = ["CANCELED", "PENDING", "Jobs", "canonical_name", "new_job", "path_of_job"]

PENDING: Mapping[str, Value] = {"kind": "pending"}
CANCELED: Mapping[str, Value] = {"kind": "canceled"}
_IN_PROGRESS: Mapping[str, Value] = {"kind": "inProgress"}
_SUCCESS: Mapping[str, Value] = {"kind": "success"}
_KEPT = 7 * 86_400_000
"""Milliseconds for which one is kept that has ended."""
_FORGOTTEN_AT_ONCE = 1_000

Work = Callable[..., Awaitable[Any]]
"""Runs what waits for the disk, as a face waits."""


def canonical_name(path: str) -> str:
    """A path as Convex keeps it: `emails.js:send`."""
    module, _, name = path.partition(":")
    return f"{module.removesuffix('.js').removesuffix('.ts')}.js:{name or 'default'}"


def path_of_job(name: str) -> str:
    """The path of what is kept: `emails:send`."""
    return name.replace(".js:", ":").removesuffix(":default")


def new_job(path: str, arguments: Mapping[str, Value], due: float | None) -> dict[str, Value]:
    """The document of a function that is to run, from `due` on, in milliseconds since 1970."""
    return {"name": canonical_name(path), "args": [dict(arguments)], "scheduledTime": due, "state": dict(PENDING)}


class Jobs:
    """The scheduled functions of one deployment, as one process runs them. `folder` is for the claims; None in memory."""

    def __init__(self, engine: Engine, folder: Path | None) -> None:
        self._engine = engine
        self._folder = folder
        self._running: set[str] = set()
        """Those under way in memory, which no other process can see."""

    async def run(self, caller: Caller, work: Work, until: datetime | None) -> list[Ran]:
        """Run what is due at a time, and now without one; what that schedules in turn is for the next call."""
        at = _milliseconds(until)
        self._engine.check_writable()
        jobs: Sequence[Document] = await work(self._due, at)
        ran = []
        for job in jobs:
            claim = _Claim(self._folder, self._running, str(job["_id"]))
            if not await work(claim.take):
                continue
            try:
                if await work(self._begin, job):
                    ran.append(await self._ran(caller, work, job))
            finally:
                claim.leave()
        return ran

    async def _ran(self, caller: Caller, work: Work, job: Document) -> Ran:
        path = path_of_job(str(job["name"]))
        (arguments,) = job["args"] or ({},)
        error: Exception | None = None
        try:
            await caller.call(FunctionCall("mutation", path, arguments))
        except Exception as raised:
            error = raised
        state = _SUCCESS if error is None else {"kind": "failed", "error": _said(error)}
        await work(self._end, job, state)
        return Ran(str(job["_id"]), path, error)

    # each in a transaction of its own

    def _due(self, at: float) -> Sequence[Document]:
        """Those that are due, the earliest first. Settles what others have left, and forgets what ended long ago."""
        (result,) = self._engine.read([Read(Range(SCHEDULED, "by_creation_time"), filter=None)])
        documents = list(result.docs)
        for job in documents:
            if job["state"] == _IN_PROGRESS:
                self._settle(job)
        now = time.time() * 1_000
        old = [one for one in documents if now - float(one.get("completedTime") or now) > _KEPT]
        if old:
            self._amend([Delete(SCHEDULED, str(one["_id"]), missing="skip") for one in old[:_FORGOTTEN_AT_ONCE]])
        due = [one for one in documents if one["state"] == PENDING and float(one["scheduledTime"]) <= at]
        return sorted(due, key=lambda one: (float(one["scheduledTime"]), one["_creationTime"]))

    def _settle(self, job: Document) -> None:
        """Say of one that nobody runs any more that it has failed."""
        claim = _Claim(self._folder, self._running, str(job["_id"]))
        if claim.take():
            try:
                self._end(job, {"kind": "failed", "error": "the process that ran it has ended in the midst of it"})
            finally:
                claim.leave()

    def _begin(self, job: Document) -> bool:
        return self._turn(job, PENDING, {"state": dict(_IN_PROGRESS)})

    def _end(self, job: Document, state: Mapping[str, Value]) -> bool:
        return self._turn(job, _IN_PROGRESS, {"state": dict(state), "completedTime": time.time() * 1_000})

    def _turn(self, job: Document, before: Mapping[str, Value], after: Mapping[str, Value]) -> bool:
        """Whether it was as it was thought to be, and is now otherwise."""
        patch = Patch(SCHEDULED, str(job["_id"]), after, expect={"state": dict(before)}, missing="skip")
        try:
            return bool(self._amend([patch]))
        except StaleDataError:
            return False

    def _amend(self, writes: Sequence[Write]) -> bool:
        return bool(self._engine.amend(writes)[0])


@attrs.define
class _Claim:
    """That a function is run by this process: a locked file, which is free again when the process ends."""

    folder: Path | None
    running: set[str]
    id: str
    file: Descriptor | None = None

    def take(self) -> bool:
        if self.folder is None:
            if self.id in self.running:
                return False
            self.running.add(self.id)
            return True
        import fcntl  # as SQLite itself, this needs the locks of POSIX

        try:
            self.folder.mkdir(exist_ok=True)
            file = Descriptor(self._path, os.O_CREAT | os.O_RDWR)
        except OSError as error:
            raise DeploymentError(f"the folder of claims cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self.file = file
        return True

    @property
    def _path(self) -> str:
        assert self.folder is not None
        return str(self.folder / f".running-{self.id}")

    def leave(self) -> None:
        self.running.discard(self.id)
        if self.file is not None:
            with suppress(OSError):
                os.unlink(self._path)
            self.file.close()
            self.file = None


def _milliseconds(until: datetime | None) -> float:
    if until is None:
        return time.time() * 1_000
    if not isinstance(until, datetime) or until.utcoffset() is None:
        raise InvalidRequestError("until is a datetime with its offset, such as datetime.now(UTC)")
    return (until - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
