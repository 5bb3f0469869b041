"""Sessions of both faces over every kind of deployment, empty, and what questions cost on the local host."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from convexorm import AsyncSession, Deployment, Session
from tests.conftest import Host
from tests.faces import FACES, open_session
from tests.models import Anything, Counter, Everything, Note, Payment, Task

Open = Callable[..., AsyncSession]


@pytest.fixture
def host(models_host: Host) -> Host:
    return models_host


@pytest.fixture(params=list(FACES))
def open_(request: pytest.FixtureRequest, deployment: Deployment) -> Open:
    """Opens sessions of one face on an empty deployment."""
    with Session(deployment) as session:
        for model in (Task, Note, Anything, Counter, Payment, Everything):
            session.delete_all(model.query().full_scan())
    return lambda **options: open_session(request.param, deployment, **options)


@pytest.fixture
def session(open_: Open) -> AsyncSession:
    return open_()
