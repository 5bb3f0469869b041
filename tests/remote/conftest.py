from __future__ import annotations

import pytest

from convexorm.deployments.remote import connections
from tests.remote.calling import Counted, Say, run_async, say


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "Socket", Counted)


@pytest.fixture(params=["blocking", "async"])
def ask(request: pytest.FixtureRequest) -> Say:
    """One call, on each face."""
    return say if request.param == "blocking" else run_async
