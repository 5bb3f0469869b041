"""Scalars that Convex has itself: text, numbers, booleans, bytes, nothing."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from convexorm import schema
from convexorm.errors import ValidationError
from convexorm.types.codec import ColumnType, refuse, total
from convexorm.values import MAX_SAFE_INTEGER, ConvexInt64, Value, check_text

__all__ = [
    "BoolType",
    "BytesType",
    "ConvexInt64Type",
    "FloatType",
    "Int64Type",
    "IntType",
    "NoneType",
    "StrType",
]


@total
class StrType(ColumnType[str]):
    """str as a string; an instance of a subclass (a member of a StrEnum, numpy's text) as the plain text it is."""

    name = "str"
    validator = schema.String()
    mutable = False
    as_is = str

    def dump(self, value: str) -> Value:
        if type(value) is not str:
            if not isinstance(value, str):
                refuse("str", value)
            value = str.__str__(value)
        if not value.isascii():
            check_text(value)
        return value

    def load(self, value: Value) -> str:
        return value if type(value) is str else refuse("str", value)

    def sample(self, name: str, number: int) -> str:
        return f"{name}-{number}"


@total
class BoolType(ColumnType[bool]):
    """bool as a boolean; numpy's as well."""

    name = "bool"
    validator = schema.Boolean()
    mutable = False
    as_is = bool

    def dump(self, value: bool) -> Value:
        if type(value) is bool:
            return value
        return bool(value) if _is_numpys_bool(value) else refuse("bool", value)

    def load(self, value: Value) -> bool:
        return value if type(value) is bool else refuse("bool", value)

    def sample(self, name: str, number: int) -> bool:
        return False


def _is_numpys_bool(value: object) -> bool:
    kind = type(value)
    return kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")


@total
class BytesType(ColumnType[bytes]):
    """bytes as bytes. What can be changed in place, such as a bytearray, is none."""

    name = "bytes"
    validator = schema.Bytes()
    mutable = False
    as_is = bytes

    def dump(self, value: bytes) -> Value:
        if type(value) is bytes:
            return value
        return bytes(memoryview(value)) if isinstance(value, bytes) else refuse("bytes", value)

    def load(self, value: Value) -> bytes:
        return value if type(value) is bytes else refuse("bytes", value)

    def sample(self, name: str, number: int) -> bytes:
        return f"{name}-{number}".encode()


def whole(value: Any) -> int:
    """An int that a float64 holds exactly; of a subclass, or numpy's, as a plain one."""
    if type(value) is not int:
        if isinstance(value, bool) or not isinstance(value, Integral):
            refuse("int", value)
        value = int(value)
    if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return value  # type: ignore[no-any-return]
    raise ValidationError("an integer beyond 2**53 does not fit a number (float64); use Int64 for it")


def unrounded(value: Any) -> float:
    """A number of whatever type as the float it is equal to. ValidationError if there is none."""
    number = float(value)
    if number != value and value == value:
        raise ValidationError(f"this {type(value).__name__} is no float64: it would be rounded")
    return number


def real(value: Any) -> float:
    """A number that is a float64, exactly; ints stay ints."""
    if type(value) is not float:
        if isinstance(value, bool) or not isinstance(value, Real):
            refuse("float", value)
        if isinstance(value, Integral):
            return whole(value)
        value = unrounded(value)
    if value != value:
        raise ValidationError("NaN cannot be stored as a number")
    return value  # type: ignore[no-any-return]


@total
class FloatType(ColumnType[float]):
    """float as float64; ints and numpy's numbers count, as far as they are exact in one. NaN is refused."""

    name = "float"
    validator = schema.Number()
    mutable = False
    as_is = float

    def dump(self, value: float) -> Value:
        return value if type(value) is float and value == value else real(value)

    def load(self, value: Value) -> float:
        kind = type(value)
        if kind is float:
            return value  # type: ignore[no-any-return]
        return float(value) if kind is int else refuse("float", value)

    def sample(self, name: str, number: int) -> float:
        return float(number)


@total
class IntType(ColumnType[int]):
    """int as float64, which holds integers up to 2**53 exactly. `Int64` is for larger ones."""

    name = "int"
    validator = schema.Number()
    mutable = False
    as_is = int

    def dump(self, value: int) -> Value:
        return whole(value)

    def load(self, value: Value) -> int:
        kind = type(value)
        if kind is int:
            return value  # type: ignore[no-any-return]
        if kind is float:
            return int(value) if value.is_integer() else _refuse_fraction()
        return refuse("int", value)

    def sample(self, name: str, number: int) -> int:
        return number


def _refuse_fraction() -> int:
    raise ValidationError("expected int, got a float that is not whole")


@total
class Int64Type(ColumnType[int]):
    """int as int64: a bigint in TypeScript."""

    name = "int"
    validator = schema.Int64()
    mutable = False

    def dump(self, value: int) -> Value:
        if isinstance(value, bool) or not isinstance(value, Integral):
            refuse("int", value)
        if not -(2**63) <= value < 2**63:
            raise ValidationError("an integer beyond 64 bits does not fit an int64")
        return ConvexInt64(int(value))

    def load(self, value: Value) -> int:
        return int(value.value) if type(value) is ConvexInt64 else refuse("int64", value)

    def sample(self, name: str, number: int) -> int:
        return number


@total
class ConvexInt64Type(ColumnType[ConvexInt64]):
    """The Convex client's own int64, as it is."""

    name = "ConvexInt64"
    validator = schema.Int64()
    as_is = ConvexInt64

    def dump(self, value: ConvexInt64) -> Value:
        return ConvexInt64(int(value.value)) if type(value) is ConvexInt64 else refuse("ConvexInt64", value)

    def load(self, value: Value) -> ConvexInt64:
        return ConvexInt64(int(value.value)) if type(value) is ConvexInt64 else refuse("ConvexInt64", value)

    def sample(self, name: str, number: int) -> ConvexInt64:
        return ConvexInt64(number)


@total
class NoneType(ColumnType[None]):
    """None as null."""

    name = "None"
    validator = schema.Null()
    mutable = False
    holds_none = True

    def dump(self, value: None) -> Value:
        return None if value is None else refuse("None", value)

    def load(self, value: Value) -> None:
        return None if value is None else refuse("None", value)

    def sample(self, name: str, number: int) -> None:
        return None
