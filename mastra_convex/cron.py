"""Cron patterns: which there are, and when one comes next.

The dialect is that of `croner`, with which Mastra's scheduler reads the same rows: five fields, or six with seconds in
front, or seven with years behind; lists, ranges, steps of `*` and of ranges, names of months and days, `L`, `LW`, `15W`,
`FRI#2`, `FRI#L`, `FRIL`, nicknames such as `@daily`, and one local time as ISO text. Where both a day of the month and a
weekday are given, either is enough. No parser of Python's reads that dialect, so what one of them refuses may well fire.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import attrs

__all__ = ["CronError", "CronPattern", "timezone_of"]

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS = ("second", "minute", "hour", "day", "month", "weekday", "year")
_BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7), (1, 9999))
_YEAR = 6
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)", re.ASCII)
_ITEM = re.compile(r"(?:([*?])|(\d{1,4})(?:-(\d{1,4}))?)(?:/(\d{1,4}))?", re.ASCII)
_AROUND = timedelta(hours=25)
"""More than any clock was ever put back or forward."""
_LONGEST = 40
"""Years, within which every pattern comes that ever does: after 40 the 29th of February has been on each weekday."""


class CronError(ValueError):
    """A text that is no cron pattern, or a day that never comes."""


_NO_ZONES = frozenset(("localtime", "Factory"))
"""Names among those of zones that are whatever a machine is set to."""


def timezone_of(name: str | None) -> tzinfo:
    """The timezone with this name in the IANA database, in whatever case, UTC without one. Raises CronError for others.

    Files beside the database (`localtime`, `posixrules`, `right/…`) are no zones: other machines have none such, or others.
    """
    if name is None:
        return UTC
    known = _zones().get(name.lower())
    if known is None:
        raise CronError(
            "a timezone of the IANA database, such as 'Europe/Berlin' (`pip install tzdata` if this machine has none)"
        )
    return ZoneInfo(known)


@cache
def _zones() -> Mapping[str, str]:
    """The names of zones by the same in lower case, as the JavaScript of Mastra's scheduler looks them up."""
    return {name.lower(): name for name in available_timezones() - _NO_ZONES}


@attrs.frozen
class CronPattern:
    """What a pattern says. `days` and `weekdays` are None where a `*` leaves them open."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    months: frozenset[int]
    years: frozenset[int] | None
    days: Callable[[date], bool] | None
    weekdays: Callable[[date], bool] | None

    @classmethod
    def parse(cls, text: str) -> CronPattern:
        """The pattern of a text. Raises CronError, naming the field, also for a day that no month has."""
        words = text.strip()
        words = _NICKNAMES.get(words.lower(), words)
        moment = _ISO.fullmatch(words)
        if moment is not None:
            year, month, day, hour, minute, second = moment.groups()
            words = f"{second} {minute} {hour} {day} {month} * {year}"
        fields = words.upper().split()
        if len(fields) not in (5, 6, 7):
            raise CronError("a cron pattern of five, six or seven fields")
        fields = [*(["0"] if len(fields) == 5 else []), *fields, *(["*"] if len(fields) < 7 else [])]
        second, minute, hour, day, month, weekday, year = fields
        pattern = cls(
            _numbers(0, second),
            _numbers(1, minute),
            _numbers(2, hour),
            _numbers(4, _named(month, _MONTHS, 1)),
            None if year == "*" else _numbers(6, year),
            None if day == "*" else _days(day),
            None if weekday == "*" else _any_of(_named(weekday.replace("-SUN", "-7"), _DAYS, 0), _weekday),
        )
        if (
            next(pattern._dates(date(2000, 1, 1) if pattern.years is None else date(min(pattern.years), 1, 1)), None)
            is None
        ):
            raise CronError("no day is ever what the cron pattern says")
        return pattern

    def after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The first time after an instant, in UTC; None where there is none, or none that a datetime holds.

        A pattern with hours of its own comes once at each of its local times: one that is skipped in spring comes as much
        later, one that comes twice in autumn is its first. A pattern that comes in every hour follows the clock: what is
        skipped does not come, and what comes twice does.
        """
        try:
            return self._after(moment, zone)
        except OverflowError:
            return None

    def _after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        best: datetime | None = None
        # Around a change of the clock local times and instants are not in one order: what is as near is looked at, too.
        end = start = _local(moment, zone) - _shift(moment, zone)
        for local in self._times(start):
            if best is not None and local > end:
                break
            for found in self._instants(local, zone):
                if found > moment and (best is None or found < best):
                    best, end = found, _local(found, zone) + _shift(found, zone)
        return best

    def _times(self, start: datetime) -> Iterator[datetime]:
        """The local times it may come, from one on."""
        for day in self._dates(start.date()):
            for hour in sorted(self.hours):
                if datetime.combine(day, time(hour, 59, 59)) < start:
                    continue
                for minute in sorted(self.minutes):
                    for second in sorted(self.seconds):
                        local = datetime.combine(day, time(hour, minute, second))
                        if local >= start:
                            yield local

    def _instants(self, local: datetime, zone: tzinfo) -> Iterator[datetime]:
        """When it comes for a local time."""
        first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        every_hour = len(self.hours) == 24
        if first <= second or not every_hour:  # a skipped time is later on the clock before the change
            yield first
        if first < second and every_hour:
            yield second

    def _dates(self, start: date) -> Iterator[date]:
        """The days it may come, from one on, as far as there are any."""
        last = min(start.year + _LONGEST, 9999)
        for year in range(start.year, last + 1) if self.years is None else sorted(self.years):
            if year < start.year:
                continue
            for month in sorted(self.months):
                if (year, month) < (start.year, start.month):
                    continue
                for number in range(1, monthrange(year, month)[1] + 1):
                    day = date(year, month, number)
                    if day >= start and self._is_day(day):
                        yield day

    def _is_day(self, day: date) -> bool:
        if self.days is None or self.weekdays is None:
            return all(one is None or one(day) for one in (self.days, self.weekdays))
        return self.days(day) or self.weekdays(day)


