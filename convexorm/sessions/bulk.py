"""`Bulk`: what is written at once, past the unit of work and without instances, in as many commits as it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from convexorm.deployments.base import Port
from convexorm.errors import LimitExceeded, ValidationError
from convexorm.model import Model
from convexorm.query import Query
from convexorm.requests import (
    MAX_DELETED_BY_RANGE,
    DeletedRange,
    DeleteRange,
    Key,
    Upsert,
    Write,
    Written,
)
from convexorm.sessions.compiler import Compiler
from convexorm.sessions.identities import IdentityMap
from convexorm.sessions.instances import identity_of
from convexorm.sessions.operations import check_keyed, dump_valid
from convexorm.values import MISSING

__all__ = ["Bulk"]


class Bulk:
    """Writes through one port, and shows the instances of one session what was written."""

    def __init__(self, port: Port, compiler: Compiler, identities: IdentityMap) -> None:
        self._port = port
        self._compiler = compiler
        self._identities = identities

    async def upsert(self, model: type[Model], rows: Iterable[Mapping[str, Any]]) -> None:
        """Insert or replace documents by their primary keys, in one commit."""
        check_keyed(model)
        mapper, table = model.__mapper__, self._compiler.table(model)
        columns, key_fields = mapper.columns, mapper.key_fields
        unique = tuple(one for one in self._compiler.unique(model) if one.index != mapper.primary_index)
        writes: list[Write] = []
        for row in rows:
            if not isinstance(row, Mapping):
                raise ValidationError(f"rows are attributes by name, got {type(row).__name__}", table=table.name)
            if not row.keys() <= columns.keys():
                self._compiler.column(model, min(row.keys() - columns.keys()))
            document = dump_valid(model(**row)) if mapper.validated else mapper.document(row)
            key = tuple([document.get(field, MISSING) for field in key_fields])
            writes.append(Upsert(table, Key(mapper.primary_index, key), document, unique=unique))
        if not writes:
            return
        applied = await self._port.commit(self._compiler.commit(writes))
        if not self._identities.knows(model):
            return
        for write, one in zip(writes, applied, strict=True):
            assert isinstance(write, Upsert)
            assert isinstance(one, Written)
            held = self._identities.held(model, identity_of(write.at.key))
            if held is not None:
                time = one.creation_time if one.created else held.creation_time
                self._identities.renew(held, {**write.doc, "_id": one.id, "_creationTime": time})

    async def delete(self, query: Query[Any]) -> int:
        """Delete all documents of a query, with what that does to others, and say how many there were."""
        range_, filter_ = self._compiler.deletable(query)
        left = query._limit
        total = 0
        most = MAX_DELETED_BY_RANGE
        while left is None or left > 0:
            limit = most if left is None else min(left, most)
            commit = self._compiler.commit([DeleteRange(range_, filter_, limit)])
            try:
                (applied,) = await self._port.commit(commit)
            except LimitExceeded:
                if not commit.rules or limit == 1:
                    raise
                most = max(limit // 8, 1)  # each takes others along
                continue
            assert isinstance(applied, DeletedRange)
            total += applied.deleted
            self._doubt({range_.table.name, *(rule.table.name for rules in commit.rules.values() for rule in rules)})
            left = None if left is None else left - applied.deleted
            if not applied.more:
                break
        return total

    def _doubt(self, tables: set[str]) -> None:
        """Some documents of these tables were deleted or changed."""
        self._identities.doubt(lambda model: self._compiler.table(model).name in tables)
