"""Channels: installations saved whole, found by agent and by webhook, and each platform's configuration."""

from __future__ import annotations

import random
from typing import Any, Literal

import pytest

from convexorm import Deployment, LimitExceeded, Session
from mastra_convex import AsyncChannels, AsyncConvexStore, ChannelConfig, ChannelInstallation, ConvexStore, InvalidArgument
from tests.conftest import Host
from tests.mastra.support import at, at_once

DATA = {"botToken": "xoxb", "$schema": "s", "日本語": [None, 1.5, {"": True}], "text": '{"a":1}'}


@pytest.fixture
def channels(store: AsyncConvexStore) -> AsyncChannels:
    return store.channels


def installation(id: str, agent: str = "agent", **attributes: Any) -> dict[str, Any]:
    return {
        "id": id,
        "platform": "slack",
        "agent_id": agent,
        "status": "active",
        "data": DATA,
        "created_at": at(0),
        "updated_at": at(0),
        **attributes,
    }


# -- installations -------------------------------------------------------------------------------------------------


async def test_a_saved_installation_is_got_whole(channels: AsyncChannels, unique: str) -> None:
    given = installation(unique, webhook_id="w", config_hash="h", status="error", error="no token")
    await channels.save_installation(installation=given)
    found = await channels.get_installation(id=unique)
    assert found is not None
    del given["updated_at"]
    assert {name: getattr(found, name) for name in given} == given
    assert found.updated_at > at(0)


async def test_what_is_not_given_is_none_and_now(channels: AsyncChannels, unique: str) -> None:
    given = {"id": unique, "platform": "slack", "agent_id": "a", "status": "pending", "data": {}}
    await channels.save_installation(installation=given)
    found = await channels.get_installation(id=unique)
    assert found is not None
    assert (found.webhook_id, found.config_hash, found.error, found.data) == (None, None, None, {})
    assert found.created_at == found.updated_at > at(0)


async def test_a_missing_installation_is_none(channels: AsyncChannels, unique: str) -> None:
    assert await channels.get_installation(id=unique) is None
    assert await channels.get_installation_by_agent(platform="slack", agent_id=unique) is None
    assert await channels.get_installation_by_webhook_id(webhook_id=unique) is None
    assert await channels.list_installations(platform=unique) == []


async def test_a_second_save_replaces_everything_but_the_creation(channels: AsyncChannels, unique: str) -> None:
    await channels.save_installation(installation=installation(unique, webhook_id="w", error="e", config_hash="h"))
    second = installation(unique, platform="discord", status="pending", data={"new": 1}, created_at=at(9))
    await channels.save_installation(installation=second)
    found = await channels.get_installation(id=unique)
    assert found is not None
    assert (found.platform, found.status, found.data) == ("discord", "pending", {"new": 1})
    assert (found.webhook_id, found.error, found.config_hash) == (None, None, None)
    assert found.created_at == at(0)


async def test_an_entity_is_saved_like_a_mapping(channels: AsyncChannels, unique: str) -> None:
    given = ChannelInstallation(**installation(unique))
    await channels.save_installation(installation=given)
    found = await channels.get_installation(id=unique)
    assert found is not None
    await channels.save_installation(installation=found)
    assert found.data == DATA


async def test_an_agents_installation_is_the_active_then_the_pending_then_the_failed_one(
    channels: AsyncChannels, unique: str
) -> None:
    async def preferred() -> str | None:
        found = await channels.get_installation_by_agent(platform="slack", agent_id=unique)
        return None if found is None else found.id.removeprefix(unique)

    await channels.save_installation(installation=installation(f"{unique}other", unique, platform="discord"))
    assert await preferred() is None
    for status in ("error", "pending", "active"):
        await channels.save_installation(installation=installation(f"{unique}{status}", unique, status=status))
        assert await preferred() == status
    for status in ("error", "pending"):
        await channels.save_installation(installation=installation(f"{unique}{status}", unique, status=status))
        assert await preferred() == "active"
    for status, following in (("active", "pending"), ("pending", "error"), ("error", None)):
        await channels.delete_installation(id=f"{unique}{status}")
        assert await preferred() == following


async def test_of_installations_alike_the_one_saved_last_counts(channels: AsyncChannels, unique: str) -> None:
    for name in ("a", "b", "a", "c", "b"):
        await channels.save_installation(installation=installation(f"{unique}{name}", unique, webhook_id=unique))
        by_agent = await channels.get_installation_by_agent(platform="slack", agent_id=unique)
        by_webhook = await channels.get_installation_by_webhook_id(webhook_id=unique)
        assert by_agent is not None
        assert by_webhook is not None
        assert {by_agent.updated_at, by_webhook.updated_at} == {
            max(one.updated_at for one in await channels.list_installations(platform="slack") if one.agent_id == unique)
        }


