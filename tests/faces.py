"""Both faces of a session behind one: a test written with `await` runs on `AsyncSession` and on `Session`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from convexorm import AsyncSession, Deployment, Session
from convexorm.faces import finish

__all__ = ["FACES", "open_session"]

_STREAMS = {"stream"}
_PLAIN = {"new", "dirty", "deleted"}


class _Awaited:
    """A blocking session whose methods answer awaitables that are done."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._session, name)
        if name in _PLAIN:
            return attribute
        if name == "transact":
            return self._transact
        return (self._streamed if name in _STREAMS else _done)(attribute)

    def __contains__(self, instance: Any) -> bool:
        return instance in self._session

    async def _transact(self, fn: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
        return self._session.transact(lambda session: finish(fn(_Awaited(session))), **options)

    def _streamed(self, method: Callable[..., Any]) -> Callable[..., AsyncIterator[Any]]:
        async def run(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            for item in method(*args, **kwargs):
                yield item

        return run


def _done(method: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The method, run at once as a blocking call is; a failure is raised there and then too."""

    def run(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        result = method(*args, **kwargs)
        future = asyncio.get_running_loop().create_future()
        future.set_result(result)
        return future

    return run


def _blocking(deployment: Deployment, **options: Any) -> AsyncSession:
    return cast("AsyncSession", _Awaited(Session(deployment, **options)))


FACES: dict[str, Callable[..., AsyncSession]] = {"async": AsyncSession, "blocking": _blocking}


def open_session(face: str, deployment: Deployment, **options: Any) -> AsyncSession:
    return FACES[face](deployment, **options)
