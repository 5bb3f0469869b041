"""`Members`: the instances of a session, which tell it what happens to them.

An instance knows its session by this object alone, and nothing here leads back to the session: when nobody keeps that any
longer, all of it goes at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.mapping.expressions import unmade
from convexorm.mapping.model import Model, named, state_of
from convexorm.mapping.references import Reference
from convexorm.mapping.relations import Relation
from convexorm.querying.query import Query
from convexorm.relatives import (
    Moves,
    around,
    exchange,
    hold_to_references,
    holders_of,
    join_lists,
    leave,
    leave_rows,
    loaded_list,
    references_in,
    stand_for,
)
from convexorm.requests import Delete, Gone
from convexorm.sessions.changes import changed_fields, is_new
from convexorm.sessions.compiler import PRIMARY, Compiler, root_of
from convexorm.sessions.identities import IdentityMap
from convexorm.sessions.instances import Identity, identity_of, key_of
from convexorm.sessions.operations import Deletion, Insertion, Upsertion
from convexorm.sessions.pending import Pending
from convexorm.sessions.turns import Turn
from convexorm.values import MISSING

__all__ = ["Members"]

M = TypeVar("M", bound=Model)


class Members(IdentityMap):
    """An identity map that knows what is pending about its instances. It is theirs for one task or thread at a time."""

    def __init__(self, turn: Turn, compiler: Compiler, pending: Pending) -> None:
        self.of_models, self.touched, self.lost, self.moves = {}, {}, {}, Moves()
        self._turn = turn
        self._compiler = compiler
        self._pending = pending

    # -- what instances tell -----------------------------------------------------------------------------------------

    def touch(self, instance: Model) -> None:
        super().touch(instance)
        self._pending.touched(instance)

    def changing(self, instance: Model) -> None:
        """Raises InvalidRequestError while the session is in use by somebody else."""
        self._turn.check()
        self.touch(instance)

    def bring(self, instance: Model) -> None:
        self.add(instance)

    def discard(self, instance: Model) -> None:
        self.delete(instance)

    def keep(self, instance: Model) -> None:
        self._pending.withdraw(instance)

    def known(self, reference: Reference, value: object) -> Model | None:
        target = reference.target
        if reference.key is None or not self._pending.concerns(target):
            return self.stored(reference, value)
        identity = self._identity(reference, value)
        pending = MISSING if identity is None else self._pending.at(target, identity)
        return pending if pending is not MISSING else None if identity is None else self.held(target, identity)

    def stored(self, reference: Reference, value: object) -> Model | None:
        target = reference.target
        if reference.key is None:
            return self.by_id(target, value) if isinstance(value, str) else None
        if root_of(target) not in self.of_models:
            return None
        identity = self._identity(reference, value)
        return None if identity is None else self.held(target, identity)

    def _identity(self, reference: Reference, value: object) -> Identity | None:
        try:
            return self._compiler.identity(reference.target, value)
        except ValidationError:
            return None

    def fate(self, reference: Reference, value: object) -> str | None:
        """What the next commit does to the document that a reference of this value leads to, so that it leads nowhere; None
        where it does not, or another takes that one's place.
        """
        target = root_of(reference.target)
        if reference.key is not None:
            identity = self._identity(reference, value)
        elif isinstance(held := self.stored(reference, value), Model):
            identity = identity_of(key_of(type(held), self.document_of(held)))
        else:
            identity = value if isinstance(value, str) and not target.__mapper__.key else None
        if identity is None:
            return None
        if self._pending.at(target, identity) is None:
            return "deletes"
        return "gives another key" if reference.key is not None and self._pending.rekeys(target, identity) else None

    def referring(self, reference: Reference, value: object) -> list[Model]:
        waiting = self.moves.waiting.get((reference.target.__mapper__.root.model, value), ())
        new = [one for one, by in waiting if by.is_same(reference) and one in self and is_new(one)]
        found = [one for one in new if getattr(one, reference.attribute) == value]
        instances = self.of_models.get(reference.mapper.root.model)
        stored = None if instances is None or reference.key is None else reference.dump(value)
        if instances is not None and stored is not None and stored is not MISSING:
            held = instances.holding((reference.field,), identity_of((stored,)))
            found += [one for one in held if not self._pending.about(one)]
        return found

    def replacement(self, instance: Model) -> Model | None:
        return self._pending.replacement(instance)

    def all_referring(self, instance: Model, key: object) -> list[tuple[Model, Reference]]:
        root = root_of(type(instance))
        references = {(by.mapper.root.model, by.attribute): by for _, by in self.moves.waiting.get((root, key), ())}
        for model in self.of_models:
            for by in [by for mapper in model.__mapper__.family() for by in references_in(mapper)]:
                if by.key is not None and root_of(by.target) is root:
                    references[model, by.attribute] = by
        found = [(one, by) for by in references.values() for one in self.referring(by, key)]
        return [(one, by) for one, by in found if by.attribute in one.__mapper__.references]

    def waiting(self, reference: Reference, value: object) -> Model | None:
        """The new instance that a reference of this value leads to once it is stored, if there is one."""
        found = self.known(reference, value) if self._pending.operations else None
        return found if found is not None and is_new(found) else None

    def through(self, instance: Model) -> Iterator[Model]:
        """The instances of the session that may have an instance in lists that go through another model."""
        yield from [one for one in holders_of(instance) if one in self]

    def told(self, gone: Iterable[Gone], *, surely: bool = False) -> None:
        for one in gone:
            mapper = self._compiler.written(one.table)
            instances = None if mapper is None else self.of_models.get(mapper.model)
            for id_ in () if instances is None else one.ids:
                instance = instances.get(id_)  # type: ignore[union-attr]
                if instance is None:
                    continue
                if one.field is None and surely:
                    self.removed(instance)
                elif one.field is None:
                    self.found_gone(instance)
                else:
                    self._lost(instance, one.field)

    def _lost(self, instance: Model, field: str) -> None:
        """The document of an instance has lost a reference."""
        document = {**self.document_of(instance)}
        columns = instance.__mapper__.columns.values()
        if any(column.field == field and column.none == "null" for column in columns):
            document[field] = None
        else:
            document.pop(field, None)
        doubtful = instance._state.doubtful
        self.renew(instance, document)
        instance._state.doubtful = doubtful

    def tables(self) -> set[str]:
        """The tables of which somebody keeps instances, by the names they have for the session."""
        held = [model for model, instances in self.of_models.items() if instances.any()]
        return {self._compiler.table(model).name for model in held}

    # -- who comes and goes ------------------------------------------------------------------------------------------

    def found_gone(self, instance: Model) -> None:
        # where something is pending about it, the commit is to say so
        if not self._pending.about(instance) and not changed_fields(instance):
            self.removed(instance)
            return
        instance._state.doubtful = True
        self.lost[id(instance)] = instance

    def add(self, instance: Model, unique: bool | Query[Any] = True, returning: bool = True) -> None:
        """Take in a new instance, and what is new around it; `AsyncSession.add` says what holds."""
        self.add_all((instance,), unique, returning)

    def add_all(self, instances: Iterable[Model], unique: bool | Query[Any] = True, returning: bool = True) -> None:
        """The same of each of them."""
        if self._turn.held:
            self._turn.check()
        compiler, key = self._compiler, unique if isinstance(unique, bool) else self._compiler.whole_key(unique)
        for instance in instances:
            try:
                state = instance._state if isinstance(instance, Model) else state_of(instance)
            except AttributeError:
                raise unmade(instance) from None
            if state.session is not self:
                self.join(instance, Insertion(compiler, self, instance, key, returning))
            elif self._pending.operations and not is_new(instance):
                self._undelete(instance)

    def _undelete(self, instance: Model) -> None:
        """A persistent instance is not to be deleted. Raises InvalidRequestError where its key is to be gone anyway."""
        place = root_of(type(instance)), identity_of(key_of(type(instance), self.document_of(instance)))
        if self._pending.at(*place) is None:
            self._pending.withdraw(instance)
            if self._pending.at(*place) is None:
                raise InvalidRequestError(f"{named(instance)} is to be deleted by its key")

    def join(self, instance: Model, operation: Insertion | Upsertion) -> None:
        """Take in a new instance, with the operation that is to store it, and what is new around it."""
        state = instance._state
        if state.session is not None or state.held is not None or state.deleted:
            self.check_adoptable(instance)
        state.session = self
        self._pending.ask(operation)
        if state.related or instance.__mapper__.related:
            self._gather(instance)
        held = self._replaced(instance) if isinstance(operation, Upsertion) and self.of_models else None
        if held is not None:
            stand_for(instance, held, list(self.through(held)))

    def _replaced(self, instance: Model) -> Model | None:
        """The persistent instance whose document an upserted one is to become, if it is here."""
        index, root = self._pending.upserted_by(instance), root_of(type(instance))
        identity = None if index is None else self._compiler.new_identity(instance, index)
        if index is None or identity is None:
            return None
        if index == PRIMARY:
            return self.held(root, identity)
        instances = self.of_models.get(root)
        fields = tuple(self._compiler.table(root).declared_fields(index))
        return None if instances is None else next(iter(instances.holding(fields, identity)), None)

    def make_way(self, relation: Relation, owners: Iterable[Model]) -> None:
        """What is loaded in lists of a relation is not shown beside what was upserted to replace it."""
        for owner in owners if self._pending.upserts else ():
            for item in list(loaded_list(owner, relation) or ()):
                new = None if is_new(item) else self._pending.replacement(item)
                if new is not None:
                    stand_for(new, item, [owner])

    def attach_all(self, instance: M) -> M:
        """`attach`, with what is detached around the instance, and around that; what is new there is added."""
        attached = self.attach(instance)
        joined: list[Model] = [attached] if attached is instance else []
        for one in joined:
            for other in [other for other in around(one) if other._state.session is None and not other._state.deleted]:
                if other._state.held is None:
                    self.add(other)
                    continue
                mine = self.attach(other)
                if mine is other:
                    joined.append(other)
                else:
                    exchange(one, other, mine)
        return attached

    def _gather(self, instance: Model) -> None:
        """What is new around an instance, and around that, comes into the session as well."""
        joined = [instance]
        for one in joined:
            join_lists(one)
            for other in list(around(one)):
                if other._state.session is None and other._state.held is None and not other._state.deleted:
                    self.adopt(other)
                    self._pending.ask(Insertion(self._compiler, self, other, unique=True, returning=True))
                    joined.append(other)

    def doom(self, model: type[Model], identity: Identity) -> None:
        """The document with this primary key is to be deleted: new rows between that lead to it are to be no longer."""
        held = self.held(model, identity) if self.of_models else None
        if held is not None:
            leave_rows(held, self.through(held))

    def take_back(self, model: type[Model], identity: Identity) -> bool:
        """Let go of what was added with this primary key and is not committed; whether there was any.

        What was added under a condition of its own stays, and with it the condition.
        """
        if not isinstance(self._pending.at(model, identity), model):
            return False  # nearly always
        added = [one.instance for one in self._pending if isinstance(one, Insertion) and isinstance(one.unique, bool)]
        found = [one for one in added if isinstance(one, model) and self._compiler.new_identity(one) == identity]
        for instance in found:
            self.delete(instance)
        return bool(found)

    def expunge(self, instance: Model) -> None:
        """Let go of an instance and of what is pending about it."""
        self.check_held(instance)
        if is_new(instance):
            self._withdraw(instance)
        else:
            self._pending.withdraw(instance)
        self.let_go(instance)

    def _withdraw(self, instance: Model) -> None:
        """A new instance is not to be stored."""
        held = self._replaced(instance)
        self._pending.withdraw(instance)
        others = list(self.through(instance))
        if held is not None:  # whose place it was to take
            stand_for(held, instance, others)
        leave(instance, others)
        if held is not None:
            hold_to_references(held)

    def delete(self, instance: Model) -> None:
        """Have an instance deleted, or let go of a new one; `AsyncSession.delete` says what holds."""
        self._turn.check()
        self.check_held(instance)
        if is_new(instance):
            self._withdraw(instance)
            instance._state.session = None
            return
        if self._pending.about(instance):
            return
        leave_rows(instance, self.through(instance))
        document = self.document_of(instance)
        model = type(instance)
        delete = Delete(self._compiler.table(model), document["_id"])
        gone = root_of(model), identity_of(key_of(model, document))
        self._pending.ask(Deletion(self, instance, delete, gone))
