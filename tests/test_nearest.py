"""Nearest rows of a matrix: the order of float64 brute force, whatever float32 makes of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convexorm.nearest import METRICS, best_of


def brute(metric: str, rows: Any, query: Any, top_k: int) -> tuple[list[int], list[float]]:
    """Positions and scores by the textbook, in float64."""
    exact = rows.astype(np.float64)
    if metric == "cosine":
        scores = exact @ query / (np.linalg.norm(exact, axis=1) * np.linalg.norm(query))
    elif metric == "dotproduct":
        scores = exact @ query
    else:
        scores = 1 / (1 + np.linalg.norm(exact - query, axis=1))
    order = np.argsort(-scores, kind="stable")[:top_k]
    return order.tolist(), scores[order].tolist()


def lengths(rows: Any) -> Any:
    return np.sqrt(np.einsum("ij,ij->i", rows, rows))


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 400),
    dimension=st.integers(2, 64),
    top_k=st.integers(1, 30),
    spread=st.sampled_from([1.0, 1e-3, 1e-6]),
    shift=st.sampled_from([0.0, 1.0, 100.0]),
)
def test_rows_and_scores_are_those_of_float64(
    metric: Any, seed: int, size: int, dimension: int, top_k: int, spread: float, shift: float
) -> None:
    random = np.random.default_rng(seed)
    # rows close to each other are what float32 confuses
    rows = (shift + spread * random.standard_normal((size, dimension))).astype(np.float32)
    query = shift + spread * random.standard_normal(dimension)
    found = best_of(metric, rows, lengths(rows), query, top_k)
    positions, scores = brute(metric, rows, query, top_k)
    assert found.scores.tolist() == pytest.approx(scores, abs=1e-9, rel=1e-12)
    # where scores are equal up to the last bits of float64 order may differ
    _, further = brute(metric, rows, query, top_k + 1)
    if all(one - other > 1e-9 for one, other in pairwise(further)):
        assert found.positions.tolist() == positions


@pytest.mark.parametrize("metric", METRICS)
def test_only_chosen_rows_are_looked_at(metric: Any) -> None:
    rows = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    chosen = np.array([3, 50, 99])
    found = best_of(metric, rows, lengths(rows), rows[7].astype(np.float64), 10, chosen)
    assert sorted(found.positions.tolist()) == [3, 50, 99]


def test_of_equal_scores_the_earlier_row_is_nearer() -> None:
    rows = np.ones((50, 4), dtype=np.float32)
    found = best_of("cosine", rows, lengths(rows), np.ones(4), 5)
    assert found.positions.tolist() == [0, 1, 2, 3, 4]


def test_a_zero_row_is_as_far_as_can_be_under_cosine() -> None:
    rows = np.array([[0, 0], [-1, 0.1]], dtype=np.float32)
    found = best_of("cosine", rows, lengths(rows), np.array([1.0, 0.0]), 2)
    assert found.positions.tolist() == [1, 0]
    assert found.scores[1] == -1


def test_nothing_is_nearest_to_anything() -> None:
    empty = np.empty((0, 4), dtype=np.float32)
    assert best_of("cosine", empty, lengths(empty), np.ones(4), 5).positions.tolist() == []
