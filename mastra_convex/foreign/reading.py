"""Fetching what a read is about: as little of a table as the handler's operations can tell apart.

By ids the handler answers ten records at a time. Otherwise it answers what has certain field values, through the best of
its own indexes, up to 10,000 documents; bounds, order, other conditions and limits are evaluated here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from convexorm.conditions import Combined, Comparison, Condition
from convexorm.errors import DeploymentError, LimitExceeded
from convexorm.requests import Document, KeyValue, Read, ReadResult
from convexorm.schema import Table
from convexorm.values import MISSING, Missing, Value, same
from mastra_convex.foreign.addresses import Address, documents_of, keyed, scope_of
from mastra_convex.foreign.evaluation import evaluated
from mastra_convex.foreign.handler import Handler
from mastra_convex.foreign.tables import DOCUMENTS, TYPED, VECTORS, typed_table

__all__ = ["Reader"]

MAX_LOADED = 10
"""Ids of one loadMany (the handler's limit)."""
MAX_ANSWERED = 10_000
"""Documents one queryTable answers at most (the handler's limit); it does not say when there are more."""
VECTORS_AT_ONCE = 200
"""Vectors of one page: 4,096 numbers each are 7 MiB of the 16 that one call may read."""


class Reader:
    """Reads of one request. Records fetched by their address are kept, so asking for them again costs nothing."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._loaded: dict[Address, Document | None] = {}

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        await self.prefetch((read.range.table, keyed(read.range.table, read.range.index, read.range.eq)) for read in reads)
        return [evaluated(read, await self.candidates(read)) for read in reads]

    async def prefetch(self, addresses: Iterable[tuple[Table, Address | None]]) -> None:
        """Fetch the records at these addresses, ten in a call."""
        scopes: dict[str, tuple[Table, dict[str, None]]] = {}
        for table, address in addresses:
            if address is not None and address not in self._loaded:
                scopes.setdefault(address.scope, (table, {}))[1][address.id] = None
        for scope, (table, wanted) in scopes.items():
            ids = list(wanted)
            for start in range(0, len(ids), MAX_LOADED):
                chunk = ids[start : start + MAX_LOADED]
                answer = await self._handler.call("loadMany", scope, ids=chunk)
                self._loaded |= {Address(scope, id): None for id in chunk}
                for document in documents_of(table, scope, answer.result):
                    address = Address.parse(document["_id"], table)
                    if address is not None:
                        self._loaded[address] = document

    async def load(self, table: Table, address: Address) -> Document | None:
        """The record at an address."""
        await self.prefetch([(table, address)])
        return self._loaded[address]

    async def candidates(self, read: Read) -> Sequence[Document]:
        """Documents of the read's table, among them all of the read's."""
        table = read.range.table
        address = keyed(table, read.range.index, read.range.eq)
        if address is not None:
            found = await self.load(table, address)
            return [] if found is None else [found]
        if (read.range.index == "by_id" and read.range.eq) or (read.limit == 0 and not read.peek) or not read.range.parts:
            return []
        known = _equalities(read)
        if table.name == VECTORS:
            return await self._vectors(table, known)
        if table.name == DOCUMENTS:
            return await self._documents(table, known)
        return await self._typed(read, known)

    async def _vectors(self, table: Table, known: Mapping[str, Value | Missing]) -> list[Document]:
        if not isinstance(known.get("indexName"), str):
            raise DeploymentError(f"the handler answers records of table {table.name!r} only by their index's name")
        scope = scope_of(table, known["indexName"])
        found: list[Document] = []
        more, cursor = True, None
        while more:
            paging: dict[str, Any] = {"pageSize": VECTORS_AT_ONCE} | ({} if cursor is None else {"cursor": cursor})
            answer = await self._handler.call("queryTable", scope, **paging)
            found += documents_of(table, scope, answer.result)
            more, cursor = answer.more and answer.cursor is not None, answer.cursor
        return found

    async def _documents(self, table: Table, known: Mapping[str, Value | Missing]) -> list[Document]:
        if not isinstance(known.get("table"), str):
            raise DeploymentError(f"the handler answers records of table {table.name!r} only by the name of theirs")
        scope = scope_of(table, known["table"])
        return documents_of(table, scope, await self._query(scope, {}))

    async def _typed(self, read: Read, known: Mapping[str, Value | Missing]) -> list[Document]:
        table = read.range.table
        typed = typed_table(table)
        if any(value is not MISSING and name not in typed.fields and name[0] != "_" for name, value in known.items()):
            return []
        shortcut = _SHORTCUTS.get((table.name, read.range.index))
        asked = None if shortcut is None else shortcut(read)
        if asked is not None:
            operation, arguments = asked
            answer = await self._handler.call(operation, typed.name, **arguments)
            records = answer.result if isinstance(answer.result, list) else [answer.result] if answer.result else []
            if all(record.get(name) == value for record in records for name, value in known.items()):
                return documents_of(table, typed.name, records)  # else another resource's is the latest
        equal = {name: value for name, value in known.items() if name in typed.fields and _is_plain(value)}
        return documents_of(table, typed.name, await self._query(typed.name, equal))

    async def _query(self, scope: str, equal: Mapping[str, Value]) -> Sequence[Mapping[str, Any]]:
        filters = [{"field": name, "value": value} for name, value in equal.items()]
        answer = await self._handler.call("queryTable", scope, **({"filters": filters} if filters else {}))
        records: Sequence[Mapping[str, Any]] = answer.result
        if len(records) >= MAX_ANSWERED:
            raise LimitExceeded("documents that the storage handler answers", maximum=MAX_ANSWERED - 1, table=scope)
        return records


def _equalities(read: Read) -> dict[str, Value | Missing]:
    """The fields of which every document of the read has the same value."""
    known: dict[str, Value | Missing] = {}
    _gather(read.filter, known)
    known.update(
        zip(read.range.table.key_fields(read.range.index), _common([part.eq for part in read.range.parts]), strict=False)
    )
    return known


def _common(keys: Sequence[KeyValue]) -> KeyValue:
    """The values that all keys begin with."""
    first, *others = keys or ((),)
    shared = [all(len(one) > place and same(one[place], value) for one in others) for place, value in enumerate(first)]
    return first[: [*shared, False].index(False)]


def _gather(condition: Condition | None, known: dict[str, Value | Missing]) -> None:
    if isinstance(condition, Combined) and condition.op == "and":
        for one in condition.args:
            _gather(one, known)
    elif isinstance(condition, Comparison) and condition.op == "eq" and not condition.path:
        known[condition.field] = condition.value


def _is_plain(value: Value | Missing) -> bool:
    """Whether a value may stand in the handler's filters."""
    return value is None or isinstance(value, str | bool | int | float)


# -- operations that know an order -----------------------------------------------------------------------------------

_Asked = tuple[str, dict[str, Any]]


def _wanted(read: Read) -> int | None:
    """How many documents of the range are enough; None for all, or where that is not known before they are looked at."""
    if read.limit is None or read.filter is not None or read.after is not None:
        return None
    return read.skip + read.limit + read.peek


def _due(read: Read) -> _Asked | None:
    upper = read.range.upper
    if list(read.range.eq) != ["active"] or read.order != "asc" or upper is None or not upper.inclusive:
        return None
    wanted = _wanted(read)
    if wanted is None or read.range.lower is not None:
        return None
    return "listDueSchedules", {"now": upper.value, "limit": wanted}


def _history(read: Read) -> _Asked | None:
    wanted, lower, upper = _wanted(read), read.range.lower, read.range.upper
    if wanted is None or read.order != "desc" or len(read.range.eq) != 1:
        return None
    arguments: dict[str, Any] = {"scheduleId": read.range.eq[0], "limit": wanted}
    if lower is not None:
        arguments["fromActualFireAt"] = lower.value
    if upper is not None:
        arguments["toActualFireAt"] = upper.value
    fits = (lower is None or lower.inclusive) and (upper is None or not upper.inclusive)
    return ("listScheduleTriggers", arguments) if fits else None


def _latest(read: Read) -> _Asked | None:
    if (
        _wanted(read) != 1
        or read.order != "desc"
        or not 1 <= len(read.range.eq) <= 2
        or read.range.lower
        or read.range.upper
    ):
        return None
    return "omGetLatest", {"lookupKey": read.range.eq[0]}


def _run(read: Read) -> _Asked | None:
    if len(read.range.eq) != 2 or not all(isinstance(value, str) for value in read.range.eq):
        return None
    return "load", {"keys": {"workflow_name": read.range.eq[0], "run_id": read.range.eq[1]}}


_SHORTCUTS = {
    ("mastra_schedules", "by_status_next_fire_at"): _due,
    ("mastra_schedule_triggers", "by_schedule_actual"): _history,
    ("mastra_observational_memory", "by_lookup_key"): _latest,
    ("mastra_observational_memory", "by_lookup_owner"): _latest,
    ("mastra_workflow_snapshots", "by_workflow_run"): _run,
}
"""By our table and index: what to ask instead of all documents of a value, or None where that does not fit the read."""

assert {table for table, _ in _SHORTCUTS} <= TYPED.keys()
