"""``kubectl conch`` as a user runs it, beside the operator, on a real API server.

Controllers (garbage collection among them) and scheduler are real, nodes and pods simulated.
"""

import csv
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from conch.api.names import API_VERSION, GATE, LABEL_MANAGED_BY, LABEL_SERVICE, LABEL_SERVING
from tests.kit.client import Client, Object
from tests.kit.control_plane import ROOT, Cluster, condition
from tests.kit.fleet import model, model_service, simulated
from tests.kit.operator import LEASE_NAMESPACE, Invocation, Operator
from tests.kit.proxy import wait_for

OPTIONS = (
    *("--triton-image", "triton.example/triton:1"),
    *("--fetch-image", "conch.example/conch:1"),
    *("--file-source-prefix", "/var/lib/models"),
    *("--relist-seconds", "2"),
)
VOLUMES = "/api/v1/persistentvolumes"
CONCH = f"/apis/{API_VERSION}"
CHILDREN = {
    "replicasets": "/apis/apps/v1",
    "controllerrevisions": "/apis/apps/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "services": "/api/v1",
    "serviceaccounts": "/api/v1",
    "configmaps": "/api/v1",
    "pods": "/api/v1",
}


@dataclass(frozen=True)
class Fleet:
    """A simulated cluster with a running operator."""

    cluster: Cluster
    operator: Operator

    @property
    def client(self) -> Client:
        return self.cluster.client

    def conch(
        self, *words: str, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "conch.cli.plugin", *words],
            env={
                "PYTHONPATH": str(ROOT / "operator"),
                "PATH": "/usr/bin:/bin",
                "HOME": "/nonexistent",
                "KUBECONFIG": str(kubeconfig or self.cluster.kubeconfig),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def ok(self, *words: str, kubeconfig: Path | None = None) -> str:
        done = self.conch(*words, kubeconfig=kubeconfig)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def path(self, namespace: str, name: str) -> str:
        return f"{CONCH}/namespaces/{namespace}/modelservices/{name}"

    def serve(self, namespace: str, name: str, replicas: int) -> None:
        """Apply a service and return once it has its replicas."""
        self.client.apply(f"{CONCH}/namespaces/{namespace}/models/digits", model())
        self.client.apply(self.path(namespace, name), model_service(name, replicas=replicas))
        self.wait_ready(namespace, name, replicas)

    def wait_ready(self, namespace: str, name: str, replicas: int) -> None:
        path = self.path(namespace, name)
        wait_for(
            lambda: says_ready(self.client.get(path), replicas), f"{name} is ready", timeout=60
        )

    def children(self, namespace: str, service: str) -> dict[str, Object]:
        """Return all that carries the service's label, by kind and name."""
        return {
            f"{plural}/{item['metadata']['name']}": item
            for plural, prefix in CHILDREN.items()
            for item in self.client.items(
                f"{prefix}/namespaces/{namespace}/{plural}?labelSelector={LABEL_SERVICE}={service}"
            )
        }


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("plugin")
    with simulated(directory / "cluster") as cluster:
        invocation = Invocation(cluster.kubeconfig, directory / "operator.log", OPTIONS)
        with Operator(invocation, cluster.client) as operator:
            yield Fleet(cluster, operator)


def on_nodes(fleet: Fleet, namespace: str) -> list[str]:
    """The nodes of a namespace's pods."""
    pods = fleet.client.items(f"/api/v1/namespaces/{namespace}/pods")
    return sorted(p["spec"].get("nodeName", "") for p in pods)


def test_a_replica_is_moved_where_it_is_wanted(fleet: Fleet, namespace: str) -> None:
    fleet.serve(namespace, "digits", 2)
    said = fleet.ok("migrate", "digits", "-n", namespace, "--to", "node-t4", "--because", "a try")
    lines = said.splitlines()
    assert lines[0].startswith("modelmigration.conch.dev/digits-")
    assert lines[-1].startswith("Done: ")
    assert on_nodes(fleet, namespace) == ["node-a100", "node-t4"]
    (move,) = fleet.client.items(f"{CONCH}/namespaces/{namespace}/modelmigrations")
    assert move["spec"]["because"] == "a try"
    assert move["metadata"]["ownerReferences"][0]["name"] == "digits"


def test_a_move_that_can_not_be_is_an_error(fleet: Fleet, namespace: str) -> None:
    fleet.serve(namespace, "digits", 1)
    nowhere = fleet.conch("migrate", "digits", "-n", namespace, "--to", "nowhere")
    assert nowhere.returncode == 1
    assert "no GPUPool and no node 'nowhere'; pools: a100, t4" in nowhere.stderr
    there = fleet.conch("migrate", "digits", "-n", namespace, "--to", "node-a100")
    assert there.returncode == 1
    assert "is on node-a100 already" in there.stderr
    late = fleet.conch("migrate", "digits", "-n", namespace, "--timeout", "soon")
    assert "--timeout: 'soon' is not a duration" in late.stderr


def test_a_node_is_left_before_it_is_drained(fleet: Fleet, namespace: str) -> None:
    fleet.serve(namespace, "digits", 2)
    try:
        said = fleet.ok("drain", "node-a100")
        assert said.splitlines()[0] == "node/node-a100 cordoned"
        assert said.count("has moved") == 2
        assert "for all else: kubectl drain node-a100" in said
        wait_for(lambda: on_nodes(fleet, namespace) == ["node-t4"] * 2, "both moved")
        assert "already cordoned" in fleet.ok("drain", "node-a100")
        assert "not found" in fleet.conch("drain", "node-x").stderr
    finally:
        fleet.client.merge("/api/v1/nodes/node-a100", {"spec": {"unschedulable": None}})


def test_a_new_revision_is_undone_and_that_is_taken_back(fleet: Fleet, namespace: str) -> None:
    def revision() -> str:
        return str(fleet.client.get(fleet.path(namespace, "digits"))["status"]["revision"])

    def rollout(*words: str) -> str:
        return fleet.ok("rollout", *words, "digits", "-n", namespace)

    fleet.serve(namespace, "digits", 1)
    first = revision()
    assert "no other has come since" in rollout("status")
    nothing = fleet.conch("rollout", "undo", "digits", "-n", namespace)
    assert nothing.returncode == 1
    assert "the one before is not kept" in nothing.stderr
    variant = model()["spec"]["variants"][0] | {"parameters": {"again": "yes"}}
    path = f"{CONCH}/namespaces/{namespace}/models/digits"
    fleet.client.merge(path, {"spec": {"variants": [variant]}})
    wait_for(lambda: "Done" in rollout("status"), "the second revision", timeout=60)
    second = revision()
    kept = [line.split()[0] for line in rollout("history").splitlines()[1:]]
    assert kept == [first, second]
    assert f"goes back to revision {first}" in rollout("undo")
    wait_for(lambda: revision() == first, "the first revision", timeout=60)
    wait_for(lambda: "Done" in rollout("status"), "that it is back", timeout=60)
    assert f"revision {second} is asked for, and undone" in rollout("status")
    there = fleet.conch("rollout", "undo", "digits", "-n", namespace, "--to-revision", "1")
    assert "has the traffic already" in there.stderr
    assert f"revision {second}, which is asked for, is to take over again" in rollout("undo")
    wait_for(lambda: revision() == second, "the second revision again", timeout=60)


@pytest.fixture
def namespace(fleet: Fleet) -> Iterator[str]:
    """An empty namespace; its services are gone afterwards, so that the GPUs are free again."""
    name = fleet.cluster.new_namespace()
    yield name
    if not fleet.operator.alive:
        fleet.operator.start()
    for kind in ("modelservices", "replicasets"):
        prefix = CONCH if kind == "modelservices" else "/apis/apps/v1"
        for item in fleet.client.items(f"{prefix}/namespaces/{name}/{kind}"):
            fleet.client.delete(f"{prefix}/namespaces/{name}/{kind}/{item['metadata']['name']}")
    pods = f"/api/v1/namespaces/{name}/pods"
    wait_for(lambda: not fleet.client.items(pods), "the GPUs are free", timeout=60)


def test_explain_a_service_that_is_well(fleet: Fleet, namespace: str) -> None:
    fleet.serve(namespace, "digits", 4)
    text = fleet.ok("explain", "digits", "-n", namespace)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in text
    status = fleet.client.get(fleet.path(namespace, "digits"))["status"]
    for told in status["conditions"]:
        assert f"{told['type']}: {told['status']}  {told['reason']}" in text
    assert status["revision"] in text
    assert "4 answer, 4 placed, 4 wanted" in text
    rows = [line.split() for line in lines]
    assert ["a100", "NVIDIA-A100", "3/3", "0/3", "0", "1", "GPU,", "1", "CPU,", "1", "GiB"] in rows
    assert ["t4", "Tesla-T4", "1/1", "2/3", "2", "1", "GPU,", "1", "CPU,", "1", "GiB"] in rows
    assert sum(row[-1:] == ["serves"] for row in rows) == 4
    assert lines[-2:] == ["What to do", "  - Nothing: all is as wanted."]


def test_explain_names_what_is_short_and_what_to_do(fleet: Fleet, namespace: str) -> None:
    fleet.client.apply(f"{CONCH}/namespaces/{namespace}/models/digits", model())
    body = model_service(replicas=8, minReplicas=8)
    fleet.client.apply(fleet.path(namespace, "digits"), body)
    fleet.wait_ready(namespace, "digits", 6)
    facts = json.loads(fleet.ok("explain", "digits", "-n", namespace, "-o", "json"))
    assert {p["pool"]: (p["freeGpus"], p["room"]) for p in facts["pools"]} == {
        "a100": (0, 0),
        "t4": (0, 0),
    }
    assert all("GPU" in p["says"] for p in facts["pools"])
    assert any(t.startswith("InsufficientCapacity: ") for t in facts["todo"])
    assert (
        yaml.safe_load(fleet.ok("explain", "digits", "-n", namespace, "-o", "yaml"))["ready"] == 6
    )


def test_explain_a_service_without_its_model(fleet: Fleet, namespace: str) -> None:
    path = fleet.path(namespace, "digits")
    fleet.client.apply(path, model_service(replicas=1))
    wait_for(
        lambda: condition(fleet.client.get(path), "Loaded").get("reason") == "ModelNotFound",
        "the missing model is told",
    )
    text = fleet.ok("explain", "digits", "-n", namespace)
    todo = text.partition("What to do")[2]
    assert "Apply it, or correct spec.model" in " ".join(todo.split())


def test_explain_tells_that_no_operator_runs(fleet: Fleet, namespace: str) -> None:
    fleet.serve(namespace, "digits", 1)
    stop_operator(fleet)
    todo = fleet.ok("explain", "digits", "-n", namespace).partition("What to do")[2]
    assert "No operator runs now" in todo


def test_top_and_list(fleet: Fleet, namespace: str) -> None:
    def told() -> dict[str, Object]:
        return {p["pool"]: p for p in json.loads(fleet.ok("top", "-o", "json"))}

    # What others before held may still be on its way out, and would turn replicas elsewhere.
    wait_for(lambda: not any(p["used"] for p in told().values()), "all GPUs to be free")
    fleet.serve(namespace, "digits", 4)
    pools = told()
    assert (pools["a100"]["gpus"], pools["a100"]["used"], pools["a100"]["free"]) == (3, 3, 0)
    (holder,) = pools["t4"]["holders"]
    assert holder["name"] == f"{namespace}/digits"
    assert (holder["service"], holder["pods"], holder["gpus"]) == (True, 1, 1)
    assert f"{namespace}/digits" in fleet.ok("top")
    row = next(r for r in fleet.ok("list", "-A").splitlines() if r.startswith(namespace)).split()
    assert row[1:4] == ["digits", "4/4", "Serving"]
    assert "No ModelServices" in fleet.conch("list", "-n", "default").stderr


def test_top_tenants_for_charge_back(fleet: Fleet, namespace: str) -> None:
    """With the operator stopped, so that nobody else writes status and records."""
    fleet.serve(namespace, "digits", 1)
    wait_for(lambda: held_by(fleet, namespace) == ("NVIDIA-A100", "1"), "it is charged", timeout=60)
    stop_operator(fleet)
    account = {"accelerator": "Tesla-T4", "gpus": 0, "gpuHours": 12, "cost": 6.25}
    record = {"usage": 3, "rate": 0, "asOf": "2020-01-01T00:00:00Z"}
    record["accounts"] = [account | {"costPerHour": 0}]
    path = f"{CONCH}/tenants/charged"
    spec = {"namespaces": ["charged"], "weight": 2}
    head = {"apiVersion": API_VERSION, "kind": "Tenant", "metadata": {"name": "charged"}}
    fleet.client.apply(path, {**head, "spec": spec})
    fleet.client.merge(f"{path}/status", {"status": {"services": 1, "record": record}})
    try:
        done = fleet.conch("top", "tenants", "-o", "csv")
        shown = json.loads(fleet.ok("top", "tenants", "-o", "json"))
    finally:
        fleet.client.delete(path)
    assert done.returncode == 0, done.stderr
    (charged,) = (r for r in csv.DictReader(io.StringIO(done.stdout)) if r["tenant"] == "charged")
    amounts = [charged[n] for n in ("accelerator", "gpus", "gpu_hours", "cost", "cost_per_hour")]
    assert amounts == ["Tesla-T4", "0", "12", "6.25", "0"]
    assert held_by(fleet, namespace) == ("NVIDIA-A100", "1")
    (tenant,) = (t for t in shown if t["tenant"] == "charged")
    assert (tenant["declared"], tenant["weight"], tenant["trend"]) == (True, 2, "steady")
    assert fleet.ok("top", "tenants").startswith("TENANT")
    assert "TENANT" in fleet.ok("top", "gpus")


def held_by(fleet: Fleet, tenant: str) -> tuple[str, str] | None:
    """Return accelerator and number of the GPUs that a tenant is charged for now."""
    rows = csv.DictReader(io.StringIO(fleet.ok("top", "tenants", "-o", "csv")))
    found = [(r["accelerator"], r["gpus"]) for r in rows if r["tenant"] == tenant]
    return found[0] if found else None


def test_a_paused_service_stays_as_it_is(fleet: Fleet, namespace: str) -> None:
    fleet.serve(namespace, "digits", 1)
    path = fleet.path(namespace, "digits")
    assert "paused" in fleet.ok("pause", "digits", "-n", namespace)
    fleet.client.merge(path, {"spec": {"replicas": 3}})

    def seen() -> bool:
        service = fleet.client.get(path)
        generation = service["metadata"]["generation"]
        paused = condition(service, "ScalingActive").get("reason") == "Paused"
        return bool(paused and service["status"]["observedGeneration"] == generation)

    wait_for(seen, "the operator has seen both")
    pods = [k for k in fleet.children(namespace, "digits") if k.startswith("pods/")]
    assert len(pods) == 1
    assert "resumed" in fleet.ok("resume", "digits", "-n", namespace)
    fleet.wait_ready(namespace, "digits", 3)


def test_a_horizontal_pod_autoscaler_is_obeyed_within_the_bounds_and_named(
    fleet: Fleet, namespace: str
) -> None:
    """The real one: without metrics it still sees to its own minReplicas, by /scale."""
    fleet.serve(namespace, "digits", 1)
    path = fleet.path(namespace, "digits")
    fleet.client.merge(path, {"spec": {"scaling": {"maxReplicas": 2}}})
    target = {"apiVersion": API_VERSION, "kind": "ModelService", "name": "digits"}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    metrics = [{"type": "Resource", "resource": cpu}]
    bounds = {"minReplicas": 3, "maxReplicas": 4}
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "digits"},
        "spec": {"scaleTargetRef": target, "metrics": metrics, **bounds},
    }
    autoscalers = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
    fleet.client.create(autoscalers, autoscaler)

    def told() -> str:
        return str(condition(fleet.client.get(path), "ScalingActive").get("message"))

    wait_for(lambda: "asks for 3" in told(), "the autoscaler's wish is told", timeout=60)
    fleet.wait_ready(namespace, "digits", 2)
    message = told()
    assert "the bounds allow 2" in message
    # The API server notes no time of writes through /scale; the Event has it.
    assert "written by kube-controller-manager through /scale" in message
    fleet.client.delete(f"{autoscalers}/digits")
    # Nobody fights: what was written stays.
    assert fleet.client.get(path)["spec"]["replicas"] == 3
    assert message in " ".join(fleet.ok("explain", "digits", "-n", namespace, "-o", "json").split())


