"""One commit, applied to SQLite: each kind of write has a method, and all of them run in one transaction."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs

from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.keys import Span, id_tick, span_of, time_of
from convexorm.deployments.embedded.reads import select
from convexorm.deployments.embedded.rows import stream
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.deployments.filters import compile_filter
from convexorm.errors import LimitExceeded, StaleDataError
from convexorm.requests import (
    DELETED_BY_RANGE,
    MAX_DELETED_BY_RANGE,
    Applied,
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
    Replace,
    Target,
    Upsert,
    Write,
    Written,
    greater_stored,
)
from convexorm.schema import Table
from convexorm.values import MISSING, Value, canonical, same, size_of

__all__ = ["Transaction"]

_CHUNK = 500
"""Parameters of one statement; SQLite allows 32,766."""
_MAX_RANGED = 16_000
"""Documents one commit reads to delete by ranges."""
_MAX_RANGED_BYTES = 6 << 20
"""Bytes of documents one commit reads to delete by ranges."""


@attrs.frozen
class _Row:
    """A stored document: its row, its `_id`, and its fields without the system ones."""

    tick: int
    id: str
    fields: dict[str, Value]


def _found(stored: StoredTable, row: tuple[Any, ...] | None) -> _Row | None:
    return None if row is None else _Row(row[0], row[1], stored.fields(row))


@attrs.define(eq=False)
class _Pending:
    """An insert or upsert not yet written, with its keys, and the bytes of the key it is about if it names a whole one."""

    position: int
    write: Insert | Upsert
    keys: Sequence[bytes]
    column: str | None
    key: bytes


class Transaction:
    """Applies the writes of one commit in order. Inserts and upserts are gathered and written many at a time."""

    def __init__(self, connection: Connection, tables: Mapping[int, StoredTable]) -> None:
        """`tables` has the stored form of each table that a write names, by the id of that object."""
        self._connection = connection
        self._tables = tables
        self._ticks: dict[str, int] = {}
        self._changes: dict[str, int] = {}
        self._pending: list[_Pending] = []
        self._pending_column: str | None = None
        self._random: list[str] = []
        self._unique: list[tuple[int, Table, Key]] = []
        self._results: list[Applied] = []
        self._deleted = 0
        self._ranged = 0
        self._ranged_bytes = 0

    def apply(self, writes: Sequence[Write]) -> list[Applied]:
        """One answer a write, in order. What is raised leaves the transaction to be rolled back."""
        for position, write in enumerate(writes):
            if isinstance(write, Insert | Upsert | Patch) and write.refs:
                self._flush()
                write = self._with_ids(write)
            pending = self._gathered(position, write) if isinstance(write, Insert | Upsert) else None
            if pending is None:
                self._flush()
                self._results.append(_HANDLERS[type(write)](self, position, write))
            else:
                self._pending.append(pending)
        self._flush()
        for position, table, key in self._unique:
            self._require_one(position, table, key)
        return self._results

    def _with_ids(self, write: Insert | Upsert | Patch) -> Insert | Upsert | Patch:
        """The write with the ids of what the commit has written before it."""
        ids: dict[str, Value] = {}
        for field, place in write.refs.items():
            written = self._results[place]
            assert isinstance(written, Written)
            ids[field] = written.id
        if isinstance(write, Patch):
            return attrs.evolve(write, set={**write.set, **ids})
        return attrs.evolve(write, doc={**write.doc, **ids})

    def _require_one(self, position: int, table: Table, key: Key) -> None:
        """Raise StaleDataError if several documents have a key that a write was to make a document's own."""
        stored = self._stored(table)
        span = span_of(Range(table, key.index, key.key), stored.columns.get(key.index, ""))
        rows = self._connection.execute(f"SELECT 1 FROM {stored.name} WHERE {span.where} LIMIT 2", span.parameters)
        if len(rows.fetchall()) > 1:
            raise StaleDataError(table=table.name, reason="exists", write=position)

    # inserts and upserts, many at a time

    def _gathered(self, position: int, write: Insert | Upsert) -> _Pending | None:
        """The write, if it may wait for others like it: they are all about one table, and name whole keys of one index."""
        stored = self._stored(write.table)
        keys = stored.keys(write.doc)
        about = write.unique if isinstance(write, Insert) else write.at
        whole = None if about is None else _whole_key(stored, about, write.doc, keys)
        if about is not None and whole is None:
            return None
        if isinstance(write, Upsert) and (write.keep or write.greatest or whole is None or whole[1] != keys[whole[2]]):
            return None
        column = None if whole is None else whole[0]
        other = column is not None and self._pending_column not in (None, column)
        if self._pending and (other or self._pending[0].write.table is not write.table):
            self._flush()
        self._pending_column = self._pending_column or column
        return _Pending(position, write, keys, column, b"" if whole is None else whole[1])

    def _flush(self) -> None:
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        column, self._pending_column = self._pending_column, None
        stored = self._stored(pending[0].write.table)
        place = None if column is None else int(column[1:])
        held = self._held(stored, column, {one.key for one in pending if one.column is not None})
        seq = self._change(stored)
        drawn = os.urandom(7 * len(pending)).hex()
        self._random = [drawn[start : start + 14] for start in range(0, len(drawn), 14)]
        inserts, updates = [], []
        for one in pending:
            row = held.get(one.key) if one.column is not None else None
            values = stored.row(one.write.doc, one.keys, seq)
            if row is None:
                tick, id_ = self._next(stored)
                inserts.append((tick, id_, *values))
                self._results.append(Written(id_, time_of(tick)))
                if place is not None:
                    held.setdefault(one.keys[place], (tick, id_))
            elif isinstance(one.write, Insert):
                raise StaleDataError(table=one.write.table.name, reason="exists", write=one.position)
            else:
                updates.append((*values, row[0]))
                self._results.append(Written(row[1], time_of(row[0]), False))
        self._connection.executemany(stored.insert, inserts)
        self._connection.executemany(stored.update, updates)

    def _held(self, stored: StoredTable, column: str | None, keys: Collection[bytes]) -> dict[bytes, tuple[int, str]]:
        """Those of `keys` that stored documents hold, with the tick and the `_id` of the first of each."""
        held: dict[bytes, tuple[int, str]] = {}
        names = list(keys)
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            rows = self._connection.execute(
                f"SELECT {column}, tick, id FROM {stored.name} WHERE {column} IN ({marks}) ORDER BY tick", chunk
            )
            for key, tick, id_ in rows:
                held.setdefault(key, (tick, id_))
        return held

    def _next(self, stored: StoredTable) -> tuple[int, str]:
        """The tick and the `_id` of the next document: later than all others of its table."""
        last = self._ticks.get(stored.name)
        if last is None:
            last = self._connection.execute(f"SELECT coalesce(max(tick), 0) FROM {stored.name}").fetchone()[0]
            last = max(last, time.time_ns() // 1000 - 1)
        tick = self._ticks[stored.name] = last + 1
        random = self._random.pop() if self._random else os.urandom(7).hex()
        return tick, f"{tick:014x}{stored.number:04x}{random}"

    def _change(self, stored: StoredTable) -> int:
        """The number of this commit among those that changed the table, where it counts them; else 0."""
        if not stored.counts_changes:
            return 0
        if stored.name not in self._changes:
            self._changes[stored.name] = stored.count_change(self._connection)
        return self._changes[stored.name]

    # everything else

    @property
    def _ranges_spent(self) -> bool:
        """Whether the deleteRanges of this commit have done what they may do together."""
        return (
            self._deleted >= MAX_DELETED_BY_RANGE or self._ranged >= _MAX_RANGED or self._ranged_bytes >= _MAX_RANGED_BYTES
        )

    def _stored(self, table: Table) -> StoredTable:
        return self._tables[id(table)]

    def _first(self, stored: StoredTable, index: str, span: Span) -> _Row | None:
        column = stored.columns.get(index)
        order = f"{column}, tick" if column else "tick"
        row = self._connection.execute(
            f"SELECT {stored.select} FROM {stored.name} WHERE {span.where} ORDER BY {order} LIMIT 1", span.parameters
        ).fetchone()
        return _found(stored, row)

    def _find(self, stored: StoredTable, table: Table, at: Target) -> _Row | None:
        if isinstance(at, Key):
            return self._first(stored, at.index, span_of(Range(table, at.index, at.key), stored.columns.get(at.index, "")))
        tick = id_tick(at)
        if tick is None:
            return None
        row = self._connection.execute(
            f"SELECT {stored.select} FROM {stored.name} WHERE tick = ? AND id = ?", (tick, at)
        ).fetchone()
        return _found(stored, row)

    def _expected(self, position: int, write: Patch | Replace | Delete) -> tuple[StoredTable, _Row | None]:
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

    def _store(self, stored: StoredTable, row: _Row, fields: Document) -> None:
        values = stored.row(fields, stored.keys(fields), self._change(stored))
        self._connection.execute(stored.update, (*values, row.tick))

    def insert(self, position: int, write: Insert) -> Applied:
        stored = self._stored(write.table)
        if write.unique is not None and self._find(stored, write.table, write.unique) is not None:
            raise StaleDataError(table=write.table.name, reason="exists", write=position)
        return self._add(stored, write.doc)

    def upsert(self, position: int, write: Upsert) -> Applied:
        stored = self._stored(write.table)
        row = self._find(stored, write.table, write.at)
        if row is None:
            return self._add(stored, write.doc)
        kept = {name: row.fields[name] for name in write.keep if name in row.fields}
        kept.update(greater_stored(row.fields, write.doc, write.greatest))
        document = {**write.doc, **kept}
        if kept:
            write.table.check_size(document)
        self._store(stored, row, document)
        return Written(row.id, time_of(row.tick), False)

    def _add(self, stored: StoredTable, document: Document) -> Written:
        tick, id_ = self._next(stored)
        values = stored.row(document, stored.keys(document), self._change(stored))
        self._connection.execute(stored.insert, (tick, id_, *values))
        return Written(id_, time_of(tick))

    def patch(self, position: int, write: Patch) -> Applied:
        stored, row = self._expected(position, write)
        if row is None:
            return False
        if write.unique is not None:
            self._unique.append((position, write.table, write.unique))
        fields = {**row.fields, **write.set, **greater_stored(row.fields, write.set, write.greatest)}
        for name in write.unset:
            fields.pop(name, None)
        write.table.check_size(fields)
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
        self._change(stored)
        self._connection.execute(stored.delete, (row.tick,))
        return True

    def delete_range(self, position: int, write: DeleteRange) -> Applied:
        stored = self._stored(write.table)
        span = span_of(write.range, stored.columns.get(write.range.index, ""))
        matches = compile_filter(write.filter) if write.filter is not None else None
        cursor = self._connection.stream(select(stored, Read(write.range), span), span.parameters)
        ticks: list[tuple[int]] = []
        more = self._ranges_spent
        if not more:
            for document in stream(cursor, stored.vectors, stored.label):
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
            raise LimitExceeded(DELETED_BY_RANGE, maximum=MAX_DELETED_BY_RANGE, table=write.table.name)
        self._change(stored)
        self._connection.executemany(stored.delete, ticks)
        return DeletedRange(len(ticks), more)


def _whole_key(stored: StoredTable, at: Key, document: Document, keys: Sequence[bytes]) -> tuple[str, bytes, int] | None:
    """The column, the bytes and the place of a key that names all declared fields of an index and no more.

    Often it is that of the document itself, whose keys are `keys`.
    """
    fields = stored.indexes.get(at.index, ())
    if len(at.key) != len(fields):
        return None
    place = stored.places[at.index]
    own = all(document.get(field, MISSING) is value for field, value in zip(fields, at.key, strict=True))
    return stored.columns[at.index], keys[place] if own else b"".join(map(canonical, at.key)), place


_HANDLERS: dict[type, Callable[[Transaction, int, Any], Applied]] = {
    Insert: Transaction.insert,
    Upsert: Transaction.upsert,
    Patch: Transaction.patch,
    Replace: Transaction.replace,
    Delete: Transaction.delete,
    DeleteRange: Transaction.delete_range,
}


def _changed(row: _Row, expect: Expect) -> list[str]:
    """The names of the fields that are not what a write expects, in alphabetical order."""
    return sorted(name for name, value in expect.items() if not same(row.fields.get(name, MISSING), value))
