"""The deployment that notices which functions it has: this library's, or only the npm package's storage handler."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from convexorm.concurrency.guards import Guard
from convexorm.deployments import Deployment, Port, RemoteDeployment
from convexorm.deployments.base import FunctionCall
from convexorm.deployments.remote import RemotePort
from convexorm.errors import AuthError, DeploymentError, FunctionFailed, FunctionNotFound
from convexorm.files import AsyncFiles, Files
from convexorm.live.mailboxes import Mailbox
from convexorm.requests import (
    Applied,
    Cancel,
    Commit,
    Delete,
    DeleteRange,
    Document,
    Insert,
    Key,
    Read,
    ReadResult,
    Recount,
    Schedule,
    Search,
    Write,
    check_commit,
    check_reads,
    check_search,
)
from convexorm.wire import DEPLOY
from mastra_convex.foreign.handler import Handler
from mastra_convex.foreign.reading import Reader
from mastra_convex.foreign.tables import check_index
from mastra_convex.foreign.writing import Writer

__all__ = ["DEFAULT_STORAGE_FUNCTION", "AdaptedDeployment", "ForeignPort", "adapted"]

DEFAULT_STORAGE_FUNCTION = "mastra/storage:handle"
"""Where the npm package's handler lives in a deployment."""

_log = logging.getLogger("mastra_convex")


class ForeignPort:
    """One face of a deployment that has only the handler: requests about Mastra's tables, as operations of it.

    Reads are not of one snapshot, and commits are not atomic, beyond what `docs/contract.md` promises. Raises
    DeploymentError for tables that the handler does not reach.
    """

    def __init__(self, port: RemotePort, function: str) -> None:
        self._port = port
        self._handler = Handler(port, function)

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        check_reads(reads)
        for read in reads:
            check_index(read.range.table, read.range.index)
            if read.search is not None:
                raise _lacking("text search")
        return await Reader(self._handler).read(reads)

    async def commit(self, commit: Commit) -> list[Applied]:
        check_commit(commit)
        for write in commit.writes:
            if isinstance(write, Recount):
                raise _lacking("counters")
            if isinstance(write, Schedule | Cancel):
                raise _lacking("scheduled functions")
            for index in _indexes(write):
                check_index(write.table, index)
        return await Writer(self._handler).commit(commit)

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        """Nothing to go by: the handler keeps no record of what it has applied. Raises DeploymentError."""
        raise DeploymentError(
            "a commit whose answer was lost cannot be withdrawn: the npm package's storage handler keeps no record of "
            "commits. Read what is stored to see whether it was applied. To have commits that are safe to send again, "
            f"{DEPLOY}"
        )

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        check_search(search)
        raise _lacking("vector search")

    async def pause(self, seconds: float) -> None:
        await self._port.pause(seconds)


def _lacking(what: str) -> DeploymentError:
    return DeploymentError(
        f"the npm package's storage handler has no {what}. Copy this library's functions into the Convex project with "
        "`python -m convexorm functions convex`, then deploy them with `npx convex deploy`"
    )


def _indexes(write: Write) -> Iterator[str]:
    """The indexes that a write goes by."""
    if isinstance(write, DeleteRange):
        yield write.range.index
        return
    if isinstance(write, Recount | Schedule | Cancel):
        return
    if not isinstance(write, Insert) and isinstance(write.at, Key):
        yield write.at.index
    if not isinstance(write, Delete):
        yield from (one.index for one in write.unique)


class _Choice:
    """Which functions the deployment has: False ours, True the handler; None until one of them has answered."""

    def __init__(self, function: str) -> None:
        self.function = function
        self.foreign: bool | None = None
        self._guard = Guard()

    def ours(self) -> None:
        self.foreign = False

    def theirs(self, deployment: object) -> None:
        if self._guard(self._is_first):
            _log.warning(
                "%r has no convexorm functions: working through %s, where commits are not atomic",
                deployment,
                self.function,
            )

    def _is_first(self) -> bool:
        first, self.foreign = self.foreign is None, True
        return first


class _AdaptedPort:
    """One face: the deployment's own requests, until it says that it lacks the functions and the handler answers."""

    def __init__(self, deployment: RemoteDeployment, port: RemotePort, choice: _Choice) -> None:
        self._deployment = deployment
        self._ours = port
        self._theirs = ForeignPort(port, choice.function)
        self._choice = choice

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        if not self._choice.foreign:
            try:
                found = await self._ours.read(reads)
            except FunctionNotFound as error:
                await self._turn(error)
            else:
                self._choice.ours()
                return found
        return await self._theirs.read(reads)

    async def commit(self, commit: Commit) -> list[Applied]:
        if not self._choice.foreign:
            try:
                applied = await self._ours.commit(commit)
            except FunctionNotFound as error:
                await self._turn(error)
            else:
                self._choice.ours()
                return applied
        return await self._theirs.commit(commit)

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        if not self._choice.foreign:
            try:
                applied = await self._ours.withdraw(commit)
            except FunctionNotFound as error:
                await self._turn(error)
            else:
                self._choice.ours()
                return applied
        return await self._theirs.withdraw(commit)

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        if not self._choice.foreign:
            try:
                hits = await self._ours.search(search)
            except FunctionNotFound as error:
                await self._turn(error)
            else:
                self._choice.ours()
                return hits
        return await self._theirs.search(search)

    async def pause(self, seconds: float) -> None:
        await self._ours.pause(seconds)

    async def _turn(self, missing: FunctionNotFound) -> None:
        """Go over to the handler, or raise `missing` where there is none."""
        if self._choice.foreign is None and await self._handler_answers():
            self._choice.theirs(self._deployment)
        if not self._choice.foreign:
            raise missing

    async def _handler_answers(self) -> bool:
        handler = Handler(self._ours, self._choice.function)
        try:
            return await handler.answers()
        except (FunctionNotFound, FunctionFailed, AuthError):
            return False


class AdaptedDeployment(Deployment):
    """A Convex deployment with this library's functions, or else with the npm package's handler at `storage_function`.

    The first request tells; a deployment that has this library's functions is never asked for the other. Both faces share
    what was found. Closing it closes the deployment below.
    """

    def __init__(self, deployment: RemoteDeployment, storage_function: str = DEFAULT_STORAGE_FUNCTION) -> None:
        self._deployment = deployment
        self.observers = deployment.observers
        choice = self._choice = _Choice(storage_function)
        self.blocking: Port = _AdaptedPort(deployment, deployment.blocking, choice)
        self.asynchronous: Port = _AdaptedPort(deployment, deployment.asynchronous, choice)

    def subscribe(self, asked: Sequence[Read] | FunctionCall, mailbox: Mailbox[Any]) -> None:
        if self._choice.foreign:
            raise _lacking("live queries")
        self._deployment.subscribe(asked, mailbox)

    @property
    def files(self) -> Files:
        self._check_files()
        return self._deployment.files

    @property
    def async_files(self) -> AsyncFiles:
        self._check_files()
        return self._deployment.async_files

    def _check_files(self) -> None:
        if self._choice.foreign:
            raise _lacking("files")

    def close(self) -> None:
        self._deployment.close()

    async def aclose(self) -> None:
        await self._deployment.aclose()

    def __repr__(self) -> str:
        return repr(self._deployment)


def adapted(deployment: Deployment, storage_function: str = DEFAULT_STORAGE_FUNCTION) -> Deployment:
    """The deployment, adapted if it is one on Convex; any other as it is."""
    return AdaptedDeployment(deployment, storage_function) if isinstance(deployment, RemoteDeployment) else deployment
