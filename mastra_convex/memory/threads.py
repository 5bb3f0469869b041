"""Threads: conversations, their metadata, and lists of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from convexorm import AsyncSession, LimitExceeded, Query
from mastra_convex.arguments import (
    OrderBy,
    Paging,
    ThreadFilter,
    check_id,
    check_keys,
    check_mapping,
    check_metadata_filter,
    check_optional_text,
    check_order,
    check_paging,
)
from mastra_convex.domain import AsyncDomain
from mastra_convex.entities import Message, Thread
from mastra_convex.errors import ThreadNotFound
from mastra_convex.instants import now
from mastra_convex.listing import slice_of
from mastra_convex.records import merged, record_of

__all__ = ["AsyncThreads", "ThreadPage"]

_MOVED_AT_ONCE = 3_000
"""Messages that change hands in one commit, fewer where they are large: each takes an index range of Convex's 4,096."""


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
        async with self._session() as session:
            return await _owned(session, thread_id, resource_id)

    async def save_thread(self, *, thread: Thread | Mapping[str, Any]) -> Thread:
        """Store the thread whole, in place of one with its id. Timestamps default to now, metadata to `{}`."""
        moment = now()
        record = record_of("SAVE_THREAD", "thread", Thread, thread, metadata={}, created_at=moment, updated_at=moment)
        check_id("SAVE_THREAD", "resource_id", record.resource_id)
        check_mapping("SAVE_THREAD", "metadata", record.metadata)
        async with self._session() as session:
            session.upsert(record, returning=False)
            await session.commit()
        return record

    async def update_thread(
        self, *, id: str, title: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Thread:
        """Change the title, and merge `metadata` one level deep; None leaves either as it is, "" is a title.

        Concurrent updates are all kept. Raises ThreadNotFound.
        """
        check_id("UPDATE_THREAD", "id", id)
        check_optional_text("UPDATE_THREAD", "title", title)
        if metadata is not None:
            check_mapping("UPDATE_THREAD", "metadata", metadata)

        async def update(session: AsyncSession) -> Thread:
            thread = await session.get(Thread, id)
            if thread is None:
                raise ThreadNotFound(id, operation="UPDATE_THREAD")
            if title is not None:
                thread.title = title
            if metadata is not None:
                thread.metadata = merged(thread.metadata, metadata)
            thread.updated_at = now()
            return thread

        async with self._session() as session:
            return await session.transact(update)

    async def patch_thread(self, *, id: str, title: str | None = None, metadata: Mapping[str, Any] | None = None) -> Thread:
        """`update_thread`, under the name the contract has for it too."""
        return await AsyncThreads.update_thread(self, id=id, title=title, metadata=metadata)

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

        async def run(session: AsyncSession) -> Thread | None:
            thread = await _owned(session, id, resource_id)
            metadata = None if thread is None else update(thread)
            if thread is not None and metadata is not None:
                check_mapping("UPDATE_THREAD_METADATA", "update", metadata)
                thread.metadata = merged(thread.metadata, metadata)
                thread.updated_at = now()
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
        wanted = check_keys(operation, "filter", filter or {}, ("resource_id", "metadata"))
        metadata = check_metadata_filter(operation, wanted.get("metadata") or {}, scalars=False)
        when = field.removesuffix("_at")
        query = Thread.query().order(direction)
        if wanted.get("resource_id"):
            query = query.by_index(f"by_resource_{when}", resource_id=wanted["resource_id"])
        else:
            query = query.by_index(f"by_{when}")
        query = query.where(*(Thread.metadata[key] == value for key, value in metadata.items()))
        async with self._session() as session:
            return await _page(session, query, paging, include_total)

    async def update_thread_resource_id(self, *, thread_id: str, resource_id: str) -> Thread:
        """Give the thread and all its messages to another resource.

        One atomic commit for up to 3,000 messages (5 MiB); a longer thread moves in several, the thread itself with the
        last. Raises ThreadNotFound.
        """
        operation = "UPDATE_THREAD_RESOURCE_ID"
        check_id(operation, "thread_id", thread_id)
        check_id(operation, "resource_id", resource_id)

        at_once = _MOVED_AT_ONCE

        async def move(session: AsyncSession) -> Thread | None:
            thread = await session.get(Thread, thread_id)
            if thread is None:
                raise ThreadNotFound(thread_id, operation=operation)
            if thread.resource_id == resource_id:
                return thread
            left = (
                Message.query()
                .by_index("by_thread", thread_id=thread_id)
                .where(Message.resource_id != resource_id)
                .limit(at_once + 1)
            )
            messages = await session.all(left)
            for message in messages[:at_once]:
                message.resource_id = resource_id
            if len(messages) > at_once:
                return None
            thread.resource_id = resource_id
            thread.updated_at = now()
            return thread

        async with self._session() as session:
            moved = None
            while moved is None:
                try:
                    moved = await session.transact(move)
                except LimitExceeded:
                    if at_once == 1:
                        raise
                    at_once //= 2
            return moved

    async def delete_thread(self, *, thread_id: str) -> None:
        """Delete the thread and all its messages; nothing happens where there is none.

        One atomic commit for up to 4,000 messages (6 MiB); of a longer thread messages are deleted in several first, and
        the thread itself with the last of them.
        """
        check_id("DELETE_THREAD", "thread_id", thread_id)
        messages = Message.query().by_index("by_thread", thread_id=thread_id)
        async with self._session() as session:
            while True:
                session.delete_range(messages)
                session.delete_key(Thread, thread_id)
                try:
                    return await session.commit()
                except LimitExceeded:
                    session.rollback()
                await session.delete_all(messages)


async def _owned(session: AsyncSession, thread_id: str, resource_id: str | None) -> Thread | None:
    thread = await session.get(Thread, thread_id)
    if thread is None or (resource_id is not None and thread.resource_id != resource_id):
        return None
    return thread


async def _page(session: AsyncSession, query: Query[Thread], paging: Paging, include_total: bool) -> ThreadPage:
    if paging.per_page is not False and paging.per_page == 0:  # a count at most: no thread is read
        total = await session.count(query) if include_total else None
        return ThreadPage([], total, paging.page, 0, bool(total))
    part = await slice_of(session, query, paging, include_total)
    return ThreadPage(part.items, part.total, paging.page, paging.per_page, part.has_more)
