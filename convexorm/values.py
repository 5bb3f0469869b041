"""The Convex value rules: which Python objects are Convex values, their total order, size and JSON.

A Convex value in Python is `None`, `bool`, `float` or `int` (both are Convex's float64), `ConvexInt64`, `str`, `bytes`, a
`list` or a `dict` with string keys. A one-dimensional numpy array of float32 or float64 stands for a list of numbers.
`MISSING` is a field that is not there: Convex's *undefined*, distinct from `None`. Limits are those of the Convex backend;
each constant names its own.
"""

from __future__ import annotations

import json
import math
import operator
import struct
from collections.abc import Callable, Mapping
from enum import Enum
from hashlib import sha256
from numbers import Real
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from convexorm.errors import LimitExceeded, ValidationError
from convexorm.foreign import is_array, is_int64
from convexorm.late import need

if TYPE_CHECKING:
    from convex import ConvexInt64

__all__ = [
    "MAX_ARRAY_LENGTH",
    "MAX_DOCUMENT_NESTING",
    "MAX_DOCUMENT_SIZE",
    "MAX_OBJECT_FIELDS",
    "MISSING",
    "ConvexInt64",
    "Missing",
    "Value",
    "canonical",
    "check_field_name",
    "check_text",
    "check_value",
    "comparable",
    "digest",
    "document_size",
    "dumps",
    "dumps_json",
    "hashable",
    "is_finite",
    "is_number_array",
    "is_plain_text",
    "is_whole",
    "loads",
    "loads_printed",
    "owned",
    "reach",
    "same",
    "size_of",
]

Value: TypeAlias = Any
"""A Convex value, as this module describes it; Python has no practical recursive type for it."""


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING

MAX_DOCUMENT_SIZE = 1 << 20
"""Bytes of one document, `_id` and `_creationTime` included (backend: MAX_USER_SIZE)."""
MAX_DOCUMENT_NESTING = 16
"""Levels of objects and arrays in a document, the document itself being the first (backend: MAX_DOCUMENT_NESTING)."""
MAX_OBJECT_FIELDS = 1_024
"""Fields of one object."""
MAX_ARRAY_LENGTH = 8_192
"""Elements of one array, in documents, arguments and results."""
MAX_SAFE_INTEGER = 2**53
"""The largest magnitude up to which every integer is a float64."""
_SYSTEM_FIELDS_SIZE = 38 + 23
"""What `_id` and `_creationTime` add to a document that does not carry them yet (npm convex: getDocumentSize)."""


# -- total order ---------------------------------------------------------------------------------------------------


def hashable(value: Value) -> str | bytes:
    """A value as a dictionary takes it: two are equal if the values are the same."""
    return value if type(value) is str else canonical(value)


def canonical(value: Value | Missing) -> bytes:
    """Convex's order-preserving encoding: comparing the bytes compares the values. `docs/wire.md` has the table.

    Raises ValidationError for an object that is no Convex value.
    """
    if type(value) is str and value.isascii() and "\0" not in value:  # the commonest
        return f"\x10{value}\0".encode()
    encoder = _CANONICAL.get(type(value))
    if encoder is not None:
        return encoder(value)
    if is_array(value):
        return _canonical_list(value.tolist())
    if is_int64(value):
        return _canonical_int64(value)
    raise ValidationError(f"{type(value).__name__} is not a Convex value")


def comparable(value: Value | Missing) -> bytes:
    """`canonical`, also of what JSON text may hold and Convex not: a lone surrogate has its place among the code points."""
    try:
        return canonical(value)
    except ValidationError:
        return _comparable(value)


def _comparable(value: Any) -> bytes:
    if type(value) is str:
        return b"\x10" + _escaped(value.encode(errors="surrogatepass"))
    if type(value) is list:
        return b"\x12" + b"".join(map(_comparable, value)) + b"\0"
    if type(value) is dict:
        named = sorted(
            ((name.encode(errors="surrogatepass"), item) for name, item in value.items()), key=operator.itemgetter(0)
        )
        return b"\x15" + b"".join(_escaped(name) + _comparable(item) for name, item in named) + b"\0"
    return canonical(value)


