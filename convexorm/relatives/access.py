"""Relations as attributes: what looking at one answers, and what setting one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convexorm.errors import InvalidRequestError, NoResultFound, NotLoadedError
from convexorm.mapping.references import UNSET
from convexorm.relatives.leads import known, led, peek
from convexorm.relatives.lists import RelatedItems, check_item, loaded_list, put_in, refer, refuse_item, take_out, together

if TYPE_CHECKING:
    from convexorm.mapping.model import Model
    from convexorm.mapping.relations import Relation, Through, ToMany, ToOne

__all__ = ["assign", "related"]


def related(instance: Model, relation: Relation) -> Any:
    """What was loaded. NotLoadedError where nothing was, NoResultFound for a reference that leads nowhere."""
    if not relation.many:
        return _one(instance, relation)  # type: ignore[arg-type]
    items = _list(instance, relation)  # type: ignore[arg-type]
    return next(iter(items), None) if relation.sole else items


def _one(instance: Model, relation: ToOne) -> Model | None:
    reference = relation.reference
    value = getattr(instance, reference.attribute, UNSET)
    place, leads = (reference.attribute, value), peek(instance)
    if place not in leads and value is None and relation.nullable:
        return None  # which needs no looking
    one = led(instance, reference, value) if place in leads else None
    told: Model | None = leads.get(place)
    if place not in leads or (one is None and told is not None and not told._state.deleted):
        raise NotLoadedError(relation.shown)
    if one is not told:
        leads[place] = one  # another has come in its place
    if one is None and not relation.nullable:
        target = relation.target.__mapper__.name
        raise NoResultFound(f"{relation.shown}: {reference.attribute} leads to no document of table {target!r}")
    return one


def _list(instance: Model, relation: ToMany | Through) -> RelatedItems:
    items = loaded_list(instance, relation)
    if items is None:
        raise NotLoadedError(relation.shown)
    return items


def assign(instance: Model, relation: Relation, value: Any) -> None:
    """Set a relation, and what it says of the other side."""
    if relation.many:
        items = _list(instance, relation)  # type: ignore[arg-type]
        if not items.whole:
            problem = f"{relation.shown} holds some of its documents only; load it whole before it is set"
            raise InvalidRequestError(problem)
        items[:] = value if not relation.sole else () if value is None else (value,)
    else:
        _assign_one(instance, relation, value)  # type: ignore[arg-type]


def _assign_one(instance: Model, relation: ToOne, value: Any) -> None:
    reference = relation.reference
    if value is None:
        if not reference.nullable:
            refuse_item(relation, value)
    else:
        check_item(relation, value)
    before = known(instance, reference)
    refer(instance, reference, value)
    if before is not None and before is not value:
        take_out(before, reference, instance)
    if value is not None:
        put_in(value, reference, instance, made=True)
        together(instance, value)
