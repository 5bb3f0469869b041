"""How a record is named: by the handler's table and the record's own id, from which its `_id` is made.

The handler finds records by their own ids only, never by Convex's `_id`. So the `_id` that sessions see here is made of
that address: the same in every process, and enough to find the record again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import attrs

from convexorm.errors import DeploymentError, ValidationError
from convexorm.requests import Document, KeyValue
from convexorm.schema import Table
from convexorm.values import Value, dumps
from mastra_convex.foreign.tables import DOCUMENTS, TYPED, VECTORS, typed_table

__all__ = ["Address", "address_of", "documents_of", "keyed", "record_of"]

_WRAPPED = "convexorm_json"
"""The field of a document whose record the handler would not take as it is: JSON text, beside the id."""
_NAMELESS = "?"
"""Begins the `_id` of a record without an id of its own, which nothing can change or delete."""


@attrs.frozen
class Address:
    """A record of one of the handler's tables."""

    scope: str
    id: str

    @property
    def text(self) -> str:
        return f"{quote(self.scope, safe='')}/{self.id}"

    @classmethod
    def parse(cls, text: str, table: Table) -> Address | None:
        """The address an `_id` of this table is made of; None for a text that is none."""
        scope, slash, id = text.partition("/")
        if scope == _NAMELESS:
            raise DeploymentError(f"a record of table {table.name!r} without an id cannot be reached through the handler")
        found = cls(unquote(scope), id)
        return found if slash and _holds(table, found.scope) else None


def _holds(table: Table, scope: str) -> bool:
    """Whether records of the handler's table are documents of ours."""
    if table.name in (VECTORS, DOCUMENTS):
        return scope.startswith("mastra_vector_") == (table.name == VECTORS)
    return scope == typed_table(table).name


def scope_of(table: Table, part: Value) -> str:
    """The handler's name of the table that holds the records of a vector index, or the documents of a table.

    Raises DeploymentError where the handler gives that name to another table.
    """
    name = f"mastra_vector_{part}" if table.name == VECTORS else str(part)
    typed = {one.name for one in TYPED.values()} | TYPED.keys()
    if name in typed or (table.name == DOCUMENTS and name.startswith("mastra_vector_")):
        raise DeploymentError(f"{part!r} of table {table.name!r} cannot be reached: the handler has a table of that name")
    return name


def keyed(table: Table, index: str, key: KeyValue) -> Address | None:
    """The address of the record that a whole key names, where the handler finds it by that key."""
    if index == "by_id" and key and isinstance(key[0], str):
        return Address.parse(key[0], table)
    if not all(isinstance(value, str) and value for value in key):
        return None
    if table.name in (VECTORS, DOCUMENTS):
        whole = index in ("by_index_id", "by_table_primary") and len(key) == 2
        return Address(scope_of(table, key[0]), str(key[1])) if whole else None
    return Address(typed_table(table).name, str(key[0])) if index == "by_record_id" and len(key) == 1 else None


def address_of(table: Table, document: Document) -> Address:
    """The address a new document gets. Raises ValidationError for a document without an id."""
    if table.name == DOCUMENTS:
        return Address(scope_of(table, document["table"]), str(document["primaryKey"]))
    if table.name == VECTORS:
        return Address(scope_of(table, document["indexName"]), str(document["id"]))
    scope = typed_table(table).name
    id = document.get("id")
    if not isinstance(id, str) and table.name == "mastra_workflow_snapshots":
        id = f"{document.get('workflow_name')}-{document.get('run_id')}"
    if not isinstance(id, str) or not id:
        raise ValidationError("a record needs an id, a text that is not empty", table=table.name, field="id")
    return Address(scope, id)


def record_of(table: Table, document: Document, id: str) -> dict[str, Value]:
    """A document as the handler takes it: what its schema knows, under this id."""
    if table.name == DOCUMENTS:
        record = document["record"]
        if isinstance(record, Mapping) and _same_id(record.get("id"), id):
            return dict(record)
        return {"id": id, _WRAPPED: record if isinstance(record, str) else dumps(record)}
    if table.name == VECTORS:
        return {"id": id, **{name: document[name] for name in ("embedding", "metadata") if name in document}}
    return typed_table(table).record(table, {**document, "id": id})


def documents_of(table: Table, scope: str, records: Sequence[Mapping[str, Any]]) -> list[Document]:
    """The handler's records as our documents.

    Records of the documents table come without Convex's fields; their place stands in for the creation time.
    """
    if table.name == DOCUMENTS:
        return [_generic(scope, place, record) for place, record in enumerate(records)]
    return [_typed(table, scope, record) for record in records]


def _typed(table: Table, scope: str, record: Mapping[str, Any]) -> Document:
    id = record.get("id")
    made = Address(scope, id).text if isinstance(id, str) else f"{_NAMELESS}/{record.get('_id')}"
    typed = TYPED.get(table.name)
    if typed is not None and any(record.get(name) == "" for name in typed.unsaid):
        record = {name: value for name, value in record.items() if name not in typed.unsaid or value != ""}
    return {**record, "_id": made, "_creationTime": record.get("_creationTime", 0.0)}


def _generic(scope: str, place: int, record: Mapping[str, Any]) -> Document:
    key = _text(record.get("id"))
    return {
        "table": scope,
        "primaryKey": key,
        "record": record[_WRAPPED] if record.keys() == {"id", _WRAPPED} else record,
        "_id": Address(scope, key).text,
        "_creationTime": float(place),
    }


def _text(id: object) -> str:
    """An id as the handler makes a text of it."""
    if isinstance(id, float) and id.is_integer():
        return str(int(id))
    return str(id)


def _same_id(id: object, key: str) -> bool:
    return not isinstance(id, bool) and isinstance(id, str | int | float) and bool(id) and _text(id) == key
