"""The ControllerRevision that keeps a revision's snapshot."""

from typing import Any

from conch.provisioning.metadata import Owner, labels, metadata
from conch.provisioning.snapshot import Snapshot


def controller_revision_name(service: str, revision: str) -> str:
    """Return the name of the ControllerRevision of a revision."""
    return f"{service}-{revision}"


def controller_revision(snapshot: Snapshot, *, owner: Owner, number: int = 1) -> dict[str, Any]:
    """Return the manifest; ``data`` can't be changed afterwards, ``number`` orders revisions."""
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata(
            controller_revision_name(snapshot.service, snapshot.revision),
            snapshot.namespace,
            labels=labels(snapshot.service, revision=snapshot.revision),
            owner=owner,
        ),
        "revision": number,
        "data": snapshot.to_data(),
    }
