"""Deployments that can be watched, and the requests that they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from convexorm import Deployment, Model, Session
from convexorm.deployments.observers import Request
from tests.conftest import Host
from tests.models import Note, Task

EMBEDDED = ("memory", "sqlite")
PATIENCE = 60.0
"""Seconds after which a test gives up waiting for what has to come."""


@pytest.fixture
def host(models_host: Host) -> Iterator[Host]:
    """A host that forgets what a test has stored."""
    yield models_host
    with models_host.connect() as deployment, Session(deployment) as session:
        for model in (Task, Note):
            session.delete_all(model.query().by_index("by_creation_time"))


@pytest.fixture(params=EMBEDDED)
def embedded(request: pytest.FixtureRequest, open_deployment: Callable[[str], Deployment]) -> Deployment:
    return open_deployment(request.param)


@pytest.fixture(params=[*EMBEDDED, "host"])
def deployment(request: pytest.FixtureRequest, open_deployment: Callable[[str], Deployment]) -> Deployment:
    return open_deployment(request.param)


class Runs:
    """How often watches were answered, and how many documents were found anew each time."""

    def __init__(self, deployment: Deployment) -> None:
        self._seen: list[Request] = []
        deployment.on_request(self._seen.append)

    def take(self, table: str = "") -> list[int]:
        """The documents that each answer has found anew since the last time, of watches that read a table."""
        seen, self._seen[:] = list(self._seen), []
        return [one.documents for one in seen if one.operation == "watch" and table in (*one.tables, "")]


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
