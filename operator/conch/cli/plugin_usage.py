"""What tenants used and are charged, as the operator wrote it down: status.record and conch-usage."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conch.api.names import LABEL_MANAGED_BY, MANAGED_BY
from conch.cli.plugin_read import FORBIDDEN, Leader
from conch.clients.cluster import Cluster, ClusterError
from conch.decisions.shares.usage import HALF_LIFE_S, Account, Record
from conch.reconcile import views
from conch.reconcile.tenants import HALF_LIFE, RECORDS, USAGE

Object = dict[str, Any]

_LITTLE = "of namespaces without a Tenant only what their pods hold is known"


@dataclass(frozen=True)
class Records:
    """What the operator keeps of the namespaces that no Tenant names."""

    statuses: Mapping[str, Object] = field(default_factory=dict)
    """By namespace: what status is to a Tenant."""
    half_life: float = HALF_LIFE_S
    """Seconds after which usage counts half, of all tenants."""
    found: bool = False
    """Whether they could be read."""
    notes: Sequence[str] = ()


async def records_of(cluster: Cluster, leader: Leader | None) -> Records:
    """Read the records; without the right to, there are none and a note. Raises ClusterError."""
    try:
        body = await _config_map(cluster, leader)
    except ClusterError as error:
        if error.status != FORBIDDEN:
            raise
        note = f"you may not read ConfigMap {USAGE} of the operator's namespace: {_LITTLE}"
        return Records(notes=(note,))
    return records_in(body.get("data") or {}) if body is not None else Records()


async def _config_map(cluster: Cluster, leader: Leader | None) -> Object | None:
    """Return the ConfigMap, found by its name alone where the operator's namespace is not known."""
    if leader is not None and leader.namespace:
        return await cluster.get("ConfigMap", USAGE, leader.namespace)
    found = await cluster.list(
        "ConfigMap",
        selector=f"{LABEL_MANAGED_BY}={MANAGED_BY}",
        fields=f"metadata.name={USAGE}",
    )
    return min(found, key=lambda body: str(body["metadata"]["creationTimestamp"]), default=None)


def records_in(data: Mapping[str, str]) -> Records:
    """Return what the ConfigMap's data says; a note instead of what can't be read."""
    try:
        statuses = _statuses(json.loads(data.get(RECORDS) or "{}"))
        half_life = _half_life(data.get(HALF_LIFE))
    except (KeyError, TypeError, ValueError) as error:
        return Records(notes=(f"ConfigMap {USAGE} can't be read ({error}): {_LITTLE}",))
    return Records(statuses, half_life, found=True)


def _statuses(written: Any) -> Mapping[str, Object]:
    """Return statuses whose records can be read. Raises KeyError, TypeError, ValueError."""
    if not isinstance(written, dict) or not all(isinstance(s, dict) for s in written.values()):
        raise TypeError(f"{RECORDS} is no object of statuses")
    for status in written.values():
        record_in(status)
    return written


def _half_life(text: str | None) -> float:
    """Return seconds; none that is zero or less. Raises ValueError."""
    seconds = float(text or HALF_LIFE_S)
    if not seconds > 0:
        raise ValueError(f"{HALF_LIFE} is {text}")
    return seconds


def record_in(status: Mapping[str, Any]) -> Record | None:
    """Return the record of a status as it was written, None where there is none yet."""
    written = status.get("record") or {}
    if not written.get("asOf"):
        return None
    return Record(
        usage=_number(written, "usage"),
        rate=_number(written, "rate"),
        as_of=views.seconds_of(written["asOf"]),
        accounts={str(a["accelerator"]): _account(a) for a in written.get("accounts") or ()},
    )


def _account(written: Mapping[str, Any]) -> Account:
    return Account(
        gpus=_number(written, "gpus"),
        gpu_hours=_number(written, "gpuHours"),
        cost=_number(written, "cost"),
        cost_per_hour=_number(written, "costPerHour"),
    )


def _number(written: Mapping[str, Any], name: str) -> float:
    return float(written.get(name) or 0.0)
