"""The declared tables as data: what Convex's `schema.ts` says, in Python.

A `Schema` holds `Table`s, a `Table` holds validated fields and indexes. Models produce them, deployments obey them,
`to_typescript` writes them as `convex/schema.ts`, and `compare` tells two of them apart. Nothing here knows of models.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import attrs

from convexorm.checks import vouching
from convexorm.errors import IndexRangeError, LimitExceeded, ValidationError
from convexorm.foreign import is_array, is_int64
from convexorm.values import (
    MAX_DOCUMENT_NESTING,
    MAX_DOCUMENT_SIZE,
    MAX_OBJECT_FIELDS,
    MAX_SAFE_INTEGER,
    Value,
    check_field_name,
    check_value,
    document_size,
    is_number_array,
)

__all__ = [
    "BUILT_IN_INDEXES",
    "COUNTERS",
    "LEDGER",
    "SCHEDULED",
    "STORAGE",
    "SYSTEM_TABLES",
    "AnyOf",
    "AnyValue",
    "Array",
    "Boolean",
    "Bytes",
    "CounterDef",
    "Id",
    "IndexDef",
    "Int64",
    "Literal",
    "Null",
    "Number",
    "Object",
    "Property",
    "Record",
    "Schema",
    "SearchIndexDef",
    "String",
    "Table",
    "Validator",
    "VectorIndexDef",
    "holds_text",
    "ids_in",
    "joined_shapes",
    "to_fragment",
    "to_typescript",
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
VECTOR_NUMBERS = (2.0**-126, float(2**128 - 2**104))
"""Between which the largest number of a vector lies that an index can compare: it holds float32 (Convex limit)."""
SYSTEM_FIELDS = ("_id", "_creationTime")
"""Fields that Convex gives every document."""
BUILT_IN_INDEXES: Mapping[str, tuple[str, ...]] = {"by_creation_time": ("_creationTime",), "by_id": ("_id",)}
"""The indexes every table has, with their fields but for the `_id` that ends each key."""

JAVASCRIPT_NAMES = frozenset(
    ("constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf")
)
"""What every object of JavaScript has, so that a field of this name never seems to be missing there."""

_UNIQUE = "// unique: kept by convexorm, and by functions that use uniqueIn of ./orm/unique"

SYSTEM_TABLES = ("_storage", "_scheduled_functions")
"""Tables that Convex has of itself, which functions and sessions only read."""
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")


# -- validators ----------------------------------------------------------------------------------------------------


@attrs.frozen
class Validator:
    """What a field may hold. `noun` names it in messages."""

    noun: ClassVar[str] = "any value"

    def accepts(self, value: Value) -> bool:
        """Whether `value` is of this type. Only the type: sizes and nesting are the document's business."""
        raise NotImplementedError

    def typescript(self) -> str:
        """The validator as TypeScript, in terms of `v` of `convex/values`."""
        raise NotImplementedError


@attrs.frozen
class _Scalar(Validator):
    kinds: ClassVar[frozenset[type]]
    builder: ClassVar[str]

    def accepts(self, value: Value) -> bool:
        return type(value) in self.kinds

    def typescript(self) -> str:
        return f"v.{self.builder}()"


@attrs.frozen
class Null(_Scalar):
    noun, builder, kinds = "null", "null", frozenset((type(None),))


@attrs.frozen
class Boolean(_Scalar):
    noun, builder, kinds = "a boolean", "boolean", frozenset((bool,))


@attrs.frozen
class Number(_Scalar):
    """float64. Python ints count, as long as they are exact in a float64."""

    noun, builder, kinds = "a number", "number", frozenset((float, int))


@attrs.frozen
class Int64(_Scalar):
    noun, builder, kinds = "an int64", "int64", frozenset()

    def accepts(self, value: Value) -> bool:
        return is_int64(value)


@attrs.frozen
class String(_Scalar):
    noun, builder, kinds = "a string", "string", frozenset((str,))


@attrs.frozen
class Bytes(_Scalar):
    noun, builder, kinds = "bytes", "bytes", frozenset((bytes,))


@attrs.frozen
class AnyValue(Validator):
    """Any Convex value."""

    def accepts(self, value: Value) -> bool:
        return True

    def typescript(self) -> str:
        return "v.any()"


@attrs.frozen
class Literal(Validator):
    """Exactly `value`: 1 is 1.0, but not True."""

    value: str | float | bool = attrs.field(eq=lambda value: (isinstance(value, bool), value))

    @property
    def noun(self) -> str:  # type: ignore[override]
        return repr(self.value)

    def accepts(self, value: Value) -> bool:
        return bool(value == self.value) and isinstance(value, bool) == isinstance(self.value, bool)

    def typescript(self) -> str:
        return f"v.literal({json.dumps(self.value)})"


