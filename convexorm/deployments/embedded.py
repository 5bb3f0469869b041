"""The embedded deployment: the requests, answered in SQLite, with Convex's order, validation and atomicity.

Each Convex table is a SQLite table: the tick (see `keys`) as row number, the `_id`, the document as JSON text, and for
each index a column of key bytes with a SQLite index on it. Tables and indexes are created when a request first names
them. A file may be used by several processes at once: it is in WAL mode, writers queue behind each other, and every
transaction notices when another process has added a table or an index.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import attrs
import numpy as np

from convexorm.deployments.base import Deployment, Port
from convexorm.deployments.filters import Predicate, compile_filter
from convexorm.deployments.keys import Span, document_key, id_tick, span_of, time_of
from convexorm.errors import DeploymentError, LimitExceeded, StaleDataError, ValidationError
from convexorm.requests import (
    MAX_DELETED_BY_RANGE,
    Applied,
    Commit,
    Delete,
    DeletedRange,
    DeleteRange,
    Document,
    Expect,
    Insert,
    Key,
    Patch,
    Range,
    Read,
    ReadResult,
    Replace,
    Search,
    Target,
    Upsert,
    Write,
    Written,
    check_commit,
    check_reads,
    check_search,
)
from convexorm.schema import Table
from convexorm.values import MISSING, Value, canonical, dumps, loads, same, size_of

__all__ = ["EmbeddedDeployment"]

BUSY_TIMEOUT = 30.0
"""Seconds a writer waits for another process's transaction."""
COMMIT_RETENTION = 3600
"""Seconds for which a commit's answer is remembered."""
_CHUNK = 500
"""Rows or parameters handled in one statement; SQLite allows 32,766 parameters."""
_MAX_RANGED = 16_000
"""Documents one commit reads to delete by ranges."""
_MAX_RANGED_BYTES = 6 << 20
"""Bytes of documents one commit reads to delete by ranges."""

_SETUP = """
CREATE TABLE IF NOT EXISTS convexorm_tables (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, indexes TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS convexorm_commits (id TEXT PRIMARY KEY, at REAL NOT NULL, answer TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS convexorm_commits_at ON convexorm_commits (at);
"""


class EmbeddedDeployment(Deployment):
    """Documents in a SQLite file, or in memory with `path=None`."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._engine = _Engine(None if path is None else Path(path))
        self.blocking: Port = _BlockingPort(self._engine)
        self.asynchronous: Port = _AsyncPort(self._engine)

    def close(self) -> None:
        self._engine.close()

    def __repr__(self) -> str:
        return f"<EmbeddedDeployment {self._engine.path or 'memory'}>"


@attrs.frozen
class _BlockingPort:
    engine: _Engine

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        return self.engine.read(reads)

    async def commit(self, commit: Commit) -> list[Applied]:
        return self.engine.commit(commit)

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        return self.engine.search(search)

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)


@attrs.frozen
class _AsyncPort:
    """SQLite on the event loop's worker threads. A commit once begun is finished even if its caller is cancelled."""

    engine: _Engine

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        return await asyncio.to_thread(self.engine.read, reads)

    async def commit(self, commit: Commit) -> list[Applied]:
        return await asyncio.to_thread(self.engine.commit, commit)

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        return await asyncio.to_thread(self.engine.search, search)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


# -- tables --------------------------------------------------------------------------------------------------------


