"""`Query`: an immutable builder that ends in one request.

A query knows its model and nothing of sessions. `plan()` decides which index serves it and which of its conditions become
the range, which a filter after it; `explain()` tells. An index is used only where it covers something: a query that no
index covers must say `full_scan()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

import attrs

from convexorm.conditions import Combined, Comparison, Condition, Exists, Membership, Negated
from convexorm.crossing import crossings, named
from convexorm.errors import FullTableScanError, IndexRangeError, ValidationError
from convexorm.relations import Path, check_paths
from convexorm.requests import Bound, Document, KeyValue, Range, Read, index_key
from convexorm.schema import BUILT_IN_INDEXES, SYSTEM_FIELDS, Table
from convexorm.values import MISSING, Missing, Value, dumps, is_whole

if TYPE_CHECKING:
    from convexorm.model import Index, Model

__all__ = ["Count", "Digest", "Query"]

M = TypeVar("M", bound="Model", covariant=True)
Order = Literal["asc", "desc"]

_SYMBOLS = {"eq": "=", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


@attrs.frozen
class Query(Generic[M]):
    """Documents of one model. Every method answers a new query; nothing is read before a session executes it."""

    model: type[M]
    _index: str | None = None
    _range: tuple[Comparison, ...] = ()
    _where: tuple[Condition, ...] = ()
    _order: Order = "asc"
    _limit: int | None = None
    _offset: int = 0
    _after: Document | None = attrs.field(default=None, repr=False)
    _full_scan: bool = False
    _load: tuple[Path, ...] = ()

    def by_index(self, index: str | Index, /, *conditions: Condition, **equalities: Any) -> Self:
        """Read through an index, by its name or as `Task.by_owner`, in its order.

        `equalities` (by attribute) must be a prefix of the index's fields; `conditions` may bound the next field from
        below and above, once each. `_creationTime` is the last field of every index. Raises IndexRangeError for
        anything else, and ValidationError for a value the field cannot hold.
        """
        table = self.model.__mapper__.table
        name = index if isinstance(index, str) else str(getattr(index, "name", index))
        fields = table.key_fields(name)
        comparisons: list[Comparison] = []
        for attribute, value in equalities.items():
            column = self.model.__mapper__.columns.get(attribute)
            if column is None:
                known = ", ".join(self.model.__mapper__.columns)
                raise IndexRangeError(f"no attribute {attribute!r}; there are {known}", table=table.name, index=name)
            comparisons += _comparisons(column == value, table, name, fields)
        for condition in conditions:
            self._check(condition, "by_index")
            comparisons += _comparisons(condition, table, name, fields)
        fitted = _fit(fields, self._led(fields, comparisons))
        if fitted.rest:
            given = ", ".join(f"{one.field} {_SYMBOLS[one.op]}" for one in comparisons)
            raise IndexRangeError(
                f"not a range: {given}. Give equalities on the first fields, in index order, then at most one lower and "
                "one upper bound on the next",
                table=table.name,
                index=name,
                fields=fields,
            )
        return attrs.evolve(self, index=name, range=tuple(comparisons))

    def where(self, *conditions: Condition) -> Self:
        """Only documents for which all `conditions` hold.

        What continues the range of the index is read as a range, the rest is filtered on the server. Comparisons follow
        Convex's total order: a missing field is less than everything, and types never mix. Raises ValidationError for a
        condition on a field that the model's table does not have.
        """
        for condition in conditions:
            self._check(condition, "where")
        return attrs.evolve(self, where=(*self._where, *conditions))

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
        """`"asc"` (the default) or `"desc"`, in the order of the index."""
        if not isinstance(order, str) or order not in ("asc", "desc"):
            raise ValidationError(f"order is 'asc' or 'desc', got {order!r}", table=self.model.__mapper__.name)
        return attrs.evolve(self, order=order)

    def limit(self, limit: int | None) -> Self:
        """At most `limit` documents; None for no limit."""
        if limit is not None and not is_whole(limit):
            raise ValidationError("limit is a whole number from 0 to 2**53 - 1, or None", table=self.model.__mapper__.name)
        return attrs.evolve(self, limit=limit)

    def offset(self, offset: int) -> Self:
        """Pass over the first `offset` documents. Convex reads what it passes over; `session.page` does not."""
        if not is_whole(offset):
            raise ValidationError("offset is a whole number from 0 to 2**53 - 1", table=self.model.__mapper__.name)
        return attrs.evolve(self, offset=offset)

    def after(self, place: Model | Document) -> Self:
        """Only documents behind a persistent instance (or a document), in the order of the query: its neighbours."""
        document = place._state.document if isinstance(place, self.model) else place
        if not isinstance(document, Mapping) or "_id" not in document:
            raise ValidationError(
                f"after() takes a persistent {self.model.__name__}, got {type(place).__name__}",
                table=self.model.__mapper__.name,
            )
        return attrs.evolve(self, after=document)

    def load(self, *paths: Path) -> Self:
        """Load these relations with the documents, in the same call and from the same snapshot: `Order.customer`,
        `Customer.orders.order("desc").limit(3)`, `Order.tags.load(Tag.owner)`.

        Raises InvalidRequestError for what is no relation of the model.
        """
        return attrs.evolve(self, load=(*self._load, *check_paths(paths, self.model)))

    def full_scan(self) -> Self:
        """Allow reading the whole table where no index covers the conditions."""
        return attrs.evolve(self, full_scan=True)

    def count(self) -> Count:
        """How many there are: something `session.read` takes beside queries."""
        return Count(self)

    def digest(self) -> Digest:
        """A digest of its documents: something `session.read` takes beside queries. The same as long as they are."""
        return Digest(self)

    def plan(self) -> Read:
        """The request for all of the query's documents. Raises FullTableScanError if no index covers it."""
        table = self.model.__mapper__.table
        only = self.model.__mapper__.only
        conditions = [*_flat(self._where), *(() if only is None else (only,))]
        simple = [one for one in conditions if isinstance(one, Comparison) and not one.path]
        if self._index is not None:
            fields = table.key_fields(self._index)
            index, fit = self._index, _fit(fields, (*self._led(fields, self._range), *simple))
        else:
            index, fit = _best(table, simple)
            if not fit.used and not self._full_scan:
                raise FullTableScanError(
                    table=table.name,
                    conditions=tuple(dict.fromkeys(name for one in conditions for name in one.fields())),
                    indexes=tuple(one.name for one in table.indexes),
                )
        rest = [one for one in (*self._range, *conditions) if not any(one is used for used in fit.used)]
        range_ = Range(table, index, fit.eq, fit.lower, fit.upper)
        return Read(
            range_,
            order=self._order,
            after=None if self._after is None else index_key(self._after, range_),
            filter=None if not rest else rest[0] if len(rest) == 1 else Combined("and", tuple(rest)),
            skip=self._offset,
            limit=self._limit,
        )

    def explain(self) -> str:
        """What executing it will do: table, index, range, filter, order and limit, a line each."""
        try:
            read = self.plan()
        except FullTableScanError as error:
            return f"table   {self.model.__mapper__.name}\nrefused {error}"
        range_, table = read.range, read.range.table
        fields = table.key_fields(range_.index)
        parts = [f"{name} = {_shown(value)}" for name, value in zip(fields, range_.eq, strict=False)]
        for bound, symbol in ((range_.lower, ">"), (range_.upper, "<")):
            if bound is not None:
                sign = symbol + ("=" if bound.inclusive else "")
                parts.append(f"{fields[len(range_.eq)]} {sign} {_shown(bound.value)}")
        whole = "the whole table" if self._index is None and range_.index == "by_creation_time" else "the whole index"
        lines = [
            f"table   {table.name}",
            f"index   {range_.index} ({', '.join(fields)}){' unique' if _is_unique(table, range_.index) else ''}",
            f"range   {' and '.join(parts) or whole}",
            f"filter  {_described(read.filter) if read.filter is not None else 'none'}",
            f"order   {read.order}",
            f"limit   {'none' if read.limit is None else read.limit}",
            *([f"offset  {read.skip}"] if read.skip else []),
            *(["after   an instance"] if read.after is not None else []),
            *crossings(table.name, read.filter, self._load),
        ]
        return "\n".join(lines)


