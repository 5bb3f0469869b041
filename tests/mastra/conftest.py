"""A store, and its memory, on every deployment, on both faces."""

from __future__ import annotations

import pytest

from convexorm import Deployment
from mastra_convex import AsyncConvexStore, AsyncMemory, ConvexStore
from tests.mastra.support import awaited, awaited_store


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
