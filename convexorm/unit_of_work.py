"""The unit of work: what is pending in a session, and how it becomes one commit.

What is added, changed and deleted is gathered; a changed instance is found by comparing it with the document it was loaded
from. `commit` sends everything as one atomic commit, in the order it was asked for, changes first; each change expects the
fields it overwrites to be what they were.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any
from uuid import uuid4
from weakref import WeakSet

import attrs

from convexorm.conditions import Condition
from convexorm.deployments.base import Port
from convexorm.errors import (
    AuthError,
    ConvexORMError,
    DeploymentError,
    FunctionFailed,
    FunctionNotFound,
    IndexRangeError,
    InvalidRequestError,
    LimitExceeded,
    StaleDataError,
    ValidationError,
)
from convexorm.expressions import Column
from convexorm.faces import DONE
from convexorm.identities import Instances
from convexorm.model import InstanceState, Model, dump, validate
from convexorm.query import Query
from convexorm.reading import AsyncReading, check_query, identity_of, key_of
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
)
from convexorm.values import MAX_DOCUMENT_SIZE, MISSING, Missing, Value, canonical, owned, same
from convexorm.wire import encode_commit

__all__ = ["AsyncUnitOfWork"]


@attrs.define(eq=False)
class _Operation:
    """One thing asked of the unit of work: how to write it, and what becomes of the instance when it is written."""

    write: Callable[[], Write]
    applied: Callable[[Applied, Write], None]
    instance: Model | None = None


@attrs.define(eq=False)
class _Insertion:
    """The operation of an added instance. There may be thousands in a commit, so it is one object."""

    session: AsyncUnitOfWork
    instance: Model
    unique: bool | Key
    returning: bool

    def write(self) -> Write:
        model = type(self.instance)
        document = self.session._dumped(self.instance)
        key = self.unique if isinstance(self.unique, Key) else None
        if self.unique is True and model.__key__:
            key = self.session._key(model, self.instance.primary_key)
        return Insert(self.session._table(model), document, key, self.returning)

    def applied(self, applied: Applied, write: Write) -> None:
        self.session._inserted(self.instance, applied, write)


@attrs.frozen
class _Unsettled:
    """A commit that may have been applied or not, because its answer was lost."""

    commit: Commit
    operations: list[_Operation | _Insertion]
    form: bytes


class AsyncUnitOfWork(AsyncReading):
    """The part of a session that writes."""

    def __init__(self, port: Port, tables: Mapping[str, str] | None) -> None:
        super().__init__(port, tables)
        self._touched: dict[int, Model] = {}
        self._watched: WeakSet[Model] = WeakSet()
        self._operations: list[_Operation | _Insertion] = []
        self._unsettled: _Unsettled | None = None

    async def refresh(self, instance: Model) -> None:
        """Load the instance's document again, dropping changes not committed. StaleDataError if it is gone."""
        document = self._document_of(instance)
        model = type(instance)
        (result,) = await self._run([Read(Range(self._table(model), "by_id", (document["_id"],)), limit=1)])
        if not result.docs:
            raise StaleDataError(table=self._table(model).name, reason="missing")
        self._reset(instance, result.docs[0])

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

    def add(self, instance: Model, *, unique: bool | Query[Any] = True, returning: bool = True) -> Awaitable[None]:
        """Put a new instance into the session; the next commit inserts it.

        A model with a primary key is inserted only if no document has that key (StaleDataError, `exists`), unless `unique`
        is False because the key is known to be new. `unique` may be a query by equalities on the first fields of an index
        instead: then the instance is inserted only if there is no document of that query. Without `returning`, and beyond
        1,000 documents in one commit, its `creation_time` stays None on Convex until `refresh`: Convex has to read each
        document back for it. Nothing waits here; awaiting the result is allowed. Raises InvalidRequestError for an instance
        of another session, or one deleted.
        """
        if _state_of(instance).session is self:
            return DONE
        key = unique if isinstance(unique, bool) else self._whole_key(unique)
        self._adopt(instance)
        self._operations.append(_Insertion(self, instance, key, returning))
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
        _state_of(instance)
        model = type(instance)
        _check_keyed(model)
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
        unique: Query[Any] | None = None,
    ) -> Awaitable[None]:
        """Set some attributes of the document with this key, without reading it first; other writers' changes to them
        are overwritten. With `missing_ok` a document that is gone is passed over, else the commit is refused.

        `expected` makes it a compare-and-set: the commit is refused with StaleDataError unless these attributes hold these
        values when it is applied. `unique` is a query by equalities on the first fields of an index: the commit is refused,
        too, if it leaves more than one document of that query. Attrs validators see instances, so not what is set here.
        """
        table, at = self._table(model), self._target(model, key)
        columns = {name: self._column(model, name) for name in values}
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
        patch = Patch(table, at, set_, tuple(unset), expect, "skip" if missing_ok else "fail", sole)
        self._operations.append(_Operation(lambda: patch, lambda applied, write: None))
        return DONE

    async def bulk_upsert(self, model: type[Model], rows: Iterable[Mapping[str, Any]]) -> None:
        """Insert or replace documents by their primary keys at once, in one commit and without instances.

        `rows` are attributes by name; those left out take their defaults, and attrs validators do not see them. What is
        pending in the session stays pending.
        """
        _check_keyed(model)
        columns, table = model.__columns__, self._table(model)
        key_fields = [columns[name].field for name in model.__key__]
        writes: list[Write] = []
        for row in rows:
            if not row.keys() <= columns.keys():
                self._column(model, min(row.keys() - columns.keys()))
            document: dict[str, Value] = {}
            for name, column in columns.items():
                value = column.dump(row[name] if name in row else column.default())
                if value is not MISSING:
                    document[column.field] = value
            key = tuple([document.get(field, MISSING) for field in key_fields])
            writes.append(Upsert(table, Key(model.__primary_index__, key), document))
        if writes:
            await self._port.commit(Commit(uuid4().hex, writes))

    def delete(self, instance: Model) -> Awaitable[None]:
        """Mark the instance for deletion; the next commit deletes its document.

        StaleDataError on commit if it is gone already. Raises InvalidRequestError for an instance this session does not
        hold.
        """
        if _state_of(instance).session is not self:
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

    def delete_key(
        self, model: type[Model], key: Any, *, expected: Mapping[str, Any] | None = None, missing_ok: bool = True
    ) -> Awaitable[None]:
        """Delete the document with this key in the next commit, without reading it first.

        The commit is refused with StaleDataError unless the attributes in `expected` hold these values when it is applied.
        """
        expect = self._expected(model, expected)
        delete = Delete(self._table(model), self._target(model, key), expect, "skip" if missing_ok else "fail")
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
        outcome may be unknown; committing again is safe, what was sent is applied once. If something else is pending by
        then, what was sent is settled first, as a commit of its own.
        """
        operations: list[_Operation | _Insertion] = [*self._patches(), *self._operations]
        writes = [operation.write() for operation in operations]
        if self._unsettled is not None and self._unsettled.form != _form(writes):
            await self._settle(self._unsettled)
            operations = [*self._patches(), *self._operations]
            writes = [operation.write() for operation in operations]
        if not operations:
            return
        commit = Commit(uuid4().hex, writes) if self._unsettled is None else self._unsettled.commit
        try:
            results = await self._port.commit(commit)
        except StaleDataError as error:
            self._unsettled = None
            if error.write is not None and 0 <= error.write < len(operations):
                error.instance = operations[error.write].instance
            raise
        except (ValidationError, LimitExceeded, IndexRangeError):
            self._unsettled = None
            raise
        except (AuthError, FunctionFailed, FunctionNotFound):
            raise  # nothing was applied now; what was sent before is as unsettled as it was
        except BaseException:  # the answer may be what was lost
            self._unsettled = _Unsettled(commit, operations, _form(writes))
            raise
        self._unsettled = None
        self._operations = []
        for operation, write, applied in zip(operations, writes, results, strict=True):
            operation.applied(applied, write)
        for instance in (*self._touched.values(), *(one.instance for one in operations if one.instance is not None)):
            if _holds_mutable(instance):
                self._watched.add(instance)
        self._touched = {}

    def rollback(self) -> Awaitable[None]:
        """Forget everything pending: new instances leave the session, changed ones show their documents again."""
        self._unsettled = None
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

    # -- underneath ----------------------------------------------------------------------------------------------

    async def _settle(self, sent: _Unsettled) -> None:
        """Send a commit again whose answer was lost, under its id: it is applied once, or refused and still pending."""
        try:
            results = await self._port.commit(sent.commit)
        except Exception as error:
            if isinstance(error, AuthError | DeploymentError) and not isinstance(error, FunctionFailed):
                raise  # as unsettled as it was
            self._unsettled = None  # refused, or nothing that could be sent
            return
        self._unsettled = None
        done = set(map(id, sent.operations))
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
        # what is pending now was asked for later, and may be about the same keys
        self._operations = [*withdrawn, *(one for one in self._operations if id(one) not in done)]

    def _column(self, model: type[Model], name: str) -> Any:
        column = model.__columns__.get(name)
        if column is None:
            known = ", ".join(model.__columns__)
            raise ValidationError(f"no such attribute; the attributes are {known}", table=model.__table__.name, field=name)
        return column

    def _expected(self, model: type[Model], values: Mapping[str, Any] | None) -> Expect:
        columns = {name: self._column(model, name) for name in values or ()}
        return {columns[name].field: columns[name].dump(value) for name, value in (values or {}).items()}

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
        validate(instance)
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
            self._keys[write.table.name, identity_of(key_of(model, document))] = written.id

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
        self._watched.discard(instance)

    def _deletable(self, query: Query[Any]) -> tuple[Range, Condition | None]:
        table = check_query(query).model.__table__.name
        if query._offset or query._after is not None:
            raise ValidationError("a query whose documents are deleted takes no offset or after", table=table)
        if query._limit is not None and query._order == "desc":
            raise ValidationError("a query whose first documents are deleted is ascending", table=table)
        read = self._plan(query)
        return read.range, read.filter


def _form(writes: list[Write]) -> bytes:
    """Writes as bytes, equal if they ask for the same: 1 is 1.0 but not True, as everywhere in Convex."""
    try:
        return canonical(encode_commit(Commit("", writes)))
    except (ConvexORMError, KeyError, RecursionError):  # nothing that could have been sent
        return b""


def _is_new(instance: Model) -> bool:
    return instance._state.document is None


def _holds_mutable(instance: Model) -> bool:
    """Whether an attribute that can be changed in place was handed out, so that the instance has to be watched on."""
    return any(name in instance.__dict__ for name in instance.__mutable__)


def _state_of(instance: Model) -> InstanceState:
    """What the session knows of an instance. Raises InvalidRequestError for what is no instance of a model."""
    if not isinstance(instance, Model):
        given = f"the model {instance.__name__}" if isinstance(instance, type) else f"a {type(instance).__name__}"
        raise InvalidRequestError(f"an instance of a model is needed, got {given}")
    return instance._state


def _check_keyed(model: type[Model]) -> None:
    if not model.__key__:
        raise InvalidRequestError(f"{model.__name__} has no primary key to upsert by")


def _new_key(model: type[Model], document: Document, set_: Mapping[str, Value], unset: Collection[str]) -> Key | None:
    """The primary key that a change gives a document, if it concerns the key at all: no other may have it."""
    if not any(field in set_ or field in unset for field in (model.__columns__[name].field for name in model.__key__)):
        return None
    changed = {field: value for field, value in {**document, **set_}.items() if field not in unset}
    return Key(model.__primary_index__, tuple(key_of(model, changed)))


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
                changes[column.field] = (old, owned(new))
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
