"""Cron patterns: the dialect of Mastra's scheduler, and when one comes next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from mastra_convex.cron import CronError, CronPattern, timezone_of


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
        ("@HOURLY", ["2026-03-01 13:00", "2026-03-01 14:00", "2026-03-01 15:00"]),
    ],
)
def test_a_pattern_comes_when_the_npm_packages_scheduler_says(pattern: str, expected: list[str]) -> None:
    assert next_three(pattern, "2026-03-01T12:00:30Z") == expected


@pytest.mark.parametrize(
    ("pattern", "zone", "after", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["2026-03-29 01:30", "2026-03-30 00:30", "2026-03-31 00:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", ["2026-10-25 00:30", "2026-10-26 01:30", "2026-10-27 01:30"]),
        (
            "0 * * * *",
            "America/New_York",
            "2026-11-01T04:30Z",
            ["2026-11-01 05:00", "2026-11-01 07:00", "2026-11-01 08:00"],
        ),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:50Z",
            ["2026-03-29 01:00", "2026-03-29 01:30", "2026-03-29 02:00"],
        ),
        (
            "15 2 * * 0",
            "Australia/Lord_Howe",
            "2026-10-03T12:00Z",
            ["2026-10-03 15:45", "2026-10-10 15:15", "2026-10-17 15:15"],
        ),
    ],
)
def test_local_times_that_are_skipped_or_come_twice_come_once(
    pattern: str, zone: str, after: str, expected: list[str]
) -> None:
    assert next_three(pattern, after, zone) == expected


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


@pytest.mark.parametrize("name", ["", "Mars/Base", "Europe", "../x", "local", "a\0b"])
def test_a_timezone_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(CronError):
        timezone_of(name)
