"""What a deployment checks of requests before it begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from convexorm.conditions import MAX_LEVELS
from convexorm.errors import ConvexORMError, IndexRangeError, LimitExceeded, ValidationError
from convexorm.requests.commits import Commit
from convexorm.requests.limits import (
    MAX_MERGED,
    MAX_READS,
    MAX_SCHEDULED,
    MAX_SCHEDULED_AHEAD,
    MAX_SCHEDULED_BYTES,
    MAX_SEARCH_CLAUSES,
    MAX_SEARCH_RESULTS,
    MAX_TEXT_FILTERS,
    MAX_TEXT_RESULTS,
    MAX_TEXT_WORDS,
    MAX_WRITES,
)
from convexorm.requests.ranges import Document, Range, key_length
from convexorm.requests.reads import Follow, Read, Search, is_plain
from convexorm.requests.writes import (
    Cancel,
    Delete,
    DeleteRange,
    Insert,
    Key,
    Patch,
    Recount,
    Replace,
    Schedule,
    Target,
    Unique,
    Upsert,
)
from convexorm.schema import SYSTEM_TABLES, SearchIndexDef, Table, VectorIndexDef
from convexorm.values import MAX_SAFE_INTEGER, check_value, is_finite, size_of
from convexorm.words import words_of

__all__ = ["check_commit", "check_follow", "check_reads", "check_search", "check_text"]

_MAX_ARGUMENTS_NESTING = 64
"""Levels of objects and arrays in the arguments of a function (Convex limit)."""


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


def _check_merge(read: Read) -> None:
    parts = read.range.parts
    if len(parts) > MAX_MERGED:
        raise LimitExceeded("ranges merged by one read", maximum=MAX_MERGED, actual=len(parts), table=read.range.table.name)
    if any(len(part.eq) != read.merge for part in parts):
        raise IndexRangeError("merged ranges of other equalities", table=read.range.table.name, index=read.range.index)


def check_follow(follow: Sequence[Follow], depth: int = 1) -> None:
    """Raise IndexRangeError unless these edges lead through ranges of declared indexes, and LimitExceeded where one leads
    from another for more levels than the arguments of a call have; a condition of it goes on from there.
    """
    for edge in follow:
        levels = depth if edge.filter is None else depth + edge.filter.levels
        if levels > MAX_LEVELS:
            what = "levels of what is loaded of each other, with those of conditions on it"
            raise LimitExceeded(what, maximum=MAX_LEVELS, actual=levels, table=edge.range.table.name)
        edge.read("").range.check()
        check_follow(edge.follow, depth + 1)


def check_commit(commit: Commit) -> None:
    """Raise ValidationError, IndexRangeError or LimitExceeded unless every write can be held, before any is applied."""
    writes = commit.writes
    if len(writes) > MAX_WRITES:
        raise LimitExceeded("writes of one commit", maximum=MAX_WRITES, actual=len(writes))
    scheduled: list[Schedule] = []
    write: Any
    position = 0
    try:
        for position, write in enumerate(writes):
            kind = type(write)
            if kind is Schedule:
                scheduled.append(write)
            elif write.table.name in SYSTEM_TABLES and kind is not Cancel:
                problem = "a table of Convex's own, which it writes itself; it can only be read"
                raise ValidationError(problem, table=write.table.name)
            elif kind is Recount and len(writes) > 1:
                raise ValidationError("a recount is a commit of its own", table=write.table.name)
            _CHECKS[kind](write)
            if kind in _REFERRING and write.refs:
                _check_refs(writes, position)
    except ConvexORMError as error:
        error.write = position
        raise
    if scheduled:
        _check_scheduled(scheduled)


def _check_refs(writes: Sequence[Any], position: int) -> None:
    """Raise ValidationError unless the write at this position refers to writes before it that insert documents."""
    for field, place in writes[position].refs.items():
        if not 0 <= place < position or not isinstance(writes[place], Insert | Upsert):
            problem = "refers to a write that inserts nothing before it"
            raise ValidationError(problem, table=writes[position].table.name, field=field)


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
    if write.unique:
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
    table = write.table
    if type(write.at) is not str:
        _check_key(table, write.at)
    if write.unique:
        _check_unique(table, write.unique)
    for name, value in (write.set if not write.refs else _with_some_ids(write.set, write.refs)).items():
        table.check_field(name, value)
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


_REFERRING = frozenset((Insert, Upsert, Patch))
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
