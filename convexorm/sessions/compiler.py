"""`Compiler`: from what a session's user says (models, keys, queries) to what requests say (tables, keys, reads)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import msgspec
from msgspec.structs import replace

from convexorm.conditions import Combined, Comparison, Condition, rewritten
from convexorm.errors import IndexRangeError, InvalidRequestError, ValidationError
from convexorm.mapping.expressions import Column
from convexorm.mapping.mapper import Mapper, mapper_of
from convexorm.mapping.model import Model, VectorIndex
from convexorm.mapping.references import Reference
from convexorm.mapping.relations import Path, Relation, Through, ToMany
from convexorm.querying.query import Query
from convexorm.querying.statements import Grouping, Rows, Statement
from convexorm.querying.texts import TextQuery
from convexorm.requests import (
    Check,
    Commit,
    Delete,
    DeleteRange,
    Document,
    Expect,
    Follow,
    Insert,
    Key,
    Range,
    Read,
    Rule,
    Search,
    Unique,
    Upsert,
    Write,
)
from convexorm.schema import COUNTERS, IndexDef, Table
from convexorm.sessions.instances import Identity, identity_of
from convexorm.values import MISSING, Missing, Value

__all__ = ["PRIMARY", "Compiler", "check_query", "check_rows", "relations_of", "root_of"]

PRIMARY = ""
"""Stands for the primary key, or the `_id` of a model without one, where a unique index is named."""

M = TypeVar("M", bound=Model)
R = TypeVar("R")

_DELETING: frozenset[type] = frozenset((Delete, DeleteRange))
_INSERTING: frozenset[type] = frozenset((Insert, Upsert))


class Compiler(msgspec.Struct, eq=False):
    """Compiles for one session, which may have other names for tables and knows each table by one class."""

    _names: Mapping[str, str] | None
    """Those that tables have for this session, where it is not their own."""
    measures: bool = True
    """Whether a document's size is looked at before it is sent: not where the port may make it smaller."""
    _tables: dict[str, Table] = {}
    _mappers: dict[str, Mapper] = {}
    _written: dict[str, Mapper] = {}
    """The mapper of each table by its name for this session."""
    _inserted: dict[type[Model], tuple[Table, Table, tuple[Unique, ...]]] = {}
    """For each model its table, that by the name for this session, and what of a new document is to be its own."""

    def forget_models(self) -> None:
        """Another class may stand for a table from now on."""
        if self._mappers:
            self._mappers = {}
            self._written = {}
            self._inserted = {}

    def _name(self, table: str) -> str:
        """The name that a table has for this session."""
        return table if self._names is None else self._names.get(table, table)

    def mapper(self, model: type[Model]) -> Mapper:
        """The mapper of a model. InvalidRequestError where the session works with another class of the same table."""
        mapper = mapper_of(model)
        known = self._mappers.get(mapper.name)
        if known is None:
            known = self._mappers[mapper.name] = self._written[self._name(mapper.name)] = mapper.root
        if known is not mapper.root:
            raise InvalidRequestError(
                f"this session has table {mapper.name!r} as {known.model.__module__}.{known.model.__qualname__}, which is "
                f"another class than {model.__module__}.{model.__qualname__}; use one of them, or another session"
            )
        return mapper

    def table(self, model: type[Model]) -> Table:
        """The table of a model, by the name it has for this session."""
        table = self.mapper(model).table
        return self._renamed(table) if self._names else table

    def _renamed(self, table: Table) -> Table:
        known = self._tables.get(table.name)
        if known is None:
            known = self._tables[table.name] = table.renamed(self._name(table.name), self._names or {})
        return known

    # -- reads -----------------------------------------------------------------------------------------------------

    def read(self, query: Query[Any]) -> Read:
        """The read of a query's documents."""
        return self.statement(check_query(query))

    def condition(self, query: Query[Any]) -> Condition | None:
        """What holds for each document of a query, if there are conditions."""
        condition = query.condition()
        return self._across(condition) if condition is not None and self._names else condition

    def statement(self, one: Statement[Any]) -> Read:
        """The read of a query, or of what is asked of one."""
        if not isinstance(one, Statement):
            check_query(one)
        self.mapper(one.root.model)
        read = one.plan()
        if isinstance(one, Query | TextQuery) and one._load:
            read = replace(read, follow=self.follow(one._load))
        if read.range.table is COUNTERS:
            return replace(read, range=self._renamed_counter(one.root.model.__mapper__.table, read.range))
        if not self._names:
            return read
        filter_ = None if read.filter is None else self._across(read.filter)
        return replace(read, range=read.range.of(self._renamed(read.range.table)), filter=filter_)

    def _renamed_counter(self, table: Table, range_: Range) -> Range:
        """The rows of a counter of a table, by the name it has for this session."""
        counter, *key = range_.eq
        renamed = self._renamed(table).name + str(counter).removeprefix(table.name)
        return replace(range_, eq=(renamed, *key))

    def follow(self, paths: Sequence[Path]) -> tuple[Follow, ...]:
        """The edges that load these relations."""
        return tuple(self._followed(path.edge()) for path in paths)

    def _followed(self, edge: Follow) -> Follow:
        """An edge, with the names that tables have for this session."""
        if not self._names:
            return edge
        range_ = edge.range.of(self._renamed(edge.range.table))
        filter_ = None if edge.filter is None else self._across(edge.filter)
        return replace(edge, range=range_, filter=filter_, follow=tuple(map(self._followed, edge.follow)))

    def _across(self, condition: Condition) -> Condition:
        return rewritten(condition, lambda one: attrs.evolve(one, edge=self._followed(one.edge)))

    def read_of_key(self, mapper: Mapper, at: Key, load: Sequence[Path] = ()) -> Read:
        """The read of the document with a primary key."""
        range_ = Range(self._renamed(mapper.table) if self._names else mapper.table, at.index, at.key)
        return Read(range_, filter=mapper.only, limit=1, follow=self.follow(load) if load else ())

    def search(self, index: VectorIndex[Any], vector: Sequence[float], limit: int, where: Condition | None) -> Search:
        """A vector search. Raises InvalidRequestError for what is no vector index of a model."""
        if not isinstance(index, VectorIndex) or index.model is None or not issubclass(index.model, Model):
            raise InvalidRequestError("search takes a vector index of a model, such as Document.by_embedding")
        table = self.table(index.model)
        return Search(table, index.name, vector, limit, _any_of(where, table, index.name))

    def deletable(self, query: Query[Any]) -> tuple[Range, Condition | None]:
        """The range and the filter of a query whose documents are to be deleted."""
        table = check_query(query).model.__mapper__.name
        if query._offset or query._after is not None:
            raise ValidationError("a query whose documents are deleted takes no offset or after", table=table)
        if query._limit is not None and query._order == "desc":
            raise ValidationError("a query whose first documents are deleted is ascending", table=table)
        read = self.read(query)
        if query._limit is not None and (read.order == "desc" or read.merge is not None or read.sort is not None):
            raise ValidationError("a query whose first documents are deleted is in the order of its index", table=table)
        return read.range, read.filter

    # -- commits ---------------------------------------------------------------------------------------------------

    def commit(self, writes: Sequence[Write], held: Callable[[], set[str]] = set, led: Sequence[Reference] = ()) -> Commit:
        """The commit of some writes, with what holds between the documents that they are about and others. Deletions tell
        what they have done, if that may be about documents of tables that are `held`. References in `led` have to lead
        somewhere where it is not known which documents of their table are deleted.

        Raises InvalidRequestError where a relation that says what deleting does speaks of a class that is not there.
        """
        written: set[str] = set()
        deleting: set[str] = set()
        before: Table | None = None
        for write in writes:
            table = write.table
            if table is not before:  # they are often about one table, one after the other
                written.add(table.name)
                before = table
            if type(write) in _DELETING:
                deleting.add(table.name)
        checks: dict[str, Sequence[Check]] = {}
        for name in written:
            if found := self._checks(name):
                checks[name] = found
        rules: dict[str, Sequence[Rule]] = {}
        deleted = set(deleting)
        while deleted:
            name = deleted.pop()
            ruled = self._rules_of(name)
            if ruled:
                rules[name] = ruled
                deleted |= {rule.table.name for rule in ruled if rule.action == "cascade"} - rules.keys()
        if led:
            ranged = {write.table.name for write in writes if type(write) is DeleteRange}
            ranged |= {rule.table.name for ruled in rules.values() for rule in ruled if rule.action == "cascade"}
            self._have_lead(checks, [one for one in led if self.table(one.target).name in ranged])
        if deleting:
            self._have_told(writes, rules, {*held(), *(one.table.name for one in writes if type(one) in _INSERTING)})
        return Commit.new(writes, rules, checks)

    def _have_lead(self, checks: dict[str, Sequence[Check]], references: Sequence[Reference]) -> None:
        """Have references lead somewhere once a commit is applied."""
        for one in references:
            table, check = self.table(one.mapper.model).name, Check(one.field, self.table(one.target), one.index)
            if check.field not in [each.field for each in checks.get(table, ())]:
                checks[table] = [*checks.get(table, ()), check]

    def _have_told(self, writes: Sequence[Write], rules: Mapping[str, Sequence[Rule]], held: Collection[str]) -> None:
        """Have deletions tell what they have done, if that may be about documents of these tables."""
        tied = any(rule.table.name in held for ruled in rules.values() for rule in ruled if rule.action != "restrict")
        for write in writes:
            if isinstance(write, DeleteRange):
                write.tells = tied or write.table.name in held
            elif isinstance(write, Delete):
                write.tells = tied and write.table.name in rules

    def written(self, table: str) -> Mapper | None:
        """The mapper of a table by its name for this session, once that was asked for."""
        return self._written.get(table)

    def rules(self, table: Table) -> list[Rule]:
        """What deleting documents of a table does to others."""
        return self._rules_of(table.name)

    def _checks(self, table: str) -> list[Check]:
        mapper = self._written.get(table)
        if mapper is None or not (mapper.checked or mapper.children):
            return []
        found: list[Check] = []
        for one in mapper.family():
            if one.checked:
                references = [reference for reference in one.references.values() if reference.check]
                found += [Check(each.field, self.table(each.target), each.index) for each in references]
        return list({check.field: check for check in found}.values())

    def _rules_of(self, table: str) -> list[Rule]:
        mapper = self._written.get(table)
        if mapper is None:
            return []
        found: dict[tuple[object, ...], tuple[Rule, list[Mapper]]] = {}
        for one in mapper.family():
            for relation in relations_of(one) if one.relationships else ():
                rule = self._rule(relation)
                if rule is not None:  # classes that say the same share it
                    same = rule.table.name, rule.key, rule.field, rule.action, rule.filter
                    found.setdefault(same, (rule, []))[1].append(one)
        return [replace(rule, where=mapper.documents_of(classes)) for rule, classes in found.values()]

    def _rule(self, relation: Relation) -> Rule | None:
        if not isinstance(relation, ToMany | Through) or relation.on_delete is None:
            return None
        reference = relation.reference if isinstance(relation, ToMany) else relation.near
        null = relation.on_delete == "nullify" and reference.null
        table = self.table(reference.mapper.model)
        key, field = reference.key_field, reference.field
        unique = self.unique(reference.mapper.model, (field,)) if relation.on_delete == "nullify" else ()
        referring = relation.target if isinstance(relation, ToMany) else relation.between
        only = referring.__mapper__.only
        return Rule(relation.shown, table, relation.index, key, field, relation.on_delete, null, unique, filter=only)

    # -- keys ------------------------------------------------------------------------------------------------------

    def key(self, model: type[Model], key: Any) -> Key:
        """Where the document with a primary key is found, or with an `_id` for a model without one."""
        return self.key_of(mapper_of(model), key)

    def key_of(self, mapper: Mapper, key: Any) -> Key:
        """The same of a mapper's model."""
        names = mapper.key
        if not names:
            if not isinstance(key, str):
                raise ValidationError(f"an _id is a string, got {type(key).__name__}", table=mapper.name, field="_id")
            if not key.isascii():
                raise ValidationError("an _id is ASCII", table=mapper.name, field="_id")
            return Key("by_id", (key,))
        if len(names) == 1:
            return Key(mapper.primary_index, (_key_operand(mapper.columns[names[0]], key),))
        values = key
        if not isinstance(values, tuple) or len(values) != len(names):
            raise ValidationError(f"the primary key is a tuple ({', '.join(names)})", table=mapper.name)
        parts = zip(names, values, strict=True)
        return Key(mapper.primary_index, tuple(_key_operand(mapper.columns[name], value) for name, value in parts))

    def target(self, model: type[Model], key: Any) -> str | Key:
        """`key` as a write names a document."""
        target = self.key(model, key)
        if target.index != "by_id":
            return target
        assert isinstance(key, str)
        return key

    def identity(self, model: type[Model], key: Any) -> Identity:
        """The identity of a primary key as users give it."""
        return identity_of(self.key(model, key).key)

    def new_identity(self, instance: Model, index: str = PRIMARY) -> Identity | None:
        """The primary key that a new instance has at the moment, or its key in a unique index.

        None while it has none that could be stored, and in a unique index where it lacks all of the fields.
        """
        model = type(instance)
        try:
            if index == PRIMARY:
                return self.identity(model, instance.primary_key) if model.__mapper__.key else None
            fields = self.table(model).declared_fields(index)
            key = [self._new_value(instance, field) for field in fields]
        except (AttributeError, ValidationError):
            return None
        return None if all(value is MISSING for value in key) else identity_of(key)

    def _new_value(self, instance: Model, field: str) -> Value | Missing:
        mapper = instance.__mapper__
        for name, column in mapper.columns.items():
            if column.field == field:
                return column.dump(getattr(instance, name))
        return mapper.discriminator or MISSING if field == mapper.discriminator_field else MISSING

    def new_identities(self, instance: Model) -> Iterator[tuple[str, Identity]]:
        """All keys that a new instance has at the moment and nobody else may have, with the names of their indexes."""
        for index in (PRIMARY, *(one.name for one in instance.__mapper__.unique_indexes if one.unique)):
            identity = self.new_identity(instance, index)
            if identity is not None:
                yield index, identity

    def identities(self, instance: Model) -> Iterator[tuple[str, Identity]]:
        """All keys that the document of an instance has and no other may have, with the names of their indexes."""
        document, mapper = instance._state.document or {}, instance.__mapper__
        for index, fields in ((PRIMARY, mapper.key_fields), *((one.name, one.fields) for one in mapper.unique_indexes)):
            key = [document.get(field, MISSING) for field in fields]
            if any(value is not MISSING for value in key):
                yield index, identity_of(key)

    def inserted(self, model: type[Model], document: Document) -> tuple[Table, Document, tuple[Unique, ...]]:
        """What an insert of a document says, whose keys are to be its own."""
        known = self._inserted.get(model)
        if known is None or known[0] is not model.__mapper__.table:
            table = self.table(model)
            known = self._inserted[model] = model.__mapper__.table, table, self.unique(model)
        return known[1], document, known[2]

    # -- unique keys -----------------------------------------------------------------------------------------------

    def unique(
        self, model: type[Model], fields: Collection[str] | None = None, *, primary: bool = True
    ) -> tuple[Unique, ...]:
        """What a write is to make its document's own: all there is, or what some fields that it changes are part of.

        Without `primary` the primary key is left out, unless its index is declared unique.
        """
        mapper = model.__mapper__
        if primary and fields is None:
            return mapper.claims
        if fields is not None and mapper.unique_fields.isdisjoint(fields):
            return ()
        return tuple(
            [
                claim
                for one, claim in zip(mapper.unique_indexes, mapper.claims, strict=True)
                if (primary or one.unique) and (fields is None or any(field in fields for field in one.fields))
            ]
        )

    def unique_index(self, model: type[Model], index: object) -> IndexDef:
        """The unique index of this name, or that of the primary key. IndexRangeError for any other."""
        mapper = self.mapper(model)
        name = index if isinstance(index, str) else str(getattr(index, "name", index))
        for one in mapper.unique_indexes:
            if one.name == name:
                return one
        fields = mapper.table.declared_fields(name)
        problem = f"it is not unique; {self._told_unique(mapper)}"
        raise IndexRangeError(problem, table=mapper.name, index=name, fields=fields)

    def unique_key(self, model: type[Model], values: Mapping[str, Any]) -> Key:
        """Where the one document is that has these values of the attributes of a unique index, or of the primary key.

        Raises InvalidRequestError for other attributes, and where all of them are missing, which many documents may share.
        """
        mapper = self.mapper(model)
        columns = [self.column(model, name) for name in values]
        given = {column.field: column.operand(value) for column, value in zip(columns, values.values(), strict=True)}
        for one in mapper.unique_indexes:
            known = {**{name: value for name, value in mapper.expected.items() if name in one.fields}, **given}
            if known.keys() == set(one.fields):
                break
        else:
            raise InvalidRequestError(
                f"table {mapper.name!r}: [{', '.join(values)}] is no unique key; {self._told_unique(mapper)}"
            )
        key = tuple(known[field] for field in one.fields)
        if one.unique and all(value is MISSING for value in key):
            raise InvalidRequestError(
                f"table {mapper.name!r}: documents that lack [{', '.join(values)}] are not unique; find them by a query"
            )
        return Key(one.name, key)

    def _told_unique(self, mapper: Mapper) -> str:
        named = {column.field: name for name, column in mapper.columns.items()}
        keys = [f"[{', '.join(named.get(field, field) for field in one.fields)}]" for one in mapper.unique_indexes]
        return f"unique {'are' if len(keys) > 1 else 'is'} {', '.join(keys)}" if keys else "nothing of it is unique"

    def whole_key(self, query: Query[Any]) -> Key:
        """The key that a query by nothing but equalities names."""
        read = self.read(query)
        if read.filter is not None or read.range.lower is not None or read.range.upper is not None or not read.range.eq:
            raise InvalidRequestError("what must be unique is a query by equalities on the first fields of an index")
        return Key(read.range.index, read.range.eq)

    # -- attributes ------------------------------------------------------------------------------------------------

    def column(self, model: type[Model], name: str) -> Column[Any]:
        """The column of an attribute. ValidationError for a name that is none."""
        mapper = mapper_of(model)
        if not isinstance(name, str):
            raise ValidationError(f"an attribute is told by its name, got {type(name).__name__}", table=mapper.name)
        column = mapper.columns.get(name)
        if column is None:
            known = ", ".join(mapper.columns)
            raise ValidationError(f"no such attribute; the attributes are {known}", table=mapper.name, field=name)
        return column

    def expected(self, model: type[Model], values: Mapping[str, Any] | None) -> Expect:
        """What a write expects of a document of this model, by field."""
        columns = {name: self.column(model, name) for name in values or ()}
        expect = {columns[name].field: columns[name].dump(value) for name, value in (values or {}).items()}
        return {**mapper_of(model).expected, **expect}


