"""What an instance holds of its relations: the documents its references lead to, and its lists, and how both stay in step.

An instance keeps, for each reference, the instances that it knows by what the reference may hold; so a reference that is
set back, by hand or by a rollback, leads where it led. A list knows what of it is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from operator import is_not
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, TypeAlias

import msgspec

from convexorm.errors import InvalidRequestError, NoResultFound, NotLoadedError, ValidationError
from convexorm.given import several
from convexorm.references import UNSET
from convexorm.values import MISSING

if TYPE_CHECKING:
    from convexorm.model import Model
    from convexorm.records import Record
    from convexorm.references import Reference
    from convexorm.relations import Relation, Through, ToMany, ToOne

__all__ = [
    "Moves",
    "RelatedItems",
    "all_found",
    "around",
    "assign",
    "astray",
    "exchange",
    "found",
    "found_stored",
    "gone",
    "hold_to_references",
    "join_lists",
    "join_row",
    "known",
    "lead_alike",
    "leave",
    "leave_rows",
    "led_by_key",
    "listed",
    "lists_changed",
    "loaded_list",
    "not_whole",
    "packed",
    "refers_otherwise",
    "related",
    "replaced",
    "restore",
    "settle",
    "stand_for",
    "stay_in_step",
    "strangers",
    "take_along",
    "undo",
    "unpack",
    "unresolved",
]


Relatives: TypeAlias = "dict[str | tuple[str, Any], Any]"
"""What a reference leads to, by its attribute and what that holds, and the loaded lists by the names of their relations."""

_NONE: Relatives = {}
_SUCCESSOR = ""
"""Under which name an instance that was replaced has the one that has become its document."""


def _held(instance: Model) -> Relatives:
    """What is known of an instance's relations, to be added to."""
    state = instance._state
    known = state.related
    if known is None:
        known = state.related = {}
    return known


def _peek(instance: Model) -> Relatives:
    """What is known of an instance's relations, to be looked at."""
    return instance._state.related or _NONE


def _lists(instance: Model) -> list[RelatedItems]:
    return [one for one in _peek(instance).values() if type(one) is RelatedItems]


def _leads(instance: Model) -> list[tuple[str, Any, Model | None]]:
    """The references of which something is known: attribute, value, and what that leads to."""
    return [(*key, one) for key, one in _peek(instance).items() if type(key) is tuple]


# -- looking -------------------------------------------------------------------------------------------------------


def related(instance: Model, relation: Relation) -> Any:
    """What was loaded. NotLoadedError where nothing was, NoResultFound for a reference that leads nowhere."""
    if not relation.many:
        return _one(instance, relation)  # type: ignore[arg-type]
    items = _list(instance, relation)  # type: ignore[arg-type]
    return next(iter(items), None) if relation.sole else items


def _one(instance: Model, relation: ToOne) -> Model | None:
    reference = relation.reference
    value = getattr(instance, reference.attribute, UNSET)
    place, leads = (reference.attribute, value), _peek(instance)
    if place not in leads and value is None and relation.nullable:
        return None  # which needs no looking
    one = _led(instance, reference, value) if place in leads else None
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


def loaded_list(instance: Model, relation: Relation) -> RelatedItems | None:
    """The list of a relation; None where it was not loaded. That of a new instance holds at first what of its session
    refers to it.
    """
    items: RelatedItems | None = _peek(instance).get(relation.name)
    if items is None and _is_new(instance):
        items = _held(instance)[relation.name] = RelatedItems(instance, relation)
        _fill_in(instance, items)
    return items


def _is_new(instance: Model) -> bool:
    return instance._state.held is None and not instance._state.deleted


def _value(instance: Model, reference: Reference) -> Any:
    """What a reference holds, which nobody has looked at for that; UNSET for what the model cannot hold."""
    state = instance._state
    if state.held is not None and not state.looked_at:
        return _stored(instance, reference)
    try:
        return getattr(instance, reference.attribute, UNSET)
    except ValidationError:
        return UNSET


def known(instance: Model, reference: Reference) -> Model | None:
    """The instance that a reference leads to, if that is known here or to the session."""
    return _led(instance, reference, _value(instance, reference))


def _led(instance: Model, reference: Reference, value: Any) -> Model | None:
    """The instance that a reference of this value leads to: the session's one, if that holds another than is known here."""
    one: Model | None = _peek(instance).get((reference.attribute, value))
    session = instance._state.session
    while one is not None and _SUCCESSOR in _peek(one):
        one = _peek(one)[_SUCCESSOR]
    if one is not None and _is_nowhere(one) and instance._state.held is not None and _stored(instance, reference) == value:
        one = None  # it was to be stored, and is not
    if session is None or value is None or value is UNSET or (one is not None and one._state.session is session):
        return one
    mine = session.known(reference, value)
    return None if mine is None and one is not None and one._state.deleted else mine or one


