"""Objects of a small cluster, and a reading of them."""

from typing import Any

from conch.cli.plugin_read import Leader, Reading
from conch.provisioning.snapshot import Images
from conch.reconcile.gather import Gatherer
from conch.reconcile.settings import Settings
from conch.reconcile.store import Store

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
SINCE = "2023-11-14T22:11:20Z"
GPU = "nvidia.com/gpu"
ALIVE = Leader("conch-1", 1.0)

Object = dict[str, Any]


def meta(name: str, namespace: str | None = "vision", **more: Any) -> Object:
    where = {"namespace": namespace} if namespace else {}
    rest = {"uid": f"uid-{name}", "resourceVersion": "1", "creationTimestamp": SINCE}
    return {"name": name, **where, **rest, **more}


def condition(kind: str, status: str, reason: str, message: str = "words") -> Object:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": SINCE,
    }


def service(
    *conditions: Object,
    generation: int = 1,
    name: str = "digits",
    namespace: str = "vision",
    **status: Any,
) -> Object:
    return {
        "kind": "ModelService",
        "metadata": meta(name, namespace, generation=generation),
        "spec": {"model": {"name": "digits"}, "scaling": {"minReplicas": 1, "maxReplicas": 3}},
        "status": {"observedGeneration": 1, "conditions": list(conditions), **status},
    }


def node(name: str, *, gpus: int = 4) -> Object:
    return {
        "kind": "Node",
        "metadata": meta(name, None, labels={"pool": "a"}),
        "status": {
            "allocatable": {GPU: str(gpus), "cpu": "8", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(
    name: str, node_name: str, *, gpus: int, namespace: str = "vision", **labels: str
) -> Object:
    asked = {"resources": {"limits": {GPU: str(gpus)}}}
    return {
        "kind": "Pod",
        "metadata": meta(name, namespace, labels=labels),
        "spec": {"nodeName": node_name, "containers": [{"name": "c", **asked}]},
        "status": {"phase": "Running"},
    }


POOL: Object = {
    "kind": "GPUPool",
    "metadata": meta("a100", None),
    "spec": {"accelerator": "NVIDIA-A100", "nodeSelector": {"pool": "a"}},
}


def replica(
    name: str, node_name: str, *, gpus: int, namespace: str = "vision", pool: str = "a100"
) -> Object:
    """Return a pod of the service digits."""
    labels = {
        "app.kubernetes.io/managed-by": "conch",
        "conch.dev/service": "digits",
        "conch.dev/pool": pool,
    }
    return pod(name, node_name, gpus=gpus, namespace=namespace, **labels)


def tenant(
    name: str, *namespaces: str, created: str = SINCE, status: Object | None = None, **spec: Any
) -> Object:
    return {
        "kind": "Tenant",
        "metadata": meta(name, None, creationTimestamp=created),
        "spec": {"namespaces": list(namespaces), **spec},
        **({"status": status} if status else {}),
    }


def reading(*objects: Object, leader: Leader | None = ALIVE) -> Reading:
    store = Store()
    for body in objects:
        store.put(body["kind"], body)
    settings = Settings(images=Images(triton="t", conch="c"))
    return Reading(store, Gatherer(store, settings).gather(), leader)
