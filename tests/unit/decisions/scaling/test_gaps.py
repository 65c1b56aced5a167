"""A service sleeps once the next request is farther away than waking is worth."""

from dataclasses import replace

import pytest

from conch.decisions.scaling.gaps import BINS, CALLER, SHORTEST, Gaps, asked, may_sleep, remaining
from tests.unit.decisions.scaling.story import story

L = 30.0
PRICE = (1.0 + CALLER) * L


def after(*lengths: float) -> tuple[Gaps, float]:
    """Return the gaps after requests that so many seconds lay between, and the time of the last."""
    gaps, now = asked(Gaps(), 1000.0), 1000.0
    for length in lengths:
        now += length
        gaps = asked(gaps, now)
    return gaps, now


def test_an_unknown_service_stays_awake_for_as_long_as_waking_costs() -> None:
    gaps, now = after(5.0)
    assert not may_sleep(gaps, now + PRICE - 1.0, L)
    assert may_sleep(gaps, now + PRICE, L)


def test_long_gaps_let_it_sleep_at_once() -> None:
    gaps, now = after(*[7200.0] * 5)
    assert may_sleep(gaps, now + 1.0, L)


def test_short_gaps_keep_it_awake() -> None:
    gaps, now = after(*[200.0] * 30)
    assert not may_sleep(gaps, now + 150.0, L)


def test_a_gap_that_outlasts_the_short_ones_is_a_long_one() -> None:
    gaps, now = after(*[200.0] * 30, *[8_000.0] * 4)
    assert not may_sleep(gaps, now + 1.0, 300.0)
    assert may_sleep(gaps, now + 600.0, 300.0)


def test_what_remains_is_told_only_of_what_is_known() -> None:
    gaps, _ = after(*[200.0] * 30)
    assert remaining(gaps, 0.0) == pytest.approx(SHORTEST * 2.0**0.5 * 2.0)
    assert remaining(gaps, 500.0) is None
    assert remaining(Gaps(), 0.0) is None


def test_the_longest_gap_has_its_bin() -> None:
    gaps, _ = after(1e9)
    assert gaps.weights[BINS - 1] == 1.0


def test_requests_close_together_are_no_gap() -> None:
    gaps, now = after(*[SHORTEST - 1.0] * 10)
    assert sum(gaps.weights) == 0.0
    assert gaps.asked_at == now
    assert asked(gaps, now - 500.0).asked_at == now - 500.0, "the clock went back"


def test_the_last_replica_goes_and_comes_back_for_who_is_held() -> None:
    tale = story(ready=1, minimum=0, may_sleep=True, load_seconds=L)
    tale.run(5.0, 600)
    stayed = tale.run(0.0, PRICE - 30.0)
    assert set(stayed) == {1}
    assert tale.run(0.0, 400)[-1] == 0
    assert set(tale.run(0.0, 600, blind=True)) == {0}
    tale.load = replace(tale.load, held_back=1.0)
    assert tale.run(0.0, 5, blind=True) == [1]
    tale.load = replace(tale.load, held_back=0.0)
    assert set(tale.run(0.0, L, blind=True)) == {1}


def test_who_stands_by_goes_with_the_last_replica_that_works() -> None:
    tale = story(ready=2, minimum=0, may_sleep=True, standby=1, load_seconds=L)
    tale.load = replace(tale.load, scale_down_window=2 * L)
    tale.run(5.0, 600)
    assert set(tale.run(0.0, PRICE - 30.0)) == {2}
    told = tale.run(0.0, 400)
    assert set(told) == {2, 0}
