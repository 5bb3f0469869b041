"""The metadata filter language: conditions on JSON-like metadata, as Mastra's vector stores take them.

`compile_filter` checks a filter and compiles it once; `Filter.matches` then answers for one row's metadata. Every mistake
in a filter is an InvalidArgument when it is compiled; matching never raises. Operators mean what MongoDB's mean, with these
rules of our own:

- A row without metadata matches only the empty filter.
- `$and` and `$or` take one filter or more, none of them empty: built of nothing they would be no filter at all. `$nor` of
  none and `$nin` of none hold for every row with metadata; `Filter.root.constant` tells who is about to write.
- Equality is deep and exact: True is not 1, 1 is 1.0. None equals a stored null, not a missing field; nor does a missing
  field match `$ne` None, `$nin` with None among others, or `$not` of either equality.
- Only like compares with like: numbers with numbers, strings with strings (by code point). Booleans are not numbers.
- A datetime stands for ISO text of that instant, to the millisecond. A date alone is its midnight in UTC; text with a time
  but without an offset is no instant.
- A key that contains dots wins over the path it spells.
- `$contains`: an array holds the operand, or all of a list of them; a string has it as a part; an object has at least these
  pairs. Patterns are those of `mastra_convex.regular`: they cannot hang.

For evaluating many rows column by column the compiled filter is a tree to be read: `Filter.root` is an `All`, `Any` or
`Not` of others, or a `Leaf`. A leaf asks only about what one path reaches:

- `reached(metadata, leaf.path)` is that: MISSING, the value, or `Several` where the path leads through an array to more
  than one value. This is the one place that follows paths, through arrays and keys with dots alike.
- `leaf.test(value)` answers for such a value. It depends on nothing else, so answers may be kept by value (and type: to
  Python, True and 1 are the same key).
- `leaf.key` is hashable, and equal for leaves that say the same: the order of operators, and 1 or 1.0, make no difference.
  Every other node has one, too.
- `leaf.bounds` are its comparisons as `(op, number)`, op being eq, gt, gte, lt or lte, if all of them are with numbers that
  a float64 holds exactly; else None. For an int or a float the leaf is then their conjunction. For None, booleans, strings,
  objects and MISSING it is false; a list or `Several` must be given to `test`, for each comparison may hold for another
  element.

Rows without metadata are the caller's: no node is asked about them unless the filter is empty.
"""

from __future__ import annotations

import math
import operator
import re
import typing
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from types import NoneType
from typing import Final, TypeAlias

import attrs

from convexorm.values import MISSING, Missing, Value
from mastra_convex.errors import InvalidArgument
from mastra_convex.regular import PatternError, compile_pattern

__all__ = [
    "MAX_NESTING",
    "All",
    "Any",
    "Condition",
    "Filter",
    "Leaf",
    "Node",
    "Not",
    "Several",
    "compile_filter",
    "reached",
]

MAX_NESTING: Final = 50
"""Levels of objects and arrays in a filter, and steps of a path."""


# -- what a path reaches -------------------------------------------------------------------------------------------


@attrs.frozen
class Several:
    """The values a path reaches through an array: two or more."""

    values: tuple[Value, ...]


Reached: TypeAlias = Value | Several | Missing


def reached(metadata: Mapping[str, Value], path: tuple[str, ...]) -> Reached:
    """What `path` reaches in a row's metadata.

    A step into an object takes the longest part of the path that is a key of it. A step into an array is the index of an
    element if it is a whole number, else it goes on in every element that is an object.
    """
    if len(path) == 1:
        return metadata.get(path[0], MISSING)
    found = tuple(_follow(metadata if isinstance(metadata, dict) else dict(metadata), path))
    if len(found) > 1:
        return Several(found)
    return found[0] if found else MISSING


def _follow(value: Value, path: tuple[str, ...]) -> Iterator[Value]:
    if not path:
        yield value
    elif isinstance(value, dict):
        for end in range(len(path), 0, -1):
            key = ".".join(path[:end])
            if key in value:
                yield from _follow(value[key], path[end:])
                return
    elif isinstance(value, list) and _INDEX.fullmatch(path[0]):
        for element in value[int(path[0]) :][:1]:
            yield from _follow(element, path[1:])
    elif isinstance(value, list):
        for element in value:
            if isinstance(element, dict):
                yield from _follow(element, path)


