"""Floors for known peaks: from when, until when, and how many replicas at least."""

import re
from datetime import UTC, datetime
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, model_validator

from conch.api.base import DURATION_WHOLE, KubeModel, cel, parse_duration, rule, rules


def _field(number: str, *others: str) -> str:
    """Return the expression of one field: numbers, ranges, steps, lists."""
    plain = rf"(\*|{number}(-{number})?)(/[1-9][0-9]?)?"
    item = "|".join((plain, *others))
    return rf"({item})(,({item}))*"


_MONTHS = "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_DAYS = "(?i:sun|mon|tue|wed|thu|fri|sat)"
CRON = (
    "^"
    + " +".join(
        (
            _field("[0-5]?[0-9]"),
            _field("([01]?[0-9]|2[0-3])"),
            _field("(0?[1-9]|[12][0-9]|3[01])", "LW?"),
            _field(f"(0?[1-9]|1[0-2]|{_MONTHS})"),
            _field(f"([0-7]|{_DAYS})", "[0-7]L", f"([0-7]|{_DAYS})#[1-5]"),
        )
    )
    + "$"
)
_CRON_WORDS = (
    "must be cron with five fields (minute, hour, day of month, month, day of week), such as "
    "0 8 * * 1-5"
)
_ZONE = r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$"
_ZONE_WORDS = "must be the IANA name of a time zone, such as Europe/Berlin or UTC"


def zone(name: str) -> ZoneInfo:
    """Return the time zone of an IANA name. Raises ValueError with a sentence for people."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # a directory of zones is no zone
        raise ValueError(f"{name!r} {_ZONE_WORDS}") from error


def _checked_zone(name: str) -> str:
    zone(name)
    return name


def _checked_cron(text: str) -> str:
    if not re.fullmatch(CRON.removeprefix("^").removesuffix("$"), text):
        raise ValueError(f"{text!r} {_CRON_WORDS}")
    try:
        next(CronSim(text, datetime(2000, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f"{text!r} is no cron: {str(error).lower()}") from error
    except StopIteration as error:
        raise ValueError(f"{text!r} never comes: there is no such day") from error
    return text


def is_duration(text: str) -> bool:
    """Tell whether the end of a schedule is a duration, not cron."""
    return " " not in text


def _checked_end(text: str) -> str:
    if not is_duration(text):
        return _checked_cron(text)
    if parse_duration(text) <= 0:
        raise ValueError("end: a duration of more than zero, such as 8h")
    return text


Cron = Annotated[
    str,
    AfterValidator(_checked_cron),
    Field(
        max_length=128,
        json_schema_extra=rules(rule(f"self.matches('{cel(CRON)}')", _CRON_WORDS)),
    ),
]
End = Annotated[
    str,
    AfterValidator(_checked_end),
    Field(
        max_length=128,
        json_schema_extra=rules(
            rule(
                f"self.matches('{cel(CRON)}') || "
                f"(self.matches('{cel(DURATION_WHOLE)}') && self.matches('[1-9]'))",
                "must be a duration of more than zero, such as 8h, or cron with five fields, such "
                "as 0 20 * * 1-5",
            )
        ),
    ),
]
TimeZone = Annotated[
    str,
    AfterValidator(_checked_zone),
    Field(
        min_length=1,
        max_length=64,
        json_schema_extra=rules(rule(f"self.matches('{cel(_ZONE)}')", _ZONE_WORDS)),
    ),
]


class Schedule(KubeModel):
    """At least so many replicas from start until end; ready in time for start."""

    model_config = {
        "json_schema_extra": rules(
            rule(
                "self.start != self.end",
                "start and end are the same: let end come later, or give a duration",
            )
        )
    }

    name: Annotated[str | None, Field(min_length=1, max_length=63)] = None
    """what messages call it"""
    start: Cron
    """cron: when the replicas are to be ready; they are asked for one load time before"""
    end: End
    """cron, or a duration from start: until when they stay"""
    time_zone: TimeZone = "UTC"
    """IANA name of the time zone that start and end are in; its summer time is followed"""
    min_replicas: Annotated[int, Field(ge=1, le=10000)]
    """never fewer replicas than these meanwhile"""

    @model_validator(mode="after")
    def _ends_later(self) -> Self:
        if self.start == self.end:
            raise ValueError("start and end are the same: let end come later")
        return self
