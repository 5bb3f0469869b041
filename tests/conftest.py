"""The deployments that tests run on.

`deployment` runs a test on every kind there is: memory, a SQLite file, the TypeScript functions on the local host, and a
real Convex deployment where `CONVEX_TEST_URL` and `CONVEX_TEST_ADMIN_KEY` name one. The last two keep documents from test
to test, so tests that share tables use ids of their own (`unique`), or empty the tables first.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import attrs
import httpx2
import pytest

from convexorm import Deployment, Model, Schema, connect, to_typescript
from convexorm.projects.files import write_files
from convexorm.projects.functions import functions as functions_to_copy
from convexorm.requests import commits
from convexorm.requests.commits import new_id

ROOT = Path(__file__).parents[1]
ADMIN_KEY = "local-test-key"

_REDACTED = ["--redact"]
"""What every host is started with: production tells no more of an error than the data of a ConvexError."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--told", action="store_true", help="let the local hosts tell the texts of errors, as development does"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--told"):
        _REDACTED.clear()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests may be coroutines; the deployments they use are closed on their event loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}

    async def run() -> None:
        try:
            await pyfuncitem.obj(**arguments)
        finally:
            for value in list(pyfuncitem.funcargs.values()):
                if isinstance(value, Deployment):
                    await value.aclose()

    asyncio.run(run())
    return True


@pytest.fixture(scope="session", autouse=True)
def no_sweeps() -> Iterator[None]:
    """No commit is one of the few, found by chance, that have old rows swept beside what a test counts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commits, "new_id", lambda: next(id_ for id_ in iter(new_id, "") if not _sweeps(id_)))
        yield


def _sweeps(id_: str) -> bool:
    """Whether the commit of this id has rows swept: `isSweeper` in `convex/orm/sweeping.ts`."""
    hash_ = 0
    for character in id_:
        hash_ = (31 * hash_ + ord(character)) % 2**32
    return hash_ % 128 == 0


@attrs.frozen
class Host:
    """The local host of the TypeScript functions, and the counts it keeps."""

    url: str
    key: str

    def connect(self) -> Deployment:
        return connect(self.url, self.key)

    def reset(self) -> None:
        """Forget the counts, not the documents."""
        httpx2.post(f"{self.url}/metrics/reset").raise_for_status()

    def metrics(self) -> dict[str, int]:
        counts: dict[str, int] = httpx2.get(f"{self.url}/metrics").raise_for_status().json()
        return counts


def node() -> str:
    """The path of Node; without one the test is skipped."""
    installed = Path(sys.executable).with_name("node")
    program = str(installed) if installed.exists() else shutil.which("node")
    if program is None:
        pytest.skip("Node is not installed; `make` installs it")
    return program


def start_host(functions: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """A host of the functions in a folder on a free port, and its URL. Whoever starts it ends it.

    A function has as much time as it takes: on a machine at work the processor is slower than any limit allows for.
    """
    process = subprocess.Popen(
        [
            *(node(), "--import", "tsx", "scripts/deployment/main.ts"),
            *("--port", "0", "--admin-key", ADMIN_KEY, "--functions", str(functions), "--exit-with-stdin"),
            *("--user-time", "60000", *_REDACTED, *options),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline().split()
    if len(line) != 2 or line[0] != "ready":
        process.kill()
        raise RuntimeError("the local host did not start")
    return process, line[1]


def stop_host(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(timeout=10)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def serve_host(functions: Path, *options: str) -> Iterator[Host]:
    """A host of the functions in a folder for as long as it is wanted."""
    process, url = start_host(functions, *options)
    try:
        yield Host(url, ADMIN_KEY)
    finally:
        stop_host(process)


@contextmanager
def serve_models(folder: Path, *models: type[Model]) -> Iterator[Host]:
    """A host of the tables of these models, as they are written for a project in an empty folder."""
    functions = folder / "convex"
    functions.mkdir()
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    (folder / "package.json").write_text("{}")
    write_files(functions, functions_to_copy())
    (functions / "schema.ts").write_text(to_typescript(Schema.of([model.__mapper__.table for model in models])))
    yield from serve_host(functions)


@pytest.fixture(scope="module")
def shared_host() -> Iterator[Host]:
    """One host for the tests of a module."""
    yield from serve_host(ROOT / "convex")


@pytest.fixture(scope="module")
def models_host() -> Iterator[Host]:
    """One host of the tables of `tests/models.py`, likewise."""
    yield from serve_host(ROOT / "tests" / "functions")


@pytest.fixture
def host(shared_host: Host) -> Host:
    """The host that `deployment` opens; a test module may choose another."""
    return shared_host


@pytest.fixture
def fresh_host() -> Iterator[Host]:
    """A host of this test's own, empty."""
    yield from serve_host(ROOT / "convex")


KINDS = ["memory", "sqlite", "host", *(["convex"] if os.environ.get("CONVEX_TEST_URL") else [])]


@pytest.fixture
def open_deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Deployment]:
    """Opens deployments by kind and closes them when the test ends."""

    def open_(kind: str) -> Deployment:
        if kind == "memory":
            deployment = connect("memory:")
        elif kind == "sqlite":
            deployment = connect(f"sqlite:///{tmp_path / 'test.db'}")
        elif kind == "host":
            host: Host = request.getfixturevalue("host")
            deployment = host.connect()
        else:
            deployment = connect(os.environ["CONVEX_TEST_URL"], os.environ["CONVEX_TEST_ADMIN_KEY"])
        request.addfinalizer(deployment.close)
        return deployment

    return open_


@pytest.fixture(params=KINDS)
def deployment(request: pytest.FixtureRequest, open_deployment: Callable[[str], Deployment]) -> Deployment:
    """Every kind of deployment in turn."""
    return open_deployment(request.param)


@pytest.fixture
def unique() -> str:
    """A prefix for ids that no other test uses."""
    return uuid4().hex[:12]


@pytest.fixture(scope="session")
def locomo() -> Path:
    """The folder of real conversations, where there is one."""
    folder = ROOT.parent / "shared" / "data" / "locomo"
    if not folder.is_dir():
        pytest.skip("the LoCoMo conversations are not there")
    return folder
