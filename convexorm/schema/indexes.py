"""Indexes of a table, and the counters that are kept of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import attrs

from convexorm.errors import IndexRangeError

__all__ = [
    "BUILT_IN_INDEXES",
    "IDENTIFIER",
    "MAX_FILTER_FIELDS",
    "MAX_INDEXES",
    "MAX_INDEX_FIELDS",
    "MAX_SEARCH_INDEXES",
    "STAGED",
    "VECTOR_DIMENSIONS",
    "CounterDef",
    "IndexDef",
    "SearchIndexDef",
    "VectorIndexDef",
    "names_index",
    "searched_index",
]

MAX_INDEXES = 64
"""Indexes of one table (Convex limit)."""


MAX_INDEX_FIELDS = 16
"""Fields of one index, `_creationTime` not counted (Convex limit)."""


MAX_SEARCH_INDEXES = 4
"""Search indexes of one table (Convex limit)."""


MAX_FILTER_FIELDS = 16
"""Filter fields of a search index or a vector index (Convex limit)."""


VECTOR_DIMENSIONS = range(2, 4_097)
"""Dimensions of a vector index (Convex limit)."""


BUILT_IN_INDEXES: Mapping[str, tuple[str, ...]] = {"by_creation_time": ("_creationTime",), "by_id": ("_id",)}
"""The indexes every table has, with their fields but for the `_id` that ends each key."""


_UNIQUE = "// unique: kept by convexorm, and by functions that use uniqueIn of ./orm/unique"


IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")


@attrs.frozen
class IndexDef:
    """An index over top-level or dotted fields. Convex appends `_creationTime` and `_id`.

    Convex knows no `unique`: writers keep it, who see in each commit to it that no two documents hold one key.
    """

    name: str
    fields: tuple[str, ...]
    unique: bool = False
    staged: bool = False

    def typescript(self) -> str:
        fields = json.dumps(list(self.fields))
        return f".index({json.dumps(self.name)}, {f'{{ fields: {fields}, staged: true }}' if self.staged else fields})"

    @property
    def comment(self) -> str:
        """What `schema.ts` says of it to people."""
        return f"{_UNIQUE}\n    " if self.unique else ""

    def __str__(self) -> str:
        return self.typescript() + (" unique" if self.unique else "")


@attrs.frozen
class CounterDef:
    """A number of documents, or the sum of a field `of` them, for each value of the fields `by`, kept with every write."""

    name: str
    by: tuple[str, ...]
    of: str | None = None


@attrs.frozen
class VectorIndexDef:
    """A native vector index over one field of float64 arrays of `dimensions` elements."""

    name: str
    field: str
    dimensions: int
    filter_fields: tuple[str, ...] = ()
    staged: bool = False

    def typescript(self) -> str:
        parts = [f"vectorField: {json.dumps(self.field)}", f"dimensions: {self.dimensions}"]
        return f".vectorIndex({json.dumps(self.name)}, {_options(parts, self)})"


@attrs.frozen
class SearchIndexDef:
    """A text search index over one field."""

    name: str
    field: str
    filter_fields: tuple[str, ...] = ()
    staged: bool = False

    def typescript(self) -> str:
        return f".searchIndex({json.dumps(self.name)}, {_options([f'searchField: {json.dumps(self.field)}'], self)})"


def _options(parts: list[str], index: VectorIndexDef | SearchIndexDef) -> str:
    """What an index is told in `schema.ts`, beside its name."""
    filtered = [f"filterFields: {json.dumps(list(index.filter_fields))}"] if index.filter_fields else []
    return f"{{ {', '.join([*parts, *filtered, *(['staged: true'] if index.staged else [])])} }}"


_Filtered = TypeVar("_Filtered", VectorIndexDef, SearchIndexDef)


def names_index(name: str) -> bool:
    """Whether an index may have this name."""
    return IDENTIFIER.match(name) is not None and name not in BUILT_IN_INDEXES


def searched_index(table: str, kind: str, indexes: Sequence[_Filtered], name: str) -> _Filtered:
    """The index of this name that is searched. IndexRangeError if there is none, or it is staged."""
    found = next((index for index in indexes if index.name == name), None)
    if found is None:
        declared = ", ".join(one.name for one in indexes if not one.staged) or "none"
        raise IndexRangeError(f"no such {kind} index; there are {declared}", table=table, index=name)
    if found.staged:
        raise IndexRangeError(STAGED, table=table, index=name)
    return found


STAGED = "it is staged: declare it without `staged` once Convex has built it"
