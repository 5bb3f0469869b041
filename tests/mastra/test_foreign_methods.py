"""Every method of the stores, with only the npm package's storage handler: the same answers as an embedded deployment's."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, TypeAlias, cast

import attrs
import pytest

from convexorm import ConvexORMError, Model, connect
from convexorm.deployments.base import Port
from mastra_convex import ConvexServerCache, ConvexStore
from mastra_convex.vector import ConvexVector
from tests.conftest import ADMIN_KEY, ROOT, Host
from tests.mastra.support import at, message, thread

Step: TypeAlias = tuple[str, str, dict[str, Any]]

_VARYING = {"id", "message_id_map", "created_at", "updated_at", "convex_id", "creation_time"}
"""Attributes that differ from run to run where they are not given."""

_VARYING_KEYS = {"clonedAt", "lastMessageId", "timestamp"}

TASK = {"tool_name": "search", "agent_id": "a", "run_id": "r", "tool_call_id": "c", "args": {"q": [1]}, "timeout_ms": 1_000}
SCHEDULE = {"target": {"type": "workflow", "workflow_id": "w"}, "cron": "* * * * *", "status": "active"}
INSTALLATION = {"platform": "slack", "agent_id": "a", "data": {"$team": 1}, "status": "active"}
SCORE: dict[str, Any] = {
    "scorer_id": "s",
    "entity_id": "e",
    "entity_type": "AGENT",
    "run_id": "r",
    "trace_id": "t",
    "span_id": "p",
    "scorer": {"name": "s"},
    "score": 0.5,
    "input": {"$schema": "x"},
    "output": "text",
    "source": "LIVE",
}
RUN = {"workflow_name": "w", "run_id": "r"}
CHUNK = {
    "cycle_id": "one",
    "observations": "seen",
    "token_count": 10,
    "message_ids": ["m"],
    "message_tokens": 100,
    "last_observed_at": at(1),
}
OBSERVED = {"thread_id": "t1", "resource_id": "r"}
SWAP = {"activation_ratio": 1, "message_tokens_threshold": 10, "current_pending_tokens": 100}
INDEX = {"index_name": "i"}

MEMORY: list[tuple[str, dict[str, Any]]] = [
    ("save_thread", {"thread": thread("t1", "r", metadata={"a": 1})}),
    ("save_thread", {"thread": thread("t2", "r", 5, metadata={"$schema": "x"})}),
    ("get_thread_by_id", {"thread_id": "t1"}),
    ("update_thread", {"id": "t1", "title": "", "metadata": {"b": [None, True]}}),
    ("update_thread", {"id": "t2", "metadata": {"日本語": 1}}),
    ("update_thread", {"id": "none", "title": "x"}),
    ("patch_thread", {"id": "t1", "title": "again"}),
    ("update_thread_metadata", {"id": "t1", "update": lambda thread: {"seen": len(thread.metadata or {})}}),
    ("list_threads", {"filter": {"resource_id": "r"}, "per_page": 1}),
    ("list_threads", {"filter": {"metadata": {"a": 1}}, "order_by": {"field": "created_at", "direction": "ASC"}}),
    ("save_messages", {"messages": [message(f"m{number}", "t1", "r", number) for number in range(15)]}),
    ("save_messages", {"messages": [message("m3", "t1", "r", 3, role="assistant"), message("n", "t2", "r", 9)]}),
    ("list_messages", {"thread_id": "t1", "page": 1, "per_page": 4}),
    ("list_messages", {"thread_id": ["t1", "t2"], "per_page": 3, "order_by": {"field": "created_at", "direction": "DESC"}}),
    ("list_messages", {"thread_id": "t2", "include": [{"id": "m5", "with_previous_messages": 2, "thread_id": "t1"}]}),
    ("list_messages", {"thread_id": "t1", "filter": {"date_range": {"start": at(2), "end": at(4)}}}),
    ("list_messages_by_id", {"message_ids": ["m9", "none", "n", "m1"]}),
    ("list_messages_by_resource_id", {"resource_id": "r", "per_page": False}),
    ("update_messages", {"messages": [{"id": "m1", "content": {"metadata": {"x": 1}}}, {"id": "m2", "role": "system"}]}),
    ("save_messages", {"messages": [message("m6", "t1", "r", 6, content="replaced", type="v3")]}),
    ("list_messages_by_id", {"message_ids": ["m6"]}),
    ("delete_messages", {"message_ids": ["m0", "none"]}),
    ("clone_thread", {"source_thread_id": "t1", "new_thread_id": "t3"}),
    ("copy_thread", {"source_thread_id": "t1", "new_thread_id": "t4", "title": "copy"}),
    ("update_thread_resource_id", {"thread_id": "t4", "resource_id": "s"}),
    ("list_messages_by_resource_id", {"resource_id": "s", "per_page": 2}),
    ("save_resource", {"resource": {"id": "r", "working_memory": "known", "metadata": {"a": 1}}}),
    ("update_resource", {"resource_id": "r", "working_memory": "better", "metadata": {"b": 2}}),
    ("update_resource", {"resource_id": "new", "metadata": {"c": 3}}),
    ("get_resource_by_id", {"resource_id": "r"}),
    ("get_resource_by_id", {"resource_id": "new"}),
    ("delete_thread", {"thread_id": "t1"}),
    ("list_messages", {"thread_id": "t1"}),
    ("list_messages", {"thread_id": "t3"}),
    ("dangerously_clear_all", {}),
    ("list_threads", {}),
]
WORKFLOWS: list[tuple[str, dict[str, Any]]] = [
    ("supports_concurrent_updates", {}),
    ("persist_workflow_snapshot", {**RUN, "snapshot": {"status": "running", "context": {}, "$x": 1}, "resource_id": "o"}),
    ("persist_workflow_snapshot", {"workflow_name": "v", "run_id": "r", "snapshot": {"status": "success", "context": {}}}),
    ("load_workflow_snapshot", RUN),
    ("update_workflow_results", {**RUN, "step_id": "s", "result": {"output": [1, None]}, "request_context": {"k": 1}}),
    ("update_workflow_results", {**RUN, "step_id": "s", "result": {"output": [None, 2]}}),
    ("update_workflow_state", {**RUN, "opts": {"status": "suspended", "suspended_paths": {"s": [0]}}}),
    ("update_workflow_state", {**RUN, "opts": {"status": "running", "expected_status": "success"}}),
    ("persist_workflow_snapshot", {**RUN, "snapshot": {"status": "suspended", "context": {"t": {}}}}),
    ("get_workflow_run_by_id", RUN),
    ("get_workflow_run_by_id", {"run_id": "r"}),
    ("list_workflow_runs", {"workflow_name": "w"}),
    ("list_workflow_runs", {"status": "suspended", "page": 0, "per_page": 1}),
    ("list_workflow_runs", {"resource_id": "o", "status": "suspended"}),
    ("delete_workflow_run_by_id", RUN),
    ("load_workflow_snapshot", RUN),
    ("dangerously_clear_all", {}),
    ("list_workflow_runs", {}),
]
SCORES: list[tuple[str, dict[str, Any]]] = [
    *(("save_score", {"score": {**SCORE, "id": f"s{n}", "score": n, "created_at": at(n)}}) for n in range(5)),
    ("save_score", {"score": {**SCORE, "id": "s4", "score": 40, "reason": "r", "created_at": at(4)}}),
    ("get_score_by_id", {"id": "s4"}),
    ("save_score", {"score": {**SCORE, "id": "s4", "score": 40, "created_at": at(4)}}),
    ("get_score_by_id", {"id": "s4"}),
    ("list_scores_by_scorer_id", {"scorer_id": "s", "pagination": {"page": 1, "per_page": 2}}),
    ("list_scores_by_run_id", {"run_id": "r", "include_total": False}),
    ("list_scores_by_entity_id", {"entity_id": "e", "entity_type": "AGENT"}),
    ("list_scores_by_span", {"trace_id": "t", "span_id": "p"}),
    ("dangerously_clear_all", {}),
    ("list_scores_by_run_id", {"run_id": "r"}),
]
TASKS: list[tuple[str, dict[str, Any]]] = [
    *(("create_task", {"task": {**TASK, "id": f"k{n}", "status": "running", "created_at": at(n)}}) for n in range(4)),
    ("get_task", {"task_id": "k1"}),
    ("update_task", {"task_id": "k1", "update": {"status": "completed", "result": {"$r": 1}, "completed_at": at(9)}}),
    ("update_task", {"task_id": "k1", "update": {"status": "failed"}, "options": {"if_status": "running"}}),
    ("list_tasks", {"filter": {"agent_id": "a", "status": ["running", "completed"]}}),
    ("list_tasks", {"filter": {"run_id": "r", "order_by": "created_at", "page": 0, "per_page": 2}}),
    ("get_running_count", {}),
    ("get_running_count_by_agent", {"agent_id": "a"}),
    ("delete_task", {"task_id": "k0"}),
    ("delete_tasks", {"filter": {"status": "completed"}}),
    ("list_tasks", {}),
    ("dangerously_clear_all", {}),
    ("list_tasks", {}),
]
SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    *(("create_schedule", {"schedule": {**SCHEDULE, "id": f"h{n}", "next_fire_at": 1_000 + n}}) for n in range(3)),
    ("create_schedule", {"schedule": {**SCHEDULE, "id": "h0", "next_fire_at": 1}}),
    ("get_schedule", {"id": "h1"}),
    ("list_schedules", {"filter": {"workflow_id": "w"}}),
    ("list_due_schedules", {"now": 1_001}),
    ("list_due_schedules", {"now": 1_001, "limit": 1}),
    ("update_schedule", {"id": "h1", "patch": {"status": "paused", "timezone": "Europe/Berlin"}}),
    (
        "update_schedule_next_fire",
        {
            "id": "h0",
            "expected_next_fire_at": 1_000,
            "new_next_fire_at": 2_000,
            "last_fire_at": 1_000,
            "last_run_id": "r",
        },
    ),
    (
        "update_schedule_next_fire",
        {"id": "h1", "expected_next_fire_at": 1_001, "new_next_fire_at": 2, "last_fire_at": 1, "last_run_id": "r"},
    ),
    *(
        (
            "record_trigger",
            {
                "trigger": {
                    "id": f"g{n}",
                    "schedule_id": "h0",
                    "scheduled_fire_at": n,
                    "actual_fire_at": n,
                    "outcome": "published",
                }
            },
        )
        for n in (1, 2, 3, 1)
    ),
    ("list_triggers", {"schedule_id": "h0"}),
    ("list_triggers", {"schedule_id": "h0", "opts": {"limit": 1, "to_actual_fire_at": 3}}),
    ("delete_schedule", {"id": "h0"}),
    ("list_triggers", {"schedule_id": "h0"}),
    ("dangerously_clear_all", {}),
    ("list_schedules", {}),
]
CHANNELS: list[tuple[str, dict[str, Any]]] = [
    ("save_installation", {"installation": {**INSTALLATION, "id": "i1", "webhook_id": "hook"}}),
    ("save_installation", {"installation": {**INSTALLATION, "id": "i2", "status": "error", "error": "e"}}),
    ("save_installation", {"installation": {**INSTALLATION, "id": "i1", "config_hash": "x"}}),
    ("get_installation", {"id": "i1"}),
    ("get_installation_by_agent", {"platform": "slack", "agent_id": "a"}),
    ("get_installation_by_webhook_id", {"webhook_id": "hook"}),
    ("list_installations", {"platform": "slack"}),
    ("delete_installation", {"id": "i1"}),
    ("list_installations", {"platform": "slack"}),
    ("save_config", {"config": {"platform": "slack", "data": {"k": 1}}}),
    ("save_config", {"config": {"platform": "slack", "data": {"k": 2}}}),
    ("get_config", {"platform": "slack"}),
    ("delete_config", {"platform": "slack"}),
    ("get_config", {"platform": "slack"}),
    ("dangerously_clear_all", {}),
]
DOCUMENTS: list[tuple[str, dict[str, Any]]] = [
    ("insert", {"table_name": "things", "record": {"id": "a", "kind": 1, "on": True}}),
    ("batch_insert", {"table_name": "things", "records": [{"id": "b", "kind": 2}, {"id": "c", "kind": 1}]}),
    ("patch", {"table_name": "things", "id": "b", "record": {"more": [1]}}),
    ("patch", {"table_name": "things", "id": "none", "record": {}}),
    ("load", {"table_name": "things", "keys": {"id": "b"}}),
    ("load", {"table_name": "things", "keys": {"kind": 1}}),
    ("load_many", {"table_name": "things", "ids": ["c", "none", "a"]}),
    ("query_table", {"table_name": "things", "filters": [{"field": "kind", "value": 1}]}),
    ("delete_many", {"table_name": "things", "ids": ["a", "none"]}),
    ("query_table", {"table_name": "things", "limit": 1}),
    ("clear_table", {"table_name": "things"}),
    ("query_table", {"table_name": "things"}),
    ("drop_table", {"table_name": "things"}),
]
VECTORS: list[tuple[str, dict[str, Any]]] = [
    ("create_index", {**INDEX, "dimension": 3}),
    ("create_index", {**INDEX, "dimension": 4}),
    ("upsert", {**INDEX, "vectors": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "ids": ["x", "y", "z"], "metadata": [{"n": 1}] * 3}),
    ("upsert", {**INDEX, "vectors": [[1, 1, 0]], "ids": ["y"]}),
    ("query", {**INDEX, "query_vector": [1, 0.5, 0], "include_vector": True}),
    ("query", {**INDEX, "query_vector": [1, 0.5, 0], "filter": {"n": 1}, "top_k": 1}),
    ("update_vector", {**INDEX, "id": "x", "update": {"vector": [0, 0, 2], "metadata": {"m": 2}}}),
    ("query", {**INDEX, "query_vector": [0, 0, 1], "filter": {"m": 2}, "include_vector": True}),
    ("describe_index", INDEX),
    ("list_indexes", {}),
    ("delete_vector", {**INDEX, "id": "x"}),
    ("delete_vectors", {**INDEX, "filter": {"n": 1}}),
    ("describe_index", INDEX),
    ("truncate_index", INDEX),
    ("delete_index", INDEX),
    ("list_indexes", {}),
]
STEPS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "memory": MEMORY,
    "workflows": WORKFLOWS,
    "scores": SCORES,
    "background_tasks": TASKS,
    "schedules": SCHEDULES,
    "channels": CHANNELS,
    "documents": DOCUMENTS,
    "vector": VECTORS,
}


def plain(value: Any) -> Any:
    """An answer without what differs from run to run."""
    if isinstance(value, Model):
        return {
            name: plain(getattr(value, name))
            for name in value.__mapper__.columns
            if name not in _VARYING or (name == "id" and len(str(value.id)) < 8)  # type: ignore[attr-defined]
        }
    if attrs.has(type(value)):
        return {one.name: plain(getattr(value, one.name)) for one in attrs.fields(type(value)) if one.name not in _VARYING}
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items() if name not in _VARYING_KEYS}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, datetime) else value


def outcome(target: object, method: str, arguments: dict[str, Any]) -> Any:
    """What a method answered, or the error it raised."""
    try:
        return plain(getattr(target, method)(**arguments))
    except ConvexORMError as error:
        return type(error).__name__


@attrs.frozen
class Stores:
    store: ConvexStore
    vector: ConvexVector

    def domain(self, name: str) -> Any:
        return self.vector if name == "vector" else self.store.get_store(name)


def stores(url: str, key: str | None) -> Iterator[Stores]:
    deployment = connect(url, key)
    yield Stores(ConvexStore(id="test", deployment=deployment), ConvexVector(id="test", deployment=deployment))
    deployment.close()


@pytest.fixture
def foreign(foreign_host: Host) -> Iterator[Stores]:
    yield from stores(foreign_host.url, ADMIN_KEY)


@pytest.fixture
def embedded() -> Iterator[Stores]:
    yield from stores("memory:", None)


@pytest.mark.parametrize("name", STEPS)
def test_every_method_answers_as_elsewhere(foreign: Stores, embedded: Stores, name: str) -> None:
    for place, (method, arguments) in enumerate(STEPS[name]):
        wanted = outcome(embedded.domain(name), method, arguments)
        assert outcome(foreign.domain(name), method, arguments) == wanted, (place, method)


def observe(memory: Any) -> Iterator[tuple[str, Any]]:
    """Every method of observational memory, whose records are known by ids that it makes; what each answered."""
    begun = memory.initialize_observational_memory(**OBSERVED, scope="thread", config={"a": {"b": 1}})
    yield "initialize_observational_memory", begun
    id = begun.id
    steps: list[tuple[str, dict[str, Any]]] = [
        ("update_active_observations", {"observations": "o", "token_count": 5, "last_observed_at": at(1)}),
        ("update_buffered_observations", {"chunk": CHUNK, "last_buffered_at_time": at(2)}),
        ("update_buffered_observations", {"chunk": {**CHUNK, "cycle_id": "two"}}),
        ("set_observing_flag", {"is_observing": True}),
        ("set_reflecting_flag", {"is_reflecting": True}),
        ("set_buffering_observation_flag", {"is_buffering": True, "last_buffered_at_tokens": 7}),
        ("set_buffering_reflection_flag", {"is_buffering": True}),
        ("set_pending_message_tokens", {"token_count": 300}),
        ("swap_buffered_to_active", SWAP),
        ("update_observational_memory_config", {"config": {"a": {"c": 2}}}),
        (
            "update_buffered_reflection",
            {"reflection": "f", "token_count": 3, "input_token_count": 4, "reflected_observation_line_count": 1},
        ),
    ]
    for method, arguments in steps:
        yield method, getattr(memory, method)(id=id, **arguments)
        yield "get_observational_memory", memory.get_observational_memory(**OBSERVED)
    current = memory.get_observational_memory(**OBSERVED)
    yield (
        "swap_buffered_reflection_to_active",
        memory.swap_buffered_reflection_to_active(current_record=current, token_count=9),
    )
    latest = memory.get_observational_memory(**OBSERVED)
    yield (
        "create_reflection_generation",
        memory.create_reflection_generation(current_record=latest, reflection="g", token_count=1),
    )
    yield (
        "insert_observational_memory_record",
        memory.insert_observational_memory_record(
            record={**OBSERVED, "id": f"{id} more", "scope": "thread", "generation_count": 7}
        ),
    )
    yield "get_observational_memory_history", memory.get_observational_memory_history(**OBSERVED)
    yield "clear_observational_memory", memory.clear_observational_memory(**OBSERVED)
    yield "get_observational_memory", memory.get_observational_memory(**OBSERVED)


def test_observational_memory_answers_as_elsewhere(foreign: Stores, embedded: Stores) -> None:
    for wanted, found in zip(observe(embedded.store.memory), observe(foreign.store.memory), strict=True):
        assert (found[0], kept(plain(found[1]))) == (wanted[0], kept(plain(wanted[1])))


def kept(answer: Any) -> Any:
    """An answer without what the npm package's schema has no fields for."""
    if isinstance(answer, list):
        return [kept(one) for one in answer]
    ours = ("claims", "activated_cycle_ids")
    return {name: one for name, one in answer.items() if name not in ours} if isinstance(answer, dict) else answer


