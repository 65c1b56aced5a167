"""Who the tenants are, and what each of them used: read from Tenants, kept in their statuses.

Namespaces of no Tenant are tenants of their own, of weight 1; what they used is kept in one
ConfigMap beside the operator.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conch.api.names import LABEL_MANAGED_BY, MANAGED_BY
from conch.api.tenant import TenantSpec, UsageRecord
from conch.clients.clock import iso_micro
from conch.decisions.shares import Tenant
from conch.decisions.shares.tenancy import Claimant, owners
from conch.decisions.shares.usage import (
    Account,
    Held,
    Record,
    entry_penalty,
    recorded,
    same_holdings,
)
from conch.reconcile.resolve import Fault, parsed
from conch.reconcile.store import Store, leaving
from conch.reconcile.views import seconds_of

logger = logging.getLogger(__name__)
Object = dict[str, Any]

USAGE = "conch-usage"
"""Name of the ConfigMap with the records of namespaces of no Tenant."""
RECORDS, HALF_LIFE = "records", "halfLifeSeconds"
OWN = "namespace/"
"""What the names of tenants begin with that are a namespace of no Tenant."""


@dataclass(frozen=True)
class TenantFacts:
    """A Tenant: its spec, and those of its namespaces that are another's."""

    body: Object
    name: str
    spec: TenantSpec
    taken: Mapping[str, str] = field(default_factory=dict)
    """Tenant by namespace."""


