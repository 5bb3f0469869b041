"""Interrupts and cancellations anywhere in a call: the deployment stays whole, and keeps no socket that no call uses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

from convexorm import AsyncSession, Deployment, DeploymentError, Session, connect
from convexorm.wire import VERSION
from tests.interrupting import PACKAGE, interrupted
from tests.models import Task
from tests.remote.calling import KEY, check_open, say, say_async
from tests.servers import Answer, Server, serve, success

DEPLOYMENTS = PACKAGE / "deployments"


def answer(call: dict[str, Any]) -> Answer:
    if call["path"] == "orm:commit":
        return success({"version": VERSION, "results": [[["id", 1.0]]]})
    if call["path"] == "orm:read":
        nothing = {"docs": [], "count": 0, "skipped": 0, "more": False, "next": None}
        return success({"version": VERSION, "results": [nothing]})
    return success(call["args"]["value"])


def commit(deployment: Deployment) -> None:
    with Session(deployment) as session:
        session.add(Task(text="x", owner_id="u"))
        session.commit()


def read(deployment: Deployment) -> None:
    Session(deployment).all(Task.query().full_scan())


def close(deployment: Deployment) -> None:
    say(deployment, 1)
    deployment.close()


def walk(server: Server, act: Callable[[Deployment], None], *, fresh: bool) -> int:
    """Interrupt the act at each line in turn; how many there were."""
    at = 0
    with connect(server.url, KEY) as deployment:
        while True:
            at += 1
            there = connect(server.url, KEY) if fresh else deployment
            if interrupted(lambda there=there: act(there), at, DEPLOYMENTS) is None:  # type: ignore[misc]
                there.close()
                return at - 1
            if not fresh:
                assert say(there, at) == at  # its own answer, not that of the call interrupted
                assert say(there, -at) == -at
            there.close() if fresh else None
            check_open(0 if fresh else 1)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # between making one and running it
@pytest.mark.parametrize("act", [commit, read])
@pytest.mark.parametrize("fresh", [False, True], ids=["over a connection", "opening one"])
def test_a_call_interrupted_anywhere_leaves_the_deployment_whole(act: Callable[[Deployment], None], fresh: bool) -> None:
    check_open(0)
    with serve(answer) as server:
        assert walk(server, act, fresh=fresh) > 80
    check_open(0)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_closing_interrupted_anywhere_can_be_done_again() -> None:
    with serve(answer) as server:
        at = 0
        while True:
            at += 1
            deployment = connect(server.url, KEY)
            say(deployment, 1)
            if interrupted(deployment.close, at, DEPLOYMENTS) is None:
                break
            deployment.close()
            check_open(0)
            with pytest.raises(DeploymentError, match="closed"):
                say(deployment, 1)
        assert at > 10


class CancelledAt:
    """A coroutine whose task is cancelled where it suspends for the n-th time."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int, suspended: threading.Event) -> None:
        self._work = work
        self._suspended = suspended
        self._at = at
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        steps, suspended = self._work.__await__(), 0
        try:
            waited = next(steps)
            while True:
                suspended += 1
                self._suspended.set()
                if suspended == self._at:
                    self.reached = True
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                try:
                    got = yield waited
                except BaseException as error:
                    waited = steps.throw(error)
                else:
                    waited = steps.send(got)
        except StopIteration as stop:
            return stop.value


async def commit_async(deployment: Deployment) -> None:
    async with AsyncSession(deployment) as session:
        session.add(Task(text="x", owner_id="u"))
        await session.commit()


async def read_async(deployment: Deployment) -> None:
    await AsyncSession(deployment).all(Task.query().full_scan())


async def close_async(deployment: Deployment) -> None:
    await say_async(deployment, 1)
    await deployment.aclose()


@pytest.mark.parametrize("act", [commit_async, read_async, close_async])
@pytest.mark.parametrize("fresh", [False, True], ids=["over a connection", "opening one"])
async def test_a_call_cancelled_at_any_wait_leaves_the_deployment_whole(
    act: Callable[[Deployment], Coroutine[Any, Any, None]], fresh: bool
) -> None:
    async def run(work: CancelledAt) -> None:
        await work

    suspended = threading.Event()
    suspended.set()

    def answer_later(call: dict[str, Any]) -> Answer:
        assert suspended.wait(20)
        return answer(call)

    with serve(answer_later) as server:
        at, url = 0, server.url.replace("127.0.0.1", "localhost")  # a name is looked up, and may have several addresses
        while True:
            at += 1
            async with connect(url, KEY) as deployment:
                if not fresh:
                    assert await say_async(deployment, 0) == 0
                suspended.clear()
                work = CancelledAt(act(deployment), at, suspended)
                outcome = await asyncio.gather(asyncio.create_task(run(work)), return_exceptions=True)
                if not work.reached:
                    break
                suspended.set()
                assert isinstance(outcome[0], asyncio.CancelledError)
                assert await say_async(deployment, at) == at
                assert await say_async(deployment, -at) == -at
                check_open(1)
            check_open(0)
        assert at > 1
    check_open(0)
