"""The planner moves replicas where that is worth it, says so, and leaves the others alone.

Real API server, controllers and scheduler; nodes and pods are simulated.
"""

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conch.api.names import ANNOTATION_DISTURBED
from conch.clients.clock import SystemClock, iso
from tests.kit.client import Object
from tests.kit.control_plane import ROOT, Cluster
from tests.kit.fleet import POOLS, model, model_service, node, simulated
from tests.kit.operator import Invocation, Operator
from tests.kit.prometheus import FakePrometheus
from tests.kit.proxy import wait_for
from tests.kit.scenario import in_use

CONCH = "/apis/conch.dev/v1alpha1"
ONE, OTHER = "node-a100", "node-a100-two"
PATIENCE_S = 90.0


class Fleet:
    """Two nodes of three GPUs, and an operator whose planner may move or only propose."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster, self.client, self._directory = cluster, cluster.client, directory
        self.namespace = cluster.new_namespace()

    def operator(self, planner: str, *more: str) -> Operator:
        log = self._directory / f"operator-{planner}.log"
        options = ("--planner", planner, "--relist-seconds", "5", *more)
        self.invocation = Invocation(self.cluster.kubeconfig, log, options)
        return Operator(self.invocation, self.client)

    def serve(
        self, name: str, *, gpus: int, replicas: int = 1, pool: str = "a100", **spec: Any
    ) -> None:
        made = model()
        made["metadata"]["name"] = name
        made["spec"]["variants"][0]["resources"] = {"gpus": gpus}
        self.client.create(f"{CONCH}/namespaces/{self.namespace}/models", made)
        service = model_service(name, replicas=replicas)
        service["spec"] |= {"model": {"name": name}, "placement": {"pools": [pool]}, **spec}
        self.client.create(f"{CONCH}/namespaces/{self.namespace}/modelservices", service)

    def nodes(self, service: str) -> list[str]:
        """The nodes of a service's pods that have one."""
        return sorted(node for _, node in self.placed(service))

    def placed(self, service: str) -> list[tuple[Object, str]]:
        """A service's pods that have a node, with that."""
        query = f"?labelSelector=conch.dev/service={service}"
        pods = self.client.items(f"/api/v1/namespaces/{self.namespace}/pods{query}")
        alive = (p for p in pods if "deletionTimestamp" not in p["metadata"])
        return [(p, p["spec"]["nodeName"]) for p in alive if p["spec"].get("nodeName")]

    def cordon(self, name: str, *, cordoned: bool = True) -> None:
        self.client.merge(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": cordoned or None}})

    def sign(self, *names: str, status: str = "True", ago: float = 120.0) -> None:
        """Let nodes say by a condition, for so many seconds, that something is wrong with them."""
        now = SystemClock().wall()
        for name in names:
            told = {
                "type": "KernelDeadlock",
                "status": status,
                "reason": "DockerHung",
                "message": "task docker:7 blocked for more than 300 seconds",
                "lastTransitionTime": iso(math.floor(now - ago)),
                "lastHeartbeatTime": iso(math.floor(now)),
            }
            conditions = self.client.get(f"/api/v1/nodes/{name}")["status"]["conditions"]
            others = [c for c in conditions if c["type"] != "KernelDeadlock"]
            body = {"status": {"conditions": [*others, told]}}
            self.client.merge(f"/api/v1/nodes/{name}/status", body)

    def moves(self) -> list[Object]:
        return self.client.items(f"{CONCH}/namespaces/{self.namespace}/modelmigrations")

    def phases(self) -> list[str | None]:
        """How far each migration has come."""
        return [m.get("status", {}).get("phase") for m in self.moves()]

    def plan(self) -> Any:
        """What kubectl conch plan says."""
        done = subprocess.run(
            [sys.executable, "-m", "conch.cli.plugin", "plan", "-o", "json"],
            env={
                "PYTHONPATH": str(ROOT / "operator"),
                "PATH": "/usr/bin:/bin",
                "HOME": "/nonexistent",
                "KUBECONFIG": str(self.cluster.kubeconfig),
                "CONCH_OPERATOR_URL": f"http://127.0.0.1:{self.invocation.metrics_port}",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return json.loads(done.stdout)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with simulated(tmp_path / "cluster") as cluster:
        cluster.client.create("/api/v1/nodes", node(OTHER, "NVIDIA-A100", gpus=3))
        yield Fleet(cluster, tmp_path)


def spread(fleet: Fleet) -> None:
    """Have one small replica on each node."""
    fleet.cordon(OTHER)
    fleet.serve("first", gpus=1)
    wait_for(lambda: fleet.nodes("first") == [ONE], "the first")
    fleet.serve("filler", gpus=2)
    wait_for(lambda: fleet.nodes("filler") == [ONE], "the filler")
    fleet.cordon(OTHER, cordoned=False)
    fleet.serve("second", gpus=1)
    wait_for(lambda: fleet.nodes("second") == [OTHER], "the second")
    fleet.client.delete(f"{CONCH}/namespaces/{fleet.namespace}/modelservices/filler")
    wait_for(lambda: not fleet.nodes("filler"), "the filler is gone")


def test_a_small_one_moves_so_that_a_big_one_fits(fleet: Fleet) -> None:
    with fleet.operator("on"):
        spread(fleet)
        fleet.serve("big", gpus=3)
        wait_for(
            lambda: len(fleet.nodes("big")) == 1, "a place for the big one", timeout=PATIENCE_S
        )
        wait_for(lambda: len(fleet.nodes("first") + fleet.nodes("second")) == 2, "the small ones")
        assert fleet.nodes("first") == fleet.nodes("second")
        (move,) = fleet.moves()
        assert move["spec"]["reason"] == "Defragmentation"
        assert "big" in move["spec"]["because"]
        assert move["status"]["phase"] == "Done"


def test_what_is_only_proposed_is_told_and_not_done(fleet: Fleet) -> None:
    with fleet.operator("propose"):
        spread(fleet)
        fleet.serve("big", gpus=3)
        wait_for(lambda: fleet.plan()["moves"], "a proposal", timeout=PATIENCE_S)
        (move,) = fleet.plan()["moves"]
        assert move["reason"] == "Defragmentation"
        assert {move["from"], move["to"]} == {ONE, OTHER}
        assert fleet.moves() == []
        assert fleet.nodes("big") == []


def test_at_rest_nothing_moves(fleet: Fleet) -> None:
    with fleet.operator("on"):
        spread(fleet)
        wait_for(lambda: fleet.plan()["at"], "that it has looked", timeout=PATIENCE_S)
        first = fleet.plan()["at"]
        wait_for(lambda: fleet.plan()["at"] > first, "that it has looked again", timeout=PATIENCE_S)
        assert fleet.moves() == []


def looked_again(fleet: Fleet, before: str) -> None:
    wait_for(lambda: fleet.plan()["at"] != before, "another look", timeout=PATIENCE_S)


def looks(fleet: Fleet, times: int = 2) -> None:
    """Wait until the planner has looked so many times more."""
    for _ in range(times):
        looked_again(fleet, fleet.plan()["at"])


def test_a_replica_leaves_a_node_that_shows_signs_of_failing(fleet: Fleet) -> None:
    with fleet.operator("on"):
        fleet.cordon(OTHER)
        fleet.serve("s", gpus=1)
        pods = f"/api/v1/namespaces/{fleet.namespace}/pods"
        wait_for(lambda: [in_use(p) for p in fleet.client.items(pods)] == [True], "the replica")
        fleet.cordon(OTHER, cordoned=False)
        known = {p["metadata"]["uid"]: True for p in fleet.client.items(pods)}
        fewest = [1]

        def see(event: str, pod: Object) -> None:
            gone = event == "DELETED" or "deletionTimestamp" in pod["metadata"]
            known[pod["metadata"]["uid"]] = in_use(pod) and not gone
            fewest.append(sum(known.values()))

        with fleet.client.watching(pods, see):
            fleet.sign(ONE, ago=0)
            looks(fleet)
            (why,) = fleet.plan()["refused"]
            assert why["refused"] == "Doubtful"
            assert f"{ONE} has shown KernelDeadlock for" in why["because"]
            assert fleet.moves() == []
            fleet.sign(ONE)
            wait_for(lambda: fleet.nodes("s") == [OTHER], "that it leaves", timeout=PATIENCE_S)
        assert min(fewest) == 1
        (move,) = fleet.moves()
        assert move["spec"]["reason"] == "NodeFailing"
        assert "KernelDeadlock (DockerHung: task docker:7 blocked" in move["spec"]["because"]
        fleet.serve("next", gpus=1)
        wait_for(lambda: fleet.nodes("next") == [OTHER], "that new ones shun the node")
        # Two and one: for the spread of nobody is it worth it, and nobody is to go back.
        fleet.sign(ONE, status="False", ago=0)
        looks(fleet)
        assert fleet.nodes("s") == [OTHER]
        assert len(fleet.moves()) == 1


def test_where_all_nodes_show_it_none_is_left_and_replicas_still_find_places(fleet: Fleet) -> None:
    with fleet.operator("on"):
        fleet.serve("s", gpus=1)
        wait_for(lambda: len(fleet.nodes("s")) == 1, "the replica")
        where = fleet.nodes("s")
        fleet.sign(ONE, OTHER)
        wait_for(lambda: fleet.plan()["refused"], "that it says why", timeout=PATIENCE_S)
        (why,) = fleet.plan()["refused"]
        assert (why["reason"], why["refused"]) == ("NodeFailing", "Doubtful")
        assert "2 of 2 nodes of pool a100 show KernelDeadlock" in why["because"]
        fleet.serve("next", gpus=2, replicas=2)
        wait_for(lambda: len(fleet.nodes("next")) == 2, "places for new ones")
        assert fleet.moves() == []
        assert fleet.nodes("s") == where


def test_in_an_elastic_pool_the_scheduler_keeps_off_such_nodes(fleet: Fleet) -> None:
    fleet.client.merge(f"{CONCH}/gpupools/a100", {"spec": {"elastic": True}})
    with fleet.operator("on"):
        fleet.serve("s", gpus=1)
        wait_for(lambda: len(fleet.nodes("s")) == 1, "the replica")
        (left,) = fleet.nodes("s")
        (other,) = {ONE, OTHER} - {left}
        # By itself the scheduler prefers the node of which less is asked for.
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "80"}}}
        busy = {
            "metadata": {"name": "busy"},
            "spec": {"nodeName": other, "containers": [container]},
        }
        fleet.client.create(f"/api/v1/namespaces/{fleet.namespace}/pods", busy)
        fleet.sign(left)
        wait_for(lambda: fleet.nodes("s") == [other], "that it leaves", timeout=PATIENCE_S)
        (move,) = fleet.moves()
        assert (move["spec"]["reason"], move["spec"].get("to", {})) == ("NodeFailing", {})


