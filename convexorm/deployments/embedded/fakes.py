"""Fakes: Python functions that stand for a team's functions on an embedded deployment, which runs no TypeScript."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs

from convexorm.deployments.base import FunctionCall
from convexorm.errors import FunctionFailed, FunctionNotFound, InvalidRequestError, ValidationError
from convexorm.types import AnyType
from convexorm.values import Value

__all__ = ["AsyncFakes", "BlockingFakes", "Fake", "check_fakes"]

Fake = Callable[..., Any]
"""Called with the arguments by name, and awaited where it is a coroutine function. It answers plain values, as the function
would: a document is an object with `_id` and `_creationTime`. A `convex.ConvexError` that it raises is the function's.
"""


def check_fakes(functions: Mapping[str, Fake] | None) -> Mapping[str, Fake]:
    """The fakes by path. Raises InvalidRequestError for anything else."""
    if functions is None:
        return {}
    if not isinstance(functions, Mapping):
        raise InvalidRequestError(f"functions are Python functions by path, got {type(functions).__name__}")
    for path, fake in functions.items():
        if not isinstance(path, str):
            raise InvalidRequestError(f"functions are Python functions by path, got {type(path).__name__} for a path")
        if not callable(fake):
            raise InvalidRequestError(f"functions[{path!r}]: a Python function is needed, got {type(fake).__name__}")
    return dict(functions)


@attrs.frozen
class BlockingFakes:
    """Fakes for callers that block."""

    fakes: Mapping[str, Fake]

    async def call(self, call: FunctionCall) -> Value:
        with _failures(call):
            answer = _begin(self.fakes, call)
            return _answered(call, _finished(answer) if inspect.isawaitable(answer) else answer)


@attrs.frozen
class AsyncFakes:
    """Fakes for callers that await."""

    fakes: Mapping[str, Fake]

    async def call(self, call: FunctionCall) -> Value:
        with _failures(call):
            answer = _begin(self.fakes, call)
            return _answered(call, await answer if inspect.isawaitable(answer) else answer)


def _begin(fakes: Mapping[str, Fake], call: FunctionCall) -> Any:
    fake = fakes.get(call.path)
    if fake is None:
        raise FunctionNotFound(
            f"an embedded deployment runs no TypeScript, and has no fake for {call.path!r}: give it one, as in "
            f'connect("memory:", functions={{"{call.path}": fake}})',
            function=call.path,
        )
    return fake(**{name: AnyType().load(value) for name, value in call.arguments.items()})


@contextmanager
def _failures(call: FunctionCall) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        convex = sys.modules.get("convex")  # who raises one of its errors has imported it
        if convex is None or not isinstance(error, convex.ConvexError):
            raise
        problem = f"{call.path} threw a ConvexError; its data is the error's `data`"
        raise FunctionFailed(problem, function=call.path, data=error.data) from error


def _answered(call: FunctionCall, answer: Any) -> Value:
    try:
        return AnyType().dump(answer)
    except ValidationError as error:
        raise ValidationError(f"the answer of the fake for {call.path!r}{error.path}: {error.problem}") from None


def _finished(answer: Awaitable[Any]) -> Any:
    """What an awaitable comes to, for a thread that may be within a running event loop."""
    import asyncio  # takes long, and most callers that block do without

    async def wait() -> Any:
        return await answer

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((asyncio.run(wait()), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    found, error = outcome[0]
    if error is not None:
        raise error
    return found
