"""How a class statement becomes a `Mapper`: what its body says, what it inherits, and the attrs class it is made.

Columns, indexes, defaults and validators come from the whole method resolution order, plain mixins and generic bases among
it.
"""

from __future__ import annotations

import copy
import keyword
import re
import sys
import typing
from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from convexorm.counters import Counter
from convexorm.errors import ValidationError
from convexorm.mapping.conversions import adopter
from convexorm.mapping.expressions import Column, Handed, Mapped, show, unmade
from convexorm.mapping.fields import Field, Index, SearchIndex, VectorIndex, field
from convexorm.mapping.hooks import VALIDATE, said_of
from convexorm.mapping.mapper import DISCRIMINATOR_FIELD, Mapper
from convexorm.mapping.relations import Relationship
from convexorm.mapping.validation import check_value_of, telling
from convexorm.types import ColumnType, Names, annotations_of, bindings, compiled
from convexorm.types.names import Bound, is_class_variable, register

if TYPE_CHECKING:
    from convexorm.mapping.model import Model

__all__ = ["Body", "Declaration", "declare", "frame_of_declaration"]

AnyIndex = TypeVar("AnyIndex", Index, VectorIndex[Any], SearchIndex[Any])
Searched = TypeVar("Searched", VectorIndex[Any], SearchIndex[Any])


@attrs.frozen
class Body:
    """What the body of one class says: its columns, and where the names in their annotations are looked up."""

    names: Names
    fields: Mapping[str, tuple[Any, Field]]


def _plain(given: Any) -> Any:
    """A name, or several, as plain text: a member of a StrEnum is none that goes anywhere."""
    if isinstance(given, tuple):
        return tuple(map(_plain, given))
    return str.__str__(given) if isinstance(given, str) else given


@attrs.frozen
class Declaration:
    """What a class statement was told beside its body."""

    table: str | None = attrs.field(converter=_plain)
    primary_key: str | tuple[str, ...] | None = attrs.field(converter=_plain)
    discriminator: str | None = attrs.field(converter=_plain)
    discriminator_field: str | None = attrs.field(converter=_plain)
    abstract: bool = False


_MAPPED = re.compile(r"(\w+\.)*Mapped\b")
_NO_BODIES = ("builtins", "typing", "typing_extensions", "abc", "collections.abc", "convexorm.mapping.model")
"""Modules whose classes declare no columns, `Model` among them."""


def _declares(base: type) -> bool:
    """Whether the body of a class may declare columns. (What is executed in a namespace without a name says that its module
    is `builtins`, too.)
    """
    module = base.__module__
    return module not in _NO_BODIES or getattr(sys.modules.get(module), base.__name__, None) is not base


def body_of(cls: type, names: Names) -> Body:
    """The columns that the body of a class declares."""
    fields: dict[str, tuple[Any, Field]] = {}
    for name, annotation in annotations_of(cls).items():
        details = cls.__dict__.get(name, attrs.NOTHING)
        if name.startswith("_"):
            _check_private(cls, name, annotation, details)
            continue
        if _is_no_column(annotation, details, names):
            continue
        fields[name] = (annotation, details if isinstance(details, Field) else field(default=details))
    return Body(names, fields)


def _check_private(cls: type, name: str, annotation: Any, details: Any) -> None:
    """Raise ValidationError for a column whose attribute's name begins with an underscore: nothing would be stored."""
    mapped = (
        _MAPPED.match(annotation) if isinstance(annotation, str) else Mapped in (annotation, typing.get_origin(annotation))
    )
    if mapped or isinstance(details, Field):
        bare = name.strip("_") or "name"
        problem = f"a column's attribute does not begin with an underscore; write `{bare}: Mapped[...]`"
        raise ValidationError(f"{cls.__name__}.{name}: {problem}")


def _is_no_column(annotation: Any, details: Any, names: Names) -> bool:
    if isinstance(details, Relationship):
        return True
    if isinstance(annotation, str):
        if is_class_variable(annotation):
            return True
        try:
            annotation = names.resolve(annotation)
        except NameError:
            return False
    if isinstance(details, Index | VectorIndex | SearchIndex):
        return True
    return annotation is Final or is_class_variable(annotation)


