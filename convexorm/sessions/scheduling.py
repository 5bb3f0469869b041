"""Functions that a session schedules: they run after its commit, if and only if that is applied."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from convexorm.calling import Arguments, check_path, dumped_arguments
from convexorm.errors import InvalidRequestError, ValidationError
from convexorm.requests import MAX_SCHEDULED_AHEAD, Applied, Cancel, Schedule, Write, Written
from convexorm.schema import SCHEDULED
from convexorm.values import Value, owned

__all__ = ["Cancellation", "Scheduled", "Scheduling"]

_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@attrs.define(eq=False)
class Scheduled:
    """A function that a session was asked to schedule. `id` is None until the commit is applied."""

    path: str
    id: str | None = None

    def __await__(self) -> Generator[Any, None, Scheduled]:
        yield from ()
        return self


@attrs.define(eq=False)
class Scheduling:
    """A function is to be scheduled."""

    scheduled: Scheduled
    arguments: Mapping[str, Value] = attrs.field(repr=False)
    delay: float | None
    at: float | None
    instance: None = None
    gone: None = None

    @classmethod
    def of(cls, path: str, arguments: Arguments, delay: timedelta | None, at: datetime | None) -> Scheduling:
        """What was asked for. Raises InvalidRequestError and ValidationError for what cannot be."""
        check_path(path)
        if delay is not None and at is not None:
            raise InvalidRequestError("a function is scheduled after a delay or at a time, not both")
        if not isinstance(delay, timedelta | None):
            raise InvalidRequestError(f"delay is a timedelta, got {type(delay).__name__}")
        if not isinstance(at, datetime | None):
            raise InvalidRequestError(f"at is a datetime, got {type(at).__name__}")
        dumped = {name: owned(value) for name, value in dumped_arguments(path, arguments).items()}
        if at is None:
            return cls(Scheduled(path), dumped, _delay(delay), None)
        return cls(Scheduled(path), dumped, None, _time(at))

    def write(self) -> Write:
        return Schedule(self.scheduled.path, self.arguments, self.delay, self.at)

    def applied(self, applied: Applied, write: Write) -> None:
        assert isinstance(applied, Written)
        self.scheduled.id = applied.id


@attrs.define(eq=False)
class Cancellation:
    """A scheduled function is to be cancelled."""

    cancel: Cancel
    instance: None = None
    gone: None = None

    def write(self) -> Write:
        return self.cancel

    def applied(self, applied: Applied, write: Write) -> None:
        pass


def _delay(delay: timedelta | None) -> float:
    """In milliseconds."""
    milliseconds = (delay or timedelta()) / _MILLISECOND
    if not 0 <= milliseconds <= MAX_SCHEDULED_AHEAD:
        raise ValidationError("a delay is 0 or more, and at most 5 years", table=SCHEDULED.name, field="delay")
    return milliseconds


def _time(at: datetime) -> float:
    """In milliseconds since 1970."""
    if at.utcoffset() is None:
        problem = "a time with its offset is needed, such as datetime.now(UTC); this one may be any"
        raise ValidationError(problem, table=SCHEDULED.name, field="at")
    milliseconds = (at - _EPOCH) / _MILLISECOND
    if abs(milliseconds - (datetime.now(UTC) - _EPOCH) / _MILLISECOND) > MAX_SCHEDULED_AHEAD:
        raise ValidationError("a time within 5 years from now is needed", table=SCHEDULED.name, field="at")
    return milliseconds
