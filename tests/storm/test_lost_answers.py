"""Sessions whose commits are lost, or applied late, or whose answers are lost: what is stored in the end was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from convexorm import AsyncSession, Deployment, DeploymentError, Session
from convexorm.deployments import Port
from convexorm.faces import finish
from convexorm.requests import Applied, Commit
from tests.models import Note
from tests.storm.conftest import Storm

STEPS = 14
KEYS = 4


class Unreliable:
    """A port that loses some commits, or their answers; some of what was lost arrives after all, later or twice."""

    def __init__(self, port: Port, chance: Random) -> None:
        self._port = port
        self._chance = chance
        self._under_way: list[Commit] = []
        self.calm = False
        self.lost = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    async def commit(self, commit: Commit) -> list[Applied]:
        await self.arrive()
        fate = "answered" if self.calm else self._chance.choice(["answered", "lost", "answer lost", "late"])
        if fate in ("answered", "answer lost"):
            applied = await self._port.commit(commit)
            if fate == "answered":
                await self.arrive()
                return applied
        if fate == "late" or self._chance.random() < 0.2:
            self._under_way.append(commit)
        self.lost += 1
        raise DeploymentError("timed out")

    async def arrive(self, *, all: bool = False) -> None:
        """Some of what is under way arrives; nobody hears the answers."""
        arriving = [one for one in self._under_way if all or self._chance.random() < 0.5]
        self._under_way = [one for one in self._under_way if one not in arriving]
        for one in arriving:
            with contextlib.suppress(Exception):
                await self._port.commit(one)


class Writer:
    """A session over an unreliable port, its notes, and what is to be stored in the end."""

    def __init__(self, deployment: Deployment, beginning: str, chance: Random) -> None:
        self.port = Unreliable(deployment.blocking, chance)
        self.session = Session(deployment)
        self.session._core = AsyncSession(deployment, _port=self.port)  # type: ignore[arg-type,unused-ignore]
        self.beginning, self.chance = beginning, chance
        self.notes: dict[str, Note] = {}
        self.wanted: dict[str, tuple[str, int]] = {}

    def step(self, number: int) -> None:
        key = f"{self.beginning}{self.chance.randrange(KEYS)}"
        steps: list[Callable[[str, str], None]] = [self.commit, self.new, self.set, self.tag, self.delete, self.fresh]
        self.chance.choices(steps, [4, 4, 3, 1, 2, 1])[0](key, str(number))

    def commit(self, *_: str) -> None:
        with contextlib.suppress(DeploymentError):
            self.session.commit()

    def new(self, key: str, title: str) -> None:
        if key not in self.notes:
            self.notes[key] = Note(id=key, title=title)
            self.wanted[key] = title, 0
            getattr(self.session, self.chance.choice(["add", "upsert"]))(self.notes[key])

    def set(self, key: str, title: str) -> None:
        if key in self.notes:
            self.notes[key].title = title
            self.wanted[key] = title, self.wanted[key][1]

    def tag(self, key: str, title: str) -> None:
        if key in self.notes:
            self.notes[key].tags.append(title)
            self.wanted[key] = self.wanted[key][0], len(self.notes[key].tags)

    def delete(self, key: str, _: str) -> None:
        if key in self.notes:
            self.session.delete(self.notes.pop(key))
            del self.wanted[key]

    def fresh(self, *_: str) -> None:
        """Everything stored, all instances got anew."""
        self.settle()
        self.session.expunge_all()
        self.notes = {note.id: note for note in self.session.get_many(Note, list(self.notes)) if note is not None}

    def settle(self) -> None:
        self.port.calm = True
        self.session.commit()
        self.port.calm = False

    def end(self) -> None:
        self.settle()
        finish(self.port.arrive(all=True))


@pytest.mark.parametrize("kind", ["memory", "host"])
def test_lost_answers(storm: Storm, kind: str, open_deployment: Callable[[str], Deployment], unique: str) -> None:
    deployment = open_deployment(kind)
    histories = (150 if kind == "memory" else 15) * storm.scale
    lost = 0
    for history in range(histories):
        chance = Random(storm.chance.random())
        writers = [Writer(deployment, f"{unique}-{history}{letter}-", chance) for letter in "ab"]
        for number in range(STEPS * len(writers)):
            chance.choice(writers).step(number)
        for writer in writers:
            writer.end()
            with Session(deployment) as session:
                mine = Note.query().by_index("by_note_id", Note.id.startswith(writer.beginning))
                stored = {note.id: (note.title, len(note.tags)) for note in session.all(mine)}
                assert stored == writer.wanted, f"history {history}"
                session.delete_range(mine)
                session.commit()
            lost += writer.port.lost
    storm.report(histories=histories, lost=lost)
