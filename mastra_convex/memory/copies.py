"""Copies of threads: a new, independent thread with some or all of another's messages.

The ids of the messages of a copy of more than one commit follow from its note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID, uuid4, uuid5

import attrs

from convexorm import AsyncSession, LimitExceeded, StaleDataError
from convexorm.types import iso_timestamp
from convexorm.values import size_of
from mastra_convex.arguments import (
    check_id,
    check_ids,
    check_instant,
    check_list,
    check_mapping,
    check_optional_id,
    check_optional_text,
    check_options,
    check_whole,
    naming,
)
from mastra_convex.domain import AsyncDomain
from mastra_convex.entities import Message, Thread
from mastra_convex.errors import ThreadAlreadyExists, ThreadNotFound
from mastra_convex.instants import now
from mastra_convex.memory.owners import expect_no_messages
from mastra_convex.memory.unfinished import Kind, Unfinished, note_of

__all__ = ["COPIES", "AsyncCopies", "CloneOptions", "ClonedThread", "CopiedThread", "CopyFilter"]

_COPIED_AT_ONCE = 4_000
"""Messages written in one commit."""
_COPIED_BYTES = 8 << 20
"""Bytes of messages written in one commit; Convex allows 16 MiB, as arguments and as documents."""
_TAKEN_BACK_AT_ONCE = 1_000
"""Messages deleted by id in one commit, fewer where they are large: each takes two of the 4,096 index ranges."""


def _ids(note: Mapping[str, Any]) -> list[str]:
    """The ids of the messages of a copy, in order."""
    return [str(uuid5(UUID(note["work"]), str(number))) for number in range(int(note["messages"]))]


async def _take_back(session: AsyncSession, note: Mapping[str, Any], expect: Callable[[], None]) -> None:
    ids, at_once = _ids(note), _TAKEN_BACK_AT_ONCE
    while ids:
        for id in ids[:at_once]:
            session.delete_key(Message, id)
        expect()
        try:
            await session.commit()
        except LimitExceeded:
            session.rollback()
            if at_once == 1:
                raise
            at_once //= 2
        else:
            ids = ids[at_once:]


COPIES = Kind("mastra_unfinished_copies", _take_back)


class CopyFilter(TypedDict, total=False):
    """Both ends of the dates belong to the range."""

    start_date: datetime
    end_date: datetime
    message_ids: Sequence[str]


class CloneOptions(TypedDict, total=False):
    """`message_limit`: how many messages at most, the newest."""

    message_limit: int
    message_filter: CopyFilter


@attrs.frozen
class CopiedThread:
    """The new thread, and the id of each copied message by the id of its source."""

    thread: Thread
    message_id_map: dict[str, str]


@attrs.frozen
class ClonedThread(CopiedThread):
    """A copied thread with its messages, the oldest first."""

    cloned_messages: list[Message]


class AsyncCopies(AsyncDomain):
    """The part of the memory contract that is about copies of threads."""

    async def copy_thread(
        self,
        *,
        source_thread_id: str,
        new_thread_id: str | None = None,
        resource_id: str | None = None,
        source_resource_id: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        options: CloneOptions | None = None,
    ) -> CopiedThread:
        """Copy a thread and its messages, without answering the messages.

        The copy belongs to `resource_id` or to the source's resource, is titled `title` or "Clone of …", and carries
        `metadata` with `clone` added: `sourceThreadId`, `clonedAt` and `lastMessageId`. With a `source_resource_id` only
        its thread is copied, and of that only its messages.

        One atomic commit for up to 4,000 messages (8 MiB); of a longer thread the messages are copied in several first, and
        the thread appears with the last. Whatever interrupts those, they are taken back: at once, or, where the process has
        ended, by the next copy to this id, or when a thread is saved under it, which also ends one that is under way (with
        `owners="strict"` only one of the same resource).
        Raises ThreadNotFound, and ThreadAlreadyExists for a `new_thread_id` that a thread or messages have.
        """
        given = source_thread_id, source_resource_id, new_thread_id, resource_id
        copy, _ = await self._copy("COPY_THREAD", *given, title, metadata, options)
        return copy

    async def clone_thread(
        self,
        *,
        source_thread_id: str,
        new_thread_id: str | None = None,
        resource_id: str | None = None,
        source_resource_id: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        options: CloneOptions | None = None,
    ) -> ClonedThread:
        """`copy_thread`, answering the copied messages too."""
        given = source_thread_id, source_resource_id, new_thread_id, resource_id
        copy, messages = await self._copy("CLONE_THREAD", *given, title, metadata, options)
        return ClonedThread(copy.thread, copy.message_id_map, messages)

    async def _copy(
        self,
        operation: str,
        source_id: str,
        source_resource_id: str | None,
        new_id: str | None,
        resource_id: str | None,
        title: str | None,
        metadata: Mapping[str, Any] | None,
        options: CloneOptions | None,
    ) -> tuple[CopiedThread, list[Message]]:
        check_id(operation, "source_thread_id", source_id)
        check_optional_id(operation, "source_resource_id", source_resource_id)
        new_id = str(uuid4()) if new_id is None else check_id(operation, "new_thread_id", new_id)
        check_optional_id(operation, "resource_id", resource_id)
        check_optional_text(operation, "title", title)
        if metadata is not None:
            check_mapping(operation, "metadata", metadata)
        chosen = _Choice(operation, options)
        async with self._session() as session:
            start = Thread.query().limit(1)
            inside = Message.query().by_index("by_thread", thread_id=new_id)
            found, taken, left, others = await session.read(
                start.by_index("by_record_id", id=source_id),
                start.by_index("by_record_id", id=new_id),
                note_of(COPIES.table, new_id),
                inside.limit(1),
            )
            if not found or source_resource_id not in (None, found[0].resource_id):
                raise ThreadNotFound(source_id, operation=operation)
            source, owner = found[0], resource_id or found[0].resource_id
            if left and not taken and not (self._strict and left[0].record.get("resource_id") != owner):
                session.expunge_all()
                await COPIES.take_back(session, new_id)
                left, others = await session.read(note_of(COPIES.table, new_id), inside.limit(1))
            if taken or left or others:
                raise ThreadAlreadyExists(new_id, operation=operation)
            messages = await chosen.messages(session, source_id, source_resource_id)
            moment = now()
            clone: dict[str, Any] = {"sourceThreadId": source_id, "clonedAt": iso_timestamp(moment)}
            if messages:
                clone["lastMessageId"] = messages[-1].id
            thread = Thread(
                id=new_id,
                resource_id=owner,
                title=title or (f"Clone of {source.title}" if source.title else None),
                metadata={**(metadata or {}), "clone": clone},
                created_at=moment,
                updated_at=moment,
            )
            copies = [_copied(message, thread, resource_id) for message in messages]
            expected = None if source_resource_id is None else {"resource_id": source_resource_id}
            try:
                with naming(operation, ""):
                    await _store(session, thread, copies, source_id, expected)
            except StaleDataError as error:
                if expected is not None and error.write == 0 and error.instance is None:
                    raise ThreadNotFound(source_id, operation=operation) from error  # it is somebody else's by now
                raise ThreadAlreadyExists(new_id, operation=operation) from error
        ids = {message.id: copy.id for message, copy in zip(messages, copies, strict=True)}
        return CopiedThread(thread, ids), copies


class _Choice:
    """Which messages to copy."""

    def __init__(self, operation: str, options: CloneOptions | None) -> None:
        given = check_options(operation, "options", options, ("message_limit", "message_filter"))
        keys = ("start_date", "end_date", "message_ids")
        filter_ = check_options(operation, "message_filter", given.get("message_filter"), keys)
        limit = given.get("message_limit")
        wanted = 0 if limit is None else check_whole(operation, "message_limit", limit)
        self._limit = wanted or None  # the contract: 0 is no limit
        self._conditions = []
        if filter_.get("start_date") is not None:
            start = check_instant(operation, "start_date", filter_["start_date"])
            self._conditions.append(Message.created_at >= start)
        if filter_.get("end_date") is not None:
            end = check_instant(operation, "end_date", filter_["end_date"])
            self._conditions.append(Message.created_at <= end)
        ids = filter_.get("message_ids")
        if ids is not None and (isinstance(ids, str) or len(check_list(operation, "message_ids", ids))):
            self._conditions.append(Message.id.in_(check_ids(operation, "message_ids", ids)))  # the contract: [] is all

    async def messages(self, session: AsyncSession, thread_id: str, resource_id: str | None) -> list[Message]:
        """The chosen messages of a thread, the oldest first; with a `resource_id` only those it owns."""
        query = Message.query().by_index("by_thread_created", thread_id=thread_id).where(*self._conditions)
        if resource_id is not None:
            query = query.where(Message.resource_id == resource_id)
        if self._limit is None:
            return await session.all(query)
        newest = await session.all(query.order("desc").limit(self._limit))
        return newest[::-1]


def _copied(message: Message, thread: Thread, resource_id: str | None) -> Message:
    return Message(
        id=str(uuid4()),
        thread_id=thread.id,
        content=message.content,
        role=message.role,
        type=message.type,
        created_at=message.created_at,
        resource_id=resource_id or message.resource_id,
    )


async def _store(
    session: AsyncSession,
    thread: Thread,
    messages: Sequence[Message],
    source_id: str,
    expected: Mapping[str, Any] | None,
) -> None:
    """Write the messages and then the thread. What was written is taken back if the rest cannot be.

    Every commit finds the source as `expected`, if that is given; it is what the first write of each is about.
    """
    chunks = list(_chunks(messages))

    def write(chunk: list[Message], *, first: bool) -> None:
        if expected is not None:
            session.update(Thread, source_id, {}, expected=expected)
        if chunk is chunks[-1]:
            session.add(thread)
        if first:
            expect_no_messages(session, thread.id)
        session.add_all(chunk, unique=False, returning=False)

    if len(chunks) == 1:
        write(chunks[0], first=True)
        COPIES.expect_none(session, thread.id)
        await session.commit()
        return
    work = Unfinished(COPIES, thread.id, resource_id=thread.resource_id, messages=len(messages))
    for message, id in zip(messages, _ids(work.note), strict=True):
        message.id = id
    try:
        work.begin(session)
        await session.commit()
        session.expunge_all()
        for chunk in chunks:
            write(chunk, first=chunk is chunks[0])
            work.finish(session) if chunk is chunks[-1] else work.expect(session)
            await session.commit()
    except BaseException:
        session.rollback()
        await work.undo(session)
        raise


def _chunks(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """The messages in batches that one commit can write; the last one may be empty."""
    chunk: list[Message] = []
    size = 0
    for message in messages:
        weight = 512 + size_of(Message.__mapper__.columns["content"].dump(message.content))
        if chunk and (len(chunk) >= _COPIED_AT_ONCE or size + weight > _COPIED_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(message)
        size += weight
    yield chunk
