"""Vectors that one side stores the other one finds: the same ids, the same scores, in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mastra_convex.vector import ConvexVector, IndexStats
from tests.conftest import Host
from tests.interop.oddities import ANY_KEYS, DEEP, PLAIN, exactly
from tests.interop.typescript import Clients, NpmError

DIMENSION = 96
COUNT = 300
METADATA: dict[str, Any] = {**PLAIN, "deep": DEEP}


@pytest.fixture
def vectors(shared_host: Host) -> Iterator[ConvexVector]:
    with ConvexVector(id="python", deployment_url=shared_host.url, admin_auth_token=shared_host.key) as vectors:
        yield vectors


def some(seed: int, count: int = COUNT) -> list[list[float]]:
    """Vectors of random numbers, always the same for a seed."""
    matrix: list[list[float]] = np.random.default_rng(seed).standard_normal((count, DIMENSION)).tolist()
    return matrix


def test_both_find_what_either_has_stored(vectors: ConvexVector, npm: Clients, unique: str) -> None:
    npm.call("vector", "createIndex", {"indexName": unique, "dimension": DIMENSION})
    assert vectors.describe_index(index_name=unique) == IndexStats(DIMENSION, 0, "cosine")
    assert unique in vectors.list_indexes()

    def metadata(number: int) -> dict[str, Any]:
        return {"number": number, "kind": "even" if number % 2 == 0 else "odd", "odd": METADATA}

    ids = [f"{number} 日本語" for number in range(2 * COUNT)]
    metadatas = [metadata(number) for number in range(2 * COUNT)]
    rows = some(1, 2 * COUNT)
    of_npm = {"ids": ids[:COUNT], "vectors": rows[:COUNT], "metadata": metadatas[:COUNT]}
    assert npm.call("vector", "upsert", {"indexName": unique, **of_npm}) == ids[:COUNT]
    vectors.upsert(index_name=unique, ids=ids[COUNT:], vectors=rows[COUNT:], metadata=metadatas[COUNT:])
    assert npm.call("vector", "describeIndex", {"indexName": unique})["count"] == 2 * COUNT
    assert vectors.describe_index(index_name=unique).count == 2 * COUNT

    filters: list[dict[str, Any]] = [
        {},
        {"kind": "even"},
        {"number": {"$gt": COUNT}},
        {"kind": {"$in": ["odd", None]}},
        {"$or": [{"number": 3}, {"$and": [{"kind": "even"}, {"number": {"$lte": 40}}]}]},
    ]
    for number, queried in enumerate(some(2, len(filters))):
        wanted = filters[number]
        asked = {"queryVector": queried, "topK": 25, "filter": wanted, "includeVector": True}
        in_npm = npm.call("vector", "query", {"indexName": unique, **asked})
        in_python = vectors.query(index_name=unique, query_vector=queried, top_k=25, filter=wanted, include_vector=True)
        assert [one.id for one in in_python] == [one["id"] for one in in_npm]
        assert [one.score for one in in_python] == pytest.approx([one["score"] for one in in_npm], rel=1e-12, abs=1e-12)
        assert [one.vector for one in in_python] == [one["vector"] for one in in_npm]
        assert exactly([one.metadata for one in in_python]) == exactly([one["metadata"] for one in in_npm])
        assert len(in_python) == (22 if "$or" in wanted else 25)


def test_changes_of_either_side_are_seen_by_the_other(vectors: ConvexVector, npm: Clients, unique: str) -> None:
    vectors.create_index(index_name=unique, dimension=DIMENSION)
    rows, (queried,) = some(3, 6), some(4, 1)
    ids = [str(number) for number in range(6)]
    vectors.upsert(index_name=unique, ids=ids, vectors=rows, metadata=[{"n": number} for number in range(6)])

    def both() -> list[tuple[str, Any]]:
        in_npm = npm.call("vector", "query", {"indexName": unique, "queryVector": queried, "topK": 9})
        in_python = vectors.query(index_name=unique, query_vector=queried, top_k=9)
        assert [(one["id"], one.get("metadata")) for one in in_npm] == [(one.id, one.metadata) for one in in_python]
        return [(one.id, one.metadata) for one in in_python]

    assert sorted(both()) == [(str(number), {"n": number}) for number in range(6)]
    nearest = {"id": "3", "update": {"vector": queried, "metadata": {"npm": None}}}
    npm.call("vector", "updateVector", {"indexName": unique, **nearest})
    assert both()[0] == ("3", {"n": 3, "npm": None})
    opposite = [-number for number in queried]
    vectors.update_vector(index_name=unique, id="3", update={"vector": opposite, "metadata": {"python": False}})
    assert both()[-1] == ("3", {"n": 3, "npm": None, "python": False})
    npm.call("vector", "upsert", {"indexName": unique, "ids": ["3"], "vectors": [queried]})
    assert both()[0] == ("3", None)
    npm.call("vector", "deleteVector", {"indexName": unique, "id": "3"})
    vectors.delete_vectors(index_name=unique, filter={"n": {"$in": [0, 1]}})
    assert sorted(id for id, _ in both()) == ["2", "4", "5"]
    npm.call("vector", "truncateIndex", {"indexName": unique})
    assert both() == []
    vectors.delete_index(index_name=unique)
    assert unique not in npm.call("vector", "listIndexes")


def test_what_is_wrong_is_refused_to_either_side(vectors: ConvexVector, npm: Clients, unique: str) -> None:
    vectors.create_index(index_name=unique, dimension=DIMENSION)
    with pytest.raises(NpmError):
        npm.call("vector", "createIndex", {"indexName": unique, "dimension": DIMENSION + 1})
    with pytest.raises(NpmError):
        npm.call("vector", "upsert", {"indexName": unique, "vectors": [[1.0]]})
    assert vectors.describe_index(index_name=unique) == IndexStats(DIMENSION, 0, "cosine")


def test_metadata_that_convex_gives_to_no_client_comes_as_text(vectors: ConvexVector, npm: Clients, unique: str) -> None:
    vectors.create_index(index_name=unique, dimension=2)
    vectors.upsert(index_name=unique, ids=["odd", "plain"], vectors=[[1, 0], [0, 1]], metadata=[ANY_KEYS, {"a": 0}])
    (found,) = vectors.query(index_name=unique, query_vector=[1, 0], top_k=1)
    assert exactly(found.metadata) == exactly(ANY_KEYS)
    first, second = npm.call("vector", "query", {"indexName": unique, "queryVector": [1, 0]})
    assert (first["id"], first["score"], second["metadata"]) == ("odd", 1, {"a": 0})
    assert isinstance(first["metadata"], str)
