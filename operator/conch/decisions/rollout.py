"""Which revision gets the traffic, and what the old one gives up while a new one takes over."""

from collections.abc import Mapping, Sequence

from conch.decisions.fleet import Pod, ReplicaSet, Service

SetKey = tuple[str, str]
"""Revision and pool of a ReplicaSet."""


def selected(
    selector: str | None, revision: str | None, sets: Sequence[ReplicaSet], pods: Sequence[Pod]
) -> str | None:
    """Return the revision that has the traffic, or should get it back.

    ``selector`` is what the Service selects, None where there is no Service. A Service that is
    gone, or was made to select what does not exist, goes back to the revision that answers best.
    """
    if selector is not None and (selector == revision or any(s.revision == selector for s in sets)):
        return selector
    answering = {s.revision: 0 for s in sets}
    for pod in pods:
        answering[pod.revision] = answering.get(pod.revision, 0) + answers(pod)
    best = max(sorted(answering), key=lambda r: (answering[r], r == revision), default=None)
    return best if best is not None and answering[best] else selector


def answers(pod: Pod) -> bool:
    """Tell whether a pod gets traffic, where its revision does, and answers it."""
    return pod.ready and pod.serving and not pod.deleting and not pod.lost


def ready(service: Service, revision: str) -> int:
    """Return how many replicas of a revision answer."""
    return sum(answers(p) and p.revision == revision for p in service.pods)


def promotion(
    service: Service, revision: str, *, granted: int, short: bool, held: bool = False
) -> str:
    """Return the revision that should get the traffic.

    The new one takes over once it answers with as many replicas as it was granted, and where GPUs
    are short once it is half of what answers. Where the old one answers nothing, one replica is
    enough; none is not, since the old one may be back before. Where it is ``held``, only then.
    """
    old = service.serving_revision
    if old is None or old == revision:
        return revision
    ready_new, ready_old = ready(service, revision), ready(service, old)
    if ready_old == 0:
        over = not any(p.revision == old and not p.deleting for p in service.pods)
        over = over and not any(s.revision == old and s.replicas for s in service.sets)
        return revision if ready_new or over else old
    complete = ready_new >= max(1, granted) and (not short or ready_new >= ready_old)
    return revision if complete and not held else old


def old_targets(
    service: Service,
    revision: str,
    *,
    wanted: int,
    granted: int,
    short: bool,
    last: bool = False,
) -> Mapping[SetKey, int]:
    """Return the targets of other revisions' ReplicaSets.

    The one with the traffic keeps what it has until the new one took over, but for replicas that
    wait for a place: what is free goes to the new one. Where GPUs are short it gives up one
    replica after the other, those that do not answer first, and never the ``last`` that answers unless
    that is said.
    """
    serving = service.serving_revision
    old = [s for s in service.sets if s.revision != revision]
    targets = {
        (s.revision, s.pool): _in_place(service, s) if s.revision == serving and wanted else 0
        for s in old
    }
    if short and ready(service, revision) >= granted:
        given = _to_give(service, revision, targets, last=last)
        if given is not None:
            targets[given] -= 1
    return targets


def _in_place(service: Service, old: ReplicaSet) -> int:
    """Return how many replicas run or come back by themselves; others wait for a place."""
    live = service.live_pods(old.revision, old.pool)
    waiting = [p for p in live if p.gated or (p.node is None and p.pinned and p.unschedulable)]
    # With the gate, one that is missing would come back as one that waits. And there may be more
    # pods than replicas, while one that left is still known.
    count = len(live) if old.gated else max(old.replicas, len(live))
    return min(old.replicas, count - len(waiting) - sum(p.goes for p in live))


def _to_give(
    service: Service, revision: str, targets: Mapping[SetKey, int], *, last: bool
) -> SetKey | None:
    """Return the ReplicaSet that gives up a replica, or None when none can be spared."""
    old = service.serving_revision
    mine = sorted(k for k, target in targets.items() if k[0] == old and target)
    for key in mine:
        if targets[key] > sum(answers(p) for p in service.live_pods(*key)):
            return key
    keeps = 0 if last and not ready(service, revision) else max(1, ready(service, revision))
    if old is None or ready(service, old) <= keeps:
        return None
    return max(mine, key=lambda k: (targets[k], k), default=None)