_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


# -- the tree ------------------------------------------------------------------------------------------------------

_Holds: TypeAlias = Callable[[Sequence[Value], Sequence[Value]], bool]


@attrs.frozen
class Condition:
    """One operator with its operand.

    `holds(wholes, candidates)` answers for what a path reaches: the values themselves, and these with the elements of the
    arrays among them. `bound` is a comparison with a number as data, `negated` are the conditions that a `$not` is about,
    `constant` is the answer where it is the same for every value.
    """

    key: Hashable
    holds: _Holds = attrs.field(eq=False, repr=False)
    bound: tuple[str, float] | None = attrs.field(default=None, eq=False)
    negated: tuple[Condition, ...] = attrs.field(default=(), eq=False, repr=False)
    constant: bool | None = attrs.field(default=None, eq=False)


@attrs.frozen
class Leaf:
    """Conditions on what one path reaches; all must hold. The module's docstring says what the attributes promise."""

    path: tuple[str, ...]
    tests: tuple[Condition, ...]
    key: Hashable = attrs.field(init=False, eq=False, repr=False)
    bounds: tuple[tuple[str, float], ...] | None = attrs.field(init=False, eq=False)

    @key.default
    def _key(self) -> Hashable:
        return "leaf", self.path, _keys(self.tests)

    @bounds.default
    def _bounds(self) -> tuple[tuple[str, float], ...] | None:
        bounds = tuple(test.bound for test in self.tests if test.bound is not None)
        return bounds if len(bounds) == len(self.tests) else None

    @property
    def constant(self) -> bool | None:
        """What it answers for every row with metadata alike, if it does; every node says so."""
        return _all_constant(self.tests)

    def test(self, value: Reached) -> bool:
        """Whether the conditions hold for what the path reaches."""
        wholes, candidates = _spread(value)
        for test in self.tests:  # noqa: SIM110 - asked once a row: a generator would double its cost
            if not test.holds(wholes, candidates):
                return False
        return True

    def matches(self, metadata: Mapping[str, Value]) -> bool:
        """Whether the conditions hold for a row's metadata."""
        return self.test(reached(metadata, self.path))


@attrs.frozen
class All:
    """Every part matches; of no parts, always."""

    parts: tuple[Node, ...]

    @property
    def key(self) -> Hashable:
        return "all", _keys(self.parts)

    @property
    def constant(self) -> bool | None:
        return _all_constant(self.parts)

    def matches(self, metadata: Mapping[str, Value]) -> bool:
        return all(part.matches(metadata) for part in self.parts)


@attrs.frozen
class Any:
    """A part matches; of no parts, never."""

    parts: tuple[Node, ...]

    @property
    def key(self) -> Hashable:
        return "any", _keys(self.parts)

    @property
    def constant(self) -> bool | None:
        constants = {part.constant for part in self.parts}
        return True if True in constants else None if None in constants else False

    def matches(self, metadata: Mapping[str, Value]) -> bool:
        return any(part.matches(metadata) for part in self.parts)


@attrs.frozen
class Not:
    """The part does not match."""

    part: Node

    @property
    def key(self) -> Hashable:
        return "not", self.part.key

    @property
    def parts(self) -> tuple[Node, ...]:
        return (self.part,)

    @property
    def constant(self) -> bool | None:
        return None if self.part.constant is None else not self.part.constant

    def matches(self, metadata: Mapping[str, Value]) -> bool:
        return not self.part.matches(metadata)


Node: TypeAlias = All | Any | Not | Leaf


