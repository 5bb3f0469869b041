"""Threads: saved whole, changed by merging, listed in order and in pages, deleted with their messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

import pytest

from convexorm import Deployment, Session
from mastra_convex import AsyncMemory, ConvexStore, InvalidArgument, Message, Resource, Thread, ThreadNotFound
from tests.mastra.support import at, ids, message, messages, thread

NESTED: dict[str, Any] = {}
_level = NESTED
for _ in range(40):
    _level["in"] = {}
    _level = _level["in"]

METADATA = [
    {},
    {"topic": "plants", "depth": 1, "ratio": 0.5, "done": False, "none": None, "tags": ["a", 1, None]},
    {"$schema": "https://json-schema.org/draft/2020-12/schema"},
    {"日本語": "はい", "": "no name"},
    {"_private": True, "a.b": 1},
    NESTED,
    {"wide": {f"key{number}": number for number in range(1_100)}},
    {"large": 2**60},
    {"text": '{"a":1}', "null": "null"},
]


# -- saving and getting --------------------------------------------------------------------------------------------


async def test_a_saved_thread_is_got_by_its_id(memory: AsyncMemory, unique: str) -> None:
    saved = await memory.save_thread(thread=thread(unique, "r", title="Plants", metadata={"topic": "plants"}))
    found = await memory.get_thread_by_id(thread_id=unique)
    for one in (saved, found):
        assert one is not None
        assert (one.id, one.resource_id, one.title, one.metadata) == (unique, "r", "Plants", {"topic": "plants"})
        assert one.created_at == one.updated_at == at(0)


async def test_a_missing_thread_is_none(memory: AsyncMemory, unique: str) -> None:
    assert await memory.get_thread_by_id(thread_id=unique) is None


async def test_a_thread_of_another_resource_is_none(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(unique, "r"))
    assert await memory.get_thread_by_id(thread_id=unique, resource_id="r") is not None
    assert await memory.get_thread_by_id(thread_id=unique, resource_id="s") is None


@pytest.mark.needs_functions("a thread without a title has an empty one there")
async def test_saving_replaces_the_thread_whole(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(unique, "r", metadata={"a": 1}))
    await memory.save_thread(thread={"id": unique, "resource_id": "s"})
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert (found.resource_id, found.title, found.metadata) == ("s", None, {})
    listed = await memory.list_threads(filter={"resource_id": unique})
    assert listed.threads == []


async def test_an_entity_is_saved_like_a_mapping_and_stays_the_callers(memory: AsyncMemory, unique: str) -> None:
    given = Thread(id=unique, resource_id="r", created_at=at(0), updated_at=at(1))
    await memory.save_thread(thread=given)
    await memory.save_thread(thread=given)
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert await memory.save_thread(thread=found) is not found
    assert found.updated_at == at(1)


async def test_timestamps_may_be_text_and_are_read_in_utc_to_the_millisecond(memory: AsyncMemory, unique: str) -> None:
    there = timezone(timedelta(hours=2))
    saved = await memory.save_thread(
        thread=thread(
            unique,
            "r",
            created_at="2024-05-01T14:00:00.123456+02:00",
            updated_at=datetime(2024, 5, 1, 14, 0, 1, 999_999, tzinfo=there),
        )
    )
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    for one in (saved, found):
        assert (one.created_at, one.updated_at) == (at(0.123), at(1.999))
        assert one.created_at.utcoffset() == one.updated_at.utcoffset() == timedelta(0)


async def test_timestamps_default_to_now(memory: AsyncMemory, unique: str) -> None:
    saved = await memory.save_thread(thread={"id": unique, "resource_id": "r"})
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert saved.created_at == saved.updated_at == found.created_at == found.updated_at
    assert found.created_at.microsecond % 1000 == 0


@pytest.mark.parametrize("metadata", METADATA, ids=lambda value: repr(value)[:24])
async def test_metadata_is_read_as_it_was_saved(memory: AsyncMemory, unique: str, metadata: dict[str, Any]) -> None:
    saved = await memory.save_thread(thread=thread(unique, "r", metadata=metadata))
    assert saved.metadata == metadata
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert found.metadata == metadata


# -- updating ------------------------------------------------------------------------------------------------------


async def test_an_update_changes_what_is_given(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(unique, "r", title="old", metadata={"a": 1}))
    changed = await memory.update_thread(id=unique, title="new")
    assert (changed.title, changed.metadata) == ("new", {"a": 1})
    changed = await memory.update_thread(id=unique, metadata={"b": 2})
    assert (changed.title, changed.metadata) == ("new", {"a": 1, "b": 2})
    changed = await memory.patch_thread(id=unique, title="newest")
    assert changed.title == "newest"


async def test_an_empty_title_counts(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(unique, "r", title="old"))
    assert (await memory.update_thread(id=unique, title="")).title == ""
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert found.title == ""


async def test_metadata_merges_one_level_deep(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(unique, "r", metadata={"keep": 1, "deep": {"a": 1, "b": 2}}))
    await memory.update_thread(id=unique, metadata={"deep": {"a": 3}, "none": None})
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert found.metadata == {"keep": 1, "deep": {"a": 3}, "none": None}


async def test_metadata_merges_across_both_of_its_forms(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(unique, "r", metadata={"a": 1}))
    await memory.update_thread(id=unique, metadata={"$schema": "s"})
    await memory.update_thread(id=unique, metadata={"b": 2})
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert found.metadata == {"a": 1, "$schema": "s", "b": 2}


async def test_an_update_marks_the_thread_as_updated(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(unique, "r"))
    changed = await memory.update_thread(id=unique)
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert changed.updated_at == found.updated_at > at(0)
    assert found.created_at == at(0)


async def test_updating_a_missing_thread_is_an_error(memory: AsyncMemory, unique: str) -> None:
    for method in (memory.update_thread, memory.patch_thread):
        with pytest.raises(ThreadNotFound) as caught:
            await method(id=unique, title="x")
        assert caught.value.id == "MASTRA_STORAGE_CONVEX_UPDATE_THREAD_THREAD_NOT_FOUND"
        assert caught.value.thread_id == unique
    assert await memory.get_thread_by_id(thread_id=unique) is None


async def test_metadata_is_changed_by_a_function_of_the_thread(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(unique, "r", metadata={"count": 1, "keep": True}))
    changed = await memory.update_thread_metadata(
        id=unique, update=lambda one: {"count": (one.metadata or {})["count"] + 1}
    )
    assert changed is not None
    assert changed.metadata == {"count": 2, "keep": True}
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert found.metadata == {"count": 2, "keep": True}
    assert found.updated_at > at(0)


async def test_a_function_that_answers_none_changes_nothing(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(unique, "r", metadata={"a": 1}))
    assert await memory.update_thread_metadata(id=unique, update=lambda one: None) is not None
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert (found.metadata, found.updated_at) == ({"a": 1}, at(0))


async def test_a_function_is_not_asked_about_a_thread_that_is_missing_or_another_resources(
    memory: AsyncMemory, unique: str
) -> None:
    def never(one: Thread) -> dict[str, Any]:
        raise AssertionError("it was asked")

    assert await memory.update_thread_metadata(id=unique, update=never) is None
    await memory.save_thread(thread=thread(unique, "r"))
    assert await memory.update_thread_metadata(id=unique, update=never, resource_id="s") is None


# -- what other writers have stored --------------------------------------------------------------------------------


async def test_metadata_stored_as_json_text_is_read_filtered_and_merged(
    memory: AsyncMemory, deployment: Deployment, unique: str
) -> None:
    await memory.save_thread(thread=thread(unique, unique))
    with Session(deployment) as session:
        session.update(Thread, unique, {"metadata": '{"topic":"plants","count":1,"$id":"x"}'})
        session.commit()
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert found.metadata == {"topic": "plants", "count": 1, "$id": "x"}
    for wanted, there in (({"topic": "plants", "count": 1.0}, True), ({"count": True}, False), ({"other": None}, False)):
        listed = await memory.list_threads(filter={"resource_id": unique, "metadata": wanted})
        assert bool(listed.threads) is there
    changed = await memory.update_thread(id=unique, metadata={"count": 2})
    assert changed.metadata == {"topic": "plants", "count": 2, "$id": "x"}


async def test_metadata_that_is_no_object_is_not_lost_to_an_update(
    memory: AsyncMemory, deployment: Deployment, unique: str
) -> None:
    await memory.save_thread(thread=thread(unique, "r"))
    await memory.save_resource(resource={"id": unique})
    with Session(deployment) as session:
        session.update(Thread, unique, {"metadata": "no JSON"})
        session.update(Resource, unique, {"metadata": ["of", "another", "writer"]})
        session.commit()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: memory.update_thread(id=unique, metadata={"a": 1}),
        lambda: memory.update_thread_metadata(id=unique, update=lambda _: {"a": 1}),
        lambda: memory.update_resource(resource_id=unique, metadata={"a": 1}),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument, match="metadata: what is stored is a"):
            await call()
    changed: list[Thread | Resource] = [
        await memory.update_thread(id=unique, title="still to be changed"),
        await memory.update_resource(resource_id=unique, working_memory="too"),
    ]
    kept: list[Any] = [one.metadata for one in changed]
    assert kept == ["no JSON", ["of", "another", "writer"]]


# -- listing -------------------------------------------------------------------------------------------------------


async def _save(memory: AsyncMemory, resource: str, *seconds: float) -> None:
    """Threads named after their positions, created at these seconds and updated in the opposite order."""
    for number, second in enumerate(seconds):
        await memory.save_thread(thread=thread(f"{resource}-{number}", resource, second, updated_at=at(1_000 - second)))


def _numbers(threads: list[Thread]) -> list[int]:
    return [int(one.id.rsplit("-", 1)[1]) for one in threads]


async def test_threads_are_listed_newest_first(memory: AsyncMemory, unique: str) -> None:
    await _save(memory, unique, 3, 1, 2)
    page = await memory.list_threads(filter={"resource_id": unique})
    assert _numbers(page.threads) == [0, 2, 1]
    assert (page.total, page.page, page.per_page, page.has_more) == (3, 0, 100, False)


@pytest.mark.parametrize(
    ("field", "direction", "expected"),
    [
        ("created_at", "ASC", [1, 2, 0]),
        ("created_at", "DESC", [0, 2, 1]),
        ("updated_at", "ASC", [0, 2, 1]),
        ("updated_at", "DESC", [1, 2, 0]),
    ],
)
async def test_order_by_holds_inside_the_page_and_across_pages(
    memory: AsyncMemory,
    unique: str,
    field: Literal["created_at", "updated_at"],
    direction: Literal["ASC", "DESC"],
    expected: list[int],
) -> None:
    await _save(memory, unique, 3, 1, 2)
    found: list[int] = []
    for number in range(2):
        page = await memory.list_threads(
            filter={"resource_id": unique}, order_by={"field": field, "direction": direction}, page=number, per_page=2
        )
        found += _numbers(page.threads)
    assert found == expected


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
async def test_threads_of_one_instant_keep_their_order_and_pages_neither_overlap_nor_skip(
    memory: AsyncMemory, unique: str, direction: Literal["ASC", "DESC"]
) -> None:
    await _save(memory, unique, *[5] * 7)
    found: list[int] = []
    for number in range(4):
        page = await memory.list_threads(
            filter={"resource_id": unique}, order_by={"direction": direction}, page=number, per_page=2
        )
        assert (page.total, page.page, page.has_more) == (7, number, number < 3)
        found += _numbers(page.threads)
    assert found == (list(range(7)) if direction == "ASC" else list(range(6, -1, -1)))


async def test_a_page_beyond_the_end_is_empty(memory: AsyncMemory, unique: str) -> None:
    await _save(memory, unique, 1, 2)
    page = await memory.list_threads(filter={"resource_id": unique}, page=5, per_page=2)
    assert (page.threads, page.total, page.has_more) == ([], 2, False)


async def test_a_page_of_none_has_the_true_total(memory: AsyncMemory, unique: str) -> None:
    await _save(memory, unique, 1, 2)
    page = await memory.list_threads(filter={"resource_id": unique}, per_page=0)
    assert (page.threads, page.total, page.has_more) == ([], 2, True)
    assert page.per_page == 0
    assert page.per_page is not False


async def test_per_page_false_is_everything(memory: AsyncMemory, unique: str) -> None:
    await _save(memory, unique, *range(120))
    page = await memory.list_threads(filter={"resource_id": unique}, per_page=False)
    assert _numbers(page.threads) == list(range(119, -1, -1))
    assert (page.total, page.per_page, page.has_more) == (120, False, False)
    first = await memory.list_threads(filter={"resource_id": unique})
    assert (len(first.threads), first.total, first.has_more) == (100, 120, True)


@pytest.mark.parametrize(("per_page", "more"), [(1, True), (2, False), (3, False), (False, False)])
async def test_without_total_nothing_is_counted(
    memory: AsyncMemory, unique: str, per_page: int | Literal[False], more: bool
) -> None:
    await _save(memory, unique, 1, 2)
    page = await memory.list_threads(filter={"resource_id": unique}, per_page=per_page, include_total=False)
    assert (page.total, page.has_more) == (None, more)
    assert len(page.threads) == (per_page or 2 if per_page != 3 else 2)


async def test_threads_are_listed_across_resources(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(f"{unique}a", f"{unique}r", 1, metadata={"run": unique}))
    await memory.save_thread(thread=thread(f"{unique}b", f"{unique}s", 2, metadata={"run": unique}))
    page = await memory.list_threads(filter={"metadata": {"run": unique}})
    assert ids(page.threads) == [f"{unique}b", f"{unique}a"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"value": 1}, ["int", "float"]),
        ({"value": 1.0}, ["int", "float"]),
        ({"value": True}, ["true"]),
        ({"value": False}, ["false"]),
        ({"value": 0}, ["zero"]),
        ({"value": "1"}, ["text"]),
        ({"value": None}, ["null"]),
        ({"value": [1, None]}, ["list"]),
        ({"value": {"b": 1, "a": [True]}}, ["object"]),
        ({"value": ""}, []),
        ({"other": None}, []),
        ({"value": 1, "kind": "int"}, ["int"]),
        ({"value": 1, "kind": "text"}, []),
        ({}, ["int", "float", "true", "false", "zero", "text", "null", "list", "object", "none"]),
    ],
)
async def test_metadata_filters_compare_by_exact_type(
    memory: AsyncMemory, unique: str, wanted: dict[str, Any], expected: list[str]
) -> None:
    values = {
        "int": 1,
        "float": 1.0,
        "true": True,
        "false": False,
        "zero": 0,
        "text": "1",
        "null": None,
        "list": [1, None],
        "object": {"a": [True], "b": 1},
    }
    for number, (kind, value) in enumerate(values.items()):
        reserved = {"$text": 1} if number % 2 else {}  # in both of the forms that metadata is stored in
        metadata = {"value": value, "kind": kind, **reserved}
        await memory.save_thread(thread=thread(f"{unique}{kind}", unique, number, metadata=metadata))
    await memory.save_thread(thread=thread(f"{unique}none", unique, 100))
    page = await memory.list_threads(
        filter={"resource_id": unique, "metadata": wanted}, order_by={"direction": "ASC"}, per_page=100
    )
    assert ids(page.threads) == [f"{unique}{kind}" for kind in expected]
    assert page.total == len(expected)


# -- moving and deleting -------------------------------------------------------------------------------------------


async def test_a_thread_moves_to_another_resource_with_its_messages(memory: AsyncMemory, unique: str) -> None:
    old, new = f"{unique}old", f"{unique}new"
    await memory.save_thread(thread=thread(unique, old))
    await memory.save_thread(thread=thread(f"{unique}other", old))
    await memory.save_messages(messages=messages(unique, 3, unique, old))
    await memory.save_messages(messages=[message(f"{unique}x", f"{unique}other", old)])
    moved = await memory.update_thread_resource_id(thread_id=unique, resource_id=new)
    assert (moved.resource_id, moved.updated_at > at(0)) == (new, True)
    assert ids((await memory.list_threads(filter={"resource_id": new})).threads) == [unique]
    assert ids((await memory.list_messages_by_resource_id(resource_id=new)).messages) == [f"{unique}{n}" for n in range(3)]
    assert ids((await memory.list_messages_by_resource_id(resource_id=old)).messages) == [f"{unique}x"]


async def test_a_long_thread_moves_whole(memory: AsyncMemory, deployment: Deployment, unique: str) -> None:
    if "Remote" in repr(deployment):
        pytest.skip("thousands of rows are for embedded deployments")
    await memory.save_thread(thread=thread(unique, "old"))
    for start in range(0, 6_100, 3_050):
        part = [message(f"{unique}{start + n}", unique, "old", start + n, content="x") for n in range(3_050)]
        await memory.save_messages(messages=part)
    await memory.update_thread_resource_id(thread_id=unique, resource_id="new")
    page = await memory.list_messages(thread_id=unique, resource_id="new", per_page=1)
    assert page.total == 6_100
    assert (await memory.list_messages(thread_id=unique, resource_id="old")).total == 0


@pytest.mark.needs_functions("the handler reads all of it in one call")
def test_large_messages_move_and_go_in_as_many_commits_as_they_take(deployment: Deployment, unique: str) -> None:
    memory = ConvexStore(id="test", deployment=deployment).memory
    memory.save_thread(thread=thread(unique, "old"))
    large = [message(f"{unique}{n}", unique, "old", n, content="x" * 900_000) for n in range(20)]
    memory.save_messages(messages=large[:10])
    memory.save_messages(messages=large[10:])
    memory.update_thread_resource_id(thread_id=unique, resource_id="new")
    moved = memory.list_messages(thread_id=unique, resource_id="new", per_page=1)
    assert (ids(moved.messages), moved.total) == ([f"{unique}0"], 20)
    memory.delete_messages(message_ids=[one["id"] for one in large])
    assert memory.list_messages(thread_id=unique).total == 0


async def test_moving_a_missing_thread_is_an_error(memory: AsyncMemory, unique: str) -> None:
    with pytest.raises(ThreadNotFound) as caught:
        await memory.update_thread_resource_id(thread_id=unique, resource_id="r")
    assert caught.value.id == "MASTRA_STORAGE_CONVEX_UPDATE_THREAD_RESOURCE_ID_THREAD_NOT_FOUND"


async def test_moving_a_thread_where_it_is_changes_nothing(memory: AsyncMemory, unique: str) -> None:
    await memory.save_thread(thread=thread(unique, "r"))
    assert (await memory.update_thread_resource_id(thread_id=unique, resource_id="r")).updated_at == at(0)


async def test_a_thread_is_deleted_with_its_messages_and_no_others(memory: AsyncMemory, unique: str) -> None:
    for name in ("a", "b"):
        await memory.save_thread(thread=thread(f"{unique}{name}", unique))
        await memory.save_messages(messages=messages(f"{unique}{name}", 3, f"{unique}{name}", unique))
    await memory.delete_thread(thread_id=f"{unique}a")
    assert await memory.get_thread_by_id(thread_id=f"{unique}a") is None
    left = await memory.list_messages_by_resource_id(resource_id=unique)
    assert ids(left.messages) == [f"{unique}b{n}" for n in range(3)]
    await memory.delete_thread(thread_id=f"{unique}a")


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_thread_longer_than_one_commit_is_deleted_whole(open_deployment: Any, kind: str) -> None:
    deployment: Deployment = open_deployment(kind)
    memory = ConvexStore(id="test", deployment=deployment).memory
    memory.save_thread(thread=thread("long", "r"))
    with Session(deployment) as session:
        for start in range(0, 4_500, 1_500):
            session.add_all(Message(**one, type="v2") for one in messages(f"{start}-", 1_500, "long", "r"))
            session.commit()
    memory.save_thread(thread=thread("other", "r"))
    memory.save_messages(messages=messages("other", 2, "other", "r"))
    memory.delete_thread(thread_id="long")
    with Session(deployment) as session:
        assert session.count(Message.query().full_scan()) == 2
        assert session.count(Thread.query().full_scan()) == 1
