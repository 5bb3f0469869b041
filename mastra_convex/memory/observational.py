"""Observational memory: what an observer noted of a thread or of a resource, generation after generation.

A record is one generation. Observations are added to its active ones at once, or buffered in chunks and swapped in later; a
reflection condenses the active ones into the next generation. A memory is a resource's, of one thread or, without a thread,
of itself; to every other resource there is none. A thread that is there is observed for the resource that has it only,
one that is not there for the first one that comes. Methods that are given a record's id take a `resource_id` too: of
another resource there is none then.

Every change of a record gives it a later `updated_at`, so that a change computed from what was read is refused, and
computed again, wherever another writer was faster. Chunks, counters and configuration that are written to a generation
with a successor go to the newest one; what was computed from its observations raises ObservationalMemoryReplaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar
from uuid import uuid4

from convexorm import AsyncSession, Query
from convexorm.schema import Boolean, Number
from mastra_convex.arguments import (
    check_amount,
    check_flag,
    check_id,
    check_instant,
    check_keys,
    check_limit,
    check_list,
    check_mapping,
    check_optional_id,
    check_optional_text,
    check_options,
    check_several,
    check_text,
    check_texts,
    check_whole,
    naming,
)
from mastra_convex.chunks import BufferedObservationChunk
from mastra_convex.domain import AsyncDomain
from mastra_convex.entities import ObservationalMemory, Thread
from mastra_convex.errors import (
    InvalidArgument,
    NoBufferedReflection,
    ObservationalMemoryInvalid,
    ObservationalMemoryNotFound,
    ObservationalMemoryReplaced,
    ObservationsChanged,
    named,
)
from mastra_convex.instants import later, now
from mastra_convex.memory.activation import ActivatedObservations, Activation, appended, reflected, summary
from mastra_convex.memory.buffering import (
    ObservationChunk,
    RefreshedChunk,
    left_buffered,
    new_chunk,
    once,
    refreshed_chunk,
    still_buffered,
    whole_chunk,
)
from mastra_convex.memory.claims import LEASE_MS, claim, release
from mastra_convex.memory.generations import (
    OBSERVING,
    add_following,
    clear,
    current,
    generations_by_all,
    generations_of,
    lookup_key,
    newest_for,
    newest_of,
    same_memory,
    stored,
)
from mastra_convex.memory.moves import Undisturbed
from mastra_convex.memory.owners import expect_owner, not_theirs

__all__ = ["AsyncObservations", "HistoryOptions"]

T = TypeVar("T")

_REMEMBERED = 1_000
"""Cycles that a record knows to be activated, the last ones: a cycle that is sent again comes soon."""

HistoryOptions = TypedDict(
    "HistoryOptions", {"from": datetime, "from_": datetime, "to": datetime, "offset": int}, total=False
)
"""Generations created from `from` (or `from_`) on and up to `to`, both inclusive, without the newest `offset` ones."""


class AsyncObservations(AsyncDomain):
    """The part of the memory contract that is about observational memory."""

    # -- generations -----------------------------------------------------------------------------------------------

    async def get_observational_memory(self, *, thread_id: str | None, resource_id: str) -> ObservationalMemory | None:
        """The newest generation of a thread, or without one of a resource; None where there is none of this resource's."""
        key = lookup_key("GET_OBSERVATIONAL_MEMORY", thread_id, resource_id)
        async with self._session() as session:
            return await newest_of(session, key, resource_id)

    async def get_observational_memory_history(
        self,
        *,
        thread_id: str | None,
        resource_id: str,
        limit: int | None = 10,
        options: HistoryOptions | None = None,
    ) -> list[ObservationalMemory]:
        """Generations, the newest first, the current one among them. Without a `limit` all of them."""
        operation = "GET_OBSERVATIONAL_MEMORY_HISTORY"
        query = generations_of(lookup_key(operation, thread_id, resource_id), resource_id)
        given = check_options(operation, "options", options, ("from", "from_", "to", "offset"))
        for name in ("from", "from_"):
            if given.get(name) is not None:
                start = check_instant(operation, f"options.{name}", given[name])
                query = query.where(ObservationalMemory.created_at >= start)
        if given.get("to") is not None:
            query = query.where(ObservationalMemory.created_at <= check_instant(operation, "options.to", given["to"]))
        if given.get("offset") is not None:
            query = query.offset(check_whole(operation, "options.offset", given["offset"]))
        query = query.limit(check_limit(operation, "limit", limit))
        async with self._session() as session:
            return await session.all(query)

    async def initialize_observational_memory(
        self,
        *,
        thread_id: str | None,
        resource_id: str,
        scope: Literal["thread", "resource"],
        config: Mapping[str, Any],
        observed_timezone: str | None = None,
    ) -> ObservationalMemory:
        """Begin observing a thread or a resource: the first generation, empty. Where there is one, that is answered.

        Of several first callers one stores its generation, and all are answered that one. Raises InvalidArgument for a
        thread that another resource has, or, where the thread is not there, has observed.
        """
        operation = "INITIALIZE_OBSERVATIONAL_MEMORY"
        key = lookup_key(operation, thread_id, resource_id)
        config = dict(check_mapping(operation, "config", config))
        check_optional_text(operation, "observed_timezone", observed_timezone)

        async def begin(session: AsyncSession) -> ObservationalMemory:
            newest, first = await _observing(session, operation, thread_id, resource_id, key)
            if newest is not None:
                return newest
            record = _empty(operation, thread_id, resource_id, scope)
            record.config = config
            record.observed_timezone = observed_timezone
            session.add(record, unique=first, returning=False)
            return record

        _empty(operation, thread_id, resource_id, scope)
        with naming(operation, "config"):
            ObservationalMemory.__mapper__.columns["config"].dump(config)
            async with self._session() as session:
                return await session.transact(begin)

    async def insert_observational_memory_record(self, *, record: ObservationalMemory | Mapping[str, Any]) -> None:
        """Store a generation whole, in place of one with its id: what copies a thread's memory to another thread.

        `record` is a generation, or a mapping of its attributes with at least `id`, `scope`, `resource_id` and, for a
        thread's, `thread_id`. How it is found follows from those, whatever its `lookup_key`. Raises InvalidArgument where
        the id is that of another resource's record, or another resource has the thread or, where it is not there, has
        observed it.

        A new generation whose number is not below the others is the newest then: what waits in the one before it to become
        active, and the cycles that one knows to be activated, go over to it.
        """
        operation = "INSERT_OBSERVATIONAL_MEMORY_RECORD"
        _record(operation, "record", record)

        async def insert(session: AsyncSession) -> None:
            new = _record(operation, "record", record)
            held = await session.get(ObservationalMemory, new.id)
            if held is not None and held.resource_id != new.resource_id:
                raise _anothers(operation, f"observational memory {named(held.id)}")
            newest, first = await _observing(session, operation, new.thread_id, str(new.resource_id), new.lookup_key)
            if held is not None:
                new.updated_at = later(held.updated_at, new.updated_at)
                expected = {"resource_id": held.resource_id, "updated_at": held.updated_at}
                session.expunge(held)
                session.update(ObservationalMemory, new.id, {}, expected=expected)
                session.upsert(new, returning=False)
            elif newest is None:
                session.add(new, unique=first, returning=False)
            else:
                if new.generation_count >= newest.generation_count:
                    _succeed(newest, new)
                session.add(new, returning=False)

        with naming(operation, "record"):
            async with self._session() as session:
                await session.transact(insert)

    async def clear_observational_memory(self, *, thread_id: str | None, resource_id: str) -> None:
        """Delete all generations of a thread, or without one of a resource; nothing happens to another resource's."""
        key = lookup_key("CLEAR_OBSERVATIONAL_MEMORY", thread_id, resource_id)
        async with self._session() as session:
            moves = Undisturbed(session, thread_id, resource_id)
            await clear(session, key, resource_id, moves.expect, moves.settle)

    # -- observations ----------------------------------------------------------------------------------------------

    async def update_active_observations(
        self,
        *,
        id: str,
        observations: str,
        token_count: float,
        last_observed_at: datetime,
        observed_message_ids: Sequence[str] | None = None,
        observed_timezone: str | None = None,
        expected_observations: str | None = None,
        resource_id: str | None = None,
    ) -> None:
        """Replace the active observations; no message is pending any more.

        `token_count` is their size, and is added to the tokens observed in total. None leaves ids and timezone as they are.
        With `expected_observations`, the ones these were made from, nothing that another observer has noted since is
        overwritten: that raises ObservationsChanged. Raises ObservationalMemoryNotFound, and ObservationalMemoryReplaced
        for a generation that has a successor.
        """
        operation = "UPDATE_ACTIVE_OBSERVATIONS"
        check_text(operation, "observations", observations)
        tokens = check_amount(operation, "token_count", token_count)
        moment = check_instant(operation, "last_observed_at", last_observed_at)
        ids = None if observed_message_ids is None else check_texts(operation, "observed_message_ids", observed_message_ids)
        timezone = check_optional_text(operation, "observed_timezone", observed_timezone)
        check_optional_text(operation, "expected_observations", expected_observations)

        def update(record: ObservationalMemory) -> None:
            if expected_observations is not None and record.active_observations != expected_observations:
                raise ObservationsChanged(id, operation=operation)
            record.active_observations = observations
            record.last_observed_at = moment
            record.pending_message_tokens = 0
            record.observation_token_count = tokens
            record.total_tokens_observed += tokens
            if ids is not None:
                record.observed_message_ids = ids
            if timezone is not None:
                record.observed_timezone = timezone

        await self._change(operation, id, resource_id, update, "observations", forward=False)

    async def update_buffered_observations(
        self,
        *,
        id: str,
        chunk: ObservationChunk,
        last_buffered_at_time: datetime | None = None,
        resource_id: str | None = None,
    ) -> None:
        """Buffer what a cycle observed, behind what others did.

        A cycle that is buffered already, or that is among the last 1,000 that became active, changes nothing. Raises
        ObservationalMemoryNotFound.
        """
        operation = "UPDATE_BUFFERED_OBSERVATIONS"
        new = new_chunk(operation, chunk)
        if last_buffered_at_time is not None:
            last_buffered_at_time = check_instant(operation, "last_buffered_at_time", last_buffered_at_time)

        def append(record: ObservationalMemory) -> bool:
            chunks = record.buffered_observation_chunks or []
            if new.cycle_id in (record.activated_cycle_ids or ()) or any(one.cycle_id == new.cycle_id for one in chunks):
                return False
            record.buffered_observation_chunks = [*chunks, new]
            if last_buffered_at_time is not None:
                record.last_buffered_at_time = last_buffered_at_time
            return True

        await self._change(operation, id, resource_id, append, "chunk")

    async def swap_buffered_to_active(
        self,
        *,
        id: str,
        activation_ratio: float,
        message_tokens_threshold: float,
        current_pending_tokens: float,
        force_max_activation: bool = False,
        last_observed_at: datetime | None = None,
        buffered_chunks: Sequence[BufferedObservationChunk | RefreshedChunk] | None = None,
        resource_id: str | None = None,
    ) -> ActivatedObservations:
        """Make the first buffered chunks active, as many as bring the pending tokens nearest to the retention floor,
        `message_tokens_threshold * (1 - activation_ratio)`; with `force_max_activation` rather more.

        `buffered_chunks` are the chunks as the caller knows them, with fresh message tokens; what others have activated
        since is left out, what they have buffered since stays buffered. The activated observations stand behind a boundary
        with `last_observed_at`, by default that of the newest activated chunk. Their tokens count as active, not once more
        as observed. Raises ObservationalMemoryNotFound.
        """
        operation = "SWAP_BUFFERED_TO_ACTIVE"
        ratio = check_amount(operation, "activation_ratio", activation_ratio)
        if ratio > 1:
            raise InvalidArgument("a number from 0 to 1", operation=operation, argument="activation_ratio")
        activation = Activation(
            ratio,
            check_amount(operation, "message_tokens_threshold", message_tokens_threshold),
            check_amount(operation, "current_pending_tokens", current_pending_tokens),
            check_flag(operation, "force_max_activation", force_max_activation),
        )
        if last_observed_at is not None:
            last_observed_at = check_instant(operation, "last_observed_at", last_observed_at)
        refreshed = (
            None
            if buffered_chunks is None
            else [refreshed_chunk(operation, one) for one in check_several(operation, "buffered_chunks", buffered_chunks)]
        )
        activated = ActivatedObservations()

        def swap(record: ObservationalMemory) -> bool:
            nonlocal activated
            activated = ActivatedObservations()
            buffered = record.buffered_observation_chunks or []
            known = buffered if refreshed is None else still_buffered(buffered, refreshed)
            if not known:
                return False
            chosen = known[: activation.count(known)]
            activated = summary(chosen)
            record.last_observed_at = last_observed_at or chosen[-1].last_observed_at
            record.active_observations = appended(record.active_observations, chosen, record.last_observed_at)
            record.observation_token_count += activated.observation_tokens_activated
            record.pending_message_tokens = max(0, record.pending_message_tokens - activated.message_tokens_activated)
            record.buffered_observation_chunks = left_buffered(buffered, known, chosen) or None
            record.activated_cycle_ids = [*(record.activated_cycle_ids or ()), *activated.activated_cycle_ids][
                -_REMEMBERED:
            ]
            return True

        await self._change(operation, id, resource_id, swap, "buffered_chunks")
        return activated

    # -- reflections -----------------------------------------------------------------------------------------------

    async def create_reflection_generation(
        self, *, current_record: ObservationalMemory | Mapping[str, Any], reflection: str, token_count: float
    ) -> ObservationalMemory:
        """The next generation, with the reflection as its active observations.

        What carries over (config, metadata, total tokens, when it was last observed, the buffered chunks) is that of the
        stored record, or of `current_record` where a resource's record is not stored. What has been noted behind the
        observations that `current_record` holds stands behind the reflection, its tokens counted too. Of several
        reflections on one record one is stored: the others raise ObservationalMemoryReplaced, or ObservationsChanged where
        the reflection is on observations that are no longer there. Raises ObservationalMemoryNotFound for a thread's
        record that is not stored, and for one that is not of this thread and this resource.
        """
        operation = "CREATE_REFLECTION_GENERATION"
        given = _record(operation, "current_record", current_record)
        read = isinstance(current_record, ObservationalMemory) or current_record.get("active_observations") is not None
        check_text(operation, "reflection", reflection)
        tokens = check_amount(operation, "token_count", token_count)

        async def create(session: AsyncSession) -> ObservationalMemory:
            held = await session.get(ObservationalMemory, given.id)
            if held is None:
                return await self._begin_late(session, operation, given, reflection, tokens)
            record = await newest_for(session, operation, _of(operation, held, given), forward=False)
            active, known = record.active_observations, given.active_observations if read else record.active_observations
            if not active.startswith(known):
                raise ObservationsChanged(record.id, operation=operation)
            since = active[len(known) :]
            size = tokens + max(0, record.observation_token_count - given.observation_token_count) if since else tokens
            following = add_following(session, record, reflected(since, reflection, 0), size)
            _stamp(record)
            return following

        with naming(operation, "current_record"):
            async with self._session() as session:
                return await session.transact(create)

    async def _begin_late(
        self, session: AsyncSession, operation: str, given: ObservationalMemory, reflection: str, tokens: float
    ) -> ObservationalMemory:
        """A reflection on a record that is not stored: the first generation there is, of a resource. A thread's memory
        that is not there was deleted with the thread, and does not come back."""
        if given.thread_id is not None:
            raise ObservationalMemoryNotFound(given.id, operation=operation)
        newest = await newest_of(session, given.lookup_key, str(given.resource_id))
        if newest is not None and newest.generation_count <= given.generation_count:
            raise ObservationalMemoryNotFound(given.id, operation=operation)
        if newest is not None:
            raise ObservationalMemoryReplaced(given.id, newest.id, operation=operation)
        return add_following(session, given, reflection, tokens, first=True)

    async def update_buffered_reflection(
        self,
        *,
        id: str,
        reflection: str,
        token_count: float,
        input_token_count: float,
        reflected_observation_line_count: int,
        resource_id: str | None = None,
    ) -> None:
        """Buffer a reflection on the first lines of the active observations, behind what is buffered already.

        Raises ObservationalMemoryNotFound, and ObservationalMemoryReplaced for a generation that has a successor.
        """
        operation = "UPDATE_BUFFERED_REFLECTION"
        check_text(operation, "reflection", reflection)
        tokens = check_amount(operation, "token_count", token_count)
        input_tokens = check_amount(operation, "input_token_count", input_token_count)
        lines = check_whole(operation, "reflected_observation_line_count", reflected_observation_line_count)

        def update(record: ObservationalMemory) -> None:
            before = record.buffered_reflection
            record.buffered_reflection = f"{before}\n\n{reflection}" if before else reflection
            record.buffered_reflection_tokens = (record.buffered_reflection_tokens or 0) + tokens
            record.buffered_reflection_input_tokens = (record.buffered_reflection_input_tokens or 0) + input_tokens
            record.reflected_observation_line_count = lines

        await self._change(operation, id, resource_id, update, "reflection", forward=False)

    async def swap_buffered_reflection_to_active(
        self, *, current_record: ObservationalMemory | Mapping[str, Any], token_count: float
    ) -> ObservationalMemory:
        """The next generation: the buffered reflection, and behind it what was observed since it was made.

        `token_count` is the size of both together. The record keeps its observations and loses its buffered reflection, so
        of several swaps one succeeds; its buffered chunks go over to the next generation. Raises
        ObservationalMemoryNotFound, also for a record that is not of this thread and this resource, NoBufferedReflection,
        and ObservationalMemoryReplaced for a generation that has a successor.
        """
        operation = "SWAP_BUFFERED_REFLECTION_TO_ACTIVE"
        given = _record(operation, "current_record", current_record)
        tokens = check_amount(operation, "token_count", token_count)

        async def swap(session: AsyncSession) -> ObservationalMemory:
            held = _of(operation, await stored(session, operation, given.id), given)
            if not held.buffered_reflection:
                raise NoBufferedReflection(held.id, operation=operation)
            record = await newest_for(session, operation, held, forward=False)
            reflection = record.buffered_reflection
            if not reflection:  # another swap was faster, between the two reads
                raise NoBufferedReflection(record.id, operation=operation)
            lines = int(record.reflected_observation_line_count or 0)
            following = add_following(session, record, reflected(record.active_observations, reflection, lines), tokens)
            record.buffered_reflection = None
            record.buffered_reflection_tokens = None
            record.buffered_reflection_input_tokens = None
            record.reflected_observation_line_count = None
            _stamp(record)
            return following

        with naming(operation, "current_record"):
            async with self._session() as session:
                return await session.transact(swap)

    # -- flags, counters, configuration ----------------------------------------------------------------------------

    async def set_observing_flag(
        self,
        *,
        id: str,
        is_observing: bool,
        owner: str | None = None,
        lease_ms: float = LEASE_MS,
        resource_id: str | None = None,
    ) -> bool:
        """Claim the observation of this memory, or give the claim back, and say whether that was done.

        A claim is taken where it is free. It is free again when it is given back, or after `lease_ms` (ten minutes),
        since its owner may be dead; a flag that the npm package has set is free when the record has not changed for ten
        minutes. An `owner`, a name that no other process has, can take its claim again, for a new term, and cannot give
        back another's; without one any claim is given back. A claim goes over to the next generation. Raises
        ObservationalMemoryNotFound, as the following do.
        """
        return await self._flag("SET_OBSERVING_FLAG", id, resource_id, "is_observing", is_observing, owner, lease_ms)

    async def set_reflecting_flag(
        self,
        *,
        id: str,
        is_reflecting: bool,
        owner: str | None = None,
        lease_ms: float = LEASE_MS,
        resource_id: str | None = None,
    ) -> bool:
        """Claim the reflection on this generation, or give the claim back, likewise. One with a successor is never free."""
        return await self._flag("SET_REFLECTING_FLAG", id, resource_id, "is_reflecting", is_reflecting, owner, lease_ms)

    async def set_buffering_observation_flag(
        self,
        *,
        id: str,
        is_buffering: bool,
        last_buffered_at_tokens: float | None = None,
        owner: str | None = None,
        lease_ms: float = LEASE_MS,
        resource_id: str | None = None,
    ) -> bool:
        """Claim the buffering of observations, or give the claim back, as with the observation itself.

        `last_buffered_at_tokens` says at how many pending tokens that began; None leaves it, as does a claim that fails.
        """
        operation = "SET_BUFFERING_OBSERVATION_FLAG"
        values: dict[str, Any] = {}
        if last_buffered_at_tokens is not None:
            values["last_buffered_at_tokens"] = check_amount(operation, "last_buffered_at_tokens", last_buffered_at_tokens)
        return await self._flag(
            operation, id, resource_id, "is_buffering_observation", is_buffering, owner, lease_ms, values
        )

    async def set_buffering_reflection_flag(
        self,
        *,
        id: str,
        is_buffering: bool,
        owner: str | None = None,
        lease_ms: float = LEASE_MS,
        resource_id: str | None = None,
    ) -> bool:
        """Claim the buffering of a reflection, or give the claim back, as with the reflection itself."""
        operation = "SET_BUFFERING_REFLECTION_FLAG"
        return await self._flag(operation, id, resource_id, "is_buffering_reflection", is_buffering, owner, lease_ms)

    async def set_pending_message_tokens(self, *, id: str, token_count: float, resource_id: str | None = None) -> None:
        """Store how many tokens of messages are not yet observed."""
        operation = "SET_PENDING_MESSAGE_TOKENS"
        tokens = check_amount(operation, "token_count", token_count, status="INVALID_INPUT")

        def update(record: ObservationalMemory) -> None:
            record.pending_message_tokens = tokens

        await self._change(operation, id, resource_id, update, "token_count")

    async def update_observational_memory_config(
        self, *, id: str, config: Mapping[str, Any], resource_id: str | None = None
    ) -> None:
        """Merge `config` into the record's, mappings into mappings at every depth; None is a value like any other.

        Concurrent updates are all kept. Raises ObservationalMemoryNotFound, and ObservationalMemoryInvalid for a stored
        configuration that is no object.
        """
        operation = "UPDATE_OBSERVATIONAL_MEMORY_CONFIG"
        check_mapping(operation, "config", config)

        def update(record: ObservationalMemory) -> None:
            before = record.config
            if not isinstance(before, Mapping) and before not in (None, ""):
                raise ObservationalMemoryInvalid(record.id, operation=operation)
            record.config = _merged(before or {}, config)

        await self._change(operation, id, resource_id, update, "config")

    # -- underneath ------------------------------------------------------------------------------------------------

    async def _change(
        self,
        operation: str,
        id: str,
        resource_id: str | None,
        change: Callable[[ObservationalMemory], bool | None],
        argument: str,
        *,
        forward: bool = True,
    ) -> None:
        """Change a stored record atomically, with `forward` the newest that followed it; nothing is written where
        `change` answers False.

        `argument` is what a value comes from that cannot be stored.
        """
        check_id(operation, "id", id)
        check_optional_id(operation, "resource_id", resource_id)

        async def run(session: AsyncSession) -> None:
            record = await current(session, operation, id, resource_id, forward=forward)
            if change(record) is not False:
                _stamp(record)

        with naming(operation, argument):
            async with self._session() as session:
                await session.transact(run)

    async def _flag(
        self,
        operation: str,
        id: str,
        resource_id: str | None,
        flag: str,
        value: bool,
        owner: str | None,
        lease_ms: float,
        values: Mapping[str, Any] | None = None,
    ) -> bool:
        """Take a claim or give it back, and set other attributes with it."""
        check_id(operation, "id", id)
        check_optional_id(operation, "resource_id", resource_id)
        check_flag(operation, "is_buffering" if flag.startswith("is_buffering") else flag, value)
        if owner is not None:
            check_id(operation, "owner", owner)
        check_amount(operation, "lease_ms", lease_ms)

        async def run(session: AsyncSession) -> bool:
            try:
                record = await current(session, operation, id, resource_id, forward=flag in OBSERVING)
            except ObservationalMemoryReplaced:
                if value:
                    return False
                record = await stored(session, operation, id, resource_id)
            done = claim(record, flag, owner, lease_ms, now()) if value else release(record, flag, owner)
            if done:
                for name, one in (values or {}).items():
                    setattr(record, name, one)
                _stamp(record)
            return done

        with naming(operation, ""):
            async with self._session() as session:
                return await session.transact(run)


