"""What a watch makes of what its queries are told: which to ask besides, which no longer, and the whole answer."""

from __future__ import annotations

import json
from typing import Any

from convexorm.deployments.remote.live.messages import Modification, message_in
from convexorm.deployments.remote.live.queries import Query
from convexorm.deployments.remote.live.watchings import ReadWatching
from convexorm.live.mailboxes import Mailbox
from convexorm.requests import Range, Read, ReadResult
from convexorm.wire import VERSION
from tests.models import Task

READS = [Read(Range(Task.__mapper__.table, "by_owner", ("ada",)))]


def tell(query: Query, *texts: str, next: list[Any] | None = None) -> None:
    """The deployment answers a query: with documents of these texts, and where another call is to go on."""
    docs = [{"_id": f"id {text}", "_creationTime": 1.0, "text": text, "ownerId": "ada", "done": False} for text in texts]
    result = {"docs": docs, "count": len(docs), "skipped": 0, "more": next is not None, "next": next}
    modification = {"type": "QueryUpdated", "queryId": 0, "value": {"version": VERSION, "results": [result]}}
    message = message_in(json.dumps({"type": "Transition", "modifications": [modification]}))
    told: Modification = message.modifications[0]
    query.told, query.changed = told, True


def texts(answer: list[ReadResult]) -> list[object]:
    return [document["text"] for document in answer[0].docs]


def test_an_answer_of_several_calls_is_whole_once_all_of_them_are_told() -> None:
    mailbox: Mailbox[Any] = Mailbox()
    watching = ReadWatching(mailbox, READS, "orm:read")
    ([first], [], answer) = watching.look()
    assert answer is None
    assert watching.look() == ([], [], None), "it is on its way"
    tell(first, "a", "b", next=[["ada"], [False], [1.0], ["id b"]])
    ([second], unused, answer) = watching.look()
    assert (unused, answer) == ([], None)
    assert second.arguments != first.arguments
    tell(second, "c")
    (more, unused, answer) = watching.look()
    assert (more, unused, texts(answer)) == ([], [], ["a", "b", "c"])
    before = answer[0].docs
    tell(first, "a", "b", "c")
    (more, unused, answer) = watching.look()
    assert (more, unused, texts(answer)) == ([], [second], ["a", "b", "c"]), "the second is asked no longer"
    assert all(now is then for now, then in zip(answer[0].docs, before, strict=True)), "the same documents"
    assert list(watching.queries.values()) == [first]


def test_what_was_too_much_is_asked_for_half_as_much() -> None:
    mailbox: Mailbox[Any] = Mailbox()
    watching = ReadWatching(mailbox, READS, "orm:read")
    ([first], [], _) = watching.look()
    assert watching.ask_less() == [first]
    ([second], [], _) = watching.look()
    assert watching.ask_less() == [second]
    ([third], [], _) = watching.look()
    assert [json.loads(query.arguments).get("share") for query in (first, second, third)] == [None, 2, 4]


def test_nobody_is_left_to_deliver_to_once_the_mailbox_is_gone() -> None:
    mailbox: Mailbox[Any] = Mailbox()
    watching = ReadWatching(mailbox, READS, "orm:read")
    assert watching.mailbox is mailbox
    mailbox.close()
    assert watching.mailbox is None
    mailbox = Mailbox()
    other = ReadWatching(mailbox, READS, "orm:read")
    del mailbox
    assert other.mailbox is None
