"""Pools of every kind against a real API server, controllers and scheduler; kwok plays the nodes.

The devices of DRA are told by ResourceSlices that the test writes in the place of a driver.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conch.api.conditions import Reason
from conch.api.pool import GPUPoolSpec
from conch.provisioning.coexistence import PRIORITY_CLASSES, coexistence
from conch.provisioning.device_claim import claim_template
from conch.provisioning.replica_set import replica_set
from conch.provisioning.resources import Pool
from tests.kit.client import Client, Object
from tests.kit.control_plane import ROOT, Cluster, condition
from tests.kit.fleet import GPU, gpu_pool, model, node, simulated
from tests.kit.operator import Invocation, Operator
from tests.kit.proxy import FaultProxy
from tests.kit.rendering import OWNER, POOL, example
from tests.kit.scenario import CONCH, Scenario
from tests.kit.sweep import Lane

POOLS = f"{CONCH}/gpupools"
NODES = "/api/v1/nodes"
DRA = "/apis/resource.k8s.io/v1"
ZONE = "topology.kubernetes.io/zone"
MIG = "nvidia.com/mig-1g.10gb"
DRIVER = "gpu.example.com"
CHILDREN = {
    "apps/v1": ("replicasets", "controllerrevisions"),
    "policy/v1": ("poddisruptionbudgets",),
    "v1": ("pods", "services", "configmaps", "serviceaccounts"),
}
MARKS = ("kueue=shared", "priority-classes", "karpenter=15m", "cluster-autoscaler", "descheduler")


def priority_class(name: str) -> Object:
    """Return a class as the chart makes it."""
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": PRIORITY_CLASSES.index(name),
        "preemptionPolicy": "Never",
    }


@pytest.fixture(scope="module")
def pools_lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    """A simulated cluster without nodes, and an operator that knows DRA and its neighbours."""
    directory = tmp_path_factory.mktemp("pools")
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(simulated(directory, places=()))
        for name in PRIORITY_CLASSES:
            path = "/apis/scheduling.k8s.io/v1/priorityclasses"
            cluster.client.create(path, priority_class(name))
        proxy = stack.enter_context(FaultProxy.before(cluster.kubeconfig))
        kubeconfig = proxy.write_kubeconfig(directory / "operator.kubeconfig")
        options = ("--relist-seconds", "5", "--dra", *(f"--beside={mark}" for mark in MARKS))
        invocation = Invocation(kubeconfig, directory / "operator.log", options)
        operator = stack.enter_context(Operator(invocation, cluster.client))
        yield Lane(cluster, proxy, operator)


@pytest.fixture
def scenario(pools_lane: Lane) -> Iterator[Scenario]:
    """A namespace without a service, in a cluster without nodes and pools; it is left so."""
    made = pools_lane.scenario()
    yield made
    made.delete()
    for path in (POOLS, NODES, f"{DRA}/resourceslices", f"{DRA}/deviceclasses"):
        for body in made.client.items(path):
            made.client.delete(f"{path}/{body['metadata']['name']}")


def add_node(
    client: Client, name: str, *, gpus: int = 0, resource: str = GPU, **labels: str
) -> None:
    """Create a node with so many devices and these labels."""
    made = node(name, name, gpus=gpus)
    size = {k: v for k, v in made["status"]["capacity"].items() if k != GPU}
    size |= {resource: str(gpus)} if gpus else {}
    made["metadata"]["labels"] |= {"pool": name, **labels}
    client.create(NODES, {**made, "status": {"capacity": size, "allocatable": size}})


def add_pool(client: Client, name: str, *, label: str | None = None, **spec: Any) -> None:
    """Create the pool of the nodes that are named so, or that carry ``label``."""
    made = gpu_pool(name, name)
    made["spec"] |= {"nodeSelector": {"pool": label or name}, **spec}
    client.create(POOLS, made)


def add_model(scenario: Scenario, **resources: Any) -> None:
    """Create the model with the needs of its only variant."""
    made = model()
    made["spec"]["variants"][0]["resources"] = resources
    scenario.client.create(f"{CONCH}/namespaces/{scenario.namespace}/models", made)


def pods(scenario: Scenario) -> list[Object]:
    """The pods of the namespace."""
    return scenario.client.items(scenario.pods)


def uid(body: Object) -> str:
    """The UID of an object."""
    return str(body["metadata"]["uid"])


def nodes_of(scenario: Scenario) -> list[str]:
    """Where the pods are."""
    return sorted(p["spec"]["nodeName"] for p in pods(scenario))


def await_message(scenario: Scenario, kind: str, reason: Reason) -> str:
    """Return the message of the service's condition once it has this reason."""

    def found() -> Object:
        return condition(scenario.client.get(scenario.service), kind)

    scenario.wait(lambda: found().get("reason") == reason, f"{kind} because of {reason}")
    return str(found()["message"])


