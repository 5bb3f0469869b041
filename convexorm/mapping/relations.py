"""Relations between models: `Related` and `RelatedList`, what a class body says of them, and what they lead through.

A `relationship` is what a class body says. What it means, a `Relation` of the mapper, is found out when it is first needed,
since it speaks of classes that may come later: a reference of the own model (`ToOne`), an index of the other whose first
field refers here (`ToMany`), or a model between the two with a reference to each (`Through`). On a class the attribute is a
path to load and to ask about (`One`, `Many`), on an instance what was loaded.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, overload

import attrs
from msgspec.structs import replace

from convexorm.conditions import MAX_LEVELS, Combined, Comparison, Condition, Exists
from convexorm.errors import InvalidRequestError, LimitExceeded, ValidationError
from convexorm.given import several
from convexorm.mapping.expressions import unmade
from convexorm.mapping.references import Reference, Target, model_named
from convexorm.relatives import assign, related
from convexorm.requests import Follow, Range

if TYPE_CHECKING:
    from convexorm.mapping.mapper import Mapper
    from convexorm.mapping.model import Model
    from convexorm.types.names import Bound, Names

__all__ = [
    "Many",
    "OnDelete",
    "One",
    "Path",
    "Related",
    "RelatedList",
    "Relation",
    "Relationship",
    "Sole",
    "Through",
    "ToMany",
    "ToOne",
    "relationship",
    "resolved",
]

T = TypeVar("T")
M = TypeVar("M")

Order: TypeAlias = Literal["asc", "desc"]
OnDelete: TypeAlias = Literal["cascade", "restrict", "nullify"]


# -- what a class shows --------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Path:
    """A relation of a model, as a query is told to load it."""

    model: type[Model]
    name: str
    _load: tuple[Path, ...] = ()

    @property
    def relation(self) -> Relation:
        """What it leads through."""
        return self.model.__mapper__.relations[self.name]

    def edge(self) -> Follow:
        """The edge that loads it."""
        raise NotImplementedError

    @property
    def loads(self) -> tuple[Path, ...]:
        """What is to be loaded with what it leads to."""
        return self._load

    @property
    def _levels(self) -> int:
        return 1 + max((path._levels for path in self._load), default=0)

    def _loading(self, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        """What is to be loaded with it, and these. Raises LimitExceeded where that is deeper than one call may say."""
        loading = (*self._load, *check_paths(paths, self.relation.target))
        levels = 1 + max((path._levels for path in loading), default=0)
        if levels > MAX_LEVELS:
            raise LimitExceeded("levels of relations to load", maximum=MAX_LEVELS, actual=levels)
        return loading

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model.__name__}.{self.name}>"


@attrs.frozen(eq=False, repr=False)
class One(Path, Generic[T]):
    """A relation to one document: `Order.customer`."""

    def load(self, *paths: Path) -> One[T]:
        """The relation, with these of what it leads to."""
        return attrs.evolve(self, load=self._loading(paths))

    def edge(self) -> Follow:
        """The edge that loads it."""
        return replace(self.relation.edge(()), follow=tuple(path.edge() for path in self._load))

    def has(self, *conditions: Condition) -> Condition:
        """There is such a document, and all conditions on its columns hold; evaluated where the data is."""
        return self.relation.exists(conditions)


@attrs.frozen(eq=False, repr=False)
class Many(Path, Generic[M]):
    """A relation to several documents, in the order of an index: `Customer.orders`."""

    _where: tuple[Condition, ...] = ()
    _order: Literal["asc", "desc"] = "asc"
    _limit: int | None = None
    _wide: bool = False

    def load(self, *paths: Path) -> Many[M]:
        """The relation, with these of what it leads to."""
        return attrs.evolve(self, load=self._loading(paths))

    def where(self, *conditions: Condition) -> Many[M]:
        """Only documents for which all conditions hold."""
        self.relation.target.query().where(*conditions)
        return attrs.evolve(self, where=(*self._where, *conditions))

    def order(self, order: Literal["asc", "desc"]) -> Many[M]:
        """`"asc"` (the default) or `"desc"`, in the order of the index."""
        self.relation.target.query().order(order)
        return attrs.evolve(self, order=order)

    def limit(self, limit: int | None) -> Many[M]:
        """At most so many documents of each list."""
        self.relation.target.query().limit(limit)
        return attrs.evolve(self, limit=limit)

    def any(self, *conditions: Condition) -> Condition:
        """For one of the documents or more all conditions on its columns hold; evaluated where the data is."""
        return self.relation.exists(conditions)

    def edge(self) -> Follow:
        """The edge that loads it."""
        limit = None if self._wide else self._limit
        return self.relation.listed(self._where, self._order, limit, tuple(path.edge() for path in self._load))

    def wide(self) -> Many[M]:
        """The same, which reads all rows between, however many of the documents that they lead to are wanted."""
        return attrs.evolve(self, wide=True)

    @property
    def is_wide(self) -> bool:
        """Whether all rows between are read."""
        return self._wide

    @property
    def most(self) -> int | None:
        """How many documents of each list at most."""
        return self._limit

    @property
    def whole(self) -> bool:
        """Whether nothing of a list is left out."""
        return not self._where and self._limit is None


def check_paths(paths: Iterable[object], model: type[Model] | None) -> tuple[Path, ...]:
    """The paths. InvalidRequestError for what is none, or begins at another model, if one is given."""
    checked: list[Path] = []
    for path in several(paths, "relations to load"):
        if not isinstance(path, Path):
            given = f"the model {path.__name__}" if isinstance(path, type) else type(path).__name__
            raise InvalidRequestError(f"load takes relations{_known_of(model)}, got {given}")
        if model is not None and not (issubclass(model, path.model) or issubclass(path.model, model)):
            raise InvalidRequestError(f"{path.model.__name__}.{path.name} is no relation of {model.__name__}")
        checked.append(path)
    return tuple(checked)


def _known_of(model: type[Model] | None) -> str:
    if model is None:
        return ""
    known = ", ".join(f"{model.__name__}.{name}" for name in model.__mapper__.relations) or "none"
    return f" of {model.__name__} ({known})"


# -- what a class body says ----------------------------------------------------------------------------------------


class Related(Generic[T]):
    """The annotation of a relation to one document: `customer: Related[Customer] = relationship("customer_id")`.

    `Related[Customer | None]` where the reference may be None, or lead nowhere.
    """

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> One[T]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> T: ...
        def __get__(self, instance: object, owner: Any) -> One[T] | T: ...

        def __set__(self, instance: object, value: T) -> None: ...


class RelatedList(Generic[M]):
    """The annotation of a relation to several documents: `orders: RelatedList["Order"] = relationship("by_customer")`."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> Many[M]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> list[M]: ...
        def __get__(self, instance: object, owner: Any) -> Many[M] | list[M]: ...

        def __set__(self, instance: object, value: Iterable[M]) -> None: ...


