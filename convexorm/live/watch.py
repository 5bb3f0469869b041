"""`Watch`: what is asked stays answered. Entered by `with` it is a `Live`, by `async with` an `AsyncLive`.

How one goes from state to state is written once, as a coroutine over a bell; over the blocking bell it never suspends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.faces import finish
from convexorm.given import a_callback
from convexorm.live.bells import AsyncBell, Bell, BlockingBell
from convexorm.live.mailboxes import Mailbox
from convexorm.live.states import State, States
from convexorm.sessions.turns import Turn, exclusive

__all__ = ["AsyncLive", "Live", "Watch"]

T = TypeVar("T")


class AsyncLive(Generic[T]):
    """A watch that goes on, awaited: an asynchronous iterator of states. `Live` is the same, blocking.

    The first state comes at once. States are consistent and come in the order of commits; when they come faster than they
    are taken some are skipped, the last is not. It is for one task at a time; `close` may be called from anywhere.
    """

    def __init__(self, mailbox: Mailbox[Any], states: States, bell: Bell) -> None:
        self._mailbox = mailbox
        self._states = states
        self._bell = bell
        self._seen: State | None = None
        """What was made of the answer of this number; `owed` as long as it has not been given."""
        self._owed: State | None = None
        self._number = -1
        self._turn = Turn(noun="watch")
        mailbox.ring = bell.ring

    @property
    def connected(self) -> bool:
        """Whether the deployment tells of changes at the moment. While it does not, what was seen last may be old."""
        return self._mailbox.connected

    @property
    def closed(self) -> bool:
        """Whether it is closed, or its deployment."""
        return self._mailbox.ended

    def close(self) -> None:
        """End the watch: whoever iterates comes to the end. Waits for nothing, and may be called by other threads."""
        self._mailbox.close()

    async def next(self, timeout: float | None = None) -> T:  # noqa: ASYNC109  (both faces take it)
        """The next state that differs from the one before, which is waited for, `timeout` seconds at most.

        Raises TimeoutError of Python when that time is over, InvalidRequestError when the watch is closed, and what ended
        it: the error that a read raises.
        """
        found = await self._next(_seconds(timeout))
        if not found:
            raise InvalidRequestError("the watch is closed")
        return found[0]

    @exclusive
    async def _next(self, seconds: float | None = None) -> tuple[T, ...]:
        """The next state; none when the watch is closed."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            if self._owed is not None:
                owed, self._owed = self._owed, None
                return (owed.value,)
            found = self._mailbox.look()
            if found is not None:
                number, answer = found
                if number != self._number:  # else an interrupt came before it was taken
                    state = self._states.after(self._seen, answer)
                    # in one step, so that an interrupt leaves all of it or nothing
                    self._seen, self._owed, self._number = state, state if state.changed else None, number
                self._mailbox.taken(number)
            elif self._mailbox.ended:
                return ()
            elif not await self._bell.wait(None if until is None else max(until - time.monotonic(), 0.0)):
                raise TimeoutError("nothing has changed in this time")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        for value in await self._next():
            return value
        raise StopAsyncIteration


class Live(Generic[T]):
    """A watch that goes on: an iterator of states. `AsyncLive` is the same, awaited.

    The first state comes at once. States are consistent and come in the order of commits; when they come faster than they
    are taken some are skipped, the last is not. It is for one thread at a time; `close` may be called from anywhere.
    """

    def __init__(self, core: AsyncLive[T]) -> None:
        self._core = core

    @property
    def connected(self) -> bool:
        return self._core.connected

    @property
    def closed(self) -> bool:
        return self._core.closed

    def close(self) -> None:
        self._core.close()

    def next(self, timeout: float | None = None) -> T:
        return finish(self._core.next(timeout))

    connected.__doc__ = AsyncLive.connected.__doc__
    closed.__doc__ = AsyncLive.closed.__doc__
    close.__doc__ = AsyncLive.close.__doc__
    next.__doc__ = AsyncLive.next.__doc__

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        for value in finish(self._core._next()):
            return value
        raise StopIteration


class Watch(Generic[T]):
    """Something to be watched: `with watch as live` or `async with watch as live`, once. Nothing happens before that."""

    def __init__(
        self,
        states: States,
        subscribe: Callable[[Mailbox[Any]], object],
        on_state: Callable[[bool], object] | None = None,
    ) -> None:
        if on_state is not None:
            a_callback(on_state, "on_state")
        self._states = states
        self._subscribe = subscribe
        self._mailbox: Mailbox[Any] = Mailbox(on_state)
        self._entered = False

    def close(self) -> None:
        """End it, whether it was entered or not."""
        self._mailbox.close()

    def __enter__(self) -> Live[T]:
        return Live(self.begin(BlockingBell()))

    def __exit__(self, *_: object) -> None:
        self._mailbox.close()

    async def __aenter__(self) -> AsyncLive[T]:
        return self.begin(AsyncBell())

    async def __aexit__(self, *_: object) -> None:
        self._mailbox.close()

    def begin(self, bell: Bell) -> AsyncLive[T]:
        """Enter it on whichever face waits by this bell; `close` ends it."""
        if self._entered:
            raise InvalidRequestError("a watch is entered once; make another")
        self._entered = True
        live: AsyncLive[T] = AsyncLive(self._mailbox, self._states, bell)
        try:
            self._subscribe(self._mailbox)
        except BaseException:
            self._mailbox.close()
            raise
        return live


def _seconds(timeout: object) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or math.isnan(timeout) or timeout < 0:
        raise ValidationError("a timeout is a number of seconds from 0 on, or None")
    return float(timeout)
