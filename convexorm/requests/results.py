"""What is answered to reads and to writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from convexorm.aggregates import Groups, joined_groups
from convexorm.data import Data, Draft
from convexorm.requests.ranges import Document, KeyValue
from convexorm.values import Value, hashable

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Applied", "DeletedRange", "Followed", "Gone", "Group", "Matrix", "ReadResult", "Written", "joined_edges"]


class Matrix(Data, frozen=True, eq=False):
    """The packed field of a read's documents: a row each, and their ids.

    `rounded` says that a number is not a float32, so that the matrix is not exact.
    """

    hidden = ("ids", "rows")
    ids: Sequence[str]
    rows: np.ndarray[Any, np.dtype[np.float32]]
    rounded: bool


class Group(Data, frozen=True):
    """What documents lead to that have one key. `next` as in a ReadResult."""

    hidden = ("key", "docs", "next")
    key: Value
    docs: Sequence[Document]
    next: KeyValue | None = None


class Followed(Draft):
    """What one edge led to: a group for each key, by its identity, and what the edges of all their documents led to."""

    hidden = ("groups",)
    groups: dict[str | bytes, Group] = msgspec.field(default_factory=dict)
    followed: tuple[Followed, ...] = ()

    def of(self, document: Document, field: str) -> Sequence[Document]:
        """What a document leads to by its field."""
        key = document.get(field)
        group = None if key is None else self.groups.get(hashable(key))
        return () if group is None else group.docs

    def add(self, key: Value, docs: Sequence[Document], following: KeyValue | None = None) -> None:
        """Documents that a key led to, behind those that are there."""
        identity = hashable(key)
        before = self.groups.get(identity)
        self.groups[identity] = Group(key, docs if before is None else [*before.docs, *docs], following)

    def merge(self, followed: tuple[Followed, ...]) -> None:
        """What the edges of further documents led to."""
        self.followed = joined_edges(self.followed, followed)


def joined_edges(one: tuple[Followed, ...], two: tuple[Followed, ...]) -> tuple[Followed, ...]:
    """What the same edges led to in two calls, or at two places. A group that is whole comes before one that is not."""
    if not one or not two:
        return one or two
    joined = []
    for mine, theirs in zip(one, two, strict=True):
        groups = dict(mine.groups)
        for identity, group in theirs.groups.items():
            if identity not in groups or groups[identity].next is not None:
                groups[identity] = group
        joined.append(Followed(groups, joined_edges(mine.followed, theirs.followed)))
    return tuple(joined)


class ReadResult(Data, frozen=True):
    """What one call found. `next` is None when the read is complete, else the key to resume behind (`()`: not begun).

    A read with `pack` answers `matrix`, documents without that field, and `digests` of each by its id; one with `digest`
    answers only `digests`: of each document, or one for this call under the key "" (see `whole_digest`). These two count
    nothing: `count` and `skipped` are 0, but where `next` is not None, and say how far the call went. One with `select`
    answers in `last` the key of the last document, which may be left out of `docs`; one with `fold` answers `groups`.
    """

    hidden = ("docs", "next", "digests", "gone", "last", "groups")
    docs: Sequence[Document]
    count: int
    skipped: int
    more: bool
    next: KeyValue | None = None
    matrix: Matrix | None = None
    digests: Mapping[str, str] = MappingProxyType({})
    gone: frozenset[str] | None = None
    """Ids that are not in the range any more, of a read of what has changed `since`; `digests` are then those of changed
    documents alone.
    """
    last: KeyValue | None = None
    groups: Groups = MappingProxyType({})
    followed: tuple[Followed, ...] = ()

    def joined(self, later: ReadResult) -> ReadResult:
        """What this call and the one that went on behind it found together."""
        matrix = later.matrix
        if self.matrix is not None and later.matrix is not None:
            import numpy as np  # it is there, or there were no matrices

            rows = np.concatenate((self.matrix.rows, later.matrix.rows))
            matrix = Matrix([*self.matrix.ids, *later.matrix.ids], rows, self.matrix.rounded or later.matrix.rounded)
        digests = {**self.digests, **later.digests}
        if "" in digests:
            digests = {"": f"{self.digests.get('', '')} {later.digests.get('', '')}"}
        return ReadResult(
            [*self.docs, *later.docs],
            self.count + later.count,
            self.skipped + later.skipped,
            later.more,
            None,
            matrix,
            digests,
            last=later.last or self.last,
            groups=joined_groups(self.groups, later.groups),
            followed=joined_edges(self.followed, later.followed),
        )


_NO_IDENTITY: Mapping[str, Value] = MappingProxyType({})


class Written(msgspec.Struct, frozen=True, gc=False):
    """The answer to an insert or upsert. `created` is False where an upsert replaced a document.

    `creation_time` is None where it was not asked for, or the commit is too large to read it back. `identity` is what the
    replaced document holds in the fields that an upsert calls so. There may be thousands: nothing in them refers back.
    """

    id: str
    creation_time: float | None
    created: bool = True
    identity: Mapping[str, Value] = _NO_IDENTITY

    def __repr__(self) -> str:
        return f"Written(id={self.id!r}, creation_time={self.creation_time!r}, created={self.created!r})"


class Gone(Data, frozen=True):
    """What a deletion has done to documents of a table, by their ids: deleted them, or taken a `field` out of them."""

    hidden = ("ids",)
    table: str
    field: str | None
    ids: Sequence[str]


class DeletedRange(Data, frozen=True):
    """The answer to a deletion by range. `more` says that it stopped before it saw the end of the range.

    Also that to a deletion that tells, which says in `gone` what it did, and to a step of a recount, which deletes no
    document: `deleted` are those that it has counted.
    """

    deleted: int
    more: bool
    gone: Sequence[Gone] = ()


Applied: TypeAlias = Written | DeletedRange | bool
"""The answer to one write; a bool says whether the document of a patch, replace or delete was there."""
