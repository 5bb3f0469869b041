"""Mastra's own errors, under `convexorm.ConvexORMError`. Each carries the contract's error id."""

from __future__ import annotations

from typing import ClassVar

from convexorm import ConvexORMError, ValidationError

__all__ = [
    "InvalidArgument",
    "MastraError",
    "NoBufferedReflection",
    "ObservationalMemoryInvalid",
    "ObservationalMemoryNotFound",
    "ObservationalMemoryReplaced",
    "ObservationsChanged",
    "ScheduleAlreadyExists",
    "ScheduleNotFound",
    "ScheduleTriggerAlreadyExists",
    "ThreadAlreadyExists",
    "ThreadNotFound",
    "UnknownStore",
    "WorkflowSnapshotInvalid",
    "WrongCacheKind",
    "error_id",
    "named",
]

_SHOWN = 80
"""Characters of an id in an error."""


def error_id(operation: str, status: str) -> str:
    """The contract's id of an error: `MASTRA_STORAGE_CONVEX_LIST_THREADS_INVALID_PAGE`."""
    return f"MASTRA_STORAGE_CONVEX_{operation}_{status}".replace(".", "_").upper()


def named(name: object) -> str:
    """An id or a key as errors show it: as Python writes it, a long one cut off; what is no text by its type."""
    if not isinstance(name, str):
        return f"of type {type(name).__name__}"
    return repr(name) if len(name) <= _SHOWN else f"{name[:_SHOWN]!r}…"


class MastraError(ConvexORMError):
    """An operation of the storage contract that failed. `operation` is its name, `id` the contract's error id."""

    status: ClassVar[str] = "FAILED"

    def __init__(self, problem: str, *, operation: str, status: str | None = None) -> None:
        self.operation = operation
        self.id = error_id(operation, status or self.status)
        super().__init__(f"{operation}: {problem}")


class InvalidArgument(MastraError, ValidationError):
    """An argument the contract refuses. `argument` names it; nothing was read or written."""

    status = "INVALID_ARGUMENT"

    def __init__(self, problem: str, *, operation: str, argument: str, status: str | None = None) -> None:
        MastraError.__init__(self, f"{argument}: {problem}", operation=operation, status=status)
        self.argument = argument
        self.problem = problem
        self.table = None
        self.field = argument


class ThreadNotFound(MastraError):
    """There is no thread with this id."""

    status = "THREAD_NOT_FOUND"

    def __init__(self, thread_id: str, *, operation: str) -> None:
        super().__init__(f"there is no thread {named(thread_id)}", operation=operation)
        self.thread_id = thread_id


class ThreadAlreadyExists(MastraError):
    """The id for a new thread is taken."""

    status = "THREAD_EXISTS"

    def __init__(self, thread_id: str, *, operation: str) -> None:
        super().__init__(f"a thread {named(thread_id)} exists already", operation=operation)
        self.thread_id = thread_id


class ObservationalMemoryNotFound(MastraError):
    """There is no record of observational memory with this id."""

    status = "NOT_FOUND"

    def __init__(self, id: str, *, operation: str) -> None:
        super().__init__(f"there is no observational memory {named(id)}", operation=operation)
        self.record_id = id


class ObservationalMemoryReplaced(MastraError):
    """The record has a successor, and nothing was written to it. `successor_id` is the newest generation."""

    status = "REPLACED"

    def __init__(self, id: str, successor_id: str, *, operation: str) -> None:
        super().__init__(f"observational memory {named(id)} was replaced by {named(successor_id)}", operation=operation)
        self.record_id = id
        self.successor_id = successor_id


class ObservationsChanged(MastraError):
    """The record's active observations are not what was expected: another writer was faster, and nothing was written."""

    status = "OBSERVATIONS_CHANGED"

    def __init__(self, id: str, *, operation: str) -> None:
        super().__init__(f"the active observations of {named(id)} are not what was expected", operation=operation)
        self.record_id = id


class ObservationalMemoryInvalid(MastraError):
    """The record's stored configuration is no object, so nothing can be merged into it."""

    status = "INVALID_CONFIG"

    def __init__(self, id: str, *, operation: str) -> None:
        super().__init__(f"the configuration of observational memory {named(id)} is no object", operation=operation)
        self.record_id = id


class NoBufferedReflection(MastraError):
    """The record has no reflection waiting to be swapped in: none was buffered, or another writer has swapped it."""

    status = "NO_BUFFERED_REFLECTION"

    def __init__(self, id: str, *, operation: str) -> None:
        super().__init__(f"observational memory {named(id)} has no buffered reflection to swap", operation=operation)
        self.record_id = id


class ScheduleNotFound(MastraError):
    """There is no schedule with this id."""

    status = "SCHEDULE_NOT_FOUND"

    def __init__(self, id: str, *, operation: str) -> None:
        super().__init__(f"there is no schedule {named(id)}", operation=operation)
        self.schedule_id = id


class ScheduleAlreadyExists(MastraError):
    """The id for a new schedule is taken."""

    status = "SCHEDULE_EXISTS"

    def __init__(self, id: str, *, operation: str) -> None:
        super().__init__(f"a schedule {named(id)} exists already", operation=operation)
        self.schedule_id = id


class ScheduleTriggerAlreadyExists(MastraError):
    """The id for a new trigger is taken."""

    status = "TRIGGER_EXISTS"

    def __init__(self, id: str, *, operation: str) -> None:
        super().__init__(f"a trigger {named(id)} exists already", operation=operation)
        self.trigger_id = id


class WorkflowSnapshotInvalid(MastraError):
    """A run's snapshot has no context, so nothing can be merged into it."""

    status = "INVALID_SNAPSHOT"

    def __init__(self, workflow_name: str, run_id: str, *, operation: str) -> None:
        super().__init__(
            f"the snapshot of run {named(run_id)} of {named(workflow_name)} has no context", operation=operation
        )
        self.workflow_name = workflow_name
        self.run_id = run_id


class WrongCacheKind(MastraError):
    """A key of the cache holds something else than the operation works on: a value, a list or a counter."""

    status = "WRONG_KIND"

    def __init__(self, key: str, *, expected: str, actual: str, operation: str) -> None:
        super().__init__(f"the key holds a {actual}, not a {expected}", operation=operation)
        self.key = key
        self.expected = expected
        self.actual = actual


class UnknownStore(MastraError):
    """The store has no domain of this name."""

    status = "UNKNOWN_STORE"
