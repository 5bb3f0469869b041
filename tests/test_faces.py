"""What users read when they call a method wrongly: names that they know, on both faces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from convexorm import AsyncSession, Session, ValidationError, connect
from mastra_convex import AsyncConvexStore, ConvexStore
from tests.models import Note

CALLS: dict[str, Callable[[Any], Any]] = {
    "Session.get": lambda session: session.get(id="a"),
    "Session.add": lambda session: session.add(Note(id="a"), uniq=True),
    "Session.commit": lambda session: session.commit(now=True),
    "Session.delete_all": lambda session: session.delete_all(),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_told_by_the_name_of_the_method(name: str) -> None:
    with connect("memory:") as deployment:
        with Session(deployment) as session, pytest.raises(TypeError, match=rf"^{name}\(\)"):
            CALLS[name](session)
        with pytest.raises(TypeError, match=rf"^{name}\(\)"):
            asyncio.run(_awaited(CALLS[name], AsyncSession(deployment)))


async def _awaited(call: Callable[[Any], Any], session: AsyncSession) -> None:
    await call(session)


def test_a_wrong_argument_of_a_domain_is_told_by_the_domain() -> None:
    with (
        ConvexStore(id="x", deployment_url="memory:") as store,
        pytest.raises(TypeError, match=r"^Memory\.save_thread\(\)"),
    ):
        cast("Any", store.memory).save_thread(thred={})
    awaited = AsyncConvexStore(id="x", deployment_url="memory:")
    with pytest.raises(TypeError, match=r"^Memory\.list_messages\(\)"):
        cast("Any", awaited.memory).list_messages(thread="t")


@pytest.mark.parametrize("rows", [{"id": "a"}, ["a"], [("id", "a")], [None]])
def test_rows_that_are_no_attributes_by_name_are_refused(rows: Any) -> None:
    with Session(connect("memory:")) as session, pytest.raises(ValidationError, match="notes: rows are attributes by name"):
        session.bulk_upsert(Note, rows)
