"""What the npm package's clients see of values that are in files, and what they do to them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mastra_convex import ConvexStore
from tests.conftest import Host
from tests.interop.typescript import Clients, NpmError
from tests.mastra.support import message, thread

BIG = "0123456789☃" * 120_000


@pytest.fixture
def large(shared_host: Host) -> ConvexStore:
    options: Any = {"deployment_url": shared_host.url, "admin_auth_token": shared_host.key}
    return ConvexStore(id="python", large_values="files", **options)


def test_npm_sees_a_message_that_says_it_is_large_and_loses_nothing_of_it(
    large: ConvexStore, npm: Clients, unique: str
) -> None:
    content = {"format": 2, "parts": [{"type": "text", "text": BIG}], "metadata": {"color": "red"}}
    large.memory.save_thread(thread=thread(unique, unique))
    large.memory.save_messages(messages=[message(unique, unique, unique, content=content)])
    (seen,) = npm.call("memory", "listMessages", {"threadId": unique})["messages"]
    assert seen["content"]["parts"] == [{"type": "text", "text": "(too large to be shown here)"}]
    assert seen["content"]["metadata"] == {"color": "red"}
    npm.call("memory", "updateMessages", {"messages": [{"id": unique, "content": {"metadata": {"more": [1]}}}]})
    (found,) = large.memory.list_messages(thread_id=unique).messages
    assert found.content == {**content, "metadata": {"color": "red", "more": [1]}}
    npm.call("memory", "deleteThread", {"threadId": unique})
    assert large.memory.list_messages(thread_id=unique).messages == []
    assert large.sweep_files(older_than=timedelta()) == 1


def test_npm_cannot_merge_into_a_snapshot_it_cannot_read(large: ConvexStore, npm: Clients, unique: str) -> None:
    run: Any = {"workflow_name": unique, "run_id": unique}
    large.workflows.persist_workflow_snapshot(**run, snapshot={"status": "running", "context": {"input": BIG}})
    key = {"workflowName": unique, "runId": unique}
    with pytest.raises(NpmError, match="no context to merge into"):
        npm.call(
            "workflows", "updateWorkflowResults", {**key, "stepId": "s", "result": {"output": 1}, "requestContext": {}}
        )
    with pytest.raises(NpmError, match="no context to merge into"):
        npm.call("workflows", "updateWorkflowState", {**key, "opts": {"status": "success"}})
    snapshot = large.workflows.load_workflow_snapshot(**run)
    assert snapshot == {"status": "running", "context": {"input": BIG}}
    whole = {"status": "failed", "context": {}, "runId": unique}
    npm.call("workflows", "persistWorkflowSnapshot", {"workflowName": unique, "runId": unique, "snapshot": whole})
    assert large.workflows.load_workflow_snapshot(**run) == whole
    assert large.sweep_files(older_than=timedelta()) == 1