def digest(value: Value | Missing) -> str:
    """The SHA-256 of the canonical form, in lower-case hex."""
    return sha256(canonical(value)).hexdigest()


def _escaped(data: bytes) -> bytes:
    return (data.replace(b"\0", b"\0\xff") if b"\0" in data else data) + b"\0"


def _canonical_str(value: str) -> bytes:
    try:
        return f"\x10{value}\0".encode() if "\0" not in value else b"\x10" + _escaped(value.encode())
    except UnicodeEncodeError:
        raise ValidationError("a string with a lone surrogate cannot be stored") from None


def _canonical_float(value: float) -> bytes:
    (bits,) = struct.unpack(">Q", struct.pack(">d", value))
    return b"\x0d" + struct.pack(">Q", bits ^ 0xFFFFFFFFFFFFFFFF if bits >> 63 else bits | 1 << 63)


def _canonical_int(value: int) -> bytes:
    return _canonical_float(as_float(value))


def _canonical_int64(value: ConvexInt64) -> bytes:
    number = int(value.value)
    if number == 0:
        return b"\x08"
    width = next(w for w in (1, 2, 3, 4) if -(1 << (8 << w - 1) - 1) <= number < 1 << (8 << w - 1) - 1)
    return bytes([8 + width if number > 0 else 8 - width]) + number.to_bytes(1 << width - 1, "big", signed=True)


def _canonical_list(value: list[Value]) -> bytes:
    return b"\x12" + b"".join(map(canonical, value)) + b"\0"


def _canonical_dict(value: dict[str, Value]) -> bytes:
    parts = [b"\x15"]
    named = ((_canonical_str(name)[1:], item) for name, item in value.items())
    for name, item in sorted(named, key=operator.itemgetter(0)):
        parts += (name if name != b"\0" else b"\0\xff", canonical(item))
    parts.append(b"\0")
    return b"".join(parts)


