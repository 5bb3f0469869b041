"""How much of a call's budget reads of a table ask for: all of it, until the functions fail at that.

A call that takes too long, or too much memory, is an error like any other in production. So a read that fails in the
functions is asked again for half as much, down to one document, and what did is where the next read of the table begins.
"""

from __future__ import annotations

from collections.abc import Sequence

from convexorm.requests import Read

__all__ = ["SMALLEST", "Shares", "after"]

SMALLEST = 8_192
"""Of so many parts of the budget of a call, one is a single document (`docs/wire.md`)."""
_KEPT = 32
"""Calls that were answered, before twice as much is tried."""


def after(share: int) -> int | None:
    """What to go on with after a failure; None if less cannot be asked for."""
    return share * 2 if share < SMALLEST else None


class Shares:
    """By table, in how many parts the budget of a call is cut, and how many calls have been answered since."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[int, int]] = {}

    def of(self, reads: Sequence[Read]) -> int:
        """What to begin with."""
        return max((self._parts.get(read.range.table.name, (1, 0))[0] for read in reads), default=1)

    def served(self, reads: Sequence[Read], share: int) -> None:
        """Note that this has been answered."""
        for name in {read.range.table.name for read in reads}:
            known, calls = self._parts.get(name, (1, 0))
            if share == 1 == known:
                continue
            calls = calls + 1 if share == known else 0
            parts = (share, calls) if calls < _KEPT else (share // 2, 0)
            if parts[0] > 1:
                self._parts[name] = parts
            else:
                self._parts.pop(name, None)