def declare(cls: type[Model], told: Declaration, frame: FrameType) -> None:
    """Give a class that has a table, or a place in its parent's, its mapper and its columns."""
    names = Names(cls, frame)
    _check_told(told)
    _check_bases(cls)
    _check_own_names(cls)
    _check_new(cls)
    cls._body = body_of(cls, names)
    if told.abstract and (told.table is None or told.discriminator is not None):
        raise ValidationError(
            f"{cls.__name__} cannot be abstract: that is a class with a table=... whose documents are all of subclasses"
        )
    inherited = next((vars(base)["__mapper__"] for base in cls.__mro__[1:] if "__mapper__" in vars(base)), None)
    parent: Mapper | None = inherited
    if told.table is None:
        if told.discriminator is None and told.discriminator_field is None and told.primary_key is None:
            if parent is not None:
                raise ValidationError(
                    f"{cls.__name__} is a subclass of {parent.model.__name__}: give it a table of its own with table=..., "
                    "or a place in its parent's with discriminator=...",
                    table=parent.name,
                )
            names.declared()
            return  # a mixin
        if parent is None or told.discriminator is None:
            raise ValidationError(f"{cls.__name__} says what its documents are like, and no table=...")
        if told.primary_key is not None or told.discriminator_field is not None:
            raise ValidationError(
                f"{cls.__name__} is in the table of {parent.model.__name__}, which says its key and discriminator_field",
                table=parent.name,
            )
    else:
        parent = None
    mapper = _mapper(cls, told, parent, names)
    cls.__mapper__ = mapper
    register(cls)
    _define(cls, mapper)
    if parent is not None:
        parent.adopt(mapper)
    try:
        mapper.complete()
        names.settle()
    except NameError:
        pass  # a later name: found out when it is first needed
    except Exception:
        if parent is not None:
            parent.leave(mapper)
        raise
    finally:
        names.declared()


def _check_told(told: Declaration) -> None:
    """Raise ValidationError for what a class statement cannot be told."""
    for name, given in (
        ("table", told.table),
        ("discriminator", told.discriminator),
        ("discriminator_field", told.discriminator_field),
    ):
        if given is not None and not isinstance(given, str):
            raise ValidationError(f"a {name} is a str, got {type(given).__name__}")
    key = told.primary_key
    if key is not None and not isinstance(key, str) and not (isinstance(key, tuple) and all(map(_is_name, key))):
        raise ValidationError(f"a primary_key is an attribute's name, or a tuple of several, got {type(key).__name__}")


def _is_name(given: object) -> bool:
    return isinstance(given, str)


_OTHER_KINDS = {
    "__dataclass_fields__": "a dataclass",
    "__attrs_attrs__": "an attrs class",
    "__pydantic_fields__": "a pydantic model",
}


def _check_bases(cls: type[Model]) -> None:
    """Raise ValidationError for a base that has made fields of its annotations, and an `__init__` for them."""
    from convexorm.mapping.model import Model

    for base in cls.__mro__:
        kind = next((kind for marker, kind in _OTHER_KINDS.items() if vars(base).get(marker)), None)
        if kind is not None and not issubclass(base, Model):
            raise ValidationError(
                f"{cls.__name__}: {base.__name__} is {kind}, which keeps the defaults of its fields to itself; what models "
                "share is a plain class"
            )


def _check_new(cls: type[Model]) -> None:
    """Raise ValidationError for a `__new__` that takes more than the class: what is loaded or copied is made without."""
    if cls.__new__ is object.__new__:
        return
    try:
        signature(cls.__new__).bind(cls)
    except TypeError:
        raise ValidationError(
            f"{cls.__name__}.__new__ cannot be called with the class alone, as it is where a document is loaded; give its "
            "other parameters defaults, or do it in __init__"
        ) from None
    except ValueError:
        pass  # it does not tell


_OWN_NAMES = ("_state", "_body", "_details", "_setters")


