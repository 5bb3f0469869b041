"""A TypeScript agent and Python hold one conversation: each reads and continues what the other has written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from mastra_convex import ConvexStore, Message
from tests.conftest import Host
from tests.interop.typescript import SECONDS, run_program

PROFILE = "# Traveller\n- Name: Ada\n- Likes: boats"
LEARNT = "# Traveller\n- Name: Ada\n- Likes: trams, 橋"
A_PROGRAM = timedelta(seconds=SECONDS)
"""What a program runs at most; the programs' clocks start so far from each other."""


def texts(message: Message) -> list[str]:
    """What a stored message says."""
    return [part["text"] for part in message.content["parts"] if part["type"] == "text"]


def told(prompt: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Who says what in a prompt, instructions and tools left out."""
    return [
        (message["role"], part["text"])
        for message in prompt
        if message["role"] in ("user", "assistant")
        for part in message["content"]
        if part["type"] == "text"
    ]


def instructions(prompt: list[dict[str, Any]]) -> str:
    return "\n".join(message["content"] for message in prompt if message["role"] == "system")


def turn(thread_id: str, user: str, *replies: str | dict[str, Any], streamed: bool = False) -> dict[str, Any]:
    """What a user says to the agent in a thread, and what the language model then says, call by call."""
    return {"threadId": thread_id, "user": user, "replies": replies, "streamed": streamed}


def spoken(id: str, thread_id: str, resource_id: str, role: str, text: str, at: datetime) -> dict[str, Any]:
    content = {"format": 2, "parts": [{"type": "text", "text": text}], "content": text}
    given = {"thread_id": thread_id, "resource_id": resource_id, "created_at": at}
    return {"id": id, "role": role, "content": content, **given}


def test_an_agent_and_python_continue_each_other(shared_host: Host, store: ConvexStore, unique: str) -> None:
    memory = store.memory
    ada, thread_id = f"{unique} ada", f"{unique} thread"
    began = datetime(2026, 5, 1, 12, tzinfo=UTC)

    remembers = {"tool": "updateWorkingMemory", "input": {"memory": PROFILE}}
    said = run_program(
        shared_host,
        "agent.ts",
        resourceId=ada,
        now=began.isoformat(),
        lastMessages=20,
        turns=[
            turn(thread_id, "I am Ada. I like boats.", remembers, "Hello Ada."),
            turn(thread_id, "What shall I see?", "The harbour, from a boat.", streamed=True),
        ],
    )
    assert said["answers"] == ["Hello Ada.", "The harbour, from a boat."]

    # Python reads what the agent has written.
    thread = memory.get_thread_by_id(thread_id=thread_id, resource_id=ada)
    assert thread is not None
    assert timedelta(0) <= thread.created_at - began < A_PROGRAM
    assert thread.updated_at >= thread.created_at
    assert [one.id for one in memory.list_threads(filter={"resource_id": ada}).threads] == [thread_id]
    listed = memory.list_messages(thread_id=thread_id, resource_id=ada)
    assert [(one.role, texts(one)) for one in listed.messages] == [
        ("user", ["I am Ada. I like boats."]),
        ("assistant", ["Hello Ada."]),
        ("user", ["What shall I see?"]),
        ("assistant", ["The harbour, from a boat."]),
    ]
    assert (listed.total, listed.has_more) == (4, False)
    assert {(one.thread_id, one.resource_id, one.content["format"]) for one in listed.messages} == {(thread_id, ada, 2)}
    assert [one.created_at for one in listed.messages] == sorted(one.created_at for one in listed.messages)
    resource = memory.get_resource_by_id(resource_id=ada)
    assert resource is not None
    assert resource.working_memory == PROFILE

    # Python continues: two messages more, one changed, one gone, a title, and a better working memory.
    last = listed.messages[-1]
    memory.save_messages(
        messages=[
            spoken(f"{unique} 1", thread_id, ada, "user", "Boats make me seasick.", last.created_at + timedelta(seconds=1)),
            spoken(
                f"{unique} 2", thread_id, ada, "assistant", "Take tram 12 → 橋.", last.created_at + timedelta(seconds=2)
            ),
        ]
    )
    changed = {"content": "Harbour on foot.", "parts": [{"type": "text", "text": "The harbour, on foot."}]}
    memory.update_messages(messages=[{"id": last.id, "content": changed}])
    memory.delete_messages(message_ids=[listed.messages[0].id])
    memory.update_thread(id=thread_id, title="Ada's trip", metadata={"by": "python"})
    memory.update_resource(resource_id=ada, working_memory=LEARNT, metadata={"plan": ["tram", None]})

    # The agent recalls all of it: in this thread as messages, in another one of Ada's as working memory only.
    other = f"{unique} other"
    recalled = run_program(
        shared_host,
        "agent.ts",
        resourceId=ada,
        now=(began + 2 * A_PROGRAM).isoformat(),
        lastMessages=4,
        turns=[
            turn(thread_id, "Which tram was it?", "Tram 12."),
            turn(other, "Do you know me?", "You like trams.", streamed=True),
            turn(thread_id, "And then?", "Then the bridge."),
        ],
    )
    here, elsewhere, again = recalled["prompts"]
    assert told(here) == [
        ("user", "What shall I see?"),
        ("assistant", "The harbour, on foot."),
        ("user", "Boats make me seasick."),
        ("assistant", "Take tram 12 → 橋."),
        ("user", "Which tram was it?"),
    ]
    assert LEARNT in instructions(here)
    assert PROFILE not in instructions(here)
    assert told(elsewhere) == [("user", "Do you know me?")]
    assert LEARNT in instructions(elsewhere)
    assert [text for _, text in told(again)] == [
        "Boats make me seasick.",
        "Take tram 12 → 橋.",
        "Which tram was it?",
        "Tram 12.",
        "And then?",
    ]

    # What Python said of the thread and the resource is still there after the agent has gone on.
    thread = memory.get_thread_by_id(thread_id=thread_id)
    assert thread is not None
    assert (thread.title, thread.metadata) == ("Ada's trip", {"by": "python"})
    resource = memory.get_resource_by_id(resource_id=ada)
    assert resource is not None
    assert (resource.working_memory, resource.metadata) == (LEARNT, {"plan": ["tram", None]})
    of_ada = memory.list_messages_by_resource_id(resource_id=ada, per_page=False)
    assert (of_ada.total, {one.thread_id for one in of_ada.messages}) == (5 + 2 + 4, {thread_id, other})


def test_an_agent_goes_on_in_threads_that_python_has_made(shared_host: Host, store: ConvexStore, unique: str) -> None:
    memory = store.memory
    ada, began = f"{unique} ada", datetime(2026, 5, 1, 12, tzinfo=UTC)
    source: dict[str, Any] = {
        "id": f"{unique} source",
        "resource_id": ada,
        "title": "Made in Python",
        "metadata": {"$schema": {"日本語": 1}},
    }
    memory.save_thread(thread=source)
    memory.save_messages(
        messages=[
            spoken(f"{unique} {n}", source["id"], ada, "user", f"Line {n}.", began + timedelta(milliseconds=n))
            for n in range(5)
        ]
    )
    clone = memory.clone_thread(source_thread_id=source["id"], options={"message_limit": 2}).thread
    memory.save_resource(resource={"id": ada, "working_memory": LEARNT})

    recalled = run_program(
        shared_host,
        "agent.ts",
        resourceId=ada,
        now=(began + A_PROGRAM).isoformat(),
        lastMessages=3,
        turns=[turn(source["id"], "Go on.", "On."), turn(clone.id, "Go on here.", "Here.")],
    )
    in_source, in_clone = recalled["prompts"]
    assert [text for _, text in told(in_source)] == ["Line 2.", "Line 3.", "Line 4.", "Go on."]
    assert [text for _, text in told(in_clone)] == ["Line 3.", "Line 4.", "Go on here."]
    assert LEARNT in instructions(in_clone)
    kept = memory.get_thread_by_id(thread_id=source["id"])
    assert kept is not None
    assert (kept.title, kept.metadata) == ("Made in Python", {"$schema": {"日本語": 1}})
    assert memory.list_messages(thread_id=clone.id).total == 4
