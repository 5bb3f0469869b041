"""From what `schema.export()` and a function spec say of values to this library's validators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convexorm.errors import InvalidRequestError
from convexorm.schema import (
    AnyOf,
    AnyValue,
    Array,
    Boolean,
    Bytes,
    Id,
    Int64,
    Literal,
    Null,
    Number,
    Object,
    Property,
    Record,
    String,
    Validator,
)

__all__ = ["property_of", "validator_of"]

_SCALARS: Mapping[str, Validator] = {
    "any": AnyValue(),
    "bigint": Int64(),
    "boolean": Boolean(),
    "bytes": Bytes(),
    "null": Null(),
    "number": Number(),
    "string": String(),
}


def validator_of(told: Any, where: str) -> Validator:
    """The validator of its JSON. Raises InvalidRequestError, which says `where`, for a kind that is not known."""
    kind = told.get("type") if isinstance(told, dict) else None
    if isinstance(kind, str) and kind in _SCALARS:
        return _SCALARS[kind]
    try:
        match kind:
            case "id":
                return Id(told["tableName"])
            case "literal":
                return _literal(told["value"], where)
            case "array":
                return Array(validator_of(told["value"], f"{where}[]"))
            case "record":
                return Record(property_of(told["values"], f"{where}{{}}").validator)
            case "object":
                return Object({name: property_of(each, f"{where}.{name}") for name, each in told["value"].items()})
            case "union":
                return _union([validator_of(each, where) for each in told["value"]])
    except (KeyError, TypeError, AttributeError):
        raise InvalidRequestError(f"{where}: a validator of kind {kind!r} that is not understood") from None
    raise InvalidRequestError(f"{where}: a validator of the unknown kind {kind!r}")


def property_of(told: Any, where: str) -> Property:
    """The validator of a field of an object, and whether the field may be missing."""
    if not isinstance(told, dict) or "fieldType" not in told:
        raise InvalidRequestError(f"{where}: a field that is not understood")
    return Property(validator_of(told["fieldType"], where), told.get("optional") is True)


def _literal(value: Any, where: str) -> Validator:
    if isinstance(value, str | bool | int | float):
        return Literal(value)
    if value is None:
        return Null()
    return Int64()  # of a bigint Convex tells the digits in its own encoding; Python's Literal has no such values


def _union(members: list[Validator]) -> Validator:
    return AnyOf.of(*members) if members else AnyOf(())
