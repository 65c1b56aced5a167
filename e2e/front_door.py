"""The front door of the release: where it is, keys for it, and addresses of services behind it."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from conch.api.names import FRONT_DOOR, LABEL_API_KEYS, LABEL_FRONT_DOOR
from e2e.install import DOMAIN, NAMESPACE, RELEASE
from e2e.kubectl import Tools, condition, wait_for

Object = dict[str, Any]
NAME = f"{RELEASE}-front-door"
SELECTOR = f"{LABEL_FRONT_DOOR}={FRONT_DOOR}"
HTTP_PORT, GRPC_PORT = 80, 8001
READY_S = 120.0


def address(tools: Tools) -> str:
    """Return the cluster IP of the front door. Raises LookupError where the release has none."""
    body = tools.get("service", NAME, NAMESPACE)
    if body is None:
        raise LookupError(f"there is no Service {NAMESPACE}/{NAME}: the release has no front door")
    return str(body["spec"]["clusterIP"])


def url_of(tools: Tools, namespace: str, service: str) -> str:
    """Return a service's HTTP address, by path; the protocol's own paths come behind it."""
    return f"http://{address(tools)}:{HTTP_PORT}/{namespace}/{service}"


def grpc_of(tools: Tools) -> str:
    """Return where gRPC is asked; the service is told by ``conch-service``, or by its host."""
    return f"{address(tools)}:{GRPC_PORT}"


def host_of(namespace: str, service: str) -> str:
    """Return a service's host in the release's domain."""
    return f"{service}.{namespace}.{DOMAIN}"


def pods(tools: Tools) -> list[Object]:
    """Return the front door's pods that are not on their way out."""
    found = tools.list("pods", "-n", NAMESPACE, "-l", SELECTOR)
    return [p for p in found if "deletionTimestamp" not in p["metadata"]]


def await_ready(tools: Tools, replicas: int = 2) -> list[Object]:
    """Return the front door's pods once exactly so many are there, and ready."""

    def ready() -> list[Object] | None:
        live = pods(tools)
        fine = [p for p in live if condition(p, "Ready").get("status") == "True"]
        return fine if len(fine) == len(live) == replicas else None

    found: list[Object] = wait_for("the front door's pods", ready, timeout=READY_S)
    return found


def keys_secret(name: str, tenant: str, keys: dict[str, str]) -> Object:
    """Return a Secret of keys of a tenant, by name of each key."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {LABEL_API_KEYS: tenant}},
        "stringData": keys,
    }


def remove_keys(tools: Tools, name: str) -> None:
    """Revoke the keys of a Secret."""
    tools.kubectl("delete", "secret", name, "-n", NAMESPACE, "--ignore-not-found")


@contextmanager
def key_of(tools: Tools, tenant: str) -> Iterator[str]:
    """Make a key of a tenant (a Tenant, or a namespace of none), and revoke it in the end."""
    key, name = secrets.token_hex(16), f"keys-{tenant}"
    tools.apply(keys_secret(name, tenant, {"test": key}))
    try:
        yield key
    finally:
        remove_keys(tools, name)
