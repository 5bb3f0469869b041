"""Commits that may have been sent before: withdrawn, refused, and copies of them that come late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from convexorm import ConvexORMError, Deployment, InvalidRequestError, StaleDataError, ValidationError, connect
from convexorm.faces import finish
from convexorm.requests import Commit, Insert, Key, Patch
from convexorm.schema import Table
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
        for again in (False, True):
            with pytest.raises(InvalidRequestError, match="withdrawn"):
                await port.commit(attrs.evolve(COMMIT, again=again))
        assert await port.withdraw(COMMIT) is None
    assert names(deployment) == ["x"]


@pytest.mark.parametrize(
    ("writes", "error"),
    [
        ([Patch(ROWS, Key("by_name", ("x",)), {"name": "z"}, expect={"name": "other"})], StaleDataError),
        (
            [Insert(Table("new", ROWS.fields, ROWS.indexes), {"name": "n"}), Patch(ROWS, "gone", {"name": "z"})],
            StaleDataError,
        ),
        ([Insert(ROWS, {"other": 1.0})], ValidationError),
    ],
)
def test_what_was_refused_when_it_was_sent_again_is_not_applied_by_a_late_copy(
    deployment: Deployment, writes: list[object], error: type[ConvexORMError]
) -> None:
    late = Commit("c", writes)  # type: ignore[arg-type]
    with pytest.raises(error):
        finish(deployment.blocking.commit(attrs.evolve(late, again=True)))
    add(deployment, "other")  # what the commit expected may have come true by then
    finish(deployment.blocking.commit(Commit("d", [Patch(ROWS, Key("by_name", ("x",)), {"name": "other"})])))
    with pytest.raises((InvalidRequestError, error)):
        finish(deployment.blocking.commit(late))
    assert names(deployment) == ["other", "other"]


def test_a_first_refusal_leaves_the_commit_free(deployment: Deployment) -> None:
    patch = Commit("c", [Patch(ROWS, Key("by_name", ("y",)), {"name": "z"})])
    with pytest.raises(StaleDataError):
        finish(deployment.blocking.commit(patch))
    add(deployment, "y")
    finish(deployment.blocking.commit(patch))
    assert names(deployment) == ["x", "z"]


def test_what_was_applied_is_answered_though_its_second_sending_would_be_refused(deployment: Deployment) -> None:
    patch = Commit("c", [Patch(ROWS, Key("by_name", ("x",)), {"name": "z"})])
    first = finish(deployment.blocking.commit(patch))
    assert finish(deployment.blocking.commit(attrs.evolve(patch, again=True))) == first
    assert names(deployment) == ["z"]
