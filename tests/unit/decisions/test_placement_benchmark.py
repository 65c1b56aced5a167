"""The placement benchmark's parts, on a cluster small enough to see through."""

import numpy as np
import pytest

from e2e.bench import placement_trace
from e2e.bench.placement import PUBLISHED, unmet_goals
from e2e.bench.placement_bound import least_unallocated_percent
from e2e.bench.placement_policies import POLICIES
from e2e.bench.placement_trace import DEVICES, Cluster, Pod, Spot, missing

LARGE, SMALL, WHOLE = Pod(1, 600, 1000, 10), Pod(1, 400, 1000, 10), Pod(2, 1000, 1000, 10)
CPU = Pod(0, 0, 1000, 10)
SHARES = {LARGE: 0.4, SMALL: 0.3, WHOLE: 0.2, CPU: 0.1}


def nodes(*gpus: int, cpu: int = 8000) -> Cluster:
    devices = np.zeros((len(gpus), DEVICES), dtype=np.int64)
    for row, count in enumerate(gpus):
        devices[row, :count] = 1000
    return Cluster(np.full(len(gpus), cpu), np.full(len(gpus), 1000), devices)


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_goes_beyond_what_is_free_or_below_the_bound(policy: str) -> None:
    for seed in range(5):
        draw = np.random.default_rng(seed)
        todo = [list(SHARES)[i] for i in draw.integers(0, len(SHARES), 30)]
        bound = least_unallocated_percent(nodes(1, 2, 2, 4), todo)
        where = nodes(1, 2, 2, 4)
        chooser = POLICIES[policy](SHARES, where, seed)
        for pod in todo:
            spot = chooser.choose(pod)
            assert (spot is None) == (not where.fits(pod).any())
            if spot is not None:
                where.take(spot, pod)
                chooser.changed(spot.node)
        assert 100.0 * (1 - where.taken / where.capacity) >= bound - 1e-6


@pytest.mark.parametrize(
    ("todo", "percent"),
    [
        ([LARGE, SMALL] * 2, 0.0),  # 0.6 and 0.4 share each of the two devices
        ([LARGE] * 4, 40.0),  # no two of 0.6 share one
        ([WHOLE], 0.0),
        ([SMALL], 80.0),  # nobody asked for the rest
        ([], 100.0),
    ],
)
def test_the_bound_by_hand(todo: list[Pod], percent: float) -> None:
    assert least_unallocated_percent(nodes(2), todo) == pytest.approx(percent, abs=1e-6)


def test_the_bound_knows_what_cpu_allows() -> None:
    """Three cores a pod, eight a node: two pods on each, whatever GPUs are left."""
    heavy = Pod(1, 1000, 3000, 10)
    assert least_unallocated_percent(nodes(4, 4), [heavy] * 8) == pytest.approx(50.0)


def test_a_policy_that_overbooks_is_found_out() -> None:
    where = nodes(1)
    where.take(Spot(0, (0,)), LARGE)
    with pytest.raises(AssertionError, match="can't take"):
        where.take(Spot(0, (0,)), LARGE)


def test_goals_that_are_missed_are_told() -> None:
    good = {"conch": [4.0], **{policy: [value] for policy, value in PUBLISHED.items()}}
    assert unmet_goals(good) == []
    told = unmet_goals({**good, "conch": [5.0], "random": [1.0]})
    assert [u.figure for u in told] == [
        "5.000 % against 4.770 %",
        "random < fgd < bestfit < dotproduct",
    ]


def test_who_has_no_trace_is_told_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("CONCH_TRACES", str(tmp_path))
    told = missing()
    assert told
    assert placement_trace.WHENCE in told
