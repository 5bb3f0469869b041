"""What a query's plan says of other tables: the relations that it loads, and its conditions across relations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from convexorm.conditions import Condition, Exists, existences

if TYPE_CHECKING:
    from convexorm.mapping.relations import Path
    from convexorm.requests import Follow

__all__ = ["across", "crossings", "named"]


def named(exists: Exists) -> str:
    """A condition across a relation, for the filter of a plan."""
    return f"{exists.relation} exists"


def across(table: str, condition: Condition | None) -> Iterator[str]:
    """A line for each relation that a condition looks along: through which index, and what it costs."""
    for exists in existences(condition):
        yield f"across  {exists.relation}: read from {table}, and {_looked(exists.edge)} until one matches"
        yield from (f"  {line}" for line in across(exists.edge.range.table.name, exists.edge.filter))


def crossings(paths: Sequence[Path]) -> Iterator[str]:
    """A line for each relation that is loaded, likewise."""
    yield from _loads(paths)


def _loads(paths: Iterable[Path], indent: str = "") -> Iterator[str]:
    for path in paths:
        yield f"load    {indent}{path.relation.shown}: {_looked(path.edge())}"
        yield from _loads(path.loads, f"{indent}  ")


def _looked(edge: Follow) -> str:
    range_ = edge.range
    most = "all documents" if edge.limit is None else "1 document" if edge.limit == 1 else f"up to {edge.limit} documents"
    further = " and what they refer to" if len(edge.follow) == 1 and edge.follow[0].limit == 1 and edge.limit != 1 else ""
    return f"for each {edge.field} {most} of {range_.table.name} by {range_.index}{further}"
