"""The largest uses that the documentation allows, against Convex's limits: each row of `docs/limits.md`, done on a host.

The host enforces the limits, so a use that goes beyond one fails; what it has used is held to what the page says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import attrs
import numpy as np
import pytest

from convexorm import Deployment, Model, Session
from convexorm.faces import finish
from convexorm.mapping.model import dump
from convexorm.requests import Commit, DeleteRange, Insert, Key, Pack, Range, Read, Upsert
from mastra_convex import ConvexServerCache, ConvexStore, ConvexVector
from mastra_convex.entities import BackgroundTask, Document, ScheduleTrigger, Vector
from tests.conftest import ROOT, Host, serve_host
from tests.mastra.support import at

PAGE = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
LIMITS = {
    "documents read": ("documentsRead", 32_000),
    "bytes read": ("bytesRead", 16 << 20),
    "ranges": ("indexRanges", 4_096),
    "documents written": ("documentsWritten", 16_000),
    "bytes written": ("bytesWritten", 16 << 20),
    "arguments": ("requestBytes", 16 << 20),
    "result": ("responseBytes", 16 << 20),
}
"""The columns of the page, what the host counts for each, and Convex's limit."""

DOCUMENTS, VECTORS = Document.__mapper__.table, Vector.__mapper__.table


@attrs.frozen
class Place:
    """A deployment with a name that nothing there has yet."""

    deployment: Deployment
    store: ConvexStore
    vectors: ConvexVector
    name: str

    @property
    def documents(self) -> Range:
        return Range(DOCUMENTS, "by_table_primary", eq=(self.name,))

    def commit(self, *writes: Any) -> None:
        finish(self.deployment.blocking.commit(Commit.new(list(writes))))

    def read(self, range: Range, **options: Any) -> None:
        finish(self.deployment.blocking.read([Read(range, **options)]))


def _document(on: Place, number: int, size: int = 0) -> dict[str, Any]:
    return {"table": on.name, "primaryKey": f"{number:05}", "record": "x" * size}


