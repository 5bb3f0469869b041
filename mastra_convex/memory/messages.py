"""Messages: saved in batches, listed by thread or resource, with the neighbours of others included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import attrs

from convexorm import AsyncSession, Condition, LimitExceeded, Query, StaleDataError, ValidationError, func
from convexorm.live import Change, Watch
from convexorm.live.views import ListView
from mastra_convex.arguments import (
    DateRange,
    Include,
    MessageFilter,
    OrderBy,
    Paging,
    check_date_range,
    check_id,
    check_ids,
    check_include,
    check_instant,
    check_keys,
    check_metadata_filter,
    check_optional_id,
    check_options,
    check_order,
    check_paging,
    check_several,
    check_whole,
    naming,
)
from mastra_convex.domain import AsyncDomain, OnState
from mastra_convex.entities import Document, Message, Thread
from mastra_convex.errors import InvalidArgument
from mastra_convex.instants import now
from mastra_convex.memory.copies import COPIES
from mastra_convex.memory.owners import expect_owner, keep_from_others, not_theirs
from mastra_convex.records import merged, record_of

__all__ = ["AsyncMessages", "MessageList", "MessagePage"]

_DELETED_AT_ONCE = 1_000
"""Messages deleted by id in one commit, fewer where they are large: each takes two of Convex's 4,096 index ranges."""


@attrs.frozen
class MessageList:
    """Messages, with nothing known of others."""

    messages: list[Message]


@attrs.frozen
class MessagePage:
    """Some messages of a list. `total` is None where it was not asked for, `per_page` False where all were.

    Included messages are among `messages`, in order, each once.
    """

    messages: list[Message]
    total: int | None
    page: int
    per_page: int | Literal[False]
    has_more: bool


