"""What a simulation says to people and programs: figures of a run, and its course in buckets."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conch.simulate.run import WARM_UP, Outcome
from conch.simulate.workload import Workload

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """One policy on one trace. The first six fields are what programs may rely on."""

    policy: str
    cost_ratio: float | None
    """Replica-seconds divided by those of the clairvoyant optimum; None where that has none."""
    late_percent: float
    p99_wait_s: float | None
    """None: 1 % of the requests or more got no answer."""
    replica_seconds: float
    """Starting ones counted."""
    actions_per_hour: float
    p50_wait_s: float | None
    peak_replicas: int
    mean_replicas: float
    peak_gpus: float
    mean_gpus: float
    gpu_hours: float
    requests: int
    """Those that are judged."""
    judged_hours: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON takes them."""
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}


def figures(
    policy: str, workload: Workload, outcome: Outcome, clairvoyant_seconds: float
) -> Figures:
    """Return the figures of a run; the cost of the clairvoyant optimum is in replica-seconds."""
    seconds = outcome.replica_seconds
    mean = seconds / outcome.judged_seconds if outcome.judged_seconds else 0.0
    line = outcome.timeline
    held = line.held[line.time >= WARM_UP]
    peak = int(held.max()) if len(held) else 0
    return Figures(
        policy=policy,
        cost_ratio=seconds / clairvoyant_seconds if clairvoyant_seconds > 0 else None,
        late_percent=outcome.late_percent,
        p99_wait_s=_finite(outcome.wait(0.99)),
        replica_seconds=seconds,
        actions_per_hour=outcome.actions_per_hour,
        p50_wait_s=_finite(outcome.wait(0.5)),
        peak_replicas=peak,
        mean_replicas=mean,
        peak_gpus=peak * workload.gpus,
        mean_gpus=mean * workload.gpus,
        gpu_hours=seconds * workload.gpus / 3600.0,
        requests=len(outcome.arrivals),
        judged_hours=outcome.judged_seconds / 3600.0,
    )


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


@dataclass(frozen=True)
class Course:
    """What was in buckets of equal length; NaN where nothing is known."""

    edges: Floats
    """Seconds from the trace's start; one more than there are buckets."""
    load: Floats
    """Requests a second."""
    ready: Floats
    """Mean number of replicas that serve."""
    held: Floats
    """Mean number of replicas, starting ones included."""
    late_percent: Floats
    """Of the requests that came; NaN without any, and in the warm-up, which is not judged."""


def course(
    arrivals: Floats,
    outcome: Outcome,
    *,
    span: float,
    gaps: Sequence[tuple[float, float]] = (),
    buckets: int,
) -> Course:
    """Return the course of a run; ``arrivals`` are all requests, those of the warm-up too."""
    edges = np.linspace(0.0, span, buckets + 1)
    known = np.diff(edges) - sum(
        (np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], begin), 0.0, None))
        for begin, end in gaps
    )
    line = outcome.timeline
    return Course(
        edges=edges,
        load=_ratio(np.histogram(arrivals, edges)[0], known),
        ready=_mean(line.time, line.ready, edges),
        held=_mean(line.time, line.held, edges),
        late_percent=100.0
        * _ratio(
            np.histogram(outcome.arrivals[outcome.late], edges)[0],
            np.histogram(outcome.arrivals, edges)[0],
        ),
    )


def _mean(time: Floats, values: NDArray[np.int64], edges: Floats) -> Floats:
    sums = np.histogram(time, edges, weights=values.astype(float))[0]
    return _ratio(sums, np.histogram(time, edges)[0])


def _ratio(upper: NDArray[Any], lower: NDArray[Any]) -> Floats:
    """Return quotients, NaN where the lower is (as good as) nothing."""
    some = lower > 1e-6
    return np.where(some, upper / np.where(some, lower, 1.0), np.nan)
