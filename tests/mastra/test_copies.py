"""Copies of threads: independent of their sources, with what was chosen of the messages, whole or not at all."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from convexorm import Deployment, Session, StaleDataError
from convexorm.requests import Applied, Commit, Insert
from mastra_convex import (
    AsyncMemory,
    ConvexStore,
    Memory,
    Message,
    Thread,
    ThreadAlreadyExists,
    ThreadNotFound,
)
from mastra_convex.memory import copies
from tests.mastra.support import at, ids, message, messages, thread


async def _source(memory: AsyncMemory, unique: str, count: int = 5) -> str:
    id = f"{unique}source"
    await memory.save_thread(thread=thread(id, f"{unique}r", title="Plants", metadata={"secret": 1}))
    await memory.save_messages(messages=messages(unique, count, id, f"{unique}r"))
    return id


def _numbers(source_ids: Any, unique: str) -> list[int]:
    return [int(id.removeprefix(unique)) for id in source_ids]


async def test_a_clone_is_a_new_thread_with_the_messages_under_new_ids(memory: AsyncMemory, unique: str) -> None:
    source = await _source(memory, unique)
    clone = await memory.clone_thread(source_thread_id=source)
    new = clone.thread.id
    assert new != source
    thread_ = await memory.get_thread_by_id(thread_id=new)
    listed = (await memory.list_messages(thread_id=new)).messages
    assert thread_ is not None
    assert (thread_.resource_id, thread_.title) == (f"{unique}r", "Clone of Plants")
    assert thread_.created_at == thread_.updated_at == clone.thread.created_at > at(0)
    assert ids(listed) == ids(clone.cloned_messages) == list(clone.message_id_map.values())
    assert _numbers(clone.message_id_map, unique) == [0, 1, 2, 3, 4]
    originals = (await memory.list_messages(thread_id=source)).messages
    for one, original in zip(listed, originals, strict=True):
        assert one.id != original.id
        for name in ("content", "role", "type", "created_at", "resource_id"):
            assert getattr(one, name) == getattr(original, name)


async def test_the_metadata_says_what_was_cloned_in_the_contracts_words(memory: AsyncMemory, unique: str) -> None:
    source = await _source(memory, unique)
    clone = await memory.clone_thread(source_thread_id=source, metadata={"topic": "copy", "clone": "overwritten"})
    found = await memory.get_thread_by_id(thread_id=clone.thread.id)
    for one in (clone.thread, found):
        assert one is not None
        assert one.metadata is not None
        assert set(one.metadata) == {"topic", "clone"}
        said = one.metadata["clone"]
        assert set(said) == {"sourceThreadId", "clonedAt", "lastMessageId"}
        assert (said["sourceThreadId"], said["lastMessageId"]) == (source, f"{unique}4")
        assert datetime.fromisoformat(said["clonedAt"]) == one.created_at


async def test_title_resource_and_id_may_be_given(memory: AsyncMemory, unique: str) -> None:
    source = await _source(memory, unique)
    clone = await memory.clone_thread(
        source_thread_id=source, new_thread_id=f"{unique}new", resource_id=f"{unique}s", title="Mine"
    )
    assert (clone.thread.id, clone.thread.resource_id, clone.thread.title) == (f"{unique}new", f"{unique}s", "Mine")
    listed = await memory.list_messages_by_resource_id(resource_id=f"{unique}s")
    assert ids(listed.messages) == ids(clone.cloned_messages)


async def test_a_thread_without_title_or_messages_is_cloned(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(unique, "r", title=None))
    clone = await memory.clone_thread(source_thread_id=unique)
    assert (clone.thread.title, clone.cloned_messages, clone.message_id_map) == (None, [], {})
    assert clone.thread.metadata is not None
    assert set(clone.thread.metadata["clone"]) == {"sourceThreadId", "clonedAt"}


async def test_a_copy_answers_no_messages(memory: AsyncMemory, unique: str) -> None:
    source = await _source(memory, unique)
    copy = await memory.copy_thread(source_thread_id=source)
    assert not hasattr(copy, "cloned_messages")
    listed = (await memory.list_messages(thread_id=copy.thread.id)).messages
    assert ids(listed) == [copy.message_id_map[f"{unique}{n}"] for n in range(5)]


async def test_a_clone_is_independent_of_its_source(memory: AsyncMemory, unique: str) -> None:
    source = await _source(memory, unique)
    clone = await memory.clone_thread(source_thread_id=source)
    await memory.update_messages(messages=[{"id": f"{unique}0", "content": {"changed": True}}])
    await memory.delete_thread(thread_id=source)
    listed = (await memory.list_messages(thread_id=clone.thread.id)).messages
    assert len(listed) == 5
    assert "changed" not in listed[0].content


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"message_limit": 2}, [3, 4]),
        ({"message_limit": 0}, [0, 1, 2, 3, 4]),
        ({"message_limit": 9}, [0, 1, 2, 3, 4]),
        ({"message_filter": {"start_date": at(1), "end_date": at(3)}}, [1, 2, 3]),
        ({"message_filter": {"start_date": at(1), "end_date": at(3)}, "message_limit": 2}, [2, 3]),
        ({"message_filter": {"message_ids": ["4", "0", "9"]}}, [0, 4]),
        ({"message_filter": {"message_ids": ["4", "0"], "end_date": at(2)}}, [0]),
        ({"message_filter": {"message_ids": []}}, [0, 1, 2, 3, 4]),
        ({"message_filter": {"start_date": at(9)}}, []),
    ],
    ids=str,
)
async def test_what_is_cloned_may_be_chosen(memory: AsyncMemory, unique: str, options: Any, expected: list[int]) -> None:
    source = await _source(memory, unique)
    chosen: Any = dict(options)
    filter_ = options.get("message_filter", {})
    if "message_ids" in filter_:
        chosen["message_filter"] = {**filter_, "message_ids": [f"{unique}{id}" for id in filter_["message_ids"]]}
    clone = await memory.clone_thread(source_thread_id=source, options=chosen)
    assert _numbers(clone.message_id_map, unique) == expected
    assert ids((await memory.list_messages(thread_id=clone.thread.id)).messages) == ids(clone.cloned_messages)
    assert clone.thread.metadata is not None
    last = clone.thread.metadata["clone"].get("lastMessageId")
    assert last == (f"{unique}{expected[-1]}" if expected else None)


async def test_messages_of_one_instant_are_cloned_in_their_order(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(unique, "r"))
    await memory.save_messages(messages=[message(f"{unique}{n}", unique, "r") for n in range(8)])
    clone = await memory.clone_thread(source_thread_id=unique, options={"message_limit": 5})
    assert _numbers(clone.message_id_map, unique) == [3, 4, 5, 6, 7]
    assert ids((await memory.list_messages(thread_id=clone.thread.id)).messages) == ids(clone.cloned_messages)


async def test_a_missing_source_is_an_error(memory: AsyncMemory, unique: str) -> None:
    for method, operation in ((memory.clone_thread, "CLONE"), (memory.copy_thread, "COPY")):
        with pytest.raises(ThreadNotFound) as caught:
            await method(source_thread_id=unique, new_thread_id=f"{unique}new")
        assert caught.value.id == f"MASTRA_STORAGE_CONVEX_{operation}_THREAD_THREAD_NOT_FOUND"
    assert await memory.get_thread_by_id(thread_id=f"{unique}new") is None


async def test_a_taken_id_is_an_error_and_what_has_it_stays(memory: AsyncMemory, unique: str) -> None:
    source = await _source(memory, unique)
    taken = f"{unique}taken"
    await memory.save_thread(thread=thread(taken, "r", title="there first"))
    await memory.save_messages(messages=[message(f"{unique}kept", taken, "r")])
    for id in (taken, source):
        with pytest.raises(ThreadAlreadyExists) as caught:
            await memory.clone_thread(source_thread_id=source, new_thread_id=id)
        assert caught.value.id == "MASTRA_STORAGE_CONVEX_CLONE_THREAD_THREAD_EXISTS"
    assert ids((await memory.list_messages(thread_id=taken)).messages) == [f"{unique}kept"]


async def test_a_clone_of_more_than_one_commit_is_whole(
    memory: AsyncMemory, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_COPIED_AT_ONCE", 4)
    source = await _source(memory, unique, 10)
    clone = await memory.clone_thread(source_thread_id=source)
    assert _numbers(clone.message_id_map, unique) == list(range(10))
    assert ids((await memory.list_messages(thread_id=clone.thread.id)).messages) == ids(clone.cloned_messages)


class _Overtaken:
    """A port on which somebody else takes the new thread's id after the first commit."""

    def __init__(self, port: Any, overtake: Any) -> None:
        self._port = port
        self._overtake = overtake

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def commit(self, commit: Commit) -> list[Applied]:
        applied: list[Applied] = await self._port.commit(commit)
        if self._overtake is not None and any(isinstance(one, Insert) for one in commit.writes):
            overtake, self._overtake = self._overtake, None
            overtake()
        return applied


