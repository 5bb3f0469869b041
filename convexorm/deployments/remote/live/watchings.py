"""What a watch makes of the queries that are kept answered for it.

The reads of a watch are one query, so that they are answered from one snapshot. What that cannot answer within one call
goes on in further ones, as for any read; each is a query of its own, whose arguments say where the one before has ended.
All are answered at the same moments, so at each moment the answers either fit together or ask for others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any
from weakref import ref

import attrs

from convexorm.deployments.base import FunctionCall
from convexorm.deployments.reader import Reader
from convexorm.deployments.remote.live.answers import Answers
from convexorm.deployments.remote.live.messages import Modification
from convexorm.deployments.remote.live.queries import Query
from convexorm.errors import InvalidRequestError, Travelling
from convexorm.faces import finish
from convexorm.live.keeping import keep
from convexorm.live.mailboxes import Mailbox
from convexorm.requests import Document, Read, ReadResult, Search
from convexorm.values import Value, dumps, loads_printed
from convexorm.wire import encode_reads

__all__ = ["FunctionWatching", "ReadWatching", "Watching", "value_of"]


class Watching(ABC):
    """One watch, as long as somebody holds its mailbox."""

    def __init__(self, mailbox: Mailbox[Any]) -> None:
        self._mailbox = ref(mailbox)
        self.queries: dict[str, Query] = {}
        """What is asked for it, by its arguments."""

    @property
    def mailbox(self) -> Mailbox[Any] | None:
        """Where it delivers to; None once nobody is there to take it."""
        found = self._mailbox()
        return None if found is None or found.over else found

    @property
    def failed(self) -> tuple[Query, Modification] | None:
        """A query of it that has failed."""
        for query in self.queries.values():
            if query.told is not None and query.told.type == "QueryFailed":
                return query, query.told
        return None

    @property
    def changed(self) -> bool:
        """Whether something was told since the last look."""
        return any(query.changed for query in self.queries.values())

    def look(self) -> tuple[list[Query], list[Query], Any]:
        """What is to be asked besides, what no longer, and the whole answer; None where there is none at this moment."""
        for query in self.queries.values():
            query.changed = False
        return self._look()

    @abstractmethod
    def _look(self) -> tuple[list[Query], list[Query], Any]: ...


@attrs.define(slots=False)
class _Missing(Travelling, Exception):
    """An answer that is not there yet."""

    reads: Sequence[Read]


class ReadWatching(Watching):
    """Reads of this library, through the function at `path`, each call `share` times smaller than it may be."""

    def __init__(self, mailbox: Mailbox[Any], reads: Sequence[Read], path: str) -> None:
        super().__init__(mailbox)
        self.reads = reads
        self.share = 1
        self.found_anew = 0
        """Documents of the last answer that were not in the one before."""
        self._path = path
        self._answer: list[ReadResult] = []
        self._decoded: dict[str, tuple[Modification, list[ReadResult]]] = {}
        self._answers: dict[str, Answers] = {}

    def ask_less(self) -> list[Query]:
        """Ask for half as much in each call; answers the queries that are given up."""
        self.share *= 2
        given_up = list(self.queries.values())
        self.queries.clear()
        self._decoded.clear()
        self._answers.clear()
        return given_up

    def _look(self) -> tuple[list[Query], list[Query], Any]:
        port = _Told(self)
        try:
            answer = finish(Reader(port).run(self.reads))
        except _Missing as missing:
            name = self.name(missing.reads)
            if name in self.queries:
                return [], [], None  # it is on its way
            query = self.queries[name] = Query(self._path, name)
            return [query], [], None
        unused = [self.queries.pop(name) for name in list(self.queries) if name not in port.used]
        for kept in (self._decoded, self._answers):
            for name in kept.keys() - port.used:
                del kept[name]
        known = {id(document) for document in _documents(self._answer)}
        self._answer = keep(self._answer, answer)
        self.found_anew = sum(id(document) not in known for document in _documents(self._answer))
        return [], unused, self._answer

    def name(self, reads: Sequence[Read]) -> str:
        """The arguments of a call that asks for these reads."""
        return dumps(encode_reads(reads, self.share))

    def told(self, name: str, reads: Sequence[Read]) -> list[ReadResult] | None:
        """What was told to a call with these arguments; None where nothing was at this moment."""
        query = self.queries.get(name)
        if query is None or query.told is None or query.told.type != "QueryUpdated":
            return None
        decoded = self._decoded.get(name)
        if decoded is not None and decoded[0] is query.told:
            return decoded[1]
        answers = self._answers.setdefault(name, Answers())
        results = answers.decode(bytes(query.told.value), reads)
        if not any(read.follow for read in reads):  # a reader adds to edges what it goes on with
            self._decoded[name] = query.told, results
        return results


class _Told:
    """A port that answers what was told, and nothing else. `used` are the arguments of what it has answered."""

    def __init__(self, watching: ReadWatching) -> None:
        self._watching = watching
        self.used: set[str] = set()

    async def read(self, reads: Sequence[Read]) -> list[ReadResult]:
        name = self._watching.name(reads)
        found = self._watching.told(name, reads)
        if found is None:
            raise _Missing(reads)
        self.used.add(name)
        return found

    async def search(self, search: Search) -> list[tuple[float, Document]]:
        raise InvalidRequestError("a search by a vector is answered once, and not watched")


class FunctionWatching(Watching):
    """A query of the project's own."""

    def __init__(self, mailbox: Mailbox[Any], call: FunctionCall) -> None:
        super().__init__(mailbox)
        self.call = call
        self._query = Query(call.path, dumps(dict(call.arguments)), call.component)

    def _look(self) -> tuple[list[Query], list[Query], Any]:
        if not self.queries:
            self.queries[""] = self._query
            return [self._query], [], None
        told = self._query.told
        return [], [], None if told is None or told.type != "QueryUpdated" else _Answer(loads_printed(bytes(told.value)))


@attrs.frozen
class _Answer:
    """What a function answers, which may be None."""

    value: Value


def value_of(answer: Any) -> Any:
    """What is delivered of a whole answer."""
    return answer.value if isinstance(answer, _Answer) else answer


def _documents(results: Sequence[ReadResult]) -> list[Document]:
    found: list[Document] = []
    for result in results:
        found += result.docs
        edges = list(result.followed)
        while edges:
            edge = edges.pop()
            for group in edge.groups.values():
                found += group.docs
            edges += edge.followed
    return found