def test_detached_replicas_outlive_their_service(fleet: Fleet, namespace: str) -> None:
    fleet.serve(namespace, "digits", 2)
    fleet.serve(namespace, "other", 1)
    before = fleet.children(namespace, "digits")
    assert {k.partition("/")[0] for k in before} == set(CHILDREN)
    said = fleet.ok("detach", "digits", "-n", namespace, "--yes")
    assert said.count("owner reference removed") == len(before) - 2  # all but the pods
    for name in before:
        assert name.partition("/")[2] in said
    assert "nothing is left to detach" in fleet.ok("detach", "digits", "-n", namespace, "--yes")
    again = fleet.conch("resume", "digits", "-n", namespace)
    assert again.returncode == 1
    assert "was detached" in again.stderr

    for name in ("digits", "other"):
        fleet.client.delete(fleet.path(namespace, name))
    # That the other's children go shows that the garbage collector has been there.
    wait_for(lambda: not fleet.children(namespace, "other"), "garbage is collected", timeout=60)
    after = fleet.children(namespace, "digits")
    assert uids(after) == uids(before)
    assert all(in_use(body) for name, body in after.items() if name.startswith("pods/"))
    assert not any(LABEL_MANAGED_BY in body["metadata"]["labels"] for body in after.values())


def test_a_detached_replica_that_is_lost_comes_back(fleet: Fleet, namespace: str) -> None:
    """Also where the operator died while the template was gated."""
    fleet.serve(namespace, "digits", 2)
    stop_operator(fleet)
    sets = f"/apis/apps/v1/namespaces/{namespace}/replicasets"
    (live,) = fleet.client.items(sets)
    gated = {"spec": {"template": {"spec": {"schedulingGates": [{"name": GATE}]}}}}
    fleet.client.merge(f"{sets}/{live['metadata']['name']}", gated)
    first, second = pods_of(fleet, namespace)
    fleet.client.delete(pod_path(first))
    wait_for(lambda: any(is_gated(p) for p in pods_of(fleet, namespace)), "a gated replacement")

    said = fleet.ok("detach", "digits", "-n", namespace, "--yes")
    assert "scheduling gate removed from its template" in said
    assert "scheduling gate lifted" in said
    serving(fleet, namespace, 2)
    fleet.client.delete(pod_path(second))
    gone = second["metadata"]["uid"]
    wait_for(lambda: gone not in pod_uids(fleet, namespace), "the second is gone")
    serving(fleet, namespace, 2)


