"""What operations cost on Convex: calls, documents read and bytes answered, counted by the local host, and their limits.

`python -m bench.costs` starts a host, runs every scenario and prints the table. The tests hold each scenario to its limits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench import queries
from bench.scenarios import Scenario, measure
from bench.tables import print_table
from convexorm import Model, Session
from mastra_convex import ConvexStore, ConvexVector, Message, Thread
from tests.conftest import ADMIN_KEY, Host, start_host, stop_host

__all__ = ["SCENARIOS"]

_START = datetime(2024, 5, 1, tzinfo=UTC)
_TEXT = "What was said here is about as long as what people say to an agent, and it is the same every time. " * 3
_BATCH = 500


# -- what there is -------------------------------------------------------------------------------------------------


def _messages(name: str, count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{name}-{number}",
            "thread_id": name,
            "resource_id": f"{name}-r",
            "role": "assistant" if number % 2 else "user",
            "type": "v2",
            "content": {"format": 2, "parts": [{"type": "text", "text": _TEXT}], "metadata": {"number": number}},
            "created_at": _START + timedelta(seconds=number),
        }
        for number in range(first, first + count)
    ]


def _thread(name: str, resource_id: str, number: int = 0) -> dict[str, Any]:
    moment = _START + timedelta(seconds=number)
    return {
        "id": name,
        "resource_id": resource_id,
        "title": "A conversation about plants",
        "metadata": {"topic": "plants", "text": _TEXT},
        "created_at": moment,
        "updated_at": moment,
    }


def _thread_of(count: int, threads: int = 1) -> Callable[[ConvexStore, str], None]:
    """A setup of threads with so many messages each; the first one has the scenario's name."""

    def setup(store: ConvexStore, name: str) -> None:
        with Session(store.deployment) as session:
            for number in range(threads):
                thread = f"{name}{number or ''}"
                session.add(Thread(**_thread(thread, f"{name}-r")), unique=False, returning=False)
                for first in range(0, count, _BATCH):
                    batch = _messages(thread, min(_BATCH, count - first), first)
                    session.add_all((Message(**one) for one in batch), unique=False, returning=False)
                    session.commit()
                    session.expunge_all()

    return setup


def _threads_of_a_resource(count: int) -> Callable[[ConvexStore, str], None]:
    def setup(store: ConvexStore, name: str) -> None:
        with Session(store.deployment) as session:
            threads = (Thread(**_thread(f"{name}-{number}", f"{name}-r", number)) for number in range(count))
            session.add_all(threads, unique=False, returning=False)
            session.commit()

    return setup


# -- what is done --------------------------------------------------------------------------------------------------


def _last_page(total: bool, threads: int = 1) -> Callable[[ConvexStore, str], Sequence[Model]]:
    def run(store: ConvexStore, name: str) -> Sequence[Model]:
        return store.memory.list_messages(
            thread_id=[f"{name}{number or ''}" for number in range(threads)],
            per_page=20,
            order_by={"direction": "DESC"},
            include_total=total,
        ).messages

    return run


def _save(store: ConvexStore, name: str) -> Sequence[Model]:
    store.memory.save_messages(messages=_messages(name, 100))
    return ()


def _save_changed(store: ConvexStore, name: str) -> Sequence[Model]:
    store.memory.save_messages(messages=[{**one, "role": "system"} for one in _messages(name, 100)])
    return ()


def _update(store: ConvexStore, name: str) -> Sequence[Model]:
    updates = [{"id": f"{name}-{number}", "content": {"metadata": {"seen": True}}} for number in range(20)]
    store.memory.update_messages(messages=updates)
    return ()


def _include(store: ConvexStore, name: str) -> Sequence[Model]:
    return store.memory.list_messages(
        thread_id=name,
        per_page=0,
        include=[{"id": f"{name}-500", "with_previous_messages": 2, "with_next_messages": 2}],
    ).messages


def _list_threads(store: ConvexStore, name: str) -> Sequence[Model]:
    filter_: Any = {"resource_id": f"{name}-r"}
    return store.memory.list_threads(filter=filter_, per_page=10, include_total=False).threads


def _get_thread(store: ConvexStore, name: str) -> Sequence[Model]:
    thread = store.memory.get_thread_by_id(thread_id=name)
    return () if thread is None else (thread,)


def _delete_thread(store: ConvexStore, name: str) -> Sequence[Model]:
    store.memory.delete_thread(thread_id=name)
    return ()


_searched: dict[str, ConvexVector] = {}
"""Vector stores that keep what they have read, by the name of what they were set up for."""


