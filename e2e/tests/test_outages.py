"""Parts of the cluster fail: the API server, a kubelet, a whole node, the leading operator.

Real parts of the local cluster are ended here and started again. What it took is printed, and
written to build/bench/outages.json.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from e2e.bench.report import write
from e2e.cluster.cluster import ensure
from e2e.cluster.local import LocalCluster
from e2e.cluster.progress import Reporter, terminal_reporter
from e2e.cluster.settings import Layout
from e2e.install import NAMESPACE, RELEASE, ROOT, Stage
from e2e.kubectl import Tools, condition, wait_for
from e2e.scratch import READY_S, Object, Scratch, adding, python_model, scratch, service, uids
from e2e.traffic import more_answers, steady

pytestmark = pytest.mark.cluster

API_GONE_S = 60.0
BACK_S = 60.0
"""Within so many seconds after the API server's return all is as before."""
LEASE = "conch-operator"
NODE, OTHER = "conch-t4", "conch-a100"
CONTROLLERS = ("kube-controller-manager", "kube-scheduler")


@dataclass
class Outages:
    """The local cluster, to be broken, with two operators on it; and what was measured."""

    stage: Stage
    cluster: LocalCluster
    report: Reporter
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def tools(self) -> Tools:
        return self.stage.tools

    def note(self, name: str, seconds: float) -> None:
        """Keep and print a figure."""
        self.figures[name] = round(seconds, 1)
        print(f"{name}: {seconds:.1f}")

    def mend(self) -> None:
        """Have everything running again."""
        ensure(self.report)

    def leader(self) -> str:
        """Return who holds the lease; empty where nobody does."""
        lease = self.tools.get("lease", LEASE, NAMESPACE) or {}
        return str((lease.get("spec") or {}).get("holderIdentity") or "")


@pytest.fixture(scope="module")
def outages(stage: Stage) -> Iterator[Outages]:
    """The local cluster with two operators; whole again, with one, in the end."""
    if not stage.cluster.local:
        pytest.skip("KUBECONFIG names a cluster whose parts are not ours to break")
    found = Outages(stage, LocalCluster(Layout.default(), stage.cluster.bin), terminal_reporter())
    operators(found, 2)
    try:
        yield found
    finally:
        found.mend()
        operators(found, 1)
        write("outages", found.figures, [])


@pytest.fixture(scope="module")
def spread(outages: Outages) -> Iterator[Scratch]:
    """A service with a replica on each node; each takes more than half of its node's GPUs."""
    with scratch(outages.stage, "e2e-outages") as place:
        place.apply(
            *python_model("add", adding(1), resources={"gpus": 3}),
            service("add", pools=("t4", "a100"), scaling={"minReplicas": 2, "maxReplicas": 2}),
        )
        yield place


@pytest.fixture
def served(outages: Outages, spread: Scratch) -> Iterator[Scratch]:
    """That service, whole before and after."""
    spread.await_ready("add", 2)
    assert nodes_of(spread.pods("add")) == {NODE, OTHER}
    yield spread
    outages.mend()
    # Their GPUs are wanted by what comes next.
    spread.kubectl("delete", "modelservice", "small", "little", "--ignore-not-found")


def test_a_leader_that_dies_is_replaced_by_the_other_operator(
    outages: Outages, served: Scratch
) -> None:
    before = outages.leader()
    pods = uids(served.pods("add"))
    with steady(served, "add", rate=4):
        (process,) = processes_of(pod_of(outages, before))
        os.kill(process, signal.SIGKILL)
        killed = monotonic()
        wait_for("another leader", lambda: outages.leader() != before, timeout=60, every=0.2)
        decided(served)
        outages.note("leader_killed_to_decision_s", monotonic() - killed)
    assert pod_name(outages.leader()) != pod_name(before)
    assert uids(served.pods("add")) == pods


def test_replicas_of_a_silent_node_are_made_again_elsewhere(
    outages: Outages, served: Scratch
) -> None:
    served.apply(*python_model("small", adding(2)), service("small", pools=("t4", "a100")))
    (lost,) = served.await_ready("small")
    assert lost["spec"]["nodeName"] == NODE
    with steady(served, "add", rate=4) as tally:
        kill_part(outages, f"kubelet-{NODE}")
        silent = monotonic()
        wait_for("a silent node", lambda: not ready_node(outages, NODE), timeout=120)
        outages.note("kubelet_killed_to_node_not_ready_s", monotonic() - silent)
        (found,) = wait_for(
            "the replica on the other node",
            lambda: [p for p in served.pods("small", ready=True) if uids([p]) != uids([lost])],
            timeout=120,
        )
        outages.note("kubelet_killed_to_replaced_s", monotonic() - silent)
        assert found["spec"]["nodeName"] == OTHER
        served.await_condition("add", "Admitted", status="False")
        more_answers(tally)

        # The containers went on; now they end too, and with them the node.
        outages.cluster.lose_node(NODE, report=outages.report)
        more_answers(tally, 20)
        # A node that comes back just as Kubernetes evicts may keep its pods or not: not judged.
        wait_for(
            "the eviction of what ran there",
            lambda: not [p for s in ("add", "small") for p in served.pods(s) if on(p) == NODE],
            timeout=60,
        )
        outages.mend()
        returned = monotonic()
        served.await_ready("add", 2)
        assert uids(served.await_ready("small")) == uids([found])
        outages.note("node_back_to_all_ready_s", monotonic() - returned)
        more_answers(tally)
    assert nodes_of(served.pods("add")) == {NODE, OTHER}
    wait_for(
        "the end of what left",
        lambda: not [p for p in served.all("pods") if "deletionTimestamp" in p["metadata"]],
        timeout=60,
    )


