"""A storm of observers, schedulers, workers, cloners and movers in three processes that are killed and begun again.

Every piece of work is done once, whoever was killed over it: a fire is claimed once, a task completed once, an observation
noted once and never lost from view, a clone is whole, a thread that moves takes what is its owner's, an index of a list
given once, a webhook one agent's. `STORM_SCALE` makes it that many times longer, `STORM_SEED` another one; its figures are
printed in one line.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import attrs
import pytest

from convexorm import StaleDataError
from mastra_convex import (
    ConvexServerCache,
    ConvexStore,
    InvalidArgument,
    NoBufferedReflection,
    ObservationalMemory,
    ObservationalMemoryReplaced,
    ObservationsChanged,
    ScheduleTriggerAlreadyExists,
    ThreadAlreadyExists,
    ThreadNotFound,
)
from mastra_convex.memory import copies, moves
from tests.conftest import Host

SCALE = int(os.environ.get("STORM_SCALE", "1"))
SEED = int(os.environ.get("STORM_SEED", "1"))
PROCESSES = 3
KILLS = 3 * SCALE
BETWEEN = 60
"""Rounds from one kill to the next, at most."""
ROUNDS = BETWEEN * SCALE
"""Things that each process does, all its lives together."""
OWNERS = ("r", "s", "t")
"""Whose the thread is that moves, in turn. The first has the other threads."""
SCHEDULES, TASKS, THREADS, CYCLES = 3, 12 * SCALE, 2 * SCALE, 25
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
SWAP: Any = {"message_tokens_threshold": 100, "current_pending_tokens": 1_000, "force_max_activation": True}


@attrs.frozen
class Place:
    """Where the storm is, and how large the messages of a thread are that is cloned: in several commits, or in one."""

    url: str
    key: str | None
    message_bytes: int
    messages: int = 10

    def store(self) -> ConvexStore:
        return ConvexStore(id="storm", deployment_url=self.url, admin_auth_token=self.key)

    def cache(self) -> ConvexServerCache:
        return ConvexServerCache(deployment_url=self.url, admin_auth_token=self.key)


def prepare(store: ConvexStore, place: Place) -> None:
    target = {"type": "workflow", "workflow_id": "w"}
    for number in range(SCHEDULES):
        store.schedules.create_schedule(
            schedule={"id": f"s{number}", "target": target, "cron": "* * * * *", "next_fire_at": 0}
        )
    for number in range(TASKS):
        names = {name: f"{name}{number}" for name in ("tool_call_id", "tool_name", "agent_id", "run_id")}
        store.background_tasks.create_task(task={"id": f"t{number}", "status": "pending", **names})
    for number in range(THREADS):
        store.memory.save_thread(thread={"id": f"o{number}", "resource_id": "r", "title": ""})
    text = {"format": 2, "parts": [{"type": "text", "text": "x" * place.message_bytes}]}
    for thread in ("source", "moving"):
        store.memory.save_thread(thread={"id": thread, "resource_id": OWNERS[0], "title": ""})
        record: dict[str, Any] = {"thread_id": thread, "role": "user", "content": text}
        for number in range(place.messages):
            store.memory.save_messages(messages=[{**record, "id": f"{thread}{number}", "resource_id": OWNERS[0]}])
    for owner in OWNERS[1:]:  # what each has in there stays
        store.memory.save_messages(messages=[{**record, "id": f"of {owner}", "resource_id": owner}])
    observed: Any = {"thread_id": "moving", "resource_id": OWNERS[0], "scope": "thread", "config": {}}
    store.memory.initialize_observational_memory(**observed)


# -- what a process does -------------------------------------------------------------------------------------------


@attrs.define
class Hand:
    """A process at work: what it has read and claimed before, and how it tells the parent what was done."""

    store: ConvexStore
    cache: ConvexServerCache
    chance: random.Random
    tell: Callable[[str, str], None]
    name: str
    due: dict[str, int] = attrs.field(factory=dict)
    held: dict[str, Any] = attrs.field(factory=dict)


def fire(hand: Hand) -> None:
    """Claim the fires of some schedules as they were read, which may be long ago, and record what came of it."""
    schedules = hand.store.schedules
    if not hand.due or hand.chance.random() < 0.6:
        hand.due = {one.id: one.next_fire_at for one in schedules.list_due_schedules(now=10**12)}
    for id, moment in list(hand.due.items())[:2]:
        claimed = schedules.update_schedule_next_fire(
            id=id, expected_next_fire_at=moment, new_next_fire_at=moment + 1, last_fire_at=moment, last_run_id=hand.name
        )
        if claimed:
            hand.tell("fired", f"{id}:{moment}")
            trigger = {"schedule_id": id, "scheduled_fire_at": moment, "actual_fire_at": moment, "outcome": "published"}
            with suppress(ScheduleTriggerAlreadyExists):  # then it was told twice
                schedules.record_trigger(trigger={"id": f"{id}:{moment}", **trigger})


def work(hand: Hand) -> None:
    """Take a task, complete one that was taken, or take one from somebody, as if its worker were dead."""
    tasks = hand.store.background_tasks
    step = hand.chance.random()
    if hand.held and step < 0.2:
        id = hand.chance.choice(list(hand.held))
        mine = hand.held.pop(id)
        done: Any = {"status": "completed", "result": mine["expected_retry_count"]}
        if tasks.update_task(task_id=id, update=done, options=mine):
            hand.tell("completed", id)
        return
    id = f"t{hand.chance.randrange(TASKS)}"
    task = tasks.get_task(task_id=id)
    assert task is not None
    retries = task.retry_count
    if task.status == "running":
        theirs: Any = {"expected_status": "running", "expected_started_at": task.started_at}
        again: Any = {"status": "pending", "started_at": None, "retry_count": retries + 1}
        theirs["expected_retry_count"] = retries
        if not tasks.update_task(task_id=id, update=again, options=theirs):
            return
        retries += 1
    begun: Any = {"status": "running", "started_at": datetime.now(UTC)}
    free: Any = {"expected_status": "pending", "expected_retry_count": retries}
    if tasks.update_task(task_id=id, update=begun, options=free):
        expected = {"expected_started_at": begun["started_at"], "expected_retry_count": retries}
        hand.held[id] = {**expected, "expected_status": "running"}


def observe(hand: Hand) -> None:
    """Note a cycle, which others note too; activate some; reflect, without leaving anything out."""
    memory, random, me = hand.store.memory, hand.chance, hand.name
    thread = f"o{random.randrange(THREADS)}"
    record = memory.initialize_observational_memory(thread_id=thread, resource_id="r", scope="thread", config={})
    try:
        step = random.random()
        if step < 0.5:
            cycle = f"<{thread}.{random.randrange(CYCLES)}>"
            memory.update_buffered_observations(id=record.id, chunk=chunk(cycle))
            hand.tell("noted", cycle)
        elif step < 0.7:
            memory.swap_buffered_to_active(id=record.id, activation_ratio=random.random(), **SWAP)
        elif step < 0.85:
            if memory.set_reflecting_flag(id=record.id, is_reflecting=True, owner=me, lease_ms=20):
                made = memory.create_reflection_generation(
                    current_record=record, reflection=record.active_observations, token_count=1
                )
                memory.set_reflecting_flag(id=record.id, is_reflecting=False, owner=me)
                hand.tell("reflected", made.id)
        elif record.buffered_reflection:
            made = memory.swap_buffered_reflection_to_active(current_record=record, token_count=1)
            hand.tell("reflected", made.id)
        elif memory.set_observing_flag(id=record.id, is_observing=True, owner=me, lease_ms=20):
            cycle, active = f"<{thread}.{me}>", record.active_observations
            if cycle not in active:
                memory.update_active_observations(
                    id=record.id,
                    observations=f"{active}\n{cycle}",
                    token_count=1,
                    last_observed_at=MOMENT,
                    expected_observations=active,
                )
                hand.tell("noted", cycle)
            memory.set_observing_flag(id=record.id, is_observing=False, owner=me)
    except (ObservationalMemoryReplaced, ObservationsChanged, NoBufferedReflection):
        pass  # somebody was faster


def chunk(cycle: str) -> Any:
    tokens = {"token_count": 1, "message_tokens": 10, "message_ids": [cycle], "last_observed_at": MOMENT}
    return {"cycle_id": cycle, "observations": cycle, **tokens}


def clone(hand: Hand) -> None:
    """Clone a thread under an id that others may take too."""
    id = f"copy{hand.chance.randrange(2 * SCALE)}"
    with suppress(ThreadAlreadyExists):
        hand.store.memory.clone_thread(source_thread_id="source", new_thread_id=id)
        hand.tell("cloned", id)


def move(hand: Hand) -> None:
    """Give a thread to another resource, as others do at the same time; or note something in it for who has it."""
    memory = hand.store.memory
    thread = memory.get_thread_by_id(thread_id="moving")
    assert thread is not None
    owner, to = thread.resource_id, hand.chance.choice(OWNERS)
    cycle = f"<moving.{hand.name}.{hand.chance.randrange(2**32)}>"
    with suppress(ThreadNotFound, StaleDataError, InvalidArgument, ObservationalMemoryReplaced):  # it is another's by now
        if hand.chance.random() < 0.5:
            memory.update_thread_resource_id(thread_id="moving", resource_id=to, source_resource_id=owner)
            hand.tell("moved", f"{hand.name}.{hand.chance.randrange(2**32)}")
        else:
            record = memory.initialize_observational_memory(
                thread_id="moving", resource_id=owner, scope="thread", config={}
            )
            memory.update_buffered_observations(id=record.id, chunk=chunk(cycle))
            hand.tell("noted", cycle)


def push(hand: Hand) -> None:
    """Number an element of a list that all push to, whose counter is counted by some and its list pushed to by others."""
    step = hand.chance.random()
    if step < 0.2:
        hand.cache.list_push(key="list", value={"by": hand.name})
    elif step < 0.3:
        hand.cache.increment(key="counter")
    elif step < 0.4:
        hand.cache.delete(key="counter")
    else:
        index = hand.cache.list_push_indexed(list_key="list", counter_key="counter", value={"by": hand.name})
        hand.tell("pushed", str(index))


def install(hand: Hand) -> None:
    """Take one of two webhooks, under one of two ids, for one of three agents; or give it back."""
    agent, id = (f"{kind}{hand.chance.randrange(size)}" for kind, size in (("agent", 3), ("i", 2)))
    if hand.chance.random() < 0.3:
        hand.store.channels.delete_installation(id=id, agent_id=agent)
        return
    one = {"id": id, "platform": "p", "agent_id": agent, "status": "active", "data": {"agent": agent}}
    with suppress(InvalidArgument):
        hand.store.channels.save_installation(installation={**one, "webhook_id": hand.chance.choice(["v", "w"])})


ACTIONS = (*[fire] * 3, *[work] * 5, *[observe] * 7, *[move] * 3, clone, *[push] * 2, install)


def live(place: Place, seed: int, name: str, rounds: int, parent: Connection) -> None:
    """A process of the storm: so many things, each told to the parent when it is done."""
    moves._MOVED_AT_ONCE = copies._COPIED_AT_ONCE = 4  # so that there are commits to be killed between
    chance = random.Random(seed)
    with place.store() as store, place.cache() as cache:
        hand = Hand(store, cache, chance, lambda kind, what: parent.send((kind, what)), f"{name}.{seed}")
        for _ in range(rounds):
            chance.choice(ACTIONS)(hand)
            parent.send(("round", name))
    parent.close()


# -- the storm -----------------------------------------------------------------------------------------------------


def storm(place: Place, seed: int) -> tuple[Counter[tuple[str, str]], int]:
    """Run the processes, kill some and begin them again; what they told, and how many were killed."""
    chance = random.Random(seed)
    context = multiprocessing.get_context("spawn")
    told: Counter[tuple[str, str]] = Counter()
    running: dict[Connection, tuple[BaseProcess, str, int]] = {}
    kills = 0

    def begin(name: str, rounds: int) -> None:
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=live, args=(place, chance.randrange(2**32), name, rounds, theirs))
        process.start()
        theirs.close()
        running[mine] = (process, name, rounds)

    for number in range(PROCESSES):
        begin(f"p{number}", ROUNDS)
    try:
        victim_after = chance.randrange(5, BETWEEN)
        while running:
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                process, name, left = running[pipe]
                try:
                    kind, what = pipe.recv()
                except EOFError:
                    del running[pipe]
                    process.join()
                    assert process.exitcode == 0, f"{name} ended with {process.exitcode}"
                    continue
                if kind != "round":
                    told[kind, what] += 1
                    continue
                running[pipe] = (process, name, left - 1)
                victim_after -= 1
                if victim_after <= 0 and kills < KILLS and left > 1:
                    kills += 1
                    victim_after = chance.randrange(5, BETWEEN // 2)
                    process.kill()
                    told.update(rest(pipe))
                    process.join()
                    del running[pipe]
                    begin(f"{name}'", left - 1)
    finally:
        for process, _, _ in running.values():
            process.kill()
            process.join()
    return told, kills


def rest(pipe: Connection) -> Iterator[tuple[str, str]]:
    """What a process had told before it was killed."""
    try:
        while True:
            kind, what = pipe.recv()
            if kind != "round":
                yield kind, what
    except (EOFError, OSError):
        return


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_whoever_is_killed_every_piece_of_work_is_done_once(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "host":
        host: Host = request.getfixturevalue("fresh_host")
        place = Place(host.url, host.key, 100)
    else:
        place = Place(f"sqlite:///{tmp_path / 'storm.db'}", None, 900_000)
    started = time.monotonic()
    with place.store() as store:
        prepare(store, place)
        told, kills = storm(place, SEED)
        done = {
            name: [what for kind, what in told if kind == name] for name in ("fired", "completed", "noted", "reflected")
        }
        once = ("fired", "completed", "cloned", "pushed")
        assert [one for one, times in told.items() if times > 1 and one[0] in once] == []

        # every fire was claimed once, and is in the history but where its claimer was killed over it
        fires = sum(schedule.next_fire_at for schedule in store.schedules.list_schedules())
        history = [one for n in range(SCHEDULES) for one in store.schedules.list_triggers(schedule_id=f"s{n}")]
        assert fires - kills <= len(history) <= fires
        assert fires - kills <= len(done["fired"]) <= fires

        # every task that somebody completed is completed, by the one that had it last
        tasks = {task.id: task for task in store.background_tasks.list_tasks().tasks}
        assert all(tasks[id].status == "completed" for id in done["completed"])
        assert all(task.result == task.retry_count for task in tasks.values() if task.status == "completed")
        assert (
            len(done["completed"])
            <= sum(task.status == "completed" for task in tasks.values())
            <= len(done["completed"]) + kills
        )

        # every observation is there once, whatever generation it was noted in
        seen = 0
        for number in range(THREADS):
            record = store.memory.get_observational_memory(thread_id=f"o{number}", resource_id="r")
            assert record is not None
            waiting = "".join(one.cycle_id for one in record.buffered_observation_chunks or [])
            in_view = record.active_observations + waiting
            expected = [one for one in done["noted"] if one.startswith(f"<o{number}.")]
            assert {one: in_view.count(one) for one in expected} == dict.fromkeys(expected, 1)
            settle(store, f"o{number}")
            history_of = store.memory.get_observational_memory_history(thread_id=f"o{number}", resource_id="r", limit=None)
            counts = [record.generation_count for record in history_of]
            assert counts == list(range(len(counts)))[::-1]
            noted = history_of[0].active_observations
            assert {one: noted.count(one) for one in expected} == dict.fromkeys(expected, 1)
            assert all(noted.count(f"<o{number}.{cycle}>") == 1 for cycle in range(CYCLES))
            seen += len(counts) - 1
        assert len(done["reflected"]) <= seen

        # what moved is one owner's, with its messages and all that was noted in it, and nothing of others is
        found = store.memory.get_thread_by_id(thread_id="moving")
        assert found is not None
        store.memory.update_thread_resource_id(thread_id="moving", resource_id="end", source_resource_id=found.resource_id)
        inside = store.memory.list_messages(thread_id="moving", per_page=False).messages
        own = {one.id for one in inside if one.resource_id == "end"}
        assert {f"moving{number}" for number in range(place.messages)} <= own
        assert sorted(one.id for one in inside if one.id not in own) == sorted(
            f"of {one.resource_id}" for one in inside if one.id not in own
        )
        assert len(inside) == place.messages + 2
        noted_there = store.memory.get_observational_memory(thread_id="moving", resource_id="end")
        assert noted_there is not None
        cycles = Counter(one.cycle_id for one in noted_there.buffered_observation_chunks or [])
        assert set(cycles.values()) <= {1}
        assert {one for one in done["noted"] if one.startswith("<moving.")} <= set(cycles)
        assert all(not store.memory.get_observational_memory_history(thread_id="moving", resource_id=one) for one in OWNERS)

        # a clone is whole, also where it has to be made again
        for number in range(2 * SCALE):
            clone_again(store, f"copy{number}")
            copy = store.memory.list_messages(thread_id=f"copy{number}", per_page=False)
            assert len(copy.messages) == place.messages
        # an index was given once, to the element that has it; an installation is its agent's, and a webhook one agent's
        with place.cache() as cache:
            indexes = [one["index"] for one in cache.list_from_to(key="list", from_=0) if "index" in one]
        assert indexes == sorted(set(indexes))
        pushed = {int(what) for kind, what in told if kind == "pushed"}
        assert pushed <= set(indexes)
        assert len(indexes) <= len(pushed) + kills
        installed = store.channels.list_installations(platform="p")
        assert all(one.data == {"agent": one.agent_id} for one in installed)
        assert all(len({one.agent_id for one in installed if one.webhook_id == webhook}) <= 1 for webhook in "vw")
        figures = f"{kills} kills, {fires} fires, {len(done['completed'])} tasks, {len(done['noted'])} observations"
        sys.stdout.write(f"\nstorm of work on {kind}, seed {SEED}, scale {SCALE}: {figures}, {seen} reflections, ")
        sys.stdout.write(f"{time.monotonic() - started:.1f} s\n")
        assert kills == KILLS


def settle(store: ConvexStore, thread: str) -> ObservationalMemory:
    """Note every cycle once more, and make all of them active."""
    record = store.memory.initialize_observational_memory(thread_id=thread, resource_id="r", scope="thread", config={})
    for cycle in range(CYCLES):
        store.memory.update_buffered_observations(id=record.id, chunk=chunk(f"<{thread}.{cycle}>"))
    while store.memory.swap_buffered_to_active(id=record.id, activation_ratio=1, **SWAP).chunks_activated:
        pass
    return record


def clone_again(store: ConvexStore, id: str) -> None:
    with suppress(ThreadAlreadyExists):
        store.memory.clone_thread(source_thread_id="source", new_thread_id=id)
