"""A service sleeps while nobody asks, wakes when somebody does, and silence is no answer."""

from dataclasses import replace
from typing import Any

import pytest

from conch.api.conditions import Reason
from conch.decisions.scaling import ScalingState, ServiceLoad
from conch.decisions.scaling.gaps import asked
from conch.decisions.scaling.season import BUCKET
from tests.unit.decisions.scaling.story import Story, story

L = 20.0
WINDOW = 60.0
"""Of the way down."""


def sleeper(**load: Any) -> Story:
    """Return a service that fell asleep, after an hour of work and one of rest."""
    given: dict[str, Any] = {"minimum": 0, "may_sleep": True, "scale_down_window": WINDOW, **load}
    tale = story(ready=1, **given)
    tale.run(5.0, 600)
    tale.run(0.0, 1200)
    assert tale.held == 0
    return tale


def told(tale: Story, **load: Any) -> None:
    """Whoever holds requests tells something else from now on."""
    tale.load = replace(tale.load, **load)


def ask(tale: Story, seconds: float = 0.0) -> list[int]:
    """Let somebody ask so long ago, and a tick pass."""
    told(tale, asked_ago=seconds)
    return tale.run(0.0, tale.tick, blind=not tale.held)


def rest(tale: Story, seconds: float, *, since: float) -> list[int]:
    """Let time pass in which nobody asks again; ``since`` is when somebody did, last."""
    found = []
    for _ in range(round(seconds / tale.tick)):
        told(tale, asked_ago=tale.now + tale.tick - since)
        found += tale.run(0.0, tale.tick)
    return found


def test_sleep_is_told_as_what_is_wished_for_and_no_trouble() -> None:
    tale = sleeper()
    told(tale, unavailable="Prometheus can't be reached")
    tale.run(0.0, 300, blind=True)
    last = tale.last
    assert (last.replicas, last.wished, last.reason, last.active) == (
        0,
        0,
        Reason.SCALED_TO_ZERO,
        True,
    )
    assert "the front door holds the next request" in last.message
    assert "report" not in last.message


def test_a_request_that_waits_wakes_it_at_once_whatever_metrics_say() -> None:
    tale = sleeper()
    told(tale, held_back=1.0, unavailable="Prometheus can't be reached")
    assert tale.run(0.0, 5, blind=True) == [1]
    assert (tale.last.reason, tale.last.active) == (Reason.SCALING, True)
    assert tale.last.message == "requests wait at the front door for a replica: 1 replica wanted"


def test_who_asked_and_gave_up_wakes_it_too() -> None:
    tale = sleeper()
    assert ask(tale, 3.0) == [1]


def test_a_woken_service_stays_for_a_whole_window_and_sleeps_again() -> None:
    tale = sleeper()
    ask(tale)
    began = tale.now
    stayed = rest(tale, WINDOW - tale.tick, since=began)
    assert set(stayed) == {1}
    assert rest(tale, 20 * L, since=began)[-1] == 0
    assert set(rest(tale, 600, since=began)) == {0}, "who asked before it slept wakes nobody"


@pytest.mark.parametrize("blind", [True, False])
def test_what_its_last_replica_leaves_behind_for_a_moment_does_not_wake_it(*, blind: bool) -> None:
    tale = sleeper()
    tale.pools[0].starting = [tale.now + 3600]
    tale.obeyed = False
    assert set(tale.run(0.0, 600, blind=blind)) == {0}
    assert tale.last.reason is Reason.SCALED_TO_ZERO
    told(tale, held_back=1.0)
    assert tale.run(0.0, 5, blind=blind) == [1]
    told(tale, held_back=0.0)
    assert tale.run(0.0, 5, blind=blind) == [1], "now it is one that is wished for"


def test_so_it_is_for_an_operator_that_begins_anew() -> None:
    tale = story(ready=0, minimum=0, may_sleep=True, slept=True)
    tale.pools[0].starting = [tale.now + 3600]
    tale.obeyed = False
    assert set(tale.run(0.0, 20, blind=True)) == {0}


def test_it_stays_for_a_window_though_gaps_say_that_the_next_request_is_far_away() -> None:
    tale = sleeper()
    for _ in range(5):
        told(tale, asked_ago=None)
        tale.run(0.0, 7200, blind=True)
        ask(tale)
        began = tale.now
        assert set(rest(tale, WINDOW - tale.tick, since=began)) == {1}
        assert rest(tale, 20 * L, since=began)[-1] == 0
    ask(tale)
    assert rest(tale, 2 * WINDOW, since=tale.now)[-1] == 0, "gaps were learned from wakes"


def test_without_wakes_such_gaps_would_not_be_known() -> None:
    once = sleeper()
    once.run(0.0, 7200, blind=True)
    ask(once)
    assert rest(once, 2 * WINDOW, since=once.now)[-1] == 1