class Relationship:
    """What `relationship(...)` was told, as the attribute of the class."""

    def __init__(self, by: str | None, through: Target | None, on_delete: OnDelete | None) -> None:
        self.by = by
        self.through = through
        self.on_delete = on_delete
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name

    def __get__(self, instance: Model | None, owner: type[Model]) -> Any:
        if instance is None:
            return self if "__mapper__" not in vars(owner) else owner.__mapper__.relations[self.name].path()
        if "_state" not in vars(instance):
            raise AttributeError(f"{owner.__name__}.{self.name} is not set: {unmade(instance)}")
        return related(instance, owner.__mapper__.relations[self.name])

    def __set__(self, instance: Model, value: Any) -> None:
        if "_state" not in vars(instance):
            raise unmade(instance)
        assign(instance, instance.__mapper__.relations[self.name], value)


def relationship(by: str | None = None, /, *, through: Target | None = None, on_delete: OnDelete | None = None) -> Any:
    """A relation to documents of another model.

    For `Related`, `by` is the attribute that refers to the other document; or a unique index of the other model on the
    reference that leads back here, for the one document that there may be (`Related["Profile | None"]`). For `RelatedList`
    it is an index of the other model whose first field refers here; or `through` is a model with a reference here and one
    there (`by` then names the index of it whose first field refers here, where that has to be said). `on_delete` says what
    deleting a document does to those that refer to it: `"cascade"` deletes them as well, `"restrict"` refuses to delete it
    while there are any, `"nullify"` takes the reference out of them; with `through` these are the rows of the model
    between. Raises ValidationError for what contradicts itself.
    """
    if by is not None and not isinstance(by, str):
        raise ValidationError(f"relationship() takes the name of an attribute or an index, got {type(by).__name__}")
    if by is None and through is None:
        raise ValidationError("a relationship names a reference, an index of the other model, or through=...")
    if on_delete is not None and not (isinstance(on_delete, str) and on_delete in ("cascade", "restrict", "nullify")):
        raise ValidationError(f"on_delete is 'cascade', 'restrict' or 'nullify', got {on_delete!r}")
    return Relationship(by, through, on_delete)


