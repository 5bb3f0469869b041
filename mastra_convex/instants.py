"""Instants, as rows hold them: UTC, in JavaScript's milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["in_milliseconds", "now"]


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
