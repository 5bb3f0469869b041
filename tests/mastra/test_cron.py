"""Cron patterns: the dialect of Mastra's scheduler, and when one comes next."""

from __future__ import annotations

import json
import random
import subprocess
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from mastra_convex.cron import CronError, CronPattern, timezone_of
from tests.conftest import ROOT, node


def next_three(pattern: str, after: str, zone: str = "UTC") -> list[str]:
    moment: datetime | None = datetime.fromisoformat(after)
    found = []
    for _ in range(3):
        assert moment is not None
        moment = CronPattern.parse(pattern).after(moment, ZoneInfo(zone))
        if moment is None:
            break
        found.append(f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(":00"))
    return found


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("* * * * *", ["2026-03-01 12:01", "2026-03-01 12:02", "2026-03-01 12:03"]),
        ("*/5 */2 * * * *", ["2026-03-01 12:00:35", "2026-03-01 12:00:40", "2026-03-01 12:00:45"]),
        ("2-10/20 * * * *", ["2026-03-01 12:02", "2026-03-01 13:02", "2026-03-01 14:02"]),
        (" 00 09\t* * mon-FRI ", ["2026-03-02 09:00", "2026-03-03 09:00", "2026-03-04 09:00"]),
        ("0 0 * * FRI-SUN", ["2026-03-06 00:00", "2026-03-07 00:00", "2026-03-08 00:00"]),
        ("0 0 * * 7", ["2026-03-08 00:00", "2026-03-15 00:00", "2026-03-22 00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00", "2032-02-29 00:00", "2036-02-29 00:00"]),
        ("0 0 30 2 1", ["2027-02-01 00:00", "2027-02-08 00:00", "2027-02-15 00:00"]),
        ("0 0 ? * 1", ["2026-03-02 00:00", "2026-03-03 00:00", "2026-03-04 00:00"]),
        ("0 0 L * *", ["2026-03-31 00:00", "2026-04-30 00:00", "2026-05-31 00:00"]),
        ("0 0 LW * *", ["2026-03-31 00:00", "2026-04-30 00:00", "2026-05-29 00:00"]),
        ("0 0 15W,20 * *", ["2026-03-16 00:00", "2026-03-20 00:00", "2026-04-15 00:00"]),
        ("0 0 31W * *", ["2026-03-31 00:00", "2026-05-29 00:00", "2026-07-31 00:00"]),
        ("0 0 * * MON#2", ["2026-03-09 00:00", "2026-04-13 00:00", "2026-05-11 00:00"]),
        ("0 0 * * 5L", ["2026-03-27 00:00", "2026-04-24 00:00", "2026-05-29 00:00"]),
        ("0 0 * * 5#L", ["2026-03-27 00:00", "2026-04-24 00:00", "2026-05-29 00:00"]),
        ("0 0 0 1 1 * 2099", ["2099-01-01 00:00"]),
        ("0 0 0 1 1 * 2024", []),
        ("2099-01-01T06:07:08", ["2099-01-01 06:07:08"]),
        ("@weekly", ["2026-03-08 00:00", "2026-03-15 00:00", "2026-03-22 00:00"]),
        ("?/20 ?/12 * * *", ["2026-03-01 12:20", "2026-03-01 12:40", "2026-03-02 00:00"]),
        ("@HOURLY", ["2026-03-01 13:00", "2026-03-01 14:00", "2026-03-01 15:00"]),
    ],
)
def test_a_pattern_comes_when_the_npm_packages_scheduler_says(pattern: str, expected: list[str]) -> None:
    assert next_three(pattern, "2026-03-01T12:00:30Z") == expected


