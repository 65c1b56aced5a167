"""From API objects to facts."""

from typing import Any

import pytest

from conch.api.names import GATE
from conch.provisioning.pin import admission_patch
from conch.reconcile.views import (
    bound_pods,
    node_view,
    pinned_node,
    pod_view,
    quantity,
    replica_set_view,
    requests_of,
)
from tests.unit.reconcile import bodies
from tests.unit.reconcile.bodies import EPOCH_S, GPU

NODES = {"n1"}
NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


def container(*, restart: str | None = None, **amounts: str) -> dict[str, Any]:
    found: dict[str, Any] = {"resources": {"requests": amounts}}
    return {**found, "restartPolicy": restart} if restart else found


class TestRequests:
    """What the scheduler counts."""

    def test_containers_add_up(self) -> None:
        spec = {"containers": [container(cpu="500m"), container(cpu="1", memory="1Gi")]}
        assert requests_of({"spec": spec}) == {"cpu": 1.5, "memory": 2.0**30}

    def test_the_largest_init_container_counts_where_it_is_larger(self) -> None:
        spec = {
            "containers": [container(cpu="1", memory="2")],
            "initContainers": [container(cpu="3"), container(cpu="2", memory="1")],
        }
        assert requests_of({"spec": spec}) == {"cpu": 3.0, "memory": 2.0}

    def test_a_sidecar_adds_up(self) -> None:
        sidecar = container(restart="Always", cpu="2")
        spec = {"containers": [container(cpu="1")], "initContainers": [sidecar]}
        assert requests_of({"spec": spec})["cpu"] == 3.0

    def test_an_init_container_runs_beside_the_sidecars_before_it(self) -> None:
        spec = {
            "containers": [container(cpu="1")],
            "initContainers": [container(restart="Always", cpu="2"), container(cpu="4")],
        }
        assert requests_of({"spec": spec})["cpu"] == 6.0

    def test_a_limit_stands_for_a_request_that_is_not_there(self) -> None:
        limited = {"resources": {"limits": {GPU: "2", "cpu": "4"}, "requests": {"cpu": "1"}}}
        assert requests_of({"spec": {"containers": [limited]}}) == {GPU: 2.0, "cpu": 1.0}

    def test_overhead_is_added(self) -> None:
        spec = {"containers": [container(cpu="1")], "overhead": {"cpu": "250m"}}
        assert requests_of({"spec": spec})["cpu"] == 1.25

    def test_overhead_is_added_to_init_containers_too(self) -> None:
        spec = {
            "containers": [container(cpu="1")],
            "initContainers": [container(cpu="3")],
            "overhead": {"cpu": "1"},
        }
        assert requests_of({"spec": spec})["cpu"] == 4.0

    def test_what_can_not_be_read_counts_as_nothing(self) -> None:
        assert quantity("a lot") == 0.0


