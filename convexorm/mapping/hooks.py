"""Hooks: methods that a session calls at the turns of an instance's life, where its class has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import getattr_static, iscoroutinefunction
from types import FunctionType
from typing import TYPE_CHECKING, Any

from convexorm.errors import ValidationError

if TYPE_CHECKING:
    from convexorm.mapping.model import Model

__all__ = ["HOOKS", "call_hook", "hooks_of"]

HOOKS = ("before_insert", "before_update", "before_delete", "after_load", "after_commit")
"""`before_…` run when a commit begins, and may change the instance; `after_load` when a document has become an instance, or
a newer one was loaded into it; `after_commit` when all of the commit is written, for what it inserted and changed.
"""


def hooks_of(model: type, table: str) -> Mapping[str, Callable[[Any], None]]:
    """The hooks of a class by name. Raises ValidationError for one that would have to be awaited, or is no plain method."""
    found: dict[str, Callable[[Any], None]] = {}
    if iscoroutinefunction(getattr_static(model, "__validate__", None)):
        raise ValidationError("a validator waits for nothing; make it a plain method", table=table, field="__validate__")
    for name in HOOKS:
        method = getattr_static(model, name, None)
        if isinstance(method, FunctionType):
            if iscoroutinefunction(method):
                raise ValidationError("a hook waits for nothing; make it a plain method", table=table, field=name)
            found[name] = method
        elif callable(method) or isinstance(method, classmethod):
            raise ValidationError("a hook is called with the instance; make it a plain method", table=table, field=name)
    return found


def call_hook(name: str, instance: Model) -> None:
    """Call a hook of an instance, if its class has it."""
    hooks = instance.__mapper__.hooks
    if hooks and name in hooks:
        hooks[name](instance)
