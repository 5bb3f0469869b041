"""Every kind of answer that Convex gives: whether it is asked again, whether a commit may have been applied, which error.

The answers are those of the public backend's sources: `{code, message}` with a status for what fails outside of functions,
`{status: "error"}` with 200 for what fails in them, where production tells no more than "Server Error".
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from convexorm import (
    AuthError,
    ConvexORMError,
    Deployment,
    DeploymentError,
    FunctionFailed,
    FunctionNotFound,
    LimitExceeded,
    Session,
    connect,
)
from convexorm.deployments.remote import port
from convexorm.faces import finish
from convexorm.requests import Commit, Insert, Range, Read, Written
from convexorm.wire import VERSION
from tests.conftest import ROOT, Host, serve_host
from tests.models import Note, Task
from tests.remote.calling import KEY
from tests.remote.conftest import Clock
from tests.servers import VERSIONED, Answer, is_probe, refusal, serve, success

TASKS = Task.__mapper__.table
COMMIT = Commit("one", [Insert(TASKS, {"text": "x", "ownerId": "u", "done": False})])
APPLIED = success({"version": VERSION, "results": [[["id", 1.0]]]})
HIDDEN = refusal("[Request ID: 0123456789abcdef] Server Error")


def told(words: str) -> Answer:
    """What a function that fails is answered with in development."""
    return refusal(f"[Request ID: 0123456789abcdef] Server Error\n{words}")


def failed(status: int, code: str, message: str = "What to do.") -> Answer:
    return Answer(json.dumps({"code": code, "message": message}).encode(), status)


@attrs.frozen
class Case:
    """An answer to a commit, and what becomes of it."""

    answer: Answer
    error: type[ConvexORMError]
    words: str
    again: bool = False
    """The call is sent again, until the deadline, and is answered as soon as the deployment can."""
    ambiguous: bool = False
    """The commit may have been applied."""
    deployed: bool = True
    """Our functions answer to who looks."""


CASES: dict[str, Case] = {
    # what fails before a function runs
    "a bad deploy key": Case(failed(403, "BadDeployKey", "Double check."), AuthError, "BadDeployKey: Double check."),
    "a bad admin key": Case(failed(401, "BadAdminKey"), AuthError, "refused the admin key"),
    "a key in no header": Case(failed(400, "InvalidAdminKey"), AuthError, "refused the admin key"),
    "403 of a proxy": Case(Answer(b"<html>", 403, "text/html"), AuthError, "refused the admin key"),
    "an operation the key lacks": Case(
        failed(403, "OperationNotPermitted"), AuthError, "lacks deployment:functions:runInternalMutations"
    ),
    "no such function": Case(failed(404, "FunctionPathNotFound"), FunctionNotFound, "npx convex deploy", deployed=False),
    "a backend that is not running": Case(failed(400, "BackendIsNotRunning"), DeploymentError, "paused, disabled"),
    "a body that is none": Case(failed(400, "BadJsonBody", "EOF"), DeploymentError, "BadJsonBody: EOF"),
    "no deployment of this name": Case(
        failed(404, "InstanceNotFound", "None."), DeploymentError, "InstanceNotFound: None."
    ),
    "too much system time": Case(failed(400, "SystemTimeoutError"), LimitExceeded, "SystemTimeoutError"),
    "too many bytes written": Case(failed(400, "TooManyBytesWritten"), LimitExceeded, "one call"),
    # what passes
    "too many at once": Case(failed(429, "TooManyConcurrentRequests"), DeploymentError, "TooManyConcurrent", again=True),
    "too many writes a second": Case(failed(429, "TooManyWrites"), DeploymentError, "TooManyWrites", again=True),
    "a conflict": Case(failed(503, "OptimisticConcurrencyControlFailure"), DeploymentError, "Optimistic", again=True),
    "a worker that is overloaded": Case(failed(503, "WorkerOverloaded"), DeploymentError, "WorkerOverloaded", again=True),
    "429 of a proxy": Case(Answer(b"slow down", 429, "text/plain"), DeploymentError, "busy", again=True, ambiguous=True),
    "an overload of unknown kind": Case(failed(503, "Busy"), DeploymentError, "Busy", ambiguous=True),
    "an internal error": Case(failed(500, "InternalServerError"), DeploymentError, "InternalServerError", ambiguous=True),
    "a gateway": Case(Answer(b"<html>", 502, "text/html"), DeploymentError, "502", ambiguous=True),
    # what fails in functions, as development tells it
    "too many bytes read": Case(told("Too many bytes read in a single function execution"), LimitExceeded, "one call"),
    "a time-out": Case(told("Function execution timed out (maximum duration: 1s)"), LimitExceeded, "one call"),
    "no memory": Case(
        told("JavaScript execution ran out of memory (maximum memory usage: 64 MB)"), LimitExceeded, "memory"
    ),
    "a fault in a function": Case(told("Uncaught TypeError: x is not a y"), FunctionFailed, "TypeError: x is not a y"),
    "no function, as told": Case(
        told("Could not find public function for 'orm:commit'."), FunctionNotFound, "npx convex deploy", deployed=False
    ),
    "paused": Case(
        told("Cannot run functions while this deployment is paused. Resume the deployment in the dashboard settings"),
        *(DeploymentError, "is paused; resume it"),
        deployed=False,
    ),
    "suspended": Case(
        told("Cannot run functions while this deployment is suspended."), DeploymentError, "is suspended", deployed=False
    ),
    "over the free plan": Case(
        told("You have exceeded the free plan limits, so your deployments have been disabled."),
        *(DeploymentError, "limits of the free plan"),
        deployed=False,
    ),
    "over a spending limit": Case(
        told("You have exceeded your spending limits, so your deployments have been disabled."),
        *(DeploymentError, "over its spending limits"),
        deployed=False,
    ),
    "over a usage limit": Case(
        told("This deployment has been disabled because it exceeded a configured usage limit."),
        *(DeploymentError, "over a usage limit"),
        deployed=False,
    ),
    # as production tells it
    "a failure, hidden": Case(HIDDEN, FunctionFailed, "production hides why"),
    "a failure with 560": Case(attrs.evolve(HIDDEN, status=560), FunctionFailed, "production hides why"),
    "no function, hidden": Case(HIDDEN, FunctionNotFound, "paused or disabled.*npx convex deploy", deployed=False),
}

Do = Callable[[Deployment], Any]


@pytest.fixture(params=["blocking", "async"])
def commit(request: pytest.FixtureRequest) -> Do:
    def awaited(deployment: Deployment) -> Any:
        async def run() -> Any:
            return await deployment.asynchronous.commit(COMMIT)

        return asyncio.run(run())

    return awaited if request.param == "async" else lambda deployment: finish(deployment.blocking.commit(COMMIT))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "_BACKOFF", 0.0)


@pytest.mark.parametrize(
    "answer",
    [told("half of \ud83d a character"), failed(400, "Odd\ud83d", "half of \ud83d a character")],
    ids=["function", "deployment"],
)
def test_a_refusal_with_halves_of_characters_can_be_printed(commit: Do, answer: Answer) -> None:
    with (
        serve(lambda call: answer) as server,
        connect(server.url, KEY) as deployment,
        pytest.raises(DeploymentError, match=r"half of . a character") as refused,
    ):
        commit(deployment)
    error = refused.value
    assert f"{error!r} {error} {getattr(error, 'text', '')}".encode()


@pytest.mark.parametrize("name", CASES)
def test_a_refused_commit_is_one_error_which_names_what_was_said(commit: Do, name: str, clock: Clock) -> None:
    case = CASES[name]

    def handle(call: dict[str, Any]) -> Answer:
        clock.now += 4.0  # the eighth answer is the last within the timeout
        return VERSIONED if is_probe(call) and case.deployed else case.answer

    with (
        serve(handle) as server,
        connect(server.url, KEY, timeout=30) as deployment,
        pytest.raises(case.error, match=case.words) as refused,
    ):
        commit(deployment)
    assert type(refused.value) is case.error
    asked = [body for body in map(json.loads, server.bodies) if not is_probe(body)]
    assert len(asked) > 4 if case.again else len(asked) == (4 if case.ambiguous else 1)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.again])
def test_a_deployment_that_is_busy_is_asked_until_it_answers(commit: Do, name: str) -> None:
    """However often; what is lost on the way counts, what is refused does not."""
    answers = iter([*[CASES[name].answer] * 12, APPLIED])
    with serve(lambda call: next(answers)) as server, connect(server.url, KEY, retry=2) as deployment:
        assert commit(deployment) == [Written("id", 1.0)]
    assert len({json.loads(body)["args"]["commitId"] for body in server.bodies}) == 1


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.answer.status != 404])
def test_only_what_may_have_been_applied_is_withdrawn(commit: Do, name: str) -> None:
    """What is said after a refusal that did nothing is the answer; after one that may have, the earlier copy's counts."""
    case = CASES[name]
    if not (case.again or case.ambiguous):
        return
    stale = refusal(code="Stale", message="m", write=0, table="tasks", reason="exists")
    answers = iter([case.answer, stale, APPLIED])
    with serve(lambda call: next(answers)) as server, connect(server.url, KEY) as deployment:
        if case.ambiguous:
            assert commit(deployment) == [Written("id", 1.0)]
        else:
            with pytest.raises(ConvexORMError, match="exists already"):
                commit(deployment)
    assert len(server.calls) == (3 if case.ambiguous else 2)


