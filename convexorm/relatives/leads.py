"""What the references of an instance lead to.

An instance keeps, for each reference, the instances that it knows by what the reference may hold; so a reference that is
set back, by hand or by a rollback, leads where it led.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from convexorm.errors import ValidationError
from convexorm.mapping.references import UNSET
from convexorm.values import MISSING

if TYPE_CHECKING:
    from convexorm.mapping.mapper import Mapper
    from convexorm.mapping.model import Model
    from convexorm.mapping.records import Record
    from convexorm.mapping.references import Reference
    from convexorm.mapping.relations import Relation

__all__ = [
    "HOLDERS",
    "SUCCESSOR",
    "all_found",
    "astray",
    "found",
    "held_value",
    "is_new",
    "known",
    "lead_alike",
    "leads_of",
    "led",
    "led_before",
    "led_by_key",
    "led_to_stored",
    "note",
    "owners",
    "peek",
    "references_in",
    "references_of",
    "refers_otherwise",
    "relations_of",
    "relatives_of",
    "set_to",
    "take_along",
    "unresolved",
    "value_of",
]


Relatives: TypeAlias = "dict[str | tuple[str, Any], Any]"
"""What a reference leads to, by its attribute and what that holds, and the loaded lists by the names of their relations."""


_NONE: Relatives = {}


SUCCESSOR = ""
"""Under which name an instance that was replaced has the one that has become its document."""


HOLDERS = " "
"""Under which name an instance has who may hold it in lists that go through another model: `ref`s, by their ids."""


def relatives_of(instance: Model) -> Relatives:
    """What is known of an instance's relations, to be added to."""
    state = instance._state
    known = state.related
    if known is None:
        known = state.related = {}
    return known


def peek(instance: Model) -> Relatives:
    """What is known of an instance's relations, to be looked at."""
    return instance._state.related or _NONE


def leads_of(instance: Model) -> list[tuple[str, Any, Model | None]]:
    """The references of which something is known: attribute, value, and what that leads to."""
    return [(*key, one) for key, one in peek(instance).items() if type(key) is tuple]


def is_new(instance: Model) -> bool:
    return instance._state.held is None and not instance._state.deleted


def value_of(instance: Model, reference: Reference) -> Any:
    """What a reference holds, which nobody has looked at for that; UNSET for what the model cannot hold."""
    state = instance._state
    if state.held is not None and not state.looked_at:
        return held_value(instance, reference)
    try:
        return getattr(instance, reference.attribute, UNSET)
    except ValidationError:
        return UNSET


def known(instance: Model, reference: Reference) -> Model | None:
    """The instance that a reference leads to, if that is known here or to the session."""
    return led(instance, reference, value_of(instance, reference))


def led(instance: Model, reference: Reference, value: Any) -> Model | None:
    """The instance that a reference of this value leads to: the session's one, if that holds another than is known here."""
    one: Model | None = peek(instance).get((reference.attribute, value))
    session = instance._state.session
    while one is not None and SUCCESSOR in peek(one):
        one = peek(one)[SUCCESSOR]
    if (
        one is not None
        and _is_nowhere(one)
        and instance._state.held is not None
        and held_value(instance, reference) == value
    ):
        one = None  # it was to be stored, and is not
    if session is None or value is None or value is UNSET or (one is not None and one._state.session is session):
        return one
    mine = session.known(reference, value)
    return None if mine is None and one is not None and one._state.deleted else mine or one


def _is_nowhere(instance: Model) -> bool:
    """Whether an instance is neither stored nor to be stored."""
    return is_new(instance) and instance._state.session is None


def held_value(instance: Model, reference: Reference) -> Any:
    """What a reference holds in the instance's document; UNSET for what the model cannot hold."""
    held = instance._state.held
    try:
        return UNSET if held is None else reference.load(held.get(reference.field, MISSING))
    except ValidationError:
        return UNSET


def astray(instance: Model) -> dict[str, Model]:
    """What references are to lead to that is not there, by attribute: it is not in the session, or deleted."""
    found: dict[str, Model] = {}
    session = instance._state.session
    for attribute, value, one in leads_of(instance):
        if one is None or value is UNSET or not (_is_nowhere(one) or one._state.deleted):
            continue
        reference = instance.__mapper__.references[attribute]
        if _is_set(instance, reference, value) and (session is None or session.known(reference, value) is None):
            found[attribute] = one
    return found


def set_to(instance: Model) -> Iterator[tuple[Reference, Any]]:
    """The references of an instance that are to be stored otherwise than they are, with what they hold."""
    for reference in references_of(instance):
        value = value_of(instance, reference)
        if value is not None and value is not UNSET and value != held_value(instance, reference):
            yield reference, value


def led_to_stored(instance: Model) -> list[Reference]:
    """The references of an instance that are to lead to stored documents of which instances are known, and do not yet."""
    found = [(reference, peek(instance).get((reference.attribute, value))) for reference, value in set_to(instance)]
    return [reference for reference, one in found if one is not None and not is_new(one)]


