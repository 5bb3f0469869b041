"""Filters over many rows at once: metadata by column.

A filter's leaves each ask about one path. What the path reaches is gathered once for all rows and kept as a column: a
number for each row that says which of the distinct values it has, and the values that are numbers as an array. A leaf is
then asked once for each distinct value, or, if it compares with numbers, for all rows in one operation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from convexorm.concurrency.guards import Guard
from convexorm.values import MAX_SAFE_INTEGER, MISSING, Value
from mastra_convex.filters import AllOf, AnyOf, Filter, Leaf, Node, Not, Several, reached

__all__ = ["Columns"]

Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

_COMPARE: dict[str, Callable[[Any, float], Any]] = {
    "eq": np.equal,
    "gt": np.greater,
    "gte": np.greater_equal,
    "lt": np.less,
    "lte": np.less_equal,
}
_KEPT_MASKS = 64
"""Masks of filters kept, so that a filter asked again costs nothing."""


class Columns:
    """The metadata of rows, by the paths that filters have asked about. Safe to share between threads."""

    def __init__(self, metadata: Sequence[Mapping[str, Value] | None]) -> None:
        self._metadata = metadata
        self._present: Mask = np.array([one is not None for one in metadata], dtype=np.bool_)
        self._columns: dict[tuple[str, ...], _Column] = {}
        self._masks: dict[Hashable, Mask] = {}
        self._guard = Guard()

    def matching(self, filter: Filter) -> Mask:
        """Which rows match: rows without metadata match only the empty filter."""
        if filter.is_empty:
            return np.ones(len(self._metadata), dtype=np.bool_)
        return self._present & self._mask(filter.root, True)

    def _mask(self, node: Node, holds: bool) -> Mask:
        """For which rows the node holds; with False for which it fails. It may be open for others."""
        key = node.key, holds
        mask = self._masks.get(key)
        if mask is None:
            mask = _EVALUATORS[type(node)](self, node, holds)
            self._guard(lambda: self._keep(key, mask))
        return mask

    def _keep(self, key: Hashable, mask: Mask) -> None:
        if len(self._masks) >= _KEPT_MASKS:
            self._masks.pop(next(iter(self._masks)))
        self._masks[key] = mask

    def _all(self, node: AllOf, holds: bool) -> Mask:
        return self._every(node.parts, holds) if holds else self._some(node.parts, holds)

    def _any(self, node: AnyOf, holds: bool) -> Mask:
        return self._some(node.parts, holds) if holds else self._every(node.parts, holds)

    def _not(self, node: Not, holds: bool) -> Mask:
        return self._mask(node.part, not holds)

    def _every(self, parts: Sequence[Node], holds: bool) -> Mask:
        mask = np.ones(len(self._metadata), dtype=np.bool_)
        for part in parts:
            mask = mask & self._mask(part, holds)
        return mask

    def _some(self, parts: Sequence[Node], holds: bool) -> Mask:
        mask = np.zeros(len(self._metadata), dtype=np.bool_)
        for part in parts:
            mask = mask | self._mask(part, holds)
        return mask

    def _leaf(self, leaf: Leaf, holds: bool) -> Mask:
        column = self._columns.get(leaf.path)
        if column is None:
            column = self._columns[leaf.path] = _Column(
                [MISSING if one is None else reached(one, leaf.path) for one in self._metadata]
            )
        return column.mask(leaf, holds)


_EVALUATORS: dict[type, Callable[[Columns, Any, bool], Mask]] = {
    AllOf: Columns._all,
    AnyOf: Columns._any,
    Not: Columns._not,
    Leaf: Columns._leaf,
}


class _Column:
    """What one path reaches in every row."""

    def __init__(self, values: Sequence[Any]) -> None:
        codes: dict[Hashable, int] = {}
        self._values: list[Any] = []
        self._codes = np.empty(len(values), dtype=np.int32)
        for row, value in enumerate(values):
            key = _identity(value)
            code = codes.get(key)
            if code is None:
                code = codes[key] = len(self._values)
                self._values.append(value)
            self._codes[row] = code
        self._numbers = np.array([float(one) if _is_float(one) else np.nan for one in self._values])
        self._apart = [
            code for code, one in enumerate(self._values) if isinstance(one, list | Several | int) and not _is_float(one)
        ]

    def mask(self, leaf: Leaf, holds: bool) -> Mask:
        asked = leaf.test if holds else leaf.fails
        if leaf.bounds is None or not all(_is_float(number) for _, number in leaf.bounds):
            answers = np.fromiter((asked(value) for value in self._values), np.bool_, len(self._values))
        else:
            answers = ~np.isnan(self._numbers)
            for op, number in leaf.bounds:
                answers &= _COMPARE[op](self._numbers, number)
            if not holds:
                answers = ~answers
            for code in self._apart:
                answers[code] = asked(self._values[code])
        mask: Mask = answers[self._codes]
        return mask


def _is_float(value: Any) -> bool:
    """Whether it is a number that a float64 holds exactly."""
    return type(value) is float or (type(value) is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER)


def _identity(value: Any) -> Hashable:
    """Equal for values that no leaf can tell apart."""
    kind = type(value)
    if _is_float(value):
        return float(value)
    if kind is bool:
        return "bool", value
    if kind is list or kind is dict:
        return kind, json.dumps(value, sort_keys=True, default=repr)
    if kind is Several:
        return kind, value.lacking, json.dumps(value.values, sort_keys=True, default=repr)
    return kind, value