# -- what it means -------------------------------------------------------------------------------------------------


@attrs.define(eq=False, slots=False, repr=False)
class Relation:
    """A relation of a model: `model` has it, `target` is where it leads."""

    mapper: Mapper
    name: str
    target: type[Model]
    many: ClassVar[bool] = True
    sole: ClassVar[bool] = False
    is_through: ClassVar[bool] = False

    @property
    def model(self) -> type[Model]:
        return self.mapper.model

    @property
    def shown(self) -> str:
        """Its name, for errors."""
        return f"{self.model.__name__}.{self.name}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.shown}>"

    def path(self) -> Path:
        """It, as a path to load."""
        raise NotImplementedError

    def edge(self, conditions: Sequence[Condition]) -> Follow:
        """The edge to the documents for which these hold."""
        raise NotImplementedError

    def listed(
        self, conditions: Sequence[Condition], order: Order, limit: int | None, follow: tuple[Follow, ...]
    ) -> Follow:
        """The edge to a list of documents."""
        raise NotImplementedError

    def exists(self, conditions: Sequence[Condition]) -> Condition:
        """The condition that it leads to a document for which these hold. ValidationError for others' conditions."""
        self.target.query().where(*conditions)
        return Exists(self.edge(conditions), self.shown, self.mapper.name)


@attrs.define(eq=False, slots=False, repr=False)
class ToOne(Relation):
    """To the document that a reference means. `nullable`: to none, where it means none."""

    reference: Reference
    nullable: bool
    many: ClassVar[bool] = False

    def path(self) -> Path:
        return One(self.model, self.name)

    def edge(self, conditions: Sequence[Condition]) -> Follow:
        return _to_one(self.reference, conditions)


@attrs.define(eq=False, slots=False, repr=False)
class ToMany(Relation):
    """To the documents whose `reference`, the first field of an index of theirs, means this one."""

    reference: Reference
    index: str
    on_delete: OnDelete | None

    @property
    def referring(self) -> Reference:
        """By which documents refer here."""
        return self.reference

    @property
    def items(self) -> type[Model]:
        """The model of these."""
        return self.target

    def path(self) -> Path:
        return Many(self.model, self.name)

    def edge(self, conditions: Sequence[Condition]) -> Follow:
        return self.listed(conditions, "asc", None, ())

    def listed(
        self, conditions: Sequence[Condition], order: Order, limit: int | None, follow: tuple[Follow, ...]
    ) -> Follow:
        first = Comparison(self.reference.field, "eq", "")  # in the place of whatever document the list is of
        query = self.target.query().by_index(self.index, first).where(*conditions).order(order).limit(limit)
        read = query.plan()
        return Follow(self.reference.key_field, read.range.without_key(), read.order, read.filter, read.limit, follow)


@attrs.define(eq=False, slots=False, repr=False)
class Sole(ToMany):
    """To the one document at most whose `reference` means this one: a list of none or one, shown as what is in it."""

    sole: ClassVar[bool] = True

    def path(self) -> Path:
        return One(self.model, self.name)

    def edge(self, conditions: Sequence[Condition]) -> Follow:
        return self.listed(conditions, "asc", 1, ())


@attrs.define(eq=False, slots=False, repr=False)
class Through(Relation):
    """To the documents that the rows of another model mean (`far`), whose `near` reference means this one."""

    near: Reference
    far: Reference
    index: str
    on_delete: OnDelete | None
    is_through: ClassVar[bool] = True

    @property
    def between(self) -> type[Model]:
        """The model of the rows."""
        return self.near.mapper.model

    @property
    def referring(self) -> Reference:
        """By which rows refer here."""
        return self.near

    @property
    def items(self) -> type[Model]:
        """The model of what refers here: of the rows."""
        return self.between

    def path(self) -> Path:
        return Many(self.model, self.name)

    def edge(self, conditions: Sequence[Condition]) -> Follow:
        rows = Range(self.between.__mapper__.table, self.index)
        exists = Exists(_to_one(self.far, conditions), f"{self.shown}'s rows", self.between.__mapper__.name)
        return Follow(self.near.key_field, rows, filter=exists)

    def listed(
        self, conditions: Sequence[Condition], order: Order, limit: int | None, follow: tuple[Follow, ...]
    ) -> Follow:
        items = replace(_to_one(self.far, conditions), follow=follow)
        rows = Range(self.between.__mapper__.table, self.index)
        most = None if items.filter is not None else limit  # else it is not known how many rows it takes
        return Follow(self.near.key_field, rows, order=order, limit=most, follow=(items,))


