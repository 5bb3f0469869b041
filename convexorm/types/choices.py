"""One of several values named in advance: enums and literals."""

from __future__ import annotations

import contextlib
import enum
import math
from collections.abc import Sequence
from enum import Enum
from typing import Any, ClassVar, TypeVar

from convexorm import schema
from convexorm.errors import ValidationError
from convexorm.schema import AnyOf, Validator
from convexorm.types.codec import ColumnType, refuse, total
from convexorm.types.scalars import BoolType, FloatType, IntType, StrType, real
from convexorm.values import Value, check_text

__all__ = ["EnumType", "FlagType", "LiteralType"]

E = TypeVar("E", bound=Enum)
F = TypeVar("F", bound=enum.Flag)


def _key(value: Value) -> tuple[bool, Value]:
    """A stored value as a dictionary takes it: 1 is 1.0, but not True."""
    return type(value) is bool, value


def _literal(value: Any, told: str) -> Value:
    """What is stored for a value that is written into a declaration."""
    if isinstance(value, str):
        check_text(value)
        return str.__str__(value)
    if value is None or type(value) is bool:
        return value
    if isinstance(value, int | float):
        return real(value)
    raise ValidationError(f"{told} {type(value).__name__}; str, int, float, bool and None can be stored")


def _one_of(values: Sequence[Value]) -> Validator:
    return AnyOf.of(*map(_exactly, values))


def _exactly(value: Value) -> Validator:
    if value is None:
        return schema.Null()
    told = not isinstance(value, float) or (math.isfinite(value) and (value != 0 or math.copysign(1, value) > 0))
    return schema.Literal(value) if told else schema.Number()  # `v.literal` takes no infinity, and no -0 for one


_COMPARED = tuple(getattr(kind, "__lt__") for kind in (object, str, int, float))  # noqa: B009


@total
class EnumType(ColumnType[E]):
    """A member of an enum as its value. A member of another enum, or the value itself, is none."""

    mutable = False

    def __init__(self, kind: type[E]) -> None:
        """Raises ValidationError for an enum whose members have values that are no scalars of Convex."""
        self._kind = kind
        members = list(kind)
        if not members:
            raise ValidationError(f"the enum {kind.__name__} has no members")
        self.values = [_literal(member.value, f"the enum {kind.__name__} has values of") for member in members]
        self._by_name = {member._name_: value for member, value in zip(members, self.values, strict=True)}
        self._members = {_key(value): member for member, value in zip(members, self.values, strict=True)}
        self.validator = _one_of(self.values)
        self.holds_none = None in self.values
        # members that cannot be compared go by their values, those that have an order of their own by no other
        self.ordered = getattr(kind, "__lt__") in _COMPARED  # noqa: B009

    @property
    def name(self) -> str:
        return self._kind.__name__

    def dump(self, value: E) -> Value:
        return self._by_name[value._name_] if type(value) is self._kind else refuse(self.name, value)

    def load(self, value: Value) -> E:
        try:
            return self._members[type(value) is bool, value]
        except (KeyError, TypeError):
            raise ValidationError(f"expected {self.name}, got a {type(value).__name__} that is no member's value") from None

    def sample(self, name: str, number: int) -> E:
        members = list(self._kind)
        return members[(number - 1) % len(members)]


@total
class FlagType(ColumnType[F]):
    """A flag, or several of one `Flag` joined, as the number it is."""

    validator = schema.Number()
    mutable = False

    def __init__(self, kind: type[F]) -> None:
        """Raises ValidationError for a flag without members."""
        if not kind.__members__:
            raise ValidationError(f"the flag {kind.__name__} has no members")
        self._kind = kind

    @property
    def name(self) -> str:
        return self._kind.__name__

    def dump(self, value: F) -> Value:
        return real(value.value) if type(value) is self._kind else refuse(self.name, value)

    def load(self, value: Value) -> F:
        try:
            return self._kind(int(value)) if type(value) is int or value.is_integer() else refuse(self.name, value)
        except (AttributeError, ValueError, OverflowError):
            raise ValidationError(f"expected {self.name}, got a {type(value).__name__} that is no flag's value") from None

    def sample(self, name: str, number: int) -> F:
        members = list(self._kind)
        return members[(number - 1) % len(members)]


@total
class LiteralType(ColumnType[Any]):
    """One of the values of a `Literal`."""

    mutable = False
    _plain: ClassVar[Sequence[ColumnType[Any]]] = (StrType(), BoolType(), IntType(), FloatType())

    def __init__(self, members: Sequence[Any]) -> None:
        """Raises ValidationError for a member that is no scalar of Convex, for a member of an enum, for two that would be
        stored as one, and for none at all.
        """
        if not members:
            raise ValidationError("a Literal of nothing has no values")
        self.values: list[Value] = []
        for member in members:
            if isinstance(member, Enum):
                enum_name = type(member).__name__
                raise ValidationError(f"a Literal of members of {enum_name}; annotate it as {enum_name}, or list values")
            self.values.append(_literal(member, "a Literal of"))
        self.validator = _one_of(self.values)
        self.holds_none = None in self.values
        self._known = {(type(member), member): stored for member, stored in zip(members, self.values, strict=True)}
        self._members = {_key(stored): member for member, stored in zip(members, self.values, strict=True)}
        if len(self._members) < len(members):
            raise ValidationError("a Literal of an int and a float that are one number: which it was, Convex does not keep")
        self._first = members

    @property
    def name(self) -> str:
        return " or ".join(map(repr, self.values))

    def dump(self, value: Any) -> Value:
        try:
            return self._known[type(value), value]
        except (KeyError, TypeError):
            return self._dump_subclass(value)

    def _dump_subclass(self, value: Any) -> Value:
        """What stands for a text or a number in a column of these, such as a member of a StrEnum or a number of numpy's,
        does so in a Literal.
        """
        if type(value) not in (str, int, float, bool):
            for plain in self._plain:
                with contextlib.suppress(ValidationError):
                    meant = plain.dump(value)
                    if (type(meant), meant) in self._known:
                        return self._known[type(meant), meant]
        raise ValidationError(f"expected {self.name}, got another {type(value).__name__}")

    def load(self, value: Value) -> Any:
        try:
            return self._members[type(value) is bool, value]
        except (KeyError, TypeError):
            raise ValidationError(f"expected {self.name}, got another {type(value).__name__}") from None

    def sample(self, name: str, number: int) -> Any:
        return self._first[(number - 1) % len(self._first)]
