"""`Model`, the base of entities, and what instances carry.

A model class is an attrs class whose attributes are `Column`s. Declaring it computes everything a session needs once, as
its `__mapper__`. Instances carry an `InstanceState`: the document they were loaded from and the session that watches them.
"""

from __future__ import annotations

import copy
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
from typing_extensions import dataclass_transform

from convexorm import types
from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.given import by_name
from convexorm.mapping.declaring import Body, Declaration, declare, frame_of_declaration
from convexorm.mapping.expressions import Column, Mapped, unmade
from convexorm.mapping.fields import Field, Index, SearchIndex, VectorIndex, field
from convexorm.mapping.hooks import Hooked
from convexorm.mapping.mapper import Mapper, mapper_of
from convexorm.mapping.records import Record
from convexorm.mapping.references import UNSET
from convexorm.mapping.validation import check_whole, validate
from convexorm.querying.query import Query
from convexorm.relatives import lead_alike, packed, undo, unpack
from convexorm.values import MISSING, Value, dumps, loads

if TYPE_CHECKING:
    from convexorm.mapping.references import Reference
    from convexorm.relatives import Moves

__all__ = ["Index", "InstanceState", "Model", "SearchIndex", "VectorIndex", "field", "named", "set_state", "state_of"]


# -- instances -----------------------------------------------------------------------------------------------------


class Watcher(typing.Protocol):
    """What an instance tells its session."""

    moves: Moves
    """Which instances were put into lists, and taken out of them."""

    def touch(self, instance: Model) -> None:
        """A mutable value was handed out: the instance may differ from its document."""

    def changing(self, instance: Model) -> None:
        """An attribute is about to be set."""

    def bring(self, instance: Model) -> None:
        """A new instance is related to one of the session."""

    def discard(self, instance: Model) -> None:
        """An instance of the session is to be no longer."""

    def keep(self, instance: Model) -> None:
        """An instance that was to be no longer is to be."""

    def known(self, reference: Reference, value: object) -> Model | None:
        """The instance that a reference of this value leads to, if the session holds it."""

    def stored(self, reference: Reference, value: object) -> Model | None:
        """The same, of those whose documents are stored: it may be to be replaced."""

    def referring(self, reference: Reference, value: object) -> list[Model]:
        """The instances of the session whose reference has this value."""

    def replacement(self, instance: Model) -> Model | None:
        """The new instance that is to become the document of one of the session's, if one was upserted for that."""

    def all_referring(self, instance: Model, key: object) -> list[tuple[Model, Reference]]:
        """All instances of the session that refer to one by this primary key, each with the reference that does."""


class InstanceState(msgspec.Struct, eq=False):
    """What a session knows of an instance.

    `held` is the `document`, or the record that it was read as, with its `id` and its `tick`; None before the first commit.
    `session` is the one that holds the instance. `deleted` is set once a commit has deleted it. `looked_at` says that
    attributes stand in the instance beside what its document holds, all of those at least that it holds as they are.
    `doubtful` says that the document may have changed or gone since, by the session's own doing. `related` is what of
    relations is known (see `relatives`), None where that is nothing. `made` are the defaults that were made for who has
    looked at attributes which the document lacks, by their names.
    """

    held: Mapping[str, Value] | Record | None = None
    session: Watcher | None = None
    id: str = ""
    tick: int = 0
    looked_at: bool = False
    deleted: bool = False
    doubtful: bool = False
    related: dict[Any, Any] | None = None
    made: dict[str, Any] | None = None

    @property
    def document(self) -> Mapping[str, Value] | None:
        """What the database held when the instance was last loaded or written, system fields included, if it did."""
        held = self.held
        if isinstance(held, Record):
            document = held.document()
            document["_id"], document["_creationTime"] = self.id, self.tick / 1000
            self.held = held = document
        return held

    @document.setter
    def document(self, document: Mapping[str, Value] | None) -> None:
        self.held = document

    @property
    def known_id(self) -> Value:
        """The `_id` of the document, None if there is none."""
        held = self.held
        return self.id if isinstance(held, Record) else None if held is None else held.get("_id")

    def __reduce__(self) -> tuple[Any, ...]:
        """What of it may leave the process or the session: an unpickled instance is detached."""
        return InstanceState, (self.document, None, "", 0, self.looked_at, self.deleted, False, None, self.made)

    def __repr__(self) -> str:
        return f"<InstanceState {self.name}>"

    def make(self, name: str, value: Any) -> None:
        """A default was made for an attribute that the document lacks."""
        if self.made is None:
            self.made = {}
        self.made[name] = value

    def has_made(self, name: str, value: Any) -> bool:
        """Whether an attribute has a default that nobody has set, maybe changed in place."""
        return self.made is not None and self.made.get(name, self) is value

    def touch(self, instance: Model) -> None:
        if self.session is not None:
            self.session.touch(instance)

    @property
    def name(self) -> str:
        """SQLAlchemy's word: transient, pending, persistent, detached or deleted."""
        if self.deleted:
            return "deleted"
        if self.held is None:
            return "transient" if self.session is None else "pending"
        return "detached" if self.session is None else "persistent"


