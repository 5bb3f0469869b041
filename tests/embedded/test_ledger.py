"""Commits that may have been sent before: applied or withdrawn, and copies of them that come late."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4
from weakref import ref

import pytest

from convexorm import Deployment, DeploymentError, InvalidRequestError, StaleDataError, connect
from convexorm.deployments.embedded.connections import Connection
from convexorm.faces import finish
from convexorm.requests import Applied, Commit, Insert, Key, Patch, Range, Read
from tests.embedded.support import ROWS, add, names
from tests.interrupting import PACKAGE, interrupted, walk

EMBEDDED = PACKAGE / "deployments" / "embedded"


@pytest.fixture(params=["memory", "file"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    with connect("memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        add(deployment, "x")
        yield deployment


@pytest.fixture(params=["lasting", "passing"])
def commit(request: pytest.FixtureRequest) -> Commit:
    return Commit(uuid4().hex, [Insert(ROWS, {"name": "y"})], lasting=request.param == "lasting")


async def test_a_commit_that_was_applied_cannot_be_withdrawn(deployment: Deployment, commit: Commit) -> None:
    for port in (deployment.blocking, deployment.asynchronous):
        applied = await port.commit(commit)
        assert await port.withdraw(commit) == applied
        assert await port.withdraw(commit) == applied
    assert names(deployment) == ["x", "y"]


async def test_a_commit_that_was_withdrawn_is_not_applied(deployment: Deployment, commit: Commit) -> None:
    for port in (deployment.blocking, deployment.asynchronous):
        assert await port.withdraw(commit) is None
        with pytest.raises(InvalidRequestError, match="withdrawn"):
            await port.commit(commit)
        assert await port.withdraw(commit) is None
    assert names(deployment) == ["x"]


@pytest.mark.parametrize("lasting", [True, False])
def test_what_became_of_a_commit_that_was_interrupted_at_any_line_is_known(deployment: Deployment, lasting: bool) -> None:
    def send() -> list[Applied]:
        sent.append(Commit(uuid4().hex, [Insert(ROWS, {"name": len(sent) + 0.0})], lasting=lasting))
        return finish(port.commit(sent[-1]))

    port, sent = deployment.blocking, list[Commit]()
    ended: set[bool] = set()
    with ThreadPoolExecutor(1) as elsewhere:
        for number, error in enumerate(walk(send, EMBEDDED)):
            if number % 3 == 1:  # what is left to be settled may meet other requests first, and these another interrupt
                interrupted(lambda: names(deployment), number % 40 + 1, EMBEDDED)
            elif number % 3 == 2:
                elsewhere.submit(add, deployment, "other").result(20)
            known = finish(port.withdraw(sent[-1]))
            assert (known is not None) == (number + 0.0 in names(deployment))
            if known is None:
                with pytest.raises(InvalidRequestError, match="withdrawn"):
                    finish(port.commit(sent[-1]))
            else:
                assert finish(port.commit(sent[-1])) == known
            ended.add(known is not None)
            del error
    assert ended == {True, False}


def test_a_commit_that_was_applied_is_not_lost_with_what_is_interrupted_after_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strike(self: Connection, statement: str, *parameters: Any) -> sqlite3.Cursor:
        cursor = sqlite3.Connection.execute(self, statement, *parameters)
        if statement == "COMMIT":
            raise KeyboardInterrupt
        return cursor

    port = deployment.blocking
    line, error = 1, None
    while line == 1 or error is not None:
        commit = Commit(uuid4().hex, [Insert(ROWS, {"name": "y"})], lasting=False)
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "execute", strike)
            with pytest.raises(KeyboardInterrupt):
                finish(port.commit(commit))
        reads = [Read(Range(ROWS, "by_name"), limit=1)] * 2
        error = interrupted(lambda: finish(port.read(reads)), line, EMBEDDED)  # noqa: B023
        assert finish(port.withdraw(commit)) is not None
        line += 1
    assert line > 50


def test_a_commit_that_sqlite_ends_by_itself_was_not_applied(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Connection, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement != "COMMIT":
            return sqlite3.Connection.execute(self, statement, *parameters)
        self.rollback()
        raise sqlite3.OperationalError("the disk is full")

    commit = Commit(uuid4().hex, [Insert(ROWS, {"name": "y"})], lasting=False)
    monkeypatch.setattr(Connection, "execute", fail)
    with pytest.raises(DeploymentError):
        finish(deployment.blocking.commit(commit))
    monkeypatch.undo()
    assert finish(deployment.blocking.withdraw(commit)) is None
    assert names(deployment) == ["x"]


def test_a_commit_that_nobody_holds_is_forgotten(deployment: Deployment) -> None:
    commit = Commit(uuid4().hex, [Insert(ROWS, {"name": "y"})], lasting=False)
    finish(deployment.blocking.commit(commit))
    kept = ref(commit)
    del commit
    gc.collect()
    assert kept() is None


def test_a_first_refusal_leaves_the_commit_free(deployment: Deployment, commit: Commit) -> None:
    patch = Commit(commit.id, [Patch(ROWS, Key("by_name", ("y",)), {"name": "z"})], lasting=commit.lasting)
    with pytest.raises(StaleDataError):
        finish(deployment.blocking.commit(patch))
    add(deployment, "y")
    finish(deployment.blocking.commit(patch))
    assert names(deployment) == ["x", "z"]
