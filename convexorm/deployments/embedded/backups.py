"""Copies of a whole database, taken while others write: one file, complete or not there.

SQLite reads every row in one transaction and writes them to a file of another name, which takes its own name when all is on
the disk. A page that is damaged is found on the way.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from functools import partial
from uuid import uuid4

from convexorm.deployments.embedded.connections import Connection, Pool
from convexorm.deployments.embedded.damage import failure, primary_code
from convexorm.deployments.embedded.paths import absolute
from convexorm.errors import DeploymentError

__all__ = ["Decision", "back_up"]


class Decision:
    """Whether a backup is wanted until it is complete, decided once by whoever comes first."""

    def __init__(self) -> None:
        self._made: dict[None, str] = {}

    def keep(self) -> bool:
        """Decide for it, unless it was decided otherwise."""
        return self._made.setdefault(None, "keep") == "keep"

    def drop(self) -> bool:
        """Decide against it, unless it was decided otherwise."""
        return self._made.setdefault(None, "drop") == "drop"


def back_up(pool: Pool, path: str | os.PathLike[str], decision: Decision) -> None:
    """Write what the database holds to `path`. Raises DeploymentError if that is there, or cannot be written."""
    target = absolute(path)
    if os.path.lexists(target):
        raise DeploymentError(f"there is a {target} already; a backup overwrites nothing")
    partial_ = f"{target}.{uuid4().hex[:8]}.partial"
    problem = None
    try:
        try:
            pool.run(partial(_write, partial_))
            if decision.keep():
                _sync(partial_)
                _name(partial_, target)
        finally:
            _remove(partial_)
    except OSError as error:
        problem = DeploymentError(f"the backup {target} cannot be written: {error.strerror or 'the disk failed'}")
    except BaseException:  # an interrupt may have come between
        _remove(partial_)
        raise
    if problem is not None:
        raise problem


def _write(path: str, connection: Connection) -> None:
    _remove(path)  # what an attempt that was kept from the file has begun
    failed: sqlite3.Error
    try:
        connection.execute("VACUUM INTO ?", (path,))
        return
    except sqlite3.Error as error:
        if primary_code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY):
            raise
        failed = error
    raise failure(f"the backup {path}", failed)


def _sync(path: str) -> None:
    """Have the file's contents on the disk before it gets its name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(path: str, target: str) -> None:
    """Give the file its name, which nobody else must have taken."""
    problem = None
    try:
        os.link(path, target)
    except FileExistsError:
        problem = f"there is a {target} already; a backup overwrites nothing"
    except OSError:  # a file system without links
        if os.path.lexists(target):
            problem = f"there is a {target} already; a backup overwrites nothing"
        else:
            os.rename(path, target)
    if problem is not None:
        raise DeploymentError(problem)


def _remove(path: str) -> None:
    for suffix in ("", "-journal"):
        with suppress(OSError):
            os.unlink(path + suffix)
