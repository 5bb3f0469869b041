"""Reading: what a session gets from a deployment, and the identity map that keeps one instance of each document.

Queries become requests here, requests that one call cannot answer go on in further ones, and documents become instances:
the one the session holds already, as it is, or a new one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, Generic, TypeVar, cast, overload
from weakref import ref

import attrs

from convexorm.conditions import Combined, Comparison, Condition
from convexorm.cursors import decode_cursor, encode_cursor
from convexorm.deployments.base import Port
from convexorm.errors import (
    IndexRangeError,
    InvalidRequestError,
    MultipleResultsFound,
    NoResultFound,
    ValidationError,
)
from convexorm.expressions import Column
from convexorm.hooks import call_hook
from convexorm.identities import Identity, Instances, identity_of
from convexorm.mapper import Mapper, mapper_of
from convexorm.model import InstanceState, Model, VectorIndex
from convexorm.query import Count, Digest, Query
from convexorm.requests import (
    MAX_READS,
    Document,
    Key,
    Pack,
    Range,
    Read,
    ReadResult,
    Search,
    index_key,
)
from convexorm.schema import Table
from convexorm.turns import Turn, exclusive
from convexorm.values import MISSING, Missing, Value, is_whole

__all__ = ["AsyncReading", "Hit", "Page", "check_query"]

M = TypeVar("M", bound=Model)
M2 = TypeVar("M2", bound=Model)
M3 = TypeVar("M3", bound=Model)
T = TypeVar("T")

_STREAM_BATCH = 1_000
"""Documents one call of `stream` asks for."""


@attrs.frozen
class Page(Generic[T]):
    """Some of a query's documents. `cursor` is for the next page, None when there is none."""

    items: list[T]
    cursor: str | None
    has_more: bool


@attrs.frozen
class Hit(Generic[T]):
    """A document that a vector search found, with its cosine similarity (-1 to 1)."""

    item: T
    score: float


