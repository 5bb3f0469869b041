"""From a filter as it is given to the tree that answers: what may stand where, and what is refused."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from convexorm.values import Value
from mastra_convex.errors import InvalidArgument
from mastra_convex.filters.operands import Refused, an_object, list_of, member, name_of
from mastra_convex.filters.operators import PLAIN, Operators, a_pattern, equal, included, together, whole
from mastra_convex.filters.paths import Found
from mastra_convex.filters.tree import AllOf, AnyOf, Filter, Leaf, Node, Not, Predicate, all_constant, keys_of

__all__ = ["MAX_NESTING", "compile_filter"]

MAX_NESTING: Final = 50
"""Levels of objects and arrays in a filter, and steps of a path."""


def compile_filter(filter: Mapping[str, typing.Any] | None, *, operation: str) -> Filter:
    """The filter, checked. InvalidArgument, naming `operation`, for whatever the language does not have."""
    try:
        return _filter(filter)
    except Refused as refused:
        raise InvalidArgument(str(refused), operation=operation, argument="filter") from None


def _filter(given: object) -> Filter:
    conditions = an_object("a filter", {} if given is None else given)
    _check_nesting(conditions)
    is_empty = not conditions
    if conditions.keys() == {"metadata"} and isinstance(conditions["metadata"], Mapping):
        conditions = conditions["metadata"]
    return Filter(_node(conditions), is_empty)


def _check_nesting(given: object) -> None:
    level: dict[int, object] = {id(given): given}
    for _ in range(MAX_NESTING):
        level = {id(inner): inner for outer in level.values() for inner in _inside(outer)}
    if level:
        raise Refused(f"nested deeper than {MAX_NESTING} levels")


def _inside(value: object) -> Iterable[object]:
    """The objects and arrays in one."""
    inner = value.values() if isinstance(value, Mapping) else typing.cast("Iterable[object]", value)
    return (one for one in inner if isinstance(one, Mapping | list | tuple))


# -- filters -------------------------------------------------------------------------------------------------------


def _node(conditions: Operators) -> Node:
    parts = tuple(_part(name, operand) for name, operand in conditions.items())
    return parts[0] if len(parts) == 1 else AllOf(parts)


def _part(name: object, operand: object) -> Node:
    if not isinstance(name, str):
        raise Refused(f"the keys of a filter are strings, got {name_of(name)}")
    if not name.startswith("$"):
        return _field(name, operand)
    if name in _OPERATORS and name not in _LOGICAL:
        raise Refused(f"{name} asks about a field: {{field: {{{name}: ...}}}}")
    if name not in _LOGICAL:
        raise Refused(_unknown(name))
    return _LOGICAL[name](name, operand)


def _unknown(name: str) -> str:
    return f"there is no operator {name[:40]!r}; there are {', '.join(dict.fromkeys((*_OPERATORS, *_LOGICAL)))}"


def _branches(name: str, operand: object) -> tuple[Node, ...]:
    return tuple(_node(an_object(f"each part of {name}", part)) for part in list_of(name, operand))


def _conditional(name: str, operand: object) -> tuple[Node, ...]:
    """The parts of `$and` and `$or`: with none, or an empty one, they would ask for nothing."""
    parts = list_of(name, operand)
    if not parts:
        raise Refused(f"{name} takes one filter or more")
    if any(isinstance(part, Mapping) and not part for part in parts):
        raise Refused(f"each part of {name} has a condition at least")
    return _branches(name, parts)


def _root_not(name: str, operand: object) -> Node:
    if not isinstance(operand, Mapping) or not operand:
        raise Refused(
            f"{name} takes a filter that is not empty, got {name_of(operand) if operand != {} else 'an empty one'}"
        )
    return Not(_node(operand))


_LOGICAL: dict[str, Callable[[str, object], Node]] = {
    "$and": lambda name, operand: AllOf(_conditional(name, operand)),
    "$or": lambda name, operand: AnyOf(_conditional(name, operand)),
    "$nor": lambda name, operand: Not(AnyOf(_branches(name, operand))),
    "$not": _root_not,
}


# -- fields --------------------------------------------------------------------------------------------------------


def _field(name: str, operand: object) -> Node:
    try:
        path = tuple(name.split("."))
        if len(path) > MAX_NESTING:
            raise Refused(f"a path has at most {MAX_NESTING} steps")
        return _asked(path, _predicates(operand) if _has_operators(operand) else (_bare(operand),))
    except Refused as refused:
        raise Refused(f"field {name[:80]!r}: {refused}") from None


def _bare(operand: object) -> Predicate:
    """A field's value without an operator: equality, or a pattern to fit."""
    return a_pattern("a pattern", operand, {}) if isinstance(operand, re.Pattern) else equal(operand)


