"""The PodDisruptionBudget: an eviction waits until Conch has brought up another replica."""

from typing import Any

from conch.api.names import LABEL_SERVING, SERVING
from conch.api.service import Disruption
from conch.provisioning.metadata import Owner, labels, metadata, selector
from conch.provisioning.snapshot import Snapshot


def pdb(snapshot: Snapshot, *, owner: Owner) -> dict[str, Any] | None:
    """Return the manifest, one a service, or None where the service allows disruption.

    Only pods with traffic are counted, so that draining one releases it. One that is not ready
    may always go.
    """
    if snapshot.disruption is Disruption.ALLOW:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(
            snapshot.service, snapshot.namespace, labels=labels(snapshot.service), owner=owner
        ),
        "spec": {
            "maxUnavailable": 0,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {**selector(snapshot.service), LABEL_SERVING: SERVING}},
        },
    }
