"""Nodes that show signs of failing are left, and nobody is moved to one."""

from dataclasses import replace
from typing import Any

import pytest

from conch.decisions.fleet import ServiceKey
from conch.decisions.migration import Because, Move, MoveReason, OpenMove, Plan, Refusal
from tests.unit.decisions.migration.fleets import LOAD_S, World, nodes, world
from tests.unit.decisions.stories import pool


def moves(plan: Plan) -> list[tuple[str, str | None]]:
    """Return who moves where as its node seems to fail; nothing moves for another reason."""
    assert {m.reason for m in plan.moves} <= {MoveReason.NODE_FAILING}
    return [(m.pod, m.target_node) for m in plan.moves]


def refused(plan: Plan) -> list[Refusal]:
    return [r for r in plan.refused if r.reason is MoveReason.NODE_FAILING]


def ill(*gpus: int, **spec: Any) -> World:
    """Return a fleet of such nodes with a replica on the first, which seems to fail."""
    here = world(*gpus, **spec)
    here.run("s", "n1")
    here.fail("n1")
    return here


def test_a_replica_leaves_such_a_node() -> None:
    here = ill(4, 4)
    (move,) = here.plan().moves
    assert (move.reason, move.pod, move.target_node) == (MoveReason.NODE_FAILING, "s-0", "n2")
    assert "n1 shows signs of failing for 120 s: KernelDeadlock (TaskHung)" in move.text
    assert "what is gained is the replica itself" in move.text
    assert here.settle() == 1
    assert [r.node for r in here.replicas.values()] == ["n2"]


def test_it_waits_for_no_rest_and_needs_not_be_worth_it() -> None:
    here = ill(8, 8)
    here.run("other", "n2", load_seconds=1.0)
    here.change("u-s-0", since=here.now - 1, load_seconds=100 * LOAD_S)
    assert moves(here.plan()) == [("s-0", "n2")]


@pytest.mark.parametrize(
    ("ago", "because", "words"),
    [
        (59.0, Because.DOUBTFUL, "n1 has shown KernelDeadlock for 59 s, of 60 s at least"),
        (None, Because.NO_DATA, "it is not known since when"),
    ],
)
def test_a_sign_has_to_last(ago: float | None, because: Because, words: str) -> None:
    here = ill(4, 4)
    here.fail("n1", ago=ago)
    plan = here.plan()
    assert not plan.moves
    (why,) = refused(plan)
    assert why.because is because
    assert words in why.text


def test_of_several_signs_one_that_lasted_is_enough() -> None:
    here = ill(4, 4)
    old = here.pools[0].nodes[0].signs
    here.fail("n1", kind="XIDErrors", ago=5)
    (one, *rest) = here.pools[0].nodes
    both = replace(one, signs=(*one.signs, *old))
    here.pools = [replace(here.pools[0], nodes=(both, *rest))]
    assert moves(here.plan()) == [("s-0", "n2")]


@pytest.mark.parametrize(
    ("count", "ill_ones", "moved"),
    [(1, 1, 0), (2, 1, 1), (2, 2, 0), (5, 2, 0), (6, 2, 1), (6, 3, 0)],
)
def test_where_too_many_show_the_same_the_sign_is_doubted(
    count: int, ill_ones: int, moved: int
) -> None:
    here = world(*[4] * count)
    names = [f"n{n + 1}" for n in range(ill_ones)]
    for name in names:
        here.run(f"s-{name}", name)
    here.fail(*names)
    plan = here.plan()
    assert len(plan.moves) == moved
    if not moved and count > 1:
        (why,) = refused(plan)
        assert why.because is Because.DOUBTFUL
        assert f"{ill_ones} of {count} nodes of pool a show KernelDeadlock" in why.text
        assert "the sign is more probably wrong than the nodes" in why.text


def test_another_sign_of_a_node_counts_where_one_is_doubted() -> None:
    here = world(4, 4, 4)
    here.run("s", "n1")
    here.fail("n1", "n2")
    assert not here.plan().moves
    (one, *rest) = here.pools[0].nodes
    more = replace(one.signs[0], kind="XIDErrors", text="XIDErrors")
    here.pools = [replace(here.pools[0], nodes=(replace(one, signs=(*one.signs, more)), *rest))]
    assert moves(here.plan()) == [("s-0", "n3")]


def test_where_there_is_no_other_place_it_stays() -> None:
    here = ill(4, 4)
    here.run("full", "n2", gpus=4)
    plan = here.plan()
    assert not plan.moves
    (why,) = refused(plan)
    assert why.because is Because.NO_PLACE
    assert "no other node has room for it that shows none" in why.text


def test_nor_does_it_go_where_another_was_left_a_while_ago() -> None:
    here = ill(4, 4)
    here.left.add("n2")
    assert not here.plan().moves


