"""How a Convex table lies in SQLite.

Each Convex table is a SQLite table `t<number>`: the *tick* (see `keys`) as row number, the `_id`, the document as JSON text
(`body`), for each list of fields that an index of some program is over a column of key bytes (`k0`, …) with a SQLite index
on it, and for each field that is an array of numbers a column of packed floats (`v0`, …), so that vectors are read without
parsing. A table with such fields also numbers its changes: the table's count of commits that touched it, and in each row
(`seq`, with an index) the last of them. The words of fields that search indexes are over lie beside it (see `texts`).

Columns are only ever added. When a field is packed that was not before, the table becomes `t<number>_<fields>`: who does
not know it yet reads nothing rather than documents that seem to lack the field. What an index is called is the business
of the program that asks: two programs whose indexes of one name are over different fields each have their column.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from convexorm.deployments.embedded.cells import body_maker, keys_maker
from convexorm.deployments.embedded.damage import damaged, decoded
from convexorm.deployments.embedded.keys import document_key
from convexorm.deployments.embedded.rows import parser, unpacked
from convexorm.deployments.embedded.texts import create_text, form_of, stored_texts
from convexorm.late import need
from convexorm.requests import Document
from convexorm.schema import Table
from convexorm.values import MISSING, canonical, dumps, loads

__all__ = ["StoredTable", "ensure_table", "index_changes", "number_of"]

_STEP = 500
"""Rows that are written again at a time when a table is widened."""


class StoredTable:
    """A Convex table as SQLite has it, for a program that declares it as `table`: its columns, and its statements."""

    def __init__(
        self,
        table: Table,
        number: int,
        forms: Sequence[tuple[str, ...]],
        vectors: Sequence[str],
        name: str | None = None,
        texts: Sequence[tuple[str, ...]] = (),
    ) -> None:
        self.table = table
        self.label = table.name
        self.number = number
        self.name = name or f"t{number}"
        self.forms = tuple(forms)
        """The fields of each key column."""
        self.vectors = {name: f"v{position}" for position, name in enumerate(vectors)}
        named = list(vectors) if name is None else {"table": name, "fields": list(vectors)}
        self.entry = (number, json.dumps(forms), json.dumps(named), json.dumps(texts))
        """Its number, forms and vectors as the catalog's row holds them, its name if that is not the first; its texts."""
        self.texts = stored_texts(number, texts, table.name)
        places = {fields: position for position, fields in enumerate(self.forms)}
        self.places = {index.name: places[index.fields] for index in table.indexes if index.fields in places}
        self.indexes = {index.name: index.fields for index in table.indexes}
        self.columns = {name: f"k{place}" for name, place in self.places.items()}
        self.complete = (
            len(self.places) == len(table.indexes)
            and self.vectors.keys() >= set(table.vector_fields)
            and self.texts.keys() >= _texts_of(table)
        )
        """Whether everything that the table declares is here."""
        keys = [f"k{place}" for place in range(len(self.forms))]
        kept = [*self.vectors.values(), *(["seq"] if self.vectors else []), *keys]
        self.select = ", ".join(("tick", "id", "body", *self.vectors.values()))
        self.parse = parser(table.name)
        columns = ", ".join(("tick", "id", "body", *kept))
        self.insert = f"INSERT INTO {self.name} ({columns}) VALUES (?, ?, ?{', ?' * len(kept)})"
        self._updates: dict[tuple[int, ...], str] = {}
        self.prefixes: dict[tuple[str, int, str], tuple[str, bool]] = {}
        """Statements for reads of the first documents whose keys begin with some values: by index, how many, and order; and
        whether these are whole keys.
        """
        self.lacking = [canonical(MISSING) * len(form) for form in self.forms]
        """The keys of a document that lacks all of the fields, by their places."""
        self.latest = f"SELECT coalesce(max(tick), 0) FROM {self.name}"
        self.delete = f"DELETE FROM {self.name} WHERE tick = ?"
        self.by_id = f"SELECT {self.select} FROM {self.name} WHERE tick = ? AND id = ?"

    @cached_property
    def keys(self) -> Callable[[Document], tuple[bytes, ...]]:
        """The function from a document to its key in each key column."""
        return keys_maker(self.forms)

    @cached_property
    def _body(self) -> Callable[[Document], str]:
        return body_maker(self.table)

    @property
    def counts_changes(self) -> bool:
        return bool(self.vectors)

    def holder(self, column: str) -> str:
        """The statement that finds whether a row holds a key in a key column."""
        return f"SELECT 1 FROM {self.name} WHERE {column} = ? LIMIT 1"

    def update(self, places: Sequence[int] | None = None) -> str:
        """The statement that gives the row of a tick another document, and another key in these of the key columns: SQLite
        writes an entry of an index again although it stays the same. None is all of them.
        """
        found = tuple(range(len(self.forms))) if places is None else tuple(places)
        statement = self._updates.get(found)
        if statement is None:
            kept = [*self.vectors.values(), *(["seq"] if self.vectors else []), *(f"k{place}" for place in found)]
            columns = "".join([f", {one} = ?" for one in kept])
            statement = self._updates[found] = f"UPDATE {self.name} SET body = ?{columns} WHERE tick = ?"
        return statement

    def keyed_by(self, fields: Collection[str]) -> Sequence[int]:
        """The places of the key columns that change with these fields."""
        keyed = self._keyed
        if keyed.keys().isdisjoint(fields):
            return ()
        return sorted({place for field in fields for place in keyed.get(field, ())})

    @cached_property
    def _keyed(self) -> Mapping[str, Sequence[int]]:
        """For each field the places of the key columns that it is in, or something in it."""
        keyed: dict[str, list[int]] = {}
        for place, form in enumerate(self.forms):
            for field in {path.partition(".")[0] for path in form}:
                keyed.setdefault(field, []).append(place)
        return keyed

    def row(self, document: Document, keys: Sequence[bytes], seq: int, *, declared: bool = True) -> tuple[object, ...]:
        """What the columns behind tick and id hold for a document, the key columns among them those that are given.

        One that is not all as `table` declares, since another program stored some of it, is not `declared`.
        """
        dump = self._body if declared else dumps
        if not self.vectors:
            return (dump(document), *keys)
        need("numpy")
        from convexorm.deployments.embedded.packing import pack  # numpy takes long to import

        blobs = {name: pack(document.get(name)) for name in self.vectors}
        body = {name: value for name, value in document.items() if blobs.get(name) is None}
        return (dump(body), *blobs.values(), seq, *keys)

    def fields(self, row: Sequence[Any]) -> dict[str, Any]:
        """A document without its system fields, by its row as `select` names the columns."""
        try:
            document = loads(row[2])
            if type(document) is dict and type(row[1]) is str and not self.vectors:
                return document
        except (ValueError, TypeError, KeyError, RecursionError):
            pass  # which is said below
        return decoded(self.label, _fields, row, self.vectors)

    def changes(self, connection: sqlite3.Connection) -> int:
        """How many commits have touched the table, where that is counted."""
        return self._counted(connection, "SELECT changes FROM convexorm_tables WHERE number = ?")

    def count_change(self, connection: sqlite3.Connection) -> int:
        """Count one more, and say how many there are."""
        return self._counted(
            connection, "UPDATE convexorm_tables SET changes = changes + 1 WHERE number = ? RETURNING changes"
        )

    def _counted(self, connection: sqlite3.Connection, statement: str) -> int:
        row = connection.execute(statement, (self.number,)).fetchone()
        if row is None or not isinstance(row[0], int):
            raise damaged(self.label, "its entry in the catalog cannot be read")
        return row[0]


