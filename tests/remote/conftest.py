from __future__ import annotations

import pytest

from tests.remote.calling import Say, run_async, say


@pytest.fixture(params=["blocking", "async"])
def ask(request: pytest.FixtureRequest) -> Say:
    """One call, on each face."""
    return say if request.param == "blocking" else run_async
