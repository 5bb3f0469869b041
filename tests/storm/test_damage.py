"""Files that are damaged: one typed error that repeats no contents, or an answer; no crash, no hang, nothing made worse."""

from __future__ import annotations

import re
import sqlite3
import traceback
from collections import Counter as Counts
from collections.abc import Callable
from pathlib import Path
from random import Random

from convexorm import DeploymentError, Session, StaleDataError, ValidationError, connect
from tests.models import Counter, Note
from tests.storm.conftest import Storm
from tests.storm.programs import run, tell

SECRET = "nobody-shall-read-this"
NOTES = 40


def write(path: str) -> None:
    with connect(f"sqlite:///{path}") as deployment, Session(deployment) as session:
        session.add_all(
            Note(id=f"{SECRET}-{number}", title=SECRET, body=SECRET * number, tags=[SECRET], meta={"a": SECRET})
            for number in range(NOTES)
        )
        session.add_all(Counter(name=f"{SECRET}-{number}", count=number) for number in range(NOTES))
        session.commit()
    file = sqlite3.connect(path)  # everything into the one file
    file.execute("PRAGMA journal_mode = DELETE")
    file.close()


def flip(data: bytearray, chance: Random) -> None:
    for _ in range(chance.choice([1, 3, 30])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def blank(data: bytearray, chance: Random) -> None:
    at = chance.randrange(0, len(data), 4096)
    data[at : at + 4096] = bytes([chance.choice([0, 255])]) * 4096


def tear(data: bytearray, chance: Random) -> None:
    del data[chance.randrange(len(data)) :]


def swap(data: bytearray, chance: Random) -> None:
    a, b = (chance.randrange(0, len(data), 4096) for _ in range(2))
    data[a : a + 4096], data[b : b + 4096] = data[b : b + 4096], data[a : a + 4096]


def rewrite_words(data: bytearray, chance: Random) -> None:
    """Other bytes within what documents hold, as a failing disk's."""
    places = [match.start() for match in re.finditer(rb'"id"|body|nobo|":"n', data)]
    for at in chance.sample(places, 5):
        data[at : at + 3] = chance.randbytes(3)


DAMAGES: tuple[Callable[[bytearray, Random], None], ...] = (flip, blank, tear, swap, rewrite_words)


def read_all(session: Session) -> object:
    return [
        (one.id, one.title, one.body, one.tags, one.meta, one.extra, one.creation_time)
        for one in session.all(Note.query().full_scan())
    ]


def read_one(session: Session) -> object:
    return [session.get(Note, f"{SECRET}-{number}") for number in range(NOTES)]


def read_by_index(session: Session) -> object:
    notes = session.all(Note.query().by_index("by_title", title=SECRET).order("desc"))
    return [(one.id, one.body) for one in notes], [one.count for one in session.all(Counter.query().full_scan())]


def count(session: Session) -> object:
    return session.count(Note.query().by_index("by_title", title=SECRET).where(Note.body != ""))


def change(session: Session) -> object:
    for note in session.all(Note.query().full_scan()):
        note.title = "changed"
    return session.commit()


def insert(session: Session) -> object:
    session.upsert(Note(id=f"{SECRET}-3", title="new"))
    session.add(Counter(name="new"))
    return session.commit()


def remove(session: Session) -> object:
    return session.delete_all(Note.query().by_index("by_title", title=SECRET))


CALLS: tuple[Callable[[Session], object], ...] = (read_all, read_one, read_by_index, count, change, insert, remove)


def damage(folder: str, seed: str, rounds: int) -> None:
    """Damage copies of a file, use them, and tell what is not as it should be."""
    chance, done = Random(seed), Counts[str]()
    whole = Path(folder, "whole.db")
    write(str(whole))
    data = whole.read_bytes()
    for round in range(rounds):
        damaged = bytearray(data)
        harm = chance.choice(DAMAGES)
        harm(damaged, chance)
        path = Path(folder, f"{round}.db")
        path.write_bytes(damaged)
        calls = chance.sample(CALLS, len(CALLS))
        tell("next", round, harm.__name__)
        try:
            with connect(f"sqlite:///{path}") as deployment:
                for call in calls:
                    try:
                        with Session(deployment) as session:
                            call(session)
                        done["answered"] += 1
                    except Exception as error:
                        done[judged(error, f"{harm.__name__}, {call.__name__}")] += 1
        except Exception as error:
            done[judged(error, f"{harm.__name__}, connect")] += 1
    tell("done", dict(done))


def judged(error: Exception, what: str) -> str:
    # Contents may have become others that are as well formed: then they do not fit the model, or what was read before.
    if not isinstance(error, DeploymentError | ValidationError | StaleDataError):
        tell("another error", what, type(error).__name__)
    if SECRET in "".join(traceback.format_exception(error)):
        tell("contents repeated", what, type(error).__name__)
    return "refused"


def test_damaged_files(storm: Storm, tmp_path: Path) -> None:
    rounds = 40 * storm.scale
    told = run(damage, str(tmp_path), str(storm.chance.random()), rounds)
    problems = Counts(tuple(one) for one in told if one[0] not in ("next", "done"))
    assert problems == {}
    done = told[-1][1]
    assert done["refused"] > 0
    storm.report(files=rounds, calls=sum(done.values()), **done)
