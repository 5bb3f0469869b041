"""A workflow that suspends in TypeScript: Python lists and inspects its runs, and sets some up that TypeScript finishes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from mastra_convex import ConvexStore, WorkflowRuns
from tests.conftest import Host
from tests.interop.typescript import run_program


def run_ids(listed: WorkflowRuns) -> list[str]:
    return [run.run_id for run in listed.runs]


def test_a_run_that_waits_in_typescript_is_seen_from_python_and_resumed(
    shared_host: Host, store: ConvexStore, unique: str
) -> None:
    workflows = store.workflows
    name, ada, bob = f"{unique} booking", f"{unique} ada", f"{unique} bob"

    def typescript(*actions: dict[str, Any]) -> list[Any]:
        answers: list[Any] = run_program(shared_host, "workflow.ts", workflowId=name, actions=actions)
        return answers

    rome = {"begin": "rome", "resourceId": ada, "inputData": {"city": "Rome", "nights": 3}}
    kyoto = {"begin": "京都", "resourceId": bob, "inputData": {"city": "京都", "nights": 0}}
    began = typescript(rome, kyoto)
    assert [one["status"] for one in began] == ["suspended", "suspended"]

    # Python lists the runs that wait, of the workflow and of one resource, and sees for what they do.
    assert run_ids(workflows.list_workflow_runs(workflow_name=name)) == ["京都", "rome"]
    assert run_ids(workflows.list_workflow_runs(workflow_name=name, status="suspended")) == ["京都", "rome"]
    assert run_ids(workflows.list_workflow_runs(workflow_name=name, status="suspended", resource_id=ada)) == ["rome"]
    assert run_ids(workflows.list_workflow_runs(resource_id=bob)) == ["京都"]
    assert run_ids(workflows.list_workflow_runs(workflow_name=name, status="success")) == []
    first = workflows.list_workflow_runs(workflow_name=name, status="suspended", page=0, per_page=1)
    assert (run_ids(first), first.total, first.has_more) == (["京都"], 2, True)
    assert workflows.get_workflow_run_by_id(run_id="rome", workflow_name=name) is not None

    (waiting,) = workflows.list_workflow_runs(resource_id=ada).runs
    assert (waiting.workflow_name, waiting.run_id, waiting.resource_id) == (name, "rome", ada)
    snapshot = waiting.snapshot
    assert snapshot == workflows.load_workflow_snapshot(workflow_name=name, run_id="rome")
    assert snapshot["status"] == "suspended"
    assert snapshot["suspendedPaths"] == {"approve": [1]}
    assert snapshot["context"]["input"] == {"city": "Rome", "nights": 3}
    assert snapshot["context"]["price"]["output"] == {"city": "Rome", "price": 360}
    approve = snapshot["context"]["approve"]
    assert approve["status"] == "suspended"
    asked = {"question": "Is Rome for 360 fine?", "$schema": "approval", "日本語": {"": [0, False, None, ""]}}
    assert approve["suspendPayload"] == asked
    assert datetime.fromtimestamp(approve["suspendedAt"] / 1000, UTC) <= waiting.updated_at

    # A run that Python has set up waits as those do: the same state, of another trip.
    trip, offer = {"city": "Lisbon", "nights": 2}, {"city": "Lisbon", "price": 240}
    steps = {
        "price": {**snapshot["context"]["price"], "payload": trip, "output": offer},
        "approve": {**approve, "payload": offer},
    }
    set_up = {**snapshot, "runId": "lisbon", "context": {"input": trip, **steps}}
    later = first.runs[0].created_at + timedelta(seconds=1)  # not this machine's time: the order of runs comes of it
    workflows.persist_workflow_snapshot(
        workflow_name=name, run_id="lisbon", resource_id=ada, snapshot=set_up, created_at=later
    )
    # And of a run that waits already, Python changes what the waiting step was given.
    workflows.update_workflow_results(
        workflow_name=name,
        run_id="rome",
        step_id="approve",
        result={**approve, "payload": {"city": "Rome", "price": 300}},
        request_context={"by": "python"},
    )

    yes = {"approved": True, "by": "Ada"}
    listed, loaded, of_ada, of_rome, of_lisbon, done, left = typescript(
        {"list": {"status": "suspended"}},
        {"load": "lisbon"},
        {"list": {"status": "suspended", "resourceId": ada}},
        {"resume": "rome", "resumeData": yes},
        {"resume": "lisbon", "resumeData": {**yes, "approved": False}},
        {"list": {"status": "success"}},
        {"list": {"status": "suspended"}},
    )
    assert [run["runId"] for run in listed["runs"]] == ["lisbon", "京都", "rome"]
    assert listed["total"] == 3
    assert loaded == set_up
    assert [run["runId"] for run in of_ada["runs"]] == ["lisbon", "rome"]
    assert (of_rome["status"], of_rome["result"]) == ("success", {"city": "Rome", "price": 300, **yes})
    assert of_lisbon["result"] == {**offer, "approved": False, "by": "Ada"}
    assert [run["runId"] for run in done["runs"]] == ["lisbon", "rome"]
    assert [run["runId"] for run in left["runs"]] == ["京都"]

    # Python sees how they ended.
    assert run_ids(workflows.list_workflow_runs(workflow_name=name, status="success")) == ["lisbon", "rome"]
    assert run_ids(workflows.list_workflow_runs(workflow_name=name, status="suspended")) == ["京都"]
    ended = workflows.get_workflow_run_by_id(run_id="rome", workflow_name=name)
    assert ended is not None
    assert (ended.resource_id, ended.created_at) == (ada, waiting.created_at)
    assert ended.updated_at > waiting.updated_at
    assert ended.snapshot["status"] == "success"
    assert ended.snapshot["result"] == of_rome["result"]
    assert ended.snapshot["context"]["approve"]["resumePayload"] == yes
