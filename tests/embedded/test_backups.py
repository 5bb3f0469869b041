"""Backups of embedded deployments, and the space that deleted documents leave."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from convexorm import Deployment, DeploymentError, InvalidRequestError, connect
from convexorm.deployments import EmbeddedDeployment, RemoteDeployment
from convexorm.deployments.embedded import backups
from convexorm.faces import finish
from convexorm.requests import Commit, DeleteRange, Range
from tests.embedded.support import ROWS, add, intact, names


@pytest.fixture(params=["memory", "file"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    with connect("memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        add(deployment, "x", "y")
        yield deployment


def test_a_backup_is_one_file_that_can_be_opened(stored: Deployment, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    stored.backup(tmp_path / "backups" / "b.db")
    assert os.listdir(tmp_path / "backups") == ["b.db"]
    add(stored, "z")
    with connect(f"sqlite:///{tmp_path / 'backups' / 'b.db'}") as copy:
        assert names(copy) == ["x", "y"]
        add(copy, "own")
        assert names(copy) == ["own", "x", "y"]
    assert intact(tmp_path / "backups" / "b.db")


async def test_a_backup_and_a_vacuum_are_awaited_likewise(stored: Deployment, tmp_path: Path) -> None:
    await stored.abackup(str(tmp_path / "b.db"))
    await stored.avacuum()
    async with connect(f"sqlite:///{tmp_path / 'b.db'}") as copy:
        assert names(copy) == names(stored) == ["x", "y"]


def test_a_backup_overwrites_nothing_and_leaves_nothing(stored: Deployment, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(os.listdir(tmp_path))
    for name in ("there", "dangling"):
        with pytest.raises(DeploymentError, match="overwrites nothing"):
            stored.backup(tmp_path / name)
    with pytest.raises(DeploymentError, match=r"unable to open"):
        stored.backup(tmp_path / "no" / "folder.db")
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "there").read_text() == "mine"


@pytest.mark.parametrize("path", ["a\0b", "", "\udc80", b"bytes", 5, None], ids=repr)
async def test_a_path_that_can_name_no_file_is_refused(stored: Deployment, path: Any) -> None:
    with pytest.raises(DeploymentError, match="the path of a file"):
        stored.backup(path)
    with pytest.raises(DeploymentError, match="the path of a file"):
        await stored.abackup(path)
    if path is not None:  # which is memory
        with pytest.raises(DeploymentError, match="the path of a file"):
            EmbeddedDeployment(path)
    assert names(stored) == ["x", "y"]


def test_a_relative_path_in_a_folder_that_is_gone_is_refused(
    stored: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for call in (lambda: stored.backup("b.db"), lambda: connect("sqlite:///b.db")):
        with pytest.raises(DeploymentError, match="working directory"):
            call()


@pytest.mark.parametrize("failing", ["fsync", "link"])
def test_a_backup_that_the_disk_fails_is_a_typed_error_and_leaves_nothing(
    stored: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = sorted(os.listdir(tmp_path))
    monkeypatch.setattr(os, failing, fail)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(DeploymentError, match="cannot be written"):
        stored.backup(tmp_path / "b.db")
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("late", [False, True], ids=["while it is written", "while it gets its name"])
def test_a_backup_that_is_cancelled_is_not_there_or_answered(
    stored: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    async def cancelled() -> bool:
        arrived, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def paused(*arguments: Any) -> None:
            loop.call_soon_threadsafe(arrived.set)
            assert go_on.wait(20)
            step(*arguments)

        name = "_sync" if late else "_write"
        step = getattr(backups, name)
        monkeypatch.setattr(backups, name, paused)
        task = asyncio.ensure_future(stored.abackup(tmp_path / "b.db"))
        await arrived.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert task.done() is not late
        go_on.set()
        await asyncio.wait([task])
        return not task.cancelled()

    assert asyncio.run(cancelled()) is late
    assert [name for name in os.listdir(tmp_path) if name.startswith("b.db")] == ["b.db"] * late


def test_a_backup_has_whole_commits_only_while_others_write(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        add(deployment, "pair", "pair")
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                add(deployment, "pair", "pair")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(8):
                deployment.backup(tmp_path / f"{number}.copy")
        finally:
            stop.set()
            writer.join()
        counts = []
        for number in range(8):
            with connect(f"sqlite:///{tmp_path / f'{number}.copy'}?mode=ro") as copy:
                counts.append(len(names(copy)))
        assert counts == sorted(counts)
        assert all(count % 2 == 0 and count for count in counts)


def test_vacuum_gives_space_back(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'a.db'}") as deployment:
        add(deployment, *(f"{number} {'x' * 2_000}" for number in range(1_000)))
        add(deployment, "kept")
        finish(deployment.blocking.commit(Commit("d", [DeleteRange(Range(ROWS, "by_creation_time"), limit=1_000)])))
        full = (tmp_path / "a.db").stat().st_size + (tmp_path / "a.db-wal").stat().st_size
        deployment.vacuum()
        assert (tmp_path / "a.db").stat().st_size + (tmp_path / "a.db-wal").stat().st_size < full / 10
        assert names(deployment) == ["kept"]
        add(deployment, "more")
    assert intact(tmp_path / "a.db")


async def test_a_deployment_on_convex_says_what_to_use_instead() -> None:
    async with RemoteDeployment("http://127.0.0.1:9", "key") as deployment:
        with pytest.raises(InvalidRequestError, match="convex export"):
            deployment.backup("b.db")
        with pytest.raises(InvalidRequestError, match="convex export"):
            await deployment.abackup("b.db")
        with pytest.raises(InvalidRequestError):
            deployment.vacuum()
        with pytest.raises(InvalidRequestError):
            await deployment.avacuum()
