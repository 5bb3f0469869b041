"""Types of references and relations, as a checker infers them."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_type

from convexorm import (
    UNSET,
    AsyncSession,
    Column,
    Condition,
    Id,
    Index,
    Mapped,
    Model,
    Progress,
    Query,
    Related,
    RelatedList,
    Session,
    field,
    relationship,
)
from convexorm.mapping.relations import Many, One


class Customer(Model, table="typed_customers", primary_key="id"):
    id: Mapped[str]
    orders: RelatedList[Order] = relationship("by_customer", on_delete="cascade")
    by_customer_id = Index("id")


class Order(Model, table="typed_orders", primary_key="id"):
    id: Mapped[str]
    customer_id: Mapped[str] = field(references=Customer, default=UNSET)
    parent_id: Mapped[Id[Order] | None] = field(default=None, check=True)
    ids: Mapped[list[Id[Customer]]] = field(factory=list)
    customer: Related[Customer] = relationship("customer_id")
    parent: Related[Order | None] = relationship("parent_id")
    tags: RelatedList[Tag] = relationship(through="OrderTag")
    by_order_id = Index("id")
    by_customer = Index("customer_id")


class Tag(Model, table="typed_tags", primary_key="id"):
    id: Mapped[str]
    by_tag_id = Index("id")


class OrderTag(Model, table="typed_order_tags"):
    order_id: Mapped[str] = field(references=Order)
    tag_id: Mapped[str] = field(references=Tag)
    by_order = Index("order_id")


# on an instance a relation is what was loaded, on the class a path

ada = Customer(id="ada")
order = Order(id="o", customer=ada, tags=[Tag(id="t")])
assert_type(order.customer, Customer)
assert_type(order.parent, Order | None)
assert_type(order.tags, list[Tag])
assert_type(ada.orders, list[Order])
assert_type(order.parent_id, Id[Order] | None)
assert_type(order.ids, list[Id[Customer]])
assert_type(Order.customer, One[Customer])
assert_type(Order.parent, One[Order | None])
assert_type(Order.tags, Many[Tag])
assert_type(Order.parent_id, Column[Id[Order] | None])
order.customer = ada
order.parent = None
order.tags = [Tag(id="t")]
ada.orders.append(order)
order.customer = order  # type: ignore[assignment]
order.customer = None  # type: ignore[assignment]
ada.orders.append(ada)  # type: ignore[arg-type]
Order(id="o", customer_id="ada")
Order(id="o", customer=order)  # type: ignore[arg-type]
Order(id="o", tags=[order])  # type: ignore[list-item]

# paths load and ask

last = Customer.orders.where(Order.id >= "a").order("desc").limit(3).load(Order.tags)
assert_type(last, Many[Order])
assert_type(Order.customer.load(last), One[Customer])
assert_type(Order.customer.has(Customer.id == "ada"), Condition)
assert_type(Customer.orders.any(Order.id == "o") & ~Order.tags.any(), Condition)
assert_type(Order.query().load(Order.customer, Order.tags), Query[Order])
Order.query().load("customer")  # type: ignore[arg-type]
Customer.orders.order("up")  # type: ignore[arg-type]


def told(progress: Progress) -> None:
    assert_type(progress.done, int)
    assert_type(progress.total, int | None)


def blocking(session: Session) -> None:
    assert_type(session.get(Order, "o", load=[Order.customer, Order.tags]), Order | None)
    assert_type(session.get_many(Order, ["o"], load=[Order.customer]), list[Order | None])
    assert_type(session.load([order], Order.customer), None)
    assert_type(session.load(order, Order.customer), None)
    assert_type(session.delete_tree(ada, on_progress=told), int)
    session.load(order, "customer")  # type: ignore[arg-type]
    session.get(Order, "o", load="customer")  # type: ignore[arg-type]


async def awaited(session: AsyncSession) -> None:
    assert_type(await session.get_one(Order, "o", load=[Order.customer]), Order)
    assert_type(await session.load(order, Order.customer), None)
    assert_type(await session.delete_tree(ada), int)
