"""What deleting does to others is seen by all that is kept about them: counters, searches, unique keys."""

from __future__ import annotations

import pytest

from convexorm import AsyncSession, Session, StaleDataError, ValidationError, connect
from convexorm.requests import Follow, Range, Read, check_reads
from tests.relations.conftest import Open, save
from tests.relations.models import Chair, Customer, Order, Room, Seat

OF_ROOM = Chair.query().where(Chair.room_id == "r")
WAYS = ["delete", "delete_key", "delete_all", "delete_tree"]


async def delete(session: AsyncSession, way: str) -> None:
    if way == "delete":
        await session.delete(await session.get_one(Room, "r"))
    elif way == "delete_key":
        await session.delete_key(Room, "r")
    elif way == "delete_all":
        await session.delete_all(Room.query().where(Room.id == "r"))
    else:
        await session.delete_tree(await session.get_one(Room, "r"))
    await session.commit()


@pytest.mark.parametrize("way", WAYS)
async def test_counters_and_searches_see_what_goes_along(open_: Open, way: str) -> None:
    chairs = [Chair(room_id=room, price=n) for n, room in enumerate(("r", "r", "s"))]
    await save(open_(), Room(id="r"), Room(id="s"), *chairs, Seat(room_id="r", number=1))
    assert len(await open_().search(Chair.by_shape, [1.0, 0.0])) == 3
    assert await open_().read(OF_ROOM.count(), Chair.query().sum(Chair.price)) == (2, 3)
    await delete(open_(), way)
    session = open_()
    assert await session.read(OF_ROOM.count(), Chair.query().sum(Chair.price)) == (0, 2)
    assert [hit.item.room_id for hit in await session.search(Chair.by_shape, [1.0, 0.0])] == ["s"]
    seats = Seat.query().where(Seat.room_id == None)  # noqa: E711
    assert await session.read(Seat.query().where(Seat.room_id == "r").count(), seats.count()) == (0, 1)


@pytest.mark.parametrize("way", WAYS)
async def test_a_reference_that_is_taken_out_leaves_keys_unique(open_: Open, way: str) -> None:
    await save(open_(), Room(id="r"), Seat(room_id="r", number=1), Seat(room_id="r", number=2), Seat(number=2))
    with pytest.raises(StaleDataError) as caught:
        await delete(open_(), way)
    assert (caught.value.reason, caught.value.fields) == ("exists", ("room_id", "number"))
    assert await open_().get(Room, "r") is not None
    assert await open_().count(Seat.query().where(Seat.room_id == "r")) == 2


def test_all_documents_of_a_query_across_a_relation_are_changed_under_other_names() -> None:
    query = Chair.query().where(Chair.room.has(Room.id == "r")).full_scan()
    with connect("memory:") as deployment, Session(deployment, tables={"rooms": "halls"}) as session:
        session.add_all([Room(id="r"), Room(id="s"), *(Chair(room_id=id_) for id_ in "rrs")])
        session.commit()
        assert session.update_all(query, {Chair.price: 7}) == 2
        assert session.count(Chair.query().where(Chair.price == 7).full_scan()) == 2


@pytest.mark.parametrize("kind", [{"count": True}, {"digest": "all"}, {"select": ("id",)}, {"distinct": 1}])
def test_edges_lead_only_from_whole_documents(kind: dict[str, object]) -> None:
    edge = Follow("customer_id", Range(Customer.__mapper__.table, "by_customer_id"), limit=1)
    read = Read(Range(Order.__mapper__.table, "by_order_id"), follow=(edge,), **kind)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="whole documents"):
        check_reads([read])
