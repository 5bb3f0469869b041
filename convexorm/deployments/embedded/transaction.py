"""One commit, applied to SQLite: each kind of write has a method, and all of them run in one transaction."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import attrs

from convexorm.deployments.embedded.filters import compile_filter
from convexorm.deployments.embedded.keys import Span, id_tick, span_of, time_of
from convexorm.deployments.embedded.reads import select
from convexorm.deployments.embedded.rows import stream, unpacked
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.errors import LimitExceeded, StaleDataError, ValidationError
from convexorm.requests import (
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
)
from convexorm.schema import Table
from convexorm.values import MISSING, Value, canonical, loads, same, size_of

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
    return None if row is None else _Row(row[0], row[1], unpacked(loads(row[2]), stored.vectors, row[3:]))


_Pending: TypeAlias = tuple[int, Insert, tuple[str, bytes] | None]
"""An insert not yet written: its position in the commit, and the column and bytes of its unique key, if they are one."""


class Transaction:
    """Applies the writes of one commit in order. Inserts are gathered and written many at a time."""

    def __init__(self, connection: sqlite3.Connection, table: Callable[[sqlite3.Connection, Table], StoredTable]) -> None:
        self._connection = connection
        self._table = table
        self._ticks: dict[str, int] = {}
        self._changes: dict[str, int] = {}
        self._inserts: list[_Pending] = []
        self._results: list[Applied] = []
        self._deleted = 0
        self._ranged = 0
        self._ranged_bytes = 0

    def apply(self, writes: Sequence[Write]) -> list[Applied]:
        for position, write in enumerate(writes):
            if isinstance(write, Insert):
                if self._inserts and self._inserts[-1][1].table is not write.table:
                    self._flush()
                unique = None if write.unique is None else _whole_key(self._stored(write.table), write)
                if write.unique is not None and unique is None:
                    self._flush()
                    if self._find(self._stored(write.table), write.table, write.unique) is not None:
                        raise StaleDataError(table=write.table.name, reason="exists", write=position)
                self._inserts.append((position, write, unique))
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
        keys = [stored.keys(write.doc) for _, write, _ in inserts]
        self._refuse_taken(stored, inserts, keys)
        seq = self._change(stored)
        rows = []
        for (_, write, _), key in zip(inserts, keys, strict=True):
            tick, id = self._next(stored)
            rows.append((tick, id, *stored.row(write.doc, key, seq)))
            self._results.append(Written(id, time_of(tick)))
        self._connection.executemany(stored.insert, rows)

    def _refuse_taken(self, stored: StoredTable, inserts: Sequence[_Pending], keys: Sequence[Sequence[bytes]]) -> None:
        """StaleDataError for the first insert whose unique key a document, or an insert before it, holds."""
        table = inserts[0][1].table
        wanted: dict[str, set[bytes]] = {}
        for _, _, unique in inserts:
            if unique is not None:
                wanted.setdefault(unique[0], set()).add(unique[1])
        taken = {column: self._held(stored, column, held) for column, held in wanted.items()}
        places = [(taken[column], place) for place, column in enumerate(stored.columns.values()) if column in taken]
        for (position, _, unique), key in zip(inserts, keys, strict=True):
            if unique is not None and unique[1] in taken[unique[0]]:
                raise StaleDataError(table=table.name, reason="exists", write=position)
            for held, place in places:
                held.add(key[place])

    def _held(self, stored: StoredTable, column: str, keys: Collection[bytes]) -> set[bytes]:
        """Those of `keys` that stored documents hold."""
        held: set[bytes] = set()
        names = list(keys)
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            rows = self._connection.execute(f"SELECT {column} FROM {stored.name} WHERE {column} IN ({marks})", chunk)
            held.update(row[0] for row in rows)
        return held

    def _next(self, stored: StoredTable) -> tuple[int, str]:
        """The tick and the `_id` of the next document: later than all others of its table."""
        last = self._ticks.get(stored.name)
        if last is None:
            last = self._connection.execute(f"SELECT coalesce(max(tick), 0) FROM {stored.name}").fetchone()[0]
            last = max(last, time.time_ns() // 1000 - 1)
        tick = self._ticks[stored.name] = last + 1
        return tick, f"{tick:014x}{stored.number:04x}{os.urandom(7).hex()}"

    def _change(self, stored: StoredTable) -> int:
        """The number of this commit among those that changed the table, where it counts them; else 0."""
        if not stored.counts_changes:
            return 0
        if stored.name not in self._changes:
            (self._changes[stored.name],) = self._connection.execute(
                "UPDATE convexorm_tables SET changes = changes + 1 WHERE number = ? RETURNING changes", (stored.number,)
            ).fetchone()
        return self._changes[stored.name]

    # everything else

    @property
    def _ranges_spent(self) -> bool:
        """Whether the deleteRanges of this commit have done what they may do together."""
        return (
            self._deleted >= MAX_DELETED_BY_RANGE or self._ranged >= _MAX_RANGED or self._ranged_bytes >= _MAX_RANGED_BYTES
        )

    def _stored(self, table: Table) -> StoredTable:
        return self._table(self._connection, table)

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
        row = self._connection.execute(
            f"SELECT {stored.select} FROM {stored.name} WHERE tick = ? AND id = ?", (-1 if tick is None else tick, at)
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

    def upsert(self, position: int, write: Upsert) -> Applied:
        stored = self._stored(write.table)
        row = self._find(stored, write.table, write.at)
        if row is None:
            tick, id = self._next(stored)
            values = stored.row(write.doc, stored.keys(write.doc), self._change(stored))
            self._connection.execute(stored.insert, (tick, id, *values))
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
        self._change(stored)
        self._connection.execute(stored.delete, (row.tick,))
        return True

    def delete_range(self, position: int, write: DeleteRange) -> Applied:
        stored = self._stored(write.table)
        span = span_of(write.range, stored.columns.get(write.range.index, ""))
        matches = compile_filter(write.filter) if write.filter is not None else None
        cursor = self._connection.execute(select(stored, Read(write.range), span), span.parameters)
        ticks: list[tuple[int]] = []
        more = self._ranges_spent
        if not more:
            for document in stream(cursor, stored.vectors):
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
        self._change(stored)
        self._connection.executemany(stored.delete, ticks)
        return DeletedRange(len(ticks), more)


def _whole_key(stored: StoredTable, write: Insert) -> tuple[str, bytes] | None:
    """The column and the bytes of an insert's unique key, if it names all declared fields of an index and no more."""
    if write.unique is None:
        return None
    fields = stored.indexes.get(write.unique.index, ())
    if len(write.unique.key) != len(fields):
        return None
    return stored.columns[write.unique.index], b"".join(map(canonical, write.unique.key))


_HANDLERS: dict[type, Callable[[Transaction, int, Any], Applied]] = {
    Upsert: Transaction.upsert,
    Patch: Transaction.patch,
    Replace: Transaction.replace,
    Delete: Transaction.delete,
    DeleteRange: Transaction.delete_range,
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
