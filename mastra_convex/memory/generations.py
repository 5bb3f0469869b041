"""Generations of observational memory: whose they are, which is the newest, and how one follows another.

A resource's generations of a thread, or without a thread of itself, are a row of their own. Other resources may have
observed the same thread, before it was anybody's or when it was theirs: their generations have the same lookup key, as the
npm package makes it, and are in nobody's way. A generation that has a successor is closed: what is noted in it is put into
the newest one or refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

from convexorm import AsyncSession, LimitExceeded, Query, StaleDataError
from mastra_convex.arguments import check_id
from mastra_convex.entities import ObservationalMemory
from mastra_convex.errors import ObservationalMemoryNotFound, ObservationalMemoryReplaced
from mastra_convex.instants import later, now
from mastra_convex.memory.buffering import once
from mastra_convex.memory.claims import carried

__all__ = [
    "OBSERVING",
    "add_following",
    "aside_key",
    "clear",
    "current",
    "generations_by_all",
    "generations_of",
    "hand_over",
    "lookup_key",
    "newest_for",
    "newest_of",
    "same_memory",
    "stored",
    "thread_key",
]

OBSERVING = ("is_observing", "is_buffering_observation")
"""Claims on what is observed, which go on in the next generation. Claims on a reflection end with what it reflects on."""


_ASIDE = "moving:"


def lookup_key(operation: str, thread_id: str | None, resource_id: str | None) -> str:
    """The key of a thread's generations, or without one of a resource's. Whose they are is always said."""
    check_id(operation, "resource_id", resource_id)
    if thread_id is None:
        return f"resource:{resource_id}"
    return thread_key(check_id(operation, "thread_id", thread_id))


def thread_key(thread_id: str) -> str:
    """The key of all that was observed in a thread, by whomever."""
    return f"thread:{thread_id}"


def aside_key(work: str) -> str:
    """The key of the older generations that a move has put aside: nobody asks for it."""
    return f"{_ASIDE}{work}"


def _key_of(record: ObservationalMemory) -> str:
    """The key of the memory that a record is a generation of, also while that is aside."""
    aside = record.lookup_key.startswith(_ASIDE) and record.thread_id is not None
    return thread_key(str(record.thread_id)) if aside else record.lookup_key


def generations_of(key: str, resource_id: str) -> Query[ObservationalMemory]:
    """A resource's generations with this key, the newest first."""
    query = ObservationalMemory.query().by_index("by_lookup_owner", lookup_key=key, resource_id=resource_id)
    return query.order("desc")


def generations_by_all(key: str) -> Query[ObservationalMemory]:
    """Those of all resources with this key, the newest first."""
    return ObservationalMemory.query().by_index("by_lookup_key", lookup_key=key).order("desc")


async def newest_of(session: AsyncSession, key: str, resource_id: str) -> ObservationalMemory | None:
    """The newest of them."""
    return await session.first(generations_of(key, resource_id))


async def stored(session: AsyncSession, operation: str, id: str, resource_id: str | None = None) -> ObservationalMemory:
    """The record with this id. Raises ObservationalMemoryNotFound, with a `resource_id` also for another resource's."""
    record = await session.get(ObservationalMemory, id)
    if record is None or resource_id not in (None, record.resource_id):
        raise ObservationalMemoryNotFound(id, operation=operation)
    return record


async def current(
    session: AsyncSession, operation: str, id: str, resource_id: str | None, *, forward: bool
) -> ObservationalMemory:
    """The record with this id, or where that has a successor, and with `forward`, the newest that followed it.

    Raises ObservationalMemoryNotFound, and ObservationalMemoryReplaced for one that has a successor.
    """
    record = await stored(session, operation, id, resource_id)
    found = await newest_for(session, operation, record, forward=forward)
    if resource_id not in (None, found.resource_id):
        raise ObservationalMemoryNotFound(id, operation=operation)
    return found