@dataclass(frozen=True)
class Tenancy:
    """All tenants, as one tick finds them."""

    facts: Mapping[str, TenantFacts]
    owners: Mapping[str, str]
    """Tenant by namespace."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """By tenant, decayed until now, in GPUs of relative speed 1."""
    half_life: float = 1.0

    def of(self, namespace: str) -> str:
        """Return the tenant of a namespace."""
        return self.owners.get(namespace, OWN + namespace)

    def weight(self, tenant: str) -> float:
        """Return the weight of a tenant."""
        facts = self.facts.get(tenant)
        return facts.spec.weight if facts is not None else 1.0

    def priority(self, namespace: str, wished: int) -> int:
        """Return the priority of a service, within the range of its tenant."""
        facts = self.facts.get(self.of(namespace))
        if facts is None:
            return wished
        return min(max(wished, facts.spec.priorities.min), facts.spec.priorities.max)

    def tenants(self, young: Mapping[str, list[tuple[float, float, float]]]) -> list[Tenant]:
        """Return all that are known; ``young``: charge, age, load time of starting replicas by namespace."""
        ahead: dict[str, list[tuple[float, float, float]]] = {}
        for namespace, replicas in young.items():
            ahead.setdefault(self.of(namespace), []).extend(replicas)
        return [
            self._tenant(name, self.usage.get(name, 0.0), ahead.get(name, []))
            for name in sorted({*self.facts, *self.usage, *ahead})
        ]

    def _tenant(self, name: str, usage: float, young: list[tuple[float, float, float]]) -> Tenant:
        used = usage + entry_penalty(young, self.half_life)
        facts = self.facts.get(name)
        if facts is None:
            return Tenant(name, usage=used)
        spec = facts.spec
        return Tenant(
            name=name,
            weight=spec.weight,
            quota=spec.quota,
            limit=spec.limit,
            preemptible=spec.preemptible,
            borrowing=spec.borrowing,
            lending=spec.lending,
            usage=used,
        )


def tenancy(
    bodies: Iterable[Object], good: Mapping[str, TenantFacts]
) -> tuple[dict[str, TenantFacts], Mapping[str, str], list[tuple[Object, Fault]]]:
    """Return the Tenants, the tenant of each namespace, and those that can't be read.

    One that can't be read goes on as it was, where ``good`` has it.
    """
    specs, broken = {}, []
    for body in bodies:
        name = body["metadata"]["name"]
        if leaving(body):
            continue
        spec = parsed(TenantSpec, body.get("spec"))
        if isinstance(spec, Fault):
            broken.append((body, spec))
            if name in good:
                specs[name] = (body, good[name].spec)
        else:
            specs[name] = (body, spec)
    whose = owners(
        Claimant(name, body["metadata"].get("creationTimestamp", ""), tuple(spec.namespaces))
        for name, (body, spec) in specs.items()
    )
    facts = {
        name: TenantFacts(
            body, name, spec, {n: whose[n] for n in spec.namespaces if whose[n] != name}
        )
        for name, (body, spec) in specs.items()
    }
    return facts, whose, broken


class Usage:
    """What each tenant used, between ticks. The cluster holds it: this only saves reading it."""

    def __init__(self, store: Store, namespace: str, half_life: float) -> None:
        """``namespace`` is the operator's; ``half_life`` in seconds."""
        self._store = store
        self._namespace = namespace
        self.half_life = half_life
        self._records: dict[str, Record] = {}
        self._good: dict[str, TenantFacts] = {}
        """Of the last tick: a spec that can't be read changes nothing."""

    def look(self, now: float) -> tuple[Tenancy, list[tuple[Object, Fault]]]:
        """Return the tenants as they are ``now`` (seconds since the epoch), and unreadable ones."""
        facts, whose, broken = tenancy(self._store.all("Tenant"), self._good)
        self._good = facts
        for name, one in facts.items():
            if name not in self._records:
                self._take(name, (one.body.get("status") or {}).get("record"))
        self._take_own()
        gone = [n for n in self._records if not n.startswith(OWN) and n not in facts]
        for name in gone:
            del self._records[name]
        usage = {n: r.at(now, self.half_life).usage for n, r in self._records.items()}
        return Tenancy(facts, whose, usage, self.half_life), broken

    def settle(self, held: Mapping[str, list[Held]], of: Tenancy, now: float) -> None:
        """Charge what was held until ``now``; ``held`` by namespace is what is held from now on."""
        by_tenant: dict[str, list[Held]] = {}
        for namespace, replicas in held.items():
            by_tenant.setdefault(of.of(namespace), []).extend(replicas)
        for name in {*self._records, *by_tenant, *of.facts}:
            old = self._records.get(name)
            new = recorded(old, by_tenant.get(name, ()), now, self.half_life)
            if old is None or not same_holdings(old, new):
                self._records[name] = new

    def records(self) -> Mapping[str, Record]:
        """Return what is kept of all tenants, by name."""
        return self._records

    def _take(self, name: str, written: Any) -> None:
        record = parsed(UsageRecord, written) if written else None
        if isinstance(record, UsageRecord):
            self._records[name] = from_written(record)
        elif record is not None:
            logger.warning("tenant %s: its record of usage can't be read: %s", name, record.message)

    def _take_own(self) -> None:
        body = self._store.get("ConfigMap", USAGE, self._namespace)
        known = any(name.startswith(OWN) for name in self._records)
        if body is None or known:
            return
        for namespace, status in _stored(body).items():
            if isinstance(status, dict) and status.get("record"):
                self._take(OWN + namespace, status["record"])

    def config_map(self, statuses: Mapping[str, Object]) -> Object:
        """Return the ConfigMap; ``statuses`` by namespace."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": USAGE,
                "namespace": self._namespace,
                "labels": {LABEL_MANAGED_BY: MANAGED_BY},
            },
            "data": {
                HALF_LIFE: f"{self.half_life:g}",
                RECORDS: json.dumps(statuses, sort_keys=True),
            },
        }

    def stored(self) -> Mapping[str, Object]:
        """Return the statuses that the ConfigMap holds, by namespace."""
        body = self._store.get("ConfigMap", USAGE, self._namespace)
        return _stored(body) if body is not None else {}


def _stored(body: Object) -> Mapping[str, Object]:
    try:
        found = json.loads((body.get("data") or {}).get(RECORDS, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def from_written(record: UsageRecord) -> Record:
    """Return a record as decisions take it."""
    return Record(
        usage=record.usage,
        rate=record.rate,
        as_of=_time(record.as_of),
        accounts={
            a.accelerator: Account(a.gpus, a.gpu_hours, a.cost, a.cost_per_hour)
            for a in record.accounts
        },
    )


def _time(text: str | None) -> float:
    try:
        return seconds_of(text) if text else 0.0
    except ValueError:
        return 0.0


def written(record: Record) -> Object:
    """Return a record as a status holds it."""
    return {
        "usage": record.usage,
        "rate": record.rate,
        "asOf": iso_micro(record.as_of),
        "accounts": [
            {
                "accelerator": name,
                "gpus": account.gpus,
                "gpuHours": account.gpu_hours,
                "cost": account.cost,
                "costPerHour": account.cost_per_hour,
            }
            for name, account in sorted(record.accounts.items())
        ],
    }
