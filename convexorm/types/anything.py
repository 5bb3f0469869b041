"""Values without a declared type: what Convex holds as it is, and JSON that may have to be text."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from numbers import Integral, Real
from typing import Any, NoReturn

from convexorm import schema
from convexorm.errors import ConvexORMError, LimitExceeded, ValidationError
from convexorm.foreign import is_int64
from convexorm.schema import AnyValue, Validator
from convexorm.types.codec import ColumnType, key_step, refuse, total, within
from convexorm.types.scalars import real, unrounded, whole
from convexorm.types.times import iso_timestamp
from convexorm.values import (
    MAX_DOCUMENT_NESTING,
    MAX_SAFE_INTEGER,
    MISSING,
    Value,
    check_field_name,
    check_text,
    check_value,
    is_number_array,
)

__all__ = ["JSON_MARK", "AnyType", "JsonTextType", "JsonType", "MarkedJsonType", "json_text", "json_value"]

_AS_THEY_ARE = frozenset((bool, type(None), bytes))
_DEEP = "nested too deeply, or in itself"


# -- any Convex value ----------------------------------------------------------------------------------------------


def _strict(value: Any) -> Value:
    """A value that loads again as what it is, copied; ValidationError for anything else."""
    kind = type(value)
    if kind is str:
        if not value.isascii():
            check_text(value)
        return value
    if kind in _AS_THEY_ARE:
        return value
    if kind is int:
        return whole(value)
    if kind is float:
        return real(value)
    if kind is list:
        items: list[Value] = []
        try:
            items.extend(map(_strict, value))
        except ValidationError as error:
            raise within(f"[{len(items)}]", error) from None
        return items
    if kind is dict or isinstance(value, Mapping):
        members: dict[str, Value] = {}
        for key, item in value.items():
            name = checked_key(key)
            try:
                members[name] = _strict(item)
            except ValidationError as error:
                raise within(key_step(name), error) from None
        if len(members) != len(value):
            refuse_alike()
        return members
    return _strict_scalar(value)


def _strict_scalar(value: Any) -> Value:
    if isinstance(value, str) and not (isinstance(value, Enum) and str.__str__(value) != value.value):
        return _strict(str.__str__(value))
    if isinstance(value, Enum) and not isinstance(value, int | float):
        raise ValidationError(f"expected a value of JSON or bytes, got {type(value).__name__}; store its value")
    if is_int64(value) or value is MISSING:
        return value
    if isinstance(value, Real):
        return real(value)
    if is_number_array(value):
        check_value(value)
        return value.copy()
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    if isinstance(value, bytes):
        return bytes(memoryview(value))
    if isinstance(value, datetime):
        raise ValidationError("a datetime loses its type here; declare what holds it, or store its isoformat()")
    if isinstance(value, tuple | set | frozenset):
        raise ValidationError(f"a {type(value).__name__} loses its type here; declare what holds it, or store a list")
    return refuse("a value of JSON or bytes", value)


_NAMES: set[str] = set()
_MOST_NAMES = 10_000


def checked_key(key: object) -> str:
    """A key of an object, as a plain str. ValidationError for what Convex does not take."""
    if type(key) is str and key in _NAMES:
        return key
    if not isinstance(key, str):
        raise ValidationError(f"an object's keys are str, got {type(key).__name__}")
    plain = str.__str__(key)
    check_field_name(plain)
    if len(_NAMES) < _MOST_NAMES and len(plain) < 64:
        _NAMES.add(plain)
    return plain


def refuse_alike() -> NoReturn:
    """Raise the ValidationError of keys that differ, as those of a subclass of str may, and are one text."""
    raise ValidationError("two of its keys are the same text, so one of their values would be lost")


def copied(value: Value) -> Value:
    """A deep copy: a float64 that is whole is an int, as far as every int is a float64, and the keys of objects are in
    Convex's order.
    """
    kind = type(value)
    if kind is dict:
        return {name: copied(value[name]) for name in sorted(value)}
    if kind is list:
        return [copied(item) for item in value]
    if kind is float:
        integer = value.is_integer() and (value or str(value) == "0.0") and abs(value) <= MAX_SAFE_INTEGER
        return int(value) if integer else value
    return copied(value.tolist()) if is_number_array(value) else value


@total
class AnyType(ColumnType[Any]):
    """Whatever Convex can hold and Python loads as it was: JSON-like objects, lists and scalars, bytes, ConvexInt64.

    A float64 that is whole loads as an int, wherever it stands. What would lose its type, such as a datetime, a tuple or a
    member of an enum, is refused.
    """

    name = "Any"
    holds_none = True

    def __init__(self, validator: Validator | None = None) -> None:
        self.validator = validator or AnyValue()

    def dump(self, value: Any) -> Value:
        try:
            return _strict(value)
        except RecursionError:
            raise ValidationError(_DEEP) from None

    def load(self, value: Value) -> Any:
        return copied(value)

    def sample(self, name: str, number: int) -> Any:
        return {}


# -- JSON ----------------------------------------------------------------------------------------------------------


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return iso_timestamp(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else unrounded(value)
    return refuse("JSON", value)


_LEAVES = frozenset((str, int, float, bool, type(None)))


def _check_keys(value: Any) -> None:
    """Raise ValidationError for a key that is no str: JSON would make text of it, and two keys could become one."""
    if isinstance(value, Mapping):
        _check_own_keys(value)
        steps: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        steps = enumerate(value)
    else:
        return
    for step, item in steps:
        if type(item) not in _LEAVES:
            try:
                _check_keys(item)
            except ValidationError as error:
                raise within(key_step(step), error) from None


def _check_own_keys(value: Mapping[Any, Any]) -> None:
    for key in value:
        if type(key) is not str:
            if not isinstance(key, str):
                raise ValidationError(f"the keys of JSON are str, got {type(key).__name__}")
            if len(dict.fromkeys(map(str.__str__, value))) != len(value):
                refuse_alike()


def json_text(value: object) -> str:
    """Compact JSON text. Aware datetimes become ISO strings, as in JavaScript, and enums their values.

    Raises ValidationError where JSON has no form, and for keys that are no str.
    """
    try:
        if type(value) not in _LEAVES:
            _check_keys(value)
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_json)
    except ConvexORMError:
        raise
    except RecursionError:
        raise ValidationError(_DEEP) from None
    except (ValueError, TypeError) as error:
        raise ValidationError(f"not JSON: {error}") from None


@total
class JsonTextType(ColumnType[Any]):
    """Any JSON value, always stored as JSON text: for keys and nesting that Convex refuses. Other text loads as itself.

    It holds what JSON holds: a tuple comes back as a list, a datetime as ISO text.
    """

    name = "JSON"
    json_text = True
    holds_none = True
    ordered = False

    def __init__(self, validator: Validator | None = None) -> None:
        self.validator = validator or schema.String()

    def dump(self, value: Any) -> Value:
        text = json_text(value)
        if not text.isascii():
            check_text(text)
        return text

    def load(self, value: Value) -> Any:
        return json_value(value) if isinstance(value, str) else copied(value)

    def sample(self, name: str, number: int) -> Any:
        return {}


def _plain(value: Any) -> Value:
    """Tuples as lists, mappings as dicts, datetimes as ISO strings, enums as their values, numpy numbers as numbers; the
    rest as it is.
    """
    try:
        return _plain_at_any_depth(value)
    except RecursionError:
        raise ValidationError(_DEEP) from None


def _plain_at_any_depth(value: Any) -> Value:
    kind = type(value)
    if kind is str or kind is float or kind is int or kind is bool or value is None or kind is bytes:
        return value
    if kind is dict or isinstance(value, Mapping):
        _check_own_keys(value)
        return {str.__str__(name): _plain_at_any_depth(item) for name, item in value.items()}
    if kind is list or kind is tuple:
        return [_plain_at_any_depth(item) for item in value]
    if isinstance(value, datetime):
        return iso_timestamp(value)
    if isinstance(value, Enum) and value is not MISSING:
        return _plain_at_any_depth(value.value)
    if is_number_array(value):
        return value.copy()
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else unrounded(value)
    return value


def _holds(value: Value) -> bool:
    """Whether Convex can hold a value inside a document."""
    try:
        check_value(value, nesting=MAX_DOCUMENT_NESTING - 1)
    except (ValidationError, LimitExceeded, RecursionError):
        return False
    return True


def json_value(text: str) -> Any:
    """What JSON text says, and text that is none. ValidationError for what has been stored from a place where the stack was
    less deep than where it is loaded: taken for text, it would be another value.
    """
    try:
        return json.loads(text)
    except RecursionError:
        if _depth(text) <= sys.getrecursionlimit():
            raise ValidationError("nested too deeply to be loaded from as deep a stack as this one") from None
        return text
    except ValueError:
        return text


_OF_DEPTH = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def _depth(text: str) -> int:
    """How deeply the brackets of JSON text are nested."""
    depth = deepest = 0
    for bracket in _OF_DEPTH.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(bracket[0], 0)
        deepest = max(deepest, depth)
    return deepest


@total
class JsonType(AnyType):
    """A JSON object as a Convex value where Convex can hold it, as JSON text where it cannot; both are read.

    It holds what JSON holds: a tuple comes back as a list, a datetime as ISO text.
    """

    name = "JSON"
    json_text = True

    def dump(self, value: Any) -> Value:
        plain = _plain(value)
        if _holds(plain):
            return plain
        if isinstance(plain, dict):
            return json_text(value)
        with contextlib.suppress(LimitExceeded):  # for the table to refuse, which knows its name
            check_value(plain, nesting=MAX_DOCUMENT_NESTING - 1)
        return plain

    def load(self, value: Value) -> Any:
        return json_value(value) if isinstance(value, str) else copied(value)


JSON_MARK = "\t\n\t "
"""What the JSON text of a `MarkedJsonType` begins with: white space, which every JSON parser passes over."""


@total
class MarkedJsonType(JsonType):
    """Any JSON value, texts among them, as a Convex value where Convex can hold it, as marked JSON text where it cannot.

    Text is JSON text if and only if it begins with `JSON_MARK`; any other text is itself, so `'{"a":1}'` and `"null"` come
    back as the texts they are. A text that begins with the mark is stored as JSON text for that reason. A client that
    knows nothing of the mark sees plain values as they are, and in the rare rest text that its JSON parser takes as it is.
    """

    def dump(self, value: Any) -> Value:
        plain = _plain(value)
        if not (isinstance(plain, str) and plain.startswith(JSON_MARK)):
            if _holds(plain):
                return plain
            if isinstance(plain, str):
                check_text(plain)
        return JSON_MARK + json_text(value)

    def load(self, value: Value) -> Any:
        if not isinstance(value, str):
            return copied(value)
        return json_value(value) if value.startswith(JSON_MARK) else value
