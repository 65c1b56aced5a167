"""NodeFailing: an agent says that something is wrong with a node, while what runs there still answers."""

from collections import Counter
from collections.abc import Mapping, Sequence

from conch.api.migration import MoveReason
from conch.decisions.fleet import Node, Pool, Sign
from conch.decisions.migration.books import Step
from conch.decisions.migration.plan import Because
from conch.decisions.migration.run import Proposal, Run, total
from conch.decisions.migration.view import Option, Replica

LASTED_S = 60.0
"""For so long a sign has to be there before it moves anybody: agents look every few seconds to minutes,
and take back what was only a moment's."""
BELIEVED = 1 / 3
"""Share of a pool's nodes that may show the same sign, one always: where more do, an agent, a driver or
a network that they have in common is more probably to blame, and the others are no better."""
DUE = "what is gained is the replica itself"
"""A move off such a node needs not be worth it by GPUs: what is compared with its disturbance is a stop
without another that answers, which no share of a pool's GPUs measures. Budgets bound how many move."""
Found = tuple[Because, str]


def leave(run: Run) -> None:
    """Propose to move replicas off nodes that show signs of failing, to such as show none.

    They wait for no rest. Of those with the fewest others of their service on sound nodes first.
    """
    for pool in sorted(run.fleet.pools, key=lambda p: p.name):
        ill = [n for n in pool.nodes if n.signs]
        if ill:
            _leave(run, pool, ill)


def _leave(run: Run, pool: Pool, ill: Sequence[Node]) -> None:
    count, told, full = shown(pool), set[object](), set[object]()
    nodes = {n.name: n for n in ill}
    there = [r for n in nodes for r in run.fleet.by_node.get(n, ()) if r.pool == pool.name]
    for one in sorted(there, key=lambda r: _turn(run, r)):
        if one.uid in run.fleet.moving:
            continue
        doubt = unfounded(count, pool, nodes[one.node], run.now)
        why = doubt or run.bound(one) or run.limits.not_now(one) or _try(run, one, full)
        # What holds for all of a pool, node or service is said once.
        said = why and (why[1], None if doubt else one.service)
        if why is not None and said not in told:
            told.add(said)
            run.refuse(MoveReason.NODE_FAILING, one, *why)


def _turn(run: Run, one: Replica) -> tuple[object, ...]:
    mates = run.fleet.by_service[one.service]
    sound = sum(not _is_ill(run, r.node) for r in mates)
    return sound, run.scales.disruption(one), one.service, one.pod, one.uid


def _is_ill(run: Run, name: str) -> bool:
    node = run.fleet.nodes.get(name)
    return node is None or bool(node.signs)


def _try(run: Run, one: Replica, full: set[object]) -> Found | None:
    """Propose to move one replica; return that it has no place, or None. ``full``: who had none."""
    service, node = run.fleet.services[one.service], run.fleet.nodes[one.node]
    mine = service.by_pool.get(one.pool) or Option(one.pool, one.shape)
    options = (mine, *(o for o in service.options if o.pool != one.pool))
    kind = tuple((o.pool, o.shape.need, o.shape.suits) for o in options), one.disturbed
    step = None if kind in full else _place(run, one, options)
    if step is None:
        full.add(kind)
        return (
            Because.NO_PLACE,
            f"{node.failing}, but no other node has room for it that shows none",
        )
    ages = [run.now - s.since for s in node.signs if s.since is not None]
    promise = (
        f"{node.name} shows signs of failing for {max(ages, default=0.0):.0f} s: {node.failing}"
    )
    worth = run.scales.worth(total([step]), run.scales.units(one), one.pool)
    run.judge(Proposal(MoveReason.NODE_FAILING, (step,), worth, promise, due=DUE))
    return None


def _place(run: Run, one: Replica, options: Sequence[Option]) -> Step | None:
    """Book a place in its own pool, else where it would start anew were the node gone."""
    for option in options:
        pool = run.fleet.pool_of.get(option.pool)
        if pool is None:
            continue
        step = run.place(one, option, lambda _: True)
        if step is None and pool.spec.elastic:
            step = Step(one, option, None)
            run.books.start(step)
        if step is not None:
            return step
    return None


def shown(pool: Pool) -> Mapping[str, int]:
    """Return how many of a pool's nodes show each sign."""
    return Counter(s.kind for n in pool.nodes for s in n.signs)


def unfounded(count: Mapping[str, int], pool: Pool, node: Node, now: float) -> Found | None:
    """Return why a node's signs are no reason to leave it at ``now`` (s since the epoch), or None.

    One that counts is enough. ``count``: how many of the pool's nodes show each.
    """
    doubts = [_doubt(count, pool, node, sign, now) for sign in node.signs]
    if not doubts:
        return Because.LITTLE_GAIN, f"{node.name} shows no sign of failing any more"
    return None if None in doubts else doubts[0]


def _doubt(
    count: Mapping[str, int], pool: Pool, node: Node, sign: Sign, now: float
) -> Found | None:
    most = max(1, int(BELIEVED * len(pool.nodes)))
    if count[sign.kind] > most:
        text = (
            f"{count[sign.kind]} of {len(pool.nodes)} nodes of pool {pool.name} show {sign.kind}, "
            f"more than {most}: the sign is more probably wrong than the nodes"
        )
        return Because.DOUBTFUL, text
    if sign.since is None:
        return Because.NO_DATA, f"{node.name} shows {sign.kind}, and it is not known since when"
    lasted = now - sign.since
    if lasted >= LASTED_S:
        return None
    text = f"{node.name} has shown {sign.kind} for {lasted:.0f} s, of {LASTED_S:.0f} s at least"
    return Because.DOUBTFUL, text
