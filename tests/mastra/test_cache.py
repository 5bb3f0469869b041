"""The server cache: values, counters and lists that expire, shared with the npm package, and many writers at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier, local
from typing import Any

import pytest

from convexorm import AsyncSession, Deployment, LimitExceeded, Session
from convexorm.errors import InvalidRequestError
from convexorm.faces import finish
from mastra_convex import (
    AsyncConvexServerCache,
    CacheEntry,
    CacheListItem,
    ConvexServerCache,
    InvalidArgument,
    WrongCacheKind,
)
from mastra_convex import (
    cache as module,
)
from tests.mastra.support import awaited
from tests.processes import run_processes

pytestmark = pytest.mark.needs_functions("the handler does not reach the cache")

NESTED: dict[str, Any] = {}
_level = NESTED
for _ in range(40):
    _level["in"] = {}
    _level = _level["in"]
VALUES: list[Any] = [
    *(None, True, 0, 1.5, "", "text", '{"a":1}', "null", [], {}, [None, [1, "a"]]),
    *({"$schema": "x", "日本語": "はい", "": 1, "_a.b": None}, NESTED, {"large": 2**60}, "\x00\ud7ff\U0001f600"),
]


class Clock:
    """The cache's time, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "_milliseconds", clock)
    return clock


def open_cache(face: str, deployment: Deployment, **options: Any) -> AsyncConvexServerCache:
    if face == "async":
        return AsyncConvexServerCache(deployment=deployment, **options)
    return awaited(ConvexServerCache(deployment=deployment, **options))  # type: ignore[arg-type,return-value]


@pytest.fixture(params=["async", "blocking"])
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cache(face: str, deployment: Deployment, unique: str) -> AsyncConvexServerCache:
    """A cache of every kind of deployment, on either face, with a prefix of its own."""
    return open_cache(face, deployment, key_prefix=f"{unique}:")


def rows(deployment: Deployment, key: str) -> tuple[list[CacheEntry], list[CacheListItem]]:
    with Session(deployment) as session:
        return session.read(
            CacheEntry.query().by_index("by_key", key=key), CacheListItem.query().by_index("by_key_index", key=key)
        )


# -- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
async def test_any_json_value_is_got_as_it_was_set(cache: AsyncConvexServerCache, value: Any) -> None:
    await cache.set(key="k", value=value)
    found = await cache.get(key="k")
    assert (found, type(found)) == (value, type(value))


async def test_a_missing_key_is_none(cache: AsyncConvexServerCache) -> None:
    assert await cache.get(key="k") is None
    await cache.delete(key="k")


async def test_setting_replaces_whatever_the_key_holds(cache: AsyncConvexServerCache) -> None:
    await cache.set(key="k", value=1)
    await cache.set(key="k", value=2)
    assert await cache.get(key="k") == 2
    await cache.list_push(key="list", value=1)
    await cache.set(key="list", value="now a value")
    assert (await cache.get(key="list"), await cache.list_from_to(key="list", from_=0)) == ("now a value", [])
    await cache.increment(key="count")
    await cache.set(key="count", value=None)
    assert await cache.get(key="count") is None
    with pytest.raises(WrongCacheKind):
        await cache.increment(key="count")


async def test_a_deleted_key_is_free_for_anything(cache: AsyncConvexServerCache) -> None:
    await cache.set(key="k", value=1)
    await cache.delete(key="k")
    assert await cache.get(key="k") is None
    assert await cache.increment(key="k") == 1
    await cache.delete(key="k")
    await cache.list_push(key="k", value="a")
    await cache.delete(key="k")
    assert await cache.list_length(key="k") == 0
    await cache.list_push(key="k", value="b")
    assert await cache.list_from_to(key="k", from_=0) == ["b"]


async def test_the_empty_key_is_a_key(cache: AsyncConvexServerCache) -> None:
    await cache.set(key="", value=1)
    assert await cache.get(key="") == 1


# -- counters ------------------------------------------------------------------------------------------------------


async def test_counters_count_from_1(cache: AsyncConvexServerCache) -> None:
    assert [await cache.increment(key="k") for _ in range(3)] == [1, 2, 3]
    assert await cache.increment(key="other") == 1
    assert await cache.get(key="k") is None


# -- lists ---------------------------------------------------------------------------------------------------------

POSITIONS = (-9, -5, -4, -2, -1, 0, 1, 3, 4, 5, 9)


