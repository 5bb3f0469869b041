"""Threads: conversations, their metadata, and lists of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal

import attrs

from convexorm import AsyncSession, ConvexORMError, LimitExceeded, Query, StaleDataError
from convexorm.requests import MAX_DELETED_BY_RANGE
from mastra_convex.arguments import (
    OrderBy,
    Paging,
    ThreadFilter,
    check_id,
    check_mapping,
    check_metadata_filter,
    check_optional_id,
    check_optional_text,
    check_options,
    check_order,
    check_paging,
)
from mastra_convex.domain import AsyncDomain
from mastra_convex.entities import Message, ObservationalMemory, Thread
from mastra_convex.errors import ThreadNotFound
from mastra_convex.instants import later, now
from mastra_convex.listing import slice_of
from mastra_convex.memory.generations import generations_by_all, generations_of, hand_over, thread_key
from mastra_convex.memory.owners import expect_owner, not_theirs, own_thread
from mastra_convex.records import merged, put, record_of

__all__ = ["AsyncThreads", "ThreadPage"]

_MOVED_AT_ONCE = 3_000
"""Messages that change hands in one commit, fewer where they are large: each takes an index range of Convex's 4,096."""
_BROUGHT_BACK_AT_ONCE = 1_000
"""Messages given back in one commit: each is read by its id, and takes two of those ranges."""


@attrs.frozen
class ThreadPage:
    """Some threads of a list. `total` is None where it was not asked for, `per_page` False where all were."""

    threads: list[Thread]
    total: int | None
    page: int
    per_page: int | Literal[False]
    has_more: bool


