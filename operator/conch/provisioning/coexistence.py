"""Marks by which other controllers of a cluster know pods: each one is the installation's choice.

They stand in the pod template, are no part of a revision, and touch no pod that runs. A label or an
annotation that a service writes itself goes before them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from conch.api.service import Disruption
from conch.provisioning.metadata import bounded

KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
KAI_QUEUE = "kai.scheduler/queue"
KAI_SCHEDULER = "kai-scheduler"
DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"
PREFER_NO_EVICTION = "descheduler.alpha.kubernetes.io/prefer-no-eviction"
PRIORITY_CLASSES = ("conch-low", "conch-normal", "conch-high")
"""Made by the chart, none of which preempts: Conch drains, kube-scheduler would kill."""

_DURATION = re.compile(r"true|([0-9]+(s|m|h))+")
_WORTHLESS = ("priority-classes", "cluster-autoscaler", "descheduler")


@dataclass(frozen=True)
class Coexistence:
    """Who else acts on pods here."""

    kueue: bool = False
    kueue_queue: str | None = None
    """LocalQueue of all pods; None: one named like the tenant."""
    kai: bool = False
    kai_queue: str | None = None
    """Queue of all pods; None: one named like the tenant."""
    priority_classes: bool = False
    karpenter: str | None = None
    """How long Karpenter leaves a new pod's node alone: until the model is loaded."""
    cluster_autoscaler: bool = False
    descheduler: bool = False


@dataclass(frozen=True)
class Marks:
    """What a pod template gets for the sake of others."""

    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)


def coexistence(words: Iterable[str]) -> Coexistence:
    """Return what words such as ``kueue``, ``kai=QUEUE`` or ``karpenter=15m`` say.

    Raises ValueError where one says nothing.
    """
    found = Coexistence()
    for word in words:
        name, _, value = word.partition("=")
        found = replace(found, **_setting(name, value, word))
    return found


def _setting(name: str, value: str, word: str) -> dict[str, Any]:
    if name in ("kueue", "kai"):
        return {name: True, f"{name}_queue": value or None}
    if name == "karpenter" and _DURATION.fullmatch(value):
        return {name: value}
    if name in _WORTHLESS and not value:
        return {name.replace("-", "_"): True}
    raise ValueError(
        f"{word!r} is none of kueue, kueue=QUEUE, kai, kai=QUEUE, karpenter=DURATION (such as 15m, "
        f"or true), {', '.join(_WORTHLESS)}"
    )


def marks(
    others: Coexistence, *, tenant: str | None, priority: int, disruption: Disruption
) -> Marks:
    """Return the marks of a service's pods.

    Without a queue of its own or a tenant that names one, a service gets no queue's label: then
    the other's own default holds.
    """
    return Marks(_labels(others, tenant), _annotations(others, disruption), _spec(others, priority))


def _labels(others: Coexistence, tenant: str | None) -> dict[str, str]:
    queues = {
        KUEUE_QUEUE: (others.kueue_queue or tenant) if others.kueue else None,
        KAI_QUEUE: (others.kai_queue or tenant) if others.kai else None,
    }
    return {label: bounded(queue) for label, queue in queues.items() if queue}


def _annotations(others: Coexistence, disruption: Disruption) -> dict[str, str]:
    found = {}
    if others.karpenter:
        # Later the PodDisruptionBudget holds, which Karpenter respects.
        found[DO_NOT_DISRUPT] = others.karpenter
    if others.cluster_autoscaler:
        # Without it, the autoscaler would take an emptyDir for data that must not be lost.
        found[SAFE_TO_EVICT] = "true" if disruption is Disruption.ALLOW else "false"
    if others.descheduler:
        found[PREFER_NO_EVICTION] = "true"
    return found


def _spec(others: Coexistence, priority: int) -> dict[str, Any]:
    found = {"schedulerName": KAI_SCHEDULER} if others.kai else {}
    if others.priority_classes:
        found["priorityClassName"] = PRIORITY_CLASSES[1 + (priority > 0) - (priority < 0)]
    return found