# -- owners --------------------------------------------------------------------------------------------------------


async def _observing(
    session: AsyncSession, operation: str, thread_id: str | None, resource_id: str, key: str
) -> tuple[ObservationalMemory | None, Query[ObservationalMemory]]:
    """The newest generation that a resource has, and of what there must be none if it begins.

    Raises InvalidArgument for a thread that is another resource's; the next commit expects that it is not.
    """
    own = generations_of(key, resource_id)
    if thread_id is None:
        return await session.first(own), own
    every = generations_by_all(key)
    newest, threads, all_ = await session.read(
        own.limit(1), Thread.query().by_index("by_record_id", id=thread_id).limit(1), every.limit(1)
    )
    if threads and threads[0].resource_id != resource_id:
        raise not_theirs(operation, "thread_id", thread_id)
    if not threads and all_ and all_[0].resource_id not in (resource_id, None):
        raise _anothers(operation, f"the memory of thread {named(thread_id)}")
    expect_owner(session, Thread, thread_id, resource_id)
    return newest[0] if newest else None, own if threads or all_ else every


def _anothers(operation: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"{what} is another resource's", operation=operation, argument="resource_id")


def _of(operation: str, held: ObservationalMemory, given: ObservationalMemory) -> ObservationalMemory:
    """The stored record, if it is of the memory that the caller says. Raises ObservationalMemoryNotFound."""
    if not same_memory(held, given):
        raise ObservationalMemoryNotFound(held.id, operation=operation)
    return held


