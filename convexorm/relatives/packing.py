"""What an instance holds of its relations, for a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convexorm.relatives.leads import HOLDERS, peek, relatives_of
from convexorm.relatives.lists import RelatedItems

if TYPE_CHECKING:
    from convexorm.mapping.model import Model

__all__ = ["packed", "unpack"]


def packed(instance: Model) -> dict[Any, Any]:
    """What is known of an instance's relations, as `unpack` takes it: what its references lead to, and its lists."""
    told = {key: one for key, one in peek(instance).items() if key != HOLDERS}
    return {key: one.packed() if type(one) is RelatedItems else one for key, one in told.items()}


def unpack(instance: Model, told: Mapping[Any, Any]) -> None:
    """Let an instance know of its relations what `packed` said; not the lists of a relation that is not there (yet)."""
    related = relatives_of(instance)
    try:
        relations = instance.__mapper__.relations
    except NameError:
        relations = {}
    for key, one in told.items():
        if type(key) is tuple:
            related[key] = one
        elif key in relations:
            related[key] = RelatedItems.unpacked(instance, relations[key], one)