async def newest_for(
    session: AsyncSession, operation: str, record: ObservationalMemory, *, forward: bool
) -> ObservationalMemory:
    """The same for a record that was got."""
    if record.resource_id is None:  # another writer's, and nobody's: nothing follows it
        return record
    owner, key = record.resource_id, _key_of(record)
    newest = await newest_of(session, key, owner)
    if newest is None:  # it was given to another resource between the two reads, or is gone: StaleDataError, to begin again
        await session.refresh(record)
        if (record.resource_id, _key_of(record)) == (owner, key):
            raise ObservationalMemoryNotFound(record.id, operation=operation)
        return await newest_for(session, operation, record, forward=forward)
    if newest.id == record.id:
        return record
    if forward:
        return newest
    raise ObservationalMemoryReplaced(record.id, newest.id, operation=operation)


def same_memory(one: ObservationalMemory, other: ObservationalMemory) -> bool:
    """Whether two records are generations of one memory: of one thread and one resource."""
    return (_key_of(one), one.resource_id) == (_key_of(other), other.resource_id)


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
        updated_at=later(record.updated_at, moment),
        **carried(record, OBSERVING),
    )
    if record.buffered_observation_chunks:
        following.buffered_observation_chunks = record.buffered_observation_chunks
        following.last_buffered_at_tokens = record.last_buffered_at_tokens
        following.last_buffered_at_time = record.last_buffered_at_time
        record.buffered_observation_chunks = None
    taken: dict[str, Any] = {"lookup_key": following.lookup_key, "resource_id": following.resource_id}
    if not first:
        taken["generation_count"] = following.generation_count
    session.add(following, unique=ObservationalMemory.query().by_index("by_lookup_owner", **taken), returning=False)
    return following


def hand_over(
    session: AsyncSession,
    generations: Sequence[ObservationalMemory],
    resource_id: str,
    newest: ObservationalMemory | None,
    oldest: ObservationalMemory | None = None,
) -> int:
    """Give generations, the newest first, to another resource, and say how much higher their numbers are then.

    `newest` is what that one has itself, and then becomes an older generation: what waits there to become active goes over,
    before what waits already. `oldest` is the first one that is to follow later. The commit is refused where either memory
    has changed since it was read.
    """
    if not generations:
        return 0
    behind = 0
    if newest is not None:
        first = min(one.generation_count for one in (oldest, generations[-1]) if one is not None)
        behind = max(0, int(newest.generation_count) + 1 - int(first))
    for one in generations:
        values: dict[str, Any] = {"resource_id": resource_id, "updated_at": later(one.updated_at)}
        values["generation_count"] = one.generation_count + behind
        if newest is not None and one is generations[0]:
            waiting = once([*(newest.buffered_observation_chunks or ()), *(one.buffered_observation_chunks or ())])
            known = [*(newest.activated_cycle_ids or ()), *(one.activated_cycle_ids or ())]
            values |= {"buffered_observation_chunks": waiting or None, "activated_cycle_ids": known or None}
        session.update(ObservationalMemory, one.id, values, expected=_as_read(one))
    if newest is not None:
        closed = {"buffered_observation_chunks": None, "updated_at": later(newest.updated_at)}
        session.update(ObservationalMemory, newest.id, closed, expected=_as_read(newest))
    return behind


def _as_read(record: ObservationalMemory) -> dict[str, Any]:
    return {"resource_id": record.resource_id, "updated_at": record.updated_at}


async def clear(
    session: AsyncSession, key: str, resource_id: str, expect: Callable[[], None], settle: Callable[[], Awaitable[None]]
) -> None:
    """Delete a resource's generations with this key: in one commit, or if that is too much in several, the newest last.

    The last commit expects that none of them are aside, which `expect` asks for; `settle` puts back those that are.
    """
    every = generations_of(key, resource_id).order("asc")
    while True:
        newest = await newest_of(session, key, resource_id)
        if newest is None:
            return None
        session.expunge_all()
        before: dict[str, Any] = {"resource_id": resource_id, "generation_count": newest.generation_count}
        session.update(ObservationalMemory, newest.id, {}, expected=before)
        session.delete_range(every)
        expect()
        try:
            return await session.commit()
        except StaleDataError as error:  # there is a newer one by now, or it is another resource's, or some are aside
            session.rollback()
            if error.write:
                await settle()
            continue
        except LimitExceeded as error:
            session.rollback()
            too_many = error
        count = ObservationalMemory.generation_count
        older = every.where(count <= newest.generation_count, ObservationalMemory.id != newest.id)
        if not await session.delete_all(older):
            raise too_many