async def test_an_installation_is_found_by_its_webhook_until_it_has_another(channels: AsyncChannels, unique: str) -> None:
    await channels.save_installation(installation=installation(unique, webhook_id=f"{unique}w"))
    found = await channels.get_installation_by_webhook_id(webhook_id=f"{unique}w")
    assert found is not None
    assert found.id == unique
    await channels.save_installation(installation=installation(unique, webhook_id=f"{unique}v"))
    assert await channels.get_installation_by_webhook_id(webhook_id=f"{unique}w") is None


async def test_a_webhook_is_answered_by_its_active_installation(channels: AsyncChannels, unique: str) -> None:
    for status in ("error", "pending", "active", "pending", "error"):
        id = f"{unique}{status}"
        await channels.save_installation(installation=installation(id, unique, status=status, webhook_id=unique))
    for status in ("active", "pending", "error"):
        found = await channels.get_installation_by_webhook_id(webhook_id=unique)
        assert found is not None
        assert found.status == status
        await channels.delete_installation(id=found.id)


async def test_the_webhook_of_another_agents_installation_cannot_be_taken(channels: AsyncChannels, unique: str) -> None:
    own = installation(f"{unique}a", f"{unique}ada", webhook_id=unique)
    await channels.save_installation(installation=own)
    for status in ("active", "pending", "error"):
        for id in (f"{unique}b", f"{unique}a"):
            theirs = installation(id, f"{unique}bob", status=status, webhook_id=unique)
            with pytest.raises(InvalidArgument, match=r"installation\.webhook_id") as caught:
                await channels.save_installation(installation=theirs)
            assert caught.value.id.endswith("_WEBHOOK_TAKEN")
        repointed = installation(f"{unique}a", f"{unique}bob", status=status, webhook_id=f"{unique}other")
        with pytest.raises(InvalidArgument, match=r"installation\.id") as caught:
            await channels.save_installation(installation=repointed)
        assert caught.value.id.endswith("_INSTALLATION_TAKEN")
    assert await channels.get_installation(id=f"{unique}b") is None
    await channels.save_installation(installation={**own, "id": f"{unique}again", "status": "error"})
    await channels.save_installation(installation={**own, "status": "pending"})
    theirs = installation(f"{unique}b", f"{unique}bob", webhook_id=unique)
    for id in (f"{unique}a", f"{unique}again"):  # whose never was, or is no longer, active has it all the same
        with pytest.raises(InvalidArgument, match=r"installation\.webhook_id"):
            await channels.save_installation(installation=theirs)
        await channels.delete_installation(id=id)
    await channels.save_installation(installation=theirs)
    with pytest.raises(InvalidArgument):
        await channels.save_installation(installation=own)
    found = await channels.get_installation_by_webhook_id(webhook_id=unique)
    assert found is not None
    assert found.agent_id == f"{unique}bob"


async def test_no_sequence_of_calls_takes_an_installation_over(channels: AsyncChannels, unique: str) -> None:
    """Two agents call at random about the same ids and webhooks, held to a model."""
    chance = random.Random(7)
    rows: dict[str, dict[str, Any]] = {}
    order, refused = ("active", "pending", "error"), 0
    for step in range(120):
        me, id, hook = (f"{unique}{chance.choice(names)}" for names in ("ab", "123", "vw"))
        if chance.random() < 0.25:
            await channels.delete_installation(id=id, agent_id=me)
            if id in rows and rows[id]["agent_id"] == me:
                del rows[id]
        else:
            status = chance.choice(order)
            one = installation(id, me, status=status, webhook_id=chance.choice([hook, hook, None]), data={"step": step})
            held = [row["agent_id"] for row in rows.values() if row["webhook_id"] == one["webhook_id"] is not None]
            if {me, *held, rows.get(id, one)["agent_id"]} == {me}:
                await channels.save_installation(installation=one)
                rows[id] = {**one, "step": step}
            else:
                refused += 1
                with pytest.raises(InvalidArgument, match="another agent's"):
                    await channels.save_installation(installation=one)
        for name in (f"{unique}v", f"{unique}w"):
            mine = [row for row in rows.values() if row["webhook_id"] == name]
            best = min((order.index(row["status"]) for row in mine), default=None)
            found = await channels.get_installation_by_webhook_id(webhook_id=name)
            assert (found is None) is (best is None)
            assert found is None or (found.status == order[best or 0] and found.data == rows[found.id]["data"])
        other = await channels.get_installation(id=id, agent_id=me)
        assert (other is None) is (id not in rows or rows[id]["agent_id"] != me)
    assert refused > 10


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_an_id_taken_at_once_by_several_agents_is_that_of_one(open_deployment: Any, kind: str, unique: str) -> None:
    store = ConvexStore(id="test", deployment=open_deployment(kind))

    def take(number: int) -> int | None:
        try:
            store.channels.save_installation(installation=installation(unique, f"{unique}{number}", data={"by": number}))
        except InvalidArgument:
            return None
        return number

    (winner,) = (one for one in at_once(6, take) if one is not None)
    found = store.channels.get_installation(id=unique)
    assert found is not None
    assert (found.agent_id, found.data) == (f"{unique}{winner}", {"by": winner})


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_of_agents_that_take_a_webhook_at_once_one_has_it(open_deployment: Any, kind: str, unique: str) -> None:
    store = ConvexStore(id="test", deployment=open_deployment(kind))

    def take(number: int) -> bool:
        status = ("pending", "active", "error")[number % 3]
        one = installation(f"{unique}{number}", f"{unique}{number}", status=status, webhook_id=unique)
        try:
            store.channels.save_installation(installation=one)
        except InvalidArgument:
            return False
        return True

    assert at_once(6, take).count(True) == 1
    found = store.channels.list_installations(platform="slack")
    assert len([one for one in found if one.webhook_id == unique]) == 1