def _is_nowhere(instance: Model) -> bool:
    """Whether an instance is neither stored nor to be stored."""
    return _is_new(instance) and instance._state.session is None


def _stored(instance: Model, reference: Reference) -> Any:
    """What a reference holds in the instance's document; UNSET for what the model cannot hold."""
    held = instance._state.held
    try:
        return UNSET if held is None else reference.load(held.get(reference.field, MISSING))
    except ValidationError:
        return UNSET


def astray(instance: Model, doomed: Collection[int]) -> dict[str, Model]:
    """What references are to lead to that will not be there, by attribute: it is not in the session, or `doomed`, by id."""
    found: dict[str, Model] = {}
    session = instance._state.session
    for attribute, value, one in _leads(instance):
        if one is None or value is UNSET or not (_is_nowhere(one) or id(one) in doomed):
            continue
        reference = instance.__mapper__.references[attribute]
        is_set = getattr(instance, attribute, UNSET) == value != _stored(instance, reference)
        if is_set and (session is None or session.known(reference, value) is None):
            found[attribute] = one
    return found


def led_by_key(instance: Model) -> dict[str, Model]:
    """What references lead to by its primary key, by attribute."""
    references = instance.__mapper__.references
    leads = [(name, one) for name, value, one in _leads(instance) if getattr(instance, name, UNSET) == value]
    return {name: one for name, one in leads if one is not None and references[name].key is not None}


def strangers(instance: Model) -> Iterator[tuple[Relation, Model]]:
    """What was put into lists and is not in the session of their owner, which stores nothing of it; with the relations."""
    session = instance._state.session
    for items in _lists(instance) if session is not None else ():
        for item in () if items.relation.is_through else items:
            if item._state.session is not session and not items.has_stored(item):
                yield items.relation, item


def take_along(instance: Model) -> None:
    """What the session holds that refers to an instance by its primary key refers to it by that which it has now."""
    key, session, held = instance.__mapper__.key, instance._state.session, instance._state.held
    if len(key) != 1 or session is None or held is None or key[0] not in instance.__dict__:
        return
    column, now = instance.__mapper__.columns[key[0]], instance.__dict__[key[0]]
    stored = column.load(held.get(column.field, MISSING))
    if stored == now:
        return
    for relation in _relations(instance):
        if not relation.many:
            continue
        reference: Reference = relation.near if relation.is_through else relation.reference  # type: ignore[attr-defined]
        for one in () if reference.key is None else session.referring(reference, stored):
            if getattr(one, reference.attribute) == stored:
                setattr(one, reference.attribute, now)
                found(one, reference, now, instance)


def exchange(owner: Model, item: Model, other: Model) -> None:
    """The lists of an owner hold another instance of an item's document."""
    for items in _lists(owner):
        items.swap(item, other)


def undo(instance: Model) -> None:
    """An instance that could not be made is in no list, and not in the session of what it was related to."""
    if not instance._state.related:
        return
    session = instance._state.session
    if session is not None:
        session.discard(instance)
    else:
        leave(instance)


def _references(instance: Model) -> Sequence[Reference]:
    """The references of an instance; none while a class that they speak of is not there."""
    try:
        return instance.__mapper__.leading
    except (NameError, ValidationError):
        return ()


def _relations(instance: Model) -> Iterable[Relation]:
    """The relations of an instance; none while a class that they speak of is not there."""
    mapper = instance.__mapper__
    try:
        return mapper.relations.values() if mapper.relationships else ()
    except NameError:
        return ()


def _lists_by(owner: Model, reference: Reference, *, through: bool = False, made: bool = False) -> list[RelatedItems]:
    """The loaded lists of an owner that hold what refers to it by this reference, or what such rows lead to. Those of a new
    owner can be `made` for that.
    """
    if made and _is_new(owner):
        for relation in _relations(owner):
            if _goes_by(relation, reference, through=through):
                loaded_list(owner, relation)
    return [one for one in _lists(owner) if _goes_by(one.relation, reference, through=through)]


def _goes_by(relation: Any, reference: Reference, *, through: bool) -> bool:
    if not relation.many or relation.is_through != through:
        return False
    return reference.is_same(relation.near if through else relation.reference)


