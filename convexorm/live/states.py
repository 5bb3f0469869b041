"""States: what a watch makes of each answer. Instances are kept as long as their documents are the same objects.

A deployment sees to it that a document which has not changed is the very object that it was in the answer before. So what
has changed is found without looking into documents, and only of changed ones instances are made. An instance that loads
others is new as well where what it loads has changed, at whatever depth.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from operator import is_
from typing import Any

import attrs
from msgspec.structs import replace

from convexorm.deployments.base import Deployment
from convexorm.functions import Answer
from convexorm.live.changes import Change, difference
from convexorm.mapping.model import Model
from convexorm.querying.query import Query
from convexorm.querying.statements import Statement
from convexorm.querying.texts import TextQuery
from convexorm.requests import Document, Follow, Followed, Read, ReadResult
from convexorm.sessions import AsyncSession
from convexorm.sessions.compiler import Compiler
from convexorm.values import Value, hashable, same

__all__ = ["FunctionStates", "QueryStates", "State", "States"]


class State(ABC):
    """What a watch gives at one moment."""

    changed: bool
    """Whether it is another than the one before."""

    @property
    @abstractmethod
    def value(self) -> Any:
        """What the answer means."""


class States(ABC):
    """What a watch makes of one answer after the other."""

    @abstractmethod
    def after(self, before: Any, answer: Any) -> State:
        """What an answer is to those who have seen `before`; None when they have seen nothing yet."""


# -- queries ---------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class _Several(State):
    """What several statements answer from one snapshot, or one of them alone."""

    parts: Sequence[State]
    changed: bool

    @property
    def value(self) -> Any:
        return self.parts[0].value if len(self.parts) == 1 else tuple([part.value for part in self.parts])


class QueryStates(States):
    """The states of one or more statements."""

    def __init__(
        self, deployment: Deployment, statements: Sequence[Statement[Any]], names: Mapping[str, str] | None
    ) -> None:
        compiler = Compiler(names)
        self.reads: list[Read] = [compiler.statement(one) for one in statements]
        self._parts: list[States] = [
            _Instances(deployment, one, read.follow) if isinstance(one, Query | TextQuery) else _Plain(one)
            for one, read in zip(statements, self.reads, strict=True)
        ]

    def after(self, before: _Several | None, answer: Sequence[ReadResult]) -> State:
        olds: Sequence[State | None] = [None] * len(self._parts) if before is None else before.parts
        parts = [part.after(old, result) for part, old, result in zip(self._parts, olds, answer, strict=True)]
        return _Several(parts, before is None or any(part.changed for part in parts))


@attrs.frozen(eq=False)
class _Value(State):
    """A number, rows of a selection, groups: whatever is no instances."""

    result: ReadResult
    value: Any
    changed: bool


class _Plain(States):
    def __init__(self, statement: Statement[Any]) -> None:
        self._statement = statement

    def after(self, before: _Value | None, answer: ReadResult) -> State:
        if before is not None and _alike(before.result, answer):
            return _Value(before.result, before.value, False)
        return _Value(answer, self._statement.answer(answer, _no_instances), True)


def _no_instances(model: type[Model], documents: Sequence[Document]) -> Any:
    raise NotImplementedError(f"instances of {model.__name__}")


def _alike(one: ReadResult, two: ReadResult) -> bool:
    """Whether two answers that have no instances are the same."""
    if (one.count, one.digests, one.groups) != (two.count, two.digests, two.groups) or len(one.docs) != len(two.docs):
        return False
    return all(first is second or same(dict(first), dict(second)) for first, second in zip(one.docs, two.docs, strict=True))


@attrs.frozen(eq=False)
class _Held(State):
    """The instances of a query, in order. `held` are all of them by `_id`, with those that they load; `shown` is what each
    of them shows: its document, and those of all that it loads, at whatever depth.
    """

    items: Sequence[Model]
    held: Mapping[str, Model]
    shown: Mapping[str, Sequence[Document]]
    value: Change[Any]
    changed: bool

    def has(self, id: str, shown: Sequence[Document]) -> bool:
        """Whether there is an instance that shows just this."""
        before = self.shown.get(id)
        return before is not None and id in self.held and len(before) == len(shown) and all(map(is_, before, shown))


_NOTHING = _Held((), {}, {}, Change([], [], [], []), True)


class _Instances(States):
    def __init__(self, deployment: Deployment, statement: Query[Any] | TextQuery[Any], follow: Sequence[Follow]) -> None:
        self._deployment = deployment
        self._statement = statement
        self._follow = follow

    def after(self, before: _Held | None, answer: ReadResult) -> State:
        old, ids = before or _NOTHING, []
        docs = self._statement.cut(answer.docs)
        shown: dict[str, list[Document]] = {}
        for document in docs:
            ids.append(str(document["_id"]))
            _show(document, self._follow, answer.followed, shown)
        kept = {id_: old.held[id_] for id_, some in shown.items() if old.has(id_, some)}
        while self._follow:  # what leads to an instance that is new leads to it, not to the one before
            leading = [id_ for id_ in kept if any(one is not _END and one["_id"] not in kept for one in shown[id_])]
            if not leading:
                break
            for id_ in leading:
                del kept[id_]
        new = [document for id_, document in zip(ids, docs, strict=True) if id_ not in kept]
        held = {**self._made(new, answer, kept), **kept} if new else kept
        items = tuple([held[id_] for id_ in ids])
        held = {id_: one for id_, one in held.items() if id_ in shown}
        change = difference(None if before is None else before.items, items)
        return _Held(items, held, shown, change or Change(list(items), [], [], []), change is not None)

    def _made(self, new: Sequence[Document], answer: ReadResult, kept: Mapping[str, Model]) -> dict[str, Model]:
        """Instances of these documents and of what they load, new ones but for those that are kept."""
        session = AsyncSession(self._deployment)
        part = replace(answer, docs=new, followed=_of(new, self._follow, answer.followed))
        return session._detached(self._statement, part, kept.values() if self._follow else ())


def _show(
    document: Document, follow: Sequence[Follow], followed: Sequence[Followed], shown: dict[str, list[Document]]
) -> list[Document]:
    """Note what a document shows, and each that it loads."""
    found = [document]
    for edge, one in zip(follow, followed, strict=False):
        for related in one.of(document, edge.field):
            found += _show(related, edge.follow, one.followed, shown)
        found.append(_END)
    id_ = str(document["_id"])
    known = shown.get(id_)
    if known is None or len(known) < len(found):  # the same by another way, which loads less
        shown[id_] = found
    return found


_END: Document = {}
"""Between what one edge leads to and what the next does."""


def _of(documents: Sequence[Document], follow: Sequence[Follow], followed: Sequence[Followed]) -> tuple[Followed, ...]:
    """Of what edges led to, what these documents lead to."""
    some: list[Followed] = []
    for edge, one in zip(follow, followed, strict=False):
        part = Followed({identity: one.groups[identity] for identity in _identities(documents, edge, one)})
        related = [each for group in part.groups.values() for each in group.docs]
        part.followed = _of(related, edge.follow, one.followed)
        some.append(part)
    return tuple(some)


def _identities(documents: Sequence[Document], edge: Follow, followed: Followed) -> Iterator[str | bytes]:
    for document in documents:
        key = document.get(edge.field)
        if key is not None and (identity := hashable(key)) in followed.groups:
            yield identity


# -- functions -------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class _Answered(State):
    """What a function of the project answers."""

    stored: Value
    value: Any
    changed: bool


class FunctionStates(States):
    """The states of a function."""

    def __init__(self, meaning: Answer) -> None:
        self._meaning = meaning

    def after(self, before: _Answered | None, answer: Value) -> State:
        if before is not None and same(before.stored, answer):
            return _Answered(before.stored, before.value, False)
        return _Answered(answer, self._meaning.load(answer), True)
