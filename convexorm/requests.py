"""The only language between sessions and deployments: read, commit, search.

A request is plain data. Sessions make requests, deployments answer them; neither knows the other. `docs/wire.md` describes
the same data as it travels to a Convex deployment, with the meaning of every field.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from convexorm.aggregates import Groups, joined_groups
from convexorm.computed import Operand
from convexorm.conditions import Condition, existences
from convexorm.data import Data, Draft
from convexorm.errors import IndexRangeError, LimitExceeded, StaleDataError, ValidationError
from convexorm.schema import SCHEDULED, SYSTEM_TABLES, SearchIndexDef, Table, VectorIndexDef
from convexorm.values import (
    MAX_SAFE_INTEGER,
    MISSING,
    Missing,
    Value,
    canonical,
    check_value,
    hashable,
    is_finite,
    reach,
    same,
    size_of,
)
from convexorm.words import words_of

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "DELETED_BY_RANGE",
    "MAX_DELETED_BY_RANGE",
    "MAX_MERGED",
    "MAX_RANGES",
    "MAX_READS",
    "MAX_SCHEDULED",
    "MAX_TIED_BYTES",
    "MAX_WRITES",
    "Applied",
    "Bound",
    "Cancel",
    "Check",
    "Commit",
    "Delete",
    "DeleteRange",
    "DeletedRange",
    "Document",
    "Expect",
    "Fold",
    "Follow",
    "Followed",
    "Group",
    "Insert",
    "Key",
    "KeyValue",
    "Matrix",
    "OneOf",
    "Ordering",
    "Pack",
    "Patch",
    "Range",
    "Read",
    "ReadResult",
    "Recount",
    "Replace",
    "Rule",
    "Schedule",
    "Search",
    "Target",
    "Term",
    "TextSearch",
    "Unique",
    "Upsert",
    "Write",
    "Written",
    "check_commit",
    "check_follow",
    "check_reads",
    "check_search",
    "check_text",
    "claimed",
    "greater_stored",
    "in_order",
    "index_key",
    "is_plain",
    "joined_edges",
    "key_length",
    "meets",
    "tables_across",
    "taken",
    "version_digest",
    "version_of",
    "vouches",
    "whole_digest",
]

MAX_READS = 1_024
"""Reads of one call, below Convex's 4,096 index ranges of one function even when each resumes behind a key."""
MAX_RANGES = 3_000
"""Ranges of one union: fewer than the 4,000 that one call opens, so that every call goes on from where one stopped."""
MAX_MERGED = 200
"""Ranges of one union that are merged into another order than the index's: all of them are open at once."""
MAX_WRITES = 15_999
"""Writes of one commit: Convex's 16,000 documents of one mutation, one of which is the commit's entry in the ledger."""
MAX_SCHEDULED = 1_000
"""Functions that one commit may schedule (Convex limit)."""
MAX_SCHEDULED_BYTES = 16 << 20
"""Bytes of the arguments of all of them (Convex limit)."""
MAX_SCHEDULED_AHEAD = 5 * 365 * 86_400_000
"""Milliseconds to the latest time that a function may be scheduled at (Convex limit)."""
_MAX_ARGUMENTS_NESTING = 64
"""Levels of objects and arrays in the arguments of a function (Convex limit)."""
MAX_DELETED_BY_RANGE = 4_000
"""Documents one commit deletes by ranges: each is read twice, and a function may read 32,000."""
MAX_TIED_BYTES = 6 << 20
"""Bytes of documents that one commit deletes or changes because of others that it deletes."""
DELETED_BY_RANGE = "documents deleted by ranges in one commit"
"""What LimitExceeded calls that limit, and the one on their size."""
MAX_SEARCH_RESULTS = 256
"""Results of one native vector search (Convex limit)."""
MAX_SEARCH_CLAUSES = 64
"""Equalities in the filter of one native vector search (Convex limit)."""

MAX_TEXT_RESULTS = 1_024
"""Results of one text search (Convex limit)."""
MAX_TEXT_WORDS = 16
"""Words of one text search (Convex passes over further ones)."""
MAX_TEXT_FILTERS = 8
"""Equalities in the filter of one text search (Convex limit)."""