@attrs.frozen
class Count:
    """How many documents a query has."""

    query: Query[Any]


@attrs.frozen
class Digest:
    """A digest of the documents a query has."""

    query: Query[Any]


# -- planning ------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Fit:
    """How far comparisons go as a range: what they become, which were used, which are left."""

    eq: KeyValue
    lower: Bound | None
    upper: Bound | None
    used: Sequence[Comparison]
    rest: Sequence[Comparison]


def _fit(fields: Sequence[str], comparisons: Sequence[Comparison]) -> _Fit:
    rest = list(comparisons)
    used: list[Comparison] = []
    eq: list[Value | Missing] = []

    def take(field: str, *ops: str) -> Comparison | None:
        for position, one in enumerate(rest):
            if one.field == field and one.op in ops:
                used.append(one)
                return rest.pop(position)
        return None

    for field in fields:
        equality = take(field, "eq")
        if equality is not None:
            eq.append(equality.value)
            continue
        lower, upper = take(field, "gt", "gte"), take(field, "lt", "lte")
        return _Fit(
            tuple(eq),
            None if lower is None else Bound(lower.value, lower.op == "gte"),
            None if upper is None else Bound(upper.value, upper.op == "lte"),
            used,
            rest,
        )
    return _Fit(tuple(eq), None, None, used, rest)


