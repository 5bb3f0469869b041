"""`Schema`, and how it is written as `schema.ts`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import attrs

from convexorm.errors import ValidationError
from convexorm.schema.system import COUNTERS, LEDGER
from convexorm.schema.tables import Table

__all__ = ["Schema", "to_fragment", "to_typescript"]


@attrs.frozen
class Schema:
    """A set of tables, in order of declaration. Two different definitions of one name are a ValidationError."""

    tables: Mapping[str, Table]

    @classmethod
    def of(cls, tables: Iterable[Table]) -> Schema:
        """The schema of these tables; the same table twice is one."""
        named: dict[str, Table] = {}
        for table in tables:
            if named.setdefault(table.name, table) != table:
                raise ValidationError("declared twice, differently", table=table.name)
        return cls(named)

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables.values())


def to_typescript(schema: Schema) -> str:
    """`convex/schema.ts` for these tables and the commit ledger."""
    ours = (*((COUNTERS,) if any(table.counters for table in schema) else ()), LEDGER)
    tables = (*(table for table in schema if table.name not in (LEDGER.name, COUNTERS.name)), *ours)
    return _IMPORTS.format("defineSchema, defineTable") + f"export default defineSchema({{\n{_members(tables)}}});\n"


def to_fragment(schema: Schema, name: str) -> str:
    """A module that exports these tables and no others as an object `name`, to spread into a schema."""
    return _IMPORTS.format("defineTable") + f"export const {name} = {{\n{_members(schema)}}};\n"


_IMPORTS = """\
import {{ {} }} from "convex/server";
import {{ v }} from "convex/values";

"""


def _members(tables: Iterable[Table]) -> str:
    return "".join(f"  {table.name}: {table.typescript()},\n" for table in tables)
