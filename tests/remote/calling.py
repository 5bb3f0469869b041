"""Calls to small servers, through either face of a deployment."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from convexorm import Deployment
from convexorm.deployments.base import FunctionCall
from convexorm.deployments.remote.sockets import Socket
from convexorm.faces import finish
from tests.servers import Answer, success

__all__ = ["KEY", "Counted", "Say", "check_open", "echo", "run_async", "say", "say_async"]

KEY = "prod:secret-admin-key|0123456789abcdef"

Say = Callable[[Deployment, Any], Any]


def say(deployment: Deployment, value: Any) -> Any:
    """What a function of the deployment answers to a value."""
    return finish(deployment.blocking_caller.call(FunctionCall("query", "echo:echo", {"value": value})))


async def say_async(deployment: Deployment, value: Any) -> Any:
    async with asyncio.timeout(30):  # a wait that does not end is a failure, not one of the whole suite
        return await deployment.asynchronous_caller.call(FunctionCall("query", "echo:echo", {"value": value}))


def echo(call: dict[str, Any]) -> Answer:
    return success(call["args"]["value"])


def run_async(deployment: Deployment, value: Any) -> Any:
    return asyncio.run(say_async(deployment, value))


_sockets: WeakSet[Socket] = WeakSet()


class Counted(Socket):
    """A socket of a deployment, which the tests can count."""

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _sockets.add(self)


def check_open(count: int) -> None:
    """Hold the deployments of this process to the sockets they may have open, garbage aside."""
    if sum(one.fileno() >= 0 for one in list(_sockets)) != count:
        gc.collect()
    assert sum(one.fileno() >= 0 for one in list(_sockets)) == count