# -- records -------------------------------------------------------------------------------------------------------


def _succeed(before: ObservationalMemory, following: ObservationalMemory) -> None:
    """Let a generation that comes from elsewhere follow another one, in which nothing stays that waits."""
    waiting = once([*(before.buffered_observation_chunks or ()), *(following.buffered_observation_chunks or ())])
    known = dict.fromkeys((*(before.activated_cycle_ids or ()), *(following.activated_cycle_ids or ())))
    following.buffered_observation_chunks = waiting or None
    following.activated_cycle_ids = list(known)[-_REMEMBERED:] or None
    before.buffered_observation_chunks = None
    _stamp(before)


def _stamp(record: ObservationalMemory) -> None:
    """Mark the record as changed: later than it was, even where clocks differ or stand still."""
    record.updated_at = later(record.updated_at, now())


_UNSET: Mapping[str, Any] = {
    "active_observations": "",
    "origin_type": "initial",
    "generation_count": 0,
    "pending_message_tokens": 0,
    "total_tokens_observed": 0,
    "observation_token_count": 0,
    "is_observing": False,
    "is_reflecting": False,
    "is_buffering_observation": False,
    "is_buffering_reflection": False,
    "last_buffered_at_tokens": 0,
}
"""What an attribute is where nothing is given for it."""
_MOMENTS = ("last_observed_at", "last_reflection_at", "last_buffered_at_time", "created_at", "updated_at")


