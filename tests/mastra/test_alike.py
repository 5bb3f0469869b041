"""Random calls of every domain but the memory, on deployments with functions, answered as the embedded one answers them.

Few ids, so that calls meet; odd names and values, so that what one place cannot hold shows. Refusals are compared by their
class.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, get_args

import pytest

from mastra_convex.entities import TaskStatus
from mastra_convex.workflows import WorkflowRunStatus
from tests.conftest import ADMIN_KEY, ROOT, Host, serve_host
from tests.mastra.test_foreign_methods import Stores, outcome, stores

CALLS = 150
IDS = ["a", "b", "c", "__proto__"]
VALUES: list[Any] = [
    *(
        None,
        1,
        "x",
        {"a": [1, {"b": None}]},
        {"__proto__": 1},
        {"$x": 2},
        [],
        "null",
        '{"a":1}',
        0.5,
        True,
        {"": ""},
        2**60,
    ),
]
Call: TypeAlias = tuple[str, dict[str, Any]]


class Caller:
    """Makes calls: a method for each domain answers the name of one of its methods, and arguments."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def id(self) -> str:
        return self.chance.choice(IDS)

    def value(self) -> Any:
        return self.chance.choice(VALUES)

    def moment(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.chance.randint(0, 50))

    def one(self, *options: Any) -> Any:
        return self.chance.choice(options)

    def some(self, given: dict[str, Any], **optional: Any) -> dict[str, Any]:
        """What is given, and about half of what is optional."""
        return given | {name: value for name, value in optional.items() if self.chance.random() < 0.5}

    def background_tasks(self) -> Any:
        statuses = get_args(TaskStatus)
        dates: dict[str, Any] = {name: self.one(None, self.moment()) for name in ("started_at", "completed_at")}
        fields = {"result": self.value(), "error": self.value(), "suspend_payload": self.value()}
        names = {name: self.id() for name in ("tool_call_id", "tool_name", "agent_id", "run_id")}
        task = {"id": self.id(), **names, "status": self.one(*statuses), "created_at": self.moment()}
        expected = self.some({}, expected_status=self.one(*statuses), expected_started_at=dates["started_at"])
        few = self.some({}, status=self.one(self.one(*statuses), self.chance.sample(statuses, 3), []))
        more = self.some(
            few, agent_id=self.id(), run_id=self.id(), from_date=self.moment(), per_page=self.one(0, 1, 2, False)
        )
        order = self.one("created_at", "completed_at")
        filter = self.one(
            few, self.some(more, date_filter_by=order, order_by=order, order_direction=self.one("asc", "desc"))
        )
        return self.one(
            ("create_task", {"task": self.some(task, thread_id=self.id(), args={"v": self.value()}, **fields, **dates)}),
            (
                "update_task",
                {
                    "task_id": self.id(),
                    "update": self.some({}, status=self.one(*statuses), retry_count=self.one(0, 1), **fields, **dates),
                    "options": self.one(None, expected),
                },
            ),
            ("get_task", {"task_id": self.id()}),
            ("list_tasks", {"filter": filter}),
            ("list_tasks", {"filter": filter, "include_total": False}),
            ("delete_tasks", {"filter": filter}),
            ("delete_task", {"task_id": self.id()}),
            ("get_running_count", {}),
            ("get_running_count_by_agent", {"agent_id": self.id()}),
        )

    def schedules(self) -> Any:
        at = [self.chance.randint(1, 6) for _ in range(4)]
        target = self.one(
            {"type": "workflow", "workflow_id": self.id(), "input_data": self.value()},
            {"type": "agent", "agent_id": self.id(), "prompt": "p"},
        )
        status, owner = self.one("active", "paused"), self.one(None, self.id())
        fields = {"status": status, "owner_id": owner, "metadata": self.one(None, {"v": self.value()}), "timezone": "UTC"}
        new = {"id": self.id(), "target": target, "cron": "0 0 * * *", "next_fire_at": at[0], "created_at": at[1]}
        claim = {"expected_next_fire_at": at[0], "new_next_fire_at": at[0] + self.one(0, 1, 2), "last_fire_at": at[1]}
        trigger = {"id": f"t{at}", "schedule_id": self.id(), "scheduled_fire_at": at[0], "actual_fire_at": at[1]}
        opts = self.some({}, limit=self.one(0, 1, 2), from_actual_fire_at=at[0], to_actual_fire_at=at[1])
        return self.one(
            ("create_schedule", {"schedule": self.some(new, **fields)}),
            ("get_schedule", {"id": self.id()}),
            ("list_schedules", {"filter": self.some({}, status=status, workflow_id=self.id(), owner_id=owner)}),
            ("list_due_schedules", self.some({"now": at[0]}, limit=self.one(0, 1, 2))),
            ("update_schedule", {"id": self.id(), "patch": self.some({"next_fire_at": at[0]}, target=target, **fields)}),
            ("update_schedule_next_fire", {"id": self.id(), "last_run_id": self.id(), **claim}),
            ("record_trigger", {"trigger": self.some({**trigger, "outcome": "published"}, run_id=self.id(), error="e")}),
            ("list_triggers", {"schedule_id": self.id(), "opts": opts}),
            ("delete_schedule", {"id": self.id()}),
        )

    def scores(self) -> Any:
        page = self.one({}, {"per_page": False}, {"page": self.one(0, 1), "per_page": self.one(1, 2)})
        listed = self.some({}, pagination=page, include_total=False, filters={"organization_id": self.id()})
        payloads = {name: self.value() for name in ("input", "output", "preprocess_step_result", "additional_context")}
        owners = {name: self.id() for name in ("run_id", "entity_id", "trace_id", "span_id", "organization_id")}
        score = {"id": self.id(), "scorer_id": self.id(), "score": self.one(0, 1, 0.5)}
        return self.one(
            *[("save_score", {"score": self.some(score, entity_type="AGENT", source="LIVE", **owners, **payloads)})] * 3,
            ("get_score_by_id", {"id": self.id()}),
            ("list_scores_by_scorer_id", {"scorer_id": self.id(), **listed}),
            ("list_scores_by_run_id", {"run_id": self.id(), **listed}),
            ("list_scores_by_entity_id", {"entity_id": self.id(), "entity_type": "AGENT", **listed}),
            ("list_scores_by_span", {"trace_id": self.id(), "span_id": self.id(), **listed}),
        )

    def channels(self) -> Any:
        one = {"id": self.id(), "platform": "p", "agent_id": self.id(), "status": self.one("active", "pending", "error")}
        installation = {**one, "data": {"v": self.value()}, "created_at": self.moment()}
        return self.one(
            *[("save_installation", {"installation": self.some(installation, webhook_id=self.id(), error="e")})] * 3,
            ("get_installation", self.some({"id": self.id()}, agent_id=self.id())),
            ("get_installation_by_agent", {"platform": "p", "agent_id": self.id()}),
            ("get_installation_by_webhook_id", {"webhook_id": self.id()}),
            ("list_installations", {"platform": "p"}),
            ("delete_installation", self.some({"id": self.id()}, agent_id=self.id())),
            ("save_config", {"config": {"platform": self.id(), "data": {"v": self.value()}}}),
            ("get_config", {"platform": self.id()}),
            ("delete_config", {"platform": self.id()}),
        )

    def workflows(self) -> Any:
        key = {"workflow_name": self.one("a", "a-b"), "run_id": self.one("b-c", "c")}
        status = self.one(*get_args(WorkflowRunStatus)[:4])
        context = self.some({}, a=self.value(), b={"output": [1, None]})
        snapshot = self.some({"context": context}, x=self.value(), status=status, requestContext={"r": 1})
        output = self.one([1, None, 2], [{"__mastra_pending__": True}], 1)
        result = {"step_id": self.id(), "result": self.some({"v": self.value()}, output=output)}
        state = self.some({}, status=status, error=self.value(), suspended_paths={self.id(): [1]}, expected_status=status)
        listed = self.some({}, workflow_name=key["workflow_name"], resource_id=self.id(), status=status)
        return self.one(
            *[("persist_workflow_snapshot", self.some({**key, "snapshot": snapshot}, resource_id=self.id()))] * 2,
            ("load_workflow_snapshot", key),
            *[("update_workflow_results", self.some({**key, **result}, request_context={self.id(): self.value()}))] * 2,
            ("update_workflow_state", {**key, "opts": state}),
            ("get_workflow_run_by_id", key),
            ("get_workflow_run_by_id", {"run_id": key["run_id"]}),
            ("list_workflow_runs", listed),
            ("delete_workflow_run_by_id", key),
        )

    def documents(self) -> Call:
        def record() -> dict[str, Any]:
            return self.some({"id": self.id()}, v=self.value(), n=self.one(0, 1))

        method, arguments = self.one(
            ("insert", {"record": record()}),
            ("batch_insert", {"records": [record(), record()]}),
            ("patch", {"id": self.id(), "record": self.some({"w": self.value()}, n=5)}),
            ("load", {"keys": self.one({"id": self.id()}, {"n": 1})}),
            ("load_many", {"ids": [self.id(), self.id()]}),
            ("query_table", self.some({}, filters=[{"field": "n", "value": 1}], limit=self.one(0, 1, 2))),
            ("delete_many", {"ids": [self.id()]}),
        )
        return method, {"table_name": "things", **arguments}


@pytest.fixture(scope="module", params=["convex", "tests/foreign/functions"])
def there(request: pytest.FixtureRequest) -> Any:
    """Stores on this library's functions, and on the npm package's own."""
    host: Host
    for host in serve_host(ROOT / request.param):
        yield from stores(host.url, ADMIN_KEY)


@pytest.mark.parametrize("domain", ["background_tasks", "schedules", "scores", "channels", "workflows", "documents"])
def test_random_calls_are_answered_as_on_an_embedded_deployment(there: Stores, domain: str) -> None:
    caller, here = Caller(1), next(stores("memory:", None))
    make: Callable[[], Call] = getattr(caller, domain)
    answered = 0
    for number in range(CALLS):
        method, arguments = make()
        expected = outcome(here.domain(domain), method, arguments)
        what = f"call {number}: {method} {arguments}"
        assert repr(outcome(there.domain(domain), method, arguments)) == repr(expected), what
        answered += not isinstance(expected, str)
    assert answered > CALLS / 2