def await_numbers(scenario: Scenario, pool: str, *numbers: int) -> None:
    """Return once a pool with ready nodes tells so many devices, and so many of them allocated."""

    def told() -> tuple[int, ...]:
        status = scenario.client.get(f"{POOLS}/{pool}").get("status", {})
        return status.get("gpus"), status.get("allocated")

    def ready() -> bool:
        return condition(scenario.client.get(f"{POOLS}/{pool}"), "Ready").get("status") == "True"

    scenario.wait(
        lambda: ready() and told() == numbers, f"{numbers} devices and allocated in {pool}"
    )


def there(scenario: Scenario, pool: str) -> int | None:
    """Return how many nodes a pool's status tells of."""
    nodes: int | None = scenario.client.get(f"{POOLS}/{pool}").get("status", {}).get("nodes")
    return nodes


def test_pools_that_overlap_say_so_and_stop_nothing(scenario: Scenario) -> None:
    client = scenario.client
    add_node(client, "one", gpus=2)
    add_pool(client, "one")
    add_pool(client, "other", label="one", relativeSpeed=0.5)
    scenario.create(2, placement={})

    def stalled(pool: str) -> Object:
        return condition(client.get(f"{POOLS}/{pool}"), "Stalled")

    for pool, twin in (("one", "other"), ("other", "one")):
        scenario.wait(lambda of=pool: stalled(of), f"{pool} is stalled")  # type: ignore[misc]
        assert stalled(pool)["reason"] == Reason.POOLS_OVERLAP
        assert f"pool {twin} (one)" in stalled(pool)["message"]
    await_numbers(scenario, "one", 2, 2)
    client.merge(f"{POOLS}/other", {"spec": {"nodeSelector": {"pool": "elsewhere"}}})
    scenario.wait(lambda: not stalled("one") and not stalled("other"), "no overlap is told")
    assert scenario.settled(2)


def test_a_replica_takes_parts_of_gpus_where_a_pool_divides_them(scenario: Scenario) -> None:
    add_node(scenario.client, "mig", gpus=7, resource=MIG)
    sharing = {"mode": "MIG", "devicesPerGPU": 7}
    add_pool(scenario.client, "mig", resourceName=MIG, sharing=sharing)
    add_model(scenario, gpus=2)
    scenario.create(3, with_model=False, placement={})
    limits = [p["spec"]["containers"][0]["resources"]["limits"] for p in pods(scenario)]
    assert [(of[MIG], of["cpu"], of.get(GPU)) for of in limits] == [("2", "2", None)] * 3
    await_numbers(scenario, "mig", 7, 6)
    scenario.client.merge(scenario.service, {"spec": {"replicas": 4}})
    message = await_message(scenario, "Admitted", Reason.INSUFFICIENT_CAPACITY)
    assert "1 with only 1 of 2 GPUs free" in message


def test_a_service_runs_on_cpus_where_it_says_that_they_will_do(scenario: Scenario) -> None:
    add_node(scenario.client, "cpu")
    add_pool(scenario.client, "cpu", sharing={"mode": "CPU"})
    scenario.create(1, wait=False, placement={"accelerators": ["A100"]})
    message = await_message(scenario, "Admitted", Reason.NO_POOL)
    assert message == ("no GPUPool suits: placement asks for A100; there are: cpu (cpu)")
    scenario.client.merge(scenario.service, {"spec": {"placement": {"accelerators": []}}})
    wanted = "without GPUs, which takes placement.cpu"
    scenario.wait(lambda: wanted in await_message(scenario, "Admitted", Reason.NO_POOL), wanted)
    scenario.client.merge(scenario.service, {"spec": {"placement": {"cpu": True}}})
    scenario.wait(lambda: scenario.settled(1), "1 replica")
    (pod,) = pods(scenario)
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    await_numbers(scenario, "cpu", 0, 0)


