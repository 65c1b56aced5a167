"""From API objects to the frozen facts that decisions take. Pure."""

import math
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from conch.api.base import parse_quantity
from conch.api.names import (
    ANNOTATION_DEVICES,
    ANNOTATION_DRAINING_SINCE,
    ANNOTATION_MIGRATION,
    GATE,
    LABEL_POOL,
    LABEL_REVISION,
    LABEL_SERVING,
    SERVING,
)
from conch.decisions.fleet import Node, Pod, ReplicaSet, Sign
from conch.reconcile.node_signs import SIGNS
from conch.reconcile.store import leaving

Object = dict[str, Any]
_OVER = ("Succeeded", "Failed")
_LONGEST = 120
"""Letters of a condition's reason and message that are told."""
_NOT_READY = "node.kubernetes.io/not-ready", "NoSchedule"


def seconds_of(text: str) -> float:
    """Return a Kubernetes time as seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def quantity(text: object) -> float:
    """Return a quantity of the API; one that can't be read counts as nothing."""
    try:
        return parse_quantity(str(text))
    except ValueError:
        return 0.0


def condition(body: Object, kind: str) -> Mapping[str, Any]:
    """Return a condition of an object, empty where there is none."""
    conditions = body.get("status", {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == kind), {})


def requests_of(pod: Object) -> dict[str, float]:
    """Return what the scheduler counts for a pod: its containers, or init containers that need more.

    As in k8s.io/component-helpers/resource: a sidecar (an init container that restarts) adds up
    with the containers and with the init containers after it; overhead comes on top. So do the
    devices of a DRA driver, for which the spec names no number.
    """
    spec = pod.get("spec", {})
    total: dict[str, float] = {}
    sidecars: dict[str, float] = {}
    peak: dict[str, float] = {}
    for container in spec.get("containers", []):
        _add(total, _requests(container))
    for container in spec.get("initContainers", []):
        wanted = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(total, wanted)
            _add(sidecars, wanted)
            wanted = {}
        for name in {*wanted, *sidecars}:
            running = wanted.get(name, 0.0) + sidecars.get(name, 0.0)
            peak[name] = max(peak.get(name, 0.0), running)
    found = {n: max(total.get(n, 0.0), peak.get(n, 0.0)) for n in {*total, *peak}}
    _add(found, {name: quantity(amount) for name, amount in spec.get("overhead", {}).items()})
    _add(found, _devices(pod))
    return found


def _devices(pod: Object) -> dict[str, float]:
    annotations = pod.get("metadata", {}).get("annotations") or {}
    name, _, count = annotations.get(ANNOTATION_DEVICES, "").partition("=")
    return {name: quantity(count)} if name else {}


def _requests(container: Object) -> dict[str, float]:
    resources = container.get("resources") or {}
    wanted = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: quantity(amount) for name, amount in wanted.items()}


def _add(total: dict[str, float], more: Mapping[str, float]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0.0) + amount


def bound_pods(pods: Iterable[Object]) -> dict[str, list[Object]]:
    """Return the pods that hold resources, by node."""
    by_node: dict[str, list[Object]] = {}
    for pod in pods:
        node = pod.get("spec", {}).get("nodeName")
        if node and holds(pod):
            by_node.setdefault(node, []).append(pod)
    return by_node


def holds(pod: Object) -> bool:
    """Tell whether a bound pod holds what it asked for: not when its containers ended for good."""
    return pod.get("status", {}).get("phase") not in _OVER


def node_view(
    body: Object, asked: Iterable[Mapping[str, float]], signs: Mapping[str, str] = SIGNS
) -> Node:
    """Return a node with what its pods ask for; ``asked`` is that of each pod.

    ``signs``: conditions by type, with the status in which they are signs of failing.
    """
    requested: dict[str, float] = {}
    count = 0
    for pod in asked:
        count += 1
        for name, amount in pod.items():
            requested[name] = requested.get(name, 0.0) + amount
    allocatable = body.get("status", {}).get("allocatable") or {}
    return Node(
        name=body["metadata"]["name"],
        labels=body["metadata"].get("labels") or {},
        ready=not (is_silent(body) or leaving(body) or _is_held_back(body)),
        schedulable=not body.get("spec", {}).get("unschedulable", False),
        taints=tuple(body.get("spec", {}).get("taints") or ()),
        allocatable={name: quantity(amount) for name, amount in allocatable.items()},
        requested=requested,
        pods=count,
        signs=signs_of(body, signs),
    )


