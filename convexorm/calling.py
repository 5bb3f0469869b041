"""A call of a function, as it is given: which function a path names, and the arguments as values of Convex."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import attrs

from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.mapping.references import UNSET
from convexorm.types import AnyType, column_type
from convexorm.values import MISSING, Missing, Value

__all__ = ["Arguments", "check_path", "dumped_arguments", "typed"]

Arguments: TypeAlias = Mapping[str, Any] | None


def check_path(path: object) -> None:
    if not isinstance(path, str):
        raise InvalidRequestError(f'a function is named by its path, such as "messages:list", got {type(path).__name__}')
    module, _, name = path.partition(":")
    if not module or not path.isascii() or not path.isprintable() or (":" in path and not name):
        raise InvalidRequestError('a function is named by its path, such as "messages:list" or "admin/users:list"')


@attrs.frozen
class _Typed:
    annotation: Any
    value: Any = attrs.field(repr=False)

    def dump(self) -> Value | Missing:
        try:
            codec = _codec(self.annotation)
        except TypeError:  # what nobody can keep, such as a list
            codec = column_type(self.annotation)
        return codec.dump(self.value)


def typed(annotation: Any, value: Any) -> Any:
    """A value among the arguments of a function, stored as a column of this annotation stores it: `typed(Int64, 5)`.

    Without it arguments are plain values, of which none is an int64. Where it is dumped, ValidationError is raised for a
    value that is none of the annotation's, and for an annotation that cannot be stored.
    """
    return value if value is UNSET else _Typed(annotation, value)


_codec = lru_cache(maxsize=1_024)(column_type)


def dumped_arguments(path: str, arguments: Arguments) -> Mapping[str, Value]:
    """Arguments as values of Convex; those that are UNSET are left out."""
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise InvalidRequestError(f"arguments are values by name, got {type(arguments).__name__}")
    given = {name: value for name, value in arguments.items() if value is not UNSET}
    told = {name: value for name, value in given.items() if isinstance(value, _Typed)}
    try:
        plain = {name: value for name, value in given.items() if name not in told}
        dumped: dict[str, Value | Missing] = {**AnyType().dump(plain)}
    except ValidationError as error:
        raise ValidationError(f"the arguments of {path}{error.path}: {error.problem}") from None
    for name, value in told.items():
        try:
            dumped[name] = value.dump()
        except ValidationError as error:
            raise ValidationError(f"the arguments of {path}.{name}{error.path}: {error.problem}") from None
    return {name: value for name, value in dumped.items() if value is not MISSING}
