"""`Trees`: a document with all that its deletion takes along, however much that is, in as many commits as it takes.

Children go first, so that what is left at any moment still hangs together, and to begin again is to go on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import attrs
from msgspec.structs import replace

from convexorm.deployments.filters import compile_filter
from convexorm.deployments.reader import Reader
from convexorm.errors import FunctionFailed, LimitExceeded, StaleDataError
from convexorm.given import a_callback
from convexorm.requests import (
    MAX_DELETED_BY_RANGE,
    Delete,
    DeletedRange,
    DeleteRange,
    Document,
    Gone,
    Patch,
    Range,
    Read,
    Rule,
    Write,
    index_key,
)
from convexorm.schema import Table
from convexorm.sessions.compiler import Compiler
from convexorm.sessions.identities import IdentityMap
from convexorm.sessions.results import Progress
from convexorm.sessions.writer import Writer, less

__all__ = ["Trees"]

_BATCH = 100
"""Documents that are emptied and deleted together."""


@attrs.define
class Trees:
    """Deletes through one writer."""

    writer: Writer
    compiler: Compiler
    reader: Reader
    identities: IdentityMap

    async def delete(self, table: Table, root: Document, on_progress: Callable[[Progress], object] | None) -> int:
        """How many documents were deleted, which the session's instances of them are told."""
        if on_progress is not None:
            a_callback(on_progress, "on_progress")
        felling = _Felling(self, on_progress)
        if felling.plant(table):
            await felling.walk(table, root)
            felling.waiting, felling.looks = set(), False
        await felling.walk(table, root)
        return felling.done


