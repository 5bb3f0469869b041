"""What an admin key may do: the operations of Convex that this library needs, and which of them a key has.

A deploy key carries the actions that were chosen for it. A session that only reads needs the first of these alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

__all__ = ["OPERATIONS", "Access", "Kind", "operation"]

Kind = Literal["query", "mutation", "action"]

OPERATIONS: dict[Kind, str] = {
    "query": "RunInternalQueries",
    "mutation": "RunInternalMutations",
    "action": "RunInternalActions",
}
"""What reading, committing and searching need of a key, by the kind of the function."""


def operation(kind: Kind) -> str:
    """The operation by the name that the dashboard has for it."""
    name = OPERATIONS[kind]
    return f"deployment:functions:{name[0].lower()}{name[1:]}"


@attrs.frozen
class Access:
    """What Convex tells of a key: the operations it has (None: all), and whether it may only read."""

    operations: frozenset[str] | None
    read_only: bool

    @classmethod
    def told(cls, answer: Mapping[str, Any]) -> Access | None:
        """From the answer of `GET /api/check_admin_key`; None for what is no such answer."""
        operations = answer.get("allowedOps")
        if answer.get("success") is not True or not isinstance(operations, list):
            return None
        return cls(frozenset(map(str, operations)) or None, answer.get("isReadOnly") is True)

    def allows(self, kind: Kind) -> bool:
        if self.operations is not None:
            return OPERATIONS[kind] in self.operations
        return kind == "query" or not self.read_only
