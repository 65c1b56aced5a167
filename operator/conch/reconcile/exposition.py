"""The operator's own metrics: what it wants, what there is, and why, for Prometheus."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from conch.decisions.fleet import Pool, ServiceKey
from conch.decisions.scaling import account
from conch.decisions.scaling.account import Decided
from conch.metrics.learned import LEARNED
from conch.reconcile.status import Outcome
from conch.reconcile.tenant_exposition import tenant_metrics
from conch.reconcile.tenant_status import TenantFigures

Object = dict[str, Any]
_TICK_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


SCALING: Mapping[str, tuple[str, str]] = {
    "demand": (
        "conch_service_demand_items_per_second",
        "Items a second that replicas are counted for.",
    ),
    "mean": (
        "conch_service_load_items_per_second",
        "Items a second that came in, over the averaging window.",
    ),
    "mu": (
        "conch_service_replica_items_per_second",
        "Items a second that one replica serves within the objective, on its slowest accelerator.",
    ),
    "planned_share": (
        "conch_service_planned_ratio",
        "Share of that which is planned for.",
    ),
    "load_seconds": (
        "conch_service_load_seconds",
        "Seconds that 9 of 10 starts of a replica take at most.",
    ),
    "margin": (
        "conch_service_margin_ratio",
        "What is kept above the demand, as a share of it.",
    ),
    "beta": (
        LEARNED["beta"],
        "What surprises are multiplied by for the margin; it follows the late requests.",
    ),
    "surprise": (
        LEARNED["surprise"],
        "How much the load has risen within one load time, as a share of it (root mean square).",
    ),
    "dispersion": (
        LEARNED["dispersion"],
        "Variance over mean of the items between two scrapes; 1 where arrivals are independent.",
    ),
    "peak": (
        LEARNED["peak"],
        "The highest load of about a day, in items a second, less what time has taken of it.",
    ),
    "watched": (
        LEARNED["watched"],
        "Seconds in which the load was watched.",
    ),
    "late": (
        "conch_service_late_ratio",
        "Share of the requests that waited too long lately, by their mean wait.",
    ),
    "allowed_late": (
        "conch_service_late_allowed_ratio",
        "Share of the requests that may be late.",
    ),
    "minimum": (
        "conch_service_replicas_min",
        "Never fewer replicas than these, schedules included.",
    ),
    "maximum": ("conch_service_replicas_max", "Never more replicas than these."),
}
"""Metric and help of those figures of a scaling decision that are shown."""


@dataclass(frozen=True)
class ServiceFigures:
    """One service as the last tick left it."""

    namespace: str
    name: str
    wanted: int | None
    replicas: int
    ready: int
    conditions: tuple[tuple[str, str, str], ...]
    """Type, status and reason of each."""


def figures(outcome: Outcome, status: Object) -> ServiceFigures:
    """Return the figures of a service from what was decided and what its status says."""
    key = outcome.facts.key
    return ServiceFigures(
        namespace=key.namespace,
        name=key.name,
        wanted=status.get("desiredReplicas"),
        replicas=status["replicas"],
        ready=status["readyReplicas"],
        conditions=tuple((c["type"], c["status"], c["reason"]) for c in status["conditions"]),
    )


class Exposition(Collector):
    """Metrics of the operator. Ticks replace what it shows; scrapes come from another thread."""

    def __init__(self, requests: Mapping[str, int] | None = None) -> None:
        """``requests`` counts those sent to the API server, by verb, and is read at each scrape."""
        self._requests = {} if requests is None else requests
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.ticks = Histogram(
            "conch_tick_seconds",
            "Time of one tick: gather and decide; writes go on beside it.",
            buckets=_TICK_BUCKETS,
            registry=self.registry,
        )
        self._writes = Counter(
            "conch_writes",
            "Writes that the API server took.",
            ("kind", "verb"),
            registry=self.registry,
        )
        self._services: tuple[ServiceFigures, ...] = ()
        self._scaling: Mapping[ServiceKey, Decided] = {}
        self._pools: tuple[Pool, ...] = ()
        self._tenants: Mapping[str, TenantFigures] = {}
        self._as_of = 0.0

    def count(self, kind: str, verb: str) -> None:
        """Count one write."""
        self._writes.labels(kind, verb).inc()

    def show(
        self,
        services: Iterable[ServiceFigures],
        pools: Sequence[Pool],
        scaling: Mapping[ServiceKey, Decided],
        tenants: Mapping[str, TenantFigures] | None = None,
        now: float = 0.0,
    ) -> None:
        """Show these figures from now on; ``scaling``: what was decided last.

        ``tenants`` as of ``now``, in seconds since the epoch.
        """
        self._services, self._pools = tuple(services), tuple(pools)
        self._scaling, self._tenants, self._as_of = scaling, tenants or {}, now

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges of all services and pools."""
        yield from _services(self._services)
        yield from _scaling(self._scaling)
        yield _pools(self._pools)
        yield from tenant_metrics(self._tenants, self._as_of)
        yield _requests(self._requests)


def _requests(requests: Mapping[str, int]) -> Metric:
    sent = CounterMetricFamily(
        "conch_api_requests", "Requests to the API server, watches not counted.", labels=("verb",)
    )
    for verb, number in sorted(requests.items()):
        sent.add_metric((verb,), number)
    return sent


def _services(services: Sequence[ServiceFigures]) -> Iterator[Metric]:
    labels = ("namespace", "service")
    wanted = GaugeMetricFamily(
        "conch_service_replicas_wanted", "Replicas that scaling decided on.", labels=labels
    )
    there = GaugeMetricFamily("conch_service_replicas", "Replicas that were placed.", labels=labels)
    ready = GaugeMetricFamily(
        "conch_service_replicas_ready", "Replicas that answer with traffic on.", labels=labels
    )
    condition = GaugeMetricFamily(
        "conch_service_condition",
        "1 for the status and reason that a condition has.",
        labels=(*labels, "type", "status", "reason"),
    )
    for s in services:
        key = (s.namespace, s.name)
        if s.wanted is not None:
            wanted.add_metric(key, s.wanted)
        there.add_metric(key, s.replicas)
        ready.add_metric(key, s.ready)
        for parts in s.conditions:
            condition.add_metric((*key, *parts), 1)
    yield from (wanted, there, ready, condition)


def _scaling(decided: Mapping[ServiceKey, Decided]) -> Iterator[Metric]:
    counted = {key: account.figures(of) for key, of in decided.items()}
    for name, (metric, text) in SCALING.items():
        gauge = GaugeMetricFamily(metric, text, labels=("namespace", "service"))
        for key, of in counted.items():
            if name in of:
                gauge.add_metric((key.namespace, key.name), of[name])
        yield gauge


def _pools(pools: Sequence[Pool]) -> Metric:
    gpus = GaugeMetricFamily(
        "conch_pool_gpus",
        "GPUs of a pool's nodes, and those that pods hold.",
        labels=("pool", "accelerator", "state"),
    )
    for pool in pools:
        resource = pool.spec.resource_name
        key = (pool.name, pool.spec.accelerator)
        total = sum(n.allocatable.get(resource, 0.0) for n in pool.nodes)
        used = sum(n.requested.get(resource, 0.0) for n in pool.nodes)
        gpus.add_metric((*key, "total"), total)
        gpus.add_metric((*key, "allocated"), used)
    return gpus
