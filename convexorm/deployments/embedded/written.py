"""What commits have written: the keys of documents in each index, in a table beside the documents.

It is there once somebody has watched the file: then every commit, of whatever process, leaves what it wrote in its own
transaction, under a number that only rises. Who watches compares that with what was read. A commit that writes much leaves
the first and the last key of an index in place of all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

import msgspec

from convexorm.deployments.embedded.keys import time_of
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.values import canonical

__all__ = ["Keys", "Written", "is_kept", "keep", "latest", "written_since"]

Keys: TypeAlias = dict[str, dict[str, tuple[bool, list[bytes]]]]
"""By table and column: all keys that were written, in order; or with True, the first and the last of them."""

_KEPT = 4_096
"""Commits of which is known what they wrote. Who is further behind has to read again."""
_EVERY = 64
"""Commits from one time when older ones are forgotten to the next."""
_LISTED = 128
"""Keys of one column that are listed one by one."""
_CHUNK = 500
"""Parameters of one statement."""


def keep(connection: sqlite3.Connection) -> None:
    """Have all commits leave what they write, from the open transaction on."""
    connection.execute("CREATE TABLE IF NOT EXISTS convexorm_written (number INTEGER PRIMARY KEY, keys BLOB NOT NULL)")


def is_kept(connection: sqlite3.Connection) -> bool:
    """Whether commits leave what they write."""
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'convexorm_written'").fetchall())


def latest(connection: sqlite3.Connection) -> int:
    """The number of the last commit that the open transaction sees."""
    number: int = connection.execute("SELECT coalesce(max(number), 0) FROM convexorm_written").fetchone()[0]
    return number


def written_since(connection: sqlite3.Connection, number: int) -> list[tuple[int, Keys]] | None:
    """What the commits after one have written, in their order; None if that is not known any more."""
    rows = connection.execute(
        "SELECT number, keys FROM convexorm_written WHERE number >= ? ORDER BY number", (number,)
    ).fetchall()
    if rows[0][0] != (number or 1) if rows else number:  # forgotten, or another file
        return None
    return [(one, msgspec.msgpack.decode(keys, type=Keys)) for one, keys in rows if one > number]


class Written:
    """The keys that one commit writes, gathered by its transaction: those of each document before and after."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ticks: dict[str, set[int]] = {}
        self._tables: dict[str, StoredTable] = {}
        self._keys: dict[str, dict[str, set[bytes]]] = {}

    def changing(self, stored: StoredTable, ticks: Collection[int]) -> None:
        """These documents are about to be changed or deleted, or there are none of these ticks yet."""
        known = self._known(stored)
        new = [tick for tick in ticks if tick not in known]
        known.update(new)
        self._read(stored, new)

    def inserted(self, stored: StoredTable, ticks: Iterable[int]) -> None:
        """These documents are new."""
        self._known(stored).update(ticks)

    def enter(self) -> None:
        """Leave what was written, now that all of it is."""
        for name, ticks in self._ticks.items():
            self._read(self._tables[name], list(ticks))
        keys: Keys = {
            table: {column: _told(some) for column, some in columns.items()} for table, columns in self._keys.items()
        }
        cursor = self._connection.execute(
            "INSERT INTO convexorm_written (keys) VALUES (?)", (msgspec.msgpack.encode(keys),)
        )
        number = cursor.lastrowid or 0
        if number % _EVERY == 0:
            self._connection.execute("DELETE FROM convexorm_written WHERE number <= ?", (number - _KEPT,))

    def _known(self, stored: StoredTable) -> set[int]:
        self._tables[stored.name] = stored
        return self._ticks.setdefault(stored.name, set())

    def _read(self, stored: StoredTable, ticks: Sequence[int]) -> None:
        """Note the keys that documents have at the moment."""
        columns = [f"k{place}" for place in range(len(stored.forms))]
        keys = self._keys.setdefault(stored.label, {name: set() for name in ("tick", "id", *columns)})
        for start in range(0, len(ticks), _CHUNK):
            chunk = ticks[start : start + _CHUNK]
            rows = self._connection.execute(
                f"SELECT {', '.join(('tick', 'id', *columns))} FROM {stored.name} "
                f"WHERE tick IN ({', '.join('?' * len(chunk))})",
                chunk,
            )
            for tick, id_, *values in rows.fetchall():
                time = canonical(time_of(tick))
                keys["tick"].add(time)
                keys["id"].add(canonical(id_))
                for column, value in zip(columns, values, strict=True):
                    keys[column].add(bytes(value) + time)


def _told(keys: Collection[bytes]) -> tuple[bool, list[bytes]]:
    if len(keys) > _LISTED:
        return True, [min(keys), max(keys)]
    return False, sorted(keys)
