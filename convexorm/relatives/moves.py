"""`Moves`: where instances of a session were moved since its last commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from convexorm.mapping.references import UNSET
from convexorm.relatives.leads import value_of

if TYPE_CHECKING:
    from convexorm.mapping.model import Model
    from convexorm.mapping.references import Reference

__all__ = ["Moves"]


class Moves(msgspec.Struct, eq=False):
    """What was put into lists, or taken out of them, since the last commit of a session: which instance, by what (the
    attribute that refers, or the model of the rows between), and into whose list. Also which new instances refer to what:
    that may come after them, and have its key only once it is stored (`rekeyed`).
    """

    moved: dict[tuple[int, Any], Model] = {}
    targets: dict[tuple[int, Any], tuple[Model, list[Model]]] = {}
    waiting: dict[tuple[type[Model], Any], list[tuple[Model, Reference]]] = {}
    rekeyed: bool = False

    def __bool__(self) -> bool:
        return bool(self.moved or self.waiting)

    def has(self, instance: Model, what: Any) -> bool:
        """Whether an instance was put somewhere, or taken out."""
        return (id(instance), what) in self.moved

    def note(self, instance: Model, what: Any, owner: Model | None) -> None:
        """An instance is to be in the list of an owner, or in none. Both are kept: their `id()` shall be nobody else's."""
        self.moved[id(instance), what] = instance
        if owner is not None:
            self.targets.setdefault((id(owner), what), (owner, []))[1].append(instance)

    def to(self, owner: Model, what: Any) -> list[Model]:
        """What was put into the list of an owner, and maybe taken out since."""
        known = self.targets.get((id(owner), what))
        return [] if known is None else known[1]

    def wait(self, instance: Model, reference: Reference, value: Any) -> None:
        """A new instance refers to a document by this value, or to none yet."""
        self.waiting.setdefault((reference.target.__mapper__.root.model, value), []).append((instance, reference))

    def waiting_for(self, owner: Model, key: Any) -> list[tuple[Model, Reference]]:
        """The new instances that were added with a reference of this value to a document of an owner's table."""
        return [] if key is UNSET else self.waiting.get((owner.__mapper__.root.model, key), [])

    def set_by_hand(self) -> list[Model]:
        """The instances that were added with other references than they have now, or with some that lead elsewhere now."""
        added = [(one, by, value) for (_, value), some in self.waiting.items() for one, by in some]
        return [one for one, by, value in added if self.rekeyed or value_of(one, by) != value]

    def clear(self) -> None:
        """All of it is stored, or undone."""
        self.moved.clear()
        self.targets.clear()
        self.waiting.clear()
        self.rekeyed = False
