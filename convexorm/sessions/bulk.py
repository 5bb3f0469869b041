"""`Bulk`: what is written at once, past the unit of work and without instances, in as many commits as it takes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

from msgspec.structs import replace

from convexorm.data import Data
from convexorm.deployments.base import Port
from convexorm.deployments.reader import Reader
from convexorm.errors import (
    ConvexORMError,
    FunctionFailed,
    InvalidCursorError,
    InvalidRequestError,
    LimitExceeded,
    ValidationError,
)
from convexorm.given import a_callback, several
from convexorm.mapping.model import Model
from convexorm.querying.query import Query
from convexorm.requests import (
    MAX_DELETED_BY_RANGE,
    Commit,
    DeletedRange,
    DeleteRange,
    Key,
    Patch,
    Read,
    Recount,
    Upsert,
    Write,
    Written,
)
from convexorm.sessions.compiler import Compiler
from convexorm.sessions.identities import IdentityMap
from convexorm.sessions.instances import identity_of
from convexorm.sessions.operations import check_keyed, dump_valid, patch_of_values
from convexorm.sessions.results import Progress
from convexorm.sessions.writer import Writer, less
from convexorm.values import MISSING, canonical, dumps, loads
from convexorm.wire import encode_read

__all__ = ["Bulk", "OnProgress"]

OnProgress: TypeAlias = Callable[[Progress], object]

_RECOUNTED = 4_000
"""Documents that one commit of `recount` counts."""
_UPDATED = 1_000
"""Documents that one commit of `update_all` changes: each is looked up, read and read again. Fewer where they are large."""


class Bulk:
    """Writes through one port, and shows the instances of one session what was written."""

    def __init__(self, port: Port, compiler: Compiler, identities: IdentityMap) -> None:
        self._reader = Reader(port)
        self._writer = Writer(port)
        self._compiler = compiler
        self._identities = identities

    async def upsert(self, model: type[Model], rows: Iterable[Mapping[str, Any]], under: Model | None = None) -> None:
        """Insert or replace documents by their primary keys, in one commit; with `under` only if that is as it was read."""
        check_keyed(model)
        mapper, table = model.__mapper__, self._compiler.table(model)
        columns, key_fields = mapper.columns, mapper.key_fields
        unique = tuple(one for one in self._compiler.unique(model) if one.index != mapper.primary_index)
        writes: list[Write] = []
        given = several(rows, "rows")
        try:
            for row in given:
                if not isinstance(row, Mapping):
                    raise ValidationError(f"rows are attributes by name, got {type(row).__name__}", table=table.name)
                if not row.keys() <= columns.keys():
                    self._compiler.column(model, min(row.keys() - columns.keys(), key=str))
                document = dump_valid(model(**row)) if mapper.validated else mapper.document(row)
                key = tuple([document.get(field, MISSING) for field in key_fields])
                writes.append(Upsert(table, Key(mapper.primary_index, key), document, unique=unique))
        except ConvexORMError as error:
            error.of_row(len(writes))
            raise
        if not writes:
            return
        guards: list[Write] = []
        if under is not None:
            known = self._identities.document_of(under)
            expect = {name: value for name, value in known.items() if not name.startswith("_")}
            guards.append(Patch(self._compiler.table(type(under)), known["_id"], {}, expect=expect))
        try:
            applied = (await self._writer.commit(self._compiler.commit([*guards, *writes])))[len(guards) :]
        except ConvexORMError as error:
            if error.write is not None and error.write >= len(guards):
                error.of_row(error.write - len(guards))
            raise
        if not self._identities.knows(model):
            return
        for write, one in zip(writes, applied, strict=True):
            assert isinstance(write, Upsert)
            assert isinstance(one, Written)
            held = self._identities.held(mapper.root.model, identity_of(write.at.key))
            if held is not None and held.convex_id == one.id:
                self._identities.renew(held, {**write.doc, "_id": one.id, "_creationTime": held.creation_time})
            elif held is not None:
                self._identities.found_gone(held)

    async def delete(self, query: Query[Any], on_progress: OnProgress | None) -> int:
        """Delete all documents of a query, with what that does to others, and say how many there were."""
        if on_progress is not None:
            a_callback(on_progress, "on_progress")
        range_, filter_ = self._compiler.deletable(query)
        left = query._limit
        total = 0
        most = MAX_DELETED_BY_RANGE
        while left is None or left > 0:
            limit = most if left is None else min(left, most)
            commit = self._compiler.commit([DeleteRange(range_, filter_, limit)], self._identities.tables)
            try:
                (applied,) = await self._writer.commit(commit)
            except (LimitExceeded, FunctionFailed) as error:
                most = less(limit, error, 8)  # each may take others along
                continue
            assert isinstance(applied, DeletedRange)
            total += applied.deleted
            self._identities.told(applied.gone)
            if on_progress is not None:
                on_progress(Progress(total))
            left = None if left is None else left - applied.deleted
            if not applied.more:
                break
        return total

    async def update(
        self, query: Query[Any], values: Mapping[Any, Any], on_progress: OnProgress | None, resume: str | None
    ) -> int:
        """Change all documents of a query, and say how many there were.

        Which they are is read first, so that none is changed twice because the change moves it in the index; a document
        that has changed since, so that the query has it no more, is passed over. They are changed in the order in which
        they came to be, which no change touches: so a cursor is a creation time and an `_id`. It says as well how many of a
        limit are taken, and what the next commit will be, so that whoever goes on with it finds out whether that was
        applied before its answer got lost.
        """
        if on_progress is not None:
            a_callback(on_progress, "on_progress")
        read = self._compiler.read(query)
        model, table = query.model, read.range.table
        patch = patch_of_values(self._compiler, model, "", values, primary=False)
        if any(field in patch.set or field in patch.unset for field in model.__mapper__.key_fields):
            raise InvalidRequestError("a primary key is one document's; it is not set for all of a query")
        patch.expect, patch.missing = self._compiler.expected(model, None), "skip"
        patch.where = self._compiler.condition(query)
        sorted_by = [one.field for one in read.sort or ()]
        selected = replace(read, select=tuple(dict.fromkeys(["_creationTime", "_id", *sorted_by])))
        told = _digest(read, query, patch)
        behind, taken, planned = _decode(resume, table.name, told)
        found = await self._reader.one(selected)
        places = [(float(one["_creationTime"]), str(one["_id"])) for one in query.cut(found.docs)]
        done, size = 0, _UPDATED
        if planned is not None:
            applied = await self._writer.settle(Commit(planned.id, [patch] * planned.count))
            if applied is not None:
                behind, taken, done = planned.last, taken + planned.count, sum(map(bool, applied))
        left = [place for place in places if behind is None or place > behind]
        if query._limit is not None:  # of those that were changed the query may have none any more
            left = left[: max(query._limit - taken, 0)]
        left.sort()
        planned = None
        while left:
            batch = left[:size]
            commit = self._compiler.commit([replace(patch, at=id_) for _, id_ in batch])
            if planned is not None:  # whoever resumes asks for it
                commit = replace(commit, id=planned.id, lasting=True)
            try:
                applied = await self._writer.commit(commit)
            except (LimitExceeded, FunctionFailed) as error:
                size = less(len(batch), error, 4)  # the documents may be large
            else:
                done += sum(map(bool, applied))
                behind, taken, left = batch[-1], taken + len(batch), left[len(batch) :]
                self._doubt({table.name})
            planned = _planned(left[:size])
            if on_progress is not None and behind is not None:
                on_progress(Progress(done, len(places), _encode(table.name, told, behind, taken, planned)))
        return done

    async def recount(self, model: type[Model], on_progress: OnProgress | None) -> int:
        """Count and add up all documents of a model anew, for its counters; how many there were."""
        if on_progress is not None:
            a_callback(on_progress, "on_progress")
        table = self._compiler.table(model)
        done, size, more = 0, _RECOUNTED, bool(table.counters)
        while more:
            try:
                (applied,) = await self._writer.commit(self._compiler.commit([Recount(table, size)]))
            except (LimitExceeded, FunctionFailed) as error:
                size = less(size, error, 4)
                continue
            assert isinstance(applied, DeletedRange)
            done, more = done + applied.deleted, applied.more
            if on_progress is not None:
                on_progress(Progress(done))
        return done

    def _doubt(self, tables: set[str]) -> None:
        """The session's instances of these tables may not be what is stored any more."""
        self._identities.doubt(lambda model: self._compiler.table(model).name in tables)


