"""From a service's facts to the load that scaling decides on."""

from typing import Any

import pytest

from conch.api.signals import Arrivals, Key, Signals
from conch.clients.front_door import Report
from conch.decisions.fleet import ServiceKey
from conch.decisions.placement import Ledger
from conch.decisions.scaling import ScalingState, ServiceLoad, decide
from conch.decisions.scaling.load_time import DEFAULT_S
from conch.reconcile.front_door import Door, Heard, Reports
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.scaling import Measurement, load_of
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import EPOCH_S, current_revision, gathered, of_revision, store

NOTHING = Measurement({})


def load(
    found: ServiceFacts,
    measurement: Measurement = NOTHING,
    ledger: Ledger | None = None,
    **others: Any,
) -> ServiceLoad:
    return load_of(
        found, measurement, ledger or Ledger(), **{"now": EPOCH_S, "load_seconds": {}, **others}
    )


def facts(*children: Any, serving: str | None = None, **spec: Any) -> ServiceFacts:
    """Return a service with these pods and ReplicaSets; ``serving`` has the traffic."""
    sets = [c for c in children if "replicas" in c["spec"]]
    pods = [c for c in children if "replicas" not in c["spec"]]
    given: dict[str, Any] = {"ModelService": bodies.model_service(**spec)}
    if serving:
        given["Service"] = bodies.service(serving)
    (found,) = gathered(store(**given, ReplicaSet=sets, Pod=pods)).services
    return found


def revision(name: str, *, replicas: int, ready: int) -> list[Any]:
    made = [of_revision(bodies.replica_set(f"rs-{name}", replicas=replicas), name)]
    return made + [of_revision(bodies.pod(f"{name}-{i}"), name) for i in range(ready)]


def test_replicas_are_counted_by_what_they_do() -> None:
    now = current_revision()
    drained = of_revision(bodies.pod("drained"), now)
    drained["metadata"]["labels"].pop("conch.dev/serving")
    drained["metadata"]["annotations"] = {"conch.dev/draining-since": bodies.EPOCH}
    found = facts(*revision(now, replicas=4, ready=1), drained, serving=now)
    (pool,) = load(found).pools
    assert (pool.ready, pool.starting) == (1, 2)


@pytest.mark.parametrize(("wanted", "counted"), [(1, 1), (2, 2), (None, 2)])
def test_who_leaves_and_who_comes_for_it_are_one_replica(wanted: int | None, counted: int) -> None:
    now = current_revision()
    cordoned = bodies.node("n1") | {"spec": {"unschedulable": True}}
    made = revision(now, replicas=2, ready=1)
    given = {"ModelService": bodies.model_service(), "Service": bodies.service(now)}
    given["ModelService"]["status"] = {"desiredReplicas": wanted}
    sets, pods = made[:1], made[1:]
    (found,) = gathered(store(**given, Node=[cordoned], ReplicaSet=sets, Pod=pods)).services
    assert [p.leaves for p in found.service.pods] == ["cordoned"]
    assert load(found).held == counted


def test_room_is_what_the_books_leave() -> None:
    ledger, found = Ledger(), facts(scaling={"maxReplicas": 8})
    assert load(found, NOTHING, ledger).pools[0].room == 4
    ledger.book("n1", found.shapes["a100"].need)
    assert load(found, NOTHING, ledger).pools[0].room == 3


def test_bounds_and_windows_are_the_specs() -> None:
    scaling = {"minReplicas": 2, "maxReplicas": 6, "window": "30s", "standby": 1}
    found = facts(scaling=scaling, replicas=3, objective={"p99": "50ms"})
    told = load(found)
    assert (told.minimum, told.maximum, told.fixed, told.standby) == (2, 6, 3, 1)
    assert (told.window, told.scale_down_window, told.objective) == (30.0, None, 0.05)


def test_signals_are_those_of_the_revision_with_the_traffic() -> None:
    key = Key("vision", "digits", "r-old", "a100")
    found = facts(*revision("r-old", replicas=1, ready=1), serving="r-old")
    measurement = Measurement({key: Signals(inferences=5.0)})
    signals = load(found, measurement).pools[0].signals
    assert signals is not None
    assert signals.inferences == 5.0


@pytest.mark.parametrize("new", [0, 1])
def test_an_update_without_metrics_is_no_reason_to_shrink(new: int) -> None:
    """Four replicas answer; the edit's revision has none or one of its own by now."""
    children = revision("r-old", replicas=4, ready=4)
    if new:
        children += revision(current_revision(), replicas=new, ready=0)
    spec = {"scaling": {"minReplicas": 1, "maxReplicas": 8}}
    updating = load(facts(*children, serving="r-old", **spec))
    assert decide(updating, ScalingState(), 0.0).replicas == 4


def test_signals_grow_old_between_two_queries() -> None:
    key = Key("vision", "digits", "r1", "a100")
    measurement = Measurement({key: Signals(age=2.0, age_oldest=3.0)}, age=4.0)
    aged = measurement.of(key)
    assert aged is not None
    assert aged.age == 6.0
    assert aged.age_oldest == pytest.approx(7.0, abs=0.01)
    assert measurement.of(Key("vision", "other", "r1", "a100")) is None


def test_the_load_time_is_the_learned_one_of_the_accelerators_in_use() -> None:
    found = facts(*revision(current_revision(), replicas=1, ready=1))
    assert load(found, load_seconds={"NVIDIA-A100": 17.0, "Tesla-T4": 90.0}).load_seconds == 17.0
    assert load(found).load_seconds == DEFAULT_S


PEAK = {"name": "noon", "start": "0 12 * * *", "end": "1h", "minReplicas": 3}
NOON = EPOCH_S + 12 * 3600
SPEC: dict[str, Any] = {"scaling": {"minReplicas": 1, "maxReplicas": 8, "schedules": [PEAK]}}


