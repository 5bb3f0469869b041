"""What each operator asks of what a path reaches. Those that nest others are made by `compiling`."""

from __future__ import annotations

import operator
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from convexorm.values import Value
from mastra_convex.filters.operands import (
    STORED,
    Matcher,
    Refused,
    has_pairs,
    instant,
    kind_of,
    list_of,
    literal,
    member,
    name_of,
    one_of,
    pairs_of,
    pattern,
)
from mastra_convex.filters.paths import Found
from mastra_convex.filters.tree import Answers, Predicate

__all__ = ["PLAIN", "Operators", "a_pattern", "equal", "included", "together", "whole"]

Operators: TypeAlias = Mapping[typing.Any, typing.Any]
"""The object that an operator stands in."""
_Accepts: TypeAlias = Callable[[Value], bool]


# -- answers -------------------------------------------------------------------------------------------------------


def _some(accepts: _Accepts) -> Answers:
    return lambda given: any(map(accepts, given.near))


def _none(accepts: _Accepts) -> Answers:
    return lambda given: not any(map(accepts, given.near))


def _reached(answers: Answers) -> Answers:
    """The same, where nothing is missing."""
    return lambda given: not given.lacking and answers(given)


def whole(accepts: _Accepts) -> Answers:
    return lambda given: any(map(accepts, given.wholes))


def together(predicates: Sequence[Predicate]) -> tuple[Answers, Answers]:
    """When all of them hold, and when one of them fails."""

    def holds(given: Found) -> bool:
        return all(one.holds(given) for one in predicates)

    def fails(given: Found) -> bool:
        return any(one.fails(given) for one in predicates)

    return holds, fails


def _bound(comparison: str, operand: object) -> tuple[str, float] | None:
    """A comparison with a number that a float64 can hold exactly."""
    if kind_of(operand) != "number":
        return None
    number = typing.cast("float", operand)
    try:
        return (comparison, float(number)) if float(number) == number else None
    except OverflowError:
        return None


# -- equality ------------------------------------------------------------------------------------------------------


def included(key: typing.Any, matchers: Iterable[Matcher], **data: typing.Any) -> Predicate:
    """One of them accepts something. Where None is among them that is open for what is missing."""
    every = list(matchers)
    accepts = one_of(every)
    denied = _none(accepts)
    fails = _reached(denied) if any(one.key == ("null", None) for one in every) else denied
    return Predicate(key, _some(accepts), fails, **data)


def _denied(key: typing.Any, asked: Predicate, constant: bool | None = None) -> Predicate:
    return Predicate(key, asked.fails, asked.holds, constant=constant)


def _eq(name: str, operand: object, _: Operators) -> Predicate:
    matcher = literal(name, operand)
    return included(("$eq", matcher.key), [matcher], bound=_bound("eq", operand))


def equal(operand: object) -> Predicate:
    """A field's value without an operator."""
    return _eq("equality", operand, {})


def _ne(name: str, operand: object, _: Operators) -> Predicate:
    matcher = literal(name, operand)
    return _denied((name, matcher.key), included((), [matcher]))


def _in(name: str, operand: object, _: Operators) -> Predicate:
    members = [member(name, item) for item in list_of(name, operand)]
    key = name, frozenset(one.key for one in members)
    if name == "$in":
        return included(key, members, constant=None if members else False)
    return _denied(key, included((), members), constant=None if members else True)


# -- comparisons, and what else there is -----------------------------------------------------------------------------

_Compare: TypeAlias = Callable[[typing.Any, typing.Any], bool]
_COMPARISONS: dict[str, _Compare] = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


def _comparison(name: str, operand: typing.Any, _: Operators) -> Predicate:
    kind, compare = kind_of(operand), _COMPARISONS[name]
    naive = kind == "instant" and operand.utcoffset() is None
    if kind not in ("number", "text", "instant") or operand != operand or naive:
        raise Refused(f"{name} takes a number, a string or an aware datetime, got {name_of(operand)}")
    matcher = literal(name, operand)
    limit = matcher.key[1]

    def after(value: Value) -> bool:
        at = instant(value)
        return at is not None and compare(at, limit)

    def alike(value: Value) -> bool:
        return STORED.get(type(value)) == kind and compare(value, limit)

    return Predicate((name, matcher.key), _some(after if kind == "instant" else alike), bound=_bound(name[1:], operand))


def _exists(name: str, operand: object, _: Operators) -> Predicate:
    if not isinstance(operand, bool):
        raise Refused(f"{name} takes True or False, got {name_of(operand)}")
    return Predicate((name, operand), lambda given: bool(given.wholes) is operand)


def _size(name: str, operand: object, _: Operators) -> Predicate:
    bound = _bound("size", operand)
    if bound is None or bound[1] < 0 or not bound[1].is_integer():
        raise Refused(f"{name} takes a whole number from 0, got {name_of(operand)}")
    size = int(bound[1])
    return Predicate((name, size), whole(lambda value: isinstance(value, list) and len(value) == size))


def a_pattern(name: str, operand: object, operators: Operators) -> Predicate:
    """A text that a pattern fits."""
    matcher = pattern(name, operand, operators.get("$options", ""))
    return Predicate(("$regex", matcher.key), _some(matcher.accepts))


def _options(name: str, _: object, operators: Operators) -> None:
    if "$regex" not in operators:
        raise Refused(f"{name} goes with $regex")


def _contains(name: str, operand: object, _: Operators) -> Predicate:
    matcher = literal(name, operand)
    return Predicate((name, matcher.key), whole(_HOLDERS.get(kind_of(operand), _holding)(matcher, operand)))


def _holding(matcher: Matcher, _: object) -> _Accepts:
    return lambda value: isinstance(value, list) and any(map(matcher.accepts, value))


def _holding_text(matcher: Matcher, operand: typing.Any) -> _Accepts:
    element = _holding(matcher, operand)
    return lambda value: operand in value if type(value) is str else element(value)


def _holding_all(_: Matcher, operand: typing.Any) -> _Accepts:
    elements = [_holding(literal("$contains", item), item) for item in operand]
    return lambda value: isinstance(value, list) and all(element(value) for element in elements)


def _holding_pairs(matcher: Matcher, operand: typing.Any) -> _Accepts:
    pairs, element = pairs_of("$contains", operand), _holding(matcher, operand)
    return lambda value: has_pairs(pairs, value) or element(value)


_HOLDERS: dict[str, Callable[[Matcher, typing.Any], _Accepts]] = {
    "text": _holding_text,
    "list": _holding_all,
    "object": _holding_pairs,
}

PLAIN: Mapping[str, Callable[[str, typing.Any, Operators], Predicate | None]] = {
    "$eq": _eq,
    "$ne": _ne,
    **dict.fromkeys(_COMPARISONS, _comparison),
    "$in": _in,
    "$nin": _in,
    "$contains": _contains,
    "$size": _size,
    "$exists": _exists,
    "$regex": a_pattern,
    "$options": _options,
}
"""The operators that nest no others: what they make of their operand, and of the object they stand in."""
