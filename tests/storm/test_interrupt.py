"""Calls that are interrupted or cancelled at any point: the deployment stays whole, and works on for everybody else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from convexorm import AsyncSession, Deployment, DeploymentError, Session, connect
from tests.conftest import Host
from tests.models import Counter, Note
from tests.storm.conftest import Storm
from tests.storm.programs import run, tell

TRACED = ("/convexorm/", "/h11/", "/contextlib.py")
"""Whose lines a call may be interrupted at."""
PARTS = ("a", "b")


class Traced:
    """Counts the lines that a block goes through, and interrupts it at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.lines = 0
        self.place = ""
        self._at = at

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not any(part in frame.f_code.co_filename for part in TRACED):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self._at:
                sys.settrace(None)
                self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._trace

    def __enter__(self) -> Traced:
        sys.settrace(self._trace)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        sys.settrace(None)
        return kind is KeyboardInterrupt


class Broken(Exception):
    """The deployment is not what it should be."""


class Interrupter:
    """Works on a deployment, interrupts itself, and tells what is not as it should be."""

    def __init__(self, url: str, key: str | None, unique: str, chance: Random) -> None:
        self.place, self.unique, self.chance = (url, key), unique, chance
        self.deployment: Deployment = connect(*self.place)
        self.acknowledged: list[str] = []
        self.tried = 0
        self.commits_there = 0
        self.lines: dict[str, int] = {}
        self.where = ""

    # what is interrupted

    def commit(self, session: Session) -> None:
        self.tried += 1
        key = f"{self.unique}-{self.tried}"
        session.add_all(Note(id=f"{key}{part}", title=key) for part in PARTS)
        session.commit()
        self.acknowledged.append(key)

    def change(self, session: Session) -> None:
        if (note := session.get(Note, f"{self.unique}-changing")) is None:
            note = Note(id=f"{self.unique}-changing")
            session.add(note)
        note.body += "."
        session.commit()

    def transact(self, session: Session) -> None:
        session.transact(lambda session: session.upsert(Counter(name=f"{self.unique}-upserted", count=1)))

    def read(self, session: Session) -> None:
        session.get(Note, f"{self.unique}-1a")
        session.read(Note.query().by_index("by_title", title="x"), Counter.query().by_index("by_name", name="x").count())

    def stream(self, session: Session) -> None:
        mine = Note.query().by_index("by_note_id", Note.id.startswith(f"{self.unique}-1"))
        sum(1 for _ in session.stream(mine))
        session.page(mine, 1)

    def calls(self) -> list[Callable[[Session], None]]:
        return [self.commit, self.commit, self.change, self.transact, self.read, self.stream]

    # ways of interrupting

    def at_a_line(self, call: Callable[[Session], None]) -> None:
        name = call.__name__
        if name not in self.lines:
            with Session(self.deployment) as session, Traced() as counted:
                call(session)
            self.lines[name] = counted.lines
        with Traced(self.chance.randint(1, self.lines[name])) as traced, Session(self.deployment) as session:
            call(session)
        self.where = traced.place

    def by_a_signal(self, call: Callable[[Session], None]) -> None:
        seconds = self.chance.uniform(0, 0.01)

        def interrupt() -> None:
            time.sleep(seconds)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        try:
            thread.start()
            sent = False
            while not sent:  # unless it arrived where Python raises nothing, such as in a destructor
                sent = not thread.is_alive()
                with Session(self.deployment) as session:
                    call(session)
        except KeyboardInterrupt:
            thread.join()

    def by_cancelling(self, runner: asyncio.Runner) -> None:
        self.tried += 1
        key = f"{self.unique}-{self.tried}"

        async def call() -> None:
            async with AsyncSession(self.deployment) as session:
                if self.chance.random() < 0.3:
                    await session.count(Note.query().by_index("by_title", title=key))
                await session.add_all(Note(id=f"{key}{part}", title=key) for part in PARTS)
                await session.commit()
                self.acknowledged.append(key)

        async def cancelled() -> None:
            task = asyncio.create_task(call())
            for _ in range(int(self.chance.expovariate(1 / 100))):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        runner.run(cancelled())

    # what must hold

    def look(self, keys: list[str]) -> None:
        """Everything acknowledged is there, whole. Raises Broken."""
        ids = [f"{key}{part}" for key in keys for part in PARTS]
        with Session(self.deployment) as session:
            lost = [id for id, note in zip(ids, session.get_many(Note, ids), strict=True) if note is None]
        if lost:
            raise Broken(f"{len(lost)} of {len(ids)} documents are lost")

    def write(self, key: str) -> None:
        with Session(self.deployment) as session:
            session.add_all(Note(id=f"{key}{part}", title=key) for part in PARTS)
            session.commit()

    async def work_async(self, key: str) -> None:
        async with AsyncSession(self.deployment) as session:
            await session.add_all(Note(id=f"{key}{part}", title=key) for part in PARTS)
            await session.commit()
            if await session.count(Note.query().by_index("by_title", title=key)) != len(PARTS):
                raise Broken("a commit of the async face is not there")

    def check(self, threads: ThreadPoolExecutor, runner: asyncio.Runner) -> None:
        """The deployment has all it should have, for other threads and the async face too."""
        recent = self.acknowledged[:1] + self.acknowledged[-6:]
        self.tried += 2
        blocking, awaited = (f"{self.unique}-{self.tried - back}" for back in (1, 0))
        threads.submit(self.look, recent).result(30)
        threads.submit(self.write, blocking).result(30)
        runner.run(asyncio.wait_for(self.work_async(awaited), 30))
        self.look(recent)
        self.acknowledged += [blocking, awaited]

    def check_all(self) -> None:
        """Nothing that was acknowledged is missing, no commit is there in part; then all begins anew."""
        with Session(self.deployment) as session:
            mine = Note.query().by_index("by_note_id", Note.id.startswith(f"{self.unique}-"))
            ids = [note.id for note in session.all(mine) if note.title]
        there = {id[:-1] for id in ids}
        if len(ids) != len(set(ids)) or len(ids) != len(there) * len(PARTS):
            raise Broken("a commit is there in part, or twice")
        if lost := set(self.acknowledged) - there:
            raise Broken(f"{len(lost)} of {len(self.acknowledged)} commits are lost")
        self.commits_there += len(there)
        self.acknowledged = []
        with Session(self.deployment) as session:
            session.delete_all(mine)

    def close(self) -> None:
        """Close, interrupted: what is closed says so, what is not is whole; closing again closes."""
        if "close" not in self.lines:
            other = connect(*self.place)
            with Session(other) as session:
                session.get(Note, "x")
            with Traced() as counted:
                other.close()
            self.lines["close"] = counted.lines
        with Traced(self.chance.randint(1, self.lines["close"])) as traced:
            self.deployment.close()
        self.where = traced.place
        try:
            self.look(self.acknowledged[:3])
        except DeploymentError as error:
            if "closed" not in str(error):
                raise
        self.deployment.close()
        try:
            self.look(self.acknowledged[:1])
        except DeploymentError:
            pass
        else:
            raise Broken("a closed deployment answers")
        self.deployment = connect(*self.place)
        if self.place[0] == "memory:":
            self.acknowledged = []


