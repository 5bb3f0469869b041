"""Guards: what a process does one at a time, whatever interrupts it.

`with` over a lock of Python's may leave it held, for an interrupt can come before its last line has run; a fork leaves it
held for ever where another thread has it. A guard is held in the name of a frame, and each process has its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from sys import _getframe
from typing import TypeVar

from convexorm.concurrency.locks import Lock
from convexorm.concurrency.works import Work, work_in

__all__ = ["Guard"]

T = TypeVar("T")

_LOOK = 0.02
"""Seconds to wait before looking whether the holder is still there."""


class Guard:
    """Called with something to do, which must not wait for anything: it is done while nobody else does such a thing."""

    def __init__(self) -> None:
        self._locks: dict[int, Lock[Work]] = {}

    def __call__(self, action: Callable[[], T]) -> T:
        process = os.getpid()
        lock = self._locks.get(process) or self._locks.setdefault(process, Lock())
        work = work_in(_getframe())
        while not lock.take(work):
            lock.wait(_LOOK)
        try:
            return action()
        finally:
            lock.give(work)
            work.end()
