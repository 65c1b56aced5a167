"""Plays API server, controllers, scheduler and kubelets, as far as decisions see of them."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from conch.api.names import ANNOTATION_DRAINING_SINCE as DRAINING
from conch.api.names import API_VERSION, LABEL_SERVING, SERVING
from conch.api.pool import GPUPoolSpec
from conch.clients.clock import iso
from conch.decisions.fleet import ServiceKey
from conch.decisions.steps import Admission, SetPlan
from conch.provisioning import resources
from conch.provisioning.children import children
from conch.provisioning.metadata import Owner
from conch.provisioning.pin import admission_patch
from conch.provisioning.replica_set import replica_set, replica_set_name
from conch.provisioning.snapshot import Snapshot
from conch.reconcile.status import Outcome
from conch.reconcile.store import Store
from e2e.bench.plan_fleet import GPUS_PER_NODE, KINDS, PRODUCT, Fleet, Served, gpu_pool, snapshot_of

Object = dict[str, Any]
EPOCH_S = 1_767_225_600.0
LOAD_S = 12.0
"""Seconds that a pod takes from its node to Ready."""
PLACES = {
    k.pool: resources.Pool(k.pool, GPUPoolSpec.model_validate(gpu_pool(k)["spec"])) for k in KINDS
}
_POOL_OF = {k.accelerator: k.pool for k in KINDS}


@dataclass
class PlayedClock:
    """A clock that is set by hand."""

    now: float = 0.0

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return EPOCH_S + self.now

    def monotonic(self) -> float:
        """Return seconds since the start."""
        return self.now


@dataclass
class Kube:
    """The store of an operator whose writes come true at once; pods become Ready after a while."""

    fleet: Fleet
    clock: PlayedClock
    store: Store = field(default_factory=Store)
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _pods: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """Names of pods, by namespace and name of their ReplicaSet."""
    _starting: dict[tuple[str, str], float] = field(default_factory=dict)
    """When pods become Ready, by namespace and name."""

    def furnish(self) -> list[Served]:
        """Create the fleet; services get the replicas that they wish for while GPUs last."""
        models = {m["metadata"]["name"]: m for m in self.fleet.models()}
        for body in (*self.fleet.nodes(), *self.fleet.pools(), *models.values()):
            self.put(body)
        for body in self.fleet.tenants():
            self.put(body)
        services, free = [], _Free(self.store.all("Node"))
        for one, body in self.fleet.services():
            self._create(one, self.put(body), snapshot_of(body, models), free)
            services.append(one)
        return services

    def put(self, body: Object) -> Object:
        """Write an object: a new one gets its identity, a known one a newer version."""
        metadata = body["metadata"]
        born = {
            "uid": metadata.get("uid") or self.fleet.identity(),
            "creationTimestamp": metadata.get("creationTimestamp") or iso(self.clock.wall()),
            "generation": metadata.get("generation", 1),
            "resourceVersion": str(next(self._versions)),
        }
        made = {**body, "metadata": {**metadata, **born}}
        self.store.put(made["kind"], made)
        return made

    def edit(self, key: ServiceKey, spec: Mapping[str, Any]) -> None:
        """Change a service's spec, as its user would."""
        body = self.store.get("ModelService", key.name, key.namespace)
        if body is not None:
            metadata = {**body["metadata"], "generation": body["metadata"]["generation"] + 1}
            self.put({**body, "metadata": metadata, "spec": {**body["spec"], **spec}})

    def _create(self, one: Served, body: Object, snapshot: Snapshot, free: "_Free") -> None:
        owner = _owner(body)
        for child in children(snapshot, owner=owner):
            self.put(child)
        wished = body["spec"].get("replicas", one.replicas)
        placed: dict[str, list[str]] = {}
        for _ in range(wished):
            node = free.take(one.accelerators, one.gpus)
            if node is not None:
                placed.setdefault(node.rsplit("-", 1)[0], []).append(node)
        for pool, nodes in placed.items():
            wish = SetPlan(snapshot.revision, pool, len(nodes), gated=False, target=len(nodes))
            made = self._replica_set(snapshot, owner, wish)
            for node in nodes:
                self._bind(self._pod(made), node, ready=True)

    def carry_out(self, outcomes: Iterable[Outcome]) -> None:
        """Do what plans say."""
        for outcome in outcomes:
            facts, plan = outcome.facts, outcome.plan
            namespace = facts.key.namespace
            for admission in plan.admissions:
                self._admit(admission)
            for pod in plan.restores:
                self._drains(pod.body, None)
            for pod in plan.drains:
                self._drains(pod.body, iso(self.clock.wall()))
            for pod in plan.deletions:
                self._delete(pod.body)
            for wish in plan.sets:
                name = replica_set_name(facts.key.name, wish.revision, wish.pool)
                body = self.store.get("ReplicaSet", name, namespace)
                if body is None or not _says(body, wish):
                    body = self._replica_set(facts.snapshots[wish.revision], facts.owner, wish)
                self._count(body)

    def start(self) -> None:
        """Let pods become Ready whose time has come."""
        due = [key for key, at in self._starting.items() if at <= self.clock.now]
        for namespace, name in due:
            del self._starting[namespace, name]
            body = self.store.get("Pod", name, namespace)
            if body is not None:
                node = body["spec"]["nodeName"]
                self.put({**body, "status": _status(node, self.clock.wall(), ready=True)})

    def _replica_set(self, snapshot: Snapshot, owner: Owner, wish: SetPlan) -> Object:
        made = replica_set(
            snapshot, PLACES[wish.pool], replicas=wish.replicas, gated=wish.gated, owner=owner
        )
        name, namespace = made["metadata"]["name"], made["metadata"]["namespace"]
        known = self.store.get("ReplicaSet", name, namespace)
        if known is not None:
            old = known["metadata"]
            kept = {"uid": old["uid"], "creationTimestamp": old["creationTimestamp"]}
            made["metadata"] |= kept | {"generation": old["generation"] + 1}
        generation = made["metadata"].get("generation", 1)
        made["status"] = {"observedGeneration": generation, "replicas": wish.replicas}
        return self.put(made)

    def _count(self, body: Object) -> None:
        """Make the pods that a ReplicaSet lacks, and take away those that are too many."""
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        names, replicas = self._pods[namespace, name], body["spec"]["replicas"]
        for _ in range(replicas - len(names)):
            self._pod(body)
        if len(names) > replicas:
            pods = [p for n in sorted(names) if (p := self.store.get("Pod", n, namespace))]
            pods.sort(key=lambda p: "schedulingGates" not in p["spec"])
            for pod in pods[: len(names) - replicas]:
                self._delete(pod)

    def _pod(self, of: Object) -> Object:
        metadata, template = of["metadata"], of["spec"]["template"]
        name = f"{metadata['name']}-{self.fleet.identity()[:5]}"
        reference = Owner("apps/v1", "ReplicaSet", metadata["name"], metadata["uid"]).reference()
        self._pods[metadata["namespace"], metadata["name"]].add(name)
        own = {
            "name": name,
            "namespace": metadata["namespace"],
            "generateName": f"{metadata['name']}-",
            "labels": dict(template["metadata"]["labels"]),
            "annotations": dict(template["metadata"]["annotations"]),
            "ownerReferences": [reference],
        }
        status = {"phase": "Pending", "conditions": [_condition("PodScheduled", None)]}
        return self.put(
            {"kind": "Pod", "metadata": own, "spec": dict(template["spec"]), "status": status}
        )

    def _admit(self, admission: Admission) -> None:
        body: Any = admission.pod.body
        patch = admission_patch(body, admission.node)
        self._bind({**body, "spec": {**body["spec"], **patch["spec"]}}, admission.node or "")

    def _bind(self, body: Object, node: str, *, ready: bool = False) -> None:
        spec = {k: v for k, v in body["spec"].items() if k != "schedulingGates"}
        status = _status(node, self.clock.wall(), ready=ready)
        made = {**body, "metadata": dict(body["metadata"]), "spec": {**spec, "nodeName": node}}
        self.put({**made, "status": status})
        if not ready:
            key = (made["metadata"]["namespace"], made["metadata"]["name"])
            self._starting[key] = self.clock.now + LOAD_S

    def _drains(self, body: Mapping[str, Any], since: str | None) -> None:
        """Take the traffic from a pod, or give it back where it drains since no time."""
        metadata = dict(body["metadata"])
        labels = {k: v for k, v in metadata["labels"].items() if k != LABEL_SERVING}
        notes = {k: v for k, v in metadata["annotations"].items() if k != DRAINING}
        metadata["labels"] = labels | ({} if since else {LABEL_SERVING: SERVING})
        metadata["annotations"] = notes | ({DRAINING: since} if since else {})
        self.put({**body, "metadata": metadata})

    def _delete(self, body: Mapping[str, Any]) -> None:
        metadata = body["metadata"]
        owner = metadata["ownerReferences"][0]["name"]
        self._pods[metadata["namespace"], owner].discard(metadata["name"])
        self._starting.pop((metadata["namespace"], metadata["name"]), None)
        self.store.drop("Pod", dict(body))


