"""`Instances`: a session's instances of one model by `_id` and primary key, each for as long as somebody else keeps it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING
from weakref import ref

import msgspec

from convexorm.values import MISSING, Missing, Value, canonical

if TYPE_CHECKING:
    from convexorm.mapping.model import Model
    from convexorm.requests import Document

__all__ = ["Identity", "Instances", "identity_of", "key_of"]

Identity = str | bytes
"""A primary key as a dictionary takes it: two are equal if the keys are the same."""

_SWEEP_FROM = 1_000


def identity_of(key: Sequence[Value | Missing]) -> Identity:
    """The identity of a primary key, given field by field."""
    if len(key) == 1 and type(key[0]) is str:
        return key[0]
    return b"".join(map(canonical, key))


def key_of(model: type[Model], document: Document) -> list[Value | Missing]:
    """A document's primary key, field by field; its `_id` for a model without one."""
    get = document.get
    return [get(field, MISSING) for field in model.__mapper__.key_fields]


class Instances(msgspec.Struct, eq=False):
    """A weak mapping without callbacks: what has died is swept out when the mapping has doubled since the last sweep.

    Loading many documents is mostly entering them here, and this takes a third of what a WeakValueDictionary does.
    `refs` is open to the session for that; whoever adds to it calls `loaded` afterwards, and `make_room` before if it adds
    many. Who is known by which primary key is found out when it is first asked for, and kept from then on.
    """

    _model: type[Model]
    refs: dict[str, ref[Model]] = {}
    _ids: dict[Identity, str] | None = None
    _sweep_at: int = _SWEEP_FROM
    _by: dict[tuple[str, ...], dict[Identity, set[str]]] = {}
    """The ids by what some fields hold, for all those that were asked for together."""

    def get(self, id: str) -> Model | None:
        """The instance with this `_id`, if somebody still keeps it."""
        held = self.refs.get(id)
        return None if held is None else held()

    def lacks(self, ids: Sequence[str]) -> bool:
        """Whether none of these is known, and none is there twice."""
        return self.refs.keys().isdisjoint(ids) and len(set(ids)) == len(ids)

    def by_key(self, identity: Identity) -> Model | None:
        """The instance whose document has this primary key, if somebody still keeps it."""
        if self._ids is None:
            self._ids = {}
            self.loaded(list(self))
        id_ = self._ids.get(identity)
        found = None if id_ is None else self.get(id_)
        return found if found is not None and self._identity(found) == identity else None

    def holding(self, fields: tuple[str, ...], identity: Identity) -> list[Model]:
        """The instances whose documents hold this in some fields, of those that somebody still keeps."""
        if fields not in self._by:
            self._by[fields] = {}
            for instance in self:
                self._enter(instance, fields)
        found = [self.get(id_) for id_ in self._by[fields].get(identity, ())]
        return [one for one in found if one is not None and _held_in(one, fields) == identity]

    def _enter(self, instance: Model, fields: tuple[str, ...]) -> None:
        identity, id_ = _held_in(instance, fields), instance._state.known_id
        if identity is not None and isinstance(id_, str):
            self._by[fields].setdefault(identity, set()).add(id_)

    def put(self, id: str, instance: Model) -> None:
        """Enter an instance, in place of one with its `_id`."""
        self.refs[id] = ref(instance)
        if self._ids is not None or self._by or len(self.refs) > self._sweep_at:
            self.loaded((instance,))

    def discard(self, id: str) -> None:
        """Forget the instance with this `_id`, if there is one."""
        self.refs.pop(id, None)

    def make_room(self, number: int) -> None:
        """So many are about to be entered: a sweep that they make due is done now, and so looks at none of them."""
        if len(self.refs) + number > self._sweep_at:
            self._sweep(number)

    def loaded(self, instances: Collection[Model]) -> None:
        """These were entered, or their documents have other primary keys now."""
        if self._ids is not None:
            for instance in instances:
                if (document := instance._state.document) is not None:
                    self._ids[identity_of(key_of(self._model, document))] = document["_id"]
        if self._by:
            for instance in instances:
                for fields in self._by:
                    self._enter(instance, fields)
        if len(self.refs) > self._sweep_at:
            self._sweep()

    def any(self) -> bool:
        """Whether somebody keeps any of them."""
        return any(held() is not None for held in self.refs.values())

    def __iter__(self) -> Iterator[Model]:
        for held in list(self.refs.values()):
            instance = held()
            if instance is not None:
                yield instance

    def _identity(self, instance: Model) -> Identity | None:
        document = instance._state.document
        return None if document is None else identity_of(key_of(self._model, document))

    def _sweep(self, coming: int = 0) -> None:
        """Forget what has died, before so many more come."""
        self.refs = {id: held for id, held in self.refs.items() if held() is not None}
        if self._ids is not None:
            self._ids = {identity: id for identity, id in self._ids.items() if id in self.refs}
        self._by = {}
        self._sweep_at = max(_SWEEP_FROM, 2 * (len(self.refs) + coming))


def _held_in(instance: Model, fields: Sequence[str]) -> Identity | None:
    """What an instance's document holds in some fields, None where it lacks all of them."""
    held = instance._state.held
    key = [] if held is None else [held.get(field, MISSING) for field in fields]
    return None if all(value is MISSING for value in key) else identity_of(key)
