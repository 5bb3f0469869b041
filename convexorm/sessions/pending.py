"""`Pending`: what was asked of a session since its last commit, in order, and what it makes of unique keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from convexorm.mapping.model import Model
from convexorm.sessions.changes import is_new
from convexorm.sessions.compiler import PRIMARY, Compiler, root_of
from convexorm.sessions.instances import Identity
from convexorm.sessions.operations import ChangeByKey, Operation, Upsertion
from convexorm.values import MISSING, Missing

__all__ = ["Pending"]


class _Concerned(msgspec.Struct, eq=False):
    """What operations are about: the models of tables, and the ids of instances; of what is upserted by the key of which
    index, and which documents are to have another primary key.
    """

    roots: set[type[Model]] = set()
    ids: set[int] = set()
    upserted: dict[int, str] = {}
    rekeyed: set[tuple[type[Model], Identity]] = set()

    def add(self, operation: Operation) -> None:
        instance = operation.instance
        if operation.gone is not None:
            self.roots.add(operation.gone[0])
        if type(operation) is ChangeByKey and operation.rekeys:
            self.rekeyed.add((root_of(operation.model), operation.identity))
        if instance is not None:
            self.roots.add(root_of(type(instance)))
            self.ids.add(id(instance))
            if type(operation) is Upsertion:
                by = operation.by
                self.upserted[id(instance)] = by.name if by is not None and by.unique else PRIMARY


class Pending(msgspec.Struct, eq=False):
    """Operations that are not written yet. What they do to unique keys is found out when it is first asked for."""

    _compiler: Compiler
    operations: list[Operation] = []
    _ahead: dict[tuple[type[Model], str, Identity], Model | None] | None = None
    _rekeyed: list[Model] = []
    _concerned: _Concerned | None = None

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    def ask(self, operation: Operation) -> None:
        """Something is to be written by the next commit."""
        self.operations.append(operation)
        if self._concerned is not None:
            self._concerned.add(operation)
        if self._ahead is not None:
            self._look_ahead(operation)

    def ask_first(self, operations: Sequence[Operation]) -> None:
        """These are to be written before all others."""
        self.operations = [*operations, *self.operations]
        self._ahead = self._concerned = None

    def withdraw(self, instance: Model) -> None:
        """Nothing is to be done about an instance any more."""
        self.operations = [one for one in self.operations if one.instance is not instance]
        self._ahead = self._concerned = None

    def done(self, operations: Iterable[Operation]) -> None:
        """These are written; what was asked for since is pending still."""
        if self.operations:
            written = set(map(id, operations))
            self.operations = [one for one in self.operations if id(one) not in written]
            self._ahead = self._concerned = None

    def clear(self) -> list[Operation]:
        """Forget everything, and say what it was."""
        operations, self.operations = self.operations, []
        self._ahead = self._concerned = None
        return operations

    def about(self, instance: Model) -> bool:
        """Whether an operation is about this instance: a new one is to be inserted, a persistent one to be deleted."""
        return bool(self.operations) and id(instance) in self._all_concerned().ids

    def concerns(self, model: type[Model]) -> bool:
        """Whether an operation is about a document of a model's table that is known by its key."""
        return bool(self.operations) and root_of(model) in self._all_concerned().roots

    def rekeys(self, model: type[Model], identity: Identity) -> bool:
        """Whether the document with this primary key is to have another one, by an update of it."""
        return (model, identity) in self._all_concerned().rekeyed

    @property
    def upserts(self) -> bool:
        """Whether any instance is to be upserted."""
        return bool(self.operations) and bool(self._all_concerned().upserted)

    def upserted_by(self, instance: Model) -> str | None:
        """By the key of which index an instance is to be upserted; None where it is not."""
        return self._all_concerned().upserted.get(id(instance)) if self.operations else None

    def replacement(self, instance: Model) -> Model | None:
        """The new instance that is to become the document of a persistent one, if one was upserted for that."""
        for index, identity in self._compiler.identities(instance) if self.upserts else ():
            found = self.at(root_of(type(instance)), identity, index)
            if isinstance(found, Model) and self.upserted_by(found) == index:
                return found
        return None

    def _all_concerned(self) -> _Concerned:
        if self._concerned is None:
            self._concerned = _Concerned()
            for operation in self.operations:
                self._concerned.add(operation)
        return self._concerned

    def touched(self, instance: Model) -> None:
        """An attribute was set: a new instance may have another primary key."""
        if self._ahead is not None and is_new(instance):
            self._rekeyed.append(instance)

    def at(self, model: type[Model], identity: Identity, index: str = PRIMARY) -> Model | Missing | None:
        """What is to have this primary key, or this key in a unique index, after the next commit: an instance, None, or
        MISSING if that decides nothing. What is to be deleted is known by its primary key alone.
        """
        if not self.concerns(model):
            return MISSING
        if self._ahead is None:
            self._ahead, self._rekeyed = {}, []
            for operation in self.operations:
                self._look_ahead(operation)
        while self._rekeyed:
            instance = self._rekeyed.pop()
            if is_new(instance):
                self._enter(instance)
        found = self._ahead.get((root_of(model), index, identity), MISSING)
        if isinstance(found, Model) and self._compiler.new_identity(found, index) != identity:
            return MISSING  # it has another key by now
        return None if isinstance(found, Model) and not isinstance(found, model) else found

    def _look_ahead(self, operation: Operation) -> None:
        assert self._ahead is not None
        instance = operation.instance
        if operation.gone is not None:
            root, identity = operation.gone
            self._ahead[root, PRIMARY, identity] = None
        elif instance is not None:
            self._enter(instance)

    def _enter(self, instance: Model) -> None:
        assert self._ahead is not None
        for index, identity in self._compiler.new_identities(instance):
            self._ahead[root_of(type(instance)), index, identity] = instance
