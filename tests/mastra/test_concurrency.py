"""Concurrent writers: nothing that one of them wrote is lost, and a reader never sees half of a batch."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from convexorm import Deployment, connect
from mastra_convex import AsyncConvexStore, ConvexStore, Memory, Thread
from tests.mastra.support import at_once, message, messages, thread

WRITERS = 50
KEYS = {f"key{number}": number for number in range(WRITERS)}
EXPECTED = {"kept": True, **KEYS}


@pytest.fixture(params=["sqlite", "host"])
def shared(request: pytest.FixtureRequest, open_deployment: Callable[[str], Deployment]) -> Deployment:
    """A deployment that several writers have."""
    return open_deployment(request.param)


def _memory(deployment: Deployment) -> Memory:
    return ConvexStore(id="test", deployment=deployment).memory


def _start(memory: Memory, id: str) -> None:
    memory.save_thread(thread=thread(id, id, metadata={"kept": True}))
    memory.save_messages(messages=[message(id, id, id, metadata={"kept": True})])
    memory.save_resource(resource={"id": id, "metadata": {"kept": True}, "working_memory": "kept"})


def _update_message(memory: Memory, id: str, number: int) -> None:
    memory.update_messages(messages=[{"id": id, "content": {"metadata": {f"key{number}": number}}}])


def _content_metadata(memory: Memory, id: str) -> Any:
    (found,) = memory.list_messages_by_id(message_ids=[id]).messages
    return found.content["metadata"]


def test_fifty_updates_of_one_message_are_all_kept(shared: Deployment, unique: str) -> None:
    memory = _memory(shared)
    _start(memory, unique)
    at_once(WRITERS, lambda number: _update_message(memory, unique, number))
    assert _content_metadata(memory, unique) == EXPECTED


def test_fifty_updates_of_one_threads_metadata_are_all_kept(shared: Deployment, unique: str) -> None:
    memory = _memory(shared)
    _start(memory, unique)
    at_once(WRITERS, lambda number: memory.update_thread(id=unique, metadata={f"key{number}": number}))
    found = memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert found.metadata == EXPECTED


def test_fifty_functions_of_one_threads_metadata_see_each_others_work(shared: Deployment, unique: str) -> None:
    memory = _memory(shared)
    memory.save_thread(thread=thread(unique, "r", metadata={"count": 0}))

    def count(one: Thread) -> dict[str, int]:
        return {"count": (one.metadata or {})["count"] + 1}

    at_once(WRITERS, lambda number: memory.update_thread_metadata(id=unique, update=count))
    found = memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert found.metadata == {"count": WRITERS}


def test_fifty_updates_of_one_resource_are_all_kept(shared: Deployment, unique: str) -> None:
    memory = _memory(shared)
    _start(memory, unique)

    def write(number: int) -> None:
        if number % 10 == 0:
            memory.update_resource(resource_id=unique, working_memory=f"memory {number}")
        memory.update_resource(resource_id=unique, metadata={f"key{number}": number})

    at_once(WRITERS, write)
    found = memory.get_resource_by_id(resource_id=unique)
    assert found is not None
    assert found.metadata == EXPECTED
    assert found.working_memory in {f"memory {number}" for number in range(0, WRITERS, 10)}


def test_fifty_creators_of_one_resource_create_one(shared: Deployment, unique: str) -> None:
    memory = _memory(shared)
    at_once(WRITERS, lambda number: memory.update_resource(resource_id=unique, metadata={f"key{number}": number}))
    found = memory.get_resource_by_id(resource_id=unique)
    assert found is not None
    assert found.metadata == KEYS


def test_updates_and_saves_of_one_thread_are_all_kept(shared: Deployment, unique: str) -> None:
    memory = _memory(shared)
    _start(memory, unique)

    def write(number: int) -> None:
        if number % 2:
            memory.save_messages(messages=[message(f"{unique}{number}", unique, unique, number)])
        else:
            memory.update_thread(id=unique, metadata={f"key{number}": number})

    at_once(WRITERS, write)
    found = memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert found.metadata == {"kept": True, **{f"key{number}": number for number in range(0, WRITERS, 2)}}
    assert memory.list_messages(thread_id=unique).total == 1 + WRITERS // 2


async def test_fifty_tasks_update_one_message(shared: Deployment, unique: str) -> None:
    memory = AsyncConvexStore(id="test", deployment=shared).memory
    await memory.save_messages(messages=[message(unique, unique, "r", metadata={"kept": True})])
    updates = [
        memory.update_messages(messages=[{"id": unique, "content": {"metadata": {key: value}}}])
        for key, value in KEYS.items()
    ]
    await asyncio.gather(*updates)
    (found,) = (await memory.list_messages_by_id(message_ids=[unique])).messages
    assert found.content["metadata"] == EXPECTED
    await shared.aclose()


# -- processes -----------------------------------------------------------------------------------------------------


def _process(url: str, id: str, numbers: list[int]) -> None:
    with connect(url) as deployment:
        memory = _memory(deployment)
        for number in numbers:
            _update_message(memory, id, number)
            memory.update_thread(id=id, metadata={f"key{number}": number})
            memory.update_resource(resource_id=id, metadata={f"key{number}": number})


def test_processes_lose_nothing_of_each_others_work(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    with connect(url) as deployment:
        memory = _memory(deployment)
        _start(memory, "m")
        processes = 4
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(_process, url, "m", list(range(first, WRITERS, processes))) for first in range(processes)]
            for job in jobs:
                job.result()
        found, resource = memory.get_thread_by_id(thread_id="m"), memory.get_resource_by_id(resource_id="m")
        assert found is not None
        assert resource is not None
        assert _content_metadata(memory, "m") == found.metadata == resource.metadata == EXPECTED


# -- readers -------------------------------------------------------------------------------------------------------


def test_a_reader_sees_whole_batches_in_order(shared: Deployment, unique: str) -> None:
    memory = _memory(shared)
    memory.save_thread(thread=thread(unique, "r"))
    batches, size = 12, 10
    everything = messages(f"{unique}-", batches * size, unique, "r")

    def write() -> None:
        for start in range(0, len(everything), size):
            memory.save_messages(messages=everything[start : start + size])

    seen: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done() or not seen or seen[-1] < len(everything):
            page = memory.list_messages(thread_id=unique, per_page=False)
            assert [one.id for one in page.messages] == [one["id"] for one in everything[: len(page.messages)]]
            seen.append(len(page.messages))
        writing.result()
    assert all(count % size == 0 for count in seen)
    assert seen == sorted(seen)


def test_a_list_and_its_total_are_of_one_moment(shared: Deployment, unique: str) -> None:
    memory = _memory(shared)
    batches = [messages(f"{unique}-{number}-", 7, unique, "r") for number in range(15)]
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [memory.save_messages(messages=batch) for batch in batches])
        while not writing.done():
            page = memory.list_messages(thread_id=unique, per_page=200)
            assert page.total == len(page.messages)
            assert not page.has_more
        writing.result()
