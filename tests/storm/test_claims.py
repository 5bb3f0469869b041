"""Workers that claim tasks, in processes that are killed at it and begun again: each task is done, none twice at once."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from convexorm import ConvexORMError
from mastra_convex import BackgroundTask, ConvexStore
from tests.conftest import Host
from tests.storm.conftest import Storm

PROCESSES, LOOPS, SECONDS = 4, 2, 3
LEASE = timedelta(seconds=SECONDS)
"""Short enough to wait for, and long for a machine with other things to do."""
DEADLY = 0.03
"""Of the tasks, how many kill their worker, at each of three places."""


def work(url: str, key: str | None, folder: Path, told: Connection, seed: str, deaths: int) -> None:
    """Claim tasks in two threads, and be killed at some. Who works at a task holds a file of its name, with his process."""
    chance = random.Random(seed)
    telling = threading.Lock()

    def tell(what: str, id: str) -> None:
        with telling:
            told.send((what, id))

    def perhaps_die() -> None:
        if deaths > 0 and chance.random() < DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)

    def loop(store: ConvexStore) -> None:
        for task in store.background_tasks.claim(lease=LEASE):
            mark = folder / task.id
            perhaps_die()
            try:
                with mark.open("x") as file:
                    file.write(str(os.getpid()))
            except FileExistsError:
                owner = int(mark.read_text() or 0)
                if owner == os.getpid() or (owner and _is_alive(owner)):
                    tell("twice", task.id)
                mark.write_text(str(os.getpid()))
            perhaps_die()
            mark.unlink()
            if store.background_tasks.update_task(task_id=task.id, update={"status": "completed"}):
                perhaps_die()
                tell("done", task.id)

    def told_of(store: ConvexStore) -> None:
        try:
            loop(store)
        except ConvexORMError as error:
            tell("failed", repr(error))
        else:
            tell("failed", "the loop has ended")

    with ConvexStore(id="storm", deployment_url=url, admin_auth_token=key) as store:
        loops = [threading.Thread(target=told_of, args=(store,)) for _ in range(LOOPS)]
        for one in loops:
            one.start()
        for one in loops:
            one.join()


def _is_alive(process: int) -> bool:
    """Whether it runs, and is not waiting to be buried."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def _end_when(over: threading.Event, process: BaseProcess) -> None:
    while not over.wait(0.05):
        if not process.is_alive():
            return
    process.kill()


@pytest.fixture(params=["file", "host"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str | None]]:
    if request.param == "file":
        yield f"sqlite:///{tmp_path / 'storm.db'}", None
    else:
        host: Host = request.getfixturevalue("fresh_host")
        yield host.url, host.key


def test_claims(storm: Storm, place: tuple[str, str | None], tmp_path: Path) -> None:
    count, deaths = 100 * storm.scale, 4 * storm.scale
    context = multiprocessing.get_context("spawn")
    marks = tmp_path / "marks"
    marks.mkdir()
    told: list[tuple[str, str]] = []
    left, ended = [deaths], Counter[int]()
    over = threading.Event()

    def keep_working(number: int) -> None:
        """One process after the other, until all is over; each is begun when the last has been killed."""
        life = 0
        while not over.is_set():
            mine, theirs = context.Pipe(duplex=False)
            arguments = (*place, marks, theirs, f"{storm.seed} {number} {life}", left[0])
            process = context.Process(target=work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            ending = threading.Thread(target=_end_when, args=(over, process))
            ending.start()
            with suppress(EOFError, OSError):  # at the end of the process
                while True:
                    told.append(mine.recv())
            process.join()
            ended[process.exitcode or 0] += 1
            life, left[0] = life + 1, left[0] - 1
            ending.join()
            mine.close()

    names = dict.fromkeys(("tool_call_id", "tool_name", "agent_id", "run_id"), "n")
    with ConvexStore(id="storm", deployment_url=place[0], admin_auth_token=place[1]) as store:
        for number in range(count):
            store.background_tasks.create_task(task={"id": f"t{number}", "status": "pending", **names})
        keepers = [threading.Thread(target=keep_working, args=(number,)) for number in range(PROCESSES)]
        for keeper in keepers:
            keeper.start()
        completed: list[BackgroundTask] = []
        with store.background_tasks.watch_tasks(filter={"status": "completed"}) as live:
            while len(completed) < count:
                completed = live.next(timeout=120).items
        over.set()
        for keeper in keepers:
            keeper.join()
    assert [one for one in told if one[0] != "done"] == []
    done = [id for _, id in told]
    assert len(done) == len(set(done)), "a task is finished twice"
    assert set(done) <= {task.id for task in completed}
    assert set(ended) == {-signal.SIGKILL}
    killed = ended[-signal.SIGKILL] - PROCESSES
    assert killed >= deaths / 2
    assert count - len(done) <= killed + PROCESSES * LOOPS, "more than had no time to tell"
    storm.report(tasks=count, processes_killed=killed, told=len(done))
