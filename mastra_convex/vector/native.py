"""`ConvexNativeVector`: approximate search at scale, through Convex's own vector indexes.

An index is a table of its own with a native vector index, deployed with the schema. `native_vector_table` makes the model
of one: `id`, `embedding`, `metadata`, and the metadata's fields that searches may filter by, copied to the top of each
document. On an embedded deployment the same calls search exactly.
"""

from __future__ import annotations

import keyword
import re
import types as python_types
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from convexorm import AsyncSession, Condition, Mapped, Model, field, or_
from convexorm import Index as RecordIndex
from convexorm import VectorIndex as NativeIndex
from convexorm.faces import blocking
from convexorm.mapping.expressions import Column
from convexorm.schema import AnyValue
from convexorm.types import AnyType, JsonType
from convexorm.values import is_finite
from mastra_convex.arguments import check_id, check_json, check_keys, check_mapping, check_texts, naming
from mastra_convex.domain import AsyncDomain, Backend, Domain
from mastra_convex.errors import InvalidArgument, named
from mastra_convex.records import merged
from mastra_convex.vector.arguments import (
    check_dimension,
    check_ids,
    check_ids_of,
    check_metadata,
    check_min_score,
    check_top_k,
    check_vectors,
)
from mastra_convex.vector.exact import IndexNotFound, IndexStats, QueryResult, VectorUpdate
from mastra_convex.vector.upserts import store

__all__ = ["AsyncNativeVectors", "NativeVectors", "native_vector_table"]

MAX_RESULTS = 256
"""Results of one search (Convex limit)."""
_NATIVE_DIMENSIONS = range(2, 4_097)
"""What Convex's own vector indexes take."""
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
"""Names of fields that Python and Convex both take."""
_FILTERS = (str, int, float, bool)
"""What a filter can ask for."""
_UPSERTED_AT_ONCE = 1_000
"""Vectors written or deleted in one commit."""


class NativeVector(Model):
    """What every table of a native vector index has."""

    id: Mapped[str]
    embedding: Mapped[list[float]]
    metadata: Mapped[dict[str, Any] | None] = field(type=JsonType(), none="either", default=None)

    by_record_id = RecordIndex("id")


def native_vector_table(table: str, *, dimension: int, filter_fields: Sequence[str] = ()) -> type[NativeVector]:
    """The model of a table with a native vector index `by_embedding` of `dimension` (2 to 4,096) numbers.

    `filter_fields` are the keys of metadata that searches may ask to be equal to something. Put the model into a module and
    generate the schema from it with `python -m convexorm schema`. Raises InvalidArgument for names that cannot be fields.
    """
    operation = "NATIVE_VECTOR_TABLE"
    check_id(operation, "table", table)
    check_dimension(operation, dimension, _NATIVE_DIMENSIONS)
    check_texts(operation, "filter_fields", filter_fields)

    def body(namespace: dict[str, Any]) -> None:
        annotations: dict[str, Any] = {}
        for name in filter_fields:
            taken = name in {*dir(NativeVector), *NativeVector.__annotations__, *annotations, "by_embedding"}
            if taken or _FIELD.fullmatch(name) is None or keyword.iskeyword(name):
                raise InvalidArgument(f"{named(name)} cannot be one", operation=operation, argument="filter_fields")
            annotations[name] = Mapped[Any | None]
            namespace[name] = field(type=AnyType(AnyValue()), default=None)
        namespace["__annotations__"] = annotations
        namespace["__module__"] = __name__
        namespace["by_embedding"] = NativeIndex("embedding", dimensions=dimension, filter_fields=tuple(filter_fields))

    name = "".join(part.capitalize() for part in table.split("_")) or "NativeVectors"
    with naming(operation, "table"):
        return python_types.new_class(name, (NativeVector,), {"table": table, "primary_key": "id"}, body)