def _check_own_names(cls: type[Model]) -> None:
    """Raise ValidationError where a class, or a mixin, has something of a name that models need for themselves."""
    from convexorm.mapping.model import Model

    for base in cls.__mro__:
        taken = [name for name in _OWN_NAMES if name in vars(base)]
        if taken and (base is cls or not issubclass(base, Model)):
            problem = "a name that every model needs for itself; give it another one"
            raise ValidationError(f"{base.__name__}.{taken[0]}: {problem}")


def _mapper(cls: type[Model], told: Declaration, parent: Mapper | None, names: Names) -> Mapper:
    table = told.table if parent is None else parent.name
    assert table is not None
    declared = _declared(cls, table, names)
    if parent is not None:
        _check_discriminator(cls, told, parent, declared)
    columns = {name: _column(table, name, bound, details) for name, (bound, details) in declared.items()}
    fields: dict[str, str] = {}
    for name, column in columns.items():
        if name in _reserved():
            raise ValidationError("the name of something that every model has", table=table, field=name)
        if not name.isidentifier() or keyword.iskeyword(name):
            problem = f"no name of an attribute in Python; give it another one, with field(name={name!r})"
            raise ValidationError(problem, table=table, field=name)
        inherited = column if parent is None else parent.columns.get(name, column)
        if inherited.field != column.field:
            problem = f"stored as {inherited.field!r} by its parent, where a query of that looks for it"
            raise ValidationError(problem, table=table, field=name)
        if column.field in fields:
            raise ValidationError(f"two attributes are stored as {column.field!r}", table=table, field=name)
        fields[column.field] = name
    attributes = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
    cls._details = {name: details for name, (_, details) in declared.items()}
    discriminates = told.discriminator is not None or told.abstract
    return Mapper(
        model=cls,
        name=table,
        columns=columns,
        primary_key=_primary_key(cls, told),
        indexes=_named(table, {name: value for name, value in attributes.items() if isinstance(value, Index)}),
        vector_indexes=_named(
            table, {name: _owned(cls, name, value) for name, value in attributes.items() if isinstance(value, VectorIndex)}
        ),
        search_indexes=_named(
            table, {name: _owned(cls, name, value) for name, value in attributes.items() if isinstance(value, SearchIndex)}
        ),
        validated=said_of(cls, VALIDATE) is not None
        or any(details.told_validator is not None for _, details in declared.values()),
        counters={name: value for name, value in attributes.items() if isinstance(value, Counter)},
        discriminator=told.discriminator,
        abstract=told.abstract,
        parent=parent,
        told_field=told.discriminator_field or (DISCRIMINATOR_FIELD if parent is None and discriminates else None),
        referring={
            name: (details.references, details.check, bound.names)
            for name, (bound, details) in declared.items()
            if details.references is not None or details.check
        },
        relationships=_relationships(cls, table, names),
    )


def _relationships(cls: type[Model], table: str, names: Names) -> dict[str, tuple[Bound, Relationship]]:
    """What the class and all it is made of say of relations, the first base's first."""
    bound = bindings(cls, {}, names)
    told: dict[str, tuple[Bound, Relationship]] = {}
    for base in reversed(cls.__mro__):
        annotations = annotations_of(base) if _declares(base) else {}
        for name, value in vars(base).items():
            if not isinstance(value, Relationship):
                continue
            if name in _reserved():
                raise ValidationError("the name of something that every model has", table=table, field=name)
            if name != value.name:
                problem = f"one object has two names, {name!r} and {value.name!r}; declare a relationship() for each"
                raise ValidationError(problem, table=table, field=name)
            if name not in annotations:
                problem = "a relationship() without an annotation; write `name: Related[...]` or `name: RelatedList[...]`"
                raise ValidationError(problem, table=table, field=name)
            where = names if base is cls else names.of(base)
            told[name] = (Bound(annotations[name], where, bound.get(base, {})), value)
    return told


def _primary_key(cls: type[Model], told: Declaration) -> str | tuple[str, ...] | None:
    if told.primary_key is not None:
        return told.primary_key
    inherited = [vars(base)["__mapper__"] for base in cls.__mro__[1:] if "__mapper__" in vars(base)]
    return inherited[0].primary_key if inherited else None


