"""A commit that is refused while a copy of it may be under way: that is withdrawn before the refusal is raised."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from convexorm import (
    ConvexORMError,
    Deployment,
    DeploymentError,
    FunctionFailed,
    IndexRangeError,
    InvalidRequestError,
    LimitExceeded,
    StaleDataError,
    ValidationError,
    connect,
)
from convexorm.deployments.remote import RemotePort, port
from convexorm.faces import finish
from convexorm.requests import Commit, Insert, Written
from convexorm.wire import VERSION
from tests.models import Task
from tests.remote.calling import KEY
from tests.servers import VERSIONED, Answer, is_probe, refusal, serve, success

COMMIT = Commit("one", [Insert(Task.__mapper__.table, {"text": "x", "ownerId": "u", "done": False})])
APPLIED = success({"version": VERSION, "results": [[["id", 1.0]]]})
WITHDRAWN = success({"version": VERSION, "withdrawn": True})
STALE = refusal(code="Stale", message="m", write=0, table="tasks", reason="exists")

Use = Callable[[Deployment, Callable[[RemotePort], Awaitable[Any]]], Any]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "_BACKOFF", 0.0)


@pytest.fixture(params=["blocking", "async"])
def use(request: pytest.FixtureRequest) -> Use:
    def awaited(deployment: Any, act: Callable[[RemotePort], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            return await act(deployment.asynchronous)

        return asyncio.run(run())

    def blocking(deployment: Any, act: Callable[[RemotePort], Awaitable[Any]]) -> Any:
        return finish(act(deployment.blocking))

    return blocking if request.param == "blocking" else awaited


def kinds(bodies: list[dict[str, Any]]) -> list[str]:
    return ["withdraw" if body["args"].get("withdraw") else "commit" for body in bodies]


class Scene:
    """A server that answers commits and withdrawals one after the other, each from a list of its own."""

    def __init__(self, commits: list[Answer | None], withdrawals: list[Answer | None]) -> None:
        self.commits = commits
        self.withdrawals = withdrawals
        self.asked: list[dict[str, Any]] = []

    def __call__(self, call: dict[str, Any]) -> Answer | None:
        if is_probe(call):
            return VERSIONED
        self.asked.append(call)
        return (self.withdrawals if call["args"].get("withdraw") else self.commits).pop(0)


LOST: dict[str, Answer | None] = {
    "no answer": None,
    "half of an answer": Answer(b'{"status": "succ'),
    "an answer of a proxy": Answer(b"<html>", 504, "text/html"),
    "a page that says 200": Answer(b"<html>Sign in</html>", 200, "text/html"),
}
REFUSED: dict[str, tuple[Answer, type[ConvexORMError]]] = {
    "stale": (STALE, StaleDataError),
    "a bad document": (refusal(code="BadDocument", message="m", write=0, table="tasks"), ValidationError),
    "a limit": (refusal(code="Limit", message="m", limit="writes", maximum=5, actual=6), LimitExceeded),
    "a limit of Convex": (refusal("Too many bytes read in a single function execution"), LimitExceeded),
    "a failure that production hides": (refusal("[Request ID: 1a] Server Error"), FunctionFailed),
    "an unknown index": (refusal(code="UnknownIndex", message="m", table="tasks", index="i"), IndexRangeError),
    "another index": (
        refusal(code="OtherIndex", message="m", table="tasks", index="i", assumed=["a"], deployed=["b"]),
        IndexRangeError,
    ),
    "an unknown table": (refusal(code="UnknownTable", message="m", table="tasks"), DeploymentError),
    "withdrawn": (refusal(code="Withdrawn", message="m"), InvalidRequestError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_after_a_lost_answer_is_raised_once_the_copy_is_withdrawn(use: Use, name: str) -> None:
    answer, error = REFUSED[name]
    scene = Scene([None, answer], [WITHDRAWN])
    with serve(scene) as server, connect(server.url, KEY) as deployment, pytest.raises(error) as refused:
        use(deployment, lambda to: to.commit(COMMIT))
    assert type(refused.value) is error
    assert kinds(scene.asked) == ["commit", "commit", "withdraw"]
    assert scene.asked[2]["args"] == {"version": VERSION, "commitId": "one", "withdraw": True}


@pytest.mark.parametrize("name", LOST)
def test_what_a_lost_copy_did_is_the_answer(use: Use, name: str) -> None:
    scene = Scene([LOST[name], STALE], [APPLIED])
    with serve(scene) as server, connect(server.url, KEY) as deployment:
        assert use(deployment, lambda to: to.commit(COMMIT)) == [Written("id", 1.0)]
    assert kinds(scene.asked) == ["commit", "commit", "withdraw"]


def test_a_refusal_of_the_only_copy_needs_no_withdrawal(use: Use) -> None:
    scene = Scene([STALE], [])
    with serve(scene) as server, connect(server.url, KEY) as deployment, pytest.raises(StaleDataError):
        use(deployment, lambda to: to.commit(COMMIT))
    assert kinds(scene.asked) == ["commit"]


def test_a_withdrawal_is_asked_for_again_and_its_failure_leaves_the_outcome_open(use: Use) -> None:
    scene = Scene([None, STALE], [None, Answer(b"", 503), WITHDRAWN])
    with serve(scene) as server, connect(server.url, KEY) as deployment, pytest.raises(StaleDataError):
        use(deployment, lambda to: to.commit(COMMIT))
    for failure in (Answer(b"", 503), refusal(code="Invalid", message="no withdraw"), Answer(b'{"code":"x"}', 403)):
        scene = Scene([None, STALE], [failure] * 4)
        with (
            serve(scene) as server,
            connect(server.url, KEY) as deployment,
            pytest.raises(DeploymentError, match="refused, but an earlier copy of it may have been applied"),
        ):
            use(deployment, lambda to: to.commit(COMMIT))


UNKNOWN = REFUSED["an unknown table"][0]
OUTCOMES: dict[str, tuple[list[Answer | None], list[Answer | None], bool]] = {
    "no answer": ([None] * 4, [], True),
    "no answer at first": ([None, Answer(b'{"code":"x"}', 403)], [], True),
    "an answer of another version": ([success({"version": 0})], [], True),
    "refused": ([UNKNOWN], [], False),
    "refused, and withdrawn": ([None, UNKNOWN], [WITHDRAWN], False),
    "refused, and perhaps under way": ([None, UNKNOWN], [None] * 4, True),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_error_says_whether_the_commit_may_have_been_applied(use: Use, name: str) -> None:
    commits, withdrawals, lost = OUTCOMES[name]
    scene = Scene(list(commits), list(withdrawals))
    with serve(scene) as server, connect(server.url, KEY) as deployment, pytest.raises(ConvexORMError) as error:
        use(deployment, lambda to: to.commit(COMMIT))
    assert error.value.lost is lost


ODD = [
    b"",
    b"[]",
    b"null",
    b"{}",
    b'{"status":"error"}',
    b'{"status":"success"}',
    b'{"status":"error","errorMessage":7}',
    b'{"status":"error","code":["x"]}',
    b'"x"',
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.decode() or "nothing")
def test_what_is_no_whole_answer_of_convex_is_asked_for_again(use: Use, odd: bytes) -> None:
    scene = Scene([Answer(odd), APPLIED], [])
    with serve(scene) as server, connect(server.url, KEY) as deployment:
        (written,) = use(deployment, lambda to: to.commit(COMMIT))
    assert isinstance(written, Written)
    assert kinds(scene.asked) == ["commit", "commit"]


def test_what_was_never_sent_is_not_lost(use: Use) -> None:
    with serve(lambda call: None) as server:
        pass
    with connect(server.url, KEY) as deployment, pytest.raises(DeploymentError, match="unreachable") as error:
        use(deployment, lambda to: to.commit(COMMIT))
    assert not error.value.lost


def test_a_commit_is_withdrawn_on_its_own(use: Use) -> None:
    scene = Scene([], [None, WITHDRAWN, APPLIED, Answer(b"{}"), STALE])
    with serve(scene) as server, connect(server.url, KEY, retry=2) as deployment:
        assert use(deployment, lambda to: to.withdraw(COMMIT)) is None
        assert use(deployment, lambda to: to.withdraw(COMMIT)) == [Written("id", 1.0)]
        with pytest.raises(StaleDataError):
            use(deployment, lambda to: to.withdraw(COMMIT))


def test_an_index_of_another_shape_names_both_lists(use: Use) -> None:
    answer, _ = REFUSED["another index"]
    with (
        serve(lambda call: answer) as server,
        connect(server.url, KEY) as deployment,
        pytest.raises(IndexRangeError, match=r"\[a\], deployed is \[b\].*python -m convexorm schema.*deploy") as refused,
    ):
        use(deployment, lambda to: to.commit(COMMIT))
    assert (refused.value.table, refused.value.index, refused.value.fields) == ("tasks", "i", ("a",))
