"""Keeping documents: of an answer and the one before, documents that are the same are the same objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from convexorm.requests import Document, Followed, Group, ReadResult
from convexorm.values import same

__all__ = ["keep"]


def keep(before: Sequence[ReadResult], now: Sequence[ReadResult]) -> list[ReadResult]:
    """The answers of `now`, in which every document that is as it was in `before` is that very object."""
    if len(before) != len(now):
        return list(now)
    return [_kept(one, two) for one, two in zip(before, now, strict=True)]


def _kept(before: ReadResult, now: ReadResult) -> ReadResult:
    docs = _documents(before.docs, now.docs)
    return replace(now, docs=docs, followed=_edges(before.followed, now.followed))


def _documents(before: Sequence[Document], now: Sequence[Document]) -> Sequence[Document]:
    known: Mapping[object, Document] = {one["_id"]: one for one in before if "_id" in one}
    return [_one(known.get(document.get("_id")), document) for document in now]


def _one(before: Document | None, now: Document) -> Document:
    if before is None or before is now:
        return now
    return before if same(dict(before), dict(now)) else now


def _edges(before: tuple[Followed, ...], now: tuple[Followed, ...]) -> tuple[Followed, ...]:
    if len(before) != len(now):
        return now
    return tuple([_edge(one, two) for one, two in zip(before, now, strict=True)])


def _edge(before: Followed, now: Followed) -> Followed:
    groups: dict[str | bytes, Group] = {}
    for identity, group in now.groups.items():
        known = before.groups.get(identity)
        groups[identity] = group if known is None else replace(group, docs=_documents(known.docs, group.docs))
    return Followed(groups, _edges(before.followed, now.followed))