def _to_one(reference: Reference, conditions: Sequence[Condition]) -> Follow:
    """The edge along a reference to the document that it means, if these hold for it."""
    mapper = reference.target.__mapper__
    fulfilled = (*conditions, *(() if mapper.only is None else (mapper.only,)))
    filter_ = None if not fulfilled else fulfilled[0] if len(fulfilled) == 1 else Combined("and", fulfilled)
    return Follow(reference.field, Range(mapper.table, reference.index), filter=filter_, limit=1)


def resolved(mapper: Mapper, told: Mapping[str, tuple[Bound, Relationship]]) -> dict[str, Relation]:
    """The relations of a model. NameError while a class that they speak of is not there, ValidationError for others."""
    relations = {name: _resolved(mapper, name, bound, relationship) for name, (bound, relationship) in told.items()}
    _check_deleting(mapper, [one for one in relations.values() if isinstance(one, ToMany | Through) and one.on_delete])
    return relations


def _check_deleting(mapper: Mapper, lists: Sequence[ToMany | Through]) -> None:
    """Raise ValidationError where lists say that deleting a document does several things to one that refers to it."""
    for one, other in combinations(lists, 2):
        if one.on_delete == other.on_delete or not one.referring.is_same(other.referring):
            continue
        if issubclass(one.items, other.items) or issubclass(other.items, one.items):
            shared = one.items if issubclass(one.items, other.items) else other.items
            problem = (
                f"{one.on_delete!r} is what deleting a {mapper.model.__name__} does to a {shared.__name__} that refers to "
                f"it, and {other.name!r} says {other.on_delete!r} of the same; let one of the two say it"
            )
            raise _wrong(mapper, one.name, problem)


def _resolved(mapper: Mapper, name: str, bound: Bound, told: Relationship) -> Relation:
    kind, annotation, nullable = _taken_apart(mapper, name, bound)
    target = model_named(annotation, bound.names)
    if kind is RelatedList:
        if told.through is not None:
            return _through(mapper, name, target, told, bound.names)
        return _to_many(mapper, name, target, told)
    if told.through is not None:
        raise _wrong(mapper, name, "through= is for a RelatedList")
    reference = mapper.references.get(told.by or "")
    if reference is None and told.by in target.__mapper__.indexes:
        return _sole(mapper, name, target, told, nullable=nullable)
    if told.on_delete is not None:
        raise _wrong(mapper, name, "on_delete= is about documents that refer here, by an index of theirs")
    if reference is None:
        known = ", ".join(mapper.references) or "none"
        theirs = ", ".join(target.__mapper__.indexes) or "none"
        problem = (
            f"relationship({told.by!r}) names no reference of its own model (there are {known}), and no index of "
            f"{target.__name__} (there are {theirs})"
        )
        raise _wrong(mapper, name, problem)
    _check_leads(mapper, name, reference, target)
    return ToOne(mapper, name, target, reference, nullable)


def _sole(mapper: Mapper, name: str, target: type[Model], told: Relationship, *, nullable: bool) -> Relation:
    many = _to_many(mapper, name, target, told)
    declared = target.__mapper__.indexes[many.index]
    if not declared.unique or len(declared.attributes) > 1:
        problem = (
            f"for one document at most, index {many.index!r} of {target.__name__} has to be unique, and on "
            f"{many.reference.attribute!r} alone; of several it is a RelatedList[{target.__name__!r}]"
        )
        raise _wrong(mapper, name, problem)
    if not nullable:
        raise _wrong(mapper, name, f"there may be no such document: annotate it with Related[{target.__name__} | None]")
    return Sole(mapper, name, target, many.reference, many.index, many.on_delete)


def _to_many(mapper: Mapper, name: str, target: type[Model], told: Relationship) -> ToMany:
    assert told.by is not None
    theirs = target.__mapper__
    reference = _first_of(mapper, name, theirs, told.by)
    if reference is None:
        raise _wrong(
            mapper,
            name,
            f"the first attribute of index {told.by!r} of {target.__name__} is no reference; declare it as "
            f"Mapped[Id[{mapper.model.__name__!r}]] or with field(references={mapper.model.__name__!r})",
        )
    _check_leads(mapper, name, reference, mapper.model)
    if told.on_delete == "nullify" and not reference.nullable:
        raise _wrong(mapper, name, f"on_delete='nullify' needs {target.__name__}.{reference.attribute} to take None")
    return ToMany(mapper, name, target, reference, told.by, told.on_delete)


