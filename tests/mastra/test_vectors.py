"""The exact vector store: indexes, upserts, exact search, filters, and matrices that are never stale."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from convexorm import ConvexORMError, Deployment, Session, ValidationError
from convexorm.errors import DeploymentError
from mastra_convex import Vector
from mastra_convex.errors import InvalidArgument
from mastra_convex.vector import AsyncConvexVector, ConvexVector, IndexNotFound, PartialUpsert
from mastra_convex.vector.exact import AsyncExactVectors
from tests.conftest import Host
from tests.mastra.support import _Awaited

SIZE, DIMENSION = 120, 16
ROWS = np.random.default_rng(7).standard_normal((SIZE, DIMENSION)).astype(np.float32)
IDS = [f"v{number}" for number in range(SIZE)]
METADATA = [{"number": number, "even": number % 2 == 0, "tags": ["all", f"t{number % 3}"]} for number in range(SIZE)]


@pytest.fixture(params=["async", "blocking"])
def vectors(request: pytest.FixtureRequest, deployment: Deployment) -> AsyncConvexVector:
    """The store on every kind of deployment, on either face."""
    if request.param == "async":
        return AsyncConvexVector(id="test", deployment=deployment)
    return cast("AsyncConvexVector", _Awaited(ConvexVector(id="test", deployment=deployment)))


@pytest.fixture
def index(deployment: Deployment, unique: str) -> str:
    """The name of an index that holds ROWS."""
    store = ConvexVector(id="filler", deployment=deployment)
    store.create_index(index_name=unique, dimension=DIMENSION)
    store.upsert(index_name=unique, vectors=ROWS, ids=IDS, metadata=METADATA)
    return unique


def brute(query: Any, top_k: int, rows: Any = ROWS) -> list[tuple[str, float]]:
    exact, asked = rows.astype(np.float64), np.asarray(query, dtype=np.float64)
    scores = exact @ asked / (np.linalg.norm(exact, axis=1) * np.linalg.norm(asked))
    return [(IDS[place], float(scores[place])) for place in np.argsort(-scores, kind="stable")[:top_k]]


async def found(vectors: AsyncConvexVector, index: str, query: Any, **options: Any) -> list[str]:
    return [one.id for one in await vectors.query(index_name=index, query_vector=query, **options)]


# -- indexes -------------------------------------------------------------------------------------------------------


async def test_an_index_is_listed_and_described(vectors: AsyncConvexVector, index: str) -> None:
    assert index in await vectors.list_indexes()
    stats = await vectors.describe_index(index_name=index)
    assert (stats.dimension, stats.count, stats.metric) == (DIMENSION, SIZE, "cosine")


async def test_an_index_created_again_alike_is_fine_and_otherwise_refused(vectors: AsyncConvexVector, index: str) -> None:
    await vectors.create_index(index_name=index, dimension=DIMENSION, metric="cosine")
    with pytest.raises(InvalidArgument, match="16 dimensions and cosine"):
        await vectors.create_index(index_name=index, dimension=DIMENSION + 1)
    with pytest.raises(InvalidArgument, match="16 dimensions and cosine"):
        await vectors.create_index(index_name=index, dimension=DIMENSION, metric="euclidean")


@pytest.mark.needs_functions("the handler has another table of that name")
async def test_an_index_may_be_named_indexes(vectors: AsyncConvexVector) -> None:
    await vectors.create_index(index_name="indexes", dimension=2)
    await vectors.upsert(index_name="indexes", vectors=[[1, 0]], ids=["x"])
    assert await found(vectors, "indexes", [1, 0]) == ["x"]
    await vectors.delete_index(index_name="indexes")


async def test_a_deleted_index_is_gone_with_its_vectors(vectors: AsyncConvexVector, index: str) -> None:
    await vectors.delete_index(index_name=index)
    assert index not in await vectors.list_indexes()
    with pytest.raises(IndexNotFound):
        await found(vectors, index, ROWS[0])
    await vectors.create_index(index_name=index, dimension=DIMENSION)
    assert await found(vectors, index, ROWS[0]) == []


async def test_a_truncated_index_is_empty_and_there(vectors: AsyncConvexVector, index: str) -> None:
    await vectors.truncate_index(index_name=index)
    assert (await vectors.describe_index(index_name=index)).count == 0
    assert await found(vectors, index, ROWS[0]) == []


# -- search --------------------------------------------------------------------------------------------------------


async def test_scores_and_order_are_those_of_float64_brute_force(vectors: AsyncConvexVector, index: str) -> None:
    for query in (ROWS[3], ROWS[50] + 0.25, -ROWS[9]):
        results = await vectors.query(index_name=index, query_vector=query, top_k=12)
        expected = brute(query, 12)
        assert [one.id for one in results] == [id_ for id_, _ in expected]
        assert [one.score for one in results] == pytest.approx([score for _, score in expected], abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "best", "score"), [("dotproduct", "far", 30.0), ("euclidean", "near", 1 / (1 + 1)), ("cosine", "near", 1.0)]
)
async def test_metrics_score_as_they_say(
    vectors: AsyncConvexVector, unique: str, metric: str, best: str, score: float
) -> None:
    await vectors.create_index(index_name=unique, dimension=2, metric=metric)
    await vectors.upsert(index_name=unique, vectors=[[2, 0], [10, 10]], ids=["near", "far"])
    query = [3, 0]
    (result,) = await vectors.query(index_name=unique, query_vector=query, top_k=1)
    assert result.id == best
    assert result.score == pytest.approx(score)


async def test_metadata_and_vectors_come_with_results(vectors: AsyncConvexVector, index: str) -> None:
    (bare,) = await vectors.query(index_name=index, query_vector=ROWS[5], top_k=1)
    (full,) = await vectors.query(index_name=index, query_vector=ROWS[5], top_k=1, include_vector=True)
    assert bare.metadata == full.metadata == METADATA[5]
    assert bare.vector is None
    assert full.vector == ROWS[5].astype(np.float64).tolist()


async def test_numbers_beyond_float32_come_back_exact(vectors: AsyncConvexVector, unique: str) -> None:
    await vectors.create_index(index_name=unique, dimension=3, metric="euclidean")
    exact = [[0.1, 0.2, 0.3], [0.1, 0.2, 0.30000000001]]
    await vectors.upsert(index_name=unique, vectors=exact, ids=["a", "b"])
    results = await vectors.query(index_name=unique, query_vector=exact[1], top_k=2, include_vector=True)
    assert [(one.id, one.vector) for one in results] == [("b", exact[1]), ("a", exact[0])]


async def test_a_least_score_leaves_out_the_rest(vectors: AsyncConvexVector, index: str) -> None:
    scores = [score for _, score in brute(ROWS[3], SIZE)]
    results = await vectors.query(index_name=index, query_vector=ROWS[3], top_k=SIZE, min_score=scores[4])
    assert len(results) == 5


async def test_a_filter_narrows_before_the_search(vectors: AsyncConvexVector, index: str) -> None:
    results = await vectors.query(
        index_name=index, query_vector=ROWS[3], top_k=5, filter={"even": True, "number": {"$gte": 100}, "tags": "t1"}
    )
    expected = [id_ for id_, _ in brute(ROWS[3], SIZE) if int(id_[1:]) in (100, 106, 112, 118)]
    assert [one.id for one in results] == expected


async def test_rows_without_metadata_match_no_filter(vectors: AsyncConvexVector, index: str) -> None:
    await vectors.upsert(index_name=index, vectors=[ROWS[3]], ids=["bare"])
    assert (await found(vectors, index, ROWS[3], top_k=2))[1] == "bare"
    opened: list[dict[str, Any]] = [{"number": {"$exists": False}}, {"metadata": {}}, {"$nor": []}]
    for filter in opened:
        assert "bare" not in await found(vectors, index, ROWS[3], top_k=SIZE + 1, filter=filter)


async def test_no_denial_of_none_is_about_vectors_without_the_field(vectors: AsyncConvexVector, unique: str) -> None:
    """However it is said and nested, in searches, in updates and in deletions."""
    metadata: list[Any] = [{"a": 1}, {"a": None}, {"b": 1}, {"a": [{"c": 1}, {}]}, {}, None]
    names = [f"{unique}{number}" for number in range(len(metadata))]
    await vectors.create_index(index_name=unique, dimension=2)
    await vectors.upsert(index_name=unique, vectors=[[1.0, 0.0]] * len(names), ids=names, metadata=metadata)
    denials: list[dict[str, Any]] = [
        *(
            {"a": {"$ne": None}},
            {"a": {"$nin": [5, None]}},
            {"a": {"$not": {"$eq": None}}},
            {"a": {"$not": {"$all": [None]}}},
        ),
        *({"$nor": [{"a": None}]}, {"$nor": [{"a": {"$in": [None]}}]}, {"$not": {"a": None}}),
        {"$not": {"$or": [{"a": None}, {"a": {"$in": [None, 7]}}]}},
        {"$nor": [{"$not": {"a": {"$ne": None}}}]},
    ]
    for filter in denials:
        assert await found(vectors, unique, [1.0, 0.0], filter=filter) == [names[0], names[3]], filter
    for filter in ({"a.c": {"$ne": None}}, {"a": {"$elemMatch": {"$nor": [{"c": None}]}, "$size": 1}}):
        assert await found(vectors, unique, [1.0, 0.0], filter=filter) == [], filter
    await vectors.update_vector(index_name=unique, filter=denials[4], update={"metadata": {"touched": True}})
    assert await found(vectors, unique, [1.0, 0.0], filter={"touched": True}) == [names[0], names[3]]
    await vectors.delete_vectors(index_name=unique, filter=denials[6])
    assert await found(vectors, unique, [1.0, 0.0]) == [names[1], names[2], names[4], names[5]]


async def test_metadata_that_convex_cannot_hold_is_kept_and_filtered(vectors: AsyncConvexVector, unique: str) -> None:
    await vectors.create_index(index_name=unique, dimension=2)
    odd = {"$schema": "x", "日本語": {"deep": [1]}, "kind": "odd"}
    await vectors.upsert(
        index_name=unique, vectors=[[1, 0], [0, 1]], ids=["odd", "plain"], metadata=[odd, {"kind": "plain"}]
    )
    (result,) = await vectors.query(index_name=unique, query_vector=[1, 1], filter={"kind": "odd"})
    assert (result.id, result.metadata) == ("odd", odd)


# -- changes -------------------------------------------------------------------------------------------------------


async def test_an_upsert_replaces_a_vector_whole(vectors: AsyncConvexVector, index: str) -> None:
    await vectors.upsert(index_name=index, vectors=[-ROWS[3]], ids=["v3"])
    assert (await found(vectors, index, ROWS[3], top_k=SIZE))[-1] == "v3"
    (result,) = await vectors.query(index_name=index, query_vector=-ROWS[3], top_k=1)
    assert (result.id, result.metadata) == ("v3", None)


async def test_an_update_merges_metadata_and_changes_the_vector(vectors: AsyncConvexVector, index: str) -> None:
    await vectors.update_vector(index_name=index, id="v3", update={"metadata": {"extra": 1}})
    await vectors.update_vector(index_name=index, id="v3", update={"vector": (-ROWS[3]).tolist()})
    (result,) = await vectors.query(index_name=index, query_vector=-ROWS[3], top_k=1)
    assert (result.id, result.metadata) == ("v3", {**METADATA[3], "extra": 1})


async def test_an_update_by_filter_changes_all_that_match(vectors: AsyncConvexVector, index: str) -> None:
    await vectors.update_vector(index_name=index, filter={"tags": "t1"}, update={"metadata": {"marked": True}})
    marked = await found(vectors, index, ROWS[0], top_k=SIZE, filter={"marked": True})
    assert sorted(marked) == sorted(IDS[1::3])


async def test_deleted_vectors_are_found_no_more(vectors: AsyncConvexVector, index: str) -> None:
    await vectors.delete_vector(index_name=index, id="v3")
    await vectors.delete_vectors(index_name=index, ids=["v4", "v5", "nobody"])
    await vectors.delete_vectors(index_name=index, filter={"number": {"$gte": 10}})
    assert sorted(await found(vectors, index, ROWS[3], top_k=SIZE)) == ["v0", "v1", "v2", "v6", "v7", "v8", "v9"]
    assert (await vectors.describe_index(index_name=index)).count == 7


async def test_a_matrix_is_never_stale_whoever_writes(deployment: Deployment, unique: str) -> None:
    reader, writer = (ConvexVector(id=name, deployment=deployment) for name in ("reader", "writer"))
    writer.create_index(index_name=unique, dimension=2)
    ids = [f"v{number}" for number in range(10)]
    writer.upsert(index_name=unique, vectors=[[1, number] for number in range(10)], ids=ids)

    def nearest(query: Any) -> str:
        return reader.query(index_name=unique, query_vector=query, top_k=1)[0].id

    assert nearest([1, 9]) == "v9"
    writer.upsert(index_name=unique, vectors=[[1, 100]], ids=["new"])
    assert nearest([0, 1]) == "new"
    writer.update_vector(index_name=unique, id="v0", update={"vector": [0, 5]})
    assert nearest([0, 1]) == "v0"
    writer.delete_vector(index_name=unique, id="v0")
    assert nearest([0, 1]) == "new"
    with Session(deployment) as session:  # past every vector store
        vector = session.one(Vector.query().by_index("by_index_id", index_name=unique, id="v1"))
        vector.embedding = [-1.0, 0.0]
        session.commit()
    assert nearest([-1, 0]) == "v1"
    for number in range(70):  # more batches of changes than a matrix keeps apart
        writer.upsert(index_name=unique, vectors=[[-1, -number - 1]], ids=[f"w{number}"])
        assert nearest([0, -1]) == f"w{number}"
    assert len(reader.query(index_name=unique, query_vector=[1, 1], top_k=200)) == 80


async def test_an_index_larger_than_memory_is_searched_in_pages(
    vectors: AsyncConvexVector, deployment: Deployment, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mastra_convex.vector.exact._STREAMED_BYTES", 4 * DIMENSION * 50)
    small = ConvexVector(id="small", deployment=deployment, max_bytes=4 * DIMENSION * 60)
    for options in ({}, {"filter": {"even": True}}):
        expected = await vectors.query(index_name=index, query_vector=ROWS[3], top_k=20, **cast("Any", options))
        assert small.query(index_name=index, query_vector=ROWS[3], top_k=20, **cast("Any", options)) == expected


async def test_a_page_of_nothing_but_vectors_of_another_dimension_is_passed_over(
    vectors: AsyncConvexVector, deployment: Deployment, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session(deployment) as session:  # past every vector store
        for number in range(8):
            session.add(Vector(id=f"short{number}", index_name=index, embedding=[1.0, 0.0], metadata=None))
        session.commit()
    await vectors.upsert(index_name=index, vectors=[ROWS[3]], ids=["behind"])
    monkeypatch.setattr("mastra_convex.vector.exact._STREAMED_BYTES", 4 * DIMENSION * 3)
    small = ConvexVector(id="small", deployment=deployment, max_bytes=0)
    for store in (vectors, cast("AsyncConvexVector", _Awaited(small))):
        assert await found(store, index, ROWS[3], top_k=2) == ["v3", "behind"]


@pytest.mark.parametrize("change", ["delete", "update"])
async def test_what_matches_no_more_when_it_is_written_stays(
    vectors: AsyncConvexVector, deployment: Deployment, index: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    matching, other = AsyncExactVectors._matching, ConvexVector(id="other", deployment=deployment)
    wait: list[int] = [3, 5]

    async def then_changed(self: Any, *args: Any) -> Any:
        found = await matching(self, *args)
        if wait:
            number = wait.pop()
            other.update_vector(index_name=index, id=f"v{number}", update={"metadata": {"tags": ["kept"]}})
        return found

    monkeypatch.setattr(AsyncExactVectors, "_matching", then_changed)
    if change == "delete":
        await vectors.delete_vectors(index_name=index, filter={"tags": "all"})
        assert await found(vectors, index, ROWS[3], top_k=SIZE) in (["v3", "v5"], ["v5", "v3"])
    else:
        await vectors.update_vector(index_name=index, filter={"tags": "all"}, update={"metadata": {"new": True}})
        marked = await found(vectors, index, ROWS[3], top_k=SIZE, filter={"new": True})
        assert len(marked) == SIZE - 1
        assert "v5" not in marked


async def test_what_matches_a_filter_is_written_whatever_its_dimension(
    vectors: AsyncConvexVector, deployment: Deployment, index: str
) -> None:
    with Session(deployment) as session:  # past every vector store
        for number in range(30):
            session.add(Vector(id=f"s{number}", index_name=index, embedding=[1.0, 0.0], metadata={"odd": number % 2 == 1}))
        session.commit()
    await vectors.update_vector(index_name=index, filter={"odd": True}, update={"metadata": {"even": False}})
    await vectors.delete_vectors(index_name=index, filter={"odd": False})
    assert (await vectors.describe_index(index_name=index)).count == SIZE + 15
    await vectors.delete_vectors(index_name=index, filter={"even": False})
    assert (await vectors.describe_index(index_name=index)).count == SIZE // 2


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"vectors": [[1.0] * 3]}, "3 dimensions, the index has 16"),
        ({"vectors": [[1.0] * 15 + [float("nan")]]}, "finite"),
        ({"vectors": [[1.0] * 15 + [float("inf")]]}, "finite"),
        ({"vectors": [[0.0] * 16]}, "zero vector"),
        ({"vectors": []}, "one vector or more"),
        ({"vectors": [[1.0] * 16, [1.0] * 15]}, "numbers, as many for each vector"),
        ({"vectors": [["x"] * 16]}, "numbers"),
        ({"vectors": [["1"] * 16]}, "numbers"),
        ({"vectors": [[True] * 16]}, "numbers"),
        ({"vectors": [[1j] * 16]}, "numbers"),
        ({"vectors": [[None] * 16]}, "numbers"),
        ({"vectors": [[10**400] * 16]}, "numbers"),
        ({"vectors": np.ones((1, 16), dtype="datetime64[s]")}, "numbers"),
        ({"vectors": [[1.0] * 16], "ids": ["a", "b"]}, "2 for 1 vectors"),
        ({"vectors": [[1.0] * 16] * 2, "ids": ["a", "a"]}, "an id twice"),
        ({"vectors": [[1.0] * 16], "ids": [""]}, "non-empty"),
        ({"vectors": [[1.0] * 16], "metadata": [{}, {}]}, "one for each vector"),
        ({"vectors": [[1.0] * 16], "metadata": ["text"]}, "mappings"),
    ],
)
async def test_a_bad_upsert_is_refused_and_writes_nothing(
    vectors: AsyncConvexVector, index: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words) as raised:
        await vectors.upsert(index_name=index, **given)
    assert raised.value.id.startswith("MASTRA_STORAGE_CONVEX_UPSERT_")
    assert (await vectors.describe_index(index_name=index)).count == SIZE


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"top_k": 0}, "whole number from 1"),
        ({"top_k": -1}, "whole number from 1"),
        ({"query_vector": [1.0] * 3}, "3 dimensions"),
        ({"query_vector": [0.0] * 16}, "zero vector"),
        ({"query_vector": [float("nan")] * 16}, "finite"),
        ({"filter": {"a": {"$near": 1}}}, r"\$near"),
        ({"filter": {"a": {"$gt": [1]}}}, r"\$gt"),
        ({"filter": {"a": {"$regex": "(a)\\1"}}}, r"\$regex"),
    ],
)
async def test_a_bad_query_is_refused(vectors: AsyncConvexVector, index: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        await vectors.query(**{"index_name": index, "query_vector": ROWS[0], **given})


async def test_unknown_indexes_are_named(vectors: AsyncConvexVector, unique: str) -> None:
    for call in (
        vectors.describe_index(index_name=unique),
        vectors.truncate_index(index_name=unique),
        vectors.query(index_name=unique, query_vector=[1.0]),
        vectors.upsert(index_name=unique, vectors=[[1.0]]),
        vectors.delete_vector(index_name=unique, id="x"),
    ):
        with pytest.raises(IndexNotFound, match=unique):
            await call


EVERYTHING: list[Any] = [
    *({}, {"metadata": {}}, [], "", 0, False),
    *({"$and": []}, {"$or": []}, {"$or": [{}]}, {"$nor": []}, {"a": {"$nin": []}}, {"a": {"$not": {"$in": []}}}),
    *({"$nor": [{"a": {"$in": []}}]}, {"$or": [{"a": 1}, {"a": {"$nin": []}}]}, {"$and": [{"$nor": []}]}),
]
"""Filters without a condition, or of none that is left."""


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"id": "a", "filter": {"a": 1}},
        {"id": ""},
        *({"filter": one} for one in EVERYTHING),
    ],
)
async def test_an_update_needs_an_id_or_a_filter(vectors: AsyncConvexVector, index: str, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        await vectors.update_vector(index_name=index, update={"metadata": {"x": 1}}, **given)


@pytest.mark.parametrize(
    "given", [{}, {"ids": ["a"], "filter": {"a": 1}}, {"ids": []}, {"ids": 0}, *({"filter": one} for one in EVERYTHING)]
)
async def test_a_deletion_needs_ids_or_a_filter(vectors: AsyncConvexVector, index: str, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        await vectors.delete_vectors(index_name=index, **given)
    assert (await vectors.describe_index(index_name=index)).count == SIZE


@pytest.mark.parametrize(("dimension", "metric"), [(0, "cosine"), (True, "cosine"), (8_193, "cosine"), (2, "hamming")])
async def test_an_index_needs_a_dimension_and_a_metric(
    vectors: AsyncConvexVector, unique: str, dimension: Any, metric: str
) -> None:
    with pytest.raises(InvalidArgument):
        await vectors.create_index(index_name=unique, dimension=dimension, metric=metric)
    assert unique not in await vectors.list_indexes()


async def test_an_upsert_beyond_one_commit_says_how_far_it_came(unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from convexorm import AsyncSession, connect

    monkeypatch.setattr("mastra_convex.vector.exact._UPSERTED_AT_ONCE", 50)
    deployment = connect("memory:")
    store = ConvexVector(id="test", deployment=deployment)
    store.create_index(index_name=unique, dimension=DIMENSION)
    upsert, calls = AsyncSession.bulk_upsert, []

    async def failing(self: AsyncSession, model: Any, rows: Any, **under: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise DeploymentError("gone")
        await upsert(self, model, rows, **under)

    monkeypatch.setattr(AsyncSession, "bulk_upsert", failing)
    with pytest.raises(PartialUpsert, match="the first 100 of 120") as raised:
        store.upsert(index_name=unique, vectors=ROWS, ids=IDS)
    assert (raised.value.upserted, raised.value.total) == (100, SIZE)
    assert store.describe_index(index_name=unique).count == 100
    assert isinstance(raised.value, ConvexORMError)


@pytest.mark.parametrize("wrong", [{"metadata": {"x": float("nan")}}, {"metadata": {"x": object()}}, {"id": "\ud800"}])
async def test_what_cannot_be_stored_is_refused_before_the_first_commit(
    vectors: AsyncConvexVector, unique: str, wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mastra_convex.vector.exact._UPSERTED_AT_ONCE", 50)
    await vectors.create_index(index_name=unique, dimension=DIMENSION)
    metadata = [*METADATA[:-1], wrong.get("metadata", {})]
    ids = [*IDS[:-1], wrong.get("id", "last")]
    with pytest.raises(ValidationError):
        await vectors.upsert(index_name=unique, vectors=ROWS, ids=ids, metadata=metadata)
    assert (await vectors.describe_index(index_name=unique)).count == 0


# -- costs ---------------------------------------------------------------------------------------------------------


def test_an_unchanged_index_costs_next_to_nothing(fresh_host: Host) -> None:
    size, dimension = 1_000, 384
    rows = np.random.default_rng(1).standard_normal((size, dimension))
    with fresh_host.connect() as deployment:
        writer = ConvexVector(id="writer", deployment=deployment)
        writer.create_index(index_name="docs", dimension=dimension)
        writer.upsert(index_name="docs", vectors=rows, metadata=[{"number": number} for number in range(size)])
        store = ConvexVector(id="reader", deployment=deployment)

        def cost(call: Any) -> dict[str, int]:
            fresh_host.reset()
            call()
            return fresh_host.metrics()

        def query() -> Any:
            return store.query(index_name="docs", query_vector=rows[3], top_k=10)

        first = cost(query)
        assert first["responseBytes"] < 7_883_675 / 3
        second = cost(query)
        assert (second["calls"], second["documentsRead"]) == (1, 0)
        assert second["responseBytes"] < 4_096
        described = cost(lambda: store.describe_index(index_name="docs"))
        assert described["calls"] == 1
        assert described["responseBytes"] < 1_024
        writer.upsert(index_name="docs", vectors=rows[:3], ids=["x", "y", "z"])
        changed = cost(query)
        assert changed["responseBytes"] < 120_000
