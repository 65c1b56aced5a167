"""Floors for known peaks, told by the clock."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from conch.api.schedule import Schedule
from conch.decisions.scaling.schedule import floor

BERLIN = "Europe/Berlin"


def schedule(start: str = "0 8 * * 1-5", end: str = "10h", **others: object) -> Schedule:
    fields = {"start": start, "end": end, "timeZone": BERLIN, "minReplicas": 4, **others}
    return Schedule.model_validate(fields)


def at(text: str, zone: str = BERLIN) -> float:
    """Return the seconds since the epoch of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def replicas(time: str, *schedules: Schedule, ahead: float = 0.0) -> int:
    found = floor(schedules or (schedule(),), at(time), ahead=ahead)
    return found.replicas if found else 0


def test_it_holds_from_start_until_end() -> None:
    # A Monday.
    assert replicas("2026-03-02T07:59:59") == 0
    assert replicas("2026-03-02T08:00:00") == 4
    assert replicas("2026-03-02T17:59:59") == 4
    assert replicas("2026-03-02T18:00:00") == 0


def test_not_on_days_that_it_leaves_out() -> None:
    assert replicas("2026-03-07T12:00:00") == 0


def test_it_begins_one_load_time_early_and_ends_on_time() -> None:
    assert replicas("2026-03-02T07:58:30", ahead=91) == 4
    assert replicas("2026-03-02T07:58:28", ahead=91) == 0
    assert replicas("2026-03-02T17:59:59", ahead=91) == 4
    assert replicas("2026-03-02T18:00:00", ahead=91) == 0


@pytest.mark.parametrize("end", ["0 20 * * *", "12h"])
def test_the_end_may_be_cron_or_a_duration(end: str) -> None:
    assert replicas("2026-03-02T19:59:00", schedule(end=end)) == 4
    assert replicas("2026-03-02T20:00:00", schedule(end=end)) == 0


def test_one_that_goes_over_midnight() -> None:
    night = schedule("0 22 * * 5", "0 6 * * *")
    assert replicas("2026-03-06T23:00:00", night) == 4
    assert replicas("2026-03-07T05:59:00", night) == 4
    assert replicas("2026-03-07T06:00:00", night) == 0


def test_of_several_the_highest_counts() -> None:
    both = (schedule(), schedule("0 9 * * *", "1h", minReplicas=7))
    assert [replicas(f"2026-03-02T{hour}:30:00", *both) for hour in ("08", "09", "10")] == [4, 7, 4]


def test_the_zone_is_the_schedules_and_utc_where_it_names_none() -> None:
    plain = Schedule.model_validate({"start": "0 8 * * *", "end": "1h", "minReplicas": 2})
    assert floor([plain], at("2026-07-01T08:30:00", "UTC"))
    assert not floor([plain], at("2026-07-01T08:30:00", BERLIN))


def test_summer_time_moves_it_with_the_clock_on_the_wall() -> None:
    assert replicas("2026-03-27T08:00:00") == 4  # winter: 07:00 UTC
    assert replicas("2026-03-30T08:00:00") == 4  # summer: 06:00 UTC
    assert at("2026-03-30T08:00:00") - at("2026-03-27T08:00:00") == 3 * 86400 - 3600


def test_an_hour_that_is_skipped_begins_right_after() -> None:
    # In Berlin, 2026-03-29 has no 02:30.
    early = schedule("30 2 * * *", "1h")
    assert floor([early], at("2026-03-29T01:59:00")) is None
    assert floor([early], at("2026-03-29T03:00:00")) is not None
    assert floor([early], at("2026-03-29T04:00:00")) is None


def test_an_hour_that_comes_twice_counts_once() -> None:
    early = schedule("30 2 * * *", "20m")
    first = at("2026-10-25T02:30:00")
    assert floor([early], first) is not None
    assert floor([early], first + 3600) is None


def test_the_reason_says_who_and_until_when() -> None:
    found = floor([schedule(name="office hours")], at("2026-03-02T12:00:00"))
    assert found
    assert found.reason == (
        "schedule office hours: at least 4 from Mon 08:00 Europe/Berlin until Mon 18:00 "
        "Europe/Berlin"
    )


def test_none_is_no_floor() -> None:
    assert floor([], 0.0) is None
