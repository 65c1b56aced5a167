"""Many services wait at once: those for whom nothing can be done are in nobody's way."""

from conch.decisions.shares import Tenant
from conch.decisions.shares.taking import MOST_TRIES
from tests.unit.decisions.shares.fleets import World, pool


def test_services_that_fit_nowhere_keep_no_one_from_its_share() -> None:
    tenants = {"b": Tenant("b", quota={"a100": 1e6})}
    world = World([pool(nodes=(4, 4))], tenants)
    world.want("a/flood", 8)
    world.settle()
    # Each is owed its quota and comes first, and no node is large enough for it.
    for n in range(MOST_TRIES + 6):
        world.want(f"b/huge-{n}", 1, gpus=8)
    world.want("c/small", 1)
    world.settle()
    assert world.held("c/small") == 1
