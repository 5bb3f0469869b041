from __future__ import annotations

import pytest

from convexorm.deployments.remote import connections, deadlines
from tests.remote.calling import Counted, Say, run_async, say


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "Socket", Counted)


@pytest.fixture(params=["blocking", "async"])
def ask(request: pytest.FixtureRequest) -> Say:
    """One call, on each face."""
    return say if request.param == "blocking" else run_async


class Clock:
    """The time of deadlines, which stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(deadlines, "time", clock)
    return clock
