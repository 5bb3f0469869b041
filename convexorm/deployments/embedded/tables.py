"""How a Convex table lies in SQLite.

Each Convex table is a SQLite table `t<number>`: the *tick* (see `keys`) as row number, the `_id`, the document as JSON text
(`body`), for each index a column of key bytes (`k0`, …) with a SQLite index on it, and for each field that is an array of
numbers a column of packed floats (`v0`, …), so that vectors are read without parsing. A table with such fields also numbers
its changes: the table's count of commits that touched it, and in each row (`seq`) the last of them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from convexorm.deployments.embedded.keys import document_key
from convexorm.deployments.embedded.rows import pack, unpacked
from convexorm.requests import Document
from convexorm.schema import Table
from convexorm.values import dumps, loads

__all__ = ["SETUP", "StoredTable", "ensure_table"]

SETUP = """
CREATE TABLE IF NOT EXISTS convexorm_tables (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, indexes TEXT NOT NULL, vectors TEXT NOT NULL,
    changes INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS convexorm_commits (id TEXT PRIMARY KEY, at REAL NOT NULL, answer TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS convexorm_commits_at ON convexorm_commits (at);
"""


class StoredTable:
    """A Convex table as SQLite has it: its name there, its columns, and its statements."""

    def __init__(self, number: int, indexes: Mapping[str, Sequence[str]], vectors: Sequence[str]) -> None:
        self.number = number
        self.name = f"t{number}"
        self.indexes = {name: tuple(fields) for name, fields in indexes.items()}
        self.columns = {name: f"k{position}" for position, name in enumerate(self.indexes)}
        self.places = {name: position for position, name in enumerate(self.indexes)}
        self.vectors = {name: f"v{position}" for position, name in enumerate(vectors)}
        self._keys = [document_key(fields) for fields in self.indexes.values()]
        kept = [*self.vectors.values(), *(["seq"] if self.vectors else []), *self.columns.values()]
        self.select = ", ".join(("tick", "id", "body", *self.vectors.values()))
        columns = ", ".join(("tick", "id", "body", *kept))
        self.insert = f"INSERT INTO {self.name} ({columns}) VALUES (?, ?, ?{', ?' * len(kept)})"
        self.update = f"UPDATE {self.name} SET body = ?{''.join(f', {one} = ?' for one in kept)} WHERE tick = ?"
        self.delete = f"DELETE FROM {self.name} WHERE tick = ?"

    @property
    def counts_changes(self) -> bool:
        return bool(self.vectors)

    def keys(self, document: Document) -> list[bytes]:
        """The document's key in each index, in the order of the columns."""
        return [key(document) for key in self._keys]

    def row(self, document: Document, keys: Sequence[bytes], seq: int) -> tuple[object, ...]:
        """What the columns behind tick and id hold for a document."""
        if not self.vectors:
            return (dumps(document), *keys)
        blobs = {name: pack(document.get(name)) for name in self.vectors}
        body = {name: value for name, value in document.items() if blobs.get(name) is None}
        return (dumps(body), *blobs.values(), seq, *keys)

    def covers(self, table: Table) -> bool:
        """Whether everything that `table` declares is here."""
        return all(self.indexes.get(index.name) == index.fields for index in table.indexes) and all(
            name in self.vectors for name in table.vector_fields
        )


def ensure_table(connection: sqlite3.Connection, table: Table) -> StoredTable:
    """The stored form of a table, created or widened; inside a writing transaction."""
    wanted = {index.name: index.fields for index in table.indexes}
    row = connection.execute(
        "SELECT number, indexes, vectors FROM convexorm_tables WHERE name = ?", (table.name,)
    ).fetchone()
    if row is None:
        return _create(connection, table, wanted)
    before = StoredTable(row[0], json.loads(row[1]), json.loads(row[2]))
    vectors = [*before.vectors, *(name for name in table.vector_fields if name not in before.vectors)]
    stored = StoredTable(row[0], {**before.indexes, **wanted}, vectors)
    changed = [name for name, fields in wanted.items() if before.indexes.get(name) != fields]
    if changed or len(vectors) > len(before.vectors):
        _widen(connection, before, stored, changed)
    return stored


def _create(connection: sqlite3.Connection, table: Table, indexes: Mapping[str, Sequence[str]]) -> StoredTable:
    number = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM convexorm_tables").fetchone()[0]
    stored = StoredTable(number, indexes, table.vector_fields)
    keys = "".join(f", {column} BLOB" for column in stored.columns.values())
    vectors = "".join(f", {column} BLOB" for column in stored.vectors.values())
    seq = ", seq INTEGER" if stored.counts_changes else ""
    connection.execute(f"CREATE TABLE {stored.name} (tick INTEGER PRIMARY KEY, id TEXT, body TEXT{keys}{seq}{vectors})")
    connection.execute(
        "INSERT INTO convexorm_tables (number, name, indexes, vectors) VALUES (?, ?, ?, ?)",
        (number, table.name, json.dumps(stored.indexes), json.dumps(list(stored.vectors))),
    )
    for name in stored.indexes:
        _index(connection, stored, name)
    return stored


def _widen(connection: sqlite3.Connection, before: StoredTable, stored: StoredTable, changed: Sequence[str]) -> None:
    """Give a table further indexes and packed fields, and write its rows again."""
    for name in changed:
        if name in before.columns:
            connection.execute(f"DROP INDEX i{stored.number}_{stored.columns[name]}")
        else:
            connection.execute(f"ALTER TABLE {stored.name} ADD COLUMN {stored.columns[name]} BLOB")
    if stored.counts_changes and not before.counts_changes:
        connection.execute(f"ALTER TABLE {stored.name} ADD COLUMN seq INTEGER")
    for name in list(stored.vectors)[len(before.vectors) :]:
        connection.execute(f"ALTER TABLE {stored.name} ADD COLUMN {stored.vectors[name]} BLOB")
    (changes,) = connection.execute("SELECT changes FROM convexorm_tables WHERE number = ?", (stored.number,)).fetchone()
    rows = connection.execute(f"SELECT {before.select} FROM {stored.name}").fetchall()
    for tick, _, body, *blobs in rows:
        document = unpacked(loads(body), before.vectors, blobs)
        connection.execute(stored.update, (*stored.row(document, stored.keys(document), changes + 1), tick))
    connection.execute(
        "UPDATE convexorm_tables SET indexes = ?, vectors = ?, changes = changes + 1 WHERE number = ?",
        (json.dumps(stored.indexes), json.dumps(list(stored.vectors)), stored.number),
    )
    for name in changed:
        _index(connection, stored, name)


def _index(connection: sqlite3.Connection, stored: StoredTable, name: str) -> None:
    column = stored.columns[name]
    connection.execute(f"CREATE INDEX i{stored.number}_{column} ON {stored.name} ({column})")
