"""Both ends of a relationship that are loaded stay in step, whichever way and in whatever order they came to be."""

from __future__ import annotations

import random
from typing import Any

import pytest

from convexorm import (
    UNSET,
    AsyncSession,
    Id,
    Index,
    Mapped,
    Model,
    NotLoadedError,
    Related,
    RelatedList,
    Session,
    connect,
    field,
)
from convexorm import relationship as related_by
from tests.relations.conftest import Open, day, filled
from tests.relations.models import Customer, Order, Tag


def ids(items: list[Any]) -> list[str]:
    return [one.id for one in items]


async def customers(session: AsyncSession, *load: Any) -> tuple[Customer, Customer]:
    return await session.get_one(Customer, "c1", load=load), await session.get_one(Customer, "c2", load=load)


async def test_a_list_that_is_loaded_later_shows_what_was_moved_before(open_: Open) -> None:
    await filled(open_)
    session = open_()
    one, two = await customers(session)
    moved = await session.get_one(Order, "o1")
    moved.customer = two
    await session.add(Order(id="new", customer=two, placed_at=day(9)))
    await session.load([one, two], Customer.orders)
    assert (ids(one.orders), ids(two.orders)) == (["o4"], ["o2", "o5", "o1", "new"])
    await session.rollback()
    assert (ids(one.orders), ids(two.orders)) == (["o1", "o4"], ["o2", "o5"])
    moved.customer = two
    await session.commit()
    assert (ids(one.orders), ids(two.orders)) == (["o4"], ["o2", "o5", "o1"])


async def test_a_list_through_others_that_is_loaded_later_shows_what_was_put_in_before(open_: Open) -> None:
    await filled(open_)
    session = open_()
    order = await session.get_one(Order, "o1", load=[Order.tags])
    late, gift = order.tags
    fresh, new = Tag(id="fresh"), Order(id="new", customer_id="c1", placed_at=day(9), tags=[late])
    order.tags.append(fresh)
    order.tags.remove(gift)
    await session.add(new)
    await session.load([late, gift, fresh], Tag.orders)
    assert new in late.orders
    assert order in late.orders
    assert order not in gift.orders
    assert ids(fresh.orders) == ["o1"]
    fresh.orders.remove(order)
    late.orders.remove(new)
    assert (ids(order.tags), ids(new.tags)) == (["late"], [])
    order.tags.append(fresh)
    await session.commit()
    other = await open_().get_one(Order, "o1", load=[Order.tags])
    assert ids(other.tags) == ids(order.tags) == ["late", "fresh"]


@pytest.mark.parametrize("way", ["delete", "delete_key", "delete_tree"])
async def test_what_was_deleted_does_not_come_back_with_a_rollback(open_: Open, way: str) -> None:
    await filled(open_)
    session = open_()
    one, _ = await customers(session, Customer.orders)
    gone = one.orders[0]
    if way == "delete_key":
        await session.delete_key(Order, gone.id)
    else:
        await getattr(session, way)(gone)
    await session.commit()
    assert ids(one.orders) == ["o4"]
    one.country = "BE"
    await session.rollback()
    assert ids(one.orders) == ["o4"]


@pytest.mark.parametrize("way", ["attribute", "update", "back"])
async def test_references_that_are_set_by_hand_are_followed_once_they_are_stored(open_: Open, way: str) -> None:
    await filled(open_)
    session = open_()
    one, two = await customers(session, Customer.orders)
    moved = one.orders[0] if way != "back" else await session.get_one(Order, "o1")
    new = Order(id="new", customer=one, placed_at=day(9))
    await session.add(new)
    new.customer_id = "c2"
    if way == "update":
        await session.update(Order, "o1", {"customer_id": "c2"})
    elif way == "attribute":
        moved.customer_id = "c2"
    else:
        moved.customer = two
        moved.customer_id = "c1"
    await session.commit()
    expected = (["o1", "o4"], ["o2", "o5", "new"]) if way == "back" else (["o4"], ["o2", "o5", "o1", "new"])
    assert (sorted(ids(one.orders)), sorted(ids(two.orders))) == (sorted(expected[0]), sorted(expected[1]))
    assert moved.customer is (one if way == "back" else two)
    assert new.customer is two


async def test_what_is_set_by_hand_there_and_back_is_where_it_was(open_: Open) -> None:
    await filled(open_)
    session = open_()
    one, two = await customers(session)
    new = Order(id="new", customer=one, placed_at=day(9))
    await session.add(new)
    new.customer_id = "c2"
    await session.load([one, two], Customer.orders)
    new.customer_id = "c1"
    await session.commit()
    assert (ids(one.orders), ids(two.orders)) == (["o1", "o4", "new"], ["o2", "o5"])


