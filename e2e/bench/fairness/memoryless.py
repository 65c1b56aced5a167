"""Policies without a memory: first come first served, static slices, dominant-resource fairness."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from e2e.bench.fairness.entitlement import slices
from e2e.bench.fairness.scene import Nodes, Plan, Replica, Scene, Start, Wish


def fifo(scene: Scene) -> Plan:
    """First come, first served; what does not fit lets others pass, and nobody is preempted."""
    nodes = scene.free()
    return Plan([s for wish in scene.wishes for s in _starts(wish, wish.waiting, nodes)])


def static(scene: Scene) -> Plan:
    """Each tenant has its slice by weight, of GPUs on any nodes, and never more."""
    left = dict(slices(scene.weights, scene.capacity))
    for replica in scene.replicas():
        left[replica.tenant] -= replica.gpus
    nodes = scene.free()
    starts: list[Start] = []
    for wish in scene.wishes:
        within = min(wish.waiting, left[wish.work.tenant] // wish.work.gpus)
        new = list(_starts(wish, within, nodes))
        left[wish.work.tenant] -= len(new) * wish.work.gpus
        starts += new
    return Plan(starts)


def _starts(wish: Wish, count: int, nodes: Nodes) -> Iterator[Start]:
    for _ in range(count):
        node = nodes.take(wish.work.gpus)
        if node is None:
            return
        yield Start(wish.work.name, node)


def drf(scene: Scene) -> Plan:
    """Weighted dominant-resource fairness in whole replicas, begun anew at each pass.

    Progressive filling (Ghodsi et al., NSDI 2011, algorithm 1): the tenant with the least GPUs by
    weight takes its next replica, those that run before those that wait. Who runs and was not
    chosen is preempted, unless those who were chosen leave it its place.
    """
    chosen = _filled(scene)
    kept = {r.id for some in chosen.values() for r in some if isinstance(r, Replica)}
    leaving = [r for r in scene.replicas() if r.id not in kept]
    nodes = scene.free(leaving)
    starts: list[Start] = []
    new = [r for some in chosen.values() for r in some if isinstance(r, Wish)]
    for wish in sorted(new, key=lambda w: -w.work.gpus):
        starts += _starts(wish, 1, nodes)
    stops = []
    for replica in leaving:
        if nodes.free[replica.node] >= replica.gpus:
            nodes.free[replica.node] -= replica.gpus
        else:
            stops.append(replica.id)
    return Plan(starts, frozenset(stops))


def _filled(scene: Scene) -> Mapping[str, list[Replica | Wish]]:
    """Return what each tenant may have: replicas that run, and wishes for one more."""
    queues: dict[str, list[Replica | Wish]] = defaultdict(list)
    for replica in scene.replicas():
        queues[replica.tenant].append(replica)
    for wish in scene.wishes:
        queues[wish.work.tenant].extend([wish] * wish.waiting)
    has: dict[str, int] = dict.fromkeys(queues, 0)
    chosen: dict[str, list[Replica | Wish]] = defaultdict(list)
    left, turns = scene.capacity, {tenant: iter(queue) for tenant, queue in queues.items()}
    while turns and left > 0:
        tenant = min(turns, key=lambda t: (has[t] / scene.weights[t], t))
        candidate = next((r for r in turns[tenant] if _gpus(r) <= left), None)
        if candidate is None:
            del turns[tenant]
            continue
        chosen[tenant].append(candidate)
        has[tenant] += _gpus(candidate)
        left -= _gpus(candidate)
    return chosen


def _gpus(candidate: Replica | Wish) -> int:
    return candidate.gpus if isinstance(candidate, Replica) else candidate.work.gpus
