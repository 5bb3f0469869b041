"""Mailboxes: what deployments leave for watches."""

from __future__ import annotations

import pytest

from convexorm import DeploymentError
from convexorm.live.keeping import keep
from convexorm.live.mailboxes import Mailbox
from convexorm.requests import Followed, ReadResult


def test_the_newest_state_is_kept_alone_until_it_is_taken() -> None:
    mailbox: Mailbox[str] = Mailbox()
    taken: list[None] = []
    mailbox.on_taken = lambda: taken.append(None)
    for state in "abc":
        mailbox.deliver(state)
    assert mailbox.look() == mailbox.look() == (2, "c")
    assert len(mailbox._states) == 1
    mailbox.deliver("d")
    mailbox.taken(2)
    assert mailbox.look() == (3, "d")
    mailbox.taken(3)
    assert mailbox.empty
    assert mailbox.look() is None
    assert len(taken) == 2


def test_what_was_delivered_comes_before_the_error_that_ended_it() -> None:
    mailbox: Mailbox[str] = Mailbox()
    mailbox.deliver("a")
    mailbox.fail(DeploymentError("gone"))
    assert mailbox.over
    assert mailbox.look() == (0, "a")
    mailbox.taken(0)
    for _ in range(2):
        with pytest.raises(DeploymentError, match="gone"):
            mailbox.look()


def test_a_listener_is_told_when_the_connection_comes_and_goes(caplog: pytest.LogCaptureFixture) -> None:
    told: list[bool] = []
    mailbox: Mailbox[str] = Mailbox(told.append)
    for connected in (True, True, False, True):
        mailbox.connected = connected
    assert told == [True, False, True]
    mailbox.close()
    mailbox.connected = False
    assert told == [True, False, True]

    def fail(connected: bool) -> None:
        raise ValueError("of the listener")

    failing: Mailbox[str] = Mailbox(fail)
    failing.connected = True
    assert failing.connected
    assert "a listener of a watch's connection failed" in caplog.text


def test_documents_that_are_as_before_are_the_same_objects() -> None:
    def answer(**values: object) -> list[ReadResult]:
        followed = Followed()
        followed.add("k", [{"_id": "x", "n": [1.0]}, {"_id": "y", **values}])
        return [ReadResult([{"_id": "a", "at": 1.0}, {"_id": "b", **values}], 2, 0, False, followed=(followed,))]

    before, now = answer(n=1.0), answer(n=True)
    (kept,) = keep(before, now)
    assert [one is two for one, two in zip(before[0].docs, kept.docs, strict=True)] == [True, False]
    old, new = (one.followed[0].groups["k"].docs for one in (before[0], kept))
    assert [one is two for one, two in zip(old, new, strict=True)] == [True, False]
    assert kept.docs[1]["n"] is True
