"""Services, and rights, of what runs on the host itself for the use of pods."""

from collections.abc import Sequence
from dataclasses import dataclass

from e2e.cluster import settings
from e2e.cluster.api import Api, Object

_MANAGED_BY = "conch-local-cluster"


@dataclass(frozen=True)
class Port:
    """A port of a Service, and where it leads to on the host."""

    name: str
    number: int
    target: int
    protocol: str = "TCP"


def publish(api: Api, *, namespace: str, name: str, address: str, ports: Sequence[Port]) -> None:
    """Makes pods find, under the Service `namespace`/`name` at `address`, a server on the host."""
    apply_namespace(api, namespace)
    core = f"/api/v1/namespaces/{namespace}"
    api.apply(f"{core}/services/{name}", service(namespace, name, address, ports))
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    api.apply(f"{slices}/{name}-host", endpoint_slice(namespace, name, ports))


def apply_namespace(api: Api, name: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    api.apply(f"/api/v1/namespaces/{name}", manifest)


def service(namespace: str, name: str, address: str, ports: Sequence[Port]) -> Object:
    """A Service without a selector: its endpoints are given by hand."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "clusterIP": address,
            "ports": [
                {
                    "name": port.name,
                    "port": port.number,
                    "targetPort": port.target,
                    "protocol": port.protocol,
                }
                for port in ports
            ],
        },
    }


def endpoint_slice(namespace: str, name: str, ports: Sequence[Port]) -> Object:
    """The host's address as the only endpoint of that Service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-host",
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": name,
                "endpointslice.kubernetes.io/managed-by": _MANAGED_BY,
            },
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [settings.ADDRESS], "conditions": {"ready": True}}],
        "ports": [
            {"name": port.name, "port": port.target, "protocol": port.protocol} for port in ports
        ],
    }


def allow_reading(api: Api, user: str, resources: Sequence[tuple[str, str]]) -> None:
    """Lets `user` get, list and watch `resources` (API group, plural) in all namespaces."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    version = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": user}}
    rules = [
        {"apiGroups": [group], "resources": [plural], "verbs": ["get", "list", "watch"]}
        for group, plural in resources
    ]
    api.apply(f"{rbac}/clusterroles/{user}", {**version, "kind": "ClusterRole", "rules": rules})
    group = "rbac.authorization.k8s.io"
    binding = {
        **version,
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    api.apply(f"{rbac}/clusterrolebindings/{user}", binding)
