"""Instants, as rows hold them: UTC, in JavaScript's milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["in_milliseconds", "later", "now"]

_TICK = timedelta(milliseconds=1)


def in_milliseconds(moment: datetime) -> datetime:
    """An aware datetime in UTC, cut off to milliseconds."""
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:  # within a day of the first or the last instant there is
        return moment
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def now() -> datetime:
    """The time."""
    return in_milliseconds(datetime.now(UTC))


def later(stored: datetime | None, moment: datetime | None = None) -> datetime:
    """`moment`, by default now, or a millisecond after what is stored where a clock that is ahead has written that.

    A change that gives a record a later time than it was read with is refused, and made again, if another writer was
    faster: so no clock that is behind sets a record's time back.
    """
    moment = now() if moment is None else moment
    return moment if stored is None or moment > stored else stored + _TICK
