"""What sessions are asked: queries, and what can be asked of a query in place of its instances.

A statement makes one read and knows what its result means. `Rows` are statements that answer several things, one by one: a
query its instances, a selection tuples, a grouping a tuple a group.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, TypeVarTuple, cast, overload

from msgspec.structs import replace

from convexorm.aggregates import Group, Sum, joined_groups
from convexorm.aggregates import Groups as Partials
from convexorm.conditions import Comparison, Membership
from convexorm.data import Data
from convexorm.errors import FullTableScanError, ValidationError
from convexorm.mapping.expressions import Column, Some
from convexorm.mapping.references import UNSET
from convexorm.querying.explaining import explained
from convexorm.querying.kept import groups_of, kept, kept_groups
from convexorm.querying.planning import Access
from convexorm.requests import MAX_MERGED, Document, Fold, Read, ReadResult, Term
from convexorm.schema import AnyOf, AnyValue, CounterDef, Int64, Number, Validator
from convexorm.types.choices import FlagType
from convexorm.types.scalars import FloatType, Int64Type, IntType
from convexorm.types.times import TimestampType
from convexorm.values import MISSING, Missing, Value, canonical, same

if TYPE_CHECKING:
    from convexorm.querying.query import Query

__all__ = [
    "Aggregate",
    "Count",
    "Digest",
    "Distinct",
    "Exists",
    "Grouping",
    "Groups",
    "Rows",
    "Select",
    "Statement",
]

T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
Ts = TypeVarTuple("Ts")

Load = Callable[[Any, Sequence[Document]], Any]
"""Makes instances of a model of documents."""


class Statement(Data, Generic[T_co], frozen=True, gc=True):
    """Something that `session.read` answers, several of them in one call and from one snapshot."""

    if TYPE_CHECKING:

        def _watched(self) -> T_co: ...

    @property
    def root(self) -> Query[Any]:
        """The query that it is about."""
        raise NotImplementedError

    def plan(self) -> Read:
        """The request for its answer. Raises FullTableScanError if no index covers it."""
        raise NotImplementedError

    def answer(self, result: ReadResult, load: Load) -> T_co:
        """What the result of that request means."""
        raise NotImplementedError

    def explain(self) -> str:
        """What executing it will do: table, index, ranges, filter, order and limit, a line each."""
        try:
            read = self.plan()
        except FullTableScanError as error:
            return f"table   {self.root.model.__mapper__.name}\nrefused {error}"
        return explained(read, by_index=self.root._index is not None)


class Rows(Statement[list[R_co]], frozen=True):
    """A statement that answers several things, in order."""

    def at_most(self, limit: int) -> Self:
        """The same, but no more than so many."""
        raise NotImplementedError

    @abstractmethod
    def bounded(self) -> Self:
        """The same, where little of it is read at a time: then a query without conditions is no full scan."""
        raise NotImplementedError

    @property
    def in_pages(self) -> bool:
        """Whether it can be read from a place in an index on."""
        return True

    def doubt(self, result: ReadResult) -> Exists | None:
        """Of what it answers in pages each comes once, unless there is this."""
        return None


# -- of a query ------------------------------------------------------------------------------------------------------


class Count(Statement[int], frozen=True):
    """How many documents a query has."""

    query: Query[Any]

    @property
    def root(self) -> Query[Any]:
        return self.query

    def plan(self) -> Read:
        rows = kept(self.query, None)
        return replace(self.query.unordered(always=True).plan(), count=True) if rows is None else rows

    def answer(self, result: ReadResult, load: Load) -> int:
        return result.count if kept(self.query, None) is None else sum(int(row["count"]) for row in result.docs)


class Exists(Statement[bool], frozen=True):
    """Whether a query has a document."""

    query: Query[Any]

    @property
    def root(self) -> Query[Any]:
        return self.query

    def plan(self) -> Read:
        return replace(self.query.unordered(always=True).at_most(1).plan(), count=True)

    def answer(self, result: ReadResult, load: Load) -> bool:
        return result.count > 0


class Digest(Statement[str], frozen=True):
    """A digest of the documents a query has."""

    query: Query[Any]

    @property
    def root(self) -> Query[Any]:
        return self.query

    def plan(self) -> Read:
        return replace(self.query.unordered().plan(), digest="all")

    def answer(self, result: ReadResult, load: Load) -> str:
        return result.digests[""]


# -- selections ------------------------------------------------------------------------------------------------------


class Select(Rows[R], frozen=True):
    """Some attributes of a query's documents, as tuples. Only these travel, with `ids` the `_id`s, too: for errors."""

    query: Query[Any]
    columns: tuple[Column[Any], ...]
    ids: bool = False

    @property
    def root(self) -> Query[Any]:
        return self.query

    def where(self, *conditions: Any) -> Self:
        """As `Query.where`."""
        return replace(self, query=self.query.where(*conditions))

    def order(self, order: Any) -> Self:
        """As `Query.order`."""
        return replace(self, query=self.query.order(order))

    def limit(self, limit: int | None) -> Self:
        """As `Query.limit`."""
        return replace(self, query=self.query.limit(limit))

    def offset(self, offset: int) -> Self:
        """As `Query.offset`."""
        return replace(self, query=self.query.offset(offset))

    def plan(self) -> Read:
        read = self.query.plan()
        sorted_by = [one.field for one in read.sort or ()]
        fields = [*(column.field for column in self.columns), *sorted_by, *(["_id"] if self.ids else ())]
        return replace(read, select=tuple(dict.fromkeys(fields)))

    def answer(self, result: ReadResult, load: Load) -> list[R]:
        return [self.row(document) for document in self.query.cut(result.docs)]

    def row(self, document: Document) -> R:
        """The tuple of a document. Raises ValidationError for one that does not fit."""
        try:
            row: Any = tuple([column.load(document.get(column.field, MISSING)) for column in self.columns])
        except ValidationError as error:
            raise error.of(document.get("_id")) from error.__cause__
        return row  # type: ignore[no-any-return]

    def at_most(self, limit: int) -> Self:
        return replace(self, query=self.query.at_most(limit))

    def bounded(self) -> Self:
        return replace(self, query=self.query.bounded())

    @property
    def in_pages(self) -> bool:
        return self.query.in_pages


