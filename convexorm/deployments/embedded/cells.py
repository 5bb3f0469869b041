"""What the cells of a row hold for a document, by functions made for its table: the body as JSON, and keys of indexes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from convexorm.compiling import function
from convexorm.deployments.embedded.keys import document_key
from convexorm.requests import Document
from convexorm.schema import AnyOf, Array, Boolean, Id, Literal, Null, Number, Object, Record, String, Table, Validator
from convexorm.values import MISSING, Value, canonical, dumps, dumps_json

__all__ = ["body_maker", "keys_maker"]


def keys_maker(forms: Sequence[tuple[str, ...]]) -> Callable[[Document], tuple[bytes, ...]]:
    """The function from a document to its keys over lists of fields: each field is encoded once, however many name it."""
    slow = [document_key(fields) for fields in forms]
    known: dict[str, Any] = {"MISSING": MISSING, "canonical": canonical, "slow": slow}
    parts: dict[str, str] = {}
    lines = []
    for fields in forms:
        for field in fields:
            if "." not in field and field not in parts:
                part = parts[field] = f"part_{len(parts)}"
                lines.append(f"value = get({field!r}, MISSING)")
                plain = "type(value) is str and '\\0' not in value"
                lines.append(f"{part} = f'\\x10{{value}}\\0'.encode() if {plain} else canonical(value)")
    keys = [
        " + ".join(parts[field] for field in fields)
        if all(field in parts for field in fields)
        else f"slow[{place}](document)"
        for place, fields in enumerate(forms)
    ]
    body = ["get = document.get", *lines, f"return ({''.join(f'{key}, ' for key in keys)})"]
    guarded = ["try:", *(f"    {line}" for line in body), "except UnicodeEncodeError:"]
    return function("keys", "document", [*guarded, "    return tuple(key(document) for key in slow)"], known)


# -- bodies --------------------------------------------------------------------------------------------------------


def body_maker(table: Table) -> Callable[[Document], str]:
    """The function from a document, or some fields of it, to its JSON. It has to be one that the table accepts."""
    validators = {name: one.validator for name, one in table.fields.items()}
    risky = tuple(name for name, validator in validators.items() if not _is_plain(validator))
    if not risky:
        return _body_of_text if not any(map(_has_numbers, validators.values())) else _body_of_numbers

    def body(document: Document) -> str:
        if all(is_plain_json(document[name]) for name in risky if name in document):
            return _body_of_numbers(document)
        return dumps(document)

    return body


def _body_of_text(document: Document) -> str:
    return dumps_json(document).decode()


def _body_of_numbers(document: Document) -> str:
    data = dumps_json(document)
    if b"null" in data and not all(map(is_plain_json, document.values())):  # it is what an infinity becomes
        return dumps(document)
    return data.decode()


def is_plain_json(value: Value) -> bool:
    """Whether JSON has a word for all of a value: neither bytes nor an int64 nor an infinity is in it."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    if kind is list:
        return all(map(is_plain_json, value))
    if kind is dict:
        return all(map(is_plain_json, value.values()))
    return kind in _WORDS


_WORDS = frozenset((str, int, bool, type(None)))
_ONES = (Null, Boolean, Number, String, Id, Literal)


def _is_plain(validator: Validator) -> bool:
    """Whether JSON has words for whatever a validator accepts, but for infinities."""
    if isinstance(validator, AnyOf):
        return all(map(_is_plain, validator.members))
    if isinstance(validator, Array):
        return _is_plain(validator.items)
    if isinstance(validator, Record):
        return _is_plain(validator.values)
    if isinstance(validator, Object):
        return all(_is_plain(one.validator) for one in validator.fields.values())
    return isinstance(validator, _ONES)


def _has_numbers(validator: Validator) -> bool:
    return not isinstance(validator, String | Id | Boolean | Null)
