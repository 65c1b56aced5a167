"""What goes wrong is told by a condition, touches no other service, and is mended by an edit."""

import json
from collections.abc import Iterator

import pytest

from e2e.install import Stage
from e2e.scratch import Object, Scratch, adding, model, python_model, scratch, service, uids
from e2e.traffic import steady

pytestmark = pytest.mark.cluster

HUNGRY = f"""\
held = bytearray(700 * 1024**2)
held[::4096] = bytes(len(held) // 4096)
{adding(0)}"""
NOWHERE = {"example.com/no-such-label": "anywhere"}


@pytest.fixture
def healthy(place: Scratch) -> Scratch:
    """A service that works, whatever happens beside it."""
    place.apply(*python_model("healthy", adding(1)), service("healthy", pools=("a100",)))
    place.await_ready("healthy")
    return place


def test_faults_of_models_and_pools(healthy: Scratch, spare_pool: str) -> None:
    place = healthy
    before = uids(place.pods("healthy"))
    place.apply(
        *python_model("good", adding(0)),
        service("later", of="not-yet", pools=("t4",)),
        service("nowhere", of="good", pools=(spare_pool,)),
        service("unknown", of="good", pools=("no-such-pool",)),
        model("missing", source={"uri": "pvc://models/no/such/folder"}),
        service("missing", pools=("t4",)),
        model("wrong", source={"configMap": {"name": "good"}, "sha256": "0" * 64}),
        service("wrong", pools=("t4",)),
        *python_model("broken", "import no_such_module\n"),
        service("broken", pools=("a100",)),
    )
    with steady(place, "healthy", rate=4):
        told(place, "later", "Loaded", "ModelNotFound", "not-yet")
        told(place, "nowhere", "Admitted", "PoolWithoutNodes", "example.com/no-such-label")
        told(place, "unknown", "Admitted", "NoPool", "no-such-pool")
        told(place, "missing", "Loaded", "SourceUnavailable", "no/such/folder")
        told(place, "wrong", "Loaded", "ChecksumMismatch", "0" * 64)
        told(place, "broken", "Loaded", "LoadFailed", "No module named 'no_such_module'")

        place.apply(
            model("not-yet", source={"configMap": {"name": "good"}}),
            model("missing", source={"configMap": {"name": "good"}}),
            model("wrong", source={"configMap": {"name": "good"}}),
            model("broken", source={"configMap": {"name": "good"}}),
        )
        for name in ("missing", "wrong", "broken", "later"):
            mended(place, name)
        # There are no GPUs for all at once.
        place.kubectl("delete", "modelservice", "missing", "wrong", "broken", "later")
        place.apply(service("unknown", of="good", pools=("a100",)))
        selector(place, spare_pool, {"kubernetes.io/os": "linux"})
        for name in ("nowhere", "unknown"):
            mended(place, name)
    assert uids(place.pods("healthy")) == before


def test_faults_of_pods(healthy: Scratch, stage: Stage) -> None:
    place = healthy
    before = uids(place.pods("healthy"))
    with (
        scratch(stage, "e2e-quota") as quota,
        scratch(stage, "e2e-limits") as limits,
        steady(place, "healthy", rate=4),
    ):
        quota.apply(bound("ResourceQuota", {"hard": {"pods": "0"}}))
        limits.apply(
            bound("LimitRange", {"limits": [{"type": "Container", "max": memory("300Mi")}]})
        )
        for refusing in (quota, limits):
            refusing.apply(*python_model("refused", adding(0)), service("refused", pools=("t4",)))
        place.apply(
            *python_model("hungry", HUNGRY, resources=memory("512Mi")),
            service("hungry", pools=("a100",)),
            *python_model("imageless", adding(0)),
            # Refused at once, without a name to look up.
            service("imageless", pools=("t4",), triton={"image": "127.0.0.1:1/triton:none"}),
        )
        told(quota, "refused", "Admitted", "QuotaRefused", "exceeded quota")
        # The ReplicaSet's controller tries again ever more slowly: the sooner, the better.
        quota.apply(bound("ResourceQuota", {"hard": {"pods": "5"}}))
        told(limits, "refused", "Admitted", "QuotaRefused", "maximum memory usage per Container")
        told(place, "hungry", "Loaded", "OutOfMemory", "memory")
        told(place, "imageless", "Loaded", "ImageUnavailable", "127.0.0.1:1/triton:none")

        limits.apply(*python_model("refused", adding(0), resources=memory("300Mi")))
        place.apply(*python_model("hungry", HUNGRY, resources=memory("2Gi")))
        place.kubectl("patch", "modelservice", "imageless", "--type=json", "-p", NO_IMAGE)
        for where, name in (
            (place, "hungry"),
            (place, "imageless"),
            (limits, "refused"),
            (quota, "refused"),
        ):
            mended(where, name)
    assert uids(place.pods("healthy")) == before


NO_IMAGE = json.dumps([{"op": "remove", "path": "/spec/triton/image"}])


def told(place: Scratch, name: str, kind: str, reason: str, words: str) -> None:
    """Wait for a fault to be told, and see that it is told wherever people look."""
    found = place.await_condition(name, kind, status="False", reason=reason)
    assert words in found["message"]
    ready = place.await_condition(name, "Ready", status="False", reason=reason)
    assert words in ready["message"]


def mended(place: Scratch, name: str) -> None:
    """Wait until a service serves and says of itself that nothing is wrong."""
    place.await_ready(name)
    place.await_condition(name, "Ready", status="True", reason="Serving")
    place.await_condition(name, "Stalled", status="False")


def bound(kind: str, spec: Object) -> Object:
    """Return an object that bounds what a namespace may hold."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "bound"}, "spec": spec}


def memory(amount: str) -> Object:
    """Return an amount of memory, as resources are written."""
    return {"memory": amount}


@pytest.fixture
def spare_pool(stage: Stage) -> Iterator[str]:
    """A GPUPool that selects no node."""
    name = "e2e-nowhere"
    pool = {
        "apiVersion": "conch.dev/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": name},
        "spec": {
            "accelerator": "none",
            "nodeSelector": NOWHERE,
            "perGPU": {"cpu": "200m", "memory": "1Gi"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        },
    }
    stage.tools.apply(pool)
    yield name
    stage.tools.kubectl("delete", "gpupool", name)


def selector(place: Scratch, pool: str, labels: dict[str, str]) -> None:
    """Replace the node selector of a pool."""
    patch = [{"op": "replace", "path": "/spec/nodeSelector", "value": labels}]
    place.kubectl("patch", "gpupool", pool, "--type=json", "-p", json.dumps(patch))
