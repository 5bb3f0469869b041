"""Generations of observational memory: whose they are, which is the newest, and how one follows another.

Generations with one lookup key, which is a thread's or, without a thread, a resource's, belong to the resource of the
newest one. To every other resource there are none. A generation that has a successor is closed: what is noted in it is
put into the newest one or refused.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from convexorm import AsyncSession, LimitExceeded, Query, StaleDataError
from mastra_convex.arguments import check_id, check_optional_id
from mastra_convex.entities import ObservationalMemory
from mastra_convex.errors import InvalidArgument, ObservationalMemoryNotFound, ObservationalMemoryReplaced
from mastra_convex.instants import now
from mastra_convex.memory.claims import carried

__all__ = [
    "OBSERVING",
    "add_following",
    "check_owner",
    "clear",
    "current",
    "generations_of",
    "lookup_key",
    "newest_for",
    "newest_of",
    "owned_key",
    "stored",
]

OBSERVING = ("is_observing", "is_buffering_observation")
"""Claims on what is observed, which go on in the next generation. Claims on a reflection end with what it reflects on."""


def lookup_key(operation: str, thread_id: str | None, resource_id: str | None) -> str:
    """The key of a thread's generations, or without one of a resource's."""
    if thread_id is None:
        return f"resource:{check_id(operation, 'resource_id', resource_id)}"
    check_optional_id(operation, "resource_id", resource_id)
    return f"thread:{check_id(operation, 'thread_id', thread_id)}"


def owned_key(operation: str, thread_id: str | None, resource_id: str | None) -> str:
    """The same for who says whose they are."""
    check_id(operation, "resource_id", resource_id)
    return lookup_key(operation, thread_id, resource_id)


def generations_of(key: str) -> Query[ObservationalMemory]:
    """All with this key, the newest first."""
    return ObservationalMemory.query().by_index("by_lookup_key", lookup_key=key).order("desc")


async def newest_of(session: AsyncSession, key: str) -> ObservationalMemory | None:
    """The newest with this key, whoever has it."""
    return await session.first(generations_of(key))


async def stored(session: AsyncSession, operation: str, id: str) -> ObservationalMemory:
    """The record with this id. Raises ObservationalMemoryNotFound."""
    record = await session.get(ObservationalMemory, id)
    if record is None:
        raise ObservationalMemoryNotFound(id, operation=operation)
    return record


async def current(session: AsyncSession, operation: str, id: str, *, forward: bool) -> ObservationalMemory:
    """The record with this id, or where that has a successor, and with `forward`, the newest that followed it.

    Raises ObservationalMemoryNotFound, and ObservationalMemoryReplaced for one that has a successor.
    """
    return await newest_for(session, operation, await stored(session, operation, id), forward=forward)


async def newest_for(
    session: AsyncSession, operation: str, record: ObservationalMemory, *, forward: bool
) -> ObservationalMemory:
    """The same for a record that was got."""
    newest = await newest_of(session, record.lookup_key)
    if newest is None:
        raise ObservationalMemoryNotFound(record.id, operation=operation)
    if newest.id == record.id:
        return record
    if forward and newest.resource_id == record.resource_id:
        return newest
    raise ObservationalMemoryReplaced(record.id, newest.id, operation=operation)


def check_owner(operation: str, record: ObservationalMemory | None, resource_id: str | None) -> None:
    """Raise InvalidArgument for a record that is another resource's."""
    if record is not None and record.resource_id != resource_id:
        what = f"the memory of thread {record.thread_id!r}" if record.thread_id else f"observational memory {record.id!r}"
        raise InvalidArgument(f"{what} is another resource's", operation=operation, argument="resource_id")


def add_following(
    session: AsyncSession, record: ObservationalMemory, observations: str, tokens: float, *, first: bool = False
) -> ObservationalMemory:
    """Add the generation after this one, begun by a reflection, if there is none yet when that is committed.

    With `first` there must be none at all with its key. What waits to become active goes over to it, and so does what is
    known of activated cycles and of who is observing.
    """
    moment = now()
    following = ObservationalMemory(
        id=str(uuid4()),
        lookup_key=record.lookup_key,
        scope=record.scope,
        thread_id=record.thread_id,
        resource_id=record.resource_id,
        active_observations=observations,
        origin_type="reflection",
        generation_count=record.generation_count + 1,
        config=record.config,
        metadata=record.metadata,
        observed_timezone=record.observed_timezone,
        last_observed_at=record.last_observed_at,
        last_reflection_at=moment,
        pending_message_tokens=0,
        total_tokens_observed=record.total_tokens_observed,
        observation_token_count=tokens,
        is_reflecting=False,
        is_buffering_reflection=False,
        last_buffered_at_tokens=0,
        activated_cycle_ids=record.activated_cycle_ids,
        created_at=moment,
        updated_at=moment,
        **carried(record, OBSERVING),
    )
    if record.buffered_observation_chunks:
        following.buffered_observation_chunks = record.buffered_observation_chunks
        following.last_buffered_at_tokens = record.last_buffered_at_tokens
        following.last_buffered_at_time = record.last_buffered_at_time
        record.buffered_observation_chunks = None
    taken: dict[str, Any] = {"lookup_key": following.lookup_key}
    if not first:
        taken["generation_count"] = following.generation_count
    session.add(following, unique=ObservationalMemory.query().by_index("by_lookup_key", **taken), returning=False)
    return following


async def clear(session: AsyncSession, key: str, resource_id: str) -> None:
    """Delete a resource's generations with this key: in one commit, or if that is too much in several, the newest last."""
    while True:
        newest = await newest_of(session, key)
        if newest is None or newest.resource_id != resource_id:
            return None
        session.expunge_all()
        before: dict[str, Any] = {"resource_id": resource_id, "generation_count": newest.generation_count}
        session.update(ObservationalMemory, newest.id, {}, expected=before)
        session.delete_range(generations_of(key).order("asc"))
        try:
            return await session.commit()
        except StaleDataError:  # there is a newer one by now, or it is another resource's
            session.rollback()
            continue
        except LimitExceeded as error:
            session.rollback()
            too_many = error
        older = (
            generations_of(key)
            .order("asc")
            .where(ObservationalMemory.generation_count <= newest.generation_count, ObservationalMemory.id != newest.id)
        )
        if not await session.delete_all(older):
            raise too_many
