"""A store, and its memory, on every deployment, on both faces; one kind has only the npm package's own functions."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from convexorm import Deployment
from mastra_convex import AsyncConvexStore, AsyncMemory, ConvexStore
from mastra_convex.foreign import adapted
from tests.conftest import KINDS, ROOT, Host, serve_host
from tests.mastra.support import awaited, awaited_store


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the blocking face of foreign deployments, which `test_foreign.py` and `test_foreign_methods.py` call."""
    both = {"blocking", "foreign"}
    left_out = [item for item in items if isinstance(item, pytest.Function) and both <= _parameters(item)]
    config.hook.pytest_deselected(items=left_out)
    ids = set(map(id, left_out))
    items[:] = [item for item in items if id(item) not in ids]


def _parameters(item: pytest.Function) -> set[str]:
    callspec = getattr(item, "callspec", None)
    return set() if callspec is None else {value for value in callspec.params.values() if isinstance(value, str)}


@pytest.fixture(scope="module")
def foreign_host() -> Iterator[Host]:
    """One host of the npm package's own functions for the tests of a module."""
    yield from serve_host(ROOT / "tests" / "foreign" / "functions")


@pytest.fixture(params=[*KINDS, "foreign"])
def deployment(request: pytest.FixtureRequest, open_deployment: Callable[[str], Deployment]) -> Iterator[Deployment]:
    """Every kind of deployment in turn. A test marked `needs_functions` is not for one without this library's functions."""
    if request.param != "foreign":
        yield open_deployment(request.param)
        return
    marker = request.node.get_closest_marker("needs_functions")
    if marker is not None:
        pytest.skip(marker.args[0])
    host: Host = request.getfixturevalue("foreign_host")
    with adapted(host.connect()) as found:
        yield found


@pytest.fixture(params=["async", "blocking"])
def memory(request: pytest.FixtureRequest, deployment: Deployment) -> AsyncMemory:
    """The memory domain of every kind of deployment, on either face."""
    if request.param == "async":
        return AsyncConvexStore(id="test", deployment=deployment).memory
    return awaited(ConvexStore(id="test", deployment=deployment).memory)


@pytest.fixture(params=["async", "blocking"])
def store(request: pytest.FixtureRequest, deployment: Deployment) -> AsyncConvexStore:
    """A store on every kind of deployment, on either face."""
    if request.param == "async":
        return AsyncConvexStore(id="test", deployment=deployment)
    return awaited_store(ConvexStore(id="test", deployment=deployment))


@pytest.fixture(scope="module")
def nothing_collected() -> Iterator[None]:
    """For values nested deeply: what is collected at the bottom of the stack cannot be finalized, which pytest reports."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
