"""Instants, as rows hold them: UTC, in JavaScript's milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["after", "in_milliseconds", "later", "now"]

LAST = datetime.max.replace(microsecond=999_000, tzinfo=UTC)
"""The last instant there is."""


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
    """`moment`, by default now, or a millisecond after what is stored where a clock that is ahead has written that; nothing
    is later than the last instant there is.

    A change that gives a record a later time than it was read with is refused, and made again, if another writer was
    faster: so no clock that is behind sets a record's time back.
    """
    moment = now() if moment is None else moment
    return moment if stored is None or moment > stored else after(stored, 1)


def after(moment: datetime, milliseconds: float) -> datetime:
    """So many milliseconds later, or the last instant there is."""
    try:
        return min(in_milliseconds(moment + timedelta(milliseconds=milliseconds)), LAST)
    except OverflowError:
        return LAST
