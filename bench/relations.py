"""Relations and queries of convexorm, SQLAlchemy and peewee: orders with customers and lines, `in`, groups, increments.

Each side has the same orders, customers and lines in a file in WAL mode, does each job in a session of its own, and looks
at what it has found. `python -m bench.relations ROUNDS` takes another number of rounds.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path

import peewee
import sqlalchemy as sa
from sqlalchemy import orm

from bench.tables import interleaved, print_table, seconds
from convexorm import Index, Mapped, Model, Related, RelatedList, Session, Sum, connect, field, relationship
from convexorm.deployments.embedded.excerpts import forget

ORDERS, CUSTOMERS, LINES, SALES, STATES, CHOSEN, INCREMENTS = 1_000, 100, 3, 10_000, 5, 100, 1_000
ROUNDS = 15
Job = Callable[[], object]
"""Does one job, and answers what was found, the same on all sides."""
JOBS = {
    "load": f"{ORDERS:,} orders with customer and {LINES} lines each",
    "in": f"in_ of {CHOSEN} values, {SALES // 10:,} found",
    "first": f"group_by over {SALES:,}, sums, for the first time",
    "again": "the same again, after one of them has changed",
    "group": "the same again, after nothing has changed",
    "kept": "the same, where ours declares a Sum",
    "increment": f"{INCREMENTS:,} increments, a commit each",
}
SOLD = [(f"s{n}", f"buyer {n % (SALES // 10)}", f"state {n % STATES}", n % 97) for n in range(SALES)]
BUYERS = [f"buyer {n * 7}" for n in range(CHOSEN)]


class Customer(Model, table="customers", primary_key="id"):
    id: Mapped[str]
    name: Mapped[str]
    by_customer_id = Index("id")


class Order(Model, table="orders", primary_key="id"):
    id: Mapped[str]
    customer_id: Mapped[str] = field(references=Customer)
    total: Mapped[int]
    customer: Related[Customer] = relationship("customer_id")
    lines: RelatedList[Line] = relationship("by_order")
    by_order_id = Index("id")
    by_customer = Index("customer_id")


class Line(Model, table="lines"):
    order_id: Mapped[str] = field(references=Order)
    text: Mapped[str]
    by_order = Index("order_id")


class Sale(Model, table="sales", primary_key="id"):
    id: Mapped[str]
    buyer: Mapped[str]
    state: Mapped[str]
    amount: Mapped[int]
    by_sale_id = Index("id")
    by_buyer = Index("buyer")


class Kept(Model, table="kept", primary_key="id"):
    """Sales whose sums are kept with every write."""

    id: Mapped[str]
    buyer: Mapped[str]
    state: Mapped[str]
    amount: Mapped[int]
    by_kept_id = Index("id")
    by_buyer = Index("buyer")
    total = Sum("amount", by="state")


class Count(Model, table="counts", primary_key="name"):
    name: Mapped[str]
    n: Mapped[int]
    by_name = Index("name")


def _ours(path: Path) -> Mapping[str, Job]:
    deployment = connect(f"sqlite:///{path}")
    with Session(deployment) as session:
        session.add_all([Customer(id=f"c{n}", name=f"customer {n}") for n in range(CUSTOMERS)])
        session.add_all([Order(id=f"o{n}", customer_id=f"c{n % CUSTOMERS}", total=n) for n in range(ORDERS)])
        session.add_all([Line(order_id=f"o{n % ORDERS}", text=f"line {n}") for n in range(ORDERS * LINES)])
        for model in (Sale, Kept):
            session.commit()
            session.add_all([model(id=id, buyer=buyer, state=state, amount=amount) for id, buyer, state, amount in SOLD])
        session.add(Count(name="one", n=0))
        session.commit()

    def load() -> int:
        with Session(deployment) as session:
            orders = session.all(Order.query().full_scan().load(Order.customer, Order.lines))
            return sum(len([line.text for line in order.lines]) for order in orders if order.customer.name)

    def chosen() -> int:
        with Session(deployment) as session:
            return sum(sale.amount for sale in session.all(Sale.query().where(Sale.buyer.in_(BUYERS))) if sale.state)

    def grouped() -> object:
        with Session(deployment) as session:
            return session.all(Sale.query().full_scan().group_by(Sale.state).sum(Sale.amount))

    def kept() -> object:
        with Session(deployment) as session:
            return session.all(Kept.query().group_by(Kept.state).sum(Kept.amount))

    def increment() -> None:
        for _ in range(INCREMENTS):
            with Session(deployment) as session:
                session.update(Count, "one", {"n": Count.n + 1})
                session.commit()

    changes = count()

    def change() -> None:
        with Session(deployment) as session:
            session.update(Sale, f"s{next(changes) * 7 % SALES}", {"buyer": "another"})
            session.commit()

    return {
        "load": load,
        "in": chosen,
        "first": grouped,
        "before first": forget,
        "again": grouped,
        "before again": change,
        "group": grouped,
        "kept": kept,
        "increment": increment,
    }


class Base(orm.DeclarativeBase):
    pass


class AlchemyCustomer(Base):
    __tablename__ = "customers"
    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]


class AlchemyOrder(Base):
    __tablename__ = "orders"
    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    customer_id: orm.Mapped[str] = orm.mapped_column(sa.ForeignKey("customers.id"), index=True)
    total: orm.Mapped[int]
    customer: orm.Mapped[AlchemyCustomer] = orm.relationship()
    lines: orm.Mapped[list[AlchemyLine]] = orm.relationship()


class AlchemyLine(Base):
    __tablename__ = "lines"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    order_id: orm.Mapped[str] = orm.mapped_column(sa.ForeignKey("orders.id"), index=True)
    text: orm.Mapped[str]


class AlchemySale(Base):
    __tablename__ = "sales"
    id: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    buyer: orm.Mapped[str] = orm.mapped_column(index=True)
    state: orm.Mapped[str]
    amount: orm.Mapped[int]


class AlchemyCount(Base):
    __tablename__ = "counts"
    name: orm.Mapped[str] = orm.mapped_column(primary_key=True)
    n: orm.Mapped[int]


def _tuned(connection: sa.PoolProxiedConnection, _: object) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def _alchemy(path: Path) -> Mapping[str, Job]:
    engine = sa.create_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", _tuned)
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all([AlchemyCustomer(id=f"c{n}", name=f"customer {n}") for n in range(CUSTOMERS)])
        session.add_all([AlchemyOrder(id=f"o{n}", customer_id=f"c{n % CUSTOMERS}", total=n) for n in range(ORDERS)])
        session.add_all([AlchemyLine(order_id=f"o{n % ORDERS}", text=f"line {n}") for n in range(ORDERS * LINES)])
        session.add_all([AlchemySale(id=id, buyer=buyer, state=state, amount=amount) for id, buyer, state, amount in SOLD])
        session.add(AlchemyCount(name="one", n=0))
        session.commit()
    both = orm.selectinload(AlchemyOrder.customer), orm.selectinload(AlchemyOrder.lines)

    def load() -> int:
        with orm.Session(engine) as session:
            orders = session.scalars(sa.select(AlchemyOrder).options(*both)).all()
            return sum(len([line.text for line in order.lines]) for order in orders if order.customer.name)

    def chosen() -> int:
        with orm.Session(engine) as session:
            sales = session.scalars(sa.select(AlchemySale).where(AlchemySale.buyer.in_(BUYERS)))
            return sum(sale.amount for sale in sales if sale.state)

    def grouped() -> object:
        summed = sa.select(AlchemySale.state, sa.func.sum(AlchemySale.amount)).group_by(AlchemySale.state)
        with orm.Session(engine) as session:
            return [tuple(row) for row in session.execute(summed.order_by(AlchemySale.state))]

    def increment() -> None:
        change = sa.update(AlchemyCount).where(AlchemyCount.name == "one").values(n=AlchemyCount.n + 1)
        for _ in range(INCREMENTS):
            with orm.Session(engine) as session:
                session.execute(change)
                session.commit()

    groups = dict.fromkeys(("first", "again", "group", "kept"), grouped)
    return {"load": load, "in": chosen, **groups, "increment": increment}


_database = peewee.DatabaseProxy()


class PeeweeModel(peewee.Model):
    class Meta:
        database = _database


class PeeweeCustomer(PeeweeModel):
    id = peewee.CharField(primary_key=True)
    name = peewee.CharField()


class PeeweeOrder(PeeweeModel):
    id = peewee.CharField(primary_key=True)
    customer = peewee.ForeignKeyField(PeeweeCustomer)
    total = peewee.IntegerField()


class PeeweeLine(PeeweeModel):
    order = peewee.ForeignKeyField(PeeweeOrder, backref="lines")
    text = peewee.CharField()


class PeeweeSale(PeeweeModel):
    id = peewee.CharField(primary_key=True)
    buyer = peewee.CharField(index=True)
    state = peewee.CharField()
    amount = peewee.IntegerField()


class PeeweeCount(PeeweeModel):
    name = peewee.CharField(primary_key=True)
    n = peewee.IntegerField()


def _peewee(path: Path) -> Mapping[str, Job]:
    _database.initialize(peewee.SqliteDatabase(str(path), pragmas={"journal_mode": "wal", "synchronous": "normal"}))
    _database.create_tables([PeeweeCustomer, PeeweeOrder, PeeweeLine, PeeweeSale, PeeweeCount])
    with _database.atomic():
        customers = [PeeweeCustomer(id=f"c{n}", name=f"customer {n}") for n in range(CUSTOMERS)]
        orders = [PeeweeOrder(id=f"o{n}", customer=f"c{n % CUSTOMERS}", total=n) for n in range(ORDERS)]
        lines = [PeeweeLine(order=f"o{n % ORDERS}", text=f"line {n}") for n in range(ORDERS * LINES)]
        sales = [PeeweeSale(id=id, buyer=buyer, state=state, amount=amount) for id, buyer, state, amount in SOLD]
        for model, rows in ((PeeweeCustomer, customers), (PeeweeOrder, orders), (PeeweeLine, lines), (PeeweeSale, sales)):
            model.bulk_create(rows, batch_size=100)
        PeeweeCount.create(name="one", n=0)

    def load() -> int:
        orders = peewee.prefetch(PeeweeOrder.select(), PeeweeCustomer.select(), PeeweeLine.select())
        return sum(len([line.text for line in order.lines]) for order in orders if order.customer.name)

    def chosen() -> int:
        sales = PeeweeSale.select().where(PeeweeSale.buyer.in_(BUYERS))
        return sum(sale.amount for sale in sales if sale.state)

    def grouped() -> object:
        summed = PeeweeSale.select(PeeweeSale.state, peewee.fn.SUM(PeeweeSale.amount)).group_by(PeeweeSale.state)
        return list(summed.order_by(PeeweeSale.state).tuples())

    def increment() -> None:
        for _ in range(INCREMENTS):
            PeeweeCount.update(n=PeeweeCount.n + 1).where(PeeweeCount.name == "one").execute()

    groups = dict.fromkeys(("first", "again", "group", "kept"), grouped)
    return {"load": load, "in": chosen, **groups, "increment": increment}


def _measured(jobs: Mapping[str, Job], job: str) -> float:
    """The seconds a job takes, without what a side does before."""
    jobs.get(f"before {job}", int)()
    return seconds(jobs[job])


def main(arguments: list[str]) -> None:
    rounds = int(arguments[0]) if arguments else ROUNDS
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sides = {"ours": _ours, "alchemy": _alchemy, "peewee": _peewee}
        jobs = {name: make(Path(folder) / f"{name}.db") for name, make in sides.items()}
        for job, described in JOBS.items():
            first, *others = [jobs[name][job]() for name in sides]
            assert all(other == first for other in others), job
            taken = 3 if job == "increment" else rounds
            times = interleaved({name: partial(_measured, jobs[name], job) for name in sides}, taken)
            ours = times["ours"]
            beside = [cell for name in ("alchemy", "peewee") for cell in (f"{times[name] / ours:.2f}", "at least 1")]
            rows.append((described, f"{ours * 1000:.2f}", *beside))
    print_table(
        f"Relations, queries beside SQLAlchemy {sa.__version__} and peewee {version('peewee')}; medians of {rounds} rounds",
        ("job", "ms", "x SQLAlchemy", "goal", "x peewee", "goal"),
        rows,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
