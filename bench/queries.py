"""What queries and relations of sessions cost on Convex: scenarios over the models of the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from bench.scenarios import Scenario
from convexorm import Model, Session
from mastra_convex import ConvexStore
from tests.conftest import ROOT
from tests.models import Message, Note, Payment, Task
from tests.relations.models import Customer, Line, Order

__all__ = ["SCENARIOS"]

_MODELS, _SHOP = ROOT / "tests" / "functions", ROOT / "tests" / "relations" / "functions"
_START = datetime(2024, 5, 1, tzinfo=UTC)
_OWNERS, _EACH = 100, 5


def _stored(make: Callable[[str], Iterable[Model]]) -> Callable[[ConvexStore, str], None]:
    """A setup that stores instances, whose ids begin with the scenario's name."""

    def setup(store: ConvexStore, name: str) -> None:
        with Session(store.deployment) as session:
            session.add_all(make(name), unique=False, returning=False)
            session.commit()

    return setup


def _tasks(name: str) -> Iterable[Model]:
    for number in range(_OWNERS * _EACH):
        due = _START + timedelta(minutes=number)
        yield Task(text=f"task {number % 5}", owner_id=f"{name}-{number % _OWNERS}", rank=float(number), due=due)


def _owners(name: str) -> list[str]:
    return [f"{name}-{number}" for number in range(_OWNERS)]


def _orders(name: str) -> Iterable[Model]:
    yield from (Customer(id=f"{name}-{number}") for number in range(20))
    for number in range(200):
        order = f"{name}-{number}"
        yield Order(id=order, customer_id=f"{name}-{number % 20}", placed_at=_START + timedelta(minutes=number))
        yield from (Line(order_id=order, text=f"line {line}") for line in range(3))


def _payments(name: str) -> Iterable[Model]:
    return (Payment(id=f"{name}-{n}", owner_id=f"{name}-{n % 10}", amount=n / 4) for n in range(1_000))


def _messages(name: str) -> Iterable[Model]:
    return (Message(id=f"{name}-{n}", text=f"fig {n % 7} of {name}", channel=name) for n in range(500))


# -- what is asked -------------------------------------------------------------------------------------------------


def _in(store: ConvexStore, name: str) -> Iterable[Model]:
    with Session(store.deployment) as session:
        return session.all(Task.query().where(Task.owner_id.in_(_owners(name))).limit(20))


def _in_by_date(store: ConvexStore, name: str) -> Iterable[Model]:
    latest = Task.query().where(Task.owner_id.in_(_owners(name))).order_by(Task.due.desc()).limit(20)
    with Session(store.deployment) as session:
        return session.all(latest)


def _orders_with_all(store: ConvexStore, name: str) -> Iterable[Model]:
    mine = Order.query().by_index("by_order_id", Order.id.startswith(f"{name}-"))
    with Session(store.deployment) as session:
        orders = session.all(mine.load(Order.customer, Order.lines))
        customers = {order.customer.id: order.customer for order in orders}
        return [*orders, *customers.values(), *(line for order in orders for line in order.lines)]


def _last_of_each(store: ConvexStore, name: str) -> Iterable[Model]:
    mine = Customer.query().by_index("by_customer_id", Customer.id.startswith(f"{name}-"))
    with Session(store.deployment) as session:
        customers = session.all(mine.load(Customer.orders.order("desc").limit(3)))
        return [*customers, *(order for customer in customers for order in customer.orders)]


def _across(store: ConvexStore, name: str) -> Iterable[Model]:
    mine = Order.query().by_index("by_order_id", Order.id.startswith(f"{name}-"))
    with Session(store.deployment) as session:
        return session.all(mine.where(Order.customer.has(Customer.id == f"{name}-7")))


def _groups(store: ConvexStore, name: str) -> Iterable[Model]:
    everything = Task.query().where(Task.owner_id.in_(_owners(name)))
    with Session(store.deployment) as session:
        assert len(session.all(everything.group_by(Task.text).sum(Task.rank))) == 5
    return ()


def _ends(store: ConvexStore, name: str) -> Iterable[Model]:
    theirs = Task.query().by_index("by_owner_and_due", owner_id=f"{name}-7")
    with Session(store.deployment) as session:
        assert None not in session.read(theirs.min(Task.due), theirs.max(Task.due))
    return ()


