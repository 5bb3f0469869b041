"""What a class body may say of relations, and what is refused with a word on what would be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from convexorm import (
    UNSET,
    Id,
    Index,
    InvalidRequestError,
    Mapped,
    Model,
    Related,
    RelatedList,
    Session,
    ValidationError,
    connect,
    field,
    relationship,
)


class Place(Model, table="declared_places", primary_key="id"):
    id: Mapped[str]
    name: Mapped[str] = field(default="")
    by_place_id = Index("id")
    by_place_name = Index("name")


def _no_reference() -> None:
    class Visit(Model, table="visits"):
        place_id: Mapped[str]
        place: Related[Place] = relationship("place_id")


def _another_model() -> None:
    class Visit(Model, table="visits"):
        visit_id: Mapped[Id[Visit]]
        place: Related[Place] = relationship("visit_id")


def _another_type() -> None:
    class Visit(Model, table="visits"):
        place_id: Mapped[int] = field(references=Place)
        place: Related[Place] = relationship("place_id")


def _no_index() -> None:
    class Visit(Model, table="visits"):
        places: RelatedList[Place] = relationship("by_visit")


def _no_reference_first() -> None:
    class Visit(Model, table="visits"):
        places: RelatedList[Place] = relationship("by_place_name")


def _no_annotation() -> None:
    class Visit(Model, table="visits"):
        place_id: Mapped[str] = field(references=Place)
        place = relationship("place_id")


def _a_column() -> None:
    class Visit(Model, table="visits"):
        place_id: Mapped[str] = field(references=Place)
        place: Mapped[Place] = relationship("place_id")


def _two_models() -> None:
    class Visit(Model, table="visits"):
        place_id: Mapped[str] = field(references=Place)
        place: Related[Place | Visit] = relationship("place_id")


def _deleting_one() -> None:
    class Visit(Model, table="visits"):
        place_id: Mapped[str] = field(references=Place)
        place: Related[Place] = relationship("place_id", on_delete="cascade")


def _one_of_several() -> None:
    class Somewhere(Model, table="somewhere", primary_key="id"):
        id: Mapped[str]
        visit: Related[Visit | None] = relationship("by_place")
        by_somewhere_id = Index("id")

    class Visit(Model, table="visits"):
        place_id: Mapped[str] = field(references=Somewhere)
        by_place = Index("place_id")

    Somewhere.visit  # noqa: B018


def _one_that_has_to_be() -> None:
    class Somewhere(Model, table="somewhere", primary_key="id"):
        id: Mapped[str]
        visit: Related[Visit] = relationship("by_place")
        by_somewhere_id = Index("id")

    class Visit(Model, table="visits"):
        place_id: Mapped[str] = field(references=Somewhere)
        by_place = Index("place_id", unique=True)

    Somewhere.visit  # noqa: B018


def _of_several_attributes() -> None:
    class Seat(Model, table="seats", primary_key=("row", "number")):
        row: Mapped[str]
        number: Mapped[int]
        by_seat = Index("row", "number")

    class Guest(Model, table="guests"):
        seat_id: Mapped[str] = field(references=Seat)


def _nullify_what_may_not_be() -> None:
    class Visit(Model, table="visits", primary_key="id"):
        id: Mapped[str]
        parts: RelatedList[Part] = relationship("by_visit", on_delete="nullify")
        by_visit_id = Index("id")

    class Part(Model, table="parts"):
        visit_id: Mapped[str] = field(references=Visit)
        by_visit = Index("visit_id")

    Visit.parts  # noqa: B018


def _two_ways_of_deleting() -> None:
    class Visit(Model, table="visits", primary_key="id"):
        id: Mapped[str]
        parts: RelatedList[Part] = relationship("by_visit", on_delete="nullify")
        newest: RelatedList[Part] = relationship("by_age", on_delete="restrict")
        by_visit_id = Index("id")

    class Part(Model, table="parts"):
        visit_id: Mapped[str | None] = field(references=Visit, default=None)
        age: Mapped[int]
        by_visit = Index("visit_id")
        by_age = Index("visit_id", "age")

    Visit.parts  # noqa: B018


def _another_way_in_a_subclass() -> None:
    class Visit(Model, table="visits", primary_key="id"):
        id: Mapped[str]
        parts: RelatedList[Part] = relationship("by_visit", on_delete="nullify")
        by_visit_id = Index("id")

    class LongVisit(Visit, discriminator="long"):
        large: RelatedList[LargePart] = relationship("by_visit", on_delete="cascade")

    class Part(Model, table="parts"):
        visit_id: Mapped[str | None] = field(references=Visit, default=None)
        by_visit = Index("visit_id")

    class LargePart(Part, discriminator="large"):
        pass

    with connect("memory:") as deployment, Session(deployment) as session:
        session.delete_key(Visit, "a")
        session.commit()


def _another_way_with_the_rows_between() -> None:
    class Visit(Model, table="visits", primary_key="id"):
        id: Mapped[str]
        parts: RelatedList[Part] = relationship("by_visit", on_delete="restrict")
        places: RelatedList[Place] = relationship(through="Part", on_delete="cascade")
        by_visit_id = Index("id")

    class Part(Model, table="parts"):
        visit_id: Mapped[str] = field(references=Visit)
        place_id: Mapped[str] = field(references=Place)
        by_visit = Index("visit_id")

    Visit.parts  # noqa: B018


def _through_without_references() -> None:
    class Visit(Model, table="visits"):
        places: RelatedList[Place] = relationship(through=Place)


def _checked_without_reference() -> None:
    class Visit(Model, table="visits"):
        text: Mapped[str] = field(check=True)


WRONG: list[tuple[Callable[[], object], str]] = [
    (
        _no_reference,
        r"relationship\('place_id'\) names no reference of its own model \(there are none\), and no index of Place",
    ),
    (_another_model, r"Visit\.visit_id refers to Visit, not to Place"),
    (_another_type, r"Visit\.place_id holds a number, Place\.id a string"),
    (_no_index, r"Place has no index 'by_visit'; there are by_place_id, by_place_name"),
    (_no_reference_first, r"by_place_name' of Place is no reference; declare it as Mapped\[Id\['Visit'\]\]"),
    (_no_annotation, r"visits\.place: a relationship\(\) without an annotation"),
    (_a_column, r"a relationship is annotated with Related\[...\] or RelatedList\[...\]"),
    (_two_models, r"a relation leads to documents of one model"),
    (_deleting_one, r"on_delete= is about documents that refer here"),
    (
        _one_of_several,
        r"index 'by_place' of Visit has to be unique, and on 'place_id' alone",
    ),
    (_one_that_has_to_be, r"there may be no such document: annotate it with Related\[Visit \| None\]"),
    (_of_several_attributes, r"guests\.seat_id: Seat has a primary key of several attributes"),
    (_nullify_what_may_not_be, r"on_delete='nullify' needs Part\.visit_id to take None"),
    (_two_ways_of_deleting, r"'nullify' is what deleting a Visit does to a Part .* 'newest' says 'restrict' of the same"),
    (_another_way_in_a_subclass, r"'nullify' is what deleting a LongVisit does to a LargePart .* 'large' says 'cascade'"),
    (_another_way_with_the_rows_between, r"'restrict' is what deleting a Visit does to a Part .* 'places' says 'cascade'"),
    (_through_without_references, r"Place needs an index whose first attribute refers to Visit"),
    (_checked_without_reference, r"check=True is for a reference"),
    (lambda: relationship(), r"names a reference, an index of the other model, or through="),
    (lambda: relationship("x", on_delete="explode"), r"on_delete is 'cascade', 'restrict' or 'nullify'"),  # type: ignore[arg-type]
    (lambda: field(references=5), r"references takes a model or its name"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("declare", "problem"), WRONG, ids=[declare.__name__ for declare, _ in WRONG])
def test_what_contradicts_itself_is_refused(declare: Callable[[], Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        declare()


def test_a_class_may_say_otherwise_what_deleting_its_own_documents_does() -> None:
    class Visit(Model, table="visits", primary_key="id"):
        id: Mapped[str]
        parts: RelatedList[Part] = relationship("by_visit", on_delete="nullify")
        newest: RelatedList[Part] = relationship("by_age")
        by_visit_id = Index("id")

    class LongVisit(Visit, discriminator="long"):
        parts: RelatedList[Part] = relationship("by_age", on_delete="cascade")

    class Part(Model, table="parts", primary_key="id"):
        id: Mapped[str]
        visit_id: Mapped[str | None] = field(references=Visit, default=None)
        age: Mapped[int] = field(default=0)
        by_part_id = Index("id")
        by_visit = Index("visit_id")
        by_age = Index("visit_id", "age")

    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Visit(id="a"), LongVisit(id="b"), Part(id="of a", visit_id="a"), Part(id="of b", visit_id="b")])
        session.commit()
        session.delete_range(Visit.query().full_scan())
        session.commit()
        assert [(part.id, part.visit_id) for part in session.all(Part.query().full_scan())] == [("of a", None)]


def test_relations_are_inherited() -> None:
    class Owned(Model):
        owner_id: Mapped[str] = field(references="Owner", default=UNSET)
        owner: Related[Owner] = relationship("owner_id")

    class Owner(Model, table="owners", primary_key="id"):
        id: Mapped[str]
        pets: RelatedList[Pet] = relationship("by_owner", on_delete="cascade")
        by_owner_id = Index("id")

    class Pet(Owned, table="pets", primary_key="id", discriminator_field="kind"):
        id: Mapped[str]
        by_pet_id = Index("id")
        by_owner = Index("owner_id")

    class Dog(Pet, discriminator="dog"):
        friend_id: Mapped[str | None] = field(references="Pet", default=None)
        friend: Related[Pet | None] = relationship("friend_id")

    class Cat(Pet, discriminator="cat"):
        lives: Mapped[int] = field(default=9)

    with connect("memory:") as deployment, Session(deployment) as session:
        owner = Owner(id="o")
        session.add(Dog(id="d", owner=owner, friend=Cat(id="c", owner=owner)))
        session.commit()
        session.expunge_all()
        owner = session.get_one(Owner, "o", load=[Owner.pets.load(Dog.friend, Pet.owner)])
        cat, dog = sorted(owner.pets, key=lambda pet: pet.id)
        assert isinstance(dog, Dog)
        assert (dog.friend, dog.owner) == (cat, owner)
        assert session.all(Dog.query().full_scan().where(Dog.friend.has(Cat.lives == 9))) == [dog]
        session.delete(owner)
        session.commit()
        assert session.count(Pet.query().full_scan()) == 0


def test_what_deleting_does_has_to_be_known() -> None:
    class Shelf(Model, table="shelves"):
        books: RelatedList[Nowhere] = relationship("by_shelf", on_delete="cascade")  # type: ignore[name-defined]  # noqa: F821

    with connect("memory:") as deployment, Session(deployment) as session:
        shelf = Shelf()
        session.add(shelf)
        session.commit()
        session.delete(shelf)
        with pytest.raises(InvalidRequestError, match="a relation of Shelf speaks of a class that is not there"):
            session.commit()


def test_a_relation_of_an_instance_that_is_not_made_says_so() -> None:
    class Half(Model, table="halves"):
        other_id: Mapped[str | None] = field(default=None, references="Half")
        other: Related[Half | None] = relationship("other_id")

    half = Half.__new__(Half)
    with pytest.raises(AttributeError, match=r"^Half.other is not set: this Half is not made yet"):
        half.other  # noqa: B018
    with pytest.raises(InvalidRequestError, match="this Half is not made yet"):
        half.other = None
