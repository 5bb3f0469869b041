"""Operations on unrelated things, done at once on a host whose commits overlap: which of them conflict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mastra_convex import ConvexServerCache, ConvexStore
from mastra_convex.vector import ConvexVector
from tests.conftest import ROOT, Host, serve_host
from tests.mastra.support import at, at_once, message, messages, thread

LATENCY = 40
"""Milliseconds from the run of a mutation to its commit, in which the other one runs."""


@pytest.fixture(scope="module")
def overlapping_host() -> Iterator[Host]:
    yield from serve_host(ROOT / "convex", "--latency", str(LATENCY))


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


OPERATIONS: tuple[Callable[[Things], None], ...] = (
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
    things = [Things(overlapping_host, f"{unique}-{number}") for number in range(2 * len(OPERATIONS))]
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
