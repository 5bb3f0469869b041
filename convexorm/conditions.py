"""Conditions on a document, as data: comparisons, memberships, and what combines them.

A condition holds Convex values already. What a place in it is called, and whether a value fits there, is for the operands
of `expressions` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias

import attrs

from convexorm.errors import LimitExceeded
from convexorm.values import Missing, Value

if TYPE_CHECKING:
    from convexorm.requests import Follow

__all__ = [
    "MAX_LEVELS",
    "Combined",
    "Comparison",
    "Condition",
    "Containment",
    "Exists",
    "Membership",
    "Negated",
    "Operator",
    "and_",
    "existences",
    "not_",
    "or_",
    "rewritten",
]

Operator: TypeAlias = Literal["eq", "ne", "lt", "lte", "gt", "gte"]

MAX_LEVELS = 20
"""Levels of a condition: a call's arguments nest 64 levels (Convex limit), each of these takes two, a value up to 16."""


@attrs.frozen
class Condition:
    """Combine conditions with `&`, `|` and `~`, or with `and_`, `or_` and `not_`.

    Raises LimitExceeded for more than 20 levels of `&` in `|` in `&`; any number may stand side by side.
    """

    levels: int = attrs.field(default=1, init=False, eq=False, repr=False)

    def __and__(self, other: Condition) -> Condition:
        return Combined("and", (*_side_by_side("and", self), *_side_by_side("and", other)))

    def __or__(self, other: Condition) -> Condition:
        return Combined("or", (*_side_by_side("or", self), *_side_by_side("or", other)))

    def __invert__(self) -> Condition:
        return self.arg if isinstance(self, Negated) else Negated(self)

    def __bool__(self) -> NoReturn:
        raise TypeError("a condition has no truth value in Python; combine conditions with &, | and ~")

    def fields(self) -> Iterable[str]:
        """The names of the fields it speaks of."""
        raise NotImplementedError

    def tables(self) -> Iterable[str]:
        """The tables of the columns it was made of, as far as it was made of columns."""
        raise NotImplementedError


def place_of(field: str, path: tuple[str | int, ...]) -> str | None:
    if not path:
        return field
    return ".".join([field, *map(str, path)]) if all(type(step) is str and "." not in step for step in path) else None


@attrs.frozen
class Comparison(Condition):
    """`field` (or what `path` reaches inside it) compared with `value` in Convex's total order."""

    field: str
    op: Operator
    value: Value | Missing = attrs.field(repr=False)
    path: tuple[str | int, ...] = ()
    table: str | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def place(self) -> str | None:
        """What it is about as an index names it, a dotted path where it is inside a field; None where no index can."""
        return place_of(self.field, self.path)

    def fields(self) -> Iterable[str]:
        return (self.field,)

    def tables(self) -> Iterable[str]:
        return () if self.table is None else (self.table,)


@attrs.frozen
class Membership(Condition):
    """`field` (or what `path` reaches inside it) is one of `values`."""

    field: str
    values: tuple[Value | Missing, ...] = attrs.field(repr=False)
    path: tuple[str | int, ...] = ()
    table: str | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def place(self) -> str | None:
        """What it is about as an index names it, a dotted path where it is inside a field; None where no index can."""
        return place_of(self.field, self.path)

    def fields(self) -> Iterable[str]:
        return (self.field,)

    def tables(self) -> Iterable[str]:
        return () if self.table is None else (self.table,)


@attrs.frozen
class Containment(Condition):
    """What `field` (or what `path` reaches inside it) holds: `contains` a text in a text or an element in an array, a text
    that `endswith` another, or is `like` a pattern in which each `%` stands for any characters. Nothing else does.
    """

    field: str
    op: Literal["contains", "endswith", "like"]
    value: Value = attrs.field(repr=False)
    path: tuple[str | int, ...] = ()
    table: str | None = attrs.field(default=None, eq=False, repr=False)

    def fields(self) -> Iterable[str]:
        return (self.field,)

    def tables(self) -> Iterable[str]:
        return () if self.table is None else (self.table,)


@attrs.frozen
class Combined(Condition):
    """All of `args` hold, or any of them; `and` of none is true, `or` of none is false."""

    op: Literal["and", "or"]
    args: tuple[Condition, ...]

    def __attrs_post_init__(self) -> None:
        _set_levels(self, self.args)

    def fields(self) -> Iterable[str]:
        return (name for argument in self.args for name in argument.fields())

    def tables(self) -> Iterable[str]:
        return (name for argument in self.args for name in argument.tables())


@attrs.frozen
class Negated(Condition):
    """`arg` does not hold."""

    arg: Condition

    def __attrs_post_init__(self) -> None:
        _set_levels(self, (self.arg,))

    def fields(self) -> Iterable[str]:
        return self.arg.fields()

    def tables(self) -> Iterable[str]:
        return self.arg.tables()


@attrs.frozen
class Exists(Condition):
    """An edge leads from the document to another that fulfils its filter. `relation` is what it is called.

    `look` answers that for what the document's field holds; a deployment that evaluates conditions itself sets it.
    """

    edge: Follow
    relation: str
    table: str
    look: Callable[[Value], bool] | None = attrs.field(default=None, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        _set_levels(self, () if self.edge.filter is None else (self.edge.filter,))

    def fields(self) -> Iterable[str]:
        return (self.edge.field,)

    def tables(self) -> Iterable[str]:
        return (self.table,)


def rewritten(condition: Condition, change: Callable[[Exists], Exists]) -> Condition:
    """The condition with what it says of other documents changed, at any depth."""
    if isinstance(condition, Exists):
        return change(condition)
    if isinstance(condition, Combined):
        return attrs.evolve(condition, args=tuple(rewritten(one, change) for one in condition.args))
    if isinstance(condition, Negated):
        return attrs.evolve(condition, arg=rewritten(condition.arg, change))
    return condition


def existences(condition: Condition | None) -> Iterator[Exists]:
    """What a condition says of other documents, but for what those are to fulfil."""
    if isinstance(condition, Exists):
        yield condition
    elif isinstance(condition, Combined):
        for one in condition.args:
            yield from existences(one)
    elif isinstance(condition, Negated):
        yield from existences(condition.arg)


def _side_by_side(op: Literal["and", "or"], condition: Condition) -> tuple[Condition, ...]:
    """What a condition adds to others that are combined so."""
    return condition.args if isinstance(condition, Combined) and condition.op == op else (condition,)


def _set_levels(condition: Condition, parts: Iterable[Condition]) -> None:
    levels = 1 + max((part.levels for part in parts), default=0)
    if levels > MAX_LEVELS:
        raise LimitExceeded("levels of a condition", maximum=MAX_LEVELS, actual=levels)
    object.__setattr__(condition, "levels", levels)


def and_(*conditions: Condition) -> Condition:
    """All of them; true when there are none."""
    return Combined("and", conditions)


def or_(*conditions: Condition) -> Condition:
    """Any of them; false when there are none."""
    return Combined("or", conditions)


def not_(condition: Condition) -> Condition:
    """The opposite."""
    return Negated(condition)
