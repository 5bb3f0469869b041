"""What has changed in a table since a moment: the rows with a later change number, and what was deleted since.

A table that numbers its changes has an index on them, and each document that is deleted from it leaves its `_id` under the
number of that change. So what has changed is found without looking at the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.keys import Span
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.requests import ReadResult, version_of

__all__ = ["KEPT", "changes_since", "note_deletions"]

KEPT = 10_000
"""Changes of a table, after which a deletion is forgotten: who is further behind reads everything again."""


def changes_since(connection: Connection, stored: StoredTable, digest: str, span: Span) -> ReadResult | None:
    """The digests of what has changed in a range since its digest was this one, and what is gone; None if nobody knows."""
    name, _, number = (version_of(digest) or "").partition(":")
    if name != stored.name or not number.isdigit() or not _is_noted(connection):
        return None
    since, now = int(number), stored.changes(connection)
    if not now - KEPT < since <= now:
        return None
    # `+` keeps SQLite from going through all rows in the order asked for, instead of through the changed ones
    rows = connection.execute(
        f"SELECT id, seq, {span.where} FROM {stored.name} WHERE seq > ? ORDER BY +tick", (*span.parameters, since)
    ).fetchall()
    deleted = connection.execute("SELECT id FROM convexorm_deletions WHERE number = ? AND seq > ?", (stored.number, since))
    gone = {id_ for id_, _, within in rows if not within} | {id_ for (id_,) in deleted.fetchall()}
    digests = {id_: str(seq) for id_, seq, within in rows if within}
    return ReadResult((), 0, 0, False, digests=digests, gone=frozenset(gone))


def _is_noted(connection: Connection) -> bool:
    """Whether deletions are noted: not in a file of an earlier format that can only be read."""
    return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'convexorm_deletions'").fetchall())


def note_deletions(connection: sqlite3.Connection, stored: StoredTable, seq: int, ids: Iterable[str]) -> None:
    """Keep the ids of deleted documents under the number of this change, and forget those of long ago."""
    connection.executemany(
        "INSERT OR IGNORE INTO convexorm_deletions (number, seq, id) VALUES (?, ?, ?)",
        [(stored.number, seq, id_) for id_ in ids],
    )
    connection.execute("DELETE FROM convexorm_deletions WHERE number = ? AND seq <= ?", (stored.number, seq - KEPT))