@attrs.frozen
class Filter:
    """A compiled filter. `is_empty` says that it was `{}` or None: it matches every row, even one without metadata.

    Others, such as `{"$nor": []}`, match every row with metadata: the `constant` of their root is True.
    """

    root: Node
    is_empty: bool

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves, each once."""
        return tuple({leaf.key: leaf for leaf in _leaves(self.root)}.values())

    def matches(self, metadata: Mapping[str, Value] | None) -> bool:
        """Whether a row's metadata matches; None is a row without any."""
        if metadata is None:
            return self.is_empty
        return self.root.matches(metadata)


def _keys(parts: Iterable[Node | Condition | _Matcher]) -> Hashable:
    return frozenset(part.key for part in parts)


def _all_constant(parts: Iterable[Node | Condition]) -> bool | None:
    constants = {part.constant for part in parts}
    return False if False in constants else None if None in constants else True


def _leaves(node: Node) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    else:
        for part in node.parts:
            yield from _leaves(part)


def _spread(value: Reached) -> tuple[Sequence[Value], Sequence[Value]]:
    """The values reached, and these with the elements of the arrays among them."""
    if value is MISSING:
        return (), ()
    if type(value) in _STORED:
        one = (value,)
        return one, one
    wholes = value.values if isinstance(value, Several) else (value,)
    if not any(isinstance(whole, list) for whole in wholes):
        return wholes, wholes
    return wholes, [*wholes, *chain.from_iterable(whole for whole in wholes if isinstance(whole, list))]


# -- compiling -----------------------------------------------------------------------------------------------------


class _Refused(Exception):
    """A mistake in a filter: what would be right."""


def compile_filter(filter: Mapping[str, typing.Any] | None, *, operation: str) -> Filter:
    """The filter, checked. InvalidArgument, naming `operation`, for whatever the language does not have."""
    try:
        return _filter(filter)
    except _Refused as refused:
        raise InvalidArgument(str(refused), operation=operation, argument="filter") from None


def _filter(given: object) -> Filter:
    conditions = _object("a filter", {} if given is None else given)
    _check_nesting(conditions)
    if conditions.keys() == {"metadata"} and isinstance(conditions["metadata"], Mapping):
        conditions = conditions["metadata"]
    return Filter(_node(conditions), is_empty=not conditions)


def _check_nesting(given: object) -> None:
    level: dict[int, object] = {id(given): given}
    for _ in range(MAX_NESTING):
        level = {id(inner): inner for outer in level.values() for inner in _inside(outer)}
    if level:
        raise _Refused(f"nested deeper than {MAX_NESTING} levels")


def _inside(value: object) -> Iterable[object]:
    """The objects and arrays in one."""
    inner = value.values() if isinstance(value, Mapping) else typing.cast("Iterable[object]", value)
    return (one for one in inner if isinstance(one, Mapping | list | tuple))


def _object(what: str, value: object) -> Mapping[typing.Any, typing.Any]:
    if not isinstance(value, Mapping):
        raise _Refused(f"{what} is an object, got {_name(value)}")
    return value


def _list(name: str, value: object) -> Sequence[typing.Any]:
    if not isinstance(value, list | tuple):
        raise _Refused(f"{name} takes a list, got {_name(value)}")
    return value


