"""A deployment used before fork(): a child has connections of its own, and its parent's are left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from tests.remote.calling import echo
from tests.servers import Answer, Server, serve

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

BEGIN = """
import asyncio, os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from convexorm import connect
from convexorm.deployments.remote import connections
from tests.remote.calling import say, say_async

deployment = connect(sys.argv[1], "key", timeout=20)

def child(act):
    # Run in a child, whose process ends with it; its pid.
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return pid

def wait(*pids):
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0, "a child failed"

def calls():
    # Each with an answer of its own, on both faces.
    for n in range(5):
        assert say(deployment, [os.getpid(), n]) == [os.getpid(), n]
    async def many():
        said = [[os.getpid(), n] for n in range(5)]
        assert await asyncio.gather(*(say_async(deployment, one) for one in said)) == said
    asyncio.run(many())
"""

CHILDREN = """
calls()
def use_and_close():
    calls()
    deployment.close()
for _ in range(2):
    pids = [child(use_and_close) for _ in range(4)]
    calls()
    wait(*pids)
    calls()
assert connections._process in deployment._connections._processes and len(deployment._connections._processes) == 1
"""

BESIDE_CALLS = """
with ThreadPoolExecutor(8) as pool:
    stalled = [pool.submit(say, deployment, "stall") for _ in range(8)]
    while len(deployment._connections._mine().threads._open) < 8:
        time.sleep(0.001)
    pids = [child(calls) for _ in range(4)]
    forked = []
    thread = threading.Thread(target=lambda: forked.append(child(calls)))
    thread.start()
    thread.join()
    wait(*pids, *forked)
    assert say(deployment, "go on") == "go on"
    assert [one.result() for one in stalled] == ["stall"] * 8
calls()
"""

IN_A_LOOP = """
async def main():
    assert await say_async(deployment, 1) == 1
    stalled = [asyncio.create_task(say_async(deployment, "stall")) for _ in range(4)]
    while len(next(iter(deployment._connections._mine()._loops.values())).pool._open) < 4:
        await asyncio.sleep(0.001)
    pids = [child(calls) for _ in range(3)]
    await asyncio.to_thread(wait, *pids)
    assert await say_async(deployment, "go on") == "go on"
    assert await asyncio.gather(*stalled) == ["stall"] * 4
asyncio.run(main())
"""

GRANDCHILDREN = """
def family():
    calls()
    wait(child(calls), child(calls))
    calls()
say(deployment, 1)
wait(child(family), child(family))
calls()
"""

UNUSED_CONNECTIONS_STAY = """
say(deployment, "parent")
wait(child(lambda: say(deployment, "child")), child(deployment.close))
say(deployment, "parent")
"""


def run(program: str) -> Server:
    """Run a program in a process of its own, whose calls a server here answers."""
    go_on = threading.Event()

    def answer(call: dict[str, Any]) -> Answer:
        if call["args"]["value"] == "go on":
            go_on.set()
        elif call["args"]["value"] == "stall":
            assert go_on.wait(30)
        return echo(call)

    with serve(answer) as server:
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-c", BEGIN + program, server.url],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        go_on.set()
    assert done.returncode == 0, done.stderr
    assert "ResourceWarning" not in done.stderr
    return server


@pytest.mark.parametrize(
    "program", [CHILDREN, BESIDE_CALLS, IN_A_LOOP, GRANDCHILDREN], ids=["children", "calls", "loop", "kin"]
)
def test_each_process_gets_its_own_answers(program: str) -> None:
    run(program)


def test_a_connection_belongs_to_one_process_and_outlives_what_children_do() -> None:
    server = run(UNUSED_CONNECTIONS_STAY)
    said = [b'"child"' in body for body in server.bodies]
    assert said == [False, True, False]
    assert server.peers[0] == server.peers[2] != server.peers[1]