class _Stored:
    """A Convex table as SQLite has it: the table's name there, and its indexes with their columns."""

    def __init__(self, number: int, indexes: Mapping[str, Sequence[str]]) -> None:
        self.number = number
        self.name = f"t{number}"
        self.indexes = {name: tuple(fields) for name, fields in indexes.items()}
        self.columns = {name: f"k{position}" for position, name in enumerate(self.indexes)}
        self._keys = [document_key(fields) for fields in self.indexes.values()]
        columns = "".join(f", {column}" for column in self.columns.values())
        marks = ", ?" * len(self.columns)
        changes = "".join(f", {column} = ?" for column in self.columns.values())
        self.insert = f"INSERT INTO {self.name} (tick, id, body{columns}) VALUES (?, ?, ?{marks})"
        self.update = f"UPDATE {self.name} SET body = ?{changes} WHERE tick = ?"
        self.delete = f"DELETE FROM {self.name} WHERE tick = ?"

    def keys(self, document: Document) -> list[bytes]:
        """The document's key in each index, in the order of the columns."""
        return [key(document) for key in self._keys]

    def covers(self, table: Table) -> bool:
        return all(self.indexes.get(index.name) == index.fields for index in table.indexes)


@attrs.frozen
class _Row:
    """A stored document: its row, its `_id`, and its fields without the system ones."""

    tick: int
    id: str
    fields: dict[str, Value]


# -- the engine ----------------------------------------------------------------------------------------------------


