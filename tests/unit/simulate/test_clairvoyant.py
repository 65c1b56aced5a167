"""The optimum that knows all requests in advance."""

import numpy as np
import pytest
from numpy.typing import NDArray

from conch.api.service import Scaling
from conch.decisions.scaling import Profile
from conch.simulate.load_times import fixed
from conch.simulate.policies import parse
from conch.simulate.policies.clairvoyant import bridged, needed
from conch.simulate.run import simulate
from conch.simulate.workload import Workload

Counts = NDArray[np.int64]


def cost(schedule: Counts, load: int) -> int:
    """Return the slots that are paid for: those that a replica is on, and ``load`` for a start."""
    starts = np.diff(np.concatenate(([0], schedule))).clip(min=0)
    return int(schedule.sum() + load * starts.sum())


def cheapest(need: Counts, load: int) -> int:
    """Return the least cost of meeting the need, by trying everything."""
    best = {0: 0}
    for least in need.tolist():
        best = {
            count: min(
                paid + count + load * max(0, count - before) for before, paid in best.items()
            )
            for count in range(least, int(need.max()) + 1)
        }
    return min(best.values())


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("load", [1, 2, 5])
def test_no_schedule_that_meets_the_need_costs_less(seed: int, load: int) -> None:
    need = np.random.default_rng(seed).integers(0, 5, 40)
    found = bridged(need, load)
    assert np.all(found >= need)
    assert cost(found, load) == cheapest(need, load)


def test_a_pause_shorter_than_a_load_is_bridged() -> None:
    assert bridged(np.array([2, 0, 0, 2, 1]), 2).tolist() == [2, 2, 2, 2, 1]
    assert bridged(np.array([1, 0, 0, 0, 1, 0]), 2).tolist() == [1, 0, 0, 0, 1, 0]
    assert bridged(np.array([0, 0]), 2).tolist() == [0, 0]


def test_an_interval_needs_what_serves_its_requests() -> None:
    arrivals = np.array([0.0, 1.0, 2.0, 3.0, 4.9, 12.0])
    assert needed(arrivals, 0.2, 5.0).tolist() == [5, 0, 1]
    assert needed(arrivals, 0.5, 5.0).tolist() == [2, 0, 1]


def test_nobody_is_late_who_could_be_foreseen() -> None:
    random = np.random.default_rng(1)
    rates = np.repeat(random.uniform(5, 60, 12), 300)
    arrivals = np.sort(np.repeat(np.arange(3600.0), random.poisson(rates)))
    arrivals += random.random(len(arrivals))
    arrivals.sort()
    bounds = Scaling(max_replicas=100)
    workload = Workload("w", Profile(0.2, 0.0), objective=0.6, scaling=bounds)
    policy = parse("clairvoyant")(workload, arrivals, fixed(45.0))
    outcome = simulate(workload, arrivals, policy, load_times=fixed(45.0), seed=1, span=3600.0)
    assert outcome.late_percent < 0.01
