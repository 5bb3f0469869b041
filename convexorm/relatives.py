"""What an instance holds of its relations: the documents its references lead to, and its lists, and how both stay in step.

An instance keeps, for each reference, the instances that it knows by what the reference may hold; so a reference that is
set back, by hand or by a rollback, leads where it led. A list knows what of it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import is_not
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, TypeAlias

import msgspec

from convexorm.errors import NoResultFound, NotLoadedError, ValidationError
from convexorm.given import several
from convexorm.references import UNSET

if TYPE_CHECKING:
    from convexorm.model import Model
    from convexorm.references import Reference
    from convexorm.relations import Relation, Through, ToMany, ToOne

__all__ = [
    "Moves",
    "RelatedItems",
    "all_found",
    "around",
    "assign",
    "found",
    "gone",
    "hold_to_references",
    "join_lists",
    "known",
    "lead_alike",
    "leave",
    "listed",
    "loaded_list",
    "packed",
    "related",
    "restore",
    "settle",
    "stay_in_step",
    "unpack",
    "unresolved",
]


Relatives: TypeAlias = "dict[str | tuple[str, Any], Any]"
"""What a reference leads to, by its attribute and what that holds, and the loaded lists by the names of their relations."""

_NONE: Relatives = {}


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
    place = reference.attribute, _value(instance, reference)
    leads = _peek(instance)
    if place not in leads:
        if place[1] is None and relation.nullable:
            return None  # which needs no looking
        raise NotLoadedError(relation.shown)
    one: Model | None = leads[place]
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
    """The list of a relation, that of a new instance being empty at first; None where it was not loaded."""
    items: RelatedItems | None = _peek(instance).get(relation.name)
    if items is None and instance._state.held is None and not instance._state.deleted:
        items = _held(instance)[relation.name] = RelatedItems(instance, relation)
    return items


def _value(instance: Model, reference: Reference) -> Any:
    return getattr(instance, reference.attribute, UNSET)


def known(instance: Model, reference: Reference) -> Model | None:
    """The instance that a reference leads to, if that is known here or to the session."""
    value = _value(instance, reference)
    one: Model | None = _peek(instance).get((reference.attribute, value))
    if one is None and value is not None and value is not UNSET and instance._state.session is not None:
        one = instance._state.session.known(reference, value)
    return one


# -- what a session says -------------------------------------------------------------------------------------------


def found(instance: Model, reference: Reference, value: Any, one: Model | None) -> None:
    """What a reference leads to while it holds this value."""
    _held(instance)[reference.attribute, value] = one


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


def restore(instance: Model) -> None:
    """The lists hold what is stored."""
    for items in _lists(instance):
        items.restore()


def join_lists(instance: Model) -> None:
    """Join the loaded lists that a new instance belongs to."""
    for relation in _to_one(instance):
        one = known(instance, relation.reference)
        if one is not None:
            found(instance, relation.reference, _value(instance, relation.reference), one)
            _enter(one, relation.inverse, instance, new=False)
            _note(instance, relation.reference.attribute, one)


def _to_one(instance: Model) -> list[ToOne]:
    """The relations of an instance to one document each; none while a class that they speak of is not there."""
    mapper = instance.__mapper__
    if not mapper.relationships:
        return []
    try:
        relations = mapper.relations
    except NameError:
        return []
    return [one for one in relations.values() if not one.many]  # type: ignore[misc]


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


def leave(instance: Model) -> None:
    """An instance was deleted: it is in no list any longer."""
    for relation in _to_one(instance):
        one = known(instance, relation.reference)
        if one is not None:
            _exit(one, relation.inverse, instance)
    for items in _lists(instance):
        inverse = items.relation.inverse if items.relation.is_through else None
        for item in items:
            _exit(item, inverse, instance)


def gone(instance: Model) -> None:
    """The document of an instance was deleted: it is in no list any longer, whatever is rolled back."""
    for relation in _to_one(instance):
        attribute = relation.reference.attribute
        for one in (known(instance, relation.reference), *(one for name, _, one in _leads(instance) if name == attribute)):
            if one is not None:
                _forget(one, relation.inverse, instance)
    for items in _lists(instance):
        inverse = items.relation.inverse if items.relation.is_through else None
        for item in items if inverse is not None else ():
            _forget(item, inverse, instance)


def _forget(one: Model, relation: Relation | None, instance: Model) -> None:
    items = None if relation is None else _peek(one).get(relation.name)
    if items is not None:
        items.forget(instance)


def hold_to_references(instance: Model) -> None:
    """Let the lists hold an instance that its references mean now that they are stored, whichever way these were set."""
    session = instance._state.session
    if session is None:
        return
    for relation in _to_one(instance):
        reference = relation.reference
        value = _value(instance, reference)
        leads = {held: one for attribute, held, one in _leads(instance) if attribute == reference.attribute}
        one = known(instance, reference)
        others = [other for other in leads.values() if other is not None and other is not one]
        for other in others:
            _forget(other, relation.inverse, instance)
        if one is not None and (others or value not in leads or session.moves.has(instance, reference.attribute)):
            found(instance, reference, value, one)
            _enter(one, relation.inverse, instance, new=False)
            settle(one)


def stay_in_step(relation: ToMany | Through, owners: Iterable[Model], moves: Moves) -> None:
    """Let lists that were loaded just now say what was put into them, or taken out, and is not stored yet."""
    what: Any = relation.between if relation.is_through else relation.reference.attribute  # type: ignore[union-attr]
    for owner in owners if moves else ():
        items: RelatedItems | None = _peek(owner).get(relation.name)
        if items is None:
            continue
        for item in [one for one in items if moves.has(one, what) and _has_left(one, relation, owner)]:
            items.touch()
            items.drop(item)
            items.rows.pop(id(item), None)
        for item in moves.to(owner, what):
            if isinstance(item, relation.target) and _has_joined(item, relation, owner):
                _enter(owner, relation, item, new=False)
                if relation.is_through and relation.inverse is not None and items.holds(item):
                    items.rows[id(item)] = _peek(item)[relation.inverse.name].rows.get(id(owner), [])


def _has_left(item: Model, relation: Any, owner: Model) -> bool:
    if not relation.is_through:
        return known(item, relation.reference) is not owner
    theirs = None if relation.inverse is None else _peek(item).get(relation.inverse.name)
    return theirs is not None and theirs.has_lost(owner)


def _has_joined(item: Model, relation: Any, owner: Model) -> bool:
    if not relation.is_through:
        return known(item, relation.reference) is owner
    theirs = None if relation.inverse is None else _peek(item).get(relation.inverse.name)
    return theirs is not None and theirs.holds(owner)


class Moves(msgspec.Struct, eq=False):
    """What was put into lists, or taken out of them, since the last commit of a session: which instance, by what (the
    attribute that refers, or the model between), and into whose list.
    """

    moved: dict[tuple[int, Any], Model] = {}
    targets: dict[tuple[int, Any], tuple[Model, list[Model]]] = {}

    def __bool__(self) -> bool:
        return bool(self.moved)

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

    def clear(self) -> None:
        """All of it is stored, or undone."""
        if self.moved:
            self.moved.clear()
            self.targets.clear()


# -- changing ------------------------------------------------------------------------------------------------------


def assign(instance: Model, relation: Relation, value: Any) -> None:
    """Set a relation, and what it says of the other side."""
    if relation.many:
        items = _list(instance, relation)  # type: ignore[arg-type]
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
        _exit(before, relation.inverse, instance)
    if value is not None:
        _enter(value, relation.inverse, instance, new=True)
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


def _enter(one: Model, inverse: Relation | None, instance: Model, *, new: bool) -> None:
    """Put an instance into the list of the other side, if that is loaded and whole."""
    if inverse is None or not inverse.many:
        return
    items = loaded_list(one, inverse) if new else _peek(one).get(inverse.name)
    if items is not None and items.whole and not items.holds(instance):
        items.touch()
        if inverse.sole:
            items.clear_away()
        list.append(items, instance)


def _exit(one: Model, inverse: Relation | None, instance: Model) -> None:
    """Take an instance out of the list of the other side."""
    items = None if inverse is None else _peek(one).get(inverse.name)
    if items is not None and items.holds(instance):
        items.touch()
        items.drop(instance)


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

    __slots__ = ("_owner", "_relation", "_stored", "_stored_rows", "rows", "whole")

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
        self.rows: dict[int, list[Model]] = {}
        if rows:
            self._pair(rows)
        self._stored: tuple[Model, ...] = tuple(self)
        self._stored_rows = dict(self.rows)
        self.whole = whole

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
        stored = [self._stored_rows.get(id(item), []) for item in self._stored]
        return list(self), rows, list(self._stored), stored, self.whole

    @classmethod
    def unpacked(cls, owner: Model, relation: Relation, packed: tuple[Any, ...]) -> RelatedItems:
        """The list of an owner that `packed` was said of."""
        items, rows, stored, stored_rows, whole = packed
        made = cls(owner, relation, items, whole=whole)
        made.rows = {id(item): some for item, some in zip(items, rows, strict=True) if some}
        made._stored = tuple(stored)
        made._stored_rows = {id(item): some for item, some in zip(stored, stored_rows, strict=True) if some}
        return made

    def settle(self) -> None:
        """What it holds is stored."""
        self._stored = tuple(self)
        self._stored_rows = dict(self.rows)

    def restore(self) -> None:
        """Hold what is stored."""
        self._fill(self._stored)
        self.rows = dict(self._stored_rows)

    @property
    def changed(self) -> bool:
        """Whether it holds anything else than what is stored."""
        return len(self) != len(self._stored) or any(map(is_not, self, self._stored))

    def _fill(self, items: Iterable[Model]) -> None:
        list.__setitem__(self, slice(None), list(items))

    def holds(self, item: Model) -> bool:
        """Whether this very instance is in it."""
        return any(one is item for one in self)

    def clear_away(self) -> None:
        """Hold nothing, and say nothing to what it held."""
        self._fill(())

    def drop(self, item: Model) -> None:
        """Take out this very instance, and say nothing to it."""
        self._fill(one for one in self if one is not item)

    def forget(self, item: Model) -> None:
        """This very instance is stored no longer."""
        if self.holds(item) or self.has_lost(item):
            self.drop(item)
            self.rows.pop(id(item), None)
            self._stored = tuple(one for one in self._stored if one is not item)
            self._stored_rows.pop(id(item), None)

    def has_lost(self, item: Model) -> bool:
        """Whether this very instance was taken out, and that is not stored."""
        return not self.holds(item) and any(one is item for one in self._stored)

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
        if not self.holds(item):
            list.insert(self, place, item)

    def remove(self, item: Any, /) -> None:
        """Take an instance out, which refers to the owner no longer. ValueError if it is not in the list."""
        if not self.holds(item):
            raise ValueError(f"{self._relation.shown} does not hold this instance")
        self.touch()
        self.drop(item)
        self._leaves(item)

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
                _exit(before, relation, item)
            _together(self._owner, item)
            _together(item, self._owner)

    def _add_row(self, item: Model) -> None:
        relation: Any = self._relation
        near, far = relation.near, relation.far
        rows = [row for row in self._stored_rows.get(id(item), ()) if _is_kept(row)]
        session = self._owner._state.session or item._state.session
        for row in rows:  # taken out and put in again
            row._state.session.keep(row)  # type: ignore[union-attr]
        if not rows:
            row = relation.between(**{near.attribute: near.of(self._owner), far.attribute: far.of(item)})
            refer(row, near, self._owner)
            refer(row, far, item)
            if session is not None:
                session.bring(row)
            rows = [row]
        self.rows[id(item)] = rows
        _note(item, relation.between, self._owner)
        _note(self._owner, relation.between, item)
        inverse = relation.inverse
        theirs = None if inverse is None else loaded_list(item, inverse)
        if theirs is not None and not theirs.holds(self._owner):
            theirs.touch()
            list.append(theirs, self._owner)
            theirs.rows[id(self._owner)] = rows
        _together(self._owner, item)
        _together(item, self._owner)

    def _leaves(self, item: Model) -> None:
        relation: Any = self._relation
        if relation.is_through:
            self._remove_row(item)
            return
        reference: Reference = relation.reference
        if known(item, reference) is self._owner:
            value = None if reference.nullable else UNSET
            setattr(item, reference.attribute, value)
            _held(item)[reference.attribute, value] = None
            _note(item, reference.attribute, None)

    def _remove_row(self, item: Model) -> None:
        relation: Any = self._relation
        rows = self.rows.pop(id(item), [])
        _note(item, relation.between, None)
        _note(self._owner, relation.between, None)
        inverse = relation.inverse
        if inverse is not None:
            _exit(item, inverse, self._owner)
            theirs = _peek(item).get(inverse.name)
            if theirs is not None:
                rows = theirs.rows.pop(id(self._owner), None) or rows
        for row in rows:
            if row._state.session is not None:
                row._state.session.discard(row)


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
