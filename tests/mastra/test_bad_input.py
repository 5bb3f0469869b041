"""Bad input: one typed error for each, before anything is written."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from fractions import Fraction
from typing import Any

import pytest

from convexorm import ConvexORMError, Deployment, DeploymentError, LimitExceeded, Session
from mastra_convex import (
    AsyncMemory,
    ConvexStore,
    InvalidArgument,
    MastraError,
    Message,
    Resource,
    Thread,
    ThreadAlreadyExists,
    ThreadNotFound,
)
from tests.mastra.support import at, message, messages, thread

pytestmark = pytest.mark.usefixtures("nothing_collected")

NAIVE = datetime(2024, 5, 1)
DEEP: Any = None
for _ in range(100_000):
    DEEP = [DEEP]


class _Store:
    """What a case is tried on: a thread `t` with two messages `m0` and `m1`, a resource `r`, under ids of their own."""

    def __init__(self, memory: AsyncMemory, prefix: str) -> None:
        self.memory = memory
        self.t, self.r = f"{prefix}t", f"{prefix}r"
        self.m0, self.m1 = f"{prefix}m0", f"{prefix}m1"

    def thread(self, **wrong: Any) -> dict[str, Any]:
        return {**thread(self.t, self.r), **wrong}

    def message(self, **wrong: Any) -> dict[str, Any]:
        return {**message(self.m0, self.t, self.r), **wrong}

    def save(self, **wrong: Any) -> Awaitable[object]:
        """A batch of one good message and one that is wrong."""
        return self.memory.save_messages(messages=[message(f"{self.m0}new", self.t, self.r), self.message(**wrong)])

    def update(self, **wrong: Any) -> Awaitable[object]:
        return self.memory.update_messages(messages=[{"id": self.m0, "role": "system"}, {"id": self.m1, **wrong}])


Case = Callable[[_Store], Awaitable[object]]

WRITES: dict[str, tuple[type[ConvexORMError], Case]] = {
    "messages that are none": (InvalidArgument, lambda s: s.memory.save_messages(messages=None)),  # type: ignore[arg-type]
    "a message for several": (InvalidArgument, lambda s: s.memory.save_messages(messages=s.message())),  # type: ignore[arg-type]
    "updates that are none": (InvalidArgument, lambda s: s.memory.update_messages(messages=5)),  # type: ignore[arg-type]
    "ids that are none": (InvalidArgument, lambda s: s.memory.delete_messages(message_ids=None)),  # type: ignore[arg-type]
    "an update to an empty resource": (InvalidArgument, lambda s: s.update(resource_id="")),
    # threads
    "a thread without resource": (InvalidArgument, lambda s: s.memory.save_thread(thread={"id": s.t})),
    "a thread with an empty resource": (InvalidArgument, lambda s: s.memory.save_thread(thread=s.thread(resource_id=""))),
    "a thread with a resource of another type": (
        InvalidArgument,
        lambda s: s.memory.save_thread(thread=s.thread(resource_id=7)),
    ),
    "a thread with an empty id": (InvalidArgument, lambda s: s.memory.save_thread(thread=s.thread(id=" "))),
    "a thread without id": (InvalidArgument, lambda s: s.memory.save_thread(thread={"resource_id": s.r})),
    "a thread with an unknown attribute": (InvalidArgument, lambda s: s.memory.save_thread(thread=s.thread(colour=1))),
    "a thread in camelCase": (InvalidArgument, lambda s: s.memory.save_thread(thread=s.thread(resourceId="r"))),
    "a thread that is a text": (InvalidArgument, lambda s: s.memory.save_thread(thread=s.t)),  # type: ignore[arg-type]
    "a thread with a number as title": (InvalidArgument, lambda s: s.memory.save_thread(thread=s.thread(title=1))),
    "a thread created at a naive time": (
        InvalidArgument,
        lambda s: s.memory.save_thread(thread=s.thread(created_at=NAIVE)),
    ),
    "a thread created at a text that is no time": (
        InvalidArgument,
        lambda s: s.memory.save_thread(thread=s.thread(created_at="yesterday")),
    ),
    "a thread updated at a number": (InvalidArgument, lambda s: s.memory.save_thread(thread=s.thread(updated_at=1.5))),
    "metadata that is a text": (InvalidArgument, lambda s: s.memory.save_thread(thread=s.thread(metadata="text"))),
    "metadata that is a list": (InvalidArgument, lambda s: s.memory.save_thread(thread=s.thread(metadata=[1]))),
    "NaN in metadata": (InvalidArgument, lambda s: s.memory.save_thread(thread=s.thread(metadata={"x": math.nan}))),
    "infinity in metadata": (
        InvalidArgument,
        lambda s: s.memory.save_thread(thread=s.thread(metadata={"$x": math.inf})),
    ),
    "a set in metadata": (InvalidArgument, lambda s: s.memory.save_thread(thread=s.thread(metadata={"x": {1}}))),
    "a lone surrogate in metadata": (
        InvalidArgument,
        lambda s: s.memory.save_thread(thread=s.thread(metadata={"x": "\ud800"})),
    ),
    "a lone surrogate as key": (
        InvalidArgument,
        lambda s: s.memory.save_thread(thread=s.thread(metadata={"\ud800": 1})),
    ),
    "a lone surrogate in a title": (InvalidArgument, lambda s: s.memory.save_thread(thread=s.thread(title="\udfff"))),
    "metadata nested beyond reason": (
        InvalidArgument,
        lambda s: s.memory.save_thread(thread=s.thread(metadata={"x": DEEP})),
    ),
    "metadata over 1 MiB": (
        LimitExceeded,
        lambda s: s.memory.save_thread(thread=s.thread(metadata={"x": "x" * (1 << 20)})),
    ),
    "an update with a number as title": (
        InvalidArgument,
        lambda s: s.memory.update_thread(id=s.t, title=1),  # type: ignore[arg-type]
    ),
    "an update with metadata that is a list": (
        InvalidArgument,
        lambda s: s.memory.update_thread(id=s.t, metadata=[1]),  # type: ignore[arg-type]
    ),
    "an update with NaN": (InvalidArgument, lambda s: s.memory.update_thread(id=s.t, metadata={"x": math.nan})),
    "an update past 1 MiB": (
        LimitExceeded,
        lambda s: s.memory.update_thread(id=s.t, metadata={"x": "x" * (1 << 20)}),
    ),
    "an update of an empty id": (InvalidArgument, lambda s: s.memory.update_thread(id="", title="x")),
    "an update of no thread": (ThreadNotFound, lambda s: s.memory.update_thread(id=s.m0, title="x")),
    "a function that answers a list": (
        InvalidArgument,
        lambda s: s.memory.update_thread_metadata(id=s.t, update=lambda one: [1]),  # type: ignore[arg-type, return-value]
    ),
    "a move to an empty resource": (
        InvalidArgument,
        lambda s: s.memory.update_thread_resource_id(thread_id=s.t, resource_id=" "),
    ),
    "a move of no thread": (
        ThreadNotFound,
        lambda s: s.memory.update_thread_resource_id(thread_id=s.m0, resource_id="x"),
    ),
    "a deletion of an empty id": (InvalidArgument, lambda s: s.memory.delete_thread(thread_id="")),
    # messages
    "a message without id": (InvalidArgument, lambda s: s.save(id=None)),
    "a message without thread": (ConvexORMError, lambda s: s.save(thread_id=None)),
    "a message with an empty thread": (InvalidArgument, lambda s: s.save(thread_id=" ")),
    "a message without resource": (ConvexORMError, lambda s: s.save(resource_id=None)),
    "a message without role": (InvalidArgument, lambda s: s.save(role=None)),
    "a message with an unknown attribute": (InvalidArgument, lambda s: s.save(text="x")),
    "a message created at a naive time": (InvalidArgument, lambda s: s.save(created_at=NAIVE)),
    "NaN in content": (InvalidArgument, lambda s: s.save(content={"x": math.nan})),
    "bytes in content": (InvalidArgument, lambda s: s.save(content={"x": b"x"})),
    "a lone surrogate in content": (InvalidArgument, lambda s: s.save(content={"x": "\ud800"})),
    "a naive time in content": (InvalidArgument, lambda s: s.save(content={"x": NAIVE})),
    "content nested beyond reason": (InvalidArgument, lambda s: s.save(content=DEEP)),
    "content over 1 MiB": (LimitExceeded, lambda s: s.save(content="x" * (1 << 20))),
    "more messages than one commit writes": (
        LimitExceeded,
        lambda s: s.memory.save_messages(messages=messages(s.m0, 16_001, s.t, s.r)),
    ),
    "messages that are one message": (
        InvalidArgument,
        lambda s: s.memory.save_messages(messages=s.message()),  # type: ignore[arg-type]
    ),
    "an update with an unknown attribute": (InvalidArgument, lambda s: s.update(text="x")),
    "an update with an empty thread": (InvalidArgument, lambda s: s.update(thread_id="")),
    "an update with a blank thread": (InvalidArgument, lambda s: s.update(thread_id=" ")),
    "an update at a naive time": (InvalidArgument, lambda s: s.update(created_at=NAIVE)),
    "an update with a number as role": (InvalidArgument, lambda s: s.update(role=1)),
    "an update with a number as resource": (InvalidArgument, lambda s: s.update(resource_id=1)),
    "an update with NaN in content": (InvalidArgument, lambda s: s.update(content={"x": math.nan})),
    "an update past 1 MiB of content": (LimitExceeded, lambda s: s.update(content={"x": "x" * (1 << 20)})),
    "an update without id": (InvalidArgument, lambda s: s.memory.update_messages(messages=[{"role": "user"}])),
    "a deletion of an empty message id": (
        InvalidArgument,
        lambda s: s.memory.delete_messages(message_ids=[s.m0, ""]),
    ),
    "a deletion of one text": (InvalidArgument, lambda s: s.memory.delete_messages(message_ids=s.m0)),
    # resources
    "a resource without id": (InvalidArgument, lambda s: s.memory.save_resource(resource={})),
    "a resource with metadata that is a text": (
        InvalidArgument,
        lambda s: s.memory.save_resource(resource={"id": s.r, "metadata": "text"}),
    ),
    "a resource with an unknown attribute": (
        InvalidArgument,
        lambda s: s.memory.save_resource(resource={"id": s.r, "workingMemory": "x"}),
    ),
    "working memory that is a number": (
        InvalidArgument,
        lambda s: s.memory.update_resource(resource_id=s.r, working_memory=1),  # type: ignore[arg-type]
    ),
    "working memory over 1 MiB": (
        LimitExceeded,
        lambda s: s.memory.update_resource(resource_id=s.r, working_memory="x" * (1 << 20)),
    ),
    "resource metadata that is a list": (
        InvalidArgument,
        lambda s: s.memory.update_resource(resource_id=s.r, metadata=[1]),  # type: ignore[arg-type]
    ),
    "an update of an empty resource": (
        InvalidArgument,
        lambda s: s.memory.update_resource(resource_id="", working_memory="x"),
    ),
    # copies
    "a clone of an empty id": (InvalidArgument, lambda s: s.memory.clone_thread(source_thread_id="")),
    "a clone with a number as title": (
        InvalidArgument,
        lambda s: s.memory.clone_thread(source_thread_id=s.t, title=0),  # type: ignore[arg-type]
    ),
    "a clone with a list as title": (
        InvalidArgument,
        lambda s: s.memory.copy_thread(source_thread_id=s.t, title=[]),  # type: ignore[arg-type]
    ),
    "a clone of no thread": (ThreadNotFound, lambda s: s.memory.clone_thread(source_thread_id=s.m0)),
    "a clone to a taken id": (
        ThreadAlreadyExists,
        lambda s: s.memory.clone_thread(source_thread_id=s.t, new_thread_id=s.t),
    ),
    "a clone with a negative limit": (
        InvalidArgument,
        lambda s: s.memory.clone_thread(source_thread_id=s.t, options={"message_limit": -1}),
    ),
    "a clone since a naive time": (
        InvalidArgument,
        lambda s: s.memory.clone_thread(source_thread_id=s.t, options={"message_filter": {"start_date": NAIVE}}),
    ),
    "a clone with unknown options": (
        InvalidArgument,
        lambda s: s.memory.clone_thread(source_thread_id=s.t, options={"limit": 1}),  # type: ignore[arg-type]
    ),
    "a clone with a set in its metadata": (
        InvalidArgument,
        lambda s: s.memory.clone_thread(source_thread_id=s.t, metadata={"x": {1}}),
    ),
    "a clone with an empty resource": (
        InvalidArgument,
        lambda s: s.memory.copy_thread(source_thread_id=s.t, resource_id=""),
    ),
}

BAD_PAGES: list[dict[str, Any]] = [
    {"page": -1},
    {"page": 1.5},
    {"page": True},
    {"page": "1"},
    {"per_page": -1},
    {"per_page": 2.5},
    {"per_page": True},
    {"per_page": "all"},
    {"page": 2**53, "per_page": 2},
    {"per_page": 10**20},
    {"per_page": 2**53 - 1},
    {"page": 2**26, "per_page": 2**27 - 1},
    {"page": 10**20},
]
BAD_ORDERS: list[Any] = [
    {"field": "title"},
    {"direction": "asc"},
    {"direction": "sideways"},
    {"by": "created_at"},
    "created_at",
]
BAD_METADATA: list[Any] = [
    {"a.b": 1},
    {"": 1},
    {"1a": 1},
    {"日本語": 1},
    {"$schema": 1},
    {"a" * 129: 1},
    {"constructor": 1},
    {"__proto__": 1},
    {"prototype": 1},
    {"a\n": 1},
    {1: 1},
    ["a"],
    "a",
]


def _contents(deployment: Deployment, store: _Store) -> list[Any]:
    """Everything the case could have written."""
    with Session(deployment) as session:
        found: list[Any] = session.all(Message.query().by_index("by_thread", thread_id=store.t))
        found += session.all(Thread.query().by_index("by_resource", resource_id=store.r))
        found += session.get_many(Thread, [store.t, store.m0])
        found += session.get_many(Resource, [store.r])
        return [one and {name: getattr(one, name) for name in type(one).__mapper__.columns} for one in found]


async def _prepared(memory: AsyncMemory, unique: str) -> _Store:
    store = _Store(memory, unique)
    await memory.save_messages(messages=messages(f"{unique}m", 2, store.t, store.r))
    await memory.save_thread(thread=thread(store.t, store.r, metadata={"a": 1}))
    await memory.save_resource(resource={"id": store.r, "working_memory": "w", "metadata": {"a": 1}})
    return store


@pytest.mark.parametrize("case", WRITES)
async def test_what_cannot_be_written_is_an_error_and_writes_nothing(
    memory: AsyncMemory, deployment: Deployment, unique: str, case: str
) -> None:
    store = await _prepared(memory, unique)
    before = _contents(deployment, store)
    error, attempt = WRITES[case]
    with pytest.raises(error) as caught:
        await attempt(store)
    assert isinstance(caught.value, ConvexORMError)
    assert len(str(caught.value)) < 1_000
    if isinstance(caught.value, MastraError):
        assert caught.value.id.startswith("MASTRA_STORAGE_CONVEX_")
    assert _contents(deployment, store) == before


@pytest.mark.parametrize("wrong", BAD_PAGES, ids=str)
async def test_pages_that_are_none_are_refused(memory: AsyncMemory, unique: str, wrong: dict[str, Any]) -> None:
    lists: dict[str, Callable[[], Awaitable[object]]] = {
        "LIST_THREADS": lambda: memory.list_threads(**wrong),
        "LIST_MESSAGES": lambda: memory.list_messages(thread_id=unique, **wrong),
        "LIST_MESSAGES_BY_RESOURCE_ID": lambda: memory.list_messages_by_resource_id(resource_id=unique, **wrong),
    }
    for operation, call in lists.items():
        with pytest.raises(InvalidArgument) as caught:
            await call()
        assert caught.value.id == f"MASTRA_STORAGE_CONVEX_{operation}_INVALID_PAGE"
        assert caught.value.argument in wrong


async def test_everything_has_one_page_of_threads(memory: AsyncMemory) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await memory.list_threads(per_page=False, page=1)
    assert caught.value.id == "MASTRA_STORAGE_CONVEX_LIST_THREADS_INVALID_PAGE"


@pytest.mark.parametrize("wrong", BAD_ORDERS, ids=str)
async def test_orders_that_are_none_are_refused(memory: AsyncMemory, unique: str, wrong: Any) -> None:
    with pytest.raises(InvalidArgument):
        await memory.list_threads(order_by=wrong)
    with pytest.raises(InvalidArgument):
        await memory.list_messages(thread_id=unique, order_by=wrong)


@pytest.mark.parametrize("wrong", BAD_METADATA, ids=lambda value: repr(value)[:30])
async def test_metadata_that_cannot_be_filtered_by_is_refused(memory: AsyncMemory, unique: str, wrong: Any) -> None:
    calls: list[Awaitable[object]] = [
        memory.list_threads(filter={"metadata": wrong}),
        memory.list_messages(thread_id=unique, filter={"metadata": wrong}),
        memory.list_messages_by_resource_id(resource_id=unique, filter={"metadata": wrong}),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument) as caught:
            await call
        assert caught.value.argument == "metadata"


@pytest.mark.parametrize("wrong", [[1], {"a": 1}, {1}, b"x", math.nan, math.inf], ids=repr)
async def test_messages_are_filtered_by_scalars_alone(memory: AsyncMemory, unique: str, wrong: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await memory.list_messages(thread_id=unique, filter={"metadata": {"a": wrong}})
    assert caught.value.id == "MASTRA_STORAGE_CONVEX_LIST_MESSAGES_INVALID_METADATA_VALUE"


@pytest.mark.parametrize("wrong", [2**70, "\ud800", Fraction(1, 3)], ids=repr)
async def test_messages_are_filtered_by_what_convex_has_values_for(memory: AsyncMemory, unique: str, wrong: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await memory.list_messages(thread_id=unique, filter={"metadata": {"a": wrong}})
    assert caught.value.argument == "metadata"


@pytest.mark.parametrize(
    "wrong",
    [{1}, math.nan, 2**70, [2**70], {1: 1}, "\ud800", at(0).replace(tzinfo=None), DEEP],
    ids=lambda one: "deep" if one is DEEP else repr(one),
)
async def test_threads_are_filtered_by_json(memory: AsyncMemory, wrong: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await memory.list_threads(filter={"metadata": {"a": wrong}})
    assert caught.value.argument == "metadata"


@pytest.mark.parametrize(
    "wrong",
    [
        {"filter": {"colour": 1}},
        {"filter": {"date_range": {"start": NAIVE}}},
        {"filter": {"date_range": {"end": "tomorrow"}}},
        {"filter": {"date_range": {"end": 5}}},
        {"filter": {"date_range": {"since": at(0)}}},
        {"filter": {"date_range": [at(0), at(1)]}},
        {"filter": "all"},
        {"include": [{"id": ""}]},
        {"include": [{}]},
        {"include": ["m0"]},
        {"include": "m0"},
        {"include": [{"id": "m0", "with_previous_messages": -1}]},
        {"include": [{"id": "m0", "with_next_messages": 1.5}]},
        {"include": [{"id": "m0", "before": 1}]},
    ],
    ids=str,
)
async def test_lists_of_messages_refuse_what_they_do_not_know(
    memory: AsyncMemory, unique: str, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await memory.list_messages(thread_id=unique, **wrong)
    assert caught.value.id.startswith("MASTRA_STORAGE_CONVEX_LIST_MESSAGES_")
    with pytest.raises(InvalidArgument):
        await memory.list_messages_by_resource_id(resource_id=unique, **wrong)


@pytest.mark.parametrize("wrong", ["", "  ", [], ["a", ""], None, 1, [1], {"a"}], ids=repr)
async def test_lists_of_messages_need_threads(memory: AsyncMemory, wrong: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await memory.list_messages(thread_id=wrong)
    assert caught.value.id == "MASTRA_STORAGE_CONVEX_LIST_MESSAGES_INVALID_THREAD_ID"


@pytest.mark.parametrize("wrong", ["", " ", None, 1, b"x"], ids=repr)
async def test_an_id_is_a_text_with_something_in_it(memory: AsyncMemory, wrong: Any) -> None:
    calls: list[Awaitable[object]] = [
        memory.get_thread_by_id(thread_id=wrong),
        memory.get_resource_by_id(resource_id=wrong),
        memory.list_messages_by_resource_id(resource_id=wrong),
        memory.list_messages_by_id(message_ids=[wrong]),
        memory.delete_messages(message_ids=[wrong]),
        memory.delete_thread(thread_id=wrong),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument):
            await call


async def test_an_unreachable_deployment_is_one_error(unique: str) -> None:
    with ConvexStore(id="x", deployment_url="http://127.0.0.1:9", admin_auth_token="key") as store:
        with pytest.raises(DeploymentError) as caught:
            store.memory.save_thread(thread=thread(unique, "r"))
        assert "127.0.0.1:9" in str(caught.value)