class _Free:
    """GPUs that nodes have left, while the first pods are placed: the tightest fit."""

    def __init__(self, nodes: Iterable[Object]) -> None:
        self._left: dict[tuple[str, int], list[str]] = defaultdict(list)
        """Names of nodes, by accelerator and GPUs that are left."""
        for node in nodes:
            key = (node["metadata"]["labels"][PRODUCT], GPUS_PER_NODE)
            self._left[key].append(node["metadata"]["name"])

    def take(self, accelerators: Iterable[str], gpus: int) -> str | None:
        """Return a node that has so many GPUs left, and take them; None where none has."""
        for accelerator in accelerators:
            for left in range(gpus, GPUS_PER_NODE + 1):
                if names := self._left[accelerator, left]:
                    name = names.pop()
                    self._left[accelerator, left - gpus].append(name)
                    return name
        return None


def _owner(body: Object) -> Owner:
    return Owner(API_VERSION, "ModelService", body["metadata"]["name"], body["metadata"]["uid"])


def _says(body: Object, wish: SetPlan) -> bool:
    gated = "schedulingGates" in body["spec"]["template"]["spec"]
    return bool((body["spec"]["replicas"], gated) == (wish.replicas, wish.gated))


def _condition(kind: str, since: float | None) -> Object:
    """Return a condition that is true since then, in seconds since the epoch; None: it is not."""
    if since is None:
        waits = "SchedulingGated" if kind == "PodScheduled" else "ContainersNotReady"
        return {"type": kind, "status": "False", "reason": waits}
    return {"type": kind, "status": "True", "lastTransitionTime": iso(since)}


def _status(node: str, now: float, *, ready: bool) -> Object:
    """Return the status of a pod with a node, in as many words as a kubelet's."""
    kinds = ("Initialized", "ContainersReady", "Ready")
    image = "nvcr.io/nvidia/tritonserver:24.10-py3"
    container = {"name": "triton", "ready": ready, "restartCount": 0, "image": image}
    return {
        "phase": "Running" if ready else "Pending",
        "hostIP": node,
        "conditions": [
            _condition("PodScheduled", now - LOAD_S if ready else now),
            *(_condition(kind, now if ready else None) for kind in kinds),
        ],
        "containerStatuses": [{**container, "state": {"running": {"startedAt": iso(now)}}}],
    }
