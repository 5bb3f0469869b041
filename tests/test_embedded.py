"""The embedded deployment: a SQLite file or memory, with Convex's order, ids, times and limits."""

from __future__ import annotations

import inspect
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from msgspec.structs import replace

from convexorm import (
    AsyncSession,
    AuthError,
    Deployment,
    DeploymentError,
    Index,
    IndexRangeError,
    InvalidRequestError,
    LimitExceeded,
    Mapped,
    Model,
    Session,
    StaleDataError,
    ValidationError,
    connect,
)
from convexorm.conditions import Comparison, Condition
from convexorm.deployments import EmbeddedDeployment, RemoteDeployment
from convexorm.faces import finish
from convexorm.requests import (
    Commit,
    DeletedRange,
    DeleteRange,
    Document,
    Insert,
    Key,
    Patch,
    Range,
    Read,
    Unique,
    Upsert,
    Written,
)
from convexorm.schema import AnyValue, IndexDef, Property, String, Table
from convexorm.values import Value
from tests.models import Note, Task

Rows = Table("rows", {"name": Property(AnyValue(), optional=True)}, (IndexDef("by_name", ("name",)),))


def names(deployment: Deployment, **options: object) -> list[object]:
    (result,) = finish(deployment.blocking.read([Read(Range(Rows, "by_name"), **options)]))  # type: ignore[arg-type]
    return [document.get("name") for document in result.docs]


# -- opening -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["memory:", "sqlite://", "sqlite:///:memory:"])
def test_memory_is_a_deployment_of_its_own(url: str) -> None:
    with connect(url) as one, connect(url) as two, Session(one) as session:
        session.add(Task(text="x", owner_id="u"))
        session.commit()
        assert session.count(Task.query().full_scan()) == 1
        assert Session(two).count(Task.query().full_scan()) == 0


def test_a_sqlite_url_has_three_slashes_and_then_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    connect("sqlite:///relative.db").close()
    connect(f"sqlite:///{quote(str(tmp_path / 'with space.db'))}").close()
    assert (tmp_path / "relative.db").exists()
    assert (tmp_path / "with space.db").exists()
    for name in ("a%3Fb#c%2525.db", "a%3Fb%23c%2525.db"):
        connect(f"sqlite:///{tmp_path / name}").close()
        assert (tmp_path / "a?b#c%25.db").exists()
        (tmp_path / "a?b#c%25.db").unlink()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tasks",
        "sqlite:///",
        "sqlite:a.db",
        "sqlite:/a.db",
        "sqlite://host/path",
        "postgres://x",
        "http://",
        "http://[",
        "https:///x",
        3,
        Path("a"),
        "sqlite:///a%00b",
    ],
)
def test_other_urls_are_refused(url: Any) -> None:
    with pytest.raises(DeploymentError):
        connect(url, "key")


@pytest.mark.parametrize(
    "url", ["https://ada:secret@x.example", "https://secret@x.example", "https://x/?secret", "https://x/#secret"]
)
def test_a_url_with_more_than_a_place_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        connect(url, "key")
    assert "secret" not in str(refused.value)


_VARIABLES = (
    "CONVEX_URL",
    "CONVEX_ADMIN_KEY",
    "CONVEX_DEPLOY_KEY",
    "CONVEX_SELF_HOSTED_URL",
    "CONVEX_SELF_HOSTED_ADMIN_KEY",
)


def test_the_environment_names_the_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DeploymentError, match="CONVEX_URL"):
        connect()
    monkeypatch.setenv("CONVEX_URL", "https://example.convex.cloud")
    monkeypatch.setenv("CONVEX_SELF_HOSTED_ADMIN_KEY", "a-key-of-another")
    with pytest.raises(AuthError, match="CONVEX_DEPLOY_KEY"):
        connect()
    for name in ("CONVEX_ADMIN_KEY", "CONVEX_DEPLOY_KEY"):
        monkeypatch.setenv(name, "a-key")
        with connect() as deployment:
            assert isinstance(deployment, RemoteDeployment)
        monkeypatch.delenv(name)
    monkeypatch.delenv("CONVEX_URL")
    monkeypatch.setenv("CONVEX_SELF_HOSTED_URL", "http://127.0.0.1:3210")
    with connect() as deployment:
        assert repr(deployment) == "<RemoteDeployment http://127.0.0.1:3210>"
    monkeypatch.setenv("CONVEX_URL", "memory:")
    with connect() as deployment:
        assert isinstance(deployment, EmbeddedDeployment)