class AsyncReading:
    """The part of a session that reads. What it hands out is watched by `touched`, for the part that writes."""

    def __init__(self, port: Port, tables: Mapping[str, str] | None) -> None:
        self._port = port
        self._turn = Turn()
        self._names = dict(tables or {})
        self._tables: dict[str, Table] = {}
        self._mappers: dict[str, Mapper] = {}
        self._identities: dict[type[Model], Instances] = {}

    def touched(self, instance: Model) -> None:
        """An attribute was set, or a mutable value handed out: keep the instance until the next commit."""
        raise NotImplementedError

    def changing(self, instance: Model) -> None:
        """An attribute is about to be set. Raises InvalidRequestError while the session is in use by somebody else."""
        self._turn.check()
        self.touched(instance)

    @exclusive
    async def get(self, model: type[M], key: Any) -> M | None:
        """The document whose primary key (or `_id`, for a model without one) is `key`, or None.

        The key of several attributes is a tuple. An instance that the session holds is answered as it is, without reading;
        so is one that was added and is not committed yet, and None where the next commit deletes the document.
        """
        identity = identity_of(self._key(model, key).key)
        pending = self._pending_at(model, identity)
        if pending is not MISSING:
            return cast("M | None", pending)
        known = self._held(model, identity)
        if known is not None and not known._state.doubtful:
            return cast("M", known)
        (found,) = await self._get_many(model, [key])
        return found

    @exclusive
    async def get_one(self, model: type[M], key: Any) -> M:
        """`get`, where there has to be one. Raises NoResultFound if there is none."""
        found = await self.get(model, key)
        if found is None:
            raise NoResultFound(f"table {model.__mapper__.name!r}: no document with this key")
        return found

    @exclusive
    async def get_many(self, model: type[M], keys: Iterable[Any]) -> list[M | None]:
        """The documents with these keys, in their order, None where there is none. One call for up to 1,024 keys.

        What is added or deleted and not committed yet is seen, as by `get`.
        """
        wanted = list(keys)
        pending = [self._pending_at(model, identity_of(self._key(model, key).key)) for key in wanted]
        read = [key for key, one in zip(wanted, pending, strict=True) if one is MISSING]
        found = iter(await self._get_many(model, read))
        return [next(found) if one is MISSING else cast("M | None", one) for one in pending]

    @exclusive
    async def all(self, query: Query[M]) -> list[M]:
        """All documents of the query."""
        (documents,) = await self._documents([self._plan(query)])
        return self._load(query.model, documents)

    @exclusive
    async def first(self, query: Query[M]) -> M | None:
        """The first document of the query, or None."""
        return next(iter(await self.all(_at_most(query, 1))), None)

    @exclusive
    async def one_or_none(self, query: Query[M]) -> M | None:
        """The only document of the query, or None. Raises MultipleResultsFound if there are more."""
        found = await self.all(_at_most(query, 2))
        if len(found) > 1:
            raise MultipleResultsFound(f"table {query.model.__mapper__.name!r}: one document expected, more found")
        return found[0] if found else None

    @exclusive
    async def one(self, query: Query[M]) -> M:
        """The only document of the query. Raises NoResultFound if there is none, MultipleResultsFound if more."""
        found = await self.one_or_none(query)
        if found is None:
            raise NoResultFound(f"table {query.model.__mapper__.name!r}: one document expected, none found")
        return found

    @exclusive
    async def page(self, query: Query[M], size: int, cursor: str | None = None) -> Page[M]:
        """`size` documents of the query, from its beginning or behind `cursor`.

        A cursor stays valid after writes elsewhere: pages neither repeat nor skip a document that keeps its place.
        Raises InvalidCursorError for a cursor of another query and ValidationError for a size below 1 or a query with
        a limit.
        """
        table = check_query(query).model.__mapper__.name
        if not is_whole(size) or size < 1:
            raise ValidationError("a page has at least 1 document, and fewer than 2**53", table=table)
        if query._limit is not None or query._offset or query._after is not None:
            raise ValidationError("a query that is read in pages takes no limit, offset or after", table=table)
        read = self._plan(query)
        after = None if cursor is None else decode_cursor(read, cursor)
        (result,) = await self._run([attrs.evolve(read, after=after, limit=size, peek=True)])
        following = encode_cursor(read, index_key(result.docs[-1], read.range)) if result.more else None
        return Page(self._load(query.model, result.docs), following, result.more)

    async def stream(self, query: Query[M]) -> AsyncIterator[M]:
        """The documents of the query, one by one, read some at a time. Only those you keep or change stay in memory."""
        read = self._plan(query)
        left = read.limit
        while left is None or left > 0:
            size = _STREAM_BATCH if left is None else min(left, _STREAM_BATCH)
            result = await self._batch(attrs.evolve(read, limit=size, peek=True))
            last = index_key(result.docs[-1], read.range) if result.docs else None
            for document in result.docs:
                yield self._load(query.model, (document,))[0]
            if not result.more:
                return
            read = attrs.evolve(read, after=last, skip=0)
            left = None if left is None else left - size

    @exclusive
    async def count(self, query: Query[Any]) -> int:
        """How many documents the query has. Convex has no stored counts: each counted document is read there."""
        (result,) = await self._run([attrs.evolve(self._plan(query), count=True)])
        return result.count

    @overload
    async def read(self, one: Query[M], /) -> tuple[list[M]]: ...
    @overload
    async def read(self, one: Query[M], two: Query[M2], /) -> tuple[list[M], list[M2]]: ...
    @overload
    async def read(self, one: Query[M], two: Count, /) -> tuple[list[M], int]: ...
    @overload
    async def read(self, one: Query[M], two: Query[M2], three: Query[M3], /) -> tuple[list[M], list[M2], list[M3]]: ...
    @overload
    async def read(self, one: Query[M], two: Digest, /) -> tuple[list[M], str]: ...
    @overload
    async def read(self, *queries: Query[Any] | Count | Digest) -> tuple[Any, ...]: ...
    async def read(self, *queries: Any) -> Any:
        """Several queries, counts and digests of queries, in one call and from one snapshot: a list, an int or a text for
        each.

        What is too large for one call (8 MiB or 8,000 documents, on Convex) goes on in further ones.
        """
        return await self._read(queries)

    @exclusive
    async def digests(self, query: Query[Any]) -> Mapping[str, str]:
        """A digest of each document of the query by its `_id`: the same as long as the document is."""
        (result,) = await self._run([attrs.evolve(self._plan(query), digest="each")])
        return result.digests

    @exclusive
    async def matrix(self, vector: Column[Any], length: int, *queries: Query[Any]) -> ReadResult:
        """One attribute of all documents of the queries, an array of `length` numbers, as a matrix with a row for each.

        The result's `matrix` has the rows and the ids, `docs` the documents without that attribute as they are stored,
        `digests` a digest of each. Documents whose attribute is something else are left out. Nothing enters the identity
        map.
        """
        pack = Pack(vector.field, length)
        first, *rest = await self._run([attrs.evolve(self._plan(query), pack=pack) for query in queries])
        return reduce(ReadResult.joined, rest, first)

    @exclusive
    async def search(
        self, index: VectorIndex[M], vector: Sequence[float], limit: int = 10, where: Condition | None = None
    ) -> list[Hit[M]]:
        """The `limit` (1 to 256) documents nearest to `vector` in a vector index, by cosine similarity, best first.

        `where` is an equality on a filter field of the index, or several joined by `|`. Convex searches approximately,
        an embedded deployment exactly. Raises IndexRangeError for any other condition, ValidationError for a vector of
        another length or with what is no finite number, LimitExceeded for another limit or more than 64 equalities, and
        InvalidRequestError for what is no vector index.
        """
        if not isinstance(index, VectorIndex) or index.model is None or not issubclass(index.model, Model):
            raise InvalidRequestError("search takes a vector index of a model, such as Document.by_embedding")
        table = self._table(index.model)
        request = Search(table, index.name, vector, limit, _any_of(where, table, index.name))
        found = await self._port.search(request)
        items = self._load(index.model, [document for _, document in found])
        return [Hit(item, score) for item, (score, _) in zip(items, found, strict=True)]

    # -- underneath ----------------------------------------------------------------------------------------------

    def _mapper(self, model: type[Model]) -> Mapper:
        """The mapper of a model. InvalidRequestError where the session works with another class of the same table."""
        mapper = mapper_of(model)
        known = self._mappers.setdefault(mapper.name, mapper.root)
        if known is not mapper.root:
            raise InvalidRequestError(
                f"this session has table {mapper.name!r} as {known.model.__module__}.{known.model.__qualname__}, which is "
                f"another class than {model.__module__}.{model.__qualname__}; use one of them, or another session"
            )
        return mapper

    def _table(self, model: type[Model]) -> Table:
        return self._renamed(self._mapper(model).table)

    def _renamed(self, table: Table) -> Table:
        if table.name not in self._names:
            return table
        if table.name not in self._tables:
            self._tables[table.name] = table.renamed(self._names[table.name])
        return self._tables[table.name]

    def _plan(self, query: Query[Any]) -> Read:
        self._mapper(check_query(query).model)
        read = query.plan()
        if not self._names:
            return read
        return attrs.evolve(read, range=attrs.evolve(read.range, table=self._renamed(read.range.table)))

    def _statement(self, one: Query[Any] | Count | Digest) -> Read:
        if isinstance(one, Count):
            return attrs.evolve(self._plan(one.query), count=True)
        if isinstance(one, Digest):
            return attrs.evolve(self._plan(one.query), digest="all")
        return self._plan(one)

    def _answer(self, one: Query[Any] | Count | Digest, result: ReadResult) -> Any:
        if isinstance(one, Count):
            return result.count
        return result.digests[""] if isinstance(one, Digest) else self._load(one.model, result.docs)

    def _key(self, model: type[Model], key: Any) -> Key:
        mapper = mapper_of(model)
        names = mapper.key
        if not names:
            if not isinstance(key, str):
                raise ValidationError(f"an _id is a string, got {type(key).__name__}", table=mapper.name, field="_id")
            if not key.isascii():
                raise ValidationError("an _id is ASCII", table=mapper.name, field="_id")
            return Key("by_id", (key,))
        values = (key,) if len(names) == 1 else key
        if not isinstance(values, tuple) or len(values) != len(names):
            raise ValidationError(f"the primary key is a tuple ({', '.join(names)})", table=mapper.name)
        parts = zip(names, values, strict=True)
        return Key(mapper.primary_index, tuple(mapper.columns[name].operand(value) for name, value in parts))

    @exclusive
    async def _read(self, queries: Sequence[Any]) -> tuple[Any, ...]:
        results = await self._run([self._statement(one) for one in queries])
        return tuple(self._answer(one, result) for one, result in zip(queries, results, strict=True))

    @exclusive
    async def _batch(self, read: Read) -> ReadResult:
        """One step of a stream, which leaves the session to others between its steps."""
        (result,) = await self._run([read])
        return result

    async def _documents(self, reads: Sequence[Read]) -> list[Sequence[Document]]:
        return [result.docs for result in await self._run(reads)]

    async def _run(self, reads: Sequence[Read]) -> list[ReadResult]:
        """All answers to all reads, in as few calls as they take."""
        if len(reads) == 1:
            (result,) = await self._port.read(reads)
            if result.next is None:
                return [result]
            reads = [_rest(reads[0], result)]
            answers = {0: result}
        else:
            answers = {}
        pending = list(enumerate(reads))
        while pending:
            chunk, pending = pending[:MAX_READS], pending[MAX_READS:]
            results = await self._port.read([read for _, read in chunk])
            unfinished = []
            for (position, read), result in zip(chunk, results, strict=True):
                answers[position] = answers[position].joined(result) if position in answers else result
                if result.next is not None:
                    unfinished.append((position, _rest(read, result)))
            pending = unfinished + pending
        return [answers[position] for position in range(len(answers))]

    async def _get_many(self, model: type[M], keys: Sequence[Any]) -> list[M | None]:
        table, mapper = self._table(model), model.__mapper__
        index, only = mapper.primary_index, mapper.only
        reads = [Read(Range(table, index, self._key(model, key).key), filter=only, limit=1) for key in keys]
        found = await self._documents(reads) if reads else []
        instances: list[M | None] = []
        for read, documents in zip(reads, found, strict=True):
            loaded = self._load(model, documents)
            instances.append(loaded[0] if loaded else None)
            if not loaded and (gone := self._held(model, identity_of(read.range.eq))) is not None:
                self._found_gone(gone)
        return instances

    def _held(self, model: type[Model], identity: Identity) -> Model | None:
        """The instance whose document has this primary key, or this `_id` for a model without one."""
        instances = self._identities.get(model.__mapper__.root.model)
        held = None if instances is None else instances.by_key(identity)
        return held if isinstance(held, model) else None

    # what the part that writes knows of it

    def _pending_at(self, model: type[Model], identity: Identity) -> Model | Missing | None:
        """What is to have this primary key after the next commit: an instance, None, or MISSING if that decides nothing."""
        raise NotImplementedError

    def _found_gone(self, instance: Model) -> None:
        """The document of an instance was asked for, and is not there."""
        raise NotImplementedError

    def _renew(self, instance: Model, document: Document) -> None:
        """The document of an instance of which it was not known any more what it holds was read."""
        raise NotImplementedError

    def _load(self, model: type[M], documents: Sequence[Document]) -> list[M]:
        """The instances of documents: the ones the session holds already, unchanged, or new ones."""
        mapper = model.__mapper__
        root, polymorphic = mapper.root.model, mapper.polymorphic
        identities = self._identities.get(root)
        if identities is None:
            identities = self._identities[root] = Instances(root)
        refs = identities.refs
        known = refs.get
        create, install = model.__new__, object.__setattr__  # __dict__ would come to be if it were looked at
        loaded: list[Any] = []
        told: list[Model] | None = [] if mapper.watches_loads else None
        for document in documents:
            id_ = document["_id"]
            held = known(id_)
            instance = None if held is None else held()
            if instance is None:
                instance = create(mapper.class_of(document) if polymorphic else model)
                install(instance, "_state", InstanceState(document, self))
                refs[id_] = ref(instance)
            elif len(instance.__dict__) == 1:  # nothing was looked at yet, so the newer document may stand in
                instance._state.document = document
                instance._state.doubtful = False
            elif instance._state.doubtful:
                self._renew(instance, document)
            if told is not None and len(instance.__dict__) == 1:
                told.append(instance)
            loaded.append(instance)
        identities.loaded(loaded)
        for instance in told or ():
            call_hook("after_load", instance)
        return loaded


