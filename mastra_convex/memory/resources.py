"""Resources: what is remembered of a user, across threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convexorm import AsyncSession
from mastra_convex.arguments import check_id, check_mapping, check_optional_text, naming
from mastra_convex.domain import AsyncDomain
from mastra_convex.entities import Resource
from mastra_convex.instants import later, now
from mastra_convex.records import merged, put, record_of

__all__ = ["AsyncResources"]


class AsyncResources(AsyncDomain):
    """The part of the memory contract that is about resources."""

    async def get_resource_by_id(self, *, resource_id: str) -> Resource | None:
        """The resource, or None. Its metadata is never None."""
        check_id("GET_RESOURCE_BY_ID", "resource_id", resource_id)
        async with self._session() as session:
            resource = await session.get(Resource, resource_id)
        if resource is not None and resource.metadata is None:
            resource.metadata = {}
        return resource

    async def save_resource(self, *, resource: Resource | Mapping[str, Any]) -> Resource:
        """Store the resource whole, in place of one with its id. Timestamps default to now; a later `updated_at` that is
        stored stays, and what is answered is what was given.
        """
        moment = now()
        record = record_of("SAVE_RESOURCE", "resource", Resource, resource, created_at=moment, updated_at=moment)
        if record.metadata is not None:
            check_mapping("SAVE_RESOURCE", "metadata", record.metadata)

        async def save(session: AsyncSession) -> Resource:
            await put(session, record)
            return record

        with naming("SAVE_RESOURCE", "resource"):
            async with self._session() as session:
                return await session.transact(save)

    async def update_resource(
        self, *, resource_id: str, working_memory: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> Resource:
        """Change the working memory, and merge `metadata` one level deep; None leaves either as it is.

        A resource that is not there is created. Concurrent updates are all kept. Raises InvalidArgument where what is
        stored as metadata is no object to merge into.
        """
        check_id("UPDATE_RESOURCE", "resource_id", resource_id)
        check_optional_text("UPDATE_RESOURCE", "working_memory", working_memory)
        if metadata is not None:
            check_mapping("UPDATE_RESOURCE", "metadata", metadata)

        async def update(session: AsyncSession) -> Resource:
            resource = await session.get(Resource, resource_id)
            moment = later(None if resource is None else resource.updated_at)
            if resource is None:
                resource = Resource(id=resource_id, metadata={}, created_at=moment, updated_at=moment)
                session.add(resource)
            if working_memory is not None:
                resource.working_memory = working_memory
            if metadata is not None:
                resource.metadata = merged("UPDATE_RESOURCE", "metadata", resource.metadata, metadata)
            resource.updated_at = moment
            return resource

        with naming("UPDATE_RESOURCE", ""):
            async with self._session() as session:
                return await session.transact(update)
