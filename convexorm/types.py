"""How Python values become Convex values and back: one `ColumnType` for each kind of column.

`column_type(annotation)` finds the type for an annotation; `field(type=...)` or `Annotated[T, a_column_type]` names one.
A type dumps what the attribute holds and loads what the document holds. Whether the dumped value fits the table is for
`Table.check` to say, so types convert and do not validate, except where a conversion itself can go wrong.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from numbers import Integral, Real
from typing import Annotated, Any, ClassVar, Generic, TypeVar
from uuid import UUID

import attrs
import cattrs
import numpy as np

from convexorm import schema
from convexorm.errors import ConvexORMError, ValidationError
from convexorm.schema import AnyOf, AnyValue, Property, Validator
from convexorm.values import (
    MAX_DOCUMENT_NESTING,
    MAX_SAFE_INTEGER,
    MISSING,
    ConvexInt64,
    Missing,
    Value,
    canonical,
    check_value,
    is_number_array,
    same,
)

__all__ = [
    "CONVERTER",
    "JSON_MARK",
    "AnyType",
    "ColumnType",
    "Int64",
    "IsoDatetime",
    "IsoDatetimeType",
    "JsonText",
    "JsonTextType",
    "JsonType",
    "MarkedJsonType",
    "TimestampType",
    "column_type",
    "iso_timestamp",
    "json_text",
    "split_optional",
]

T = TypeVar("T")


class ColumnType(Generic[T]):
    """Converts the values of one column.

    `mutable` says that what `load` returns can be changed in place, `holds_none` that `None` is a value like any other,
    `as_is` that `load` returns objects of exactly this class as they are.
    """

    validator: Validator
    mutable: ClassVar[bool] = False
    json_text: ClassVar[bool] = False
    holds_none: ClassVar[bool] = False
    as_is: type | None = None

    def dump(self, value: T) -> Value:
        """The Convex value for an attribute's value. Raises ValidationError where there is none."""
        return value

    def load(self, value: Value) -> T:
        """The attribute's value for what a document holds; never the document's own mutable object."""
        return typing.cast(T, value)

    def equal(self, a: Value | Missing, b: Value | Missing) -> bool:
        """Whether two stored values mean the same."""
        return same(a, b) or (
            self.json_text and isinstance(a, str) and isinstance(b, str) and same(self.load(a), self.load(b))
        )


# -- scalars -------------------------------------------------------------------------------------------------------


class PlainType(ColumnType[T]):
    """str, bool, bytes: the same object on both sides."""

    def __init__(self, kind: type[T], validator: Validator) -> None:
        self.as_is = kind
        self.validator = validator


class FloatType(ColumnType[float]):
    """float as float64; ints and numpy numbers count."""

    validator = schema.Number()
    as_is = float

    def dump(self, value: float) -> Value:
        if type(value) is float or isinstance(value, bool) or not isinstance(value, Real):
            return value
        return value if type(value) is int else float(value)

    def load(self, value: Value) -> float:
        return float(value)


class IntType(ColumnType[int]):
    """int as float64, which holds integers up to 2**53 exactly. `Int64` is for larger ones."""

    validator = schema.Number()
    as_is = int

    def dump(self, value: int) -> Value:
        if type(value) is int or isinstance(value, bool):
            return value if type(value) is int else _refused("an integer", value)
        return int(value) if isinstance(value, Integral) else _refused("an integer", value)

    def load(self, value: Value) -> int:
        if type(value) is float and value.is_integer():
            return int(value)
        return value if type(value) is int else _refused("an integer", value)


class Int64Type(ColumnType[int]):
    """int as int64: a bigint in TypeScript."""

    validator = schema.Int64()

    def dump(self, value: int) -> Value:
        if isinstance(value, bool) or not isinstance(value, Integral):
            return _refused("an integer", value)
        if not -(2**63) <= value < 2**63:
            raise ValidationError("an integer beyond 64 bits does not fit an int64")
        return ConvexInt64(int(value))

    def load(self, value: Value) -> int:
        return int(value.value if isinstance(value, ConvexInt64) else value)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_TIME = "a time outside of the years 1 to 9999 of UTC"


def _utc(value: object) -> datetime:
    """An aware datetime in UTC. ValidationError for anything else."""
    if not isinstance(value, datetime):
        _refused("a datetime", value)
    elif value.utcoffset() is None:
        raise ValidationError("a naive datetime has no instant; give it a tzinfo, such as datetime.UTC")
    else:
        try:
            return value.astimezone(UTC)
        except OverflowError:
            raise ValidationError(_NO_TIME) from None
    raise AssertionError


