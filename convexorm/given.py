"""What callers hand in, held to the kind of thing that is needed: anything else is one InvalidRequestError that says what
would be right, before anything is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from convexorm.errors import InvalidRequestError

__all__ = ["a_callback", "a_function", "a_mapping", "by_name", "several"]

F = TypeVar("F", bound=Callable[..., Any])
K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")


def several(given: Iterable[T], what: str) -> list[T]:
    """The elements of an iterable; a text is one thing, not several."""
    if isinstance(given, str | bytes | type) or getattr(type(given), "__iter__", None) is None:
        raise InvalidRequestError(f"{what} are needed, as a list for instance, got {_name(given)}")
    return list(given)


def a_mapping(given: Mapping[K, V], what: str) -> Mapping[K, V]:
    """A mapping, such as a dictionary."""
    if not isinstance(given, Mapping):
        raise InvalidRequestError(f"{what} are needed as a dictionary, got {_name(given)}")
    return given


def by_name(given: Mapping[str, V], what: str) -> Mapping[str, V]:
    """A mapping of texts."""
    other = next((key for key in a_mapping(given, what) if not isinstance(key, str)), None)
    if other is not None:
        raise InvalidRequestError(f"{what} are known by names, got a key of type {type(other).__name__}")
    return given


def a_function(given: F, what: str) -> F:
    """Something that can be called."""
    if not callable(given):
        raise InvalidRequestError(f"{what} is a function, got {_name(given)}")
    return given


def a_callback(given: F, what: str) -> F:
    """A function that is called and not awaited."""
    if iscoroutinefunction(a_function(given, what)) or iscoroutinefunction(getattr(given, "__call__", None)):  # noqa: B004
        raise InvalidRequestError(f"{what} is called and not awaited; make it a plain function")
    return given


def _name(given: object) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
