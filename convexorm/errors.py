"""Every error this library raises, in one tree under `ConvexORMError`.

An error carries what failed as attributes and derives its message from them. Messages name tables, indexes, fields,
types and limits; they never repeat the contents of a document or an admin key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

__all__ = [
    "AuthError",
    "ConvexORMError",
    "DeploymentError",
    "FullTableScanError",
    "FunctionFailed",
    "FunctionNotFound",
    "IndexRangeError",
    "InvalidCursorError",
    "InvalidRequestError",
    "LimitExceeded",
    "MultipleResultsFound",
    "NoResultFound",
    "NotLoadedError",
    "StaleDataError",
    "ValidationError",
]


class Travelling(BaseException):
    """What exceptions have in common that travel between processes: they pickle and copy with all their attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args), self.__dict__


class ConvexORMError(Travelling, Exception):
    """The root of the tree. Errors travel between processes: they pickle and copy with all their attributes.

    `lost` says that the deployment may have done what was asked, or may do it yet: it was sent, and only the answer to that
    is not there, though another attempt may have had one.

    Where it is about one of several, `write` is the position of the write in the commit, `instance` the one it was for, and
    `row` the place of the row among those of a `bulk_upsert`.
    """

    lost: bool = False
    write: int | None = None
    instance: object | None = None
    row: int | None = None

    def of_row(self, row: int) -> None:
        """It is about this one of several rows."""
        self.row = row
        self.add_note(f"row {row} of those given, the first being row 0")