class TestNodes:
    def test_what_is_free_is_what_pods_do_not_ask_for(self) -> None:
        found = node_view(
            bodies.node(gpus=4), map(requests_of, [bodies.pod(), bodies.pod("p2", gpus=2)])
        )
        free = found.free(GPU)
        assert (free.gpus, free.cpu, free.pods) == (1, 62.0, 108)

    def test_pods_that_ended_hold_nothing_and_pods_that_end_do(self) -> None:
        ending = bodies.pod("ending", metadata={"deletionTimestamp": bodies.EPOCH})
        over = [bodies.pod(p, status={"phase": p}) for p in ("Succeeded", "Failed")]
        waiting = bodies.pod("waiting", node=None)
        assert bound_pods([*over, ending, waiting]) == {"n1": [ending]}

    @pytest.mark.parametrize(
        ("fields", "ready", "schedulable"),
        [
            ({}, True, True),
            ({"spec": {"unschedulable": True}}, True, False),
            ({"status": {"conditions": []}}, False, True),
            ({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, False, True),
            ({"metadata": {"deletionTimestamp": bodies.EPOCH}}, False, True),
            ({"spec": {"taints": [NOT_READY]}}, False, True),
            ({"spec": {"taints": [NOT_READY | {"effect": "NoExecute"}]}}, True, True),
        ],
    )
    def test_readiness(self, fields: dict[str, Any], ready: bool, schedulable: bool) -> None:
        found = node_view(bodies.node(**fields), [])
        assert (found.ready, found.schedulable) == (ready, schedulable)

    @pytest.mark.parametrize(
        ("kind", "status", "shown"),
        [
            ("KernelDeadlock", "True", True),
            ("KernelDeadlock", "False", False),
            ("KernelDeadlock", "Unknown", False),
            ("AcceleratedHardwareReady", "False", True),
            ("AcceleratedHardwareReady", "True", False),
            ("AcceleratedHardwareReady", "Unknown", False),
            ("DiskPressure", "True", True),
            ("Ready", "False", False),
            ("OfNobody", "True", False),
            ("OfNobody", "", False),
        ],
    )
    def test_signs_of_failing(self, kind: str, status: str, shown: bool) -> None:
        told = {"type": kind, "status": status, "lastTransitionTime": bodies.EPOCH}
        found = node_view(bodies.node(status={"conditions": [told]}), [])
        assert [s.kind for s in found.signs] == ([kind] if shown else [])
        assert (found.failing is not None) == shown

    def test_a_sign_in_words_and_since_when(self) -> None:
        told = [
            {"type": "XIDErrors", "status": "True", "lastTransitionTime": "soon"},
            {
                "type": "KernelDeadlock",
                "status": "True",
                "reason": "DockerHung",
                "message": "task docker:7\nblocked " + "for more than 300 seconds " * 20,
                "lastTransitionTime": bodies.EPOCH,
            },
        ]
        first, second = node_view(bodies.node(status={"conditions": told}), []).signs
        assert (first.kind, first.since) == ("KernelDeadlock", EPOCH_S)
        assert first.text.startswith("KernelDeadlock (DockerHung: task docker:7 blocked for more")
        assert first.text.endswith("…)")
        assert len(first.text) == len("KernelDeadlock ()") + 120
        assert (second.text, second.since) == ("XIDErrors", None)

    def test_which_conditions_are_signs_is_the_installations(self) -> None:
        told = [{"type": t, "status": "True"} for t in ("KernelDeadlock", "Mine")]
        found = node_view(bodies.node(status={"conditions": told}), [], {"Mine": "True"})
        assert found.failing == "Mine"


class TestPods:
    def test_one_that_answers(self) -> None:
        found = pod_view(bodies.pod(), NODES)
        assert found.ready
        assert found.serving
        assert (found.revision, found.pool, found.node) == ("r1", "a100", "n1")
        assert found.ready_at == EPOCH_S + 20
        assert not any((found.gated, found.deleting, found.lost))

    def test_one_on_a_silent_node_is_stranded_once_it_answers_no_more(self) -> None:
        unready = bodies.pod(status={"conditions": [{"type": "Ready", "status": "False"}]})
        assert pod_view(unready, NODES, {"n1"}).stranded
        assert not pod_view(unready, NODES, {"n2"}).stranded
        assert not pod_view(bodies.pod(), NODES, {"n1"}).stranded

    def test_one_that_waits_for_its_admission(self) -> None:
        found = pod_view(bodies.gated("p"), NODES)
        assert found.gated
        assert found.unschedulable is None
        assert not found.ready

    def test_anothers_gate_is_not_ours(self) -> None:
        waiting = bodies.pod(
            node=None, spec={"schedulingGates": [{"name": "kueue.x-k8s.io/topology"}]}
        )
        assert not pod_view(waiting, NODES).gated

    def test_what_the_scheduler_says(self) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        said = bodies.pod(status={"conditions": [{**condition, "message": "0/2 nodes"}]})
        assert pod_view(said, NODES).unschedulable == "0/2 nodes"
        silent = bodies.pod(status={"conditions": [condition]})
        assert pod_view(silent, NODES).unschedulable

    def test_one_on_a_node_that_is_gone(self) -> None:
        assert pod_view(bodies.pod(node="other"), NODES).lost
        assert not pod_view(bodies.pod(node=None), NODES).lost

    @pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
    def test_one_that_ended_does_not_count(self, phase: str) -> None:
        assert pod_view(bodies.pod(status={"phase": phase}), NODES).deleting

    def test_since_when_it_drains(self) -> None:
        def since(text: str) -> float | None:
            annotated = bodies.pod(metadata={"annotations": {"conch.dev/draining-since": text}})
            return pod_view(annotated, NODES).draining_since

        assert since("2026-01-01T00:01:00Z") == EPOCH_S + 60
        assert since("yesterday") == 0.0
        assert pod_view(bodies.pod(), NODES).draining_since is None

    def test_the_pin_is_read_as_it_is_written(self) -> None:
        body = bodies.pod(node=None, spec={"schedulingGates": [{"name": GATE}]})
        patch = admission_patch(body, "n7")
        assert pinned_node(patch["spec"]) == "n7"
        assert pinned_node(body["spec"]) is None

    def test_a_node_that_is_avoided_is_no_pin(self) -> None:
        body = bodies.pod(node=None, spec={"schedulingGates": [{"name": GATE}]})
        assert pinned_node(admission_patch(body, None, avoid=("n7",))["spec"]) is None

    def test_a_pool_is_no_pin(self) -> None:
        expression = {"key": "gpu", "operator": "In", "values": ["a100"]}
        term = {"matchExpressions": [expression]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        assert pinned_node({"affinity": {"nodeAffinity": required}}) is None


class TestReplicaSets:
    def test_at_rest(self) -> None:
        found = replica_set_view(bodies.replica_set(replicas=3))
        assert (found.replicas, found.gated, found.observed, found.refusal) == (
            3,
            False,
            True,
            None,
        )

    def test_not_seen_by_its_controller(self) -> None:
        assert not replica_set_view(bodies.replica_set(metadata={"generation": 2})).observed
        assert not replica_set_view(bodies.replica_set(status={"observedGeneration": 0})).observed

    def test_gated(self) -> None:
        gates = [{"name": "other"}, {"name": GATE}]
        assert replica_set_view(bodies.replica_set(template={"schedulingGates": gates})).gated

    def test_refused(self) -> None:
        failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
        found = replica_set_view(bodies.replica_set(status={"conditions": [failure]}))
        assert found.refusal == "exceeded quota"
        over = {**failure, "status": "False"}
        assert replica_set_view(bodies.replica_set(status={"conditions": [over]})).refusal is None
