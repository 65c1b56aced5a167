"""Runs of the fairness benchmark: every policy on every workload and fleet, and their rows."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from e2e.bench.fairness.conch_policy import Conch
from e2e.bench.fairness.engine import Engine, Policy
from e2e.bench.fairness.figures import Adder, Figures, mean_jain
from e2e.bench.fairness.flood import FLOOD_TICK, Recovery, flooded, recovery
from e2e.bench.fairness.kueue import kueue
from e2e.bench.fairness.memoryless import drf, fifo, static
from e2e.bench.fairness.scene import GPUS_PER_NODE
from e2e.bench.fairness.workloads import PHILLY_EVERY, fleet, load

WORKLOADS = ("philly", "servegen")
LOADS = (0.6, 0.9, 1.2)
POLICIES = ("conch", "fifo", "static", "drf", "kueue")
_PLAIN: Mapping[str, Policy] = {"fifo": fifo, "static": static, "drf": drf, "kueue": kueue}

Place = tuple[str, float]
"""A workload and a load."""


@dataclass(frozen=True, slots=True)
class Task:
    """One simulation of a policy; ``flood`` the one of who wakes, else the workload alone."""

    workload: str
    load: float
    policy: str
    flood: bool
    span: float
    tick: float
    """Seconds."""
    every: int = PHILLY_EVERY
    """Which jobs of Philly are taken."""

    @property
    def place(self) -> Place:
        """Which comparison it belongs to."""
        return self.workload, self.load


@dataclass(frozen=True, slots=True)
class Result:
    """What one policy came to in one comparison."""

    figures: Figures
    recovery: Recovery


def tasks(
    workloads: Iterable[str],
    loads: Sequence[float],
    policies: Iterable[str],
    *,
    span: float,
    tick: float,
    every: int = PHILLY_EVERY,
) -> list[Task]:
    """Return all simulations, those that take longest first; static slices are always among them."""
    chosen = list(dict.fromkeys([*policies, "fifo", "static"]))
    found = [
        Task(workload, at, policy, flood, span, tick, every)
        for workload in workloads
        for at in loads
        for policy in chosen
        for flood in (False, True)
    ]
    return sorted(found, key=lambda t: (t.policy != "conch", t.flood, -t.load))


def run_all(todo: Sequence[Task], workers: int) -> Iterator[tuple[Task, Figures | Recovery]]:
    """Yield the results of all tasks as they come."""
    with ProcessPoolExecutor(workers) as pool:
        running = {pool.submit(run_one, task): task for task in todo}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def run_one(task: Task) -> Figures | Recovery:
    """Simulate one policy."""
    workload = load(task.workload, task.span, task.every)
    nodes = fleet(workload, task.load)
    policy = Conch() if task.policy == "conch" else _PLAIN[task.policy]
    if task.flood:
        waking = flooded(workload, nodes)
        engine = Engine(waking, nodes=nodes, policy=policy, tick=FLOOD_TICK)
        return recovery(engine.until(waking.span), waking.weights, nodes)
    began = time.monotonic()
    engine = Engine(workload, nodes=nodes, policy=policy, tick=task.tick)
    adder = Adder()
    for step in engine.until(workload.span):
        adder.add(step)
    return adder.figures(
        nodes * GPUS_PER_NODE * workload.span,
        decisions=engine.decisions,
        seconds=time.monotonic() - began,
    )


def paired(
    results: Iterable[tuple[Task, Figures | Recovery]],
) -> dict[Place, dict[str, Result]]:
    """Return the results by comparison and policy, in the order of the benchmark."""
    figures: dict[tuple[Place, str], Figures] = {}
    recoveries: dict[tuple[Place, str], Recovery] = {}
    for task, result in results:
        if isinstance(result, Figures):
            figures[task.place, task.policy] = result
        else:
            recoveries[task.place, task.policy] = result
    found: dict[Place, dict[str, Result]] = {}
    for place, policy in sorted(figures, key=lambda key: (key[0], POLICIES.index(key[1]))):
        pair = Result(figures[place, policy], recoveries[place, policy])
        found.setdefault(place, {})[policy] = pair
    return found


def rows(found: Mapping[Place, Mapping[str, Result]]) -> list[dict[str, Any]]:
    """Return a row for each workload, load and policy."""
    return [
        {"workload": workload, "load": at, "policy": policy, **_row(result, group)}
        for (workload, at), group in found.items()
        for policy, result in group.items()
    ]


def _row(result: Result, group: Mapping[str, Result]) -> dict[str, Any]:
    figures, back = result.figures, result.recovery
    loss, who = figures.worst_against(group["static"].figures)
    times = back.load_times
    return {
        "jain_6h": round(mean_jain(figures), 4),
        "jain_6h_worst": round(min(figures.jains), 4),
        "jain_whole": round(figures.jain_whole, 4),
        "worst_vs_static_percent": round(loss, 3),
        "worst_vs_static_tenant": who,
        "preemptions_per_gpu_hour": round(figures.preemptions_per_gpu_hour, 5),
        "utilisation": round(figures.utilisation, 4),
        "utilisation_vs_fifo": round(figures.utilisation / group["fifo"].figures.utilisation, 4),
        "recovery_load_times": None if times is None else round(times, 2),
        "recovered_share": round(back.share, 3),
        "gpus": round(figures.capacity_seconds / (len(figures.served) * 6 * 3600.0)),
        "decisions": figures.decisions,
        "seconds": round(figures.seconds, 1),
    }