async def test_ranges_include_both_ends_and_count_negatives_from_the_end(cache: AsyncConvexServerCache) -> None:
    for number in range(5):
        await cache.list_push(key="k", value={"n": number})
    assert await cache.list_length(key="k") == 5
    assert await cache.list_from_to(key="k", from_=0) == [{"n": number} for number in range(5)]
    for from_ in POSITIONS:
        for to in POSITIONS:
            first, last = (max(5 + from_, 0) if from_ < 0 else from_), (5 + to if to < 0 else to)
            expected = [{"n": number} for number in range(first, min(last, 4) + 1)]
            assert await cache.list_from_to(key="k", from_=from_, to=to) == expected, (from_, to)


async def test_a_missing_list_is_empty(cache: AsyncConvexServerCache) -> None:
    assert await cache.list_length(key="k") == 0
    assert await cache.list_from_to(key="k", from_=-3, to=5) == []


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
async def test_any_json_value_is_an_element(cache: AsyncConvexServerCache, value: Any) -> None:
    await cache.list_push(key="k", value=value)
    assert await cache.list_from_to(key="k", from_=0) == [value]


async def test_indexed_pushes_number_their_elements(cache: AsyncConvexServerCache) -> None:
    for number in range(3):
        assert await cache.list_push_indexed(list_key="l", counter_key="c", value={"n": number}) == number
    assert await cache.list_from_to(key="l", from_=1) == [{"n": 1, "index": 1}, {"n": 2, "index": 2}]
    assert await cache.increment(key="c") == 4
    await cache.set(key="l", value="no list")
    with pytest.raises(WrongCacheKind):
        await cache.list_push_indexed(list_key="l", counter_key="c", value={})
    assert await cache.increment(key="c") == 5


async def test_a_key_of_another_kind_is_an_error_and_stays(cache: AsyncConvexServerCache) -> None:
    await cache.set(key="value", value=1)
    await cache.increment(key="counter")
    await cache.list_push(key="list", value=1)
    for key in ("value", "counter"):
        for call in (cache.list_push(key=key, value=2), cache.list_length(key=key)):
            with pytest.raises(WrongCacheKind) as error:
                await call
            assert (error.value.key, error.value.expected, error.value.actual) == (key, "list", key)
        assert await cache.list_from_to(key=key, from_=0) == []
    for key in ("value", "list"):
        with pytest.raises(WrongCacheKind):
            await cache.increment(key=key)
    assert await cache.get(key="value") == 1
    assert await cache.increment(key="counter") == 2
    assert await cache.list_from_to(key="list", from_=0) == [1]
    assert await cache.get(key="list") is None


# -- expiry --------------------------------------------------------------------------------------------------------


async def test_a_value_lives_as_long_as_it_is_told(cache: AsyncConvexServerCache, clock: Clock) -> None:
    await cache.set(key="default", value=1)
    await cache.set(key="short", value=1, ttl_ms=100)
    await cache.set(key="ever", value=1, ttl_ms=0)
    for moved, alive in ((99, {"default", "short", "ever"}), (1, {"default", "ever"}), (299_899, {"default", "ever"})):
        clock.now += moved
        assert {key for key in ("default", "short", "ever") if await cache.get(key=key)} == alive
    clock.now += 1
    assert await cache.get(key="default") is None
    clock.now += 10**12
    assert await cache.get(key="ever") == 1


async def test_setting_again_begins_a_new_life(cache: AsyncConvexServerCache, clock: Clock) -> None:
    await cache.set(key="k", value=1, ttl_ms=100)
    clock.now += 90
    await cache.set(key="k", value=2, ttl_ms=100)
    clock.now += 90
    assert await cache.get(key="k") == 2
    await cache.set(key="k", value=3, ttl_ms=0)
    clock.now += 10**12
    assert await cache.get(key="k") == 3


async def test_counting_and_pushing_prolong_the_life(cache: AsyncConvexServerCache, clock: Clock) -> None:
    for number in range(3):
        assert await cache.increment(key="c") == number + 1
        await cache.list_push(key="l", value=number)
        clock.now += 299_000
    assert await cache.list_from_to(key="l", from_=0) == [0, 1, 2]
    clock.now += 1_000
    assert await cache.list_length(key="l") == 0
    assert await cache.list_from_to(key="l", from_=0) == []
    assert await cache.increment(key="c") == 1
    await cache.list_push(key="l", value="new")
    assert await cache.list_from_to(key="l", from_=0) == ["new"]
    assert await cache.list_length(key="l") == 1


