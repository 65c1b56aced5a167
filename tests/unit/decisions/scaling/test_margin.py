"""What is kept ready follows how much the load has surprised, and who was late."""

from dataclasses import replace

import numpy as np
import pytest

from conch.decisions.scaling.margin import (
    BETA,
    LEAST,
    Margin,
    dispersed,
    judged,
    late_share,
    surprised,
)

L = 45.0


def after(margin: Margin, loads: list[float], *, noise: float = 0.0, start: float = 0.0) -> Margin:
    for n, load in enumerate(loads):
        margin = surprised(
            margin,
            start + 5.0 * (n + 1),
            load=load,
            noise=noise,
            mean=load,
            load_seconds=L,
            seconds=5.0,
        )
    return margin


def test_a_steady_load_needs_the_least() -> None:
    margin = after(Margin(), [10.0] * 2000)
    assert margin.share == LEAST


def test_a_load_that_doubles_now_and_then_needs_more() -> None:
    margin = after(Margin(), ([10.0] * 120 + [20.0] * 120) * 4)
    assert margin.share > 0.1


def test_what_chance_does_is_taken_off() -> None:
    random = np.random.default_rng(1)
    noise = 0.04
    loads = (10.0 * (1.0 + np.sqrt(noise / 2) * random.standard_normal(3000))).tolist()
    assert after(Margin(), loads).variance > 0.5 * noise / 2
    assert after(Margin(), loads, noise=noise).variance < 0.2 * noise


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


def test_beta_rises_at_once_and_falls_slowly() -> None:
    late = judged(Margin(), late=1.0, allowed=1e-3, seconds=5.0)
    assert late.beta > BETA[0] + 3
    calm = late
    for _ in range(720):
        calm = judged(calm, late=0.0, allowed=1e-3, seconds=5.0)
    assert BETA[0] < calm.beta < late.beta


def test_beta_stays_within_its_bounds() -> None:
    worst = replace(Margin(), beta=BETA[1])
    assert judged(worst, late=1.0, allowed=0.0, seconds=1e9).beta == BETA[1]
    assert judged(Margin(), late=0.0, allowed=1.0, seconds=1e9).beta == BETA[0]


def test_fewer_may_be_late_than_wait() -> None:
    assert late_share(1.0, 0.0) == 0.0
    assert late_share(0.4, 0.1) < late_share(0.4, 0.4) < late_share(0.4, 4.0) < 1.0
