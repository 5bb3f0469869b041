"""A session whose commits' answers get lost: what is stored in the end is what was asked for."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from convexorm import Deployment, DeploymentError, InvalidRequestError, Session, StaleDataError, connect
from convexorm.faces import finish
from convexorm.requests import Applied, Commit
from convexorm.sessions import AsyncSession
from tests.conftest import Host
from tests.interrupting import PACKAGE, interrupted
from tests.models import Counter, Note, Task
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


@pytest.mark.parametrize("applied", [True, False])
def test_what_is_written_at_once_is_written_once_whatever_answers_are_lost(deployment: Deployment, applied: bool) -> None:
    unique = uuid4().hex
    with Session(deployment) as session:
        session.add_all(Counter(name=f"{unique}{number}", count=number) for number in range(3))
        session.commit()
    mine = Counter.query().by_index("by_name", Counter.name.startswith(unique))
    session, port = lossy_session(deployment)
    port.applied = applied

    def counts() -> list[int]:
        with Session(deployment) as other:
            return [one.count for one in other.all(mine)]

    def tried(call: Callable[[], object]) -> None:
        port.losses = 1
        if applied:
            call()
        else:
            with pytest.raises(DeploymentError) as lost:
                call()
            assert not lost.value.lost

    tried(lambda: session.update_all(mine, {Counter.count: Counter.count + 10}))
    assert counts() == ([10, 11, 12] if applied else [0, 1, 2])
    tried(lambda: session.bulk_upsert(Counter, [{"name": f"{unique}0", "count": 5}]))
    assert counts()[0] == (5 if applied else 0)
    tried(lambda: session.delete_all(mine.limit(1)))
    assert len(counts()) == (2 if applied else 3)


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


class Late(Lossy):
    """A port whose first commit is held up on its way, until it is delivered; its answer is lost."""

    held: Commit | None = None

    async def commit(self, commit: Commit) -> list[Applied]:
        if self.held is None:
            self.held = commit
            raise DeploymentError("timed out")
        return await self.port.commit(commit)

    def deliver(self) -> None:
        assert self.held is not None
        with contextlib.suppress(InvalidRequestError, StaleDataError):
            finish(self.port.commit(self.held))


def test_a_commit_that_arrives_late_after_its_refusal_is_not_applied(deployment: Deployment, unique: str) -> None:
    with Session(deployment) as other:
        theirs = Note(id=unique, title="old")
        other.add(theirs)
        other.commit()
        session, port = Session(deployment), Late(deployment.blocking)
        session._core = AsyncSession(deployment, _port=port)
        mine = session.get_one(Note, unique)
        mine.title = "mine"
        with pytest.raises(DeploymentError):
            session.commit()
        theirs.title = "theirs"
        other.commit()
        for _ in range(2):
            with pytest.raises(StaleDataError):
                session.commit()
        theirs.title = "old"  # what the commit that is under way expects
        other.commit()
        port.deliver()
        assert stored(deployment, unique) == {"": "old"}
        session.commit()
        assert stored(deployment, unique) == {"": "mine"}


def test_what_is_still_under_way_and_is_asked_for_again_is_written_once(deployment: Deployment, unique: str) -> None:
    session, port = Session(deployment), Late(deployment.blocking)
    session._core = AsyncSession(deployment, _port=port)
    task = Task(text=unique, owner_id=unique)  # without a key that would tell
    session.add(task)
    with pytest.raises(DeploymentError):
        session.commit()
    session.commit()
    port.deliver()
    assert session.count(Task.query().by_index("by_owner", owner_id=unique)) == 1
    session.refresh(task)


def test_a_transaction_whose_answer_is_lost_is_answered_where_it_was_applied(deployment: Deployment, unique: str) -> None:
    session, port = lossy_session(deployment)
    port.losses = 1

    def write(session: Session) -> Note:
        note = Note(id=unique, title="a")
        session.add(note)
        return note

    note = session.transact(write)
    assert len(port.sent) == 1
    assert note in session
    note.title = "b"
    session.commit()
    assert stored(deployment, unique) == {"": "b"}


def test_a_transaction_whose_commit_never_arrived_is_refused_and_never_written(deployment: Deployment, unique: str) -> None:
    session, port = Session(deployment), Late(deployment.blocking)
    session._core = AsyncSession(deployment, _port=port)
    runs: list[int] = []

    def write(session: Session) -> None:
        runs.append(1)
        session.add(Note(id=unique, title="a"))

    with pytest.raises(DeploymentError) as refused:
        session.transact(write)
    assert not refused.value.lost
    assert len(runs) == 1
    port.deliver()
    assert stored(deployment, unique) == {}
    assert session.new == []
    session.transact(write)
    assert stored(deployment, unique) == {"": "a"}


def test_a_transaction_that_cannot_be_settled_says_that_it_may_be_applied(
    deployment: Deployment, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, port = lossy_session(deployment)
    port.losses, first = 1, DeploymentError("gone")
    first.lost = True
    commit = port.commit

    async def lose_it(one: Commit) -> list[Applied]:
        with contextlib.suppress(DeploymentError):
            return await commit(one)
        raise first

    async def fail(one: Commit) -> list[Applied] | None:
        raise DeploymentError("still gone")

    monkeypatch.setattr(port, "commit", lose_it)
    monkeypatch.setattr(port, "withdraw", fail)
    with pytest.raises(DeploymentError) as refused:
        session.transact(lambda session: session.add(Note(id=unique, title="a")))
    assert refused.value is first
    assert refused.value.lost
    assert stored(deployment, unique) == {"": "a"}
    session.transact(lambda session: session.add(Note(id=f"{unique}+", title="b")))  # of the first it keeps nothing
    assert stored(deployment, unique) == {"": "a", "+": "b"}


@pytest.mark.parametrize("clock", ["time", "monotonic"])
@pytest.mark.parametrize("changed", [False, True], ids=["as it was", "with more"])
def test_what_was_sent_too_long_ago_is_not_sent_again(monkeypatch: pytest.MonkeyPatch, clock: str, changed: bool) -> None:
    with connect("memory:") as deployment:
        session, port = lossy_session(deployment)
        session.add(Task(text="once", owner_id="u"))
        lose(session, port, applied=True)
        later = getattr(time, clock)() + 3_001
        monkeypatch.setattr(f"convexorm.moments.time.{clock}", lambda: later)
        if changed:
            session.add(Task(text="more", owner_id="u"))
        for _ in range(2):
            with pytest.raises(InvalidRequestError, match="50 minutes"):
                session.commit()
        assert len(port.sent) == 1
        session.rollback()
        session.add(Task(text="after", owner_id="u"))
        session.commit()
        assert sorted(one.text for one in session.all(Task.query().full_scan())) == ["after", "once"]


@pytest.mark.filterwarnings("ignore:.*was never awaited:RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_line_of_a_commit_loses_and_doubles_nothing(tmp_path: Path) -> None:
    for at in count(1):
        with connect(f"sqlite:///{tmp_path / 'interrupts.db'}") as deployment, Session(deployment) as session:
            session.delete_all(Note.query().full_scan())
            session.delete_all(Task.query().full_scan())
            changed, gone, new = Note(id="changed", tags=["a"]), Note(id="gone"), Task(text="new", owner_id="u")
            session.add_all([changed, gone])
            session.commit()
            changed.title = "changed"
            changed.tags.append("b")
            session.add(new)
            session.delete(gone)
            reached = interrupted(session.commit, at, PACKAGE / "sessions", PACKAGE / "faces.py") is not None
            session.add(Task(text="later", owner_id="u"))
            changed.body = "later"
            session.commit()
            assert (session.new, session.dirty, session.deleted) == ([], [], [])
            with Session(deployment) as other:
                notes = other.all(Note.query().full_scan())
                assert [(one.id, one.title, one.tags, one.body) for one in notes] == [
                    ("changed", "changed", ["a", "b"], "later")
                ], at
                assert sorted(one.text for one in other.all(Task.query().full_scan())) == ["later", "new"], at
            changed.tags.append("c")
            new.text = "newer"
            session.commit()
            with Session(deployment) as other:
                assert other.get_one(Note, "changed").tags == ["a", "b", "c"], at
                assert sorted(one.text for one in other.all(Task.query().full_scan())) == ["later", "newer"], at
        if not reached:
            break
    assert at > 100
