"""Whether a move that was accepted still makes sense, asked again before each step that disturbs."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from conch.api.migration import MoveReason
from conch.decisions.fleet import Amounts, Node
from conch.decisions.migration import accelerator, balance, failing, interference
from conch.decisions.migration.making_room import comes_free
from conch.decisions.migration.plan import Move
from conch.decisions.migration.run import Run
from conch.decisions.migration.view import MovableFleet, Replica
from conch.decisions.placement import bar


def revalidate(move: Move, fleet: MovableFleet, now: float) -> str | None:
    """Return why a move makes no sense any more on a fresh state, in words; None: it does.

    It may be under way by now: then it is among ``fleet.open``, and its new place is in the books.
    """
    begun = move.uid in fleet.moving
    run = Run(_before(move, fleet), now)
    one = run.fleet.by_uid.get(move.uid)
    if one is None or (one.pool, one.node) != (move.source_pool, move.source_node):
        where = "gone" if one is None else f"on {one.node} of pool {one.pool}"
        return f"{move.pod} is {where} by now"
    urgent = move.reason is MoveReason.NODE_FAILING
    why = run.limits.bound(one) if urgent else run.limits.never(one)
    if why is None and not begun:
        why = run.limits.not_now(one)
    if why is not None:
        return f"{move.pod}: {why[1]}"
    return _target(run, move, one, begun=begun) or _CHECKS[move.reason](run, move, one)


def _before(move: Move, fleet: MovableFleet) -> MovableFleet:
    """Return the fleet as if the move had not begun; its new place stays booked."""
    begun = fleet.moving.get(move.uid)
    if begun is None:
        return fleet
    rest = tuple(m for m in fleet.open if m.uid != move.uid)
    known = tuple(r for r in fleet.replicas if r.uid != begun.successor)
    return replace(fleet, open=rest, replicas=known)


def _target(run: Run, move: Move, one: Replica, *, begun: bool) -> str | None:
    """Return why the new place takes the replica no more, or None."""
    pool, service = run.fleet.pool_of.get(move.target_pool), run.fleet.services[one.service]
    option = service.by_pool.get(move.target_pool)
    if pool is None or (option is None and move.target_pool != one.pool):
        return f"pool {move.target_pool} does not suit it any more"
    if move.target_node is None:
        return None
    shape = option.shape if option is not None else one.shape
    node = next((n for n in pool.nodes if n.name == move.target_node), None)
    if node is None:
        return f"{move.target_node} is gone"
    if (why := bar(node, shape) or _fails(node)) is not None:
        return f"{node.name} is {why}"
    if not begun and not run.books.now.free(node, pool).covers(shape.need):
        return f"{node.name} has no room for it any more"
    return None


def _fails(node: Node) -> str | None:
    return f"showing signs of failing itself: {node.failing}" if node.signs else None


def _defragmentation(run: Run, move: Move, _: Replica) -> str | None:
    return _still_empties(run, move) if move.waiting is None else _still_waits(run, move)


def _still_empties(run: Run, move: Move) -> str | None:
    """Return why a node would not become empty, or why it would be in vain, or None."""
    there = run.fleet.by_node.get(move.source_node, ())
    if any(r.uid not in move.uids and r.uid not in run.fleet.moving for r in there):
        return f"others came to {move.source_node}"
    if move.target_node is not None and not run.books.occupied(move.target_node):
        return f"{move.target_node} has become empty itself"
    return None


def _still_waits(run: Run, move: Move) -> str | None:
    """Return why what waited needs the room no more, or would not get it, or None."""
    waiting = None
    for one in run.fleet.waiting:
        if one.service == move.waiting:
            waiting = one
            break
        for _ in range(one.count):
            if not comes_free(run, one):
                break
    if waiting is None:
        return f"{move.waiting} waits no more"
    fits = False
    for option in waiting.options:
        pool = run.fleet.pool_of.get(option.pool)
        if pool is None:
            continue
        if next(run.books.now.fitting(pool, option.shape), None) is not None:
            return f"{move.waiting} has room in pool {pool.name} without it"
        node = next((n for n in pool.nodes if n.name == move.source_node), None)
        if node is not None and bar(node, option.shape) is None:
            free = run.books.after.free(node, pool) + _leaving(run, move, pool.spec.resource_name)
            fits = fits or free.covers(option.shape.need)
    return None if fits else f"{move.waiting} would not fit on {move.source_node} any more"


def _leaving(run: Run, move: Move, resource: str) -> Amounts:
    """Return what those give back that go together and are still there."""
    total = Amounts()
    for uid in move.uids:
        one = run.fleet.by_uid.get(uid)
        if one is None or one.node != move.source_node or uid in run.fleet.moving:
            continue
        need = one.shape.need
        same = run.fleet.pool_of[one.pool].spec.resource_name == resource
        total += need if same else replace(need, gpus=0)
    return total


def _failing(run: Run, _: Move, one: Replica) -> str | None:
    pool, node = run.fleet.pool_of[one.pool], run.fleet.nodes[one.node]
    why = failing.unfounded(failing.shown(pool), pool, node, run.now)
    return why and why[1]


def _interference(run: Run, move: Move, one: Replica) -> str | None:
    if move.target_node is not None and run.books.occupied(move.target_node):
        return f"others came to {move.target_node}"
    why = interference.undisturbed(run.fleet, one)
    return why and why[1]


def _accelerator(run: Run, move: Move, one: Replica) -> str | None:
    service = run.fleet.services[one.service]
    option = service.by_pool[move.target_pool]
    if not accelerator.wanted(service, one, option):
        return f"pool {option.pool} is no better for it any more"
    why = accelerator.unsuited(run, service, one, option)
    return why and why[1]


def _balance(run: Run, _: Move, one: Replica) -> str | None:
    service = run.fleet.services[one.service]
    known = run.fleet.by_service[one.service]
    crowd = balance.crowded(run, service, sum(r.uid not in run.fleet.moving for r in known))
    if crowd is None or not balance.in_crowd(run, one, crowd):
        return f"{one.node} has not too many of {one.service} any more"
    return None


_CHECKS: Mapping[MoveReason, Callable[[Run, Move, Replica], str | None]] = {
    MoveReason.NODE_FAILING: _failing,
    MoveReason.DEFRAGMENTATION: _defragmentation,
    MoveReason.INTERFERENCE: _interference,
    MoveReason.ACCELERATOR: _accelerator,
    MoveReason.BALANCE: _balance,
}
