"""What a connection of the sync protocol has asked and was told, without a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest

from convexorm import DeploymentError
from convexorm.deployments.remote.live.messages import Message, Modification, Version, message_in
from convexorm.deployments.remote.live.queries import Queries, Query


def transition(start: Version, end: Version, **values: Any) -> Message:
    """What a server says at a moment: the values of queries by their numbers, such as `q0=1`."""
    modifications = [
        {"type": "QueryUpdated", "queryId": int(name[1:]), "value": value, "journal": f"j{value}"}
        for name, value in values.items()
    ]
    versions = {
        name: {"querySet": one.query_set, "identity": one.identity, "ts": one.ts}
        for name, one in (("startVersion", start), ("endVersion", end))
    }
    return message_in(json.dumps({"type": "Transition", **versions, "modifications": modifications}))


def asked(queries: Queries) -> list[dict[str, Any]]:
    return [json.loads(one) for one in queries.wishes()]


def value(query: Query) -> Any:
    told: Modification | None = query.told
    return None if told is None else json.loads(bytes(told.value))


def test_queries_are_added_and_removed_in_versions_that_rise() -> None:
    queries, one, two = Queries(), Query("orm:read", '{"a":1}'), Query("app:list", "{}", "component")
    queries.begin()
    assert asked(queries) == []
    queries.add(one)
    queries.add(two)
    queries.remove(two)
    (wish,) = asked(queries)
    assert (wish["baseVersion"], wish["newVersion"]) == (0, 1)
    assert wish["modifications"] == [{"type": "Add", "queryId": 0, "udfPath": "orm:read", "args": [{"a": 1}]}]
    queries.add(two)
    queries.remove(one)
    (wish,) = asked(queries)
    assert (wish["baseVersion"], wish["newVersion"]) == (1, 2)
    assert [(told["type"], told["queryId"]) for told in wish["modifications"]] == [("Remove", 0), ("Add", 2)]
    assert wish["modifications"][1]["componentPath"] == "component"
    assert asked(queries) == []


def test_a_new_connection_asks_for_all_again_and_counts_nothing_that_was_told_before() -> None:
    queries, one, two = Queries(), Query("orm:read", "{}"), Query("orm:read", "{}")
    queries.begin()
    queries.add(one)
    queries.add(two)
    list(queries.wishes())
    moment = Version(1, 1, "AQ==")
    queries.take(transition(Version(), moment, q0=1, q1=2))
    assert (value(one), value(two), queries.seen) == (1, 2, "AQ==")
    queries.begin()
    assert (value(one), value(two)) == (None, None), "what is told now is of another moment"
    (wish,) = asked(queries)
    assert (wish["baseVersion"], [told["journal"] for told in wish["modifications"]]) == (0, ["j1", "j2"])
    queries.take(transition(Version(), Version(1, 1, "Ag=="), q1=3))
    assert (value(one), value(two)) == (None, 3)


def test_a_message_that_is_missing_is_found_out() -> None:
    queries = Queries()
    queries.begin()
    queries.take(transition(Version(), Version(1, 1, "AQ==")))
    with pytest.raises(DeploymentError, match="missing"):
        queries.take(transition(Version(1, 1, "Ag=="), Version(1, 1, "Aw==")))


def test_what_is_told_of_a_query_that_was_removed_is_nobodys() -> None:
    queries, one = Queries(), Query("orm:read", "{}")
    queries.begin()
    queries.add(one)
    list(queries.wishes())
    queries.remove(one)
    queries.take(transition(Version(), Version(1, 1, "AQ=="), q0=1))
    assert (value(one), len(queries)) == (None, 0)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"type": 5}', b"\xff", '{"type":"Transition","modifications":5}'])
def test_what_is_no_message_is_refused_and_not_repeated(text: str | bytes) -> None:
    with pytest.raises(DeploymentError, match="no message of the sync protocol"):
        message_in(text)