def test_detach_gives_a_draining_replica_its_traffic_back(fleet: Fleet, namespace: str) -> None:
    fleet.serve(namespace, "digits", 1)
    stop_operator(fleet)
    (pod,) = pods_of(fleet, namespace)
    fleet.client.merge(pod_path(pod), {"metadata": {"labels": {"conch.dev/serving": None}}})
    assert "traffic given back" in fleet.ok("detach", "digits", "-n", namespace, "--yes")
    serving(fleet, namespace, 1)


def test_volumes_of_a_detached_service_stay(fleet: Fleet, namespace: str) -> None:
    """The operator deletes PersistentVolumes whose service is gone, since nothing can own them."""
    body = model()
    body["spec"]["variants"][0]["source"] = {"uri": "file:///var/lib/models/digits"}
    fleet.client.apply(f"{CONCH}/namespaces/{namespace}/models/digits", body)
    for name in ("digits", "other"):
        fleet.client.apply(fleet.path(namespace, name), model_service(name, replicas=0))
        wait_for(partial(volumes, fleet, namespace, name), "its volume is there")
    said = fleet.ok("detach", "digits", "-n", namespace, "--yes")
    (kept,) = volumes(fleet, namespace, "digits")
    assert f"PersistentVolume {kept['metadata']['name']}: label managed-by removed" in said
    for name in ("digits", "other"):
        fleet.client.delete(fleet.path(namespace, name))

    def swept() -> bool:
        return all("deletionTimestamp" in v["metadata"] for v in volumes(fleet, namespace, "other"))

    wait_for(swept, "the other's volume is deleted")
    (still,) = volumes(fleet, namespace, "digits")
    assert still["metadata"]["uid"] == kept["metadata"]["uid"]
    assert "deletionTimestamp" not in still["metadata"]
    fleet.client.delete(f"{VOLUMES}/{kept['metadata']['name']}")


