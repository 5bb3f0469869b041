"""Threads: conversations, their metadata, and lists of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import attrs

from convexorm import AsyncSession, LimitExceeded, Query, StaleDataError
from convexorm.live import Watch
from convexorm.live.views import RecordView
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
    naming,
)
from mastra_convex.domain import AsyncDomain, OnState
from mastra_convex.entities import Message, Thread
from mastra_convex.errors import InvalidArgument, ThreadNotFound
from mastra_convex.instants import later, now
from mastra_convex.listing import slice_of
from mastra_convex.memory.copies import COPIES
from mastra_convex.memory.generations import generations_by_all, generations_of, thread_key
from mastra_convex.memory.moves import MOVES, Move
from mastra_convex.memory.owners import expect_no_messages, expect_owner, not_theirs, own_thread
from mastra_convex.memory.unfinished import note_of
from mastra_convex.records import merged, put, record_of

__all__ = ["AsyncThreads", "ThreadPage"]


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

    def watch_thread(
        self, *, thread_id: str, resource_id: str | None = None, on_state: OnState | None = None
    ) -> Watch[Thread | None]:
        """What `get_thread_by_id` answers, again whenever that changes: `with` it, or `async with`, as `live`.

        `on_state` is told when the connection is there or lost. Raises what `Deployment.watch` does, and DeploymentError
        where a deployment has only the npm package's functions.
        """
        check_id("WATCH_THREAD", "thread_id", thread_id)
        check_optional_id("WATCH_THREAD", "resource_id", resource_id)
        query = Thread.query().by_index("by_record_id", id=thread_id).limit(1)

        def own(thread: Thread | None) -> Thread | None:
            return thread if thread is None or resource_id in (None, thread.resource_id) else None

        return self._backend.watch([query], lambda states: RecordView(states, own), on_state)

    async def save_thread(self, *, thread: Thread | Mapping[str, Any]) -> Thread:
        """Store the thread whole, in place of one with its id. Timestamps default to now, metadata to `{}`; a later
        `updated_at` that is stored stays, and what is answered is what was given.

        With `owners="strict"` an id is an InvalidArgument that another resource's thread has, or messages of another
        resource where there is no thread. What a copy to this id has left, whose process has ended, is deleted.
        """
        operation, moment = "SAVE_THREAD", now()
        record = record_of(operation, "thread", Thread, thread, metadata={}, created_at=moment, updated_at=moment)
        check_id(operation, "resource_id", record.resource_id)
        check_mapping(operation, "metadata", record.metadata)

        again = False

        async def save(session: AsyncSession) -> Thread:
            nonlocal again
            if again:
                await self._take_back_copy(session, operation, record)
            again = True
            stored = await put(session, record, expect=("resource_id",) if self._strict else ())
            COPIES.expect_none(session, record.id)
            if self._strict and stored is None:
                await _keep_from_others(session, operation, record)
            elif self._strict and stored.resource_id != record.resource_id:
                raise not_theirs(operation, "thread.id", record.id)
            return record

        with naming(operation, "thread"):
            async with self._session() as session:
                return await session.transact(save)

    async def _take_back_copy(self, session: AsyncSession, operation: str, thread: Thread) -> None:
        """Delete what a copy to this id has left. Raises InvalidArgument where it may be another resource's alone."""
        note = await session.first(note_of(COPIES.table, thread.id))
        if note is None:
            return
        if self._strict and note.record.get("resource_id") != thread.resource_id:
            raise not_theirs(operation, "thread.id", thread.id)
        session.expunge_all()
        await COPIES.take_back(session, thread.id)
        session.expunge_all()

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

        with naming("UPDATE_THREAD", ""):
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
        if not callable(update):
            raise InvalidArgument("a function of the thread", operation="UPDATE_THREAD_METADATA", argument="update")

        async def run(session: AsyncSession) -> Thread | None:
            thread = await own_thread(session, id, resource_id)
            metadata = None if thread is None else update(thread)
            if thread is not None and metadata is not None:
                check_mapping("UPDATE_THREAD_METADATA", "update", metadata)
                with naming("UPDATE_THREAD_METADATA", "update"):
                    thread.metadata = merged("UPDATE_THREAD_METADATA", "metadata", thread.metadata, metadata)
                    type(thread).__mapper__.columns["metadata"].dump(thread.metadata)
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
        with naming(operation, "filter"):
            query = query.where(*(Thread.metadata[key] == value for key, value in metadata.items()))
        async with self._session() as session:
            return await _page(session, query, paging, include_total)

    async def update_thread_resource_id(
        self, *, thread_id: str, resource_id: str, source_resource_id: str | None = None
    ) -> Thread:
        """Give the thread, its messages and what was observed in it to another resource.

        With a `source_resource_id`, as with `owners="strict"`, only its messages go, not what others have in the thread;
        what others have observed in it stays theirs anyway. What the new owner has observed in it before are older
        generations then.

        One atomic commit for up to 3,000 messages (5 MiB); a longer thread moves in several, the thread itself with the
        last. Whatever interrupts those, the messages go back to whom they belonged: at once, or, where the process has
        ended, with the next move or deletion of the thread. Raises ThreadNotFound, also where `source_resource_id` is given
        and does not own the thread, and StaleDataError where another move of the thread has ended this one.
        """
        operation = "UPDATE_THREAD_RESOURCE_ID"
        check_id(operation, "thread_id", thread_id)
        check_id(operation, "resource_id", resource_id)
        check_optional_id(operation, "source_resource_id", source_resource_id)
        async with self._session() as session:
            own = self._strict or source_resource_id is not None
            return await Move(session, operation, thread_id, resource_id, source_resource_id, own=own).run()

    async def delete_thread(self, *, thread_id: str, resource_id: str | None = None) -> None:
        """Delete the thread, its messages and what was observed in it; nothing happens where there is none.

        With a `resource_id` nothing happens to a thread of another resource, nor to what others have in this one. One
        atomic commit for up to 4,000 messages (6 MiB); of a longer thread messages are deleted in several first, and the
        thread itself with the last of them.
        """
        check_id("DELETE_THREAD", "thread_id", thread_id)
        check_optional_id("DELETE_THREAD", "resource_id", resource_id)
        messages = Message.query().by_index("by_thread", thread_id=thread_id)
        observed = thread_key(thread_id)
        generations = generations_by_all(observed) if resource_id is None else generations_of(observed, resource_id)
        generations = generations.order("asc")
        if resource_id is not None:
            messages = messages.where(Message.resource_id == resource_id)
        expected = {} if resource_id is None else {"resource_id": resource_id}
        kinds = [MOVES, COPIES]
        async with self._session() as session:
            while True:
                session.delete_key(Thread, thread_id, expected=expected)
                for kind in kinds:
                    kind.expect_none(session, thread_id)
                session.delete_range(messages)
                session.delete_range(generations)
                try:
                    await session.commit()
                    return
                except LimitExceeded:
                    session.rollback()
                    if not await _delete_most(session, thread_id, resource_id, (messages, generations)):
                        return
                except StaleDataError as error:
                    session.rollback()
                    if error.write == 0:  # it is another resource's
                        return
                    await MOVES.take_back(session, thread_id)
                    copy = await session.first(note_of(COPIES.table, thread_id))
                    session.expunge_all()
                    if copy is not None and resource_id not in (None, copy.record.get("resource_id")):
                        kinds = [MOVES]  # another resource's, which goes on
                    else:
                        await COPIES.take_back(session, thread_id)


