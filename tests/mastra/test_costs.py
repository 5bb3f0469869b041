"""What operations cost on Convex: every scenario of `bench/costs.py` within its limits, however long the thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.costs import SCENARIOS, Cost, Scenario, measure
from tests.conftest import ADMIN_KEY, ROOT, Host, start_host, stop_host


@pytest.fixture(scope="module")
def counting_host() -> Iterator[Host]:
    """A host that nobody else calls."""
    process, url = start_host(ROOT / "convex")
    try:
        yield Host(url, ADMIN_KEY)
    finally:
        stop_host(process)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_an_operation_stays_within_its_limits(counting_host: Host, unique: str, scenario: Scenario) -> None:
    cost = measure(scenario, counting_host, unique)
    assert cost.over(scenario) == []
    assert cost.page or scenario.times_the_page is None


def test_limits_are_noticed() -> None:
    scenario = Scenario(
        "x", lambda store, name: None, lambda store, name: (), 1, documents=2, times_the_page=1.3, answered=9
    )
    assert Cost(1, 2, 9, 100).over(scenario) == []
    assert Cost(2, 3, 14, 10).over(scenario) == [
        "2 calls, at most 1",
        "3 documents read, at most 2",
        "14 bytes answered, at most 9",
        "14 bytes answered, at most 13",
    ]
