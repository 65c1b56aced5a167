"""The verdict on scaling policies, and rows that are added up."""

from pathlib import Path

import numpy as np
import pytest

from e2e.bench import scaling_traces
from e2e.bench.scaling_runs import Sums, Task, rows
from e2e.bench.scaling_verdict import Verdict, points, unmet_goals, verdicts


def row(policy: str, cost: float, late: float, **more: object) -> dict[str, object]:
    name, _, setting = policy.partition(":")
    base = {"trace": "azure-conv", "load_time": "45s", "seed": 0, "setting": setting or "default"}
    return base | {"policy": name, "cost_ratio": cost, "late_percent": late} | more


def verdict(*baselines: dict[str, object]) -> Verdict:
    (found,) = verdicts([row("conch", 1.2, 0.1), row("clairvoyant", 1.0, 0.0), *baselines])
    return found


@pytest.mark.parametrize(
    ("cost", "late", "dominates", "fewer"),
    [
        (1.15, 0.1, True, False),  # cheaper, as late
        (1.2, 0.05, True, True),  # as dear, less late
        (1.1, 0.05, True, True),
        (1.195, 0.105, False, False),  # ties in both
        (1.205, 0.095, False, False),
        (1.211, 0.05, True, True),  # a tie in cost, less late
        (1.15, 0.109, True, False),  # a tie in late requests, cheaper
        (1.3, 0.0, False, False),  # less late, dearer
        (1.0, 0.2, False, False),  # cheaper, later
    ],
)
def test_differences_within_a_hundredth_are_ties(
    cost: float, late: float, dominates: bool, fewer: bool
) -> None:
    found = verdict(row("hpa:0.7", cost, late))
    assert bool(found.dominating) is dominates
    assert bool(found.fewer_late) is fewer
    assert found.good is not (dominates or fewer)


def test_the_optimum_and_other_settings_of_conch_are_no_baselines() -> None:
    assert verdict(row("conch:cautious", 1.0, 0.0)).good


def test_seeds_are_averaged() -> None:
    (group,) = points([row("kpa", 1.0, 0.1, seed=0), row("kpa", 2.0, 0.3, seed=1)]).values()
    assert (group[0].cost, group[0].late) == pytest.approx((1.5, 0.2))


def test_goals_that_are_missed_are_named_with_their_figures() -> None:
    bad = [row("conch", 1.4, 0.1), row("hpa:0.5", 1.3, 0.05)]
    dominated, dear = unmet_goals(verdicts(bad))
    assert "no baseline dominates" in dominated.goal
    assert "hpa 0.5 1.300 x, 0.050 %" in dominated.figure
    assert "at most 0.2 % late at 1.3 x" in dear.goal
    other = [row("conch", 9.0, 9.0, trace="elb"), row("conch", 9.0, 9.0, load_time="15s")]
    assert unmet_goals(verdicts(other)) == []


def sums(late: int, seconds: float, waits: dict[int, int]) -> Sums:
    counts = np.zeros(2074, dtype=np.int64)
    for place, number in waits.items():
        counts[place] = number
    return Sums(late, int(counts.sum()), seconds, 3600.0, 5, counts)


def test_days_are_added_up_to_a_row_for_each_seed() -> None:
    def task(policy: str, day: int) -> Task:
        return Task("elb", (day, day + 1.0), "15s", policy, 3)

    results = [
        (task("hpa:0.5", 1), sums(2, 150.0, {0: 90, 700: 10})),
        (task("clairvoyant", 1), sums(0, 100.0, {0: 100})),
        (task("hpa:0.5", 2), sums(0, 150.0, {0: 100})),
        (task("clairvoyant", 2), sums(0, 100.0, {0: 100})),
    ]
    first, second = rows(results)
    assert first == {
        "trace": "elb",
        "load_time": "15s",
        "policy": "hpa",
        "setting": "0.5",
        "seed": 3,
        "cost_ratio": 1.5,
        "late_percent": 1.0,
        "p99_wait_s": pytest.approx(1.0, rel=0.1),
        "actions_per_hour": 5.0,
    }
    assert second["policy"] == "clairvoyant"
    assert second["p99_wait_s"] == 0.0


def test_a_wait_without_an_end_is_none() -> None:
    assert sums(9, 1.0, {0: 90, 2073: 10}).p99_wait is None


def test_the_mean_load_keeps_ten_replicas_busy() -> None:
    service = scaling_traces.workload("any", 50.0)
    assert service.profile.seconds(1) == pytest.approx(0.2)
    assert service.objective == pytest.approx(0.6)
    assert 50.0 / service.rate == pytest.approx(10.0)


def test_absent_traces_are_named_with_where_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCH_TRACES", str(tmp_path))
    text = scaling_traces.missing()
    assert text is not None
    assert str(tmp_path) in text
    for source in scaling_traces.SOURCES:
        assert f"{source.file}: https://" in text
        (tmp_path / source.file).touch()
    assert scaling_traces.missing() is None