async def test_what_prolongs_a_life_never_shortens_it(face: str, deployment: Deployment, unique: str, clock: Clock) -> None:
    """A writer whose clock is behind, and one that gives less time."""
    ours, less, ever = (open_cache(face, deployment, key_prefix=unique, ttl_ms=ttl) for ttl in (300_000, 1_000, 0))
    for key in "ab":
        await ours.list_push_indexed(list_key=f"{key}l", counter_key=f"{key}c", value={})
    await ever.increment(key="ever")
    clock.now -= 100_000
    await ours.increment(key="ac")
    await less.list_push(key="al", value=1)
    await less.list_push_indexed(list_key="bl", counter_key="bc", value={})
    await ours.increment(key="ever")
    clock.now += 399_999
    assert [await ours.list_length(key="al"), await ours.list_length(key="bl")] == [2, 2]
    assert [await ours.increment(key=key) for key in ("ac", "bc", "ever")] == [3, 3, 3]


async def test_an_expired_key_is_free_for_anything(cache: AsyncConvexServerCache, clock: Clock) -> None:
    await cache.list_push(key="k", value=1)
    clock.now += 300_000
    assert await cache.increment(key="k") == 1
    clock.now += 300_000
    await cache.set(key="k", value="v")
    clock.now += 300_000
    await cache.list_push(key="k", value=2)
    assert await cache.list_from_to(key="k", from_=0) == [2]


