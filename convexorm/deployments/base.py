"""What a deployment is: something that answers requests, once for callers that block and once for callers that await.

Both faces are a `Port` of coroutines. Those of `Deployment.blocking` never suspend, so a blocking session can run them to
their end with one `send(None)`; those of `Deployment.asynchronous` never block the event loop.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, Self, TypeAlias, TypeVar, overload

import attrs

from convexorm.deployments.observers import Observers, Request
from convexorm.errors import InvalidRequestError
from convexorm.exports import Export
from convexorm.requests import Applied, Commit, Document, Read, ReadResult, Search
from convexorm.values import Value

if TYPE_CHECKING:
    from convexorm.files import AsyncFiles, Files
    from convexorm.live.mailboxes import Mailbox
    from convexorm.live.watch import Watch

__all__ = ["ATTEMPTS", "Caller", "Deployment", "FunctionCall", "FunctionKind", "Port", "Ran", "check_deployment"]

ATTEMPTS = 4
"""How often a call to a deployment over HTTP is sent at most, unless it is told otherwise."""


T_co = TypeVar("T_co", covariant=True)
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
OnState: TypeAlias = Callable[[bool], object]
"""What is told whether a watch is connected."""


class Watchable(Protocol[T_co]):
    """Something that can be watched, and what that gives: known to type checkers alone."""

    def _watched(self) -> T_co: ...


class Port(Protocol):
    """One face of a deployment. Every method raises the errors of `convexorm.errors` and no others."""

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        """Answer all reads from one snapshot, each as far as one call goes."""
        ...

    async def commit(self, commit: Commit) -> list[Applied]:
        """Apply all writes or none; the same id is applied once. One answer a write."""
        ...

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        """Settle a commit whose answer was lost: that answer, if it was applied; else None, and it will not be applied:
        a copy of it that arrives later is refused with InvalidRequestError.
        """
        ...

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        """The nearest documents with their cosine similarity, best first."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait, as this face waits."""
        ...


FunctionKind: TypeAlias = Literal["query", "mutation", "action"]


@attrs.frozen
class FunctionCall:
    """A call of a function of the deployment. `token` is a user's, instead of the deployment's admin key."""

    kind: FunctionKind
    path: str
    arguments: Mapping[str, Value] = attrs.field(repr=False)
    token: str | None = attrs.field(default=None, repr=False)
    component: str | None = None


class Caller(Protocol):
    """One face of a deployment's functions."""

    async def call(self, call: FunctionCall) -> Value:
        """What the function answers. A query may be sent several times, anything else only if it never left.

        Raises FunctionFailed, FunctionNotFound, DeploymentError, AuthError, ValidationError and LimitExceeded.
        """
        ...


@attrs.frozen
class Ran:
    """A scheduled function that was run, and what it raised, if it did."""

    id: str
    path: str
    error: Exception | None = None


