"""Who lends nothing of its quota finds it free; others are told what is kept from them."""

from dataclasses import replace

from conch.api.conditions import Reason
from conch.decisions.shares import Tenant
from tests.unit.decisions.shares.fleets import World, of, pool, world


def test_who_lends_nothing_finds_its_quota_free() -> None:
    here = world(Tenant("b", quota={"a100": 3}, lending=False))
    here.want("a", 8)
    here.settle()
    assert here.of("a") == 5
    here.want("b", 3)
    here.step()
    assert (here.of("b"), here.moved) == (3, 0)


def test_what_is_kept_for_a_quota_is_said() -> None:
    here = world(Tenant("b", quota={"a100": 3}, lending=False))
    here.want("a", 8)
    here.settle()
    grant = of(here.decide(), "a")
    assert grant.reason is Reason.AWAITING_SHARE
    assert "3 a100" in grant.message
    assert "b" in grant.message


def test_what_is_kept_for_a_quota_is_no_part_of_room_that_is_made() -> None:
    here = world(Tenant("k", quota={"a100": 1}, lending=False), gpus=4)
    here.want("a", 3)
    here.settle()
    here.want("b", 1, gpus=2)
    here.settle()
    assert here.of("a") + 2 * here.of("b") <= 3


def test_a_quota_that_is_kept_is_not_kept_on_nodes_that_take_nothing() -> None:
    there = pool(nodes=[4, 4])
    closed = replace(there.nodes[0], schedulable=False)
    here = World(
        [replace(there, nodes=(closed, there.nodes[1]))],
        {"b": Tenant("b", quota={"a100": 3}, lending=False)},
    )
    here.want("a", 8)
    here.settle()
    assert here.of("a") == 1


def test_a_quota_is_taken_from_a_borrower_although_what_is_kept_for_another_is_free() -> None:
    here = world(Tenant("k", quota={"a100": 1}, lending=False), Tenant("b", quota={"a100": 4}))
    here.want("a", 4, load_seconds=600.0)
    here.step()
    here.want("b", 4)
    here.step(seconds=1.0)
    assert (here.of("a"), here.of("b")) == (3, 4)


def test_so_is_a_share() -> None:
    here = world(Tenant("k", quota={"a100": 1}, lending=False))
    here.want("a", 7)
    here.settle()
    here.want("b", 8)
    here.settle()
    assert (here.of("a"), here.of("b")) == (4, 3)