class AsyncMessages(AsyncDomain):
    """The part of the memory contract that is about messages."""

    async def save_messages(self, *, messages: Iterable[Message | Mapping[str, Any]]) -> MessageList:
        """Store messages, each whole and in place of one with its id, and mark their threads as updated, in one commit.

        A message without id, thread or resource rejects the batch. `type` defaults to "v2", `created_at` to now. With
        `owners="strict"` an id that another resource's message has, the id of another resource's thread, and that of no
        thread where others have messages already, is an InvalidArgument. Raises LimitExceeded for more than Convex writes
        at once (about 4,000 new messages, 2,000 with strict owners, 16 MiB).
        """
        operation = "SAVE_MESSAGES"
        moment = now()
        records = [
            record_of(operation, "messages", Message, one, type="v2", created_at=moment)
            for one in check_several(operation, "messages", messages)
        ]
        for record in records:
            check_id(operation, "thread_id", record.thread_id)
            check_id(operation, "resource_id", record.resource_id)
        if not records:
            return MessageList([])
        latest = {record.id: record for record in records}

        async def save(session: AsyncSession) -> None:
            if self._strict:
                await _save_strictly(session, operation, records)
                return
            _touch(session, (record.thread_id for record in records))
            for record in latest.values():
                session.upsert(record, returning=False)

        with naming(operation, "messages"):
            async with self._session() as session:
                await session.transact(save)
        return MessageList(sorted(latest.values(), key=lambda record: record.created_at))

    async def list_messages(
        self,
        *,
        thread_id: str | Sequence[str],
        resource_id: str | None = None,
        include: Sequence[Include] | None = None,
        filter: MessageFilter | None = None,
        page: int = 0,
        per_page: int | Literal[False] | None = None,
        order_by: OrderBy | None = None,
        include_total: bool = True,
    ) -> MessagePage:
        """Messages of one or several threads, 40 a page, the oldest first unless `order_by` says otherwise.

        `filter` takes a `date_range` and `metadata`. `include` adds messages with their neighbours in their own threads,
        whatever the filter; with a `resource_id` neither they nor the listed ones belong to another resource. Without
        `include_total` nothing is counted and `has_more` comes from one more row. `per_page=0` answers only what is
        included, `per_page=False` everything.
        """
        operation = "LIST_MESSAGES"
        threads = check_ids(operation, "thread_id", thread_id)
        conditions, direction, paging = _checked(operation, filter, order_by, page, per_page)
        if check_optional_id(operation, "resource_id", resource_id) is not None:
            conditions.append(Message.resource_id == resource_id)
        queries = [
            Message.query().by_index("by_thread_created", thread_id=one).where(*conditions).order(direction)
            for one in threads
        ]
        async with self._session() as session:
            listing = _Listing(session, queries, direction, paging, include_total)
            whole = None if filter else set(threads)
            return await listing.answer(check_include(operation, include), resource_id, whole)

    def watch_messages(
        self,
        *,
        thread_id: str | Sequence[str],
        resource_id: str | None = None,
        filter: MessageFilter | None = None,
        order_by: OrderBy | None = None,
        last: int | None = None,
        on_state: OnState | None = None,
    ) -> Watch[Change[Message]]:
        """The messages that `list_messages` lists, all of them or the `last` so many, and again whenever they change.

        `with` it, or `async with`, as `live`: each `Change` has all messages, the oldest first unless `order_by` says
        otherwise, and which are new. A message that has not changed is the same instance. `on_state` is told when the
        connection is there or lost. Raises what `Deployment.watch` does, and DeploymentError where a deployment has only
        the npm package's functions.
        """
        operation = "WATCH_MESSAGES"
        threads = check_ids(operation, "thread_id", thread_id)
        conditions, direction, _ = _checked(operation, filter, order_by, 0, False)
        if check_optional_id(operation, "resource_id", resource_id) is not None:
            conditions.append(Message.resource_id == resource_id)
        if last is not None and check_whole(operation, "last", last) == 0:
            raise InvalidArgument("a whole number from 1 on, or None", operation=operation, argument="last")
        queries = [Message.query().by_index("by_thread_created", thread_id=one).where(*conditions) for one in threads]
        if last is not None:
            queries = [query.order("desc").limit(last) for query in queries]

        def arrange(found: Sequence[list[Message]]) -> list[Message]:
            messages = sorted((message for one in found for message in one), key=_place)[-(last or 0) :]
            return messages if direction == "asc" else messages[::-1]

        return self._backend.watch(queries, lambda states: ListView(states, arrange), on_state)

    async def list_messages_by_resource_id(
        self,
        *,
        resource_id: str,
        include: Sequence[Include] | None = None,
        filter: MessageFilter | None = None,
        page: int = 0,
        per_page: int | Literal[False] | None = None,
        order_by: OrderBy | None = None,
        include_total: bool = True,
    ) -> MessagePage:
        """Messages of all threads of a resource; everything else as for `list_messages`."""
        operation = "LIST_MESSAGES_BY_RESOURCE_ID"
        check_id(operation, "resource_id", resource_id)
        conditions, direction, paging = _checked(operation, filter, order_by, page, per_page)
        query = Message.query().by_index("by_resource_created", resource_id=resource_id).where(*conditions).order(direction)
        async with self._session() as session:
            listing = _Listing(session, [query], direction, paging, include_total)
            return await listing.answer(check_include(operation, include), resource_id, None)

    async def list_messages_by_id(self, *, message_ids: Iterable[str], resource_id: str | None = None) -> MessageList:
        """The messages with these ids that there are, the oldest first; with a `resource_id` only those it owns."""
        ids = _checked_ids("LIST_MESSAGES_BY_ID", message_ids)
        check_optional_id("LIST_MESSAGES_BY_ID", "resource_id", resource_id)
        async with self._session() as session:
            found = await session.get_many(Message, ids)
        return MessageList(sorted(_owned(found, resource_id), key=_place))

    async def update_messages(
        self, *, messages: Sequence[Mapping[str, Any]], resource_id: str | None = None
    ) -> list[Message]:
        """Change the messages that there are: each mapping holds an `id` and what to change.

        `content` merges one level deep, its `metadata` one level deeper; a new `thread_id` moves the message. What an older
        version stored as text becomes a part of content in format 2. The threads concerned are marked as updated. One
        atomic commit; concurrent updates are all kept. With a `resource_id` other resources' messages are passed over. With
        it, as with `owners="strict"`, a message goes neither to another resource nor into another's thread. Raises
        InvalidArgument for that, and for content that cannot be merged into what is stored without losing it.
        """
        operation = "UPDATE_MESSAGES"
        updates = [_checked_update(operation, one) for one in check_several(operation, "messages", messages)]
        check_optional_id(operation, "resource_id", resource_id)
        for one in updates:
            if resource_id is not None and one.get("resource_id", resource_id) != resource_id:
                raise InvalidArgument(
                    f"the message {one['id']!r} stays with its resource",
                    operation=operation,
                    argument="messages.resource_id",
                )

        async def update(session: AsyncSession) -> list[Message]:
            found = await session.get_many(Message, list(dict.fromkeys(one["id"] for one in updates)))
            stored = {message.id: message for message in _owned(found, resource_id)}
            touched: list[str] = []
            moved: dict[str, tuple[str, Message]] = {}
            for one in updates:
                message = stored.get(one["id"])
                if message is not None:
                    before = message.thread_id, message.resource_id
                    touched.append(message.thread_id)
                    _apply(operation, message, one)
                    touched.append(message.thread_id)
                    if before != (message.thread_id, message.resource_id):
                        moved.setdefault(message.id, (before[0], message))
                    if self._strict and before[1] != message.resource_id:
                        raise not_theirs(operation, "messages.id", message.id, "message")
            if resource_id is not None:
                for message in stored.values():
                    expect_owner(session, Message, message.id, resource_id)
                touched = await _owned_threads(session, touched, resource_id)
            if self._strict or resource_id is not None:
                await _keep_in_own_threads(session, operation, moved.values())
            _touch(session, touched)
            return list(stored.values())

        with naming(operation, "messages"):
            async with self._session() as session:
                return await session.transact(update) if updates else []

    async def delete_messages(self, *, message_ids: Iterable[str], resource_id: str | None = None) -> None:
        """Delete the messages that there are, with a `resource_id` those it owns, and mark their threads as updated.

        One atomic commit for up to 1,000 messages (16 MiB); more of them go in several.
        """
        ids = _checked_ids("DELETE_MESSAGES", message_ids)
        check_optional_id("DELETE_MESSAGES", "resource_id", resource_id)
        expected = {} if resource_id is None else {"resource_id": resource_id}
        at_once = _DELETED_AT_ONCE

        async def delete(session: AsyncSession) -> None:
            there = _owned(await session.get_many(Message, ids[:at_once]), resource_id)
            for message in there:
                session.delete_key(Message, message.id, expected=expected)
            threads = [message.thread_id for message in there]
            _touch(session, threads if resource_id is None else await _owned_threads(session, threads, resource_id))

        async with self._session() as session:
            while ids:
                try:
                    await session.transact(delete)
                except LimitExceeded:
                    if at_once == 1:
                        raise
                    at_once //= 2
                else:
                    ids = ids[at_once:]