class Deployment(ABC):
    """Where documents live. Safe to share between threads and tasks; close it when done."""

    blocking: Port
    """The face whose coroutines never suspend."""
    asynchronous: Port
    """The face whose coroutines never block the event loop."""
    observers: Observers
    """Who is told of its requests."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("a deployment cannot be pickled or copied; connect() again where another one is needed")

    def on_request(self, callback: Callable[[Request], object]) -> Callable[[], None]:
        """Have a callback told of each request once it is over, of both faces, on the thread that made it; what ends that.

        What is told are names and numbers, never contents or keys. What the callback raises is logged and goes no further.

        Raises InvalidRequestError for what cannot be called, or would have to be awaited.
        """
        return self.observers.add(callback)

    @property
    def blocking_caller(self) -> Caller:
        """The deployment's functions, called without suspending. Raises InvalidRequestError where there are none."""
        raise InvalidRequestError("this deployment has no functions to call")

    @property
    def asynchronous_caller(self) -> Caller:
        """The deployment's functions, called without blocking the event loop. InvalidRequestError where there are none."""
        raise InvalidRequestError("this deployment has no functions to call")

    @property
    def files(self) -> Files:
        """The deployment's files, stored and got without awaiting."""
        raise InvalidRequestError("this deployment has no files")

    @property
    def async_files(self) -> AsyncFiles:
        """The deployment's files, awaited."""
        raise InvalidRequestError("this deployment has no files")

    def run_scheduled(self, *, until: datetime | None = None) -> list[Ran]:
        """Run the scheduled functions that are due at a time, now without one, through the fakes of `connect`.

        Each is run once, by whichever process comes first; what it raises is kept with it, and answered. What they schedule
        in turn is for the next call. Raises InvalidRequestError on Convex, which runs them itself.
        """
        raise InvalidRequestError("a deployment on Convex runs scheduled functions itself")

    async def arun_scheduled(self, *, until: datetime | None = None) -> list[Ran]:
        """`run_scheduled`, for callers that await."""
        return self.run_scheduled(until=until)

    @overload
    def watch(self, one: Watchable[T1], /, *, on_state: OnState | None = None) -> Watch[T1]: ...
    @overload
    def watch(
        self, one: Watchable[T1], two: Watchable[T2], /, *, on_state: OnState | None = None
    ) -> Watch[tuple[T1, T2]]: ...
    @overload
    def watch(
        self, one: Watchable[T1], two: Watchable[T2], three: Watchable[T3], /, *, on_state: OnState | None = None
    ) -> Watch[tuple[T1, T2, T3]]: ...
    @overload
    def watch(
        self,
        one: Watchable[T1],
        two: Watchable[T2],
        three: Watchable[T3],
        four: Watchable[T4],
        /,
        *,
        on_state: OnState | None = None,
    ) -> Watch[tuple[T1, T2, T3, T4]]: ...
    @overload
    def watch(
        self,
        one: Watchable[T1],
        two: Watchable[T2],
        three: Watchable[T3],
        four: Watchable[T4],
        five: Watchable[T5],
        /,
        *,
        on_state: OnState | None = None,
    ) -> Watch[tuple[T1, T2, T3, T4, T5]]: ...
    @overload
    def watch(self, *statements: Watchable[Any], on_state: OnState | None = None) -> Watch[tuple[Any, ...]]: ...
    def watch(self, *statements: Any, on_state: OnState | None = None) -> Any:
        """What stays answered: `with deployment.watch(query) as live`, or `async with`, and then `for change in live`.

        It takes what `session.read` takes. Of one query it gives a `Change` after the other, the first at once with all
        of it, each with the documents as detached instances and what is new of them; of a count, an aggregate, a
        selection it gives the value. Several are answered from one snapshot, as a tuple. An instance stays the same object
        as long as its document, and what it loads, is the same. `live.next(timeout=5)` is one at a time.

        `on_state` is called with True or False when the connection is there or lost, on the thread that notices.

        Raises FullTableScanError for a query that no index covers, and InvalidRequestError for what is none. Entering it
        raises DeploymentError where the deployment is closed.
        """
        from convexorm.live.querying import watch  # sessions stand on deployments

        return watch(self, statements, on_state=on_state)

    def subscribe(self, asked: Sequence[Read] | FunctionCall, mailbox: Mailbox[Any]) -> None:
        """Feed a mailbox from now on: with whole answers to these reads, each time all from one snapshot, or with what a
        function answers. It waits for nothing; errors that need input or output end the watch.

        A document that is as it was in the answer before is the same object. Raises InvalidRequestError where nothing can
        be watched, and DeploymentError where the deployment is closed.
        """
        raise InvalidRequestError("this deployment does not tell of changes; nothing of it can be watched")

    @abstractmethod
    def close(self) -> None:
        """Release connections and files. Using the deployment afterwards raises DeploymentError."""

    async def aclose(self) -> None:
        """`close`, for callers that await."""
        self.close()

    def describe(self) -> Export:
        """The schema that is deployed. InvalidRequestError on an embedded deployment, which has that of the models."""
        raise InvalidRequestError("an embedded deployment has no schema but that of the models; only one on Convex has")

    async def adescribe(self) -> Export:
        """`describe`, for callers that await."""
        return self.describe()

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write all documents to a new SQLite file, as they are at one moment, while others go on, and their files to the
        folder `path` with `-files` behind it.

        Raises DeploymentError if one of the two is there already, and InvalidRequestError on Convex, which exports by
        itself.
        """
        raise InvalidRequestError("a deployment on Convex is backed up there: `npx convex export --path FOLDER`")

    async def abackup(self, path: str | os.PathLike[str]) -> None:
        """`backup`, for callers that await."""
        self.backup(path)

    def vacuum(self) -> None:
        """Give back to the disk what deleted documents have left free. Raises InvalidRequestError on Convex."""
        raise InvalidRequestError("a deployment on Convex has no file to make smaller; only a SQLite file has")

    async def avacuum(self) -> None:
        """`vacuum`, for callers that await."""
        self.vacuum()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def check_deployment(deployment: Deployment) -> Deployment:
    """The deployment. Raises InvalidRequestError for anything else, such as its URL."""
    if isinstance(deployment, type) or not (hasattr(deployment, "blocking") and hasattr(deployment, "asynchronous")):
        raise InvalidRequestError(f'a deployment is needed, such as connect("memory:"), got {type(deployment).__name__}')
    return deployment
