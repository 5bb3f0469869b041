"""Views: watches whose value is made of the documents of queries, for services over models."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from convexorm.live.changes import difference
from convexorm.live.states import State, States
from convexorm.mapping.model import Model

__all__ = ["ListView", "RecordView"]


@attrs.frozen(eq=False)
class _Viewed(State):
    """A value, the state of the queries that it was made of, and the instances that it shows."""

    below: State
    value: Any
    changed: bool
    items: Sequence[Model] = ()


class _View(States):
    def __init__(self, below: States) -> None:
        self._below = below

    def after(self, before: _Viewed | None, answer: Any) -> State:
        below = self._below.after(None if before is None else before.below, answer)
        if before is not None and not below.changed:
            return _Viewed(below, before.value, False, before.items)
        changes = below.value if isinstance(below.value, tuple) else (below.value,)
        return self._viewed(before, below, [list(change.items) for change in changes])

    @abstractmethod
    def _viewed(self, before: _Viewed | None, below: State, found: Sequence[list[Any]]) -> _Viewed:
        """What is shown of the documents of each query, one of which has changed."""


class ListView(_View):
    """One list of what all queries find, as the `Change` that it is."""

    def __init__(self, below: States, arrange: Callable[[Sequence[list[Any]]], list[Any]]) -> None:
        super().__init__(below)
        self._arrange = arrange

    def _viewed(self, before: _Viewed | None, below: State, found: Sequence[list[Any]]) -> _Viewed:
        items = tuple(self._arrange(found))
        change = difference(None if before is None else before.items, items)
        return _Viewed(below, change or (before and before.value), change is not None, items)


class RecordView(_View):
    """What `make` makes of the document that one query finds, or of None."""

    def __init__(self, below: States, make: Callable[[Any], Any]) -> None:
        super().__init__(below)
        self._make = make

    def _viewed(self, before: _Viewed | None, below: State, found: Sequence[list[Any]]) -> _Viewed:
        (documents,) = found
        value = self._make(documents[0] if documents else None)
        return _Viewed(below, value, before is None or value is not before.value)
