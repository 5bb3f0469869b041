"""The connection for all watches of one identity: a thread with an event loop, from the first watch to the last.

It goes on whatever happens to the socket: what was watched is asked again over the next one. Only what the deployment says
of a query or of who asks ends a watch.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import attrs

from convexorm.concurrency.guards import Guard
from convexorm.concurrency.threads import Worker
from convexorm.deployments.base import FunctionCall
from convexorm.deployments.observers import Observers
from convexorm.deployments.remote.addresses import Address, trusted
from convexorm.deployments.remote.calls import function_refusal
from convexorm.deployments.remote.live.messages import Message, Modification, authenticate, connect, message_in
from convexorm.deployments.remote.live.queries import Queries, Query
from convexorm.deployments.remote.live.watchings import FunctionWatching, ReadWatching, Watching, value_of
from convexorm.deployments.remote.port import RemotePort
from convexorm.deployments.remote.shares import SMALLEST
from convexorm.errors import AuthError, ConvexORMError, DeploymentError
from convexorm.late import need
from convexorm.live.mailboxes import Mailbox
from convexorm.requests import Read
from convexorm.values import Value, loads_printed

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

__all__ = ["Identity", "LiveConnection"]

BACKOFF = 0.1
"""Seconds before a connection that was lost is tried again: up to this, and up to twice as many each time."""
LONGEST = 16.0
"""Seconds between two tries at most, as the npm package has it."""
SILENCE = 60.0
"""Seconds without a message after which a connection is given up; a server says something every 15."""
_PING = 20.0
"""Seconds between pings of the socket, and until their answer has to be there."""
_OPEN = 10.0
"""Seconds that opening a connection may take."""


@attrs.frozen
class Identity:
    """Who asks: with the deployment's key, or as a user."""

    kind: Literal["Admin", "User"]
    value: str = attrs.field(repr=False)


