"""Watches: what they give, and when."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from convexorm import (
    AsyncSession,
    ConvexORMError,
    Deployment,
    DeploymentError,
    FullTableScanError,
    Functions,
    InvalidRequestError,
    Session,
    ValidationError,
    connect,
)
from convexorm.deployments import EmbeddedDeployment
from tests.live.conftest import PATIENCE, Runs, save, told
from tests.models import Note, Task


def text(task: Any) -> str:
    return str(task.text)


OF_ADA = Task.query().by_index("by_owner", owner_id="ada")


def test_the_first_state_counts_all_as_added(deployment: Deployment) -> None:
    save(deployment, Task(text="a", owner_id="ada"), Task(text="b", owner_id="ada"), Task(text="c", owner_id="bob"))
    with deployment.watch(OF_ADA) as live:
        change = live.next(timeout=PATIENCE)
        assert told(change, text) == {"items": ["a", "b"], "added": ["a", "b"], "changed": [], "removed": []}
        assert live.connected


def test_what_is_added_changed_and_removed_is_told(deployment: Deployment) -> None:
    save(deployment, *(Task(text=name, owner_id="ada") for name in "abc"))
    with deployment.watch(OF_ADA) as live, Session(deployment) as session:
        first = live.next(timeout=PATIENCE)
        a, b, _ = session.all(OF_ADA)
        a.text = "A"
        session.delete(b)
        session.add(Task(text="d", owner_id="ada"))
        session.commit()
        change = live.next(timeout=PATIENCE)
        assert told(change, text) == {"items": ["A", "c", "d"], "added": ["d"], "changed": ["A"], "removed": ["b"]}
        assert change.items[1] is first.items[2]
        assert change.items[0] is not first.items[0]
        assert text(first.items[0]) == "a"
        assert change.removed[0] is first.items[1]


@pytest.mark.parametrize("of", [lambda query: query, lambda query: query.count(), lambda query: query.select(Task.text)])
def test_a_commit_that_leaves_the_answer_equal_is_no_change(
    deployment: Deployment, of: Callable[[Any], Any], runs: Runs
) -> None:
    save(deployment, Task(text="a", owner_id="ada"))
    with deployment.watch(of(OF_ADA.where(Task.text < "x"))) as live, deployment.watch(OF_ADA) as other:
        live.next(timeout=PATIENCE)
        other.next(timeout=PATIENCE)
        runs.take()
        save(deployment, Task(text="y", owner_id="ada"))
        other.next(timeout=PATIENCE)
        # both were answered again; Convex says nothing of the one that is the same
        assert len(runs.take()) == (2 if isinstance(deployment, EmbeddedDeployment) else 1)
        with pytest.raises(TimeoutError):
            live.next(timeout=0)
        save(deployment, Task(text="b", owner_id="ada"))
        live.next(timeout=PATIENCE)


def test_several_are_answered_from_one_snapshot(deployment: Deployment) -> None:
    with deployment.watch(OF_ADA, Task.query().full_scan().count()) as live:
        assert len(live.next(timeout=PATIENCE)[0].items) == 0
        for number in range(20):
            save(deployment, Task(text=str(number), owner_id="ada"))
        seen = 0
        while seen < 20:
            change, count = live.next(timeout=PATIENCE)
            assert len(change.items) == count > seen
            seen = count


def test_a_query_beside_one_that_changes_has_nothing_new(deployment: Deployment) -> None:
    save(deployment, Task(text="a", owner_id="ada"))
    with deployment.watch(OF_ADA, Note.query().full_scan()) as live:
        live.next(timeout=PATIENCE)
        save(deployment, Note(id="n"))
        tasks, notes = live.next(timeout=PATIENCE)
        assert told(tasks, text) == {"items": ["a"], "added": [], "changed": [], "removed": []}
        assert [note.id for note in notes.added] == ["n"]


def test_values_are_given_for_what_has_no_instances(deployment: Deployment) -> None:
    save(deployment, Task(text="a", owner_id="ada", rank=1.0))
    asked = (
        OF_ADA.count(),
        OF_ADA.sum(Task.rank),
        OF_ADA.select(Task.text, Task.rank),
        OF_ADA.distinct(Task.text),
        OF_ADA.group_by(Task.done).count(),
    )
    with deployment.watch(*asked) as live, Session(deployment) as session:
        assert live.next(timeout=PATIENCE) == (1, 1.0, [("a", 1.0)], ["a"], [(False, 1)])
        session.one(OF_ADA).rank = 2.0
        session.commit()
        assert live.next(timeout=PATIENCE) == (1, 2.0, [("a", 2.0)], ["a"], [(False, 1)])


def test_instances_are_detached_and_a_session_takes_them_in(deployment: Deployment) -> None:
    save(deployment, Task(text="a", owner_id="ada"))
    with deployment.watch(OF_ADA) as live:
        (task,) = live.next(timeout=PATIENCE).items
        assert "detached" in repr(task)
        with Session(deployment) as session:
            mine = session.attach(task)
            mine.text = "b"
            session.commit()
        assert told(live.next(timeout=PATIENCE), text)["changed"] == ["b"]
        with Session(deployment) as session:
            merged = session.merge(live_item := session.one(OF_ADA))
            assert merged is live_item


def test_one_document_in_many_is_all_that_is_found_anew(deployment: Deployment, runs: Runs) -> None:
    save(deployment, *(Task(text=str(number), owner_id="ada") for number in range(500)))
    with deployment.watch(OF_ADA) as live, Session(deployment) as session:
        first = live.next(timeout=PATIENCE)
        task = session.first(OF_ADA.where(Task.text == "250"))
        assert task is not None
        task.text = "changed"
        runs.take()
        session.commit()
        change = live.next(timeout=PATIENCE)
        assert runs.take() == [1]
        assert sum(one is two for one, two in zip(first.items, change.items, strict=True)) == 499


async def test_both_faces_are_the_same(deployment: Deployment) -> None:
    async with deployment.watch(OF_ADA) as live, AsyncSession(deployment) as session:
        first = await live.next(timeout=PATIENCE)
        assert first.items == []
        session.add(Task(text="a", owner_id="ada"))
        await session.commit()
        async for change in live:
            assert told(change, text)["added"] == ["a"]
            live.close()
        with pytest.raises(InvalidRequestError, match="closed"):
            await live.next()


def test_the_last_state_reaches_a_slow_consumer(deployment: Deployment, runs: Runs) -> None:
    with deployment.watch(OF_ADA.count()) as live:
        for number in range(200):
            save(deployment, Task(text=str(number), owner_id="ada"))
        counts: list[int] = []
        while not counts or counts[-1] < 200:
            counts.append(live.next(timeout=PATIENCE))
        assert counts == sorted(set(counts))
        assert len(runs.take()) <= len(counts) + 2  # what nobody takes is not answered again and again


def test_closing_from_elsewhere_ends_the_iteration(deployment: Deployment) -> None:
    with deployment.watch(OF_ADA) as live:
        seen: list[int] = []
        there = threading.Event()

        def consume() -> None:
            for change in live:
                seen.append(len(change.items))
                there.set()

        consumer = threading.Thread(target=consume)
        consumer.start()
        assert there.wait(PATIENCE)
        live.close()
        consumer.join(PATIENCE)
        assert not consumer.is_alive()
        assert seen == [0]
        assert live.closed
        assert not live.connected


async def test_closing_ends_those_who_await(deployment: Deployment) -> None:
    async with deployment.watch(OF_ADA) as live:
        await live.next()
        waiting = asyncio.create_task(live.__anext__())
        await asyncio.sleep(0)
        threading.Thread(target=live.close).start()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(waiting, PATIENCE)


def test_closing_the_deployment_ends_its_watches(deployment: Deployment) -> None:
    with deployment.watch(OF_ADA) as live:
        live.next(timeout=PATIENCE)
        deployment.close()
        assert list(live) == []
    with pytest.raises(DeploymentError, match="closed"), deployment.watch(OF_ADA):
        pass


def test_a_consumer_that_raises_leaves_nothing_behind(deployment: Deployment) -> None:
    watch = deployment.watch(OF_ADA)

    def consume() -> None:
        with watch as live:
            for change in live:
                assert change.items, "nothing is there"

    with pytest.raises(AssertionError, match="nothing is there"):
        consume()
    with pytest.raises(InvalidRequestError, match="once"), watch:
        pass


def test_what_cannot_be_watched_is_refused_before_it_begins(deployment: Deployment) -> None:
    with pytest.raises(FullTableScanError):
        deployment.watch(Task.query())
    wrong: Any = (Task, "tasks", None)
    for one in wrong:
        with pytest.raises(InvalidRequestError):
            deployment.watch(one)
    with pytest.raises(InvalidRequestError, match="takes a query"):
        deployment.watch()
    with pytest.raises(InvalidRequestError, match="on_state"):
        deployment.watch(OF_ADA, on_state="x")  # type: ignore[call-overload]


@pytest.mark.parametrize("timeout", [-1, "1", float("nan"), True])
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    with (
        connect("memory:") as deployment,
        deployment.watch(OF_ADA) as live,
        pytest.raises(ValidationError, match="seconds"),
    ):
        live.next(timeout=timeout)


def test_functions_are_watched_where_they_run() -> None:
    with connect("memory:", functions={"tasks:list": lambda: 1}) as deployment:
        watch = Functions(deployment).watch("tasks:list", returns=int)
        with pytest.raises(InvalidRequestError, match="on Convex"), watch:
            pass


def test_a_second_thread_is_refused(deployment: Deployment) -> None:
    with deployment.watch(OF_ADA) as live:
        live.next(timeout=PATIENCE)
        refused: list[ConvexORMError] = []
        waiting = threading.Thread(target=lambda: list(live))
        waiting.start()

        def second() -> None:
            while not refused:
                try:
                    live.next(timeout=0)
                except ConvexORMError as error:
                    refused.append(error)
                except TimeoutError:
                    pass  # the first is not waiting yet

        other = threading.Thread(target=second)
        other.start()
        other.join(PATIENCE)
        live.close()
        waiting.join(PATIENCE)
        assert "watch is for one task or thread" in str(refused[0])
