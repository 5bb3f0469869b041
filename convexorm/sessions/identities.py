"""`IdentityMap`: a session's one instance of each document, and which of these may differ from their documents.

Documents become instances here: the one the session holds already, as it is, or a new one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, TypeVar
from weakref import WeakValueDictionary, ref

import msgspec

from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.mapping.expressions import Column
from convexorm.mapping.hooks import call_hook
from convexorm.mapping.model import InstanceState, Model, Watcher, named, set_state, state_of
from convexorm.mapping.records import Record
from convexorm.mapping.references import Reference
from convexorm.mapping.relations import Relation
from convexorm.relatives import gone, hold_to_references, lists_changed, refers_otherwise, replaced, restore, tell_items
from convexorm.requests import Document, Gone
from convexorm.requests.rows import Row, Rows
from convexorm.sessions.changes import changed_fields, holds_mutable
from convexorm.sessions.compiler import root_of
from convexorm.sessions.instances import Identity, Instances
from convexorm.values import MISSING

__all__ = ["IdentityMap", "is_of"]

M = TypeVar("M", bound=Model)


class IdentityMap(Watcher):
    """The instances of one session. `touched` are those touched since the last commit, by id."""

    of_models: dict[type[Model], Instances]
    """The instances of each model of which any was looked for."""
    touched: dict[int, Model]
    lost: dict[int, Model]
    """Those whose documents are gone, and about which something is pending."""
    _watched: WeakValueDictionary[int, Model] | None = None  # by id: a model may have an __eq__

    @abstractmethod
    def through(self, instance: Model) -> Iterator[Model]:
        """The instances of the session that may have an instance in lists that go through another model."""

    @abstractmethod
    def waiting(self, reference: Reference, value: object) -> Model | None:
        """The new instance that a reference of this value leads to once it is stored, if there is one."""

    @abstractmethod
    def fate(self, reference: Reference, value: object) -> str | None:
        """What the next commit does to the document that a reference of this value leads to, so that it leads nowhere."""

    @abstractmethod
    def make_way(self, relation: Relation, owners: Iterable[Model]) -> None:
        """What is loaded in lists of a relation is not shown beside what was upserted to replace it."""

    @abstractmethod
    def told(self, gone: Iterable[Gone], *, surely: bool = False) -> None:
        """Deletions have done this to documents, of which some may have instances here. Unless nothing can be pending about
        these (`surely`), what is to be written to a document that is gone stays, for the commit to say so.
        """

    @abstractmethod
    def tables(self) -> set[str]:
        """The tables of which somebody keeps instances, by the names they have for the session."""

    @abstractmethod
    def found_gone(self, instance: Model) -> None:
        """The document of an instance was asked for, and is not there."""

    def __contains__(self, instance: Model) -> bool:
        return instance._state.session is self

    def __iter__(self) -> Iterator[Model]:
        for instances in list(self.of_models.values()):
            yield from instances

    # -- one instance of each document -----------------------------------------------------------------------------

    def load(self, model: type[M], documents: Sequence[Document]) -> list[M]:
        """The instances of documents: the ones the session holds already, unchanged, or new ones."""
        mapper = model.__mapper__
        if type(documents) is Rows and (decode := mapper.decode) is not None and documents.parsed is None:
            rows = documents.rows
            if len(rows) == 1:
                return [self._load_row(model, self._of(model), documents, rows[0], decode)]
            return self._load_rows(model, documents, decode)
        polymorphic = mapper.polymorphic
        instances = self._of(mapper.root.model)
        refs = instances.refs
        if mapper.decode is not None:
            ids: list[Any] = [document["_id"] for document in documents]
            if instances.lacks(ids):
                return self._enter(model, instances, ids, map(InstanceState, documents, repeat(self)))
        known = refs.get
        create = mapper.create
        loaded: list[Any] = []
        told: list[Model] | None = [] if mapper.watches_loads else None
        for document in documents:
            id_ = document["_id"]
            held = known(id_)
            instance: Any = None if held is None else held()
            turned = instance is not None and polymorphic and self._turned(instance, document)
            if turned and not changed_fields(instance):
                self.let_go(instance)
                instance = None
            if instance is None:
                kind = mapper.class_of(document) if polymorphic else model
                instance = kind.__mapper__.create(kind) if polymorphic else create(kind)
                set_state(instance, InstanceState(document, self))
                refs[id_] = ref(instance)
            elif not instance._state.looked_at:  # so the newer document may stand in
                self._stand_in(instance, document)
            elif instance._state.doubtful and not turned:
                self.renew(instance, document)
            if told is not None and not instance._state.looked_at:
                told.append(instance)
            loaded.append(instance)
        instances.loaded(loaded)
        for instance in told or ():
            call_hook("after_load", instance)
        return loaded

    def _load_rows(self, model: type[M], rows: Rows, decode: Callable[[str], Record]) -> list[M]:
        """The same of rows, none of which anybody has looked at."""
        instances = self._of(model)
        try:
            ticks, ids, bodies = zip(*rows.rows, strict=True) if rows.rows else ((), (), ())
            "".join(ids)  # raises for an id that is no text
            if instances.lacks(ids):
                states = map(InstanceState, map(decode, bodies), repeat(self), ids, ticks)
                return self._enter(model, instances, ids, states)
        except _UNREADABLE:
            pass  # some of it is not what the model declares: row by row
        return [self._load_row(model, instances, rows, row, decode) for row in rows.rows]

    def _enter(self, model: type[M], instances: Instances, ids: Sequence[str], states: Iterable[InstanceState]) -> list[M]:
        """New instances of a model, all at once, which is what nearly every read comes to."""
        loaded = list(map(model.__new__, repeat(model, len(ids))))
        _exhaust(map(_set, loaded, repeat("_state"), states))
        instances.make_room(len(loaded))
        instances.refs.update(zip(ids, map(_ref, loaded), strict=True))
        instances.loaded(loaded)
        return loaded

    def _load_row(self, model: type[M], instances: Instances, rows: Rows, row: Row, decode: Callable[[str], Record]) -> M:
        tick, id_, body = row
        known = instances.refs.get(id_)
        instance: Any = None if known is None else known()
        if instance is not None and instance._state.looked_at:
            if instance._state.doubtful:
                self.renew(instance, rows.document(row))
            return instance  # type: ignore[no-any-return]
        held: Record | Document
        try:
            held = decode(body)
        except _UNREADABLE:
            held = rows.document(row)
        if instance is None:
            instance = model.__new__(model)
            _set(instance, "_state", InstanceState(held, self, id_, tick))
            instances.put(id_, instance)
        else:  # nobody has looked at it, so the newer document may stand in
            self._stand_in(instance, held, id_, tick)
            instances.loaded((instance,))
        return instance  # type: ignore[no-any-return]

    def _stand_in(self, instance: Model, held: Record | Document, id_: str = "", tick: int = 0) -> None:
        """An instance that nobody has looked at has this newer document now."""
        state = instance._state
        before, state.held, state.id, state.tick, state.doubtful = state.held, held, id_, tick, False
        if state.related and before is not None and refers_otherwise(instance, before):
            hold_to_references(instance)

    def held(self, model: type[Model], identity: Identity) -> Model | None:
        """The instance whose document has this primary key, or this `_id` for a model without one."""
        instances = self.of_models.get(model.__mapper__.root.model)
        held = None if instances is None else instances.by_key(identity)
        return held if isinstance(held, model) else None

    def by_id(self, model: type[Model], id: str) -> Model | None:
        """The instance whose document has this `_id`."""
        instances = self.of_models.get(model.__mapper__.root.model)
        return None if instances is None else instances.get(id)

    def knows(self, model: type[Model]) -> bool:
        """Whether there may be instances of a model."""
        return root_of(model) in self.of_models

    def adopt(self, instance: Model) -> None:
        """Take in a transient instance. Raises InvalidRequestError for any other."""
        self.check_adoptable(instance)
        instance._state.session = self

    def check_adoptable(self, instance: Model) -> None:
        """Raise InvalidRequestError for an instance that is not transient."""
        state = instance._state
        if state.deleted:
            raise InvalidRequestError(f"{named(instance)} is deleted")
        if state.session is not None:
            raise InvalidRequestError(f"{named(instance)} is in a session already")
        if state.held is not None:
            raise InvalidRequestError(f"{named(instance)} is detached; load it in this session instead")

    def attach(self, instance: M) -> M:
        """The session's instance of a detached instance's document: the one it holds already, or else this one."""
        state = instance._state
        if state.document is None or state.deleted or (state.session is not None and instance not in self):
            raise InvalidRequestError(f"{named(instance)} is {state.name}; only a detached instance can be attached")
        instances, id_ = self._of(root_of(type(instance))), state.document["_id"]
        assert isinstance(id_, str)
        if instances.get(id_) is not None:
            (held,) = self.load(type(instance), [state.document])
            return held
        state.session = self
        instances.put(id_, instance)
        tell_items(instance)
        if instance._state.looked_at:  # it may have been changed
            self.touch(instance)
        return instance

    def inserted(self, instance: Model, document: Document) -> None:
        """A new instance has become this document. One that had it before is let go: of a document there is one."""
        instance._state.held = document
        id_: Any = document["_id"]
        root = instance.__mapper__.root.model
        instances = self.of_models.get(root) or self._of(root)
        if id_ in instances.refs:
            other = instances.get(id_)
            if other is not None and other is not instance:
                others = [*self.through(instance), *self.through(other)]
                self.let_go(other)
                instances.put(id_, instance)
                replaced(instance, other, others)
                return
        instances.put(id_, instance)

    def check_persistent(self, instance: Model) -> InstanceState:
        """The state of an instance that is persistent here. Raises InvalidRequestError for any other."""
        state = state_of(instance)
        if state.held is None or state.session is not self:
            raise InvalidRequestError(f"{named(instance)} is not persistent in this session")
        return state

    def document_of(self, instance: Model) -> Document:
        """The document of an instance that is persistent here. Raises InvalidRequestError for any other."""
        document = self.check_persistent(instance).document
        assert document is not None
        return document

    def check_held(self, instance: Model) -> None:
        """Raise InvalidRequestError for what is no instance of this session."""
        if state_of(instance).session is not self:
            raise InvalidRequestError(f"{named(instance)} is not in this session")

    def renew(self, instance: Model, document: Document) -> None:
        """The instance has this document now. Attributes that were changed stay changed, and a value that can be changed in
        place stays the object it is where it is stored as before: somebody may hold it.

        One whose document has become one of another class is let go, unless it was changed: then the commit is to say so.
        """
        changed = changed_fields(instance)
        if not is_of(type(instance), document):
            if changed:
                instance._state.doubtful = True
            else:
                self.let_go(instance)
            return
        before, attributes, columns = instance._state.held, instance.__dict__, instance.__mapper__.columns
        for name in instance.__mapper__.shown & attributes.keys():
            if name in columns:
                column = columns[name]
                if column.field in changed or (column.type.mutable and _stays(column, before, document)):
                    continue
            del attributes[name]
        instance._state.document = document
        instance._state.doubtful = False
        if before is not None and refers_otherwise(instance, before):
            hold_to_references(instance)
        call_hook("after_load", instance)
        self._of(root_of(type(instance))).loaded((instance,))

    def _turned(self, instance: Model, document: Document) -> bool:
        """Whether an instance, which is to have this document, cannot: it has become one of another class."""
        state = instance._state
        return (state.doubtful or not state.looked_at) and not is_of(type(instance), document)

    def reset(self, instance: Model, document: Document | None) -> None:
        """The instance has this document now, and no changes."""
        state = instance._state
        state.document = document
        for name in instance.__mapper__.shown:
            instance.__dict__.pop(name, None)
        state.looked_at = False
        hold_to_references(instance)
        self._forget(instance)
        if lists_changed(instance):  # which is not dropped with its attributes: it is what others refer to
            self.touch(instance)

    def let_go(self, instance: Model) -> None:
        """Forget an instance, which is detached then, and its changes."""
        state = instance._state
        instances = self.of_models.get(root_of(type(instance)))
        if instances is not None and state.document is not None:
            id_ = state.document["_id"]
            assert isinstance(id_, str)
            if instances.get(id_) is instance:
                instances.discard(id_)
        self._forget(instance)
        state.session = None

    def rekeyed(self, instance: Model) -> None:
        """The document of an instance holds other keys than before."""
        self._of(root_of(type(instance))).loaded((instance,))

    def removed(self, instance: Model) -> None:
        """The document of an instance was deleted."""
        gone(instance, self.through(instance))
        self.let_go(instance)
        instance._state.deleted = True

    def doubt(self, models: Callable[[type[Model]], bool]) -> None:
        """Some documents of these models were deleted: `get` is to look again before it answers one of the instances."""
        for model, instances in self.of_models.items():
            if models(model):
                for instance in instances:
                    instance._state.doubtful = True

    def clear(self) -> None:
        """Let go of every instance, none of which has changes."""
        for instances in self.of_models.values():
            for held in instances.refs.values():
                if (instance := held()) is not None:
                    instance._state.session = None
        self.of_models = {}

    def _of(self, root: type[Model]) -> Instances:
        instances = self.of_models.get(root)
        if instances is None:
            instances = self.of_models[root] = Instances(root)
        return instances

    # -- which may differ ------------------------------------------------------------------------------------------

    def touch(self, instance: Model) -> None:
        """An attribute was set, or a mutable value handed out: keep the instance until the next commit."""
        self.touched[id(instance)] = instance

    def changeable(self) -> list[Model]:
        """The persistent instances that may differ from their documents.

        Those touched since the last commit are kept; those whose mutable values were handed out before it only as long as
        somebody else keeps them.
        """
        touched = list(self.touched.values()) if self.touched else []
        if self._watched:
            watched = list(self._watched.values())
            touched += [one for one in watched if id(one) not in self.touched and one in self]
        return touched

    def watch(self, instances: Iterable[Model]) -> None:
        """These were written: look at those on whose mutable values were handed out, as long as somebody keeps them."""
        for instance in [one for one in instances if one.__mapper__.mutable]:
            if holds_mutable(instance):
                if self._watched is None:
                    self._watched = WeakValueDictionary()
                self._watched[id(instance)] = instance

    def drop_deleted(self) -> None:
        """Keep no instance any longer that was deleted."""
        self.touched = {key: one for key, one in self.touched.items() if not one._state.deleted}

    def forget_changes(self) -> None:
        """Changed instances show their documents again; new ones keep what they were given."""
        if self.touched or self._watched is not None:
            for instance in self.changeable():
                if instance._state.held is not None:
                    restore(instance)
                    self.reset(instance, instance._state.document)
            self.touched = {}
            self._watched = None
        if self.moves:
            self.moves.clear()
        if self.lost:
            self.let_lost_go()

    def let_lost_go(self) -> None:
        """Those whose documents are gone leave, unless something is pending about them."""
        lost, self.lost = self.lost, {}
        for instance in [one for one in lost.values() if one in self]:
            self.found_gone(instance)

    def _forget(self, instance: Model) -> None:
        self.touched.pop(id(instance), None)
        if self._watched is not None:
            self._watched.pop(id(instance), None)


def _stays(column: Column[Any], before: Record | Document | None, after: Document) -> bool:
    """Whether a column is stored as it was."""
    was = MISSING if before is None else before.get(column.field, MISSING)
    return column.type.equal(was, after.get(column.field, MISSING))


_UNREADABLE = (msgspec.MsgspecError, TypeError, RecursionError)
"""What text raises of which no record is made."""
_set = object.__setattr__
_ref: Callable[[Model], ref[Model]] = ref
_exhaust: Callable[[Iterable[object]], None] = deque[object](maxlen=0).extend
"""Goes through all of them, and keeps none."""


def is_of(model: type[Model], document: Document) -> bool:
    """Whether a document of its table is one of this very class."""
    mapper = model.__mapper__
    try:
        return not mapper.polymorphic or mapper.class_of(document) is model
    except ValidationError:  # of a class that is not there
        return False
