"""What is told of requests: to callbacks, loggers, `echo` and OpenTelemetry. Names and numbers, never contents or keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest

from convexorm import AsyncSession, Deployment, DeploymentError, InvalidRequestError, Session, StaleDataError, connect
from convexorm.deployments.observers import Request
from convexorm.wire import VERSION
from mastra_convex import ConvexStore
from mastra_convex.foreign import adapted
from tests.conftest import Host
from tests.models import Counter, Note, Task
from tests.servers import Answer, serve, success

SECRET = "contents-of-a-document"


@pytest.fixture
def host(models_host: Host) -> Host:
    return models_host


@pytest.fixture
def told(deployment: Deployment) -> list[Request]:
    requests: list[Request] = []
    deployment.on_request(requests.append)
    return requests


def test_each_request_is_told_of_with_names_and_numbers(deployment: Deployment, told: list[Request], unique: str) -> None:
    with Session(deployment) as session:
        session.add_all([Task(text=SECRET, owner_id=unique, done=False) for _ in range(3)])
        session.commit()
        tasks = Task.query().by_index("by_owner", owner_id=unique)
        assert len(session.all(tasks)) == 3
        session.read(tasks, Note.query().by_index("by_title", title=unique))
        session.delete_range(tasks)
        session.commit()
        session.upsert(Note(id=unique, title=SECRET))
        session.commit()
    names = [(one.operation, one.tables, one.indexes, one.count, one.documents) for one in told]
    assert names == [
        ("commit", ("tasks",), (), 3, 3),
        ("read", ("tasks",), ("tasks.by_owner",), 1, 3),
        ("read", ("tasks", "notes"), ("tasks.by_owner", "notes.by_title"), 2, 3),
        ("commit", ("tasks",), ("tasks.by_owner",), 1, 3),
        ("commit", ("notes",), ("notes.by_note_id",), 1, 1),
    ]
    remote = told[0].deployment.startswith("http")
    assert all((one.sent > 100, one.received > 50) == (remote, remote) for one in told)
    assert all(one.attempts == 1 and one.conflicts == 0 and one.error is None and one.seconds > 0 for one in told)
    assert SECRET not in "".join(map(repr, told)) + "".join(map(str, told))
    assert unique not in "".join(map(repr, told))


async def test_both_faces_tell(deployment: Deployment, told: list[Request], unique: str) -> None:
    async with AsyncSession(deployment) as session:
        session.add(Counter(name=unique))
        await session.commit()
        session.add(Counter(name=unique))
        with pytest.raises(StaleDataError):
            await session.commit()
    assert [(one.operation, one.error) for one in told] == [("commit", None), ("commit", "StaleDataError")]


def test_attempts_conflicts_and_bytes_are_those_of_all_attempts() -> None:
    conflict = Answer(b'{"code":"OptimisticConcurrencyControlFailure","message":"m"}', 503)
    answers = iter([conflict, None, conflict, success({"version": VERSION, "results": [[["id", 1.0]]]})])
    told: list[Request] = []
    with serve(lambda call: next(answers)) as server, connect(server.url, "secret|key") as deployment:
        deployment.on_request(told.append)
        with Session(deployment) as session:
            session.add(Task(text=SECRET, owner_id="u"))
            session.commit()
    (request,) = told
    assert (request.attempts, request.conflicts, request.documents) == (4, 2, 1)
    assert request.sent == sum(map(len, server.bodies))
    assert "4 attempts, 2 conflicts" in str(request)
    assert "secret" not in repr(request)


def test_a_callback_may_go_and_what_it_raises_stays_its_own(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def fail(request: Request) -> None:
        calls.append(request.operation)
        raise RuntimeError("a listener's own")

    first, second = deployment.on_request(fail), deployment.on_request(fail)
    count = Task.query().full_scan()
    Session(deployment).count(count)
    first()
    Session(deployment).count(count)
    second()
    first()
    Session(deployment).count(count)
    assert calls == ["read"] * 3
    assert [one.name for one in caplog.records] == ["convexorm"] * 3


def test_what_was_handled_when_a_callback_raises_is_not_logged_along(
    deployment: Deployment, caplog: pytest.LogCaptureFixture, unique: str
) -> None:
    """Neither what the request failed with, nor what the program was at, whatever the callback makes of its failure."""

    def fail(request: Request) -> None:
        try:
            raise RuntimeError("a listener's own")
        except RuntimeError as error:
            raise LookupError("no gauge") from error

    deployment.on_request(fail)
    with Session(deployment) as session:
        try:
            raise ValueError(SECRET)
        except ValueError:
            session.add(Counter(name=unique))
            session.commit()
        session.add(Counter(name=unique))
        with pytest.raises(StaleDataError) as refused:
            session.commit()
    assert SECRET not in caplog.text
    assert "StaleDataError" not in caplog.text
    assert [str(one.exc_info[1].__cause__) for one in caplog.records if one.exc_info and one.exc_info[1]] == [
        "a listener's own"
    ] * 2
    assert isinstance(refused.value, StaleDataError)


class Awaited:
    async def __call__(self, news: object) -> None:
        raise AssertionError("nobody awaits it")


async def test_a_callback_that_would_have_to_be_awaited_is_refused_or_logged(
    deployment: Deployment, caplog: pytest.LogCaptureFixture, unique: str
) -> None:
    async def later(news: object) -> None:
        raise AssertionError("nobody awaits it")

    tasks = Task.query().by_index("by_owner", owner_id=unique)
    session = AsyncSession(deployment)
    task = Task(text="stays", owner_id=unique)
    await session.add(task)
    await session.commit()
    callbacks: list[Any] = [later, partial(later), Awaited()]
    for callback in callbacks:
        refused = pytest.raises(InvalidRequestError, match="not awaited")
        with refused:
            deployment.on_request(callback)
        with refused:
            await session.delete_all(tasks, on_progress=callback)
        with refused:
            await session.update_all(tasks, {Task.done: True}, on_progress=callback)
        with refused:
            await session.delete_tree(task, on_progress=callback)
        with refused:
            await session.recount(Task, on_progress=callback)
        with refused:
            deployment.files.upload(b"x", on_progress=callback)
        with refused:
            deployment.watch(tasks, on_state=callback)
    assert [(one.text, one.done) for one in await AsyncSession(deployment).all(tasks)] == [("stays", False)]
    deployment.on_request(lambda request: later(request))
    await AsyncSession(deployment).count(tasks)
    assert "not awaited" in caplog.text


def test_a_store_tells_through_its_deployment(host: Host) -> None:
    told: list[Request] = []
    with host.connect() as deployment:
        adapted(deployment).on_request(told.append)
        ConvexStore(id="s", deployment=deployment).deployment.on_request(told.append)
        Session(deployment).count(Task.query().full_scan())
    assert [one.operation for one in told] == ["read", "read"]


def test_a_line_a_request_is_logged_at_debug_and_echoed(
    deployment: Deployment, unique: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def use(deployment: Deployment) -> None:
        with Session(deployment) as session:
            session.add(Note(id=unique, title=SECRET))
            session.commit()
            session.get(Note, unique)

    use(deployment)
    assert not caplog.records
    caplog.set_level(logging.DEBUG, logger="convexorm")
    Session(deployment).get(Note, unique)
    (record,) = [one for one in caplog.records if one.name == "convexorm"]
    assert record.getMessage().startswith("read notes.by_note_id: 1 asked, 1 documents")
    assert unique not in record.getMessage()
    with connect("memory:", echo=True) as echoing:
        use(echoing)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "commit notes.by_note_id: 1 asked",
        "read notes.by_note_id: 1 asked",
    ]


def test_failures_are_told_by_the_name_of_their_class() -> None:
    told: list[Request] = []
    with serve(lambda call: Answer(b"", 503)) as server, connect(server.url, "key", retry=1) as deployment:
        deployment.on_request(told.append)
        with pytest.raises(DeploymentError):
            Session(deployment).count(Task.query().full_scan())
    assert [(one.error, one.attempts) for one in told] == [("DeploymentError", 1)]


# -- OpenTelemetry -------------------------------------------------------------------------------------------------


@attrs.frozen
class Telemetry:
    providers: dict[str, Any]
    spans: Callable[[], list[Any]]
    metrics: Callable[[], dict[str, float]]


@pytest.fixture
def telemetry() -> Telemetry:
    pytest.importorskip("opentelemetry.sdk", reason="an extra")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))

    def metrics() -> dict[str, float]:
        data = reader.get_metrics_data()
        found = [] if data is None else [one for r in data.resource_metrics for s in r.scope_metrics for one in s.metrics]
        return {
            one.name: sum(getattr(point, "value", getattr(point, "count", 0)) for point in one.data.data_points)
            for one in found
        }

    providers = {"tracer_provider": tracer_provider, "meter_provider": MeterProvider([reader])}
    return Telemetry(providers, lambda: list(exporter.get_finished_spans()), metrics)


def test_spans_lie_under_the_callers_and_carry_the_conventions_names(
    deployment: Deployment, telemetry: Telemetry, unique: str
) -> None:
    from convexorm.opentelemetry import instrument

    stop = instrument(deployment, **telemetry.providers)
    tracer = telemetry.providers["tracer_provider"].get_tracer("test")
    tasks = Task.query().by_index("by_owner", owner_id=unique)

    def block() -> None:
        with Session(deployment) as session:
            session.add_all([Task(text=SECRET, owner_id=unique) for _ in range(2)])
            session.commit()

    async def wait() -> None:
        with tracer.start_as_current_span("asked"):
            assert len(await AsyncSession(deployment).all(tasks)) == 2

    with tracer.start_as_current_span("done"):
        block()
    asyncio.run(wait())
    stop()
    block()
    commit, done, read, asked = telemetry.spans()
    assert (commit.name, commit.parent.span_id) == ("commit tasks", done.context.span_id)
    assert (read.name, read.parent.span_id) == ("read tasks", asked.context.span_id)
    assert commit.start_time >= done.start_time
    assert read.attributes["db.operation.name"] == "read"
    assert read.attributes["db.collection.name"] == "tasks"
    assert read.attributes["db.response.returned_rows"] == 2
    assert commit.attributes["db.operation.batch.size"] == 2
    remote = read.attributes["db.system.name"] == "convex"
    assert ("server.port" in read.attributes) == remote
    assert SECRET not in str([span.to_json() for span in telemetry.spans()])
    counts = telemetry.metrics()
    assert counts["db.client.operation.duration"] == 2
    assert counts["convexorm.client.documents_read"] == 2


def test_retries_conflicts_and_errors_are_counted(telemetry: Telemetry) -> None:
    from convexorm.opentelemetry import instrument

    conflict = Answer(b'{"code":"OptimisticConcurrencyControlFailure","message":"m"}', 503)
    answers = iter([conflict, conflict, success({"version": VERSION, "results": [[["id", 1.0]]]}), Answer(b"", 404)])
    with serve(lambda call: next(answers)) as server, connect(server.url, "secret|key") as deployment:
        instrument(deployment, **telemetry.providers)
        with Session(deployment) as session:
            session.add(Task(text=SECRET, owner_id="u"))
            session.commit()
        with pytest.raises(DeploymentError):
            Session(deployment).count(Task.query().full_scan())
    counts = telemetry.metrics()
    assert (counts["convexorm.client.retries"], counts["convexorm.client.conflicts"]) == (2, 2)
    failed = telemetry.spans()[-1]
    assert failed.attributes["error.type"] == "DeploymentError"
    assert failed.status.status_code.name == "ERROR"
