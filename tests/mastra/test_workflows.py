"""Workflow runs: snapshots kept whole, results and states merged under many writers, lists through indexes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, cast

import pytest

from convexorm import Deployment, LimitExceeded, Session
from mastra_convex import (
    AsyncConvexStore,
    AsyncWorkflows,
    ConvexStore,
    InvalidArgument,
    WorkflowRuns,
    WorkflowSnapshot,
    WorkflowSnapshotInvalid,
)
from tests.conftest import Host
from tests.mastra.support import at, awaited
from tests.processes import run_processes

NESTED: dict[str, Any] = {}
_level = NESTED
for _ in range(40):
    _level["in"] = {}
    _level = _level["in"]

PENDING = {"__mastra_pending__": True}
SUSPENDED = {"status": "suspended", "suspendPayload": {}}
LARGE = 200_000


@pytest.fixture(params=["async", "blocking"])
def workflows(request: pytest.FixtureRequest, deployment: Deployment) -> AsyncWorkflows:
    """The workflows of every kind of deployment, on either face."""
    if request.param == "async":
        return AsyncConvexStore(id="test", deployment=deployment).workflows
    return cast("AsyncWorkflows", awaited(cast("Any", ConvexStore(id="test", deployment=deployment).workflows)))


async def persist(workflows: AsyncWorkflows, name: str, run_id: str, seconds: float = 0, **given: Any) -> None:
    """Persist a run created at an instant; `status`, `context` and `text` go into the snapshot."""
    snapshot = {name: given.pop(name) for name in ("status", "context", "text") if name in given}
    given = {"snapshot": {"context": {}, **snapshot}, "created_at": at(seconds), **given}
    await workflows.persist_workflow_snapshot(workflow_name=name, run_id=run_id, **given)


def store_without_status(deployment: Deployment, name: str, run_id: str, seconds: float, snapshot: Any) -> None:
    """A run as a writer leaves it that keeps no status beside the snapshot."""
    with Session(deployment) as session:
        key = {"id": f"{name}-{run_id}", "workflow_name": name, "run_id": run_id}
        session.add(WorkflowSnapshot(**key, snapshot=snapshot, created_at=at(seconds), updated_at=at(seconds)))
        session.commit()


def run_ids(listed: WorkflowRuns) -> list[str]:
    return [run.run_id for run in listed.runs]


# -- persisting and loading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "snapshot",
    [
        {},
        {"status": "running", "context": {"input": {"a": [1, 2.5, None, True]}}},
        {"$schema": "x", "日本語": {"": {"$ref": "#"}}},
        NESTED,
        {"wide": {f"key{number}": number for number in range(1_100)}, "long": list(range(9_000))},
        {"text": '{"a":1}', "null": "null", "large": 2**60},
        {"status": 7},
    ],
    ids=["empty", "usual", "keys", "deep", "wide", "texts", "odd status"],
)
async def test_a_snapshot_is_loaded_as_it_was_persisted(
    workflows: AsyncWorkflows, unique: str, snapshot: dict[str, Any]
) -> None:
    await workflows.persist_workflow_snapshot(workflow_name=unique, run_id="r", snapshot=snapshot)
    assert await workflows.load_workflow_snapshot(workflow_name=unique, run_id="r") == snapshot
    (run,) = (await workflows.list_workflow_runs(workflow_name=unique)).runs
    assert run.snapshot == snapshot


async def test_a_missing_run_is_none(workflows: AsyncWorkflows, unique: str) -> None:
    assert await workflows.load_workflow_snapshot(workflow_name=unique, run_id="r") is None
    assert await workflows.get_workflow_run_by_id(workflow_name=unique, run_id="r") is None
    assert await workflows.get_workflow_run_by_id(run_id=unique) is None


async def test_persisting_again_keeps_when_the_run_was_created_and_its_resource(
    workflows: AsyncWorkflows, unique: str
) -> None:
    first: dict[str, Any] = {"resource_id": "user", "created_at": at(1), "updated_at": at(2)}
    await workflows.persist_workflow_snapshot(workflow_name=unique, run_id="r", snapshot={"n": 1}, **first)
    again: dict[str, Any] = {"created_at": at(8), "updated_at": at(9)}
    await workflows.persist_workflow_snapshot(workflow_name=unique, run_id="r", snapshot={"n": 2}, **again)
    run = await workflows.get_workflow_run_by_id(workflow_name=unique, run_id="r")
    assert run is not None
    assert (run.workflow_name, run.run_id, run.snapshot) == (unique, "r", {"n": 2})
    assert (run.created_at, run.updated_at, run.resource_id) == (at(1), at(9), "user")
    await workflows.persist_workflow_snapshot(workflow_name=unique, run_id="r", snapshot={}, resource_id="other")
    moved = await workflows.get_workflow_run_by_id(workflow_name=unique, run_id="r")
    assert moved is not None
    assert moved.resource_id == "other"


async def test_runs_are_told_apart_by_both_names_not_by_their_joined_text(workflows: AsyncWorkflows, unique: str) -> None:
    await persist(workflows, unique, "b-c", status="running")
    await persist(workflows, f"{unique}-b", "c", status="failed")
    assert (await workflows.load_workflow_snapshot(workflow_name=unique, run_id="b-c") or {})["status"] == "running"
    await workflows.delete_workflow_run_by_id(workflow_name=f"{unique}-b", run_id="c")
    assert await workflows.load_workflow_snapshot(workflow_name=unique, run_id="b-c") is not None
    assert await workflows.load_workflow_snapshot(workflow_name=f"{unique}-b", run_id="c") is None


async def test_without_a_workflow_the_newest_run_of_an_id_is_got(workflows: AsyncWorkflows, unique: str) -> None:
    for name, seconds in (("a", 5), ("b", 9), ("c", 1)):
        await persist(workflows, f"{unique}-{name}", unique, seconds)
    newest = await workflows.get_workflow_run_by_id(run_id=unique)
    assert newest is not None
    assert newest.workflow_name == f"{unique}-b"


async def test_a_deleted_run_is_gone_and_another_deletion_does_nothing(workflows: AsyncWorkflows, unique: str) -> None:
    await persist(workflows, unique, "r")
    for _ in range(2):
        await workflows.delete_workflow_run_by_id(workflow_name=unique, run_id="r")
        assert await workflows.load_workflow_snapshot(workflow_name=unique, run_id="r") is None


async def test_a_snapshot_over_the_document_limit_is_refused_and_nothing_changes(
    workflows: AsyncWorkflows, unique: str
) -> None:
    await persist(workflows, unique, "r", status="running")
    text = "x" * (1 << 20)
    attempts: list[Callable[[], Any]] = [
        lambda: workflows.persist_workflow_snapshot(workflow_name=unique, run_id="r", snapshot={"text": text}),
        lambda: workflows.update_workflow_results(workflow_name=unique, run_id="r", step_id="s", result={"output": text}),
        lambda: workflows.update_workflow_state(workflow_name=unique, run_id="r", opts={"error": text}),
    ]
    for attempt in attempts:
        with pytest.raises(LimitExceeded, match=r"at most 1,048,576, got 1,04\d,\d\d\d") as caught:
            await attempt()
        assert caught.value.maximum == 1 << 20
        assert (caught.value.actual or 0) > 1 << 20
    assert await workflows.load_workflow_snapshot(workflow_name=unique, run_id="r") == {"context": {}, "status": "running"}


# -- results of steps ----------------------------------------------------------------------------------------------


async def test_a_result_and_the_request_are_merged_into_the_snapshot(workflows: AsyncWorkflows, unique: str) -> None:
    await persist(workflows, unique, "r", status="running", context={"input": {"n": 1}})
    result = {"status": "success", "output": {"a_b": 1, "$schema": "日本語"}}
    request: dict[str, Any] = {"user_id": "u"}
    context = await workflows.update_workflow_results(
        workflow_name=unique, run_id="r", step_id="step_one", result=result, request_context=request
    )
    assert context == {"input": {"n": 1}, "step_one": result}
    await workflows.update_workflow_results(
        workflow_name=unique, run_id="r", step_id="two", result={"status": "failed"}, request_context={"more": 1}
    )
    snapshot = await workflows.load_workflow_snapshot(workflow_name=unique, run_id="r")
    assert snapshot == {
        "status": "running",
        "context": {**context, "two": {"status": "failed"}},
        "requestContext": {"user_id": "u", "more": 1},
    }


@pytest.mark.parametrize(
    ("stored", "new", "merged"),
    [
        ([1, None, 3], [None, 2], [1, 2, 3]),
        ([1, 2], [0, ""], [0, ""]),
        ([1, 2], [False, []], [False, []]),
        ([1], [None, None, 4], [1, None, 4]),
        ([], [None], [None]),
        ([SUSPENDED, None, 1], [PENDING, PENDING, PENDING], [None, None, 1]),
        ([{"status": "suspended", "suspendedAt": 1}, PENDING], [PENDING, PENDING], [None, None]),
        ([{"status": "suspended", "payload": 1}], [PENDING], [{"status": "suspended", "payload": 1}]),
        ([1, 2], [PENDING, 5, 6], [1, 2, None]),
        ([SUSPENDED], [{"__mastra_pending__": True, "more": 1}], [{"__mastra_pending__": True, "more": 1}]),
        ([SUSPENDED], [{"__mastra_pending__": 1}], [{"__mastra_pending__": 1}]),
        ({"a": 1}, [1], [1]),
        ([1], {"a": 1}, {"a": 1}),
    ],
)
async def test_outputs_that_are_lists_merge_by_position(
    workflows: AsyncWorkflows, unique: str, stored: Any, new: Any, merged: Any
) -> None:
    await persist(workflows, unique, "r", context={"s": {"status": "running", "output": stored}})
    context = await workflows.update_workflow_results(
        workflow_name=unique, run_id="r", step_id="s", result={"status": "success", "output": new}
    )
    status = "running" if any(one is PENDING for one in new) else "success"
    assert context == {"s": {"status": status, "output": merged}}


async def test_a_result_for_no_run_does_nothing(workflows: AsyncWorkflows, unique: str) -> None:
    result = {"status": "success"}
    assert await workflows.update_workflow_results(workflow_name=unique, run_id="r", step_id="s", result=result) == {}
    assert await workflows.load_workflow_snapshot(workflow_name=unique, run_id="r") is None


async def test_a_snapshot_without_a_context_takes_no_updates(workflows: AsyncWorkflows, unique: str) -> None:
    await workflows.persist_workflow_snapshot(workflow_name=unique, run_id="r", snapshot={"status": "running"})
    with pytest.raises(WorkflowSnapshotInvalid) as caught:
        await workflows.update_workflow_results(workflow_name=unique, run_id="r", step_id="s", result={})
    assert caught.value.id == "MASTRA_STORAGE_CONVEX_UPDATE_WORKFLOW_RESULTS_INVALID_SNAPSHOT"
    with pytest.raises(WorkflowSnapshotInvalid):
        await workflows.update_workflow_state(workflow_name=unique, run_id="r", opts={"status": "failed"})


async def test_a_row_without_a_snapshot_is_a_pending_run(
    workflows: AsyncWorkflows, deployment: Deployment, unique: str
) -> None:
    with Session(deployment) as session:
        key = {"workflow_name": unique, "run_id": "r"}
        session.add(WorkflowSnapshot(**key, snapshot=None, created_at=at(0), updated_at=at(0)))
        session.commit()
    assert await workflows.load_workflow_snapshot(workflow_name=unique, run_id="r") is None
    run = await workflows.get_workflow_run_by_id(workflow_name=unique, run_id="r")
    assert run is not None
    assert (run.snapshot["status"], run.snapshot["runId"]) == ("pending", "r")
    assert await workflows.update_workflow_results(workflow_name=unique, run_id="r", step_id="s", result={}) == {"s": {}}


# -- the state -----------------------------------------------------------------------------------------------------


async def test_the_state_is_merged_under_the_names_that_snapshots_use(workflows: AsyncWorkflows, unique: str) -> None:
    await persist(workflows, unique, "r", status="running", context={"my_step": {}})
    answer = await workflows.update_workflow_state(
        workflow_name=unique,
        run_id="r",
        opts={
            "status": "suspended",
            "result": {"snake_key": 1},
            "error": {"message": "m"},
            "suspended_paths": {"my_step": [0, 1]},
            "waiting_paths": {"other_step": [2]},
            "resume_labels": {"my_label": {"step_id": "my_step", "foreach_index": 3}},
            "active_paths": [1],
            "active_steps_path": {"my_step": [1]},
            "tracing_context": {"trace_id": "t", "span_id": "s", "parent_span_id": "p"},
        },
    )
    assert answer == {
        "context": {"my_step": {}},
        "status": "suspended",
        "result": {"snake_key": 1},
        "error": {"message": "m"},
        "suspendedPaths": {"my_step": [0, 1]},
        "waitingPaths": {"other_step": [2]},
        "resumeLabels": {"my_label": {"stepId": "my_step", "foreachIndex": 3}},
        "activePaths": [1],
        "activeStepsPath": {"my_step": [1]},
        "tracingContext": {"traceId": "t", "spanId": "s", "parentSpanId": "p"},
    }
    assert await workflows.load_workflow_snapshot(workflow_name=unique, run_id="r") == answer
    kept = await workflows.update_workflow_state(
        workflow_name=unique, run_id="r", opts={"status": "running", "error": None}
    )
    assert kept == {**answer, "status": "running"}


@pytest.mark.parametrize(
    ("expected", "holds"),
    [("running", True), (["pending", "running"], True), ("failed", False), (["failed"], False), ([], False), (None, True)],
)
async def test_a_state_is_updated_only_if_the_status_is_as_expected(
    workflows: AsyncWorkflows, unique: str, expected: Any, holds: bool
) -> None:
    await persist(workflows, unique, "r", status="running", updated_at=at(3))
    answer = await workflows.update_workflow_state(
        workflow_name=unique, run_id="r", opts={"status": "success", "expected_status": expected}
    )
    assert answer == ({"context": {}, "status": "success"} if holds else None)
    run = await workflows.get_workflow_run_by_id(workflow_name=unique, run_id="r")
    assert run is not None
    assert run.snapshot == {"context": {}, "status": "success" if holds else "running"}
    assert (run.updated_at > at(3)) is holds


async def test_a_state_for_no_run_is_none(workflows: AsyncWorkflows, unique: str) -> None:
    assert await workflows.update_workflow_state(workflow_name=unique, run_id="r", opts={"status": "failed"}) is None
    assert await workflows.load_workflow_snapshot(workflow_name=unique, run_id="r") is None


# -- lists ---------------------------------------------------------------------------------------------------------


async def test_runs_are_listed_newest_first_and_in_pages_only_if_both_numbers_are_given(
    workflows: AsyncWorkflows, unique: str
) -> None:
    for number in (3, 0, 4, 1, 2):
        await persist(workflows, unique, str(number), number)
    for partly in ({}, {"page": 1}, {"per_page": 2}, {"page": 0, "per_page": False}):
        listed = await workflows.list_workflow_runs(workflow_name=unique, **cast("Any", partly))
        assert run_ids(listed) == ["4", "3", "2", "1", "0"]
        assert (listed.total, listed.page, listed.per_page, listed.has_more) == (5, 0, False, False)
    pages = [await workflows.list_workflow_runs(workflow_name=unique, page=page, per_page=2) for page in range(4)]
    assert [run_ids(page) for page in pages] == [["4", "3"], ["2", "1"], ["0"], []]
    assert [(page.total, page.has_more) for page in pages] == [(5, True), (5, True), (5, False), (5, False)]
    uncounted = await workflows.list_workflow_runs(workflow_name=unique, page=1, per_page=2, include_total=False)
    assert (run_ids(uncounted), uncounted.total, uncounted.has_more) == (["2", "1"], None, True)
    none = await workflows.list_workflow_runs(workflow_name=unique, page=0, per_page=0)
    assert (none.runs, none.total, none.has_more) == ([], 5, True)


async def test_runs_of_one_instant_keep_the_newest_stored_first(workflows: AsyncWorkflows, unique: str) -> None:
    for number in range(5):
        await persist(workflows, unique, str(number), 0, status="failed")
    for status in (None, "failed"):
        pages = [
            await workflows.list_workflow_runs(workflow_name=unique, status=cast("Any", status), page=page, per_page=2)
            for page in range(3)
        ]
        assert [run_ids(page) for page in pages] == [["4", "3"], ["2", "1"], ["0"]]


async def test_runs_are_listed_by_every_filter(workflows: AsyncWorkflows, unique: str) -> None:
    await workflows.dangerously_clear_all()
    other = f"{unique}-other"
    await persist(workflows, unique, "a", 1, status="running", resource_id="u")
    await persist(workflows, unique, "b", 2, status="failed", resource_id="u")
    await persist(workflows, other, "c", 3, status="running", resource_id="u")
    await persist(workflows, other, "d", 4, status="running", resource_id="v")
    await persist(workflows, other, "e", 5)
    expected: list[tuple[dict[str, Any], str]] = [
        ({}, "edcba"),
        ({"workflow_name": None, "resource_id": None, "thread_id": None}, "edcba"),
        ({"workflow_name": unique}, "ba"),
        ({"resource_id": "u"}, "cba"),
        ({"status": "running"}, "dca"),
        ({"status": "waiting"}, ""),
        ({"workflow_name": other, "status": "running"}, "dc"),
        ({"workflow_name": unique, "resource_id": "u", "status": "failed"}, "b"),
        ({"resource_id": "u", "status": "running"}, "ca"),
        ({"from_date": at(2), "to_date": at(4)}, "dcb"),
        ({"from_date": at(2)}, "edcb"),
        ({"to_date": at(2)}, "ba"),
        ({"from_date": at(4), "to_date": at(2)}, ""),
        ({"status": "running", "from_date": at(3), "to_date": at(3)}, "c"),
        ({"resource_id": "u", "from_date": at(2)}, "cb"),
        ({"workflow_name": other, "from_date": at(4).isoformat()}, "ed"),
    ]
    for filters, ids in expected:
        listed = await workflows.list_workflow_runs(**filters)
        assert ("".join(run_ids(listed)), listed.total) == (ids, len(ids)), filters
        paged = await workflows.list_workflow_runs(**filters, page=0, per_page=1)
        assert ("".join(run_ids(paged)), paged.total, paged.has_more) == (ids[:1], len(ids), len(ids) > 1), filters


async def test_a_run_moves_to_the_list_of_its_new_status(workflows: AsyncWorkflows, unique: str) -> None:
    async def listed(status: str) -> list[str]:
        return run_ids(await workflows.list_workflow_runs(workflow_name=unique, status=cast("Any", status)))

    await persist(workflows, unique, "r", status="running")
    assert (await listed("running"), await listed("success")) == (["r"], [])
    await workflows.update_workflow_state(workflow_name=unique, run_id="r", opts={"status": "success"})
    assert (await listed("running"), await listed("success")) == ([], ["r"])
    await persist(workflows, unique, "r", status="failed")
    assert (await listed("success"), await listed("failed")) == ([], ["r"])
    await workflows.update_workflow_results(workflow_name=unique, run_id="r", step_id="s", result={})
    assert await listed("failed") == ["r"]


async def test_runs_without_a_status_beside_the_snapshot_are_found_by_status_too(
    workflows: AsyncWorkflows, deployment: Deployment, unique: str
) -> None:
    await workflows.dangerously_clear_all()
    for number in range(8):
        status = "failed" if number % 4 == 3 else "running"
        if number % 2:
            store_without_status(deployment, unique, str(number), number, {"status": status, "context": {}})
        else:
            await persist(workflows, unique, str(number), number, status=status)
    for filters in ({"workflow_name": unique}, {}):
        listed = await workflows.list_workflow_runs(status="running", **cast("Any", filters))
        assert (run_ids(listed), listed.total) == (["6", "5", "4", "2", "1", "0"], 6)
        for include_total in (True, False):
            pages = [
                await workflows.list_workflow_runs(
                    status="running", page=page, per_page=4, include_total=include_total, **cast("Any", filters)
                )
                for page in range(2)
            ]
            assert [run_ids(page) for page in pages] == [["6", "5", "4", "2"], ["1", "0"]]
            assert [(page.total, page.has_more) for page in pages] == [
                (6 if include_total else None, True),
                (6 if include_total else None, False),
            ]
        dated = await workflows.list_workflow_runs(status="running", from_date=at(5), **cast("Any", filters))
        assert run_ids(dated) == ["6", "5"]
    await workflows.update_workflow_state(workflow_name=unique, run_id="5", opts={"status": "success"})
    assert run_ids(await workflows.list_workflow_runs(workflow_name=unique, status="success")) == ["5"]


async def test_runs_are_listed_by_the_thread_inside_of_their_snapshots(workflows: AsyncWorkflows, unique: str) -> None:
    stream = {"messageList": {"memoryInfo": {"threadId": "t"}}}
    suspended = {"status": "suspended", "suspendPayload": {"__streamState": stream}}
    durable = {"input": {"messageListState": {"memoryInfo": {"threadId": "t"}}}}
    elsewhere = {"input": {"messageListState": {"memoryInfo": {"threadId": "x"}}}}
    contexts: list[Any] = [{"agent": suspended}, elsewhere, durable, {"agent": {**suspended, "status": "success"}}, {}]
    contexts += [{**durable, "agent": suspended} for _ in range(27)]
    for number, context in enumerate(contexts):
        await persist(workflows, unique, str(number), number, status="suspended", context=context)
    expected = [*map(str, range(31, 4, -1)), "2", "0"]
    for status in (None, "suspended"):
        filters: Any = {"workflow_name": unique, "thread_id": "t", "status": status}
        listed = await workflows.list_workflow_runs(**filters)
        assert (run_ids(listed), listed.total, listed.has_more) == (expected, 29, False)
        page = await workflows.list_workflow_runs(**filters, page=2, per_page=10)
        assert (run_ids(page), page.total, page.has_more) == (expected[20:], 29, False)
        page = await workflows.list_workflow_runs(**filters, page=1, per_page=10, include_total=False)
        assert (run_ids(page), page.total, page.has_more) == (expected[10:20], None, True)


@pytest.mark.needs_functions("the handler reads all of it in one call")
async def test_many_large_snapshots_are_listed_whole_by_status_and_by_page(deployment: Deployment, unique: str) -> None:
    workflows = ConvexStore(id="test", deployment=deployment).workflows
    try:
        for number in range(300):
            snapshot = {"status": "failed" if number % 100 == 7 else "success", "text": "x" * LARGE}
            workflows.persist_workflow_snapshot(
                workflow_name=unique, run_id=str(number), snapshot=snapshot, created_at=at(number)
            )
        newest = [str(number) for number in range(299, -1, -1)]
        everything = workflows.list_workflow_runs(workflow_name=unique)
        assert run_ids(everything) == newest
        assert everything.total == 300
        assert all(len(run.snapshot["text"]) == LARGE for run in everything.runs)
        failed = workflows.list_workflow_runs(workflow_name=unique, status="failed")
        assert (run_ids(failed), failed.total) == (["207", "107", "7"], 3)
        last = workflows.list_workflow_runs(workflow_name=unique, page=29, per_page=10)
        assert (run_ids(last), last.total, last.has_more) == (newest[290:], 300, False)
    finally:
        workflows.dangerously_clear_all()


# -- many writers --------------------------------------------------------------------------------------------------


def _update_step(deployment: Deployment, number: int, name: str) -> None:
    """One writer: a result of its own, an element of a shared one, and a request value."""
    workflows = ConvexStore(id="test", deployment=deployment).workflows
    output = [None] * number + [number]
    key: Any = {"workflow_name": name, "run_id": "r"}
    request: dict[str, Any] = {f"r{number}": number}
    workflows.update_workflow_results(
        **key, step_id="shared", result={"status": "success", "output": output}, request_context=request
    )
    workflows.update_workflow_results(**key, step_id=f"s{number}", result={"output": number})


def _assert_nothing_lost(deployment: Deployment, name: str, writers: int) -> None:
    workflows = ConvexStore(id="test", deployment=deployment).workflows
    snapshot = workflows.load_workflow_snapshot(workflow_name=name, run_id="r")
    assert snapshot is not None
    assert snapshot["context"]["shared"]["output"] == list(range(writers))
    assert {key: one["output"] for key, one in snapshot["context"].items() if key != "shared"} == {
        f"s{number}": number for number in range(writers)
    }
    assert snapshot["requestContext"] == {f"r{number}": number for number in range(writers)}


def _start(deployment: Deployment, name: str) -> None:
    snapshot = {"status": "running", "context": {"shared": {"output": []}}}
    ConvexStore(id="test", deployment=deployment).workflows.persist_workflow_snapshot(
        workflow_name=name, run_id="r", snapshot=snapshot
    )


def test_no_result_of_50_threads_is_lost(deployment: Deployment, unique: str) -> None:
    _start(deployment, unique)
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda number: _update_step(deployment, number, unique), range(50)))
    _assert_nothing_lost(deployment, unique, 50)


def test_no_result_of_several_processes_is_lost(open_deployment: Callable[[str], Deployment], unique: str) -> None:
    deployment = open_deployment("sqlite")
    _start(deployment, unique)
    run_processes(deployment, _update_some, unique, processes=5)
    _assert_nothing_lost(deployment, unique, 50)


def _update_some(deployment: Deployment, process: int, name: str) -> None:
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda number: _update_step(deployment, number, name), range(process, 50, 5)))


async def test_no_result_of_50_tasks_is_lost(deployment: Deployment, unique: str) -> None:
    workflows = AsyncConvexStore(id="test", deployment=deployment).workflows
    await persist(workflows, unique, "r", context={})
    updates = [
        workflows.update_workflow_results(workflow_name=unique, run_id="r", step_id=f"s{number}", result={"n": number})
        for number in range(50)
    ]
    await asyncio.gather(*updates)
    snapshot = await workflows.load_workflow_snapshot(workflow_name=unique, run_id="r")
    assert snapshot is not None
    assert snapshot["context"] == {f"s{number}": {"n": number} for number in range(50)}


@pytest.mark.needs_functions("the handler has no operation that checks and writes this at once")
def test_of_many_guarded_updates_one_wins(deployment: Deployment, unique: str) -> None:
    _start(deployment, unique)
    workflows = ConvexStore(id="test", deployment=deployment).workflows

    def claim(number: int) -> Any:
        return workflows.update_workflow_state(
            workflow_name=unique,
            run_id="r",
            opts={"status": "waiting", "result": {"winner": number}, "expected_status": "running"},
        )

    with ThreadPoolExecutor(20) as pool:
        won = [answer for answer in pool.map(claim, range(20)) if answer is not None]
    assert won == [workflows.load_workflow_snapshot(workflow_name=unique, run_id="r")]


def test_a_run_persisted_first_by_many_is_one_run(deployment: Deployment, unique: str) -> None:
    workflows = ConvexStore(id="test", deployment=deployment).workflows

    def first(number: int) -> None:
        workflows.persist_workflow_snapshot(workflow_name=unique, run_id="r", snapshot={"n": number})

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(first, range(20)))
    assert workflows.list_workflow_runs(workflow_name=unique).total == 1


# -- what it costs -------------------------------------------------------------------------------------------------


def test_what_the_operations_cost(fresh_host: Host) -> None:
    with fresh_host.connect() as deployment:
        workflows = ConvexStore(id="test", deployment=deployment).workflows
        for number in range(60):
            workflows.persist_workflow_snapshot(
                workflow_name="w",
                run_id=str(number),
                snapshot={"status": "failed" if number % 10 == 0 else "success", "context": {}, "text": "x" * 1_000},
                created_at=at(number),
            )

        def cost(operation: Callable[[], Any]) -> tuple[int, int, int]:
            fresh_host.reset()
            operation()
            counts = fresh_host.metrics()
            return counts["calls"], counts["documentsRead"], counts["documentsWritten"]

        page: Any = {"page": 1, "per_page": 5, "include_total": False}
        first: Any = {"page": 0, "per_page": 5, "include_total": False}
        assert cost(lambda: workflows.list_workflow_runs(workflow_name="w", **first)) == (1, 6, 0)
        assert cost(lambda: workflows.list_workflow_runs(**first)) == (1, 6, 0)
        assert cost(lambda: workflows.list_workflow_runs(workflow_name="w", **page)) == (1, 11, 0)
        assert cost(lambda: workflows.list_workflow_runs(status="failed", **first)) == (1, 6, 0)
        assert cost(lambda: workflows.list_workflow_runs(workflow_name="w", status="failed", **first)) == (1, 6, 0)
        assert cost(lambda: workflows.list_workflow_runs(workflow_name="w", status="failed")) == (1, 6, 0)
        assert cost(lambda: workflows.get_workflow_run_by_id(run_id="7")) == (1, 1, 0)
        assert cost(lambda: workflows.get_workflow_run_by_id(run_id="7", workflow_name="w")) == (1, 1, 0)
        assert cost(lambda: workflows.load_workflow_snapshot(workflow_name="w", run_id="6")) == (1, 1, 0)
        assert (
            cost(lambda: workflows.persist_workflow_snapshot(workflow_name="w", run_id="7", snapshot={"context": {}}))[0]
            == 1
        )
        assert (
            cost(lambda: workflows.update_workflow_results(workflow_name="w", run_id="8", step_id="s", result={}))[0] == 2
        )
        assert cost(lambda: workflows.delete_workflow_run_by_id(workflow_name="w", run_id="9"))[0] == 1
        fresh_host.reset()
        workflows.list_workflow_runs(workflow_name="w", status="failed", page=0, per_page=1)
        assert fresh_host.metrics()["responseBytes"] < 6_000


async def test_a_request_context_of_another_shape_is_not_lost(workflows: AsyncWorkflows, unique: str) -> None:
    run: Any = {"workflow_name": "w", "run_id": unique}
    await workflows.persist_workflow_snapshot(**run, snapshot={"context": {}, "requestContext": ["kept"]})
    with pytest.raises(WorkflowSnapshotInvalid):
        await workflows.update_workflow_results(**run, step_id="s", result={"status": "success"}, request_context={"a": 1})
    found = await workflows.load_workflow_snapshot(**run)
    assert found == {"context": {}, "requestContext": ["kept"]}


async def test_a_step_that_javascript_takes_for_a_prototype_is_kept(workflows: AsyncWorkflows, unique: str) -> None:
    run: Any = {"workflow_name": "w", "run_id": unique}
    await workflows.persist_workflow_snapshot(**run, snapshot={"context": {"first": {"output": 1}}, "status": "running"})
    result = {"status": "success", "output": {"__proto__": 1}}
    context = await workflows.update_workflow_results(**run, step_id="__proto__", result=result)
    found = await workflows.load_workflow_snapshot(**run)
    assert found is not None
    assert context == found["context"] == {"first": {"output": 1}, "__proto__": result}


# -- bad input -----------------------------------------------------------------------------------------------------

BAD: list[tuple[str, str, dict[str, Any]]] = [
    ("persist_workflow_snapshot", "workflow_name", {"workflow_name": " ", "run_id": "r", "snapshot": {}}),
    ("persist_workflow_snapshot", "run_id", {"workflow_name": "w", "run_id": None, "snapshot": {}}),
    ("persist_workflow_snapshot", "snapshot", {"workflow_name": "w", "run_id": "r", "snapshot": "{}"}),
    ("persist_workflow_snapshot", "snapshot", {"workflow_name": "w", "run_id": "r", "snapshot": {"n": float("nan")}}),
    ("persist_workflow_snapshot", "snapshot", {"workflow_name": "w", "run_id": "r", "snapshot": {"n": {1, 2}}}),
    ("persist_workflow_snapshot", "snapshot", {"workflow_name": "w", "run_id": "r", "snapshot": {"n": "\ud800"}}),
    ("persist_workflow_snapshot", "resource_id", {"workflow_name": "w", "run_id": "r", "snapshot": {}, "resource_id": 1}),
    (
        "persist_workflow_snapshot",
        "created_at",
        {"workflow_name": "w", "run_id": "r", "snapshot": {}, "created_at": datetime(2024, 1, 1)},
    ),
    ("load_workflow_snapshot", "run_id", {"workflow_name": "w", "run_id": ""}),
    ("update_workflow_results", "step_id", {"workflow_name": "w", "run_id": "r", "step_id": "", "result": {}}),
    ("update_workflow_results", "result", {"workflow_name": "w", "run_id": "r", "step_id": "s", "result": None}),
    ("update_workflow_results", "result", {"workflow_name": "w", "run_id": "r", "step_id": "s", "result": {"n": b""}}),
    (
        "update_workflow_results",
        "request_context",
        {"workflow_name": "w", "run_id": "r", "step_id": "s", "result": {}, "request_context": "x"},
    ),
    ("update_workflow_state", "opts", {"workflow_name": "w", "run_id": "r", "opts": {"suspendedPaths": {}}}),
    ("update_workflow_state", "opts.status", {"workflow_name": "w", "run_id": "r", "opts": {"status": "done"}}),
    (
        "update_workflow_state",
        "opts.suspended_paths",
        {"workflow_name": "w", "run_id": "r", "opts": {"suspended_paths": 1}},
    ),
    (
        "update_workflow_state",
        "opts.expected_status",
        {"workflow_name": "w", "run_id": "r", "opts": {"status": "failed", "expected_status": ["done"]}},
    ),
    (
        "update_workflow_state",
        "opts.expected_status",
        {"workflow_name": "w", "run_id": "r", "opts": {"expected_status": 1}},
    ),
    ("get_workflow_run_by_id", "run_id", {"run_id": ""}),
    ("get_workflow_run_by_id", "workflow_name", {"run_id": "r", "workflow_name": 1}),
    ("list_workflow_runs", "status", {"status": "done"}),
    ("list_workflow_runs", "status", {"status": ""}),
    ("list_workflow_runs", "page", {"page": -1, "per_page": 10}),
    ("list_workflow_runs", "page", {"page": -1}),
    ("list_workflow_runs", "page", {"page": 2**60, "per_page": 10}),
    ("list_workflow_runs", "per_page", {"page": 0, "per_page": -1}),
    ("list_workflow_runs", "per_page", {"page": 0, "per_page": 1.5}),
    ("list_workflow_runs", "from_date", {"from_date": "yesterday"}),
    ("list_workflow_runs", "resource_id", {"resource_id": 7}),
    ("delete_workflow_run_by_id", "workflow_name", {"run_id": "r", "workflow_name": ""}),
]


@pytest.mark.parametrize(("method", "argument", "given"), BAD)
def test_bad_input_is_one_error_with_the_contracts_id_and_nothing_is_sent(
    method: str, argument: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ConvexStore(id="test", deployment_url="memory:")
    monkeypatch.setattr(type(store.deployment.blocking), "read", pytest.fail)
    monkeypatch.setattr(type(store.deployment.blocking), "commit", pytest.fail)
    with store, pytest.raises(InvalidArgument) as caught:
        getattr(store.workflows, method)(**given)
    assert caught.value.argument == argument
    assert caught.value.id.startswith(f"MASTRA_STORAGE_CONVEX_{method.upper()}_INVALID_")


def test_concurrent_updates_are_supported() -> None:
    store = ConvexStore(id="test", deployment_url="memory:")
    with store:
        assert store.workflows.supports_concurrent_updates() is True
        assert store.get_store("workflows") is store.workflows
