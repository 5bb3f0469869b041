"""Hooks: methods that a session calls at the turns of an instance's life, where its class has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import (
    getattr_static,
    isasyncgen,
    isasyncgenfunction,
    isawaitable,
    iscoroutinefunction,
    isgenerator,
    isgeneratorfunction,
)
from types import FunctionType
from typing import TYPE_CHECKING, Any

from convexorm.errors import ValidationError
from convexorm.mapping.expressions import Column, Handed

if TYPE_CHECKING:
    from convexorm.mapping.model import Model

__all__ = ["HOOKS", "call_hook", "check_done", "hooks_of", "is_postponed"]

HOOKS = ("before_insert", "before_update", "before_delete", "after_load", "after_commit")
"""`before_…` run when a commit begins, and may change the instance; `after_load` when a document has become an instance, or
a newer one was loaded into it; `after_commit` when all of the commit is written, for what it inserted and changed.
"""


def hooks_of(model: type, table: str) -> Mapping[str, Callable[[Any], None]]:
    """The hooks of a class by name. Raises ValidationError for one that would have to be awaited, or is no plain method."""
    found: dict[str, Callable[[Any], None]] = {}
    _plain_method(model, table, "__validate__", "a validator")
    for name in HOOKS:
        method = _plain_method(model, table, name, "a hook")
        if method is not None:
            found[name] = method
    return found


def _plain_method(model: type, table: str, name: str, what: str) -> Callable[[Any], None] | None:
    method = getattr_static(model, name, None)
    if isinstance(method, FunctionType):
        if is_postponed(method):
            raise ValidationError(f"{what} waits for nothing; make it a plain method", table=table, field=name)
        return method
    if not isinstance(method, Column | Handed) and (callable(method) or hasattr(type(method), "__get__")):
        raise ValidationError(f"{what} is called with the instance; make it a plain method", table=table, field=name)
    return None  # or something else of that name: a column, a None that says there is none


def is_postponed(given: Any) -> bool:
    """Whether what a call answers is still to be run: of a coroutine function, or one with a `yield`."""
    while isinstance(given, partial):
        given = given.func
    return any(
        asked(one)
        for asked in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)
        for one in (given, getattr(type(given), "__call__", None))  # noqa: B004
    )


def check_done(answer: object, what: str, table: str, field: str) -> None:
    """Raise ValidationError for what a hook or a validator answers that is still to be run: it has done nothing."""
    if isawaitable(answer) or isgenerator(answer) or isasyncgen(answer):
        if hasattr(answer, "close"):
            answer.close()  # nobody will
        raise ValidationError(f"{what} waits for nothing; make it plain", table=table, field=field)


def call_hook(name: str, instance: Model) -> None:
    """Call a hook of an instance, if its class has it. Raises ValidationError for one that would have to be awaited."""
    mapper = instance.__mapper__
    if mapper.hooks and name in mapper.hooks:
        answer: object = mapper.hooks[name](instance)
        if answer is not None:
            check_done(answer, "a hook", mapper.name, name)
