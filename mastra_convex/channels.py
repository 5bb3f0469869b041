"""Channels: agents' installations on platforms such as Slack, and the platforms' own configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convexorm import AsyncSession, Query
from convexorm.faces import blocking
from mastra_convex.arguments import check_choice, check_id, check_mapping, check_optional_id, naming
from mastra_convex.domain import AsyncDomain, Domain
from mastra_convex.entities import ChannelConfig, ChannelInstallation
from mastra_convex.errors import InvalidArgument, named
from mastra_convex.instants import now
from mastra_convex.records import record_of, replace

__all__ = ["AsyncChannels", "Channels"]

_STATUSES = ("active", "pending", "error")
"""In the order in which an agent's installations are preferred."""


class AsyncChannels(AsyncDomain):
    """Channels, awaited. `Channels` is the same, blocking. `data` is any JSON object; encrypting it is the caller's."""

    async def save_installation(self, *, installation: ChannelInstallation | Mapping[str, Any]) -> None:
        """Store an installation. One with its id is replaced, all but its `created_at`; `updated_at` is now.

        The id and the webhook of another agent's installation, whatever its status, are an InvalidArgument: either goes
        over to another agent when the installation is deleted. (Of rows that other writers have stored under one webhook,
        an agent with an active one may save its own.)
        """
        operation = "SAVE_INSTALLATION"
        moment = now()
        with naming(operation, "installation"):
            record = record_of(
                operation, "installation", ChannelInstallation, installation, created_at=moment, updated_at=moment
            )
            record.updated_at = moment
            check_id(operation, "installation.platform", record.platform)
            check_id(operation, "installation.agent_id", record.agent_id)
            check_choice(operation, "installation.status", record.status, _STATUSES)
            check_optional_id(operation, "installation.webhook_id", record.webhook_id)
            check_mapping(operation, "installation.data", record.data)

            async def save(session: AsyncSession) -> None:
                hook = record.webhook_id
                under = [] if hook is None else [_active(hook), *_under(hook, record.agent_id)]
                before, *found = await session.read(_by_id(record.id), *under)
                active, own, others = found or ([], [], [])
                secured = any(one.agent_id == record.agent_id for one in active)  # what others have stored there waits
                for one, argument, status in (
                    *((one, "webhook_id", "WEBHOOK_TAKEN") for one in (*active, *([] if secured else others))),
                    *((one, "id", "INSTALLATION_TAKEN") for one in before),
                ):
                    if one.agent_id != record.agent_id:
                        raise InvalidArgument(
                            f"{named(getattr(record, argument))} is another agent's",
                            operation=operation,
                            argument=f"installation.{argument}",
                            status=status,
                        )
                held = [one for one in active if secured] or own  # the agent's, and beside these comes nobody else's
                kept = [(one, (one.webhook_id, one.agent_id, one.status)) for one in held if one.id != record.id]
                expect = ("agent_id",) if len(kept) == len(held) else ("agent_id", "webhook_id", "status")
                replace(session, record, next(iter(before), None), keep=("created_at",), expect=expect)
                for one, values in kept:
                    expected = dict(zip(("webhook_id", "agent_id", "status"), values, strict=True))
                    session.update(ChannelInstallation, one.id, {}, expected=expected)
                if hook is not None and not held:
                    session.update(ChannelInstallation, record.id, {}, unique=_by_webhook(hook))

            async with self._session() as session:
                await session.transact(save)

    async def get_installation(self, *, id: str, agent_id: str | None = None) -> ChannelInstallation | None:
        """The installation, or None; with an `agent_id` another agent's is None."""
        operation = "GET_INSTALLATION"
        check_id(operation, "id", id)
        check_optional_id(operation, "agent_id", agent_id)
        async with self._session() as session:
            found = await session.get(ChannelInstallation, id)
        return found if found is None or agent_id in (None, found.agent_id) else None

    async def get_installation_by_agent(self, *, platform: str, agent_id: str) -> ChannelInstallation | None:
        """An agent's installation on a platform: an active one before a pending one before one with an error, of several
        the one saved last; or None.
        """
        check_id("GET_INSTALLATION_BY_AGENT", "platform", platform)
        check_id("GET_INSTALLATION_BY_AGENT", "agent_id", agent_id)
        index = "by_platform_agent_status_updated"
        start = ChannelInstallation.query().order("desc").limit(1)
        queries = [start.by_index(index, platform=platform, agent_id=agent_id, status=status) for status in _STATUSES]
        async with self._session() as session:
            found = await session.read(*queries)
        return next((one[0] for one in found if one), None)

    async def get_installation_by_webhook_id(self, *, webhook_id: str) -> ChannelInstallation | None:
        """The installation that a webhook belongs to: an active one before a pending one before one with an error, of
        several the one saved last; or None.
        """
        check_id("GET_INSTALLATION_BY_WEBHOOK_ID", "webhook_id", webhook_id)
        index = "by_webhook_status_updated"
        start = ChannelInstallation.query().order("desc").limit(1)
        queries = [start.by_index(index, webhook_id=webhook_id, status=status) for status in _STATUSES]
        async with self._session() as session:
            found = await session.read(*queries)
        return next((one[0] for one in found if one), None)

    async def list_installations(self, *, platform: str) -> list[ChannelInstallation]:
        """All installations on a platform, the newest first."""
        check_id("LIST_INSTALLATIONS", "platform", platform)
        async with self._session() as session:
            found = await session.all(ChannelInstallation.query().by_index("by_platform", platform=platform))
        return sorted(found, key=lambda one: (one.created_at, one.creation_time), reverse=True)

    async def delete_installation(self, *, id: str, agent_id: str | None = None) -> None:
        """Delete the installation; nothing happens where there is none, nor with an `agent_id` to another agent's."""
        operation = "DELETE_INSTALLATION"
        query = _by_id(check_id(operation, "id", id))
        agent = check_optional_id(operation, "agent_id", agent_id)
        if agent is not None:
            query = query.where(ChannelInstallation.agent_id == agent)
        async with self._session() as session:
            session.delete_range(query)
            await session.commit()

    async def save_config(self, *, config: ChannelConfig | Mapping[str, Any]) -> None:
        """Store a platform's configuration, in place of the one it has. `updated_at` defaults to now; a later one that is
        stored stays.
        """
        operation = "SAVE_CONFIG"
        platform = config.platform if isinstance(config, ChannelConfig) else None
        if isinstance(config, Mapping):
            platform = check_id(operation, "config.platform", config.get("platform"))
        with naming(operation, "config"):
            record = record_of(operation, "config", ChannelConfig, config, id=platform, updated_at=now())
            if record.id != record.platform:
                raise InvalidArgument("the platform, or left out", operation=operation, argument="config.id")
            check_mapping(operation, "config.data", record.data)
            async with self._session() as session:
                session.upsert(record, greatest=("updated_at",), returning=False)
                await session.commit()

    async def get_config(self, *, platform: str) -> ChannelConfig | None:
        """A platform's configuration, or None."""
        check_id("GET_CONFIG", "platform", platform)
        async with self._session() as session:
            return await session.get(ChannelConfig, platform)

    async def delete_config(self, *, platform: str) -> None:
        """Delete a platform's configuration; nothing happens where there is none."""
        check_id("DELETE_CONFIG", "platform", platform)
        async with self._session() as session:
            session.delete_key(ChannelConfig, platform)
            await session.commit()

    async def dangerously_clear_all(self) -> None:
        """Delete every installation and configuration, in as many commits as it takes."""
        async with self._session() as session:
            await session.delete_all(ChannelInstallation.query().full_scan())
            await session.delete_all(ChannelConfig.query().full_scan())


