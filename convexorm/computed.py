"""Values that are computed where a document is: `Account.coins + 1`, as data, and what they come to.

`convex/orm/compute.ts` comes to the same. What cannot be computed refuses the commit, naming field and reason and no value.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from convexorm.data import Data
from convexorm.errors import ValidationError
from convexorm.foreign import is_int64
from convexorm.values import MAX_ARRAY_LENGTH, MAX_SAFE_INTEGER, MISSING, Missing, Value, canonical, same

__all__ = ["Arithmetic", "Constant", "Extreme", "Listed", "Now", "Operand", "Stored", "computed"]


class Constant(Data, frozen=True):
    """A value that is given."""

    hidden = ("value",)
    value: Value


class Stored(Data, frozen=True):
    """What the document holds in a field; `default` where that is missing or null."""

    hidden = ("default",)
    field: str
    default: Value | Missing = MISSING


class Arithmetic(Data, frozen=True):
    """A number of two. If it is to be `whole`, one beyond 2**53 is refused, which a float64 would round."""

    op: Literal["add", "sub", "mul", "div"]
    left: Operand
    right: Operand
    whole: bool = False


class Listed(Data, frozen=True):
    """The array with a value at its end, or without all that are equal to it; a missing one is empty."""

    hidden = ("value",)
    op: Literal["append", "remove"]
    field: str
    value: Value


class Extreme(Data, frozen=True):
    """The least or greatest of two, in Convex's order; what is missing or null is left out."""

    op: Literal["least", "greatest"]
    left: Operand
    right: Operand


class Now(Data, frozen=True):
    """The deployment's time: milliseconds since the epoch, or a text as of ISO 8601."""

    form: Literal["milliseconds", "text"]


Operand: TypeAlias = Constant | Stored | Arithmetic | Listed | Extreme | Now


class _Uncomputable(Exception):
    """Why something has no value."""


def computed(fields: Mapping[str, Operand], document: Mapping[str, Value], now: float, table: str) -> dict[str, Any]:
    """What the fields are to hold, or MISSING, by what the document holds before. `now` is in seconds.

    Raises ValidationError with the field for what has no value.
    """
    found: dict[str, Any] = {}
    for name, operand in fields.items():
        try:
            found[name] = _value(operand, document, now)
        except _Uncomputable as error:
            raise ValidationError(f"cannot be computed: {error}", table=table, field=name) from None
    return found


def _value(operand: Operand, document: Mapping[str, Value], now: float) -> Value | Missing:
    return operand.value if type(operand) is Constant else _VALUES[type(operand)](operand, document, now)


def _stored(operand: Stored, document: Mapping[str, Value], now: float) -> Value | Missing:
    value = document.get(operand.field, MISSING)
    return operand.default if value is MISSING or value is None else value


def _arithmetic(operand: Arithmetic, document: Mapping[str, Value], now: float) -> Value:
    left: Any = _value(operand.left, document, now)
    right: Any = _value(operand.right, document, now)
    kinds = {type(left), type(right)}
    if not kinds <= _PLAIN and is_int64(left) and is_int64(right):
        if operand.op == "div":
            raise _Uncomputable("integers of 64 bits are not divided")
        number = _INTEGERS[operand.op](int(left.value), int(right.value))
        if not -(2**63) <= number < 2**63:
            raise _Uncomputable("it is beyond 64 bits")
        return type(left)(number)
    if not kinds <= _PLAIN:
        raise _Uncomputable("what is stored there is no number, or one of another kind")
    result = _FLOATS[operand.op](float(left), float(right))
    if not math.isfinite(result):
        raise _Uncomputable("it is no finite number")
    if operand.whole and abs(result) > MAX_SAFE_INTEGER:
        raise _Uncomputable("it is a whole number beyond 2**53")
    return result


_PLAIN = frozenset((int, float))
_INTEGERS: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
}
_FLOATS: dict[str, Callable[[float, float], float]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": lambda left, right: math.nan if right == 0 else left / right,
}


def _listed(operand: Listed, document: Mapping[str, Value], now: float) -> Value | Missing:
    held = document.get(operand.field, MISSING)
    if held is MISSING or held is None:
        return [operand.value] if operand.op == "append" else held
    if not isinstance(held, list):
        raise _Uncomputable("what is stored there is no array")
    if operand.op == "remove":
        return [one for one in held if not same(one, operand.value)]
    if len(held) >= MAX_ARRAY_LENGTH:
        raise _Uncomputable(f"an array holds at most {MAX_ARRAY_LENGTH:,} elements")
    return [*held, operand.value]


def _extreme(operand: Extreme, document: Mapping[str, Value], now: float) -> Value | Missing:
    left, right = _value(operand.left, document, now), _value(operand.right, document, now)
    if left is MISSING or left is None or right is MISSING or right is None:
        return right if left is MISSING or left is None else left
    is_more = canonical(left) > canonical(right)
    return left if is_more == (operand.op == "greatest") else right


def _now(operand: Now, document: Mapping[str, Value], now: float) -> Value:
    if operand.form == "milliseconds":
        return float(math.floor(now * 1000))
    at = datetime.fromtimestamp(math.floor(now * 1000) / 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


_VALUES: dict[type, Callable[[Any, Mapping[str, Value], float], Value | Missing]] = {
    Stored: _stored,
    Arithmetic: _arithmetic,
    Listed: _listed,
    Extreme: _extreme,
    Now: _now,
}
