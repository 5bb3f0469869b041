"""Getting, upserting and creating by the fields of a unique index."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from convexorm import (
    AsyncSession,
    Deployment,
    DeploymentError,
    IndexRangeError,
    InvalidRequestError,
    MultipleResultsFound,
    NoResultFound,
    Session,
    StaleDataError,
    ValidationError,
    connect,
)
from convexorm.requests import Applied, Commit
from tests.test_conformance import Lossy
from tests.unique.conftest import Open
from tests.unique.models import Animal, Customer, Seat, Thing, Unaware
from tests.unique.test_keys import save, stored

# -- get -----------------------------------------------------------------------------------------------------------


async def test_a_document_is_got_by_the_fields_of_a_unique_index(open_: Open) -> None:
    await save(open_(), Customer(id="a", email="a@x"), Seat(row="r", number=1), Seat(row="r"))
    session = open_()
    found = await session.get(Customer, email="a@x")
    assert found is await session.get_one(Customer, "a")
    assert found is await session.get_one(Customer, id="a")
    assert await session.get(Customer, email="b@x") is None
    assert (await session.get_one(Seat, number=1, row="r")).number == 1
    assert (await session.get_one(Seat, row="r", number=None)).number is None
    with pytest.raises(NoResultFound):
        await session.get_one(Customer, email="b@x")


async def test_what_is_pending_is_seen_as_by_get(open_: Open) -> None:
    await save(open_(), Customer(id="a", email="a@x"), Customer(id="b", email="b@x"))
    session = open_()
    new, other = Customer(id="n", email="n@x"), Customer(id="o", email="o@x")
    await session.add(new)
    await session.upsert(other)
    assert await session.get(Customer, email="n@x") is new
    assert await session.get(Customer, email="o@x") is other
    new.email = "m@x"
    assert await session.get(Customer, email="m@x") is new
    assert await session.get(Customer, email="n@x") is None
    found = await session.get_one(Customer, email="a@x")
    await session.delete(found)
    await session.delete_key(Customer, "b")
    assert await session.get(Customer, email="a@x") is None
    assert await session.get(Customer, email="b@x") is None
    again = Customer(id="a", email="other@x")
    await session.add(again)
    assert await session.get(Customer, email="a@x") is None
    assert await session.get(Customer, email="other@x") is again
    await session.rollback()
    assert await session.get(Customer, email="a@x") is not None
    assert await session.get(Customer, email="other@x") is None


async def test_it_is_read_where_it_stands_now_and_answered_as_the_session_has_it(open_: Open) -> None:
    await save(open_(), Customer(id="a", email="a@x"), Customer(id="b", email="b@x"))
    session = open_()
    one = await session.get_one(Customer, email="a@x")
    one.name = "changed here"
    elsewhere = open_()
    await elsewhere.update(Customer, "a", {"email": "b@x"})
    await elsewhere.update(Customer, "b", {"email": "a@x"})
    await elsewhere.commit()
    two = await session.get_one(Customer, email="a@x")
    assert (two.id, one.name) == ("b", "changed here")
    assert await session.get_one(Customer, email="b@x") is one


async def test_several_documents_with_one_key_are_told_and_not_chosen_from(open_: Open) -> None:
    await save(open_(tables={"unaware": "customers"}), Unaware(id="a", email="a@x"), Unaware(id="b", email="a@x"))
    session = open_()
    with pytest.raises(MultipleResultsFound) as caught:
        await session.get(Customer, email="a@x")
    assert "by_email" in str(caught.value)
    with pytest.raises(MultipleResultsFound):
        await session.get_or_create(Customer, email="a@x", defaults={"id": "c"})
    await session.upsert(Customer(id="c", email="a@x"), by="by_email")
    with pytest.raises(StaleDataError) as stale:
        await session.commit()
    assert (stale.value.reason, stale.value.fields) == ("exists", ("email",))
    await session.rollback()
    query = Customer.query().by_index("by_email", Customer.email > "")
    groups = itertools.groupby([one async for one in session.stream(query)], key=lambda one: one.email)
    assert [[one.id for one in holders] for _, holders in groups] == [["a", "b"]]


@pytest.mark.parametrize(
    ("model", "key", "values", "error", "says"),
    [
        (Customer, (), {"name": "x"}, InvalidRequestError, r"\[name\].*unique are \[id\], \[email\]"),
        (Customer, (), {"email": "a", "name": "x"}, InvalidRequestError, r"\[email, name\]"),
        (Customer, (), {"emial": "a"}, ValidationError, "emial"),
        (Customer, (), {"email": 5}, ValidationError, "email"),
        (Customer, (), {"email": None}, InvalidRequestError, "lack"),
        (Customer, (), {}, InvalidRequestError, "key"),
        (Customer, ("a",), {"email": "a"}, InvalidRequestError, "both"),
        (Seat, (), {"row": "a"}, InvalidRequestError, r"unique is \[row, number\]"),
        (Seat, (), {"row": None, "number": None}, InvalidRequestError, "lack"),
        (Thing, (), {"either": None}, InvalidRequestError, "lack"),
        (Animal, (), {"chip": "x"}, ValidationError, "chip"),
        (Animal, (), {"kind": "dog"}, ValidationError, "kind"),
    ],
    ids=lambda value: None if isinstance(value, type) else str(value),
)
def test_other_attributes_are_refused(
    model: Any, key: tuple[str, ...], values: dict[str, Any], error: type[Exception], says: str
) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        for method in (session.get, session.get_one):
            with pytest.raises(error, match=says):
                method(model, *key, **values)
        if not key:
            with pytest.raises(error, match=says):
                session.get_or_create(model, **values)


# -- upsert by -----------------------------------------------------------------------------------------------------


async def test_an_upsert_by_a_unique_index_keeps_the_id_and_the_primary_key_of_what_is_stored(open_: Open) -> None:
    first = open_()
    await save(first, Customer(id="a", email="a@x", name="old", tags=["x"]))
    stored_id = (await first.get_one(Customer, "a")).convex_id
    session = open_()
    instance = Customer(id="b", email="a@x", name="new")
    await session.upsert(instance, by="by_email")
    assert await session.get(Customer, email="a@x") is instance
    await session.commit()
    assert (instance.id, instance.convex_id, instance.name, instance.tags) == ("a", stored_id, "new", [])
    assert await session.get(Customer, "a") is instance
    assert await session.get(Customer, "b") is None
    assert session.dirty == []
    instance.name = "newer"
    instance.tags.append("y")
    await session.commit()
    found = await open_().get_one(Customer, "a")
    assert (found.name, found.tags, found.email) == ("newer", ["y"], "a@x")
    assert await open_().count(Customer.query().full_scan()) == 1


async def test_an_upsert_by_a_unique_index_inserts_where_there_is_none(open_: Open) -> None:
    session = open_()
    one, two = Customer(id="a", email="a@x"), Customer(id="b", email="b@x")
    await session.upsert(one, by=Customer.by_email)
    await session.upsert(two, by="by_email")
    await session.commit()
    assert (one.id, two.id) == ("a", "b")
    assert one.creation_time
    await session.upsert(Customer(id="a", email="c@x"), by="by_email")
    with pytest.raises(StaleDataError) as caught:
        await session.commit()
    assert (caught.value.reason, caught.value.fields) == ("exists", ("id",))
    assert await stored(open_) == {"a": "a@x", "b": "b@x"}


async def test_an_upsert_by_a_unique_index_takes_the_place_of_the_instance_that_was_held(open_: Open) -> None:
    session = open_()
    held = Customer(id="a", email="a@x", name="held")
    await save(session, held)
    mine, last = Customer(id="b", email="a@x", name="mine"), Customer(id="c", email="a@x", name="last")
    await session.upsert(mine, by="by_email", keep=["name"])
    await session.upsert(last, by="by_email", keep=["name"])
    await session.commit()
    assert [one in session for one in (held, mine, last)] == [False, False, True]
    assert await session.get(Customer, "a") is last
    await session.refresh(last)
    assert (last.id, last.name) == ("a", "held")


async def test_an_upsert_by_a_unique_index_of_several_fields_and_without_a_primary_key(open_: Open) -> None:
    session = open_()
    await save(session, Seat(row="r", guest="old"), Seat(row="r", number=1))
    seat = Seat(row="r", guest="new")
    await session.upsert(seat, by="by_place")
    await session.commit()
    assert {(one.row, one.number, one.guest) for one in await open_().all(Seat.query().full_scan())} == {
        ("r", None, "new"),
        ("r", 1, ""),
    }
    assert seat.convex_id == (await open_().get_one(Seat, row="r", number=None)).convex_id


async def test_an_upsert_by_the_primary_index_is_an_upsert(open_: Open) -> None:
    session = open_()
    await save(session, Customer(id="a", email="a@x"), Thing(key="k", value=1, null="1"))
    await session.upsert(Customer(id="a", email="b@x"), by="by_customer_id")
    await session.upsert(Thing(key="k", value=2, null="1"), by="by_key")
    await session.commit()
    assert await stored(open_) == {"a": "b@x"}
    assert (await open_().get_one(Thing, "k")).value == 2


async def test_the_answer_that_was_lost_tells_the_primary_key_as_well(open_: Open, empty: Deployment) -> None:
    await save(open_(), Customer(id="a", email="a@x"))
    session = AsyncSession(empty, _port=Lossy(empty.asynchronous))
    instance = Customer(id="b", email="a@x")
    session.upsert(instance, by="by_email")
    with pytest.raises(DeploymentError):
        await session.commit()
    await session.commit()
    assert instance.id == "a"


@pytest.mark.parametrize(
    ("instance", "by", "error"),
    [
        (Customer(id="a", email="x"), "by_name", IndexRangeError),
        (Customer(id="a", email="x"), "by_nope", IndexRangeError),
        (Customer(id="a", email="x"), "email", IndexRangeError),
        (Customer(id="a", email="x"), 5, IndexRangeError),
        (Seat(row="r"), None, InvalidRequestError),
    ],
)
def test_an_upsert_by_anything_else_is_refused_at_once(instance: Any, by: Any, error: type[Exception]) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        with pytest.raises(error):
            session.upsert(instance, by=by)
        assert session.new == []


def test_an_upsert_by_fields_that_are_all_missing_is_refused() -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.upsert(Customer(id="a"), by="by_email")
        with pytest.raises(ValidationError, match="by_email"):
            session.commit()


# -- get or create -------------------------------------------------------------------------------------------------


async def test_what_is_there_is_answered_and_what_is_not_is_created_in_a_commit_of_its_own(open_: Open) -> None:
    session = open_()
    pending = Customer(id="p", email="p@x")
    await session.add(pending)
    made, created = await session.get_or_create(Customer, email="a@x", defaults={"id": "a", "name": "Ada"})
    assert (created, made.id, made.email, made.name, made in session) == (True, "a", "a@x", "Ada", True)
    assert made.creation_time
    assert session.new == [pending]
    assert await stored(open_) == {"a": "a@x"}
    assert await session.get_or_create(Customer, email="a@x", defaults={"id": "b"}) == (made, False)
    assert await session.get_or_create(Customer, email="p@x", defaults={"id": "b"}) == (pending, False)
    assert await session.get_or_create(Customer, id="a") == (made, False)
    made.tags.append("t")
    await session.commit()
    assert (await open_().get_one(Customer, "a")).tags == ["t"]
    assert await stored(open_) == {"a": "a@x", "p": "p@x"}
    by_key, created = await session.get_or_create(Customer, id="k")
    assert (by_key.id, created) == ("k", True)


async def test_what_clashes_otherwise_is_refused(open_: Open) -> None:
    session = open_()
    await save(session, Customer(id="a", email="a@x"))
    with pytest.raises(StaleDataError) as caught:
        await session.get_or_create(Customer, email="b@x", defaults={"id": "a"})
    assert (caught.value.reason, caught.value.fields) == ("exists", ("id",))
    assert session.new == []
    with pytest.raises(InvalidRequestError, match="default"):
        await session.get_or_create(Customer, email="b@x", defaults={"email": "c@x"})
    with pytest.raises(ValidationError):
        await session.get_or_create(Customer, email="b@x")
    await session.delete(await session.get_one(Customer, "a"))
    for values in ({"email": "a@x"}, {"id": "a"}):
        with pytest.raises(StaleDataError):
            await session.get_or_create(Customer, defaults={} if "id" in values else {"id": "b"}, **values)
    await session.commit()
    assert await stored(open_) == {}
    assert (await session.get_or_create(Customer, email="a@x", defaults={"id": "b"}))[1]


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "never arrived"])
async def test_it_is_created_once_where_the_answer_is_lost(open_: Open, empty: Deployment, applied: bool) -> None:
    session = AsyncSession(empty, _port=Lossy(empty.asynchronous, applied=applied))
    with pytest.raises(DeploymentError):
        await session.get_or_create(Customer, email="a@x", defaults={"id": "a"})
    found, created = await session.get_or_create(Customer, email="a@x", defaults={"id": "b"})
    assert (found.id, created) == (("a", False) if applied else ("b", True))
    assert list((await stored(open_)).values()) == ["a@x"]


class Overtaken(Lossy):
    """A port before whose first commits another writer makes a customer, who may be gone again after them."""

    def __init__(self, deployment: Deployment, id: str, *, gone: bool, times: int = 1) -> None:
        super().__init__(deployment.asynchronous, losses=0)
        self.other = Session(deployment)
        self.id, self.gone, self.times = id, gone, times

    async def commit(self, commit: Commit) -> list[Applied]:
        if not self.times:
            return await super().commit(commit)
        self.times -= 1
        self.other.bulk_upsert(Customer, [{"id": self.id, "email": "a@x"}])
        try:
            return await super().commit(commit)
        finally:
            if self.gone:
                self.other.delete_all(Customer.query().full_scan())


@pytest.mark.parametrize("id", ["other", "mine"], ids=["with another primary key", "with the same primary key"])
async def test_who_is_too_late_is_answered_what_the_other_has_made(open_: Open, empty: Deployment, id: str) -> None:
    session = AsyncSession(empty, _port=Overtaken(empty, id, gone=False))
    found, created = await session.get_or_create(Customer, email="a@x", defaults={"id": "mine", "name": "mine"})
    assert (found.id, found.name, created) == (id, "", False)
    assert await stored(open_) == {id: "a@x"}


async def test_what_is_there_and_gone_again_is_created_in_the_end(open_: Open, empty: Deployment) -> None:
    session = AsyncSession(empty, _port=Overtaken(empty, "other", gone=True, times=3))
    found, created = await session.get_or_create(Customer, email="a@x", defaults={"id": "mine"})
    assert (found.id, created) == ("mine", True)
    session = AsyncSession(empty, _port=Overtaken(empty, "other", gone=True, times=99))
    Session(empty).delete_all(Customer.query().full_scan())
    with pytest.raises(StaleDataError):
        await session.get_or_create(Customer, email="a@x", defaults={"id": "mine"})
    assert await stored(open_) == {}