async def test_a_platforms_installations_are_listed_newest_first(channels: AsyncChannels, unique: str) -> None:
    for name, seconds in (("b", 2), ("c", 3), ("a", 1)):
        one = installation(f"{unique}{name}", platform=unique, created_at=at(seconds))
        await channels.save_installation(installation=one)
    await channels.save_installation(installation=installation(f"{unique}x", platform=f"{unique}x"))
    found = await channels.list_installations(platform=unique)
    assert [one.id.removeprefix(unique) for one in found] == ["c", "b", "a"]


async def test_a_deleted_installation_is_gone(channels: AsyncChannels, unique: str) -> None:
    await channels.save_installation(installation=installation(unique, webhook_id=unique))
    await channels.delete_installation(id=unique)
    await channels.delete_installation(id=unique)
    assert await channels.get_installation(id=unique) is None
    assert await channels.get_installation_by_webhook_id(webhook_id=unique) is None


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_concurrent_saves_leave_one_installation_with_its_creation(open_deployment: Any, kind: str, unique: str) -> None:
    deployment: Deployment = open_deployment(kind)
    channels = ConvexStore(id="test", deployment=deployment).channels
    channels.save_installation(installation=installation(unique, platform=unique))

    def save(number: int) -> None:
        one = installation(unique, platform=unique, data={"number": number}, created_at=at(number + 1))
        channels.save_installation(installation=one)

    at_once(20, save)
    (found,) = channels.list_installations(platform=unique)
    assert found.created_at == at(0)
    assert found.data["number"] in range(20)


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_concurrent_first_saves_make_one_installation(open_deployment: Any, kind: str, unique: str) -> None:
    channels = ConvexStore(id="test", deployment=open_deployment(kind)).channels
    at_once(20, lambda number: channels.save_installation(installation=installation(unique, platform=unique)))
    assert len(channels.list_installations(platform=unique)) == 1


# -- configuration -------------------------------------------------------------------------------------------------


async def test_a_configuration_is_saved_replaced_and_deleted(channels: AsyncChannels, unique: str) -> None:
    assert await channels.get_config(platform=unique) is None
    await channels.save_config(config={"platform": unique, "data": DATA, "updated_at": at(5)})
    found = await channels.get_config(platform=unique)
    assert found is not None
    assert (found.id, found.platform, found.data, found.updated_at) == (unique, unique, DATA, at(5))
    await channels.save_config(config=ChannelConfig(id=unique, platform=unique, data={"b": 2}, updated_at=at(6)))
    found = await channels.get_config(platform=unique)
    assert found is not None
    assert (found.data, found.updated_at) == ({"b": 2}, at(6))
    await channels.save_config(config={"platform": unique, "data": {}})
    found = await channels.get_config(platform=unique)
    assert found is not None
    assert found.updated_at > at(6)
    await channels.delete_config(platform=unique)
    await channels.delete_config(platform=unique)
    assert await channels.get_config(platform=unique) is None


