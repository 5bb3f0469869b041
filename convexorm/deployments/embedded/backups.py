"""Copies of a whole database, taken while others write: one file, complete or not there.

SQLite reads every row in one transaction and writes them to a file of another name, which takes its own name when all is on
the disk. A page that is damaged is found on the way.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from shutil import rmtree
from uuid import uuid4

from convexorm.deployments.embedded.connections import Connection, Pool
from convexorm.deployments.embedded.damage import failure, primary_code
from convexorm.deployments.embedded.descriptors import Descriptor
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


CopyFiles = Callable[[str, str], None]
"""Copies the files that a copied database, at the first path, has ids of into a folder, if there are any. FileNotFoundError
for one that was deleted since the database was copied.
"""
_ATTEMPTS = 8
"""How often a backup is begun whose files are deleted while they are copied."""


def back_up(pool: Pool, path: str | os.PathLike[str], decision: Decision, copy_files: CopyFiles) -> None:
    """Write what the database holds to `path`, and its files to a folder beside that. Raises DeploymentError if one of the
    two is there, or cannot be written.
    """
    target = absolute(path)
    for there in (target, f"{target}-files"):
        if os.path.lexists(there):
            raise DeploymentError(f"there is a {there} already; a backup overwrites nothing")
    partial_ = f"{target}.{uuid4().hex[:8]}.partial"
    problem = None
    try:
        try:
            _copy(pool, partial_, copy_files)
            if decision.keep():
                _sync(partial_)
                _name_both(partial_, target)
        finally:
            _remove(partial_)
            rmtree(f"{partial_}-files", ignore_errors=True)
    except OSError as error:
        problem = DeploymentError(f"the backup {target} cannot be written: {error.strerror or 'the disk failed'}")
    except BaseException:  # an interrupt may have come between
        _remove(partial_)
        rmtree(f"{partial_}-files", ignore_errors=True)
        raise
    if problem is not None:
        raise problem


def _copy(pool: Pool, path: str, copy_files: CopyFiles) -> None:
    """The database, with all files that it has ids of."""
    for _ in range(_ATTEMPTS):
        pool.run(partial(_write, path))
        try:
            copy_files(path, f"{path}-files")
            return
        except FileNotFoundError:
            rmtree(f"{path}-files", ignore_errors=True)
    raise DeploymentError("the backup cannot be made: files of the deployment are missing, or go on being deleted")


def _name_both(partial_: str, target: str) -> None:
    """Give the files their name, then the database, which says that all is there."""
    files = os.path.isdir(f"{partial_}-files")
    if files:
        os.rename(f"{partial_}-files", f"{target}-files")
    try:
        _name(partial_, target)
    except BaseException:
        if files and not os.path.lexists(target):
            os.rename(f"{target}-files", f"{partial_}-files")
        raise


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
    with Descriptor(path, os.O_RDONLY) as file:
        os.fsync(file)


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