def test_detach_asks_first(fleet: Fleet, namespace: str) -> None:
    fleet.serve(namespace, "digits", 1)
    asked = fleet.conch("detach", "digits", "-n", namespace)
    assert asked.returncode == 1
    assert "can't be taken back" in asked.stderr
    service = fleet.client.get(fleet.path(namespace, "digits"))
    assert "annotations" not in service["metadata"]


def test_a_user_of_one_namespace_gets_what_may_be_read(
    fleet: Fleet, namespace: str, tmp_path: Path
) -> None:
    fleet.serve(namespace, "digits", 1)
    kubeconfig = limited_user(fleet, namespace, tmp_path)
    facts = json.loads(
        fleet.ok("explain", "digits", "-n", namespace, "-o", "json", kubeconfig=kubeconfig)
    )
    assert [p["state"] for p in facts["pods"]] == ["serves"]
    assert facts["operator"].startswith("unknown")
    assert any("Node" in note for note in facts["notes"])
    # In its context the namespace need not be named.
    assert "digits" in fleet.ok("list", kubeconfig=kubeconfig)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("explain", "nope"), 1, "modelservice 'nope' not found in namespace 'default'"),
        (("explain",), 2, "Missing argument"),
        (("frobnicate",), 2, "No such command"),
        (("top", "--kubeconfig", "/nowhere"), 1, "kubeconfig can't be used"),
        (("top", "--context", "nowhere"), 1, "kubeconfig can't be used"),
    ],
)
def test_errors_are_for_people(
    fleet: Fleet, words: tuple[str, ...], status: int, told: str
) -> None:
    done = fleet.conch(*words)
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_cluster_without_conch_is_told(cluster_without_conch: Callable[[], str]) -> None:
    assert "apply crds/ first" in cluster_without_conch()


