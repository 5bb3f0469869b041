"""Graphs of new instances: those that another refers to by its `_id` are written before it, in one commit.

What a reference to a new document is to hold is known only where the commit is applied, so a write says which it means.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from convexorm.errors import InvalidRequestError
from convexorm.mapping.model import Model
from convexorm.mapping.references import Reference
from convexorm.relatives import astray, led_by_key, led_to_stored, set_to, unresolved
from convexorm.requests import Insert, Patch, Upsert, Write
from convexorm.sessions.changes import is_new
from convexorm.sessions.operations import Operation, Upsertion

__all__ = ["check_lasting", "in_order", "led", "refer_within"]


def in_order(operations: Sequence[Operation]) -> list[Operation]:
    """The operations, each behind those whose documents it refers to, and else in their order.

    Raises InvalidRequestError for new instances that refer to each other in a circle, to one that is not added, or to one
    that is deleted.
    """
    related = [one for one in operations if one.instance is not None and one.instance._state.related]
    waiting = {id(one): unresolved(one.instance) for one in related if one.instance is not None}
    for one in related:
        for attribute, target in astray(one.instance).items() if _waiting(one) is not None and one.instance else ():
            raise _not_added(one, attribute, target)
    _check_keys(operations, related)
    if not waiting or not any(waiting.values()):
        return list(operations)
    inserts = {id(one.instance): one for one in operations if one.instance is not None and is_new(one.instance)}
    ordered: list[Operation] = []
    done: set[int] = set()
    for operation in operations:
        path = [operation]  # those that wait for the one behind them
        while path:
            last = path[-1]
            if id(last) in done:
                path.pop()
                continue
            before = _before(last, waiting.get(id(last), {}), inserts, done)
            if before is None:
                done.add(id(last))
                ordered.append(path.pop())
            elif any(before is one for one in path):
                raise _circle([*path[[one is before for one in path].index(True) :], before], waiting)
            else:
                path.append(before)
    return ordered


def _check_keys(operations: Sequence[Operation], related: Sequence[Operation]) -> None:
    """Raise InvalidRequestError for references by a key that may be another one once the commit is applied."""
    unsure = {
        id(one.instance)
        for one in operations
        if isinstance(one, Upsertion) and one.by is not None
        if not set(one.instance.__mapper__.key_fields) <= set(one.by.fields)
    }
    for one in related if unsure else ():
        for attribute, target in led_by_key(one.instance).items() if _waiting(one) is not None and one.instance else ():
            if id(target) in unsure:
                shown, by = f"{type(one.instance).__name__}.{attribute}", type(target).__name__
                problem = f"{shown} refers to a {by} by its key, which may become that of a stored one as it is upserted"
                raise InvalidRequestError(f"{problem} by another; commit it first")


def _before(
    operation: Operation, waiting: Mapping[str, Model], inserts: Mapping[int, Operation], done: Collection[int]
) -> Operation | None:
    """An insertion that has to come before an operation, and is not done; None where there is none."""
    for attribute, target in waiting.items():
        insert = inserts.get(id(target))
        if insert is None:
            raise _not_added(operation, attribute, target)
        if id(insert) not in done:
            return insert
    return None


def _not_added(operation: Operation, attribute: str, target: Model) -> InvalidRequestError:
    shown, to = f"{type(operation.instance).__name__}.{attribute}", type(target).__name__
    if target._state.deleted:
        return InvalidRequestError(f"{shown} refers to a {to} that is deleted")
    return InvalidRequestError(f"{shown} refers to a new {to} that is not in the session; add it")


def led(operations: Sequence[Operation]) -> list[Reference]:
    """The references that are to lead to stored documents, of all that is written."""
    instances = [one.instance for one in operations if one.instance is not None and _waiting(one) is not None]
    return [reference for one in instances if one._state.related for reference in led_to_stored(one)]


def check_lasting(operations: Sequence[Operation], fate: Callable[[Reference, Any], str | None]) -> None:
    """Raise InvalidRequestError for references to documents that the same commit deletes, or gives another key; `fate` says
    which of the two.
    """
    for one in operations:
        if one.instance is None or _waiting(one) is None or not one.instance.__mapper__.referring:
            continue
        for reference, value in set_to(one.instance):
            how = fate(reference, value)
            if how is not None:
                shown, to = f"{type(one.instance).__name__}.{reference.attribute}", reference.target.__name__
                raise InvalidRequestError(f"{shown} refers to a {to} that the same commit {how}")


def _circle(path: Sequence[Operation], waiting: Mapping[int, Mapping[str, Model]]) -> InvalidRequestError:
    names = []
    for one, following in pairwise(path):
        attribute = next(name for name, target in waiting[id(one)].items() if target is following.instance)
        names.append(f"{type(one.instance).__name__}.{attribute}")
    return InvalidRequestError(
        f"new instances refer to each other in a circle, none can be the first: {' -> '.join(names)}. "
        "Commit one of them without its reference first"
    )


def refer_within(operations: Sequence[Operation], writes: Sequence[Write]) -> None:
    """Say in each write which others of the commit its references mean."""
    places: dict[int, int] | None = None
    if not [one for one in operations if getattr(one, "waiting", None)]:
        return
    for operation, write in zip(operations, writes, strict=True):
        waiting = _waiting(operation)
        if waiting:
            if places is None:
                places = {id(one.instance): place for place, one in enumerate(operations) if one.instance is not None}
            assert isinstance(write, Insert | Upsert | Patch)
            columns = type(operation.instance).__mapper__.columns  # type: ignore[union-attr]
            write.refs = {columns[name].field: places[id(target)] for name, target in waiting.items()}


def _waiting(operation: Operation) -> Mapping[str, Model] | None:
    return getattr(operation, "waiting", None)
