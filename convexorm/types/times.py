"""Times: instants as numbers or as JavaScript's ISO text, dates and times of day as ISO text, durations as numbers."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from msgspec import to_builtins

from convexorm import schema
from convexorm.conditions import Operator
from convexorm.errors import ValidationError
from convexorm.types.codec import ColumnType, Quick, refuse, total
from convexorm.values import Value

__all__ = ["DateType", "IsoDatetimeType", "TimeType", "TimedeltaType", "TimestampType", "iso_timestamp"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MILLISECOND = timedelta(milliseconds=1)
_NO_TIME = "a time outside of the years 1 to 9999 of UTC"
_FAR = 2.5e14
"""Milliseconds, in the year 9892: what is farther from 1970 may be rounded out of the years there are."""
_MOST_MICROSECONDS = 2**53


def _utc(value: object) -> datetime:
    """An aware datetime in UTC. ValidationError for anything else."""
    if not isinstance(value, datetime):
        refuse("datetime", value)
    if not (value == value):  # pandas.NaT
        raise ValidationError("expected datetime, got one that is no time")
    if getattr(value, "nanosecond", 0):  # pandas.Timestamp
        raise ValidationError("a time with nanoseconds would be rounded; round it to microseconds")
    if value.tzinfo is UTC:
        return value
    if value.utcoffset() is None:
        raise ValidationError("a naive datetime has no instant; give it a tzinfo, such as datetime.UTC")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValidationError(_NO_TIME) from None


def _after(milliseconds: float) -> datetime:
    """The instant so many milliseconds after the epoch, to the microsecond."""
    try:
        whole = int(milliseconds)
        return _EPOCH + timedelta(milliseconds=whole, microseconds=round((milliseconds - whole) * 1000))
    except (OverflowError, ValueError):
        raise ValidationError(_NO_TIME) from None


@total
class TimestampType(ColumnType[datetime]):
    """An aware datetime as milliseconds since the epoch in a float64, as Convex's `_creationTime`; loaded as UTC.

    Exact to the microsecond up to the year 2109, from where a float64 is coarser.
    """

    name = "datetime"
    validator = schema.Number()
    mutable = False

    def dump(self, value: datetime) -> Value:
        if type(value) is not datetime or value.tzinfo is not UTC:
            value = _utc(value)
        milliseconds = ((value - _EPOCH) // _MICROSECOND) / 1000
        if milliseconds > _FAR:
            _after(milliseconds)
        return milliseconds

    def load(self, value: Value) -> datetime:
        kind = type(value)
        return _after(value) if kind is float or kind is int else refuse("datetime (a number)", value)

    def sample(self, name: str, number: int) -> datetime:
        return _sampled(number)


def iso_timestamp(value: datetime) -> str:
    """JavaScript's `toISOString`: UTC, exactly three decimals (microseconds are cut off), `Z`."""
    text: str = to_builtins(_utc(value))  # a quarter of what `isoformat` takes; microseconds, if there are any
    return text[:-1] + ".000Z" if len(text) == 20 else text[:23] + "Z"


