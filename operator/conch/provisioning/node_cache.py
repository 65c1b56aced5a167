"""The claim by which a namespace's pods reach the cache of whatever node they run on.

Restricted pods may not use hostPath, but a claim of a PersistentVolume that is one. The volume names
no node, so that each pod gets the directory of its own node; one volume for each namespace keeps
tenants apart. The namespace's UID is part of the path: one made anew under an old name finds none
of its predecessor's files.
"""

from typing import Any

from conch.api.names import GROUP, LABEL_MANAGED_BY, MANAGED_BY
from conch.provisioning.metadata import LABEL_NAMESPACE, digest
from conch.provisioning.snapshot import Snapshot
from conch.provisioning.source import DOWNLOADED, location

CACHE_CLAIM = "conch-cache"
LABEL_CACHE = f"{GROUP}/cache"
"""On the volumes and claims of caches, which belong to no service."""
_LABELS = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_CACHE: "true"}
_CAPACITY = "1Gi"
"""Asked for because the API wants a size; the agent of the cache keeps the bound."""
_STORAGE = {
    "storageClassName": "",
    "accessModes": ["ReadWriteMany"],
    "volumeMode": "Filesystem",
}


def is_cached(snapshot: Snapshot) -> bool:
    """Tell whether a revision's source is downloaded, so that a cache saves something."""
    return location(snapshot.variant.source).scheme in DOWNLOADED


def cache_claim(namespace: str) -> dict[str, Any]:
    """Return the claim of a namespace."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CACHE_CLAIM, "namespace": namespace, "labels": dict(_LABELS)},
        "spec": {**_STORAGE, "resources": {"requests": {"storage": _CAPACITY}}},
    }


def cache_volume_name(namespace: str, claim_uid: str) -> str:
    """Return the name of a claim's volume; one that was released is never bound again."""
    return f"{CACHE_CLAIM}-{namespace}-{digest(claim_uid)}"


def cache_volume(
    path: str, namespace: str, *, namespace_uid: str, claim_uid: str
) -> dict[str, Any]:
    """Return the volume of a claim that is there: a directory below ``path`` on each node.

    It names its claim's UID, as a provisioner would: then the claim is bound at once. It goes with
    the namespace, which owns it.
    """
    owner = {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": namespace_uid}
    directory = f"{path.rstrip('/')}/{namespace}_{namespace_uid}"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": cache_volume_name(namespace, claim_uid),
            "labels": {**_LABELS, LABEL_NAMESPACE: namespace},
            "ownerReferences": [owner],
        },
        "spec": {
            **_STORAGE,
            "capacity": {"storage": _CAPACITY},
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": namespace,
                "name": CACHE_CLAIM,
                "uid": claim_uid,
            },
            "hostPath": {"path": directory, "type": "DirectoryOrCreate"},
        },
    }
