"""Storms: many seeded faults at once, and afterwards what is promised: nothing is lost, doubled, let in or left open.

`make test` runs a short form of each, always the same one. `make storm` runs longer ones, anew each time:

    make storm                                    # a new seed
    make storm STORM_SEED=7 STORM_SCALE=100       # a seed again, longer
    make storm ARGS="-k kill"                     # one of them

A storm ends by itself: what it does is counted, and an alarm ends what hangs.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import attrs
import pytest

from tests.conftest import Host

SEED = int(os.environ.get("STORM_SEED", "1"))
SCALE = int(os.environ.get("STORM_SCALE", "1"))
FILES = Path("/proc/self/fd")


@attrs.frozen
class Storm:
    """The chance and the size of one storm."""

    name: str
    seed: int
    scale: int
    chance: random.Random

    def report(self, **figures: object) -> None:
        """Print the line of figures."""
        counted = ", ".join(f"{figure} {name.replace('_', ' ')}" for name, figure in figures.items())
        print(f"\nstorm {self.name}, seed {self.seed}, scale {self.scale}: {counted}")

    @contextmanager
    def leaking_nothing(self) -> Iterator[None]:
        """Afterwards there are no more open files and threads than before."""
        before = _held()
        yield
        for _ in range(500):  # servers' threads end a little after their clients have gone
            after = _held()
            if all(now <= then for now, then in zip(after, before, strict=True)):
                return
            time.sleep(0.01)
        raise AssertionError(f"(open files, threads) were {before}, and are {after}")


def _held() -> tuple[int, int]:
    gc.collect()
    return len(list(FILES.iterdir())) if FILES.is_dir() else 0, threading.active_count()


class Hung(Exception):
    """A storm that has not ended by far."""


@pytest.fixture
def storm(request: pytest.FixtureRequest) -> Iterator[Storm]:
    """The storm of a test, under an alarm."""
    name = request.node.name.removeprefix("test_").replace("_", " ")
    storm = Storm(name, SEED, SCALE, random.Random(f"{SEED} {name}"))

    def ring(_: int, frame: FrameType | None) -> None:
        raise Hung(f"seed {SEED}")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 150 + 30 * SCALE)
    try:
        yield storm
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        print(f"\nSTORM_SEED={SEED} STORM_SCALE={SCALE}")


@pytest.fixture
def host(models_host: Host) -> Host:
    return models_host
