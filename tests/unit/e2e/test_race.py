import math

import pytest

from e2e.bench.race import (
    Answer,
    Replicas,
    breach_at,
    delay,
    late_percent,
    longest_queue,
    quantile,
    ratio,
    timeline,
)


def pod(uid: str, *, ready: bool = False) -> dict[str, object]:
    status = {"conditions": [{"type": "Ready", "status": "True"}]} if ready else {}
    return {"metadata": {"uid": uid, "name": uid}, "status": status}


@pytest.fixture
def replicas() -> Replicas:
    """Pod a is there from 10 s on, b from 20 s until 40 s; b is ready for its last 15 s."""
    told = Replicas()
    told.see("ADDED", pod("a"), 10)
    told.see("MODIFIED", pod("a", ready=True), 12)
    told.see("ADDED", pod("b"), 20)
    told.see("MODIFIED", pod("b", ready=True), 25)
    told.see("MODIFIED", pod("b"), 38)
    told.see("DELETED", pod("b"), 40)
    return told


def test_a_replica_costs_from_created_to_gone(replicas: Replicas) -> None:
    assert replicas.seconds(0, 50) == 40 + 20
    assert replicas.seconds(15, 30) == 15 + 10
    assert replicas.seconds(45, 50) == 5
    assert replicas.start_seconds() == [2, 5]


def test_replicas_over_time(replicas: Replicas) -> None:
    rows = timeline(replicas, 19, 41, every=11)
    assert rows == [
        {"second": 0, "created": 1, "ready": 1},
        {"second": 11, "created": 2, "ready": 2},
        {"second": 22, "created": 1, "ready": 1},
    ]
    assert replicas.counts(22) == (2, 1)
    assert replicas.created_after(10) == [20]


def test_a_pod_that_goes_unseen_is_none() -> None:
    told = Replicas()
    told.see("DELETED", pod("earlier"), 3)
    assert told.seconds(0, 10) == 0


def test_failed_requests_are_late_and_only_those_due_in_the_race_count() -> None:
    answers = [Answer(1, 9), Answer(10, 0.9), Answer(11, 0.91), Answer(12, math.inf), Answer(13, 0)]
    assert late_percent(answers, objective=0.9, start=10, end=14) == 50
    assert late_percent(answers, objective=0.9, start=20, end=30) == 0
    assert quantile(answers, 0.5, start=10, end=14) == 0.91
    assert quantile([], 0.5, start=10, end=14) == 0


def test_a_breach_is_a_queue_that_no_objective_allows() -> None:
    assert longest_queue(0.3, 0.9) == 2
    assert longest_queue(0.3, 0.3) == 1
    assert breach_at([(5, 0), (10, 2), (15, 3), (20, 9)], more_than=2) == 15
    assert breach_at([(5, 2)], more_than=2) is None


@pytest.mark.parametrize(
    ("created", "seconds"),
    [
        (101.5, 1.5),  # the first scrape was enough
        (105.5, 0.5),  # the second confirmed it
        (111.0, 6.0),  # late: the second had confirmed it
    ],
)
def test_what_comes_after_the_second_scrape_is_late_from_there_on(
    created: float, seconds: float
) -> None:
    assert delay(100, created, interval=5) == pytest.approx(seconds)


def test_ratios() -> None:
    assert ratio(1, 4) == 0.25
    assert ratio(1, 0) is None
