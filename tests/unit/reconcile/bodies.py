"""API objects as the API server would give them, small."""

from typing import Any

from conch.api.names import GATE
from conch.reconcile.gather import FleetFacts, Gatherer
from conch.reconcile.settings import Settings
from conch.reconcile.store import Store
from tests.kit.rendering import IMAGES, MODEL

Object = dict[str, Any]
GPU = "nvidia.com/gpu"
EPOCH = "2026-01-01T00:00:00Z"
EPOCH_S = 1767225600.0


def labels(*, service: str = "digits", revision: str = "r1", pool: str = "a100") -> dict[str, str]:
    """Return the labels of a child."""
    return {
        "app.kubernetes.io/managed-by": "conch",
        "conch.dev/service": service,
        "conch.dev/revision": revision,
        "conch.dev/pool": pool,
        "conch.dev/serving": "on",
    }


def meta(name: str, *, namespace: str | None = "vision", **fields: Any) -> Object:
    """Return metadata; the UID is made of the name."""
    there = {"namespace": namespace} if namespace else {}
    base = {"name": name, "uid": f"uid-{name}", "resourceVersion": "1", "generation": 1}
    return {**base, **there, "creationTimestamp": EPOCH, **fields}


def pod(name: str = "p1", *, node: str | None = "n1", gpus: int = 1, **fields: Any) -> Object:
    """Return a pod of the service that answers; ``fields`` replace metadata, spec or status."""
    container = {"name": "triton", "resources": {"requests": {"cpu": "1", GPU: str(gpus)}}}
    return {
        "metadata": meta(name, labels=labels(), **fields.get("metadata", {})),
        "spec": {
            "containers": [container],
            **({"nodeName": node} if node else {}),
            **fields.get("spec", {}),
        },
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:20Z"}
            ],
            **fields.get("status", {}),
        },
    }


def gated(name: str) -> Object:
    """Return a pod with Conch's gate."""
    waiting = [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]
    return pod(
        name,
        node=None,
        spec={"schedulingGates": [{"name": GATE}]},
        status={"phase": "Pending", "conditions": waiting},
    )


def node(name: str = "n1", *, gpus: int = 4, **fields: Any) -> Object:
    """Return a ready node."""
    return {
        "metadata": meta(
            name, namespace=None, labels={"gpu": "a100"}, **fields.get("metadata", {})
        ),
        "spec": fields.get("spec", {}),
        "status": {
            "allocatable": {GPU: str(gpus), "cpu": "64", "memory": "256Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
            **fields.get("status", {}),
        },
    }


def replica_set(name: str = "digits-r1-a100", *, replicas: int = 1, **fields: Any) -> Object:
    """Return a ReplicaSet at rest."""
    spec = {"replicas": replicas, "template": {"spec": fields.get("template", {})}}
    return {
        "metadata": meta(name, labels=labels(), **fields.get("metadata", {})),
        "spec": spec,
        "status": {"observedGeneration": 1, **fields.get("status", {})},
    }


def gpu_pool(name: str = "a100", **spec: Any) -> Object:
    """Return the GPUPool of the nodes above."""
    written = {"accelerator": "NVIDIA-A100", "nodeSelector": {"gpu": "a100"}, **spec}
    return {"metadata": meta(name, namespace=None), "spec": written}


def model(name: str = "digits", **variant: Any) -> Object:
    """Return the example's Model."""
    written = {**MODEL, "variants": [{**MODEL["variants"][0], **variant}]}
    return {"metadata": meta(name), "spec": written}


def model_service(name: str = "digits", **spec: Any) -> Object:
    """Return a ModelService of that model."""
    return {
        "apiVersion": "conch.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": meta(name),
        "spec": {"model": {"name": "digits"}, **spec},
    }


def service(revision: str, name: str = "digits") -> Object:
    """Return the Service whose selector gives a revision the traffic."""
    return {"metadata": meta(name), "spec": {"selector": {"conch.dev/revision": revision}}}


def store(**objects: Object | list[Object]) -> Store:
    """Return a store of these objects by kind; a model, a pool and a node where not given."""
    given = {"Model": model(), "GPUPool": gpu_pool(), "Node": node(), **objects}
    found = Store()
    for kind, bodies in given.items():
        for body in bodies if isinstance(bodies, list) else [bodies]:
            found.put(kind, body)
    return found


def gathered(of: Store) -> FleetFacts:
    """Return what a tick would see."""
    return Gatherer(of, Settings(images=IMAGES, file_prefixes=("/srv",))).gather()


def current_revision(**spec: Any) -> str:
    """Return the revision that the example's service asks for."""
    (facts,) = gathered(store(ModelService=model_service(**spec))).services
    assert facts.service.revision is not None
    return facts.service.revision


def of_revision(body: Object, revision: str) -> Object:
    """Return a child as one of another revision."""
    metadata = body["metadata"]
    return {
        **body,
        "metadata": {**metadata, "labels": {**metadata["labels"], "conch.dev/revision": revision}},
    }
