"""`UnitOfWork`: how everything that is pending becomes one commit, and what becomes of a commit without an answer.

What is added, changed and deleted is gathered; a changed instance is found by comparing it with the document it was loaded
from. Everything is sent as one atomic commit, in the order it was asked for, changes first; each change expects the fields
it overwrites to be what they were.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from convexorm.deployments.base import Port
from convexorm.errors import (
    ConvexORMError,
    FunctionNotFound,
    IndexRangeError,
    InvalidRequestError,
    LimitExceeded,
    StaleDataError,
    ValidationError,
)
from convexorm.mapping.hooks import call_hook
from convexorm.mapping.model import Model
from convexorm.mapping.references import Reference
from convexorm.moments import Moment
from convexorm.relatives import hold_to_references, settle, strangers, take_along, unresolved
from convexorm.requests import Applied, Commit, Delete, DeletedRange, Write, Written
from convexorm.sessions.changes import changed_fields, changes_of, is_new, patch_of, valid_changes_of
from convexorm.sessions.compiler import Compiler
from convexorm.sessions.graphs import check_lasting, in_order, led, refer_within
from convexorm.sessions.identities import IdentityMap
from convexorm.sessions.operations import Change, ChangeByKey, DeletionOfRange, Insertion, Operation, Retraction
from convexorm.sessions.pending import Pending

__all__ = ["SETTLED_WITHIN", "UnitOfWork"]

SETTLED_WITHIN = 3_000.0
"""Seconds within which a commit without an answer may be sent again: deployments keep answers for an hour, and what is sent
may be under way for a while.
"""
_MOST_ROUNDS = 1_000
"""How often hooks of one commit may lead to hooks of others."""


_NOTHING: Mapping[str, Model] = MappingProxyType({})


class _Unsettled(msgspec.Struct, eq=False):
    """A commit that may have been applied or not: it was sent, and its answer is not there."""

    commit: Commit
    operations: list[Operation]
    sent: Moment

    def check_age(self) -> None:
        """Raise InvalidRequestError when the deployment may have forgotten what it answered."""
        if self.sent.seconds_ago() > SETTLED_WITHIN:
            raise InvalidRequestError(
                f"a commit sent more than {SETTLED_WITHIN // 60:.0f} minutes ago had no answer, and it can no longer be "
                "told whether it was applied: sent again, it might be applied twice. Call rollback(), look at what is "
                "stored, and ask for what is missing"
            )


class UnitOfWork(msgspec.Struct, eq=False):
    """Writes what is pending in a session, and what has changed of its instances, through a port."""

    _port: Port
    _compiler: Compiler
    _identities: IdentityMap
    _pending: Pending
    _unsettled: _Unsettled | None = None
    _calling_hooks: bool = False

    def new(self) -> list[Model]:
        """Instances added and not yet committed."""
        return [one.instance for one in self._pending if one.instance is not None and is_new(one.instance)]

    def dirty(self) -> list[Model]:
        """Persistent instances whose attributes differ from their documents."""
        return [
            one for one in self._identities.changeable() if not is_new(one) and (changed_fields(one) or unresolved(one))
        ]

    def deleted(self) -> list[Model]:
        """Instances marked for deletion and not yet committed."""
        return [one.instance for one in self._pending if one.instance is not None and not is_new(one.instance)]

    async def commit(self) -> None:
        """Write everything; `AsyncSession.commit` says what holds."""
        if self._calling_hooks:
            raise InvalidRequestError(
                "a hook that is called before a commit cannot commit; what it adds is written with it"
            )
        if self._unsettled is not None:
            await self.settle()
        identities = self._identities
        operations, writes, references = self._gathered()
        if not operations:
            self._settle_relations(list(identities.touched.values()))
            identities.let_lost_go()
            return
        commit = self._compiler.commit(writes, identities.tables, references)
        # Before it is sent: from here on an interrupt at any point leaves it to be settled.
        self._unsettled = _Unsettled(commit, operations, Moment(time.time(), time.monotonic()))
        touched = identities.touched
        try:
            identities.touched = {}
            results = await self._port.commit(commit)
            instances: list[Model] = []
            for operation, write, applied in zip(operations, writes, results, strict=True):
                operation.applied(applied, write)
                if type(applied) is DeletedRange and applied.gone:
                    identities.told(applied.gone, surely=True)
                if operation.instance is not None:
                    instances.append(operation.instance)
            if self._pending.operations:
                self._pending.done(operations)
            if identities.lost:
                identities.let_lost_go()
            hooked = self._settled([*touched.values(), *instances]) if touched or instances else False
            self._unsettled = None
        except BaseException as error:
            self._identities.touched = {**touched, **self._identities.touched}
            if isinstance(error, StaleDataError | ValidationError | LimitExceeded | IndexRangeError):
                self._unsettled = None  # refused, and for good
            if isinstance(error, FunctionNotFound) and not error.lost:
                self._unsettled = None  # what was to be scheduled, or what applies commits
            if isinstance(error, ConvexORMError) and error.write is not None and 0 <= error.write < len(operations):
                error.instance = operations[error.write].instance
            raise
        if hooked:
            _tell(instances)

    def _settled(self, written: Sequence[Model]) -> bool:
        """These instances are as they are stored; whether any of them has hooks."""
        mutable = related = hooked = False
        for one in written:
            mapper = one.__mapper__
            mutable = mutable or bool(mapper.mutable)
            hooked = hooked or bool(mapper.hooks)
            related = related or bool(one._state.related)
        if mutable:
            self._identities.watch(written)
        if related or self._identities.moves:
            self._settle_relations(written)
        return hooked

    def _settle_relations(self, written: Iterable[Model]) -> None:
        """What these instances say of each other is stored."""
        related = [*[one for one in written if one._state.related], *self._identities.moves.set_by_hand()]
        for instance in related:
            hold_to_references(instance)
        for instance in related:
            settle(instance)
        self._identities.moves.clear()

    def _doubt_tied(self, commit: Commit) -> None:
        """Documents of these tables may have been deleted or changed because of others."""
        tables = {rule.table.name for rules in commit.rules.values() for rule in rules if rule.action != "restrict"}
        if tables:
            self._identities.doubt(lambda model: self._compiler.table(model).name in tables)

    async def insert_alone(self, insertion: Insertion) -> None:
        """Insert one new instance in a commit of its own; what is pending stays pending. Raises StaleDataError."""
        instance = insertion.instance
        call_hook("before_insert", instance)
        write = insertion.write()
        try:
            (applied,) = await self._port.commit(self._compiler.commit([write]))
        except StaleDataError as error:
            error.instance = instance
            raise
        self._identities.adopt(instance)
        insertion.applied(applied, write)
        self._identities.watch([instance])
        call_hook("after_commit", instance)

    def rollback(self) -> None:
        """Forget everything pending: new instances leave the session, changed ones show their documents again."""
        self._unsettled = None
        if self._pending.operations:
            for operation in self._pending.clear():
                if operation.instance is not None and is_new(operation.instance):
                    operation.instance._state.session = None
        self._identities.forget_changes()

    # -- gathering -------------------------------------------------------------------------------------------------

    def _gathered(self) -> tuple[list[Operation], list[Write], list[Reference]]:
        """Everything there is to write, changes first; and the references in it to what the commit may delete."""
        pending, changeable = self._pending.operations, self._identities.changeable()
        changeable = self._with_followers(changeable)
        hooked, related, ending = _concerned(pending, changeable)
        if hooked:
            self._calling_hooks = True
            try:
                self._call_hooks()
            finally:
                self._calling_hooks = False
            pending, changeable = self._pending.operations, self._with_followers(self._identities.changeable())
            _, related, ending = _concerned(pending, changeable)
        if related:
            for one in (*changeable, *[one.instance for one in pending]):
                if one is not None:
                    _check_lists(one)
        operations = [*self._changes(changeable), *pending] if changeable else [*pending]
        if related:
            operations = in_order(operations)
        if ending:
            check_lasting(operations, self._identities.fate)
        references = led(operations) if ending and related else []
        writes = _written(operations)
        if related:
            refer_within(operations, writes)
        return operations, writes, references

    def _with_followers(self, changeable: list[Model]) -> list[Model]:
        """What may have changed, and what refers to that by a primary key, which it follows."""
        return self._identities.changeable() if [one for one in changeable if take_along(one)] else changeable

    def _call_hooks(self) -> None:
        """Call what is to be called before a commit, before anything of it is looked at: hooks may change instances.

        Those that hooks add, change and delete are called on, too, each once. Raises InvalidRequestError where that has no
        end.
        """
        called: dict[tuple[str, int], Model] = {}  # kept, so that no other one has its id
        for _ in range(_MOST_ROUNDS):
            before = len(called)
            for instance in [one.instance for one in self._pending.operations]:
                if instance is not None and instance.__mapper__.hooks and self._pending.about(instance):
                    _call_once("before_insert" if is_new(instance) else "before_delete", instance, called)
            changeable = self._identities.changeable()
            if _concerned(self._pending.operations, changeable)[1]:
                changeable = self._with_followers(changeable)
            for instance in [one for one in changeable if "before_update" in one.__mapper__.hooks]:
                if ("before_update", id(instance)) in called or self._pending.about(instance):
                    continue
                if changes_of(instance) or unresolved(instance):
                    _call_once("before_update", instance, called)
            if len(called) == before:
                return
        raise InvalidRequestError("hooks add, change or delete instances whose hooks do the same, without end")

    def _changes(self, changeable: Sequence[Model]) -> list[Operation]:
        """The changes of persistent instances that are not to be deleted."""
        found: list[Operation] = []
        compiler, pending = self._compiler, self._pending.operations
        doomed = {id(one.instance) for one in pending} if pending else ()
        try:
            for instance in changeable:
                if id(instance) in doomed:
                    continue
                waiting = unresolved(instance) if instance._state.related else _NOTHING
                changes = valid_changes_of(instance, waiting)
                if changes or waiting:
                    self._identities.check_persistent(instance)
                    model, columns = type(instance), instance.__mapper__.columns
                    changed = {*changes, *[columns[name].field for name in waiting]} if waiting else changes
                    table, unique = compiler.table(model), compiler.unique(model, changed)
                    patch = patch_of(instance, changes, table, unique, waiting, measured=compiler.measures)
                    found.append(Change(self._identities, instance, patch, waiting))
        except ConvexORMError as error:
            error.instance = instance
            raise
        return found

    # -- a commit without an answer --------------------------------------------------------------------------------

    async def settle(self) -> bool:
        """Find out what became of a commit whose answer was lost: whether it was applied. If not, it never will be, and
        what it was to write is pending still. False, too, where there is none.
        """
        sent = self._unsettled
        if sent is None:
            return False
        sent.check_age()
        results = await self._port.withdraw(sent.commit)
        taken = [] if results is None else self._taken_over(sent, results)
        self._unsettled = None
        _tell(taken)
        return results is not None

    def _taken_over(self, sent: _Unsettled, results: Sequence[Applied]) -> list[Model]:
        """The commit was applied, whatever was asked for since: the instances of the session that it wrote."""
        retracted: list[Operation] = []
        taken: list[Model] = []
        for operation, write, applied in zip(sent.operations, sent.commit.writes, results, strict=True):
            instance = operation.instance
            if type(applied) is DeletedRange:
                self._identities.told(applied.gone)
            if instance is None or instance in self._identities:
                operation.applied(applied, write)
                if instance is not None:
                    self._identities.touch(instance)
                    taken.append(instance)
            elif isinstance(applied, Written) and applied.created:  # withdrawn since it was sent
                retracted.append(Retraction(Delete(write.table, applied.id, missing="skip")))
        self._settle_relations(self._identities.changeable())
        self._doubt_tied(sent.commit)
        self._identities.drop_deleted()
        self._pending.done(sent.operations)
        self._pending.ask_first(retracted)  # those left were asked for later, maybe about the same keys
        return taken


_ENDING: frozenset[type] = frozenset((ChangeByKey, DeletionOfRange))


def _concerned(pending: Sequence[Operation], changeable: Sequence[Model]) -> tuple[bool, bool, bool]:
    """Whether any instance that a commit may be about has hooks, whether any has relations that were touched, and whether
    documents may end that others refer to, or have another key.
    """
    hooked = related = ending = False
    for operation in pending:
        instance = operation.instance
        ending = ending or operation.gone is not None or type(operation) in _ENDING
        if instance is not None:
            hooked = hooked or bool(instance.__mapper__.hooks)
            related = related or bool(instance._state.related)
    for instance in changeable:
        hooked = hooked or bool(instance.__mapper__.hooks)
        related = related or bool(instance._state.related)
    return hooked, related, ending


def _written(operations: Sequence[Operation]) -> list[Write]:
    """The writes of operations. What one raises says of which instance it is."""
    writes: list[Write] = []
    try:
        for operation in operations:
            writes.append(operation.write())
    except ConvexORMError as error:
        error.instance = operation.instance
        raise
    return writes


def _call_once(name: str, instance: Model, called: dict[tuple[str, int], Model]) -> None:
    if (name, id(instance)) not in called and name in instance.__mapper__.hooks:
        called[name, id(instance)] = instance
        call_hook(name, instance)


def _check_lists(instance: Model) -> None:
    """Raise InvalidRequestError where a list holds what the commit would not store."""
    for relation, stranger in strangers(instance) if not instance._state.deleted else ():
        raise InvalidRequestError(
            f"{relation.shown} holds a {type(stranger).__name__} that is not in the session; add it, or take it out"
        )


def _tell(written: Sequence[Model]) -> None:
    """Tell instances that the commit that wrote them is applied: all of them, whatever the hook of one raises."""
    failed: list[Exception] = []
    for instance in [one for one in written if one.__mapper__.hooks]:
        if not instance._state.deleted:
            try:
                call_hook("after_commit", instance)
            except Exception as error:
                failed.append(error)
    if failed:
        raise failed[0]
