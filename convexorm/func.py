"""Changes that are computed where the data is, for `session.update`: `{"best": func.greatest(Player.best, 70)}`.

Nothing is read for them, and no other writer is in their way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs

if TYPE_CHECKING:
    from convexorm.expressions import Column

__all__ = ["Greatest", "greatest"]

T = TypeVar("T")


@attrs.frozen
class Greatest:
    """The greater of what a field holds and a value, in Convex's order; the value where it holds nothing."""

    field: str
    value: Any = attrs.field(repr=False)


def greatest(column: Column[T], value: T) -> Greatest:
    """The greater of what the attribute holds and `value`: set on that attribute, it never makes it less."""
    return Greatest(column.field, value)
