"""Loops over claimed tasks: each task is one worker's, as long as that worker is heard of."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from convexorm import AsyncSession, Deployment, DeploymentError, InvalidRequestError, Session
from convexorm.faces import finish
from mastra_convex import AsyncConvexStore, ConvexStore, InvalidArgument
from mastra_convex.background_tasks import claims as claims_module
from mastra_convex.background_tasks import leases
from mastra_convex.background_tasks.leases import LEASES
from mastra_convex.entities import Document
from tests.conftest import KINDS, Host
from tests.mastra.support import at

PATIENCE = 60.0
LONG = timedelta(hours=1)
SHORT = timedelta(seconds=0.1)


@pytest.fixture(params=KINDS)
def deployment(request: pytest.FixtureRequest, open_deployment: Callable[[str], Deployment]) -> Deployment:
    """Every kind but the npm package's functions, which tell nobody of changes."""
    return open_deployment(request.param)


@pytest.fixture
def store(deployment: Deployment) -> ConvexStore:
    return ConvexStore(id="test", deployment=deployment)


def task(id: str, tool: str, seconds: float = 0, **attributes: Any) -> dict[str, Any]:
    told = {"tool_call_id": "c", "tool_name": tool, "agent_id": "a", "run_id": "r", "status": "pending"}
    return {"id": id, **told, "created_at": at(seconds), **attributes}


class Clock:
    """In the place of the module `time`."""

    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


def stored_leases(store: ConvexStore, tool: str) -> list[Any]:
    with Session(store.deployment) as session:
        found = session.all(Document.query().by_index("by_table", table=LEASES))
        return [one.record for one in found if one.record["tool"] == tool]


def test_tasks_are_claimed_the_oldest_first_and_finished(store: ConvexStore, unique: str) -> None:
    tasks = store.background_tasks
    for number in (2, 0, 1):
        tasks.create_task(task=task(f"{unique}{number}", unique, number))
    tasks.create_task(task=task(f"{unique}other", f"{unique}other"))
    done: list[str] = []
    with tasks.claim(tool_name=unique, lease=LONG) as claims:
        for one in claims:
            stored = tasks.get_task(task_id=one.id)
            assert stored is not None
            assert (stored.status, stored.started_at) == (one.status, one.started_at)
            assert one.status == "running"
            assert [lease["id"] for lease in stored_leases(store, unique)] == [one.id]
            assert tasks.update_task(task_id=one.id, update={"status": "completed", "result": {"n": len(done)}})
            assert stored_leases(store, unique) == []
            done.append(one.id)
            if len(done) == 3:
                claims.close()
    assert done == [f"{unique}{number}" for number in range(3)]
    assert [one.result for one in tasks.list_tasks(filter={"tool_name": unique}).tasks] == [{"n": n} for n in range(3)]
    other = tasks.get_task(task_id=f"{unique}other")
    assert other is not None
    assert other.status == "pending"
    tasks.delete_task(task_id=other.id)


async def test_a_loop_waits_for_what_is_yet_to_come(deployment: Deployment, unique: str) -> None:
    store = AsyncConvexStore(id="test", deployment=deployment)
    tasks = store.background_tasks
    waiting = asyncio.Event()
    found = []

    async def work() -> None:
        async with tasks.claim(tool_name=unique) as claims:
            waiting.set()
            async for one in claims:
                found.append(one.id)
                await tasks.update_task(task_id=one.id, update={"status": "failed", "error": {"message": "no"}})
                if len(found) == 2:
                    claims.close()

    working = asyncio.ensure_future(work())
    await waiting.wait()
    for number in range(2):
        await tasks.create_task(task=task(f"{unique}{number}", unique, number))
    await asyncio.wait_for(working, PATIENCE)
    assert sorted(found) == [f"{unique}0", f"{unique}1"]


