"""Arrivals as the front door counts them, and where they count."""

from dataclasses import replace

import pytest

from conch.api.signals import Arrivals, Signals
from conch.decisions.scaling import PoolLoad, ScalingState, ServiceLoad, decide
from tests.unit.decisions.scaling.story import A100, signals

TICK = 5.0


class Scrapes:
    """A service with one replica, scraped together with the front door every 5 s."""

    def __init__(self) -> None:
        self.now, self.state = 1000.0, ScalingState()

    def scrape(self, told: Arrivals | None, served: Signals | None = None) -> float:
        """Return the rate that the scrape is taken for; the replica answers 10 requests/s or so."""
        self.now += TICK
        pool = PoolLoad("a100", A100, 1, 0, 4, served or signals(10.0))
        load = ServiceLoad(pools=(pool,), maximum=8, arrivals=told)
        self.state = decide(load, self.state, self.now).state
        return self.state.samples[-1].rate


def test_arrivals_are_what_ended_and_the_change_of_what_is_under_way() -> None:
    world = Scrapes()
    world.scrape(Arrivals(10.0, 4.0))
    assert world.scrape(Arrivals(10.0, 54.0)) == pytest.approx(20.0)
    assert world.scrape(Arrivals(12.0, 54.0)) == pytest.approx(12.0)


def test_they_are_counted_in_items() -> None:
    world = Scrapes()
    batches = replace(signals(10.0), inferences=40.0)
    world.scrape(Arrivals(10.0, 0.0), batches)
    assert world.scrape(Arrivals(12.0, 0.0), batches) == pytest.approx(48.0)


def test_the_same_scrape_of_the_front_door_counts_once() -> None:
    world = Scrapes()
    world.scrape(Arrivals(10.0, 0.0))
    assert world.scrape(Arrivals(60.0, 0.0)) == pytest.approx(60.0)
    assert world.scrape(Arrivals(60.0, 0.0, age=TICK)) == pytest.approx(10.0)
    assert world.scrape(Arrivals(20.0, 50.0)) == pytest.approx(25.0), "in 10 s"


@pytest.mark.parametrize("told", [None, Arrivals(30.0, 0.0, age=500.0)])
def test_missing_and_stale_ones_fall_back_without_a_jump(told: Arrivals | None) -> None:
    world = Scrapes()
    for _ in range(3):
        assert world.scrape(Arrivals(10.0, 3.0)) == pytest.approx(10.0)
    for _ in range(3):
        assert world.scrape(told) == pytest.approx(10.0)
    for _ in range(3):
        assert world.scrape(Arrivals(10.0, 3.0)) == pytest.approx(10.0)


def test_what_the_front_door_did_not_see_counts_too() -> None:
    """Callers inside the cluster may ask the Service itself."""
    world, many = Scrapes(), signals(100.0)
    world.scrape(Arrivals(50.0, 0.0), many)
    assert world.scrape(Arrivals(50.0, 0.0), many) == pytest.approx(100.0)
    # By chance one scrape has less than another.
    assert world.scrape(Arrivals(95.0, 0.0), many) == pytest.approx(95.0)


def test_a_count_that_begins_anew_is_no_negative_load() -> None:
    world = Scrapes()
    world.scrape(Arrivals(1.0, 500.0), signals(0.0))
    assert world.scrape(Arrivals(0.0, 0.0), signals(0.0)) == 0.0


def test_one_odd_number_moves_nothing() -> None:
    world = Scrapes()
    for _ in range(12):
        world.scrape(Arrivals(10.0, 0.0))
    before = world.state.asked
    world.scrape(Arrivals(1e6, 0.0))
    world.scrape(Arrivals(10.0, 0.0))
    assert world.state.asked.mean == pytest.approx(before.mean, rel=0.01)
