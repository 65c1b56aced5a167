import dataclasses
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from e2e.cluster import artifacts, cluster, nodes, settings
from e2e.cluster.api import Api
from e2e.cluster.cluster import Cluster
from e2e.cluster.local import ClusterState, LocalCluster
from e2e.cluster.processes import wait_until
from e2e.cluster.progress import Reporter, terminal_reporter
from e2e.cluster.settings import Layout

pytestmark = pytest.mark.cluster

A100, T4 = settings.NODES


@pytest.fixture(scope="module")
def report() -> Reporter:
    return terminal_reporter()


@pytest.fixture(scope="module")
def running(report: Reporter) -> Cluster:
    found = cluster.ensure(report)
    if not found.local:
        pytest.skip("KUBECONFIG names a cluster whose parts are not ours to break")
    return found


@pytest.fixture
def local(running: Cluster, report: Reporter) -> Iterator[LocalCluster]:
    yield LocalCluster(Layout.default(), running.bin)
    cluster.ensure(report)


def pids(state: ClusterState) -> dict[str, int | None]:
    return {part.name: part.pid for part in state.parts}


def test_every_part_and_node_is_healthy(local: LocalCluster) -> None:
    state = local.state()
    assert state.healthy, state
    assert {node.name: (node.gpu_product, node.gpus) for node in state.nodes} == {
        "conch-a100": ("NVIDIA-A100", 4),
        "conch-t4": ("Tesla-T4", 4),
    }


def test_a_second_up_starts_nothing(local: LocalCluster, report: Reporter) -> None:
    before = pids(local.state())
    cluster.ensure(report)
    assert pids(local.state()) == before


def test_runs_at_the_same_time_do_not_disturb_each_other(
    local: LocalCluster, report: Reporter
) -> None:
    before = pids(local.state())
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: cluster.ensure(report), range(3)))
    assert pids(local.state()) == before
    assert local.state().healthy


def test_a_dead_kubelet_is_started_again_and_the_others_left_alone(
    local: LocalCluster, report: Reporter
) -> None:
    before = pids(local.state())
    victim = before["kubelet-conch-t4"]
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    assert wait_until(lambda: not local.state().healthy, timeout=10)

    cluster.ensure(report)

    after = pids(local.state())
    assert local.state().healthy
    assert after.pop("kubelet-conch-t4") not in {None, victim}
    before.pop("kubelet-conch-t4")
    assert after == before


def test_a_half_started_cluster_is_mended(local: LocalCluster, report: Reporter) -> None:
    for part in ("kube-apiserver", "etcd", "containerd-conch-a100", "kube-proxy", "prometheus"):
        local.stop_part(part, report=report)
    broken = {part.name for part in local.state().parts if part.problem}
    assert broken >= {"kube-apiserver", "etcd", "containerd-conch-a100", "prometheus"}

    cluster.ensure(report)

    assert local.state().healthy


def test_lost_gpus_are_given_back(local: LocalCluster, running: Cluster, report: Reporter) -> None:
    api = Api.from_kubeconfig(running.kubeconfig)
    none = {settings.GPU: "0"}
    path = f"/api/v1/nodes/{T4.name}"
    api.merge(f"{path}/status", {"status": {"capacity": none, "allocatable": none}})
    problems = [node.problem for node in local.state().nodes]
    assert problems == [None, "lost its GPUs"]

    cluster.ensure(report)

    assert nodes.missing(api.get(path), T4) == []


def test_images_are_on_both_nodes_and_are_not_imported_again(running: Cluster) -> None:
    images = artifacts.ensure_images(report=terminal_reporter())
    for node in LocalCluster(Layout.default(), running.bin).nodes:
        assert node.import_images(images) == []


def test_a_changed_archive_is_imported_again(running: Cluster, report: Reporter) -> None:
    pause, *_ = artifacts.ensure_images(report=report)
    node = LocalCluster(Layout.default(), running.bin).nodes[0]
    copy = node.root / "pause-copy.tar"
    copy.write_bytes(pause.archive.read_bytes())
    try:
        changed = dataclasses.replace(pause, archive=copy)
        assert node.import_images((changed,)) == [pause.name]
    finally:
        copy.unlink()
        assert node.import_images((pause,)) == [pause.name]
