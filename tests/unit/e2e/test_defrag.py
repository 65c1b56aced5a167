"""The benchmark of migrations: its fleet, its baselines, and its goals."""

from collections.abc import Iterable
from typing import Any

import pytest

from conch.decisions.fleet import Amounts, ServiceKey, Shape
from conch.decisions.migration import Replica
from conch.decisions.placement import Ledger
from e2e.bench import defrag
from e2e.bench.defrag_fleet import GPU, POOL, Fleet, Work, by_node
from e2e.bench.defrag_policies import Balanced, Conch, Karpenter
from e2e.bench.defrag_runs import Outcome
from tests.unit.decisions.stories import node, pool

LONG_AGO = -1e6


def shape(gpus: int) -> Shape:
    return Shape(Amounts(gpus, 1.0, 1.0, 1), ())


def fleet(*on: tuple[str, int], waiting: Iterable[int] = ()) -> Fleet:
    """Return three nodes of eight GPUs with replicas on them."""
    there = pool(POOL, *(node(f"n{n}", gpus=8) for n in range(3)))
    here = Fleet(there, Ledger())
    for index, (name, gpus) in enumerate(on):
        uid = f"r{index}"
        here.running[uid] = Replica(
            ServiceKey("openb", uid), uid, uid, POOL, name, shape(gpus), 42.0, LONG_AGO
        )
        here.ends[uid] = 1e9
        here.ledger.book(name, shape(gpus).need, GPU)
    here.waiting = [Work(f"w{n}", shape(g), 0.0, 100.0) for n, g in enumerate(waiting)]
    return here


def nodes_of(here: Fleet) -> dict[str, str]:
    return {uid: one.node for uid, one in here.running.items()}


def free(here: Fleet) -> list[int]:
    return [here.ledger.free(n, here.pool).gpus for n in here.pool.nodes]


def test_karpenter_empties_the_node_with_the_fewest_pods_and_counts_what_is_down() -> None:
    here, policy = fleet(("n0", 1), ("n0", 1), ("n1", 2), ("n2", 8)), Karpenter()
    policy.act(here, 0.0)
    assert nodes_of(here) == {"r0": "n0", "r1": "n0", "r2": "n0", "r3": "n2"}
    assert free(here) == [4, 8, 0]
    assert (policy.moves, policy.moved, policy.down) == (1, 2, 42.0)


def test_karpenter_brings_nothing_to_nodes_that_are_empty() -> None:
    here, policy = fleet(("n0", 1), ("n2", 8)), Karpenter()
    policy.act(here, 0.0)
    assert policy.moves == 0
    assert free(here) == [7, 8, 0]


def test_balanced_leaves_nodes_that_save_too_little_alone() -> None:
    here = fleet(*[("n0", 1)] * 6, ("n1", 1), *[("n2", 1)] * 6)
    assert Balanced().ordered(here, by_node(list(here.running.values()))) == ["n1", "n0", "n2"]
    few = fleet(("n1", 1), *[("n2", 1)] * 8)
    assert Balanced().ordered(few, by_node(list(few.running.values()))) == ["n1"]


def test_conch_makes_room_for_what_waits_and_nothing_is_down() -> None:
    here, policy = fleet(("n0", 1), ("n1", 4), ("n2", 8), waiting=[8]), Conch()
    policy.act(here, 0.0)
    # Both places are held until the new replica answers.
    assert free(here) == [7, 3, 0]
    assert policy.keep(here)
    policy.finish(here, 120.0)
    assert here.admit(120.0) == 8
    assert free(here) == [0, 3, 0]
    assert (policy.moves, policy.moved, policy.down) == (1, 1, 0.0)


def test_what_waits_for_too_long_is_turned_away() -> None:
    here = fleet(waiting=[8])
    here.leave(7199.0)
    assert here.waiting
    here.leave(7201.0)
    assert (here.waiting, here.turned_away) == ([], 8)


def test_room_that_is_kept_comes_back() -> None:
    here = fleet(("n0", 3))
    kept = here.hold([("n0", shape(8).need)])
    assert free(here) == [0, 8, 8]
    here.give_back(kept)
    assert free(here) == [5, 8, 8]


def outcome(recovered: int, moved: int, taken: int) -> Outcome:
    return Outcome(
        recovered, moves=moved, moved=moved, taken=[taken], waiting=[0], fragmented=[0.0]
    )


@pytest.mark.parametrize(
    ("facts", "goals"),
    [
        ({}, 0),
        ({"conch": outcome(10, 30, 60)}, 1),
        ({"conch": outcome(0, 5, 40)}, 3),
    ],
)
def test_goals(facts: dict[str, Any], goals: int) -> None:
    found = {
        "none": outcome(0, 0, 50),
        "karpenter": outcome(0, 40, 50),
        "karpenter-balanced": outcome(4, 40, 51),
        "conch": outcome(10, 8, 60),
        **facts,
    }
    rows = {name: defrag.row(name, [one]) for name, one in found.items()}
    assert defrag.baseline(rows).policy == "karpenter-balanced"
    assert len(defrag.unmet_goals(rows)) == goals
    assert rows["karpenter"].moved_per_gained is None
    assert rows["none"].moved_per_gained == 0
