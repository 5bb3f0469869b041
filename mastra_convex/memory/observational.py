"""Observational memory: what an observer noted of a thread or of a resource, generation after generation.

A record is one generation. Observations are added to its active ones at once, or buffered in chunks and swapped in later; a
reflection condenses the active ones into the next generation. Records of a thread are found by the thread alone, whatever
its resource; those without a thread by their resource.

Every change of a record gives it a later `updated_at`, so that a change computed from what was read is refused, and
computed again, wherever another writer was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict, TypeVar
from uuid import uuid4

from convexorm import AsyncSession, Query, StaleDataError
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
from mastra_convex.entities import ObservationalMemory
from mastra_convex.errors import InvalidArgument, NoBufferedReflection, ObservationalMemoryNotFound
from mastra_convex.instants import now
from mastra_convex.memory.activation import ActivatedObservations, Activation, appended, reflected, summary
from mastra_convex.memory.buffering import (
    ObservationChunk,
    RefreshedChunk,
    left_buffered,
    new_chunk,
    refreshed_chunk,
    still_buffered,
    whole_chunk,
)

__all__ = ["AsyncObservations", "HistoryOptions"]

T = TypeVar("T")

_TICK = timedelta(milliseconds=1)

HistoryOptions = TypedDict(
    "HistoryOptions", {"from": datetime, "from_": datetime, "to": datetime, "offset": int}, total=False
)
"""Generations created from `from` (or `from_`) on and up to `to`, both inclusive, without the newest `offset` ones."""


class AsyncObservations(AsyncDomain):
    """The part of the memory contract that is about observational memory."""

    # -- generations -----------------------------------------------------------------------------------------------

    async def get_observational_memory(self, *, thread_id: str | None, resource_id: str) -> ObservationalMemory | None:
        """The newest generation of a thread, or without one of a resource; None where there is none."""
        query = _generations("GET_OBSERVATIONAL_MEMORY", thread_id, resource_id)
        async with self._session() as session:
            return await session.first(query)

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
        query = _generations(operation, thread_id, resource_id)
        given = check_options(operation, "options", options, ("from", "from_", "to", "offset"))
        start = given.get("from") or given.get("from_")
        if start is not None:
            query = query.where(ObservationalMemory.created_at >= check_instant(operation, "options.from", start))
        if given.get("to") is not None:
            query = query.where(ObservationalMemory.created_at <= check_instant(operation, "options.to", given["to"]))
        query = query.offset(check_whole(operation, "options.offset", given.get("offset") or 0))
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
        """Begin observing a thread or a resource: the first generation, empty."""
        operation = "INITIALIZE_OBSERVATIONAL_MEMORY"
        check_id(operation, "resource_id", resource_id)
        record = _empty(operation, thread_id, resource_id, scope)
        record.config = dict(check_mapping(operation, "config", config))
        record.observed_timezone = check_optional_text(operation, "observed_timezone", observed_timezone)
        with naming(operation, "config"):
            async with self._session() as session:
                session.add(record, returning=False)
                await session.commit()
        return record

    async def insert_observational_memory_record(self, *, record: ObservationalMemory | Mapping[str, Any]) -> None:
        """Store a generation whole, in place of one with its id: what copies a thread's memory to another thread.

        `record` is a generation, or a mapping of its attributes with at least `id`, `scope`, `resource_id` and, for a
        thread's, `thread_id`. How it is found follows from those, whatever its `lookup_key`.
        """
        operation = "INSERT_OBSERVATIONAL_MEMORY_RECORD"
        stored = _record(operation, "record", record)
        with naming(operation, "record"):
            async with self._session() as session:
                session.upsert(stored, returning=False)
                await session.commit()

    async def clear_observational_memory(self, *, thread_id: str | None, resource_id: str) -> None:
        """Delete all generations of a thread, or without one of a resource."""
        query = _generations("CLEAR_OBSERVATIONAL_MEMORY", thread_id, resource_id).order("asc")
        async with self._session() as session:
            await session.delete_all(query)

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
    ) -> None:
        """Replace the active observations; no message is pending any more.

        `token_count` is their size, and is added to the tokens observed in total. None leaves ids and timezone as they are.
        Raises ObservationalMemoryNotFound.
        """
        operation = "UPDATE_ACTIVE_OBSERVATIONS"
        check_text(operation, "observations", observations)
        tokens = check_amount(operation, "token_count", token_count)
        moment = check_instant(operation, "last_observed_at", last_observed_at)
        ids = None if observed_message_ids is None else check_texts(operation, "observed_message_ids", observed_message_ids)
        timezone = check_optional_text(operation, "observed_timezone", observed_timezone)

        def update(record: ObservationalMemory) -> None:
            record.active_observations = observations
            record.last_observed_at = moment
            record.pending_message_tokens = 0
            record.observation_token_count = tokens
            record.total_tokens_observed += tokens
            if ids is not None:
                record.observed_message_ids = ids
            if timezone is not None:
                record.observed_timezone = timezone

        await self._change(operation, id, update, "observations")

    async def update_buffered_observations(
        self, *, id: str, chunk: ObservationChunk, last_buffered_at_time: datetime | None = None
    ) -> None:
        """Buffer what a cycle observed, behind what others did. A cycle that is buffered already changes nothing.

        Raises ObservationalMemoryNotFound.
        """
        operation = "UPDATE_BUFFERED_OBSERVATIONS"
        new = new_chunk(operation, chunk)
        if last_buffered_at_time is not None:
            last_buffered_at_time = check_instant(operation, "last_buffered_at_time", last_buffered_at_time)

        def append(record: ObservationalMemory) -> bool:
            chunks = record.buffered_observation_chunks or []
            if any(one.cycle_id == new.cycle_id for one in chunks):
                return False
            record.buffered_observation_chunks = [*chunks, new]
            if last_buffered_at_time is not None:
                record.last_buffered_at_time = last_buffered_at_time
            return True

        await self._change(operation, id, append, "chunk")

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
            stored = record.buffered_observation_chunks or []
            known = stored if refreshed is None else still_buffered(stored, refreshed)
            if not known:
                return False
            chosen = known[: activation.count(known)]
            activated = summary(chosen)
            record.last_observed_at = last_observed_at or chosen[-1].last_observed_at
            record.active_observations = appended(record.active_observations, chosen, record.last_observed_at)
            record.observation_token_count += activated.observation_tokens_activated
            record.pending_message_tokens = max(0, record.pending_message_tokens - activated.message_tokens_activated)
            record.buffered_observation_chunks = left_buffered(stored, known, chosen) or None
            return True

        await self._change(operation, id, swap, "buffered_chunks")
        return activated

    # -- reflections -----------------------------------------------------------------------------------------------

    async def create_reflection_generation(
        self, *, current_record: ObservationalMemory | Mapping[str, Any], reflection: str, token_count: float
    ) -> ObservationalMemory:
        """The next generation, with the reflection as its active observations.

        What carries over (config, metadata, total tokens, when it was last observed) is that of the stored record, or of
        `current_record` where it is not stored.
        """
        operation = "CREATE_REFLECTION_GENERATION"
        current = _record(operation, "current_record", current_record)
        check_text(operation, "reflection", reflection)
        tokens = check_amount(operation, "token_count", token_count)

        async def create(session: AsyncSession) -> ObservationalMemory:
            stored = await session.get(ObservationalMemory, current.id)
            following = _following(stored or current, reflection, tokens)
            session.add(following, returning=False)
            return following

        with naming(operation, "current_record"):
            async with self._session() as session:
                return await session.transact(create)

    async def update_buffered_reflection(
        self,
        *,
        id: str,
        reflection: str,
        token_count: float,
        input_token_count: float,
        reflected_observation_line_count: int,
    ) -> None:
        """Buffer a reflection on the first lines of the active observations, behind what is buffered already.

        Raises ObservationalMemoryNotFound.
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

        await self._change(operation, id, update, "reflection")

    async def swap_buffered_reflection_to_active(
        self, *, current_record: ObservationalMemory | Mapping[str, Any], token_count: float
    ) -> ObservationalMemory:
        """The next generation: the buffered reflection, and behind it what was observed since it was made.

        `token_count` is the size of both together. The record keeps its observations and loses its buffered reflection, so
        of several swaps one succeeds. Raises ObservationalMemoryNotFound and NoBufferedReflection.
        """
        operation = "SWAP_BUFFERED_REFLECTION_TO_ACTIVE"
        current = _record(operation, "current_record", current_record)
        tokens = check_amount(operation, "token_count", token_count)

        async def swap(session: AsyncSession) -> ObservationalMemory:
            record = await _stored(session, operation, current.id)
            if not record.buffered_reflection:
                raise NoBufferedReflection(record.id, operation=operation)
            lines = int(record.reflected_observation_line_count or 0)
            following = _following(record, reflected(record.active_observations, record.buffered_reflection, lines), tokens)
            session.add(following, returning=False)
            record.buffered_reflection = None
            record.buffered_reflection_tokens = None
            record.buffered_reflection_input_tokens = None
            record.reflected_observation_line_count = None
            _stamp(record)
            return following

        async with self._session() as session:
            return await session.transact(swap)

    # -- flags, counters, configuration ----------------------------------------------------------------------------

    async def set_observing_flag(self, *, id: str, is_observing: bool) -> None:
        """Say whether an observation is under way. Raises ObservationalMemoryNotFound, as the following do."""
        await self._set("SET_OBSERVING_FLAG", id, is_observing=is_observing)

    async def set_reflecting_flag(self, *, id: str, is_reflecting: bool) -> None:
        """Say whether a reflection is under way."""
        await self._set("SET_REFLECTING_FLAG", id, is_reflecting=is_reflecting)

    async def set_buffering_observation_flag(
        self, *, id: str, is_buffering: bool, last_buffered_at_tokens: float | None = None
    ) -> None:
        """Say whether observations are being buffered, and at how many pending tokens that began; None leaves those."""
        operation = "SET_BUFFERING_OBSERVATION_FLAG"
        check_flag(operation, "is_buffering", is_buffering)
        values: dict[str, Any] = {"is_buffering_observation": is_buffering}
        if last_buffered_at_tokens is not None:
            values["last_buffered_at_tokens"] = check_amount(operation, "last_buffered_at_tokens", last_buffered_at_tokens)
        await self._set(operation, id, **values)

    async def set_buffering_reflection_flag(self, *, id: str, is_buffering: bool) -> None:
        """Say whether a reflection is being buffered."""
        operation = "SET_BUFFERING_REFLECTION_FLAG"
        await self._set(operation, id, is_buffering_reflection=check_flag(operation, "is_buffering", is_buffering))

    async def set_pending_message_tokens(self, *, id: str, token_count: float) -> None:
        """Store how many tokens of messages are not yet observed."""
        operation = "SET_PENDING_MESSAGE_TOKENS"
        tokens = check_amount(operation, "token_count", token_count, status="INVALID_INPUT")
        await self._set(operation, id, pending_message_tokens=tokens)

    async def update_observational_memory_config(self, *, id: str, config: Mapping[str, Any]) -> None:
        """Merge `config` into the record's, mappings into mappings at every depth; None is a value like any other.

        Concurrent updates are all kept. Raises ObservationalMemoryNotFound.
        """
        operation = "UPDATE_OBSERVATIONAL_MEMORY_CONFIG"
        check_mapping(operation, "config", config)

        def update(record: ObservationalMemory) -> None:
            stored = record.config
            record.config = _merged(stored if isinstance(stored, Mapping) else {}, config)

        await self._change(operation, id, update, "config")

    # -- underneath ------------------------------------------------------------------------------------------------

    async def _change(
        self, operation: str, id: str, change: Callable[[ObservationalMemory], bool | None], argument: str
    ) -> None:
        """Change a stored record atomically; nothing is written where `change` answers False.

        `argument` is what a value comes from that cannot be stored.
        """
        check_id(operation, "id", id)

        async def run(session: AsyncSession) -> None:
            record = await _stored(session, operation, id)
            if change(record) is not False:
                _stamp(record)

        with naming(operation, argument):
            async with self._session() as session:
                await session.transact(run)

    async def _set(self, operation: str, id: str, **values: Any) -> None:
        """Set attributes of a stored record without reading it."""
        check_id(operation, "id", id)
        for name, value in values.items():
            if name.startswith("is_"):
                check_flag(operation, name, value)
        async with self._session() as session:
            session.update(ObservationalMemory, id, {**values, "updated_at": now()})
            try:
                await session.commit()
            except StaleDataError as error:
                raise ObservationalMemoryNotFound(id, operation=operation) from error


