"""Starts of replicas, over all services of a model."""

from typing import Any

import pytest

from conch.decisions.scaling import ScalingState, load_time
from conch.reconcile.load_times import start_seconds
from conch.reconcile.profiles import Profiles
from conch.reconcile.store import Store
from conch.reconcile.views import pod_view
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import current_revision, gathered, of_revision, store

NOW = "2026-01-01T01:00:00Z"


def started(name: str, *, scheduled: int | None = 0, ready: int, restarts: int = 0) -> Any:
    """Return a pod of the service that got its node and was ready so many seconds after EPOCH."""

    def true(kind: str, second: int) -> Any:
        time = f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z"
        return {"type": kind, "status": "True", "lastTransitionTime": time}

    conditions = [true("Ready", ready)]
    conditions += [] if scheduled is None else [true("PodScheduled", scheduled)]
    status = {"conditions": conditions, "containerStatuses": [{"restartCount": restarts}]}
    return bodies.pod(name, status=status)


def seconds(pod: Any) -> float | None:
    return start_seconds(pod_view(pod, {"n1"}))


def test_waiting_for_a_place_is_no_load_time() -> None:
    assert seconds(started("p", scheduled=300, ready=320)) == 20.0


def test_where_the_scheduler_says_nothing_it_is_from_the_creation() -> None:
    assert seconds(started("p", scheduled=None, ready=20)) == 20.0


def test_a_pod_that_waits_has_none() -> None:
    assert seconds(bodies.gated("p")) is None


def test_a_pod_whose_containers_began_anew_tells_nothing() -> None:
    assert seconds(started("p", ready=900, restarts=1)) is None


def cluster(*pods: Any, model: Any = None) -> Store:
    """Return two services of one model; each pod is of the first but one named other-*."""
    revisions = {name: current_revision_of(name) for name in ("digits", "other")}
    mine = []
    for pod in pods:
        owner = pod["metadata"]["name"].split("-")[0]
        pod["metadata"]["labels"]["conch.dev/service"] = owner
        mine.append(of_revision(pod, revisions[owner]))
    return store(
        Model=model or bodies.model(),
        ModelService=[bodies.model_service("digits"), bodies.model_service("other")],
        Pod=mine,
    )


def current_revision_of(name: str) -> str:
    found = gathered(store(ModelService=bodies.model_service(name))).services[0].service.revision
    assert found
    return found


def learned(profiles: Profiles, of: Store) -> dict[str, float]:
    services = gathered(of).services
    profiles.observe(services)
    return dict(profiles.load_seconds(services[0]))


def test_all_services_of_a_model_teach_and_a_pod_teaches_once() -> None:
    there = cluster(started("digits-a", ready=10), started("other-b", ready=30))
    profiles = Profiles(there)
    for _ in range(3):
        assert learned(profiles, there) == {"NVIDIA-A100": 30.0}


def test_a_pod_that_lost_its_readiness_for_a_while_teaches_nothing_new() -> None:
    there = cluster(started("digits-a", ready=10))
    profiles = Profiles(there)
    learned(profiles, there)
    again = of_revision(started("digits-a", ready=35), current_revision())
    again["metadata"]["resourceVersion"] = "2"
    there.put("Pod", again)
    assert learned(profiles, there) == {"NVIDIA-A100": 10.0}


def with_known(seconds: float) -> Any:
    profile = {"variant": "fp32", "accelerator": "NVIDIA-A100", "loadSeconds": seconds}
    return {**bodies.model(), "status": {"profiles": [profile]}}


def test_a_restart_begins_with_what_is_written() -> None:
    there = cluster(model=with_known(70.0))
    assert learned(Profiles(there), there) == {"NVIDIA-A100": 70.0}


@pytest.mark.parametrize(("before", "writes"), [(None, True), (11.0, False), (20.0, True)])
def test_only_a_telling_change_is_written(before: float | None, *, writes: bool) -> None:
    model = bodies.model() if before is None else with_known(before)
    pods = [started(f"digits-{n}", ready=10) for n in range(load_time.SEED_LASTS)]
    there = cluster(*pods, model=model)
    profiles, services = Profiles(there), gathered(there).services
    profiles.observe(services)
    states = {f.key: ScalingState() for f in services}
    written = [status["profiles"] for _, status in profiles.statuses(services, states, NOW)]
    expected = {"variant": "fp32", "accelerator": "NVIDIA-A100", "loadSeconds": 10.0, "asOf": NOW}
    assert written == ([[expected]] if writes else [])
