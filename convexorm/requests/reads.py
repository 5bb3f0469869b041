"""What a session may ask for: reads of ranges, with what is to be made of the documents there, and searches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from convexorm.conditions import Condition
from convexorm.data import Data
from convexorm.requests.ranges import Document, KeyValue, Range
from convexorm.schema import Table
from convexorm.values import MAX_SAFE_INTEGER, MISSING, Missing, Value, canonical

__all__ = [
    "Fold",
    "Follow",
    "Ordering",
    "Pack",
    "Read",
    "Search",
    "Term",
    "TextSearch",
    "in_order",
    "is_plain",
    "says_no_more",
]


class Ordering(Data, frozen=True):
    """A field by which documents are ordered, in Convex's order of values; `table` is its column's, if that is told."""

    field: str
    order: Literal["asc", "desc"] = "asc"
    table: str | None = None


class Fold(Data, frozen=True):
    """Answer aggregates in place of documents: `of` for each group of documents that have the same values in `by`."""

    by: tuple[str, ...]
    of: tuple[Term, ...]


class Term(Data, frozen=True):
    """One aggregate: the number of documents, or the sum, the least or the greatest value of a field."""

    op: Literal["count", "sum", "min", "max"]
    field: str | None = None


class Pack(Data, frozen=True):
    """Answer a field, an array of `length` numbers, as a matrix of float32 for all documents, and the documents without it.

    Documents whose field is something else are left out.
    """

    field: str
    length: int


class TextSearch(Data, frozen=True):
    """Documents whose text has one of some words, the last of which may be the beginning of one, best first.

    `filter` are equalities that hold for all of them.
    """

    hidden = ("text", "filter")
    index: str
    text: str
    filter: tuple[tuple[str, Value | Missing], ...] = ()


class Read(Data, frozen=True):
    """Documents of a range, in index order. Defaults: all of them, ascending, unfiltered.

    `digest` asks for digests instead of documents: "all" for one of the whole answer, "each" for one of each document. A
    digest that is the same says that the documents are; one that is not may be so for a change beside them. `select` asks
    for these fields only, `fold` for aggregates. A read has one of `count`, `pack`, `digest`, `select` and `fold`, and
    `peek` not with `pack`, `digest` and `fold`.

    `since`, of a whole range with the digest of "each", is a digest of "all" of it that was found before: a deployment that
    keeps count of changes answers only what has changed since, and says so (`gone`); any other answers all.

    `merge` is the number of equalities that each range of a union has: the order is that of the fields behind them.
    `distinct` is a number of leading fields of the index: of documents that are the same in these, one is answered. Where
    such a read goes on, `after` may be the values of these fields alone. With `sort` all documents are read, and the first
    `limit` in the order of these fields are answered; a read that goes on in another call asks for as many again.

    With `search` they are the documents of the whole table that a text search finds, best first, up to `limit`; those for
    which `filter` does not hold are passed over. Such a read has a limit, and beside these nothing but `follow`.
    """

    hidden = ("after",)
    range: Range
    order: Literal["asc", "desc"] = "asc"
    after: KeyValue | None = None
    filter: Condition | None = None
    skip: int = 0
    limit: int | None = None
    peek: bool = False
    count: bool = False
    pack: Pack | None = None
    digest: Literal["all", "each"] | None = None
    since: str | None = None
    select: tuple[str, ...] | None = None
    fold: Fold | None = None
    merge: int | None = None
    distinct: int | None = None
    sort: tuple[Ordering, ...] | None = None
    follow: tuple[Follow, ...] = ()
    search: TextSearch | None = None


class Follow(Data, frozen=True):
    """An edge from each document of a read to those of a range, whose first index field is what `field` of it holds.

    `range` says what comes behind that first field. A document whose field is missing or null leads nowhere.
    """

    field: str
    range: Range
    order: Literal["asc", "desc"] = "asc"
    filter: Condition | None = None
    limit: int | None = None
    follow: tuple[Follow, ...] = ()

    def read(self, key: Value) -> Read:
        """The read of what documents lead to whose field is `key`."""
        range_ = self.range.behind(key)
        return Read(range_, order=self.order, filter=self.filter, limit=self.limit, follow=self.follow)


class Search(Data, frozen=True):
    """The `limit` nearest documents by cosine similarity, among those where any of `filter` holds."""

    hidden = ("vector", "filter")
    table: Table
    index: str
    vector: Sequence[float]
    limit: int
    filter: tuple[tuple[str, Value | Missing], ...] = ()


def in_order(documents: Iterable[Document], sort: Sequence[Ordering]) -> list[Document]:
    """The documents sorted by these fields; those that are the same in all of them stay as they were."""
    found = list(documents)
    for one in reversed(sort):
        found.sort(key=lambda document: canonical(document.get(one.field, MISSING)), reverse=one.order == "desc")
    return found


def is_plain(read: Read) -> bool:
    """Whether a read says no more than equalities, an order, a filter and a limit, and nothing is wrong with these."""
    return says_no_more(read) and len(read.range.eq) <= len(read.range.table.declared_fields(read.range.index))


def says_no_more(read: Read) -> bool:
    """The same, but that the index may not be there, or have fewer fields."""
    range_, limit = read.range, read.limit
    return (
        range_.lower is None
        and range_.upper is None
        and range_.union is None
        and read.after is None
        and not read.skip
        and not read.peek
        and not read.count
        and read.pack is None
        and read.digest is None
        and read.since is None
        and read.select is None
        and read.fold is None
        and read.merge is None
        and read.distinct is None
        and read.sort is None
        and not read.follow
        and read.search is None
        and (limit is None or 0 <= limit < MAX_SAFE_INTEGER)
    )
