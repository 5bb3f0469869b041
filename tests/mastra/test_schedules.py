"""Schedules: created once, found when due, claimed by one, and their triggers listed newest first."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import mastra_convex.schedules as schedules_module
from convexorm import Deployment, LimitExceeded, Session, connect
from convexorm.faces import finish
from convexorm.requests import Commit, Key, Replace
from mastra_convex import (
    AsyncConvexStore,
    AsyncSchedules,
    ConvexStore,
    InvalidArgument,
    Schedule,
    ScheduleAlreadyExists,
    ScheduleFilter,
    ScheduleNotFound,
    ScheduleTrigger,
    ScheduleTriggerAlreadyExists,
)
from tests.conftest import Host
from tests.mastra.support import at, at_once, cut_off

WORKFLOW = {"type": "workflow", "workflowId": "wf", "inputData": {"$schema": "s", "日本語": [1, None, {"a": True}]}}
AGENT = {"type": "agent", "agentId": "agent", "prompt": "Good morning", "name": "null"}
NEVER = 2**52
"""A fire so far away that no list of due schedules has it."""


@pytest.fixture
def schedules(store: AsyncConvexStore) -> AsyncSchedules:
    return store.schedules


def schedule(id: str, **attributes: Any) -> dict[str, Any]:
    return {
        "id": id,
        "target": WORKFLOW,
        "cron": "*/5 * * * *",
        "status": "active",
        "next_fire_at": NEVER,
        "created_at": 1_000,
        "updated_at": 1_000,
        **attributes,
    }


def trigger(schedule_id: str, actual: int, **attributes: Any) -> dict[str, Any]:
    return {
        "schedule_id": schedule_id,
        "run_id": f"run-{actual}",
        "scheduled_fire_at": actual - 1,
        "actual_fire_at": actual,
        "outcome": "published",
        **attributes,
    }


def claim(id: str, expected: int = NEVER, new: int = NEVER + 1, run: str = "run") -> dict[str, Any]:
    return {
        "id": id,
        "expected_next_fire_at": expected,
        "new_next_fire_at": new,
        "last_fire_at": expected + 5,
        "last_run_id": run,
    }


def names(found: list[Schedule]) -> list[str]:
    return [one.id[12:] for one in found]


# -- creating and getting ------------------------------------------------------------------------------------------


async def test_a_created_schedule_is_got_whole(schedules: AsyncSchedules, unique: str) -> None:
    given = schedule(
        unique,
        timezone="Europe/Berlin",
        next_fire_at=1_700_000_000_123,
        last_fire_at=5,
        last_run_id="r",
        metadata={"$a": {"": []}},
        owner_type="agent",
        owner_id="o",
    )
    created = await schedules.create_schedule(schedule=given)
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    for one in (created, found):
        assert {name: getattr(one, name) for name in given} == given
        assert type(one.next_fire_at) is int


async def test_what_is_not_given_is_none_and_now(schedules: AsyncSchedules, unique: str) -> None:
    given = {"id": unique, "target": AGENT, "cron": "* * * * *", "next_fire_at": at(1.5)}
    created = await schedules.create_schedule(schedule=given)
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    assert (found.status, found.target, found.next_fire_at) == ("active", AGENT, int(at(1.5).timestamp() * 1000))
    assert found.created_at == found.updated_at == created.created_at > 1_700_000_000_000
    for name in ("timezone", "last_fire_at", "last_run_id", "metadata", "owner_type", "owner_id", "workflow_id"):
        assert getattr(found, name) is None


async def test_a_missing_schedule_is_none(schedules: AsyncSchedules, unique: str) -> None:
    assert await schedules.get_schedule(id=unique) is None


async def test_a_schedule_created_twice_is_an_error_and_the_first_stays(schedules: AsyncSchedules, unique: str) -> None:
    await schedules.create_schedule(schedule=schedule(unique, cron="1 * * * *"))
    with pytest.raises(ScheduleAlreadyExists) as caught:
        await schedules.create_schedule(schedule=schedule(unique, cron="2 * * * *"))
    assert caught.value.id == "MASTRA_STORAGE_CONVEX_CREATE_SCHEDULE_SCHEDULE_EXISTS"
    assert caught.value.schedule_id == unique
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    assert found.cron == "1 * * * *"


async def test_an_entity_is_created_like_a_mapping(schedules: AsyncSchedules, unique: str) -> None:
    await schedules.create_schedule(schedule=Schedule(**schedule(unique)))
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    assert (found.target, found.workflow_id) == (WORKFLOW, "wf")


async def test_a_target_is_stored_under_the_names_that_typescript_reads(
    schedules: AsyncSchedules, deployment: Deployment, unique: str
) -> None:
    target = {"type": "workflow", "workflow_id": "wf", "input_data": {"keep_this": 1}, "other_key": 2}
    created = await schedules.create_schedule(schedule=schedule(unique, target=target))
    expected = {"type": "workflow", "workflowId": "wf", "inputData": {"keep_this": 1}, "other_key": 2}
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    assert found.target == created.target == expected
    assert await schedules.list_schedules(filter={"workflow_id": "wf", "owner_id": unique}) == []
    document = stored(deployment, unique)
    assert isinstance(document["target"], str)
    assert (document["workflow_id"], document["owner_id"], document["metadata"]) == ("wf", None, None)


def stored(deployment: Deployment, id: str) -> dict[str, Any]:
    """The document of a schedule, as it lies in the table."""
    with Session(deployment) as session:
        found = session.get(Schedule, id)
        assert found is not None
        assert found._state.document is not None
        return dict(found._state.document)


async def test_a_heartbeat_is_read_as_an_agent(schedules: AsyncSchedules, deployment: Deployment, unique: str) -> None:
    await schedules.create_schedule(schedule=schedule(unique, target=AGENT, next_fire_at=7, owner_id=unique))
    legacy = {**AGENT, "type": "heartbeat"}
    with Session(deployment) as session:
        session.update(Schedule, unique, {"target": legacy})
        session.commit()
    assert "heartbeat" in stored(deployment, unique)["target"]
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    (listed,) = await schedules.list_schedules(filter={"owner_id": unique})
    changed = await schedules.update_schedule(id=unique, patch={"cron": "9 * * * *"})
    assert found.target == listed.target == changed.target == AGENT
    assert "heartbeat" in stored(deployment, unique)["target"]


# -- listing -------------------------------------------------------------------------------------------------------


async def test_schedules_are_listed_oldest_first_by_every_filter(schedules: AsyncSchedules, unique: str) -> None:
    workflow, kind = f"wf{unique}", f"kind{unique}"
    flow = {"type": "workflow", "workflowId": workflow}
    for name, attributes in {
        "c": {"created_at": 3, "target": flow},
        "a": {"created_at": 1, "target": flow, "status": "paused", "owner_type": kind, "owner_id": "x"},
        "b": {"created_at": 2, "target": flow, "owner_type": kind, "owner_id": "y"},
        "d": {"created_at": 4, "target": AGENT, "owner_type": kind, "owner_id": "x"},
        "e": {"created_at": 4, "target": flow, "owner_id": f"z{unique}"},
    }.items():
        await schedules.create_schedule(schedule=schedule(f"{unique}{name}", **attributes))

    async def listed(**filter: Any) -> str:
        found = await schedules.list_schedules(filter=filter)  # type: ignore[arg-type]
        return "".join(name for name in names([one for one in found if one.id.startswith(unique)]))

    assert await listed(workflow_id=workflow) == "abce"
    assert await listed(workflow_id=workflow, status="active") == "bce"
    assert await listed(workflow_id=workflow, status="paused") == "a"
    assert await listed(owner_type=kind) == "abd"
    assert await listed(owner_type=kind, owner_id="x") == "ad"
    assert await listed(owner_type=kind, owner_id="x", status="active") == "d"
    assert await listed(owner_id=f"z{unique}") == "e"
    assert await listed(owner_type=None) == "ce"
    assert await listed(owner_type=None, owner_id=None) == "c"
    assert await listed(owner_type=None, workflow_id=workflow, status="active") == "ce"
    assert await listed(owner_type=kind, owner_id=None) == ""
    assert await listed(status="paused") == "a"
    assert await listed(status=None, workflow_id=None) == "abcde"
    assert names([one for one in await schedules.list_schedules() if one.id.startswith(unique)]) == list("abcde")


@pytest.mark.needs_functions("the handler cannot take a field out of a record")
async def test_an_owner_that_another_writer_left_out_is_none(
    schedules: AsyncSchedules, deployment: Deployment, unique: str
) -> None:
    await schedules.create_schedule(schedule=schedule(unique, target={"type": "workflow", "workflowId": unique}))
    without = {name: value for name, value in stored(deployment, unique).items() if not name.startswith("_")}
    for name in ("owner_type", "owner_id", "timezone", "last_fire_at", "last_run_id", "metadata"):
        del without[name]
    replace(deployment, unique, without)
    assert "owner_type" not in stored(deployment, unique)
    filters: list[ScheduleFilter] = [{"owner_type": None}, {"owner_id": None}, {"owner_type": None, "owner_id": None}]
    for wanted in filters:
        found = await schedules.list_schedules(filter={"workflow_id": unique, **wanted})
        assert [one.owner_type for one in found] == [None]


def replace(deployment: Deployment, id: str, document: dict[str, Any]) -> None:
    """Store a schedule's document as it is."""
    key = Key("by_record_id", (id,))
    finish(deployment.blocking.commit(Commit(f"replace-{id}", [Replace(Schedule.__mapper__.table, key, document)])))


