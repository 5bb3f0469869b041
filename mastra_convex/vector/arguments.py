"""Checking what the vector store's methods are given, before anything is read or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from mastra_convex.arguments import check_id
from mastra_convex.errors import InvalidArgument

__all__ = [
    "Matrix",
    "check_dimension",
    "check_ids",
    "check_ids_of",
    "check_metadata",
    "check_metric",
    "check_min_score",
    "check_top_k",
    "check_vectors",
]

Matrix: TypeAlias = np.ndarray[Any, Any]

DIMENSIONS = range(1, 8_193)
"""A vector is stored as an array, and Convex's arrays hold 8,192 elements."""


def check_dimension(operation: str, dimension: object, right: range = DIMENSIONS) -> int:
    if isinstance(dimension, bool) or not isinstance(dimension, int) or dimension not in right:
        problem = f"a whole number from {right.start} to {right.stop - 1:,}"
        raise InvalidArgument(problem, operation=operation, argument="dimension")
    return dimension


def check_metric(operation: str, metric: object, known: Sequence[str]) -> str:
    if metric not in known:
        raise InvalidArgument(f"one of {', '.join(known)}", operation=operation, argument="metric")
    return str(metric)


def check_top_k(operation: str, top_k: object, most: int | None = None) -> int:
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1 or (most is not None and top_k > most):
        right = "a whole number from 1" + (f" to {most}" if most is not None else "")
        raise InvalidArgument(right, operation=operation, argument="top_k")
    return top_k


def check_min_score(operation: str, min_score: object) -> None:
    if min_score is None:
        return
    if isinstance(min_score, bool) or not isinstance(min_score, int | float | np.number) or min_score != min_score:
        raise InvalidArgument("a number, or None", operation=operation, argument="min_score")


def check_vectors(operation: str, argument: str, vectors: object, dimension: int, *, directed: bool) -> Matrix:
    """Vectors as a matrix of float32 (if given as that) or float64, a row each.

    With `directed` none may be zero, or zero in float32: a zero vector has no direction to compare.
    """
    try:
        matrix = np.asarray(vectors)
        if matrix.dtype.kind not in "fiu" and not _all_numbers(matrix):
            raise TypeError
        if matrix.dtype != np.float32:
            with np.errstate(over="ignore"):
                matrix = matrix.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgument("numbers, as many for each vector", operation=operation, argument=argument) from None
    if matrix.ndim != 2 or not len(matrix):
        raise InvalidArgument("one vector or more", operation=operation, argument=argument)
    if matrix.shape[1] != dimension:
        raise InvalidArgument(
            f"{matrix.shape[1]} dimensions, the index has {dimension}",
            operation=operation,
            argument=argument,
            status="INVALID_DIMENSION",
        )
    with np.errstate(over="ignore"):
        single = matrix.astype(np.float32, copy=False)
    if not np.isfinite(single).all():
        raise InvalidArgument("finite numbers that float32 can hold", operation=operation, argument=argument)
    if directed and not single.any(axis=1).all():
        raise InvalidArgument("a zero vector has no direction under cosine", operation=operation, argument=argument)
    return matrix


def _all_numbers(matrix: Matrix) -> bool:
    """Whether an array of objects has real numbers only, such as fractions and large integers; booleans are none."""
    return matrix.dtype.kind == "O" and all(isinstance(one, Real) and not isinstance(one, bool) for one in matrix.flat)


def check_ids(operation: str, ids: object) -> list[str]:
    """Record ids; one given twice counts once."""
    if not isinstance(ids, Sequence) or isinstance(ids, str) or not ids:
        raise InvalidArgument("one id or more", operation=operation, argument="ids")
    return list(dict.fromkeys(check_id(operation, "ids", one) for one in ids))


def check_ids_of(operation: str, ids: object, size: int) -> list[str]:
    """The ids of so many vectors, each once."""
    checked = check_ids(operation, ids)
    given = len(ids)  # type: ignore[arg-type]
    if given != size:
        raise InvalidArgument(f"{given} for {size} vectors", operation=operation, argument="ids")
    if len(checked) < size:
        raise InvalidArgument("an id twice", operation=operation, argument="ids")
    return checked


def check_metadata(operation: str, metadata: object, size: int) -> Sequence[Mapping[str, Any] | None]:
    """Metadata of each vector: a mapping, or None for none."""
    if metadata is None:
        return [None] * size
    if not isinstance(metadata, Sequence) or len(metadata) != size:
        raise InvalidArgument("one for each vector", operation=operation, argument="metadata")
    for one in metadata:
        if one is not None and not isinstance(one, Mapping):
            raise InvalidArgument("mappings, or None", operation=operation, argument="metadata")
    return metadata
