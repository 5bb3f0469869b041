"""Calls that are interrupted at any line, or cancelled where they wait: the deployment stays whole, for everybody."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

import pytest

from convexorm import Deployment, DeploymentError, InvalidRequestError, StaleDataError, connect
from convexorm.deployments.embedded.transaction import Transaction
from convexorm.faces import finish
from convexorm.requests import Commit, Insert, Key, Pack, Patch, Range, Read, Search, TextSearch, Upsert
from convexorm.schema import Array, IndexDef, Number, Property, SearchIndexDef, String, Table, VectorIndexDef
from tests.embedded.support import ROWS, add, intact, names
from tests.interrupting import PACKAGE, interrupted, walk

EMBEDDED = PACKAGE / "deployments" / "embedded"
PLACES = Table(
    "places",
    {"name": Property(String()), "at": Property(Array(Number()))},
    (IndexDef("by_name", ("name",)),),
    (VectorIndexDef("by_at", "at", 2),),
    search_indexes=(SearchIndexDef("by_words", "name"),),
)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    """Another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(params=["memory", "file"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    url = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'a.db'}"
    with connect(url) as deployment:
        add(deployment, "first")
        finish(deployment.blocking.commit(Commit("v", [Insert(PLACES, {"name": "mill", "at": [1.0, 2.0]})])))
        yield deployment


MILLS = Read(Range(PLACES, "by_creation_time"), limit=9, search=TextSearch("by_words", "mil"))
OAK = {"name": "oak", "at": [1.0, -5.0]}
READ = Read(Range(ROWS, "by_name"))


def refused(deployment: Deployment) -> None:
    """A commit that leaves its transaction to be rolled back."""
    patch = Patch(ROWS, Key("by_name", ("first",)), {"name": "second"}, expect={"name": "another"})
    with suppress(StaleDataError):
        finish(deployment.blocking.commit(Commit(uuid4().hex, [Insert(ROWS, {"name": "lost"}), patch])))


CALLS: dict[str, Callable[[Deployment, Path], Any]] = {
    "commit": lambda deployment, path: add(deployment, "x"),
    "read": lambda deployment, path: finish(
        deployment.blocking.read([Read(Range(ROWS, "by_name"), limit=1), Read(Range(ROWS, "by_creation_time"), limit=1)])
    ),
    "read as a matrix": lambda deployment, path: finish(
        deployment.blocking.read([Read(Range(PLACES, "by_name"), pack=Pack("at", 2))])
    ),
    "search": lambda deployment, path: finish(deployment.blocking.search(Search(PLACES, "by_at", (1.0, 0.0), 1))),
    "search texts": lambda deployment, path: finish(deployment.blocking.read([MILLS])),
    "write a text": lambda deployment, path: finish(
        deployment.blocking.commit(Commit(uuid4().hex, [Upsert(PLACES, Key("by_name", ("oak",)), OAK)]))
    ),
    "a commit that is refused": lambda deployment, path: refused(deployment),
    "withdraw": lambda deployment, path: finish(deployment.blocking.withdraw(Commit(uuid4().hex, []))),
    "vacuum": lambda deployment, path: deployment.vacuum(),
    "backup": lambda deployment, path: deployment.backup(path / f"{uuid4().hex}.copy"),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupt_at_any_line_leaves_a_deployment_whole(
    kept: Deployment, call: str, tmp_path: Path, elsewhere: ThreadPoolExecutor
) -> None:
    for number, error in enumerate(walk(lambda: CALLS[call](kept, tmp_path), EMBEDDED)):
        if number % 2:  # whoever comes first finds what the interrupt has left
            elsewhere.submit(add, kept, f"other {number}").result(20)
            add(kept, f"same {number}")
        else:
            add(kept, f"same {number}")
            elsewhere.submit(add, kept, f"other {number}").result(20)
        there = asyncio.run(kept.asynchronous.read([READ]))[0].docs
        assert there[0]["name"] == "first"
        assert sum(one["name"] != "x" for one in there) == 2 * number + 3
        found = finish(kept.blocking.search(Search(PLACES, "by_at", (1.0, 0.0), 1)))
        assert [document["name"] for _, document in found] == ["mill"]
        assert [document["name"] for document in finish(kept.blocking.read([MILLS]))[0].docs] == ["mill"]
        assert not list(tmp_path.glob("*.partial*"))
        del error  # kept until here: it holds the frames of what it interrupted
    gc.collect()
    assert not [link for link in open_files() if ".copy" in link]
    for copy in tmp_path.glob("*.copy"):  # only complete ones have a name
        assert intact(copy)
        with connect(f"sqlite:///{copy}?mode=ro") as backup:
            assert names(backup)[0] == "first"


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_table_that_an_interrupted_commit_was_to_create_is_known_as_it_is(
    tmp_path: Path, kind: str, elsewhere: ThreadPoolExecutor
) -> None:
    line, error = 1, None
    while line == 1 or error is not None:
        with connect("memory:" if kind == "memory" else f"sqlite:///{tmp_path / f'{line}.db'}") as deployment:
            error = interrupted(lambda: add(deployment, "x"), line, EMBEDDED)
            elsewhere.submit(add, deployment, "y").result(20)
            add(deployment, "z")
            assert names(deployment) in (["x", "y", "z"], ["y", "z"])
        line += 1 if kind == "memory" else 3
    assert line > 100


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_close_that_is_interrupted_can_be_made_again(tmp_path: Path, kind: str, elsewhere: ThreadPoolExecutor) -> None:
    url = "memory:" if kind == "memory" else f"sqlite:///{tmp_path / 'a.db'}"
    line, error = 1, None
    while line == 1 or error is not None:
        deployment = connect(url)
        add(deployment, line)
        error = interrupted(deployment.close, line, EMBEDDED)
        with suppress(DeploymentError):  # closed
            assert names(deployment)[-1] == line
        with suppress(DeploymentError):
            assert elsewhere.submit(names, deployment).result(20)[-1] == line
        deployment.close()
        with pytest.raises(DeploymentError, match="closed"):
            names(deployment)
        line += 1
    if kind == "file":
        assert intact(tmp_path / "a.db")


def test_an_opening_that_is_interrupted_can_be_made_again(tmp_path: Path) -> None:
    line, error = 1, None
    while line == 1 or error is not None:
        path = tmp_path / f"{line}.db"
        error = interrupted(lambda: connect(f"sqlite:///{path}").close(), line, EMBEDDED)  # noqa: B023
        with connect(f"sqlite:///{path}") as deployment:
            add(deployment, "x")
            assert names(deployment) == ["x"]
        line += 2
    assert line > 50
    error = None
    gc.collect()
    assert not [link for link in open_files() if str(tmp_path) in link]


def open_files() -> list[str]:
    """Where the descriptors of this process lead to."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(os.readlink(descriptor))
    return found


@pytest.mark.parametrize("read", [True, False], ids=["read", "commit"])
def test_a_request_from_a_signal_handler_in_the_midst_of_a_commit_does_not_join_it(
    kept: Deployment, read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Any] = []
    apply = Transaction.apply

    def handle(number: int, frame: FrameType | None) -> None:
        monkeypatch.undo()
        try:
            refused.append(names(kept) if read else CALLS["commit"](kept, Path()))
        except InvalidRequestError as error:
            refused.append(error)

    def signalled(self: Transaction) -> Any:
        applied = apply(self)
        signal.raise_signal(signal.SIGUSR1)
        return applied

    before = signal.signal(signal.SIGUSR1, handle)
    monkeypatch.setattr(Transaction, "apply", signalled)
    try:
        add(kept, "outer")
    finally:
        signal.signal(signal.SIGUSR1, before)
    if read and kept._engine._source.memory is False:  # type: ignore[attr-defined]
        assert refused == [["first"]]  # of a file, a reader of its own sees what is committed
    else:
        assert isinstance(refused[0], InvalidRequestError)
        assert "in the midst of another request of the same thread" in str(refused[0])
    assert names(kept) == ["first", "outer"]


@pytest.mark.parametrize("kind", ["memory", "file"])
@pytest.mark.parametrize("steps", range(4))
def test_a_call_that_is_cancelled_where_it_waits_leaves_a_deployment_whole(tmp_path: Path, kind: str, steps: int) -> None:
    async def cancel() -> None:
        async with connect("memory:" if kind == "memory" else f"sqlite:///{tmp_path / 'a.db'}") as deployment:
            add(deployment, "first")
            port = deployment.asynchronous
            calls: list[Coroutine[Any, Any, Any]] = [
                port.commit(Commit(uuid4().hex, [Insert(ROWS, {"name": "second"})])),
                port.read([READ]),
                port.withdraw(Commit(uuid4().hex, [])),
                deployment.avacuum(),
                deployment.abackup(tmp_path / "copy.db"),
            ]
            for call in calls:
                task = asyncio.ensure_future(call)
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            await port.commit(Commit(uuid4().hex, [Insert(ROWS, {"name": "third"})]))
            (found,) = await port.read([READ])
            assert [one["name"] for one in found.docs] in (["first", "third"], ["first", "second", "third"])
            answered.append(not task.cancelled())

    answered: list[bool] = []
    asyncio.run(cancel())  # and have its threads come to their end
    assert [name for name in os.listdir(tmp_path) if "copy" in name] == ["copy.db"] * answered[0]
    if answered[0]:
        with connect(f"sqlite:///{tmp_path / 'copy.db'}") as copied:
            assert "first" in names(copied)
