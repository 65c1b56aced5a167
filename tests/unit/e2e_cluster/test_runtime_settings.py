import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import dns, nodes, prometheus, proxy, services, settings
from e2e.cluster.nodes import Node
from e2e.cluster.pki import Pki
from e2e.cluster.settings import ClusterError, Layout

A100, T4 = settings.NODES


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def node(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(nodes, "_cni_folder", lambda: Path("/opt/cni/bin"))
    return Node(A100, layout, Path("/bin"), Pki(layout.pki))


def test_the_folder_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/x/state")
    monkeypatch.setenv("CONCH_CLUSTER_DIR", "/x/own")
    assert Layout.default().root == Path("/x/own")
    monkeypatch.delenv("CONCH_CLUSTER_DIR")
    assert Layout.default().root == Path("/x/state/conch/cluster")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/x/home")
    assert Layout.default().kubeconfig == Path("/x/home/.local/state/conch/cluster/kubeconfig")


def test_networks_do_not_overlap_where_they_must_not() -> None:
    hosts, services_, cluster = map(
        ipaddress.ip_network,
        (settings.HOST_NETWORK, settings.SERVICE_NETWORK, settings.CLUSTER_NETWORK),
    )
    pods = [ipaddress.ip_network(node.pod_network) for node in settings.NODES]
    assert not services_.overlaps(cluster)
    assert not pods[0].overlaps(pods[1])
    assert not any(network.overlaps(hosts) for network in pods)
    assert all(ipaddress.ip_address(node.address) in hosts for node in settings.NODES)


def test_containerd_keeps_to_its_own_folder(node: Node) -> None:
    config = tomllib.loads(nodes.containerd_config(node))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["restrict_oom_score_adj"] is True
    assert cri["sandbox_image"] == settings.PAUSE_IMAGE
    assert cri["netns_mounts_under_state_dir"] is True
    for place in (config["root"], config["state"], config["grpc"]["address"]):
        assert node.root in Path(place).parents


def test_each_kubelet_has_a_cgroup_and_an_address_of_its_own(node: Node, layout: Layout) -> None:
    other = Node(T4, layout, Path("/bin"), node.pki)
    first, second = nodes.kubelet_config(node), nodes.kubelet_config(other)
    for field in ("cgroupRoot", "address", "healthzBindAddress", "containerRuntimeEndpoint"):
        assert first[field] != second[field]


def test_pods_get_addresses_of_their_node(node: Node) -> None:
    config = nodes.cni_config(node)
    ipam = config["plugins"][0]["ipam"]
    assert ipam["ranges"] == [[{"subnet": "10.123.1.0/24", "gateway": "10.123.1.1"}]]
    assert node.root in Path(ipam["dataDir"]).parents


def test_a_path_too_long_for_sockets_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path / ("x" * 100))
    node = Node(A100, layout, Path("/bin"), Pki(layout.pki))
    with pytest.raises(ClusterError, match="CONCH_CLUSTER_DIR"):
        node.prepare("https://10.123.0.1:6443")
    assert not layout.root.exists()


def complete_node() -> dict[str, Any]:
    return {
        "metadata": {"labels": nodes.node_labels(A100)},
        "spec": {
            "taints": [
                {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
            ]
        },
        "status": {
            "capacity": {"nvidia.com/gpu": "4"},
            "allocatable": {"nvidia.com/gpu": "4"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def test_a_node_with_all_of_its_own_lacks_nothing() -> None:
    assert nodes.missing(complete_node(), A100) == []
    assert nodes.is_ready(complete_node())


def test_what_a_kubelet_takes_from_its_node_when_it_starts_again_is_noticed() -> None:
    node = complete_node()
    node["status"]["allocatable"]["nvidia.com/gpu"] = "0"
    assert nodes.missing(node, A100) == ["GPUs"]
    assert nodes.missing({"metadata": {}}, A100) == ["GPUs", "labels", "taint"]


def test_a_node_that_does_not_report_is_not_ready() -> None:
    node = complete_node()
    node["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    assert not nodes.is_ready(node)
    assert not nodes.is_ready(None)
    assert not nodes.is_ready({"metadata": {}})


def test_series_carry_labels_that_do_not_change_in_a_pods_life(layout: Layout) -> None:
    scrape: Any = prometheus.config(layout)["scrape_configs"]
    (pattern,) = [
        rule["regex"] for rule in scrape[0]["relabel_configs"] if rule.get("action") == "labelmap"
    ]
    found = {}
    for label in ("conch_dev_service", "conch_dev_revision", "conch_dev_pool", "conch_dev_serving"):
        match = re.fullmatch(pattern, f"__meta_kubernetes_pod_label_{label}")
        found[label] = match and match[1]
    assert found == {
        "conch_dev_service": "conch_dev_service",
        "conch_dev_revision": "conch_dev_revision",
        "conch_dev_pool": "conch_dev_pool",
        "conch_dev_serving": None,
    }


def test_a_service_of_the_host_leads_to_the_host() -> None:
    ports = [services.Port("dns", 53, 10053, "UDP")]
    manifest = services.service("kube-system", "kube-dns", "10.96.0.10", ports)
    assert "selector" not in manifest["spec"]
    assert manifest["spec"]["ports"] == [
        {"name": "dns", "port": 53, "targetPort": 10053, "protocol": "UDP"}
    ]
    endpoints = services.endpoint_slice("kube-system", "kube-dns", ports)
    assert endpoints["metadata"]["labels"]["kubernetes.io/service-name"] == "kube-dns"
    assert endpoints["endpoints"][0]["addresses"] == [settings.ADDRESS]
    assert endpoints["ports"] == [{"name": "dns", "port": 10053, "protocol": "UDP"}]


def test_the_hosts_connection_tracking_is_left_as_it_is(layout: Layout) -> None:
    conntrack: Any = proxy.config(layout)["conntrack"]
    assert set(conntrack.values()) == {0, "0s"}


def test_dns_answers_only_on_the_clusters_address(layout: Layout) -> None:
    lines = [line.strip() for line in dns.corefile(layout).splitlines()]
    assert "bind 10.123.0.1" in lines
    assert "kubernetes cluster.local in-addr.arpa {" in lines