class TimestampType(ColumnType[datetime]):
    """An aware datetime as milliseconds since the epoch in a float64, as Convex's `_creationTime`; loaded as UTC.

    Exact to the microsecond up to the year 2109, from where a float64 is coarser.
    """

    validator = schema.Number()

    def dump(self, value: datetime) -> Value:
        return ((_utc(value) - _EPOCH) // _MICROSECOND) / 1000

    def load(self, value: Value) -> datetime:
        try:
            return _EPOCH + timedelta(microseconds=round(value * 1000))
        except OverflowError:
            raise ValidationError(_NO_TIME) from None


def iso_timestamp(value: datetime) -> str:
    """JavaScript's `toISOString`: UTC, exactly three decimals (microseconds are cut off), `Z`."""
    return _utc(value).isoformat(timespec="milliseconds")[:-6] + "Z"


class IsoDatetimeType(ColumnType[datetime]):
    """An aware datetime as a JavaScript ISO string, whose text order is its time order; loaded as UTC."""

    validator = schema.String()

    def dump(self, value: datetime) -> Value:
        return iso_timestamp(value)

    def load(self, value: Value) -> datetime:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            if time.tzinfo is UTC:
                return time
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        return TimestampType().load(value)


class FloatListType(ColumnType[list[float]]):
    """A vector: a list of floats. A one-dimensional numpy array of float32 or float64 is stored as one too, unconverted."""

    validator = schema.Array(schema.Number())
    mutable = True

    def dump(self, value: list[float]) -> Value:
        if is_number_array(value):
            return value
        if not isinstance(value, Sequence) or isinstance(value, str):
            return _refused("a list of floats", value)
        return [FloatType().dump(number) for number in value]

    def load(self, value: Value) -> list[float]:
        return value.tolist() if is_number_array(value) else [float(number) for number in value]


# -- JSON ----------------------------------------------------------------------------------------------------------


def _copied(value: Value) -> Value:
    """A deep copy, in which a float64 that is an integer is a Python int again, as far as every integer is one."""
    kind = type(value)
    if kind is dict:
        return {name: _copied(item) for name, item in value.items()}
    if kind is list:
        return [_copied(item) for item in value]
    if kind is float and value.is_integer() and (value or str(value) == "0.0") and abs(value) <= MAX_SAFE_INTEGER:
        return int(value)
    return value


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return iso_timestamp(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    return _refused("JSON", value)


def json_text(value: object) -> str:
    """Compact JSON text. Aware datetimes become ISO strings, as in JavaScript, and enums their values.

    Raises ValidationError where JSON has no form.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_json)
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, ConvexORMError):
            raise
        raise ValidationError(f"not JSON: {error}") from None
    return text


class JsonTextType(ColumnType[Any]):
    """Any JSON value, always stored as JSON text: for keys and nesting that Convex refuses. Other text loads as itself."""

    mutable = True
    json_text = True
    holds_none = True

    def __init__(self, validator: Validator | None = None) -> None:
        self.validator = validator or schema.String()

    def dump(self, value: Any) -> Value:
        return json_text(value)

    def load(self, value: Value) -> Any:
        if not isinstance(value, str):
            return _copied(value)
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value


class AnyType(ColumnType[Any]):
    """Whatever Convex can hold: JSON-like objects, arrays and scalars, bytes, ConvexInt64."""

    mutable = True
    holds_none = True

    def __init__(self, validator: Validator | None = None) -> None:
        self.validator = validator or AnyValue()

    def dump(self, value: Any) -> Value:
        return _plain(value)

    def load(self, value: Value) -> Any:
        return _copied(value)


class JsonType(AnyType):
    """A JSON object as a Convex value where Convex can hold it, as JSON text where it cannot; both are read."""

    json_text = True

    def dump(self, value: Any) -> Value:
        plain = _plain(value)
        if isinstance(plain, dict):
            try:
                check_value(plain, nesting=MAX_DOCUMENT_NESTING - 1)
            except (ConvexORMError, RecursionError):
                return json_text(value)
        return plain

    def load(self, value: Value) -> Any:
        if isinstance(value, str):
            try:
                parsed = json.loads(value)
            except (ValueError, RecursionError):
                return value
            return parsed
        return _copied(value)


JSON_MARK = "\t\n\t "
"""What the JSON text of a `MarkedJsonType` begins with: white space, which every JSON parser passes over."""


class MarkedJsonType(JsonType):
    """Any JSON value, texts among them, as a Convex value where Convex can hold it, as marked JSON text where it cannot.

    Text is JSON text if and only if it begins with `JSON_MARK`; any other text is itself, so `'{"a":1}'` and `"null"` come
    back as the texts they are. A text that begins with the mark is stored as JSON text for that reason. A client that
    knows nothing of the mark sees plain values as they are, and in the rare rest text that its JSON parser takes as it is.
    """

    def dump(self, value: Any) -> Value:
        plain = _plain(value)
        if not (isinstance(plain, str) and plain.startswith(JSON_MARK)):
            try:
                check_value(plain, nesting=MAX_DOCUMENT_NESTING - 1)
            except (ConvexORMError, RecursionError):
                if isinstance(plain, str):
                    raise
            else:
                return plain
        return JSON_MARK + json_text(value)

    def load(self, value: Value) -> Any:
        if not isinstance(value, str):
            return _copied(value)
        return json.loads(value) if value.startswith(JSON_MARK) else value


def _plain(value: Any) -> Value:
    """Tuples as lists, mappings as dicts, datetimes as ISO strings, enums as their values, numpy numbers as numbers; the
    rest as it is.
    """
    try:
        return _plain_at_any_depth(value)
    except RecursionError:
        raise ValidationError("nested too deeply, or in itself") from None


def _plain_at_any_depth(value: Any) -> Value:
    kind = type(value)
    if kind is str or kind is float or kind is int or kind is bool or value is None or kind is bytes:
        return value
    if kind is dict:
        return {name: _plain_at_any_depth(item) for name, item in value.items()}
    if kind is list or kind is tuple:
        return [_plain_at_any_depth(item) for item in value]
    if isinstance(value, datetime):
        return iso_timestamp(value)
    if isinstance(value, Enum) and value is not MISSING:
        return _plain_at_any_depth(value.value)
    if isinstance(value, Mapping):
        return {name: _plain_at_any_depth(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    return value


# -- structures ----------------------------------------------------------------------------------------------------


class _Converter(cattrs.Converter):
    """A converter to which an enum that is a str or an int too is an enum. cattrs' own goes by the other base."""

    def get_unstructure_hook(self, type: Any, cache_result: bool = True) -> Any:
        return _value_of if _is_enum(type) else super().get_unstructure_hook(type, cache_result)

    def get_structure_hook(self, type: Any, cache_result: bool = True) -> Any:
        return _member_of if _is_enum(type) else super().get_structure_hook(type, cache_result)


def _converter() -> cattrs.Converter:
    converter = _Converter(
        detailed_validation=False,
        unstruct_collection_overrides={set: _ordered, frozenset: _ordered, tuple: list},
    )
    scalars: dict[type, ColumnType[Any]] = {datetime: TimestampType(), int: IntType(), float: FloatType()}
    for python, column in scalars.items():
        converter.register_unstructure_hook(python, column.dump)
        converter.register_structure_hook(python, partial(_structured, column))
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_unstructure_hook(UUID, str)
    converter.register_structure_hook(UUID, lambda value, _: UUID(value))
    converter.register_structure_hook(bytes, lambda value, _: value)
    converter.register_unstructure_hook(bytes, lambda value: value)
    return converter


def _ordered(items: Iterable[Value]) -> list[Value]:
    """The members of a set, in Convex's order: the same set is always the same array."""
    return sorted(items, key=canonical)


def _is_literal(annotation: Any) -> bool:
    return typing.get_origin(annotation) is typing.Literal


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def _value_of(member: Enum) -> Value:
    return member.value


def _member_of(value: Value, enum: type[Enum]) -> Enum:
    return enum(value)


def _literal(value: Value, annotation: Any) -> Any:
    """The member that is stored as `value`: a float64 may stand for an int."""
    for member in typing.get_args(annotation):
        if member == value and isinstance(member, bool) == isinstance(value, bool):
            return member
    return _refused(f"one of {typing.get_args(annotation)}", value)


def _structured(column: ColumnType[Any], value: Value, _: object) -> Any:
    return column.load(value)


CONVERTER = _converter()
"""The cattrs converter for structured columns. Register hooks here for types of your own, before declaring models."""


class StructuredType(ColumnType[T]):
    """Enums, literals, collections, dataclasses and attrs classes, through hooks compiled once by cattrs."""

    mutable = True

    def __init__(self, annotation: Any, validator: Validator) -> None:
        self.validator = validator
        self._annotation = annotation
        try:
            self._unstructure = CONVERTER.get_unstructure_hook(annotation)
            self._structure = CONVERTER.get_structure_hook(annotation)
        except cattrs.errors.StructureHandlerNotFoundError:
            raise _no_type_for(annotation) from None

    def dump(self, value: T) -> Value:
        try:
            return self._unstructure(value)
        except ConvexORMError:
            raise
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            raise ValidationError(f"expected {self._annotation}, got {type(value).__name__}") from error

    def load(self, value: Value) -> T:
        try:
            return typing.cast(T, self._structure(value, self._annotation))
        except ConvexORMError:
            raise
        except Exception as error:
            raise ValidationError(f"stored value is no {self._annotation}") from error


def _refused(expected: str, value: object) -> Any:
    raise ValidationError(f"expected {expected}, got {type(value).__name__}")


# -- from annotation to type ---------------------------------------------------------------------------------------

_SCALARS: dict[Any, ColumnType[Any]] = {
    str: PlainType(str, schema.String()),
    bool: PlainType(bool, schema.Boolean()),
    bytes: PlainType(bytes, schema.Bytes()),
    float: FloatType(),
    int: IntType(),
    datetime: TimestampType(),
    ConvexInt64: PlainType(ConvexInt64, schema.Int64()),
    Any: AnyType(),
    object: AnyType(),
    dict: AnyType(schema.Record(AnyValue())),
    list: AnyType(schema.Array(AnyValue())),
    list[float]: FloatListType(),
}

_LISTS = (list, set, frozenset, tuple)


def split_optional(annotation: Any) -> tuple[Any, bool]:
    """The annotation without `None`, and whether `None` was in it."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = typing.get_args(annotation)
        rest = tuple(member for member in members if member is not type(None))
        if len(rest) < len(members):
            return typing.Union[rest], True  # noqa: UP007  (rest is only known here)
    return annotation, False


def column_type(annotation: Any) -> ColumnType[Any]:
    """The type for an annotation without `None`. Raises TypeError for one that Convex has no form for."""
    if typing.get_origin(annotation) is Annotated:
        inner, *extras = typing.get_args(annotation)
        return next((extra for extra in extras if isinstance(extra, ColumnType)), None) or column_type(inner)
    scalar = _SCALARS.get(annotation) if isinstance(annotation, typing.Hashable) else None
    if scalar is not None:
        return scalar
    validator = _validator(annotation)
    if _untyped(validator):
        return AnyType(validator)
    return StructuredType(annotation, validator)


def _untyped(validator: Validator) -> bool:
    """Whether loading needs no more than a copy: JSON-like containers of anything."""
    return (isinstance(validator, schema.Record) and isinstance(validator.values, AnyValue)) or (
        isinstance(validator, schema.Array) and isinstance(validator.items, AnyValue)
    )


def _validator(annotation: Any) -> Validator:
    annotation, optional = split_optional(annotation)
    if optional:
        return AnyOf.of(_validator(annotation), schema.Null())
    if typing.get_origin(annotation) is Annotated or annotation in _SCALARS:
        return column_type(annotation).validator
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return AnyOf.of(*map(_validator, arguments))
    if origin is typing.Literal:
        return AnyOf.of(*map(schema.Literal, arguments))
    if origin in _LISTS:
        items = [argument for argument in arguments if argument is not Ellipsis]
        return schema.Array(AnyOf.of(*map(_validator, items)))
    if origin in (dict, Mapping) and arguments[0] is str:
        return schema.Record(_validator(arguments[1]))
    if annotation is UUID:
        return schema.String()
    if isinstance(annotation, type):
        if issubclass(annotation, Enum):
            return AnyOf.of(*(schema.Literal(member.value) for member in annotation))
        if typing.is_typeddict(annotation):
            return schema.Record(AnyValue())
        if attrs.has(annotation):
            attrs.resolve_types(annotation)
            return _object({attribute.name: attribute.type for attribute in attrs.fields(annotation)})
        if dataclasses.is_dataclass(annotation):
            hints = typing.get_type_hints(annotation, include_extras=True)
            return _object({field.name: hints[field.name] for field in dataclasses.fields(annotation)})
    raise _no_type_for(annotation)


def _no_type_for(annotation: Any) -> TypeError:
    return TypeError(f"no Convex type for {annotation!r}; give the column one with field(type=...)")


def _object(members: Mapping[str, Any]) -> Validator:
    return schema.Object({name: Property(_validator(annotation)) for name, annotation in members.items()})


Int64 = Annotated[int, Int64Type()]
"""An int stored as int64: `Mapped[Int64]`."""
IsoDatetime = Annotated[datetime, IsoDatetimeType()]
"""An aware datetime stored as a JavaScript ISO string: `Mapped[IsoDatetime]`."""
JsonText = Annotated[Any, JsonTextType()]
"""Any JSON value stored as JSON text: `Mapped[JsonText]`."""