async def test_a_counter_and_its_list_expire_at_one_moment(
    cache: AsyncConvexServerCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two moments of an operation that asked twice, the one would have expired and the other not."""
    clock = {"now": 1_700_000_000_000.0, "step": 1_000.0}

    def ticking() -> float:
        clock["now"] += clock["step"]
        return clock["now"]

    monkeypatch.setattr(module, "_milliseconds", ticking)
    assert await cache.list_push_indexed(list_key="l", counter_key="c", value={}) == 0
    clock.update(now=clock["now"] + 299_500, step=0)
    for _ in range(2):
        last = await cache.list_push_indexed(list_key="l", counter_key="c", value={})
    assert await cache.list_from_to(key="l", from_=0) == [{"index": index} for index in range(last + 1)]


PAIRED = ("push", "count", "index", "index", "index", "wait", "wait", "drop", "set", "delete")


async def test_a_list_has_no_index_twice_and_lives_as_long_as_its_counter(
    face: str, deployment: Deployment, unique: str, clock: Clock
) -> None:
    """Whatever is done to either in between: pushing, counting, setting and deleting, with time going by."""
    caches = [open_cache(face, deployment, key_prefix=unique, ttl_ms=ttl) for ttl in (300_000, 300_000, 400_000)]
    chance = random.Random(1)
    for _ in range(60):
        cache, step = chance.choice(caches), chance.choice(PAIRED)
        if step == "push":
            await cache.list_push(key="l", value={"plain": True})
        elif step == "count":
            await suppressed(cache.increment(key="c"))
        elif step == "wait":
            clock.now += chance.choice([100_000, 250_000, 299_999, 300_000])
        elif step == "drop":
            await cache.delete(key="c")
        elif step == "set":
            await cache.set(key="c", value=1, ttl_ms=chance.choice([1, 100_000]))
        elif step == "delete" and chance.random() < 0.3:
            await cache.delete(key="l")
        else:
            index = await suppressed(cache.list_push_indexed(list_key="l", counter_key="c", value={"at": clock.now}))
            if index is not None:
                assert (await cache.list_from_to(key="l", from_=-1))[0]["index"] == index
        indexes = [one["index"] for one in await cache.list_from_to(key="l", from_=0) if "index" in one]
        assert indexes == sorted(set(indexes))
        heads = [one for key in "lc" for one in rows(deployment, unique + key)[0] if one.kind in ("list", "counter")]
        if len({one.key for one in heads if one.partner and (one.expires_at or 0) > clock.now}) == 2:
            assert len({one.expires_at for one in heads}) == 1


async def suppressed(call: Awaitable[int]) -> int | None:
    """What a call answers, None where the key holds another kind."""
    try:
        return await call
    except WrongCacheKind:
        return None


async def test_what_prolongs_a_list_prolongs_its_counter_and_the_other_way_round(
    cache: AsyncConvexServerCache, clock: Clock
) -> None:
    for prolonged in (cache.list_push(key="l", value={}), cache.increment(key="c")):
        before = await cache.list_push_indexed(list_key="l", counter_key="c", value={})
        clock.now += 299_000
        await prolonged
        clock.now += 299_000
        assert await cache.list_push_indexed(list_key="l", counter_key="c", value={}) > before
        assert await cache.list_length(key="l") > 1


async def test_a_cache_without_a_time_to_live_keeps_everything(
    face: str, deployment: Deployment, unique: str, clock: Clock
) -> None:
    cache = open_cache(face, deployment, key_prefix=unique, ttl_ms=0)
    await cache.set(key="k", value=1)
    await cache.increment(key="c")
    await cache.set(key="short", value=1, ttl_ms=5)
    clock.now += 10**13
    assert (await cache.get(key="k"), await cache.increment(key="c"), await cache.get(key="short")) == (1, 2, None)


async def test_the_real_clock_expires_too(cache: AsyncConvexServerCache) -> None:
    await cache.set(key="k", value=1, ttl_ms=1)
    for _ in range(100_000):
        if await cache.get(key="k") is None:
            return
    pytest.fail("an entry outlived its millisecond by far")


# -- clearing ------------------------------------------------------------------------------------------------------


async def fill(cache: AsyncConvexServerCache) -> None:
    await cache.set(key="value", value=1)
    await cache.increment(key="counter")
    await cache.list_push(key="list", value=1)


async def count(cache: AsyncConvexServerCache) -> int:
    return bool(await cache.get(key="value")) + await cache.list_length(key="list")


async def test_clearing_takes_only_what_has_exactly_the_prefix(face: str, deployment: Deployment, unique: str) -> None:
    outer, inner = (open_cache(face, deployment, key_prefix=prefix) for prefix in (unique, f"{unique}:in:"))
    for cache in (outer, inner):
        await fill(cache)
    await outer.clear()
    assert (await count(outer), await count(inner)) == (0, 2)
    assert await outer.increment(key="counter") == 1
    assert await inner.increment(key="counter") == 2
    for key in ("value", "list"):
        assert rows(deployment, unique + key) == ([], [])


async def test_caches_with_other_prefixes_do_not_see_each_other(face: str, deployment: Deployment, unique: str) -> None:
    one, two = (open_cache(face, deployment, key_prefix=f"{unique}{name}") for name in "ab")
    await one.set(key="k", value=1)
    assert await two.get(key="k") is None
    await two.delete(key="k")
    assert await one.get(key="k") == 1


async def test_prefixes_that_spell_one_key_do_not_cross(face: str, deployment: Deployment, unique: str) -> None:
    one, two = (open_cache(face, deployment, key_prefix=f"{unique}{prefix}") for prefix in ("t", "t1"))
    mine, theirs = (one, "1x"), (two, "x")
    for (cache, key), (other, same) in ((mine, theirs), (theirs, mine)):
        await cache.set(key=key, value="secret")
        await cache.increment(key=f"{key}c")
        await cache.list_push(key=f"{key}l", value="secret")
        assert await other.get(key=same) is None
        assert (await other.list_length(key=f"{same}l"), await other.list_from_to(key=f"{same}l", from_=-9)) == (0, [])
        await other.set(key=same, value="other")
        assert await other.increment(key=f"{same}c") == 1
        assert await other.list_push_indexed(list_key=f"{same}l", counter_key=f"{same}i", value={}) == 0
        assert await cache.get(key=key) == "secret"
        assert await cache.increment(key=f"{key}c") == 2
        assert await cache.list_from_to(key=f"{key}l", from_=0) == ["secret"]
        await other.delete(key=f"{same}l")
        await other.set(key=f"{same}c", value=1)
        assert await cache.list_length(key=f"{key}l") == 1
        await other.clear()
        assert (await cache.get(key=key), await cache.increment(key=f"{key}c")) == ("secret", 3)
        assert await other.get(key=same) is None
        await cache.clear()
        for name in ("", "c", "l"):
            assert rows(deployment, f"{unique}t1x{name}") == ([], [])


# -- rows ----------------------------------------------------------------------------------------------------------


async def test_rows_are_those_of_the_npm_package(face: str, deployment: Deployment, unique: str, clock: Clock) -> None:
    cache = open_cache(face, deployment, key_prefix=unique)
    await cache.set(key="v", value={"snake_case": "はい"}, ttl_ms=0)
    await cache.increment(key="c")
    await cache.list_push(key="l", value=None)
    await cache.list_push(key="l", value="two")
    documents = []
    for key in "vcl":
        for found in rows(deployment, unique + key):
            documents += [one._state.document for one in found]
    shown = [{name: one[name] for name in one if not name.startswith("_")} for one in documents if one]
    expires_at = clock.now + 300_000
    assert shown == [
        {"key": f"{unique}v", "keyPrefix": unique, "kind": "value", "value": '{"snake_case":"はい"}', "expiresAt": None},
        {"key": f"{unique}c", "keyPrefix": unique, "kind": "counter", "counter": 1, "expiresAt": expires_at},
        {"key": f"{unique}l", "keyPrefix": unique, "kind": "list", "counter": 2, "expiresAt": expires_at},
        {"key": f"{unique}l", "keyPrefix": unique, "index": 0, "value": "null"},
        {"key": f"{unique}l", "keyPrefix": unique, "index": 1, "value": '"two"'},
    ]


def store_list(deployment: Deployment, key: str, prefix: str, count: int, *, kind: Any = "list", size: int = 1) -> None:
    """A list of so many elements, as a writer leaves it."""
    with Session(deployment) as session:
        session.add(CacheEntry(key=key, key_prefix=prefix, kind=kind, counter=count, expires_at=None))
        for number in range(count):
            session.add(CacheListItem(key=key, key_prefix=prefix, index=number, value="x" * size), returning=False)
        session.commit()


async def test_a_key_that_is_being_deleted_holds_nothing(face: str, deployment: Deployment, unique: str) -> None:
    cache = open_cache(face, deployment, key_prefix=unique)
    for key in "abc":
        store_list(deployment, unique + key, unique, 3, kind="deleted")
    assert (await cache.get(key="a"), await cache.list_length(key="a")) == (None, 0)
    assert await cache.list_from_to(key="a", from_=0) == []
    await cache.list_push(key="a", value="new")
    assert await cache.list_from_to(key="a", from_=0) == ["new"]
    assert await cache.increment(key="b") == 1
    await cache.set(key="c", value=1)
    assert [len(items) for _, items in (rows(deployment, unique + key) for key in "abc")] == [1, 0, 0]


# -- long lists ----------------------------------------------------------------------------------------------------

LONG = 4_100
"""More elements than one commit deletes."""


@pytest.fixture(params=["memory", "sqlite"])
def embedded(request: pytest.FixtureRequest, open_deployment: Callable[[str], Deployment]) -> Deployment:
    return open_deployment(request.param)


async def test_lists_too_long_for_one_commit_are_deleted(face: str, embedded: Deployment, clock: Clock) -> None:
    cache = open_cache(face, embedded, key_prefix="p:")
    for key in ("deleted", "set", "expired", "counted"):
        store_list(embedded, f"p:{key}", "p:", LONG)
        if key in ("expired", "counted"):
            with Session(embedded) as session:
                session.update(CacheEntry, (f"p:{key}", "p:"), {"expires_at": clock.now})
                session.commit()
    assert len(await cache.list_from_to(key="set", from_=-LONG)) == LONG
    await cache.delete(key="deleted")
    assert rows(embedded, "p:deleted") == ([], [])
    await cache.set(key="set", value=1)
    assert await cache.get(key="set") == 1
    await cache.list_push(key="expired", value="new")
    assert await cache.list_from_to(key="expired", from_=0) == ["new"]
    assert await cache.increment(key="counted") == 1
    assert rows(embedded, "p:set")[1] == rows(embedded, "p:counted")[1] == []


async def test_elements_too_large_for_one_commit_are_deleted(face: str, embedded: Deployment) -> None:
    cache = open_cache(face, embedded, key_prefix="p:")
    store_list(embedded, "p:k", "p:", 14, size=900_000)
    await cache.delete(key="k")
    assert rows(embedded, "p:k") == ([], [])


async def test_a_cache_too_large_for_one_commit_is_cleared(face: str, embedded: Deployment) -> None:
    cache = open_cache(face, embedded, key_prefix="p:")
    other = open_cache(face, embedded, key_prefix="p:q")
    store_list(embedded, "p:k", "p:", LONG)
    store_list(embedded, "p:m", "p:", 5, kind="deleted")
    store_list(embedded, "p:qk", "p:q", 3)
    with Session(embedded) as session:
        for number in range(LONG):  # elements of a list whose head is gone, or has another prefix now
            key = "p:gone" if number % 2 else "p:qk"
            session.add(CacheListItem(key=key, key_prefix="p:", index=10 + number, value=1), returning=False)
        session.commit()
    await fill(cache)
    await cache.clear()
    with Session(embedded) as session:
        assert session.count(CacheEntry.query().by_index("by_key_prefix", key_prefix="p:")) == 0
        assert session.count(CacheListItem.query().by_index("by_key_prefix", key_prefix="p:")) == 0
    assert await other.list_length(key="k") == 3
    assert len(await other.list_from_to(key="k", from_=0)) == 3


async def test_a_list_begun_while_the_old_one_is_deleted_keeps_its_elements(
    embedded: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting in pieces stops where another writer has put the key to use again."""
    cache = ConvexServerCache(deployment=embedded, key_prefix="p:", ttl_ms=0)
    store_list(embedded, "p:k", "p:", 3 * LONG)
    pieces: list[Any] = []
    transact = AsyncSession.transact

    async def interrupted(self: AsyncSession, fn: Any) -> Any:
        answer = await transact(self, fn)
        pieces.append(answer)
        if len(pieces) == 1:
            monkeypatch.undo()
            with Session(embedded) as other:
                other.delete_all(CacheListItem.query().by_index("by_key_index", key="p:k"))
            cache.list_push(key="k", value="new")
            monkeypatch.setattr(AsyncSession, "transact", interrupted)
        return answer

    monkeypatch.setattr(AsyncSession, "transact", interrupted)
    session = cache._core._session()
    finish(cache._core._swept(session, "p:k", 0, live=True))
    assert pieces == [True, False]
    assert cache.list_from_to(key="k", from_=0) == ["new"]


# -- bad input -----------------------------------------------------------------------------------------------------


class Unreachable:
    """A deployment that nothing may reach."""

    blocking = asynchronous = None


BAD: list[tuple[str, dict[str, Any]]] = [
    *((method, {"key": key}) for method in ("get", "delete", "increment", "list_length") for key in (None, 5, b"k")),
    ("set", {"key": 1, "value": 1}),
    *(("set", {"key": "k", "value": 1, "ttl_ms": ttl}) for ttl in (-1, float("nan"), float("inf"), "5", True)),
    *(("set", {"key": "k", "value": value}) for value in (float("nan"), object(), {1, 2}, datetime(2024, 1, 1), b"x")),
    *(("list_push", {"key": "k", "value": value}) for value in (float("inf"), object())),
    *(("list_from_to", {"key": "k", "from_": from_, "to": 1}) for from_ in (None, 1.5, "0", True, -(10**20))),
    ("list_from_to", {"key": "k", "from_": 0, "to": None}),
    ("list_push_indexed", {"list_key": "k", "counter_key": "k", "value": {}}),
    ("list_push_indexed", {"list_key": "k", "counter_key": "c", "value": [1]}),
    ("list_push_indexed", {"list_key": "k", "counter_key": None, "value": {}}),
]


@pytest.mark.parametrize(("method", "given"), BAD)
def test_bad_input_is_refused_before_anything_is_read(method: str, given: dict[str, Any]) -> None:
    cache = ConvexServerCache(deployment=Unreachable())  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as error:
        getattr(cache, method)(**given)
    assert error.value.operation == method.upper()


async def test_a_value_over_the_document_limit_is_refused_and_changes_nothing(cache: AsyncConvexServerCache) -> None:
    await cache.list_push(key="k", value=1)
    await cache.set(key="v", value=1)
    for call in (
        cache.set(key="k", value="x" * (1 << 20)),
        cache.set(key="v", value="x" * (1 << 20)),
        cache.list_push(key="k", value="x" * (1 << 20)),
    ):
        with pytest.raises(LimitExceeded):
            await call
    assert (await cache.list_from_to(key="k", from_=0), await cache.get(key="v")) == ([1], 1)


async def test_dates_become_text(cache: AsyncConvexServerCache) -> None:
    await cache.set(key="k", value={"at": datetime(2024, 5, 1, tzinfo=UTC)})
    assert await cache.get(key="k") == {"at": "2024-05-01T00:00:00.000Z"}


def test_a_cache_is_told_one_deployment(open_deployment: Callable[[str], Deployment]) -> None:
    deployment = open_deployment("memory")
    told: list[dict[str, Any]] = [{"deployment_url": "memory:"}, {"admin_auth_token": "k"}]
    for options in told:
        with pytest.raises(InvalidRequestError):
            ConvexServerCache(deployment=deployment, **options)
    wrongs: list[dict[str, Any]] = [{"ttl_ms": -1}, {"key_prefix": 5}, {"key_prefix": None}, {"key_prefix": "\ud800"}]
    for wrong in wrongs:
        for kind in (AsyncConvexServerCache, ConvexServerCache):
            with pytest.raises(InvalidArgument, match=next(iter(wrong))):
                kind(deployment=deployment, **wrong)


async def test_a_cache_closes_what_it_has_opened(open_deployment: Callable[[str], Deployment]) -> None:
    with ConvexServerCache(deployment_url="memory:") as cache:
        assert cache.increment(key="k") == 1
    deployment = open_deployment("memory")
    async with AsyncConvexServerCache(deployment=deployment) as kept:
        await kept.set(key="k", value=1)
    with ConvexServerCache(deployment=deployment) as again:
        assert again.get(key="k") == 1


# -- many writers --------------------------------------------------------------------------------------------------

WRITERS = 50


def work(cache: ConvexServerCache, number: int) -> tuple[int, int]:
    cache.list_push(key="list", value=number)
    index = cache.list_push_indexed(list_key="indexed", counter_key="indexes", value={"n": number})
    return cache.increment(key="counter"), index


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_counts_and_elements_from_threads_are_all_kept(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    cache = ConvexServerCache(deployment=open_deployment(kind), key_prefix=unique)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda number: work(cache, number), range(WRITERS)))
    assert sorted(count for count, _ in answers) == list(range(1, WRITERS + 1))
    assert sorted(index for _, index in answers) == list(range(WRITERS))
    check_lists(cache)


