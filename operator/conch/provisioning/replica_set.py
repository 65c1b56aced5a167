"""The ReplicaSet of one revision in one pool: it brings lost pods back without the operator."""

from typing import Any

from conch.provisioning.metadata import Owner, bounded, labels, metadata, selector
from conch.provisioning.pod import pod_template
from conch.provisioning.resources import Pool
from conch.provisioning.snapshot import Snapshot

_NAME_LIMIT = 57
"""A pod's name adds six characters and should still be a host name of 63."""


def replica_set_name(service: str, revision: str, pool: str) -> str:
    """Return the name of the ReplicaSet of a revision in a pool."""
    return bounded(f"{service}-{revision}-{pool}", _NAME_LIMIT)


def replica_set(
    snapshot: Snapshot, pool: Pool, *, replicas: int, gated: bool, owner: Owner
) -> dict[str, Any]:
    """Return the whole manifest, for server-side apply.

    The traffic label stands in the template and not in the selector: a pod without it is
    drained, and still counted.
    """
    key = {"revision": snapshot.revision, "pool": pool.name}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": metadata(
            replica_set_name(snapshot.service, snapshot.revision, pool.name),
            snapshot.namespace,
            labels=labels(snapshot.service, **key),
            owner=owner,
        ),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector(snapshot.service, **key)},
            "template": pod_template(snapshot, pool, gated=gated),
        },
    }
