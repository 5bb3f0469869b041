"""From an annotation to its column type.

An annotation is taken apart until a type is left that a table names, a class that has a shape, or a container of such.
What cannot be stored is refused here, when the class is declared, with a word on what to write instead. A name that is not
there yet is a NameError, for the one who declares to try again when the column is first used.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from pathlib import PurePath
from typing import Annotated, Any
from uuid import UUID

import attrs
import typing_extensions

from convexorm.errors import ValidationError
from convexorm.foreign import is_int64_class
from convexorm.types.anything import AnyType, JsonTextType
from convexorm.types.choices import EnumType, FlagType, LiteralType
from convexorm.types.codec import ColumnType
from convexorm.types.containers import DictType, ListType, SetType, TupleType, VectorType
from convexorm.types.names import Bound, Names, hints
from convexorm.types.records import RecordType, TypedDictType, optional_keys, shape_of
from convexorm.types.scalars import (
    BoolType,
    BytesType,
    ConvexInt64Type,
    FloatType,
    Int64Type,
    IntType,
    NoneType,
    StrType,
)
from convexorm.types.texts import DecimalType, PathType, UUIDType
from convexorm.types.times import DateType, IsoDatetimeType, TimedeltaType, TimestampType, TimeType
from convexorm.types.unions import OptionalType, UnionType
from convexorm.values import MAX_DOCUMENT_NESTING

__all__ = ["Documents", "Int64", "IsoDatetime", "JsonText", "column_type", "compiled", "result_type"]

Int64 = Annotated[int, Int64Type()]
"""An int stored as int64: `Mapped[Int64]`."""
IsoDatetime = Annotated[datetime, IsoDatetimeType()]
"""An aware datetime stored as a JavaScript ISO string: `Mapped[IsoDatetime]`."""
JsonText = Annotated[Any, JsonTextType()]
"""Any JSON value stored as JSON text: `Mapped[JsonText]`."""

_SCALARS: Mapping[Any, ColumnType[Any]] = {
    str: StrType(),
    bool: BoolType(),
    bytes: BytesType(),
    float: FloatType(),
    int: IntType(),
    type(None): NoneType(),
    datetime: TimestampType(),
    date: DateType(),
    time: TimeType(),
    timedelta: TimedeltaType(),
    Decimal: DecimalType(),
    UUID: UUIDType(),
    Any: AnyType(),
    object: AnyType(),
}
_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_BARE_TUPLES = (tuple, typing.Tuple)  # noqa: UP006  (tuple[()] has no arguments either)
_SETS: Mapping[Any, Any] = {
    set: set,
    frozenset: frozenset,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
_WRAPPERS = (typing.Final, typing_extensions.Final, typing.Required, typing.NotRequired)
_INSTEAD: Mapping[Any, str] = {
    complex: "store two floats",
    bytearray: "use bytes",
    memoryview: "use bytes",
    collections.OrderedDict: "use dict; Convex sorts the keys of objects",
    collections.defaultdict: "use dict",
    collections.Counter: "use dict[str, int]",
    collections.deque: "use list",
    collections.abc.Iterable: "use list, which can be gone through again",
    collections.abc.Iterator: "use list, which can be gone through again",
    collections.abc.Generator: "use list, which can be gone through again",
    collections.abc.Collection: "use list or set",
    collections.abc.Callable: "store a name for it",
    type: "store a name for it",
}


Documents = Callable[[type], ColumnType[Any]]
"""From a model to the column type of its documents, where such may stand."""


@attrs.frozen
class _Place:
    """Where an annotation is written, and what is being taken apart around it."""

    names: Names | None
    variables: Mapping[Any, Any]
    around: tuple[Any, ...] = ()
    documents: Documents | None = None

    def inside(self, what: Any, told: Any) -> _Place:
        """The place inside a class or an alias, or what a text says; `told` is what it is of, and where it is written.
        ValidationError for one that holds itself.
        """
        if (what, told) in self.around or [one for one, _ in self.around].count(what) > MAX_DOCUMENT_NESTING:
            shown = what if isinstance(what, str) else getattr(what, "__name__", repr(what))
            raise ValidationError(
                f"no Convex type for {shown}, which holds itself: a schema cannot say so. Use Any or JsonText for it, or "
                "store the parts as documents of their own"
            )
        return attrs.evolve(self, around=(*self.around, (what, told)))


def column_type(annotation: Any) -> ColumnType[Any]:
    """The column type for an annotation. Raises ValidationError for one that cannot be stored."""
    codec, nullable = compiled(annotation)
    return OptionalType(codec) if nullable else codec


def compiled(annotation: Any, given: ColumnType[Any] | None = None) -> tuple[ColumnType[Any], bool]:
    """The column type for a column's annotation, or the one that is given for it, and whether it may be None beside that.

    Raises ValidationError for an annotation that cannot be stored, NameError for a name that is not there.
    """
    annotation, place = _bare(annotation, _Place(None, {}))
    members, nullable = _members(annotation, place)
    codec = _union(members) if given is None else given
    if nullable:
        _check_none(codec)
    if type(codec) is ListType and type(codec.item) is FloatType:
        codec = VectorType()
    return codec, nullable


def result_type(annotation: Any, documents: Documents) -> ColumnType[Any]:
    """The column type for what a function answers, in which documents may stand wherever a type may.

    Raises ValidationError for an annotation that says nothing of Convex values, NameError for a name that is not there.
    """
    return _item(annotation, _Place(None, {}, documents=documents))


def _check_none(codec: ColumnType[Any]) -> None:
    if codec.holds_none and isinstance(codec, NoneType | EnumType | LiteralType):
        raise ValidationError(f"None is a value of {codec.name} already; leave out the other one")


# -- taking apart --------------------------------------------------------------------------------------------------


def _bare(annotation: Any, place: _Place) -> tuple[Any, _Place]:
    """The annotation without names for it and notes on it: texts, aliases, NewTypes, type variables, Annotated, Final."""
    while True:
        origin = typing.get_origin(annotation)
        if isinstance(annotation, Bound):
            place = attrs.evolve(place, names=annotation.names or place.names, variables=annotation.variables)
            annotation = annotation.annotation
        elif isinstance(annotation, str | typing.ForwardRef):
            text = annotation if isinstance(annotation, str) else annotation.__forward_arg__
            place = place.inside(text, id(place.names))
            annotation = (place.names or Names(object)).resolve(text)
        elif annotation is None:
            annotation = type(None)
        elif origin is Annotated:
            if any(isinstance(extra, ColumnType) for extra in annotation.__metadata__):
                return annotation, place
            annotation = annotation.__origin__
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif isinstance(annotation, typing.TypeVar | typing_extensions.TypeVar):
            default = getattr(annotation, "__default__", typing_extensions.NoDefault)
            if annotation in place.variables:
                annotation = place.variables[annotation]
            elif default is typing_extensions.NoDefault:
                raise ValidationError(f"the type variable {annotation} stands for no type here; say which, as in Box[int]")
            else:
                annotation = default
        elif _is_alias(annotation) or _is_alias(origin):
            alias = annotation if origin is None else origin
            arguments = typing.get_args(annotation)
            bound = dict(
                zip(
                    alias.__type_params__,
                    (Bound(one, place.names, place.variables) for one in arguments),
                    strict=False,
                )
            )
            place = attrs.evolve(place.inside(alias, _standing_for(arguments, place.variables)), variables=bound)
            annotation = alias.__value__
        elif origin in _WRAPPERS or getattr(origin, "_name", "") == "ReadOnly":
            (annotation,) = typing.get_args(annotation)
        else:
            return annotation, place


def _standing_for(annotation: Any, variables: Mapping[Any, Any]) -> Any:
    """What an annotation, or several, come to where their type variables stand for these; to be compared with another."""
    if isinstance(annotation, tuple):
        return tuple(_standing_for(one, variables) for one in annotation)
    if isinstance(annotation, Bound):
        return _standing_for(annotation.annotation, annotation.variables)
    if isinstance(annotation, typing.TypeVar | typing_extensions.TypeVar) and annotation in variables:
        return _standing_for(variables[annotation], variables)
    arguments = typing.get_args(annotation)
    return (typing.get_origin(annotation), _standing_for(arguments, variables)) if arguments else annotation


def _is_alias(annotation: Any) -> bool:
    return type(annotation).__name__ == "TypeAliasType"


def _members(annotation: Any, place: _Place) -> tuple[list[tuple[Any, _Place]], bool]:
    """The members of a union, those of unions within it among them, and whether None is one. None in a Literal is one."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal and None in arguments and len(arguments) > 1:
        rest = tuple(one for one in arguments if one is not None)
        return [(typing.Literal[rest], place)], True
    if origin is Annotated:
        inner, rest_place = _bare(annotation.__origin__, place)
        members, nullable = _members(inner, rest_place)
        if nullable:
            codec = next(extra for extra in annotation.__metadata__ if isinstance(extra, ColumnType))
            return [(Annotated[typing.Any, codec], place)], True
        return [(annotation, place)], False
    if origin not in (typing.Union, types.UnionType):
        return [(annotation, place)], False
    members = []
    nullable = False
    for argument in arguments:
        inner, inner_place = _bare(argument, place)
        if inner is type(None):
            nullable = True
        else:
            further, may_be_none = _members(inner, inner_place)
            members += further
            nullable = nullable or may_be_none
    return members, nullable


