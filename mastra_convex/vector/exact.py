"""`ConvexVector`: exact search over vectors kept in Convex documents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypedDict
from uuid import uuid4

import attrs
import numpy as np

from convexorm import AsyncSession, LimitExceeded, Query, StaleDataError, ValidationError
from convexorm.faces import blocking
from convexorm.nearest import METRICS, Metric, Scored, best_of, exact_scores, rounding_error
from convexorm.requests import Document
from convexorm.values import MISSING, same
from mastra_convex.arguments import check_id, check_json, check_keys, check_mapping, check_optional_id, check_whole
from mastra_convex.domain import AsyncDomain, Backend, Domain, Offload, run_here
from mastra_convex.entities import Vector, VectorIndex
from mastra_convex.errors import InvalidArgument, MastraError, named
from mastra_convex.filters import Filter, compile_filter
from mastra_convex.instants import now
from mastra_convex.records import merged
from mastra_convex.vector.arguments import (
    check_dimension,
    check_ids,
    check_ids_of,
    check_metadata,
    check_metric,
    check_min_score,
    check_top_k,
    check_vectors,
)
from mastra_convex.vector.kept import Matrices
from mastra_convex.vector.layers import Layers
from mastra_convex.vector.matrices import VectorMatrix, metadata_of, vectors_of
from mastra_convex.vector.upserts import store

__all__ = [
    "AsyncExactVectors",
    "ExactVectors",
    "IndexNotFound",
    "IndexStats",
    "QueryResult",
    "VectorUpdate",
]

Vector64: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

MAX_BYTES = 2 << 30
"""Memory for matrices by default."""
_UPSERTED_AT_ONCE = 1_900
"""Vectors written in one commit: replacing one takes two of the 4,096 index ranges Convex allows."""
_STREAMED_BYTES = 64 << 20
"""Bytes of matrix read at a time where all of it is too much."""
_DELETING_ATTEMPTS = 8
"""How often what matches a filter is looked for while others change it."""
_ATTEMPTS = 4
"""How often a query reads what has changed before it takes the index as it finds it, while others write without pause."""
_SCORES_WITHIN = 5e-7
"""How far off a score may be."""
_READ_AT_ONCE = 1_000
"""Vectors read again in one call."""
_OFFLOADED_BYTES = 1 << 20
"""Bytes of a matrix from which searching it would hold up an event loop."""


@attrs.frozen
class QueryResult:
    """A vector found: its record id, its score, and what was asked for besides."""

    id: str
    score: float
    metadata: dict[str, Any] | None = attrs.field(default=None, repr=False)
    vector: list[float] | None = attrs.field(default=None, repr=False)


@attrs.frozen
class IndexStats:
    """What is known of an index."""

    dimension: int
    count: int
    metric: str


class VectorUpdate(TypedDict, total=False):
    """What to change of a vector; metadata merges one level deep."""

    vector: Sequence[float]
    metadata: Mapping[str, Any]


class IndexNotFound(MastraError):
    """There is no vector index of this name."""

    status = "INDEX_NOT_FOUND"

    def __init__(self, index_name: str, *, operation: str) -> None:
        super().__init__(f"there is no vector index {named(index_name)}", operation=operation)
        self.index_name = index_name


class AsyncExactVectors(AsyncDomain):
    """The vector store's methods, awaited, over sessions of one deployment."""

    def __init__(self, backend: Backend, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(backend)
        check_whole("VECTOR_STORE", "max_bytes", max_bytes)
        self._matrices = Matrices(max_bytes, backend.offload)

    # -- indexes -------------------------------------------------------------------------------------------------

    async def create_index(self, *, index_name: str, dimension: int, metric: str = "cosine") -> None:
        """Create an index of vectors of `dimension` numbers, compared by cosine, dotproduct or euclidean distance.

        An index that is there with the same dimension and metric is fine; with others it is an InvalidArgument.
        """
        operation = "CREATE_INDEX"
        check_id(operation, "index_name", index_name)
        check_dimension(operation, dimension)
        check_metric(operation, metric, tuple(METRICS))

        async def create(session: AsyncSession) -> None:
            found = await session.get(VectorIndex, index_name)
            if found is None:
                index = VectorIndex(
                    id=index_name, index_name=index_name, dimension=dimension, metric=metric, created_at=now()
                )
                session.add(index, returning=False)
            elif (found.dimension, found.metric) != (dimension, metric):
                raise InvalidArgument(
                    f"the index exists with {found.dimension} dimensions and {found.metric}",
                    operation=operation,
                    argument="index_name",
                    status="INDEX_EXISTS",
                )

        async with self._session() as session:
            await session.transact(create)

    async def list_indexes(self) -> list[str]:
        """The names of all indexes, the oldest first."""
        async with self._session() as session:
            return [index.index_name async for index in session.stream(VectorIndex.query().by_index("by_creation_time"))]

    async def describe_index(self, *, index_name: str) -> IndexStats:
        """The dimension, the metric and the number of vectors, in one call and without moving a vector."""
        operation = "DESCRIBE_INDEX"
        check_id(operation, "index_name", index_name)
        async with self._session() as session:
            found, count = await session.read(_index(index_name), vectors_of(index_name).count())
            if not found:
                raise IndexNotFound(index_name, operation=operation)
            return IndexStats(found[0].dimension, count, found[0].metric)

    async def delete_index(self, *, index_name: str) -> None:
        """Delete an index and all its vectors; nothing happens where there is none.

        One atomic commit for up to 4,000 vectors (6 MiB); of more, vectors are deleted in several first, and the index
        itself with the last of them.
        """
        check_id("DELETE_INDEX", "index_name", index_name)
        vectors = vectors_of(index_name)
        async with self._session() as session:
            while True:
                session.delete_range(vectors)
                session.delete_key(VectorIndex, index_name)
                try:
                    await session.commit()
                except LimitExceeded:
                    session.rollback()
                    await session.delete_all(vectors)
                else:
                    break
        self._matrices.forget(index_name)

    async def truncate_index(self, *, index_name: str) -> None:
        """Delete all vectors of an index."""
        operation = "TRUNCATE_INDEX"
        async with self._session() as session:
            await self._existing(session, operation, index_name)
            await session.delete_all(vectors_of(index_name))

    # -- vectors -------------------------------------------------------------------------------------------------

    async def upsert(
        self,
        *,
        index_name: str,
        vectors: Sequence[Sequence[float]] | np.ndarray[Any, Any],
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[str]:
        """Store vectors, each whole and in place of one with its id; answers their ids.

        `vectors` is a list of lists or a matrix with a row each; a matrix of float32 is stored unconverted. Without `ids`
        new ones are made; without metadata what was there is erased. Up to 1,900 vectors (and 6 MiB) are one atomic commit,
        more are several in order: if one of those fails, PartialUpsert says how many are stored. Those under new ids are
        taken back. Raises IndexNotFound for an index that is not there, or that is deleted meanwhile: then nothing stays.
        """
        operation = "UPSERT"
        if ids is not None:
            check_ids(operation, ids)
        async with self._session() as session:
            index = await self._existing(session, operation, index_name)
            matrix = check_vectors(operation, "vectors", vectors, index.dimension, directed=index.metric == "cosine")
            keys = [str(uuid4()) for _ in matrix] if ids is None else check_ids_of(operation, ids, len(matrix))
            extras = check_metadata(operation, metadata, len(matrix))
            try:
                await store(
                    session,
                    Vector,
                    keys,
                    matrix,
                    lambda place: {"index_name": index_name, "metadata": extras[place]},
                    extras,
                    at_once=_UPSERTED_AT_ONCE,
                    operation=operation,
                    key=lambda id: (index_name, id),
                    new=ids is None,
                    under=index,
                )
            except StaleDataError as error:  # it was deleted meanwhile, with all that was stored in it
                raise IndexNotFound(index_name, operation=operation) from error
        return keys

    async def query(
        self,
        *,
        index_name: str,
        query_vector: Sequence[float] | np.ndarray[Any, Any],
        top_k: int = 10,
        filter: Mapping[str, Any] | None = None,
        include_vector: bool = False,
        min_score: float | None = None,
    ) -> list[QueryResult]:
        """The `top_k` vectors nearest to `query_vector` among those whose metadata matches `filter`, best first.

        Scores are those of float64, and of equal ones the vector stored earlier comes first. Only vectors that have changed
        since the last query are read again.
        """
        operation = "QUERY"
        check_id(operation, "index_name", index_name)
        check_top_k(operation, top_k)
        check_min_score(operation, min_score)
        wanted = compile_filter(filter, operation=operation)
        for attempt in reversed(range(_ATTEMPTS)):
            async with self._session() as session:
                found, digest = await session.read(_index(index_name), vectors_of(index_name).digest())
                if not found:
                    raise IndexNotFound(index_name, operation=operation)
                index = found[0]
                directed = index.metric == "cosine"
                vector = check_vectors(operation, "query_vector", [query_vector], index.dimension, directed=directed)
                matrix = self._matrices.known(index, digest)
                if matrix is None:
                    read = await self._matrices.refreshed(session, index, digest, anew=not attempt)
                    if read is not None and attempt and not read.settled:
                        continue
                    matrix = None if read is None else read.matrix
                query = vector[0].astype(np.float64)
                search = _Search(
                    session, index, query, top_k, wanted, include_vector, min_score, self._backend.offload, not attempt
                )
                try:
                    if matrix is not None:
                        return await search.of(matrix)
                    return await search.over(_pages(session, index))
                except _ChangedMeanwhile:
                    continue
        raise AssertionError("the last attempt answers")

    async def update_vector(
        self,
        *,
        index_name: str,
        update: VectorUpdate,
        id: str | None = None,
        filter: Mapping[str, Any] | None = None,
    ) -> None:
        """Change the vector with this id, or all that match a filter; one that is not there is passed over.

        Metadata merges one level deep; concurrent updates are all kept.
        """
        operation = "UPDATE_VECTOR"
        given = check_keys(operation, "update", update, ("vector", "metadata"))
        metadata = given.get("metadata")
        if metadata is not None:
            metadata = check_json(operation, "update.metadata", check_mapping(operation, "update.metadata", metadata))
        if (id is None) == (filter is None):
            raise InvalidArgument("either an id or a filter", operation=operation, argument="id")
        wanted = None if id is not None else _condition(operation, filter)
        chosen = check_optional_id(operation, "id", id)
        async with self._session() as session:
            index = await self._existing(session, operation, index_name)
            directed = index.metric == "cosine"
            vector = given.get("vector")
            if vector is not None:
                vector = check_vectors(operation, "update.vector", [vector], index.dimension, directed=directed)[0]
            targets = [str(chosen)] if wanted is None else list(await self._matching(session, index, wanted))
            for batch in _batches(targets):

                async def change(session: AsyncSession, ids: Sequence[str] = batch) -> None:
                    for one in await session.get_many(Vector, [(index_name, one) for one in ids]):
                        if one is None or (wanted is not None and not wanted.matches(one.metadata)):
                            continue  # gone, or what matches no more
                        if vector is not None:
                            one.embedding = vector
                        if metadata is not None:
                            one.metadata = merged(operation, "update.metadata", one.metadata, metadata)

                await session.transact(change)

    async def delete_vector(self, *, index_name: str, id: str) -> None:
        """Delete the vector with this id; nothing happens where there is none."""
        check_id("DELETE_VECTOR", "id", id)
        await AsyncExactVectors.delete_vectors(self, index_name=index_name, ids=[id])

    async def delete_vectors(
        self, *, index_name: str, ids: Sequence[str] | None = None, filter: Mapping[str, Any] | None = None
    ) -> None:
        """Delete vectors by their ids, or all that match a filter, up to 1,000 in one atomic commit."""
        operation = "DELETE_VECTORS"
        chosen = [] if ids is None else check_ids(operation, ids)
        if (ids is None) == (filter is None):
            raise InvalidArgument("either ids or a filter", operation=operation, argument="ids")
        wanted = None if ids is not None else _condition(operation, filter)
        async with self._session() as session:
            index = await self._existing(session, operation, index_name)
            if wanted is not None:
                await self._delete_matching(session, index, wanted)
                return
            for batch in _batches(chosen):
                for one in batch:
                    session.delete_key(Vector, (index_name, one))
                await session.commit()

    # -- underneath ----------------------------------------------------------------------------------------------

    async def _existing(self, session: AsyncSession, operation: str, index_name: str) -> VectorIndex:
        check_id(operation, "index_name", index_name)
        found = await session.get(VectorIndex, index_name)
        if found is None:
            raise IndexNotFound(index_name, operation=operation)
        return found

    async def _delete_matching(self, session: AsyncSession, index: VectorIndex, wanted: Filter) -> None:
        """Delete what matches a filter, and nothing that matches no more when it is deleted."""
        for attempt in reversed(range(_DELETING_ATTEMPTS)):
            found = await self._matching(session, index, wanted)
            try:
                for batch in _batches(list(found)):
                    for one in batch:
                        session.delete_key(Vector, (index.index_name, one), expected=found[one])
                    await session.commit()
            except StaleDataError:
                await session.rollback()
                if not attempt:
                    raise
            else:
                return

    async def _matching(self, session: AsyncSession, index: VectorIndex, wanted: Filter) -> dict[str, dict[str, Any]]:
        """The ids of the vectors that match a filter, each with what has to be so for it to match on.

        They are read without their vectors, but for those of another dimension.
        """
        found: dict[str, dict[str, Any]] = {}
        others: set[str] = set()
        async for page in _pages(session, index):
            for document in page.documents:
                metadata = metadata_of(document)
                if wanted.matches(metadata):
                    found[str(document["id"])] = {"metadata": metadata} if _is_stored_so(metadata, document) else {}
            others |= page.digests.keys() - set(page.ids)
        for ids in _batches(sorted(others)):
            read = await session.read(*(Vector.query().by_index("by_id", Vector.convex_id == id_) for id_ in ids))
            found |= {one.id: {} for (one,) in (rows for rows in read if rows) if wanted.matches(one.metadata)}
        return found


def _condition(operation: str, filter: Mapping[str, Any] | None) -> Filter:
    """A filter of what is to be written: one that asks for nothing would be about everything."""
    wanted = compile_filter(filter, operation=operation)
    if wanted.root.constant is True:
        raise InvalidArgument("a condition at least", operation=operation, argument="filter")
    return wanted


def _is_stored_so(metadata: dict[str, Any] | None, document: Document) -> bool:
    """Whether metadata would be written as it is stored, so that it can be held against it."""
    try:
        return same(Vector.metadata.dump(metadata), document.get("metadata", MISSING))
    except ValidationError:
        return False


def _index(index_name: str) -> Query[VectorIndex]:
    return VectorIndex.query().by_index("by_record_id", id=index_name).limit(1)


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + 1_000] for start in range(0, len(ids), 1_000))


