"""Bells: how a watch waits for something to see, blocking or awaiting. Any thread rings them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from threading import TIMEOUT_MAX, Lock

from convexorm.errors import InvalidRequestError

__all__ = ["AsyncBell", "Bell", "BlockingBell"]


class Bell(ABC):
    """Rung once it stays so, until somebody has waited for it."""

    @abstractmethod
    def ring(self) -> None:
        """Let whoever waits go on, or whoever waits next. Never waits itself, and may be called from anywhere."""

    @abstractmethod
    async def wait(self, seconds: float | None) -> bool:
        """Wait until it rings, for so long at most; whether it did."""


class BlockingBell(Bell):
    """A lock that is free once it was rung: of all there is to wait with, it alone may be rung in a signal's handler."""

    def __init__(self) -> None:
        self._silence = Lock()
        self._silence.acquire()

    def ring(self) -> None:
        with suppress(RuntimeError):  # it rings already
            self._silence.release()

    async def wait(self, seconds: float | None) -> bool:
        return self._silence.acquire(timeout=-1 if seconds is None else min(max(seconds, 0.0), TIMEOUT_MAX))


class AsyncBell(Bell):
    """An event of the event loop that runs when it is made."""

    def __init__(self) -> None:
        import asyncio  # whoever awaits this has imported it

        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def ring(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, seconds: float | None) -> bool:
        import asyncio

        if asyncio.get_running_loop() is not self._loop:
            raise InvalidRequestError("a watch stays on the event loop that it was entered on; enter another here")
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return False
        self._event.clear()
        return True
