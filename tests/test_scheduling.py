"""Functions that a session schedules: part of its commit, and each run once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from convexorm import (
    AsyncSession,
    Deployment,
    DeploymentError,
    FunctionNotFound,
    InvalidRequestError,
    LimitExceeded,
    ScheduledFunction,
    Session,
    StaleDataError,
    ValidationError,
    connect,
)
from tests.conftest import ROOT, Host, serve_host
from tests.models import Note

HOUR = timedelta(hours=1)


@pytest.fixture
def host(models_host: Host) -> Host:
    return models_host


def of(deployment: Deployment, id: str | None) -> ScheduledFunction:
    with Session(deployment) as session:
        return session.get_one(ScheduledFunction, id)


def count(deployment: Deployment) -> int:
    with Session(deployment) as session:
        return session.count(ScheduledFunction.query().full_scan())


def test_a_function_is_scheduled_with_the_commit(deployment: Deployment, unique: str) -> None:
    with Session(deployment) as session:
        session.add(Note(id=unique))
        later = session.schedule("orm:sweep", {}, delay=HOUR)
        at = session.schedule("orm:sweep", at=datetime.now(UTC) + HOUR)
        assert later.id is None
        session.commit()
        assert session.get(Note, unique) is not None
    job = of(deployment, later.id)
    assert (job.path, job.kind, job.args, job.error) == ("orm:sweep", "pending", [{}], None)
    for one in (job, of(deployment, at.id)):
        assert abs(one.scheduled_time - datetime.now(UTC) - HOUR) < timedelta(minutes=5)
    assert job.completed_time is None


def test_a_commit_that_is_refused_schedules_nothing(deployment: Deployment, unique: str) -> None:
    with Session(deployment) as session:
        session.add(Note(id=unique))
        session.commit()
    before = count(deployment)
    with Session(deployment) as session:
        session.schedule("orm:sweep", {}, delay=HOUR)
        session.add(Note(id=unique))
        with pytest.raises(StaleDataError):
            session.commit()
        session.rollback()
        session.commit()
    assert count(deployment) == before


async def test_a_commit_that_is_sent_again_schedules_once(deployment: Deployment) -> None:
    session = AsyncSession(deployment)
    before = await session.count(ScheduledFunction.query().full_scan())
    session.schedule("orm:sweep", {}, delay=HOUR)
    _, writes, _ = session._unit_of_work._gathered()
    commit = session._compiler.commit(writes)
    first = await deployment.asynchronous.commit(commit)
    assert await deployment.asynchronous.commit(commit) == first
    assert await session.count(ScheduledFunction.query().full_scan()) == before + 1


def test_a_scheduled_function_is_cancelled_with_a_commit(deployment: Deployment) -> None:
    with Session(deployment) as session:
        scheduled = session.schedule("orm:sweep", {}, delay=HOUR)
        with pytest.raises(InvalidRequestError):
            session.cancel_scheduled(scheduled)
        session.commit()
        session.cancel_scheduled(scheduled)
        session.rollback()
        session.commit()
        assert of(deployment, scheduled.id).kind == "pending"
        session.cancel_scheduled(scheduled)
        session.cancel_scheduled("none of them")
        session.commit()
    job = of(deployment, scheduled.id)
    assert job.kind == "canceled"
    assert job.completed_time is not None


def test_what_cannot_be_scheduled_is_refused_before_anything_is_written(deployment: Deployment, unique: str) -> None:
    before = count(deployment)
    now = datetime.now(UTC)
    wrong: list[tuple[type[Exception], str, dict[str, Any], dict[str, Any]]] = [
        (InvalidRequestError, "", {}, {}),
        (InvalidRequestError, "a:", {}, {}),
        (InvalidRequestError, "orm:sweep", {}, {"delay": 5}),
        (InvalidRequestError, "orm:sweep", {}, {"at": "now"}),
        (InvalidRequestError, "orm:sweep", {}, {"at": now, "delay": HOUR}),
        (ValidationError, "orm:sweep", {"a": object()}, {}),
        (ValidationError, "orm:sweep", {}, {"at": now.replace(tzinfo=None)}),
        (ValidationError, "orm:sweep", {}, {"at": now + timedelta(days=3_000)}),
        (ValidationError, "orm:sweep", {}, {"delay": -HOUR}),
        (ValidationError, "orm:sweep", {}, {"delay": timedelta(days=3_000)}),
    ]
    with Session(deployment) as session:
        session.add(Note(id=unique))
        for error, path, arguments, when in wrong:
            with pytest.raises(error):
                session.schedule(path, arguments, **when)
        for _ in range(1_001):
            session.schedule("orm:sweep")
        with pytest.raises(LimitExceeded, match="1,000"):
            session.commit()
        session.rollback()
        assert session.get(Note, unique) is None
    assert count(deployment) == before


def test_a_function_that_is_not_there_is_refused(
    open_deployment: Callable[[str], Deployment], unique: str, subtests_of: list[str]
) -> None:
    for kind in subtests_of:
        deployment = open_deployment(kind) if kind == "host" else connect("memory:", functions={"a:b": print})
        with deployment, Session(deployment) as session:
            session.add(Note(id=unique))
            session.schedule("no:such", {"a": 1})
            with pytest.raises(FunctionNotFound, match="no:such"):
                session.commit()
            session.rollback()
            assert session.get(Note, unique) is None
            session.commit()


@pytest.fixture
def subtests_of() -> list[str]:
    return ["host", "memory"]


@pytest.fixture
def own_host() -> Iterator[Host]:
    """A host whose clock may be set."""
    yield from serve_host(ROOT / "tests" / "functions")


def test_the_host_runs_what_is_due(own_host: Host, unique: str) -> None:
    with own_host.connect() as deployment, Session(deployment) as session:
        paid = session.schedule("paying:pay", {"id": unique, "owner": "ada", "amount": 3.0}, delay=HOUR)
        failed = session.schedule("paying:pay", {"id": 7}, delay=HOUR)
        session.commit()
        headers = {"authorization": f"Convex {own_host.key}"}
        assert httpx2.post(f"{own_host.url}/clock", json={"advance": 3_600_000}).status_code == 403
        ran = httpx2.post(f"{own_host.url}/clock", json={"advance": 3_600_001}, headers=headers).json()
        assert ran["scheduled"] >= 2
        assert of(deployment, paid.id).kind == "success"
        assert of(deployment, failed.id).kind == "failed"
        with pytest.raises(InvalidRequestError):
            deployment.run_scheduled()


# -- through fakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory:", "sqlite:///{path}"])
async def test_fakes_run_what_is_due_once(url: str, tmp_path: Path) -> None:
    got: list[Any] = []

    async def later(to: str) -> None:
        got.append(to)

    def failing() -> None:
        raise KeyError("x")

    functions: dict[str, Callable[..., Any]] = {
        "emails:send": lambda **a: got.append(a),
        "emails:later": later,
        "emails:failing": failing,
    }
    with connect(url.format(path=tmp_path / "x.db"), functions=functions) as deployment:
        with Session(deployment) as session:
            first = session.schedule("emails:send", {"to": "ada"}, delay=HOUR)
            second = session.schedule("emails:later", {"to": "bob"}, delay=2 * HOUR)
            failed = session.schedule("emails:failing", delay=HOUR)
            session.commit()
        assert deployment.run_scheduled() == []
        with pytest.raises(InvalidRequestError):
            deployment.run_scheduled(until=datetime.now())
        ran = deployment.run_scheduled(until=datetime.now(UTC) + HOUR)
        assert [(one.id, type(one.error)) for one in ran] == [(first.id, type(None)), (failed.id, KeyError)]
        assert [one.id for one in await deployment.arun_scheduled(until=datetime.now(UTC) + 2 * HOUR)] == [second.id]
        assert got == [{"to": "ada"}, "bob"]
        assert deployment.run_scheduled(until=datetime.now(UTC) + 9 * HOUR) == []
        assert of(deployment, first.id).kind == of(deployment, second.id).kind == "success"
        assert (of(deployment, failed.id).kind, of(deployment, failed.id).error) == ("failed", "KeyError: 'x'")


def test_a_file_that_is_only_read_runs_nothing(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'x.db'}") as deployment, Session(deployment) as session:
        scheduled = session.schedule("a:b")
        session.commit()
    with connect(f"sqlite:///{tmp_path / 'x.db'}?mode=ro", functions={"a:b": print}) as deployment:
        with pytest.raises(DeploymentError, match="only be read"):
            deployment.run_scheduled()
        assert of(deployment, scheduled.id).kind == "pending"
    assert [one.name for one in tmp_path.iterdir()] == ["x.db"]


def test_what_another_has_run_meanwhile_is_not_run_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    got: list[str] = []

    def first() -> None:
        got.append("first")
        with connect(url, functions={"a:first": print, "a:second": lambda: got.append("second")}) as other:
            assert [one.path for one in other.run_scheduled()] == ["a:second"]

    with connect(url, functions={"a:first": first, "a:second": lambda: got.append("again")}) as deployment:
        with Session(deployment) as session:
            session.schedule("a:first")
            session.schedule("a:second")
            session.commit()
        assert [one.path for one in deployment.run_scheduled()] == ["a:first"]
    assert got == ["first", "second"]


RUNNER = """
    import os, signal, sys
    from convexorm import connect

    def send(number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        with open(sys.argv[2], "a") as log:
            log.write(f"{number}\\n")

    with connect(sys.argv[1], functions={"a:send": send}) as deployment:
        sys.stdin.readline()
        while deployment.run_scheduled():
            pass
"""


def test_processes_run_each_once_and_a_kill_fails_the_one_in_its_midst(tmp_path: Path) -> None:
    url, log = f"sqlite:///{tmp_path / 'x.db'}", tmp_path / "log"
    with connect(url) as deployment, Session(deployment) as session:
        jobs = [session.schedule("a:send", {"number": number}) for number in range(40)]
        session.commit()
        command = [sys.executable, "-c", textwrap.dedent(RUNNER), url, str(log)]
        runners = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(3)]
        for runner in runners:
            runner.communicate("go\n", timeout=60)
        assert sorted(runner.returncode for runner in runners) == [-signal.SIGKILL, 0, 0]
        assert sorted(map(int, log.read_text().split())) == [number for number in range(40) if number != 3]
        assert deployment.run_scheduled() == []
        kinds = [of(deployment, job.id).kind for job in jobs]
        assert [number for number, kind in enumerate(kinds) if kind != "success"] == [3]
        assert of(deployment, jobs[3].id).kind == "failed"
        assert os.listdir(tmp_path / "x.db-files") == []
