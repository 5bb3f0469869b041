"""What one connection has asked, and was told: queries by number, in versions that only rise. It knows no socket.

After each transition all answers are of one moment. A new connection begins anew: what was told before it is not of the
same moment as what it tells, so it does not count until it is told again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import attrs

from convexorm.deployments.remote.live.messages import Message, Modification, Version, add, modify, remove
from convexorm.errors import DeploymentError

__all__ = ["Queries", "Query"]


@attrs.define(eq=False)
class Query:
    """One query that is kept answered. `told` is what came last, None before that; `changed` until somebody has looked."""

    path: str
    arguments: str = attrs.field(repr=False)
    component: str | None = None
    told: Modification | None = attrs.field(default=None, repr=False)
    changed: bool = False
    journal: str | None = attrs.field(default=None, repr=False)


class Queries:
    """The queries of a connection, and of those that follow it."""

    def __init__(self) -> None:
        self._numbers = count()
        self._queries: dict[int, Query] = {}
        self._version = Version()
        self._asked = 0
        """The version of the queries that the server was last asked for."""
        self._added: dict[int, Query] = {}
        self._removed: list[int] = []
        self.seen: str | None = None
        """The latest moment that was heard of, in the server's words."""

    def __len__(self) -> int:
        return len(self._queries)

    def add(self, query: Query) -> None:
        number = next(self._numbers)
        self._queries[number] = self._added[number] = query

    def remove(self, query: Query) -> None:
        for number, one in list(self._queries.items()):
            if one is query:
                del self._queries[number]
                if self._added.pop(number, None) is None:
                    self._removed.append(number)

    def begin(self) -> None:
        """A connection is new: all has to be asked again."""
        self._version, self._asked = Version(), 0
        self._added, self._removed = dict(self._queries), []
        for query in self._queries.values():
            query.told = None

    def wishes(self) -> Iterator[str]:
        """The message that says what has been added and removed since the last one, if anything has."""
        if not self._added and not self._removed:
            return
        added = [add(number, one.path, one.arguments, one.journal, one.component) for number, one in self._added.items()]
        removed = [remove(number) for number in self._removed]
        self._added, self._removed = {}, []
        yield modify(self._asked, [*removed, *added])
        self._asked += 1

    def take(self, transition: Message) -> None:
        """Go on to the next moment. Raises DeploymentError where the server is at another than was told last."""
        if transition.start != self._version:
            raise DeploymentError("a message of the sync protocol is missing")
        for one in transition.modifications:
            query = self._queries.get(one.query_id)
            if query is not None and one.type != "QueryRemoved":
                query.told, query.journal, query.changed = one, one.journal, True
        self._version = transition.end
        self.seen = transition.end.ts