async def _pages(session: AsyncSession, index: VectorIndex) -> AsyncIterator[VectorMatrix]:
    """The vectors of an index, some at a time."""
    query = vectors_of(index.index_name)
    limit = at_once = max(1, _STREAMED_BYTES // (4 * index.dimension))
    while True:
        result = await session.matrix(Vector.embedding, index.dimension, query.limit(limit))
        if result.digests:
            yield VectorMatrix.of(result)
        if len(result.docs):
            query, limit = query.after(result.docs[-1]), at_once
        elif len(result.digests) == limit:
            limit *= 2  # nothing but vectors of another dimension: look past them
        else:
            return


class _ChangedMeanwhile(Exception):
    """A vector is no longer what the matrix says it is."""


class _Search:
    """One query over one matrix or over several in turn.

    Raises _ChangedMeanwhile where a vector that has to be read again, because float32 does not hold it, has changed since
    the matrix was read; if `as_found` the matrix's own row then stands for it.
    """

    def __init__(
        self,
        session: AsyncSession,
        index: VectorIndex,
        query: np.ndarray[Any, Any],
        top_k: int,
        filter: Filter,
        include_vector: bool,
        min_score: float | None,
        offload: Offload,
        as_found: bool,
    ) -> None:
        self._session = session
        self._metric: Metric = index.metric  # type: ignore[assignment]
        self._query = query
        self._top_k = top_k
        self._filter = filter
        self._include_vector = include_vector
        self._min_score = min_score
        self._offload = offload
        self._as_found = as_found

    async def of(self, layers: Layers) -> list[QueryResult]:
        """The best of all layers."""
        return self._good_enough(await self._best(layers))

    async def over(self, matrices: AsyncIterator[VectorMatrix]) -> list[QueryResult]:
        """The best of all matrices, compared by the scores of what is stored."""
        best: list[QueryResult] = []
        async for matrix in matrices:
            found = await self._best(Layers(matrix), exactly=True)
            best = sorted((*best, *found), key=lambda one: -one.score)[: self._top_k]
        return self._good_enough(best)

    def _good_enough(self, results: list[QueryResult]) -> list[QueryResult]:
        return [one for one in results if self._min_score is None or one.score >= self._min_score]

    async def _best(self, layers: Layers, *, exactly: bool = False) -> list[QueryResult]:
        offload = self._offload if layers.bytes > _OFFLOADED_BYTES else run_here
        near = await offload(lambda: self._nearest(layers))
        documents, vectors, scores = near.documents, near.vectors, near.scores
        if layers.rounded and documents and (exactly or self._include_vector or self._unclear(near)):
            vectors = await self._exact(documents, vectors)
            scores = exact_scores(self._metric, np.array(vectors), self._query)
        return [
            QueryResult(
                str(documents[place]["id"]),
                float(scores[place]),
                metadata_of(documents[place]),
                vectors[place].tolist() if self._include_vector else None,
            )
            for place in np.lexsort((near.orders, -scores))[: self._top_k]
        ]

    def _nearest(self, layers: Layers) -> _Near:
        """The nearest of each layer, together, best first; more than were asked for."""
        below = self._scored(layers.base, self._top_k + len(layers.dead))
        alive = ~np.isin(below.positions, layers.dead)
        found = [_Near.of(layers.base, Scored(below.positions[alive], below.scores[alive]), below.positions[alive])]
        if layers.over is not None:
            above = self._scored(layers.over, self._top_k)
            found.append(_Near.of(layers.over, above, layers.orders[above.positions]))
        return found[0] if len(found) == 1 else _Near.together(found)

    def _scored(self, matrix: VectorMatrix, top_k: int) -> Scored:
        chosen = None if self._filter.is_empty else np.flatnonzero(matrix.columns.matching(self._filter))
        return best_of(self._metric, matrix.rows, matrix.norms, self._query, top_k, chosen, rounded=matrix.rounded)

    def _unclear(self, near: _Near) -> bool:
        """Whether rounding to float32 could have changed the order, a score by much, or what is good enough."""
        if np.isnan(near.scores).any():
            return True
        error = rounding_error(self._metric, near.norms, self._query)
        if error > _SCORES_WITHIN or (-np.diff(near.scores) <= 2 * error).any():
            return True
        return self._min_score is not None and bool((np.abs(near.scores - self._min_score) <= 2 * error).any())

    async def _exact(self, documents: Sequence[Document], rounded: Sequence[Vector64]) -> list[Vector64]:
        """The vectors of documents as they are stored."""
        stored: dict[str, Vector64] = {}
        for start in range(0, len(documents), _READ_AT_ONCE):
            ids = [str(one["_id"]) for one in documents[start : start + _READ_AT_ONCE]]
            found = await self._session.read(*(Vector.query().by_index("by_id", Vector.convex_id == id_) for id_ in ids))
            stored |= {id_: np.array(one[0].embedding) for id_, one in zip(ids, found, strict=True) if one}
        vectors = []
        for document, row in zip(documents, rounded, strict=True):
            vector = stored.get(str(document["_id"]))
            if vector is None or not np.array_equal(_rounded(vector), row):
                if not self._as_found:
                    raise _ChangedMeanwhile
                vector = row
            vectors.append(vector)
        return vectors


@attrs.frozen
class _Near:
    """Vectors near to a query, best first: scores, places in the order of storing, lengths, and their documents."""

    scores: Any
    orders: Any
    norms: Any
    documents: list[Document]
    vectors: list[Vector64]

    @classmethod
    def of(cls, matrix: VectorMatrix, scored: Scored, orders: Any) -> _Near:
        places = [int(position) for position in scored.positions]
        return cls(
            scored.scores,
            orders,
            matrix.norms[scored.positions],
            [matrix.documents[place] for place in places],
            [matrix.rows[place].astype(np.float64) for place in places],
        )

    @classmethod
    def together(cls, parts: Sequence[_Near]) -> _Near:
        """All of several; what has no score comes last, as in each."""
        scores, orders, norms = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "orders", "norms")
        )
        order = np.lexsort((orders, -scores))
        documents = [one for part in parts for one in part.documents]
        vectors = [one for part in parts for one in part.vectors]
        return cls(
            scores[order],
            orders[order],
            norms[order],
            [documents[place] for place in order],
            [vectors[place] for place in order],
        )


def _rounded(vector: Vector64) -> Any:
    with np.errstate(over="ignore"):
        return vector.astype(np.float32)


class ExactVectors(Domain):
    """The vector store's methods, blocking."""

    face = AsyncExactVectors

    create_index = blocking(AsyncExactVectors.create_index)
    list_indexes = blocking(AsyncExactVectors.list_indexes)
    describe_index = blocking(AsyncExactVectors.describe_index)
    delete_index = blocking(AsyncExactVectors.delete_index)
    truncate_index = blocking(AsyncExactVectors.truncate_index)
    upsert = blocking(AsyncExactVectors.upsert)
    query = blocking(AsyncExactVectors.query)
    update_vector = blocking(AsyncExactVectors.update_vector)
    delete_vector = blocking(AsyncExactVectors.delete_vector)
    delete_vectors = blocking(AsyncExactVectors.delete_vectors)
