"""The Service: the address of a model service, which sends traffic to one revision."""

from typing import Any

from conch.api.names import ANNOTATION_CANARY, LABEL_SERVING, PORT_GRPC, PORT_HTTP, SERVING
from conch.provisioning.metadata import Owner, labels, metadata, selector
from conch.provisioning.snapshot import Snapshot

_PORTS = (("http", PORT_HTTP), ("grpc", PORT_GRPC))


def service(
    snapshot: Snapshot, *, owner: Owner, canary: tuple[str, float] | None = None
) -> dict[str, Any]:
    """Return the manifest of the Service, whose selector promotes the snapshot's revision.

    ``canary``: another revision, to which the front door gives so many percent of the requests.
    """
    named = metadata(
        snapshot.service, snapshot.namespace, labels=labels(snapshot.service), owner=owner
    )
    if canary is not None:
        named["annotations"] = {ANNOTATION_CANARY: f"{canary[0]}={canary[1]:g}"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": named,
        "spec": {
            "type": "ClusterIP",
            "selector": {
                **selector(snapshot.service, revision=snapshot.revision),
                LABEL_SERVING: SERVING,
            },
            "ports": [
                {
                    "name": name,
                    "port": port,
                    "targetPort": name,
                    "protocol": "TCP",
                    "appProtocol": name,
                }
                for name, port in _PORTS
            ],
        },
    }


def url(name: str, namespace: str) -> str:
    """Return the HTTP address of a service inside the cluster."""
    return f"http://{name}.{namespace}.svc:{PORT_HTTP}"


def grpc(name: str, namespace: str) -> str:
    """Return the host and port of a service over gRPC inside the cluster."""
    return f"{name}.{namespace}.svc:{PORT_GRPC}"