Document: TypeAlias = Mapping[str, Value]
KeyValue: TypeAlias = tuple[Value | Missing, ...]
"""Values of the first fields of an index; of all of them, `_creationTime` and `_id` included, where a read resumes."""


class Bound(Data, frozen=True):
    """One end of a range, itself part of it or not."""

    hidden = ("value",)
    value: Value | Missing
    inclusive: bool


class Range(Data, frozen=True):
    """A range of an index: equalities on its first fields, then bounds on the next.

    With a `union` it is the documents of several ranges of that index instead, which are in the index's order and have no
    document in common; none of them is a union itself.
    """

    hidden = ("eq",)
    table: Table
    index: str
    eq: KeyValue = ()
    lower: Bound | None = None
    upper: Bound | None = None
    union: tuple[Range, ...] | None = None

    @property
    def parts(self) -> tuple[Range, ...]:
        """The ranges it consists of, in the index's order."""
        return (self,) if self.union is None else self.union

    def of(self, table: Table) -> Range:
        """The same range of another table that has this index."""
        union = None if self.union is None else tuple(part.of(table) for part in self.union)
        return replace(self, table=table, union=union)

    def behind(self, key: Value) -> Range:
        """The same range behind a first field that is `key`."""
        if self.union is None:
            return replace(self, eq=(key, *self.eq))
        return replace(self, union=tuple(part.behind(key) for part in self.union))

    def without_key(self) -> Range:
        """The same range, without what it says of the first field."""
        if self.union is None:
            return replace(self, eq=self.eq[1:])
        return replace(self, union=tuple(part.without_key() for part in self.union))

    def edges(self) -> tuple[bytes, bytes]:
        """The bytes from which on, and those before which, the canonical forms of its documents' keys lie."""
        common = b"".join(map(canonical, self.eq))
        start, end = common, common + _BEHIND
        if self.lower is not None:
            start += canonical(self.lower.value) + (b"" if self.lower.inclusive else _BEHIND)
        if self.upper is not None:
            end = common + canonical(self.upper.value) + (_BEHIND if self.upper.inclusive else b"")
        return start, end

    def check(self) -> None:
        """Raise IndexRangeError or LimitExceeded unless this is a range of a declared index, or a union of some."""
        if self.union is None:
            self._check_fits()
            return
        if len(self.union) > MAX_RANGES:
            raise LimitExceeded("ranges of one read", maximum=MAX_RANGES, actual=len(self.union), table=self.table.name)
        until = b""
        for part in self.union:
            part._check_fits()
            start, end = part.edges()
            if start < until:
                raise self._wrong("its ranges overlap, or are not in the index's order")
            until = max(start, end)
        if self.eq or self.lower or self.upper:
            raise self._wrong("a union of ranges has no equalities and bounds of its own")

    def _wrong(self, problem: str) -> IndexRangeError:
        fields = self.table.key_fields(self.index)
        return IndexRangeError(problem, table=self.table.name, index=self.index, fields=fields)

    def _check_fits(self) -> None:
        fields = self.table.key_fields(self.index)
        bounded = self.lower is not None or self.upper is not None
        if len(self.eq) + bounded > len(fields):
            raise self._wrong(f"{len(self.eq)} equalities and {'a' if bounded else 'no'} bound, for {len(fields)} fields")


_BEHIND = b"\xff"
"""Greater than any tag byte: behind everything that starts with the bytes before it."""


class Pack(Data, frozen=True):
    """Answer a field, an array of `length` numbers, as a matrix of float32 for all documents, and the documents without it.

    Documents whose field is something else are left out.
    """

    field: str
    length: int


class Matrix(Data, frozen=True, eq=False):
    """The packed field of a read's documents: a row each, and their ids.

    `rounded` says that a number is not a float32, so that the matrix is not exact.
    """

    hidden = ("ids", "rows")
    ids: Sequence[str]
    rows: np.ndarray[Any, np.dtype[np.float32]]
    rounded: bool


