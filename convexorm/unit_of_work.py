"""The unit of work: what is pending in a session, and how it becomes one commit.

What is added, changed and deleted is gathered; a changed instance is found by comparing it with the document it was loaded
from. `commit` sends everything as one atomic commit, in the order it was asked for, changes first; each change expects the
fields it overwrites to be what they were.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4
from weakref import WeakValueDictionary

import attrs

from convexorm.conditions import Condition
from convexorm.deployments.base import Port
from convexorm.errors import (
    IndexRangeError,
    InvalidRequestError,
    LimitExceeded,
    StaleDataError,
    ValidationError,
)
from convexorm.expressions import Column
from convexorm.faces import DONE
from convexorm.func import Greatest
from convexorm.hooks import call_hook
from convexorm.identities import Identity, Instances, identity_of, key_of
from convexorm.mapper import mapper_of
from convexorm.model import InstanceState, Model, dump
from convexorm.moments import Moment
from convexorm.query import Query
from convexorm.reading import AsyncReading, check_query
from convexorm.requests import (
    MAX_DELETED_BY_RANGE,
    Applied,
    Commit,
    Delete,
    DeletedRange,
    DeleteRange,
    Document,
    Expect,
    Insert,
    Key,
    Patch,
    Range,
    Read,
    Upsert,
    Write,
    Written,
    greater_stored,
)
from convexorm.turns import exclusive
from convexorm.validation import validate, validate_changes
from convexorm.values import MAX_DOCUMENT_SIZE, MISSING, Missing, Value, owned, same

__all__ = ["AsyncUnitOfWork"]

M = TypeVar("M", bound=Model)

SETTLED_WITHIN = 3_000.0
"""Seconds within which a commit without an answer may be sent again: deployments keep answers for an hour, and what is sent
may be under way for a while.
"""


@attrs.define(eq=False)
class _Operation:
    """One thing asked of the unit of work: how to write it, and what becomes of the instance when it is written.

    `gone` is the document that it deletes, if it is one that is known by its primary key.
    """

    write: Callable[[], Write]
    applied: Callable[[Applied, Write], None]
    instance: Model | None = None
    gone: tuple[type[Model], Identity] | None = None


@attrs.define(eq=False)
class _Insertion:
    """The operation of an added instance. There may be thousands in a commit, so it is one object."""

    session: AsyncUnitOfWork
    instance: Model
    unique: bool | Key
    returning: bool
    gone: None = None

    def write(self) -> Write:
        model = type(self.instance)
        document = self.session._dumped(self.instance)
        key = self.unique if isinstance(self.unique, Key) else None
        if self.unique is True and model.__mapper__.key:
            key = self.session._key(model, self.instance.primary_key)
        return Insert(self.session._table(model), document, key, self.returning)

    def applied(self, applied: Applied, write: Write) -> None:
        self.session._inserted(self.instance, applied, write)


@attrs.define(eq=False)
class _Unsettled:
    """A commit that may have been applied or not: it was sent, and its answer is not there."""

    commit: Commit
    operations: list[_Operation | _Insertion]
    sent: Moment

    def check_age(self) -> None:
        """Raise InvalidRequestError when the deployment may have forgotten what it answered."""
        if self.sent.seconds_ago() > SETTLED_WITHIN:
            raise InvalidRequestError(
                f"a commit sent more than {SETTLED_WITHIN // 60:.0f} minutes ago had no answer, and it can no longer be "
                "told whether it was applied: sent again, it might be applied twice. Call rollback(), look at what is "
                "stored, and ask for what is missing"
            )


class AsyncUnitOfWork(AsyncReading):
    """The part of a session that writes."""

    def __init__(self, port: Port, tables: Mapping[str, str] | None) -> None:
        super().__init__(port, tables)
        self._touched: dict[int, Model] = {}
        self._watched: WeakValueDictionary[int, Model] = WeakValueDictionary()  # by id: a model may have an __eq__
        self._operations: list[_Operation | _Insertion] = []
        self._unsettled: _Unsettled | None = None
        self._ahead: dict[tuple[type[Model], Identity], Model | None] | None = None
        self._rekeyed: list[Model] = []

    @exclusive
    async def refresh(self, instance: Model) -> None:
        """Load the instance's document again, dropping changes not committed. StaleDataError if it is gone."""
        document = self._document_of(instance)
        model = type(instance)
        (result,) = await self._run([Read(Range(self._table(model), "by_id", (document["_id"],)), limit=1)])
        if not result.docs:
            raise StaleDataError(table=self._table(model).name, reason="missing")
        self._reset(instance, result.docs[0])
        call_hook("after_load", instance)

    @property
    def new(self) -> list[Model]:
        """Instances added and not yet committed."""
        self._turn.check()
        return [one.instance for one in self._operations if one.instance is not None and _is_new(one.instance)]

    @property
    def dirty(self) -> list[Model]:
        """Persistent instances whose attributes differ from their documents."""
        self._turn.check()
        return [instance for instance in self._changeable() if _changes(instance)]

    @property
    def deleted(self) -> list[Model]:
        """Instances marked for deletion and not yet committed."""
        self._turn.check()
        return [one.instance for one in self._operations if one.instance is not None and not _is_new(one.instance)]

    def __contains__(self, instance: Model) -> bool:
        return instance._state.session is self

    def touched(self, instance: Model) -> None:
        """An attribute was set, or a mutable value handed out: keep the instance until the next commit."""
        self._touched[id(instance)] = instance
        if self._ahead is not None and _is_new(instance):
            self._rekeyed.append(instance)

    def add(self, instance: Model, *, unique: bool | Query[Any] = True, returning: bool = True) -> Awaitable[None]:
        """Put a new instance into the session; the next commit inserts it.

        A model with a primary key is inserted only if no document has that key (StaleDataError, `exists`), unless `unique`
        is False because the key is known to be new. `unique` may be a query by equalities on the first fields of an index
        instead: then the instance is inserted only if there is no document of that query. Without `returning`, and beyond
        1,000 documents in one commit, its `creation_time` stays None on Convex until `refresh`: Convex has to read each
        document back for it. Nothing waits here; awaiting the result is allowed. Raises InvalidRequestError for an instance
        of another session, or one deleted.
        """
        self._turn.check()
        if _state_of(instance).session is self:
            return DONE
        key = unique if isinstance(unique, bool) else self._whole_key(unique)
        self._adopt(instance)
        self._ask(_Insertion(self, instance, key, returning))
        return DONE

    def add_all(self, instances: Iterable[Model], *, unique: bool = True, returning: bool = True) -> Awaitable[None]:
        """`add` each of them."""
        for instance in instances:
            self.add(instance, unique=unique, returning=returning)
        return DONE

    def upsert(
        self, instance: Model, *, keep: Iterable[str] = (), greatest: Iterable[str] = (), returning: bool = True
    ) -> Awaitable[None]:
        """Insert the instance, or replace the document with its primary key whole, without reading it first.

        Attributes in `keep` stay as stored where a document is replaced, those in `greatest` where what is stored is
        greater; the instance shows them after `refresh`.
        Without `returning` a new document's `creation_time` stays None, which saves Convex reading it back.
        """
        self._turn.check()
        _state_of(instance)
        model = type(instance)
        _check_keyed(model)
        kept = tuple(self._field(model, name) for name in keep)
        rising = tuple(self._field(model, name) for name in greatest)
        self._adopt(instance)

        def write() -> Write:
            document = self._dumped(instance)
            return Upsert(self._table(model), self._key(model, instance.primary_key), document, kept, rising, returning)

        self._ask(_Operation(write, partial(self._inserted, instance), instance))
        return DONE

    def update(
        self,
        model: type[Model],
        key: Any,
        values: Mapping[str, Any],
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
        as `func.greatest(Player.best, 70)`.
        """
        self._turn.check()
        table, at = self._table(model), self._target(model, key)
        columns = {name: self._column(model, name) for name in values}
        greatest = tuple(columns[name].field for name, value in values.items() if isinstance(value, Greatest))
        values = {name: _given(columns[name], value) for name, value in values.items()}
        validate_changes(model, values, _partial(model, values))
        set_: dict[str, Value] = {}
        unset: list[str] = []
        for name, value in values.items():
            dumped = columns[name].dump(value)
            if dumped is MISSING:
                unset.append(columns[name].field)
            else:
                set_[columns[name].field] = owned(dumped)
        expect = self._expected(model, expected)
        if sum(len(value) for value in set_.values() if isinstance(value, str | bytes)) > MAX_DOCUMENT_SIZE // 8:
            table.check_size(set_)
        known = dict(zip(table.key_fields(at.index), at.key, strict=False)) if isinstance(at, Key) else {}
        sole = _new_key(model, known, set_, unset) if unique is None else self._whole_key(unique)
        patch = Patch(table, at, set_, tuple(unset), expect, "skip" if missing_ok else "fail", sole, greatest)
        self._ask(_Operation(lambda: patch, partial(self._updated, *self._identity(model, key))))
        return DONE

    @exclusive
    async def bulk_upsert(self, model: type[Model], rows: Iterable[Mapping[str, Any]]) -> None:
        """Insert or replace documents by their primary keys at once, in one commit and without instances.

        `rows` are attributes by name; those left out take their defaults. What is pending in the session stays pending.
        """
        _check_keyed(model)
        mapper, table = model.__mapper__, self._table(model)
        columns, key_fields = mapper.columns, mapper.key_fields
        writes: list[Write] = []
        for row in rows:
            if not isinstance(row, Mapping):
                raise ValidationError(f"rows are attributes by name, got {type(row).__name__}", table=table.name)
            if not row.keys() <= columns.keys():
                self._column(model, min(row.keys() - columns.keys()))
            document = dump(self._valid(model(**row))) if mapper.validated else mapper.document(row)
            key = tuple([document.get(field, MISSING) for field in key_fields])
            writes.append(Upsert(table, Key(mapper.primary_index, key), document))
        if not writes:
            return
        applied = await self._port.commit(Commit(uuid4().hex, writes))
        if mapper.root.model not in self._identities:
            return
        for write, one in zip(writes, applied, strict=True):
            assert isinstance(write, Upsert)
            assert isinstance(one, Written)
            held = self._held(model, identity_of(write.at.key))
            if held is not None:
                time = one.creation_time if one.created else held.creation_time
                self._renew(held, {**write.doc, "_id": one.id, "_creationTime": time})

    def delete(self, instance: Model) -> Awaitable[None]:
        """Mark the instance for deletion; the next commit deletes its document.

        StaleDataError on commit if it is gone already. Raises InvalidRequestError for an instance this session does not
        hold.
        """
        self._turn.check()
        if _state_of(instance).session is not self:
            raise InvalidRequestError(f"{instance!r} is not in this session")
        if _is_new(instance):
            self._withdraw(instance)
            instance._state.session = None
            return DONE
        if any(one.instance is instance for one in self._operations):
            return DONE
        document = self._document_of(instance)
        model = type(instance)
        delete = Delete(self._table(model), document["_id"])
        gone = (_root(model), identity_of(key_of(model, document)))
        self._ask(_Operation(lambda: delete, partial(self._removed, instance), instance, gone))
        return DONE

    def delete_key(
        self, model: type[Model], key: Any, *, expected: Mapping[str, Any] | None = None, missing_ok: bool = True
    ) -> Awaitable[None]:
        """Delete the document with this key in the next commit, without reading it first.

        The commit is refused with StaleDataError unless the attributes in `expected` hold these values when it is applied.
        """
        self._turn.check()
        expect = self._expected(model, expected)
        delete = Delete(self._table(model), self._target(model, key), expect, "skip" if missing_ok else "fail")
        gone = self._identity(model, key)
        self._ask(_Operation(lambda: delete, partial(self._deleted_key, *gone), gone=gone))
        return DONE

    def delete_range(self, query: Query[Any]) -> Awaitable[None]:
        """Delete all documents of the query in the next commit, atomically with the rest of it.

        The commit is refused with LimitExceeded if there are more than one commit can delete (4,000 documents, 6 MiB). A
        query with a limit deletes up to that many, and fewer where more would be too many.
        """
        self._turn.check()
        range_, filter_ = self._deletable(query)
        if query._limit == 0:
            return DONE
        delete = DeleteRange(range_, filter_, query._limit)
        self._ask(_Operation(lambda: delete, lambda applied, write: self._doubt(write.table.name)))
        return DONE

    @exclusive
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
            self._doubt(range_.table.name)
            left = None if left is None else left - applied.deleted
            if not applied.more:
                break
        return total

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
        if self._unsettled is not None:
            await self._settle(self._unsettled)
        operations, writes = self._pending()
        if not operations:
            return
        commit = Commit(uuid4().hex, writes)
        # Before it is sent: from here on an interrupt at any point leaves it to be settled.
        self._unsettled = _Unsettled(commit, operations, Moment.now())
        touched, self._touched = self._touched, {}
        try:
            results = await self._port.commit(commit)
            for operation, write, applied in zip(operations, writes, results, strict=True):
                operation.applied(applied, write)
            self._keep_pending(operations)
            for instance in (*touched.values(), *(one.instance for one in operations if one.instance is not None)):
                if _holds_mutable(instance):
                    self._watched[id(instance)] = instance
            self._unsettled = None
            written = [one.instance for one in operations if one.instance is not None and not one.instance._state.deleted]
        except BaseException as error:
            self._touched = {**touched, **self._touched}
            if isinstance(error, StaleDataError | ValidationError | LimitExceeded | IndexRangeError):
                self._unsettled = None  # refused, and for good
            if isinstance(error, StaleDataError) and error.write is not None and 0 <= error.write < len(operations):
                error.instance = operations[error.write].instance
            raise
        for instance in written:
            call_hook("after_commit", instance)

    def rollback(self) -> Awaitable[None]:
        """Forget everything pending: new instances leave the session, changed ones show their documents again."""
        self._turn.check()
        self._unsettled = None
        operations, self._operations, self._ahead = self._operations, [], None
        for operation in operations:
            if operation.instance is not None and _is_new(operation.instance):
                operation.instance._state.session = None
        for instance in self._changeable():
            self._reset(instance, instance._state.document)
        self._touched = {}
        self._watched.clear()
        return DONE

    def expunge(self, instance: Model) -> Awaitable[None]:
        """Let go of an instance and of what is pending about it; it is detached then, or transient again if it was new.

        Raises InvalidRequestError for an instance this session does not hold.
        """
        self._turn.check()
        if _state_of(instance).session is not self:
            raise InvalidRequestError(f"{instance!r} is not in this session")
        self._withdraw(instance)
        self._let_go(instance)
        return DONE

    def expire(self, instance: Model) -> Awaitable[None]:
        """Drop an instance's changes, and trust what it shows no more: the next read of its document shows it anew.

        Nothing is read by looking at an attribute, so until then it shows what was read last; `refresh` reads at once.
        """
        self._turn.check()
        self._reset(instance, self._document_of(instance))
        instance._state.doubtful = True
        return DONE

    @exclusive
    async def merge(self, instance: M) -> M:
        """The session's own instance of the document with this primary key (or `_id`), given the values of `instance`.

        It is found as by `get`; if there is none, a copy is added. `instance` itself stays as it is, in whatever session.
        """
        state, model = _state_of(instance), type(instance)
        if state.session is self:
            return instance
        known = model.__mapper__.key or state.document is not None
        mine = await self.get(model, instance.primary_key) if known else None
        given = copy.deepcopy(instance)
        if mine is None:
            self.add(given)
            return given
        for name in model.__mapper__.columns:
            setattr(mine, name, getattr(given, name))
        return mine

    def expunge_all(self) -> Awaitable[None]:
        """Let go of every instance, and of what is pending."""
        self.rollback()
        for instances in self._identities.values():
            for instance in instances:
                instance._state.session = None
        self._identities = {}
        self._mappers = {}
        return DONE

    # -- underneath ----------------------------------------------------------------------------------------------

    def _pending(self) -> tuple[list[_Operation | _Insertion], list[Write]]:
        """Everything there is to write, changes first."""
        self._call_hooks()
        operations: list[_Operation | _Insertion] = [*self._patches(), *self._operations]
        return operations, [operation.write() for operation in operations]

    def _call_hooks(self) -> None:
        """Call what is to be called before a commit, before anything of it is looked at: hooks may change instances."""
        for operation in list(self._operations):
            if operation.instance is not None:
                call_hook("before_insert" if _is_new(operation.instance) else "before_delete", operation.instance)
        doomed = {id(one.instance) for one in self._operations}
        for instance in self._changeable():
            if "before_update" in instance.__mapper__.hooks and id(instance) not in doomed and _changes(instance):
                call_hook("before_update", instance)

    def _keep_pending(self, done: Sequence[_Operation | _Insertion]) -> None:
        """Forget the operations that are written; those asked for since are pending."""
        written = set(map(id, done))
        self._operations = [one for one in self._operations if id(one) not in written]
        self._ahead = None

    async def _settle(self, sent: _Unsettled) -> None:
        """Find out what became of a commit whose answer was lost: it was applied, or else it never will be.

        What it was to write is pending still where it was not applied.
        """
        sent.check_age()
        results = await self._port.withdraw(sent.commit)
        if results is not None:
            self._take_over(sent, results)
        self._unsettled = None

    def _take_over(self, sent: _Unsettled, results: Sequence[Applied]) -> None:
        """The commit was applied, whatever was asked for since."""
        withdrawn: list[_Operation] = []
        for operation, write, applied in zip(sent.operations, sent.commit.writes, results, strict=True):
            instance = operation.instance
            if instance is None or instance._state.session is self:
                operation.applied(applied, write)
                if instance is not None:
                    self._touched[id(instance)] = instance
            elif isinstance(applied, Written) and applied.created:  # deleted since it was sent
                delete = Delete(write.table, applied.id, missing="skip")
                withdrawn.append(_Operation(lambda delete=delete: delete, lambda applied, write: None))  # type: ignore[misc]
        self._touched = {key: one for key, one in self._touched.items() if not one._state.deleted}
        self._keep_pending(sent.operations)
        self._ahead = None
        self._operations = [*withdrawn, *self._operations]  # those left were asked for later, maybe about the same keys

    def _column(self, model: type[Model], name: str) -> Any:
        mapper = mapper_of(model)
        column = mapper.columns.get(name)
        if column is None:
            known = ", ".join(mapper.columns)
            raise ValidationError(f"no such attribute; the attributes are {known}", table=mapper.name, field=name)
        return column

    def _expected(self, model: type[Model], values: Mapping[str, Any] | None) -> Expect:
        columns = {name: self._column(model, name) for name in values or ()}
        expect = {columns[name].field: columns[name].dump(value) for name, value in (values or {}).items()}
        return {**model.__mapper__.expected, **expect}

    def _field(self, model: type[Model], name: str) -> str:
        field: str = self._column(model, name).field
        return field

    def _whole_key(self, query: Query[Any]) -> Key:
        """The key that a query by nothing but equalities names."""
        read = self._plan(query)
        if read.filter is not None or read.range.lower is not None or read.range.upper is not None or not read.range.eq:
            raise InvalidRequestError("what must be unique is a query by equalities on the first fields of an index")
        return Key(read.range.index, read.range.eq)

    def _target(self, model: type[Model], key: Any) -> str | Key:
        target = self._key(model, key)
        return key if target.index == "by_id" else target

    def _document_of(self, instance: Model) -> Document:
        document = _state_of(instance).document
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
        return dump(self._valid(instance))

    def _valid(self, instance: Model) -> Model:
        validate(instance)
        return instance

    def _inserted(self, instance: Model, written: Applied, write: Write) -> None:
        assert isinstance(written, Written)
        assert isinstance(write, Insert | Upsert)
        document = {**write.doc, "_id": written.id, "_creationTime": written.creation_time}
        instance._state.document = document
        model = type(instance)
        root = model.__mapper__.root.model
        identities = self._identities.get(root)
        if identities is None:
            identities = self._identities[root] = Instances(root)
        elif (other := identities.get(written.id)) is not None and other is not instance:
            self._let_go(other)  # it was upserted over: of one document there is one instance
        identities.put(written.id, instance)

    def _removed(self, instance: Model, applied: Applied, write: Write) -> None:
        self._let_go(instance)
        instance._state.deleted = True

    def _let_go(self, instance: Model) -> None:
        """Forget an instance, which is detached then, and its changes."""
        state = instance._state
        instances = self._identities.get(_root(type(instance)))
        if instances is not None and state.document is not None:
            id_ = state.document["_id"]
            assert isinstance(id_, str)
            if instances.get(id_) is instance:
                instances.discard(id_)
        self._touched.pop(id(instance), None)
        self._watched.pop(id(instance), None)
        state.session = None

    def _updated(self, model: type[Model], identity: Identity, applied: Applied, write: Write) -> None:
        """Show the instance, if there is one, what was written past it."""
        instance = self._held(model, identity)
        if instance is None:
            return
        if not applied:
            self._found_gone(instance)
            return
        assert isinstance(write, Patch)
        before = self._document_of(instance)
        document = {**before, **write.set, **greater_stored(before, write.set, write.greatest)}
        for field in write.unset:
            document.pop(field, None)
        self._renew(instance, document)
        instance._state.doubtful = bool(write.greatest)  # more may have been stored than was read

    def _deleted_key(self, model: type[Model], identity: Identity, applied: Applied, write: Write) -> None:
        instance = self._held(model, identity)
        if instance is not None:
            self._removed(instance, applied, write)

    def _doubt(self, table: str) -> None:
        """Some documents of a table were deleted: `get` is to look again before it answers one that the session holds."""
        for model, instances in self._identities.items():
            if self._table(model).name == table:
                for instance in instances:
                    instance._state.doubtful = True

    def _found_gone(self, instance: Model) -> None:
        doomed = any(one.instance is instance for one in self._operations)
        if not doomed and not _changed_fields(instance):  # else the commit is to say that it is gone
            self._let_go(instance)
            instance._state.deleted = True

    def _renew(self, instance: Model, document: Document) -> None:
        """The instance has this document now. Attributes that were changed stay changed."""
        changed = _changed_fields(instance)
        for name, column in instance.__mapper__.columns.items():
            if column.field not in changed:
                instance.__dict__.pop(name, None)
        instance._state.document = document
        instance._state.doubtful = False
        call_hook("after_load", instance)
        self._identities[_root(type(instance))].loaded((instance,))

    # what is ahead

    def _ask(self, operation: _Operation | _Insertion) -> None:
        self._operations.append(operation)
        if self._ahead is not None:
            self._look_ahead(operation)

    def _withdraw(self, instance: Model) -> None:
        """Nothing is to be done about an instance any more."""
        self._operations = [one for one in self._operations if one.instance is not instance]
        self._ahead = None

    def _look_ahead(self, operation: _Operation | _Insertion) -> None:
        assert self._ahead is not None
        if operation.gone is not None:
            self._ahead[operation.gone] = None
        elif operation.instance is not None and (identity := self._new_identity(operation.instance)) is not None:
            self._ahead[_root(type(operation.instance)), identity] = operation.instance

    def _pending_at(self, model: type[Model], identity: Identity) -> Model | Missing | None:
        if not self._operations:
            return MISSING
        if self._ahead is None:
            self._ahead, self._rekeyed = {}, []
            for operation in self._operations:
                self._look_ahead(operation)
        while self._rekeyed:
            instance = self._rekeyed.pop()
            if _is_new(instance) and (now := self._new_identity(instance)) is not None:
                self._ahead[_root(type(instance)), now] = instance
        found = self._ahead.get((_root(model), identity), MISSING)
        if isinstance(found, Model) and self._new_identity(found) != identity:
            return MISSING  # it has another key by now
        return found

    def _new_identity(self, instance: Model) -> Identity | None:
        """The primary key that a new instance has at the moment; None while it has none that could be stored."""
        model = type(instance)
        try:
            return identity_of(self._key(model, instance.primary_key).key) if model.__mapper__.key else None
        except (AttributeError, ValidationError):
            return None

    def _identity(self, model: type[Model], key: Any) -> tuple[type[Model], Identity]:
        return _root(model), identity_of(self._key(model, key).key)

    def _changeable(self) -> list[Model]:
        """The persistent instances that may differ from their documents.

        Those touched since the last commit are kept; those whose mutable values were handed out before it only as long as
        somebody else keeps them.
        """
        touched = list(self._touched.values())
        if self._watched:
            watched = list(self._watched.values())
            touched += [one for one in watched if id(one) not in self._touched and one._state.session is self]
        return touched

    def _patches(self) -> list[_Operation]:
        """The changes of persistent instances that are not to be deleted."""
        doomed = {id(one.instance) for one in self._operations}
        patches: list[_Operation] = []
        for instance in self._changeable():
            changes = {} if id(instance) in doomed else _changes(instance)
            if not changes:
                continue
            validate(instance)
            document = self._document_of(instance)
            set_ = {field: new for field, (_, new) in changes.items() if new is not MISSING}
            unset = tuple(field for field, (_, new) in changes.items() if new is MISSING)
            expect: Expect = {field: old for field, (old, _) in changes.items()}
            table = self._table(type(instance))
            if any(map(_may_be_large, set_.values())):
                table.check_size({name: value for name, value in {**document, **set_}.items() if name[0] != "_"})
            unique = _new_key(type(instance), document, set_, unset)
            patch = Patch(table, document["_id"], set_, unset, expect, unique=unique)
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
        self._watched.pop(id(instance), None)

    def _deletable(self, query: Query[Any]) -> tuple[Range, Condition | None]:
        table = check_query(query).model.__mapper__.name
        if query._offset or query._after is not None:
            raise ValidationError("a query whose documents are deleted takes no offset or after", table=table)
        if query._limit is not None and query._order == "desc":
            raise ValidationError("a query whose first documents are deleted is ascending", table=table)
        read = self._plan(query)
        return read.range, read.filter


def _given(column: Column[Any], value: Any) -> Any:
    """What is to be set. Raises InvalidRequestError for what is to be computed of another attribute."""
    if not isinstance(value, Greatest):
        return value
    if value.field != column.field:
        raise InvalidRequestError(f"func.greatest takes the attribute that it is set on, {column.name}")
    return value.value


def _partial(model: type[Model], values: Mapping[str, Any]) -> Model:
    """An instance with these attributes and no others."""
    instance = model.__new__(model)
    instance.__dict__.update(values, _state=InstanceState())
    return instance


def _root(model: type[Model]) -> type[Model]:
    """The model of a table's documents of whatever kind."""
    root: type[Model] = model.__mapper__.root.model
    return root


def _is_new(instance: Model) -> bool:
    return instance._state.document is None


def _holds_mutable(instance: Model) -> bool:
    """Whether an attribute that can be changed in place was handed out, so that the instance has to be watched on."""
    return any(name in instance.__dict__ for name in instance.__mapper__.mutable)


def _state_of(instance: Model) -> InstanceState:
    """What the session knows of an instance. Raises InvalidRequestError for what is no instance of a model."""
    if not isinstance(instance, Model):
        given = f"the model {instance.__name__}" if isinstance(instance, type) else f"a {type(instance).__name__}"
        raise InvalidRequestError(f"an instance of a model is needed, got {given}")
    return instance._state


def _check_keyed(model: type[Model]) -> None:
    if not mapper_of(model).key:
        raise InvalidRequestError(f"{model.__name__} has no primary key to upsert by")


def _new_key(model: type[Model], document: Document, set_: Mapping[str, Value], unset: Collection[str]) -> Key | None:
    """The primary key that a change gives a document, if it concerns the key at all: no other may have it."""
    mapper = model.__mapper__
    if not mapper.key or not any(field in set_ or field in unset for field in mapper.key_fields):
        return None
    changed = {field: value for field, value in {**document, **set_}.items() if field not in unset}
    return Key(mapper.primary_index, tuple(key_of(model, changed)))


def _changes(instance: Model) -> dict[str, tuple[Value | Missing, Value | Missing]]:
    """What differs from the loaded document: for each field what it held and what it is to hold."""
    document = instance._state.document
    changes: dict[str, tuple[Value | Missing, Value | Missing]] = {}
    if document is None:
        return changes
    held = instance.__dict__
    for name, column in instance.__mapper__.columns.items():
        if name in held:
            old, new = document.get(column.field, MISSING), column.dump(held[name])
            if not column.type.equal(old, new) and not _loads_as(column, old, new):
                changes[column.field] = (old, owned(new))
    return changes


def _changed_fields(instance: Model) -> set[str]:
    """The fields that differ from the loaded document, those included that hold what cannot be stored."""
    try:
        return set(_changes(instance))
    except ValidationError:
        return {column.field for name, column in instance.__mapper__.columns.items() if name in instance.__dict__}


def _may_be_large(value: Value) -> bool:
    """Whether a document may become too large through this value, so that it has to be measured."""
    return len(value) > MAX_DOCUMENT_SIZE // 64 if isinstance(value, str | bytes) else isinstance(value, dict | list)


def _loads_as(column: Column[Any], old: Value | Missing, new: Value | Missing) -> bool:
    """Whether `new` is only another form of what `old` is loaded as: a default, another form of None, a set reordered."""
    try:
        return same(column.dump(column.load(old)), new)
    except ValidationError:
        return False