# -- where clocks are changed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "zone", "after", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["03-29 01:30", "03-30 00:30", "03-31 00:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", ["10-25 00:30", "10-26 01:30", "10-27 01:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45Z", ["10-26 01:30", "10-27 01:30", "10-28 01:30"]),
        ("0 * * * *", "America/New_York", "2026-11-01T04:30Z", ["11-01 05:00", "11-01 06:00", "11-01 07:00"]),
        ("*/20 * * * *", "Europe/Berlin", "2026-10-25T01:25Z", ["10-25 01:40", "10-25 02:00", "10-25 02:20"]),
        ("*/20 * * * *", "Europe/Berlin", "2026-10-25T00:30Z", ["10-25 00:40", "10-25 01:00", "10-25 01:20"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:50Z", ["03-29 01:00", "03-29 01:30", "03-29 02:00"]),
        ("15 2 * * 0", "Australia/Lord_Howe", "2026-10-03T12:00Z", ["10-03 15:45", "10-10 15:15", "10-17 15:15"]),
        ("15,30 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00Z", ["10-03 15:30", "10-03 15:45", "10-04 15:15"]),
        ("*/15 * * * *", "Australia/Lord_Howe", "2026-10-03T15:10Z", ["10-03 15:15", "10-03 15:30", "10-03 15:45"]),
    ],
)
def test_a_pattern_with_hours_of_its_own_comes_once_and_one_of_every_hour_follows_the_clock(
    pattern: str, zone: str, after: str, expected: list[str]
) -> None:
    assert [one.removeprefix("2026-") for one in next_three(pattern, after, zone)] == expected


ZONES = {
    "Europe/Berlin": ("2026-03-29T01:00Z", "2026-10-25T01:00Z"),
    "Australia/Lord_Howe": ("2026-10-03T15:30Z", "2027-04-03T15:00Z"),
    "America/Santiago": ("2026-09-06T04:00Z", "2027-04-04T03:00Z"),  # at midnight
    "Antarctica/Troll": ("2026-03-29T01:00Z", "2026-10-25T01:00Z"),  # by two hours
    "Asia/Kolkata": ("2026-03-29T01:00Z", "2026-10-25T01:00Z"),
}
"""Zones, and when their clocks are put forward and back."""


def some_field(chance: random.Random, least: int, most: int) -> str:
    low, step = chance.randint(least, most), chance.randint(2, (most - least) // 2)
    return chance.choice(["*", "*", str(low), f"*/{step}", f"{low}-{chance.randint(low, most)}", f"{low},{least},{most}"])


def numbers(field: str, least: int, most: int) -> set[int]:
    start, _, step = field.partition("/")
    if step:
        return set(range(least, most + 1, int(step)))
    low, _, high = start.partition("-")
    if high:
        return set(range(int(low), int(high) + 1))
    return set(range(least, most + 1)) if start == "*" else set(map(int, start.split(",")))


@pytest.mark.parametrize("zone", ZONES)
def test_around_a_change_of_the_clock_every_local_time_comes_when_it_should(zone: str) -> None:
    """Held to a list of all local minutes of five days, each with the instants that it stands for."""
    chance = random.Random(zone)
    for change in map(datetime.fromisoformat, ZONES[zone]):
        first = datetime.combine((change - timedelta(days=2)).date(), time())
        minutes = [first + timedelta(minutes=number) for number in range(5 * 1_440)]
        stand_for = [[one.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)] for one in minutes]
        for _ in range(25):
            minute, hour = some_field(chance, 0, 59), some_field(chance, 0, chance.choice([5, 23]))
            wanted = numbers(minute, 0, 59), numbers(hour, 0, 23)
            comes: list[datetime] = []
            for local, (one, two) in zip(minutes, stand_for, strict=True):
                if local.minute in wanted[0] and local.hour in wanted[1]:
                    clock = {one, two} if one <= two else set()
                    comes += clock if len(wanted[1]) == 24 else [one]
            for _ in range(4):
                after = change + timedelta(minutes=chance.randint(-1_500, 200), seconds=chance.choice([0, 30]))
                expected = min(one for one in comes if one > after)
                found = CronPattern.parse(f"{minute} {hour} * * *").after(after, ZoneInfo(zone))
                assert found == expected, (minute, hour, after)


CRONER = """
import { Cron } from "croner";
import { text } from "node:stream/consumers";
const cases = JSON.parse(await text(process.stdin));
console.log(JSON.stringify(cases.map(([pattern, timezone, after]) => {
  const found = new Cron(pattern, { timezone }).nextRun(new Date(after));
  return found === null ? null : found.toISOString();
})));
"""