class Ordering(Data, frozen=True):
    """A field by which documents are ordered, in Convex's order of values."""

    field: str
    order: Literal["asc", "desc"] = "asc"


class Fold(Data, frozen=True):
    """Answer aggregates in place of documents: `of` for each group of documents that have the same values in `by`."""

    by: tuple[str, ...]
    of: tuple[Term, ...]


class Term(Data, frozen=True):
    """One aggregate: the number of documents, or the sum, the least or the greatest value of a field."""

    op: Literal["count", "sum", "min", "max"]
    field: str | None = None


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
    digests: Mapping[str, str] = msgspec.field(default_factory=dict)
    gone: frozenset[str] | None = None
    """Ids that are not in the range any more, of a read of what has changed `since`; `digests` are then those of changed
    documents alone.
    """
    last: KeyValue | None = None
    groups: Groups = msgspec.field(default_factory=dict)
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


def whole_digest(digests: Mapping[str, str]) -> str:
    """The digest of documents whose own digests, in order, are these: how many there are, and a SHA-256."""
    each = " ".join(f"{id_} {digest}" for id_, digest in digests.items())
    return f"{len(digests)} {sha256(each.encode()).hexdigest()}"


def version_digest(version: str) -> str:
    """The digest of everything a table holds at a version that it never has again."""
    return f"{_VERSIONED}{version}"


def version_of(digest: str) -> str | None:
    """The version that a digest of everything stands for; None for one of contents."""
    return digest.removeprefix(_VERSIONED) if digest.startswith(_VERSIONED) else None


def vouches(digest: str, digests: Mapping[str, str]) -> bool:
    """Whether documents that have these digests may be kept under a digest of all that was asked for before they were read:
    to find it again later then means that they are as they were.

    A version never comes back, so anything read after it may. A content does, where a change is undone; it must be theirs.
    """
    if digest.startswith(_VERSIONED):
        return True
    calls = digest.split()
    each = list(digests.items())
    for count, whole in zip(calls[::2], calls[1::2], strict=True):
        of_call, each = each[: int(count)], each[int(count) :]
        if whole_digest(dict(of_call)) != f"{count} {whole}":
            return False
    return not each


_VERSIONED = "version "


class Key(Data, frozen=True):
    """The first document, in index order, whose first index fields are `key`."""

    hidden = ("key",)
    index: str
    key: KeyValue


class Unique(Data, frozen=True):
    """A key that no two documents are to hold once a commit is applied.

    It is the document's own in the index, as the write leaves it, if `key` is None. Then a document that lacks all of the
    fields has no key, and one that had the key before keeps it. Else it is the first fields of an index, as given.
    """

    hidden = ("key",)
    index: str
    key: KeyValue | None = None


Target: TypeAlias = str | Key
"""Which document: an `_id`, or a key."""


class OneOf(Data, frozen=True):
    """An expectation that several values meet."""

    hidden = ("values",)
    values: tuple[Value, ...]


Expect: TypeAlias = Mapping[str, Value | Missing | OneOf]
"""What a write expects the document's fields to be. Large values travel as digests."""


def meets(value: Value | Missing, expected: Value | Missing | OneOf) -> bool:
    """Whether a field holds what is expected of it."""
    return any(same(value, one) for one in expected.values) if isinstance(expected, OneOf) else same(value, expected)


class Insert(Draft):
    """A new document; StaleDataError if another one holds a key of `unique` after the commit, or a given one before.

    `returning` asks for the creation time, for which Convex has to read the document back.
    """

    hidden = ("doc",)
    table: Table
    doc: Document
    unique: Sequence[Unique] = ()
    returning: bool = False
    refs: Mapping[str, int] = msgspec.field(default_factory=dict)
    """For fields that are to hold the `_id` of a document of the same commit which write inserts that, by position."""


