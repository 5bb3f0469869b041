"""Types of what is asked of queries, as a checker infers them."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from datetime import datetime, timedelta
from typing import assert_type

from convexorm import Aggregate, AsyncSession, Column, Index, Mapped, Model, Page, Query, SearchIndex, Session, field


class Order(Model, table="typed_orders"):
    status: Mapped[str]
    total: Mapped[float]
    pieces: Mapped[int]
    discount: Mapped[float | None] = field(default=None)
    placed_at: Mapped[datetime | None] = field(default=None)
    took: Mapped[timedelta | None] = field(default=None)
    by_status = Index("status", "placed_at")
    by_status_text = SearchIndex("status")


query = Order.query().where(Order.status == "open")
assert_type(query.order_by(Order.placed_at.desc(), Order.total), Query[Order])
assert_type(query.sum(Order.total), Aggregate[float])
assert_type(query.sum(Order.discount), Aggregate[float])
query.order_by("total")  # type: ignore[arg-type]
query.select("total")  # type: ignore[call-overload]


def selections(session: Session) -> None:
    rows = query.select(Order.status, Order.total, Order.discount)
    assert_type(session.all(rows), list[tuple[str, float, float | None]])
    assert_type(session.first(rows), tuple[str, float, float | None] | None)
    assert_type(session.page(rows, 5), Page[tuple[str, float, float | None]])
    assert_type(session.all(query.select(Order.status)), list[tuple[str]])
    assert_type(session.all(query.distinct(Order.status)), list[str])
    assert_type(session.all(query.distinct(Order.placed_at)), list[datetime | None])
    for status, total, _ in session.stream(rows):
        assert_type(status, str)
        assert_type(total, float)


def aggregates(session: Session, column: Column[int]) -> None:
    assert_type(session.sum(query, Order.total), float)
    assert_type(session.sum(query, Order.discount), float)
    assert_type(session.sum(query, Order.pieces), int)
    assert_type(session.sum(query, Order.took), timedelta)
    assert_type(session.min(query, Order.placed_at), datetime | None)
    assert_type(session.max(query, Order.status), str | None)
    assert_type(session.avg(query, Order.pieces), float | None)
    assert_type(session.avg(query, Order.discount), float | None)
    assert_type(session.exists(query), bool)
    assert_type(
        session.read(query, query.sum(Order.discount), query.exists(), query.min(Order.pieces)),
        tuple[list[Order], float, bool, int | None],
    )
    assert_type(
        session.read(
            query.max(Order.discount), query.avg(Order.took), query.avg(Order.pieces), query.distinct(Order.status)
        ),
        tuple[float | None, timedelta | None, float | None, list[str]],
    )
    assert_type(
        session.read(query.group_by(Order.status).max(Order.discount), query.select(Order.pieces)),
        tuple[list[tuple[str, float | None]], list[tuple[int]]],
    )
    assert_type(session.sum(query, column), int)
    session.sum(query, "total")  # type: ignore[arg-type]


def show(*values: object) -> None: ...


async def where_anything_is_taken(session: AsyncSession, blocking: Session) -> None:
    show(await session.sum(query, Order.pieces))
    show(await session.sum(query, Order.discount))
    show(await session.min(query, Order.pieces))
    show(await session.max(query, Order.placed_at))
    show(await session.avg(query, Order.took))
    show(await session.all(query.distinct(Order.status)))
    total: object = await session.sum(query, Order.total)
    most: float | None = await session.max(query, Order.pieces)
    least: int | str | None = blocking.min(query, Order.pieces)
    show(total, most, least, blocking.sum(query, Order.pieces))


async def groups(session: AsyncSession) -> None:
    assert_type(await session.all(query.group_by(Order.status).sum(Order.total)), list[tuple[str, float]])
    assert_type(await session.all(query.group_by(Order.status, Order.pieces).count()), list[tuple[str, int, int]])
    assert_type(await session.first(query.group_by(Order.status).max(Order.discount)), tuple[str, float | None] | None)
    assert_type(await session.all(query.group_by(Order.status).min(Order.placed_at)), list[tuple[str, datetime | None]])


def texts(session: Session) -> None:
    assert_type(session.search_text(Order.by_status_text, "late", where=Order.pieces == 1, limit=3), list[Order])
    assert_type(session.read(Order.by_status_text.search("late"), query.count()), tuple[list[Order], int])
    session.search_text(Order.by_status_text, 7)  # type: ignore[arg-type]
    session.search_text("by_status_text", "late")  # type: ignore[arg-type]
