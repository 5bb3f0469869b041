"""One field of all documents of a read as a matrix, without parsing the documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from sys import intern
from typing import Any

import numpy as np

from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.damage import decoded
from convexorm.deployments.embedded.keys import Span
from convexorm.deployments.embedded.packing import unpack
from convexorm.deployments.embedded.reads import count_of, select
from convexorm.deployments.embedded.rows import LazyDocuments
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.requests import Matrix, Pack, Read, ReadResult

__all__ = ["matrix_of"]

_BATCH_BYTES = 300_000
"""Bytes of rows that are packed into a matrix at a time; more does not stay in a processor's cache."""
_RELEASED = 16_000
"""Rows that are read before the part of the file that was mapped for them is given back."""


def matrix_of(connection: Connection, stored: StoredTable, read: Read, span: Span, pack: Pack) -> ReadResult:
    """The packed field of a range, read without parsing the documents."""
    column = stored.vectors[pack.field]
    size = count_of(connection, stored, span, -1 if read.limit is None else read.limit + read.skip)
    matrix = np.empty((max(size - read.skip, 0), pack.length), dtype=np.float32)
    found = LazyDocuments(stored.label)
    digests: dict[str, str] = {}
    rounded = False
    batch = max(1, min(_BATCH_BYTES // (4 * pack.length), 1_000))
    statement = select(stored, read, span, f"tick, id, body, {column}, seq")
    for rows in _batches(connection, f"{statement} LIMIT ? OFFSET ?", span.parameters, read.skip, size, batch):
        rounded = decoded(stored.label, _take, rows, pack.length, found, matrix, digests) or rounded
    answered = Matrix(found.ids, matrix[: len(found)], rounded)
    return ReadResult(found, 0, 0, False, matrix=answered, digests=digests)


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