class Upsert(Draft):
    """Replace the document under `at` whole, or insert it.

    Fields in `keep` stay as stored where they are stored, those in `greatest` where what is stored is greater. Those in
    `identity` stay, too, and are answered. StaleDataError if several documents hold a key of `unique` after the commit.
    """

    hidden = ("doc",)
    table: Table
    at: Key
    doc: Document
    keep: tuple[str, ...] = ()
    greatest: tuple[str, ...] = ()
    returning: bool = False
    unique: Sequence[Unique] = ()
    identity: tuple[str, ...] = ()
    refs: Mapping[str, int] = msgspec.field(default_factory=dict)


class Patch(Draft):
    """Change some fields of a document; StaleDataError if several hold a key of `unique` after the commit.

    Fields to set that are in `greatest` stay as stored where what is stored is greater; those in `compute` are computed of
    what is stored. With `where` a document for which it does not hold is left as it is, as if it were not there.
    """

    hidden = ("set", "expect")
    table: Table
    at: Target
    set: Mapping[str, Value]
    unset: tuple[str, ...] = ()
    expect: Expect = msgspec.field(default_factory=dict)
    missing: Literal["fail", "skip"] = "fail"
    unique: Sequence[Unique] = ()
    greatest: tuple[str, ...] = ()
    compute: Mapping[str, Operand] = msgspec.field(default_factory=dict)
    where: Condition | None = None
    refs: Mapping[str, int] = msgspec.field(default_factory=dict)


class Replace(Draft):
    """Replace a document whole; StaleDataError if several hold a key of `unique` after the commit."""

    hidden = ("doc", "expect")
    table: Table
    at: Target
    doc: Document
    expect: Expect = msgspec.field(default_factory=dict)
    missing: Literal["fail", "skip"] = "fail"
    unique: Sequence[Unique] = ()


class Delete(Draft):
    """Delete a document."""

    hidden = ("expect",)
    table: Table
    at: Target
    expect: Expect = msgspec.field(default_factory=dict)
    missing: Literal["fail", "skip"] = "fail"


class DeleteRange(Draft):
    """Delete the matches of a range: all or LimitExceeded without `limit`, else up to that many."""

    range: Range
    filter: Condition | None = None
    limit: int | None = None

    @property
    def table(self) -> Table:
        return self.range.table


class Recount(Draft):
    """Count the documents of a table anew, up to `limit` of them, for its counters; the only write of its commit.

    Where it takes several, each goes on behind the one before, and what others write meanwhile is counted.
    """

    table: Table
    limit: int


class Schedule(Draft):
    """A mutation or an action is to run once the commit is applied: `delay` milliseconds later, or `at` a time in
    milliseconds since 1970. Answered with its id in Convex's own table of scheduled functions.
    """

    hidden = ("arguments",)
    table: ClassVar[Table] = SCHEDULED
    path: str
    arguments: Mapping[str, Value]
    delay: float | None = None
    at: float | None = None


class Cancel(Draft):
    """A scheduled function is not to run, unless it has begun; answered with whether it had not."""

    table: ClassVar[Table] = SCHEDULED
    id: str


Write: TypeAlias = Insert | Upsert | Patch | Replace | Delete | DeleteRange | Recount | Schedule | Cancel


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


class DeletedRange(Data, frozen=True):
    """The answer to a deletion by range. `more` says that it stopped before it saw the end of the range.

    Also that to a step of a recount, which deletes no document: `deleted` are those that it has counted.
    """

    deleted: int
    more: bool


Applied: TypeAlias = Written | DeletedRange | bool
"""The answer to one write; a bool says whether the document of a patch, replace or delete was there."""


class Rule(Data, frozen=True):
    """What deleting a document of one table does to those of another whose `field` is its `key`, found through an index.

    "cascade" deletes them by the rules of their own table, "nullify" takes the field out of them (or, with `null`, sets it
    to null) and keeps their `unique` keys, "restrict" refuses the commit if there are any once all its writes are applied,
    as `relation`.
    """

    relation: str
    table: Table
    index: str
    key: str
    field: str
    action: Literal["cascade", "restrict", "nullify"]
    null: bool = False
    unique: Sequence[Unique] = ()


