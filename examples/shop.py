"""A shop: customers, their orders with lines and tags, loaded in one call, changed together and deleted together.

    python examples/shop.py

runs on an embedded deployment, in memory. With CONVEX_URL and CONVEX_ADMIN_KEY set it runs on that Convex deployment, which
needs this module's schema (`python -m convexorm schema examples.shop --out convex/schema.ts`), and removes what it has
stored there.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from convexorm import (
    UNSET,
    Deployment,
    Id,
    Index,
    Mapped,
    Model,
    Related,
    RelatedList,
    Session,
    StaleDataError,
    connect,
    field,
    relationship,
)

OPENED = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)


class Customer(Model, table="shop_customers", primary_key="id"):
    id: Mapped[str]
    name: Mapped[str]
    country: Mapped[str]
    orders: RelatedList[Order] = relationship("by_customer", on_delete="cascade")
    tags: RelatedList[Tag] = relationship("by_owner", on_delete="nullify")
    by_customer_id = Index("id")


class Order(Model, table="shop_orders", primary_key="id"):
    id: Mapped[str]
    customer_id: Mapped[str] = field(references=Customer, default=UNSET)
    placed_at: Mapped[datetime]
    customer: Related[Customer] = relationship("customer_id")
    lines: RelatedList[Line] = relationship("by_order", on_delete="cascade")
    payments: RelatedList[Payment] = relationship("by_order", on_delete="restrict")
    tags: RelatedList[Tag] = relationship(through="OrderTag", on_delete="cascade")
    by_order_id = Index("id")
    by_customer = Index("customer_id", "placed_at")


class Line(Model, table="shop_lines"):
    order_id: Mapped[Id[Order]] = field(default=UNSET)
    product: Mapped[str]
    cents: Mapped[int]
    order: Related[Order] = relationship("order_id")
    by_order = Index("order_id")


class Payment(Model, table="shop_payments"):
    order_id: Mapped[Id[Order]] = field(default=UNSET, check=True)
    cents: Mapped[int]
    order: Related[Order] = relationship("order_id")
    by_order = Index("order_id")


class Tag(Model, table="shop_tags", primary_key="id"):
    id: Mapped[str]
    text: Mapped[str]
    owner_id: Mapped[str | None] = field(references=Customer, default=None)
    owner: Related[Customer | None] = relationship("owner_id")
    orders: RelatedList[Order] = relationship(through="OrderTag", on_delete="cascade")
    by_tag_id = Index("id")
    by_owner = Index("owner_id")


class OrderTag(Model, table="shop_order_tags"):
    order_id: Mapped[str] = field(references=Order)
    tag_id: Mapped[str] = field(references=Tag)
    by_order = Index("order_id")
    by_tag = Index("tag_id")


def fill(session: Session, run: str) -> None:
    """Two customers, three orders and two tags, in one commit."""
    ada = Customer(id=f"ada-{run}", name="Ada", country="PT")
    bob = Customer(id=f"bob-{run}", name="Bob", country="NL")
    gift = Tag(id=f"gift-{run}", text="gift", owner=ada)
    late = Tag(id=f"late-{run}", text="late")
    figs = Line(product="figs", cents=450)
    session.add_all(
        [
            Order(
                id=f"1-{run}", customer=ada, placed_at=OPENED, lines=[figs, Line(product="dates", cents=300)], tags=[gift]
            ),
            Order(
                id=f"2-{run}", customer=ada, placed_at=OPENED + timedelta(days=1), lines=[Line(product="nuts", cents=900)]
            ),
            Order(id=f"3-{run}", customer=bob, placed_at=OPENED + timedelta(days=2), tags=[gift, late]),
        ]
    )
    session.commit()
    print(f"stored {len(ada.orders) + len(bob.orders)} orders; the figs are of order {figs.order.id.split('-')[0]}")


def show(session: Session, run: str) -> None:
    """The orders of a customer with all that belongs to them: one call, one snapshot."""
    orders = Order.query().by_index("by_customer", customer_id=f"ada-{run}")
    for order in session.all(orders.load(Order.customer, Order.lines, Order.tags.load(Tag.owner))):
        total = sum(line.cents for line in order.lines)
        tags = [f"{tag.text} of {tag.owner.name if tag.owner else 'nobody'}" for tag in order.tags]
        print(f"{order.customer.name}, {order.placed_at:%d %B}: {len(order.lines)} lines, {total / 100:.2f}, tags: {tags}")

    last = Customer.orders.order("desc").limit(1)
    customer = session.get_one(Customer, f"ada-{run}")
    session.load(customer, last)
    print(f"the last of {customer.name} is of {customer.orders[0].placed_at:%d %B}")

    gifts = Order.query().where(Order.id >= "1", Order.id < "4").where(Order.tags.any(Tag.id == f"gift-{run}"))
    abroad = gifts.where(Order.customer.has(Customer.country != "PT"))
    print(f"{session.count(gifts)} orders are gifts, {session.count(abroad)} of them go abroad")


def change(session: Session, run: str) -> None:
    """An order changes hands, and its tags change."""
    ada, bob = session.get_many(Customer, [f"ada-{run}", f"bob-{run}"], load=[Customer.orders.load(Order.tags)])
    assert ada is not None
    assert bob is not None
    order = ada.orders[0]
    bob.orders.append(order)
    order.tags.remove(order.tags[0])
    order.tags.append(Tag(id=f"moved-{run}", text="moved"))
    session.commit()
    tags = [tag.text for tag in order.tags]
    print(f"{ada.name} has {len(ada.orders)} order, {bob.name} has {len(bob.orders)}; the tags: {tags}")


def delete(session: Session, run: str) -> None:
    """What was paid for stays; what was not goes with its customer."""
    bob = session.get_one(Customer, f"bob-{run}", load=[Customer.orders])
    payment = Payment(order=bob.orders[0], cents=750)
    session.add(payment)
    session.commit()
    session.delete(bob)
    try:
        session.commit()
    except StaleDataError as error:
        print(f"refused because of {error.relation}")
    session.rollback()
    session.delete(payment)
    session.commit()
    print(
        f"deleted {session.delete_tree(bob)} documents with {bob.name}, {session.delete_tree(_ada(session, run))} with Ada"
    )
    for tag in session.get_many(Tag, [f"{name}-{run}" for name in ("gift", "late", "moved")], load=[Tag.owner]):
        assert tag is not None
        assert tag.owner is None
        session.delete(tag)
    session.commit()


def _ada(session: Session, run: str) -> Customer:
    return session.get_one(Customer, f"ada-{run}")


def main(deployment: Deployment) -> None:
    """Run all of it; what it stores has names of its own, and is gone at the end."""
    run = uuid4().hex[:6]
    for part in (fill, show, change, delete):
        with Session(deployment) as session:
            part(session, run)


if __name__ == "__main__":
    with connect() if os.environ.get("CONVEX_URL") else connect("memory:") as opened:
        main(opened)
