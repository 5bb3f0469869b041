"""Follows the edges of a read: from its documents to related ones, in the same transaction.

Documents that have the same key share what they lead to. Groups that are whole are looked up many at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import attrs
from msgspec.structs import replace

from convexorm.conditions import Exists, existences, rewritten
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.keys import id_tick
from convexorm.deployments.embedded.rows import documents
from convexorm.deployments.embedded.tables import StoredTable
from convexorm.deployments.embedded.walks import answer
from convexorm.requests import Document, Follow, Followed, Range, Read
from convexorm.schema import Table
from convexorm.values import Value, canonical, hashable

__all__ = ["follow", "looking", "tables_of"]

_CHUNK = 500
"""Keys of one statement."""
_BEHIND = b"\xff"
"""Greater than any tag byte: behind everything that begins with the bytes before it."""


def tables_of(reads: Iterable[Read | Follow]) -> Iterator[Table]:
    """The tables that edges lead to, and conditions."""
    for read in reads:
        for edge in (*read.follow, *(one.edge for one in existences(read.filter))):
            yield edge.range.table
            yield from tables_of((edge,))


R = TypeVar("R", Read, Follow)


def looking(
    connection: Connection, stored: Callable[[Follow], StoredTable | None], read: R, looked: list[Range] | None = None
) -> R:
    """The read, whose conditions know how to look for other documents; they note in `looked` where they do."""

    def bound(exists: Exists) -> Exists:
        edge = looking(connection, stored, replace(exists.edge, limit=1), looked)
        table = stored(edge)
        answers: dict[str | bytes, bool] = {}

        def look(value: Value) -> bool:
            key = hashable(value)
            if key not in answers:
                if looked is not None:
                    looked.append(edge.range.behind(value))
                answers[key] = table is not None and bool(answer(connection, table, edge.read(value)).docs)
            return answers[key]

        return attrs.evolve(exists, edge=edge, look=look)

    changed = read
    if read.filter is not None and next(existences(read.filter), None) is not None:
        changed = replace(read, filter=rewritten(read.filter, bound))
    if changed.follow:
        changed = replace(changed, follow=tuple([looking(connection, stored, edge, looked) for edge in changed.follow]))
    return changed


def follow(
    connection: Connection,
    stored: Callable[[Follow], StoredTable | None],
    edges: Sequence[Follow],
    found: Sequence[Document],
) -> tuple[Followed, ...]:
    """What edges from these documents lead to."""
    return tuple([_follow(connection, stored, edge, found) for edge in edges])


def _follow(
    connection: Connection, stored: Callable[[Follow], StoredTable | None], edge: Follow, found: Sequence[Document]
) -> Followed:
    field = edge.field
    keys: dict[str | bytes, Value] = {}
    for document in found:
        key = document.get(field)
        if key is not None:
            keys[hashable(key)] = key
    table = stored(edge)
    followed = Followed()
    if table is None:
        for key in keys.values():
            followed.add(key, ())
    elif _is_single(edge, table):
        _single(connection, table, edge, list(keys.values()), followed)
    elif _is_plain_list(edge, table):
        _plain_lists(connection, table, edge, list(keys.values()), followed)
    else:
        for key in keys.values():
            followed.add(key, answer(connection, table, edge.read(key)).docs)
    if edge.follow:
        behind = [document for group in followed.groups.values() for document in group.docs]
        followed.followed = follow(connection, stored, edge.follow, behind)
    return followed


def _is_single(edge: Follow, table: StoredTable) -> bool:
    """Whether an edge leads to the first document under a whole key."""
    whole = edge.range.index == "by_id" or len(table.indexes.get(edge.range.index, ())) == 1
    bounded = edge.range.eq or edge.range.lower or edge.range.upper or edge.range.union is not None
    return whole and edge.limit == 1 and edge.filter is None and not bounded and edge.order == "asc"


def _single(connection: Connection, table: StoredTable, edge: Follow, keys: Sequence[Value], followed: Followed) -> None:
    by_id = edge.range.index == "by_id"
    column = "tick" if by_id else table.columns[edge.range.index]
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        names: list[int] | list[bytes]
        if by_id:
            names = [tick for key in chunk if isinstance(key, str) and (tick := id_tick(key)) is not None]
        else:
            names = [canonical(key) for key in chunk]
        marks = ",".join("?" * len(names))
        rows = connection.execute(
            f"SELECT {table.select} FROM {table.name} WHERE {column} IN ({marks}) ORDER BY tick", names
        ).fetchall()
        field = "_id" if by_id else table.indexes[edge.range.index][0]
        first: dict[str | bytes, Document] = {}
        for document in documents(rows, table.vectors, table.label):
            first.setdefault(hashable(document[field]), document)
        for key in chunk:
            one = first.get(hashable(key))
            followed.add(key, () if one is None else (one,))


def _is_plain_list(edge: Follow, table: StoredTable) -> bool:
    """Whether an edge leads to all documents under the first field of a declared index."""
    bounded = edge.range.eq or edge.range.lower or edge.range.upper or edge.range.union is not None
    return edge.range.index in table.columns and edge.limit is None and edge.filter is None and not bounded


def _plain_lists(
    connection: Connection, table: StoredTable, edge: Follow, keys: Sequence[Value], followed: Followed
) -> None:
    column, (field, *further) = table.columns[edge.range.index], table.indexes[edge.range.index]
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        names = [canonical(key) for key in chunk]
        if further:
            wanted = f"(VALUES {', '.join(['(?, ?)'] * len(names))}) AS wanted"
            source = f"{wanted} CROSS JOIN {table.name} ON {column} >= wanted.column1 AND {column} < wanted.column2"
            parameters = [part for name in names for part in (name, name + _BEHIND)]
        else:
            source, parameters = f"{table.name} WHERE {column} IN ({', '.join('?' * len(names))})", names
        rows = connection.execute(
            f"SELECT {table.select} FROM {source} ORDER BY {column} {edge.order}, tick {edge.order}", parameters
        ).fetchall()
        groups: dict[str | bytes, list[Document]] = {hashable(key): [] for key in chunk}
        for document in documents(rows, table.vectors, table.label):
            groups[hashable(document[field])].append(document)
        for key in chunk:
            followed.add(key, groups[hashable(key)])
