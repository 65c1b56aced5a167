"""Interference: a replica misses its objective beside busy neighbours, others of its service meet it."""

from conch.api.migration import MoveReason
from conch.decisions.fleet import Node, ServiceKey
from conch.decisions.migration.plan import Because
from conch.decisions.migration.run import Proposal, Run, total
from conch.decisions.migration.view import MovableFleet, Option, Replica

BUSY = 0.5
"""Share of the time from which a neighbour counts as busy: it computes more often than not."""
Found = tuple[Because, str]


def calm(run: Run) -> None:
    """Propose to move replicas that neighbours disturb to nodes without any."""
    for service in sorted(run.fleet.services):
        for one in run.fleet.by_service.get(service, ()):
            if one.late is not None and one.late > 1:
                _try(run, one)


def _try(run: Run, one: Replica) -> None:
    reason = MoveReason.INTERFERENCE
    why = run.never(one) or undisturbed(run.fleet, one)
    if why is not None:
        run.refuse(reason, one, *why)
        return
    if run.fleet.pool_of[one.pool].spec.elastic:
        where = f"pool {one.pool} is elastic, so that its scheduler may put others beside it"
        run.refuse(reason, one, Because.NO_PLACE, where)
        return
    service = run.fleet.services[one.service]
    option = service.by_pool.get(one.pool) or Option(one.pool, one.shape)

    def allowed(node: Node) -> bool:
        return not run.books.occupied(node.name)

    step = run.place(one, option, allowed)
    if step is None:
        run.refuse(reason, one, Because.NO_PLACE, f"no node of pool {one.pool} without others")
        return
    busy = ", ".join(f"{r.pod} ({r.busy:.0%} busy)" for r in neighbours(run.fleet, one))
    promise = f"it is at {one.late:.2f} of its objective beside {busy}; others of it meet theirs"
    worth = run.scales.worth(total([step]), run.scales.units(one), one.pool)
    if run.judge(Proposal(reason, (step,), worth, promise)) is None:
        run.books.hush(str(step.node))


def neighbours(fleet: MovableFleet, one: Replica) -> list[Replica]:
    """Return the busy replicas on the node of another."""
    there = fleet.by_node.get(one.node, ())
    return [r for r in there if r.uid != one.uid and r.busy is not None and r.busy >= BUSY]


def undisturbed(fleet: MovableFleet, one: Replica) -> Found | None:
    """Return why neighbours are not to blame for a replica's lateness, or None."""
    if one.late is None:
        return Because.NO_DATA, "nothing is known of its latency"
    if one.late <= 1:
        return Because.LITTLE_GAIN, f"it meets its objective, at {one.late:.2f} of it"
    late = f"it is at {one.late:.2f} of its objective"
    near = [r for r in fleet.by_node.get(one.node, ()) if r.uid != one.uid]
    if not near:
        return Because.LITTLE_GAIN, f"{late}, and has no neighbours"
    if not neighbours(fleet, one):
        unknown = all(r.busy is None for r in near)
        because = Because.NO_DATA if unknown else Because.LITTLE_GAIN
        say = "it is not known how busy its neighbours are" if unknown else "none of them is busy"
        return because, f"{late}, but {say}"
    return _others(fleet, one.service, one, late)


def _others(fleet: MovableFleet, service: ServiceKey, one: Replica, late: str) -> Found | None:
    known = [
        r.late
        for r in fleet.by_service.get(service, ())
        if r.uid != one.uid and r.pool == one.pool and r.late is not None
    ]
    if not known:
        return Because.NO_DATA, f"{late}, but of no other of its service the latency is known"
    met = sum(value <= 1 for value in known)
    if 2 * met > len(known):
        return None
    return Because.LITTLE_GAIN, f"{late}, but {met} of {len(known)} others meet it: all are slow"
