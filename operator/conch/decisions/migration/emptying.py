"""Defragmentation: a node becomes empty, so that popular replicas fit or an autoscaler takes it."""

from conch.api.migration import MoveReason
from conch.decisions.fleet import Node, Pool
from conch.decisions.migration.books import Step
from conch.decisions.migration.plan import Because
from conch.decisions.migration.rules import MOVED_PER_GAINED, amount
from conch.decisions.migration.run import Proposal, Run, total
from conch.decisions.migration.view import Option, Replica
from conch.decisions.placement.filters import ZONE

MOST_NODES = 8
"""Nodes of a pool that are tried in one run: those with the fewest GPUs to move."""
_SMALL = 1e-9


def empty_nodes(run: Run) -> None:
    """Propose moves that empty nodes, in each pool for itself."""
    for pool in sorted(run.fleet.pools, key=lambda p: p.name):
        if not pool.without_gpus:
            _empty(run, pool)


def _empty(run: Run, pool: Pool) -> None:
    stranded = None if pool.spec.elastic else _stranded(run, pool)
    for held, node, there in _candidates(run, pool)[:MOST_NODES]:
        # No more can be regained than is fragmented.
        if stranded is not None and held > MOVED_PER_GAINED * stranded + _SMALL:
            break
        _try(run, pool, node, there)


def _stranded(run: Run, pool: Pool) -> float:
    return run.books.fragmented(pool, (n.name for n in pool.nodes))


def _candidates(run: Run, pool: Pool) -> list[tuple[float, Node, list[Replica]]]:
    """Return the nodes that movable replicas alone hold GPUs of, with how many, the fewest first."""
    found = []
    for node in pool.nodes:
        there = [r for r in run.fleet.by_node.get(node.name, ()) if r.uid not in run.fleet.moving]
        if not there or any(r.pool != pool.name or run.never(r) for r in there):
            continue
        held = sum(r.shape.need.gpus for r in there)
        # What others hold of it, or what is kept for one that waits, would stay.
        if held and run.books.after.free(node, pool).gpus + held == _devices(pool, node):
            found.append((pool.gpus_of(held), node, there))
    return sorted(found, key=lambda f: (f[0], len(f[2]), f[1].name))


def _devices(pool: Pool, node: Node) -> int:
    return round(node.allocatable.get(pool.spec.resource_name, 0.0))


def _try(run: Run, pool: Pool, node: Node, there: list[Replica]) -> None:
    steps: list[Step] = []
    for one in sorted(there, key=lambda r: (-run.scales.units(r), r.service, r.pod)):
        step = closer(run, one, pool)
        if step is None:
            run.books.undo(steps)
            why = f"{node.name} can't be emptied: it has no place on another node that is in use"
            run.refuse(MoveReason.DEFRAGMENTATION, one, Because.NO_PLACE, why)
            return
        steps.append(step)
    gained = _gained(run, pool, node, steps)
    kind = "its autoscaler may take it away" if pool.spec.elastic else "popular replicas regain"
    promise = f"{node.name} becomes empty, {kind} {amount(gained, pool)}"
    worth = run.scales.worth(total(steps), gained, pool.name)
    run.judge(Proposal(MoveReason.DEFRAGMENTATION, tuple(steps), worth, promise))


def _gained(run: Run, pool: Pool, node: Node, steps: list[Step]) -> float:
    """Return the GPUs that are gained: those of the node, or those regained by the measure."""
    if pool.spec.elastic:
        return pool.gpus_of(_devices(pool, node))
    touched = [node.name, *(str(s.node) for s in steps)]
    after = run.books.fragmented(pool, touched)
    run.books.undo(steps)
    before = run.books.fragmented(pool, touched)
    for step in steps:
        run.books.start(step)
    return max(0.0, before - after)


def _in_use(run: Run, node: str) -> bool:
    """Tell whether a node has replicas, and not only such as come or leave."""
    there = run.fleet.by_node.get(node, ())
    stay = any(r.uid not in run.fleet.moving for r in there)
    return stay and run.books.occupied(node) > 0


def closer(run: Run, one: Replica, pool: Pool) -> Step | None:
    """Book a place on a node in use where the service is no more crowded than it is now."""
    here, service = run.fleet.nodes[one.node], run.fleet.services[one.service]
    apart = service.standby > 0
    near, zones = run.books.beside(one.service), run.books.in_zones(one.service)

    def allowed(node: Node) -> bool:
        zone, mine = node.labels.get(ZONE), here.labels.get(ZONE)
        same = not apart or zone == mine or zones[str(zone)] < zones[str(mine)]
        return _in_use(run, node.name) and near[node.name] < near[one.node] and same

    option = service.by_pool.get(pool.name) or Option(pool.name, one.shape)
    return run.place(one, option, allowed)
