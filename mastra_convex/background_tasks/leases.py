"""Leases: what keeps a claimed task its worker's, for as long as that worker is there.

A lease is a record beside the task with the number of the last beat. No clock is compared with another: whoever has seen
the same beat for as long as the lease says, by a clock of its own, takes the worker for dead. A claim and its lease are
written by one commit, with a `started_at` that the task never had before, so an update that expects it is refused once
another has the task.
"""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import suppress
from datetime import datetime
from typing import Any

import attrs

from convexorm import AsyncSession, ConvexORMError
from convexorm.concurrency.threads import Worker
from convexorm.faces import finish
from convexorm.live.bells import BlockingBell
from mastra_convex.domain import Backend
from mastra_convex.entities import BackgroundTask, Document

__all__ = ["LEASES", "Claim", "Heart", "Held", "give_back"]

LEASES = "mastra_background_tasks_leases"
"""The table of leases, among those of records without a type: a task's id is the key."""
_REMEMBERED = 1_000
"""Claims of which a store knows, so that a late update by their worker is refused; more only while they are held."""
_BEATS = 3
"""Beats in the time of a lease: one that is late, or lost on its way, does not cost the claim."""


@attrs.define(eq=False)
class Claim:
    """A task in hand. `over` once it is finished, given back, or known to be another's."""

    task_id: str
    tool_name: str
    started_at: datetime
    seconds: float
    worker: str
    over: bool = False

    def lease(self, beat: int = 0) -> dict[str, Any]:
        """What is stored of it."""
        return {"id": self.task_id, "worker": self.worker, "beat": beat, "seconds": self.seconds, "tool": self.tool_name}


class Held:
    """The claims that a store holds, and those it held last, by the ids of their tasks. A child of a fork holds none."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}
        self._process = os.getpid()

    def claim(self, task_id: str) -> Claim | None:
        return self._claims.get(task_id) if self._process == os.getpid() else None

    def take(self, claim: Claim) -> None:
        self._claims.pop(claim.task_id, None)
        self._claims[claim.task_id] = claim
        if len(self._claims) > _REMEMBERED:
            for task_id in [id for id, one in list(self._claims.items())[: -_REMEMBERED // 2] if one.over]:
                self._claims.pop(task_id, None)

    def finished(self, claim: Claim) -> None:
        claim.over = True
        if self._claims.get(claim.task_id) is claim:
            self._claims.pop(claim.task_id, None)


class Heart:
    """Prolongs one loop's claim from a thread of its own, and gives back what the loop has left.

    It knows nothing of the loop, so that the loop can be collected. What it is told waits for nothing, and may come from a
    destructor.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend.blocking
        self._bell = BlockingBell()
        self._claim: Claim | None = None
        self._left: deque[Claim] = deque()
        self._ended = False
        self._worker: Worker | None = None

    def start(self) -> None:
        if self._worker is None or not self._worker.alive:  # one that an interrupt kept from its start
            self._worker = Worker(self._work, "convexorm leases")
            self._worker.start()

    def keep(self, claim: Claim) -> None:
        """Prolong this claim from now on."""
        self._claim = claim
        self._bell.ring()

    def rest(self) -> Claim | None:
        """Prolong nothing any more; answers what was prolonged."""
        claim, self._claim = self._claim, None
        return claim

    def give_back(self, claim: Claim) -> None:
        """Let somebody else have a claimed task, which nobody works at."""
        self._left.append(claim)
        self._bell.ring()

    def end(self) -> None:
        """The loop is over, whatever it was at."""
        claim = self.rest()
        if claim is not None:
            self._left.append(claim)
        self._ended = True
        self._bell.ring()

    def join(self) -> None:
        """Wait until it has come to its end, in a thread that may wait."""
        if self._worker is not None:
            self._worker.join()

    def _work(self) -> None:
        claim, beat, due = None, 0, 0.0
        while True:
            while self._left:
                with suppress(ConvexORMError):  # then its lease runs out
                    finish(give_back(self._backend, self._left.popleft()))
            if self._ended:
                if self._left:
                    continue
                return
            if self._claim is not claim:
                claim, beat = self._claim, 0
                due = time.monotonic() + (claim.seconds / _BEATS if claim else 0)
            if claim is None or claim.over:
                finish(self._bell.wait(None))
            elif (seconds := due - time.monotonic()) > 0:
                finish(self._bell.wait(seconds))
            else:
                due = time.monotonic() + claim.seconds / _BEATS
                try:
                    beat = finish(_prolong(self._backend, claim, beat + 1))
                except ConvexORMError:
                    due = time.monotonic() + claim.seconds / _BEATS / 4


async def _prolong(backend: Backend, claim: Claim, beat: int) -> int:
    """Write the next beat of a claim, unless it has become another's."""

    async def prolong(session: AsyncSession) -> None:
        lease = await session.get(Document, (LEASES, claim.task_id))
        if lease is None or lease.record.get("worker") != claim.worker:
            claim.over = True
        else:
            lease.record = claim.lease(beat)

    async with backend.session() as session:
        await session.transact(prolong)
    return beat


async def give_back(backend: Backend, claim: Claim) -> bool:
    """End a claim whose task was left; whether the task was unfinished, and is pending again.

    It keeps its `started_at`, so that the next claim of it has a later one.
    """

    async def run(session: AsyncSession) -> bool:
        lease = await session.get(Document, (LEASES, claim.task_id))
        if lease is None or lease.record.get("worker") != claim.worker:
            return False
        await session.delete(lease)
        task = await session.get(BackgroundTask, claim.task_id)
        if task is None or task.status != "running" or task.started_at != claim.started_at:
            return False
        expected = {"status": "running", "started_at": claim.started_at}
        session.update(BackgroundTask, claim.task_id, {"status": "pending"}, expected=expected)
        return True

    claim.over = True
    async with backend.session() as session:
        return await session.transact(run)
