"""What holds between documents of different tables in one commit: `convex/orm/ties.ts`, over SQLite.

Deleting cascades at once. What forbids a commit is looked at once all its writes are applied, so that the order of the
writes does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import attrs
import msgspec

from convexorm.deployments.embedded.keys import id_tick
from convexorm.deployments.filters import compile_filter
from convexorm.errors import LimitExceeded, StaleDataError, ValidationError
from convexorm.requests import (
    DELETED_BY_RANGE,
    MAX_DELETED_BY_RANGE,
    MAX_TIED_BYTES,
    Check,
    Document,
    Gone,
    Rule,
)
from convexorm.schema import Table, ids_in
from convexorm.values import MISSING, Value, hashable, size_of

__all__ = ["Ids", "Ties"]


class Rows(Protocol):
    """What the transaction does for its ties. A document is one with its `_id`."""

    def holding(self, table: Table, index: str, value: Value, *, limit: int = -1) -> list[Document]:
        """The documents whose first index field is this value."""

    def discard(self, table: Table, document: Document) -> None:
        """Delete a document."""

    def holds(self, position: int, table: Table, id: str | None, field: str, value: Value) -> bool:
        """Whether a document is there and has this in a field: that with an id, or that which a write has stored."""

    def take_out(self, position: int, rule: Rule, document: Document) -> None:
        """Take the reference out of a document, or set it to null, as a rule says."""


@attrs.frozen
class _Restriction:
    position: int
    table: Table
    rule: Rule
    value: Value


@attrs.frozen
class _Lead:
    position: int
    table: Table
    check: Check
    value: Value
    id: str | None


class Ties(msgspec.Struct, eq=False):
    """The rules and checks of one commit."""

    _rows: Rows
    _rules: Mapping[str, Iterable[Rule]]
    _checks: Mapping[str, Iterable[Check]]
    _removed: set[str] = set()
    _restrictions: list[_Restriction] = []
    _leads: dict[tuple[str, str, str | bytes], list[_Lead]] = {}
    _ranges: int = 0
    _bytes: int = 0
    _done: list[tuple[str, str | None, str]] = []

    def rules_of(self, table: Table) -> Iterable[Rule]:
        return self._rules.get(table.name, ())

    def has_removed(self, id: object) -> bool:
        """Whether this commit has deleted the document with this id."""
        return id in self._removed

    def remove(self, position: int, table: Table, document: Document) -> int:
        """Delete a document, and do to those that refer to it what the rules say; answers how many were deleted."""
        doomed = [(table, document)]
        removed = 0
        while doomed:
            where, one = doomed.pop()
            if self.has_removed(one["_id"]):
                continue
            self._removed.add(str(one["_id"]))
            self._done.append((where.name, None, str(one["_id"])))
            self._rows.discard(where, one)
            removed += 1
            for rule in self.rules_of(where):
                doomed += [(rule.table, each) for each in self._apply(position, where, rule, one)]
        return removed

    @property
    def done(self) -> int:
        """How many documents were deleted, and fields taken out, so far."""
        return len(self._done)

    def gone(self, since: int) -> tuple[Gone, ...]:
        """What was deleted, and taken out, since so many were `done`."""
        found: dict[tuple[str, str | None], list[str]] = {}
        for table, field, id_ in self._done[since:]:
            found.setdefault((table, field), []).append(id_)
        return tuple(Gone(table, field, tuple(ids)) for (table, field), ids in found.items())

    def _apply(self, position: int, table: Table, rule: Rule, document: Document) -> list[Document]:
        """Do what a rule says of those that refer to a deleted document; answers those that are to be deleted as well."""
        value = document.get(rule.key)
        if value is None or (rule.where is not None and not compile_filter(rule.where)(document)):
            return []
        if rule.action == "restrict":
            self._restrictions.append(_Restriction(position, table, rule, value))
            return []
        self._spend(table, 0)
        referring = [one for one in self._referring(rule, value) if not self.has_removed(one["_id"])]
        for each in referring:
            self._spend(table, size_of(each))
        if rule.action == "cascade":
            return referring
        for each in referring:
            self._done.append((rule.table.name, rule.field, str(each["_id"])))
            self._rows.take_out(position, rule, each)
        return []

    def _referring(self, rule: Rule, value: Value, *, limit: int = -1) -> list[Document]:
        """The documents that a rule is about, whose field is this value; all of them with a filter."""
        if rule.filter is None:
            return self._rows.holding(rule.table, rule.index, value, limit=limit)
        matches = compile_filter(rule.filter)
        return [one for one in self._rows.holding(rule.table, rule.index, value) if matches(one)]

    def _spend(self, table: Table, size: int) -> None:
        """Raise LimitExceeded where rules do more than one commit may."""
        self._ranges += 1
        self._bytes += size
        if self._ranges > MAX_DELETED_BY_RANGE or self._bytes > MAX_TIED_BYTES:
            raise LimitExceeded(DELETED_BY_RANGE, maximum=MAX_DELETED_BY_RANGE, table=table.name)

    def note(self, position: int, table: Table, fields: Mapping[str, Value], id: str | None = None) -> None:
        """Note the fields that a write sets and that have to lead somewhere, and in which document, if it has an id yet."""
        for check in self._checks.get(table.name, ()) if self._checks else ():
            value = fields.get(check.field)
            if value is not None:
                place = check.table.name, check.index, hashable(value)
                self._leads.setdefault(place, []).append(_Lead(position, table, check, value, id))

    def hold(self) -> None:
        """Raise StaleDataError for what forbids the commit, now that all writes are applied."""
        for one in self._restrictions:
            if self._referring(one.rule, one.value, limit=1):
                raise StaleDataError(table=one.table.name, reason="exists", write=one.position, relation=one.rule.relation)
        for leads in self._leads.values():
            check, value = leads[0].check, leads[0].value
            if not self._rows.holding(check.table, check.index, value, limit=1):
                for lead in leads:
                    self._hold(lead)

    def _hold(self, lead: _Lead) -> None:
        """Raise StaleDataError for what leads nowhere, unless the same commit has deleted it, too, or taken it out."""
        field = lead.check.field
        if self._rows.holds(lead.position, lead.table, lead.id, field, lead.value):
            raise StaleDataError(table=lead.table.name, reason="missing", write=lead.position, fields=(field,))


class Ids(msgspec.Struct, eq=False):
    """Checks that ids are those of documents of the tables that fields say, there or not, as Convex does."""

    _number_of: Callable[[str], int | None]
    _numbers: dict[str, int | None] = {}

    def check(self, table: Table, fields: Mapping[str, Value]) -> None:
        """Raise ValidationError for an id of another table, or of none."""
        for name in table.id_fields:
            value = fields.get(name, MISSING)
            if value is not MISSING and not ids_in(table.fields[name].validator, value, self._is_of):
                expected = table.fields[name].validator.noun
                raise ValidationError(f"expected {expected}, got another text", table=table.name, field=name)

    def _is_of(self, table: str, id: str) -> bool:
        if table.startswith("_"):  # a system table, which is not here
            return True
        if table not in self._numbers:
            self._numbers[table] = self._number_of(table)
        return id_tick(id) is not None and id[14:18] == f"{self._numbers[table] or 0:04x}"
