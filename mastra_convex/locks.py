"""Locks that a fork does not leave held: each process has its own, so a child never waits for a thread that it lacks."""

from __future__ import annotations

import os
from threading import Lock

__all__ = ["ProcessLock"]


class ProcessLock:
    """`with lock():` holds this process's lock. It is the plain one, which no interrupt leaves held."""

    def __init__(self) -> None:
        self._locks: dict[int, Lock] = {}

    def __call__(self) -> Lock:
        process = os.getpid()
        return self._locks.get(process) or self._locks.setdefault(process, Lock())
