"""`Worker`: a thread that an interrupt leaves either at work or without any.

Whoever is interrupted in `Thread.start` may leave a thread that is never begun, cannot be joined, and is kept for ever with
all that it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread, current_thread

__all__ = ["Worker"]


class Worker:
    """Does something on a thread of its own, which does not keep the process."""

    def __init__(self, work: Callable[[], object], name: str) -> None:
        self._work: Callable[[], object] | None = work
        self._decision: dict[None, str] = {}  # a dictionary, since of two threads that set its default only one does
        self._thread = Thread(target=self._begin, name=name, daemon=True)

    def start(self) -> None:
        """Have the thread begin. One that has not when this is interrupted never does anything."""
        try:
            self._thread.start()
        except BaseException:
            if not self._thread.is_alive() and self._decision.setdefault(None, "dropped") == "dropped":
                self._work = None
            raise

    @property
    def alive(self) -> bool:
        """Whether it is at work."""
        return self._decision.get(None) != "dropped" and self._thread.is_alive()

    def join(self) -> None:
        """Wait until it has come to its end, if it is at work, and this is another thread."""
        if self.alive and self._thread is not current_thread():
            self._thread.join()

    def _begin(self) -> None:
        work = self._work
        if work is not None and self._decision.setdefault(None, "begun") == "begun":
            self._work = None
            work()