def _stored(count: int, size: int = 0) -> Callable[[Place], None]:
    def fill(on: Place) -> None:
        step = max(1, min(8_000, (12 << 20) // (size + 200)))
        for first in range(0, count, step):
            on.commit(*_inserts(on, range(first, min(count, first + step)), size))

    return fill


def _inserts(on: Place, numbers: range, size: int = 0) -> list[Insert]:
    return [Insert(DOCUMENTS, _document(on, number, size)) for number in numbers]


def _upserts(on: Place, count: int) -> list[Upsert]:
    return [
        Upsert(DOCUMENTS, Key("by_table_primary", (on.name, f"{number:05}")), _document(on, number, 8))
        for number in range(count)
    ]


def _messages(on: Place, count: int, size: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{on.name}-{number}",
            "thread_id": on.name,
            "resource_id": "r",
            "role": "user",
            "content": {"format": 2, "parts": [{"type": "text", "text": "x" * size}]},
            "created_at": at(number),
        }
        for number in range(count)
    ]


def _thread_of(count: int, size: int, batch: int = 2_000) -> Callable[[Place], None]:
    def fill(on: Place) -> None:
        on.store.memory.save_thread(thread={"id": on.name, "resource_id": "r"})
        messages = _messages(on, count, size)
        for first in range(0, count, batch):
            on.store.memory.save_messages(messages=messages[first : first + batch])

    return fill


def _vectors(count: int) -> Callable[[Place], None]:
    def fill(on: Place) -> None:
        rows = np.random.default_rng(0).standard_normal((count, 384), dtype=np.float32)
        on.vectors.create_index(index_name=on.name, dimension=384)
        on.vectors.upsert(index_name=on.name, vectors=rows, ids=[f"{number}" for number in range(count)])

    return fill


def _copies(on: Place, model: type[Model], document: Mapping[str, Any], count: int) -> None:
    """So many rows like one that is stored, in one commit."""
    row = {name: value for name, value in document.items() if not name.startswith("_")}
    on.commit(*[Insert(model.__mapper__.table, {**row, "id": f"{on.name}-{number}"}) for number in range(count)])


def _schedule(on: Place) -> None:
    on.store.schedules.create_schedule(
        schedule={
            "id": on.name,
            "cron": "* * * * *",
            "target": {"type": "workflow", "workflow_id": "w"},
            "status": "active",
            "next_fire_at": at(0),
        }
    )
    on.store.schedules.record_trigger(
        trigger={
            "id": f"{on.name}-first",
            "schedule_id": on.name,
            "run_id": "r",
            "scheduled_fire_at": at(0),
            "actual_fire_at": at(0),
            "outcome": "published",
            "trigger_kind": "schedule-fire",
        }
    )
    with Session(on.deployment) as session:
        (one,) = session.all(ScheduleTrigger.query().full_scan())
        _copies(on, ScheduleTrigger, dump(one), 3_999)


def _scores(on: Place) -> None:
    for number in range(100):
        on.store.scores.save_score(
            score={
                "scorer_id": on.name,
                "entity_id": "e",
                "run_id": f"r{number}",
                "score": 1.0,
                "source": "LIVE",
                "scorer": {"id": on.name},
                "entity": {"id": "e"},
                "input": {"text": "x" * 10_000},
                "output": {"text": "x" * 10_000},
            }
        )


def _tasks(on: Place) -> None:
    names = {"tool_call_id": "c", "tool_name": "t", "agent_id": on.name, "run_id": "r"}
    on.store.background_tasks.create_task(task={"id": on.name, **names, "status": "completed"})
    with Session(on.deployment) as session:
        (one,) = session.all(BackgroundTask.query().full_scan())
        _copies(on, BackgroundTask, dump(one), 3_000)


Do = Callable[[Place], object]


def _nothing(on: Place) -> None:
    """Nothing is there."""


USES: dict[str, tuple[Do, Do]] = {
    "a commit of 15,999 inserts": (_nothing, lambda on: on.commit(*_inserts(on, range(15_999)))),
    "a commit of 15 MB": (_nothing, lambda on: on.commit(*_inserts(on, range(15), 1_000_000))),
    "a commit that upserts 4,000 new documents by key": (_nothing, lambda on: on.commit(*_upserts(on, 4_000))),
    "a commit that upserts 2,000 stored documents by key": (
        _stored(2_000),
        lambda on: on.commit(*_upserts(on, 2_000)),
    ),
    "a step of `delete_all`, of 4,000 documents": (
        _stored(4_000),
        lambda on: on.commit(DeleteRange(on.documents, limit=4_000)),
    ),
    "a step of `delete_all`, of 6 MiB": (
        _stored(8, 900_000),
        lambda on: on.commit(DeleteRange(on.documents, limit=4_000)),
    ),
    "a page of 8,000 documents": (_stored(8_001), lambda on: on.read(on.documents)),
    "a page of 8 MiB": (_stored(10, 1_000_000), lambda on: on.read(on.documents)),
    "a count of 8,000 documents": (_stored(8_001), lambda on: on.read(on.documents, count=True)),
    "a digest of 8,000 documents": (_stored(8_001), lambda on: on.read(on.documents, digest="all")),
    "a pack of 8 MiB of vectors": (
        _vectors(2_400),
        lambda on: on.read(Range(VECTORS, "by_index", eq=(on.name,)), pack=Pack("embedding", 384)),
    ),
    "`session.read` of 1,024 queries": (
        _stored(1_024, 1_000),
        lambda on: Session(on.deployment).read(
            *[Document.query().by_index("by_table_primary", table=on.name, record_key=f"{n:05}") for n in range(1_024)]
        ),
    ),
    "`save_messages`, 2,000 new": (
        _thread_of(0, 0),
        lambda on: on.store.memory.save_messages(messages=_messages(on, 2_000, 500)),
    ),
    "`list_messages`, all of 8 MiB": (
        _thread_of(1_000, 8_000, batch=500),
        lambda on: on.store.memory.list_messages(thread_id=on.name, per_page=False),
    ),
    "`delete_messages`, 1,000": (
        _thread_of(1_000, 500),
        lambda on: on.store.memory.delete_messages(message_ids=[f"{on.name}-{number}" for number in range(1_000)]),
    ),
    "`clone_thread`, 4,000 messages": (
        _thread_of(4_000, 500),
        lambda on: on.store.memory.clone_thread(source_thread_id=on.name, new_thread_id=f"{on.name}-copy"),
    ),
    "`update_thread_resource_id`, 3,000 messages": (
        _thread_of(3_000, 500),
        lambda on: on.store.memory.update_thread_resource_id(thread_id=on.name, resource_id="q"),
    ),
    "`delete_thread`, any number of messages": (
        _thread_of(5_000, 500),
        lambda on: on.store.memory.delete_thread(thread_id=on.name),
    ),
    "`persist_workflow_snapshot`, 1 MB": (
        _nothing,
        lambda on: on.store.workflows.persist_workflow_snapshot(
            workflow_name=on.name, run_id="r", snapshot={"context": {"input": "x" * 1_000_000}, "status": "running"}
        ),
    ),
    "`delete_schedule`, 4,000 triggers": (_schedule, lambda on: on.store.schedules.delete_schedule(id=on.name)),
    "`list_scores_by_scorer_id`, 100 of 20 KB": (
        _scores,
        lambda on: on.store.scores.list_scores_by_scorer_id(scorer_id=on.name, pagination={"page": 0, "per_page": 100}),
    ),
    "`delete_tasks`, any number": (
        _tasks,
        lambda on: on.store.background_tasks.delete_tasks(filter={"agent_id": on.name}),
    ),
    "`save_installation`, 1 MB": (
        _nothing,
        lambda on: on.store.channels.save_installation(
            installation={
                "id": on.name,
                "platform": "slack",
                "agent_id": on.name,
                "status": "active",
                "data": {"text": "x" * 1_000_000},
            }
        ),
    ),
    "`documents.batch_insert`, 1,000": (
        _nothing,
        lambda on: on.store.documents.batch_insert(
            table_name=on.name, records=[{"id": f"{number}", "text": "x" * 1_000} for number in range(1_000)]
        ),
    ),
    "`ConvexVector.upsert`, 1,900 vectors of 384": (
        _vectors(1_900),
        lambda on: on.vectors.upsert(
            index_name=on.name,
            vectors=np.ones((1_900, 384), dtype=np.float32),
            ids=[f"{number}" for number in range(1_900)],
        ),
    ),
    "`ConvexVector.query`, 3,000 vectors of 384": (
        _vectors(3_000),
        lambda on: ConvexVector(id="new", deployment=on.deployment).query(index_name=on.name, query_vector=[1.0] * 384),
    ),
    "`ConvexServerCache.delete`, a list of 4,000": (
        lambda on: ConvexServerCache(deployment=on.deployment).set(key=on.name, value=list(range(4_000))),
        lambda on: ConvexServerCache(deployment=on.deployment).delete(key=on.name),
    ),
}


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Host, Callable[[str], Place]]]:
    """A host that nobody else calls."""
    for host in serve_host(ROOT / "convex"):
        with host.connect() as deployment:
            stores = ConvexStore(id="s", deployment=deployment), ConvexVector(id="v", deployment=deployment)
            yield host, partial(Place, deployment, *stores)


