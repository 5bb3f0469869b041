"""The memory domain: threads, messages, resources, copies of threads, observational memory."""

from __future__ import annotations

from convexorm.faces import blocking, shared
from mastra_convex.domain import Domain
from mastra_convex.entities import Document, Message, ObservationalMemory, Resource, Thread
from mastra_convex.memory.activation import ActivatedChunk, ActivatedObservations
from mastra_convex.memory.buffering import ObservationChunk, RefreshedChunk
from mastra_convex.memory.copies import COPIES, AsyncCopies, ClonedThread, CloneOptions, CopiedThread, CopyFilter
from mastra_convex.memory.messages import AsyncMessages, MessageList, MessagePage
from mastra_convex.memory.moves import MOVES, TAKEN
from mastra_convex.memory.observational import AsyncObservations, HistoryOptions
from mastra_convex.memory.resources import AsyncResources
from mastra_convex.memory.threads import AsyncThreads, ThreadPage

__all__ = [
    "ActivatedChunk",
    "ActivatedObservations",
    "AsyncMemory",
    "CloneOptions",
    "ClonedThread",
    "CopiedThread",
    "CopyFilter",
    "HistoryOptions",
    "Memory",
    "MessageList",
    "MessagePage",
    "ObservationChunk",
    "RefreshedChunk",
    "ThreadPage",
]


class AsyncMemory(AsyncThreads, AsyncMessages, AsyncResources, AsyncCopies, AsyncObservations):
    """An agent's memory, awaited. `Memory` is the same, blocking."""

    async def dangerously_clear_all(self) -> None:
        """Delete every thread, message, resource and observation, in as many commits as it takes."""
        async with self._session() as session:
            for query in (Message.query(), Thread.query(), Resource.query(), ObservationalMemory.query()):
                await session.delete_all(query.full_scan())
            for table in (COPIES.table, MOVES.table, TAKEN):
                await session.delete_all(Document.query().by_index("by_table", table=table))


class Memory(Domain):
    """An agent's memory, blocking. `AsyncMemory` is the same, awaited."""

    face = AsyncMemory

    get_thread_by_id = blocking(AsyncMemory.get_thread_by_id)
    watch_thread = shared(AsyncMemory.watch_thread)
    save_thread = blocking(AsyncMemory.save_thread)
    update_thread = blocking(AsyncMemory.update_thread)
    patch_thread = blocking(AsyncMemory.patch_thread)
    update_thread_metadata = blocking(AsyncMemory.update_thread_metadata)
    update_thread_resource_id = blocking(AsyncMemory.update_thread_resource_id)
    list_threads = blocking(AsyncMemory.list_threads)
    delete_thread = blocking(AsyncMemory.delete_thread)
    copy_thread = blocking(AsyncMemory.copy_thread)
    clone_thread = blocking(AsyncMemory.clone_thread)
    save_messages = blocking(AsyncMemory.save_messages)
    list_messages = blocking(AsyncMemory.list_messages)
    list_messages_by_resource_id = blocking(AsyncMemory.list_messages_by_resource_id)
    list_messages_by_id = blocking(AsyncMemory.list_messages_by_id)
    watch_messages = shared(AsyncMemory.watch_messages)
    update_messages = blocking(AsyncMemory.update_messages)
    delete_messages = blocking(AsyncMemory.delete_messages)
    get_resource_by_id = blocking(AsyncMemory.get_resource_by_id)
    save_resource = blocking(AsyncMemory.save_resource)
    update_resource = blocking(AsyncMemory.update_resource)
    get_observational_memory = blocking(AsyncMemory.get_observational_memory)
    get_observational_memory_history = blocking(AsyncMemory.get_observational_memory_history)
    initialize_observational_memory = blocking(AsyncMemory.initialize_observational_memory)
    insert_observational_memory_record = blocking(AsyncMemory.insert_observational_memory_record)
    clear_observational_memory = blocking(AsyncMemory.clear_observational_memory)
    update_active_observations = blocking(AsyncMemory.update_active_observations)
    update_buffered_observations = blocking(AsyncMemory.update_buffered_observations)
    swap_buffered_to_active = blocking(AsyncMemory.swap_buffered_to_active)
    create_reflection_generation = blocking(AsyncMemory.create_reflection_generation)
    update_buffered_reflection = blocking(AsyncMemory.update_buffered_reflection)
    swap_buffered_reflection_to_active = blocking(AsyncMemory.swap_buffered_reflection_to_active)
    set_observing_flag = blocking(AsyncMemory.set_observing_flag)
    set_reflecting_flag = blocking(AsyncMemory.set_reflecting_flag)
    set_buffering_observation_flag = blocking(AsyncMemory.set_buffering_observation_flag)
    set_buffering_reflection_flag = blocking(AsyncMemory.set_buffering_reflection_flag)
    set_pending_message_tokens = blocking(AsyncMemory.set_pending_message_tokens)
    update_observational_memory_config = blocking(AsyncMemory.update_observational_memory_config)
    dangerously_clear_all = blocking(AsyncMemory.dangerously_clear_all)