def _texts_of(table: Table) -> set[tuple[str, ...]]:
    """The texts that the search indexes of a table are over."""
    return {form_of(index) for index in table.search_indexes if not index.staged}


def _fields(row: Sequence[Any], vectors: Mapping[str, str]) -> dict[str, Any]:
    document: Any = loads(row[2])
    if type(document) is not dict or type(row[1]) is not str:
        raise TypeError
    return unpacked(document, vectors, row[3:])


def number_of(connection: sqlite3.Connection, table: str) -> int | None:
    """The number of a table by its name; None where it is not there."""
    row = connection.execute("SELECT number FROM convexorm_tables WHERE name = ?", (table,)).fetchone()
    return None if row is None else row[0]


def ensure_table(connection: sqlite3.Connection, table: Table, before: StoredTable | None) -> StoredTable:
    """The stored form of a table, created or widened; inside a writing transaction, which found it as `before`."""
    forms = [] if before is None else list(before.forms)
    forms += dict.fromkeys(index.fields for index in table.indexes if index.fields not in forms)
    vectors = [] if before is None else list(before.vectors)
    vectors += [name for name in table.vector_fields if name not in vectors]
    texts = [] if before is None else list(before.texts)
    texts += sorted(_texts_of(table) - set(texts))
    if before is None:
        return _create(connection, table, forms, vectors, texts)
    name = before.name if before.name != f"t{before.number}" else None
    if len(vectors) > len(before.vectors):  # what reads by the statements of before would miss fields
        name = f"t{before.number}_{len(vectors)}"
        connection.execute(f"ALTER TABLE {before.name} RENAME TO {name}")
    stored = StoredTable(table, before.number, forms, vectors, name, texts)
    _widen(connection, before, stored)
    return stored


