"""`AsyncSession` and `Session`: identity map, unit of work, and commits that are one atomic mutation.

A session reads from a deployment and keeps at most one instance of each document (`reading`). It gathers what is added,
changed and deleted, and `commit()` sends all of it as one commit (`unit_of_work`): applied whole or not at all, and once,
however often it has to be sent. A change carries what the overwritten fields held when they were loaded; if another
writer has changed one of them since, the commit is refused with StaleDataError. `transact` runs a function again when that
happens.

Nothing is written before `commit()`, so reads do not see what is pending. A session is for one task or thread at a time;
the deployment below may be shared.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from inspect import iscoroutine
from types import TracebackType
from typing import Self, TypeVar

from convexorm.deployments.base import Deployment, Port, check_deployment
from convexorm.errors import InvalidRequestError, StaleDataError
from convexorm.faces import blocking, blocking_stream, finish, named
from convexorm.model import Model
from convexorm.reading import Hit, Page
from convexorm.turns import exclusive
from convexorm.unit_of_work import AsyncUnitOfWork

__all__ = ["AsyncSession", "Hit", "Page", "Session"]

T = TypeVar("T")

TRANSACT_ATTEMPTS = 100
"""How often `transact` tries by default. Of the writers that collide one always wins, so n of them need at most n tries."""
_BACKOFF = 0.004
"""Seconds of the first pause between tries; each is drawn evenly from zero to twice the one before."""
_BACKOFF_MOST = 0.25


class AsyncSession(AsyncUnitOfWork):
    """A session whose reads and commits are awaited. `Session` is the same, blocking.

    `tables` renames tables for this session: `{"mastra_scorers": "mastra_scores"}`. Raises InvalidRequestError for what is
    no deployment, such as its URL. Errors are those of `convexorm.errors`; every method that reads or commits may raise
    DeploymentError and AuthError.
    """

    def __init__(
        self, deployment: Deployment, *, tables: Mapping[str, str] | None = None, _port: Port | None = None
    ) -> None:
        super().__init__(_port or check_deployment(deployment).asynchronous, tables)

    @exclusive
    async def transact(self, fn: Callable[[AsyncSession], Awaitable[T]], *, attempts: int = TRANSACT_ATTEMPTS) -> T:
        """Run `fn(session)` and commit; after a conflict, run it again on fresh documents. Answers what `fn` answered.

        `fn` must be safe to run several times. Raises the last StaleDataError after `attempts`, and at once if the same
        primary key is found taken twice in a row. Raises InvalidRequestError if something is pending already. After a
        DeploymentError or a cancellation it may have been applied: look at what is stored before you run it again.
        """
        if self._operations or self.dirty:
            raise InvalidRequestError("commit or roll back what is pending before a transaction")
        taken: tuple[str, object] | None = None
        for attempt in range(attempts):
            self.expunge_all()
            try:
                result = await fn(self)
                await self.commit()
            except StaleDataError as error:
                conflict = None if error.reason != "exists" else (error.table, getattr(error.instance, "primary_key", None))
                self.expunge_all()
                if attempt + 1 >= attempts or (conflict is not None and conflict == taken):
                    raise
                taken = conflict
                await self._port.pause(random.uniform(0, min(_BACKOFF * 2**attempt, _BACKOFF_MOST)))
            except BaseException:
                self.expunge_all()
                raise
            else:
                return result
        raise InvalidRequestError("transact needs at least one attempt")

    @exclusive
    async def close(self) -> None:
        """Let go of everything; what was not committed is dropped. The deployment stays open."""
        self.expunge_all()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


named(AsyncSession, "Session")


# -- the blocking face ---------------------------------------------------------------------------------------------


class Session:
    """A session whose reads and commits block. `AsyncSession` is the same, awaited.

    Use it as a context manager; leaving it drops what was not committed.
    """

    def __init__(self, deployment: Deployment, *, tables: Mapping[str, str] | None = None) -> None:
        self._core = AsyncSession(deployment, tables=tables, _port=check_deployment(deployment).blocking)

    get = blocking(AsyncSession.get)
    get_one = blocking(AsyncSession.get_one)
    get_many = blocking(AsyncSession.get_many)
    all = blocking(AsyncSession.all)
    first = blocking(AsyncSession.first)
    one = blocking(AsyncSession.one)
    one_or_none = blocking(AsyncSession.one_or_none)
    page = blocking(AsyncSession.page)
    stream = blocking_stream(AsyncSession.stream)
    count = blocking(AsyncSession.count)
    read = blocking(AsyncSession.read)
    search = blocking(AsyncSession.search)
    digests = blocking(AsyncSession.digests)
    matrix = blocking(AsyncSession.matrix)
    refresh = blocking(AsyncSession.refresh)
    add = blocking(AsyncSession.add)
    add_all = blocking(AsyncSession.add_all)
    upsert = blocking(AsyncSession.upsert)
    bulk_upsert = blocking(AsyncSession.bulk_upsert)
    update = blocking(AsyncSession.update)
    delete = blocking(AsyncSession.delete)
    delete_key = blocking(AsyncSession.delete_key)
    delete_range = blocking(AsyncSession.delete_range)
    delete_all = blocking(AsyncSession.delete_all)
    commit = blocking(AsyncSession.commit)
    rollback = blocking(AsyncSession.rollback)
    expunge = blocking(AsyncSession.expunge)
    expire = blocking(AsyncSession.expire)
    merge = blocking(AsyncSession.merge)
    expunge_all = blocking(AsyncSession.expunge_all)
    close = blocking(AsyncSession.close)

    def transact(self, fn: Callable[[Session], T], *, attempts: int = TRANSACT_ATTEMPTS) -> T:
        async def run(_: AsyncSession) -> T:
            result = fn(self)
            if iscoroutine(result):
                result.close()
                raise InvalidRequestError("a Session runs plain functions; coroutine functions are for an AsyncSession")
            return result

        return finish(self._core.transact(run, attempts=attempts))

    transact.__doc__ = AsyncSession.transact.__doc__

    @property
    def new(self) -> list[Model]:
        return self._core.new

    @property
    def dirty(self) -> list[Model]:
        return self._core.dirty

    @property
    def deleted(self) -> list[Model]:
        return self._core.deleted

    def __contains__(self, instance: Model) -> bool:
        return instance in self._core

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
