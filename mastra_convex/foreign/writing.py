"""Commits: their outcome is worked out here, over the documents as they are now, and then written.

Everything that can refuse a commit refuses it before the first write. What is written then is one call for each of the
handler's tables, two where records go too, more where they are many. Between reading and writing, and between two calls,
other writers may come: `docs/contract.md` says where that shows. Changes for which the handler has an operation of its own
are atomic (`operations`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import attrs

from convexorm.computed import computed
from convexorm.deployments.filters import compile_filter
from convexorm.errors import ConvexORMError, LimitExceeded, StaleDataError
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
    Gone,
    Insert,
    Key,
    Patch,
    Range,
    Read,
    Recount,
    Replace,
    Schedule,
    Target,
    Upsert,
    Write,
    Written,
    claimed,
    greater_stored,
    taken,
)
from convexorm.schema import Table
from convexorm.values import MISSING, Value, dumps, same
from mastra_convex.foreign.addresses import Address, address_of, keyed, record_of
from mastra_convex.foreign.evaluation import differing, evaluated
from mastra_convex.foreign.handler import Handler
from mastra_convex.foreign.operations import applied_at_once, insertion_of
from mastra_convex.foreign.reading import Reader
from mastra_convex.foreign.tables import DOCUMENTS, TYPED, VECTORS, typed_table

__all__ = ["Writer"]

T = TypeVar("T")

MAX_WRITTEN = 1_000
"""Records of one batchInsert, and ids of one deleteMany."""
MAX_WRITTEN_BYTES = 4 << 20
"""Bytes of one batchInsert or one deleteMany, as JSON: what the handler reads, twice where it deletes, and writes for it
stays far below Convex's 16 MiB."""


@attrs.define
class _Change:
    """A record that the commit is about: the document as it is stored, and as it is to be. None is no document."""

    table: Table
    before: Document | None
    after: Document | None
    insertion: Callable[[Handler], Awaitable[Applied]] | None = None


