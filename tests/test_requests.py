"""Requests: what a read says beside equalities, an order, a filter and a limit is never passed over."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from convexorm.conditions import Comparison
from convexorm.requests import Bound, Fold, Follow, Ordering, Pack, Range, Read, TextSearch, is_plain
from tests.models import Note

TABLE = Note.__mapper__.table
PLAIN = Read(Range(TABLE, TABLE.indexes[0].name, ("a",)), limit=3)
OTHER: dict[str, Any] = {
    "after": ("b", 1.0, "c"),
    "skip": 1,
    "peek": True,
    "count": True,
    "pack": Pack("x", 2),
    "digest": "all",
    "since": "d",
    "select": ("x",),
    "fold": Fold((), ()),
    "merge": 0,
    "distinct": 1,
    "sort": (Ordering("x"),),
    "follow": (Follow("x", Range(TABLE, TABLE.indexes[0].name)),),
    "search": TextSearch("x", "y"),
}
OF_RANGES: dict[str, Any] = {
    "lower": Bound("a", True),
    "upper": Bound("a", True),
    "union": (Range(TABLE, TABLE.indexes[0].name, ("a",)),),
}
PART_OF_IT = {"range", "order", "filter", "limit"}


def test_a_plain_read_says_equalities_an_order_a_filter_and_a_limit() -> None:
    assert is_plain(PLAIN)
    assert is_plain(replace(PLAIN, order="desc", filter=Comparison("x", "eq", 1.0), limit=None))
    assert not is_plain(replace(PLAIN, limit=-1))
    assert not is_plain(replace(PLAIN, range=replace(PLAIN.range, eq=("a",) * 20)))


@pytest.mark.parametrize("name", [name for name in Read.__struct_fields__ if name not in PART_OF_IT])
def test_a_read_that_says_anything_else_is_not_plain(name: str) -> None:
    assert not is_plain(replace(PLAIN, **{name: OTHER[name]}))


@pytest.mark.parametrize("name", [name for name in Range.__struct_fields__ if name not in {"table", "index", "eq"}])
def test_a_range_that_says_anything_else_is_not_plain(name: str) -> None:
    assert not is_plain(replace(PLAIN, range=replace(PLAIN.range, **{name: OF_RANGES[name]})))