# -- what a session says -------------------------------------------------------------------------------------------


def found(instance: Model, reference: Reference, value: Any, one: Model | None) -> None:
    """What a reference leads to while it holds this value."""
    _held(instance)[reference.attribute, value] = one


def found_stored(instance: Model, reference: Reference, value: Any, one: Model | None) -> None:
    """What a reference leads to while it holds this value, as it is stored; lists of the other side hold the instance."""
    found(instance, reference, value, one)
    if one is not None and one._state.related and _stored(instance, reference) == value == _value(instance, reference):
        for items in _lists(one):
            if _goes_by(items.relation, reference, through=False) and not items.holds(instance):
                items.join(instance, stored=True)


def all_found(instances: Iterable[Model], reference: Reference, value: Any, one: Model) -> None:
    """What the references of several instances lead to while they hold this value."""
    place = reference.attribute, value
    for instance in instances:
        state = instance._state
        if state.related is None:
            state.related = {place: one}
        else:
            state.related[place] = one


def listed(instance: Model, relation: Relation, items: Iterable[Model], rows: Iterable[Model], *, whole: bool) -> None:
    """What a relation leads to, with the rows between where there are. A list that was changed stays as it is."""
    lists = _held(instance)
    held = lists.get(relation.name)
    if held is None:
        lists[relation.name] = RelatedItems(instance, relation, items, rows, whole=whole)
    elif not held.changed:
        held.load(items, rows, whole=whole)


def settle(instance: Model) -> None:
    """What the lists hold is stored."""
    if not instance._state.related:
        return
    for items in _lists(instance):
        items.settle()


def lists_changed(instance: Model) -> bool:
    """Whether lists hold anything else than what is stored."""
    return any(items.changed for items in _lists(instance))


def restore(instance: Model) -> None:
    """The lists hold what is stored."""
    for items in _lists(instance):
        items.restore()


def join_lists(instance: Model) -> None:
    """Join the loaded lists that a new instance belongs to, and be where those lead that have referred to it before."""
    session = instance._state.session
    if session is None:
        return
    moves = session.moves
    for reference in _references(instance):
        value = _value(instance, reference)
        moves.wait(instance, reference, value)
        if value is None or value is UNSET:
            continue
        one = _led(instance, reference, value)
        if one is not None:
            found(instance, reference, value, one)
            _enter(one, reference, instance)
            _note(instance, reference.attribute, one)
    join_row(instance)
    key = instance.primary_key if len(instance.__mapper__.key) == 1 else UNSET
    for other, reference in moves.waiting_for(instance, key):
        if other._state.session is session and _value(other, reference) == key:
            found(other, reference, key, instance)
    for items in _lists(instance):
        _fill_in(instance, items)


def _fill_in(owner: Model, items: RelatedItems) -> None:
    """Let a list of a new owner hold what of its session refers to it by its key."""
    relation: Any = items.relation
    reference: Reference = relation.near if relation.is_through else relation.reference
    session = owner._state.session
    value = UNSET if session is None else reference.of(owner)
    if session is None or value is UNSET:
        return
    for one in session.referring(reference, value):
        found(one, reference, value, owner)
        if relation.is_through:
            join_row(one)
        else:
            items.join(one)


def around(instance: Model) -> Iterator[Model]:
    """The instances that this one's references and lists lead to, and the rows between."""
    for attribute, value, one in _leads(instance):
        if one is not None and getattr(instance, attribute, UNSET) == value:
            yield one
    for items in _lists(instance):
        yield from list(items)
        yield from [row for rows in items.rows.values() for row in rows]


def unresolved(instance: Model) -> dict[str, Model]:
    """What the references lead to that hold nothing yet, by attribute; those whose key is known by now are set."""
    waiting: dict[str, Model] = {}
    if not instance._state.related:
        return waiting
    for attribute, value, one in _leads(instance):
        if one is None or getattr(instance, attribute, UNSET) != value:
            continue
        now = instance.__mapper__.references[attribute].of(one)
        if now is UNSET:
            waiting[attribute] = one
        elif now != value:
            setattr(instance, attribute, now)
            _held(instance)[attribute, now] = one
    return waiting


def leave(instance: Model, others: Iterable[Model] = ()) -> None:
    """An instance is to be in no list any longer; `others` may hold it through rows of a model between.

    Rows that are new, and lead to it, are to be no longer either.
    """
    for reference in _references(instance):
        for one in _owners(instance, reference):
            _exit(one, reference, instance)
            for items in _lists_by(one, reference, through=True):
                items.unpair(instance)
    leave_rows(instance, others)