def _item(annotation: Any, place: _Place) -> ColumnType[Any]:
    """The column type of what is inside something: None is null there."""
    annotation, place = _bare(annotation, place)
    members, nullable = _members(annotation, place)
    codec = _union(members)
    if not nullable:
        return codec
    _check_none(codec)
    return codec if type(codec) is AnyType else OptionalType(codec)


def _union(members: Sequence[tuple[Any, _Place]]) -> ColumnType[Any]:
    literals = [one for one, _ in members if typing.get_origin(one) is typing.Literal]
    if len(literals) > 1:
        values = tuple(value for literal in literals for value in typing.get_args(literal))
        rest = [one for one in members if typing.get_origin(one[0]) is not typing.Literal]
        members = [*rest, (typing.Literal[values], members[0][1])]
    codecs = [_codec(annotation, place) for annotation, place in members]
    if len(codecs) == 1:
        return codecs[0]
    for codec in codecs:
        if isinstance(codec, AnyType | JsonTextType):
            raise ValidationError(f"no Convex type for a union with {codec.name}; use {codec.name} alone")
    return UnionType(codecs)


# -- what is left --------------------------------------------------------------------------------------------------


def _codec(annotation: Any, place: _Place) -> ColumnType[Any]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, ColumnType):
        return annotation
    if origin is Annotated:
        return next(extra for extra in annotation.__metadata__ if isinstance(extra, ColumnType)).seen_from(place.names)
    if origin in (typing.Union, types.UnionType):
        members, _ = _members(annotation, place)
        return _union(members)
    if origin is typing.Literal:
        return LiteralType(arguments)
    if isinstance(annotation, collections.abc.Hashable) and annotation in _SCALARS:
        return _SCALARS[annotation]
    if is_int64_class(annotation):
        return ConvexInt64Type(annotation)
    kind = origin or annotation
    if not isinstance(kind, collections.abc.Hashable):
        raise _no_type_for(annotation)
    if kind in _LISTS:
        (item,) = _told(annotation, arguments or (Any,), 1)
        return ListType(_item(item, place))
    if kind in _DICTS:
        return _dict(annotation, _told(annotation, arguments or (str, Any), 2), place)
    if kind is tuple:
        return _tuple((Any, Ellipsis) if annotation in _BARE_TUPLES else arguments, place)
    if kind in _SETS:
        (item,) = _told(annotation, arguments or (Any,), 1)
        return SetType(_SETS[kind], _item(item, place))
    if isinstance(kind, type):
        found = _class(kind, arguments, place)
        if found is not None:
            return found
    raise _no_type_for(annotation)


