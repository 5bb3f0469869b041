"""A compiled filter: a tree of which every node answers for a row's metadata, or is read by who evaluates many rows.

An answer is one of three: it holds, it fails, or it is open, where it depends on whether a missing field equals None. Who
denies swaps holding and failing, so what is open stays open however often it is denied; and a row matches only a filter
that holds.

The root of a filter is an `AllOf`, `AnyOf` or `Not` of others, or a `Leaf`, which asks only about what one path reaches:

- `leaf.test(value)` and `leaf.fails(value)` answer for such a value. They depend on nothing else, so answers may be kept by
  value (and type: to Python, True and 1 are the same key).
- `leaf.key` is hashable, and equal for leaves that say the same: the order of operators, and 1 or 1.0, make no difference.
  Every other node has one, too.
- `leaf.bounds` are its comparisons as `(op, number)`, op being eq, gt, gte, lt or lte, if all of them are with numbers that
  a float64 holds exactly; else None. For an int or a float the leaf is then their conjunction. For None, booleans, strings,
  objects and MISSING it is false; a list or `Several` must be given to `test`, for each comparison may hold for another
  element. It is never open.
- `node.constant` is the answer for every row with metadata alike, None where there is no such answer.

Rows without metadata are the caller's: no node is asked about them unless the filter is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TypeAlias

import attrs

from convexorm.values import Value
from mastra_convex.filters.paths import Found, Reached, found, reached

__all__ = ["AllOf", "AnyOf", "Filter", "Leaf", "Node", "Not", "Predicate", "all_constant", "keys_of"]

Answers: TypeAlias = Callable[[Found], bool]


@attrs.frozen
class Predicate:
    """One operator with its operand, asked about what a path reaches: whether it `holds`, and whether it `fails`.

    `bound` is a comparison with a number as data, `negated` are the predicates that a `$not` is about, `constant` is the
    answer where it is the same for every value.
    """

    key: Hashable
    holds: Answers = attrs.field(eq=False, repr=False)
    fails: Answers = attrs.field(eq=False, repr=False)
    bound: tuple[str, float] | None = attrs.field(default=None, eq=False)
    negated: tuple[Predicate, ...] = attrs.field(default=(), eq=False, repr=False)
    constant: bool | None = attrs.field(default=None, eq=False)

    @fails.default
    def _fails(self) -> Answers:
        return lambda given: not self.holds(given)


@attrs.frozen
class Leaf:
    """Predicates on what one path reaches; all must hold. The module's docstring says what the attributes promise."""

    path: tuple[str, ...]
    tests: tuple[Predicate, ...]
    key: Hashable = attrs.field(init=False, eq=False, repr=False)
    bounds: tuple[tuple[str, float], ...] | None = attrs.field(init=False, eq=False)

    @key.default
    def _key(self) -> Hashable:
        return "leaf", self.path, keys_of(self.tests)

    @bounds.default
    def _bounds(self) -> tuple[tuple[str, float], ...] | None:
        bounds = tuple(test.bound for test in self.tests if test.bound is not None)
        return bounds if len(bounds) == len(self.tests) else None

    @property
    def constant(self) -> bool | None:
        return all_constant(self.tests)

    def test(self, value: Reached) -> bool:
        """Whether the predicates hold for what the path reaches."""
        given = found(value)
        for test in self.tests:  # noqa: SIM110 - asked once a row: a generator would double its cost
            if not test.holds(given):
                return False
        return True

    def fails(self, value: Reached) -> bool:
        """Whether one of them fails."""
        given = found(value)
        return any(test.fails(given) for test in self.tests)

    def matches(self, metadata: Mapping[str, Value]) -> bool:
        return self.test(reached(metadata, self.path))

    def denies(self, metadata: Mapping[str, Value]) -> bool:
        return self.fails(reached(metadata, self.path))


@attrs.frozen
class AllOf:
    """Every part holds; of no parts, always. It fails where one of them does."""

    parts: tuple[Node, ...]

    @property
    def key(self) -> Hashable:
        return "all", keys_of(self.parts)

    @property
    def constant(self) -> bool | None:
        return all_constant(self.parts)

    def matches(self, metadata: Mapping[str, Value]) -> bool:
        return all(part.matches(metadata) for part in self.parts)

    def denies(self, metadata: Mapping[str, Value]) -> bool:
        return any(part.denies(metadata) for part in self.parts)


@attrs.frozen
class AnyOf:
    """A part holds; of no parts, never. It fails where all of them do."""

    parts: tuple[Node, ...]

    @property
    def key(self) -> Hashable:
        return "any", keys_of(self.parts)

    @property
    def constant(self) -> bool | None:
        constants = {part.constant for part in self.parts}
        return True if True in constants else None if None in constants else False

    def matches(self, metadata: Mapping[str, Value]) -> bool:
        return any(part.matches(metadata) for part in self.parts)

    def denies(self, metadata: Mapping[str, Value]) -> bool:
        return all(part.denies(metadata) for part in self.parts)


@attrs.frozen
class Not:
    """The part fails."""

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
        return self.part.denies(metadata)

    def denies(self, metadata: Mapping[str, Value]) -> bool:
        return self.part.matches(metadata)


Node: TypeAlias = AllOf | AnyOf | Not | Leaf


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


def keys_of(parts: Iterable[Node | Predicate]) -> Hashable:
    return frozenset(part.key for part in parts)


def all_constant(parts: Iterable[Node | Predicate]) -> bool | None:
    """The answer of all of them together, where it is the same for every value."""
    constants = {part.constant for part in parts}
    return False if False in constants else None if None in constants else True


def _leaves(node: Node) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    else:
        for part in node.parts:
            yield from _leaves(part)
