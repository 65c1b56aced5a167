"""``top`` and ``list``: GPUs by pool and by who holds them, services at a glance. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conch.api.names import LABEL_SERVICE
from conch.cli.plugin_read import Reading
from conch.cli.plugin_tenants import Owners, is_replica, owners_in, price
from conch.decisions.fleet import Pool
from conch.reconcile import views

Object = dict[str, Any]


@dataclass(frozen=True)
class Holder:
    """Who holds GPUs of a pool: a ModelService, or all other pods of a namespace."""

    name: str
    service: bool
    pods: int
    gpus: float
    tenant: str
    """Whose the namespace is."""
    cost_per_hour: float | None
    """Of these GPUs; None where the pool has no price."""


@dataclass(frozen=True)
class PoolUse:
    """GPUs of one pool and who holds them, the largest holder first."""

    pool: str
    accelerator: str
    nodes: int
    ready_nodes: int
    gpus: float
    used: float
    free: float
    used_cost_per_hour: float | None
    free_cost_per_hour: float | None
    holders: tuple[Holder, ...]


def pool_use(reading: Reading) -> tuple[PoolUse, ...]:
    """Return the use of all pools, by name. A node of two pools counts in both."""
    bound = views.bound_pods(reading.store.all("Pod"))
    whose = owners_in(reading)
    pools = sorted(reading.fleet.pools, key=lambda p: p.name)
    return tuple(_use(pool, bound, whose) for pool in pools)


def _use(pool: Pool, bound: Mapping[str, list[Object]], whose: Owners) -> PoolUse:
    resource = pool.spec.resource_name
    devices = sum(round(n.allocatable.get(resource, 0.0)) for n in pool.nodes)
    taken = sum(round(n.requested.get(resource, 0.0)) for n in pool.nodes)
    pods = [pod for node in pool.nodes for pod in bound.get(node.name, ())]
    used, free = _gpus(pool, taken), _gpus(pool, devices - taken)
    return PoolUse(
        pool=pool.name,
        accelerator=pool.spec.accelerator,
        nodes=len(pool.nodes),
        ready_nodes=sum(n.ready for n in pool.nodes),
        gpus=_gpus(pool, devices),
        used=used,
        free=free,
        used_cost_per_hour=price(pool, used),
        free_cost_per_hour=price(pool, free),
        holders=tuple(_holders(pods, pool, whose)),
    )


def _gpus(pool: Pool, devices: int) -> float:
    """Return devices in GPUs, as an integer where they are whole."""
    gpus = pool.gpus_of(devices)
    return int(gpus) if gpus == int(gpus) else gpus


def _holders(pods: Iterable[Object], pool: Pool, whose: Owners) -> list[Holder]:
    found: dict[tuple[str, str, bool], list[int]] = {}
    for pod in pods:
        devices = round(views.requests_of(pod).get(pool.spec.resource_name, 0.0))
        if pool.gpus_of(devices):
            found.setdefault(_owner(pod), []).append(devices)
    holders = []
    for (namespace, name, ours), devices_each in found.items():
        gpus = _gpus(pool, sum(devices_each))
        cost = price(pool, gpus)
        holders.append(Holder(name, ours, len(devices_each), gpus, whose.of(namespace), cost))
    return sorted(holders, key=lambda h: (-h.gpus, h.name))


def _owner(pod: Object) -> tuple[str, str, bool]:
    namespace = pod["metadata"]["namespace"]
    if is_replica(pod):
        return namespace, f"{namespace}/{pod['metadata']['labels'][LABEL_SERVICE]}", True
    return namespace, f"pods of {namespace}", False


def overview(services: Iterable[Object]) -> list[dict[str, Any]]:
    """Return one line for each ModelService, ordered by namespace and name."""
    return [
        _line(s)
        for s in sorted(services, key=lambda s: (s["metadata"]["namespace"], s["metadata"]["name"]))
    ]


def _line(service: Object) -> dict[str, Any]:
    status = service.get("status") or {}
    ready = views.condition(service, "Ready")
    return {
        "namespace": service["metadata"]["namespace"],
        "name": service["metadata"]["name"],
        "model": service["spec"]["model"]["name"],
        "ready": status.get("readyReplicas", 0),
        "wanted": status.get("desiredReplicas"),
        "reason": ready.get("reason", "not looked at yet"),
        "scaling": views.condition(service, "ScalingActive").get("reason", "-"),
        "pools": {p["pool"]: p["replicas"] for p in status.get("pools") or ()},
    }