def _best(table: Table, comparisons: Sequence[Comparison]) -> tuple[str, _Fit]:
    """The index that covers most comparisons, equalities before bounds; by_creation_time where none covers any."""
    best = ("by_creation_time", _fit(BUILT_IN_INDEXES["by_creation_time"], comparisons))
    for name in (*(index.name for index in table.indexes), "by_id"):
        fit = _fit(table.key_fields(name), comparisons)
        if (len(fit.used), len(fit.eq)) > (len(best[1].used), len(best[1].eq)):
            best = (name, fit)
    return best


def _flat(conditions: Iterable[Condition]) -> Iterator[Condition]:
    for condition in conditions:
        if isinstance(condition, Combined) and condition.op == "and":
            yield from _flat(condition.args)
        else:
            yield condition


def _comparisons(condition: Condition, table: Table, index: str, fields: Sequence[str]) -> Iterator[Comparison]:
    for one in _flat((condition,)):
        if not isinstance(one, Comparison) or one.path or one.op == "ne":
            raise IndexRangeError(
                f"{_outline(one)} is no range; put it into where(...)", table=table.name, index=index, fields=fields
            )
        yield one


def _outline(condition: Condition) -> str:
    """The condition without the values it compares with, for an error."""
    if isinstance(condition, Comparison):
        return f"{_place(condition)} {_SYMBOLS[condition.op]}"
    if isinstance(condition, Membership):
        return f"{_place(condition)} in"
    if isinstance(condition, Exists):
        return named(condition)
    return "not(...)" if isinstance(condition, Negated) else "or_(...)"


# -- explaining ----------------------------------------------------------------------------------------------------


def _is_unique(table: Table, index: str) -> bool:
    return any(one.name == index and one.unique for one in table.indexes)


def _shown(value: Value | Missing) -> str:
    return "missing" if value is MISSING else dumps(value)


def _place(condition: Comparison | Membership) -> str:
    return condition.field + "".join(f"[{dumps(step)}]" for step in condition.path)


def _described(condition: Condition) -> str:
    return _DESCRIPTIONS[type(condition)](condition)


def _described_combined(condition: Combined) -> str:
    parts = [f"({_described(one)})" for one in condition.args]
    return f" {condition.op} ".join(parts) if parts else _OF_NONE[condition.op]


_OF_NONE = {"and": "true", "or": "false"}
_DESCRIPTIONS: dict[type[Condition], Callable[[Any], str]] = {
    Comparison: lambda one: f"{_place(one)} {_SYMBOLS[one.op]} {_shown(one.value)}",
    Membership: lambda one: f"{_place(one)} in [{', '.join(map(_shown, one.values))}]",
    Negated: lambda one: f"not ({_described(one.arg)})",
    Exists: named,
    Combined: _described_combined,
}