class _Planned(Data, frozen=True):
    """The commit that comes next: its id, how many documents it changes, and the last of them."""

    id: str
    count: int
    last: tuple[float, str]


def _planned(places: Sequence[tuple[float, str]]) -> _Planned | None:
    return _Planned(Commit.new(()).id, len(places), places[-1]) if places else None


def _digest(read: Read, query: Query[Any], patch: Patch) -> str:
    """What makes two calls the same: whose documents they change, and which fields. To what may be of the moment."""
    fields = sorted({*patch.set, *patch.unset, *patch.compute})
    asked = [encode_read(replace(read, follow=())), query._offset, query._limit, fields]
    return sha256(canonical(loads(dumps(asked)))).hexdigest()[:16]


def _encode(table: str, digest: str, place: tuple[float, str], taken: int, planned: _Planned | None) -> str:
    told = [table, digest, taken, *place, *(() if planned is None else (planned.id, planned.count, *planned.last))]
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode()


def _decode(cursor: str | None, table: str, digest: str) -> tuple[tuple[float, str] | None, int, _Planned | None]:
    """The last document that was changed, how many were, and the commit that was to follow. Raises InvalidCursorError for
    what is no cursor, or one of another call.
    """
    if cursor is None:
        return None, 0, None
    try:
        of, call, taken, time, id_, *planned = json.loads(base64.urlsafe_b64decode(cursor))
        place = float(time), str(id_)
        following = None
        if planned:
            commit, count, last, last_id = planned
            following = _Planned(str(commit), int(count), (float(last), str(last_id)))
        taken = int(taken)
    except (TypeError, ValueError, AttributeError):
        raise InvalidCursorError("not a cursor; pass that of the progress, unchanged", table=table) from None
    if of != table:
        raise InvalidCursorError("the cursor is of a change of another table", table=table)
    if call != digest:
        problem = "the cursor is of a change of another query, or of other attributes; resume with the same call"
        raise InvalidCursorError(problem, table=table)
    return place, taken, following