async def test_data_is_stored_as_json_text(channels: AsyncChannels, deployment: Deployment, unique: str) -> None:
    await channels.save_installation(installation=installation(unique))
    await channels.save_config(config={"platform": unique, "data": DATA})
    with Session(deployment) as session:
        for model in (ChannelInstallation, ChannelConfig):
            found = session.get(model, unique)
            assert found is not None
            assert found._state.document is not None
            assert isinstance(found._state.document["data"], str)
        document = session.get(ChannelInstallation, unique)._state.document  # type: ignore[union-attr]
    assert document is not None
    assert [document[name] for name in ("webhookId", "configHash", "error")] == [None, None, None]


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "argument"),
    [
        ({"id": " "}, "installation.id"),
        ({"platform": ""}, "installation.platform"),
        ({"agent_id": None}, "installation.agent_id"),
        ({"status": "connected"}, "installation.status"),
        ({"status": None}, "installation.status"),
        ({"data": None}, "installation.data"),
        ({"data": "text"}, "installation.data"),
        ({"data": {"a": object()}}, "installation.data"),
        ({"webhook_id": 5}, "installation.webhook_id"),
        ({"webhook_id": ""}, "installation.webhook_id"),
        ({"created_at": "yesterday"}, "installation.created_at"),
        ({"created_at": at(0).replace(tzinfo=None)}, "installation.created_at"),
        ({"agentId": "a"}, "installation"),
    ],
)
async def test_an_installation_that_cannot_be_stored_is_refused(
    channels: AsyncChannels, unique: str, changed: Any, argument: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await channels.save_installation(installation={**installation(unique), **changed})
    assert caught.value.argument == argument
    assert caught.value.id.startswith("MASTRA_STORAGE_CONVEX_SAVE_INSTALLATION_INVALID_")
    assert await channels.get_installation(id=unique) is None


@pytest.mark.parametrize(
    "config",
    [
        None,
        "slack",
        {},
        {"platform": "", "data": {}},
        {"platform": "p", "data": []},
        {"platform": "p"},
        {"id": "q", "platform": "p", "data": {}},
        {"platform": "p", "data": {}, "updated_at": 5},
    ],
)
async def test_a_configuration_that_cannot_be_stored_is_refused(channels: AsyncChannels, config: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await channels.save_config(config=config)
    assert caught.value.operation == "SAVE_CONFIG"


@pytest.mark.parametrize("bad", ["", None, 5])
async def test_an_id_that_is_none_is_refused(channels: AsyncChannels, bad: Any) -> None:
    for asked in (
        lambda: channels.get_installation(id=bad),
        lambda: channels.get_installation_by_agent(platform="p", agent_id=bad),
        lambda: channels.get_installation_by_agent(platform=bad, agent_id="a"),
        lambda: channels.get_installation_by_webhook_id(webhook_id=bad),
        lambda: channels.list_installations(platform=bad),
        lambda: channels.delete_installation(id=bad),
        lambda: channels.get_config(platform=bad),
        lambda: channels.delete_config(platform=bad),
    ):
        with pytest.raises(InvalidArgument):
            await asked()


async def test_data_larger_than_a_document_is_an_error_with_both_sizes(channels: AsyncChannels, unique: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        await channels.save_installation(installation=installation(unique, data={"text": "x" * (1 << 20)}))
    assert (caught.value.maximum, (caught.value.actual or 0) > 1 << 20) == (1 << 20, True)
    assert await channels.get_installation(id=unique) is None


# -- the store -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("channels", "channels"),
        ("schedules", "schedules"),
        ("background_tasks", "background_tasks"),
        ("backgroundTasks", "background_tasks"),
    ],
)
def test_a_domain_is_got_by_its_name_here_and_in_the_contract(
    name: Literal["channels"], attribute: str, open_deployment: Any
) -> None:
    store = ConvexStore(id="test", deployment=open_deployment("memory"))
    assert store.get_store(name) is getattr(store, attribute)


def test_clearing_removes_installations_and_configurations(open_deployment: Any) -> None:
    channels = ConvexStore(id="test", deployment=open_deployment("memory")).channels
    channels.save_installation(installation=installation("i"))
    channels.save_config(config={"platform": "slack", "data": {}})
    channels.dangerously_clear_all()
    assert channels.list_installations(platform="slack") == []
    assert channels.get_config(platform="slack") is None


# -- costs ---------------------------------------------------------------------------------------------------------


def test_finding_an_installation_does_not_read_the_others(fresh_host: Host) -> None:
    with fresh_host.connect() as deployment:
        channels = ConvexStore(id="test", deployment=deployment).channels
        with Session(deployment) as session:
            for number in range(200):
                one = installation(f"i{number}", f"a{number % 2}", webhook_id=f"w{number % 2}", updated_at=at(number))
                session.add(ChannelInstallation(**one), returning=False)
            session.commit()
        fresh_host.reset()
        found = channels.get_installation_by_agent(platform="slack", agent_id="a1")
        assert found is not None
        assert found.id == "i199"
        counts = fresh_host.metrics()
        assert counts["calls"] == 1
        assert counts["documentsRead"] <= 3
        fresh_host.reset()
        found = channels.get_installation_by_webhook_id(webhook_id="w0")
        assert found is not None
        assert found.id == "i198"
        assert fresh_host.metrics()["documentsRead"] <= 2
        fresh_host.reset()
        channels.save_installation(installation=installation("i7", "a1", webhook_id="new"))
        counts = fresh_host.metrics()
        assert counts["calls"] == 2
        assert counts["documentsRead"] <= 7