class Noise:
    """Three replicas of a service on nodes of their own in a pool; a busy one is beside one of them."""

    def __init__(self, fleet: Fleet, prometheus: FakePrometheus, pool: str) -> None:
        self.fleet, self.prometheus = fleet, prometheus
        self.name, self.neighbour = f"late-{pool}", f"noisy-{pool}"
        fleet.serve(self.name, gpus=1, replicas=3, pool=pool, objective={"p99": "100ms"})
        wait_for(lambda: len(set(fleet.nodes(self.name))) == 3, f"three nodes of {pool}")
        fleet.serve(self.neighbour, gpus=1, pool=pool)
        wait_for(lambda: len(fleet.nodes(self.neighbour)) == 1, "the neighbour")
        (self.beside,) = fleet.nodes(self.neighbour)
        self.before = fleet.nodes(self.name)
        assert self.beside in self.before, "the tightest fit"
        prometheus.busy |= {self.name: 0.2, self.neighbour: 0.8}
        self.shows(0.05)

    def shows(self, seconds: float) -> None:
        """Let the one beside the neighbour be so slow, and the others meet their objective."""
        for pod, where in self.fleet.placed(self.name):
            slow = where == self.beside
            self.prometheus.p99[pod["metadata"]["name"]] = seconds if slow else 0.05