def files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0


def interrupt(url: str, key: str | None, unique: str, seed: str, rounds: int) -> None:
    chance = Random(seed)
    worker = Interrupter(url, key, unique, chance)
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as threads:
        worker.check(threads, runner)
        opened = files()
        for round in range(rounds):
            worker.where = ""
            way, call = (
                chance.choice(["line", "line", "line", "signal", "signal", "cancel", "cancel", "close"]),
                chance.choice(worker.calls()),
            )
            try:
                if way == "line":
                    worker.at_a_line(call)
                elif way == "signal":
                    worker.by_a_signal(call)
                elif way == "cancel":
                    worker.by_cancelling(runner)
                else:
                    worker.check_all()
                    worker.check(threads, runner)
                    worker.close()
                worker.check(threads, runner)
            except Exception as error:
                what = f"{type(error).__name__}: {error}"[:300]
                tell(
                    "failed",
                    round,
                    way,
                    call.__name__,
                    worker.where,
                    what,
                    traceback.extract_tb(error.__traceback__)[-1].name,
                )
                os._exit(0)  # threads may hang
        worker.check_all()
        if files() > opened + 8:
            tell("failed", "files left open", opened, files())
        runner.run(worker.deployment.aclose())
    tell("done", worker.tried, worker.commits_there)


def used(url: str, key: str | None, unique: str, storm: Storm, rounds: int) -> None:
    *problems, done = run(interrupt, url, key, unique, str(storm.chance.random()), rounds)
    assert [one for one in (*problems, done) if one[0] != "done"] == []
    storm.report(interrupts=rounds, commits_tried=done[1], commits_there=done[2])


def test_interrupts_and_memory(storm: Storm, unique: str) -> None:
    used("memory:", None, unique, storm, 120 * storm.scale)


def test_interrupts_and_a_file(storm: Storm, tmp_path: Path, unique: str) -> None:
    used(f"sqlite:///{tmp_path / 'interrupted.db'}", None, unique, storm, 60 * storm.scale)


def test_interrupts_and_a_remote_deployment(storm: Storm, models_host: Host, unique: str) -> None:
    used(models_host.url, models_host.key, unique, storm, 30 * storm.scale)
