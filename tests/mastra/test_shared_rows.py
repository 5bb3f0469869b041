"""Rows shared with TypeScript: what Python writes the functions for the npm package read, and the reverse."""

from __future__ import annotations

from typing import Any

import httpx2

from mastra_convex import ConvexServerCache, ConvexStore, ObservationalMemory
from tests.conftest import Host

NOW = "2024-05-01T13:00:00.000Z"
SWAP: dict[str, Any] = {"activation_ratio": 1, "message_tokens_threshold": 1_000, "current_pending_tokens": 100}


class Handler:
    """One of the functions that the npm package calls, called as it does."""

    def __init__(self, host: Host, path: str, **always: Any) -> None:
        self._host, self._path, self._always = host, path, always

    def __call__(self, op: str, **given: Any) -> Any:
        answer = httpx2.post(
            f"{self._host.url}/api/mutation",
            json={"path": self._path, "args": {"op": op, **self._always, **given}, "format": "json"},
            headers={"Authorization": f"Convex {self._host.key}"},
        ).json()
        assert answer["status"] == "success", answer
        assert answer["value"]["ok"], answer
        return answer["value"].get("result")


def test_the_cache_is_shared(host: Host, unique: str) -> None:
    handle = Handler(host, "mastra/cache:handle")
    row = {"keyPrefix": unique, "expiresAt": None}
    with host.connect() as deployment:
        cache = ConvexServerCache(deployment=deployment, key_prefix=unique)
        cache.set(key="v", value={"a": [1, None]})
        assert handle("get", key=f"{unique}v") == {"a": [1, None]}
        handle("set", key=f"{unique}w", value={"b": 1}, **row)
        assert cache.get(key="w") == {"b": 1}
        cache.list_push(key="l", value="a")
        handle("listPush", key=f"{unique}l", value="b", **row)
        cache.list_push(key="l", value=None)
        assert cache.list_from_to(key="l", from_=0) == ["a", "b", None]
        assert handle("listFromTo", key=f"{unique}l", **{"from": 0, "to": -1}) == ["a", "b", None]
        assert handle("listLength", key=f"{unique}l") == cache.list_length(key="l") == 3
        counts = cache.increment(key="c"), handle("increment", key=f"{unique}c", **row), cache.increment(key="c")
        assert counts == (1, 2, 3)
        handle("delete", key=f"{unique}l")
        assert cache.list_length(key="l") == 0
        handle("clear", keyPrefix=unique)
        assert cache.get(key="v") is None


def test_observational_memory_is_shared(host: Host, unique: str) -> None:
    handle = Handler(host, "mastra/storage:handle", tableName="mastra_observational_memory")
    with host.connect() as deployment:
        memory = ConvexStore(id="test", deployment=deployment).memory

        def newest() -> ObservationalMemory:
            record = memory.get_observational_memory(thread_id=unique, resource_id="r")
            assert record is not None
            return record

        begun = memory.initialize_observational_memory(
            thread_id=unique, resource_id="r", scope="thread", config={"a": {"日本語": 1}}
        )
        memory.update_buffered_observations(
            id=begun.id,
            chunk={
                "cycle_id": "c1",
                "observations": "from Python",
                "token_count": 3,
                "message_ids": ["m1"],
                "message_tokens": 100,
                "last_observed_at": begun.created_at,
            },
        )
        chunk = {"id": "ombuf-x", "cycleId": "c2", "observations": "from TypeScript", "tokenCount": 4, "messageIds": ["m2"]}
        times = {"messageTokens": 50, "lastObservedAt": NOW, "createdAt": NOW, "extractedValues": {"a_key": 1}}
        handle("omAppendBufferedChunk", id=begun.id, chunk={**chunk, **times}, updatedAt=NOW)
        assert [one.extracted_values for one in newest().buffered_observation_chunks or []] == [None, {"a_key": 1}]
        swap = {"activationRatio": 1, "messageTokensThreshold": 1_000, "currentPendingTokens": 100, "now": NOW}
        assert handle("omSwapBuffered", id=begun.id, **swap)["activatedCycleIds"] == ["c1"]
        assert memory.swap_buffered_to_active(id=begun.id, **SWAP).activated_cycle_ids == ["c2"]
        assert newest().active_observations == f"from Python\n\n--- message boundary ({NOW}) ---\n\nfrom TypeScript"

        memory.update_buffered_reflection(
            id=begun.id, reflection="R", token_count=1, input_token_count=2, reflected_observation_line_count=4
        )
        current = handle("omGetLatest", lookupKey=f"thread:{unique}")
        handle("omSwapBufferedReflection", currentRecord=current, newId=f"{unique}-2", tokenCount=3, now=NOW)
        second = newest()
        assert (second.id, second.generation_count) == (f"{unique}-2", 1)
        assert second.active_observations == "R\n\nfrom TypeScript"
        memory.update_observational_memory_config(id=second.id, config={"x": {"$schema": 1}})
        handle("omUpdateConfig", id=second.id, config='{"y":1}', updatedAt=NOW)
        assert newest().config == {"a": {"日本語": 1}, "x": {"$schema": 1}, "y": 1}
        history = handle("omGetHistory", lookupKey=f"thread:{unique}", limit=10)
        assert [one["generationCount"] for one in history] == [1, 0]


def test_documents_are_shared(host: Host, unique: str) -> None:
    handle = Handler(host, "mastra/storage:handle", tableName=unique)
    with host.connect() as deployment:
        documents = ConvexStore(id="test", deployment=deployment).documents
        documents.insert(table_name=unique, record={"id": "b", "x": 1})
        handle("insert", record={"id": "a", "x": 1})
        assert handle("load", keys={"id": "b"}) == {"id": "b", "x": 1}
        assert documents.load(table_name=unique, keys={"id": "a"}) == {"id": "a", "x": 1}
        handle("patch", id="b", record={"y": 2})
        documents.patch(table_name=unique, id="b", record={"z": 3})
        assert handle("loadMany", ids=["b"]) == [{"id": "b", "x": 1, "y": 2, "z": 3}]
        handle("deleteMany", ids=["b"])
        assert documents.query_table(table_name=unique) == [{"id": "a", "x": 1}]
