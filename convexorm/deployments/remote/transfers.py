"""Bodies of files over HTTP, in pieces, for both faces: sent to an upload URL, and got from the URL of a file.

They go over connections of their own, by httpx2, without the admin key: who has such a URL may use it. The timeout of a
deployment holds for each step, not for the whole, whose size nobody knows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, ParamSpec, Protocol, TypeVar

import httpx2

from convexorm.deployments.remote.addresses import trusted
from convexorm.errors import DeploymentError
from convexorm.faces import finish
from convexorm.files import PIECE

__all__ = ["AsyncTransfers", "BlockingTransfers", "Body", "Transfers"]

P = ParamSpec("P")
T = TypeVar("T")

_PLAIN = {"accept-encoding": "identity", "user-agent": "convexorm"}


class Body(Protocol):
    """A body on its way here."""

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises DeploymentError."""
        ...

    async def close(self) -> None: ...


class Transfers(Protocol):
    """One face."""

    async def post(self, url: str, pieces: AsyncIterator[bytes], headers: dict[str, str]) -> tuple[int, bytes]:
        """The status and the body of the answer. Raises DeploymentError, and what the pieces raise."""
        ...

    async def get(self, url: str) -> tuple[int, Body]:
        """The status, and the body. Raises DeploymentError."""
        ...

    async def work(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...


def _cut(what: str, error: Exception, *, lost: bool = False) -> DeploymentError:
    problem = "timed out" if isinstance(error, httpx2.TimeoutException) else "broke off"
    failure = DeploymentError(f"{what} {problem} ({type(error).__name__})")
    failure.lost = lost
    return failure


class BlockingTransfers:
    """For callers that block; `timeout` is in seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    async def work(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return call(*args, **kwargs)

    async def post(self, url: str, pieces: AsyncIterator[bytes], headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            with httpx2.Client(timeout=self._timeout, verify=trusted()) as client:
                response = client.post(url, content=_plain(pieces), headers={**_PLAIN, **headers})
                return response.status_code, response.content
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _cut("the upload", error, lost=True) from error

    async def get(self, url: str) -> tuple[int, Body]:
        stack = ExitStack()
        try:
            client = stack.enter_context(httpx2.Client(timeout=self._timeout, verify=trusted(), follow_redirects=True))
            response = stack.enter_context(client.stream("GET", url, headers=_PLAIN))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            stack.close()
            raise _cut("the download", error) from error
        return response.status_code, _BlockingBody(response.iter_raw(PIECE), stack)


def _plain(pieces: AsyncIterator[bytes]) -> Iterator[bytes]:
    while True:
        try:
            yield finish(pieces.__anext__())
        except StopAsyncIteration:
            return


class _BlockingBody:
    def __init__(self, pieces: Iterator[bytes], stack: ExitStack) -> None:
        self._pieces = pieces
        self._stack = stack

    async def read(self) -> bytes:
        try:
            return next(self._pieces, b"")
        except httpx2.HTTPError as error:
            raise _cut("the download", error) from error

    async def close(self) -> None:
        self._stack.close()


class AsyncTransfers:
    """For callers that await; `timeout` is in seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    async def work(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        from asyncio import to_thread

        return await to_thread(call, *args, **kwargs)

    async def post(self, url: str, pieces: AsyncIterator[bytes], headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            async with await self._client() as client:
                response = await client.post(url, content=pieces, headers={**_PLAIN, **headers})
                return response.status_code, response.content
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _cut("the upload", error, lost=True) from error

    async def get(self, url: str) -> tuple[int, Body]:
        stack = AsyncExitStack()
        try:
            client = await stack.enter_async_context(await self._client())
            response = await stack.enter_async_context(client.stream("GET", url, headers=_PLAIN))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            await stack.aclose()
            raise _cut("the download", error) from error
        except BaseException:
            await stack.aclose()
            raise
        return response.status_code, _AsyncBody(response.aiter_raw(PIECE), stack)

    async def _client(self) -> httpx2.AsyncClient:
        context = await self.work(trusted)
        return httpx2.AsyncClient(timeout=self._timeout, verify=context, follow_redirects=True)


class _AsyncBody:
    def __init__(self, pieces: Any, stack: AsyncExitStack) -> None:
        self._pieces = pieces
        self._stack = stack

    async def read(self) -> bytes:
        try:
            return await anext(self._pieces, b"")
        except httpx2.HTTPError as error:
            raise _cut("the download", error) from error

    async def close(self) -> None:
        await self._stack.aclose()
