"""What a service's status says in the situations that users meet."""

from typing import Any

import pytest

from conch.api.conditions import Reason
from conch.decisions.fleet import Pool
from conch.decisions.scaling import ScalingDecision, ScalingState
from conch.decisions.steps import Plan, SetPlan
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.resolve import Fault
from conch.reconcile.settings import FrontDoor
from conch.reconcile.status import Outcome, broken_status, pool_status, service_status
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import current_revision, gathered, of_revision, store

NOW, LATER = "2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"


def decided(replicas: int, **fields: Any) -> ScalingDecision:
    facts: dict[str, Any] = {
        "wished": replicas,
        "by_pool": {},
        "reason": Reason.FIXED_REPLICAS,
        "message": "spec.replicas",
        "active": False,
        "state": ScalingState(),
    }
    return ScalingDecision(replicas=replicas, **{**facts, **fields})


def facts(*pods: Any, **objects: Any) -> ServiceFacts:
    """Return a service whose current revision has the traffic, with these pods of it."""
    revision = current_revision()
    given = {
        "ModelService": bodies.model_service(),
        "Service": bodies.service(revision),
        "ReplicaSet": of_revision(bodies.replica_set(replicas=len(pods)), revision),
        "Pod": [of_revision(p, revision) for p in pods],
        **objects,
    }
    (found,) = gathered(store(**given)).services
    return found


def outcome(found: ServiceFacts, *, wanted: int | None = 1, **fields: Any) -> Outcome:
    scaling = None if wanted is None else decided(wanted)
    plan = Plan(serving_revision=found.service.serving_revision)
    base = {"plan": plan, "scaling": scaling, "unplaceable": None, "wanted": wanted}
    return Outcome(found, **{**base, **fields})


def conditions(of: Outcome) -> dict[str, tuple[str, str]]:
    status = service_status(of, NOW)
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


def message(of: Outcome, kind: str) -> str:
    return next(
        str(c["message"]) for c in service_status(of, NOW)["conditions"] if c["type"] == kind
    )


def unready(name: str, **status: Any) -> Any:
    return bodies.pod(name, status={"conditions": [{"type": "Ready", "status": "False"}], **status})


def test_all_is_well() -> None:
    of = outcome(facts(bodies.pod("p1"), bodies.pod("p2")), wanted=2)
    assert conditions(of) == {
        "Ready": ("True", "Serving"),
        "Admitted": ("True", "Placed"),
        "Loaded": ("True", "ModelLoaded"),
        "ScalingActive": ("False", "FixedReplicas"),
        "Reconciling": ("False", "Settled"),
        "Stalled": ("False", "Settled"),
    }
    assert message(of, "Ready") == "2 of 2 replicas answer"


def test_the_numbers() -> None:
    drained = bodies.pod("p2")
    drained["metadata"]["labels"].pop("conch.dev/serving")
    leaving = bodies.pod("p3", metadata={"deletionTimestamp": bodies.EPOCH})
    found = facts(bodies.pod("p1"), drained, leaving, bodies.gated("p4"))
    status = service_status(outcome(found, wanted=3), NOW)
    assert (status["replicas"], status["readyReplicas"], status["desiredReplicas"]) == (2, 1, 3)
    assert status["pools"] == [
        {"pool": "a100", "accelerator": "NVIDIA-A100", "replicas": 2, "ready": 2}
    ]
    assert status["selector"] == "conch.dev/service=digits"
    assert status["variant"] == "fp32"
    assert status["revision"] == found.service.revision
    assert status["observedGeneration"] == 1


@pytest.mark.parametrize(
    ("door", "url", "grpc"),
    [
        (None, "http://digits.vision.svc:8000", "digits.vision.svc:8001"),
        (FrontDoor("http://door", "door:8001"), "http://door/vision/digits", "door:8001"),
        (
            FrontDoor("https://a.example", "a.example:443", "m.example"),
            "https://digits.vision.m.example",
            "digits.vision.m.example:443",
        ),
        (
            FrontDoor("http://10.0.0.1:30080", "10.0.0.1:30081", "m.example"),
            "http://digits.vision.m.example:30080",
            "digits.vision.m.example:30081",
        ),
    ],
)
def test_where_it_is_reached(door: FrontDoor | None, url: str, grpc: str) -> None:
    status = service_status(outcome(facts(bodies.pod("p1"))), NOW, door)
    assert (status["url"], status["grpc"]) == (url, grpc)


