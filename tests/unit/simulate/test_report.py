"""Figures and course of a simulation."""

import json

import numpy as np
import pytest

from conch.cli.plugin_simulate_view import blocks, duration
from conch.decisions.scaling import Profile
from conch.simulate.report import course, figures
from conch.simulate.run import Outcome, Timeline
from conch.simulate.workload import Workload

WORKLOAD = Workload(name="digits", profile=Profile(0.01, 0.0), objective=0.05, gpus=2)


def outcome(waits: list[float], late: list[bool]) -> Outcome:
    """Return an hour with a request at each tenth of it, judged after five minutes."""
    time = np.arange(15.0, 3600.0, 15.0)
    number = np.where(time < 300, 9, np.where(time < 1800, 2, 4))
    return Outcome(
        judged_seconds=3300.0,
        replica_seconds=9900.0,
        actions=11,
        arrivals=np.array([360.0 * n for n in range(1, 1 + len(waits))]),
        waits=np.array(waits),
        late=np.array(late, dtype=bool),
        timeline=Timeline(time, number, np.ones_like(number), np.zeros_like(number)),
    )


def test_figures_count_gpus_and_compare_with_the_optimum() -> None:
    found = figures("hpa:0.5", WORKLOAD, outcome([0.0] * 8 + [3.0], [False] * 8 + [True]), 6600.0)
    assert found.cost_ratio == pytest.approx(1.5)
    assert found.late_percent == pytest.approx(100 / 9)
    assert (found.p50_wait_s, found.p99_wait_s) == (0.0, 3.0)
    assert (found.peak_replicas, found.peak_gpus) == (5, 10)  # without the warm-up
    assert (found.mean_replicas, found.mean_gpus) == (3.0, 6.0)
    assert found.gpu_hours == pytest.approx(5.5)
    assert found.actions_per_hour == pytest.approx(12.0)


def test_json_has_the_promised_keys_first_and_no_infinity() -> None:
    found = figures("conch", WORKLOAD, outcome([np.inf], [True]), 0.0).to_dict()
    assert list(found)[:6] == [
        "policy",
        "cost_ratio",
        "late_percent",
        "p99_wait_s",
        "replica_seconds",
        "actions_per_hour",
    ]
    assert json.loads(json.dumps(found, allow_nan=False))["p99_wait_s"] is None
    assert found["cost_ratio"] is None


def test_a_course_knows_nothing_of_gaps() -> None:
    arrivals = np.arange(0.0, 1800.0, 0.5)
    run = outcome([0.0] * 5 + [1.0] * 4, [False] * 5 + [True] * 4)
    found = course(arrivals, run, span=3600.0, gaps=[(1800.0, 2700.0)], buckets=4)
    assert found.load == pytest.approx([2.0, 2.0, np.nan, 0.0], nan_ok=True)
    assert found.held[1] == pytest.approx(3.0)
    assert found.ready[3] == pytest.approx(4.0)
    assert found.late_percent == pytest.approx([0.0, 0.0, 200 / 3, 100.0])


def test_blocks_show_what_is_above_zero_and_what_is_not_known() -> None:
    lines = blocks(np.array([0.0, 0.001, 12.0, 24.0, np.nan]), 24.0)
    assert lines == ["   █ ", "  ▄█ ", " ▁██·"]
    assert blocks(np.array([0.0, 0.0]), 0.0) == ["  ", "  ", "  "]


@pytest.mark.parametrize(
    ("seconds", "text"), [(86400, "1d"), (5400, "1.5h"), (90, "1.5m"), (5, "5s")]
)
def test_a_span_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
