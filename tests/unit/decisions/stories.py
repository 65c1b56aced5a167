"""Parts of a fleet for stories: a pool, its nodes, a service, its ReplicaSets and pods."""

from typing import Any

from conch.api.pool import GPUPoolSpec
from conch.api.service import ModelServiceSpec
from conch.decisions.fleet import Amounts, Node, Pod, Pool, ReplicaSet, Service, ServiceKey, Shape
from conch.decisions.placement import Ledger
from conch.decisions.replicas import book_admitted, plan
from conch.decisions.steps import Plan

GPU = "nvidia.com/gpu"
NOW = 10_000.0
ONE_GPU = Shape(Amounts(gpus=1, cpu=1.0, memory=1e9, pods=1), ())


def node(name: str, *, gpus: int = 4, used: int = 0, **fields: Any) -> Node:
    """Return a node with so many GPUs, of which some are used; it has plenty of the rest."""
    facts: dict[str, Any] = {
        "labels": {},
        "ready": True,
        "schedulable": True,
        "taints": (),
        "allocatable": {GPU: float(gpus), "cpu": 64.0, "memory": 1e12, "pods": 110.0},
        "requested": {GPU: float(used)},
        "pods": used,
    }
    return Node(name=name, **{**facts, **fields})


def pool(name: str, *nodes: Node, **spec: Any) -> Pool:
    """Return a pool of nodes; its accelerator has the pool's name."""
    written = {"accelerator": name, "nodeSelector": {"pool": name}, **spec}
    return Pool(name, GPUPoolSpec.model_validate(written), nodes)


def pod(name: str, **fields: Any) -> Pod:
    """Return a pod of revision r1 in pool a that answers on node n1, but for ``fields``."""
    facts: dict[str, Any] = {
        "uid": f"uid-{name}",
        "resource_version": "1",
        "revision": "r1",
        "pool": "a",
        "created": NOW - 1000,
        "node": "n1",
        "gated": False,
        "pinned": "n1",
        "ready": True,
        "serving": True,
        "draining_since": None,
        "deleting": False,
        "unschedulable": None,
    }
    return Pod(name=name, **{**facts, **fields})


def gated(name: str, **fields: Any) -> Pod:
    """Return a pod that waits for its admission."""
    return pod(name, **{"node": None, "pinned": None, "gated": True, "ready": False, **fields})


def drained(name: str, *, ago: float, **fields: Any) -> Pod:
    """Return a pod whose traffic was taken so many seconds ago."""
    return pod(name, **{"serving": False, "draining_since": NOW - ago, **fields})


def replica_set(replicas: int, **fields: Any) -> ReplicaSet:
    """Return the ReplicaSet of revision r1 in pool a, at rest, but for ``fields``."""
    facts: dict[str, Any] = {
        "revision": "r1",
        "pool": "a",
        "gated": False,
        "observed": True,
        "refusal": None,
        **fields,
    }
    name = f"digits-{facts['revision']}-{facts['pool']}"
    return ReplicaSet(**{"name": name, "uid": f"uid-{name}", **facts, "replicas": replicas})


def service(*parts: ReplicaSet | Pod, **fields: Any) -> Service:
    """Return the service of these ReplicaSets and pods; revision r1 is wanted and has traffic."""
    facts: dict[str, Any] = {
        "key": ServiceKey("vision", "digits"),
        "spec": ModelServiceSpec.model_validate({"model": {"name": "digits"}}),
        "revision": "r1",
        "serving_revision": "r1",
        "sets": tuple(p for p in parts if isinstance(p, ReplicaSet)),
        "pods": tuple(p for p in parts if isinstance(p, Pod)),
    }
    return Service(**{**facts, **fields})


def planned(
    of: Service, wanted: int, *pools: Pool, shape: Shape = ONE_GPU, ledger: Ledger | None = None
) -> Plan:
    """Return the plan of a service in these pools, or in one of a node n1 with four GPUs."""
    books = ledger or Ledger()
    used = sum(p.node == "n1" for p in of.pods)
    where = pools or (pool("a", node("n1", used=used)),)
    shapes = {p.name: shape for p in where}
    book_admitted(of, where, shapes, books)
    return plan(of, wanted, pools=where, shapes=shapes, ledger=books, now=NOW)


def names(pods: tuple[Pod, ...]) -> list[str]:
    """Return the names of pods."""
    return [p.name for p in pods]
