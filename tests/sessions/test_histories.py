"""Whatever a session was asked for, in whatever order: there is one instance of a document, and it shows what is stored."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from convexorm import Index, Mapped, Model, Session, StaleDataError, connect, field


class Animal(Model, table="animals", primary_key="id", discriminator_field="kind"):
    id: Mapped[str]
    legs: Mapped[int] = field(default=4)
    tags: Mapped[list[str]] = field(factory=list)
    by_animal = Index("id")
    by_legs = Index("legs")


class Bird(Animal, discriminator="bird"):
    wings: Mapped[int] = field(default=2)


NAMES = ["a", "b", "c"]


def shown(animal: Animal) -> tuple[str, dict[str, Any]]:
    return type(animal).__name__, animal.to_dict()


class History:
    """A session that is asked for what chance says. `kept` are instances that somebody holds."""

    def __init__(self, session: Session, seed: int) -> None:
        self._session = session
        self._random = random.Random(seed)
        self._kept: list[Animal] = []
        self._steps: list[Callable[[str], Any]] = [
            lambda name: session.add(self._new(name)),
            lambda name: session.upsert(self._new(name)),
            lambda name: session.merge(self._new(name)),
            lambda name: session.bulk_upsert(self._random.choice([Animal, Bird]), [{"id": name, "legs": 3}]),
            lambda name: session.update(Animal, name, {"legs": self._random.randrange(9), "tags": []}, missing_ok=True),
            lambda name: session.update_all(self._named(name), {"legs": self._random.randrange(9)}),
            lambda name: session.delete_key(Animal, name),
            lambda name: session.delete_range(self._named(name)),
            lambda name: session.delete_all(self._named(name)),
            lambda name: session.rollback(),
            lambda name: self._of_stored(name, session.delete),
            lambda name: self._of_stored(name, lambda one: one.tags.append(str(self._random.random()))),
            lambda name: self._of_stored(name, lambda one: setattr(one, "legs", self._random.randrange(9))),
            lambda name: self._of_persistent(session.expire),
            lambda name: self._of_persistent(session.refresh),
            lambda name: self._of_persistent(session.expunge),
            lambda name: self._of_persistent(lambda one: session.merge(pickle.loads(pickle.dumps(one)))),
            lambda name: self._of_persistent(lambda one: session.add(self._renamed(copy.deepcopy(one), name))),
            lambda name: self._keep(*session.all(Animal.query().by_index("by_animal"))),
        ]

    def _named(self, name: str) -> Any:
        return Animal.query().by_index("by_animal", id=name)

    def _new(self, name: str) -> Animal:
        made = self._random.choice([Animal, Bird])(id=name, legs=self._random.randrange(9))
        self._kept.append(made)
        return made

    def _renamed(self, one: Animal, name: str) -> Animal:
        one.id = name
        self._kept.append(one)
        return one

    def _keep(self, *found: Animal) -> None:
        self._kept += found

    def _of_stored(self, name: str, do: Callable[[Animal], Any]) -> None:
        one = self._session.get(Animal, name)
        if one is not None:
            self._kept.append(one)
            do(one)

    def _of_persistent(self, do: Callable[[Animal], Any]) -> None:
        there = [one for one in self._kept if one._state.name == "persistent"]
        if there:
            do(self._random.choice(there))

    def ask(self) -> None:
        try:
            self._random.choice(self._steps)(self._random.choice(NAMES))
        except StaleDataError:
            self._session.rollback()

    def commit(self, stored: Callable[[], dict[str, tuple[str, dict[str, Any]]]]) -> None:
        """Commit, and look whether the instances show what is stored."""
        session = self._session
        with suppress(StaleDataError):
            session.commit()
        session.rollback()
        assert (session.new, session.dirty, session.deleted) == ([], [], [])
        found = {name: one for name in NAMES if (one := session.get(Animal, name)) is not None}
        assert {name: shown(one) for name, one in found.items()} == stored()
        for one in self._kept:
            if one in session and not one._state.doubtful:
                assert found.get(one.id) is one
        self._kept = [one for one in self._kept if self._random.random() < 0.8]


@pytest.mark.parametrize("seed", range(40))
def test_a_session_shows_what_is_stored_whatever_it_was_asked_for(seed: int) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        history = History(session, seed)

        def stored() -> dict[str, tuple[str, dict[str, Any]]]:
            with Session(deployment) as other:
                return {one.id: shown(one) for one in other.all(Animal.query().by_index("by_animal"))}

        for _ in range(12):
            for _ in range(5):
                history.ask()
            history.commit(stored)


def test_a_rollback_leaves_a_new_instance_what_it_was_given() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        animal = Animal(id="a")
        session.add(animal)
        animal.legs = 3
        animal.tags.append("new")
        session.rollback()
        assert animal not in session
        assert animal.to_dict() == {"id": "a", "legs": 3, "tags": ["new"]}
        session.add(animal)
        session.commit()
        assert Session(deployment).get_one(Animal, "a").to_dict() == animal.to_dict()


def test_a_document_that_has_become_one_of_another_class_is_another_instance() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Animal(id="a"), Bird(id="b")])
        session.commit()
        animal, bird = session.get_one(Animal, "a"), session.get_one(Animal, "b")
        session.bulk_upsert(Bird, [{"id": "a"}])
        session.bulk_upsert(Animal, [{"id": "b"}])
        assert (animal in session, bird in session) == (False, False)
        assert [type(session.get_one(Animal, name)) for name in ("a", "b")] == [Bird, Animal]


def test_what_was_changed_is_not_written_to_a_document_of_another_class() -> None:
    with connect("memory:") as deployment, Session(deployment) as session, Session(deployment) as other:
        session.add(Bird(id="b"))
        session.commit()
        bird = session.get_one(Bird, "b")
        bird.wings = 1
        other.bulk_upsert(Animal, [{"id": "b"}])
        with pytest.raises(StaleDataError):
            session.commit()
        session.rollback()
        with pytest.raises(StaleDataError):
            session.refresh(bird)
        session.expire(bird)
        assert type(session.get_one(Animal, "b")) is Animal
        assert session.get(Bird, "b") is None


def test_get_of_a_class_sees_nothing_pending_of_another() -> None:
    with Session(connect("memory:")) as session:
        animal = Animal(id="a")
        session.add(animal)
        assert session.get(Bird, "a") is None
        assert session.get_many(Bird, ["a"]) == [None]
        assert type(session.merge(Bird(id="a", wings=1))) is Bird
        assert "wings" not in vars(animal)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("missing_ok", [True, False])
def test_what_is_added_and_then_deleted_by_its_key_is_not_stored(there: bool, missing_ok: bool) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        if there:
            Session(deployment).bulk_upsert(Animal, [{"id": "a"}])
        old = session.get(Animal, "a")
        new = Animal(id="a")
        session.add(new)
        session.delete_key(Animal, "a", missing_ok=missing_ok)
        assert session.get(Animal, "a") is None
        session.commit()
        assert session.get(Animal, "a") is None
        assert (new in session, old is not None and old in session) == (False, False)
        session.add(new)
        session.commit()
        assert session.get(Animal, "a") is new


@pytest.mark.parametrize("taken", [True, False])
def test_the_condition_of_what_is_added_holds_although_it_is_deleted_by_its_key(taken: bool) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        if taken:
            Session(deployment).bulk_upsert(Animal, [{"id": "other", "legs": 7}])
        new = Animal(id="a", legs=7)
        session.add(new, unique=Animal.query().by_index("by_legs", legs=7))
        session.delete_key(Animal, "a")
        if taken:
            with pytest.raises(StaleDataError):
                session.commit()
            session.rollback()
        else:
            session.commit()
        assert session.get(Animal, "a") is None
        assert new not in session


def test_a_document_that_was_deleted_and_written_anew_is_another_instance() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add(Animal(id="a"))
        session.commit()
        old = session.get_one(Animal, "a")
        session.delete_all(Animal.query().by_index("by_animal", id="a"))
        session.bulk_upsert(Animal, [{"id": "a", "legs": 2}])
        new = session.get_one(Animal, "a")
        assert (new.legs, old in session, new is old) == (2, False, False)
        assert session.one(Animal.query().by_index("by_animal")) is new
