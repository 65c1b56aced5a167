"""Watches and lists that the API server ends midway: the operator's process goes on, and misses nothing.

Real API server, controllers and scheduler; nodes and pods are simulated.
"""

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conch.clients.cluster import GONE, LIST_TRIES, ClusterError
from conch.clients.cluster import Cluster as Connection
from e2e.cluster.ports import free_ports
from tests.kit.apicalls import Call
from tests.kit.control_plane import Cluster
from tests.kit.faults import Answer, Pages, on
from tests.kit.operator import Invocation, Operator
from tests.kit.proxy import FaultProxy, wait_for
from tests.kit.scenario import Scenario
from tests.kit.sweep import Lane


@pytest.fixture
def three(cluster: Cluster, namespace: str) -> set[str]:
    """The names of three Services, the only ones of the namespace."""
    names = {"a", "b", "c"}
    for name in names:
        body = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}
        cluster.client.create(f"/api/v1/namespaces/{namespace}/services", body)
    return names


@dataclass(frozen=True)
class Alone:
    """An operator that lists again only when it has a reason to, and where it says that it lives."""

    scenario: Scenario
    health: str


@pytest.fixture
def alone(simulated_lane: Lane, tmp_path: Path) -> Iterator[Alone]:
    """A namespace without a service, whose operator is no other test's."""
    simulated_lane.operator.kill()
    cluster = simulated_lane.cluster
    health = f"http://127.0.0.1:{free_ports(1)[0]}/healthz"
    with FaultProxy.before(cluster.kubeconfig) as proxy:
        kubeconfig = proxy.write_kubeconfig(tmp_path / "operator.kubeconfig")
        options = ("--relist-seconds", "3600", "--health-address", health)
        invocation = Invocation(kubeconfig, tmp_path / "operator.log", options)
        with Operator(invocation, cluster.client) as operator:
            scenario = Scenario(cluster.client, proxy, operator, cluster.new_namespace())
            yield Alone(scenario, health)
    simulated_lane.operator.start()
    cluster.client.delete(scenario.service)


def further_pages(call: Call) -> bool:
    """Match further pages of lists of pods."""
    return call.resource == "pods" and call.continues


async def test_a_list_that_expires_midway_is_read_again(
    proxy: FaultProxy, through: Connection, namespace: str, three: set[str]
) -> None:
    proxy.add(lambda c: c.continues, Answer(GONE), times=LIST_TRIES - 1)
    proxy.add(on("services", "list"), Pages(1))
    listed = await through.list("Service", namespace=namespace)
    assert sorted(s["metadata"]["name"] for s in listed) == sorted(three)


async def test_a_list_that_expires_time_and_again_is_an_error(
    proxy: FaultProxy, through: Connection, namespace: str, three: set[str]
) -> None:
    assert three
    proxy.add(lambda c: c.continues, Answer(GONE))
    proxy.add(on("services", "list"), Pages(1))
    with pytest.raises(ClusterError, match="made by the fault proxy") as error:
        await through.list("Service", namespace=namespace)
    assert error.value.status == GONE
    assert len([c for c in proxy.calls if c.continues]) == LIST_TRIES


def test_watches_that_end_begin_anew_and_nothing_is_missed(alone: Alone) -> None:
    scenario, operator = alone.scenario, alone.scenario.operator
    scenario.create(2)
    lost = scenario.client.items(scenario.pods)[0]["metadata"]
    # The list that tells what was missed expires midway, too.
    expired = scenario.proxy.add(further_pages, Answer(GONE), times=LIST_TRIES - 1)
    scenario.proxy.add(on("pods", "list"), Pages(1))
    blind = on("pods", "watch")
    ended = scenario.proxy.add(blind, Answer(GONE), times=1)
    scenario.proxy.cut_watches(blind)
    wait_for(lambda: ended.taken, "a watch that gets an answer it can't bear")

    scenario.client.delete(f"{scenario.pods}/{lost['name']}", grace_seconds=0)
    scenario.client.merge(scenario.service, {"spec": {"replicas": 3}})
    scenario.wait(lambda: scenario.settled(3), "3 replicas, and none that is gone", revive=False)
    assert "watches ended and begin anew in 1 s" in operator.tail(200)
    assert expired.taken == LIST_TRIES - 1

    # It is the same process, watches again, says that it lives, and hears signals.
    scenario.client.merge(scenario.service, {"spec": {"replicas": 1}})
    scenario.wait(lambda: scenario.settled(1), "1 replica", revive=False)
    assert operator.starts == 1
    with urllib.request.urlopen(alone.health, timeout=5) as answer:
        assert answer.status == 200
    assert operator.stop() == 0
