"""The ResourceClaimTemplate from which each pod of a revision in a DRA pool gets its devices.

Written in resource.k8s.io/v1, which Kubernetes serves by default from 1.34 on. A template can't be
changed: what it depends on besides the revision is part of its name.
"""

from typing import Any

from conch.api.pool import SharingMode
from conch.provisioning.metadata import Owner, bounded, digest, labels, metadata
from conch.provisioning.resources import Pool, devices
from conch.provisioning.snapshot import Snapshot

KIND = "ResourceClaimTemplate"
_REQUEST = "devices"
_DIGEST = 6


def claim_template_name(snapshot: Snapshot, pool: Pool) -> str | None:
    """Return the name of the template, None where a replica asks for no devices of a DRA driver."""
    wanted = pool.spec.sharing.device_class
    if pool.spec.sharing.mode is not SharingMode.DRA or not wanted:
        return None
    if not devices(snapshot.variant, pool):
        return None
    name = f"{snapshot.service}-{snapshot.revision}-{pool.name}"
    suffix = digest(wanted, _DIGEST)
    return f"{bounded(name, 62 - _DIGEST)}-{suffix}"


def claim_template(snapshot: Snapshot, pool: Pool, *, owner: Owner) -> dict[str, Any] | None:
    """Return the manifest of the template, None where a replica asks for no devices of a DRA driver."""
    name = claim_template_name(snapshot, pool)
    if name is None:
        return None
    exactly = {
        "deviceClassName": pool.spec.sharing.device_class,
        "allocationMode": "ExactCount",
        "count": devices(snapshot.variant, pool),
    }
    own = labels(snapshot.service, revision=snapshot.revision, pool=pool.name)
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": KIND,
        "metadata": metadata(name, snapshot.namespace, labels=own, owner=owner),
        "spec": {"spec": {"devices": {"requests": [{"name": _REQUEST, "exactly": exactly}]}}},
    }
