"""Inserts and upserts of one commit, many at a time: what is alike waits, and is written by a few statements."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.damage import damaged
from convexorm.deployments.embedded.keys import time_of
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.requests import Applied, Document, Insert, Key, Upsert, Written, claimed
from convexorm.schema import Table
from convexorm.values import MISSING, canonical

__all__ = ["Batches"]

_CHUNK = 500
"""Parameters of one statement; SQLite allows 32,766."""


class Rows(Protocol):
    """What the transaction does for its batches."""

    def stored(self, table: Table) -> StoredTable:
        """A table as it is stored."""

    def change(self, stored: StoredTable) -> int:
        """The number of the commit among those that changed a table, where it counts them; else 0."""

    def following(self, stored: StoredTable, count: int) -> Iterator[tuple[int, str]]:
        """The ticks and the `_id`s of the next documents: later than all others of their table."""

    def changing(self, stored: StoredTable, ticks: Sequence[int]) -> None:
        """The rows of these ticks, those that are there, are about to be written."""

    def put_texts(self, stored: StoredTable, documents: Iterable[tuple[int, Document]]) -> None:
        """Keep the words of documents by their ticks."""

    def contest(self, position: int, table: Table, key: Key) -> None:
        """Look again, after all writes, whether this key is one document's own."""


class _Batch:
    """Inserts and upserts into one table that are not written yet, with their keys, and each with the bytes of the key that
    it is about; all of those are of the same column.
    """

    __slots__ = ("column", "keys", "positions", "stored", "unique", "writes")

    def __init__(self, stored: StoredTable) -> None:
        self.stored = stored
        self.column: str | None = None
        self.positions: list[int] = []
        self.writes: list[Insert | Upsert] = []
        self.keys: list[Sequence[bytes]] = []
        self.unique: list[bytes | None] = []


class Batches(msgspec.Struct, eq=False):
    """What waits, and the answers so far, to which its own are added once it is written."""

    _connection: Connection
    _rows: Rows
    _results: list[Applied]
    _batch: _Batch | None = None

    def take(self, position: int, write: Insert | Upsert) -> bool:
        """Whether the write waits for others like it: they are all about one table, and name whole keys of one index."""
        if write.table.counters:
            return False
        stored = self._rows.stored(write.table)
        keys = stored.keys(write.doc)
        if len(write.unique) > isinstance(write, Insert):
            return False
        column = key = None
        if isinstance(write, Upsert):
            whole = _whole_key(stored, write.at, write.doc, keys)
            if whole is None or write.keep or write.greatest or write.identity:
                return False
            column, key, place = whole
            if key != keys[place]:
                return False
        elif write.unique:
            (one,) = write.unique
            at = stored.places.get(one.index)
            if one.key is not None or at is None or keys[at] == stored.lacking[at]:
                return False
            column, key = stored.columns[one.index], keys[at]
        batch = self._batch
        if batch is None or batch.stored is not stored or (column is not None and batch.column not in (None, column)):
            self.flush()
            batch = self._batch = _Batch(stored)
        batch.column = batch.column or column
        batch.positions.append(position)
        batch.writes.append(write)
        batch.keys.append(keys)
        batch.unique.append(key)
        return True

    def flush(self) -> None:
        """Write what waits."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        stored, seq = batch.stored, self._rows.change(batch.stored)
        place = None if batch.column is None else int(batch.column[1:])
        held = self._held(stored, batch.column, {key for key in batch.unique if key is not None})
        new = self._rows.following(stored, len(batch.writes))
        inserts, updates, ticks = [], [], []
        results, row_of = self._results, stored.row
        for position, write, keys, key in zip(batch.positions, batch.writes, batch.keys, batch.unique, strict=True):
            values = row_of(write.doc, keys, seq)
            row = held.get(key) if key is not None else None
            if row is None or type(write) is Insert:
                if row is not None:
                    ((taken_key, _),) = claimed(write.table, write.unique, write.doc)
                    self._rows.contest(position, write.table, taken_key)
                made = next(new)
                tick, id_ = made
                inserts.append((tick, id_, *values))
                ticks.append(tick)
                results.append(Written(id_, tick / 1000))
                if place is not None:
                    held.setdefault(keys[place], made)
            else:
                updates.append((*values, row[0]))
                ticks.append(row[0])
                results.append(Written(row[1], time_of(row[0]), False))
        self._rows.changing(stored, ticks)
        self._connection.executemany(stored.insert, inserts)
        if updates:
            self._connection.executemany(stored.update(), updates)
        if stored.texts:
            self._rows.put_texts(stored, zip(ticks, (write.doc for write in batch.writes), strict=True))

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
                if type(tick) is not int or type(id_) is not str:
                    raise damaged(stored.label)
                held.setdefault(key, (tick, id_))
        return held


def _whole_key(stored: StoredTable, at: Key, document: Document, keys: Sequence[bytes]) -> tuple[str, bytes, int] | None:
    """The column, the bytes and the place of a key that names all declared fields of an index and no more.

    Often it is that of the document itself, whose keys are `keys`.
    """
    fields = stored.indexes.get(at.index, ())
    if len(at.key) != len(fields):
        return None
    place = stored.places[at.index]
    if len(fields) == 1:
        own = document.get(fields[0], MISSING) is at.key[0]
    else:
        own = all(document.get(field, MISSING) is value for field, value in zip(fields, at.key, strict=True))
    return stored.columns[at.index], keys[place] if own else b"".join(map(canonical, at.key)), place
