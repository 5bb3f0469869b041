"""Which index gives a query the order that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from convexorm.errors import FullTableScanError
from convexorm.querying.planning import Access
from convexorm.requests import MAX_MERGED, Ordering, Range
from convexorm.schema import SYSTEM_FIELDS, Table
from convexorm.values import same

__all__ = ["OrderedAccess", "ordered"]


@attrs.frozen
class OrderedAccess:
    """An access, and how its documents come in order: as the index has them, with so many equalities merged, or sorted."""

    access: Access
    order: Literal["asc", "desc"] = "asc"
    merge: int | None = None
    sort: tuple[Ordering, ...] | None = None


def ordered(table: Table, accesses: Sequence[Access], ordering: Sequence[Ordering], *, sorts: bool) -> OrderedAccess:
    """The best access in this order. FullTableScanError where no index gives it, unless it `sorts`."""
    found = [one for access in accesses if (one := _in_index(table, access, ordering)) is not None]
    covered = [one for one in found if one.access.covers]
    if covered or (found and not sorts):
        return (covered or found)[0]
    if sorts:
        if found and not accesses[0].covers:
            return found[0]
        return OrderedAccess(accesses[0], sort=tuple(ordering))
    raise FullTableScanError(
        table=table.name,
        indexes=tuple(one.name for one in table.indexes),
        order=tuple(one.field for one in ordering),
        would=_would(table, accesses[0], ordering),
    )


def _in_index(table: Table, access: Access, ordering: Sequence[Ordering]) -> OrderedAccess | None:
    """The access, if its index gives this order."""
    if not access.ranges:  # of nothing, all orders are one
        return OrderedAccess(access, ordering[0].order)
    fields = (*table.key_fields(access.index), "_id")
    alike = _alike(access.ranges)
    fixed = set(fields[:alike])
    wanted = [one for one in ordering if one.field not in fixed]
    orders = {one.order for one in wanted} or {"asc"}
    if len(orders) > 1:
        return None
    order = orders.pop()
    names = [one.field for one in wanted]
    if names == list(fields[alike : alike + len(names)]):
        return OrderedAccess(access, order)
    lengths = {len(one.eq) for one in access.ranges}
    equal = lengths.pop()
    if lengths or len(access.ranges) > MAX_MERGED or names != list(fields[equal : equal + len(names)]):
        return None
    return OrderedAccess(access, order, merge=equal)


def _alike(ranges: Sequence[Range]) -> int:
    """How many equalities all ranges begin with."""
    first, *others = ranges
    length = min(len(one.eq) for one in ranges)
    return next((at for at in range(length) if not all(same(one.eq[at], first.eq[at]) for one in others)), length)


def _would(table: Table, best: Access, ordering: Sequence[Ordering]) -> tuple[str, ...]:
    """The fields of an index that would give this order; none where fields go up and down."""
    if len({one.order for one in ordering}) > 1:
        return ()
    equal = table.key_fields(best.index)[: max((len(one.eq) for one in best.ranges), default=0)]
    names = [*equal, *(one.field for one in ordering)]
    return tuple(name for name in dict.fromkeys(names) if name not in SYSTEM_FIELDS)
