"""Turns: locks that nobody can leave behind.

A request can be interrupted at any line, also between taking a lock and the `try` that gives it back. So a turn is held in
the name of a *work*, and a work is over when its frame is, whether it gave its turns back or not: whoever finds a turn held
by a work that is over takes it over, exactly one of them. The interpreter itself says whether a frame is at its end, in one
step: only then can it be cleared.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import suppress
from threading import Lock, get_ident
from types import FrameType

__all__ = ["Turn", "Work"]


class Work:
    """Something under way on this thread, in the frame of whoever makes it."""

    __slots__ = ("_frame", "heirs", "outer", "owner", "thread", "writes")

    def __init__(self, owner: object = None, *, writes: bool = False) -> None:
        self.owner = owner
        self.writes = writes
        self.thread = get_ident()
        self.outer: Work | None = None
        """The work in whose midst this one began: a signal's handler, say, in the midst of a request."""
        self.heirs: dict[Turn, Work] = {}
        self._frame: FrameType | None = sys._getframe(1)

    @property
    def over(self) -> bool:
        """Whether its frame has come to its end, by whatever way."""
        frame = self._frame
        if frame is None:
            return True
        try:
            frame.clear()
        except RuntimeError:  # it is executing
            return False
        self._frame = None
        return True

    @property
    def under_way(self) -> bool:
        """Whether this work, or one in whose midst it began, goes on."""
        work: Work | None = self
        while work is not None:
            if not work.over:
                return True
            work = work.outer
        return False

    def end(self) -> None:
        """Say that it holds nothing any more."""
        self._frame = None


class Turn:
    """A lock that one work holds at a time."""

    __slots__ = ("_held", "_waiting")

    def __init__(self) -> None:
        self._held: dict[None, Work] = {}
        self._waiting: deque[Lock] = deque()

    @property
    def free(self) -> bool:
        return not self._held

    @property
    def holder(self) -> Work | None:
        """Whose turn it is, be that over or not."""
        first = self._held.get(None)
        return None if first is None else self._last(first)

    def take(self, work: Work) -> bool:
        """Whether the turn is this work's now: it was free, or its holder is over."""
        first = self._held.setdefault(None, work)
        if first is work:
            return True
        last = self._last(first)
        if not last.over or self._held.get(None) is not first:  # else given back while this was looked at
            return False
        return last.heirs.setdefault(self, work) is work

    def _last(self, work: Work) -> Work:
        """Who took the turn over from this holder, and from that one, to the last."""
        while (heir := work.heirs.get(self)) is not None:
            work = heir
        return work

    def give(self, work: Work) -> None:
        """Give the turn back, if it is this work's, and wake one who waits."""
        first = self._held.get(None)
        if first is None or (first is not work and self._last(first) is not work):
            return
        self._held.pop(None)
        if self._waiting:
            with suppress(IndexError, RuntimeError):  # somebody else woke them
                self._waiting.popleft().release()

    def wait(self, seconds: float) -> None:
        """Wait until the turn is given back, or so long: a holder that is over gives nothing back."""
        bell = Lock()
        bell.acquire()
        self._waiting.append(bell)
        if not self.free:
            bell.acquire(timeout=seconds)
        with suppress(ValueError):
            self._waiting.remove(bell)