def test_gpus_come_first_and_cpus_take_what_finds_none(scenario: Scenario) -> None:
    add_node(scenario.client, "cpu")
    add_node(scenario.client, "gpu", gpus=1)
    add_pool(scenario.client, "cpu", sharing={"mode": "CPU"}, relativeSpeed=9)
    add_pool(scenario.client, "gpu")
    await_numbers(scenario, "gpu", 1, 0)
    scenario.create(1, placement={"cpu": True})
    assert nodes_of(scenario) == ["gpu"]
    scenario.scale(2)
    assert nodes_of(scenario) == ["cpu", "gpu"]


def test_replicas_that_need_no_gpu_leave_them_alone(scenario: Scenario) -> None:
    add_node(scenario.client, "cpu")
    add_node(scenario.client, "gpu", gpus=1)
    add_pool(scenario.client, "cpu", sharing={"mode": "CPU"})
    add_pool(scenario.client, "gpu")
    for name, devices in (("cpu", 0), ("gpu", 1)):
        await_numbers(scenario, name, devices, 0)
    # It says of no devices what it says of no node.
    scenario.wait(lambda: there(scenario, "cpu") == 1, "the node without GPUs is known")
    add_model(scenario, gpus=0)
    scenario.create(2, with_model=False, placement={})
    assert nodes_of(scenario) == ["cpu", "cpu"]


def test_an_edge_pool_is_for_services_that_name_it_or_its_site(scenario: Scenario) -> None:
    add_node(scenario.client, "kiosk", gpus=1)
    add_pool(scenario.client, "kiosk", edge=True, site="shop-1")
    scenario.create(1, wait=False, placement={})
    # The service may be seen before the pool.
    words = "an edge pool, which placement.pools or placement.sites must name"
    scenario.wait(
        lambda: words in await_message(scenario, "Admitted", Reason.NO_POOL),
        "why the pool won't do",
    )
    scenario.client.merge(scenario.service, {"spec": {"placement": {"sites": ["shop-1"]}}})
    scenario.wait(lambda: scenario.settled(1), "1 replica")
    assert nodes_of(scenario) == ["kiosk"]


def test_new_replicas_keep_to_the_zones_and_old_ones_stay(scenario: Scenario) -> None:
    for zone in ("a", "b"):
        add_node(scenario.client, f"node-{zone}", gpus=4, **{"pool": "all", ZONE: zone})
    add_pool(scenario.client, "all")
    scenario.create(2, placement={"zones": ["a"]})
    assert nodes_of(scenario) == ["node-a", "node-a"]
    before = {p["metadata"]["uid"] for p in pods(scenario)}
    scenario.client.merge(scenario.service, {"spec": {"placement": {"zones": ["b"]}}})
    scenario.rest()
    assert {p["metadata"]["uid"] for p in pods(scenario)} == before
    scenario.scale(3)
    assert nodes_of(scenario) == ["node-a", "node-a", "node-b"]
    scenario.client.merge(scenario.service, {"spec": {"placement": {"zones": ["c"]}}})
    scenario.client.merge(scenario.service, {"spec": {"replicas": 4}})
    message = await_message(scenario, "Admitted", Reason.INSUFFICIENT_CAPACITY)
    assert "2 outside placement.zones" in message


def test_pods_stay_on_a_node_that_leaves_its_pool(scenario: Scenario) -> None:
    for name in ("x", "y"):
        add_node(scenario.client, name, gpus=1, pool="all")
    add_pool(scenario.client, "all")
    scenario.create(1, placement={})
    (before,) = pods(scenario)
    path = f"{NODES}/{before['spec']['nodeName']}"
    scenario.client.merge(path, {"metadata": {"labels": {"pool": None}}})
    await_numbers(scenario, "all", 1, 0)
    scenario.rest()
    assert [p["metadata"]["uid"] for p in pods(scenario)] == [before["metadata"]["uid"]]
    assert scenario.settled(1)


