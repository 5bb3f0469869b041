"""TypeScript programs of the folder `programs`, on Node, against a host: run once, or called as long as a test lasts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any

from mastra_convex.instants import in_milliseconds
from tests.conftest import ROOT, Host, node

__all__ = ["Clients", "NpmError", "run_program"]

SECONDS = 120
"""How long a program may take; on a busy machine it takes some seconds to start."""


def run_program(host: Host, program: str, **given: Any) -> Any:
    """What a program answers, as JSON, that is given the place of the host and these values. Dates come as text."""
    process = _start(program)
    with _in_time(process), process:
        answer, _ = process.communicate(json.dumps({"deploymentUrl": host.url, "adminAuthToken": host.key, **given}))
    assert process.returncode == 0, f"{program} ended with {process.returncode}"
    return json.loads(answer)


class NpmError(Exception):
    """What a client of the npm package has thrown."""


class Clients:
    """The npm package's clients, called in a process of their own. Dates are datetimes in both directions."""

    def __init__(self, process: subprocess.Popen[str], pipes: tuple[IO[str], IO[str]]) -> None:
        self._process = process
        self._input, self._output = pipes

    def call(self, client: str, method: str, *arguments: Any) -> Any:
        """Call a method of `memory` or another domain of the store, of the `vector` store or of the `cache`."""
        call = json.dumps({"client": client, "method": method, "args": arguments}, default=_date)
        with _in_time(self._process):
            print(call, file=self._input, flush=True)
            line = self._output.readline()
            assert line, "clients.ts has ended"
        answer: dict[str, Any] = json.loads(line, object_hook=_dated)
        if "error" in answer:
            raise NpmError(answer["error"])
        return answer["value"]

    @classmethod
    @contextmanager
    def of(cls, host: Host) -> Iterator[Clients]:
        """Clients of a host for the length of a block."""
        process = _start("clients.ts", host.url, host.key)
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            yield cls(process, (process.stdin, process.stdout))
            process.stdin.close()
            with _in_time(process):
                process.wait()


def _start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [node(), "--import", "tsx", f"tests/interop/programs/{program}", *arguments],
        cwd=ROOT,
        env={**os.environ, "MASTRA_TELEMETRY_DISABLED": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


@contextmanager
def _in_time(process: subprocess.Popen[str]) -> Iterator[None]:
    """Kill the program when a block takes too long, or fails. Node may be a child of what was started: both are a group."""
    timer = threading.Timer(SECONDS, _kill, (process,))
    timer.start()
    try:
        yield
    except BaseException:
        _kill(process)
        raise
    finally:
        timer.cancel()


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def _date(value: object) -> dict[str, str]:
    if not isinstance(value, datetime):
        raise TypeError(f"JSON has no {type(value).__name__}")
    return {"$date": in_milliseconds(value).isoformat()}


def _dated(value: dict[str, Any]) -> Any:
    return datetime.fromisoformat(value["$date"]) if value.keys() == {"$date"} else value
