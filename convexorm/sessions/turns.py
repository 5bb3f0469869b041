"""One at a time: whose turn it is in a session, so that a second task or thread is refused instead of losing writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from sys import modules
from threading import get_ident
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast
from weakref import ref

import msgspec

from convexorm import faces
from convexorm.concurrency.locks import Lock
from convexorm.errors import InvalidRequestError

if TYPE_CHECKING:
    from asyncio import Task

__all__ = ["Turn", "blocking", "exclusive"]

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="_TakesTurns")

Who: TypeAlias = "tuple[int, Task[Any] | None]"
"""A thread, and the task in it where there is one."""


class _Use(msgspec.Struct, eq=False):
    """A method of a session under way: the coroutine that runs it, from its first step to its last, and who runs that.

    The interpreter itself says whether a coroutine is at its end: then it has no frame.
    """

    coroutine: Callable[[], Any]
    thread: int
    task: Task[Any] | None
    heirs: dict[object, _Use] = {}

    @property
    def who(self) -> Who:
        return self.thread, self.task

    @property
    def over(self) -> bool:
        """Whether the coroutine has ended, or nobody will go on with it: its event loop is closed."""
        coroutine = self.coroutine()
        if coroutine is None or coroutine.cr_frame is None:
            return True
        task = self.task
        return task is not None and (task.done() or task.get_loop().is_closed())


class Turn(Lock[_Use], eq=False):
    """Held by one task or thread for as long as a method of the session, or of a watch, runs; it may take it several times
    over.
    """

    noun: str = "session"

    def check(self) -> None:
        """Raise InvalidRequestError if the session is in the midst of something for another task or thread."""
        if self.held:
            self._refuse((get_ident(), _task()))

    def begin(self, use: _Use) -> None:
        """Take it, unless it is the same task's or thread's turn already. Raises InvalidRequestError, as `check` does."""
        while not self.take(use):
            holder = self.holder
            if holder is not None and holder.who == use.who and not holder.over:
                return
            self._refuse(use.who)

    def _refuse(self, me: Who) -> None:
        """Raise if it is the turn of another task or thread."""
        holder = self.holder
        if holder is None or holder.who == me or holder.over:
            return
        other = "task" if holder.who[0] == me[0] else "thread"
        raise InvalidRequestError(
            f"this {self.noun} is in use by another {other}; "
            f"a {self.noun} is for one task or thread at a time: open another"
        )


def _task() -> Task[Any] | None:
    """The task that runs on this thread, if one does."""
    running = getattr(modules.get("asyncio.events"), "_get_running_loop", None)  # not imported: there is no loop
    if running is None or (loop := running()) is None:
        return None
    from asyncio import current_task

    return current_task(loop)


class _TakesTurns(Protocol):
    _turn: Turn


def exclusive(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """A coroutine method that has the session to itself from its first step to its last.

    It holds the session's turn in the name of the coroutine that runs it, so whatever ends that ends the turn, although an
    interrupt may keep it from giving the turn back.
    """

    @wraps(method)
    async def alone(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        running = method(self, *args, **kwargs)
        turn, use = self._turn, _Use(ref(running), get_ident(), _task())
        try:
            if turn.held.setdefault(None, use) is not use:  # which is rare
                turn.begin(use)
            return await running
        finally:
            turn.give(use)
            running.close()  # it has never begun if it is another's turn

    _INNER[alone] = method
    return cast("Callable[Concatenate[S, P], Coroutine[Any, Any, T]]", alone)


_INNER: dict[object, Callable[..., Any]] = {}
"""What `exclusive` methods run, by these."""


def blocking(method: Callable[Concatenate[Any, P], Awaitable[T]]) -> Callable[Concatenate[Any, P], T]:
    """The plain face of a method of a session's core, in one step if it is `exclusive`."""
    inner = _INNER.get(method)
    if inner is None:
        return faces.blocking(method)

    @wraps(method)
    def run(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        core = self._core
        running = inner(core, *args, **kwargs)
        turn, use = core._turn, _Use(ref(running), get_ident(), _task())
        try:
            if turn.held.setdefault(None, use) is not use:  # which is rare
                turn.begin(use)
            running.send(None)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        finally:
            turn.give(use)
            running.close()  # it has never begun if it is another's turn
        raise RuntimeError(faces.SUSPENDED)

    return cast("Callable[Concatenate[Any, P], T]", run)