def _empty(operation: str, thread_id: str | None, resource_id: str | None, scope: str) -> ObservationalMemory:
    if scope not in ("thread", "resource"):
        raise InvalidArgument("'thread' or 'resource'", operation=operation, argument="scope")
    moment = now()
    return ObservationalMemory(
        id=str(uuid4()),
        lookup_key=lookup_key(operation, thread_id, resource_id),
        scope=scope,
        thread_id=thread_id,
        resource_id=resource_id,
        config={},
        created_at=moment,
        updated_at=moment,
        **_UNSET,
    )


def _record(operation: str, argument: str, given: ObservationalMemory | Mapping[str, Any]) -> ObservationalMemory:
    """A new instance with the attributes of `given`, checked and filled in."""
    columns = ObservationalMemory.__mapper__.columns
    if isinstance(given, ObservationalMemory):
        values = {name: getattr(given, name) for name in columns}
    else:
        values = dict(check_keys(operation, argument, given, tuple(columns)))
    check_id(operation, f"{argument}.id", values.get("id"))
    check_id(operation, f"{argument}.resource_id", values.get("resource_id"))
    record = _empty(operation, values.get("thread_id"), values.get("resource_id"), values.get("scope", ""))
    for name, value in values.items():
        if value is None or name == "lookup_key":
            continue
        if name == "buffered_observation_chunks":
            value = [whole_chunk(operation, one) for one in check_list(operation, f"{argument}.{name}", value)]
        else:
            value = _CHECKS[name](operation, f"{argument}.{name}", value)
        setattr(record, name, dict(value) if isinstance(value, Mapping) else value)
    return record


_Check: TypeAlias = Callable[[str, str, object], Any]
_BY_VALIDATOR: Mapping[type, _Check] = {Number: check_amount, Boolean: check_flag}
_CHECKS: Mapping[str, _Check] = {
    **{
        name: _BY_VALIDATOR.get(type(column.type.validator), check_text)
        for name, column in ObservationalMemory.__mapper__.columns.items()
    },
    **dict.fromkeys(_MOMENTS, check_instant),
    **dict.fromkeys(("config", "metadata", "claims"), check_mapping),
    **dict.fromkeys(("observed_message_ids", "buffered_message_ids", "activated_cycle_ids"), check_texts),
}
"""What an attribute may be."""


def _merged(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(stored)
    for key, value in given.items():
        before = stored.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return merged