class LiveConnection:
    """Keeps watches answered. Any thread may ask it to, and close it; it waits for nothing then."""

    def __init__(self, address: Address, identity: Identity, port: RemotePort, observers: Observers, path: str) -> None:
        self.process = os.getpid()
        self._address = address
        self._identity = identity
        self._port = port
        self._observers = observers
        self._path = path
        self._asked: deque[Watching] = deque()
        self._watchings: list[Watching] = []
        self._queries = Queries()
        self._session = str(uuid4())
        self._connections = 0
        self._lost = "InitialConnect"
        self._guard = Guard()
        self._worker: Worker | None = None
        self._ring: Callable[[], None] = _nothing
        self._closed = False
        self._heard_since = False
        """Whether the connection has told of something."""

    # -- for any thread ------------------------------------------------------------------------------------------

    def watch(self, asked: Sequence[Read] | FunctionCall, mailbox: Mailbox[Any]) -> None:
        """Feed a mailbox from now on."""
        watching: Watching
        if isinstance(asked, FunctionCall):
            watching = FunctionWatching(mailbox, asked)
        else:
            watching = ReadWatching(mailbox, asked, self._path)
        mailbox.on_close = mailbox.on_taken = self._wake
        self._asked.append(watching)
        self._guard(self._go_on)
        self._wake()

    def _go_on(self) -> None:
        """Have a thread run. Raises DeploymentError when this is closed."""
        if self._closed:
            raise DeploymentError("the deployment is closed")
        if self._worker is None or not self._worker.alive:  # one that an interrupt kept from its start
            self._worker = Worker(self._work, "convexorm watches")
            self._worker.start()

    def close(self) -> None:
        """End all watches, and wait until the connection is closed."""
        self._closed = True
        worker = self._guard(lambda: self._worker)
        self._wake()
        if worker is not None and self.process == os.getpid():
            worker.join()

    def _wake(self) -> None:
        self._ring()

    # -- the thread ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # none that is known of; nobody is to wait for ever
            self._fail(DeploymentError(f"{self._address}: watching failed: {type(error).__name__}"))
            raise

    async def _run(self) -> None:
        need("websockets")
        from websockets.exceptions import InvalidStatus, WebSocketException

        news, loop = asyncio.Event(), asyncio.get_running_loop()

        def ring() -> None:
            with suppress(RuntimeError):  # the loop is closed: whoever rings finds the thread gone
                loop.call_soon_threadsafe(news.set)

        self._ring = ring
        tries = 0
        while not self._is_done():
            try:
                async with self._opened() as socket:
                    self._connections += 1
                    await self._converse(socket, news)
            except _Ended as ended:
                self._fail(ended.error)
            except InvalidStatus as refused:
                self._refused(refused.response.status_code)
            except (OSError, DeploymentError, WebSocketException) as error:
                self._lost = type(error).__name__
            for mailbox in self._mailboxes():
                mailbox.connected = False
            if self._heard_since:
                tries, self._heard_since = 0, False
            if not self._is_done():
                with suppress(TimeoutError):
                    async with asyncio.timeout(random.uniform(0, min(LONGEST, BACKOFF * 2**tries))):
                        while not self._is_done():
                            await news.wait()
                            news.clear()
                            self._tidy()
                tries += 1

    def _is_done(self) -> bool:
        """Whether nobody watches any more; then the thread has ended for whoever comes next."""
        self._tidy()
        if self._closed:
            for mailbox in self._mailboxes():
                mailbox.end()
            self._watchings.clear()
        return self._guard(self._stops)

    def _stops(self) -> bool:
        """Whether there is nothing left to do; then whoever comes next begins anew."""
        if self._watchings or (self._asked and not self._closed):
            return False
        self._ring = _nothing
        self._worker = None
        return True

    def _opened(self) -> Any:
        from websockets.asyncio.client import connect as open_socket

        scheme = "wss" if self._address.secure else "ws"
        return open_socket(
            f"{scheme}://{self._address.authority.decode()}{self._address.path}/api/sync",
            ssl=trusted() if self._address.secure else None,
            proxy=None if self._address.local else True,
            compression=None,
            max_size=None,
            open_timeout=_OPEN,
            close_timeout=1.0,
            ping_interval=_PING,
            ping_timeout=_PING,
            user_agent_header="convexorm",
        )

    async def _converse(self, socket: ClientConnection, news: asyncio.Event) -> None:
        await socket.send(connect(self._session, self._connections - 1, self._lost, self._queries.seen))
        await socket.send(authenticate(self._identity.kind, self._identity.value))
        self._queries.begin()
        receiving = asyncio.ensure_future(socket.recv())
        try:
            while True:
                news.clear()
                self._tidy()
                for watching in list(self._watchings):
                    await self._look(watching)
                for wish in self._queries.wishes():
                    await socket.send(wish)
                if not self._watchings or self._closed:
                    return
                waiting = asyncio.ensure_future(news.wait())
                done, _ = await asyncio.wait((receiving, waiting), timeout=SILENCE, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if not done:
                    raise TimeoutError("nothing was heard")
                if receiving in done:
                    await self._take(message_in(receiving.result()))
                    receiving = asyncio.ensure_future(socket.recv())
        finally:
            receiving.cancel()
            with suppress(BaseException):
                await receiving

    def _tell_connected(self, watching: Watching) -> None:
        mailbox = watching.mailbox
        if mailbox is not None:
            mailbox.connected = True

    def _refused(self, status: int) -> None:
        """The server takes no WebSocket here: for now, or not at all."""
        self._lost = f"HTTP {status}"
        if status < 500 and status not in (408, 425, 429):
            self._fail(
                DeploymentError(f"{self._address}: HTTP {status} instead of a WebSocket; nothing can be watched there")
            )

    # -- what is said --------------------------------------------------------------------------------------------

    async def _take(self, message: Message) -> None:
        if message.type == "Transition":
            self._queries.take(message)
            if not self._heard_since:
                self._heard_since = True
                for watching in self._watchings:
                    self._tell_connected(watching)
        elif message.type == "AuthError":
            raise _Ended(AuthError(f"{self._address} refused who asks: {message.error}"))
        elif message.type == "FatalError":
            raise _Ended(DeploymentError(f"{self._address}: the sync protocol failed: {message.error[:200]}"))

    async def _look(self, watching: Watching) -> None:
        """See what a watch makes of the moment, unless what it made of the last one is still to be taken."""
        mailbox = watching.mailbox
        if mailbox is None or not mailbox.empty or not watching.changed:
            return
        failed = watching.failed
        if failed is not None:
            await self._failed(watching, *failed)
            return
        try:
            with self._observers.watch("watch") as request:
                more, unused, answer = watching.look()
                if request is not None and isinstance(watching, ReadWatching):
                    request.of_reads(watching.reads)
                    request.documents = watching.found_anew if answer is not None else 0
        except ConvexORMError as error:
            self._end(watching, error)
            return
        for query in more:
            self._queries.add(query)
        for query in unused:
            self._queries.remove(query)
        if answer is not None:
            mailbox.deliver(value_of(answer))

    async def _failed(self, watching: Watching, query: Query, told: Modification) -> None:
        """A query has failed: with the error that asking for it raises. What is only too much is asked for in parts."""
        if isinstance(watching, FunctionWatching):
            data = bytes(told.data)
            answer: dict[str, Value] = {"status": "error", "errorMessage": told.error}
            if data and json.loads(data) is not None:
                answer["errorData"] = loads_printed(data)
            self._end(watching, function_refusal(str(self._address), "query", query.path, 200, answer))
            return
        assert isinstance(watching, ReadWatching)
        try:
            await self._port.read(watching.reads)
        except ConvexORMError as error:
            self._end(watching, error)
            return
        if watching.share >= SMALLEST:
            self._end(watching, DeploymentError(f"{self._address}: {query.path} fails when it is watched"))
            return
        for given_up in watching.ask_less():
            self._queries.remove(given_up)
        self._begin(watching)

    def _begin(self, watching: Watching) -> None:
        try:
            more, _, _ = watching.look()
        except ConvexORMError as error:
            self._end(watching, error)
            return
        for query in more:
            self._queries.add(query)

    def _tidy(self) -> None:
        """Take in what is new, and leave out what nobody holds any more."""
        while self._asked:
            watching = self._asked.popleft()
            self._watchings.append(watching)
            self._begin(watching)
            if self._heard_since:
                self._tell_connected(watching)
        for watching in [one for one in self._watchings if one.mailbox is None]:
            self._drop(watching)

    def _drop(self, watching: Watching) -> None:
        if watching in self._watchings:
            self._watchings.remove(watching)
        for query in watching.queries.values():
            self._queries.remove(query)

    def _end(self, watching: Watching, error: ConvexORMError) -> None:
        mailbox = watching.mailbox
        self._drop(watching)
        if mailbox is not None:
            mailbox.fail(error)

    def _fail(self, error: ConvexORMError) -> None:
        for watching in [*self._watchings, *self._asked]:
            self._end(watching, error)
        self._asked.clear()

    def _mailboxes(self) -> list[Mailbox[Any]]:
        return [mailbox for one in self._watchings if (mailbox := one.mailbox) is not None]


class _Ended(Exception):
    """What the server says to all watches."""

    def __init__(self, error: ConvexORMError) -> None:
        self.error = error
        super().__init__(str(error))


def _nothing() -> None:
    """Nobody is there to be woken."""
