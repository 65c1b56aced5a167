"""A restart amid a story: what is remembered, and what is not."""

from dataclasses import replace

import pytest

from conch.decisions.scaling import PoolLoad, ScalingState
from conch.decisions.scaling.recover import recovered
from conch.decisions.scaling.state import Said
from tests.unit.decisions.scaling.story import A100, Story, signals, story

TICK = 15.0


def restarted(tale: Story, rate: float, *, minutes: float, back: float = 0.0) -> ScalingState:
    """Return what a new operator knows of ``minutes`` at this rate, up to ``back`` seconds ago."""
    steps = int(minutes * 60 / TICK)
    ready = tale.held
    pool = PoolLoad("a", A100, ready=ready, starting=0, room=0, signals=None)
    seen = replace(pool, signals=signals(rate, pods=ready))
    end = tale.now - back
    load = replace(tale.load, pools=(seen,))
    times = [end - n * TICK for n in reversed(range(steps))]
    return recovered([(time, load) for time in times], ScalingState())


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
