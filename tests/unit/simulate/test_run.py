"""Whole runs: replicas load, drain, are lost and missed; what is judged, and what it costs."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from conch.api.service import Scaling
from conch.decisions.scaling import Profile
from conch.simulate.load_times import FLEET, fixed
from conch.simulate.policies import parse
from conch.simulate.policies.base import Tick
from conch.simulate.run import Failures, Outcome, simulate
from conch.simulate.workload import Workload

WORKLOAD = Workload("w", Profile(0.2, 0.0), objective=0.6, scaling=Scaling(max_replicas=100))


@dataclass
class Told:
    """A policy that does what it is told at each tick; the last number stays."""

    numbers: list[int]
    interval: float = 10.0
    ticks: list[Tick] = field(default_factory=list)

    def replicas(self, tick: Tick) -> int:
        self.ticks.append(tick)
        return self.numbers[min(len(self.ticks), len(self.numbers)) - 1]


def steady(rate: float, seconds: float) -> np.ndarray:
    return np.arange(0.0, seconds, 1.0 / rate)


def run(policy: Told, *, rate: float = 20.0, span: float = 1200.0, **more: object) -> Outcome:
    options: dict[str, object] = {"load_times": fixed(45.0), "seed": 1, "span": span} | more
    return simulate(WORKLOAD, steady(rate, span), policy, **options)  # type: ignore[arg-type]


def test_enough_replicas_keep_nobody_waiting() -> None:
    outcome = run(Told([6]))
    assert outcome.late_percent == 0.0
    assert outcome.wait(0.99) < 0.2
    assert outcome.judged_seconds == 900.0
    assert outcome.replica_seconds == pytest.approx(6 * 900)
    assert outcome.actions == 0


def test_a_starting_replica_is_paid_for_and_serves_after_its_load_time() -> None:
    policy = Told([6] * 40 + [8])
    outcome = run(policy)
    assert outcome.actions == 1
    moment = policy.ticks[40].now
    assert outcome.replica_seconds == pytest.approx(6 * 900 + 2 * (1200 - moment))
    line = outcome.timeline
    assert line.starting[line.time == moment + 40].tolist() == [2]
    assert line.ready[line.time == moment + 50].tolist() == [8]


def test_too_few_are_late_and_what_waits_in_the_end_is_too() -> None:
    outcome = run(Told([6] * 40 + [3]))
    assert outcome.late_percent > 30
    assert len(outcome.late) == len(steady(20.0, 1200.0)) - 6000


def test_the_newest_that_starts_goes_first() -> None:
    policy = Told([6] * 40 + [9, 7])
    run(policy)
    assert [t.starting for t in policy.ticks[41:43]] == [3, 1]
    assert {t.ready for t in policy.ticks} == {6, 7}


def test_a_node_that_vanishes_takes_its_replicas_and_is_missed_later() -> None:
    policy = Told([8])
    outcome = run(policy, failures=Failures(mean_seconds=900.0))
    line = outcome.timeline
    assert line.starting.max() == 4, "a node's replicas are made again"
    assert np.isinf(outcome.waits).any(), "what ran on it was lost"
    assert outcome.late_percent > 0


def test_gaps_are_not_judged_and_begin_anew() -> None:
    policy = Told([6])
    outcome = run(policy, gaps=[(400.0, 700.0)])
    assert outcome.judged_seconds == 100.0 + 200.0
    assert not [t for t in policy.ticks if 400.0 < t.now <= 700.0]


def test_the_same_seed_draws_the_same() -> None:
    costs = {
        run(Told([6, 9] * 20 + [12]), load_times=FLEET, seed=seed).replica_seconds
        for seed in (1, 1, 2)
    }
    assert len(costs) <= 2


def test_load_times_are_those_of_the_fleet() -> None:
    random = np.random.default_rng(1)
    drawn = [FLEET.draw(random) for _ in range(20_000)]
    assert np.quantile(drawn, [0.5, 0.9, 0.99]) == pytest.approx([22.7, 42.0, 51.8], rel=0.02)
    assert np.mean(drawn) == pytest.approx(FLEET.mean, rel=0.02)


def test_conch_follows_a_load_that_doubles() -> None:
    arrivals = np.concatenate([steady(20.0, 1200.0), 1200.0 + steady(40.0, 1200.0)])
    policy = parse("conch")(WORKLOAD, arrivals, fixed(15.0))
    outcome = simulate(WORKLOAD, arrivals, policy, load_times=fixed(15.0), seed=1, span=2400.0)
    line = outcome.timeline
    assert line.ready[line.time == 1195.0][0] <= 8
    assert line.ready[line.time == 1260.0][0] >= 9
    assert outcome.late_percent < 3.0
