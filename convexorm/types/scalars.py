"""Scalars that Convex has itself: text, numbers, booleans, bytes, int64, nothing.

All but int64 are stored as what they are, by one mechanism: a value of exactly one Python class is stored and loaded as it
is, if it fits; what else means such a value (an instance of a subclass, one of numpy) becomes one first.
"""

from __future__ import annotations

import typing
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from convexorm import schema
from convexorm.errors import ValidationError
from convexorm.foreign import is_int64
from convexorm.late import need
from convexorm.types.codec import ColumnType, Quick, refuse, total
from convexorm.values import MAX_SAFE_INTEGER, Value, check_text

if TYPE_CHECKING:
    from convex import ConvexInt64

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

T = TypeVar("T")


@total
class _Scalar(ColumnType[T]):
    """Values of `kind`, stored as they are."""

    kind: ClassVar[type]
    mutable = False

    def dump(self, value: T) -> Value:
        return self._fitting(value if type(value) is self.kind else self._meant(value))

    def load(self, value: Value) -> T:
        return typing.cast("T", value) if type(value) is self.kind else self._loaded(value)

    def _meant(self, value: Any) -> Any:
        """The value of `kind` that one of another class means. ValidationError where it means none."""
        return refuse(self.name, value)

    def _fitting(self, value: Any) -> Any:
        """The value, if Convex can hold it. ValidationError for all others."""
        return value

    def _loaded(self, value: Value) -> T:
        """What a stored value of another class is loaded as. ValidationError where that is nothing."""
        return refuse(self.name, value)


@total
class StrType(_Scalar[str]):
    """str as a string; an instance of a subclass (a member of a StrEnum, numpy's text) as the plain text it is."""

    name = "str"
    validator = schema.String()
    kind = as_is = str
    quick = Quick("type({0}) is str and {0}.isascii()")

    def _meant(self, value: Any) -> str:
        return str.__str__(value) if isinstance(value, str) else refuse("str", value)

    def _fitting(self, value: str) -> str:
        if not value.isascii():
            check_text(value)
        return value

    def sample(self, name: str, number: int) -> str:
        return f"{name}-{number}"


@total
class BoolType(_Scalar[bool]):
    """bool as a boolean; numpy's as well."""

    name = "bool"
    validator = schema.Boolean()
    kind = as_is = bool
    quick = Quick("type({0}) is bool")

    def _meant(self, value: Any) -> bool:
        kind = type(value)
        numpys = kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_")
        return bool(value) if numpys else refuse("bool", value)

    def sample(self, name: str, number: int) -> bool:
        return False


@total
class BytesType(_Scalar[bytes]):
    """bytes as bytes. What can be changed in place, such as a bytearray, is none."""

    name = "bytes"
    validator = schema.Bytes()
    kind = as_is = bytes
    quick = Quick("type({0}) is bytes")

    def _meant(self, value: Any) -> bytes:
        return bytes(memoryview(value)) if isinstance(value, bytes) else refuse("bytes", value)

    def sample(self, name: str, number: int) -> bytes:
        return f"{name}-{number}".encode()


def integer(value: Any) -> int:
    """An int, or one of a subclass or of numpy, as a plain one."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        refuse("int", value)
    return int.__int__(value) if isinstance(value, int) else int(value)


def whole(value: Any) -> int:
    """The same, if a float64 holds it exactly."""
    number: int = value if type(value) is int else integer(value)
    if -MAX_SAFE_INTEGER <= number <= MAX_SAFE_INTEGER:
        return number
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
class FloatType(_Scalar[float]):
    """float as float64; ints and numpy's numbers count, as far as they are exact in one. NaN is refused."""

    name = "float"
    validator = schema.Number()
    kind = as_is = float
    quick = Quick("type({0}) is float and {0} == {0}")

    def _meant(self, value: Any) -> float:
        return real(value)

    def _fitting(self, value: float) -> float:
        return real(value)

    def _loaded(self, value: Value) -> float:
        return float(value) if type(value) is int else refuse("float", value)

    def sample(self, name: str, number: int) -> float:
        return float(number)


@total
class IntType(_Scalar[int]):
    """int as float64, which holds integers up to 2**53 exactly. `Int64` is for larger ones."""

    name = "int"
    validator = schema.Number()
    kind = as_is = int
    quick = Quick(f"type({{0}}) is int and -{MAX_SAFE_INTEGER} <= {{0}} <= {MAX_SAFE_INTEGER}")

    def _meant(self, value: Any) -> int:
        return integer(value)

    def _fitting(self, value: int) -> int:
        return whole(value)

    def _loaded(self, value: Value) -> int:
        if type(value) is not float:
            refuse("int", value)
        if not value.is_integer():
            raise ValidationError("expected int, got a float that is not whole")
        return int(value)

    def sample(self, name: str, number: int) -> int:
        return number


@total
class NoneType(_Scalar[None]):
    """None as null."""

    name = "None"
    validator = schema.Null()
    kind = type(None)
    holds_none = True

    def sample(self, name: str, number: int) -> None:
        return None


# -- int64 ---------------------------------------------------------------------------------------------------------


@total
class Int64Type(ColumnType[int]):
    """int as int64: a bigint in TypeScript."""

    name = "int"
    validator = schema.Int64()
    mutable = False

    def dump(self, value: int) -> Value:
        number = integer(value)
        if not -(2**63) <= number < 2**63:
            raise ValidationError("an integer beyond 64 bits does not fit an int64")
        need("convex")
        from convex import ConvexInt64

        return ConvexInt64(number)

    def load(self, value: Value) -> int:
        return int(value.value) if is_int64(value) else refuse("int64", value)

    def sample(self, name: str, number: int) -> int:
        return number


@total
class ConvexInt64Type(ColumnType["ConvexInt64"]):
    """The Convex client's own int64, as it is."""

    name = "ConvexInt64"
    validator = schema.Int64()

    def __init__(self, kind: type[ConvexInt64]) -> None:
        self.as_is = self._kind = kind

    def dump(self, value: ConvexInt64) -> Value:
        return self._copied(value)

    def load(self, value: Value) -> ConvexInt64:
        loaded: ConvexInt64 = self._copied(value)
        return loaded

    def _copied(self, value: Any) -> Any:
        return self._kind(int(value.value)) if type(value) is self._kind else refuse("ConvexInt64", value)

    def sample(self, name: str, number: int) -> ConvexInt64:
        return self._kind(number)
