"""Nearest rows of a matrix, exactly.

The matrix is float32, so that one product with the query runs at the speed of memory. Its scores are off by rounding, but
by no more than a known bound: every row that could be among the best is scored again in float64, and only these scores
decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np

__all__ = ["METRICS", "Metric", "Scored", "best_of", "exact_scores"]

Metric: TypeAlias = Literal["cosine", "dotproduct", "euclidean"]
Array: TypeAlias = Any
"""A numpy array of floats, or of positions."""


@attrs.frozen
class Scored:
    """Rows by position, best first, with their scores."""

    positions: Array
    scores: Array


@attrs.frozen
class _Kind:
    """How a metric scores: roughly from the float32 products (greater is better, any scale), and exactly."""

    rough: Callable[[Array, Array, float], Array]
    spread: Callable[[Array, float], float]
    exact: Callable[[Array, Array], Array]


def _rough_cosine(products: Array, norms: Array, query_norm: float) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = products / (norms * np.float32(query_norm))
    return np.where(norms > 0, scores, np.float32(-1))


def _exact_cosine(rows: Array, query: Array) -> Array:
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    return np.divide(rows @ query, norms, out=np.full(len(rows), -1.0), where=norms > 0)


def _rough_euclidean(products: Array, norms: Array, query_norm: float) -> Array:
    return 2 * products - norms * norms


def _exact_euclidean(rows: Array, query: Array) -> Array:
    return 1 / (1 + np.linalg.norm(rows - query, axis=1))


METRICS: dict[str, _Kind] = {
    "cosine": _Kind(_rough_cosine, lambda norms, query_norm: 1.0, _exact_cosine),
    "dotproduct": _Kind(
        lambda products, norms, query_norm: products,
        lambda norms, query_norm: float(norms.max()) * query_norm,
        lambda rows, query: rows @ query,
    ),
    "euclidean": _Kind(
        _rough_euclidean, lambda norms, query_norm: (float(norms.max()) + query_norm) ** 2, _exact_euclidean
    ),
}
"""Cosine is -1 to 1 (-1 for a zero vector), dotproduct unbounded, euclidean `1 / (1 + distance)`."""


def best_of(metric: Metric, rows: Array, norms: Array, query: Array, top_k: int, chosen: Array | None = None) -> Scored:
    """The `top_k` rows nearest to `query` (float64), of all or of those at the positions `chosen`.

    `norms` are the lengths of the rows, float32. Of equal scores the earlier row is nearer. Time is that of one product of
    the matrix (or its chosen rows) with the query; memory one float for each row.
    """
    kind = METRICS[metric]
    if chosen is not None:
        rows, norms = rows[chosen], norms[chosen]
    if not len(rows):
        return Scored(np.empty(0, dtype=np.int64), np.empty(0))
    query_norm = float(np.linalg.norm(query))
    rough = kind.rough(rows @ query.astype(np.float32), norms, query_norm)
    if top_k < len(rough):
        # float32: each product is off by at most (length + some) units in the last place of the lengths' product
        slack = (rows.shape[1] + 16) * 2.0**-23 * kind.spread(norms, query_norm)
        threshold = np.partition(rough, len(rough) - top_k)[len(rough) - top_k]
        candidates = np.flatnonzero(rough >= threshold - 2 * slack)
    else:
        candidates = np.arange(len(rough))
    scores = kind.exact(rows[candidates].astype(np.float64), query)
    order = np.argsort(-scores, kind="stable")[:top_k]
    positions = candidates[order]
    return Scored(positions if chosen is None else chosen[positions], scores[order])


def exact_scores(metric: Metric, vectors: Array, query: Array) -> Array:
    """The scores of float64 vectors."""
    return METRICS[metric].exact(vectors, query)
