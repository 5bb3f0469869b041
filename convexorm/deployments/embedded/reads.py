"""Answers one read: documents, counts, digests, or one field of all documents as a matrix."""

from __future__ import annotations

import attrs

from convexorm.deployments.documents import document_digest, packed
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.keys import Span, span_of
from convexorm.deployments.embedded.rows import documents, stream
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.deployments.filters import Predicate, compile_filter
from convexorm.requests import Document, Read, ReadResult, version_digest, whole_digest

__all__ = ["answer", "select"]


def select(stored: StoredTable, read: Read, span: Span, columns: str | None = None) -> str:
    """The statement for a read's rows, in index order."""
    key = stored.columns.get(read.range.index)
    keys = "tick" if key is None else f"{key} {read.order}, tick"
    return f"SELECT {columns or stored.select} FROM {stored.name} WHERE {span.where} ORDER BY {keys} {read.order}"


def answer(connection: Connection, stored: StoredTable, read: Read) -> ReadResult:
    """The whole answer to a read but for its edges: an embedded deployment has no budget to stop at."""
    if read.limit == 0 and not read.peek and read.pack is None and read.digest is None:
        return ReadResult((), 0, 0, False)
    span = span_of(read.range, stored.columns.get(read.range.index, ""), read.after, read.order)
    if read.digest is not None:
        return _digest(connection, stored, read, span)
    if read.pack is not None and read.filter is None and read.pack.field in stored.vectors:
        from convexorm.deployments.embedded.matrices import matrix_of  # numpy takes long to import

        return matrix_of(connection, stored, read, span, read.pack)
    if read.pack is not None:
        return packed(_plain(connection, stored, attrs.evolve(read, pack=None), span), read.pack)
    return _plain(connection, stored, read, span)


def _plain(connection: Connection, stored: StoredTable, read: Read, span: Span) -> ReadResult:
    if read.filter is not None:
        return _filtered(connection, stored, read, span, compile_filter(read.filter))
    if read.count:
        return _counted(connection, stored, read, span)
    rows = connection.execute(
        f"{select(stored, read, span)} LIMIT ? OFFSET ?", (*span.parameters, wanted_of(read), read.skip)
    ).fetchall()
    more = read.peek and read.limit is not None and len(rows) > read.limit
    skipped = read.skip if rows or not read.skip else _passed(connection, stored, read, span)
    found = documents(rows[:-1] if more else rows, stored.vectors, stored.label)
    return ReadResult(found, len(found), skipped, more)


def wanted_of(read: Read) -> int:
    """Rows to fetch: -1 for all."""
    return -1 if read.limit is None else read.limit + read.peek


def _counted(connection: Connection, stored: StoredTable, read: Read, span: Span) -> ReadResult:
    reached = -1 if read.limit is None else wanted_of(read) + read.skip
    matches = count_of(connection, stored, span, reached)
    skipped = min(read.skip, matches)
    count = matches - skipped
    more = read.peek and read.limit is not None and count > read.limit
    return ReadResult((), count - more, skipped, more)


def _passed(connection: Connection, stored: StoredTable, read: Read, span: Span) -> int:
    """How many documents there were to pass over, where none was left behind them."""
    return count_of(connection, stored, span, read.skip)


def count_of(connection: Connection, stored: StoredTable, span: Span, limit: int) -> int:
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {stored.name} WHERE {span.where} LIMIT ?)"
    counted: int = connection.execute(sql, (*span.parameters, limit)).fetchone()[0]
    return counted


def _filtered(connection: Connection, stored: StoredTable, read: Read, span: Span, matches: Predicate) -> ReadResult:
    cursor = connection.stream(select(stored, read, span), span.parameters)
    found: list[Document] = []
    skipped = count = 0
    more = False
    for document in stream(cursor, stored.vectors, stored.label):
        if read.limit is not None and count >= read.limit and not read.peek:
            break
        if not matches(document):
            continue
        if skipped < read.skip:
            skipped += 1
        elif read.limit is not None and count >= read.limit:
            more = True
            break
        else:
            count += 1
            if not read.count:
                found.append(document)
    cursor.close()
    return ReadResult(found, count, skipped, more)


# -- digests -------------------------------------------------------------------------------------------------------


def _digest(connection: Connection, stored: StoredTable, read: Read, span: Span) -> ReadResult:
    """Where the table numbers its changes, these are the digests; else they are made of the documents."""
    if read.digest == "all" and stored.counts_changes:
        version = f"{stored.name}:{stored.changes(connection)}"
        return ReadResult((), 0, 0, False, digests={"": version_digest(version)})
    if stored.counts_changes and read.filter is None:
        rows = connection.execute(
            f"{select(stored, read, span, 'id, seq')} LIMIT ? OFFSET ?", (*span.parameters, wanted_of(read), read.skip)
        ).fetchall()
        digests = {id_: str(seq) for id_, seq in rows}
    else:
        found = _plain(connection, stored, attrs.evolve(read, digest=None), span).docs
        digests = {one["_id"]: document_digest(one) for one in found}
    if read.digest == "all":
        digests = {"": whole_digest(digests)}
    return ReadResult((), 0, 0, False, digests=digests)
