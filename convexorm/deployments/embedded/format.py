"""Which SQLite files are ours, of which format, and how those of earlier formats become today's.

A file says so itself: `application_id` and `user_version` stand in its first page. One without either that holds nothing
is new; one that holds anything but the tables of our first format, which had no stamp, belongs to somebody else.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable

from convexorm.deployments.embedded.damage import decoded
from convexorm.deployments.embedded.tables import index_changes
from convexorm.deployments.embedded.texts import keep_texts
from convexorm.errors import DeploymentError

__all__ = ["APPLICATION_ID", "FORMAT", "create", "format_of", "migrate"]

APPLICATION_ID = 0x43764F52
"""`CvOR`."""
FORMAT = 4
"""The format that is written.

0 had no stamp, and its catalog gave each index the key column of its place: `{name: fields}`. In 1 a key column is known by
its fields: `[fields, …]`. In 2 the ledger lies in one tree, and a table takes another name when more of its fields are
packed, so that no statement of a program that does not know it finds the table. In 3 there is an index on the numbers of
changes, and deletions are noted under theirs. In 4 there is a catalog of texts, whose words are kept.
"""
_TABLES = """
CREATE TABLE convexorm_tables (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, indexes TEXT NOT NULL, vectors TEXT NOT NULL,
    changes INTEGER NOT NULL DEFAULT 0)
"""
_LEDGER = "CREATE TABLE convexorm_commits (id TEXT PRIMARY KEY, at REAL NOT NULL, answer TEXT NOT NULL) WITHOUT ROWID"
_DELETIONS = """
CREATE TABLE convexorm_deletions (
    number INTEGER NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (number, seq, id)) WITHOUT ROWID
"""
_CATALOG = ["number", "name", "indexes", "vectors", "changes"]
_OURS = re.compile(r"convexorm_(tables|commits|commits_at)|sqlite_.*|t(\d+)|i(\d+)_k\d+")


def format_of(connection: sqlite3.Connection, place: str) -> int | None:
    """The format of a file, None if it is new. Raises DeploymentError for a later one, and for a file that is not ours."""
    if connection.in_transaction:
        return _format_of(connection, place)
    connection.execute("BEGIN")  # what it says of itself and what it holds are of one moment
    try:
        return _format_of(connection, place)
    finally:
        connection.rollback()


def _format_of(connection: sqlite3.Connection, place: str) -> int | None:
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application == APPLICATION_ID:
        if version > FORMAT:
            raise DeploymentError(
                f"SQLite at {place}: the file has format {version}, this version of convexorm knows formats "
                f"up to {FORMAT}; upgrade it: `pip install --upgrade convexorm`"
            )
        return int(version)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    if application == 0 and version == 0:
        if not names:
            return None
        if _is_unstamped(connection, names):
            return 0
    raise DeploymentError(f"SQLite at {place}: the file belongs to another application; it has been left as it was")


def _is_unstamped(connection: sqlite3.Connection, names: list[str]) -> bool:
    """Whether a file without a stamp holds the first format's tables and nothing else."""
    if [row[1] for row in connection.execute("PRAGMA table_info(convexorm_tables)")] != _CATALOG:
        return False
    numbers = {str(number) for (number,) in connection.execute("SELECT number FROM convexorm_tables")}
    matches = [_OURS.fullmatch(name) for name in names]
    return all(match is not None and {match[2], match[3]} - {None} <= numbers for match in matches)


def create(connection: sqlite3.Connection) -> None:
    """Make what every deployment has, in an open transaction or none."""
    connection.execute(_TABLES)
    connection.execute(_LEDGER)
    connection.execute(_DELETIONS)
    keep_texts(connection)
    _stamp(connection)


def migrate(connection: sqlite3.Connection, format: int) -> None:
    """Bring a file of an earlier format to today's, in an open transaction."""
    for migration in _MIGRATIONS[format:]:
        migration(connection)
    _stamp(connection)


def _stamp(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def _know_key_columns_by_fields(connection: sqlite3.Connection) -> None:
    for number, name, indexes in connection.execute("SELECT number, name, indexes FROM convexorm_tables").fetchall():
        fields = decoded(name, lambda text: list(json.loads(text).values()), indexes)
        connection.execute("UPDATE convexorm_tables SET indexes = ? WHERE number = ?", (json.dumps(fields), number))


def _keep_the_ledger_in_one_tree(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE convexorm_commits RENAME TO convexorm_commits_1")
    connection.execute(_LEDGER)
    connection.execute("INSERT INTO convexorm_commits SELECT id, at, answer FROM convexorm_commits_1")
    connection.execute("DROP TABLE convexorm_commits_1")


def _number_deletions(connection: sqlite3.Connection) -> None:
    connection.execute(_DELETIONS)
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
    for number, vectors in connection.execute("SELECT number, vectors FROM convexorm_tables").fetchall():
        for name in names:
            if vectors != "[]" and re.fullmatch(rf"t{number}(_\d+)?", name):
                index_changes(connection, number, name)


_MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _know_key_columns_by_fields,
    _keep_the_ledger_in_one_tree,
    _number_deletions,
    keep_texts,
)
"""From each format to the next."""
