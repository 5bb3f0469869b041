"""Deployments that can be watched, and the requests that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from convexorm import Deployment, Model, Session

KINDS = ("memory", "sqlite")
PATIENCE = 60.0
"""Seconds after which a test gives up waiting for what has to come."""


@pytest.fixture(params=KINDS)
def deployment(request: pytest.FixtureRequest, open_deployment: Callable[[str], Deployment]) -> Deployment:
    return open_deployment(request.param)


class Runs:
    """How often something was read, and how many documents were found anew."""

    def __init__(self, deployment: Deployment) -> None:
        self._reads: list[int] = []
        deployment.on_request(
            lambda request: self._reads.append(request.documents) if request.operation == "read" else None
        )

    def take(self) -> list[int]:
        """The documents that each read has found anew since the last time."""
        reads, self._reads[:] = list(self._reads), []
        return reads


@pytest.fixture
def runs(deployment: Deployment) -> Runs:
    return Runs(deployment)


def save(deployment: Deployment, *instances: Model) -> None:
    with Session(deployment) as session:
        session.add_all(instances)
        session.commit()


def told(change: Any, of: Callable[[Any], object]) -> dict[str, list[object]]:
    """A change, with something of each instance in its place."""
    return {name: [of(one) for one in getattr(change, name)] for name in ("items", "added", "changed", "removed")}