class Writer:
    """One commit, in the making."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._reader = Reader(handler)
        self._changes: dict[Address, _Change] = {}
        self._deleted = 0
        self._contested: list[tuple[int, Table, Key]] = []

    async def commit(self, commit: Commit) -> list[Applied]:
        """Apply the writes. Raises StaleDataError, ValidationError and LimitExceeded with nothing written."""
        if len(commit.writes) == 1:
            at_once = await applied_at_once(self._handler, self._reader, commit.writes[0])
            if at_once is not None:
                return [at_once]
        await self._reader.prefetch(_known(write) for write in commit.writes)
        results = [await _HANDLERS[type(write)](self, place, write) for place, write in enumerate(commit.writes)]
        for place, table, key in self._contested:
            if len(await self._current(Read(Range(table, key.index, key.key), limit=2))) > 1:
                raise taken(table, key, place)
        copied = _thread_with_messages(commit)
        if copied is None:
            await self._flush(self._changes)
        else:
            await self._flush_copy(*copied)
        return results

    # -- finding, with the writes before in mind -----------------------------------------------------------------

    async def _current(self, read: Read) -> Sequence[Document]:
        """The documents of a read after the writes so far."""
        documents = [
            one for one in await self._reader.candidates(read) if _address(read.range.table, one) not in self._changes
        ]
        changed = [one.after for one in self._changes.values() if one.table.name == read.range.table.name and one.after]
        return evaluated(read, [*documents, *changed]).docs

    async def _find(self, table: Table, at: Target) -> tuple[Address, Document] | None:
        address = Address.parse(at, table) if isinstance(at, str) else keyed(table, at.index, at.key)
        if address is not None:
            document = await self._at(table, address)
            return None if document is None else (address, document)
        if isinstance(at, str):
            return None
        found = await self._current(Read(Range(table, at.index, at.key), limit=1))
        address = _address(table, found[0]) if found else None
        return None if address is None else (address, found[0])

    async def _at(self, table: Table, address: Address) -> Document | None:
        if address in self._changes:
            return self._changes[address].after
        return await self._reader.load(table, address)

    async def _put(self, table: Table, address: Address, before: Document | None, after: Document | None) -> None:
        """Note what becomes of a record. Raises ValidationError for a document that the handler would refuse."""
        if after is not None:
            record_of(table, after, address.id)
            after = {**after, "_id": address.text, "_creationTime": 0.0 if before is None else before["_creationTime"]}
        change = self._changes.setdefault(address, _Change(table, before, after))
        change.after = after

    async def _claim(
        self, place: int, write: Insert | Upsert | Patch | Replace, document: Document, before: Document | None = None
    ) -> None:
        """Note which keys, that are to be the document's own, another one holds. A new one cannot have such a key, not even
        where the other is to give it up later: the handler has one record of an id. Raises StaleDataError for it.
        """
        for key, _ in claimed(write.table, write.unique, document, before):
            if await self._find(write.table, key) is not None:
                if before is None:
                    raise taken(write.table, key, place)
                self._contested.append((place, write.table, key))

    # -- the writes ----------------------------------------------------------------------------------------------

    async def insert(self, place: int, write: Insert) -> Applied:
        await self._claim(place, write, write.doc)
        added = await self._add(write.table, write.doc)
        if added is None:
            raise StaleDataError(table=write.table.name, reason="exists", write=place)
        insertion = insertion_of(write)
        if insertion is not None:
            self._changes[address_of(write.table, write.doc)].insertion = insertion
        return added

    async def upsert(self, place: int, write: Upsert) -> Applied:
        if _is_blind(write):
            address = address_of(write.table, write.doc)
            await self._put(write.table, address, None, write.doc)
            return Written(address.text, None)
        found = await self._find(write.table, write.at)
        if found is None:
            await self._claim(place, write, write.doc)
            added = await self._add(write.table, write.doc)
            if added is not None:
                return added
            found = await self._find(write.table, Key("by_record_id", (write.doc["id"],)))
            assert found is not None
        address, before = found
        kept = {name: before[name] for name in write.keep if name in before}
        kept.update(greater_stored(before, write.doc, write.greatest))
        identity = {name: before[name] for name in write.identity if name in before}
        after = {**write.doc, **kept, **identity}
        await self._claim(place, write, after, before)
        await self._put(write.table, address, before, after)
        return Written(address.text, None, False, identity)

    async def _add(self, table: Table, document: Document) -> Written | None:
        """Note a new document; None for one that another writer has added since it was looked for."""
        address = address_of(table, document)
        if table.name == "mastra_workflow_snapshots":
            held = await self._at(table, address)
            if held is not None and all(held.get(name) == document.get(name) for name in ("workflow_name", "run_id")):
                return None
            address = await self._free(table, address)
        await self._put(table, address, None, document)
        return Written(address.text, None)

    async def _free(self, table: Table, address: Address) -> Address:
        """An address that no other run has: the id of a run may be that of another, of a workflow with another name."""
        tried = address
        number = 1
        while await self._at(table, tried) is not None:
            number += 1
            tried = Address(address.scope, f"{address.id}~{number}")
        return tried

    async def patch(self, place: int, write: Patch) -> Applied:
        found = await self._expected(place, write)
        if found is None:
            return False
        address, before = found
        if write.where is not None and not compile_filter(write.where)(before):
            return False
        changed = {**before, **write.set, **greater_stored(before, write.set, write.greatest)}
        changed |= computed(write.compute, before, time.time(), write.table.name)
        after = {name: value for name, value in changed.items() if name not in write.unset and value is not MISSING}
        await self._claim(place, write, after, before)
        await self._put(write.table, address, before, after)
        return True

    async def replace(self, place: int, write: Replace) -> Applied:
        found = await self._expected(place, write)
        if found is None:
            return False
        await self._claim(place, write, write.doc, found[1])
        await self._put(write.table, *found, write.doc)
        return True

    async def delete(self, place: int, write: Delete) -> Applied:
        found = await self._expected(place, write)
        if found is None:
            return False
        await self._put(write.table, *found, None)
        return True

    async def delete_range(self, place: int, write: DeleteRange) -> Applied:
        left = MAX_DELETED_BY_RANGE - self._deleted
        limit = left if write.limit is None else min(write.limit, left)
        found = await self._current(Read(write.range, filter=write.filter))
        if write.limit is None and len(found) > limit:
            raise LimitExceeded(DELETED_BY_RANGE, maximum=MAX_DELETED_BY_RANGE, table=write.table.name)
        gone: list[str] = []
        for document in found[:limit]:
            address = _address(write.table, document)
            if address is not None:
                await self._put(write.table, address, document, None)
                gone.append(str(document["_id"]))
        self._deleted += len(gone)
        told = (Gone(write.table.name, None, gone),) if write.tells and gone else ()
        return DeletedRange(len(gone), len(gone) == limit and write.limit is not None, told)

    async def _expected(self, place: int, write: Patch | Replace | Delete) -> tuple[Address, Document] | None:
        found = await self._find(write.table, write.at)
        if found is None:
            if write.missing == "skip":
                return None
            raise StaleDataError(table=write.table.name, reason="missing", write=place)
        changed = differing(write.table, found[1], write.expect)
        if changed:
            raise StaleDataError(table=write.table.name, reason="changed", write=place, fields=changed)
        return found

    # -- writing -------------------------------------------------------------------------------------------------

    async def _flush_copy(self, place: int, thread: Insert) -> None:
        """Write messages, and then their new thread if nobody else has put messages or a thread there meanwhile.

        Of two that do so at once one at least finds the other's messages before it writes its thread. It takes back what it
        has written, and is refused.
        """
        messages = {address: one for address, one in self._changes.items() if one.table.name == _MESSAGES}
        rest = {address: one for address, one in self._changes.items() if address not in messages}
        (table,) = {one.table.name: one.table for one in messages.values()}.values()
        there = Read(Range(table, "by_thread", (thread.doc["id"],)))
        try:
            await self._flush(messages)
            now = Reader(self._handler)
            found = {_address(table, one) for one in await now.candidates(there)}
            taken = await now.load(thread.table, address_of(thread.table, thread.doc))
            if found - messages.keys() or taken is not None:
                raise StaleDataError(table=thread.table.name, reason="exists", write=place)
        except BaseException:
            with suppress(ConvexORMError):
                await self._delete(typed_table(table).name, {to.id: one.after for to, one in messages.items()})
            raise
        await self._flush(rest)

    async def _delete(self, scope: str, documents: Mapping[str, Document | None]) -> None:
        """Delete records by their ids. What they hold says how many of them go at once."""
        for ids in _chunks(documents.items(), lambda one: one[1]):
            await self._handler.call("deleteMany", scope, ids=[id for id, _ in ids])

    async def _flush(self, of: Mapping[Address, _Change]) -> None:
        scopes: dict[str, list[tuple[Address, _Change]]] = {}
        for address, change in of.items():
            scopes.setdefault(address.scope, []).append((address, change))
        for scope, changes in scopes.items():
            gone: dict[str, Document | None] = {}
            records: list[dict[str, Value]] = []
            for address, change in changes:
                if change.after is None:
                    if change.before is not None:
                        gone[address.id] = change.before
                    continue
                if change.insertion is not None:
                    await change.insertion(self._handler)
                    continue
                record = _difference(change, address)
                if record is None:
                    gone[address.id] = change.before
                    record = record_of(change.table, change.after, address.id)
                if change.before is None or change.table.name not in TYPED or len(record) > 1:
                    records.append(record)
            await self._delete(scope, gone)
            for chunk in _chunks(records, lambda record: record):
                await self._handler.call("batchInsert", scope, records=chunk)


_MESSAGES = "mastra_messages"


def _thread_with_messages(commit: Commit) -> tuple[int, Insert] | None:
    """The place of a thread that must be new, and its insertion, where the rest of the commit is its messages."""
    found: list[tuple[int, Insert]] = []
    messages = 0
    for place, write in enumerate(commit.writes):
        if isinstance(write, Insert) and write.table.name == "mastra_threads" and write.unique:
            found.append((place, write))
        elif isinstance(write, Insert) and write.table.name == _MESSAGES:
            messages += 1
        elif isinstance(write, Delete) and write.table.name == _MESSAGES:
            messages -= 1  # one that was to be the only one there, and is not to stay
        elif not isinstance(write, Patch) or write.set or write.unset:
            return None
    return found[0] if len(found) == 1 and messages > 0 else None


def _difference(change: _Change, address: Address) -> dict[str, Value] | None:
    """The id and what is to be written beside it; None where a field goes that cannot be null, so the record has to."""
    assert change.after is not None
    record = record_of(change.table, change.after, address.id)
    typed = TYPED.get(change.table.name)
    if change.before is None or typed is None:
        return record
    changed = {name: value for name, value in record.items() if not same(change.before.get(name, MISSING), value)}
    for name in change.before.keys() - record.keys():
        if name not in typed.fields or change.before[name] is None:
            continue
        if name not in typed.nullable:
            return None
        changed[name] = None
    return {**changed, "id": address.id}


def _address(table: Table, document: Document) -> Address | None:
    return Address.parse(document["_id"], table)


def _is_blind(write: Write) -> bool:
    """Whether a write needs no look at what is there: the handler replaces vectors and documents whole by itself."""
    if not isinstance(write, Upsert) or write.keep or write.greatest or write.table.name not in (VECTORS, DOCUMENTS):
        return False
    return keyed(write.table, write.at.index, write.at.key) == address_of(write.table, write.doc)


def _known(write: Write) -> tuple[Table, Address | None]:
    """The table of a write, and the address it is about where that is known without looking."""
    if isinstance(write, DeleteRange | Recount | Schedule | Cancel) or _is_blind(write):
        return write.table, None
    target: Target | None
    if isinstance(write, Insert):
        target = next((key for key, _ in claimed(write.table, write.unique, write.doc)), None)
    else:
        target = write.at
    if isinstance(target, Key):
        return write.table, keyed(write.table, target.index, target.key)
    return write.table, None if target is None else Address.parse(target, write.table)


def _chunks(items: Iterable[T], record: Callable[[T], Mapping[str, Value] | None]) -> list[list[T]]:
    """What is to be written, in as few batches as the limits allow for the records it is about."""
    chunks: list[list[T]] = []
    size = MAX_WRITTEN_BYTES
    for item in items:
        length = len(dumps(record(item)).encode(errors="replace"))
        if size + length > MAX_WRITTEN_BYTES or len(chunks[-1]) >= MAX_WRITTEN:
            chunks.append([])
            size = 0
        chunks[-1].append(item)
        size += length
    return chunks


_HANDLERS: dict[type, Callable[[Writer, int, Any], Any]] = {
    Insert: Writer.insert,
    Upsert: Writer.upsert,
    Patch: Writer.patch,
    Replace: Writer.replace,
    Delete: Writer.delete,
    DeleteRange: Writer.delete_range,
}
