"""A watch is answered again when a commit writes where it has read, and only then."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from convexorm import Deployment, Session
from tests.live.conftest import PATIENCE, Runs
from tests.models import Counter, Message, Note, Payment, Task
from tests.relations.models import Customer, Line, Order, OrderTag, Tag

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def deployment(embedded: Deployment) -> Deployment:
    """What a watch has read is the deployment's own matter; on Convex it is the backend's."""
    return embedded


def ranked(rank: float | None, owner: str = "ada", **values: Any) -> Task:
    return Task(text="", owner_id=owner, rank=rank, **values)


def fill(deployment: Deployment) -> None:
    with Session(deployment) as session:
        session.add_all([ranked(rank) for rank in (1.0, 2.0, 3.0, 4.0)])
        session.add_all([ranked(None, "bob"), ranked(None, "eve", done=True)])
        session.add_all([Customer(id=id_) for id_ in ("c0", "c1")])
        session.add_all([Order(id=f"o{n}", customer_id=f"c{n % 2}", placed_at=NOON, total=n) for n in range(4)])
        session.add_all([Tag(id="late"), Tag(id="gift"), OrderTag(order_id="o0", tag_id="late")])
        session.add_all([Payment(id="p0", owner_id="ada", amount=1.0), Message(id="m0", text="a fig")])
        session.commit()


def task(rank: float) -> Any:
    return Task.query().by_index("by_rank", rank=rank)


def add(*instances: Any) -> Callable[[Session], object]:
    return lambda session: session.add_all([copy(one) for one in instances])


def change(query: Any, **values: Any) -> Callable[[Session], object]:
    def run(session: Session) -> None:
        one = session.one(query)
        for name, value in values.items():
            setattr(one, name, value)

    return run


def delete(query: Any) -> Callable[[Session], object]:
    return lambda session: session.delete(session.one(query))


def order(id: str) -> Any:
    return Order.query().by_index("by_order_id", id=id)


BETWEEN = Task.query().where(Task.rank >= 2.0, Task.rank < 4.0)
OPEN_END = Task.query().where(Task.rank > 2.0)
FIRST_TWO = Task.query().by_index("by_rank", Task.rank >= 1.0).limit(2)
LAST_TWO = Task.query().by_index("by_rank", Task.rank >= 1.0).order("desc").limit(2)
OWNERS = Task.query().where(Task.owner_id.in_(["ada", "eve"]))
WITH_ORDERS = Customer.query().by_index("by_customer_id", id="c0").load(Customer.orders)
WITH_CUSTOMER = Order.query().by_index("by_order_id", id="o1").load(Order.customer)
WITH_TAGS = Order.query().by_index("by_order_id", id="o0").load(Order.tags)
PAID = Payment.query().where(Payment.owner_id == "ada")
HAVING = Customer.query().by_index("by_customer_id", id="c0").where(Customer.orders.any(Order.total > 100))

MEETING: dict[str, tuple[Any, Callable[[Session], object]]] = {
    "inserted at the lower end": (BETWEEN, add(ranked(2.0))),
    "changed within": (BETWEEN, change(task(3.0), text="x")),
    "moved in": (BETWEEN, change(task(4.0), rank=2.5)),
    "moved out": (BETWEEN, change(task(3.0), rank=9.0)),
    "deleted within": (BETWEEN, delete(task(3.0))),
    "inserted behind an open end": (OPEN_END, add(ranked(2.1))),
    "inserted before the last of a limit": (FIRST_TWO, add(ranked(1.5))),
    "deleted from a limit": (FIRST_TWO, delete(task(2.0))),
    "inserted after the last of a limit backwards": (LAST_TWO, add(ranked(3.5))),
    "in the first range of a union": (OWNERS, add(ranked(None))),
    "in the last range of a union": (OWNERS, add(ranked(None, "eve"))),
    "counted": (BETWEEN.count(), add(ranked(3.0))),
    "added up": (BETWEEN.sum(Task.rank), add(ranked(3.0))),
    "grouped": (Task.query().full_scan().group_by(Task.owner_id).count(), add(ranked(None, "zoe"))),
    "kept by a counter": (PAID.count(), add(Payment(id="p", owner_id="ada"))),
    "the greatest": (Task.query().max(Task.rank), add(ranked(9.0))),
    "created later": (Task.query().full_scan().order("desc").limit(1), add(ranked(0.0))),
    "loaded of many": (WITH_ORDERS, add(Order(id="o", customer_id="c0", placed_at=NOON))),
    "loaded of many, changed": (WITH_ORDERS, change(order("o2"), total=7)),
    "loaded of one": (WITH_CUSTOMER, change(Customer.query().by_index("by_customer_id", id="c1"), country="PT")),
    "loaded through others": (WITH_TAGS, add(OrderTag(order_id="o0", tag_id="gift"))),
    "what a condition looked for": (HAVING, change(order("o0"), total=700)),
    "searched": (Message.by_text.search("fig"), add(Message(id="m", text="another fig"))),
    "in a table that was not there": (Counter.query().full_scan(), add(Counter(name="x"))),
    "deleted in a range": (BETWEEN, lambda session: session.delete_range(task(3.0))),
}
ELSEWHERE: dict[str, tuple[Any, Callable[[Session], object]]] = {
    "inserted at the upper end": (BETWEEN, add(ranked(4.0))),
    "inserted below": (BETWEEN, add(ranked(1.9))),
    "changed outside": (BETWEEN, change(task(1.0), text="x")),
    "moved outside": (BETWEEN, change(task(1.0), rank=9.0)),
    "deleted outside": (BETWEEN, delete(task(4.0))),
    "inserted at an open end": (OPEN_END, add(ranked(2.0))),
    "inserted after the last of a limit": (FIRST_TWO, add(ranked(2.5))),
    "inserted before the last of a limit backwards": (LAST_TWO, add(ranked(2.5))),
    "between the ranges of a union": (OWNERS, add(ranked(None, "bob"))),
    "not counted": (BETWEEN.count(), add(ranked(8.0))),
    "kept by another counter": (
        PAID.count(),
        add(Payment(id="p", owner_id="b")),
    ),
    "less than the greatest": (Task.query().max(Task.rank), change(task(2.0), rank=2.5)),
    "another's of many": (WITH_ORDERS, add(Order(id="o", customer_id="c1", placed_at=NOON))),
    "another's one": (WITH_CUSTOMER, change(Customer.query().by_index("by_customer_id", id="c0"), country="PT")),
    "beside what is loaded": (WITH_TAGS, add(OrderTag(order_id="o1", tag_id="gift"))),
    "where no condition looked": (HAVING, change(order("o1"), total=700)),
    "another table": (BETWEEN, add(Line(order_id="o0"))),
}


def met(deployment: Deployment, query: Any, write: Callable[[Session], object], runs: Runs) -> bool:
    """Whether a watch of a query is answered again because of a commit, that another watch sees as well."""
    fill(deployment)
    read = query.plan().range.table.name
    with (
        deployment.watch(query) as live,
        deployment.watch(Note.query().full_scan()) as other,
        Session(deployment) as session,
    ):
        live.next(timeout=PATIENCE)
        other.next(timeout=PATIENCE)
        write(session)
        session.add(Note(id="sign"))
        runs.take()
        session.commit()
        other.next(timeout=PATIENCE)  # all watches are compared with a commit before one is answered, the oldest first
        found = runs.take(read)
    assert len(found) <= 1
    return bool(found)


@pytest.mark.parametrize("case", MEETING)
def test_what_is_written_where_a_watch_has_read_is_seen(deployment: Deployment, case: str, runs: Runs) -> None:
    assert met(deployment, *MEETING[case], runs)


@pytest.mark.parametrize("case", ELSEWHERE)
def test_what_is_written_elsewhere_is_not_looked_at(deployment: Deployment, case: str, runs: Runs) -> None:
    assert not met(deployment, *ELSEWHERE[case], runs)


MANY = add(*(ranked(float(number), "bulk") for number in range(10, 1_010)))


@pytest.mark.parametrize(("rank", "meets"), [(500.5, True), (5_000.0, False)])
def test_a_commit_of_many_documents_is_compared_by_its_ends(
    deployment: Deployment, rank: float, meets: bool, runs: Runs
) -> None:
    assert met(deployment, task(rank), MANY, runs) == meets
