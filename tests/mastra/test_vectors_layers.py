"""What a change of an index costs: what it changes, however large the index is; and what is found then."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from convexorm import Deployment, Functions, Session, connect
from convexorm.deployments.embedded import changes
from convexorm.deployments.observers import Request
from convexorm.faces import finish
from convexorm.requests import Commit, Insert
from mastra_convex import ConvexVector
from mastra_convex.entities import Vector
from mastra_convex.vector import layers
from mastra_convex.vector.exact import QueryResult
from tests.conftest import Host

DIMENSION = 4


@pytest.fixture(params=["memory", "file"])
def embedded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    with connect("memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'v.db'}") as deployment:
        yield deployment


@pytest.fixture
def on_convex(fresh_host: Host) -> Iterator[Deployment]:
    with fresh_host.connect() as deployment:
        yield deployment


@pytest.fixture(params=["memory", "file", "host"])
def anywhere(request: pytest.FixtureRequest, open_deployment: Callable[[str], Deployment]) -> Deployment:
    return open_deployment({"file": "sqlite"}.get(request.param, request.param))


def vector(chance: random.Random) -> list[float]:
    """Of numbers that float32 holds, so that none is read again."""
    return [chance.randint(1, 64) / 64 for _ in range(DIMENSION)]


def best(store: ConvexVector, query: list[float], **options: object) -> list[tuple[str, float, object, object]]:
    found: list[QueryResult] = store.query(index_name="i", query_vector=query, top_k=7, include_vector=True, **options)  # type: ignore[arg-type]
    return [(one.id, one.score, one.metadata, one.vector) for one in found]


def store_of(deployment: Deployment, *indexes: str) -> ConvexVector:
    store = ConvexVector(id="v", deployment=deployment)
    for name in indexes:
        store.create_index(index_name=name, dimension=DIMENSION, metric="dotproduct")
    return store


def test_one_change_reads_one_document(embedded: Deployment) -> None:
    store, chance = store_of(embedded, "i"), random.Random(1)
    ids = [f"n{number}" for number in range(600)]
    store.upsert(index_name="i", vectors=[vector(chance) for _ in ids], ids=ids)
    best(store, vector(chance))
    told: list[Request] = []
    embedded.on_request(told.append)
    changed: list[Callable[[], object]] = [
        lambda: store.upsert(index_name="i", vectors=[vector(chance)], ids=["n5"]),
        lambda: store.upsert(index_name="i", vectors=[vector(chance)], ids=["new"]),
        lambda: store.delete_vector(index_name="i", id="n7"),
        lambda: store.update_vector(index_name="i", id="n9", update={"metadata": {"x": 1}}),
    ]
    for change in changed:
        change()
        told.clear()
        best(store, vector(chance))
        assert sum(one.documents for one in told) <= 3  # the index, the digest of the change, and the document
        told.clear()
        best(store, vector(chance))
        assert sum(one.documents for one in told) == 1


def test_one_change_on_convex_reads_its_document_and_the_end_of_the_log(fresh_host: Host, on_convex: Deployment) -> None:
    """Not the digests of all 600, whoever of those that use the functions has written."""
    store, chance = store_of(on_convex, "i"), random.Random(1)
    ids = [f"n{number}" for number in range(600)]
    store.upsert(index_name="i", vectors=[vector(chance) for _ in ids], ids=ids)
    best(store, vector(chance))

    def by_the_npm_package() -> None:
        record = {"id": "n11", "index_name": "i", "embedding": vector(chance)}
        arguments = {"op": "insert", "tableName": "mastra_vectors", "record": record}
        Functions(on_convex).mutation("mastra/storage:handle", arguments)

    changed: list[Callable[[], object]] = [
        lambda: store.upsert(index_name="i", vectors=[vector(chance)], ids=["n5"]),
        lambda: store.upsert(index_name="i", vectors=[vector(chance)], ids=["new"]),
        lambda: store.delete_vector(index_name="i", id="n7"),
        lambda: store.update_vector(index_name="i", id="n9", update={"metadata": {"x": 1}}),
        by_the_npm_package,
    ]
    for number, change in enumerate(changed, 1):
        change()
        fresh_host.reset()
        query = vector(chance)
        found = best(store, query)
        # the index; the last row of the log, all rows of this minute and the newest vector, twice; the changed one, twice
        assert fresh_host.metrics()["documentsRead"] <= 1 + 2 * (1 + (number + 1) + 1 + 1)
        assert found == best(ConvexVector(id="fresh", deployment=on_convex), query)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_changes_is_found_as_by_who_reads_it_first(
    anywhere: Deployment, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """One store follows the changes, many at a time or few; another reads all of it each time."""
    monkeypatch.setattr(layers, "MOST", 12)
    monkeypatch.setattr(changes, "KEPT", 20)
    chance = random.Random(seed)
    store = store_of(anywhere, "i", "other")
    ids = [f"n{number}" for number in range(60)]
    store.upsert(index_name="i", vectors=[vector(chance) for _ in ids], ids=ids)
    store.upsert(index_name="other", vectors=[vector(chance)] * 2, ids=["away", "n3"])
    rounded = float(np.float32(0.1))

    def upsert() -> None:
        some = chance.sample([*ids, *(f"m{number}" for number in range(30))], chance.choice([1, 1, 2, 20]))
        numbers = [[0.1 if seed % 2 else rounded, *vector(chance)[1:]] for _ in some]
        store.upsert(index_name="i", vectors=numbers, ids=some, metadata=[{"n": chance.randrange(3)} for _ in some])

    def update() -> None:
        store.update_vector(index_name="i", id=chance.choice(ids), update={"metadata": {"n": chance.randrange(3)}})

    def delete() -> None:
        store.delete_vectors(index_name="i", ids=chance.sample(ids, chance.choice([1, 1, 15])))

    def move() -> None:
        """Into another index and back, which gives it another order, or takes it away."""
        with Session(anywhere) as session:
            for one in session.all(Vector.query().full_scan().limit(3)):
                one.index_name, one.id = chance.choice([("i", f"moved{one.convex_id}"), ("other", f"x{one.convex_id}")])
            session.commit()

    def odd() -> None:
        """A vector of another dimension, as other programs store them."""
        document = {"indexName": "i", "id": f"odd{chance.random()}", "embedding": [1.0] * chance.choice([2, DIMENSION])}
        finish(anywhere.blocking.commit(Commit(f"{chance.random()}", [Insert(Vector.__mapper__.table, document)])))

    for _ in range(40):
        for _ in range(chance.choice([1, 1, 1, 4, 25])):
            chance.choice([upsert, upsert, update, delete, move, odd])()
        query = vector(chance)
        fresh = ConvexVector(id="fresh", deployment=anywhere)
        assert best(store, query) == best(fresh, query)
        assert best(store, query, filter={"n": 1}) == best(fresh, query, filter={"n": 1})


def test_deletions_are_forgotten_after_a_while_and_everything_is_read_again(
    embedded: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "KEPT", 3)
    store = store_of(embedded, "i")
    store.upsert(index_name="i", vectors=[[1, 0, 0, number] for number in range(9)], ids=[f"n{n}" for n in range(9)])
    best(store, [1, 0, 0, 1])
    for number in range(6):
        store.delete_vector(index_name="i", id=f"n{number}")
    assert [id_ for id_, *_ in best(store, [1, 0, 0, 1])] == ["n8", "n7", "n6"]
