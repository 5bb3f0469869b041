"""One implementation, two faces: running coroutines that never suspend.

Everything a session or a service does is written once, as coroutines over a `Port`. Over a blocking port these never
suspend, so `blocking` turns such a method into a plain one by running it to its end with a single step. The plain method
keeps the name, the docstring and the exact signature.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from functools import wraps
from types import CoroutineType
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

__all__ = ["DONE", "SUSPENDED", "blocking", "blocking_stream", "finish", "named", "shared"]

P = ParamSpec("P")
T = TypeVar("T")

SUSPENDED = "a blocking deployment suspended; its port must not await anything"
"""What is wrong with a coroutine that does not come to its end in one step."""


class _Done:
    """What a method that had nothing to wait for returns: awaiting it is allowed and does nothing."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


DONE: Awaitable[None] = _Done()


def finish(awaitable: Awaitable[T]) -> T:
    """The result of an awaitable that never suspends."""
    if awaitable is DONE:
        return None  # type: ignore[return-value]
    steps = awaitable if type(awaitable) is CoroutineType else awaitable.__await__()
    try:
        steps.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    raise RuntimeError(SUSPENDED)


def named(cls: type, name: str) -> None:
    """Have Python's errors about the arguments of a class's methods call it by the name that users know."""
    for base in cls.__mro__:
        for attribute, member in vars(base).items():
            if inspect.isfunction(member) and not attribute.startswith("_"):
                member.__qualname__ = inspect.unwrap(member).__qualname__ = f"{name}.{attribute}"


def blocking(method: Callable[Concatenate[Any, P], Awaitable[T]]) -> Callable[Concatenate[Any, P], T]:
    """The plain face of a coroutine method: called on an object whose `_core` has the method."""

    @wraps(method)
    def run(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        return finish(method(self._core, *args, **kwargs))

    return cast("Callable[Concatenate[Any, P], T]", run)


def shared(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """The plain face of a method that is plain itself, as its result is for both."""

    @wraps(method)
    def run(self: Any, *args: P.args, **kwargs: P.kwargs) -> T:
        return method(self._core, *args, **kwargs)

    return cast("Callable[Concatenate[Any, P], T]", run)


def blocking_stream(
    method: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """The plain face of an asynchronous generator method."""

    @wraps(method)
    def run(self: Any, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        items = method(self._core, *args, **kwargs)
        while True:
            try:
                yield finish(items.__anext__())
            except StopAsyncIteration:
                return

    signature = inspect.signature(method)
    returned = str(signature.return_annotation).removeprefix("Async")
    run.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
    return cast("Callable[Concatenate[Any, P], Iterator[T]]", run)
