"""What single replicas do, as Prometheus has it; asked seldom, and only where somebody is late.

Five queries, each over all pods at once. They say of one pod what those of a tick (queries.py) say
of the pods of a service and pool together: the same metrics of Triton, the same labels, rates
between a pod's last two scrapes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from conch.metrics.queries import LIVE, LOOKBACK, P99, SELECTOR, pod_rate
from conch.metrics.series import SKEW, Series, sane

_BY = "namespace, pod, conch_dev_service, model"
_COMPUTE = ("input", "infer", "output")

PodName = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class ReplicaSignals:
    """What one pod showed at its last scrape."""

    scraped: float
    """When that was (seconds since the epoch)."""
    p99: float | None = None
    """Slowest percentile of its requests (s), as Triton has it for about a minute; None where nobody
    asked, or Triton keeps none."""
    busy: float | None = None
    """Instances of the model that were running, on average since the scrape before; None: there was
    no scrape before."""


def replica_queries(lookback: float = LOOKBACK) -> Mapping[str, str]:
    """Return the queries by name. ``lookback`` (s) must hold two scrapes of each pod."""
    rate = partial(pod_rate, by=_BY, lookback=lookback)
    compute = (rate(f"nv_inference_compute_{part}_duration_us") for part in _COMPUTE)
    return {
        "replica_p99_us": f"max by ({_BY}) ({P99} >= 0 {LIVE})",
        "replica_runs": rate("nv_inference_exec_count"),
        "replica_requests": rate("nv_inference_request_success"),
        "replica_compute_us": " + ".join(compute),
        "replica_scraped": f"max by ({_BY}) (timestamp(nv_inference_count{SELECTOR}) {LIVE})",
    }


def replicas(
    answers: Mapping[str, Iterable[Series]],
    entry: Mapping[tuple[str, str], str],
    *,
    lookback: float = LOOKBACK,
) -> Mapping[PodName, ReplicaSignals]:
    """Return what each pod showed; what makes no sense, or is older than ``lookback`` (s), is left out.

    ``answers`` are by the names in ``replica_queries()``. ``entry``: Triton's name of the model that
    callers ask, by (namespace, service); of a service that it lacks pods must show one model only.
    """
    found = {}
    for (name, service), models in _grouped(answers).items():
        asked = entry.get((name[0], service))
        if asked is None and len(models) > 1:
            continue
        values = models.get(asked) if asked is not None else next(iter(models.values()))
        one = None if values is None else _signals(values, lookback)
        if one is not None:
            found[name] = one
    return found


_Values = dict[str, Series]


def _grouped(
    answers: Mapping[str, Iterable[Series]],
) -> Mapping[tuple[PodName, str], Mapping[str, _Values]]:
    """Return the series of each pod, with its service, by model and query."""
    groups: dict[tuple[PodName, str], dict[str, _Values]] = {}
    for query, series in answers.items():
        for one in series:
            label = one.labels.get
            name = label("namespace", ""), label("pod", "")
            models = groups.setdefault((name, label("conch_dev_service", "")), {})
            models.setdefault(label("model", ""), {})[query] = one
    return groups


def _signals(values: _Values, lookback: float) -> ReplicaSignals | None:
    if not all(sane(s.value) for s in values.values()):
        return None
    scraped = values.get("replica_scraped")
    if scraped is None or not -SKEW <= scraped.time - scraped.value <= lookback:
        return None
    p99 = values.get("replica_p99_us")
    return ReplicaSignals(scraped.value, None if p99 is None else p99.value / 1e6, _busy(values))


def _busy(values: _Values) -> float | None:
    """Return the instances that were running: runs a second, times the seconds of a run.

    The time of a run counts for each request of its batch, so that it is divided by requests.
    """
    runs, requests, compute = (
        values.get(f"replica_{name}") for name in ("runs", "requests", "compute_us")
    )
    if runs is None or requests is None or compute is None:
        return None
    return runs.value * compute.value / requests.value / 1e6 if requests.value > 0 else 0.0
