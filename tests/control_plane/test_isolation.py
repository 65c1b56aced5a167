"""Services behind a front door, on a real API server: addresses, and policies that come and go."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conch.api.names import API_VERSION
from tests.control_plane.test_plugin import Fleet
from tests.kit.control_plane import Cluster
from tests.kit.fleet import simulated
from tests.kit.operator import Invocation, Operator
from tests.kit.proxy import wait_for

COMMON = (
    *("--triton-image", "triton.example/triton:1"),
    *("--fetch-image", "conch.example/conch:1"),
    *("--relist-seconds", "1"),
)
DOOR = (
    *("--front-door-url", "http://door.platform.svc"),
    *("--front-door-grpc", "door.platform.svc:8001"),
)
ISOLATED = (*DOOR, "--isolate", "--metrics-namespace", "monitoring")
SERVICES = f"/apis/{API_VERSION}"
POLICIES = "/apis/networking.k8s.io/v1"


@dataclass
class Install:
    """A cluster whose operator is started anew with other options."""

    cluster: Cluster
    directory: Path
    operators: list[Operator] = field(default_factory=list)

    def runs(self, *options: str) -> Fleet:
        """Return the fleet once an operator with these options, and no other, has decided."""
        self.end()
        log = self.directory / "operator.log"
        invocation = Invocation(self.cluster.kubeconfig, log, (*COMMON, *options))
        self.operators.append(Operator(invocation, self.cluster.client))
        self.operators[-1].start()
        return Fleet(self.cluster, self.operators[-1])

    def end(self) -> None:
        while self.operators:
            self.operators.pop().kill()


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    directory = tmp_path_factory.mktemp("isolation")
    with simulated(directory / "cluster") as cluster:
        there = Install(cluster, directory)
        yield there
        there.end()


@pytest.fixture
def namespace(install: Install) -> Iterator[str]:
    """An empty namespace, whose services are gone afterwards."""
    name = install.cluster.new_namespace()
    yield name
    path = f"{SERVICES}/namespaces/{name}/modelservices"
    for item in install.cluster.client.items(path):
        install.cluster.client.delete(f"{path}/{item['metadata']['name']}")


def policies(fleet: Fleet, namespace: str) -> list[Any]:
    return list(fleet.client.items(f"{POLICIES}/namespaces/{namespace}/networkpolicies"))


def address(fleet: Fleet, namespace: str) -> Callable[[], tuple[str | None, str | None]]:
    """Return what tells the address that the status has."""

    def told() -> tuple[str | None, str | None]:
        status = fleet.client.get(fleet.path(namespace, "digits")).get("status", {})
        return status.get("url"), status.get("grpc")

    return told


def test_policies_and_addresses_follow_the_operators_options(
    install: Install, namespace: str
) -> None:
    fleet = install.runs()
    fleet.serve(namespace, "digits", 1)
    own = (f"http://digits.{namespace}.svc:8000", f"digits.{namespace}.svc:8001")
    assert address(fleet, namespace)() == own
    assert policies(fleet, namespace) == []
    pods = fleet.client.items(f"/api/v1/namespaces/{namespace}/pods")

    fleet = install.runs(*ISOLATED)
    shared = (f"http://door.platform.svc/{namespace}/digits", "door.platform.svc:8001")
    wait_for(lambda: address(fleet, namespace)() == shared, "the front door's address is told")
    wait_for(lambda: policies(fleet, namespace), "the service is isolated")
    (policy,) = policies(fleet, namespace)
    asked, scraped = policy["spec"]["ingress"]
    assert [p["port"] for p in asked["ports"]] == [8000, 8001]
    assert scraped["from"][0]["namespaceSelector"]["matchExpressions"][0]["values"] == [
        "monitoring"
    ]

    path = f"{POLICIES}/namespaces/{namespace}/networkpolicies/digits"
    fleet.client.merge(path, {"spec": {"ingress": [{}]}})
    wait_for(
        lambda: fleet.client.get(path)["spec"] == policy["spec"], "what was opened is shut again"
    )
    fleet.client.delete(path)
    wait_for(lambda: policies(fleet, namespace), "what was deleted is there again")

    fleet = install.runs(*DOOR, "--front-door-domain", "models.example.com")
    wait_for(lambda: not policies(fleet, namespace), "the service is isolated no longer")
    hosts = (
        f"http://digits.{namespace}.models.example.com",
        f"digits.{namespace}.models.example.com:8001",
    )
    wait_for(lambda: address(fleet, namespace)() == hosts, "its own host is told")
    # Nothing of this touched what runs.
    after = fleet.client.items(f"/api/v1/namespaces/{namespace}/pods")
    assert [p["metadata"]["uid"] for p in after] == [p["metadata"]["uid"] for p in pods]


def test_at_rest_a_policy_costs_no_write(install: Install, namespace: str) -> None:
    fleet = install.runs(*ISOLATED)
    fleet.serve(namespace, "digits", 1)
    wait_for(lambda: policies(fleet, namespace), "the service is isolated")
    (before,) = policies(fleet, namespace)
    seen = fleet.operator.ticks
    wait_for(lambda: fleet.operator.ticks > seen + 6, "it has decided again and again")
    (after,) = policies(fleet, namespace)
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_a_policy_goes_with_its_service(install: Install, namespace: str) -> None:
    fleet = install.runs(*ISOLATED)
    fleet.serve(namespace, "digits", 1)
    wait_for(lambda: policies(fleet, namespace), "the service is isolated")
    fleet.client.delete(fleet.path(namespace, "digits"))
    wait_for(lambda: not policies(fleet, namespace), "the policy is collected", timeout=60)


def test_who_is_detached_may_be_reached(install: Install, namespace: str) -> None:
    fleet = install.runs(*ISOLATED)
    fleet.serve(namespace, "digits", 1)
    wait_for(lambda: policies(fleet, namespace), "the service is isolated")
    foreign = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "own", "labels": {"conch.dev/service": "digits"}},
        "spec": {"podSelector": {}},
    }
    fleet.client.create(f"{POLICIES}/namespaces/{namespace}/networkpolicies", foreign)
    said = fleet.ok("detach", "digits", "-n", namespace, "--yes")
    assert "NetworkPolicy digits: deleted: everybody may reach the pods" in said
    assert [p["metadata"]["name"] for p in policies(fleet, namespace)] == ["own"]
    assert "nothing is left to detach" in fleet.ok("detach", "digits", "-n", namespace, "--yes")
