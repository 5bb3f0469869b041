"""Python's store and the npm package's clients on one host, which all tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mastra_convex import ConvexStore
from tests.conftest import ROOT, Host, serve_host
from tests.interop.typescript import Clients


@pytest.fixture(scope="package")
def shared_host() -> Iterator[Host]:
    yield from serve_host(ROOT / "convex")


@pytest.fixture(scope="package")
def store(shared_host: Host) -> Iterator[ConvexStore]:
    with ConvexStore(id="python", deployment_url=shared_host.url, admin_auth_token=shared_host.key) as store:
        yield store


@pytest.fixture(scope="package")
def npm(shared_host: Host) -> Iterator[Clients]:
    with Clients.of(shared_host) as clients:
        yield clients
