"""Floors for known peaks.

Times of day are those of the schedule's zone. Where its summer time begins or ends, cron behaves
as Debian's does: a time that is skipped comes right after, and one that comes twice counts once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cronsim import CronSim

from conch.api.base import parse_duration
from conch.api.schedule import Schedule, is_duration, zone

_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Floor:
    """At least so many replicas, and why in words."""

    replicas: int
    reason: str


def floor(schedules: Iterable[Schedule], now: float, *, ahead: float = 0.0) -> Floor | None:
    """Return the highest floor that holds at ``now`` (s since the epoch), None without any.

    It holds from ``ahead`` seconds before its start, so that replicas are ready by then.
    """
    holding = [f for s in schedules if (f := _floor(s, now, ahead)) is not None]
    return max(holding, key=lambda f: f.replicas, default=None)


def _floor(schedule: Schedule, now: float, ahead: float) -> Floor | None:
    start = _last(schedule.start, schedule.time_zone, _minute(now + ahead))
    if start is None:
        return None
    end = _end(schedule, start)
    if end is None or now >= end:
        return None
    name = f"schedule {schedule.name}" if schedule.name else f"the schedule {schedule.start}"
    times = f"from {_told(start, schedule)} until {_told(end, schedule)}"
    return Floor(schedule.min_replicas, f"{name}: at least {schedule.min_replicas} {times}")


def _minute(time: float) -> int:
    """Return the whole minute of a time: cron knows no shorter ones."""
    return int(time // _MINUTE)


@lru_cache(maxsize=4096)
def _last(cron: str, time_zone: str, minute: int) -> float | None:
    """Return the last time of ``cron`` up to and with a minute, in seconds since the epoch."""
    # A microsecond after, since the search backwards leaves its own beginning out.
    moment = datetime.fromtimestamp(minute * _MINUTE + 1e-6, zone(time_zone))
    found = next(CronSim(cron, moment, reverse=True), None)
    return None if found is None else found.timestamp()


@lru_cache(maxsize=4096)
def _next(cron: str, time_zone: str, time: float) -> float | None:
    """Return the first time of ``cron`` after ``time``."""
    found = next(CronSim(cron, datetime.fromtimestamp(time, zone(time_zone))), None)
    return None if found is None else found.timestamp()


def _end(schedule: Schedule, start: float) -> float | None:
    if is_duration(schedule.end):
        return start + parse_duration(schedule.end)
    return _next(schedule.end, schedule.time_zone, start)


def _told(time: float, schedule: Schedule) -> str:
    moment = datetime.fromtimestamp(time, UTC).astimezone(zone(schedule.time_zone))
    return f"{moment:%a %H:%M} {schedule.time_zone}"