class _SystemField(Column[Any]):
    """`_id` or `_creationTime`: an operand on the class, read-only on an instance, None before the first commit."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            mapper = owner.__dict__.get("__mapper__")
            return self if mapper is None else self._of(mapper.name)
        state: InstanceState | None = instance.__dict__.get("_state")
        if state is None or state.held is None:
            return None
        if isinstance(state.held, Record):
            return self.load(state.id if self.field == "_id" else state.tick / 1000)
        return self.load(state.held[self.field])

    def _of(self, table: str) -> _SystemField:
        return _SystemField(table=table, name=self.name, field=self.field, none="absent", compile=self._compile)

    def __set__(self, instance: Any, value: Any) -> None:
        raise AttributeError(f"{self.name} is given by Convex and cannot be set")


def _system_field(name: str, field: str, type: types.ColumnType[Any]) -> Any:
    return _SystemField(table="", name=name, field=field, none="absent", compile=lambda: (type, False))


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class Model(Hooked):
    """The base of entities. `class Task(Model, table="tasks", primary_key="id")` declares one.

    `primary_key` names the attribute that identifies the document to the application, or a tuple of several; they are all
    the fields of an index, in its order. Without it a document is known by its `_id`. A subclass without `table` is a
    mixin whose columns are inherited. Constructors take keywords only and raise ValidationError for unknown and missing
    fields. Attributes are checked against the table when a session commits.
    """

    __mapper__: ClassVar[Mapper]
    _body: ClassVar[Body]
    _details: ClassVar[Mapping[str, Field]] = {}
    _setters: ClassVar[Mapping[str, Callable[[Any, Any], Any]]] = {}
    _state: InstanceState

    convex_id: Mapped[str | None] = _system_field("convex_id", "_id", types.StrType())
    """The document's `_id`; None before the first commit."""
    creation_time: Mapped[float | None] = _system_field("creation_time", "_creationTime", types.FloatType())
    """The document's `_creationTime` in milliseconds since the epoch; None before the first commit."""
    convex_created_at: Mapped[datetime | None] = _system_field("convex_created_at", "_creationTime", types.TimestampType())
    """`creation_time` as a datetime in UTC; None before the first commit."""

    def __init_subclass__(
        cls,
        table: str | None = None,
        primary_key: str | tuple[str, ...] | None = None,
        discriminator: str | None = None,
        discriminator_field: str | None = None,
        abstract: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        told = Declaration(table, primary_key, discriminator, discriminator_field, abstract)
        declare(cls, told, frame_of_declaration())

    def __init__(self, /, **values: Any) -> None:
        mapper = type(self).__dict__.get("__mapper__")
        if mapper is None:
            raise TypeError(f"{type(self).__name__} is not mapped; declare it with table=...")
        if mapper.attributes(values):  # nearly always
            values["_state"] = InstanceState(None, None, "", 0, True)
            self.__dict__.update(values)  # beside what a class of its own may have set before
            return
        set_state(self, InstanceState(looked_at=True))
        given: Mapping[str, Any] = {}
        if mapper.relationships and not mapper.relationships.keys().isdisjoint(values):
            given = {name: value for name, value in values.items() if name in mapper.relationships}
            values = mapper.taking_references(values)
        try:
            try:
                self.__attrs_init__(**values)  # type: ignore[attr-defined]
            except TypeError:
                left = mapper.left_out(values)
                if not left:
                    raise
                values = {**values, **left}
                self.__attrs_init__(**values)  # type: ignore[attr-defined]
            for name, value in given.items():
                setattr(self, name, value)
        except (TypeError, ValueError) as error:
            undo(self)
            _explain(mapper, values)
            if not isinstance(error, ValidationError) and mapper.columns.keys() <= self.__dict__.keys():
                validate(self)
            raise
        if mapper.validated and not any(value is UNSET for value in self.__dict__.values()):  # else a relation is to set it
            try:
                check_whole(self)
            except BaseException:
                undo(self)
                raise

    if not TYPE_CHECKING:  # else every attribute could be set

        def __setattr__(self, name: str, value: Any) -> None:
            setting = type(self)._setters.get(name)
            _set(self, name, value if setting is None else setting(self, value))

    @classmethod
    def query(cls) -> Query[Self]:
        """All documents of the table: the start of a query."""
        mapper_of(cls)
        return Query(cls)

    @property
    def primary_key(self) -> Any:
        """The primary key's value (a tuple, if it has several attributes), or the `_id` of a model without one."""
        names = self.__mapper__.key
        if not names:
            return self.convex_id
        return getattr(self, names[0]) if len(names) == 1 else tuple(getattr(self, name) for name in names)

    def __copy__(self) -> Self:
        """A new transient instance with the same values, which `session.add` makes a document of its own.

        Its references lead where those of this one do; its lists are empty, since what is in this one's refers to this one.
        """
        twin = typing.cast(Self, self.__mapper__.create(type(self)))
        _hold(twin, _values_of(self))
        set_state(twin, InstanceState(looked_at=True))
        lead_alike(twin, self)
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same, with copies of the values."""
        twin = typing.cast(Self, self.__mapper__.create(type(self)))
        memo[id(self)] = twin
        _hold(twin, _copied(self, _values_of(self), memo))
        set_state(twin, InstanceState(looked_at=True))
        lead_alike(twin, self)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """What leaves the process: the instance, detached, with what was loaded of its relations."""
        held = {**self.__dict__, **_slots_of(self)}
        if state_of(self).related:
            held[_RELATED] = packed(self)
        return held

    def __setstate__(self, state: dict[str, Any]) -> None:
        held = dict(state)
        told = held.pop(_RELATED, None)
        _hold(self, held)
        for name, value in (self._state.made or {}).items():
            shown = held.get(name, self)
            if shown is value or (type(shown) in _COPIED and type(shown) is type(value) and shown == value):
                self._state.make(name, shown)
        if told is not None:
            unpack(self, told)

    def to_dict(self) -> dict[str, Any]:
        """The columns by attribute, as Python values of their own: what `from_dict` takes."""
        return _copied(self, {name: getattr(self, name) for name in self.__mapper__.columns}, {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A new instance of `to_dict`'s values. Raises ValidationError for unknown and missing attributes."""
        return cls(**by_name(values, "attributes with their values"))

    def to_json(self) -> str:
        """The columns by attribute as JSON text, exactly: what JSON has no word for is written as Convex writes it."""
        columns = self.__mapper__.columns
        dumped = {name: column.dump(getattr(self, name)) for name, column in columns.items()}
        return dumps({name: None if value is MISSING else value for name, value in dumped.items()})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """A new instance of what `to_json` wrote. Raises ValidationError for any other text."""
        mapper = mapper_of(cls)
        try:
            stored = loads(text)
        except (ValueError, TypeError, KeyError, RecursionError):
            stored = None
        if not isinstance(stored, dict):
            raise ValidationError("expected the text of a JSON object, as to_json writes it", table=mapper.name)
        columns = mapper.columns
        return cls(**{name: columns[name].load(value) if name in columns else value for name, value in stored.items()})

    def __repr__(self) -> str:
        identity = f" {self.convex_id}" if self.convex_id else ""
        state = self.__dict__.get("_state")
        return f"<{type(self).__name__}{identity} ({'not made' if state is None else state.name})>"


def _values_of(instance: Model) -> dict[str, Any]:
    """What an instance holds by attribute: its columns, and whatever else was set on it."""
    held = {name: value for name, value in instance.__dict__.items() if name != "_state"} | _slots_of(instance)
    if state_of(instance).held is not None:
        held.update((name, getattr(instance, name)) for name in instance.__mapper__.columns if name not in held)
    return held


def _copied(instance: Model, values: dict[str, Any], memo: dict[int, Any]) -> dict[str, Any]:
    """A deep copy of what an instance holds. ValidationError that names what cannot be copied."""
    try:
        return copy.deepcopy(values, memo)
    except Exception:
        for name, value in values.items():
            try:
                copy.deepcopy(value)
            except Exception as error:
                mapper = instance.__mapper__
                field = mapper.columns[name].field if name in mapper.columns else name
                problem = f"this {type(value).__name__} cannot be copied: it raises {type(error).__name__}"
                raise ValidationError(problem, table=mapper.name, field=field) from error
        raise


def _slots_of(instance: Model) -> dict[str, Any]:
    """What is set in slots, such as those of a mixin."""
    state: object = object.__getstate__(instance)
    return state[1] if isinstance(state, tuple) else {}


def _hold(instance: Model, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        _set(instance, name, value)


def state_of(instance: Model) -> InstanceState:
    """What is known of an instance. Raises InvalidRequestError for what is no instance of a model, or half of one."""
    if not isinstance(instance, Model):
        given = f"the model {instance.__name__}" if isinstance(instance, type) else f"a {type(instance).__name__}"
        raise InvalidRequestError(f"an instance of a model is needed, got {given}")
    try:
        return instance._state
    except AttributeError:
        raise unmade(instance) from None


def named(instance: Model) -> str:
    """What errors call an instance: its class's own `__repr__` may show contents, or fail."""
    return Model.__repr__(instance)


def set_state(instance: Model, state: InstanceState) -> None:
    """Give an instance its state; what its class does when attributes are set has no say in it."""
    _set(instance, "_state", state)


_set = object.__setattr__


_COPIED = frozenset((int, float, str, bytes))
"""Of what a pickle may make two of one; whatever can be changed in place it makes again as the one object that it was."""


_RELATED = "_related"
"""Under which name a pickled instance has its relations."""


def _explain(mapper: Mapper, values: Mapping[str, Any]) -> None:
    """Turn a constructor's TypeError about its keywords into a ValidationError that says what would be right."""
    for name in values:
        if name not in mapper.columns:
            known = ", ".join((*mapper.columns, *mapper.relationships))
            raise ValidationError(f"no such attribute; the attributes are {known}", table=mapper.name, field=name) from None
    for name, column in mapper.columns.items():
        if not column.has_default and name not in values:
            raise ValidationError("required, and not given", table=mapper.name, field=name) from None


def dump(instance: Model) -> dict[str, Value]:
    """The document for an instance, without system fields. Raises ValidationError for what cannot be stored."""
    return instance.__mapper__.dump(instance)
