"""A canary takes nothing from the revision that serves: its replicas stay as many as they are."""

from typing import Any

from conch.api.rollout import RolloutPhase
from conch.decisions.rolling import Rollout
from conch.reconcile.rollout_status import status_of
from conch.reconcile.store import Store
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import EPOCH_S, current_revision, store
from tests.unit.reconcile.test_front_door_decisions import Loop

SCALING = {"minReplicas": 1, "maxReplicas": 6}
OLD = "r1"
MOST = 3


def under_way(strategy: str, step: int | None) -> Store:
    """Return a service with three replicas of one revision, while another takes over."""
    new = current_revision()
    rollout = Rollout(new, OLD, RolloutPhase.PROGRESSING, EPOCH_S, EPOCH_S + 90, step, message="-")
    body = bodies.model_service(scaling=SCALING, rollout={"strategy": strategy})
    body["status"] = {"desiredReplicas": MOST, "rollout": status_of(rollout).to_dict()}
    pods: list[Any] = [bodies.pod(f"p{n}") for n in range(MOST)]
    return store(
        ModelService=body,
        Service=bodies.service(OLD),
        ReplicaSet=bodies.replica_set(replicas=MOST),
        Pod=pods,
        Node=bodies.node(gpus=8),
    )


def targets(kept: Store) -> tuple[int | None, dict[str, int]]:
    outcome = Loop(kept).decide()
    new = current_revision()
    found = {("new" if s.revision == new else "old"): s.target for s in outcome.plan.sets}
    return outcome.wanted, found


def test_a_canary_is_one_more_and_the_others_stay() -> None:
    assert targets(under_way("Canary", 0)) == (MOST, {"old": MOST, "new": 1})


def test_one_that_takes_over_whole_comes_beside_them() -> None:
    wanted, found = targets(under_way("Replace", None))
    assert found == {"old": MOST, "new": wanted}