def _number(cell: str) -> int:
    return int(cell.replace(",", "").strip() or 0)


def rows() -> dict[str, dict[str, int]]:
    """The table of the page: what each use may take."""
    table = re.search(r"\| use \|.*?\n\n", PAGE + "\n\n", re.DOTALL)
    assert table is not None
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].strip().splitlines()]
    return {line[0]: dict(zip(lines[0][1:], map(_number, line[1:]), strict=True)) for line in lines[3:]}


def test_every_use_of_the_page_is_done_here() -> None:
    assert list(rows()) == list(USES)


def test_no_use_of_the_page_is_over_a_limit_of_convex() -> None:
    for name, stated in rows().items():
        for column, (_, most) in LIMITS.items():
            assert stated[column] <= most, (name, column)


@pytest.mark.parametrize("name", USES)
def test_the_largest_use_takes_no_more_than_the_page_says(
    place: tuple[Host, Callable[[str], Place]], name: str, unique: str
) -> None:
    setup, use = USES[name]
    host, on = place
    setup(on(unique))
    host.reset()
    use(on(unique))
    most: Any = host.metrics()["most"]
    used = {column: most[counted] for column, (counted, _) in LIMITS.items()}
    assert {column: amount for column, amount in used.items() if amount > rows()[name][column]} == {}
