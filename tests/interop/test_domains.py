"""Tasks, schedules, channels and observations that Python and the npm package's store work at together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from mastra_convex import ConvexStore
from tests.interop.oddities import ANY_KEYS, exactly
from tests.interop.typescript import Clients

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 6_000, tzinfo=UTC)


def after(seconds: int) -> datetime:
    return MOMENT + timedelta(seconds=seconds)


def test_a_task_begun_on_one_side_ends_on_the_other(store: ConvexStore, npm: Clients, unique: str) -> None:
    tasks = store.background_tasks
    names = {"toolName": "search", "toolCallId": "call", "agentId": unique, "runId": "run"}
    numbers = {"retryCount": 0, "maxRetries": 2, "timeoutMs": 1_500}
    task = {"id": f"{unique} npm", "status": "pending", **names, **numbers, "args": ANY_KEYS, "createdAt": MOMENT}
    npm.call("backgroundTasks", "createTask", task)
    found = tasks.get_task(task_id=f"{unique} npm")
    assert found is not None
    assert (found.status, found.retry_count, found.timeout_ms, found.created_at) == ("pending", 0, 1_500, MOMENT)
    assert exactly(found.args) == exactly(ANY_KEYS)
    assert (found.thread_id, found.result, found.error, found.started_at) == (None, None, None, None)

    tasks.update_task(task_id=f"{unique} npm", update={"status": "running", "started_at": after(1)})
    tasks.update_task(task_id=f"{unique} npm", update={"status": "completed", "result": ANY_KEYS, "completed_at": after(2)})
    ended = npm.call("backgroundTasks", "getTask", f"{unique} npm")
    done = {"status": "completed", "result": ANY_KEYS, "startedAt": after(1), "completedAt": after(2)}
    assert exactly({**task, **done}) == exactly(ended)

    python = {"tool_name": "search", "tool_call_id": "call", "agent_id": unique, "run_id": "run", "thread_id": "t"}
    tasks.create_task(task={"id": f"{unique} python", "status": "pending", **python, "created_at": after(3)})
    suspended = {"status": "suspended", "suspendPayload": ANY_KEYS, "suspendedAt": after(4)}
    npm.call("backgroundTasks", "updateTask", f"{unique} python", suspended)
    found = tasks.get_task(task_id=f"{unique} python")
    assert found is not None
    assert (found.status, found.suspended_at) == ("suspended", after(4))
    assert exactly(found.suspend_payload) == exactly(ANY_KEYS)
    assert [one.id for one in tasks.list_tasks(filter={"agent_id": unique}).tasks] == [
        one["id"] for one in npm.call("backgroundTasks", "listTasks", {"agentId": unique})["tasks"]
    ]


def test_a_schedule_fires_once_for_both_sides(store: ConvexStore, npm: Clients, unique: str) -> None:
    schedules = store.schedules
    target = {"type": "workflow", "workflowId": unique, "inputData": ANY_KEYS}
    times = {"nextFireAt": 0, "createdAt": 1, "updatedAt": 1}
    given = {"id": unique, "target": target, "cron": "* * * * *", "status": "active", **times, "metadata": ANY_KEYS}
    npm.call("schedules", "createSchedule", given)
    found = schedules.get_schedule(id=unique)
    assert found is not None
    assert exactly([found.target, found.metadata]) == exactly([target, ANY_KEYS])
    assert (found.next_fire_at, found.created_at, found.timezone, found.last_fire_at) == (0, 1, None, None)
    assert unique in [one.id for one in schedules.list_due_schedules(now=0)]

    def claim(number: int) -> tuple[str, bool]:
        run_id = str(number)
        if number == 0:
            return run_id, npm.call("schedules", "updateScheduleNextFire", unique, 0, 60_000, 5, run_id)
        return run_id, schedules.update_schedule_next_fire(
            id=unique, expected_next_fire_at=0, new_next_fire_at=60_000, last_fire_at=5, last_run_id=run_id
        )

    with ThreadPoolExecutor(6) as pool:
        (winner,) = [run_id for run_id, won in pool.map(claim, range(6)) if won]
    assert not claim(0)[1]
    read = npm.call("schedules", "getSchedule", unique)
    assert (read["lastRunId"], read["nextFireAt"], read["lastFireAt"]) == (winner, 60_000, 5)

    trigger = {"scheduled_fire_at": 0, "actual_fire_at": 5, "outcome": "published", "metadata": ANY_KEYS}
    schedules.record_trigger(trigger={"id": f"{unique} 1", "schedule_id": unique, "run_id": winner, **trigger})
    failed = {"scheduledFireAt": 60_000, "actualFireAt": 60_001, "outcome": "failed", "error": ""}
    npm.call("schedules", "recordTrigger", {"id": f"{unique} 2", "scheduleId": unique, "runId": "", **failed})
    second, first = schedules.list_triggers(schedule_id=unique)
    assert (second.id, second.error, second.run_id, second.trigger_kind) == (f"{unique} 2", "", "", "schedule-fire")
    listed = npm.call("schedules", "listTriggers", unique)
    assert [one["id"] for one in listed] == [second.id, first.id]
    assert exactly(listed[1]["metadata"]) == exactly(ANY_KEYS)

    schedules.update_schedule(id=unique, patch={"status": "paused", "metadata": None})
    paused = npm.call("schedules", "getSchedule", unique)
    assert (paused["status"], paused.get("metadata"), paused["cron"]) == ("paused", None, "* * * * *")
    npm.call("schedules", "deleteSchedule", unique)
    assert (schedules.get_schedule(id=unique), schedules.list_triggers(schedule_id=unique)) == (None, [])


def test_channels_are_kept_by_both_sides(store: ConvexStore, npm: Clients, unique: str) -> None:
    channels = store.channels
    given = {"id": unique, "platform": unique, "agentId": "agent", "status": "pending", "webhookId": unique}
    times = {"createdAt": MOMENT, "updatedAt": MOMENT}
    npm.call("channels", "saveInstallation", {**given, "data": ANY_KEYS, **times})
    found = channels.get_installation_by_webhook_id(webhook_id=unique)
    assert found is not None
    assert exactly(found.data) == exactly(ANY_KEYS)
    assert (found.status, found.config_hash, found.created_at) == ("pending", None, MOMENT)

    active = {"id": unique, "platform": unique, "agent_id": "agent", "status": "active", "config_hash": "日本語"}
    channels.save_installation(installation={**active, "data": {"$token": ""}})
    read = npm.call("channels", "getInstallationByAgent", unique, "agent")
    assert (read["status"], read["data"], read["configHash"]) == ("active", {"$token": ""}, "日本語")
    assert (read["createdAt"], read.get("webhookId")) == (MOMENT, None)

    channels.save_config(config={"platform": unique, "data": ANY_KEYS, "updated_at": MOMENT})
    config = npm.call("channels", "getConfig", unique)
    assert exactly(config["data"]) == exactly(ANY_KEYS)
    npm.call("channels", "saveConfig", {"platform": unique, "data": {"a": 0}, "updatedAt": MOMENT})
    stored = channels.get_config(platform=unique)
    assert stored is not None
    assert (stored.data, stored.updated_at) == ({"a": 0}, MOMENT)


def test_observations_of_both_sides_stand_in_one_memory(store: ConvexStore, npm: Clients, unique: str) -> None:
    memory = store.memory
    keys = {"threadId": unique, "resourceId": unique}

    begun = npm.call("memory", "initializeObservationalMemory", {**keys, "scope": "thread", "config": ANY_KEYS})
    for number in range(4):
        by_python = number % 2 == 1
        chunk: dict[str, Any] = {
            "cycle_id" if by_python else "cycleId": f"cycle {number}",
            "observations": f"observed {number} 日本語",
            "token_count" if by_python else "tokenCount": 10,
            "message_ids" if by_python else "messageIds": [f"m{number}"],
            "message_tokens" if by_python else "messageTokens": 100,
            "last_observed_at" if by_python else "lastObservedAt": after(number),
        }
        if by_python:
            memory.update_buffered_observations(id=begun["id"], chunk=chunk)  # type: ignore[arg-type]
        else:
            npm.call("memory", "updateBufferedObservations", {"id": begun["id"], "chunk": chunk})

    found = memory.get_observational_memory(thread_id=unique, resource_id=unique)
    assert found is not None
    assert exactly(found.config) == exactly(ANY_KEYS)
    chunks = found.buffered_observation_chunks or []
    assert [(one.cycle_id, one.last_observed_at) for one in chunks] == [(f"cycle {n}", after(n)) for n in range(4)]

    tokens = {"activationRatio": 1, "messageTokensThreshold": 400, "currentPendingTokens": 100}
    npm.call("memory", "swapBufferedToActive", {"id": begun["id"], **tokens})
    memory.swap_buffered_to_active(
        id=begun["id"], activation_ratio=1, message_tokens_threshold=400, current_pending_tokens=300
    )
    found = memory.get_observational_memory(thread_id=unique, resource_id=unique)
    assert found is not None
    read = npm.call("memory", "getObservationalMemory", unique, unique)
    assert found.active_observations == read["activeObservations"]
    assert found.active_observations == (
        "observed 0 日本語"
        + f"\n\n--- message boundary ({stamp(after(3))}) ---\n\n"
        + "\n\n".join(f"observed {n} 日本語" for n in range(1, 4))
    )
    assert (found.observation_token_count, read["observationTokenCount"]) == (40, 40)

    reflected = memory.create_reflection_generation(current_record=found, reflection="All in all.", token_count=3)
    newest = npm.call("memory", "getObservationalMemory", unique, unique)
    assert (newest["id"], newest["generationCount"], newest["originType"]) == (reflected.id, 1, "reflection")
    again = npm.call(
        "memory", "createReflectionGeneration", {"currentRecord": newest, "reflection": "In short.", "tokenCount": 2}
    )
    history = memory.get_observational_memory_history(thread_id=unique, resource_id=unique)
    assert [one.id for one in history] == [again["id"], reflected.id, begun["id"]]
    assert [one.active_observations for one in history[:2]] == ["In short.", "All in all."]


def stamp(moment: datetime) -> str:
    """As JavaScript writes it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