class AsyncThreads(AsyncDomain):
    """The part of the memory contract that is about threads."""

    async def get_thread_by_id(self, *, thread_id: str, resource_id: str | None = None) -> Thread | None:
        """The thread, or None; None too where `resource_id` is given and the thread belongs to another."""
        check_id("GET_THREAD_BY_ID", "thread_id", thread_id)
        check_optional_id("GET_THREAD_BY_ID", "resource_id", resource_id)
        async with self._session() as session:
            thread = await session.get(Thread, thread_id)
        return thread if thread is None or resource_id in (None, thread.resource_id) else None

    async def save_thread(self, *, thread: Thread | Mapping[str, Any]) -> Thread:
        """Store the thread whole, in place of one with its id. Timestamps default to now, metadata to `{}`; a later
        `updated_at` that is stored stays, and what is answered is what was given.

        With `owners="strict"` an id that another resource's thread has is an InvalidArgument.
        """
        operation, moment = "SAVE_THREAD", now()
        record = record_of(operation, "thread", Thread, thread, metadata={}, created_at=moment, updated_at=moment)
        check_id(operation, "resource_id", record.resource_id)
        check_mapping(operation, "metadata", record.metadata)

        async def save(session: AsyncSession) -> Thread:
            stored = await put(session, record, expect=("resource_id",) if self._strict else ())
            if self._strict and stored is not None and stored.resource_id != record.resource_id:
                raise not_theirs(operation, "thread.id", record.id)
            return record

        async with self._session() as session:
            return await session.transact(save)

    async def update_thread(
        self,
        *,
        id: str,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        resource_id: str | None = None,
    ) -> Thread:
        """Change the title, and merge `metadata` one level deep; None leaves either as it is, "" is a title.

        Concurrent updates are all kept. Raises ThreadNotFound, also where `resource_id` is given and does not own it, and
        InvalidArgument where what is stored as metadata is no object to merge into.
        """
        check_id("UPDATE_THREAD", "id", id)
        check_optional_id("UPDATE_THREAD", "resource_id", resource_id)
        check_optional_text("UPDATE_THREAD", "title", title)
        if metadata is not None:
            check_mapping("UPDATE_THREAD", "metadata", metadata)

        async def update(session: AsyncSession) -> Thread:
            thread = await own_thread(session, id, resource_id)
            if thread is None:
                raise ThreadNotFound(id, operation="UPDATE_THREAD")
            if title is not None:
                thread.title = title
            if metadata is not None:
                thread.metadata = merged("UPDATE_THREAD", "metadata", thread.metadata, metadata)
            thread.updated_at = later(thread.updated_at)
            return thread

        async with self._session() as session:
            return await session.transact(update)

    async def patch_thread(
        self,
        *,
        id: str,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        resource_id: str | None = None,
    ) -> Thread:
        """`update_thread`, under the name the contract has for it too."""
        return await AsyncThreads.update_thread(self, id=id, title=title, metadata=metadata, resource_id=resource_id)

    async def update_thread_metadata(
        self,
        *,
        id: str,
        update: Callable[[Thread], Mapping[str, Any] | None],
        resource_id: str | None = None,
    ) -> Thread | None:
        """Merge what `update(thread)` answers into the metadata, atomically across processes; None changes nothing.

        `update` may run several times. Answers None where there is no such thread, or another resource owns it.
        """
        check_id("UPDATE_THREAD_METADATA", "id", id)
        check_optional_id("UPDATE_THREAD_METADATA", "resource_id", resource_id)

        async def run(session: AsyncSession) -> Thread | None:
            thread = await own_thread(session, id, resource_id)
            metadata = None if thread is None else update(thread)
            if thread is not None and metadata is not None:
                check_mapping("UPDATE_THREAD_METADATA", "update", metadata)
                thread.metadata = merged("UPDATE_THREAD_METADATA", "metadata", thread.metadata, metadata)
                thread.updated_at = later(thread.updated_at)
            return thread

        async with self._session() as session:
            return await session.transact(run)

    async def list_threads(
        self,
        *,
        page: int = 0,
        per_page: int | Literal[False] | None = None,
        order_by: OrderBy | None = None,
        filter: ThreadFilter | None = None,
        include_total: bool = True,
    ) -> ThreadPage:
        """Threads, 100 a page, the newest first unless `order_by` says otherwise.

        `filter` takes `resource_id` and `metadata`. Without `include_total` the list is not counted and `has_more` comes
        from one more row. `per_page=False` is all of them, and allows page 0 only.
        """
        operation = "LIST_THREADS"
        paging = check_paging(operation, page, per_page, default=100, one_page=True)
        field, direction = check_order(operation, order_by, fields=("created_at", "updated_at"), direction="DESC")
        wanted = check_options(operation, "filter", filter, ("resource_id", "metadata"))
        metadata = check_metadata_filter(operation, wanted.get("metadata"), scalars=False)
        resource_id = check_optional_id(operation, "filter.resource_id", wanted.get("resource_id"))
        when = field.removesuffix("_at")
        query = Thread.query().order(direction)
        if resource_id is not None:
            query = query.by_index(f"by_resource_{when}", resource_id=resource_id)
        else:
            query = query.by_index(f"by_{when}")
        query = query.where(*(Thread.metadata[key] == value for key, value in metadata.items()))
        async with self._session() as session:
            return await _page(session, query, paging, include_total)

    async def update_thread_resource_id(
        self, *, thread_id: str, resource_id: str, source_resource_id: str | None = None
    ) -> Thread:
        """Give the thread, its messages and what was observed in it to another resource.

        One atomic commit for up to 3,000 messages (5 MiB); a longer thread moves in several, the thread itself with the
        last. Whatever interrupts those, the messages go back to whom they belonged; where nothing can go back, because the
        process has ended, another call moves the rest, or, with the resource that has the thread, brings back what is gone.
        Raises ThreadNotFound, also where `source_resource_id` is given and does not own the thread.
        """
        operation = "UPDATE_THREAD_RESOURCE_ID"
        check_id(operation, "thread_id", thread_id)
        check_id(operation, "resource_id", resource_id)
        check_optional_id(operation, "source_resource_id", source_resource_id)
        async with self._session() as session:
            move = _Move(session, operation, thread_id, resource_id, source_resource_id)
            try:
                return await move.run()
            except BaseException:
                with suppress(ConvexORMError):  # what cannot go back now is for the next call
                    await move.undo()
                raise

    async def delete_thread(self, *, thread_id: str, resource_id: str | None = None) -> None:
        """Delete the thread, its messages and what was observed in it; nothing happens where there is none.

        With a `resource_id` nothing happens to a thread of another resource, nor to what others have in this one. One
        atomic commit for up to 4,000 messages (6 MiB); of a longer thread messages are deleted in several first, and the
        thread itself with the last of them.
        """
        check_id("DELETE_THREAD", "thread_id", thread_id)
        check_optional_id("DELETE_THREAD", "resource_id", resource_id)
        messages = Message.query().by_index("by_thread", thread_id=thread_id)
        generations = _generations(thread_id, resource_id)
        if resource_id is not None:
            messages = messages.where(Message.resource_id == resource_id)
        expected = {} if resource_id is None else {"resource_id": resource_id}
        async with self._session() as session:
            try:
                while True:
                    session.delete_range(messages)
                    session.delete_range(generations)
                    session.delete_key(Thread, thread_id, expected=expected)
                    try:
                        return await session.commit()
                    except LimitExceeded:
                        session.rollback()
                    for query in (messages, generations):
                        while await session.first(query) is not None:
                            if resource_id is not None:
                                expect_owner(session, Thread, thread_id, resource_id)
                            session.delete_range(query.limit(MAX_DELETED_BY_RANGE))
                            await session.commit()
            except StaleDataError:
                session.rollback()  # it is another resource's