def _local(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


def _shift(moment: datetime, zone: tzinfo) -> timedelta:
    """By how much the clock is changed around an instant."""
    offsets = [(moment + away).astimezone(zone).utcoffset() or timedelta() for away in (-_AROUND, timedelta(), _AROUND)]
    return max(offsets) - min(offsets)


def _numbers(field: int, text: str) -> frozenset[int]:
    if field == _YEAR and text[:1] in ("*", "?") and len(text) > 1:
        raise CronError("year: numbers from 1 to 9999, ranges, and steps of ranges, joined by commas, or *")
    return frozenset(number for item in text.split(",") for number in _item(field, item))


def _item(field: int, item: str) -> range:
    """The numbers of `*`, `5`, `1-5`, `*/5` and `1-30/5`."""
    least, most = _BOUNDS[field]
    found = _ITEM.fullmatch(item)
    if found is None:
        raise CronError(f"{_FIELDS[field]}: numbers from {least} to {most}, ranges, and steps of them, joined by commas")
    star, first, last, step = found.groups()
    start, end = (least, most) if star else (int(first), int(last or first))
    if not least <= start <= end <= most:
        raise CronError(f"{_FIELDS[field]}: from {least} to {most}, and ranges ascend")
    if step is not None and ((not star and last is None) or not 1 <= int(step) <= most - least + 1):
        raise CronError(f"{_FIELDS[field]}: a step from 1 to {most - least + 1} follows `*` or a range")
    return range(start, end + 1, int(step or 1))


def _named(text: str, names: tuple[str, ...], first: int) -> str:
    """Names of three letters as their numbers."""
    return re.sub("|".join(names), lambda found: str(names.index(found[0]) + first), text)


def _any_of(text: str, rule: Callable[[str], Callable[[date], bool]]) -> Callable[[date], bool]:
    rules = [rule(item) for item in text.split(",")]
    return lambda day: any(one(day) for one in rules)


def _days(text: str) -> Callable[[date], bool]:
    if "LW" in text.split(",")[1:] or text.startswith("LW,"):
        raise CronError("day: LW stands alone")
    return _any_of(text, _day)


def _day(item: str) -> Callable[[date], bool]:
    if item == "L":
        return lambda day: day.day == _length(day)
    if item == "LW":
        return lambda day: day == _nearest_weekday(day, _length(day))
    nearest = re.fullmatch(r"(\d{1,2})W", item, re.ASCII)
    if nearest is not None:
        (number,) = _item(3, nearest[1])
        return lambda day: number <= _length(day) and day == _nearest_weekday(day, number)
    numbers = frozenset(_item(3, item))
    return lambda day: day.day in numbers


def _weekday(item: str) -> Callable[[date], bool]:
    found = re.fullmatch(r"([\d-]+)(?:#([1-5L])|(L))", item)
    if found is not None:
        days, place, last = frozenset(number % 7 for number in _item(5, found[1])), found[2], found[3]
        if last or place == "L":
            return lambda day: day.isoweekday() % 7 in days and day.day + 7 > _length(day)
        return lambda day: day.isoweekday() % 7 in days and (day.day + 6) // 7 == int(place)
    numbers = frozenset(number % 7 for number in _item(5, item))
    return lambda day: day.isoweekday() % 7 in numbers


def _length(day: date) -> int:
    return monthrange(day.year, day.month)[1]


def _nearest_weekday(day: date, number: int) -> date:
    """The weekday from Monday to Friday nearest to a day of the month, in that month."""
    wanted = day.replace(day=number)
    if wanted.isoweekday() == 6:
        return wanted + timedelta(days=2) if number == 1 else wanted - timedelta(days=1)
    if wanted.isoweekday() == 7:
        return wanted - timedelta(days=2) if number == _length(day) else wanted + timedelta(days=1)
    return wanted
