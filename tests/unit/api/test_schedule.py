"""Schedules and pace of scaling as users write them."""

from typing import Any

import pytest
from pydantic import ValidationError

from conch.api.service import Aggressiveness, Scaling

PEAK = {"start": "0 8 * * 1-5", "end": "10h", "minReplicas": 4}


def scaling(**fields: Any) -> Scaling:
    return Scaling.model_validate({"maxReplicas": 8, **fields})


def peak(**fields: Any) -> Scaling:
    return scaling(schedules=[{**PEAK, **fields}])


def test_defaults_need_no_tuning() -> None:
    plain = Scaling()
    assert (plain.schedules, plain.paused) == ([], False)
    assert plain.aggressiveness.allowed_late == 0.001
    assert plain.seconds("scale_up_cooldown") == plain.seconds("scale_down_cooldown") == 0


def test_the_more_cautious_the_fewer_may_be_late() -> None:
    shares = [a.allowed_late for a in Aggressiveness]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    "cron",
    ["*/5 * * * *", "0 8,12 1-15 * MON", "0 8 L * *", "0 8 LW * *", "0 8 * dec 5#2", "0 8 * * 5L"],
)
def test_cron_as_people_write_it(cron: str) -> None:
    assert peak(start=cron, end="30m").schedules[0].start == cron


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"start": "0 8 * *"}, "five fields"),
        ({"start": "@daily"}, "five fields"),
        ({"start": "60 8 * * *"}, "five fields"),
        ({"start": "0 8 * * 1-5\n"}, "five fields"),
        ({"start": "0 22-6 * * *"}, "is no cron: bad hour"),
        ({"start": "0 0 31 2 *"}, "is no cron: bad day-of-month"),
        ({"end": "0s"}, "more than zero"),
        ({"end": "8"}, "is not a duration"),
        ({"end": "0 25 * * *"}, "five fields"),
        ({"end": PEAK["start"]}, "start and end are the same"),
        ({"timeZone": "Berlin"}, "IANA name"),
        ({"timeZone": "Europe"}, "IANA name"),
        ({"timeZone": "../etc/passwd"}, "IANA name"),
        ({"minReplicas": 9}, "raise maxReplicas"),
        ({"minReplicas": 0}, "greater than or equal to 1"),
    ],
    ids=repr,
)
def test_what_is_none_is_refused_in_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        peak(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"minReplicas": 9}, "may not exceed maxReplicas"),
        ({"maxReplicas": None, "schedules": [PEAK]}, "unset: minReplicas"),
        ({"window": "0s"}, "between 1s and 24h"),
        ({"window": "999ms"}, "between 1s and 24h"),
        ({"scaleDownWindow": "0s"}, "between 1s and 24h"),
        ({"scaleDownWindow": "25h"}, "between 1s and 24h"),
        ({"scaleUpCooldown": "25h"}, "at most 24h"),
        ({"scaleDownCooldown": "-1s"}, "is not a duration"),
        ({"aggressiveness": "Reckless"}, "Economical"),
    ],
    ids=repr,
)
def test_contradictions_are_refused_in_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        scaling(**fields)
