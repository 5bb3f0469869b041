"""What is watched is what is read: random changes of a shop, and every kind of query after each."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from convexorm import Change, Deployment, Model, NoResultFound, NotLoadedError, Session
from tests.conftest import ROOT, Host, serve_host
from tests.live.conftest import PATIENCE
from tests.relations.models import Customer, Line, Order, OrderTag, Tag

STEPS = 60
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    yield from serve_host(ROOT / "tests" / "relations" / "functions")


def hour(number: int) -> datetime:
    return NOON + timedelta(hours=number)


CUSTOMERS = Customer.query().by_index("by_creation_time")
ORDERS, LINES = Order.query().by_index("by_order_id"), Line.query().full_scan()
LATER = Customer.orders.where(Order.placed_at > hour(4)).order("desc").limit(2)
OF_C1 = Order.query().by_index("by_customer", customer_id="c1")
STATEMENTS: dict[str, Any] = {
    "all": CUSTOMERS,
    "a condition": Customer.query().full_scan().where(Customer.country != "NL"),
    "the last": OF_C1.order("desc").limit(3),
    "a range": Order.query().where(
        (Order.customer_id == "c2") & (Order.placed_at > hour(5)) & (Order.placed_at <= hour(15))
    ),
    "in": Order.query().where(Order.customer_id.in_(["c0", "c2", "c4"])).limit(5),
    "or": Order.query().where((Order.customer_id == "c1") | (Order.customer_id == "c3")),
    "not": Order.query().where(Order.customer_id != "c1").limit(4),
    "has": Order.query().full_scan().where(Order.customer.has(Customer.country == "NL")),
    "any": Customer.query().full_scan().where(Customer.orders.any(Order.placed_at > hour(10))),
    "sorted": Customer.query().full_scan().order_by(Customer.country.desc()).limit(3),
    "offset": ORDERS.offset(2).limit(3),
    "selected": Order.query().by_index("by_customer").select(Order.id, Order.placed_at),
    "distinct": Order.query().distinct(Order.customer_id),
    "count": OF_C1.count(),
    "exists": Order.query().by_index("by_customer", customer_id="c3").exists(),
    "sum": Order.query().full_scan().sum(Order.total),
    "average": Order.query().full_scan().avg(Order.total),
    "least": OF_C1.min(Order.placed_at),
    "groups": LINES.group_by(Line.text).count(),
    "references": ORDERS.load(Order.customer.load(Customer.orders), Order.tags),
    "lists": Customer.query()
    .by_index("by_creation_time")
    .load(Customer.orders.load(Order.lines, Order.tags.load(Tag.owner))),
    "parts of lists": CUSTOMERS.load(LATER),
    "many to many": Tag.query().by_index("by_tag_id").load(Tag.orders.load(Order.customer), Tag.owner),
}


def step(deployment: Deployment, random: Random, number: int) -> None:
    """One commit, which changes something or nothing."""
    with Session(deployment) as session:
        id_, kind = f"c{random.randrange(5)}", random.randrange(9)
        customer, orders, tags = session.get(Customer, id_), session.all(ORDERS), session.all(Tag.query().full_scan())
        some = random.choice(orders) if orders else None
        if customer is None:
            session.add(Customer(id=id_, country=random.choice(["NL", "PT"])))
        elif kind == 0:
            customer.country = random.choice(["NL", "PT"])
        elif kind == 1:
            session.add(Tag(id=f"t{number}", owner_id=id_))
        elif some is None or kind in (2, 3):
            total, when = random.randrange(9), hour(random.randrange(20))
            session.add(Order(id=f"o{number}", customer_id=id_, placed_at=when, total=total))
        elif kind == 4:
            session.add(Line(order_id=some.id, text=random.choice("xyz")))
        elif kind == 5:
            some.placed_at, some.customer_id = hour(random.randrange(20)), id_
        elif kind == 6 and tags:
            session.add(OrderTag(order_id=some.id, tag_id=random.choice(tags).id))
        elif kind == 7:
            session.delete(some)
        elif random.random() < 0.3:
            session.delete(customer)
        session.commit()


def shown(value: Any, depth: int = 0) -> Any:
    """Everything that can be seen of an answer."""
    if isinstance(value, list | tuple):
        return [shown(one, depth) for one in value]
    if not isinstance(value, Model):
        return value
    seen: dict[str, Any] = {**value.to_dict(), "": value.convex_id}
    for name in value.__mapper__.relations if depth < 4 else ():
        try:
            seen[f".{name}"] = shown(getattr(value, name), depth + 1)
        except (NotLoadedError, NoResultFound) as error:
            seen[f".{name}"] = type(error).__name__
    return seen


def read(deployment: Deployment) -> dict[str, Any]:
    answers = {}
    for name, statement in STATEMENTS.items():
        with Session(deployment) as session:  # of its own: what others have loaded is not to be seen
            (answers[name],) = session.read(statement)
    return {name: shown(answer) for name, answer in answers.items()}


def watched(state: tuple[Any, ...]) -> dict[str, Any]:
    answers = [one.items if isinstance(one, Change) else one for one in state]
    return dict(zip(STATEMENTS, map(shown, answers), strict=True))


@pytest.mark.parametrize("seed", [5, 6])
def test_what_is_watched_is_what_is_read(deployment: Deployment, seed: int) -> None:
    random = Random(seed)
    with Session(deployment) as session:
        for model in (Line, OrderTag, Order, Tag, Customer):
            session.delete_all(model.query().full_scan())
    with deployment.watch(*STATEMENTS.values()) as live:
        now = watched(live.next(timeout=PATIENCE))
        for number in range(STEPS):
            step(deployment, random, number)
            wanted = read(deployment)
            while now != wanted:  # the last state is never skipped
                now = watched(live.next(timeout=PATIENCE))