@attrs.frozen
class Id(Validator):
    """The `_id` of a document of `table`. Which table an id belongs to, only the deployment knows."""

    table: str

    @property
    def noun(self) -> str:  # type: ignore[override]
        return f"an id of table {self.table!r}"

    def accepts(self, value: Value) -> bool:
        return type(value) is str

    def typescript(self) -> str:
        return f"v.id({json.dumps(self.table)})"


@attrs.frozen
class Array(Validator):
    """A list of `items`. A numpy array that stands for a list of numbers is one of `Number`."""

    items: Validator

    @property
    def noun(self) -> str:  # type: ignore[override]
        return f"an array of {self.items.noun}"

    def accepts(self, value: Value) -> bool:
        if type(value) is list:
            return all(map(self.items.accepts, value))
        return isinstance(self.items, Number) and is_number_array(value)

    def typescript(self) -> str:
        return f"v.array({self.items.typescript()})"


@attrs.frozen
class Record(Validator):
    """An object with any keys, all of whose values are `values`."""

    values: Validator
    noun = "an object"

    def accepts(self, value: Value) -> bool:
        return type(value) is dict and all(map(self.values.accepts, value.values()))

    def typescript(self) -> str:
        return f"v.record(v.string(), {self.values.typescript()})"


@attrs.frozen
class Property:
    """A field of an object: its validator, and whether it may be missing."""

    validator: Validator
    optional: bool = False

    @property
    def noun(self) -> str:
        return self.validator.noun

    def typescript(self) -> str:
        inner = self.validator.typescript()
        return f"v.optional({inner})" if self.optional else inner


def _frozen_mapping(value: Mapping[str, Property]) -> Mapping[str, Property]:
    return dict(value)


@attrs.frozen
class Object(Validator):
    """An object with these `fields` and no others."""

    fields: Mapping[str, Property] = attrs.field(converter=_frozen_mapping, hash=False)
    noun = "an object"

    def accepts(self, value: Value) -> bool:
        if type(value) is not dict or not value.keys() <= self.fields.keys():
            return False
        return all(
            prop.validator.accepts(value[name]) if name in value else prop.optional for name, prop in self.fields.items()
        )

    def typescript(self) -> str:
        inner = ", ".join(f"{json.dumps(name)}: {prop.typescript()}" for name, prop in self.fields.items())
        return f"v.object({{ {inner} }})" if inner else "v.object({})"


@attrs.frozen
class AnyOf(Validator):
    """A union. `AnyOf.of` flattens and drops repetitions."""

    members: tuple[Validator, ...]

    @classmethod
    def of(cls, *members: Validator) -> Validator:
        """One of these: the only one itself, if only one is left; anything, if one of them takes anything."""
        flat: list[Validator] = []
        for member in members:
            for one in member.members if isinstance(member, AnyOf) else (member,):
                if isinstance(one, AnyValue):
                    return one
                if one not in flat:
                    flat.append(one)
        return flat[0] if len(flat) == 1 else cls(tuple(flat))

    @property
    def noun(self) -> str:  # type: ignore[override]
        return " or ".join(member.noun for member in self.members)

    def accepts(self, value: Value) -> bool:
        return any(member.accepts(value) for member in self.members)

    def typescript(self) -> str:
        return f"v.union({', '.join(member.typescript() for member in self.members)})"


# -- tables --------------------------------------------------------------------------------------------------------


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


def names_field(name: str) -> bool:
    """Whether a field of a table may have this name, here and in Convex."""
    return _IDENTIFIER.match(name) is not None and name not in JAVASCRIPT_NAMES


def names_index(name: str) -> bool:
    """Whether an index may have this name."""
    return _IDENTIFIER.match(name) is not None and name not in BUILT_IN_INDEXES


