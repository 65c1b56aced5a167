"""How long a replica takes to start, learned from those that did."""

import pytest

from conch.decisions.scaling import PoolLoad
from conch.decisions.scaling.load_time import DEFAULT_S, of_pools, p90


def pool(accelerator: str, *, held: int = 0) -> PoolLoad:
    return PoolLoad(accelerator.lower(), accelerator, ready=held, starting=0, room=1, signals=None)


def test_nine_of_ten_starts_are_no_slower() -> None:
    assert p90([20.0] * 8 + [40.0, 50.0]) == 40.0


def test_nothing_is_known_before_any_was_seen() -> None:
    assert p90([]) is None


def test_the_first_start_counts_at_once() -> None:
    assert p90([5.0]) == 5.0


@pytest.mark.parametrize(
    ("starts", "known", "found"),
    [
        ([20.0, 20.0, 20_000.0], None, 80.0),
        ([20_000.0], None, 4 * DEFAULT_S),
        ([20_000.0], 10.0, 40.0),
        ([10.0] * 8 + [900.0] * 2, None, 40.0),
    ],
    ids=["after others", "the very first", "after a restart", "two of ten"],
)
def test_one_odd_start_is_bounded(starts: list[float], known: float | None, found: float) -> None:
    assert p90(starts, known) == found


def test_starts_that_really_became_slow_are_believed() -> None:
    assert p90([600.0, 610.0, 620.0], 10.0) == 620.0


def test_what_was_known_before_a_restart_counts_until_enough_was_seen() -> None:
    assert p90([], 30.0) == 30.0
    assert p90([5.0] * 8, 30.0) == 20.0
    assert p90([5.0] * 10, 30.0) == 5.0


def test_never_less_than_a_second() -> None:
    assert p90([0.0]) == 1.0


def test_the_slowest_of_the_accelerators_in_use_counts() -> None:
    learned = {"A100": 10.0, "T4": 60.0, "L4": 90.0}
    assert of_pools([pool("A100", held=1), pool("T4", held=1), pool("L4")], learned) == 60.0
    assert of_pools([pool("A100", held=1), pool("T4")], learned) == 10.0


def test_before_any_is_in_use_the_slowest_that_may_be() -> None:
    assert of_pools([pool("A100"), pool("T4")], {"A100": 10.0, "T4": 60.0}) == 60.0


def test_one_that_is_not_known_is_taken_for_the_slowest_that_is() -> None:
    assert of_pools([pool("L4", held=1), pool("T4")], {"T4": 60.0}) == 60.0
    assert of_pools([pool("L4", held=1)], {"T4": 60.0}) == DEFAULT_S
