"""Deployments with only the npm package's storage handler: how they are noticed, what is atomic, what is out of reach."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import attrs
import pytest

from convexorm import (
    Deployment,
    Index,
    IndexRangeError,
    LimitExceeded,
    Mapped,
    Model,
    Session,
    StaleDataError,
    ValidationError,
    connect,
)
from convexorm.errors import AuthError, DeploymentError, FunctionNotFound
from convexorm.faces import finish
from convexorm.requests import (
    Commit,
    Delete,
    DeleteRange,
    Insert,
    Key,
    Patch,
    Range,
    Read,
    Recount,
    TextSearch,
    Unique,
    Upsert,
    Write,
)
from convexorm.schema import SearchIndexDef
from convexorm.wire import VERSION
from mastra_convex import (
    AsyncConvexStore,
    ConvexServerCache,
    ConvexStore,
    InvalidArgument,
    Message,
    ScheduleAlreadyExists,
    Thread,
    ThreadAlreadyExists,
    entities,
)
from mastra_convex.foreign import adapted
from mastra_convex.foreign.handler import Handler
from mastra_convex.foreign.tables import INDEXES
from mastra_convex.vector import ConvexVector
from tests.conftest import ADMIN_KEY, Host
from tests.mastra.support import at, at_once, messages, thread
from tests.servers import Answer, Server, refusal, serve, success

NO_FUNCTION = "Could not find public function for 'orm:read'. Did you forget to run `npx convex dev`?"


@pytest.fixture
def store(foreign_host: Host) -> Iterator[ConvexStore]:
    with ConvexStore(id="test", deployment_url=foreign_host.url, admin_auth_token=ADMIN_KEY) as store:
        yield store


def called(server: Server) -> list[str]:
    """What the calls were for: the function, and the handler's operation."""
    bodies = [json.loads(body) for body in server.bodies]
    return [f"{body['path']} {body['args'].get('op', '')}".strip() for body in bodies]


def handler_only(body: dict[str, Any]) -> Answer:
    """A deployment with nothing but the handler, and no records."""
    if not body["path"].startswith("mastra/storage:"):
        return refusal(NO_FUNCTION)
    return success({"ok": True, "result": [] if body["args"]["op"] in ("loadMany", "queryTable") else None})


# -- noticing ------------------------------------------------------------------------------------------------------


def test_a_deployment_with_only_the_handler_is_noticed_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="mastra_convex")
    with serve(handler_only) as server:
        store = ConvexStore(id="test", deployment_url=server.url, admin_auth_token="secret|key")
        for _ in range(3):
            assert store.memory.get_thread_by_id(thread_id="t") is None
        store.scores.list_scores_by_run_id(run_id="r")
        store.close()
    assert called(server)[:5] == ["orm:read", "orm:read", *["mastra/storage:handle loadMany"] * 3]
    assert sum(one.startswith("orm:") for one in called(server)) == 2  # the second only looks whether it is there
    (record,) = [one for one in caplog.records if one.name == "mastra_convex" and one.levelno == logging.WARNING]
    assert "mastra/storage:handle" in record.getMessage()
    assert server.url in record.getMessage()
    assert "secret" not in record.getMessage()


async def test_the_awaited_store_notices_it_too(caplog: pytest.LogCaptureFixture) -> None:
    with serve(handler_only) as server:
        async with AsyncConvexStore(id="test", deployment_url=server.url, admin_auth_token="key") as store:
            assert await store.memory.get_thread_by_id(thread_id="t") is None
            assert await store.memory.get_thread_by_id(thread_id="t") is None
    assert len(caplog.records) == 1


def test_threads_that_begin_together_say_it_once(caplog: pytest.LogCaptureFixture) -> None:
    with serve(handler_only) as server, ConvexStore(id="t", deployment_url=server.url, admin_auth_token="key") as store:
        at_once(8, lambda _: store.memory.get_thread_by_id(thread_id="t"))
    assert len(caplog.records) == 1