def _name(value: object) -> str:
    """What an operand is, never what it says."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, datetime) and value.utcoffset() is None:
        return "a datetime without an offset"
    return "None" if value is None else type(value).__name__


def _node(conditions: Mapping[typing.Any, typing.Any]) -> Node:
    parts = tuple(_part(name, operand) for name, operand in conditions.items())
    return parts[0] if len(parts) == 1 else All(parts)


def _part(name: object, operand: object) -> Node:
    if not isinstance(name, str):
        raise _Refused(f"the keys of a filter are strings, got {_name(name)}")
    if not name.startswith("$"):
        return _field(name, operand)
    if name in _OPERATORS and name not in _LOGICAL:
        raise _Refused(f"{name} asks about a field: {{field: {{{name}: ...}}}}")
    if name not in _LOGICAL:
        raise _Refused(_unknown(name))
    return _LOGICAL[name](name, operand)


def _unknown(name: str) -> str:
    return f"there is no operator {name[:40]!r}; there are {', '.join(dict.fromkeys((*_OPERATORS, *_LOGICAL)))}"


def _branches(name: str, operand: object) -> tuple[Node, ...]:
    return tuple(_node(_object(f"each part of {name}", part)) for part in _list(name, operand))


def _conditional(name: str, operand: object) -> tuple[Node, ...]:
    """The parts of `$and` and `$or`: with none, or an empty one, they would ask for nothing."""
    parts = _list(name, operand)
    if not parts:
        raise _Refused(f"{name} takes one filter or more")
    if any(isinstance(part, Mapping) and not part for part in parts):
        raise _Refused(f"each part of {name} has a condition at least")
    return _branches(name, parts)


def _root_not(name: str, operand: object) -> Node:
    if not isinstance(operand, Mapping) or not operand:
        raise _Refused(
            f"{name} takes a filter that is not empty, got {_name(operand) if operand != {} else 'an empty one'}"
        )
    return Not(_node(operand))


_LOGICAL: dict[str, Callable[[str, object], Node]] = {
    "$and": lambda name, operand: All(_conditional(name, operand)),
    "$or": lambda name, operand: Any(_conditional(name, operand)),
    "$nor": lambda name, operand: Not(Any(_branches(name, operand))),
    "$not": _root_not,
}


def _field(name: str, operand: object) -> Node:
    try:
        path = tuple(name.split("."))
        if len(path) > MAX_NESTING:
            raise _Refused(f"a path has at most {MAX_NESTING} steps")
        return _asked(path, _conditions(operand) if _has_operators(operand) else (_bare(operand),))
    except _Refused as refused:
        raise _Refused(f"field {name[:80]!r}: {refused}") from None


def _has_operators(operand: object) -> bool:
    return isinstance(operand, Mapping) and any(isinstance(name, str) and name.startswith("$") for name in operand)


def _asked(path: tuple[str, ...], conditions: tuple[Condition, ...]) -> Node:
    """A leaf of the conditions; what a `$not` is about becomes a leaf of its own."""
    plain = tuple(condition for condition in conditions if not condition.negated)
    parts: list[Node] = [Leaf(path, plain)] if plain else []
    parts += [Not(_asked(path, condition.negated)) for condition in conditions if condition.negated]
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _conditions(operators: object) -> tuple[Condition, ...]:
    """The conditions of an object of operators."""
    given = typing.cast("Mapping[typing.Any, typing.Any]", operators)
    for name in given:
        if not isinstance(name, str) or not name.startswith("$"):
            raise _Refused("operators and plain keys in one object; one or the other")
        if name in _LOGICAL and name not in _OPERATORS:
            raise _Refused(f"{name} joins filters: {{{name}: [{{field: ...}}, ...]}}")
        if name not in _OPERATORS:
            raise _Refused(_unknown(name))
    compiled = (_OPERATORS[name](name, operand, given) for name, operand in given.items())
    return tuple(condition for condition in compiled if condition is not None)


# -- operands: what equals them ------------------------------------------------------------------------------------


@attrs.frozen
class _Matcher:
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
_STORED: dict[type, str] = {NoneType: "null", bool: "boolean", int: "number", float: "number", str: "text"}
"""The kinds of scalars in metadata."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _kind(operand: object) -> str:
    return next((kind for types, kind in _KINDS if isinstance(operand, types)), "other")


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _instant(stored: Value) -> int | None:
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


def _scalar(name: str, operand: typing.Any) -> _Matcher:
    key = _kind(operand), operand
    return _Matcher(key, lambda value: (_STORED.get(type(value)), value) == key)


def _number(name: str, operand: typing.Any) -> _Matcher:
    if operand != operand:
        raise _Refused(f"{name} takes no NaN: nothing equals it")
    return _scalar(name, int(operand) if isinstance(operand, int) else float(operand))


def _moment(name: str, operand: datetime) -> _Matcher:
    if operand.utcoffset() is None:
        raise _Refused(f"{name} takes aware datetimes, got {_name(operand)}")
    at = _milliseconds(operand)
    return _Matcher(("instant", at), lambda value: _instant(value) == at)


