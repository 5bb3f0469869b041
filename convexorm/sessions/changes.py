"""Changes: what of an instance differs from the document it was loaded from, and the patch that writes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from convexorm.errors import ValidationError
from convexorm.expressions import Column
from convexorm.model import Model
from convexorm.references import UNSET
from convexorm.relatives import unresolved
from convexorm.requests import Document, Expect, Patch, Unique
from convexorm.schema import Table
from convexorm.validation import validate
from convexorm.values import MAX_DOCUMENT_SIZE, MISSING, Missing, Value, owned, same

__all__ = ["Changes", "changed_fields", "changes_of", "holds_mutable", "is_new", "patch_of"]

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
    """What differs from the loaded document. Raises ValidationError where an attribute holds what cannot be stored."""
    document = instance._state.document
    changes: dict[str, tuple[Value | Missing, Value | Missing]] = {}
    if document is None:
        return changes
    held, mapper = instance.__dict__, instance.__mapper__
    for name in mapper.differing(held, document):
        column = mapper.columns[name]
        old = document.get(column.field, MISSING)
        if held[name] is UNSET and name in unresolved(instance):
            continue  # it is to hold the id of a document that is not there yet
        new = column.dump(held[name])
        if not column.type.equal(old, new) and not _loads_as(column, old, new):
            changes[column.field] = (old, owned(new))
    return changes


def changed_fields(instance: Model) -> set[str]:
    """The fields that differ from the loaded document, those included that hold what cannot be stored."""
    try:
        return set(changes_of(instance))
    except ValidationError:
        return {column.field for name, column in instance.__mapper__.columns.items() if name in instance.__dict__}


def patch_of(
    instance: Model,
    changes: Changes,
    document: Document,
    table: Table,
    unique: Sequence[Unique],
    waiting: Collection[str] = (),
    *,
    measured: bool = True,
) -> Patch:
    """The write of these changes; it expects the fields to hold what they held, those of the attributes in `waiting`, too.

    Raises ValidationError.
    """
    validate(instance, changes)  # what was not touched may be older than its validator
    set_ = {field: new for field, (_, new) in changes.items() if new is not MISSING}
    unset = tuple(field for field, (_, new) in changes.items() if new is MISSING)
    columns = type(instance).__mapper__.columns
    expect: Expect = {
        **{field: old for field, (old, _) in changes.items()},
        **{columns[name].field: document.get(columns[name].field, MISSING) for name in waiting},
    }
    if measured and any(map(_may_be_large, set_.values())):
        table.check_size({name: value for name, value in {**document, **set_}.items() if name[0] != "_"})
    return Patch(table, document["_id"], set_, unset, expect, unique=unique)


def _may_be_large(value: Value) -> bool:
    """Whether a document may become too large through this value, so that it has to be measured."""
    return len(value) > MAX_DOCUMENT_SIZE // 64 if isinstance(value, str | bytes) else isinstance(value, dict | list)


def _loads_as(column: Column[Any], old: Value | Missing, new: Value | Missing) -> bool:
    """Whether `new` is only another form of what `old` is loaded as: a default, another form of None, a set reordered."""
    if type(old) is type(new) is column.type.as_is:
        return False  # each is loaded as itself
    try:
        return same(column.dump(column.load(old)), new)
    except ValidationError:
        return False