def check_query(query: Query[M]) -> Query[M]:
    """The query. Raises InvalidRequestError for anything else, such as the model itself."""
    if not isinstance(query, Query):
        given, such = type(query).__name__, "Task.query()"
        if isinstance(query, type) and issubclass(query, Model):
            given, such = "the model", f"{query.__name__}.query()"
        raise InvalidRequestError(f"a query is needed, such as {such}, got {given}")
    return query


def _at_most(query: Query[M], limit: int) -> Query[M]:
    query = check_query(query)
    return query if query._limit is not None and query._limit < limit else query.limit(limit)


def _rest(read: Read, result: ReadResult) -> Read:
    """The read that goes on where a call stopped."""
    return attrs.evolve(
        read,
        after=result.next or read.after,
        skip=read.skip - result.skipped,
        limit=None if read.limit is None else read.limit - result.count,
    )


def _any_of(where: Condition | None, table: Table, index: str) -> tuple[tuple[str, Value | Missing], ...]:
    if where is None:
        return ()
    members = where.args if isinstance(where, Combined) and where.op == "or" else (where,)
    filters: list[tuple[str, Value | Missing]] = []
    for member in members:
        if isinstance(member, Combined) and member.op == "or":
            filters += _any_of(member, table, index)
        elif isinstance(member, Comparison) and member.op == "eq" and not member.path:
            filters.append((member.field, member.value))
        else:
            raise IndexRangeError(
                "a vector search takes equalities on filter fields, joined by |", table=table.name, index=index
            )
    return tuple(filters)
