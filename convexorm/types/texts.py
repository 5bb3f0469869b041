"""What Convex has no type for, and is stored as text: UUIDs, decimals, paths."""

from __future__ import annotations

import contextlib
from decimal import Decimal, InvalidOperation
from numbers import Integral
from pathlib import PurePath
from typing import Any, Generic, TypeVar
from uuid import UUID

from convexorm import schema
from convexorm.errors import ValidationError
from convexorm.types.codec import ColumnType, refuse, total
from convexorm.values import Value, check_text

__all__ = ["DecimalType", "PathType", "UUIDType"]

P = TypeVar("P", bound=PurePath)


@total
class UUIDType(ColumnType[UUID]):
    """A UUID as its text in lower case with hyphens. The text of one is taken for it, in any form `UUID` reads."""

    name = "UUID"
    validator = schema.String()
    mutable = False

    def dump(self, value: UUID) -> Value:
        if isinstance(value, str):
            value = _uuid(value)
        return UUID.__str__(value) if isinstance(value, UUID) else refuse("UUID", value)

    def load(self, value: Value) -> UUID:
        return _uuid(value) if type(value) is str else refuse("UUID (a string)", value)

    def adopt(self, value: Any) -> Any:
        if type(value) is str:
            with contextlib.suppress(ValidationError):
                return _uuid(value)
        return value

    def sample(self, name: str, number: int) -> UUID:
        return UUID(int=number)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ValidationError("expected UUID, got a str that is none") from None


@total
class DecimalType(ColumnType[Decimal]):
    """A Decimal as its shortest text: 1.10 as "1.1", so that equal numbers are equal texts. Its order is not theirs."""

    name = "Decimal"
    validator = schema.String()
    mutable = False
    ordered = False

    def dump(self, value: Decimal) -> Value:
        if type(value) is not Decimal:
            if isinstance(value, bool) or not isinstance(value, Decimal | Integral):
                refuse("Decimal", value)
            value = Decimal(value) if isinstance(value, Decimal) else Decimal(int(value))
        if value.is_nan():
            raise ValidationError("NaN is no number")
        sign, digits, exponent = value.as_tuple()
        if not isinstance(exponent, int):
            return str(value)  # an infinity
        if not value:
            return "0"
        text = "".join(map(str, digits)).lstrip("0")
        shortest = text.rstrip("0")
        exponent += len(text) - len(shortest)
        return str(Decimal((sign, tuple(map(int, shortest)), exponent)))

    def load(self, value: Value) -> Decimal:
        if type(value) is not str:
            refuse("Decimal (a string)", value)
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise ValidationError("expected Decimal, got a str that is none") from None
        if number.is_nan():
            raise ValidationError("NaN is no number")
        return number

    def adopt(self, value: Any) -> Any:
        return Decimal(value) if type(value) is int else value

    def sample(self, name: str, number: int) -> Decimal:
        return Decimal(number)


@total
class PathType(ColumnType[P], Generic[P]):
    """A path of `pathlib` as its text. Its order goes by its parts."""

    validator = schema.String()
    mutable = False
    ordered = False

    def __init__(self, kind: type[P]) -> None:
        self._kind = kind
        self._own = type(kind())  # Path is PosixPath or WindowsPath, as the system has it

    @property
    def name(self) -> str:
        return self._kind.__name__

    def dump(self, value: P) -> Value:
        if type(value) is not self._own:
            refuse(self.name, value)
        text = str(value)
        check_text(text)
        return text

    def load(self, value: Value) -> P:
        return self._kind(value) if type(value) is str else refuse(f"{self.name} (a string)", value)

    def sample(self, name: str, number: int) -> P:
        return self._kind(f"{name}-{number}")