def test_a_first_write_notices_it(caplog: pytest.LogCaptureFixture) -> None:
    with serve(handler_only) as server, ConvexStore(id="t", deployment_url=server.url, admin_auth_token="key") as store:
        names = {name: name for name in ("id", "tool_call_id", "tool_name", "agent_id", "run_id")}
        store.background_tasks.create_task(task={**names, "status": "pending"})
    assert called(server)[0] == "orm:commit"
    assert called(server)[-1] == "mastra/storage:handle batchInsert"
    assert len(caplog.records) == 1


def test_a_deployment_with_this_librarys_functions_is_never_asked_for_the_other(caplog: pytest.LogCaptureFixture) -> None:
    def ours(body: dict[str, Any]) -> Answer:
        result = {"docs": [], "count": 0, "skipped": 0, "more": False, "next": None}
        return success({"version": VERSION, "results": [result for _ in body["args"]["reads"]]})

    with serve(ours) as server, ConvexStore(id="t", deployment_url=server.url, admin_auth_token="key") as store:
        store.memory.get_thread_by_id(thread_id="t")
        store.memory.get_thread_by_id(thread_id="t")
    assert called(server) == ["orm:read", "orm:read"]
    assert not caplog.records


def test_functions_that_go_missing_later_are_not_replaced(caplog: pytest.LogCaptureFixture) -> None:
    result = {"docs": [], "count": 0, "skipped": 0, "more": False, "next": None}
    answers = [success({"version": VERSION, "results": [result]}), refusal(NO_FUNCTION), refusal(NO_FUNCTION)]
    with (
        serve(lambda _: answers.pop(0)) as server,
        ConvexStore(id="t", deployment_url=server.url, admin_auth_token="key") as store,
    ):
        store.memory.get_thread_by_id(thread_id="t")
        with pytest.raises(FunctionNotFound):
            store.memory.get_thread_by_id(thread_id="t")
    assert called(server) == ["orm:read"] * 3
    assert not caplog.records


@pytest.mark.parametrize(
    "other",
    [
        *(refusal(NO_FUNCTION), refusal(status=401), refusal("Uncaught Error: secret")),
        *(success(None), success({"ok": False, "error": "e"}), success([])),
    ],
    ids=["missing", "unauthorized", "failing", "null", "refused", "another function"],
)
def test_with_neither_the_missing_functions_are_the_error(other: Answer, caplog: pytest.LogCaptureFixture) -> None:
    def neither(body: dict[str, Any]) -> Answer:
        return refusal(NO_FUNCTION) if body["path"].startswith("orm:") else other

    with serve(neither) as server, ConvexStore(id="t", deployment_url=server.url, admin_auth_token="key") as store:
        for _ in range(2):
            with pytest.raises(FunctionNotFound, match="python -m convexorm functions") as raised:
                store.memory.get_thread_by_id(thread_id="t")
            assert raised.value.function == "orm:read"
    assert not caplog.records


def test_other_failures_are_not_taken_for_missing_functions() -> None:
    with serve(lambda _: refusal(status=401)) as server:
        store = ConvexStore(id="test", deployment_url=server.url, admin_auth_token="key")
        with pytest.raises(AuthError):
            store.memory.get_thread_by_id(thread_id="t")
        assert called(server) == ["orm:read"]
        store.close()


def test_the_handler_may_have_another_name() -> None:
    def elsewhere(body: dict[str, Any]) -> Answer:
        return success({"ok": True, "result": []}) if body["path"] == "store:run" else refusal(NO_FUNCTION)

    options: Any = {"admin_auth_token": "key", "storage_function": "store:run"}
    with serve(elsewhere) as server, ConvexStore(id="test", deployment_url=server.url, **options) as store:
        assert store.memory.get_thread_by_id(thread_id="t") is None
    with (
        serve(elsewhere) as server,
        ConvexStore(id="t", deployment_url=server.url, admin_auth_token="key") as store,
        pytest.raises(FunctionNotFound),
    ):
        store.memory.get_thread_by_id(thread_id="t")


def test_embedded_deployments_are_left_as_they_are() -> None:
    with connect("memory:") as deployment:
        assert adapted(deployment) is deployment


