"""``top tenants``: what each tenant holds, may have, has used and is charged. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from conch.api.names import LABEL_MANAGED_BY, LABEL_POOL, LABEL_SERVICE, MANAGED_BY
from conch.cli.plugin_read import Reading
from conch.cli.plugin_usage import Records, record_in
from conch.decisions.fleet import Pool
from conch.decisions.shares import usage
from conch.decisions.shares.tenancy import Claimant, owners
from conch.provisioning.metadata import bounded
from conch.reconcile import views
from conch.reconcile.tenants import OWN

Object = dict[str, Any]

_STEADY = 0.05
"""Usage within this part of the rate, or within so little of a GPU, is there already."""
_STEADY_GPUS = 0.01


class Trend(StrEnum):
    """Where decayed usage is heading, if what is held now stays held."""

    RISING = "rising"
    STEADY = "steady"
    FALLING = "falling"


@dataclass(frozen=True)
class Amount:
    """GPUs of one accelerator."""

    accelerator: str
    gpus: float


@dataclass(frozen=True)
class Charge:
    """What a tenant holds of one accelerator and is charged for it; None: not known."""

    accelerator: str
    gpus: float
    gpu_hours: float | None
    """Since it is known."""
    cost: float | None
    """Of these, in the currency of the pools' prices."""
    cost_per_hour: float | None
    """Of what is held now."""


@dataclass(frozen=True)
class TenantUse:
    """One tenant as of now; None: not known."""

    tenant: str
    declared: bool
    """False: a namespace that no Tenant names, which is a tenant of its own."""
    namespaces: tuple[str, ...]
    weight: float
    quota: tuple[Amount, ...]
    limit: tuple[Amount, ...]
    services: int
    allocated: float
    """GPUs that its pods hold."""
    entitlement: float | None
    """GPUs that it may have now."""
    share: float | None
    """Allocated over entitlement, by speed; above 1 it borrows."""
    usage: float | None
    """Decayed mean of what it held, in GPUs of relative speed 1."""
    rate: float | None
    """What it holds, in the same: where usage goes."""
    trend: Trend | None
    waiting: int | None
    """Replicas that are wished for and may not be had yet."""
    waiting_seconds: float | None
    cost_per_hour: float | None
    gpu_hours: float | None
    cost: float | None
    as_of: str
    """Time of all this (ISO 8601, UTC)."""
    charges: tuple[Charge, ...]
    """By accelerator, by name."""


@dataclass(frozen=True)
class Owners:
    """Whose each namespace is."""

    by_namespace: Mapping[str, str]
    tenants: frozenset[str] = frozenset()
    """Names of the Tenants."""

    def of(self, namespace: str) -> str:
        """Return the tenant of a namespace: one that no Tenant names is its own."""
        return self.by_namespace.get(namespace) or self.alone(namespace)

    def alone(self, namespace: str) -> str:
        """Return what a namespace is called as a tenant of its own, other than every Tenant."""
        return f"{OWN}{namespace}" if namespace in self.tenants else namespace


def owners_in(reading: Reading) -> Owners:
    """Return whose each namespace is, as the Tenants say it."""
    claimants = [claimant(body) for body in reading.store.all("Tenant")]
    return Owners(owners(claimants), frozenset(c.name for c in claimants))


def claimant(body: Object) -> Claimant:
    """Return a Tenant as the sharing of namespaces takes it."""
    metadata = body["metadata"]
    created = metadata.get("creationTimestamp") or ""
    return Claimant(metadata["name"], created, tuple(body["spec"]["namespaces"]))


def tenant_uses(reading: Reading, records: Records, now: float) -> tuple[TenantUse, ...]:
    """Return all tenants at ``now`` (seconds since the epoch), who holds most first."""
    whose = owners_in(reading)
    held = _held(reading, whose)
    services = Counter(whose.of(s["metadata"]["namespace"]) for s in _services(reading))
    made = [
        _use(
            replace(known, services=services[known.name], held=held.get(known.name, {})),
            whose,
            records.half_life,
            now,
        )
        for known in (*_declared(reading), *_alone(reading, records, whose))
    ]
    return tuple(sorted(made, key=lambda t: (-t.allocated, t.tenant)))


def tenant_of(namespace: str, reading: Reading, records: Records, now: float) -> TenantUse | None:
    """Return the tenant of a namespace at ``now``; None where that can't be told."""
    if not reading.tenants_known:
        return None
    uses = tenant_uses(reading, records, now)
    return next((t for t in uses if namespace in t.namespaces), None)


def _services(reading: Reading) -> Iterable[Object]:
    return reading.store.all("ModelService")


@dataclass(frozen=True)
class _Known:
    """What is known of a tenant."""

    name: str
    spec: Object
    status: Object
    declared: bool
    services: int = 0
    held: Mapping[str, Charge] = field(default_factory=dict)
    """By accelerator, as the pods show it."""


def _declared(reading: Reading) -> Iterator[_Known]:
    for body in reading.store.all("Tenant"):
        status = body.get("status") or {}
        yield _Known(body["metadata"]["name"], body["spec"], status, declared=True)


