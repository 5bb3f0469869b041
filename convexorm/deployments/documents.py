"""What a read makes of documents it has found: their digests, and one of their fields as a matrix."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from convexorm.requests import Document, Matrix, Pack, ReadResult
from convexorm.values import canonical

__all__ = ["document_digest", "packed"]


_NUMBERS = frozenset((float, int))
"""Types of numbers, as documents hold them; neither booleans nor int64."""


def document_digest(document: Document) -> str:
    """A digest of one document."""
    return sha256(canonical(dict(document))).hexdigest()[:16]


def packed(result: ReadResult, pack: Pack) -> ReadResult:
    """A complete result with one field as a matrix, and the documents without it."""
    import numpy as np

    vectors: list[Any] = []
    kept: list[Document] = []
    for document in result.docs:
        value = document.get(pack.field)
        if not isinstance(value, list) or len(value) != pack.length or not _NUMBERS.issuperset(map(type, value)):
            continue
        vectors.append(value)
        kept.append({name: one for name, one in document.items() if name != pack.field})
    exact = np.array(vectors, dtype=np.float64).reshape(len(vectors), pack.length)
    with np.errstate(over="ignore"):
        rows = exact.astype(np.float32)
    matrix = Matrix([document["_id"] for document in kept], rows, not np.array_equal(rows, exact, equal_nan=True))
    digests = {document["_id"]: document_digest(document) for document in result.docs}
    return ReadResult(kept, 0, 0, False, None, matrix, digests)
