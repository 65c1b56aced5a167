"""The planner moves replicas where that is worth it, says so, and leaves the others alone.

Real API server, controllers and scheduler; nodes and pods are simulated.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.client import Object
from tests.kit.control_plane import ROOT, Cluster
from tests.kit.fleet import model, model_service, node, simulated
from tests.kit.operator import Invocation, Operator
from tests.kit.proxy import wait_for

CONCH = "/apis/conch.dev/v1alpha1"
ONE, OTHER = "node-a100", "node-a100-two"
PATIENCE_S = 90.0


class Fleet:
    """Two nodes of three GPUs, and an operator whose planner may move or only propose."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster, self.client, self._directory = cluster, cluster.client, directory
        self.namespace = cluster.new_namespace()

    def operator(self, planner: str) -> Operator:
        log = self._directory / f"operator-{planner}.log"
        options = ("--planner", planner, "--relist-seconds", "5")
        self.invocation = Invocation(self.cluster.kubeconfig, log, options)
        return Operator(self.invocation, self.client)

    def serve(self, name: str, *, gpus: int, replicas: int = 1) -> None:
        made = model()
        made["metadata"]["name"] = name
        made["spec"]["variants"][0]["resources"] = {"gpus": gpus}
        self.client.create(f"{CONCH}/namespaces/{self.namespace}/models", made)
        service = model_service(name, replicas=replicas)
        service["spec"] |= {"model": {"name": name}, "placement": {"pools": ["a100"]}}
        self.client.create(f"{CONCH}/namespaces/{self.namespace}/modelservices", service)

    def nodes(self, service: str) -> list[str]:
        """The nodes of a service's pods that have one."""
        query = f"?labelSelector=conch.dev/service={service}"
        pods = self.client.items(f"/api/v1/namespaces/{self.namespace}/pods{query}")
        alive = (p for p in pods if "deletionTimestamp" not in p["metadata"])
        return sorted(p["spec"]["nodeName"] for p in alive if p["spec"].get("nodeName"))

    def cordon(self, name: str, *, cordoned: bool = True) -> None:
        self.client.merge(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": cordoned or None}})

    def moves(self) -> list[Object]:
        return self.client.items(f"{CONCH}/namespaces/{self.namespace}/modelmigrations")

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
