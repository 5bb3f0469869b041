"""Real conversations as threads and messages, and what it takes to store them and read them back.

`python -m bench.conversations` loads the LoCoMo conversations (`../shared/data/locomo`, where they are) into an embedded
deployment and prints a table. Tests and the demo use the loader.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from bench.tables import print_table, seconds
from convexorm import connect
from mastra_convex import ConvexStore, Memory

__all__ = ["FOLDER", "Conversation", "conversation", "conversations", "store"]

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "locomo"
_SESSION = re.compile(r"session_(\d+)\Z")


@attrs.frozen
class Conversation:
    """What two people have said to each other: a resource, a thread for each session, and their messages in order.

    The first speaker is the user and the second the assistant. A turn is created so many seconds after its session began as
    turns came before it. Its speaker is in the content's metadata.
    """

    resource_id: str
    speakers: tuple[str, str]
    threads: Sequence[Mapping[str, Any]]
    messages: Mapping[str, Sequence[Mapping[str, Any]]]

    @property
    def turns(self) -> list[Mapping[str, Any]]:
        """The messages of all threads."""
        return [message for thread in self.threads for message in self.messages[thread["id"]]]


def conversations(folder: Path = FOLDER, prefix: str = "") -> list[Conversation]:
    """Every conversation of a folder."""
    return [conversation(path, prefix) for path in sorted(folder.glob("*.json"))]


def conversation(path: Path, prefix: str = "") -> Conversation:
    """The conversation of a file, under ids that begin with `prefix`."""
    source = json.loads(path.read_text(encoding="utf-8"))
    speakers = (source["speaker_a"], source["speaker_b"])
    resource_id = f"{prefix}{path.stem}-{'-'.join(speakers).lower()}"
    threads: list[Mapping[str, Any]] = []
    messages: dict[str, list[Mapping[str, Any]]] = {}
    for number, turns in _sessions(source):
        began = datetime.strptime(source[f"session_{number}_date_time"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
        id = f"{resource_id}-{number}"
        threads.append(
            {
                "id": id,
                "resource_id": resource_id,
                "title": f"{' and '.join(speakers)}, session {number}",
                "metadata": {"session": number, "turns": len(turns)},
                "created_at": began,
                "updated_at": began,
            }
        )
        messages[id] = [
            {
                "id": f"{id}-{position}",
                "thread_id": id,
                "resource_id": resource_id,
                "role": "user" if turn["speaker"] == speakers[0] else "assistant",
                "content": _content(turn),
                "created_at": began + timedelta(seconds=position),
            }
            for position, turn in enumerate(turns)
        ]
    return Conversation(resource_id, speakers, threads, messages)


def _sessions(source: Mapping[str, Any]) -> Iterator[tuple[int, Sequence[Mapping[str, Any]]]]:
    numbers = sorted(int(found[1]) for found in map(_SESSION.match, source) if found)
    return ((number, source[f"session_{number}"]) for number in numbers)


def _content(turn: Mapping[str, Any]) -> dict[str, Any]:
    parts = [{"type": "text", "text": turn.get("clean_text") or turn["text"]}]
    if turn.get("blip_caption"):
        parts.append({"type": "text", "text": f"[image: {turn['blip_caption']}]"})
    return {"format": 2, "parts": parts, "metadata": {"speaker": turn["speaker"], "turn": turn["dia_id"]}}


def store(memory: Memory, given: Conversation) -> None:
    """Store a conversation: its threads, and the messages of each in one commit."""
    for thread in given.threads:
        memory.save_thread(thread=thread)
        memory.save_messages(messages=given.messages[thread["id"]])


# -- the table -----------------------------------------------------------------------------------------------------


def _read_by_page(memory: Memory, given: Conversation) -> int:
    count = 0
    for thread in given.threads:
        page, more = 0, True
        while more:
            found = memory.list_messages(thread_id=thread["id"], page=page, per_page=20, include_total=False)
            count, page, more = count + len(found.messages), page + 1, found.has_more
    return count


def _row(memory: Memory, given: Conversation) -> list[str]:
    turns, speaker = len(given.turns), given.speakers[0]
    stored = seconds(lambda: store(memory, given))
    paged = seconds(lambda: _read_by_page(memory, given))
    whole = seconds(lambda: memory.list_messages_by_resource_id(resource_id=given.resource_id, per_page=False))
    spoken = seconds(
        lambda: memory.list_messages_by_resource_id(
            resource_id=given.resource_id, per_page=False, filter={"metadata": {"speaker": speaker}}
        )
    )
    times = (f"{1000 * one:,.1f} ms" for one in (stored, paged, whole, spoken))
    return [" and ".join(given.speakers), f"{len(given.threads)}", f"{turns:,}", *times]


def main() -> int:
    if not FOLDER.is_dir():
        print("The LoCoMo conversations are not there; nothing to measure.")
        return 0
    with tempfile.TemporaryDirectory() as folder, connect(f"sqlite:///{folder}/conversations.db") as deployment:
        memory = ConvexStore(id="conversations", deployment=deployment).memory
        rows = [_row(memory, given) for given in conversations()]
    heads = ["conversation", "threads", "messages", "store", "read in pages of 20", "read at once", "one speaker's"]
    print_table("Real conversations, embedded in a SQLite file", heads, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
