"""Workloads of the fairness benchmark, from traces of a few lines."""

import gzip
import json
from pathlib import Path

import pytest

from e2e.bench.fairness import workloads
from e2e.bench.fairness.scene import Work, Workload
from e2e.bench.fairness.workloads import (
    PHILLY_EVERY,
    PHILLY_START,
    SERVEGEN_START,
    fleet,
    mean_demand,
    philly,
    replicas_of,
    servegen,
)


def zipped(path: Path, text: str) -> Path:
    with gzip.open(path, "wt") as file:
        file.write(text)
    return path


def philly_of(folder: Path, *jobs: tuple[str, str, float, float, int], span: float) -> Workload:
    lines = ["vc,job_type,num_steps,arrival_s,n_gpus"]
    for vc, kind, steps, at, gpus in jobs:
        lines += [f"{vc},{kind},{steps},{PHILLY_START + at},{gpus}"] * PHILLY_EVERY
    speeds = {"v100": {"('A3C', 1)": {"null": 2.0}, "('A3C', 4)": {"null": 5.0}}}
    return philly(
        zipped(folder / "philly.gz", "\n".join(lines)),
        zipped(folder / "speeds.gz", json.dumps(speeds)),
        span,
        PHILLY_EVERY,
    )


def test_a_job_lasts_as_long_as_its_steps_take(tmp_path: Path) -> None:
    load = philly_of(tmp_path, ("x", "A3C", 100.0, 5.0, 1), ("y", "A3C", 100.0, 9.0, 16), span=60.0)
    one, many = load.works
    assert (one.tenant, one.gpus, one.arrived, one.seconds) == ("x", 1, 5.0, 50.0)
    # the speed of 4 GPUs is the most that was measured; two replicas of 8, 20 s each
    assert (many.tenant, many.gpus, many.seconds, many.wishes) == ("y", 8, 40.0, ((9.0, 2),))
    assert load.weights == {"x": 1.0, "y": 1.0}


def test_jobs_that_came_before_go_on_and_what_is_over_is_left_out(tmp_path: Path) -> None:
    jobs = (
        ("x", "A3C", 100.0, -20.0, 1),
        ("y", "A3C", 100.0, -50.0, 1),
        ("z", "A3C", 1.0, 60.0, 1),
    )
    load = philly_of(tmp_path, *jobs, span=60.0)
    (rest,) = load.works
    assert (rest.tenant, rest.arrived, rest.seconds) == ("x", -20.0, 30.0)
    assert set(load.weights) == {"x", "y", "z"}


@pytest.mark.parametrize(
    ("gpus", "replicas"), [(1, 1), (7, 1), (8, 1), (12, 2), (16, 2), (20, 4), (24, 3), (64, 8)]
)
def test_replicas_fit_into_a_node(gpus: int, replicas: int) -> None:
    assert replicas_of(gpus) == replicas


def test_services_follow_the_rates_of_clients(tmp_path: Path) -> None:
    lines = ["client,window_start_s,rate_rps,cv,dist,param1,param2"]
    for client, window, rate in ((0, 0, 2.5), (0, 600, 2.6), (9, 1200, 0.4), (1, 600, 4.0)):
        lines.append(f"{client},{SERVEGEN_START + window},{rate},1,Gamma,1,1")
    load = servegen(zipped(tmp_path / "servegen.gz", "\n".join(lines)), 1800.0)
    wishes = {w.name: (w.tenant, w.wishes) for w in load.works}
    # 3 GPUs for 2.5 and 2.6 requests a second; a window without a rate wishes for none
    assert wishes["service-0-0"] == ("tenant-0", ((0.0, 3), (1200.0, 0)))
    assert wishes["service-0-1"] == ("tenant-0", ((0.0, 0), (1200.0, 1)))
    assert wishes["service-1-0"] == ("tenant-1", ((0.0, 0), (600.0, 4), (1200.0, 0)))
    assert [load.weights[f"tenant-{n}"] for n in range(4)] == [1.0, 2.0, 4.0, 1.0]
    assert mean_demand(load) == pytest.approx((2 * 3 + 1 + 4) / 3)


def test_the_fleet_goes_by_the_mean_demand() -> None:
    works = (
        Work("j", "a", 8, -100.0, 900.0 * 2, ((-100.0, 2),)),  # 16 GPUs for 900 s
        Work("k", "a", 8, 500.0, 1e9, ((500.0, 1),)),  # 8 GPUs from the middle on
    )
    load = Workload("test", {"a": 1.0}, works, 1000.0)
    assert mean_demand(load) == pytest.approx(14.4 + 4.0)
    assert (fleet(load, 1.15), fleet(load, 0.575)) == (2, 4)


def test_traces_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCH_TRACES", str(tmp_path))
    told = workloads.missing() or ""
    assert all(file in told for file in workloads.WHENCE)
    for file in workloads.WHENCE:
        (tmp_path / file).touch()
    assert workloads.missing() is None