def _told(annotation: Any, arguments: tuple[Any, ...], right: int) -> tuple[Any, ...]:
    """What a container is said to be of. ValidationError for more or less than there is to say."""
    if len(arguments) != right:
        raise ValidationError(
            f"no Convex type for {_shown(annotation)}, which is of {len(arguments)} types in place of {right}"
        )
    return arguments


def _dict(annotation: Any, arguments: tuple[Any, ...], place: _Place) -> ColumnType[Any]:
    key, _ = _bare(arguments[0], place)
    if key is not str:
        raise ValidationError(
            f"no Convex type for {_shown(annotation)}: the keys of objects are str. Use dict[str, ...], or a list of pairs"
        )
    return DictType(_item(arguments[1], place))


def _tuple(arguments: tuple[Any, ...], place: _Place) -> ColumnType[Any]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return TupleType((), _item(arguments[0], place))
    if any(typing.get_origin(one) is typing.Unpack or getattr(one, "__unpacked__", False) for one in arguments):
        raise ValidationError("no Convex type for a tuple that is open in its middle; use tuple[T, ...] or a dataclass")
    return TupleType([_item(one, place) for one in arguments])


def _class(kind: type, arguments: tuple[Any, ...], place: _Place) -> ColumnType[Any] | None:
    if issubclass(kind, Flag):
        return FlagType(kind)
    if issubclass(kind, Enum):
        return EnumType(kind)
    if issubclass(kind, PurePath):
        return PathType(kind)
    if hasattr(kind, "__mapper__"):
        if place.documents is not None:
            return place.documents(kind)
        raise ValidationError(f"{kind.__name__} is a model, which has documents of its own; store its key instead")
    inside = place.inside(kind, _standing_for(arguments, place.variables))
    parameters = getattr(kind, "__parameters__", ())
    variables = dict(zip(parameters, (Bound(one, place.names, place.variables) for one in arguments), strict=False))
    names = place.names or Names(kind)
    if typing.is_typeddict(kind) or typing_extensions.is_typeddict(kind):
        found = {name: _typed_key(bound) for name, bound in hints(kind, variables, names).items()}
        codecs = {name: _item(bound, inside) for name, bound in found.items()}
        return TypedDictType(kind, codecs, optional_keys(kind, {name: bound.annotation for name, bound in found.items()}))
    shape = shape_of(kind)
    if shape is None:
        return None
    found = hints(kind, variables, names)
    codecs = {}
    for name, annotation in shape.annotations.items():
        found[name] = Bound(annotation, names.of(kind), variables)
    for name in shape.members:
        if name not in found:
            raise ValidationError(f"{kind.__name__}.{name} has no annotation; give it one")
        try:
            codecs[name] = _item(found[name], inside)
        except ValidationError as error:
            raise ValidationError(f"{kind.__name__}.{name}: {error.problem}") from None
    return RecordType(kind, shape, codecs)


def _typed_key(bound: Bound) -> Bound:
    """The annotation of a TypedDict's key, read if it is a text, so that Required and NotRequired are seen."""
    annotation = bound.annotation
    while isinstance(annotation, str | typing.ForwardRef):
        text = annotation if isinstance(annotation, str) else annotation.__forward_arg__
        annotation = (bound.names or Names(object)).resolve(text)
    return attrs.evolve(bound, annotation=annotation)


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else repr(annotation)


def _no_type_for(annotation: Any) -> ValidationError:
    kind = typing.get_origin(annotation) or annotation
    instead = _INSTEAD.get(kind) if isinstance(kind, collections.abc.Hashable) else None
    if isinstance(annotation, dataclasses.InitVar):
        instead = "make it a field"
    problem = f"no Convex type for {_shown(annotation)}"
    return ValidationError(
        f"{problem}; {instead}" if instead else f"{problem}; give it one with Annotated[...] or field(type=...)"
    )