# -- listing -------------------------------------------------------------------------------------------------------


class _Listing:
    """Answers a list: a page of one query or of several merged, counts, and included windows."""

    def __init__(
        self,
        session: AsyncSession,
        queries: Sequence[Query[Message]],
        direction: Literal["asc", "desc"],
        paging: Paging,
        include_total: bool,
    ) -> None:
        self._session = session
        self._queries = queries
        self._direction = direction
        self._paging = paging
        self._include_total = include_total

    async def answer(self, windows: Sequence[Include], resource_id: str | None, whole: set[str] | None) -> MessagePage:
        """The page. `whole` are the threads listed without a filter, if any: the contract's `has_more` looks at them."""
        reads, total, page = self._reads(), None, self._paging
        targets = [Message.query().by_index("by_record_id", id=one["id"]).limit(1) for one in windows]
        answers = await self._session.read(*reads, *targets) if reads or targets else ()
        found = [one[0] if one else None for one in answers[len(reads) :]]
        counts = [one for one in answers[: len(reads)] if isinstance(one, int)]
        listed = self._merged([one for one in answers[: len(reads)] if not isinstance(one, int)])
        if self._include_total:  # of a `per_page` of 0 the contract says that there are none
            total = sum(counts) if counts else len(listed)
        has_more = False
        if page.per_page is not False:
            rows = listed[self._skipped() :]
            listed, has_more = rows[: page.per_page], len(rows) > page.per_page > 0
        included = await self._windows(windows, found, resource_id)
        messages = {message.id: message for message in (*listed, *included)}
        if included and whole is not None and has_more and total is not None:
            # the contract counts included messages of the listed threads as answered
            has_more = sum(message.thread_id in whole for message in messages.values()) < total
        ordered = sorted(messages.values(), key=_place, reverse=self._direction == "desc")
        return MessagePage(ordered, total, page.page, page.per_page, has_more)

    def _skipped(self) -> int:
        """How many of the merged rows come before the page: one query passes over them in the deployment."""
        return 0 if len(self._queries) == 1 else self._paging.offset

    def _reads(self) -> list[Any]:
        per_page, offset = self._paging.per_page, self._paging.offset
        if per_page is False:
            return list(self._queries)
        if per_page == 0:
            return []
        if len(self._queries) == 1:
            reads: list[Any] = [self._queries[0].offset(offset).limit(per_page + 1)]
        else:
            reads = [query.limit(offset + per_page + 1) for query in self._queries]
        return [*reads, *(query.count() for query in self._queries)] if self._include_total else reads

    def _merged(self, lists: Sequence[list[Message]]) -> list[Message]:
        if len(lists) == 1:
            return lists[0]
        rows = [message for one in lists for message in one]
        return sorted(rows, key=_place, reverse=self._direction == "desc")

    async def _windows(
        self, windows: Sequence[Include], found: Sequence[Message | None], resource_id: str | None
    ) -> list[Message]:
        """The included messages and their neighbours, in one call for all of them."""
        included: list[Message] = []
        queries: list[Query[Message]] = []
        for window, target in zip(windows, found, strict=True):
            if target is None or (resource_id is not None and target.resource_id != resource_id):
                continue
            included.append(target)
            thread = Message.query().by_index("by_thread_created", thread_id=target.thread_id).after(target)
            if resource_id is not None:
                thread = thread.where(Message.resource_id == resource_id)
            before, behind = window["with_previous_messages"], window["with_next_messages"]
            queries += [thread.order("desc").limit(before)] if before else []
            queries += [thread.limit(behind)] if behind else []
        if queries:
            for neighbours in await self._session.read(*queries):
                included += neighbours
        return included


