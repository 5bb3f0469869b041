"""Documents become instances of their JSON text: whatever it holds, an instance shows what its document says."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from convexorm import Index, IsoDatetime, Mapped, Model, Session, connect, field
from convexorm.deployments import Deployment
from convexorm.errors import DeploymentError, ValidationError
from convexorm.mapping.records import Record


class Note(Model, table="notes", primary_key="id"):
    id: Mapped[str]
    title: Mapped[str] = field(name="theTitle", default="untitled")
    stars: Mapped[int] = field(default=3)
    rank: Mapped[float | None] = field(default=None)
    done: Mapped[bool | None] = field(default=None, none="null")
    due: Mapped[IsoDatetime | None] = field(default=None)
    tags: Mapped[list[str]] = field(factory=list)
    made: Mapped[datetime | None] = field(default=None)
    by_note_id = Index("id")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


@pytest.fixture
def file(path: Path) -> Iterator[Deployment]:
    with connect(f"sqlite:///{path}") as deployment:
        yield deployment


def stored(path: Path, deployment: Deployment, body: str) -> None:
    """A note whose document another program has written as this text."""
    with Session(deployment) as session:
        session.add(Note(id="a"))
        session.commit()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE t1 SET body = ?", (body,))
    connection.commit()
    connection.close()


def shown(note: Note) -> dict[str, Any]:
    return {name: getattr(note, name) for name in Note.__mapper__.columns}


DEFAULTS = {"id": "a", "title": "untitled", "stars": 3, "rank": None, "done": None, "due": None, "tags": [], "made": None}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


PLAIN = '"id":"a","theTitle":"untitled","stars":3,"done":null,"tags":[]'
RANK = '"rank":5'
INFINITE = '"rank":{"$float":"AAAAAAAA8H8="}'


@pytest.mark.parametrize(
    ("body", "expected", "recorded"),
    [
        ('"id":"a","theTitle":"t","stars":4,"done":null,"tags":["x"]', {"title": "t", "stars": 4, "tags": ["x"]}, True),
        (
            '"id":"a","theTitle":"$t","stars":3,"rank":5,"done":true,"tags":[]',
            {"title": "$t", "rank": 5.0, "done": True},
            True,
        ),
        ('"tags":[],"done":null,"stars":3,"theTitle":"untitled","id":"a"', {}, True),
        (f'{PLAIN},"due":"2026-01-01T12:00:00.000Z"', {"due": NOON}, True),
        (f'{PLAIN},"due":"2026-01-01T14:00:00+02:00"', {"due": NOON}, True),
        (f'{PLAIN},"made":1767268800000', {"made": NOON}, True),
        (PLAIN.replace("3", "4.0"), {"stars": 4}, False),
        (f"{PLAIN},{INFINITE}", {"rank": float("inf")}, False),
        (f'{PLAIN},"added":{{"later":1}}', {}, False),
        ('"id":"a"', {}, False),
    ],
)
def test_an_instance_shows_what_the_text_of_its_document_says(
    path: Path, file: Deployment, body: str, expected: dict[str, Any], recorded: bool
) -> None:
    stored(path, file, f"{{{body}}}")
    with Session(file) as session:
        (note,) = session.all(Note.query().full_scan())
        assert isinstance(note._state.held, Record) == recorded
        assert shown(note) == {**DEFAULTS, **expected}
        assert {name: type(value) for name, value in shown(note).items()} == {
            name: type(value) for name, value in {**DEFAULTS, **expected}.items()
        }
        document = note._state.document
        assert document is not None
        assert (document["_id"], document["_creationTime"]) == (note.convex_id, note.creation_time)
        assert document.get("added") == ({"later": 1} if "added" in body else None)
        assert not session.dirty
        note.tags.append("new")
        session.commit()
        note.title = "changed"
        session.commit()
    with Session(file) as session:
        note = session.get_one(Note, "a")
        assert shown(note) == {**DEFAULTS, **expected, "tags": [*expected.get("tags", []), "new"], "title": "changed"}


@pytest.mark.parametrize(
    ("field", "text"),
    [("due", '"no time"'), ("stars", '"many"'), ("rank", '{"$bytes":"AA=="}'), ("tags", "5"), ("done", '"yes"')],
)
def test_what_cannot_be_loaded_says_so_where_it_is_looked_at_and_nowhere_else(
    path: Path, file: Deployment, field: str, text: str
) -> None:
    rest = {"theTitle": '"untitled"', "stars": "3", "done": "null", "tags": "[]", field: text}
    stored(
        path,
        file,
        f'{{"id":"a",{",".join(f"{name!r}:{value}".replace(chr(39), chr(34)) for name, value in rest.items())}}}',
    )
    with Session(file) as session:
        note = session.get_one(Note, "a")
        assert note.id == "a"
        assert note.title == "untitled"
        with pytest.raises(ValidationError, match="cannot be loaded"):
            getattr(note, field)
        note.title = "changed"
        session.commit()
    with Session(file) as session:
        assert session.get_one(Note, "a").title == "changed"


@pytest.mark.parametrize("body", ["{", '{"id":"a"', "", "[1]", '{"id":"a"} '.replace(" ", "x")])
def test_text_that_is_no_document_is_refused_when_it_is_read(path: Path, file: Deployment, body: str) -> None:
    stored(path, file, body)
    with Session(file) as session, pytest.raises(DeploymentError, match="notes"):
        session.all(Note.query().full_scan())


def test_what_was_set_before_anything_was_looked_at_is_kept(file: Deployment) -> None:
    with Session(file) as session:
        session.add(Note(id="a", title="before"))
        session.commit()
    with Session(file) as session:
        note = session.get_one(Note, "a")
        note.remark = "of the program"  # type: ignore[attr-defined]
        note.stars = 5
        assert (note.title, note.stars, note.remark) == ("before", 5, "of the program")  # type: ignore[attr-defined]
        session.commit()
    with Session(file) as session:
        assert session.get_one(Note, "a").stars == 5


def test_a_document_that_is_read_again_is_the_instance_that_is_there(file: Deployment) -> None:
    with Session(file) as session:
        session.add_all([Note(id=name) for name in "abc"])
        session.commit()
    everything = Note.query().full_scan()
    with Session(file) as session, Session(file) as other:
        first = session.get_one(Note, "b")
        looked = session.get_one(Note, "c")
        assert looked.title == "untitled"
        for note in other.all(everything):
            note.title = "changed"
        other.commit()
        again = session.all(everything)
        assert [one.id for one in again] == ["a", "b", "c"]
        assert again[1] is first
        assert again[2] is looked
        assert [one.title for one in again] == ["changed", "changed", "untitled"]


class Slotted:
    __slots__ = ("cache",)


class Pickled(Slotted, Model, table="pickled", primary_key="id"):
    id: Mapped[str]
    n: Mapped[int] = field(default=1)
    by_pickled_id = Index("id")

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def test_what_a_class_does_with_its_slots_and_pickles_goes_with_instances_of_text(file: Deployment) -> None:
    with Session(file) as session:
        session.add(Pickled(id="a", n=2))
        session.commit()
    with Session(file) as session:
        found: Any = session.one(Pickled.query().full_scan())
        found.cache = 3
        taken = pickle.loads(pickle.dumps(found))
        assert (found.cache, taken.id, taken.n) == (3, "a", 2)