def leave_rows(instance: Model, others: Iterable[Model] = ()) -> None:
    """New rows of a model between, which lead to an instance that is to be no longer, are to be no longer either."""
    rows: list[Model] = []
    for items in _lists(instance):
        rows += [row for some in items.rows.values() for row in some]
    for owner in others:
        for items in _lists(owner):
            rows += items.rows.get(id(instance), ()) if items.relation.is_through else ()
    for row in [one for one in rows if one._state.held is None]:
        _unpair(row)
        session = row._state.session
        if session is not None:
            session.discard(row)


def _unpair(row: Model) -> None:
    """A row is to be no longer: the lists of both sides hold nothing for it."""
    for reference in _references(row):
        one = known(row, reference)
        for items in () if one is None else _lists_by(one, reference, through=True):
            items.unpair(row)


def gone(instance: Model, others: Iterable[Model] = ()) -> None:
    """The document of an instance was deleted: it is in no list any longer, whatever is rolled back; `others` may hold it
    through rows of a model between.
    """
    for reference in _references(instance):
        for one in _owners(instance, reference):
            _forget(one, reference, instance)
    for owner in others:
        for items in _lists(owner):
            if items.relation.is_through:
                items.forget(instance)


def _all_led(instance: Model, reference: Reference) -> list[Model]:
    """All instances that a reference is known to lead to, whatever it holds."""
    values = [value for name, value, one in _leads(instance) if name == reference.attribute and one is not None]
    found = [_led(instance, reference, value) for value in values]
    return [one for one in found if one is not None]


def _owners(instance: Model, reference: Reference) -> Iterable[Model]:
    """All instances that may have another in lists by a reference, whatever that holds: also one that is to replace one."""
    session, found = instance._state.session, [known(instance, reference), *_all_led(instance, reference)]
    if session is not None:
        told = [value for name, value, _ in _leads(instance) if name == reference.attribute]
        for value in {_value(instance, reference), *told} - {None, UNSET}:
            found += [session.known(reference, value), session.stored(reference, value)]
    return {id(one): one for one in found if one is not None}.values()


def _forget(one: Model, reference: Reference, instance: Model, *, through: bool | None = None) -> None:
    """An instance that has referred to another does so no longer, and that is stored."""
    for items in _lists(one):
        if through is not True and _goes_by(items.relation, reference, through=False):
            items.forget(instance)
        elif _goes_by(items.relation, reference, through=True):
            items.unpair(instance, stored=True)


def replaced(instance: Model, other: Model, others: Iterable[Model]) -> None:
    """An instance has become the document that another one was: it takes its place in all lists, and has its lists."""
    for owner in others:
        for items in _lists(owner):
            items.swap(other, instance)
    for reference in _references(other):
        now = known(instance, reference)
        for one in _owners(other, reference):
            for items in _lists(one):
                items.swap(other, instance)
            if one is not now:
                _forget(one, reference, instance)
    added = {items.relation.name: items for items in _lists(instance)}
    not_whole(instance)
    for items in _lists(other):
        name = items.relation.name
        if name in instance.__mapper__.relationships:
            items.belong(instance)
            _held(instance)[name] = items
            for item in added.get(name, ()):
                items.join(item, added[name].rows.get(id(item), ()))
            _hold_only(items, instance)
    not_whole(other)
    _held(other)[_SUCCESSOR] = instance
    hold_to_references(instance)


def _hold_only(items: RelatedItems, owner: Model) -> None:
    """Let a list that was another instance's hold what leads to its owner now, and nothing else."""
    relation: Any = items.relation
    session = owner._state.session
    if relation.is_through:
        for row in [row for rows in items.rows.values() for row in rows if row._state.session is not session]:
            items.unpair(row, stored=True)
        return
    reference: Reference = relation.reference
    for item in list(items):
        if item._state.session is not session or known(item, reference) is not owner:
            items.forget(item)
    for one in () if session is None else session.referring(reference, reference.of(owner)):
        if one._state.held is not None and known(one, reference) is owner:
            items.join(one, stored=True)


def stand_for(instance: Model, other: Model, others: Iterable[Model]) -> None:
    """A new instance is to become the document of another one: lists hold it instead, until that is undone."""
    owners = {id(one): one for one in (*others, *(known(other, one) for one in _references(other))) if one is not None}
    for owner in owners.values():
        for items in _lists(owner):
            if not items.holds(other):
                continue
            items.touch()
            reference = None if items.relation.is_through else items.relation.reference  # type: ignore[attr-defined]
            if reference is None or known(instance, reference) is owner:
                items.swap(other, instance, stored=False)
            else:
                items.drop(other)


