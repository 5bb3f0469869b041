"""Graphs of new instances: those that another refers to by its `_id` are written before it, in one commit.

What a reference to a new document is to hold is known only where the commit is applied, so a write says which it means.
"""

from __future__ import annotations

from collections.abc import Sequence

from convexorm.errors import InvalidRequestError
from convexorm.model import Model
from convexorm.relatives import unresolved
from convexorm.requests import Insert, Patch, Upsert, Write
from convexorm.sessions.changes import is_new
from convexorm.sessions.operations import Operation

__all__ = ["in_order", "refer_within"]


def in_order(operations: Sequence[Operation]) -> list[Operation]:
    """The operations, each behind those whose documents it refers to, and else in their order.

    Raises InvalidRequestError for new instances that refer to each other in a circle, or to one that is not added.
    """
    waiting = {id(one): unresolved(one.instance) for one in operations if one.instance is not None}
    if not any(waiting.values()):
        return list(operations)
    inserts = {id(one.instance): one for one in operations if one.instance is not None and is_new(one.instance)}
    ordered: list[Operation] = []
    begun: dict[int, str] = {}
    done: set[int] = set()

    def visit(operation: Operation) -> None:
        if id(operation) in done:
            return
        instance = operation.instance
        for attribute, target in waiting.get(id(operation), {}).items():
            assert instance is not None
            begun[id(operation)] = f"{type(instance).__name__}.{attribute}"
            insert = inserts.get(id(target))
            if insert is None:
                raise InvalidRequestError(
                    f"{begun[id(operation)]} refers to a new {type(target).__name__} that is not in the session; add it"
                )
            if id(insert) in begun:
                circle = list(begun.values())[list(begun).index(id(insert)) :]
                raise InvalidRequestError(
                    f"new instances refer to each other in a circle, none can be the first: {' -> '.join(circle)}. "
                    "Commit one of them without its reference first"
                )
            visit(insert)
        begun.pop(id(operation), None)
        done.add(id(operation))
        ordered.append(operation)

    for operation in operations:
        visit(operation)
    return ordered


def refer_within(operations: Sequence[Operation], writes: Sequence[Write]) -> None:
    """Say in each write which others of the commit its references mean."""
    places: dict[int, int] | None = None
    for operation, write in zip(operations, writes, strict=True):
        waiting = _waiting(operation)
        if waiting:
            if places is None:
                places = {id(one.instance): place for place, one in enumerate(operations) if one.instance is not None}
            assert isinstance(write, Insert | Upsert | Patch)
            columns = type(operation.instance).__mapper__.columns  # type: ignore[union-attr]
            write.refs = {columns[name].field: places[id(target)] for name, target in waiting.items()}


def _waiting(operation: Operation) -> dict[str, Model]:
    return getattr(operation, "waiting", {})
