"""Whatever ends a watch leaves nothing behind, and nothing runs before there is one."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from convexorm import Deployment, DeploymentError, InvalidRequestError, connect
from tests.interrupting import PACKAGE, walk
from tests.live.conftest import PATIENCE, save
from tests.models import Task

OF_ADA = Task.query().by_index("by_owner", owner_id="ada")
LIVE = (
    PACKAGE / "live",
    PACKAGE / "guards.py",
    PACKAGE / "deployments" / "remote" / "live",
    PACKAGE / "deployments" / "embedded" / "watches.py",
)


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "convexorm watches"]


def all_ended() -> bool:
    for thread in watching():
        thread.join(PATIENCE)
    return not watching()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def test_nothing_runs_before_the_first_watch_and_after_the_last(deployment: Deployment) -> None:
    assert all_ended()  # of those before
    watch = deployment.watch(OF_ADA)
    assert not watching()
    with watch as live, deployment.watch(OF_ADA) as second:
        live.next(timeout=PATIENCE)
        second.next(timeout=PATIENCE)
        assert len(watching()) == 1
    assert all_ended()


@pytest.mark.parametrize("url", ["memory:", "sqlite:///{}/a.db"])
def test_five_hundred_watches_leave_no_threads_and_no_descriptors(url: str, tmp_path: Path) -> None:
    gc.collect()  # what earlier tests have left
    before = descriptors()
    with connect(url.format(tmp_path)) as deployment:
        for number in range(500):
            with deployment.watch(OF_ADA) as live:
                if number % 2:
                    live.next(timeout=PATIENCE)
        assert all_ended()
    assert descriptors() <= before


async def test_five_hundred_awaited_watches_leave_no_tasks() -> None:
    with connect("memory:") as deployment:
        for number in range(500):
            async with deployment.watch(OF_ADA) as live:
                waiting = asyncio.create_task(live.next())
                if number % 2:
                    await waiting
                else:
                    waiting.cancel()
                    await asyncio.wait([waiting])
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert all_ended()


async def test_what_was_not_given_to_a_cancelled_task_is_given_to_the_next(deployment: Deployment) -> None:
    async with deployment.watch(OF_ADA.count()) as live:
        assert await live.next() == 0
        for number in range(1, 20):
            waiting = asyncio.create_task(live.next())
            await asyncio.sleep(0)
            save(deployment, Task(text="x", owner_id="ada"))
            waiting.cancel()
            await asyncio.wait([waiting])
            if waiting.cancelled():
                assert await live.next(timeout=PATIENCE) == number
            else:
                assert waiting.result() == number


def test_a_watch_stays_on_its_event_loop(deployment: Deployment) -> None:
    async def enter() -> Any:
        live = await deployment.watch(OF_ADA).__aenter__()
        await live.next(timeout=PATIENCE)
        return live

    async def go_on(live: Any) -> None:
        await live.next(timeout=PATIENCE)

    live = asyncio.run(enter())
    with pytest.raises(InvalidRequestError, match="event loop"):
        asyncio.run(go_on(live))
    live.close()
    assert all_ended()


def test_an_interrupt_at_any_line_of_a_watch_leaves_the_deployment_whole(deployment: Deployment) -> None:
    save(deployment, Task(text="x", owner_id="ada"))

    def use() -> None:
        with deployment.watch(OF_ADA) as live:
            live.next(timeout=PATIENCE)

    for error in walk(use, *LIVE):
        assert isinstance(error, KeyboardInterrupt)
        with deployment.watch(OF_ADA.count()) as live:
            assert live.next(timeout=PATIENCE) == 1
    del error, live  # which keeps the frames that it has passed
    assert all_ended()


def test_an_interrupt_at_any_line_of_a_step_leaves_the_watch_whole(deployment: Deployment) -> None:
    with deployment.watch(OF_ADA.count()) as live:
        live.next(timeout=PATIENCE)
        count = 0

        def step() -> None:
            live.next(timeout=PATIENCE)

        save(deployment, Task(text="x", owner_id="ada"))
        for _ in walk(step, *LIVE):
            count += 1
            save(deployment, Task(text="x", owner_id="ada"))
            seen = 0
            while seen < count + 1:
                seen = live.next(timeout=PATIENCE)
            save(deployment, Task(text="x", owner_id="ada"))
            count += 1
        assert count


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs signals")
def test_a_signal_ends_who_waits_and_the_watch_goes_on(deployment: Deployment) -> None:
    def handler(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with deployment.watch(OF_ADA.count()) as live:
            live.next(timeout=PATIENCE)
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(KeyboardInterrupt):
                live.next(timeout=PATIENCE)
            save(deployment, Task(text="x", owner_id="ada"))
            assert live.next(timeout=PATIENCE) == 1
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_handler_may_close_what_it_interrupts(deployment: Deployment) -> None:
    with deployment.watch(OF_ADA) as live:
        before = signal.signal(signal.SIGALRM, lambda *_: live.close())
        try:
            seen = live.next(timeout=PATIENCE)
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            assert [seen.items, *live] == [[]]
        finally:
            signal.signal(signal.SIGALRM, before)


def test_an_error_of_one_query_ends_its_watch_and_no_other(embedded: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    from convexorm.deployments.embedded.engine import Engine

    observe: Callable[..., Any] = Engine.observe

    def failing(self: Engine, reads: Any, known: Any) -> Any:
        if reads[0].count:
            raise DeploymentError("the disk is gone")
        return observe(self, reads, known)

    with embedded.watch(OF_ADA) as live, embedded.watch(OF_ADA.count()) as counted:
        live.next(timeout=PATIENCE)
        counted.next(timeout=PATIENCE)
        monkeypatch.setattr(Engine, "observe", failing)
        save(embedded, Task(text="x", owner_id="ada"))
        assert len(live.next(timeout=PATIENCE).items) == 1
        for _ in range(2):
            with pytest.raises(DeploymentError, match="disk"):
                counted.next(timeout=PATIENCE)
        assert live.connected
        assert not counted.connected
