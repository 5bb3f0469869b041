"""Validators: what a field may hold, as `v` of Convex says it, and what is found out of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import attrs

from convexorm.foreign import is_int64
from convexorm.values import MAX_SAFE_INTEGER, Value, is_number_array

__all__ = [
    "PLAIN",
    "AnyOf",
    "AnyValue",
    "Array",
    "Boolean",
    "Bytes",
    "Id",
    "Int64",
    "Literal",
    "Null",
    "Number",
    "Object",
    "Property",
    "Record",
    "String",
    "Validator",
    "frozen_mapping",
    "holds_ids",
    "holds_text",
    "ids_in",
    "kind_of",
    "of_others",
    "tables_of",
    "wrong_at",
]


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


def frozen_mapping(value: Mapping[str, Property]) -> Mapping[str, Property]:
    return dict(value)


@attrs.frozen
class Object(Validator):
    """An object with these `fields` and no others."""

    fields: Mapping[str, Property] = attrs.field(converter=frozen_mapping, hash=False)
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


_TEXT = "type(value) is str and (value.isascii() or is_text(value))"


_SAFE = MAX_SAFE_INTEGER


PLAIN: Mapping[type[Validator], str] = {
    Null: "value is None",
    Boolean: "type(value) is bool",
    Number: f"type(value) is float and value == value or type(value) is int and -{_SAFE} <= value <= {_SAFE}",
    String: _TEXT,
    Id: _TEXT,
}
"""Of which validators a value is known to be right by itself, whatever else the document holds, and by what."""


def wrong_at(validator: Validator, value: Value) -> tuple[str, Validator, Value]:
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
            path, innermost, found = wrong_at(expected, one)
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


def holds_ids(validator: Validator) -> bool:
    return isinstance(validator, Id) or any(map(holds_ids, _inside(validator)))


def tables_of(validator: Validator) -> Iterator[str]:
    if isinstance(validator, Id):
        yield validator.table
    for one in _inside(validator):
        yield from tables_of(one)


def of_others(validator: Validator, names: Mapping[str, str]) -> Validator:
    """The validator with other names for the tables whose ids it takes."""
    if isinstance(validator, Id):
        return Id(names.get(validator.table, validator.table))
    if isinstance(validator, Array):
        return Array(of_others(validator.items, names))
    if isinstance(validator, Record):
        return Record(of_others(validator.values, names))
    if isinstance(validator, Object):
        fields = validator.fields.items()
        return Object({name: attrs.evolve(one, validator=of_others(one.validator, names)) for name, one in fields})
    if isinstance(validator, AnyOf):
        return AnyOf.of(*(of_others(one, names) for one in validator.members))
    return validator


def ids_in(validator: Validator, value: Value, is_of: Callable[[str, str], bool]) -> bool:
    """Whether a value, which the validator accepts, holds ids of the right tables alone, as `is_of(table, id)` tells."""
    if isinstance(validator, AnyOf):
        return any(one.accepts(value) and ids_in(one, value, is_of) for one in validator.members)
    if not holds_ids(validator):
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


def kind_of(value: Value) -> str:
    return "null" if value is None else {"dict": "object", "list": "array"}.get(type(value).__name__, type(value).__name__)
