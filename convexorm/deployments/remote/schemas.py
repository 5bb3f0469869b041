"""Whether the tables of requests are those of the deployed schema, looked at once for each table, where that is wanted."""

from __future__ import annotations

from collections.abc import Iterable

from convexorm.errors import DeploymentError
from convexorm.exports import Export, differences
from convexorm.schema import Table

__all__ = ["Schemas"]

_SHOWN = 5
"""Differences that an error names."""


class Schemas:
    """The tables that were found to be as deployed; `where` names the deployment."""

    def __init__(self, where: str, *, checks: bool) -> None:
        self._where = where
        self._checks = checks
        self._found: frozenset[Table] = frozenset()

    def unseen(self, tables: Iterable[Table]) -> set[Table]:
        """Those of the tables that are still to be looked at."""
        return {table for table in tables if table not in self._found} if self._checks else set()

    def require(self, tables: set[Table], deployed: Export) -> None:
        """Raise DeploymentError, which names what differs, unless the tables are as deployed."""
        found = sorted(str(one) for table in tables for one in differences(table, deployed))
        if found:
            more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise DeploymentError(
                f"{self._where}: the deployed schema is not as the models say: {'; '.join(found[:_SHOWN])}{more}. "
                "Deploy the schema of the models, or write the models again with `python -m convexorm reflect`"
            )
        self._found |= tables
