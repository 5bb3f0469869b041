"""What tests of the embedded deployment share: a table, ways to write and read it, and children that say how they ended."""

from __future__ import annotations

import faulthandler
import os
import sqlite3
import traceback
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from convexorm import Deployment
from convexorm.faces import finish
from convexorm.requests import Commit, Insert, Range, Read
from convexorm.schema import AnyValue, IndexDef, Property, Table
from convexorm.values import Value

__all__ = ["ROWS", "add", "in_child", "intact", "names"]

_CHILD_SECONDS = 60
"""After which a child that hangs says where, and fails."""
ROWS = Table("rows", {"name": Property(AnyValue(), optional=True)}, (IndexDef("by_name", ("name",)),))


def add(deployment: Deployment, *values: Value, id: str | None = None) -> None:
    """Commit a row for each value."""
    commit = Commit(id or uuid4().hex, [Insert(ROWS, {"name": value}) for value in values])
    finish(deployment.blocking.commit(commit))


def names(deployment: Deployment) -> list[Value]:
    """The names of all rows, in order."""
    (result,) = finish(deployment.blocking.read([Read(Range(ROWS, "by_name"))]))
    return [document["name"] for document in result.docs]


def in_child(work: Callable[[], object]) -> Callable[[], None]:
    """Run `work` in a forked child; the function that waits for it, and fails if the child did."""
    child = os.fork()
    if child == 0:
        status = 1
        faulthandler.dump_traceback_later(_CHILD_SECONDS, exit=True, file=2)
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def wait() -> None:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    return wait


def intact(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a file."""
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        connection.close()
