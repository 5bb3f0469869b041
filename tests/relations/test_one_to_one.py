"""Relations to the one document that refers here, to others of the own kind, and what leaves the session."""

from __future__ import annotations

import copy
import pickle

import pytest

from convexorm import NotLoadedError, StaleDataError, ValidationError
from tests.relations.conftest import Open, save
from tests.relations.models import Friendship, Locker, Passport, Person


async def people(open_: Open) -> None:
    ada, bob = Person(id="ada"), Person(id="bob")
    await save(open_(), ada, bob, Passport(number="p1", holder_id="ada"), Locker(number=7, user=bob))


async def test_the_one_document_that_refers_here_is_loaded_or_none(open_: Open) -> None:
    await people(open_)
    query = Person.query().by_index("by_person_id").load(Person.passport.load(Passport.holder), Person.locker)
    ada, bob = await open_().all(query)
    assert ada.passport is not None
    assert (ada.passport.number, ada.passport.holder, ada.locker, bob.passport) == ("p1", ada, None, None)
    assert bob.locker is not None
    assert (bob.locker.number, bob.locker.user) == (7, bob)
    session = open_()
    ada = await session.get_one(Person, "ada")
    with pytest.raises(NotLoadedError, match=r"Person\.passport"):
        _ = ada.passport
    await session.load(ada, Person.passport)
    assert ada.passport is not None
    has = Person.query().by_index("by_person_id").where(Person.passport.has(Passport.number >= "p"))
    assert [one.id for one in await session.all(has)] == ["ada"]
    assert "for each id 1 document of passports by by_holder" in has.load(Person.passport).explain()


async def test_setting_it_sets_the_reference_and_both_ends_stay_in_step(open_: Open) -> None:
    await people(open_)
    session = open_()
    bob = await session.get_one(Person, "bob", load=[Person.passport, Person.locker])
    bob.passport = Passport(number="p2")
    assert (bob.passport.holder_id, bob.passport.holder) == ("bob", bob)
    locker = bob.locker
    assert locker is not None
    bob.locker = None
    assert (locker.user_id, locker.user) == (None, None)
    await session.commit()
    again = await open_().get_one(Person, "bob", load=[Person.passport, Person.locker])
    assert again.passport is not None
    assert (again.passport.number, again.locker) == ("p2", None)
    locker.user = bob
    assert bob.locker is locker
    await session.rollback()
    assert bob.locker is None
    new = Person(id="eve", passport=Passport(number="p3"))
    await save(session, new)
    assert (await open_().get_one(Passport, "p3", load=[Passport.holder])).holder.id == "eve"
    with pytest.raises(ValidationError, match="expected Passport"):
        new.passport = locker


async def test_a_second_one_is_refused_until_the_first_is_gone(open_: Open) -> None:
    await people(open_)
    session = open_()
    ada = await session.get_one(Person, "ada", load=[Person.passport])
    old = ada.passport
    assert old is not None
    renewed = Passport(number="p9", holder=ada)
    assert ada.passport is renewed
    await session.add(renewed)
    with pytest.raises(StaleDataError) as refused:
        await session.commit()
    assert (refused.value.reason, refused.value.fields) == ("exists", ("holder_id",))
    await session.delete(old)
    await session.commit()
    assert ada.passport is renewed
    assert await open_().get(Passport, "p1") is None


async def test_deleting_does_to_it_what_is_said(open_: Open) -> None:
    await people(open_)
    session = open_()
    for one in await session.all(Person.query().by_index("by_person_id")):
        await session.delete(one)
    await session.commit()
    assert await open_().count(Passport.query().full_scan()) == 0
    (locker,) = await open_().all(Locker.query().full_scan())
    assert locker.user_id is None


