"""Works: what is under way on a thread, in whose name locks are held.

A work is over when its frame is. The interpreter itself says whether a frame is at its end, in one step: only then can it
be cleared.
"""

from __future__ import annotations

from threading import get_ident
from types import FrameType

import msgspec

__all__ = ["Work", "work_in"]


class Work(msgspec.Struct, eq=False):
    """Something under way on a thread, in the frame of whoever makes it."""

    frame: FrameType | None
    thread: int
    owner: object = None
    writes: bool = False
    outer: Work | None = None
    """The work in whose midst this one began: a signal's handler, say, in the midst of a request."""
    heirs: dict[object, Work] = {}

    @property
    def over(self) -> bool:
        """Whether its frame has come to its end, by whatever way."""
        frame = self.frame
        if frame is None:
            return True
        try:
            frame.clear()
        except RuntimeError:  # it is executing
            return False
        self.frame = None
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
        self.frame = None


def work_in(frame: FrameType, owner: object = None) -> Work:
    """What this thread is about in a frame."""
    return Work(frame, get_ident(), owner)
