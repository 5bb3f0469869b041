"""A disk that is full now and then: one typed error, nothing of the commit is there, and the same commit works later."""

from __future__ import annotations

import resource
import signal
import sqlite3
from pathlib import Path
from random import Random

from convexorm import DeploymentError, Session, connect
from tests.models import Note
from tests.storm.conftest import Storm
from tests.storm.programs import run, tell

FREE = resource.RLIM_INFINITY
SECRET = "nobody shall read this"


def fill(path: str, seed: str, rounds: int) -> None:
    """Commit into a file that may grow by little, which is then let grow; tells the ids of what is to be there."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as a full disk, writing fails instead
    chance, wanted, refused = Random(seed), {"first"}, 0
    with connect(f"sqlite:///{path}") as deployment:
        with Session(deployment) as session:
            session.add(Note(id="first"))
            session.commit()
        for round in range(rounds):
            size = max(Path(path).stat().st_size, Path(f"{path}-wal").stat().st_size)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + chance.randint(0, 200_000), FREE))
            session = Session(deployment)
            for number in range(100):
                body = SECRET * chance.randint(1, 1_000)
                ids = {f"{round}-{number}-{part}" for part in range(chance.randint(1, 4))}
                session.add_all(Note(id=id, body=body) for id in ids)
                try:
                    session.commit()
                except DeploymentError as error:
                    if SECRET in str(error):
                        tell("an error repeats contents", str(error)[:200])
                    refused += 1
                    break
                wanted |= ids
            with Session(deployment) as reader:  # reading goes on, and what was refused is not there
                there = {note.id for note in reader.all(Note.query().full_scan())}
                if there != wanted:
                    tell("while the disk is full", round, sorted(there ^ wanted)[:5])
            resource.setrlimit(resource.RLIMIT_FSIZE, (FREE, FREE))
            session.commit()
            wanted |= ids
    tell("done", refused, sorted(wanted))


def test_full_disk(storm: Storm, tmp_path: Path) -> None:
    path = tmp_path / "full.db"
    *problems, (done, refused, wanted) = run(fill, str(path), str(storm.chance.random()), 6 * storm.scale)
    assert problems == []
    assert done == "done"
    assert refused > 0
    with connect(f"sqlite:///{path}") as deployment, Session(deployment) as session:
        assert sorted(note.id for note in session.all(Note.query().full_scan())) == wanted
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()
    storm.report(rounds=6 * storm.scale, refused=refused, documents=len(wanted))
