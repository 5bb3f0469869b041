"""What several values come to at once is what they come to one after the other."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from convexorm import aggregates
from convexorm.aggregates import Extreme, Sum
from convexorm.values import MISSING, ConvexInt64

CHANCE = random.Random(5)
NUMBERS: Sequence[Sequence[Any]] = (
    [],
    [1, 2, 3],
    [0, 0],
    [0.0, -0.0],
    [-0.0, 0.0, -0.0],
    [-0.0],
    [-1.0, 0, -0.0],
    [0.1] * 10,
    [1e308, 1e308, -1e308, -1e308],
    [1e308, 1e308],
    [1e16, 1.0, -1e16, 5e-324],
    [5e-324, -5e-324, 1e-310],
    [2**53, 2**53, 0.5, 1],
    [math.inf, 1.0],
    [math.inf, -math.inf],
    [math.nan, 1.0],
    [1.0, math.nan],
    [2**53 - 1, 1e308, 1e308, 0.5],
    [CHANCE.uniform(-1e6, 1e6) for _ in range(200)],
    [CHANCE.random() * 2.0 ** CHANCE.randrange(-1_000, 1_000) for _ in range(200)],
    [round(CHANCE.uniform(0, 100), 2) for _ in range(200)],
    [CHANCE.choice((0.25, 3, 7.0, -2)) for _ in range(50)],
)
OTHERS: Sequence[Sequence[Any]] = (
    [None, MISSING],
    [None, 1.5, MISSING, 2],
    [True, 1, 2.5],
    [True, False],
    ["b", "a", None],
    ["b", 1.0],
    [ConvexInt64(7), 1.0, None],
    [[1.0], 2.0, {"a": 1.0}, b"x"],
)


@pytest.mark.parametrize("values", [*NUMBERS, *OTHERS], ids=repr)
def test_sums(values: Sequence[Any]) -> None:
    at_once, one_by_one = Sum(), Sum()
    at_once.take_all(values)
    for value in values:
        one_by_one.take(value)
    assert at_once == one_by_one


@pytest.mark.parametrize("values", NUMBERS, ids=repr)
def test_sums_of_what_is_known_to_be_numbers(values: Sequence[Any]) -> None:
    total = Sum()
    total.take_numbers(values)
    if all(map(math.isfinite, values)):
        assert Fraction(total.bits, 1 << 1074) == sum(map(Fraction, values))
    assert total.n == len(values)


@pytest.mark.parametrize("values", [*NUMBERS, [ConvexInt64(2**62), 0.1, ConvexInt64(3)], [1.0, ConvexInt64(2)]], ids=repr)
def test_totals_and_averages_are_rounded_once(values: Sequence[Any]) -> None:
    total = Sum()
    total.take_all(values)
    numbers = [float(value) if isinstance(value, int | float) else value.value for value in values]
    if not all(map(math.isfinite, numbers)):
        assert repr(total.total) == repr(sum(numbers))
        return
    exact = sum(map(Fraction, numbers), Fraction())
    assert (total.average is None) == (not values)
    for found, wanted in ((total.total, exact), (total.average or 0.0, exact / max(1, len(values)))):
        assert found == (float(wanted) if abs(wanted) < 2**1024 - 2**970 else math.inf)


def test_a_sum_that_takes_too_many_rounds_is_found_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregates, "_SUMS", 1)
    total = Sum()
    total.take_numbers([0.1, 0.2])
    assert Fraction(total.bits, 1 << 1074) == Fraction(0.1) + Fraction(0.2)
    assert total.n == 2


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("values", [*NUMBERS, *OTHERS], ids=repr)
def test_extremes(values: Sequence[Any], side: int) -> None:
    at_once, one_by_one = Extreme(side), Extreme(side)
    at_once.take_all(values)
    for value in values:
        one_by_one.take(value)
    assert repr(at_once.value) == repr(one_by_one.value)