def _has_operators(operand: object) -> bool:
    return isinstance(operand, Mapping) and any(isinstance(name, str) and name.startswith("$") for name in operand)


def _asked(path: tuple[str, ...], predicates: tuple[Predicate, ...]) -> Node:
    """A leaf of the predicates; what a `$not` is about becomes a leaf of its own."""
    plain = tuple(one for one in predicates if not one.negated)
    parts: list[Node] = [Leaf(path, plain)] if plain else []
    parts += [Not(_asked(path, one.negated)) for one in predicates if one.negated]
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _predicates(operators: object) -> tuple[Predicate, ...]:
    """The predicates of an object of operators."""
    given = typing.cast("Operators", operators)
    for name in given:
        if not isinstance(name, str) or not name.startswith("$"):
            raise Refused("operators and plain keys in one object; one or the other")
        if name in _LOGICAL and name not in _OPERATORS:
            raise Refused(f"{name} joins filters: {{{name}: [{{field: ...}}, ...]}}")
        if name not in _OPERATORS:
            raise Refused(_unknown(name))
    made = (_OPERATORS[name](name, operand, given) for name, operand in given.items())
    return tuple(one for one in made if one is not None)


# -- operators that nest others --------------------------------------------------------------------------------------


def _all(name: str, operand: object, _: Operators) -> Predicate:
    parts = [_all_part(name, item) for item in list_of(name, operand)]
    if not parts:
        return Predicate((name, frozenset()), lambda _: False, constant=False)
    return Predicate((name, keys_of(parts)), *together(parts), constant=all_constant(parts))


def _all_part(name: str, item: object) -> Predicate:
    if isinstance(item, Mapping) and item.keys() == {"$elemMatch"}:
        return _elem_match("$elemMatch", item["$elemMatch"], item)
    one = member(name, item)
    return included(("$in", frozenset((one.key,))), [one])


def _elem_match(name: str, operand: object, _: Operators) -> Predicate:
    if not isinstance(operand, Mapping) or not operand:
        raise Refused(f"{name} takes an object of operators or of conditions, got {name_of(operand)}")
    if _has_operators({key: None for key in operand if key not in ("$and", "$or", "$nor")}):
        predicates = _predicates(operand)
        key, (holds, fails) = keys_of(predicates), together(predicates)
        constant = all_constant(predicates)

        def accepts(element: Value) -> bool:
            return holds(Found((element,), (element,), False))

        def denies(element: Value) -> bool:
            return fails(Found((element,), (element,), False))
    else:
        node = _node(operand)
        key, constant = node.key, node.constant

        def accepts(element: Value) -> bool:
            return isinstance(element, dict) and node.matches(element)

        def denies(element: Value) -> bool:
            return not isinstance(element, dict) or node.denies(element)

    def none(given: Found) -> bool:
        return all(all(map(denies, value)) for value in given.wholes if isinstance(value, list))

    holding = whole(lambda value: isinstance(value, list) and any(map(accepts, value)))
    return Predicate((name, key), holding, none, constant=False if constant is False else None)  # a list may be empty


def _not(name: str, operand: object, _: Operators) -> Predicate:
    if isinstance(operand, re.Pattern):
        negated: tuple[Predicate, ...] = (a_pattern(name, operand, {}),)
    elif _has_operators(operand):
        negated = _predicates(operand)
    else:
        raise Refused(f"{name} takes an object of operators or a compiled pattern, got {name_of(operand)}")
    holds, fails = together(negated)
    constant = all_constant(negated)
    return Predicate(
        (name, keys_of(negated)), fails, holds, negated=negated, constant=None if constant is None else not constant
    )


_OPERATORS: dict[str, Callable[[str, typing.Any, Operators], Predicate | None]] = {
    **PLAIN,
    "$all": _all,
    "$elemMatch": _elem_match,
    "$not": _not,
}
