"""The NetworkPolicy: pods of a service take requests from the front door and the operator alone."""

from dataclasses import dataclass
from typing import Any

from conch.api.names import (
    FRONT_DOOR,
    LABEL_FRONT_DOOR,
    LABEL_NAMESPACE_NAME,
    LABEL_OPERATOR,
    OPERATOR,
    PORT_GRPC,
    PORT_HTTP,
    PORT_METRICS,
)
from conch.provisioning.metadata import Owner, labels, metadata, selector
from conch.provisioning.snapshot import Snapshot


@dataclass(frozen=True)
class Isolation:
    """Who may reach the pods of services."""

    namespace: str
    """That of the front door."""
    metrics_namespaces: tuple[str, ...] = ()
    """Whose pods may reach the metrics; everybody may where none is named."""


def network_policy(snapshot: Snapshot, isolation: Isolation, *, owner: Owner) -> dict[str, Any]:
    """Return the manifest, one a service, over its pods of every revision.

    What the kubelet asks of pods on its own node is not bound by policies.
    """
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(
            snapshot.service, snapshot.namespace, labels=labels(snapshot.service), owner=owner
        ),
        "spec": {
            "podSelector": {"matchLabels": selector(snapshot.service)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [
                        _pods(isolation.namespace, LABEL_FRONT_DOOR, FRONT_DOOR),
                        # Which warms replicas up before their first callers.
                        _pods(isolation.namespace, LABEL_OPERATOR, OPERATOR),
                    ],
                    "ports": _ports(PORT_HTTP, PORT_GRPC),
                },
                {**_scrapers(isolation.metrics_namespaces), "ports": _ports(PORT_METRICS)},
            ],
        },
    }


def _pods(namespace: str, label: str, value: str) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {LABEL_NAMESPACE_NAME: namespace}},
        "podSelector": {"matchLabels": {label: value}},
    }


def _scrapers(namespaces: tuple[str, ...]) -> dict[str, Any]:
    """Return from where metrics are asked: no ``from`` is anywhere, nodes included."""
    if not namespaces:
        return {}
    known = {"key": LABEL_NAMESPACE_NAME, "operator": "In", "values": sorted(set(namespaces))}
    return {"from": [{"namespaceSelector": {"matchExpressions": [known]}}]}


def _ports(*ports: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port} for port in ports]
