"""The engine, held against a plain queue that takes one request after the other."""

import heapq

import numpy as np
import pytest

from conch.decisions.scaling import Profile
from conch.simulate.engine import Seconds, Station

S = Profile(0.2, 0.0)


def plain(arrivals: Seconds, ready: list[float], seconds: float) -> Seconds:
    """Return the waits, first come first served, by replicas that are ready from a time on."""
    free = list(ready)
    heapq.heapify(free)
    waits = []
    for moment in arrivals.tolist():
        start = max(moment, free[0])
        heapq.heapreplace(free, start + seconds)
        waits.append(start - moment)
    return np.array(waits)


def poisson(rate: float, seconds: float, seed: int) -> Seconds:
    random = np.random.default_rng(seed)
    return np.sort(random.random(random.poisson(rate * seconds)) * seconds)


@pytest.mark.parametrize("step", [0.05, 1.0, 5.0, 60.0])
@pytest.mark.parametrize("seed", range(5))
def test_waits_are_those_of_the_plain_queue(seed: int, step: float) -> None:
    arrivals = poisson(30.0, 120.0, seed)
    random = np.random.default_rng(seed)
    ready = sorted([0.0, 0.0, 0.0, *(random.random(7) * 60).tolist()])
    station = Station(arrivals, S)
    for number, moment in enumerate(ready):
        station.add(number, moment)
    for now in np.arange(step, 240.0 + step, step):
        station.advance(float(now))
    assert station.begun == len(arrivals)
    np.testing.assert_allclose(station.waits(), plain(arrivals, ready, 0.2), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_batches_of_one_are_the_same_by_both_ways(seed: int) -> None:
    arrivals = poisson(12.0, 200.0, seed)
    singles = Station(arrivals, Profile(0.1, 0.1))
    batches = Station(arrivals, Profile(0.1, 0.1), max_batch=2)
    for station in (singles, batches):
        for number in range(30):  # so many that nobody waits, and no batch forms
            station.add(number, 0.0)
        for now in range(5, 210, 5):
            station.advance(float(now))
    assert singles.waits().max() == batches.waits().max() == 0.0
    one, other = singles.totals(210.0), batches.totals(210.0)
    assert one.busy_seconds == pytest.approx(other.busy_seconds)
    assert one.present_seconds == pytest.approx(other.present_seconds)


def test_a_batch_takes_what_waits_and_no_more_than_fits() -> None:
    arrivals = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 5.0])
    station = Station(arrivals, Profile(0.5, 0.1), max_batch=3)
    station.add(0, 0.0)
    station.advance(10.0)
    # 0.0 alone until 0.6; then three of four until 1.4; then the last.
    np.testing.assert_allclose(station.waits(), [0.0, 0.5, 0.4, 0.3, 1.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(station.serves(), [0.6, 0.8, 0.8, 0.8, 0.6, 0.6])


def test_a_batch_waits_for_others_as_long_as_it_is_told() -> None:
    arrivals = np.array([0.0, 0.05, 3.0])
    station = Station(arrivals, Profile(0.1, 0.0), max_batch=2, queue_delay=0.2)
    station.add(0, 0.0)
    station.advance(10.0)
    np.testing.assert_allclose(station.waits(), [0.05, 0.0, 0.2], atol=1e-9)


def test_totals_are_the_integrals_of_what_was_there() -> None:
    arrivals = poisson(25.0, 60.0, 1)
    station = Station(arrivals, S)
    for number in range(6):
        station.add(number, 0.0)
    grid = np.arange(0.001, 60.0, 0.001)
    for now in range(1, 61):
        station.advance(float(now))
    totals = station.totals(60.0)
    station.advance(100.0)
    begins = arrivals + station.waits()
    running = sum(((begins <= t) & (t < begins + 0.2)).sum() for t in grid[::50]) * 0.05
    present = sum(((arrivals <= t) & (t < begins + 0.2)).sum() for t in grid[::50]) * 0.05
    assert totals.busy_seconds == pytest.approx(running, rel=0.02)
    assert totals.present_seconds == pytest.approx(present, rel=0.02)
    assert totals.arrivals == (arrivals <= 60.0).sum()
    assert totals.answered == (begins + 0.2 <= 60.0).sum()
    assert totals.waiting == ((arrivals <= 60.0) & (begins > 60.0)).sum()


def test_a_replica_that_drains_ends_its_run_and_begins_none() -> None:
    arrivals = np.array([0.0, 0.05, 0.3, 0.6])
    station = Station(arrivals, S)
    station.add(0, 0.0)
    station.add(1, 0.0)
    station.advance(0.1)
    end = max(station.drain(0, 0.1), station.drain(1, 0.1))
    assert end == pytest.approx(0.25)
    station.advance(1.0)
    assert station.begun == 2
    assert station.totals(1.0).waiting == 2


def test_what_runs_on_a_lost_replica_is_lost() -> None:
    arrivals = np.array([0.0, 0.05, 0.3])
    station = Station(arrivals, S)
    station.add(0, 0.0)
    station.add(1, 0.0)
    station.advance(0.1)
    station.lose([1], 0.1)
    station.advance(1.0)
    assert np.isinf(station.waits()).sum() == 1
    totals = station.totals(1.0)
    assert (totals.lost, totals.answered) == (1, 2)
    assert 0.4 < totals.busy_seconds < 0.6


def test_a_replica_that_becomes_ready_serves_from_then_on() -> None:
    arrivals = np.linspace(0.0, 10.0, 400, endpoint=False)
    station = Station(arrivals, S)
    for number in range(9):
        station.add(number, 0.0)
    station.add(9, 4.9)
    station.advance(5.0)
    station.advance(10.0)
    np.testing.assert_allclose(station.waits(), plain(arrivals, [0.0] * 9 + [4.9], 0.2), atol=1e-9)
