"""Watches of a file that others write: processes, children, programs that may only read."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest

from convexorm import Deployment, DeploymentError, connect
from convexorm.deployments.embedded import alarms
from tests.embedded.support import in_child
from tests.live.conftest import PATIENCE, Runs, save
from tests.models import Note, Task
from tests.processes import run_processes

OF_ADA = Task.query().by_index("by_owner", owner_id="ada")


@pytest.fixture
def deployment(open_deployment: Callable[[str], Deployment]) -> Deployment:
    return open_deployment("sqlite")


def write(deployment: Deployment, number: int) -> None:
    for turn in range(20):
        save(deployment, Task(text=str(turn), owner_id=f"of {number}"))
    save(deployment, Task(text="last", owner_id="ada"))
    save(deployment, Note(id=f"sign {number}"))


def test_commits_of_other_processes_are_seen_where_they_meet(deployment: Deployment) -> None:
    runs = Runs(deployment)
    with deployment.watch(OF_ADA) as live, deployment.watch(Note.query().full_scan()) as signs:
        assert live.next(timeout=PATIENCE).items == []
        signs.next(timeout=PATIENCE)
        runs.take()
        run_processes(deployment, write, processes=2)
        while len(signs.next(timeout=PATIENCE).items) < 2:
            pass
        while len(live.next(timeout=PATIENCE).items) < 2:
            pass
        assert len(runs.take("tasks")) <= 2  # of 42 commits to the table


def test_a_file_that_can_only_be_read_is_followed(tmp_path: Path, deployment: Deployment) -> None:
    save(deployment, Task(text="first", owner_id="ada"))
    with connect(f"sqlite:///{tmp_path / 'test.db'}?mode=ro") as reader, reader.watch(OF_ADA) as live:
        assert len(live.next(timeout=PATIENCE).items) == 1
        save(deployment, Task(text="second", owner_id="ada"))
        assert [task.text for task in live.next(timeout=PATIENCE).added] == ["second"]


def nothing(*_: object) -> NoReturn:
    raise OSError(errno.EMFILE, "Too many open files")


def told_by() -> list[str]:
    """The descriptors that tell of writes, of this process."""
    gc.collect()
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return [link for link in links if os.path.islink(link) and "inotify" in os.readlink(link)]


@pytest.mark.skipif(sys.platform != "linux", reason="needs inotify")
def test_an_alarm_looks_for_itself_where_no_descriptor_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "eventfd", nothing)
    before = told_by()
    alarm = alarms.alarm_of([str(tmp_path / "a")])
    assert told_by() == before
    assert alarm.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="needs inotify")
def test_an_alarm_interrupted_at_any_line_of_its_making_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = last = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != alarms.__file__ or frame.f_code.co_name == "__del__":
            return None
        lines += event == "line"
        if event == "line" and lines == last:
            raise KeyboardInterrupt
        return trace

    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    before, traced, made = told_by(), sys.gettrace(), False
    while not made:
        lines, last = 0, last + 1
        sys.settrace(trace)
        try:
            alarms.alarm_of([str(tmp_path / "a")])
            made = True
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(traced)
    assert last > 10
    assert told_by() == before
    assert complaints == []


@pytest.mark.parametrize("told", [True, False])
def test_a_write_to_a_file_is_noticed_and_looked_at_some_times_more(
    tmp_path: Path, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not told:  # as on systems where nobody tells
        monkeypatch.setattr(alarms, "_inotify", nothing)
    monkeypatch.setattr(alarms, "_SURELY", 3600.0)
    file = tmp_path / "a"
    file.write_bytes(b"")
    alarm = alarms.alarm_of([str(file), str(tmp_path / "a-wal")])
    if not told:
        while alarm.wait():
            pass
    alarm.ring()
    assert not alarm.wait()
    (tmp_path / "a-wal").write_bytes(b"x")
    assert [alarm.wait() for _ in range(3)] == [True, True, True]  # it may be written before it is there to be seen
    while alarm.wait():
        alarm.ring()
    file.write_bytes(b"x")
    assert alarm.wait()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_watches_for_itself_and_not_for_its_parent(deployment: Deployment) -> None:
    with deployment.watch(OF_ADA) as live:
        live.next(timeout=PATIENCE)

        def work() -> None:
            with pytest.raises(DeploymentError, match="child"):
                live.next(timeout=PATIENCE)
            with deployment.watch(OF_ADA) as own:
                assert own.next(timeout=PATIENCE).items == []
                save(deployment, Task(text="of the child", owner_id="ada"))
                assert len(own.next(timeout=PATIENCE).added) == 1

        in_child(work)()
        assert [task.text for task in live.next(timeout=PATIENCE).added] == ["of the child"]