def _vectors(count: int) -> Callable[[ConvexStore, str], None]:
    """An index that was searched, and changed since."""

    def setup(store: ConvexStore, name: str) -> None:
        vectors = _searched[name] = ConvexVector(id="costs", deployment=store.deployment)
        vectors.create_index(index_name=name, dimension=3)
        rows = [[1.0, number / 512, 0.5] for number in range(count)]
        vectors.upsert(index_name=name, vectors=rows, ids=[str(number) for number in range(count)])
        _query(store, name)
        vectors.upsert(index_name=name, vectors=[[0.5, 0.25, 0.5]], ids=["7"])

    return setup


def _query(store: ConvexStore, name: str) -> Sequence[Model]:
    _searched[name].query(index_name=name, query_vector=[1.0, 0.0, 0.0])
    return ()


def _read_five(store: ConvexStore, name: str) -> Sequence[Model]:
    threads = Thread.query().by_index("by_resource", resource_id=f"{name}-r")
    messages = Message.query().by_index("by_thread_created", thread_id=name)
    with Session(store.deployment) as session:
        lists = session.read(
            threads.limit(1), messages.limit(1), messages.order("desc").limit(1), messages.limit(3), messages.count()
        )
    return [entity for one in lists if isinstance(one, list) for entity in one]


SCENARIOS = (
    *(
        Scenario(
            f"list_messages, last 20 of {count:,}, without total",
            *(_thread_of(count), _last_page(total=False)),
            calls=1,
            documents=21,
            times_the_page=1.3,
        )
        for count in (10, 1_000, 5_000)
    ),
    Scenario(
        "list_messages, last 20 of 1,000, with total",
        *(_thread_of(1_000), _last_page(total=True)),
        calls=1,
        documents=1_021,
        times_the_page=1.3,
    ),
    Scenario(
        "list_messages, last 20 of 3 threads of 300, without total",
        *(_thread_of(300, threads=3), _last_page(total=False, threads=3)),
        calls=1,
        documents=63,
    ),
    Scenario("save_messages, 100 new", _thread_of(10), _save, calls=1, documents=102, answered=8_192),
    Scenario("save_messages, 100 stored alike", _thread_of(100), _save, calls=1, documents=102, answered=8_192),
    Scenario(  # Convex reads a document that is replaced twice: to find it, and to write it
        "save_messages, 100 stored otherwise", _thread_of(100), _save_changed, calls=1, documents=202, answered=8_192
    ),
    Scenario("update_messages, 20", _thread_of(100), _update, calls=2, documents=62),
    Scenario("include of one with 2 before and 2 after, of 1,000", _thread_of(1_000), _include, calls=2, documents=8),
    Scenario(
        "list_threads, 10 of a resource's 100, without total",
        *(_threads_of_a_resource(100), _list_threads),
        calls=1,
        documents=11,
        times_the_page=1.3,
    ),
    Scenario("get_thread_by_id", _thread_of(100), _get_thread, calls=1, documents=1),
    Scenario("delete_thread with 3,000 messages", _thread_of(3_000), _delete_thread, calls=4, answered=4_096),
    Scenario("query of 500 vectors after an upsert", _vectors(500), _query, calls=3, documents=10, answered=4_096),
    Scenario("session.read of 5", _thread_of(100), _read_five, calls=1),
    *queries.SCENARIOS,
)


def _limit(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:,}{unit}"


def main() -> int:
    hosts: dict[Path, tuple[Any, str]] = {}
    over: list[str] = []
    rows: list[list[str]] = []
    try:
        for number, scenario in enumerate(SCENARIOS):
            if scenario.functions not in hosts:
                hosts[scenario.functions] = start_host(scenario.functions)
            cost = measure(scenario, Host(hosts[scenario.functions][1], ADMIN_KEY), f"scenario-{number}")
            over += [f"{scenario.name}: {problem}" for problem in cost.over(scenario)]
            times = f"{cost.answered / cost.page:.2f}" if cost.page else ""
            most = _limit(scenario.times_the_page, " x") or _limit(scenario.answered)
            counts = [
                (cost.calls, _limit(scenario.calls)),
                (cost.documents, _limit(scenario.documents)),
                (cost.answered, most),
            ]
            cells = (cell for count, limit in counts for cell in (f"{count:,}", limit))
            rows.append([scenario.name, *cells, times, f"{cost.user_time:.0f}", str(cost.conflicts)])
    finally:
        for process, _ in hosts.values():
            stop_host(process)
    heads = [
        "operation",
        "calls",
        "at most",
        "documents read",
        "at most",
        "bytes answered",
        "at most",
        "x the page",
        "user ms",
        "conflicts",
    ]
    print_table("What operations cost on Convex, counted by the local host", heads, rows)
    for problem in over:
        print(f"over its limit: {problem}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