def _is_set(instance: Model, reference: Reference, value: Any) -> bool:
    """Whether a reference is to hold this, which is not stored."""
    return bool(getattr(instance, reference.attribute, UNSET) == value != held_value(instance, reference))


def led_by_key(instance: Model) -> dict[str, Model]:
    """What references lead to by its primary key, by attribute."""
    references = instance.__mapper__.references
    leads = [(name, one) for name, value, one in leads_of(instance) if getattr(instance, name, UNSET) == value]
    return {name: one for name, one in leads if one is not None and references[name].key is not None}


def take_along(instance: Model) -> bool:
    """What the session holds that refers to an instance by its primary key refers to it by that which it has now. Whether
    there was any.
    """
    key, session, held = instance.__mapper__.key, instance._state.session, instance._state.held
    if len(key) != 1 or session is None or held is None or key[0] not in instance.__dict__:
        return False
    column, now = instance.__mapper__.columns[key[0]], instance.__dict__[key[0]]
    stored = held.get(column.field, MISSING)
    if stored == now and type(stored) is column.type.as_is:
        return False  # nearly always
    before = column.load(stored)
    if before == now:
        return False
    taken = False
    for one, reference in session.all_referring(instance, before):
        if getattr(one, reference.attribute) == before:
            setattr(one, reference.attribute, now)
            found(one, reference, now, instance)
            taken = True
    return taken


def references_of(instance: Model) -> Sequence[Reference]:
    """The references of an instance; none while a class that they speak of is not there."""
    return references_in(instance.__mapper__)


def references_in(mapper: Mapper) -> Sequence[Reference]:
    """The references of a model; none while a class that they speak of is not there."""
    try:
        return mapper.leading
    except (NameError, ValidationError):
        return ()


def relations_of(instance: Model) -> Iterable[Relation]:
    """The relations of an instance; none while a class that they speak of is not there."""
    mapper = instance.__mapper__
    try:
        return mapper.relations.values() if mapper.relationships else ()
    except NameError:
        return ()


def found(instance: Model, reference: Reference, value: Any, one: Model | None) -> None:
    """What a reference leads to while it holds this value."""
    relatives_of(instance)[reference.attribute, value] = one


def all_found(instances: Iterable[Model], reference: Reference, value: Any, one: Model) -> None:
    """What the references of several instances lead to while they hold this value."""
    place = reference.attribute, value
    for instance in instances:
        state = instance._state
        if state.related is None:
            state.related = {place: one}
        else:
            state.related[place] = one


def unresolved(instance: Model) -> dict[str, Model]:
    """What the references lead to that hold nothing yet, by attribute; those whose key is known by now are set."""
    waiting: dict[str, Model] = {}
    if not instance._state.related:
        return waiting
    for attribute, value, one in leads_of(instance):
        if one is None or getattr(instance, attribute, UNSET) != value:
            continue
        now = instance.__mapper__.references[attribute].of(one)
        if now is UNSET:
            waiting[attribute] = one
        elif now != value:
            setattr(instance, attribute, now)
            relatives_of(instance)[attribute, now] = one
    return waiting


def led_before(instance: Model, reference: Reference) -> list[Model]:
    """All instances that a reference is known to lead to while it holds something else than now."""
    attribute, now = reference.attribute, value_of(instance, reference)
    values = [value for name, value, one in leads_of(instance) if name == attribute and one is not None and value != now]
    found = [led(instance, reference, value) for value in values]
    return [one for one in found if one is not None]


def owners(instance: Model, reference: Reference) -> Iterable[Model]:
    """All instances that may have another in lists by a reference, whatever that holds: also one that is to replace one."""
    session, found = instance._state.session, [known(instance, reference), *led_before(instance, reference)]
    if session is not None:
        told = [value for name, value, _ in leads_of(instance) if name == reference.attribute]
        for value in {value_of(instance, reference), *told} - {None, UNSET}:
            found += [session.known(reference, value), session.stored(reference, value)]
    return {id(one): one for one in found if one is not None}.values()


def refers_otherwise(instance: Model, before: Mapping[str, Any] | Record) -> bool:
    """Whether an instance's references hold something else than they did in the document before."""
    held = instance._state.held
    if held is None or not instance.__mapper__.related:
        return False
    fields = [reference.field for reference in references_of(instance)]
    return any(held.get(field, MISSING) != before.get(field, MISSING) for field in fields)


def note(instance: Model, what: Any, owner: Model | None) -> None:
    """Tell the session of a change that lists loaded from now on are to show."""
    session = instance._state.session or (None if owner is None else owner._state.session)
    if session is not None:
        session.moves.note(instance, what, owner)


def lead_alike(instance: Model, other: Model) -> None:
    """Let the references of a new instance, which has the values of another, lead where that one's do."""
    leads = {key: one for key, one in peek(other).items() if type(key) is tuple and one is not None}
    if leads:
        relatives_of(instance).update(leads)
