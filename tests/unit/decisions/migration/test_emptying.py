"""A node becomes empty, so that popular replicas fit or an autoscaler takes it away."""

from conch.decisions.migration import Because, MoveReason, propose
from tests.unit.decisions.migration.fleets import world


def test_a_node_is_emptied_for_popular_replicas() -> None:
    here = world(8, 8, popular={8: 0.5, 1: 0.5})
    here.run("a", "n1")
    here.run("b", "n2", gpus=4)
    (move,) = here.plan().moves
    assert (move.reason, move.source_node, move.target_node) == (
        MoveReason.DEFRAGMENTATION,
        "n1",
        "n2",
    )
    # Half of the demand can't use 7 and 4 free GPUs; of 3 and 8 it can't use 3.
    assert move.gained == 0.5 * (7 + 4) - 0.5 * 3
    assert "n1 becomes empty, popular replicas regain 4 GPUs" in move.text
    assert here.settle() == 1


def test_where_nothing_large_is_popular_nothing_moves() -> None:
    here = world(8, 8, popular={1: 1.0})
    here.run("a", "n1")
    here.run("b", "n2", gpus=4)
    assert not here.plan().moves


def test_without_any_knowledge_of_what_is_popular_nothing_moves() -> None:
    here = world(8, 8)
    here.run("a", "n1")
    here.run("b", "n2", gpus=4)
    assert not here.plan().moves


def test_an_elastic_pool_gets_rid_of_a_node() -> None:
    here = world(8, 8, elastic=True)
    here.run("a", "n1")
    here.run("b", "n2", gpus=4)
    (move,) = here.plan().moves
    assert (move.source_node, move.gained) == ("n1", 8)
    assert "n1 becomes empty, its autoscaler may take it away 8 GPUs" in move.text


def test_too_much_to_move_for_what_is_gained_is_refused_with_its_numbers() -> None:
    here = world(8, 8, 8, popular={8: 0.15, 1: 0.85})
    for name in ("a", "b", "c"):
        here.run(name, "n1")
    here.run("d", "n2", gpus=4)
    here.run("e", "n3", gpus=4)
    plan = here.plan()
    assert not plan.moves
    refused = plan.refused[0]
    assert (refused.because, refused.node) == (Because.LITTLE_GAIN, "n1")
    assert "1.2 gained for 3 moved (2.50 for each, at most 2)" in refused.text


def test_a_node_that_others_use_too_stays() -> None:
    here = world(8, 8, elastic=True)
    here.run("a", "n1")
    here.run("b", "n2", gpus=4)
    fleet = here.fleet()
    fleet.ledger.book("n1", fleet.replicas[0].shape.need, "nvidia.com/gpu")
    assert [m.source_node for m in propose(fleet, here.now).moves] == ["n2"]


def test_a_replica_is_not_brought_beside_another_of_its_service_for_it() -> None:
    here = world(8, 8, elastic=True)
    here.run("a", "n1", "n2")
    here.run("b", "n2", gpus=4)
    plan = here.plan()
    assert not plan.moves
    assert any("has no place on another node that is in use" in r.text for r in plan.refused)