def _array(name: str, operand: Sequence[typing.Any]) -> _Matcher:
    items = [_literal(name, item) for item in operand]

    def accepts(value: Value) -> bool:
        fits = isinstance(value, list) and len(value) == len(items)
        return fits and all(item.accepts(inner) for item, inner in zip(items, value, strict=True))

    return _Matcher(("list", tuple(item.key for item in items)), accepts)


def _pairs(name: str, operand: Mapping[typing.Any, typing.Any]) -> dict[str, _Matcher]:
    for key in operand:
        if not isinstance(key, str) or key.startswith("$"):
            raise _Refused(f"{name} takes values; the keys of an object are strings without a leading '$'")
    return {key: _literal(name, item) for key, item in operand.items()}


def _has_pairs(pairs: Mapping[str, _Matcher], value: Value) -> bool:
    return isinstance(value, dict) and all(key in value and item.accepts(value[key]) for key, item in pairs.items())


def _mapping(name: str, operand: Mapping[typing.Any, typing.Any]) -> _Matcher:
    pairs = _pairs(name, operand)
    key = "object", frozenset((key, item.key) for key, item in pairs.items())
    return _Matcher(key, lambda value: _has_pairs(pairs, value) and len(value) == len(pairs))


def _no_value(name: str, operand: object) -> _Matcher:
    raise _Refused(f"{name} takes JSON values and aware datetimes, got {_name(operand)}")


_LITERALS: dict[str, Callable[[str, typing.Any], _Matcher]] = {
    "null": _scalar,
    "boolean": _scalar,
    "number": _number,
    "text": lambda name, operand: _scalar(name, str.__str__(operand)),  # of an enumeration: what it holds
    "instant": _moment,
    "list": _array,
    "object": _mapping,
}


def _literal(name: str, operand: object) -> _Matcher:
    """What equals the operand."""
    return _LITERALS.get(_kind(operand), _no_value)(name, operand)


def _member(name: str, operand: object) -> _Matcher:
    """What equals the operand, or fits it if it is a pattern."""
    return _pattern(name, operand, "") if isinstance(operand, re.Pattern) else _literal(name, operand)


def _one_of(matchers: Iterable[_Matcher]) -> Callable[[Value], bool]:
    """Whether one of them accepts a value; scalars are looked up, however many there are."""
    kinds = frozenset(_STORED.values())
    every = list(matchers)
    scalars = frozenset(matcher.key for matcher in every if matcher.key[0] in kinds)
    others = [matcher.accepts for matcher in every if matcher.key[0] not in kinds]

    def accepts(value: Value) -> bool:
        kind = _STORED.get(type(value))
        return (kind is not None and (kind, value) in scalars) or any(other(value) for other in others)

    return accepts


_OPTIONS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_PATTERN_FLAGS = int(re.IGNORECASE | re.MULTILINE | re.DOTALL | re.VERBOSE | re.ASCII)


def _pattern(name: str, operand: object, options: object) -> _Matcher:
    if not isinstance(options, str) or not set(options) <= _OPTIONS.keys():
        raise _Refused(f"$options takes letters of {''.join(_OPTIONS)!r}")
    flags = sum(int(_OPTIONS[letter]) for letter in set(options))
    text = operand
    if isinstance(operand, re.Pattern):
        own, text = operand.flags & _PATTERN_FLAGS, operand.pattern
        if own and options:
            raise _Refused(f"{name} takes a pattern with flags, or $options, not both")
        flags |= own
    if not isinstance(text, str):
        raise _Refused(f"{name} takes text or a compiled pattern of text, got {_name(text)}")
    try:
        compiled = compile_pattern(str.__str__(text), flags)
    except PatternError as refused:
        raise _Refused(f"{name}: {refused}") from None
    return _Matcher(("pattern", text, flags), lambda value: type(value) is str and compiled.search(value))


# -- operators -----------------------------------------------------------------------------------------------------

_Operators: TypeAlias = Mapping[typing.Any, typing.Any]


def _some(accepts: Callable[[Value], bool]) -> _Holds:
    return lambda _, candidates: any(map(accepts, candidates))


