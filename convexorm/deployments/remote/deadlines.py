"""How long a call may take: one moment for all it does, attempts and pauses included."""

from __future__ import annotations

import time

__all__ = ["Deadline"]


class Deadline:
    """A moment, `seconds` after this object was made."""

    __slots__ = ("_end", "_start")

    def __init__(self, seconds: float) -> None:
        self._start = time.monotonic()
        self._end = self._start + seconds

    @property
    def spent(self) -> float:
        """Seconds since the call began."""
        return time.monotonic() - self._start

    def left(self) -> float:
        """Seconds left, more than none. Raises TimeoutError when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def within(self, seconds: float) -> float:
        """So many seconds, or those left."""
        return max(0.0, min(seconds, self._end - time.monotonic()))

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._end