def _key_operand(column: Column[Any], value: Any) -> Value | Missing:
    """What a document holds of a key's attribute. ValidationError for None where it is never that."""
    if value is None and not column.nullable and not column.type.holds_none:
        raise ValidationError(f"expected {column.type.name}, got None", table=column.table, field=column.name)
    return column.operand(value)


def relations_of(mapper: Mapper) -> list[Relation]:
    """The relations of a model. InvalidRequestError where they speak of a class that is not there."""
    try:
        return list(mapper.relations.values())
    except NameError as error:
        name = mapper.model.__name__
        raise InvalidRequestError(f"a relation of {name} speaks of a class that is not there: {error}") from None


def root_of(model: type[Model]) -> type[Model]:
    """The model of a table's documents of whatever kind."""
    root: type[Model] = model.__mapper__.root.model
    return root


def check_query(query: Query[M]) -> Query[M]:
    """The query. Raises InvalidRequestError for anything else, such as the model itself."""
    if not isinstance(query, Query):
        given, such = type(query).__name__, "Task.query()"
        if isinstance(query, type) and issubclass(query, Model):
            given, such = "the model", f"{query.__name__}.query()"
        elif isinstance(query, Grouping):
            given, such = "groups without what is wanted of each", "Task.query().group_by(Task.done).count()"
        raise InvalidRequestError(f"a query is needed, such as {such}, got {given}")
    return query


def check_rows(rows: Rows[R]) -> Rows[R]:
    """The query, or what answers several things as one does. Raises InvalidRequestError for anything else."""
    if not isinstance(rows, Rows):
        check_query(rows)
    return rows


def _any_of(where: Condition | None, table: Table, index: str) -> tuple[tuple[str, Value | Missing], ...]:
    if where is None:
        return ()
    members = where.args if isinstance(where, Combined) and where.op == "or" else (where,)
    filters: list[tuple[str, Value | Missing]] = []
    for member in members:
        if isinstance(member, Combined) and member.op == "or":
            filters += _any_of(member, table, index)
        elif isinstance(member, Comparison) and member.op == "eq" and not member.path:
            filters.append((member.field, member.value))
        else:
            raise IndexRangeError(
                "a vector search takes equalities on filter fields, joined by |", table=table.name, index=index
            )
    return tuple(filters)
