"""`Mapper`: everything that a model class declares, in one object, and how a class body becomes one.

A session, a query, the schema and the factories ask `Model.__mapper__` and nothing else. Columns, indexes, defaults and
validators come from the whole method resolution order, plain mixins and generic bases among it. Classes that share a table
by a discriminator are a family: their mappers have one root, whose table is the union of theirs.
"""

from __future__ import annotations

import re
import sys
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property, partial
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import attrs

from convexorm.conditions import Comparison, Membership
from convexorm.conversions import dump_function, fill_function
from convexorm.counters import Counter
from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.expressions import Column, Mapped
from convexorm.fields import Field, Index, VectorIndex, field
from convexorm.hooks import hooks_of
from convexorm.references import UNSET, Reference, references_of
from convexorm.relations import Relation, Relationship, resolved
from convexorm.requests import Expect, OneOf
from convexorm.schema import AnyOf, Array, CounterDef, IndexDef, Number, Property, String, Table, VectorIndexDef
from convexorm.types import ColumnType, Names, annotations_of, bindings, compiled
from convexorm.types.names import Bound, register
from convexorm.validation import check_value_of
from convexorm.values import MISSING, Value, owned

if TYPE_CHECKING:
    from convexorm.model import Model

__all__ = ["Body", "Declaration", "Mapper", "declare", "mapper_of"]

AnyIndex = TypeVar("AnyIndex", Index, VectorIndex[Any])

DISCRIMINATOR_FIELD = "kind"
"""The field that says which class of a family a document is of, unless `discriminator_field=` says another."""


