"""Whose a thread or a message is, decided in the commit that writes.

A commit that is about what belongs to a resource expects it to belong to that resource when it is applied. What was read
before does not count: between reading and writing it may have changed hands.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

from convexorm import AsyncSession
from mastra_convex.entities import Message, Thread
from mastra_convex.errors import InvalidArgument, named
from mastra_convex.instants import now

__all__ = ["expect_no_messages", "expect_owner", "keep_from_others", "not_theirs", "own_thread"]


def expect_owner(session: AsyncSession, model: type[Thread | Message], id: str, resource_id: str) -> None:
    """Let the next commit be refused, with StaleDataError, if there is such a record and it is another resource's."""
    session.update(model, id, {}, expected={"resource_id": resource_id}, missing_ok=True)


def expect_no_messages(session: AsyncSession, thread_id: str) -> None:
    """Let the next commit be refused, with StaleDataError, if there are messages with this thread's id.

    It stores a message that must be the only one there, and deletes it.
    """
    alone = Message(id=str(uuid4()), thread_id=thread_id, content="", role="system", created_at=now())
    session.add(alone, unique=Message.query().by_index("by_thread", thread_id=thread_id), returning=False)
    session.delete_key(Message, alone.id)


async def keep_from_others(session: AsyncSession, operation: str, owners: Mapping[str, str | None]) -> None:
    """Raise InvalidArgument for an id, of no thread there is, where others have messages than who it is to be for.

    `owners` are the resources by the ids. The commit expects that, before the writes that are asked for later: a message of
    the same resource that is there is there still, or there is none.
    """
    reads = []
    for id, owner in owners.items():
        inside = Message.query().by_index("by_thread", thread_id=id)
        stays = inside.where(Message.resource_id == owner)
        reads += [inside.where(Message.resource_id != owner).limit(1), stays.limit(1), inside.limit(1)]
    answers = iter(await session.read(*reads) if reads else ())
    for (id, owner), others, stays, any_ in zip(owners.items(), answers, answers, answers, strict=True):
        if others:
            raise not_theirs(operation, "messages.thread_id", id)
        if stays:
            expected = {"thread_id": id, "resource_id": owner}
            session.update(Message, stays[0].id, {}, expected=expected)
        elif not any_:
            expect_no_messages(session, id)


async def own_thread(session: AsyncSession, id: str, resource_id: str | None) -> Thread | None:
    """The thread, to be changed in the next commit; None where `resource_id` is given and does not own it."""
    thread = await session.get(Thread, id)
    if thread is None or resource_id is None:
        return thread
    if thread.resource_id != resource_id:
        return None
    expect_owner(session, Thread, id, resource_id)
    return thread


def not_theirs(operation: str, argument: str, id: str, kind: str = "thread") -> InvalidArgument:
    """The refusal of an id that another resource has."""
    return InvalidArgument(
        f"the {kind} {named(id)} belongs to another resource",
        operation=operation,
        argument=argument,
        status="OTHER_RESOURCE",
    )
