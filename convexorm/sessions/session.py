"""`AsyncSession`: identity map, unit of work, and commits that are one atomic mutation.

A session reads from a deployment (`reader`) and keeps at most one instance of each document (`identities`). It gathers what
is added, changed and deleted (`pending`), and `commit()` sends all of it as one commit (`unit_of_work`): applied whole or
not at all, and once, however often it has to be sent. A change carries what the overwritten fields held when they were
loaded; if another writer has changed one of them since, the commit is refused with StaleDataError. `transact` runs a
function again when that happens.

Nothing is written before `commit()`, so reads do not see what is pending. A session is for one task or thread at a time;
the deployment below may be shared.
"""

from __future__ import annotations

import copy
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property, reduce
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, TypeVar, cast, overload

from msgspec.structs import replace

from convexorm.calling import Arguments
from convexorm.conditions import Condition
from convexorm.cursors import decode_cursor, encode_cursor
from convexorm.deployments.base import Deployment, Port, check_deployment
from convexorm.deployments.reader import Reader
from convexorm.errors import (
    ConvexORMError,
    DeploymentError,
    InvalidRequestError,
    MultipleResultsFound,
    NoResultFound,
    StaleDataError,
    ValidationError,
)
from convexorm.faces import DONE, finish, named
from convexorm.given import a_function, by_name, several
from convexorm.mapping.expressions import Column, Some, Summed
from convexorm.mapping.hooks import call_hook
from convexorm.mapping.mapper import mapper_of
from convexorm.mapping.model import Index, Model, SearchIndex, VectorIndex, state_of
from convexorm.mapping.relations import Path, check_paths
from convexorm.mapping.validation import check_values_of
from convexorm.querying.query import Query
from convexorm.querying.statements import Count, Exists, Rows, Select, Statement
from convexorm.querying.texts import TextQuery, check_index
from convexorm.requests import Cancel, Delete, DeleteRange, Key, KeyValue, Pack, Range, Read, ReadResult, index_key
from convexorm.sessions.bulk import Bulk, OnProgress
from convexorm.sessions.changes import stored_alike
from convexorm.sessions.compiler import Compiler, check_query, check_rows, root_of
from convexorm.sessions.identities import is_of
from convexorm.sessions.instances import identity_of, key_of
from convexorm.sessions.loading import Loader
from convexorm.sessions.members import Members
from convexorm.sessions.operations import (
    ChangeByKey,
    DeletionByKey,
    DeletionOfRange,
    Insertion,
    Upsertion,
    check_keyed,
    patch_by_key,
)
from convexorm.sessions.pending import Pending
from convexorm.sessions.results import Fitting, Hit, Page, Progress
from convexorm.sessions.scheduling import Cancellation, Scheduled, Scheduling
from convexorm.sessions.sieve import OfInvalid, Sieve
from convexorm.sessions.trees import Trees
from convexorm.sessions.turns import Turn, exclusive
from convexorm.sessions.unit_of_work import UnitOfWork
from convexorm.sessions.writer import Writer
from convexorm.values import MAX_ARRAY_LENGTH, MISSING, is_whole

__all__ = ["TRANSACT_ATTEMPTS", "AsyncSession"]

M = TypeVar("M", bound=Model)
R = TypeVar("R")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")

_STREAM_BATCH = 1_000
"""Documents one call of `stream` asks for."""

TRANSACT_ATTEMPTS = 100
"""How often `transact` tries by default. Of the writers that collide one always wins, so n of them need at most n tries."""
_BACKOFF = 0.004
"""Seconds of the first pause between tries; each is drawn evenly from zero to twice the one before."""
_BACKOFF_MOST = 0.25
_CREATE_ATTEMPTS = 8
"""How often `get_or_create` tries, where a document is there and gone again each time."""


