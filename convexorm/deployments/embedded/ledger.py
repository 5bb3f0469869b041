"""The ledger: what was answered to commits, and which of them have been withdrawn, by their ids, for an hour.

Everything here happens in the transaction of whoever asks.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any, cast

from convexorm.deployments.embedded.damage import decoded
from convexorm.errors import InvalidRequestError
from convexorm.requests import Applied, Commit, DeletedRange, Written
from convexorm.values import dumps, loads

__all__ = ["COMMIT_RETENTION", "recall", "remember", "withdraw"]

COMMIT_RETENTION = 3600
"""Seconds for which a commit's answer is remembered."""
_WITHDRAWN = "null"


def recall(connection: sqlite3.Connection, commit: Commit) -> list[Applied] | None:
    """What was answered to a commit; None if it is new. Raises InvalidRequestError for one that was withdrawn."""
    answer = _entry(connection, commit)
    if answer == _WITHDRAWN:
        raise InvalidRequestError("this commit has been withdrawn; nothing of it is written")
    return None if answer is None else decoded("convexorm_commits", _loads, answer)


def remember(connection: sqlite3.Connection, commit: Commit, results: Sequence[Applied]) -> None:
    """Keep the answer to a commit, and forget those of an hour ago."""
    _enter(connection, commit, _dumps(results))


def withdraw(connection: sqlite3.Connection, commit: Commit) -> list[Applied] | None:
    """The answer to a commit that was applied; else None, and it will not be applied when it arrives."""
    answer = _entry(connection, commit)
    if answer is None:
        _enter(connection, commit, _WITHDRAWN)
    return None if answer in (None, _WITHDRAWN) else decoded("convexorm_commits", _loads, answer)


def _entry(connection: sqlite3.Connection, commit: Commit) -> str | None:
    row = connection.execute("SELECT answer FROM convexorm_commits WHERE id = ?", (commit.id,)).fetchone()
    return None if row is None else row[0]


def _enter(connection: sqlite3.Connection, commit: Commit, answer: str) -> None:
    now = time.time()
    connection.execute("INSERT INTO convexorm_commits VALUES (?, ?, ?)", (commit.id, now, answer))
    connection.execute("DELETE FROM convexorm_commits WHERE at < ?", (now - COMMIT_RETENTION,))


def _dumps(results: Sequence[Applied]) -> str:
    return dumps(
        [
            [one.id, one.creation_time, one.created, *([dict(one.identity)] if one.identity else [])]
            if isinstance(one, Written)
            else [one.deleted, one.more]
            if isinstance(one, DeletedRange)
            else one
            for one in results
        ]
    )


def _loads(answer: str) -> list[Applied]:
    return [
        one if isinstance(one, bool) else DeletedRange(int(one[0]), one[1]) if len(one) == 2 else Written(*one)
        for one in cast("list[Any]", loads(answer))
    ]
