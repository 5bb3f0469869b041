"""The npm package's server cache and Python's are one: values, counters, lists, lifetimes and clearing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from convexorm import Session
from mastra_convex import CacheEntry, ConvexServerCache, WrongCacheKind
from tests.conftest import Host
from tests.interop.oddities import ANY_KEYS, DEEP, LARGE, PLAIN, exactly
from tests.interop.typescript import Clients, NpmError

PREFIX = "interop:"
"""That of the npm client in `programs/clients.ts`."""


@pytest.fixture
def cache(shared_host: Host) -> Iterator[ConvexServerCache]:
    place: dict[str, Any] = {"deployment_url": shared_host.url, "admin_auth_token": shared_host.key}
    with ConvexServerCache(**place, key_prefix=PREFIX, ttl_ms=60_000) as cache:
        yield cache


VALUES: list[Any] = [{**PLAIN, "deep": DEEP}, [PLAIN], 0, False, "", None, "null", '{"a": 1}', LARGE]


@pytest.mark.parametrize("value", VALUES, ids=["object", "list", "zero", "false", "empty", "null", "word", "json", "large"])
def test_values_go_both_ways(cache: ConvexServerCache, npm: Clients, unique: str, value: Any) -> None:
    key = f"{unique} 日本語"
    npm.call("cache", "set", key, value)
    assert exactly(cache.get(key=key)) == exactly(value)
    cache.set(key=key, value=value)
    assert exactly(npm.call("cache", "get", key)) == exactly(value)


def test_what_convex_gives_to_no_client_is_refused_to_the_npm_cache(
    cache: ConvexServerCache, npm: Clients, unique: str
) -> None:
    cache.set(key=unique, value=ANY_KEYS)
    assert exactly(cache.get(key=unique)) == exactly(ANY_KEYS)
    with pytest.raises(NpmError):
        npm.call("cache", "get", unique)


def test_lists_grow_from_both_sides(cache: ConvexServerCache, npm: Clients, unique: str) -> None:
    elements: list[Any] = [PLAIN, 0, False, "", None, [], "日本語", DEEP]
    for number, element in enumerate(elements):
        if number % 2:
            cache.list_push(key=unique, value=element)
        else:
            npm.call("cache", "listPush", unique, element)
    assert cache.list_length(key=unique) == npm.call("cache", "listLength", unique) == 8
    for from_, to in [(0, -1), (2, 5), (-3, -1), (-3, -2), (5, 100), (9, -1), (0, -9), (3, 3)]:
        in_python = cache.list_from_to(key=unique, from_=from_, to=to)
        assert exactly(in_python) == exactly(npm.call("cache", "listFromTo", unique, from_, to))
        assert exactly(in_python) == exactly(elements[slice(from_, None if to == -1 else to + 1)])


def test_counters_count_for_both_sides(cache: ConvexServerCache, npm: Clients, unique: str) -> None:
    counts = [npm.call("cache", "increment", unique), cache.increment(key=unique), npm.call("cache", "increment", unique)]
    assert counts == [1, 2, 3]
    indexed = {"list_key": f"{unique} list", "counter_key": f"{unique} counter"}
    for number in range(3):
        assert cache.list_push_indexed(**indexed, value={"n": number}) == number
    assert npm.call("cache", "increment", f"{unique} counter") == 4
    assert npm.call("cache", "listFromTo", f"{unique} list", 1, 1) == [{"n": 1, "index": 1}]


def test_a_list_and_its_counter_are_prolonged_together_by_both_sides(
    cache: ConvexServerCache, npm: Clients, unique: str, shared_host: Host
) -> None:
    def expiries() -> set[float | None]:
        with shared_host.connect() as deployment, Session(deployment) as session:
            keys = [(f"{PREFIX}{unique} {kind}", PREFIX) for kind in ("list", "counter")]
            return {one.expires_at for one in session.get_many(CacheEntry, keys) if one is not None}

    cache.list_push_indexed(list_key=f"{unique} list", counter_key=f"{unique} counter", value={})
    first = expiries()
    npm.call("cache", "listPush", f"{unique} list", "pushed")
    second = expiries()
    npm.call("cache", "increment", f"{unique} counter")
    assert [len(one) for one in (first, second, expiries())] == [1, 1, 1]
    assert first != second
    assert cache.list_push_indexed(list_key=f"{unique} list", counter_key=f"{unique} counter", value={}) == 2
    assert len(expiries()) == 1


def test_both_tell_one_kind_of_entry_from_another(cache: ConvexServerCache, npm: Clients, unique: str) -> None:
    npm.call("cache", "set", unique, 1)
    with pytest.raises(WrongCacheKind):
        cache.list_push(key=unique, value=1)
    cache.list_push(key=f"{unique} list", value=1)
    with pytest.raises(NpmError):
        npm.call("cache", "increment", f"{unique} list")
    assert (npm.call("cache", "get", f"{unique} list"), cache.get(key=unique)) == (None, 1)


def test_entries_end_for_both_sides(cache: ConvexServerCache, npm: Clients, unique: str) -> None:
    npm.call("cache", "set", f"{unique} npm", 1, 1)
    npm.call("cache", "set", f"{unique} ever", 1, 0)
    cache.set(key=f"{unique} python", value=1, ttl_ms=1)
    gone = False
    for _ in range(10_000):  # a millisecond is over soon, but not at once
        gone = (cache.get(key=f"{unique} npm"), npm.call("cache", "get", f"{unique} python")) == (None, None)
        if gone:
            break
    assert gone
    assert cache.get(key=f"{unique} ever") == 1
    npm.call("cache", "listPush", f"{unique} python", "new")
    assert cache.list_from_to(key=f"{unique} python", from_=0) == ["new"]


def test_deleting_and_clearing_are_seen_by_both_sides(
    cache: ConvexServerCache, npm: Clients, shared_host: Host, unique: str
) -> None:
    def fill() -> None:
        npm.call("cache", "set", f"{unique} value", 1)
        cache.list_push(key=f"{unique} list", value=1)

    def left() -> list[Any]:
        return [npm.call("cache", "listLength", f"{unique} list"), cache.get(key=f"{unique} value")]

    fill()
    cache.delete(key=f"{unique} value")
    npm.call("cache", "delete", f"{unique} list")
    assert left() == [0, None]
    fill()
    npm.call("cache", "clear")
    assert left() == [0, None]
    fill()
    place: dict[str, Any] = {"deployment_url": shared_host.url, "admin_auth_token": shared_host.key}
    with ConvexServerCache(**place, key_prefix=f"{PREFIX}{unique}") as longer:
        longer.clear()
    assert left() == [1, 1]
    cache.clear()
    assert left() == [0, None]
