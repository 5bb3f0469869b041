"""`AsyncSession` and `Session`: identity map, unit of work, and commits that are one atomic mutation.

A session reads from a deployment and keeps at most one instance of each document (the identity map). It gathers what is
added, changed and deleted, and `commit()` sends all of it as one commit: applied whole or not at all, and once, however
often it has to be sent. A change carries what the overwritten fields held when they were loaded; if another writer has
changed one of them since, the commit is refused with StaleDataError. `transact` runs a function again when that happens.

Nothing is written before `commit()`, so reads do not see what is pending. A session is for one task or thread at a time;
the deployment below may be shared.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial, reduce
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast, overload
from uuid import uuid4
from weakref import WeakSet, ref

import attrs

from convexorm.cursors import decode_cursor, encode_cursor
from convexorm.deployments.base import Deployment, Port
from convexorm.errors import (
    IndexRangeError,
    InvalidRequestError,
    MultipleResultsFound,
    NoResultFound,
    StaleDataError,
    ValidationError,
)
from convexorm.expressions import Column, Combined, Comparison, Condition
from convexorm.faces import DONE, blocking, blocking_stream, finish
from convexorm.identities import Instances
from convexorm.model import InstanceState, Model, VectorIndex, dump
from convexorm.query import Count, Digest, Query
from convexorm.requests import (
    MAX_DELETED_BY_RANGE,
    MAX_READS,
    Applied,
    Commit,
    Delete,
    DeletedRange,
    DeleteRange,
    Document,
    Expect,
    Insert,
    Key,
    Pack,
    Patch,
    Range,
    Read,
    ReadResult,
    Search,
    Upsert,
    Write,
    Written,
    index_key,
)
from convexorm.schema import Table
from convexorm.values import MAX_DOCUMENT_SIZE, MISSING, Missing, Value, canonical, same

__all__ = ["AsyncSession", "Hit", "Page", "Session"]

M = TypeVar("M", bound=Model)
M2 = TypeVar("M2", bound=Model)
M3 = TypeVar("M3", bound=Model)
T = TypeVar("T")

TRANSACT_ATTEMPTS = 100
"""How often `transact` tries by default. Of the writers that collide one always wins, so n of them need at most n tries."""
_BACKOFF = 0.004
"""Seconds of the first pause between tries; each is drawn evenly from zero to twice the one before."""
_BACKOFF_MOST = 0.25
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


@attrs.define(eq=False)
class _Operation:
    """One thing asked of the unit of work: how to write it, and what becomes of the instance when it is written."""

    write: Callable[[], Write]
    applied: Callable[[Applied, Write], None]
    instance: Model | None = None


@attrs.define(eq=False)
class _Insertion:
    """The operation of an added instance. There may be thousands in a commit, so it is one object."""

    session: AsyncSession
    instance: Model
    unique: bool
    returning: bool

    def write(self) -> Write:
        model = type(self.instance)
        document = self.session._dumped(self.instance)
        key = self.session._key(model, self.instance.primary_key) if self.unique and model.__key__ else None
        return Insert(self.session._table(model), document, key, self.returning)

    def applied(self, applied: Applied, write: Write) -> None:
        self.session._inserted(self.instance, applied, write)


class AsyncSession:
    """A session whose reads and commits are awaited. `Session` is the same, blocking.

    `tables` renames tables for this session: `{"mastra_scorers": "mastra_scores"}`. Errors are those of
    `convexorm.errors`; every method that reads or commits may raise DeploymentError and AuthError.
    """

    def __init__(
        self, deployment: Deployment, *, tables: Mapping[str, str] | None = None, _port: Port | None = None
    ) -> None:
        self._port = _port or deployment.asynchronous
        self._names = dict(tables or {})
        self._tables: dict[str, Table] = {}
        self._identities: dict[type[Model], Instances] = {}
        self._keys: dict[tuple[str, str | bytes], str] = {}
        self._touched: dict[int, Model] = {}
        self._watched: WeakSet[Model] = WeakSet()
        self._operations: list[_Operation | _Insertion] = []
        self._sent: Commit | None = None

    # -- getting documents ---------------------------------------------------------------------------------------

    async def get(self, model: type[M], key: Any) -> M | None:
        """The document whose primary key (or `_id`, for a model without one) is `key`, or None.

        The key of several attributes is a tuple. A document this session has got before is answered from the identity map.
        """
        known = self._known(model, key)
        if known is not None:
            return known
        (found,) = await self._get_many(model, [key])
        return found

    async def get_many(self, model: type[M], keys: Iterable[Any]) -> list[M | None]:
        """The documents with these keys, in their order, None where there is none. One call for up to 1,024 keys."""
        return await self._get_many(model, list(keys))

    async def all(self, query: Query[M]) -> list[M]:
        """All documents of the query."""
        (documents,) = await self._documents([self._plan(query)])
        return self._load(query.model, documents)

    async def first(self, query: Query[M]) -> M | None:
        """The first document of the query, or None."""
        return next(iter(await self.all(_at_most(query, 1))), None)

    async def one_or_none(self, query: Query[M]) -> M | None:
        """The only document of the query, or None. Raises MultipleResultsFound if there are more."""
        found = await self.all(_at_most(query, 2))
        if len(found) > 1:
            raise MultipleResultsFound(f"table {query.model.__table__.name!r}: one document expected, more found")
        return found[0] if found else None

    async def one(self, query: Query[M]) -> M:
        """The only document of the query. Raises NoResultFound if there is none, MultipleResultsFound if more."""
        found = await self.one_or_none(query)
        if found is None:
            raise NoResultFound(f"table {query.model.__table__.name!r}: one document expected, none found")
        return found

    async def page(self, query: Query[M], size: int, cursor: str | None = None) -> Page[M]:
        """`size` documents of the query, from its beginning or behind `cursor`.

        A cursor stays valid after writes elsewhere: pages neither repeat nor skip a document that keeps its place.
        Raises InvalidCursorError for a cursor of another query and ValidationError for a size below 1 or a query with
        a limit.
        """
        table = query.model.__table__.name
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValidationError("a page has at least 1 document", table=table)
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
            (result,) = await self._run([attrs.evolve(read, limit=size, peek=True)])
            last = index_key(result.docs[-1], read.range) if result.docs else None
            for document in result.docs:
                yield self._load(query.model, (document,))[0]
            if not result.more:
                return
            read = attrs.evolve(read, after=last, skip=0)
            left = None if left is None else left - size

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
        results = await self._run([self._statement(one) for one in queries])
        return tuple(self._answer(one, result) for one, result in zip(queries, results, strict=True))

    async def digests(self, query: Query[Any]) -> Mapping[str, str]:
        """A digest of each document of the query by its `_id`: the same as long as the document is."""
        (result,) = await self._run([attrs.evolve(self._plan(query), digest="each")])
        return result.digests

    async def matrix(self, vector: Column[Any], length: int, *queries: Query[Any]) -> ReadResult:
        """One attribute of all documents of the queries, an array of `length` numbers, as a matrix with a row for each.

        The result's `matrix` has the rows and the ids, `docs` the documents without that attribute as they are stored,
        `digests` a digest of each. Documents whose attribute is something else are left out. Nothing enters the identity
        map.
        """
        pack = Pack(vector.field, length)
        first, *rest = await self._run([attrs.evolve(self._plan(query), pack=pack) for query in queries])
        return reduce(ReadResult.joined, rest, first)

    async def search(
        self, index: VectorIndex, vector: Sequence[float], limit: int = 10, where: Condition | None = None
    ) -> list[Hit[Any]]:
        """The `limit` (1 to 256) documents nearest to `vector` in a vector index, by cosine similarity, best first.

        `where` is an equality on a filter field of the index, or several joined by `|`. Convex searches approximately,
        an embedded deployment exactly. Raises IndexRangeError for any other condition.
        """
        if index.model is None or not issubclass(index.model, Model):
            raise InvalidRequestError("search takes a vector index of a model, such as Document.by_embedding")
        table = self._table(index.model)
        request = Search(table, index.name, vector, limit, _any_of(where, table, index.name))
        found = await self._port.search(request)
        items = self._load(index.model, [document for _, document in found])
        return [Hit(item, score) for item, (score, _) in zip(items, found, strict=True)]

    async def refresh(self, instance: Model) -> None:
        """Load the instance's document again, dropping changes not committed. StaleDataError if it is gone."""
        document = self._document_of(instance)
        model = type(instance)
        (result,) = await self._run([Read(Range(self._table(model), "by_id", (document["_id"],)), limit=1)])
        if not result.docs:
            raise StaleDataError(table=self._table(model).name, reason="missing")
        self._reset(instance, result.docs[0])

    # -- the unit of work ----------------------------------------------------------------------------------------

    @property
    def new(self) -> list[Model]:
        """Instances added and not yet committed."""
        return [one.instance for one in self._operations if one.instance is not None and _is_new(one.instance)]

    @property
    def dirty(self) -> list[Model]:
        """Persistent instances whose attributes differ from their documents."""
        return [instance for instance in self._changeable() if _changes(instance)]

    @property
    def deleted(self) -> list[Model]:
        """Instances marked for deletion and not yet committed."""
        return [one.instance for one in self._operations if one.instance is not None and not _is_new(one.instance)]

    def __contains__(self, instance: Model) -> bool:
        return instance._state.session is self

    def touched(self, instance: Model) -> None:
        """An attribute was set, or a mutable value handed out: keep the instance until the next commit."""
        if instance._state.document is not None:
            self._touched[id(instance)] = instance

    def add(self, instance: Model, *, unique: bool = True, returning: bool = True) -> Awaitable[None]:
        """Put a new instance into the session; the next commit inserts it.

        A model with a primary key is inserted only if no document has that key (StaleDataError, `exists`), unless `unique`
        is False because the key is known to be new. Without `returning`, and beyond 1,000 documents in one commit, its
        `creation_time` stays None on Convex until `refresh`: Convex has to read each document back for it. Nothing waits
        here; awaiting the result is allowed. Raises InvalidRequestError for an instance of another session, or one deleted.
        """
        if instance._state.session is self:
            return DONE
        self._adopt(instance)

        self._operations.append(_Insertion(self, instance, unique, returning))
        return DONE

    def add_all(self, instances: Iterable[Model], *, unique: bool = True, returning: bool = True) -> Awaitable[None]:
        """`add` each of them."""
        for instance in instances:
            self.add(instance, unique=unique, returning=returning)
        return DONE

    def upsert(self, instance: Model, *, keep: Iterable[str] = (), returning: bool = True) -> Awaitable[None]:
        """Insert the instance, or replace the document with its primary key whole, without reading it first.

        Attributes in `keep` stay as stored where a document is replaced; the instance shows them after `refresh`.
        Without `returning` a new document's `creation_time` stays None, which saves Convex reading it back.
        """
        model = type(instance)
        if not model.__key__:
            raise InvalidRequestError(f"{model.__name__} has no primary key to upsert by")
        kept = tuple(self._field(model, name) for name in keep)
        self._adopt(instance)

        def write() -> Write:
            document = self._dumped(instance)
            return Upsert(self._table(model), self._key(model, instance.primary_key), document, kept, returning)

        self._operations.append(_Operation(write, partial(self._inserted, instance), instance))
        return DONE

    def update(
        self,
        model: type[Model],
        key: Any,
        values: Mapping[str, Any],
        *,
        expected: Mapping[str, Any] | None = None,
        missing_ok: bool = False,
    ) -> Awaitable[None]:
        """Set some attributes of the document with this key, without reading it first; other writers' changes to them
        are overwritten. With `missing_ok` a document that is gone is passed over, else the commit is refused.

        `expected` makes it a compare-and-set: the commit is refused with StaleDataError unless these attributes hold these
        values when it is applied.
        """
        table, at = self._table(model), self._target(model, key)
        columns = {name: self._column(model, name) for name in (*values, *(expected or ()))}
        set_: dict[str, Value] = {}
        unset: list[str] = []
        for name, value in values.items():
            dumped = columns[name].dump(value)
            if dumped is MISSING:
                unset.append(columns[name].field)
            else:
                set_[columns[name].field] = dumped
        expect: Expect = {columns[name].field: columns[name].dump(value) for name, value in (expected or {}).items()}
        if sum(len(value) for value in set_.values() if isinstance(value, str | bytes)) > MAX_DOCUMENT_SIZE // 8:
            table.check_size(set_)
        patch = Patch(table, at, set_, tuple(unset), expect, missing="skip" if missing_ok else "fail")
        self._operations.append(_Operation(lambda: patch, lambda applied, write: None))
        return DONE

    async def bulk_upsert(self, model: type[Model], rows: Iterable[Mapping[str, Any]]) -> None:
        """Insert or replace documents by their primary keys at once, in one commit and without instances.

        `rows` are attributes by name; those left out take their defaults. What is pending in the session stays pending.
        """
        columns, table = model.__columns__, self._table(model)
        writes: list[Write] = []
        for row in rows:
            values = {name: row[name] if name in row else column.default() for name, column in columns.items()}
            document = {columns[name].field: columns[name].dump(value) for name, value in values.items()}
            document = {field: value for field, value in document.items() if value is not MISSING}
            key = tuple(document[columns[name].field] for name in model.__key__)
            writes.append(Upsert(table, Key(model.__primary_index__, key), document))
        if writes:
            await self._port.commit(Commit(uuid4().hex, writes))

    def delete(self, instance: Model) -> Awaitable[None]:
        """Mark the instance for deletion; the next commit deletes its document.

        StaleDataError on commit if it is gone already. Raises InvalidRequestError for an instance this session does not
        hold.
        """
        if instance._state.session is not self:
            raise InvalidRequestError(f"{instance!r} is not in this session")
        if _is_new(instance):
            self._operations = [one for one in self._operations if one.instance is not instance]
            instance._state.session = None
            return DONE
        if any(one.instance is instance for one in self._operations):
            return DONE
        document = self._document_of(instance)
        delete = Delete(self._table(type(instance)), document["_id"])
        self._operations.append(_Operation(lambda: delete, self._removed(instance), instance))
        return DONE

    def delete_key(self, model: type[Model], key: Any, *, missing_ok: bool = True) -> Awaitable[None]:
        """Delete the document with this key in the next commit, without reading it first."""
        delete = Delete(self._table(model), self._target(model, key), missing="skip" if missing_ok else "fail")
        self._operations.append(_Operation(lambda: delete, lambda applied, write: None))
        return DONE

    def delete_range(self, query: Query[Any]) -> Awaitable[None]:
        """Delete all documents of the query in the next commit, atomically with the rest of it.

        The commit is refused with LimitExceeded if there are more than one commit can delete (4,000 documents, 6 MiB). A
        query with a limit deletes up to that many, and fewer where more would be too many.
        """
        range_, filter_ = self._deletable(query)
        if query._limit == 0:
            return DONE
        delete = DeleteRange(range_, filter_, query._limit)
        self._operations.append(_Operation(lambda: delete, lambda applied, write: None))
        return DONE

    async def delete_all(self, query: Query[Any]) -> int:
        """Delete all documents of the query at once, in as many commits as it takes, and say how many there were.

        Each commit is atomic, all together are not. What is pending in the session stays pending.
        """
        range_, filter_ = self._deletable(query)
        left = query._limit
        total = 0
        while left is None or left > 0:
            limit = MAX_DELETED_BY_RANGE if left is None else min(left, MAX_DELETED_BY_RANGE)
            (applied,) = await self._port.commit(Commit(uuid4().hex, [DeleteRange(range_, filter_, limit)]))
            assert isinstance(applied, DeletedRange)
            total += applied.deleted
            left = None if left is None else left - applied.deleted
            if not applied.more:
                break
        return total

    async def commit(self) -> None:
        """Write everything pending as one atomic commit.

        Changed attributes are written field by field; a field that another writer has changed since it was loaded is
        refused (StaleDataError, nothing written). ValidationError and LimitExceeded are raised before anything is sent.
        After an error everything is still pending: mend it and commit again, or `rollback()`. After a DeploymentError the
        outcome may be unknown; committing the same changes again is safe, they are applied once.
        """
        operations: list[_Operation | _Insertion] = [*self._patches(), *self._operations]
        if not operations:
            return
        writes = [operation.write() for operation in operations]
        if self._sent is None or self._sent.writes != writes:
            self._sent = Commit(uuid4().hex, writes)
        try:
            results = await self._port.commit(self._sent)
        except StaleDataError as error:  # a refused commit is not remembered, so the same id may be sent again
            if error.write is not None:
                error.instance = operations[error.write].instance
            raise
        self._sent = None
        self._operations = []
        for operation, write, applied in zip(operations, writes, results, strict=True):
            operation.applied(applied, write)
        for instance in (*self._touched.values(), *(one.instance for one in operations if one.instance is not None)):
            if _holds_mutable(instance):
                self._watched.add(instance)
        self._touched = {}

    def rollback(self) -> Awaitable[None]:
        """Forget everything pending: new instances leave the session, changed ones show their documents again."""
        self._sent = None
        operations, self._operations = self._operations, []
        for operation in operations:
            if operation.instance is not None and _is_new(operation.instance):
                operation.instance._state.session = None
        for instance in self._changeable():
            self._reset(instance, instance._state.document)
        self._touched = {}
        self._watched.clear()
        return DONE

    def expunge_all(self) -> Awaitable[None]:
        """Let go of every instance, and of what is pending."""
        self.rollback()
        for instances in self._identities.values():
            for instance in instances:
                instance._state.session = None
        self._identities = {}
        self._keys = {}
        return DONE

    async def transact(self, fn: Callable[[AsyncSession], Awaitable[T]], *, attempts: int = TRANSACT_ATTEMPTS) -> T:
        """Run `fn(session)` and commit; after a conflict, run it again on fresh documents. Answers what `fn` answered.

        `fn` must be safe to run several times. Raises the last StaleDataError after `attempts`, and at once if the same
        primary key is found taken twice in a row. Raises InvalidRequestError if something is pending already.
        """
        if self._operations or self.dirty:
            raise InvalidRequestError("commit or roll back what is pending before a transaction")
        taken: tuple[str, object] | None = None
        for attempt in range(attempts):
            self.expunge_all()
            try:
                result = await fn(self)
                await self.commit()
            except StaleDataError as error:
                conflict = None if error.reason != "exists" else (error.table, getattr(error.instance, "primary_key", None))
                self.expunge_all()
                if attempt + 1 >= attempts or (conflict is not None and conflict == taken):
                    raise
                taken = conflict
                await self._port.pause(random.uniform(0, min(_BACKOFF * 2**attempt, _BACKOFF_MOST)))
            except BaseException:
                self.expunge_all()
                raise
            else:
                return result
        raise InvalidRequestError("transact needs at least one attempt")

    async def close(self) -> None:
        """Let go of everything; what was not committed is dropped. The deployment stays open."""
        self.expunge_all()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- reading, underneath -------------------------------------------------------------------------------------

    def _table(self, model: type[Model]) -> Table:
        return self._renamed(model.__table__)

    def _renamed(self, table: Table) -> Table:
        if table.name not in self._names:
            return table
        if table.name not in self._tables:
            self._tables[table.name] = table.renamed(self._names[table.name])
        return self._tables[table.name]

    def _plan(self, query: Query[Any]) -> Read:
        read = query.plan()
        if not self._names:
            return read
        return attrs.evolve(read, range=attrs.evolve(read.range, table=self._renamed(read.range.table)))

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
        table, index = self._table(model), model.__primary_index__
        reads = [Read(Range(table, index, self._key(model, key).key), limit=1) for key in keys]
        found = await self._documents(reads) if reads else []
        instances: list[M | None] = []
        for key, documents in zip(keys, found, strict=True):
            loaded = self._load(model, documents)
            instances.append(loaded[0] if loaded else None)
            if loaded:
                self._keys[table.name, _identity(self._key(model, key).key)] = documents[0]["_id"]
        return instances

    def _known(self, model: type[M], key: Any) -> M | None:
        wanted = self._key(model, key)
        id_ = self._keys.get((self._table(model).name, _identity(wanted.key)))
        if id_ is None or model not in self._identities:
            return None
        instance = self._identities[model].get(id_)
        document = None if instance is None else instance._state.document
        if document is None or not same(_key_of(model, document), list(wanted.key)):
            return None  # it has another key by now
        return cast("M", instance)

    def _load(self, model: type[M], documents: Sequence[Document]) -> list[M]:
        """The instances of documents: the ones the session holds already, unchanged, or new ones."""
        identities = self._identities.get(model)
        if identities is None:
            identities = self._identities[model] = Instances()
        refs = identities.refs
        known = refs.get
        create, install = model.__new__, object.__setattr__  # __dict__ would come to be if it were looked at
        loaded: list[Any] = []
        for document in documents:
            id_ = document["_id"]
            held = known(id_)
            instance = None if held is None else held()
            if instance is None:
                instance = create(model)
                install(instance, "_state", InstanceState(document, self))
                refs[id_] = ref(instance)
            elif len(instance.__dict__) == 1:  # nothing was looked at yet, so the newer document may stand in
                instance._state.document = document
            loaded.append(instance)
        identities.sweep()
        return loaded

    # -- writing, underneath -------------------------------------------------------------------------------------

    def _column(self, model: type[Model], name: str) -> Any:
        column = model.__columns__.get(name)
        if column is None:
            known = ", ".join(model.__columns__)
            raise ValidationError(f"no such attribute; the attributes are {known}", table=model.__table__.name, field=name)
        return column

    def _field(self, model: type[Model], name: str) -> str:
        field: str = self._column(model, name).field
        return field

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
        names = model.__key__
        if not names:
            if not isinstance(key, str):
                raise ValidationError(
                    f"an _id is a string, got {type(key).__name__}", table=model.__table__.name, field="_id"
                )
            return Key("by_id", (key,))
        values = (key,) if len(names) == 1 else key
        if not isinstance(values, tuple) or len(values) != len(names):
            raise ValidationError(f"the primary key is a tuple ({', '.join(names)})", table=model.__table__.name)
        parts = zip(names, values, strict=True)
        return Key(model.__primary_index__, tuple(model.__columns__[name]._operand(value) for name, value in parts))

    def _target(self, model: type[Model], key: Any) -> str | Key:
        target = self._key(model, key)
        return key if target.index == "by_id" else target

    def _document_of(self, instance: Model) -> Document:
        document = instance._state.document
        if document is None or instance._state.session is not self:
            raise InvalidRequestError(f"{instance!r} is not persistent in this session")
        return document

    def _adopt(self, instance: Model) -> None:
        state = instance._state
        if state.deleted:
            raise InvalidRequestError(f"{instance!r} is deleted")
        if state.session is not None:
            raise InvalidRequestError(f"{instance!r} is in a session already")
        if state.document is not None:
            raise InvalidRequestError(f"{instance!r} is detached; load it in this session instead")
        state.session = self

    def _dumped(self, instance: Model) -> dict[str, Value]:
        if type(instance).__validated__:
            _validate(instance)
        return dump(instance)

    def _inserted(self, instance: Model, written: Applied, write: Write) -> None:
        assert isinstance(written, Written)
        assert isinstance(write, Insert | Upsert)
        document = {**write.doc, "_id": written.id, "_creationTime": written.creation_time}
        instance._state.document = document
        model = type(instance)
        identities = self._identities.get(model)
        if identities is None:
            identities = self._identities[model] = Instances()
        identities.put(written.id, instance)
        if model.__key__:
            self._keys[write.table.name, _identity(_key_of(model, document))] = written.id

    def _removed(self, instance: Model) -> Callable[[Applied, Write], None]:
        def applied(_: Applied, write: Write) -> None:
            state = instance._state
            if state.document is not None:
                instances = self._identities.get(type(instance))
                if instances is not None:
                    instances.discard(state.document["_id"])
            state.session = None
            state.deleted = True

        return applied

    def _changeable(self) -> list[Model]:
        """The persistent instances that may differ from their documents.

        Those touched since the last commit are kept; those whose mutable values were handed out before it only as long as
        somebody else keeps them.
        """
        touched = list(self._touched.values())
        if self._watched:
            touched += [one for one in self._watched if id(one) not in self._touched and one._state.session is self]
        return touched

    def _patches(self) -> list[_Operation]:
        """The changes of persistent instances that are not to be deleted."""
        doomed = {id(one.instance) for one in self._operations}
        patches: list[_Operation] = []
        for instance in self._changeable():
            changes = {} if id(instance) in doomed else _changes(instance)
            if not changes:
                continue
            if type(instance).__validated__:
                _validate(instance)
            document = self._document_of(instance)
            set_ = {field: new for field, (_, new) in changes.items() if new is not MISSING}
            unset = tuple(field for field, (_, new) in changes.items() if new is MISSING)
            expect: Expect = {field: old for field, (old, _) in changes.items()}
            table = self._table(type(instance))
            if any(map(_may_be_large, set_.values())):
                table.check_size({name: value for name, value in {**document, **set_}.items() if name[0] != "_"})
            patch = Patch(table, document["_id"], set_, unset, expect)
            patches.append(_Operation(lambda patch=patch: patch, self._patched(instance), instance))  # type: ignore[misc]
        return patches

    def _patched(self, instance: Model) -> Callable[[Applied, Write], None]:
        def applied(_: Applied, write: Write) -> None:
            assert isinstance(write, Patch)
            document = {**self._document_of(instance), **write.set}
            for field in write.unset:
                document.pop(field, None)
            instance._state.document = document

        return applied

    def _reset(self, instance: Model, document: Document | None) -> None:
        state = instance._state
        state.document = document
        instance.__dict__.clear()
        instance.__dict__["_state"] = state
        self._touched.pop(id(instance), None)
        self._watched.discard(instance)

    def _deletable(self, query: Query[Any]) -> tuple[Range, Condition | None]:
        table = query.model.__table__.name
        if query._offset or query._after is not None:
            raise ValidationError("a query whose documents are deleted takes no offset or after", table=table)
        if query._limit is not None and query._order == "desc":
            raise ValidationError("a query whose first documents are deleted is ascending", table=table)
        read = self._plan(query)
        return read.range, read.filter


