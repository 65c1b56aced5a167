"""What the front door tells reaches the decisions, at once and no longer than it holds."""

from collections import Counter
from typing import Any

import pytest

from conch.api.conditions import Reason
from conch.clients.front_door import Report
from conch.decisions.fleet import ServiceKey
from conch.provisioning.snapshot import Images
from conch.reconcile.front_door import Door
from conch.reconcile.loop import Reconciler
from conch.reconcile.settings import FrontDoor, Settings
from conch.reconcile.status import Outcome, service_wishes
from conch.reconcile.store import Store
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import EPOCH_S, current_revision, gathered, of_revision, store

DIGITS = ServiceKey("vision", "digits")
DOOR = FrontDoor("http://door.conch-system.svc", "door.conch-system.svc:8001")
SCALING = {"minReplicas": 0, "maxReplicas": 4}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def wall(self) -> float:
        return EPOCH_S + self.now

    def monotonic(self) -> float:
        return self.now


class Loop:
    """A reconciler that decides and writes nothing, with one replica of the front door."""

    def __init__(self, kept: Store, *, door: bool = True) -> None:
        api: Any = type("Api", (), {"requests": Counter()})()
        images = Images(triton="t", conch="c")
        settings = Settings(images, front_door=DOOR if door else None)
        self.clock, self.kept = Clock(), kept
        self.loop = Reconciler(api, kept, settings, self.clock)
        if self.loop.reports is not None:
            self.loop.reports.live({"a": Door("a", "door-a", "10.0.0.1", True)})

    def report(self, **said: Any) -> None:
        assert self.loop.reports is not None
        self.loop.reports.take("a", Report(1, **said))

    def decide(self, *, rests: bool = False) -> Outcome:
        """Return what is decided now; it ``rests`` where nothing of it is to be written."""
        (outcome,) = self.loop._decider.decide(gathered(self.kept), self.clock.wall())
        if rests:
            self.loop._resting.note(
                outcome, self.loop._decider.measured_at, self.clock.now, busy=False
            )
        return outcome


def sleeping(reason: str = "ScaledToZero") -> Store:
    """Return a service without replicas whose status gives this reason for its scaling."""
    body = bodies.model_service(scaling=SCALING)
    told = {"type": "ScalingActive", "status": "True", "reason": reason, "message": ""}
    body["status"] = {"desiredReplicas": 0, "conditions": [told]}
    return store(ModelService=body, Service=bodies.service(current_revision()))


def running(*pods: Any, replicas: int = 1, scaling: Any = None) -> Store:
    revision = current_revision()
    return store(
        ModelService=bodies.model_service(scaling=scaling or SCALING),
        Service=bodies.service(revision),
        ReplicaSet=of_revision(
            bodies.replica_set(replicas=replicas, template={"schedulingGates": _GATE}), revision
        ),
        Pod=[of_revision(p, revision) for p in pods],
    )


_GATE = [{"name": "conch.dev/placement"}]


def ready(outcome: Outcome) -> tuple[bool | None, Reason]:
    (found,) = (w for w in service_wishes(outcome) if w.type == "Ready")
    return found.status, found.reason


def test_a_service_at_rest_is_woken_by_the_next_decision() -> None:
    loop = Loop(sleeping())
    loop.report()
    resting = loop.decide(rests=True)
    assert (resting.wanted, ready(resting)) == (0, (True, Reason.SCALED_TO_ZERO))
    assert loop.decide() is resting
    loop.clock.now += 1.0
    loop.report(asked={DIGITS: 0.2}, waiting={DIGITS: 3})
    woken = loop.decide()
    assert woken.wanted == 1
    assert [(s.replicas, s.gated) for s in woken.plan.sets] == [(1, True)]
    assert ready(woken) == (False, Reason.NO_READY_REPLICA)