async def test_people_like_each_other_through_rows_that_may_be_there_twice(open_: Open) -> None:
    session = open_()
    ada, bob = Person(id="ada"), Person(id="bob")
    ada.likes.extend([bob, ada])
    assert (bob.liked_by, ada.liked_by) == ([ada], [ada])
    await save(session, ada)
    await save(open_(), Friendship(one_id="ada", other_id="bob"))  # once more
    session = open_()
    ada = await session.get_one(Person, "ada", load=[Person.likes, Person.liked_by])
    assert [one.id for one in ada.likes] == ["bob", "ada"]
    ada.likes.remove(ada.likes[0])
    await session.commit()
    ada = await open_().get_one(Person, "ada", load=[Person.likes])
    assert [one.id for one in ada.likes] == ["ada"]
    assert await open_().count(Friendship.query().full_scan()) == 1


# -- what leaves the session ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
async def test_what_was_loaded_is_pickled_along(open_: Open, protocol: int) -> None:
    await people(open_)
    session = open_()
    query = Person.query().by_index("by_person_id").load(Person.passport, Person.locker, Person.likes, Person.liked_by)
    ada, bob = await session.all(query)
    ada.likes.append(bob)
    here, there = pickle.loads(pickle.dumps((ada, bob), protocol))
    assert here.passport.holder is here
    assert (here.likes, there.liked_by, here.locker, there.locker.user) == ([there], [here], None, there)
    assert not any(one in session for one in (here, there, here.passport, there.locker))
    assert repr(here).endswith("(detached)>")
    alone = pickle.loads(pickle.dumps(await open_().get_one(Person, "ada"), protocol))
    with pytest.raises(NotLoadedError):
        _ = alone.passport
    assert pickle.loads(pickle.dumps(ada.likes, protocol)) == [bob] or type(pickle.loads(pickle.dumps(ada.likes))) is list
    merged = await session.merge(here)
    assert merged is ada


async def test_a_copy_refers_to_the_same_and_has_lists_of_its_own(open_: Open) -> None:
    await people(open_)
    session = open_()
    passport = await session.get_one(Passport, "p1", load=[Passport.holder])
    bob = await session.get_one(Person, "bob", load=[Person.locker])
    for copied in (copy.copy, copy.deepcopy):
        twin, other = copied(passport), copied(bob)
        assert twin.holder is passport.holder
        assert other.locker is None
        assert bob.locker is not None
    twin = copy.deepcopy(passport)
    twin.number, twin.holder = "p5", bob
    await session.add(twin)
    await session.commit()
    assert (await open_().get_one(Passport, "p5")).holder_id == "bob"
    assert passport.holder.id == "ada"


async def test_a_copy_may_go_into_another_session(open_: Open) -> None:
    await people(open_)
    passport = await open_().get_one(Passport, "p1", load=[Passport.holder])
    twin, session = copy.copy(passport), open_()
    twin.number, twin.holder_id = "p6", "bob"
    await session.add(twin)
    await session.commit()
    assert (await open_().get_one(Passport, "p6")).holder_id == "bob"
    again = copy.copy(passport)
    again.number = "p7"
    await session.add(again)  # its reference leads to what another session holds
    with pytest.raises(StaleDataError):
        await session.commit()


@pytest.mark.parametrize("way", ["expunge", "delete", "delete_range", "elsewhere"])
async def test_what_was_there_before_shows_again_when_what_came_in_its_place_is_gone(open_: Open, way: str) -> None:
    session = open_()
    await save(session, Person(id="ada"), Passport(number="old", holder_id="ada"), Person(id="bob"))
    ada = await session.get_one(Person, "ada", load=[Person.passport])
    old = ada.passport
    new = Passport(number="new", holder=ada)
    await session.add(new)
    assert ada.passport is new
    if way == "expunge":
        await session.expunge(new)
    elif way == "delete":
        await session.delete(new)
    elif way == "delete_range":
        await session.delete_range(Passport.query().by_index("by_number", number="new"))
        await session.commit()
    else:
        new.holder = await session.get_one(Person, "bob")
    assert ada.passport is old
    assert old is not None
    old.holder = await session.get_one(Person, "bob")
    assert ada.passport is None
