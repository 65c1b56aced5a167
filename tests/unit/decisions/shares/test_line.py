"""Who is next when a GPU falls free, where pools differ in speed."""

from conch.decisions.shares import Tenant
from tests.unit.decisions.shares.fleets import World, pool


def test_the_share_that_counts_is_with_the_replica_that_there_is_room_for() -> None:
    # Both would rather have the fast pool, which is full; the slow one has one GPU left.
    fast, slow = pool("fast", (4,), relativeSpeed=2), pool("slow", (4,), relativeSpeed=1)
    world = World([fast, slow], {"a": Tenant("a", weight=9.1), "poor": Tenant("poor", weight=1)})
    world.want("a/flood", 7)
    world.settle()
    world.want("a/flood", 8)
    world.want("poor/small", 1)
    # With it, a is at (11 + 1) / 10.8 = 1.11, poor at 1 / 1.19 = 0.84; in the fast pool at 1.68.
    found = world.step()
    assert found.grants[world.claims["poor/small"].key].replicas == {"slow": 1}
    world.settle()
    assert (world.held("a/flood"), world.held("poor/small")) == (7, 1)
