"""`Compiler`: from what a session's user says (models, keys, queries) to what requests say (tables, keys, reads)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import attrs

from convexorm.conditions import Combined, Comparison, Condition
from convexorm.errors import IndexRangeError, InvalidRequestError, ValidationError
from convexorm.expressions import Column
from convexorm.mapper import Mapper, mapper_of
from convexorm.model import Model, VectorIndex
from convexorm.query import Query
from convexorm.querying.statements import Rows, Statement
from convexorm.requests import Expect, Key, Range, Read, Search
from convexorm.schema import COUNTERS, Table
from convexorm.sessions.instances import Identity, identity_of
from convexorm.values import Missing, Value

__all__ = ["Compiler", "check_query", "check_rows", "root_of"]

M = TypeVar("M", bound=Model)
R = TypeVar("R")


class Compiler:
    """Compiles for one session, which may have other names for tables and knows each table by one class."""

    def __init__(self, names: Mapping[str, str] | None) -> None:
        self._names = dict(names or {})
        self._tables: dict[str, Table] = {}
        self._mappers: dict[str, Mapper] = {}

    def forget_models(self) -> None:
        """Another class may stand for a table from now on."""
        self._mappers = {}

    def mapper(self, model: type[Model]) -> Mapper:
        """The mapper of a model. InvalidRequestError where the session works with another class of the same table."""
        mapper = mapper_of(model)
        known = self._mappers.setdefault(mapper.name, mapper.root)
        if known is not mapper.root:
            raise InvalidRequestError(
                f"this session has table {mapper.name!r} as {known.model.__module__}.{known.model.__qualname__}, which is "
                f"another class than {model.__module__}.{model.__qualname__}; use one of them, or another session"
            )
        return mapper

    def table(self, model: type[Model]) -> Table:
        """The table of a model, by the name it has for this session."""
        return self._renamed(self.mapper(model).table)

    def _renamed(self, table: Table) -> Table:
        if table.name not in self._names:
            return table
        if table.name not in self._tables:
            self._tables[table.name] = table.renamed(self._names[table.name])
        return self._tables[table.name]

    # -- reads -----------------------------------------------------------------------------------------------------

    def read(self, query: Query[Any]) -> Read:
        """The read of a query's documents."""
        return self.statement(check_query(query))

    def statement(self, one: Statement[Any]) -> Read:
        """The read of a query, or of what is asked of one."""
        if not isinstance(one, Statement):
            check_query(one)
        self.mapper(one.root.model)
        read = one.plan()
        if read.range.table is COUNTERS:
            return attrs.evolve(read, range=self._renamed_counter(one.root.model.__mapper__.table, read.range))
        return attrs.evolve(read, range=read.range.of(self._renamed(read.range.table))) if self._names else read

    def _renamed_counter(self, table: Table, range_: Range) -> Range:
        """The rows of a counter of a table, by the name it has for this session."""
        counter, *key = range_.eq
        renamed = self._renamed(table).name + str(counter).removeprefix(table.name)
        return attrs.evolve(range_, eq=(renamed, *key))

    def read_of_key(self, model: type[Model], key: Any) -> Read:
        """The read of the document with a primary key."""
        table, mapper = self.table(model), model.__mapper__
        return Read(Range(table, mapper.primary_index, self.key(model, key).key), filter=mapper.only, limit=1)

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

    # -- keys ------------------------------------------------------------------------------------------------------

    def key(self, model: type[Model], key: Any) -> Key:
        """Where the document with a primary key is found, or with an `_id` for a model without one."""
        mapper = mapper_of(model)
        names = mapper.key
        if not names:
            if not isinstance(key, str):
                raise ValidationError(f"an _id is a string, got {type(key).__name__}", table=mapper.name, field="_id")
            if not key.isascii():
                raise ValidationError("an _id is ASCII", table=mapper.name, field="_id")
            return Key("by_id", (key,))
        values = (key,) if len(names) == 1 else key
        if not isinstance(values, tuple) or len(values) != len(names):
            raise ValidationError(f"the primary key is a tuple ({', '.join(names)})", table=mapper.name)
        parts = zip(names, values, strict=True)
        return Key(mapper.primary_index, tuple(mapper.columns[name].operand(value) for name, value in parts))

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

    def new_identity(self, instance: Model) -> Identity | None:
        """The primary key that a new instance has at the moment; None while it has none that could be stored."""
        model = type(instance)
        try:
            return self.identity(model, instance.primary_key) if model.__mapper__.key else None
        except (AttributeError, ValidationError):
            return None

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
        column = mapper.columns.get(name)
        if column is None:
            known = ", ".join(mapper.columns)
            raise ValidationError(f"no such attribute; the attributes are {known}", table=mapper.name, field=name)
        return column

    def expected(self, model: type[Model], values: Mapping[str, Any] | None) -> Expect:
        """What a write expects of a document of this model, by field."""
        columns = {name: self.column(model, name) for name in values or ()}
        expect = {columns[name].field: columns[name].dump(value) for name, value in (values or {}).items()}
        return {**model.__mapper__.expected, **expect}


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
