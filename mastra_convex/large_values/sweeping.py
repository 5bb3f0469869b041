"""Files that no document names: found by what they say of themselves, and deleted once they have been nobody's for long."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from convexorm.conditions import Condition
from convexorm.deployments import Port
from convexorm.deployments.reader import Reader
from convexorm.errors import NoResultFound
from convexorm.files import AsyncFiles
from convexorm.requests import Range, Read
from convexorm.sessions import AsyncSession
from convexorm.system import StoredFile
from mastra_convex.large_values.references import COLUMNS, MARKED, MODELS, Owner, named_in, owner_of

__all__ = ["marked", "sweep", "unnamed"]

_AT_ONCE = 100
"""Files whose owners are looked at in one call."""


def marked(range: Range, own: str, condition: Condition | None = None) -> Read:
    """The read of those documents of a range that name files, of what says which."""
    select = ("_id", *MODELS[own].__mapper__.key_fields, *COLUMNS[own])
    return Read(range, filter=MARKED[own] if condition is None else condition & MARKED[own], select=select)


async def unnamed(port: Port, own: Mapping[str, str], files: Mapping[str, Owner]) -> dict[str, Owner]:
    """Those of the files that the documents of their owners do not name. `own` are the tables' own names."""
    reads: dict[tuple[str, tuple[str, ...]], Read] = {}
    for owner in files.values():
        mapper = MODELS[own[owner.table]].__mapper__
        table = mapper.table.renamed(owner.table)
        reads[owner.table, owner.key] = marked(Range(table, mapper.primary_index, owner.key), own[owner.table])
    results = await Reader(port).run(list(reads.values())) if reads else []
    named: set[str] = set()
    for (name, _), result in zip(reads, results, strict=True):
        for document in result.docs:
            named |= named_in(name, own[name], document).keys()
    return {file: owner for file, owner in files.items() if file not in named}


async def sweep(session: AsyncSession, port: Port, files: AsyncFiles, own: Mapping[str, str], older_than: timedelta) -> int:
    """Delete the files of values that no document names, stored longer ago than that; answers how many."""
    before, count = datetime.now(UTC) - older_than, 0
    found: dict[str, Owner] = {}
    async for one in session.stream(StoredFile.query().full_scan()):
        owner = owner_of(one.content_type)
        if owner is None or owner.table not in own or len(owner.key) != len(MODELS[own[owner.table]].__mapper__.key):
            continue
        if one.convex_created_at is not None and one.convex_created_at < before:
            found[str(one.convex_id)] = owner
        if len(found) >= _AT_ONCE:
            count += await _delete(files, await unnamed(port, own, found))
            found = {}
    return count + await _delete(files, await unnamed(port, own, found))


async def _delete(files: AsyncFiles, unnamed: Mapping[str, Owner]) -> int:
    count = 0
    for file in unnamed:
        try:
            await files.delete(file)
        except NoResultFound:
            continue  # somebody else has
        count += 1
    return count
