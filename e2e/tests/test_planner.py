"""The planner of migrations on real kubelets with the real Triton: it moves replicas, and nothing fails."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from conch.clients.clock import SystemClock, iso
from e2e.bench.front_door.door import front_door
from e2e.bench.front_door.load import Load
from e2e.install import NAMESPACE, Stage
from e2e.kubectl import wait_for
from e2e.moves import nodes_of
from e2e.scratch import Object, Scratch, adding, python_model, service
from e2e.tests.test_drain import flow, none_failed

pytestmark = pytest.mark.cluster
SIGN = "KernelDeadlock"
"""Of node-problem-detector, which tells of it by a condition of the node."""
SCALING = {"minReplicas": 1, "maxReplicas": 3, "drainTimeout": "20s"}


@contextmanager
def planner_on(stage: Stage) -> Iterator[None]:
    """Let the planner move replicas while the body runs, as a platform team turns it on."""
    name = next(
        d["metadata"]["name"]
        for d in stage.tools.list("deployments", "-n", NAMESPACE)
        if any("--planner=" in a for a in _arguments(d))
    )
    _plan(stage, name, "on")
    try:
        yield
    finally:
        _plan(stage, name, "propose")


def _arguments(deployment: Object) -> list[str]:
    found: list[str] = deployment["spec"]["template"]["spec"]["containers"][0].get("args") or []
    return found


def _plan(stage: Stage, deployment: str, word: str) -> None:
    live = stage.tools.get("deployment", deployment, NAMESPACE) or {}
    given = [f"--planner={word}" if a.startswith("--planner=") else a for a in _arguments(live)]
    path = "/spec/template/spec/containers/0/args"
    patch = json.dumps([{"op": "replace", "path": path, "value": given}])
    stage.tools.kubectl(
        "-n", NAMESPACE, "patch", f"deployment/{deployment}", "--type=json", "-p", patch
    )
    stage.tools.kubectl(
        "-n",
        NAMESPACE,
        "rollout",
        "status",
        f"deployment/{deployment}",
        "--timeout=120s",
        timeout=130,
    )


@contextmanager
def failing(stage: Stage, node: str) -> Iterator[None]:
    """Have a node show a sign of failing, for two minutes already, while the body runs."""
    since = iso(SystemClock().wall() - 120)
    shown = {
        "type": SIGN,
        "status": "True",
        "reason": "DockerHung",
        "message": "task docker:1 blocked for more than 120 seconds.",
        "lastTransitionTime": since,
        "lastHeartbeatTime": since,
    }
    _condition(stage, node, shown)
    try:
        yield
    finally:
        _condition(stage, node, {"type": SIGN, "$patch": "delete"})


def _condition(stage: Stage, node: str, condition: Object) -> None:
    patch = json.dumps({"status": {"conditions": [condition]}})
    stage.tools.kubectl(
        "patch", "node", node, "--subresource=status", "--type=strategic", "-p", patch
    )


def done(place: Scratch, reason: str) -> Object | None:
    """Return the migration that was made for a reason and is done, if there is one."""
    moves = place.all("modelmigrations")
    those = (m for m in moves if m["spec"].get("reason") == reason)
    return next((m for m in those if (m.get("status") or {}).get("phase") == "Done"), None)


def test_a_node_that_seems_to_fail_is_left_and_come_back_to(place: Scratch, stage: Stage) -> None:
    place.apply(
        *python_model("add", adding(1)),
        service("planned", of="add", pools=("a100", "t4"), replicas=1, scaling=SCALING),
    )
    (first,) = nodes_of(place.await_ready("planned"))
    seen: list[str] = []

    def moves() -> str:
        return json.dumps([m.get("status") for m in place.all("modelmigrations")])

    with (
        planner_on(stage),
        front_door(place) as door,
        Load(*(flow(door, place, "planned", p) for p in ("http", "grpc", "stream"))) as load,
    ):
        load.more_answers(100)
        with failing(stage, first):
            left = wait_for(
                "the move away", lambda: done(place, "NodeFailing"), timeout=120, seen=moves
            )
            load.more_answers(100)
            seen += nodes_of(place.await_ready("planned"))
        # Nobody goes back while that is kept, nor within ten load times.
        place.kubectl("delete", "modelmigration", left["metadata"]["name"])
        back = wait_for(
            "the move back", lambda: done(place, "Accelerator"), timeout=300, seen=moves
        )
        load.more_answers(100)
    none_failed(load.outcomes)
    assert SIGN in left["spec"]["because"]
    assert seen != [first]
    assert nodes_of(place.await_ready("planned")) == {first}, back
