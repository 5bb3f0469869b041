"""Whose a thread or a message is, decided in the commit that writes.

A commit that is about what belongs to a resource expects it to belong to that resource when it is applied. What was read
before does not count: between reading and writing it may have changed hands.
"""

from __future__ import annotations

from uuid import uuid4

from convexorm import AsyncSession
from mastra_convex.entities import Message, Thread
from mastra_convex.errors import InvalidArgument, named

__all__ = ["expect_no_messages", "expect_owner", "not_theirs", "own_thread"]


def expect_owner(session: AsyncSession, model: type[Thread | Message], id: str, resource_id: str) -> None:
    """Let the next commit be refused, with StaleDataError, if there is such a record and it is another resource's."""
    session.update(model, id, {}, expected={"resource_id": resource_id}, missing_ok=True)


def expect_no_messages(session: AsyncSession, thread: Thread) -> None:
    """Let the next commit be refused, with StaleDataError, if there are messages with this thread's id.

    It stores a message that must be the only one there, and deletes it.
    """
    alone = Message(id=str(uuid4()), thread_id=thread.id, content="", role="system", created_at=thread.created_at)
    session.add(alone, unique=Message.query().by_index("by_thread", thread_id=thread.id), returning=False)
    session.delete_key(Message, alone.id)


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