# -- what is due ---------------------------------------------------------------------------------------------------


async def test_due_schedules_are_the_active_ones_whose_time_has_come_the_longest_due_first(
    schedules: AsyncSchedules, unique: str
) -> None:
    for name, fire, status in (("c", -10, "active"), ("a", -30, "active"), ("b", -20, "active"), ("p", -25, "paused")):
        await schedules.create_schedule(schedule=schedule(f"{unique}{name}", next_fire_at=fire, status=status))
    await schedules.create_schedule(schedule=schedule(f"{unique}later", next_fire_at=-9))

    async def due(now: int, limit: int | None = None) -> list[str]:
        found = await schedules.list_due_schedules(now=now, limit=limit)
        return names([one for one in found if one.id.startswith(unique)])

    assert await due(-10) == ["a", "b", "c"]
    assert await due(-11) == ["a", "b"]
    assert await due(-31) == []
    assert await due(-10, limit=0) == []
    for name in ("a", "b", "c", "p", "later"):
        await schedules.delete_schedule(id=f"{unique}{name}")


async def test_due_schedules_are_limited_and_without_a_limit_are_not(deployment: Deployment) -> None:
    if "Remote" in repr(deployment):
        pytest.skip("a table of its own is for embedded deployments")
    store = ConvexStore(id="test", deployment=deployment).schedules
    for number in range(130):
        store.create_schedule(schedule=schedule(f"s{number}", next_fire_at=1_000 - number))
    assert len(store.list_due_schedules(now=1_000)) == 130
    assert [one.id for one in store.list_due_schedules(now=at(0), limit=2)] == ["s129", "s128"]
    assert store.list_due_schedules(now=1_000, limit=0) == []


