"""The one patch that admits a gated pod and places it."""

from collections.abc import Sequence
from typing import Any

from conch.api.names import ANNOTATION_DISTURBED, ANNOTATION_MIGRATION, GATE, LABEL_SERVING

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def admission_patch(
    pod: dict[str, Any],
    node: str | None,
    *,
    migration: str | None = None,
    avoid: Sequence[str] = (),
    disturbed: bool = False,
) -> dict[str, Any]:
    """Return the strategic merge patch that lifts Conch's gate from ``pod``, and only that one.

    With a node, the pod may run nowhere else; without one, on any but those to ``avoid``. With a
    migration, by which it is to take another's place, it gets no traffic yet; ``disturbed``: it takes
    that of one that neighbours disturb. The patch names the pod's UID and resourceVersion, so that it
    is refused when the pod has changed since it was read (409) or is another (422).
    """
    meta = pod["metadata"]
    spec: dict[str, Any] = {"schedulingGates": [{"name": GATE, "$patch": "delete"}]}
    wanted = [_name("In", node)] if node is not None else [_name("NotIn", n) for n in avoid]
    if wanted:
        terms = _narrowed(pod, wanted)
        spec["affinity"] = {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": terms}}}
    metadata = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    if migration is not None:
        metadata["annotations"] = {ANNOTATION_MIGRATION: migration}
        if disturbed:
            metadata["annotations"][ANNOTATION_DISTURBED] = "true"
        metadata["labels"] = {LABEL_SERVING: None}
    return {"metadata": metadata, "spec": spec}


def _name(operator: str, node: str) -> dict[str, Any]:
    """Return what is asked of a node's name; the API takes one name in each."""
    return {"key": "metadata.name", "operator": operator, "values": [node]}


def _narrowed(pod: dict[str, Any], names: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return every term of the pod, narrowed to nodes of such names; the list is replaced as a whole.

    Terms are alternatives: one that is not narrowed would let the pod run elsewhere.
    """
    affinity = pod["spec"].get("affinity") or {}
    required = (affinity.get("nodeAffinity") or {}).get(_REQUIRED) or {}
    terms = required.get("nodeSelectorTerms") or [{}]
    return [{**t, "matchFields": [*t.get("matchFields", []), *names]} for t in terms]
