"""`Instances`: a session's instances of one model by `_id`, each for as long as somebody else keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from weakref import ref

if TYPE_CHECKING:
    from convexorm.model import Model

__all__ = ["Instances"]

_SWEEP_FROM = 1_000


class Instances:
    """A weak mapping without callbacks: what has died is swept out when the mapping has doubled since the last sweep.

    Loading many documents is mostly entering them here, and this takes a third of what a WeakValueDictionary does.
    `refs` is open to the session for that; whoever adds to it calls `sweep` afterwards.
    """

    __slots__ = ("_sweep_at", "refs")

    def __init__(self) -> None:
        self.refs: dict[str, ref[Model]] = {}
        self._sweep_at = _SWEEP_FROM

    def get(self, id: str) -> Model | None:
        """The instance with this `_id`, if somebody still keeps it."""
        held = self.refs.get(id)
        return None if held is None else held()

    def put(self, id: str, instance: Model) -> None:
        """Enter an instance, in place of one with its `_id`."""
        self.refs[id] = ref(instance)
        self.sweep()

    def discard(self, id: str) -> None:
        """Forget the instance with this `_id`, if there is one."""
        self.refs.pop(id, None)

    def __iter__(self) -> Iterator[Model]:
        for held in self.refs.values():
            instance = held()
            if instance is not None:
                yield instance

    def sweep(self) -> None:
        """Forget what has died, if there may be much of it."""
        if len(self.refs) > self._sweep_at:
            self.refs = {id: held for id, held in self.refs.items() if held() is not None}
            self._sweep_at = max(_SWEEP_FROM, 2 * len(self.refs))