def device_class(name: str) -> Object:
    """Return a class of all devices of the driver."""
    selector = {"cel": {"expression": f"device.driver == '{DRIVER}'"}}
    return {"metadata": {"name": name}, "spec": {"selectors": [selector]}}


def add_devices(client: Client, name: str, count: int) -> None:
    """Tell of devices on a node, as a driver does."""
    spec = {
        "driver": DRIVER,
        "nodeName": name,
        "pool": {"name": name, "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": f"gpu-{i}"} for i in range(count)],
    }
    client.create(f"{DRA}/resourceslices", {"metadata": {"name": f"{name}-gpus"}, "spec": spec})


def templates(scenario: Scenario) -> list[Object]:
    """What the pods of the namespace have their claims from."""
    path = f"{DRA}/namespaces/{scenario.namespace}/resourceclaimtemplates"
    return scenario.client.items(path)


def test_replicas_get_their_devices_from_a_dra_driver(scenario: Scenario) -> None:
    client = scenario.client
    for name in (DRIVER, "other.example.com"):
        client.create(f"{DRA}/deviceclasses", device_class(name))
    add_node(client, "dra")
    add_devices(client, "dra", 5)
    add_pool(client, "dra", sharing={"mode": "DRA", "deviceClass": DRIVER, "driver": DRIVER})
    add_model(scenario, gpus=2)
    scenario.create(2, with_model=False, placement={})
    claims = client.items(f"{DRA}/namespaces/{scenario.namespace}/resourceclaims")
    given = [len(c["status"]["allocation"]["devices"]["results"]) for c in claims]
    assert given == [2, 2]
    await_numbers(scenario, "dra", 5, 4)
    (first,) = templates(scenario)
    client.merge(scenario.service, {"spec": {"replicas": 3}})
    message = await_message(scenario, "Admitted", Reason.INSUFFICIENT_CAPACITY)
    assert "1 with only 1 of 2 GPUs free" in message
    scenario.scale(2)
    before = {p["metadata"]["uid"] for p in pods(scenario)}
    client.merge(f"{POOLS}/dra", {"spec": {"sharing": {"deviceClass": "other.example.com"}}})

    def replaced() -> bool:
        names = [t["metadata"]["name"] for t in templates(scenario)]
        return len(names) == 1 and names != [first["metadata"]["name"]]

    scenario.wait(replaced, "a template of the other class, and that alone")
    scenario.rest()
    assert {p["metadata"]["uid"] for p in pods(scenario)} == before
    scenario.delete()
    scenario.wait(lambda: not templates(scenario), "no template is left")