@attrs.frozen(cache_hash=True)
class Table:
    """One table: its name, its fields and its indexes.

    Raises ValidationError or LimitExceeded for a definition Convex would refuse.
    """

    name: str
    fields: Mapping[str, Property] = attrs.field(converter=_frozen_mapping, hash=False)
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
        if not _IDENTIFIER.match(self.name) and self.name not in SYSTEM_TABLES:
            raise ValidationError("a table's name is a letter, then letters, digits and underscores, at most 64")
        for name in self.fields:
            if names_field(name):
                continue
            if not _IDENTIFIER.match(name):
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
        set_(self, "id_fields", tuple(name for name, prop in self.fields.items() if _holds_ids(prop.validator)))
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
        if not _IDENTIFIER.match(index.name):
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
                raise IndexRangeError(_STAGED, table=self.name, index=index) from None
            declared = ", ".join(sorted(self._by_name))
            raise IndexRangeError(f"no such index; there are {declared}", table=self.name, index=index) from None

    def key_fields(self, index: str) -> tuple[str, ...]:
        """The fields of an index key but for the closing `_id`. IndexRangeError if there is no such index."""
        fields = self.declared_fields(index)
        return fields if index in BUILT_IN_INDEXES else (*fields, "_creationTime")

    def vector_index(self, index: str) -> VectorIndexDef:
        """The native vector index of this name. IndexRangeError if there is none, or it is staged."""
        return _searched(self.name, "vector", self.vector_indexes, index)

    def search_index(self, index: str) -> SearchIndexDef:
        """The search index of this name. IndexRangeError if there is none, or it is staged."""
        return _searched(self.name, "search", self.search_indexes, index)

    def check(self, document: Mapping[str, Value]) -> None:
        """Raise ValidationError or LimitExceeded unless this table can hold `document` (without `_id`, `_creationTime`)."""
        if self._vouches is None:
            object.__setattr__(self, "_vouches", vouching(self.fields, _PLAIN, MAX_DOCUMENT_SIZE // 8))
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
        if type(value) is not str or not value.isascii():
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
        path, validator, inner = _wrong(self.fields[name].validator, value)
        return ValidationError(f"expected {validator.noun}, got {_kind(inner)}", table=self.name, field=name, path=path)

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
                {field: attrs.evolve(prop, validator=_of_others(prop.validator, others)) for field, prop in each.items()}
                for each in (fields, *shapes)
            )
            shapes = tuple(others_shapes)
        if name == self.name and fields is self.fields:
            return self
        return attrs.evolve(self, name=name, fields=fields, shapes=shapes)

    @property
    def referred(self) -> set[str]:
        """The names of the tables whose ids it holds, those of Convex itself left out."""
        tables = {one for name in self.id_fields for one in _tables_of(self.fields[name].validator)}
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


def _searched(table: str, kind: str, indexes: Sequence[_Filtered], name: str) -> _Filtered:
    """The index of this name that is searched. IndexRangeError if there is none, or it is staged."""
    found = next((index for index in indexes if index.name == name), None)
    if found is None:
        declared = ", ".join(one.name for one in indexes if not one.staged) or "none"
        raise IndexRangeError(f"no such {kind} index; there are {declared}", table=table, index=name)
    if found.staged:
        raise IndexRangeError(_STAGED, table=table, index=name)
    return found


_STAGED = "it is staged: declare it without `staged` once Convex has built it"
_TEXT = "type(value) is str and (value.isascii() or is_text(value))"
_SAFE = MAX_SAFE_INTEGER
_PLAIN: Mapping[type[Validator], str] = {
    Null: "value is None",
    Boolean: "type(value) is bool",
    Number: f"type(value) is float and value == value or type(value) is int and -{_SAFE} <= value <= {_SAFE}",
    String: _TEXT,
    Id: _TEXT,
}
"""Of which validators a value is known to be right by itself, whatever else the document holds, and by what."""


def _wrong(validator: Validator, value: Value) -> tuple[str, Validator, Value]:
    """Where in a value that a validator does not accept it goes wrong: the path, what is expected there, what is there."""
    if isinstance(validator, Array) and type(value) is list:
        inside: Iterable[tuple[Any, Validator, Value]] = ((place, validator.items, one) for place, one in enumerate(value))
    elif isinstance(validator, Record) and type(value) is dict:
        inside = ((name, validator.values, one) for name, one in value.items())
    elif isinstance(validator, Object) and type(value) is dict:
        fields = validator.fields
        inside = ((name, fields[name].validator, one) for name, one in value.items() if name in fields)
    else:
        return "", validator, value
    for step, expected, one in inside:
        if not expected.accepts(one):
            path, innermost, found = _wrong(expected, one)
            return f"[{json.dumps(step, ensure_ascii=False)}]{path}", innermost, found
    return "", validator, value


def _inside(validator: Validator) -> Iterable[Validator]:
    """The validators that one is made of."""
    if isinstance(validator, Array):
        return (validator.items,)
    if isinstance(validator, Record):
        return (validator.values,)
    if isinstance(validator, Object):
        return [prop.validator for prop in validator.fields.values()]
    return validator.members if isinstance(validator, AnyOf) else ()


def holds_text(validator: Validator) -> bool:
    """Whether some of the values that a validator accepts are texts, other than ids."""
    if isinstance(validator, AnyOf):
        return any(map(holds_text, validator.members))
    return isinstance(validator, String | AnyValue) or (isinstance(validator, Literal) and isinstance(validator.value, str))


def _holds_ids(validator: Validator) -> bool:
    return isinstance(validator, Id) or any(map(_holds_ids, _inside(validator)))


def _tables_of(validator: Validator) -> Iterator[str]:
    if isinstance(validator, Id):
        yield validator.table
    for one in _inside(validator):
        yield from _tables_of(one)


def _of_others(validator: Validator, names: Mapping[str, str]) -> Validator:
    """The validator with other names for the tables whose ids it takes."""
    if isinstance(validator, Id):
        return Id(names.get(validator.table, validator.table))
    if isinstance(validator, Array):
        return Array(_of_others(validator.items, names))
    if isinstance(validator, Record):
        return Record(_of_others(validator.values, names))
    if isinstance(validator, Object):
        fields = validator.fields.items()
        return Object({name: attrs.evolve(one, validator=_of_others(one.validator, names)) for name, one in fields})
    if isinstance(validator, AnyOf):
        return AnyOf.of(*(_of_others(one, names) for one in validator.members))
    return validator


def ids_in(validator: Validator, value: Value, is_of: Callable[[str, str], bool]) -> bool:
    """Whether a value, which the validator accepts, holds ids of the right tables alone, as `is_of(table, id)` tells."""
    if isinstance(validator, AnyOf):
        return any(one.accepts(value) and ids_in(one, value, is_of) for one in validator.members)
    if not _holds_ids(validator):
        return True
    if isinstance(validator, Id):
        return is_of(validator.table, str(value))
    if isinstance(validator, Array):
        return all(ids_in(validator.items, one, is_of) for one in _listed(value))
    if isinstance(validator, Record):
        return all(ids_in(validator.values, one, is_of) for one in _mapped(value).values())
    assert isinstance(validator, Object)
    return all(ids_in(validator.fields[name].validator, one, is_of) for name, one in _mapped(value).items())


def _listed(value: Value) -> Iterable[Value]:
    return value if isinstance(value, list) else ()


def _mapped(value: Value) -> Mapping[str, Value]:
    return value if isinstance(value, dict) else {}


def _fits_float32(numbers: Any) -> bool:
    """Whether float32 holds the direction of a vector, to its precision."""
    least, most = VECTOR_NUMBERS
    if is_array(numbers):
        largest = abs(numbers).max(initial=0.0)  # NaN if one is
    else:
        largest = math.nan if any(map(math.isnan, numbers)) else max(map(abs, numbers), default=0.0)
    return bool(largest == 0 or least <= largest <= most)  # False for NaN, too


def _kind(value: Value) -> str:
    return "null" if value is None else {"dict": "object", "list": "array"}.get(type(value).__name__, type(value).__name__)


LEDGER = Table(
    name="convexorm_commits",
    fields={"commitId": Property(String()), "answer": Property(String())},
    indexes=(IndexDef("by_commit", ("commitId",)),),
)
"""Where `orm:commit` remembers its answers, so that a commit sent again is not applied again."""
COUNTERS = Table(
    name="convexorm_counters",
    fields={
        "counter": Property(String()),
        "key": Property(String()),
        "shard": Property(Number()),
        "count": Property(Number()),
        "sum": Property(String()),
    },
    indexes=(IndexDef("by_counter", ("counter", "key", "shard")),),
)
"""Where counts and sums are kept, for tables that declare some."""


STORAGE = Table(
    name="_storage",
    fields={
        "sha256": Property(String()),
        "size": Property(Number()),
        "contentType": Property(String(), optional=True),
    },
)
"""Convex's own table of files."""
SCHEDULED = Table(
    name="_scheduled_functions",
    fields={
        "name": Property(String()),
        "args": Property(Array(AnyValue())),
        "scheduledTime": Property(Number()),
        "completedTime": Property(Number(), optional=True),
        "state": Property(AnyValue()),
    },
)
"""Convex's own table of functions that are to run later, or have run."""


# -- schemas -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Schema:
    """A set of tables, in order of declaration. Two different definitions of one name are a ValidationError."""

    tables: Mapping[str, Table]

    @classmethod
    def of(cls, tables: Iterable[Table]) -> Schema:
        """The schema of these tables; the same table twice is one."""
        named: dict[str, Table] = {}
        for table in tables:
            if named.setdefault(table.name, table) != table:
                raise ValidationError("declared twice, differently", table=table.name)
        return cls(named)

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables.values())


def to_typescript(schema: Schema) -> str:
    """`convex/schema.ts` for these tables and the commit ledger."""
    ours = (*((COUNTERS,) if any(table.counters for table in schema) else ()), LEDGER)
    tables = (*(table for table in schema if table.name not in (LEDGER.name, COUNTERS.name)), *ours)
    return _IMPORTS.format("defineSchema, defineTable") + f"export default defineSchema({{\n{_members(tables)}}});\n"


def to_fragment(schema: Schema, name: str) -> str:
    """A module that exports these tables and no others as an object `name`, to spread into a schema."""
    return _IMPORTS.format("defineTable") + f"export const {name} = {{\n{_members(schema)}}};\n"


_IMPORTS = """\
import {{ {} }} from "convex/server";
import {{ v }} from "convex/values";

"""


def _members(tables: Iterable[Table]) -> str:
    return "".join(f"  {table.name}: {table.typescript()},\n" for table in tables)
