"""A namespace of its own for one test or measurement, and what it is filled with."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from e2e.install import Stage
from e2e.kubectl import condition, wait_for
from e2e.models import CLAIM, DIGITS, Sample, apply_claim, documents, sourced

Object = dict[str, Any]
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
READY_S = 240.0
"""Bound of waits: a busy machine is slow, not broken."""


@dataclass(frozen=True)
class Scratch:
    """A namespace under the restricted Pod Security Standard, on a stage."""

    stage: Stage
    namespace: str

    def apply(self, *objects: Object) -> None:
        """Apply objects in this namespace."""
        self.stage.tools.apply(*(_placed(o, self.namespace) for o in objects))

    def kubectl(self, *words: str) -> str:
        """Run kubectl in this namespace."""
        return self.stage.tools.kubectl("-n", self.namespace, *words)

    def get(self, kind: str, name: str) -> Object | None:
        """Return an object of this namespace, or None."""
        return self.stage.tools.get(kind, name, self.namespace)

    def there(self, kind: str, name: str) -> Object:
        """Return an object that must be there."""
        found = self.get(kind, name)
        if found is None:
            raise LookupError(f"there is no {kind} {self.namespace}/{name}")
        return found

    def all(self, kind: str, *words: str) -> list[Object]:
        """Return the objects of a kind here."""
        return self.stage.tools.list(kind, "-n", self.namespace, *words)

    def pods(self, service: str, *, ready: bool = False) -> list[Object]:
        """Return a service's pods that are not on their way out, or only those that answer."""
        found = self.all("pods", "-l", f"conch.dev/service={service}")
        live = [p for p in found if "deletionTimestamp" not in p["metadata"]]
        if not ready:
            return live
        return [p for p in live if condition(p, "Ready").get("status") == "True"]

    def address(self, service: str) -> str:
        """Return the cluster IP of a Service."""
        return str(self.there("service", service)["spec"]["clusterIP"])

    def condition(self, service: str, kind: str) -> Object:
        """Return a condition of a ModelService; empty where there is none yet."""
        return condition(self.get("modelservice", service), kind)

    def await_condition(
        self, service: str, kind: str, *, status: str, reason: str | None = None
    ) -> Object:
        """Return a condition once it holds for the spec as it is now."""

        def holds() -> Object | None:
            body = self.get("modelservice", service) or {}
            found = condition(body, kind)
            fresh = found.get("observedGeneration") == body.get("metadata", {}).get("generation")
            right = found.get("status") == status and reason in (None, found.get("reason"))
            return found if fresh and right else None

        wanted: Object = wait_for(
            f"{kind}={status} ({reason or 'any reason'}) of {service}",
            holds,
            timeout=READY_S,
            seen=lambda: str(self.condition(service, kind)),
        )
        return wanted

    def await_ready(self, service: str, replicas: int = 1) -> list[Object]:
        """Return the pods of a service once exactly so many are there, ready, and told of."""

        def settled() -> list[Object] | None:
            body = self.get("modelservice", service) or {}
            told = int(body.get("status", {}).get("readyReplicas", 0))
            pods = self.pods(service)
            ready = [p for p in pods if condition(p, "Ready").get("status") == "True"]
            return ready if told == len(pods) == len(ready) == replicas else None

        pods: list[Object] = wait_for(
            f"{replicas} ready replicas of {service}",
            settled,
            timeout=READY_S,
            seen=lambda: str(self.condition(service, "Ready").get("message")),
        )
        return pods

    def use_samples(self) -> None:
        """Give the namespace the claim that the sample models are read from."""
        apply_claim(self.stage.tools, self.namespace, self.stage.models)

    def close(self) -> None:
        """Have the namespace and all in it removed; its pods get no time to finish requests.

        Returns before they are gone: what needs their GPUs waits for those by itself.
        """
        kubectl = self.stage.tools.kubectl
        self.kubectl("delete", "modelservices", "--all", "--wait=false")
        self.kubectl("delete", "pods", "--all", "--grace-period=1", "--wait=false")
        kubectl("delete", "namespace", self.namespace, "--wait=false")
        volume = f"{CLAIM}-{self.namespace}"
        kubectl("delete", "persistentvolume", volume, "--ignore-not-found", "--wait=false")


@contextlib.contextmanager
def scratch(stage: Stage, namespace: str) -> Iterator[Scratch]:
    """Make a namespace, which must not be there yet, and remove it in the end."""
    kubectl = stage.tools.kubectl
    kubectl("delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s", timeout=130)
    labels = {"kubernetes.io/metadata.name": namespace, **RESTRICTED}
    stage.tools.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    )
    place = Scratch(stage, namespace)
    # Pods need the default account, which the controller manager makes.
    wait_for("the default account", lambda: place.get("serviceaccount", "default"), timeout=60)
    try:
        yield place
    finally:
        place.close()


def sample_objects(
    stage: Stage, sample: Sample, *, name: str, spec: Object | None = None
) -> list[Object]:
    """Return the Model of a sample and a ModelService ``name``; ``spec`` replaces its fields."""
    uri = f"pvc://{CLAIM}/{sample.name}"
    if sample != DIGITS:
        uri = f"file://{stage.models / sample.name}"
    found = [d for d in documents(sample.file) if d["kind"] in ("Model", "ModelService")]
    objects = sourced(found, uri)
    for item in objects:
        if item["kind"] == "ModelService":
            item["metadata"]["name"] = name
            item["spec"] |= spec or {}
    return objects


def python_model(name: str, code: str, **variant: Any) -> list[Object]:
    """Return a ConfigMap with a Python model and a Model that is made of it.

    It takes four floats ``x`` and answers four floats ``sum``.
    """
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {"model.py": code},
        },
        model(name, source={"configMap": {"name": name}}, **variant),
    ]


def model(name: str, *, source: Object, **variant: Any) -> Object:
    """Return a Model of Python code from any source, with tensors as in ``python_model``."""
    return {
        "apiVersion": "conch.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": name},
        "spec": {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [4]}],
            "outputs": [{"name": "sum", "datatype": "FP32", "shape": [4]}],
            "variants": [
                {"name": "v", "backend": "python", "maxBatchSize": 8, "source": source, **variant}
            ],
        },
    }


def service(
    name: str, *, of: str | None = None, pools: tuple[str, ...] = (), **spec: Any
) -> Object:
    """Return a ModelService of the Model of that name, or of another one."""
    return {
        "apiVersion": "conch.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": name},
        "spec": {"model": {"name": of or name}, "placement": {"pools": [*pools]}, **spec},
    }


def adding(amount: float) -> str:
    """Return the code of a model that adds a number to what it is given."""
    return f"""\
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([_added(request)]) for request in requests]


def _added(request):
    x = pb.get_input_tensor_by_name(request, "x").as_numpy()
    return pb.Tensor("sum", x + x.dtype.type({amount}))
"""


def uids(pods: list[Object]) -> set[str]:
    """Return the UIDs of objects."""
    return {p["metadata"]["uid"] for p in pods}


def _placed(item: Object, namespace: str) -> Object:
    """Return the object in the namespace, unless its kind has none."""
    if item["kind"] in ("Namespace", "PersistentVolume", "GPUPool", "ClusterModel"):
        return item
    return {**item, "metadata": {**item["metadata"], "namespace": namespace}}