_CANONICAL: dict[type, Callable[[Any], bytes]] = {
    Missing: lambda _: b"\x01",
    type(None): lambda _: b"\x03",
    float: _canonical_float,
    int: _canonical_int,
    bool: lambda value: b"\x0f" if value else b"\x0e",
    str: _canonical_str,
    bytes: lambda value: b"\x11" + _escaped(value),
    list: _canonical_list,
    dict: _canonical_dict,
}


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same Convex value: 1 is 1.0 but not True, -0.0 is not 0.0, NaN is NaN."""
    kind_a, kind_b = type(a), type(b)
    if kind_a is kind_b and kind_a in _PLAIN:
        return bool(a == b)
    if kind_a in _NUMBERS and kind_b in _NUMBERS:
        return bool(a == b and (a != 0 or math.copysign(1, a) == math.copysign(1, b))) or bool(a != a and b != b)
    if is_array(a) or is_array(b):
        return same(*(one.tolist() if is_array(one) else one for one in (a, b)))
    if kind_a is not kind_b:
        return False
    if kind_a is list:
        return len(a) == len(b) and all(map(same, a, b))
    if kind_a is dict:
        return a.keys() == b.keys() and all(same(item, b[name]) for name, item in a.items())
    if is_int64(a):
        return bool(a.value == b.value)
    return bool(a == b)


_NUMBERS = frozenset((int, float))
_PLAIN = frozenset((str, bool, bytes, type(None), Missing))


def reach(document: Mapping[str, Value], path: str) -> Value | Missing:
    """What a dotted field path reaches in a document."""
    value: Value | Missing = document
    for step in path.split("."):
        if not isinstance(value, dict) or step not in value:
            return MISSING
        value = value[step]
    return value


# -- what a value may be -------------------------------------------------------------------------------------------


def as_float(value: int) -> float:
    """An int as the float64 it is stored as; ValidationError where that would change it."""
    if -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return float(value)
    raise ValidationError("an integer beyond 2**53 does not fit a number (float64); use Int64 for it")


def is_whole(number: object) -> bool:
    """Whether it is an int from 0 that is exact in JavaScript, as what counts documents has to be."""
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < MAX_SAFE_INTEGER


def is_finite(value: object) -> bool:
    """Whether it is a number that a float can hold; a bool is none."""
    try:
        return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
    except OverflowError:
        return False


def check_value(value: Value, *, nesting: int = MAX_DOCUMENT_NESTING) -> None:
    """Raise ValidationError unless Convex can hold `value` in at most `nesting` levels of objects and arrays.

    NaN is refused: no column that stores numbers means it, and it does not survive JSON text.
    """
    kind = type(value)
    if kind is str:
        if not value.isascii():
            check_text(value)
    elif kind is float:
        if value != value:
            raise ValidationError("NaN cannot be stored as a number")
    elif kind is int:
        as_float(value)
    elif kind is list:
        if nesting < 1:
            raise ValidationError(f"nested deeper than {MAX_DOCUMENT_NESTING} levels")
        if len(value) > MAX_ARRAY_LENGTH:
            raise LimitExceeded("elements of an array", maximum=MAX_ARRAY_LENGTH, actual=len(value))
        for item in value:
            check_value(item, nesting=nesting - 1)
    elif kind is dict:
        if nesting < 1:
            raise ValidationError(f"nested deeper than {MAX_DOCUMENT_NESTING} levels")
        if len(value) > MAX_OBJECT_FIELDS:
            raise LimitExceeded("fields of an object", maximum=MAX_OBJECT_FIELDS, actual=len(value))
        for name, item in value.items():
            check_field_name(name)
            check_value(item, nesting=nesting - 1)
    elif is_array(value):
        _check_array(value)
    elif not is_int64(value) and (kind not in _CANONICAL or kind is Missing):
        raise ValidationError(f"{kind.__name__} is not a Convex value")


def is_number_array(value: object) -> bool:
    """Whether a value is a numpy array that stands for a list of numbers."""
    return is_array(value) and value.ndim == 1 and value.dtype.char in "fd"


def owned(value: Value) -> Value:
    """The value, which nobody else can change in place if it is an array."""
    return value.copy() if is_array(value) else value


def _check_array(value: Any) -> None:
    if not is_number_array(value):
        raise ValidationError("an array of numbers has one dimension of float32 or float64")
    if len(value) > MAX_ARRAY_LENGTH:
        raise LimitExceeded("elements of an array", maximum=MAX_ARRAY_LENGTH, actual=len(value))
    if (value != value).any():
        raise ValidationError("NaN cannot be stored as a number")


def check_text(value: str) -> None:
    """Raise ValidationError unless a text is Unicode: a lone surrogate has no UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError("a string with a lone surrogate cannot be stored") from None


def check_field_name(name: object) -> None:
    """Raise ValidationError unless `name` may name a field of a (nested) Convex object."""
    if not isinstance(name, str):
        raise ValidationError(f"an object's keys are strings, got {type(name).__name__}")
    if not name or not name.isascii() or not name.isprintable() or name[0] == "$" or len(name) > 1_024:
        raise ValidationError(
            f"object key {name[:80]!r}: keys are printable ASCII, not empty, at most 1,024 long and do not start with '$'"
        )
    if name == "__proto__":  # Convex's own JavaScript sets the prototype by it, and the value is lost
        raise ValidationError("object key '__proto__': JavaScript objects cannot hold it")


def size_of(value: Any) -> int:
    """The size in bytes that Convex bills and limits (npm convex: getConvexSize); of a lone surrogate, 3."""
    kind = type(value)
    if kind is str:
        return 2 + (len(value) if value.isascii() else len(value.encode(errors="surrogatepass")))
    if kind is bytes:
        return 2 + len(value)
    if kind is dict:
        size = 2 + len(value)
        for name, item in value.items():
            size += (len(name) if name.isascii() else len(name.encode())) + size_of(item)
        return size
    if kind is list:
        return 2 + sum(map(size_of, value))
    if is_array(value):
        return 2 + 9 * len(value)
    return 9 if is_int64(value) else _FIXED_SIZES[kind]


