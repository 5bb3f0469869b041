"""`Reader`: answers to reads in as few calls as they take; what one call cannot answer goes on in further ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from convexorm.requests import (
    MAX_READS,
    Document,
    Follow,
    Followed,
    Group,
    Read,
    ReadResult,
    Search,
    in_order,
    joined_edges,
)

__all__ = ["Reader"]


class Answering(Protocol):
    """What a reader needs of a port."""

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]: ...

    async def search(self, search: Search) -> list[tuple[float, Document]]: ...


class Reader(msgspec.Struct, eq=False):
    """Reads through one port."""

    _port: Answering

    async def one(self, read: Read) -> ReadResult:
        """The whole answer to one read, with all that it leads to."""
        (result,) = await self._port.read((read,))
        if result.next is None and not read.follow:
            return result
        whole = await self._whole(read, result)
        if read.follow:
            await self._complete(list(_edges(read.follow, whole.followed)))
        return whole

    async def _whole(self, read: Read, result: ReadResult) -> ReadResult:
        """The whole answer to a read of which this is the first part."""
        if result.next is None:
            return result
        whole, rest = result, read
        while result.next is not None:
            rest = _rest(rest, result)
            (result,) = await self._port.read((rest,))
            whole = whole.joined(result)
        return _whole(read, whole)

    async def run(self, reads: Sequence[Read]) -> list[ReadResult]:
        """All answers to all reads, with all that they lead to."""
        results = await self._run(reads)
        edges = [pair for read, result in zip(reads, results, strict=True) for pair in _edges(read.follow, result.followed)]
        if edges:
            await self._complete(edges)
        return results

    async def _complete(self, edges: Sequence[tuple[Follow, Followed]]) -> None:
        """Go on with what the calls before could not follow to its end, level by level."""
        while edges:
            cut = [(follow, one, group) for follow, one in edges for group in one.groups.values() if group.next is not None]
            reads = [_rest_of_group(follow, group) for follow, _, group in cut]
            results = await self._run(reads)
            for (_, one, group), result in zip(cut, results, strict=True):
                one.add(group.key, result.docs)
                one.followed = joined_edges(one.followed, result.followed)
            edges = [pair for follow, one in edges for pair in _edges(follow.follow, one.followed)]

    async def _run(self, reads: Sequence[Read]) -> list[ReadResult]:
        if len(reads) == 1:
            (result,) = await self._port.read(reads)
            return [await self._whole(reads[0], result)]
        answers: dict[int, ReadResult] = {}
        pending = list(enumerate(reads))
        while pending:
            chunk, pending = pending[:MAX_READS], pending[MAX_READS:]
            results = await self._port.read([read for _, read in chunk])
            unfinished = []
            for (position, read), result in zip(chunk, results, strict=True):
                answers[position] = answers[position].joined(result) if position in answers else result
                if result.next is not None:
                    unfinished.append((position, _rest(read, result)))
            pending = unfinished + pending
        return [_whole(read, answers[position]) for position, read in enumerate(reads)]

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        """The nearest documents with their cosine similarity, best first."""
        return await self._port.search(search)


def _edges(follow: Sequence[Follow], followed: Sequence[Followed]) -> Iterator[tuple[Follow, Followed]]:
    return zip(follow, followed, strict=True)


def _rest_of_group(follow: Follow, group: Group) -> Read:
    """The read that goes on where a call stopped to follow an edge."""
    read = follow.read(group.key)
    limit = None if read.limit is None else read.limit - len(group.docs)
    return replace(read, after=group.next or None, limit=limit)


def _whole(read: Read, result: ReadResult) -> ReadResult:
    """What several calls have answered; each has sorted what it has found."""
    if read.sort is None:
        return result
    return replace(result, docs=in_order(result.docs, read.sort)[: read.limit])


def _rest(read: Read, result: ReadResult) -> Read:
    """The read that goes on where a call stopped."""
    return replace(
        read,
        after=result.next or read.after,
        skip=read.skip - result.skipped,
        limit=read.limit if read.limit is None or read.sort is not None else read.limit - result.count,
    )
