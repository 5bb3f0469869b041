"""The declared tables as data: what Convex's `schema.ts` says, in Python.

A `Schema` holds `Table`s, a `Table` holds validated fields and indexes. Models produce them, deployments obey them,
`to_typescript` writes them as `convex/schema.ts`, and `compare` tells two of them apart. Nothing here knows of models.

`validators` say what fields hold, `indexes` what is kept in order, `tables` join both; `system` are tables that no model
declares, and `typescript` writes all of them.
"""

from convexorm.schema.indexes import BUILT_IN_INDEXES, CounterDef, IndexDef, SearchIndexDef, VectorIndexDef, names_index
from convexorm.schema.system import COUNTERS, LEDGER, SCHEDULED, STORAGE
from convexorm.schema.tables import JAVASCRIPT_NAMES, SYSTEM_FIELDS, SYSTEM_TABLES, Table, joined_shapes, names_field
from convexorm.schema.typescript import Schema, to_fragment, to_typescript
from convexorm.schema.validators import (
    AnyOf,
    AnyValue,
    Array,
    Boolean,
    Bytes,
    Id,
    Int64,
    Literal,
    Null,
    Number,
    Object,
    Property,
    Record,
    String,
    Validator,
    holds_text,
    ids_in,
)

__all__ = [
    "BUILT_IN_INDEXES",
    "COUNTERS",
    "JAVASCRIPT_NAMES",
    "LEDGER",
    "SCHEDULED",
    "STORAGE",
    "SYSTEM_FIELDS",
    "SYSTEM_TABLES",
    "AnyOf",
    "AnyValue",
    "Array",
    "Boolean",
    "Bytes",
    "CounterDef",
    "Id",
    "IndexDef",
    "Int64",
    "Literal",
    "Null",
    "Number",
    "Object",
    "Property",
    "Record",
    "Schema",
    "SearchIndexDef",
    "String",
    "Table",
    "Validator",
    "VectorIndexDef",
    "holds_text",
    "ids_in",
    "joined_shapes",
    "names_field",
    "names_index",
    "to_fragment",
    "to_typescript",
]