class Distinct(Rows[R], frozen=True):
    """The different values of an attribute, in Convex's order, or backwards where the query is.

    A missing field is the value that it loads as. With `in_steps` they are read some at a time.
    """

    query: Query[Any]
    columns: tuple[Column[R]]
    in_steps: bool = False

    @property
    def root(self) -> Query[Any]:
        return self.query

    def limit(self, limit: int | None) -> Self:
        """At most so many values."""
        return replace(self, query=self.query.limit(limit))

    def order(self, order: Any) -> Self:
        """As `Query.order`."""
        return replace(self, query=self.query.order(order))

    def plan(self) -> Read:
        query, column = self.query.unordered(always=True), self.columns[0]
        for access in query.accesses() if query._after is None else ():
            fields = query.model.__mapper__.table.key_fields(access.index)
            if access.rest and not (access.covers or query._full_scan or query._index is not None):
                continue
            if _comes_in_order(access, fields, column.field):
                place = fields.index(column.field)
                read = replace(query.through(access), select=(column.field,), distinct=place + 1)
                return replace(read, skip=0, limit=self._read_at_most()) if self._joins else read
        return replace(query.limit(None).offset(0).plan(), fold=Fold((column.field,), ()))

    @property
    def _joins(self) -> bool:
        """Whether a missing field, or a null, may load as a value that others hold, and so may come to the same."""
        column = self.columns[0]
        return not self.in_steps and (column.nullable or column.has_default)

    def _read_at_most(self) -> int | None:
        """How many values to read, so that what is wanted is among them."""
        query = self.query
        if query._limit is None:
            return None
        if query._order == "desc" and not self.columns[0].nullable:
            return None  # a missing field comes last, and may load as any value
        return query._offset + query._limit + 2  # a missing field, null and another value may all load as one

    def answer(self, result: ReadResult, load: Load) -> list[R]:
        column, query = self.columns[0], self.query
        if result.groups:
            values = [group.key[0] for group in result.groups.values()]
        else:
            values = [document.get(column.field, MISSING) for document in result.docs]
        stored = [_stored_like(column, value) for value in values]
        if result.groups or self._joins:
            once = {canonical(value): value for value in stored}
            ordered = [value for _, value in sorted(once.items(), reverse=query._order == "desc")]
            stored = ordered[query._offset : None if query._limit is None else query._offset + query._limit]
        return [column.load(value) for value in stored]

    def doubt(self, result: ReadResult) -> Exists | None:
        column = self.columns[0]
        for value in (document.get(column.field, MISSING) for document in result.docs):
            stored = _stored_like(column, value)
            if not same(stored, value):
                absent: list[Value | Missing] = [None, MISSING]
                alike = [stored, *(one for one in absent if same(_stored_like(column, one), stored))]
                others = tuple(one for one in alike if not same(one, value))
                return Exists(self.query.where(Membership(column.field, others, (), column.table)))
        return None

    def at_most(self, limit: int) -> Self:
        return replace(self, query=self.query.at_most(limit))

    def bounded(self) -> Self:
        return replace(self, in_steps=True)

    @property
    def in_pages(self) -> bool:
        return self.plan().distinct is not None and not self._joins


