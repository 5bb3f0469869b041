"""The identity map holds one truth: what a session has done is what its instances show. A copy is an instance apart."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest

from convexorm import (
    AsyncSession,
    Deployment,
    Index,
    InvalidRequestError,
    Mapped,
    Model,
    Session,
    StaleDataError,
    ValidationError,
    connect,
    field,
)
from convexorm.sessions import identities
from tests.conftest import Host
from tests.faces import FACES, open_session
from tests.models import Note, Task


@pytest.fixture
def host(models_host: Host) -> Host:
    return models_host


def stored(deployment: Deployment, beginning: str) -> dict[str, tuple[str, list[str]]]:
    with Session(deployment) as session:
        found = session.all(Note.query().by_index("by_note_id", Note.id.startswith(beginning)))
    return {one.id.removeprefix(beginning): (one.title, one.tags) for one in found}


class Secret(Model, table="secrets"):
    text: Mapped[str]

    def __repr__(self) -> str:
        return f"Secret({self.text!r})"


class CountedRef(weakref.ref[Any]):
    """Counts how often somebody looks whether what it refers to is still there."""

    looked: ClassVar[int] = 0

    def __call__(self) -> Any:
        CountedRef.looked += 1
        return super().__call__()


def test_loading_many_looks_for_the_dead_among_what_was_there_before_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "_ref", CountedRef)
    monkeypatch.setattr(CountedRef, "looked", 0)
    with connect("memory:") as deployment, Session(deployment) as session:
        with Session(deployment) as other:
            other.add_all([Secret(text=str(number)) for number in range(5_000)])
            other.commit()
        half = Secret.query().full_scan().limit(2_000)
        first = session.all(half)
        assert CountedRef.looked == 0
        kept = first[:500]
        del first
        assert len(session.all(Secret.query().full_scan().offset(2_000))) == 3_000  # nobody keeps them
        assert CountedRef.looked == 2_000
        instances = session._core._members.of_models[Secret]
        assert len(instances.refs) == 500 + 3_000
        assert session.all(half)[:500] == kept
        assert all(instances.get(str(one.convex_id)) is one for one in kept)


@pytest.mark.parametrize("state", ["pending", "persistent", "deleted", "detached"])
def test_an_error_names_an_instance_without_what_it_holds(state: str) -> None:
    with connect("memory:") as deployment, Session(deployment) as session, Session(deployment) as other:
        secret = Secret(text="hush")
        session.add(secret)
        if state != "pending":
            session.commit()
        if state == "deleted":
            session.delete(secret)
            session.commit()
        if state == "detached":
            session.expunge(secret)
        for refused in (other.add, other.delete, other.expire, other.refresh, other.expunge):
            with pytest.raises(InvalidRequestError, match=rf"^<Secret .*\({state}\)> is ") as error:
                refused(secret)
            assert "hush" not in str(error.value)


# -- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_is_a_new_instance_with_a_state_of_its_own(
    deployment: Deployment, unique: str, copied: Callable[[Any], Any]
) -> None:
    with Session(deployment) as session:
        template = Note(id=f"{unique}-", title="t")
        for number in range(3):
            one = copied(template)
            one.id = f"{unique}{number}"
            session.add(one)
        session.commit()
        original = session.get_one(Note, f"{unique}0")
        twin = copied(original)
        assert (twin.convex_id, twin.title, twin in session) == (None, "t", False)
        twin.id, twin.title = f"{unique}twin", "another"
        session.add(twin)
        session.commit()
        assert (original.id, original.title) == (f"{unique}0", "t")
    assert stored(deployment, unique) == {"0": ("t", []), "1": ("t", []), "2": ("t", []), "twin": ("another", [])}


def test_a_deep_copy_shares_no_values_and_a_copy_does() -> None:
    with Session(connect("memory:")) as session:
        session.add(Note(id="a", tags=["x"]))
        session.commit()
        note = session.get_one(Note, "a")
        shallow, deep = copy.copy(note), copy.deepcopy(note)
        deep.tags.append("y")
        assert note.tags == ["x"]
        assert shallow.tags is note.tags


class Slotted:
    __slots__ = ("note",)


class Kept(Slotted, Model, table="kept"):
    text: Mapped[str]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_has_what_is_in_the_slots_of_a_mixin(copied: Callable[[Kept], Kept]) -> None:
    kept = Kept(text="a")
    kept.note = ["b"]  # type: ignore[attr-defined]
    twin = copied(kept)
    assert (twin.text, twin.note) == ("a", ["b"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_unpickled_is_detached_and_shows_the_same(protocol: int) -> None:
    with Session(connect("memory:")) as session:
        session.add_all([Note(id="a", title="x", tags=["t"]), Note(id="b")])
        session.commit()
        page = session.page(Note.query().by_index("by_note_id", id="a"), 1)
        new = Note(id="new", tags=["n"])
        session.add(new)
        changed = session.get_one(Note, "b")
        changed.title = "changed"
        there = pickle.loads(pickle.dumps((page, new, changed), protocol))
        loaded, added, dirty = there[0].items[0], there[1], there[2]
        assert (loaded.convex_id, loaded.title, loaded.tags) == (page.items[0].convex_id, "x", ["t"])
        assert (added.convex_id, added.tags, dirty.title) == (None, ["n"], "changed")
        assert not any(one in session for one in (loaded, added, dirty))
        session.rollback()
        merged = session.merge(loaded)
        assert merged is page.items[0]


# -- one truth -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loaded", ["got", "queried"])
def test_a_loaded_instance_shows_what_the_session_writes_past_it(deployment: Deployment, unique: str, loaded: str) -> None:
    with Session(deployment) as session:
        session.add_all([Note(id=f"{unique}{name}", title="old", tags=["t"]) for name in "abcd"])
        session.commit()
        session.expunge_all()
        if loaded == "got":
            a, b, c, d = (session.get_one(Note, f"{unique}{name}") for name in "abcd")
        else:
            a, b, c, d = session.all(Note.query().by_index("by_note_id", Note.id.startswith(unique)))
        assert [one.title for one in (a, b, c, d)] == ["old"] * 4
        b.body = "mine"  # pending, and to stay
        session.update(Note, a.id, {"title": "updated"})
        session.update(Note, b.id, {"title": "updated"})
        session.delete_key(Note, c.id)
        session.commit()
        assert (a.title, a.tags, b.title, b.body) == ("updated", ["t"], "updated", "mine")
        assert session.get(Note, c.id) is None
        assert c not in session
        b.body = "pending"
        session.bulk_upsert(Note, [{"id": a.id, "title": "bulk"}, {"id": b.id, "title": "bulk"}])
        assert (a.title, a.tags, b.title, b.body) == ("bulk", [], "bulk", "pending")
        session.commit()
        replaced = Note(id=a.id, title="upserted")
        session.upsert(replaced)
        session.commit()
        assert session.get(Note, replaced.id) is replaced
        assert a not in session
        assert session.get_one(Note, d.id) is d
        assert session.dirty == []
    assert stored(deployment, unique) == {"a": ("upserted", []), "b": ("bulk", []), "d": ("old", ["t"])}


@pytest.mark.parametrize("atomic", [True, False], ids=["delete_range", "delete_all"])
def test_what_a_range_deleted_is_not_answered_from_memory(deployment: Deployment, unique: str, atomic: bool) -> None:
    with Session(deployment) as session:
        gone, kept, changed = (
            Note(id=f"{unique}{name}", title=f"{unique}{title}") for name, title in zip("abc", "xyx", strict=True)
        )
        session.add_all([gone, kept, changed])
        session.commit()
        query = Note.query().by_index("by_title", title=f"{unique}x")
        if atomic:
            session.delete_range(query)
            session.commit()
        else:
            assert session.delete_all(query) == 2
        assert session.get(Note, gone.id) is None
        assert gone not in session
        assert session.get_one(Note, kept.id) is kept
        assert session.get_many(Note, [changed.id, kept.id]) == [None, kept]
        session.add(Note(id=gone.id))
        session.commit()
    assert set(stored(deployment, unique)) == {"a", "b"}


def test_a_change_to_what_a_range_deleted_is_refused_and_not_dropped() -> None:
    with Session(connect("memory:")) as session:
        note = Note(id="a", title="x")
        session.add(note)
        session.commit()
        note.body = "mine"
        session.delete_all(Note.query().by_index("by_title", title="x"))
        assert session.get(Note, "a") is None
        with pytest.raises(StaleDataError, match="gone"):
            session.commit()


@pytest.mark.parametrize("face", FACES)
async def test_get_sees_what_is_added_and_deleted_and_not_committed(face: str) -> None:
    session = open_session(face, connect("memory:"))
    await session.add_all([Note(id="kept"), Note(id="doomed"), Note(id="keyed")])
    await session.commit()
    new, upserted = Note(id="new"), Note(id="upserted")
    await session.add(new)
    assert await session.get(Note, "new") is new
    await session.upsert(upserted)
    await session.delete((await session.get_many(Note, ["doomed"]))[0])  # type: ignore[arg-type]
    await session.delete_key(Note, "keyed")
    wanted = ["kept", "new", "doomed", "upserted", "keyed", "nobody"]
    kept = await session.get(Note, "kept")
    assert await session.get_many(Note, wanted) == [kept, new, None, upserted, None, None]
    assert [await session.get(Note, key) for key in wanted] == [kept, new, None, upserted, None, None]
    new.id = "renamed"
    assert await session.get(Note, "new") is None
    assert await session.get(Note, "renamed") is new
    await session.delete(new)
    assert await session.get(Note, "renamed") is None
    again = Note(id="keyed")
    await session.add(again)
    assert await session.get(Note, "keyed") is again
    assert len(await session.all(Note.query().full_scan())) == 3  # queries see what is committed
    await session.rollback()
    assert [one is not None for one in await session.get_many(Note, wanted)] == [True, False, True, False, True, False]


def test_what_is_added_again_is_not_deleted() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Note(id="a"), Note(id="b")])
        session.commit()
        kept, keyed = session.get_many(Note, ["a", "b"])
        assert kept is not None
        assert keyed is not None
        session.delete(kept)
        kept.title = "kept"
        session.add(kept)
        assert (session.deleted, session.dirty) == ([], [kept])
        session.commit()
        assert Session(deployment).get_one(Note, "a").title == "kept"
        session.delete_key(Note, "b")
        with pytest.raises(InvalidRequestError, match="is to be deleted by its key"):
            session.add(keyed)


def test_an_instance_known_by_its_id_is_seen_as_deleted() -> None:
    with Session(connect("memory:")) as session:
        task = Task(text="a", owner_id="u")
        session.add(task)
        session.commit()
        assert session.get(Task, task.convex_id) is task
        session.delete(task)
        assert session.get(Task, task.convex_id) is None
        session.rollback()
        assert session.get(Task, task.convex_id) is task


def test_a_change_in_place_is_written_though_nobody_keeps_the_instance() -> None:
    def change(session: Session, note: Note) -> None:
        note.tags.append("changed")

    with connect("memory:") as deployment, Session(deployment) as session:
        note = Note(id="a", tags=["new"])
        session.add(note)
        session.commit()
        for _ in range(2):
            change(session, note)
            kept = weakref.ref(note)
            tags = note.tags
            del note
            gc.collect()
            note = session.get_one(Note, "a")
            assert (kept() is note, note.tags is tags) == (True, True)
            tags.append("later")
            del note
            session.commit()
            assert session.dirty == []
            note = session.get_one(Note, "a")
        assert Session(deployment).get_one(Note, "a").tags == ["new", *["changed", "later"] * 2]
        del note, tags
        gc.collect()
        assert kept() is None


WAYS_PAST: dict[str, Callable[[Session, Note], Any]] = {
    "update": lambda session, note: session.update(Note, note.id, {"title": "new"}),
    "bulk_upsert": lambda session, note: session.bulk_upsert(Note, [{"id": note.id, "title": "new", "tags": ["old"]}]),
    "update_all": lambda session, note: session.update_all(
        Note.query().by_index("by_title", title="old"), {"title": "new"}
    ),
    "merge": lambda session, note: session.merge(Note(id=note.id, title="new", tags=["old"])),
    "an attribute": lambda session, note: setattr(note, "title", "new"),
}


@pytest.mark.parametrize("way", WAYS_PAST)
def test_a_list_that_somebody_holds_stays_that_of_its_instance_unless_it_is_stored_otherwise(way: str) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        note = Note(id="a", title="old", tags=["old"])
        session.add(note)
        session.commit()
        tags = note.tags
        WAYS_PAST[way](session, note)
        session.commit()
        assert session.get_one(Note, "a").title == "new"
        tags.append("held")
        session.commit()
        assert (note.tags is tags, Session(deployment).get_one(Note, "a").tags) == (True, ["old", "held"])
        session.update(Note, "a", {"tags": ["another"]})
        session.commit()
        assert (note.tags, session.dirty) == (["another"], [])


@attrs.define(eq=False)
class Silent:
    """One that is equal to nobody, or says so of everybody, or fails to say."""

    number: int = 0
    says: ClassVar[Any] = NotImplemented

    def __eq__(self, other: object) -> bool:
        if self.says is None:
            raise RuntimeError("no answer")
        return bool(self.says) if self.says is not NotImplemented else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]


class Older(Model, table="aged", primary_key="id"):
    id: Mapped[str]
    by_aged = Index("id")


class Aged(Model, table="aged", primary_key="id"):
    id: Mapped[str]
    silent: Mapped[Silent] = field(factory=Silent)
    vector: Mapped[list[float]] = field(factory=list)
    by_aged = Index("id")


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize("says", [NotImplemented, True, False, None])
def test_a_merge_and_a_pickle_ask_no_value_whether_it_is_equal(
    monkeypatch: pytest.MonkeyPatch, says: Any, looked_at: bool
) -> None:
    monkeypatch.setattr(Silent, "says", says)
    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add_all([Older(id="a"), Older(id="b")])
            session.commit()
        with Session(deployment) as session:
            mine, other = session.get_one(Aged, "a"), session.get_one(Aged, "b")
            if looked_at:
                assert (mine.silent.number, mine.vector, other.silent.number, other.vector) == (0, [], 0, [])
            assert session.merge(pickle.loads(pickle.dumps(other))) is other
            assert session.dirty == []
            vector: Any = np.array([1.0, 2.0])
            session.merge(Aged(id="a", silent=Silent(7), vector=vector))
            session.commit()
        with Session(deployment) as session:
            mine, other = session.get_one(Aged, "a"), session.get_one(Aged, "b")
            assert (mine.silent.number, mine.vector, other.silent.number) == (7, [1.0, 2.0], 0)
            there = pickle.loads(pickle.dumps(other))
            there.silent.number = 5
            session.merge(there)
            session.commit()
            assert Session(deployment).get_one(Aged, "b").silent.number == 5


def test_a_session_does_not_remember_what_nobody_keeps() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        for start in range(0, 15_000, 5_000):
            session.bulk_upsert(Note, [{"id": str(number)} for number in range(start, start + 5_000)])
        tracemalloc.start()
        try:
            for number in range(2_000):
                session.get(Note, str(number))
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            for number in range(2_000, 15_000):
                session.get(Note, str(number))
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] - before < 400_000
        finally:
            tracemalloc.stop()


# -- expunge, expire, merge --------------------------------------------------------------------------------------------


def test_what_is_expunged_is_detached_with_its_changes_unwritten(deployment: Deployment, unique: str) -> None:
    with Session(deployment) as session:
        note, new = Note(id=unique), Note(id=f"{unique}new")
        session.add(note)
        session.commit()
        note.title = "changed"
        session.add(new)
        session.delete(note)
        session.expunge(note)
        session.expunge(new)
        assert (note in session, new in session, session.new, session.deleted) == (False, False, [], [])
        session.commit()
        assert session.get_one(Note, unique) is not note
        with pytest.raises(InvalidRequestError):
            session.expunge(note)
        session.add(new)
        session.commit()
    assert stored(deployment, unique) == {"": ("", []), "new": ("", [])}


def test_what_is_expired_is_shown_anew_by_the_next_read(deployment: Deployment, unique: str) -> None:
    with Session(deployment) as session, Session(deployment) as other:
        note = Note(id=unique, title="old")
        session.add(note)
        session.commit()
        theirs = other.get_one(Note, unique)
        theirs.title = "theirs"
        other.commit()
        assert session.get_one(Note, unique).title == "old"
        note.title = "dropped"
        session.expire(note)
        assert session.dirty == []
        assert session.get(Note, unique) is note
        assert note.title == "theirs"
        other.delete(theirs)
        other.commit()
        session.expire(note)
        assert session.get(Note, unique) is None
        assert note not in session


class Labelled(Model, table="labelled", primary_key="id"):
    id: Mapped[str]
    title: Mapped[str] = field(default="")
    size: Mapped[int] = field(default=1, validator=attrs.validators.gt(0))
    by_label_id = Index("id")

    def after_load(self) -> None:
        self.__dict__["loaded"] = True

    @functools.cached_property
    def shout(self) -> str:
        return self.title.upper()


@pytest.mark.parametrize("body", [{}, {"after_load": lambda self: None}], ids=["of rows", "of documents"])
def test_a_default_that_is_set_where_a_document_lacks_the_field_is_stored(body: dict[str, Any]) -> None:
    class Before(Model, table="grown", primary_key="id"):
        id: Mapped[str]
        by_grown = Index("id")

    class Grown(Model):
        id: Mapped[str]
        done: Mapped[bool] = field(default=False)
        by_grown = Index("id")

    after: Any = type("After", (Grown,), body, table="grown", primary_key="id")
    with connect("memory:") as deployment:
        Session(deployment).bulk_upsert(Before, [{"id": "a"}, {"id": "b"}])
        with Session(deployment) as session:
            a, b = session.get_one(after, "a"), session.get_one(after, "b")
            assert (a.done, b.done, session.dirty) == (False, False, [])
            assert session.merge(Session(deployment).get_one(after, "a")) is a
            assert session.dirty == []
            b.id = "c"  # a change of something else says nothing of what is lacking
            a.done = False
            session.commit()
            assert session.dirty == []
            assert [one.id for one in session.all(after.query().where(after.done == False).full_scan())] == ["a"]  # noqa: E712
            session.rollback()
            assert (a.done, b.done) == (False, False)


class Seed(Model, table="grown", primary_key="id"):
    id: Mapped[str]
    by_grown = Index("id")


class Tree(Model, table="grown", primary_key="id"):
    """A seed has none of what is beside its id."""

    id: Mapped[str]
    tags: Mapped[list[str]] = field(factory=list)
    sizes: Mapped[dict[str, float]] = field(factory=lambda: {"high": 1.0})
    rings: Mapped[tuple[int, ...]] = field(factory=lambda: (1, 2))
    kind: Mapped[str] = field(factory=lambda: "oak")
    by_grown = Index("id")


DEFAULTS: dict[str, Any] = {"tags": [], "sizes": {"high": 1.0}, "rings": (1, 2), "kind": "oak"}


def sown() -> Deployment:
    """A deployment with two seeds."""
    deployment = connect("memory:")
    Session(deployment).bulk_upsert(Seed, [{"id": "a"}, {"id": "b"}])
    return deployment


def stored_default(deployment: Deployment, name: str) -> list[str]:
    """The trees that hold the default of an attribute."""
    of_value = getattr(Tree, name) == DEFAULTS[name]
    with Session(deployment) as session:
        return [tree.id for tree in session.all(Tree.query().full_scan().where(of_value))]


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_that_is_set_is_stored_however_it_is_made(name: str, *, looked_at: bool) -> None:
    with sown() as deployment, Session(deployment) as session:
        a, b = session.get_one(Tree, "a"), session.get_one(Tree, "b")
        if looked_at:
            assert getattr(a, name) == getattr(b, name) == DEFAULTS[name]
        assert session.dirty == []
        session.commit()
        setattr(a, name, copy.copy(DEFAULTS[name]))
        assert session.dirty == [a]
        session.commit()
        assert (session.dirty, stored_default(deployment, name)) == ([], ["a"])
        assert getattr(a, name) == getattr(b, name) == DEFAULTS[name]


def test_a_default_that_is_only_looked_at_is_not_stored() -> None:
    with Session(sown()) as session:
        tree = session.get_one(Tree, "a")
        assert {name: getattr(tree, name) for name in DEFAULTS} == DEFAULTS
        tree.tags.append("x")
        assert session.dirty == [tree]
        tree.tags.remove("x")  # it is again what everybody sees
        assert session.dirty == []

        there: Tree = pickle.loads(pickle.dumps(tree))
        session.expunge(tree)
        assert session.attach(there) is there
        assert session.dirty == []
        there.tags = []
        assert session.dirty == [there]
        session.rollback()

        other = Session(sown())
        assert other.merge(there).tags == []
        assert other.dirty == []
        there.tags.append("x")
        there.rings = (3,)
        mine = other.merge(there)
        assert (other.dirty, mine.tags, mine.rings) == ([mine], ["x"], (3,))
        there.tags.clear()
        assert other.merge(there).tags == []


@pytest.mark.parametrize("asked_before", [True, False])
def test_what_is_written_past_an_instance_reaches_it_by_the_key_that_it_has_now(*, asked_before: bool) -> None:
    with Session(connect("memory:")) as session:
        label, other = Labelled(id="a", title="one"), Labelled(id="x")
        session.add_all([label, other])
        session.commit()
        assert not asked_before or session.get(Labelled, "a") is label
        label.id = "b"
        session.commit()
        session.update(Labelled, "b", {"title": "two"})
        session.commit()
        assert label.title == "two"
        label.id, other.id = "x", "b"  # one takes the place of the other
        session.commit()
        assert (session.get(Labelled, "x"), session.get(Labelled, "b")) == (label, other)
        session.delete_key(Labelled, "x")
        session.commit()
        assert (label in session, other in session) == (False, True)


@pytest.mark.parametrize("renewed", [Session.refresh, Session.expire, lambda session, label: session.rollback()])
def test_what_is_no_column_stays_when_an_instance_is_shown_anew(renewed: Callable[[Session, Labelled], None]) -> None:
    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add(Labelled(id="a", title="old"))
            session.commit()
        with Session(deployment) as session:
            label = session.get_one(Labelled, "a")
            label.__dict__["chosen"] = "by me"
            label.title = "new"
            assert label.shout == "NEW"
            renewed(session, label)
            assert (label.title, label.__dict__["chosen"], label.__dict__["loaded"]) == ("old", "by me", True)
            assert label.shout == "OLD"  # it was made of what is no longer so


def test_what_was_made_of_a_document_goes_with_it() -> None:
    with Session(connect("memory:")) as session:
        label = Labelled(id="a", title="old")
        session.add(label)
        session.commit()
        assert label.shout == "OLD"
        session.update(Labelled, "a", {"title": "new"})
        session.commit()
        assert (label.title, label.shout) == ("new", "NEW")


def test_a_merge_that_is_refused_changes_nothing() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        label = Labelled(id="a", title="old")
        session.add(label)
        session.commit()
        wrong = Labelled(id="a", title="new")
        wrong.__dict__["size"] = -1
        with pytest.raises(ValidationError, match=r"labelled\.size"):
            session.merge(wrong)
        assert (label.title, session.dirty) == ("old", [])


def test_only_an_instance_is_looked_for_in_a_session() -> None:
    with Session(connect("memory:")) as session:
        for wrong in (5, None, Note, [Note(id="a")]):
            with pytest.raises(InvalidRequestError, match="an instance of a model is needed"):
                wrong in session  # type: ignore[operator]  # noqa: B015


@pytest.mark.parametrize("face", FACES)
async def test_merge_gives_the_sessions_own_instance_the_values(face: str) -> None:
    deployment = connect("memory:")
    with Session(deployment) as other:
        other.add_all([Note(id="a", title="old", tags=["t"]), Task(text="old", owner_id="u")])
        other.commit()
        theirs, task = other.get_one(Note, "a"), other.one(Task.query().full_scan())
        theirs.title, task.text = "new", "new"
        theirs.tags.append("u")
        session = open_session(face, deployment)
        mine = await session.get_one(Note, "a")
        assert await session.merge(theirs) is mine
        assert (mine.title, mine.tags) == ("new", ["t", "u"])
        assert mine.tags is not theirs.tags
        assert (await session.merge(task)).text == "new"
        added = await session.merge(Note(id="b", title="transient"))
        assert added in session
        assert await session.merge(added) is added
        await session.commit()
        assert (theirs in other, other.dirty) == (True, [theirs, task])
    assert stored(deployment, "") == {"a": ("new", ["t", "u"]), "b": ("transient", [])}
    with Session(deployment) as again:
        assert [one.text for one in again.all(Task.query().full_scan())] == ["new"]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_session_and_a_deployment_are_not_copied(copied: Callable[[object], object]) -> None:
    with connect("memory:") as deployment:
        for one, words in (
            (deployment, "a deployment cannot be pickled or copied"),
            (Session(deployment), "a session cannot be pickled or copied"),
            (AsyncSession(deployment), "a session cannot be pickled or copied"),
        ):
            with pytest.raises(TypeError, match=words):
                copied(one)


class Keyless(Model, table="labelled"):
    """Labels as others write them."""

    title: Mapped[str]


class Place(Model, table="places_on_shelves", primary_key=("shelf", "number")):
    shelf: Mapped[str]
    number: Mapped[int | None] = field(default=None)
    by_place = Index("shelf", "number")


@pytest.mark.parametrize(
    "ask",
    [
        lambda session, model, key: session.get(model, key),
        lambda session, model, key: session.get_one(model, key),
        lambda session, model, key: session.get_many(model, [key]),
        lambda session, model, key: session.delete_key(model, key),
        lambda session, model, key: session.update(model, key, {}),
    ],
    ids=["get", "get_one", "get_many", "delete_key", "update"],
)
def test_none_is_no_key_where_it_is_never_stored(ask: Callable[[Session, type[Model], Any], object]) -> None:
    with connect("memory:") as deployment:
        with Session(deployment) as session:
            session.add(Keyless(title="without an id"))
            session.commit()
        with Session(deployment) as session:
            with pytest.raises(ValidationError, match=r"labelled\.id: expected str, got None"):
                ask(session, Labelled, None)
            with pytest.raises(ValidationError, match=r"places_on_shelves\.shelf: expected str, got None"):
                ask(session, Place, (None, 1))
            session.add(Place(shelf="a"))
            session.commit()
            assert session.get_one(Place, ("a", None)).number is None  # which may be None
        with Session(deployment) as session:
            assert session.count(Keyless.query().full_scan()) == 1
