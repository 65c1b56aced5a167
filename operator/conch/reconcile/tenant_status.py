"""What the status of a Tenant says. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conch.api.conditions import Condition, ConditionType, Reason, Wish, updated
from conch.api.tenant import TenantStatus
from conch.clients.clock import iso
from conch.decisions.shares import Standing
from conch.decisions.shares.usage import Record
from conch.reconcile.resolve import parsed
from conch.reconcile.tenants import TenantFacts, written

Object = dict[str, Any]

_DRIFTS = ("entitlement", "share", "usage")
"""Figures that change with time alone."""
DRIFT = 0.1
"""Of such a figure, below which it is no news: written statuses come to rest."""
_SMALL = 0.05
"""GPUs below which a drift is none."""


@dataclass(frozen=True)
class TenantFigures:
    """What a tick found out about a tenant."""

    standing: Standing
    record: Record
    usage: float
    """Decayed until now, in GPUs of relative speed 1."""
    services: int
    weight: float = 1.0
    waiting_since: float | None = None
    """Seconds since the epoch."""


def tenant_status(
    facts: TenantFacts | None,
    old: Object,
    figures: TenantFigures,
    capacity: Mapping[str, float],
    now: float,
    *,
    usage_is_news: bool = True,
) -> Object:
    """Return the status of a tenant; without ``facts`` it is a namespace of no Tenant.

    ``capacity``: GPUs by accelerator. ``now`` in seconds since the epoch. Where nothing but time
    changed what it says, it is ``old``; ``usage_is_news`` where a usage that drifted is to be written
    none the less: from the record it can be told at any time.
    """
    standing, since = figures.standing, figures.waiting_since
    generation = int(facts.body["metadata"].get("generation", 0)) if facts else None
    status = TenantStatus(
        observed_generation=generation,
        services=figures.services,
        allocated=round(sum(a.gpus for a in figures.record.accounts.values()), 3),
        entitlement=round(standing.entitlement, 2),
        share=None if standing.share is None else round(standing.share, 2),
        usage=round(figures.usage, 2),
        waiting=standing.waiting,
        waiting_since=None if since is None or not standing.waiting else iso(since),
        conditions=[]
        if facts is None
        else updated(
            _conditions(old),
            [_verdict(facts, capacity)],
            generation=generation or 0,
            now=iso(now),
        ),
    ).to_dict()
    status["record"] = written(figures.record)
    drifts = _DRIFTS if usage_is_news else tuple(d for d in _DRIFTS if d != "usage")
    return old if _is_no_news(old, status, drifts) else status


def _conditions(old: Object) -> list[Condition]:
    found = [parsed(Condition, c) for c in old.get("conditions") or ()]
    return [c for c in found if isinstance(c, Condition)]


def _is_no_news(old: Object, new: Object, drifts: Iterable[str]) -> bool:
    """Tell whether the old status still says all, but for figures that drifted a little."""
    settled = {k: v for k, v in new.items() if k not in _DRIFTS}
    if {k: v for k, v in old.items() if k not in _DRIFTS} != settled:
        return False
    return not any(_drifted(old.get(k), new.get(k)) for k in drifts)


def _drifted(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is not new
    return abs(new - old) > max(_SMALL, DRIFT * max(abs(old), abs(new)))


def _verdict(facts: TenantFacts, capacity: Mapping[str, float]) -> Wish:
    """Return whether a Tenant is in force as it is written."""
    ready = ConditionType.READY
    if facts.taken:
        parts = ", ".join(f"{n} belongs to {t}" for n, t in sorted(facts.taken.items()))
        return Wish(ready, False, Reason.NAMESPACE_TAKEN, f"of spec.namespaces, {parts}")
    over = [
        f"{gpus:g} {name} of {capacity.get(name, 0.0):g}"
        for name, gpus in sorted(facts.spec.quota.items())
        if gpus > capacity.get(name, 0.0)
    ]
    if over:
        text = f"spec.quota asks for {', '.join(over)} that all pools have together"
        return Wish(ready, False, Reason.QUOTA_OVER_CAPACITY, text)
    names = (
        "1 namespace"
        if len(facts.spec.namespaces) == 1
        else (f"{len(facts.spec.namespaces)} namespaces")
    )
    return Wish(ready, True, Reason.ACCEPTED, f"{names} of weight {facts.spec.weight:g}")