def _comes_in_order(access: Access, fields: Sequence[str], field: str) -> bool:
    """Whether the documents of all ranges, one after the other, are in the order of a field."""
    if field not in fields or not access.ranges:
        return False
    place, first = fields.index(field), access.ranges[0]
    if not all(len(one.eq) >= place and all(map(same, one.eq[:place], first.eq[:place])) for one in access.ranges):
        return False
    told = [canonical(one.eq[place]) for one in access.ranges if len(one.eq) > place]
    return len(set(told)) == len(told)


def _common_length(access: Access) -> int | None:
    """How many equalities all ranges have, if these are the same; None otherwise."""
    first, *others = access.ranges or (None,)
    if first is None:
        return None
    same_length = all(len(one.eq) == len(first.eq) and all(map(same, one.eq, first.eq)) for one in others)
    return len(first.eq) if same_length else None


# -- aggregates ------------------------------------------------------------------------------------------------------


class Aggregate(Statement[T], frozen=True):
    """The sum, average, least or greatest value of an attribute over the documents of a query."""

    query: Query[Any]
    op: str
    columns: tuple[Column[Any]]

    def __post_init__(self) -> None:
        _check_summed(self.op, self.columns[0])

    @property
    def root(self) -> Query[Any]:
        return self.query

    def plan(self) -> Read:
        rows = self._kept()
        if rows is not None:
            return rows
        query = self.query.unordered()
        if self.op in ("min", "max"):
            ended = self._end(query)
            if ended is not None:
                return ended
        return _folded(query, Fold((), (_term(self.op, self.columns[0]),)))

    def _kept(self) -> Read | None:
        return kept(self.query, self.columns[0].field) if self.op in ("sum", "avg") else None

    def _end(self, query: Query[Any]) -> Read | None:
        """The read of the first document of an index that is ordered by the attribute, if there is one."""
        if query._limit is not None or query._offset or query._after is not None:
            return None
        field = self.columns[0].field
        held = query.where(Comparison(field, "gt", None, (), query.model.__mapper__.table.name))
        for access in held.accesses():
            fields = query.model.__mapper__.table.key_fields(access.index)
            lengths = {len(one.eq) for one in access.ranges}
            if access.rest or len(lengths) > 1 or len(access.ranges) > MAX_MERGED:
                continue
            length = lengths.pop() if lengths else 0
            if field not in fields[: length + 1] or (access.ranges and field not in fields):
                continue
            several = _common_length(access) is None and len(access.ranges) > 1
            if several and fields.index(field) < length:
                continue
            read = held.order("asc" if self.op == "min" else "desc").limit(1).through(access)
            return replace(read, select=(field,), merge=length if several else None)
        return None

    def answer(self, result: ReadResult, load: Load) -> T:
        answered: Any
        if self._kept() is not None:
            total = reduce(Sum.joined, (Sum.of_text(row["sum"]) for row in result.docs), Sum())
            answered = _answered(self.op, total, self.columns[0])
        elif self.op in ("min", "max") and not result.groups:
            value = next((document.get(self.columns[0].field, MISSING) for document in result.docs), MISSING)
            answered = None if value is MISSING or value is None else self.columns[0].load(value)
        else:
            group = next(iter(result.groups.values()), None)
            answered = _answered(self.op, None if group is None else group.partials[0], self.columns[0])
        return answered  # type: ignore[no-any-return]


