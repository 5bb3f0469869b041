"""Graphs of new instances: those that another refers to by its `_id` are written before it, in one commit.

What a reference to a new document is to hold is known only where the commit is applied, so a write says which it means.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from convexorm.errors import InvalidRequestError
from convexorm.mapping.model import Model
from convexorm.relatives import astray, led_by_key, unresolved
from convexorm.requests import Insert, Patch, Upsert, Write
from convexorm.sessions.changes import is_new
from convexorm.sessions.operations import Operation, Upsertion

__all__ = ["in_order", "refer_within"]


def in_order(operations: Sequence[Operation]) -> list[Operation]:
    """The operations, each behind those whose documents it refers to, and else in their order.

    Raises InvalidRequestError for new instances that refer to each other in a circle, to one that is not added, or to one
    that is to be deleted.
    """
    related = [one for one in operations if one.instance is not None and one.instance._state.related]
    waiting = {id(one): unresolved(one.instance) for one in related if one.instance is not None}
    doomed = {id(one.instance) for one in operations if one.gone is not None}
    for one in related:
        for attribute, target in astray(one.instance, doomed).items() if _waiting(one) is not None and one.instance else ():
            raise _not_added(one, attribute, target, doomed)
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
            raise _not_added(operation, attribute, target, ())
        if id(insert) not in done:
            return insert
    return None


def _not_added(operation: Operation, attribute: str, target: Model, doomed: Collection[int]) -> InvalidRequestError:
    shown = f"{type(operation.instance).__name__}.{attribute}"
    if id(target) in doomed:
        return InvalidRequestError(f"{shown} refers to a {type(target).__name__} that the same commit deletes")
    return InvalidRequestError(f"{shown} refers to a new {type(target).__name__} that is not in the session; add it")


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
