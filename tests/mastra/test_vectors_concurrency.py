"""Vectors that are searched while others write: what a query finds was there at one moment, and nothing written is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from convexorm import AsyncSession, Deployment
from convexorm.deployments import EmbeddedDeployment
from convexorm.nearest import best_of
from mastra_convex import AsyncConvexVector, ConvexVector, IndexNotFound, QueryResult
from tests.mastra.support import at_once
from tests.processes import run_processes

SIZE, DIMENSION = 20, 6
IDS = [f"v{number}" for number in range(SIZE)]
READS = {"embedded": 40, "served": 6}
"""How often each reader reads at least while one writes."""
WRITES = 2_000
"""How often is written at most."""
QUERY = np.arange(1.0, DIMENSION + 1)


def rows_of(generation: int, precision: Any = np.float64) -> Any:
    return np.random.default_rng(generation).standard_normal((SIZE, DIMENSION)).astype(precision)


def cosine(row: Any) -> float:
    return float(row @ QUERY / (np.linalg.norm(row) * np.linalg.norm(QUERY)))


def filled(deployment: Deployment, name: str, precision: Any = np.float64) -> ConvexVector:
    store = ConvexVector(id="writer", deployment=deployment)
    store.create_index(index_name=name, dimension=DIMENSION)
    write(store, name, 0, precision)
    return store


def write(store: ConvexVector, name: str, generation: int, precision: Any = np.float64) -> None:
    """All vectors at once, in one commit."""
    metadata = [{"generation": generation} for _ in IDS]
    store.upsert(index_name=name, vectors=rows_of(generation, precision), ids=IDS, metadata=metadata)


def check(results: list[QueryResult], precision: Any) -> int:
    """Everything found is of one generation, whole, and scored by its own vector; answers which one."""
    (generation,) = {one.metadata["generation"] for one in results if one.metadata is not None}
    assert {one.id for one in results} in (set(IDS), set(IDS) - {"v0"})
    rows = rows_of(generation, precision).astype(np.float64)
    for one in results:
        assert one.score == pytest.approx(cosine(rows[IDS.index(one.id)]), abs=1e-6)
    assert [one.score for one in results] == sorted((one.score for one in results), reverse=True)
    return int(generation)


def while_writing(
    deployment: Deployment,
    writing: Callable[[int], None],
    reading: Callable[[], None],
    seen_enough: Callable[[], bool] = lambda: True,
) -> None:
    """Read in several threads while one writes, until each has read often and all together have seen enough."""
    often = READS["embedded" if isinstance(deployment, EmbeddedDeployment) else "served"]
    done, reads = threading.Event(), [0, 0, 0]

    def read(reader: int) -> None:
        while not done.is_set():
            reading()
            reads[reader] += 1

    with ThreadPoolExecutor(len(reads)) as pool:
        results = [pool.submit(read, reader) for reader in range(len(reads))]
        try:
            for number in range(1, WRITES):
                writing(number)
                if any(result.done() for result in results) or (min(reads) >= often and seen_enough()):
                    break
        finally:
            done.set()
        for result in results:
            result.result()


@pytest.mark.needs_functions("the handler answers a query from several calls")
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_a_query_finds_what_was_there_at_one_moment(deployment: Deployment, unique: str, precision: Any) -> None:
    writer = filled(deployment, unique, precision)
    reader = ConvexVector(id="reader", deployment=deployment)  # shared by the threads
    seen: set[int] = set()

    def writing(number: int) -> None:
        write(writer, unique, number, precision)
        writer.delete_vector(index_name=unique, id="v0")

    def reading() -> None:
        seen.add(check(reader.query(index_name=unique, query_vector=QUERY, top_k=2 * SIZE), precision))

    while_writing(deployment, writing, reading, lambda: len(seen) > 2)
    assert len(seen) > 2


@pytest.mark.needs_functions("the handler answers a query from several calls")
def test_a_change_undone_meanwhile_is_not_taken_for_none(deployment: Deployment, unique: str) -> None:
    writer = filled(deployment, unique)
    write(writer, unique, 1)
    reader = ConvexVector(id="reader", deployment=deployment)

    def reading() -> None:
        check(reader.query(index_name=unique, query_vector=QUERY, top_k=2 * SIZE), np.float64)

    for last in (2, 3, 4):
        while_writing(deployment, lambda number: write(writer, unique, number % 2), reading)
        for generation in (last, 0, 1, 0):
            write(writer, unique, generation)
            results = reader.query(index_name=unique, query_vector=QUERY, top_k=SIZE)
            assert check(results, np.float64) == generation


def between_digests_and_vectors(monkeypatch: pytest.MonkeyPatch, write: Callable[[], None], *, before: bool) -> None:
    """Write once while a query asks which documents have changed: before it is told, or after."""
    pending = [write]

    def interrupted(asked: Any) -> Any:
        async def ask(self: AsyncSession, *arguments: Any) -> Any:
            interruption = pending.pop() if pending else None
            if interruption is not None and before:
                interruption()
            found = await asked(self, *arguments)
            if interruption is not None and not before:
                interruption()
            return found

        return ask

    for name in ("digests", "changes"):
        monkeypatch.setattr(AsyncSession, name, interrupted(getattr(AsyncSession, name)))


def of_some(store: ConvexVector, name: str, generation: int, ids: list[str]) -> None:
    rows = rows_of(generation)[: len(ids)]
    store.upsert(index_name=name, vectors=rows, ids=ids, metadata=[{"generation": generation}] * len(ids))


def generations(store: ConvexVector, name: str) -> dict[str, int]:
    """The generation of the first three vectors, as a query finds them."""
    found = {one.id: one.metadata for one in store.query(index_name=name, query_vector=QUERY, top_k=SIZE)}
    return {id: (found[id] or {})["generation"] for id in IDS[:3]}


def test_a_change_between_two_calls_of_a_query_is_found_whole(
    deployment: Deployment, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = filled(deployment, unique), ConvexVector(id="reader", deployment=deployment)
    generations(reader, unique)
    of_some(writer, unique, 1, IDS[:2])
    between_digests_and_vectors(monkeypatch, lambda: of_some(writer, unique, 2, IDS[:3]), before=False)
    assert generations(reader, unique) == dict.fromkeys(IDS[:3], 2)


def test_a_change_undone_between_two_queries_is_found_undone(
    deployment: Deployment, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = filled(deployment, unique), ConvexVector(id="reader", deployment=deployment)
    generations(reader, unique)
    of_some(writer, unique, 1, IDS[:3])
    between_digests_and_vectors(monkeypatch, lambda: of_some(writer, unique, 2, IDS[:3]), before=True)
    assert generations(reader, unique) == dict.fromkeys(IDS[:3], 2)
    of_some(writer, unique, 1, IDS[:3])
    assert generations(reader, unique) == dict.fromkeys(IDS[:3], 1)


class Overtaken:
    """A port on which somebody is faster than the commit of a number."""

    def __init__(self, port: Any, number: int, overtake: Callable[[], None]) -> None:
        self._port, self._number, self._overtake = port, number, overtake

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def commit(self, commit: Any) -> Any:
        self._number -= 1
        if self._number == -1:
            self._overtake()
        return await self._port.commit(commit)


@pytest.mark.parametrize("again", [None, DIMENSION, DIMENSION + 1])
@pytest.mark.parametrize("ids", [IDS, None])
def test_nothing_stays_of_an_upsert_into_an_index_that_is_deleted_meanwhile(
    deployment: Deployment, unique: str, ids: Any, again: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mastra_convex.vector.exact._UPSERTED_AT_ONCE", SIZE // 3)
    other = ConvexVector(id="other", deployment=deployment)
    for number in range(3):
        name = f"{unique}{number}"
        other.create_index(index_name=name, dimension=DIMENSION)

        def overtake(name: str = name) -> None:
            other.delete_index(index_name=name)
            if again is not None:
                other.create_index(index_name=name, dimension=again)

        store = ConvexVector(id="test", deployment=deployment)
        backend: Any = store._core._backend
        object.__setattr__(backend, "port", Overtaken(backend.port, number, overtake))
        with pytest.raises(IndexNotFound, match=name):
            store.upsert(index_name=name, vectors=rows_of(0), ids=ids)
        other.create_index(index_name=name, dimension=again or 2)
        assert other.describe_index(index_name=name).count == 0


@pytest.mark.needs_functions("the handler cannot compare before it sets")
def test_concurrent_updates_of_one_vector_are_all_kept(deployment: Deployment, unique: str) -> None:
    store = filled(deployment, unique)
    count = 50 if isinstance(deployment, EmbeddedDeployment) else 12
    at_once(
        count, lambda number: store.update_vector(index_name=unique, id="v3", update={"metadata": {f"k{number}": number}})
    )
    (found,) = store.query(index_name=unique, query_vector=rows_of(0)[3], top_k=1)
    assert found.metadata == {"generation": 0, **{f"k{number}": number for number in range(count)}}


def _work(deployment: Deployment, number: int, name: str) -> None:
    store = ConvexVector(id="process", deployment=deployment)
    for turn in range(5):
        ids = [f"p{number}-{turn}-{place}" for place in range(10)]
        rows = np.random.default_rng([9, number, turn]).standard_normal((10, DIMENSION))
        store.upsert(index_name=name, vectors=rows, ids=ids, metadata=[{"process": number}] * 10)
        store.update_vector(index_name=name, id="v3", update={"metadata": {f"{number}-{turn}": True}})
        found = store.query(index_name=name, query_vector=rows[4], top_k=1)
        assert found[0].id == ids[4]
        mine = store.query(index_name=name, query_vector=rows[4], top_k=1_000, filter={"process": number})
        assert len(mine) == 10 * (turn + 1)


@pytest.mark.parametrize("deployment", ["sqlite"], indirect=True)
def test_processes_share_an_index(deployment: Deployment, unique: str) -> None:
    store = filled(deployment, unique)
    run_processes(deployment, _work, unique, processes=3)
    assert store.describe_index(index_name=unique).count == SIZE + 3 * 50
    (found,) = store.query(index_name=unique, query_vector=rows_of(0)[3], top_k=1)
    assert found.metadata == {"generation": 0, **{f"{number}-{turn}": True for number in range(3) for turn in range(5)}}


@pytest.mark.parametrize("deployment", ["memory"], indirect=True)
async def test_searching_a_large_matrix_leaves_the_event_loop_alone(
    deployment: Deployment, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def noted(*args: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        return best_of(*args, **options)

    monkeypatch.setattr("mastra_convex.vector.exact.best_of", noted)
    monkeypatch.setattr("mastra_convex.vector.exact._OFFLOADED_BYTES", 0)
    filled(deployment, unique)
    store = AsyncConvexVector(id="loop", deployment=deployment)
    await asyncio.gather(*(store.query(index_name=unique, query_vector=QUERY) for _ in range(3)))
    assert len(threads) == 3
    assert threading.main_thread() not in threads
