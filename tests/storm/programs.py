"""Functions run in processes of their own, which may fork, be killed or run into limits without harm to the tests."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.conftest import ROOT
from tests.storm.conftest import SCALE

__all__ = ["Program", "run", "started", "tell"]

SECONDS = 90 + 30 * SCALE
"""How long a program may take."""


def tell(*answer: Any) -> None:
    """Say something to whoever started this program; lines of several processes do not mix."""
    os.write(1, json.dumps(answer).encode() + b"\n")


class Program:
    """A running program."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @property
    def told(self) -> Iterator[Any]:
        """What the program says, until it has ended."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):  # else it was killed while it wrote
                yield json.loads(line)

    def kill(self) -> None:
        """End the program and what it has forked, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self) -> int:
        """The code with which it has ended, below 0 for a signal."""
        return self._process.wait()


@contextmanager
def started(work: Callable[..., None], *arguments: Any) -> Iterator[Program]:
    """`work(*arguments)` in a process of its own for the length of a block; work is a function of a module."""
    code = f"import sys; from tests.storm.programs import main; main({work.__module__!r}, {work.__name__!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    program = Program(process)
    timer = threading.Timer(SECONDS, program.kill)
    timer.start()
    try:
        with process:
            assert process.stdin is not None
            process.stdin.write(json.dumps(arguments))
            process.stdin.close()
            try:
                yield program
            finally:
                program.kill()
    finally:
        timer.cancel()
        timer.join()


def run(work: Callable[..., None], *arguments: Any) -> list[Any]:
    """What `work(*arguments)` has told when it has ended well."""
    with started(work, *arguments) as program:
        told = list(program.told)
        code = program.wait()
    assert code == 0, f"{work.__name__} ended with {code}, having told {told[-5:]}"
    return told


def main(module: str, name: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
    arguments = json.loads(sys.stdin.read())
    getattr(importlib.import_module(module), name)(*arguments)
