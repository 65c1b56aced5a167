import math
from collections.abc import Sequence

import pytest

from e2e.bench.front_door.flow import RIGHT, Outcomes, at_kill, quantile, share_up_to, together


def outcomes(*rows: tuple[float, float, str]) -> Outcomes:
    began, ended, what = zip(*rows, strict=True)
    return Outcomes("x", began, ended, what, late=[0.0, 0.002])


ROWS = [
    (0.0, 1.0, RIGHT),
    (0.5, 2.0, "closed"),
    (0.9, 1.2, "refused 429"),
    (3.0, 3.5, RIGHT),
    (4.0, 4.5, "reset"),
]


def test_each_request_counts_once() -> None:
    found = outcomes(*ROWS)
    assert (found.sent, found.right, found.wrong) == (5, 2, 3)
    assert found.refused == {"429": 1}
    assert found.failed == {"closed": 1, "reset": 1}
    assert found.latencies() == [0.5, 1.0]
    assert found.latencies(since=2) == [0.5]
    assert found.rate(0, 2) == 0.5
    assert [found.in_flight(t) for t in (0.95, 1.0, 2.5)] == [3, 2, 0]


def test_summary() -> None:
    told = outcomes(*ROWS).summary()
    assert (told["requests"], told["failed"]) == (5, 3)
    assert (told["p50_ms"], told["p99_ms"], told["longest_ms"]) == (500, 1000, 1000)
    assert told["sent_late_p99_ms"] == 2


def test_who_was_under_way_at_a_kill() -> None:
    killed = at_kill(outcomes(*ROWS), 0.8, 0.85)
    assert (killed.requests, killed.in_flight, killed.failed) == (5, 2, 3)
    assert killed.failed_not_in_flight == 2
    assert killed.failures == {"closed": 1, "refused 429": 1, "reset": 1}


def test_a_kill_takes_time_and_who_came_meanwhile_was_under_way() -> None:
    assert at_kill(outcomes(*ROWS), 0.8, 1.0).failed_not_in_flight == 1


def test_rounds_as_one() -> None:
    both = together("y", [outcomes(*ROWS[:2]), outcomes(*ROWS[2:])])
    assert (both.name, both.sent, both.right, len(both.late)) == ("y", 5, 2, 4)


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [([1, 2, 3, 4], 0.5, 2), ([1, 2, 3, 4], 0.99, 4), ([7], 0.5, 7), ([1, 2], 0, 1)],
)
def test_quantile(values: Sequence[float], share: float, wanted: float) -> None:
    assert quantile(values, share) == wanted


def test_nothing_has_no_quantile() -> None:
    assert math.isnan(quantile([], 0.5))
    assert math.isnan(share_up_to([], 1))


def test_share_up_to() -> None:
    assert share_up_to([1, 2, 2, 3], 2) == 0.75
