"""References: what a document says of another one, by its `_id` (`Id[Customer]`) or its primary key.

Models may be named by texts where their classes come later. A text is looked up where it is written, then among all models
by the names of their classes.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, TypeVar

import attrs

from convexorm import schema
from convexorm.errors import ValidationError
from convexorm.types.codec import ColumnType, refuse, total
from convexorm.types.names import Names
from convexorm.values import Missing, Value, check_text

if TYPE_CHECKING:
    from typing_extensions import TypeAliasType

    from convexorm.mapping.mapper import Mapper
    from convexorm.mapping.model import Model

__all__ = ["UNSET", "Id", "IdType", "Reference", "Target", "model_named", "references_of"]

Target: TypeAlias = "type[Model] | str"
"""A model, or the name of one."""


class _Unset:
    """What a reference holds that is taken from its relation when the document is written."""

    def __repr__(self) -> str:
        return "UNSET"

    def __copy__(self) -> _Unset:
        return self

    def __deepcopy__(self, memo: object) -> _Unset:
        return self

    def __reduce__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final[Any] = _Unset()
"""The default of a reference that its relation sets: `field(references=Customer, default=UNSET)`."""


# -- models by name ------------------------------------------------------------------------------------------------


def model_named(target: Any, names: Names | None) -> type[Model]:
    """The model that a class or a text says. NameError if there is none yet, ValidationError for anything else."""
    while isinstance(target, str | typing.ForwardRef):
        text = target if isinstance(target, str) else target.__forward_arg__
        target = (names or Names(object)).resolve(text)
    if isinstance(target, type) and hasattr(target, "__mapper__"):
        return target
    shown = target.__name__ if isinstance(target, type) else type(target).__name__
    raise ValidationError(f"a reference leads to a model, a class with a table, or says its name; got {shown}")


# -- ids -----------------------------------------------------------------------------------------------------------


@total
class IdType(ColumnType[str]):
    """The `_id` of a document of one table, a string: of a model's, or of a system table such as `_storage`."""

    name = "Id"
    mutable = False
    as_is = str

    def __init__(self, target: Any, names: Names | None = None) -> None:
        self.named = target
        self.names = names
        self._validator: schema.Id | None = None

    def seen_from(self, names: Names | None) -> IdType:
        """The type, which looks its model's name up where these names are seen."""
        return self if names is None or self.names is not None else IdType(self.named, names)

    @property
    def target(self) -> type[Model]:
        """The model. NameError while there is none of its name."""
        model = self.named = model_named(self.named, self.names)
        return model

    @property
    def system(self) -> str | None:
        """The system table whose documents it names; None where it is a model's."""
        return self.named if self.named in schema.SYSTEM_TABLES else None

    @property
    def validator(self) -> schema.Validator:  # type: ignore[override]
        if self._validator is None:
            self._validator = schema.Id(self.system or self.target.__mapper__.name)
        return self._validator

    def dump(self, value: str) -> Value:
        if not isinstance(value, str):
            refuse("Id (a string)", value)
        check_text(value)
        return str.__str__(value)

    def load(self, value: Value) -> str:
        return value if type(value) is str else refuse("Id (a string)", value)

    def sample(self, name: str, number: int) -> str:
        raise TypeError("no Id can be made up: it is a document's")


T = TypeVar("T")

if TYPE_CHECKING:
    Id = TypeAliasType("Id", str, type_params=(T,))
else:

    class Id:
        """The annotation of the `_id` of a document of one model: `Mapped[Id["Customer"]]`. A `str` at run time.

        A system table is named by `Id["_storage"]`, which checkers take as `Id[Literal["_storage"]]`.
        """

        def __class_getitem__(cls, target: Any) -> Any:
            if typing.get_origin(target) is typing.Literal:
                (target,) = typing.get_args(target)
            return Annotated[str, IdType(target)]


# -- references of a model -----------------------------------------------------------------------------------------


@attrs.define(eq=False, slots=False)
class Reference:
    """A column that says which document of another model is meant: by its `_id`, or by its primary key.

    With `check` a commit is refused that would leave it to lead nowhere.
    """

    mapper: Mapper
    attribute: str
    check: bool
    _target: Any
    _names: Names | None
    by_id: bool

    @property
    def field(self) -> str:
        """The field of documents that it is stored in."""
        return self.mapper.columns[self.attribute].field

    @property
    def nullable(self) -> bool:
        """Whether it may refer to none."""
        return self.mapper.columns[self.attribute].nullable

    @property
    def null(self) -> bool:
        """Whether it is null, and not left out, where it refers to none."""
        return self.mapper.columns[self.attribute].none == "null"

    def dump(self, value: Any) -> Value | Missing:
        """What a document holds for an attribute's value."""
        return self.mapper.columns[self.attribute].dump(value)

    def load(self, stored: Value | Missing) -> Any:
        """The attribute's value for what a document holds."""
        return self.mapper.columns[self.attribute].load(stored)

    @cached_property
    def target(self) -> type[Model]:
        """The model it leads to. NameError while there is none of its name."""
        return model_named(self._target, self._names)

    def check_key(self) -> None:
        """Raise ValidationError for a target that no single field refers to, NameError while there is none."""
        self.key  # noqa: B018

    @cached_property
    def key(self) -> str | None:
        """The attribute of the target that it holds; None for the `_id`."""
        mapper = self.target.__mapper__
        if self.by_id or not mapper.key:
            return None
        if len(mapper.key) > 1:
            raise ValidationError(
                f"{self.target.__name__} has a primary key of several attributes, which no single field refers to",
                table=self.mapper.name,
                field=self.attribute,
            )
        return mapper.key[0]

    @property
    def key_field(self) -> str:
        """The field of the target that it holds."""
        key = self.key
        return "_id" if key is None else self.target.__mapper__.columns[key].field

    @property
    def index(self) -> str:
        """The index of the target that finds it."""
        return "by_id" if self.key is None else self.target.__mapper__.primary_index

    def is_same(self, other: Reference) -> bool:
        """Whether the other is this one, maybe as a class has it that takes it over."""
        return self.mapper.root is other.mapper.root and self.attribute == other.attribute

    def of(self, instance: Model) -> Any:
        """What a reference to this instance holds; UNSET while it has no `_id`."""
        key = self.key
        value = instance.convex_id if key is None else getattr(instance, key)
        return UNSET if value is None else value


def references_of(mapper: Mapper, told: Mapping[str, tuple[Any, bool, Names | None]]) -> dict[str, Reference]:
    """The references of a model by attribute: those that `told` names (target, check, names), and its columns of ids."""
    found: dict[str, Reference] = {}
    for name, column in mapper.columns.items():
        target, check, names = told.get(name, (None, False, None))
        kind = column.type
        if isinstance(kind, IdType) and kind.system is None:
            found[name] = Reference(mapper, name, check, kind.named, kind.names or names, by_id=True)
        elif target is not None:
            found[name] = Reference(mapper, name, check, target, names, by_id=False)
        elif check:
            raise ValidationError(
                "check=True is for a reference: an Id, or a column with references=...", table=mapper.name, field=name
            )
    return found
