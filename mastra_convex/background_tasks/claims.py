"""Claims: loops over pending tasks, each of which one worker alone gets. A worker of Mastra's tasks is made of one."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from uuid import uuid4
from weakref import finalize

from convexorm import AsyncSession, DeploymentError, InvalidRequestError
from convexorm.faces import finish
from convexorm.live.watch import AsyncLive
from convexorm.sessions.turns import Turn, exclusive
from mastra_convex.background_tasks.leases import LEASES, Claim, Heart, Held, give_back
from mastra_convex.domain import Backend
from mastra_convex.entities import BackgroundTask, Document
from mastra_convex.errors import named
from mastra_convex.instants import later

__all__ = ["AsyncClaims", "Claims"]

_WINDOW = 16
"""How many of the oldest tasks a worker sees: when it loses the race for the first, it tries the others in any order."""


class AsyncClaims:
    """Tasks that this loop has claimed, awaited one after the other: `async for task in claims`. `Claims` is the same,
    blocking.

    It ends when it is closed, which any thread may do: the body of the loop runs to its end first. It may be entered by
    `async with`, which closes it and gives back what was left.
    """

    def __init__(self, backend: Backend, held: Held, tool_name: str | None, seconds: float) -> None:
        self._backend = backend
        self._held = held
        self._tool_name = tool_name
        self._seconds = seconds
        self._process = os.getpid()
        self._worker = uuid4().hex
        self._heart = heart = Heart(backend)
        self._end = finalize(self, heart.end)
        self._turn = Turn(noun="loop over claimed tasks")
        self._seen: dict[str, tuple[Mapping[str, Any], float]] = {}
        """Leases, and since when they are seen like this."""
        self._live: AsyncLive[Any] | None = None
        self._begun = self._closed = False

    def close(self) -> None:
        """End the loop, after the body that runs. Waits for nothing, and may be called by other threads."""
        self._closed = True
        if (live := self._live) is not None:
            live.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._end()
        await self._backend.offload(self._heart.join)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BackgroundTask:
        task = await self._next()
        if task is None:
            raise StopAsyncIteration
        return task

    @exclusive
    async def _next(self) -> BackgroundTask | None:
        """The next task; None when it is closed."""
        if self._process != os.getpid():
            raise DeploymentError("claims stay in the process that began them, and this is a child of that one")
        await self._leave()
        while not self._closed:
            task = await self._claimed() if self._begun else None
            if task is not None:
                return task
            if not await self._wait():
                break
            self._begun = True
        self._end()
        return None

    async def _leave(self) -> None:
        """The body has come to its end. Raises InvalidRequestError if its task has not."""
        claim = self._heart.rest()
        if claim is None:
            return
        if not claim.over:
            try:
                unfinished = await give_back(self._backend, claim)
            except BaseException:
                self._heart.give_back(claim)
                raise
            if unfinished:
                raise InvalidRequestError(
                    f"the loop's body has not finished task {named(claim.task_id)}: say by update_task what has become of "
                    "it. It is pending again"
                )

    # -- finding -----------------------------------------------------------------------------------------------------

    def _statements(self) -> tuple[Any, Any]:
        """What there is to do, and who is at what."""
        if self._tool_name is None:
            pending = BackgroundTask.query().by_index("by_status_created", status="pending")
        else:
            pending = BackgroundTask.query().by_index("by_status_tool_created", status="pending", tool_name=self._tool_name)
        leases = Document.query().by_index("by_table", table=LEASES)
        return pending.limit(_WINDOW).select(BackgroundTask.id), leases.select(Document.record)

    async def _wait(self) -> bool:
        """Wait until there may be something to claim; False when the loop or the deployment is closed."""
        from convexorm.live.querying import watch

        backend = self._backend
        watched = watch(backend.deployment, self._statements(), tables=backend.tables)
        self._live = live = watched.begin(backend.bell())
        try:
            while not self._closed:
                try:
                    pending, leases = await live.next(self._soonest())
                except TimeoutError:
                    return True
                except InvalidRequestError:
                    if live.closed:
                        return False
                    raise
                self._see(leases)
                if pending or not self._begun:
                    return True
            return False
        finally:
            watched.close()
            self._live = None

    def _see(self, leases: Sequence[tuple[Mapping[str, Any]]]) -> None:
        moment = time.monotonic()
        mine = [lease for (lease,) in leases if self._tool_name in (None, lease.get("tool"))]
        before, self._seen = self._seen, {}
        for lease in mine:
            known = before.get(lease["id"])
            self._seen[lease["id"]] = known if known is not None and known[0] == lease else (lease, moment)

    def _soonest(self) -> float | None:
        """Seconds until the first lease runs out unless something is heard of it."""
        ends = [since + float(lease["seconds"]) for lease, since in self._seen.values()]
        return max(min(ends) - time.monotonic(), 0.0) if ends else None

    # -- claiming ----------------------------------------------------------------------------------------------------

    async def _claimed(self) -> BackgroundTask | None:
        """A task that is this loop's now; None where there was none to be had."""
        async with self._backend.session() as session:
            pending, leases = await session.read(*self._statements())
        self._see(leases)
        ids = [id for (id,) in pending]
        random.shuffle(others := ids[1:])
        for id in [*ids[:1], *others]:
            if (task := await self._take(id, None)) is not None:
                return task
        moment = time.monotonic()
        for id, (lease, since) in list(self._seen.items()):
            if since + float(lease["seconds"]) <= moment:
                del self._seen[id]
                if (task := await self._take(id, lease)) is not None:
                    return task
        return None

    async def _take(self, id: str, lease: Mapping[str, Any] | None) -> BackgroundTask | None:
        """Claim a pending task, or one whose worker is dead, as this lease of it shows. None if another was faster."""
        claim: Claim | None = None

        async def take(session: AsyncSession) -> BackgroundTask | None:
            nonlocal claim
            claim = None
            stored = await session.get(Document, (LEASES, id))
            task = await session.get(BackgroundTask, id)
            if lease is not None:
                if stored is None or stored.record != lease:
                    return None
                if task is None or task.status != "running":  # ended past its worker
                    await session.delete(stored)
                    return None
            elif task is None or task.status != "pending":
                return None
            started_at = later(task.started_at)
            begun = {"status": "running", "started_at": started_at}
            session.update(BackgroundTask, id, begun, expected={name: getattr(task, name) for name in begun})
            claim = Claim(id, task.tool_name, started_at, self._seconds, self._worker)
            if stored is None:
                session.add(Document(table=LEASES, record_key=id, record=claim.lease()), returning=False)
            else:
                stored.record = claim.lease()
            return task

        self._heart.start()
        try:
            async with self._backend.session() as session:
                task = await session.transact(take)
        except BaseException:
            if claim is not None:  # its commit may have been applied
                self._heart.give_back(claim)
            raise
        if task is not None and claim is not None:
            self._held.take(claim)
            self._heart.keep(claim)
        return task


class Claims:
    """Tasks that this loop has claimed, one after the other: `for task in claims`. `AsyncClaims` is the same, awaited.

    It ends when it is closed, which any thread may do: the body of the loop runs to its end first. It may be entered by
    `with`, which closes it and gives back what was left.
    """

    def __init__(self, core: AsyncClaims) -> None:
        self._core = core

    def close(self) -> None:
        self._core.close()

    close.__doc__ = AsyncClaims.close.__doc__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        finish(self._core.__aexit__(kind, error, trace))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> BackgroundTask:
        task = finish(self._core._next())
        if task is None:
            raise StopIteration
        return task