def test_a_replica_that_starts() -> None:
    of = outcome(facts(unready("p1")))
    told = conditions(of)
    assert told["Ready"] == ("False", "NoReadyReplica")
    assert told["Loaded"] == ("Unknown", "ModelLoading")
    assert told["Reconciling"] == ("True", "Progressing")
    assert told["Stalled"] == ("False", "Settled")


def test_a_model_that_does_not_load() -> None:
    ended = {"terminated": {"exitCode": 1, "message": "error: no such backend"}}
    broken = unready("p1", containerStatuses=[{"name": "triton", "lastState": ended}])
    of = outcome(facts(broken))
    told = conditions(of)
    assert told["Ready"] == told["Loaded"] == ("False", "LoadFailed")
    assert told["Stalled"] == ("True", "LoadFailed")
    assert "no such backend" in message(of, "Loaded")


def test_one_replica_that_fails_beside_one_that_answers() -> None:
    ended = {"terminated": {"exitCode": 1}}
    broken = unready("p2", containerStatuses=[{"name": "triton", "lastState": ended}])
    told = conditions(outcome(facts(bodies.pod("p1"), broken), wanted=2))
    assert told["Ready"] == ("True", "Serving")
    assert told["Stalled"] == ("True", "LoadFailed")


def test_a_model_that_is_gone_leaves_what_runs_ready() -> None:
    """There is no revision to be made, and the one that runs goes on."""
    found = facts(bodies.pod("p1"), Model=[])
    told = conditions(outcome(found))
    assert told["Ready"] == ("True", "Serving")
    assert told["Loaded"] == ("False", "ModelNotFound")
    assert told["Stalled"] == ("True", "ModelNotFound")


def test_a_model_that_is_not_there_yet() -> None:
    found = facts(Model=[], Service=[], ReplicaSet=[])
    told = conditions(outcome(found, wanted=None))
    assert told["Ready"] == ("False", "ModelNotFound")
    assert told["Admitted"] == ("Unknown", "ModelNotFound")


def test_no_gpus() -> None:
    plan = Plan(serving_revision="r1", shortage=2, obstacles=("pool a100, 1 node: cordoned",))
    of = outcome(facts(), plan=plan, wanted=2)
    assert conditions(of)["Admitted"][0] == "False"
    assert message(of, "Ready") == message(of, "Admitted")
    assert message(of, "Admitted").startswith("2 more replicas fit nowhere: pool a100")


def test_a_quota_that_refuses() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}
    refused = of_revision(bodies.replica_set(status={"conditions": [failure]}), current_revision())
    of = outcome(facts(ReplicaSet=refused))
    assert conditions(of)["Admitted"] == ("False", "QuotaRefused")
    assert message(of, "Admitted") == "exceeded quota: gpus"


def test_no_pool() -> None:
    of = outcome(facts(), unplaceable=Fault(Reason.NO_POOL, "no GPUPool suits"))
    told = conditions(of)
    assert told["Admitted"] == told["Ready"] == ("False", "NoPool")


def test_zero_is_no_fault() -> None:
    told = conditions(outcome(facts(), wanted=0))
    assert told["Ready"] == ("False", "ScaledToZero")
    assert told["Stalled"] == ("False", "Settled")


def test_a_step_under_way_is_told_with_its_numbers() -> None:
    wish = SetPlan("r1", "a100", 3, gated=True, target=1)
    of = outcome(facts(bodies.pod("p1")), plan=Plan(sets=(wish,), serving_revision="r1"))
    assert conditions(of)["Reconciling"] == ("True", "Progressing")
    assert "a100: 3 to 1 replicas" in message(of, "Reconciling")


def test_a_refused_write_is_told() -> None:
    of = outcome(facts(bodies.pod("p1")), error="pods is forbidden")
    assert conditions(of)["Stalled"] == ("True", "Conflict")
    assert message(of, "Stalled") == "pods is forbidden"