def _rebuilt(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An error as it was, but for its attributes. Its class is not called: it takes other arguments than its message."""
    error = cls.__new__(cls, *args)
    error.args = args  # an OSError leaves them to its __init__
    return error


class ValidationError(ConvexORMError, ValueError):
    """A value or a document that Convex, or the declared model, cannot hold.

    `table` and `field` say where, as far as that is known, `path` where inside the field's value, as Python would write it
    (`[1].tags["x"]`), `document_id` which stored document it is; `problem` says what was given and what would be
    right.
    """

    def __init__(
        self,
        problem: str,
        *,
        table: str | None = None,
        field: str | None = None,
        path: str = "",
        document_id: str | None = None,
    ) -> None:
        self.problem = problem
        self.table = table
        self.field = field
        self.path = path
        self.document_id = document_id
        place = ".".join(part for part in (table, field) if part) + path
        place += "" if document_id is None else f" of document {document_id}"
        super().__init__(f"{place}: {problem}" if place else problem)

    def of(self, id: object) -> ValidationError:
        """The same, about the stored document with this `_id`."""
        known = id if isinstance(id, str) else None
        return ValidationError(self.problem, table=self.table, field=self.field, path=self.path, document_id=known)


class InvalidCursorError(ValidationError):
    """A page cursor that was not issued for this query, or not by this library."""


class InvalidRequestError(ConvexORMError):
    """What was asked for is not allowed: by a session's state, such as refreshing an instance it does not hold, or by what
    it was given, such as the URL of a deployment in its place.
    """


class IndexRangeError(ConvexORMError):
    """The conditions given do not form a range of the index.

    A range is equalities on the first fields of the index, in index order, then at most one lower and one upper bound on
    the next field.
    """

    def __init__(self, problem: str, *, table: str, index: str, fields: Sequence[str] = ()) -> None:
        self.problem = problem
        self.table = table
        self.index = index
        self.fields = tuple(fields)
        declared = f" ({', '.join(self.fields)})" if self.fields else ""
        super().__init__(f"index {index!r}{declared} of table {table!r}: {problem}")


class FullTableScanError(ConvexORMError):
    """A query that no declared index covers, or gives the order of, was executed without `.full_scan()`.

    `order` are the fields it was to be ordered by, `would` those of an index that would give this order, if one can.
    """

    def __init__(
        self,
        *,
        table: str,
        conditions: Sequence[str] = (),
        indexes: Sequence[str] = (),
        order: Sequence[str] = (),
        would: Sequence[str] = (),
    ) -> None:
        self.table = table
        self.conditions = tuple(conditions)
        self.indexes = tuple(indexes)
        self.order = tuple(order)
        self.would = tuple(would)
        declared = f"(declared: {', '.join(self.indexes) or 'none'})"
        if order:
            index = f"; one on ({', '.join(self.would)}) would" if would else ", and none can that goes up and down at once"
            super().__init__(
                f"table {table!r}: no index gives the order by {', '.join(self.order)} for these conditions "
                f"{declared}{index}. Declare an index, or say .full_scan() to read all of it and sort it where it is."
            )
            return
        what = f"the conditions on {', '.join(self.conditions)}" if self.conditions else "a query without conditions"
        super().__init__(
            f"table {table!r}: no index covers {what} {declared}. "
            "Use by_index(...), declare an index, or say .full_scan() to read the whole table."
        )


class NoResultFound(ConvexORMError):
    """One document was required and there is none."""


class MultipleResultsFound(ConvexORMError):
    """At most one document was expected and there are more."""


class StaleDataError(ConvexORMError):
    """What a write expected to find is no longer so; nothing of the commit was applied.

    `reason` is `missing` (the document is gone, or what its `fields` refer to is not there), `changed` (another writer
    changed `fields`) or `exists` (another document has the primary key, or the key in a unique index, whose fields are
    `fields`; or there are documents of a `relation` that forbids to delete the one they refer to).
    """

    _REASONS: ClassVar[dict[str, str]] = {
        "missing": "the document is gone",
        "changed": "another writer changed it",
        "exists": "a document with this key exists already",
    }

    def __init__(
        self,
        *,
        table: str,
        reason: Literal["missing", "changed", "exists"],
        write: int | None = None,
        fields: Sequence[str] = (),
        relation: str | None = None,
    ) -> None:
        self.table = table
        self.reason = reason
        self.write = write
        self.fields = tuple(fields)
        self.relation = relation
        where = "" if write is None else f" (write {write} of the commit)"
        which = f": {', '.join(self.fields)}" if self.fields else ""
        why = f"{self._REASONS[reason]}{which}"
        if relation is not None:
            why = f"there are documents of {relation}, which forbids to delete what they refer to"
        elif reason == "missing" and self.fields:
            why = f"what it refers to is not there: {', '.join(self.fields)}"
        super().__init__(f"table {table!r}{where}: {why}; nothing was written")


class NotLoadedError(ConvexORMError):
    """A relation was touched that was not loaded: nothing is read behind one's back. `relation` is the one to load."""

    def __init__(self, relation: str) -> None:
        self.relation = relation
        super().__init__(
            f"{relation} is not loaded; say .load({relation}) in the query, or session.load(instance, {relation})"
        )


class LimitExceeded(ConvexORMError):
    """A request is over a limit of Convex. `limit` names it, `maximum` and `actual` are in its unit."""

    def __init__(self, limit: str, *, maximum: int, actual: int | None = None, table: str | None = None) -> None:
        self.limit = limit
        self.maximum = maximum
        self.actual = actual
        self.table = table
        where = f"table {table!r}: " if table else ""
        given = "" if actual is None else f", got {actual:,}"
        super().__init__(f"{where}{limit}: at most {maximum:,}{given}")


class AuthError(ConvexORMError):
    """The deployment refused the admin key, or none was given. The key itself is never shown."""


class DeploymentError(ConvexORMError):
    """The deployment could not answer: unreachable, timed out, without the functions, or speaking another version."""


class FunctionFailed(DeploymentError):
    """A function of the deployment threw. `text` is what Convex says of it, which in production is next to nothing.

    `data` is that of a `ConvexError`, which is always told; None for any other error. `too_much` is True of a function of
    this library that failed with no error of its own, as at what takes too long or too much memory: less at a time may do.
    """

    too_much: bool = False

    def __init__(self, problem: str, *, function: str, text: str = "", data: object = None) -> None:
        self.function = function
        self.text = text
        self.data = data
        super().__init__(problem)


class FunctionNotFound(DeploymentError):
    """The deployment has no function of this path, or not for this caller. `function` is the path."""

    def __init__(self, problem: str, *, function: str) -> None:
        self.function = function
        super().__init__(problem)
