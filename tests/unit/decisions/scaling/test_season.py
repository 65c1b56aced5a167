"""What other days had at this hour counts once it has told more than the last quarter of an hour."""

import math

import numpy as np
import pytest

from conch.decisions.scaling.season import (
    BUCKET,
    DAY,
    DAYS,
    ENOUGH,
    Season,
    expected,
    passed,
    remembered,
)

SECONDS = DAY * BUCKET


def lived(days: list[list[float]], season: Season | None = None) -> tuple[Season, float]:
    """Return the season after days of loads by bucket, and the time at their end."""
    season, now = season or Season(), 0.0
    for day in days:
        for load in day:
            for part in (0.1, 0.5, 0.9):
                season = passed(season, now + part * BUCKET, load * part / 0.9)
            now += BUCKET
    return season, now


def office(high: float = 50.0, *, begins: int = 36, ends: int = 72) -> list[float]:
    """Return a day that steps up at nine and down at six."""
    return [high if begins <= n < ends else 5.0 for n in range(DAY)]


def test_a_step_of_every_day_is_expected_one_load_time_before() -> None:
    season, now = lived([office(), office(), office()[:36]])
    assert season.skill > 0.5
    season = passed(season, now - 60.0, 5.0)
    assert expected(season, now - 60.0, 45.0) == pytest.approx(5.0)
    assert expected(season, now - 30.0, 45.0) == pytest.approx(50.0)


def test_one_day_says_nothing_yet() -> None:
    season, now = lived([office(), office()[: int(ENOUGH) - 1]])
    assert season.skill == 0.0
    assert expected(season, now - 1.0, SECONDS) == 0.0


def test_a_load_without_a_daily_pattern_is_not_listened_to() -> None:
    random = np.random.default_rng(2)
    steps = random.normal(0.0, 3.0, 4 * DAY).cumsum()
    walk = (100.0 + steps - steps.min()).tolist()
    season, now = lived([walk])
    assert season.skill <= 0.0
    assert expected(season, now - 1.0, 60.0) == 0.0


def test_a_pattern_that_ends_loses_its_skill() -> None:
    days = [office()] * 4
    assert lived(days)[0].skill > 0.5
    quiet = [5.0] * DAY
    season, now = lived([*days, quiet, quiet])
    assert expected(season, now - 1.0, SECONDS) == 0.0


def test_one_odd_day_of_four_is_no_rule() -> None:
    season, now = lived([office(52.0), office(), office(), office(), office()[:35]])
    assert season.skill > 0.1
    assert expected(season, now - 1.0, 1.5 * BUCKET) == pytest.approx(50.0)


def test_days_without_data_are_unknown_and_not_quiet() -> None:
    season, now = lived([office(), office()])
    season = passed(season, now + 40 * BUCKET, 50.0)
    assert sum(map(math.isnan, season.past)) == 40
    assert len(season.past) <= DAYS * DAY
    far = passed(season, now + 40 * SECONDS, 7.0)
    assert all(map(math.isnan, far.past))
    assert expected(far, now + 40 * SECONDS, 60.0) == 0.0


def test_a_clock_that_goes_back_begins_anew() -> None:
    season, _ = lived([office(), office()])
    assert passed(season, 0.0, 3.0) == Season(bucket=0, peak=3.0)


def test_a_sample_that_is_no_peak_changes_nothing() -> None:
    season = passed(Season(), 10.0, 8.0)
    assert passed(season, 20.0, 7.0) is season


def test_days_that_are_remembered_are_as_if_they_had_passed() -> None:
    days = [office(52.0), office(), [math.nan] * DAY, office()[:70]]
    known = [load for day in days for load in day]
    season = remembered(known, len(known))
    assert expected(season, len(known) * BUCKET, BUCKET) == 52.0, "of two days the higher"
    whole, now = lived([office(52.0), office(), office()[:70]])
    same = remembered([*office(52.0), *office(), *office()[:70]], int(now // BUCKET))
    assert same.skill == pytest.approx(passed(whole, now, 1.0).skill)
    assert same.past == passed(whole, now, 1.0).past


def test_less_than_a_day_that_is_remembered_has_no_skill() -> None:
    assert remembered([1.0] * DAY, 7) == Season(bucket=7, past=(1.0,) * DAY)
    assert remembered([math.nan] * 4 * DAY, 7).skill == 0.0
