"""What a read makes of documents it has found: their digests, and one of their fields as a matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import islice
from typing import Any

from msgspec.structs import replace

from convexorm.aggregates import Groups
from convexorm.deployments.folds import folded
from convexorm.late import need
from convexorm.requests import Document, Matrix, Pack, Read, ReadResult, in_order, index_key, whole_digest
from convexorm.values import canonical

__all__ = ["answered", "derived", "document_digest", "packed", "plain"]


_NUMBERS = frozenset((float, int))
"""Types of numbers, as documents hold them; neither booleans nor int64."""


def document_digest(document: Document) -> str:
    """A digest of one document."""
    return sha256(canonical(dict(document))).hexdigest()[:16]


def answered(read: Read, matches: Iterable[Document]) -> ReadResult:
    """What a read answers of its matches in their order: documents, their number, or aggregates."""
    left = iter(() if read.limit == 0 and not read.peek else matches)
    skipped = sum(1 for _ in islice(left, read.skip))
    wanted = left if read.limit is None else islice(left, read.limit)
    found: Sequence[Document] = ()
    groups: Groups = {}
    if read.fold is not None:
        count, groups = folded(read.fold, wanted)
    elif read.count:
        count = sum(1 for _ in wanted)
    else:
        found = list(wanted) or ()
        count = len(found)
    more = read.peek and read.limit is not None and next(left, None) is not None
    return ReadResult(found, count, skipped, more, groups=groups)


def plain(read: Read) -> Read:
    """The read of the documents of which `derived` makes the answer to `read`."""
    limit = None if read.sort is not None else read.limit
    return replace(read, pack=None, digest=None, select=None, sort=None, limit=limit)


def derived(read: Read, result: ReadResult) -> ReadResult:
    """What a read answers whose documents are these: a matrix, digests, some fields, or the documents."""
    if read.pack is not None:
        return packed(result, read.pack)
    if read.sort is not None:
        first = in_order(result.docs, read.sort)[: read.limit]
        result = replace(result, docs=first, count=len(first))
    if read.select is not None:
        return _selected(read, read.select, result)
    if read.digest is None:
        return result
    digests = {document["_id"]: document_digest(document) for document in result.docs}
    if read.digest == "all":
        digests = {"": whole_digest(digests)}
    return ReadResult((), 0, 0, False, digests=digests)


def _selected(read: Read, fields: Sequence[str], result: ReadResult) -> ReadResult:
    docs = [{name: document[name] for name in fields if name in document} for document in result.docs]
    last = index_key(result.docs[-1], read.range)[: read.distinct] if result.docs and read.sort is None else None
    return replace(result, docs=docs, last=last)


def packed(result: ReadResult, pack: Pack) -> ReadResult:
    """A complete result with one field as a matrix, and the documents without it."""
    need("numpy")
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
