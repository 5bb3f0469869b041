"""Answers reads that are more than a range in its index's order: unions, merged ranges, distinct values, aggregates."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from msgspec.structs import replace

from convexorm.deployments.documents import answered, derived, plain
from convexorm.deployments.embedded import reads
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.folding import fold_rows
from convexorm.deployments.embedded.keys import Span, span_of
from convexorm.deployments.embedded.rows import stream
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.deployments.embedded.tallies import tally_keys
from convexorm.deployments.embedded.texts import find_texts
from convexorm.deployments.filters import Predicate, compile_filter
from convexorm.requests import Bound, Document, KeyValue, Range, Read, ReadResult, index_key
from convexorm.schema import BUILT_IN_INDEXES
from convexorm.values import canonical

__all__ = ["answer"]


def answer(connection: Connection, stored: StoredTable, read: Read) -> ReadResult:
    """The whole answer to a read: an embedded deployment has no budget to stop at."""
    if read.search is not None:
        return find_texts(connection, stored, read)
    if read.fold is not None:
        folded = tally_keys(connection, stored, read) or fold_rows(connection, stored, read)
        if folded is not None:
            return folded
    if read.merge is not None or read.distinct is not None or read.fold is not None:
        return derived(read, answered(plain(read), _Walk(connection, stored, read).documents()))
    if read.range.union is not None:
        return derived(read, _union(connection, stored, plain(read)))
    if read.select is not None or read.sort is not None:
        return derived(read, reads.answer(connection, stored, plain(read)))
    return reads.answer(connection, stored, read)


def _union(connection: Connection, stored: StoredTable, read: Read) -> ReadResult:
    """The documents, or their number, of one range of a union after the other."""
    keys = _keys(read)
    if keys is not None:
        column = stored.columns[read.range.index]
        return reads.of_span(connection, stored, read, Span(f"{column} IN ({', '.join('?' * len(keys))})", *keys))
    if read.filter is not None:  # which is compiled once for all ranges
        return answered(read, _Walk(connection, stored, read).documents())
    found = ReadResult((), 0, 0, False)
    for part in _in_order(read):
        left = None if read.limit is None else read.limit - found.count
        if found.more or (left == 0 and not read.peek):
            break
        rest = replace(read, range=part, skip=read.skip - found.skipped, limit=left)
        result = reads.answer(connection, stored, rest)
        found = found.joined(result)
    return found


def _keys(read: Read) -> list[bytes] | None:
    """The keys of a union of all documents of whole keys, which one statement finds; None of any other."""
    declared = read.range.table.declared_fields(read.range.index)
    plain = read == Read(read.range, order=read.order, filter=read.filter, count=read.count, follow=read.follow)
    if not plain or read.range.index in BUILT_IN_INDEXES or len(read.range.parts) < 2:
        return None
    parts = read.range.parts
    if any(len(part.eq) != len(declared) or part.lower is not None or part.upper is not None for part in parts):
        return None
    return [b"".join(map(canonical, part.eq)) for part in parts]


def _in_order(read: Read) -> tuple[Range, ...]:
    return read.range.parts if read.order == "asc" else read.range.parts[::-1]


class _Walk:
    """The matches of a read in its order, each looked for when it is asked for."""

    def __init__(self, connection: Connection, stored: StoredTable, read: Read) -> None:
        self._connection = connection
        self._stored = stored
        self._read = read
        self._matches: Predicate = (lambda _: True) if read.filter is None else compile_filter(read.filter)

    def documents(self) -> Iterator[Document]:
        if self._read.merge is not None:
            yield from self._merged(self._read.merge)
            return
        for part in _in_order(self._read):
            if self._read.distinct is None:
                yield from self._range(part, self._read.after)
            else:
                yield from self._distinct(part, self._read.distinct)

    def _range(self, range_: Range, after: KeyValue | None = None) -> Iterator[Document]:
        stored, order = self._stored, self._read.order
        span = span_of(range_, stored.columns.get(range_.index, ""), after, order)
        statement = reads.select(stored, replace(self._read, range=range_), span)
        cursor = self._connection.stream(statement, span.parameters)
        try:
            size = 1 if self._read.merge is not None or self._read.distinct is not None else 32
            yield from filter(self._matches, stream(cursor, stored.vectors, stored.label, size))
        finally:
            cursor.close()

    def _merged(self, equalities: int) -> Iterator[Document]:
        """The documents of all ranges in the order of the fields behind their equalities."""
        after = self._read.after

        def place(document: Document) -> bytes:
            return b"".join(map(canonical, index_key(document, self._read.range)[equalities:]))

        parts = [self._range(part, (*part.eq, *after[equalities:]) if after else None) for part in self._read.range.parts]
        return heapq.merge(*parts, key=place, reverse=self._read.order == "desc")

    def _distinct(self, part: Range, fields: int) -> Iterator[Document]:
        """The first document for each value of the leading fields of a range."""
        after = self._read.after
        partial = bool(after) and len(after or ()) == fields
        ranges = _behind(part, after or (), self._read.order) if partial else [part]
        full = None if partial else after
        while ranges:
            range_, *ranges = ranges
            for document in self._range(range_, full):
                yield document
                ranges = _behind(part, index_key(document, part)[:fields], self._read.order)
                full = None
                break


def _behind(range_: Range, key: KeyValue, order: str) -> list[Range]:
    """The ranges, in order, of what is behind all documents whose leading fields are `key`, which may lie elsewhere."""
    forward, place = order == "asc", b"".join(map(canonical, key[: len(range_.eq) + 1]))
    start, end = range_.edges()
    if len(key) <= len(range_.eq) and place == b"".join(map(canonical, range_.eq[: len(key)])):
        return []  # all of the range has these values
    if place < start or place >= end:
        return [range_] if (place < start) == forward else []
    if len(key) <= len(range_.eq):
        return []
    edges = [(key[:length], Bound(key[length], False)) for length in range(len(key) - 1, len(range_.eq) - 1, -1)]
    deeper = [Range(range_.table, range_.index, eq) for eq, _ in edges[:-1]]
    parts = [*deeper, range_]
    if forward:
        return [replace(part, lower=edge) for part, (_, edge) in zip(parts, edges, strict=True)]
    return [replace(part, upper=edge) for part, (_, edge) in zip(parts, edges, strict=True)]