def _place(message: Message) -> tuple[Any, float]:
    """Where a message stands in time: messages of one millisecond keep the order they were stored in."""
    return message.created_at, message.creation_time or 0.0


def _checked(
    operation: str,
    filter: MessageFilter | None,
    order_by: OrderBy | None,
    page: int,
    per_page: int | Literal[False] | None,
) -> tuple[list[Condition], Literal["asc", "desc"], Paging]:
    paging = check_paging(operation, page, per_page, default=40)
    _, direction = check_order(operation, order_by, fields=("created_at",), direction="ASC")
    wanted = check_options(operation, "filter", filter, ("date_range", "metadata"))
    conditions = _between(check_date_range(operation, wanted.get("date_range")))
    metadata = check_metadata_filter(operation, wanted.get("metadata"), scalars=True)
    try:
        conditions += [Message.content["metadata"][key] == value for key, value in metadata.items()]
    except ValidationError as error:
        raise InvalidArgument(error.problem, operation=operation, argument="filter.metadata") from error
    return conditions, direction, paging


def _between(dates: DateRange) -> list[Condition]:
    conditions: list[Condition] = []
    if "start" in dates:
        start = dates["start"]
        conditions.append(Message.created_at > start if dates["start_exclusive"] else Message.created_at >= start)
    if "end" in dates:
        end = dates["end"]
        conditions.append(Message.created_at < end if dates["end_exclusive"] else Message.created_at <= end)
    return conditions


def _checked_ids(operation: str, given: Iterable[str]) -> list[str]:
    several = check_several(operation, "message_ids", given)
    return list(dict.fromkeys(check_id(operation, "message_ids", one) for one in several))


# -- changing ------------------------------------------------------------------------------------------------------

_CHANGEABLE = ("id", "thread_id", "resource_id", "role", "type", "content", "created_at")