def test_a_node_that_is_gone_with_its_pods_is_done_without(
    outages: Outages, served: Scratch
) -> None:
    """As where a cloud takes a machine away: its Node is deleted as soon as it is gone."""
    served.apply(*python_model("little", adding(2)), service("little", pools=("t4", "a100")))
    (lost,) = served.await_ready("little")
    assert lost["spec"]["nodeName"] == NODE
    outages.cluster.lose_node(NODE, report=outages.report)
    outages.tools.kubectl("delete", "node", NODE)
    gone = monotonic()
    (found,) = wait_for(
        "the replica on the other node",
        lambda: [p for p in served.pods("little", ready=True) if uids([p]) != uids([lost])],
        timeout=120,
    )
    outages.note("node_gone_to_replaced_s", monotonic() - gone)
    assert found["spec"]["nodeName"] == OTHER
    with steady(served, "little", rate=4), steady(served, "add", rate=4):
        outages.mend()
        served.await_ready("add", 2)
    assert uids(served.await_ready("little")) == uids([found])


def test_requests_flow_while_the_api_server_is_gone(outages: Outages, served: Scratch) -> None:
    pods = uids(served.pods("add"))
    with steady(served, "add", rate=4) as tally:
        # Killed: one that is told to end takes its own address out of the Service `kubernetes`,
        # and kube-proxy, whose watch waits ever longer, learns of its return after a minute.
        kill_part(outages, "kube-apiserver")
        # Where they elect a leader they end without it, and Kubernetes starts them again. Kept
        # alive, they would not hear of a node for another minute, and take all for lost.
        for part in CONTROLLERS:
            outages.cluster.stop_part(part, report=outages.report)
        sleep(API_GONE_S)
        outages.cluster.start_part("kube-apiserver", report=outages.report)
        back = monotonic()
        for part in CONTROLLERS:
            outages.cluster.start_part(part, report=outages.report)
        decided(served)
        outages.note("api_back_to_decisions_s", monotonic() - back)
        served.await_condition("add", "Ready", status="True", reason="Serving")
        served.await_ready("add", 2)
        outages.note("api_back_to_all_ready_s", monotonic() - back)
        more_answers(tally)
    assert outages.figures["api_back_to_all_ready_s"] < BACK_S
    assert uids(served.pods("add")) == pods
    # They look for the API server ever more rarely, up to a minute apart: started anew, kubelets
    # know new pods and kube-proxy new Services at once.
    for part in ("kube-proxy", f"kubelet-{NODE}", f"kubelet-{OTHER}"):
        kill_part(outages, part)


def operators(outages: Outages, count: int) -> None:
    """Have so many operators; return once they run and one of them leads."""
    outages.tools.helm(
        *("upgrade", RELEASE, str(ROOT / "charts" / "conch"), "--namespace", NAMESPACE),
        *("--reuse-values", "--set", f"replicas={count}", "--skip-crds", "--wait"),
    )
    wait_for(
        "operators, one in the lead",
        lambda: len(operator_pods(outages)) == count and leading(outages),
        timeout=READY_S,
    )


def operator_pods(outages: Outages) -> list[Object]:
    return outages.tools.list("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=conch")


def leading(outages: Outages) -> list[Object]:
    """Return the operator's pod that leads; empty while none does."""
    name = pod_name(outages.leader())
    return [p for p in operator_pods(outages) if p["metadata"]["name"] == name]


def pod_name(identity: str) -> str:
    """Return the pod's name in an operator's identity."""
    return identity.rpartition("-")[0]


def pod_of(outages: Outages, identity: str) -> Object:
    name = pod_name(identity)
    return next(p for p in operator_pods(outages) if p["metadata"]["name"] == name)


def processes_of(pod: Object) -> list[int]:
    """Return the PIDs, on this machine, of an operator's pod."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
            groups = (path / "cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if pod["metadata"]["uid"] in groups and b"conch\0run" in words:
            found.append(int(path.name))
    return found


def kill_part(outages: Outages, name: str) -> None:
    """Kill a part of the cluster, as a crash does."""
    (pid,) = (p.pid for p in outages.cluster.state().parts if p.name == name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def ready_node(outages: Outages, name: str) -> bool:
    return bool(condition(outages.tools.get("node", name), "Ready").get("status") == "True")


def nodes_of(pods: list[Object]) -> set[str | None]:
    return {on(p) for p in pods}


def on(pod: Object) -> str | None:
    """Return the node of a pod; None while it has none."""
    name: str | None = pod["spec"].get("nodeName")
    return name


def decided(place: Scratch) -> None:
    """Wait until an operator has decided on the fleet: it judges a service made just now."""
    name = f"judged-{monotonic():.0f}"
    wished: Any = service(name, of="no-such-model")
    wait_for("an API server that takes writes", lambda: applied(place, wished), timeout=60)
    place.await_condition(name, "Ready", status="False", reason="ModelNotFound")
    place.kubectl("delete", "modelservice", name)


def applied(place: Scratch, body: Object) -> bool:
    place.apply(body)
    return True
