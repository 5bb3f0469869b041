"""What a read makes of the documents it has found."""

from __future__ import annotations

import math
from typing import Any

import pytest

from convexorm.deployments.documents import packed
from convexorm.requests import Pack, ReadResult
from convexorm.values import ConvexInt64


@pytest.mark.parametrize("other", ["ab", [1.0], [1.0, True], [1.0, ConvexInt64(1)], [[], []], [None, 1.0], {"a": 1.0}])
def test_a_pack_leaves_out_what_is_no_array_of_so_many_numbers(other: Any) -> None:
    documents = [{"_id": "a", "at": [1, 0.5]}, {"_id": "b", "at": other}, {"_id": "c"}]
    result = packed(ReadResult(documents, 3, 0, False), Pack("at", 2))
    assert result.matrix is not None
    assert (result.docs, list(result.matrix.ids), result.matrix.rows.tolist()) == ([{"_id": "a"}], ["a"], [[1.0, 0.5]])
    assert not result.matrix.rounded
    assert list(result.digests) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("number", "rounded"), [(0.1, True), (1e300, True), (math.nan, False), (-0.0, False), (1e-50, True)]
)
def test_a_pack_says_when_a_number_is_no_float32(number: float, rounded: bool) -> None:
    result = packed(ReadResult([{"_id": "a", "at": [number]}], 1, 0, False), Pack("at", 1))
    assert result.matrix is not None
    assert result.matrix.rounded == rounded
