"""Classes with named fields as objects: dataclasses, attrs classes, NamedTuples, TypedDicts, pydantic models.

A value is stored only as what it is: an instance of a subclass would lose what the subclass adds, and is refused.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
import typing_extensions

from convexorm import schema
from convexorm.errors import ValidationError
from convexorm.schema import Property
from convexorm.types.codec import ColumnType, dumper, key_step, loader, refuse, rounded, total, within
from convexorm.types.names import annotations_of, is_class_variable
from convexorm.values import MISSING, Value, check_field_name, same

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
    what it was given, `choosy` that it may not take what an instance holds: for the class has converters, validators, or
    code of its own that runs then. `wilful` that it has such code for setting and reading attributes, so that they may not
    be what they are set to. `frozen` that instances cannot be changed in place. `annotations` are those that the class has
    looked up itself.
    """

    members: Mapping[str, Member]
    make: Callable[[dict[str, Any]], Any]
    restored: bool = False
    choosy: bool = False
    wilful: bool = False
    frozen: bool = False
    annotations: Mapping[str, Any] = attrs.field(factory=dict)


def shape_of(kind: type) -> Shape | None:
    """The shape of a class, None for one without named fields. ValidationError for one that could not be loaded."""
    if attrs.has(kind):
        return _attrs_shape(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass_shape(kind)
    if issubclass(kind, tuple) and hasattr(kind, "_field_defaults"):
        return _named_tuple_shape(kind)
    pydantic = sys.modules.get("pydantic")  # a class of its models cannot be there without it
    if pydantic is not None and issubclass(kind, pydantic.BaseModel):
        return _pydantic_shape(kind)
    return None


def _attrs_shape(kind: type) -> Shape:
    _check_fields(kind, "__attrs_attrs__", [one.name for one in attrs.fields(kind)])
    fields = attrs.fields(kind)
    members = {one.name: Member(one.alias if one.init else None, one.default is not attrs.NOTHING) for one in fields}
    runs = any(hasattr(kind, name) for name in ("__attrs_pre_init__", "__attrs_post_init__")) or not _is_generated(kind)
    restored = runs or any(one.converter is not None for one in fields)
    choosy = restored or any(one.validator is not None for one in fields)
    wilful = _is_wilful(kind, members)
    return Shape(members, lambda values: kind(**values), restored or wilful, choosy or wilful, wilful, _is_frozen(kind))


def _dataclass_shape(kind: type) -> Shape:
    members: dict[str, Member] = {}
    for one in dataclasses.fields(kind):
        has_default = one.default is not dataclasses.MISSING or one.default_factory is not dataclasses.MISSING
        members[one.name] = Member(one.name if one.init else None, has_default)
    declared = kind.__dataclass_fields__  # type: ignore[attr-defined]
    _check_fields(kind, "__dataclass_fields__", declared)
    unstored = [name for name, one in declared.items() if one._field_type is dataclasses._FIELD_INITVAR]  # type: ignore[attr-defined]
    if unstored:
        raise ValidationError(
            f"{kind.__name__}.{unstored[0]} is an InitVar, which is not kept and could not be given again; make it a field"
        )
    frozen = bool(kind.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    runs = hasattr(kind, "__post_init__")
    if hasattr(kind, "__pydantic_fields__"):
        members, make = _pydantic_dataclass(kind, members)
        return Shape(members, make, runs, runs, frozen=frozen)
    wilful = _is_wilful(kind, members)
    runs = runs or wilful or not _is_generated(kind)
    return Shape(members, lambda values: kind(**values), runs, runs, wilful, frozen)


def _is_generated(kind: type) -> bool:
    """Whether nothing but what attrs or dataclasses have written runs when an instance is made."""
    return _is_written(getattr(kind, "__init__")) and getattr(kind, "__new__") is object.__new__  # noqa: B009


def _is_written(method: Any) -> bool:
    """Whether attrs or dataclasses have written a method."""
    code = getattr(method, "__code__", None)
    return code is not None and (
        code.co_filename.startswith("<attrs generated") or code.co_qualname.startswith("__create_fn__")
    )


def _is_frozen(kind: type) -> bool:
    """Whether attrs lets nobody set attributes of an instance."""
    return "frozen" in getattr(kind.__setattr__, "__name__", "")


def _is_wilful(kind: Any, fields: Collection[str]) -> bool:
    """Whether a class has code of its own that runs when an attribute is set, or read."""
    setting = kind.__setattr__
    plainly = (
        setting is object.__setattr__
        or _is_written(setting)
        or _is_frozen(kind)
        or getattr(kind, "__attrs_own_setattr__", False)
    )
    held = (inspect.getattr_static(kind, name, None) for name in fields)
    plain = not any(hasattr(one, "__set__") and not inspect.ismemberdescriptor(one) for one in held)
    return not (plainly and plain and kind.__getattribute__ is object.__getattribute__)


def _check_fields(kind: type, marker: str, fields: Collection[str]) -> None:
    """Raise ValidationError for an annotation in a subclass that looks like a field, and is none."""
    for base in kind.__mro__:
        if marker in vars(base) or not hasattr(base, marker):
            continue
        for name, annotation in annotations_of(base).items():
            if name not in fields and not is_class_variable(annotation):
                raise ValidationError(f"{base.__name__}.{name} is no field; make {base.__name__} what its base is, too")


def _named_tuple_shape(kind: Any) -> Shape:
    _check_fields(kind, "_fields", kind._fields)
    defaults: Mapping[str, Any] = kind._field_defaults
    members = {name: Member(name, name in defaults) for name in kind._fields}

    def make(values: dict[str, Any]) -> Any:  # as pickle does: the class may have a __new__ of its own
        return tuple.__new__(kind, [values[name] if name in values else defaults[name] for name in kind._fields])

    return Shape(members, make, frozen=True)


# -- pydantic, whose instances are made without its validators ---------------------------------------------------


def _pydantic_shape(kind: Any) -> Shape:
    _check_extra(kind, kind.model_config)
    fields = kind.model_fields
    members = {name: Member(name, not one.is_required()) for name, one in fields.items()}
    frozen = bool(kind.model_config.get("frozen"))
    annotations = {name: _noted(one.annotation, one.metadata) for name, one in fields.items()}
    runs = bool(kind.__pydantic_post_init__)
    # what is given by one field's name may be taken for what is called so outside
    renamed = any(one.alias is not None or one.validation_alias is not None for one in fields.values())
    return Shape(
        members,
        lambda values: kind.model_construct(**values),
        runs or renamed,
        runs,
        frozen=frozen,
        annotations=annotations,
    )


def _pydantic_dataclass(
    kind: Any, members: Mapping[str, Member]
) -> tuple[dict[str, Member], Callable[[dict[str, Any]], Any]]:
    """The same for a dataclass of pydantic's: its members, all given by their names, and what makes an instance."""
    _check_extra(kind, kind.__pydantic_config__)
    fields = {name: kind.__pydantic_fields__[name] for name in members}

    def make(values: dict[str, Any]) -> Any:
        made = kind.__new__(kind)
        held: dict[str, Any] = {}
        for name, one in fields.items():
            held[name] = values[name] if name in values else one.get_default(call_default_factory=True, validated_data=held)
            object.__setattr__(made, name, held[name])
        if hasattr(made, "__post_init__"):
            made.__post_init__()
        return made

    return {name: Member(name, not one.is_required()) for name, one in fields.items()}, make


def _check_extra(kind: type, config: Mapping[str, Any]) -> None:
    if config.get("extra") == "allow":
        raise ValidationError(f"{kind.__name__} allows extra fields, which have no type; declare a dict for them")


def _noted(annotation: Any, notes: Sequence[Any]) -> Any:
    """An annotation with the column type that stood beside it."""
    return next((typing.Annotated[annotation, note] for note in notes if isinstance(note, ColumnType)), annotation)


@total
class RecordType(ColumnType[Any]):
    """An instance of exactly one class as an object of its fields, which Convex goes through by name."""

    ordered = False

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
        self._choosy = shape.choosy
        self._wilful = shape.wilful
        self._frozen = shape.frozen
        self._adopting = [(name, codec) for name, codec in fields.items() if codec.adopts]

    @property
    def name(self) -> str:
        return self.kind.__name__

    def dump(self, value: Any) -> Value:
        if type(value) is not self.kind:
            refuse(self.name, value)
        members = self._members_of(value)
        if self._choosy:
            self._check_taken(members)
        return members

    def _members_of(self, value: Any) -> dict[str, Value]:
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

    def _check_taken(self, members: dict[str, Value]) -> None:
        """Raise ValidationError where the class's own code does not take what an instance of it holds, or holds another."""
        try:
            loaded = self.load(members)
        except ValidationError as error:
            cause = error if error.__cause__ is None else error.__cause__
            raise ValidationError(
                f"{self.name} does not take again what it holds, so it could not be loaded: its own code raises "
                f"{type(cause).__name__}"
            ) from cause
        if self._wilful and not same(self._members_of(loaded), members):
            raise ValidationError(f"{self.name} does not hold what it is given, so it would be loaded as another value")

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
                if self._restored:  # to what is stored, whatever the class's own code does to what it is given
                    after[name] = load(stored) if self.fields[name].mutable else loaded
        try:
            made = self._make(given)
            for name, loaded in after.items():
                object.__setattr__(made, name, loaded)
        except Exception as error:
            raise ValidationError(f"{self.name} does not take what is stored") from error
        return made

    @property
    def adopts(self) -> bool:
        return bool(self._adopting)

    def adopt(self, value: Any) -> Any:
        if type(value) is not self.kind:
            return value
        for name, codec in self._adopting:
            held = getattr(value, name, None)
            shown = rounded(codec, held)
            if shown is held:
                continue
            if self._frozen:
                with suppress(ValidationError):
                    return self.load(self.dump(value))
                return value
            object.__setattr__(value, name, shown)
        return value

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

    def adopt(self, value: Any) -> Any:
        if type(value) is dict:
            value.update({name: rounded(codec, value[name]) for name, codec in self._adopting if name in value})
        return value


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
