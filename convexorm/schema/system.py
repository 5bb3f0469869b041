"""Tables that no model declares: ours, and those of Convex's own."""

from __future__ import annotations

from convexorm.schema.indexes import IndexDef
from convexorm.schema.tables import Table
from convexorm.schema.validators import AnyValue, Array, Number, Property, String

__all__ = ["COUNTERS", "LEDGER", "SCHEDULED", "STORAGE"]

LEDGER = Table(
    name="convexorm_commits",
    fields={"commitId": Property(String()), "answer": Property(String())},
    indexes=(IndexDef("by_commit", ("commitId",)),),
)
"""Where `orm:commit` remembers its answers, so that a commit sent again is not applied again."""


COUNTERS = Table(
    name="convexorm_counters",
    fields={
        "counter": Property(String()),
        "key": Property(String()),
        "shard": Property(Number()),
        "count": Property(Number()),
        "sum": Property(String()),
    },
    indexes=(IndexDef("by_counter", ("counter", "key", "shard")),),
)
"""Where counts and sums are kept, for tables that declare some."""


STORAGE = Table(
    name="_storage",
    fields={
        "sha256": Property(String()),
        "size": Property(Number()),
        "contentType": Property(String(), optional=True),
    },
)
"""Convex's own table of files."""


SCHEDULED = Table(
    name="_scheduled_functions",
    fields={
        "name": Property(String()),
        "args": Property(Array(AnyValue())),
        "scheduledTime": Property(Number()),
        "completedTime": Property(Number(), optional=True),
        "state": Property(AnyValue()),
    },
)
"""Convex's own table of functions that are to run later, or have run."""
