"""What equals an operand, or otherwise fits it: operands checked, and made into functions of one value."""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import NoneType

import attrs

from convexorm.values import Value
from mastra_convex.filters.regular import PatternError, compile_pattern

__all__ = [
    "STORED",
    "Matcher",
    "Refused",
    "an_object",
    "has_pairs",
    "instant",
    "kind_of",
    "list_of",
    "literal",
    "member",
    "name_of",
    "one_of",
    "pairs_of",
    "pattern",
]


class Refused(Exception):
    """A mistake in a filter: what would be right."""


@attrs.frozen
class Matcher:
    """Whether one value equals, or otherwise fits, an operand. `key` says which; for scalars it is their kind and value."""

    key: tuple[Hashable, ...]
    accepts: Callable[[Value], bool]


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (NoneType, "null"),
    (bool, "boolean"),
    ((int, float), "number"),
    (str, "text"),
    (datetime, "instant"),
    ((list, tuple), "list"),
    (Mapping, "object"),
    (re.Pattern, "pattern"),
)
STORED: Mapping[type, str] = {NoneType: "null", bool: "boolean", int: "number", float: "number", str: "text"}
"""The kinds of scalars in metadata."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def kind_of(operand: object) -> str:
    return next((kind for types, kind in _KINDS if isinstance(operand, types)), "other")


def name_of(value: object) -> str:
    """What an operand is, never what it says."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, datetime) and value.utcoffset() is None:
        return "a datetime without an offset"
    return "None" if value is None else type(value).__name__


def an_object(what: str, value: object) -> Mapping[typing.Any, typing.Any]:
    if not isinstance(value, Mapping):
        raise Refused(f"{what} is an object, got {name_of(value)}")
    return value


def list_of(name: str, value: object) -> Sequence[typing.Any]:
    if not isinstance(value, list | tuple):
        raise Refused(f"{name} takes a list, got {name_of(value)}")
    return value


# -- values --------------------------------------------------------------------------------------------------------


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def instant(stored: Value) -> int | None:
    """The instant that stored text tells, in milliseconds since the epoch, if it does."""
    if type(stored) is not str or stored[4:5] != "-" or stored[7:8] != "-":
        return None
    try:
        moment = datetime.fromisoformat(stored)
    except ValueError:
        return None
    if len(stored) == 10:
        moment = moment.replace(tzinfo=UTC)
    return None if moment.utcoffset() is None else _milliseconds(moment)


def _scalar(name: str, operand: typing.Any) -> Matcher:
    key = kind_of(operand), operand
    return Matcher(key, lambda value: (STORED.get(type(value)), value) == key)


def _number(name: str, operand: typing.Any) -> Matcher:
    if operand != operand:
        raise Refused(f"{name} takes no NaN: nothing equals it")
    return _scalar(name, int(operand) if isinstance(operand, int) else float(operand))


def _moment(name: str, operand: datetime) -> Matcher:
    if operand.utcoffset() is None:
        raise Refused(f"{name} takes aware datetimes, got {name_of(operand)}")
    at = _milliseconds(operand)
    return Matcher(("instant", at), lambda value: instant(value) == at)


def _array(name: str, operand: Sequence[typing.Any]) -> Matcher:
    items = [literal(name, item) for item in operand]

    def accepts(value: Value) -> bool:
        fits = isinstance(value, list) and len(value) == len(items)
        return fits and all(item.accepts(inner) for item, inner in zip(items, value, strict=True))

    return Matcher(("list", tuple(item.key for item in items)), accepts)


def pairs_of(name: str, operand: Mapping[typing.Any, typing.Any]) -> dict[str, Matcher]:
    for key in operand:
        if not isinstance(key, str) or key.startswith("$"):
            raise Refused(f"{name} takes values; the keys of an object are strings without a leading '$'")
    return {key: literal(name, item) for key, item in operand.items()}


def has_pairs(pairs: Mapping[str, Matcher], value: Value) -> bool:
    return isinstance(value, dict) and all(key in value and item.accepts(value[key]) for key, item in pairs.items())


def _mapping(name: str, operand: Mapping[typing.Any, typing.Any]) -> Matcher:
    pairs = pairs_of(name, operand)
    key = "object", frozenset((key, item.key) for key, item in pairs.items())
    return Matcher(key, lambda value: has_pairs(pairs, value) and len(value) == len(pairs))


def _no_value(name: str, operand: object) -> Matcher:
    raise Refused(f"{name} takes JSON values and aware datetimes, got {name_of(operand)}")


_LITERALS: dict[str, Callable[[str, typing.Any], Matcher]] = {
    "null": _scalar,
    "boolean": _scalar,
    "number": _number,
    "text": lambda name, operand: _scalar(name, str.__str__(operand)),  # of an enumeration: what it holds
    "instant": _moment,
    "list": _array,
    "object": _mapping,
}


def literal(name: str, operand: object) -> Matcher:
    """What equals the operand."""
    return _LITERALS.get(kind_of(operand), _no_value)(name, operand)


def member(name: str, operand: object) -> Matcher:
    """What equals the operand, or fits it if it is a pattern."""
    return pattern(name, operand, "") if isinstance(operand, re.Pattern) else literal(name, operand)


def one_of(matchers: Iterable[Matcher]) -> Callable[[Value], bool]:
    """Whether one of them accepts a value; scalars are looked up, however many there are."""
    kinds = frozenset(STORED.values())
    every = list(matchers)
    scalars = frozenset(matcher.key for matcher in every if matcher.key[0] in kinds)
    others = [matcher.accepts for matcher in every if matcher.key[0] not in kinds]

    def accepts(value: Value) -> bool:
        kind = STORED.get(type(value))
        return (kind is not None and (kind, value) in scalars) or any(other(value) for other in others)

    return accepts


# -- patterns ------------------------------------------------------------------------------------------------------

_OPTIONS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_PATTERN_FLAGS = int(re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.ASCII)


def pattern(name: str, operand: object, options: object) -> Matcher:
    if not isinstance(options, str) or not set(options) <= _OPTIONS.keys():
        raise Refused(f"$options takes letters of {''.join(_OPTIONS)!r}")
    flags = sum(int(_OPTIONS[letter]) for letter in set(options))
    text = operand
    if isinstance(operand, re.Pattern):
        own, text = operand.flags & _PATTERN_FLAGS, operand.pattern
        if own and options:
            raise Refused(f"{name} takes a pattern with flags, or $options, not both")
        flags |= own
    if not isinstance(text, str):
        raise Refused(f"{name} takes text or a compiled pattern of text, got {name_of(text)}")
    try:
        compiled = compile_pattern(str.__str__(text), flags)
    except PatternError as refused:
        raise Refused(f"{name}: {refused}") from None
    return Matcher(("pattern", text, flags), lambda value: type(value) is str and compiled.search(value))