def test_who_is_late_beside_a_busy_one_goes_to_a_node_without_others(fleet: Fleet) -> None:
    """Who was late in one sample stays, though it has such a neighbour and there is such a node."""
    for pool, n in itertools.product(POOLS, range(3)):
        fleet.client.create("/api/v1/nodes", node(f"node-{pool}-{n}", POOLS[pool], gpus=3))
    with (
        FakePrometheus(fleet.client, fleet.namespace) as prometheus,
        fleet.operator("on", "--prometheus-url", prometheus.url),
    ):
        late, odd = Noise(fleet, prometheus, "a100"), Noise(fleet, prometheus, "t4")
        late.shows(0.18)
        odd.shows(9.0)
        wait_for(lambda: prometheus.replica_looks, "a look at single replicas", timeout=60)
        odd.shows(0.05)
        wait_for(fleet.moves, "a migration", timeout=180)
        wait_for(lambda: late.beside not in fleet.nodes(late.name), "its end", timeout=60)
        wait_for(lambda: fleet.phases() == ["Done"], "that it is done")
        (move,) = fleet.moves()
        assert move["spec"]["reason"] == "Interference"
        because = move["spec"]["because"]
        assert "it is at 1.80 of its objective beside noisy-a100-" in because
        assert "(80% busy); others of it meet theirs" in because
        (new,) = set(fleet.nodes(late.name)) - set(late.before)
        (moved,) = (pod for pod, where in fleet.placed(late.name) if where == new)
        assert moved["metadata"]["annotations"][ANNOTATION_DISTURBED] == "true"
        assert fleet.nodes(odd.name) == odd.before