def check_lists(cache: ConvexServerCache) -> None:
    assert cache.list_length(key="list") == cache.list_length(key="indexed") == WRITERS
    assert sorted(cache.list_from_to(key="list", from_=0)) == list(range(WRITERS))
    indexed = cache.list_from_to(key="indexed", from_=0)
    assert [one["index"] for one in indexed] == list(range(WRITERS))
    assert sorted(one["n"] for one in indexed) == list(range(WRITERS))


async def test_counts_and_elements_from_tasks_are_all_kept(deployment: Deployment, unique: str) -> None:
    cache = AsyncConvexServerCache(deployment=deployment, key_prefix=unique)
    await asyncio.gather(*(cache.list_push(key="l", value=number) for number in range(WRITERS)))
    counts = await asyncio.gather(*(cache.increment(key="c") for _ in range(WRITERS)))
    assert sorted(counts) == list(range(1, WRITERS + 1))
    assert sorted(await cache.list_from_to(key="l", from_=0)) == list(range(WRITERS))


def test_counts_and_elements_from_processes_are_all_kept(open_deployment: Callable[[str], Deployment]) -> None:
    deployment = open_deployment("sqlite")
    run_processes(deployment, work_some, processes=5)
    cache = ConvexServerCache(deployment=deployment)
    check_lists(cache)
    assert cache.increment(key="counter") == WRITERS + 1


def work_some(deployment: Deployment, worker: int) -> None:
    cache = ConvexServerCache(deployment=deployment)
    for number in range(10):
        work(cache, worker * 10 + number)


def test_an_expired_list_is_begun_anew_by_one_of_many(
    open_deployment: Callable[[str], Deployment], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = open_deployment("sqlite")
    cache = ConvexServerCache(deployment=deployment, key_prefix="p:")
    store_list(deployment, "p:k", "p:", 20)
    with Session(deployment) as session:
        session.update(CacheEntry, ("p:k", "p:"), {"expires_at": clock.now})
        session.commit()
    all_have_read = Barrier(8)
    own = local()
    expiry = module._expiry

    def wait(moment: float, ttl_ms: float) -> float | None:
        if not hasattr(own, "waited"):
            own.waited = True
            all_have_read.wait()
        return expiry(moment, ttl_ms)

    monkeypatch.setattr(module, "_expiry", wait)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: cache.list_push(key="k", value=number), range(8)))
    assert sorted(cache.list_from_to(key="k", from_=0)) == list(range(8))
