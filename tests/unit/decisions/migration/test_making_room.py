"""Small replicas leave a node so that one that waits fits there."""

from dataclasses import replace

from conch.decisions.fleet import ServiceKey
from conch.decisions.migration import Because, MoveReason, OpenMove, Option, Waiting
from tests.unit.decisions.migration.fleets import LOAD_S, NOW, nodes, shape, world
from tests.unit.decisions.stories import pool


def test_one_small_replica_moves_so_that_a_large_one_fits() -> None:
    here = world(8, 8)
    here.run("small", "n1")
    here.run("mid", "n2", gpus=4)
    here.wait("big", gpus=8)
    plan = here.plan()
    (move,) = plan.moves
    assert (move.reason, move.source_node, move.target_node) == (
        MoveReason.DEFRAGMENTATION,
        "n1",
        "n2",
    )
    assert (move.gained, move.moved, move.waiting) == (8, 1, ServiceKey("t", "big"))
    assert "t/big (8 GPUs) waits and fits on n1 then; 8 gained for 1 moved" in move.text
    assert [(r.node, r.need.gpus) for r in plan.reserved] == [("n1", 8)]


def test_once_it_is_through_the_large_one_has_its_place_and_nothing_moves() -> None:
    here = world(8, 8)
    here.run("small", "n1")
    here.run("mid", "n2", gpus=4)
    here.wait("big", gpus=8)
    assert here.settle() == 1
    assert not here.waiting
    assert not here.plan().moves


def test_two_of_one_service_go_one_after_the_other() -> None:
    here = world(8, 8)
    here.run("small", "n1", "n1")
    here.run("mid", "n2", gpus=4)
    here.wait("big", gpus=8)
    plan = here.plan()
    assert [m.pod for m in plan.moves] == ["small-0"]
    assert [m.pod for m in plan.later] == ["small-1"]
    assert plan.moves[0].uids == ("u-small-0", "u-small-1")
    assert "not yet: another replica of its service moves" in plan.later[0].text
    assert here.settle() == 2
    assert not here.waiting


def test_what_comes_free_by_a_move_under_way_is_not_made_free_twice() -> None:
    here = world(8, 8, 8)
    here.run("small", "n1")
    here.run("other", "n2")
    here.run("mid", "n3", gpus=4)
    here.wait("big", gpus=8)
    here.begin(here.plan().moves[0])
    assert not here.plan().moves
    here.waiting.clear()
    here.wait("big", gpus=8, count=2)
    assert here.plan().refused[-1].because is Because.BUDGET
    here.open = {uid: replace(m, asked=True) for uid, m in here.open.items()}
    assert [m.source_node for m in here.plan().moves] == ["n2"]


def test_more_than_twice_the_gpus_that_are_gained_never_move() -> None:
    here = world(8, 8)
    # Of the CPUs a node has 64: what one GPU waits for is held by a replica with three.
    here.run("wide", "n1", gpus=3, shape=shape(3, cpu=40.0))
    here.run("other", "n2", shape=shape(1, cpu=24.0))
    here.service("one", options=(Option("a", shape(1, cpu=45.0)),))
    here.waiting.append(
        Waiting(ServiceKey("t", "one"), here.services[ServiceKey("t", "one")].options)
    )
    assert [m.pod for m in here.plan().moves] == ["other-1"]
    here.change("u-other-1", since=here.now)
    (refused,) = here.plan().refused
    assert refused.because is Because.NO_PLACE


def test_a_replica_rests_after_it_was_made() -> None:
    here = world(8, 8)
    here.run("small", "n1", since=NOW - 9 * LOAD_S)
    here.run("mid", "n2", gpus=4, since=NOW - 9 * LOAD_S)
    here.wait("big", gpus=8)
    assert not here.plan().moves
    here.now += LOAD_S
    assert here.plan().moves


def test_what_can_go_nowhere_else_stays_and_the_refusal_says_so() -> None:
    here = world(8, 8)
    here.run("small", "n1")
    here.run("full", "n2", gpus=8)
    here.wait("big", gpus=8)
    plan = here.plan()
    assert not plan.moves
    assert plan.refused[0].because is Because.NO_PLACE
    assert "t/big: none of 2 nodes can be made to take it" in plan.refused[0].text


def test_services_that_are_held_are_left_alone() -> None:
    here = world(8, 8)
    here.service("small", held="it is being updated")
    here.run("small", "n1")
    here.service("mid", gpus=4, held="it is paused")
    here.run("mid", "n2", gpus=4)
    here.wait("big", gpus=8)
    assert not here.plan().moves


def test_the_budget_of_a_pool_holds_and_moves_by_people_do_not_count() -> None:
    here = world(8, 8, 8, 8)
    here.run("one", "n1")
    here.run("two", "n2")
    here.run("mid", "n3", gpus=4)
    here.wait("big", gpus=8, count=3)
    here.run("gone", "n4")
    here.open["u-gone-3"] = OpenMove("u-gone-3")
    assert not here.plan().moves
    assert {r.because for r in here.plan().refused} >= {Because.BUDGET}
    here.open["u-gone-3"] = OpenMove("u-gone-3", asked=True)
    assert here.plan().moves


def test_an_autoscaler_brings_nodes_for_what_waits() -> None:
    here = world(8, 8, elastic=True)
    here.run("small", "n1")
    here.run("mid", "n2", gpus=4)
    here.wait("big", gpus=8)
    assert not [m for m in here.plan().moves if m.waiting]


def test_another_pool_that_is_no_slower_will_do() -> None:
    here = world(8)
    here.pools = [*here.pools, pool("b", *nodes("m", 2), relativeSpeed=2.0)]
    here.run("small", "n1")
    here.wait("big", gpus=8)
    (move,) = here.plan().moves
    assert (move.target_pool, move.target_node) == ("b", "m1")
