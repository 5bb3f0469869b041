"""Declaring an entity: `Model`, `field`, `Index` and `VectorIndex`.

A model class is an attrs class whose attributes are `Column`s. Declaring it computes everything a session needs once: the
`Table` as data, the columns by attribute, the primary key. Instances carry an `InstanceState`: the document they were
loaded from and the session that watches them.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import attrs
from typing_extensions import TypeVar, dataclass_transform

from convexorm import types
from convexorm.errors import ValidationError
from convexorm.expressions import Column, Mapped, NoneForm
from convexorm.schema import IndexDef, Number, String, Table, VectorIndexDef
from convexorm.values import MISSING, Value, owned

if TYPE_CHECKING:
    from convexorm.query import Query

__all__ = ["Index", "InstanceState", "Model", "VectorIndex", "field"]


# -- what a class body says ----------------------------------------------------------------------------------------


@attrs.frozen
class _Field:
    """What `field(...)` was told."""

    name: str | None
    type: types.ColumnType[Any] | None
    none: NoneForm
    optional: bool
    default: Any
    factory: Callable[[], Any] | None
    validator: Any


def field(
    *,
    default: Any = attrs.NOTHING,
    factory: Callable[[], Any] | None = None,
    name: str | None = None,
    type: types.ColumnType[Any] | None = None,
    none: NoneForm = "absent",
    optional: bool = False,
    validator: Any = None,
    kw_only: Literal[True] = True,
) -> Any:
    """Details of a column.

    `default`, or `factory` for a value made anew each time (`factory=list`), makes it optional in the constructor. `name`
    is the Convex field's, where it differs from the attribute's. `type` overrides how values are stored. `none` says how
    `None` is stored: `"absent"` (no field), `"null"`, or `"either"` (written as no field; null is accepted and read too).
    `optional` lets the schema accept documents without the field although the model always writes it. `validator` is an
    attrs validator, run by the constructor and before a commit of the instance; `update` and `bulk_upsert`, which have no
    instances, pass it by.
    """
    return _Field(name, type, none, optional, default, factory, validator)


class Index:
    """An index over attributes, in order: `by_owner = Index("owner_id", "done")`. The attribute's name is its name."""

    def __init__(self, *attributes: str) -> None:
        self.attributes = attributes
        self.name = ""

    def __set_name__(self, owner: type[Model], name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<Index {self.name} ({', '.join(self.attributes)})>"


M = TypeVar("M", bound="Model", default=Any)
M2 = TypeVar("M2", bound="Model")


class VectorIndex(typing.Generic[M]):
    """A native vector index: `by_embedding = VectorIndex("embedding", dimensions=384, filter_fields=("tag",))`.

    `dimensions` is 2 to 4,096. The attribute holds a list of that many floats, or None where it may. `filter_fields` are
    attributes that a search may ask to be equal to something.
    """

    def __init__(self, attribute: str, *, dimensions: int, filter_fields: tuple[str, ...] = ()) -> None:
        self.attribute = attribute
        self.dimensions = dimensions
        self.filter_fields = tuple(filter_fields)
        self.name = ""
        self.model: type[M] | None = None

    def __set_name__(self, owner: type[M], name: str) -> None:
        self.name = name
        self.model = owner

    if TYPE_CHECKING:  # `Place.by_embedding` is a VectorIndex[Place], so that a search for it answers Places

        def __get__(self, instance: object, owner: type[M2]) -> VectorIndex[M2]: ...


# -- instances -----------------------------------------------------------------------------------------------------


class Watcher(typing.Protocol):
    """What an instance tells its session."""

    def touched(self, instance: Model) -> None:
        """An attribute was set, or a mutable value was handed out: the instance may differ from its document."""


class InstanceState:
    """What a session knows of an instance.

    `document` is what the database held when the instance was last loaded or written, system fields included; None before
    the first commit. `session` is the one that holds the instance. `deleted` is set once a commit has deleted it.
    """

    __slots__ = ("deleted", "document", "session")

    def __init__(self, document: Mapping[str, Value] | None = None, session: Watcher | None = None) -> None:
        self.document = document
        self.session = session
        self.deleted = False

    def __getstate__(self) -> tuple[Mapping[str, Value] | None, bool]:
        """What of it may leave the process or the session: an unpickled instance is detached."""
        return self.document, self.deleted

    def __setstate__(self, state: tuple[Mapping[str, Value] | None, bool]) -> None:
        self.document, self.deleted = state
        self.session = None

    def touch(self, instance: Model) -> None:
        if self.session is not None:
            self.session.touched(instance)

    @property
    def name(self) -> str:
        """SQLAlchemy's word: transient, pending, persistent, detached or deleted."""
        if self.deleted:
            return "deleted"
        if self.document is None:
            return "transient" if self.session is None else "pending"
        return "detached" if self.session is None else "persistent"


class _SystemField(Column[Any]):
    """`_id` or `_creationTime`: an operand on the class, read-only on an instance, None before the first commit."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return _SystemField(
                table=owner.__table__.name if hasattr(owner, "__table__") else "",
                name=self.name,
                field=self.field,
                type=self.type,
                none="absent",
                nullable=False,
            )
        document = instance._state.document
        return None if document is None else document[self.field]

    def __set__(self, instance: Any, value: Any) -> None:
        raise AttributeError(f"{self.name} is given by Convex and cannot be set")


def _system_field(name: str, field: str, type: types.ColumnType[Any]) -> Any:
    return _SystemField(table="", name=name, field=field, type=type, none="absent", nullable=False)


def _touch(instance: Model, attribute: attrs.Attribute[Any], value: Any) -> Any:
    instance._state.touch(instance)
    return value


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class Model:
    """The base of entities. `class Task(Model, table="tasks", primary_key="id")` declares one.

    `primary_key` names the attribute that identifies the document to the application, or a tuple of several; they are all
    the fields of an index, in its order. Without it a document is known by its `_id`. A subclass without `table` is a
    mixin whose columns are inherited. Constructors take keywords only and raise ValidationError for unknown and missing
    fields. Attributes are checked against the table when a session commits.
    """

    __table__: ClassVar[Table]
    __columns__: ClassVar[Mapping[str, Column[Any]]] = {}
    __primary_key__: ClassVar[str | tuple[str, ...] | None] = None
    __key__: ClassVar[tuple[str, ...]] = ()
    __primary_index__: ClassVar[str] = "by_id"
    __validated__: ClassVar[bool] = False
    __mutable__: ClassVar[tuple[str, ...]] = ()
    __as_is__: ClassVar[tuple[tuple[str, str, type], ...]] = ()
    _declared: ClassVar[Mapping[str, tuple[Any, _Field]]] = {}
    _state: InstanceState

    convex_id: Mapped[str | None] = _system_field("convex_id", "_id", types.PlainType(str, String()))
    """The document's `_id`; None before the first commit."""
    creation_time: Mapped[float | None] = _system_field("creation_time", "_creationTime", types.PlainType(float, Number()))
    """The document's `_creationTime` in milliseconds since the epoch; None before the first commit."""

    def __init_subclass__(
        cls, table: str | None = None, primary_key: str | tuple[str, ...] | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls._declared = {**cls._declared, **_own_fields(cls, sys._getframe(1).f_locals)}
        if table is not None:
            _declare(cls, table, primary_key)

    def __init__(self, **values: Any) -> None:
        columns = self.__columns__
        if not columns:
            raise TypeError(f"{type(self).__name__} is not mapped; declare it with table=...")
        self.__dict__["_state"] = InstanceState()
        try:
            self.__attrs_init__(**values)  # type: ignore[attr-defined]
        except (TypeError, ValueError) as error:
            _explain(type(self), values)
            if not isinstance(error, ValidationError) and columns.keys() <= self.__dict__.keys():
                validate(self)
            raise

    @classmethod
    def query(cls) -> Query[Self]:
        """All documents of the table: the start of a query."""
        from convexorm.query import Query

        return Query(cls)

    @property
    def primary_key(self) -> Any:
        """The primary key's value (a tuple, if it has several attributes), or the `_id` of a model without one."""
        names = self.__key__
        if not names:
            return self.convex_id
        return getattr(self, names[0]) if len(names) == 1 else tuple(getattr(self, name) for name in names)

    def __repr__(self) -> str:
        identity = f" {self.convex_id}" if self.convex_id else ""
        return f"<{type(self).__name__}{identity} ({self._state.name})>"


def _explain(model: type[Model], values: Mapping[str, Any]) -> None:
    """Turn a constructor's TypeError about its keywords into a ValidationError that says what would be right."""
    table = model.__table__.name
    for name in values:
        if name not in model.__columns__:
            known = ", ".join(model.__columns__)
            raise ValidationError(f"no such attribute; the attributes are {known}", table=table, field=name) from None
    for attribute in attrs.fields(model):  # type: ignore[arg-type]
        if attribute.default is attrs.NOTHING and attribute.name not in values:
            raise ValidationError("required, and not given", table=table, field=attribute.name) from None


# -- from class body to table --------------------------------------------------------------------------------------


def _own_fields(cls: type[Model], locals_: Mapping[str, Any]) -> dict[str, tuple[Any, _Field]]:
    """The columns that the body of `cls` declares: annotation and details by attribute."""
    own: dict[str, tuple[Any, _Field]] = {}
    namespace = {**vars(typing), **vars(sys.modules[cls.__module__]), **locals_, cls.__name__: cls}
    for name, annotation in inspect.get_annotations(cls).items():
        if isinstance(annotation, str):
            annotation = eval(annotation, namespace)
        if name.startswith("_") or ClassVar in (annotation, typing.get_origin(annotation)):
            continue
        details = cls.__dict__.get(name, attrs.NOTHING)
        if not isinstance(details, _Field):
            details = field(default=details)
        own[name] = (annotation, details)
    return own


def _declare(cls: type[Model], table: str, primary_key: str | tuple[str, ...] | None) -> None:
    columns = {name: _column(table, name, *declared) for name, declared in cls._declared.items()}
    fields: dict[str, str] = {}
    for name, column in columns.items():
        if name in _RESERVED:
            raise ValidationError("the name of an attribute that every model has", table=table, field=name)
        if column.field in fields.values():
            raise ValidationError(f"two attributes are stored as {column.field!r}", table=table, field=name)
        fields[name] = column.field
    indexes: list[IndexDef] = []
    vector_indexes: list[VectorIndexDef] = []
    for name, value in _attributes(cls).items():
        if isinstance(value, Index):
            indexes.append(IndexDef(name, tuple(_named(table, name, fields, part) for part in value.attributes)))
        elif isinstance(value, VectorIndex):
            value.model = cls
            filters = tuple(_named(table, name, fields, part) for part in value.filter_fields)
            attribute = _named(table, name, fields, value.attribute)
            vector_indexes.append(VectorIndexDef(name, attribute, value.dimensions, filters))
    cls.__table__ = Table(
        table, {column.field: column.property() for column in columns.values()}, tuple(indexes), tuple(vector_indexes)
    )
    cls.__columns__ = columns
    cls.__primary_key__ = primary_key
    cls.__key__ = (primary_key,) if isinstance(primary_key, str) else tuple(primary_key or ())
    cls.__primary_index__ = _primary_index(cls.__table__, columns, cls.__key__)
    cls.__mutable__ = tuple(name for name, column in columns.items() if column.type.mutable)
    cls.__as_is__ = tuple((name, column.field, column.type.as_is) for name, column in columns.items() if column.type.as_is)
    cls.__validated__ = any(details.validator is not None for _, details in cls._declared.values())
    these = {
        name: attrs.field(
            default=details.default if details.factory is None else attrs.Factory(details.factory),
            validator=details.validator,
            kw_only=True,
        )
        for name, (_, details) in cls._declared.items()
    }
    attrs.define(
        cls,
        these=these,
        slots=False,
        init=False,
        repr=False,
        eq=False,
        order=False,
        on_setattr=_touch,
        auto_detect=False,
    )
    for name, column in columns.items():
        setattr(cls, name, column)


_RESERVED = frozenset(name for name in vars(Model) if not name.startswith("_"))
"""What a column cannot be called."""


def _attributes(cls: type[Model]) -> dict[str, Any]:
    return {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}


def _named(table: str, index: str, fields: Mapping[str, str], attribute: str) -> str:
    if attribute not in fields:
        known = ", ".join(fields)
        raise ValidationError(f"index {index!r} names {attribute!r}; the attributes are {known}", table=table)
    return fields[attribute]


def _column(table: str, name: str, annotation: Any, details: _Field) -> Column[Any]:
    if typing.get_origin(annotation) is Mapped:
        (annotation,) = typing.get_args(annotation)
    annotation, nullable = types.split_optional(annotation)
    try:
        type_ = details.type or types.column_type(annotation)
    except TypeError as error:
        raise ValidationError(str(error), table=table, field=name) from None
    if type(details.default).__hash__ is None:
        made = type(details.default).__name__
        raise ValidationError(
            f"all instances would share this {made}; make one for each with field(factory=...)", table=table, field=name
        )
    default: Callable[[], Any] | None = details.factory
    if default is None and details.default is not attrs.NOTHING:
        default = lambda: details.default  # noqa: E731
    return Column(
        table=table,
        name=name,
        field=details.name or name,
        type=type_,
        none=details.none,
        nullable=nullable,
        optional=details.optional,
        default=default,
    )


def _primary_index(table: Table, columns: Mapping[str, Column[Any]], key: tuple[str, ...]) -> str:
    """The index that finds a document by its primary key."""
    if not key:
        return "by_id"
    shown = repr(key[0] if len(key) == 1 else key)
    if not all(name in columns for name in key):
        known = ", ".join(columns)
        raise ValidationError(f"primary_key={shown}; the attributes are {known}", table=table.name)
    fields = tuple(columns[name].field for name in key)
    index = next((index for index in table.indexes if index.fields == fields), None)
    if index is None:
        on = "that field alone" if len(key) == 1 else "exactly those fields"
        raise ValidationError(f"primary_key={shown} needs an index on {on}", table=table.name)
    return index.name


def validate(instance: Model) -> None:
    """Run the attrs validators. Raises ValidationError with their words, in which the value itself is left out."""
    if not instance.__validated__:
        return
    for attribute in attrs.fields(type(instance)):  # type: ignore[arg-type]
        value = getattr(instance, attribute.name)
        try:
            if attribute.validator is not None:
                attribute.validator(instance, attribute, value)
        except (TypeError, ValueError) as error:
            if isinstance(error, ValidationError):
                raise
            words = str(error.args[0] if error.args else "not accepted").replace(repr(value), "…")
            words = words if not isinstance(value, str) or not value else words.replace(value, "…")
            field = instance.__columns__[attribute.name].field
            raise ValidationError(words, table=instance.__table__.name, field=field) from None


def dump(instance: Model) -> dict[str, Value]:
    """The document for an instance, without system fields. Raises ValidationError for what cannot be stored."""
    document: dict[str, Value] = {}
    for name, column in instance.__columns__.items():
        value = column.dump(getattr(instance, name))
        if value is not MISSING:
            document[column.field] = owned(value)
    return document
