"""Answers one read: documents, counts, digests, or one field of all documents as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from msgspec.structs import replace

from convexorm.deployments.documents import document_digest, packed
from convexorm.deployments.embedded.changes import changes_since
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.keys import BEHIND, Span, span_of
from convexorm.deployments.embedded.rows import ANSWERING, documents, stream, unparsed
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.deployments.filters import Predicate, compile_filter
from convexorm.late import need
from convexorm.requests import (
    Document,
    KeyValue,
    Range,
    Read,
    ReadResult,
    check_reads,
    says_no_more,
    version_digest,
    whole_digest,
)
from convexorm.requests.rows import Rows
from convexorm.values import canonical

__all__ = ["answer", "first_rows", "is_prefix", "of_prefix", "of_span", "select"]


def select(stored: StoredTable, read: Read, span: Span, columns: str | None = None) -> str:
    """The statement for a read's rows, in index order."""
    key = stored.columns.get(read.range.index)
    keys = "tick" if key is None else f"{key} {read.order}, tick"
    return f"SELECT {columns or stored.select} FROM {stored.name} WHERE {span.where} ORDER BY {keys} {read.order}"


def answer(connection: Connection, stored: StoredTable, read: Read) -> ReadResult:
    """The whole answer to a read but for its edges: an embedded deployment has no budget to stop at."""
    if is_prefix(read):
        return of_prefix(connection, stored, read)
    if read.limit == 0 and not read.peek and read.pack is None and read.digest is None:
        return ReadResult((), 0, 0, False)
    span = span_of(read.range, stored.columns.get(read.range.index, ""), read.after, read.order)
    if read.digest is not None:
        return _digest(connection, stored, read, span)
    if read.pack is not None and read.filter is None and read.pack.field in stored.vectors:
        need("numpy")
        from convexorm.deployments.embedded.matrices import matrix_of  # numpy takes long to import

        return matrix_of(connection, stored, read, span, read.pack)
    if read.pack is not None:
        return packed(of_span(connection, stored, replace(read, pack=None), span), read.pack)
    return of_span(connection, stored, read, span)


def is_prefix(read: Read) -> bool:
    """Whether a read is of the commonest kind: the first so many documents of those whose keys begin with some values."""
    return read.filter is None and bool(read.limit) and says_no_more(read)


def of_prefix(connection: Connection, stored: StoredTable, read: Read) -> ReadResult:
    """The answer to such a read."""
    range_, limit = read.range, read.limit or 0
    eq = range_.eq
    known = stored.prefixes.get((range_.index, len(eq), read.order))
    if known is None:
        check_reads((read,))
        rows = first_rows(connection, stored, range_, limit, read.order)
    else:
        rows = _rows_of(connection, known, eq, limit)
    if stored.vectors or ANSWERING.known is not None:
        return ReadResult(documents(rows, stored.vectors, stored.label), len(rows), 0, False)
    return ReadResult(Rows(rows, stored.parse), len(rows), 0, False)


def first_rows(
    connection: Connection, stored: StoredTable, range: Range, limit: int, order: Literal["asc", "desc"] = "asc"
) -> list[Any]:
    """The first rows of a range that only has equalities; the statement is the same for all their values."""
    eq = range.eq
    known = stored.prefixes.get((range.index, len(eq), order))
    if known is not None:
        return _rows_of(connection, known, eq, limit)
    span = span_of(range, stored.columns.get(range.index, ""))
    statement = f"{select(stored, Read(range, order=order), span)} LIMIT ?"
    fields = len(stored.indexes.get(range.index, ()))
    if 0 < len(eq) <= fields:
        stored.prefixes[range.index, len(eq), order] = statement, len(eq) == fields
    return connection.execute(statement, (*span.parameters, limit)).fetchall()


def _rows_of(connection: Connection, known: tuple[str, bool], eq: KeyValue, limit: int) -> list[Any]:
    statement, whole = known
    key = canonical(eq[0]) if len(eq) == 1 else b"".join(map(canonical, eq))
    return connection.execute(statement, (key, limit) if whole else (key, key + BEHIND, limit)).fetchall()


def of_span(connection: Connection, stored: StoredTable, read: Read, span: Span) -> ReadResult:
    """The documents of some rows, or their number."""
    if read.filter is not None:
        return _filtered(connection, stored, read, span, compile_filter(read.filter))
    if read.count:
        return _counted(connection, stored, read, span)
    statement, wanted = f"{select(stored, read, span)} LIMIT ? OFFSET ?", wanted_of(read)
    parameters = (*span.parameters, wanted, read.skip)
    found: list[Any] = (
        _unpacked(connection, stored, statement, parameters)
        if stored.vectors
        else connection.execute(statement, parameters).fetchall()
    )
    more = read.peek and read.limit is not None and len(found) > read.limit
    skipped = read.skip if found or not read.skip else _passed(connection, stored, read, span)
    if more:
        found.pop()
    return ReadResult(found if stored.vectors else unparsed(found, stored.parse), len(found), skipped, more)


def _unpacked(connection: Connection, stored: StoredTable, statement: str, parameters: Sequence[Any]) -> list[Document]:
    """The documents of a statement's rows, made some at a time, so that not all packed arrays are there beside them."""
    cursor = connection.stream(statement, parameters)
    found: list[Document] = []
    while rows := cursor.fetchmany(_AT_ONCE):
        found += documents(rows, stored.vectors, stored.label)
    cursor.close()
    return found


_AT_ONCE = 1_000
"""Rows that are read before documents are made of them."""


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
    if read.since is not None and read.after is None and stored.counts_changes:
        changed = changes_since(connection, stored, read.since, span)
        if changed is not None:
            return changed
    if stored.counts_changes and read.filter is None:
        rows = connection.execute(
            f"{select(stored, read, span, 'id, seq')} LIMIT ? OFFSET ?", (*span.parameters, wanted_of(read), read.skip)
        ).fetchall()
        digests = {id_: str(seq) for id_, seq in rows}
    else:
        found = of_span(connection, stored, replace(read, digest=None), span).docs
        digests = {one["_id"]: document_digest(one) for one in found}
    if read.digest == "all":
        digests = {"": whole_digest(digests)}
    return ReadResult((), 0, 0, False, digests=digests)
