"""`LargeValuesPort`: a port whose documents may be larger than Convex has them, for one session.

What does not fit goes into a file before the commit that names it, and the file whose name a commit takes away is deleted
after it. So no document names a file that is not there; a kill, and a commit whose answer is lost, may leave a file that
nothing names, which `sweeping` removes. Whoever reads the name of a file that is gone asks again: the document has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs
from msgspec.structs import replace

from convexorm.conditions import Condition
from convexorm.deployments import Port
from convexorm.deployments.reader import Reader
from convexorm.errors import ConvexORMError, DeploymentError, InvalidRequestError, NoResultFound, ValidationError
from convexorm.files import AsyncFiles
from convexorm.requests import (
    Applied,
    Commit,
    Delete,
    DeleteRange,
    Document,
    Insert,
    Key,
    Patch,
    Range,
    Read,
    ReadResult,
    Replace,
    Search,
    Upsert,
    Write,
    Written,
)
from convexorm.schema import Table
from convexorm.values import Value
from mastra_convex.large_values.references import (
    COLUMNS,
    LARGE,
    Owner,
    beside_of,
    body_of,
    file_of,
    key_of,
    named_in,
    placeholder,
    restored,
)
from mastra_convex.large_values.sweeping import marked, unnamed

__all__ = ["LargeValuesPort"]

_log = logging.getLogger("mastra_convex")
_ATTEMPTS = 5
"""How often a read is asked whose files are gone."""


@attrs.define
class _Sent:
    """A commit as it is sent, the files whose names it takes away, those stored for it, and what stands in their place."""

    commit: Commit
    left: dict[str, Owner] = attrs.field(factory=dict)
    stored: dict[str, Owner] = attrs.field(factory=dict)
    shown: dict[Owner, tuple[str, str]] = attrs.field(factory=dict)
    attempts: int = 0


class _Gone(Exception):
    """A document names a file that is not there."""


class LargeValuesPort:
    """One face of a deployment, for one session. `own` are the tables' own names, by those the deployment knows."""

    takes_any_size = True

    def __init__(self, port: Port, files: Callable[[], AsyncFiles], names: Mapping[str, str]) -> None:
        self._port = port
        self._files = files
        self._own = {name: own for own in COLUMNS for name in [names.get(own, own)]}
        self._shown: dict[Owner, tuple[str, str]] = {}
        """The values that came from files, or went there, and what stands in their place."""
        self._keys: dict[tuple[str, str], tuple[str, ...]] = {}
        """The primary keys of documents, by table and `_id`."""
        self._sent: dict[str, _Sent] = {}
        self._ranges: list[tuple[Range, Condition | None, dict[str, Owner]]] = []
        """What was looked through because it is deleted, in several steps perhaps, and the files that are left of it."""

    # -- reading ---------------------------------------------------------------------------------------------------

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        for left in reversed(range(_ATTEMPTS)):
            results = await self._port.read(reads)
            with suppress(_Gone):
                pairs = zip(reads, results, strict=True)
                return [await self._shown_in(read, result, last=left == 0) for read, result in pairs]
        raise AssertionError("the last attempt shows what there is")

    async def _shown_in(self, read: Read, result: ReadResult, *, last: bool) -> ReadResult:
        table = read.range.table
        columns = COLUMNS.get(self._own.get(table.name, ""))
        if columns is None or not result.docs or read.select is not None:
            return result
        return replace(result, docs=[await self._whole(table, columns, document, last) for document in result.docs])

    async def _whole(self, table: Table, columns: Mapping[str, Any], document: Document, last: bool) -> Document:
        key = key_of(self._own[table.name], document)
        if key is None:
            return document
        self._keys[table.name, str(document["_id"])] = key
        whole = dict(document)
        for field in columns:
            file = file_of(document.get(field))
            if file is None:
                continue
            owner, text = Owner(table.name, key, field), str(document[field])
            try:
                value = restored(owner, text, await self._files().download(file))
            except (NoResultFound, ValidationError, InvalidRequestError):
                if not last:
                    raise _Gone from None
                # others have written a text that looks like ours, or deleted the file: it is shown as it stands
                _log.warning("a document of table %r names a file that is not there", table.name)
                continue
            if value is not None:
                self._shown[owner] = value, text
                whole[field] = value
        return whole

    # -- writing ---------------------------------------------------------------------------------------------------

    async def commit(self, commit: Commit) -> list[Applied]:
        sent = self._sent.get(commit.id) or await self._prepared(commit)
        sent.attempts += 1
        try:
            applied = await self._port.commit(sent.commit)
        except ConvexORMError as error:
            if sent.attempts == 1 and not error.lost and not isinstance(error, DeploymentError):
                await self._settled(commit.id, applied=False)
            raise  # else it, or a copy of it, may be applied, or yet be
        self._learn(sent.commit, applied)
        await self._settled(commit.id, applied=True)
        return applied

    async def withdraw(self, commit: Commit) -> list[Applied] | None:
        sent = self._sent.get(commit.id)
        if sent is None:
            return None  # it has never left
        applied = await self._port.withdraw(sent.commit)
        if applied is not None:
            self._learn(sent.commit, applied)
        await self._settled(commit.id, applied=applied is not None)
        return applied

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        return await self._port.search(search)

    async def pause(self, seconds: float) -> None:
        await self._port.pause(seconds)

    async def _prepared(self, commit: Commit) -> _Sent:
        """The commit as it is to be sent, its files stored; it is known until it is settled."""
        sent = _Sent(commit)
        if any(isinstance(write, _CHANGING) and write.table.name in self._own for write in commit.writes):
            sent.left = await self._named_by(commit.writes)
            try:
                sent.commit = replace(commit, writes=[await self._moved(write, sent) for write in commit.writes])
            except ConvexORMError:
                await self._delete(sent.stored)
                raise
        self._sent[commit.id] = sent
        return sent

    async def _moved(self, write: Write, sent: _Sent) -> Write:
        """A write whose large values are in files, and which expects what stands in the place of those it knows."""
        if not isinstance(write, _CHANGING) or write.table.name not in self._own or isinstance(write, DeleteRange):
            return write
        own = self._own[write.table.name]
        if isinstance(write, Insert | Upsert):
            key = key_of(own, write.doc)
            return replace(write, doc=await self._fields(write.table.name, key, write.doc, sent))
        key = self._key_at(write)
        expect = {field: self._place_of(write.table.name, key, field, value) for field, value in write.expect.items()}
        if isinstance(write, Delete):
            return replace(write, expect=expect)
        if isinstance(write, Replace):
            return replace(write, doc=await self._fields(write.table.name, key, write.doc, sent), expect=expect)
        return replace(write, set=await self._fields(write.table.name, key, write.set, sent), expect=expect)

    async def _fields(
        self, table: str, key: tuple[str, ...] | None, fields: Mapping[str, Value], sent: _Sent
    ) -> Mapping[str, Value]:
        columns = COLUMNS[self._own[table]]
        sizes = {field: len(value.encode()) for field in columns if isinstance(value := fields.get(field), str)}
        left = sum(sizes.values())
        moved: dict[str, Value] = {}
        for field, size in sorted(sizes.items(), key=lambda one: -one[1]):
            text = str(fields[field])
            if key is None or (left <= LARGE and file_of(text) is None):
                continue
            owner, beside = Owner(table, key, field), beside_of(columns[field], text)
            if owner.content_type is None or beside is None:
                continue  # it stays where it is, and is refused if it cannot
            left -= size
            file = await self._files().upload(body_of(owner, text), owner.content_type)
            sent.stored[file] = owner
            moved[field] = place = placeholder(beside, text, file)
            sent.shown[owner] = text, place
        return {**fields, **moved} if moved else fields

    def _place_of(self, table: str, key: tuple[str, ...] | None, field: str, value: Any) -> Any:
        """What a field is expected to hold: what stands in the place of a value that came from a file."""
        shown = None if key is None else self._shown.get(Owner(table, key, field))
        return shown[1] if shown is not None and shown[0] == value else value

    def _key_at(self, write: Patch | Replace | Delete) -> tuple[str, ...] | None:
        """The primary key of the document that a write is about."""
        if isinstance(write.at, Key):
            key = tuple(one for one in write.at.key if isinstance(one, str))
            return key if len(key) == len(write.at.key) else None
        return self._keys.get((write.table.name, write.at))

    async def _named_by(self, writes: Sequence[Write]) -> dict[str, Owner]:
        """The files that documents name which these writes change or delete."""
        found: dict[str, Owner] = {}
        for write in writes:
            if isinstance(write, DeleteRange) and write.table.name in self._own:
                found.update(await self._named_in_range(write))
        reads = [read for write in writes for read in self._reads(write)]
        results = await Reader(self._port).run(reads) if reads else []
        for read, result in zip(reads, results, strict=True):
            table = read.range.table.name
            for document in result.docs:
                found.update(named_in(table, self._own[table], document))
        return found

    async def _named_in_range(self, write: DeleteRange) -> dict[str, Owner]:
        for range_, condition, left in self._ranges:
            if range_ == write.range and condition == write.filter:
                return left
        table = write.table.name
        result = await Reader(self._port).one(marked(write.range, self._own[table], write.filter))
        found: dict[str, Owner] = {}
        for document in result.docs:
            found.update(named_in(table, self._own[table], document))
        self._ranges.append((write.range, write.filter, found))
        return found

    def _reads(self, write: Write) -> Iterator[Read]:
        if not isinstance(write, _CHANGING) or write.table.name not in self._own or isinstance(write, _UNASKED):
            return
        own = self._own[write.table.name]
        if isinstance(write, Patch) and not (write.set.keys() | set(write.unset)) & COLUMNS[own].keys():
            return
        if isinstance(write.at, Key):
            yield marked(Range(write.table, write.at.index, write.at.key), own)
        else:
            yield marked(Range(write.table, "by_id", (write.at,)), own)

    def _learn(self, commit: Commit, applied: Sequence[Applied]) -> None:
        """Whose ids the documents have that were written."""
        for write, one in zip(commit.writes, applied, strict=True):
            if isinstance(write, Insert | Upsert) and isinstance(one, Written) and write.table.name in self._own:
                key = key_of(self._own[write.table.name], write.doc)
                if key is not None:
                    self._keys[write.table.name, one.id] = key

    async def _settled(self, id: str, *, applied: bool) -> None:
        """Delete what a commit that was applied has left, or one that was not has stored for nothing."""
        sent = self._sent.pop(id, None)
        if sent is None:
            return
        if not applied:
            await self._delete(sent.stored)
            return
        self._shown.update(sent.shown)
        with suppress(ConvexORMError):  # what is left then is swept
            unnamed_now = await unnamed(self._port, self._own, sent.left)
            await self._delete({file: one for file, one in unnamed_now.items() if await self._is_of(file, one)})
            for _, _, left in self._ranges:
                for file in unnamed_now:
                    left.pop(file, None)

    async def _is_of(self, file: str, owner: Owner) -> bool:
        """Whether a file says itself whose it is: others may write a text that names another's."""
        try:
            return (await self._files().metadata(file)).content_type == owner.content_type
        except (NoResultFound, ValidationError, InvalidRequestError):
            return False

    async def _delete(self, files: Mapping[str, Owner]) -> None:
        for file in files:
            with suppress(ConvexORMError):
                await self._files().delete(file)


_CHANGING = (Insert, Upsert, Patch, Replace, Delete, DeleteRange)
_UNASKED = (Insert, DeleteRange)
"""Writes that take no name away, or whose range is looked through."""
