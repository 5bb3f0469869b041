"""Nearest rows of a matrix, exactly.

The matrix is float32, so that one product with the query runs at the speed of memory. Its scores are off by rounding, but
by no more than a known bound: every row that could be among the best is scored again in float64, and only these scores
decide. Rows so long or so short that float32 does not hold their squares are always scored so. Where rows were float64
before, those so long or so short that float32 does not hold themselves are answered without a score, for the caller to
read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np

__all__ = ["METRICS", "Metric", "Scored", "best_of", "exact_scores", "norms_of", "rounding_error"]

Metric: TypeAlias = Literal["cosine", "dotproduct", "euclidean"]
Array: TypeAlias = Any
"""A numpy array of floats, or of positions."""


@attrs.frozen
class Scored:
    """Rows by position, best first, with their scores; those whose score only the stored numbers can tell come last, as
    NaN.
    """

    positions: Array
    scores: Array


_LONGEST, _SHORTEST = 1e15, 1e-15
"""Lengths of rows whose squares float32 holds."""
_LEAST_ROUNDED = 1e-30
"""Length from which rounding a row to float32 moves it by no more than a unit in the last place of its length."""
_AT_ONCE = 4_096
"""Rows scored in float64 at a time."""


@attrs.frozen
class _Kind:
    """How a metric scores: roughly, from the float32 products with the query at length one (greater is better, any scale),
    and exactly.

    `spread` is the scale of the rough scores' errors, `rounding` how far rounding a row to float32 moves its exact score,
    both from the length of the longest row and the query's. Rows shorter than `shortest` have no rough score.
    """

    shortest: float
    rough: Callable[[Array, Array, float], Array]
    spread: Callable[[float, float], float]
    exact: Callable[[Array, Array], Array]
    rounding: Callable[[float, float], float]


def _products(rows: Array, query: Array) -> Array:
    """Row by row, so that equal rows have equal products; in a matrix product the last bits depend on the place."""
    return np.einsum("ij,j->i", rows, query)


def _exact_cosine(rows: Array, query: Array) -> Array:
    lengths = np.linalg.norm(rows, axis=1)
    odd = (lengths == 0) | ~np.isfinite(lengths)
    if odd.any():  # their squares are beyond float64: bring them near to one, by a power of two that changes no digit
        _, exponents = np.frexp(np.abs(rows).max(axis=1, where=odd[:, None], initial=0.0))
        rows = np.ldexp(rows, -exponents[:, None])
        lengths = np.linalg.norm(rows, axis=1)
    norms = lengths * np.linalg.norm(query)
    return np.divide(_products(rows, query), norms, out=np.full(len(rows), -1.0), where=norms > 0)


def norms_of(rows: Array) -> Array:
    """The lengths of rows of float32, as float32; infinite where that cannot hold them."""
    with np.errstate(over="ignore"):
        norms: Array = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        odd = np.flatnonzero(~((norms >= _SHORTEST) & (norms <= _LONGEST)))
        for start in range(0, len(odd), _AT_ONCE):
            part = odd[start : start + _AT_ONCE]
            norms[part] = np.linalg.norm(rows[part].astype(np.float64), axis=1)
    return norms


def _exact_euclidean(rows: Array, query: Array) -> Array:
    return 1 / (1 + np.linalg.norm(rows - query, axis=1))


METRICS: dict[str, _Kind] = {
    "cosine": _Kind(
        shortest=_SHORTEST,
        rough=lambda products, norms, query_norm: products / norms,
        spread=lambda longest, query_norm: 1.0,
        exact=_exact_cosine,
        rounding=lambda longest, query_norm: 2.0**-22,
    ),
    "dotproduct": _Kind(
        shortest=0,
        rough=lambda products, norms, query_norm: products,
        spread=lambda longest, query_norm: longest,
        exact=_products,
        rounding=lambda longest, query_norm: 2.0**-23 * longest * query_norm,
    ),
    "euclidean": _Kind(
        shortest=0,
        rough=lambda products, norms, query_norm: np.float32(2 * query_norm) * products - norms * norms,
        spread=lambda longest, query_norm: (longest + query_norm) ** 2,
        exact=_exact_euclidean,
        rounding=lambda longest, query_norm: 2.0**-23 * longest,
    ),
}
"""Cosine is -1 to 1 (-1 for a zero vector), dotproduct unbounded, euclidean `1 / (1 + distance)`."""


def best_of(
    metric: Metric,
    rows: Array,
    norms: Array,
    query: Array,
    top_k: int,
    chosen: Array | None = None,
    *,
    rounded: bool = False,
) -> Scored:
    """The `top_k` rows nearest to `query` (float64), of all or of those at the positions `chosen`.

    `norms` are the lengths of the rows (`norms_of`). Of equal scores the earlier row is nearer. With `rounded` the rows
    were float64 before: the answer goes on with all that were possibly among the best then. Time is that of one product
    of the matrix (or its chosen rows) with the query; memory some floats for each row.
    """
    kind = METRICS[metric]
    candidates = _candidates(kind, rows, norms, query, top_k, chosen)
    if not len(candidates):
        return Scored(candidates, np.empty(0))
    parts = (candidates[start : start + _AT_ONCE] for start in range(0, len(candidates), _AT_ONCE))
    scores = np.concatenate([exact_scores(metric, rows[part].astype(np.float64), query) for part in parts])
    if rounded:
        lengths = norms[candidates]
        sure = (lengths >= _LEAST_ROUNDED) & np.isfinite(lengths)
        scores = np.where(sure, scores, np.nan)
        if np.count_nonzero(sure) > top_k:
            least = np.partition(scores[sure], -top_k)[-top_k] - 2 * rounding_error(metric, lengths[sure], query)
            kept = ~sure | (scores >= least)
            candidates, scores = candidates[kept], scores[kept]
        top_k = len(candidates)
    order = np.argsort(-scores, kind="stable")[:top_k]
    return Scored(candidates[order], scores[order])


def _candidates(kind: _Kind, rows: Array, norms: Array, query: Array, top_k: int, chosen: Array | None) -> Array:
    """The positions, ascending, of the rows that may be among the best."""
    everything = np.arange(len(rows)) if chosen is None else chosen
    query_norm = float(np.linalg.norm(query))
    if top_k >= len(everything) or query_norm > _LONGEST:
        return everything
    unit = (query / (query_norm or 1.0)).astype(np.float32)
    with np.errstate(all="ignore"):
        if chosen is None:
            products = rows @ unit
        else:  # a copy of many rows takes longer than the product of all
            products = rows[chosen] @ unit if 4 * len(chosen) < len(rows) else (rows @ unit)[chosen]
            norms = norms[chosen]
        rough = kind.rough(products, norms, query_norm)
    unknown = ~((norms >= kind.shortest) & (norms <= _LONGEST))
    if unknown.any():
        rough = np.where(unknown, -np.inf, rough)
        norms = norms[~unknown]
    longest = max(float(norms.max()), _SHORTEST) if len(norms) else 0.0
    # each float32 product is off by at most (length + some) units in the last place of the lengths' product
    slack = (rows.shape[1] + 24) * 2.0**-23 * kind.spread(longest, query_norm)
    threshold = float(np.partition(rough, len(rough) - top_k)[len(rough) - top_k])
    found: Array = everything[np.flatnonzero((rough >= threshold - 2 * slack) | unknown)]
    return found


def exact_scores(metric: Metric, vectors: Array, query: Array) -> Array:
    """The scores of float64 vectors."""
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers near the end of float64
        return METRICS[metric].exact(vectors, query)


def rounding_error(metric: Metric, norms: Array, query: Array) -> float:
    """How far scores of rows of these lengths may be from those of the float64 rows they were rounded from."""
    return METRICS[metric].rounding(float(norms.max()), float(np.linalg.norm(query)))
