"""The shop on every deployment, and on both faces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from convexorm import AsyncSession, Deployment, Session
from tests.conftest import ROOT, Host, serve_host
from tests.faces import FACES, open_session
from tests.relations.models import MODELS, Customer, Order, OrderTag, Tag

Open = Callable[..., AsyncSession]
DAY = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="package")
def shop_host() -> Iterator[Host]:
    yield from serve_host(ROOT / "tests" / "relations" / "functions")


@pytest.fixture
def host(shop_host: Host) -> Host:
    return shop_host


def emptied(deployment: Deployment) -> Deployment:
    """The deployment without documents; what refers to others goes before what forbids to delete them."""
    with Session(deployment) as session:
        found = session.read(*(model.query().full_scan().limit(1) for model in MODELS))
        for model, items in reversed(list(zip(MODELS, found, strict=True))):
            if items:
                session.delete_all(model.query().full_scan())
    return deployment


@pytest.fixture(params=FACES)
def open_(request: pytest.FixtureRequest, deployment: Deployment) -> Open:
    """Opens sessions of one face on one deployment, which is empty."""
    emptied(deployment)
    return lambda **options: open_session(request.param, deployment, **options)


@pytest.fixture
def on_host(shop_host: Host) -> Iterator[Deployment]:
    """The deployment on the host, which is empty."""
    with shop_host.connect() as deployment:
        yield emptied(deployment)


def day(number: int) -> datetime:
    return DAY + timedelta(days=number)


async def save(session: AsyncSession, *instances: Any) -> None:
    await session.add_all(instances)
    await session.commit()


async def filled(open_: Open) -> None:
    """Three customers with two orders each, `c0` with four; every order with the tags `late` and `gift`, that of `c1`."""
    orders = [Order(id=f"o{n}", customer_id=f"c{n % 3}", placed_at=day(n), total=n * 10) for n in range(6)]
    orders += [Order(id=f"o{n}", customer_id="c0", placed_at=day(n), total=n * 10) for n in (6, 7)]
    await save(
        open_(),
        *(Customer(id=f"c{n}", country="PT" if n == 1 else "NL") for n in range(3)),
        *orders,
        Tag(id="late"),
        Tag(id="gift", owner_id="c1"),
        *(OrderTag(order_id=order.id, tag_id=tag, rank=n) for order in orders for n, tag in enumerate(("late", "gift"))),
    )