@pytest.fixture
def cluster_without_conch(fleet: Fleet, tmp_path: Path) -> Callable[[], str]:
    """Run a command against a server that knows no path."""
    import http.server

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"kind":"Status","message":"the server could not find the resource"}'
            self.send_response(404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    def ask() -> str:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            path = tmp_path / "kubeconfig"
            path.write_text(kubeconfig_of(f"http://127.0.0.1:{server.server_port}", {}, {}))
            done = fleet.conch("list", kubeconfig=path)
            server.shutdown()
        assert done.returncode == 1
        return done.stderr

    return ask


def volumes(fleet: Fleet, namespace: str, service: str) -> list[Object]:
    selector = f"conch.dev/namespace={namespace},{LABEL_SERVICE}={service}"
    return fleet.client.items(f"{VOLUMES}?labelSelector={selector}")


def stop_operator(fleet: Fleet) -> None:
    """Stop the operator for good: its lease is given back."""
    assert fleet.operator.stop() == 0
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{LEASE_NAMESPACE}/leases"
    assert not any(lease["spec"].get("holderIdentity") for lease in fleet.client.items(leases))


def says_ready(service: Object, replicas: int) -> bool:
    """Tell whether the status is of the newest spec, and all of so many replicas answer."""
    status = service.get("status", {})
    return (
        status.get("observedGeneration") == service["metadata"]["generation"]
        and status.get("replicas") == status.get("readyReplicas") == replicas
        and condition(service, "Reconciling").get("status") == "False"
    )


def in_use(pod: Object) -> bool:
    """Tell whether a pod is ready and selected by its Service."""
    labelled = pod["metadata"]["labels"].get(LABEL_SERVING) == "on"
    return labelled and condition(pod, "Ready").get("status") == "True"


def uids(bodies: dict[str, Object]) -> dict[str, str]:
    return {name: body["metadata"]["uid"] for name, body in bodies.items()}


def pods_of(fleet: Fleet, namespace: str) -> list[Object]:
    return fleet.client.items(f"/api/v1/namespaces/{namespace}/pods")


def pod_uids(fleet: Fleet, namespace: str) -> set[str]:
    return {p["metadata"]["uid"] for p in pods_of(fleet, namespace)}


def pod_path(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def is_gated(pod: Object) -> bool:
    return any(g["name"] == GATE for g in pod["spec"].get("schedulingGates", ()))


def serving(fleet: Fleet, namespace: str, count: int) -> None:
    """Return once so many replicas get traffic."""

    def all_serve() -> bool:
        pods = pods_of(fleet, namespace)
        return len(pods) == count and all(map(in_use, pods))

    wait_for(all_serve, f"{count} replicas serve", timeout=30)


def limited_user(fleet: Fleet, namespace: str, directory: Path) -> Path:
    """Return the kubeconfig of an account that may read its namespace and nothing else."""
    core, rbac = f"/api/v1/namespaces/{namespace}", "/apis/rbac.authorization.k8s.io/v1"
    fleet.client.create(f"{core}/serviceaccounts", {"metadata": {"name": "limited"}})
    fleet.client.create(
        f"{rbac}/namespaces/{namespace}/rolebindings",
        {
            "metadata": {"name": "limited"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "limited"},
            "subjects": [{"kind": "ServiceAccount", "name": "limited", "namespace": namespace}],
        },
    )
    rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}
    fleet.client.create(
        f"{rbac}/namespaces/{namespace}/roles", {"metadata": {"name": "limited"}, "rules": [rule]}
    )
    asked = fleet.client.create(f"{core}/serviceaccounts/limited/token", {"spec": {}})
    admin = yaml.safe_load(fleet.cluster.kubeconfig.read_text())
    server = admin["clusters"][0]["cluster"]
    authority = {k: v for k, v in server.items() if k.startswith("certificate-authority")}
    path = directory / "kubeconfig"
    user = {"token": asked["status"]["token"]}
    path.write_text(kubeconfig_of(server["server"], authority, user, namespace=namespace))
    return path


def kubeconfig_of(
    server: str, authority: dict[str, Any], user: dict[str, Any], *, namespace: str = "default"
) -> str:
    context = {"cluster": "c", "user": "u", "namespace": namespace}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "contexts": [{"name": "x", "context": context}],
            "clusters": [{"name": "c", "cluster": {"server": server, **authority}}],
            "users": [{"name": "u", "user": user}],
        }
    )
