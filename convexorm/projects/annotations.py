"""`Annotations`: Python's words for validators, and the classes that they need."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from typing import Any

from convexorm import schema
from convexorm.projects.names import class_name, unused
from convexorm.schema import (
    AnyOf,
    AnyValue,
    Array,
    Boolean,
    Bytes,
    Id,
    Int64,
    Literal,
    Null,
    Number,
    Object,
    Property,
    Record,
    String,
    Validator,
)

__all__ = ["WORDS", "Annotations", "constant", "discriminator_of", "without_null"]

_SCALARS: Mapping[type[Validator], str] = {
    Boolean: "bool",
    Bytes: "bytes",
    Number: "float",
    String: "str",
    Null: "None",
}

WORDS = frozenset(
    ("str", "int", "float", "bool", "bytes", "list", "dict", "field", "attrs", "schema", "Any", "Literal", "NotRequired")
) | {"Id", "Index", "Int64", "Mapped", "SearchIndex", "TypedDict", "VectorIndex", "AnyType"}
"""What annotations and columns are written with: an attribute of such a name would stand for something else below it."""


class Annotations:
    """Writes the annotations of one module, and gathers the classes and imports that they need.

    `reference` says how an id of a table is written, `known` names the model whose documents an object is, if it is one;
    `taken` are names that the module has for other things. With `plain` all classes are those of dictionaries.
    """

    def __init__(
        self,
        reference: Callable[[Id], str],
        taken: set[str],
        known: Callable[[Object], str | None] = lambda _: None,
        *,
        plain: bool = False,
    ) -> None:
        self.classes: dict[str, str] = {}
        self.imports: set[tuple[str, str]] = set()
        self._reference = reference
        self.taken = taken
        self._known = known
        self._plain = plain
        self._shapes: dict[tuple[str, str], str] = {}

    def use(self, module: str, name: str) -> str:
        """A name that is imported."""
        self.imports.add((module, name))
        return name

    def of(self, validator: Validator, *place: str) -> str:
        """The annotation for a validator that stands at a place: the names that lead there."""
        kind = type(validator)
        if kind in _SCALARS:
            return _SCALARS[kind]
        match validator:
            case AnyValue():
                return self.use("typing", "Any")
            case Int64():
                return self.use("convexorm", "Int64")
            case Id():
                return self._reference(validator)
            case Literal():
                return self._literals([validator])
            case Array(items):
                return f"list[{self.of(items, *place)}]"
            case Record(values):
                return f"dict[str, {self.of(values, *place)}]"
            case Object():
                return self._class(validator, place)
            case AnyOf(members):
                return self._union(members, place)
        return self.use("typing", "Any")

    # -- unions ----------------------------------------------------------------------------------------------------

    def _union(self, members: tuple[Validator, ...], place: tuple[str, ...]) -> str:
        if not members:
            return self.use("typing", "NoReturn")
        literals = [one for one in members if isinstance(one, Literal)]
        objects = [one for one in members if isinstance(one, Object)]
        told_by = discriminator_of(objects)
        parts: list[str] = []
        for member in members:
            if isinstance(member, Null) or (literals and isinstance(member, Literal) and member is not literals[0]):
                continue
            if isinstance(member, Literal):
                parts.append(self._literals(literals))
            elif isinstance(member, Object) and told_by is not None and len(objects) > 1:
                value = member.fields[told_by].validator
                parts.append(self._class(member, (*place, str(value.value) if isinstance(value, Literal) else "")))
            else:
                parts.append(self.of(member, *place))
        if any(isinstance(one, Null) for one in members):
            parts.append("None")
        return " | ".join(dict.fromkeys(parts))

    def _literals(self, literals: list[Literal]) -> str:
        values = ", ".join(constant(one.value) for one in literals)
        return f"{self.use('typing', 'Literal')}[{values}]"

    # -- classes ---------------------------------------------------------------------------------------------------

    def _class(self, shape: Object, place: tuple[str, ...]) -> str:
        """The name of the class for an object: one class for each shape at each place, but for those that are known."""
        model = self._known(shape)
        if model is not None:
            return model
        wanted = class_name(*place)
        known = self._shapes.get((wanted, shape.typescript()))
        if known is not None:
            return known
        name = unused(wanted, self.taken)
        self.taken.add(name)
        self._shapes[wanted, shape.typescript()] = name
        members = {field: self._member(prop, (*place, field)) for field, prop in shape.fields.items()}
        named = all(_is_attribute(field) for field in shape.fields)
        if not self._plain and named and shape.fields and not any(prop.optional for prop in shape.fields.values()):
            self.imports.add(("", "attrs"))
            body = "\n".join(f"    {field}: {annotation}" for field, annotation in members.items())
            self.classes[name] = f"@attrs.define\nclass {name}:\n{body}"
        else:
            self.classes[name] = self._typed_dict(name, members, named)
        return name

    def _member(self, prop: Property, place: tuple[str, ...]) -> str:
        annotation = self.of(prop.validator, *place)
        return f"{self.use('typing', 'NotRequired')}[{annotation}]" if prop.optional else annotation

    def _typed_dict(self, name: str, members: Mapping[str, str], named: bool) -> str:
        base = self.use("typing", "TypedDict")
        if named:
            body = "\n".join(f"    {field}: {annotation}" for field, annotation in members.items()) or "    pass"
            return f"class {name}({base}):\n{body}"
        body = "".join(f"        {constant(field)}: {annotation},\n" for field, annotation in members.items())
        return f"{name} = {base}(\n    {constant(name)},\n    {{\n{body}    }},\n)"


def without_null(validator: Validator) -> tuple[Validator, bool]:
    """The validator without null, and whether that was one of its members. Null alone stays."""
    if not isinstance(validator, AnyOf) or not any(isinstance(one, Null) for one in validator.members):
        return validator, False
    return AnyOf.of(*(one for one in validator.members if not isinstance(one, Null))), True


def discriminator_of(objects: list[Object]) -> str | None:
    """The field whose literals tell objects apart."""
    for field in objects[0].fields if objects else ():
        found = [prop.validator for one in objects if (prop := one.fields.get(field)) is not None and not prop.optional]
        values = [one.value for one in found if isinstance(one, schema.Literal)]
        if len(values) == len(objects) == len(set(map(repr, values))):
            return field
    return None


def _is_attribute(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_") and name not in WORDS


def constant(value: Any) -> str:
    """A constant as Python source, with the quotes that formatters prefer."""
    if not isinstance(value, str):
        return repr(int(value)) if isinstance(value, float) and value.is_integer() else repr(value)
    text = repr(value)
    return text if '"' in value or text[0] == '"' else f'"{text[1:-1]}"'
