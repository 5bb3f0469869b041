"""How loaded lists stay in step with references: by what a session adds, deletes, replaces, stores and takes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from convexorm.mapping.references import UNSET
from convexorm.relatives.leads import (
    SUCCESSOR,
    found,
    held_value,
    is_new,
    known,
    leads_of,
    led,
    led_before,
    note,
    owners,
    peek,
    references_of,
    relatives_of,
    value_of,
)
from convexorm.relatives.lists import (
    RelatedItems,
    fill_in,
    goes_by,
    join_row,
    lists_by,
    lists_of,
    put_in,
    shown_for,
    take_out,
    unpair_row,
)
from convexorm.relatives.moves import Moves

if TYPE_CHECKING:
    from convexorm.mapping.model import Model
    from convexorm.mapping.references import Reference
    from convexorm.mapping.relations import Relation, Through, ToMany

__all__ = [
    "around",
    "exchange",
    "found_stored",
    "gone",
    "hold_to_references",
    "join_lists",
    "leave",
    "leave_rows",
    "listed",
    "lists_changed",
    "not_whole",
    "replaced",
    "restore",
    "settle",
    "stand_for",
    "stay_in_step",
    "strangers",
    "tell_items",
    "undo",
]


def strangers(instance: Model) -> Iterator[tuple[Relation, Model]]:
    """What was put into lists and is not in the session of their owner, which stores nothing of it; with the relations."""
    session = instance._state.session
    for items in lists_of(instance) if session is not None else ():
        for item in () if items.relation.is_through else items:
            if item._state.session is not session and not items.has_stored(item):
                yield items.relation, item


def tell_items(instance: Model) -> None:
    """What the lists of an instance hold knows it, now that it has come into a session."""
    for items in lists_of(instance):
        items.tell()


def exchange(owner: Model, item: Model, other: Model) -> None:
    """The lists of an owner hold another instance of an item's document."""
    for items in lists_of(owner):
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


def found_stored(instance: Model, reference: Reference, value: Any, one: Model | None) -> None:
    """What a reference leads to while it holds this value, as it is stored; lists of the other side hold the instance."""
    found(instance, reference, value, one)
    if one is not None and one._state.related and held_value(instance, reference) == value == value_of(instance, reference):
        for items in lists_of(one):
            if (
                goes_by(items.relation, reference, through=False)
                and not items.holds(instance)
                and shown_for(instance) is instance
            ):
                items.join(instance, stored=True)


def listed(instance: Model, relation: Relation, items: Iterable[Model], rows: Iterable[Model], *, whole: bool) -> None:
    """What a relation leads to, with the rows between where there are. A list that was changed stays as it is."""
    lists = relatives_of(instance)
    held = lists.get(relation.name)
    if held is None:
        lists[relation.name] = RelatedItems(instance, relation, items, rows, whole=whole)
    elif not held.changed:
        held.load(items, rows, whole=whole)


def settle(instance: Model) -> None:
    """What the lists hold is stored."""
    if not instance._state.related:
        return
    for items in lists_of(instance):
        items.settle()


def lists_changed(instance: Model) -> bool:
    """Whether lists hold anything else than what is stored."""
    return any(items.changed for items in lists_of(instance))


def restore(instance: Model) -> None:
    """The lists hold what is stored."""
    for items in lists_of(instance):
        items.restore()


def join_lists(instance: Model) -> None:
    """Join the loaded lists that a new instance belongs to, and be where those lead that have referred to it before."""
    session = instance._state.session
    if session is None:
        return
    moves = session.moves
    for reference in references_of(instance):
        value = value_of(instance, reference)
        moves.wait(instance, reference, value)
        if value is None or value is UNSET:
            continue
        one = led(instance, reference, value)
        if one is not None:
            found(instance, reference, value, one)
            put_in(one, reference, instance)
            note(instance, reference.attribute, one)
    join_row(instance)
    key = instance.primary_key if len(instance.__mapper__.key) == 1 else UNSET
    for other, reference in moves.waiting_for(instance, key):
        if other._state.session is session and value_of(other, reference) == key:
            found(other, reference, key, instance)
    for items in lists_of(instance):
        items.tell()
        fill_in(instance, items)


def around(instance: Model) -> Iterator[Model]:
    """The instances that this one's references and lists lead to, and the rows between."""
    for attribute, value, one in leads_of(instance):
        if one is not None and getattr(instance, attribute, UNSET) == value:
            yield one
    for items in lists_of(instance):
        yield from list(items)
        yield from [row for rows in items.rows.values() for row in rows]