class Check(Data, frozen=True):
    """A field that must lead to a document once a commit is applied that writes it, through an index of its table."""

    field: str
    table: Table
    index: str


class Commit(Data, frozen=True):
    """Writes applied all or none, once for each `id` however often it is sent.

    `rules` say, by table, what deleting documents of it does to others, `checks` which fields have to lead somewhere.
    """

    id: str
    writes: Sequence[Write]
    rules: Mapping[str, Sequence[Rule]] = msgspec.field(default_factory=dict)
    checks: Mapping[str, Sequence[Check]] = msgspec.field(default_factory=dict)

    @classmethod
    def new(
        cls,
        writes: Sequence[Write],
        rules: Mapping[str, Sequence[Rule]] | None = None,
        checks: Mapping[str, Sequence[Check]] | None = None,
    ) -> Commit:
        """A commit with an id of its own, which begins with the time, so that ledgers are written where they were last."""
        id_ = f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
        return cls(id_, writes, rules or {}, checks or {})

    def tables(self) -> list[Table]:
        """All tables that it is about, each object once."""
        tables: dict[int, Table] = {}
        for write in self.writes:
            tables[id(write.table)] = write.table
            condition = write.where if type(write) is Patch else write.filter if type(write) is DeleteRange else None
            if condition is not None:  # which may speak of other tables
                tables.update((id(table), table) for table in tables_across(condition))
        for held in (self.rules, self.checks):
            if held:
                tables.update((id(one.table), one.table) for some in held.values() for one in some)
        return list(tables.values())


def tables_across(condition: Condition | None) -> list[Table]:
    """The tables that a condition looks into for other documents."""
    edges = [one.edge for one in existences(condition)]
    return [table for edge in edges for table in (edge.range.table, *tables_across(edge.filter))]


class Search(Data, frozen=True):
    """The `limit` nearest documents by cosine similarity, among those where any of `filter` holds."""

    hidden = ("vector", "filter")
    table: Table
    index: str
    vector: Sequence[float]
    limit: int
    filter: tuple[tuple[str, Value | Missing], ...] = ()


def greater_stored(stored: Document, given: Document, greatest: Sequence[str]) -> dict[str, Value]:
    """Those of the fields in `greatest` of which more is stored than given, as they are stored."""
    fields = [name for name in greatest if name in stored and name in given]
    return {name: stored[name] for name in fields if canonical(stored[name]) > canonical(given[name])}


def claimed(
    table: Table, unique: Sequence[Unique], document: Document, before: Document | None = None
) -> list[tuple[Key, bool]]:
    """The keys that a write is to make its document's own, which was `before` the write; and whether they were given."""
    keys: list[tuple[Key, bool]] = []
    for one in unique:
        if one.key is not None:
            keys.append((Key(one.index, one.key), True))
            continue
        fields = table.declared_fields(one.index)
        key = tuple([reach(document, field) for field in fields])
        held = before is not None and all(map(same, key, [reach(before, field) for field in fields]))
        if not held and any(value is not MISSING for value in key):
            keys.append((Key(one.index, key), False))
    return keys


def taken(table: Table, key: Key, position: int) -> StaleDataError:
    """The refusal of a write whose key is another document's."""
    fields = table.key_fields(key.index)[: len(key.key)]
    return StaleDataError(table=table.name, reason="exists", write=position, fields=fields)


def index_key(document: Document, range: Range) -> KeyValue:
    """The key of a document in the range's index, `_creationTime` and `_id` included."""
    fields = range.table.key_fields(range.index)
    return tuple(reach(document, field) for field in (fields if fields[-1] == "_id" else (*fields, "_id")))


# -- what a deployment checks before it begins ----------------------------------------------------------------------


