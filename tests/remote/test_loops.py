"""Event loops come and go over one deployment: nothing of a loop stays open, and closing ends everything."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import ref

import pytest

from convexorm import Deployment, DeploymentError, connect
from tests.remote.calling import KEY, check_open, echo, say, say_async
from tests.servers import Answer, serve


async def many(deployment: Deployment) -> list[Any]:
    return await asyncio.gather(*(say_async(deployment, n) for n in range(8)))


def test_nothing_of_a_loop_stays_open_after_it() -> None:
    with serve(echo) as server, connect(server.url, KEY) as deployment:
        for _ in range(5):
            assert asyncio.run(many(deployment)) == list(range(8))
            check_open(0)
        assert say(deployment, "x") == "x"
        assert asyncio.run(many(deployment)) == list(range(8))
        check_open(1)  # that of the blocking face
    check_open(0)


async def test_a_loop_keeps_its_connections_between_calls() -> None:
    with serve(echo) as server:
        async with connect(server.url, KEY) as deployment:
            for n in range(5):
                assert await say_async(deployment, n) == n
            assert len(set(server.peers)) == 1
            await many(deployment)
            await many(deployment)
            assert len(set(server.peers)) <= 8


def test_a_loop_closed_without_its_generators_is_forgotten() -> None:
    with serve(echo) as server, connect(server.url, KEY) as deployment:
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(many(deployment)) == list(range(8))
        loop.close()
        assert asyncio.run(say_async(deployment, 1)) == 1  # whoever comes next clears up
        check_open(0)
        other = asyncio.new_event_loop()
        other.run_until_complete(many(deployment))
        other.close()
        gone = ref(other)
        del other
        gc.collect()
        assert gone() is None
        check_open(0)


def test_a_call_after_its_loop_shut_its_generators_down_is_answered() -> None:
    with serve(echo) as server, connect(server.url, KEY) as deployment:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(say_async(deployment, 1))
        loop.run_until_complete(loop.shutdown_asyncgens())
        check_open(0)
        assert loop.run_until_complete(many(deployment)) == list(range(8))
        check_open(0)
        loop.close()


def test_an_asynchronous_generator_may_call_while_its_loop_ends() -> None:
    said: list[Any] = []

    async def numbers(deployment: Deployment) -> Any:
        try:
            yield await say_async(deployment, 1)
        finally:
            said.append(await say_async(deployment, 2))

    async def run(deployment: Deployment) -> None:
        kept.append(numbers(deployment))
        await anext(kept[0])

    kept: list[Any] = []
    with serve(echo) as server, connect(server.url, KEY) as deployment:
        asyncio.run(run(deployment))
        assert said == [2]
        check_open(0)


def close(deployment: Deployment) -> None:
    deployment.close()


def close_beside(deployment: Deployment) -> None:
    thread = threading.Thread(target=deployment.close)
    thread.start()
    thread.join()


def aclose(deployment: Deployment) -> None:
    asyncio.run(deployment.aclose())


@pytest.mark.parametrize("end", [close, close_beside, aclose])
def test_closing_ends_what_loops_have_that_pause_or_are_closed(end: Callable[[Deployment], None]) -> None:
    with serve(echo) as server:
        deployment = connect(server.url, KEY)
        closed, pausing = asyncio.new_event_loop(), asyncio.new_event_loop()
        for loop in (closed, pausing):
            loop.run_until_complete(many(deployment))
        closed.close()
        say(deployment, 1)
        end(deployment)
        check_open(0)
        with pytest.raises(DeploymentError, match="the deployment is closed"):
            pausing.run_until_complete(say_async(deployment, 1))
        pausing.run_until_complete(pausing.shutdown_asyncgens())
        pausing.close()


def test_closing_ends_calls_under_way_on_both_faces() -> None:
    arrived, over = threading.Semaphore(0), threading.Event()

    def stall(call: dict[str, Any]) -> Answer:
        arrived.release()
        over.wait(20)
        return echo(call)

    problems: list[str] = []

    def call(deployment: Deployment, how: Callable[[Deployment], Any]) -> None:
        try:
            how(deployment)
        except DeploymentError as error:
            problems.append(str(error))

    with serve(stall) as server:
        deployment = connect(server.url, KEY)
        ways: list[Callable[[Deployment], Any]] = [lambda to: say(to, 1), lambda to: asyncio.run(say_async(to, 1))]
        threads = [threading.Thread(target=call, args=(deployment, how)) for how in ways]
        for thread in threads:
            thread.start()
        assert all(arrived.acquire(timeout=20) for _ in ways)
        deployment.close()
        for thread in threads:
            thread.join(20)
        assert problems == ["the deployment is closed"] * 2
        check_open(0)
        over.set()


def test_loops_on_several_threads_share_a_deployment() -> None:
    def run(number: int) -> list[Any]:
        async def calls() -> list[Any]:
            return [await say_async(deployment, [number, n]) for n in range(10)]

        return [asyncio.run(calls()) for _ in range(3)]

    with serve(echo) as server, connect(server.url, KEY) as deployment, ThreadPoolExecutor(6) as threads:
        for number, said in enumerate(threads.map(run, range(6))):
            assert said == [[[number, n] for n in range(10)]] * 3
        check_open(0)


FORGETFUL = """
import asyncio, logging, sys
from convexorm import connect
from tests.remote.calling import say, say_async

logging.getLogger("asyncio").setLevel(logging.ERROR)  # a machine that is slow is no fault
deployment = connect(sys.argv[1], "key")
assert say(deployment, 1) == 1
assert asyncio.run(say_async(deployment, 2), debug=True) == 2
loop = asyncio.new_event_loop()
assert loop.run_until_complete(say_async(deployment, 3)) == 3
loop.close()
"""


def test_a_deployment_that_is_never_closed_gives_no_warning() -> None:
    with serve(echo) as server:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", FORGETFUL, server.url], capture_output=True, text=True
        )
    assert (done.returncode, done.stderr) == (0, "")
