"""`Query`: an immutable builder that ends in one request.

A query knows its model and nothing of sessions. `plan()` decides which index serves it and which of its conditions become
the range, which a filter after it; `explain()` tells. An index is used only where it covers something: a query that no
index covers must say `full_scan()`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, overload

from msgspec.structs import replace

from convexorm.conditions import Combined, Comparison, Condition
from convexorm.errors import FullTableScanError, IndexRangeError, ValidationError
from convexorm.mapping.expressions import Column, Some, Summed
from convexorm.mapping.relations import Path, check_paths
from convexorm.querying.crossing import crossings
from convexorm.querying.explaining import SYMBOLS, outline
from convexorm.querying.ordering import OrderedAccess, ordered
from convexorm.querying.planning import Access, accesses, conjuncts, equal
from convexorm.querying.statements import Aggregate, Count, Digest, Distinct, Exists, Grouping, Load, Rows, Select
from convexorm.requests import Document, Ordering, Range, Read, ReadResult, index_key
from convexorm.schema import SYSTEM_FIELDS, Table
from convexorm.values import Missing, Value, is_whole

if TYPE_CHECKING:
    from convexorm.live.changes import Change
    from convexorm.mapping.model import Index, Model

__all__ = ["Count", "Digest", "Query"]

M = TypeVar("M", bound="Model", covariant=True)
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")
Order = Literal["asc", "desc"]

_TWO_ORDERS = (
    "the order is that of an index, which order() turns round, or that of order_by(), which takes x.desc(); not both"
)


class Query(Rows[M], frozen=True):
    """Documents of one model. Every method answers a new query; nothing is read before a session executes it."""

    hidden = ("_after", "_equal")
    model: type[M]
    _index: str | None = None
    _range: tuple[Comparison, ...] = ()
    _equal: tuple[Value | Missing, ...] | None = None
    """What the first fields of the index are to be, where that is all that the range says."""
    _where: tuple[Condition, ...] = ()
    _order: Order = "asc"
    _limit: int | None = None
    _offset: int = 0
    _after: Document | None = None
    _full_scan: bool = False
    _load: tuple[Path, ...] = ()
    _ordering: tuple[Ordering, ...] = ()
    _bounded: bool = False

    if TYPE_CHECKING:

        def _watched(self) -> Change[M]: ...  # type: ignore[override]

    def by_index(self, index: str | Index, /, *conditions: Condition, **equalities: Any) -> Self:
        """Read through an index, by its name or as `Task.by_owner`, in its order.

        `equalities` (by attribute) must be a prefix of the index's fields; `conditions` may bound the next field from
        below and above, once each. `_creationTime` is the last field of every index. Raises IndexRangeError for
        anything else, and ValidationError for a value the field cannot hold.
        """
        mapper = self.model.__mapper__
        table, columns = mapper.table, mapper.columns
        name = index if isinstance(index, str) else str(getattr(index, "name", index))
        fields = table.key_fields(name)
        comparisons: list[Comparison] = []
        for attribute, value in equalities.items():
            column = columns.get(attribute)
            if column is None:
                known = ", ".join(columns)
                raise IndexRangeError(f"no attribute {attribute!r}; there are {known}", table=table.name, index=name)
            if value is not None:
                comparisons.append(column.equality(value))
            else:
                comparisons += _comparisons(column == value, table, name, fields)
        for condition in conditions:
            self._check(condition, "by_index")
            comparisons += _comparisons(condition, table, name, fields)
        equalities_alone = equal(fields, comparisons)
        if equalities_alone is None and _surplus(fields, self._led(fields, comparisons)):
            given = ", ".join(f"{one.field} {SYMBOLS[one.op]}" for one in comparisons)
            raise IndexRangeError(
                f"not a range: {given}. Give equalities on the first fields, in index order, then at most one lower and "
                "one upper bound on the next",
                table=table.name,
                index=name,
                fields=fields,
            )
        return replace(self, _index=name, _range=tuple(comparisons), _equal=equalities_alone)

    def where(self, *conditions: Condition) -> Self:
        """Only documents for which all `conditions` hold.

        What continues the range of the index is read as a range, the rest is filtered on the server. Comparisons follow
        Convex's total order: a missing field is less than everything, and types never mix. Raises ValidationError for a
        condition on a field that the model's table does not have.
        """
        for condition in conditions:
            self._check(condition, "where")
        return replace(self, _where=(*self._where, *conditions))

    def _check(self, condition: object, method: str) -> None:
        """Raise ValidationError for what is no condition, and for one on another model's columns."""
        model, table = self.model.__name__, self.model.__mapper__.table
        if not isinstance(condition, Condition):
            problem = f"{method}() takes conditions such as {model}.x == 1, got {type(condition).__name__}"
            raise ValidationError(problem, table=table.name)
        for name in condition.fields():
            if name not in table.fields and name not in SYSTEM_FIELDS:
                known = ", ".join([*table.fields, *SYSTEM_FIELDS])
                raise ValidationError(f"no such field for {method}(); there are {known}", table=table.name, field=name)
        for other in condition.tables():
            if other != table.name:
                problem = f"{method}() got a condition on table {other!r} in a query of {model}"
                raise ValidationError(problem, table=table.name)

    def _led(self, fields: Sequence[str], comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
        """Comparisons for an index, led by the discriminator of a class that shares its table, if the index begins so."""
        only = self.model.__mapper__.only
        if not isinstance(only, Comparison) or only.field != fields[0]:
            return tuple(comparisons)
        given = any(one.field == only.field for one in comparisons)
        return tuple(comparisons) if given else (only, *comparisons)

    def order(self, order: Order) -> Self:
        """`"asc"` (the default) or `"desc"`, in the order of the index. Raises ValidationError beside `order_by`."""
        if not isinstance(order, str) or order not in ("asc", "desc"):
            raise ValidationError(f"order is 'asc' or 'desc', got {order!r}", table=self.model.__mapper__.name)
        if self._ordering:
            raise ValidationError(_TWO_ORDERS, table=self.model.__mapper__.name)
        return replace(self, _order=order)

    def order_by(self, *orderings: Ordering | Column[Any]) -> Self:
        """In the order of these attributes: `Order.placed_at.desc()`, or `Order.placed_at` for ascending.

        The index that gives this order for the conditions is read. Where none does, executing the query raises
        FullTableScanError that says which one would, unless `full_scan()` was said: then all is read, and sorted where it
        is. Raises ValidationError for what is no attribute of the model, and beside `order("desc")`.
        """
        if not orderings:
            raise ValidationError("order_by() takes one attribute or more", table=self.model.__mapper__.name)
        if self._order == "desc":
            raise ValidationError(_TWO_ORDERS, table=self.model.__mapper__.name)
        return replace(self, _ordering=tuple(map(self._ordering_of, orderings)))

    def _ordering_of(self, one: object) -> Ordering:
        if isinstance(one, Column):
            return Ordering(self._own(one).field)
        mapper = self.model.__mapper__
        if not isinstance(one, Ordering) or (one.field not in mapper.table.fields and one.field not in SYSTEM_FIELDS):
            problem = (
                f"order_by() takes attributes of {self.model.__name__}, such as x or x.desc(), got {type(one).__name__}"
            )
            raise ValidationError(problem, table=mapper.name)
        if one.table not in (None, mapper.name):
            problem = f"an attribute of {self.model.__name__} is needed, got one of table {one.table!r}"
            raise ValidationError(problem, table=mapper.name)
        return Ordering(one.field, one.order)

    def limit(self, limit: int | None) -> Self:
        """At most `limit` documents; None for no limit."""
        if limit is not None and not is_whole(limit):
            raise ValidationError("limit is a whole number from 0 to 2**53 - 1, or None", table=self.model.__mapper__.name)
        return replace(self, _limit=limit)

    def offset(self, offset: int) -> Self:
        """Pass over the first `offset` documents. Convex reads what it passes over; `session.page` does not."""
        if not is_whole(offset):
            raise ValidationError("offset is a whole number from 0 to 2**53 - 1", table=self.model.__mapper__.name)
        return replace(self, _offset=offset)

    def after(self, place: Model | Document) -> Self:
        """Only documents behind a persistent instance (or a document), in the order of the query: its neighbours."""
        document = place._state.document if isinstance(place, self.model) else place
        if not isinstance(document, Mapping) or "_id" not in document:
            raise ValidationError(
                f"after() takes a persistent {self.model.__name__}, got {type(place).__name__}",
                table=self.model.__mapper__.name,
            )
        return replace(self, _after=document)

    def load(self, *paths: Path) -> Self:
        """Load these relations with the documents, in the same call and from the same snapshot: `Order.customer`,
        `Customer.orders.order("desc").limit(3)`, `Order.tags.load(Tag.owner)`.

        Raises InvalidRequestError for what is no relation of the model.
        """
        return replace(self, _load=(*self._load, *check_paths(paths, self.model)))

    def full_scan(self) -> Self:
        """Allow reading the whole table where no index covers the conditions."""
        return replace(self, _full_scan=True)

    # -- what can be asked of it ---------------------------------------------------------------------------------

    def count(self) -> Count:
        """How many there are: something `session.read` takes beside queries."""
        return Count(self)

    def exists(self) -> Exists:
        """Whether there is one: likewise. One document is read."""
        return Exists(self)

    def digest(self) -> Digest:
        """A digest of its documents: something `session.read` takes beside queries. The same as long as they are."""
        return Digest(self)

    def sum(self, column: Summed[T]) -> Aggregate[T]:
        """The sum of an attribute, exactly: something `session.read` takes beside queries. What is missing or null is left
        out; over nothing it is 0. Raises ValidationError for an attribute that is no number.
        """
        return Aggregate(self, "sum", (self._own(cast("Column[Any]", column)),))

    def min(self, column: Some[T]) -> Aggregate[T]:
        """The least value of an attribute that is neither missing nor null, in Convex's order; None if there is none.

        Where an index is ordered by the attribute, one document is read.
        """
        return Aggregate(self, "min", (self._own(cast("Column[Any]", column)),))

    def max(self, column: Some[T]) -> Aggregate[T]:
        """The greatest value, likewise."""
        return Aggregate(self, "max", (self._own(cast("Column[Any]", column)),))

    @overload
    def avg(
        self, column: Column[int] | Column[float] | Column[int | None] | Column[float | None]
    ) -> Aggregate[float | None]: ...
    @overload
    def avg(self, column: Some[T]) -> Aggregate[T]: ...
    def avg(self, column: Any) -> Any:
        """The average of an attribute; what is missing or null is left out. None of nothing."""
        return Aggregate(self, "avg", (self._own(column),))

    @overload
    def select(self, one: Column[T1], /) -> Select[tuple[T1]]: ...
    @overload
    def select(self, one: Column[T1], two: Column[T2], /) -> Select[tuple[T1, T2]]: ...
    @overload
    def select(self, one: Column[T1], two: Column[T2], three: Column[T3], /) -> Select[tuple[T1, T2, T3]]: ...
    @overload
    def select(
        self, one: Column[T1], two: Column[T2], three: Column[T3], four: Column[T4], /
    ) -> Select[tuple[T1, T2, T3, T4]]: ...
    @overload
    def select(
        self, one: Column[T1], two: Column[T2], three: Column[T3], four: Column[T4], five: Column[T5], /
    ) -> Select[tuple[T1, T2, T3, T4, T5]]: ...
    @overload
    def select(
        self, one: Column[T1], two: Column[T2], three: Column[T3], four: Column[T4], five: Column[T5], six: Column[T6], /
    ) -> Select[tuple[T1, T2, T3, T4, T5, T6]]: ...
    @overload
    def select(self, *columns: Column[Any]) -> Select[tuple[Any, ...]]: ...
    def select(self, *columns: Column[Any]) -> Any:
        """Some attributes of its documents, as tuples: a query that answers these, and only they travel."""
        if not columns:
            raise ValidationError("select() takes one attribute or more", table=self.model.__mapper__.name)
        return Select(self, tuple(map(self._own, columns)))

    def distinct(self, column: Column[T]) -> Distinct[T]:
        """The different values of an attribute: a query that answers these, in Convex's order.

        Where an index is ordered by the attribute, one document is read for each value; else all are. A limit is one of
        values. After `order_by` of this attribute they come in that order; ValidationError after any other.
        """
        query, own = self, self._own(column)
        if self._ordering and self._after is None:
            if [one.field for one in self._ordering] != [own.field]:
                problem = "different values come in an order of their own, and not in that of other attributes"
                raise ValidationError(problem, table=own.table, field=own.field)
            query = replace(self, _order=self._ordering[0].order, _ordering=())
        return Distinct(query, (own,))

    @overload
    def group_by(self, one: Column[T1], /) -> Grouping[T1]: ...
    @overload
    def group_by(self, one: Column[T1], two: Column[T2], /) -> Grouping[T1, T2]: ...
    @overload
    def group_by(self, one: Column[T1], two: Column[T2], three: Column[T3], /) -> Grouping[T1, T2, T3]: ...
    @overload
    def group_by(
        self, one: Column[T1], two: Column[T2], three: Column[T3], four: Column[T4], /
    ) -> Grouping[T1, T2, T3, T4]: ...
    def group_by(self, *columns: Column[Any]) -> Any:
        """Its documents by the values of attributes: `q.group_by(Order.status).sum(Order.total)` is a query of tuples
        (status, sum), in the order of the values.
        """
        if not columns:
            raise ValidationError("group_by() takes one attribute or more", table=self.model.__mapper__.name)
        return Grouping(self, tuple(map(self._own, columns)), self._own)

    def _own(self, column: Column[T]) -> Column[T]:
        """The column. Raises ValidationError for what is none of this model."""
        mapper = self.model.__mapper__
        if not isinstance(column, Column) or (
            column.field not in mapper.table.fields and column.field not in SYSTEM_FIELDS
        ):
            given = column.field if isinstance(column, Column) else type(column).__name__
            raise ValidationError(f"an attribute of {self.model.__name__} is needed, got {given}", table=mapper.name)
        if column.table != mapper.name:
            problem = f"an attribute of {self.model.__name__} is needed, got one of table {column.table!r}"
            raise ValidationError(problem, table=mapper.name)
        return column

    # -- what statements make of it ------------------------------------------------------------------------------

    @property
    def root(self) -> Query[Any]:
        return self

    def plan(self) -> Read:
        """The request for all of the query's documents. Raises FullTableScanError if no index covers it."""
        mapper = self.model.__mapper__
        if (
            self._index is not None
            and self._equal is not None
            and not self._where
            and not self._ordering
            and self._after is None
            and mapper.only is None
        ):
            return Read(Range(mapper.table, self._index, self._equal), self._order, None, None, self._offset, self._limit)
        choice = self._ordered() if self._ordering else None
        access = choice.access if choice is not None else next(iter(self.accesses()))
        unconditional = not self.conditions() and (self._bounded or self._limit is not None)
        if not (access.covers or unconditional or self._index is not None or self._full_scan):
            raise FullTableScanError(
                table=self.model.__mapper__.name,
                conditions=tuple(dict.fromkeys(name for one in self.conditions() for name in one.fields())),
                indexes=tuple(one.name for one in self.model.__mapper__.table.indexes),
            )
        read = self.through(access)
        if choice is None:
            return read
        if choice.sort is None:
            return replace(read, order=choice.order, merge=choice.merge)
        if self._after is not None:
            problem = "what no index has in this order is not read from a place in it on"
            raise ValidationError(problem, table=self.model.__mapper__.name)
        limit = None if read.limit is None else read.limit + read.skip
        return replace(read, order="asc", sort=choice.sort, skip=0, limit=limit)

    def answer(self, result: ReadResult, load: Load) -> list[M]:
        instances: list[M] = load(self.model, self.cut(result.docs))
        return instances

    def at_most(self, limit: int) -> Self:
        return self if self._limit is not None and self._limit < limit else self.limit(limit)

    def bounded(self) -> Self:
        return replace(self, _bounded=True)

    def unordered(self, *, always: bool = False) -> Self:
        """The same without `order_by`, unless which documents it has depends on that; `always`, only how many matter."""
        if self._after is not None or (not always and (self._limit is not None or self._offset)):
            return self
        return replace(self, _ordering=())

    @property
    def in_pages(self) -> bool:
        return not self._ordering or self._ordered().sort is None

    def cut(self, items: Sequence[T]) -> Sequence[T]:
        """Of the items of a read what the query's offset and limit leave, where the read could not see to it."""
        if not (self._ordering and self._offset and self._ordered().sort is not None):
            return items
        return items[self._offset : None if self._limit is None else self._offset + self._limit]

    def accesses(self) -> list[Access]:
        """How indexes answer it, the best first: all of them, unless it names one."""
        return accesses(self.model.__mapper__.table, self.conditions(), self._index)

    def through(self, access: Access) -> Read:
        """The request by such an access."""
        range_, rest = access.range(self.model.__mapper__.table), access.rest
        return Read(
            range_,
            order=self._order,
            after=None if self._after is None else index_key(self._after, range_),
            filter=None if not rest else rest[0] if len(rest) == 1 else Combined("and", tuple(rest)),
            skip=self._offset,
            limit=self._limit,
        )

    def condition(self) -> Condition | None:
        """What holds for each of its documents, if there are conditions."""
        found = self.conditions()
        return Combined("and", tuple(found)) if found else None

    def explain(self) -> str:
        """What executing it will do: table, index, ranges, filter, order and limit, and what it loads, a line each."""
        return "\n".join((super().explain(), *crossings(self._load)))

    def conditions(self) -> list[Condition]:
        """What holds for each of its documents."""
        only = self.model.__mapper__.only
        return [*self._range, *conjuncts(self._where), *(() if only is None else (only,))]

    def _ordered(self) -> OrderedAccess:
        """How it is read in the order of `order_by`."""
        return ordered(self.model.__mapper__.table, self.accesses(), self._ordering, sorts=self._full_scan)


# -- planning ------------------------------------------------------------------------------------------------------


def _surplus(fields: Sequence[str], comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Those of some comparisons that are left over by a range: equalities, then one lower and one upper bound."""
    rest = list(comparisons)

    def take(field: str, *ops: str) -> bool:
        place = next((place for place, one in enumerate(rest) if one.place == field and one.op in ops), None)
        if place is not None:
            rest.pop(place)
        return place is not None

    for field in fields:
        if not take(field, "eq"):
            take(field, "gt", "gte")
            take(field, "lt", "lte")
            break
    return rest


def _comparisons(condition: Condition, table: Table, index: str, fields: Sequence[str]) -> Iterator[Comparison]:
    for one in conjuncts((condition,)):
        if not isinstance(one, Comparison) or (one.path and one.place not in fields) or one.op == "ne":
            raise IndexRangeError(
                f"{outline(one)} is no range; put it into where(...)", table=table.name, index=index, fields=fields
            )
        yield one
