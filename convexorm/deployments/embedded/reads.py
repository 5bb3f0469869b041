"""Answers one read: documents, counts, digests, or one field of all documents as a matrix."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from sys import intern
from typing import Any

import attrs
import numpy as np

from convexorm.deployments.documents import document_digest, packed
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


def answer(connection: sqlite3.Connection, stored: StoredTable, read: Read) -> ReadResult:
    """The whole answer to a read: an embedded deployment has no budget to stop at."""
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


def _plain(connection: sqlite3.Connection, stored: StoredTable, read: Read, span: Span) -> ReadResult:
    if read.filter is not None:
        return _filtered(connection, stored, read, span, compile_filter(read.filter))
    if read.count:
        return _counted(connection, stored, read, span)
    rows = connection.execute(
        f"{select(stored, read, span)} LIMIT ? OFFSET ?", (*span.parameters, _wanted(read), read.skip)
    ).fetchall()
    more = read.peek and read.limit is not None and len(rows) > read.limit
    skipped = read.skip if rows or not read.skip else _passed(connection, stored, read, span)
    found = documents(rows[:-1] if more else rows, stored.vectors)
    return ReadResult(found, len(found), skipped, more)


def _wanted(read: Read) -> int:
    """Rows to fetch: -1 for all."""
    return -1 if read.limit is None else read.limit + read.peek


def _counted(connection: sqlite3.Connection, stored: StoredTable, read: Read, span: Span) -> ReadResult:
    reached = -1 if read.limit is None else _wanted(read) + read.skip
    matches = _count(connection, stored, span, reached)
    skipped = min(read.skip, matches)
    count = matches - skipped
    more = read.peek and read.limit is not None and count > read.limit
    return ReadResult((), count - more, skipped, more)


def _passed(connection: sqlite3.Connection, stored: StoredTable, read: Read, span: Span) -> int:
    """How many documents there were to pass over, where none was left behind them."""
    return _count(connection, stored, span, read.skip)


def _count(connection: sqlite3.Connection, stored: StoredTable, span: Span, limit: int) -> int:
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {stored.name} WHERE {span.where} LIMIT ?)"
    counted: int = connection.execute(sql, (*span.parameters, limit)).fetchone()[0]
    return counted


def _filtered(
    connection: sqlite3.Connection, stored: StoredTable, read: Read, span: Span, matches: Predicate
) -> ReadResult:
    cursor = connection.execute(select(stored, read, span), span.parameters)
    found: list[Document] = []
    skipped = count = 0
    more = False
    for document in stream(cursor, stored.vectors):
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


def _digest(connection: sqlite3.Connection, stored: StoredTable, read: Read, span: Span) -> ReadResult:
    """Where the table numbers its changes, these are the digests; else they are made of the documents."""
    if read.digest == "all" and stored.counts_changes:
        (changes,) = connection.execute(
            "SELECT changes FROM convexorm_tables WHERE number = ?", (stored.number,)
        ).fetchone()
        return ReadResult((), 0, 0, False, digests={"": version_digest(f"{stored.name}:{changes}")})
    if stored.counts_changes and read.filter is None:
        rows = connection.execute(
            f"{select(stored, read, span, 'id, seq')} LIMIT ? OFFSET ?", (*span.parameters, _wanted(read), read.skip)
        )
        digests = {id_: str(seq) for id_, seq in rows}
    else:
        found = _plain(connection, stored, attrs.evolve(read, digest=None), span).docs
        digests = {one["_id"]: document_digest(one) for one in found}
    if read.digest == "all":
        return ReadResult((), len(digests), 0, False, digests={"": whole_digest(digests)})
    return ReadResult((), len(digests), 0, False, digests=digests)


# -- matrices ------------------------------------------------------------------------------------------------------


def _matrix(connection: sqlite3.Connection, stored: StoredTable, read: Read, span: Span, pack: Pack) -> ReadResult:
    """The packed field of a range, read without parsing the documents, at one moment."""
    if not connection.in_transaction:
        connection.execute("BEGIN")
        result = _matrix(connection, stored, read, span, pack)
        connection.execute("COMMIT")
        return result
    column = stored.vectors[pack.field]
    wanted = _wanted(read)
    size = _count(connection, stored, span, wanted if wanted < 0 else wanted + read.skip)
    matrix = np.empty((max(size - read.skip, 0), pack.length), dtype=np.float32)
    found = LazyDocuments()
    digests: dict[str, str] = {}
    rounded = False
    batch = max(1, min(_BATCH_BYTES // (4 * pack.length), 1_000))
    statement = select(stored, read, span, f"tick, id, body, {column}, seq")
    for rows in _batches(connection, f"{statement} LIMIT ? OFFSET ?", span.parameters, read.skip, size, batch):
        ticks, ids, bodies, blobs, changes = zip(*rows, strict=True)
        texts = {change: intern(str(change)) for change in set(changes)}  # few are different
        digests.update(zip(ids, map(texts.__getitem__, changes), strict=True))
        sizes = {0 if blob is None else len(blob) for blob in blobs}
        if sizes != {4 * pack.length}:
            rounded = 8 * pack.length + 1 in sizes or rounded
            rows = _single(rows, pack.length)
            if not rows:
                continue
            ticks, ids, bodies, blobs = zip(*rows, strict=True)
        block = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), pack.length)
        matrix[len(found) : len(found) + len(blobs)] = block
        found.extend(ticks, ids, bodies)
    more = read.peek and read.limit is not None and len(found) > read.limit
    if more:
        digests.pop(found.pop())
    answered = Matrix(found.ids, matrix[: len(found)], rounded)
    return ReadResult(found, len(found), read.skip, more, None, answered, digests)


def _batches(
    connection: sqlite3.Connection, statement: str, parameters: Sequence[Any], start: int, end: int, size: int
) -> Iterator[list[tuple[Any, ...]]]:
    """The rows from one place to another, up to `size` at a time."""
    for place in range(start, end, _RELEASED):
        cursor = connection.execute(statement, (*parameters, min(_RELEASED, end - place), place))
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
