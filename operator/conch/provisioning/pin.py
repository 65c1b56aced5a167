"""The one patch that admits a gated pod and places it."""

from typing import Any

from conch.api.names import ANNOTATION_MIGRATION, GATE, LABEL_SERVING

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def admission_patch(
    pod: dict[str, Any], node: str | None, *, migration: str | None = None
) -> dict[str, Any]:
    """Return the strategic merge patch that lifts Conch's gate from ``pod``, and only that one.

    With a node, the pod may run nowhere else. With a migration, by which it is to take another's place,
    it gets no traffic yet. The patch names the pod's UID and resourceVersion,
    so that it is refused when the pod has changed since it was read (409) or is another (422).
    """
    meta = pod["metadata"]
    spec: dict[str, Any] = {"schedulingGates": [{"name": GATE, "$patch": "delete"}]}
    if node is not None:
        spec["affinity"] = {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": _pinned(pod, node)}}}
    metadata = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    if migration is not None:
        metadata["annotations"] = {ANNOTATION_MIGRATION: migration}
        metadata["labels"] = {LABEL_SERVING: None}
    return {"metadata": metadata, "spec": spec}


def _pinned(pod: dict[str, Any], node: str) -> list[dict[str, Any]]:
    """Return every term of the pod, narrowed to the node; the list is replaced as a whole.

    Terms are alternatives: one that is not narrowed would let the pod run elsewhere.
    """
    name = {"key": "metadata.name", "operator": "In", "values": [node]}
    affinity = pod["spec"].get("affinity") or {}
    required = (affinity.get("nodeAffinity") or {}).get(_REQUIRED) or {}
    terms = required.get("nodeSelectorTerms") or [{}]
    return [{**t, "matchFields": [*t.get("matchFields", []), name]} for t in terms]
