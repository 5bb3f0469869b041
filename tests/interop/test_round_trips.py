"""What Python stores the npm package's store reads, and the reverse: equal, to the value and the millisecond."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from convexorm import ValidationError
from mastra_convex import ConvexStore
from tests.interop.oddities import ANY_KEYS, DEEP, LARGE, PLAIN, exactly
from tests.interop.typescript import SECONDS, Clients, NpmError

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 6_000, tzinfo=UTC)
LONG_AGO = datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
PLAIN_AND_DEEP = {**PLAIN, "deep": DEEP}


def npm_thread(id: str, **more: Any) -> dict[str, Any]:
    times = {"createdAt": LONG_AGO, "updatedAt": MOMENT}
    return {"id": id, "resourceId": f"{id} resource", "title": "", "metadata": PLAIN_AND_DEEP, **times, **more}


def npm_message(id: str, thread_id: str, text: str, at: datetime, **content: Any) -> dict[str, Any]:
    parts = {"format": 2, "parts": [{"type": "text", "text": text}], **content}
    keys = {"id": id, "threadId": thread_id, "resourceId": f"{thread_id} resource"}
    return {**keys, "role": "user", "type": "v2", "content": parts, "createdAt": at}


def message(id: str, thread_id: str, text: str, at: datetime, **content: Any) -> dict[str, Any]:
    parts = {"format": 2, "parts": [{"type": "text", "text": text}], **content}
    keys = {"id": id, "thread_id": thread_id, "resource_id": f"{thread_id} resource"}
    return {**keys, "role": "user", "content": parts, "created_at": at}


# -- threads and resources -----------------------------------------------------------------------------------------


def test_threads_of_the_npm_store_are_read_by_python(store: ConvexStore, npm: Clients, unique: str) -> None:
    npm.call("memory", "saveThread", {"thread": npm_thread(unique)})
    thread = store.memory.get_thread_by_id(thread_id=unique)
    assert thread is not None
    assert (thread.title, thread.resource_id) == ("", f"{unique} resource")
    assert exactly(thread.metadata) == exactly(PLAIN_AND_DEEP)
    assert (thread.created_at, thread.updated_at) == (LONG_AGO, MOMENT)


def test_threads_of_python_are_read_by_the_npm_store(store: ConvexStore, npm: Clients, unique: str) -> None:
    east = MOMENT.astimezone(timezone(timedelta(hours=9))) + timedelta(microseconds=999)
    given: dict[str, Any] = {"id": unique, "resource_id": f"{unique} resource", "title": "", "metadata": ANY_KEYS}
    store.memory.save_thread(thread={**given, "created_at": LONG_AGO, "updated_at": east})
    thread = npm.call("memory", "getThreadById", {"threadId": unique})
    assert exactly(thread["metadata"]) == exactly(ANY_KEYS)
    assert (thread["title"], thread["createdAt"], thread["updatedAt"]) == ("", LONG_AGO, MOMENT)
    (listed,) = npm.call("memory", "listThreads", {"filter": {"resourceId": f"{unique} resource"}})["threads"]
    assert exactly(listed) == exactly(thread)


def test_metadata_of_threads_merges_from_both_sides(store: ConvexStore, npm: Clients, unique: str) -> None:
    given: dict[str, Any] = {"id": unique, "resource_id": unique, "title": "t", "metadata": ANY_KEYS}
    store.memory.save_thread(thread=given)
    npm.call("memory", "updateThread", {"id": unique, "title": "npm", "metadata": {"npm": 0, "zero": None}})
    store.memory.update_thread(id=unique, metadata={"python": False, "$schema": 2})
    merged = {**ANY_KEYS, "npm": 0, "zero": None, "python": False, "$schema": 2}
    thread = store.memory.get_thread_by_id(thread_id=unique)
    assert thread is not None
    assert (thread.title, exactly(thread.metadata)) == ("npm", exactly(merged))
    assert exactly(npm.call("memory", "getThreadById", {"threadId": unique})["metadata"]) == exactly(merged)


def test_metadata_that_convex_takes_from_no_client_is_refused_whole(store: ConvexStore, npm: Clients, unique: str) -> None:
    for key in ("$schema", "日本語"):
        with pytest.raises(NpmError):
            npm.call("memory", "saveThread", {"thread": npm_thread(unique, metadata={"fine": 1, key: 1})})
    assert store.memory.get_thread_by_id(thread_id=unique) is None


def test_resources_go_both_ways(store: ConvexStore, npm: Clients, unique: str) -> None:
    times = {"createdAt": LONG_AGO, "updatedAt": MOMENT}
    given = {"id": unique, "workingMemory": LARGE, "metadata": PLAIN_AND_DEEP, **times}
    npm.call("memory", "saveResource", {"resource": given})
    resource = store.memory.get_resource_by_id(resource_id=unique)
    assert resource is not None
    assert resource.working_memory == LARGE
    assert exactly(resource.metadata) == exactly(PLAIN_AND_DEEP)
    assert (resource.created_at, resource.updated_at) == (LONG_AGO, MOMENT)

    store.memory.update_resource(resource_id=unique, working_memory="", metadata=ANY_KEYS)
    read = npm.call("memory", "getResourceById", {"resourceId": unique})
    assert (read["workingMemory"], read["createdAt"]) == ("", LONG_AGO)
    assert exactly(read["metadata"]) == exactly({**PLAIN_AND_DEEP, **ANY_KEYS})
    npm.call("memory", "updateResource", {"resourceId": unique, "workingMemory": "日本語"})
    resource = store.memory.get_resource_by_id(resource_id=unique)
    assert resource is not None
    assert (resource.working_memory, exactly(resource.metadata)) == ("日本語", exactly(read["metadata"]))


# -- messages ------------------------------------------------------------------------------------------------------


def test_messages_of_the_npm_store_are_read_by_python(store: ConvexStore, npm: Clients, unique: str) -> None:
    npm.call("memory", "saveThread", {"thread": npm_thread(unique)})
    small = npm_message(f"{unique} 1", unique, "", LONG_AGO, metadata=ANY_KEYS, odd=ANY_KEYS)
    large = npm_message(f"{unique} 2", unique, LARGE, MOMENT)
    npm.call("memory", "saveMessages", {"messages": [small, large]})
    first, second = store.memory.list_messages(thread_id=unique).messages
    assert (first.role, first.type, first.thread_id, first.resource_id) == ("user", "v2", unique, f"{unique} resource")
    assert exactly(first.content) == exactly(small["content"])
    assert second.content == large["content"]
    assert (first.created_at, second.created_at) == (LONG_AGO, MOMENT)


def test_messages_of_the_npm_store_are_told_to_a_watch_of_python(store: ConvexStore, npm: Clients, unique: str) -> None:
    npm.call("memory", "saveThread", {"thread": npm_thread(unique)})
    with (
        store.memory.watch_messages(thread_id=unique) as messages,
        store.memory.watch_thread(thread_id=unique) as thread,
    ):
        assert messages.next(SECONDS).items == []
        thread.next(SECONDS)
        for number in range(3):
            npm.call("memory", "saveMessages", {"messages": [npm_message(f"{unique} {number}", unique, "", MOMENT)]})
            assert [one.id for one in messages.next(SECONDS).added] == [f"{unique} {number}"]
        npm.call("memory", "updateThread", {"id": unique, "title": "Renamed", "metadata": {}})
        while (found := thread.next(SECONDS)) is None or found.title != "Renamed":
            pass


def test_messages_of_python_are_read_by_the_npm_store(store: ConvexStore, npm: Clients, unique: str) -> None:
    small = message(f"{unique} 1", unique, "", LONG_AGO, metadata=ANY_KEYS, odd=ANY_KEYS)
    large = message(f"{unique} 2", unique, LARGE, MOMENT)
    store.memory.save_messages(messages=[small, large])
    first, second = npm.call("memory", "listMessages", {"threadId": unique})["messages"]
    assert exactly(first) == exactly(npm_message(f"{unique} 1", unique, "", LONG_AGO, metadata=ANY_KEYS, odd=ANY_KEYS))
    assert second == npm_message(f"{unique} 2", unique, LARGE, MOMENT)


def test_both_list_messages_a_millisecond_apart_in_one_order(store: ConvexStore, npm: Clients, unique: str) -> None:
    def at(number: int) -> datetime:
        return MOMENT + timedelta(milliseconds=number)

    npm.call("memory", "saveThread", {"thread": npm_thread(unique)})
    odd = [npm_message(f"{unique} {n:02}", unique, "npm", at(n)) for n in range(1, 20, 2)]
    even = [message(f"{unique} {n:02}", unique, "python", at(n)) for n in range(0, 20, 2)]
    npm.call("memory", "saveMessages", {"messages": list(reversed(odd))})
    store.memory.save_messages(messages=list(reversed(even)))

    def of_npm(**asked: Any) -> list[str]:
        return [one["id"] for one in npm.call("memory", "listMessages", {"threadId": unique, **asked})["messages"]]

    def of_python(**asked: Any) -> list[str]:
        return [one.id for one in store.memory.list_messages(thread_id=unique, **asked).messages]

    everything = [f"{unique} {n:02}" for n in range(20)]
    assert of_npm() == of_python() == everything
    assert of_npm(perPage=7, page=1) == of_python(per_page=7, page=1) == everything[7:14]
    newest = {"field": "createdAt", "direction": "DESC"}
    assert (
        of_npm(perPage=7, page=1, orderBy=newest)
        == of_python(per_page=7, page=1, order_by={"field": "created_at", "direction": "DESC"})
        == everything[::-1][7:14]
    )
    between = {"start": at(3), "end": at(9)}
    assert of_npm(filter={"dateRange": between}) == of_python(filter={"date_range": between}) == everything[3:10]
    around = of_npm(perPage=0, include=[{"id": everything[5], "withPreviousMessages": 2, "withNextMessages": 1}])
    include = [{"id": everything[5], "with_previous_messages": 2, "with_next_messages": 1}]
    assert around == of_python(per_page=0, include=include) == everything[3:7]


def test_a_text_cut_within_a_character_is_read_but_not_written(store: ConvexStore, npm: Clients, unique: str) -> None:
    memory = store.memory
    npm.call("memory", "saveThread", {"thread": npm_thread(unique)})
    cut = npm_message(unique, unique, "cut off \ud83d", MOMENT)
    npm.call("memory", "saveMessages", {"messages": [cut]})
    (read,) = memory.list_messages(thread_id=unique).messages
    assert read.content == cut["content"]
    with pytest.raises(ValidationError, match=r"messages\.content"):
        memory.update_messages(messages=[{"id": unique, "content": {"metadata": {"a": 1}}}])
    with pytest.raises(ValidationError, match=r"content: a string"):
        memory.clone_thread(source_thread_id=unique, new_thread_id=f"{unique} clone")
    assert memory.get_thread_by_id(thread_id=f"{unique} clone") is None
    memory.update_messages(messages=[{"id": unique, "role": "assistant"}])
    (kept,) = npm.call("memory", "listMessages", {"threadId": unique})["messages"]
    assert kept == {**cut, "role": "assistant"}
    memory.delete_messages(message_ids=[unique])
    assert memory.list_messages(thread_id=unique).messages == []


# -- workflows -----------------------------------------------------------------------------------------------------


SNAPSHOTS = {"odd": {"status": "running", "context": ANY_KEYS}, "large": {"status": "success", "result": LARGE}}


@pytest.mark.parametrize("snapshot", SNAPSHOTS.values(), ids=SNAPSHOTS)
def test_snapshots_go_both_ways(store: ConvexStore, npm: Clients, unique: str, snapshot: dict[str, Any]) -> None:
    times = {"createdAt": LONG_AGO, "updatedAt": MOMENT}
    given = {"workflowName": unique, "runId": "npm", "resourceId": "日本語", "snapshot": snapshot, **times}
    npm.call("workflows", "persistWorkflowSnapshot", given)
    run = store.workflows.get_workflow_run_by_id(workflow_name=unique, run_id="npm")
    assert run is not None
    assert (run.resource_id, run.created_at, run.updated_at) == ("日本語", LONG_AGO, MOMENT)
    assert exactly(run.snapshot) == exactly(snapshot)

    later = {"created_at": MOMENT, "updated_at": MOMENT + timedelta(milliseconds=1)}
    store.workflows.persist_workflow_snapshot(
        workflow_name=unique, run_id="python", resource_id="r", snapshot=snapshot, **later
    )
    keys = {"workflowName": unique, "runId": "python"}
    assert exactly(npm.call("workflows", "loadWorkflowSnapshot", keys)) == exactly(snapshot)
    read = npm.call("workflows", "getWorkflowRunById", keys)
    assert (read["resourceId"], read["createdAt"], read["updatedAt"]) == ("r", *later.values())
    assert exactly(read["snapshot"]) == exactly(snapshot)
    by_status = {"workflowName": unique, "status": snapshot["status"]}
    assert [one["runId"] for one in npm.call("workflows", "listWorkflowRuns", by_status)["runs"]] == ["python", "npm"]


def test_results_of_steps_merge_from_both_sides(store: ConvexStore, npm: Clients, unique: str) -> None:
    store.workflows.persist_workflow_snapshot(
        workflow_name=unique, run_id="r", snapshot={"status": "running", "context": {"input": ANY_KEYS}}
    )
    of_npm, of_python = ({"status": "success", "output": [PLAIN, one]} for one in ("npm", "python"))
    step = {"workflowName": unique, "runId": "r", "requestContext": {"$npm": 0}}
    npm.call("workflows", "updateWorkflowResults", {**step, "stepId": "npm 日本語", "result": of_npm})
    results = store.workflows.update_workflow_results(
        workflow_name=unique, run_id="r", step_id="$python", result=of_python, request_context={"python": None}
    )
    context = {"input": ANY_KEYS, "npm 日本語": of_npm, "$python": of_python}
    assert exactly(results) == exactly(context)
    snapshot = npm.call("workflows", "loadWorkflowSnapshot", {"workflowName": unique, "runId": "r"})
    assert exactly(snapshot["context"]) == exactly(context)
    assert snapshot["requestContext"] == {"$npm": 0, "python": None}


# -- scores --------------------------------------------------------------------------------------------------------

PAYLOADS: dict[str, Any] = {
    "object": PLAIN_AND_DEEP,
    "deep": DEEP,
    "list": [PLAIN],
    "zero": 0,
    "false": False,
    "empty": "",
    "json": '{"a": 1}',
    "word": "null",
    "marked": "\t\n\t null",
    "large": LARGE[: len(LARGE) // 3],
}


def npm_score(scorer_id: str, payload: Any) -> dict[str, Any]:
    names = {"scorerId": scorer_id, "entityId": "e", "entityType": "AGENT", "runId": scorer_id, "source": "TEST"}
    texts = {"reason": "", "traceId": "t", "spanId": "日本語"}
    objects = {"scorer": {"id": "s"}, "entity": {}, "metadata": PLAIN_AND_DEEP}
    return {**names, **texts, **objects, "score": 0, "input": payload, "output": {"payload": [payload]}}


def score(scorer_id: str, payload: Any) -> dict[str, Any]:
    names = {"scorer_id": scorer_id, "entity_id": "e", "entity_type": "AGENT", "run_id": scorer_id, "source": "TEST"}
    texts = {"reason": "", "trace_id": "t", "span_id": "日本語"}
    objects = {"scorer": {"id": "s"}, "entity": {}, "metadata": PLAIN_AND_DEEP}
    return {**names, **texts, **objects, "score": 0, "input": payload, "output": {"payload": [payload]}}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_scores_go_both_ways(store: ConvexStore, npm: Clients, unique: str, payload: Any) -> None:
    of_npm = npm.call("scores", "saveScore", npm_score(unique, payload))["score"]
    read = store.scores.get_score_by_id(id=of_npm["id"])
    assert read is not None
    for name, value in score(unique, payload).items():
        assert exactly(getattr(read, name)) == exactly(value), name
    assert (read.created_at, read.updated_at) == (of_npm["createdAt"], of_npm["updatedAt"])
    assert (read.additional_context, read.structured_output) == (None, None)

    of_python = store.scores.save_score(score={**score(unique, payload), "created_at": LONG_AGO}).score
    times = {"createdAt": LONG_AGO, "updatedAt": of_python.updated_at}
    found = npm.call("scores", "getScoreById", {"id": of_python.id})
    assert found.pop("_id") == of_python.convex_id
    assert found.pop("_creationTime") > 0
    assert exactly(found) == exactly({**npm_score(unique, payload), **times, "id": of_python.id})

    pages = {"scorerId": unique, "entityType": "AGENT", "pagination": {"page": 0, "perPage": 5}}
    in_npm = [one["id"] for one in npm.call("scores", "listScoresByScorerId", pages)["scores"]]
    in_python = [one.id for one in store.scores.list_scores_by_scorer_id(scorer_id=unique).scores]
    assert in_npm == in_python == [of_npm["id"], of_python.id]


def test_a_score_that_convex_gives_to_no_client_comes_as_text(store: ConvexStore, npm: Clients, unique: str) -> None:
    of_python = store.scores.save_score(score={**score(unique, ANY_KEYS), "metadata": ANY_KEYS}).score
    read = store.scores.get_score_by_id(id=of_python.id)
    assert read is not None
    assert exactly([read.input, read.metadata]) == exactly([ANY_KEYS, ANY_KEYS])
    found = npm.call("scores", "getScoreById", {"id": of_python.id})
    assert exactly([json.loads(found["input"]), json.loads(found["metadata"])]) == exactly([ANY_KEYS, ANY_KEYS])
    with pytest.raises(NpmError):
        npm.call("scores", "saveScore", npm_score(unique, ANY_KEYS))
    assert len(store.scores.list_scores_by_scorer_id(scorer_id=unique).scores) == 1


# -- at the same time ----------------------------------------------------------------------------------------------


def test_changes_of_both_sides_at_the_same_time_are_all_kept(store: ConvexStore, npm: Clients, unique: str) -> None:
    store.memory.save_thread(thread={"id": unique, "resource_id": unique, "title": "t", "metadata": {}})
    store.workflows.persist_workflow_snapshot(workflow_name=unique, run_id="r", snapshot={"context": {}})
    done = {"status": "success", "output": 0}

    def of_npm() -> None:
        for number in range(20):
            npm.call("memory", "updateThread", {"id": unique, "title": "npm", "metadata": {f"npm {number}": number}})
            step = {"stepId": f"npm {number}", "result": done, "requestContext": {}}
            npm.call("workflows", "updateWorkflowResults", {"workflowName": unique, "runId": "r", **step})

    def of_python(number: int) -> None:
        store.memory.update_thread(id=unique, metadata={f"python {number}": number})
        store.workflows.update_workflow_results(workflow_name=unique, run_id="r", step_id=f"python {number}", result=done)

    with ThreadPoolExecutor(4) as pool:
        for work in [pool.submit(of_npm), *(pool.submit(of_python, number) for number in range(20))]:
            work.result()

    thread = store.memory.get_thread_by_id(thread_id=unique)
    assert thread is not None
    expected = {f"{who} {number}": number for who in ("npm", "python") for number in range(20)}
    assert (thread.title, thread.metadata) == ("npm", expected)
    snapshot = npm.call("workflows", "loadWorkflowSnapshot", {"workflowName": unique, "runId": "r"})
    assert snapshot["context"] == dict.fromkeys(expected, done)
