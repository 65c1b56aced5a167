"""The fault proxy before a real API server, used by a real client."""

from pathlib import Path

import pytest
import requests

from tests.kit.client import Client
from tests.kit.control_plane import Cluster, Kubectl
from tests.kit.faults import Answer, Cut, on
from tests.kit.proxy import FaultProxy, wait_for

CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}}


@pytest.fixture
def kubectl(cluster: Cluster, proxy: FaultProxy, tmp_path: Path) -> Kubectl:
    """Return a kubectl that goes through the proxy."""
    return Kubectl(cluster.kubectl.program, proxy.write_kubeconfig(tmp_path / "kubeconfig"))


def test_writes_are_seen_and_counted(proxy: FaultProxy, kubectl: Kubectl, namespace: str) -> None:
    kubectl.ok("apply", "-n", namespace, "--server-side", "-f", "-", given=CONFIG)
    kubectl.ok("delete", "-n", namespace, "configmap", "c")
    assert [str(w) for w in proxy.writes] == [
        f"1: apply configmaps {namespace}/c -> 201",
        f"2: delete configmaps {namespace}/c -> 200",
    ]


def test_a_refusal_reads_like_one_of_the_api_server(
    proxy: FaultProxy, kubectl: Kubectl, namespace: str
) -> None:
    proxy.add(on("configmaps", "create"), Answer(409))
    complaint = kubectl.refused("create", "-n", namespace, "-f", "-", given=CONFIG)
    assert "Conflict" in complaint
    assert "made by the fault proxy" in complaint


def test_a_cut_connection(proxy: FaultProxy, kubectl: Kubectl, namespace: str) -> None:
    proxy.add(on("configmaps", "create"), Cut())
    complaint = kubectl.refused("create", "-n", namespace, "-f", "-", given=CONFIG)
    assert "EOF" in complaint or "connection reset" in complaint


def test_a_watch_sees_changes_until_it_is_cut(
    cluster: Cluster, proxy: FaultProxy, namespace: str, tmp_path: Path
) -> None:
    seen: list[tuple[str, str]] = []
    path = f"/api/v1/namespaces/{namespace}/configmaps"

    def watch_and_cut() -> None:
        kubeconfig = proxy.write_kubeconfig(tmp_path / "kubeconfig")
        with (
            Client(kubeconfig) as client,
            client.watching(path, lambda e, o: seen.append((e, o["metadata"]["name"]))) as watch,
        ):
            cluster.client.create(path, CONFIG)
            wait_for(lambda: seen, "the event of the creation")
            assert proxy.cut_watches(on("configmaps")) == 1
            wait_for(lambda: watch.ended, "the end of the watch")

    with pytest.raises(requests.exceptions.RequestException):
        watch_and_cut()
    assert seen == [("ADDED", "c")]
