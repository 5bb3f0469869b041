"""What a read will do, as a text of a line for each of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from convexorm.conditions import Combined, Comparison, Condition, Containment, Exists, Membership, Negated
from convexorm.querying.crossing import across, named
from convexorm.requests import Fold, Range, Read, TextSearch
from convexorm.schema import COUNTERS
from convexorm.values import MISSING, Missing, Value, dumps
from convexorm.words import words_of

__all__ = ["SYMBOLS", "explained", "outline", "shown_place"]

SYMBOLS = {"eq": "=", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}

_SHOWN_RANGES = 8
"""Ranges of a union that are told one by one."""


def explained(read: Read, *, by_index: bool) -> str:
    """Table, index, ranges, filter, order, limit, and what is answered; `by_index` says that the query names an index."""
    range_, table = read.range, read.range.table
    if read.search is not None:
        return _explained_search(read, read.search)
    fields = table.key_fields(range_.index)
    whole = "the whole table" if not by_index and range_.index == "by_creation_time" else "the whole index"
    ranges = [_described_range(part, fields) or whole for part in range_.parts[:_SHOWN_RANGES]]
    if len(range_.parts) > len(ranges):
        ranges.append(f"and {len(range_.parts) - len(ranges)} more")
    lines = [
        f"table   {table.name}",
        f"index   {range_.index} ({', '.join(fields)}){' unique' if _is_unique(read) else ''}",
        *(f"range   {one}" for one in ranges or ["none: the conditions exclude each other"]),
        f"filter  {_described(read.filter) if read.filter is not None else 'none'}",
        f"order   {_described_order(read, fields)}",
        f"limit   {'none' if read.limit is None else read.limit}",
        *([f"offset  {read.skip}"] if read.skip else []),
        *(["after   an instance"] if read.after is not None else []),
        *_answer(read, fields),
        *across(table.name, read.filter),
    ]
    return "\n".join(lines)


def _explained_search(read: Read, search: TextSearch) -> str:
    index = read.range.table.search_index(search.index)
    *words, last = map(dumps, words_of(search.text))
    equal = [f"{name} = {_shown(value)}" for name, value in search.filter]
    rest = [] if read.filter is None else [f"{_described(read.filter)} (of what was found)"]
    lines = [
        f"table   {read.range.table.name}",
        f"index   {index.name} (the words of {index.field})",
        f"words   {' or '.join([*words, f'what begins with {last}'])}",
        f"filter  {' and '.join([*equal, *rest]) or 'none'}",
        "order   best first",
        f"limit   {read.limit}",
    ]
    return "\n".join(lines)


def _is_unique(read: Read) -> bool:
    return any(one.name == read.range.index and one.unique for one in read.range.table.indexes)


def _described_range(range_: Range, fields: Sequence[str]) -> str:
    parts = [f"{name} = {_shown(value)}" for name, value in zip(fields, range_.eq, strict=False)]
    for bound, symbol in ((range_.lower, ">"), (range_.upper, "<")):
        if bound is not None:
            sign = symbol + ("=" if bound.inclusive else "")
            parts.append(f"{fields[len(range_.eq)]} {sign} {_shown(bound.value)}")
    return " and ".join(parts)


def _described_order(read: Read, fields: Sequence[str]) -> str:
    if read.sort is not None:
        by = ", ".join(f"{one.field} {one.order}" for one in read.sort)
        return f"{by} (sorted where the data is, after all of it is read)"
    if read.merge is not None:
        return f"{read.order} by {', '.join(fields[read.merge :])} ({len(read.range.parts)} ranges merged)"
    return read.order


def _answer(read: Read, fields: Sequence[str]) -> list[str]:
    """What is answered, if it is not the documents."""
    if read.range.table is COUNTERS:
        each = "" if len(read.range.eq) > 1 else ", of each of its values"
        return [f"answer  what is kept in the counter {read.range.eq[0]}{each}"]
    if read.count:
        return ["answer  a count"]
    if read.distinct is not None:
        return [f"answer  {', '.join(read.select or ())}, one document read for each different {fields[read.distinct - 1]}"]
    if read.select is not None:
        return [f"answer  {', '.join(read.select)}"]
    return [] if read.fold is None else [f"answer  {_described_fold(read.fold)}"]


def _described_fold(fold: Fold) -> str:
    of = [one.op if one.field is None else f"{one.op} of {one.field}" for one in fold.of]
    by = f"for each {', '.join(fold.by)}" if fold.by else ""
    return ", ".join(of) + (f" {by}" if of and by else by)


def outline(condition: Condition) -> str:
    """The condition without the values it compares with, for an error."""
    if isinstance(condition, Comparison):
        return f"{shown_place(condition)} {SYMBOLS[condition.op]}"
    if isinstance(condition, Membership):
        return f"{shown_place(condition)} in"
    if isinstance(condition, Containment):
        return f"{shown_place(condition)} {condition.op}"
    if isinstance(condition, Exists):
        return named(condition)
    return "not(...)" if isinstance(condition, Negated) else "or_(...)"


def _shown(value: Value | Missing) -> str:
    return "missing" if value is MISSING else dumps(value)


def shown_place(condition: Comparison | Membership | Containment) -> str:
    """The field, and the path inside it."""
    return condition.field + "".join(f"[{dumps(step)}]" for step in condition.path)


def _described(condition: Condition) -> str:
    return _DESCRIPTIONS[type(condition)](condition)


def _described_combined(condition: Combined) -> str:
    parts = [f"({_described(one)})" for one in condition.args]
    return f" {condition.op} ".join(parts) if parts else _OF_NONE[condition.op]


_OF_NONE = {"and": "true", "or": "false"}
_DESCRIPTIONS: dict[type[Condition], Callable[[Any], str]] = {
    Comparison: lambda one: f"{shown_place(one)} {SYMBOLS[one.op]} {_shown(one.value)}",
    Membership: lambda one: f"{shown_place(one)} in [{', '.join(map(_shown, one.values))}]",
    Containment: lambda one: f"{shown_place(one)} {one.op} {_shown(one.value)}",
    Negated: lambda one: f"not ({_described(one.arg)})",
    Exists: named,
    Combined: _described_combined,
}
