"""`RelatedItems`: a loaded list of a relation, which knows what of it is stored and sets references as it is changed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from operator import is_not
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex
from weakref import ref

from convexorm.errors import ValidationError
from convexorm.given import several
from convexorm.mapping.references import UNSET
from convexorm.relatives.leads import (
    HOLDERS,
    found,
    is_new,
    known,
    leads_of,
    note,
    peek,
    references_of,
    relations_of,
    relatives_of,
)

if TYPE_CHECKING:
    from convexorm.mapping.model import Model
    from convexorm.mapping.references import Reference
    from convexorm.mapping.relations import Relation

__all__ = [
    "RelatedItems",
    "check_item",
    "fill_in",
    "goes_by",
    "holders_of",
    "join_row",
    "lists_by",
    "lists_of",
    "loaded_list",
    "put_in",
    "refer",
    "refuse_item",
    "shown_for",
    "take_out",
    "together",
    "unpair_row",
]


def holders_of(instance: Model) -> list[Model]:
    """The instances that may hold one in lists that go through another model."""
    holders = peek(instance).get(HOLDERS, {})
    found = {key: held() for key, held in holders.items()}
    for key in [key for key, one in found.items() if one is None]:
        del holders[key]
    return [one for one in found.values() if one is not None]


def lists_of(instance: Model) -> list[RelatedItems]:
    return [one for one in peek(instance).values() if type(one) is RelatedItems]


def loaded_list(instance: Model, relation: Relation) -> RelatedItems | None:
    """The list of a relation; None where it was not loaded. That of a new instance holds at first what of its session
    refers to it.
    """
    items: RelatedItems | None = peek(instance).get(relation.name)
    if items is None and is_new(instance):
        items = relatives_of(instance)[relation.name] = RelatedItems(instance, relation)
        fill_in(instance, items)
    return items


def lists_by(owner: Model, reference: Reference, *, through: bool = False, made: bool = False) -> list[RelatedItems]:
    """The loaded lists of an owner that hold what refers to it by this reference, or what such rows lead to. Those of a new
    owner can be `made` for that.
    """
    if made and is_new(owner):
        for relation in relations_of(owner):
            if goes_by(relation, reference, through=through):
                loaded_list(owner, relation)
    return [one for one in lists_of(owner) if goes_by(one.relation, reference, through=through)]


def goes_by(relation: Any, reference: Reference, *, through: bool) -> bool:
    if not relation.many or relation.is_through != through:
        return False
    return reference.is_same(relation.near if through else relation.reference)


def fill_in(owner: Model, items: RelatedItems) -> None:
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


def unpair_row(row: Model) -> None:
    """A row is to be no longer: the lists of both sides hold nothing for it."""
    for reference in references_of(row):
        one = known(row, reference)
        for items in () if one is None else lists_by(one, reference, through=True):
            items.unpair(row)


def refer(instance: Model, reference: Reference, one: Model | None) -> None:
    """Let a reference lead to an instance, or to none."""
    value = None if one is None else reference.of(one)
    setattr(instance, reference.attribute, value)
    found(instance, reference, value, one)
    note(instance, reference.attribute, one)


def together(instance: Model, other: Model) -> None:
    """What an instance of a session leads to comes into the session as well."""
    session = instance._state.session
    if session is not None and other._state.session is None and other._state.held is None:
        session.bring(other)


def put_in(one: Model, reference: Reference, instance: Model, *, made: bool = False) -> None:
    """Put an instance into the lists of the other side that are loaded and whole."""
    for items in lists_by(one, reference, made=made):
        items.join(instance)


def take_out(one: Model, reference: Reference, instance: Model) -> None:
    """Take an instance out of the lists of the other side."""
    for items in lists_of(one):
        if goes_by(items.relation, reference, through=False) and items.holds(instance):
            items.touch()
            items.drop(instance)


def join_row(row: Model, *, stored: bool = False, made: bool = False) -> None:
    """Let the lists of both sides hold what a row of the model between leads to."""
    references = references_of(row)
    for near in references if len(references) > 1 else ():
        owner = known(row, near)
        for items in () if owner is None else lists_by(owner, near, through=True, made=made):
            item = shown_for(known(row, items.relation.far))  # type: ignore[attr-defined]
            if item is not None:
                items.join(item, (row,), stored=stored and not is_new(item))


def shown_for(instance: Model | None) -> Model | None:
    """What lists show of an instance: that which was upserted to replace it, if there is one."""
    if instance is None or is_new(instance) or instance._state.session is None:
        return instance
    return instance._state.session.replacement(instance) or instance


def check_item(relation: Relation, value: Any) -> None:
    if not isinstance(value, relation.target):
        refuse_item(relation, value)


def refuse_item(relation: Relation, value: Any) -> NoReturn:
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
        self.tell(self)
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
        self.tell()
        for one in (*self, *self._stored.values(), *[row for rows in self.rows.values() for row in rows]):
            for attribute, value, leads in leads_of(one):
                if leads is before:
                    relatives_of(one)[attribute, value] = owner

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
        self.tell(self)

    def tell(self, items: Iterable[Model] | None = None) -> None:
        """Let instances know who may hold them from now on, where their references do not say it; all of the list's without
        `items`. Those that are not made yet, as a pickle is read, are told when the owner comes into a session.
        """
        if self._relation.is_through:
            owner = ref(self._owner)
            for item in (*self, *self._stored.values()) if items is None else items:
                if "_state" in vars(item):
                    relatives_of(item).setdefault(HOLDERS, {})[id(self._owner)] = owner

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
        if not stored and (new or not self.holds(item)):
            self.touch()
        if not self.holds(item):
            if self._relation.sole:
                self._fill(())
            list.insert(self, self._place_of(item), item)
            self._there.add(id(item))
            self.tell((item,))
        if stored:
            if self._relation.sole:
                self._stored = {}
            self._stored.setdefault(id(item), item)
            if rows:
                kept = self._stored_rows.setdefault(id(item), [])
                kept += [row for row in rows if not any(row is one for one in kept)]

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
                    if not stored:
                        self.touch()
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
            self._take(key)

    def drop(self, item: Model) -> None:
        """Take out this very instance, and say nothing to it. In place of the sole one there is what still refers here."""
        if self.holds(item):
            self._take(id(item))
            if self._relation.sole:
                reference: Reference = self._relation.reference  # type: ignore[attr-defined]
                left = [one for one in self._stored.values() if one is not item and not one._state.deleted]
                self._fill(one for one in left if known(one, reference) is self._owner)

    def _take(self, key: int) -> None:
        last = len(self) - 1
        place = last if id(self[last]) == key else next(place for place, one in enumerate(self) if id(one) == key)
        list.__delitem__(self, place)
        self._there.discard(key)

    def forget(self, item: Model) -> None:
        """This very instance is stored no longer."""
        self.drop(item)
        self.rows.pop(id(item), None)
        self._stored.pop(id(item), None)
        self._stored_rows.pop(id(item), None)

    def swap(self, item: Model, other: Model, *, stored: bool = True) -> None:
        """Hold another instance in the place of one."""
        self.tell((other,))
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
        check_item(self._relation, item)
        if self.holds(item):
            return
        self.touch()
        self._joins(item)
        self.drop(item)
        list.insert(self, place, item)
        self._there.add(id(item))
        self.tell((item,))

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
            check_item(self._relation, item)
        kept = set(map(id, wanted))
        for item in [one for one in self if id(one) not in kept]:
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
                take_out(before, reference, item)
            put_in(self._owner, reference, item, made=True)
        together(self._owner, item)
        together(item, self._owner)

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
            relatives_of(item)[reference.attribute, value] = None
            note(item, reference.attribute, None)
            take_out(self._owner, reference, item)

    def _remove_rows(self, item: Model) -> None:
        relation: Any = self._relation
        for row in list(self.rows.get(id(item), ())):
            unpair_row(row)
            session = row._state.session
            if session is not None:
                session.moves.note(row, relation.between, None)
                session.discard(row)


def _is_kept(row: Model) -> bool:
    return row._state.session is not None and not row._state.deleted
