"""``top`` and ``list``: GPUs by pool and by who holds them, services at a glance. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conch.api.names import LABEL_MANAGED_BY, LABEL_SERVICE, MANAGED_BY
from conch.cli.plugin_read import Reading
from conch.decisions.fleet import Pool
from conch.reconcile import views

Object = dict[str, Any]


@dataclass(frozen=True)
class Holder:
    """Who holds GPUs of a pool: a ModelService, or all other pods of a namespace."""

    name: str
    service: bool
    pods: int
    gpus: int


@dataclass(frozen=True)
class PoolUse:
    """GPUs of one pool and who holds them, the largest holder first."""

    pool: str
    accelerator: str
    nodes: int
    ready_nodes: int
    gpus: int
    used: int
    free: int
    holders: tuple[Holder, ...]


def pool_use(reading: Reading) -> tuple[PoolUse, ...]:
    """Return the use of all pools, by name. A node of two pools counts in both."""
    bound = views.bound_pods(reading.store.all("Pod"))
    return tuple(_use(pool, bound) for pool in sorted(reading.fleet.pools, key=lambda p: p.name))


def _use(pool: Pool, bound: Mapping[str, list[Object]]) -> PoolUse:
    resource = pool.spec.resource_name
    gpus = sum(round(n.allocatable.get(resource, 0.0)) for n in pool.nodes)
    used = sum(round(n.requested.get(resource, 0.0)) for n in pool.nodes)
    pods = [pod for node in pool.nodes for pod in bound.get(node.name, ())]
    return PoolUse(
        pool=pool.name,
        accelerator=pool.spec.accelerator,
        nodes=len(pool.nodes),
        ready_nodes=sum(n.ready for n in pool.nodes),
        gpus=gpus,
        used=used,
        free=gpus - used,
        holders=tuple(_holders(pods, resource)),
    )


def _holders(pods: Iterable[Object], resource: str) -> list[Holder]:
    found: dict[tuple[str, bool], list[int]] = {}
    for pod in pods:
        gpus = round(views.requests_of(pod).get(resource, 0.0))
        if gpus:
            found.setdefault(_owner(pod), []).append(gpus)
    holders = [Holder(name, ours, len(g), sum(g)) for (name, ours), g in found.items()]
    return sorted(holders, key=lambda h: (-h.gpus, h.name))


def _owner(pod: Object) -> tuple[str, bool]:
    labels = pod["metadata"].get("labels") or {}
    namespace = pod["metadata"]["namespace"]
    if labels.get(LABEL_MANAGED_BY) == MANAGED_BY and LABEL_SERVICE in labels:
        return f"{namespace}/{labels[LABEL_SERVICE]}", True
    return f"pods of {namespace}", False


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