def test_what_waits_is_a_backlog_to_work_off() -> None:
    tale = sleeper()
    told(tale, held_back=900.0)
    assert tale.run(0.0, 5, blind=True) == [4]  # 30 items a second, of which one serves 9.5
    told(tale, held_back=40_000.0)
    assert tale.run(0.0, 5, blind=True) == [8]


def test_what_waits_counts_once() -> None:
    """While replicas answer it is in their metrics."""
    tale = story(ready=1, minimum=0, may_sleep=True, held_back=900.0)
    assert set(tale.run(5.0, 60)) == {1}


def test_what_was_learned_survives_a_sleep() -> None:
    tale = sleeper()
    before = tale.state
    tale.run(0.0, 3000, blind=True)
    after = tale.state
    assert (after.margin, after.fits) == (before.margin, before.fits)
    assert after.season.bucket == int(tale.now // BUCKET)
    assert after.season.past[-2:] == (0.0, 0.0), "nobody asked, that is known"


def test_of_a_silent_front_door_no_load_is_known() -> None:
    tale = sleeper()
    before = tale.state.season
    told(tale, deaf=0.0)
    tale.run(0.0, 3000, blind=True)
    assert tale.state.season == before


@pytest.mark.parametrize("deaf", [0.0, 5.0, 600.0])
def test_nothing_falls_asleep_that_might_be_asked_unheard(deaf: float) -> None:
    tale = story(ready=1, minimum=0, may_sleep=True, scale_down_window=WINDOW, deaf=deaf)
    tale.run(5.0, 600)
    tale.run(0.0, 3600)
    assert tale.held == 1
    assert "one stays: the front door does not report" in tale.last.message
    told(tale, deaf=None)
    tale.run(0.0, 5)
    assert tale.held == 0


def test_silence_wakes_what_sleeps_once_it_lasts() -> None:
    tale = sleeper()
    told(tale, deaf=60.0)
    assert set(tale.run(0.0, 60, blind=True)) == {0}
    assert "it does not report now" in tale.last.message
    told(tale, deaf=60.1)
    assert tale.run(0.0, 5, blind=True) == [1]
    assert tale.last.message.startswith("the front door does not report, so nobody knows who asks")


def test_silence_asks_for_nothing_beyond_what_is_free() -> None:
    tale = sleeper()
    for pool in tale.pools:
        pool.gpus = 0
    told(tale, deaf=600.0)
    assert tale.run(0.0, 60, blind=True)[-1] == 0
    assert tale.last.wished == 0
    told(tale, held_back=1.0)
    tale.run(0.0, 5, blind=True)
    assert (tale.last.wished, tale.last.reason) == (1, Reason.LIMITED_BY_CAPACITY)
    assert "can be had" in tale.last.message


def test_being_without_replicas_is_no_sleep() -> None:
    """A new service proves first that its model loads; one that lost its replicas gets them back."""
    tale = story(ready=0, minimum=0, may_sleep=True)
    assert tale.run(0.0, 5, blind=True) == [1]
    tale = sleeper()
    tale.state = ScalingState()
    assert tale.run(0.0, 5, blind=True) == [1]


def test_an_operator_that_begins_anew_lets_sleep_what_slept() -> None:
    tale = sleeper()
    tale.state = ScalingState()
    told(tale, slept=True, asked_ago=40.0)
    assert tale.run(0.0, 5, blind=True) == [0]
    told(tale, asked_ago=5.0)
    tale.state = ScalingState()
    assert tale.run(0.0, 5, blind=True) == [1]
    told(tale, asked_ago=15.0)
    assert tale.run(0.0, 5, blind=True) == [1], "its status says for a moment that it slept"


def test_a_wake_keeps_to_the_bounds_and_brings_standby() -> None:
    tale = sleeper(standby=1)
    told(tale, held_back=1.0)
    assert tale.run(0.0, 5, blind=True) == [2]
    tale = sleeper(maximum=2)
    told(tale, held_back=40_000.0)
    assert tale.run(0.0, 5, blind=True) == [2]


def test_nobody_who_may_not_sleep_is_told_of_it() -> None:
    load = ServiceLoad(pools=(), minimum=1, may_sleep=False, deaf=600.0, asked_ago=0.0)
    tale = story(ready=1, deaf=load.deaf, asked_ago=load.asked_ago)
    tale.run(5.0, 60)
    assert "front door" not in tale.last.message
    assert tale.state.gaps == ScalingState().gaps


def test_gaps_end_when_somebody_asks() -> None:
    tale = sleeper()
    last = tale.state.gaps.asked_at
    assert last is not None
    tale.run(0.0, 3600, blind=True)
    ask(tale, 2.0)
    assert tale.state.gaps == asked(
        replace(tale.state.gaps, weights=(0.0,) * 14, asked_at=last), tale.now - 2.0
    )
