"""One at a time: whose turn it is in a session, so that a second task or thread is refused instead of losing writes."""

from __future__ import annotations

from asyncio import Task, current_task
from asyncio.events import _get_running_loop
from collections.abc import Callable, Coroutine
from functools import wraps
from threading import get_ident
from typing import Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar, cast

from convexorm.errors import InvalidRequestError

__all__ = ["Turn", "exclusive"]

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="_TakesTurns")

Who: TypeAlias = "tuple[int, Task[Any] | None]"
"""A thread, and the task in it where there is one."""


class Turn:
    """Held by one task or thread for as long as a method of the session runs; it may take it several times over."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[str, Who] = {}  # a dictionary, since of two threads that set its default only one does

    def check(self) -> None:
        """Raise InvalidRequestError if the session is in the midst of something for another task or thread."""
        if self._held:
            holder = self._held.get("by")
            if holder is not None and holder != (me := _me()):
                self._refuse(holder, me)

    def take(self) -> bool:
        """Begin; whether it was not this one's turn already. Raises InvalidRequestError, as `check` does."""
        me = _me()
        holder = self._held.setdefault("by", me)
        if holder is me:
            return True
        if holder == me:
            return False
        self._refuse(holder, me)
        return self.take()

    def give_back(self) -> None:
        """End what began with `take`."""
        self._held.clear()

    def _refuse(self, holder: Who, me: Who) -> None:
        """Raise, unless the holder is a task that ended without giving its turn back, or whose event loop is closed."""
        if holder[1] is not None and (holder[1].done() or holder[1].get_loop().is_closed()):
            self._held.clear()
            return
        other = "task" if holder[0] == me[0] else "thread"
        raise InvalidRequestError(
            f"this session is in use by another {other}; a session is for one task or thread at a time: open another"
        )


def _me() -> Who:
    loop = _get_running_loop()
    return get_ident(), None if loop is None else current_task(loop)


class _TakesTurns(Protocol):
    _turn: Turn


def exclusive(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """A coroutine method that has the session to itself from its first step to its last."""

    @wraps(method)
    async def run(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        outermost = self._turn.take()
        try:
            return await method(self, *args, **kwargs)
        finally:
            if outermost:
                self._turn.give_back()

    return cast("Callable[Concatenate[S, P], Coroutine[Any, Any, T]]", run)