def methods(owner: object) -> set[str]:
    """The public methods of a domain or a store."""
    named = {name for name, _ in inspect.getmembers(type(owner), callable) if not name.startswith("_")}
    return named - {"face", "close"}


def test_no_method_is_left_out(embedded: Stores) -> None:
    called = {(name, method) for name, steps in STEPS.items() for method, _ in steps}
    called |= {("memory", method) for method, _ in observe(embedded.store.memory)}
    names = (*embedded.store.stores, "vector")
    told = {"claim", "watch_messages", "watch_run", "watch_tasks", "watch_thread"}  # which the handler cannot do
    assert {(name, method) for name in names for method in methods(embedded.domain(name)) - told} == called


def test_the_documentation_has_a_row_for_every_method(embedded: Stores) -> None:
    text = (ROOT / "docs" / "contract.md").read_text()
    domains = [*embedded.store.stores.values(), embedded.vector, ConvexServerCache(deployment=connect("memory:"))]
    missing = {method for domain in domains for method in methods(domain) if f"`{method}`" not in text}
    assert missing == set()


class _Counted:
    """A port that counts its calls."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name in ("read", "commit", "search"):
            self.calls += 1
        return method


def test_the_documentation_says_how_many_calls_each_method_makes() -> None:
    text = (ROOT / "docs" / "contract.md").read_text()
    rows = (row.split("|")[1:-1] for row in text.splitlines() if row.startswith("| `"))
    said = {method.strip(" `"): cells[2].strip() for cells in rows for method in cells[0].split(",")}
    made: dict[str, int] = {}
    for name, steps in STEPS.items():
        deployment = connect("memory:")
        port = deployment.blocking = cast("Any", _Counted(deployment.blocking))
        stores = Stores(ConvexStore(id="x", deployment=deployment), ConvexVector(id="v", deployment=deployment))
        for method, arguments in steps:
            before = port.calls
            with contextlib.suppress(ConvexORMError):
                getattr(stores.domain(name), method)(**arguments)
            made[method] = max(made.get(method, 0), port.calls - before)
    counted = {method: calls for method, calls in made.items() if said[method].isdigit()}
    assert counted == {method: int(said[method]) for method in counted}
    assert len(counted) > 40
