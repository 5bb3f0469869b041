"""`Mapper`: everything that a model class declares, in one object, which `declaring` makes of the class.

A session, a query, the schema and the factories ask `Model.__mapper__` and nothing else. Classes that share a table by a
discriminator are a family: their mappers have one root, whose table is the union of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from convexorm.conditions import Comparison, Condition, Membership, Negated
from convexorm.counters import Counter
from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.mapping.conversions import attributes_function, differing_function, dump_function, fill_function
from convexorm.mapping.expressions import Column
from convexorm.mapping.fields import Index, SearchIndex, VectorIndex
from convexorm.mapping.hooks import hooks_of
from convexorm.mapping.records import Record, record_type
from convexorm.mapping.references import UNSET, Reference, references_of
from convexorm.mapping.relations import Relation, Relationship, resolved
from convexorm.requests import Expect, OneOf, Unique
from convexorm.schema import (
    AnyOf,
    Array,
    CounterDef,
    IndexDef,
    Literal,
    Number,
    Property,
    SearchIndexDef,
    String,
    Table,
    VectorIndexDef,
    holds_text,
    joined_shapes,
)
from convexorm.types import Names
from convexorm.types.names import Bound
from convexorm.types.unions import kinds_of
from convexorm.values import MISSING, Missing, Value, owned

if TYPE_CHECKING:
    from convexorm.mapping.model import Model

__all__ = ["DISCRIMINATOR_FIELD", "Mapper", "mapper_of"]

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
    search_indexes: Mapping[str, SearchIndex[Any]]
    validated: bool
    counters: Mapping[str, Counter] = attrs.field(factory=dict)
    discriminator: str | None = None
    abstract: bool = False
    parent: Mapper | None = None
    told_field: str | None = None
    referring: Mapping[str, tuple[Any, bool, Names | None]] = attrs.field(factory=dict, repr=False)
    relationships: Mapping[str, tuple[Bound, Relationship]] = attrs.field(factory=dict, repr=False)
    children: list[Mapper] = attrs.field(factory=list, repr=False)

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The attributes of the primary key; none for a model that is known by its `_id`."""
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
        search_indexes: dict[str, SearchIndexDef] = {}
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
            for search_index in mapper._search_index_defs():
                self._add(search_indexes, search_index)
            for counter in mapper._counter_defs():
                self._add(counters, counter)
        shapes = self._shapes()
        if shapes:
            fields = joined_shapes(shapes)
        ready = tuple(index for index in indexes.values() if not index.staged)
        staged = tuple(index for index in indexes.values() if index.staged)
        return Table(
            self.name,
            fields,
            ready,
            tuple(vector_indexes.values()),
            staged,
            tuple(counters.values()),
            tuple(search_indexes.values()),
            shapes=shapes,
        )

    def _shapes(self) -> tuple[Mapping[str, Property], ...]:
        """What the documents of each class are like, where the one that has the table has none of its own."""
        if not self.abstract:
            return ()
        kind = self.discriminator_field
        return tuple(
            {kind: Property(Literal(mapper.discriminator)), **mapper._properties()}
            if kind not in mapper._own_fields
            else {**mapper._properties(), kind: Property(Literal(mapper.discriminator))}
            for mapper in self.family()
            if mapper.discriminator is not None
        )

    def _properties(self) -> dict[str, Property]:
        return {column.field: column.property() for column in self.columns.values()}

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
            yield VectorIndexDef(name, vector, index.dimensions, filters, index.staged)

    def _search_index_defs(self) -> Iterator[SearchIndexDef]:
        for name, index in self.search_indexes.items():
            filters = tuple(self._named(name, part) for part in index.filter_fields)
            field = self._named(name, index.attribute)
            column = self.columns.get(index.attribute)
            if column is not None and not holds_text(column.type.validator):
                problem = f"search index {name!r} is over {index.attribute!r}, which is no text"
                raise ValidationError(problem, table=self.name)
            yield SearchIndexDef(name, field, filters, index.staged)

    def _named(self, index: str, attribute: str) -> str:
        first, dot, inside = attribute.partition(".")
        column = self.columns.get(first)
        if column is not None and not (dot and column.type.json_text):
            return f"{column.field}{dot}{inside}"
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
    def claims(self) -> tuple[Unique, ...]:
        """What a write to a whole document is to make its own: its key in each of these indexes."""
        return tuple(Unique(one.name) for one in self.unique_indexes)

    @cached_property
    def unique_fields(self) -> frozenset[str]:
        """The fields of these indexes."""
        return frozenset(field for one in self.unique_indexes for field in one.fields)

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
    def attributes(self) -> Callable[[dict[str, Any]], bool]:
        """Makes what a constructor is given the attributes of a new instance. False where that is for attrs to do: it is
        something else, or there are validators, or methods that attrs calls.
        """
        if self.validated or hasattr(self.model, "__attrs_pre_init__") or hasattr(self.model, "__attrs_post_init__"):
            return lambda given: False
        return attributes_function(self.columns)

    @cached_property
    def differing(self) -> Callable[[Mapping[str, Any], Mapping[str, Value]], list[str]]:
        """From an instance's attributes and its document to the names of those that may differ."""
        return differing_function(self.columns)

    @cached_property
    def decode(self) -> Callable[[str], Record] | None:
        """Makes a record of a document's JSON. None where documents become instances one by one: of other classes, perhaps,
        or with a hook that is told. Raises msgspec's error for text that no record holds.
        """
        if self.polymorphic or self.watches_loads or self.model.__new__ is not object.__new__:
            return None
        return msgspec.json.Decoder(record_type(self.model.__name__, self.columns)).decode

    @cached_property
    def create(self) -> Callable[[type[Model]], Model]:
        """Makes an instance of the class without attributes, by the `__new__` that it has."""
        return self.model.__new__ if self.model.__new__ is object.__new__ else _created

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
    def adopting(self) -> frozenset[str]:
        """Those of them that storing may round something in."""
        return frozenset(name for name in self.mutable if self.columns[name].type.adopts)

    @cached_property
    def shown(self) -> frozenset[str]:
        """What an instance holds because of what is stored: its columns, and what `cached_property`s made of them."""
        made = (name for base in self.model.__mro__ for name, one in vars(base).items() if isinstance(one, cached_property))
        return frozenset((*self.columns, *made))

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
        try:
            document = self._without(instance, leaving) if leaving else self._of_instance(instance)
        except AttributeError:
            self.check_set(instance)
            raise
        if self._discriminates:
            self._discriminate(document)
        return document

    def _without(self, instance: Model, leaving: Collection[str]) -> dict[str, Value]:
        given = [(one, one.dump(getattr(instance, name))) for name, one in self.columns.items() if name not in leaving]
        return {column.field: owned(value) for column, value in given if value is not MISSING}

    def check_set(self, instance: Model) -> None:
        """Raise ValidationError for an instance that lacks one of its attributes."""
        for name, column in self.columns.items():
            if not hasattr(instance, name):
                raise ValidationError("required, and not set", table=self.name, field=column.field) from None

    # -- relations -----------------------------------------------------------------------------------------------

    @cached_property
    def references(self) -> Mapping[str, Reference]:
        """The columns that refer to documents of other models, by attribute."""
        return references_of(self, self.referring)

    @cached_property
    def leading(self) -> tuple[Reference, ...]:
        """The references, each of which leads to a class that is there; NameError or ValidationError where one does not."""
        for reference in self.references.values():
            reference.check_key()
        return tuple(self.references.values())

    @cached_property
    def relations(self) -> Mapping[str, Relation]:
        """The relations, by attribute. NameError while a class that they speak of is not there."""
        return resolved(self, self.relationships)

    @cached_property
    def related(self) -> bool:
        """Whether it refers to others, or has relations to them."""
        return bool(self.relationships or self.references)

    @cached_property
    def checked(self) -> bool:
        """Whether a reference is to lead to a document whenever it is written."""
        return any(check for _, check, _ in self.referring.values())

    def left_out(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The references that a constructor was not given, unset: relations may set them until they are committed."""
        return {name: UNSET for name in self.references if name not in values and not self.columns[name].has_default}

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
        if self.abstract:
            classes = ", ".join(sorted(mapper.model.__name__ for mapper in self._classes.values()))
            raise ValidationError(
                f"{self.model.__name__} is abstract and has no documents of its own; make one of {classes or 'a subclass'}",
                table=self.name,
            )
        if said is not MISSING:
            self._check_kind(said)
        elif self.discriminator is not None:
            document[name] = self.discriminator

    def check_kept(self, changes: Mapping[str, Value | Missing], *, read: bool) -> None:
        """Raise ValidationError where these fields would make a document one of another class. Of one that was `read` it is
        known that it is of this one.
        """
        name = self.discriminator_field
        if name in changes:
            if self.discriminator is None and not read:
                raise self._other_kind()
            self._check_kind(changes[name])

    def _check_kind(self, said: Value | Missing) -> None:
        if said != self.discriminator and (self.discriminator is not None or said in self.root._classes):
            raise self._other_kind()

    def _other_kind(self) -> ValidationError:
        problem = f"a {self.model.__name__} is not of this kind; what a document is stored as goes by its class"
        return ValidationError(problem, table=self.name, field=self.discriminator_field)

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

    def documents_of(self, classes: Collection[Mapper]) -> Condition | None:
        """What documents of just these classes of the family fulfil in their table; None where all of it do."""
        others = [one for one in self.family() if one not in classes and not one.abstract]
        if not others:
            return None
        name = self.discriminator_field
        if self.root not in classes:
            return Membership(name, tuple(one.discriminator for one in classes))
        return Negated(Membership(name, tuple(one.discriminator for one in others)))

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
                "no class is declared for what it is; import the module that has it",
                table=self.name,
                field=self.discriminator_field,
            ).of(document.get("_id"))
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
                "unique_fields",
                "claims",
                "polymorphic",
                "only",
                "watches_loads",
                "decode",
                "_classes",
                "_discriminates",
            ):
                mapper.__dict__.pop(name, None)

    def complete(self) -> None:
        """Find out everything. NameError if an annotation names what is not there yet."""
        for column in self.columns.values():
            if "type" not in vars(column):
                column.compile()
            column.check_default()
        self._check_inherited()
        for name in ("table", "primary_index", "mutable", "hooks", "references"):
            getattr(self, name)
        for reference in self.references.values():
            with suppress(NameError):  # of a class that comes later
                reference.check_key()
        getattr(self, "relations")  # noqa: B009

    def _check_inherited(self) -> None:
        """Raise ValidationError for a discriminator that the column of its field does not take, and for a column that is
        stored in another form than the parent's: a query of the parent would not find it.
        """
        if self.parent is None:
            return
        for name, column in self.columns.items():
            validator = column.type.validator
            if column.field == self.discriminator_field and not validator.accepts(self.discriminator):
                problem = f"discriminator={self.discriminator!r} is no {column.type.name}"
                raise ValidationError(problem, table=self.name, field=name)
            inherited = self.parent.columns.get(name, column)
            if "type" not in vars(inherited):
                inherited.compile()
            if not kinds_of(validator) <= kinds_of(inherited.type.validator):
                other = inherited.type.validator.noun
                problem = f"stored as {validator.noun}, and as {other} by its parent, where a query of that looks for it"
                raise ValidationError(problem, table=self.name, field=name)


def _created(model: type[Model]) -> Model:
    """What a `__new__` of a class's own answers. InvalidRequestError where that is no instance of its own: what is loaded
    into one that is there already would be written to another document.
    """
    instance: object = model.__new__(model)
    if type(instance) is model and "_state" not in vars(instance):
        return instance
    raise InvalidRequestError(
        f"{model.__name__}.__new__ does not make a new instance, which each document and copy is to be"
    )


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
