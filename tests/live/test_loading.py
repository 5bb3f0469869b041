"""Instances that load others: they stay as long as all that they show does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from convexorm import Deployment, Session
from tests.conftest import ROOT, Host, serve_host
from tests.live.conftest import PATIENCE, save
from tests.relations.models import Customer, Line, Order, OrderTag, Tag

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def shop_host() -> Iterator[Host]:
    yield from serve_host(ROOT / "tests" / "relations" / "functions")


@pytest.fixture
def host(shop_host: Host) -> Iterator[Host]:
    """A host that forgets what a test has stored."""
    yield shop_host
    with shop_host.connect() as deployment, Session(deployment) as session:
        for model in (Line, OrderTag, Order, Tag, Customer):
            session.delete_all(model.query().by_index("by_creation_time"))


CUSTOMERS = Customer.query().full_scan().load(Customer.orders.load(Order.lines))
ORDERS = Order.query().by_index("by_order_id").load(Order.customer)


def fill(deployment: Deployment) -> None:
    save(deployment, *(Customer(id=f"c{n}") for n in range(3)))
    save(deployment, *(Order(id=f"o{n}", customer_id=f"c{n % 3}", placed_at=NOON) for n in range(6)))
    save(deployment, *(Line(order_id=f"o{n}", text="x") for n in range(6)))


def by_id(change: Any) -> dict[str, Any]:
    return {one.id: one for one in change.items}


def test_an_instance_is_new_where_what_it_loads_has_changed(deployment: Deployment) -> None:
    fill(deployment)
    with deployment.watch(CUSTOMERS) as live, Session(deployment) as session:
        first = by_id(live.next(timeout=PATIENCE))
        session.one(Line.query().by_index("by_order", order_id="o4")).text = "changed"
        session.commit()
        change = live.next(timeout=PATIENCE)
        now = by_id(change)
        assert [one.id for one in change.changed] == ["c1"]
        assert (change.added, change.removed) == ([], [])
        assert [now[id_] is first[id_] for id_ in ("c0", "c1", "c2")] == [True, False, True]
        assert [[line.text for line in order.lines] for order in now["c1"].orders] == [["x"], ["changed"]]
        assert [[line.text for line in order.lines] for order in first["c1"].orders] == [["x"], ["x"]]
        assert now["c1"].orders[0] is first["c1"].orders[0]  # its document, and all that it loads, are as they were


def test_what_comes_to_a_list_and_leaves_it_is_seen(deployment: Deployment) -> None:
    fill(deployment)
    with deployment.watch(CUSTOMERS) as live, Session(deployment) as session:
        live.next(timeout=PATIENCE)
        session.get_one(Order, "o3").customer_id = "c2"
        session.commit()
        change = live.next(timeout=PATIENCE)
        orders = {one.id: {order.id for order in one.orders} for one in change.changed}
        assert orders == {"c0": {"o0"}, "c2": {"o2", "o3", "o5"}}


def test_documents_that_lead_to_one_share_its_instance(deployment: Deployment) -> None:
    fill(deployment)
    with deployment.watch(ORDERS) as live, Session(deployment) as session:
        first = by_id(live.next(timeout=PATIENCE))
        assert first["o0"].customer is first["o3"].customer
        session.get_one(Order, "o0").total = 7
        session.commit()
        now = by_id(live.next(timeout=PATIENCE))
        assert now["o0"] is not first["o0"]
        assert now["o0"].customer is now["o3"].customer is first["o3"].customer
        session.get_one(Customer, "c0").country = "PT"
        session.commit()
        change = live.next(timeout=PATIENCE)
        assert sorted(one.id for one in change.changed) == ["o0", "o3"]
        assert by_id(change)["o0"].customer is by_id(change)["o3"].customer
        assert by_id(change)["o0"].customer.country == "PT"
        assert now["o0"].customer.country == "NL"


def test_what_leads_to_an_instance_that_is_new_leads_to_that(deployment: Deployment) -> None:
    fill(deployment)
    save(deployment, Tag(id="late", owner_id="c0"), OrderTag(order_id="o1", tag_id="late"))
    query = Customer.query().full_scan().load(Customer.orders.load(Order.tags.load(Tag.owner)))
    with deployment.watch(query) as live, Session(deployment) as session:
        live.next(timeout=PATIENCE)
        session.add(Order(id="o6", customer_id="c0", placed_at=NOON))
        session.commit()
        change = live.next(timeout=PATIENCE)
        now = by_id(change)
        owner = now["c1"].orders[0].tags[0].owner
        assert owner is now["c0"]
        assert [order.id for order in owner.orders] == ["o0", "o3", "o6"]
        assert {one.id for one in change.changed} == {"c0", "c1"}


def test_what_is_loaded_through_others_is_seen(deployment: Deployment) -> None:
    fill(deployment)
    save(deployment, Tag(id="late"), Tag(id="gift"), OrderTag(order_id="o0", tag_id="late"))
    with deployment.watch(Order.query().by_index("by_order_id").load(Order.tags)) as live, Session(deployment) as session:
        live.next(timeout=PATIENCE)
        session.add(OrderTag(order_id="o0", tag_id="gift"))
        session.commit()
        (order,) = live.next(timeout=PATIENCE).changed
        assert [tag.id for tag in order.tags] == ["late", "gift"]
        session.delete(session.one(OrderTag.query().by_index("by_tag", tag_id="late")))
        session.commit()
        (order,) = live.next(timeout=PATIENCE).changed
        assert [tag.id for tag in order.tags] == ["gift"]
