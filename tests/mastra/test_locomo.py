"""Real conversations are read as they were stored, page by page, by date and by speaker, the same from every deployment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from bench.conversations import Conversation, conversation, conversations, store
from convexorm import Deployment
from mastra_convex import ConvexStore, Memory, Message

ATTRIBUTES = ("id", "thread_id", "resource_id", "role", "content", "created_at")


def _as_given(messages: Iterable[Message]) -> list[dict[str, Any]]:
    return [{name: getattr(message, name) for name in ATTRIBUTES} for message in messages]


def _paged(
    memory: Memory, thread_id: str | list[str], size: int, direction: Literal["ASC", "DESC"]
) -> list[dict[str, Any]]:
    found: list[Message] = []
    page, more = 0, True
    while more:
        listed = memory.list_messages(
            thread_id=thread_id, page=page, per_page=size, order_by={"direction": direction}, include_total=False
        )
        found += listed.messages
        page, more = page + 1, listed.has_more
    return _as_given(found)


def _by_time(messages: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(messages, key=lambda message: message["created_at"])


def _check(memory: Memory, given: Conversation) -> None:
    turns = _by_time(given.turns)
    # thread by thread
    for thread in given.threads:
        messages = list(given.messages[thread["id"]])
        assert _paged(memory, thread["id"], 7, "ASC") == messages
        assert _paged(memory, thread["id"], 10, "DESC") == messages[::-1]
        found = memory.get_thread_by_id(thread_id=thread["id"], resource_id=given.resource_id)
        assert found is not None
        assert {name: getattr(found, name) for name in thread if name != "updated_at"} == {
            name: value for name, value in thread.items() if name != "updated_at"
        }
    # all of them
    listed = memory.list_threads(filter={"resource_id": given.resource_id}, order_by={"direction": "ASC"}, per_page=False)
    assert [one.id for one in listed.threads] == [one["id"] for one in _by_time(given.threads)]
    whole = memory.list_messages_by_resource_id(resource_id=given.resource_id, per_page=False)
    assert _as_given(whole.messages) == turns
    assert whole.total == len(turns)
    # several threads at once
    some = [thread["id"] for thread in given.threads[:3]]
    assert _paged(memory, some, 25, "ASC") == _by_time(message for id in some for message in given.messages[id])
    # by date
    middle, end = given.threads[len(given.threads) // 2]["created_at"], given.threads[-1]["created_at"]
    between = memory.list_messages_by_resource_id(
        resource_id=given.resource_id,
        per_page=False,
        filter={"date_range": {"start": middle, "end": end, "end_exclusive": True}},
    )
    assert _as_given(between.messages) == [one for one in turns if middle <= one["created_at"] < end]
    # by speaker
    for speaker in (*given.speakers, "nobody"):
        spoken = memory.list_messages_by_resource_id(
            resource_id=given.resource_id, per_page=False, filter={"metadata": {"speaker": speaker}}
        )
        expected = [one for one in turns if one["content"]["metadata"]["speaker"] == speaker]
        assert (_as_given(spoken.messages), spoken.total) == (expected, len(expected))
    # around one turn
    thread = given.threads[0]["id"]
    around = memory.list_messages(
        thread_id=thread,
        per_page=0,
        include=[{"id": f"{thread}-5", "with_previous_messages": 3, "with_next_messages": 3}],
    )
    assert _as_given(around.messages) == list(given.messages[thread][2:9])


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_conversations_are_read_as_they_were_stored(
    open_deployment: Callable[[str], Deployment], locomo: Path, kind: str
) -> None:
    memory = ConvexStore(id="test", deployment=open_deployment(kind)).memory
    given = conversations(locomo)
    assert len(given) == 4
    for one in given:
        store(memory, one)
    for one in given:
        _check(memory, one)


def test_deployments_answer_a_conversation_alike(
    open_deployment: Callable[[str], Deployment], locomo: Path, unique: str
) -> None:
    given = conversation(locomo / "30.json", unique)
    answers = []
    for kind in ("memory", "sqlite", "host"):
        memory = ConvexStore(id="test", deployment=open_deployment(kind)).memory
        store(memory, given)
        _check(memory, given)
        speaker = given.speakers[1]
        listed = memory.list_messages(
            thread_id=[thread["id"] for thread in given.threads],
            page=2,
            per_page=15,
            order_by={"direction": "DESC"},
            filter={"metadata": {"speaker": speaker}},
        )
        answers.append((_as_given(listed.messages), listed.total, listed.has_more))
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0][0]) == 15
