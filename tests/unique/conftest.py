"""Hosts of the models with unique indexes, and sessions on every kind of deployment, empty."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convexorm import AsyncSession, Deployment, DeploymentError, Schema, Session, to_typescript
from convexorm.projects.functions import functions
from tests.conftest import KINDS, ROOT, Host, serve_host
from tests.faces import FACES, open_session
from tests.unique.models import MODELS

Open = Callable[..., AsyncSession]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of functions for the models, as the commands write it, with the modules that `docs/unique.md` shows."""
    folder = tmp_path_factory.mktemp("unique") / "convex"
    page = (ROOT / "docs" / "unique.md").read_text(encoding="utf-8")
    texts = {**functions(), "schema.ts": to_typescript(Schema.of(model.__mapper__.table for model in MODELS))}
    texts |= dict(re.findall(r"^```ts\n// convex/(\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder.parent / "node_modules").symlink_to(ROOT / "node_modules")
    return folder


@pytest.fixture(scope="session")
def unique_host(project: Path) -> Iterator[Host]:
    yield from serve_host(project)


@pytest.fixture(scope="session")
def slow_host(project: Path) -> Iterator[Host]:
    """One whose mutations take a while, so that those sent together overlap."""
    yield from serve_host(project, "--latency", "20")


@pytest.fixture
def host(unique_host: Host) -> Host:
    return unique_host


def emptied(deployment: Deployment) -> Deployment:
    with Session(deployment) as session:
        for model in MODELS:
            try:
                session.delete_all(model.query().full_scan())
            except DeploymentError as error:
                pytest.skip(f"deploy the schema of tests/unique/models.py for these tests: {error}")
    return deployment


PLACES = [("async", "memory"), ("blocking", "sqlite"), *((face, kind) for kind in KINDS[2:] for face in FACES)]
"""Each kind of deployment and each face, and both faces wherever requests travel."""


@pytest.fixture(params=PLACES, ids="-".join)
def place(request: pytest.FixtureRequest, open_deployment: Callable[[str], Deployment]) -> tuple[str, Deployment]:
    face, kind = request.param
    return face, emptied(open_deployment(kind))


@pytest.fixture
def empty(place: tuple[str, Deployment]) -> Deployment:
    """The deployment that `open_` opens sessions on, empty."""
    return place[1]


@pytest.fixture
def open_(place: tuple[str, Deployment]) -> Open:
    """Opens sessions of one face."""
    face, deployment = place
    return lambda **options: open_session(face, deployment, **options)