class _Move:
    """A thread that changes hands, with all that is in it, and how that is undone."""

    def __init__(self, session: AsyncSession, operation: str, thread_id: str, resource_id: str, source: str | None) -> None:
        self._session = session
        self._operation = operation
        self._thread_id = thread_id
        self._resource_id = resource_id
        self._source = source
        self._at_once = _MOVED_AT_ONCE
        self._from: str | None = None
        self._owners: dict[str, str | None] = {}
        """Whose the messages were that have moved, or may have."""

    async def run(self) -> Thread:
        """Move everything, in as many commits as it takes."""
        moved = None
        while moved is None:
            try:
                moved = await self._session.transact(self._step)
            except LimitExceeded:
                if self._at_once == 1:
                    raise
                self._at_once //= 2
        self._owners = {}
        return moved

    async def _step(self, session: AsyncSession) -> Thread | None:
        """Move some messages, or with the last of them the thread, which is the answer."""
        thread = await session.get(Thread, self._thread_id)  # whose it is holds, since every step expects that
        if thread is None or self._source not in (None, thread.resource_id):
            raise ThreadNotFound(self._thread_id, operation=self._operation)
        self._from = thread.resource_id
        left = (
            Message.query()
            .by_index("by_thread", thread_id=self._thread_id)
            .where(Message.resource_id != self._resource_id)
            .limit(self._at_once + 1)
        )
        key = thread_key(self._thread_id)
        observed, known = generations_of(key, thread.resource_id), generations_of(key, self._resource_id).limit(1)
        messages, generations, newest = await session.read(left, observed, known)
        if thread.resource_id == self._resource_id:
            generations = []
        for message in messages[: self._at_once]:
            self._owners[message.id] = message.resource_id
            message.resource_id = self._resource_id
        if len(messages) > self._at_once:
            # A step that arrives when the move is undone already finds another time, and changes nothing.
            expected = {"resource_id": thread.resource_id, "updated_at": thread.updated_at}
            session.update(Thread, thread.id, {}, expected=expected)
            return None
        hand_over(session, generations, self._resource_id, newest[0] if newest else None)
        if thread.resource_id == self._resource_id:
            expect_owner(session, Thread, thread.id, thread.resource_id)
        if self._owners or generations or thread.resource_id != self._resource_id:
            thread.resource_id = self._resource_id
            thread.updated_at = later(thread.updated_at)
        return thread

    async def undo(self) -> None:
        """Give back what has moved of a thread that has not; to whom a thread belongs already, nothing is taken from."""
        if not self._owners or self._from == self._resource_id:
            return
        if not await self._session.transact(self._fence):
            return
        ids = list(self._owners)
        for start in range(0, len(ids), _BROUGHT_BACK_AT_ONCE):

            async def give_back(session: AsyncSession, ids: list[str] = ids[start : start + _BROUGHT_BACK_AT_ONCE]) -> None:
                for message in await session.get_many(Message, ids):
                    theirs = message is not None and message.resource_id == self._resource_id
                    if message is not None and theirs and message.thread_id == self._thread_id:
                        message.resource_id = self._owners[message.id]

            await self._session.transact(give_back)

    async def _fence(self, session: AsyncSession) -> bool:
        """Let no step of the move be applied from now on; False if the thread has moved, or is gone."""
        thread = await session.get(Thread, self._thread_id)
        if thread is None or thread.resource_id != self._from:
            return False
        thread.updated_at = later(thread.updated_at)
        return True


def _generations(thread_id: str, resource_id: str | None) -> Query[ObservationalMemory]:
    """What was observed in a thread: by a resource, or by whomever."""
    if resource_id is not None:
        return generations_of(thread_key(thread_id), resource_id)
    return generations_by_all(thread_key(thread_id))


async def _page(session: AsyncSession, query: Query[Thread], paging: Paging, include_total: bool) -> ThreadPage:
    if paging.per_page is not False and paging.per_page == 0:  # a count at most: no thread is read
        total = await session.count(query) if include_total else None
        return ThreadPage([], total, paging.page, 0, bool(total))
    part = await slice_of(session, query, paging, include_total)
    return ThreadPage(part.items, part.total, paging.page, paging.per_page, part.has_more)