def leave(instance: Model, others: Iterable[Model] = ()) -> None:
    """An instance is to be in no list any longer; `others` may hold it through rows of a model between.

    Rows that are new, and lead to it, are to be no longer either.
    """
    for reference in references_of(instance):
        for one in owners(instance, reference):
            take_out(one, reference, instance)
            for items in lists_by(one, reference, through=True):
                items.unpair(instance)
    leave_rows(instance, others)


def leave_rows(instance: Model, others: Iterable[Model] = ()) -> None:
    """New rows of a model between, which lead to an instance that is to be no longer, are to be no longer either."""
    rows: list[Model] = []
    for items in lists_of(instance):
        rows += [row for some in items.rows.values() for row in some]
    for owner in others:
        for items in lists_of(owner):
            rows += items.rows.get(id(instance), ()) if items.relation.is_through else ()
    for row in [one for one in rows if one._state.held is None]:
        unpair_row(row)
        session = row._state.session
        if session is not None:
            session.discard(row)


def gone(instance: Model, others: Iterable[Model] = ()) -> None:
    """The document of an instance was deleted: it is in no list any longer, whatever is rolled back; `others` may hold it
    through rows of a model between.
    """
    for reference in references_of(instance):
        for one in owners(instance, reference):
            _forget(one, reference, instance)
    for owner in others:
        for items in lists_of(owner):
            if items.relation.is_through:
                items.forget(instance)


def _forget(one: Model, reference: Reference, instance: Model, *, through: bool | None = None) -> None:
    """An instance that has referred to another does so no longer, and that is stored."""
    for items in lists_of(one):
        if through is not True and goes_by(items.relation, reference, through=False):
            items.forget(instance)
        elif goes_by(items.relation, reference, through=True):
            items.unpair(instance, stored=True)


def replaced(instance: Model, other: Model, others: Iterable[Model]) -> None:
    """An instance has become the document that another one was: it takes its place in all lists, and has its lists."""
    for owner in others:
        for items in lists_of(owner):
            items.swap(other, instance)
    for reference in references_of(other):
        now = known(instance, reference)
        for one in owners(other, reference):
            for items in lists_of(one):
                items.swap(other, instance)
            if one is not now:
                _forget(one, reference, instance)
    added = {items.relation.name: items for items in lists_of(instance)}
    not_whole(instance)
    for items in lists_of(other):
        name = items.relation.name
        if name in instance.__mapper__.relationships:
            items.belong(instance)
            relatives_of(instance)[name] = items
            for item in added.get(name, ()):
                items.join(item, added[name].rows.get(id(item), ()))
            _hold_only(items, instance)
    not_whole(other)
    relatives_of(other)[SUCCESSOR] = instance
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
    holding = {id(one): one for one in (*others, *(known(other, one) for one in references_of(other))) if one is not None}
    for owner in holding.values():
        for items in lists_of(owner):
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
    for items in lists_of(instance):
        del relatives_of(instance)[items.relation.name]


def hold_to_references(instance: Model) -> None:
    """Let the lists hold an instance that its references mean now that they are stored, whichever way these were set."""
    if instance._state.session is None:
        return
    moved = False
    for reference in references_of(instance):
        one = known(instance, reference)
        for other in led_before(instance, reference):
            if other is not one:
                _forget(other, reference, instance)
                moved = True
        if one is None:
            continue
        found(instance, reference, value_of(instance, reference), one)
        for items in lists_of(one):
            if goes_by(items.relation, reference, through=False) and shown_for(instance) is instance:
                items.join(instance, stored=True)
    if moved:  # a row that leads to another instance than before
        for reference in references_of(instance):
            one = known(instance, reference)
            if one is not None:
                _forget(one, reference, instance, through=True)
    join_row(instance, stored=True)


def stay_in_step(relation: ToMany | Through, owners: Iterable[Model], moves: Moves) -> None:
    """Let lists that were loaded just now say what was put into them, or taken out, and is not stored yet."""
    for owner in owners if moves else ():
        items: RelatedItems | None = peek(owner).get(relation.name)
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
    added = [one for one, by in moves.waiting_for(owner, reference.of(owner)) if by.is_same(reference) and is_new(one)]
    value, session = reference.of(owner), owner._state.session
    here = [one for one in added if one._state.session is session and value_of(one, reference) == value]
    for one in here:
        found(one, reference, value, owner)
    return here
