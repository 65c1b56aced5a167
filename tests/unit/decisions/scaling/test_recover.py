"""A restart amid a story: what is remembered, and what is not."""

import math
from dataclasses import replace

import pytest

from conch.decisions.scaling import PoolLoad, ScalingState
from conch.decisions.scaling.margin import BETA, WORST, Margin
from conch.decisions.scaling.recover import margin_of, recovered, shown
from conch.decisions.scaling.season import Season, remembered
from conch.decisions.scaling.state import Said
from tests.unit.decisions.scaling.story import A100, Story, signals, story

TICK = 15.0
LEARNED = Margin(variance=0.25, dispersion=3.0, beta=2.5, peak=90.0, watched=40_000.0)


def restarted(
    tale: Story,
    rate: float,
    *,
    minutes: float,
    back: float = 0.0,
    learned: Margin | None = None,
) -> ScalingState:
    """Return what a new operator knows of ``minutes`` at this rate, up to ``back`` seconds ago."""
    steps = int(minutes * 60 / TICK)
    ready = tale.held
    pool = PoolLoad("a", A100, ready=ready, starting=0, room=0, signals=None)
    seen = replace(pool, signals=signals(rate, pods=ready))
    end = tale.now - back
    load = replace(tale.load, pools=(seen,))
    times = [end - n * TICK for n in reversed(range(steps))]
    return recovered([(time, load) for time in times], ScalingState(), learned)


def test_less_load_for_a_whole_window_before_the_restart_counts() -> None:
    tale = story(ready=3)
    tale.state = restarted(tale, 1.0, minutes=10)
    assert tale.run(1.0, 5) == [2]


@pytest.mark.parametrize("minutes", [0, 2])
def test_less_than_a_window_does_not(minutes: float) -> None:
    tale = story(ready=3)
    tale.state = restarted(tale, 1.0, minutes=minutes)
    assert tale.run(1.0, 5) == [3]


def test_nor_a_past_that_ended_long_ago() -> None:
    tale = story(ready=3)
    tale.state = restarted(tale, 1.0, minutes=10, back=200)
    assert tale.run(1.0, 5) == [3]


def test_a_load_within_the_window_keeps_its_replicas() -> None:
    tale = story(ready=3)
    tale.state = restarted(tale, 20.0, minutes=10)
    assert set(tale.run(1.0, 120)) == {3}


def test_what_was_known_of_the_model_stays_and_nothing_was_said() -> None:
    tale = story(ready=3)
    found = restarted(tale, 15.0, minutes=10)
    assert (found.fits, found.said) == ({}, Said())
    assert found.samples


def test_without_signals_nothing_is_remembered() -> None:
    load = story(ready=3).load
    silent = replace(load, pools=(PoolLoad("a", A100, ready=3, starting=0, room=0, signals=None),))
    assert recovered([(1.0, silent), (2.0, silent)], ScalingState()) == ScalingState()


def test_what_was_shown_of_a_margin_makes_it_again() -> None:
    assert margin_of(shown(LEARNED)) == LEARNED
    assert shown(Margin()) == {}


@pytest.mark.parametrize("name", shown(LEARNED))
@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_figures_that_are_none_make_no_margin(name: str, value: float | None) -> None:
    figures = {n: v for n, v in shown(LEARNED).items() if n != name}
    assert margin_of(figures if value is None else {**figures, name: value}) is None


@pytest.mark.parametrize("value", [-1e9, 1e9])
def test_figures_are_kept_within_bounds(value: float) -> None:
    found = margin_of(dict.fromkeys(shown(LEARNED), value))
    assert found is not None
    assert BETA[0] <= found.beta <= BETA[1]
    assert 0 <= found.variance <= WORST
    assert min(found.dispersion, found.peak, found.watched) >= 0


def test_what_was_learned_is_not_learned_twice() -> None:
    tale = story(ready=3)
    found = restarted(tale, 20.0, minutes=10, learned=LEARNED).margin
    assert (found.beta, found.variance, found.peak, found.watched) == (2.5, 0.25, 90.0, 40_000.0)
    assert found.forecasts
    assert found.dispersion < LEARNED.dispersion


def test_a_higher_peak_of_the_last_minutes_counts() -> None:
    low = replace(LEARNED, peak=5.0)
    assert restarted(story(ready=3), 20.0, minutes=10, learned=low).margin.peak == 20.0


def test_without_a_past_what_was_learned_counts_alone() -> None:
    state = ScalingState(margin=Margin(forecasts=((1.0, 5.0),), beta=0.1))
    assert recovered([], state, LEARNED).margin == replace(LEARNED, forecasts=((1.0, 5.0),))


def test_a_load_that_leaps_finds_after_the_restart_what_it_had_before() -> None:
    """The learned margin keeps more ready than one that begins."""
    wishes = []
    for learned in (None, replace(LEARNED, beta=1.0)):
        tale = story(ready=3)
        tale.state = restarted(tale, 13.0, minutes=10, learned=learned)
        wishes.append(tale.run(13.0, 5)[-1])
    assert wishes[0] < wishes[1]


def test_the_days_before_go_on_with_what_the_minutes_told() -> None:
    days = remembered([4.0] * 200, 480)
    minutes = replace(ScalingState(), season=Season(bucket=480, peak=9.0))
    assert recovered([], minutes, None, days).season == replace(days, peak=9.0)
    assert recovered([], ScalingState(), None, days).season == days
