"""Commits that may have been sent before: applied or withdrawn, and copies of them that come late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from convexorm import Deployment, InvalidRequestError, StaleDataError, connect
from convexorm.faces import finish
from convexorm.requests import Commit, Insert, Key, Patch
from tests.embedded.support import ROWS, add, names


@pytest.fixture(params=["memory", "file"])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    with connect("memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        add(deployment, "x")
        yield deployment


COMMIT = Commit("c", [Insert(ROWS, {"name": "y"})])


async def test_a_commit_that_was_applied_cannot_be_withdrawn(deployment: Deployment) -> None:
    for port in (deployment.blocking, deployment.asynchronous):
        applied = await port.commit(COMMIT)
        assert await port.withdraw(COMMIT) == applied
        assert await port.withdraw(COMMIT) == applied
    assert names(deployment) == ["x", "y"]


async def test_a_commit_that_was_withdrawn_is_not_applied(deployment: Deployment) -> None:
    for port in (deployment.blocking, deployment.asynchronous):
        assert await port.withdraw(COMMIT) is None
        with pytest.raises(InvalidRequestError, match="withdrawn"):
            await port.commit(COMMIT)
        assert await port.withdraw(COMMIT) is None
    assert names(deployment) == ["x"]


def test_a_first_refusal_leaves_the_commit_free(deployment: Deployment) -> None:
    patch = Commit("c", [Patch(ROWS, Key("by_name", ("y",)), {"name": "z"})])
    with pytest.raises(StaleDataError):
        finish(deployment.blocking.commit(patch))
    add(deployment, "y")
    finish(deployment.blocking.commit(patch))
    assert names(deployment) == ["x", "z"]
