"""What float32 does not hold is exact all the same, and packed reads and digests say what plain reads do, everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from convexorm import Deployment, Session
from convexorm.requests import ReadResult, vouches, whole_digest
from mastra_convex import ConvexVector, IndexNotFound, InvalidArgument, Vector
from mastra_convex.vector.matrices import vectors_of

DIMENSION = 12


def filled(deployment: Deployment, name: str, rows: Any, metric: str = "cosine", **options: Any) -> ConvexVector:
    store = ConvexVector(id="test", deployment=deployment, **options)
    store.create_index(index_name=name, dimension=len(rows[0]), metric=metric)
    store.upsert(index_name=name, vectors=rows, ids=[f"v{place}" for place in range(len(rows))])
    return store


def brute(metric: str, rows: Any, query: Any, top_k: int) -> list[str]:
    scores = {
        "cosine": lambda: rows @ query / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query)),
        "dotproduct": lambda: rows @ query,
        "euclidean": lambda: -np.linalg.norm(rows - query, axis=1),
    }[metric]()
    return [f"v{place}" for place in np.argsort(-scores, kind="stable")[:top_k]]


# -- scores and order ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "dotproduct", "euclidean"])
@pytest.mark.parametrize(("length", "apart"), [(1.0, 1e-9), (1e4, 1e-6)], ids=["close", "long and close"])
def test_vectors_that_float32_cannot_tell_apart_are_in_order(
    deployment: Deployment, unique: str, metric: str, length: float, apart: float
) -> None:
    random = np.random.default_rng(3)
    rows = length * (1 + apart * random.standard_normal((60, DIMENSION)))
    query = length * np.linspace(0.5, 1.5, DIMENSION)
    assert len(np.unique(rows.astype(np.float32), axis=0)) < 60 or length > 1
    store = filled(deployment, unique, rows, metric)
    for top_k in (1, 7):
        found = store.query(index_name=unique, query_vector=query, top_k=top_k)
        assert [one.id for one in found] == brute(metric, rows, query, top_k)


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e26, 1e30])
def test_the_length_of_vectors_is_nothing_to_cosine(deployment: Deployment, unique: str, scale: float) -> None:
    rows = np.random.default_rng(4).standard_normal((40, DIMENSION)).astype(np.float32)
    mixed = rows.copy()
    mixed[::2] *= np.float32(scale)
    store = filled(deployment, unique, mixed)
    for query in (rows[5], rows[6] * np.float32(scale)):
        found = store.query(index_name=unique, query_vector=query, top_k=6)
        exact = mixed.astype(np.float64)
        assert [one.id for one in found] == brute("cosine", exact, query.astype(np.float64) / scale, 6)
        assert found[0].score == pytest.approx(1)


def test_equal_vectors_stay_in_the_order_they_were_stored_in(deployment: Deployment, unique: str) -> None:
    store = filled(deployment, unique, np.ones((30, 3)))
    expected = [f"v{place}" for place in range(30)]

    def ids(store: ConvexVector) -> list[str]:
        return [one.id for one in store.query(index_name=unique, query_vector=[1, 1, 1], top_k=30)]

    assert ids(store) == expected
    store.update_vector(index_name=unique, id="v3", update={"metadata": {"touched": True}})
    assert ids(store) == expected
    assert ids(ConvexVector(id="fresh", deployment=deployment)) == expected


@pytest.mark.parametrize("max_bytes", [2 << 30, 0], ids=["kept", "in pages"])
def test_a_larger_index_than_may_be_kept_is_as_exact(
    deployment: Deployment, unique: str, max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mastra_convex.vector.exact._STREAMED_BYTES", 4 * DIMENSION * 17)
    rows = np.random.default_rng(5).standard_normal((60, DIMENSION))
    store = filled(deployment, unique, rows, max_bytes=max_bytes)
    for _ in range(2):
        found = store.query(index_name=unique, query_vector=rows[8], top_k=60, include_vector=True)
        assert [one.id for one in found] == brute("cosine", rows, rows[8], 60)
        assert [one.vector for one in found] == [rows[int(one.id[1:])].tolist() for one in found]


@pytest.mark.parametrize("max_bytes", [2 << 30, 0], ids=["kept", "in pages"])
@pytest.mark.parametrize("metric", ["cosine", "dotproduct", "euclidean"])
def test_what_others_store_beyond_float32_is_found(
    deployment: Deployment, unique: str, metric: str, max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mastra_convex.vector.exact._STREAMED_BYTES", 4 * DIMENSION * 7)
    random = np.random.default_rng(8)
    rows = random.standard_normal((30, DIMENSION))
    query = random.standard_normal(DIMENSION)
    rows[[4, 11, 17]] = query * 1e39, query * 1e-60, -query * 1e39
    rows[20:24] = query * 1e-30 + 1e-33 * random.standard_normal((4, DIMENSION))
    store = filled(deployment, unique, rows[:1], metric, max_bytes=max_bytes)
    with Session(deployment) as session:  # past every vector store
        for place in range(1, 30):
            session.add(Vector(id=f"v{place}", index_name=unique, embedding=rows[place].tolist(), metadata={"all": True}))
        session.commit()
    for top_k in (1, 3, 8, 30):
        found = store.query(index_name=unique, query_vector=query, top_k=top_k)
        assert [one.id for one in found] == brute(metric, rows, query, top_k)
    narrowed = store.query(index_name=unique, query_vector=query, top_k=29, filter={"all": True}, include_vector=True)
    assert [one.id for one in narrowed] == [id_ for id_ in brute(metric, rows, query, 30) if id_ != "v0"]


def test_pages_are_compared_by_the_stored_numbers(
    deployment: Deployment, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mastra_convex.vector.exact._STREAMED_BYTES", 4 * DIMENSION * 5)
    query = np.linspace(0.5, 1.5, DIMENSION)
    rows = query + 1e-3 * np.random.default_rng(9).standard_normal(DIMENSION) * (1 + 1e-6 * np.arange(30)[::-1, None])
    store = filled(deployment, unique, rows, max_bytes=0)
    for top_k in (1, 4):
        found = store.query(index_name=unique, query_vector=query, top_k=top_k)
        assert [one.id for one in found] == brute("cosine", rows, query, top_k)


def test_the_least_score_is_held_against_the_stored_numbers(deployment: Deployment, unique: str) -> None:
    rows = np.random.default_rng(10).standard_normal((20, DIMENSION))
    store = filled(deployment, unique, rows)
    for query in rows[:4] + 0.5:
        exact = store.query(index_name=unique, query_vector=query, top_k=20, include_vector=True)
        least = exact[5].score
        assert len(store.query(index_name=unique, query_vector=query, top_k=20, min_score=least - 1e-15)) == 6
        assert len(store.query(index_name=unique, query_vector=query, top_k=20, min_score=least + 1e-15)) == 5


# -- reads ---------------------------------------------------------------------------------------------------------


def packed(session: Session, name: str) -> ReadResult:
    return session.matrix(Vector.embedding, DIMENSION, vectors_of(name))


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_packed_writes_and_reads_are_the_plain_ones(deployment: Deployment, unique: str, precision: Any) -> None:
    rows = np.random.default_rng(6).standard_normal((25, DIMENSION)).astype(precision)
    filled(deployment, unique, rows)
    with Session(deployment) as session:
        plain = session.all(vectors_of(unique))
        found = packed(session, unique)
        assert [one.embedding for one in plain] == rows.astype(np.float64).tolist()
        assert found.matrix is not None
        assert list(found.matrix.ids) == [one.convex_id for one in plain]
        assert np.array_equal(found.matrix.rows, rows.astype(np.float32))
        assert found.matrix.rounded == (precision is np.float64)
        assert [document["id"] for document in found.docs] == [one.id for one in plain]
        assert all("embedding" not in document for document in found.docs)


@pytest.mark.needs_functions("the handler stores vectors by index, so that there is no plain write of one")
def test_vectors_of_another_dimension_are_left_out_and_nothing_else(deployment: Deployment, unique: str) -> None:
    rows = np.random.default_rng(7).standard_normal((10, DIMENSION)).astype(np.float32)
    store = filled(deployment, unique, rows)
    with Session(deployment) as session:
        session.add(Vector(id="short", index_name=unique, embedding=[1.0, 2.0]))
        session.commit()
        assert set(packed(session, unique).digests) == set(session.digests(vectors_of(unique)))
    for _ in range(2):
        assert len(store.query(index_name=unique, query_vector=rows[0], top_k=100)) == 10
        store.update_vector(index_name=unique, id="v4", update={"metadata": {"a": 1}})
    (one,) = store.query(index_name=unique, query_vector=rows[0], filter={"a": 1})
    assert one.id == "v4"


CHANGES: list[tuple[str, Callable[[ConvexVector, str], object]]] = [
    ("a vector", lambda store, name: store.update_vector(index_name=name, id="v3", update={"vector": [1.0] * DIMENSION})),
    ("its metadata", lambda store, name: store.update_vector(index_name=name, id="v3", update={"metadata": {"a": 1}})),
    ("a new one", lambda store, name: store.upsert(index_name=name, vectors=[[1.0] * DIMENSION], ids=["new"])),
    ("one less", lambda store, name: store.delete_vector(index_name=name, id="v3")),
]


@pytest.mark.parametrize(("what", "change"), CHANGES, ids=[name for name, _ in CHANGES])
def test_digests_tell_what_has_changed(
    deployment: Deployment, unique: str, what: str, change: Callable[[ConvexVector, str], object]
) -> None:
    rows = np.random.default_rng(8).standard_normal((10, DIMENSION))
    store = filled(deployment, unique, rows)

    def state() -> tuple[str, dict[str, str]]:
        with Session(deployment) as session:
            _, whole = session.read(vectors_of(unique).limit(1), vectors_of(unique).digest())
            return whole, dict(session.digests(vectors_of(unique)))

    before, each = state()
    assert state() == (before, each)
    assert vouches(before, each)
    with Session(deployment) as session:
        assert dict(packed(session, unique).digests) == each
    change(store, unique)
    after, now = state()
    assert after != before
    assert vouches(after, now)
    assert len(set(each.items()) ^ set(now.items())) in (1, 2)  # what is not about the one document is the same


def test_a_digest_of_content_vouches_only_for_that_content() -> None:
    pages = [{"a": "1", "b": "2"}, {}, {"c": "3"}]
    digest = " ".join(map(whole_digest, pages))
    together = {"a": "1", "b": "2", "c": "3"}
    assert vouches(digest, together)
    assert not vouches(digest, {**together, "b": "9"})
    assert not vouches(digest, {"a": "1", "b": "2"})
    assert not vouches(digest, {**together, "d": "4"})
    assert not vouches(digest, dict(reversed(together.items())))


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "given", "words"),
    [
        ("upsert", {"vectors": [[1e300] * DIMENSION]}, "float32"),
        ("upsert", {"vectors": [[1e-300] * DIMENSION]}, "zero vector"),
        ("query", {"query_vector": [1.0] * DIMENSION, "min_score": float("nan")}, "a number"),
        ("query", {"query_vector": [1.0] * DIMENSION, "min_score": "1"}, "a number"),
        ("delete_vectors", {"ids": "v1"}, "one id or more"),
        ("delete_vectors", {"ids": [["v1"]]}, "ids"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    deployment: Deployment, unique: str, method: str, given: dict[str, Any], words: str
) -> None:
    store = filled(deployment, unique, np.ones((3, DIMENSION)))
    with pytest.raises(InvalidArgument, match=words) as raised:
        getattr(store, method)(index_name=unique, **given)
    assert raised.value.id.startswith(f"MASTRA_STORAGE_CONVEX_{method.upper()}_")
    assert store.describe_index(index_name=unique).count == 3
    with pytest.raises(IndexNotFound) as unknown:
        store.describe_index(index_name=f"{unique} too")
    assert unknown.value.id == "MASTRA_STORAGE_CONVEX_DESCRIBE_INDEX_INDEX_NOT_FOUND"
