"""Operations: what was asked of a session and is not written yet; each knows how to write it and what becomes of instances.

`gone` is the document that an operation deletes, if it is one that is known by its primary key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from convexorm.computed import Operand
from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.func import Greatest, Now
from convexorm.given import a_mapping
from convexorm.mapping.expressions import Column, Computed, operand_of
from convexorm.mapping.mapper import mapper_of
from convexorm.mapping.model import InstanceState, Model, set_state
from convexorm.mapping.validation import validate, validate_changes
from convexorm.querying.query import Query
from convexorm.relatives import found, hold_to_references, not_whole, unresolved
from convexorm.requests import (
    Applied,
    Delete,
    DeleteRange,
    Document,
    Insert,
    Key,
    Patch,
    Unique,
    Upsert,
    Write,
    Written,
    greater_stored,
)
from convexorm.schema import IndexDef
from convexorm.sessions.compiler import Compiler, root_of
from convexorm.sessions.identities import IdentityMap
from convexorm.sessions.instances import Identity, identity_of, key_of
from convexorm.values import MAX_DOCUMENT_SIZE, MISSING, Value, owned

__all__ = [
    "Change",
    "ChangeByKey",
    "Deletion",
    "DeletionByKey",
    "DeletionOfRange",
    "Insertion",
    "Operation",
    "Retraction",
    "Upsertion",
    "check_keyed",
    "dump_valid",
    "patch_by_key",
    "patch_of_values",
]


_NOTHING: Mapping[str, Model] = MappingProxyType({})


class Operation(Protocol):
    """One thing asked of a session."""

    @property
    def instance(self) -> Model | None:
        """The instance it is about, if it is about one."""

    @property
    def gone(self) -> tuple[type[Model], Identity] | None:
        """The document that it deletes."""

    def write(self) -> Write:
        """The write, as things are now. Raises ValidationError."""

    def applied(self, applied: Applied, write: Write) -> None:
        """It was written: show the instances."""


class Insertion(msgspec.Struct, eq=False):
    """An added instance is to be inserted."""

    compiler: Compiler
    identities: IdentityMap
    instance: Model
    unique: bool | Key
    returning: bool
    gone: None = None
    waiting: Mapping[str, Model] = _NOTHING
    """What references lead to that is inserted by the same commit, by attribute."""

    def write(self) -> Write:
        model = type(self.instance)
        if self.unique is True and not self.instance._state.related:  # nearly always
            self.waiting = _NOTHING
            mapper = model.__mapper__
            document = dump_valid(self.instance) if mapper.validated else mapper.dump(self.instance)
            return Insert(*self.compiler.inserted(model, document), self.returning)
        self.waiting = unresolved(self.instance) if self.instance._state.related else _NOTHING
        document = dump_valid(self.instance, self.waiting)
        primary = self.unique is True
        if self.waiting:  # what refers to what is not there yet has a key that nothing stored can have
            primary = primary and self.waiting.keys().isdisjoint(model.__mapper__.key)
        unique = self.compiler.unique(model, primary=primary)
        if isinstance(self.unique, Key):
            unique = (Unique(self.unique.index, self.unique.key), *unique)
        return Insert(self.compiler.table(model), document, unique, self.returning)

    def applied(self, applied: Applied, write: Write) -> None:
        if self.waiting:
            _inserted(self.identities, self.instance, applied, write, _led(self.instance, self.waiting))
            return
        written: Any = applied
        document: dict[str, Value] = {**write.doc}  # type: ignore[union-attr]
        document["_id"], document["_creationTime"] = written.id, written.creation_time
        self.identities.inserted(self.instance, document)


class Upsertion(msgspec.Struct, eq=False):
    """An instance is to be inserted, or to replace the document with its key in an index; `by` is None for its primary key.

    The document keeps its primary key, which the instance takes over, where it is found by another one.
    """

    compiler: Compiler
    identities: IdentityMap
    instance: Model
    keep: tuple[str, ...]
    greatest: tuple[str, ...]
    returning: bool
    by: IndexDef | None = None
    gone: None = None
    waiting: Mapping[str, Model] = _NOTHING

    def write(self) -> Write:
        instance, model = self.instance, type(self.instance)
        self.waiting = unresolved(instance) if instance._state.related else _NOTHING
        table, document = self.compiler.table(model), dump_valid(instance, self.waiting)
        if self.by is None:
            key = _key_of_new(model, document)
            unique = tuple(one for one in self.compiler.unique(model) if one.index != key.index)
            return Upsert(table, key, document, self.keep, self.greatest, self.returning, unique)
        key = Key(self.by.name, tuple(document.get(field, MISSING) for field in self.by.fields))
        if all(value is MISSING for value in key.key):
            raise ValidationError(f"it lacks all of {self.by.name!r}, which it is upserted by", table=table.name)
        others = [one for one in self.compiler.unique(model) if one.index != key.index]
        identity = tuple(name for name in model.__mapper__.key_fields if name not in ("_id", *self.by.fields))
        unique = (Unique(key.index, key.key), *others)
        return Upsert(table, key, document, self.keep, self.greatest, self.returning, unique, identity)

    def applied(self, applied: Applied, write: Write) -> None:
        _inserted(self.identities, self.instance, applied, write, _led(self.instance, self.waiting))


class Change(msgspec.Struct, eq=False):
    """A persistent instance has changed."""

    identities: IdentityMap
    instance: Model
    patch: Patch
    waiting: Mapping[str, Model] = _NOTHING
    gone: None = None

    def write(self) -> Write:
        return self.patch

    def applied(self, applied: Applied, write: Write) -> None:
        patch, state = self.patch, self.identities.check_persistent(self.instance)
        document: dict[str, Value] = {**(state.document or _NOTHING), **patch.set}
        if self.waiting:
            document.update(_led(self.instance, self.waiting))
        for field in patch.unset:
            document.pop(field, None)
        state.held = document
        refers = refers_by(self.instance, patch)
        if refers or not type(self.instance).__mapper__.unique_fields.isdisjoint((*patch.set, *patch.unset)):
            self.identities.rekeyed(self.instance)
            keys = type(self.instance).__mapper__.key_fields
            self.identities.moves.rekeyed |= any(field in patch.set or field in patch.unset for field in keys)
        if refers:
            hold_to_references(self.instance)


class ChangeByKey(msgspec.Struct, eq=False):
    """Attributes are to be set on a document that was not read."""

    identities: IdentityMap
    model: type[Model]
    identity: Identity
    patch: Patch
    instance: None = None
    gone: None = None

    @property
    def rekeys(self) -> bool:
        """Whether the document is to have another primary key."""
        patch, fields = self.patch, self.model.__mapper__.key_fields
        if isinstance(patch.at, str) or not any(field in patch.set or field in patch.unset for field in fields):
            return False
        before = zip(fields, patch.at.key, strict=True)
        key = [MISSING if field in patch.unset else patch.set.get(field, value) for field, value in before]
        return identity_of(key) != self.identity

    def write(self) -> Write:
        return self.patch

    def applied(self, applied: Applied, write: Write) -> None:
        """Show the instance, if there is one, what was written past it."""
        instance = self.identities.held(root_of(self.model), self.identity)
        if instance is None:
            return
        if not applied:
            self.identities.found_gone(instance)
            return
        patch = self.patch
        before = self.identities.document_of(instance)
        document = {**before, **patch.set, **greater_stored(before, patch.set, patch.greatest)}
        for field in patch.unset:
            document.pop(field, None)
        doubtful = instance._state.doubtful
        self.identities.renew(instance, document)
        # more may have been stored than was read
        instance._state.doubtful = doubtful or bool(patch.greatest or patch.compute)


class Deletion(msgspec.Struct, eq=False):
    """A persistent instance is to be deleted."""

    identities: IdentityMap
    instance: Model
    delete: Delete
    gone: tuple[type[Model], Identity]

    def write(self) -> Write:
        return self.delete

    def applied(self, applied: Applied, write: Write) -> None:
        at, held = self.delete.at, None
        if isinstance(at, str):  # another one may have taken its place just before
            held = self.identities.by_id(type(self.instance), at)
        for instance in (self.instance, held):
            if instance is not None and not instance._state.deleted:
                self.identities.removed(instance)


class DeletionByKey(msgspec.Struct, eq=False):
    """A document that was not read is to be deleted."""

    identities: IdentityMap
    delete: Delete
    gone: tuple[type[Model], Identity]
    instance: None = None

    def write(self) -> Write:
        return self.delete

    def applied(self, applied: Applied, write: Write) -> None:
        instance = self.identities.held(*self.gone)
        if instance is not None:
            self.identities.removed(instance)


class DeletionOfRange(msgspec.Struct, eq=False):
    """The documents of a range are to be deleted."""

    compiler: Compiler
    identities: IdentityMap
    delete: DeleteRange
    instance: None = None
    gone: None = None

    def write(self) -> Write:
        return self.delete

    def applied(self, applied: Applied, write: Write) -> None:
        if not self.delete.tells:
            self.identities.doubt(lambda model: self.compiler.table(model).name == self.delete.table.name)


class Retraction(msgspec.Struct, eq=False):
    """A document that a commit inserted whose answer was lost, and whose instance was withdrawn before it was known."""

    delete: Delete
    instance: None = None
    gone: None = None

    def write(self) -> Write:
        return self.delete

    def applied(self, applied: Applied, write: Write) -> None:
        pass


def refers_by(instance: Model, patch: Patch) -> bool:
    """Whether relations of an instance go by what a patch has changed."""
    mapper = instance.__mapper__
    fields = [reference.field for reference in mapper.references.values()]
    return any(field in patch.set or field in patch.unset for field in fields)


def patch_by_key(
    compiler: Compiler,
    model: type[Model],
    key: Any,
    values: Mapping[str, Any],
    *,
    expected: Mapping[str, Any] | None,
    missing_ok: bool,
    unique: Query[Any] | None,
) -> Patch:
    """The write of `session.update`."""
    patch = patch_of_values(compiler, model, compiler.target(model, key), values, primary=unique is None)
    if expected or model.__mapper__.only is not None:
        patch.expect = compiler.expected(model, expected)
    patch.missing = "skip" if missing_ok else "fail"
    if unique is not None:
        whole = compiler.whole_key(unique)
        patch.unique = (Unique(whole.index, whole.key), *patch.unique)
    return patch


def patch_of_values(
    compiler: Compiler, model: type[Model], at: str | Key, values: Mapping[Any, Any], *, primary: bool
) -> Patch:
    """The write that gives attributes, by name or as columns, these values or what is to be computed. ValidationError."""
    table, columns = compiler.table(model), model.__mapper__.columns
    given: dict[str, Any] = {}
    for attribute, one in (values if type(values) is dict else a_mapping(values, "attributes with their values")).items():
        name = attribute if type(attribute) is str else _name_of(compiler, model, attribute)
        if name in given:
            raise ValidationError("given twice, by its name and as a column", table=table.name, field=name)
        given[name] = one
    plain: dict[str, Any] = {}
    set_: dict[str, Value] = {}
    unset: list[str] = []
    compute: dict[str, Operand] = {}
    greatest: list[str] = []
    for name, value in given.items():
        column = columns.get(name) or compiler.column(model, name)
        if isinstance(value, _COMPUTED):
            compute[column.field] = value.operand(column) if isinstance(value, Now) else operand_of(value, column)
            continue
        if isinstance(value, Greatest):
            greatest.append(column.field)
            value = _value_of(column, value)
        plain[name] = value
    if compute and not compute.keys().isdisjoint(model.__mapper__.key_fields):
        raise InvalidRequestError("a primary key is not computed")
    if model.__mapper__.validated:
        partial = _partial(model, plain)
        validate_changes(model, plain, partial)
        plain = {  # what validators have set with it
            name: value for name, value in vars(partial).items() if name in columns and columns[name].field not in compute
        }
    for name, value in plain.items():
        column = compiler.column(model, name)
        dumped = column.dump(value)
        if dumped is MISSING:
            unset.append(column.field)
        else:
            set_[column.field] = owned(dumped)
    if model.__mapper__.polymorphic:
        model.__mapper__.check_kept({**set_, **dict.fromkeys((*unset, *compute), MISSING)}, read=False)
    if compiler.measures and sum([len(one) for one in set_.values() if isinstance(one, str | bytes)]) > _MEASURED_FROM:
        table.check_size(set_)
    claims = compiler.unique(model, {*set_, *unset, *compute}, primary=primary)
    return Patch(table, at, set_, tuple(unset), unique=claims, greatest=tuple(greatest), compute=compute)


def _name_of(compiler: Compiler, model: type[Model], name: Any) -> str:
    """The name of an attribute that is given by it or as a column."""
    if not isinstance(name, Column):
        return str(name) if isinstance(name, str) else compiler.column(model, name).name
    if name.table != model.__mapper__.name:
        problem = f"an attribute of {model.__name__} is needed, got one of table {name.table!r}"
        raise ValidationError(problem, table=model.__mapper__.name)
    return name.name


_COMPUTED = (Computed, Now, Column)
_MEASURED_FROM = MAX_DOCUMENT_SIZE // 8
"""Characters of what is set from which on its size is looked at."""


def check_keyed(model: type[Model]) -> None:
    """Raise InvalidRequestError for a model without a primary key."""
    if not mapper_of(model).key:
        raise InvalidRequestError(f"{model.__name__} has no primary key to upsert by")


def dump_valid(instance: Model, leaving: Collection[str] = ()) -> dict[str, Value]:
    """The document of an instance, without the attributes in `leaving`. Raises ValidationError if it is not valid."""
    mapper = instance.__mapper__
    if mapper.validated:
        try:
            validate(instance)
        except AttributeError:
            mapper.check_set(instance)
            raise
    return mapper.dump(instance, leaving)


def _led(instance: Model, waiting: Mapping[str, Model]) -> Mapping[str, Value]:
    """What references hold, by field, now that what they lead to was inserted."""
    if not waiting:
        return _NOTHING
    led: dict[str, Value] = {}
    for name, target in waiting.items():
        value = target.convex_id
        instance.__dict__[name] = value
        found(instance, instance.__mapper__.references[name], value, target)
        led[instance.__mapper__.columns[name].field] = value
    return led


def _key_of_new(model: type[Model], document: Document) -> Key:
    """The primary key that a new document will have."""
    return Key(model.__mapper__.primary_index, tuple(key_of(model, document)))


def _inserted(identities: IdentityMap, instance: Model, written: Applied, write: Write, led: Mapping[str, Value]) -> None:
    assert isinstance(written, Written)
    assert isinstance(write, Insert | Upsert)
    document = {**write.doc, **led, **written.identity} if led or written.identity else dict(write.doc)
    document["_id"], document["_creationTime"] = written.id, written.creation_time
    if not written.created and instance._state.related:
        not_whole(instance)
    identities.inserted(instance, document)
    if written.identity:
        for name, column in instance.__mapper__.columns.items():
            if column.field in written.identity:
                instance.__dict__[name] = column.load(written.identity[column.field])


def _value_of(column: Column[Any], value: Greatest) -> Any:
    """What is to be set at least. Raises InvalidRequestError for what is to be computed of another attribute, and
    ValidationError for None, which is less than everything.
    """
    if value.field != column.field:
        raise InvalidRequestError(f"func.greatest takes the attribute that it is set on, {column.name}")
    if value.value is None:
        raise ValidationError("func.greatest takes a value, got None", table=column.table, field=column.field)
    return value.value


def _partial(model: type[Model], values: Mapping[str, Any]) -> Model:
    """An instance with these attributes and no others."""
    instance = model.__mapper__.create(model)
    instance.__dict__.update(values)
    set_state(instance, InstanceState(looked_at=True))
    return instance