def check_reads(reads: Sequence[Read]) -> None:
    """Raise IndexRangeError, ValidationError or LimitExceeded unless these can be answered in one call."""
    if len(reads) > MAX_READS:
        raise LimitExceeded("reads of one call", maximum=MAX_READS, actual=len(reads))
    for read in reads:
        if is_plain(read):
            continue
        read.range.check()
        check_follow(read.follow)
        _check_kind(read)
        whole = read.filter is None and read.limit is None and not read.skip
        if read.since is not None and not (whole and read.digest == "each"):
            raise ValidationError("changes since are read of a whole range, as digests", table=read.range.table.name)
        length = key_length(read.range)
        if read.after and len(read.after) not in (length, read.distinct):
            raise IndexRangeError(
                "the key to resume behind has another length", table=read.range.table.name, index=read.range.index
            )
        if read.merge is not None:
            _check_merge(read)
        if read.search is not None:
            check_text(read)


def is_plain(read: Read) -> bool:
    """Whether a read says no more than equalities, an order, a filter and a limit, and nothing is wrong with these."""
    range_, limit = read.range, read.limit
    return (
        read == Read(range_, read.order, filter=read.filter, limit=limit)
        and range_ == Range(range_.table, range_.index, range_.eq)
        and (limit is None or 0 <= limit < MAX_SAFE_INTEGER)
        and len(range_.eq) <= len(range_.table.declared_fields(range_.index))
    )


def _check_kind(read: Read) -> None:
    table = read.range.table.name
    kinds = sum(one not in (None, False) for one in (read.count, read.pack, read.digest, read.select, read.fold))
    if kinds > 1 or (read.peek and (read.pack or read.digest or read.fold)):
        problem = "a read counts, packs, digests, selects or folds, and peeks only without packs, digests and folds"
        raise ValidationError(problem, table=table)
    if not 0 <= read.skip < MAX_SAFE_INTEGER or not 0 <= (read.limit or 0) < MAX_SAFE_INTEGER:
        raise ValidationError("what is skipped and the limit are whole numbers from 0 to 2**53 - 1", table=table)
    if read.distinct is not None and (read.merge is not None or not 0 < read.distinct <= key_length(read.range)):
        raise ValidationError("distinct by none or more of the fields that the index has, or of merged ranges", table=table)
    if read.sort is not None and (kinds > bool(read.select) or read.peek or read.skip or read.distinct is not None):
        raise ValidationError("only documents are sorted, all that match or the first", table=table)
    if read.follow and (kinds or read.distinct is not None):
        raise ValidationError("edges lead only from whole documents", table=table)


def in_order(documents: Iterable[Document], sort: Sequence[Ordering]) -> list[Document]:
    """The documents sorted by these fields; those that are the same in all of them stay as they were."""
    found = list(documents)
    for one in reversed(sort):
        found.sort(key=lambda document: canonical(document.get(one.field, MISSING)), reverse=one.order == "desc")
    return found


def _check_merge(read: Read) -> None:
    parts = read.range.parts
    if len(parts) > MAX_MERGED:
        raise LimitExceeded("ranges merged by one read", maximum=MAX_MERGED, actual=len(parts), table=read.range.table.name)
    if any(len(part.eq) != read.merge for part in parts):
        raise IndexRangeError("merged ranges of other equalities", table=read.range.table.name, index=read.range.index)


def check_follow(follow: Sequence[Follow]) -> None:
    """Raise IndexRangeError unless these edges lead through ranges of declared indexes."""
    for edge in follow:
        edge.read("").range.check()
        check_follow(edge.follow)


def key_length(range: Range) -> int:
    """How many values an index key has, `_creationTime` and `_id` included."""
    fields = range.table.key_fields(range.index)
    return len(fields) + (fields[-1] != "_id")