# -- changing ------------------------------------------------------------------------------------------------------


async def test_an_update_changes_what_is_given_and_none_clears(schedules: AsyncSchedules, unique: str) -> None:
    await schedules.create_schedule(
        schedule=schedule(unique, timezone="UTC", metadata={"a": 1}, owner_type="agent", owner_id="o", last_run_id="r")
    )
    changed = await schedules.update_schedule(id=unique, patch={"cron": "1 1 * * *", "timezone": None, "next_fire_at": 9})
    assert (changed.cron, changed.timezone, changed.next_fire_at) == ("1 1 * * *", None, 9)
    assert (changed.metadata, changed.owner_id, changed.last_run_id) == ({"a": 1}, "o", "r")
    assert changed.updated_at > changed.created_at == 1_000
    changed = await schedules.update_schedule(
        id=unique,
        patch={"metadata": None, "owner_type": None, "owner_id": None, "status": "paused", "next_fire_at": NEVER},
    )
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    for one in (changed, found):
        assert (one.metadata, one.owner_type, one.owner_id, one.status) == (None, None, None, "paused")
        assert (one.cron, one.target) == ("1 1 * * *", WORKFLOW)


async def test_a_new_target_moves_the_schedule_to_its_workflow(schedules: AsyncSchedules, unique: str) -> None:
    await schedules.create_schedule(schedule=schedule(unique, target={"type": "workflow", "workflowId": f"{unique}1"}))
    await schedules.update_schedule(id=unique, patch={"target": {"type": "workflow", "workflowId": f"{unique}2"}})
    assert await schedules.list_schedules(filter={"workflow_id": f"{unique}1"}) == []
    assert len(await schedules.list_schedules(filter={"workflow_id": f"{unique}2"})) == 1
    await schedules.update_schedule(id=unique, patch={"target": AGENT})
    assert await schedules.list_schedules(filter={"workflow_id": f"{unique}2"}) == []


async def test_an_empty_patch_changes_nothing(schedules: AsyncSchedules, unique: str) -> None:
    await schedules.create_schedule(schedule=schedule(unique))
    assert (await schedules.update_schedule(id=unique, patch={})).updated_at == 1_000


async def test_updating_a_missing_schedule_is_an_error(schedules: AsyncSchedules, unique: str) -> None:
    for patch in ({}, {"cron": "* * * * *"}):
        with pytest.raises(ScheduleNotFound) as caught:
            await schedules.update_schedule(id=unique, patch=patch)  # type: ignore[arg-type]
        assert caught.value.id == "MASTRA_STORAGE_CONVEX_UPDATE_SCHEDULE_SCHEDULE_NOT_FOUND"
    assert await schedules.get_schedule(id=unique) is None


async def test_a_deleted_schedule_is_gone_with_its_triggers_and_no_others(schedules: AsyncSchedules, unique: str) -> None:
    for name in ("a", "b"):
        await schedules.create_schedule(schedule=schedule(f"{unique}{name}"))
        for actual in range(3):
            await schedules.record_trigger(trigger=trigger(f"{unique}{name}", actual))
    await schedules.delete_schedule(id=f"{unique}a")
    await schedules.delete_schedule(id=f"{unique}a")
    assert await schedules.get_schedule(id=f"{unique}a") is None
    assert await schedules.list_triggers(schedule_id=f"{unique}a") == []
    assert await schedules.get_schedule(id=f"{unique}b") is not None
    assert len(await schedules.list_triggers(schedule_id=f"{unique}b")) == 3


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_history_longer_than_one_commit_is_deleted_whole(open_deployment: Any, kind: str) -> None:
    deployment: Deployment = open_deployment(kind)
    schedules = ConvexStore(id="test", deployment=deployment).schedules
    schedules.create_schedule(schedule=schedule("s"))
    with Session(deployment) as session:
        for start in range(0, 4_500, 1_500):
            rows = [trigger("s", start + n, id=f"t{start + n}", trigger_kind="manual") for n in range(1_500)]
            session.add_all(ScheduleTrigger(**row) for row in rows)
            session.commit()
    schedules.delete_schedule(id="s")
    with Session(deployment) as session:
        assert session.count(ScheduleTrigger.query().full_scan()) == 0
        assert session.count(Schedule.query().full_scan()) == 0


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_deletion_cut_off_leaves_no_schedule_and_is_exact_when_it_is_run_again(open_deployment: Any, kind: str) -> None:
    deployment: Deployment = open_deployment(kind)
    schedules = ConvexStore(id="test", deployment=deployment).schedules
    for id in ("s", "t"):
        schedules.create_schedule(schedule=schedule(id))
    with Session(deployment) as session:
        for start in range(0, 6_000, 3_000):
            rows = [trigger("s", start + n, id=f"t{start + n}", trigger_kind="manual") for n in range(3_000)]
            session.add_all([ScheduleTrigger(**row) for row in rows], unique=False, returning=False)
            session.commit()
    with cut_off(deployment, after=3), pytest.raises(KeyboardInterrupt):
        schedules.delete_schedule(id="s")
    assert (schedules.get_schedule(id="s"), len(schedules.list_schedules())) == (None, 1)
    assert 0 < len(schedules.list_triggers(schedule_id="s")) < 6_000
    schedules.delete_schedule(id="s")
    assert schedules.list_triggers(schedule_id="s") == []


