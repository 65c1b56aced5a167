"""Whole decisions, told minute by minute. A replica serves 10/s on A100 and 5/s on T4."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from conch.api.conditions import Reason
from conch.api.signals import Signals
from conch.decisions.scaling import (
    PoolLoad,
    ScalingState,
    ServiceLoad,
    decide,
    measured,
    state_from_profiles,
)
from conch.decisions.scaling.season import BUCKET, Season, expected
from tests.unit.decisions.scaling.story import A100, PROFILES, T4, Story, signals, story

NAN = float("nan")


def test_no_data_keeps_what_is_there() -> None:
    tale = story(ready=3)
    assert set(tale.run(0, 1200, blind=True)) == {3}
    assert (tale.last.reason, tale.last.active) == (Reason.NO_METRICS, None)
    assert "no fresh metrics" in tale.last.message


def test_the_callers_reason_for_no_data_is_what_users_read() -> None:
    tale = story(unavailable="Prometheus at http://p:9090 can't be reached")
    tale.run(0, 5, blind=True)
    assert "http://p:9090 can't be reached: 1 replica stays" in tale.last.message


def test_no_data_still_brings_up_the_minimum() -> None:
    tale = story(ready=1, minimum=3)
    assert tale.run(0, 5, blind=True) == [3]


def test_a_new_service_gets_its_first_replica_without_metrics() -> None:
    tale = story(ready=0)
    assert tale.run(0, 5, blind=True) == [1]
    assert "no replica is ready" in tale.last.message


def test_idle_replicas_go_after_a_whole_window_and_not_before() -> None:
    tale = story(ready=3)
    told = tale.run(0, 300)
    assert set(told) == {3}
    assert tale.run(0, 5) == [2]
    assert (tale.last.reason, tale.last.active) == (Reason.SCALING, True)


def test_the_way_down_is_slow() -> None:
    tale = story(ready=30, gpus=30, maximum=30)
    tale.run(0, 305)
    assert tale.held == 27, "a tenth at a time"
    told = tale.run(0, 600)
    falls = [(before, before - after) for before, after in pairwise(told) if before != after]
    assert 5 < len(falls) <= 600 / (0.05 * 300)
    assert all(gone == max(1, before // 10) for before, gone in falls)


def test_a_step_down_stands_while_it_is_carried_out() -> None:
    tale = story(ready=3)
    tale.run(0, 300)
    tale.obeyed = False
    assert tale.run(0, 5) == [2]
    assert tale.run(0, 5) == [2], "all three are still there"


def _seconds_down(tale: Story) -> int:
    """Return after how many seconds of hardly any load the first replica goes."""
    held = tale.held
    return 5 * next(n for n in range(1, 100) if tale.run(1.0, 5)[0] < held)


def test_a_calm_load_waits_for_a_part_of_the_window() -> None:
    tale = story(ready=4, gpus=30, maximum=30, scale_down_window=None)
    tale.run(30.0, 900)
    assert _seconds_down(tale) <= 60


def test_a_load_that_made_requests_late_waits_longer() -> None:
    tale = story(ready=4, gpus=30, maximum=30, scale_down_window=None)
    tale.run(30.0, 900)
    restless = replace(tale.state.margin, beta=4.0, variance=0.01)
    tale.state = replace(tale.state, margin=restless)
    tale.run(30.0, 900)
    assert _seconds_down(tale) >= 200


def test_a_load_that_nobody_has_watched_yet_is_not_calm() -> None:
    tale = story(ready=4, scale_down_window=None)
    assert set(tale.run(0, 280)) == {4}


def test_a_window_that_the_spec_names_is_kept() -> None:
    tale = story(ready=4, gpus=30, maximum=30, scale_down_window=120.0)
    tale.run(30.0, 900)
    assert 120 <= _seconds_down(tale) <= 130


def test_the_window_is_at_least_two_load_times() -> None:
    tale = story(ready=3, scale_down_window=10.0, load_seconds=60.0)
    assert set(tale.run(0, 120)) == {3}
    assert tale.run(0, 5) == [2]


def test_one_replica_stays_unless_something_holds_requests() -> None:
    tale = story(ready=1, minimum=0)
    tale.run(0, 600)
    assert tale.held == 1
    sleeper = story(ready=1, minimum=0, may_sleep=True)
    sleeper.run(0, 600)
    assert sleeper.held == 0


def test_standby_comes_on_top_of_what_the_load_asks_for() -> None:
    plain, safe = story(), story(standby=2)
    for tale in (plain, safe):
        tale.run(20, 3600)
    assert safe.held == plain.held + 2
    assert safe.last.message.endswith(f"{safe.held} replicas wanted, 2 of them as standby")
    assert "standby" not in plain.last.message


def test_standby_keeps_to_the_maximum() -> None:
    tale = story(standby=2, maximum=3)
    tale.run(20, 600)
    assert tale.held == 3
    assert tale.last.reason is Reason.AT_MAXIMUM


def test_standby_counts_from_one_replica_without_load_and_without_metrics() -> None:
    tale = story(ready=0, standby=1)
    assert tale.run(0, 5, blind=True) == [2]
    assert set(tale.run(0, 1200)) == {2}


def test_the_least_replicas_stand_by_too() -> None:
    tale = story(ready=4, minimum=4, standby=1)
    assert set(tale.run(1, 600)) == {4}


def test_of_an_unknown_model_standby_is_what_is_not_in_use() -> None:
    tale = story(ready=3, profiles=False, standby=1)
    tale.run(5, 600)
    assert tale.held == 2


def test_signs_of_too_few_bring_one_more_and_not_standby_again() -> None:
    tale = story(ready=3, profiles=False, standby=1)
    told = tale.run(40, 20)
    assert max(told) == 4, "the sign is answered by one, within a load time"


def test_nothing_stands_by_for_a_service_that_sleeps() -> None:
    tale = story(ready=2, minimum=0, may_sleep=True, standby=1, load_seconds=1.0)
    told = tale.run(0.0, 3600)
    assert told[-1] == 0
    assert 1 not in told
    tale.load = replace(tale.load, held_back=1.0)
    assert tale.run(0.0, 5, blind=True) == [2]


def test_spec_replicas_is_exact_whatever_stands_by() -> None:
    assert story(fixed=1, standby=2).run(0, 5) == [1]


def test_steady_load_settles_and_stays() -> None:
    tale = story()
    tale.run(20, 3600)
    # 20/s, and what is kept ready, of 10/s each.
    assert set(tale.run(20, 1200)) == {3}
    assert tale.log[-1].message == tale.log[-200].message


def test_a_ramp_is_followed_without_a_queue() -> None:
    tale = story(ready=1)
    for rate in range(5, 36, 1):
        tale.run(rate, 30)
    assert tale.held >= 4  # 35/s, and what is kept ready, of 10/s each
    assert tale.waiting == 0


def test_a_flood_acts_within_two_scrapes() -> None:
    tale = story(ready=1)
    tale.run(5, 300)
    first, second = tale.run(40, 10)
    assert second >= 5  # 40/s are all that 4 A100 can do
    assert first == 1 or 5 <= first <= second


def test_a_flood_that_queues_acts_at_the_first_scrape() -> None:
    tale = story(ready=1)
    tale.run(8, 300)
    assert tale.run(40, 5)[0] >= 5


def test_one_odd_sample_moves_nothing() -> None:
    tale = story(ready=2)
    tale.run(10, 600)
    assert tale.run(10, 5, inferences=4000.0, requests=4000.0) == [2]
    assert set(tale.run(10, 300)) == {2}


@pytest.mark.parametrize("odd", [{"pending": 1e6}, {"queue_seconds": 90.0}, {"failures": 1e5}])
def test_one_odd_signal_moves_nothing(odd: dict[str, Any]) -> None:
    tale = story(ready=2)
    tale.run(10, 600)
    tale.run(10, 5, **odd)
    assert set(tale.run(10, 300)) == {2}
    assert [d.replicas for d in tale.log if d.replicas != 2] == []


def test_the_same_scrape_seen_twice_confirms_nothing() -> None:
    tale = story(ready=1)
    tale.run(5, 300)
    tale.tick = 1.0
    # The sample that four more ticks see is one that an earlier tick has seen.
    told = [tale.run(5, 1, inferences=50.0, requests=50.0, age=float(n))[0] for n in range(5)]
    assert set(told) == {1}
    assert tale.run(5, 1, inferences=50.0, requests=50.0)[0] > 1


def test_a_few_pods_scraped_again_confirm_nothing_either() -> None:
    """One odd pod shows in each tick until it is scraped anew; the others come in between."""
    tale = story(ready=1)
    tale.run(5, 300)
    tale.tick = 1.0
    odd = {"inferences": 50.0, "requests": 50.0}
    told = [tale.run(5, 1, age=0.1, age_oldest=n + 0.5, **odd)[0] for n in range(5)]  # type: ignore[arg-type]
    assert set(told) == {1}


@pytest.mark.parametrize("number", [NAN, float("inf"), -1.0, 1e300])
def test_absurd_numbers_move_nothing_and_are_told(number: float) -> None:
    tale = story(ready=3)
    tale.run(20, 300)
    told = tale.run(0, 1200, requests=number)
    assert set(told) == {3}
    assert (tale.last.reason, tale.last.active) == (Reason.ABSURD_METRICS, None)
    assert set(tale.run(0, 300)) == {3}, "the window starts anew once the numbers are back"


def test_absurd_signals_are_explained_in_the_words_of_their_finder() -> None:
    tale = story(ready=1)
    tale.run(5, 5, absurd="queue time: nan")
    assert "queue time: nan" in tale.last.message


def test_replicas_that_report_nothing_keep_all() -> None:
    tale = story(ready=3)
    tale.run(20, 300)
    assert set(tale.run(0, 1200, pods_scraped=2)) == {3}
    assert tale.last.reason == Reason.PARTIAL_METRICS
    assert "1 of 3 ready replicas" in tale.last.message


def test_a_replica_that_has_just_become_ready_is_no_fault() -> None:
    tale = story(ready=3)
    tale.run(20, 300)
    tale.run(20, 10, pods_scraped=2)
    assert tale.last.reason == Reason.SCALING


def test_partial_metrics_still_grow() -> None:
    tale = story(ready=2)
    tale.run(10, 300)
    told = tale.run(35, 60, pods_scraped=1)
    assert max(told) >= 4


def test_stale_metrics_are_none() -> None:
    tale = story(ready=3)
    assert set(tale.run(0, 900, age=120.0)) == {3}
    assert tale.last.reason == Reason.NO_METRICS


def test_a_short_blind_moment_does_not_restart_the_window() -> None:
    tale = story(ready=3)
    tale.run(0, 150)
    tale.run(0, 10, blind=True)
    tale.run(0, 145)
    assert tale.held == 2


def test_a_blind_time_longer_than_a_short_window_takes_nothing() -> None:
    # The first answer after it stands alone, and every wish from before it is past the window.
    tale = story(ready=1, window=10.0, scale_down_window=10.0, load_seconds=1.0)
    tale.run(20, 60)
    held = tale.held
    assert held >= 3
    tale.run(20, 25, blind=True)
    assert min(tale.run(20, 60)) >= held


def test_a_long_blind_time_restarts_the_window() -> None:
    tale = story(ready=3)
    tale.run(0, 200)
    tale.run(0, 200, blind=True)
    assert set(tale.run(0, 300)) == {3}
    assert tale.run(0, 5) == [2]


def test_bounds_are_kept() -> None:
    tale = story(ready=1, minimum=2, maximum=3)
    tale.run(60, 300)
    assert {d.replicas for d in tale.log} <= {2, 3}
    assert tale.last.reason == Reason.AT_MAXIMUM
    assert "maxReplicas is 3" in tale.last.message
    tale.run(0, 1200)
    assert tale.held == 2


def test_a_lower_maximum_acts_at_once_as_it_is_the_users_word() -> None:
    tale = story(ready=4)
    tale.run(30, 100)
    tale.load = replace(tale.load, maximum=2)
    assert tale.run(30, 5, blind=True) == [2]


def test_what_does_not_fit_is_reported_and_not_asked_for() -> None:
    tale = story(ready=1, gpus=1)
    told = tale.run(50, 300)
    assert max(told) == 2  # one GPU in each pool
    assert tale.last.reason == Reason.LIMITED_BY_CAPACITY
    assert "2 can be had" in tale.last.message
    assert tale.last.wished == 8


def test_room_that_comes_is_used() -> None:
    tale = story(ready=1, gpus=1)
    tale.run(35, 100)
    tale.pools[0].gpus = 10
    tale.run(35, 100)
    assert tale.held >= 5
    assert tale.last.reason == Reason.SCALING


@pytest.mark.parametrize(("fixed", "expected"), [(0, 0), (1, 2), (5, 5), (50, 8)])
def test_fixed_replicas_within_the_bounds(fixed: int, expected: int) -> None:
    tale = story(ready=2, minimum=2, fixed=fixed)
    assert tale.run(100, 5) == [expected]
    assert (tale.last.reason, tale.last.active) == (Reason.FIXED_REPLICAS, False)


def test_fixed_replicas_that_do_not_fit() -> None:
    tale = story(ready=1, gpus=1, fixed=5)
    assert tale.run(0, 5) == [2]
    assert tale.last.reason == Reason.LIMITED_BY_CAPACITY


def test_an_unknown_model_grows_one_replica_a_load_time() -> None:
    tale = story(ready=1, profiles=False)
    tale.run(100, 100)
    sizes = [d.replicas for d in tale.log]
    assert sizes[0] <= 2
    grown = [n for n, (a, b) in enumerate(pairwise(sizes), 1) if b > a]
    assert all(sizes[n] - sizes[n - 1] == 1 for n in grown)
    assert all(later - earlier >= 4 for earlier, later in pairwise(grown))
    assert sizes[-1] >= 4


def test_an_unknown_model_is_learned_and_then_counted() -> None:
    tale = story(ready=1, profiles=False)
    tale.run(6, 120)
    [(name, fixed, item)] = measured(tale.state)
    assert name == A100
    assert fixed + item == pytest.approx(100, rel=0.01)
    assert tale.run(26, 15)[-1] >= 4


def test_what_was_learned_survives_a_restart() -> None:
    tale = story(ready=1, profiles=False)
    tale.run(6, 120)
    tale.state = state_from_profiles(measured(tale.state))
    assert tale.run(26, 15)[-1] >= 4
    assert ScalingState.from_dict(tale.state.to_dict()).fits == tale.state.fits


def test_nothing_is_learned_while_replicas_start() -> None:
    load = ServiceLoad(pools=(PoolLoad("a", A100, 1, 1, 0, signals(6)),), maximum=4)
    state = ScalingState()
    for now in range(0, 300, 5):
        state = decide(load, state, float(now)).state
    assert measured(state) == []


def test_a_profile_that_promises_too_much_is_corrected() -> None:
    tale = story(ready=1)
    tale.pools[0].seconds = 0.25  # it was declared as 0.1
    tale.run(8, 600)
    assert tale.waiting < 1
    assert tale.held >= 3


def test_a_replacement_that_starts_is_awaited_before_signs_count() -> None:
    tale = story(ready=3)
    tale.run(20, 600)
    assert tale.run(20, 5, queue_seconds=2.0) == [3]
    pool = tale.pools[0]
    pool.ready, pool.starting = 2, [tale.now + 1000]
    assert tale.run(14, 5, queue_seconds=2.0) == [3]
    pool.ready, pool.starting = 3, []
    tale.run(20, 35, queue_seconds=2.0)
    assert tale.last.replicas == 4, "nothing starts, and the signs stay"


def test_one_pinned_pod_does_not_grow_the_fleet() -> None:
    """Queues on one pod while the others idle: more replicas would not help."""
    tale = story(ready=4)
    assert max(tale.run(8, 300, queue_seconds=3.0)) == 4


def test_a_backlog_adds_to_demand() -> None:
    calm = story(ready=3, maximum=20, gpus=10)
    calm.run(18, 300)
    before = calm.last.replicas
    calm.run(18, 10, pending=900.0)
    assert calm.last.replicas > before


def test_faster_pools_count_for_more() -> None:
    tale = story(ready=4)
    tale.run(27, 300)
    tale.run(41, 60)
    assert tale.last.by_pool[A100.lower()] == 4
    assert tale.last.by_pool[T4.lower()] >= 1


def test_held_replicas_count_first_and_leave_last_where_preferred() -> None:
    pools = (
        PoolLoad("a", A100, ready=0, starting=0, room=4, signals=None),
        PoolLoad("t", T4, ready=4, starting=0, room=0, signals=signals(12, seconds=0.2, pods=4)),
    )
    load = ServiceLoad(pools=pools, maximum=8, declared=PROFILES)
    decision = decide(load, ScalingState(), 0.0)
    assert decision.by_pool == {"a": 0, "t": 4}


def test_growth_that_the_caller_has_not_seen_yet_is_not_taken_back() -> None:
    """The store may lag a tick behind the replicas that were just asked for."""
    tale = story(ready=1, profiles=False)
    tale.obeyed = False
    told = tale.run(100, 60)
    first = next(n for n, replicas in enumerate(told) if replicas == 2)
    assert set(told[first:]) == {2}
    assert tale.run(0, 30, blind=True)[-1] == 2


def test_once_inputs_rest_so_does_what_is_said() -> None:
    tale = story(ready=1)
    tale.run(20, 900)
    assert len({(d.replicas, d.reason, d.message, d.active) for d in tale.log[-60:]}) == 1


def test_small_changes_of_load_change_no_message() -> None:
    tale = story(ready=3)
    tale.run(20, 600)
    said = tale.last.message
    for rate in (20.5, 19.0, 20.9, 19.9):
        tale.run(rate, 30)
        assert tale.last.message == said


def test_no_pools_at_all() -> None:
    decision = decide(ServiceLoad(pools=(), minimum=1, maximum=3), ScalingState(), 0.0)
    assert (decision.replicas, decision.wished) == (0, 1)
    assert decide(ServiceLoad(pools=(), fixed=2, maximum=3), ScalingState(), 0.0).replicas == 0


def test_a_clock_that_goes_back_only_waits() -> None:
    tale = story(ready=3)
    tale.run(0, 280)
    tale.now -= 10_000
    assert set(tale.run(0, 300)) == {3}


def test_signals_without_pods_are_no_data() -> None:
    load = ServiceLoad(pools=(PoolLoad("a", A100, 2, 0, 0, Signals()),), maximum=4)
    assert decide(load, ScalingState(), 0.0).reason == Reason.NO_METRICS


def test_one_odd_sample_moves_nothing_however_late_the_next_one_comes() -> None:
    tale = story(ready=3, scale_down_window=10.0, load_seconds=1.0, window=10.0)
    assert set(tale.run(20, 120)) == {3}
    odd = signals(0.0, pods=3)
    for age in range(0, 55, 5):
        tale.now += 5
        pool = PoolLoad(
            "a100",
            A100,
            ready=3,
            starting=0,
            room=1,
            signals=replace(odd, age=float(age), age_oldest=float(age)),
        )
        decision = decide(replace(tale.load, pools=(pool,)), tale.state, tale.now)
        tale.state = decision.state
        assert decision.replicas == 3


def test_what_other_days_had_at_this_hour_is_there_before_it_comes() -> None:
    usual = tuple([3.0] * 40 + [60.0] * 56)
    season = Season(bucket=39, peak=3.0, past=usual * 3 + usual[:39], weight=50.0, persistence=9.0)
    tale = story(ready=2, gpus=30, maximum=30, load_seconds=60.0)
    tale.now = 40 * BUCKET - 300.0
    tale.state = replace(tale.state, season=season)
    assert max(tale.run(3.0, 235)) == 2
    assert tale.run(3.0, 10)[-1] >= 6
    assert expected(tale.state.season, tale.now, 60.0) == 60.0
