"""Calls to a Convex deployment: what is sent again, what is not, what each failure becomes, and what is never shown."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import threading
import traceback
import zlib
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from convexorm import (
    AsyncSession,
    AuthError,
    ConvexORMError,
    Deployment,
    DeploymentError,
    IndexRangeError,
    InvalidRequestError,
    LimitExceeded,
    Session,
    StaleDataError,
    ValidationError,
    connect,
)
from convexorm.deployments.remote import port
from convexorm.faces import finish
from convexorm.requests import Commit, Insert, Patch
from convexorm.wire import VERSION
from tests.conftest import Host
from tests.models import Chunk, Note, Task
from tests.servers import Answer, refusal, serve, success

KEY = "prod:secret-admin-key|0123456789abcdef"


def result(**changes: Any) -> Answer:
    """The answer to one read that found nothing, with changes."""
    nothing = {"docs": [], "count": 0, "skipped": 0, "more": False, "next": None}
    return success({"version": VERSION, "results": [{**nothing, **changes}]})


OTHER_WIRE = f"wire version {VERSION}"
"""What is said of an answer that is none."""
EMPTY = result()
COUNT = Task.query().full_scan()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "_BACKOFF", 0.0)


def count(deployment: Deployment) -> int:
    return Session(deployment).count(COUNT)


async def count_async(deployment: Deployment) -> int:
    try:
        return await AsyncSession(deployment).count(COUNT)
    finally:
        await deployment.aclose()


Ask = Callable[[Deployment], int]


@pytest.fixture(params=["blocking", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """One read, on each face."""
    return count if request.param == "blocking" else lambda deployment: asyncio.run(count_async(deployment))


# -- what is sent --------------------------------------------------------------------------------------------------


def test_a_call_is_a_post_of_convexs_http_api_with_the_admin_key(ask: Ask) -> None:
    with serve(lambda call: EMPTY) as server, connect(server.url, KEY) as deployment:
        assert ask(deployment) == 0
    ((path, headers, body),) = server.calls
    assert path == "/api/query"
    assert headers["authorization"] == f"Convex {KEY}"
    assert json.loads(body) == {
        "path": "orm:read",
        "args": {"version": VERSION, "reads": [{"table": "tasks", "index": "by_creation_time", "count": True}]},
        "format": "convex_encoded_json",
    }


def test_the_functions_may_live_in_another_module() -> None:
    with serve(lambda call: EMPTY) as server, connect(server.url + "/", KEY, module="lib/store") as deployment:
        count(deployment)
    assert server.calls[0][0] == "/api/query"
    assert json.loads(server.bodies[0])["path"] == "lib/store:read"


# -- what is sent again --------------------------------------------------------------------------------------------

PASSING: dict[str, Answer | None] = {
    "a closed connection": None,
    "500": Answer(b"", 500),
    "502 with HTML": Answer(b"<html>Bad gateway</html>", 502, "text/html"),
    "503": Answer(b'{"code":"ServiceUnavailable","message":"x"}', 503),
    "a truncated body": Answer(b'{"status": "succ', length=1_000),
    "200 with HTML": Answer(b"<html>Sign in</html>", 200, "text/html"),
    "half of an answer": Answer(b'{"status": "succ'),
    "nothing": Answer(b""),
    "JSON of another kind": Answer(b"[1]"),
    "JSON of another API": Answer(b'{"status":"up"}'),
    "a value that is none": success({"$integer": "AA=="}),
    "an encoding that was not asked for": Answer(b"x", encoding="br"),
    "no gzip": Answer(EMPTY.body, encoding="gzip"),
    "half of a gzip": Answer(gzip.compress(EMPTY.body)[:-9], encoding="gzip"),
    "a gzip with another checksum": Answer(gzip.compress(EMPTY.body)[:-8] + bytes(8), encoding="gzip"),
    "half of a deflate": Answer(zlib.compress(EMPTY.body)[:-5], encoding="deflate"),
    "an error that is no gzip": Answer(b"x", 503, encoding="gzip"),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_failure_that_passes_is_retried_with_the_same_body(ask: Ask, name: str) -> None:
    answers = [PASSING[name], PASSING[name], EMPTY]
    with serve(lambda call: answers[len(server.calls) - 1]) as server, connect(server.url, KEY) as deployment:
        assert ask(deployment) == 0
    assert len(server.calls) == 3
    assert len(set(server.bodies)) == 1


def test_a_commit_is_retried_under_one_id_and_a_new_one_has_another() -> None:
    def answer(call: dict[str, Any]) -> Answer | None:
        return None if len(server.calls) % 2 else success({"version": VERSION, "results": [[["id", 1.0]]]})

    with serve(answer) as server, connect(server.url, KEY) as deployment, Session(deployment) as session:
        for _ in range(2):
            session.add(Task(text="x", owner_id="u"))
            session.commit()
    ids = [json.loads(body)["args"]["commitId"] for body in server.bodies]
    assert ids[0] == ids[1] != ids[2] == ids[3]


@pytest.mark.parametrize("name", PASSING)
def test_a_failure_that_stays_is_a_deployment_error_after_four_attempts(ask: Ask, name: str) -> None:
    with (
        serve(lambda call: PASSING[name]) as server,
        connect(server.url, KEY) as deployment,
        pytest.raises(DeploymentError, match=server.url),
    ):
        ask(deployment)
    assert len(server.calls) == 4


def test_a_lost_answer_on_the_host_applies_the_commit_once(models_host: Host) -> None:
    """The first answer is lost on its way; the commit sent again is answered from the ledger."""
    key = uuid4().hex

    def relay(call: dict[str, Any]) -> Answer | None:
        path, headers, body = server.calls[-1]
        sent = {"Authorization": headers["authorization"], "Content-Type": "application/json"}
        response = httpx2.post(models_host.url + path, content=body, headers=sent)
        mutations = sum(one[0] == "/api/mutation" for one in server.calls)
        return None if mutations == 1 and path == "/api/mutation" else Answer(response.content, response.status_code)

    with serve(relay) as server, connect(server.url, models_host.key) as deployment, Session(deployment) as session:
        note = Note(id=key, title="once")
        session.add(note)
        session.commit()
        assert len(server.calls) == 2
        found = Session(deployment).get(Note, key)
        assert found is not None
        assert found.convex_id == note.convex_id


# -- what is not ---------------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[Answer, type[ConvexORMError], str]] = {
    "a bad key": (Answer(b'{"code":"BadDeployKey","message":"x"}', 403), AuthError, "refused the admin key"),
    "an unauthenticated call": (Answer(b'{"code":"Unauthenticated"}', 401), AuthError, "refused the admin key"),
    "403 with HTML": (Answer(b"<html>", 403, "text/html"), AuthError, "refused the admin key"),
    "another version": (
        refusal(code="Version", message="m", supported=7),
        DeploymentError,
        f"version 7.*version {VERSION}",
    ),
    "an unknown table": (refusal(code="UnknownTable", message="m", table="t"), DeploymentError, "no table 't'"),
    "an unknown index": (
        refusal(code="UnknownIndex", message="m", table="t", index="i"),
        IndexRangeError,
        "index 'i' of table 't'.*deploy it",
    ),
    "a bad range": (refusal(code="BadRange", message="m", table="t", index="i"), IndexRangeError, "'i'"),
    "an invalid request": (refusal(code="Invalid", message="what must be"), ValidationError, "what must be"),
    "a bad document": (refusal(code="BadDocument", message="m", write=0, table="t"), ValidationError, "t: m"),
    "a stale write": (
        refusal(code="Stale", message="m", write=2, table="t", reason="changed", fields=["a"]),
        StaleDataError,
        "write 2 .*: a;",
    ),
    "a range too large": (refusal(code="RangeTooLarge", message="m", write=0, table="t"), LimitExceeded, "4,000"),
    "a limit": (refusal(code="Limit", message="m", limit="writes", maximum=5, actual=6), LimitExceeded, "5, got 6"),
    "404": (Answer(b"not found", 404, "text/plain"), DeploymentError, "404"),
    "a redirect": (Answer(b"", 302), DeploymentError, "302"),
    "an answer of another version": (success({"version": VERSION + 1, "results": [{}]}), DeploymentError, OTHER_WIRE),
    "too few results": (success({"version": VERSION, "results": []}), DeploymentError, OTHER_WIRE),
    "results of another shape": (success({"version": VERSION, "results": [{"docs": []}]}), DeploymentError, OTHER_WIRE),
    "results that are none": (success({"version": VERSION, "results": ["x"]}), DeploymentError, OTHER_WIRE),
    "documents without ids": (result(docs=[{"text": "x"}]), DeploymentError, OTHER_WIRE),
    "documents that are none": (result(docs=["x"]), DeploymentError, OTHER_WIRE),
    "a count without end": (result(count={"$float": "AAAAAAAA8H8="}), DeploymentError, OTHER_WIRE),
    "a refusal for no known reason": (refusal(code="Stale", table="t", reason="x"), DeploymentError, OTHER_WIRE),
    "a refusal at no position": (refusal(code="Stale", table="t", write="x"), DeploymentError, OTHER_WIRE),
    "a refusal of another shape": (refusal(code=["Stale"]), DeploymentError, "no JSON answer"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_one_typed_error_and_is_not_sent_again(ask: Ask, name: str) -> None:
    answer, error, words = REFUSALS[name]
    with (
        serve(lambda call: answer) as server,
        connect(server.url, KEY) as deployment,
        pytest.raises(error, match=words) as refused,
    ):
        ask(deployment)
    assert type(refused.value) is error
    assert len(server.calls) == 1


@pytest.mark.parametrize("results", [[], [[]], [[True]], [[["id"]]], ["x"], [[["id", 1.0], ["id", 2.0]]], [None]])
def test_a_commits_answer_of_another_shape_is_a_deployment_error(results: Any) -> None:
    answer = success({"version": VERSION, "results": results})
    with serve(lambda call: answer) as server, connect(server.url, KEY) as deployment, Session(deployment) as session:
        session.add(Task(text="x", owner_id="u"))
        with pytest.raises(DeploymentError):
            session.commit()
        assert len(session.new) == 1


def test_a_searchs_answer_of_another_shape_is_a_deployment_error() -> None:
    answer = success({"version": VERSION, "hits": [["x"]]})
    with (
        serve(lambda call: answer) as server,
        connect(server.url, KEY) as deployment,
        Session(deployment) as session,
        pytest.raises(DeploymentError),
    ):
        session.search(Chunk.by_embedding, [1.0, 0.0, 0.0])


def test_what_is_too_large_or_unfit_is_refused_before_it_is_sent() -> None:
    bad: list[tuple[Commit, type[ConvexORMError]]] = [
        (Commit("1", [Insert(Task.__mapper__.table, {"text": "\ud800", "ownerId": "u", "done": False})]), ValidationError),
        (Commit("1", [Patch(Task.__mapper__.table, "\ud800", {"text": "x"})]), ValidationError),
        (
            Commit("1", [Insert(Task.__mapper__.table, {"text": "x" * 1_000_000, "ownerId": "u", "done": False})] * 17),
            LimitExceeded,
        ),
    ]
    with serve(lambda call: EMPTY) as server, connect(server.url, KEY) as deployment:
        for commit, error in bad:
            with pytest.raises(error):
                finish(deployment.blocking.commit(commit))
    assert server.calls == []


# -- waiting -------------------------------------------------------------------------------------------------------


def test_a_page_that_has_more_behind_nothing_is_a_deployment_error() -> None:
    with (
        serve(lambda call: result(more=True)) as server,
        connect(server.url, KEY) as deployment,
        Session(deployment) as session,
        pytest.raises(DeploymentError),
    ):
        session.page(COUNT, 3)


def test_a_stale_write_that_was_not_sent_is_of_no_instance() -> None:
    answer = refusal(code="Stale", table="tasks", write=7, reason="changed")
    with serve(lambda call: answer) as server, connect(server.url, KEY) as deployment, Session(deployment) as session:
        session.add(Task(text="x", owner_id="u"))
        with pytest.raises(StaleDataError) as refused:
            session.commit()
        assert refused.value.instance is None


def test_a_deployment_that_is_not_there_is_unreachable(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        connect(f"http://127.0.0.1:{port}", KEY) as deployment,
        pytest.raises(DeploymentError, match=f"127.0.0.1:{port}: unreachable"),
    ):
        ask(deployment)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://a b", "http://127.0.0.1:0x"])
def test_a_url_that_cannot_be_called_is_a_deployment_error(ask: Ask, url: str) -> None:
    with pytest.raises(DeploymentError), connect(url, KEY) as deployment:
        ask(deployment)


def test_other_threads_go_on_while_a_server_stalls() -> None:
    arrived, answered = threading.Event(), threading.Event()

    def stall(call: dict[str, Any]) -> Answer:
        arrived.set()
        answered.wait(10)
        return EMPTY

    with (
        serve(stall) as slow,
        serve(lambda call: EMPTY) as quick,
        connect(slow.url, KEY) as stalled,
        connect(quick.url, KEY) as free,
    ):
        waiting = threading.Thread(target=count, args=(stalled,))
        waiting.start()
        assert arrived.wait(10)
        for _ in range(20):
            assert count(free) == 0
        assert waiting.is_alive()
        answered.set()
        waiting.join()


async def test_the_event_loop_goes_on_while_a_server_stalls() -> None:
    answered = threading.Event()

    def stall(call: dict[str, Any]) -> Answer:
        answered.wait(10)
        return EMPTY

    with serve(stall) as server:
        async with connect(server.url, KEY) as deployment:
            waiting = asyncio.create_task(AsyncSession(deployment).count(COUNT))
            while not server.calls:  # noqa: ASYNC110  (the server is on another thread)
                await asyncio.sleep(0.001)
            assert not waiting.done()
            answered.set()
            assert await waiting == 0


# -- access --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [None, "", " ", "a\nb", "ключ", " secret", "secret\r\nX: y", 5, b"secret", "project:t:p|secret", "preview:t:p|secret"],
)
def test_a_key_that_is_none_is_refused_before_anything_is_sent(key: Any) -> None:
    with pytest.raises(AuthError) as refused:
        connect("http://127.0.0.1:1", key)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("timeout", [0, -1, None, "x", True, float("inf"), float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises(InvalidRequestError, match="seconds greater than 0"):
        connect("http://127.0.0.1:1", KEY, timeout=timeout)


def test_a_host_that_cannot_have_a_name_is_unreachable() -> None:
    with connect(f"http://{'x' * 64}.example", KEY) as deployment, pytest.raises(DeploymentError):
        Session(deployment).count(Task.query().full_scan())


def test_the_host_refuses_a_wrong_key(ask: Ask, models_host: Host) -> None:
    with connect(models_host.url, "wrong-key") as deployment, pytest.raises(AuthError, match="refused the admin key"):
        ask(deployment)


@pytest.mark.parametrize("function", ["read", "commit", "search"])
def test_without_the_key_the_functions_are_not_found(models_host: Host, function: str) -> None:
    kind = {"read": "query", "commit": "mutation", "search": "action"}[function]
    body = {"path": f"orm:{function}", "args": {"version": VERSION}, "format": "convex_encoded_json"}
    answer = httpx2.post(f"{models_host.url}/api/{kind}", json=body).json()
    assert answer["status"] == "error"
    assert "errorData" not in answer  # which they would throw


def test_functions_that_are_not_deployed_are_named_with_how_to_deploy_them(models_host: Host) -> None:
    with (
        connect(models_host.url, models_host.key, module="nowhere") as deployment,
        pytest.raises(DeploymentError, match=r"'nowhere:read'.*python -m convexorm functions"),
    ):
        count(deployment)


def failures() -> list[Answer | None]:
    return [answer for answer, _, _ in REFUSALS.values()] + list(PASSING.values())


@pytest.mark.parametrize("number", range(len(REFUSALS) + len(PASSING)))
def test_the_admin_key_is_in_no_error_and_no_log(ask: Ask, number: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serve(lambda call: failures()[number]) as server, connect(server.url, KEY) as deployment:
        with pytest.raises(ConvexORMError) as refused:
            ask(deployment)
        shown = [repr(deployment), str(refused.value), repr(refused.value), caplog.text]
        shown += traceback.format_exception(refused.value)
        causes: list[BaseException | None] = [refused.value]
        while causes[-1] is not None:
            causes.append(causes[-1].__cause__ or causes[-1].__context__)
        shown += [f"{cause!r} {getattr(cause, 'request', '')!r}" for cause in causes]
    assert not [text for text in shown if "secret-admin-key" in text]
    assert server.calls[0][1]["authorization"].endswith(KEY)


def test_a_timeout_and_an_unreachable_host_do_not_show_the_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asks: list[Callable[[Deployment], Any]] = [count, lambda deployment: asyncio.run(count_async(deployment))]
    for one in asks:
        with connect("http://127.0.0.1:1", KEY) as deployment, pytest.raises(DeploymentError) as refused:
            one(deployment)
        assert "secret-admin-key" not in "".join(traceback.format_exception(refused.value)) + caplog.text
