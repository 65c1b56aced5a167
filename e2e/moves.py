"""Replicas and revisions on the move, as people have them move: what is asked for and what is awaited."""

import json
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from e2e.bench.front_door.door import processes
from e2e.install import NAMESPACE, Stage
from e2e.kubectl import wait_for
from e2e.scratch import Object, Scratch, adding, model, python_model

OVER_S = 240.0
FAILS = """\
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        error = pb.TritonError("this version is broken")
        return [pb.InferenceResponse(error=error) for _ in requests]
"""
CRAWLS = "import time\n" + adding(1).replace(
    "        return", "        time.sleep(0.25)\n        return"
)
DRAIN_S = 180
OPERATOR = "conch.dev/operator=on"


def migrated(place: Scratch, name: str, **spec: Any) -> Object:
    """Move a replica; return the migration's status once it is over."""
    body = {
        "apiVersion": "conch.dev/v1alpha1",
        "kind": "ModelMigration",
        "metadata": {"name": name},
        "spec": spec,
    }
    place.apply(body)

    def over() -> Object | None:
        status: Object = place.there("modelmigration", name).get("status") or {}
        return status if status.get("phase") in ("Done", "RolledBack") else None

    found: Object = wait_for(
        f"the end of {name}",
        over,
        timeout=OVER_S,
        seen=lambda: json.dumps(place.there("modelmigration", name).get("status")),
    )
    return found


def last_rollout(place: Scratch, name: str) -> str | None:
    """Return the revision that a service's last rollout was about."""
    told = place.there("modelservice", name).get("status", {}).get("rollout") or {}
    return told.get("revision")


def rolled(place: Scratch, name: str, phases: Iterable[str], *, past: str | None = None) -> Object:
    """Return what a service says of a rollout of another revision than ``past`` in such a phase."""

    def told() -> Object:
        found: Object = place.there("modelservice", name).get("status", {}).get("rollout") or {}
        return found

    def there() -> Object | None:
        now = told()
        return now if now.get("revision") != past and str(now.get("phase")) in phases else None

    found: Object = wait_for(
        f"a rollout that is {' or '.join(phases)}",
        there,
        timeout=OVER_S,
        seen=lambda: json.dumps(told()),
    )
    return found


def use(place: Scratch, name: str, code: str, *, model_name: str = "add") -> None:
    """Have a model read its code from a ConfigMap of that name."""
    place.apply(*python_model(name, code)[:1])
    place.apply(model(model_name, source={"configMap": {"name": name}}))


@contextmanager
def opened_again(stage: Stage, node: str) -> Iterator[None]:
    """Open a node again in the end, whatever happens."""
    try:
        yield
    finally:
        stage.tools.kubectl("uncordon", node)


def drain(stage: Stage, node: str, *words: str, seconds: int = DRAIN_S) -> None:
    """Drain a node as people do. Raises CommandError where it does not go through."""
    common = ("--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={seconds}s")
    stage.tools.kubectl("drain", node, *common, *words, timeout=seconds + 30)


def nodes_of(pods: list[Object]) -> set[str]:
    """Return the nodes that pods are on, of those that have one."""
    return {p["spec"]["nodeName"] for p in pods if p["spec"].get("nodeName")}


def kill_operator(stage: Stage) -> None:
    """Kill the operator's processes, and have another pod at once.

    A container that is begun anew time and again would wait ever longer.
    """
    pods = stage.tools.list("pods", "-n", NAMESPACE, "-l", OPERATOR)
    for pod in pods:
        for number in processes(pod, "conch"):
            os.kill(number, signal.SIGKILL)
        name = pod["metadata"]["name"]
        gone = ("delete", "pod", name, "-n", NAMESPACE, "--grace-period=0", "--force")
        stage.tools.kubectl(*gone, "--ignore-not-found")
