"""What users and clusters do to services: put right, or told in a condition and mended by an edit.

Real API server, controllers and scheduler; nodes and pods are simulated.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from conch.api.conditions import Reason
from tests.kit.client import Object
from tests.kit.control_plane import condition
from tests.kit.faults import Answer, WatchError, on
from tests.kit.fleet import POOLS, PRODUCT, gpu_pool, model_service
from tests.kit.proxy import Gone
from tests.kit.scenario import CONCH, Scenario
from tests.kit.sweep import Lane


@pytest.fixture
def scenario(simulated_lane: Lane) -> Iterator[Scenario]:
    """A namespace without a service; what a test leaves there is removed."""
    made = simulated_lane.scenario()
    yield made
    made.proxy.reset()
    made.delete()


def child(scenario: Scenario, kind: str) -> tuple[str, Object]:
    """The only child of a kind, with its path."""
    prefix = {
        "services": "/api/v1",
        "configmaps": "/api/v1",
        "serviceaccounts": "/api/v1",
        "replicasets": "/apis/apps/v1",
        "poddisruptionbudgets": "/apis/policy/v1",
    }[kind]
    path = f"{prefix}/namespaces/{scenario.namespace}/{kind}"
    (found,) = scenario.client.items(f"{path}?labelSelector=conch.dev/service=digits")
    return f"{path}/{found['metadata']['name']}", found


def uids(scenario: Scenario) -> set[str]:
    """The pods of the namespace."""
    return {p["metadata"]["uid"] for p in scenario.client.items(scenario.pods)}


def await_condition(scenario: Scenario, kind: str, reason: Reason) -> str:
    """Return the message once a condition has this reason."""

    def found() -> Object:
        return condition(scenario.client.get(scenario.service), kind)

    scenario.wait(lambda: found().get("reason") == reason, f"{kind} because of {reason}")
    return str(found()["message"])


# What is edited or deleted by hand


@pytest.mark.parametrize(
    ("kind", "edit"),
    [
        ("services", {"spec": {"selector": {"conch.dev/service": "other"}}}),
        ("services", {"spec": {"selector": {"theirs": "x"}}}),
        ("services", {"metadata": {"labels": {"conch.dev/service": "digits", "x": None}}}),
        ("replicasets", {"spec": {"replicas": 2}}),
        ("poddisruptionbudgets", {"spec": {"maxUnavailable": 1}}),
        ("configmaps", {"data": {"config.pbtxt": "edited"}}),
    ],
)
def test_an_edited_child_is_put_right(scenario: Scenario, kind: str, edit: Object) -> None:
    scenario.create(1)
    path, before = child(scenario, kind)
    part = next(iter(edit))
    scenario.client.merge(path, edit)

    def restored() -> bool:
        now = scenario.client.get(path)
        return bool(now[part] == before[part] or part == "metadata")

    scenario.wait(restored, f"{kind} as they were")
    scenario.wait(lambda: scenario.settled(1), "1 replica again")


@pytest.mark.parametrize(
    "kind", ["services", "poddisruptionbudgets", "configmaps", "serviceaccounts", "replicasets"]
)
def test_a_deleted_child_comes_back(scenario: Scenario, kind: str) -> None:
    scenario.create(1)
    path, before = child(scenario, kind)
    scenario.client.delete(path)

    def back() -> bool:
        now = scenario.client.find(path)
        return now is not None and now["metadata"]["uid"] != before["metadata"]["uid"]

    scenario.wait(back, f"other {kind}")
    scenario.wait(lambda: scenario.settled(1), "1 replica again")


def test_what_others_add_is_left_alone(scenario: Scenario) -> None:
    scenario.create(1)
    path, _ = child(scenario, "services")
    theirs = {"annotations": {"other.example/x": "1"}, "labels": {"other.example/y": "2"}}
    scenario.client.merge(path, {"metadata": theirs})
    scenario.scale(2)
    scenario.rest()
    metadata = scenario.client.get(path)["metadata"]
    assert metadata["annotations"]["other.example/x"] == "1"
    assert metadata["labels"]["other.example/y"] == "2"


# What is missing or refuses


def test_a_model_that_comes_later(scenario: Scenario) -> None:
    models = f"{CONCH}/namespaces/{scenario.namespace}/models"
    scenario.create(1, wait=False, with_model=False)
    message = await_condition(scenario, "Ready", Reason.MODEL_NOT_FOUND)
    assert message == "Model 'digits' does not exist; apply it, or correct spec.model.name"
    scenario.client.create(models, scenario.model)
    scenario.wait(lambda: scenario.settled(1), "1 replica")


def test_a_model_deleted_while_in_use_harms_nothing(scenario: Scenario) -> None:
    scenario.create(2)
    before = uids(scenario)
    scenario.client.delete(f"{CONCH}/namespaces/{scenario.namespace}/models/digits")
    await_condition(scenario, "Stalled", Reason.MODEL_NOT_FOUND)
    scenario.rest()
    assert uids(scenario) == before
    assert condition(scenario.client.get(scenario.service), "Ready")["status"] == "True"
    # What runs can still lose a pod and be scaled.
    scenario.client.merge(scenario.service, {"spec": {"replicas": 3}})
    scenario.wait(lambda: len(uids(scenario)) == 3, "3 pods without the model")
    assert before < uids(scenario)


def test_a_pool_that_matches_no_node(scenario: Scenario) -> None:
    pools, name = f"{CONCH}/gpupools", f"pool-{scenario.namespace}"
    scenario.client.create(pools, gpu_pool(name, "None-Such"))
    scenario.create(1, wait=False, placement={"pools": [name]})
    message = await_condition(scenario, "Admitted", Reason.POOL_WITHOUT_NODES)
    assert message == f"pool {name}: no node carries {PRODUCT}=None-Such"
    mended = {PRODUCT: POOLS["t4"]}
    scenario.client.merge(f"{pools}/{name}", {"spec": {"nodeSelector": mended}})
    scenario.wait(lambda: scenario.settled(1), "1 replica")
    scenario.client.delete(f"{pools}/{name}")


def test_no_pool_of_that_name(scenario: Scenario) -> None:
    scenario.create(1, wait=False, placement={"pools": ["nowhere"]})
    message = await_condition(scenario, "Ready", Reason.NO_POOL)
    assert "placement asks for nowhere" in message
    assert "a100 (NVIDIA-A100), t4 (Tesla-T4)" in message
    scenario.client.merge(scenario.service, {"spec": {"placement": {"pools": ["a100"]}}})
    scenario.wait(lambda: scenario.settled(1), "1 replica")


def test_more_replicas_than_gpus(scenario: Scenario) -> None:
    scenario.create(8, wait=False)
    message = await_condition(scenario, "Admitted", Reason.INSUFFICIENT_CAPACITY)
    assert "2 more replicas fit nowhere" in message
    assert "pool a100, 1 node: 1 with only 0 of 1 GPUs free" in message
    assert "pool t4, 1 node: 1 with only 0 of 1 GPUs free" in message
    # Those that fit serve.
    scenario.wait(lambda: scenario.says_ready(6), "6 replicas")
    scenario.scale(6)


def test_a_quota_that_refuses_pods(scenario: Scenario) -> None:
    quotas = f"/api/v1/namespaces/{scenario.namespace}/resourcequotas"
    spec = {"hard": {"requests.nvidia.com/gpu": "1"}}
    quota = scenario.client.create(quotas, {"metadata": {"name": "one"}, "spec": spec})
    path = f"{quotas}/{quota['metadata']['name']}"
    scenario.wait(lambda: "hard" in scenario.client.get(path).get("status", {}), "the quota")
    scenario.create(2, wait=False)
    message = await_condition(scenario, "Admitted", Reason.QUOTA_REFUSED)
    assert "exceeded quota: one" in message
    scenario.client.merge(path, {"spec": {"hard": {"requests.nvidia.com/gpu": "2"}}})
    scenario.wait(lambda: scenario.settled(2), "2 replicas", timeout=120)


def test_a_service_deleted_at_once_leaves_nothing(scenario: Scenario) -> None:
    scenario.create(2, wait=False)
    scenario.wait(lambda: uids(scenario), "the first pod")
    scenario.delete()
    scenario.rest()
    assert scenario.empty()


def test_a_faulty_service_leaves_its_neighbours_alone(scenario: Scenario) -> None:
    scenario.create(2)
    before = uids(scenario)
    bad = model_service("other", replicas=1)
    bad["spec"]["model"]["name"] = "missing"
    services = f"{CONCH}/namespaces/{scenario.namespace}/modelservices"
    scenario.client.create(services, bad)

    def told() -> bool:
        return bool(condition(scenario.client.get(f"{services}/other"), "Stalled"))

    scenario.wait(told, "a condition")
    scenario.rest()
    assert uids(scenario) == before
    assert scenario.settled(2)
    scenario.client.delete(f"{services}/other")


# What the API server does


@pytest.mark.parametrize("how", list(Gone))
def test_an_api_server_that_comes_back(scenario: Scenario, how: Gone) -> None:
    scenario.create(1)
    before = uids(scenario)
    with scenario.proxy.gone(how):
        scenario.client.merge(scenario.service, {"spec": {"replicas": 2}})
        # Its lease can't be renewed: it ends by itself rather than act on old knowledge.
        scenario.wait(lambda: not scenario.operator.alive, "the end of it", revive=False)
    scenario.wait(lambda: scenario.settled(2), "2 replicas")
    assert before < uids(scenario)


@pytest.mark.parametrize(
    "answer", [Answer(409), Answer(429, retry_after=1), Answer(500), Answer(503)], ids=str
)
def test_answers_that_pass(scenario: Scenario, answer: Answer) -> None:
    for resource in ("replicasets", "pods", "modelservices", "services"):
        scenario.proxy.add(on(resource, "apply", "patch", "create"), answer, times=2)
    scenario.create(2)


def test_a_deletion_that_no_watch_saw(scenario: Scenario) -> None:
    scenario.create(2)
    late: Any = scenario.proxy.add(on("pods", "watch"), Answer(410))
    scenario.proxy.cut_watches(on("pods"))
    lost = scenario.client.items(scenario.pods)[0]["metadata"]
    scenario.client.delete(f"{scenario.pods}/{lost['name']}")
    scenario.wait(lambda: lost["uid"] not in uids(scenario), "the pod's end")
    scenario.proxy.remove(late)
    scenario.wait(lambda: scenario.settled(2), "2 replicas")
    scenario.scale(1)


def test_watches_whose_version_is_too_old(scenario: Scenario) -> None:
    scenario.create(2)
    rules = [
        scenario.proxy.add(on("pods", "watch"), WatchError(410), times=3),
        scenario.proxy.add(on("replicasets", "watch"), Answer(410), times=1),
    ]
    scenario.proxy.cut_watches()
    scenario.scale(3)
    scenario.wait(lambda: all(rule.taken for rule in rules), "watches that are told so")
    scenario.scale(1)
