"""Documents: records of any table without a type of its own, by their ids, and many writers at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from convexorm import Deployment, LimitExceeded, Session
from mastra_convex import AsyncConvexStore, AsyncDocuments, ConvexStore, Document, InvalidArgument
from tests.mastra.support import awaited_store
from tests.processes import run_processes

NESTED: dict[str, Any] = {}
_level = NESTED
for _ in range(40):
    _level["in"] = {}
    _level = _level["in"]
RECORDS: list[dict[str, Any]] = [
    {},
    {"text": "a", "number": 1.5, "flag": True, "none": None, "list": [1, {"a": None}]},
    {"$schema": "x", "日本語": "はい", "": 1},
    NESTED,
    {"large": 2**60, "_a": 1},
]


@pytest.fixture(params=["async", "blocking"])
def documents(request: pytest.FixtureRequest, deployment: Deployment) -> AsyncDocuments:
    """The documents of every kind of deployment, on either face."""
    if request.param == "async":
        return AsyncConvexStore(id="test", deployment=deployment).documents
    return awaited_store(ConvexStore(id="test", deployment=deployment)).documents


async def ids(documents: AsyncDocuments, table: str, **given: Any) -> list[Any]:
    return [record["id"] for record in await documents.query_table(table_name=table, **given)]


@pytest.mark.parametrize("fields", RECORDS, ids=range(len(RECORDS)))
async def test_a_record_is_loaded_as_it_was_inserted(
    documents: AsyncDocuments, unique: str, fields: dict[str, Any]
) -> None:
    record = {"id": "a", **fields}
    await documents.insert(table_name=unique, record=record)
    assert await documents.load(table_name=unique, keys={"id": "a"}) == record
    assert await documents.load_many(table_name=unique, ids=["a"]) == [record]
    assert await documents.query_table(table_name=unique) == [record]


async def test_inserting_replaces_a_record_whole(documents: AsyncDocuments, unique: str) -> None:
    await documents.insert(table_name=unique, record={"id": "a", "x": 1})
    await documents.insert(table_name=unique, record={"id": "a", "y": 2})
    assert await documents.query_table(table_name=unique) == [{"id": "a", "y": 2}]


async def test_tables_do_not_see_each_other(documents: AsyncDocuments, unique: str) -> None:
    for table in ("one", "two"):
        await documents.insert(table_name=f"{unique}-{table}", record={"id": "a", "of": table})
    await documents.delete_many(table_name=f"{unique}-one", ids=["a"])
    assert await documents.load(table_name=f"{unique}-one", keys={"id": "a"}) is None
    assert await documents.load(table_name=f"{unique}-two", keys={"id": "a"}) == {"id": "a", "of": "two"}


async def test_of_a_batch_the_last_record_with_an_id_counts(documents: AsyncDocuments, unique: str) -> None:
    await documents.batch_insert(table_name=unique, records=[{"id": id, "n": n} for n, id in enumerate("abca")])
    assert await documents.load_many(table_name=unique, ids=["c", "missing", "a", "c"]) == [
        {"id": "c", "n": 2},
        {"id": "a", "n": 3},
    ]
    await documents.batch_insert(table_name=unique, records=[])
    assert len(await ids(documents, unique)) == 3


async def test_one_bad_record_rejects_the_batch(documents: AsyncDocuments, unique: str) -> None:
    for bad in ({}, {"id": ""}, {"id": "b", "x": float("nan")}, {"id": "b", "x": object()}, "b"):
        with pytest.raises(InvalidArgument):
            await documents.batch_insert(table_name=unique, records=[{"id": "a"}, bad])  # type: ignore[list-item]
    with pytest.raises(LimitExceeded):
        await documents.batch_insert(table_name=unique, records=[{"id": "a"}, {"id": "b", "x": "x" * (1 << 20)}])
    assert await ids(documents, unique) == []


async def test_a_number_is_the_same_id_as_its_text(documents: AsyncDocuments, unique: str) -> None:
    await documents.insert(table_name=unique, record={"id": 7, "x": 1})
    assert await documents.load(table_name=unique, keys={"id": "7"}) == {"id": 7, "x": 1}
    assert await documents.patch(table_name=unique, id=7, record={"x": 2})
    assert await documents.load_many(table_name=unique, ids=["7", 7]) == [{"id": 7, "x": 2}]


async def test_dates_become_text(documents: AsyncDocuments, unique: str) -> None:
    await documents.insert(table_name=unique, record={"id": "a", "at": datetime(2024, 5, 1, tzinfo=UTC)})
    assert await documents.load(table_name=unique, keys={"id": "a"}) == {"id": "a", "at": "2024-05-01T00:00:00.000Z"}


async def test_patching_merges_one_level_deep(documents: AsyncDocuments, unique: str) -> None:
    assert not await documents.patch(table_name=unique, id="a", record={"x": 1})
    await documents.insert(table_name=unique, record={"id": "a", "x": {"y": 1}, "z": 1})
    assert await documents.patch(table_name=unique, id="a", record={"id": "other", "x": {"w": 2}, "$new": None})
    assert await documents.query_table(table_name=unique) == [{"id": "a", "x": {"w": 2}, "z": 1, "$new": None}]
    assert await documents.patch(table_name=unique, id="a", record={})


async def test_loading_by_fields_gives_the_first_stored(documents: AsyncDocuments, unique: str) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "b", "x": 1, "y": 1},
        {"id": "a", "x": 1, "y": 2},
        {"id": "c", "x": None, "$k": "s"},
    ]
    for row in rows:
        await documents.insert(table_name=unique, record=row)
    assert await documents.load(table_name=unique, keys={"x": 1}) == rows[0]
    assert await documents.load(table_name=unique, keys={"x": 1, "y": 2}) == rows[1]
    assert await documents.load(table_name=unique, keys={"x": None}) == rows[2]
    assert await documents.load(table_name=unique, keys={"$k": "s"}) == rows[2]
    assert await documents.load(table_name=unique, keys={"x": True}) is None
    assert await documents.load(table_name=unique, keys={"id": "a", "y": 2}) == rows[1]
    assert await documents.load(table_name=unique, keys={"id": "a", "y": 1}) is None


async def test_filters_compare_by_exact_type(documents: AsyncDocuments, unique: str) -> None:
    values = [1, "1", True, None, 0, ""]
    for number, value in enumerate(values):
        await documents.insert(table_name=unique, record={"id": f"{9 - number}", "v": value, "even": number % 2 == 0})
    await documents.insert(table_name=unique, record={"id": "without", "even": True})
    for number, value in enumerate(values):
        assert await ids(documents, unique, filters=[{"field": "v", "value": value}]) == [f"{9 - number}"]
    both: Any = [{"field": "even", "value": True}, {"field": "v", "value": True}]
    assert await ids(documents, unique, filters=both) == ["7"]
    assert await ids(documents, unique) == ["9", "8", "7", "6", "5", "4", "without"]
    assert await ids(documents, unique, limit=2) == ["9", "8"]
    assert await ids(documents, unique, limit=0) == []
    assert await ids(documents, unique, limit=2, filters=[{"field": "even", "value": True}]) == ["9", "7"]


async def test_deleted_records_are_gone(documents: AsyncDocuments, unique: str) -> None:
    await documents.batch_insert(table_name=unique, records=[{"id": id} for id in "abc"])
    await documents.delete_many(table_name=unique, ids=["a", "c", "missing", "a"])
    assert await ids(documents, unique) == ["b"]
    await documents.delete_many(table_name=unique, ids=[])
    for clear in (documents.clear_table, documents.drop_table):
        await documents.insert(table_name=f"{unique}-kept", record={"id": "a"})
        await documents.insert(table_name=unique, record={"id": "a"})
        await clear(table_name=unique)
        assert await ids(documents, unique) == []
        assert await ids(documents, f"{unique}-kept") == ["a"]


def test_a_large_table_is_listed_and_deleted(open_deployment: Callable[[str], Deployment]) -> None:
    documents = ConvexStore(id="test", deployment=open_deployment("sqlite")).documents
    for start in range(0, 9_000, 3_000):
        documents.batch_insert(table_name="t", records=[{"id": start + number} for number in range(3_000)])
    assert len(documents.query_table(table_name="t")) == 9_000
    documents.delete_many(table_name="t", ids=list(range(2_500)))
    assert len(documents.load_many(table_name="t", ids=list(range(5_000)))) == 2_500
    documents.clear_table(table_name="t")
    assert documents.query_table(table_name="t") == []


def test_records_lie_where_the_npm_package_has_them(deployment: Deployment, unique: str) -> None:
    documents = ConvexStore(id="test", deployment=deployment).documents
    documents.insert(table_name=unique, record={"id": "a", "snake_case": 1})
    with Session(deployment) as session:
        stored = session.get(Document, (unique, "a"))
        assert stored is not None
        document = dict(stored._state.document or {})
    assert {name: document[name] for name in ("table", "primaryKey", "record")} == {
        "table": unique,
        "primaryKey": "a",
        "record": {"id": "a", "snake_case": 1},
    }


def test_documents_are_a_domain_of_the_store(open_deployment: Callable[[str], Deployment]) -> None:
    store = ConvexStore(id="test", deployment=open_deployment("memory"))
    assert store.get_store("documents") is store.documents


# -- bad input -----------------------------------------------------------------------------------------------------

_TYPED = ["mastra_threads", "mastra_workflow_snapshot", "mastra_vector_indexes", "mastra_vector_x"]
_TABLES: list[Any] = ["", " ", None, 5, *_TYPED]
CALLS: dict[str, dict[str, Any]] = {
    "insert": {"record": {"id": "a"}},
    "batch_insert": {"records": [{"id": "a"}]},
    "patch": {"id": "a", "record": {}},
    "load": {"keys": {"id": "a"}},
    "load_many": {"ids": ["a"]},
    "query_table": {},
    "delete_many": {"ids": ["a"]},
    "clear_table": {},
}
BAD: list[tuple[str, dict[str, Any]]] = [
    *((method, {**given, "table_name": table}) for method, given in CALLS.items() for table in _TABLES),
    *(("insert", {"table_name": "t", "record": record}) for record in (None, {}, {"id": None}, {"id": True}, {"id": 1.5})),
    *(("batch_insert", {"table_name": "t", "records": records}) for records in (None, {"id": "a"}, "a", [None])),
    *(("patch", {"table_name": "t", "id": id, "record": {}}) for id in (None, "", 1.5)),
    ("patch", {"table_name": "t", "id": "a", "record": [1]}),
    *(("load", {"table_name": "t", "keys": keys}) for keys in (None, {}, {"id": ""}, {"x": [1]}, {"x": float("nan")})),
    *((method, {"table_name": "t", "ids": ids}) for method in ("load_many", "delete_many") for ids in ("a", None, [None])),
    *(("query_table", {"table_name": "t", "limit": limit}) for limit in (-1, 1.5, True)),
    *(("query_table", {"table_name": "t", "filters": [one]}) for one in ({"field": "a"}, {"field": 1, "value": 1}, 5)),
    ("query_table", {"table_name": "t", "filters": [{"field": "a", "value": {}}]}),
]


@pytest.mark.parametrize(("method", "given"), BAD)
async def test_bad_input_is_refused_before_anything_is_read(method: str, given: dict[str, Any]) -> None:
    documents = AsyncDocuments(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as error:
        await getattr(documents, method)(**given)
    assert error.value.operation == ("CLEAR_TABLE" if method == "drop_table" else method.upper())


# -- many writers --------------------------------------------------------------------------------------------------

WRITERS = 50


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_patches_from_threads_are_all_kept(open_deployment: Callable[[str], Deployment], kind: str, unique: str) -> None:
    documents = ConvexStore(id="test", deployment=open_deployment(kind)).documents
    documents.insert(table_name=unique, record={"id": "a"})

    def patch(number: int) -> bool:
        return documents.patch(table_name=unique, id="a", record={f"f{number}": number})

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(patch, range(WRITERS)))
    expected = {f"f{number}": number for number in range(WRITERS)}
    assert documents.load(table_name=unique, keys={"id": "a"}) == {"id": "a", **expected}


@pytest.mark.parametrize("kind", ["sqlite", "host"])
def test_a_record_inserted_by_many_is_there_once(
    open_deployment: Callable[[str], Deployment], kind: str, unique: str
) -> None:
    documents = ConvexStore(id="test", deployment=open_deployment(kind)).documents
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda n: documents.insert(table_name=unique, record={"id": "a", "n": n}), range(32)))
    assert len(documents.query_table(table_name=unique)) == 1


def test_patches_from_processes_are_all_kept(open_deployment: Callable[[str], Deployment]) -> None:
    deployment = open_deployment("sqlite")
    documents = ConvexStore(id="test", deployment=deployment).documents
    documents.insert(table_name="t", record={"id": "a"})
    run_processes(deployment, patch_some, processes=5)
    assert len(documents.load(table_name="t", keys={"id": "a"}) or {}) == 51


def patch_some(deployment: Deployment, worker: int) -> None:
    documents = ConvexStore(id="test", deployment=deployment).documents
    for number in range(10):
        documents.patch(table_name="t", id="a", record={f"f{worker}-{number}": number})