@pytest.mark.parametrize(
    ("now", "minimum"), [(NOON - 43, 1), (NOON - 42, 3), (NOON + 3599, 3), (NOON + 3600, 1)]
)
def test_a_schedule_raises_the_minimum_from_one_load_time_before(now: float, minimum: int) -> None:
    told = load(facts(**SPEC), now=now, load_seconds={"NVIDIA-A100": 42.0})
    assert told.minimum == minimum
    assert (told.floor_reason is not None) == (minimum == 3)


def test_a_schedule_below_the_minimum_says_nothing() -> None:
    scaling = {"minReplicas": 4, "maxReplicas": 8, "schedules": [PEAK]}
    told = load(facts(scaling=scaling), now=NOON)
    assert (told.minimum, told.floor_reason) == (4, None)


@pytest.mark.parametrize(("wanted", "kept"), [(None, 2), (5, 5), (0, 0)])
def test_a_paused_service_keeps_what_was_wanted_last(wanted: int | None, kept: int) -> None:
    found = facts(*revision(current_revision(), replicas=2, ready=2), scaling={"paused": True})
    found.body["status"] = {} if wanted is None else {"desiredReplicas": wanted}
    assert load(found).kept == kept


def test_the_pace_is_the_specs() -> None:
    scaling = {"aggressiveness": "Cautious", "scaleUpCooldown": "1m", "scaleDownCooldown": "2m"}
    told = load(facts(scaling=scaling))
    assert (told.allowed_late, told.up_cooldown, told.down_cooldown) == (1e-4, 60.0, 120.0)
    assert told.kept is None


def written(manager: str, time: str, **entry: Any) -> Any:
    fields: dict[str, Any] = {"f:spec": {"f:replicas": {}, "f:model": {}}}
    return {"manager": manager, "operation": "Update", "time": time, "fieldsV1": fields, **entry}


def test_who_wrote_spec_replicas_last_is_told() -> None:
    service = bodies.model_service(replicas=3)
    service["metadata"]["managedFields"] = [
        written("helm", "2026-01-01T00:00:00Z"),
        written("kube-controller-manager", "2026-01-01T00:05:00Z", subresource="scale"),
        {**written("conch", "2026-01-01T00:09:00Z"), "fieldsV1": {"f:status": {}}},
    ]
    (found,) = gathered(store(ModelService=service)).services
    told = load(found)
    assert (
        told.fixed_by == "written by kube-controller-manager through /scale at 2026-01-01T00:05:00Z"
    )
    assert told.fixed_by in decide(told, ScalingState(), 0.0).message


def test_no_one_wrote_what_is_unset() -> None:
    service = bodies.model_service()
    service["metadata"]["managedFields"] = [written("kubectl", "2026-01-01T00:00:00Z")]
    (found,) = gathered(store(ModelService=service)).services
    assert load(found).fixed_by is None


def test_the_operator_lets_no_service_sleep_before_a_front_door_reports_itself() -> None:
    children = revision(current_revision(), replicas=1, ready=1)
    found = load(facts(*children, scaling={"minReplicas": 0, "maxReplicas": 3}))
    assert (found.minimum, found.may_sleep) == (0, False)
    decision = decide(found, ScalingState(), 0.0)
    assert decision.replicas == 1
    assert "no front door" in decision.message


def heard(*, ready: int = 1, **said: Any) -> Heard:
    """Return what so many replicas of the front door tell at the moment 100 s."""

    class Clock:
        def monotonic(self) -> float:
            return 100.0

        def wall(self) -> float:
            return EPOCH_S

    reports = Reports(Clock(), lambda: None)
    doors = [Door(f"door-{n}", f"door-{n}", f"10.0.0.{n}", ready=True) for n in range(ready)]
    reports.live({d.uid: d for d in doors})
    for one in doors:
        reports.take(one.uid, Report(1, **said))
    return reports.heard(EPOCH_S, 100.0)


DIGITS = ServiceKey("vision", "digits")


def test_what_the_front_door_tells_is_part_of_the_load() -> None:
    found = facts(scaling={"minReplicas": 0, "maxReplicas": 3})
    told = load(found, heard=heard(ready=2, asked={DIGITS: 4.0}, waiting={DIGITS: 2}))
    assert (told.may_sleep, told.held_back, told.deaf) == (True, 4.0, None)
    assert told.asked_ago == pytest.approx(4.0)
    assert not load(facts(), heard=heard()).may_sleep
    assert load(found, heard=Heard()).deaf == 0.0


@pytest.mark.parametrize(("reason", "slept"), [("ScaledToZero", True), ("NoMetrics", False)])
def test_its_status_tells_whether_it_slept(reason: str, slept: bool) -> None:
    body = bodies.model_service(scaling={"minReplicas": 0, "maxReplicas": 3})
    body["status"] = {"conditions": [{"type": "ScalingActive", "reason": reason}]}
    (found,) = gathered(store(ModelService=body)).services
    assert load(found, heard=heard()).slept is slept


def test_arrivals_count_once_every_replica_of_the_front_door_was_scraped() -> None:
    counted = {("vision", "digits"): Arrivals(20.0, 3.0, doors=2, age=1.0)}
    measurement = Measurement({}, age=2.0, arrivals=counted)
    assert load(facts(), measurement, heard=heard(ready=2)).arrivals == Arrivals(20.0, 3.0, 2, 3.0)
    assert load(facts(), measurement, heard=heard(ready=3)).arrivals is None
    assert load(facts(), measurement, heard=heard(ready=0)).arrivals is None
    assert load(facts(), measurement).arrivals is None