def _none(accepts: Callable[[Value], bool]) -> _Holds:
    return lambda _, candidates: not any(map(accepts, candidates))


def _whole(accepts: Callable[[Value], bool]) -> _Holds:
    return lambda wholes, _: any(map(accepts, wholes))


def _together(conditions: Sequence[Condition]) -> _Holds:
    return lambda wholes, candidates: all(condition.holds(wholes, candidates) for condition in conditions)


def _bound(comparison: str, operand: object) -> tuple[str, float] | None:
    """A comparison with a number that a float64 can hold exactly."""
    if _kind(operand) != "number":
        return None
    number = typing.cast("float", operand)
    try:
        return (comparison, float(number)) if float(number) == number else None
    except OverflowError:
        return None


def _eq(name: str, operand: object, _: _Operators) -> Condition:
    matcher = _literal(name, operand)
    return Condition(("$eq", matcher.key), _some(_one_of([matcher])), bound=_bound("eq", operand))


def _bare(operand: object) -> Condition:
    """A field's value without an operator: equality, or a pattern to fit."""
    if isinstance(operand, re.Pattern):
        return _regex("a pattern", operand, {})
    return _eq("equality", operand, {})


def _ne(name: str, operand: object, _: _Operators) -> Condition:
    matcher = _literal(name, operand)
    return Condition((name, matcher.key), _without([operand], _one_of([matcher])))


def _in(name: str, operand: object, _: _Operators) -> Condition:
    items = _list(name, operand)
    members = [_member(name, item) for item in items]
    accepts = _one_of(members)
    holds = _some(accepts) if name == "$in" else _without(items, accepts)
    return Condition((name, _keys(members)), holds, constant=None if members else name == "$nin")


def _without(operands: Sequence[object], accepts: Callable[[Value], bool]) -> _Holds:
    """Nothing of what is reached is accepted; where None is among the operands, something has to be reached."""
    if any(one is None for one in operands):
        return lambda wholes, candidates: bool(wholes) and not any(map(accepts, candidates))
    return _none(accepts)


_Compare: TypeAlias = Callable[[typing.Any, typing.Any], bool]
_COMPARISONS: dict[str, _Compare] = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


def _comparison(name: str, operand: typing.Any, _: _Operators) -> Condition:
    kind, compare = _kind(operand), _COMPARISONS[name]
    naive = kind == "instant" and operand.utcoffset() is None
    if kind not in ("number", "text", "instant") or operand != operand or naive:
        raise _Refused(f"{name} takes a number, a string or an aware datetime, got {_name(operand)}")
    matcher = _literal(name, operand)
    limit = matcher.key[1]

    def after(value: Value) -> bool:
        at = _instant(value)
        return at is not None and compare(at, limit)

    def alike(value: Value) -> bool:
        return _STORED.get(type(value)) == kind and compare(value, limit)

    return Condition((name, matcher.key), _some(after if kind == "instant" else alike), bound=_bound(name[1:], operand))


def _exists(name: str, operand: object, _: _Operators) -> Condition:
    if not isinstance(operand, bool):
        raise _Refused(f"{name} takes True or False, got {_name(operand)}")
    return Condition((name, operand), lambda wholes, _: bool(wholes) is operand)


def _size(name: str, operand: object, _: _Operators) -> Condition:
    bound = _bound("size", operand)
    if bound is None or bound[1] < 0 or not bound[1].is_integer():
        raise _Refused(f"{name} takes a whole number from 0, got {_name(operand)}")
    size = int(bound[1])
    return Condition((name, size), _whole(lambda value: isinstance(value, list) and len(value) == size))


def _all(name: str, operand: object, _: _Operators) -> Condition:
    parts = [_all_part(name, item) for item in _list(name, operand)]
    holds = _together(parts) if parts else _some(lambda _: False)
    return Condition((name, _keys(parts)), holds, constant=None if parts else False)


def _all_part(name: str, item: object) -> Condition:
    if isinstance(item, Mapping) and item.keys() == {"$elemMatch"}:
        return _elem_match("$elemMatch", item["$elemMatch"], item)
    member = _member(name, item)
    return Condition(("$in", frozenset((member.key,))), _some(_one_of([member])))


