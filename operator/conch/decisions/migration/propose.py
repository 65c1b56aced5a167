"""What to move now, and why not more: one pure decision for the whole fleet."""

from conch.decisions.migration import (
    accelerator,
    balance,
    emptying,
    failing,
    interference,
    making_room,
)
from conch.decisions.migration.plan import Plan
from conch.decisions.migration.run import Run
from conch.decisions.migration.view import MovableFleet


def propose(fleet: MovableFleet, now: float) -> Plan:
    """Return the moves that may start at ``now`` (seconds since the epoch), and what is refused.

    In the order of what is gained: replicas whose node fails, a place for what waits, an objective, a
    better accelerator, a service that outlives a node, an empty node. Each finds the books as the ones
    before leave them.

    Where inputs stand still this comes to an end. Each kind of move lowers one of these and raises
    none of those before it, so that there is no way round: what waits, the rank of pools in the order
    of their users, the sum of squares of a service's replicas on a node or zone, nodes in use and
    fragmentation. The two that follow metrics remember instead: a pool that was too slow, and a
    replica that was disturbed, which goes beside others no more. Nobody is moved to a node that shows
    signs of failing, or was left for it, so that these come first and end too.
    """
    run = Run(fleet, now)
    failing.leave(run)
    making_room.make_room(run)
    interference.calm(run)
    accelerator.change(run)
    balance.spread(run)
    emptying.empty_nodes(run)
    return run.plan
