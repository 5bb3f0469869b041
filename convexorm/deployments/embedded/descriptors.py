"""`Descriptor`: an open file or folder, closed when nobody keeps it any longer, which an interrupt may bring about."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

__all__ = ["Descriptor"]


class Descriptor:
    """A descriptor of one's own, by its number. Raises OSError where there is none to be had."""

    _open: tuple[int, ...] | list[int] = ()
    """The number, until it is taken to be closed: never twice, since it may be another's by then."""

    def __init__(self, path: str | os.PathLike[str], flags: int, mode: int = 0o600) -> None:
        self._open = [os.open(path, flags | os.O_CLOEXEC, mode)]

    def fileno(self) -> int:
        return self._open[0]

    def close(self) -> None:
        if isinstance(self._open, list) and self._open:
            os.close(self._open.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
