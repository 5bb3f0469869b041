"""`python -m convexorm doctor`: what stands between a program and its deployment, each with what to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import attrs
import pytest

from convexorm import Session, connect
from convexorm.__main__ import main
from convexorm.faces import finish
from convexorm.requests import Commit, Insert
from convexorm.wire import VERSION
from tests.conftest import ADMIN_KEY, ROOT, Host, serve_host
from tests.models import Everything, Note, Task
from tests.servers import VERSIONED, Answer, refusal, serve

NAMES = ("CONVEX_URL", "CONVEX_ADMIN_KEY", "CONVEX_DEPLOY_KEY", "CONVEX_SELF_HOSTED_URL")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONVEX_DEPLOY_KEY", ADMIN_KEY)


@attrs.frozen
class Told:
    status: int
    lines: list[str]

    def about(self, name: str) -> list[str]:
        return [line for line in self.lines if line.split()[1] == name]

    @property
    def wrong(self) -> list[str]:
        return [line for line in self.lines if line.startswith("FAIL")]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Told:
        status = main(["doctor", *arguments])
        return Told(status, capsys.readouterr().out.splitlines())

    return run


def test_a_deployment_that_is_as_it_should_be_is_all_right(doctor: Any, models_host: Host) -> None:
    with models_host.connect() as deployment, Session(deployment) as session:
        session.add(Task(text="secret", owner_id="u"))
        session.commit()
    told = doctor("--url", models_host.url, "tests.models")
    assert (told.status, told.wrong) == (0, [])
    assert [line.split()[1] for line in told.lines[:6]] == ["reachable", "key", "clock", "read", "commit", "search"]
    assert f"of wire version {VERSION}" in told.about("read")[0]
    assert any("'tasks' is there, with 3 indexes" in line for line in told.about("schema"))
    assert any("newest 1 of table 'tasks' are as the model says" in line for line in told.about("documents"))
    assert "secret" not in "".join(told.lines)


def test_the_environment_names_the_deployment(doctor: Any, models_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEX_URL", models_host.url)
    assert doctor().status == 0


def test_nobody_there(doctor: Any) -> None:
    told = doctor("--url", "http://127.0.0.1:1", "--timeout", "1")
    assert (told.status, len(told.lines)) == (1, 1)
    assert "unreachable" in told.lines[0]
    assert "look at the URL" in told.lines[0]


def test_a_key_of_another_deployment(doctor: Any, models_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVEX_DEPLOY_KEY", "another|secret-key")
    told = doctor("--url", models_host.url)
    assert told.status == 1
    assert "refused the admin key" in told.wrong[0]
    assert "of this very deployment" in told.wrong[0]
    assert len(told.lines) == 2
    assert "secret-key" not in "".join(told.lines)


@pytest.fixture(scope="module")
def reading_host() -> Iterator[Host]:
    yield from serve_host(ROOT / "tests" / "functions", "--allow", "RunInternalQueries")


def test_a_readers_key_is_all_right_and_what_it_lacks_is_named(doctor: Any, reading_host: Host) -> None:
    told = doctor("--url", reading_host.url, "tests.models")
    assert told.status == 0
    assert (
        "lacks deployment:functions:runInternalMutations, deployment:functions:runInternalActions" in told.about("key")[0]
    )
    assert not told.about("commit")


def test_functions_that_are_missing_and_tables_that_are_others(doctor: Any, shared_host: Host) -> None:
    """The host of the contract's tables has the functions, and not the tables of the tests."""
    told = doctor("--url", shared_host.url, "tests.models")
    assert told.status == 1
    assert all("is not deployed" in line and "python -m convexorm schema" in line for line in told.wrong)
    assert not told.about("documents")


class Scene:
    """A deployment whose functions answer as a test says, and whose clock is off by so many seconds."""

    def __init__(self, answer: Answer, skew: float = 0) -> None:
        self.answer = answer
        self.skew = skew

    def __call__(self, call: dict[str, Any]) -> Answer:
        return self.answer if call.get("path") is not None else Answer(b"1.0")

    def get(self, path: str) -> Answer:
        date = formatdate(time.time() + self.skew, usegmt=True)
        body = b'{"success": true, "allowedOps": [], "isReadOnly": false}' if "admin" in path else b"local"
        return Answer(body, headers={"Date": date})


def test_a_clock_that_is_off(doctor: Any) -> None:
    for skew, words in ((120, "seconds behind"), (-120, "seconds ahead of")):
        scene = Scene(VERSIONED, skew)
        with serve(scene, scene.get) as server:
            told = doctor("--url", server.url)
        assert told.status == 1
        assert any(words in line and "set this machine's clock" in line for line in told.about("clock"))
        assert len(told.about("read")) == 1  # the rest is looked at all the same


@pytest.mark.parametrize(
    ("version", "mend"), [(VERSION - 1, "npx convex deploy"), (VERSION + 1, "pip install --upgrade convexorm")]
)
def test_functions_of_another_version(doctor: Any, version: int, mend: str) -> None:
    scene = Scene(refusal(code="Version", message="m", supported=version))
    with serve(scene, scene.get) as server:
        told = doctor("--url", server.url)
    assert told.status == 1
    assert len(told.wrong) == 3
    assert all(mend in line for line in told.wrong)


def test_functions_that_are_not_deployed(doctor: Any) -> None:
    scene = Scene(refusal("[Request ID: 1] Server Error"))
    with serve(scene, scene.get) as server:
        told = doctor("--url", server.url, "tests.models")
    assert told.status == 1
    assert all("npx convex deploy" in line for line in told.wrong)
    assert not told.about("schema")


def test_documents_that_are_large_or_others_than_the_model(doctor: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with connect(url) as deployment:
        notes, everything = Note.__mapper__.table, Everything.__mapper__.table
        other = attrs.evolve(everything, fields={"text": notes.fields["title"]}, indexes=(), vector_indexes=())
        finish(deployment.blocking.commit(Commit("1", [Insert(notes, _large()), Insert(other, {"text": "secret"})])))
    told = doctor("--url", url, "tests.models")
    assert told.status == 1
    large, others = sorted(told.wrong, key=lambda line: "not as the model" in line)
    assert "'notes' one has 900," in large
    assert "keep large fields in documents of their own" in large
    assert "'everything' are not as the model says" in others
    assert "secret" not in others


def _large() -> dict[str, Any]:
    return {"id": "n", "title": "", "body": "x" * 900_000, "tags": []}


def test_a_file_that_is_none(doctor: Any, tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database" * 1_000)
    assert main(["doctor", "--url", f"sqlite:///{tmp_path / 'x.db'}"]) == 1