def _by_id(id: str) -> Query[ChannelInstallation]:
    return ChannelInstallation.query().by_index("by_record_id", id=id).limit(1)


def _by_webhook(webhook_id: str) -> Query[ChannelInstallation]:
    return ChannelInstallation.query().by_index("by_webhook", webhook_id=webhook_id)


def _under(webhook_id: str, agent_id: str) -> list[Query[ChannelInstallation]]:
    """An installation that a webhook belongs to of an agent, and one of another agent."""
    start, agent = _by_webhook(webhook_id).limit(1), ChannelInstallation.agent_id
    return [start.where(agent == agent_id), start.where(agent != agent_id)]


def _active(webhook_id: str) -> Query[ChannelInstallation]:
    """The active installations that a webhook belongs to."""
    return ChannelInstallation.query().by_index("by_webhook_status_updated", webhook_id=webhook_id, status="active")


class Channels(Domain):
    """Channels, blocking. `AsyncChannels` is the same, awaited."""

    face = AsyncChannels

    save_installation = blocking(AsyncChannels.save_installation)
    get_installation = blocking(AsyncChannels.get_installation)
    get_installation_by_agent = blocking(AsyncChannels.get_installation_by_agent)
    get_installation_by_webhook_id = blocking(AsyncChannels.get_installation_by_webhook_id)
    list_installations = blocking(AsyncChannels.list_installations)
    delete_installation = blocking(AsyncChannels.delete_installation)
    save_config = blocking(AsyncChannels.save_config)
    get_config = blocking(AsyncChannels.get_config)
    delete_config = blocking(AsyncChannels.delete_config)
    dangerously_clear_all = blocking(AsyncChannels.dangerously_clear_all)