def test_a_clone_whose_id_is_taken_underway_takes_back_its_messages_and_no_others(
    deployment: Deployment, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_COPIED_AT_ONCE", 4)
    memory = ConvexStore(id="test", deployment=deployment).memory
    source, new = f"{unique}source", f"{unique}new"
    memory.save_thread(thread=thread(source, unique))
    memory.save_messages(messages=messages(unique, 10, source, unique))

    def overtake() -> None:
        with Session(deployment) as session:
            session.add(Thread(**thread(new, "somebody")))
            session.add(Message(**message(f"{unique}theirs", new, "somebody")))
            session.commit()

    cloning: Memory = ConvexStore(id="test", deployment=deployment).memory
    backend = cloning._core._backend
    object.__setattr__(backend, "port", _Overtaken(backend.port, overtake))
    with pytest.raises(ThreadAlreadyExists) as caught:
        cloning.clone_thread(source_thread_id=source, new_thread_id=new)
    assert isinstance(caught.value.__cause__, StaleDataError)
    assert ids(memory.list_messages(thread_id=new).messages) == [f"{unique}theirs"]
    assert memory.list_messages_by_resource_id(resource_id=unique).total == 10
    there = memory.get_thread_by_id(thread_id=new)
    assert there is not None
    assert there.resource_id == "somebody"