def _named(table: str, indexes: Mapping[str, AnyIndex]) -> Mapping[str, AnyIndex]:
    """Indexes by their own names, which may be others than their attributes'. Raises ValidationError for one told twice."""
    for name, index in indexes.items():
        if index.named not in ("", name):
            problem = f"one object has two names, {index.named!r} and {name!r}; declare an index for each"
            raise ValidationError(problem, table=table, field=name)
    named = {index.name: index for index in indexes.values()}
    if len(named) < len(indexes):
        raise ValidationError("two indexes have one name", table=table)
    return named


def _owned(cls: type[Model], name: str, index: Searched) -> Searched:
    """The index as the class's own: one that is inherited from a mixin has several."""
    own = copy.copy(index)
    setattr(cls, name, own)
    own.model = cls
    return own


def _reserved() -> frozenset[str]:
    """What a column cannot be called."""
    from convexorm.mapping.model import Model

    return frozenset(name for name in vars(Model) if not name.startswith("_")) | {"self"}  # a constructor has that


def _declared(cls: type[Model], table: str, names: Names) -> dict[str, tuple[Bound, Field]]:
    """The columns of a class and of all it is made of, the first base's first."""
    bound = bindings(cls, {}, names)
    declared: dict[str, tuple[Bound, Field]] = {}
    for base in reversed(cls.__mro__):
        if not _declares(base):
            continue
        body = base.__dict__.get("_body") or body_of(base, names.of(base))
        for name, (annotation, details) in body.fields.items():
            if name in declared:
                details = _named_alike(details, declared[name][1])
            declared[name] = (Bound(annotation, body.names, bound.get(base, {})), details)
        for name, value in vars(base).items():
            if name in body.fields or isinstance(value, Column | Handed):
                continue
            if name in declared:
                declared[name] = (declared[name][0], _overridden(table, name, declared[name][1], value))
            elif isinstance(value, Field):
                raise ValidationError("a field() without an annotation; write `name: Mapped[...]`", table=table, field=name)
    return declared


def _overridden(table: str, name: str, details: Field, value: Any) -> Field:
    """The details of an inherited column of which a class names only the value: its default."""
    if isinstance(value, Field):
        return _named_alike(value, details)
    if hasattr(value, "__get__"):
        raise ValidationError("hides a column that is inherited; give one of the two another name", table=table, field=name)
    return attrs.evolve(details, told_default=value, factory=None)


def _named_alike(details: Field, inherited: Field) -> Field:
    """The details of a column that is declared anew: its field in Convex is the inherited one, unless it says another."""
    return attrs.evolve(details, name=details.name or inherited.name)


def _check_discriminator(
    cls: type[Model], told: Declaration, parent: Mapper, declared: dict[str, tuple[Bound, Field]]
) -> None:
    """Where the discriminator is a column as well, whatever that is called, make it the default of the subclass's."""
    field = parent.discriminator_field
    name = next((name for name, (_, details) in declared.items() if (details.name or name) == field), None)
    if name is None:
        return
    if parent.root.told_field is None:
        root = parent.root.model.__name__
        raise ValidationError(
            f"{root} has a column of this name; if it is to say which class a document is of, declare {root} with "
            f"discriminator_field={field!r}, else with another name there",
            table=parent.name,
            field=name,
        )
    bound, details = declared[name]

    def said() -> Any:
        return cls.__mapper__.columns[name].load(told.discriminator)

    declared[name] = (bound, attrs.evolve(details, told_default=attrs.NOTHING, factory=said))


def _column(table: str, name: str, bound: Bound, details: Field) -> Column[Any]:
    if type(details.told_default).__hash__ is None:
        made = type(details.told_default).__name__
        raise ValidationError(
            f"all instances would share this {made}; make one for each with field(factory=...)", table=table, field=name
        )
    default = details.maker
    if default is None and details.told_default is not attrs.NOTHING:
        default = lambda: details.told_default  # noqa: E731
    return Column(
        table=table,
        name=name,
        field=details.name or name,
        none=details.none,
        optional=details.optional,
        default=default,
        compile=partial(_compiled, table, name, bound, details.type),
        told_default=None if details.told_default is attrs.NOTHING else details.told_default,
    )