async def _delete_most(
    session: AsyncSession, thread_id: str, resource_id: str | None, queries: Iterable[Query[Any]]
) -> bool:
    """Delete what is in a thread, in several commits; False where that is another resource's."""
    for query in queries:
        while await session.first(query) is not None:
            if resource_id is not None:
                expect_owner(session, Thread, thread_id, resource_id)
            session.delete_range(query.limit(MAX_DELETED_BY_RANGE))
            try:
                await session.commit()
            except StaleDataError:
                session.rollback()
                return False
    return True


async def _keep_from_others(session: AsyncSession, operation: str, thread: Thread) -> None:
    """Raise InvalidArgument where others have messages in what is to be a new thread.

    Where nobody has any, the next commit expects that.
    """
    inside = Message.query().by_index("by_thread", thread_id=thread.id)
    others, any_ = await session.read(inside.where(Message.resource_id != thread.resource_id).limit(1), inside.limit(1))
    if others:
        raise not_theirs(operation, "thread.id", thread.id)
    if not any_:
        expect_no_messages(session, thread.id)


async def _page(session: AsyncSession, query: Query[Thread], paging: Paging, include_total: bool) -> ThreadPage:
    if paging.per_page is not False and paging.per_page == 0:  # a count at most: no thread is read
        total = await session.count(query) if include_total else None
        return ThreadPage([], total, paging.page, 0, bool(total))
    part = await slice_of(session, query, paging, include_total)
    return ThreadPage(part.items, part.total, paging.page, paging.per_page, part.has_more)
