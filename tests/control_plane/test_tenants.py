"""Tenants on a real API server: who gets GPUs, who gives them back, and what is told of it.

Real controllers and scheduler; nodes and pods are simulated, and ready at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.control_plane.test_moving import Fewest
from tests.kit.client import Object
from tests.kit.control_plane import Cluster, condition
from tests.kit.fleet import model, model_service, simulated
from tests.kit.operator import Invocation, Operator
from tests.kit.proxy import wait_for

CONCH = "/apis/conch.dev/v1alpha1"
TENANTS = f"{CONCH}/tenants"
GPUS = 4
"""Of each of the two nodes; there are two pools, alike in speed."""
HALF_LIFE_S = 600
PATIENCE_S = 120.0


@dataclass
class Fleet:
    """The cluster, its operator, and the tenants' namespaces."""

    cluster: Cluster
    operator: Operator

    def namespace(self, name: str) -> None:
        """Make a namespace with the model in it."""
        self.cluster.client.create("/api/v1/namespaces", {"metadata": {"name": name}})
        self.cluster.client.create(f"{CONCH}/namespaces/{name}/models", model())

    def tenant(self, name: str, *, namespaces: list[str] | None = None, **spec: Any) -> None:
        """Make or change a Tenant, of the namespace of its name where none is told."""
        self.cluster.client.apply(
            f"{TENANTS}/{name}",
            {
                "apiVersion": "conch.dev/v1alpha1",
                "kind": "Tenant",
                "metadata": {"name": name},
                "spec": {"namespaces": namespaces or [name], **spec},
            },
        )

    def serve(self, namespace: str, replicas: int, *, name: str = "digits", **spec: Any) -> None:
        """Ask for a service of so many replicas."""
        body = model_service(name, replicas=replicas)
        body["spec"] |= spec
        self.cluster.client.create(f"{CONCH}/namespaces/{namespace}/modelservices", body)

    def service(self, namespace: str, name: str = "digits") -> Object:
        return self.cluster.client.get(f"{CONCH}/namespaces/{namespace}/modelservices/{name}")

    def ready(self, namespace: str, name: str = "digits") -> int:
        """Return how many replicas answer."""
        return int((self.service(namespace, name).get("status") or {}).get("readyReplicas", 0))

    def status(self, tenant: str) -> Object:
        found: Object = self.cluster.client.get(f"{TENANTS}/{tenant}").get("status") or {}
        return found

    def wait(self, namespace: str, replicas: int, name: str = "digits") -> None:
        wait_for(
            lambda: self.ready(namespace, name) == replicas,
            f"{replicas} replicas of {namespace}/{name}, which has {self.ready(namespace, name)}",
            timeout=PATIENCE_S,
        )

    def pods(self, namespace: str) -> set[str]:
        found = self.cluster.client.items(f"/api/v1/namespaces/{namespace}/pods")
        return {p["metadata"]["uid"] for p in found}

    def clear(self) -> None:
        """Remove all tenants and their namespaces."""
        client = self.cluster.client
        for tenant in client.items(TENANTS):
            client.delete(f"{TENANTS}/{tenant['metadata']['name']}")
        for service in client.items(f"{CONCH}/modelservices"):
            meta = service["metadata"]
            path = f"{CONCH}/namespaces/{meta['namespace']}/modelservices/{meta['name']}"
            client.delete(path)
        wait_for(lambda: not client.items("/api/v1/pods"), "no pod left", timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("tenants")
    with simulated(directory, gpus=GPUS) as cluster:
        options = ("--usage-half-life", str(HALF_LIFE_S), "--relist-seconds", "5")
        invocation = Invocation(cluster.kubeconfig, directory / "operator.log", options=options)
        with Operator(invocation, cluster.client) as operator:
            yield Fleet(cluster, operator)


@pytest.fixture
def fleet(running: Fleet) -> Iterator[Fleet]:
    yield running
    running.clear()


def test_idle_gpus_are_anyones_until_their_owner_wakes(fleet: Fleet) -> None:
    for name in ("a", "b"):
        fleet.namespace(name)
        fleet.tenant(name)
    fleet.serve("a", 8)
    fleet.wait("a", 8)
    fleet.serve("b", 8)
    # Usage is young against the half-life, so that weights decide: half each.
    fleet.wait("b", 4)
    fleet.wait("a", 4)
    told = condition(fleet.service("b"), "Admitted")
    assert (told["status"], told["reason"]) == ("False", "AwaitingShare")
    assert "tenant b" in told["message"]

    wait_for(lambda: fleet.status("b").get("allocated") == 4, "b's account", timeout=PATIENCE_S)
    assert fleet.status("b")["waiting"] == 4
    assert fleet.status("b")["waitingSince"]
    assert fleet.status("a")["share"] == pytest.approx(1.0, abs=0.3)
    assert condition({"status": fleet.status("a")}, "Ready")["status"] == "True"

    before = fleet.pods("a") | fleet.pods("b")
    record = fleet.status("a")["record"]
    fleet.operator.kill()
    fleet.operator.start()
    ticks = fleet.operator.ticks
    wait_for(lambda: fleet.operator.ticks > ticks + 5, "some ticks", timeout=PATIENCE_S)
    assert fleet.pods("a") | fleet.pods("b") == before
    assert fleet.status("a")["record"] == record, "a restart forgets or adds usage"


def test_a_quota_is_there_at_once_and_nobody_falls_below_it(fleet: Fleet) -> None:
    for name in ("rich", "owner"):
        fleet.namespace(name)
    fleet.tenant("rich", weight=10)
    fleet.tenant("owner", quota={"NVIDIA-A100": 2})
    fleet.serve("rich", 8)
    fleet.wait("rich", 8)
    fleet.serve("owner", 3, placement={"accelerators": ["NVIDIA-A100"]})
    fleet.wait("owner", 2)
    fleet.wait("rich", 6)
    told = condition(fleet.service("owner"), "Admitted")
    assert told["reason"] == "AwaitingShare"


def test_who_has_another_place_moves_there_before_its_own_is_taken(fleet: Fleet) -> None:
    for name in ("lodger", "landlord"):
        fleet.namespace(name)
    fleet.tenant("lodger")
    fleet.tenant("landlord", quota={"NVIDIA-A100": 2})
    fleet.serve("lodger", 4, placement={"pools": ["a100", "t4"]})
    fleet.wait("lodger", 4)
    fewest = Fewest(fleet.cluster.client.items("/api/v1/namespaces/lodger/pods"))
    with fleet.cluster.client.watching("/api/v1/namespaces/lodger/pods", fewest.see):
        fleet.serve("landlord", 2, placement={"accelerators": ["NVIDIA-A100"]})
        fleet.wait("landlord", 2)
        fleet.wait("lodger", 4)
    assert fewest.count == 4, "it had another place all the time"
    moves = fleet.cluster.client.items(f"{CONCH}/namespaces/lodger/modelmigrations")
    assert {m["spec"]["reason"] for m in moves} == {"Reclaim"}
    assert {m["status"]["phase"] for m in moves} == {"Done"}


def test_a_limit_is_kept_and_told(fleet: Fleet) -> None:
    fleet.namespace("small")
    fleet.tenant("small", limit={"NVIDIA-A100": 1, "Tesla-T4": 1})
    fleet.serve("small", 5)
    fleet.wait("small", 2)
    told = condition(fleet.service("small"), "Admitted")
    assert (told["status"], told["reason"]) == ("False", "TenantLimit")
    assert "1 of 1 NVIDIA-A100" in told["message"]


def test_a_higher_priority_takes_from_a_lower_one_of_the_same_tenant(fleet: Fleet) -> None:
    fleet.namespace("one")
    fleet.serve("one", 8, name="low", priority=-10)
    fleet.wait("one", 8, "low")
    fleet.serve("one", 3, name="high", priority=10)
    fleet.wait("one", 3, "high")
    fleet.wait("one", 5, "low")


def test_what_tenants_contradict_is_told_and_nothing_stops(fleet: Fleet) -> None:
    fleet.namespace("shared")
    fleet.serve("shared", 1)
    fleet.wait("shared", 1)
    before = fleet.pods("shared")
    fleet.tenant("first", namespaces=["shared"])
    fleet.tenant("second", namespaces=["shared"])
    fleet.tenant("greedy", namespaces=["nowhere"], quota={"NVIDIA-A100": 100})

    def reason(name: str) -> str:
        return str(condition({"status": fleet.status(name)}, "Ready").get("reason"))

    wait_for(lambda: reason("second") == "NamespaceTaken", "a claim refused", timeout=PATIENCE_S)
    wait_for(lambda: reason("greedy") == "QuotaOverCapacity", "a quota told", timeout=PATIENCE_S)
    assert reason("first") == "Accepted"
    pool = f"{CONCH}/gpupools/a100"
    wait_for(
        lambda: (
            condition(fleet.cluster.client.get(pool), "Stalled").get("reason")
            == "QuotasLeaveNoFloor"
        ),
        "a pool without a floor",
        timeout=PATIENCE_S,
    )
    assert fleet.pods("shared") == before


def test_namespaces_of_no_tenant_keep_their_usage_in_a_config_map(fleet: Fleet) -> None:
    fleet.namespace("free")
    fleet.serve("free", 2)
    fleet.wait("free", 2)
    path = "/api/v1/namespaces/conch-system/configmaps/conch-usage"

    def told() -> bool:
        found = fleet.cluster.client.find(path) or {}
        return '"free"' in (found.get("data") or {}).get("records", "")

    wait_for(told, "the record of a namespace", timeout=PATIENCE_S)
    written = fleet.cluster.client.get(path)["metadata"]["resourceVersion"]
    ticks = fleet.operator.ticks
    wait_for(lambda: fleet.operator.ticks > ticks + 8, "some ticks", timeout=PATIENCE_S)
    assert fleet.cluster.client.get(path)["metadata"]["resourceVersion"] == written