def _folded(query: Query[Any], fold: Fold) -> Read:
    """The read of what a query's documents come to. ValidationError for the first in an order that no index gives."""
    read = query.plan()
    if read.sort is not None:
        problem = "of the first in an order that no index has there are no aggregates; select what they are made of"
        raise ValidationError(problem, table=read.range.table.name)
    return replace(read, fold=fold)


def _term(op: str, column: Column[Any] | None = None) -> Term:
    known: Any = {"avg": "sum"}.get(op, op)
    return Term(known, None if column is None else column.field)


def _answered(op: str, partial: Any, column: Column[Any] | None = None) -> Any:
    """What an aggregate comes to."""
    if op == "count":
        return 0 if partial is None else partial.n
    assert column is not None
    if op == "sum":
        return _total(column, Sum() if partial is None else partial)
    if op == "avg":
        average = None if partial is None else partial.average
        plain = type(column.type) in (IntType, Int64Type, FloatType) or not isinstance(column.type.validator, Number)
        return average if average is None or plain else column.load(average)
    value = MISSING if partial is None else partial.value
    return None if value is MISSING else column.load(value)


def _total(column: Column[Any], total: Sum) -> Any:
    kind = column.type
    if type(kind) in (IntType, Int64Type):
        return total.whole
    if type(kind) is FloatType:
        return float(total.total)
    if isinstance(kind.validator, Int64):
        from convexorm.values import ConvexInt64  # takes long to import

        return column.load(ConvexInt64(total.int64))
    return column.load(float(total.total)) if isinstance(kind.validator, Number) else total.total


_UNSUMMED = (TimestampType, FlagType)
"""Types that are stored as numbers, and have no sum."""


def _check_summed(op: str, column: Column[Any]) -> None:
    """Raise ValidationError for the sum or the average of what are no numbers."""
    if op in ("sum", "avg") and not (_holds_numbers(column.type.validator) and not isinstance(column.type, _UNSUMMED)):
        problem = f"a {column.type.name} is no number; there is no {op} of it"
        raise ValidationError(problem, table=column.table, field=column.field)


def _holds_numbers(validator: Validator) -> bool:
    if isinstance(validator, AnyOf):
        return any(map(_holds_numbers, validator.members))
    return isinstance(validator, Number | Int64 | AnyValue)


# -- groups ----------------------------------------------------------------------------------------------------------


