"""What Kubernetes alone needs for as many Deployments: the baseline of ``bench-control-plane``."""

from typing import Any

from tests.kit.client import Client

Object = dict[str, Any]
_LABEL = "bare"


def manifests(name: str) -> list[tuple[str, Object]]:
    """Return the prefix and the body of what a user would apply by hand for one served model."""
    labels = {_LABEL: name}
    head = {"name": name}
    container = {
        "name": "triton",
        "image": "triton:simulated",
        "ports": [{"containerPort": 8000}],
        "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"cpu": "1"}},
    }
    pod = {"serviceAccountName": name, "containers": [container]}
    selector = {"matchLabels": labels}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return [
        ("/api/v1", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": head}),
        (
            "/apis/apps/v1",
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": head,
                "spec": {"replicas": 1, "selector": selector, "template": template},
            },
        ),
        (
            "/api/v1",
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": head,
                "spec": {"selector": labels, "ports": [{"port": 8000}]},
            },
        ),
        (
            "/apis/policy/v1",
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": head,
                "spec": {"selector": selector, "maxUnavailable": 1},
            },
        ),
    ]


def apply(client: Client, namespace: str, name: str) -> None:
    """Apply the manifests of one served model."""
    for prefix, body in manifests(name):
        plural = f"{body['kind'].lower()}s"
        client.apply(f"{prefix}/namespaces/{namespace}/{plural}/{name}", body, manager="kubectl")


def available(deployment: Object) -> bool:
    """Tell whether a Deployment's replica is there."""
    return bool((deployment.get("status") or {}).get("availableReplicas"))