# -- records -------------------------------------------------------------------------------------------------------


def _lookup_key(operation: str, thread_id: str | None, resource_id: str | None) -> str:
    check_optional_id(operation, "resource_id", resource_id)
    if thread_id is not None:
        return f"thread:{check_id(operation, 'thread_id', thread_id)}"
    return f"resource:{check_id(operation, 'resource_id', resource_id)}"


def _generations(operation: str, thread_id: str | None, resource_id: str) -> Query[ObservationalMemory]:
    """The generations of a thread or resource, the newest first."""
    check_id(operation, "resource_id", resource_id)
    key = _lookup_key(operation, thread_id, resource_id)
    return ObservationalMemory.query().by_index("by_lookup_key", lookup_key=key).order("desc")


async def _stored(session: AsyncSession, operation: str, id: str) -> ObservationalMemory:
    record = await session.get(ObservationalMemory, id)
    if record is None:
        raise ObservationalMemoryNotFound(id, operation=operation)
    return record


def _stamp(record: ObservationalMemory) -> None:
    """Mark the record as changed: later than it was, even where clocks differ or stand still."""
    record.updated_at = max(now(), record.updated_at + _TICK)


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
        lookup_key=_lookup_key(operation, thread_id, resource_id),
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
    columns = ObservationalMemory.__columns__
    if isinstance(given, ObservationalMemory):
        values = {name: getattr(given, name) for name in columns}
    else:
        values = dict(check_keys(operation, argument, given, tuple(columns)))
    check_id(operation, f"{argument}.id", values.get("id"))
    record = _empty(operation, values.get("thread_id"), values.get("resource_id"), values.get("scope", ""))
    for name, value in values.items():
        if value is None or name == "lookup_key":
            continue
        if name in _MOMENTS:
            value = check_instant(operation, f"{argument}.{name}", value)
        elif name in ("config", "metadata"):
            value = dict(check_mapping(operation, f"{argument}.{name}", value))
        elif name == "buffered_observation_chunks":
            value = [whole_chunk(operation, one) for one in check_list(operation, f"{argument}.{name}", value)]
        elif isinstance(columns[name].type.validator, _NUMBER):
            value = check_amount(operation, f"{argument}.{name}", value)
        setattr(record, name, value)
    return record


_NUMBER = type(ObservationalMemory.__columns__["generation_count"].type.validator)


def _following(record: ObservationalMemory, observations: str, tokens: float) -> ObservationalMemory:
    """The generation after this one, begun by a reflection."""
    moment = now()
    return ObservationalMemory(
        id=str(uuid4()),
        lookup_key=record.lookup_key,
        scope=record.scope,
        thread_id=record.thread_id,
        resource_id=record.resource_id,
        config=record.config,
        metadata=record.metadata,
        observed_timezone=record.observed_timezone,
        last_observed_at=record.last_observed_at,
        last_reflection_at=moment,
        created_at=moment,
        updated_at=moment,
        **{
            **_UNSET,
            "active_observations": observations,
            "origin_type": "reflection",
            "generation_count": record.generation_count + 1,
            "total_tokens_observed": record.total_tokens_observed,
            "observation_token_count": tokens,
        },
    )


def _merged(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(stored)
    for key, value in given.items():
        before = stored.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return merged
