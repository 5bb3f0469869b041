"""Orders with their customers and lines, loaded by convexorm, SQLAlchemy (selectinload) and peewee (prefetch).

All read the same 1,000 orders of 100 customers, with three lines each, from a file in WAL mode, in a session of their own,
and look at every line and customer. `python -m bench.relations ROUNDS` takes another number of rounds.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import peewee
import sqlalchemy as sa
from sqlalchemy import orm

from bench.tables import interleaved, print_table, seconds
from convexorm import Index, Mapped, Model, Related, RelatedList, Session, connect, field, relationship

ORDERS, CUSTOMERS, LINES = 1_000, 100, 3
ROUNDS = 15
Load = Callable[[], int]
"""Loads everything, and answers how many lines there were."""


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


def _ours(path: Path) -> Load:
    deployment = connect(f"sqlite:///{path}")
    with Session(deployment) as session:
        session.add_all([Customer(id=f"c{n}", name=f"customer {n}") for n in range(CUSTOMERS)])
        session.add_all([Order(id=f"o{n}", customer_id=f"c{n % CUSTOMERS}", total=n) for n in range(ORDERS)])
        session.add_all([Line(order_id=f"o{n % ORDERS}", text=f"line {n}") for n in range(ORDERS * LINES)])
        session.commit()

    def load() -> int:
        with Session(deployment) as session:
            orders = session.all(Order.query().full_scan().load(Order.customer, Order.lines))
            return sum(len([line.text for line in order.lines]) for order in orders if order.customer.name)

    return load


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


def _alchemy(path: Path) -> Load:
    engine = sa.create_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA journal_mode = WAL"))
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add_all([AlchemyCustomer(id=f"c{n}", name=f"customer {n}") for n in range(CUSTOMERS)])
        session.add_all([AlchemyOrder(id=f"o{n}", customer_id=f"c{n % CUSTOMERS}", total=n) for n in range(ORDERS)])
        session.add_all([AlchemyLine(order_id=f"o{n % ORDERS}", text=f"line {n}") for n in range(ORDERS * LINES)])
        session.commit()
    both = orm.selectinload(AlchemyOrder.customer), orm.selectinload(AlchemyOrder.lines)

    def load() -> int:
        with orm.Session(engine) as session:
            orders = session.scalars(sa.select(AlchemyOrder).options(*both)).all()
            return sum(len([line.text for line in order.lines]) for order in orders if order.customer.name)

    return load


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


def _peewee(path: Path) -> Load:
    _database.initialize(peewee.SqliteDatabase(str(path), pragmas={"journal_mode": "wal"}))
    _database.create_tables([PeeweeCustomer, PeeweeOrder, PeeweeLine])
    with _database.atomic():
        customers = [PeeweeCustomer(id=f"c{n}", name=f"customer {n}") for n in range(CUSTOMERS)]
        orders = [PeeweeOrder(id=f"o{n}", customer=f"c{n % CUSTOMERS}", total=n) for n in range(ORDERS)]
        lines = [PeeweeLine(order=f"o{n % ORDERS}", text=f"line {n}") for n in range(ORDERS * LINES)]
        for model, rows in ((PeeweeCustomer, customers), (PeeweeOrder, orders), (PeeweeLine, lines)):
            model.bulk_create(rows, batch_size=100)

    def load() -> int:
        orders = peewee.prefetch(PeeweeOrder.select(), PeeweeCustomer.select(), PeeweeLine.select())
        return sum(len([line.text for line in order.lines]) for order in orders if order.customer.name)

    return load


def main(arguments: list[str]) -> None:
    rounds = int(arguments[0]) if arguments else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        sides = {"ours": _ours, "alchemy": _alchemy, "peewee": _peewee}
        loads = {name: make(Path(folder) / f"{name}.db") for name, make in sides.items()}
        assert {load() for load in loads.values()} == {ORDERS * LINES}
        times = interleaved({name: partial(seconds, load) for name, load in loads.items()}, rounds)
    ours = times["ours"]
    print_table(
        f"Relations beside SQLAlchemy {sa.__version__} and peewee {version('peewee')}; medians of {rounds} rounds",
        ("job", "ms", "x SQLAlchemy", "goal", "x peewee", "goal"),
        [
            (
                f"{ORDERS:,} orders with customer and {LINES} lines each",
                f"{ours * 1000:.1f}",
                *(f"{times['alchemy'] / ours:.2f}", "at least 1"),
                *(f"{times['peewee'] / ours:.2f}", "at least 1"),
            )
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
