"""Pauses, cool-downs and floors, told minute by minute."""

import itertools
from dataclasses import replace

from conch.api.conditions import Reason
from conch.decisions.scaling import ScalingState, decide
from tests.unit.decisions.scaling.story import Story, story

FLOOD, QUIET = 30.0, 1.0


def paused(tale: Story, kept: int) -> Story:
    tale.load = replace(tale.load, kept=kept)
    return tale


def test_a_paused_service_keeps_what_it_has_and_says_what_it_would_have() -> None:
    tale = paused(story(ready=2), 2)
    assert set(tale.run(FLOOD, 60)) == {2}
    assert (tale.last.reason, tale.last.active) == (Reason.PAUSED, False)
    assert tale.last.message.startswith("spec.scaling.paused: 2 replicas stay, the load would make")


def test_nor_does_it_shrink_nor_heed_its_bounds() -> None:
    tale = paused(story(ready=3, scale_down_window=10.0, maximum=2), 3)
    assert set(tale.run(QUIET, 300)) == {3}


def test_what_is_measured_meanwhile_is_learned() -> None:
    tale = paused(story(ready=2, profiles=False), 2)
    tale.run(12.0, 120)
    assert tale.state.fits


def test_after_the_pause_the_load_decides_again() -> None:
    tale = paused(story(ready=1), 1)
    tale.run(FLOOD, 60)
    tale.load = replace(tale.load, kept=None)
    assert tale.run(FLOOD, 15)[-1] > 1


def test_paused_goes_before_spec_replicas() -> None:
    load = replace(story(ready=2).load, pools=(), kept=2, fixed=5)
    decision = decide(load, ScalingState(), 0.0)
    assert decision.wished == 2
    assert "spec.replicas would make it 5" in decision.message


def steps(told: list[int], tick: float = 5.0) -> list[tuple[float, int]]:
    """Return when the number changed, and to what."""
    pairs = enumerate(itertools.pairwise(told), start=1)
    return [(n * tick, after) for n, (before, after) in pairs if after != before]


def shortest(told: list[int]) -> float:
    """Return the shortest time between two steps."""
    times = [time for time, _ in steps(told)]
    return min(later - earlier for earlier, later in itertools.pairwise(times))


def growing(cooldown: float) -> list[int]:
    tale = story(ready=1, up_cooldown=cooldown, gpus=8, load_seconds=1.0)
    return tale.run(8.0, 60) + tale.run(16.0, 60) + tale.run(40.0, 240)


def test_steps_up_are_no_closer_than_the_cool_down() -> None:
    assert shortest(growing(120.0)) >= 120.0
    assert shortest(growing(0.0)) < 120.0


def test_a_cool_down_says_so() -> None:
    tale = story(ready=1, up_cooldown=600.0, gpus=8, load_seconds=1.0)
    tale.run(16.0, 60)
    tale.run(40.0, 60)
    assert "until scaleUpCooldown of 600 s is over" in tale.last.message


def test_the_least_replicas_wait_for_no_cool_down() -> None:
    tale = story(ready=1, up_cooldown=600.0, gpus=8, load_seconds=1.0)
    tale.run(16.0, 60)
    tale.load = replace(tale.load, minimum=7)
    assert tale.run(16.0, 5) == [7]


def shrinking(cooldown: float) -> list[int]:
    tale = story(ready=4, down_cooldown=cooldown, scale_down_window=10.0, load_seconds=1.0)
    told = tale.run(24.0, 120)
    for rate in (17.0, 10.0, 3.0):
        told += tale.run(rate, 90)
    return told + tale.run(1.0, 600)


def test_steps_down_are_no_closer_than_the_cool_down() -> None:
    assert shortest(shrinking(150.0)) >= 150.0
    assert shortest(shrinking(0.0)) < 150.0


def test_more_than_the_maximum_goes_at_once() -> None:
    tale = story(ready=4, down_cooldown=600.0, scale_down_window=10.0, load_seconds=1.0)
    tale.run(24.0, 120)
    tale.run(10.0, 120)
    tale.load = replace(tale.load, maximum=1)
    assert tale.run(10.0, 5) == [1]


def test_a_floor_that_is_the_reason_is_told() -> None:
    why = "schedule office hours: at least 3 until Mon 18:00 Europe/Berlin"
    tale = story(ready=3, minimum=3, floor_reason=why)
    tale.run(QUIET, 60)
    assert tale.last.message.endswith(why)
    tale.run(38.0, 60)
    assert tale.last.replicas > 3
    assert why not in tale.last.message


def test_a_floor_lifts_spec_replicas_and_is_told() -> None:
    tale = story(ready=3, minimum=3, fixed=1, floor_reason="schedule peak")
    tale.run(QUIET, 5)
    assert (tale.last.wished, tale.last.message.endswith("schedule peak")) == (3, True)
    tale.load = replace(tale.load, fixed=0)
    tale.run(QUIET, 5)
    assert (tale.last.wished, "peak" in tale.last.message) == (0, False)


def test_nothing_sleeps_while_nothing_can_wake_it_and_that_is_told() -> None:
    tale = story(ready=2, minimum=0, scale_down_window=10.0, load_seconds=1.0)
    assert tale.run(0.0, 600)[-1] == 1
    assert "minReplicas is 0, but one stays: no front door" in tale.last.message
    tale.run(18.0, 60)
    assert "front door" not in tale.last.message


def test_a_service_that_something_wakes_may_sleep() -> None:
    tale = story(ready=1, minimum=0, scale_down_window=10.0, load_seconds=1.0, may_sleep=True)
    assert tale.run(0.0, 3600)[-1] == 0


def test_spec_replicas_of_zero_stops_a_service_anyway() -> None:
    tale = story(ready=1, minimum=0, fixed=0)
    assert tale.run(0.0, 5) == [0]
    assert "front door" not in tale.last.message