def check_commit(commit: Commit) -> None:
    """Raise ValidationError, IndexRangeError or LimitExceeded unless every write can be held, before any is applied."""
    if len(commit.writes) > MAX_WRITES:
        raise LimitExceeded("writes of one commit", maximum=MAX_WRITES, actual=len(commit.writes))
    kinds = {type(write) for write in commit.writes}
    if Recount in kinds and len(commit.writes) > 1:
        raise ValidationError("a recount is a commit of its own", table=commit.writes[0].table.name)
    if Schedule in kinds:
        _check_scheduled([write for write in commit.writes if isinstance(write, Schedule)])
    for position, write in enumerate(commit.writes):
        kind = type(write)
        if write.table.name in SYSTEM_TABLES and kind is not Schedule and kind is not Cancel:
            raise ValidationError(
                "a table of Convex's own, which it writes itself; it can only be read", table=write.table.name
            )
        _CHECKS[kind](write)
        refs: Mapping[str, int] | None = getattr(write, "refs", None)
        for field, place in refs.items() if refs else ():
            if not 0 <= place < position or not isinstance(commit.writes[place], Insert | Upsert):
                problem = "refers to a write that inserts nothing before it"
                raise ValidationError(problem, table=write.table.name, field=field)


def check_search(search: Search) -> VectorIndexDef:
    """The index a search names. Raises IndexRangeError, ValidationError or LimitExceeded for a search it cannot answer."""
    table = search.table.name
    index = search.table.vector_index(search.index)
    if isinstance(search.vector, str | bytes) or not hasattr(type(search.vector), "__len__"):
        raise ValidationError(f"a vector is a list of numbers, got {type(search.vector).__name__}", table=table)
    if len(search.vector) != index.dimensions:
        raise ValidationError(f"a vector of {len(search.vector)} for {index.dimensions} dimensions", table=table)
    if not all(map(is_finite, search.vector)):
        raise ValidationError("a vector holds finite numbers only", table=table, field=index.field)
    if isinstance(search.limit, bool) or not isinstance(search.limit, int):
        raise ValidationError(f"limit is a whole number from 1 to {MAX_SEARCH_RESULTS}", table=table)
    if not 1 <= search.limit <= MAX_SEARCH_RESULTS:
        raise LimitExceeded("results of a vector search", maximum=MAX_SEARCH_RESULTS, actual=search.limit, table=table)
    if len(search.filter) > MAX_SEARCH_CLAUSES:
        raise LimitExceeded(
            "clauses of a vector search's filter", maximum=MAX_SEARCH_CLAUSES, actual=len(search.filter), table=table
        )
    unknown = [name for name, _ in search.filter if name not in index.filter_fields]
    if unknown:
        raise IndexRangeError(
            f"{unknown[0]!r} is no filter field", table=table, index=search.index, fields=index.filter_fields
        )
    return index


def check_text(read: Read) -> SearchIndexDef:
    """The index of a text search. Raises IndexRangeError, ValidationError or LimitExceeded for one it cannot answer."""
    search, table = read.search, read.range.table
    assert search is not None
    index = table.search_index(search.index)
    if not isinstance(search.text, str):
        problem = f"what is looked for is a text, got {type(search.text).__name__}"
        raise ValidationError(problem, table=table.name, field=index.field)
    check_value(search.text)
    words = len(words_of(search.text))
    if not words:
        problem = "a text search needs a word: letters or digits, 31 bytes of them at most"
        raise ValidationError(problem, table=table.name, field=index.field)
    limit = read.limit
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise ValidationError(f"limit is a whole number from 1 to {MAX_TEXT_RESULTS:,}", table=table.name)
    counts = {"words": (words, MAX_TEXT_WORDS), "equalities": (len(search.filter), MAX_TEXT_FILTERS)}
    for what, (actual, maximum) in {**counts, "results": (limit, MAX_TEXT_RESULTS)}.items():
        if actual > maximum or (what == "results" and actual < 1):
            raise LimitExceeded(f"{what} of a text search", maximum=maximum, actual=actual, table=table.name)
    unknown = [name for name, _ in search.filter if name not in index.filter_fields]
    if unknown:
        problem = f"{unknown[0]!r} is no filter field"
        raise IndexRangeError(problem, table=table.name, index=search.index, fields=index.filter_fields)
    plain = Read(Range(table, "by_creation_time"), filter=read.filter, limit=limit, follow=read.follow, search=search)
    if replace(read, after=None) != plain:
        raise ValidationError("a text search answers whole documents of a whole table, best first", table=table.name)
    return index


