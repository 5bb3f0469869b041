"""Changes that are computed where the data is, for `session.update`: `{"best": func.greatest(Player.best, 70)}`.

Nothing is read for them, and no other writer is in their way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from convexorm import computed
from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.mapping.expressions import Column, Computed, operand_of
from convexorm.types.anything import AnyType
from convexorm.types.containers import ListType
from convexorm.types.times import IsoDatetimeType, TimestampType
from convexorm.values import check_value

if TYPE_CHECKING:
    from convexorm.computed import Operand

__all__ = ["Greatest", "Now", "append", "greatest", "least", "now", "remove"]

T = TypeVar("T")


@attrs.frozen
class Greatest:
    """The greater of what a field holds and a value, in Convex's order; the value where it holds nothing."""

    field: str
    value: Any = attrs.field(repr=False)


@attrs.frozen
class Now:
    """The deployment's time when the change is applied."""

    def operand(self, column: Column[Any]) -> Operand:
        """In the form in which a column stores times. Raises ValidationError for one that stores none."""
        if isinstance(column.type, TimestampType):
            return computed.Now("milliseconds")
        if isinstance(column.type, IsoDatetimeType):
            return computed.Now("text")
        raise ValidationError(
            f"func.now() is a datetime, the attribute a {column.type.name}", table=column.table, field=column.field
        )


def greatest(column: Column[T], value: T) -> Greatest:
    """The greater of what the attribute holds and `value`: set on that attribute, it never makes it less."""
    return Greatest(_column(column).field, value)


def least(column: Column[T], value: T) -> Computed[T]:
    """The lesser of what the attribute holds and `value`, which it becomes where it holds nothing."""
    return Computed(computed.Extreme("least", computed.Stored(_column(column).field), operand_of(value, column)), column)


def append(column: Column[list[T]], value: T) -> Computed[list[T]]:
    """The attribute's list with `value` at its end. A commit that would make it too long is refused."""
    return Computed(computed.Listed("append", _column(column).field, _element(column, value)), column)


def remove(column: Column[list[T]], value: T) -> Computed[list[T]]:
    """The attribute's list without all that are equal to `value`."""
    return Computed(computed.Listed("remove", _column(column).field, _element(column, value)), column)


def now() -> Any:
    """The deployment's time when the change is applied, for a datetime."""
    return Now()


def _column(given: Column[T]) -> Column[T]:
    """The column. InvalidRequestError for anything else."""
    if not isinstance(given, Column):
        raise InvalidRequestError(f"an attribute of a model is needed, such as Task.tags, got {type(given).__name__}")
    return given


def _element(column: Column[Any], value: object) -> Any:
    """What the list of a column holds for a value. Raises ValidationError if nothing can, and for what is no list."""
    kind = column.type
    if not isinstance(kind, ListType | AnyType):
        raise ValidationError(f"a {kind.name} is no list", table=column.table, field=column.field)
    try:
        dumped = kind.item.dump(value) if isinstance(kind, ListType) else kind.dump(value)
        check_value(dumped)
    except ValidationError as error:
        raise ValidationError(error.problem, table=column.table, field=column.field, path=error.path) from None
    return dumped
