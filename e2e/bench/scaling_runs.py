"""Runs of the scaling benchmark: one policy on one stretch of a trace, added up to rows."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conch.simulate import load_times as loads
from conch.simulate.arrivals import Floats
from conch.simulate.load_times import LoadTimes
from conch.simulate.policies import parse
from conch.simulate.run import WARM_UP, Outcome, simulate
from conch.simulate.traces import Trace, TraceError
from e2e.bench.scaling_traces import SOURCES, source, stretches, whole, workload

POLICIES = (
    "conch",
    "hpa:0.5",
    "hpa:0.7",
    "hpa:0.85",
    "kpa",
    "kpa:tuned",
    "keda:pending=1",
    "keda:pending=2",
    "keda:pending=4",
    "keda:pending=8",
    "keda:inflight=1",
    "forecast",
    "static:peak",
    "clairvoyant",
)
LOAD_TIMES = ("15s", "45s", "180s", "drawn")
_WAITS = np.concatenate(([0.0], np.geomspace(1e-3, 1e6, 2073), [np.inf]))
"""Edges of the histogram of waits, 1 % apart."""


@dataclass(frozen=True)
class Task:
    """One simulation."""

    trace: str
    stretch: tuple[float, float]
    load_time: str
    policy: str
    """As ``--policy`` takes it."""
    seed: int

    @property
    def row(self) -> tuple[str, str, str, int]:
        """Which row it adds to."""
        return self.trace, self.load_time, self.policy, self.seed


@dataclass(frozen=True)
class Sums:
    """What can be added up over stretches."""

    late: int
    requests: int
    replica_seconds: float
    judged_seconds: float
    actions: int
    waits: NDArray[np.int64]
    """Requests by their wait."""

    def __add__(self, other: "Sums") -> "Sums":
        """Return the sums of both."""
        return Sums(
            self.late + other.late,
            self.requests + other.requests,
            self.replica_seconds + other.replica_seconds,
            self.judged_seconds + other.judged_seconds,
            self.actions + other.actions,
            self.waits + other.waits,
        )

    @property
    def p99_wait(self) -> float | None:
        """Seconds, to 1 %; None where 1 % of the requests got no answer."""
        place = int(np.searchsorted(np.cumsum(self.waits), 0.99 * self.requests))
        edge = 0.0 if place == 0 else float(_WAITS[place + 1])
        return edge if np.isfinite(edge) else None


def tasks(
    *,
    traces: Iterable[str],
    load_times: Sequence[str],
    policies: Sequence[str],
    seeds: Sequence[int],
    days: int,
    tune: bool,
) -> list[Task]:
    """Return all simulations, those of one trace, stretch and seed side by side."""
    return [
        Task(name, stretch, load_time, policy, seed)
        for name in traces
        for stretch in _stretches(name, days, tune=tune)
        for seed in seeds
        for load_time in load_times
        for policy in dict.fromkeys([*policies, "clairvoyant"])
    ]


def _stretches(name: str, days: int, *, tune: bool) -> list[tuple[float, float]]:
    """Return the first stretches of a trace that have data to judge."""
    trace, found = whole(name), []
    for start, end in stretches(source(name), trace, tune=tune):
        try:
            enough = trace.cut(start, end).known > 2 * WARM_UP
        except TraceError:  # a day without data
            enough = False
        if enough:
            found.append((start, end))
    return found[:days]


def run_all(found: Sequence[Task], workers: int) -> Iterator[tuple[Task, Sums]]:
    """Yield the results of all tasks as they come."""
    with ProcessPoolExecutor(workers) as pool:
        running = {pool.submit(run_one, task): task for task in found}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def run_one(task: Task) -> Sums:
    """Simulate one policy on one stretch."""
    mean, part, arrivals = _arrivals(task.trace, task.stretch, task.seed)
    service, load = workload(task.trace, mean), load_times(task.load_time)
    outcome = simulate(
        service,
        arrivals,
        parse(task.policy)(service, arrivals, load),
        load_times=load,
        seed=task.seed,
        span=part.span,
        gaps=part.gaps,
    )
    return _sums(outcome)


def load_times(text: str) -> LoadTimes:
    """Return load times by their name in rows."""
    return loads.FLEET if text == "drawn" else loads.fixed(float(text.removesuffix("s")))


@lru_cache(maxsize=len(SOURCES))
def _whole(name: str) -> Trace:
    return whole(name)


@lru_cache(maxsize=1)
def _arrivals(name: str, stretch: tuple[float, float], seed: int) -> tuple[float, Trace, Floats]:
    """Return the mean rate of the whole trace, the stretch and its requests."""
    trace = _whole(name)
    part = trace.cut(*stretch)
    return trace.mean_rps, part, part.arrivals(seed)


def _sums(outcome: Outcome) -> Sums:
    return Sums(
        late=int(outcome.late.sum()),
        requests=len(outcome.arrivals),
        replica_seconds=outcome.replica_seconds,
        judged_seconds=outcome.judged_seconds,
        actions=outcome.actions,
        waits=np.histogram(outcome.waits, _WAITS)[0],
    )


def rows(results: Iterable[tuple[Task, Sums]]) -> list[dict[str, Any]]:
    """Return a row for each trace, load time, policy and seed; costs are those of the optimum."""
    added: dict[tuple[str, str, str, int], Sums] = {}
    for task, sums in results:
        added[task.row] = added[task.row] + sums if task.row in added else sums
    made = []
    for (trace, load_time, policy, seed), sums in sorted(added.items(), key=_order):
        name, _, setting = policy.partition(":")
        best = added[trace, load_time, "clairvoyant", seed].replica_seconds
        made.append(
            {
                "trace": trace,
                "load_time": load_time,
                "policy": name,
                "setting": setting or "default",
                "seed": seed,
                "cost_ratio": round(sums.replica_seconds / best, 4),
                "late_percent": round(100.0 * sums.late / max(1, sums.requests), 4),
                "p99_wait_s": sums.p99_wait if sums.p99_wait is None else round(sums.p99_wait, 3),
                "actions_per_hour": round(3600.0 * sums.actions / sums.judged_seconds, 2),
            }
        )
    return made


def _order(item: tuple[tuple[str, str, str, int], Sums]) -> tuple[int, int, int, str, int]:
    trace, load_time, policy, seed = item[0]
    names = [s.name for s in SOURCES]
    place = POLICIES.index(policy) if policy in POLICIES else len(POLICIES)
    return names.index(trace), LOAD_TIMES.index(load_time), place, policy, seed
