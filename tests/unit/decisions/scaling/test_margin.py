"""What is kept ready follows how much the load has surprised, and who was late."""

from dataclasses import replace

import numpy as np
import pytest

from conch.decisions.scaling.margin import (
    BETA,
    LEAST,
    OVER_PEAK,
    PEAK_KNOWN,
    Margin,
    dispersed,
    judged,
    late_share,
    surprised,
)

L = 45.0


def after(margin: Margin, loads: list[float], *, start: float = 0.0) -> Margin:
    for n, load in enumerate(loads):
        margin = surprised(
            margin,
            start + 5.0 * (n + 1),
            load=load,
            mean=load,
            load_seconds=L,
            seconds=5.0,
        )
    return margin


def test_a_steady_load_needs_the_least() -> None:
    margin = after(Margin(), [10.0] * 2000)
    assert margin.share == LEAST


def test_a_load_that_doubles_now_and_then_needs_more() -> None:
    margin = after(replace(Margin(), beta=1.0), ([10.0] * 120 + [20.0] * 120) * 4)
    assert margin.share > 0.1


def test_one_surprise_is_bounded() -> None:
    calm = after(Margin(), [10.0] * 1000)
    odd = after(calm, [1e9], start=5000.0)
    assert odd.variance < calm.variance + 0.01


def test_forecasts_are_those_of_one_load_time() -> None:
    margin = after(Margin(), [10.0] * 100)
    times = [time for time, _ in margin.forecasts]
    assert 500.0 - times[0] < L + L / 4
    assert len(times) < 12


def test_a_clock_that_goes_back_begins_anew() -> None:
    margin = after(after(Margin(), [10.0] * 50), [10.0], start=0.0)
    assert margin.forecasts == ((5.0, 10.0),)


def test_dispersion_is_that_of_the_arrivals() -> None:
    random = np.random.default_rng(1)
    margin = Margin()
    even = Margin()
    for _ in range(5000):
        one, two = 8 * random.poisson(20, 2) / 5.0
        margin = dispersed(margin, one, two, 5.0)
        one, two = random.poisson(160, 2) / 5.0
        even = dispersed(even, one, two, 5.0)
    assert margin.dispersion == pytest.approx(8.0, rel=0.5)
    assert even.dispersion == pytest.approx(1.0, rel=0.5)


def test_one_odd_sample_tells_little_of_dispersion() -> None:
    assert dispersed(Margin(), 10.0, 1e9, 5.0).dispersion < 1.5


def test_beta_rises_within_seconds_and_falls_within_hours() -> None:
    late = margin = Margin()
    for _ in range(4):
        late = judged(late, late=1.0, allowed=1e-3, seconds=5.0)
    assert late.beta == pytest.approx(margin.beta + 2.0)
    calm = late
    for _ in range(720):
        calm = judged(calm, late=0.0, allowed=1e-3, seconds=5.0)
    assert late.beta - 0.3 < calm.beta < late.beta - 0.1


def test_a_beta_rises_as_much_whatever_lies_between_two_scrapes() -> None:
    once = judged(Margin(), late=0.5, allowed=1e-3, seconds=30.0)
    often = Margin()
    for _ in range(6):
        often = judged(often, late=0.5, allowed=1e-3, seconds=5.0)
    assert once.beta == pytest.approx(often.beta)


def test_the_more_may_be_late_the_sooner_beta_falls() -> None:
    high = replace(Margin(), beta=4.0)
    fallen = [judged(high, late=0.0, allowed=a, seconds=60.0).beta for a in (1e-4, 1e-3, 1e-2)]
    assert fallen == sorted(fallen, reverse=True)
    assert fallen[0] > fallen[2]


def test_no_more_is_planned_for_than_ever_came() -> None:
    margin = after(replace(Margin(), beta=8.0), ([10.0] * 120 + [30.0] * 120) * 4)
    assert margin.share > 1.0
    assert margin.above(10.0) == 10.0 * (1.0 + margin.share)
    assert margin.above(30.0) == pytest.approx(OVER_PEAK * 30.0)
    assert margin.above(40.0) == 40.0


def test_how_high_a_load_goes_is_not_known_at_once() -> None:
    margin = after(replace(Margin(), beta=8.0), [10.0, 30.0] * 60)
    assert margin.watched < PEAK_KNOWN
    assert margin.above(30.0) == 30.0 * (1.0 + margin.share)


def test_a_peak_fades_within_days() -> None:
    high = after(Margin(), [100.0])
    low = high
    for n in range(2 * 1440):
        low = surprised(low, 10.0 + 60.0 * n, load=1.0, mean=1.0, load_seconds=L, seconds=60.0)
    assert 0.1 * high.peak < low.peak < 0.2 * high.peak


def test_beta_stays_within_its_bounds() -> None:
    worst = replace(Margin(), beta=BETA[1])
    assert judged(worst, late=1.0, allowed=0.0, seconds=1e9).beta == BETA[1]
    assert judged(Margin(), late=0.0, allowed=1.0, seconds=1e9).beta == BETA[0]


def test_fewer_may_be_late_than_wait() -> None:
    assert late_share(1.0, 0.0) == 0.0
    assert late_share(0.4, 0.1) < late_share(0.4, 0.4) < late_share(0.4, 4.0) < 1.0