def not_whole(instance: Model) -> None:
    """What the lists of an instance hold is not all: they count as not loaded."""
    for items in _lists(instance):
        del _held(instance)[items.relation.name]


def hold_to_references(instance: Model) -> None:
    """Let the lists hold an instance that its references mean now that they are stored, whichever way these were set."""
    if instance._state.session is None:
        return
    moved = False
    for reference in _references(instance):
        one = known(instance, reference)
        for other in _all_led(instance, reference):
            if other is not one:
                _forget(other, reference, instance)
                moved = True
        if one is None:
            continue
        found(instance, reference, _value(instance, reference), one)
        for items in _lists(one):
            if _goes_by(items.relation, reference, through=False):
                items.join(instance, stored=True)
    if moved:  # a row that leads to another instance than before
        for reference in _references(instance):
            one = known(instance, reference)
            if one is not None:
                _forget(one, reference, instance, through=True)
    join_row(instance, stored=True)


def refers_otherwise(instance: Model, before: Mapping[str, Any] | Record) -> bool:
    """Whether an instance's references hold something else than they did in the document before."""
    held = instance._state.held
    if held is None or not instance.__mapper__.related:
        return False
    fields = [reference.field for reference in _references(instance)]
    return any(held.get(field, MISSING) != before.get(field, MISSING) for field in fields)


def stay_in_step(relation: ToMany | Through, owners: Iterable[Model], moves: Moves) -> None:
    """Let lists that were loaded just now say what was put into them, or taken out, and is not stored yet."""
    for owner in owners if moves else ():
        items: RelatedItems | None = _peek(owner).get(relation.name)
        if items is None:
            continue
        if relation.is_through:
            _stay_paired(items, owner, relation, moves)
            continue
        reference: Reference = relation.reference  # type: ignore[union-attr]
        what = reference.attribute
        for item in [one for one in items if moves.has(one, what) and known(one, reference) is not owner]:
            items.touch()
            items.drop(item)
        for item in moves.to(owner, what):
            if item._state.session is owner._state.session and known(item, reference) is owner:
                items.join(item)
        for item in _added(owner, reference, moves):
            items.join(item)


def _stay_paired(items: RelatedItems, owner: Model, relation: Any, moves: Moves) -> None:
    for row in [row for rows in items.rows.values() for row in rows if moves.has(row, relation.between)]:
        items.unpair(row)
    for row in _added(owner, relation.near, moves):
        join_row(row)


def _added(owner: Model, reference: Reference, moves: Moves) -> list[Model]:
    """The new instances of an owner's session that refer to it since they were added; they lead there from now on."""
    added = [one for one, by in moves.waiting_for(owner, reference.of(owner)) if by.is_same(reference) and _is_new(one)]
    value, session = reference.of(owner), owner._state.session
    here = [one for one in added if one._state.session is session and _value(one, reference) == value]
    for one in here:
        found(one, reference, value, owner)
    return here


class Moves(msgspec.Struct, eq=False):
    """What was put into lists, or taken out of them, since the last commit of a session: which instance, by what (the
    attribute that refers, or the model of the rows between), and into whose list. Also which new instances refer to what:
    that may come after them.
    """

    moved: dict[tuple[int, Any], Model] = {}
    targets: dict[tuple[int, Any], tuple[Model, list[Model]]] = {}
    waiting: dict[tuple[type[Model], Any], list[tuple[Model, Reference]]] = {}

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
        """The instances that were added with other references than they have now."""
        added = [(one, by, value) for (_, value), some in self.waiting.items() for one, by in some]
        return [one for one, by, value in added if _value(one, by) != value]

    def clear(self) -> None:
        """All of it is stored, or undone."""
        self.moved.clear()
        self.targets.clear()
        self.waiting.clear()


# -- changing ------------------------------------------------------------------------------------------------------


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
            _refuse(relation, value)
    else:
        _check(relation, value)
    before = known(instance, reference)
    refer(instance, reference, value)
    if before is not None and before is not value:
        _exit(before, reference, instance)
    if value is not None:
        _enter(value, reference, instance, made=True)
        _together(instance, value)


def refer(instance: Model, reference: Reference, one: Model | None) -> None:
    """Let a reference lead to an instance, or to none."""
    value = None if one is None else reference.of(one)
    setattr(instance, reference.attribute, value)
    found(instance, reference, value, one)
    _note(instance, reference.attribute, one)


