"""From a service's facts to the load that scaling decides on."""

from dataclasses import replace
from typing import Any

import pytest

from conch.api.signals import Key, Signals
from conch.decisions.placement import Ledger
from conch.decisions.scaling import ScalingState, decide
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.scaling import DEFAULT_LOAD_S, Measurement, load_of, load_seconds
from conch.reconcile.views import pod_view
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import EPOCH_S, current_revision, gathered, of_revision, store

NOTHING = Measurement({})


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
    (pool,) = load_of(found, NOTHING, Ledger()).pools
    assert (pool.ready, pool.starting) == (1, 2)


def test_room_is_what_the_books_leave() -> None:
    ledger, found = Ledger(), facts(scaling={"maxReplicas": 8})
    assert load_of(found, NOTHING, ledger).pools[0].room == 4
    ledger.book("n1", found.shapes["a100"].need)
    assert load_of(found, NOTHING, ledger).pools[0].room == 3


def test_bounds_and_windows_are_the_specs() -> None:
    scaling = {"minReplicas": 2, "maxReplicas": 6, "window": "30s"}
    found = facts(scaling=scaling, replicas=3, objective={"p99": "50ms"})
    load = load_of(found, NOTHING, Ledger())
    assert (load.minimum, load.maximum, load.fixed) == (2, 6, 3)
    assert (load.window, load.scale_down_window, load.objective) == (30.0, 300.0, 0.05)


def test_signals_are_those_of_the_revision_with_the_traffic() -> None:
    key = Key("vision", "digits", "r-old", "a100")
    found = facts(*revision("r-old", replicas=1, ready=1), serving="r-old")
    measurement = Measurement({key: Signals(inferences=5.0)})
    signals = load_of(found, measurement, Ledger()).pools[0].signals
    assert signals is not None
    assert signals.inferences == 5.0


@pytest.mark.parametrize("new", [0, 1])
def test_an_update_without_metrics_is_no_reason_to_shrink(new: int) -> None:
    """Four replicas answer; the edit's revision has none or one of its own by now."""
    children = revision("r-old", replicas=4, ready=4)
    if new:
        children += revision(current_revision(), replicas=new, ready=0)
    spec = {"scaling": {"minReplicas": 1, "maxReplicas": 8}}
    load = load_of(facts(*children, serving="r-old", **spec), NOTHING, Ledger())
    assert decide(load, ScalingState(), 0.0).replicas == 4


def test_signals_grow_old_between_two_queries() -> None:
    key = Key("vision", "digits", "r1", "a100")
    measurement = Measurement({key: Signals(age=2.0, age_oldest=3.0)}, age=4.0)
    aged = measurement.of(key)
    assert aged is not None
    assert aged.age == 6.0
    assert aged.age_oldest == pytest.approx(7.0, abs=0.01)
    assert measurement.of(Key("vision", "other", "r1", "a100")) is None


class TestLoadTime:
    """From created to ready."""

    def of(self, *seconds: float) -> float:
        pod = pod_view(bodies.pod(), {"n1"})
        return load_seconds(tuple(replace(pod, ready_at=EPOCH_S + s) for s in seconds))

    def test_the_slow_ones_count(self) -> None:
        assert self.of(*[20.0] * 8, 40.0, 50.0) == 40.0

    def test_a_default_before_any_was_seen(self) -> None:
        assert load_seconds(()) == DEFAULT_LOAD_S

    def test_one_that_lost_its_readiness_for_a_while_is_bounded(self) -> None:
        assert self.of(20.0, 20.0, 20_000.0) == 80.0

    def test_never_less_than_a_second(self) -> None:
        assert self.of(0.0) == 1.0