def _check_key(table: Table, target: Target | None) -> None:
    if isinstance(target, Key):
        if len(target.key) > len(table.key_fields(target.index)):
            Range(table, target.index, target.key).check()
        if not target.key:
            raise IndexRangeError("a key needs one value or more", table=table.name, index=target.index)


def _check_unique(table: Table, unique: Sequence[Unique]) -> None:
    for one in unique:
        if one.key is None:
            table.declared_fields(one.index)
        else:
            _check_key(table, Key(one.index, one.key))


def _check_insert(write: Insert) -> None:
    _check_unique(write.table, write.unique)
    write.table.check(write.doc if not write.refs else _with_some_ids(write.doc, write.refs))


def _check_upsert(write: Upsert) -> None:
    _check_key(write.table, write.at)
    _check_unique(write.table, write.unique)
    write.table.check(write.doc if not write.refs else _with_some_ids(write.doc, write.refs))


def _with_some_ids(fields: Document, refs: Mapping[str, int]) -> Document:
    """The fields as they are checked while it is not known what some of them will hold."""
    return {**fields, **dict.fromkeys(refs, "an id")}


def _check_patch(write: Patch) -> None:
    _check_key(write.table, write.at)
    _check_unique(write.table, write.unique)
    for name, value in (write.set if not write.refs else _with_some_ids(write.set, write.refs)).items():
        write.table.check_field(name, value)
    for name in write.unset:
        write.table.check_unset(name)
        if name in write.set:
            raise ValidationError("set and removed by the same write", table=write.table.name, field=name)
    for name in write.compute:
        if name in write.set or name in write.unset or name not in write.table.fields:
            raise ValidationError("computed, and something else by the same write", table=write.table.name, field=name)


def _check_replace(write: Replace) -> None:
    _check_key(write.table, write.at)
    _check_unique(write.table, write.unique)
    write.table.check(write.doc)


def _check_delete(write: Delete) -> None:
    _check_key(write.table, write.at)


def _check_delete_range(write: DeleteRange) -> None:
    write.range.check()
    if write.limit is not None and write.limit < 1:
        raise ValidationError("deletes at least one document", table=write.table.name)


def _check_recount(write: Recount) -> None:
    if write.limit < 1:
        raise ValidationError("counts at least one document", table=write.table.name)


def _check_scheduled(writes: Sequence[Schedule]) -> None:
    """The functions that one commit schedules, all together."""
    if len(writes) > MAX_SCHEDULED:
        raise LimitExceeded("functions that one commit schedules", maximum=MAX_SCHEDULED, actual=len(writes))
    size = sum(size_of(write.arguments) for write in writes)
    if size > MAX_SCHEDULED_BYTES:
        raise LimitExceeded("bytes of the arguments of what one commit schedules", maximum=MAX_SCHEDULED_BYTES, actual=size)


def _check_schedule(write: Schedule) -> None:
    if (write.delay is None) == (write.at is None):
        raise ValidationError("scheduled after a delay or at a time, one of the two", table=write.table.name)
    if write.delay is not None and not (is_finite(write.delay) and 0 <= write.delay <= MAX_SCHEDULED_AHEAD):
        raise ValidationError("a delay is 0 or more, and at most 5 years", table=write.table.name)
    if write.at is not None:
        ahead = write.at - time.time() * 1_000 if is_finite(write.at) else MAX_SCHEDULED_AHEAD + 1
        if abs(ahead) > MAX_SCHEDULED_AHEAD:
            raise ValidationError("scheduled at a time within 5 years from now", table=write.table.name)
    check_value(dict(write.arguments), nesting=_MAX_ARGUMENTS_NESTING)


def _check_cancel(write: Cancel) -> None:
    check_value(write.id)


_CHECKS: dict[type, Callable[[Any], None]] = {
    Schedule: _check_schedule,
    Cancel: _check_cancel,
    Insert: _check_insert,
    Upsert: _check_upsert,
    Patch: _check_patch,
    Replace: _check_replace,
    Delete: _check_delete,
    DeleteRange: _check_delete_range,
    Recount: _check_recount,
}