class AsyncSession:
    """A session whose reads and commits are awaited. `Session` is the same, blocking.

    `tables` renames tables for this session: `{"mastra_scorers": "mastra_scores"}`. Raises InvalidRequestError for what is
    no deployment, such as its URL. Errors are those of `convexorm.errors`; every method that reads or commits may raise
    DeploymentError and AuthError.
    """

    def __init__(
        self, deployment: Deployment, *, tables: Mapping[str, str] | None = None, _port: Port | None = None
    ) -> None:
        self._port = port = _port or check_deployment(deployment).asynchronous
        self._turn = turn = Turn()
        self._compiler = compiler = Compiler(dict(tables) if tables else None, not getattr(port, "takes_any_size", False))
        self._reader = Reader(port)
        self._pending = pending = Pending(compiler)
        self._members = members = Members(turn, compiler, pending)
        self._unit_of_work = UnitOfWork(port, compiler, members, pending)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a session cannot be pickled or copied; open another one of its deployment")

    @cached_property
    def _loader(self) -> Loader:
        return Loader(self._compiler, self._reader, self._members)

    @cached_property
    def _trees(self) -> Trees:
        return Trees(Writer(self._port), self._compiler, self._reader, self._members)

    @cached_property
    def _bulk(self) -> Bulk:
        return Bulk(self._port, self._compiler, self._members)

    # -- reading -----------------------------------------------------------------------------------------------------

    @exclusive
    async def get(self, model: type[M], key: Any = MISSING, /, *, load: Sequence[Path] = (), **unique: Any) -> M | None:
        """The document whose primary key (or `_id`, for a model without one) is `key`, or None.

        The key of several attributes is a tuple. An instance that the session holds is answered as it is, without reading;
        so is one that was added and is not committed yet, and None where the next commit deletes the document. `load` are
        relations to load with it.

        Instead of the key all attributes of a unique index can be given by name, such as `get(Customer, email="a@x")`. Then
        the document is read, unless one added and not committed has the values. Raises InvalidRequestError for attributes
        that are none, and MultipleResultsFound where others have written several documents with these values.
        """
        if unique or key is MISSING:
            return await self._get_unique(model, key, unique, load)
        return await self._get(model, key, load)

    async def _get(self, model: type[M], key: Any, load: Sequence[Path] = ()) -> M | None:
        mapper = self._compiler.mapper(model)
        at, paths = self._compiler.key_of(mapper, key), check_paths(load, model) if type(load) is not tuple or load else ()
        if self._pending.operations or self._members.of_models:
            identity = identity_of(at.key)
            pending = self._pending.at(model, identity)
            known = self._members.held(model, identity) if pending is MISSING else cast("M | None", pending)
            if pending is not MISSING or (known is not None and not known._state.doubtful):
                if paths and known is not None:
                    await self._loader.load([known], paths)
                return cast("M | None", known)
        result = await self._reader.one(self._compiler.read_of_key(mapper, at, paths))
        if result.count and not paths:
            return self._members.load(model, result.docs)[0]
        return await self._got(model, at, paths, result)

    async def _loaded(self, model: type[Any], paths: Sequence[Path], result: ReadResult) -> list[Any]:
        """The instances of an answer's documents, with what these paths lead to."""
        return await self._loader.instances(model, paths, result) if paths else self._members.load(model, result.docs)

    async def _got(self, model: type[M], at: Key, paths: Sequence[Path], result: ReadResult) -> M | None:
        """The instance that was read by its key; None if there is none."""
        if result.count:
            found: list[M] = await self._loaded(model, paths, result)
            return found[0]
        gone = self._members.held(model, identity_of(at.key))
        if gone is not None:
            self._members.found_gone(gone)
        return None

    @exclusive
    async def get_one(self, model: type[M], key: Any = MISSING, /, *, load: Sequence[Path] = (), **unique: Any) -> M:
        """`get`, where there has to be one. Raises NoResultFound if there is none."""
        by_attributes = unique or key is MISSING
        found = await (self._get_unique(model, key, unique, load) if by_attributes else self._get(model, key, load))
        if found is None:
            raise NoResultFound(f"table {model.__mapper__.name!r}: no document with this key")
        return found

    @exclusive
    async def get_many(self, model: type[M], keys: Iterable[Any], *, load: Sequence[Path] = ()) -> list[M | None]:
        """The documents with these keys, in their order, None where there is none. One call for up to 1,024 keys.

        What is added or deleted and not committed yet is seen, as by `get`.
        """
        paths = check_paths(load, model)
        wanted = [self._compiler.key(model, key) for key in several(keys, "keys")]
        pending = [self._pending.at(model, identity_of(at.key)) for at in wanted]
        read = [at for at, one in zip(wanted, pending, strict=True) if one is MISSING]
        found = iter(await self._get_many(model, read, paths))
        new = [one for one in pending if isinstance(one, Model)]
        if paths and new:
            await self._loader.load(new, paths)
        return [next(found) if one is MISSING else cast("M | None", one) for one in pending]

    @exclusive
    async def load(self, instances: Model | Iterable[Model], *paths: Path) -> None:
        """Load relations of instances that are there already: `session.load(orders, Order.customer)`.

        What they are related to is read in one call and from one snapshot, as far as one call goes; the instances
        themselves are not read again. Raises InvalidRequestError for what is no relation of theirs.
        """
        given = [instances] if isinstance(instances, Model) else several(instances, "instances")
        await self._loader.load(given, paths)

    @overload
    async def all(self, query: Rows[R], *, invalid: Literal["raise", "skip"] | None = None) -> list[R]: ...
    @overload
    async def all(self, query: Rows[R], *, invalid: Literal["collect"]) -> Fitting[R]: ...
    async def all(self, query: Rows[R], *, invalid: OfInvalid | None = None) -> list[R]:
        """All documents of the query, or all that it selects.

        A document that does not fit its model, written by others or by an older program, raises ValidationError when a
        column of it is looked at that does not. With `invalid="raise"` the first such document raises at once, with
        `"skip"` they are left out, and with `"collect"` the answer has them as `.invalid`, each with `id` and `error`.
        A document is taken as the session shows it, and without what is loaded beside it. Raises InvalidRequestError for
        anything else, and for leaving out documents of which there are only groups or distinct values.
        """
        if invalid is None:
            return await self._of(check_rows(query))
        return await self._all_sifted(Sieve(check_rows(query), invalid))

    @exclusive
    async def first(self, query: Rows[R]) -> R | None:
        """The first document of the query, or None."""
        return next(iter(await self._answer(check_rows(query).at_most(1))), None)

    @exclusive
    async def one_or_none(self, query: Rows[R]) -> R | None:
        """The only document of the query, or None. Raises MultipleResultsFound if there are more."""
        found = await self._answer(check_rows(query).at_most(2))
        if len(found) > 1:
            raise MultipleResultsFound(f"table {query.root.model.__mapper__.name!r}: one document expected, more found")
        return found[0] if found else None

    @exclusive
    async def one(self, query: Rows[R]) -> R:
        """The only document of the query. Raises NoResultFound if there is none, MultipleResultsFound if more."""
        found = await self._answer(check_rows(query).at_most(2))
        if len(found) > 1:
            raise MultipleResultsFound(f"table {query.root.model.__mapper__.name!r}: one document expected, more found")
        if not found:
            raise NoResultFound(f"table {query.root.model.__mapper__.name!r}: one document expected, none found")
        return found[0]

    @exclusive
    async def page(
        self, query: Rows[R], size: int, cursor: str | None = None, *, invalid: OfInvalid | None = None
    ) -> Page[R]:
        """`size` documents of the query, from its beginning or behind `cursor`.

        A cursor stays valid after writes elsewhere: pages neither repeat nor skip a document that keeps its place.
        `invalid` is as for `all`: a page may have fewer `items` for it, and `Page.invalid` are those collected.
        Raises InvalidCursorError for a cursor of another query and ValidationError for a size below 1, a query with a
        limit, one whose order no index gives, such as that of groups, and different values of which a missing field is one
        that others hold.
        """
        root = check_rows(query).root
        table = root.model.__mapper__.name
        if not is_whole(size) or size < 1:
            raise ValidationError("a page has at least 1 document, and fewer than 2**53", table=table)
        if root._limit is not None or root._offset or root._after is not None:
            raise ValidationError("a query that is read in pages takes no limit, offset or after", table=table)
        sieve = None if invalid is None else Sieve(query, invalid)
        query = (query if sieve is None else sieve.rows).bounded()
        if not query.in_pages:
            raise ValidationError("what no index has in this order is not read in pages, such as groups", table=table)
        read = self._compiler.statement(query)
        after = None if cursor is None else decode_cursor(read, cursor)
        result = await self._reader.one(replace(read, after=after, limit=size, peek=True))
        doubt = query.doubt(result)
        if doubt is not None and await self._answer(doubt):
            problem = (
                "different values are not read in pages where a document lacks the field and others hold what it loads as"
            )
            raise ValidationError(problem, table=table)
        following = encode_cursor(read, _last(read, result)) if result.more else None
        if sieve is None:
            return Page(await self._made(query, result), following, result.more)
        fitting = await self._sifted(sieve, result)
        return Page(list(fitting), following, result.more, fitting.invalid)

    async def stream(self, query: Rows[R], *, invalid: Literal["raise", "skip"] | None = None) -> AsyncIterator[R]:
        """The documents of the query, one by one, read some at a time. Only those you keep or change stay in memory.

        What no index has in this order, each once, such as groups, is read at once. `invalid` is as for `all`, but collects
        nothing.
        """
        sieve = None if invalid is None else Sieve(check_rows(query), invalid, collects=False)
        read = self._compiler.statement(check_rows(query) if sieve is None else sieve.rows)
        if not query.in_pages:
            for row in await self.all(query, invalid=invalid):
                yield row
            return
        left = read.limit
        while left is None or left > 0:
            size = _STREAM_BATCH if left is None else min(left, _STREAM_BATCH)
            result = await self._batch(replace(read, limit=size, peek=True))
            last = _last(read, result) if result.more else None
            if sieve is not None:
                for row in await self._sifted_of(sieve, result):
                    yield row
            elif isinstance(query, Query) and query._load:
                for row in await self._made_of(query, result):
                    yield row
            else:
                for document in result.docs:
                    for row in query.answer(replace(result, docs=(document,)), self._members.load):
                        yield row
            if not result.more:
                return
            read = replace(read, after=last, skip=0)
            left = None if left is None else left - size

    @exclusive
    async def count(self, query: Query[Any]) -> int:
        """How many documents the query has. Convex has no stored counts: each counted document is read there."""
        return await self._answer(Count(check_query(query)))

    @exclusive
    async def exists(self, query: Query[Any]) -> bool:
        """Whether the query has a document. One is read."""
        return await self._answer(Exists(check_query(query)))

    async def sum(self, query: Query[Any], column: Summed[T]) -> T:
        """The sum of an attribute over the query's documents, exactly, computed where they are; 0 over nothing.

        What is missing or null is left out. Raises ValidationError for an attribute that is no number.
        """
        return await self._of(check_query(query).sum(column))

    async def min(self, query: Query[Any], column: Some[T]) -> T:
        """The least value of an attribute that is neither missing nor null, or None; of an index, one document is read."""
        statement = check_query(query).min(column)
        return await self._of(statement)

    async def max(self, query: Query[Any], column: Some[T]) -> T:
        """The greatest value of an attribute that is neither missing nor null, or None; likewise."""
        statement = check_query(query).max(column)
        return await self._of(statement)

    @overload
    async def avg(
        self, query: Query[Any], column: Column[int] | Column[float] | Column[int | None] | Column[float | None]
    ) -> float | None: ...
    @overload
    async def avg(self, query: Query[Any], column: Some[T]) -> T: ...
    async def avg(self, query: Query[Any], column: Any) -> Any:
        """The average of an attribute over the query's documents; None of nothing. What is missing or null is left out."""
        return await self._of(check_query(query).avg(column))

    @overload
    async def read(self, one: Statement[T1], /) -> tuple[T1]: ...
    @overload
    async def read(self, one: Statement[T1], two: Statement[T2], /) -> tuple[T1, T2]: ...
    @overload
    async def read(self, one: Statement[T1], two: Statement[T2], three: Statement[T3], /) -> tuple[T1, T2, T3]: ...
    @overload
    async def read(
        self, one: Statement[T1], two: Statement[T2], three: Statement[T3], four: Statement[T4], /
    ) -> tuple[T1, T2, T3, T4]: ...
    @overload
    async def read(
        self, one: Statement[T1], two: Statement[T2], three: Statement[T3], four: Statement[T4], five: Statement[T5], /
    ) -> tuple[T1, T2, T3, T4, T5]: ...
    @overload
    async def read(self, *statements: Statement[Any]) -> tuple[Any, ...]: ...
    async def read(self, *statements: Any) -> Any:
        """Several queries, and what is asked of queries, in one call and from one snapshot: what each of them answers.

        What is too large for one call (8 MiB or 8,000 documents, on Convex) goes on in further ones.
        """
        return await self._read(statements)

    @exclusive
    async def digests(self, query: Query[Any]) -> Mapping[str, str]:
        """A digest of each document of the query by its `_id`: the same as long as the document is."""
        result = await self._reader.one(replace(self._compiler.read(query), digest="each", follow=()))
        return result.digests

    @exclusive
    async def changes(self, query: Query[Any], since: str) -> ReadResult:
        """What has changed in a query of a whole range since its digest was `since`: the `digests` of those documents, and
        the ids of those `gone`. Where the deployment does not keep count, `gone` is None and `digests` are of all.
        """
        if not isinstance(since, str):
            raise InvalidRequestError(f"a digest that was found before is needed, got {type(since).__name__}")
        return await self._reader.one(replace(self._compiler.read(query), digest="each", since=since))

    @exclusive
    async def matrix(self, vector: Column[Any], length: int, *queries: Query[Any]) -> ReadResult:
        """One attribute of all documents of the queries, an array of `length` numbers, as a matrix with a row for each.

        The result's `matrix` has the rows and the ids, `docs` the documents without that attribute as they are stored,
        `digests` a digest of each. Documents whose attribute is something else are left out. Nothing enters the identity
        map.
        """
        if not isinstance(vector, Column):
            raise InvalidRequestError(f"a column is needed, such as Place.embedding, got {type(vector).__name__}")
        if type(length) is not int or not 1 <= length <= MAX_ARRAY_LENGTH:
            raise InvalidRequestError(f"the length of a vector is a whole number, 1 to {MAX_ARRAY_LENGTH:,}")
        pack = Pack(vector.field, length)
        reads = [replace(self._compiler.read(query), pack=pack, follow=()) for query in queries]
        first, *rest = await self._reader.run(reads)
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
        found = await self._reader.search(self._compiler.search(index, vector, limit, where))
        assert index.model is not None
        items = self._members.load(index.model, [document for _, document in found])
        return [Hit(item, score) for item, (score, _) in zip(items, found, strict=True)]

    @exclusive
    async def search_text(
        self,
        index: SearchIndex[M],
        text: str,
        *,
        where: Condition | None = None,
        limit: int = 20,
        load: Sequence[Path] = (),
    ) -> list[M]:
        """The `limit` (1 to 1,024) documents whose text has most to do with the words of `text`, best first: any of its
        words is in it, and the last may be the beginning of one.

        `where` are equalities on filter fields of the index, joined by `&`, up to 8. Raises IndexRangeError for any other
        condition and for an index that is staged, ValidationError for a text without a word, LimitExceeded for another
        limit or more than 16 words, and InvalidRequestError for what is no search index. `index.search(…)` is the same as
        something that `read` takes.
        """
        check_index(index)
        return await self._answer(index.search(text, where=where, limit=limit).load(*load))

    @exclusive
    async def _read(self, statements: Sequence[Statement[Any]]) -> tuple[Any, ...]:
        results = await self._reader.run([self._compiler.statement(one) for one in statements])
        return tuple([await self._made(one, result) for one, result in zip(statements, results, strict=True)])

    async def _answer(self, statement: Statement[T]) -> T:
        result = await self._reader.one(self._compiler.statement(statement))
        try:
            return await self._made(statement, result)
        except ValidationError:
            if not isinstance(statement, Select) or statement.ids:
                raise
        return await self._answer(cast("Statement[T]", replace(statement, ids=True)))  # to say which document it is

    async def _made(self, statement: Statement[T], result: ReadResult) -> T:
        """What an answer means, with the relations that the query loads."""
        if isinstance(statement, Query | TextQuery) and statement._load:
            kept = replace(result, docs=statement.cut(result.docs))
            return cast("T", await self._loader.instances(statement.model, statement._load, kept))
        return statement.answer(result, self._members.load)

    def _detached(
        self, statement: Query[Any] | TextQuery[Any], result: ReadResult, held: Iterable[Model] = ()
    ) -> dict[str, Model]:
        """The instances of an answer that is whole, and of what it loads, by their `_id`, belonging to no session.

        Those in `held` are taken for their documents; they belong to none before or after it. For a session of its own,
        which reads nothing.
        """
        for one in held:
            if one._state.session is None and not one._state.deleted:
                self._members.attach(one)
        roots = finish(self._loader.instances(statement.model, statement._load, result))
        made = {str(one.convex_id): one for one in roots}
        made |= {str(one.convex_id): one for one in self._members}
        self._members.clear()
        return made

    @exclusive
    async def _all_sifted(self, sieve: Sieve[R]) -> Fitting[R]:
        return await self._sifted(sieve, await self._reader.one(self._compiler.statement(sieve.rows)))

    async def _sifted(self, sieve: Sieve[R], result: ReadResult) -> Fitting[R]:
        """What of an answer fits, with the relations that the query loads."""
        rows = sieve.rows
        if not isinstance(rows, Query | TextQuery):
            return sieve.of_rows(result)
        kept, invalid = sieve.of_documents(rows.model, rows.cut(result.docs), self._members)
        made = await self._loader.instances(rows.model, rows._load, replace(result, docs=kept))
        return Fitting(made, invalid)

    @exclusive
    async def _sifted_of(self, sieve: Sieve[R], result: ReadResult) -> Fitting[R]:
        """What of one step of a stream fits."""
        return await self._sifted(sieve, result)

    @exclusive
    async def _made_of(self, rows: Rows[R], result: ReadResult) -> list[R]:
        """What one step of a stream means."""
        return await self._made(rows, result)

    @exclusive
    async def _of(self, statement: Statement[T]) -> T:
        return await self._answer(statement)

    @exclusive
    async def _batch(self, read: Read) -> ReadResult:
        """One step of a stream, which leaves the session to others between its steps."""
        return await self._reader.one(read)

    async def _get_unique(self, model: type[M], key: object, values: Mapping[str, Any], load: Sequence[Path]) -> M | None:
        """`get` by the attributes of a unique index, or of the primary key."""
        if key is not MISSING or not values:
            raise InvalidRequestError("a document is got by a key, or by attributes such as email=..., and not by both")
        at, mapper = self._compiler.unique_key(model, values), mapper_of(model)
        if mapper.key and at.index == mapper.primary_index:
            given = tuple(values[name] for name in mapper.key)
            return await self._get(model, given[0] if len(given) == 1 else given, load)
        paths = check_paths(load, model)
        pending = self._pending.at(model, identity_of(at.key), at.index)
        if pending is not MISSING:
            if not isinstance(pending, model):
                return None
            await self._loader.load([pending], paths)
            return pending
        read = Read(Range(self._compiler.table(model), at.index, at.key), filter=mapper.only, limit=2)
        result = await self._reader.one(replace(read, follow=self._compiler.follow(paths)))
        found: list[M] = await self._loaded(model, paths, result)
        kept = [one for one in found if self._stays(one)]
        if len(kept) > 1:
            raise MultipleResultsFound(
                f"table {mapper.name!r}: index {at.index!r} is unique, and several documents have this key"
            )
        return kept[0] if kept else None

    def _stays(self, instance: Model) -> bool:
        """Whether nothing is pending that takes away or replaces a persistent instance's document."""
        key = key_of(type(instance), self._members.document_of(instance))
        pending = self._pending.at(type(instance), identity_of(key))
        return pending is MISSING or pending is instance

    async def _get_many(self, model: type[M], keys: Sequence[Key], paths: Sequence[Path] = ()) -> list[M | None]:
        mapper = self._compiler.mapper(model)
        reads = [self._compiler.read_of_key(mapper, at, paths) for at in keys]
        results = await self._reader.run(reads)
        return [await self._got(model, at, paths, result) for at, result in zip(keys, results, strict=True)]

    # -- writing -----------------------------------------------------------------------------------------------------

    @exclusive
    async def refresh(self, instance: Model) -> None:
        """Load the instance's document again, dropping changes not committed. StaleDataError if it is gone."""
        document = self._members.document_of(instance)
        table = self._compiler.table(type(instance))
        result = await self._reader.one(Read(Range(table, "by_id", (document["_id"],)), limit=1))
        if not result.docs:
            self._members.reset(instance, document)
            self._members.found_gone(instance)
        if not result.docs or not is_of(type(instance), result.docs[0]):
            raise StaleDataError(table=table.name, reason="missing")
        self._members.reset(instance, result.docs[0])
        call_hook("after_load", instance)

    @property
    def new(self) -> list[Model]:
        """Instances added and not yet committed."""
        self._turn.check()
        return self._unit_of_work.new()

    @property
    def dirty(self) -> list[Model]:
        """Persistent instances whose attributes differ from their documents."""
        self._turn.check()
        return self._unit_of_work.dirty()

    @property
    def deleted(self) -> list[Model]:
        """Instances marked for deletion and not yet committed."""
        self._turn.check()
        return self._unit_of_work.deleted()

    def __contains__(self, instance: Model) -> bool:
        return state_of(instance).session is self._members

    def add(self, instance: Model, *, unique: bool | Query[Any] = True, returning: bool = True) -> Awaitable[None]:
        """Put a new instance into the session; the next commit inserts it.

        A model with a primary key is inserted only if no document has that key (StaleDataError, `exists`), unless `unique`
        is False because the key is known to be new. `unique` may be a query by equalities on the first fields of an index
        instead: then the instance is inserted only if there is no document of that query. Keys in unique indexes are kept
        in any case. Without `returning`, and beyond
        1,000 documents in one commit, its `creation_time` stays None on Convex until `refresh`: Convex has to read each
        document back for it. What is new in the relations of the instance comes along. A persistent instance that was to be
        deleted is not, any more. Nothing waits here; awaiting the result is allowed. Raises InvalidRequestError for an
        instance of another session, or one deleted.
        """
        self._members.add(instance, unique, returning)
        return DONE

    def add_all(self, instances: Iterable[Model], *, unique: bool = True, returning: bool = True) -> Awaitable[None]:
        """`add` each of them."""
        self._members.add_all(several(instances, "instances"), unique, returning)
        return DONE

    @exclusive
    async def get_or_create(
        self, model: type[M], /, defaults: Mapping[str, Any] | None = None, **unique: Any
    ) -> tuple[M, bool]:
        """The document with these values of the attributes of a unique index (or of the primary key), found as by `get`; if
        there is none, a new one with these and the `defaults`. Answers the instance, and whether it was created.

        It is created in a commit of its own; what is pending stays pending. Of several who create it at a time one does,
        and all are answered that document; so is whoever asks again after an answer was lost. Raises StaleDataError
        (`exists`) where another unique key of the new document is taken, or the document is there and to be deleted by the
        next commit.
        """
        given = dict(by_name({} if defaults is None else defaults, "defaults"))
        if not given.keys().isdisjoint(unique):
            raise InvalidRequestError("what a document is found by is no default of it, too")
        for attempt in range(_CREATE_ATTEMPTS):
            found = await self.get(model, **unique)
            if found is not None:
                return found, False
            at = self._compiler.unique_key(model, unique)
            instance = model(**given, **unique)
            insertion = Insertion(self._compiler, self._members, instance, unique=True, returning=True)
            try:
                await self._unit_of_work.insert_alone(insertion)
            except StaleDataError as error:
                # Whoever was faster is found now, unless it is gone again.
                found = await self.get(model, **unique)
                if found is not None:
                    return found, False
                held = await self._reader.one(Read(Range(self._compiler.table(model), at.index, at.key), limit=1))
                if held.docs or error.fields != model.__mapper__.table.declared_fields(at.index):
                    raise
                await self._port.pause(random.uniform(0, _BACKOFF * 2**attempt))
            else:
                return instance, True
        raise StaleDataError(table=self._compiler.table(model).name, reason="exists", fields=())

    def upsert(
        self,
        instance: Model,
        *,
        by: str | Index | None = None,
        keep: Iterable[str] = (),
        greatest: Iterable[str] = (),
        returning: bool = True,
    ) -> Awaitable[None]:
        """Insert the instance, or replace the document with its primary key whole, without reading it first.

        With `by`, a unique index or its name, it is the document with the instance's key in that index that is replaced.
        It keeps its `_id` and primary key, and the instance takes them over when it is committed.
        Where a document is replaced, attributes in `keep` that it holds stay as stored, and those in `greatest` of which
        more is stored than given; the instance shows them after `refresh`.
        Without `returning` a new document's `creation_time` stays None, which saves Convex reading it back.
        """
        self._turn.check()
        state_of(instance)
        model = type(instance)
        if by is None:
            check_keyed(model)
        index = None if by is None else self._compiler.unique_index(model, by)
        kept = tuple([self._compiler.column(model, name).field for name in several(keep, "attributes to keep")])
        rising = tuple([self._compiler.column(model, name).field for name in several(greatest, "attributes that rise")])
        operation = Upsertion(self._compiler, self._members, instance, kept, rising, returning, index)
        self._members.join(instance, operation)
        return DONE

    def update(
        self,
        model: type[Model],
        key: Any,
        values: Mapping[Any, Any],
        *,
        expected: Mapping[str, Any] | None = None,
        missing_ok: bool = False,
        unique: Query[Any] | None = None,
    ) -> Awaitable[None]:
        """Set some attributes of the document with this key, without reading it first; other writers' changes to them
        are overwritten. With `missing_ok` a document that is gone is passed over, else the commit is refused.

        `expected` makes it a compare-and-set: the commit is refused with StaleDataError unless these attributes hold these
        values when it is applied. `unique` is a query by equalities on the first fields of an index: the commit is refused,
        too, if it leaves more than one document of that query. Validators see what is set here, too; InvalidRequestError
        if that of the class (`__validate__`) looks at other attributes. A value may be computed where the document is, such
        as `Account.coins + 1` or `func.greatest(Player.best, 70)`: then nothing is overwritten. What cannot be computed,
        such as a sum with what is no number, refuses the commit with ValidationError.
        """
        self._turn.check()
        patch = patch_by_key(self._compiler, model, key, values, expected=expected, missing_ok=missing_ok, unique=unique)
        at = patch.at
        identity = at if isinstance(at, str) else identity_of(at.key)
        self._pending.ask(ChangeByKey(self._members, root_of(model), identity, patch))
        return DONE

    @exclusive
    async def bulk_upsert(
        self, model: type[Model], rows: Iterable[Mapping[str, Any]], *, under: Model | None = None
    ) -> None:
        """Insert or replace documents by their primary keys at once, in one commit and without instances.

        `rows` are attributes by name; those left out take their defaults. With an instance `under` which they stand the
        commit is refused with StaleDataError unless its document is there and is what it was when it was read. What is
        pending in the session stays pending.
        """
        await self._bulk.upsert(model, rows, under)

    def delete(self, instance: Model) -> Awaitable[None]:
        """Mark the instance for deletion; the next commit deletes its document.

        StaleDataError on commit if it is gone already. Raises InvalidRequestError for an instance this session does not
        hold.
        """
        self._members.delete(instance)
        return DONE

    def delete_key(
        self, model: type[Model], key: Any, *, expected: Mapping[str, Any] | None = None, missing_ok: bool = True
    ) -> Awaitable[None]:
        """Delete the document with this key in the next commit, without reading it first; what was added with this key is
        let go of, unless it was added under a query (`unique=`): then that is still asked for.

        The commit is refused with StaleDataError unless the attributes in `expected` hold these values when it is applied.
        """
        self._turn.check()
        expect, at = self._compiler.expected(model, expected), self._compiler.target(model, key)
        gone = root_of(model), self._compiler.identity(model, key)
        added = not expected and self._members.take_back(model, gone[1])
        self._members.doom(*gone)
        delete = Delete(self._compiler.table(model), at, expect, "skip" if missing_ok or added else "fail")
        self._pending.ask(DeletionByKey(self._members, delete, gone))
        return DONE

    def delete_range(self, query: Query[Any]) -> Awaitable[None]:
        """Delete all documents of the query in the next commit, atomically with the rest of it.

        The commit is refused with LimitExceeded if there are more than one commit can delete (4,000 documents, 6 MiB). A
        query with a limit deletes up to that many, and fewer where more would be too many.
        """
        self._turn.check()
        range_, filter_ = self._compiler.deletable(query)
        if query._limit != 0:
            delete = DeleteRange(range_, filter_, query._limit)
            self._pending.ask(DeletionOfRange(self._compiler, self._members, delete))
        return DONE

    @exclusive
    async def delete_all(self, query: Query[Any], *, on_progress: OnProgress | None = None) -> int:
        """Delete all documents of the query at once, in as many commits as it takes, and say how many there were.

        Each commit is atomic, all together are not; called again, it goes on with what is left. `on_progress` is called
        after each with a Progress. What is pending in the session stays pending.
        """
        return await self._bulk.delete(query, on_progress)

    @exclusive
    async def update_all(
        self,
        query: Query[Any],
        values: Mapping[Any, Any],
        *,
        on_progress: OnProgress | None = None,
        resume: str | None = None,
    ) -> int:
        """Change all documents of the query at once, in as many commits as it takes, and say how many were changed.

        `values` are what attributes are to hold, by name or as columns: values, or what is computed of each document, as
        in `{Order.status: "late", Order.n: Order.n + 1}`. Each commit is atomic, all together are not; each document is
        changed once. `on_progress` is called after each commit with a Progress, whose `cursor` given as `resume` to the
        same call has it go on behind what was done. A document that the query has no more when its turn comes is passed
        over. What is pending in the session stays pending.
        """
        return await self._bulk.update(check_query(query), values, on_progress, resume)

    @exclusive
    async def recount(self, model: type[Model], *, on_progress: Callable[[Progress], object] | None = None) -> int:
        """Count and add up all documents of a model anew for its counters, as over data that is older than these; how many
        documents there were.

        It is exact whatever is written meanwhile by sessions, and by functions that keep counters. On Convex it takes
        several commits, and `on_progress` is called after each. Cut off, it is gone on with by calling it again; until its
        end the counters answer what they did before.
        """
        return await self._bulk.recount(model, on_progress)

    @exclusive
    async def delete_tree(self, instance: Model, *, on_progress: Callable[[Progress], object] | None = None) -> int:
        """Delete the instance's document at once, with all that its relations say goes along, and say how many there were.

        It takes as many commits as it takes, children first: each is atomic, all together are not, and after a failure the
        same call goes on. `on_progress` is called after each with how many are deleted so far. What is pending in the
        session stays pending. Raises StaleDataError, `exists`, where a relation forbids to delete a document.
        """
        document = self._members.document_of(instance)
        table = self._compiler.table(type(instance))
        done = await self._trees.delete(table, document, on_progress)
        self._pending.withdraw(instance)
        if instance in self._members:
            self._members.removed(instance)
        return done

    def schedule(
        self, path: str, arguments: Arguments = None, *, delay: timedelta | None = None, at: datetime | None = None
    ) -> Awaitable[Scheduled]:
        """Have a mutation or an action of the project run after the next commit, if and only if that is applied.

        It runs as soon as it can, or after a `delay`, or `at` a time, in UTC or with its offset. What is answered has an
        `id` once the commit is applied, by which `_scheduled_functions` knows it. An embedded deployment keeps it, for
        `deployment.run_scheduled()`. Nothing waits here; awaiting the result is allowed.

        Raises InvalidRequestError for what is no path, no timedelta or no datetime, ValidationError for arguments that
        Convex cannot hold, a negative delay, a time without an offset, or one further than 5 years. The commit raises
        FunctionNotFound where there is no such function, and writes nothing.
        """
        self._turn.check()
        operation = Scheduling.of(path, arguments, delay, at)
        self._pending.ask(operation)
        return operation.scheduled

    def cancel_scheduled(self, scheduled: str | Scheduled) -> Awaitable[None]:
        """Have the next commit cancel a scheduled function, by its id, unless it has begun by then.

        Nothing waits here; awaiting the result is allowed. Raises InvalidRequestError for what is no id.
        """
        self._turn.check()
        id_ = scheduled.id if isinstance(scheduled, Scheduled) else scheduled
        if not isinstance(id_, str):
            raise InvalidRequestError("a scheduled function is known by its id, which it has once it is committed")
        self._pending.ask(Cancellation(Cancel(id_)))
        return DONE

    @exclusive
    async def commit(self) -> None:
        """Write everything pending as one atomic commit.

        Changed attributes are written field by field; a field that another writer has changed since it was loaded is
        refused (StaleDataError, nothing written). ValidationError and LimitExceeded are raised before anything is sent.
        After an error everything is still pending: mend it and commit again, or `rollback()`. After a DeploymentError, a
        cancellation or an interrupt the outcome may be unknown; committing again is safe for 50 minutes: it is first found
        out whether what was sent has been applied, and if not it never will be, so that everything is written once. After
        that time `commit` raises InvalidRequestError until `rollback()`.
        """
        await self._unit_of_work.commit()

    def rollback(self) -> Awaitable[None]:
        """Forget everything pending: new instances leave the session, changed ones show their documents again."""
        self._turn.check()
        self._unit_of_work.rollback()
        return DONE

    def expunge(self, instance: Model) -> Awaitable[None]:
        """Let go of an instance and of what is pending about it; it is detached then, or transient again if it was new.

        Raises InvalidRequestError for an instance this session does not hold.
        """
        self._turn.check()
        self._members.expunge(instance)
        return DONE

    def expire(self, instance: Model) -> Awaitable[None]:
        """Drop an instance's changes, and trust what it shows no more: the next read of its document shows it anew.

        Nothing is read by looking at an attribute, so until then it shows what was read last; `refresh` reads at once.
        """
        self._turn.check()
        self._members.reset(instance, self._members.document_of(instance))
        instance._state.doubtful = True
        if id(instance) in self._members.lost:
            self._members.found_gone(instance)
        return DONE

    def attach(self, instance: M) -> M:
        """Take in a detached instance with its document and its changes, and what was loaded beside it, without reading.

        Answers the session's own instance of that document, as it is, where there is one.

        Raises InvalidRequestError for an instance that is new, deleted, or of another session.
        """
        self._turn.check()
        state_of(instance)
        self._compiler.mapper(type(instance))
        return self._members.attach_all(instance)

    @exclusive
    async def merge(self, instance: M) -> M:
        """The session's own instance of the document with this primary key (or `_id`), given the values of `instance`.

        It is found as by `get`; if there is none, a copy is added. `instance` itself stays as it is, in whatever session.
        """
        state, model = state_of(instance), type(instance)
        if state.session is self._members:
            return instance
        known = model.__mapper__.key or state.held is not None
        mine = await self.get(model, instance.primary_key) if known else None
        given = copy.deepcopy(instance)
        given._state.related = None  # those of another session stay there
        if mine is None:
            self.add(given)
            return given
        values = {name: getattr(given, name) for name in model.__mapper__.columns}
        check_values_of(mine, values)  # all of them, before any is set
        document = mine._state.document or {}
        for name, value in values.items():
            column = model.__mapper__.columns[name]
            shown, lacking = vars(mine).get(name, MISSING), column.defaults(document.get(column.field, MISSING))
            is_set = not lacking or not (shown is MISSING or mine._state.has_made(name, shown))
            may_be_held = column.type.mutable and shown is not MISSING
            if (is_set and not may_be_held) or not stored_alike(column, value, getattr(mine, name)):
                setattr(mine, name, value)
        return mine

    def expunge_all(self) -> Awaitable[None]:
        """Let go of every instance, and of what is pending."""
        self._turn.check()
        self._let_all_go()
        return DONE

    def _let_all_go(self) -> None:
        members = self._members
        self._unit_of_work.rollback()
        if members.of_models:
            members.clear()
        self._compiler.forget_models()

    @exclusive
    async def transact(self, fn: Callable[[AsyncSession], Awaitable[T]], *, attempts: int = TRANSACT_ATTEMPTS) -> T:
        """Run `fn(session)` and commit; after a conflict, run it again on fresh documents. Answers what `fn` answered.

        `fn` must be safe to run several times. Raises the last StaleDataError after `attempts`, and at once if the same
        unique key is found taken twice in a row. Raises InvalidRequestError if something is pending already. Where the
        answer to its commit is lost, the session asks what became of it: after a DeploymentError nothing is written, and
        nothing will be, unless its `lost` is True, since that could not be found out. Then, and after a cancellation or an
        interrupt, look at what is stored before you run it again.
        """
        a_function(fn, "what a transaction runs")
        if self._pending or self.dirty:
            raise InvalidRequestError("commit or roll back what is pending before a transaction")
        taken: object = None
        for attempt in range(attempts):
            self.expunge_all()
            try:
                result = await fn(self)
                await self._commit_surely()
            except StaleDataError as error:
                conflict = _taken(error)
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

    async def _commit_surely(self) -> None:
        """Commit. Where the answer is lost, find out what became of the commit, and raise if it was not applied."""
        await self._unit_of_work.settle()  # what was committed within the transaction
        try:
            await self.commit()
        except ConvexORMError as error:
            if not (error.lost or isinstance(error, DeploymentError)):
                raise
            with suppress(ConvexORMError):
                if await self._unit_of_work.settle():
                    return
                error.lost = False
            raise

    @exclusive
    async def close(self) -> None:
        """Let go of everything; what was not committed is dropped. The deployment stays open."""
        self._let_all_go()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        """`close`, which has nothing to wait for. Raises InvalidRequestError while the session is in use."""
        if self._turn.held:
            self._turn.check()
        self._let_all_go()


def _last(read: Read, result: ReadResult) -> KeyValue:
    """The place of the last document of a result."""
    return index_key(result.docs[-1], read.range) if result.last is None else result.last


def _taken(error: StaleDataError) -> object:
    """The key that was taken already; None for another conflict."""
    if error.reason != "exists":
        return None
    instance = error.instance
    document = {} if not isinstance(instance, Model) else instance.__mapper__.dump(instance)
    return error.table, error.fields, identity_of([document.get(field, MISSING) for field in error.fields])


named(AsyncSession, "Session")
