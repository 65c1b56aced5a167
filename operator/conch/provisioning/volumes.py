"""The volumes of a pod, and the PersistentVolume and its claim behind a ``file://`` source.

Restricted pods may not use hostPath; a local PersistentVolume gives them the same directory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conch.provisioning.config_map import config_map_name
from conch.provisioning.metadata import LABEL_NAMESPACE, Owner, digest, labels, metadata
from conch.provisioning.node_cache import CACHE_CLAIM
from conch.provisioning.snapshot import Snapshot
from conch.provisioning.source import DOWNLOADED, Location, Scheme, location

MODELS = "/models"
CONFIG = "/config"
SOURCE = "/source"
CREDENTIALS = "/credentials"
IDENTITY = "/identity"
TOKEN = "token"  # noqa: S105  # the name of a file
_TOKEN_SECONDS = 3600
CACHE = "/cache"
_CAPACITY = "1Gi"
"""Asked for because the API wants a size; a local volume has no limit of its own."""


@dataclass(frozen=True)
class Mount:
    """A volume and where each container sees it; the prefix keeps clear of users' names."""

    name: str
    path: str
    volume: dict[str, Any]
    triton: bool = True
    fetch: bool = False
    triton_writes: bool = False
    fetch_writes: bool = False

    @property
    def full_name(self) -> str:
        """The name of the volume in the pod."""
        return f"conch-{self.name}"


_CACHE = Mount(
    "cache",
    CACHE,
    {"persistentVolumeClaim": {"claimName": CACHE_CLAIM}},
    fetch=True,
    fetch_writes=True,
)


def mounts(snapshot: Snapshot) -> tuple[Mount, ...]:
    """Return the volumes that Conch gives to the pods of a revision."""
    config = {"configMap": {"name": config_map_name(snapshot.service, snapshot.revision)}}
    shared_memory = {"emptyDir": {"medium": "Memory"}}
    return (
        Mount("tmp", "/tmp", {"emptyDir": {}}, fetch=True, triton_writes=True, fetch_writes=True),  # noqa: S108
        Mount("shm", "/dev/shm", shared_memory, triton_writes=True),  # noqa: S108
        Mount("models", MODELS, {"emptyDir": {}}, fetch=True, fetch_writes=True),
        Mount("config", CONFIG, config, triton=False, fetch=True),
        *_source(snapshot),
        *([_CACHE] if snapshot.cache else []),
    )


def _source(snapshot: Snapshot) -> tuple[Mount, ...]:
    source = snapshot.variant.source
    place = location(source)
    if place.scheme not in DOWNLOADED:
        return (Mount("source", SOURCE, _source_volume(snapshot, place), fetch=True),)
    found = []
    if source.secret_ref:
        # Optional, so that the missing Secret is named by the fetch and not only by an Event.
        secret = {"secret": {"secretName": source.secret_ref.name, "optional": True}}
        found.append(Mount("credentials", CREDENTIALS, secret, triton=False, fetch=True))
    if source.token_audience:
        token = {"audience": source.token_audience, "expirationSeconds": _TOKEN_SECONDS}
        projected = {"sources": [{"serviceAccountToken": {**token, "path": TOKEN}}]}
        found.append(
            Mount("identity", IDENTITY, {"projected": projected}, triton=False, fetch=True)
        )
    return tuple(found)


def _source_volume(snapshot: Snapshot, place: Location) -> dict[str, Any]:
    if place.scheme is Scheme.CONFIG_MAP:
        return {"configMap": {"name": place.name, "optional": True}}
    name = place.name if place.scheme is Scheme.PVC else claim_name(snapshot)
    return {"persistentVolumeClaim": {"claimName": name, "readOnly": True}}


def volumes(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the volumes of a pod: ours, then the users'."""
    ours = [{"name": m.full_name, **m.volume} for m in mounts(snapshot)]
    return [*ours, *snapshot.pod_template.volumes]


def fetch_mounts(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the mounts of the init container."""
    wanted = [(m, m.fetch_writes) for m in mounts(snapshot) if m.fetch]
    return _mounted(wanted)


def triton_mounts(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the mounts of Triton's container: ours, then the users'."""
    wanted = [(m, m.triton_writes) for m in mounts(snapshot) if m.triton]
    return [*_mounted(wanted), *snapshot.pod_template.volume_mounts]


def _mounted(wanted: Sequence[tuple[Mount, bool]]) -> list[dict[str, Any]]:
    return [
        {"name": m.full_name, "mountPath": m.path, **({} if writes else {"readOnly": True})}
        for m, writes in wanted
    ]


def claim_name(snapshot: Snapshot) -> str:
    """Return the name of the claim behind a ``file://`` source."""
    return f"{snapshot.service}-{snapshot.revision}"


def volume_name(snapshot: Snapshot, owner: Owner) -> str:
    """Return the name of the PersistentVolume behind a ``file://`` source.

    The owner's UID is part of it: a volume of a service that is gone can't be bound again.
    """
    key = f"{owner.uid}/{snapshot.namespace}/{claim_name(snapshot)}"
    return f"conch-{snapshot.service[:40].rstrip('-.')}-{digest(key)}"


def local_volume(snapshot: Snapshot, *, owner: Owner) -> tuple[dict[str, Any], ...]:
    """Return the PersistentVolume and its claim where the source is ``file://``, else nothing.

    The files must be there on every node that the service may use. The PersistentVolume is
    cluster-scoped and so has no owner; its labels say what it belongs to.
    """
    place = location(snapshot.variant.source)
    if place.scheme is not Scheme.FILE:
        return ()
    return (_volume(snapshot, place, owner), _claim(snapshot, owner))


def _volume(snapshot: Snapshot, place: Location, owner: Owner) -> dict[str, Any]:
    ours = labels(snapshot.service, revision=snapshot.revision)
    linux = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": volume_name(snapshot, owner),
            "labels": {**ours, LABEL_NAMESPACE: snapshot.namespace},
        },
        "spec": {
            **_storage(),
            "capacity": {"storage": _CAPACITY},
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": snapshot.namespace,
                "name": claim_name(snapshot),
            },
            "local": {"path": snapshot.file_root or place.path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [linux]}]}},
        },
    }


def _claim(snapshot: Snapshot, owner: Owner) -> dict[str, Any]:
    """Return the claim, which the volume's claimRef binds.

    Were the volume named here too, two workers of the binder would write its phase at once; the
    loser gives up, and looks again only after 15 s (seen).
    """
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(
            claim_name(snapshot),
            snapshot.namespace,
            labels=labels(snapshot.service, revision=snapshot.revision),
            owner=owner,
        ),
        "spec": {
            **_storage(),
            "resources": {"requests": {"storage": _CAPACITY}},
        },
    }


def _storage() -> dict[str, Any]:
    return {
        "storageClassName": "",
        "accessModes": ["ReadOnlyMany"],
        "volumeMode": "Filesystem",
    }
