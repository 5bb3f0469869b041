"""Messages: saved in batches that are one commit, listed in pages with what is included, changed by merging, deleted."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from convexorm import Deployment, Index, IsoDatetime, Mapped, Model, Session, ValidationError, field
from mastra_convex import AsyncMemory, InvalidArgument, MessageFilter, MessagePage
from tests.mastra.support import at, ids, message, messages, thread
from tests.mastra.test_threads import NESTED

CONTENTS: list[Any] = [
    {"format": 2, "parts": [{"type": "text", "text": "日本語 and \u0000"}], "metadata": {"speaker": "Ann"}},
    {"$schema": "x", "日本語": "はい", "": {"_x": [1, 2.5, None, True]}},
    NESTED,
    {"many": list(range(9_000))},
    "plain text",
    "null",
    '{"looks": "like JSON"}',
    "",
    [],
    0,
    None,
    2**70,
]


def _numbers(page: MessagePage, prefix: str) -> list[int]:
    assert all(one.id.startswith(prefix) for one in page.messages)
    return [int(one.id.removeprefix(prefix)) for one in page.messages]


# -- saving --------------------------------------------------------------------------------------------------------


async def test_saved_messages_are_listed_and_got_by_id(memory: AsyncMemory, unique: str) -> None:
    given = message(unique, f"{unique}t", "r", 1, role="assistant", type="text", metadata={"a": 1})
    saved = (await memory.save_messages(messages=[given])).messages
    listed = (await memory.list_messages(thread_id=f"{unique}t")).messages
    got = (await memory.list_messages_by_id(message_ids=[unique])).messages
    for one in (*saved, *listed, *got):
        assert {name: getattr(one, name) for name in given} == given
    assert len(saved) == len(listed) == len(got) == 1


@pytest.mark.parametrize("content", CONTENTS, ids=lambda value: repr(value)[:24])
async def test_content_is_read_as_it_was_saved(memory: AsyncMemory, unique: str, content: Any) -> None:
    await memory.save_messages(messages=[message(unique, unique, "r", content=content)])
    (found,) = (await memory.list_messages(thread_id=unique)).messages
    assert found.content == content
    assert type(found.content) is type(content)


async def test_type_and_creation_time_have_defaults(memory: AsyncMemory, unique: str) -> None:
    given = {"id": unique, "thread_id": unique, "resource_id": "r", "role": "user", "content": "x"}
    (saved,) = (await memory.save_messages(messages=[given])).messages
    (found,) = (await memory.list_messages(thread_id=unique)).messages
    assert saved.type == found.type == "v2"
    assert saved.created_at == found.created_at > at(0)


async def test_saving_nothing_is_fine(memory: AsyncMemory) -> None:
    assert (await memory.save_messages(messages=[])).messages == []


async def test_what_is_saved_is_answered_oldest_first(memory: AsyncMemory, unique: str) -> None:
    batch = messages(unique, 3, unique, "r")
    assert ids((await memory.save_messages(messages=batch[::-1])).messages) == [f"{unique}{n}" for n in range(3)]


async def test_a_saved_message_replaces_the_one_with_its_id_whole(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=[message(unique, unique, "r", 1, metadata={"a": 1}, type="text")])
    await memory.save_messages(messages=[message(unique, unique, "s", 2, content="new", role="assistant")])
    (found,) = (await memory.list_messages(thread_id=unique)).messages
    assert (found.content, found.role, found.type, found.resource_id) == ("new", "assistant", "v2", "s")
    assert found.created_at == at(2)


async def test_of_one_id_twice_in_a_batch_the_last_counts(memory: AsyncMemory, unique: str) -> None:
    batch = [message(unique, unique, "r", content="first"), message(unique, unique, "r", content="last")]
    assert [one.content for one in (await memory.save_messages(messages=batch)).messages] == ["last"]
    assert [one.content for one in (await memory.list_messages(thread_id=unique)).messages] == ["last"]


async def test_saving_with_another_thread_moves_the_message(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=[message(unique, f"{unique}a", "r")])
    await memory.save_messages(messages=[message(unique, f"{unique}b", "r")])
    assert (await memory.list_messages(thread_id=f"{unique}a")).total == 0
    assert ids((await memory.list_messages(thread_id=f"{unique}b")).messages) == [unique]


async def test_every_thread_of_the_batch_is_touched_and_no_other(memory: AsyncMemory, unique: str) -> None:
    for name in ("a", "b", "c"):
        await memory.save_thread(thread=thread(f"{unique}{name}", "r", metadata={"keep": 1}))
    await memory.save_messages(
        messages=[message(f"{unique}1", f"{unique}a", "r"), message(f"{unique}2", f"{unique}b", "r")]
    )
    for name, touched in (("a", True), ("b", True), ("c", False)):
        found = await memory.get_thread_by_id(thread_id=f"{unique}{name}")
        assert found is not None
        assert (found.updated_at > at(0), found.metadata, found.created_at) == (touched, {"keep": 1}, at(0))


async def test_a_thread_need_not_be_there(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=[message(unique, unique, "r")])
    assert await memory.get_thread_by_id(thread_id=unique) is None
    assert (await memory.list_messages(thread_id=unique)).total == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"thread_id": None},
        {"thread_id": ""},
        {"resource_id": None},
        {"resource_id": " "},
        {"id": ""},
        {"role": 1},
        {"content": {"x": {1}}},
        {"colour": "red"},
    ],
    ids=str,
)
async def test_one_wrong_message_rejects_the_batch(memory: AsyncMemory, unique: str, wrong: dict[str, Any]) -> None:
    await memory.save_thread(thread=thread(unique, "r"))
    batch = [*messages(unique, 2, unique, "r"), {**message(f"{unique}x", unique, "r"), **wrong}]
    with pytest.raises(ValidationError):
        await memory.save_messages(messages=batch)
    assert (await memory.list_messages(thread_id=unique)).total == 0
    found = await memory.get_thread_by_id(thread_id=unique)
    assert found is not None
    assert found.updated_at == at(0)


# -- pages ---------------------------------------------------------------------------------------------------------


async def test_messages_are_listed_oldest_first_forty_a_page(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 45, unique, "r")[::-1])
    page = await memory.list_messages(thread_id=unique)
    assert _numbers(page, unique) == list(range(40))
    assert (page.total, page.page, page.per_page, page.has_more) == (45, 0, 40, True)
    page = await memory.list_messages(thread_id=unique, page=1)
    assert _numbers(page, unique) == list(range(40, 45))
    assert (page.total, page.page, page.per_page, page.has_more) == (45, 1, 40, False)


async def test_order_by_may_be_newest_first(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 5, unique, "r"))
    page = await memory.list_messages(
        thread_id=unique, order_by={"field": "created_at", "direction": "DESC"}, page=1, per_page=2
    )
    assert _numbers(page, unique) == [2, 1]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 10])
@pytest.mark.parametrize("direction", ["ASC", "DESC"])
async def test_messages_of_one_instant_keep_their_order_and_pages_neither_overlap_nor_skip(
    memory: AsyncMemory, unique: str, direction: Literal["ASC", "DESC"], size: int, threads: int
) -> None:
    for number in range(7):
        one = message(f"{unique}{number}", f"{unique}t{number % threads}", "r", number // 5)
        await memory.save_messages(messages=[one])
    wanted = [f"{unique}t{number}" for number in range(threads)]
    found: list[int] = []
    for number in range(-(-7 // size)):
        page = await memory.list_messages(thread_id=wanted, order_by={"direction": direction}, page=number, per_page=size)
        assert (page.total, page.has_more) == (7, (number + 1) * size < 7)
        found += _numbers(page, unique)
    assert found == (list(range(7)) if direction == "ASC" else list(range(6, -1, -1)))


async def test_ties_saved_in_one_batch_keep_the_order_of_the_batch(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=[message(f"{unique}{n}", unique, unique) for n in range(12)])
    assert _numbers(await memory.list_messages(thread_id=unique), unique) == list(range(12))
    assert _numbers(await memory.list_messages_by_resource_id(resource_id=unique), unique) == list(range(12))
    by_id = await memory.list_messages_by_id(message_ids=[f"{unique}{n}" for n in range(11, -1, -1)])
    assert ids(by_id.messages) == [f"{unique}{n}" for n in range(12)]


async def test_several_threads_are_merged_in_order(memory: AsyncMemory, unique: str) -> None:
    for number in range(9):
        one = message(f"{unique}{number}", f"{unique}t{number % 3}", "r", number)
        await memory.save_messages(messages=[one])
    two = [f"{unique}t0", f"{unique}t2"]
    page = await memory.list_messages(thread_id=[*two, two[0]], page=1, per_page=2)
    assert _numbers(page, unique) == [3, 5]
    assert (page.total, page.has_more) == (6, True)
    last = await memory.list_messages(thread_id=two, page=1, per_page=2, include_total=False)
    assert (_numbers(last, unique), last.total, last.has_more) == ([3, 5], None, True)
    everything = await memory.list_messages(thread_id=two, per_page=False, order_by={"direction": "DESC"})
    assert (_numbers(everything, unique), everything.total) == ([8, 6, 5, 3, 2, 0], 6)


async def test_per_page_false_is_everything_whatever_the_page(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 50, unique, "r"))
    page = await memory.list_messages(thread_id=unique, per_page=False, page=3)
    assert _numbers(page, unique) == list(range(50))
    assert (page.total, page.page, page.per_page, page.has_more) == (50, 3, False, False)


async def test_a_page_of_none_has_no_total(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 5, unique, "r"))
    for page in (
        await memory.list_messages(thread_id=unique, per_page=0),
        await memory.list_messages_by_resource_id(resource_id=unique, per_page=0),
    ):
        assert (page.messages, page.total, page.has_more) == ([], 0, False)
        assert page.per_page == 0
        assert page.per_page is not False


@pytest.mark.parametrize(("per_page", "more"), [(2, True), (3, False), (4, False), (0, False), (False, False)])
async def test_without_total_nothing_is_counted(
    memory: AsyncMemory, unique: str, per_page: int | Literal[False], more: bool
) -> None:
    await memory.save_messages(messages=messages(unique, 3, unique, unique))
    for page in (
        await memory.list_messages(thread_id=unique, per_page=per_page, include_total=False),
        await memory.list_messages_by_resource_id(resource_id=unique, per_page=per_page, include_total=False),
    ):
        assert (page.total, page.has_more) == (None, more)


async def test_a_page_beyond_the_end_is_empty(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 3, unique, "r"))
    page = await memory.list_messages(thread_id=unique, page=9, per_page=2)
    assert (page.messages, page.total, page.has_more) == ([], 3, False)


# -- filters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ({"start": at(1)}, [1, 2, 3]),
        ({"start": at(1), "start_exclusive": True}, [2, 3]),
        ({"end": at(2)}, [0, 1, 2]),
        ({"end": at(2), "end_exclusive": True}, [0, 1]),
        ({"start": at(1), "end": at(2)}, [1, 2]),
        ({"start": at(1), "end": at(2), "start_exclusive": True, "end_exclusive": True}, []),
        ({"start": at(1), "end": at(1)}, [1]),
        ({"start": at(2), "end": at(1)}, []),
        ({"start": at(1.001)}, [2, 3]),
        ({"start": at(1.0005)}, [2, 3]),
        ({"start": at(0.9995), "start_exclusive": True}, [1, 2, 3]),
        ({"start": at(1.0005), "start_exclusive": True}, [2, 3]),
        ({"end": at(2.0005), "end_exclusive": True}, [0, 1, 2]),
        ({"end": at(1.9995), "end_exclusive": True}, [0, 1]),
        ({"end": at(1.9995)}, [0, 1]),
        ({"start": "2024-05-01T14:00:01+02:00", "end": "2024-05-01T12:00:02Z"}, [1, 2]),
        ({}, [0, 1, 2, 3]),
    ],
    ids=str,
)
async def test_date_ranges(memory: AsyncMemory, unique: str, dates: Any, expected: list[int]) -> None:
    await memory.save_messages(messages=messages(unique, 4, unique, unique))
    for page in (
        await memory.list_messages(thread_id=unique, filter={"date_range": dates}),
        await memory.list_messages_by_resource_id(resource_id=unique, filter={"date_range": dates}),
    ):
        assert (_numbers(page, unique), page.total) == (expected, len(expected))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"value": 1}, [0, 1]),
        ({"value": 1.0}, [0, 1]),
        ({"value": True}, [2]),
        ({"value": "1"}, [3]),
        ({"value": None}, [4]),
        ({"value": ""}, []),
        ({"other": None}, []),
        ({"value": 1, "n": 1}, [1]),
        ({"value": 1, "n": 2}, []),
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
    ids=str,
)
async def test_metadata_filters_compare_by_exact_type(
    memory: AsyncMemory, unique: str, wanted: dict[str, Any], expected: list[int]
) -> None:
    values: list[Any] = [1, 1.0, True, "1", None]
    batch = [
        message(f"{unique}{n}", unique, unique, n, metadata={"value": value, "n": n}) for n, value in enumerate(values)
    ]
    batch.append(message(f"{unique}5", unique, unique, 5))
    batch.append(message(f"{unique}6", unique, unique, 6, content="text"))
    batch.append(message(f"{unique}7", unique, unique, 7, metadata=[{"value": 1}]))
    await memory.save_messages(messages=batch)
    for page in (
        await memory.list_messages(thread_id=unique, filter={"metadata": wanted}),
        await memory.list_messages_by_resource_id(resource_id=unique, filter={"metadata": wanted}),
    ):
        assert (_numbers(page, unique), page.total) == (expected, len(expected))


async def test_filtered_pages_neither_overlap_nor_skip(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(
        messages=[message(f"{unique}{n}", unique, "r", n, metadata={"even": n % 2 == 0}) for n in range(10)]
    )
    filter_: MessageFilter = {"metadata": {"even": True}, "date_range": {"start": at(1)}}
    found: list[int] = []
    for number in range(2):
        page = await memory.list_messages(thread_id=unique, filter=filter_, page=number, per_page=3)
        assert (page.total, page.has_more) == (4, number == 0)
        found += _numbers(page, unique)
    assert found == [2, 4, 6, 8]


class _Foreign(Model, table="mastra_messages", primary_key="id"):
    """A message as writers that know no JSON text write it."""

    id: Mapped[str]
    thread_id: Mapped[str]
    content: Mapped[Any]
    role: Mapped[str]
    created_at: Mapped[IsoDatetime] = field(name="createdAt")

    by_record_id = Index("id")
    by_thread = Index("thread_id")
    by_thread_created = Index("thread_id", "created_at")


@pytest.mark.needs_functions("the npm package's schema takes text only")
async def test_content_that_another_writer_stored_as_a_value_or_plain_text_is_read_and_filtered(
    memory: AsyncMemory, deployment: Deployment, unique: str
) -> None:
    contents: list[Any] = [{"parts": [], "metadata": {"a": 1}}, "plain text", '{"metadata": {"a": 1}}', "{broken"]
    with Session(deployment) as session:
        for number, content in enumerate(contents):
            one = _Foreign(id=f"{unique}{number}", thread_id=unique, role="user", content=content, created_at=at(number))
            session.add(one)
        session.commit()
    page = await memory.list_messages(thread_id=unique)
    assert [one.content for one in page.messages] == [contents[0], "plain text", {"metadata": {"a": 1}}, "{broken"]
    assert [(one.type, one.resource_id) for one in page.messages] == [("v2", None)] * 4
    page = await memory.list_messages(thread_id=unique, filter={"metadata": {"a": 1}})
    assert _numbers(page, unique) == [0, 2]
    await memory.update_messages(messages=[{"id": f"{unique}0", "content": {"metadata": {"b": 2}}}])
    (found,) = (await memory.list_messages_by_id(message_ids=[f"{unique}0"])).messages
    assert found.content == {"parts": [], "metadata": {"a": 1, "b": 2}}


async def test_a_resource_narrows_the_list(memory: AsyncMemory, unique: str) -> None:
    batch = [message(f"{unique}{n}", unique, "r" if n % 2 else "s", n) for n in range(6)]
    await memory.save_messages(messages=batch)
    page = await memory.list_messages(thread_id=unique, resource_id="s", per_page=2)
    assert (_numbers(page, unique), page.total, page.has_more) == ([0, 2], 3, True)
    page = await memory.list_messages(thread_id=unique, resource_id=None)
    assert page.total == 6


async def test_messages_of_a_resource_are_listed_across_threads(memory: AsyncMemory, unique: str) -> None:
    batch = [message(f"{unique}{n}", f"{unique}t{n % 2}", f"{unique}r", n) for n in range(5)]
    batch.append(message(f"{unique}9", f"{unique}t0", "other", 9))
    await memory.save_messages(messages=batch)
    page = await memory.list_messages_by_resource_id(
        resource_id=f"{unique}r", order_by={"direction": "DESC"}, page=1, per_page=2
    )
    assert (_numbers(page, unique), page.total, page.has_more) == ([2, 1], 5, True)


# -- includes ------------------------------------------------------------------------------------------------------


async def test_an_included_message_comes_with_its_neighbours_once_and_in_order(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 10, unique, "r"))
    page = await memory.list_messages(
        thread_id=unique,
        per_page=3,
        include=[
            {"id": f"{unique}3", "with_previous_messages": 2, "with_next_messages": 1},
            {"id": f"{unique}4", "with_next_messages": 1},
            {"id": f"{unique}4"},
            {"id": f"{unique}8"},
        ],
    )
    assert _numbers(page, unique) == [0, 1, 2, 3, 4, 5, 8]
    assert (page.total, page.per_page, page.has_more) == (10, 3, True)


async def test_a_page_of_none_answers_only_what_is_included(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 10, unique, "r"))
    page = await memory.list_messages(
        thread_id=unique,
        per_page=0,
        order_by={"direction": "DESC"},
        include=[{"id": f"{unique}5", "with_previous_messages": 1, "with_next_messages": 2}],
    )
    assert (_numbers(page, unique), page.total, page.has_more) == ([7, 6, 5, 4], 0, False)


async def test_windows_end_where_the_thread_ends(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 3, unique, "r"))
    await memory.save_messages(messages=messages(f"{unique}o", 3, f"{unique}o", "r"))
    page = await memory.list_messages(
        thread_id="elsewhere",
        include=[{"id": f"{unique}1", "with_previous_messages": 50, "with_next_messages": 50}],
    )
    assert (_numbers(page, unique), page.total) == ([0, 1, 2], 0)


async def test_windows_hold_among_messages_of_one_instant(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=[message(f"{unique}{n}", unique, "r") for n in range(9)])
    page = await memory.list_messages(
        thread_id=unique,
        per_page=0,
        include=[{"id": f"{unique}4", "with_previous_messages": 2, "with_next_messages": 2}],
    )
    assert _numbers(page, unique) == [2, 3, 4, 5, 6]


async def test_includes_may_come_from_threads_that_are_not_listed(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=[message(f"{unique}{n}", f"{unique}t{n % 2}", "r", n) for n in range(8)])
    page = await memory.list_messages(
        thread_id=f"{unique}t0",
        per_page=1,
        include=[{"id": f"{unique}5", "thread_id": f"{unique}t0", "with_previous_messages": 1, "with_next_messages": 1}],
    )
    assert (_numbers(page, unique), page.total, page.has_more) == ([0, 3, 5, 7], 4, True)


async def test_includes_are_scoped_by_the_resource(memory: AsyncMemory, unique: str) -> None:
    owner = {2: "s", 5: "s"}
    await memory.save_messages(
        messages=[message(f"{unique}{n}", unique, f"{unique}{owner.get(n, 'r')}", n) for n in range(8)]
    )
    include: Any = [
        {"id": f"{unique}3", "with_previous_messages": 2, "with_next_messages": 2},
        {"id": f"{unique}5", "with_previous_messages": 1},
    ]
    scoped = await memory.list_messages(thread_id=unique, resource_id=f"{unique}r", per_page=0, include=include)
    assert _numbers(scoped, unique) == [0, 1, 3, 4, 6]
    everyone = await memory.list_messages(thread_id=unique, per_page=0, include=include)
    assert _numbers(everyone, unique) == [1, 2, 3, 4, 5]
    listed = await memory.list_messages_by_resource_id(resource_id=f"{unique}r", per_page=1, include=include)
    assert (_numbers(listed, unique), listed.total, listed.has_more) == ([0, 1, 3, 4, 6], 6, True)


async def test_includes_reach_past_date_and_metadata_filters(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(
        messages=[message(f"{unique}{n}", unique, "r", n, metadata={"even": n % 2 == 0}) for n in range(10)]
    )
    page = await memory.list_messages(
        thread_id=unique,
        per_page=1,
        filter={"metadata": {"even": True}, "date_range": {"start": at(5)}},
        include=[{"id": f"{unique}2", "with_previous_messages": 1, "with_next_messages": 1}],
    )
    assert (_numbers(page, unique), page.total, page.has_more) == ([1, 2, 3, 6], 2, True)


async def test_there_is_no_more_when_the_included_messages_are_all_that_is_left(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 4, unique, "r"))
    page = await memory.list_messages(
        thread_id=unique, per_page=2, include=[{"id": f"{unique}3", "with_previous_messages": 1}]
    )
    assert (_numbers(page, unique), page.total, page.has_more) == ([0, 1, 2, 3], 4, False)


async def test_a_missing_message_includes_nothing(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 2, unique, "r"))
    page = await memory.list_messages(thread_id=unique, include=[{"id": f"{unique}missing", "with_previous_messages": 3}])
    assert _numbers(page, unique) == [0, 1]


# -- by id ---------------------------------------------------------------------------------------------------------


async def test_by_id_is_oldest_first_each_once_without_the_missing(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 4, unique, "r"))
    wanted = [f"{unique}{n}" for n in (3, 0, 3, 7, 1)]
    assert ids((await memory.list_messages_by_id(message_ids=wanted)).messages) == [f"{unique}{n}" for n in (0, 1, 3)]
    assert (await memory.list_messages_by_id(message_ids=[])).messages == []


# -- updating ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "update", "expected"),
    [
        ({"a": 1, "b": {"x": 1}}, {"b": {"y": 2}}, {"a": 1, "b": {"y": 2}}),
        ({"metadata": {"a": 1}}, {"metadata": {"b": 2}}, {"metadata": {"a": 1, "b": 2}}),
        ({"metadata": {"a": {"x": 1}}}, {"metadata": {"a": {"y": 2}}}, {"metadata": {"a": {"y": 2}}}),
        ({"metadata": {"a": 1}}, {"metadata": {}}, {"metadata": {"a": 1}}),
        ({"metadata": {"a": 1}}, {"metadata": None}, {"metadata": None}),
        ({"metadata": {"a": 1}}, {"content": "x"}, {"metadata": {"a": 1}, "content": "x"}),
        ({"metadata": None}, {"metadata": {"b": 2}}, {"metadata": {"b": 2}}),
        ({"metadata": "text"}, {"metadata": "other"}, {"metadata": "other"}),
        ({"a": 1}, {"metadata": {"b": 2}}, {"a": 1, "metadata": {"b": 2}}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"$schema": "日本語"}, {"a": 1, "$schema": "日本語"}),
        ("text", {"a": 1}, {"format": 2, "parts": [{"type": "text", "text": "text"}], "a": 1}),
        (
            [{"type": "text", "text": "of v1"}],
            {"metadata": {"seen": 1}},
            {"format": 2, "parts": [{"type": "text", "text": "of v1"}], "metadata": {"seen": 1}},
        ),
        ([], {"metadata": {"seen": 1}}, {"format": 2, "parts": [], "metadata": {"seen": 1}}),
        ("text", {"parts": []}, {"format": 2, "parts": []}),
        (None, {"a": 1}, {"a": 1}),
        ({"a": 1}, "text", "text"),
    ],
    ids=repr,
)
async def test_content_merges_one_level_deep_and_its_metadata_one_deeper(
    memory: AsyncMemory, unique: str, stored: Any, update: Any, expected: Any
) -> None:
    await memory.save_messages(messages=[message(unique, unique, "r", content=stored)])
    (changed,) = await memory.update_messages(messages=[{"id": unique, "content": update}])
    (found,) = (await memory.list_messages(thread_id=unique)).messages
    assert changed.content == found.content == expected


@pytest.mark.parametrize(
    "stored", [[{"type": "tool-call"}], ["text"], 7, True, {"metadata": "text"}, {"metadata": [1]}], ids=repr
)
async def test_content_that_a_merge_would_lose_is_refused_and_stays(memory: AsyncMemory, unique: str, stored: Any) -> None:
    await memory.save_messages(messages=[message(unique, unique, "r", content=stored)])
    updates: list[dict[str, Any]] = [{"id": unique, "role": "system"}]
    updates.append({"id": unique, "content": {"metadata": {"seen": 1}}})
    with pytest.raises(InvalidArgument, match=r"messages\.content"):
        await memory.update_messages(messages=updates)
    (found,) = (await memory.list_messages_by_id(message_ids=[unique])).messages
    assert (found.content, found.role) == (stored, "user")


async def test_an_update_changes_what_is_given(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=[message(unique, unique, "r", type="text")])
    await memory.update_messages(messages=[{"id": unique, "role": "assistant", "type": None, "created_at": at(9)}])
    (found,) = (await memory.list_messages(thread_id=unique)).messages
    assert (found.role, found.type, found.created_at, found.resource_id) == ("assistant", "text", at(9), "r")
    await memory.update_messages(messages=[{"id": unique, "resource_id": None, "type": "v2"}])
    (found,) = (await memory.list_messages(thread_id=unique)).messages
    assert (found.resource_id, found.type) == (None, "v2")


async def test_a_missing_message_is_passed_over(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=[message(unique, unique, "r")])
    updates = [{"id": f"{unique}missing", "role": "system"}, {"id": unique, "role": "assistant"}]
    assert ids(await memory.update_messages(messages=updates)) == [unique]
    assert (await memory.list_messages_by_id(message_ids=[f"{unique}missing"])).messages == []
    assert await memory.update_messages(messages=[]) == []


async def test_updates_of_one_message_add_up(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=[message(unique, unique, "r", metadata={"a": 1})])
    await memory.update_messages(
        messages=[{"id": unique, "content": {"metadata": {"b": 2}}}, {"id": unique, "content": {"metadata": {"c": 3}}}]
    )
    (found,) = (await memory.list_messages(thread_id=unique)).messages
    assert found.content["metadata"] == {"a": 1, "b": 2, "c": 3}


async def test_a_message_moves_to_another_thread_and_both_are_touched(memory: AsyncMemory, unique: str) -> None:
    for name in ("a", "b", "c"):
        await memory.save_thread(thread=thread(f"{unique}{name}", "r"))
    with_message = message(unique, f"{unique}a", "r")
    await memory.save_messages(messages=[with_message])
    await memory.save_thread(thread=thread(f"{unique}a", "r"))
    await memory.update_messages(messages=[{"id": unique, "thread_id": f"{unique}b"}])
    assert (await memory.list_messages(thread_id=f"{unique}a")).total == 0
    assert ids((await memory.list_messages(thread_id=f"{unique}b")).messages) == [unique]
    for name, touched in (("a", True), ("b", True), ("c", False)):
        found = await memory.get_thread_by_id(thread_id=f"{unique}{name}")
        assert found is not None
        assert (found.updated_at > at(0)) is touched


async def test_one_wrong_update_changes_nothing(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 2, unique, "r"))
    wrong: list[dict[str, Any]] = [
        {"id": f"{unique}1", "colour": "red"},
        {"id": "", "role": "x"},
        {"role": "x"},
        {"id": f"{unique}1", "role": 3},
        {"id": f"{unique}1", "thread_id": " "},
        {"id": f"{unique}1", "created_at": at(0).replace(tzinfo=None)},
    ]
    for one in wrong:
        with pytest.raises(InvalidArgument) as caught:
            await memory.update_messages(messages=[{"id": f"{unique}0", "role": "assistant"}, one])
        assert caught.value.id.startswith("MASTRA_STORAGE_CONVEX_UPDATE_MESSAGES_")
    page = await memory.list_messages(thread_id=unique)
    assert [one.role for one in page.messages] == ["user", "user"]


# -- deleting ------------------------------------------------------------------------------------------------------


async def test_messages_are_deleted_and_their_threads_touched(memory: AsyncMemory, unique: str) -> None:
    await memory.save_messages(messages=messages(unique, 4, unique, "r"))
    for name in ("", "other"):
        await memory.save_thread(thread=thread(f"{unique}{name}", "r"))
    await memory.delete_messages(message_ids=[f"{unique}{n}" for n in (1, 2, 2, 9)])
    assert _numbers(await memory.list_messages(thread_id=unique), unique) == [0, 3]
    for name, touched in (("", True), ("other", False)):
        found = await memory.get_thread_by_id(thread_id=f"{unique}{name}")
        assert found is not None
        assert (found.updated_at > at(0)) is touched
    await memory.delete_messages(message_ids=[])
    assert (await memory.list_messages(thread_id=unique)).total == 2


async def test_more_messages_than_one_commit_deletes_are_deleted(memory: AsyncMemory, deployment: Deployment) -> None:
    if "Remote" in repr(deployment):
        pytest.skip("thousands of rows are for embedded deployments")
    await memory.save_messages(messages=[message(str(n), "t", "r", n, content="x") for n in range(2_100)])
    await memory.delete_messages(message_ids=[str(n) for n in range(2_050)])
    assert (await memory.list_messages(thread_id="t")).total == 50


async def test_everything_can_be_cleared(memory: AsyncMemory, deployment: Deployment) -> None:
    if "Remote" in repr(deployment):
        pytest.skip("other tests use the same deployment")
    await memory.save_thread(thread=thread("t", "r"))
    await memory.save_messages(messages=messages("m", 3, "t", "r"))
    await memory.update_resource(resource_id="r", working_memory="w")
    await memory.dangerously_clear_all()
    assert (await memory.list_threads()).total == 0
    assert (await memory.list_messages(thread_id="t")).total == 0
    assert await memory.get_resource_by_id(resource_id="r") is None
