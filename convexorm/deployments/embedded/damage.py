"""What is said of SQLite's failures and of stored data that cannot be read: where it is, never what it holds.

SQLite's own messages, and those of whatever reads stored text, may repeat a row. They are neither shown nor kept as the
cause of the error that is raised.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from convexorm.errors import DeploymentError

__all__ = ["damaged", "decoded", "failure", "has_room", "is_busy", "primary_code"]

T = TypeVar("T")

_ROOM = 200
"""Frames that are more than enough for whatever Convex can hold."""
_DAMAGED = "the file is damaged"
_TEXTS: dict[int, str] = {
    sqlite3.SQLITE_ERROR: f"what the catalog names is not there; {_DAMAGED}",
    sqlite3.SQLITE_PERM: "access denied",
    sqlite3.SQLITE_BUSY: "the database is locked by others",
    sqlite3.SQLITE_LOCKED: "the database is locked",
    sqlite3.SQLITE_NOMEM: "out of memory",
    sqlite3.SQLITE_READONLY: "the file cannot be written",
    sqlite3.SQLITE_INTERRUPT: "interrupted",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "unable to open the file, or one beside it",
    sqlite3.SQLITE_TOOBIG: "a row is too big",
    sqlite3.SQLITE_CONSTRAINT: f"rows contradict each other; {_DAMAGED}",
    sqlite3.SQLITE_MISMATCH: f"a row is of another shape; {_DAMAGED}",
    sqlite3.SQLITE_NOTADB: "the file is not a database",
}


def primary_code(error: Exception) -> int | None:
    """SQLite's code of the failure, without its finer distinctions; None for what Python's module says itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_busy(error: Exception) -> bool:
    """Whether somebody else was at the file, so that what was tried had no effect and can be tried again."""
    return primary_code(error) == sqlite3.SQLITE_BUSY


def failure(place: str, error: Exception, tables: Sequence[str] = ()) -> DeploymentError:
    """The error to raise for a failure of SQLite in a request about these tables.

    Python's module fails with a UnicodeDecodeError where SQLite's own message repeats bytes that are no text.
    """
    code = primary_code(error)
    if isinstance(error, RecursionError):
        text = "what is stored or asked for is nested too deeply to be read"
    elif code is not None:
        text = f"{_TEXTS.get(code, 'SQLite failed')} ({getattr(error, 'sqlite_errorname', 'SQLITE_ERROR')})"
    elif isinstance(error, sqlite3.ProgrammingError):
        text = "the connection is closed"
    else:
        text = f"a stored text is none; {_DAMAGED}"
    about = f", {'table' if len(tables) == 1 else 'tables'} {', '.join(map(repr, tables))}" if tables else ""
    return DeploymentError(f"SQLite at {place}{about}: {text}")


def damaged(table: str, what: str = "a stored document cannot be read") -> DeploymentError:
    """The error to raise where stored data is not what was written."""
    return DeploymentError(f"SQLite, table {table!r}: {what}; {_DAMAGED}")


def decoded(table: str, decode: Callable[..., T], *arguments: Any) -> T:
    """What `decode` makes of stored data. Any failure is the data's, and is raised without its cause."""
    try:
        return decode(*arguments)
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, RecursionError) and not has_room():
            raise
        problem = damaged(table)
    raise problem  # inside of the except clause it would keep its cause, which may show the data


def has_room() -> bool:
    """Whether the caller has left enough of the stack: then it is data, nested too deeply, that has used up the rest."""
    frame, room = sys._getframe(), sys.getrecursionlimit()
    while frame.f_back is not None:
        frame, room = frame.f_back, room - 1
    return room >= _ROOM
