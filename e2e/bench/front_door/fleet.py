"""Thousands of services as objects of a real API server, with pods that no kubelet runs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.kit.client import Client

Object = dict[str, Any]
NAMESPACES = 20
CALLERS = 8
HOME = "conch-system"
_CONCH = "/apis/conch.dev/v1alpha1"
REVISION = "r1"


@dataclass(frozen=True)
class Named:
    """One service of many."""

    number: int

    @property
    def namespace(self) -> str:
        return f"tenant-{self.number % NAMESPACES}"

    @property
    def name(self) -> str:
        return f"service-{self.number:05d}"

    @property
    def path(self) -> str:
        """As callers ask."""
        return f"/{self.namespace}/{self.name}"

    def address(self, pod: int = 0) -> str:
        """Return the address of one of its pods, counted from 0."""
        return f"127.{1 + pod}.{self.number // 250}.{1 + self.number % 250}"


def key_of(namespace: str) -> str:
    """Return the key of a namespace."""
    return f"key-of-{namespace}-0123456789"


def namespaces(client: Client) -> None:
    """Make the namespaces, and a key for each."""
    client.create("/api/v1/namespaces", {"metadata": {"name": HOME}})
    for i in range(NAMESPACES):
        name = Named(i).namespace
        client.create("/api/v1/namespaces", {"metadata": {"name": name}})
        # Pods need the account, which nobody makes here.
        account = {"metadata": {"name": "default"}}
        client.create(f"/api/v1/namespaces/{name}/serviceaccounts", account)
        secret = {
            "metadata": {"name": f"keys-{name}", "labels": {"conch.dev/api-keys": name}},
            "stringData": {"one": key_of(name)},
        }
        client.create(f"/api/v1/namespaces/{HOME}/secrets", secret)


def services(client: Client, count: int, advance: Callable[[], None]) -> None:
    """Make so many services with a ready pod each."""

    def make(number: int) -> None:
        service(client, Named(number))
        get_ready(client, Named(number), 0)
        advance()

    with ThreadPoolExecutor(CALLERS) as callers:
        for made in [callers.submit(make, n) for n in range(count)]:
            made.result()


def service(client: Client, named: Named) -> None:
    """Make a service with a pod that is not ready yet."""
    client.create(
        f"{_CONCH}/namespaces/{named.namespace}/modelservices",
        {
            "apiVersion": "conch.dev/v1alpha1",
            "kind": "ModelService",
            "metadata": {"name": named.name},
            "spec": {"model": {"name": named.name}, "endpoint": {"slowStart": "0s"}},
        },
    )
    client.create(
        f"/api/v1/namespaces/{named.namespace}/services",
        {
            "metadata": {
                "name": named.name,
                "labels": {"app.kubernetes.io/managed-by": "conch"},
            },
            "spec": {"ports": [{"port": 8000}], "selector": _labels(named)},
        },
    )
    pod(client, named, 0)


def _labels(named: Named) -> dict[str, str]:
    return {
        "conch.dev/service": named.name,
        "conch.dev/revision": REVISION,
        "conch.dev/serving": "on",
    }


def pod_path(named: Named, number: int) -> str:
    """Return where a pod of a service is in the API."""
    return f"/api/v1/namespaces/{named.namespace}/pods/{named.name}-{number}"


def pod(client: Client, named: Named, number: int) -> None:
    """Make a pod of a service; it is not ready yet."""
    path = pod_path(named, number)
    args = [f"--load-model={named.name}", f"--id={named.namespace}/{named.name}"]
    client.create(
        path.rpartition("/")[0],
        {
            "metadata": {"name": f"{named.name}-{number}", "labels": _labels(named)},
            "spec": {
                "automountServiceAccountToken": False,
                "containers": [{"name": "triton", "image": "triton", "args": args}],
            },
        },
    )


def get_ready(client: Client, named: Named, number: int) -> None:
    """Have a pod say where it is, and that it is ready."""
    address = named.address(number)
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    client.merge(f"{pod_path(named, number)}/status", {"status": status})


def drain(client: Client, named: Named, number: int) -> None:
    """Take the traffic from a pod, as the operator does."""
    labels = {"metadata": {"labels": {"conch.dev/serving": None}}}
    client.merge(pod_path(named, number), labels)


def delete(client: Client, named: Named, number: int) -> None:
    """Delete a pod at once."""
    client.delete(pod_path(named, number), grace_seconds=0)
