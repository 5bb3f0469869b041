"""Telling who listens: what a listener raises is logged, by the logger `convexorm`, and goes no further.

A listener may be told while something else is being handled, such as what a request failed with, or what a program asks
within an `except`. Python makes that the context of what the listener raises, and its text would be logged along; so it
is taken off.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import iscoroutine
from typing import TypeVar

__all__ = ["tell"]

T = TypeVar("T")


def tell(listener: Callable[[T], object], news: T, failure: str) -> None:
    """Call a listener. `failure` is what is logged, with the traceback, if it raises, or would have to be awaited."""
    handled = sys.exception()
    try:
        answer = listener(news)
        if iscoroutine(answer):
            answer.close()
            raise TypeError("who listens is called and not awaited; make it a plain function")
    except Exception as error:  # who listens must not be what is told of fails at
        _take_off(handled, error)
        import logging

        logging.getLogger("convexorm").error(failure, exc_info=error)


def _take_off(handled: BaseException | None, error: BaseException) -> None:
    """Cut what was being handled before off all that led to an error."""
    if handled is None:
        return
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if one.__context__ is handled:
            one.__context__ = None
        if one.__cause__ is handled:
            one.__cause__ = None
        left += (one.__context__, one.__cause__)
