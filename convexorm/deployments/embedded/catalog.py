"""The catalog: which tables a database holds, as one transaction finds them.

A catalog is a picture that never changes, of one state of SQLite's own tables, which SQLite counts (`schema_version`). Each
transaction compares that number with the picture at hand, and looks again where it differs: so none works by the columns
of another moment, whoever has added some. A picture with tables that a transaction adds is kept only once it is committed.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from convexorm.deployments.embedded.damage import decoded
from convexorm.deployments.embedded.tables import StoredTable, ensure_table
from convexorm.deployments.embedded.written import is_kept
from convexorm.schema import Table

__all__ = ["Catalog", "look"]

_Row: TypeAlias = tuple[Any, ...]
"""Number, indexes and vectors of a table as the catalog's row holds them, and its texts."""


class Catalog:
    """The tables there are at one `schema_version`."""

    def __init__(
        self, version: int, rows: Mapping[str, _Row], known: Mapping[str, StoredTable], *, watched: bool = False
    ) -> None:
        self.version = version
        self.watched = watched
        """Whether commits leave what they write."""
        self._rows = rows
        self._known = {name: stored for name, stored in known.items() if rows.get(name) == stored.entry}

    def table(self, table: Table) -> StoredTable | None:
        """A table as it is stored, whatever of it is there; None if nothing is."""
        stored = self._known.get(table.name)
        if stored is not None and stored.table is table:
            return stored
        row = self._rows.get(table.name)
        if row is None:
            return None
        stored = self._known[table.name] = decoded(table.name, _stored, table, row)
        return stored

    def known(self, table: Table) -> StoredTable | None:
        """A table as it is stored, if this very picture knows it for this very declaration already."""
        stored = self._known.get(table.name)
        return stored if stored is not None and stored.table is table else None

    def ensured(self, connection: sqlite3.Connection, tables: Iterable[Table]) -> tuple[Catalog, dict[int, StoredTable]]:
        """The catalog with all that these tables declare, created in the open transaction where need be; and each as it is
        stored, by the id of that object.
        """
        found: dict[int, StoredTable] = {}
        for table in tables:
            stored = self._known.get(table.name)
            if stored is None or stored.table is not table:
                stored = self.table(table)
            if stored is None or not stored.complete:
                return self._widened(connection, tables)
            found[id(table)] = stored
        return self, found

    def _widened(self, connection: sqlite3.Connection, tables: Iterable[Table]) -> tuple[Catalog, dict[int, StoredTable]]:
        catalog = self
        for table in tables:
            stored = catalog.table(table)
            if stored is None or not stored.complete:
                made = ensure_table(connection, table, stored)
                rows = {**catalog._rows, table.name: made.entry}
                known = {**catalog._known, table.name: made}
                catalog = Catalog(_version(connection), rows, known, watched=catalog.watched)
        found = {id(table): stored for table in tables if (stored := catalog.table(table)) is not None}
        return catalog, found  # found at the end: a table may have got another name for what the next one says of it


def look(connection: sqlite3.Connection, before: Catalog | None) -> Catalog:
    """The catalog as the open transaction finds it: the one from before, if that is still so."""
    version: int = connection.execute(_VERSION).fetchone()[0]
    if before is not None and before.version == version:
        return before
    if _is_empty(connection):
        return Catalog(version, {}, {})
    rows = connection.execute("SELECT name, number, indexes, vectors FROM convexorm_tables").fetchall()
    texts = _texts(connection)
    tables = {name: (number, *row, texts.get(number, "[]")) for name, number, *row in rows}
    known = {} if before is None else before._known
    return Catalog(version, tables, known, watched=is_kept(connection))


def _texts(connection: sqlite3.Connection) -> dict[int, str]:
    """The texts of each table by its number; none in a file of an earlier format that can only be read."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'convexorm_texts'").fetchall():
        return {}
    forms: dict[int, list[str]] = {}
    for number, form in connection.execute("SELECT number, form FROM convexorm_texts ORDER BY number, place"):
        forms.setdefault(number, []).append(str(form))  # which a damaged file may have lost: it is read with its table
    return {number: f"[{', '.join(some)}]" for number, some in forms.items()}


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Whether this is a new file, which cannot be written."""
    stamped: bool = connection.execute("PRAGMA user_version").fetchone()[0]
    return not stamped and connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None


def _version(connection: sqlite3.Connection) -> int:
    """SQLite's own count of the changes of tables."""
    version: int = connection.execute(_VERSION).fetchone()[0]
    return version


_VERSION = "PRAGMA schema_version"


def _stored(table: Table, row: _Row) -> StoredTable:
    number, indexes, vectors, texts = row
    forms = json.loads(indexes)
    if isinstance(forms, dict):  # a file of the first format that cannot be written
        forms = list(forms.values())
    names, name = json.loads(vectors), None
    if isinstance(names, dict):
        name, names = names["table"], names["fields"]
        if not _RENAMED.fullmatch(name):
            raise ValueError
    words = [tuple(form) for form in json.loads(texts)]
    if not all(isinstance(one, str) for form in (*forms, names, *words) for one in form):
        raise TypeError
    return StoredTable(table, int(number), [tuple(form) for form in forms], names, name, words)


_RENAMED = re.compile(r"t\d+_\d+")