def _alone(reading: Reading, records: Records, whose: Owners) -> Iterator[_Known]:
    """Yield the namespaces that are tenants of their own, or were and are charged for that time."""
    seen = {s["metadata"]["namespace"] for s in _services(reading)}
    seen |= {pod["metadata"]["namespace"] for pod, _ in _replicas(reading)}
    for namespace in sorted({*seen, *records.statuses}):
        name, status = whose.alone(namespace), records.statuses.get(namespace, {})
        if whose.of(namespace) == name or _was_charged(status):
            yield _Known(name, {"namespaces": [namespace]}, status, declared=False)


def _was_charged(status: Object) -> bool:
    record = record_in(status)
    return record is not None and any(a.gpu_hours for a in record.accounts.values())


def _use(known: _Known, whose: Owners, half_life: float, now: float) -> TenantUse:
    spec, status, record = known.spec, known.status, record_in(known.status)
    current = record.at(now, half_life) if record else None
    charges = tuple(_charges(current, known.held))
    since = status.get("waitingSince")
    return TenantUse(
        tenant=known.name,
        declared=known.declared,
        namespaces=tuple(n for n in spec["namespaces"] if whose.of(n) == known.name),
        weight=spec.get("weight", 1.0),
        quota=_amounts(spec.get("quota")),
        limit=_amounts(spec.get("limit")),
        services=status.get("services", 0) if current else known.services,
        allocated=status.get("allocated", 0.0) if current else sum(c.gpus for c in charges),
        entitlement=status.get("entitlement", 0.0) if current else None,
        share=status.get("share"),
        usage=current.usage if current else None,
        rate=current.rate if current else None,
        trend=trend(current.usage, current.rate) if current else None,
        waiting=status.get("waiting", 0) if current else None,
        waiting_seconds=now - views.seconds_of(since) if since else None,
        cost_per_hour=_total(c.cost_per_hour for c in charges),
        gpu_hours=_total(c.gpu_hours for c in charges) if current else None,
        cost=_total(c.cost for c in charges) if current else None,
        as_of=iso(now),
        charges=charges,
    )


def _amounts(written: Mapping[str, float] | None) -> tuple[Amount, ...]:
    return tuple(Amount(name, gpus) for name, gpus in sorted((written or {}).items()))


def _charges(current: usage.Record | None, held: Mapping[str, Charge]) -> Iterator[Charge]:
    """Yield what is charged by accelerator: as the operator counts, else what pods hold."""
    if current is None:
        yield from (held[name] for name in sorted(held))
        return
    for name, a in sorted(current.accounts.items()):
        yield Charge(name, a.gpus, a.gpu_hours, a.cost, a.cost_per_hour)


def _total(parts: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None where there are parts, and of none it is."""
    listed = list(parts)
    known = [part for part in listed if part is not None]
    return sum(known) if known or not listed else None


def _held(reading: Reading, whose: Owners) -> Mapping[str, Mapping[str, Charge]]:
    """Return what replicas hold, by tenant and accelerator."""
    found: dict[str, dict[str, Charge]] = {}
    for pod, pool in _replicas(reading):
        mine = found.setdefault(whose.of(pod["metadata"]["namespace"]), {})
        name = pool.spec.accelerator
        mine[name] = _more(mine.get(name), _charge(pod, pool))
    return found


def _replicas(reading: Reading) -> Iterator[tuple[Object, Pool]]:
    """Yield the pods of services that have a node, each with the pool that it is in by its label."""
    pools = {bounded(pool.name): pool for pool in reading.fleet.pools}
    for pods in views.bound_pods(reading.store.all("Pod")).values():
        for pod in pods:
            pool = pools.get((pod["metadata"].get("labels") or {}).get(LABEL_POOL, ""))
            if pool is not None and is_replica(pod):
                yield pod, pool


def is_replica(pod: Object) -> bool:
    """Tell whether a pod is one of a ModelService."""
    labels = pod["metadata"].get("labels") or {}
    return labels.get(LABEL_MANAGED_BY) == MANAGED_BY and LABEL_SERVICE in labels


def _charge(pod: Object, pool: Pool) -> Charge:
    gpus = pool.gpus_of(round(views.requests_of(pod).get(pool.spec.resource_name, 0.0)))
    return Charge(pool.spec.accelerator, gpus, None, None, price(pool, gpus))


def price(pool: Pool, gpus: float) -> float | None:
    """Return what so many GPUs of a pool cost an hour; None where the pool has no price."""
    each = pool.spec.price_per_gpu_hour
    return None if each is None else gpus * each


def _more(one: Charge | None, other: Charge) -> Charge:
    if one is None:
        return other
    cost = _total((one.cost_per_hour, other.cost_per_hour))
    return Charge(one.accelerator, one.gpus + other.gpus, None, None, cost)


def trend(used: float, rate: float) -> Trend:
    """Return where usage is heading that moves to ``rate``; both in GPUs of relative speed 1."""
    if abs(rate - used) <= max(_STEADY_GPUS, _STEADY * max(rate, used)):
        return Trend.STEADY
    return Trend.RISING if rate > used else Trend.FALLING


def iso(seconds: float) -> str:
    """Return a time (seconds since the epoch) as the API writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
