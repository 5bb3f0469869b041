"""Hooks: methods that a session calls at the turns of an instance's life, where its class has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import (
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

__all__ = ["HOOKS", "VALIDATE", "call_hook", "check_done", "hooks_of", "is_postponed", "said_of"]

HOOKS = ("before_insert", "before_update", "before_delete", "after_load", "after_commit")
"""`before_…` run when a commit begins, and may change the instance; `after_load` when a document has become an instance, or
a newer one was loaded into it; `after_commit` when all of the commit is written, for what it inserted and changed.
"""

VALIDATE = "__validate__"


def said_of(model: type, name: str) -> Any:
    """What a class, or what it is made of, says under the name of a hook; None if nothing.

    What every model has of that name says nothing: it is there for `super()`.
    """
    return next((vars(base)[name] for base in model.__mro__ if name in vars(base) and base is not Hooked), None)


class Hooked:
    """What `super()` of a hook, or of `__validate__`, finds at the end: nothing to be done.

    A class that stands behind `Model` among the bases is asked all the same.
    """

    def __validate__(self) -> None:
        _go_on(self, VALIDATE)

    def before_insert(self) -> None:
        _go_on(self, "before_insert")

    def before_update(self) -> None:
        _go_on(self, "before_update")

    def before_delete(self) -> None:
        _go_on(self, "before_delete")

    def after_load(self) -> None:
        _go_on(self, "after_load")

    def after_commit(self) -> None:
        _go_on(self, "after_commit")


def _go_on(instance: Hooked, name: str) -> None:
    following = getattr(super(Hooked, instance), name, None)
    answer = None if following is None else following()
    if answer is not None:
        what = "a validator" if name == VALIDATE else "a hook"
        check_done(answer, what, instance.__mapper__.name, name)  # type: ignore[attr-defined]


def hooks_of(model: type, table: str) -> Mapping[str, Callable[[Any], None]]:
    """The hooks of a class by name. Raises ValidationError for one that would have to be awaited, or is no plain method."""
    found: dict[str, Callable[[Any], None]] = {}
    _plain_method(model, table, VALIDATE, "a validator")
    for name in HOOKS:
        method = _plain_method(model, table, name, "a hook")
        if method is not None:
            found[name] = method
    return found


def _plain_method(model: type, table: str, name: str, what: str) -> Callable[[Any], None] | None:
    method = said_of(model, name)
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
