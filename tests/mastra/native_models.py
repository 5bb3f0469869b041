"""Native vector indexes of the tests. `tests/native/schema.ts` is generated from them."""

from __future__ import annotations

from convexorm import Index, Mapped, Model, VectorIndex
from mastra_convex import native_vector_table

__all__ = ["MODELS", "Bare", "Docs", "Place"]

Docs = native_vector_table("docs", dimension=8, filter_fields=["tag", "number"])
Bare = native_vector_table("bare_docs", dimension=3)


class Place(Model, table="places", primary_key="name"):
    """A model of an application's own."""

    name: Mapped[str]
    kind: Mapped[str]
    embedding: Mapped[list[float]]
    by_name = Index("name")
    by_embedding = VectorIndex("embedding", dimensions=3, filter_fields=("kind",))


MODELS: tuple[type[Model], ...] = (Docs, Bare, Place)
