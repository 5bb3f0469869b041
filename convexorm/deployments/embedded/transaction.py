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
from convexorm.counters import Change, Counting, counter_id
from convexorm.data import Data
from convexorm.deployments.embedded.changes import note_deletions
from convexorm.deployments.embedded.connections import Connection
from convexorm.deployments.embedded.damage import damaged
from convexorm.deployments.embedded.following import looking
from convexorm.deployments.embedded.jobs import CANCELED, PENDING, new_job
from convexorm.deployments.embedded.keys import id_tick, span_of, time_of
from convexorm.deployments.embedded.reads import first_rows, select
from convexorm.deployments.embedded.rows import documents, stream
from convexorm.deployments.embedded.tables import StoredTable, number_of
from convexorm.deployments.embedded.ties import Ids, Ties
from convexorm.deployments.embedded.written import Written as Noted
from convexorm.deployments.filters import Predicate, compile_filter
from convexorm.errors import LimitExceeded, StaleDataError
from convexorm.requests import (
    DELETED_BY_RANGE,
    MAX_DELETED_BY_RANGE,
    Applied,
    Cancel,
    Commit,
    Delete,
    DeletedRange,
    DeleteRange,
    Document,
    Expect,
    Gone,
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
from convexorm.values import MAX_DOCUMENT_SIZE, MISSING, Value, canonical, hashable, size_of

__all__ = ["Transaction"]

_LATEST = 1 << 55
"""A tick of the year 3111; an `_id` holds no greater one than twice that."""
_CHUNK = 500
"""Parameters of one statement; SQLite allows 32,766."""
_MAX_RANGED = 16_000
"""Documents one commit reads to delete by ranges."""
_MAX_RANGED_BYTES = 6 << 20
"""Bytes of documents one commit reads to delete by ranges."""


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


class _Batch:
    """Inserts and upserts into one table that are not written yet, with their keys, and each with the bytes of the key that
    it is about; all of those are of the same column.
    """

    __slots__ = ("column", "keys", "positions", "stored", "unique", "writes")

    def __init__(self, stored: StoredTable) -> None:
        self.stored = stored
        self.column: str | None = None
        self.positions: list[int] = []
        self.writes: list[Insert | Upsert] = []
        self.keys: list[Sequence[bytes]] = []
        self.unique: list[bytes | None] = []


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
    _batch: _Batch | None = None
    _contested: list[tuple[int, Table, Key]] = []
    _results: list[Applied] = []
    _made_counting: Counting | None = None
    _deleted: int = 0
    _ranged: int = 0
    _ranged_bytes: int = 0

    @property
    def _ties(self) -> Ties:
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
        checks = self._commit.checks
        tied = [key for key, one in self._tables.items() if one.table.id_fields or (checks and one.label in checks)]
        write: Any
        for position, write in enumerate(writes):
            kind = type(write)
            if kind in _REFERRING and write.refs:
                self._flush()
                write = self._with_ids(write)
            if tied and id(write.table) in tied:
                self._tie(position, write)
            if kind not in _STORING or not self._gathered(position, write):
                if self._batch is not None:
                    self._flush()
                self._results.append(_HANDLERS[kind](self, position, write))
        if self._batch is not None:
            self._flush()

    def _tie(self, position: int, write: Write) -> None:
        """Check the ids of a write, and note what they have to lead to."""
        fields = write.set if isinstance(write, Patch) else getattr(write, "doc", {})
        self._ids.check(write.table, fields)
        if isinstance(write, Insert | Upsert):
            self._ties.note(position, write.table, fields)

    # what its ties ask for

    def holding(self, table: Table, index: str, value: Value, *, limit: int = -1) -> list[Document]:
        """The documents whose first index field is this value."""
        stored = self._stored(table)
        span = span_of(Range(table, index, (value,)), stored.columns.get(index, ""))
        rows = self._connection.execute(
            f"{select(stored, Read(Range(table, index)), span)} LIMIT ?", (*span.parameters, limit)
        )
        return documents(rows.fetchall(), stored.vectors, stored.label)

    def discard(self, table: Table, document: Document) -> None:
        """Delete a document."""
        stored, id_ = self._stored(table), str(document["_id"])
        self._counting.remove(table, document)
        self._delete(stored, [(id_tick(id_) or 0,)])
        self._gone(stored, [id_])

    def holds(self, position: int, table: Table, id: str | None, field: str, value: Value) -> bool:
        """Whether a document is there and has this in a field: that with an id, or that which a write has stored."""
        if id is None:
            written = self._results[position]
            assert isinstance(written, Written)
            id = written.id
        row = self._find(self._stored(table), table, id)
        held = MISSING if row is None else row.fields.get(field, MISSING)
        return held is not MISSING and hashable(held) == hashable(value)

    def take_out(self, position: int, rule: Rule, document: Document) -> None:
        """Take the reference out of a document, or set it to null, as a rule says."""
        stored = self._stored(rule.table)
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

    def _count(self, counter: str, key: str, change: Change) -> None:
        """Keep what a commit adds to a counter: all of it in one row, as there is one writer at a time."""
        if change == Change():
            return
        stored = self._stored(COUNTERS)
        row = self._find(stored, COUNTERS, Key("by_counter", (counter, key, 0.0)))
        if row is not None:
            documents = int(row.fields["count"]) + change.documents
            change = Change(documents, Sum.of_text(row.fields["sum"]).joined(change.total))
        count, text = float(change.documents), change.total.text()
        document = {"counter": counter, "key": key, "shard": 0.0, "count": count, "sum": text}
        if row is None:
            self._add(COUNTERS, stored, document)
        elif change == Change():
            self._delete(stored, [(row.tick,)])
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
                self._contested.append((position, write.table, key))

    def _holders(self, table: Table, key: Key) -> int:
        """How many documents hold a key: 0, 1, or 2 for more."""
        stored = self._stored(table)
        span = span_of(Range(table, key.index, key.key), stored.columns.get(key.index, ""))
        rows = self._connection.execute(f"SELECT 1 FROM {stored.name} WHERE {span.where} LIMIT 2", span.parameters)
        return len(rows.fetchall())

    # inserts and upserts, many at a time

    def _gathered(self, position: int, write: Insert | Upsert) -> bool:
        """Whether the write waits for others like it: they are all about one table, and name whole keys of one index."""
        if write.table.counters:
            return False
        stored = self._tables[id(write.table)]
        keys = stored.keys(write.doc)
        if len(write.unique) > isinstance(write, Insert):
            return False
        column = key = None
        if isinstance(write, Upsert):
            whole = _whole_key(stored, write.at, write.doc, keys)
            if whole is None or write.keep or write.greatest or write.identity:
                return False
            column, key, place = whole
            if key != keys[place]:
                return False
        elif write.unique:
            (one,) = write.unique
            at = stored.places.get(one.index)
            if one.key is not None or at is None or keys[at] == stored.lacking[at]:
                return False
            column, key = stored.columns[one.index], keys[at]
        batch = self._batch
        if batch is None or batch.stored is not stored or (column is not None and batch.column not in (None, column)):
            self._flush()
            batch = self._batch = _Batch(stored)
        batch.column = batch.column or column
        batch.positions.append(position)
        batch.writes.append(write)
        batch.keys.append(keys)
        batch.unique.append(key)
        return True

    def _flush(self) -> None:
        batch, self._batch = self._batch, None
        if batch is None:
            return
        stored, seq = batch.stored, self._change(batch.stored)
        place = None if batch.column is None else int(batch.column[1:])
        held = self._held(stored, batch.column, {key for key in batch.unique if key is not None})
        new = self._next(stored, len(batch.writes))
        inserts, updates, ticks = [], [], []
        results, row_of = self._results, stored.row
        for position, write, keys, key in zip(batch.positions, batch.writes, batch.keys, batch.unique, strict=True):
            values = row_of(write.doc, keys, seq)
            row = held.get(key) if key is not None else None
            if row is None or type(write) is Insert:
                if row is not None:
                    ((taken_key, _),) = claimed(write.table, write.unique, write.doc)
                    self._contested.append((position, write.table, taken_key))
                made = next(new)
                tick, id_ = made
                inserts.append((tick, id_, *values))
                ticks.append(tick)
                results.append(Written(id_, tick / 1000))
                if place is not None:
                    held.setdefault(keys[place], made)
            else:
                updates.append((*values, row[0]))
                ticks.append(row[0])
                self._results.append(Written(row[1], time_of(row[0]), False))
        if self._noted is not None:
            self._noted.changing(stored, ticks)  # those there are
        self._connection.executemany(stored.insert, inserts)
        if updates:
            self._connection.executemany(stored.update(), updates)
        if stored.texts:
            self._put_texts(stored, zip(ticks, (write.doc for write in batch.writes), strict=True))

    def _put_texts(
        self, stored: StoredTable, documents: Iterable[tuple[int, Document]], changed: Collection[str] | None = None
    ) -> None:
        """Keep the words of documents by their ticks, where a change of these fields concerns them."""
        some = list(documents)
        for text in stored.texts.values():
            if text.concerns(changed):
                text.put(self._connection, some)

    def _held(self, stored: StoredTable, column: str | None, keys: Collection[bytes]) -> dict[bytes, tuple[int, str]]:
        """Those of `keys` that stored documents hold, with the tick and the `_id` of the first of each."""
        held: dict[bytes, tuple[int, str]] = {}
        names = list(keys)
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            rows = self._connection.execute(
                f"SELECT {column}, tick, id FROM {stored.name} WHERE {column} IN ({marks}) ORDER BY tick", chunk
            )
            for key, tick, id_ in rows:
                if type(tick) is not int or type(id_) is not str:
                    raise damaged(stored.label)
                held.setdefault(key, (tick, id_))
        return held

    def _last(self, stored: StoredTable) -> int:
        """The tick that the next document of a table is to be later than."""
        last = self._ticks.get(stored.name)
        if last is None:
            last = self._connection.execute(stored.latest).fetchone()[0]
            last = max(last, time.time_ns() // 1000 - 1)
            if last >= _LATEST:
                raise damaged(stored.label)
        return last

    def _next(self, stored: StoredTable, count: int) -> Iterator[tuple[int, str]]:
        """The ticks and the `_id`s of the next documents: later than all others of their table."""
        last = self._last(stored)
        random = os.urandom(7 * count).hex()
        number = f"{stored.number:04x}"
        for start in range(0, len(random), 14):
            last += 1
            self._ticks[stored.name] = last
            yield last, f"{last:014x}{number}{random[start : start + 14]}"

    def _change(self, stored: StoredTable) -> int:
        """The number of this commit among those that changed the table, where it counts them; else 0."""
        if not stored.counts_changes:
            return 0
        if stored.name not in self._changes:
            self._changes[stored.name] = stored.count_change(self._connection)
        return self._changes[stored.name]

    # everything else

    @property
    def _ranges_spent(self) -> bool:
        """Whether the deleteRanges of this commit have done what they may do together."""
        return (
            self._deleted >= MAX_DELETED_BY_RANGE or self._ranged >= _MAX_RANGED or self._ranged_bytes >= _MAX_RANGED_BYTES
        )

    def _stored(self, table: Table) -> StoredTable:
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
        values = stored.row(fields, keys, self._change(stored) if stored.vectors else 0, declared=declared)
        if self._noted is not None:
            self._noted.changing(stored, [row.tick])
        self._connection.execute(stored.update(places), (*values, row.tick))
        if stored.texts:
            self._put_texts(stored, [(row.tick, fields)], changed)

    def insert(self, position: int, write: Insert) -> Applied:
        stored = self._stored(write.table)
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
        stored = self._stored(write.table)
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
            document, stored.keys(document) if keys is None else keys, self._change(stored) if stored.vectors else 0
        )
        self._connection.execute(stored.insert, (tick, id_, *values))
        if self._noted is not None:
            self._noted.inserted(stored, [tick])
        if stored.texts:
            self._put_texts(stored, [(tick, document)])
        return Written(id_, time_of(tick))

    def patch(self, position: int, write: Patch) -> Applied:
        stored, row = self._expected(position, write)
        if row is None:
            return False
        if write.where is not None:
            matches = self._matcher(Range(write.table, "by_id"), write.where)
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
            self._ties.note(position, write.table, given, row.id)
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
        self._ties.note(position, write.table, write.doc, row.id)
        self._claim(position, write, write.doc, row.fields)
        self._store(write.table, stored, row, write.doc)
        return True

    def delete(self, position: int, write: Delete) -> Applied:
        ties = self._ties
        if isinstance(write.at, str) and ties.has_removed(write.at):
            return DeletedRange(1, False) if write.tells else True
        stored, row = self._expected(position, write)
        if row is None:
            return False
        if write.tells or ties.rules_of(write.table):
            done = ties.done
            ties.remove(position, write.table, {**row.fields, "_id": row.id})
            return DeletedRange(1, False, ties.gone(done)) if write.tells else True
        self._counting.remove(write.table, row.fields)
        self._delete(stored, [(row.tick,)])
        self._gone(stored, [row.id])
        return True

    def _delete(self, stored: StoredTable, ticks: Sequence[tuple[int]]) -> None:
        if self._noted is not None:
            self._noted.changing(stored, [tick for (tick,) in ticks])
        self._connection.executemany(stored.delete, ticks)

    def _gone(self, stored: StoredTable, ids: Sequence[str]) -> None:
        """Count the deletion of documents as a change, where changes are counted."""
        if stored.counts_changes:
            note_deletions(self._connection, stored, self._change(stored), ids)

    def delete_range(self, position: int, write: DeleteRange) -> Applied:
        if self._ties.rules_of(write.table):
            return self._delete_tied(position, write)
        stored = self._stored(write.table)
        matches = self._matcher(write.range, write.filter)
        ticks: list[tuple[int]] = []
        ids: list[str] = []
        more = self._ranges_spent
        for part in () if more else write.range.parts:
            span = span_of(part, stored.columns.get(part.index, ""))
            cursor = self._connection.stream(select(stored, Read(part), span), span.parameters)
            for document in stream(cursor, stored.vectors, stored.label):
                self._ranged += 1
                self._ranged_bytes += size_of(document)
                if matches is None or matches(document):
                    tick = id_tick(document["_id"])
                    if tick is None or time_of(tick) != document["_creationTime"]:
                        raise damaged(stored.label)
                    ticks.append((tick,))
                    ids.append(document["_id"])
                    self._counting.remove(write.table, document)
                    self._deleted += 1
                more = len(ticks) == write.limit or self._ranges_spent
                if more:
                    break
            cursor.close()
            if more:
                break
        if more and write.limit is None:
            raise LimitExceeded(DELETED_BY_RANGE, maximum=MAX_DELETED_BY_RANGE, table=write.table.name)
        self._delete(stored, ticks)
        self._gone(stored, ids)
        gone = (Gone(write.table.name, None, tuple(ids)),) if write.tells and ids else ()
        return DeletedRange(len(ticks), more, gone)

    def recount(self, position: int, write: Recount) -> Applied:
        """All of it in one step: there is one writer at a time."""
        stored, counting, documents = self._stored(write.table), Counting(), 0
        span = span_of(Range(write.table, "by_creation_time"), "")
        cursor = self._connection.stream(
            select(stored, Read(Range(write.table, "by_creation_time")), span), span.parameters
        )
        for document in stream(cursor, stored.vectors, stored.label):
            counting.add(write.table, document)
            documents += 1
        cursor.close()
        kept = self._stored(COUNTERS)
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
        return self._add(write.table, self._stored(write.table), document)

    def cancel(self, position: int, write: Cancel) -> Applied:
        stored = self._stored(write.table)
        row = self._find(stored, write.table, write.id)
        if row is None or row.fields["state"] != PENDING:
            return False
        self._store(write.table, stored, row, {**row.fields, "state": CANCELED, "completedTime": time.time() * 1_000})
        return True

    def _matcher(self, range_: Range, condition: Condition | None) -> Predicate | None:
        """What tells which documents of a range fulfil a condition, which may speak of others; None for all."""
        if condition is None:
            return None
        read = Read(range_, filter=condition)
        read = looking(self._connection, lambda edge: self._tables.get(id(edge.range.table)), read)
        assert read.filter is not None
        return compile_filter(read.filter)

    def _delete_tied(self, position: int, write: DeleteRange) -> Applied:
        """The same, where deleting has consequences: one document after the other."""
        matches = self._matcher(write.range, write.filter)
        done = self._ties.done
        deleted = 0
        more = self._ranges_spent
        for document in () if more else self._ranged_documents(write):
            self._ranged += 1
            self._ranged_bytes += size_of(document)
            if matches is None or matches(document):
                removed = self._ties.remove(position, write.table, document)
                self._deleted += removed
                deleted += removed > 0
            more = deleted == write.limit or self._ranges_spent
            if more:
                break
        if more and write.limit is None:
            raise LimitExceeded(DELETED_BY_RANGE, maximum=MAX_DELETED_BY_RANGE, table=write.table.name)
        return DeletedRange(deleted, more, self._ties.gone(done) if write.tells else ())

    def _ranged_documents(self, write: DeleteRange) -> list[Document]:
        """The documents of a range, as many as one commit may look at."""
        stored = self._stored(write.table)
        found: list[Document] = []
        for part in write.range.parts:
            span = span_of(part, stored.columns.get(part.index, ""))
            rows = self._connection.execute(
                f"{select(stored, Read(part), span)} LIMIT ?", (*span.parameters, _MAX_RANGED + 1 - len(found))
            )
            found += documents(rows.fetchall(), stored.vectors, stored.label)
        return found


def _whole_key(stored: StoredTable, at: Key, document: Document, keys: Sequence[bytes]) -> tuple[str, bytes, int] | None:
    """The column, the bytes and the place of a key that names all declared fields of an index and no more.

    Often it is that of the document itself, whose keys are `keys`.
    """
    fields = stored.indexes.get(at.index, ())
    if len(at.key) != len(fields):
        return None
    place = stored.places[at.index]
    if len(fields) == 1:
        own = document.get(fields[0], MISSING) is at.key[0]
    else:
        own = all(document.get(field, MISSING) is value for field, value in zip(fields, at.key, strict=True))
    return stored.columns[at.index], keys[place] if own else b"".join(map(canonical, at.key)), place


def _own_key(stored: StoredTable, index: str, keys: Sequence[bytes]) -> tuple[str, bytes] | None:
    """The same of the key that a document has itself, whose keys are `keys`; None where it lacks all of the fields."""
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
