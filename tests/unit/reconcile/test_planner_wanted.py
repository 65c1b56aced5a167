"""The ModelMigrations that the planner asks for, and the nodes that it remembers by them."""

from typing import Any

import pytest

from conch.decisions.fleet import ServiceKey
from conch.decisions.migration import Move, MoveReason
from conch.reconcile.planner import nodes_left, wanted
from tests.unit.reconcile import bodies


def move(pool: str, node: str | None) -> Move:
    return Move(
        reason=MoveReason.NODE_FAILING,
        service=ServiceKey("vision", "digits"),
        pod="p1",
        uid="uid-p1",
        source_pool="a100",
        source_node="n1",
        target_pool=pool,
        target_node=node,
        gained=1.0,
        moved=1.0,
        text="because",
    )


@pytest.mark.parametrize(
    ("elastic", "pool", "node", "to"),
    [
        (False, "a100", "n2", {"node": "n2"}),
        (True, "a100", "n2", {}),
        (True, "a100", None, {}),
        (False, "t4", None, {"pool": "t4"}),
    ],
)
def test_an_elastic_pool_chooses_the_node_itself(
    elastic: bool, pool: str, node: str | None, to: dict[str, Any]
) -> None:
    pools = [bodies.gpu_pool(elastic=elastic), bodies.gpu_pool("t4", nodeSelector={"gpu": "t4"})]
    there = bodies.store(GPUPool=pools, ModelService=bodies.model_service())
    (facts,) = bodies.gathered(there).services
    found = wanted(facts, move(pool, node)).to_object()
    assert found["spec"]["to"] == to
    assert found["spec"]["reason"] == "NodeFailing"


def test_nodes_that_were_left_as_they_seemed_to_fail_are_known_by_their_migrations() -> None:
    def migration(name: str, reason: str, node: str | None) -> dict[str, Any]:
        status = {"phase": "Done", "from": {"pod": "p", "node": node}} if node else {}
        return {
            "metadata": bodies.meta(name),
            "spec": {"service": "digits", "reason": reason},
            "status": status,
        }

    there = bodies.store(
        ModelMigration=[
            migration("a", "NodeFailing", "n1"),
            migration("b", "Balance", "n2"),
            migration("c", "NodeFailing", None),
        ]
    )
    assert set(nodes_left(bodies.gathered(there).migrations.filed)) == {"n1"}
