"""What operations cost on Convex: every scenario of `bench/costs.py` within its limits, however long the thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.costs import SCENARIOS
from bench.scenarios import Cost, Scenario, measure
from tests.conftest import ADMIN_KEY, Host, start_host, stop_host


@pytest.fixture(scope="module")
def counting_hosts() -> Iterator[Callable[[Path], Host]]:
    """Hosts that nobody else calls, by their folders of functions."""
    hosts: dict[Path, tuple[Any, Host]] = {}

    def host(folder: Path) -> Host:
        if folder not in hosts:
            process, url = start_host(folder)
            hosts[folder] = process, Host(url, ADMIN_KEY)
        return hosts[folder][1]

    yield host
    for process, _ in hosts.values():
        stop_host(process)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_an_operation_stays_within_its_limits(
    counting_hosts: Callable[[Path], Host], unique: str, scenario: Scenario
) -> None:
    cost = measure(scenario, counting_hosts(scenario.functions), unique)
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