def test_a_woken_service_that_can_have_none_says_so() -> None:
    kept = sleeping()
    kept.put(
        "Node",
        {
            **bodies.node(gpus=0),
            "metadata": bodies.meta(
                "n1", namespace=None, resourceVersion="2", labels={"gpu": "a100"}
            ),
        },
    )
    loop = Loop(kept)
    loop.report(waiting={DIGITS: 3})
    woken = loop.decide()
    assert woken.wanted == 0
    status, reason = ready(woken)
    assert status is False
    assert reason is not Reason.SCALED_TO_ZERO


def test_before_the_first_report_what_sleeps_sleeps_on_and_what_runs_runs_on() -> None:
    assert Loop(sleeping()).decide().wanted == 0
    loop = Loop(running(bodies.pod("p1")))
    assert loop.decide().wanted == 1


def test_a_new_service_is_tried_before_it_may_sleep() -> None:
    loop = Loop(sleeping("NoMetrics"))
    loop.report()
    assert loop.decide().wanted == 1


def test_without_a_front_door_one_stays_awake() -> None:
    outcome = Loop(sleeping(), door=False).decide()
    assert outcome.wanted == 1
    assert outcome.scaling is not None
    assert "no front door" in outcome.scaling.message


def test_a_silent_front_door_wakes_after_a_minute() -> None:
    loop = Loop(sleeping())
    loop.report()
    loop.clock.now += 60.0
    assert loop.decide().wanted == 0
    loop.clock.now += 0.1
    assert loop.decide().wanted == 1


def drained() -> Any:
    """Return a pod whose traffic was taken when the clock began."""
    since = {"conch.dev/draining-since": bodies.EPOCH}
    leaves = bodies.pod("p2", metadata={"annotations": since})
    leaves["metadata"]["labels"].pop("conch.dev/serving")
    return leaves


def test_a_drained_pod_waits_for_the_front_door() -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 1, "drainTimeout": "20s"}
    leaves = drained()
    loop = Loop(running(bodies.pod("p1"), leaves, replicas=2, scaling=scaling))
    loop.clock.now = 5.0
    uid = leaves["metadata"]["uid"]

    def gone() -> list[str]:
        return [p.uid for p in loop.decide(rests=True).plan.deletions]

    assert gone() == []
    assert loop.decide().plan.wake_after == 15.0
    loop.report(in_flight={uid: 2})
    assert gone() == []
    loop.report(in_flight={uid: 0})
    assert gone() == [uid]
    loop.report(in_flight={})
    assert gone() == []
    loop.clock.now = 20.0
    assert gone() == [uid]


def test_without_a_front_door_it_waits_for_nobody() -> None:
    leaves = drained()
    scaling = {"minReplicas": 1, "maxReplicas": 1}
    loop = Loop(running(bodies.pod("p1"), leaves, replicas=2, scaling=scaling), door=False)
    loop.clock.now = 3.0
    assert [p.name for p in loop.decide().plan.deletions] == ["p2"]


def two_of_which_one_is_broken(*more: Any, gpus: int = 4) -> tuple[Loop, str]:
    """Return a loop that hears that p1 answers nothing, and the UID of p1."""
    pods = [bodies.pod("p1"), bodies.pod("p2"), *more]
    kept = running(*pods, replicas=len(pods), scaling={"minReplicas": 2, "maxReplicas": 2})
    where = bodies.node(gpus=gpus)
    where["metadata"]["resourceVersion"] = "2"
    kept.put("Node", where)
    loop, uid = Loop(kept), "uid-p1"
    loop.clock.now = 1000.0
    loop.report(broken={uid: "no answer to 12 requests in 8 s"})
    return loop, uid


def test_who_answers_nothing_is_made_again_first_where_there_is_a_place() -> None:
    loop, _ = two_of_which_one_is_broken()
    outcome = loop.decide()
    assert outcome.wanted == 2
    assert [(s.replicas, s.gated, s.target) for s in outcome.plan.sets] == [(3, True, 3)]
    assert [*outcome.plan.drains, *outcome.plan.deletions] == []
    told = {str(w.type): (w.status, w.reason, w.message) for w in service_wishes(outcome)}
    assert told["Ready"][:2] == (True, Reason.SERVING)
    assert told["Ready"][2].startswith("1 of 2")
    status, reason, words = told["Reconciling"]
    assert (status, reason) == (True, Reason.REPLICA_NOT_ANSWERING)
    assert "p1 is replaced: no answer to 12 requests in 8 s" in words