class _Engine:
    """Answers requests on the calling thread."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._idle: list[sqlite3.Connection] = []
        self._process = os.getpid()
        self._closed = False
        self._stored: dict[str, _Stored] = {}
        self._seen: dict[str, Table] = {}
        self._schema_version = -1
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
            connection.execute("PRAGMA cache_size = -65536")
            connection.executescript(_SETUP)
        except sqlite3.Error as error:
            connection.close()
            self._fail(error)
        return connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one request. A file has one a thread at work; memory has one, behind a lock."""
        if self._closed:
            raise DeploymentError("the deployment is closed")
        if os.getpid() != self._process:  # a forked child must neither use nor close its parent's connections
            self._inherited = self._idle
            self._idle, self._process, self._lock = [], os.getpid(), threading.RLock()
        exclusive = self.path is None
        if exclusive:
            self._lock.acquire()
        try:
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
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    # tables

    def _table(self, connection: sqlite3.Connection, table: Table) -> _Stored:
        """The stored form of a table, created or widened if need be. Inside a transaction it must be a writing one."""
        stored = self._stored.get(table.name)
        if stored is not None and (self._seen.get(table.name) is table or stored.covers(table)):
            self._seen[table.name] = table
            return stored
        with self._lock:
            nested = connection.in_transaction
            if not nested:
                connection.execute("BEGIN IMMEDIATE")
            try:
                stored = self._ensure(connection, table)
                if not nested:
                    connection.execute("COMMIT")
            except BaseException:
                if not nested and connection.in_transaction:
                    connection.rollback()
                raise
            self._stored[table.name] = stored
            self._seen[table.name] = table
            return stored

    def _ensure(self, connection: sqlite3.Connection, table: Table) -> _Stored:
        wanted = {index.name: index.fields for index in table.indexes}
        row = connection.execute("SELECT number, indexes FROM convexorm_tables WHERE name = ?", (table.name,)).fetchone()
        if row is None:
            number = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM convexorm_tables").fetchone()[0]
            stored = _Stored(number, wanted)
            columns = "".join(f", {column} BLOB" for column in stored.columns.values())
            connection.execute(f"CREATE TABLE {stored.name} (tick INTEGER PRIMARY KEY, id TEXT, body TEXT{columns})")
            changed = list(stored.columns)
            connection.execute("INSERT INTO convexorm_tables VALUES (?, ?, ?)", (number, table.name, json.dumps(wanted)))
        else:
            number, known = row[0], json.loads(row[1])
            before = _Stored(number, known)
            stored = _Stored(number, {**known, **wanted})
            changed = [name for name, fields in wanted.items() if before.indexes.get(name) != fields]
            if not changed:
                return stored
            for name in changed:
                if name in before.columns:
                    connection.execute(f"DROP INDEX i{number}_{stored.columns[name]}")
                else:
                    connection.execute(f"ALTER TABLE {stored.name} ADD COLUMN {stored.columns[name]} BLOB")
            sets = ", ".join(f"{column} = ?" for column in stored.columns.values())
            rows = connection.execute(f"SELECT tick, body FROM {stored.name}")
            connection.executemany(
                f"UPDATE {stored.name} SET {sets} WHERE tick = ?",
                [(*stored.keys(loads(body)), tick) for tick, body in rows],
            )
            connection.execute(
                "UPDATE convexorm_tables SET indexes = ? WHERE number = ?", (json.dumps(stored.indexes), number)
            )
        for name in changed:
            column = stored.columns[name]
            connection.execute(f"CREATE INDEX i{number}_{column} ON {stored.name} ({column})")
        return stored

    def _refresh(self, connection: sqlite3.Connection) -> None:
        """Forget what is known of the tables if somebody has changed them since."""
        if self.path is None:
            return
        version = connection.execute("PRAGMA schema_version").fetchone()[0]
        if version != self._schema_version:
            with self._lock:
                self._forget()
                self._schema_version = version

    # reads

    def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        check_reads(reads)
        with self._connection() as connection:
            self._refresh(connection)
            stored = [self._table(connection, read.range.table) for read in reads]
            if len(reads) == 1:
                return [self._read(connection, stored[0], reads[0])]
            connection.execute("BEGIN")
            results = [self._read(connection, table, read) for table, read in zip(stored, reads, strict=True)]
            connection.execute("COMMIT")
            return results

    def _read(self, connection: sqlite3.Connection, stored: _Stored, read: Read) -> ReadResult:
        if read.limit == 0 and not read.peek:
            return ReadResult((), 0, 0, False)
        span = span_of(read.range, stored.columns.get(read.range.index, ""), read.after, read.order)
        if read.filter is not None:
            return self._read_filtered(connection, stored, read, span, compile_filter(read.filter))
        wanted = -1 if read.limit is None else read.limit + read.peek
        if read.count:
            sql = f"SELECT count(*) FROM (SELECT 1 FROM {stored.name} WHERE {span.where} LIMIT ?)"
            reached = -1 if read.limit is None else read.limit + read.skip + read.peek
            matches: int = connection.execute(sql, (*span.parameters, reached)).fetchone()[0]
            skipped = min(read.skip, matches)
            count = matches - skipped
            more = read.peek and read.limit is not None and count > read.limit
            return ReadResult((), count - more, skipped, more)
        rows = connection.execute(
            f"{self._select(stored, read, span)} LIMIT ? OFFSET ?", (*span.parameters, wanted, read.skip)
        ).fetchall()
        more = read.peek and read.limit is not None and len(rows) > read.limit
        skipped = read.skip if rows or not read.skip else self._passed(connection, stored, read, span)
        return ReadResult(_documents(rows[:-1] if more else rows), len(rows) - more, skipped, more)

    def _passed(self, connection: sqlite3.Connection, stored: _Stored, read: Read, span: Span) -> int:
        """How many documents there were to pass over, where none was left behind them."""
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {stored.name} WHERE {span.where} LIMIT ?)"
        passed: int = connection.execute(sql, (*span.parameters, read.skip)).fetchone()[0]
        return passed

    def _select(self, stored: _Stored, read: Read, span: Span) -> str:
        column = stored.columns.get(read.range.index)
        keys = "tick" if column is None else f"{column} {read.order}, tick"
        return f"SELECT tick, id, body FROM {stored.name} WHERE {span.where} ORDER BY {keys} {read.order}"

    def _read_filtered(
        self, connection: sqlite3.Connection, stored: _Stored, read: Read, span: Span, matches: Predicate
    ) -> ReadResult:
        cursor = connection.execute(self._select(stored, read, span), span.parameters)
        documents: list[Document] = []
        skipped = count = 0
        for document in _stream(cursor):
            if read.limit is not None and count >= read.limit and not read.peek:
                break
            if not matches(document):
                continue
            if skipped < read.skip:
                skipped += 1
            elif read.limit is not None and count >= read.limit:
                cursor.close()
                return ReadResult(documents, count, skipped, True)
            else:
                count += 1
                if not read.count:
                    documents.append(document)
        cursor.close()
        return ReadResult(documents, count, skipped, False)

    # commits

    def commit(self, commit: Commit) -> list[Applied]:
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
                return _recalled(known[0])
            results = _Transaction(self, connection).apply(commit.writes)
            now = time.time()
            connection.execute("INSERT INTO convexorm_commits VALUES (?, ?, ?)", (commit.id, now, _remembered(results)))
            connection.execute("DELETE FROM convexorm_commits WHERE at < ?", (now - COMMIT_RETENTION,))
            connection.execute("COMMIT")
            return results

    # searches

    def search(self, search: Search) -> list[tuple[float, Document]]:
        """Exact cosine similarity over all documents of the index."""
        index = check_search(search)
        (result,) = self.read([Read(Range(search.table, "by_creation_time"))])
        documents = [
            document
            for document in result.docs
            if isinstance(document.get(index.field), list)
            and len(document[index.field]) == index.dimensions
            and (not search.filter or any(same(document.get(name, MISSING), value) for name, value in search.filter))
        ]
        if not documents:
            return []
        matrix = np.array([document[index.field] for document in documents], dtype=np.float64)
        query = np.asarray(search.vector, dtype=np.float64)
        norms = np.linalg.norm(matrix, axis=1) * np.linalg.norm(query)
        scores = np.divide(matrix @ query, norms, out=np.zeros(len(documents)), where=norms > 0)
        best = np.argsort(-scores, kind="stable")[: search.limit]
        return [(float(scores[position]), documents[position]) for position in best]