def _checked_update(operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
    update = dict(check_keys(operation, "messages", given, _CHANGEABLE))
    check_id(operation, "id", update.get("id"))
    for name in ("thread_id", "resource_id"):
        check_optional_id(operation, name, update.get(name))
    if update.get("created_at") is not None:
        update["created_at"] = check_instant(operation, "created_at", update["created_at"])
    for name in ("role", "type"):
        if update.get(name) is not None and not isinstance(update[name], str):
            raise InvalidArgument("a string", operation=operation, argument=name)
    return update


def _apply(operation: str, message: Message, update: Mapping[str, Any]) -> None:
    for name in ("thread_id", "role", "type", "created_at"):
        if update.get(name) is not None:
            setattr(message, name, update[name])
    if "resource_id" in update:
        message.resource_id = update["resource_id"]
    if update.get("content") is not None:
        message.content = _merged_content(operation, message.content, update["content"])


def _merged_content(operation: str, stored: Any, update: Any) -> Any:
    """The content after an update: one that is no object takes the place of what is stored, any other is merged into it."""
    if not isinstance(update, Mapping) or stored is None:
        return update
    before = _in_format_2(operation, stored)
    after = {**before, **update}
    if isinstance(update.get("metadata"), Mapping):
        after["metadata"] = merged(operation, "messages.content.metadata", before.get("metadata"), update["metadata"])
    return after


def _in_format_2(operation: str, stored: Any) -> Mapping[str, Any]:
    """Stored content as an object. In older versions it is a text or a list of parts, whose texts are still the same."""
    if isinstance(stored, Mapping):
        return stored
    if isinstance(stored, str):
        return {"format": 2, "parts": [{"type": "text", "text": stored}]}
    if isinstance(stored, list) and all(isinstance(one, Mapping) and one.get("type") == "text" for one in stored):
        return {"format": 2, "parts": stored}
    raise InvalidArgument(
        "what is stored has no form that an object can be merged into; save the message whole",
        operation=operation,
        argument="messages.content",
        status="NOT_AN_OBJECT",
    )


# -- owners --------------------------------------------------------------------------------------------------------


def _owned(messages: Iterable[Message | None], resource_id: str | None) -> list[Message]:
    """Those that there are, and with a `resource_id` are its."""
    there = (message for message in messages if message is not None)
    return [message for message in there if resource_id in (None, message.resource_id)]


async def _owned_threads(session: AsyncSession, ids: Iterable[str], resource_id: str) -> list[str]:
    """Those of the threads that belong to a resource, and will when the commit is applied."""
    found = await session.get_many(Thread, list(dict.fromkeys(ids)))
    own = [thread.id for thread in found if thread is not None and thread.resource_id == resource_id]
    for id in own:
        expect_owner(session, Thread, id, resource_id)
    return own


async def _keep_in_own_threads(session: AsyncSession, operation: str, moved: Iterable[tuple[str, Message]]) -> None:
    """Raise InvalidArgument for a message in another resource's thread; the commit expects that there is none.

    With each message comes the thread it was in.
    """
    came = {message.id: (before, message, message.thread_id) for before, message in moved}
    messages = [message for _, message, _ in came.values()]
    new = {message.thread_id: message.resource_id for message in messages}
    for thread in await session.get_many(Thread, list(new)):
        if thread is None:
            continue
        del new[thread.id]
        if any(one.resource_id != thread.resource_id for one in messages if one.thread_id == thread.id):
            raise not_theirs(operation, "messages.thread_id", thread.id)
    for message in messages:
        if message.resource_id is not None:
            expect_owner(session, Thread, message.thread_id, message.resource_id)
    await _keep_from_copies(session, operation, new)
    await keep_from_others(session, operation, new)
    for before, message, thread_id in came.values():
        if thread_id in new:  # it goes there after these expectations, not with the changes of its own before them
            message.thread_id = before
            session.update(Message, message.id, {"thread_id": thread_id}, expected={"thread_id": before})


async def _keep_from_copies(session: AsyncSession, operation: str, owners: Mapping[str, str | None]) -> None:
    """Raise InvalidArgument for a thread that is not there yet because a copy to it, of another resource, is under way.

    The commit expects that there is none.
    """
    keys = [(COPIES.table, id) for id in owners]
    for (_, id), note in zip(keys, await session.get_many(Document, keys) if keys else (), strict=True):
        if note is None:
            COPIES.expect_none(session, id)
        elif note.record.get("resource_id") != owners[id]:
            raise not_theirs(operation, "messages.thread_id", id)


async def _save_strictly(session: AsyncSession, operation: str, records: Sequence[Message]) -> None:
    """Store messages under ids, and in threads, that are no other resource's: one commit, which finds that out."""
    messages: dict[str, Message] = {}
    threads: dict[str, str | None] = {}
    for record in records:
        if messages.get(record.id, record).resource_id != record.resource_id:
            raise not_theirs(operation, "messages.id", record.id, "message")
        if threads.get(record.thread_id, record.resource_id) != record.resource_id:
            raise not_theirs(operation, "messages.thread_id", record.thread_id)
        messages[record.id] = record
        threads[record.thread_id] = record.resource_id
    new = dict(threads)
    for thread in await session.get_many(Thread, list(threads)):
        if thread is None:
            continue
        if thread.resource_id != new.pop(thread.id):
            raise not_theirs(operation, "messages.thread_id", thread.id)
    await _keep_from_copies(session, operation, new)
    await keep_from_others(session, operation, new)
    _touch(session, threads)
    for id, owner in threads.items():
        expect_owner(session, Thread, id, str(owner))
    for record in messages.values():
        expect_owner(session, Message, record.id, str(record.resource_id))
        session.upsert(record, returning=False)
    try:
        await session.commit()
    except StaleDataError as error:
        refused = error.instance  # a guard has no instance, a thread or a message that is written has one
        session.expunge_all()  # what is stored is asked for now, not what was to be
        for message in await session.get_many(Message, list(messages)):
            if refused is None and message is not None and message.resource_id != messages[message.id].resource_id:
                raise not_theirs(operation, "messages.id", message.id, "message") from error
        raise


def _touch(session: AsyncSession, thread_ids: Iterable[str]) -> None:
    """Mark threads as updated now, those that there are; never earlier than they were."""
    moment = func.greatest(Thread.updated_at, now())
    for id in dict.fromkeys(thread_ids):
        session.update(Thread, id, {"updated_at": moment}, missing_ok=True)
