"""What Conch renders, judged by a real API server: no unknown field, restricted pods, patches."""

from collections.abc import Callable
from typing import Any

import pytest

from conch.api.names import GATE
from conch.provisioning.children import children
from conch.provisioning.metadata import Owner
from conch.provisioning.pin import admission_patch
from conch.provisioning.replica_set import replica_set
from conch.provisioning.service_account import service_account
from conch.provisioning.snapshot import Snapshot
from tests.kit.client import ApiError
from tests.kit.control_plane import Cluster
from tests.kit.rendering import OWNER, POOL, SERVICE, example

SOURCES: dict[str, dict[str, Any]] = {
    "pvc": {"uri": "pvc://models/digits"},
    "file": {"uri": "file:///srv/models/digits"},
    "https": {"uri": "https://example.com/digits.tgz", "secretRef": {"name": "login"}},
    "configMap": {"configMap": {"name": "digits"}},
}
EVERYTHING: dict[str, Any] = {
    "podTemplate": {
        "labels": {"team": "vision"},
        "annotations": {"note": "mine"},
        "env": [{"name": "A", "value": "b"}],
        "imagePullSecrets": [{"name": "login"}],
        "nodeSelector": {"disk": "ssd"},
        "runtimeClassName": "nvidia",
        "tolerations": [{"key": "team", "operator": "Exists"}],
        "volumes": [{"name": "cache", "emptyDir": {}}],
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
    },
    "triton": {"args": ["--log-verbose=1"]},
}
Apply = Callable[[Snapshot], None]


@pytest.fixture
def owner(cluster: Cluster, namespace: str) -> Owner:
    body = {
        "apiVersion": OWNER.api_version,
        "kind": OWNER.kind,
        "metadata": {"name": OWNER.name, "namespace": namespace},
        "spec": SERVICE,
    }
    path = f"/apis/conch.dev/v1alpha1/namespaces/{namespace}/modelservices"
    made = cluster.client.create(path, body)
    return Owner(OWNER.api_version, OWNER.kind, OWNER.name, made["metadata"]["uid"])


@pytest.mark.parametrize("source", SOURCES)
def test_every_child_is_accepted_without_an_unknown_field(
    cluster: Cluster, namespace: str, owner: Owner, source: str
) -> None:
    snapshot = example(variant={"source": SOURCES[source]}, spec=EVERYTHING, namespace=namespace)
    pods = replica_set(snapshot, POOL, replicas=2, gated=True, owner=owner)
    manifests = [*children(snapshot, owner=owner), pods]
    apply = ("apply", "--server-side", "--field-manager=conch", "--validate=strict", "-f", "-")
    done = cluster.kubectl(*apply, given=manifests)
    assert done.returncode == 0, done.stderr
    # Nor a warning, such as one that a pod is not restricted.
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == len(manifests)


@pytest.mark.parametrize("source", SOURCES)
def test_applying_twice_writes_nothing(
    cluster: Cluster, namespace: str, owner: Owner, source: str
) -> None:
    snapshot = example(variant={"source": SOURCES[source]}, namespace=namespace)
    pods = replica_set(snapshot, POOL, replicas=2, gated=False, owner=owner)
    given = [*children(snapshot, owner=owner), pods]
    apply = ("apply", "--server-side", "--field-manager=conch", "-f", "-")
    version = ("-o", 'jsonpath={.metadata.resourceVersion}{"\\n"}')
    first = cluster.kubectl.ok(*apply, *version, given=given)
    assert cluster.kubectl.ok(*apply, *version, given=given) == first


def _pod(snapshot: Snapshot, *, gated: bool) -> dict[str, Any]:
    template = replica_set(snapshot, POOL, replicas=1, gated=gated, owner=OWNER)
    pod: dict[str, Any] = template["spec"]["template"]
    return {"apiVersion": "v1", "kind": "Pod", **pod, "metadata": {**pod["metadata"], "name": "p"}}


def _pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


@pytest.fixture
def restricted(cluster: Cluster, namespace: str, owner: Owner) -> str:
    """A namespace that takes restricted pods only, with the service's account."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.client.merge(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}})
    account = service_account(example(namespace=namespace), owner=owner)
    cluster.client.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    return namespace


@pytest.mark.parametrize("source", SOURCES)
def test_pods_are_let_into_a_restricted_namespace(
    cluster: Cluster, restricted: str, source: str
) -> None:
    snapshot = example(variant={"source": SOURCES[source]}, namespace=restricted)
    cluster.client.create(_pods(restricted), _pod(snapshot, gated=False))


def test_the_namespace_of_these_tests_does_refuse_other_pods(
    cluster: Cluster, restricted: str
) -> None:
    pod = _pod(example(namespace=restricted), gated=False)
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(ApiError, match="violates PodSecurity"):
        cluster.client.create(_pods(restricted), pod)


def _admit(cluster: Cluster, pod: dict[str, Any], node: str | None) -> dict[str, Any]:
    meta = pod["metadata"]
    path = f"{_pods(meta['namespace'])}/{meta['name']}"
    patch = admission_patch(pod, node)
    kind = "application/strategic-merge-patch+json"
    return cluster.client._ask("PATCH", path, patch, kind)


def test_one_patch_lifts_our_gate_only_and_pins_the_pod(cluster: Cluster, restricted: str) -> None:
    pod = _pod(example(namespace=restricted), gated=True)
    pod["spec"]["schedulingGates"] += [{"name": "kueue.x-k8s.io/admission"}]
    made = cluster.client.create(_pods(restricted), pod)
    admitted = _admit(cluster, made, "node-1")
    assert admitted["spec"]["schedulingGates"] == [{"name": "kueue.x-k8s.io/admission"}]
    affinity = admitted["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (before,) = made["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    assert term["matchExpressions"] == before["matchExpressions"]
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]


def test_a_pod_may_be_admitted_without_a_node(cluster: Cluster, restricted: str) -> None:
    made = cluster.client.create(_pods(restricted), _pod(example(namespace=restricted), gated=True))
    admitted = _admit(cluster, made, None)
    assert "schedulingGates" not in admitted["spec"]
    assert admitted["spec"]["affinity"] == made["spec"]["affinity"]


@pytest.mark.parametrize(
    ("other", "status"), [({"resourceVersion": "1"}, 409), ({"uid": "another"}, 422)]
)
def test_a_pod_that_changed_or_is_another_is_not_admitted(
    cluster: Cluster, restricted: str, other: dict[str, str], status: int
) -> None:
    made = cluster.client.create(_pods(restricted), _pod(example(namespace=restricted), gated=True))
    stale = {**made, "metadata": {**made["metadata"], **other}}
    with pytest.raises(ApiError) as caught:
        _admit(cluster, stale, "node-1")
    assert caught.value.status == status
    found = cluster.client.get(f"{_pods(restricted)}/p")
    assert found["spec"]["schedulingGates"] == [{"name": GATE}]
