"""Works: what is under way on a thread, in whose name locks are held.

A work is over when its frame is. The interpreter itself says whether a frame is at its end, in one step: only then can it
be cleared.
"""

from __future__ import annotations

import sys
from threading import get_ident
from types import FrameType

from convexorm.locks import Holder

__all__ = ["Work"]


class Work(Holder):
    """Something under way on this thread, in the frame of whoever makes it."""

    __slots__ = ("_frame", "outer", "owner", "thread", "writes")

    def __init__(self, owner: object = None, *, writes: bool = False) -> None:
        self.heirs = {}
        self.owner = owner
        self.writes = writes
        self.thread = get_ident()
        self.outer: Work | None = None
        """The work in whose midst this one began: a signal's handler, say, in the midst of a request."""
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
