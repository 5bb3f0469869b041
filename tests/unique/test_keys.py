"""Every commit keeps unique indexes: whatever writes, no two documents hold one key, and what would is refused whole."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from convexorm import AsyncSession, Index, Mapped, Session, StaleDataError, ValidationError, connect, field, func
from convexorm.mapping.model import Model
from convexorm.testing import fake_session
from tests.unique.conftest import Open
from tests.unique.models import Animal, Cat, Customer, Dog, Renamed, Seat, Thing, Unaware

CUSTOMERS = Customer.query().full_scan()


async def save(session: AsyncSession, *instances: Model) -> None:
    await session.add_all(instances)
    await session.commit()


async def refused(session: AsyncSession) -> StaleDataError:
    with pytest.raises(StaleDataError) as caught:
        await session.commit()
    assert caught.value.reason == "exists"
    return caught.value


async def stored(open_: Open) -> dict[str, str | None]:
    return {one.id: one.email for one in await open_().all(CUSTOMERS)}


# -- each way to write ---------------------------------------------------------------------------------------------


async def add(session: AsyncSession) -> None:
    await session.add(Customer(id="c", email="a@x"))


async def add_without_looking_at_the_primary_key(session: AsyncSession) -> None:
    await session.add(Customer(id="c", email="a@x"), unique=False)


async def add_with_a_query(session: AsyncSession) -> None:
    await session.add(Customer(id="c", email="a@x", name="c"), unique=Customer.query().by_index("by_name", name="c"))


async def change(session: AsyncSession) -> None:
    (await session.get_one(Customer, "b")).email = "a@x"


async def upsert(session: AsyncSession) -> None:
    await session.upsert(Customer(id="b", email="a@x"))


async def upsert_a_new_one(session: AsyncSession) -> None:
    await session.upsert(Customer(id="c", email="a@x"))


async def update(session: AsyncSession) -> None:
    await session.update(Customer, "b", {"email": "a@x", "name": "new"})


async def update_to_the_greatest(session: AsyncSession) -> None:
    await session.update(Customer, "b", {"email": "a@x"})
    await session.update(Customer, "b", {"email": func.greatest(Customer.email, "")})


async def update_with_a_query(session: AsyncSession) -> None:
    await session.update(Customer, "b", {"email": "a@x"}, unique=Customer.query().by_index("by_name", name="b"))


async def merge(session: AsyncSession) -> None:
    await session.merge(Customer(id="b", email="a@x"))


WAYS: list[Callable[[AsyncSession], Awaitable[None]]] = [
    *(add, add_without_looking_at_the_primary_key, add_with_a_query, change, upsert, upsert_a_new_one, update),
    *(update_to_the_greatest, update_with_a_query, merge),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_what_would_take_the_key_of_another_document_is_refused_whole(
    open_: Open, way: Callable[[AsyncSession], Awaitable[None]]
) -> None:
    await save(open_(), Customer(id="a", email="a@x"), Customer(id="b", email="b@x"))
    session = open_()
    await way(session)
    await session.add(Customer(id="other"))
    error = await refused(session)
    assert (error.table, error.fields) == ("customers", ("email",))
    assert "email" in str(error)
    assert "a@x" not in str(error)
    assert await stored(open_) == {"a": "a@x", "b": "b@x"}


async def test_rows_in_bulk_are_refused_all_together(open_: Open) -> None:
    await save(open_(), Customer(id="a", email="a@x"))
    for rows in ([("b", "b@x"), ("c", "a@x")], [("b", "b@x"), ("c", "b@x")]):
        with pytest.raises(StaleDataError) as caught:
            await open_().bulk_upsert(Customer, [{"id": id, "email": email} for id, email in rows])
        assert (caught.value.write, caught.value.reason, caught.value.fields) == (1, "exists", ("email",))
    assert await stored(open_) == {"a": "a@x"}
    await open_().bulk_upsert(
        Customer, [{"id": "a", "email": "b@x"}, {"id": "b", "email": "a@x"}, {"id": "c"}, {"id": "d"}]
    )
    assert await stored(open_) == {"a": "b@x", "b": "a@x", "c": None, "d": None}


async def test_the_primary_key_is_named_likewise(open_: Open) -> None:
    await save(open_(), Customer(id="a", email="a@x"))
    session = open_()
    await session.add(Customer(id="a", email="b@x"))
    assert (await refused(session)).fields == ("id",)
    session = open_()
    taken = Customer(id="b", email="a@x")
    await session.add_all([Customer(id="c"), taken])
    error = await refused(session)
    assert (error.write, error.instance) == (1, taken)
    taken.email = "b@x"
    await session.commit()
    assert await stored(open_) == {"a": "a@x", "c": None, "b": "b@x"}


# -- within one commit ---------------------------------------------------------------------------------------------


async def test_two_that_share_a_key_in_one_commit_are_refused(open_: Open) -> None:
    session = open_()
    await session.add_all([Customer(id="a", email="a@x"), Customer(id="b", email="a@x")])
    assert (await refused(session)).write == 1
    session = open_()
    await session.upsert(Customer(id="a", email="a@x"))
    await session.upsert(Customer(id="b", email="a@x"))
    await refused(session)
    assert await stored(open_) == {}


async def test_what_counts_is_how_it_ends(open_: Open) -> None:
    await save(open_(), Customer(id="a", email="a@x"), Customer(id="b", email="b@x"), Customer(id="c", email="c@x"))
    session = open_()
    one, two = await session.get_one(Customer, "a"), await session.get_one(Customer, "b")
    one.email, two.email = two.email, one.email
    await session.commit()
    assert await stored(open_) == {"a": "b@x", "b": "a@x", "c": "c@x"}

    await session.update(Customer, "a", {"email": "c@x"})
    await session.update(Customer, "c", {"email": "a@x"})
    await session.update(Customer, "b", {"email": "b@x"})
    await session.commit()
    assert await stored(open_) == {"a": "c@x", "b": "b@x", "c": "a@x"}
    assert (one.email, two.email) == ("c@x", "b@x")

    await session.add(Customer(id="d", email="b@x"))
    await session.delete(two)
    await session.commit()
    await session.delete_key(Customer, "d")
    await session.add(Customer(id="d", email="b@x"))
    await session.commit()
    assert await stored(open_) == {"a": "c@x", "c": "a@x", "d": "b@x"}

    await session.add(Customer(id="e", email="a@x"))
    await session.delete_range(Customer.query().by_index("by_email", email="a@x").limit(1))
    await session.commit()
    assert await stored(open_) == {"a": "c@x", "e": "a@x", "d": "b@x"}


async def test_only_changes_of_the_key_ask_for_it(open_: Open) -> None:
    """Documents that share a key, since something else wrote them, can still be changed otherwise, and mended."""
    await save(open_(), Customer(id="a", email="a@x"))
    other = open_(tables={"unaware": "customers"})
    await save(other, Unaware(id="b", email="a@x"))
    session = open_()
    one, two = await session.all(CUSTOMERS)
    two.name = "new"
    await session.upsert(Customer(id="c", email=None))
    await session.commit()
    await session.update(Customer, "a", {"email": "a@x"})
    await session.upsert(Customer(id="a", email="a@x", name="upserted"))
    await session.commit()
    two.email = "b@x"
    await session.commit()
    assert await stored(open_) == {"a": "a@x", "b": "b@x", "c": None}
    assert (one.id, two.name) == ("a", "new")


# -- what a key is -------------------------------------------------------------------------------------------------


async def test_documents_that_lack_all_fields_do_not_clash_and_a_missing_field_equals_a_missing_field(open_: Open) -> None:
    await save(
        open_(), Seat(guest="standing"), Seat(guest="standing"), Seat(row="a"), Seat(number=1), Seat(row="a", number=1)
    )
    session = open_()
    for taken in (Seat(row="a"), Seat(number=1), Seat(row="a", number=1)):
        await session.add(taken)
        assert (await refused(session)).fields == ("rowName", "number")
        await session.rollback()
    seat = await session.get_one(Seat, row="a", number=1)
    seat.row = None
    assert (await refused(session)).instance is seat
    seat.number = None
    await session.commit()
    seat.guest = "sits"
    await session.update(Seat, seat.convex_id, {"row": "b"})
    await session.commit()
    assert (await session.get_one(Seat, row="b", number=None)).guest == "sits"
    await session.update(Seat, seat.convex_id, {"number": 1, "row": None})
    await refused(session)


VALUES: list[Any] = [
    *(0.0, -0.0, 1.0, 2.0**53, math.inf, -math.inf, True, False, "", "a", "a\0", "a\0b", "A", "é", "e\u0301"),
    *("\U0001f600", "$id", "a.b", "' OR 1=1 --", "\u2028", b"", b"a", b"\xff\0", [], [1.0], [[1.0]], [-0.0]),
    *([0.0], {}, {"a": 1.0}, {"a": {"b": None}}, ["a", "b"], ["ab"]),
]


class NumberedSeat(Model, table="seats"):
    """Seats that have come to be numbered, by a program that is newer than some of them."""

    row: Mapped[str | None] = field(name="rowName", default=None)
    number: Mapped[int] = field(default=1)
    guest: Mapped[str] = field(default="")
    by_place = Index("row", "number", unique=True)


async def test_a_document_older_than_an_attribute_has_no_default_in_its_key_nor_in_queries(open_: Open) -> None:
    await save(open_(), Seat(row="a"))
    session = open_()
    old = await session.one(NumberedSeat.query().full_scan())
    assert (old.row, old.number) == ("a", 1)
    of_default = NumberedSeat.query().by_index("by_place", row="a", number=1)
    assert await session.all(of_default) == []
    assert await session.get(NumberedSeat, row="a", number=1) is None

    new, created = await session.get_or_create(NumberedSeat, row="a", number=1)
    assert created
    assert await session.all(of_default) == [new]
    assert await session.get(NumberedSeat, row="a", number=1) is new
    old.number = 1  # which is stored, though it is what it shows
    assert (await refused(session)).fields == ("rowName", "number")

    await session.rollback()
    await session.delete(new)
    await session.commit()
    assert (
        await session.update_all(
            NumberedSeat.query().where(NumberedSeat.number.is_missing()).full_scan(), {NumberedSeat.number: 1}
        )
        == 1
    )
    assert await session.get(NumberedSeat, row="a", number=1) is old
    assert await session.get_or_create(NumberedSeat, row="a", number=1) == (old, False)
    await session.add(NumberedSeat(row="a"))
    assert (await refused(session)).fields == ("rowName", "number")


async def test_values_of_any_type_are_told_apart_and_known_again(open_: Open) -> None:
    session = open_()
    things = [Thing(key=str(place), value=value, null=str(place)) for place, value in enumerate(VALUES)]
    await save(session, *things)
    for place, value in enumerate(VALUES):
        await session.add(Thing(key="new", value=value, null="new"))
        assert (await refused(session)).fields == ("value",)
        await session.rollback()
        found = await session.get_one(Thing, value=value)
        assert found is things[place]
    things[0].value, things[1].value = things[1].value, things[0].value  # -0.0 and 0.0
    await session.commit()
    assert [math.copysign(1, (await open_().get_one(Thing, str(place))).value) for place in (0, 1)] == [-1, 1]


async def test_a_null_is_a_value_and_no_field_is_none(open_: Open) -> None:
    session = open_()
    await save(session, Thing(key="a", value=1))
    assert (await session.get_one(Thing, null=None)).key == "a"
    await session.add(Thing(key="b", value=2))
    assert (await refused(session)).fields == ("null",)
    await session.rollback()
    await save(session, Thing(key="b", value=2, null="x"), Thing(key="c", value=3, null="y", either="e"))
    await session.add(Thing(key="d", value=4, null="z", either="e"))
    assert (await refused(session)).fields == ("either",)


async def test_a_lone_surrogate_is_refused_and_no_key(open_: Open) -> None:
    session = open_()
    await session.add(Customer(id="a", email="\ud800"))
    with pytest.raises(ValidationError):
        await session.commit()
    with pytest.raises(ValidationError):
        await session.get(Thing, value="\ud800")


# -- families, other names, other faces ----------------------------------------------------------------------------


async def test_the_classes_of_a_table_share_its_keys_unless_the_kind_is_part_of_them(open_: Open) -> None:
    await save(open_(), Dog(id="rex", tag="1", chip="x"), Cat(id="tom", tag="2", chip="x"), Animal(id="any", tag="3"))
    session = open_()
    for taken, fields in ((Cat(id="c", tag="1"), ("tag",)), (Dog(id="d", chip="x"), ("kind", "chip"))):
        await session.add(taken)
        assert (await refused(session)).fields == fields
        await session.rollback()
    assert [one.id for one in [await session.get_one(Dog, chip="x"), await session.get_one(Animal, tag="2")]] == [
        "rex",
        "tom",
    ]
    assert await session.get(Cat, tag="1") is None
    await session.update(Dog, "rex", {"tag": "2"})
    await refused(session)
    await session.rollback()
    with pytest.raises(StaleDataError):
        await session.get_or_create(Cat, tag="1", defaults={"id": "c"})
    found, created = await session.get_or_create(Cat, tag="4", defaults={"id": "c"})
    assert (type(found), created) == (Cat, True)


async def test_a_renamed_table_keeps_its_keys(open_: Open) -> None:
    session = open_(tables={"renamed": "customers"})
    await save(session, Renamed(id="a", email="a@x"))
    await session.add(Renamed(id="b", email="a@x"))
    error = await refused(session)
    assert (error.table, error.fields) == ("customers", ("email",))
    await session.rollback()
    assert (await session.get_one(Renamed, email="a@x")).id == "a"
    assert (await open_().get_one(Customer, email="a@x")).id == "a"
    found, created = await session.get_or_create(Renamed, email="a@x", defaults={"id": "b"})
    assert (found.id, created) == ("a", False)


async def test_a_transaction_runs_again_where_a_key_was_taken_meanwhile_and_stops_where_it_stays_taken(open_: Open) -> None:
    session = open_()
    tries = 0

    async def create(session: AsyncSession) -> str:
        nonlocal tries
        tries += 1
        found = await session.get(Customer, email="a@x")
        if found is None:
            if tries == 1:
                await save(open_(), Customer(id="faster", email="a@x"))
            await session.add(Customer(id=f"{tries}", email="a@x"))
            return "created"
        found.name = "found"
        return "found"

    async def insist(session: AsyncSession) -> None:
        nonlocal tries
        tries += 1
        await session.add(Customer(id=f"{tries}", email="a@x"))

    assert (await session.transact(create), tries) == ("found", 2)
    with pytest.raises(StaleDataError):
        await session.transact(insist)
    assert tries == 4
    assert await stored(open_) == {"faster": "a@x"}


def test_a_session_for_tests_keeps_it_too() -> None:
    session = fake_session(Customer(id="a", email="a@x"))
    session.add(Customer(id="b", email="a@x"))
    with pytest.raises(StaleDataError):
        session.commit()
    with pytest.raises(StaleDataError):
        fake_session(Customer(id="a", email="a@x"), Customer(id="b", email="a@x"))


def test_a_large_commit_keeps_it_as_well(tmp_path: Any) -> None:
    with connect(f"sqlite:///{tmp_path / 'large.db'}") as deployment, Session(deployment) as session:
        session.add_all(Customer(id=str(number), email=f"{number}@x") for number in range(2_000))
        session.commit()
        session.add_all(Customer(id=f"new {number}", email=f"{number}@y") for number in range(2_000))
        session.add(Customer(id="last", email="17@x"))
        with pytest.raises(StaleDataError) as caught:
            session.commit()
        assert (caught.value.write, caught.value.fields) == (2_000, ("email",))
        assert Session(deployment).count(CUSTOMERS) == 2_000


def test_what_deployments_answer_is_the_same_for_a_deployment_that_is_opened_again(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'again.db'}"
    with connect(url) as deployment, Session(deployment) as session:
        session.add(Customer(id="a", email="a@x"))
        session.commit()
    with connect(url) as deployment, Session(deployment) as session:
        session.add(Customer(id="b", email="a@x"))
        with pytest.raises(StaleDataError):
            session.commit()