def test_paused() -> None:
    told = conditions(outcome(facts(bodies.pod("p1")), paused=True, wanted=None))
    assert told["ScalingActive"] == ("False", "Paused")
    # It may lack what is wished for: nothing says that all is placed and there.
    assert told["Admitted"] == ("Unknown", "Paused")
    assert told["Reconciling"] == ("False", "Paused")
    assert told["Ready"] == ("True", "Serving")


def test_equal_facts_give_equal_statuses_so_that_nothing_is_written() -> None:
    service = bodies.model_service()
    first = service_status(outcome(facts(bodies.pod("p1"))), NOW)
    service["status"] = first
    again = facts(bodies.pod("p1"), ModelService=service)
    assert service_status(outcome(again), LATER) == first


def test_a_time_moves_only_with_the_condition() -> None:
    service = bodies.model_service()
    service["status"] = service_status(outcome(facts(bodies.pod("p1"))), NOW)
    after = service_status(outcome(facts(unready("p1"), ModelService=service)), LATER)
    times = {c["type"]: c["lastTransitionTime"] for c in after["conditions"]}
    assert times["Ready"] == LATER
    assert times["Admitted"] == NOW


class TestBroken:
    FAULT = Fault(Reason.INVALID_SPEC, "scaling.minReplicas: Input should be at least 0")

    def test_a_new_one_says_why(self) -> None:
        status = broken_status(bodies.model_service(), self.FAULT, NOW)
        told = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
        assert told == {"Ready": ("False", "InvalidSpec"), "Stalled": ("True", "InvalidSpec")}

    def test_one_that_ran_keeps_what_it_said(self) -> None:
        body = bodies.model_service()
        body["status"] = service_status(outcome(facts(bodies.pod("p1"))), NOW)
        status = broken_status(body, self.FAULT, LATER)
        told = {c["type"]: c["status"] for c in status["conditions"]}
        assert (told["Ready"], told["Stalled"]) == ("True", "True")
        assert status["readyReplicas"] == 1

    @pytest.mark.parametrize("ran", [True, False])
    def test_it_is_written_once(self, ran: bool) -> None:
        body = bodies.model_service()
        if ran:
            body["status"] = service_status(outcome(facts(bodies.pod("p1"))), NOW)
        first = broken_status(body, self.FAULT, NOW)
        assert broken_status({**body, "status": first}, self.FAULT, LATER) == first


class TestPools:
    def pool(self, **objects: Any) -> Pool:
        return gathered(store(**objects)).pools[0]

    def test_the_numbers(self) -> None:
        nodes = [bodies.node("n1", gpus=4), bodies.node("n2", gpus=2)]
        pool = self.pool(Node=nodes, Pod=bodies.pod(gpus=3))
        status = pool_status(bodies.gpu_pool(), pool, NOW)
        numbers = [status[k] for k in ("nodes", "gpus", "allocated", "free")]
        assert numbers == [2, 6, 3, 3]
        assert status["conditions"][0]["message"] == "2 of 2 nodes are ready"

    def test_nodes_that_show_signs_of_failing_are_named(self) -> None:
        told = [
            {"type": t, "status": "True", "message": "7 of them"} for t in ("Ready", "XIDErrors")
        ]
        ill = [bodies.node(f"n{n}", status={"conditions": told}) for n in range(1, 6)]
        status = pool_status(bodies.gpu_pool(), self.pool(Node=[*ill, bodies.node("n9")]), NOW)
        assert status["conditions"][0]["message"] == (
            "6 of 6 nodes are ready; signs of failing: n1 (XIDErrors), n2 (XIDErrors), "
            "n3 (XIDErrors) and 2 more"
        )

    def test_without_nodes_it_says_what_to_do(self) -> None:
        status = pool_status(bodies.gpu_pool(), self.pool(Node=[]), NOW)
        condition = status["conditions"][0]
        assert (condition["status"], condition["reason"]) == ("False", "PoolWithoutNodes")
        assert "label nodes so" in condition["message"]

    def test_with_none_that_is_ready(self) -> None:
        dark = bodies.node(status={"conditions": []})
        status = pool_status(bodies.gpu_pool(), self.pool(Node=dark), NOW)
        assert status["conditions"][0]["message"] == "none of 1 nodes is ready"
