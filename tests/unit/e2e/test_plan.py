"""The benchmark of decisions: its fleet is one that decisions go on in, and its figures are right."""

from typing import Any

import pytest

from conch.api.names import DEFAULT_GPU_RESOURCE, LABEL_SERVING
from e2e.bench.plan import growth, unmet_goals
from e2e.bench.plan_fleet import GPUS_PER_NODE, Fleet, Size
from e2e.bench.plan_load import PER_REPLICA, signals
from e2e.bench.plan_run import Run, contention, figures, measured, quantile
from e2e.bench.plan_tick import PARTS, Spans, Tick, moves


@pytest.fixture(scope="module")
def ticks() -> list[Tick]:
    """Return the first ticks of a small fleet."""
    run = Run(Size(60))
    return [run.tick() for _ in range(8)]


def row(services: int, seconds: float, **more: Any) -> dict[str, Any]:
    found = {"services": services, "tick_p99_s": seconds, "tick_p50_s": seconds}
    return {**found, "tick_cpu_p99_s": seconds, "rss_mb": 100.0, **more}


def test_the_same_seed_gives_the_same_fleet() -> None:
    one, other = (list(Fleet(Size(20)).services()) for _ in range(2))
    assert one == other
    assert len(list(Fleet(Size(20)).nodes())) == Size(20).nodes


def test_most_gpus_are_held_and_some_replicas_wait(ticks: list[Tick]) -> None:
    told = contention(ticks[-1])
    assert told["gpus"] == Size(60).nodes * GPUS_PER_NODE
    assert told["gpus_used"] > 0.7
    assert any(contention(tick)["replicas_waiting"] for tick in ticks)


def test_no_node_ever_holds_more_than_it_has(ticks: list[Tick]) -> None:
    nodes = [n for tick in ticks for p in tick.fleet.pools for n in p.nodes]
    assert all(n.requested.get(DEFAULT_GPU_RESOURCE, 0) <= GPUS_PER_NODE for n in nodes)


def test_what_is_decided_comes_true(ticks: list[Tick]) -> None:
    assert any(moves(o) for o in ticks[0].outcomes)
    drained = {p.uid for o in ticks[0].outcomes for p in o.plan.drains}
    assert drained
    pods = {p.uid: p for o in ticks[1].outcomes for p in o.facts.service.pods}
    assert all(pods[uid].draining_since and not pods[uid].serving for uid in drained)
    assert all(LABEL_SERVING not in pods[uid].body["metadata"]["labels"] for uid in drained)
    later = {p.uid for o in ticks[-1].outcomes for p in o.facts.service.pods}
    assert not drained <= later
    admitted = {a.pod.uid for t in ticks[:4] for o in t.outcomes for a in o.plan.admissions}
    ready = {p.uid for o in ticks[-1].outcomes for p in o.facts.service.pods if p.ready}
    assert admitted & ready


def test_each_part_of_a_tick_is_timed(ticks: list[Tick]) -> None:
    for tick in ticks:
        assert set(tick.spans.wall) == set(PARTS)
        assert all(seconds > 0 for seconds in tick.spans.wall.values())


def test_a_tick_at_rest_decides_the_same() -> None:
    run = Run(Size(30))
    for _ in range(3):
        run.tick()
    one, other = run.rest(), run.rest()
    assert one.shares.grants == other.shares.grants
    assert [o.plan for o in one.outcomes] == [o.plan for o in other.outcomes]


def test_figures_of_a_run_end_it() -> None:
    *steps, told = measured(Size(20), ticks=2)
    assert steps
    assert isinstance(told, dict)
    assert (told["services"], told["ticks"]) == (20, 2)
    assert told["rss_mb"] > 10
    assert set(told["parts_s"]) == set(PARTS)


@pytest.mark.parametrize("load", [0.0, 50.0, PER_REPLICA, 5000.0])
def test_replicas_are_never_busier_than_always(load: float) -> None:
    told = signals(load, 1.0, 2)
    assert told.busy <= 2.0 + 1e-9
    assert told.inferences == 2 * load
    assert told.executions * told.mean_batch <= told.inferences + 1e-9


def test_quantiles_and_medians() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([1.0], 0.99) == 1.0
    each = [Spans({p: float(n) for p in PARTS}, dict.fromkeys(PARTS, 0.5)) for n in (1, 2, 3)]
    told = figures(each)
    assert (told["tick_p99_s"], told["tick_p50_s"], told["tick_cpu_p50_s"]) == (12.0, 8.0, 2.0)


def test_growth_is_time_per_service() -> None:
    rows = [row(500, 0.1), row(1000, 0.2), row(5000, 2.0)]
    assert growth(rows, "tick_p50_s") == pytest.approx([1.0, 1.0, 2.0])


def test_goals_that_are_missed_are_told() -> None:
    assert unmet_goals([row(500, 0.1), row(5000, 0.9)]) == []
    missed = unmet_goals([row(500, 0.1), row(5000, 2.0, rss_mb=500.0)])
    assert [m.goal.split(": ")[1] for m in missed] == [
        "p99 of a tick below 1 s",
        "below 400 MB",
        "time grows no more than linearly",
    ]
