"""What single pods showed: what makes no sense, or is old, is left out and never guessed."""

import math
import re

import pytest

from conch.metrics.queries import LOOKBACK, queries
from conch.metrics.replicas import ReplicaSignals, replica_queries, replicas
from conch.metrics.series import Series

NOW = 1_700_000_000.0
POD = ("vision", "digits-a")
GOOD = {
    "replica_p99_us": 64_000.0,
    "replica_runs": 5.0,
    "replica_requests": 20.0,
    "replica_compute_us": 20 * 20_000.0,
    "replica_scraped": NOW - 4.0,
}


def answers(model: str = "digits", /, **values: float | None) -> dict[str, list[Series]]:
    labels = {
        "namespace": "vision",
        "pod": "digits-a",
        "conch_dev_service": "digits",
        "model": model,
    }
    told = {**GOOD, **{f"replica_{name}": value for name, value in values.items()}}
    return {name: [Series(labels, v, NOW)] for name, v in told.items() if v is not None}


def test_there_are_few_queries_each_over_the_whole_fleet() -> None:
    assert set(replica_queries()) == set(GOOD)
    assert not set(GOOD) & set(queries())
    for promql in replica_queries().values():
        assert 'conch_dev_service!=""' in promql
        assert not re.search(r'(pod|namespace|conch_dev_service)="', promql)
        assert "by (namespace, pod, conch_dev_service, model)" in promql


def test_a_pod_that_computes() -> None:
    ((name, one),) = replicas(answers(), {}).items()
    assert (name, one.scraped, one.p99) == (POD, NOW - 4.0, 0.064)
    # Five runs a second of 20 ms: the time of a run counts for each of its four requests.
    assert one.busy == pytest.approx(0.1)


def test_one_that_nobody_asks_is_not_busy_and_has_no_latency() -> None:
    idle = answers(p99_us=None, runs=0.0, requests=0.0, compute_us=0.0)
    assert replicas(idle, {})[POD] == ReplicaSignals(NOW - 4.0, p99=None, busy=0.0)


@pytest.mark.parametrize("missing", ["runs", "requests", "compute_us"])
def test_one_that_was_scraped_once_is_not_known_to_be_busy(missing: str) -> None:
    found = replicas(answers(**{missing: None}), {})
    assert found[POD] == ReplicaSignals(NOW - 4.0, p99=0.064, busy=None)


@pytest.mark.parametrize(
    "odd",
    [
        {name: value}
        for name in ("p99_us", "runs", "requests", "compute_us")
        for value in (math.nan, math.inf, -1.0, 1e13)
    ]
    + [
        {"scraped": None},
        {"scraped": math.nan},
        {"scraped": NOW - LOOKBACK - 1.0},
        {"scraped": NOW + 6.0},
    ],
    ids=str,
)
def test_what_makes_no_sense_or_is_old_is_left_out(odd: dict[str, float | None]) -> None:
    assert replicas(answers(**odd), {}) == {}


def test_clocks_may_differ_a_little() -> None:
    assert replicas(answers(scraped=NOW + 4.0), {})[POD].scraped == NOW + 4.0


def test_of_several_models_the_one_that_callers_ask_counts() -> None:
    both = answers()
    for name, series in answers("resize", p99_us=9e6).items():
        both[name] += series
    assert replicas(both, {}) == {}
    assert replicas(both, {("vision", "digits"): "resize"})[POD].p99 == 9.0
    assert replicas(both, {("vision", "digits"): "other"}) == {}


def test_no_answers_no_pods() -> None:
    assert replicas({}, {}) == {}
