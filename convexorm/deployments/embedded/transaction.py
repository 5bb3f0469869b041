"""One commit, applied to SQLite: each kind of write has a method, and all of them run in one transaction."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from convexorm.aggregates import Sum
from convexorm.computed import computed
from convexorm.conditions import Condition
from convexorm.counters import Added, Counting, counter_id
from convexorm.data import Data
from convexorm.deployments.embedded.batches import Batches
from convexorm.deployments.embedded.changes import note_deletions
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.damage import damaged
from convexorm.deployments.embedded.following import looking
from convexorm.deployments.embedded.jobs import CANCELED, PENDING, new_job
from convexorm.deployments.embedded.keys import id_tick, span_of, time_of
from convexorm.deployments.embedded.reads import first_rows, select
from convexorm.deployments.embedded.removals import Removals
from convexorm.deployments.embedded.rows import documents, stream
from convexorm.deployments.embedded.tables import StoredTable, number_of
from convexorm.deployments.embedded.ties import Ids, Ties
from convexorm.deployments.embedded.written import Written as Noted
from convexorm.deployments.filters import Predicate, compile_filter
from convexorm.errors import StaleDataError
from convexorm.requests import (
    Applied,
    Cancel,
    Commit,
    Delete,
    DeletedRange,
    DeleteRange,
    Document,
    Expect,
    Insert,
    Key,
    Patch,
    Range,
    Read,
    Recount,
    Replace,
    Rule,
    Schedule,
    Target,
    Upsert,
    Write,
    Written,
    claimed,
    greater_stored,
    meets,
    taken,
)
from convexorm.schema import COUNTERS, Table
from convexorm.values import MAX_DOCUMENT_SIZE, MISSING, Value, hashable, size_of

__all__ = ["Transaction"]

_LATEST = 1 << 55
"""A tick of the year 3111; an `_id` holds no greater one than twice that."""


_STORING = frozenset((Insert, Upsert))
"""Writes that are gathered, and written many at a time."""
_REFERRING = frozenset((Insert, Upsert, Patch))
"""Writes that may refer to others of the commit."""


class _Row(Data, frozen=True):
    """A stored document: its row, its `_id`, its fields without the system ones, and the JSON of those that lie in it."""

    hidden = ("id", "fields", "body")
    tick: int
    id: str
    fields: dict[str, Value]
    body: str

    @property
    def plain(self) -> bool:
        """Whether JSON has words of its own for all that it holds."""
        return '"$' not in self.body

    def stays_small(self, given: Document) -> bool:
        """Whether it is far from too large, also with these fields: a character of JSON stands for 9 bytes at most."""
        size = 9 * len(self.body)
        for name, value in given.items():
            kind = type(value)
            size += 4 * len(name) + (4 * len(value) if kind is str else 9 if kind is float else size_of(value))
        return size < MAX_DOCUMENT_SIZE // 2


def _whole(row: _Row) -> Document:
    """The document of a row, system fields included."""
    return {**row.fields, "_id": row.id, "_creationTime": time_of(row.tick)}


def _found(stored: StoredTable, row: tuple[Any, ...] | None) -> _Row | None:
    return None if row is None else _Row(row[0], row[1], stored.fields(row), row[2])


class Transaction(msgspec.Struct, eq=False):
    """Applies the writes of one commit in order. Inserts and upserts are gathered and written many at a time.

    `tables` has the stored form of each table that the commit names, by the id of that object. `noted` is where it notes
    what it writes, if somebody is to know.
    """

    _connection: Connection
    _tables: Mapping[int, StoredTable]
    _commit: Commit
    _noted: Noted | None = None
    _made_ties: Ties | None = None
    _made_ids: Ids | None = None
    _ticks: dict[str, int] = {}
    _changes: dict[str, int] = {}
    _made_removals: Removals | None = None
    _contested: list[tuple[int, Table, Key]] = []
    _results: list[Applied] = []
    _made_counting: Counting | None = None

    @property
    def ties(self) -> Ties:
        """Made when they are first asked for: most commits tie nothing."""
        if self._made_ties is None:
            self._made_ties = Ties(self, self._commit.rules, self._commit.checks)
        return self._made_ties

    @property
    def _counting(self) -> Counting:
        if self._made_counting is None:
            self._made_counting = Counting()
        return self._made_counting

    @property
    def _ids(self) -> Ids:
        if self._made_ids is None:
            self._made_ids = Ids(partial(number_of, self._connection))
        return self._made_ids

    def apply(self) -> list[Applied]:
        """One answer a write, in order. What is raised leaves the transaction to be rolled back."""
        if len(self._commit.writes) == 1:
            self._apply_one(self._commit.writes[0])
        else:
            self._apply_each(self._commit.writes)
        for position, table, key in self._contested:
            if self._holders(table, key) > 1:
                raise taken(table, key, position)
        if self._made_ties is not None:
            self._made_ties.hold()
        if self._made_counting is not None:
            for (counter, of), change in self._made_counting.changes.items():
                self._count(counter, of, change)
        if self._noted is not None:
            self._noted.enter()
        return self._results

    def _apply_one(self, write: Write) -> None:
        """The only write of a commit."""
        stored, checks = self._tables[id(write.table)], self._commit.checks
        if stored.table.id_fields or (checks and stored.label in checks):
            self._tie(0, write)
        self._results.append(_HANDLERS[type(write)](self, 0, write))

    def _apply_each(self, writes: Sequence[Write]) -> None:
        batches, checks = Batches(self._connection, self, self._results), self._commit.checks
        tied = [key for key, one in self._tables.items() if one.table.id_fields or (checks and one.label in checks)]
        write: Any
        for position, write in enumerate(writes):
            kind = type(write)
            if kind in _REFERRING and write.refs:
                batches.flush()
                write = self._with_ids(write)
            if tied and id(write.table) in tied:
                self._tie(position, write)
            if kind not in _STORING or not batches.take(position, write):
                batches.flush()
                self._results.append(_HANDLERS[kind](self, position, write))
        batches.flush()

    def _tie(self, position: int, write: Write) -> None:
        """Check the ids of a write, and note what they have to lead to."""
        fields = write.set if isinstance(write, Patch) else getattr(write, "doc", {})
        self._ids.check(write.table, fields)
        if isinstance(write, Insert | Upsert):
            self.ties.note(position, write.table, fields)

    # what its ties ask for

    def holding(self, table: Table, index: str, value: Value, *, limit: int = -1) -> list[Document]:
        """The documents whose first index field is this value."""
        stored = self.stored(table)
        span = span_of(Range(table, index, (value,)), stored.columns.get(index, ""))
        rows = self._connection.execute(
            f"{select(stored, Read(Range(table, index)), span)} LIMIT ?", (*span.parameters, limit)
        )
        return documents(rows.fetchall(), stored.vectors, stored.label)

    def discard(self, table: Table, document: Document) -> None:
        """Delete a document."""
        stored, id_ = self.stored(table), str(document["_id"])
        self.uncount(table, document)
        self.remove(stored, [id_], [(id_tick(id_) or 0,)])

    def holds(self, position: int, table: Table, id: str | None, field: str, value: Value) -> bool:
        """Whether a document is there and has this in a field: that with an id, or that which a write has stored."""
        if id is None:
            written = self._results[position]
            assert isinstance(written, Written)
            id = written.id
        row = self._find(self.stored(table), table, id)
        held = MISSING if row is None else row.fields.get(field, MISSING)
        return held is not MISSING and hashable(held) == hashable(value)

    def take_out(self, position: int, rule: Rule, document: Document) -> None:
        """Take the reference out of a document, or set it to null, as a rule says."""
        stored = self.stored(rule.table)
        row = self._find(stored, rule.table, str(document["_id"]))
        assert row is not None
        fields = {name: value for name, value in row.fields.items() if name != rule.field}
        if rule.null:
            fields[rule.field] = None
        self._claim(position, rule, fields, row.fields)
        self._store(rule.table, stored, row, fields, (rule.field,), declared=row.plain)

    def _with_ids(self, write: Insert | Upsert | Patch) -> Insert | Upsert | Patch:
        """The write with the ids of what the commit has written before it."""
        ids: dict[str, Value] = {}
        for field, place in write.refs.items():
            written = self._results[place]
            assert isinstance(written, Written)
            ids[field] = written.id
        if isinstance(write, Patch):
            return replace(write, set={**write.set, **ids})
        return replace(write, doc={**write.doc, **ids})

    def _count(self, counter: str, key: str, change: Added) -> None:
        """Keep what a commit adds to a counter: all of it in one row, as there is one writer at a time."""
        if change == Added():
            return
        stored = self.stored(COUNTERS)
        row = self._find(stored, COUNTERS, Key("by_counter", (counter, key, 0.0)))
        if row is not None:
            documents = int(row.fields["count"]) + change.documents
            change = Added(documents, Sum.of_text(row.fields["sum"]).joined(change.total))
        count, text = float(change.documents), change.total.text()
        document = {"counter": counter, "key": key, "shard": 0.0, "count": count, "sum": text}
        if row is None:
            self._add(COUNTERS, stored, document)
        elif change == Added():
            self.remove(stored, [row.id], [(row.tick,)])
        else:
            self._store(COUNTERS, stored, row, document)

    # keys that are to be one document's own

    def _claim(
        self,
        position: int,
        write: Insert | Upsert | Patch | Replace | Rule,
        document: Document,
        before: Document | None = None,
    ) -> None:
        """Note what is to hold of the keys that a write gives to a document, before it is stored.

        A key that nobody holds at that moment is the document's own: whoever takes it later in this commit finds it held.
        One that is held, maybe by a document that is to give it up, is looked at again after all writes.
        """
        for key, given in claimed(write.table, write.unique, document, before):
            if self._holders(write.table, key):
                if given and before is None:
                    raise taken(write.table, key, position)
                self.contest(position, write.table, key)

    def _holders(self, table: Table, key: Key) -> int:
        """How many documents hold a key: 0, 1, or 2 for more."""
        stored = self.stored(table)
        span = span_of(Range(table, key.index, key.key), stored.columns.get(key.index, ""))
        rows = self._connection.execute(f"SELECT 1 FROM {stored.name} WHERE {span.where} LIMIT 2", span.parameters)
        return len(rows.fetchall())

    # what batches and deletions of ranges ask for

    def contest(self, position: int, table: Table, key: Key) -> None:
        """Look again, after all writes, whether this key is one document's own."""
        self._contested.append((position, table, key))

    def changing(self, stored: StoredTable, ticks: Sequence[int]) -> None:
        """The rows of these ticks, those that are there, are about to be written."""
        if self._noted is not None:
            self._noted.changing(stored, ticks)

    def uncount(self, table: Table, document: Document) -> None:
        """Counters count a document no more."""
        if table.counters:
            self._counting.remove(table, document)

    def remove(self, stored: StoredTable, ids: Sequence[str], ticks: Sequence[tuple[int]]) -> None:
        """Delete documents by their ids and ticks."""
        if self._noted is not None:
            self._noted.changing(stored, [tick for (tick,) in ticks])
        self._connection.executemany(stored.delete, ticks)
        if stored.counts_changes:
            note_deletions(self._connection, stored, self.change(stored), ids)

    def put_texts(
        self, stored: StoredTable, documents: Iterable[tuple[int, Document]], changed: Collection[str] | None = None
    ) -> None:
        """Keep the words of documents by their ticks, where a change of these fields concerns them."""
        some = list(documents)
        for text in stored.texts.values():
            if text.concerns(changed):
                text.put(self._connection, some)

    def _last(self, stored: StoredTable) -> int:
        """The tick that the next document of a table is to be later than."""
        last = self._ticks.get(stored.name)
        if last is None:
            last = self._connection.execute(stored.latest).fetchone()[0]
            last = max(last, time.time_ns() // 1000 - 1)
            if last >= _LATEST:
                raise damaged(stored.label)
        return last

    def following(self, stored: StoredTable, count: int) -> Iterator[tuple[int, str]]:
        """The ticks and the `_id`s of the next documents: later than all others of their table."""
        last = self._last(stored)
        random = os.urandom(7 * count).hex()
        number = f"{stored.number:04x}"
        for start in range(0, len(random), 14):
            last += 1
            self._ticks[stored.name] = last
            yield last, f"{last:014x}{number}{random[start : start + 14]}"

    def change(self, stored: StoredTable) -> int:
        """The number of this commit among those that changed the table, where it counts them; else 0."""
        if not stored.counts_changes:
            return 0
        if stored.name not in self._changes:
            self._changes[stored.name] = stored.count_change(self._connection)
        return self._changes[stored.name]

    # everything else

    def stored(self, table: Table) -> StoredTable:
        return self._tables[id(table)]

    def _find(self, stored: StoredTable, table: Table, at: Target) -> _Row | None:
        if isinstance(at, Key):
            rows = first_rows(self._connection, stored, Range(table, at.index, at.key), 1)
            return _found(stored, rows[0]) if rows else None
        tick = id_tick(at)
        if tick is None:
            return None
        return _found(stored, self._connection.execute(stored.by_id, (tick, at)).fetchone())

    def _expected(self, position: int, write: Patch | Replace | Delete) -> tuple[StoredTable, _Row | None]:
        """The document a write is about, as it expects it; None where it is gone and that is fine."""
        stored = self._tables[id(write.table)]
        row = self._find(stored, write.table, write.at)
        if row is None:
            if write.missing == "skip":
                return stored, None
            raise StaleDataError(table=write.table.name, reason="missing", write=position)
        if write.expect:
            changed = _changed(row, write.expect)
            if changed:
                raise StaleDataError(table=write.table.name, reason="changed", write=position, fields=changed)
        return stored, row

    def _store(
        self,
        table: Table,
        stored: StoredTable,
        row: _Row,
        fields: Document,
        changed: Collection[str] | None = None,
        *,
        declared: bool = True,
    ) -> None:
        """Give a row another document, of which only the fields `changed` differ from what it held, if these are given."""
        if table.counters:
            self._counting.remove(table, row.fields)
            self._counting.add(table, fields)
        places: Sequence[int] | None = None
        keys: Sequence[bytes] = ()
        if changed is None:
            keys = stored.keys(fields)
        elif places := stored.keyed_by(changed):
            all_keys = stored.keys(fields)
            keys = [all_keys[place] for place in places]
        values = stored.row(fields, keys, self.change(stored) if stored.vectors else 0, declared=declared)
        if self._noted is not None:
            self._noted.changing(stored, [row.tick])
        self._connection.execute(stored.update(places), (*values, row.tick))
        if stored.texts:
            self.put_texts(stored, [(row.tick, fields)], changed)

    def insert(self, position: int, write: Insert) -> Applied:
        stored = self.stored(write.table)
        keys = stored.keys(write.doc)
        for one in write.unique:
            if one.key is not None or one.index not in stored.places:
                self._claim(position, write, write.doc)
                break
            own = _own_key(stored, one.index, keys)
            if own is not None and self._connection.execute(stored.holder(own[0]), (own[1],)).fetchone():
                self._claim(position, write, write.doc)
                break
        return self._add(write.table, stored, write.doc, keys)

    def upsert(self, position: int, write: Upsert) -> Applied:
        stored = self.stored(write.table)
        row = self._find(stored, write.table, write.at)
        if row is None:
            self._claim(position, write, write.doc)
            return self._add(write.table, stored, write.doc)
        identity = {name: row.fields[name] for name in write.identity if name in row.fields}
        kept = {name: row.fields[name] for name in write.keep if name in row.fields}
        kept.update(greater_stored(row.fields, write.doc, write.greatest))
        kept.update(identity)
        document = {**write.doc, **kept}
        if kept:
            write.table.check_size(document)
        self._claim(position, write, document, row.fields)
        self._store(write.table, stored, row, document, declared=not kept or row.plain)
        return Written(row.id, time_of(row.tick), False, identity)

    def _add(self, table: Table, stored: StoredTable, document: Document, keys: Sequence[bytes] | None = None) -> Written:
        if table.counters:
            self._counting.add(table, document)
        self._ticks[stored.name] = tick = self._last(stored) + 1
        id_ = f"{tick:014x}{stored.number:04x}{os.urandom(7).hex()}"
        values = stored.row(
            document, stored.keys(document) if keys is None else keys, self.change(stored) if stored.vectors else 0
        )
        self._connection.execute(stored.insert, (tick, id_, *values))
        if self._noted is not None:
            self._noted.inserted(stored, [tick])
        if stored.texts:
            self.put_texts(stored, [(tick, document)])
        return Written(id_, time_of(tick))

    def patch(self, position: int, write: Patch) -> Applied:
        stored, row = self._expected(position, write)
        if row is None:
            return False
        if write.where is not None:
            matches = self.matcher(Range(write.table, "by_id"), write.where)
            if matches is not None and not matches(_whole(row)):
                return False
        fields = {**row.fields, **write.set}
        if write.greatest:
            fields.update(greater_stored(row.fields, write.set, write.greatest))
        for name in write.unset:
            fields.pop(name, None)
        given = write.set
        if write.compute:
            given = {**given, **self._compute(write, row, fields)}
            self._ids.check(write.table, given)
        if stored.vectors or not row.stays_small(given):
            write.table.check_size(fields)
        if self._commit.checks:
            self.ties.note(position, write.table, given, row.id)
        if write.unique:
            self._claim(position, write, fields, row.fields)
        self._store(write.table, stored, row, fields, {*write.set, *write.unset, *write.compute}, declared=row.plain)
        return True

    def _compute(self, write: Patch, row: _Row, fields: dict[str, Value]) -> Document:
        """Put what is to be computed of a row into its fields, and say what that was."""
        given: dict[str, Value] = {}
        for name, value in computed(write.compute, _whole(row), time.time(), write.table.name).items():
            if value is MISSING:
                write.table.check_unset(name)
                fields.pop(name, None)
            else:
                write.table.check_field(name, value)
                fields[name] = given[name] = value
        return given

    def replace(self, position: int, write: Replace) -> Applied:
        stored, row = self._expected(position, write)
        if row is None:
            return False
        self.ties.note(position, write.table, write.doc, row.id)
        self._claim(position, write, write.doc, row.fields)
        self._store(write.table, stored, row, write.doc)
        return True

    def delete(self, position: int, write: Delete) -> Applied:
        ties = self.ties
        if isinstance(write.at, str) and ties.has_removed(write.at):
            return DeletedRange(1, False) if write.tells else True
        stored, row = self._expected(position, write)
        if row is None:
            return False
        if write.tells or ties.rules_of(write.table):
            done = ties.done
            ties.remove(position, write.table, {**row.fields, "_id": row.id})
            return DeletedRange(1, False, ties.gone(done)) if write.tells else True
        self.uncount(write.table, row.fields)
        self.remove(stored, [row.id], [(row.tick,)])
        return True

    def delete_range(self, position: int, write: DeleteRange) -> Applied:
        if self._made_removals is None:
            self._made_removals = Removals(self._connection, self)
        return self._made_removals.delete(position, write)

    def recount(self, position: int, write: Recount) -> Applied:
        """All of it in one step: there is one writer at a time."""
        stored, counting, documents = self.stored(write.table), Counting(), 0
        span = span_of(Range(write.table, "by_creation_time"), "")
        cursor = self._connection.stream(
            select(stored, Read(Range(write.table, "by_creation_time")), span), span.parameters
        )
        for document in stream(cursor, stored.vectors, stored.label):
            counting.add(write.table, document)
            documents += 1
        cursor.close()
        kept = self.stored(COUNTERS)
        for counter in write.table.counters:
            old = span_of(
                Range(COUNTERS, "by_counter", (counter_id(write.table.name, counter.name),)), kept.columns["by_counter"]
            )
            self._connection.execute(f"DELETE FROM {kept.name} WHERE {old.where}", old.parameters)
        for (counter_name, key), change in counting.changes.items():
            self._count(counter_name, key, change)
        return DeletedRange(documents, False)

    def schedule(self, position: int, write: Schedule) -> Applied:
        now = time.time() * 1_000
        due = now + write.delay if write.delay is not None else write.at
        document = new_job(write.path, write.arguments, due)
        return self._add(write.table, self.stored(write.table), document)

    def cancel(self, position: int, write: Cancel) -> Applied:
        stored = self.stored(write.table)
        row = self._find(stored, write.table, write.id)
        if row is None or row.fields["state"] != PENDING:
            return False
        self._store(write.table, stored, row, {**row.fields, "state": CANCELED, "completedTime": time.time() * 1_000})
        return True

    def matcher(self, range_: Range, condition: Condition | None) -> Predicate | None:
        """What tells which documents of a range fulfil a condition, which may speak of others; None for all."""
        if condition is None:
            return None
        read = Read(range_, filter=condition)
        read = looking(self._connection, lambda edge: self._tables.get(id(edge.range.table)), read)
        assert read.filter is not None
        return compile_filter(read.filter)


def _own_key(stored: StoredTable, index: str, keys: Sequence[bytes]) -> tuple[str, bytes] | None:
    """The column and the bytes of the key that a document has itself, whose keys are `keys`; None where it lacks all of the
    fields.
    """
    place = stored.places.get(index)
    if place is None or keys[place] == stored.lacking[place]:
        return None
    return stored.columns[index], keys[place]


_HANDLERS: dict[type, Callable[[Transaction, int, Any], Applied]] = {
    Insert: Transaction.insert,
    Upsert: Transaction.upsert,
    Patch: Transaction.patch,
    Replace: Transaction.replace,
    Delete: Transaction.delete,
    DeleteRange: Transaction.delete_range,
    Recount: Transaction.recount,
    Schedule: Transaction.schedule,
    Cancel: Transaction.cancel,
}


def _changed(row: _Row, expect: Expect) -> list[str]:
    """The names of the fields that are not what a write expects, in alphabetical order."""
    held = row.fields
    changed: list[str] = []
    for name, expected in expect.items():
        value = held.get(name, MISSING)
        if type(value) is str and type(expected) is str:  # the commonest
            if value != expected:
                changed.append(name)
        elif not meets(value, expected):
            changed.append(name)
    return sorted(changed)
