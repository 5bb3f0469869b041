"""The remote deployment: the requests, sent to a Convex deployment over its HTTP API.

`port` is the protocol, `refusals` what a deployment's refusals mean. Below them nothing knows of requests: `connections`
carries one call at a time over each connection, `sockets` and `tls` carry bytes, `bodies` unzips and bounds answers, within
one `deadlines`. `addresses` knows the URL. The admin key travels in a header and is shown nowhere.

HTTP/1.1 is h11's, TLS is that of `ssl`, the spelling of URLs and whom to trust are httpx2's; how connections are kept is
ours. A pool of httpx2 takes bytes behind an answer for the next call's answer, begins its timeouts anew with all that
trickles in, and has sockets that only their event loop can close; httpcore2 below it, on a network of ours, needs more
code around it than h11 for the same promises, and about twice the processor time a call.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from convexorm.deployments.base import ATTEMPTS, Caller, Deployment, FunctionCall
from convexorm.deployments.observers import Observers
from convexorm.deployments.remote.access import OPERATIONS, operation
from convexorm.deployments.remote.addresses import Address
from convexorm.deployments.remote.bodies import ENCODINGS
from convexorm.deployments.remote.calls import RemoteCaller
from convexorm.deployments.remote.connections import Attempt, Call, Connections, Reply
from convexorm.deployments.remote.files import RemoteFiles
from convexorm.deployments.remote.port import Limits, RemotePort, Target
from convexorm.deployments.remote.transfers import AsyncTransfers, BlockingTransfers
from convexorm.errors import AuthError, DeploymentError, InvalidRequestError
from convexorm.exports import Export
from convexorm.faces import finish
from convexorm.files import AsyncFiles, Files
from convexorm.requests import Read
from convexorm.values import is_finite, is_whole

if TYPE_CHECKING:
    from convexorm.deployments.remote.live import LiveConnection
    from convexorm.live.mailboxes import Mailbox

__all__ = ["OPERATIONS", "RemoteDeployment", "RemotePort", "operation"]


class RemoteDeployment(Deployment):
    """A Convex deployment, reached with its admin key.

    `timeout` is the seconds one call may take, all attempts at it and the pauses between them included; `retry` is how
    often it is sent at most, 1 being once. With `check_schema` tables are held to the deployed schema. A child of a fork
    may use it as well, over connections of its own.
    Raises AuthError for a key that is missing or cannot be one, DeploymentError for what is no URL, and InvalidRequestError
    for a timeout or a number of attempts that is none.
    """

    def __init__(
        self,
        url: str,
        admin_key: str | None,
        *,
        module: str = "orm",
        timeout: float = 30.0,
        retry: int = ATTEMPTS,
        check_schema: bool = False,
    ) -> None:
        if not admin_key:
            raise AuthError(
                "a Convex deployment needs its admin key (a deploy key from the dashboard's settings): pass it beside the "
                "URL, or pass no URL and set CONVEX_URL and CONVEX_DEPLOY_KEY"
            )
        if not isinstance(admin_key, str):
            raise AuthError(f"the admin key given is not one: it is a string, got {type(admin_key).__name__}")
        if not is_finite(timeout) or timeout <= 0:
            raise InvalidRequestError("a timeout is a number of seconds greater than 0")
        if not is_whole(retry) or retry < 1:
            raise InvalidRequestError("retry is how often a call is sent at most, a whole number from 1")
        if not admin_key.isascii() or not admin_key.isprintable() or admin_key.strip() != admin_key:
            raise AuthError("the admin key given is not one: it holds white space or characters outside ASCII")
        if re.match(r"project:|preview:[^:|]*:", admin_key):
            raise AuthError(
                "the admin key given is for a project, not for one deployment: make a deploy key in its settings"
            )
        self._address = Address.parse(url)
        self._headers = [
            (b"Host", self._address.authority),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", ENCODINGS),
            (b"Authorization", f"Convex {admin_key}".encode()),
            (b"Content-Type", b"application/json"),
            (b"User-Agent", b"convexorm"),
        ]
        self._connections = Connections(self._address)
        self._module, self._timeout = module, timeout
        self._admin_key = admin_key
        self._live: dict[object, LiveConnection] = {}
        self._closed = False
        where, limits = str(self._address), Limits(timeout, retry, check_schema)
        self.observers = Observers(where)
        self.blocking: RemotePort = RemotePort(where, module, limits, self._post, _sleep, self.observers)
        self.asynchronous: RemotePort = RemotePort(where, module, limits, self._post_async, asyncio.sleep, self.observers)

    @property
    def blocking_caller(self) -> Caller:
        return RemoteCaller(self.blocking)

    @property
    def asynchronous_caller(self) -> Caller:
        return RemoteCaller(self.asynchronous)

    @property
    def files(self) -> Files:
        return Files(RemoteFiles(self.blocking, BlockingTransfers(self._timeout)))

    @property
    def async_files(self) -> AsyncFiles:
        return AsyncFiles(RemoteFiles(self.asynchronous, AsyncTransfers(self._timeout)))

    def _call(self, target: Target, body: bytes | None) -> Call:
        headers = self._headers
        if target.token is not None:
            bearer = (b"Authorization", f"Bearer {target.token}".encode())
            headers = [bearer if name == b"Authorization" else (name, value) for name, value in headers]
        return Call(f"{self._address.path}{target.path}", headers, body)

    async def _post(self, target: Target, body: bytes | None, attempt: Attempt) -> Reply:
        return await self._connections.post(self._call(target, body), attempt)

    async def _post_async(self, target: Target, body: bytes | None, attempt: Attempt) -> Reply:
        return await self._connections.post_async(self._call(target, body), attempt)

    def describe(self) -> Export:
        return finish(self.blocking.describe())

    async def adescribe(self) -> Export:
        return await self.asynchronous.describe()

    def subscribe(self, asked: Sequence[Read] | FunctionCall, mailbox: Mailbox[Any]) -> None:
        if self._closed:
            raise DeploymentError("the deployment is closed")
        from convexorm.deployments.remote.live import Identity, LiveConnection

        token = asked.token if isinstance(asked, FunctionCall) else None
        identity = Identity("Admin", self._admin_key) if token is None else Identity("User", token)
        live = self._live.get(identity)
        if live is None or live.process != os.getpid():  # in a child of a fork it is the parent's
            path = f"{self._module}:read"
            self._live[identity] = live = LiveConnection(self._address, identity, self.asynchronous, self.observers, path)
        live.watch(asked, mailbox)

    def close(self) -> None:
        """End all connections, of both faces and every event loop, also under calls, and all watches. Any thread may."""
        self._closed = True
        for live in list(self._live.values()):
            live.close()
        self._connections.close()

    def __repr__(self) -> str:
        return f"<RemoteDeployment {self._address}>"


async def _sleep(seconds: float) -> None:
    time.sleep(seconds)
