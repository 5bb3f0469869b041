"""What a class body says of a model: `field`, `Index`, `SearchIndex` and `VectorIndex`."""

from __future__ import annotations

import builtins
import copy
import typing
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from inspect import signature
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, NoReturn
from uuid import UUID

import attrs
from typing_extensions import TypeVar

from convexorm.errors import ValidationError
from convexorm.mapping.expressions import NoneForm
from convexorm.mapping.hooks import is_postponed
from convexorm.mapping.references import Target
from convexorm.mapping.validation import validators_in
from convexorm.types import ColumnType
from convexorm.values import is_whole

if TYPE_CHECKING:
    from convexorm.conditions import Condition
    from convexorm.mapping.model import Model
    from convexorm.querying.texts import TextQuery

__all__ = ["Field", "Index", "SearchIndex", "VectorIndex", "field"]


_SHARED = (str, int, float, bytes, type(None), Enum, date, time, timedelta, Decimal, UUID, PurePath)
"""What cannot be changed in place, so that all instances may share it."""


@attrs.frozen
class Field:
    """What `field(...)` was told."""

    name: str | None
    type: ColumnType[Any] | None
    none: NoneForm
    optional: bool
    told_default: Any
    factory: Callable[[], Any] | None
    told_validator: Any
    references: Target | None = None
    check: bool = False

    def validator(self, method: object) -> NoReturn:
        """Raises ValidationError: the decorator is attrs'."""
        raise ValidationError(
            "a column's validator is told by field(validator=...), a function of the instance, attribute and value; "
            "what looks at several attributes is a method __validate__"
        )

    def default(self, method: object) -> NoReturn:
        """Raises ValidationError: the decorator is attrs'."""
        raise ValidationError("a column's default is told by field(default=...), or made by field(factory=...)")

    @property
    def maker(self) -> Callable[[], Any] | None:
        """What makes the default anew for each instance; None where there is none, or where all may share it."""
        if self.factory is not None or self.told_default is attrs.NOTHING or isinstance(self.told_default, _SHARED):
            return self.factory
        return partial(copy.deepcopy, self.told_default)

    @property
    def made(self) -> Any:
        """The default as attrs takes it."""
        maker = self.maker
        return self.told_default if maker is None else attrs.Factory(maker)


def field(
    *,
    default: Any = attrs.NOTHING,
    factory: Callable[[], Any] | None = None,
    name: str | None = None,
    type: ColumnType[Any] | None = None,
    none: NoneForm = "absent",
    optional: bool = False,
    validator: Any = None,
    references: Target | None = None,
    check: bool = False,
    kw_only: Literal[True] = True,
) -> Any:
    """Details of a column.

    `default`, or `factory` for a value made anew each time (`factory=list`), makes it optional in the constructor. `name`
    is the Convex field's, where it differs from the attribute's. `type` overrides how values are stored. `none` says how
    `None` is stored: `"absent"` (no field), `"null"`, or `"either"` (written as no field; null is accepted and read too).
    `optional` lets the schema accept documents without the field although the model always writes it. `validator` is an
    attrs validator, run by the constructor, when the attribute is set, by `update`, `bulk_upsert` and `merge`, and before a
    commit of the instance. `references` is the model, or its name, whose primary key the column holds; with `check` (there,
    or on an `Id` column) a commit that leaves it to lead nowhere is refused. Raises ValidationError for details that
    contradict each other.
    """
    if none not in typing.get_args(NoneForm):
        raise ValidationError(f"none is one of {', '.join(map(repr, typing.get_args(NoneForm)))}, got {none!r}")
    if factory is not None and default is not attrs.NOTHING:
        raise ValidationError("a column has a default or a factory, not both")
    if factory is not None and not callable(factory):
        raise ValidationError(f"a factory is called for each default, as in factory=list; got {_kind(factory)}")
    if type is not None and not isinstance(type, ColumnType):
        raise ValidationError(f"type is a ColumnType that dumps and loads the values, got {_kind(type)}")
    if is_postponed(factory):
        raise ValidationError("a factory waits for nothing; make it a plain function")
    _check_validator(validator)
    _check_called(validator)
    if references is not None and not isinstance(references, str) and not isinstance(references, builtins.type):
        raise ValidationError(f"references takes a model or its name, got {_kind(references)}")
    return Field(_told_name(name, "field") or None, type, none, optional, default, factory, validator, references, check)


def _check_validator(validator: Any) -> None:
    """Raise ValidationError for a validator that is none, or would have to be awaited, be it inside another."""
    for one in validators_in(validator):
        if not callable(one):
            raise ValidationError(f"a validator is called with the instance, the attribute and the value, got {_kind(one)}")
        if is_postponed(one):
            raise ValidationError("a validator waits for nothing; make it a plain function")
        if attrs.has(builtins.type(one)):  # of attrs, perhaps of others: `optional`, `and_`, `deep_iterable`
            inside = [getattr(one, name.name, None) for name in attrs.fields(builtins.type(one))]
            for held in inside:
                each = held if isinstance(held, list | tuple) else (held,)
                _check_validator([inner for inner in each if callable(inner) and not isinstance(inner, builtins.type)])


def _check_called(validator: Any) -> None:
    """Raise ValidationError for a validator that cannot be called with the instance, the attribute and the value."""
    for one in validators_in(validator):
        try:
            told = signature(one)
        except (TypeError, ValueError):  # of C, which does not say
            continue
        try:
            told.bind(None, None, None)
        except TypeError:
            raise ValidationError(
                f"a validator is called with the instance, the attribute and the value; {_named(one)} takes {told}"
            ) from None


def _named(one: Any) -> str:
    return str(getattr(one, "__qualname__", type(one).__qualname__))


