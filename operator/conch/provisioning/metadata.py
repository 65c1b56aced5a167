"""What every child carries: its name, its labels and who owns it."""

import hashlib
from dataclasses import dataclass
from typing import Any

from conch.api.names import (
    GROUP,
    LABEL_MANAGED_BY,
    LABEL_POOL,
    LABEL_REVISION,
    LABEL_SERVICE,
    MANAGED_BY,
)

LABEL_NAMESPACE = f"{GROUP}/namespace"
"""On cluster-scoped children: the namespace of the service that they belong to."""
LABEL_LIMIT = 63
"""Most characters of a label's value, and of the names that become host names."""
_DIGEST = 10


@dataclass(frozen=True)
class Owner:
    """The object that a child belongs to and goes with."""

    api_version: str
    kind: str
    name: str
    uid: str

    def reference(self) -> dict[str, Any]:
        """Return the owner reference of a controller whose deletion waits for the child's."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }


def digest(text: str, length: int = _DIGEST) -> str:
    """Return ``length`` hexadecimal digits that stand for ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def bounded(text: str, limit: int = LABEL_LIMIT) -> str:
    """Return ``text``, or its beginning and a digest where it is longer than ``limit``."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - _DIGEST - 1].rstrip('-.')}-{digest(text)}"


def labels(service: str, *, revision: str | None = None, pool: str | None = None) -> dict[str, str]:
    """Return the labels of a child of a service, of one revision, of one pool."""
    return {LABEL_MANAGED_BY: MANAGED_BY, **selector(service, revision=revision, pool=pool)}


def selector(
    service: str, *, revision: str | None = None, pool: str | None = None
) -> dict[str, str]:
    """Return the labels that select the pods of a service, of one revision, of one pool."""
    wanted = {LABEL_SERVICE: service, LABEL_REVISION: revision, LABEL_POOL: pool}
    return {k: bounded(v) for k, v in wanted.items() if v is not None}


def metadata(name: str, namespace: str, *, labels: dict[str, str], owner: Owner) -> dict[str, Any]:
    """Return the metadata of a namespaced child."""
    return {
        "name": name,
        "namespace": namespace,
        "labels": labels,
        "ownerReferences": [owner.reference()],
    }