def test_of_many_loops_one_gets_each_task(store: ConvexStore, unique: str) -> None:
    tasks, count = store.background_tasks, 40
    loops = [tasks.claim(tool_name=unique, lease=LONG) for _ in range(4)]
    done: list[str] = []

    def work(claims: Any) -> None:
        with claims:
            for one in claims:
                done.append(one.id)
                assert tasks.update_task(task_id=one.id, update={"status": "completed"})
                if len(done) == count:
                    for other in loops:
                        other.close()

    workers = [threading.Thread(target=work, args=(claims,)) for claims in loops]
    for worker in workers:
        worker.start()
    for number in range(count):
        tasks.create_task(task=task(f"{unique}{number:02}", unique, number))
    for worker in workers:
        worker.join(PATIENCE)
        assert not worker.is_alive()
    assert sorted(done) == [f"{unique}{number:02}" for number in range(count)]
    assert stored_leases(store, unique) == []


def test_a_claim_outlives_its_lease_while_the_body_runs(
    store: ConvexStore, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = store.background_tasks
    tasks.create_task(task=task(unique, unique))
    beats = threading.Semaphore(0)
    prolong = leases._prolong

    async def counted(*arguments: Any) -> int:
        beat = await prolong(*arguments)
        beats.release()
        return beat

    monkeypatch.setattr(leases, "_prolong", counted)
    with tasks.claim(tool_name=unique, lease=timedelta(seconds=0.3)) as claims:
        one = next(iter(claims))
        for _ in range(4):
            assert beats.acquire(timeout=PATIENCE)
        (lease,) = stored_leases(store, unique)
        assert (lease["id"], lease["beat"] >= 4) == (one.id, True)
        assert tasks.update_task(task_id=one.id, update={"status": "completed"})


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are as good as dead once they have claimed: nothing prolongs their leases."""
    monkeypatch.setattr(leases.Heart, "keep", lambda self, claim: None)


def test_a_task_of_a_worker_that_is_gone_is_claimed_again_and_the_late_one_is_refused(
    store: ConvexStore, unique: str, silent: None
) -> None:
    del silent
    first, second = store.background_tasks, ConvexStore(id="other", deployment=store.deployment).background_tasks
    first.create_task(task=task(unique, unique))
    dead = next(first.claim(tool_name=unique, lease=SHORT))
    again = next(second.claim(tool_name=unique, lease=LONG))
    assert again.id == dead.id
    assert dead.started_at is not None
    assert again.started_at is not None
    assert again.started_at > dead.started_at
    assert not first.update_task(task_id=unique, update={"status": "failed"}), "by the first store, which has lost it"
    assert second.update_task(task_id=unique, update={"status": "completed", "result": 1})
    assert not first.update_task(task_id=unique, update={"status": "failed"})
    stored = first.get_task(task_id=unique)
    assert stored is not None
    assert (stored.status, stored.result, stored.started_at) == ("completed", 1, again.started_at)
    assert stored_leases(store, unique) == []


def test_a_task_that_is_heard_of_is_not_taken_however_long_it_takes(
    store: ConvexStore, unique: str, silent: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del silent
    first, second = store.background_tasks, ConvexStore(id="other", deployment=store.deployment).background_tasks
    first.create_task(task=task(unique, unique))
    next(first.claim(tool_name=unique, lease=timedelta(seconds=10)))
    clock = Clock()
    monkeypatch.setattr(claims_module, "time", clock)
    core = second.claim(tool_name=unique, lease=LONG)._core
    with Session(store.deployment) as session:
        lease = session.get(Document, (LEASES, unique))
        assert lease is not None
        for beat in range(5):
            lease.record = {**lease.record, "beat": beat + 1}
            session.commit()
            assert finish(core._claimed()) is None
            clock.now += 9.9
            assert finish(core._claimed()) is None
            assert core._soonest() == pytest.approx(0.1)
            clock.now += 5 if beat < 4 else 0
    clock.now += 0.2
    seen, _ = core._seen[unique]
    with Session(store.deployment) as session:
        session.get_one(Document, (LEASES, unique)).record = {**seen, "beat": 99}
        session.commit()
    assert finish(core._take(unique, seen)) is None, "it was heard of since it was looked at"
    assert finish(core._claimed()) is None
    clock.now += 10.1
    taken = finish(core._claimed())
    assert taken is not None
    assert taken.id == unique
    core._heart.end()


def test_a_task_that_another_has_ended_is_left_alone(store: ConvexStore, unique: str, silent: None) -> None:
    del silent
    tasks, plain = store.background_tasks, ConvexStore(id="other", deployment=store.deployment).background_tasks
    tasks.create_task(task=task(unique, unique))
    next(tasks.claim(tool_name=unique, lease=SHORT))
    assert plain.update_task(task_id=unique, update={"status": "cancelled"}), "the contract lets anybody"
    plain.create_task(task=task(f"{unique}next", unique))
    found = next(plain.claim(tool_name=unique))
    assert found.id == f"{unique}next"
    plain.update_task(task_id=found.id, update={"status": "completed"})
    with plain.claim(tool_name=unique) as claims:
        closing = threading.Thread(target=_close_without_leases, args=(store, unique, claims))
        closing.start()
        assert list(claims) == []
        closing.join()
    stored = plain.get_task(task_id=unique)
    assert stored is not None
    assert stored.status == "cancelled"


def _close_without_leases(store: ConvexStore, tool: str, claims: Any) -> None:
    until = time.monotonic() + PATIENCE
    while stored_leases(store, tool) and time.monotonic() < until:
        time.sleep(0.01)
    claims.close()
    assert stored_leases(store, tool) == []


def _wait_for(store: ConvexStore, id: str, status: str) -> None:
    with store.background_tasks.watch_tasks(filter={"tool_name": id}) as live:
        for change in live:
            if [one.status for one in change.items] == [status]:
                return


def test_what_is_left_by_an_exception_is_pending_again(store: ConvexStore, unique: str) -> None:
    tasks = store.background_tasks
    tasks.create_task(task=task(unique, unique))

    def work() -> None:
        for _ in tasks.claim(tool_name=unique, lease=LONG):
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            work()
        gc.collect()
        _wait_for(store, unique, "pending")
        assert stored_leases(store, unique) == []


async def test_what_is_left_by_a_cancellation_is_pending_again(deployment: Deployment, unique: str) -> None:
    store = AsyncConvexStore(id="test", deployment=deployment)
    tasks = store.background_tasks
    await tasks.create_task(task=task(unique, unique))
    begun = asyncio.Event()

    async def work() -> None:
        async for _ in tasks.claim(tool_name=unique, lease=LONG):
            begun.set()
            await asyncio.Event().wait()

    working = asyncio.ensure_future(work())
    await begun.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    del working
    gc.collect()
    await asyncio.to_thread(_wait_for, ConvexStore(id="test", deployment=deployment), unique, "pending")


def test_a_claim_that_is_interrupted_in_its_commit_is_given_back(
    store: ConvexStore, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = store.background_tasks
    tasks.create_task(task=task(unique, unique))
    claims = tasks.claim(tool_name=unique, lease=LONG)
    transact = AsyncSession.transact

    async def interrupted(self: AsyncSession, fn: Any) -> Any:
        result = await transact(self, fn)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patched:
        patched.setattr(AsyncSession, "transact", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(claims)
        patched.setattr(AsyncSession, "transact", transact)
        _wait_for(store, unique, "pending")
    claims.close()
    assert stored_leases(store, unique) == []


def test_a_task_that_another_store_finishes_stays_finished(store: ConvexStore, unique: str) -> None:
    tasks, other = store.background_tasks, ConvexStore(id="other", deployment=store.deployment).background_tasks
    tasks.create_task(task=task(unique, unique))
    with tasks.claim(tool_name=unique) as claims:
        for one in claims:
            assert other.update_task(task_id=one.id, update={"status": "completed", "result": 5})
            claims.close()
    stored = tasks.get_task(task_id=unique)
    assert stored is not None
    assert (stored.status, stored.result) == ("completed", 5)
    assert stored_leases(store, unique) == []


def test_a_body_that_says_nothing_of_its_task_is_told_so(store: ConvexStore, unique: str) -> None:
    tasks = store.background_tasks
    tasks.create_task(task=task(unique, unique))
    with (
        tasks.claim(tool_name=unique) as claims,
        pytest.raises(InvalidRequestError, match=f"not finished task '{unique}'.*pending again"),
    ):
        for _ in claims:
            pass
    stored = tasks.get_task(task_id=unique)
    assert stored is not None
    assert stored.status == "pending"


@pytest.mark.parametrize("update", [{"status": "pending", "retry_count": 1}, {"status": "suspended"}])
def test_a_body_may_put_its_task_elsewhere(update: Any, unique: str) -> None:
    with ConvexStore(id="test", deployment_url="memory:") as store:
        tasks = store.background_tasks
        tasks.create_task(task=task(unique, unique))
        with tasks.claim() as claims:
            for one in claims:
                assert tasks.update_task(task_id=one.id, update={"timeout_ms": 5.0})
                with pytest.raises(InvalidArgument, match="started by its claim"):
                    tasks.update_task(task_id=one.id, update={"started_at": at(1)})
                assert tasks.update_task(task_id=one.id, update=update)
                claims.close()
        stored = tasks.get_task(task_id=unique)
        assert stored is not None
        assert {name: getattr(stored, name) for name in update} == update
        assert stored_leases(store, unique) == []


def test_a_loop_leaves_nothing_running(unique: str) -> None:
    before = set(threading.enumerate())
    with ConvexStore(id="test", deployment_url="memory:") as store:
        tasks = store.background_tasks
        for number in range(100):
            tasks.create_task(task=task(f"{unique}{number}", unique))
            with tasks.claim() as claims:
                for one in claims:
                    tasks.update_task(task_id=one.id, update={"status": "completed"})
                    claims.close()
    for thread in set(threading.enumerate()) - before:  # what has just been told to end
        thread.join(20)
        assert not thread.is_alive()


def test_a_deployment_that_is_closed_ends_its_loops(unique: str) -> None:
    store = ConvexStore(id="test", deployment_url="memory:")
    claims = store.background_tasks.claim(tool_name=unique)
    threading.Timer(0.1, store.close).start()
    assert list(claims) == []


def test_a_child_of_a_fork_does_not_go_on_with_its_parents_claims(tmp_path: Any, unique: str) -> None:
    with ConvexStore(id="test", deployment_url=f"sqlite:///{tmp_path / 'tasks.db'}") as store:
        tasks = store.background_tasks
        tasks.create_task(task=task(unique, unique))
        with tasks.claim(lease=LONG) as claims:
            one = next(claims)
            child = os.fork()
            if child == 0:
                try:
                    next(claims)
                except DeploymentError:
                    os._exit(7)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            assert tasks.update_task(task_id=one.id, update={"status": "completed"})


@pytest.mark.parametrize("lease", [0, 60, timedelta(0), timedelta(days=2), None, -SHORT])
def test_a_lease_is_a_time_that_can_be_kept(lease: Any) -> None:
    with ConvexStore(id="test", deployment_url="memory:") as store, pytest.raises(InvalidArgument) as refused:
        store.background_tasks.claim(lease=lease)
    assert refused.value.argument == "lease"


def test_the_npm_packages_functions_give_no_claims(foreign_host: Host, unique: str) -> None:
    with ConvexStore(id="test", deployment_url=foreign_host.url, admin_auth_token=foreign_host.key) as store:
        store.background_tasks.create_task(task=task(unique, unique))
        with pytest.raises(DeploymentError, match="no live queries"):
            next(store.background_tasks.claim())
        stored = store.background_tasks.get_task(task_id=unique)
        assert stored is not None
        assert stored.status == "pending"