# -- what the handler says -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("Too many bytes read in a single function execution (limit: 16777216 bytes).", LimitExceeded),
        ("Object secret contains extra field `x` that is not in the validator. does not match the schema", ValidationError),
        ("secret", DeploymentError),
    ],
)
def test_a_refusal_is_a_typed_error_without_its_text(text: str, error: type[Exception]) -> None:
    def refuses(body: dict[str, Any]) -> Answer:
        if body["args"].get("ids") == []:
            return handler_only(body)
        return refusal(NO_FUNCTION) if body["path"].startswith("orm:") else success({"ok": False, "error": text})

    with (
        serve(refuses) as server,
        ConvexStore(id="t", deployment_url=server.url, admin_auth_token="key") as store,
        pytest.raises(error) as raised,
    ):
        store.memory.get_thread_by_id(thread_id="t")
    assert "secret" not in str(raised.value)


def test_a_list_that_the_handler_may_have_cut_off_is_refused() -> None:
    def full(body: dict[str, Any]) -> Answer:
        if body["args"].get("op") == "queryTable":
            return success({"ok": True, "result": [{}] * 10_000})
        return handler_only(body)

    with (
        serve(full) as server,
        ConvexStore(id="t", deployment_url=server.url, admin_auth_token="key") as store,
        pytest.raises(LimitExceeded, match="9,999"),
    ):
        store.memory.list_threads()


# -- what is atomic ------------------------------------------------------------------------------------------------


def test_one_of_many_claims_of_a_fire_wins(store: ConvexStore, unique: str) -> None:
    schedule = {
        "id": unique,
        "target": {"type": "workflow", "workflow_id": "w"},
        "cron": "* * * * *",
        "next_fire_at": 1_000,
    }
    store.schedules.create_schedule(schedule={**schedule, "status": "active"})

    def claim(number: int) -> bool:
        return store.schedules.update_schedule_next_fire(
            id=unique,
            expected_next_fire_at=1_000,
            new_next_fire_at=2_000 + number,
            last_fire_at=1_000,
            last_run_id=f"run{number}",
        )

    assert sum(at_once(10, claim)) == 1


def test_step_results_of_concurrent_writers_are_all_kept(store: ConvexStore, unique: str) -> None:
    key: Any = {"workflow_name": unique, "run_id": "r"}
    store.workflows.persist_workflow_snapshot(**key, snapshot={"context": {}, "status": "running"})

    def update(number: int) -> None:
        store.workflows.update_workflow_results(**key, step_id=f"s{number}", result={"output": number})

    at_once(10, update)
    snapshot = store.workflows.load_workflow_snapshot(**key)
    assert snapshot is not None
    assert snapshot["context"] == {f"s{number}": {"output": number} for number in range(10)}


KNOWN: list[Any] = ["text", 7, True, [], [1], None, {}, {"output": [1, None]}, {"output": "o"}, {"status": "suspended"}]


@pytest.mark.parametrize("step", ["s", "__proto__", "constructor", "toString", "output", "", " ", "$s", "日本"])
def test_a_step_of_any_name_over_anything_keeps_all_of_its_result(store: ConvexStore, unique: str, step: str) -> None:
    elsewhere = ConvexStore(id="test", deployment_url="memory:")
    results: list[Any] = [
        {"output": [None, 2, 3]},
        {"__proto__": {"output": 1}, "status": "success"},
        {"output": [2**60, -0.0, 1e20, {"a": -(2**53)}]},
    ]
    for place, known in enumerate(KNOWN):
        key: Any = {"workflow_name": unique, "run_id": f"{place}"}
        for result in results:
            answers = []
            for one in (store, elsewhere):
                snapshot = {"context": {"other": {"__proto__": 1}, step: known}, "requestContext": {"__proto__": 0}}
                one.workflows.persist_workflow_snapshot(**key, snapshot=snapshot)
                try:
                    answer = one.workflows.update_workflow_results(
                        **key, step_id=step, result=result, request_context={"__proto__": {"a": 1}, "b": 2}
                    )
                except InvalidArgument as error:
                    answer = {"refused": str(error)}
                answers.append((answer, one.workflows.load_workflow_snapshot(**key)))
            assert repr(answers[0]) == repr(answers[1]), (known, result)


