"""Work done by several processes on one deployment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from convexorm import Deployment, connect
from convexorm.deployments import EmbeddedDeployment

__all__ = ["run_processes"]


def run_processes(deployment: Deployment, work: Callable[..., None], *arguments: Any, processes: int) -> None:
    """Run `work(deployment, number, *arguments)` in so many processes at once, each with a deployment of its own."""
    assert isinstance(deployment, EmbeddedDeployment)
    url = f"sqlite:///{deployment.path}"
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in [pool.submit(_run, url, work, number, arguments) for number in range(processes)]:
            done.result()


def _run(url: str, work: Callable[..., None], number: int, arguments: tuple[Any, ...]) -> None:
    with connect(url) as deployment:
        work(deployment, number, *arguments)