def signs_of(node: Object, bad: Mapping[str, str]) -> tuple[Sign, ...]:
    """Return by which conditions a node seems to fail, the oldest first.

    ``bad``: by type, the status that says so. Any other, Unknown too, says nothing.
    """
    conditions = node.get("status", {}).get("conditions") or ()
    known = (c for c in conditions if c.get("type") in bad)
    found = [_sign(c) for c in known if c.get("status") == bad[c["type"]]]
    return tuple(sorted(found, key=lambda s: (math.inf if s.since is None else s.since, s.kind)))


def _sign(condition: Mapping[str, Any]) -> Sign:
    kind = condition["type"]
    why = [str(condition[k]) for k in ("reason", "message") if condition.get(k)]
    words = " ".join(": ".join(why).split())
    if len(words) > _LONGEST:
        words = f"{words[: _LONGEST - 1]}…"
    try:
        since = seconds_of(str(condition.get("lastTransitionTime")))
    except ValueError:
        since = None
    return Sign(kind, f"{kind} ({words})" if words else kind, since)


def _is_held_back(node: Object) -> bool:
    """Tell whether Kubernetes still keeps pods from a node that has only just become ready."""
    taints = node.get("spec", {}).get("taints") or ()
    return any((t.get("key"), t.get("effect")) == _NOT_READY for t in taints)


def is_silent(node: Object) -> bool:
    """Tell whether a node's kubelet says that it is not ready, or says nothing any more."""
    return condition(node, "Ready").get("status") != "True"


def pod_view(body: Object, nodes: Collection[str], silent: Collection[str] = ()) -> Pod:
    """Return a pod of a service; ``nodes`` are the names of those that exist, and of the silent."""
    metadata, spec = body["metadata"], body.get("spec", {})
    labels = metadata.get("labels") or {}
    annotations = metadata.get("annotations") or {}
    ready = condition(body, "Ready")
    scheduled = condition(body, "PodScheduled")
    draining = annotations.get(ANNOTATION_DRAINING_SINCE)
    waits = scheduled.get("reason") == "Unschedulable" and scheduled.get("status") == "False"
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        revision=labels.get(LABEL_REVISION, ""),
        pool=labels.get(LABEL_POOL, ""),
        created=seconds_of(metadata["creationTimestamp"]),
        node=spec.get("nodeName"),
        gated=any(g.get("name") == GATE for g in spec.get("schedulingGates") or ()),
        pinned=pinned_node(spec),
        ready=ready.get("status") == "True",
        serving=labels.get(LABEL_SERVING) == SERVING,
        draining_since=_draining(draining),
        deleting=leaving(body) or _is_over(body),
        over=_is_over(body),
        unschedulable=scheduled.get("message", "no node") if waits else None,
        ready_at=_since(ready),
        scheduled_at=_since(scheduled),
        lost=spec.get("nodeName") is not None and spec["nodeName"] not in nodes,
        stranded=spec.get("nodeName") in silent and ready.get("status") != "True",
        comes=annotations.get(ANNOTATION_MIGRATION),
        body=body,
    )


def _is_over(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in _OVER


def _since(condition: Mapping[str, Any]) -> float | None:
    """Return since when a condition is true, None where it is not."""
    time = condition.get("lastTransitionTime")
    return seconds_of(time) if time and condition.get("status") == "True" else None


def _draining(text: str | None) -> float | None:
    """Return when a drain began; an unreadable time counts as long ago, so that it ends."""
    if text is None:
        return None
    try:
        return seconds_of(text)
    except ValueError:
        return 0.0


def pinned_node(pod_spec: Object) -> str | None:
    """Return the one node that a pod's affinity names, if it does."""
    affinity = pod_spec.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            names = field.get("key") == "metadata.name" and field.get("operator", "In") == "In"
            if names and field.get("values"):
                return str(field["values"][0])
    return None


def replica_set_view(body: Object) -> ReplicaSet:
    """Return a ReplicaSet of a service."""
    metadata, spec = body["metadata"], body["spec"]
    status = body.get("status", {})
    labels = metadata.get("labels") or {}
    failure = condition(body, "ReplicaFailure")
    gates = spec.get("template", {}).get("spec", {}).get("schedulingGates") or ()
    replicas = spec.get("replicas", 1)
    current = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    return ReplicaSet(
        name=metadata["name"],
        uid=metadata["uid"],
        revision=labels.get(LABEL_REVISION, ""),
        pool=labels.get(LABEL_POOL, ""),
        replicas=replicas,
        gated=any(g.get("name") == GATE for g in gates),
        observed=current,
        refusal=failure.get("message") if failure.get("status") == "True" else None,
    )
