"""Other accelerators, neighbours that disturb, and services that are crowded."""

from typing import Any

import pytest

from conch.decisions.fleet import ServiceKey
from conch.decisions.migration import Because, MoveReason, Option
from tests.unit.decisions.migration.fleets import LOAD_S, NOW, World, nodes, shape, world
from tests.unit.decisions.stories import pool

LONG_AGO = NOW - 100 * LOAD_S


def two_pools(**fields: Any) -> World:
    """Return pool "fast" at 4 an hour, and "cheap" of half its speed at 1; the service is in fast."""
    budget = {"disruptionBudget": "100%"}
    here = World(
        [pool("fast", *nodes("f", 4, 4), **budget), pool("cheap", *nodes("c", 4, 4), **budget)]
    )
    options = (
        Option("fast", shape(), speed=1.0, price=4.0),
        Option("cheap", shape(), rank=fields.pop("rank", 0), speed=0.5, price=1.0),
    )
    where = fields.pop("where", "f1")
    here.service("s", options=options, **{"steady_since": LONG_AGO, **fields})
    here.run("s", where)
    return here


def test_a_cheaper_accelerator_that_is_enough() -> None:
    (move,) = two_pools(late=0.3, busy=0.3).plan().moves
    assert (move.reason, move.target_pool) == (MoveReason.ACCELERATOR, "cheap")
    assert "pool cheap costs 75% less and is enough" in move.text


@pytest.mark.parametrize(
    ("facts", "because"),
    [
        ({}, Because.NO_DATA),
        ({"late": 0.3}, Because.NO_DATA),
        ({"late": 0.3, "busy": 0.3, "steady_since": None}, Because.NO_DATA),
        ({"late": 0.3, "busy": 0.3, "steady_since": NOW - 1}, Because.LITTLE_GAIN),
        ({"late": 0.4, "busy": 0.3}, Because.LITTLE_GAIN),
        ({"late": 0.3, "busy": 0.4}, Because.LITTLE_GAIN),
        ({"late": 0.3, "busy": 0.3, "too_slow": {"cheap": NOW - 3600}}, Because.LITTLE_GAIN),
    ],
)
def test_a_cheaper_accelerator_that_may_not_be_enough(
    facts: dict[str, Any], because: Because
) -> None:
    plan = two_pools(**facts).plan()
    assert not plan.moves
    assert [r.because for r in plan.refused] == [because]


def test_what_the_user_prefers_is_not_left_for_what_is_cheaper() -> None:
    plan = two_pools(late=0.1, busy=0.1, rank=1).plan()
    assert not plan.moves
    assert not plan.refused


def test_a_faster_accelerator_for_an_objective_that_is_missed() -> None:
    (move,) = two_pools(late=1.5, busy=0.9, where="c1").plan().moves
    assert move.target_pool == "fast"
    assert "at 1.50 of its objective; pool fast promises 0.75" in move.text
    assert not two_pools(late=2.5, busy=0.9, where="c1").plan().moves


def test_a_preferred_pool_with_room_for_all_its_rest_needs_no_metrics() -> None:
    here = two_pools(where="c1", rank=1)
    here.run("s", "c2")
    (move,) = here.plan().moves
    assert move.target_pool == "fast"
    assert "the user prefers pool fast to cheap" in move.text
    here.run("other", "f1", "f1", "f1", "f1", "f2", "f2", "f2")
    plan = here.plan()
    assert not [m for m in plan.moves if m.service == ServiceKey("t", "s")]
    assert "pool fast has no room for all that would move" in plan.refused[-1].text


def test_nothing_goes_where_others_wait_for_room() -> None:
    here = two_pools(where="c1", rank=1)
    here.wait("big", gpus=5)
    plan = here.plan()
    assert not plan.moves
    assert Because.WAITING_FIRST in [r.because for r in plan.refused]


def disturbed() -> World:
    """Return a service that is late beside a busy neighbour and in time elsewhere."""
    here = world(4, 4, 4)
    here.run("s", "n1", late=1.4)
    here.run("s", "n2", late=0.5)
    here.run("noisy", "n1", busy=0.9)
    return here


def test_a_replica_leaves_busy_neighbours_for_a_node_of_its_own() -> None:
    (move,) = disturbed().plan().moves
    assert (move.reason, move.pod, move.target_node) == (MoveReason.INTERFERENCE, "s-0", "n3")
    assert "it is at 1.40 of its objective beside noisy-2 (90% busy)" in move.text


def test_nobody_knows_whom_an_autoscaler_puts_beside_it() -> None:
    here = disturbed()
    here.pools = world(8, 8, 8, elastic=True).pools
    plan = here.plan()
    assert not [m for m in plan.moves if m.reason is MoveReason.INTERFERENCE]
    assert "elastic" in plan.refused[0].text


def test_once_moved_it_is_left_alone() -> None:
    here = disturbed()
    here.popular = {4: 1.0}
    here.settle()
    assert [m.pod for _, m, _ in here.history].count("s-0") == 1
    assert {r.node for r in here.replicas.values() if r.disturbed} == {"n3"}
    assert [r.node for r in here.replicas.values()].count("n3") == 1


@pytest.mark.parametrize(
    ("uid", "facts", "because"),
    [
        ("u-s-0", {"late": None}, None),
        ("u-s-0", {"late": 0.9}, None),
        ("u-s-1", {"late": None}, Because.NO_DATA),
        ("u-s-1", {"late": 1.2}, Because.LITTLE_GAIN),
        ("u-noisy-2", {"busy": None}, Because.NO_DATA),
        ("u-noisy-2", {"busy": 0.2}, Because.LITTLE_GAIN),
        ("u-noisy-2", {"node": "n3"}, Because.LITTLE_GAIN),
    ],
)
def test_neighbours_are_not_to_blame(
    uid: str, facts: dict[str, Any], because: Because | None
) -> None:
    here = disturbed()
    here.change(uid, **facts)
    plan = here.plan()
    assert not [m for m in plan.moves if m.reason is MoveReason.INTERFERENCE]
    found = [r.because for r in plan.refused if r.pod == "s-0"]
    assert found == ([because] if because else [])


def test_a_service_that_one_node_could_take_down_is_spread() -> None:
    here = world(4, 4)
    here.run("s", "n1", "n1")
    (move,) = here.plan().moves
    assert (move.reason, move.target_node) == (MoveReason.BALANCE, "n2")
    assert "2 of 2 replicas of t/s are on node n1, one fewer then" in move.text
    assert here.settle() == 1


def test_not_where_it_would_cost_more_than_it_is_worth() -> None:
    here = world(8, 8, popular={8: 1.0})
    here.run("s", "n1", "n1")
    plan = here.plan()
    assert not plan.moves
    assert plan.refused[0].because is Because.LITTLE_GAIN
    assert "(8.00 GPUs more are fragmented)" in plan.refused[0].text


def test_replicas_that_stand_by_go_to_another_zone() -> None:
    here = world(4, 4, 4, zones=("east", "east", "west"))
    here.service("s", standby=1)
    here.run("s", "n1", "n2")
    (move,) = here.plan().moves
    assert (move.pod, move.target_node) == ("s-0", "n3")
    assert "2 of 2 replicas of t/s are on zone east" in move.text
    assert here.settle() == 1


def test_there_is_no_other_node_with_fewer_of_it() -> None:
    here = world(4)
    here.run("s", "n1", "n1")
    plan = here.plan()
    assert not plan.moves
    assert [r.because for r in plan.refused] == [Because.NO_PLACE]
