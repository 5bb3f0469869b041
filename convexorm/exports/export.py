"""`Export`: the tables of a schema, from what `schema.export()` of `convex/server` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from convexorm.errors import InvalidRequestError
from convexorm.exports.losses import losses_of
from convexorm.exports.validators import validator_of
from convexorm.schema import IndexDef, SearchIndexDef, Validator, VectorIndexDef

__all__ = ["Export", "ExportedTable"]


@attrs.frozen
class ExportedTable:
    """One table: what its documents hold, and its indexes; the names of those that are staged."""

    name: str
    documents: Validator
    indexes: tuple[IndexDef, ...] = ()
    search_indexes: tuple[SearchIndexDef, ...] = ()
    vector_indexes: tuple[VectorIndexDef, ...] = ()
    staged: frozenset[str] = frozenset()
    lost: Mapping[str, str] = attrs.field(factory=dict, eq=False)
    """What TypeScript says of fields of which the validator here says less."""


@attrs.frozen
class Export:
    """The tables in their order, and whether Convex holds documents to them."""

    tables: tuple[ExportedTable, ...]
    validated: bool = True

    @classmethod
    def told(cls, export: Mapping[str, Any]) -> Export:
        """From the JSON. Raises InvalidRequestError, which names the place, for what is not understood."""
        try:
            tables = tuple(_table(told) for told in export["tables"])
            return cls(tables, export.get("schemaValidation", True) is not False)
        except (KeyError, TypeError, AttributeError):
            raise InvalidRequestError("the schema was exported in a form that is not understood") from None

    def table(self, name: str) -> ExportedTable | None:
        """The table of this name."""
        return next((table for table in self.tables if table.name == name), None)

    def named(self, names: frozenset[str]) -> Export:
        """These tables only. Raises InvalidRequestError for one that is not there."""
        missing = names - {table.name for table in self.tables}
        if missing:
            raise InvalidRequestError(f"the schema has no table {min(missing)!r}")
        return attrs.evolve(self, tables=tuple(table for table in self.tables if table.name in names))


def _table(told: Mapping[str, Any]) -> ExportedTable:
    name: str = told["tableName"]
    staged: set[str] = set()

    def both(kind: str, staged_kind: str) -> list[Mapping[str, Any]]:
        later = list(told.get(staged_kind) or ())
        staged.update(each["indexDescriptor"] for each in later)
        return [*(told.get(kind) or ()), *later]

    indexes = tuple(IndexDef(each["indexDescriptor"], tuple(each["fields"])) for each in both("indexes", "stagedDbIndexes"))
    search = tuple(
        SearchIndexDef(each["indexDescriptor"], each["searchField"], tuple(each.get("filterFields") or ()))
        for each in both("searchIndexes", "stagedSearchIndexes")
    )
    vectors = tuple(
        VectorIndexDef(
            each["indexDescriptor"],
            each["vectorField"],
            int(each["dimensions"] if "dimensions" in each else each["dimension"]),
            tuple(each.get("filterFields") or ()),
        )
        for each in both("vectorIndexes", "stagedVectorIndexes")
    )
    said = told.get("documentType") or {"type": "any"}
    documents = validator_of(said, name)
    return ExportedTable(name, documents, indexes, search, vectors, frozenset(staged), losses_of(said))