@attrs.define(eq=False, slots=False)
class Mapper:
    """What a class declares.

    `model` is the class, `columns` are its columns by attribute, `key` the attributes of its primary key, `primary_key` as
    the class was told. `root` is the mapper of the class whose table this one's documents are in: its own, unless it is a
    subclass with a `discriminator`. `table`, and what else the annotations say, is found out when the class is declared, or
    where they name what is not there yet, when it is first asked for. `referring` is what columns are told of the models
    they refer to, `relationships` what the body says of relations.
    """

    model: type[Model]
    name: str
    columns: Mapping[str, Column[Any]]
    primary_key: str | tuple[str, ...] | None
    indexes: Mapping[str, Index]
    vector_indexes: Mapping[str, VectorIndex[Any]]
    validated: bool
    counters: Mapping[str, Counter] = attrs.field(factory=dict)
    discriminator: str | None = None
    parent: Mapper | None = None
    told_field: str | None = None
    referring: Mapping[str, tuple[Any, bool, Names | None]] = attrs.field(factory=dict, repr=False)
    relationships: Mapping[str, tuple[Bound, Relationship]] = attrs.field(factory=dict, repr=False)
    children: list[Mapper] = attrs.field(factory=list, repr=False)

    @property
    def key(self) -> tuple[str, ...]:
        """The attributes of the primary key; none for a model that is known by its `_id`."""
        return self._key

    @cached_property
    def _key(self) -> tuple[str, ...]:
        given = self.primary_key
        return (given,) if isinstance(given, str) else tuple(given or ())

    @cached_property
    def key_fields(self) -> tuple[str, ...]:
        """The fields of the primary key, `_id` for a model without one."""
        return tuple(self.columns[name].field for name in self.key) or ("_id",)

    @cached_property
    def root(self) -> Mapper:
        """The mapper of the class that has the table."""
        return self if self.parent is None else self.parent.root

    # -- the table -----------------------------------------------------------------------------------------------

    @cached_property
    def table(self) -> Table:
        """The table, with the columns of every class of the family. ValidationError for one that Convex would refuse."""
        return self._table() if self.parent is None else self.root.table

    def _table(self) -> Table:
        fields = {column.field: column.property() for column in self.columns.values()}
        indexes: dict[str, IndexDef] = {}
        vector_indexes: dict[str, VectorIndexDef] = {}
        counters: dict[str, CounterDef] = {}
        if self._discriminates:
            fields.setdefault(self.discriminator_field, Property(String(), optional=True))
        for mapper in self.family():
            for column in mapper.columns.values():
                if mapper is not self:
                    fields[column.field] = _joined(fields.get(column.field), column.property())
            for index in mapper._index_defs():
                self._add(indexes, index)
            for vector_index in mapper._vector_index_defs():
                self._add(vector_indexes, vector_index)
            for counter in mapper._counter_defs():
                self._add(counters, counter)
        ready = tuple(index for index in indexes.values() if not index.staged)
        staged = tuple(index for index in indexes.values() if index.staged)
        return Table(self.name, fields, ready, tuple(vector_indexes.values()), staged, tuple(counters.values()))

    def _add(self, known: dict[str, Any], index: Any) -> None:
        if known.setdefault(index.name, index) != index:
            raise ValidationError(f"index {index.name!r} is declared twice, differently", table=self.name)

    def _index_defs(self) -> Iterator[IndexDef]:
        for name, index in self.indexes.items():
            yield IndexDef(name, tuple(self._named(name, part) for part in index.attributes), index.unique, index.staged)

    def _counter_defs(self) -> Iterator[CounterDef]:
        for name, counter in self.counters.items():
            by = tuple(self._named(name, part) for part in counter.by)
            yield CounterDef(name, by, None if counter.of is None else self._named(name, counter.of))

    def _vector_index_defs(self) -> Iterator[VectorIndexDef]:
        for name, index in self.vector_indexes.items():
            filters = tuple(self._named(name, part) for part in index.filter_fields)
            vector = self._named(name, index.attribute)
            column = self.columns.get(index.attribute)
            if column is None or column.type.validator != Array(Number()):
                raise ValidationError(
                    f"vector index {name!r} is over {index.attribute!r}, which is no list[float]", table=self.name
                )
            yield VectorIndexDef(name, vector, index.dimensions, filters)

    def _named(self, index: str, attribute: str) -> str:
        column = self.columns.get(attribute)
        if column is not None:
            return column.field
        if attribute == self.discriminator_field and self._discriminates:
            return attribute
        known = ", ".join(self.columns)
        raise ValidationError(f"index {index!r} names {attribute!r}; the attributes are {known}", table=self.name)

    @cached_property
    def primary_index(self) -> str:
        """The index that finds a document by its primary key."""
        if not self.key:
            return "by_id"
        shown = repr(self.key[0] if len(self.key) == 1 else self.key)
        if not all(name in self.columns for name in self.key):
            known = ", ".join(self.columns)
            raise ValidationError(f"primary_key={shown}; the attributes are {known}", table=self.name)
        index = next((index for index in self.table.indexes if index.fields == self.key_fields), None)
        if index is None:
            on = "that field alone" if len(self.key) == 1 else "exactly those fields"
            raise ValidationError(f"primary_key={shown} needs an index on {on}", table=self.name)
        return index.name

    @cached_property
    def unique_indexes(self) -> tuple[IndexDef, ...]:
        """The indexes in which no two documents have one key: that of the primary key first, then those declared so."""
        named = {index.name: index for index in self.table.indexes}
        primary = (named[self.primary_index],) if self.key else ()
        return primary + tuple(one for one in self.table.indexes if one.unique and one not in primary)

    # -- values --------------------------------------------------------------------------------------------------

    @cached_property
    def fill(self) -> Callable[[dict[str, Any], Mapping[str, Value]], None]:
        """Adds to an instance's attributes those that its document holds as they are."""
        return fill_function(self.columns)

    @cached_property
    def _of_instance(self) -> Callable[[Model], dict[str, Value]]:
        return dump_function(self.columns, of_rows=False)

    @cached_property
    def _of_row(self) -> Callable[[Mapping[str, Any]], dict[str, Value]]:
        return dump_function(self.columns, of_rows=True)

    @cached_property
    def mutable(self) -> tuple[str, ...]:
        """The attributes whose values can be changed in place."""
        return tuple(name for name, column in self.columns.items() if column.type.mutable)

    @cached_property
    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """The methods of the class that a session calls, by name."""
        return hooks_of(self.model, self.name)

    @cached_property
    def watches_loads(self) -> bool:
        """Whether a class of the family is to be told when an instance of it was loaded."""
        return any("after_load" in mapper.hooks for mapper in self.family())

    def document(self, row: Mapping[str, Any]) -> dict[str, Value]:
        """The document for attributes by name; those left out take their defaults. ValidationError if none can hold it."""
        document = self._of_row(row)
        if self._discriminates:
            self._discriminate(document)
        return document

    def dump(self, instance: Model, leaving: Collection[str] = ()) -> dict[str, Value]:
        """The document for an instance, without system fields, and without the attributes in `leaving`.

        Raises ValidationError for what cannot be stored.
        """
        if leaving:
            given = [(one, one.dump(getattr(instance, name))) for name, one in self.columns.items() if name not in leaving]
            document = {column.field: owned(value) for column, value in given if value is not MISSING}
        else:
            document = self._of_instance(instance)
        if self._discriminates:
            self._discriminate(document)
        return document

    # -- relations -----------------------------------------------------------------------------------------------

    @cached_property
    def references(self) -> Mapping[str, Reference]:
        """The columns that refer to documents of other models, by attribute."""
        return references_of(self, self.referring)

    @cached_property
    def relations(self) -> Mapping[str, Relation]:
        """The relations, by attribute. NameError while a class that they speak of is not there."""
        return resolved(self, self.relationships)

    @property
    def checked(self) -> bool:
        """Whether a reference is to lead to a document whenever it is written."""
        return any(check for _, check, _ in self.referring.values())

    def taking_references(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a constructor is given, without relations, and with what those set left unset."""
        plain = {name: value for name, value in values.items() if name not in self.relationships}
        for name, value in values.items():
            told = self.relationships.get(name)
            if told is not None and told[1].through is None and value is not None:
                relation = self.relations[name]
                if not relation.many:
                    plain.setdefault(relation.reference.attribute, UNSET)  # type: ignore[attr-defined]
        return plain

    # -- families ------------------------------------------------------------------------------------------------

    def family(self) -> Iterator[Mapper]:
        """This mapper and those of its subclasses in the same table, the first first."""
        yield self
        for child in self.children:
            yield from child.family()

    @cached_property
    def discriminator_field(self) -> str:
        """The field that says which class of its family a document is of."""
        name = self.root.told_field or DISCRIMINATOR_FIELD
        column = self.root.columns.get(name)
        return name if column is None else column.field

    @cached_property
    def _discriminates(self) -> bool:
        return self.discriminator is not None or self.root.told_field is not None or bool(self.root.children)

    def _discriminate(self, document: dict[str, Value]) -> None:
        """Write into a document which class it is of. ValidationError where it says another."""
        name = self.discriminator_field
        said = document.get(name, MISSING)
        if said is MISSING:
            if self.discriminator is not None:
                document[name] = self.discriminator
        elif said != self.discriminator and (self.discriminator is not None or said in self.root._classes):
            raise ValidationError(
                f"a {self.model.__name__} is not of this kind; what a document is stored as goes by its class",
                table=self.name,
                field=name,
            )

    @cached_property
    def _classes(self) -> dict[Value, Mapper]:
        return {mapper.discriminator: mapper for mapper in self.family() if mapper.discriminator is not None}

    @cached_property
    def polymorphic(self) -> bool:
        """Whether the documents of the table may be of other classes."""
        return self.parent is not None or bool(self.children)

    @cached_property
    def only(self) -> Comparison | Membership | None:
        """What the documents of this class and its subclasses fulfil in their table; None where all do."""
        if self.parent is None:
            return None
        values = tuple(mapper.discriminator for mapper in self.family())
        name = self.discriminator_field
        return Comparison(name, "eq", values[0]) if len(values) == 1 else Membership(name, values)

    @property
    def expected(self) -> Expect:
        """What a write to a document of this class, or of its subclasses, that has not been read expects of it."""
        only = self.only
        if only is None:
            return {}
        return {self.discriminator_field: OneOf(only.values) if isinstance(only, Membership) else self.discriminator}

    def class_of(self, document: Mapping[str, Value]) -> type[Model]:
        """The class a document is loaded as. ValidationError for one that no class is declared for."""
        said = document.get(self.discriminator_field, MISSING)
        found = self.root._classes.get(said) if isinstance(said, str) else None
        if found is not None:
            return found.model
        if said is not MISSING and said is not None and self.discriminator_field not in self.root._own_fields:
            raise ValidationError(
                f"no class is declared for what document {document.get('_id')} is; import the module that has it",
                table=self.name,
                field=self.discriminator_field,
            )
        return self.root.model

    @cached_property
    def _own_fields(self) -> frozenset[str]:
        return frozenset(column.field for column in self.columns.values())

    def adopt(self, child: Mapper) -> None:
        """Take in the mapper of a subclass; one of the same name, declared again, takes the place of the other."""
        taken = self.root._classes.get(child.discriminator)
        if taken is not None and taken is not child:
            if _same_name(taken.model, child.model) and taken.parent is not None:
                taken.parent.children.remove(taken)
            else:
                raise ValidationError(
                    f"discriminator {child.discriminator!r} is {taken.model.__name__}'s already", table=self.name
                )
        self.children.append(child)
        self._forget()

    def leave(self, child: Mapper) -> None:
        """Take back `adopt`, for a class that turned out to be refused."""
        self.children.remove(child)
        self._forget()

    def _forget(self) -> None:
        """Forget what was found out about the family."""
        for mapper in self.root.family():
            for name in (
                "table",
                "primary_index",
                "unique_indexes",
                "polymorphic",
                "only",
                "watches_loads",
                "_classes",
                "_discriminates",
            ):
                mapper.__dict__.pop(name, None)

    def complete(self) -> None:
        """Find out everything. NameError if an annotation names what is not there yet."""
        for column in self.columns.values():
            if "type" not in vars(column):
                column.compile()
        for name in ("table", "primary_index", "mutable", "hooks", "references", "relations"):
            getattr(self, name)


def _joined(one: Property | None, other: Property) -> Property:
    """The field that two classes of a table declare: optional, for other documents lack it."""
    if one is None:
        return Property(other.validator, optional=True)
    if one.validator == other.validator:
        return one
    return Property(AnyOf.of(one.validator, other.validator), optional=one.optional or other.optional)


def _same_name(one: type, other: type) -> bool:
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def mapper_of(model: object) -> Mapper:
    """The mapper of a model. InvalidRequestError for anything else, such as an instance, or a class without a table."""
    mapper = getattr(model, "__mapper__", None)
    if isinstance(model, type) and isinstance(mapper, Mapper):
        return mapper
    if isinstance(mapper, Mapper):
        raise InvalidRequestError(f"a model is needed, got an instance of {type(model).__name__}")
    if isinstance(model, type):
        raise InvalidRequestError(f"a model is needed, a class with a table; {model.__name__} has none")
    raise InvalidRequestError(f"a model is needed, a class with a table, got {type(model).__name__}")


# -- from class body to mapper -------------------------------------------------------------------------------------


@attrs.frozen
class Body:
    """What the body of one class says: its columns, and where the names in their annotations are looked up."""

    names: Names
    fields: Mapping[str, tuple[Any, Field]]


@attrs.frozen
class Declaration:
    """What a class statement was told beside its body."""

    table: str | None
    primary_key: str | tuple[str, ...] | None
    discriminator: str | None
    discriminator_field: str | None


_CLASS_VARIABLE = re.compile(r"(\w+\.)*ClassVar\b")
_NO_BODIES = ("builtins", "typing", "typing_extensions", "abc", "collections.abc", "convexorm.model")


def body_of(cls: type, names: Names) -> Body:
    """The columns that the body of a class declares."""
    fields: dict[str, tuple[Any, Field]] = {}
    for name, annotation in annotations_of(cls).items():
        details = cls.__dict__.get(name, attrs.NOTHING)
        if name.startswith("_") or _is_no_column(annotation, details, names):
            continue
        fields[name] = (annotation, details if isinstance(details, Field) else field(default=details))
    return Body(names, fields)


def _is_no_column(annotation: Any, details: Any, names: Names) -> bool:
    if isinstance(details, Relationship):
        return True
    if isinstance(annotation, str):
        if _CLASS_VARIABLE.match(annotation):
            return True
        try:
            annotation = names.resolve(annotation)
        except NameError:
            return False
    if isinstance(details, Index | VectorIndex):
        return True
    return annotation is Final or ClassVar in (annotation, typing.get_origin(annotation))


def declare(cls: type[Model], told: Declaration, frame: FrameType) -> None:
    """Give a class that has a table, or a place in its parent's, its mapper and its columns."""
    names = Names(cls, frame)
    cls._body = body_of(cls, names)
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
    if told.discriminator is not None and not isinstance(told.discriminator, str):
        raise ValidationError(f"a discriminator is a str, got {type(told.discriminator).__name__}")
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
            raise ValidationError("the name of an attribute that every model has", table=table, field=name)
        if column.field in fields:
            raise ValidationError(f"two attributes are stored as {column.field!r}", table=table, field=name)
        fields[column.field] = name
    attributes = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
    cls._details = {name: details for name, (_, details) in declared.items()}
    return Mapper(
        model=cls,
        name=table,
        columns=columns,
        primary_key=_primary_key(cls, told),
        indexes=_named(table, {name: value for name, value in attributes.items() if isinstance(value, Index)}),
        vector_indexes=_named(
            table, {name: _owned(cls, name, value) for name, value in attributes.items() if isinstance(value, VectorIndex)}
        ),
        validated=hasattr(cls, "__validate__") or any(details.validator is not None for _, details in declared.values()),
        counters={name: value for name, value in attributes.items() if isinstance(value, Counter)},
        discriminator=told.discriminator,
        parent=parent,
        told_field=told.discriminator_field or (DISCRIMINATOR_FIELD if parent is None and told.discriminator else None),
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
        annotations = annotations_of(base) if base.__module__ not in _NO_BODIES else {}
        for name, value in vars(base).items():
            if not isinstance(value, Relationship):
                continue
            if name in _reserved():
                raise ValidationError("the name of an attribute that every model has", table=table, field=name)
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
    named = {index.name: index for index in indexes.values()}
    if len(named) < len(indexes):
        raise ValidationError("two indexes have one name", table=table)
    return named


def _owned(cls: type[Model], name: str, index: VectorIndex[Any]) -> VectorIndex[Any]:
    """The vector index as the class's own: one that is inherited from a mixin has several."""
    own: VectorIndex[Any] = VectorIndex(index.attribute, dimensions=index.dimensions, filter_fields=index.filter_fields)
    setattr(cls, name, own)
    own.name, own.model = index.name, cls
    return own


def _reserved() -> frozenset[str]:
    """What a column cannot be called."""
    from convexorm.model import Model

    return frozenset(name for name in vars(Model) if not name.startswith("_"))


def _declared(cls: type[Model], table: str, names: Names) -> dict[str, tuple[Bound, Field]]:
    """The columns of a class and of all it is made of, the first base's first."""
    bound = bindings(cls, {}, names)
    declared: dict[str, tuple[Bound, Field]] = {}
    for base in reversed(cls.__mro__):
        if base.__module__ in _NO_BODIES:
            continue
        body = base.__dict__.get("_body") or body_of(base, names.of(base))
        for name, (annotation, details) in body.fields.items():
            declared[name] = (Bound(annotation, body.names, bound.get(base, {})), details)
        for name, value in vars(base).items():
            if name in body.fields or isinstance(value, Column):
                continue
            if name in declared:
                declared[name] = (declared[name][0], _overridden(table, name, declared[name][1], value))
            elif isinstance(value, Field):
                raise ValidationError("a field() without an annotation; write `name: Mapped[...]`", table=table, field=name)
    return declared


def _overridden(table: str, name: str, details: Field, value: Any) -> Field:
    """The details of an inherited column of which a class names only the value: its default."""
    if isinstance(value, Field):
        return value
    if hasattr(value, "__get__"):
        raise ValidationError("hides a column that is inherited; give one of the two another name", table=table, field=name)
    return attrs.evolve(details, default=value, factory=None)


def _check_discriminator(
    cls: type[Model], told: Declaration, parent: Mapper, declared: dict[str, tuple[Bound, Field]]
) -> None:
    """Where the discriminator is a column as well, make it the default of the subclass's."""
    name = parent.root.told_field or DISCRIMINATOR_FIELD
    if name not in declared:
        return
    if parent.root.told_field is None:
        root = parent.root.model.__name__
        raise ValidationError(
            f"{root} has a column of this name; if it is to say which class a document is of, declare {root} with "
            f"discriminator_field={name!r}, else with another name there",
            table=parent.name,
            field=name,
        )
    bound, details = declared[name]
    declared[name] = (bound, attrs.evolve(details, default=told.discriminator, factory=None))


def _column(table: str, name: str, bound: Bound, details: Field) -> Column[Any]:
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
        none=details.none,
        optional=details.optional,
        default=default,
        compile=partial(_compiled, table, name, bound, details.type),
    )


def _compiled(table: str, name: str, bound: Bound, given: ColumnType[Any] | None) -> tuple[ColumnType[Any], bool]:
    annotation = bound.annotation
    while isinstance(annotation, str | typing.ForwardRef):
        assert bound.names is not None
        annotation = bound.names.resolve(annotation if isinstance(annotation, str) else annotation.__forward_arg__)
    if annotation is Mapped:
        raise ValidationError("Mapped says nothing without a type; write Mapped[str]")
    if typing.get_origin(annotation) is Mapped:
        (annotation,) = typing.get_args(annotation)
    return compiled(attrs.evolve(bound, annotation=annotation), given)


def _define(cls: type[Model], mapper: Mapper) -> None:
    """Make an attrs class of a model, whose attributes are its columns."""
    these = {}
    for name, details in cls._details.items():
        adopt = _adopter(mapper.columns[name])
        these[name] = attrs.field(
            default=details.made,
            validator=details.validator,
            converter=adopt,
            on_setattr=[
                *([attrs.setters.convert] if adopt is not None else ()),
                *([_validate] if details.validator is not None else ()),
                _changing,
            ],
            kw_only=True,
        )
    attrs.define(
        cls,
        these=these,
        slots=False,
        init=False,
        repr=False,
        eq=False,
        order=False,
        on_setattr=_changing,
        auto_detect=False,
    )
    for name, column in mapper.columns.items():
        setattr(cls, name, column)


def _validate(instance: Model, attribute: attrs.Attribute[Any], value: Any) -> Any:
    check_value_of(instance, attribute, value)
    return value


def _changing(instance: Model, attribute: attrs.Attribute[Any], value: Any) -> Any:
    state = instance._state
    if not state.looked_at and state.document is not None:  # before anything that was set could be taken for what is stored
        state.looked_at = True
        instance.__mapper__.fill(instance.__dict__, state.document)
    if state.session is not None:
        state.session.changing(instance)
    return value


def _adopter(column: Column[Any]) -> Callable[[Any], Any] | None:
    """What an attribute does with a value it is set to, None where that is nothing."""
    try:
        column.compile()
    except NameError:  # a later name
        return lambda value: value if value is None else column.type.adopt(value)
    if type(column.type).adopt is ColumnType.adopt:
        return None
    adopt = column.type.adopt
    return lambda value: value if value is None else adopt(value)


def frame_of_declaration() -> FrameType:
    """The frame of the class statement, past any `__init_subclass__` on the way."""
    frame = sys._getframe(2)
    while frame.f_code.co_name == "__init_subclass__" and frame.f_back is not None:
        frame = frame.f_back
    return frame