def test_a_path_that_cannot_be_opened_is_a_deployment_error(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="unable to open"):
        connect(f"sqlite:///{tmp_path / 'no' / 'folder.db'}")
    (tmp_path / "text.db").write_text("this is not a database, but it is long enough to be looked at" * 20)
    with pytest.raises(DeploymentError, match="not a database"):
        connect(f"sqlite:///{tmp_path / 'text.db'}")


def test_a_file_keeps_its_documents(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with connect(url) as deployment, Session(deployment) as session:
        session.add(Note(id="n", title="t"))
        session.commit()
    with connect(url) as deployment, Session(deployment) as session:
        note = session.get(Note, "n")
        assert note is not None
        assert note.title == "t"


def test_two_deployments_of_one_file_see_each_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with connect(url) as one, connect(url) as two:
        with Session(one) as session:
            session.add(Note(id="n"))
            session.commit()
        assert Session(two).count(Note.query().full_scan()) == 1


# -- tables and indexes as they come --------------------------------------------------------------------------------


def test_an_index_added_to_a_model_covers_the_documents_there_are(tmp_path: Path) -> None:
    class Before(Model, table="things"):
        name: Mapped[str]
        size: Mapped[float]

    class After(Model, table="things"):
        name: Mapped[str]
        size: Mapped[float]
        by_size = Index("size")

    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment, Session(deployment) as old, Session(deployment) as new:
        old.add_all(Before(name=str(n), size=n % 3) for n in range(9))
        old.commit()
        found = new.all(After.query().by_index("by_size", After.size >= 1.0))
        assert [one.name for one in found] == ["1", "4", "7", "2", "5", "8"]
        old.add(Before(name="9", size=1.0))  # whoever does not know the index keeps it right
        old.commit()
        assert new.count(After.query().by_index("by_size", size=1.0)) == 4


def test_an_index_whose_fields_changed_is_built_again() -> None:
    one = Table("rows", {"a": Property(String()), "b": Property(String())}, (IndexDef("by_x", ("a",)),))
    two = Table("rows", one.fields, (IndexDef("by_x", ("b",)),))
    with EmbeddedDeployment() as deployment:
        finish(deployment.blocking.commit(Commit("1", [Insert(one, {"a": x, "b": y}) for x, y in ("az", "by", "cx")])))
        for table, expected in ((one, "abc"), (two, "cba"), (one, "abc")):
            (result,) = finish(deployment.blocking.read([Read(Range(table, "by_x"))]))
            assert "".join(document["a"] for document in result.docs) == expected


def test_a_table_first_named_by_a_commit_that_fails_can_be_used_after() -> None:
    with EmbeddedDeployment() as deployment, Session(deployment) as session:
        session.update(Note, "nothing", {"title": "x"})
        with pytest.raises(StaleDataError):
            session.commit()
        session.rollback()
        session.add(Note(id="n"))
        session.commit()
        assert session.count(Note.query().full_scan()) == 1


def test_dotted_index_fields_reach_into_objects() -> None:
    table = Table("rows", {"meta": Property(AnyValue(), optional=True)}, (IndexDef("by_rank", ("meta.rank",)),))
    documents: list[dict[str, Value]] = [{"meta": {"rank": 2.0}}, {}, {"meta": {"rank": 1.0}}, {"meta": 5.0}]
    with EmbeddedDeployment() as deployment:
        finish(deployment.blocking.commit(Commit("1", [Insert(table, document) for document in documents])))
        (result,) = finish(deployment.blocking.read([Read(Range(table, "by_rank"))]))
        assert [document.get("meta") for document in result.docs] == [None, 5.0, {"rank": 1.0}, {"rank": 2.0}]


def test_a_table_with_many_indexes_finds_by_the_right_one() -> None:
    fields = {f"f{n}": Property(AnyValue(), optional=True) for n in range(12)}
    table = Table("wide", fields, tuple(IndexDef(f"by_{n}", (f"f{n}", "f0")) for n in range(1, 12)))
    with EmbeddedDeployment() as deployment:
        rows: list[dict[str, Value]] = [{"f11": "x", "f0": 2.0, "f2": 1.0}, {"f11": "x", "f0": 1.0, "f2": 2.0}]
        finish(deployment.blocking.commit(Commit("1", [Insert(table, row) for row in rows])))
        patch = Patch(table, Key("by_11", ("x",)), {"f5": "first"})
        finish(deployment.blocking.commit(Commit("2", [patch])))
        (result,) = finish(deployment.blocking.read([Read(Range(table, "by_11", ("x",)))]))
        assert [document.get("f5") for document in result.docs] == ["first", None]


# -- ids and times -------------------------------------------------------------------------------------------------


def test_ids_are_32_characters_and_differ() -> None:
    with EmbeddedDeployment() as deployment:
        written = finish(deployment.blocking.commit(Commit("1", [Insert(Rows, {})] * 500)))
        ids = {one.id for one in written if isinstance(one, Written)}
        assert len(ids) == 500
        assert {len(one) for one in ids} == {32}


def test_creation_times_ascend_even_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedDeployment() as deployment:
        times: list[float] = []
        for now in (2_000, 1_000, 1_500):
            monkeypatch.setattr(time, "time_ns", lambda now=now: now * 1_000_000)
            for one in finish(deployment.blocking.commit(Commit(uuid4().hex, [Insert(Rows, {})] * 2))):
                assert isinstance(one, Written)
                times.append(one.creation_time or 0)
        assert times == sorted(set(times))


# -- commits -------------------------------------------------------------------------------------------------------


def test_a_remembered_commit_is_forgotten_after_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.time()
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        commit = Commit("one", [Insert(Rows, {"name": "x"})])
        first = finish(deployment.blocking.commit(commit))
        monkeypatch.setattr(time, "time", lambda: began + 3_500)
        assert finish(deployment.blocking.commit(commit)) == first
        finish(deployment.blocking.commit(Commit("two", [])))
        monkeypatch.setattr(time, "time", lambda: began + 3_700)
        for number in range(40):
            finish(deployment.blocking.commit(Commit(f"{number}", [])))
        ledger = sqlite3.connect(tmp_path / "a.db")
        left = {row[0] for row in ledger.execute("SELECT id FROM convexorm_commits")}
        assert left == {"two", *map(str, range(40))}
        ledger.close()


def test_a_unique_key_sees_the_inserts_before_it_in_the_commit() -> None:
    with EmbeddedDeployment() as deployment:
        writes = [Insert(Rows, {"name": "x"}), Insert(Rows, {"name": "y"}, [Unique("by_name", ("x",))])]
        with pytest.raises(StaleDataError) as refused:
            finish(deployment.blocking.commit(Commit(uuid4().hex, writes)))
        assert (refused.value.reason, refused.value.write) == ("exists", 1)
        assert names(deployment) == []


def test_a_key_needs_a_value() -> None:
    with EmbeddedDeployment() as deployment, pytest.raises(IndexRangeError, match="one value or more"):
        finish(deployment.blocking.commit(Commit("1", [Upsert(Rows, Key("by_name", ()), {})])))


def test_a_field_is_not_both_set_and_removed() -> None:
    with EmbeddedDeployment() as deployment, pytest.raises(ValidationError, match="set and removed"):
        finish(deployment.blocking.commit(Commit("1", [Patch(Rows, "x", {"name": 1.0}, ("name",))])))


def test_a_range_to_delete_is_limited_and_refused_whole() -> None:
    with EmbeddedDeployment() as deployment:
        port = deployment.blocking
        finish(port.commit(Commit("1", [Insert(Rows, {"name": float(n)}) for n in range(4_500)])))
        with pytest.raises(LimitExceeded) as refused:
            finish(port.commit(Commit("2", [DeleteRange(Range(Rows, "by_name"))])))
        assert refused.value.maximum == 4_000
        assert len(names(deployment)) == 4_500
        (first,) = finish(port.commit(Commit("3", [DeleteRange(Range(Rows, "by_name"), limit=9_999)])))
        assert first == DeletedRange(4_000, True)
        (rest,) = finish(port.commit(Commit("4", [DeleteRange(Range(Rows, "by_name"))])))
        assert rest == DeletedRange(500, False)


def test_a_large_commit_goes_in_one_transaction(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        finish(deployment.blocking.commit(Commit("1", [Insert(Rows, {"name": float(n)}) for n in range(15_999)])))
        assert names(deployment, order="desc", limit=2) == [15_998.0, 15_997.0]
        assert names(deployment, skip=15_998) == [15_998.0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_connections_of_its_own(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        with Session(deployment) as session:
            session.add(Note(id="parent"))
            session.commit()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with Session(deployment) as session:
                    session.add(Note(id="child"))
                    session.commit()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert Session(deployment).count(Note.query().full_scan()) == 2


# -- reads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"skip": 2}, (3, 2, False)),
        ({"skip": 9}, (0, 5, False)),
        ({"limit": 0, "skip": 2}, (0, 0, False)),
        ({"limit": 0, "peek": True}, (0, 0, True)),
        ({"limit": 5, "peek": True}, (5, 0, False)),
        ({"limit": 2, "skip": 1, "peek": True}, (2, 1, True)),
        ({"count": True}, (5, 0, False)),
        ({"count": True, "skip": 2, "limit": 2}, (2, 2, False)),
        ({"count": True, "skip": 9}, (0, 5, False)),
    ],
)
def test_skip_limit_peek_and_count(options: dict[str, int], expected: tuple[int, int, bool]) -> None:
    with EmbeddedDeployment() as deployment:
        finish(deployment.blocking.commit(Commit("1", [Insert(Rows, {"name": float(n)}) for n in range(5)])))
        (result,) = finish(deployment.blocking.read([Read(Range(Rows, "by_name"), **options)]))  # type: ignore[arg-type]
        assert (result.count, result.skipped, result.more) == expected
        assert len(result.docs) == (0 if options.get("count") else result.count)


def test_several_reads_are_one_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with connect(url) as reading, connect(url) as writing:
        finish(writing.blocking.commit(Commit("1", [Insert(Rows, {"name": "x"})])))
        written: list[str] = []

        def write_in_between(condition: Condition) -> Callable[[Document], bool]:
            finish(writing.blocking.commit(Commit(uuid4().hex, [Insert(Rows, {"name": "y"})])))
            written.append("y")
            return lambda document: True

        for name, module in list(sys.modules.items()):
            if name.startswith("convexorm.deployments.embedded") and hasattr(module, "compile_filter"):
                monkeypatch.setattr(module, "compile_filter", write_in_between)
        plain = Read(Range(Rows, "by_name"))
        first, _, third = finish(
            reading.blocking.read([plain, replace(plain, filter=Comparison("name", "eq", "x")), plain])
        )
        assert len(written) == 1
        assert [len(first.docs), len(third.docs)] == [1, 1]
        assert len(names(reading)) == 2


@pytest.mark.parametrize("session", [Session, AsyncSession])
@pytest.mark.parametrize("given", ["memory:", None, EmbeddedDeployment])
def test_a_session_is_over_a_deployment(session: type[Any], given: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r'connect\("memory:"\)'):
        session(given)


@pytest.mark.parametrize("read", ["all", "first", "one", "count"])
def test_a_model_in_the_place_of_a_query_is_refused(read: str) -> None:
    with Session(EmbeddedDeployment()) as session:
        with pytest.raises(InvalidRequestError, match=r"such as Note\.query\(\), got the model"):
            getattr(session, read)(Note)
        with pytest.raises(InvalidRequestError, match="a query is needed"):
            session.page(Note, 2)  # type: ignore[arg-type]


def test_a_blocking_session_refuses_to_run_a_coroutine_function() -> None:
    async def add(session: Session) -> None:
        session.add(Note(id="n"))

    with Session(EmbeddedDeployment()) as session, pytest.raises(InvalidRequestError, match="AsyncSession"):
        session.transact(add)  # type: ignore[unused-coroutine]


def test_a_blocking_stream_is_shown_as_one() -> None:
    assert "Async" not in str(inspect.signature(Session.stream))