@attrs.define
class _Felling:
    """One deletion under way. `waiting` are the ids of those that are deleted once what refers to them is; while it only
    `looks` whether something forbids it, nothing is deleted.
    """

    trees: Trees
    on_progress: Callable[[Progress], object] | None
    done: int = 0
    waiting: set[str] = attrs.field(factory=set)
    looks: bool = False
    _parents: dict[str, list[tuple[Table, Rule]]] = attrs.field(factory=dict)
    """By the names of tables, the rules by which documents of them go along, and with those of which tables."""

    def plant(self, table: Table) -> bool:
        """Find out what may go along with a document, and whether something may forbid that, so that it is to be looked."""
        tables = [table]
        for parent in tables:
            for rule in self.trees.compiler.rules(parent):
                self.looks = self.looks or rule.action == "restrict"
                if rule.action == "cascade":
                    if rule.table.name not in {one.name for one in tables}:
                        tables.append(rule.table)
                    self._parents.setdefault(rule.table.name, []).append((parent, rule))
        return self.looks

    async def walk(self, table: Table, root: Document) -> None:
        """Delete a document, what refers to it first."""
        path = [(table, [root], self._first(table, [root]))]
        while path:
            table, documents, before = path[-1]
            found = await anext(before, None)
            if found is not None:
                path.append((*found, self._first(*found)))
                continue
            path.pop()
            if not self.looks:
                gone = await self._commit([Delete(table, str(one["_id"]), missing="skip") for one in documents])
                self._tell(sum(map(bool, gone)))

    async def _first(self, table: Table, documents: Sequence[Document]) -> AsyncIterator[tuple[Table, list[Document]]]:
        """Do what has to be done before documents are deleted, and say which others are to be deleted before them."""
        self.waiting |= {str(document["_id"]) for document in documents}
        rules = self.trees.compiler.rules(table)
        async for found in self._forbidding(table, rules, documents):
            yield found
        for rule in rules:
            if rule.action == "nullify" and not self.looks:
                await self._nullify(rule, documents)
            elif rule.action == "cascade" and not self.trees.compiler.rules(rule.table):
                if not self.looks:
                    await self._clear(rule, documents)
            elif rule.action == "cascade":
                for document in documents:
                    async for some in self._referring(rule, document):
                        others = [one for one in some if one["_id"] not in self.waiting]
                        if others:
                            yield rule.table, others

    async def _forbidding(
        self, table: Table, rules: Sequence[Rule], documents: Sequence[Document]
    ) -> AsyncIterator[tuple[Table, list[Document]]]:
        """What forbids to delete documents, but goes along as well, to be deleted before them.

        Raises StaleDataError where something forbids it that does not go along.
        """
        first: list[tuple[Table, list[Document]]] = []
        for rule in rules:
            for document in documents if rule.action == "restrict" else ():
                async for some in self._referring(rule, document):
                    for one in some:
                        if not await self._goes_along(rule.table, one, set()):
                            raise StaleDataError(table=table.name, reason="exists", relation=rule.relation)
                    first.append((rule.table, some))
        for referring, some in first:
            others = [one for one in some if one["_id"] not in self.waiting]
            if others:
                yield referring, others

    async def _goes_along(self, table: Table, document: Document, seen: set[str]) -> bool:
        """Whether a document is to be deleted, too: because another one is that it refers to, at any remove."""
        if document["_id"] in self.waiting:
            return True
        seen.add(str(document["_id"]))
        for parent, rule in self._parents.get(table.name, ()):
            key = document.get(rule.field)
            index = "by_id" if rule.key == "_id" else next(one.name for one in parent.indexes if one.fields[0] == rule.key)
            found = () if key is None else (await self.trees.reader.one(Read(Range(parent, index, (key,))))).docs
            for one in found:
                if not _is_about(rule, one) or (rule.filter is not None and not compile_filter(rule.filter)(document)):
                    continue
                if one["_id"] not in seen and await self._goes_along(parent, one, seen):
                    return True
        return False

    async def _nullify(self, rule: Rule, documents: Sequence[Document]) -> None:
        for document in documents:
            async for some in self._referring(rule, document):
                unset = () if rule.null else (rule.field,)
                set_ = {rule.field: None} if rule.null else {}
                expect = {rule.field: document[rule.key]}
                await self._commit(
                    [
                        Patch(rule.table, str(one["_id"]), set_, unset, expect, missing="skip", unique=rule.unique)
                        for one in some
                    ]
                )

    async def _clear(self, rule: Rule, documents: Sequence[Document]) -> None:
        """Delete what nothing refers to, by ranges."""
        left = [_read(rule, document).range for document in documents if _is_about(rule, document)]
        most = MAX_DELETED_BY_RANGE
        while left:
            try:
                results = await self._commit([DeleteRange(range_, rule.filter, most) for range_ in left])
            except (LimitExceeded, FunctionFailed) as error:
                most = less(most, error)
                continue
            deleted = [one for one in results if isinstance(one, DeletedRange)]
            self._tell(sum(one.deleted for one in deleted))
            left = [range_ for range_, one in zip(left, deleted, strict=True) if one.more]

    async def _referring(self, rule: Rule, document: Document) -> AsyncIterator[list[Document]]:
        """The documents that refer to one, some at a time."""
        if not _is_about(rule, document):
            return
        read = replace(_read(rule, document), limit=_BATCH, peek=True)
        while True:
            result = await self.trees.reader.one(read)
            if result.docs:
                yield list(result.docs)
            if not result.more:
                return
            read = replace(read, after=index_key(result.docs[-1], read.range))

    async def _commit(self, writes: Sequence[Write]) -> Sequence[object]:
        trees = self.trees
        results = await trees.writer.commit(trees.compiler.commit(writes, trees.identities.tables))
        gone: list[Gone] = []
        for write, applied in zip(writes, results, strict=True):
            if isinstance(applied, DeletedRange):
                gone += applied.gone
            elif applied and isinstance(write, Delete | Patch):
                fields = [None] if isinstance(write, Delete) else [*write.set, *write.unset]
                gone += [Gone(write.table.name, field, (str(write.at),)) for field in fields]
        trees.identities.told(gone)
        return results

    def _tell(self, deleted: int) -> None:
        self.done += deleted
        if deleted and self.on_progress is not None:
            self.on_progress(Progress(self.done))


def _read(rule: Rule, document: Document) -> Read:
    """The read of what refers to a document."""
    return Read(Range(rule.table, rule.index, (document[rule.key],)), filter=rule.filter)


def _is_about(rule: Rule, document: Document) -> bool:
    """Whether a rule says something of a document that is deleted."""
    return document.get(rule.key) is not None and (rule.where is None or compile_filter(rule.where)(document))