# -- documents -----------------------------------------------------------------------------------------------------


def _documents(rows: Sequence[tuple[int, str, str]]) -> list[Document]:
    """The documents of rows, system fields included. Their JSON is parsed in one go."""
    documents: list[dict[str, Value]] = loads(f"[{','.join([row[2] for row in rows])}]")
    for document, (tick, id, _) in zip(documents, rows, strict=True):
        document["_id"] = id
        document["_creationTime"] = tick / 1000
    return documents  # type: ignore[return-value]


def _stream(cursor: sqlite3.Cursor) -> Iterator[Document]:
    """The documents of a cursor, fetched in growing steps: a filter that is soon satisfied reads little."""
    size = 32
    while rows := list(islice(cursor, size)):
        yield from _documents(rows)
        size = min(size * 2, 1024)


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


# -- one commit ----------------------------------------------------------------------------------------------------


class _Transaction:
    """Applies the writes of one commit in order. Inserts are gathered and written many at a time."""

    def __init__(self, engine: _Engine, connection: sqlite3.Connection) -> None:
        self._engine = engine
        self._connection = connection
        self._ticks: dict[str, int] = {}
        self._inserts: list[tuple[int, Insert]] = []
        self._results: list[Applied] = []
        self._deleted = 0
        self._ranged = 0
        self._ranged_bytes = 0

    def apply(self, writes: Sequence[Write]) -> list[Applied]:
        for position, write in enumerate(writes):
            if isinstance(write, Insert):
                if self._inserts and self._inserts[-1][1].table is not write.table:
                    self._flush()
                if write.unique is not None and _whole_key(self._stored(write.table), write) is None:
                    self._flush()
                    if self._find(self._stored(write.table), write.table, write.unique) is not None:
                        raise StaleDataError(table=write.table.name, reason="exists", write=position)
                self._inserts.append((position, write))
            else:
                self._flush()
                self._results.append(_HANDLERS[type(write)](self, position, write))
        self._flush()
        return self._results

    # inserts

    def _flush(self) -> None:
        if not self._inserts:
            return
        inserts, self._inserts = self._inserts, []
        stored = self._stored(inserts[0][1].table)
        keys = [stored.keys(write.doc) for _, write in inserts]
        self._refuse_taken(stored, inserts, keys)
        rows = []
        for (_, write), key in zip(inserts, keys, strict=True):
            tick, id = self._next(stored)
            rows.append((tick, id, dumps(write.doc), *key))
            self._results.append(Written(id, time_of(tick)))
        self._connection.executemany(stored.insert, rows)

    def _refuse_taken(
        self, stored: _Stored, inserts: Sequence[tuple[int, Insert]], keys: Sequence[Sequence[bytes]]
    ) -> None:
        """StaleDataError for the first insert whose unique key a document, or an insert before it, holds."""
        table = inserts[0][1].table
        wanted = {position: unique for position, write in inserts if (unique := _whole_key(stored, write)) is not None}
        taken = {
            column: self._held(stored, column, {key for one, key in wanted.values() if one == column})
            for column in {column for column, _ in wanted.values()}
        }
        places = [(taken[column], place) for place, column in enumerate(stored.columns.values()) if column in taken]
        for (position, _), key in zip(inserts, keys, strict=True):
            if position in wanted and wanted[position][1] in taken[wanted[position][0]]:
                raise StaleDataError(table=table.name, reason="exists", write=position)
            for held, place in places:
                held.add(key[place])

    def _held(self, stored: _Stored, column: str, keys: Collection[bytes]) -> set[bytes]:
        """Those of `keys` that stored documents hold."""
        held: set[bytes] = set()
        names = list(keys)
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            rows = self._connection.execute(f"SELECT {column} FROM {stored.name} WHERE {column} IN ({marks})", chunk)
            held.update(row[0] for row in rows)
        return held

    def _next(self, stored: _Stored) -> tuple[int, str]:
        """The tick and the `_id` of the next document: later than all others of its table."""
        last = self._ticks.get(stored.name)
        if last is None:
            last = self._connection.execute(f"SELECT coalesce(max(tick), 0) FROM {stored.name}").fetchone()[0]
            last = max(last, time.time_ns() // 1000 - 1)
        tick = self._ticks[stored.name] = last + 1
        return tick, f"{tick:014x}{stored.number:04x}{os.urandom(7).hex()}"

    # everything else

    @property
    def _ranges_spent(self) -> bool:
        """Whether the deleteRanges of this commit have done what they may do together."""
        return (
            self._deleted >= MAX_DELETED_BY_RANGE or self._ranged >= _MAX_RANGED or self._ranged_bytes >= _MAX_RANGED_BYTES
        )

    def _stored(self, table: Table) -> _Stored:
        return self._engine._table(self._connection, table)

    def _first(self, stored: _Stored, index: str, span: Span) -> _Row | None:
        column = stored.columns.get(index)
        order = f"{column}, tick" if column else "tick"
        row = self._connection.execute(
            f"SELECT tick, id, body FROM {stored.name} WHERE {span.where} ORDER BY {order} LIMIT 1", span.parameters
        ).fetchone()
        return None if row is None else _Row(row[0], row[1], loads(row[2]))

    def _find(self, stored: _Stored, table: Table, at: Target) -> _Row | None:
        if isinstance(at, Key):
            return self._first(stored, at.index, span_of(Range(table, at.index, at.key), stored.columns.get(at.index, "")))
        tick = id_tick(at)
        row = self._connection.execute(
            f"SELECT tick, id, body FROM {stored.name} WHERE tick = ? AND id = ?", (-1 if tick is None else tick, at)
        ).fetchone()
        return None if row is None else _Row(row[0], row[1], loads(row[2]))

    def _expected(self, position: int, write: Patch | Replace | Delete) -> tuple[_Stored, _Row | None]:
        """The document a write is about, as it expects it; None where it is gone and that is fine."""
        stored = self._stored(write.table)
        row = self._find(stored, write.table, write.at)
        if row is None:
            if write.missing == "skip":
                return stored, None
            raise StaleDataError(table=write.table.name, reason="missing", write=position)
        changed = _changed(row, write.expect)
        if changed:
            raise StaleDataError(table=write.table.name, reason="changed", write=position, fields=changed)
        return stored, row

    def _store(self, stored: _Stored, row: _Row, fields: Document) -> None:
        self._connection.execute(stored.update, (dumps(fields), *stored.keys(fields), row.tick))

    def upsert(self, position: int, write: Upsert) -> Applied:
        stored = self._stored(write.table)
        row = self._find(stored, write.table, write.at)
        if row is None:
            tick, id = self._next(stored)
            self._connection.execute(stored.insert, (tick, id, dumps(write.doc), *stored.keys(write.doc)))
            return Written(id, time_of(tick))
        kept = {name: row.fields[name] for name in write.keep if name in row.fields}
        document = {**write.doc, **kept}
        if kept:
            _check_size(write.table, document)
        self._store(stored, row, document)
        return Written(row.id, time_of(row.tick), False)

    def patch(self, position: int, write: Patch) -> Applied:
        stored, row = self._expected(position, write)
        if row is None:
            return False
        fields = {**row.fields, **write.set}
        for name in write.unset:
            fields.pop(name, None)
        _check_size(write.table, fields)
        self._store(stored, row, fields)
        return True

    def replace(self, position: int, write: Replace) -> Applied:
        stored, row = self._expected(position, write)
        if row is None:
            return False
        self._store(stored, row, write.doc)
        return True

    def delete(self, position: int, write: Delete) -> Applied:
        stored, row = self._expected(position, write)
        if row is None:
            return False
        self._connection.execute(stored.delete, (row.tick,))
        return True

    def delete_range(self, position: int, write: DeleteRange) -> Applied:
        stored = self._stored(write.table)
        span = span_of(write.range, stored.columns.get(write.range.index, ""))
        matches = compile_filter(write.filter) if write.filter is not None else None
        cursor = self._connection.execute(self._engine._select(stored, Read(write.range), span), span.parameters)
        ticks: list[tuple[int]] = []
        more = self._ranges_spent
        if not more:
            for document in _stream(cursor):
                self._ranged += 1
                self._ranged_bytes += size_of(document)
                if matches is None or matches(document):
                    tick = id_tick(document["_id"])
                    assert tick is not None
                    ticks.append((tick,))
                    self._deleted += 1
                more = len(ticks) == write.limit or self._ranges_spent
                if more:
                    break
        cursor.close()
        if more and write.limit is None:
            raise LimitExceeded(
                "documents deleted by ranges in one commit", maximum=MAX_DELETED_BY_RANGE, table=write.table.name
            )
        self._connection.executemany(stored.delete, ticks)
        return DeletedRange(len(ticks), more)


def _whole_key(stored: _Stored, write: Insert) -> tuple[str, bytes] | None:
    """The column and the bytes of an insert's unique key, if it names all declared fields of an index and no more."""
    if write.unique is None:
        return None
    fields = stored.indexes.get(write.unique.index, ())
    if len(write.unique.key) != len(fields):
        return None
    return stored.columns[write.unique.index], b"".join(map(canonical, write.unique.key))


_HANDLERS: dict[type, Callable[[_Transaction, int, Any], Applied]] = {
    Upsert: _Transaction.upsert,
    Patch: _Transaction.patch,
    Replace: _Transaction.replace,
    Delete: _Transaction.delete,
    DeleteRange: _Transaction.delete_range,
}


def _check_size(table: Table, document: Document) -> None:
    """What only shows once a write meets what is stored: the deployment refuses the document, not the request."""
    try:
        table.check_size(document)
    except LimitExceeded as error:
        raise ValidationError(f"{error.limit}: at most {error.maximum:,}", table=table.name) from None


def _changed(row: _Row, expect: Expect) -> list[str]:
    """The names of the fields that are not what a write expects."""
    return [name for name, value in expect.items() if not same(row.fields.get(name, MISSING), value)]