def detach(scenario: Scenario, kubeconfig: Path) -> str:
    """Let the service's children go, as a user does, and return what the command says."""
    words = ("detach", "digits", "-n", scenario.namespace, "--yes")
    environment = {"PYTHONPATH": str(ROOT / "operator"), "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(
        [sys.executable, "-m", "conch.cli.plugin", *words],
        env={**environment, "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    return done.stdout


def test_detached_replicas_keep_what_they_get_their_devices_from(
    scenario: Scenario, pools_lane: Lane
) -> None:
    client = scenario.client
    client.create(f"{DRA}/deviceclasses", device_class(DRIVER))
    add_node(client, "dra")
    add_devices(client, "dra", 2)
    add_pool(client, "dra", sharing={"mode": "DRA", "deviceClass": DRIVER})
    scenario.create(1, placement={})
    (before,) = templates(scenario)
    said = detach(scenario, pools_lane.cluster.kubeconfig)
    name = before["metadata"]["name"]
    assert f"ResourceClaimTemplate {name}: owner reference removed" in said
    client.delete(scenario.service)
    scenario.rest()
    (pod,) = pods(scenario)
    client.delete(f"{scenario.pods}/{pod['metadata']['name']}", grace_seconds=0)

    def again() -> bool:
        return bool(scenario.serving()) and pod["metadata"]["uid"] not in map(uid, pods(scenario))

    scenario.wait(again, "the lost replica is there again, with a device")
    assert [t["metadata"]["uid"] for t in templates(scenario)] == [before["metadata"]["uid"]]
    for path in ("apps/v1", "policy/v1", "v1"):
        for kind in CHILDREN[path]:
            prefix = f"/{'api' if path == 'v1' else 'apis'}/{path}"
            scope = f"{prefix}/namespaces/{scenario.namespace}/{kind}"
            for body in client.items(f"{scope}?labelSelector=conch.dev/service=digits"):
                client.delete(f"{scope}/{body['metadata']['name']}")


def test_devices_that_others_claimed_are_not_free(scenario: Scenario) -> None:
    client = scenario.client
    client.create(f"{DRA}/deviceclasses", device_class(DRIVER))
    add_node(client, "dra")
    add_devices(client, "dra", 2)
    add_pool(client, "dra", sharing={"mode": "DRA", "deviceClass": DRIVER})
    claim = {"requests": [{"name": "one", "exactly": {"deviceClassName": DRIVER}}]}
    claims = f"{DRA}/namespaces/{scenario.namespace}/resourceclaims"
    client.create(claims, {"metadata": {"name": "mine"}, "spec": {"devices": claim}})
    uses = {"resourceClaims": [{"name": "one", "resourceClaimName": "mine"}]}
    container = {"name": "c", "image": "none", "resources": {"claims": [{"name": "one"}]}}
    client.create(
        scenario.pods, {"metadata": {"name": "theirs"}, "spec": {**uses, "containers": [container]}}
    )
    await_numbers(scenario, "dra", 2, 1)
    client.delete(f"{scenario.pods}/theirs", grace_seconds=0)
    await_numbers(scenario, "dra", 2, 0)


def test_pods_carry_the_marks_of_the_neighbours(scenario: Scenario) -> None:
    add_node(scenario.client, "gpu", gpus=2)
    add_pool(scenario.client, "gpu")
    scenario.create(1, placement={}, priority=7)
    (pod,) = pods(scenario)
    assert pod["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "shared"
    annotations = pod["metadata"]["annotations"]
    assert annotations["karpenter.sh/do-not-disrupt"] == "15m"
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert annotations["descheduler.alpha.kubernetes.io/prefer-no-eviction"] == "true"
    assert pod["spec"]["priorityClassName"] == "conch-high"
    assert pod["spec"]["preemptionPolicy"] == "Never"
    # What a service says of itself touches no pod that runs.
    scenario.client.merge(scenario.service, {"spec": {"priority": -1}})
    scenario.rest()
    assert [p["metadata"]["uid"] for p in pods(scenario)] == [pod["metadata"]["uid"]]
    scenario.scale(2)
    classes = {p["spec"]["priorityClassName"] for p in pods(scenario)}
    assert classes == {"conch-high", "conch-low"}


DRA_POOL = Pool(
    "dra",
    GPUPoolSpec.model_validate(
        POOL.spec.to_dict() | {"sharing": {"mode": "DRA", "deviceClass": DRIVER}}
    ),
)


def test_every_field_of_devices_and_marks_is_known(cluster: Cluster, namespace: str) -> None:
    words = (*MARKS, "kai=shared")
    snapshot = example(namespace=namespace, spec={"placement": {"zones": ["a"]}})
    snapshot = snapshot.beside(coexistence(words), tenant="research")
    given = [
        claim_template(snapshot, DRA_POOL, owner=OWNER),
        replica_set(snapshot, DRA_POOL, replicas=1, gated=True, owner=OWNER),
    ]
    apply = ("apply", "--server-side", "--field-manager=conch", "--validate=strict", "-f", "-")
    done = cluster.kubectl(*apply, given=given)
    assert (done.returncode, done.stderr) == (0, "")
    before = cluster.client.get(f"{DRA}/namespaces/{namespace}/resourceclaimtemplates")
    assert cluster.kubectl(*apply, given=given).returncode == 0
    after = cluster.client.get(f"{DRA}/namespaces/{namespace}/resourceclaimtemplates")
    assert after["items"] == before["items"]
    (request,) = after["items"][0]["spec"]["spec"]["devices"]["requests"]
    assert request["exactly"] == {
        "deviceClassName": DRIVER,
        "allocationMode": "ExactCount",
        "count": 1,
    }