def test_it_leaves_drained_once_another_answers() -> None:
    loop, _ = two_of_which_one_is_broken(bodies.pod("p3"))
    plan = loop.decide().plan
    assert [p.name for p in plan.drains] == ["p1"]
    assert [s.target for s in plan.sets] == [2]


def test_without_a_place_it_is_deleted() -> None:
    loop, uid = two_of_which_one_is_broken(gpus=2)
    plan = loop.decide().plan
    assert [p.uid for p in plan.deletions] == [uid]
    assert [s.target for s in plan.sets] == [2]
    assert not plan.shortage


def test_an_old_report_replaces_nobody() -> None:
    loop, _ = two_of_which_one_is_broken(gpus=2)
    loop.clock.now += 10.1
    plan = loop.decide().plan
    assert [*plan.drains, *plan.deletions] == []
    assert [s.target for s in plan.sets] == [2]


def test_where_nothing_helps_it_is_said_and_left() -> None:
    kept = running(bodies.pod("p1"), scaling={"minReplicas": 1, "maxReplicas": 1})
    loop = Loop(kept)
    for n in range(3):
        loop.clock.now = 1000.0 * (n + 1)
        (facts,) = gathered(kept).services
        again = {"uid": f"uid-{n}", "resourceVersion": str(n + 2)}
        body = dict(facts.children["Pod"][0])
        kept.drop("Pod", body)
        kept.put("Pod", {**body, "metadata": {**body["metadata"], **again}})
        loop.report(broken={f"uid-{n}": "silent"})
        outcome = loop.decide()
        told = {str(w.type): (w.status, w.reason) for w in service_wishes(outcome)}
        assert told["Ready"] == (False, Reason.REPLICA_NOT_ANSWERING)
        assert (told["Stalled"] == (True, Reason.REPLICA_NOT_ANSWERING)) == (n == 2)
        assert (told["Reconciling"][1] is Reason.REPLICA_NOT_ANSWERING) == (n < 2)
    assert [*outcome.plan.drains, *outcome.plan.deletions] == []
    assert [s.target for s in outcome.plan.sets] == [1]


def test_of_a_paused_service_nothing_is_replaced_and_no_try_is_counted() -> None:
    loop, _ = two_of_which_one_is_broken(gpus=2)
    (body,) = loop.kept.all("ModelService")
    paused = {"resourceVersion": "2", "annotations": {"conch.dev/paused": "true"}}
    loop.kept.put("ModelService", {**body, "metadata": {**body["metadata"], **paused}})
    outcome = loop.decide()
    assert [*outcome.plan.drains, *outcome.plan.deletions] == []
    assert loop.loop._decider._repairs == {}


def test_a_place_is_asked_for_only_where_one_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for gpus, asked in ((4, 3), (2, 2)):
        loop, _ = two_of_which_one_is_broken(gpus=gpus)
        wishes: list[int] = []
        decide = loop.loop._sharing.decide

        def note(given: Any, *rest: Any, then: Any = decide, to: list[int] = wishes) -> Any:
            to.extend(w.replicas for w in given)
            return then(given, *rest)

        monkeypatch.setattr(loop.loop._sharing, "decide", note)
        loop.decide()
        assert wishes == [asked]


def test_a_defect_in_what_is_told_leaves_the_service_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, _ = two_of_which_one_is_broken(gpus=2)

    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("conch.reconcile.deciding.looked_at", fails)
    plan = loop.decide().plan
    assert [*plan.drains, *plan.deletions] == []
    assert [s.target for s in plan.sets] == [2]
