"""Interrupts at any line: a call is made again and again, and interrupted at its first line, its second, and so on."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import convexorm

__all__ = ["PACKAGE", "interrupted", "walk"]

PACKAGE = Path(convexorm.__file__).parent


def interrupted(call: Callable[[], object], line: int, *within: Path) -> BaseException | None:
    """Make a call, and raise KeyboardInterrupt at the so many-th line that it goes through in these files and folders.

    None if it has fewer. The exception keeps all frames it has passed.
    """
    seen, places = 0, tuple(map(str, within))

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.startswith(places):
            return None
        if event == "line":
            seen += 1
            if seen == line and _in_destructor(frame):  # where Python raises nothing
                seen -= 1
            elif seen == line:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    def traced() -> Iterator[
        None
    ]:  # what is interrupted while it handles an exception goes on handling it: a generator's own
        sys.settrace(trace)
        call()
        yield

    before = sys.gettrace()
    gc.disable()  # what is collected meanwhile would be interrupted, too, where nobody can be told
    try:
        for _ in traced():
            break
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.settrace(before)
        gc.enable()
    return None


def _in_destructor(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_name not in ("__del__", "_close_left", "_dropped"):
        frame = frame.f_back
    return frame is not None


def walk(call: Callable[[], object], *within: Path, least: int = 20) -> Iterator[BaseException]:
    """Interrupt a call at each of its lines, of which there are more than `least`; each time before the caller looks."""
    line = 1
    while (error := interrupted(call, line, *within)) is not None:
        yield error
        line += 1
    assert line > least