@total
class IsoDatetimeType(ColumnType[datetime]):
    """An aware datetime as a JavaScript ISO string, whose text order is its time order; loaded as UTC.

    It keeps milliseconds: what is smaller is cut off, and an attribute shows that as soon as it is set.
    """

    name = "datetime"
    validator = schema.String()
    mutable = False
    quick = Quick(
        "type({0}) is datetime and {0}.tzinfo is UTC",
        "(text[:-1] + '.000Z' if len(text := plain({0})) == 20 else text[:23] + 'Z')",
        {"datetime": datetime, "UTC": UTC, "plain": to_builtins},
    )
    quick_adopt = Quick("type({0}) is datetime and not {0}.microsecond % 1000", names={"datetime": datetime})
    quick_load = Quick("(time := from_iso({0})).tzinfo is UTC", "time", {"from_iso": datetime.fromisoformat, "UTC": UTC})

    def dump(self, value: datetime) -> Value:
        return iso_timestamp(value)

    def load(self, value: Value) -> datetime:
        kind = type(value)
        if kind is str:
            try:
                time = datetime.fromisoformat(value)
                if time.tzinfo is UTC:
                    return time
                return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
            except (ValueError, OverflowError):
                raise ValidationError("expected datetime, got a str that is no ISO time") from None
        return _after(value) if kind is float or kind is int else refuse("datetime (a string)", value)

    def bound(self, op: Operator, value: datetime) -> Value:
        if op in ("lt", "gte"):
            cut = _utc(value).microsecond % 1000
            if cut:
                try:
                    value = value - timedelta(microseconds=cut) + _MILLISECOND
                except OverflowError:
                    raise ValidationError(_NO_TIME) from None
        return iso_timestamp(value)

    def adopt(self, value: Any) -> Any:
        if isinstance(value, datetime) and value == value and value.microsecond % 1000:
            return value.replace(microsecond=value.microsecond // 1000 * 1000)
        return value

    def sample(self, name: str, number: int) -> datetime:
        return _sampled(number)


def _sampled(number: int) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=number)


def _from_iso(kind: type[Any], value: Value) -> Any:
    if type(value) is not str:
        refuse(f"{kind.__name__} (a string)", value)
    try:
        return kind.fromisoformat(value)
    except ValueError:
        raise ValidationError(f"expected {kind.__name__}, got a str that is none") from None


@total
class DateType(ColumnType[date]):
    """A date as ISO text, `2024-05-17`, whose order is its order. A datetime is no date."""

    name = "date"
    validator = schema.String()
    mutable = False

    def dump(self, value: date) -> Value:
        if not isinstance(value, date) or isinstance(value, datetime):
            refuse("date", value)
        return date.isoformat(value)

    def load(self, value: Value) -> date:
        return _from_iso(date, value)  # type: ignore[no-any-return]

    def sample(self, name: str, number: int) -> date:
        return date(2024, 1, 1) + timedelta(days=number)


@total
class TimeType(ColumnType[time]):
    """A time of day without a timezone as ISO text, `12:30:00`, whose order is its order."""

    name = "time"
    validator = schema.String()
    mutable = False

    def dump(self, value: time) -> Value:
        if not isinstance(value, time):
            refuse("time", value)
        if value.tzinfo is not None:
            raise ValidationError("a time of day with a tzinfo has no order; store a datetime, or the zone beside it")
        return time.isoformat(value)

    def load(self, value: Value) -> time:
        return _from_iso(time, value)  # type: ignore[no-any-return]

    def sample(self, name: str, number: int) -> time:
        return (datetime.min + timedelta(seconds=number)).time()


@total
class TimedeltaType(ColumnType[timedelta]):
    """A duration as milliseconds in a float64, exact to the microsecond; beyond 285 years refused."""

    name = "timedelta"
    validator = schema.Number()
    mutable = False

    def dump(self, value: timedelta) -> Value:
        if not isinstance(value, timedelta) or value != value:
            refuse("timedelta", value)
        if getattr(value, "nanoseconds", 0):  # pandas.Timedelta
            raise ValidationError("a duration with nanoseconds would be rounded; round it to microseconds")
        microseconds = value // _MICROSECOND
        if not -_MOST_MICROSECONDS <= microseconds <= _MOST_MICROSECONDS:
            raise ValidationError("a timedelta beyond 285 years does not fit a number (float64) to the microsecond")
        return microseconds / 1000

    def load(self, value: Value) -> timedelta:
        kind = type(value)
        if kind is not float and kind is not int:
            refuse("timedelta (a number)", value)
        try:
            whole = int(value)
            return timedelta(milliseconds=whole, microseconds=round((value - whole) * 1000))
        except (OverflowError, ValueError):
            raise ValidationError("expected timedelta, got a number that is none") from None

    def sample(self, name: str, number: int) -> timedelta:
        return timedelta(seconds=number)