def test_a_sign_that_comes_and_goes_moves_nobody_back_and_forth() -> None:
    here = world(4, 4)
    here.run("s", "n1")
    for turn in range(6):
        here.fail(f"n{turn % 2 + 1}")
        for move in here.plan().moves:
            here.begin(move)
        here.pass_by(20 * LOAD_S)
    assert [m.target_node for _, m, _ in here.history] == ["n2"]


def test_another_pool_will_do_the_preferred_first() -> None:
    here = World([pool("a", *nodes("a", 4)), pool("b", *nodes("b", 4)), pool("c", *nodes("c", 4))])
    here.run("s", "a1")
    here.fail("a1")
    assert moves(here.plan()) == [("s-0", "b1")]


def test_an_elastic_pool_brings_a_node() -> None:
    here = ill(4, elastic=True)
    (move,) = here.plan().moves
    assert (move.target_pool, move.target_node) == ("a", None)


def test_it_comes_before_all_other_reasons() -> None:
    here = world(4, 4, 4)
    here.run("s", "n1")
    here.run("small", "n2", gpus=1)
    here.run("filler", "n3", gpus=3)
    here.fail("n1")
    here.wait("big", gpus=4)
    (first, *_) = here.plan().moves
    assert (first.reason, first.pod, first.target_node) == (MoveReason.NODE_FAILING, "s-0", "n3")


def test_budgets_hold_and_who_loses_most_goes_first() -> None:
    here = world(8, 8, 8)
    here.run("twice", "n1", "n2")
    here.run("once", "n1")
    here.fail("n1")
    plan = here.plan()
    assert moves(plan) == [("once-2", "n2")]
    assert [(r.pod, r.because) for r in refused(plan)] == [("twice-0", Because.BUDGET)]


def test_one_move_of_a_service_at_a_time() -> None:
    here = world(*[8] * 6)
    here.run("s", "n1", "n1", "n2", "n2", "n3", "n3")
    here.run("more", *["n4"] * 6, *["n5"] * 8)
    here.fail("n1")
    plan = here.plan()
    assert len(plan.moves) == 1
    assert [r.because for r in refused(plan)] == [Because.HELD]


@pytest.mark.parametrize(
    "change", [{"ready": False}, {"held": "it is paused"}, {"moving": True}, {"cordoned": True}]
)
def test_who_may_not_move_stays(change: dict[str, Any]) -> None:
    here = ill(4, 4)
    key = ServiceKey("t", "s")
    if "ready" in change:
        here.change("u-s-0", ready=False)
    if "held" in change:
        here.services[key] = replace(here.services[key], held=change["held"])
    if "moving" in change:
        here.open["u-s-0"] = OpenMove("u-s-0", asked=True)
    if "cordoned" in change:
        (one, *rest) = here.pools[0].nodes
        here.pools = [replace(here.pools[0], nodes=(replace(one, schedulable=False), *rest))]
    plan = here.plan()
    assert not plan.moves
    assert {r.because for r in refused(plan)} <= {Because.HELD}


class TestNobodyIsMovedToOne:
    """For none of the planner's reasons."""

    def test_to_make_room(self) -> None:
        here = world(8, 8)
        here.run("small", "n1", "n1")
        here.run("mid", "n2", gpus=4)
        here.wait("big", gpus=8)
        assert here.plan().moves
        here.fail("n2", ago=1)
        assert not here.plan().moves

    def test_nor_is_room_made_on_one(self) -> None:
        here = world(8, 8)
        here.run("small", "n1", "n1")
        here.run("mid", "n2", gpus=4)
        here.wait("big", gpus=8)
        here.fail("n1", ago=1)
        assert not here.plan().moves

    def test_for_balance_or_an_empty_node(self) -> None:
        here = world(4, 4)
        here.run("s", "n1", "n1")
        here.fail("n2", ago=1)
        assert not here.plan().moves
        here = world(8, 8, popular={8: 1.0})
        here.run("a", "n1")
        here.run("b", "n2", gpus=4)
        assert here.plan().moves
        here.fail("n1", "n2", ago=1)
        assert not here.plan().moves

    def test_for_quiet_or_another_accelerator(self) -> None:
        here = world(4, 4, 4)
        here.run("s", "n1", late=1.4)
        here.run("s", "n2", late=0.5)
        here.run("noisy", "n1", busy=0.9)
        assert here.plan().moves
        here.fail("n3", ago=1)
        assert not here.plan().moves


def test_a_large_pool_is_looked_through_in_no_time() -> None:
    here = world(*[8] * 300)
    here.run("s", *[f"n{n + 1}" for n in range(300) for _ in range(2)])
    here.fail(*[f"n{n + 1}" for n in range(100)])
    plan = here.plan()
    assert len(plan.moves) == 1
    assert all(isinstance(m, Move) for m in plan.moves)
