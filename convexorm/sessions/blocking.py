"""`Session`: `AsyncSession`, blocking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutine
from types import TracebackType
from typing import Self, TypeVar

from convexorm.deployments.base import Deployment, check_deployment
from convexorm.errors import InvalidRequestError
from convexorm.faces import blocking_stream, finish
from convexorm.given import a_function
from convexorm.mapping.model import Model
from convexorm.sessions.session import TRANSACT_ATTEMPTS, AsyncSession
from convexorm.sessions.turns import blocking

__all__ = ["Session"]

M = TypeVar("M", bound=Model)
T = TypeVar("T")


class Session:
    """A session whose reads and commits block. `AsyncSession` is the same, awaited.

    Use it as a context manager; leaving it drops what was not committed.
    """

    def __init__(self, deployment: Deployment, *, tables: Mapping[str, str] | None = None) -> None:
        self._core = AsyncSession(deployment, tables=tables, _port=check_deployment(deployment).blocking)

    __reduce__ = AsyncSession.__reduce__
    get = blocking(AsyncSession.get)
    get_one = blocking(AsyncSession.get_one)
    get_or_create = blocking(AsyncSession.get_or_create)
    get_many = blocking(AsyncSession.get_many)
    load = blocking(AsyncSession.load)
    all = blocking(AsyncSession.all)
    first = blocking(AsyncSession.first)
    one = blocking(AsyncSession.one)
    one_or_none = blocking(AsyncSession.one_or_none)
    page = blocking(AsyncSession.page)
    stream = blocking_stream(AsyncSession.stream)
    count = blocking(AsyncSession.count)
    exists = blocking(AsyncSession.exists)
    sum = blocking(AsyncSession.sum)
    min = blocking(AsyncSession.min)
    max = blocking(AsyncSession.max)
    avg = blocking(AsyncSession.avg)
    read = blocking(AsyncSession.read)
    search = blocking(AsyncSession.search)
    search_text = blocking(AsyncSession.search_text)
    digests = blocking(AsyncSession.digests)
    changes = blocking(AsyncSession.changes)
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
    delete_tree = blocking(AsyncSession.delete_tree)
    update_all = blocking(AsyncSession.update_all)
    recount = blocking(AsyncSession.recount)
    schedule = blocking(AsyncSession.schedule)
    cancel_scheduled = blocking(AsyncSession.cancel_scheduled)
    commit = blocking(AsyncSession.commit)
    rollback = blocking(AsyncSession.rollback)
    expunge = blocking(AsyncSession.expunge)
    expire = blocking(AsyncSession.expire)
    merge = blocking(AsyncSession.merge)
    expunge_all = blocking(AsyncSession.expunge_all)
    close = blocking(AsyncSession.close)

    def attach(self, instance: M) -> M:
        return self._core.attach(instance)

    attach.__doc__ = AsyncSession.attach.__doc__

    def transact(self, fn: Callable[[Session], T], *, attempts: int = TRANSACT_ATTEMPTS) -> T:
        a_function(fn, "what a transaction runs")

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
        self._core._leave()
