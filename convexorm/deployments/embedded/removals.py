"""Deletions of ranges in one commit: their documents are found and looked at, as many as one commit may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from convexorm.conditions import Condition
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.damage import damaged
from convexorm.deployments.embedded.keys import id_tick, span_of, time_of
from convexorm.deployments.embedded.reads import select
from convexorm.deployments.embedded.rows import documents, stream
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.deployments.embedded.ties import Ties
from convexorm.deployments.filters import Predicate
from convexorm.errors import LimitExceeded
from convexorm.requests import (
    DELETED_BY_RANGE,
    MAX_DELETED_BY_RANGE,
    DeletedRange,
    DeleteRange,
    Document,
    Gone,
    Range,
    Read,
)
from convexorm.schema import Table
from convexorm.values import size_of

__all__ = ["Removals"]

_MAX_LOOKED_AT = 16_000
"""Documents one commit reads to delete by ranges."""
_MAX_BYTES = 6 << 20
"""Bytes of documents one commit reads to delete by ranges."""


class Rows(Protocol):
    """What the transaction does for them."""

    @property
    def ties(self) -> Ties:
        """What holds between the documents of the commit."""

    def stored(self, table: Table) -> StoredTable:
        """A table as it is stored."""

    def matcher(self, range: Range, condition: Condition | None) -> Predicate | None:
        """What tells which documents of a range fulfil a condition; None for all."""

    def uncount(self, table: Table, document: Document) -> None:
        """Counters count a document no more."""

    def remove(self, stored: StoredTable, ids: Sequence[str], ticks: Sequence[tuple[int]]) -> None:
        """Delete documents by their ids and ticks."""


class Removals(msgspec.Struct, eq=False):
    """The deletions of ranges of one commit, and what they have taken of what it may do."""

    _connection: Connection
    _rows: Rows
    _deleted: int = 0
    _looked_at: int = 0
    _bytes: int = 0

    @property
    def _spent(self) -> bool:
        """Whether they have done what they may do together."""
        return self._deleted >= MAX_DELETED_BY_RANGE or self._looked_at >= _MAX_LOOKED_AT or self._bytes >= _MAX_BYTES

    def delete(self, position: int, write: DeleteRange) -> DeletedRange:
        """Delete the documents of a range. Raises LimitExceeded where they are too many, and no limit was given."""
        if self._rows.ties.rules_of(write.table):
            return self._delete_tied(position, write)
        stored = self._rows.stored(write.table)
        matches = self._rows.matcher(write.range, write.filter)
        ticks: list[tuple[int]] = []
        ids: list[str] = []
        more = self._spent
        for part in () if more else write.range.parts:
            span = span_of(part, stored.columns.get(part.index, ""))
            cursor = self._connection.stream(select(stored, Read(part), span), span.parameters)
            for document in stream(cursor, stored.vectors, stored.label):
                if self._fits(document, matches):
                    tick = id_tick(document["_id"])
                    if tick is None or time_of(tick) != document["_creationTime"]:
                        raise damaged(stored.label)
                    ticks.append((tick,))
                    ids.append(document["_id"])
                    self._rows.uncount(write.table, document)
                    self._deleted += 1
                more = len(ticks) == write.limit or self._spent
                if more:
                    break
            cursor.close()
            if more:
                break
        _check_limited(write, more)
        self._rows.remove(stored, ids, ticks)
        gone = (Gone(write.table.name, None, tuple(ids)),) if write.tells and ids else ()
        return DeletedRange(len(ticks), more, gone)

    def _delete_tied(self, position: int, write: DeleteRange) -> DeletedRange:
        """The same, where deleting has consequences: one document after the other."""
        ties, matches = self._rows.ties, self._rows.matcher(write.range, write.filter)
        done = ties.done
        deleted = 0
        more = self._spent
        for document in () if more else self._documents(write):
            if self._fits(document, matches):
                removed = ties.remove(position, write.table, document)
                self._deleted += removed
                deleted += removed > 0
            more = deleted == write.limit or self._spent
            if more:
                break
        _check_limited(write, more)
        return DeletedRange(deleted, more, ties.gone(done) if write.tells else ())

    def _fits(self, document: Document, matches: Predicate | None) -> bool:
        """Whether a document, which is looked at now, is among those to delete."""
        self._looked_at += 1
        self._bytes += size_of(document)
        return matches is None or matches(document)

    def _documents(self, write: DeleteRange) -> list[Document]:
        """The documents of a range, as many as one commit may look at."""
        stored = self._rows.stored(write.table)
        found: list[Document] = []
        for part in write.range.parts:
            span = span_of(part, stored.columns.get(part.index, ""))
            rows = self._connection.execute(
                f"{select(stored, Read(part), span)} LIMIT ?", (*span.parameters, _MAX_LOOKED_AT + 1 - len(found))
            )
            found += documents(rows.fetchall(), stored.vectors, stored.label)
        return found


def _check_limited(write: DeleteRange, more: bool) -> None:
    if more and write.limit is None:
        raise LimitExceeded(DELETED_BY_RANGE, maximum=MAX_DELETED_BY_RANGE, table=write.table.name)