def _compiled(table: str, name: str, bound: Bound, given: ColumnType[Any] | None) -> tuple[ColumnType[Any], bool]:
    annotation = bound.annotation
    while isinstance(annotation, str | typing.ForwardRef):
        assert bound.names is not None
        annotation = bound.names.resolve(annotation if isinstance(annotation, str) else annotation.__forward_arg__)
    if annotation is Mapped:
        raise ValidationError("Mapped says nothing without a type; write Mapped[str]")
    mapped = typing.get_origin(annotation) is Mapped
    if mapped:
        (annotation,) = typing.get_args(annotation)
    if _holds_mapped(annotation):
        raise ValidationError("Mapped stands around the whole annotation, once; write Mapped[int | None]")
    try:
        return compiled(attrs.evolve(bound, annotation=annotation), given)
    except ValidationError as error:
        if mapped:
            raise
        raise ValidationError(f"{error.problem}; or write ClassVar[...] if it is no column", path=error.path) from None


def _holds_mapped(annotation: Any) -> bool:
    return typing.get_origin(annotation) is Mapped or any(map(_holds_mapped, typing.get_args(annotation)))


def _define(cls: type[Model], mapper: Mapper) -> None:
    """Make an attrs class of a model, whose attributes are its columns."""
    adopters = {name: adopter(mapper.columns[name]) for name in cls._details}
    these = {
        name: attrs.field(
            default=details.made,
            validator=telling(details.told_validator, mapper.name, mapper.columns[name].field),
            converter=adopters[name],
            kw_only=True,
        )
        for name, details in cls._details.items()
    }
    own = vars(cls).get("__setattr__")
    attrs.define(
        cls,
        these=these,
        slots=False,
        init=False,
        repr=False,
        eq=False,
        order=False,
        on_setattr=lambda instance, attribute, value: value,  # so that its constructor sets past `__setattr__`
        auto_detect=False,
    )
    if own is not None:
        setattr(cls, "__setattr__", own)  # noqa: B010
    elif "__setattr__" in vars(cls):
        delattr(cls, "__setattr__")
    made = {name for name, column in mapper.columns.items() if column.makes_default}
    setters = {one.name: _setter(one, adopters[one.name], made=one.name in made) for one in attrs.fields(cls)}  # type: ignore[arg-type]
    cls._setters = {**setters, "_state": _refuse_state}
    for name, column in mapper.columns.items():
        plain = "type" in vars(column) and not column.type.mutable
        setattr(cls, name, column if plain else Handed(column))


def _setter(
    attribute: attrs.Attribute[Any], adopt: Callable[[Any], Any] | None, *, made: bool
) -> Callable[[Model, Any], Any]:
    """What comes before an attribute is set; it answers what to. With `made` its default is made anew for each instance."""
    name, validated = attribute.name, attribute.validator is not None
    if adopt is None and not validated and not made:
        return _changing

    def setting(instance: Model, value: Any) -> Any:
        shown = value if adopt is None else adopt(value)
        if validated:
            check_value_of(instance, attribute, shown)
        _changing(instance, shown)
        if made and instance._state.made is not None:
            instance._state.made.pop(name, None)
        return shown

    return setting


def _refuse_state(instance: Model, value: Any) -> Any:
    name = type(instance).__name__
    raise AttributeError(f"{name}._state is what sessions know of the instance; call what is to be set something else")


def _changing(instance: Model, value: Any) -> Any:
    try:
        state = instance._state
    except AttributeError:
        raise unmade(instance) from None
    if not state.looked_at and state.held is not None:  # before anything that was set could be taken for what is stored
        state.looked_at = True
        show(instance, state.held)
    if state.session is not None:
        state.session.changing(instance)
    return value


def frame_of_declaration() -> FrameType:
    """The frame of the class statement, past any `__init_subclass__` on the way."""
    frame = sys._getframe(2)
    while frame.f_code.co_name == "__init_subclass__" and frame.f_back is not None:
        frame = frame.f_back
    return frame
