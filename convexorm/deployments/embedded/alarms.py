"""Alarms: what wakes the thread that watches files. Linux tells of writes to a file (inotify); elsewhere one has to look.

A commit writes to a file before it is there to be seen, and nobody tells when it is. So after the last write one looks
again some times, at growing intervals, and in any case once in a while.
"""

from __future__ import annotations

import os
import select
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from struct import Struct
from threading import Lock

__all__ = ["Alarm", "alarm_of"]

_AFTERWARDS = (0.002, 0.008, 0.03, 0.12)
"""Seconds from a write to the looks after the first."""
_SURELY = 1.0
"""Seconds after which one looks, whatever was told."""
_LOOK = 0.04
"""Seconds from one look at a file from outside to the next, where nobody tells of writes."""


class Alarm(ABC):
    """Something to wait at, for one thread. `ring` may be called from anywhere, a signal's handler included."""

    @abstractmethod
    def ring(self) -> None:
        """Wake whoever waits, or whoever waits next."""

    @abstractmethod
    def wait(self) -> bool:
        """Wait until it is rung, or until a file is to be looked into; whether it is."""


def alarm_of(files: Sequence[str]) -> Alarm:
    """An alarm for some files, or for none."""
    if not files:
        return _Bell()
    if sys.platform == "linux":
        with suppress(OSError):  # there is none to have, or no descriptor is left
            return _Told(files)
    return _Looking(files)


class _Bell(Alarm):
    """A lock that is free once it was rung."""

    def __init__(self) -> None:
        self._silence = Lock()
        self._silence.acquire()

    def ring(self) -> None:
        with suppress(RuntimeError):  # it rings already
            self._silence.release()

    def wait(self) -> bool:
        return self._rest(-1)

    def _rest(self, seconds: float) -> bool:
        self._silence.acquire(timeout=seconds)
        return False


class _Looking(_Bell):
    """Looks at files from outside, where nobody tells of writes to them."""

    def __init__(self, files: Sequence[str]) -> None:
        super().__init__()
        self._files = files
        self._state: object = None
        self._again = 0

    def wait(self) -> bool:
        self._rest(_LOOK)
        state = [_state(file) for file in self._files]
        self._again = len(_AFTERWARDS) if state != self._state else self._again - 1
        self._state = state
        if self._again <= -_SURELY / _LOOK:
            self._again = 0
            return True
        return self._again > 0


class _Told(Alarm):
    """Is told of writes by the kernel. Its descriptors are closed when nobody has it any more, who might ring."""

    _descriptor = -1
    _bell = -1

    def __init__(self, files: Sequence[str]) -> None:
        make, self._add = _inotify()
        self._descriptor = make(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0:
            raise OSError("there is no descriptor to be told by")
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._files = [os.fsencode(file) for file in files]
        self._folder = os.path.dirname(self._files[0])
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._poll.register(self._bell, select.POLLIN)
        self._looks: list[float] = []
        """When to look again, the next at the end."""
        self._listen()

    def _listen(self) -> None:
        """Have writes told of; as long as one of the files is not there, what is made in the folder."""
        there = [self._add(self._descriptor, file, _WRITTEN | _GONE) >= 0 for file in self._files]
        if not all(there):
            self._add(self._descriptor, self._folder, _MADE)

    def ring(self) -> None:
        with suppress(BlockingIOError):  # it rings already, and was never heard
            os.eventfd_write(self._bell, 1)

    def wait(self) -> bool:
        now = time.monotonic()
        until = self._looks[-1] if self._looks else now + _SURELY
        rung = {descriptor for descriptor, _ in self._poll.poll(max(until - now, 0) * 1000)}
        if self._bell in rung:
            with suppress(BlockingIOError):
                os.eventfd_read(self._bell)
        now = time.monotonic()
        if self._descriptor in rung:
            if _events(os.read(self._descriptor, 1 << 16)) & ~_WRITTEN:
                self._listen()
            self._looks = [now + seconds for seconds in reversed(_AFTERWARDS)]
            return True
        if now < until:
            return False
        if self._looks:
            self._looks.pop()
        else:
            self._listen()
        return True

    def __del__(self) -> None:  # also of one that was interrupted while it was made
        for descriptor in (self._descriptor, self._bell):
            if descriptor >= 0:
                os.close(descriptor)


def _events(told: bytes) -> int:
    """What has happened, of all that was told."""
    events = place = 0
    while place < len(told):
        _, mask, _, length = _EVENT.unpack_from(told, place)
        events |= mask
        place += _EVENT.size + length
    return events


_EVENT = Struct("iIII")
_WRITTEN = 0x2
"""IN_MODIFY."""
_GONE = 0x400 | 0x800
"""IN_DELETE_SELF and IN_MOVE_SELF."""
_MADE = 0x100 | 0x80
"""IN_CREATE and IN_MOVED_TO."""


def _inotify() -> tuple[Callable[[int], int], Callable[[int, bytes, int], int]]:
    """What makes a descriptor to be told by, and what adds files to it; OSError where there is none to have."""
    import ctypes

    try:
        library = ctypes.CDLL(None)
        return library.inotify_init1, library.inotify_add_watch
    except AttributeError as error:
        raise OSError("the system tells of no writes") from error


def _state(file: str) -> tuple[int, ...] | None:
    try:
        stat = os.stat(file)
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
