"""Counting replicas that differ: 7/s each on the fast, 3.5/s on the slow pool."""

from dataclasses import replace

import pytest

from conch.decisions.scaling import PoolLoad, ScalingState, ServiceLoad
from conch.decisions.scaling.fleet import rates, replicas_for, spread
from tests.unit.decisions.scaling.story import A100, PROFILES, T4

PLANNED = {A100: 7.0, T4: 3.5}


def pools(fast: tuple[int, int], slow: tuple[int, int]) -> tuple[PoolLoad, ...]:
    """(held, room) of each."""
    return (
        PoolLoad("a", A100, fast[0], 0, fast[1], None),
        PoolLoad("t", T4, 0, slow[0], slow[1], None),
    )


@pytest.mark.parametrize(
    ("demand", "fast", "slow", "expected"),
    [
        (0.0, (2, 2), (1, 3), 0),
        (7.0, (2, 2), (1, 3), 1),
        (17.5, (2, 2), (1, 3), 3),
        (24.5, (2, 2), (1, 3), 4),
        (7.0, (0, 4), (2, 0), 2),  # those held count first, though slower
        (31.5, (0, 4), (0, 4), 5),
        (35.0, (1, 1), (0, 2), 6),  # 14 + 7, and two fast ones that don't fit
    ],
)
def test_held_ones_first_then_by_preference(
    demand: float, fast: tuple[int, int], slow: tuple[int, int], expected: int
) -> None:
    assert replicas_for(demand, pools(fast, slow), PLANNED) == expected


@pytest.mark.parametrize(
    ("total", "expected"),
    [(0, (0, 0)), (2, (2, 0)), (3, (2, 1)), (5, (4, 1)), (8, (4, 4))],
)
def test_spread_keeps_what_is_held_and_fills_by_preference(
    total: int, expected: tuple[int, int]
) -> None:
    assert tuple(spread(total, pools((2, 2), (1, 3))).values()) == expected


def test_an_accelerator_not_known_follows_the_pools_relative_speeds() -> None:
    fast, slow = pools((1, 1), (1, 1))
    both = (replace(fast, speed=2.0), replace(slow, speed=0.5))
    load = ServiceLoad(pools=both, declared={A100: PROFILES[A100]})
    assert rates(load, ScalingState()) == {A100: pytest.approx(10), T4: pytest.approx(2.5)}


def test_an_accelerator_not_known_counts_as_the_slowest_that_is() -> None:
    load = ServiceLoad(pools=pools((1, 1), (1, 1)), declared={A100: PROFILES[A100]})
    assert rates(load, ScalingState()) == {A100: pytest.approx(10), T4: pytest.approx(10)}
    assert rates(ServiceLoad(pools=load.pools), ScalingState()) == {}