def _different(store: ConvexStore, name: str) -> Iterable[Model]:
    mine = Task.query().by_index("by_owner", Task.owner_id.startswith(f"{name}-"))
    with Session(store.deployment) as session:
        assert len(session.all(mine.distinct(Task.owner_id))) == _OWNERS
    return ()


def _kept(store: ConvexStore, name: str) -> Iterable[Model]:
    theirs = Payment.query().where(Payment.owner_id == f"{name}-7")
    with Session(store.deployment) as session:
        assert session.read(theirs.count(), theirs.sum(Payment.amount))[0] == 100
    return ()


def _kept_groups(store: ConvexStore, name: str) -> Iterable[Model]:
    theirs = Payment.query().where(Payment.owner_id == f"{name}-7")
    with Session(store.deployment) as session:
        assert sum(count for _, count in session.all(theirs.group_by(Payment.paid).count())) == 100
    return ()


def _search(store: ConvexStore, name: str) -> Iterable[Model]:
    with Session(store.deployment) as session:
        return session.search_text(Message.by_text, "fig 3", where=Message.channel == name, limit=20)


def _computed(store: ConvexStore, name: str) -> Iterable[Model]:
    with Session(store.deployment) as session:
        for number in range(100):
            session.update(Payment, f"{name}-{number}", {"amount": Payment.amount + 1})
        session.commit()
    return ()


def _by_key(store: ConvexStore, name: str) -> Iterable[Model]:
    with Session(store.deployment) as session:
        found, created = session.get_or_create(Note, id=f"{name}-new", defaults={"title": "x"})
        assert created
        return (found,)


SCENARIOS = (
    Scenario(
        f"in_ of {_OWNERS} values, 20 of {_OWNERS * _EACH}",
        *(_stored(_tasks), _in),
        calls=1,
        documents=20,
        times_the_page=1.3,
        functions=_MODELS,
    ),
    Scenario(
        f"in_ of {_OWNERS} values, the latest 20 of all",
        *(_stored(_tasks), _in_by_date),
        calls=1,
        documents=120,
        times_the_page=1.3,
        functions=_MODELS,
    ),
    Scenario(
        "200 orders with customer and 3 lines each",
        *(_stored(_orders), _orders_with_all),
        calls=1,
        documents=820,
        times_the_page=1.3,
        functions=_SHOP,
    ),
    Scenario(
        "20 customers with their last 3 orders",
        *(_stored(_orders), _last_of_each),
        calls=1,
        documents=80,
        times_the_page=1.5,
        functions=_SHOP,
    ),
    Scenario("10 of 200 orders, by their customer", _stored(_orders), _across, calls=1, documents=220, functions=_SHOP),
    Scenario(
        f"group_by over {_OWNERS * _EACH}, sums",
        *(_stored(_tasks), _groups),
        calls=1,
        documents=_OWNERS * _EACH,
        answered=4_096,
        functions=_MODELS,
    ),
    Scenario("min and max over an index", _stored(_tasks), _ends, calls=1, documents=2, functions=_MODELS),
    Scenario(
        f"distinct, {_OWNERS} values of {_OWNERS * _EACH}",
        *(_stored(_tasks), _different),
        calls=1,
        documents=_OWNERS,
        functions=_MODELS,
    ),
    Scenario(
        "count and sum of 1,000 that are kept", _stored(_payments), _kept, calls=1, documents=2 * 16, functions=_MODELS
    ),
    Scenario(
        "groups of 1,000 that are kept", _stored(_payments), _kept_groups, calls=1, documents=2 * 16, functions=_MODELS
    ),
    Scenario(
        "search_text, 20 of 500", _stored(_messages), _search, calls=1, documents=20, times_the_page=1.3, functions=_MODELS
    ),
    Scenario(
        "100 increments in a commit",
        _stored(_payments),
        _computed,
        calls=1,
        documents=300,
        answered=8_192,
        functions=_MODELS,
    ),
    Scenario("get_or_create, of what is new", _stored(lambda name: ()), _by_key, calls=2, documents=1, functions=_MODELS),
)