def test_away_from_these_a_pattern_comes_when_croner_says() -> None:
    """The package that Mastra's scheduler reads the same rows with."""
    chance = random.Random(3)
    cases = []
    for _ in range(400):
        fields = [some_field(chance, 0, 59), some_field(chance, 0, 23)]
        fields += [chance.choice(["*", "*", some_field(chance, 1, 28), "L", "15W", "LW"])]
        fields += [chance.choice(["*", "*", some_field(chance, 1, 12), "MAR,DEC"])]
        fields += [chance.choice(["*", "*", some_field(chance, 0, 6), "FRI#2", "5L", "MON-WED"])]
        fields[:0] = [some_field(chance, 0, 59)] if chance.random() < 0.2 else []
        after = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=chance.randint(0, 400_000))
        cases.append((" ".join(fields), chance.choice(list(ZONES)), after.isoformat()))
    run = [node(), "--input-type=module", "--eval", CRONER]
    ended = subprocess.run(run, cwd=ROOT, check=True, input=json.dumps(cases), stdout=subprocess.PIPE, text=True)
    answers = json.loads(ended.stdout)
    compared = 0
    for (pattern, zone, start), answer in zip(cases, answers, strict=True):
        found = CronPattern.parse(pattern).after(datetime.fromisoformat(start), ZoneInfo(zone))
        expected = None if answer is None else datetime.fromisoformat(answer)
        changes = [datetime.fromisoformat(change) for change in ZONES[zone]]
        around = [datetime.fromisoformat(start), expected or changes[0] + timedelta(days=9)]
        if all(abs(one - change) > timedelta(days=1) for one in around for change in changes):
            assert found == expected, (pattern, zone, start)
            compared += 1
    assert compared > 350


def test_what_no_datetime_holds_does_not_come() -> None:
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Niue"):
        for moment in (datetime.max.replace(tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)):
            assert CronPattern.parse("* * * * *").after(moment, ZoneInfo(zone)) is None
    late = CronPattern.parse("0 0 1 1 *").after(datetime(9998, 6, 1, tzinfo=UTC), UTC)
    assert late == datetime(9999, 1, 1, tzinfo=UTC)


def test_the_next_time_is_always_later() -> None:
    moment = datetime(2026, 10, 24, tzinfo=UTC)
    for pattern in ("*/7 * * * *", "30 2 * * *", "0 */3 * * *"):
        for step in range(300):
            after = moment + timedelta(minutes=13 * step)
            found = CronPattern.parse(pattern).after(after, ZoneInfo("Europe/Berlin"))
            assert found is not None
            assert found > after


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "",
            "* * * *",
            "* * * * * * * *",
            "61 * * * *",
            "0 24 * * *",
            "0 0 0 * *",
            "0 0 32 * *",
            "0 0 * 13 *",
            "0 0 * * 8",
        ),
        *("0 0 LW,15 * *", "0 0 L,LW * *", "0 0 * * *L", "0 0 * * *#2", "* * * * * * */2", "* * * * * * *,2030"),
        *("0 0 1 JANUARY *", "10-5 * * * *", "*/0 * * * *", "*/61 * * * *", "5/15 * * * *", "/5 * * * *", "-5 * * * *"),
        *("1,2, * * * *", "1.5 * * * *", "H * * * *", "~ * * * *", "0 0 +15 * *", "0 0 L-3 * *", "0 0 W * *", "0 0 * * L"),
        *(
            "0 0 * * 1#6",
            "0 0 * * #1",
            "@reboot",
            "0 0 30 2 *",
            "0 0 31 2,4,6 *",
            "\u0665 * * * *",
            "9" * 5_000 + " * * * *",
        ),
    ],
)
def test_a_pattern_that_cannot_be_is_refused(pattern: str) -> None:
    with pytest.raises(CronError):
        CronPattern.parse(pattern)


@pytest.mark.parametrize(
    "name",
    [
        *("", "Mars/Base", "Europe", "../x", "local", "a\0b", "+01:00", "\ud800"),
        *("localtime", "LocalTime", "Factory", "posixrules", "right/UTC", "posix/Europe/Berlin"),
    ],
)
def test_a_timezone_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(CronError):
        timezone_of(name)


@pytest.mark.parametrize("name", ["Europe/Berlin", "europe/BERLIN", "utc", "US/Eastern", "Etc/GMT+5"])
def test_a_timezone_is_known_in_any_case(name: str) -> None:
    assert str(timezone_of(name)).lower() == name.lower()