def _create(
    connection: sqlite3.Connection,
    table: Table,
    forms: Sequence[tuple[str, ...]],
    vectors: Sequence[str],
    texts: Sequence[tuple[str, ...]],
) -> StoredTable:
    number = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM convexorm_tables").fetchone()[0]
    stored = StoredTable(table, number, forms, vectors, texts=texts)
    keys = "".join(f", k{place} BLOB" for place in range(len(forms)))
    packed = "".join(f", {column} BLOB" for column in stored.vectors.values())
    seq = ", seq INTEGER" if stored.counts_changes else ""
    connection.execute(f"CREATE TABLE {stored.name} (tick INTEGER PRIMARY KEY, id TEXT, body TEXT{keys}{seq}{packed})")
    connection.execute(
        "INSERT INTO convexorm_tables (number, name, indexes, vectors) VALUES (?, ?, ?, ?)",
        (number, table.name, *stored.entry[1:3]),
    )
    for place in range(len(forms)):
        _index(connection, stored, place)
    if stored.counts_changes:
        index_changes(connection, number, stored.name)
    for text in stored.texts.values():
        create_text(connection, text, stored.name)
    return stored


def _widen(connection: sqlite3.Connection, before: StoredTable, stored: StoredTable) -> None:
    """Give a table further key columns and packed fields, and fill them for the rows there are."""
    new = range(len(before.forms), len(stored.forms))
    for place in new:
        connection.execute(f"ALTER TABLE {stored.name} ADD COLUMN k{place} BLOB")
    if stored.counts_changes and not before.counts_changes:
        connection.execute(f"ALTER TABLE {stored.name} ADD COLUMN seq INTEGER")
        index_changes(connection, stored.number, stored.name)
    for name in list(stored.vectors)[len(before.vectors) :]:
        connection.execute(f"ALTER TABLE {stored.name} ADD COLUMN {stored.vectors[name]} BLOB")
    if len(stored.vectors) > len(before.vectors):
        seq = stored.count_change(connection)
        values = lambda document: stored.row(document, stored.keys(document), seq, declared=False)  # noqa: E731
        _rewrite(connection, before, stored.name, stored.update(), values)
    elif new:
        keys = [document_key(stored.forms[place]) for place in new]
        columns = ", ".join(f"k{place} = ?" for place in new)
        statement = f"UPDATE {stored.name} SET {columns} WHERE tick = ?"
        _rewrite(connection, before, stored.name, statement, lambda document: [key(document) for key in keys])
    connection.execute(
        "UPDATE convexorm_tables SET indexes = ?, vectors = ? WHERE number = ?", (*stored.entry[1:3], stored.number)
    )
    for place in new:
        _index(connection, stored, place)
    for text in list(stored.texts.values())[len(before.texts) :]:
        create_text(connection, text, stored.name)
        for some in _documents(connection, stored, stored.name):
            text.put(connection, some)


def _rewrite(
    connection: sqlite3.Connection,
    before: StoredTable,
    name: str,
    statement: str,
    values: Callable[[Document], Sequence[object]],
) -> None:
    """Execute a statement for every document of the table, which has this name now, with its values and its tick."""
    for some in _documents(connection, before, name):
        connection.executemany(statement, [(*values(document), tick) for tick, document in some])


def _documents(connection: sqlite3.Connection, stored: StoredTable, name: str) -> Iterator[list[tuple[int, Document]]]:
    """The documents of a table with their ticks, some at a time."""
    last = -1
    while rows := connection.execute(
        f"SELECT {stored.select} FROM {name} WHERE tick > ? ORDER BY tick LIMIT {_STEP}", (last,)
    ).fetchall():
        ticks = [row[0] for row in rows]
        if any(type(tick) is not int or tick <= behind for behind, tick in zip([last, *ticks], ticks, strict=False)):
            raise damaged(stored.label, "its rows are out of order")  # which would go on for ever
        yield [(row[0], stored.fields(row)) for row in rows]
        last = ticks[-1]


def index_changes(connection: sqlite3.Connection, number: int, name: str) -> None:
    """Let the changes of a table, of this name in SQLite, be found by their numbers."""
    connection.execute(f"CREATE INDEX i{number}_seq ON {name} (seq)")


def _index(connection: sqlite3.Connection, stored: StoredTable, place: int) -> None:
    connection.execute(f"CREATE INDEX i{stored.number}_k{place} ON {stored.name} (k{place})")
