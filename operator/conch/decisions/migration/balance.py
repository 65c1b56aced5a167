"""Balance: the loss of one node, or zone, would take too many replicas of a service."""

from collections import Counter
from collections.abc import Sequence

from conch.api.migration import MoveReason
from conch.decisions.fleet import Node, Pool, ServiceKey
from conch.decisions.migration.books import Step
from conch.decisions.migration.plan import Because
from conch.decisions.migration.run import Proposal, Run, total
from conch.decisions.migration.view import MovableService, Option, Replica
from conch.decisions.placement.filters import ZONE


def spread(run: Run) -> None:
    """Propose to move replicas off nodes and zones that have too many of a service."""
    for key in sorted(run.fleet.services):
        service = run.fleet.services[key]
        known = run.fleet.by_service.get(key, ())
        there = [r for r in known if r.uid not in run.fleet.moving]
        if len(there) > 1 and (crowd := crowded(run, service, len(there))) is not None:
            _relieve(run, service, there, crowd)


def crowded(run: Run, service: MovableService, count: int) -> tuple[str, str] | None:
    """Return what kind of place has too many replicas, "node" or "zone", and its name; or None."""
    most = allowed_together(service, count)
    kinds = [("node", run.books.beside(service.key))]
    if service.standby:
        # Only for those is a zone's loss provided for, as in placement (Wish).
        kinds.append(("zone", run.books.in_zones(service.key)))
    for kind, homes in kinds:
        name = min(homes, key=lambda n: (-homes[n], n), default="")
        if name and homes[name] > most:
            return kind, name
    return None


def allowed_together(service: MovableService, count: int) -> int:
    """Return how many replicas one node may have: those that stand by, else all but one."""
    return service.standby or count - 1


def _relieve(
    run: Run, service: MovableService, there: Sequence[Replica], crowd: tuple[str, str]
) -> None:
    reason = MoveReason.BALANCE
    near = [r for r in there if in_crowd(run, r, crowd)]
    able = [r for r in near if run.never(r) is None]
    if not able:
        if near:
            run.refuse(reason, near[0], *(run.never(near[0]) or (Because.HELD, "")))
        return
    one = min(able, key=lambda r: (run.scales.disruption(r), r.pod, r.uid))
    if one.pool in run.contested:
        why = f"others wait for room in pool {one.pool}"
        run.refuse(reason, one, Because.WAITING_FIRST, why)
        return
    step = _elsewhere(run, service, one, crowd)
    if step is None:
        why = f"no {crowd[0]} of pool {one.pool} with fewer of its service has room"
        run.refuse(reason, one, Because.NO_PLACE, why)
        return
    _judge(run, step, crowd, len(there))


def in_crowd(run: Run, one: Replica, crowd: tuple[str, str]) -> bool:
    if crowd[0] == "node":
        return one.node == crowd[1]
    node = run.fleet.nodes.get(one.node)
    return node is not None and node.labels.get(ZONE) == crowd[1]


def _elsewhere(
    run: Run, service: MovableService, one: Replica, crowd: tuple[str, str]
) -> Step | None:
    """Book a place that is less crowded afterwards, by node or zone, and by the other no more."""
    here, apart = run.fleet.nodes[one.node], service.standby > 0
    homes, zones = run.books.beside(service.key), run.books.in_zones(service.key)

    def allowed(node: Node) -> bool:
        by_node = homes[one.node] - homes[node.name]
        by_zone = _apart(zones, here, node) if apart else 1
        strict = by_node if crowd[0] == "node" else by_zone
        return strict > 1 and min(by_node, by_zone) > 0

    option = service.by_pool.get(one.pool) or Option(one.pool, one.shape)
    return run.place(one, option, allowed)


def _apart(zones: Counter[str], here: Node, there: Node) -> int:
    """Return by how many replicas a zone has more than another; 1 where they are the same."""
    mine, other = here.labels.get(ZONE), there.labels.get(ZONE)
    return 1 if mine == other else zones[str(mine)] - zones[str(other)]


def _judge(run: Run, step: Step, crowd: tuple[str, str], count: int) -> None:
    one, pool = step.replica, run.fleet.pool_of[step.replica.pool]
    rise = _rise(run, pool, step)
    gained = max(0.0, run.scales.units(one) - rise)
    kind, name = crowd
    near = _count(run, one.service, crowd) + 1
    promise = f"{near} of {count} replicas of {one.service} are on {kind} {name}, one fewer then"
    if rise > 0:
        promise += f" ({rise:.2f} GPUs more are fragmented)"
    worth = run.scales.worth(total([step]), gained, one.pool)
    run.judge(Proposal(MoveReason.BALANCE, (step,), worth, promise))


def _count(run: Run, service: ServiceKey, crowd: tuple[str, str]) -> int:
    books = run.books
    homes = books.beside(service) if crowd[0] == "node" else books.in_zones(service)
    return homes[crowd[1]]


def _rise(run: Run, pool: Pool, step: Step) -> float:
    """Return by how many GPUs a booked move raises fragmentation."""
    touched = [step.replica.node, str(step.node)]
    after = run.books.fragmented(pool, touched)
    run.books.undo([step])
    before = run.books.fragmented(pool, touched)
    run.books.start(step)
    return after - before
