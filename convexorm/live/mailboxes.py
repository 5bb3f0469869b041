"""`Mailbox`: where a deployment leaves what a watch is to see next. Whoever watches takes it from there.

It holds one state at most, the newest. Nothing in it waits or locks: each step is one of the interpreter's own on a
dictionary, so any thread, an event loop or a signal's handler may be in the midst of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

from convexorm.errors import ConvexORMError, DeploymentError
from convexorm.listeners import tell

__all__ = ["Mailbox"]

S = TypeVar("S")


def _nothing() -> None:
    """What there is to do where nobody has asked for anything."""


class Mailbox(Generic[S]):
    """What one watch is to see next, and whether it goes on.

    `on_state` is told when the connection to what is watched is lost or there again, on the thread that notices. Whoever
    feeds the mailbox may set `on_taken`, called when a state was taken, and `on_close`, called when the watch is closed.
    Whoever empties it sets `ring`, called when there is something to see. These three must not wait for anything.
    """

    def __init__(self, on_state: Callable[[bool], object] | None = None) -> None:
        self._states: dict[int, S] = {}
        self._numbers = count()
        self._error: ConvexORMError | None = None
        self._ended = False
        self._connected = False
        self._on_state = on_state
        self._process = os.getpid()
        self.ring: Callable[[], None] = _nothing
        self.on_taken: Callable[[], None] = _nothing
        self.on_close: Callable[[], None] = _nothing

    # -- for whoever feeds it --------------------------------------------------------------------------------------

    def deliver(self, state: S) -> None:
        """The newest state, in place of one that was not taken."""
        number = next(self._numbers)
        self._states[number] = state
        self._drop(number - 1)
        self.ring()

    def fail(self, error: ConvexORMError) -> None:
        """The watch ends with this, once what was delivered is taken."""
        self._error = self._error or error
        self.ring()

    def end(self) -> None:
        """The watch ends."""
        self._ended = True
        self.ring()

    @property
    def connected(self) -> bool:
        """Whether what is watched is heard of at the moment."""
        return self._connected and not self.over

    @connected.setter
    def connected(self, connected: bool) -> None:
        if connected == self._connected:
            return
        self._connected = connected
        if self._on_state is not None and not self._ended:
            tell(self._on_state, connected, "a listener of a watch's connection failed")

    @property
    def over(self) -> bool:
        """Whether nothing is to be delivered any more."""
        return self._ended or self._error is not None

    @property
    def empty(self) -> bool:
        """Whether the last state was taken."""
        return not self._states

    # -- for whoever empties it ------------------------------------------------------------------------------------

    def look(self) -> tuple[int, S] | None:
        """The newest state with its number; None if there is none yet. It stays until it is taken.

        Raises what the watch has failed with, and DeploymentError in a child of the process that watches.
        """
        if self._process != os.getpid():
            raise DeploymentError("a watch stays in the process that opened it, and this is a child of that one")
        if self._ended:
            return None
        numbers = list(self._states)
        if numbers:
            number = max(numbers)
            state = self._states.get(number)
            if state is not None:
                return number, state
            return self.look()  # a newer one has taken its place
        if self._error is not None:
            raise self._error.with_traceback(None)
        return None

    def taken(self, number: int) -> None:
        """The state of this number was seen."""
        self._drop(number)
        self.on_taken()

    @property
    def ended(self) -> bool:
        """Whether the watch was closed, or the deployment."""
        return self._ended

    def close(self) -> None:
        """Nobody watches any more."""
        if not self._ended:
            self._ended = True
            if self._process == os.getpid():
                self.on_close()
        self._states.clear()
        self.ring()

    def _drop(self, number: int) -> None:
        for one in list(self._states):
            if one <= number:
                self._states.pop(one, None)