def _elem_match(name: str, operand: object, _: _Operators) -> Condition:
    if not isinstance(operand, Mapping) or not operand:
        raise _Refused(f"{name} takes an object of operators or of conditions, got {_name(operand)}")
    if _has_operators({key: None for key in operand if key not in ("$and", "$or", "$nor")}):
        conditions = _conditions(operand)
        key, holds = _keys(conditions), _together(conditions)

        def accepts(element: Value) -> bool:
            return holds((element,), (element,))
    else:
        node = _node(operand)
        key = node.key

        def accepts(element: Value) -> bool:
            return isinstance(element, dict) and node.matches(element)

    return Condition((name, key), _whole(lambda value: isinstance(value, list) and any(map(accepts, value))))


def _contains(name: str, operand: object, _: _Operators) -> Condition:
    matcher = _literal(name, operand)
    return Condition((name, matcher.key), _whole(_HOLDERS.get(_kind(operand), _holding)(matcher, operand)))


def _holding(matcher: _Matcher, _: object) -> Callable[[Value], bool]:
    return lambda value: isinstance(value, list) and any(map(matcher.accepts, value))


def _holding_text(matcher: _Matcher, operand: typing.Any) -> Callable[[Value], bool]:
    element = _holding(matcher, operand)
    return lambda value: operand in value if type(value) is str else element(value)


def _holding_all(_: _Matcher, operand: typing.Any) -> Callable[[Value], bool]:
    elements = [_holding(_literal("$contains", item), item) for item in operand]
    return lambda value: isinstance(value, list) and all(element(value) for element in elements)


def _holding_pairs(matcher: _Matcher, operand: typing.Any) -> Callable[[Value], bool]:
    pairs, element = _pairs("$contains", operand), _holding(matcher, operand)
    return lambda value: _has_pairs(pairs, value) or element(value)


_HOLDERS: dict[str, Callable[[_Matcher, typing.Any], Callable[[Value], bool]]] = {
    "text": _holding_text,
    "list": _holding_all,
    "object": _holding_pairs,
}


def _regex(name: str, operand: object, operators: _Operators) -> Condition:
    matcher = _pattern(name, operand, operators.get("$options", ""))
    return Condition(("$regex", matcher.key), _some(matcher.accepts))


def _options(name: str, _: object, operators: _Operators) -> None:
    if "$regex" not in operators:
        raise _Refused(f"{name} goes with $regex")


def _not(name: str, operand: object, _: _Operators) -> Condition:
    if isinstance(operand, Mapping) and operand.keys() == {"$eq"} and operand["$eq"] is None:
        return _ne("$ne", None, {})
    if isinstance(operand, Mapping) and operand.keys() == {"$in"} and _holds_none(operand["$in"]):
        return _in("$nin", operand["$in"], {})
    if isinstance(operand, re.Pattern):
        negated: tuple[Condition, ...] = (_regex(name, operand, {}),)
    elif _has_operators(operand):
        negated = _conditions(operand)
    else:
        raise _Refused(f"{name} takes an object of operators or a compiled pattern, got {_name(operand)}")
    holds = _together(negated)
    constant = _all_constant(negated)
    return Condition(
        (name, _keys(negated)),
        lambda wholes, candidates: not holds(wholes, candidates),
        negated=negated,
        constant=None if constant is None else not constant,
    )


def _holds_none(operand: object) -> bool:
    return isinstance(operand, list | tuple) and any(one is None for one in operand)


_OPERATORS: dict[str, Callable[[str, typing.Any, _Operators], Condition | None]] = {
    "$eq": _eq,
    "$ne": _ne,
    **dict.fromkeys(_COMPARISONS, _comparison),
    "$in": _in,
    "$nin": _in,
    "$all": _all,
    "$elemMatch": _elem_match,
    "$contains": _contains,
    "$size": _size,
    "$exists": _exists,
    "$regex": _regex,
    "$options": _options,
    "$not": _not,
}
