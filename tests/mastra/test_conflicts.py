"""Operations on unrelated things, done at once on a host whose commits overlap: which of them conflict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from mastra_convex import ConvexServerCache, ConvexStore
from mastra_convex.vector import ConvexVector
from tests.conftest import ROOT, Host, serve_host
from tests.mastra.support import at, at_once, message, messages, thread
from tests.mastra.test_background_tasks import task
from tests.mastra.test_channels import installation
from tests.mastra.test_observational_memory import chunk
from tests.mastra.test_schedules import claim, schedule, trigger
from tests.mastra.test_scores import score

LATENCY = 40
"""Milliseconds from the run of a mutation to its commit, in which the other one runs."""


@pytest.fixture(scope="module")
def overlapping_host() -> Iterator[Host]:
    yield from serve_host(ROOT / "convex", "--latency", str(LATENCY))


NEXT = 4_000_000_000_000
DOCUMENTS = "mastra_experiments"
SNAPSHOT: Any = {"status": "running", "context": {}, "value": {}}


class Things:
    """A thread, its messages and all else under one name, related to nothing of another name."""

    def __init__(self, host: Host, name: str) -> None:
        self.name = name
        self.deployment = host.connect()
        self.store = ConvexStore(id="conflicts", deployment=self.deployment)
        self.vectors = ConvexVector(id="conflicts", deployment=self.deployment)
        self.cache = ConvexServerCache(deployment=self.deployment)
        memory = self.store.memory
        memory.save_thread(thread=thread(name, f"{name}-r"))
        memory.save_thread(thread=thread(f"{name}-old", f"{name}-r"))
        memory.save_messages(messages=messages(f"{name}-m", 3, name, f"{name}-r"))
        memory.save_messages(messages=messages(f"{name}-o", 3, f"{name}-old", f"{name}-r"))
        memory.save_resource(resource={"id": f"{name}-r", "working_memory": "w", "created_at": at(0), "updated_at": at(0)})
        self.vectors.create_index(index_name=self.index, dimension=3)
        self.vectors.upsert(index_name=self.index, vectors=[[1.0, 0.0, 0.0]], ids=["first"])
        self.store.workflows.persist_workflow_snapshot(workflow_name="w", run_id=f"{name}-run", snapshot=SNAPSHOT)
        self.observed = {"thread_id": name, "resource_id": f"{name}-r"}
        self.record = memory.initialize_observational_memory(**self.observed, scope="thread", config={})
        for id in ("first", "second"):
            self.store.background_tasks.create_task(task=task(f"{name}-{id}", name))
            self.store.schedules.create_schedule(schedule=schedule(f"{name}-{id}", next_fire_at=NEXT))
        self.store.channels.save_installation(installation=installation(f"{name}-first", name))
        self.store.documents.insert(table_name=DOCUMENTS, record={"id": f"{name}-first"})

    @property
    def index(self) -> str:
        return f"{self.name}_index"


def _save_thread(of: Things) -> None:
    of.store.memory.save_thread(thread=thread(f"{of.name}-new", f"{of.name}-r"))


def _update_thread(of: Things) -> None:
    of.store.memory.update_thread(id=of.name, title="another", metadata={"a": 1})


def _delete_thread(of: Things) -> None:
    of.store.memory.delete_thread(thread_id=f"{of.name}-old")


def _save_messages(of: Things) -> None:
    of.store.memory.save_messages(messages=[message(f"{of.name}-last", of.name, f"{of.name}-r", 9)])


def _update_messages(of: Things) -> None:
    of.store.memory.update_messages(messages=[{"id": f"{of.name}-m0", "content": {"metadata": {"seen": True}}}])


def _delete_messages(of: Things) -> None:
    of.store.memory.delete_messages(message_ids=[f"{of.name}-m1"])


def _update_resource(of: Things) -> None:
    of.store.memory.update_resource(resource_id=f"{of.name}-r", working_memory="another")


def _persist_snapshot(of: Things) -> None:
    of.store.workflows.persist_workflow_snapshot(workflow_name="w", run_id=f"{of.name}-new", snapshot=SNAPSHOT)


def _update_state(of: Things) -> None:
    of.store.workflows.update_workflow_state(workflow_name="w", run_id=f"{of.name}-run", opts={"status": "success"})


def _upsert_vectors(of: Things) -> None:
    of.vectors.upsert(index_name=of.index, vectors=[[0.0, 1.0, 0.0]], ids=["second"])


def _delete_vector(of: Things) -> None:
    of.vectors.delete_vector(index_name=of.index, id="first")


def _create_index(of: Things) -> None:
    of.vectors.create_index(index_name=f"{of.name}_other", dimension=4)


def _set_cache(of: Things) -> None:
    of.cache.set(key=f"{of.name}-key", value={"value": 1})


def _push_cache(of: Things) -> None:
    of.cache.list_push(key=f"{of.name}-list", value=1)


def _claim_task(of: Things) -> None:
    with closing(of.store.background_tasks.claim(tool_name=f"{of.name}tool")) as tasks:
        claimed = next(tasks)
        of.store.background_tasks.update_task(task_id=claimed.id, update={"status": "completed"})


def _observe(of: Things) -> None:
    of.store.memory.update_active_observations(id=of.record.id, observations="o", token_count=1, last_observed_at=at(9))


def _reflect(of: Things) -> None:
    of.store.memory.create_reflection_generation(current_record=of.record, reflection="r", token_count=1)


def _insert_document(of: Things) -> None:
    of.store.documents.insert(table_name=DOCUMENTS, record={"id": f"{of.name}-second"})


def _patch_document(of: Things) -> None:
    of.store.documents.patch(table_name=DOCUMENTS, id=f"{of.name}-first", record={"x": 1})


OTHERS: dict[str, Callable[[Things], object]] = {
    "clone": lambda of: of.store.memory.clone_thread(source_thread_id=of.name, new_thread_id=f"{of.name}-clone"),
    "move": lambda of: of.store.memory.update_thread_resource_id(thread_id=of.name, resource_id=f"{of.name}-s"),
    "merge": lambda of: of.store.memory.update_thread_metadata(id=of.name, update=lambda thread: {"seen": 1}),
    "initialize": lambda of: of.store.memory.initialize_observational_memory(
        thread_id=f"{of.name}-old", resource_id=f"{of.name}-r", scope="thread", config={}
    ),
    "observe": _observe,
    "flag": lambda of: of.store.memory.set_observing_flag(id=of.record.id, is_observing=True),
    "buffer": lambda of: of.store.memory.update_buffered_observations(id=of.record.id, chunk=chunk("c")),
    "reflect": _reflect,
    "forget": lambda of: of.store.memory.clear_observational_memory(**of.observed),
    "create a task": lambda of: of.store.background_tasks.create_task(task=task(f"{of.name}-new", of.name)),
    "claim a task": _claim_task,
    "delete a task": lambda of: of.store.background_tasks.delete_task(task_id=f"{of.name}-second"),
    "schedule": lambda of: of.store.schedules.create_schedule(schedule=schedule(f"{of.name}-new")),
    "fire": lambda of: of.store.schedules.update_schedule_next_fire(**claim(f"{of.name}-first", NEXT, NEXT + 1)),
    "trigger": lambda of: of.store.schedules.record_trigger(trigger=trigger(f"{of.name}-second", 5)),
    "pause": lambda of: of.store.schedules.update_schedule(id=f"{of.name}-second", patch={"status": "paused"}),
    "score": lambda of: of.store.scores.save_score(score=score(of.name)),
    "install": lambda of: of.store.channels.save_installation(installation=installation(f"{of.name}-new", f"{of.name}b")),
    "uninstall": lambda of: of.store.channels.delete_installation(id=f"{of.name}-first"),
    "results": lambda of: of.store.workflows.update_workflow_results(
        workflow_name="w", run_id=f"{of.name}-run", step_id="s", result={"output": 1}, request_context={}
    ),
    "end a run": lambda of: of.store.workflows.delete_workflow_run_by_id(workflow_name="w", run_id=f"{of.name}-run"),
    "insert a record": _insert_document,
    "patch a record": _patch_document,
}

OPERATIONS: tuple[Callable[[Things], object], ...] = (
    *OTHERS.values(),
    *(_save_thread, _update_thread, _delete_thread, _save_messages, _update_messages, _delete_messages, _update_resource),
    *(_persist_snapshot, _update_state, _upsert_vectors, _delete_vector, _create_index, _set_cache, _push_cache),
)


def conflicts(host: Host) -> dict[str, int]:
    """How many there were since the last reset, by table."""
    counted: Any = host.metrics()
    found: dict[str, int] = counted["conflicts"]
    return found


def test_operations_on_unrelated_things_do_not_conflict(overlapping_host: Host, unique: str) -> None:
    """All of them at once, each kind twice, so that every pair of kinds overlaps."""
    things = at_once(2 * len(OPERATIONS), lambda number: Things(overlapping_host, f"{unique}-{number}"))
    overlapping_host.reset()
    at_once(len(things), lambda number: OPERATIONS[number // 2](things[number]))
    assert conflicts(overlapping_host) == {}
    for each in things:
        each.deployment.close()


def test_many_writers_of_unrelated_documents_do_not_conflict(overlapping_host: Host, unique: str) -> None:
    overlapping_host.reset()

    def write(number: int) -> None:
        with overlapping_host.connect() as deployment:
            store = ConvexStore(id="conflicts", deployment=deployment)
            store.memory.save_thread(thread=thread(f"{unique}-{number}", f"{unique}-r{number}"))
            store.memory.save_messages(messages=messages(f"{unique}-{number}-", 3, f"{unique}-{number}", "r"))

    at_once(32, write)
    assert conflicts(overlapping_host) == {}


def test_writers_of_one_thread_do_conflict_and_are_all_applied(overlapping_host: Host, unique: str) -> None:
    things = Things(overlapping_host, unique)
    overlapping_host.reset()
    things.store.memory.save_thread(thread=thread(unique, "r"))

    def save(number: int) -> None:
        things.store.memory.save_messages(messages=[message(f"{unique}-{number}", unique, "r", 100 + number)])

    at_once(3, save)
    assert set(conflicts(overlapping_host)) == {"mastra_threads"}
    saved = things.store.memory.list_messages(thread_id=unique, per_page=False).messages
    assert {f"{unique}-{number}" for number in range(3)} <= {one.id for one in saved}
    things.deployment.close()