# -- small pieces --------------------------------------------------------------------------------------------------


def _identity(key: Sequence[Value | Missing]) -> str | bytes:
    """A primary key as a dictionary takes it: two are equal if the keys are the same."""
    if len(key) == 1 and type(key[0]) is str:
        return key[0]
    return b"".join(map(canonical, key))


def _key_of(model: type[Model], document: Document) -> list[Value | Missing]:
    """A document's primary key, field by field; its `_id` for a model without one."""
    fields = [model.__columns__[name].field for name in model.__key__] or ["_id"]
    return [document.get(field, MISSING) for field in fields]


def _is_new(instance: Model) -> bool:
    return instance._state.document is None


def _at_most(query: Query[M], limit: int) -> Query[M]:
    return query if query._limit is not None and query._limit < limit else query.limit(limit)


def _validate(instance: Model) -> None:
    try:
        attrs.validate(instance)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ValidationError(str(error.args[0]), table=instance.__table__.name) from error


def _holds_mutable(instance: Model) -> bool:
    """Whether an attribute that can be changed in place was handed out, so that the instance has to be watched on."""
    return any(name in instance.__dict__ for name in instance.__mutable__)


def _changes(instance: Model) -> dict[str, tuple[Value | Missing, Value | Missing]]:
    """What differs from the loaded document: for each field what it held and what it is to hold."""
    document = instance._state.document
    changes: dict[str, tuple[Value | Missing, Value | Missing]] = {}
    if document is None:
        return changes
    held = instance.__dict__
    for name, column in instance.__columns__.items():
        if name in held:
            old, new = document.get(column.field, MISSING), column.dump(held[name])
            if not column.type.equal(old, new) and not _loads_as(column, old, new):
                changes[column.field] = (old, new)
    return changes


