"""A session whose commits' answers get lost: what is stored in the end is what was asked for."""

from __future__ import annotations

import contextlib
import random
from uuid import uuid4

import pytest

from convexorm import Deployment, DeploymentError, Session, connect
from convexorm.session import AsyncSession
from tests.conftest import Host
from tests.models import Note
from tests.test_conformance import Lossy


@pytest.fixture
def host(models_host: Host) -> Host:
    return models_host


def lossy_session(deployment: Deployment) -> tuple[Session, Lossy]:
    session, port = Session(deployment), Lossy(deployment.blocking, losses=0)
    session._core = AsyncSession(deployment, _port=port)
    return session, port


def lose(session: Session, port: Lossy, *, applied: bool) -> None:
    port.losses, port.applied = 1, applied
    with pytest.raises(DeploymentError):
        session.commit()


def stored(deployment: Deployment, beginning: str) -> dict[str, str]:
    """The titles of the notes whose ids begin so, by the rest of their ids."""
    with Session(deployment) as session:
        found = session.all(Note.query().by_index("by_note_id", Note.id.startswith(beginning)))
    return {note.id.removeprefix(beginning): note.title for note in found}


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "never arrived"])
@pytest.mark.parametrize("first", ["add", "upsert"])
@pytest.mark.parametrize("second", ["add", "upsert", None])
def test_what_is_withdrawn_makes_way_for_what_takes_its_key(
    deployment: Deployment, unique: str, applied: bool, first: str, second: str | None
) -> None:
    session, port = lossy_session(deployment)
    bad = Note(id=unique, title="bad")
    getattr(session, first)(bad)
    lose(session, port, applied=applied)
    session.delete(bad)
    if second is not None:
        getattr(session, second)(Note(id=unique, title="good"))
    else:
        session.add(Note(id=f"{unique}+", title="beside"))
    session.commit()
    assert stored(deployment, unique) == ({"": "good"} if second else {"+": "beside"})


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "never arrived"])
@pytest.mark.parametrize("changed", ["before", "after", "in place", "not"])
def test_what_was_deleted_is_not_changed_any_more(deployment: Deployment, unique: str, applied: bool, changed: str) -> None:
    with Session(deployment) as session:
        session.add(Note(id=unique, title="a"))
        session.commit()
    session, port = lossy_session(deployment)
    note = session.get(Note, unique)
    assert note is not None
    if changed == "before":
        note.title = "b"
    elif changed == "in place":
        note.tags.append("t")
    session.delete(note)
    lose(session, port, applied=applied)
    if changed == "after":
        note.title = "b"
    session.add(Note(id=f"{unique}+", title="beside"))
    session.commit()
    assert stored(deployment, unique) == {"+": "beside"}
    assert session.dirty == []


@pytest.mark.parametrize("seed", range(400))
def test_any_history_ends_as_it_was_asked_for(seed: int) -> None:
    chance = random.Random(seed)
    deployment = connect("memory:")
    session, port = lossy_session(deployment)
    wanted: dict[str, str] = {}
    notes: dict[str, Note] = {}
    for step in range(14):
        key, title = f"n{chance.randrange(4)}", str(step)
        kind = chance.choices(["new", "set", "tag", "delete", "commit"], [3, 3, 1, 2, 3])[0]
        if kind == "commit":
            port.losses, port.applied = chance.choice([(0, True), (1, True), (1, False)])
            with contextlib.suppress(DeploymentError):
                session.commit()
        elif kind == "new" and key not in notes:
            notes[key], wanted[key] = Note(id=key, title=title), title
            getattr(session, chance.choice(["add", "upsert"]))(notes[key])
        elif kind == "set" and key in notes:
            notes[key].title = wanted[key] = title
        elif kind == "tag" and key in notes:
            notes[key].tags.append(title)
        elif kind == "delete" and key in notes:
            session.delete(notes.pop(key))
            del wanted[key]
    port.losses = 0
    session.commit()
    assert stored(deployment, "n") == {key.removeprefix("n"): title for key, title in wanted.items()}
    assert {note.id: len(note.tags) for note in notes.values()} == {
        note.id: len(note.tags) for note in Session(deployment).all(Note.query().full_scan())
    }
    session.add(Note(id=uuid4().hex))
    session.commit()
