"""Documents: records of any table without a type of its own, by their ids.

Names are those of the npm package's own operations. All such records lie in one table of Convex, told apart by the name of
theirs; a name that has a type is refused here, because its records would be looked for elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, TypedDict

from convexorm import AsyncSession, Condition
from convexorm.faces import blocking
from mastra_convex.arguments import check_id, check_keys, check_limit, check_list, check_mapping, naming
from mastra_convex.domain import AsyncDomain, Domain
from mastra_convex.entities import Document
from mastra_convex.errors import InvalidArgument, named
from mastra_convex.records import merged

__all__ = ["AsyncDocuments", "Documents", "EqualityFilter"]

_TYPED = frozenset(
    (
        "mastra_background_tasks",
        "mastra_channel_config",
        "mastra_channel_installations",
        "mastra_messages",
        "mastra_observational_memory",
        "mastra_resources",
        "mastra_schedule_triggers",
        "mastra_schedules",
        "mastra_scorers",
        "mastra_threads",
        "mastra_unfinished_copies",
        "mastra_unfinished_moves",
        "mastra_unfinished_moves_messages",
        "mastra_vector_indexes",
        "mastra_workflow_snapshot",
        "mastra_workflow_snapshots",
    )
)
_VECTORS = "mastra_vector_"
_DELETED_AT_ONCE = 1_000
"""Records deleted by id in one commit: each takes two of the 4,096 index ranges Convex allows."""


class EqualityFilter(TypedDict):
    """`field` of the record is exactly `value`: True is not 1, None is a stored null."""

    field: str
    value: str | float | bool | None


class AsyncDocuments(AsyncDomain):
    """Records of any other table, awaited. `Documents` is the same, blocking.

    A record is a JSON object with an `id`: a non-empty string, or a whole number, which is the same id as its text.
    """

    async def insert(self, *, table_name: str, record: Mapping[str, Any]) -> None:
        """Store a record whole, in place of one with its id."""
        await self._store("INSERT", table_name, "record", [record])

    async def batch_insert(self, *, table_name: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Store records, each whole and in place of one with its id, in one commit; of several with one id the last.

        Raises LimitExceeded for more than Convex writes at once (about 4,000 new records, 16 MiB).
        """
        operation = "BATCH_INSERT"
        await self._store(operation, table_name, "records", check_list(operation, "records", records))

    async def patch(self, *, table_name: str, id: str | int, record: Mapping[str, Any]) -> bool:
        """Merge fields into a record, one level deep, and say whether there is one. Concurrent patches are all kept."""
        operation = "PATCH"
        key = (_table(operation, table_name), _id(operation, "id", id))
        changes = {name: value for name, value in check_mapping(operation, "record", record).items() if name != "id"}

        async def merge(session: AsyncSession) -> bool:
            found = await session.get(Document, key)
            if found is None:
                return False
            found.record = merged(operation, "record", found.record, changes)
            return True

        with naming(operation, "record"):
            async with self._session() as session:
                return await session.transact(merge)

    async def load(self, *, table_name: str, keys: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record whose fields are `keys`, or None: by its id at once, by other fields the first stored."""
        operation = "LOAD"
        table = _table(operation, table_name)
        given = dict(check_mapping(operation, "keys", keys))
        if not given:
            raise InvalidArgument("at least one field and its value", operation=operation, argument="keys")
        query = Document.query()
        if "id" in given:
            query = query.by_index("by_table_primary", table=table, record_key=_id(operation, "keys.id", given.pop("id")))
        else:
            query = query.by_index("by_table", table=table)
        query = query.where(*(_equal(operation, "keys", field, value) for field, value in given.items()))
        async with self._session() as session:
            found = await session.first(query)
        return None if found is None else found.record

    async def load_many(self, *, table_name: str, ids: Sequence[str | int]) -> list[dict[str, Any]]:
        """The records with these ids that there are, in the order of the ids, each once."""
        table = _table("LOAD_MANY", table_name)
        keys = [(table, id) for id in _ids("LOAD_MANY", ids)]
        async with self._session() as session:
            return [one.record for one in await session.get_many(Document, keys) if one is not None]

    async def query_table(
        self, *, table_name: str, filters: Sequence[EqualityFilter] | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """The records for which all filters hold, those stored first before others; at most `limit`, None for all."""
        operation = "QUERY_TABLE"
        conditions = []
        for one in () if filters is None else check_list(operation, "filters", filters):
            given = check_keys(operation, "filters", one, ("field", "value"))
            if "field" not in given or "value" not in given:
                raise InvalidArgument("each has a field and a value", operation=operation, argument="filters")
            conditions.append(_equal(operation, "filters", given["field"], given["value"]))
        query = Document.query().by_index("by_table", table=_table(operation, table_name)).where(*conditions)
        query = query.limit(check_limit(operation, "limit", limit))
        async with self._session() as session:
            return [one.record for one in await session.all(query)]

    async def delete_many(self, *, table_name: str, ids: Sequence[str | int]) -> None:
        """Delete the records with these ids, 1,000 in one commit; nothing happens for those that there are not."""
        table = _table("DELETE_MANY", table_name)
        keys = [(table, id) for id in _ids("DELETE_MANY", ids)]
        async with self._session() as session:
            for start in range(0, len(keys), _DELETED_AT_ONCE):
                for key in keys[start : start + _DELETED_AT_ONCE]:
                    session.delete_key(Document, key)
                await session.commit()

    async def clear_table(self, *, table_name: str) -> None:
        """Delete all records of the table, in as many commits as it takes."""
        query = Document.query().by_index("by_table", table=_table("CLEAR_TABLE", table_name))
        async with self._session() as session:
            await session.delete_all(query)

    async def drop_table(self, *, table_name: str) -> None:
        """`clear_table`: there is no table but its records."""
        await AsyncDocuments.clear_table(self, table_name=table_name)

    async def _store(self, operation: str, table_name: str, argument: str, records: Sequence[Mapping[str, Any]]) -> None:
        table = _table(operation, table_name)
        latest: dict[str, Mapping[str, Any]] = {}
        for one in records:
            record = check_mapping(operation, argument, one)
            latest[_id(operation, f"{argument}.id", record.get("id"))] = record
        if not latest:
            return
        with naming(operation, argument):
            async with self._session() as session:
                for id, record in latest.items():
                    session.upsert(Document(table=table, record_key=id, record=dict(record)), returning=False)
                await session.commit()


class Documents(Domain):
    """Records of any other table, blocking. `AsyncDocuments` is the same, awaited."""

    face = AsyncDocuments

    insert = blocking(AsyncDocuments.insert)
    batch_insert = blocking(AsyncDocuments.batch_insert)
    patch = blocking(AsyncDocuments.patch)
    load = blocking(AsyncDocuments.load)
    load_many = blocking(AsyncDocuments.load_many)
    query_table = blocking(AsyncDocuments.query_table)
    delete_many = blocking(AsyncDocuments.delete_many)
    clear_table = blocking(AsyncDocuments.clear_table)
    drop_table = blocking(AsyncDocuments.drop_table)


def _table(operation: str, name: object) -> str:
    checked = check_id(operation, "table_name", name)
    if checked in _TYPED or checked.startswith(_VECTORS):
        raise InvalidArgument(
            f"{named(checked)} has a type of its own, and a domain of the store or a vector store that keeps it",
            operation=operation,
            argument="table_name",
        )
    return checked


def _id(operation: str, argument: str, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise InvalidArgument("a non-empty string, or a whole number", operation=operation, argument=argument)
    return check_id(operation, argument, value)


def _ids(operation: str, ids: object) -> list[str]:
    return list(dict.fromkeys(_id(operation, "ids", one) for one in check_list(operation, "ids", ids)))


def _equal(operation: str, argument: str, field: object, value: object) -> Condition:
    if not isinstance(field, str):
        raise InvalidArgument("fields are strings", operation=operation, argument=argument)
    if value is not None and not isinstance(value, str | bool | Real):
        raise InvalidArgument(
            f"the value of {named(field)} is a string, a finite number, a boolean or None",
            operation=operation,
            argument=argument,
        )
    with naming(operation, argument):
        return Document.record[field] == value
