"""The ServiceAccount of a service's pods: an identity without a token."""

from typing import Any

from conch.provisioning.metadata import Owner, labels, metadata
from conch.provisioning.snapshot import Snapshot


def service_account_name(service: str) -> str:
    """Return the name of the ServiceAccount; the prefix keeps it apart from ``default``."""
    return f"conch-{service}"


def service_account(snapshot: Snapshot, *, owner: Owner) -> dict[str, Any]:
    """Return the manifest of the ServiceAccount, one a service."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(
            service_account_name(snapshot.service),
            snapshot.namespace,
            labels=labels(snapshot.service),
            owner=owner,
        ),
        "automountServiceAccountToken": False,
    }
