"""What the command reads of a cluster: the same objects and facts that the operator decides on."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from conch.api.pool import SharingMode
from conch.clients.cluster import Cluster, ClusterError, Object
from conch.provisioning.snapshot import Images
from conch.reconcile import views
from conch.reconcile.gather import FleetFacts, Gatherer
from conch.reconcile.settings import Settings
from conch.reconcile.store import Store

FORBIDDEN = 403
_UNKNOWN = 404
LEASE = os.environ.get("CONCH_LEASE_NAME", "conch-operator")
"""Name of the operator's lease, where the chart's operator.leaseName is another."""
ALIVE_S = 30.0
"""A lease renewed within so many seconds has a living holder: it is renewed every 1.5 s."""

_NAMESPACED = ("ModelService", "Model", "ReplicaSet", "Service", "ControllerRevision")
_CLUSTER = ("ClusterModel", "GPUPool", "Node", "Tenant")
_DEVICES = ("ResourceSlice", "ResourceClaim")
"""Read only where a pool is about devices of DRA."""
_LATE = ("Tenant", *_DEVICES)
"""Kinds that a cluster may lack which serves all the others."""


@dataclass(frozen=True)
class Leader:
    """Who holds the operator's lease, and seconds since it was renewed."""

    holder: str
    age: float
    namespace: str = ""
    """Of the lease, which is the operator's."""

    @property
    def pod(self) -> str:
        """Name of the pod, where the operator runs in one."""
        return self.holder.rpartition("-")[0]

    @property
    def alive(self) -> bool:
        """Whether an operator runs."""
        return bool(self.holder) and self.age < ALIVE_S


@dataclass(frozen=True)
class Reading:
    """A cluster as it was read: its objects, and in ``notes`` what could not be read."""

    store: Store
    fleet: FleetFacts
    leader: Leader | None
    """None where there is none, or leases may not be read."""
    lease_known: bool = True
    nodes_known: bool = True
    tenants_known: bool = True
    notes: Sequence[str] = field(default=())


async def read(cluster: Cluster, namespace: str | None, now: float) -> Reading:
    """Read what decisions depend on, of one namespace or of all. Raises ClusterError.

    Nodes, and pods of other namespaces, may be forbidden: then free GPUs are not known.
    """
    store, notes = Store(), list[str]()
    lists = await asyncio.gather(
        *(cluster.list(kind, namespace=namespace) for kind in _NAMESPACED),
        *(_may(cluster, kind, None, notes) for kind in _CLUSTER),
    )
    for kind, items in zip((*_NAMESPACED, *_CLUSTER), lists, strict=True):
        _keep(store, kind, items)
    if any(_is_dra(pool) for pool in store.all("GPUPool")):
        for kind in _DEVICES:
            _keep(store, kind, await _may(cluster, kind, None, notes))
    pods = await _may(cluster, "Pod", None, notes)
    if not pods and namespace is not None:
        pods = await cluster.list("Pod", namespace=namespace)
    _keep(store, "Pod", pods)
    leases: list[str] = []
    leader = await leader_of(cluster, now, leases)
    # What the installation allows and adds is its own matter, not this command's.
    settings = Settings(images=Images(triton="", conch=""), file_prefixes=("/",), dra=True)
    return Reading(
        store=store,
        fleet=Gatherer(store, settings).gather(),
        leader=leader,
        lease_known=not leases,
        nodes_known=not any(kind in note for note in notes for kind in ("Node", "Pod")),
        tenants_known=not any("Tenant" in note for note in notes),
        notes=tuple(notes),
    )


def _is_dra(pool: Object) -> bool:
    return bool((pool["spec"].get("sharing") or {}).get("mode") == SharingMode.DRA)


def _keep(store: Store, kind: str, items: Sequence[Object]) -> None:
    for item in items:
        store.put(kind, item)


async def _may(
    cluster: Cluster, kind: str, namespace: str | None, notes: list[str]
) -> list[Object]:
    """Return a list, or an empty one with a note where reading it is forbidden."""
    try:
        return await cluster.list(kind, namespace=namespace)
    except ClusterError as error:
        if error.status == _UNKNOWN and kind in _LATE:
            hint = ": apply crds/ of this version" if kind == "Tenant" else ""
            notes.append(f"the cluster does not know {kind}s{hint}")
            return []
        if error.status != FORBIDDEN:
            raise
        notes.append(f"you may not list {kind}s of the cluster, so some numbers are missing")
        return []


async def leader_of(cluster: Cluster, now: float, notes: list[str]) -> Leader | None:
    """Return who leads, whichever namespace the operator is in; a note where that is forbidden."""
    leases = await _may(cluster, "Lease", None, notes)
    found = [_leader(lease, now) for lease in leases if lease["metadata"]["name"] == LEASE]
    return min(found, key=lambda leader: leader.age, default=None)


def _leader(lease: Object, now: float) -> Leader:
    spec = lease.get("spec") or {}
    renewed = spec.get("renewTime")
    age = now - views.seconds_of(renewed) if renewed else float("inf")
    return Leader(spec.get("holderIdentity") or "", age, lease["metadata"].get("namespace", ""))


async def events_of(cluster: Cluster, service: Object, most: int = 8) -> list[Object]:
    """Return the newest Events about a ModelService, the oldest of them first."""
    metadata = service["metadata"]
    fields = f"involvedObject.kind=ModelService,involvedObject.uid={metadata['uid']}"
    found = await cluster.list("Event", namespace=metadata["namespace"], fields=fields)
    return sorted(found, key=event_time)[-most:]


def event_time(event: Object) -> float:
    """Return when an Event was last seen, in seconds since the epoch."""
    text = event.get("lastTimestamp") or event.get("eventTime")
    return views.seconds_of(text or event["metadata"]["creationTimestamp"])
