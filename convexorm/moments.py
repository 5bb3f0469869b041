"""How long ago something was, on clocks that are set and on machines that sleep."""

from __future__ import annotations

import time
from typing import Self

from convexorm.data import Data

__all__ = ["Moment"]


class Moment(Data, frozen=True):
    """A moment by the clock on the wall and by the one that is never set; one of them may stand still or jump back."""

    wall: float
    steady: float

    @classmethod
    def now(cls) -> Self:
        return cls(time.time(), time.monotonic())

    def seconds_ago(self) -> float:
        """The seconds since then, by whichever clock says more: a steady clock may not count the time a machine sleeps."""
        return max(time.time() - self.wall, time.monotonic() - self.steady)