class AsyncNativeVectors(AsyncDomain):
    """The vector store's methods over native indexes, awaited."""

    def __init__(self, backend: Backend, indexes: Mapping[str, type[NativeVector]]) -> None:
        super().__init__(backend)
        given = check_mapping("NATIVE_VECTOR", "indexes", indexes)
        self._indexes = {check_id("NATIVE_VECTOR", "indexes", name): _Index(name, model) for name, model in given.items()}

    # -- indexes -------------------------------------------------------------------------------------------------

    async def create_index(self, *, index_name: str, dimension: int, metric: str = "cosine") -> None:
        """Check that the index is deployed so. Convex creates it from the schema, and compares by cosine."""
        operation = "CREATE_INDEX"
        index = self._index(operation, index_name)
        check_dimension(operation, dimension)
        if metric != "cosine":
            raise InvalidArgument("cosine; a native index has no other", operation=operation, argument="metric")
        if dimension != index.dimension:
            raise InvalidArgument(
                f"the deployed index has {index.dimension}",
                operation=operation,
                argument="dimension",
                status="INVALID_DIMENSION",
            )

    async def list_indexes(self) -> list[str]:
        """The names of the indexes there are."""
        return list(self._indexes)

    async def describe_index(self, *, index_name: str) -> IndexStats:
        """The dimension, the metric and the number of vectors. Convex reads what it counts."""
        index = self._index("DESCRIBE_INDEX", index_name)
        async with self._session() as session:
            return IndexStats(index.dimension, await session.count(index.model.query().full_scan()), "cosine")

    async def truncate_index(self, *, index_name: str) -> None:
        """Delete all vectors of an index, in as many commits as it takes."""
        index = self._index("TRUNCATE_INDEX", index_name)
        async with self._session() as session:
            await session.delete_all(index.model.query().full_scan())

    async def delete_index(self, *, index_name: str) -> None:
        """Not to be had: a native index is part of the deployed schema. Raises InvalidArgument."""
        self._index("DELETE_INDEX", index_name)
        raise InvalidArgument(
            "a native index is deleted by deploying a schema without it; truncate_index empties it",
            operation="DELETE_INDEX",
            argument="index_name",
        )

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

        Without `ids` new ones are made; without metadata what was there is erased. Up to 1,000 vectors (and 6 MiB) are one
        atomic commit, more are several in order: if one of those fails, PartialUpsert says how many are stored. Those under
        new ids are taken back.
        """
        operation = "UPSERT"
        index = self._index(operation, index_name)
        matrix = check_vectors(operation, "vectors", vectors, index.dimension, directed=True)
        keys = [str(uuid4()) for _ in matrix] if ids is None else check_ids_of(operation, ids, len(matrix))
        extras = check_metadata(operation, metadata, len(matrix))
        async with self._session() as session:
            await store(
                session,
                index.model,
                keys,
                matrix,
                lambda place: index.attributes(extras[place]),
                extras,
                at_once=_UPSERTED_AT_ONCE,
                operation=operation,
                key=str,
                new=ids is None,
            )
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
        """The `top_k` (1 to 256) vectors nearest to `query_vector`, best first, with their metadata, in one call.

        `filter` is one equality on a filter field, `{"tag": "a"}`, or several of which any may hold, `{"$or": [...]}`.
        """
        operation = "QUERY"
        index = self._index(operation, index_name)
        check_top_k(operation, top_k, MAX_RESULTS)
        check_min_score(operation, min_score)
        vector = check_vectors(operation, "query_vector", [query_vector], index.dimension, directed=True)[0]
        where = index.condition(operation, filter)
        async with self._session() as session:
            hits = await session.search(index.native, vector.astype(np.float64).tolist(), top_k, where)
            return [
                QueryResult(hit.item.id, hit.score, hit.item.metadata, hit.item.embedding if include_vector else None)
                for hit in hits
                if min_score is None or hit.score >= min_score
            ]

    async def update_vector(self, *, index_name: str, id: str, update: VectorUpdate) -> None:
        """Change the vector with this id; nothing happens where there is none. Metadata merges one level deep."""
        operation = "UPDATE_VECTOR"
        index = self._index(operation, index_name)
        check_id(operation, "id", id)
        given = check_keys(operation, "update", update, ("vector", "metadata"))
        vector = given.get("vector")
        if vector is not None:
            vector = check_vectors(operation, "update.vector", [vector], index.dimension, directed=True)[0]
        metadata = given.get("metadata")
        if metadata is not None:
            metadata = check_json(operation, "update.metadata", check_mapping(operation, "update.metadata", metadata))

        async def change(session: AsyncSession) -> None:
            found = await session.get(index.model, id)
            if found is None:
                return
            if vector is not None:
                found.embedding = vector
            if metadata is not None:
                new = merged(operation, "update.metadata", found.metadata, metadata)
                for name, value in index.attributes(new).items():
                    setattr(found, name, value)

        async with self._session() as session:
            await session.transact(change)

    async def delete_vector(self, *, index_name: str, id: str) -> None:
        """Delete the vector with this id; nothing happens where there is none."""
        check_id("DELETE_VECTOR", "id", id)
        await AsyncNativeVectors.delete_vectors(self, index_name=index_name, ids=[id])

    async def delete_vectors(self, *, index_name: str, ids: Sequence[str]) -> None:
        """Delete vectors by their ids, up to 1,000 in one atomic commit."""
        operation = "DELETE_VECTORS"
        index = self._index(operation, index_name)
        chosen = check_ids(operation, ids)
        async with self._session() as session:
            for start in range(0, len(chosen), _UPSERTED_AT_ONCE):
                for one in chosen[start : start + _UPSERTED_AT_ONCE]:
                    session.delete_key(index.model, one)
                await session.commit()

    def _index(self, operation: str, index_name: str) -> _Index:
        check_id(operation, "index_name", index_name)
        try:
            return self._indexes[index_name]
        except KeyError:
            raise IndexNotFound(index_name, operation=operation) from None


class _Index:
    """A native index: its model, and how metadata becomes attributes and filters conditions."""

    def __init__(self, name: str, model: type[NativeVector]) -> None:
        is_model = isinstance(model, type) and issubclass(model, Model)
        native = [one for one in vars(model).values() if isinstance(one, NativeIndex)] if is_model else []
        if len(native) != 1:
            raise InvalidArgument(
                f"{named(name)} needs a model with one vector index", operation="NATIVE_VECTOR", argument="indexes"
            )
        self.model = model
        (self.native,) = native
        self.dimension = self.native.dimensions

    def attributes(self, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
        """The metadata, and its filter fields beside it, where they are something to be equal to."""
        held = metadata or {}
        known = {name: held.get(name) for name in self.native.filter_fields}
        return {"metadata": metadata, **{name: one if isinstance(one, _FILTERS) else None for name, one in known.items()}}

    def condition(self, operation: str, filter: Mapping[str, Any] | None) -> Condition | None:
        """The condition of a filter, None for an empty one."""
        given = {} if filter is None else check_mapping(operation, "filter", filter)
        if not given:
            return None
        if set(given) == {"metadata"} and isinstance(given["metadata"], Mapping):
            given = given["metadata"]
        if "$or" not in given:
            return self._equality(operation, given)
        branches = given["$or"]
        if (
            len(given) > 1
            or not isinstance(branches, Sequence)
            or isinstance(branches, str)
            or not 1 <= len(branches) <= 64
        ):
            raise InvalidArgument("$or of 1 to 64 equalities, alone", operation=operation, argument="filter")
        return or_(*(self._equality(operation, check_mapping(operation, "filter", one)) for one in branches))

    def _equality(self, operation: str, given: Mapping[str, Any]) -> Condition:
        if len(given) != 1:
            raise InvalidArgument(
                "one equality, or $or of equalities; a native index knows no other", operation=operation, argument="filter"
            )
        ((name, value),) = given.items()
        if name not in self.native.filter_fields:
            known = ", ".join(self.native.filter_fields) or "none"
            raise InvalidArgument(
                f"no filter field {named(name)}; there are {known}", operation=operation, argument="filter"
            )
        if isinstance(value, Mapping) and set(value) == {"$eq"}:
            value = value["$eq"]
        if not isinstance(value, str | bool) and not is_finite(value):
            raise InvalidArgument("strings, numbers and booleans", operation=operation, argument="filter")
        column: Column[Any] = self.model.__mapper__.columns[name]
        with naming(operation, "filter"):
            equality: Condition = column == value
        return equality


class NativeVectors(Domain):
    """The vector store's methods over native indexes, blocking."""

    face = AsyncNativeVectors

    create_index = blocking(AsyncNativeVectors.create_index)
    list_indexes = blocking(AsyncNativeVectors.list_indexes)
    describe_index = blocking(AsyncNativeVectors.describe_index)
    truncate_index = blocking(AsyncNativeVectors.truncate_index)
    delete_index = blocking(AsyncNativeVectors.delete_index)
    upsert = blocking(AsyncNativeVectors.upsert)
    query = blocking(AsyncNativeVectors.query)
    update_vector = blocking(AsyncNativeVectors.update_vector)
    delete_vector = blocking(AsyncNativeVectors.delete_vector)
    delete_vectors = blocking(AsyncNativeVectors.delete_vectors)
