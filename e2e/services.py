"""The sample services on a stage: applied, found, counted."""

from typing import Any

from e2e.install import Stage
from e2e.kubectl import condition
from e2e.models import DIGITS, TUMOR, Sample, apply_claim, documents, sourced

Object = dict[str, Any]


def apply_samples(stage: Stage) -> None:
    """Apply pools, namespaces, models and services as the examples have them.

    The files' place is the only thing that differs: the nodes' own folder.
    """
    stage.tools.apply(*documents("pools.yaml"))
    for sample in (DIGITS, TUMOR):
        stage.tools.apply(*namespaced(sample))
        apply_claim(stage.tools, sample.namespace, stage.models)
        stage.tools.apply(*sample_objects(stage, sample))


def namespaced(sample: Sample) -> list[Object]:
    """Return the namespace of a sample, with the restricted Pod Security Standard."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": sample.namespace, "labels": labels},
        }
    ]


def sample_objects(stage: Stage, sample: Sample) -> list[Object]:
    """Return the Model and ModelService of a sample; digits come from a claim, tumor from a file."""
    uri = f"pvc://models/{sample.name}"
    if sample == TUMOR:
        uri = f"file://{stage.models / sample.name}"
    objects = [d for d in documents(sample.file) if d["kind"] in ("Model", "ModelService")]
    return sourced(objects, uri)


def service(stage: Stage, sample: Sample) -> Object | None:
    """Return the ModelService of a sample."""
    return stage.tools.get("modelservice", sample.name, sample.namespace)


def ready_replicas(stage: Stage, sample: Sample) -> int:
    """Return how many replicas answer, as the status says."""
    body = service(stage, sample) or {}
    return int((body.get("status") or {}).get("readyReplicas", 0))


def pods_of(stage: Stage, sample: Sample, *, ready: bool = False) -> list[Object]:
    """Return the pods of a sample that are not on their way out, or only those that answer."""
    pods = stage.tools.list(
        "pods", "-n", sample.namespace, "-l", f"conch.dev/service={sample.name}"
    )
    live = [p for p in pods if "deletionTimestamp" not in p["metadata"]]
    if not ready:
        return live
    return [p for p in live if condition(p, "Ready").get("status") == "True"]


def address_of(stage: Stage, sample: Sample) -> str:
    """Return the cluster IP of a sample's Service."""
    body = stage.tools.get("service", sample.name, sample.namespace)
    if body is None:
        raise LookupError(f"there is no Service {sample.namespace}/{sample.name}")
    return str(body["spec"]["clusterIP"])