def _note(instance: Model, what: Any, owner: Model | None) -> None:
    """Tell the session of a change that lists loaded from now on are to show."""
    session = instance._state.session or (None if owner is None else owner._state.session)
    if session is not None:
        session.moves.note(instance, what, owner)


def _together(instance: Model, other: Model) -> None:
    """What an instance of a session leads to comes into the session as well."""
    session = instance._state.session
    if session is not None and other._state.session is None and other._state.held is None:
        session.bring(other)


def _enter(one: Model, reference: Reference, instance: Model, *, made: bool = False) -> None:
    """Put an instance into the lists of the other side that are loaded and whole."""
    for items in _lists_by(one, reference, made=made):
        items.join(instance)


def _exit(one: Model, reference: Reference, instance: Model) -> None:
    """Take an instance out of the lists of the other side."""
    for items in _lists(one):
        if _goes_by(items.relation, reference, through=False) and items.holds(instance):
            items.touch()
            items.drop(instance)


def join_row(row: Model, *, stored: bool = False, made: bool = False) -> None:
    """Let the lists of both sides hold what a row of the model between leads to."""
    references = _references(row)
    for near in references if len(references) > 1 else ():
        owner = known(row, near)
        for items in () if owner is None else _lists_by(owner, near, through=True, made=made):
            item = known(row, items.relation.far)  # type: ignore[attr-defined]
            if item is not None:
                items.join(item, (row,), stored=stored)


def _check(relation: Relation, value: Any) -> None:
    if not isinstance(value, relation.target):
        _refuse(relation, value)


def _refuse(relation: Relation, value: Any) -> NoReturn:
    given = "None" if value is None else type(value).__name__
    raise ValidationError(
        f"expected {relation.target.__name__}, got {given}", table=relation.mapper.name, field=relation.name
    )


