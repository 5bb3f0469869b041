"""Where a deployment's documents lie, and how a connection to them is opened: in memory, or in a SQLite file.

A file is looked at before it is touched, made or migrated in one transaction when it has to be, and then in WAL mode:
readers and one writer at a time, of any number of processes. A file that cannot be written, or is not to be, is read. As
long as nobody writes to it, that leaves no file beside it: it is taken as unchanging, and looked at again after each
request.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from convexorm.deployments.embedded import connections
from convexorm.deployments.embedded.connections import BUSY_STEP, Connection
from convexorm.deployments.embedded.damage import is_busy, primary_code
from convexorm.deployments.embedded.format import FORMAT, create, format_of, migrate
from convexorm.deployments.embedded.paths import absolute
from convexorm.errors import DeploymentError

__all__ = ["File", "Memory"]

T = TypeVar("T")

_MAPPED = 1 << 32
"""Bytes of a file that SQLite may map instead of copying."""
_LOGGED = 4_000
"""Pages that SQLite keeps in its log before it copies them into the file, which it waits for the disk for: four times its
own default, and as many as one table of the log's index still holds (4,062), so that reads take no longer.
"""
_LEAST = 100
"""Bytes of the header that every SQLite file has."""
_UNWRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


class Memory:
    """A database that is its only connection."""

    name = "memory"
    memory = True
    file: tuple[int, int] | None = None
    unwritable: str | None = None

    def open(self) -> Connection:
        connection = _connect(":memory:")
        create(connection)
        return connection

    def look_again(self) -> None:
        pass

    def unchanged(self, connection: Connection) -> bool:
        return True


class File:
    """A SQLite file. `unwritable` says why it is only read, once a connection has been opened."""

    memory = False

    def __init__(self, path: Path, *, read_only: bool, synchronous: str) -> None:
        self.name = str(path)
        self._path = absolute(path)
        self._synchronous = synchronous
        self._ready = False
        self.file: tuple[int, int] | None = None
        self.unwritable: str | None = "it was opened with mode=ro" if read_only else None

    def open(self) -> Connection:
        """A further connection. Raises DeploymentError for a file that is not ours, or of a later format, or gone."""
        if self.file is not None and self.unwritable is None:
            self.look_again()
        connection = self._open_again() if self._ready else self._open_first()
        if self.file is None:
            self.look_again()
        connection.file = self.file
        return connection

    def look_again(self) -> None:
        """See which file has the name. Another one is opened as the first was; DeploymentError if there is none."""
        try:
            stat = os.stat(self._path)
        except OSError:
            raise DeploymentError(f"SQLite at {self.name}: the file is not there any more") from None
        if self.file != (stat.st_dev, stat.st_ino):
            self._ready = self.file is None
            self.file = stat.st_dev, stat.st_ino

    def _open_first(self) -> Connection:
        if self._size():
            self._look()
            if self.unwritable is None and not self._may_be_written():
                self.unwritable = "the file or its folder cannot be written"
        connection = None if self.unwritable else self._open_to_write()
        if connection is None:
            if self._size() is None:
                raise DeploymentError(f"SQLite at {self.name}: there is no such file, and it is not to be made (mode=ro)")
            connection = self._open_to_read()
        self._ready = True
        return connection

    def unchanged(self, connection: Connection) -> bool:
        return connection.state == self._state()

    # writing

    def _open_to_write(self) -> Connection | None:
        """A connection to a file that is made ready for it; None if it turns out that it cannot be written."""
        connection = self._connect("rwc")
        try:
            _patient(lambda: self._set_up(connection))
            self._tune(connection)
        except sqlite3.Error as error:
            connection.close()
            if primary_code(error) not in _UNWRITABLE or not self._size():
                raise
        except BaseException:
            connection.close()
            raise
        else:
            return connection
        self.unwritable = "the file or its folder cannot be written"
        return None

    def _set_up(self, connection: Connection) -> None:
        found = format_of(connection, self.name)
        if found is None or found < FORMAT:
            connection.execute("BEGIN IMMEDIATE")
            try:
                found = format_of(connection, self.name)  # others may have been faster
                if found is None:
                    create(connection)
                else:
                    migrate(connection, found)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.rollback()
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")

    def _open_again(self) -> Connection:
        if self.unwritable:
            return self._open_to_read()
        connection = self._connect("rw")
        self._tune(connection)
        return connection

    def _tune(self, connection: Connection) -> None:
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA mmap_size = {_MAPPED}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOGGED}")

    # reading

    def _open_to_read(self) -> Connection:
        state = self._state()
        connection = self._connect("ro" if state is None else "ro&immutable=1")
        connection.state = state
        try:
            _patient(lambda: format_of(connection, self.name))
            return connection
        except sqlite3.Error as error:
            connection.close()
            if state is not None or primary_code(error) not in _UNWRITABLE:
                raise
            problem = DeploymentError(
                f"SQLite at {self.name}: its latest commits stand in the -wal file beside it, which cannot be read where "
                "nothing can be written; copy both to another folder"
            )
        except BaseException:
            connection.close()
            raise
        raise problem

    def _state(self) -> tuple[int, ...] | None:
        """What would change if somebody wrote to the file; None while its latest commits stand in files beside it."""
        try:
            stat = os.stat(self._path)
        except OSError:
            return ()
        if self._size("-wal") or self._size("-journal"):
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _look(self) -> None:
        """Refuse a file that is not ours before anything about it changes."""
        if (self._size() or 0) < _LEAST:  # SQLite takes a file of one byte for a new one
            raise DeploymentError(f"SQLite at {self.name}: the file is not a database; it has been left as it was")
        state = self._state()
        try:
            found = self._looked("ro&immutable=1")
            if found is None and self._size("-wal"):  # all it holds may be there still
                self._looked("ro")
        except sqlite3.Error as error:
            code, alone = primary_code(error), self._size("-wal") is None and self._state() == state
            if code == sqlite3.SQLITE_NOTADB or (code == sqlite3.SQLITE_CORRUPT and alone):
                raise
            # else somebody writes to it just now, perhaps: opening will tell

    def _looked(self, mode: str) -> int | None:
        connection = self._connect(mode)
        try:
            return format_of(connection, self.name)
        finally:
            connection.close()

    # the file itself

    def _connect(self, mode: str) -> Connection:
        return _connect(f"file://{quote(self._path)}?mode={mode}")

    def _size(self, suffix: str = "") -> int | None:
        """Bytes of the file, or of one beside it; None if there is none."""
        try:
            return os.stat(self._path + suffix).st_size
        except OSError:
            return None

    def _may_be_written(self) -> bool:
        return os.access(self._path, os.W_OK) and (
            os.access(os.path.dirname(self._path), os.W_OK) or self._size("-wal") is not None
        )


def _connect(target: str) -> Connection:
    connection = sqlite3.connect(
        target,
        timeout=BUSY_STEP,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        uri=target.startswith("file:"),
        factory=Connection,
    )
    connection.execute("PRAGMA cache_size = -65536")
    return connection


def _patient(attempt: Callable[[], T]) -> T:
    """What an attempt answers that others may keep from the file: it is made again as long as BUSY_TIMEOUT says.

    SQLite itself does not wait for the lock that switches a file to WAL mode.
    """
    until = time.monotonic() + connections.BUSY_TIMEOUT
    while True:
        try:
            return attempt()
        except sqlite3.Error as error:
            if not is_busy(error) or time.monotonic() > until:
                raise
        time.sleep(0.002)
