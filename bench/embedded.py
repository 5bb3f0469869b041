"""The embedded deployment beside SQLAlchemy, peewee and a floor on SQLite: the same messages, indexes and durability.

Every job is done by all sides in turn, in rounds of one run, and the medians are compared. `python -m bench.embedded
ROUNDS` takes another number of rounds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import attrs
import sqlalchemy as sa

from bench.peers import THREADS, Alchemy, Floor, Ours, Peewee, Side, values
from bench.tables import interleaved, print_table, seconds

ROWS = 5_000
ONE_BY_ONE = 1_500
"""Messages that are inserted, or changed, in a commit each."""
ROUNDS = 9
LOADED = 100_000
SIDES: Mapping[str, type[Side]] = {"ours": Ours, "alchemy": Alchemy, "peewee": Peewee, "floor": Floor}


@attrs.frozen
class Job:
    """Something that is measured: how, on one side, in seconds; and what is wanted of it.

    The goals: how many times as fast as SQLAlchemy and as peewee it is at least, and how many times the floor it takes at
    most.
    """

    title: str
    run: Callable[[Bench, str], float]
    goals: tuple[float, float, float]


class Bench:
    """The sides, each with its messages stored, and the jobs: seconds for one operation."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ids = [str(uuid4()) for _ in range(ROWS)]
        self._rows = [values(number, id) for number, id in enumerate(self._ids)]
        self.sides = {name: self._open(name) for name in SIDES}
        for side in self.sides.values():
            side.insert(self._rows)

    def _open(self, name: str) -> Side:
        return SIDES[name](self._folder / f"{uuid4().hex}.db")

    def close(self) -> None:
        for side in self.sides.values():
            side.close()

    def insert_many(self, name: str) -> float:
        """Into a new file; creating the tables is not measured."""
        side = self._open(name)
        side.insert([values(0, "first")])
        taken = seconds(lambda: side.insert(self._rows))
        side.close()
        return taken

    def insert_one(self, name: str) -> float:
        """Into a file of its own, so that all that is read has as many rows in every round; so many that SQLite has to copy
        its log into the file as well.
        """
        side = self._open(name)
        side.insert([values(0, "first")])
        rows = [values(number, str(uuid4())) for number in range(ONE_BY_ONE)]
        taken = seconds(lambda: [side.insert([row]) for row in rows]) / len(rows)
        side.close()
        return taken

    def get(self, name: str) -> float:
        side = self.sides[name]
        return seconds(lambda: [side.get(id) for id in self._ids[:500]]) / 500

    def page(self, name: str) -> float:
        side = self.sides[name]
        return seconds(lambda: [side.last(f"thread-{number % THREADS}") for number in range(200)]) / 200

    def change(self, name: str) -> float:
        side, text = self.sides[name], uuid4().hex
        return seconds(lambda: [side.change(id, text) for id in self._ids[:ONE_BY_ONE]]) / ONE_BY_ONE

    def hydrate(self, name: str) -> float:
        return seconds(self.sides[name].read_all)


JOBS = (
    Job(f"bulk insert, {ROWS:,} in one commit", Bench.insert_many, (2, 1.5, 1.5)),
    Job("insert one and commit", Bench.insert_one, (3, 1.5, 2)),
    Job("get", Bench.get, (6, 5, 4)),
    Job("page of 20, newest first", Bench.page, (6, 4, 2.5)),
    Job("get, change, commit", Bench.change, (4, 3, 2.5)),
    Job("hydrate all and read three columns of each", Bench.hydrate, (3, 3, 2)),
)


def _row(job: Job, times: Mapping[str, float]) -> tuple[str, ...]:
    ours = times["ours"]
    over_alchemy, over_peewee, times_floor = job.goals
    return (
        job.title,
        f"{ours * 1000:.3f}",
        *_compared(times["alchemy"] / ours, over_alchemy, "at least"),
        *_compared(times["peewee"] / ours, over_peewee, "at least"),
        *_compared(ours / times["floor"], times_floor, "at most"),
    )


def _compared(ratio: float, goal: float, words: str) -> tuple[str, str]:
    return f"{ratio:.2f}", f"{words} {goal:g}"


# -- memory --------------------------------------------------------------------------------------------------------


def _loaded(name: str) -> int:
    """The bytes of many messages that were loaded, one column of each read, in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        program = (sys.executable, "-m", "bench.loaded", name, str(LOADED), f"{folder}/messages.db")
        subprocess.run((*program, "fill"), check=True)
        return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


def main(arguments: list[str]) -> None:
    rounds = int(arguments[0]) if arguments else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        rows = []
        for job in JOBS:
            times = interleaved({name: partial(job.run, bench, name) for name in SIDES}, rounds)
            rows.append(_row(job, times))
        bench.close()
    print_table(
        f"Embedded beside SQLAlchemy {sa.__version__}, peewee {version('peewee')} and a floor of sqlite3 and msgspec; "
        f"medians of {rounds} rounds",
        ("job", "ms", "x SQLAlchemy", "goal", "x peewee", "goal", "times the floor", "goal"),
        rows,
    )
    ours, theirs = _loaded("ours"), _loaded("alchemy")
    print_table(
        f"Memory of {LOADED:,} loaded instances",
        ("", "convexorm MB", "SQLAlchemy MB", "ratio", "goal"),
        [
            (
                "bytes that Python holds for them",
                f"{ours / 1e6:.1f}",
                f"{theirs / 1e6:.1f}",
                *_compared(ours / theirs, 1, "at most"),
            )
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