async def test_what_is_known_of_no_relation_comes_into_the_list_that_it_is_set_to(open_: Open) -> None:
    await filled(open_)
    session = open_()
    two = await session.get_one(Customer, "c2", load=[Customer.orders])
    order = await session.get_one(Order, "o1")
    order.customer_id = "c2"
    await session.commit()
    assert ids(two.orders) == ["o2", "o5", "o1"]
    assert order.customer is two


# -- by chance -----------------------------------------------------------------------------------------------------


class Room(Model, table="rooms", primary_key="id"):
    id: Mapped[str]
    chairs: RelatedList[Chair] = related_by("by_room", on_delete="cascade")
    by_room_id = Index("id")


class Chair(Model, table="chairs"):
    id: Mapped[str]
    room_id: Mapped[str] = field(references=Room, default=UNSET)
    beside_id: Mapped[Id[Chair] | None] = field(default=None)
    room: Related[Room] = related_by("room_id")
    beside: Related[Chair | None] = related_by("beside_id")
    neighbours: RelatedList[Chair] = related_by("by_beside")
    by_room = Index("room_id")
    by_beside = Index("beside_id")


def loaded(one: Any, name: str) -> Any:
    try:
        return getattr(one, name)
    except NotLoadedError:
        return "not loaded"


def check_in_step(owners: list[Any], items: list[Any], many: str, one: str) -> None:
    for owner in owners:
        held = loaded(owner, many)
        for item in items if held != "not loaded" else ():
            lead = loaded(item, one)
            if lead != "not loaded":
                assert any(other is item for other in held) == (lead is owner)


class Walk:
    """A session in which things are done by chance."""

    def __init__(self, session: Session, seed: int) -> None:
        self.session, self.chance = session, random.Random(seed)
        self.rooms = [session.get_one(Room, f"r{n}") for n in range(3)]
        self.chairs: list[Chair] = []
        self.number = 0

    def step(self) -> None:
        chance, room = self.chance, self.chance.choice(self.rooms)
        chair = chance.choice(self.chairs) if self.chairs else None
        kind = chance.randrange(10)
        if kind == 0 or chair is None:
            self.number += 1
            chair = Chair(id=f"c{self.number}", room=room)
            self.session.add(chair)
            self.chairs.append(chair)
        elif kind == 1:
            self.session.load(room, Room.chairs)
        elif kind == 2 and loaded(room, "chairs") != "not loaded":
            room.chairs.append(chair)
        elif kind == 3:
            chair.room = room
        elif kind == 4:
            chair.beside = chance.choice([*[one for one in self.chairs if one.convex_id is not None], None])
        elif kind == 5 and chair.convex_id is not None:
            self.session.load(chair, Chair.neighbours, Chair.beside, Chair.room)
        elif kind == 6 and chance.random() < 0.4 and chair.convex_id is not None and not self.beside_any(chair):
            self.session.delete(chair)
            self.end(stored=True)
        elif kind == 7:
            chair.room_id = room.id
            self.end(stored=True)
        elif kind in (8, 9):
            self.end(stored=kind == 8)
        self.check()

    def beside_any(self, chair: Chair) -> bool:
        return any(one.beside_id == chair.convex_id or loaded(one, "beside") is chair for one in self.chairs)

    def end(self, *, stored: bool) -> None:
        """A commit or a rollback."""
        if stored:
            self.session.commit()
        else:
            self.session.rollback()
        self.chairs = [one for one in self.chairs if one in self.session]

    def check(self) -> None:
        check_in_step(self.rooms, self.chairs, "chairs", "room")
        check_in_step(self.chairs, self.chairs, "neighbours", "beside")


@pytest.mark.parametrize("seed", range(40))
def test_both_ends_stay_in_step_whatever_is_done(seed: int) -> None:
    with connect("memory:") as deployment, Session(deployment) as session:
        session.add_all([Room(id=f"r{n}") for n in range(3)])
        session.commit()
        walk = Walk(session, seed)
        for _ in range(60):
            walk.step()
        walk.end(stored=True)
        with Session(deployment) as other:
            for room in walk.rooms:
                if loaded(room, "chairs") != "not loaded":
                    stored = other.get_one(Room, room.id, load=[Room.chairs])
                    assert sorted(ids(stored.chairs)) == sorted(ids(room.chairs))
