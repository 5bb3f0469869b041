"""Changes: what of an instance differs from the document it was loaded from, and the patch that writes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from convexorm.errors import ValidationError
from convexorm.mapping.expressions import Column
from convexorm.mapping.model import Model
from convexorm.mapping.records import Record
from convexorm.mapping.references import UNSET
from convexorm.mapping.validation import validate
from convexorm.relatives import unresolved
from convexorm.requests import Patch, Unique
from convexorm.schema import Table
from convexorm.types.codec import key_step
from convexorm.values import MAX_DOCUMENT_SIZE, MISSING, Missing, Value, owned, same

__all__ = [
    "Changes",
    "changed_fields",
    "changes_of",
    "holds_mutable",
    "is_new",
    "patch_of",
    "stored_alike",
    "valid_changes_of",
]

Changes = Mapping[str, tuple[Value | Missing, Value | Missing]]
"""For each field that differs what it held and what it is to hold."""


def is_new(instance: Model) -> bool:
    """Whether an instance has no document yet."""
    return instance._state.held is None


def holds_mutable(instance: Model) -> bool:
    """Whether an attribute that can be changed in place was handed out, so that the instance has to be watched on."""
    mutable = instance.__mapper__.mutable
    return bool(mutable) and any(name in instance.__dict__ for name in mutable)


def changes_of(instance: Model) -> Changes:
    """What differs from the loaded document. Raises ValidationError where an attribute holds what cannot be stored, and
    where the change would lose what the document holds inside the value and the model does not know.
    """
    state = instance._state
    held = state.held
    changes: dict[str, tuple[Value | Missing, Value | Missing]] = {}
    if held is None:
        return changes
    attributes, mapper = instance.__dict__, instance.__mapper__
    for name in type(held).differing(attributes, held) if isinstance(held, Record) else mapper.differing(attributes, held):
        column = mapper.columns[name]
        old = held.get(column.field, MISSING)
        if attributes[name] is UNSET and name in unresolved(instance):
            continue  # it is to hold the id of a document that is not there yet
        if name in mapper.adopting and attributes[name] is not None:
            shown = attributes[name]
            attributes[name] = column.type.adopt(shown)
            if state.has_made(name, shown):
                state.make(name, attributes[name])
        new = column.dump(attributes[name])
        if type(old) is type(new) is str is column.type.as_is:  # the commonest
            if old != new:
                changes[column.field] = (old, new)
            continue
        if column.type.equal(old, new):
            continue
        is_set = column.defaults(old) and not state.has_made(name, attributes[name])
        anew = None if is_set else _stored_anew(column, old, new)
        if anew is not None and same(anew[0], new):
            continue
        lost = None if anew is None else _lost(old, anew[0])
        if lost is not None:
            problem = (
                "the document holds what the model does not know, and the change would lose it; declare it, or have the "
                "whole value replaced with session.update(...)"
            )
            raise ValidationError(problem, table=mapper.name, field=column.field, path=lost).of(instance._state.known_id)
        changes[column.field] = (old, owned(new))
    return changes


def valid_changes_of(instance: Model, waiting: Collection[str] = ()) -> Changes:
    """The same, once the validators have seen it: they may set attributes, too. Of `waiting` attributes it is not known yet
    what they will be stored as. Raises ValidationError.
    """
    changes = changes_of(instance)
    if instance.__mapper__.validated and (changes or waiting):
        validate(instance, changes)  # what was not touched may be older than its validator
        return changes_of(instance)
    return changes


def changed_fields(instance: Model) -> set[str]:
    """The fields that differ from the loaded document, those included that hold what cannot be stored."""
    try:
        return set(changes_of(instance))
    except ValidationError:
        return {column.field for name, column in instance.__mapper__.columns.items() if name in instance.__dict__}


def stored_alike(column: Column[Any], one: Any, other: Any) -> bool:
    """Whether two values of a column can be stored, and are as the same."""
    try:
        return column.type.equal(column.dump(one), column.dump(other))
    except ValidationError:
        return False


def patch_of(
    instance: Model,
    changes: Changes,
    table: Table,
    unique: Sequence[Unique],
    waiting: Collection[str] = (),
    *,
    measured: bool = True,
) -> Patch:
    """The write of these changes; it expects the fields to hold what they held, those of the attributes in `waiting`, too.

    Raises ValidationError.
    """
    mapper, state = instance.__mapper__, instance._state
    if mapper.polymorphic:
        mapper.check_kept({field: new for field, (_, new) in changes.items()}, read=True)
    set_: dict[str, Value] = {}
    unset: list[str] = []
    expect: dict[str, Value | Missing] = {}
    large = False
    for field, (old, new) in changes.items():
        expect[field] = old
        if new is MISSING:
            unset.append(field)
        else:
            set_[field] = new
            large = large or _may_be_large(new)
    for name in waiting:
        field, held = mapper.columns[name].field, state.held
        expect[field] = MISSING if held is None else held.get(field, MISSING)
    if measured and large:
        document = {**(state.document or {}), **set_}
        table.check_size({name: value for name, value in document.items() if name[0] != "_"})
    return Patch(table, state.known_id, set_, tuple(unset), expect, unique=unique)


def _may_be_large(value: Value) -> bool:
    """Whether a document may become too large through this value, so that it has to be measured."""
    return len(value) > MAX_DOCUMENT_SIZE // 64 if isinstance(value, str | bytes) else isinstance(value, dict | list)


def _stored_anew(column: Column[Any], old: Value | Missing, new: Value | Missing) -> tuple[Value | Missing] | None:
    """What `old` becomes when it is loaded and stored again: perhaps `new`, another form of it, such as a default, another
    form of None, a set reordered. None where it is only itself, or cannot be loaded.
    """
    if type(old) is type(new) is column.type.as_is:
        return None  # each is loaded as itself
    try:
        return (column.dump(column.load(old)),)
    except ValidationError:
        return None


def _lost(old: Any, anew: Any) -> str | None:
    """Where in a stored value something is that is gone when it is loaded and stored again; None where nothing is."""
    if type(old) is dict and type(anew) is dict:
        for key, value in old.items():
            inner = _lost(value, anew[key]) if key in anew else ""
            if inner is not None:
                return key_step(key) + inner
    elif type(old) is list and type(anew) is list and len(old) == len(anew):
        for place, (value, other) in enumerate(zip(old, anew, strict=True)):
            inner = _lost(value, other) if type(value) in (dict, list) else None
            if inner is not None:
                return f"[{place}]{inner}"
    return None
