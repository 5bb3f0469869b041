"""Commits: writes applied all or none, with what holds between the documents that they are about and others."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from convexorm.conditions import Condition, existences
from convexorm.data import Data
from convexorm.requests.writes import DeleteRange, Insert, Patch, Replace, Unique, Upsert, Write
from convexorm.schema import Table

__all__ = ["Check", "Commit", "Rule", "tables_across"]


class Rule(Data, frozen=True):
    """What deleting a document of one table does to those of another whose `field` is its `key`, found through an index.

    "cascade" deletes them by the rules of their own table, "nullify" takes the field out of them (or, with `null`, sets it
    to null) and keeps their `unique` keys, "restrict" refuses the commit if there are any once all its writes are applied,
    as `relation`. It is about the documents for which `where` holds, and does this to those for which `filter` does.
    """

    relation: str
    table: Table
    index: str
    key: str
    field: str
    action: Literal["cascade", "restrict", "nullify"]
    null: bool = False
    unique: Sequence[Unique] = ()
    where: Condition | None = None
    filter: Condition | None = None


class Check(Data, frozen=True):
    """A field that must lead to a document once a commit is applied that writes it, through an index of its table."""

    field: str
    table: Table
    index: str


class Commit(Data, frozen=True, gc=True, weakref=True):
    """Writes applied all or none, once for each `id` however often it is sent.

    `rules` say, by table, what deleting documents of it does to others, `checks` which fields have to lead somewhere. One
    that is `lasting` is known by its id. Of others a deployment in this process need not know longer than they are held: it
    may note what became of one in its `outcomes`.
    """

    hidden = ("outcomes",)
    id: str
    writes: Sequence[Write]
    rules: Mapping[str, Sequence[Rule]] = msgspec.field(default_factory=dict)
    checks: Mapping[str, Sequence[Check]] = msgspec.field(default_factory=dict)
    lasting: bool = True
    outcomes: dict[object, Any] = msgspec.field(default_factory=dict)

    @classmethod
    def new(
        cls,
        writes: Sequence[Write],
        rules: Mapping[str, Sequence[Rule]] | None = None,
        checks: Mapping[str, Sequence[Check]] | None = None,
    ) -> Commit:
        """A commit with an id of its own, known to who holds it."""
        return cls(new_id(), writes, rules or {}, checks or {}, False)

    def tables(self) -> list[Table]:
        """All tables that it is about, each object once."""
        tables: dict[int, Table] = {}
        if len(self.writes) == 1 and not self.rules and not self.checks:
            write = self.writes[0]
            if type(write) in _OF_ONE_TABLE or (type(write) is Patch and write.where is None):
                return [write.table]
        for write in self.writes:
            table, kind = write.table, type(write)
            tables[id(table)] = table
            condition = write.where if kind is Patch else write.filter if kind is DeleteRange else None  # type: ignore[union-attr]
            if condition is not None:  # which may speak of other tables
                tables.update((id(table), table) for table in tables_across(condition))
        for held in (self.rules, self.checks):
            if held:
                tables.update((id(one.table), one.table) for some in held.values() for one in some)
        return list(tables.values())


_OF_ONE_TABLE = frozenset((Insert, Upsert, Replace))
"""Writes that speak of no other table than their own."""


def new_id() -> str:
    """An id for a commit, which begins with the time, so that ledgers are written where they were last."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def tables_across(condition: Condition | None) -> list[Table]:
    """The tables that a condition looks into for other documents."""
    edges = [one.edge for one in existences(condition)]
    return [table for edge in edges for table in (edge.range.table, *tables_across(edge.filter))]
