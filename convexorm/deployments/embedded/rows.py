"""How a document lies in a row: JSON text, and arrays of numbers as packed floats beside it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, overload

from convexorm.deployments.embedded.damage import decoded
from convexorm.late import need
from convexorm.requests import Document
from convexorm.requests.rows import Row, Rows
from convexorm.values import Value, loads

__all__ = ["ANSWERING", "Known", "LazyDocuments", "documents", "parser", "stream", "unpacked", "unparsed"]


def unpacked(document: dict[str, Value], vectors: Collection[str], blobs: Iterable[bytes | None]) -> dict[str, Value]:
    """A document with its packed arrays back as lists."""
    if not vectors:
        return document
    need("numpy")
    from convexorm.deployments.embedded.packing import unpack  # numpy takes long to import

    for name, blob in zip(vectors, blobs, strict=True):
        if blob is not None:
            document[name] = unpack(blob).tolist()
    return document


class Known:
    """The documents of one answer, kept for the next: those whose rows are the same are not parsed again."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[tuple[Any, ...], Document]] = {}
        self._now: dict[str, tuple[tuple[Any, ...], Document]] = {}
        self.parsed = 0
        """How many documents were parsed since the answer began."""

    def begin(self) -> None:
        """What is asked for from now on belongs to one answer."""
        self._now, self.parsed = {}, 0

    def end(self) -> None:
        """The answer is whole: it is what the next one is compared with."""
        self._before, self._now = self._now, {}

    def of(self, rows: Sequence[tuple[Any, ...]], vectors: Mapping[str, str]) -> list[Document]:
        """The documents of rows."""
        found: list[Document] = []
        for row in rows:
            mark = tuple(map(hash, row))  # of 64 bits, by a key of this process: as good as the row, and much smaller
            held = self._now.get(row[1]) or self._before.get(row[1])
            if held is None or held[0] != mark:
                (document,) = _documents((row,), vectors)
                self.parsed += 1
                held = mark, document
            self._now[row[1]] = held
            found.append(held[1])
        return found


class _Answering(threading.local):
    """What the answer that this thread is about may take documents from."""

    known: Known | None = None


ANSWERING = _Answering()


def documents(rows: Sequence[tuple[Any, ...]], vectors: Mapping[str, str], table: str) -> list[Document]:
    """The documents of rows of (tick, id, body, packed arrays…), system fields included.

    Raises DeploymentError that names `table` for rows that are not what was written.
    """
    known = ANSWERING.known
    return decoded(table, _documents if known is None else known.of, rows, vectors)


def _documents(rows: Sequence[tuple[Any, ...]], vectors: Mapping[str, str]) -> list[Document]:
    "".join([row[1] for row in rows])  # raises for an id that is no text
    found: list[Any] = []
    for tick, id_, body, *blobs in rows if vectors else ():
        document: Any = unpacked(loads(body), vectors, blobs)
        document["_id"] = id_
        document["_creationTime"] = tick / 1000
        found.append(document)
    for tick, id_, body in () if vectors else rows:
        document = loads(body)
        document["_id"] = id_
        document["_creationTime"] = tick / 1000
        found.append(document)
    return found


def parser(table: str) -> Callable[[Sequence[Row]], list[Document]]:
    """What makes documents of the rows of a table without packed arrays."""
    return partial(documents, vectors={}, table=table)


def unparsed(rows: Sequence[Row], parse: Callable[[Sequence[Row]], list[Document]]) -> Sequence[Document]:
    """The documents of such rows, parsed when somebody looks at them, unless some are known."""
    return Rows(rows, parse) if ANSWERING.known is None else parse(rows)


class LazyDocuments(Sequence[Document]):
    """The documents of rows, without their packed arrays, each parsed when it is asked for."""

    def __init__(self, table: str) -> None:
        self._table = table
        self.ids: list[str] = []
        self._ticks: list[int] = []
        self._bodies: list[str] = []

    def extend(self, ticks: Sequence[int], ids: Sequence[str], bodies: Sequence[str]) -> None:
        """Add documents by their ticks, ids and bodies."""
        self.ids += ids
        self._ticks += ticks
        self._bodies += bodies

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, place: int) -> Document: ...
    @overload
    def __getitem__(self, place: slice) -> list[Document]: ...
    def __getitem__(self, place: int | slice) -> Document | list[Document]:
        if isinstance(place, slice):
            rows = list(zip(self._ticks[place], self.ids[place], self._bodies[place], strict=True))
            return documents(rows, {}, self._table)
        return self[place : place + 1 or None][0]

    def __iter__(self) -> Iterator[Document]:
        for start in range(0, len(self), 1_000):
            yield from self[start : start + 1_000]


def stream(cursor: sqlite3.Cursor, vectors: Mapping[str, str], table: str, size: int = 32) -> Iterator[Document]:
    """The documents of a cursor, fetched in growing steps from `size` on: a filter that is soon satisfied reads little."""
    while rows := list(islice(cursor, size)):
        yield from documents(rows, vectors, table)
        size = min(size * 2, 1024)
