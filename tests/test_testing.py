"""What unit tests of application code use: sessions that need nothing, and factories."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from convexorm import Mapped, Model, Session, StaleDataError, ValidationError, VectorIndex, field
from convexorm.testing import Factory, fake_async_session, fake_session
from convexorm.types import ColumnType
from tests.models import Address, Color, Counter, Everything, Note, Task


def test_a_fake_session_holds_what_it_is_given_and_nothing_else() -> None:
    session = fake_session(Task(text="a", owner_id="u"), Note(id="n"))
    assert isinstance(session, Session)
    assert session.one(Task.query().by_index("by_owner", owner_id="u")).text == "a"
    assert session.get(Note, "n") is not None
    assert fake_session().count(Task.query().full_scan()) == 0


def test_an_asynchronous_fake_session_is_the_same_awaited() -> None:
    async def run() -> str:
        session = fake_async_session(Task(text="a", owner_id="u"))
        return (await session.one(Task.query().by_index("by_owner", owner_id="u"))).text

    assert asyncio.run(run()) == "a"


def test_a_fake_session_has_the_rules_of_production() -> None:
    with pytest.raises(StaleDataError):
        fake_session(Note(id="n"), Note(id="n"))
    session = fake_session()
    session.add(Task(text="x", owner_id="u", due=datetime(2024, 1, 1)))
    with pytest.raises(ValidationError, match="naive"):
        session.commit()


def test_a_factory_fills_what_has_no_default() -> None:
    tasks = Factory(Task, done=True)
    first, second = tasks(), tasks(text="given")
    assert (first.text, first.owner_id, first.done, first.rank) == ("text-1", "owner_id-1", True, None)
    assert (second.text, second.owner_id) == ("given", "owner_id-2")


def test_a_factory_makes_entities_that_are_valid_and_different() -> None:
    notes = Factory(Note, title=lambda number: f"note {number}").batch(3, body="b")
    assert [note.title for note in notes] == ["note 1", "note 2", "note 3"]
    session = fake_session(*notes)
    assert session.count(Note.query().full_scan()) == 3


def test_a_factory_takes_attributes_of_any_name() -> None:
    class Parcel(Model, table="parcels"):
        model: Mapped[str]
        size: Mapped[int]

    parcels = Factory(Parcel, model="box").batch(2, size=7)
    assert [(one.model, one.size) for one in parcels] == [("box", 7)] * 2


def test_a_factory_names_what_it_cannot_make_up() -> None:

    class Money(ColumnType[complex]):
        """A type of one's own that says nothing of samples."""

    class Priced(Model, table="priced"):
        price: Mapped[complex] = field(type=Money())

    with pytest.raises(TypeError, match=r"no Money can be made up for <Column priced.price>: give Factory .* 'price'"):
        Factory(Priced)()
    with pytest.raises(ValidationError, match="no such attribute"):
        Factory(Counter)(nothing=1)

    class Place(Model, table="places"):
        vector: Mapped[list[float]]
        by_vector = VectorIndex("vector", dimensions=4)

    assert Factory(Place)().vector == [1.0] * 4


def test_a_factory_makes_up_every_kind_of_column() -> None:
    session = fake_session(*Factory(Everything).batch(3))
    one, two, three = session.all(Everything.query().full_scan())
    assert one.uuid != two.uuid
    assert (one.color, two.color, three.color) == (Color.RED, Color.GREEN, Color.RED)
    assert (one.size, two.size, three.size) == ("s", "m", 3)
    assert one.address == Address("street-1", datetime(2024, 1, 1, 0, 0, 1, tzinfo=UTC))
    assert one.pair == ("pair-1", 1)


def test_sessions_that_are_never_closed_close_without_a_warning(tmp_path: Path) -> None:
    """Python 3.13 warns of SQLite connections that are dropped open, which fails whoever tests with `-W error`."""
    program = (
        "import gc\n"
        "from convexorm import connect\n"
        "from convexorm.testing import fake_session\n"
        "from tests.models import Note\n"
        "kept = fake_session(Note(id='kept'))\n"
        "fake_session(Note(id='dropped'))\n"
        f"connect('sqlite:///{tmp_path / 'a.db'}')\n"
        "gc.collect()\n"
    )
    done = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