_FIXED_SIZES = {Missing: 0, type(None): 1, bool: 1, int: 9, float: 9}


def document_size(document: Mapping[str, Value]) -> int:
    """The size of a document that has no `_id` and `_creationTime` yet, those two included."""
    return size_of(dict(document)) + _SYSTEM_FIELDS_SIZE


# -- JSON ----------------------------------------------------------------------------------------------------------


def _default(value: object) -> object:
    if is_array(value):
        return value.tolist()
    if isinstance(value, bytes) or is_int64(value):
        return _to_json(value)
    raise TypeError(f"{type(value).__name__} is not a Convex value")


def _to_json(value: Value) -> Any:
    need("convex")
    from convex import convex_to_json

    return convex_to_json(value)


_plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_default).encode


def dumps(value: Value) -> str:
    """Convex's own JSON of a value (`convex_encoded_json`): `$integer`, `$bytes` and `$float` for what JSON lacks."""
    try:
        return _plain(value)
    except ValueError:  # NaN or an infinity somewhere inside
        return json.dumps(_to_json(_listed(value)), ensure_ascii=False, separators=(",", ":"))


dumps_json = msgspec.json.Encoder(enc_hook=_default).encode
"""The same in UTF-8, many times as fast, of what holds neither bytes nor an infinity: of these it makes other things."""


def _listed(value: Value) -> Value:
    """The value with lists in place of numpy arrays."""
    if type(value) is dict:
        return {name: _listed(item) for name, item in value.items()}
    if type(value) is list:
        return [_listed(item) for item in value]
    return value.tolist() if is_array(value) else value


def loads(text: str | bytes) -> Value:
    """The value of Convex's own JSON. Plain JSON (the common case) is parsed at C speed."""
    if ("$" in text if type(text) is str else b"$" in text) and not is_plain_text(text):
        return _from_json(text)
    try:
        return _parse(text)
    except msgspec.MsgspecError:  # a lone surrogate, a number beyond float64, or no JSON
        return json.loads(text)


def is_plain_text(text: str | bytes) -> bool:
    """Whether the JSON text says everything in JSON's own words: it holds neither bytes nor an int64 nor an infinity."""
    return ('"$' not in text) if isinstance(text, str) else (b'"$' not in text)


def loads_printed(text: str | bytes) -> Value:
    """The value of JSON that JavaScript printed: a number past 2**53 may stand there digit by digit, and is a float."""
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    if b'"$' in data:
        return _from_json(data)
    long = _LONG in data.translate(_SHAPE, b"-") or data.lstrip(b" \t\r\n-")[:16].isdigit()
    return json.loads(data, parse_int=_printed_int) if long else loads(data)


def _from_json(text: str | bytes) -> Value:
    need("convex")
    from convex import json_to_convex

    return json_to_convex(json.loads(text, parse_int=float))


_parse = msgspec.json.Decoder().decode
_SHAPE = bytes(ord("0" if chr(byte) in "0123456789" else ":" if chr(byte) in ":,[ \t\r\n" else " ") for byte in range(256))
_LONG = b":" + b"0" * 16
"""A number past 2**53, in text whose digits are all zeros, and whatever comes before a number a colon. Ids and other words
of many digits are none, since a quote comes before them.
"""


def _printed_int(digits: str) -> int | float:
    number = int(digits)
    return number if -MAX_SAFE_INTEGER <= number <= MAX_SAFE_INTEGER else float(digits)


def __getattr__(name: str) -> Any:
    """`ConvexInt64`, imported when it is first asked for."""
    if name == "ConvexInt64":
        need("convex")
        from convex import ConvexInt64

        return ConvexInt64
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