async def test_the_history_of_a_new_schedule_is_its_own(schedules: AsyncSchedules, unique: str) -> None:
    await schedules.record_trigger(trigger=trigger(unique, 1))
    await schedules.record_trigger(trigger=trigger(f"{unique}other", 2))
    await schedules.create_schedule(schedule=schedule(unique))
    assert await schedules.list_triggers(schedule_id=unique) == []
    await schedules.record_trigger(trigger=trigger(unique, 3))
    with pytest.raises(ScheduleAlreadyExists):
        await schedules.create_schedule(schedule=schedule(unique))
    assert [one.actual_fire_at for one in await schedules.list_triggers(schedule_id=unique)] == [3]
    assert len(await schedules.list_triggers(schedule_id=f"{unique}other")) == 1


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_history_longer_than_one_commit_is_left_to_no_new_schedule(open_deployment: Any, kind: str) -> None:
    deployment: Deployment = open_deployment(kind)
    schedules = ConvexStore(id="test", deployment=deployment).schedules
    with Session(deployment) as session:
        for start in range(0, 6_000, 3_000):
            rows = [trigger("s", start + n, id=f"t{start + n}", trigger_kind="manual") for n in range(3_000)]
            session.add_all([ScheduleTrigger(**row) for row in rows], unique=False, returning=False)
            session.commit()
    assert schedules.create_schedule(schedule=schedule("s", owner_id="o")).owner_id == "o"
    assert schedules.list_triggers(schedule_id="s") == []
    found = schedules.get_schedule(id="s")
    assert found is not None
    assert (found.owner_id, found.next_fire_at) == ("o", NEVER)


# -- resuming ------------------------------------------------------------------------------------------------------