class RelatedItems(list[Any]):
    """The loaded list of a relation. What is put into it or taken out of it refers to its owner, or no longer does.

    `rows` are those of the model between, by the `id()` of the item they lead to, of which there may be several; `whole`
    says that nothing was left out.
    """

    __slots__ = ("_owner", "_relation", "_stored", "_stored_rows", "_there", "rows", "whole")

    def __init__(
        self,
        owner: Model,
        relation: Relation,
        items: Iterable[Model] = (),
        rows: Iterable[Model] = (),
        *,
        whole: bool = True,
    ) -> None:
        super().__init__(items)
        self._owner = owner
        self._relation = relation
        self._there = set(map(id, self))
        self.rows: dict[int, list[Model]] = {}
        if rows:
            self._pair(rows)
        self.whole = whole
        self.settle()

    @property
    def relation(self) -> Relation:
        return self._relation

    # what a session says

    def load(self, items: Iterable[Model], rows: Iterable[Model], *, whole: bool) -> None:
        """Hold these, which are stored."""
        self._fill(items)
        self._pair(rows)
        self.whole = whole
        self.settle()

    def _pair(self, rows: Iterable[Model]) -> None:
        """Hold each item once, with all rows that lead to it: one for each item as they are now."""
        self.rows = {}
        for item, row in zip(self, rows, strict=False):
            self.rows.setdefault(id(item), []).append(row)
        if len(self.rows) < len(self) and self.rows:
            self._fill({id(item): item for item in self}.values())

    def packed(self) -> tuple[list[Model], list[list[Model]], list[Model], list[list[Model]], bool]:
        """What `unpacked` makes the list of again, without its owner."""
        rows = [self.rows.get(id(item), []) for item in self]
        stored = [self._stored_rows.get(id(item), []) for item in self._stored.values()]
        return list(self), rows, list(self._stored.values()), stored, self.whole

    @classmethod
    def unpacked(cls, owner: Model, relation: Relation, packed: tuple[Any, ...]) -> RelatedItems:
        """The list of an owner that `packed` was said of."""
        items, rows, stored, stored_rows, whole = packed
        made = cls(owner, relation, items, whole=whole)
        made.rows = {id(item): some for item, some in zip(items, rows, strict=True) if some}
        made._stored = {id(item): item for item in stored}
        made._stored_rows = {id(item): some for item, some in zip(stored, stored_rows, strict=True) if some}
        return made

    def belong(self, owner: Model) -> None:
        """Be the list of another instance of the owner's document, which what is in it refers to from now on."""
        before, self._owner = self._owner, owner
        for one in (*self, *self._stored.values(), *[row for rows in self.rows.values() for row in rows]):
            for attribute, value, leads in _leads(one):
                if leads is before:
                    _held(one)[attribute, value] = owner

    def settle(self) -> None:
        """What it holds is stored."""
        self._stored: dict[int, Model] = {id(item): item for item in self}
        self._stored_rows = {key: list(rows) for key, rows in self.rows.items()}

    def restore(self) -> None:
        """Hold what is stored."""
        self._fill(self._stored.values())
        self.rows = {key: list(rows) for key, rows in self._stored_rows.items()}

    @property
    def changed(self) -> bool:
        """Whether it holds anything else than what is stored."""
        return len(self) != len(self._stored) or any(map(is_not, self, self._stored.values()))

    def _fill(self, items: Iterable[Model]) -> None:
        list.__setitem__(self, slice(None), list(items))
        self._there = set(map(id, self))

    def holds(self, item: Model) -> bool:
        """Whether this very instance is in it."""
        return id(item) in self._there

    def has_stored(self, item: Model) -> bool:
        """Whether this very instance is stored in it."""
        return id(item) in self._stored

    def join(self, item: Model, rows: Iterable[Model] = (), *, stored: bool = False) -> None:
        """Hold an instance that refers here, or that rows lead to, if nothing was left out; say nothing to it."""
        if not self.whole or not isinstance(item, self._relation.target):
            return
        mine = self.rows.setdefault(id(item), []) if rows else []
        new = [row for row in rows if not any(row is one for one in mine)]
        mine += new
        if not self.holds(item):
            if not stored:
                self.touch()
            if self._relation.sole:
                self._fill(())
            list.insert(self, self._place_of(item), item)
            self._there.add(id(item))
        if stored:
            if self._relation.sole:
                self._stored = {}
            self._stored.setdefault(id(item), item)
            if mine:
                self._stored_rows[id(item)] = list(mine)

    def _place_of(self, item: Model) -> int:
        """Where an instance joins: where it was when that was stored, else at the end."""
        if id(item) not in self._stored:
            return len(self)
        return sum(key in self._there for key in takewhile(lambda key: key != id(item), self._stored))

    def unpair(self, row: Model, *, stored: bool = False) -> None:
        """A row leads here no longer; neither does what none leads to any more."""
        for rows, is_kept in ((self.rows, False), *(((self._stored_rows, True),) if stored else ())):
            for key, some in rows.items():
                if any(one is row for one in some):
                    left = [one for one in some if one is not row]
                    rows[key] = left
                    if not left:
                        del rows[key]
                        self._remove(key, stored=is_kept)
                    break

    def _remove(self, key: int, *, stored: bool) -> None:
        if stored:
            self._stored.pop(key, None)
        elif key in self._there:
            self.touch()
            self._fill([one for one in self if id(one) != key])

    def drop(self, item: Model) -> None:
        """Take out this very instance, and say nothing to it."""
        if self.holds(item):
            self._fill([one for one in self if one is not item])

    def forget(self, item: Model) -> None:
        """This very instance is stored no longer."""
        self.drop(item)
        self.rows.pop(id(item), None)
        self._stored.pop(id(item), None)
        self._stored_rows.pop(id(item), None)

    def swap(self, item: Model, other: Model, *, stored: bool = True) -> None:
        """Hold another instance in the place of one."""
        if self.holds(item):
            self._fill([other if one is item else one for one in self if one is not other])
        if not stored:
            if id(item) in self.rows:
                self.rows[id(other)] = self.rows.pop(id(item))
            return
        if id(item) in self._stored:
            kept = [other if one is item else one for one in self._stored.values() if one is not other]
            self._stored = {id(one): one for one in kept}
        for rows in (self.rows, self._stored_rows):
            if id(item) in rows:
                rows[id(other)] = rows.pop(id(item))

    def touch(self) -> None:
        """Tell the session that the list changes."""
        session = self._owner._state.session
        if session is not None:
            session.changing(self._owner)

    # what users do

    def append(self, item: Any, /) -> None:
        """Add an instance, which refers to the owner from now on."""
        self.insert(len(self), item)

    def insert(self, place: SupportsIndex, item: Any, /) -> None:
        """Add an instance at a place."""
        _check(self._relation, item)
        if self.holds(item):
            return
        self.touch()
        self._joins(item)
        self.drop(item)
        list.insert(self, place, item)
        self._there.add(id(item))

    def remove(self, item: Any, /) -> None:
        """Take an instance out, which refers to the owner no longer. ValueError if it is not in the list."""
        if not self.holds(item):
            raise ValueError(f"{self._relation.shown} does not hold this instance")
        self.touch()
        self._leaves(item)
        self.drop(item)

    def extend(self, items: Iterable[Any], /) -> None:
        """Add instances."""
        for item in list(items):
            self.append(item)

    def pop(self, place: SupportsIndex = -1, /) -> Any:
        """Take an instance out, and answer it."""
        item = self[place]
        self.remove(item)
        return item

    def clear(self) -> None:
        """Take all instances out."""
        self[:] = ()

    def __iadd__(self, items: Iterable[Any], /) -> RelatedItems:  # type: ignore[misc]
        self.extend(items)
        return self

    def __imul__(self, times: SupportsIndex, /) -> NoReturn:
        raise TypeError("a list of related instances holds each once")

    def __delitem__(self, place: SupportsIndex | slice, /) -> None:
        gone = self[place]
        for item in gone if isinstance(place, slice) else (gone,):
            self.remove(item)

    def __setitem__(self, place: Any, value: Any, /) -> None:
        """Replace some of the instances."""
        wanted: list[Any] = list(self)
        if not isinstance(place, slice) and self.holds(value) and wanted[place] is not value:
            raise ValueError(f"{self._relation.shown} holds this instance at another place, and each once")
        wanted[place] = several(value, "instances") if isinstance(place, slice) else value
        for item in wanted:
            _check(self._relation, item)
        for item in [one for one in self if not any(one is other for other in wanted)]:
            self.remove(item)
        self.extend(wanted)
        self._fill({id(item): item for item in wanted}.values())

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    # the other side

    def _joins(self, item: Model) -> None:
        relation: Any = self._relation
        if relation.is_through:
            self._add_row(item)
        else:
            reference: Reference = relation.reference
            before = known(item, reference)
            refer(item, reference, self._owner)
            if before is not None and before is not self._owner:
                _exit(before, reference, item)
            _enter(self._owner, reference, item, made=True)
        _together(self._owner, item)
        _together(item, self._owner)

    def _add_row(self, item: Model) -> None:
        relation: Any = self._relation
        near, far = relation.near, relation.far
        rows = [row for row in self._stored_rows.get(id(item), ()) if _is_kept(row)]
        for row in rows:  # taken out and put in again
            session = row._state.session
            session.keep(row)  # type: ignore[union-attr]
            session.moves.moved.pop((id(row), relation.between), None)  # type: ignore[union-attr]
        if not rows:
            row = relation.between(**{near.attribute: near.of(self._owner), far.attribute: far.of(item)})
            refer(row, near, self._owner)
            refer(row, far, item)
            session = self._owner._state.session or item._state.session
            if session is not None:
                session.bring(row)
            rows = [row]
        self.rows[id(item)] = list(rows)
        for row in rows:
            join_row(row, made=True)

    def _leaves(self, item: Model) -> None:
        relation: Any = self._relation
        if relation.is_through:
            self._remove_rows(item)
            return
        reference: Reference = relation.reference
        if known(item, reference) is self._owner:
            value = None if reference.nullable else UNSET
            setattr(item, reference.attribute, value)
            _held(item)[reference.attribute, value] = None
            _note(item, reference.attribute, None)
            _exit(self._owner, reference, item)

    def _remove_rows(self, item: Model) -> None:
        relation: Any = self._relation
        for row in list(self.rows.get(id(item), ())):
            _unpair(row)
            session = row._state.session
            if session is not None:
                session.moves.note(row, relation.between, None)
                session.discard(row)


def _is_kept(row: Model) -> bool:
    return row._state.session is not None and not row._state.deleted


# -- leaving the process -------------------------------------------------------------------------------------------


def packed(instance: Model) -> dict[Any, Any]:
    """What is known of an instance's relations, as `unpack` takes it: what its references lead to, and its lists."""
    return {key: one.packed() if type(one) is RelatedItems else one for key, one in _peek(instance).items()}


def unpack(instance: Model, told: Mapping[Any, Any]) -> None:
    """Let an instance know of its relations what `packed` said; not the lists of a relation that is not there (yet)."""
    related = _held(instance)
    try:
        relations = instance.__mapper__.relations
    except NameError:
        relations = {}
    for key, one in told.items():
        if type(key) is tuple:
            related[key] = one
        elif key in relations:
            related[key] = RelatedItems.unpacked(instance, relations[key], one)


def lead_alike(instance: Model, other: Model) -> None:
    """Let the references of a new instance, which has the values of another, lead where that one's do."""
    leads = {key: one for key, one in _peek(other).items() if type(key) is tuple and one is not None}
    if leads:
        _held(instance).update(leads)
