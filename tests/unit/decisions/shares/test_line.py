"""Who is next when a GPU falls free, where pools differ in speed."""

from conch.decisions.shares import Tenant
from tests.unit.decisions.shares.fleets import World, of, pool


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


def test_what_was_begun_in_a_pool_stays_there_when_a_better_one_has_room() -> None:
    world = World([pool("fast", (1,)), pool("slow", (2,))], {})
    world.want("a", 1, begun={"slow": 1})
    assert of(world.decide(), "a").replicas == {"slow": 1}
    world.want("a", 2, begun={"slow": 1})
    assert of(world.decide(), "a").replicas == {"slow": 1, "fast": 1}


def test_what_was_begun_where_no_room_is_left_begins_elsewhere() -> None:
    world = World([pool("fast", (1,)), pool("slow", (1,))], {})
    world.want("b", 1, pools=["slow"])
    world.settle()
    world.want("a", 1, begun={"slow": 1})
    assert of(world.decide(), "a").replicas == {"fast": 1}
