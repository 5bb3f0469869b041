"""Conditions on the documents that a relation leads to are evaluated where the data is."""

from __future__ import annotations

import pytest

from convexorm import AsyncSession, Condition, Deployment, ValidationError
from tests.conftest import Host
from tests.relations.conftest import Open, day, filled, save
from tests.relations.models import Coupon, Customer, Line, Order, Tag

ORDERS = Order.query().by_index("by_order_id")
CUSTOMERS = Customer.query().by_index("by_customer_id")


async def shop(open_: Open) -> None:
    await filled(open_)
    await save(
        open_(),
        Customer(id="none", country="PT"),
        Order(id="lost", customer_id="nobody", placed_at=day(0)),
        Line(order_id="o1", text="fig"),
        Line(order_id="o2", text="date"),
        Coupon(id="free"),
        Coupon(id="used", order_id="o1"),
        Coupon(id="lost", order_id="nothing"),
    )


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Order.customer.has(Customer.country == "PT"), ["o1", "o4"]),
        (Order.customer.has(), ["o0", "o1", "o2", "o3", "o4", "o5", "o6", "o7"]),
        (~Order.customer.has(), ["lost"]),
        (Order.customer.has(Customer.country == "PT", Customer.id == "c0"), []),
        (Order.lines.any(), ["o1", "o2"]),
        (Order.lines.any(Line.text == "fig"), ["o1"]),
        (Order.lines.any(Line.text == "fig") | (Order.total == 70), ["o1", "o7"]),
        (~Order.lines.any() & (Order.total > 30), ["o4", "o5", "o6", "o7"]),
        (Order.tags.any(Tag.id == "late"), [f"o{n}" for n in range(8)]),
        (Order.tags.any(Tag.owner.has(Customer.country == "NL")), []),
        (Order.tags.any(Tag.owner.has(Customer.country == "PT")) & (Order.total < 20), ["o0", "o1"]),
        (Order.customer.has(Customer.orders.any(Order.total >= 60)), ["o0", "o3", "o6", "o7"]),
    ],
)
async def test_documents_by_what_they_are_related_to(open_: Open, condition: Condition, expected: list[str]) -> None:
    await shop(open_)
    session = open_()
    query = ORDERS.where(condition)
    assert [order.id for order in await session.all(query)] == expected
    assert await session.count(query) == len(expected)
    page = await session.page(query, 2)
    assert [order.id for order in page.items] == expected[:2]
    if page.cursor is not None:
        assert [order.id for order in (await session.page(query, 50, page.cursor)).items] == expected[2:]


async def test_lists_by_what_their_documents_are_related_to(open_: Open) -> None:
    await shop(open_)
    customers = await open_().all(CUSTOMERS.load(Customer.orders.where(Order.lines.any())))
    assert [[order.id for order in customer.orders] for customer in customers] == [[], ["o1"], ["o2"], []]
    late = Customer.orders.any(Order.placed_at >= day(5))
    assert [customer.id for customer in await open_().all(CUSTOMERS.where(late))] == ["c0", "c2"]
    leads = Coupon.query().full_scan().where(Coupon.order_id != None)  # noqa: E711
    assert {coupon.id for coupon in await open_().all(leads)} == {"used", "lost"}


async def test_alternatives_are_ranges_of_each_list(open_: Open) -> None:
    await shop(open_)
    session = open_()
    some = Customer.orders.where(Order.placed_at.in_([day(0), day(6), day(4)])).order("desc")
    customers = await session.all(CUSTOMERS.load(some))
    assert [[order.id for order in customer.orders] for customer in customers] == [["o6", "o0"], ["o4"], [], []]
    late = Customer.orders.any(Order.placed_at.in_([day(6), day(4)]))
    assert [customer.id for customer in await session.all(CUSTOMERS.where(late))] == ["c0", "c1"]


async def test_documents_are_changed_by_what_they_are_related_to(open_: Open) -> None:
    await shop(open_)
    assert await open_().update_all(ORDERS.where(Order.customer.has(Customer.country == "PT")), {Order.total: 1}) == 2
    assert [order.id for order in await open_().all(ORDERS.where(Order.total == 1))] == ["o1", "o4"]


async def test_documents_are_deleted_by_what_they_are_related_to(open_: Open) -> None:
    await shop(open_)
    session = open_()
    await session.delete_range(ORDERS.where(Order.lines.any(Line.text == "fig")))
    await session.commit()
    assert await session.delete_all(ORDERS.where(~Order.customer.has())) == 1
    assert [order.id for order in await open_().all(ORDERS)] == ["o0", "o2", "o3", "o4", "o5", "o6", "o7"]


async def test_tables_may_have_other_names(open_: Open) -> None:
    await shop(open_)
    renamed = open_(tables={"lines": "coupons"})  # which has an index of that name on such a field
    found = await renamed.all(ORDERS.where(Order.lines.any()))
    assert [order.id for order in found] == ["o1"]


def test_a_condition_is_on_the_columns_of_the_other_model() -> None:
    with pytest.raises(ValidationError, match="no such field for where"):
        Order.customer.has(Order.total > 1)
    with pytest.raises(ValidationError, match="table 'customers' in a query of Order"):
        Order.query().where(Customer.orders.any())


def test_a_plan_says_what_is_read_elsewhere() -> None:
    query = (
        Order.query()
        .by_index("by_customer", customer_id="c")
        .where(Order.tags.any(Tag.id == "late"))
        .load(Order.customer, Order.tags.load(Tag.owner), Order.lines.limit(3))
    )
    assert query.explain().splitlines() == [
        "table   orders",
        "index   by_customer (customer_id, placed_at, _creationTime)",
        'range   customer_id = "c"',
        "filter  Order.tags exists",
        "order   asc",
        "limit   none",
        "across  Order.tags: read from orders, and for each id all documents of order_tags by by_order until one matches",
        "  across  Order.tags's rows: read from order_tags, and for each tag_id 1 document of tags by by_tag_id until "
        "one matches",
        "load    Order.customer: for each customer_id 1 document of customers by by_customer_id",
        "load    Order.tags: for each id all documents of order_tags by by_order and what they refer to",
        "load      Tag.owner: for each owner_id 1 document of customers by by_customer_id",
        "load    Order.lines: for each id up to 3 documents of lines by by_order",
    ]


async def test_only_what_decides_is_read(shop_host: Host, on_host: Deployment) -> None:
    await filled(lambda: AsyncSession(on_host))
    shop_host.reset()
    async with AsyncSession(on_host) as session:
        await session.all(ORDERS.where(Order.total >= 40, Order.customer.has(Customer.country == "NL")))
    # eight orders, and the three customers of those that are large enough
    assert (shop_host.metrics()["calls"], shop_host.metrics()["documentsRead"]) == (1, 8 + 3)
