"""`Table`: its fields and its indexes, and what its documents may hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from convexorm.errors import IndexRangeError, LimitExceeded, ValidationError
from convexorm.foreign import is_array
from convexorm.schema.indexes import (
    BUILT_IN_INDEXES,
    IDENTIFIER,
    MAX_FILTER_FIELDS,
    MAX_INDEX_FIELDS,
    MAX_INDEXES,
    MAX_SEARCH_INDEXES,
    STAGED,
    VECTOR_DIMENSIONS,
    CounterDef,
    IndexDef,
    SearchIndexDef,
    VectorIndexDef,
    names_index,
    searched_index,
)
from convexorm.schema.validators import (
    PLAIN,
    AnyOf,
    Array,
    Number,
    Property,
    frozen_mapping,
    holds_ids,
    kind_of,
    of_others,
    tables_of,
    wrong_at,
)
from convexorm.schema.vouching import vouching
from convexorm.values import (
    MAX_DOCUMENT_NESTING,
    MAX_DOCUMENT_SIZE,
    MAX_OBJECT_FIELDS,
    Value,
    check_field_name,
    check_value,
    document_size,
)

__all__ = [
    "JAVASCRIPT_NAMES",
    "SYSTEM_FIELDS",
    "SYSTEM_TABLES",
    "VECTOR_NUMBERS",
    "Table",
    "joined_shapes",
    "names_field",
]

VECTOR_NUMBERS = (2.0**-126, float(2**128 - 2**104))
"""Between which the largest number of a vector lies that an index can compare: it holds float32 (Convex limit)."""


SYSTEM_FIELDS = ("_id", "_creationTime")
"""Fields that Convex gives every document."""


SYSTEM_TABLES = ("_storage", "_scheduled_functions")
"""Tables that Convex has of itself, which functions and sessions only read."""


JAVASCRIPT_NAMES = frozenset(
    ("constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf")
)
"""What every object of JavaScript has, so that a field of this name never seems to be missing there."""


def names_field(name: str) -> bool:
    """Whether a field of a table may have this name, here and in Convex."""
    return IDENTIFIER.match(name) is not None and name not in JAVASCRIPT_NAMES


@attrs.frozen(cache_hash=True)
class Table:
    """One table: its name, its fields and its indexes.

    Raises ValidationError or LimitExceeded for a definition Convex would refuse.
    """

    name: str
    fields: Mapping[str, Property] = attrs.field(converter=frozen_mapping, hash=False)
    indexes: tuple[IndexDef, ...] = ()
    vector_indexes: tuple[VectorIndexDef, ...] = ()
    staged_indexes: tuple[IndexDef, ...] = ()
    counters: tuple[CounterDef, ...] = ()
    search_indexes: tuple[SearchIndexDef, ...] = ()
    shapes: tuple[Mapping[str, Property], ...] = attrs.field(default=(), hash=False)
    """The fields of each kind of document, where they are of several: a union in TypeScript. `fields` are those of all."""
    _acceptors: Mapping[str, Callable[[Value], bool]] = attrs.field(init=False, eq=False, repr=False)
    _vector_lengths: Mapping[str, set[int]] = attrs.field(init=False, eq=False, repr=False)
    _required: frozenset[str] = attrs.field(init=False, eq=False, repr=False)
    vector_fields: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)
    id_fields: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)
    """The fields that hold ids, at any depth."""
    _by_name: Mapping[str, tuple[str, ...]] = attrs.field(init=False, eq=False, repr=False)
    _vouches: Callable[[Mapping[str, Value]], bool] | None = attrs.field(init=False, default=None, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not IDENTIFIER.match(self.name) and self.name not in SYSTEM_TABLES:
            raise ValidationError("a table's name is a letter, then letters, digits and underscores, at most 64")
        for name in self.fields:
            if names_field(name):
                continue
            if not IDENTIFIER.match(name):
                raise ValidationError(
                    "a field's name is a letter, then letters, digits and underscores, at most 64",
                    table=self.name,
                    field=name,
                )
            problem = "every object of JavaScript has something of this name; give the field another with field(name=...)"
            raise ValidationError(problem, table=self.name, field=name)
        if len(self.fields) > MAX_OBJECT_FIELDS:
            raise LimitExceeded("fields", maximum=MAX_OBJECT_FIELDS, actual=len(self.fields), table=self.name)
        indexes = (*self.indexes, *self.staged_indexes)
        if len(indexes) > MAX_INDEXES:
            raise LimitExceeded("indexes", maximum=MAX_INDEXES, actual=len(indexes), table=self.name)
        for index in indexes:
            self._check_index(index)
        if len(self.search_indexes) > MAX_SEARCH_INDEXES:
            actual = len(self.search_indexes)
            raise LimitExceeded("search indexes", maximum=MAX_SEARCH_INDEXES, actual=actual, table=self.name)
        for searched in self._searched:
            self._check_filtered(searched)
        names = [*(one.name for one in indexes), *(one.name for one in self._searched)]
        if len(set(names)) < len(names):
            raise ValidationError("two indexes have one name", table=self.name)
        for vector_index in self.vector_indexes:
            if vector_index.dimensions not in VECTOR_DIMENSIONS:
                raise ValidationError(
                    f"vector index {vector_index.name!r} has {vector_index.dimensions} dimensions, 2 to 4,096 are right",
                    table=self.name,
                )
        set_ = object.__setattr__
        set_(self, "_acceptors", {name: prop.validator.accepts for name, prop in self.fields.items()})
        vectors = tuple(name for name, prop in self.fields.items() if prop.validator == Array(Number()))
        set_(self, "vector_fields", vectors)
        set_(self, "id_fields", tuple(name for name, prop in self.fields.items() if holds_ids(prop.validator)))
        lengths: dict[str, set[int]] = {}
        for vector_index in self.vector_indexes:
            lengths.setdefault(vector_index.field, set()).add(vector_index.dimensions)
        set_(self, "_vector_lengths", lengths)
        set_(self, "_required", frozenset(name for name, prop in self.fields.items() if not prop.optional))
        set_(self, "_by_name", {**BUILT_IN_INDEXES, **{index.name: index.fields for index in self.indexes}})

    def _check_index(self, index: IndexDef) -> None:
        if not names_index(index.name):
            raise ValidationError(f"{index.name!r} cannot name an index", table=self.name)
        if not 1 <= len(index.fields) <= MAX_INDEX_FIELDS or len(set(index.fields)) < len(index.fields):
            raise ValidationError(
                f"index {index.name!r} has {len(index.fields)} fields; 1 to {MAX_INDEX_FIELDS} different ones are right",
                table=self.name,
            )
        unknown = [name for name in index.fields if name.split(".")[0] not in self.fields]
        if unknown:
            raise ValidationError(f"index {index.name!r} names {unknown[0]!r}, which is no field", table=self.name)

    @property
    def _searched(self) -> tuple[SearchIndexDef | VectorIndexDef, ...]:
        return (*self.search_indexes, *self.vector_indexes)

    def _check_filtered(self, index: SearchIndexDef | VectorIndexDef) -> None:
        if not IDENTIFIER.match(index.name):
            raise ValidationError(f"{index.name!r} cannot name an index", table=self.name)
        filtered = index.filter_fields
        if len(filtered) > MAX_FILTER_FIELDS:
            raise LimitExceeded(
                f"filter fields of index {index.name!r}",
                maximum=MAX_FILTER_FIELDS,
                actual=len(filtered),
                table=self.name,
            )
        if len(set(filtered)) < len(filtered):
            raise ValidationError(f"index {index.name!r} has a filter field twice", table=self.name)
        unknown = [name for name in (index.field, *filtered) if name.split(".")[0] not in self.fields]
        if unknown:
            raise ValidationError(f"index {index.name!r} names {unknown[0]!r}, which is no field", table=self.name)

    def declared_fields(self, index: str) -> tuple[str, ...]:
        """The fields an index is declared with. IndexRangeError if there is no such index."""
        try:
            return self._by_name[index]
        except KeyError:
            if any(one.name == index for one in self.staged_indexes):
                raise IndexRangeError(STAGED, table=self.name, index=index) from None
            declared = ", ".join(sorted(self._by_name))
            raise IndexRangeError(f"no such index; there are {declared}", table=self.name, index=index) from None

    def key_fields(self, index: str) -> tuple[str, ...]:
        """The fields of an index key but for the closing `_id`. IndexRangeError if there is no such index."""
        fields = self.declared_fields(index)
        return fields if index in BUILT_IN_INDEXES else (*fields, "_creationTime")

    def vector_index(self, index: str) -> VectorIndexDef:
        """The native vector index of this name. IndexRangeError if there is none, or it is staged."""
        return searched_index(self.name, "vector", self.vector_indexes, index)

    def search_index(self, index: str) -> SearchIndexDef:
        """The search index of this name. IndexRangeError if there is none, or it is staged."""
        return searched_index(self.name, "search", self.search_indexes, index)

    def check(self, document: Mapping[str, Value]) -> None:
        """Raise ValidationError or LimitExceeded unless this table can hold `document` (without `_id`, `_creationTime`)."""
        if self._vouches is None:
            object.__setattr__(self, "_vouches", vouching(self.fields, PLAIN, MAX_DOCUMENT_SIZE // 8))
        if not self._vouches(document):  # type: ignore[misc]
            self._check_each(document)

    def _check_each(self, document: Mapping[str, Value]) -> None:
        acceptors = self._acceptors
        scalar = True
        size = 0
        for name, value in document.items():
            accepts = acceptors.get(name)
            if accepts is None:
                raise self._unknown(name)
            if not accepts(value):
                raise self._mismatch(name, value)
            kind = type(value)
            if kind is str:
                size += len(value)
                if value.isascii():
                    continue
            elif kind is bytes:
                size += len(value)
                continue
            elif kind is bool or value is None:
                continue
            elif kind is list or kind is dict:
                scalar = False
            self._check_value(name, value)
        if len(document) < len(self.fields) and not self._required <= document.keys():
            missing = sorted(self._required - document.keys())
            raise ValidationError("required, and missing", table=self.name, field=missing[0])
        if not scalar or size > MAX_DOCUMENT_SIZE // 8:
            self.check_size(document)

    def check_size(self, document: Mapping[str, Value]) -> None:
        """Raise LimitExceeded if the document (without system fields) is larger than Convex allows."""
        size = document_size(document)
        if size > MAX_DOCUMENT_SIZE:
            raise LimitExceeded("bytes of a document", maximum=MAX_DOCUMENT_SIZE, actual=size, table=self.name)

    def check_field(self, name: str, value: Value) -> None:
        """Raise ValidationError unless the field `name` can hold `value`."""
        accepts = self._acceptors.get(name)
        if accepts is None:
            raise self._unknown(name)
        if not accepts(value):
            raise self._mismatch(name, value)
        kind = type(value)
        if not (kind is str and value.isascii()) and not (kind is float and value == value):
            self._check_value(name, value)

    def _check_value(self, name: str, value: Value) -> None:
        try:
            check_value(value, nesting=MAX_DOCUMENT_NESTING - 1)
        except ValidationError as error:
            raise ValidationError(error.problem, table=self.name, field=name) from None
        except LimitExceeded as error:
            raise LimitExceeded(
                f"{name}: {error.limit}", maximum=error.maximum, actual=error.actual, table=self.name
            ) from None
        lengths = self._vector_lengths.get(name)
        if lengths is None or not (isinstance(value, list) or is_array(value)):
            return
        if len(value) not in lengths:
            right = " or ".join(f"{length:,}" for length in sorted(lengths))
            problem = f"a vector of {len(value):,}, its index has {right} dimensions"
            raise ValidationError(problem, table=self.name, field=name)
        if not _fits_float32(value):
            problem = (
                "a vector index holds numbers of float32, got one beyond, or all of them too small to have a direction"
            )
            raise ValidationError(problem, table=self.name, field=name)

    def _mismatch(self, name: str, value: Value) -> ValidationError:
        path, validator, inner = wrong_at(self.fields[name].validator, value)
        return ValidationError(f"expected {validator.noun}, got {kind_of(inner)}", table=self.name, field=name, path=path)

    def check_unset(self, name: str) -> None:
        """Raise ValidationError unless the field `name` may be missing."""
        if name not in self.fields:
            raise self._unknown(name)
        if not self.fields[name].optional:
            raise ValidationError("required, cannot be removed", table=self.name, field=name)

    def _unknown(self, name: str) -> ValidationError:
        check_field_name(name)
        return ValidationError(f"no such field; the fields are {', '.join(self.fields)}", table=self.name, field=name)

    def renamed(self, name: str, others: Mapping[str, str] | None = None) -> Table:
        """The same table under another name, with ids of `others` as these are named."""
        fields, shapes = self.fields, self.shapes
        if others and any(others.get(one, one) != one for one in self.referred):
            fields, *others_shapes = (
                {field: attrs.evolve(prop, validator=of_others(prop.validator, others)) for field, prop in each.items()}
                for each in (fields, *shapes)
            )
            shapes = tuple(others_shapes)
        if name == self.name and fields is self.fields:
            return self
        return attrs.evolve(self, name=name, fields=fields, shapes=shapes)

    @property
    def referred(self) -> set[str]:
        """The names of the tables whose ids it holds, those of Convex itself left out."""
        tables = {one for name in self.id_fields for one in tables_of(self.fields[name].validator)}
        return {one for one in tables if not one.startswith("_")}

    def typescript(self) -> str:
        """The `defineTable(...)` expression."""
        documents = _documents(self.fields)
        if self.shapes:
            members = "".join(f"    v.object({_documents(shape)}),\n" for shape in self.shapes)
            documents = f"v.union(\n{members}  )"
        ordinary = [f"\n    {index.comment}{index.typescript()}" for index in (*self.indexes, *self.staged_indexes)]
        others = [f"\n    {index.typescript()}" for index in self._searched]
        indexes = "".join((*ordinary, *others))
        return f"defineTable({documents}){indexes}"


def _documents(fields: Mapping[str, Property]) -> str:
    return "{\n" + "".join(f"    {name}: {prop.typescript()},\n" for name, prop in fields.items()) + "  }"


def joined_shapes(shapes: Sequence[Mapping[str, Property]]) -> dict[str, Property]:
    """The fields of documents of several shapes: what is not in all of them may be missing."""
    fields: dict[str, Property] = {}
    for name in dict.fromkeys(name for shape in shapes for name in shape):
        found = [shape[name] for shape in shapes if name in shape]
        optional = len(found) < len(shapes) or any(one.optional for one in found)
        fields[name] = Property(AnyOf.of(*(one.validator for one in found)), optional)
    return fields


def _fits_float32(numbers: Any) -> bool:
    """Whether float32 holds the direction of a vector, to its precision."""
    least, most = VECTOR_NUMBERS
    if is_array(numbers):
        largest = abs(numbers).max(initial=0.0)  # NaN if one is
    else:
        largest = math.nan if any(map(math.isnan, numbers)) else max(map(abs, numbers), default=0.0)
    return bool(largest == 0 or least <= largest <= most)  # False for NaN, too
