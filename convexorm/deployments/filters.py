"""Conditions, evaluated over documents in Python exactly as `convex/orm/filter.ts` does on Convex."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from typing import Any, NoReturn

from convexorm.conditions import Combined, Comparison, Condition, Containment, Exists, Membership, Negated
from convexorm.requests import Document
from convexorm.values import MISSING, Missing, Value, canonical, comparable, same

__all__ = ["Predicate", "compile_filter"]

Predicate = Callable[[Document], bool]


def compile_filter(condition: Condition) -> Predicate:
    """The condition as a function of a document."""
    return _COMPILERS[type(condition)](condition)


def _compile_comparison(condition: Comparison) -> Predicate:
    get = _getter(condition)
    expected = condition.value
    if condition.op == "eq":
        return lambda document: same(get(document), expected)
    if condition.op == "ne":
        return lambda document: not same(get(document), expected)
    compare, bound = _ORDER[condition.op], canonical(expected)
    return lambda document: compare(comparable(get(document)), bound)


def _compile_membership(condition: Membership) -> Predicate:
    get = _getter(condition)
    expected = frozenset(map(canonical, condition.values))
    return lambda document: comparable(get(document)) in expected


def _compile_containment(condition: Containment) -> Predicate:
    get, holds = _getter(condition), _CONTAINMENTS[condition.op](condition.value)
    return lambda document: holds(get(document))


def _contains(value: Value) -> Callable[[Any], bool]:
    text = isinstance(value, str)

    def holds(stored: Any) -> bool:
        if isinstance(stored, list):
            return any(same(element, value) for element in stored)
        return text and isinstance(stored, str) and value in stored

    return holds


def _is_like(pattern: str) -> Callable[[Any], bool]:
    """Whether a text fits: the parts between `%` follow each other in it. Each is looked for once, from the left."""
    first, *rest = pattern.split("%")
    if not rest:
        return lambda stored: bool(stored == pattern)
    *middle, last = rest

    def holds(stored: Any) -> bool:
        if not isinstance(stored, str) or not stored.startswith(first):
            return False
        place = len(first)
        for part in middle:
            found = stored.find(part, place)
            if found < 0:
                return False
            place = found + len(part)
        return len(stored) - len(last) >= place and stored.endswith(last)

    return holds


_CONTAINMENTS: dict[str, Callable[[Any], Callable[[Any], bool]]] = {
    "contains": _contains,
    "endswith": lambda value: lambda stored: isinstance(stored, str) and stored.endswith(value),
    "like": _is_like,
}


def _compile_combined(condition: Combined) -> Predicate:
    predicates = [compile_filter(argument) for argument in condition.args]
    together = all if condition.op == "and" else any
    return lambda document: together(predicate(document) for predicate in predicates)


def _compile_negated(condition: Negated) -> Predicate:
    predicate = compile_filter(condition.arg)
    return lambda document: not predicate(document)


def _compile_exists(condition: Exists) -> Predicate:
    field, look = condition.edge.field, condition.look
    assert look is not None, "a deployment says how to look for other documents"

    def exists(document: Document) -> bool:
        value = document.get(field)
        return value is not None and look(value)

    return exists


_COMPILERS: dict[type[Condition], Callable[[Any], Predicate]] = {
    Comparison: _compile_comparison,
    Membership: _compile_membership,
    Containment: _compile_containment,
    Combined: _compile_combined,
    Negated: _compile_negated,
    Exists: _compile_exists,
}
_ORDER: dict[str, Callable[[bytes, bytes], bool]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}


def _getter(condition: Comparison | Membership | Containment) -> Callable[[Document], Value | Missing]:
    field, path = condition.field, condition.path
    if not path:
        return lambda document: document.get(field, MISSING)

    def walk(document: Document) -> Value | Missing:
        value = document.get(field, MISSING)
        if isinstance(value, str):
            value = _parsed(value)
        for step in path:
            if isinstance(value, dict) and isinstance(step, str):
                value = value.get(step, MISSING)
            elif isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value):
                value = value[step]
            else:
                return MISSING
        return value

    return walk


def _parsed(text: str) -> Value | Missing:
    """JSON text as JavaScript's JSON.parse reads it, numbers as float64; MISSING for any other text."""
    try:
        return json.loads(text, parse_constant=_no_constant, parse_int=float)
    except (ValueError, RecursionError):
        return MISSING


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