def test_of_clones_into_one_id_at_once_at_most_one_is_made_and_it_is_whole(
    store: ConvexStore, foreign_host: Host, unique: str
) -> None:
    store.memory.save_thread(thread=thread(unique, "r"))
    store.memory.save_messages(messages=messages(unique, 9, unique, "r"))

    def clone(round: int) -> bool:
        try:
            with adapted(foreign_host.connect()) as deployment:
                ConvexStore(id="test", deployment=deployment).memory.clone_thread(
                    source_thread_id=unique, new_thread_id=f"{unique}copy{round}"
                )
        except ThreadAlreadyExists:
            return False
        return True

    for round in range(6):
        made = at_once(4, lambda _, round=round: clone(round))  # type: ignore[misc]
        copy = f"{unique}copy{round}"
        assert sum(made) <= 1
        there = store.memory.get_thread_by_id(thread_id=copy) is not None
        assert (there, store.memory.list_messages(thread_id=copy).total) == ((True, 9) if any(made) else (False, 0))
        assert clone(round) is not any(made)
        assert store.memory.list_messages(thread_id=copy).total == 9


@pytest.mark.parametrize("after", range(1, 6))
def test_a_clone_that_is_cut_off_between_two_calls_leaves_nothing_or_is_whole(
    store: ConvexStore, unique: str, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    store.memory.save_thread(thread=thread(unique, "r"))
    store.memory.save_messages(messages=messages(unique, 9, unique, "r"))
    call, made = Handler.call, []

    async def failing(self: Handler, operation: str, table: str, **arguments: Any) -> Any:
        made.append(operation)
        if len(made) == after:
            raise KeyboardInterrupt
        return await call(self, operation, table, **arguments)

    monkeypatch.setattr(Handler, "call", failing)
    with suppress(KeyboardInterrupt):
        store.memory.clone_thread(source_thread_id=unique, new_thread_id=f"{unique}copy")
    monkeypatch.undo()
    with suppress(ThreadAlreadyExists):
        store.memory.clone_thread(source_thread_id=unique, new_thread_id=f"{unique}copy")
    there = store.memory.get_thread_by_id(thread_id=f"{unique}copy")
    assert (there is not None, store.memory.list_messages(thread_id=f"{unique}copy").total) in ((True, 9), (False, 9))


def test_a_thread_is_deleted_however_much_was_observed_in_it(store: ConvexStore, unique: str) -> None:
    """Ten MB: the handler reads twice what it deletes."""
    memory = store.memory
    of: Any = {"thread_id": unique, "resource_id": unique}
    memory.save_thread(thread=thread(unique, unique))
    for number in range(12):
        record = {"id": f"{unique}{number}", "scope": "thread", "generation_count": number, **of}
        memory.insert_observational_memory_record(record={**record, "active_observations": "x" * 900_000})
    memory.delete_thread(thread_id=unique)
    assert memory.get_observational_memory_history(**of) == []


def test_metadata_of_concurrent_writers_is_all_kept(store: ConvexStore, unique: str) -> None:
    store.memory.save_thread(thread=thread(unique, "r"))
    store.memory.update_resource(resource_id=unique, metadata={"first": 1})

    def update(number: int) -> None:
        store.memory.update_thread(id=unique, metadata={f"k{number}": number})
        store.memory.update_resource(resource_id=unique, metadata={f"k{number}": number})

    at_once(10, update)
    wanted = {f"k{number}": number for number in range(10)}
    found, resource = store.memory.get_thread_by_id(thread_id=unique), store.memory.get_resource_by_id(resource_id=unique)
    assert found is not None
    assert resource is not None
    assert found.metadata == wanted
    assert resource.metadata == {"first": 1, **wanted}


def test_a_schedule_is_created_once(store: ConvexStore, unique: str) -> None:
    schedule = {
        "id": unique,
        "target": {"type": "workflow", "workflow_id": "w"},
        "cron": "* * * * *",
        "next_fire_at": 1_000,
    }

    def create(_: int) -> bool:
        try:
            store.schedules.create_schedule(schedule={**schedule, "status": "active"})
        except ScheduleAlreadyExists:
            return False
        return True

    assert sum(at_once(5, create)) == 1


def test_what_the_handler_lacks_is_said_before_anything_is_sent(foreign_host: Host) -> None:
    table = attrs.evolve(Thread.__mapper__.table, search_indexes=(SearchIndexDef("by_words", "title"),))
    search = Read(Range(table, "by_creation_time"), limit=1, search=TextSearch("by_words", "fig"))
    count = Commit("counted", [Recount(Thread.__mapper__.table, 1)])
    with adapted(foreign_host.connect()) as deployment:
        with pytest.raises(DeploymentError, match=r"has no text search\. Copy"):
            finish(deployment.blocking.read([search]))
        with pytest.raises(DeploymentError, match=r"has no counters\. Copy"):
            finish(deployment.blocking.commit(count))


def test_a_batch_of_one_table_is_one_call(foreign_host: Host, store: ConvexStore, unique: str) -> None:
    store.memory.save_thread(thread=thread(unique, "r"))
    with Session(store.memory._core._backend.deployment) as session:
        session.add_all([Message(**one) for one in messages(unique, 50, unique, "r")], unique=False)
        foreign_host.reset()
        session.commit()
    assert foreign_host.metrics()["calls"] == 1


def test_an_index_of_several_pages_is_searched_and_deleted_whole(foreign_host: Host, unique: str) -> None:
    with ConvexVector(id="v", deployment_url=foreign_host.url, admin_auth_token=ADMIN_KEY) as vectors:
        vectors.create_index(index_name=unique, dimension=2)
        ids = [f"v{number}" for number in range(450)]
        vectors.upsert(index_name=unique, vectors=[[1, number] for number in range(450)], ids=ids)
        assert vectors.describe_index(index_name=unique).count == 450
        assert vectors.query(index_name=unique, query_vector=[0, 1], top_k=1)[0].id == "v449"
        vectors.truncate_index(index_name=unique)
        assert vectors.describe_index(index_name=unique).count == 0


# -- refusals come before the first write --------------------------------------------------------------------------


THREADS = Thread.__mapper__.table


def row(id: str, **fields: Any) -> dict[str, Any]:
    moment = "2024-05-01T12:00:00.000Z"
    return {"id": id, "resourceId": "r", "title": "t", "createdAt": moment, "updatedAt": moment, **fields}


def by_id(id: str) -> Key:
    return Key("by_record_id", (id,))


@attrs.frozen
class Refusal:
    """Writes of one commit, of which the last is refused."""

    name: str
    last: Callable[[str], Any]
    error: type[Exception]


REFUSALS = [
    Refusal("taken", lambda id: Insert(THREADS, row(id), [Unique("by_record_id")]), StaleDataError),
    Refusal("changed", lambda id: Patch(THREADS, by_id(id), {"title": "n"}, (), {"title": "other"}), StaleDataError),
    Refusal("missing", lambda id: Delete(THREADS, by_id(f"{id} none")), StaleDataError),
    Refusal("unnamed", lambda id: Insert(THREADS, {**row(id), "id": ""}), ValidationError),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_a_refused_commit_writes_nothing(foreign_host: Host, unique: str, refusal: Refusal) -> None:
    with adapted(foreign_host.connect()) as deployment:
        with Session(deployment) as session:
            session.add(Thread(id=unique, resource_id="r", title="t", created_at=at(0), updated_at=at(0)))
            session.commit()
        other = f"{unique} other"
        with pytest.raises(refusal.error) as raised:
            finished(deployment, Upsert(THREADS, by_id(other), row(other)), refusal.last(unique))
        if isinstance(raised.value, StaleDataError):
            assert raised.value.write == 1
        with Session(deployment) as session:
            assert session.get(Thread, other) is None
            found = session.get(Thread, unique)
            assert found is not None
            assert found.title == "t"


def finished(deployment: Deployment, *writes: Any) -> Any:
    return finish(deployment.blocking.commit(Commit("c", writes)))


def test_each_write_of_a_commit_sees_the_ones_before(foreign_host: Host, unique: str) -> None:
    with adapted(foreign_host.connect()) as deployment:
        finished(
            deployment,
            Insert(THREADS, row(unique), [Unique("by_record_id")]),
            Patch(THREADS, by_id(unique), {"title": "patched"}, (), {"title": "t"}),
            Insert(THREADS, row(f"{unique} two"), [Unique("by_record_id")]),
            Delete(THREADS, by_id(f"{unique} two")),
        )
        with Session(deployment) as session:
            one, two = session.get_many(Thread, [unique, f"{unique} two"])
        assert one is not None
        assert one.title == "patched"
        assert two is None


# -- runs whose ids are the same text ------------------------------------------------------------------------------


def test_runs_with_one_id_between_them_do_not_mix(store: ConvexStore, unique: str) -> None:
    """The npm package makes one id, and one record, of both."""
    keys = [(unique, "b-c"), (f"{unique}-b", "c")]
    for place, (name, run) in enumerate(keys):
        store.workflows.persist_workflow_snapshot(workflow_name=name, run_id=run, snapshot={"place": place, "context": {}})
    for place, (name, run) in enumerate(keys):
        found = store.workflows.load_workflow_snapshot(workflow_name=name, run_id=run)
        assert found is not None
        assert found["place"] == place


# -- out of reach --------------------------------------------------------------------------------------------------


def test_what_the_handler_does_not_reach_says_what_to_deploy(foreign_host: Host, unique: str) -> None:
    options: Any = {"deployment_url": foreign_host.url, "admin_auth_token": ADMIN_KEY}
    with ConvexServerCache(**options) as cache, pytest.raises(DeploymentError, match="python -m convexorm functions"):
        cache.set(key=unique, value=1)
    renamed = ConvexStore(id="t", tables={"mastra_scorers": "mastra_scores"}, **options)
    with renamed as store, pytest.raises(DeploymentError, match="mastra_scores"):
        store.scores.list_scores_by_run_id(run_id="r")
    with ConvexVector(id="v", **options) as vectors:
        vectors.create_index(index_name="indexes", dimension=2)
        with pytest.raises(DeploymentError, match="'indexes'"):
            vectors.upsert(index_name="indexes", vectors=[[1, 2]])


# -- what is assumed, and what cannot be taken back -----------------------------------------------------------------


class OtherThread(Model, table="mastra_threads"):
    """Threads, found by another field under the name of the index that finds them by their id."""

    id: Mapped[str]
    title: Mapped[str]
    by_record_id = Index("title")


OTHER = OtherThread.__mapper__.table
THEIRS: list[Read | Write] = [
    Read(Range(OTHER, "by_record_id", ("t",))),
    DeleteRange(Range(OTHER, "by_record_id", ("t",))),
    Delete(OTHER, Key("by_record_id", ("t",))),
    Insert(OTHER, {"id": "x", "title": "t"}, unique=[Unique("by_record_id", ("t",))]),
]


@pytest.mark.parametrize("request_", THEIRS, ids=lambda one: type(one).__name__)
def test_an_index_with_other_fields_than_the_packages_is_refused(request_: Read | Write) -> None:
    with serve(handler_only) as server, adapted(connect(server.url, "key")) as deployment:
        port = deployment.blocking
        with pytest.raises(IndexRangeError, match=r"\[title\].*\[id\]"):
            finish(port.read([request_]) if isinstance(request_, Read) else port.commit(Commit("c", [request_])))
    assert [one for one in called(server) if one.startswith("mastra")] == ["mastra/storage:handle loadMany"]  # noticing


def test_the_indexes_that_operations_go_by_are_those_of_the_entities() -> None:
    models = [
        one for one in vars(entities).values() if isinstance(one, type) and issubclass(one, Model) and one is not Model
    ]
    indexes = [index for model in models for index in model.__mapper__.table.indexes]
    declared = {(index.name, index.fields) for index in indexes if index.name in INDEXES}
    assert declared == set(INDEXES.items())


def test_a_commit_cannot_be_withdrawn_from_the_handler() -> None:
    with serve(handler_only) as server, adapted(connect(server.url, "key")) as deployment:
        withdrawal = deployment.blocking.withdraw(Commit("c", []))
        with pytest.raises(DeploymentError, match=r"keeps no record of commits.*python -m convexorm functions"):
            finish(withdrawal)
    assert called(server) == ["orm:commit", "orm:commit", "mastra/storage:handle loadMany"]
