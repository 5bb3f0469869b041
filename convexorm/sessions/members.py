"""`Members`: the instances of a session, which tell it what happens to them.

An instance knows its session by this object alone, and nothing here leads back to the session: when nobody keeps that any
longer, all of it goes at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from convexorm.errors import ValidationError
from convexorm.expressions import unmade
from convexorm.model import Model, state_of
from convexorm.query import Query
from convexorm.references import Reference
from convexorm.relatives import Moves, around, join_lists, leave
from convexorm.requests import Delete
from convexorm.sessions.changes import changed_fields, is_new
from convexorm.sessions.compiler import Compiler, root_of
from convexorm.sessions.identities import IdentityMap
from convexorm.sessions.instances import Identity, identity_of, key_of
from convexorm.sessions.operations import Deletion, Insertion, Upsertion
from convexorm.sessions.pending import Pending
from convexorm.sessions.turns import Turn
from convexorm.values import MISSING

__all__ = ["Members"]


class Members(IdentityMap):
    """An identity map that knows what is pending about its instances. It is theirs for one task or thread at a time."""

    def __init__(self, turn: Turn, compiler: Compiler, pending: Pending) -> None:
        self.of_models, self.touched, self.moves = {}, {}, Moves()
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
        if reference.key is None:
            return self.by_id(target, value) if isinstance(value, str) else None
        try:
            identity = self._compiler.identity(target, value)
        except ValidationError:
            return None
        pending = self._pending.at(target, identity)
        return self.held(target, identity) if pending is MISSING else pending

    # -- who comes and goes ------------------------------------------------------------------------------------------

    def found_gone(self, instance: Model) -> None:
        # where something is pending about it, the commit is to say so
        if not self._pending.about(instance) and not changed_fields(instance):
            self.removed(instance)

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

    def join(self, instance: Model, operation: Insertion | Upsertion) -> None:
        """Take in a new instance, with the operation that is to store it, and what is new around it."""
        state = instance._state
        if state.session is not None or state.held is not None or state.deleted:
            self.check_adoptable(instance)
        state.session = self
        self._pending.ask(operation)
        if state.related or instance.__mapper__.relationships:
            self._gather(instance)

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

    def delete(self, instance: Model) -> None:
        """Have an instance deleted, or let go of a new one; `AsyncSession.delete` says what holds."""
        self._turn.check()
        self.check_held(instance)
        if is_new(instance):
            self._pending.withdraw(instance)
            leave(instance)
            instance._state.session = None
            return
        if self._pending.about(instance):
            return
        document = self.document_of(instance)
        model = type(instance)
        delete = Delete(self._compiler.table(model), document["_id"])
        gone = root_of(model), identity_of(key_of(model, document))
        self._pending.ask(Deletion(self, instance, delete, gone))