def _kind(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else value.__class__.__name__


class _Named:
    """What has a name of its own in Convex, or else that of its attribute: `named`, the one it was given to first."""

    name: str
    named = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self.name, self.named = self.name or name, self.named or name


class Index(_Named):
    """An index over attributes, in order: `by_owner = Index("owner_id", "done")`. The attribute's name is its name, unless
    `name` says another.

    With `unique` no two documents of the table hold the same values of the attributes: a commit that would leave two is
    refused with StaleDataError (`exists`). Documents that lack all of them do not clash; where some are missing, a missing
    one equals a missing one. A `staged` index is built by Convex after a deployment, in the background, and nothing reads
    through it: declare it without `staged` once it is complete. Raises ValidationError for anything but a bool, and for one
    that is to be both.
    """

    def __init__(self, *attributes: str, unique: bool = False, staged: bool = False, name: str | None = None) -> None:
        _check_told(unique=unique, staged=staged)
        for attribute in attributes:
            _told_attribute(attribute)
        if unique and staged:
            raise ValidationError("an index that is staged cannot be kept unique: it is not there to be looked at")
        self.attributes = attributes
        self.unique = unique
        self.staged = staged
        self.name = _told_name(name)

    def __repr__(self) -> str:
        return f"<Index {self.name} ({', '.join(self.attributes)}){' unique' if self.unique else ''}>"


def _check_told(**options: object) -> None:
    """Raise ValidationError for an option that is neither True nor False."""
    for option, told in options.items():
        if not isinstance(told, bool):
            raise ValidationError(f"{option} is True or False, got {_kind(told)}")


def _told_name(name: object, of: str = "index") -> str:
    """The name that an index or a field was told; "" if none was. Raises ValidationError for what is no name."""
    if name is None:
        return ""
    if not isinstance(name, str) or not name:
        raise ValidationError(f"name is the {of}'s name in Convex, got {_kind(name) if name != '' else 'nothing'}")
    return str.__str__(name)


def _told_attribute(attribute: object) -> str:
    """The attribute that an index was told. Raises ValidationError for anything but its name."""
    if not isinstance(attribute, str):
        raise ValidationError(f"an index is told the names of attributes, as in Index('owner_id'), got {_kind(attribute)}")
    return attribute


def _told_fields(fields: object) -> tuple[str, ...]:
    """The filter fields that an index was told. Raises ValidationError for what are none, such as a single text."""
    if isinstance(fields, str) or not isinstance(fields, tuple | list) or not all(isinstance(one, str) for one in fields):
        raise ValidationError('filter_fields are attributes, as in filter_fields=("channel",)')
    return tuple(fields)


M = TypeVar("M", bound="Model", default=Any)
M2 = TypeVar("M2", bound="Model")


class VectorIndex(_Named, typing.Generic[M]):
    """A native vector index: `by_embedding = VectorIndex("embedding", dimensions=384, filter_fields=("tag",))`.

    `dimensions` is 2 to 4,096. The attribute holds a list of that many floats, or None where it may. `filter_fields` are
    attributes that a search may ask to be equal to something. A `staged` index is built by Convex in the background, and
    nothing searches it. Raises ValidationError where it is to be `unique`: vectors are compared by distance, so none has a
    key.
    """

    def __init__(
        self,
        attribute: str,
        *,
        dimensions: int,
        filter_fields: tuple[str, ...] = (),
        unique: Literal[False] = False,
        staged: bool = False,
        name: str | None = None,
    ) -> None:
        _check_told(staged=staged)
        if unique is not False:
            raise ValidationError(f"a vector index is not unique; declare Index({attribute!r}, unique=True) beside it")
        self.attribute = _told_attribute(attribute)
        if not is_whole(dimensions):
            raise ValidationError(f"dimensions is how many floats a vector has, got {_kind(dimensions)}")
        self.dimensions = dimensions
        self.filter_fields = _told_fields(filter_fields)
        self.staged = staged
        self.name = _told_name(name)
        self.model: type[M] | None = None

    def __set_name__(self, owner: type[M], name: str) -> None:
        super().__set_name__(owner, name)
        self.model = owner

    if TYPE_CHECKING:  # `Place.by_embedding` is a VectorIndex[Place], so that a search for it answers Places

        def __get__(self, instance: object, owner: type[M2]) -> VectorIndex[M2]: ...


class SearchIndex(_Named, typing.Generic[M]):
    """An index of the words of a text: `by_text = SearchIndex("text", filter_fields=("channel",))`.

    `filter_fields`, up to 16, are attributes that a search may ask to be equal to something. A `staged` index is built by
    Convex in the background, and nothing searches it: declare it without `staged` once it is complete. A table has up to 4.
    """

    def __init__(
        self, attribute: str, *, filter_fields: tuple[str, ...] = (), staged: bool = False, name: str | None = None
    ) -> None:
        _check_told(staged=staged)
        self.attribute = _told_attribute(attribute)
        self.filter_fields = _told_fields(filter_fields)
        self.staged = staged
        self.name = _told_name(name)
        self.model: type[M] | None = None

    def __set_name__(self, owner: type[M], name: str) -> None:
        super().__set_name__(owner, name)
        self.model = owner

    def __repr__(self) -> str:
        return f"<SearchIndex {self.name} ({self.attribute})>"

    def search(self, text: str, *, where: Condition | None = None, limit: int = 20) -> TextQuery[M]:
        """What `session.search_text` answers, as something that `session.read` takes beside queries, and that explains."""
        from convexorm.querying.texts import TextQuery, check_index

        model = check_index(self)
        return TextQuery.of(model, self.name, text, where, limit)

    if TYPE_CHECKING:  # as of a VectorIndex

        def __get__(self, instance: object, owner: type[M2]) -> SearchIndex[M2]: ...
