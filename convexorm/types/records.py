"""Classes with named fields as objects: dataclasses, attrs classes, NamedTuples, TypedDicts, pydantic models.

A value is stored only as what it is: an instance of a subclass would lose what the subclass adds, and is refused.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import typing_extensions

from convexorm import schema
from convexorm.errors import ValidationError
from convexorm.schema import Property
from convexorm.types.codec import ColumnType, dumper, key_step, loader, refuse, total, within
from convexorm.values import MISSING, Value, check_field_name

__all__ = ["Member", "RecordType", "Shape", "TypedDictType", "shape_of"]


@attrs.frozen
class Member:
    """A field of a class: what `__init__` calls it, None where it does not take it, and whether it may be left out."""

    init: str | None
    has_default: bool = False


@attrs.frozen
class Shape:
    """What there is to know of a class with named fields.

    `make` calls it with what is known by the names of `__init__`. `restored` says that what `make` answers may differ from
    what it was given, because the class has converters or code of its own that runs then. `frozen` that instances cannot be
    changed in place. `annotations` are those that the class has looked up itself.
    """

    members: Mapping[str, Member]
    make: Callable[[dict[str, Any]], Any]
    restored: bool = False
    frozen: bool = False
    annotations: Mapping[str, Any] = attrs.field(factory=dict)


def shape_of(kind: type) -> Shape | None:
    """The shape of a class, None for one without named fields. ValidationError for one that could not be loaded."""
    if attrs.has(kind):
        return _attrs_shape(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass_shape(kind)
    if issubclass(kind, tuple) and hasattr(kind, "_field_defaults"):
        members = {name: Member(name, name in kind._field_defaults) for name in kind._fields}  # type: ignore[attr-defined]
        return Shape(members, lambda values: kind(**values), frozen=True)
    pydantic = sys.modules.get("pydantic")  # a class of its models cannot be there without it
    if pydantic is not None and issubclass(kind, pydantic.BaseModel):
        return _pydantic_shape(kind)
    return None


def _attrs_shape(kind: type) -> Shape:
    fields = attrs.fields(kind)
    members = {one.name: Member(one.alias if one.init else None, one.default is not attrs.NOTHING) for one in fields}
    restored = any(one.converter is not None for one in fields) or hasattr(kind, "__attrs_post_init__")
    frozen = "frozen" in getattr(kind.__setattr__, "__name__", "")
    return Shape(members, lambda values: kind(**values), restored, frozen)


def _dataclass_shape(kind: type) -> Shape:
    members: dict[str, Member] = {}
    for one in dataclasses.fields(kind):
        has_default = one.default is not dataclasses.MISSING or one.default_factory is not dataclasses.MISSING
        members[one.name] = Member(one.name if one.init else None, has_default)
    declared = kind.__dataclass_fields__  # type: ignore[attr-defined]
    unstored = [name for name, one in declared.items() if one._field_type is dataclasses._FIELD_INITVAR]  # type: ignore[attr-defined]
    if unstored:
        raise ValidationError(
            f"{kind.__name__}.{unstored[0]} is an InitVar, which is not kept and could not be given again; make it a field"
        )
    frozen = bool(kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    return Shape(members, lambda values: kind(**values), hasattr(kind, "__post_init__"), frozen)


def _pydantic_shape(kind: Any) -> Shape:
    if kind.model_config.get("extra") == "allow":
        raise ValidationError(f"{kind.__name__} allows extra fields, which have no type; declare a dict for them")
    members = {name: Member(name, not one.is_required()) for name, one in kind.model_fields.items()}
    frozen = bool(kind.model_config.get("frozen"))
    annotations = {name: _noted(one.annotation, one.metadata) for name, one in kind.model_fields.items()}
    return Shape(members, lambda values: kind.model_construct(**values), frozen=frozen, annotations=annotations)


def _noted(annotation: Any, notes: Sequence[Any]) -> Any:
    """An annotation with the column type that stood beside it."""
    return next((typing.Annotated[annotation, note] for note in notes if isinstance(note, ColumnType)), annotation)


@total
class RecordType(ColumnType[Any]):
    """An instance of exactly one class as an object of its fields."""

    def __init__(self, kind: Any, shape: Shape, fields: Mapping[str, ColumnType[Any]]) -> None:
        self.kind: type = kind
        self.fields = fields
        for name in fields:
            check_field_name(name)
            if name in schema.JAVASCRIPT_NAMES:
                raise ValidationError(f"{kind.__name__}.{name}: every object of JavaScript has something of this name")
        self.mutable = not shape.frozen or any(codec.mutable for codec in fields.values())
        self.validator = schema.Object({name: Property(codec.validator) for name, codec in fields.items()})
        self._dumps = [(name, dumper(codec)) for name, codec in fields.items()]
        self._loads = [(name, shape.members[name], loader(codec)) for name, codec in fields.items()]
        self._make = shape.make
        self._restored = shape.restored

    @property
    def name(self) -> str:
        return self.kind.__name__

    def dump(self, value: Any) -> Value:
        if type(value) is not self.kind:
            refuse(self.name, value)
        members: dict[str, Value] = {}
        name = ""
        try:
            for name, dump in self._dumps:
                members[name] = dump(getattr(value, name))
        except ValidationError as error:
            raise within(f".{name}", error) from error.__cause__
        except AttributeError as error:
            raise ValidationError("not set", path=f".{name}") from error
        return members

    def load(self, value: Value) -> Any:
        if type(value) is not dict:
            refuse(f"{self.name} (an object)", value)
        given: dict[str, Any] = {}
        after: dict[str, Any] = {}
        for name, member, load in self._loads:
            stored = value.get(name, MISSING)
            if stored is MISSING:
                if member.has_default or member.init is None:
                    continue
                raise ValidationError("missing", path=f".{name}")
            try:
                loaded = load(stored)
            except ValidationError as error:
                raise within(f".{name}", error) from error.__cause__
            if member.init is None:
                after[name] = loaded
            else:
                given[member.init] = loaded
                if self._restored:
                    after[name] = loaded
        try:
            made = self._make(given)
            for name, loaded in after.items():
                object.__setattr__(made, name, loaded)
        except Exception as error:
            raise ValidationError(f"{self.name} does not take what is stored") from error
        return made

    def sample(self, name: str, number: int) -> Any:
        members = {member.init: (field, member) for field, member, _ in self._loads if member.init is not None}
        return self._make(
            {
                init: self.fields[field].sample(field, number)
                for init, (field, member) in members.items()
                if not member.has_default
            }
        )


@total
class TypedDictType(RecordType):
    """A dict with the keys of a TypedDict, all of them checked, as an object."""

    def __init__(self, kind: Any, fields: Mapping[str, ColumnType[Any]], optional: frozenset[str]) -> None:
        super().__init__(kind, Shape({name: Member(name, name in optional) for name in fields}, dict), fields)
        self.kind = dict
        self._name = str(kind.__name__)
        self._optional = optional
        self.validator = schema.Object(
            {name: Property(codec.validator, optional=name in optional) for name, codec in fields.items()}
        )

    @property
    def name(self) -> str:
        return self._name

    def dump(self, value: Any) -> Value:
        if not isinstance(value, dict):
            refuse(self.name, value)
        members: dict[str, Value] = {}
        for name, dump in self._dumps:
            if name in value:
                try:
                    members[name] = dump(value[name])
                except ValidationError as error:
                    raise within(key_step(name), error) from error.__cause__
            elif name not in self._optional:
                raise ValidationError("missing", path=key_step(name))
        for key in value:
            if key not in members:
                raise ValidationError(f"no such key; {self.name} has {', '.join(self.fields)}", path=key_step(key))
        return members


def optional_keys(kind: Any, hints: Mapping[str, Any]) -> frozenset[str]:
    """The keys that a TypedDict can do without, those that are said so in a postponed annotation among them."""
    optional = set(kind.__optional_keys__)
    for name, hint in hints.items():
        origin = typing.get_origin(hint)
        if origin in (typing.NotRequired, typing_extensions.NotRequired):
            optional.add(name)
        elif origin in (typing.Required, typing_extensions.Required):
            optional.discard(name)
    return frozenset(optional)
