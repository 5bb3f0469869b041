"""A call of a function, as it is given: which function a path names, and the arguments as values of Convex."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.references import UNSET
from convexorm.types import AnyType
from convexorm.values import MISSING, Value

__all__ = ["Arguments", "check_path", "dumped_arguments"]

Arguments: TypeAlias = Mapping[str, Any] | None


def check_path(path: object) -> None:
    if not isinstance(path, str):
        raise InvalidRequestError(f'a function is named by its path, such as "messages:list", got {type(path).__name__}')
    module, _, name = path.partition(":")
    if not module or not path.isascii() or not path.isprintable() or (":" in path and not name):
        raise InvalidRequestError('a function is named by its path, such as "messages:list" or "admin/users:list"')


def dumped_arguments(path: str, arguments: Arguments) -> Mapping[str, Value]:
    """Arguments as values of Convex; those that are UNSET are left out."""
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise InvalidRequestError(f"arguments are values by name, got {type(arguments).__name__}")
    given = {name: value for name, value in arguments.items() if value is not UNSET}
    try:
        dumped: Mapping[str, Value] = AnyType().dump(given)
    except ValidationError as error:
        raise ValidationError(f"the arguments of {path}{error.path}: {error.problem}") from None
    return {name: value for name, value in dumped.items() if value is not MISSING}