class Groups(Rows[R], frozen=True):
    """A tuple for each group of documents that have the same values in some attributes: these, and what they come to."""

    query: Query[Any]
    columns: tuple[Column[Any], ...]
    op: str
    of: tuple[Column[Any], ...] = ()
    _most: int | None = None

    def __post_init__(self) -> None:
        for column in self.of:
            _check_summed(self.op, column)

    @property
    def root(self) -> Query[Any]:
        return self.query

    def plan(self) -> Read:
        kept = self._kept()
        if kept is not None:
            return kept[1]
        return _folded(self.query.unordered(), Fold(self._by, (_term(self.op, *self.of),)))

    @property
    def _by(self) -> tuple[str, ...]:
        return tuple(column.field for column in self.columns)

    def _kept(self) -> tuple[CounterDef, Read] | None:
        if self.op not in ("count", "sum", "avg"):
            return None
        return kept_groups(self.query, self._by, self.of[0].field if self.of else None)

    def answer(self, result: ReadResult, load: Load) -> list[R]:
        kept = self._kept()
        found = result.groups if kept is None else groups_of(kept[0], result.docs, self._by, self.op)
        groups = [group for _, group in sorted(self._by_what_they_load(found).items())]
        rows: Any = [self._row(group) for group in groups[: self._most]]
        return rows  # type: ignore[no-any-return]

    def _by_what_they_load(self, groups: Partials) -> Partials:
        """The groups, joined where a missing field, or a null, loads as what others hold: as the attribute's default."""
        if not any(value is MISSING or value is None for group in groups.values() for value in group.key):
            return groups
        joined: dict[bytes, Group] = {}
        for group in groups.values():
            key = tuple(map(_stored_like, self.columns, group.key))
            name = b"".join(map(canonical, key))
            joined |= joined_groups({name: joined[name]} if name in joined else {}, {name: Group(key, group.partials)})
        return joined

    def _row(self, group: Group) -> tuple[Any, ...]:
        key = [column.load(value) for column, value in zip(self.columns, group.key, strict=True)]
        return (*key, _answered(self.op, group.partials[0], *self.of))

    def at_most(self, limit: int) -> Self:
        return replace(self, _most=limit if self._most is None else min(limit, self._most))

    def bounded(self) -> Self:
        return self

    @property
    def in_pages(self) -> bool:
        return False


def _stored_like(column: Column[Any], value: Value | Missing) -> Value:
    """What a field holds that loads as this does: of a missing one, or a null where none belongs, the default, or null."""
    if value is not MISSING and value is not None:
        return value
    loaded = column.load(value)
    dumped = MISSING if loaded is None or loaded is UNSET else column.dump(loaded)
    return None if dumped is MISSING else dumped


class Grouping(Generic[*Ts]):
    """Documents of a query by the values of some attributes; its methods say what is wanted of each group."""

    def __init__(
        self, query: Query[Any], columns: tuple[Column[Any], ...], own: Callable[[Column[Any]], Column[Any]]
    ) -> None:
        self._query = query
        self._columns = columns
        self._own = own

    def count(self) -> Groups[tuple[*Ts, int]]:
        """How many there are."""
        return Groups(self._query, self._columns, "count")

    @overload
    def sum(self, column: Column[T | None]) -> Groups[tuple[*Ts, T]]: ...
    @overload
    def sum(self, column: Column[T]) -> Groups[tuple[*Ts, T]]: ...
    def sum(self, column: Column[Any]) -> Any:
        """The sum of an attribute; what is missing or null is left out. Raises ValidationError for what is no number."""
        return Groups(self._query, self._columns, "sum", (self._own(column),))

    def min(self, column: Some[T]) -> Groups[tuple[*Ts, T]]:
        """The least value of an attribute that is neither missing nor null; None if there is none."""
        return Groups(self._query, self._columns, "min", (self._own(cast("Column[Any]", column)),))

    def max(self, column: Some[T]) -> Groups[tuple[*Ts, T]]:
        """The greatest value of an attribute that is neither missing nor null; None if there is none."""
        return Groups(self._query, self._columns, "max", (self._own(cast("Column[Any]", column)),))

    def avg(self, column: Column[Any]) -> Groups[tuple[*Ts, Any]]:
        """The average of an attribute; what is missing or null is left out. None of nothing."""
        return Groups(self._query, self._columns, "avg", (self._own(column),))
