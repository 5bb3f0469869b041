"""The ledger: what was answered to lasting commits, and which of them have been withdrawn, by their ids, for an hour.

Everything here happens in the transaction of whoever asks. The table is one tree, ordered by the ids; those that a session
gives begin with the time, so that an entry is written where the last one was. Beside every few commits some entries are
looked at, round and round, to forget those of more than an hour ago.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

import msgspec

from convexorm.deployments.embedded.damage import decoded
from convexorm.deployments.embedded.keys import id_tick, time_of
from convexorm.errors import InvalidRequestError
from convexorm.requests import Applied, Commit, DeletedRange, Gone, Written
from convexorm.values import dumps, loads

__all__ = ["COMMIT_RETENTION", "Ledger", "Remembered", "withdrawn"]

COMMIT_RETENTION = 3600
"""Seconds for which a commit's answer is remembered."""
_WITHDRAWN = "null"
_EVERY = 16
"""Commits from one look at what may be forgotten to the next."""
_LOOKED_AT = 64
"""Entries that are looked at each time: more than were added since, so that all have their turn."""


class Remembered(Exception):
    """There is an answer to this commit already, or it has been withdrawn."""


class Ledger:
    """The ledger as one process keeps it."""

    def __init__(self) -> None:
        self._commits = 0
        self._last = ""

    def recall(self, connection: sqlite3.Connection, commit: Commit) -> list[Applied] | None:
        """What was answered to a commit; None if it is new. Raises InvalidRequestError for one that was withdrawn."""
        answer = _entry(connection, commit)
        if answer == _WITHDRAWN:
            raise withdrawn()
        return None if answer is None else decoded("convexorm_commits", _loads, answer)

    def remember(self, connection: sqlite3.Connection, commit: Commit, results: Sequence[Applied]) -> None:
        """Keep the answer to a commit. Raises Remembered if there is one already."""
        try:
            self._enter(connection, commit, _dumps(results))
        except sqlite3.IntegrityError:
            raise Remembered from None

    def withdraw(self, connection: sqlite3.Connection, commit: Commit) -> list[Applied] | None:
        """The answer to a commit that was applied; else None, and it will not be applied when it arrives."""
        answer = _entry(connection, commit)
        if answer is None:
            self._enter(connection, commit, _WITHDRAWN)
        return None if answer in (None, _WITHDRAWN) else decoded("convexorm_commits", _loads, answer)

    def _enter(self, connection: sqlite3.Connection, commit: Commit, answer: str) -> None:
        now = time.time()
        connection.execute("INSERT INTO convexorm_commits VALUES (?, ?, ?)", (commit.id, now, answer))
        if self._commits % _EVERY == 0:
            self._forget(connection, now - COMMIT_RETENTION)
        self._commits += 1

    def _forget(self, connection: sqlite3.Connection, before: float) -> None:
        """Look at the next entries, and forget those that are older."""
        rows = connection.execute(
            "SELECT id, at FROM convexorm_commits WHERE id > ? ORDER BY id LIMIT ?", (self._last, _LOOKED_AT)
        ).fetchall()
        old = [(id_,) for id_, at in rows if at < before]
        if old:
            connection.executemany("DELETE FROM convexorm_commits WHERE id = ?", old)
        self._last = rows[-1][0] if len(rows) == _LOOKED_AT else ""


def withdrawn() -> InvalidRequestError:
    """The error of a commit that arrives after it was withdrawn."""
    return InvalidRequestError("this commit has been withdrawn; nothing of it is written")


def _entry(connection: sqlite3.Connection, commit: Commit) -> str | None:
    row = connection.execute("SELECT answer FROM convexorm_commits WHERE id = ?", (commit.id,)).fetchone()
    return None if row is None else row[0]


def _dumps(results: Sequence[Applied]) -> str:
    """The answers as JSON; of a new document its `_id`, which begins with its time."""
    return msgspec.json.encode([one.id if type(one) is Written and one.created else _told(one) for one in results]).decode()


def _told(one: Applied) -> object:
    if isinstance(one, Written):
        identity = [dumps(dict(one.identity))] if one.identity else []
        return [one.id, one.creation_time, False, *identity]
    if isinstance(one, DeletedRange):
        told = [[[gone.table, gone.field, gone.ids] for gone in one.gone]] if one.gone else []
        return [one.deleted, one.more, *told]
    return one


def _loads(answer: str) -> list[Applied]:
    return [_result(one) for one in msgspec.json.decode(answer)]


def _result(one: object) -> Applied:
    if isinstance(one, bool):
        return one
    if isinstance(one, str):
        tick = id_tick(one)
        if tick is None:
            raise ValueError
        return Written(one, time_of(tick))
    assert isinstance(one, list)
    if isinstance(one[0], int):
        deleted, more, *told = one
        return DeletedRange(deleted, more, tuple(Gone(*gone) for gone in told[0]) if told else ())
    id_, time_, created, *identity = one
    return Written(id_, time_, created, *map(loads, identity))
