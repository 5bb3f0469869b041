"""Entities made from what the contract's methods are given: an entity, or a mapping of its attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from convexorm import AsyncSession, Model
from convexorm.types import IsoDatetimeType
from mastra_convex.arguments import check_id, check_instant, naming
from mastra_convex.errors import InvalidArgument, named

__all__ = ["merged", "put", "record_of", "replace"]

M = TypeVar("M", bound=Model)


def record_of(operation: str, argument: str, model: type[M], given: M | Mapping[str, Any], **defaults: Any) -> M:
    """A new entity with the attributes of `given`; `defaults` stand in for those that are not given, or None.

    Timestamps may be ISO text; the entity has them as rows do, in UTC milliseconds. Raises InvalidArgument for anything
    that is neither, and for unknown and missing attributes.
    """
    columns = model.__mapper__.columns
    if isinstance(given, model):
        values = {name: getattr(given, name) for name in columns}
    elif isinstance(given, Mapping):
        values = dict(given)
    else:
        raise InvalidArgument(
            f"a {model.__name__} or a mapping of its attributes, got {type(given).__name__}",
            operation=operation,
            argument=argument,
        )
    for name, value in defaults.items():
        if values.get(name) is None:
            values[name] = value
    for name, value in values.items():
        if name not in columns:
            known = ", ".join(columns)
            raise InvalidArgument(f"no attribute {named(name)}; there are {known}", operation=operation, argument=argument)
        if value is not None and isinstance(columns[name].type, IsoDatetimeType):
            values[name] = check_instant(operation, f"{argument}.{name}", value)
    for key in model.__mapper__.key:
        check_id(operation, f"{argument}.{key}", values.get(key))
    with naming(operation, argument):
        return model(**values)


def merged(operation: str, argument: str, stored: object, update: Mapping[str, Any]) -> dict[str, Any]:
    """Stored metadata, or none, with the keys of an update, one level deep.

    Raises InvalidArgument where another writer has stored what is no object: merged into, it would be lost.
    """
    if stored is None:
        return dict(update)
    if not isinstance(stored, Mapping):
        raise InvalidArgument(
            f"what is stored is a {type(stored).__name__}, and nothing can be merged into it; save it whole",
            operation=operation,
            argument=argument,
            status="NOT_AN_OBJECT",
        )
    return {**stored, **update}


async def put(session: AsyncSession, record: Any, *, keep: Iterable[str] = (), expect: Iterable[str] = ()) -> Any:
    """Let the next commit store a record whole, in place of the one with its key, whose `updated_at` it never sets back.

    Attributes in `keep` stay as stored. With attributes to `expect` it answers the stored one, or None, and these are as
    they were read when the commit is applied, or it is a StaleDataError: so it is for `transact`, and forgets what is
    pending in the session.
    """
    if not expect:
        session.upsert(record, keep=keep, greatest=("updated_at",), returning=False)
        return None
    stored = await session.get(type(record), record.primary_key)
    replace(session, record, stored, keep=keep, expect=expect)
    return stored


def replace(session: AsyncSession, record: Any, stored: Any, *, keep: Iterable[str] = (), expect: Iterable[str]) -> None:
    """The same where the stored one, or None, was just read."""
    session.expunge_all()
    if stored is None:
        session.add(record, returning=False)
    else:
        session.update(type(record), record.primary_key, {}, expected={name: getattr(stored, name) for name in expect})
        session.upsert(record, keep=keep, greatest=("updated_at",), returning=False)
