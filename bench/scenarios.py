"""`Scenario`: an operation and what it may cost on Convex, and `measure`, which has the local host count what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs

from convexorm import Model
from convexorm.mapping.model import dump
from convexorm.values import dumps
from mastra_convex import ConvexStore
from tests.conftest import ROOT, Host

__all__ = ["Cost", "Scenario", "measure"]


@attrs.frozen
class Scenario:
    """An operation and what it may cost.

    `setup` stores what it works on, under ids that begin with the name it is given; `run` does it and answers the entities
    it was answered. The limits: calls, documents read, bytes answered as a multiple of those entities' JSON, and in all.
    """

    name: str
    setup: Callable[[ConvexStore, str], None]
    run: Callable[[ConvexStore, str], Iterable[Model]]
    calls: int
    documents: int | None = None
    times_the_page: float | None = None
    answered: int | None = None
    functions: Path = ROOT / "convex"
    """The folder of the host's functions, whose schema has the tables."""


@attrs.frozen
class Cost:
    """What a scenario took; `page` is the size of the JSON of what was answered.

    `user_time` is that of the call that took most, in milliseconds, of which Convex gives a second; `conflicts` are the
    attempts that others' commits made void.
    """

    calls: int
    documents: int
    answered: int
    page: int
    user_time: float = 0.0
    conflicts: int = 0

    def over(self, scenario: Scenario) -> list[str]:
        """The limits it is over, in words."""
        limits = [
            ("calls", self.calls, scenario.calls),
            ("documents read", self.documents, scenario.documents),
            ("bytes answered", self.answered, scenario.answered),
            ("conflicts", self.conflicts, 0),
        ]
        if scenario.times_the_page is not None:
            limits.append(("bytes answered", self.answered, int(scenario.times_the_page * self.page)))
        return [f"{actual} {what}, at most {most}" for what, actual, most in limits if most is not None and actual > most]


def measure(scenario: Scenario, host: Host, name: str) -> Cost:
    """Run a scenario on a host; `name` is one that nothing there begins with."""
    with host.connect() as deployment:
        store = ConvexStore(id="costs", deployment=deployment)
        scenario.setup(store, name)
        host.reset()
        answered = list(scenario.run(store, name))
        counts: dict[str, Any] = {**host.metrics()}
    page = sum(len(_row(entity)) for entity in answered)
    return Cost(
        counts["calls"],
        counts["documentsRead"],
        counts["responseBytes"],
        page,
        counts["most"]["userTime"],
        sum(counts["conflicts"].values()),
    )


def _row(entity: Model) -> bytes:
    return dumps({**dump(entity), "_id": entity.convex_id, "_creationTime": entity.creation_time}).encode()