async def test_a_resumed_schedule_is_not_due_for_the_time_it_was_paused(
    schedules: AsyncSchedules, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = at(0)
    monkeypatch.setattr("mastra_convex.schedules.moment", lambda: noon)
    paused = {"status": "paused", "next_fire_at": 1_000, "timezone": "Asia/Kathmandu"}
    await schedules.create_schedule(schedule=schedule(unique, cron="30 9 * * *", **paused))
    changed = await schedules.update_schedule(id=unique, patch={"metadata": {"a": 1}})
    assert (changed.status, changed.next_fire_at) == ("paused", 1_000)
    resumed = await schedules.update_schedule(id=unique, patch={"status": "active"})
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    tomorrow = datetime(2024, 5, 2, 3, 45, tzinfo=UTC)  # half past nine there
    assert resumed.next_fire_at == found.next_fire_at == tomorrow.timestamp() * 1_000
    assert found.updated_at == noon.timestamp() * 1_000 or found.updated_at > 1_000
    # what is asked for is done, and what is still to come stays
    await schedules.update_schedule(id=unique, patch={"status": "paused"})
    asked = await schedules.update_schedule(id=unique, patch={"status": "active", "next_fire_at": 2_000})
    assert asked.next_fire_at == 2_000
    await schedules.update_schedule(id=unique, patch={"status": "paused", "next_fire_at": NEVER})
    assert (await schedules.update_schedule(id=unique, patch={"status": "active"})).next_fire_at == NEVER
    over: Any = {"status": "paused", "next_fire_at": 3_000, "cron": "0 0 0 1 1 * 2020"}
    await schedules.update_schedule(id=unique, patch=over)
    with pytest.raises(InvalidArgument) as caught:
        await schedules.update_schedule(id=unique, patch={"status": "active"})
    assert caught.value.argument == "patch.next_fire_at"


async def test_a_schedule_resumed_while_the_clock_goes_through_an_hour_again_is_not_late(
    schedules: AsyncSchedules, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half past two, for the second time in that night."""
    monkeypatch.setattr("mastra_convex.schedules.moment", lambda: datetime(2026, 10, 25, 1, 31, tzinfo=UTC))
    paused = {"status": "paused", "next_fire_at": 1_000, "timezone": "europe/berlin"}
    await schedules.create_schedule(schedule=schedule(unique, cron="*/15 * * * *", **paused))
    resumed = await schedules.update_schedule(id=unique, patch={"status": "active"})
    assert resumed.next_fire_at == datetime(2026, 10, 25, 1, 45, tzinfo=UTC).timestamp() * 1_000


# -- clocks --------------------------------------------------------------------------------------------------------


async def test_the_last_moment_there_is_stays(schedules: AsyncSchedules, unique: str) -> None:
    last = 2**53 - 1
    times = dict.fromkeys(("next_fire_at", "created_at", "updated_at"), last)
    await schedules.create_schedule(schedule=schedule(unique, **{**times, "next_fire_at": last - 1}))
    assert (await schedules.update_schedule(id=unique, patch={"metadata": {"a": 1}})).updated_at == last
    fire = {**claim(unique, last - 1, last), "last_fire_at": last}
    assert [await schedules.update_schedule_next_fire(**fire) for _ in range(2)] == [True, False]
    paused = await schedules.update_schedule(id=unique, patch={"status": "paused"})
    resumed = await schedules.update_schedule(id=unique, patch={"status": "active"})
    assert (paused.next_fire_at, resumed.next_fire_at, resumed.metadata) == (last, last, {"a": 1})


async def test_a_clock_that_is_behind_sets_no_schedule_back(
    schedules: AsyncSchedules, unique: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    ahead = 4_000_000_000_000
    await schedules.create_schedule(schedule=schedule(unique, updated_at=ahead))
    monkeypatch.setattr("mastra_convex.schedules.moment", lambda: at(0))
    assert (await schedules.update_schedule(id=unique, patch={"metadata": {"a": 1}})).updated_at > ahead
    assert await schedules.update_schedule_next_fire(**claim(unique))
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    assert found.next_fire_at == NEVER + 1
    if "foreign" not in request.node.name:  # the npm package's own functions set their server's time with a claim
        assert found.updated_at > ahead + 1


# -- claiming ------------------------------------------------------------------------------------------------------


async def test_a_claim_moves_the_fire_on_once(schedules: AsyncSchedules, unique: str) -> None:
    await schedules.create_schedule(schedule=schedule(unique))
    assert await schedules.update_schedule_next_fire(**claim(unique, run="first")) is True
    assert await schedules.update_schedule_next_fire(**claim(unique, run="second")) is False
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    assert (found.next_fire_at, found.last_fire_at, found.last_run_id) == (NEVER + 1, NEVER + 5, "first")
    assert found.updated_at > 1_000
    assert await schedules.update_schedule_next_fire(**claim(unique, NEVER + 1, NEVER + 2)) is True


async def test_a_claim_of_another_fire_or_of_no_schedule_is_false(schedules: AsyncSchedules, unique: str) -> None:
    assert await schedules.update_schedule_next_fire(**claim(unique)) is False
    await schedules.create_schedule(schedule=schedule(unique))
    assert await schedules.update_schedule_next_fire(**claim(unique, NEVER - 1)) is False
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    assert (found.next_fire_at, found.last_run_id, found.updated_at) == (NEVER, None, 1_000)


@pytest.mark.parametrize("new", [NEVER, NEVER - 1, 0])
async def test_a_claim_to_no_later_time_is_refused(schedules: AsyncSchedules, unique: str, new: int) -> None:
    await schedules.create_schedule(schedule=schedule(unique))
    for _ in range(2):
        with pytest.raises(InvalidArgument) as caught:
            await schedules.update_schedule_next_fire(**claim(unique, new=new))
        assert caught.value.argument == "new_next_fire_at"
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    assert (found.next_fire_at, found.last_run_id, found.updated_at) == (NEVER, None, 1_000)


async def test_a_claim_is_not_lost_to_a_change_of_something_else(
    schedules: AsyncSchedules, deployment: Deployment, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await schedules.create_schedule(schedule=schedule(unique))
    clock = schedules_module._now
    patched: list[str] = []

    def meanwhile() -> int:
        if not patched:
            patched.append("once")
            ConvexStore(id="other", deployment=deployment).schedules.update_schedule(id=unique, patch={"owner_id": "o"})
        return clock()

    monkeypatch.setattr("mastra_convex.schedules._now", meanwhile)
    assert await schedules.update_schedule_next_fire(**claim(unique))
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    assert (found.next_fire_at, found.owner_id) == (NEVER + 1, "o")


async def test_a_claim_on_a_paused_schedule_is_false(schedules: AsyncSchedules, unique: str) -> None:
    await schedules.create_schedule(schedule=schedule(unique, status="paused"))
    assert await schedules.update_schedule_next_fire(**claim(unique)) is False
    await schedules.update_schedule(id=unique, patch={"status": "active"})
    assert await schedules.update_schedule_next_fire(**claim(unique)) is True


@pytest.mark.parametrize("kind", ["memory", "sqlite", "host"])
def test_of_fifty_threads_that_claim_a_fire_one_wins(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    schedules = ConvexStore(id="test", deployment=open_deployment(kind)).schedules
    schedules.create_schedule(schedule=schedule(unique))
    won = at_once(50, lambda number: schedules.update_schedule_next_fire(**claim(unique, run=f"run-{number}")))
    assert sorted(won) == [False] * 49 + [True]
    found = schedules.get_schedule(id=unique)
    assert found is not None
    assert (found.next_fire_at, found.last_run_id) == (NEVER + 1, f"run-{won.index(True)}")


def _claims(url: str, worker: int, fires: int) -> list[int]:
    """Claim every fire of a schedule, and say which of them this process has won."""
    with connect(url) as deployment:
        schedules = ConvexStore(id="test", deployment=deployment).schedules
        return [
            fire
            for fire in range(fires)
            if schedules.update_schedule_next_fire(**claim("s", fire, fire + 1, f"run-{worker}"))
        ]


def test_of_processes_that_claim_the_same_fires_each_fire_has_one_winner(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'claims.db'}"
    with connect(url) as deployment:
        schedules = ConvexStore(id="test", deployment=deployment).schedules
        schedules.create_schedule(schedule=schedule("s", next_fire_at=0))
    with multiprocessing.get_context("spawn").Pool(5) as pool:
        won = pool.starmap(_claims, [(url, worker, 10) for worker in range(5)])
    fires = [fire for one in won for fire in one]
    assert sorted(fires) == list(range(len(fires)))  # a process that is ahead misses none, one that is behind wins none
    with connect(url) as deployment:
        found = ConvexStore(id="test", deployment=deployment).schedules.get_schedule(id="s")
        assert found is not None
        assert found.next_fire_at == len(fires) > 0


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_a_schedule_is_never_claimed_after_it_was_paused(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    schedules = ConvexStore(id="test", deployment=open_deployment(kind)).schedules
    for turn in range(5):
        id = f"{unique}{turn}"
        schedules.create_schedule(schedule=schedule(id, next_fire_at=0))

        def work(number: int, id: str = id) -> int | None:
            """Pause it, and see which fire was next then; or claim fires until that is refused."""
            if number == 0:
                return schedules.update_schedule(id=id, patch={"status": "paused"}).next_fire_at
            fire = 0
            while fire < 200 and schedules.update_schedule_next_fire(**claim(id, fire, fire + 1)):
                fire += 1
            return None

        at_pause = at_once(2, work)[0]
        found = schedules.get_schedule(id=id)
        assert found is not None
        assert (found.status, found.next_fire_at) == ("paused", at_pause)
        schedules.delete_schedule(id=id)


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_of_many_that_create_a_schedule_one_does(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    schedules = ConvexStore(id="test", deployment=open_deployment(kind)).schedules

    def create(number: int) -> bool:
        try:
            schedules.create_schedule(schedule=schedule(unique, cron=f"{number} * * * *"))
        except ScheduleAlreadyExists:
            return False
        return True

    created = at_once(20, create)
    found = schedules.get_schedule(id=unique)
    assert found is not None
    assert (created.count(True), found.cron) == (1, f"{created.index(True)} * * * *")


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_concurrent_patches_of_different_attributes_are_all_kept(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    schedules = ConvexStore(id="test", deployment=open_deployment(kind)).schedules
    schedules.create_schedule(schedule=schedule(unique))
    patches: list[Any] = [
        {"cron": "9 * * * *"},
        {"timezone": "UTC"},
        {"metadata": {"a": 1}},
        {"owner_type": "agent"},
        {"owner_id": "o"},
        {"target": AGENT},
    ]
    at_once(len(patches), lambda number: schedules.update_schedule(id=unique, patch=patches[number]))
    found = schedules.get_schedule(id=unique)
    assert found is not None
    for patch in patches:
        assert {name: getattr(found, name) for name in patch} == patch


# -- triggers ------------------------------------------------------------------------------------------------------


async def test_triggers_are_listed_whole_and_newest_first(schedules: AsyncSchedules, unique: str) -> None:
    full = trigger(
        unique,
        20,
        id=f"{unique}full",
        run_id=None,
        outcome="dropped-stale",
        error="late",
        trigger_kind="queue-drain",
        parent_trigger_id="p",
        metadata={"$a": "日本語", "n": 1},
    )
    await schedules.record_trigger(trigger=full)
    await schedules.record_trigger(trigger=trigger(unique, 30))
    await schedules.record_trigger(trigger=trigger(unique, 10))
    await schedules.record_trigger(trigger=trigger(f"{unique}other", 25))
    newest, middle, oldest = await schedules.list_triggers(schedule_id=unique)
    assert {name: getattr(middle, name) for name in full} == full
    assert (newest.actual_fire_at, newest.run_id, newest.trigger_kind) == (30, "run-30", "schedule-fire")
    assert (newest.error, newest.parent_trigger_id, newest.metadata) == (None, None, None)
    assert newest.id != oldest.id
    assert len(newest.id) == 36


async def test_triggers_of_one_moment_are_listed_last_recorded_first(schedules: AsyncSchedules, unique: str) -> None:
    for number in range(4):
        await schedules.record_trigger(trigger=trigger(unique, 5, run_id=str(number)))
    assert [one.run_id for one in await schedules.list_triggers(schedule_id=unique)] == ["3", "2", "1", "0"]


@pytest.mark.parametrize(
    ("opts", "expected"),
    [
        ({}, [4, 3, 2, 1, 0]),
        ({"limit": 2}, [4, 3]),
        ({"limit": 0}, []),
        ({"limit": None}, [4, 3, 2, 1, 0]),
        ({"limit": 9}, [4, 3, 2, 1, 0]),
        ({"from_actual_fire_at": 3}, [4, 3]),
        ({"to_actual_fire_at": 3}, [2, 1, 0]),
        ({"from_actual_fire_at": 1, "to_actual_fire_at": 4, "limit": 2}, [3, 2]),
        ({"from_actual_fire_at": 0, "to_actual_fire_at": 0}, []),
        ({"to_actual_fire_at": 0}, []),
    ],
)
async def test_triggers_are_listed_by_range_and_limit(
    schedules: AsyncSchedules, unique: str, opts: Any, expected: list[int]
) -> None:
    for actual in (2, 0, 4, 1, 3):
        await schedules.record_trigger(trigger=trigger(unique, actual))
    assert [one.actual_fire_at for one in await schedules.list_triggers(schedule_id=unique, opts=opts)] == expected


async def test_without_a_limit_all_triggers_are_listed(
    schedules: AsyncSchedules, deployment: Deployment, unique: str
) -> None:
    rows = [trigger(unique, number, id=f"{unique}{number}", trigger_kind="manual") for number in range(250)]
    with Session(deployment) as session:
        session.add_all([ScheduleTrigger(**row) for row in rows], returning=False)
        session.commit()
    assert len(await schedules.list_triggers(schedule_id=unique)) == 250


async def test_a_trigger_recorded_twice_is_an_error(schedules: AsyncSchedules, unique: str) -> None:
    await schedules.record_trigger(trigger=trigger(unique, 1, id=unique))
    with pytest.raises(ScheduleTriggerAlreadyExists) as caught:
        await schedules.record_trigger(trigger=trigger(unique, 2, id=unique))
    assert caught.value.id == "MASTRA_STORAGE_CONVEX_RECORD_TRIGGER_TRIGGER_EXISTS"
    assert len(await schedules.list_triggers(schedule_id=unique)) == 1


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "argument"),
    [
        ({"id": ""}, "schedule.id"),
        ({"id": 5}, "schedule.id"),
        ({"status": "stopped"}, "schedule.status"),
        ({"cron": ""}, "schedule.cron"),
        ({"cron": None}, "schedule.cron"),
        ({"cron": "soon"}, "schedule.cron"),
        ({"cron": "61 * * * *"}, "schedule.cron"),
        ({"cron": "0 0 30 2 *"}, "schedule.cron"),
        ({"timezone": "Mars/Base"}, "schedule.timezone"),
        ({"timezone": "../etc"}, "schedule.timezone"),
        ({"timezone": ""}, "schedule.timezone"),
        ({"target": None}, "schedule.target"),
        ({"target": "workflow"}, "schedule.target"),
        ({"target": {"workflowId": "w"}}, "schedule.target.type"),
        ({"target": {"type": "email"}}, "schedule.target.type"),
        ({"target": {"type": "workflow"}}, "schedule.target.workflowId"),
        ({"target": {"type": "agent", "agentId": ""}}, "schedule.target.agentId"),
        ({"target": {**WORKFLOW, "inputData": {"a": object()}}}, "schedule.target"),
        ({"next_fire_at": None}, "schedule.next_fire_at"),
        ({"next_fire_at": "soon"}, "schedule.next_fire_at"),
        ({"next_fire_at": 1.5}, "schedule.next_fire_at"),
        ({"next_fire_at": float("nan")}, "schedule.next_fire_at"),
        ({"next_fire_at": True}, "schedule.next_fire_at"),
        ({"next_fire_at": at(0).replace(tzinfo=None)}, "schedule.next_fire_at"),
        ({"last_fire_at": "x"}, "schedule.last_fire_at"),
        ({"metadata": [1]}, "schedule.metadata"),
        ({"metadata": {"a": float("nan")}}, "schedule.metadata"),
        ({"timezone": 5}, "schedule.timezone"),
        ({"nextFireAt": 5}, "schedule"),
    ],
)
async def test_a_schedule_that_cannot_be_stored_is_refused(
    schedules: AsyncSchedules, unique: str, changed: Any, argument: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await schedules.create_schedule(schedule={**schedule(unique), **changed})
    assert caught.value.id.startswith("MASTRA_STORAGE_CONVEX_CREATE_SCHEDULE_INVALID_")
    assert caught.value.argument == argument
    assert await schedules.get_schedule(id=unique) is None


@pytest.mark.parametrize("missing", ["id", "target", "cron", "next_fire_at"])
async def test_a_schedule_without_a_required_attribute_is_refused(
    schedules: AsyncSchedules, unique: str, missing: str
) -> None:
    given = schedule(unique)
    del given[missing]
    with pytest.raises(InvalidArgument) as caught:
        await schedules.create_schedule(schedule=given)
    assert caught.value.argument == f"schedule.{missing}"


@pytest.mark.parametrize(
    "patch",
    [
        {"id": "other"},
        {"created_at": 5},
        {"workflow_id": "w"},
        {"status": "stopped"},
        {"status": None},
        {"cron": None},
        {"cron": "* * *"},
        {"timezone": "Mars/Base"},
        {"next_fire_at": None},
        {"target": None},
        {"target": {"type": "workflow"}},
        {"owner_id": 5},
        {"metadata": "text"},
        ["cron"],
        None,
    ],
)
async def test_a_patch_that_cannot_be_stored_is_refused(schedules: AsyncSchedules, unique: str, patch: Any) -> None:
    await schedules.create_schedule(schedule=schedule(unique))
    with pytest.raises(InvalidArgument):
        await schedules.update_schedule(id=unique, patch=patch)
    found = await schedules.get_schedule(id=unique)
    assert found is not None
    assert found.updated_at == 1_000


@pytest.mark.parametrize(
    "changed",
    [
        {"outcome": "great"},
        {"outcome": None},
        {"trigger_kind": "cron"},
        {"schedule_id": ""},
        {"actual_fire_at": None},
        {"scheduled_fire_at": "x"},
        {"metadata": 5},
        {"run_id": 5},
        {"status": "x"},
    ],
)
async def test_a_trigger_that_cannot_be_stored_is_refused(schedules: AsyncSchedules, unique: str, changed: Any) -> None:
    with pytest.raises(InvalidArgument):
        await schedules.record_trigger(trigger={**trigger(unique, 1), **changed})
    assert await schedules.list_triggers(schedule_id=unique) == []


async def test_other_bad_arguments_are_refused(schedules: AsyncSchedules, unique: str) -> None:
    bad: Any
    for bad in ("", None, 5):
        for method in (schedules.get_schedule, schedules.delete_schedule):
            with pytest.raises(InvalidArgument):
                await method(id=bad)
        with pytest.raises(InvalidArgument):
            await schedules.list_triggers(schedule_id=bad)
        with pytest.raises(InvalidArgument):
            await schedules.update_schedule_next_fire(**{**claim(unique), "last_run_id": bad})
    for bad in (-1, 1.5, True, "2"):
        with pytest.raises(InvalidArgument):
            await schedules.list_due_schedules(now=0, limit=bad)
        with pytest.raises(InvalidArgument):
            await schedules.list_triggers(schedule_id=unique, opts={"limit": bad})
    for bad in (None, "now", 1.5):
        with pytest.raises(InvalidArgument):
            await schedules.list_due_schedules(now=bad)
    for bad in ({"status": "stopped"}, {"owner": "x"}, {"owner_id": ""}, {"workflow_id": 5}, "active"):
        with pytest.raises(InvalidArgument):
            await schedules.list_schedules(filter=bad)
    for bad in ({"page": 1}, {"from_actual_fire_at": "x"}):
        with pytest.raises(InvalidArgument):
            await schedules.list_triggers(schedule_id=unique, opts=bad)


async def test_a_schedule_larger_than_a_document_is_an_error_with_both_sizes(
    schedules: AsyncSchedules, unique: str
) -> None:
    with pytest.raises(LimitExceeded) as caught:
        await schedules.create_schedule(schedule=schedule(unique, metadata={"text": "x" * (1 << 20)}))
    assert (caught.value.maximum, (caught.value.actual or 0) > 1 << 20) == (1 << 20, True)
    assert await schedules.get_schedule(id=unique) is None


# -- costs ---------------------------------------------------------------------------------------------------------


def test_what_is_due_costs_one_call_and_only_the_due_documents(fresh_host: Host) -> None:
    with fresh_host.connect() as deployment:
        schedules = ConvexStore(id="test", deployment=deployment).schedules
        with Session(deployment) as session:
            for number in range(400):
                attributes = {"next_fire_at": number, "status": "paused" if number % 2 else "active", "workflow_id": "wf"}
                session.add(Schedule(**schedule(f"s{number}", **attributes)), returning=False)
            session.commit()
        fresh_host.reset()
        assert [one.next_fire_at for one in schedules.list_due_schedules(now=9)] == [0, 2, 4, 6, 8]
        counts = fresh_host.metrics()
        assert (counts["calls"], counts["documentsRead"]) == (1, 5)
        fresh_host.reset()
        assert len(schedules.list_due_schedules(now=300, limit=3)) == 3
        assert fresh_host.metrics()["documentsRead"] <= 4
        fresh_host.reset()
        assert schedules.list_due_schedules(now=300, limit=0) == []
        assert fresh_host.metrics()["calls"] == 0


def test_a_claim_costs_two_calls_and_does_not_read_the_table(fresh_host: Host) -> None:
    with fresh_host.connect() as deployment:
        schedules = ConvexStore(id="test", deployment=deployment).schedules
        with Session(deployment) as session:
            session.add_all([Schedule(**schedule(f"s{number}")) for number in range(300)], returning=False)
            session.commit()
        fresh_host.reset()
        assert schedules.update_schedule_next_fire(**claim("s7"))
        counts = fresh_host.metrics()
        assert counts["calls"] == 2
        assert counts["documentsRead"] <= 5


def test_lists_of_schedules_and_triggers_read_what_they_answer(fresh_host: Host) -> None:
    with fresh_host.connect() as deployment:
        schedules = ConvexStore(id="test", deployment=deployment).schedules
        with Session(deployment) as session:
            for number in range(300):
                flow = f"wf{number % 100}"
                attributes = {"workflow_id": flow, "target": {"type": "workflow", "workflowId": flow}}
                owner = {"owner_type": "agent", "owner_id": f"a{number % 50}"}
                session.add(Schedule(**schedule(f"s{number}", **attributes, **owner)), returning=False)
                row = trigger(f"s{number % 2}", number, id=f"t{number}", trigger_kind="manual")
                session.add(ScheduleTrigger(**row), returning=False)
            session.commit()
        for wanted, answered in (
            ({"workflow_id": "wf5"}, 3),
            ({"workflow_id": "wf5", "status": "active"}, 3),
            ({"owner_type": "agent", "owner_id": "a3"}, 6),
            ({"owner_id": "a4"}, 6),
            ({"status": "paused"}, 0),
            ({"owner_type": None}, 0),
        ):
            fresh_host.reset()
            assert len(schedules.list_schedules(filter=wanted)) == answered  # type: ignore[arg-type]
            counts = fresh_host.metrics()
            assert (counts["calls"], counts["documentsRead"]) == (1, answered), wanted
        fresh_host.reset()
        found = schedules.list_triggers(schedule_id="s0", opts={"limit": 5, "to_actual_fire_at": 290})
        assert [one.actual_fire_at for one in found] == [288, 286, 284, 282, 280]
        counts = fresh_host.metrics()
        assert counts["calls"] == 1
        assert counts["documentsRead"] <= 6
