"""Locks that nobody can leave behind.

Who holds a lock can be interrupted at any line, also between taking it and the `try` that gives it back. So a lock is held
in the name of a `Holder` that says itself whether it is over, by whatever way it came to its end: whoever finds a lock
whose holder is over takes it over, exactly one of them.
"""

from __future__ import annotations

from contextlib import suppress
from threading import Lock as Bell
from typing import Any, Generic, Protocol, TypeVar

import msgspec

__all__ = ["Holder", "Lock"]


class Holder(Protocol):
    """Something under way in whose name locks are held."""

    heirs: dict[object, Any]
    """Who took locks over from this one."""

    @property
    def over(self) -> bool:
        """Whether it has come to its end, so that it holds nothing any more, whether it gave that back or not."""


H = TypeVar("H", bound=Holder)


class Lock(msgspec.Struct, Generic[H], eq=False, kw_only=True):
    """What one holder holds at a time."""

    held: dict[None, H] = {}  # a dictionary, since of two threads that set its default only one does
    waiting: list[Bell] = []

    @property
    def free(self) -> bool:
        return not self.held

    @property
    def holder(self) -> H | None:
        """Who holds it, be that over or not."""
        first = self.held.get(None)
        return None if first is None else self._last(first)

    def take(self, holder: H) -> bool:
        """Whether it is this holder's now: it was free, or whoever held it is over."""
        first = self.held.setdefault(None, holder)
        if first is holder:
            return True
        last = self._last(first)
        if not last.over or self.held.get(None) is not first:  # else given back while this was looked at
            return False
        return last.heirs.setdefault(self, holder) is holder

    def _last(self, holder: H) -> H:
        """Who took it over from this holder, and from that one, to the last."""
        while (heir := holder.heirs.get(self)) is not None:
            holder = heir
        return holder

    def give(self, holder: H) -> None:
        """Give it back, if it is this holder's, and wake one who waits."""
        first = self.held.get(None)
        if first is not holder and (first is None or self._last(first) is not holder):
            return
        self.held.pop(None)
        if self.waiting:
            with suppress(IndexError, RuntimeError):  # somebody else woke them
                self.waiting.pop(0).release()

    def wait(self, seconds: float) -> None:
        """Wait until it is given back, or so long: a holder that is over gives nothing back."""
        bell = Bell()
        bell.acquire()
        self.waiting.append(bell)
        if not self.free:
            bell.acquire(timeout=seconds)
        with suppress(ValueError):
            self.waiting.remove(bell)
