"""Replicas on nodes that are to be left: another answers first, then the one there is drained.

A node is to be left once it is cordoned, or has got a taint that the replica does not tolerate: so
`kubectl drain`, upgrades and autoscalers say it. All follows from what is there, so that nothing has
to be remembered.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from conch.decisions.fleet import Node, Pod, Pool, Service, Shape
from conch.decisions.placement import unwelcome
from conch.decisions.rollout import answers


def to_leave(pools: Iterable[Pool]) -> Mapping[str, Node]:
    """Return, by name, the nodes that take no new replica of their pool by a cordon or a taint."""
    return {
        node.name: node
        for pool in pools
        for node in pool.nodes
        if unwelcome(node, tuple(pool.spec.tolerations))
    }


def marked(service: Service, nodes: Mapping[str, Node], shapes: Mapping[str, Shape]) -> Service:
    """Return the service with each of its replicas that is to leave its node told why.

    ``nodes`` are those that may have to be left, ``shapes`` by pool.
    """
    why = {p.uid: text for p in service.pods if (text := _why(p, nodes, shapes))}
    if not why:
        return service
    return replace(service, pods=tuple(replace(p, leaves=why.get(p.uid)) for p in service.pods))


def _why(pod: Pod, nodes: Mapping[str, Node], shapes: Mapping[str, Shape]) -> str | None:
    node = nodes.get(pod.node or "")
    if node is None or pod.pool not in shapes:
        return None
    return unwelcome(node, shapes[pod.pool].tolerations)


def movable(service: Service) -> tuple[Pod, ...]:
    """Return the replicas that answer and are to leave their nodes."""
    return tuple(p for p in leaving(service) if answers(p))


def leaving(service: Service) -> tuple[Pod, ...]:
    """Return the replicas that are to leave their nodes and answer, or did until they began to."""
    revision = service.revision or service.serving_revision
    mine = (p for p in service.pods if p.leaves and p.revision == revision)
    return tuple(p for p in mine if answers(p) or _drains(p))


def _drains(pod: Pod) -> bool:
    return pod.ready and pod.draining_since is not None and not pod.deleting and not pod.lost


@dataclass(frozen=True, slots=True)
class Moving:
    """What to plan for while replicas leave their nodes."""

    replicas: int
    """With those that are started for others to leave, without those that may leave now."""
    going: frozenset[str] = frozenset()
    """UIDs of those that may leave now, as enough others answer."""
    stuck: int = 0
    """That stay where they are for want of another place."""


def moving(service: Service, wanted: int, *, room: int, most: float) -> Moving:
    """Return what to plan for where ``wanted`` replicas are to answer.

    ``room`` more have a place now, and the service may have ``most``. At no time do fewer answer than
    before because of it: what drains gets its traffic back where those that answer are too few.
    """
    old = leaving(service)
    if not old:
        return Moving(wanted)
    revision = old[0].revision
    others = [p for p in service.pods if p.revision == revision and not (p.deleting or p.leaves)]
    staying = sum(answers(p) for p in others)
    starting = sum(not p.ready and p.draining_since is None for p in others)
    # What starts for more load takes the place of none.
    begun = max(0, starting - max(0, wanted - staying - len(old)))
    missing = min(len(old), max(0, wanted - staying))
    surge = int(min(missing, begun + room, max(0.0, most - wanted)))
    spare = max(0, staying + len(old) - wanted)
    going = sorted(old, key=lambda p: (not _drains(p), p.created, p.name))[:spare]
    return Moving(wanted + surge, frozenset(p.uid for p in going), stuck=missing - surge)


def sent_off(service: Service, going: Iterable[str]) -> Service:
    """Return the service with those that may leave now told so."""
    gone = set(going)
    pods = tuple(replace(p, goes=True) if p.uid in gone else p for p in service.pods)
    return replace(service, pods=pods) if gone else service
