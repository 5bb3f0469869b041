"""The jobs of `bench.embedded` in instructions of the processor: `python -m bench.instructions`, where valgrind is there.

Callgrind counts them, so that nothing else that the machine does matters; each side does every job some times before it is
counted. What a disk or the system takes is not among them.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import attrs

from bench.embedded import JOBS, SIDES
from bench.peers import THREADS, Side, values
from bench.tables import print_table

ROWS = 5_000
_BEFORE = 15
"""How often, at most, each is done before it is counted."""
_COUNTED = 100
"""The number of the first that is counted."""
_UNDER = "BENCH_UNDER_VALGRIND"
"""Where what callgrind writes is, in the process that it watches."""


@attrs.frozen
class Work:
    """What is counted: how one side does it once, given a number, how often it is done, and how many parts it has."""

    run: Callable[[Side, int], object]
    times: int
    parts: int = 1


def _works() -> Iterator[Work]:
    """In the order of the jobs of `bench.embedded`."""
    ids = [str(uuid4()) for _ in range(ROWS)]
    numbers = (*range(_BEFORE), *range(_COUNTED, _COUNTED + 40))
    one = {number: [values(number, str(uuid4()))] for number in numbers}
    many = {number: [values(row, str(uuid4())) for row in range(500)] for number in numbers if number % _COUNTED < 3}

    yield Work(lambda side, number: side.insert(many[number]), 3, 500)
    yield Work(lambda side, number: side.insert(one[number]), 40)
    yield Work(lambda side, number: side.get(ids[number]), 60)
    yield Work(lambda side, number: side.last(f"thread-{number % THREADS}"), 20)
    yield Work(lambda side, number: side.change(ids[number], uuid4().hex), 40)
    yield Work(lambda side, number: side.read_all(), 1, ROWS)
    yield Work(lambda side, _: side.insert([values(number, id) for number, id in enumerate(ids)]), 0)


def _counted(folder: Path) -> Mapping[str, list[float]]:
    """Instructions of each job once, by side, in thousands."""
    *works, first = _works()
    gc.disable()
    found: dict[str, list[float]] = {}
    for name, kind in SIDES.items():
        found[name] = []
        for place, work in enumerate(works):
            side = kind(folder / f"{name}-{place}.db")
            first.run(side, 0)
            for number in range(min(work.times, _BEFORE)):
                work.run(side, number)
            gc.collect()
            _control("--instr=on")
            _control("--zero")
            for number in range(work.times):
                work.run(side, _COUNTED + number)
            _control("--dump")
            _control("--instr=off")
            found[name].append(_last_total() / work.times / work.parts / 1_000)
            side.close()
    return found


def _control(option: str) -> None:
    subprocess.run(("callgrind_control", option, str(os.getpid())), check=True, stdout=subprocess.DEVNULL)


def _last_total() -> int:
    dumps = Path(os.environ[_UNDER]).parent.glob(f"{Path(os.environ[_UNDER]).name}.*")
    last = max(dumps, key=lambda path: int(path.suffix[1:]))
    told = re.search(r"^(?:totals|summary): (\d+)", last.read_text(), re.MULTILINE)
    assert told is not None
    return int(told[1])


def main(_: list[str]) -> None:
    if shutil.which("valgrind") is None:
        print("\nInstructions are not counted: valgrind is not there\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        if _UNDER not in os.environ:
            written = f"{folder}/callgrind"
            options = ("--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={written}")
            command = ("valgrind", *options, sys.executable, "-m", "bench.instructions")
            subprocess.run(command, env={**os.environ, _UNDER: written}, check=True, stderr=subprocess.DEVNULL)
            return
        counts = _counted(Path(folder))
    rows = []
    for place, job in enumerate(JOBS):
        ours, alchemy, peewee, floor = (counts[name][place] for name in ("ours", "alchemy", "peewee", "floor"))
        told = (f"{ours:,.0f}", f"{floor:,.0f}", f"{alchemy / ours:.2f}", f"{peewee / ours:.2f}", f"{ours / floor:.2f}")
        rows.append((job.title, *told))
    print_table(
        "Thousands of instructions, of a bulk insert and of hydrating for each row",
        ("job", "ours", "floor", "x SQLAlchemy", "x peewee", "times the floor"),
        rows,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
