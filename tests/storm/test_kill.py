"""Processes that are killed while they write one file: what they were told is there, and no commit is there in part."""

from __future__ import annotations

import sqlite3
from collections import Counter as Counts
from contextlib import ExitStack
from pathlib import Path

from convexorm import Session, connect
from tests.models import Note
from tests.storm.conftest import Storm
from tests.storm.programs import Program, started, tell

WRITERS = 3
NOTES = 3


def write(url: str, writer: str) -> None:
    """Commit notes, some at a time, and change the ones before, for as long as one lives."""
    with connect(url) as deployment:
        tell("begun")
        number = 0
        while True:
            with Session(deployment) as session:
                session.add_all(Note(id=f"{writer}-{number}-{part}") for part in range(NOTES))
                for note in session.all(Note.query().by_index("by_note_id", Note.id.startswith(f"{writer}-{number - 1}-"))):
                    note.title = "changed"
                session.commit()
            tell(number)
            number += 1


def listen(program: Program, commits: int) -> list[int]:
    """Kill a writer when it has told of so many commits; what it has told in all."""
    told = []
    for message in program.told:
        if message != ["begun"]:
            told.append(message[0])
        if len(told) >= commits:
            program.kill()
    return told


def test_killed_writers(storm: Storm, tmp_path: Path) -> None:
    path = tmp_path / "killed.db"
    url = f"sqlite:///{path}"
    told: dict[str, list[int]] = {}
    rounds = 2 * storm.scale
    for round in range(rounds):
        writers = [f"{round}.{number}" for number in range(WRITERS)]
        with ExitStack() as stack:
            programs = [stack.enter_context(started(write, url, writer)) for writer in writers]
            for writer, program in zip(writers, programs, strict=True):
                told[writer] = listen(program, storm.chance.choice([0, 1, 5, 20]))
    with connect(url) as deployment, Session(deployment) as session:
        notes = session.all(Note.query().full_scan())
        session.add(Note(id="afterwards"))
        session.commit()
    titles = {note.id: note.title for note in notes}
    assert len(titles) == len(notes)
    parts = Counts(id.rpartition("-")[0] for id in titles)
    assert set(parts.values()) <= {NOTES}, "a commit is there in part"
    for writer, numbers in told.items():
        assert numbers == list(range(len(numbers)))
        there = sum(1 for commit in parts if commit.startswith(f"{writer}-"))
        assert len(numbers) <= there <= len(numbers) + 1
        for number in range(there):
            for part in range(NOTES):
                assert titles[f"{writer}-{number}-{part}"] == ("changed" if number < there - 1 else "")
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()
    storm.report(kills=rounds * WRITERS, commits_told=sum(map(len, told.values())), commits_there=len(parts))
