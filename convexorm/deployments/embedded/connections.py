"""The connections of a deployment, and the one way a request gets one.

Each connection has a place of its own, which is never taken out of the pool: whoever works holds the turn of its place.
Memory has one place, filled when it is made and never again, so no second, empty memory can come into being. A file has as
many as there are requests at once, and its writers queue for one more turn. A connection that an interrupt has left in the
midst of something is settled before it is used again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from os import getpid
from sys import _getframe
from threading import get_ident
from typing import Any, Protocol, TypeVar
from weakref import finalize

from convexorm.concurrency.locks import Lock
from convexorm.concurrency.works import Work
from convexorm.deployments.embedded import forks
from convexorm.deployments.embedded.damage import failure, has_room, is_busy
from convexorm.errors import DeploymentError, InvalidRequestError
from convexorm.schema import Table

__all__ = ["BUSY_STEP", "BUSY_TIMEOUT", "Connection", "Pool", "Source"]

T = TypeVar("T")

BUSY_TIMEOUT = 30.0
"""Seconds a request waits for transactions of others."""
BUSY_STEP = 0.2
"""Seconds SQLite waits before the request looks about itself."""
_LOOK = 0.02
"""Seconds a request waits for a turn before it looks whether the holder is still there."""


class Landing(Protocol):
    """What is known of a transaction that is to be committed."""

    lost: bool
    """Whether it was not."""


class Connection(sqlite3.Connection):
    """A connection that knows which of its cursors are still reading."""

    state: object = None
    """How the file was when this connection began to take it as unchanging."""
    file: tuple[int, int] | None = None
    """Which file it leads to, whatever has its name by now; None for memory."""
    abandoned = False
    catalog: object = None
    """The tables that this connection was last seen to lead to."""
    landing: Landing | None = None
    """What is known already of the transaction that is being committed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.streams: list[sqlite3.Cursor] = []

    def stream(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """A cursor to read from bit by bit. One that is not closed would keep all later reads at its moment."""
        cursor = self.cursor()
        self.streams.append(cursor)
        return cursor.execute(statement, parameters)

    def land(self) -> None:
        """Commit the open transaction. Interrupted, it is known when the connection is settled whether that was done."""
        try:
            self.execute("COMMIT")
        except sqlite3.Error:
            if self.landing is not None:
                self.landing.lost = True
            raise
        self.landing = None

    def settle(self) -> None:
        """End whatever is under way, without effect."""
        if self.abandoned:
            return
        if self.streams:
            for cursor in self.streams:
                cursor.close()
            self.streams.clear()
        if self.in_transaction:
            if self.landing is not None:
                self.landing.lost = True
            self.rollback()
        self.landing = None

    def close(self) -> None:
        """Close it, which ends whatever is under way without effect."""
        if self.landing is not None and self.in_transaction:
            self.landing.lost = True
        super().close()

    @property
    def unsettled(self) -> bool:
        """Whether it is in the midst of something."""
        return bool(self.streams) or self.in_transaction or self.landing is not None

    def abandon(self, *, at_work: bool) -> None:
        """Let a connection of the parent process lie: to close it could take the parent's log away."""
        self.abandoned = True
        _immortal(self)
        if at_work:
            self.set_authorizer(_deny)

    def __del__(self) -> None:
        """Close without a warning, which Python 3.13 would give whoever drops an open connection."""
        if not self.abandoned:
            with suppress(sqlite3.Error):  # one that could not be opened
                forks.between_forks(lambda work: self.close(), closes=True)


def _deny(*_: Any) -> int:
    return sqlite3.SQLITE_DENY


def _immortal(connection: Connection) -> None:
    import ctypes  # only ever needed in a child

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


class Source(Protocol):
    """Where connections lead."""

    name: str
    """As errors show it."""
    memory: bool

    file: tuple[int, int] | None
    """Which file had the name when it was last looked at."""

    def open(self) -> Connection:
        """A further connection."""
        ...

    def look_again(self) -> None:
        """See which file has the name."""
        ...

    def unchanged(self, connection: Connection) -> bool:
        """Whether what a connection took as unchanging is so."""
        ...


class _Place:
    """A connection, if there is one at the moment. Whoever still has to close it when its pool is gone keeps no more."""

    __slots__ = ("connection",)

    def __init__(self) -> None:
        self.connection: Connection | None = None


class _Turn(Lock[Work], eq=False, kw_only=True):
    """The turn to use a place."""

    place: _Place


class Pool:
    """The connections to one source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._memory = source.memory
        self._places: list[_Place] = []
        self._turns: list[_Turn] = []
        self._writers: Lock[Work] = Lock()
        self._closed = False
        self._inherited = False
        finalize(self, _close_left, self._places, forks.enroll(self, partial(_close_at_rest, self._places)))
        if self._memory:
            place = self._new_turn().place
            place.connection = forks.between_forks(lambda work: source.open())
        else:
            self.run(lambda connection: None)

    # requests

    def run(self, request: Callable[[Connection], T], *, writes: bool = False, tables: Iterable[Table] = ()) -> T:
        """What a request about these tables answers, on a connection of its own. What it leaves open is rolled back.

        A request that others kept from the file begins again, for as long as BUSY_TIMEOUT says.
        """
        until = None
        while True:
            work = Work(_getframe(), get_ident(), self, writes)
            turn: _Turn | None = None
            failed: DeploymentError | None = None
            again = True
            try:
                turn = self._admit(work)
                connection = turn.place.connection
                if writes or connection is None or connection.state is not None or connection.file != self._source.file:
                    connection = self._connected(turn.place, work)
                answer = request(connection)
                if connection.state is None or self._source.unchanged(connection):
                    return answer
            except (sqlite3.Error, UnicodeDecodeError, RecursionError) as error:  # raised below, and no longer the cause
                if isinstance(error, RecursionError) and not has_room():
                    raise
                failed = _inherited() if self._inherited else failure(self._source.name, error, _names(tables))
                until = until or time.monotonic() + BUSY_TIMEOUT
                again = is_busy(error) and time.monotonic() < until
            finally:
                self._end(work, turn)
            if failed is not None and not again:
                raise failed
            for pool in forks.pools():
                pool.mend()

    def _admit(self, work: Work) -> _Turn:
        """The turn to work at a place, once it is this work's."""
        if forks.process[0] != getpid():
            forks.check_process()
        if work.thread in forks.at_work:
            work.outer = forks.work_of(work.thread)
            self._check_outer(work)
        while True:
            if forks.gates:
                forks.wait_for_forks(work)
            if self._closed or self._inherited:
                self._check_open()
            awaited = self._writers
            writers = self._writers
            if (
                self._memory
                or not work.writes
                or writers.held.setdefault(None, work) is work  # nearly always
                or writers.take(work)
            ):
                turn: _Turn | None
                for turn in self._turns:
                    if turn.held.setdefault(None, work) is work:
                        break
                else:
                    turn = self._further_turn(work)
                if turn is not None:
                    forks.at_work[work.thread] = work
                    if not forks.gates or forks.begin(work):
                        if self._closed or self._inherited:
                            self._check_open()  # here, because it may have been closed while this waited
                        return turn
                    turn.give(work)
                elif self._turns:
                    awaited = self._turns[0]
                self._writers.give(work)
            if not forks.forks_elsewhere(work):
                awaited.wait(_LOOK)

    def _check_open(self) -> None:
        if self._inherited:
            raise _inherited()
        if self._closed:
            raise DeploymentError("the deployment is closed")

    def _check_outer(self, work: Work) -> None:
        """Refuse what could only join, or wait for, a request in whose midst it was made."""
        outer = work.outer
        while outer is not None:
            if outer.owner is self and (self._memory or (work.writes and outer.writes)):
                raise InvalidRequestError(
                    "made in the midst of another request of the same thread, by a signal's handler perhaps; "
                    "make it on another thread, or after that one has ended"
                )
            outer = outer.outer

    def _further_turn(self, work: Work) -> _Turn | None:
        """A turn that is this work's now, where none was free; None where it has to wait."""
        for turn in self._turns:
            if turn.take(work):
                self._settle(turn.place)  # the holder may be over, and may have given nothing back
                return turn
        return None if self._memory else self._new_turn(work)

    def _new_turn(self, work: Work | None = None) -> _Turn:
        """The turn of a further place, which is a work's if there is one."""
        turn = _Turn(place=_Place())
        if work is not None:
            turn.take(work)
        self._places.append(turn.place)  # first, because what is not there is not closed
        self._turns.append(turn)
        return turn

    def _connected(self, place: _Place, work: Work) -> Connection:
        connection = place.connection
        if work.writes:  # what is written to a file that was deleted or replaced is lost
            self._source.look_again()
        if connection is not None and (
            connection.file != self._source.file
            or (connection.state is not None and not self._source.unchanged(connection))
        ):
            place.connection = None
            connection.close()
            connection = None
        if connection is None:
            if self._memory:
                raise DeploymentError("the deployment is closed")
            connection = place.connection = self._source.open()
        return connection

    def _end(self, work: Work, turn: _Turn | None) -> None:
        if turn is not None:
            connection = turn.place.connection
            if connection is not None and (connection.unsettled or self._closed):
                self._settle(turn.place)
            turn.give(work)
            if work.outer is None:
                forks.at_work.pop(work.thread, None)
            else:
                forks.end(work)
        if work.writes:
            self._writers.give(work)
        work.frame = None

    def _settle(self, place: _Place) -> None:
        connection = place.connection
        if connection is None or connection.abandoned:
            return
        try:
            connection.settle()
        except sqlite3.Error:  # it is good for nothing more; memory has no other
            if not self._memory:
                place.connection = None
                connection.close()
        if self._closed and place.connection is not None:
            place.connection = None
            connection.close()

    def mend(self) -> None:
        """Settle what requests that are over have left behind."""

        def settle(work: Work) -> None:
            for turn in self._turns:
                if not turn.free and turn.take(work):
                    self._settle(turn.place)
                    turn.give(work)

        forks.between_forks(settle, self)

    # ends

    def close(self) -> None:
        """Close the connections that are idle; those at work are closed when their request is answered."""
        forks.check_process()
        self._closed = True
        forks.between_forks(self._close_idle, closes=True)

    def rest(self, work: Work) -> None:
        """Close the connections to a file before a fork; all are idle, but for those the forking thread works with."""
        if not self._memory:
            self._close_idle(work)

    def _close_idle(self, work: Work) -> None:
        """Close the connections that nobody works with."""
        for turn in list(self._turns):
            if turn.place.connection is not None and turn.take(work):
                _close(turn.place)
                turn.give(work)

    def abandon(self) -> None:
        """Start afresh in a child. Memory stays with the parent."""
        thread = get_ident()
        for turn in self._turns:
            if turn.place.connection is not None:
                holder = turn.holder
                turn.place.connection.abandon(at_work=holder is not None and holder.thread == thread and not holder.over)
        self._places.clear()
        self._turns.clear()
        self._writers = Lock()
        self._inherited = self._memory


def _names(tables: Iterable[Table]) -> list[str]:
    return list(dict.fromkeys(table.name for table in tables))


def _inherited() -> DeploymentError:
    return DeploymentError(
        "a deployment in memory stays in the process that opened it, and this is a child of that one; "
        "open another here, or share a SQLite file"
    )


def _close(place: _Place) -> None:
    connection, place.connection = place.connection, None
    if connection is not None:
        connection.close()


def _close_at_rest(places: Sequence[_Place]) -> None:
    """Close the connections of a pool that is gone, with which nobody works any more."""
    for place in list(places):
        _close(place)


def _close_left(places: Sequence[_Place], number: int) -> None:
    """When a pool that was never closed is collected, or the interpreter ends."""
    try:
        forks.between_forks(lambda work: _close_at_rest(places), closes=True)
    finally:
        forks.strike(number)