def _through(mapper: Mapper, name: str, target: type[Model], told: Relationship, names: Names | None) -> Relation:
    between = model_named(told.through, names).__mapper__
    if told.by is not None:
        near = _first_of(mapper, name, between, told.by)
        index = told.by
    else:
        found = [
            (index, reference)
            for index, declared in between.indexes.items()
            if (reference := between.references.get(declared.attributes[0])) is not None and _leads(reference, mapper.model)
        ]
        if len({reference.attribute for _, reference in found}) > 1:
            raise _wrong(mapper, name, f"{between.model.__name__} refers to {mapper.model.__name__} twice; name the index")
        index, near = found[0] if found else ("", None)
    if near is None:
        raise _wrong(
            mapper, name, f"{between.model.__name__} needs an index whose first attribute refers to {mapper.model.__name__}"
        )
    _check_leads(mapper, name, near, mapper.model)
    others = [one for one in between.references.values() if one is not near and _leads(one, target)]
    if len(others) != 1:
        problem = f"{between.model.__name__} needs one other reference, to {target.__name__}; it has {len(others)}"
        raise _wrong(mapper, name, problem)
    if told.on_delete == "nullify" and not near.nullable:
        raise _wrong(mapper, name, f"on_delete='nullify' needs {between.model.__name__}.{near.attribute} to take None")
    return Through(mapper, name, target, near, others[0], index, told.on_delete)


def _first_of(mapper: Mapper, name: str, theirs: Mapper, index: str) -> Reference | None:
    """The reference that an index of another model begins with."""
    declared = theirs.indexes.get(index)
    if declared is None:
        known = ", ".join(theirs.indexes) or "none"
        raise _wrong(mapper, name, f"{theirs.model.__name__} has no index {index!r}; there are {known}")
    return theirs.references.get(declared.attributes[0])


def _leads(reference: Reference, model: type[Model]) -> bool:
    return reference.target.__mapper__.root is model.__mapper__.root


def _check_leads(mapper: Mapper, name: str, reference: Reference, model: type[Model]) -> None:
    if not _leads(reference, model):
        problem = (
            f"{reference.mapper.model.__name__}.{reference.attribute} refers to {reference.target.__name__}, "
            f"not to {model.__name__}"
        )
        raise _wrong(mapper, name, problem)
    key = reference.key
    if key is not None:
        held, meant = reference.mapper.columns[reference.attribute], reference.target.__mapper__.columns[key]
        if held.type.validator != meant.type.validator:
            problem = (
                f"{reference.mapper.model.__name__}.{reference.attribute} holds {held.type.validator.noun}, "
                f"{reference.target.__name__}.{key} {meant.type.validator.noun}"
            )
            raise _wrong(mapper, name, problem)


def _taken_apart(mapper: Mapper, name: str, bound: Bound) -> tuple[Any, Any, bool]:
    """`Related` or `RelatedList`, what is in its brackets, and whether that may be None."""
    kind = _read(bound.annotation, bound.names)
    origin = typing.get_origin(kind)
    if origin not in (Related, RelatedList):
        raise _wrong(mapper, name, "a relationship is annotated with Related[...] or RelatedList[...]")
    inner = typing.get_args(kind)[0]
    if isinstance(inner, str | typing.ForwardRef):
        inner = _read(inner, bound.names)
    inner = bound.variables.get(inner, inner) if isinstance(inner, typing.TypeVar) else inner
    if typing.get_origin(inner) not in (typing.Union, types.UnionType):
        return origin, inner, False
    members = [one for one in typing.get_args(inner) if one is not type(None)]
    if len(members) != 1 or origin is RelatedList:
        raise _wrong(mapper, name, "a relation leads to documents of one model")
    return origin, members[0], True


def _read(annotation: Any, names: Names | None) -> Any:
    while isinstance(annotation, str | typing.ForwardRef):
        assert names is not None
        annotation = names.resolve(annotation if isinstance(annotation, str) else annotation.__forward_arg__)
    return annotation


def _wrong(mapper: Mapper, name: str, problem: str) -> ValidationError:
    return ValidationError(problem, table=mapper.name, field=name)
