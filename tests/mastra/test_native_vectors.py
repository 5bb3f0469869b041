"""The native vector store: searches through Convex's own vector indexes, on a host that has them and embedded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest

from convexorm import AsyncSession, ConvexORMError, Deployment, IndexRangeError, Session, connect
from convexorm.__main__ import main
from convexorm.errors import DeploymentError
from mastra_convex import (
    AsyncConvexNativeVector,
    ConvexNativeVector,
    IndexNotFound,
    InvalidArgument,
    PartialUpsert,
    native_vector_table,
)
from tests.conftest import ROOT, Host, serve_host
from tests.mastra.native_models import Bare, Docs, Place
from tests.mastra.support import _Awaited, at_once

SIZE, DIMENSION = 300, 8
ROWS = np.random.default_rng(5).standard_normal((SIZE, DIMENSION)).astype(np.float32)
IDS = [f"v{number}" for number in range(SIZE)]
METADATA: list[dict[str, Any]] = [{"tag": f"t{number % 3}", "number": number, "more": [number]} for number in range(SIZE)]
INDEXES = {"docs": Docs, "bare": Bare}


@pytest.fixture(scope="module")
def native_host() -> Iterator[Host]:
    """One host of the tables of `native_models`."""
    yield from serve_host(ROOT / "tests" / "native")


@pytest.fixture
def host(native_host: Host) -> Host:
    return native_host


@pytest.fixture(params=["memory", "sqlite", "host"])
def deployment(request: pytest.FixtureRequest, open_deployment: Callable[[str], Deployment]) -> Deployment:
    """Every kind of deployment that can have these tables, empty."""
    deployment = open_deployment(request.param)
    with Session(deployment) as session:
        for model in (Docs, Bare, Place):
            session.delete_all(model.query().full_scan())
    return deployment


@pytest.fixture(params=["async", "blocking"])
def vectors(request: pytest.FixtureRequest, deployment: Deployment) -> AsyncConvexNativeVector:
    """The store on every kind of deployment, on either face."""
    if request.param == "async":
        return AsyncConvexNativeVector(id="test", deployment=deployment, indexes=INDEXES)
    blocking = ConvexNativeVector(id="test", deployment=deployment, indexes=INDEXES)
    return cast("AsyncConvexNativeVector", _Awaited(blocking))


@pytest.fixture
def filled(deployment: Deployment) -> None:
    """ROWS in the index `docs`."""
    store = ConvexNativeVector(id="filler", deployment=deployment, indexes=INDEXES)
    store.upsert(index_name="docs", vectors=ROWS, ids=IDS, metadata=METADATA)


def brute(query: Any, top_k: int, of: Callable[[int], bool] = lambda number: True) -> list[str]:
    exact, asked = ROWS.astype(np.float64), np.asarray(query, dtype=np.float64)
    scores = exact @ asked / (np.linalg.norm(exact, axis=1) * np.linalg.norm(asked))
    return [IDS[place] for place in np.argsort(-scores) if of(int(place))][:top_k]


async def found(vectors: AsyncConvexNativeVector, query: Any, **options: Any) -> list[str]:
    return [one.id for one in await vectors.query(index_name="docs", query_vector=query, **options)]


def test_the_schema_says_what_the_models_say() -> None:
    schema = ROOT / "tests" / "native" / "schema.ts"
    assert main(["schema", "tests.mastra.native_models", "--out", str(schema), "--check"]) == 0


# -- indexes -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
async def test_deployed_indexes_are_listed_described_and_confirmed(vectors: AsyncConvexNativeVector) -> None:
    await vectors.create_index(index_name="docs", dimension=DIMENSION)
    assert await vectors.list_indexes() == ["docs", "bare"]
    stats = await vectors.describe_index(index_name="docs")
    assert (stats.dimension, stats.count, stats.metric) == (DIMENSION, SIZE, "cosine")
    assert (await vectors.describe_index(index_name="bare")).count == 0


@pytest.mark.usefixtures("filled")
async def test_a_truncated_index_is_empty(vectors: AsyncConvexNativeVector) -> None:
    await vectors.truncate_index(index_name="docs")
    assert (await vectors.describe_index(index_name="docs")).count == 0
    assert await found(vectors, ROWS[0]) == []


@pytest.mark.usefixtures("filled")
async def test_an_index_cannot_be_deleted_but_says_how(vectors: AsyncConvexNativeVector) -> None:
    with pytest.raises(InvalidArgument, match="truncate_index"):
        await vectors.delete_index(index_name="docs")
    assert (await vectors.describe_index(index_name="docs")).count == SIZE


# -- search --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("top_k", [1, 10, 256])
async def test_the_nearest_come_first(vectors: AsyncConvexNativeVector, top_k: int) -> None:
    results = await vectors.query(index_name="docs", query_vector=ROWS[3] + 0.1, top_k=top_k)
    assert [one.id for one in results] == brute(ROWS[3] + 0.1, top_k)
    assert [one.score for one in results] == sorted((one.score for one in results), reverse=True)
    assert results[0].metadata == METADATA[int(results[0].id[1:])]
    assert results[0].vector is None


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("filter", "of"),
    [
        ({"tag": "t1"}, lambda number: number % 3 == 1),
        ({"tag": {"$eq": "t1"}}, lambda number: number % 3 == 1),
        ({"metadata": {"tag": "t1"}}, lambda number: number % 3 == 1),
        ({"number": 7}, lambda number: number == 7),
        ({"$or": [{"tag": "t1"}, {"number": 3}]}, lambda number: number % 3 == 1 or number == 3),
        ({"$or": [{"tag": "t1"}]}, lambda number: number % 3 == 1),
        ({"tag": "nobody"}, lambda number: False),
        ({}, lambda number: True),
        (None, lambda number: True),
    ],
)
async def test_filter_fields_narrow_the_search(
    vectors: AsyncConvexNativeVector, filter: Any, of: Callable[[int], bool]
) -> None:
    assert await found(vectors, ROWS[3], top_k=20, filter=filter) == brute(ROWS[3], 20, of)


@pytest.mark.usefixtures("filled")
async def test_vectors_come_with_results_and_low_scores_do_not(vectors: AsyncConvexNativeVector) -> None:
    everything = await vectors.query(index_name="docs", query_vector=ROWS[3], top_k=20)
    least = everything[4].score
    some = await vectors.query(index_name="docs", query_vector=ROWS[3], top_k=20, min_score=least, include_vector=True)
    assert [one.id for one in some] == [one.id for one in everything[:5]]
    assert some[0].vector == ROWS[3].astype(np.float64).tolist()


async def test_float64_vectors_come_back_exact(vectors: AsyncConvexNativeVector) -> None:
    await vectors.upsert(index_name="bare", vectors=[[0.1, 0.2, 0.3]], ids=["a"])
    (one,) = await vectors.query(index_name="bare", query_vector=[1, 1, 1], include_vector=True)
    assert (one.vector, one.metadata) == ([0.1, 0.2, 0.3], None)


# -- changes -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
async def test_an_upsert_replaces_a_vector_whole_with_its_filter_fields(vectors: AsyncConvexNativeVector) -> None:
    await vectors.upsert(index_name="docs", vectors=[ROWS[1]], ids=["v1"])
    (one,) = await vectors.query(index_name="docs", query_vector=ROWS[1], top_k=1)
    assert (one.id, one.metadata) == ("v1", None)
    assert "v1" not in await found(vectors, ROWS[1], top_k=256, filter={"tag": "t1"})


async def test_ids_are_made_where_none_are_given(vectors: AsyncConvexNativeVector) -> None:
    ids = await vectors.upsert(index_name="bare", vectors=[[1, 0, 0], [0, 1, 0]])
    assert len(set(ids)) == 2
    assert [one.id for one in await vectors.query(index_name="bare", query_vector=[0, 1, 0])] == [ids[1], ids[0]]


@pytest.mark.usefixtures("filled")
async def test_an_update_merges_metadata_and_moves_the_filter_fields(vectors: AsyncConvexNativeVector) -> None:
    await vectors.update_vector(index_name="docs", id="v3", update={"metadata": {"tag": "moved"}})
    await vectors.update_vector(index_name="docs", id="v3", update={"vector": -ROWS[3]})
    (one,) = await vectors.query(index_name="docs", query_vector=-ROWS[3], filter={"tag": "moved"})
    assert (one.id, one.metadata) == ("v3", {**METADATA[3], "tag": "moved"})
    assert one.score == pytest.approx(1)
    await vectors.update_vector(index_name="docs", id="nobody", update={"metadata": {"tag": "moved"}})
    assert (await vectors.describe_index(index_name="docs")).count == SIZE


@pytest.mark.usefixtures("filled")
async def test_deleted_vectors_are_found_no_more(vectors: AsyncConvexNativeVector) -> None:
    await vectors.delete_vector(index_name="docs", id="v3")
    await vectors.delete_vectors(index_name="docs", ids=["v4", "v4", "v5", "nobody"])
    assert (await vectors.describe_index(index_name="docs")).count == SIZE - 3
    assert not {"v3", "v4", "v5"} & set(await found(vectors, ROWS[3], top_k=256))


async def test_metadata_of_any_shape_is_kept(vectors: AsyncConvexNativeVector) -> None:
    odd = {"$schema": 1, "tag": {"$deep": ["x"]}, "日本語": None}
    await vectors.upsert(index_name="docs", vectors=[ROWS[0]], ids=["odd"], metadata=[odd])
    (one,) = await vectors.query(index_name="docs", query_vector=ROWS[0])
    assert one.metadata == odd


def test_concurrent_updates_of_one_vector_are_all_kept(deployment: Deployment) -> None:
    store = ConvexNativeVector(id="test", deployment=deployment, indexes=INDEXES)
    store.upsert(index_name="docs", vectors=[ROWS[0]], ids=["a"])
    at_once(8, lambda number: store.update_vector(index_name="docs", id="a", update={"metadata": {f"k{number}": number}}))
    (one,) = store.query(index_name="docs", query_vector=ROWS[0])
    assert one.metadata == {f"k{number}": number for number in range(8)}


def test_an_upsert_beyond_one_commit_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mastra_convex.vector.native._UPSERTED_AT_ONCE", 100)
    store = ConvexNativeVector(id="test", deployment=connect("memory:"), indexes=INDEXES)
    upsert, calls = AsyncSession.bulk_upsert, []

    async def failing(self: AsyncSession, model: Any, rows: Any, **under: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise DeploymentError("gone")
        await upsert(self, model, rows, **under)

    monkeypatch.setattr(AsyncSession, "bulk_upsert", failing)
    with pytest.raises(PartialUpsert, match="the first 200 of 300") as raised:
        store.upsert(index_name="docs", vectors=ROWS, ids=IDS)
    assert raised.value.id == "MASTRA_STORAGE_CONVEX_UPSERT_PARTIAL_UPSERT"
    assert store.describe_index(index_name="docs").count == 200


# -- models of one's own -------------------------------------------------------------------------------------------


def test_a_model_of_ones_own_is_searched_by_a_session(deployment: Deployment) -> None:
    with Session(deployment) as session:
        for name, kind, embedding in (
            ("mill", "work", [1.0, 0.0, 0.0]),
            ("inn", "rest", [0.9, 0.1, 0.0]),
            ("sea", "rest", [0.0, 0.0, 1.0]),
        ):
            session.add(Place(name=name, kind=kind, embedding=embedding))
        session.commit()
        hits = session.search(Place.by_embedding, [1, 0, 0], 2)
        assert [hit.item.name for hit in hits] == ["mill", "inn"]
        assert hits[0].score == pytest.approx(1)
        rest = session.search(Place.by_embedding, [1, 0, 0], 3, Place.kind == "rest")
        assert [hit.item.name for hit in rest] == ["inn", "sea"]
        either = (Place.kind == "rest") | (Place.kind == "work")
        assert len(session.search(Place.by_embedding, [1, 0, 0], 3, either)) == 3
        hits[0].item.kind = "closed"  # what was found is in the session
        session.commit()
        assert session.get(Place, "mill").kind == "closed"  # type: ignore[union-attr]
        with pytest.raises(IndexRangeError):
            session.search(Place.by_embedding, [1, 0, 0], 3, Place.name == "inn")


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("method", "given", "words"),
    [
        ("create_index", {"dimension": 9}, "deployed index has 8"),
        ("create_index", {"dimension": 0}, "whole number"),
        ("create_index", {"dimension": 8, "metric": "euclidean"}, "cosine"),
        ("upsert", {"vectors": [[1.0] * 3]}, "3 dimensions, the index has 8"),
        ("upsert", {"vectors": [[float("nan")] * 8]}, "finite"),
        ("upsert", {"vectors": [[float("inf")] * 8]}, "finite"),
        ("upsert", {"vectors": [[1e300] * 8]}, "finite"),
        ("upsert", {"vectors": [[0.0] * 8]}, "zero vector"),
        ("upsert", {"vectors": [[1e-300] * 8]}, "zero vector"),
        ("upsert", {"vectors": []}, "one vector or more"),
        ("upsert", {"vectors": [[1.0] * 8], "ids": ["a", "b"]}, "2 for 1 vectors"),
        ("upsert", {"vectors": [[1.0] * 8] * 2, "ids": ["a", "a"]}, "an id twice"),
        ("upsert", {"vectors": [[1.0] * 8], "metadata": [{}, {}]}, "one for each"),
        ("query", {"query_vector": [1.0] * 8, "top_k": 0}, "1 to 256"),
        ("query", {"query_vector": [1.0] * 8, "top_k": 257}, "1 to 256"),
        ("query", {"query_vector": [1.0] * 8, "top_k": True}, "1 to 256"),
        ("query", {"query_vector": [1.0] * 3}, "3 dimensions"),
        ("query", {"query_vector": [0.0] * 8}, "zero vector"),
        ("query", {"query_vector": [1.0] * 8, "min_score": "high"}, "a number"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"more": 1}}, "no filter field 'more'; there are tag, number"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"tag": "a", "number": 1}}, "one equality"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"tag": {"$gt": "a"}}}, "strings, numbers"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"$and": [{"tag": "a"}]}}, r"\$and"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"$or": []}}, "1 to 64"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"$or": [{"tag": "a"}], "number": 1}}, "alone"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"$or": [{"tag": "a"}] * 65}}, "1 to 64"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"$or": [{}]}}, "one equality"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"$nor": []}}, r"\$nor"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"metadata": {}}}, "one equality"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"tag": {"$ne": None}}}, "strings, numbers"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"number": float("nan")}}, "strings, numbers"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"$or": [{"number": float("inf")}]}}, "strings, numbers"),
        ("query", {"query_vector": [1.0] * 8, "filter": {"tag": "\ud800"}}, "filter"),
        ("query", {"query_vector": [1.0] * 8, "filter": "tag"}, "filter"),
        ("query", {"query_vector": [1.0] * 8, "filter": ""}, "filter"),
        ("query", {"query_vector": [1.0] * 8, "filter": 0}, "filter"),
        ("query", {"query_vector": [1.0] * 8, "filter": []}, "filter"),
        ("update_vector", {"id": "v1", "update": {"vector": [1.0]}}, "1 dimensions"),
        ("update_vector", {"id": "", "update": {"metadata": {}}}, "id"),
        ("update_vector", {"id": "v1", "update": {"metadata": "x"}}, "metadata"),
        ("update_vector", {"id": "v1", "update": {"other": 1}}, "other"),
        ("delete_vectors", {"ids": []}, "one id or more"),
        ("delete_vectors", {"ids": "v1"}, "one id or more"),
        ("delete_vectors", {"ids": None}, "one id or more"),
        ("delete_vectors", {"ids": [["v1"]]}, "ids"),
    ],
)
async def test_bad_input_is_one_error_and_writes_nothing(
    vectors: AsyncConvexNativeVector, method: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words) as raised:
        await getattr(vectors, method)(index_name="docs", **given)
    assert raised.value.id.startswith("MASTRA_STORAGE_CONVEX_")
    assert (await vectors.describe_index(index_name="docs")).count == SIZE


async def test_unknown_indexes_are_named(vectors: AsyncConvexNativeVector) -> None:
    for call in (
        vectors.create_index(index_name="nope", dimension=8),
        vectors.describe_index(index_name="nope"),
        vectors.truncate_index(index_name="nope"),
        vectors.delete_index(index_name="nope"),
        vectors.query(index_name="nope", query_vector=[1.0]),
        vectors.upsert(index_name="nope", vectors=[[1.0]]),
        vectors.update_vector(index_name="nope", id="a", update={}),
        vectors.delete_vector(index_name="nope", id="a"),
    ):
        with pytest.raises(IndexNotFound, match="nope") as raised:
            await call
        assert raised.value.id.endswith("_INDEX_NOT_FOUND")
        assert isinstance(raised.value, ConvexORMError)


def test_a_table_is_refused_that_cannot_be_a_native_index() -> None:
    for options in ({"dimension": 1}, {"dimension": 4_097}, {"dimension": 3, "filter_fields": ["id"]}):
        with pytest.raises(ConvexORMError):
            native_vector_table("refused", **cast("Any", options))
    for fields in ("tag", None, ["tag", 1], [b"tag"], {"tag"}, ["two words"], ["class"]):
        with pytest.raises(InvalidArgument, match="filter_fields"):
            native_vector_table("refused", dimension=3, filter_fields=cast("Any", fields))
    with pytest.raises(InvalidArgument, match="one vector index"):
        ConvexNativeVector(id="test", deployment=connect("memory:"), indexes={"plain": cast("Any", object)})
