"""One at a time: whose turn it is in a session, so that a second task or thread is refused instead of losing writes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from sys import modules
from threading import get_ident
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast
from weakref import ref

from convexorm.errors import InvalidRequestError
from convexorm.locks import Holder, Lock

if TYPE_CHECKING:
    from asyncio import Task

__all__ = ["Turn", "exclusive"]

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="_TakesTurns")

Who: TypeAlias = "tuple[int, Task[Any] | None]"
"""A thread, and the task in it where there is one."""


class _Use(Holder):
    """A method of a session under way: the coroutine that runs it, from its first step to its last.

    The interpreter itself says whether a coroutine is at its end: then it has no frame.
    """

    __slots__ = ("coroutine", "who")

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.heirs = {}
        self.who = _me()
        self.coroutine: Callable[[], Any] = ref(coroutine)

    @property
    def over(self) -> bool:
        """Whether the coroutine has ended, or nobody will go on with it: its event loop is closed."""
        coroutine = self.coroutine()
        if coroutine is None or coroutine.cr_frame is None:
            return True
        task = self.who[1]
        return task is not None and (task.done() or task.get_loop().is_closed())


class Turn(Lock[_Use]):
    """Held by one task or thread for as long as a method of the session, or of a watch, runs; it may take it several times
    over.
    """

    __slots__ = ("_noun",)

    def __init__(self, noun: str = "session") -> None:
        self._held = {}
        self._waiting = []
        self._noun = noun

    def check(self) -> None:
        """Raise InvalidRequestError if the session is in the midst of something for another task or thread."""
        if not self.free:
            self._refuse(_me())

    def begin(self, use: _Use) -> None:
        """Take it, unless it is the same task's or thread's turn already. Raises InvalidRequestError, as `check` does."""
        if self._held.setdefault(None, use) is use:  # nearly always
            return
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
            f"this {self._noun} is in use by another {other}; "
            f"a {self._noun} is for one task or thread at a time: open another"
        )


def _me() -> Who:
    running = getattr(modules.get("asyncio.events"), "_get_running_loop", None)  # not imported: there is no loop
    if running is None or (loop := running()) is None:
        return get_ident(), None
    from asyncio import current_task

    return get_ident(), current_task(loop)


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
        use = _Use(running)
        try:
            self._turn.begin(use)
            return await running
        finally:
            self._turn.give(use)
            running.close()  # it has never begun if it is another's turn

    return cast("Callable[Concatenate[S, P], Coroutine[Any, Any, T]]", alone)