def test_one_attempt_is_one_also_when_the_deployment_is_busy() -> None:
    with (
        serve(lambda call: failed(429, "TooManyWrites")) as server,
        connect(server.url, KEY, retry=1) as deployment,
        pytest.raises(DeploymentError, match="TooManyWrites"),
    ):
        finish(deployment.blocking.commit(COMMIT))
    assert len(server.calls) == 1


@pytest.mark.parametrize("asked", ["1", "Thu, 01 Jan 2026 00:00:01 GMT"])
def test_a_pause_that_is_asked_for_is_made(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    answers = iter(
        [
            attrs.evolve(
                failed(429, "TooManyWrites"), headers={"Retry-After": asked, "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}
            )
        ]
    )
    with serve(lambda call: next(answers, APPLIED)) as server, connect(server.url, KEY) as deployment:
        monkeypatch.setattr(deployment.blocking, "_pause", pause)
        finish(deployment.blocking.commit(COMMIT))
    assert pauses == [1.0]


@pytest.mark.parametrize("asked", ["3600", "604800", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_pause_longer_than_the_call_may_take_is_not_waited_for(asked: str) -> None:
    busy = attrs.evolve(failed(429, "TooManyWrites"), headers={"Retry-After": asked})
    with (
        serve(lambda call: busy) as server,
        connect(server.url, KEY) as deployment,
        pytest.raises(DeploymentError, match="TooManyWrites"),
    ):
        finish(deployment.blocking.commit(COMMIT))
    assert len(server.calls) == 1


def test_pauses_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(port, "_BACKOFF", 0.1)
    answers = itertools.chain([failed(429, "TooManyWrites")] * 9, itertools.repeat(APPLIED))
    with serve(lambda call: next(answers)) as server, connect(server.url, KEY, timeout=600) as deployment:
        monkeypatch.setattr(deployment.blocking, "_pause", pause)
        monkeypatch.setattr(random, "uniform", lambda least, most: most)
        finish(deployment.blocking.commit(COMMIT))
        assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 8.0, 8.0, 8.0]


# -- keys ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["Queries", "Mutations", "Actions"])
def limited_host(request: pytest.FixtureRequest) -> Iterator[tuple[str, Host]]:
    """A host whose key has one operation."""
    for host in serve_host(ROOT / "tests" / "functions", "--allow", f"RunInternal{request.param}"):
        yield request.param, host


def test_a_key_runs_what_it_has_the_operation_for(limited_host: tuple[str, Host]) -> None:
    has, host = limited_host
    does: dict[str, Callable[[Session], Any]] = {
        "Queries": lambda session: session.count(Note.query().full_scan()),
        "Mutations": lambda session: (session.add(Note(id="n", title="t")), session.commit()),
    }
    with host.connect() as deployment:
        for operation, do in does.items():
            if operation == has:
                do(Session(deployment))
                continue
            with pytest.raises(AuthError, match=f"lacks deployment:functions:runInternal{operation}"):
                do(Session(deployment))
        if has == "Queries":
            return
        lacking = "Queries" if has == "Mutations" else "Mutations"
        with pytest.raises(AuthError, match=f"lacks deployment:functions:runInternal{lacking}"):
            deployment.files.upload(b"of a key that may not look at it")
        with pytest.raises(AuthError, match="lacks deployment:functions:runInternalQueries"):
            deployment.files.download("kg200000000000000000000000000000")


def test_an_upload_that_may_not_be_looked_at_leaves_no_file() -> None:
    asked: list[Any] = []

    def handle(call: dict[str, Any]) -> Answer:
        if call == {}:  # the file itself
            return Answer(b'{"storageId":"s"}')
        asked.append((call["path"], call["args"].get("op"), call["args"].get("id")))
        if call["path"] == "orm:file":
            return failed(403, "OperationNotPermitted")
        return success({"version": VERSION, "url": f"{server.url}/upload", "deleted": True})

    with (
        serve(handle) as server,
        connect(server.url, KEY) as deployment,
        pytest.raises(AuthError, match="lacks deployment:functions:runInternalQueries"),
    ):
        deployment.files.upload(b"{}")
    assert asked == [("orm:store", "upload", None), ("orm:file", None, "s"), ("orm:store", "delete", "s")]


def test_a_call_may_be_busy_for_as_long_as_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pause(seconds: float) -> None:
        assert seconds <= 8

    answers = itertools.chain([failed(429, "TooManyWrites")] * 1_100, itertools.repeat(APPLIED))
    with serve(lambda call: next(answers)) as server, connect(server.url, KEY, timeout=7_200) as deployment:
        monkeypatch.setattr(deployment.blocking, "_pause", pause)
        finish(deployment.blocking.commit(COMMIT))
        assert len(server.calls) == 1_101


# -- less at a time ------------------------------------------------------------------------------------------------

READ = Read(Range(TASKS, "by_creation_time"))


def page(*ids: str, more: bool) -> Answer:
    docs = [{"_id": id, "_creationTime": float(place), "text": id} for place, id in enumerate(ids)]
    result = {"docs": docs, "count": len(docs), "skipped": 0, "more": False, "next": [[0.0], [ids[-1]]] if more else None}
    return success({"version": VERSION, "results": [result]})


@pytest.mark.parametrize("failure", [HIDDEN, CASES["a time-out"].answer, CASES["too much system time"].answer])
def test_a_read_that_fails_in_the_functions_is_asked_for_half_as_much(failure: Answer) -> None:
    shares: list[int] = []

    def handle(call: dict[str, Any]) -> Answer:
        if is_probe(call):
            return VERSIONED
        shares.append(call["args"].get("share", 1))
        return failure if shares[-1] < 8 else page("a", more=False)

    with serve(handle) as server, connect(server.url, KEY) as deployment:
        for _ in range(2):
            (result,) = finish(deployment.blocking.read([READ]))
            assert [doc["_id"] for doc in result.docs] == ["a"]
    assert shares == [1, 2, 4, 8, 8]  # the second read begins where the first has ended


def test_what_one_document_fails_at_is_an_error() -> None:
    shares: list[int] = []

    def handle(call: dict[str, Any]) -> Answer:
        if is_probe(call):
            return VERSIONED
        shares.append(call["args"].get("share", 1))
        return HIDDEN

    with (
        serve(handle) as server,
        connect(server.url, KEY) as deployment,
        pytest.raises(FunctionFailed, match="production hides why"),
    ):
        finish(deployment.blocking.read([READ]))
    assert shares == [2**power for power in range(14)]


def limit_of(call: dict[str, Any]) -> int:
    """That of the one write of a commit; 0 for one that withdraws, for which there is no reason here."""
    return int(call["args"]["writes"][0][0]["limit"]) if "writes" in call["args"] else 0


@pytest.mark.parametrize("failure", [HIDDEN, CASES["a time-out"].answer, CASES["too much system time"].answer])
def test_a_step_that_fails_in_the_functions_is_made_smaller(failure: Answer) -> None:
    limits: list[int] = []

    def handle(call: dict[str, Any]) -> Answer:
        if is_probe(call):
            return VERSIONED
        limits.append(limit_of(call))
        return failure if limits[-1] > 10 else success({"version": VERSION, "results": [[[limits[-1], len(limits) < 5]]]})

    with serve(handle) as server, connect(server.url, KEY) as deployment, Session(deployment) as session:
        assert session.delete_all(Note.query().by_index("by_creation_time")) == 14
    assert limits == [4_000, 500, 62, 7, 7]


def test_a_step_of_one_document_that_fails_is_an_error() -> None:
    limits: list[int] = []

    def handle(call: dict[str, Any]) -> Answer:
        if is_probe(call):
            return VERSIONED
        limits.append(limit_of(call))
        return HIDDEN

    with (
        serve(handle) as server,
        connect(server.url, KEY) as deployment,
        pytest.raises(FunctionFailed, match="production hides why"),
    ):
        Session(deployment).delete_all(Note.query().by_index("by_creation_time").limit(9))
    assert limits == [9, 1]


def test_more_is_tried_again_after_a_while() -> None:
    shares: list[int] = []

    def handle(call: dict[str, Any]) -> Answer:
        if is_probe(call):
            return VERSIONED
        shares.append(call["args"].get("share", 1))
        return HIDDEN if shares[-1] < 4 and len(shares) < 5 else page("a", more=False)

    with serve(handle) as server, connect(server.url, KEY) as deployment:
        for _ in range(100):
            finish(deployment.blocking.read([READ]))
    assert shares[:4] == [1, 2, 4, 4]
    assert sorted(shares[2:], reverse=True) == shares[2:]
    assert set(shares[-10:]) == {1}
