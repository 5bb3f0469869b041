"""Calls to small servers, through either face of a deployment."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any, cast

from convexorm import Deployment
from convexorm.deployments.remote import RemotePort
from convexorm.deployments.remote.sockets import Socket
from convexorm.faces import finish
from tests.servers import Answer, success

__all__ = ["KEY", "Say", "echo", "open_sockets", "say", "say_async"]

KEY = "prod:secret-admin-key|0123456789abcdef"

Say = Callable[[Deployment, Any], Any]


def say(deployment: Deployment, value: Any) -> Any:
    """What a function of the deployment answers to a value."""
    return finish(cast("RemotePort", deployment.blocking).call("query", "echo:echo", {"value": value}))


async def say_async(deployment: Deployment, value: Any) -> Any:
    return await cast("RemotePort", deployment.asynchronous).call("query", "echo:echo", {"value": value})


def echo(call: dict[str, Any]) -> Answer:
    return success(call["args"]["value"])


def run_async(deployment: Deployment, value: Any) -> Any:
    return asyncio.run(say_async(deployment, value))


def open_sockets() -> int:
    """Sockets that deployments of this process hold open."""
    gc.collect()
    return sum(isinstance(one, Socket) and one.fileno() >= 0 for one in gc.get_objects())