def _may_be_large(value: Value) -> bool:
    """Whether a document may become too large through this value, so that it has to be measured."""
    return len(value) > MAX_DOCUMENT_SIZE // 64 if isinstance(value, str | bytes) else isinstance(value, dict | list)


def _loads_as(column: Column[Any], old: Value | Missing, new: Value | Missing) -> bool:
    """Whether `new` is only another form of what `old` is loaded as: a default, another form of None, a set reordered."""
    try:
        return same(column.dump(column.load(old)), new)
    except ValidationError:
        return False


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


# -- the blocking face ---------------------------------------------------------------------------------------------


class Session:
    """A session whose reads and commits block. `AsyncSession` is the same, awaited.

    Use it as a context manager; leaving it drops what was not committed.
    """

    def __init__(self, deployment: Deployment, *, tables: Mapping[str, str] | None = None) -> None:
        self._core = AsyncSession(deployment, tables=tables, _port=deployment.blocking)

    get = blocking(AsyncSession.get)
    get_many = blocking(AsyncSession.get_many)
    all = blocking(AsyncSession.all)
    first = blocking(AsyncSession.first)
    one = blocking(AsyncSession.one)
    one_or_none = blocking(AsyncSession.one_or_none)
    page = blocking(AsyncSession.page)
    stream = blocking_stream(AsyncSession.stream)
    count = blocking(AsyncSession.count)
    read = blocking(AsyncSession.read)
    search = blocking(AsyncSession.search)
    digests = blocking(AsyncSession.digests)
    matrix = blocking(AsyncSession.matrix)
    refresh = blocking(AsyncSession.refresh)
    add = blocking(AsyncSession.add)
    add_all = blocking(AsyncSession.add_all)
    upsert = blocking(AsyncSession.upsert)
    bulk_upsert = blocking(AsyncSession.bulk_upsert)
    update = blocking(AsyncSession.update)
    delete = blocking(AsyncSession.delete)
    delete_key = blocking(AsyncSession.delete_key)
    delete_range = blocking(AsyncSession.delete_range)
    delete_all = blocking(AsyncSession.delete_all)
    commit = blocking(AsyncSession.commit)
    rollback = blocking(AsyncSession.rollback)
    expunge_all = blocking(AsyncSession.expunge_all)
    close = blocking(AsyncSession.close)

    def transact(self, fn: Callable[[Session], T], *, attempts: int = TRANSACT_ATTEMPTS) -> T:
        async def run(_: AsyncSession) -> T:
            return fn(self)

        return finish(self._core.transact(run, attempts=attempts))

    transact.__doc__ = AsyncSession.transact.__doc__

    @property
    def new(self) -> list[Model]:
        return self._core.new

    @property
    def dirty(self) -> list[Model]:
        return self._core.dirty

    @property
    def deleted(self) -> list[Model]:
        return self._core.deleted

    def __contains__(self, instance: Model) -> bool:
        return instance in self._core

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
