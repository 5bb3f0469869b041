"""Answers requests on the calling thread: connections, the tables there are, and what each request does with them.

Tables and indexes are created when a request first names them. A file may be used by several processes at once: it is in
WAL mode, writers queue behind each other, and every transaction notices when another process has added a table or an index.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from convexorm.deployments.embedded.reads import answer
from convexorm.deployments.embedded.search import Searcher
from convexorm.deployments.embedded.tables import SETUP, StoredTable, ensure_table
from convexorm.deployments.embedded.transaction import Transaction
from convexorm.errors import DeploymentError, InvalidRequestError
from convexorm.requests import (
    Applied,
    Commit,
    DeletedRange,
    Document,
    Read,
    ReadResult,
    Search,
    Written,
    check_commit,
    check_reads,
    check_search,
)
from convexorm.schema import Table

__all__ = ["Engine"]

BUSY_TIMEOUT = 30.0
"""Seconds a writer waits for another process's transaction."""
COMMIT_RETENTION = 3600
"""Seconds for which a commit's answer is remembered."""
_WITHDRAWN = "null"
"""What is remembered of a commit that is never to be applied."""
_MAPPED = 1 << 32
"""Bytes of a file that SQLite may map instead of copying."""


class Engine:
    """Answers requests on the calling thread."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._idle: list[sqlite3.Connection] = []
        self._process = os.getpid()
        self._closed = False
        self._stored: dict[str, StoredTable] = {}
        self._seen: dict[str, Table] = {}
        self._schema_version = -1
        self._searcher = Searcher()
        with self._connection():
            pass

    # connections

    def _open(self) -> sqlite3.Connection:
        target = ":memory:" if self.path is None else str(self.path)
        try:
            connection = sqlite3.connect(
                target, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=512
            )
        except sqlite3.Error as error:
            self._fail(error)
        try:
            if self.path is not None:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(f"PRAGMA mmap_size = {_MAPPED}")
            connection.execute("PRAGMA cache_size = -65536")
            connection.executescript(SETUP)
        except sqlite3.Error as error:
            connection.close()
            self._fail(error)
        return connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one request. A file has one a thread at work; memory has one, behind a lock."""
        if os.getpid() != self._process:  # a forked child must neither use nor close its parent's connections
            self._inherited = self._idle
            self._idle, self._process, self._lock = [], os.getpid(), threading.RLock()
        exclusive = self.path is None
        if exclusive:
            self._lock.acquire()
        try:
            if self._closed:  # while this thread waited, perhaps: memory would be opened empty
                raise DeploymentError("the deployment is closed")
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._open()
            try:
                yield connection
            except sqlite3.Error as error:
                self._fail(error)
            finally:
                if connection.in_transaction:
                    connection.rollback()
                    self._forget()  # tables created by what was rolled back are not there
                if self._closed:
                    connection.close()
                else:
                    self._idle.append(connection)
        finally:
            if exclusive:
                self._lock.release()

    def _forget(self) -> None:
        with self._lock:
            self._stored, self._seen = {}, {}

    def _fail(self, error: sqlite3.Error) -> NoReturn:
        raise DeploymentError(f"SQLite at {self.path or 'memory'}: {error}") from error

    def close(self) -> None:
        """Close the connections that are idle; those at work are closed when their request is answered."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    # tables

    def _table(self, connection: sqlite3.Connection, table: Table) -> StoredTable:
        """The stored form of a table, created or widened if need be. Inside a transaction it must be a writing one."""
        stored = self._stored.get(table.name)
        if stored is not None and (self._seen.get(table.name) is table or stored.covers(table)):
            self._seen[table.name] = table
            return stored
        nested = connection.in_transaction
        if not nested:  # never under the lock: whoever holds the file's may be waiting for it
            connection.execute("BEGIN IMMEDIATE")
        try:
            stored = ensure_table(connection, table)
            version = _schema_version(connection)
            if not nested:
                connection.execute("COMMIT")
        except BaseException:
            if not nested and connection.in_transaction:
                connection.rollback()
            raise
        with self._lock:
            if _schema_version(connection) == version:  # else somebody has changed the tables again
                self._stored[table.name] = stored
                self._seen[table.name] = table
        return stored

    def _refresh(self, connection: sqlite3.Connection) -> None:
        """Forget what is known of the tables if somebody has changed them since."""
        if self.path is None:
            return
        version = _schema_version(connection)
        if version != self._schema_version:
            with self._lock:
                self._forget()
                self._schema_version = version

    # reads

    def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        """All answers from one snapshot, each whole."""
        check_reads(reads)
        with self._connection() as connection:
            self._refresh(connection)
            stored = [self._table(connection, read.range.table) for read in reads]
            if len(reads) == 1:
                return [answer(connection, stored[0], reads[0])]
            connection.execute("BEGIN")
            results = [answer(connection, table, read) for table, read in zip(stored, reads, strict=True)]
            connection.execute("COMMIT")
            return results

    # commits

    def commit(self, commit: Commit) -> list[Applied]:
        """Apply all writes or none; an id that is remembered is answered as it was."""
        check_commit(commit)
        with self._connection() as connection:
            self._refresh(connection)
            for table in {write.table for write in commit.writes}:
                self._table(connection, table)
            connection.execute("BEGIN IMMEDIATE")
            self._refresh(connection)  # now no other process can change a table under this transaction
            known = connection.execute("SELECT answer FROM convexorm_commits WHERE id = ?", (commit.id,)).fetchone()
            if known is not None:
                connection.execute("COMMIT")
                if known[0] == _WITHDRAWN:
                    raise InvalidRequestError("this commit was withdrawn; nothing was written")
                return _recalled(known[0])
            results = Transaction(connection, self._table).apply(commit.writes)
            now = time.time()
            connection.execute("INSERT INTO convexorm_commits VALUES (?, ?, ?)", (commit.id, now, _remembered(results)))
            connection.execute("DELETE FROM convexorm_commits WHERE at < ?", (now - COMMIT_RETENTION,))
            connection.execute("COMMIT")
            return results

    def withdraw(self, commit: Commit) -> list[Applied] | None:
        """What the commit was answered; if it has not been applied, it never will be."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            known = connection.execute("SELECT answer FROM convexorm_commits WHERE id = ?", (commit.id,)).fetchone()
            if known is None:
                entry = (commit.id, time.time(), _WITHDRAWN)
                connection.execute("INSERT INTO convexorm_commits VALUES (?, ?, ?)", entry)
            connection.execute("COMMIT")
            return None if known is None or known[0] == _WITHDRAWN else _recalled(known[0])

    # searches

    def search(self, search: Search) -> list[tuple[float, Document]]:
        """The nearest documents with their cosine similarity, best first."""
        index = check_search(search)
        with self._connection() as connection:
            self._refresh(connection)
            stored = self._table(connection, search.table)
            connection.execute("BEGIN")
            found = self._searcher.search(connection, stored, index, search)
            connection.execute("COMMIT")
            return found


def _schema_version(connection: sqlite3.Connection) -> int:
    """SQLite's own count of the changes of tables."""
    version: int = connection.execute("PRAGMA schema_version").fetchone()[0]
    return version


def _remembered(results: Sequence[Applied]) -> str:
    return json.dumps(
        [
            [one.id, one.creation_time, one.created]
            if isinstance(one, Written)
            else [one.deleted, one.more]
            if isinstance(one, DeletedRange)
            else one
            for one in results
        ]
    )


def _recalled(answer: str) -> list[Applied]:
    return [
        one if isinstance(one, bool) else Written(*one) if len(one) == 3 else DeletedRange(*one)
        for one in json.loads(answer)
    ]
