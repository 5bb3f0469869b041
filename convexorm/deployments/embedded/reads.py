"""Answers one read: documents, counts, digests, or one field of all documents as a matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from sys import intern
from typing import Any

import attrs
import numpy as np

from convexorm.deployments.documents import document_digest, packed
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.damage import decoded
from convexorm.deployments.embedded.keys import Span, span_of
from convexorm.deployments.embedded.rows import LazyDocuments, documents, stream, unpack
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.deployments.filters import Predicate, compile_filter
from convexorm.requests import Document, Matrix, Pack, Read, ReadResult, version_digest, whole_digest

__all__ = ["answer", "select"]

_BATCH_BYTES = 300_000
"""Bytes of rows that are packed into a matrix at a time; more does not stay in a processor's cache."""
_RELEASED = 16_000
"""Rows that are read before the part of the file that was mapped for them is given back."""


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
        return _matrix(connection, stored, read, span, read.pack)
    if read.pack is not None:
        return packed(_plain(connection, stored, attrs.evolve(read, pack=None), span), read.pack)
    return _plain(connection, stored, read, span)


def _plain(connection: Connection, stored: StoredTable, read: Read, span: Span) -> ReadResult:
    if read.filter is not None:
        return _filtered(connection, stored, read, span, compile_filter(read.filter))
    if read.count:
        return _counted(connection, stored, read, span)
    rows = connection.execute(
        f"{select(stored, read, span)} LIMIT ? OFFSET ?", (*span.parameters, _wanted(read), read.skip)
    ).fetchall()
    more = read.peek and read.limit is not None and len(rows) > read.limit
    skipped = read.skip if rows or not read.skip else _passed(connection, stored, read, span)
    found = documents(rows[:-1] if more else rows, stored.vectors, stored.label)
    return ReadResult(found, len(found), skipped, more)


def _wanted(read: Read) -> int:
    """Rows to fetch: -1 for all."""
    return -1 if read.limit is None else read.limit + read.peek


def _counted(connection: Connection, stored: StoredTable, read: Read, span: Span) -> ReadResult:
    reached = -1 if read.limit is None else _wanted(read) + read.skip
    matches = _count(connection, stored, span, reached)
    skipped = min(read.skip, matches)
    count = matches - skipped
    more = read.peek and read.limit is not None and count > read.limit
    return ReadResult((), count - more, skipped, more)


def _passed(connection: Connection, stored: StoredTable, read: Read, span: Span) -> int:
    """How many documents there were to pass over, where none was left behind them."""
    return _count(connection, stored, span, read.skip)


def _count(connection: Connection, stored: StoredTable, span: Span, limit: int) -> int:
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
            f"{select(stored, read, span, 'id, seq')} LIMIT ? OFFSET ?", (*span.parameters, _wanted(read), read.skip)
        ).fetchall()
        digests = {id_: str(seq) for id_, seq in rows}
    else:
        found = _plain(connection, stored, attrs.evolve(read, digest=None), span).docs
        digests = {one["_id"]: document_digest(one) for one in found}
    if read.digest == "all":
        return ReadResult((), len(digests), 0, False, digests={"": whole_digest(digests)})
    return ReadResult((), len(digests), 0, False, digests=digests)


# -- matrices ------------------------------------------------------------------------------------------------------


def _matrix(connection: Connection, stored: StoredTable, read: Read, span: Span, pack: Pack) -> ReadResult:
    """The packed field of a range, read without parsing the documents."""
    column = stored.vectors[pack.field]
    wanted = _wanted(read)
    size = _count(connection, stored, span, wanted if wanted < 0 else wanted + read.skip)
    matrix = np.empty((max(size - read.skip, 0), pack.length), dtype=np.float32)
    found = LazyDocuments(stored.label)
    digests: dict[str, str] = {}
    rounded = False
    batch = max(1, min(_BATCH_BYTES // (4 * pack.length), 1_000))
    statement = select(stored, read, span, f"tick, id, body, {column}, seq")
    for rows in _batches(connection, f"{statement} LIMIT ? OFFSET ?", span.parameters, read.skip, size, batch):
        rounded = decoded(stored.label, _take, rows, pack.length, found, matrix, digests) or rounded
    more = read.peek and read.limit is not None and len(found) > read.limit
    if more:
        digests.pop(found.pop())
    answered = Matrix(found.ids, matrix[: len(found)], rounded)
    return ReadResult(found, len(found), read.skip, more, None, answered, digests)


def _take(rows: Sequence[tuple[Any, ...]], length: int, found: LazyDocuments, matrix: Any, digests: dict[str, str]) -> bool:
    """Add rows of (tick, id, body, packed array, change) to what was found; whether a number had to be rounded."""
    ticks, ids, bodies, blobs, changes = zip(*rows, strict=True)
    texts = {change: intern(str(change)) for change in set(changes)}  # few are different
    digests.update(zip(ids, map(texts.__getitem__, changes), strict=True))
    sizes = {0 if blob is None else len(blob) for blob in blobs}
    if sizes != {4 * length}:
        rows = _single(rows, length)
        if rows:
            ticks, ids, bodies, blobs = zip(*rows, strict=True)
    "".join(ids)  # raises for one that is no text
    block = np.frombuffer(b"".join(blobs if rows else ()), dtype="<f4").reshape(len(rows), length)
    matrix[len(found) : len(found) + len(rows)] = block
    if rows:
        found.extend(ticks, ids, bodies)
    return 8 * length + 1 in sizes


def _batches(
    connection: Connection, statement: str, parameters: Sequence[Any], start: int, end: int, size: int
) -> Iterator[list[tuple[Any, ...]]]:
    """The rows from one place to another, up to `size` at a time."""
    for place in range(start, end, _RELEASED):
        cursor = connection.stream(statement, (*parameters, min(_RELEASED, end - place), place))
        while rows := cursor.fetchmany(size):
            yield rows
        mapped = connection.execute("PRAGMA mmap_size").fetchone()
        if mapped is not None and end > _RELEASED:
            connection.execute("PRAGMA mmap_size = 0")
            connection.execute(f"PRAGMA mmap_size = {mapped[0]}")


def _single(rows: Sequence[tuple[Any, ...]], length: int) -> list[tuple[Any, ...]]:
    """The rows with arrays of the right length, all as float32."""
    vectors = ((row, unpack(row[3])) for row in rows if row[3] is not None)
    with np.errstate(over="ignore"):
        return [(*row[:3], vector.astype("<f4").tobytes()) for row, vector in vectors if len(vector) == length]
