"""Threads, messages and instants for tests, short enough to be read at a glance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from threading import Barrier
from typing import Any, TypeVar, cast

import pytest

from convexorm import Deployment
from mastra_convex import AsyncConvexStore, AsyncMemory, ConvexStore, Memory, Message, Thread

__all__ = ["EPOCH", "at", "at_once", "awaited", "awaited_store", "cut_off", "ids", "message", "messages", "thread"]

T = TypeVar("T")

EPOCH = datetime(2024, 5, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """An instant, so many seconds after the epoch of the tests."""
    return EPOCH + timedelta(seconds=seconds)


def thread(id: str, resource_id: str, seconds: float = 0, **attributes: Any) -> dict[str, Any]:
    """A thread created and updated at an instant."""
    return {
        "id": id,
        "resource_id": resource_id,
        "title": f"about {id}",
        "created_at": at(seconds),
        "updated_at": at(seconds),
        **attributes,
    }


def message(id: str, thread_id: str, resource_id: str, seconds: float = 0, **attributes: Any) -> dict[str, Any]:
    """A message created at an instant; `metadata` is its content's."""
    content: dict[str, Any] = {"format": 2, "parts": [{"type": "text", "text": f"text of {id}"}]}
    if "metadata" in attributes:
        content["metadata"] = attributes.pop("metadata")
    return {
        "id": id,
        "thread_id": thread_id,
        "resource_id": resource_id,
        "role": "user",
        "content": content,
        "created_at": at(seconds),
        **attributes,
    }


def messages(prefix: str, count: int, thread_id: str, resource_id: str) -> list[dict[str, Any]]:
    """Messages a second apart, whose ids are the prefix and their position, from 0."""
    return [message(f"{prefix}{number}", thread_id, resource_id, number) for number in range(count)]


def ids(items: Iterable[Message] | Iterable[Thread]) -> list[str]:
    return [item.id for item in items]


class _Awaited:
    """A blocking domain whose methods are coroutines."""

    def __init__(self, domain: object) -> None:
        self._domain = domain

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._domain, name)

        @wraps(method)
        async def run(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return run


def awaited(memory: Memory) -> AsyncMemory:
    """The blocking face behind the other one's signatures, so that one test runs on both."""
    return cast("AsyncMemory", _Awaited(memory))


class _AwaitedStore:
    """A blocking store whose domains' methods are coroutines."""

    def __init__(self, store: ConvexStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(_Awaited(self._store), name) if name == "sweep_files" else _Awaited(getattr(self._store, name))


def awaited_store(store: ConvexStore) -> AsyncConvexStore:
    """The blocking face of a whole store behind the other one's signatures."""
    return cast("AsyncConvexStore", _AwaitedStore(store))


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    """What `work(number)` answers in as many threads, all begun at the same moment."""
    start = Barrier(count)

    def run(number: int) -> T:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@contextmanager
def cut_off(deployment: Deployment, *, after: int) -> Iterator[None]:
    """Let a deployment's blocking face apply so many commits, and interrupt whoever makes the next one: it is not made."""
    kind: Any = type(deployment.blocking)
    commit, made = kind.commit, 0

    async def commit_or_stop(*args: Any, **kwargs: Any) -> Any:
        nonlocal made
        if made == after:
            raise KeyboardInterrupt
        made += 1
        return await commit(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(kind, "commit", commit_or_stop)
        yield
