"""Filters by column answer what filters by row do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mastra_convex.filters import compile_filter
from mastra_convex.vector.columns import Columns
from tests.mastra.test_filters import CASES

LARGE = st.sampled_from([2**60, 2**60 + 1, float(2**60), -(2**60) - 1, 10**400])
SCALARS = st.one_of(
    LARGE,
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(-3, 3, allow_nan=False),
    st.sampled_from(["", "a", "b", "10"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=5,
)
METADATA = st.none() | st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, max_size=3)
NUMBERS = LARGE | st.integers(-3, 3) | st.floats(-3, 3, allow_nan=False)
LEAVES = st.one_of(
    st.builds(lambda name, value: {name: value}, st.sampled_from(["a", "b", "a.b"]), SCALARS),
    st.builds(
        lambda name, op, value: {name: {op: value}},
        st.sampled_from(["a", "b", "a.b"]),
        st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"]),
        NUMBERS,
    ),
    st.builds(lambda name, values: {name: {"$not": {"$all": values}}}, st.sampled_from(["a", "a.b"]), st.lists(SCALARS)),
    st.builds(lambda name, low, high: {name: {"$gte": low, "$lt": high}}, st.sampled_from(["a", "b"]), NUMBERS, NUMBERS),
    st.builds(lambda name, values: {name: {"$in": values}}, st.sampled_from(["a", "b"]), st.lists(SCALARS, max_size=3)),
    st.builds(lambda name, there: {name: {"$exists": there}}, st.sampled_from(["a", "c"]), st.booleans()),
)
FILTERS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(lambda op, parts: {op: parts}, st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda parts: {"$nor": parts}, st.lists(inner, max_size=3))
        | st.builds(lambda part: {"$not": part}, inner)
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(METADATA, max_size=12), filter=FILTERS)
def test_a_mask_is_what_matching_each_row_gives(rows: list[Any], filter: dict[str, Any]) -> None:
    compiled = compile_filter(filter, operation="TEST")
    columns = Columns(rows)
    expected = [compiled.matches(row) for row in rows]
    assert columns.matching(compiled).tolist() == expected
    assert columns.matching(compiled).tolist() == expected  # asked again, from what was kept


@pytest.mark.parametrize("case", [case for case in CASES if "matches" in case], ids=lambda case: str(case["filter"])[:60])
def test_every_case_of_the_filter_language_holds_by_column(case: dict[str, Any]) -> None:
    compiled = compile_filter(case["filter"], operation="TEST")
    assert Columns([case["metadata"]]).matching(compiled).tolist() == [case["matches"]]


def test_values_that_differ_only_in_type_are_told_apart() -> None:
    columns = Columns([{"a": True}, {"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": None}, {}])
    assert columns.matching(compile_filter({"a": 1}, operation="TEST")).tolist() == [False, True, True, False, False, False]
    assert columns.matching(compile_filter({"a": True}, operation="TEST")).tolist() == [True] + [False] * 5


@pytest.mark.parametrize("op", ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"])
def test_integers_that_a_float_does_not_tell_apart_are_told_apart(op: str) -> None:
    numbers = [2**60, 2**60 + 1, float(2**60), 10**400, -(10**400), 2**53, 2**53 + 1, 1]
    rows = [{"a": number} for number in numbers] + [{"a": [2**60 + 1]}, {}]
    columns = Columns(rows)
    for number in numbers:
        compiled = compile_filter({"a": {op: number}}, operation="TEST")
        assert columns.matching(compiled).tolist() == [compiled.matches(row) for row in rows]
        compiled = compile_filter({"a": {"$in": [number]}}, operation="TEST")
        assert columns.matching(compiled).tolist() == [compiled.matches(row) for row in rows]
