"""Sharing between ticks: what was granted last, who waits since when, what each tenant used."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from conch.api.tenant import TenantStatus
from conch.decisions.fleet import Pool, ServiceKey
from conch.decisions.placement.ledger import Workload
from conch.decisions.shares import Grant, Shares, Standing
from conch.decisions.shares.entitlement import QUOTAS_AT_MOST
from conch.decisions.shares.usage import HALF_LIFE_S
from conch.reconcile.resolve import Fault, parsed
from conch.reconcile.sharing import Claims, Wished, holdings, shared
from conch.reconcile.store import Store
from conch.reconcile.tenant_status import TenantFigures, tenant_status
from conch.reconcile.tenants import OWN, Tenancy, Usage
from conch.reconcile.views import seconds_of

Object = dict[str, Any]
USAGE_LASTS_S = 600.0
"""A usage that only drifted is written into the status of a Tenant no more often than this, and of a
namespace without one never: a fleet at rest writes nothing."""
_NOBODY = Standing(allocated=0.0, entitlement=0.0, demand=0.0)


class Sharing:
    """Decides who may have what, and keeps what outlasts a tick."""

    def __init__(self, store: Store, namespace: str, half_life: float = HALF_LIFE_S) -> None:
        """``namespace`` is the operator's; ``half_life`` of usage in seconds."""
        self._usage = Usage(store, namespace, half_life)
        self._tenancy = Tenancy({}, {})
        self._shares = Shares({}, {})
        self._claims = Claims()
        self._services: dict[str, int] = {}
        self._waits: dict[ServiceKey, float] = {}
        self._usage_told = -math.inf
        self.broken: list[tuple[Object, Fault]] = []
        """Tenants that can't be read."""

    def last(self, key: ServiceKey) -> Grant | None:
        """Return what a service was granted in the last tick."""
        return self._shares.grants.get(key)

    def decide(
        self,
        wishes: Sequence[Wished],
        pools: Sequence[Pool],
        now: float,
        workload: Mapping[str, Workload] | None = None,
    ) -> Shares:
        """Charge what is held, and return what each service may have; ``now`` since the epoch.

        ``workload``: what is popular in each pool.
        """
        self._tenancy, self.broken = self._usage.look(now)
        self._usage.settle(holdings(wishes, pools), self._tenancy, now)
        self._shares = shared(
            wishes, self._tenancy, pools, now, workload=workload or {}, known=self._claims
        )
        self._services = defaultdict(int)
        for wish in wishes:
            self._services[self._tenancy.of(wish.facts.key.namespace)] += 1
        self._note_waits(wishes, now)
        return self._shares

    def _note_waits(self, wishes: Iterable[Wished], now: float) -> None:
        waits = {
            w.facts.key
            for w in wishes
            if not w.untouchable and self._shares.grants[w.facts.key].total < w.replicas
        }
        first = not self._waits
        self._waits = {k: self._waits.get(k, self._since(k, now, first=first)) for k in waits}

    def _since(self, key: ServiceKey, now: float, *, first: bool) -> float:
        """Return since when a service waits: an earlier operator may have written it down."""
        facts = self._tenancy.facts.get(self._tenancy.of(key.namespace))
        status = (facts.body.get("status") or {}) if facts and first else {}
        since = status.get("waitingSince")
        return min(now, seconds_of(since)) if since else now

    def figures(self, now: float) -> Mapping[str, TenantFigures]:
        """Return where each tenant stands ``now`` (seconds since the epoch), by name."""
        waits: dict[str, float] = {}
        for key, since in self._waits.items():
            name = self._tenancy.of(key.namespace)
            waits[name] = min(since, waits.get(name, since))
        return {
            name: TenantFigures(
                standing=self._shares.standings.get(name, _NOBODY),
                record=record,
                usage=record.at(now, self._usage.half_life).usage,
                services=self._services.get(name, 0),
                weight=self._tenancy.weight(name),
                waiting_since=waits.get(name),
            )
            for name, record in sorted(self._usage.records().items())
        }

    def statuses(
        self, pools: Iterable[Pool], now: float
    ) -> tuple[list[tuple[Object, Object]], Object | None]:
        """Return each Tenant with its status, and the ConfigMap for all others and the half-life."""
        capacity, stored = capacity_of(pools), self._usage.stored()
        unread = {body["metadata"]["name"] for body, _ in self.broken}
        renew = now - self._usage_told >= USAGE_LASTS_S
        if renew:
            self._usage_told = now
        told, own = [], {}
        for name, figures in self.figures(now).items():
            facts = self._tenancy.facts.get(name)
            if facts is not None and name not in unread:
                old = facts.body.get("status") or {}
                status = tenant_status(facts, old, figures, capacity, now, usage_is_news=renew)
                told.append((facts.body, status))
            elif name.startswith(OWN):
                namespace = name.removeprefix(OWN)
                old = _readable(stored.get(namespace))
                status = tenant_status(None, old, figures, capacity, now, usage_is_news=False)
                own[namespace] = status
        return told, self._usage.config_map(own) if own or told else None

    def overbooked(self, pools: Iterable[Pool]) -> Mapping[str, str]:
        """Return, by accelerator, in words how quotas leave nothing for those without."""
        asked: dict[str, float] = defaultdict(float)
        for facts in self._tenancy.facts.values():
            for accelerator, gpus in facts.spec.quota.items():
                asked[accelerator] += gpus
        return {
            name: f"quotas of all tenants ask for {asked[name]:g} of {there:g} GPUs, more than "
            f"{QUOTAS_AT_MOST:.0%}: tenants without a quota may get none"
            for name, there in capacity_of(pools).items()
            if asked[name] > QUOTAS_AT_MOST * there
        }


def _readable(status: Any) -> Object:
    if not isinstance(status, dict) or isinstance(parsed(TenantStatus, status), Fault):
        return {}
    return status


def capacity_of(pools: Iterable[Pool]) -> Mapping[str, float]:
    """Return the GPUs of all pools by accelerator; a node of two pools counts once."""
    found: dict[str, float] = defaultdict(float)
    seen: set[tuple[str, str, str]] = set()
    for pool in pools:
        for node in pool.nodes:
            key = (pool.spec.accelerator, pool.spec.resource_name, node.name)
            if key not in seen:
                seen.add(key)
                devices = round(node.allocatable.get(pool.spec.resource_name, 0.0))
                # An autoscaler brings as many as are asked for.
                there = float("inf") if pool.spec.elastic else pool.gpus_of(devices)
                found[pool.spec.accelerator] += there
    return found
